/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of a volume as a filesystem works on them: pages in memory, changed by transactions. One transaction is
 * one record of the log: it is in the log whole, in its place, or not at all.
 *
 * There is one transaction at a time, and no call waits: what begins it is the first call after a commit or an abort,
 * and between that and its end nobody else sees or changes the volume. Code that meets a block that is not in memory
 * gets -EAGAIN, aborts, and begins the whole operation anew when ready() was called; it reads as if all were there.
 *
 *	again:	error = blocks->read(...) / change(...) / fresh(...) / write(...) / discard(...)
 *		error ? blocks->abort(blocks) : blocks->commit(blocks, annotation, len, &lsn)
 *		-EAGAIN from any of them: wait for ready(), go to again
 *
 * A reader commits nothing: it ends with abort(), which is cheap when nothing was changed.
 *
 * There are several of these: the primary's volume, a secondary's at its commit LSN, the files of a stopped replica, an
 * still of a volume (volume.h), an array in a test. All but the first and the last refuse changes with -EROFS.
 */
#ifndef HOLDFAST_BLOCKS_H
#define HOLDFAST_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "bounds.h"

/* What one transaction may change: pages, of which before-images are kept, ... */
enum { BLOCKS_CHANGES_MAX = 256 };	/* 1 MiB of before-images */
/* ... and runs of write() and discard(). All of it, with the annotation, must fit a record: commit() says -E2BIG when
 * it does not, and nothing was changed. */
enum { BLOCKS_RUNS_MAX = 64, BLOCKS_ANNOTATION_MAX = 1024 };

struct blocks {
	uint64_t count;			/* blocks of BLOCK_BYTES, from 0 */
	uint32_t write_max;		/* bytes that one transaction may give to write() */

	/* *page: BLOCK_BYTES of the block as this transaction has it, until its end. -EAGAIN; -EIO: the block cannot
	 * be read; -ERANGE: there is no such block, which is a damaged filesystem's word; -ESTALE: of a still, which
	 * has it no more. */
	int (*read)(struct blocks *blocks, uint64_t block, const uint8_t **page);
	/* Of a block that this transaction read and did not change: another number whenever its bytes may have become
	 * others. 0: not known. NULL: never known. */
	uint64_t (*stamp)(struct blocks *blocks, uint64_t block);
	/* What read() gives, to be changed in place. What differs at commit() goes into the log, to the byte; ranges
	 * that are near each other as one. Also -EROFS; -E2BIG: more than BLOCKS_CHANGES_MAX. */
	int (*change)(struct blocks *blocks, uint64_t block, uint8_t **page);
	/* What change() gives, of a block whose content does not matter any more: zeros. It is never loaded. */
	int (*fresh)(struct blocks *blocks, uint64_t block, uint8_t **page);
	/* @len bytes (at least 1) at @offset of the volume become @bytes, which are the caller's and stay until the end
	 * of the transaction. No page of change() or fresh() is in that range. Same errors; -E2BIG also over
	 * write_max. */
	int (*write)(struct blocks *blocks, uint64_t offset, const void *bytes, uint32_t len);
	/* These blocks (at least 1) are free, read as zeros from now on, and give their space back. No page of this
	 * transaction and no write() is in that range. A run for each GiB. */
	int (*discard)(struct blocks *blocks, uint64_t block, uint64_t count);

	/* Into the log, with @annotation (at most BLOCKS_ANNOTATION_MAX bytes). *lsn: the log's end after it; when
	 * nothing differs nothing is logged. -EAGAIN: no room just now. After an error it is aborted. */
	int (*commit)(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn);
	/* Everything is as before. */
	void (*abort)(struct blocks *blocks);

	/* Set by the user: what made a call say -EAGAIN may be over. Never called from inside a call of this struct. */
	void (*ready)(struct blocks *blocks);
	void *context;			/* the user's */
};

#endif
