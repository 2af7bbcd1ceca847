/* SPDX-License-Identifier: Apache-2.0 */
/* What undo finds on its disks: headers that are whole, damaged, torn or another's, and damaged bitmaps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim/world_probe.h"
#include "undo.h"

enum { VOLUME_BYTES = 1 << 20, BLOCKS = VOLUME_BYTES / BLOCK_BYTES };

static const struct geometry geometry = { .uuid = { 9, 8, 7 }, .volume_bytes = VOLUME_BYTES, .node = "a" };

struct rig {
	struct world *world;
	struct machine *machine;
	struct undo undo;
	int store, files[UNDO_SLOTS];
};

/* One copy of a header, as undo writes it. */
struct copy {
	struct undo_header header;
	struct epoch_entry epochs[2];
};

static void rig_moved(struct undo *u)
{
	(void)u;
}

static bool rig_loading(void *context)
{
	struct rig *r = context;

	return !r->undo.loaded && !r->undo.failed;
}

static void rig_load(struct rig *r)
{
	assert_int_equal(undo_new(&r->undo, machine_io(r->machine), r->files, r->store, &geometry, VOLUME_BYTES,
				  rig_moved), 0);
	undo_load(&r->undo);
	world_run_while(r->world, rig_loading, r, 100 * SECONDS);
}

static void rig_reload(struct rig *r)
{
	machine_crash(r->machine, true);
	world_run_for(r->world, MILLISECONDS);
	machine_boot(r->machine);
	rig_load(r);
}

static struct rig *rig_new(uint64_t seed)
{
	struct rig *r = calloc(1, sizeof *r);

	r->world = world_new(seed);
	r->machine = world_machine(r->world, "a");
	r->store = machine_disk(r->machine, VOLUME_BYTES);
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		r->files[i] = machine_disk(r->machine, undo_file_bytes(VOLUME_BYTES));
	return r;
}

static void rig_free(struct rig *r)
{
	world_free(r->world);
	free(r);
}

static struct copy copy_some(enum undo_kind kind, uint64_t generation)
{
	struct copy c = { .header = { .magic = to_le32(UNDO_MAGIC), .version = to_le16(UNDO_VERSION),
				      .kind = to_le16((uint16_t)kind), .generation = to_le64(generation),
				      .uuid = { 9, 8, 7 }, .node = "a", .volume_bytes = to_le64(VOLUME_BYTES),
				      .id = to_le64(77), .lsn = to_le64(5000), .base = to_le64(4000), .source = "b",
				      .epoch_count = to_le32(2) },
			  .epochs = { { .number = to_le64(1), .node = "a" },
				      { .number = to_le64(2), .start = to_le64(512), .node = "b" } } };

	undo_header_seal(&c.header);
	return c;
}

static void copy_put(struct rig *r, unsigned slot, unsigned copy, const struct copy *c)
{
	machine_disk_write_now(r->machine, r->files[slot], (uint64_t)copy * META_SLOT_BYTES, c, sizeof *c);
}

static void undo_of_zeros_is_free_and_nothing_is_written(void **state)
{
	struct rig *r = rig_new(test_seed_first(1));

	(void)state;
	rig_load(r);
	assert_true(undo_idle(&r->undo));
	assert_int_equal(machine_disk_ops(r->machine), 2 * UNDO_SLOTS);
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		assert_int_equal(r->undo.slots[i].kind, UNDO_FREE);
	rig_free(r);
}

static void undo_header_of_which_one_copy_is_damaged_is_the_other_and_mended(void **state)
{
	(void)state;
	for (uint64_t at = 0; at < sizeof(struct copy); at += 13) {
		struct rig *r = rig_new(test_seed_first(1) + at);
		unsigned slot = (unsigned)at % UNDO_SLOTS, damaged = (unsigned)at / 7 % 2;
		struct copy good = copy_some(UNDO_RESYNC, 6), bad = copy_some(UNDO_DIVERGENCE, 7);

		((uint8_t *)&bad)[at] ^= (uint8_t)(1 << at % 8);
		copy_put(r, slot, damaged, &bad);
		copy_put(r, slot, !damaged, &good);
		for (unsigned times = 0; times < 2; times++) {
			struct undo_slot *s = &r->undo.slots[slot];
			const uint8_t *bytes = machine_disk_data(r->machine, r->files[slot]);

			if (times == 0)
				rig_load(r);
			else
				rig_reload(r);
			assert_true(undo_idle(&r->undo));
			assert_int_equal(s->kind, UNDO_RESYNC);
			assert_int_equal(s->history->count, 2);
			assert_memory_equal(s->history->epochs, good.epochs, sizeof good.epochs);
			assert_int_equal(from_le64(s->header.partial), 0);
			assert_memory_equal(bytes, bytes + META_SLOT_BYTES, sizeof(struct copy));
		}
		rig_free(r);
	}
}

