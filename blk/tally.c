/* SPDX-License-Identifier: Apache-2.0 */
#include "tally.h"

void tally_blocks(struct bitmap *bits, const struct record_header *r)
{
	const struct record_delta *deltas = record_deltas(r);

	for (uint32_t d = 0; from_le16(r->kind) == RECORD_DATA && d < from_le32(r->delta_count); d++) {
		uint64_t offset = from_le64(deltas[d].offset), first = offset / BLOCK_BYTES;
		uint64_t last = (offset + from_le32(deltas[d].length) - 1) / BLOCK_BYTES;

		bitmap_set(bits, first, last - first + 1);
	}
}

void tally_record(struct tally *tally, struct bitmap *bits, const struct record_header *r)
{
	const struct record_delta *deltas = record_deltas(r);
	uint64_t before = tally->bytes;

	tally_blocks(bits, r);
	for (uint32_t d = 0; from_le16(r->kind) == RECORD_DATA && d < from_le32(r->delta_count); d++)
		tally->bytes += from_le32(deltas[d].length);
	if (tally->bytes == before)
		return;
	tally->last_ns = from_le64(r->wall_ns);
	if (!tally->first_ns)
		tally->first_ns = tally->last_ns;
}
