/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the wire: nothing is taken before it is whole, and what is wrong is named. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "run.h"

static const struct geometry geometry = {
	.uuid = { 9, 8, 7, 6, 5 }, .volume_bytes = 1 << 20, .journal_bytes = 256 << 10,
	.segment_bytes = 64 << 10, .journal_block = 512, .node = "a",
};

enum { BLOCKS = FRAME_HELLO_MAX / BLOCK_BYTES - 1 };	/* of one frame, with this geometry */

/* The fixed part of each type, its tail's unit and longest tail. */
static const struct shape { enum frame_type type; uint32_t fixed, unit, tail_max; } shapes[] = {
	{ FRAME_HELLO, 232, 120, HISTORY_MAX * 120 }, { FRAME_START, 24, 0, 0 }, { FRAME_LOG, 40, 8, 8192 },
	{ FRAME_ACK, 40, 0, 0 }, { FRAME_PING, 32, 0, 0 }, { FRAME_ROLE, 40, 8, FRAME_TEXT_MAX },
	{ FRAME_ERROR, 16, 8, FRAME_TEXT_MAX }, { FRAME_VERIFY, 32, 16, BLOCKS * 16 },
	{ FRAME_REPAIR, 32, BLOCK_BYTES, BLOCKS * BLOCK_BYTES }, { FRAME_VERIFIED, 24, 0, 0 },
	{ FRAME_FETCH, 24, 0, 0 }, { FRAME_FETCHED, 32, BLOCK_BYTES, BLOCK_BYTES },
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static struct frame_header *frame_make(enum frame_type type, uint32_t length)
{
	struct frame_header *header = malloc(sizeof *header + length);

	memset(header + 1, 0x21, length);
	frame_seal(header, type, length);
	return header;
}

static void frame_parts_have_the_sizes_of_the_wire(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct frame_hello), 232);
	assert_int_equal(sizeof(struct frame_start), 24);
	assert_int_equal(sizeof(struct frame_log), 40);
	assert_int_equal(sizeof(struct frame_ack), 40);
	assert_int_equal(sizeof(struct frame_ping), 32);
	assert_int_equal(sizeof(struct frame_role), 40);
	assert_int_equal(sizeof(struct frame_error), 16);
	assert_int_equal(sizeof(struct frame_verify), 32);
	assert_int_equal(sizeof(struct frame_repair), 32);
	assert_int_equal(sizeof(struct frame_verified), 24);
	assert_int_equal(sizeof(struct frame_fetch), 24);
	assert_int_equal(sizeof(struct frame_fetched), 32);
	assert_int_equal(frame_log_max(&geometry), 8192);
	assert_int_equal(frame_blocks_max(&geometry), BLOCKS);
	assert_int_equal(frame_bytes_max(&geometry), FRAME_HELLO_MAX);
}

static void frame_of_any_shape_is_taken_when_it_is_whole_and_not_before(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SHAPES; i++) {
		const struct shape *s = &shapes[i];
		uint32_t tails[] = { 0, s->unit, s->tail_max };

		for (unsigned k = 0; k < 3; k++) {
			uint32_t length = s->fixed + tails[k], needed = s->type == FRAME_LOG ? s->fixed : length;
			struct frame_header *frame = frame_make(s->type, length);
			const char *field = NULL;

			for (uint32_t avail = 0; avail <= sizeof *frame + needed; avail += avail < 80 ? 1 : 977) {
				uint8_t *cut = malloc(avail ? avail : 1);

				memcpy(cut, frame, avail);
				assert_int_equal(frame_look(cut, avail, &geometry, &field),
						 avail == sizeof *frame + needed);
				free(cut);
			}
			assert_int_equal(frame_look(frame, sizeof *frame + needed, &geometry, &field), 1);
			free(frame);
		}
	}
}

static void assert_wrong(struct frame_header *frame, const char *name)
{
	const char *field = NULL;

	assert_int_equal(frame_look(frame, sizeof *frame, &geometry, &field), -EBADMSG);
	assert_string_equal(field, name);
}

