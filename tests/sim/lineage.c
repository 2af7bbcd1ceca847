/* SPDX-License-Identifier: Apache-2.0 */
#include "lineage.h"

#include <stdlib.h>
#include <string.h>

/* A record of a branch. */
struct entry { uint64_t lsn, end; uint8_t hash_after[HASH_BYTES]; struct record_header *record; };
/* A record that changes a block; `before` is the next older one of the same block on this branch (index + 1). */
struct touch { uint64_t entry; uint32_t before; };

struct lineage {
	uint64_t blocks;
	struct branch *newest;
	const struct record_header **stack;	/* of path_block() */
	uint64_t stack_room;
};

struct lineage *lineage_new(uint64_t volume_bytes)
{
	struct lineage *l = calloc(1, sizeof *l);

	CHECK(l != NULL);
	l->blocks = volume_bytes / BLOCK_BYTES;
	return l;
}

static void branch_free(struct branch *b)
{
	for (uint64_t i = 0; i < b->count; i++)
		free(b->entries[i].record);
	free(b->entries);
	free(b->touches);
	free(b->last_touch);
	free(b);
}

void lineage_free(struct lineage *l)
{
	while (l->newest) {
		struct branch *b = l->newest;

		l->newest = b->next;
		branch_free(b);
	}
	free(l->stack);
	free(l);
}

struct branch *lineage_find(const struct lineage *l, const struct epoch_entry *epoch)
{
	for (struct branch *b = l->newest; b; b = b->next)
		if (memcmp(b->epoch.uuid, epoch->uuid, UUID_BYTES) == 0)
			return b;
	return NULL;
}

struct branch *lineage_add(struct lineage *l, struct branch *parent, const struct epoch_entry *epoch)
{
	struct branch *b = calloc(1, sizeof *b);

	CHECK(b != NULL);
	*b = (struct branch){ .lineage = l, .next = l->newest, .parent = parent, .epoch = *epoch,
			      .start = from_le64(epoch->start), .end = from_le64(epoch->start) };
	b->last_touch = calloc(l->blocks, sizeof *b->last_touch);
	CHECK(b->last_touch != NULL);
	l->newest = b;
	return b;
}

/* ---- growing ---- */

/* Room for one more of @size in @array, which has @count and is grown by doubling. */
static void *array_room(void *array, uint64_t count, uint64_t *room, size_t size)
{
	if (count < *room)
		return array;
	*room = *room ? *room * 2 : 256;
	array = realloc(array, *room * size);
	CHECK(array != NULL);
	return array;
}

static void touch_add(struct branch *b, uint64_t block)
{
	b->touches = array_room(b->touches, b->touch_count, &b->touch_room, sizeof *b->touches);
	b->touches[b->touch_count++] = (struct touch){ b->count - 1, b->last_touch[block] };
	b->last_touch[block] = (uint32_t)b->touch_count;
}

/* The blocks that it changes; one that two deltas change counts once. */
static void touches_add(struct branch *b, const struct record_header *r)
{
	const struct record_delta *d = record_deltas(r);

	if (from_le16(r->kind) != RECORD_DATA)
		return;
	for (uint32_t i = 0; i < from_le32(r->delta_count); i++) {
		uint64_t from = from_le64(d[i].offset), end = from + from_le32(d[i].length);

		for (uint64_t block = from / BLOCK_BYTES; block * BLOCK_BYTES < end; block++)
			if (!b->last_touch[block] || b->touches[b->last_touch[block] - 1].entry != b->count - 1)
				touch_add(b, block);
	}
}

void branch_append(struct branch *b, const struct record_header *r)
{
	struct position after;
	struct entry *e;

	CHECK(from_le64(r->lsn) == b->end);
	record_next(r, &after);
	b->entries = array_room(b->entries, b->count, &b->room, sizeof *b->entries);
	e = &b->entries[b->count++];
	e->lsn = b->end;
	e->end = b->end = after.lsn;
	memcpy(e->hash_after, after.hash, HASH_BYTES);
	e->record = malloc(record_wire_length(r));
	CHECK(e->record != NULL);
	memcpy(e->record, r, record_wire_length(r));
	touches_add(b, r);
}

struct position branch_end(const struct branch *b)
{
	struct position at = { .lsn = b->end };

	memcpy(at.hash, b->count ? b->entries[b->count - 1].hash_after : b->epoch.hash, HASH_BYTES);
	return at;
}

