/* SPDX-License-Identifier: Apache-2.0 */
/* What record_look() says of a record that was changed in one place. */
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "record.h"
#include "run.h"
#include "sim/world.h"

enum { BODY_DELTAS = 3, ANNOTATION = 5, RECORD_BYTES = 72 + 3 * 16 + 8 + 24 };

static const struct geometry geometry = {
	.uuid = { 9, 8, 7, 6, 5 }, .volume_bytes = 1 << 20, .journal_bytes = 256 << 10,
	.segment_bytes = 64 << 10, .journal_block = 512, .node = "a",
};
static const struct position here = { .lsn = 1024, .hash = { 1, 2, 3 } };

static void seal(struct record_header *r, uint64_t covered)
{
	uint32_t crc = checksum_crc(0, r, offsetof(struct record_header, crc));

	r->crc = to_le32(checksum_crc(crc, r + 1, covered - RECORD_HEADER_BYTES));
}

static struct record_delta *deltas_of(struct record_header *r)
{
	return (struct record_delta *)(r + 1);
}

static void header_make(struct record_header *r, enum record_kind kind, uint32_t length)
{
	*r = (struct record_header){
		.magic = to_le32(RECORD_MAGIC), .version = to_le16(RECORD_VERSION), .kind = to_le16((uint16_t)kind),
		.lsn = to_le64(here.lsn), .epoch = to_le64(1), .wall_ns = to_le64(77), .length = to_le32(length),
		.volume_tag = to_le32(record_volume_tag(&geometry)),
	};
	memcpy(r->hash, here.hash, HASH_BYTES);
}

/* A write of 7 and of 10 bytes, a discard, and an annotation, in a buffer of exactly its size. */
static struct record_header *record_make(void)
{
	struct record_header *r = malloc(RECORD_BYTES);
	struct record_delta deltas[BODY_DELTAS] = {
		{ to_le64(100), to_le32(7), to_le16(DELTA_DATA), { 0 } },
		{ to_le64(8192), to_le32(4096), to_le16(DELTA_DISCARD), { 0 } },
		{ to_le64((1 << 20) - 10), to_le32(10), to_le16(DELTA_DATA), { 0 } },
	};

	header_make(r, RECORD_DATA, RECORD_BYTES);
	r->delta_count = to_le32(BODY_DELTAS);
	r->annotation_len = to_le32(ANNOTATION);
	r->payload_len = to_le32(17);
	memset(r + 1, 0x5a, RECORD_BYTES - sizeof *r);
	memcpy(r + 1, deltas, sizeof deltas);
	seal(r, RECORD_BYTES);
	return r;
}

static struct record_header *pad_make(uint32_t length)
{
	struct record_header *r = malloc(sizeof *r);

	header_make(r, RECORD_PAD, length);
	seal(r, sizeof *r);
	return r;
}

static void record_of_exact_size_is_good_and_one_byte_less_is_short(void **state)
{
	struct record_header *r = record_make();

	(void)state;
	assert_int_equal(record_look(r, RECORD_BYTES, &here, &geometry), RECORD_GOOD);
	for (uint64_t avail = 0; avail < RECORD_BYTES; avail++) {
		void *cut = malloc(avail ? avail : 1);

		memcpy(cut, r, avail);
		assert_int_equal(record_look(cut, avail, &here, &geometry), RECORD_SHORT);
		free(cut);
	}
	free(r);
}

/* ---- one change, sealed again, and what it is then ---- */