static void frame_with_a_wrong_header_is_refused_by_field_before_its_body_is_there(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SHAPES; i++) {
		const struct shape *s = &shapes[i];
		struct frame_header *frame = frame_make(s->type, s->fixed), good = *frame;
		uint32_t lengths[] = { 0, s->fixed - 1, s->fixed + 1, s->fixed + s->tail_max + (s->unit ? s->unit : 8),
				       UINT32_MAX, 1u << 31 };

		frame->magic = to_le32(FRAME_MAGIC ^ 1);
		assert_wrong(frame, "magic");
		*frame = good;
		frame->reserved = to_le16(1);
		assert_wrong(frame, "reserved");
		for (unsigned k = 0; k < 6; k++) {
			*frame = good;
			frame->length = to_le32(lengths[k]);
			assert_wrong(frame, "length");
		}
		*frame = good;
		frame->type = to_le16(0);
		assert_wrong(frame, "type");
		frame->type = to_le16(FRAME_TYPES);
		assert_wrong(frame, "type");
		free(frame);
	}
}

static void frame_with_a_bit_flipped_in_what_is_summed_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SHAPES; i++) {
		const struct shape *s = &shapes[i];
		uint32_t length = s->fixed + s->unit, whole = (uint32_t)sizeof(struct frame_header) + length;
		uint32_t summed = s->type == FRAME_LOG ? whole - s->unit : whole;
		struct frame_header *frame = frame_make(s->type, length);
		uint8_t *bytes = (uint8_t *)frame;

		for (uint32_t bit = 0; bit < whole * 8; bit++) {
			const char *field = NULL;
			int result;

			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			result = frame_look(bytes, whole, &geometry, &field);
			/* A longer length may only ask for more. Records carry their own sums. */
			if (bit / 8 < summed)
				assert_int_not_equal(result, 1);
			else
				assert_int_equal(result, 1);
			assert_true(result != -EBADMSG || field);
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		free(frame);
	}
}

/* ---- HELLO ---- */

struct hello_frame { struct frame_header header; struct frame_hello hello; struct epoch_entry epochs[2]; };

static struct hello_frame hello_make(void)
{
	struct hello_frame f = { .hello = {
		.version_min = to_le16(1), .version_max = to_le16(1), .role = to_le16(ROLE_PRIMARY),
		.mode = to_le16(MODE_D), .node = "a", .to = "b", .epoch_count = to_le32(2) } };

	frame_seal(&f.header, FRAME_HELLO, sizeof f - sizeof f.header);
	return f;
}

static void hello_check_names_the_field(void **state)
{
	struct hello_frame good = hello_make(), f;
	const char *field = "";

	(void)state;
	assert_int_equal(frame_hello_check(&good.hello, &field), 0);
	assert_null(field);
#define ROW(name, change) \
	do { \
		f = good; \
		change; \
		assert_int_equal(frame_hello_check(&f.hello, &field), -EBADMSG); \
		assert_string_equal(field, name); \
	} while (0)
	ROW("version", f.hello.version_min = to_le16(2));
	ROW("role", f.hello.role = to_le16(2));
	ROW("mode", f.hello.mode = to_le16(4));
	ROW("node", f.hello.node[0] = 0);
	ROW("node", memset(f.hello.node, 'n', NAME_BYTES));
	ROW("to", memset(f.hello.to, 'n', NAME_BYTES));
	ROW("flags", f.hello.flags = to_le32(4));
	ROW("flags", f.hello.flags = to_le32(1u << 31 | HELLO_CLEAR));
	ROW("epoch_count", f.hello.epoch_count = to_le32(1));
	ROW("epoch_count", f.hello.epoch_count = to_le32(3));
	ROW("epoch_count", f.hello.epoch_count = to_le32(UINT32_MAX));
	ROW("epoch_count", f.header.length = to_le32(sizeof f.hello));
	/* 120 x 2^29 would be a multiple of 2^32. */
	ROW("epoch_count", f.hello.epoch_count = to_le32(2 + (1u << 29)));
#undef ROW
}

/* ---- VERIFY and its like ---- */

struct verify_frame {
	struct frame_header header;
	union {
		struct frame_verify verify;
		struct frame_repair repair;
		struct frame_verified verified;
		struct frame_fetch fetch;
		struct frame_fetched fetched;
	};
	uint8_t tail[2 * BLOCK_BYTES];
};

