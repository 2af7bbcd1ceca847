/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing a config. inih splits lines into keys and values; the reader that we give it
 * counts the lines, sees each section begin, and stops at what inih would cut off in silence. The
 * first refusal ends the reading and is the only one told. */
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "auto.h"
#include "config.h"
#include "config_edit.h"
#include "config_text.h"
#include "identity.h"

enum {
	CONFIG_BYTES_MAX = 64 << 10,	/* all keys and PEERS_MAX peers need less than 16 KiB */
	SECTION_BYTES_MAX = 49,		/* inih cuts off the rest */
};

enum section { SECTION_NONE, SECTION_VOLUME, SECTION_PEER };

struct parser {
	struct config *out;
	const char *at, *end, *file;
	char *why;
	unsigned line;			/* that inih is at, from 1 */
	int result;			/* 0, or the first refusal, which @why tells */
	enum section section;
	bool volume_seen;
	uint64_t keys_seen;		/* of [volume] */
	unsigned commit_line;		/* 0 = there is none */
	unsigned peer_line;		/* where the section of @peer began */
	char peer[SECTION_BYTES_MAX + 1], peer_address[ADDRESS_BYTES], peer_mode[8];
	char peer_fingerprint[FINGERPRINT_TEXT_BYTES];
};

/* ---- paths -------------------------------------------------------------------------------- */

/* A volume's name may not make its mount directory another volume's socket: VOLUME and
 * VOLUME.sock. */
static bool name_reserved(const char *name)
{
	static const char *const endings[] = { ".sock", ".pid", ".nbd", ".conf", ".new" };

	for (unsigned i = 0; i < sizeof endings / sizeof endings[0]; i++) {
		size_t len = strlen(name), ending = strlen(endings[i]);

		if (len > ending && strcmp(name + len - ending, endings[i]) == 0)
			return true;
	}
	return false;
}

int paths_of(struct paths *out, const char *root, const char *volume, char why[WHY_BYTES])
{
	struct sockaddr_un un;
	size_t len = strlen(root);
	int res = name_check(volume, why);

	if (res < 0)
		return res;
	if (name_reserved(volume)) {
		snprintf(why, WHY_BYTES, "the volume name \"%s\" ends like one of our own files",
			 volume);
		return -EINVAL;
	}
	while (len > 0 && root[len - 1] == '/')
		len--;
	/* No path below adds more than this to the root. */
	if (len + 128 + 2 * NAME_BYTES > PATH_MAX) {
		snprintf(why, WHY_BYTES, "the root's path has %zu bytes, which is too long", len);
		return -ENAMETOOLONG;
	}
	snprintf(out->config, PATH_MAX, "%.*s/etc/holdfast/%s.conf", (int)len, root, volume);
	snprintf(out->state, PATH_MAX, "%.*s/var/lib/holdfast/%s", (int)len, root, volume);
	snprintf(out->run, PATH_MAX, "%.*s/run/holdfast", (int)len, root);
	snprintf(out->control, PATH_MAX, "%.*s/run/holdfast/%s.sock", (int)len, root, volume);
	snprintf(out->pid, PATH_MAX, "%.*s/run/holdfast/%s.pid", (int)len, root, volume);
	snprintf(out->nbd, PATH_MAX, "%.*s/run/holdfast/%s.nbd", (int)len, root, volume);
	snprintf(out->mount, PATH_MAX, "%.*s/run/holdfast/%s", (int)len, root, volume);
	snprintf(out->mount_file, PATH_MAX, "%.*s/run/holdfast/%s/volume", (int)len, root, volume);
	if (strlen(out->control) >= sizeof un.sun_path) {
		snprintf(why, WHY_BYTES,
			 "the socket %.200s has a path of %zu bytes, at most %zu are possible; "
			 "use a shorter root or volume name",
			 out->control, strlen(out->control), sizeof un.sun_path - 1);
		return -ENAMETOOLONG;
	}
	return 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4)))
