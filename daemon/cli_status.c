/* SPDX-License-Identifier: Apache-2.0 */
/* status: one volume or all of a root; a table for people, JSON as the daemon sends it
 * for scripts. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auto.h"
#include "cli.h"

struct status {
	char name[NAME_BYTES];
	int error;		/* 0, or -errno of asking */
	json_t *json;		/* the daemon's status; NULL when there is none */
};

static bool no_daemon(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED;
}

static void status_ask(const struct cli *cli, struct status *s)
{
	AUTO_JSON json_t *request = json_pack("{s:s}", "verb", "status"), *reply = NULL;
	AUTO_CLOSE int fd = -1;
	char why[WHY_BYTES];
	struct paths paths;

	s->json = NULL;
	s->error = paths_of(&paths, cli->root, s->name, why);
	if (s->error < 0)
		return;
	fd = cli_control_open(&paths);
	s->error = fd < 0 ? fd : cli_control_ask(fd, request, &reply);
	if (s->error == 0 && !json_is_object(json_object_get(reply, "status")))
		s->error = -EPROTO;
	if (s->error == 0)
		s->json = json_incref(json_object_get(reply, "status"));
}

/* ---- for people --------------------------------------------------------------------------- */

static const char *size_of(const json_t *object, const char *key, char out[32])
{
	size_text((uint64_t)cli_json_number(object, key), out);
	return out;
}

static const char *age_of(const json_t *peer, char out[32])
{
	if (!json_is_number(json_object_get(peer, "contact_age_seconds")))
		snprintf(out, 32, "never heard");
	else
		snprintf(out, 32, "heard %.1f s ago", cli_json_number(peer, "contact_age_seconds"));
	return out;
}

static void resync_text(const json_t *resync, char out[CLI_PROGRESS_BYTES])
{
	const json_t *eta = json_object_get(resync, "eta_seconds");
	struct cli_progress progress = {
		.done = cli_json_number(resync, "bytes_done"), .total = cli_json_number(resync, "bytes_total"),
		.rate = cli_json_number(resync, "bytes_per_second"),
		.eta_seconds = json_is_number(eta) ? json_number_value(eta) : -1,
	};

	cli_progress_text(&progress, out);
}

/* What the last comparison found on a peer. */
static void peer_verify_print(const json_t *verify)
{
	double mismatches = cli_json_number(verify, "mismatches");
	const json_t *range;
	size_t index;

	if (mismatches == 0)
		return;
	printf("    ! verify: %.0f blocks differed, %.0f were sent anew; bytes", mismatches,
	       cli_json_number(verify, "repaired"));
	json_array_foreach(json_object_get(verify, "ranges"), index, range)
		printf("%s %.0f+%.0f", index ? "," : "", cli_json_number(range, "offset"),
		       cli_json_number(range, "len"));
	printf("\n");
}

static void peer_print(const json_t *peer, bool primary)
{
	const json_t *resync = json_object_get(peer, "resync");
	char progress[CLI_PROGRESS_BYTES], sent[32];
	bool connected = json_is_true(json_object_get(peer, "connected"));
	bool encrypted = json_is_true(json_object_get(peer, "encrypted"));
	char lag[32], age[32];

	printf("  %-10s %-10s %-8s mode %-2s %-22s %s", cli_json_text(peer, "name"),
	       connected ? cli_json_text(peer, "role") : "-", cli_json_text(peer, "state"),
	       cli_json_text(peer, "mode"), cli_json_text(peer, "address"), age_of(peer, age));
	if (primary)
		printf(", lacks %s in %.0f records of %.1f s", size_of(peer, "lag_bytes", lag),
		       cli_json_number(peer, "lag_records"), cli_json_number(peer, "lag_seconds"));
	printf("%s\n", !connected ? "" : encrypted ? ", encrypted" : ", in the clear");
	if (json_is_true(json_object_get(resync, "running"))) {
		resync_text(resync, progress);
		printf("    resyncing %s, %s of it sent as data\n", progress, size_of(resync, "bytes_sent", sent));
	}
	if (*cli_json_text(peer, "why"))
		printf("    ! %s\n", cli_json_text(peer, "why"));
	peer_verify_print(json_object_get(peer, "verify"));
}

