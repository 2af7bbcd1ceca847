/* SPDX-License-Identifier: Apache-2.0 */
/* divergence: what this node wrote before it gave up its own history. All but `drop` reads the files of undo
 * itself, so that it serves when the daemon does not. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli.h"
#include "divergence.h"

enum { DROP_WAITS = 100 };	/* 5 s */

/* Static: these are larger than is good for a stack. */
static struct config config;
static struct divergence divergence;

/* Wall clock, in the operator's zone. */
static const char *time_text(uint64_t ns, char out[32])
{
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm parts;

	if (ns == 0 || !localtime_r(&seconds, &parts) || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &parts) == 0)
		snprintf(out, 32, "not known");
	return out;
}

static void state_text(const struct divergence *d, char out[96])
{
	if (d->status.recording)
		snprintf(out, 96, "recording%s", d->resync_runs ? ", resync runs" : "");
	else
		snprintf(out, 96, "partial since LSN %" PRIu64 "%s", d->status.partial,
			 d->resync_runs ? ", resync runs" : "");
}

static void row_print(const struct divergence *d)
{
	const struct volume_divergence_status *s = &d->status;
	char taken[32], first[32], last[32], lsn[48], state[96], size[32];

	snprintf(lsn, sizeof lsn, "%" PRIu64 "-%" PRIu64, s->fork, s->end);
	state_text(d, state);
	size_text(s->bytes, size);
	printf("%016" PRIx64 "  %-19s  %-8s  %5" PRIu64 "  %-21s  %-19s  %-19s  %7" PRIu64 "  %-9s  %s\n", s->id,
	       time_text(s->taken_ns, taken), s->epoch_node, s->epoch_number, lsn, time_text(s->first_ns, first),
	       time_text(s->last_ns, last), s->blocks, size, state);
}

static enum cli_exit divergence_list(struct cli *cli, bool force)
{
	enum cli_exit res = CLI_DONE;
	char why[WHY_BYTES];
	unsigned found = 0;

	(void)force;
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
		int there = divergence_read(&divergence, &config, slot, why);

		if (there < 0)
			res = cli_refuse("volume %s: %s", cli->words[0], why);
		if (there <= 0)
			continue;
		if (found++ == 0)
			printf("%-16s  %-19s  %-8s  %5s  %-21s  %-19s  %-19s  %7s  %-9s  %s\n", "ID", "TAKEN", "NODE",
			       "EPOCH", "LSN", "FIRST RECORD", "LAST RECORD", "BLOCKS", "DATA", "STATE");
		row_print(&divergence);
	}
	if (found == 0 && res == CLI_DONE)
		printf("volume %s: no divergence on this node: all that it wrote is in the volume's history\n",
		       cli->words[0]);
	return res;
}

/* Finds words[2] into `divergence`. */
static enum cli_exit divergence_get(const struct cli *cli)
{
	char why[WHY_BYTES];

	if (divergence_find(&divergence, &config, cli->words[2], why) < 0)
		return cli_refuse("volume %s: %s", cli->words[0], why);
	return CLI_DONE;
}

static enum cli_exit divergence_show(struct cli *cli, bool force)
{
	const struct volume_divergence_status *s = &divergence.status;
	char text[96], first[32], last[32], space[32];
	enum cli_exit res = divergence_get(cli);

	(void)force;
	if (res != CLI_DONE)
		return res;
	size_text(s->bytes, text);
	size_text(divergence.space_bytes, space);
	printf("id         %016" PRIx64 "\n", s->id);
	printf("taken      %s, by node %s\n", time_text(s->taken_ns, first), config.volume.geometry.node);
	printf("given up   for the history of node %s\n", *s->source ? s->source : "?");
	printf("epoch      %" PRIu64 " of node %s, the last on this side\n", s->epoch_number, s->epoch_node);
	printf("records    LSN %" PRIu64 " to %" PRIu64 ", written %s to %s\n", s->fork, s->end,
	       time_text(s->first_ns, first), time_text(s->last_ns, last));
	printf("changed    %" PRIu64 " blocks of %d bytes, with %s of data\n", s->blocks, BLOCK_BYTES, text);
	printf("kept in    %s, %s on disk\n", divergence.path, space);
	state_text(&divergence, text);
	printf("state      %s\n", text);
	printf("next       holdfast divergence %s export %016" PRIx64 " FILE, or drop it\n", cli->words[0], s->id);
	return CLI_DONE;
}

/* ---- export -------------------------------------------------------------------------------- */