static int refuse(struct parser *p, unsigned line, const char *format, ...)
{
	char reason[WHY_BYTES];
	va_list args;

	if (p->result < 0)
		return p->result;
	va_start(args, format);
	vsnprintf(reason, sizeof reason, format, args);
	va_end(args);
	if (line)
		snprintf(p->why, WHY_BYTES, "%.200s:%u: %.280s", p->file, line, reason);
	else
		snprintf(p->why, WHY_BYTES, "%.200s: %.290s", p->file, reason);
	p->result = -EINVAL;
	return p->result;
}

/* A peer is added when its section is over, and all of it is known. */
static void section_end(struct parser *p)
{
	struct volume_config *volume = &p->out->volume;
	char why[WHY_BYTES];

	if (p->section != SECTION_PEER || p->result < 0)
		return;
	if (!*p->peer_address)
		refuse(p, p->peer_line, "[peer %s]: address is missing", p->peer);
	else if (config_peer_add(p->out, p->peer, p->peer_address,
				 *p->peer_mode ? p->peer_mode : NULL, why) < 0 ||
		 (*p->peer_fingerprint &&
		  config_peer_pin(&volume->peers[volume->peer_count - 1], p->peer_fingerprint, why) < 0))
		refuse(p, p->peer_line, "[peer %s]: %.250s", p->peer, why);
}

/* @name has no 0 and ends before @len. */
static void section_begin(struct parser *p, const char *name, size_t len)
{
	section_end(p);
	if (len > SECTION_BYTES_MAX) {
		refuse(p, p->line, "the section's name has %zu bytes, at most %d are possible", len,
		       SECTION_BYTES_MAX);
	} else if (len == 6 && memcmp(name, "volume", 6) == 0) {
		if (p->volume_seen)
			refuse(p, p->line, "[volume] is here twice");
		p->section = SECTION_VOLUME;
		p->volume_seen = true;
	} else if (len > 5 && memcmp(name, "peer ", 5) == 0) {
		size_t blanks = strspn(name + 4, " \t");

		p->section = SECTION_PEER;
		p->peer_line = p->line;
		*p->peer_address = *p->peer_mode = *p->peer_fingerprint = 0;
		snprintf(p->peer, sizeof p->peer, "%.*s", (int)(len - 4 - blanks),
			 name + 4 + blanks);
	} else {
		refuse(p, p->line, "[%.*s] is neither [volume] nor [peer NAME]", (int)len, name);
	}
}

/* What inih would pass over, cut off, or take for something else. */
static void line_check(struct parser *p, const char *line, size_t len, int room)
{
	const char *close;

	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f) {
			refuse(p, p->line, "there is a control character (%#04x)",
			       (unsigned char)line[i]);
			return;
		}
	if (len + 2 > (size_t)room) {
		refuse(p, p->line, "the line has %zu bytes, at most %d are possible", len,
		       room - 2);
		return;
	}
	if (len == 0 || line[0] != '[')
		return;
	close = memchr(line, ']', len);
	if (!close || memchr(line, ';', (size_t)(close - line))) {
		refuse(p, p->line, "the section has no closing bracket");
		return;
	}
	for (const char *rest = close + 1; rest < line + len; rest++) {
		if (*rest == ';' || *rest == '#')
			break;
		if (*rest != ' ' && *rest != '\t') {
			refuse(p, p->line, "there is something after the section's bracket");
			return;
		}
	}
	section_begin(p, line + 1, (size_t)(close - line - 1));
}

/* inih's fgets(). Leading blanks are left out: it would take the line for more of the value
 * before. */
static char *line_read(char *out, int room, void *stream)
{
	struct parser *p = stream;
	const char *end;
	size_t len;

	if (p->result < 0 || p->at == p->end)
		return NULL;
	p->line++;
	end = memchr(p->at, '\n', (size_t)(p->end - p->at));
	if (!end)
		end = p->end;
	if (p->line == 1 && end - p->at >= 3 && memcmp(p->at, "\xef\xbb\xbf", 3) == 0)
		p->at += 3;
	while (p->at < end && (*p->at == ' ' || *p->at == '\t'))
		p->at++;
	len = (size_t)(end - p->at);
	if (len > 0 && p->at[len - 1] == '\r')
		len--;
	line_check(p, p->at, len, room);
	if (p->result < 0)
		return NULL;
	memcpy(out, p->at, len);
	out[len] = '\n';
	out[len + 1] = 0;
	p->at = end < p->end ? end + 1 : end;
	return out;
}

