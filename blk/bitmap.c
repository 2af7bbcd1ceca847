/* SPDX-License-Identifier: Apache-2.0 */
/* A pass of bitmap_save():
 *
 *	pass_next()	a run of pages that changed is copied into the stage, each unit gets index and sum, one write
 *	bitmap_wrote()	the next run; when there is none: a sync
 *	bitmap_synced()	the pass's ticket is good
 *
 * Invariant: a page whose dirty bit is clear is, on disk, what it is in memory, or is in a copy on its way there. So
 * a bit that changes behind the pass makes its page dirty again, for the next one. */
#include "bitmap.h"

#include <errno.h>
#include <string.h>

#include "checksum.h"

enum {
	PAGE_UNITS = BITMAP_PAGE_BYTES / BITMAP_UNIT_BYTES,
	STAGE_PAGES = BITMAP_STAGE_BYTES / BITMAP_PAGE_BYTES,
};

/* ---- bits ---- */

/* How many are set: in pairs, then in fours, then in bytes, whose sum the multiplication brings to the top. */
static uint64_t bits_set(uint64_t value)
{
	value -= value >> 1 & 0x5555555555555555;
	value = (value & 0x3333333333333333) + (value >> 2 & 0x3333333333333333);
	value = (value + (value >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return value * 0x0101010101010101 >> 56;
}

static le64 *word_at(const struct bitmap *b, uint64_t word)
{
	return &b->units[word / BITMAP_UNIT_WORDS].words[word % BITMAP_UNIT_WORDS];
}

static bool page_dirty(const struct bitmap *b, uint64_t page)
{
	return b->dirty[page / 64] >> page % 64 & 1;
}

static void page_set_dirty(struct bitmap *b, uint64_t page, bool dirty)
{
	if (page_dirty(b, page) == dirty)
		return;
	b->dirty[page / 64] ^= 1ull << page % 64;
	b->dirty_count += dirty ? 1 : -1ull;
}

static void word_put(struct bitmap *b, uint64_t word, uint64_t value)
{
	le64 *at = word_at(b, word);
	uint64_t old = from_le64(*at);

	if (old == value)
		return;
	*at = to_le64(value);
	b->count += bits_set(value) - bits_set(old);
	page_set_dirty(b, word / BITMAP_UNIT_WORDS / PAGE_UNITS, true);
}

/* The bits of the word of @first that lie in [first, end). */
static uint64_t word_mask(uint64_t first, uint64_t end)
{
	uint64_t from_first = ~0ull << first % 64;

	return end - round_down(first, 64) >= 64 ? from_first : from_first & ((1ull << end % 64) - 1);
}

static void put(struct bitmap *b, uint64_t first, uint64_t count, bool set)
{
	uint64_t end = first + count;

	CHECK(first <= b->bits && count <= b->bits - first);
	if (!set && b->count == 0)
		return;
	while (first < end) {
		uint64_t mask = word_mask(first, end), word = first / 64, old = from_le64(*word_at(b, word));

		word_put(b, word, set ? old | mask : old & ~mask);
		first = round_down(first, 64) + 64;
	}
}

void bitmap_set(struct bitmap *b, uint64_t first, uint64_t count)
{
	put(b, first, count, true);
}

void bitmap_clear(struct bitmap *b, uint64_t first, uint64_t count)
{
	put(b, first, count, false);
}

bool bitmap_test(const struct bitmap *b, uint64_t bit)
{
	CHECK(bit < b->bits);
	return from_le64(*word_at(b, bit / 64)) >> bit % 64 & 1;
}

/* The first bit in [from, end) that is set (clear, when @flip is all ones), or @end. */
static uint64_t find(const struct bitmap *b, uint64_t from, uint64_t end, uint64_t flip)
{
	uint64_t unit = from / 64 / BITMAP_UNIT_WORDS, word = from / 64 % BITMAP_UNIT_WORDS;
	uint64_t mask = ~0ull << from % 64;

	for (uint64_t at = round_down(from, 64); at < end; at += 64) {
		uint64_t found = (from_le64(b->units[unit].words[word]) ^ flip) & mask;

		if (found)
			return min_u64(at + (uint64_t)__builtin_ctzll(found), end);
		mask = ~0ull;
		if (++word == BITMAP_UNIT_WORDS) {
			word = 0;
			unit++;
		}
	}
	return end;
}

uint64_t bitmap_next(const struct bitmap *b, uint64_t from)
{
	return b->count == 0 || from >= b->bits ? b->bits : find(b, from, b->bits, 0);
}

uint64_t bitmap_next_clear(const struct bitmap *b, uint64_t from)
{
	return b->count == b->bits || from >= b->bits ? b->bits : find(b, from, b->bits, ~0ull);
}

uint64_t bitmap_run_end(const struct bitmap *b, uint64_t from, uint64_t end)
{
	CHECK(from < end && end <= b->bits);
	return find(b, from, end, bitmap_test(b, from) ? ~0ull : 0);
}

void bitmap_merge(struct bitmap *b, const struct bitmap *other)
{
	CHECK(b->bits == other->bits);
	if (other->count == 0)
		return;
	for (uint64_t word = 0; word < (b->bits + 63) / 64; word++)
		word_put(b, word, from_le64(*word_at(b, word)) | from_le64(*word_at(other, word)));
}

void bitmap_empty(struct bitmap *b)
{
	CHECK(bitmap_quiet(b));
	put(b, 0, b->bits, false);
	memset(b->dirty, 0, (b->page_count + 63) / 64 * sizeof *b->dirty);
	b->dirty_count = b->damaged = 0;
}

/* ---- life ---- */

int bitmap_new(struct bitmap *b, struct io *io, int file, uint64_t offset, uint64_t bits,
	       void (*moved)(struct bitmap *b))
{
	uint64_t bytes = bitmap_bytes(bits);

	CHECK(bits > 0 && offset % BITMAP_PAGE_BYTES == 0);
	*b = (struct bitmap){ .io = io, .file = file, .offset = offset, .bits = bits, .moved = moved };
	b->unit_count = (bits + BITMAP_UNIT_BITS - 1) / BITMAP_UNIT_BITS;
	b->page_count = bytes / BITMAP_PAGE_BYTES;
	b->units = io->alloc(io, bytes, 0);
	b->dirty = io->alloc(io, (b->page_count + 63) / 64 * sizeof *b->dirty, 0);
	b->stage = io->alloc(io, BITMAP_STAGE_BYTES, IO_FIXED);
	if (b->units && b->dirty && b->stage)
		return 0;
	bitmap_delete(b);
	return -ENOMEM;
}

void bitmap_delete(struct bitmap *b)
{
	if (!b->io)
		return;
	CHECK(bitmap_quiet(b));
	b->io->free(b->io, b->units);
	b->io->free(b->io, b->dirty);
	b->io->free(b->io, b->stage);
	*b = (struct bitmap){ 0 };
}

bool bitmap_quiet(const struct bitmap *b)
{
	return !b->op.in_flight;
}

static void fail(struct bitmap *b, int64_t result)
{
	b->failed = result < 0 ? (int)result : -EIO;
	b->moved(b);
}

/* ---- load ---- */

static uint32_t unit_crc(const struct bitmap_unit *unit)
{
	return checksum_crc(0, unit, offsetof(struct bitmap_unit, crc));
}

static bool unit_zero(const struct bitmap_unit *unit)
{
	static const struct bitmap_unit zero;

	return memcmp(unit, &zero, sizeof zero) == 0;
}

bool bitmap_unit_whole(const struct bitmap_unit *unit, uint64_t index)
{
	return unit_zero(unit) ||
	       (from_le32(unit->index) == index + 1 && checksum_equal(unit_crc(unit), from_le32(unit->crc)));
}

/* Takes over what the disk says of one unit. One of zeros is left alone: memory never touched takes no space. */
static void unit_take(struct bitmap *b, uint64_t index, const struct bitmap_unit *unit)
{
	uint64_t first = index * BITMAP_UNIT_BITS, bits = min_u64(BITMAP_UNIT_BITS, b->bits - first);

	if (unit_zero(unit))
		return;
	if (!bitmap_unit_whole(unit, index)) {
		b->damaged++;
		put(b, first, bits, b->damaged_set);
		page_set_dirty(b, index / PAGE_UNITS, true);
		return;
	}
	for (uint64_t at = 0; at < bits; at += 64) {
		uint64_t value = from_le64(unit->words[at / 64]) & word_mask(first + at, first + bits);

		*word_at(b, (first + at) / 64) = to_le64(value);
		b->count += bits_set(value);
	}
}

static void bitmap_read(struct io_op *op, int64_t result);

static void read_next(struct bitmap *b)
{
	b->op = (struct io_op){
		.kind = IO_READ, .file = b->file, .data = b->stage,
		.offset = b->offset + b->page_next * BITMAP_PAGE_BYTES,
		.len = min_u64(STAGE_PAGES, b->page_count - b->page_next) * BITMAP_PAGE_BYTES, .done = bitmap_read,
	};
	b->io->submit(b->io, &b->op);
}

static void bitmap_read(struct io_op *op, int64_t result)
{
	struct bitmap *b = container_of(op, struct bitmap, op);
	const struct bitmap_unit *units = (const void *)b->stage;
	uint64_t first = b->page_next * PAGE_UNITS;

	if (result != (int64_t)op->len) {
		fail(b, result);
		return;
	}
	for (uint64_t i = 0; i < op->len / BITMAP_UNIT_BYTES && first + i < b->unit_count; i++)
		unit_take(b, first + i, &units[i]);
	b->page_next += op->len / BITMAP_PAGE_BYTES;
	if (b->page_next < b->page_count) {
		read_next(b);
		return;
	}
	b->loaded = true;
	b->moved(b);
}

void bitmap_load(struct bitmap *b, bool damaged_set)
{
	CHECK(bitmap_quiet(b) && !b->loaded && !b->failed && b->count == 0 && b->wanted == 0);
	b->damaged_set = damaged_set;
	b->page_next = 0;
	read_next(b);
}

/* ---- save ---- */

static void bitmap_wrote(struct io_op *op, int64_t result);
static void bitmap_synced(struct io_op *op, int64_t result);

/* Copies the run of dirty pages at page_next, and seals the copy. Units behind the last one stay zeros. */
static void stage_fill(struct bitmap *b)
{
	uint64_t pages = 0, first = b->page_next * PAGE_UNITS;
	struct bitmap_unit *units = (void *)b->stage;

	while (pages < STAGE_PAGES && b->page_next < b->page_count && page_dirty(b, b->page_next)) {
		page_set_dirty(b, b->page_next++, false);
		pages++;
	}
	memcpy(units, &b->units[first], pages * BITMAP_PAGE_BYTES);
	for (uint64_t i = 0; i < pages * PAGE_UNITS && first + i < b->unit_count; i++) {
		units[i].index = to_le32((uint32_t)(first + i + 1));
		units[i].crc = to_le32(unit_crc(&units[i]));
	}
	b->op = (struct io_op){
		.kind = IO_WRITE, .file = b->file, .data = units, .offset = b->offset + first * BITMAP_UNIT_BYTES,
		.len = pages * BITMAP_PAGE_BYTES, .done = bitmap_wrote,
	};
}

static void pass_next(struct bitmap *b)
{
	while (b->page_next < b->page_count && !page_dirty(b, b->page_next))
		b->page_next = b->dirty[b->page_next / 64] ? b->page_next + 1 : round_down(b->page_next, 64) + 64;
	if (b->page_next < b->page_count)
		stage_fill(b);
	else
		b->op = (struct io_op){ .kind = IO_SYNC, .file = b->file, .done = bitmap_synced };
	b->io->submit(b->io, &b->op);
}

static void bitmap_wrote(struct io_op *op, int64_t result)
{
	struct bitmap *b = container_of(op, struct bitmap, op);

	if (result == (int64_t)op->len)
		pass_next(b);
	else
		fail(b, result);
}

static void pass_start(struct bitmap *b)
{
	b->submitted = b->wanted;
	b->page_next = 0;
	pass_next(b);
}

static void bitmap_synced(struct io_op *op, int64_t result)
{
	struct bitmap *b = container_of(op, struct bitmap, op);

	if (result < 0) {
		fail(b, result);
		return;
	}
	/* With no page dirty this pass took along all that was asked for while it ran. */
	b->saved = b->dirty_count ? b->submitted : b->wanted;
	b->moved(b);
	if (!b->failed && b->wanted > b->saved && bitmap_quiet(b))
		pass_start(b);
}

uint64_t bitmap_save(struct bitmap *b)
{
	if (!b->failed && b->dirty_count == 0)
		return bitmap_quiet(b) ? b->saved : b->submitted;
	b->wanted++;
	if (!b->failed && bitmap_quiet(b))
		pass_start(b);
	return b->wanted;
}
