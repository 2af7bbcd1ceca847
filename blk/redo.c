/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces are sorted by block, and within a block by their place in the log. The payload's LSN is that place: each
 * byte of data has its own, and what has no bytes stands where the next one's begin, before it.
 *
 * Holes may overlap any number of times. They are painted over the volume, the newest first, each only where nothing
 * is yet; `skip` leads over what is painted, so that it takes as long as sorting them. */
#include "redo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a delta is ---- */

/* A delta's parts: whole blocks that become zeros, [hole_first, hole_end), and the rest of it. */
struct parts { uint64_t first, end, hole_first, hole_end; };

static struct parts parts_of(const struct record_delta *delta)
{
	struct parts p = { .first = from_le64(delta->offset) };

	p.end = p.first + from_le32(delta->length);
	if (from_le16(delta->kind) != DELTA_DATA) {
		p.hole_first = round_up(p.first, BLOCK_BYTES) / BLOCK_BYTES;
		p.hole_end = max_u64(p.end / BLOCK_BYTES, p.hole_first);
	}
	return p;
}

static bool has_hole(const struct parts *p)
{
	return p->hole_first < p->hole_end;
}

static uint64_t blocks_of(uint64_t first, uint64_t end)
{
	return first < end ? (end - 1) / BLOCK_BYTES - first / BLOCK_BYTES + 1 : 0;
}

void redo_count(struct redo *redo, const struct record_header *r)
{
	const struct record_delta *deltas = record_deltas(r);

	for (uint32_t i = 0; i < from_le32(r->delta_count); i++) {
		struct parts p = parts_of(&deltas[i]);

		redo->hole_max += has_hole(&p);
		redo->piece_max += has_hole(&p) ? blocks_of(p.first, p.hole_first * BLOCK_BYTES) +
						  blocks_of(p.hole_end * BLOCK_BYTES, p.end)
						: blocks_of(p.first, p.end);
	}
}

int redo_allot(struct redo *redo)
{
	redo->pieces = redo->io->alloc(redo->io, (redo->piece_max + 1) * sizeof *redo->pieces, 0);
	redo->holes = redo->io->alloc(redo->io, (redo->hole_max + 1) * sizeof *redo->holes, 0);
	return redo->pieces && redo->holes ? 0 : -ENOMEM;
}

void redo_delete(struct redo *redo)
{
	if (!redo->io)
		return;
	redo->io->free(redo->io, redo->pieces);
	redo->io->free(redo->io, redo->holes);
	*redo = (struct redo){ 0 };
}

/* ---- adding ---- */

/* Bytes [first, end) of the volume; of data the first is at LSN @at. */
static int pieces_add(struct redo *redo, uint64_t first, uint64_t end, uint64_t at, bool zeros)
{
	while (first < end) {
		uint64_t to = min_u64(end, round_down(first, BLOCK_BYTES) + BLOCK_BYTES);

		if (redo->piece_count == redo->piece_max)
			return -EBADMSG;
		redo->pieces[redo->piece_count++] = (struct redo_piece){
			.block = first / BLOCK_BYTES, .at = at, .from = (uint16_t)(first % BLOCK_BYTES),
			.len = (uint16_t)(to - first), .zeros = zeros };
		at += zeros ? 0 : to - first;
		first = to;
	}
	return 0;
}

int redo_add(struct redo *redo, const struct record_header *r)
{
	const struct record_delta *deltas = record_deltas(r);
	uint64_t at = from_le64(r->lsn) + (uint64_t)(record_payload(r) - (const uint8_t *)r);
	int error = 0;

	for (uint32_t i = 0; i < from_le32(r->delta_count) && !error; i++) {
		struct parts p = parts_of(&deltas[i]);
		bool data = from_le16(deltas[i].kind) == DELTA_DATA;

		if (!has_hole(&p)) {
			error = pieces_add(redo, p.first, p.end, at, !data);
			at += data ? p.end - p.first : 0;
			continue;
		}
		if (redo->hole_count == redo->hole_max)
			return -EBADMSG;
		redo->holes[redo->hole_count++] = (struct redo_hole){ p.hole_first, p.hole_end, at };
		error = pieces_add(redo, p.first, p.hole_first * BLOCK_BYTES, at, true);
		if (!error)
			error = pieces_add(redo, p.hole_end * BLOCK_BYTES, p.end, at, true);
	}
	return error;
}

/* ---- ready ---- */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int compare_pieces(const void *a, const void *b)
{
	const struct redo_piece *x = a, *y = b;

	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return (int)y->zeros - (int)x->zeros;
}

/* The first of @count rising values that is not below @value. */
static uint64_t place_of(const uint64_t *values, uint64_t count, uint64_t value)
{
	uint64_t low = 0;

	while (low < count) {
		uint64_t middle = (low + count) / 2;

		if (values[middle] < value)
			low = middle + 1;
		else
			count = middle;
	}
	return low;
}

