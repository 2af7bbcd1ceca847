/* SPDX-License-Identifier: Apache-2.0 */
/* What is read is judged once, what is changed is sealed once.
 *
 *	transaction_read()    seen in this transaction?  else load, judge, remember
 *	transaction_change()  the same; the first time it counts against the bound
 *	transaction_commit()  seal what changed, discard what was freed, into the log
 */
#include "transaction.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

static const char cannot_be_changed[] = "it cannot be changed: this replica has failed";

int transaction_new(struct transaction *t, struct io *io, struct blocks *blocks)
{
	memset(t, 0, sizeof *t);
	t->blocks = blocks;
	t->layout = layout_of(blocks->count);
	t->turn = 1;
	io->random(io, &t->fingerprint_seed, sizeof t->fingerprint_seed);
	t->seen = io->alloc(io, TRANSACTION_SEEN * sizeof *t->seen, 0);
	t->marks = io->alloc(io, TRANSACTION_MARKS * sizeof *t->marks, 0);
	if (!t->seen || !t->marks) {
		transaction_delete(t, io);
		return -ENOMEM;
	}
	return 0;
}

void transaction_delete(struct transaction *t, struct io *io)
{
	if (!t->blocks)
		return;
	io->free(io, t->seen);
	io->free(io, t->marks);
	memset(t, 0, sizeof *t);
}

int transaction_fail(struct transaction *t, int error)
{
	if (!t->error)
		t->error = error;
	return error;
}

int transaction_damaged(struct transaction *t, uint64_t block, const char *what)
{
	t->damage.block = block;
	t->damage.what = what;
	t->damage.count++;
	return transaction_fail(t, -EIO);
}

/* An error of the blocks themselves; @what: what it means when it is -EIO. */
static int transaction_refused(struct transaction *t, uint64_t block, int error, const char *what)
{
	if (error == -ERANGE)
		return transaction_damaged(t, block, "it is behind the volume's end");
	if (error == -EIO)
		return transaction_damaged(t, block, what);
	return transaction_fail(t, error);
}

/* ---- judging --------------------------------------------------------------------------------------- */

static uint64_t scatter(uint64_t block)
{
	return block * 0x9e3779b97f4a7c15u >> 40;
}

static uint64_t fingerprint(const struct transaction *t, enum block_kind kind, const uint8_t *page)
{
	return XXH3_64bits_withSeed(page, BLOCK_BYTES, t->fingerprint_seed + kind);
}

/* The block as it is now, as this kind; 0: the blocks do not know. */
static uint64_t stamp_of(const struct transaction *t, uint64_t block, enum block_kind kind)
{
	_Static_assert(BLOCK_KINDS <= 8, "a kind has three bits");
	uint64_t stamp = t->blocks->stamp ? t->blocks->stamp(t->blocks, block) : 0;

	return stamp ? stamp << 3 | kind : 0;
}

static void transaction_mark(struct transaction *t, uint64_t block, uint64_t stamp, uint64_t print)
{
	t->marks[scatter(block) % TRANSACTION_MARKS] = (struct transaction_mark){ block, stamp, print };
}

static const char *judge(const struct transaction *t, uint64_t block, enum block_kind kind, const uint8_t *page)
{
	const char *what;

	if ((kind == BLOCK_MAP || kind == BLOCK_FULLS) && block_is_zero(page))
		return NULL;
	what = block_header_check(block, kind, kind == BLOCK_SUPERBLOCK ? 0 : t->seed, page);
	if (what)
		return what;
	switch (kind) {
	case BLOCK_SUPERBLOCK:
		what = superblock_check(page);
		if (what)
			return what;
		return from_le64(((const struct superblock *)(const void *)page)->block_count) == t->layout.blocks
			       ? NULL : "it is of another size than when it was mounted";
	case BLOCK_NODE:
		return node_check(&t->layout, block, page);
	default:
		return map_check(&t->layout, block, page, kind == BLOCK_FULLS);
	}
}

