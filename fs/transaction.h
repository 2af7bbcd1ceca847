/* SPDX-License-Identifier: Apache-2.0 */
/* A transaction on the blocks, as the filesystem makes it: what is read of metadata is checked before anybody sees it,
 * what is changed of it is sealed (checksum) once, at the end.
 *
 * What was checked is remembered, in a table of bounded size, by the stamp that the blocks gave it, or by a fingerprint
 * of its bytes where there is none or another one: so a page is judged again only when it is not what it was. A page
 * that was seen in this transaction is not even looked at again.
 *
 * Two uses of one block in one transaction (a page and a run, data and a node) are damage, not a bug of ours: only
 * extents that overlap bring them about.
 *
 * After an error the transaction can only be aborted: it is remembered, every later call says the same, and so does
 * the commit. Errors of all calls: -EAGAIN, -EROFS, -E2BIG as include/blocks.h says; -EIO with the block and what is
 * wrong with it in `damage`.
 */
#ifndef HOLDFAST_FS_TRANSACTION_H
#define HOLDFAST_FS_TRANSACTION_H

#include "blocks.h"
#include "format.h"
#include "io.h"

enum {
	TRANSACTION_SEEN = 1024,	/* slots; open addressing, power of two */
	TRANSACTION_READS_MAX = 512,	/* pages read that are remembered; what is beyond is checked at each read */
	TRANSACTION_MARKS = 16384,	/* fingerprints: 64 MiB of metadata, 384 KiB of memory */
};

/* The last damage met. Survives an abort; the next one takes its place. */
struct damage {
	uint64_t block;
	const char *what;	/* static, goes after "block 17 is damaged: "; NULL: none so far */
	uint64_t count;		/* how often any was met */
};

struct transaction_seen {
	uint64_t block;
	uint64_t turn;			/* of another transaction: the slot is free */
	uint8_t *page;
	uint8_t kind;			/* enum block_kind; BLOCK_KINDS: data */
	bool changed;
};

/* Of a block that was found good, by its kind: the stamp that it had then, and a fingerprint of its bytes. 0: none. */
struct transaction_mark { uint64_t block, stamp, fingerprint; };
struct transaction_run { uint64_t block, count; };

struct transaction {
	struct blocks *blocks;
	struct layout layout;
	uint32_t seed;			/* of checksums: block_seed() */
	uint64_t turn;			/* number of this transaction */
	int error;			/* first error, or 0 */
	uint32_t reads, changes;	/* seen in this transaction; changes are pages */
	uint32_t owed;			/* pages at most that the commit will change for what was freed */
	uint32_t runs;			/* of write() and discard() */
	struct transaction_run run[BLOCKS_RUNS_MAX];
	bool read_only;			/* every change says -EROFS */
	uint64_t fingerprint_seed;	/* by chance, so that nobody can make a page that has another's fingerprint */
	struct transaction_seen *seen;
	struct transaction_mark *marks;
	uint16_t changed[BLOCKS_CHANGES_MAX];	/* slots of seen, in the order of change */
	struct damage damage;
	uint64_t checks;		/* pages judged in full, ever */
};

/* -ENOMEM. The layout is that of all of the volume until somebody sets another. */
MUST_CHECK int transaction_new(struct transaction *t, struct io *io, struct blocks *blocks);
void transaction_delete(struct transaction *t, struct io *io);

/* *page: a metadata block of this kind, good, as this transaction has it, until its end or until it is changed: what
 * transaction_change() gives may be another page, and the one that was read stays as it was. A map that was never
 * written is a page of zeros for read(), and has its header from change() on. */
MUST_CHECK int transaction_read(struct transaction *t, uint64_t block, enum block_kind kind, const uint8_t **page);
MUST_CHECK int transaction_change(struct transaction *t, uint64_t block, enum block_kind kind, uint8_t **page);
/* A metadata block that holds nothing yet: zeros, and its header. */
MUST_CHECK int transaction_fresh(struct transaction *t, uint64_t block, enum block_kind kind, uint8_t **page);

/* The same of blocks that hold the bytes of files: usable ones, unchecked. */
MUST_CHECK int transaction_data_read(struct transaction *t, uint64_t block, const uint8_t **page);
MUST_CHECK int transaction_data_change(struct transaction *t, uint64_t block, uint8_t **page);
MUST_CHECK int transaction_data_fresh(struct transaction *t, uint64_t block, uint8_t **page);
/* @len bytes at byte @offset of the volume, as blocks->write(): @bytes stay until the end. All of it is in one group,
 * and no other use of these blocks is in this transaction. */
MUST_CHECK int transaction_data_write(struct transaction *t, uint64_t offset, const void *bytes, uint32_t len);
/* Blocks that have been freed; fs_commit() calls it. */
MUST_CHECK int transaction_discard(struct transaction *t, uint64_t block, uint64_t count);

/* Whether it may have changed something. */
static inline bool transaction_changes(const struct transaction *t) { return t->changes || t->runs; }
/* Pages that it may still change, runs that it may still have. A loop of unknown length ends its transaction, and
 * begins another, while there is room for one more turn. */
static inline uint32_t transaction_changes_left(const struct transaction *t)
{
	return t->changes + t->owed < BLOCKS_CHANGES_MAX ? BLOCKS_CHANGES_MAX - t->changes - t->owed : 0;
}
static inline uint32_t transaction_runs_left(const struct transaction *t) { return BLOCKS_RUNS_MAX - t->runs; }

/* From now on it can only be aborted, for this reason. Returns @error (negative). -EAGAIN and others are all fine. */
int transaction_fail(struct transaction *t, int error);
/* A block is not what it must be: remembers which and what, fails with -EIO. @what is static. */
int transaction_damaged(struct transaction *t, uint64_t block, const char *what);

/* fs_commit() and fs_abort() call these. */
MUST_CHECK int transaction_commit(struct transaction *t, const void *annotation, uint32_t len, uint64_t *lsn);
void transaction_abort(struct transaction *t);

#endif
