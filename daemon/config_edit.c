/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config_edit.h"
#include "config_text.h"
#include "identity.h"

enum { UNDO_PATH_MAX = PATH_MAX - 4 };	/* there is room for "-0" */

static const uint64_t resync_rate_min = 64 << 10;	/* slower than that, no resync would ever be over */
static const uint64_t peer_timeout_min_ns = UINT64_C(500) * 1000000;
static const uint64_t peer_timeout_max_ns = UINT64_C(300) * 1000000000;

void config_init(struct config *out, const struct paths *paths, const char *volume)
{
	*out = (struct config){
		.volume = {
			.geometry = {
				.journal_bytes = JOURNAL_BYTES_DEFAULT,
				.segment_bytes = SEGMENT_BYTES,
				.journal_block = 4096,
			},
			.memory_bytes = MEMORY_BYTES_DEFAULT,
			.peer_timeout_ns = UINT64_C(5) * 1000000000,
			.min_copies = 1,
			.store = -1, .journal = -1, .meta = -1, .bitmap = -1, .undo = { [0 ... UNDO_SLOTS - 1] = -1 },
		},
		.loop = true,
	};
	/* paths_of() has left room for these names. */
	snprintf(out->volume.name, sizeof out->volume.name, "%s", volume);
	snprintf(out->store, sizeof out->store, "%.*s/store", PATH_MAX - 16, paths->state);
	snprintf(out->journal, sizeof out->journal, "%.*s/journal", PATH_MAX - 16, paths->state);
	snprintf(out->meta, sizeof out->meta, "%.*s/meta", PATH_MAX - 16, paths->state);
	snprintf(out->bitmap, sizeof out->bitmap, "%.*s/bitmap", PATH_MAX - 16, paths->state);
	snprintf(out->undo, sizeof out->undo, "%.*s/undo", PATH_MAX - 16, paths->state);
}

void config_undo_path(const struct config *config, unsigned slot, char out[PATH_MAX])
{
	CHECK(slot < UNDO_SLOTS && strlen(config->undo) < UNDO_PATH_MAX);
	snprintf(out, PATH_MAX, "%.*s-%u", UNDO_PATH_MAX, config->undo, slot);
}

__attribute__((format(printf, 2, 3)))
static int refuse(char why[WHY_BYTES], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, WHY_BYTES, format, args);
	va_end(args);
	return -EINVAL;
}

static int set_size(const char *value, uint64_t min, uint64_t max, uint64_t *out,
		    char why[WHY_BYTES])
{
	char low[32], high[32];
	int res = size_parse(value, out);

	if (res == -EINVAL)
		return refuse(why, "\"%.64s\" is not a size like 512M or 10G", value);
	if (res < 0 || *out < min || *out > max) {
		size_text(min, low);
		size_text(max, high);
		return refuse(why, "%.64s is out of range, %s to %s are allowed", value, low, high);
	}
	return 0;
}

static int set_text(const char *value, char *out, size_t room, char why[WHY_BYTES])
{
	if (strlen(value) >= room)
		return refuse(why, "the value has %zu bytes, at most %zu are allowed",
			      strlen(value), room - 1);
	memset(out, 0, room);		/* two equal configs are equal in every byte */
	strcpy(out, value);
	return 0;
}

static int set_path(const char *value, char *out, char why[WHY_BYTES])
{
	if (*value != '/')
		return refuse(why, "the path \"%.200s\" is not absolute", value);
	return set_text(value, out, PATH_MAX, why);
}

static int set_bool(const char *value, bool *out, char why[WHY_BYTES])
{
	*out = strcmp(value, "yes") == 0;
	if (*out || strcmp(value, "no") == 0)
		return 0;
	return refuse(why, "\"%.64s\" is neither yes nor no", value);
}

static int set_uuid(struct config *config, const char *value, char why[WHY_BYTES])
{
	if (uuid_parse(value, config->volume.geometry.uuid) < 0)
		return refuse(why, "\"%.64s\" is not a UUID: 32 hex digits, dashes allowed", value);
	return 0;
}

static int set_volume_bytes(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_size(value, VOLUME_BYTES_MIN, VOLUME_BYTES_MAX,
			&config->volume.geometry.volume_bytes, why);
}

