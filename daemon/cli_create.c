/* SPDX-License-Identifier: Apache-2.0 */
/* create: a config and an empty replica; prints what to run on each peer, so that all agree. */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli.h"
#include "config_edit.h"
#include "config_text.h"
#include "identity.h"
#include "replica_files.h"

/* What is given once, and is a key of the config. */
static const char *const keys[] = {
	"size", "node", "uuid", "listen", "commit", "min-copies",
	"journal-size", "memory", "store", "journal", "meta", "bitmap", "undo",
	"undo-size", "resync", "resync-rate", "split-brain", "insecure-loopback", "nbd-tls", "ca",
};
enum { KEYS = sizeof keys / sizeof keys[0] };

struct create {
	const char *values[KEYS];	/* NULL = not given */
	const char *peers[PEERS_MAX], *nbd[NBD_LISTENS_MAX];
	unsigned peer_count, nbd_count;
	bool no_loop, fs;
};

/* "NAME=ADDRESS" or "NAME=ADDRESS,MODE" */
static int peer_set(struct config *config, const char *text, char why[WHY_BYTES])
{
	char copy[NAME_BYTES + ADDRESS_BYTES + 8];
	char *address, *mode;

	if (strlen(text) >= sizeof copy || !strchr(text, '=')) {
		snprintf(why, WHY_BYTES, "is not NAME=ADDRESS or NAME=ADDRESS,MODE");
		return -EINVAL;
	}
	strcpy(copy, text);
	address = strchr(copy, '=');
	*address++ = 0;
	mode = strrchr(address, ',');
	if (mode)
		*mode++ = 0;
	return config_peer_add(config, copy, address, mode, why);
}

static enum cli_exit config_fill(const struct create *create, struct config *config)
{
	char why[WHY_BYTES], nbd[NBD_LISTENS_MAX * ADDRESS_BYTES] = "";
	const char *volume = config->volume.name;

	for (unsigned i = 0; i < KEYS; i++)
		if (create->values[i] && config_set(config, keys[i], create->values[i], why) < 0)
			return cli_refuse("volume %s: --%s: %s", volume, keys[i], why);
	for (unsigned i = 0; i < create->peer_count; i++)
		if (peer_set(config, create->peers[i], why) < 0)
			return cli_refuse("volume %s: --peer %.100s: %s", volume, create->peers[i],
					  why);
	for (unsigned i = 0; i < create->nbd_count; i++) {
		size_t len = strlen(nbd);

		snprintf(nbd + len, sizeof nbd - len, "%s%s", i ? " " : "", create->nbd[i]);
	}
	if (create->nbd_count && config_set(config, "nbd", nbd, why) < 0)
		return cli_refuse("volume %s: --nbd: %s", volume, why);
	/* Who writes past the filesystem destroys it. */
	config->loop = !create->no_loop && !create->fs;
	config->volume.filesystem = create->fs;
	if (!create->values[2]) {
		uint8_t *uuid = config->volume.geometry.uuid;

		if (getrandom(uuid, UUID_BYTES, 0) != UUID_BYTES)
			return cli_refuse("volume %s: no random bytes for a UUID: %s", volume,
					  strerror(errno));
		uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);	/* RFC 9562: version 4 */
		uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	}
	if (config_check(config, why) < 0)
		return cli_refuse("volume %s: %s", volume, why);
	return CLI_DONE;
}

/* As a shell takes it for one word. */
static void word_print(const char *option, const char *word)
{
	bool plain = true;

	for (const char *at = word; *at; at++)
		plain = plain && (isalnum((unsigned char)*at) || strchr("-_.,:=/%@", *at));
	if (plain) {
		printf(" %s %s", option, word);
		return;
	}
	printf(" %s '", option);
	for (; *word; word++)
		printf(*word == '\'' ? "'\\''" : "%c", *word);
	printf("'");
}

static void peer_word_print(const char *name, const char *address, enum replication_mode mode)
{
	char word[NAME_BYTES + ADDRESS_BYTES + 8];

	snprintf(word, sizeof word, "%s=%s,%s", name, *address ? address : "ADDRESS",
		 replication_mode_name(mode));
	word_print("--peer", word);
}

/* As node @other would say it: where it is named itself, it names us. */
static void commit_word_print(const struct volume_config *volume, unsigned other)
{
	struct volume_config seen = *volume;
	char text[WHY_BYTES];

	if (volume->commit == COMMIT_ALL)
		return;
	memcpy(seen.peers[other].name, volume->geometry.node, NAME_BYTES);
	commit_text(&seen, text);
	word_print("--commit", text);
}

/* What both sides of a resync or a split brain had better agree on. */
static void resync_options_print(const struct volume_config *volume)
{
	char text[24];

	if (volume->undo_bytes) {
		size_exact_text(volume->undo_bytes, text);
		printf(" --undo-size %s", text);
	}
	if (volume->resync_checksum)
		printf(" --resync checksum");
	if (volume->resync_rate) {
		size_exact_text(volume->resync_rate, text);
		printf(" --resync-rate %s", text);
	}
	if (volume->split_policy != SPLIT_NONE)
		printf(" --split-brain %s", split_policy_name(volume->split_policy));
}