static void undo_header_of_which_no_copy_is_whole_fails_with_a_sentence_and_stays(void **state)
{
	static uint8_t before[2 * META_SLOT_BYTES];

	(void)state;
	for (uint64_t at = 0; at < sizeof(struct copy); at += 97) {
		struct rig *r = rig_new(test_seed_first(1) + at);
		struct copy c = copy_some(UNDO_RESYNC, 6);

		((uint8_t *)&c)[at] ^= (uint8_t)(1 << at % 8);
		copy_put(r, 2, 0, &c);
		copy_put(r, 2, 1, &c);
		memcpy(before, machine_disk_data(r->machine, r->files[2]), sizeof before);
		rig_load(r);
		assert_int_equal(r->undo.failed, -EBADMSG);
		assert_false(undo_idle(&r->undo));
		if (strncmp(r->undo.why, "undo 2: neither of its two headers is whole", 43) != 0)
			fail_msg("\"%s\"", r->undo.why);
		world_run_for(r->world, SECONDS);
		assert_true(undo_quiet(&r->undo));
		assert_memory_equal(before, machine_disk_data(r->machine, r->files[2]), sizeof before);
		rig_free(r);
	}
}

static void undo_newer_of_two_headers_counts_and_both_become_it(void **state)
{
	(void)state;
	for (unsigned newer = 0; newer < 2; newer++) {
		struct rig *r = rig_new(test_seed_first(1));
		struct copy older = copy_some(UNDO_RESYNC, 6), newest = copy_some(UNDO_DIVERGENCE, 7);

		copy_put(r, 1, newer, &newest);
		copy_put(r, 1, !newer, &older);
		rig_load(r);
		assert_int_equal(r->undo.slots[1].kind, UNDO_DIVERGENCE);
		/* Then rot in either brings nothing old back. */
		memset(&newest, 0xee, sizeof newest);
		copy_put(r, 1, newer, &newest);
		rig_reload(r);
		assert_int_equal(r->undo.slots[1].kind, UNDO_DIVERGENCE);
		rig_free(r);
	}
}

static void undo_header_of_anything_else_is_refused_by_name(void **state)
{
	struct copy rows[14];
	static const char *const says[14] = {
		"another version", "another volume", "another size", "another node", "no kind", "no kind", "no kind",
		"positions", "positions", "fields", "fields", "history", "fields", "fields",
	};
	char why[WHY_BYTES];

	(void)state;
	for (unsigned i = 0; i < 14; i++)
		rows[i] = copy_some(UNDO_RESYNC, 6);
	assert_int_equal(undo_header_check(&rows[0].header, sizeof rows[0].epochs, &geometry, why), 0);
	assert_int_equal(undo_header_check(&rows[0].header, sizeof rows[0].epochs - 1, &geometry, why), -EBADMSG);
	rows[0].header.version = to_le16(2);
	rows[1].header.uuid[15] ^= 1;
	rows[2].header.volume_bytes = to_le64(VOLUME_BYTES / 2);
	memset(rows[3].header.node, 'a', NAME_BYTES);
	rows[4].header.kind = to_le16(UNDO_KINDS);
	rows[5].header.kind = to_le16(UNDO_FREE);	/* and an id */
	rows[6].header.id = to_le64(0);
	rows[7].header.lsn = to_le64(LSN_MAX);
	rows[8].header.partial = to_le64(LSN_MAX + 1);
	memset(rows[9].header.source, 'b', NAME_BYTES);
	rows[10].header.zero[3000] = 1;
	rows[11].epochs[1].number = to_le64(1);
	rows[12].header.generation = to_le64(0);
	rows[13].header.generation = to_le64(UINT64_MAX);	/* the next one would be older */
	for (unsigned i = 0; i < 14; i++) {
		struct rig *r = rig_new(test_seed_first(1));

		undo_header_seal(&rows[i].header);
		assert_int_equal(undo_header_check(&rows[i].header, sizeof rows[i].epochs, &geometry, why), -EBADMSG);
		if (!strstr(why, says[i]))
			fail_msg("row %u: \"%s\" does not say %s", i, why, says[i]);
		copy_put(r, 3, 0, &rows[i]);
		copy_put(r, 3, 1, &rows[i]);
		rig_load(r);
		assert_int_equal(r->undo.failed, -EBADMSG);
		assert_non_null(strstr(r->undo.why, says[i]));
		assert_int_equal(strncmp(r->undo.why, "undo 3: ", 8), 0);
		rig_free(r);
	}
}

