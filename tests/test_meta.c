/* SPDX-License-Identifier: Apache-2.0 */
/* Meta and the journal's header: what was saved comes back; what is torn, or another's, is refused in words. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "journal.h"
#include "meta.h"
#include "sim/world_probe.h"

static const struct geometry geometry = {
	.uuid = { 9, 8, 7, 6, 5 }, .volume_bytes = 1 << 20, .journal_bytes = 256 << 10,
	.segment_bytes = 64 << 10, .journal_block = 512, .node = "a",
};

static struct history saved_history, loaded_history;
static uint8_t slots[META_BYTES];

static struct meta meta_some(uint64_t tail)
{
	struct meta m = { .geometry = &geometry, .history = &saved_history, .tail = { .lsn = tail, .hash = { 3, 1 } },
			  .reach = tail + 700, .commit = tail + 8, .promised = 12 };

	saved_history.count = 0;
	for (uint64_t i = 0; i < 3; i++) {
		struct epoch_entry e = { .number = to_le64(i + 1), .start = to_le64(i * 512), .node = "b" };

		e.uuid[0] = (uint8_t)i;
		history_add(&saved_history, &e);
	}
	return m;
}

static int slots_load(struct meta *out, const struct geometry *g, char why[WHY_BYTES])
{
	*out = (struct meta){ .geometry = g, .history = &loaded_history };
	why[0] = 0;
	return meta_load(out, slots, why);
}

static void slots_make(uint64_t older, uint64_t newer)
{
	struct meta m = meta_some(older);

	meta_encode(&m, 6, slots);
	m = meta_some(newer);
	meta_encode(&m, 7, slots + META_SLOT_BYTES);
}

static void meta_loaded_is_what_was_encoded(void **state)
{
	struct meta m = meta_some(1024), out;
	char why[WHY_BYTES];

	(void)state;
	slots_make(512, 1024);
	assert_int_equal(slots_load(&out, &geometry, why), 0);
	assert_memory_equal(&out.tail, &m.tail, sizeof m.tail);
	assert_int_equal(out.reach, m.reach);
	assert_int_equal(out.saved_reach, m.reach);
	assert_int_equal(out.commit, m.commit);
	assert_int_equal(out.promised, m.promised);
	assert_int_equal(out.generation, 7);
	assert_int_equal(loaded_history.count, 3);
	assert_memory_equal(loaded_history.epochs, saved_history.epochs, 3 * sizeof saved_history.epochs[0]);
}

static void meta_with_a_full_history_comes_back(void **state)
{
	struct meta m = meta_some(512), out;
	char why[WHY_BYTES];

	(void)state;
	for (uint64_t i = 3; i < HISTORY_MAX + 5; i++) {
		struct epoch_entry e = { .number = to_le64(i + 1), .start = to_le64(i * 512), .node = "b" };

		history_add(&saved_history, &e);
	}
	memset(slots, 0, sizeof slots);
	meta_encode(&m, 9, slots + META_SLOT_BYTES);
	assert_int_equal(slots_load(&out, &geometry, why), 0);
	assert_int_equal(loaded_history.count, HISTORY_MAX);
	assert_memory_equal(loaded_history.epochs, saved_history.epochs, sizeof loaded_history.epochs);
}

static void meta_whose_newest_slot_is_torn_falls_back_to_the_other(void **state)
{
	char why[WHY_BYTES];
	struct meta out;

	(void)state;
	for (uint64_t torn = 0; torn < 4096 + 3 * sizeof(struct epoch_entry); torn += 24) {
		slots_make(512, 1024);
		slots[META_SLOT_BYTES + torn] ^= 4;
		assert_int_equal(slots_load(&out, &geometry, why), 0);
		assert_int_equal(out.tail.lsn, 512);
		assert_int_equal(out.generation, 6);
		/* And the older one torn is no matter. */
		slots_make(512, 1024);
		slots[torn] ^= 4;
		assert_int_equal(slots_load(&out, &geometry, why), 0);
		assert_int_equal(out.tail.lsn, 1024);
	}
}

static void meta_with_both_slots_torn_is_refused_with_a_sentence(void **state)
{
	char why[WHY_BYTES];
	struct meta out;

	(void)state;
	slots_make(512, 1024);
	slots[200] ^= 1;
	slots[META_SLOT_BYTES + 200] ^= 1;
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
	assert_non_null(strstr(why, "meta: neither"));
	memset(slots, 0, sizeof slots);
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
	memset(slots, 0xff, sizeof slots);
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
}

static void reseal(struct meta_slot *slot)
{
	uint32_t crc = checksum_crc(0, slot, offsetof(struct meta_slot, crc));

	slot->crc = to_le32(checksum_crc(crc, slot + 1, from_le32(slot->epoch_count) * sizeof(struct epoch_entry)));
}