/* ---- paths ---- */

/* How many entries of the branch end at or below @lsn. */
static uint64_t entries_below(const struct branch *b, uint64_t lsn)
{
	uint64_t low = 0, high = b->count;

	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (b->entries[middle].end <= lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The branch of the path that a place belongs to: where a branch begins is the end of its parent. */
static const struct branch *path_branch(const struct branch *b, uint64_t lsn)
{
	while (b && lsn <= b->start)
		b = b->parent;
	return b;
}

bool path_at(const struct branch *b, uint64_t lsn, struct position *at)
{
	uint64_t i;

	*at = (struct position){ .lsn = lsn };
	b = path_branch(b, lsn);
	if (!b)
		return lsn == 0;
	i = entries_below(b, lsn);
	if (i == 0 || b->entries[i - 1].end != lsn)
		return false;
	memcpy(at->hash, b->entries[i - 1].hash_after, HASH_BYTES);
	return true;
}

const struct record_header *path_record(const struct branch *b, uint64_t lsn)
{
	uint64_t i;

	b = path_branch(b, lsn + 1);
	i = b ? entries_below(b, lsn) : 0;
	return b && i < b->count ? b->entries[i].record : NULL;
}

bool path_holds(const struct branch *log, uint64_t end, const struct branch *b, uint64_t lsn)
{
	return lsn <= end && path_branch(log, lsn) == path_branch(b, lsn);
}

bool path_lost_data(const struct branch *log, uint64_t end, const struct branch *b, uint64_t lsn)
{
	for (; b; b = b->parent) {
		for (uint64_t i = entries_below(b, lsn); i > 0; i--) {
			const struct entry *e = &b->entries[i - 1];

			if (path_holds(log, end, b, e->end))
				return false;
			if (from_le16(e->record->kind) == RECORD_DATA)
				return true;
		}
		lsn = min_u64(lsn, b->start);
	}
	return false;
}

bool path_forced_apart(const struct branch *a, const struct branch *b)
{
	bool a_forced = false, b_forced = false;

	/* The younger one cannot be below the older one. */
	while (a != b) {
		if (!b || (a && a->start >= b->start)) {
			a_forced = a->forced;
			a = a->parent;
		} else {
			b_forced = b->forced;
			b = b->parent;
		}
	}
	return a_forced || b_forced;
}

/* ---- bytes ---- */

/* Applies a record to one block; true when it changed all of it. */
static bool replay(const struct record_header *r, uint64_t block, uint8_t *out)
{
	const struct record_delta *d = record_deltas(r);
	const uint8_t *payload = record_payload(r);
	uint64_t from = block * BLOCK_BYTES, to = from + BLOCK_BYTES;
	bool whole = false;

	for (uint32_t i = 0; i < from_le32(r->delta_count); i++) {
		uint64_t offset = from_le64(d[i].offset), end = offset + from_le32(d[i].length);
		uint64_t a = max_u64(offset, from), b = min_u64(end, to);
		bool data = from_le16(d[i].kind) == DELTA_DATA;

		whole |= a == from && b == to;
		if (out && a < b && data)
			memcpy(out + (a - from), payload + (a - offset), b - a);
		else if (out && a < b)
			memset(out + (a - from), 0, b - a);
		if (data)
			payload += end - offset;
	}
	return whole;
}

/* Back through what touched the block until a record changed all of it; then forward again. */
void path_block(const struct branch *b, uint64_t lsn, uint64_t block, uint8_t out[BLOCK_BYTES])
{
	struct lineage *l;
	uint64_t depth = 0;
	bool whole = false;

	memset(out, 0, BLOCK_BYTES);
	if (!b)
		return;
	l = b->lineage;
	for (; b && !whole; b = b->parent) {
		uint32_t at = lsn > b->start ? b->last_touch[block] : 0;

		for (; at && !whole; at = b->touches[at - 1].before) {
			const struct entry *e = &b->entries[b->touches[at - 1].entry];

			if (e->end > lsn)
				continue;
			l->stack = array_room(l->stack, depth, &l->stack_room, sizeof *l->stack);
			l->stack[depth++] = e->record;
			whole = replay(e->record, block, NULL);
		}
		lsn = min_u64(lsn, b->start);
	}
	while (depth > 0)
		replay(l->stack[--depth], block, out);
}
