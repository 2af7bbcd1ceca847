/* SPDX-License-Identifier: Apache-2.0 */
/* verify: compares the peers' blocks with ours, and says what was found. */
#include <string.h>
#include <unistd.h>

#include "auto.h"
#include "cli.h"

enum { POLL_US = 300000, RANGES_PRINTED = 4 };

/* What @peer's store has that ours has not. True when blocks differ still. */
static bool peer_print(const json_t *peer)
{
	const json_t *verify = json_object_get(peer, "verify"), *range;
	double mismatches = cli_json_number(verify, "mismatches"), repaired = cli_json_number(verify, "repaired");
	size_t index;

	if (mismatches == 0)
		return false;
	printf("peer %s: %.0f blocks of %d bytes differ, %.0f were sent anew; at", cli_json_text(peer, "name"),
	       mismatches, BLOCK_BYTES, repaired);
	json_array_foreach(json_object_get(verify, "ranges"), index, range)
		if (index < RANGES_PRINTED)
			printf("%s %.0f+%.0f", index ? "," : "", cli_json_number(range, "offset"),
			       cli_json_number(range, "len"));
	printf("%s\n", json_array_size(json_object_get(verify, "ranges")) > RANGES_PRINTED ? ", ..." : "");
	return mismatches > repaired;
}

static enum cli_exit result_print(const char *volume, const char *only, const json_t *status)
{
	const json_t *verify = json_object_get(status, "verify"), *peer;
	double total = cli_json_number(verify, "bytes_total"), done = cli_json_number(verify, "bytes_done");
	bool differ = false, found = false;
	char size[32];
	size_t index;

	json_array_foreach(json_object_get(status, "peers"), index, peer) {
		if (only && strcmp(only, cli_json_text(peer, "name")) != 0)
			continue;
		found = found || cli_json_number(json_object_get(peer, "verify"), "mismatches") > 0;
		differ = peer_print(peer) || differ;
	}
	size_text((uint64_t)done, size);
	if (done < total)
		return cli_refuse("volume %s: the verify ended after %s, before it was through; see `holdfast status "
				  "%s`, then verify again", volume, size, volume);
	if (differ)
		return cli_refuse("volume %s: replicas differ; to send these blocks anew: holdfast verify %s --repair",
				  volume, volume);
	printf("volume %s: %s compared, %s\n", volume, size,
	       found ? "what differed was sent anew" : "no block differs");
	return CLI_DONE;
}

static enum cli_exit verify_wait(const struct cli *cli, const char *volume, const char *only)
{
	struct cli_progress progress = { .eta_seconds = -1, .rate_measured = true };

	for (;;) {
		AUTO_JSON json_t *reply = NULL;
		enum cli_exit res = cli_ask(cli, volume, json_pack("{s:s}", "verb", "status"), &reply);
		const json_t *status = json_object_get(reply, "status"), *verify = json_object_get(status, "verify");

		if (res != CLI_DONE)
			return res;
		if (!json_is_true(json_object_get(verify, "running"))) {
			cli_progress_end(&progress);
			return result_print(volume, only, status);
		}
		progress.done = cli_json_number(verify, "bytes_done");
		progress.total = cli_json_number(verify, "bytes_total");
		cli_progress_show("verifying", &progress);
		usleep(POLL_US);
	}
}

enum cli_exit cli_verify(struct cli *cli, int argc, char **argv)
{
	bool repair = false, wait = false;
	const char *peer = NULL;
	const struct cli_option options[] = {
		{ .name = "repair", .flag = &repair },
		{ .name = "peer", .values = &peer, .max = 1 },
		{ .name = "wait", .flag = &wait },
		{ 0 },
	};
	const char *volume;
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	volume = cli->words[0];
	res = cli_tell(cli, volume, json_pack("{s:s,s:b,s:s}", "verb", "verify", "repair", repair, "node",
					      peer ? peer : ""));
	if (res != CLI_DONE)
		return res;
	if (wait)
		return verify_wait(cli, volume, peer);
	printf("volume %s: comparing; see: holdfast status %s\n", volume, volume);
	return CLI_DONE;
}
