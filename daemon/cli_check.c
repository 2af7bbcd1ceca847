/* SPDX-License-Identifier: Apache-2.0 */
/* check: is the filesystem whole, and does it mean what it should? By the daemon, where one runs; else here, from the
 * replica's files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auto.h"
#include "checker.h"
#include "cli.h"
#include "fs_check.h"
#include "stopped_replica.h"

enum { POLL_US = 200000, STOPPED_CHECK_BYTES = 128 << 20 };

static void progress_show(double permille, struct cli_progress *progress)
{
	if (!isatty(STDERR_FILENO))
		return;
	progress->shown = 1;
	fprintf(stderr, "\rchecking %.1f %%\033[K", permille / 10);
}

/* ---- by the daemon ---- */

/* Until the check of this number, or a later one, is over. */
static enum cli_exit daemon_wait(const struct cli *cli, const char *volume, json_t **out)
{
	struct cli_progress progress = { 0 };

	for (;;) {
		AUTO_JSON json_t *reply = NULL;
		enum cli_exit res = cli_ask(cli, volume, json_pack("{s:s}", "verb", "check-status"), &reply);
		json_t *check = json_object_get(reply, "check");

		if (res != CLI_DONE) {
			cli_progress_end(&progress);
			return res;
		}
		if (!json_is_true(json_object_get(check, "running"))) {
			cli_progress_end(&progress);
			*out = json_incref(check);
			return CLI_DONE;
		}
		progress_show(cli_json_number(check, "permille"), &progress);
		usleep(POLL_US);
	}
}

static enum cli_exit daemon_check(const struct cli *cli, const char *volume, json_t **out)
{
	AUTO_JSON json_t *status = NULL;
	enum cli_exit res = cli_ask(cli, volume, json_pack("{s:s}", "verb", "check"), NULL);

	if (res == CLI_DONE)
		res = daemon_wait(cli, volume, out);
	if (res == CLI_DONE && *cli_json_text(*out, "error"))
		res = cli_refuse_why(volume, cli_json_text(*out, "why"));
	if (res == CLI_DONE && cli_ask(cli, volume, json_pack("{s:s}", "verb", "status"), &status) == CLI_DONE)
		json_object_set(*out, "role", json_object_get(json_object_get(status, "status"), "role"));
	return res;
}

/* ---- from the files of a stopped replica ---- */

/* Nothing is ever -EAGAIN there. */
static enum cli_exit stopped_run(const char *volume, struct stopped_replica *replica, struct files *files,
				 json_t **out)
{
	struct cli_progress progress = { 0 };
	struct stopped_status status;
	struct fs_check *check;
	char why[WHY_BYTES] = "";
	bool good = false;
	int res = files_mount(files, why);

	if (res)
		return cli_refuse("volume %s: %s", volume, why);
	if (fs_check_new(&check, files, STOPPED_CHECK_BYTES))
		return cli_refuse("volume %s: no memory for a check", volume);
	while ((res = fs_check_step(check)) == 1)
		progress_show(fs_check_progress(check), &progress);
	cli_progress_end(&progress);
	stopped_status(stopped_replica_stopped(replica), &status);
	*out = json_pack("{s:I, s:s}", "lsn", (json_int_t)status.lsn, "role", "stopped");
	if (res == 0)
		good = *out && check_json(*out, check);
	fs_check_free(check);
	if (res)
		return cli_refuse("volume %s: the check could not go on: %s", volume,
				  *stopped_why(stopped_replica_stopped(replica))
					  ? stopped_why(stopped_replica_stopped(replica)) : strerror(-res));
	return good ? CLI_DONE : cli_refuse("volume %s: no memory to tell what was found", volume);
}

static enum cli_exit stopped_check(const char *volume, const struct paths *paths, json_t **out)
{
	AUTO_FREE struct config *config = calloc(1, sizeof *config);
	AUTO_FREE struct files *files = calloc(1, sizeof *files);
	struct stopped_replica *replica;
	char why[WHY_BYTES];
	enum cli_exit res;

	if (!config || !files)
		return cli_refuse("volume %s: no memory for a check", volume);
	if (cli_config(paths, volume, config) != CLI_DONE)
		return CLI_REFUSED;
	if (!config->volume.filesystem)
		return cli_refuse("volume %s: has no filesystem of Holdfast's; to check another one use its own "
				  "tools on the store, %s", volume, config->store);
	if (stopped_replica_open(&replica, config, STOPPED_OPEN, false, why) < 0)
		return cli_refuse("volume %s: %s", volume, why);
	if (files_new(files, stopped_replica_io(replica), stopped_blocks(stopped_replica_stopped(replica)), why)) {
		stopped_replica_close(replica);
		return cli_refuse("volume %s: %s", volume, why);
	}
	res = stopped_run(volume, replica, files, out);
	files_delete(files);
	stopped_replica_close(replica);
	return res;
}

/* ---- what was found ---- */

static enum cli_exit found_print(const char *volume, const json_t *check)
{
	double damages = cli_json_number(check, "damages");
	const json_t *found = json_object_get(check, "found"), *text;
	size_t index;

	json_array_foreach(found, index, text)
		printf("%s\n", json_string_value(text));
	if (damages > (double)json_array_size(found))
		printf("and %.0f more\n", damages - (double)json_array_size(found));
	if (json_is_true(json_object_get(check, "incomplete")))
		printf("parts of the tree cannot be looked at: what is in them, and what only seems to lack, is not "
		       "told\n");
	if (cli_json_number(check, "passed") > 0)
		printf("of %.0f written to meanwhile the rest of the last block was not looked at\n",
		       cli_json_number(check, "passed"));
	printf("volume %s: %.0f inodes, %.0f of them directories, %.0f names, %.0f blocks in use, as of LSN %.0f (%s)"
	       ": ", volume, cli_json_number(check, "inodes"), cli_json_number(check, "directories"),
	       cli_json_number(check, "names"), cli_json_number(check, "blocks_used"), cli_json_number(check, "lsn"),
	       cli_json_text(check, "role"));
	if (damages == 0)
		printf("no damage\n");
	else
		printf("%.0f damage%s\n", damages, damages == 1 ? "" : "s");
	return damages == 0 ? CLI_DONE : CLI_REFUSED;
}

enum cli_exit cli_check(struct cli *cli, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { .name = "json", .flag = &json }, { 0 } };
	AUTO_JSON json_t *check = NULL;
	struct paths paths;
	enum cli_exit res;
	int fd;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	res = cli_paths(cli, cli->words[0], &paths);
	if (res != CLI_DONE)
		return res;
	fd = cli_control_open(&paths);
	if (fd >= 0)
		close(fd);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		res = stopped_check(cli->words[0], &paths, &check);
	else
		res = daemon_check(cli, cli->words[0], &check);
	if (res != CLI_DONE)
		return res;
	if (!json)
		return found_print(cli->words[0], check);
	json_dumpf(check, stdout, JSON_INDENT(2));
	printf("\n");
	return cli_json_number(check, "damages") == 0 ? CLI_DONE : CLI_REFUSED;
}