static int volume_key(struct parser *p, const char *name, const char *value)
{
	char why[WHY_BYTES];
	int key = config_key(name);

	if (key < 0)
		return refuse(p, p->line, "[volume] has no key \"%.64s\"", name);
	if (p->keys_seen & UINT64_C(1) << key)
		return refuse(p, p->line, "%s is here twice", name);
	p->keys_seen |= UINT64_C(1) << key;
	if (strcmp(name, "commit") == 0)
		p->commit_line = p->line;
	if (config_set(p->out, name, value, why) < 0)
		return refuse(p, p->line, "%s: %.250s", name, why);
	return 0;
}

static int peer_key(struct parser *p, const char *name, const char *value)
{
	bool address = strcmp(name, "address") == 0, mode = strcmp(name, "mode") == 0;
	char *out = address ? p->peer_address : mode ? p->peer_mode : p->peer_fingerprint;
	size_t room = address ? sizeof p->peer_address : mode ? sizeof p->peer_mode : sizeof p->peer_fingerprint;

	if (!address && !mode && strcmp(name, "fingerprint") != 0)
		return refuse(p, p->line, "[peer] has no key \"%.64s\"", name);
	if (*out)
		return refuse(p, p->line, "%s is here twice", name);
	if (!*value)
		return refuse(p, p->line, "%s: the value is empty", name);
	if (strlen(value) >= room)
		return refuse(p, p->line, "%s: the value has %zu bytes, at most %zu are allowed",
			      name, strlen(value), room - 1);
	strcpy(out, value);
	return 0;
}

/* inih's handler: 1 = go on. */
static int key_read(void *context, const char *section, const char *name, const char *value)
{
	struct parser *p = context;

	(void)section;		/* section_begin() has it already, in full */
	if (p->result < 0)
		return 0;
	switch (p->section) {
	case SECTION_VOLUME:
		return volume_key(p, name, value) == 0;
	case SECTION_PEER:
		return peer_key(p, name, value) == 0;
	case SECTION_NONE:
		break;
	}
	refuse(p, p->line, "\"%.64s\" stands before any section", name);
	return 0;
}

int config_parse(struct config *out, const char *text, size_t len, const char *file,
		 const struct paths *paths, const char *volume, char why[WHY_BYTES])
{
	struct parser p = { .out = out, .at = text, .end = text + len, .file = file, .why = why };
	char reason[WHY_BYTES];
	int bad_line;

	config_init(out, paths, volume);
	if (name_check(volume, reason) < 0)
		return refuse(&p, 0, "%.250s", reason);
	if (len > CONFIG_BYTES_MAX)
		return refuse(&p, 0, "it has %zu bytes, at most %d are allowed", len,
			      CONFIG_BYTES_MAX);
	bad_line = ini_parse_stream(line_read, &p, key_read, &p);
	/* Lines without a key are inih's to find; it goes on after them. */
	if (bad_line != 0 && (p.result == 0 || (bad_line > 0 && (unsigned)bad_line < p.line))) {
		p.result = 0;
		return refuse(&p, bad_line > 0 ? (unsigned)bad_line : 0,
			      "neither [section] nor KEY = VALUE");
	}
	section_end(&p);
	if (p.result < 0)
		return p.result;
	if (!p.volume_seen)
		return refuse(&p, 0, "there is no [volume]");
	if (config_commit_resolve(out, reason) < 0)
		return refuse(&p, p.commit_line, "%.280s", reason);
	if (config_check(out, reason) < 0)
		return refuse(&p, 0, "%.290s", reason);
	return 0;
}

