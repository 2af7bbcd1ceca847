/* SPDX-License-Identifier: Apache-2.0 */
/* Who is primary: promote, demote, switchover, failover; and whose history is kept when two were: resolve. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auto.h"
#include "cli.h"

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Most refusals of a promotion pass by themselves: a peer is not connected yet, or still primary.
 * So each is asked again, and only the last is told. */
enum cli_exit cli_promote_wait(struct cli *cli, const char *volume, bool force, unsigned seconds)
{
	double end = seconds_now() + seconds;
	struct paths paths;
	enum cli_exit res = cli_paths(cli, volume, &paths);

	if (res != CLI_DONE)
		return res;
	for (;;) {
		AUTO_JSON json_t *request =
			json_pack("{s:s,s:b}", "verb", "promote", "force", force);
		AUTO_JSON json_t *reply = NULL;
		AUTO_CLOSE int fd = cli_control_open(&paths);
		int error = fd < 0 ? fd : cli_control_ask(fd, request, &reply);

		if (error == -ENOENT || error == -ECONNREFUSED)
			return cli_no_daemon(volume);
		if (error < 0)
			return cli_refuse("volume %s: the daemon at %s does not answer: %s", volume,
					  paths.control, strerror(-error));
		if (json_is_true(json_object_get(reply, "ok"))) {
			if (*cli_json_text(reply, "why"))
				printf("%s\n", cli_json_text(reply, "why"));
			return CLI_DONE;
		}
		if (seconds_now() >= end)
			return cli_refused_by_daemon(volume, reply);
		usleep(200000);
	}
}

enum cli_exit cli_promote(struct cli *cli, int argc, char **argv)
{
	bool force = false;
	const char *wait = "0";
	const struct cli_option options[] = {
		{ .name = "force", .flag = &force },
		{ .name = "wait", .values = &wait, .max = 1 },
		{ 0 },
	};
	char *end;
	unsigned long seconds;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	errno = 0;
	seconds = strtoul(wait, &end, 10);
	if (errno || *wait < '0' || *wait > '9' || *end || seconds > 1000000) {
		cli_refuse("promote: --wait %.40s: is no number of seconds", wait);
		return CLI_USAGE;
	}
	return cli_promote_wait(cli, cli->words[0], force, (unsigned)seconds);
}

enum cli_exit cli_demote(struct cli *cli, int argc, char **argv)
{
	bool force = false;
	const struct cli_option options[] = { { .name = "force", .flag = &force }, { 0 } };

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	return cli_tell(cli, cli->words[0], json_pack("{s:s,s:b}", "verb", "demote", "force", force));
}

enum cli_exit cli_switchover(struct cli *cli, int argc, char **argv)
{
	bool force = false, dry_run = false;
	const struct cli_option options[] = {
		{ .name = "force", .flag = &force },
		{ .name = "dry-run", .flag = &dry_run },
		{ 0 },
	};

	if (cli_arguments(cli, argc, argv, options, 2, 2) != CLI_DONE)
		return CLI_USAGE;
	return cli_tell(cli, cli->words[0], json_pack("{s:s,s:b,s:b,s:s}", "verb", "switchover", "force", force,
				       "dry_run", dry_run, "node", cli->words[1]));
}

/* Neither option is the default: one may lose data, the other does nothing. */
enum cli_exit cli_failover(struct cli *cli, int argc, char **argv)
{
	bool force = false, dry_run = false;
	const struct cli_option options[] = {
		{ .name = "force", .flag = &force },
		{ .name = "dry-run", .flag = &dry_run },
		{ 0 },
	};

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	if (force == dry_run)
		return cli_usage(cli);
	return cli_tell(cli, cli->words[0], json_pack("{s:s,s:b,s:b}", "verb", "failover", "force", force,
				       "dry_run", dry_run));
}

enum cli_exit cli_resolve(struct cli *cli, int argc, char **argv)
{
	bool dry_run = false;
	const char *keep = NULL;
	const struct cli_option options[] = {
		{ .name = "keep", .values = &keep, .max = 1 },
		{ .name = "dry-run", .flag = &dry_run },
		{ 0 },
	};

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	if (!keep)
		return cli_usage(cli);
	return cli_tell(cli, cli->words[0], json_pack("{s:s,s:b,s:s}", "verb", "resolve", "dry_run", dry_run,
						      "node", keep));
}