static void change_kind_0(struct record_header *r) { r->kind = to_le16(0); }
static void change_kind_4(struct record_header *r) { r->kind = to_le16(RECORD_KINDS); }
static void change_delta_kind_0(struct record_header *r) { deltas_of(r)[1].kind = to_le16(0); }
static void change_delta_kind_4(struct record_header *r) { deltas_of(r)[1].kind = to_le16(4); }
static void change_delta_reserved(struct record_header *r) { deltas_of(r)[2].reserved = to_le16(1); }
static void change_delta_empty(struct record_header *r) { deltas_of(r)[1].length = to_le32(0); }
static void change_delta_long(struct record_header *r) { deltas_of(r)[1].length = to_le32(DELTA_RANGE_MAX + 1u); }
static void change_delta_behind(struct record_header *r) { deltas_of(r)[1].offset = to_le64((1 << 20) + 1); }
static void change_delta_at_end(struct record_header *r) { deltas_of(r)[1].offset = to_le64(1 << 20); }
static void change_delta_over_end(struct record_header *r) { deltas_of(r)[2].offset = to_le64((1 << 20) - 9); }
static void change_delta_wraps(struct record_header *r) { deltas_of(r)[1].offset = to_le64(UINT64_MAX - 10); }
static void change_payload_less(struct record_header *r) { deltas_of(r)[0].length = to_le32(6); }
static void change_payload_more(struct record_header *r) { deltas_of(r)[0].length = to_le32(8); }
static void change_payload_kind(struct record_header *r) { deltas_of(r)[0].kind = to_le16(DELTA_ZERO); }
static void change_magic(struct record_header *r) { r->magic = to_le32(0); }
static void change_tag(struct record_header *r) { r->volume_tag = to_le32(3); }
static void change_lsn_up(struct record_header *r) { r->lsn = to_le64(here.lsn + 8); }
static void change_lsn_lap(struct record_header *r) { r->lsn = to_le64(here.lsn + geometry.journal_bytes); }
static void change_version_2(struct record_header *r) { r->version = to_le16(2); }
static void change_version_0(struct record_header *r) { r->version = to_le16(0); }
static void change_length_0(struct record_header *r) { r->length = to_le32(0); }
static void change_length_odd(struct record_header *r) { r->length = to_le32(RECORD_BYTES + 4); }
static void change_length_more(struct record_header *r) { r->length = to_le32(RECORD_BYTES + 8); }
static void change_length_less(struct record_header *r) { r->length = to_le32(RECORD_BYTES - 8); }
static void change_length_max(struct record_header *r) { r->length = to_le32(UINT32_MAX - 7); }
static void change_deltas_less(struct record_header *r) { r->delta_count = to_le32(2); }
static void change_deltas_max(struct record_header *r) { r->delta_count = to_le32(UINT32_MAX); }
static void change_annotation(struct record_header *r) { r->annotation_len = to_le32(9); }
static void change_annotation_max(struct record_header *r) { r->annotation_len = to_le32(UINT32_MAX); }
static void change_payload_len(struct record_header *r) { r->payload_len = to_le32(25); }
static void change_payload_max(struct record_header *r) { r->payload_len = to_le32(UINT32_MAX); }
static void change_hash(struct record_header *r) { r->hash[15] ^= 1; }
/* These keep to the rules. */
static void change_epoch(struct record_header *r) { r->epoch = to_le64(9); }
static void change_wall(struct record_header *r) { r->wall_ns = to_le64(UINT64_MAX); }
static void change_to_zero(struct record_header *r) { deltas_of(r)[1].kind = to_le16(DELTA_ZERO); }
static void change_delta_last(struct record_header *r) { deltas_of(r)[1].offset = to_le64((1 << 20) - 4096); }