static int set_node(struct config *config, const char *value, char why[WHY_BYTES])
{
	int res = name_check(value, why);

	return res < 0 ? res : set_text(value, config->volume.geometry.node, NAME_BYTES, why);
}

static int set_listen(struct config *config, const char *value, char why[WHY_BYTES])
{
	int res = address_check(value, why);

	return res < 0 ? res : set_text(value, config->volume.listen, ADDRESS_BYTES, why);
}

static int set_min_copies(struct config *config, const char *value, char why[WHY_BYTES])
{
	if (value[0] < '1' || value[0] > '0' + PEERS_MAX + 1 || value[1])
		return refuse(why, "\"%.64s\" is not a number of copies from 1 to %d", value,
			      PEERS_MAX + 1);
	config->volume.min_copies = (unsigned)(value[0] - '0');
	return 0;
}

/* One name of the list at *@at, which is behind it then. */
static int commit_name(struct config *config, const char **at, char why[WHY_BYTES])
{
	size_t len = strcspn(*at, " \t,()");
	char name[NAME_BYTES];
	int res;

	if (len >= NAME_BYTES)
		return refuse(why, "the name \"%.80s\" is too long", *at);
	snprintf(name, sizeof name, "%.*s", (int)len, *at);
	res = name_check(name, why);
	if (res < 0)
		return res;
	for (unsigned i = 0; i < config->commit_count; i++)
		if (strcmp(config->commit_names[i], name) == 0)
			return refuse(why, "%s is named twice", name);
	if (config->commit_count == PEERS_MAX)
		return refuse(why, "more than %d names", PEERS_MAX);
	strcpy(config->commit_names[config->commit_count++], name);
	*at += len + strspn(*at + len, " \t");
	return 0;
}

static const char commit_shape[] = "all, local or any K of (NAME, NAME, ...)";

/* "any 2 of (b, c, d)", @at behind "any". Blanks may stand between all parts, and must between words. */
static int set_commit_any(struct config *config, const char *at, const char *value, char why[WHY_BYTES])
{
	unsigned copies;
	int res;

	if (*at < '0' || *at > '9')
		return refuse(why, "\"%.150s\" is not %s", value, commit_shape);
	for (copies = 0; *at >= '0' && *at <= '9' && copies <= PEERS_MAX; at++)
		copies = copies * 10 + (unsigned)(*at - '0');
	if (copies < 1 || copies > PEERS_MAX)
		return refuse(why, "\"%.150s\": K is a number from 1 to %d", value, PEERS_MAX);
	if (strspn(at, " \t") == 0 || strncmp(at + strspn(at, " \t"), "of", 2) != 0)
		return refuse(why, "\"%.150s\" is not %s", value, commit_shape);
	at += strspn(at, " \t") + 2;
	at += strspn(at, " \t");
	if (*at != '(')
		return refuse(why, "\"%.150s\" is not %s", value, commit_shape);
	do {
		at += 1 + strspn(at + 1, " \t");
		res = commit_name(config, &at, why);
		if (res < 0)
			return res;
	} while (*at == ',');
	if (*at != ')' || at[1 + strspn(at + 1, " \t")])
		return refuse(why, "\"%.150s\" is not %s", value, commit_shape);
	if (copies > config->commit_count)
		return refuse(why, "any %u of %u is not possible", copies, config->commit_count);
	config->volume.commit = COMMIT_ANY;
	config->volume.commit_copies = copies;
	return 0;
}

/* The names are those of peers that may be known only later. */
static int set_commit(struct config *config, const char *value, char why[WHY_BYTES])
{
	struct volume_config *volume = &config->volume;

	memset(config->commit_names, 0, sizeof config->commit_names);
	config->commit_count = volume->commit_copies = 0;
	for (unsigned i = 0; i < volume->peer_count; i++)
		volume->peers[i].commit = false;
	volume->commit = strcmp(value, "local") == 0 ? COMMIT_LOCAL : COMMIT_ALL;
	if (volume->commit == COMMIT_LOCAL || strcmp(value, "all") == 0)
		return 0;
	if (strncmp(value, "any", 3) == 0 && (value[3] == ' ' || value[3] == '\t'))
		return set_commit_any(config, value + 3 + strspn(value + 3, " \t"), value, why);
	return refuse(why, "\"%.150s\" is not %s", value, commit_shape);
}

