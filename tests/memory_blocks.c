/* SPDX-License-Identifier: Apache-2.0 */
#include "memory_blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

enum {
	BUCKETS_MAX = 1 << 16,
	DELTA_GAP = 16,			/* ranges nearer than a delta's header become one */
	WRITE_MAX = 256 << 10,
	SPARSE_BLOCKS = 1 << 24,	/* larger than this: what is only read takes no memory */
};

static const uint8_t zeros[BLOCK_BYTES] __attribute__((aligned(8)));

struct page {
	struct page *next;
	uint64_t block;
	uint8_t *bytes;
	bool missing;
};

struct change {
	uint64_t block;
	uint8_t *page;			/* as the transaction has it: a copy, as on a real volume */
	bool fresh;
};

struct run {
	uint64_t offset, len;
	const uint8_t *bytes;		/* NULL: a discard */
};

/* A record as it is kept: its deltas, their bytes in turn. */
struct kept_delta { uint64_t offset, len; enum delta_kind kind; };
struct kept {
	uint32_t count, payload, annotation_len;
	struct kept_delta *deltas;
	uint8_t *bytes, *annotation;
};

struct memory_blocks {
	struct blocks blocks;
	struct io io;
	struct page **buckets;
	uint32_t bucket_count;		/* a power of two */
	uint64_t random;
	unsigned miss;
	bool read_only;
	uint64_t fail;
	uint32_t change_count, run_count;
	uint64_t written;		/* bytes given to write() in this transaction */
	struct change changes[BLOCKS_CHANGES_MAX];
	struct run runs[BLOCKS_RUNS_MAX];
	struct kept record;		/* being made */
	uint32_t record_room, payload_room;
	struct memory_blocks_figures figures;
	struct memory_blocks *base;
	struct kept *kept;
	uint64_t kept_count, kept_room;
};