/* The mark says that these very bytes were found good. */
static int transaction_judge(struct transaction *t, uint64_t block, enum block_kind kind, const uint8_t *page)
{
	const struct transaction_mark *mark = &t->marks[scatter(block) % TRANSACTION_MARKS];
	uint64_t stamp = stamp_of(t, block, kind), print;
	const char *what;

	if (stamp && mark->block == block && mark->stamp == stamp)
		return 0;
	print = fingerprint(t, kind, page);
	if (mark->block != block || mark->fingerprint != print) {
		t->checks++;
		what = judge(t, block, kind, page);
		if (what)
			return transaction_damaged(t, block, what);
	}
	transaction_mark(t, block, stamp, print);
	return 0;
}

/* ---- what was seen ----------------------------------------------------------------------------------- */

/* The slot of @block, or the free one where it belongs. There is always a free one: see the bounds. */
static struct transaction_seen *transaction_slot(const struct transaction *t, uint64_t block)
{
	_Static_assert(TRANSACTION_READS_MAX + (int)BLOCKS_CHANGES_MAX < TRANSACTION_SEEN, "a slot stays free");
	uint64_t at = scatter(block) % TRANSACTION_SEEN;

	while (t->seen[at].turn == t->turn && t->seen[at].block != block)
		at = (at + 1) % TRANSACTION_SEEN;
	return &t->seen[at];
}

static bool transaction_knows(const struct transaction *t, const struct transaction_seen *slot)
{
	return slot->turn == t->turn;
}

static void transaction_remember(struct transaction *t, struct transaction_seen *slot, uint64_t block, uint8_t *page,
				 uint8_t kind, bool changed)
{
	if (!transaction_knows(t, slot)) {
		if (!changed && t->reads == TRANSACTION_READS_MAX)
			return;
		if (!changed)
			t->reads++;
		*slot = (struct transaction_seen){ block, t->turn, page, kind, false };
	}
	slot->page = page;
	if (changed && !slot->changed) {
		CHECK(t->changes < BLOCKS_CHANGES_MAX);
		slot->changed = true;
		t->changed[t->changes++] = (uint16_t)(slot - t->seen);
	}
}

/* Whether a run of this transaction has a block of [block, block + count). */
static bool transaction_in_run(const struct transaction *t, uint64_t block, uint64_t count)
{
	for (uint32_t i = 0; i < t->runs; i++)
		if (t->run[i].block < block + count && block < t->run[i].block + t->run[i].count)
			return true;
	return false;
}

/* May @block become a changed page of this kind? */
static int transaction_may_change(struct transaction *t, uint64_t block, const struct transaction_seen *slot,
				  uint8_t kind)
{
	if (t->read_only)
		return transaction_fail(t, -EROFS);
	if (transaction_knows(t, slot) && slot->kind != kind)
		return transaction_damaged(t, block, "it is used as two things at once");
	if (transaction_knows(t, slot) && slot->changed)
		return 0;
	if (t->changes == BLOCKS_CHANGES_MAX)
		return transaction_fail(t, -E2BIG);
	if (transaction_in_run(t, block, 1))
		return transaction_damaged(t, block, "it is used twice");
	return 0;
}

/* ---- pages ------------------------------------------------------------------------------------------- */