static const struct change { void (*make)(struct record_header *r); enum record_finding finding; } changes[] = {
	{ change_magic, RECORD_BLANK },
	{ change_tag, RECORD_FOREIGN },
	{ change_lsn_up, RECORD_STALE }, { change_lsn_lap, RECORD_STALE },
	{ change_version_2, RECORD_NEWER }, { change_version_0, RECORD_NEWER },
	{ change_length_0, RECORD_TORN }, { change_length_odd, RECORD_TORN }, { change_length_more, RECORD_TORN },
	{ change_length_less, RECORD_TORN }, { change_length_max, RECORD_TORN }, { change_deltas_less, RECORD_TORN },
	{ change_deltas_max, RECORD_TORN }, { change_annotation, RECORD_TORN }, { change_annotation_max, RECORD_TORN },
	{ change_payload_len, RECORD_TORN }, { change_payload_max, RECORD_TORN },
	{ change_hash, RECORD_UNCHAINED },
	{ change_kind_0, RECORD_BAD }, { change_kind_4, RECORD_BAD }, { change_delta_kind_0, RECORD_BAD },
	{ change_delta_kind_4, RECORD_BAD }, { change_delta_reserved, RECORD_BAD }, { change_delta_empty, RECORD_BAD },
	{ change_delta_long, RECORD_BAD }, { change_delta_behind, RECORD_BAD }, { change_delta_at_end, RECORD_BAD },
	{ change_delta_over_end, RECORD_BAD }, { change_delta_wraps, RECORD_BAD }, { change_payload_less, RECORD_BAD },
	{ change_payload_more, RECORD_BAD }, { change_payload_kind, RECORD_BAD },
	{ change_epoch, RECORD_GOOD }, { change_wall, RECORD_GOOD }, { change_to_zero, RECORD_GOOD },
	{ change_delta_last, RECORD_GOOD },
};

static void record_finding_names_the_one_rule_that_a_change_breaks(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		struct record_header *r = record_make();

		changes[i].make(r);
		seal(r, RECORD_BYTES);
		if (record_look(r, RECORD_BYTES, &here, &geometry) != changes[i].finding)
			fail_msg("row %u: %s, not %s", i,
				 record_finding_name(record_look(r, RECORD_BYTES, &here, &geometry)),
				 record_finding_name(changes[i].finding));
		free(r);
	}
}

static void record_with_any_bit_flipped_is_found_out(void **state)
{
	struct record_header *r = record_make();
	uint8_t *bytes = (uint8_t *)r;

	(void)state;
	for (unsigned bit = 0; bit < RECORD_BYTES * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(record_look(r, RECORD_BYTES, &here, &geometry), RECORD_GOOD);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(record_look(r, RECORD_BYTES, &here, &geometry), RECORD_GOOD);
	free(r);
}

/* Its first sector is there and its second is not: nobody else's record, and no reason to refuse the journal. */
static void record_whose_header_is_torn_anywhere_is_never_taken_for_anothers(void **state)
{
	(void)state;
	for (unsigned kept = 8; kept < RECORD_HEADER_BYTES; kept += 8) {
		struct record_header *r = record_make();
		enum record_finding finding;

		memset((uint8_t *)r + kept, 0, RECORD_BYTES - kept);
		finding = record_look(r, RECORD_BYTES, &here, &geometry);
		if (finding != RECORD_TORN && finding != RECORD_STALE)
			fail_msg("%u bytes of the header kept, then zeros: %s", kept, record_finding_name(finding));
		free(r);
	}
}

static void record_never_crosses_its_segment_nor_the_largest_record(void **state)
{
	uint32_t max = record_bytes_max(&geometry), lengths[] = { max, max + 8 };
	struct position at = here;

	(void)state;
	assert_int_equal(max, 8192);
	for (unsigned i = 0; i < 2; i++) {
		struct record_header *r = calloc(1, lengths[i]);

		header_make(r, RECORD_DATA, lengths[i]);
		r->annotation_len = to_le32(lengths[i] - RECORD_HEADER_BYTES);
		seal(r, lengths[i]);
		assert_int_equal(record_look(r, lengths[i], &here, &geometry), i == 0 ? RECORD_GOOD : RECORD_TORN);
		for (unsigned behind = 0; behind < 2 && i == 0; behind++) {
			at.lsn = geometry.segment_bytes - max + 8 * behind;
			r->lsn = to_le64(at.lsn);
			seal(r, max);
			assert_int_equal(record_look(r, max, &at, &geometry), behind ? RECORD_TORN : RECORD_GOOD);
		}
		free(r);
	}
}

static void record_lengths_from_chance_read_nothing_outside(void **state)
{
	struct world *w = world_new(test_seed_first(7));

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t avail = RECORD_HEADER_BYTES + 8 * world_random_below(w, 24);
		struct record_header *r = malloc(avail);
		uint32_t *fields[] = { &r->length.raw, &r->delta_count.raw, &r->annotation_len.raw,
				       &r->payload_len.raw };

		memset(r, 0, avail);
		header_make(r, (enum record_kind)world_random_below(w, 4), 0);
		for (unsigned k = 0; k < 4; k++)
			*fields[k] = htole32((uint32_t)(world_random(w) >> (32 + world_random_below(w, 32))));
		if (world_random_below(w, 2))
			r->length = to_le32((uint32_t)avail);
		seal(r, avail);
		if (record_look(r, avail, &here, &geometry) == RECORD_GOOD)
			assert_true(record_wire_length(r) <= avail);
		free(r);
	}
	world_free(w);
}

