/* SPDX-License-Identifier: Apache-2.0 */
/* extract: the way out when no daemon is to be had. Reads the files of a stopped replica and writes a tar archive of
 * what its filesystem has, or a list of the names. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <string.h>

#include "auto.h"
#include "cli.h"
#include "extract.h"

/* Static: a struct config is larger than is good for a stack. */
static struct config config;
static struct paths paths;

struct extracting {
	char object[PATH_MAX];		/* what it is from, as sentences begin */
	const char *output;		/* NULL: stdout */
	bool list;
};

static void say(void *context, const char *path, const char *what, bool lost)
{
	const struct extracting *e = context;

	(void)lost;
	fprintf(stderr, "holdfast: %s: ", e->object);
	extract_print_name(stderr, *path ? path : "/");
	fprintf(stderr, ": %s\n", what);
}

/* The replica that the words name; those that are left are paths. */
static enum cli_exit replica_open(struct cli *cli, struct extracting *e, const char *from, bool force,
				  struct stopped_replica **replica)
{
	char why[WHY_BYTES];
	enum cli_exit res;
	int error;

	if (from) {
		snprintf(e->object, sizeof e->object, "replica in %s", from);
		error = stopped_replica_open_in(replica, from, STOPPED_LOG, force, why);
	} else {
		snprintf(e->object, sizeof e->object, "volume %s", cli->words[0]);
		res = cli_paths(cli, cli->words[0], &paths);
		if (res == CLI_DONE)
			res = cli_config(&paths, cli->words[0], &config);
		if (res != CLI_DONE)
			return res;
		cli->words++;
		cli->word_count--;
		error = stopped_replica_open(replica, &config, STOPPED_LOG, force, why);
	}
	if (!error)
		return CLI_DONE;
	return cli_refuse("%s: %s%s", e->object, why,
			  error == -EUCLEAN ? "; or get out of it what can be read, with --force" : "");
}

/* What is read, before it is: on stderr, because the archive may be on stdout. */
static void view_print(const struct extracting *e, struct stopped *s)
{
	static struct stopped_status status;
	const struct epoch_entry *last;

	stopped_status(s, &status);
	last = history_last(&status.history);
	if (stopped_doubt(s)[0])
		fprintf(stderr, "holdfast: %s: forced: %s\n", e->object, stopped_doubt(s));
	if (status.resync)
		fprintf(stderr, "holdfast: %s: a resync is not over; this is what was there before it\n", e->object);
	if (last && strncmp(last->node, status.geometry.node, NAME_BYTES) != 0)
		fprintf(stderr, "holdfast: %s: its last primary was node %.64s, which may have written more than got "
			"here\n", e->object, last->node);
	fprintf(stderr, "%s: as of LSN %" PRIu64 " of node %.64s, epoch %" PRIu64 "\n", e->object, status.lsn,
		status.geometry.node, history_last_number(&status.history));
}

/* A descriptor of the caller's, or -1 after a refusal. */
static int output_open(const struct extracting *e)
{
	int fd;

	if (!e->output && isatty(STDOUT_FILENO)) {
		cli_refuse("stdout is a terminal, and an archive is for a file or a pipe: give --output FILE, or "
			   "| tar -x, or --list");
		return -1;
	}
	fd = e->output ? open(e->output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
		       : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		cli_refuse("%s: %s; %s", e->output ? e->output : "stdout", strerror(errno),
			   errno == EEXIST ? "nothing that exists is overwritten: choose another name"
					   : "choose another place");
	return fd;
}

/* All paths, as far as there is no end. *refused: there is no such path. */
static int paths_extract(struct cli *cli, struct extract *x, const struct extracting *e, bool *refused)
{
	char why[WHY_BYTES];
	int error = 0;

	for (int i = 0; i < cli->word_count || (i == 0 && cli->word_count == 0); i++) {
		error = extract_path(x, cli->word_count ? cli->words[i] : "", why);
		if (error == -ECANCELED)
			break;
		if (error) {
			cli_refuse("%s: %s", e->object, why);
			*refused = true;
		}
	}
	error = extract_end(x, why);
	if (error)
		cli_refuse("%s: %s", e->object, why);
	return error;
}

static enum cli_exit all_extract(struct cli *cli, const struct extracting *e, struct stopped_replica *replica)
{
	struct extract_options options = { .archive = -1, .say = say, .context = (void *)(uintptr_t)e };
	struct extract_figures figures;
	AUTO_CLOSE int fd = e->list ? -1 : output_open(e);
	char why[WHY_BYTES], size[32];
	bool refused = false;
	struct extract *x;
	int error;

	if (fd < 0 && !e->list)
		return CLI_REFUSED;
	options.archive = fd;
	error = extract_new(&x, replica, &options, why);
	if (error) {
		if (e->output)
			unlink(e->output);
		return cli_refuse("%s: %s", e->object, why);
	}
	view_print(e, stopped_replica_stopped(replica));
	error = paths_extract(cli, x, e, &refused);
	figures = extract_figures(x);
	extract_free(x);
	if (!error && e->output && fsync(fd) < 0)
		error = cli_refuse("%s: cannot be synced: %s", e->output, strerror(errno));
	if (error && e->output)
		unlink(e->output);
	if (error)
		return CLI_REFUSED;
	size_text(figures.bytes, size);
	if (!e->list)
		fprintf(stderr, "%s: %" PRIu64 " entries, %s of data in files\n", e->object, figures.entries, size);
	if (figures.lost)
		return cli_refuse("%s: damage was met %" PRIu64 " time%s, named above; the rest is complete", e->object,
				  figures.lost, figures.lost == 1 ? "" : "s");
	return refused ? CLI_REFUSED : CLI_DONE;
}

enum cli_exit cli_extract(struct cli *cli, int argc, char **argv)
{
	static struct extracting e;
	const char *from = NULL;
	bool force = false;
	const struct cli_option options[] = {
		{ .name = "output", .values = &e.output, .max = 1 },
		{ .name = "from", .values = &from, .max = 1 },
		{ .name = "list", .flag = &e.list },
		{ .name = "force", .flag = &force },
		{ 0 },
	};
	struct stopped_replica *replica;
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 0, INT_MAX) != CLI_DONE)
		return CLI_USAGE;
	if ((!from && cli->word_count == 0) || (e.list && e.output))
		return cli_usage(cli);
	/* So that names in UTF-8 go into the archive as such, and not as bytes of an unknown character set. */
	setlocale(LC_CTYPE, "C.UTF-8");
	res = replica_open(cli, &e, from, force, &replica);
	if (res != CLI_DONE)
		return res;
	res = all_extract(cli, &e, replica);
	stopped_replica_close(replica);
	return res;
}