static uint64_t draw(struct memory_blocks *m)
{
	uint64_t x = m->random += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static struct memory_blocks *of(struct blocks *blocks)
{
	return container_of(blocks, struct memory_blocks, blocks);
}

/* ---- pages ----------------------------------------------------------------------------------------- */

static struct page **place(struct memory_blocks *m, uint64_t block)
{
	struct page **at = &m->buckets[(block * 0x9e3779b97f4a7c15u) >> 48 & (m->bucket_count - 1)];

	while (*at && (*at)->block != block)
		at = &(*at)->next;
	return at;
}

static struct page *make(struct memory_blocks *m, uint64_t block)
{
	struct page **at = place(m, block);

	CHECK(block < m->blocks.count);
	if (!*at) {
		*at = calloc(1, sizeof **at);
		(*at)->block = block;
		(*at)->bytes = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
		memset((*at)->bytes, 0, BLOCK_BYTES);
	}
	return *at;
}

static void drop(struct memory_blocks *m, uint64_t block)
{
	struct page **at = place(m, block), *page = *at;

	if (!page)
		return;
	*at = page->next;
	free(page->bytes);
	free(page);
}

uint8_t *memory_blocks_page(struct memory_blocks *m, uint64_t block)
{
	struct page *page = *place(m, block);

	return page ? page->bytes : NULL;
}

uint8_t *memory_blocks_make(struct memory_blocks *m, uint64_t block)
{
	return make(m, block)->bytes;
}

static int compare_blocks(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

uint64_t *memory_blocks_written(struct memory_blocks *m, uint64_t *count)
{
	uint64_t *blocks = NULL, room = 0;

	*count = 0;
	for (unsigned i = 0; i < m->bucket_count; i++) {
		for (struct page *page = m->buckets[i]; page; page = page->next) {
			if (*count == room) {
				room = room ? 2 * room : 64;
				blocks = realloc(blocks, room * sizeof *blocks);
			}
			blocks[(*count)++] = page->block;
		}
	}
	if (*count)
		qsort(blocks, *count, sizeof *blocks, compare_blocks);
	return blocks;
}

void memory_blocks_settle(struct memory_blocks *m)
{
	for (unsigned i = 0; i < m->bucket_count; i++)
		for (struct page *page = m->buckets[i]; page; page = page->next)
			page->missing = false;
}

/* ---- transactions ---------------------------------------------------------------------------------- */

static struct change *changed(struct memory_blocks *m, uint64_t block)
{
	for (uint32_t i = 0; i < m->change_count; i++)
		if (m->changes[i].block == block)
			return &m->changes[i];
	return NULL;
}

static bool in_run(const struct memory_blocks *m, uint64_t block)
{
	for (uint32_t i = 0; i < m->run_count; i++)
		if (m->runs[i].offset < (block + 1) * BLOCK_BYTES &&
		    block * BLOCK_BYTES < m->runs[i].offset + m->runs[i].len)
			return true;
	return false;
}

static int blocks_read(struct blocks *blocks, uint64_t block, const uint8_t **page)
{
	struct memory_blocks *m = of(blocks);
	struct page *found;

	if (block >= blocks->count)
		return -ERANGE;
	if (block == m->fail)
		return -EIO;
	CHECK(!in_run(m, block));
	m->figures.reads++;
	if (changed(m, block)) {
		*page = changed(m, block)->page;
		return 0;
	}
	if (blocks->count > SPARSE_BLOCKS && !*place(m, block)) {
		*page = zeros;
		return 0;
	}
	found = make(m, block);
	if (m->miss && draw(m) % m->miss == 0)
		found->missing = true;
	if (found->missing)
		return -EAGAIN;
	*page = found->bytes;
	return 0;
}

static int change_add(struct memory_blocks *m, uint64_t block, bool fresh, uint8_t **page)
{
	struct change *change = changed(m, block);
	const uint8_t *now = memory_blocks_page(m, block);

	if (change) {
		*page = change->page;
		if (fresh)
			memset(*page, 0, BLOCK_BYTES);
		change->fresh = change->fresh || fresh;
		return 0;
	}
	if (m->change_count == BLOCKS_CHANGES_MAX)
		return -E2BIG;
	CHECK(!in_run(m, block));
	change = &m->changes[m->change_count++];
	*change = (struct change){ block, aligned_alloc(BLOCK_BYTES, BLOCK_BYTES), fresh };
	memcpy(change->page, fresh || !now ? zeros : now, BLOCK_BYTES);
	*page = change->page;
	return 0;
}

static int blocks_change(struct blocks *blocks, uint64_t block, uint8_t **page)
{
	const uint8_t *loaded;
	int error = of(blocks)->read_only ? -EROFS : blocks_read(blocks, block, &loaded);

	return error ? error : change_add(of(blocks), block, false, page);
}

static int blocks_fresh(struct blocks *blocks, uint64_t block, uint8_t **page)
{
	if (of(blocks)->read_only)
		return -EROFS;
	if (block >= blocks->count)
		return -ERANGE;
	return change_add(of(blocks), block, true, page);
}

static int run_add(struct memory_blocks *m, uint64_t offset, uint64_t len, const void *bytes)
{
	if (m->read_only)
		return -EROFS;
	CHECK(len > 0);
	if (offset + len > m->blocks.count * BLOCK_BYTES)
		return -ERANGE;
	if (m->run_count == BLOCKS_RUNS_MAX || m->written + (bytes ? len : 0) > WRITE_MAX)
		return -E2BIG;
	for (uint32_t i = 0; i < m->change_count; i++)
		CHECK(m->changes[i].block < offset / BLOCK_BYTES ||
		      m->changes[i].block > (offset + len - 1) / BLOCK_BYTES);
	m->written += bytes ? len : 0;
	m->runs[m->run_count++] = (struct run){ offset, len, bytes };
	return 0;
}

static int blocks_write(struct blocks *blocks, uint64_t offset, const void *bytes, uint32_t len)
{
	return run_add(of(blocks), offset, len, bytes);
}

static int blocks_discard(struct blocks *blocks, uint64_t block, uint64_t count)
{
	return run_add(of(blocks), block * BLOCK_BYTES, count * BLOCK_BYTES, NULL);
}

static void transaction_end(struct memory_blocks *m)
{
	for (uint32_t i = 0; i < m->change_count; i++)
		free(m->changes[i].page);
	m->change_count = m->run_count = 0;
	m->written = 0;
}

static void blocks_abort(struct blocks *blocks)
{
	struct memory_blocks *m = of(blocks);

	transaction_end(m);
	m->figures.aborts++;
}

/* ---- records --------------------------------------------------------------------------------------- */

static void record_delta(struct memory_blocks *m, uint64_t offset, uint64_t len, enum delta_kind kind,
			 const uint8_t *bytes)
{
	struct kept *r = &m->record;

	if (r->count == m->record_room) {
		m->record_room = m->record_room ? 2 * m->record_room : 64;
		r->deltas = realloc(r->deltas, m->record_room * sizeof *r->deltas);
	}
	r->deltas[r->count++] = (struct kept_delta){ offset, len, kind };
	if (kind != DELTA_DATA)
		return;
	while (r->payload + len > m->payload_room) {
		m->payload_room = m->payload_room ? 2 * m->payload_room : 4096;
		r->bytes = realloc(r->bytes, m->payload_room);
	}
	memcpy(r->bytes + r->payload, bytes, len);
	r->payload += (uint32_t)len;
}

static void record_page(struct memory_blocks *m, const struct change *change)
{
	uint8_t *now = make(m, change->block)->bytes;
	const uint8_t *before = change->fresh ? zeros : now, *after = change->page;

	if (change->fresh)
		record_delta(m, change->block * BLOCK_BYTES, BLOCK_BYTES, DELTA_ZERO, NULL);
	for (uint32_t at = 0; at < BLOCK_BYTES; at++) {
		uint32_t end = at + 1, look = at + 1;

		if (before[at] == after[at])
			continue;
		for (; look < BLOCK_BYTES && look - end < DELTA_GAP; look++)
			if (before[look] != after[look])
				end = look + 1;
		record_delta(m, change->block * BLOCK_BYTES + at, end - at, DELTA_DATA, after + at);
		at = end - 1;
	}
	memcpy(now, after, BLOCK_BYTES);
}

static void record_keep(struct memory_blocks *m, const void *annotation, uint32_t len)
{
	struct kept *kept;

	if (m->kept_count == m->kept_room) {
		m->kept_room = m->kept_room ? 2 * m->kept_room : 64;
		m->kept = realloc(m->kept, m->kept_room * sizeof *m->kept);
	}
	kept = &m->kept[m->kept_count++];
	*kept = (struct kept){ .count = m->record.count, .payload = m->record.payload, .annotation_len = len,
			       .deltas = malloc(m->record.count * sizeof *kept->deltas + 1),
			       .bytes = malloc(m->record.payload + 1), .annotation = malloc(len + 1) };
	if (len)
		memcpy(kept->annotation, annotation, len);
	memcpy(kept->deltas, m->record.deltas, m->record.count * sizeof *kept->deltas);
	if (m->record.payload)
		memcpy(kept->bytes, m->record.bytes, m->record.payload);
}

static void record_apply(struct memory_blocks *m, uint64_t offset, uint64_t len, const uint8_t *bytes)
{
	while (len) {
		uint64_t block = offset / BLOCK_BYTES, piece = min_u64(len, BLOCK_BYTES - offset % BLOCK_BYTES);

		if (bytes)
			memcpy(make(m, block)->bytes + offset % BLOCK_BYTES, bytes, piece);
		else if (memory_blocks_page(m, block))
			drop(m, block);
		bytes = bytes ? bytes + piece : NULL;
		offset += piece;
		len -= piece;
	}
}

/* A discard of more blocks than there are pages: page by page then. */
static void discard_apply(struct memory_blocks *m, uint64_t offset, uint64_t len)
{
	uint64_t count, *blocks;

	if (len / BLOCK_BYTES <= BUCKETS_MAX) {
		record_apply(m, offset, len, NULL);
		return;
	}
	blocks = memory_blocks_written(m, &count);
	for (uint64_t i = 0; i < count; i++)
		if (blocks[i] >= offset / BLOCK_BYTES && blocks[i] < (offset + len) / BLOCK_BYTES)
			drop(m, blocks[i]);
	free(blocks);
}

static int compare_changes(const void *a, const void *b)
{
	return compare_blocks(&((const struct change *)a)->block, &((const struct change *)b)->block);
}

static int blocks_commit(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn)
{
	struct memory_blocks *m = of(blocks);
	int error = len > BLOCKS_ANNOTATION_MAX ? -E2BIG : m->miss && draw(m) % m->miss == 0 ? -EAGAIN : 0;

	CHECK(annotation || len == 0);
	if (error) {
		blocks_abort(blocks);
		return error;
	}
	m->record.count = m->record.payload = 0;
	qsort(m->changes, m->change_count, sizeof m->changes[0], compare_changes);
	for (uint32_t i = 0; i < m->change_count; i++)
		record_page(m, &m->changes[i]);
	for (uint32_t i = 0; i < m->run_count; i++) {
		const struct run *run = &m->runs[i];

		record_delta(m, run->offset, run->len, run->bytes ? DELTA_DATA : DELTA_DISCARD, run->bytes);
		if (run->bytes)
			record_apply(m, run->offset, run->len, run->bytes);
		else
			discard_apply(m, run->offset, run->len);
	}
	transaction_end(m);
	*lsn = m->figures.logged;
	if (m->record.count == 0)
		return 0;
	m->figures.deltas_last = m->record.count;
	m->figures.logged_last = RECORD_HEADER_BYTES + sizeof(struct record_delta) * m->record.count +
				 round_up(len, 8) + round_up(m->record.payload, 8);
	m->figures.logged += m->figures.logged_last;
	m->figures.commits++;
	if (m->base)
		record_keep(m, annotation, len);
	*lsn = m->figures.logged;
	return 0;
}

/* ---- what a test asks ------------------------------------------------------------------------------ */

static void io_random(struct io *io, void *out, size_t len)
{
	struct memory_blocks *m = container_of(io, struct memory_blocks, io);

	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)draw(m);
}

static void *io_alloc(struct io *io, size_t bytes, unsigned flags)
{
	size_t align = bytes >= BLOCK_BYTES ? BLOCK_BYTES : 16;
	void *memory = aligned_alloc(align, round_up(bytes, align));

	(void)io;
	(void)flags;
	memset(memory, 0, bytes);
	return memory;
}

static void io_free(struct io *io, void *memory)
{
	(void)io;
	free(memory);
}

struct memory_blocks *memory_blocks_new(uint64_t count, uint64_t seed)
{
	struct memory_blocks *m = calloc(1, sizeof *m);

	m->blocks = (struct blocks){ .count = count, .write_max = WRITE_MAX, .read = blocks_read,
				     .change = blocks_change, .fresh = blocks_fresh, .write = blocks_write,
				     .discard = blocks_discard, .commit = blocks_commit, .abort = blocks_abort };
	m->io = (struct io){ .random = io_random, .alloc = io_alloc, .free = io_free };
	m->bucket_count = 64;
	while (m->bucket_count < BUCKETS_MAX && m->bucket_count < count)
		m->bucket_count *= 2;
	m->buckets = calloc(m->bucket_count, sizeof *m->buckets);
	m->random = seed;
	m->fail = UINT64_MAX;
	return m;
}

static void kept_free(struct kept *kept)
{
	free(kept->deltas);
	free(kept->bytes);
	free(kept->annotation);
}

void memory_blocks_free(struct memory_blocks *m)
{
	if (!m)
		return;
	transaction_end(m);
	for (unsigned i = 0; i < m->bucket_count; i++)
		while (m->buckets[i])
			drop(m, m->buckets[i]->block);
	for (uint64_t i = 0; i < m->kept_count; i++)
		kept_free(&m->kept[i]);
	free(m->buckets);
	free(m->kept);
	kept_free(&m->record);
	memory_blocks_free(m->base);
	free(m);
}

struct blocks *memory_blocks_blocks(struct memory_blocks *m) { return &m->blocks; }
struct io *memory_blocks_io(struct memory_blocks *m) { return &m->io; }
void memory_blocks_miss(struct memory_blocks *m, unsigned one_in) { m->miss = one_in; }
void memory_blocks_fail(struct memory_blocks *m, uint64_t block) { m->fail = block; }
void memory_blocks_read_only(struct memory_blocks *m, bool read_only) { m->read_only = read_only; }
const struct memory_blocks_figures *memory_blocks_figures(const struct memory_blocks *m) { return &m->figures; }
uint64_t memory_blocks_kept(const struct memory_blocks *m) { return m->kept_count; }

static struct memory_blocks *copy(const struct memory_blocks *m)
{
	struct memory_blocks *other = memory_blocks_new(m->blocks.count, m->random);

	for (unsigned i = 0; i < m->bucket_count; i++)
		for (const struct page *page = m->buckets[i]; page; page = page->next)
			memcpy(make(other, page->block)->bytes, page->bytes, BLOCK_BYTES);
	return other;
}

void memory_blocks_keep(struct memory_blocks *m)
{
	CHECK(!m->base && m->change_count == 0);
	m->base = copy(m);
}

void memory_blocks_apply(struct memory_blocks *to, const struct memory_blocks *m, uint64_t record)
{
	const struct kept *kept = &m->kept[record];
	const uint8_t *bytes = kept->bytes;

	CHECK(record < m->kept_count && to->change_count == 0);
	for (uint32_t d = 0; d < kept->count; d++) {
		const struct kept_delta *delta = &kept->deltas[d];

		if (delta->kind == DELTA_DATA) {
			record_apply(to, delta->offset, delta->len, bytes);
			bytes += delta->len;
		} else {
			discard_apply(to, delta->offset, delta->len);
		}
	}
}

uint32_t memory_blocks_annotation(const struct memory_blocks *m, uint64_t record, const void **annotation)
{
	CHECK(record < m->kept_count);
	*annotation = m->kept[record].annotation;
	return m->kept[record].annotation_len;
}

struct memory_blocks *memory_blocks_prefix(const struct memory_blocks *m, uint64_t records)
{
	struct memory_blocks *other = copy(m->base);

	for (uint64_t i = 0; i < records; i++)
		memory_blocks_apply(other, m, i);
	return other;
}