/* What makes the replica on peer @index: the same volume, seen from there. */
static void peer_command_print(const struct config *config, unsigned index)
{
	const struct volume_config *volume = &config->volume;
	const struct volume_peer_config *peer = &volume->peers[index];
	char size[24], journal[24], uuid[37];

	size_exact_text(volume->geometry.volume_bytes, size);
	size_exact_text(volume->geometry.journal_bytes, journal);
	uuid_text(volume->geometry.uuid, uuid);
	printf("  holdfast create %s --size %s --uuid %s", volume->name, size, uuid);
	word_print("--node", peer->name);
	word_print("--listen", peer->address);
	peer_word_print(volume->geometry.node, volume->listen, peer->mode);
	for (unsigned i = 0; i < volume->peer_count; i++)
		if (i != index)
			peer_word_print(volume->peers[i].name, volume->peers[i].address,
					volume->peers[i].mode);
	commit_word_print(volume, index);
	if (volume->min_copies > 1)
		printf(" --min-copies %u", volume->min_copies);
	printf(" --journal-size %s%s", journal, volume->filesystem ? " --fs" : "");
	resync_options_print(volume);
	printf("%s\n", volume->insecure_loopback ? " --insecure-loopback yes" : "");
}

static void next_steps_print(const struct config *config, const struct paths *paths)
{
	const struct volume_config *volume = &config->volume;
	char uuid[37];

	uuid_text(volume->geometry.uuid, uuid);
	printf("volume %s: replica made on node %s, uuid %s, config %s\n", volume->name,
	       volume->geometry.node, uuid, paths->config);
	for (unsigned i = 0; i < volume->peer_count; i++) {
		printf("on node %s run:\n", volume->peers[i].name);
		peer_command_print(config, i);
	}
	if (volume->peer_count && !volume->insecure_loopback && !*config->ca)
		printf("then on each node, for each other one, with what `create` or `holdfast identity %s` printed "
		       "there: holdfast peer %s fingerprint NODE sha256:...\n", volume->name, volume->name);
	if (volume->peer_count)
		printf("then on each node: holdfast up %s\nand on one of them: holdfast promote "
		       "%s\n",
		       volume->name, volume->name);
	else
		printf("then: holdfast up %s --primary\n", volume->name);
	if (volume->filesystem)
		printf("and where programs want it: holdfast mount %s DIRECTORY\n", volume->name);
}

/* The config comes first, so that nobody makes the same replica beside us, and goes again when
 * there is none. */
static enum cli_exit replica_make(const struct config *config, const struct paths *paths)
{
	const struct geometry *geometry = &config->volume.geometry;
	const char *volume = config->volume.name;
	char why[WHY_BYTES];
	int res;

	if (access(paths->config, F_OK) == 0)
		return cli_refuse(
			"volume %s: there is a config %s already; see: holdfast status %s", volume,
			paths->config, volume);
	if (config_write(config, paths, why) < 0)
		return cli_refuse("volume %s: %s", volume, why);
	res = identity_create(paths->state, geometry->node, geometry->uuid, why);
	if (res < 0 && res != -EEXIST) {
		unlink(paths->config);
		return cli_refuse("volume %s: %s", volume, why);
	}
	if (replica_files_create(config, why) < 0) {
		if (res == 0)
			identity_remove(paths->state);
		unlink(paths->config);
		return cli_refuse_why(volume, why);
	}
	return CLI_DONE;
}

enum cli_exit cli_create(struct cli *cli, int argc, char **argv)
{
	static struct config config;
	struct create create = { 0 };
	struct cli_option options[KEYS + 5] = { 0 };
	struct paths paths;
	enum cli_exit res;

	for (unsigned i = 0; i < KEYS; i++)
		options[i] = (struct cli_option){ .name = keys[i],
						  .values = &create.values[i],
						  .max = 1 };
	options[KEYS] = (struct cli_option){ .name = "peer",
					     .values = create.peers,
					     .max = PEERS_MAX,
					     .count = &create.peer_count };
	options[KEYS + 1] = (struct cli_option){ .name = "nbd",
						 .values = create.nbd,
						 .max = NBD_LISTENS_MAX,
						 .count = &create.nbd_count };
	options[KEYS + 2] = (struct cli_option){ .name = "no-loop", .flag = &create.no_loop };
	options[KEYS + 3] = (struct cli_option){ .name = "fs", .flag = &create.fs };
	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	if (!create.values[0] || !create.values[1])
		return cli_usage(cli);
	res = cli_paths(cli, cli->words[0], &paths);
	if (res != CLI_DONE)
		return res;
	config_init(&config, &paths, cli->words[0]);
	res = config_fill(&create, &config);
	if (res == CLI_DONE)
		res = replica_make(&config, &paths);
	if (res == CLI_DONE) {
		next_steps_print(&config, &paths);
		res = cli_identity_print(&config, &paths);
	}
	return res;
}