/* ---- bitmaps ---- */

static void undo_whose_saved_is_damaged_is_durably_partial_and_takes_the_blocks_for_changed(void **state)
{
	struct rig *r = rig_new(test_seed_first(1));
	struct copy c = copy_some(UNDO_RESYNC, 6);
	uint8_t junk = 4;

	(void)state;
	copy_put(r, 0, 0, &c);
	copy_put(r, 0, 1, &c);
	machine_disk_write_now(r->machine, r->files[0], undo_saved_offset() + 100, &junk, 1);
	for (unsigned i = 0; i < 3; i++) {
		const struct undo_slot *s = &r->undo.slots[0];

		if (i == 0)
			rig_load(r);
		else
			rig_reload(r);
		assert_true(undo_idle(&r->undo));
		assert_int_equal(s->kind, UNDO_RESYNC);
		assert_int_equal(from_le64(s->header.partial), 5001);
		assert_int_equal(s->saved.count, BLOCKS);
		assert_true(undo_recording(&r->undo));
		/* The third time the bitmap is whole again. */
		assert_int_equal(s->saved.damaged, i < 2);
		if (i == 1) {
			bitmap_save(&r->undo.slots[0].saved);
			world_run_for(r->world, SECONDS);
		}
	}
	rig_free(r);
}

static void undo_whose_want_is_damaged_wants_all_blocks_of_the_damage(void **state)
{
	struct rig *r = rig_new(test_seed_first(1));
	struct copy c = copy_some(UNDO_DIVERGENCE, 6);
	uint8_t junk = 4;

	(void)state;
	copy_put(r, 0, 0, &c);
	copy_put(r, 0, 1, &c);
	machine_disk_write_now(r->machine, r->files[0], undo_want_offset(VOLUME_BYTES) + 100, &junk, 1);
	rig_load(r);
	assert_true(undo_idle(&r->undo));
	assert_int_equal(r->undo.slots[0].want.count, BLOCKS);
	assert_int_equal(from_le64(r->undo.slots[0].header.partial), 0);
	rig_free(r);
}

static void undo_that_cannot_be_read_or_mended_fails_and_says_what(void **state)
{
	const struct row { struct disk_fault fault; bool uneven; const char *says; } rows[] = {
		{ { .kinds = 1u << IO_READ, .error = -EIO, .len = 4096 }, false,
		  "undo 0: its header cannot be read" },
		{ { .kinds = 1u << IO_READ, .error = -EIO, .offset = META_BYTES, .len = 4096 }, false,
		  "undo 0: its bitmap cannot be read" },
		{ { .kinds = 1u << IO_WRITE, .error = -EIO, .count = 1 }, true,
		  "undo 0: its header cannot be written" },
		{ { .kinds = 1u << IO_WRITE, .error = -EIO, .after = 1 }, true,
		  "undo 0: its header cannot be written" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct rig *r = rig_new(test_seed_first(1));
		struct copy c = copy_some(UNDO_RESYNC, 6), older = copy_some(UNDO_RESYNC, 5);

		copy_put(r, 0, 0, &c);
		copy_put(r, 0, 1, rows[i].uneven ? &older : &c);
		machine_disk_fail(r->machine, r->files[0], &rows[i].fault);
		rig_load(r);
		assert_int_equal(r->undo.failed, -EIO);
		if (strncmp(r->undo.why, rows[i].says, strlen(rows[i].says)) != 0)
			fail_msg("row %u: \"%s\" does not begin with %s", i, r->undo.why, rows[i].says);
		rig_free(r);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(undo_of_zeros_is_free_and_nothing_is_written),
	cmocka_unit_test(undo_header_of_which_one_copy_is_damaged_is_the_other_and_mended),
	cmocka_unit_test(undo_header_of_which_no_copy_is_whole_fails_with_a_sentence_and_stays),
	cmocka_unit_test(undo_newer_of_two_headers_counts_and_both_become_it),
	cmocka_unit_test(undo_header_of_anything_else_is_refused_by_name),
	cmocka_unit_test(undo_whose_saved_is_damaged_is_durably_partial_and_takes_the_blocks_for_changed),
	cmocka_unit_test(undo_whose_want_is_damaged_wants_all_blocks_of_the_damage),
	cmocka_unit_test(undo_that_cannot_be_read_or_mended_fails_and_says_what),
};
TEST_GROUP(undo_header, tests)
