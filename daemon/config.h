/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's config file and where a node keeps things under its root. Config and paths are the same for
 * the daemon and the CLI.
 *
 *	ROOT/etc/holdfast/VOLUME.conf
 *	ROOT/var/lib/holdfast/VOLUME/{store,journal,meta,bitmap,undo-0,undo-1,undo-2,undo-3}
 *	ROOT/run/holdfast/VOLUME.sock, VOLUME.pid, VOLUME.nbd, VOLUME/volume (the loop front end's mount)
 *
 * The file, read by inih; unknown sections and keys are errors:
 *
 *	[volume]
 *	uuid = 6f1c...			32 hex digits, dashes allowed
 *	size = 10G			bytes, or K M G T (powers of 1024)
 *	node = a			letters, digits, - _ . ; not starting with a dot or dash
 *	listen = 127.0.0.1:7701		for peers; left out = no peers may dial
 *	commit = all			whom a write waits for: all | local | any K of (NAME, ...)
 *	min-copies = 1			of commit = all
 *	peer-timeout = 5s		ms or s; 500ms to 300s
 *	memory = 256M
 *	store = PATH  journal = PATH  meta = PATH		default: under ROOT/var/lib
 *	bitmap = PATH  undo = PATH	the same; undo is the beginning of four names: PATH-0 to PATH-3
 *	journal-size = 256M  journal-block = 4096  segment = 8M
 *	undo-size = 10G			what one file of undo may keep; left out = a tenth of the volume
 *	resync = blocks			what a resync from here sends: blocks | checksum (hashes, then what differs)
 *	resync-rate = 100M		a resync from here, bytes per second and peer at most; 0 or left out = no cap
 *	split-brain = none		none | keep-primary | keep-newest | keep-only-writer (include/volume.h)
 *	nbd = 127.0.0.1:10809 		besides the unix socket VOLUME.nbd; several separated by spaces
 *	nbd-tls = DIR			there are ca-cert.pem, server-cert.pem and server-key.pem, as qemu and libnbd
 *					name them: clients may use TLS, and must at addresses other than loopback's
 *	loop = yes			offer the loop front end (yes|no, default yes)
 *	sqpoll = no
 *	ca = FILE			certificates (PEM) of an authority, and those between it and the nodes: a peer
 *					without a fingerprint is who a certificate of it says, by its name (CN)
 *	insecure-loopback = no		yes: peers without a fingerprint are met in the clear; only when all addresses,
 *					listen and theirs, are loopback's or unix sockets, and their configs say it too
 *	filesystem = no			yes: a filesystem of our own lies on the volume, to be mounted as a directory
 *	mount = DIR			of filesystem = yes: `up` mounts it there
 *
 *	[peer b]
 *	address = 127.0.0.1:7702
 *	mode = C			A B C D, default C
 *	fingerprint = sha256:9F...	of b's key, as `holdfast identity` prints it there: the link to b is encrypted,
 *					and b has to prove this key. Without it there is no link to b, but for ca and
 *					insecure-loopback, and the daemon does not start
 */
#ifndef HOLDFAST_CONFIG_H
#define HOLDFAST_CONFIG_H

#include <limits.h>
#include <stdbool.h>

#include "volume.h"

enum { NBD_LISTENS_MAX = 3 };

struct config {
	struct volume_config volume;	/* its file ids are -1 */
	char store[PATH_MAX], journal[PATH_MAX], meta[PATH_MAX], bitmap[PATH_MAX];
	char undo[PATH_MAX];		/* what the names of the files of undo begin with: config_undo_path() */
	unsigned nbd_count;
	char nbd[NBD_LISTENS_MAX][ADDRESS_BYTES];
	bool loop, sqpoll;
	char ca[PATH_MAX];		/* "" = peers are known by their fingerprints only */
	char nbd_tls[PATH_MAX];		/* "" = NBD is not encrypted */
	char mount[PATH_MAX];		/* "" = `up` mounts nothing */
	/* The names of `commit = any K of` whose peers have not been looked for yet: none after config_check(). */
	unsigned commit_count;
	char commit_names[PEERS_MAX][NAME_BYTES];
};

struct paths {
	char config[PATH_MAX], state[PATH_MAX], run[PATH_MAX];	/* run, state: directories */
	char control[PATH_MAX], pid[PATH_MAX], nbd[PATH_MAX], mount[PATH_MAX], mount_file[PATH_MAX];
};

/* -EINVAL for a bad volume name, -ENAMETOOLONG; @why says it. @root "" or "/" is the machine itself. */
MUST_CHECK int paths_of(struct paths *out, const char *root, const char *volume, char why[WHY_BYTES]);

/* Reads one volume's config. -ENOENT, -EINVAL; @why names file, line, key, reason. */
MUST_CHECK int config_read(struct config *out, const struct paths *paths, const char *volume,
			   char why[WHY_BYTES]);
/* The same from text in memory, of any content (a fuzzer calls it). @file is for messages. */
MUST_CHECK int config_parse(struct config *out, const char *text, size_t len, const char *file,
			    const struct paths *paths, const char *volume, char why[WHY_BYTES]);
/* Writes it so that config_read() gives the same; by rename, mode 0600, so that it is whole or absent. */
MUST_CHECK int config_write(const struct config *config, const struct paths *paths, char why[WHY_BYTES]);

/* The path of the file of undo of slot @slot. */
void config_undo_path(const struct config *config, unsigned slot, char out[PATH_MAX]);

/* "10G" and the like; -EINVAL, -ERANGE. */
MUST_CHECK int size_parse(const char *text, uint64_t *bytes);
MUST_CHECK int uuid_parse(const char *text, uint8_t uuid[UUID_BYTES]);
/* 36 characters and the 0. */
void uuid_text(const uint8_t uuid[UUID_BYTES], char out[37]);
/* "12.3 GiB"; out has at least 32 bytes. */
void size_text(uint64_t bytes, char out[32]);

#endif