/* The page to be read, loaded and, if it is metadata, judged. */
static int transaction_load(struct transaction *t, uint64_t block, uint8_t kind, const uint8_t **page)
{
	struct transaction_seen *slot = transaction_slot(t, block);
	int error;

	if (t->error)
		return t->error;
	if (transaction_knows(t, slot)) {
		*page = slot->page;
		return slot->kind == kind ? 0 : transaction_damaged(t, block, "it is used as two things at once");
	}
	if ((kind == BLOCK_NODE || kind == BLOCK_KINDS) && !layout_is_usable(&t->layout, block))
		return transaction_damaged(t, block, "it is not one that can be used");
	if (transaction_in_run(t, block, 1))
		return transaction_damaged(t, block, "it is used twice");
	error = t->blocks->read(t->blocks, block, page);
	if (error)
		return transaction_refused(t, block, error, "it cannot be read");
	if (kind != BLOCK_KINDS) {
		error = transaction_judge(t, block, kind, *page);
		if (error)
			return error;
	}
	/* Only to be read: blocks->change() gives another page, which takes this one's place. */
	transaction_remember(t, slot, block, (uint8_t *)(uintptr_t)*page, kind, false);
	return 0;
}

static int transaction_open(struct transaction *t, uint64_t block, uint8_t kind, uint8_t **page)
{
	struct transaction_seen *slot;
	const uint8_t *loaded;
	int error = transaction_load(t, block, kind, &loaded);

	if (error)
		return error;
	slot = transaction_slot(t, block);
	error = transaction_may_change(t, block, slot, kind);
	if (error)
		return error;
	if (transaction_knows(t, slot) && slot->changed) {
		*page = slot->page;
		return 0;
	}
	error = t->blocks->change(t->blocks, block, page);
	if (error)
		return transaction_refused(t, block, error, cannot_be_changed);
	transaction_remember(t, slot, block, *page, kind, true);
	return 0;
}

static int transaction_empty(struct transaction *t, uint64_t block, uint8_t kind, uint8_t **page)
{
	struct transaction_seen *slot = transaction_slot(t, block);
	int error;

	if (t->error)
		return t->error;
	error = transaction_may_change(t, block, slot, kind);
	if (error)
		return error;
	/* A node that is new was not looked at before, unless a map says that one in use is free. */
	if (transaction_knows(t, slot) && (slot->changed || kind != BLOCK_KINDS))
		return transaction_damaged(t, block, "it is used twice");
	error = t->blocks->fresh(t->blocks, block, page);
	if (error)
		return transaction_refused(t, block, error, cannot_be_changed);
	transaction_remember(t, slot, block, *page, kind, true);
	return 0;
}

int transaction_read(struct transaction *t, uint64_t block, enum block_kind kind, const uint8_t **page)
{
	return transaction_load(t, block, kind, page);
}

int transaction_change(struct transaction *t, uint64_t block, enum block_kind kind, uint8_t **page)
{
	int error = transaction_open(t, block, kind, page);
	struct map *map;

	if (error || (kind != BLOCK_MAP && kind != BLOCK_FULLS))
		return error;
	map = (void *)*page;
	if (from_le32(map->header.magic))
		return 0;
	block_header_init(*page, block, kind);
	map->clear_count = to_le32(kind == BLOCK_FULLS ? layout_fulls_bits(&t->layout, block - 1)
						       : layout_map_bits(&t->layout, layout_group(&t->layout, block)));
	return 0;
}

int transaction_fresh(struct transaction *t, uint64_t block, enum block_kind kind, uint8_t **page)
{
	int error = transaction_empty(t, block, kind, page);

	if (!error)
		block_header_init(*page, block, kind);
	return error;
}

int transaction_data_read(struct transaction *t, uint64_t block, const uint8_t **page)
{
	return transaction_load(t, block, BLOCK_KINDS, page);
}

int transaction_data_change(struct transaction *t, uint64_t block, uint8_t **page)
{
	return transaction_open(t, block, BLOCK_KINDS, page);
}

int transaction_data_fresh(struct transaction *t, uint64_t block, uint8_t **page)
{
	if (!t->error && !layout_is_usable(&t->layout, block))
		return transaction_damaged(t, block, "it is not one that can be used");
	return transaction_empty(t, block, BLOCK_KINDS, page);
}

/* ---- runs -------------------------------------------------------------------------------------------- */

