/* SPDX-License-Identifier: Apache-2.0 */
/* A stopped replica, read and never written: store, journal, meta and undo as they lie there, after a clean stop, a
 * kill, or a loss of power. Its blocks are what they would be if the replica was opened (blk/volume_open.c), so every
 * way out of a bad day begins here: the log's changes since meta's tail on top of the store, or, in the midst of a
 * resync, the snapshot that undo keeps.
 *
 * Every call is synchronous: reads go through struct stopped_files. Memory: a page cache of STOPPED_PAGES, two buffers
 * of a record's size, of a resync 32.5 MiB per TiB of volume, and an index of the log (redo.h).
 */
#ifndef HOLDFAST_STOPPED_H
#define HOLDFAST_STOPPED_H

#include "blocks.h"
#include "history.h"
#include "io.h"

enum { STOPPED_PAGES = 4096 };		/* 16 MiB; one transaction can look at no more */

/* The files of a replica; of undo, the first of UNDO_SLOTS. */
enum stopped_file { STOPPED_STORE, STOPPED_JOURNAL, STOPPED_META, STOPPED_UNDO };

struct stopped_files {
	/* All @len bytes at @offset, of any alignment. 0, or -errno; -EIO at the end of the file. */
	int (*read)(struct stopped_files *files, unsigned file, uint64_t offset, void *out, size_t len);
};

enum stopped_view {
	STOPPED_LOG,		/* all of the log that is whole: what this node would be primary with */
	STOPPED_OPEN,		/* what an open shows before anybody was met: as far as it is known to be committed, and
				 * as far as the store may have got */
};

struct stopped_options {
	const struct geometry *geometry;	/* that it must have; NULL: whatever its meta says */
	enum stopped_view view;
	bool force;			/* a replica that no open would take, or show, is read all the same, as
					 * well as it can be: stopped_doubt() says what is wrong with it */
};

struct stopped;

/* Reads meta, undo's headers and all of the log. @files, and what @io allots (nothing else is asked of @io), stay until
 * stopped_free(). -EUCLEAN: damaged, or inconsistent, but it can be forced; -EBADMSG: meta has no whole copy, another
 * geometry, or is a newer program's; -ENOMEM; -errno of a read; then *out is NULL and @why one sentence. */
MUST_CHECK int stopped_new(struct stopped **out, struct io *io, struct stopped_files *files,
			   const struct stopped_options *options, char why[WHY_BYTES]);
/* NULL is fine. */
void stopped_free(struct stopped *s);

/* Its blocks: nothing is ever -EAGAIN, so ready() is never called. Every change says -EROFS; commit() of nothing is 0.
 * read(): -EIO as stopped_read(), -E2BIG after STOPPED_PAGES different blocks in one transaction. */
struct blocks *stopped_blocks(struct stopped *s);
/* @count blocks into @out. -EIO: one of them cannot be read; stopped_why() says which file and place. */
MUST_CHECK int stopped_read(struct stopped *s, uint64_t block, uint32_t count, void *out);
/* A sentence on the last read that failed; "" before. */
const char *stopped_why(const struct stopped *s);
/* What was forced: a sentence, or "" when nothing is wrong with it. */
const char *stopped_doubt(const struct stopped *s);

struct stopped_status {
	struct geometry geometry;
	uint64_t lsn;			/* its blocks are the volume as of here */
	uint64_t log_end;		/* what is whole in the journal ends here */
	uint64_t commit;		/* committed at least, as far as this replica knows by itself */
	bool resync;			/* in the midst of one: its blocks are the snapshot of before */
	uint64_t redo_bytes;		/* memory of the index */
	struct history history;		/* of the log up to `lsn`. Empty: nobody was ever primary */
};
void stopped_status(const struct stopped *s, struct stopped_status *out);

#endif