/* ---- pads ---- */

static void pad_counts_by_its_header_alone(void **state)
{
	struct record_header *r = pad_make(512);
	struct position after, again;
	uint8_t *whole = malloc(512);

	(void)state;
	assert_int_equal(record_look(r, sizeof *r, &here, &geometry), RECORD_GOOD);
	assert_int_equal(record_wire_length(r), RECORD_HEADER_BYTES);
	record_next(r, &after);
	assert_int_equal(after.lsn, here.lsn + 512);
	memset(whole, 0xee, 512);
	memcpy(whole, r, sizeof *r);
	assert_int_equal(record_look(whole, 512, &here, &geometry), RECORD_GOOD);
	record_next((const void *)whole, &again);
	assert_memory_equal(&after, &again, sizeof after);
	for (unsigned bit = 0; bit < RECORD_HEADER_BYTES * 8; bit++) {
		whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(record_look(whole, 512, &here, &geometry), RECORD_GOOD);
		whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	free(whole);
	free(r);
}

static void pad_ends_on_a_block_and_holds_nothing(void **state)
{
	static const struct { uint32_t length; enum record_finding finding; } rows[] = {
		{ 512, RECORD_GOOD }, { 1024, RECORD_GOOD }, { 63 << 10, RECORD_GOOD },
		{ 72, RECORD_TORN }, { 520, RECORD_TORN }, { 64 << 10, RECORD_TORN }, { 0, RECORD_TORN },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct record_header *r = pad_make(rows[i].length);

		assert_int_equal(record_look(r, sizeof *r, &here, &geometry), rows[i].finding);
		free(r);
	}
	for (unsigned i = 0; i < 3; i++) {
		struct record_header *r = pad_make(512);

		(i == 0 ? &r->delta_count : i == 1 ? &r->annotation_len : &r->payload_len)->raw = htole32(1);
		seal(r, sizeof *r);
		assert_int_equal(record_look(r, sizeof *r, &here, &geometry), RECORD_TORN);
		free(r);
	}
}

static void record_next_moves_by_its_length_and_hashes_all_its_bytes(void **state)
{
	struct record_header *r = record_make();
	struct position before, after;

	(void)state;
	record_next(r, &before);
	assert_int_equal(before.lsn, here.lsn + RECORD_BYTES);
	((uint8_t *)r)[RECORD_BYTES - 1] ^= 1;
	record_next(r, &after);
	assert_memory_not_equal(before.hash, after.hash, HASH_BYTES);
	free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(record_of_exact_size_is_good_and_one_byte_less_is_short),
	cmocka_unit_test(record_finding_names_the_one_rule_that_a_change_breaks),
	cmocka_unit_test(record_with_any_bit_flipped_is_found_out),
	cmocka_unit_test(record_whose_header_is_torn_anywhere_is_never_taken_for_anothers),
	cmocka_unit_test(record_never_crosses_its_segment_nor_the_largest_record),
	cmocka_unit_test(record_lengths_from_chance_read_nothing_outside),
	cmocka_unit_test(pad_counts_by_its_header_alone),
	cmocka_unit_test(pad_ends_on_a_block_and_holds_nothing),
	cmocka_unit_test(record_next_moves_by_its_length_and_hashes_all_its_bytes),
};
TEST_GROUP(record, tests)
