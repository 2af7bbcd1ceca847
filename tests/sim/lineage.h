/* SPDX-License-Identifier: Apache-2.0 */
/* All log that any primary of a cluster has ever written, as a tree: an epoch is a branch, for only its primary appends
 * to it, and begins at a place of its parent. The log of a node is a path: the branch that its history names last,
 * and of each branch below it what is before the next one begins.
 *
 *	epoch 1 ====+=========+=====			a: 1, 2
 *	            |         +===== epoch 3		b: 1, 3
 *	            +====== epoch 2
 *
 * From it follows what any block must hold at any place of any path. Records are copied and kept; branches live as long
 * as the lineage. */
#ifndef HOLDFAST_TESTS_LINEAGE_H
#define HOLDFAST_TESTS_LINEAGE_H

#include "history.h"

struct lineage;

struct branch {
	struct lineage *lineage;
	struct branch *next;		/* of all, newest first */
	struct branch *parent;		/* NULL: it begins the log */
	struct epoch_entry epoch;
	uint64_t start, end;		/* LSNs; end of what its primary has appended */
	bool forced;			/* its primary was not given everybody's agreement */
	struct entry *entries;
	uint64_t count, room;
	struct touch *touches;
	uint64_t touch_count, touch_room;
	uint32_t *last_touch;		/* per block: index + 1 of its newest touch, 0 = none on this branch */
};

struct lineage *lineage_new(uint64_t volume_bytes);
void lineage_free(struct lineage *l);
/* NULL when no branch is of that epoch. */
struct branch *lineage_find(const struct lineage *l, const struct epoch_entry *epoch);
struct branch *lineage_add(struct lineage *l, struct branch *parent, const struct epoch_entry *epoch);

/* @r stands at the branch's end. */
void branch_append(struct branch *b, const struct record_header *r);
/* The position at its end: what its next record must stand at and be chained to. */
struct position branch_end(const struct branch *b);

/* Whether the path to @b (NULL: nothing but LSN 0) has a record that ends at @lsn; *at is the position there then. */
bool path_at(const struct branch *b, uint64_t lsn, struct position *at);
/* The record of the path that has the byte at @lsn; NULL when there is none. */
const struct record_header *path_record(const struct branch *b, uint64_t lsn);
/* Whether a log that is @log up to @end has all that the path to @b has up to @lsn. */
bool path_holds(const struct branch *log, uint64_t end, const struct branch *b, uint64_t lsn);
/* Whether of the path to @b up to @lsn that log lacks a record that changes something. */
bool path_lost_data(const struct branch *log, uint64_t end, const struct branch *b, uint64_t lsn);
/* Whether one of the two epochs that begin where the paths to @a and @b part was opened by force. */
bool path_forced_apart(const struct branch *a, const struct branch *b);
/* A block of the volume as the path to @b makes it up to @lsn. */
void path_block(const struct branch *b, uint64_t lsn, uint64_t block, uint8_t out[BLOCK_BYTES]);

#endif