static void export_progress(void *context, uint64_t done, uint64_t total)
{
	struct cli_progress *progress = context;

	progress->done = (double)done;
	progress->total = (double)total;
	cli_progress_show("exporting", progress);
}

/* After the bound was reached nobody knows what the store changed, but for what was saved before. */
static void partial_print(const struct divergence_export *export)
{
	uint64_t exact = export->data_saved / BLOCK_BYTES;

	printf("It is partial: what changed later than LSN %" PRIu64 " was not kept any more.\n"
	       "  exact      %" PRIu64 " blocks of %d bytes that undo has, all %" PRIu64 " that this node had changed "
	       "among them\n", export->partial, exact, BLOCK_BYTES, divergence.status.blocks);
	if (export->blocks_saved > exact)
		printf("  uncertain  %" PRIu64 " blocks, zeros in the image: they were zeros, or changed after that\n",
		       export->blocks_saved - exact);
	printf("  uncertain  any other block: as the store is now, which may have changed after that\n");
}

static enum cli_exit divergence_export_to(struct cli *cli, bool force)
{
	struct cli_progress progress = { .eta_seconds = -1, .rate_measured = true };
	struct divergence_export export = { .force = force, .progress = export_progress, .context = &progress };
	char why[WHY_BYTES], size[32], data[32], saved[32];
	enum cli_exit res = divergence_get(cli);
	int error;

	if (res != CLI_DONE)
		return res;
	error = divergence_export(&config, &divergence, cli->words[3], &export, why);
	cli_progress_end(&progress);
	if (error < 0)
		return cli_refuse("volume %s: %s", cli->words[0], why);
	size_text(config.volume.geometry.volume_bytes, size);
	size_text(export.data_bytes, data);
	size_text(export.blocks_saved * BLOCK_BYTES, saved);
	printf("image %s: the volume as node %s had it at LSN %" PRIu64 ": %s, %s of it data; %s from undo, the "
	       "rest from the store\n", cli->words[3], config.volume.geometry.node, divergence.status.end, size, data,
	       saved);
	if (export.partial)
		partial_print(&export);
	return CLI_DONE;
}

/* ---- drop ---------------------------------------------------------------------------------- */

/* The daemon answers when the drop has begun. Its file's space is back a moment later, or, on a large file, not yet. */
static uint64_t space_wait(void)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	struct stat st;

	for (unsigned i = 0; i < DROP_WAITS; i++) {
		if (stat(divergence.path, &st) == 0 && (uint64_t)st.st_blocks * 512 < divergence.space_bytes)
			return divergence.space_bytes - (uint64_t)st.st_blocks * 512;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static enum cli_exit divergence_drop(struct cli *cli, bool force)
{
	enum cli_exit res = divergence_get(cli);
	char id[17], space[32];
	uint64_t back;

	(void)force;
	if (res != CLI_DONE)
		return res;
	snprintf(id, sizeof id, "%016" PRIx64, divergence.status.id);
	res = cli_tell(cli, cli->words[0], json_pack("{s:s,s:s}", "verb", "divergence-drop", "id", id));
	if (res != CLI_DONE)
		return res;
	back = space_wait();
	size_text(back ? back : divergence.space_bytes, space);
	printf("divergence %s: dropped, %s %s\n", id, space, back ? "came back" : "are coming back");
	return CLI_DONE;
}

enum cli_exit cli_divergence(struct cli *cli, int argc, char **argv)
{
	static struct paths paths;
	static const struct {
		const char *name;
		int words;		/* with VOLUME and the name */
		enum cli_exit (*run)(struct cli *cli, bool force);
	} actions[] = {
		{ "list", 2, divergence_list },
		{ "show", 3, divergence_show },
		{ "export", 4, divergence_export_to },
		{ "drop", 3, divergence_drop },
	};
	bool force = false;
	const struct cli_option options[] = { { .name = "force", .flag = &force }, { 0 } };
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 2, 4) != CLI_DONE)
		return CLI_USAGE;
	for (unsigned i = 0; i < sizeof actions / sizeof actions[0]; i++) {
		if (strcmp(actions[i].name, cli->words[1]) != 0 || cli->word_count != actions[i].words)
			continue;
		if (force && actions[i].run != divergence_export_to)
			return cli_usage(cli);
		res = cli_paths(cli, cli->words[0], &paths);
		if (res == CLI_DONE)
			res = cli_config(&paths, cli->words[0], &config);
		return res == CLI_DONE ? actions[i].run(cli, force) : res;
	}
	return cli_usage(cli);
}
