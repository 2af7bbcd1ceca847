/* SPDX-License-Identifier: Apache-2.0 */
/* Every byte of a record that came from outside passes record_look() before anyone reads it. */
#include "record.h"

#include <string.h>

#include "checksum.h"

uint32_t record_volume_tag(const struct geometry *g)
{
	return (uint32_t)g->uuid[0] | (uint32_t)g->uuid[1] << 8 | (uint32_t)g->uuid[2] << 16 |
	       (uint32_t)g->uuid[3] << 24;
}

const char *record_finding_name(enum record_finding finding)
{
	static const char *const names[RECORD_FINDINGS] = {
		[RECORD_SHORT] = "too few bytes",
		[RECORD_BLANK] = "no record",
		[RECORD_FOREIGN] = "a record of another volume",
		[RECORD_STALE] = "a record of an earlier lap",
		[RECORD_NEWER] = "a record of a newer version",
		[RECORD_TORN] = "a torn record",
		[RECORD_UNCHAINED] = "a record that does not follow",
		[RECORD_BAD] = "a record with wrong content",
		[RECORD_GOOD] = "a record",
	};

	return names[finding];
}

/* Whether the record keeps to its segment, and its lengths add up to its length. */
static bool lengths_hold(const struct record_header *r, const struct geometry *g)
{
	uint64_t length = from_le32(r->length), lsn = from_le64(r->lsn);
	uint64_t deltas = from_le32(r->delta_count), annotation = from_le32(r->annotation_len);
	uint64_t payload = from_le32(r->payload_len);
	uint64_t limit = record_is_pad(r) ? g->segment_bytes : record_bytes_max(g);

	if (length < RECORD_HEADER_BYTES || length % 8 || length > limit)
		return false;
	if (lsn % g->segment_bytes + length > g->segment_bytes)
		return false;
	if (record_is_pad(r))
		return deltas == 0 && annotation == 0 && payload == 0 &&
		       (lsn + length) % g->journal_block == 0;
	return RECORD_HEADER_BYTES + deltas * sizeof(struct record_delta) + round_up(annotation, 8) +
		round_up(payload, 8) == length;
}

static uint32_t crc_of(const struct record_header *r)
{
	uint32_t crc = checksum_crc(0, r, offsetof(struct record_header, crc));

	return checksum_crc(crc, r + 1, record_wire_length(r) - RECORD_HEADER_BYTES);
}

static bool content_holds(const struct record_header *r, const struct geometry *g)
{
	const struct record_delta *deltas = record_deltas(r);
	uint64_t payload = 0, pages = 0, holes = 0, last = UINT64_MAX;

	if (from_le16(r->kind) == 0 || from_le16(r->kind) >= RECORD_KINDS)
		return false;
	for (uint32_t i = 0; i < from_le32(r->delta_count); i++) {
		uint64_t offset = from_le64(deltas[i].offset), length = from_le32(deltas[i].length);
		uint16_t kind = from_le16(deltas[i].kind);

		if (kind < DELTA_DATA || kind > DELTA_ZERO || from_le16(deltas[i].reserved) != 0)
			return false;
		if (length == 0 || length > DELTA_RANGE_MAX || offset > g->volume_bytes ||
		    length > g->volume_bytes - offset)
			return false;
		if (kind == DELTA_DATA)
			payload += length;
		/* A range of whole blocks is a hole and takes no page, but for its two ends. */
		holes += kind != DELTA_DATA;
		pages += kind != DELTA_DATA ? 2 : (offset + length - 1) / BLOCK_BYTES - offset / BLOCK_BYTES +
						  (offset / BLOCK_BYTES != last);
		last = kind == DELTA_DATA ? (offset + length - 1) / BLOCK_BYTES : UINT64_MAX;
		if (pages > RECORD_PAGES_MAX || holes > RECORD_HOLES_MAX)
			return false;
	}
	return payload == from_le32(r->payload_len);
}

enum record_finding record_look(const void *bytes, uint64_t avail, const struct position *at,
				const struct geometry *g)
{
	const struct record_header *r = bytes;

	if (avail < RECORD_HEADER_BYTES)
		return RECORD_SHORT;
	if (from_le32(r->magic) != RECORD_MAGIC)
		return RECORD_BLANK;
	/* The sums come first: a torn header says nothing, not even whose it is. */
	if (!lengths_hold(r, g))
		return RECORD_TORN;
	if (avail < record_wire_length(r))
		return RECORD_SHORT;
	if (!checksum_equal(crc_of(r), from_le32(r->crc)))
		return RECORD_TORN;
	if (from_le32(r->volume_tag) != record_volume_tag(g))
		return RECORD_FOREIGN;
	if (from_le64(r->lsn) != at->lsn)
		return RECORD_STALE;
	if (memcmp(r->hash, at->hash, HASH_BYTES) != 0)
		return RECORD_UNCHAINED;
	if (from_le16(r->version) != RECORD_VERSION)
		return RECORD_NEWER;
	return content_holds(r, g) ? RECORD_GOOD : RECORD_BAD;
}

void record_next(const struct record_header *r, struct position *after)
{
	after->lsn = from_le64(r->lsn) + record_length(r);
	checksum_hash(r, record_wire_length(r), after->hash);
}