/* The whole of @fd, at most @room bytes; -errno. */
static ssize_t read_all(int fd, char *out, size_t room)
{
	size_t len = 0;

	while (len < room) {
		ssize_t got = read(fd, out + len, room - len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		len += (size_t)got;
	}
	return (ssize_t)len;
}

int config_read(struct config *out, const struct paths *paths, const char *volume,
		char why[WHY_BYTES])
{
	AUTO_CLOSE int fd = open(paths->config, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = malloc(CONFIG_BYTES_MAX + 1);
	ssize_t len = text ? 0 : -ENOMEM;

	if (fd < 0)
		len = -errno;
	if (len == 0)
		len = read_all(fd, text, CONFIG_BYTES_MAX + 1);
	if (len < 0) {
		snprintf(why, WHY_BYTES, "%.300s: %s", paths->config, strerror((int)-len));
		return (int)len;
	}
	return config_parse(out, text, (size_t)len, paths->config, paths, volume, why);
}

/* ---- writing ------------------------------------------------------------------------------ */

static void print_size(FILE *f, const char *key, uint64_t bytes, uint64_t without)
{
	char text[24];

	size_exact_text(bytes, text);
	if (bytes != without)
		fprintf(f, "%s = %s\n", key, text);
}

static void print_text(FILE *f, const char *key, const char *value, const char *without)
{
	if (strcmp(value, without) != 0)
		fprintf(f, "%s = %s\n", key, value);
}

static void config_resync_print(const struct volume_config *volume, FILE *f)
{
	print_size(f, "undo-size", volume->undo_bytes, 0);
	if (volume->resync_checksum)
		fprintf(f, "resync = checksum\n");
	print_size(f, "resync-rate", volume->resync_rate, 0);
	if (volume->split_policy != SPLIT_NONE)
		fprintf(f, "split-brain = %s\n", split_policy_name(volume->split_policy));
}

static void config_peer_print(const struct volume_peer_config *peer, FILE *f)
{
	char fingerprint[FINGERPRINT_TEXT_BYTES];

	fprintf(f, "\n[peer %s]\naddress = %s\nmode = %s\n", peer->name, peer->address,
		replication_mode_name(peer->mode));
	fingerprint_text(peer->fingerprint, fingerprint);
	if (peer->pinned)
		fprintf(f, "fingerprint = %s\n", fingerprint);
}

/* What is as config_init() has it is left out, but for what an operator looks for. */
static void config_print(const struct config *config, const struct config *without, FILE *f)
{
	const struct volume_config *volume = &config->volume;
	char uuid[37], commit[WHY_BYTES];

	uuid_text(volume->geometry.uuid, uuid);
	fprintf(f, "[volume]\nuuid = %s\n", uuid);
	print_size(f, "size", volume->geometry.volume_bytes, 0);
	fprintf(f, "node = %s\n", volume->geometry.node);
	print_text(f, "listen", volume->listen, "");
	commit_text(volume, commit);
	fprintf(f, "commit = %s\n", commit);
	if (volume->commit == COMMIT_ALL)
		fprintf(f, "min-copies = %u\n", volume->min_copies);
	if (volume->peer_timeout_ns != without->volume.peer_timeout_ns)
		fprintf(f, "peer-timeout = %" PRIu64 "ms\n", volume->peer_timeout_ns / 1000000);
	print_size(f, "memory", volume->memory_bytes, without->volume.memory_bytes);
	print_text(f, "store", config->store, without->store);
	print_text(f, "journal", config->journal, without->journal);
	print_text(f, "meta", config->meta, without->meta);
	print_text(f, "bitmap", config->bitmap, without->bitmap);
	print_text(f, "undo", config->undo, without->undo);
	print_size(f, "journal-size", volume->geometry.journal_bytes, 0);
	print_size(f, "journal-block", volume->geometry.journal_block, 0);
	print_size(f, "segment", volume->geometry.segment_bytes, 0);
	config_resync_print(volume, f);
	for (unsigned i = 0; i < config->nbd_count; i++)
		fprintf(f, "%s%s", i ? " " : "nbd = ", config->nbd[i]);
	fprintf(f, "%s", config->nbd_count && *config->nbd_tls ? "\n" : "");
	print_text(f, "nbd-tls", config->nbd_tls, "");
	fprintf(f, "%sloop = %s\n", config->nbd_count && !*config->nbd_tls ? "\n" : "", config->loop ? "yes" : "no");
	if (config->sqpoll)
		fprintf(f, "sqpoll = yes\n");
	print_text(f, "ca", config->ca, "");
	if (volume->insecure_loopback)
		fprintf(f, "insecure-loopback = yes\n");
	if (volume->filesystem)
		fprintf(f, "filesystem = yes\n");
	print_text(f, "mount", config->mount, "");
	for (unsigned i = 0; i < volume->peer_count; i++)
		config_peer_print(&volume->peers[i], f);
}

/* Everything of @config but what @without has already. *out is the caller's. */
static int config_text(const struct config *config, const struct config *without, char **out,
		       size_t *len)
{
	FILE *f = open_memstream(out, len);

	if (!f)
		return -ENOMEM;
	config_print(config, without, f);
	return fclose(f) == 0 ? 0 : -ENOMEM;
}

/* Refuses what would not be read back as @config: a path with " ;" in it, say. */
static int config_text_check(const struct config *config, const struct paths *paths,
			     const char *text, size_t len, char why[WHY_BYTES])
{
	static const struct config nothing;
	AUTO_FREE struct config *back = malloc(sizeof *back);
	AUTO_FREE char *wanted = NULL, *got = NULL;
	size_t wanted_len = 0, got_len = 0;
	int res;

	if (!back)
		return -ENOMEM;
	res = config_parse(back, text, len, paths->config, paths, config->volume.name, why);
	if (res < 0)
		return res;
	if (config_text(config, &nothing, &wanted, &wanted_len) < 0 ||
	    config_text(back, &nothing, &got, &got_len) < 0)
		return -ENOMEM;
	if (wanted_len != got_len || memcmp(wanted, got, got_len) != 0) {
		snprintf(why, WHY_BYTES, "%.300s: a value has characters that a config cannot hold",
			 paths->config);
		return -EINVAL;
	}
	return 0;
}

int parents_make(const char *path)
{
	char parent[PATH_MAX];

	snprintf(parent, sizeof parent, "%s", path);
	for (char *slash = strchr(parent + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(parent, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t done = write(fd, text, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		text += done;
		len -= (size_t)done;
	}
	return 0;
}

/* @path holds @text, whole and durable, or is as it was. */
static int file_replace(const char *path, const char *text, size_t len)
{
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
	char fresh[PATH_MAX + 8], directory[PATH_MAX];
	int res;

	snprintf(fresh, sizeof fresh, "%s.new", path);
	snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
	res = parents_make(path);
	if (res < 0)
		return res;
	AUTO_CLOSE int at = open(*directory ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int fd = at < 0 ? -1 : open(fresh, flags, 0600);

	if (at < 0 || fd < 0)
		return -errno;
	res = write_all(fd, text, len);
	if (res == 0 &&
	    (fchmod(fd, 0600) < 0 || fsync(fd) < 0 || rename(fresh, path) < 0 || fsync(at) < 0))
		res = -errno;
	if (res < 0)
		unlink(fresh);
	return res;
}

int config_write(const struct config *config, const struct paths *paths, char why[WHY_BYTES])
{
	AUTO_FREE struct config *defaults = malloc(sizeof *defaults);
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int res = -ENOMEM;

	*why = 0;
	if (defaults) {
		config_init(defaults, paths, config->volume.name);
		res = config_text(config, defaults, &text, &len);
	}
	if (res == 0)
		res = config_text_check(config, paths, text, len, why);
	if (res == 0)
		res = file_replace(paths->config, text, len);
	if (res < 0 && !*why)
		snprintf(why, WHY_BYTES, "%.300s: %s", paths->config, strerror(-res));
	return res;
}