static void meta_of_another_volume_size_node_or_version_is_refused_by_name(void **state)
{
	struct row { struct geometry g; const char *says; } rows[] = {
		{ geometry, "another volume" }, { geometry, "size" }, { geometry, "journal-size" },
		{ geometry, "segment" }, { geometry, "journal-block" }, { geometry, "another node" },
	};
	struct meta_slot *slot = (void *)(slots + META_SLOT_BYTES);
	struct meta out;
	char why[WHY_BYTES];

	(void)state;
	rows[0].g.uuid[15] ^= 1;
	rows[1].g.volume_bytes += 4096;
	rows[2].g.journal_bytes *= 2;
	rows[3].g.segment_bytes /= 2;
	rows[4].g.journal_block = 4096;
	strcpy(rows[5].g.node, "b");
	slots_make(0, 0);
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(slots_load(&out, &rows[i].g, why), -EBADMSG);
		if (strncmp(why, "meta: ", 6) != 0 || !strstr(why, rows[i].says))
			fail_msg("row %u: \"%s\" does not say %s", i, why, rows[i].says);
	}
	slot->version = to_le16(META_VERSION + 1);
	reseal(slot);
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
	assert_non_null(strstr(why, "version"));
	slot->version = to_le16(META_VERSION);
	memset(slot->node, 'a', NAME_BYTES);
	reseal(slot);
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
}

static void meta_whose_positions_contradict_each_other_is_refused(void **state)
{
	struct meta_slot *slot = (void *)(slots + META_SLOT_BYTES);
	char why[WHY_BYTES];
	struct meta out;

	(void)state;
	slots_make(0, 1024);
	slot->reach = to_le64(1023);
	reseal(slot);
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
	slots_make(0, 1024);
	slot->tail = to_le64(1032);
	reseal(slot);
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
	slots_make(0, 1024);
	((struct epoch_entry *)(slot + 1))[2].number = to_le64(2);
	reseal(slot);
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
	assert_non_null(strstr(why, "history"));
	slots_make(0, 1024);
	slot->epoch_count = to_le32(HISTORY_MAX + 1);	/* never summed: it is longer than the slot */
	slots[4] ^= 1;
	slots[0] ^= 1;
	assert_int_equal(slots_load(&out, &geometry, why), -EBADMSG);
}

/* ---- saving ---- */

struct saving { struct meta meta; unsigned moved; };

static void meta_moved(struct meta *m)
{
	container_of(m, struct saving, meta)->moved++;
}

struct ticket { struct meta *meta; uint64_t ticket; };

static bool not_saved(void *context)
{
	struct ticket *t = context;

	return t->meta->saved < t->ticket && !t->meta->failed;
}

static void meta_saved_in_turn_survives_power_loss_at_any_op_and_never_goes_back(void **state)
{
	(void)state;
	for (uint64_t crash = 1; crash < 40; crash++) {
		struct world *w = world_new(test_seed_first(100) + crash);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, META_BYTES);
		struct saving s = { .moved = 0 };
		struct meta out;
		uint64_t known = 0, wanted = 0;
		uint8_t header[JOURNAL_HEADER_BYTES];
		char why[WHY_BYTES];

		replica_format(&geometry, slots, header);
		machine_disk_write_now(m, disk, 0, slots, META_BYTES);
		saved_history.count = 0;
		assert_int_equal(meta_new(&s.meta, machine_io(m), disk, &geometry, &saved_history, meta_moved), 0);
		s.meta.generation = 1;
		machine_crash_at(m, machine_disk_ops(m) + crash, true);
		while (!machine_crashed(m)) {
			struct ticket t = { &s.meta, 0 };
			struct meta more = meta_some(512 * ++wanted);

			s.meta.tail = more.tail;
			s.meta.reach = more.reach;
			t.ticket = meta_save(&s.meta);
			if (world_random_below(w, 2))
				continue;	/* the next goes with it */
			if (world_run_while(w, not_saved, &t, 100 * SECONDS)) {
				assert_int_equal(s.meta.saved_reach, more.reach);
				known = wanted;
			}
		}
		memcpy(slots, machine_disk_data(m, disk), META_BYTES);
		assert_int_equal(slots_load(&out, &geometry, why), 0);
		assert_true(out.tail.lsn >= 512 * known && out.tail.lsn <= 512 * wanted);
		assert_true(out.tail.lsn == 0 || out.reach == out.tail.lsn + 700);
		world_free(w);
	}
}

static void meta_that_could_not_be_written_fails_for_good(void **state)
{
	struct world *w = world_new(test_seed_first(1));
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, META_BYTES);
	struct disk_fault fault = { .kinds = 1u << IO_WRITE, .error = -EIO, .count = 1 };
	struct saving s = { .moved = 0 };
	struct ticket t = { &s.meta, 0 };
	uint64_t ops;

	(void)state;
	saved_history.count = 0;
	assert_int_equal(meta_new(&s.meta, machine_io(m), disk, &geometry, &saved_history, meta_moved), 0);
	machine_disk_fail(m, disk, &fault);
	t.ticket = meta_save(&s.meta);
	world_run_while(w, not_saved, &t, SECONDS);
	assert_int_equal(s.meta.failed, -EIO);
	assert_int_equal(s.moved, 1);
	ops = machine_disk_ops(m);
	meta_save(&s.meta);
	world_run_for(w, SECONDS);
	assert_int_equal(machine_disk_ops(m), ops);
	assert_true(s.meta.saved < t.ticket);
	meta_delete(&s.meta);
	assert_int_equal(machine_memory(m), 0);
	world_free(w);
}

