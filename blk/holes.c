/* SPDX-License-Identifier: Apache-2.0 */
#include "holes.h"

#include <string.h>

#include "bytes.h"
#include "check.h"

/* Index of the first hole that ends behind @block. */
static uint32_t first_behind(const struct holes *h, uint64_t block)
{
	uint32_t low = 0, high = h->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (h->at[middle].end <= block)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool holes_have_room(const struct holes *h, uint32_t more)
{
	return h->count + 2ull * more <= HOLES_MAX;	/* one that splits another makes two more */
}

static void replace(struct holes *h, uint32_t from, uint32_t old, const struct hole *with, uint32_t new)
{
	CHECK(h->count - old + new <= HOLES_MAX);
	memmove(&h->at[from + new], &h->at[from + old], (h->count - from - old) * sizeof h->at[0]);
	memcpy(&h->at[from], with, new * sizeof h->at[0]);
	h->count += new - old;
}

void holes_add(struct holes *h, const struct hole *hole)
{
	struct hole merged = *hole, parts[3];
	uint32_t from = first_behind(h, hole->first), to, count = 0;

	CHECK(hole->first < hole->end);
	/* A neighbour of the same kind that only touches is taken in too. */
	if (from > 0 && h->at[from - 1].end == hole->first)
		from--;
	for (to = from; to < h->count && h->at[to].first <= hole->end; to++) {
		struct hole *old = &h->at[to];

		merged.lsn = min_u64(merged.lsn, old->lsn);
		if (old->keep_space == hole->keep_space) {
			merged.first = min_u64(merged.first, old->first);
			merged.end = max_u64(merged.end, old->end);
			merged.lsn_end = max_u64(merged.lsn_end, old->lsn_end);
		} else if (old->first < hole->first) {
			parts[count] = *old;
			parts[count++].end = min_u64(old->end, hole->first);
		}
	}
	parts[count++] = merged;
	if (to > from && h->at[to - 1].keep_space != hole->keep_space && h->at[to - 1].end > hole->end) {
		parts[count] = h->at[to - 1];
		parts[count++].first = max_u64(h->at[to - 1].first, hole->end);
	}
	replace(h, from, to - from, parts, count);
}

bool holes_have(const struct holes *h, uint64_t block)
{
	uint32_t i = first_behind(h, block);

	return i < h->count && h->at[i].first <= block;
}

uint64_t holes_border(const struct holes *h, uint64_t block)
{
	uint32_t i = first_behind(h, block);

	if (i == h->count)
		return UINT64_MAX;
	return h->at[i].first > block ? h->at[i].first : h->at[i].end;
}

uint64_t holes_oldest(const struct holes *h)
{
	uint64_t oldest = UINT64_MAX;

	for (uint32_t i = 0; i < h->count; i++)
		oldest = min_u64(oldest, h->at[i].lsn);
	return oldest;
}