static int set_peer_timeout(struct config *config, const char *value, char why[WHY_BYTES])
{
	uint64_t *ns = &config->volume.peer_timeout_ns;

	if (duration_parse(value, ns) < 0 || *ns < peer_timeout_min_ns || *ns > peer_timeout_max_ns)
		return refuse(why, "\"%.64s\" is not a time from 500ms to 300s", value);
	return 0;
}

static int set_memory(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_size(value, MEMORY_BYTES_MIN, UINT64_C(1) << 40, &config->volume.memory_bytes,
			why);
}

static int set_store(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_path(value, config->store, why);
}

static int set_journal(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_path(value, config->journal, why);
}

static int set_meta(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_path(value, config->meta, why);
}

static int set_bitmap(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_path(value, config->bitmap, why);
}

static int set_undo(struct config *config, const char *value, char why[WHY_BYTES])
{
	if (strlen(value) >= UNDO_PATH_MAX)
		return refuse(why, "the value has %zu bytes, at most %d are allowed", strlen(value), UNDO_PATH_MAX - 1);
	return set_path(value, config->undo, why);
}

static int set_undo_bytes(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_size(value, VOLUME_BYTES_MIN, VOLUME_BYTES_MAX, &config->volume.undo_bytes, why);
}

static int set_resync(struct config *config, const char *value, char why[WHY_BYTES])
{
	config->volume.resync_checksum = strcmp(value, "checksum") == 0;
	if (config->volume.resync_checksum || strcmp(value, "blocks") == 0)
		return 0;
	return refuse(why, "\"%.64s\" is neither blocks nor checksum", value);
}

static int set_resync_rate(struct config *config, const char *value, char why[WHY_BYTES])
{
	uint64_t *rate = &config->volume.resync_rate;

	if (size_parse(value, rate) == 0 && *rate == 0)
		return 0;
	return set_size(value, resync_rate_min, UINT64_C(1) << 40, rate, why);
}

static int set_split_policy(struct config *config, const char *value, char why[WHY_BYTES])
{
	for (enum split_policy policy = SPLIT_NONE; policy < SPLIT_POLICIES; policy++)
		if (strcmp(value, split_policy_name(policy)) == 0) {
			config->volume.split_policy = policy;
			return 0;
		}
	return refuse(why, "\"%.64s\" is none of none, keep-primary, keep-newest, keep-only-writer", value);
}

static int set_journal_bytes(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_size(value, 0, VOLUME_BYTES_MAX, &config->volume.geometry.journal_bytes, why);
}

static int set_journal_block(struct config *config, const char *value, char why[WHY_BYTES])
{
	uint64_t bytes;
	int res = set_size(value, 512, 4096, &bytes, why);

	if (res == 0)
		config->volume.geometry.journal_block = (uint32_t)bytes;
	return res;
}

static int set_segment_bytes(struct config *config, const char *value, char why[WHY_BYTES])
{
	uint64_t bytes;
	int res = set_size(value, 64 << 10, 64 << 20, &bytes, why);

	if (res == 0)
		config->volume.geometry.segment_bytes = (uint32_t)bytes;
	return res;
}

/* Several addresses, separated by blanks. */
static int set_nbd(struct config *config, const char *value, char why[WHY_BYTES])
{
	config->nbd_count = 0;
	for (value += strspn(value, " \t"); *value; value += strspn(value, " \t")) {
		size_t len = strcspn(value, " \t");
		char *address = config->nbd[config->nbd_count];
		int res;

		if (config->nbd_count == NBD_LISTENS_MAX)
			return refuse(why, "more than %d addresses", NBD_LISTENS_MAX);
		if (len >= ADDRESS_BYTES)
			return refuse(why, "the address \"%.140s\" is too long", value);
		memcpy(address, value, len);
		address[len] = 0;
		res = address_check(address, why);
		if (res < 0)
			return res;
		config->nbd_count++;
		value += len;
	}
	return config->nbd_count ? 0 : refuse(why, "no address is given");
}