/* ---- geometry, the journal's header ---- */

static void geometry_check_refuses_each_field_out_of_bounds_by_name(void **state)
{
	struct row { struct geometry g; const char *says;
	} rows[] = {
		{ geometry, NULL },
		{ geometry, NULL },
		{ geometry, NULL },
		{ geometry, "size" },
		{ geometry, "size" },
		{ geometry, "size" },
		{ geometry, "journal-block" },
		{ geometry, "journal-block" },
		{ geometry, "segment" },
		{ geometry, "segment" },
		{ geometry, "segment" },
		{ geometry, "journal-size" },
		{ geometry, "journal-size" },
		{ geometry, "journal-size" },
		{ geometry, "node" },
		{ geometry, "node" },
	};
	char why[WHY_BYTES];

	(void)state;
	rows[1].g.volume_bytes = VOLUME_BYTES_MAX;
	rows[2].g.journal_block = 4096;
	rows[3].g.volume_bytes = VOLUME_BYTES_MIN - 4096;
	rows[4].g.volume_bytes = VOLUME_BYTES_MAX + 4096;
	rows[5].g.volume_bytes = (1 << 20) + 512;
	rows[6].g.journal_block = 1024;
	rows[7].g.journal_block = 0;
	rows[8].g.segment_bytes = 32 << 10;
	rows[9].g.segment_bytes = 128 << 20;
	rows[10].g.segment_bytes = 96 << 10;
	rows[11].g.journal_bytes = 3 * (64 << 10);
	rows[12].g.journal_bytes += 512;
	rows[13].g.journal_bytes = 0;
	rows[14].g.node[0] = 0;
	memset(rows[15].g.node, 'n', NAME_BYTES);
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		why[0] = 0;
		assert_int_equal(geometry_check(&rows[i].g, why), rows[i].says ? -EINVAL : 0);
		if (rows[i].says && strncmp(why, rows[i].says, strlen(rows[i].says)) != 0)
			fail_msg("row %u: \"%s\" does not begin with %s", i, why, rows[i].says);
	}
}

static void journal_header_of_anything_else_is_refused_by_name(void **state)
{
	struct journal_header h;
	struct row { struct geometry g; const char *says; } rows[] = {
		{ geometry, "another volume" }, { geometry, "made for" }, { geometry, "made for" },
		{ geometry, "made for" }, { geometry, "made for" },
	};
	char why[WHY_BYTES];

	(void)state;
	rows[0].g.uuid[0] ^= 1;
	rows[1].g.volume_bytes *= 2;
	rows[2].g.journal_bytes *= 2;
	rows[3].g.segment_bytes *= 2;
	rows[4].g.journal_block = 4096;
	journal_header_format(&geometry, &h);
	assert_int_equal(journal_header_check(&h, &geometry, why), 0);
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(journal_header_check(&h, &rows[i].g, why), -EBADMSG);
		assert_non_null(strstr(why, rows[i].says));
	}
	for (unsigned bit = 0; bit < 8 * sizeof h; bit += 13) {
		((uint8_t *)&h)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		why[0] = 0;
		assert_int_equal(journal_header_check(&h, &geometry, why), -EBADMSG);
		assert_int_equal(strncmp(why, "journal: ", 9), 0);
		((uint8_t *)&h)[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void replica_format_makes_a_replica_at_position_zero(void **state)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	char why[WHY_BYTES];
	struct meta out;

	(void)state;
	memset(slots, 0xaa, sizeof slots);
	replica_format(&geometry, slots, header);
	assert_int_equal(slots_load(&out, &geometry, why), 0);
	assert_int_equal(out.tail.lsn + out.reach + out.commit + out.promised + loaded_history.count, 0);
	assert_int_equal(journal_header_check((const void *)header, &geometry, why), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(meta_loaded_is_what_was_encoded),
	cmocka_unit_test(meta_with_a_full_history_comes_back),
	cmocka_unit_test(meta_whose_newest_slot_is_torn_falls_back_to_the_other),
	cmocka_unit_test(meta_with_both_slots_torn_is_refused_with_a_sentence),
	cmocka_unit_test(meta_of_another_volume_size_node_or_version_is_refused_by_name),
	cmocka_unit_test(meta_whose_positions_contradict_each_other_is_refused),
	cmocka_unit_test(meta_saved_in_turn_survives_power_loss_at_any_op_and_never_goes_back),
	cmocka_unit_test(meta_that_could_not_be_written_fails_for_good),
	cmocka_unit_test(geometry_check_refuses_each_field_out_of_bounds_by_name),
	cmocka_unit_test(journal_header_of_anything_else_is_refused_by_name),
	cmocka_unit_test(replica_format_makes_a_replica_at_position_zero),
};
TEST_GROUP(meta, tests)
