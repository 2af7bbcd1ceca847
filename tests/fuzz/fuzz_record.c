/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a journal's part: whatever record_look() calls good is walked to its last byte. The first byte
 * chooses the block and how much of a header is put right before each look. */
#include <stdlib.h>
#include <string.h>

#include "record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t walk(const struct record_header *r, const struct geometry *g)
{
	const struct record_delta *deltas = record_deltas(r);
	const uint8_t *payload = record_payload(r), *annotation = record_annotation(r);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < from_le32(r->annotation_len); i++)
		sum += annotation[i];
	for (uint32_t i = 0; i < from_le32(r->delta_count); i++) {
		uint64_t offset = from_le64(deltas[i].offset), length = from_le32(deltas[i].length);

		CHECK(length > 0 && offset + length <= g->volume_bytes && offset + length > offset);
		for (uint64_t k = 0; k < length && from_le16(deltas[i].kind) == DELTA_DATA; k++)
			sum += *payload++;
	}
	CHECK(payload <= (const uint8_t *)r + record_length(r));
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct geometry g = { .uuid = { 9, 8, 7, 6 }, .volume_bytes = 1 << 20, .journal_bytes = 256 << 10,
			      .segment_bytes = 64 << 10, .journal_block = 512, .node = "a" };
	struct position at = { .lsn = 0 };
	unsigned choice = size ? data[0] : 0;
	uint64_t avail = size ? size - 1 : 0;
	uint8_t *bytes = malloc(avail ? avail : 1), *here = bytes;
	static volatile uint64_t sum;	/* so that what is read is read */

	g.journal_block = choice & 1 ? 4096 : 512;
	at.lsn = choice & 2 ? g.segment_bytes - 1024 : 0;
	memcpy(bytes, data + (size > 0), avail);
	for (;;) {
		struct record_header *r = (void *)here;

		if (choice & 4 && avail >= RECORD_HEADER_BYTES) {
			r->magic = to_le32(RECORD_MAGIC);
			r->version = to_le16(RECORD_VERSION);
			r->lsn = to_le64(at.lsn);
			r->volume_tag = to_le32(record_volume_tag(&g));
			memcpy(r->hash, at.hash, HASH_BYTES);
		}
		if (record_look(here, avail, &at, &g) != RECORD_GOOD)
			break;
		CHECK(record_wire_length(r) <= avail);
		if (!record_is_pad(r))
			sum = sum + walk(r, &g);
		record_next(r, &at);
		here += record_wire_length(r);
		avail -= record_wire_length(r);
	}
	free(bytes);
	return 0;
}