static void verify_check_names_the_field(void **state)
{
	static struct verify_frame f;
	const char *field = "";
	uint64_t all = geometry.volume_bytes / BLOCK_BYTES;

	(void)state;
#define GOOD(kind, which, tail_bytes, ...) \
	do { \
		f.kind = (struct frame_##kind){ __VA_ARGS__ }; \
		f.header.type = to_le16(which); \
		f.header.length = to_le32(sizeof f.kind + (tail_bytes)); \
		assert_int_equal(frame_verify_check(&f.header, &geometry, &field), 0); \
		assert_null(field); \
	} while (0)
#define ROW(kind, which, tail_bytes, name, ...) \
	do { \
		f.kind = (struct frame_##kind){ __VA_ARGS__ }; \
		f.header.type = to_le16(which); \
		f.header.length = to_le32(sizeof f.kind + (tail_bytes)); \
		assert_int_equal(frame_verify_check(&f.header, &geometry, &field), -EBADMSG); \
		assert_string_equal(field, name); \
	} while (0)
	GOOD(verify, FRAME_VERIFY, 32, .first = to_le64(all - 2), .count = to_le32(2));
	ROW(verify, FRAME_VERIFY, 0, "VERIFY count", .count = to_le32(0));
	ROW(verify, FRAME_VERIFY, 32, "VERIFY count", .count = to_le32(3));
	ROW(verify, FRAME_VERIFY, 16 * (BLOCKS + 1), "VERIFY count", .count = to_le32(BLOCKS + 1));
	ROW(verify, FRAME_VERIFY, 32, "VERIFY first", .first = to_le64(all - 1), .count = to_le32(2));
	ROW(verify, FRAME_VERIFY, 32, "VERIFY first", .first = to_le64(UINT64_MAX), .count = to_le32(2));
	ROW(verify, FRAME_VERIFY, 16, "VERIFY lsn", .lsn = to_le64(LSN_MAX), .count = to_le32(1));
	GOOD(repair, FRAME_REPAIR, 2 * BLOCK_BYTES, .first = to_le64(all - 4), .mask = to_le64(9));
	ROW(repair, FRAME_REPAIR, 0, "REPAIR mask", .mask = to_le64(0));
	ROW(repair, FRAME_REPAIR, BLOCK_BYTES, "REPAIR mask", .mask = to_le64(1ull << BLOCKS));
	ROW(repair, FRAME_REPAIR, BLOCK_BYTES, "REPAIR length", .mask = to_le64(9));
	ROW(repair, FRAME_REPAIR, 2 * BLOCK_BYTES, "REPAIR first", .first = to_le64(all - 3), .mask = to_le64(9));
	ROW(repair, FRAME_REPAIR, BLOCK_BYTES, "REPAIR lsn", .lsn = to_le64(LSN_MAX), .mask = to_le64(1));
	GOOD(verified, FRAME_VERIFIED, 0, .done = to_le32(1));
	ROW(verified, FRAME_VERIFIED, 0, "VERIFIED done", .done = to_le32(2));
	GOOD(fetch, FRAME_FETCH, 0, .block = to_le64(all - 1));
	ROW(fetch, FRAME_FETCH, 0, "FETCH block or lsn", .block = to_le64(all));
	ROW(fetch, FRAME_FETCH, 0, "FETCH block or lsn", .lsn = to_le64(LSN_MAX));
	GOOD(fetched, FRAME_FETCHED, 0, .block = to_le64(all - 1));
	GOOD(fetched, FRAME_FETCHED, BLOCK_BYTES, .found = to_le32(1));
	ROW(fetched, FRAME_FETCHED, BLOCK_BYTES, "FETCHED found", .found = to_le32(0));
	ROW(fetched, FRAME_FETCHED, 0, "FETCHED found", .found = to_le32(1));
	ROW(fetched, FRAME_FETCHED, 2 * BLOCK_BYTES, "FETCHED found", .found = to_le32(2));
	ROW(fetched, FRAME_FETCHED, 0, "FETCHED block", .block = to_le64(all));
	ROW(fetched, FRAME_FETCHED, 0, "FETCHED lsn", .lsn = to_le64(LSN_MAX));
#undef GOOD
#undef ROW
}

static void frame_position_goes_out_and_comes_back(void **state)
{
	struct position at = { .lsn = 0x123456789abcdef0, .hash = { 1, 2, 3, 4, 5, 6, 7, 8, 9 } };
	struct frame_position wire = frame_position_of(&at);
	struct position back = frame_position_get(&wire);

	(void)state;
	assert_memory_equal(&back, &at, sizeof at);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(frame_parts_have_the_sizes_of_the_wire),
	cmocka_unit_test(frame_of_any_shape_is_taken_when_it_is_whole_and_not_before),
	cmocka_unit_test(frame_with_a_wrong_header_is_refused_by_field_before_its_body_is_there),
	cmocka_unit_test(frame_with_a_bit_flipped_in_what_is_summed_is_refused),
	cmocka_unit_test(hello_check_names_the_field),
	cmocka_unit_test(verify_check_names_the_field),
	cmocka_unit_test(frame_position_goes_out_and_comes_back),
};
TEST_GROUP(frame, tests)