/* We are being resynced. */
static void resync_print(const json_t *status)
{
	const json_t *resync = json_object_get(status, "resync"), *consistent = json_object_get(status, "consistent");
	bool running = json_is_true(json_object_get(resync, "running"));
	char text[CLI_PROGRESS_BYTES], kept[32], limit[32];

	if (running) {
		resync_text(resync, text);
		printf("  resyncing %s from %s\n", text, cli_json_text(resync, "source"));
	}
	if (json_is_false(consistent))
		printf("  ! inconsistent until the resync is over: before, this replica can neither be read nor take "
		       "over\n");
	else if (running)
		printf("  consistent as of LSN %.0f: readers see that, and a failover goes back to it; undo keeps %s "
		       "of at most %s for it\n", cli_json_number(json_object_get(status, "lsn"), "consistent"),
		       size_of(status, "undo_bytes", kept), size_of(status, "undo_limit_bytes", limit));
}

static void verify_print(const json_t *verify)
{
	struct cli_progress progress = { .done = cli_json_number(verify, "bytes_done"),
					 .total = cli_json_number(verify, "bytes_total"), .eta_seconds = -1 };
	time_t ended = (time_t)cli_json_number(verify, "ended_time");
	char text[CLI_PROGRESS_BYTES], when[32] = "";
	struct tm parts;

	cli_progress_text(&progress, text);
	if (json_is_true(json_object_get(verify, "running"))) {
		printf("  verifying %s\n", text);
	} else if (ended && localtime_r(&ended, &parts) && strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &parts)) {
		bool through = progress.done >= progress.total;

		printf("  verified %s%s %s\n", through ? "" : text, through ? "all blocks," : ", then it ended,", when);
	}
}

/* What was repaired, and what waits for the operator. */
static void repair_print(const json_t *status)
{
	size_t divergences = json_array_size(json_object_get(status, "divergences"));
	double reads = cli_json_number(status, "reads_repaired");

	resync_print(status);
	verify_print(json_object_get(status, "verify"));
	if (reads > 0)
		printf("  ! %.0f reads that our disk refused were served by a peer; check the disk\n", reads);
	if (divergences)
		printf("  ! %zu divergence%s: what this node wrote before it gave up its history; see: holdfast "
		       "divergence %s list\n", divergences, divergences == 1 ? "" : "s",
		       cli_json_text(status, "name"));
}

static void volume_print(const json_t *status)
{
	const json_t *epoch = json_object_get(status, "epoch"),
		     *lsn = json_object_get(status, "lsn"), *peer;
	const char *role = cli_json_text(status, "role"), *failed = cli_json_text(status, "failed");
	char size[32], dirty[32], number[48] = "none";
	double dirty_pages = cli_json_number(status, "pages_dirty");
	const char *state = json_is_true(json_object_get(status, "open")) ? "open" : "closed";
	size_t index;

	if (*failed)
		state = "failed";
	if (cli_json_number(epoch, "number") > 0)
		snprintf(number, sizeof number, "%.0f by %.32s", cli_json_number(epoch, "number"),
			 cli_json_text(epoch, "node"));
	size_text((uint64_t)(dirty_pages * BLOCK_BYTES), dirty);
	printf("%-12s %-10s %-8s %s on %s, epoch %s\n", cli_json_text(status, "name"), role, state,
	       size_of(status, "volume_bytes", size), cli_json_text(status, "node"), number);
	printf("  lsn        end %.0f, durable %.0f, commit %.0f, applied %.0f, floor %.0f; %s not in the store\n",
	       cli_json_number(lsn, "end"), cli_json_number(lsn, "durable"), cli_json_number(lsn, "commit"),
	       cli_json_number(lsn, "applied"), cli_json_number(lsn, "floor"), dirty);
	if (*cli_json_text(status, "mount"))
		printf("  mounted    %s, %s\n", cli_json_text(status, "mount"),
		       strcmp(role, "primary") == 0 ? "writable" : "read-only");
	if (cli_json_number(status, "min_copies") > 1)
		printf("  commit     %s, min-copies %.0f\n", cli_json_text(status, "commit"),
		       cli_json_number(status, "min_copies"));
	else if (cli_json_number(status, "peer_count") > 0)
		printf("  commit     %s\n", cli_json_text(status, "commit"));
	if (*failed || *cli_json_text(status, "why"))
		printf("  ! %s%s%s\n", failed, *failed ? ": " : "", cli_json_text(status, "why"));
	if (*cli_json_text(status, "waiting_for"))
		printf("  ! %.0f requests and %.0f acknowledgements wait for %s\n",
		       cli_json_number(status, "requests_waiting"),
		       cli_json_number(status, "acks_waiting"),
		       cli_json_text(status, "waiting_for"));
	repair_print(status);
	json_array_foreach(json_object_get(status, "peers"), index, peer)
		peer_print(peer, strcmp(role, "primary") == 0);
}

