/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of extract know of each other: extract.c (the walk), extract_tar.c (one entry of the archive). */
#ifndef HOLDFAST_EXTRACT_PRIVATE_H
#define HOLDFAST_EXTRACT_PRIVATE_H

#include <archive.h>
#include <archive_entry.h>

#include "extract.h"
#include "files.h"

/* A directory that was gone into, or a file with several names: its first one. */
struct extract_seen { uint64_t ino; char *path; };

/* A directory that is being walked. */
struct extract_level { uint64_t ino, cookie; size_t path_len; };

struct extract {
	struct extract_options options;
	struct stopped *stopped;
	struct files files;
	struct archive *archive;	/* NULL: names only */
	struct archive_entry *entry;
	uint8_t *buffer;		/* EXTRACT_BUFFER_BYTES */
	const uint8_t *zeros;		/* EXTRACT_ZEROS_BYTES, never touched */
	char *path;			/* of what is being looked at */
	size_t path_len, path_room;
	struct extract_level *levels;
	size_t level_count, level_room;
	struct extract_seen *seen;	/* by inode; open addressing; ino 0 = free */
	size_t seen_count, seen_room;
	struct extract_figures figures;
	int ended;			/* -ECANCELED: the archive or memory failed, and `why` says it */
	char why[WHY_BYTES];
	struct file_plan plan;		/* of a part of the file under way, ... */
	uint64_t plan_ino;		/* ... this one */
	uint64_t damages, item_damages;	/* of the filesystem, as counted before the operation under way */
};

enum { EXTRACT_BUFFER_BYTES = 1 << 20, EXTRACT_ZEROS_BYTES = 1 << 30 };

/* Before an operation of the filesystem: so that extract_reason() knows what that met. */
void extract_ask(struct extract *x);
/* Why it failed. Static, or good until the next one. */
const char *extract_reason(struct extract *x, int error, char out[WHY_BYTES]);
/* Of x->path: it is lost, or only in part there. */
void extract_lost(struct extract *x, const char *what);
void extract_note(struct extract *x, const char *what);
/* This is the end. Returns -ECANCELED. */
__attribute__((format(printf, 2, 3))) int extract_fail(struct extract *x, const char *format, ...);
/* The first place behind @bad, below @end, at which probe() is 0, as long as places are bad up to one and good from
 * there; @end when there is none. */
uint64_t extract_behind(struct extract *x, uint64_t bad, uint64_t end, int (*probe)(struct extract *x, uint64_t at));

/* What is at x->path, inode @a->ino, into the archive; @link: it is there already, under that name. -ECANCELED. */
MUST_CHECK int extract_entry(struct extract *x, const struct attributes *a, const char *link);

#endif