static int set_nbd_tls(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_path(value, config->nbd_tls, why);
}

static int set_loop(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_bool(value, &config->loop, why);
}

static int set_sqpoll(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_bool(value, &config->sqpoll, why);
}

static int set_filesystem(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_bool(value, &config->volume.filesystem, why);
}

static int set_ca(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_path(value, config->ca, why);
}

static int set_insecure_loopback(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_bool(value, &config->volume.insecure_loopback, why);
}

static int set_mount(struct config *config, const char *value, char why[WHY_BYTES])
{
	return set_path(value, config->mount, why);
}

static const struct {
	const char *name;
	int (*set)(struct config *config, const char *value, char why[WHY_BYTES]);
} keys[] = {
	{ "uuid", set_uuid },
	{ "size", set_volume_bytes },
	{ "node", set_node },
	{ "listen", set_listen },
	{ "commit", set_commit },
	{ "min-copies", set_min_copies },
	{ "peer-timeout", set_peer_timeout },
	{ "memory", set_memory },
	{ "store", set_store },
	{ "journal", set_journal },
	{ "meta", set_meta },
	{ "bitmap", set_bitmap },
	{ "undo", set_undo },
	{ "undo-size", set_undo_bytes },
	{ "resync", set_resync },
	{ "resync-rate", set_resync_rate },
	{ "split-brain", set_split_policy },
	{ "journal-size", set_journal_bytes },
	{ "journal-block", set_journal_block },
	{ "segment", set_segment_bytes },
	{ "nbd", set_nbd },
	{ "nbd-tls", set_nbd_tls },
	{ "loop", set_loop },
	{ "sqpoll", set_sqpoll },
	{ "ca", set_ca },
	{ "insecure-loopback", set_insecure_loopback },
	{ "filesystem", set_filesystem },
	{ "mount", set_mount },
};

int config_key(const char *key)
{
	for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (strcmp(keys[i].name, key) == 0)
			return (int)i;
	return -ENOENT;
}

int config_set(struct config *config, const char *key, const char *value, char why[WHY_BYTES])
{
	int index = config_key(key);

	if (index < 0) {
		snprintf(why, WHY_BYTES, "there is no such key");
		return index;
	}
	if (!*value)
		return refuse(why, "the value is empty");
	return keys[index].set(config, value, why);
}

int config_peer_find(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->volume.peer_count; i++)
		if (strcmp(config->volume.peers[i].name, name) == 0)
			return (int)i;
	return -ENOENT;
}

int config_peer_add(struct config *config, const char *name, const char *address, const char *mode,
		    char why[WHY_BYTES])
{
	struct volume_config *volume = &config->volume;
	struct volume_peer_config peer = { .mode = MODE_C };
	int res = name_check(name, why);

	if (res == 0)
		res = address_check(address, why);
	if (res < 0)
		return res;
	if (mode && mode_parse(mode, &peer.mode) < 0)
		return refuse(why, "the mode \"%.64s\" is none of A B C D", mode);
	if (config_peer_find(config, name) >= 0) {
		snprintf(why, WHY_BYTES, "there is a peer %s already", name);
		return -EEXIST;
	}
	if (volume->peer_count == PEERS_MAX) {
		snprintf(why, WHY_BYTES, "there are %d peers already, the most allowed", PEERS_MAX);
		return -ENOSPC;
	}
	strcpy(peer.name, name);
	strcpy(peer.address, address);
	volume->peers[volume->peer_count++] = peer;
	return 0;
}

int config_peer_pin(struct volume_peer_config *peer, const char *value, char why[WHY_BYTES])
{
	memset(peer->fingerprint, 0, sizeof peer->fingerprint);
	peer->pinned = strcmp(value, "none") != 0;
	if (!peer->pinned || fingerprint_parse(value, peer->fingerprint) == 0)
		return 0;
	peer->pinned = false;
	return refuse(why, "\"%.80s\" is no fingerprint: sha256: and 64 hex digits, as `holdfast identity` prints it "
		      "on that node; or none", value);
}

