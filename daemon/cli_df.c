/* SPDX-License-Identifier: Apache-2.0 */
/* df: how full volumes are. Of one with a filesystem what is in it, of any the space that its store takes here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auto.h"
#include "cli.h"
#include "stopped_replica.h"
#include "usage.h"

/* What the daemon says, or (-ENOENT, -ECONNREFUSED) that there is none. */
static int daemon_df(const struct paths *paths, json_t **out, char why[WHY_BYTES])
{
	AUTO_JSON json_t *request = json_pack("{s:s}", "verb", "df"), *reply = NULL;
	AUTO_CLOSE int fd = cli_control_open(paths);
	int res = fd < 0 ? fd : cli_control_ask(fd, request, &reply);

	if (res == -ENOENT || res == -ECONNREFUSED)
		return res;
	if (res < 0) {
		snprintf(why, WHY_BYTES, "the daemon does not answer: %s", strerror(-res));
		return -EIO;
	}
	*out = json_incref(json_object_get(reply, "df"));
	if (*out)
		return 0;
	snprintf(why, WHY_BYTES, "%s", cli_json_text(reply, "why"));
	return -EIO;
}

static int stopped_df(const struct config *config, json_t **out, char why[WHY_BYTES])
{
	struct stopped_replica *replica;
	uint8_t page[BLOCK_BYTES];
	int res = stopped_replica_open(&replica, config, STOPPED_OPEN, false, why);

	if (res < 0)
		return res;
	res = stopped_read(stopped_replica_stopped(replica), 0, 1, page);
	if (res < 0)
		snprintf(why, WHY_BYTES, "%s", stopped_why(stopped_replica_stopped(replica)));
	else
		res = usage_json(page, out, why);
	stopped_replica_close(replica);
	return res;
}

/* *out: its figures, or its name and "why". */
static enum cli_exit df_of(const struct cli *cli, const char *volume, json_t **out)
{
	AUTO_FREE struct config *config = calloc(1, sizeof *config);
	AUTO_JSON json_t *figures = NULL;
	char why[WHY_BYTES] = "";
	struct paths paths;
	struct stat st;
	int res;

	if (!config || cli_paths(cli, volume, &paths) != CLI_DONE || cli_config(&paths, volume, config) != CLI_DONE)
		return CLI_REFUSED;
	if (config->volume.filesystem) {
		res = daemon_df(&paths, &figures, why);
		if (res == -ENOENT || res == -ECONNREFUSED)
			res = stopped_df(config, &figures, why);
	}
	*out = json_pack("{s:s, s:b, s:I}", "name", volume, "filesystem", config->volume.filesystem, "volume_bytes",
			 (json_int_t)config->volume.geometry.volume_bytes);
	if (stat(config->store, &st) == 0)
		json_object_set_new(*out, "store_bytes",
				    json_integer(S_ISREG(st.st_mode)
						 ? (json_int_t)st.st_blocks * 512
						 : (json_int_t)config->volume.geometry.volume_bytes));
	if (figures)
		json_object_update(*out, figures);
	else if (config->volume.filesystem)
		json_object_set_new(*out, "why", json_string(why));
	return CLI_DONE;
}

static const char *size_of(const json_t *df, const char *key, char out[32])
{
	if (json_object_get(df, key))
		size_text((uint64_t)cli_json_number(df, key), out);
	else
		strcpy(out, "-");
	return out;
}

static void df_print(const json_t *df)
{
	double used = cli_json_number(df, "used"), all = used + cli_json_number(df, "available");
	char size[32], taken[32], available[32], store[32], percent[16] = "-", inodes[32] = "-";

	if (json_object_get(df, "used")) {	/* rounded up, as df does: 100 % is full for users */
		snprintf(percent, sizeof percent, "%u %%",
			 all > 0 ? (unsigned)(used * 100 / all + 0.999999) : 0u);
		snprintf(inodes, sizeof inodes, "%.0f", cli_json_number(df, "inodes"));
	}
	printf("%-12s %11s %11s %11s %6s %10s %11s\n", cli_json_text(df, "name"),
	       size_of(df, json_object_get(df, "size") ? "size" : "volume_bytes", size), size_of(df, "used", taken),
	       size_of(df, "available", available), percent, inodes, size_of(df, "store_bytes", store));
	if (*cli_json_text(df, "why"))
		printf("  ! %s\n", cli_json_text(df, "why"));
}

enum cli_exit cli_df(struct cli *cli, int argc, char **argv)
{
	bool json = false, refused = false;
	const struct cli_option options[] = { { .name = "json", .flag = &json }, { 0 } };
	AUTO_JSON json_t *list = json_array();
	AUTO_FREE char (*names)[NAME_BYTES] = NULL;
	size_t count = 0, index;
	json_t *df;
	int res;

	if (cli_arguments(cli, argc, argv, options, 0, 1) != CLI_DONE)
		return CLI_USAGE;
	res = cli->word_count ? 0 : cli_volumes(cli, &names, &count);
	if (res < 0)
		return cli_refuse("root %s: %s", *cli->root ? cli->root : "/", strerror(-res));
	for (size_t i = 0; i < (cli->word_count ? 1 : count); i++) {
		df = NULL;
		if (df_of(cli, cli->word_count ? cli->words[0] : names[i], &df) != CLI_DONE)
			refused = true;
		else
			json_array_append_new(list, df);
	}
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		printf("\n");
	} else if (json_array_size(list)) {
		printf("%-12s %11s %11s %11s %6s %10s %11s\n", "VOLUME", "SIZE", "USED", "AVAILABLE", "USE%", "INODES",
		       "STORE HERE");
		json_array_foreach(list, index, df)
			df_print(df);
	}
	json_array_foreach(list, index, df)
		refused = refused || json_object_get(df, "why");
	return refused ? CLI_REFUSED : CLI_DONE;
}