/* A page of [block, block + count) that this transaction has seen, or NULL. */
static const struct transaction_seen *transaction_seen_in(const struct transaction *t, uint64_t block, uint64_t count)
{
	if (count > TRANSACTION_SEEN / 16) {
		for (uint32_t i = 0; i < TRANSACTION_SEEN; i++)
			if (transaction_knows(t, &t->seen[i]) && t->seen[i].block >= block &&
			    t->seen[i].block - block < count)
				return &t->seen[i];
		return NULL;
	}
	for (uint64_t at = block; at < block + count; at++) {
		const struct transaction_seen *slot = transaction_slot(t, at);

		if (transaction_knows(t, slot))
			return slot;
	}
	return NULL;
}

static int transaction_run_add(struct transaction *t, uint64_t block, uint64_t count)
{
	const struct transaction_seen *seen;

	if (t->error)
		return t->error;
	if (t->read_only)
		return transaction_fail(t, -EROFS);
	if (t->runs == BLOCKS_RUNS_MAX)
		return transaction_fail(t, -E2BIG);
	if (transaction_in_run(t, block, count))
		return transaction_damaged(t, block, "it is used twice");
	if (t->reads == TRANSACTION_READS_MAX)
		return transaction_fail(t, -E2BIG);	/* not all pages that it has are known */
	seen = transaction_seen_in(t, block, count);
	if (seen)
		return transaction_damaged(t, seen->block, "it is used twice");
	t->run[t->runs++] = (struct transaction_run){ block, count };
	return 0;
}

int transaction_data_write(struct transaction *t, uint64_t offset, const void *bytes, uint32_t len)
{
	uint64_t first = offset / BLOCK_BYTES, last = (offset + len - 1) / BLOCK_BYTES;
	int error;

	CHECK(len > 0);
	if (!t->error && (!layout_is_usable(&t->layout, first) || !layout_is_usable(&t->layout, last) ||
			  layout_group(&t->layout, first) != layout_group(&t->layout, last)))
		return transaction_damaged(t, first, "it is not one that can be used");
	error = transaction_run_add(t, first, last - first + 1);
	if (error)
		return error;
	error = t->blocks->write(t->blocks, offset, bytes, len);
	return error ? transaction_refused(t, first, error, cannot_be_changed) : 0;
}

int transaction_discard(struct transaction *t, uint64_t block, uint64_t count)
{
	int error = transaction_run_add(t, block, count);

	if (error)
		return error;
	error = t->blocks->discard(t->blocks, block, count);
	return error ? transaction_refused(t, block, error, cannot_be_changed) : 0;
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static void transaction_turn(struct transaction *t)
{
	t->turn++;
	t->error = 0;
	t->reads = t->changes = t->owed = t->runs = 0;
}

void transaction_abort(struct transaction *t)
{
	t->blocks->abort(t->blocks);
	transaction_turn(t);
}

int transaction_commit(struct transaction *t, const void *annotation, uint32_t len, uint64_t *lsn)
{
	int error = t->error;

	if (error) {
		transaction_abort(t);
		return error;
	}
	for (uint32_t i = 0; i < t->changes; i++) {
		struct transaction_seen *slot = &t->seen[t->changed[i]];

		if (slot->kind == BLOCK_KINDS)
			continue;
		block_seal(slot->page, slot->kind == BLOCK_SUPERBLOCK ? 0 : t->seed);
		if (!t->blocks->stamp)
			transaction_mark(t, slot->block, 0, fingerprint(t, slot->kind, slot->page));
	}
	error = t->blocks->commit(t->blocks, annotation, len, lsn);
	for (uint32_t i = 0; !error && t->blocks->stamp && i < t->changes; i++) {
		struct transaction_seen *slot = &t->seen[t->changed[i]];

		if (slot->kind != BLOCK_KINDS)
			transaction_mark(t, slot->block, stamp_of(t, slot->block, slot->kind), 0);
	}
	transaction_turn(t);
	return error;
}