int config_commit_resolve(struct config *config, char why[WHY_BYTES])
{
	for (unsigned i = 0; i < config->commit_count; i++) {
		int index = config_peer_find(config, config->commit_names[i]);

		if (index < 0)
			return refuse(why, "commit names %s, which is none of the peers",
				      config->commit_names[i]);
		config->volume.peers[index].commit = true;
	}
	memset(config->commit_names, 0, sizeof config->commit_names);
	config->commit_count = 0;
	return commit_check(&config->volume, why);
}

int config_links_check(const struct config *config, char why[WHY_BYTES])
{
	const struct volume_config *volume = &config->volume;

	for (unsigned i = 0; i < volume->peer_count; i++) {
		const struct volume_peer_config *peer = &volume->peers[i];
		const char *elsewhere = !address_is_local(peer->address) ? peer->address :
					*volume->listen && !address_is_local(volume->listen) ? volume->listen : NULL;

		if (peer_config_encrypted(peer) || (volume->insecure_loopback && !elsewhere))
			continue;
		if (volume->insecure_loopback)
			refuse(why, "peer %s has no fingerprint, and %s is reached from other machines: "
			       "insecure-loopback is for 127.0.0.1, [::1] and unix sockets only; print the "
			       "fingerprint there with: holdfast identity %s, and set it here with: holdfast peer %s "
			       "fingerprint %s sha256:...", peer->name, elsewhere, volume->name, volume->name,
			       peer->name);
		else
			refuse(why, "peer %s has no fingerprint, so nobody could tell who is there; print it on that "
			       "node with: holdfast identity %s, and set it here with: holdfast peer %s fingerprint %s "
			       "sha256:...", peer->name, volume->name, volume->name, peer->name);
		return -EPERM;
	}
	return 0;
}

/* Whether two of a replica's files have the same path. */
static bool files_collide(const struct config *config)
{
	const char *files[] = { config->store, config->journal, config->meta, config->bitmap };
	enum { FILES = sizeof files / sizeof files[0] };
	char undo[PATH_MAX];

	for (unsigned i = 0; i < FILES; i++) {
		for (unsigned j = 0; j < i; j++)
			if (strcmp(files[i], files[j]) == 0)
				return true;
		for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
			config_undo_path(config, slot, undo);
			if (strcmp(files[i], undo) == 0)
				return true;
		}
	}
	return false;
}

int config_check(struct config *config, char why[WHY_BYTES])
{
	struct volume_config *volume = &config->volume;
	static const uint8_t no_uuid[UUID_BYTES];

	if (memcmp(volume->geometry.uuid, no_uuid, UUID_BYTES) == 0)
		return refuse(why, "uuid is missing");
	if (volume->geometry.volume_bytes == 0)
		return refuse(why, "size is missing");
	if (!*volume->geometry.node)
		return refuse(why, "node is missing");
	if (config_peer_find(config, volume->geometry.node) >= 0)
		return refuse(why, "the peer %s has the name of this node", volume->geometry.node);
	if (volume->min_copies > volume->peer_count + 1)
		return refuse(why, "min-copies is %u, but there are only %u nodes",
			      volume->min_copies, volume->peer_count + 1);
	if (config_commit_resolve(config, why) < 0)
		return -EINVAL;
	if (volume->filesystem && volume->geometry.volume_bytes < FILESYSTEM_BYTES_MIN)
		return refuse(why, "a volume with a filesystem has at least %llu MiB", FILESYSTEM_BYTES_MIN >> 20);
	if (*config->mount && !volume->filesystem)
		return refuse(why, "mount is set, but filesystem is not yes");
	for (unsigned i = 0; i < config->nbd_count; i++)
		if (!address_is_local(config->nbd[i]) && !*config->nbd_tls)
			return refuse(why, "nbd: the address \"%s\" is not loopback, and nbd-tls is not set; set it, "
				      "or use 127.0.0.1, [::1] or unix:", config->nbd[i]);
	for (unsigned i = 0; i < volume->peer_count; i++)
		volume->peers[i].certified = *config->ca && !volume->peers[i].pinned;
	if (files_collide(config))
		return refuse(why, "store, journal, meta, bitmap and undo must be different files");
	return geometry_check(&volume->geometry, why);
}