static void status_print(const struct status *s)
{
	if (s->json)
		volume_print(s->json);
	else if (no_daemon(s->error))
		printf("%-12s %-10s %-8s start it with: holdfast up %s\n", s->name, "-", "down",
		       s->name);
	else
		printf("%-12s %-10s %-8s\n  ! the daemon does not answer: %s\n", s->name, "-",
		       "unknown", strerror(-s->error));
}

/* ---- for scripts -------------------------------------------------------------------------- */

/* The daemon's status and "running"; without a daemon the name alone. */
static json_t *status_object(const struct status *s)
{
	json_t *object = s->json ? json_copy(s->json) : json_pack("{s:s}", "name", s->name);

	json_object_set_new(object, "running", json_boolean(s->json || !no_daemon(s->error)));
	return object;
}

static void json_print(const json_t *json, bool compact)
{
	json_dumpf(json, stdout, compact ? JSON_COMPACT : JSON_INDENT(2));
	printf("\n");
}

/* ---- which volumes ------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

int cli_volumes(const struct cli *cli, char (**names)[NAME_BYTES], size_t *count)
{
	char directory[PATH_MAX + 16], why[WHY_BYTES];
	struct dirent *entry;
	struct paths paths;
	DIR *dir;

	*names = NULL;
	*count = 0;
	snprintf(directory, sizeof directory, "%s/etc/holdfast", cli->root);
	dir = opendir(directory);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		char (*more)[NAME_BYTES];

		if (len <= 5 || len - 5 >= NAME_BYTES ||
		    strcmp(entry->d_name + len - 5, ".conf") != 0)
			continue;
		entry->d_name[len - 5] = 0;
		if (paths_of(&paths, cli->root, entry->d_name, why) < 0)
			continue;
		more = reallocarray(*names, *count + 1, sizeof **names);
		if (!more)
			break;
		*names = more;
		strcpy(more[(*count)++], entry->d_name);
	}
	closedir(dir);
	if (*count)
		qsort(*names, *count, sizeof **names, by_name);
	return 0;
}

static enum cli_exit status_all(const struct cli *cli, bool json, bool compact)
{
	AUTO_FREE char (*names)[NAME_BYTES] = NULL;
	AUTO_JSON json_t *array = json_array();
	size_t count;
	int res = cli_volumes(cli, &names, &count);

	if (res < 0)
		return cli_refuse("root %s: %s", *cli->root ? cli->root : "/", strerror(-res));
	if (count == 0 && !json)
		printf("no volumes below %s; make one with: holdfast create VOLUME\n",
		       *cli->root ? cli->root : "/");
	for (size_t i = 0; i < count; i++) {
		struct status s = { 0 };

		strcpy(s.name, names[i]);
		status_ask(cli, &s);
		if (json)
			json_array_append_new(array, status_object(&s));
		else
			status_print(&s);
		json_decref(s.json);
	}
	if (json)
		json_print(array, compact);
	return CLI_DONE;
}

static enum cli_exit status_one(const struct cli *cli, const char *volume, bool json, bool compact)
{
	AUTO_JSON json_t *reply = NULL;
	enum cli_exit res = cli_ask(cli, volume, json_pack("{s:s}", "verb", "status"), &reply);
	struct status s = { 0 };

	if (res != CLI_DONE)
		return res;
	snprintf(s.name, sizeof s.name, "%s", volume);
	s.json = json_object_get(reply, "status");
	if (!json_is_object(s.json))
		return cli_refuse(
			"volume %s: the daemon's answer has no status; is it another version?",
			volume);
	if (json) {
		AUTO_JSON json_t *object = status_object(&s);

		json_print(object, compact);
	} else {
		status_print(&s);
	}
	return CLI_DONE;
}

enum cli_exit cli_status(struct cli *cli, int argc, char **argv)
{
	bool json = false, watch = false;
	const struct cli_option options[] = {
		{ .name = "json", .flag = &json },
		{ .name = "watch", .flag = &watch },
		{ 0 },
	};
	const char *volume;
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 0, 1) != CLI_DONE)
		return CLI_USAGE;
	volume = cli->word_count ? cli->words[0] : NULL;
	for (;;) {
		if (watch && !json && isatty(STDOUT_FILENO))
			printf("\033[H\033[2J");
		res = volume ? status_one(cli, volume, json, watch) : status_all(cli, json, watch);
		if (!watch || res == CLI_USAGE || fflush(stdout) != 0)
			return res;
		sleep(1);
	}
}