/* The first cell at or behind @cell that is not painted. */
static uint64_t unpainted(uint64_t *skip, uint64_t cell)
{
	uint64_t found = cell;

	while (skip[found] != found)
		found = skip[found];
	while (skip[cell] != found) {
		uint64_t next = skip[cell];

		skip[cell] = found;
		cell = next;
	}
	return found;
}

/* @edges: of all holes, rising, each once: cell i is [edges[i], edges[i + 1]). @at, @skip: one per edge. */
static void paint(const struct redo *redo, const uint64_t *edges, uint64_t edge_count, uint64_t *at, uint64_t *skip)
{
	for (uint64_t i = 0; i < edge_count; i++)
		skip[i] = i;
	for (uint64_t i = redo->hole_count; i-- > 0; ) {
		const struct redo_hole *hole = &redo->holes[i];
		uint64_t end = place_of(edges, edge_count, hole->end);
		uint64_t cell = unpainted(skip, place_of(edges, edge_count, hole->first));

		while (cell < end) {
			at[cell] = hole->at;
			skip[cell] = cell + 1;
			cell = unpainted(skip, cell + 1);
		}
	}
}

static int holes_ready(struct redo *redo)
{
	uint64_t count = 2 * redo->hole_count, edge_count = 0;
	struct redo_hole *painted = redo->io->alloc(redo->io, (count + 1) * sizeof *painted, 0);
	uint64_t *edges = redo->io->alloc(redo->io, 3 * (count + 1) * sizeof *edges, 0), *at = edges + count + 1;

	if (!painted || !edges) {
		redo->io->free(redo->io, painted);
		redo->io->free(redo->io, edges);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < redo->hole_count; i++) {
		edges[2 * i] = redo->holes[i].first;
		edges[2 * i + 1] = redo->holes[i].end;
	}
	qsort(edges, count, sizeof *edges, compare_u64);
	for (uint64_t i = 0; i < count; i++)
		if (i == 0 || edges[i] != edges[edge_count - 1])
			edges[edge_count++] = edges[i];
	paint(redo, edges, edge_count, at, at + count + 1);
	redo->hole_count = 0;
	for (uint64_t i = 0; i + 1 < edge_count; i++)
		if (at[i])
			painted[redo->hole_count++] = (struct redo_hole){ edges[i], edges[i + 1], at[i] };
	redo->io->free(redo->io, edges);
	redo->io->free(redo->io, redo->holes);
	redo->holes = painted;
	return 0;
}

int redo_ready(struct redo *redo)
{
	if (redo->piece_count)
		qsort(redo->pieces, redo->piece_count, sizeof *redo->pieces, compare_pieces);
	return redo->hole_count ? holes_ready(redo) : 0;
}

/* ---- asking ---- */

/* The first hole that ends behind @block. */
static const struct redo_hole *hole_from(const struct redo *redo, uint64_t block)
{
	uint64_t low = 0, high = redo->hole_count;

	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (redo->holes[middle].end <= block)
			low = middle + 1;
		else
			high = middle;
	}
	return low < redo->hole_count ? &redo->holes[low] : NULL;
}

/* The first piece of @block, or of one above it, at or behind LSN @at. */
static uint64_t piece_from(const struct redo *redo, uint64_t block, uint64_t at)
{
	uint64_t low = 0, high = redo->piece_count;

	while (low < high) {
		uint64_t middle = (low + high) / 2;
		const struct redo_piece *piece = &redo->pieces[middle];

		if (piece->block < block || (piece->block == block && piece->at < at))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void redo_find(const struct redo *redo, uint64_t block, struct redo_block *out)
{
	const struct redo_hole *hole = hole_from(redo, block);
	bool in_hole = hole && hole->first <= block;
	uint64_t first = piece_from(redo, block, in_hole ? hole->at : 0), end = piece_from(redo, block + 1, 0);

	*out = (struct redo_block){ .zeros = in_hole, .store = !in_hole };
	/* What is overwritten whole does not matter any more. */
	for (uint64_t i = end; i-- > first; ) {
		if (redo->pieces[i].len < BLOCK_BYTES)
			continue;
		first = i;
		out->zeros = out->store = false;
		break;
	}
	out->pieces = &redo->pieces[first];
	out->count = end - first;
}

uint64_t redo_next(const struct redo *redo, uint64_t block, uint64_t end)
{
	const struct redo_hole *hole = hole_from(redo, block);
	uint64_t piece = piece_from(redo, block, 0);

	if (hole)
		end = min_u64(end, max_u64(hole->first, block));
	return piece < redo->piece_count ? min_u64(end, redo->pieces[piece].block) : end;
}
