/* SPDX-License-Identifier: Apache-2.0 */
/* The journal and its cursors on a simulated machine: what is durable when it says so, and what a cursor refuses. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cursor.h"
#include "sim/world_probe.h"

enum { SEGMENT = 64 << 10 };

struct rig {
	struct world *world;
	struct machine *machine;
	struct geometry geometry;
	struct log log;
	struct journal journal;
	struct cursor cursor;
	int file;
	unsigned moved, ready;
	bool crashed;
};

static void rig_moved(struct journal *j) { container_of(j, struct rig, journal)->moved++; }
static void rig_ready(struct cursor *c) { container_of(c, struct rig, cursor)->ready++; }

static struct rig *rig_new(uint64_t seed, uint32_t block, uint32_t segment, uint64_t segments, uint64_t ring)
{
	static const struct position zero;
	struct rig *r = calloc(1, sizeof *r);
	struct io *io;

	r->world = world_new(seed);
	r->machine = world_machine(r->world, "a");
	io = machine_io(r->machine);
	r->geometry = (struct geometry){ .uuid = { 9, 8, 7, 6 }, .volume_bytes = 1 << 20, .segment_bytes = segment,
					 .journal_bytes = segments * segment, .journal_block = block, .node = "a" };
	r->file = machine_disk(r->machine, JOURNAL_HEADER_BYTES + r->geometry.journal_bytes);
	assert_int_equal(log_new(&r->log, io, &r->geometry, ring), 0);
	log_start_at(&r->log, &zero);
	r->log.epoch = 1;
	journal_init(&r->journal, io, r->file, &r->geometry, &r->log, rig_moved);
	journal_start_at(&r->journal, 0, 1ull << 40, 0);
	assert_int_equal(cursor_new(&r->cursor, io, &r->log, &r->journal, rig_ready), 0);
	return r;
}

static void rig_free(struct rig *r)
{
	if (!r->crashed) {
		cursor_delete(&r->cursor);
		log_delete(&r->log, machine_io(r->machine));
		assert_int_equal(machine_memory(r->machine), 0);
	}
	world_free(r->world);
	free(r);
}

static uint32_t rig_append(struct rig *r, uint32_t payload)
{
	static uint8_t bytes[RECORD_BYTES_MAX];
	struct slice slice = { bytes, payload };
	struct record_delta delta = { to_le64(0), to_le32(payload), to_le16(DELTA_DATA), { 0 } };
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = &delta, .delta_count = 1, .payload = &slice,
				      .slice_count = 1 };

	memset(bytes, (int)(r->log.records * 7 + 1), payload);
	log_append(&r->log, &draft, r->log.records);
	return log_draft_length(&draft);
}

static bool rig_has_room(struct rig *r, uint32_t payload)
{
	uint32_t length = RECORD_HEADER_BYTES + 16 + (uint32_t)round_up(payload, 8);

	return log_has_room(&r->log, length, r->journal.written) && journal_has_room(&r->journal, length);
}

static void rig_close(struct rig *r)
{
	log_close(&r->log);
	journal_kick(&r->journal);
}

static bool rig_busy(void *context)
{
	return journal_busy(&((struct rig *)context)->journal);
}

static void rig_settle(struct rig *r)
{
	assert_true(world_run_while(r->world, rig_busy, r, 100 * SECONDS));
}

static void rig_fail(struct rig *r, unsigned kinds, uint64_t count)
{
	struct disk_fault fault = { .kinds = kinds, .error = -EIO, .count = count };

	machine_disk_fail(r->machine, r->file, &fault);
}

/* Where a chain of good records that starts at 0 in these bytes of the file ends. */
static uint64_t chain_end(struct rig *r, const uint8_t *file)
{
	struct position at = { .lsn = 0 };

	for (;;) {
		const uint8_t *here = file + journal_place(&r->geometry, at.lsn);
		uint64_t left = r->geometry.segment_bytes - at.lsn % r->geometry.segment_bytes;

		if (record_look(here, left, &at, &r->geometry) != RECORD_GOOD)
			return at.lsn;
		record_next((const void *)here, &at);
	}
}

/* ---- writing ---- */

static void journal_commits_many_records_with_one_write_in_flight(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 16, 8 * SEGMENT);
	uint64_t first;

	(void)state;
	rig_append(r, 100);
	rig_close(r);
	first = r->log.closed.lsn;
	assert_true(r->journal.write_op.in_flight);
	for (unsigned i = 0; i < 50; i++) {
		rig_append(r, 300);
		if (i % 10 == 9)
			rig_close(r);
	}
	assert_int_equal(r->journal.writes, 1);
	assert_int_equal(r->journal.written, 0);
	while (r->journal.written == 0)
		assert_true(world_step(r->world));
	assert_int_equal(r->journal.written, first);
	assert_int_equal(r->journal.writes, 2);
	rig_settle(r);
	assert_int_equal(r->journal.writes, 2);
	assert_int_equal(r->journal.written, r->log.closed.lsn);
	assert_int_equal(r->journal.durable, 0);
	assert_int_equal(r->journal.syncs, 0);
	rig_free(r);
}

/* Small, and nobody waits for its durability: the kernel may keep it. A sync covers it as any other write. */
static void journal_leaves_to_the_kernel_only_what_is_small_and_not_to_be_durable(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 4096, 8 << 20, 4, 16 << 20);

	(void)state;
	rig_append(r, 100);
	rig_close(r);
	assert_int_equal(r->journal.write_op.flags, 0);		/* nobody has said that it may */
	rig_settle(r);
	r->journal.cached = true;
	rig_append(r, 100);
	rig_close(r);
	assert_int_equal(r->journal.write_op.flags, IO_CACHED);
	rig_settle(r);
	for (uint32_t bytes = 0; bytes <= JOURNAL_CACHED_MAX; bytes += 64 << 10)
		rig_append(r, 64 << 10);
	rig_close(r);
	assert_int_equal(r->journal.write_op.flags, 0);
	rig_settle(r);
	journal_want_durable(&r->journal, r->log.closed.lsn);
	rig_settle(r);
	assert_int_equal(r->journal.syncs, 1);
	assert_int_equal(r->journal.durable, r->log.closed.lsn);
	rig_append(r, 100);
	log_close(&r->log);
	journal_want_durable(&r->journal, r->log.closed.lsn);
	assert_int_equal(r->journal.write_op.flags, IO_DURABLE);
	rig_settle(r);
	assert_int_equal(r->journal.durable, r->log.closed.lsn);
	rig_free(r);
}

static void journal_does_not_write_what_is_not_closed(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 4096, SEGMENT, 4, 2 * SEGMENT);

	(void)state;
	rig_append(r, 5000);
	journal_kick(&r->journal);
	assert_int_equal(r->journal.writes, 0);
	assert_false(journal_busy(&r->journal));
	rig_close(r);
	rig_settle(r);
	assert_int_equal(r->journal.written, 8192);
	rig_free(r);
}

static void journal_durable_write_alone_is_enough_only_behind_durable_log(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 4, 2 * SEGMENT);

	(void)state;
	/* All before it is durable (there is nothing): one durable write, no sync. */
	rig_append(r, 100);
	log_close(&r->log);
	journal_want_durable(&r->journal, r->log.closed.lsn);
	rig_settle(r);
	assert_int_equal(r->journal.durable, r->log.closed.lsn);
	assert_int_equal(r->journal.syncs, 0);
	/* A write that nobody waits for, then one that somebody does: that takes a sync. */
	rig_append(r, 100);
	rig_close(r);
	rig_settle(r);
	assert_true(r->journal.durable < r->journal.written);
	rig_append(r, 100);
	log_close(&r->log);
	journal_want_durable(&r->journal, r->log.closed.lsn);
	rig_settle(r);
	assert_int_equal(r->journal.durable, r->log.closed.lsn);
	assert_int_equal(r->journal.syncs, 2);	/* one for what was written, one for the write behind it */
	assert_int_equal(chain_end(r, machine_disk_durable(r->machine, r->file)), r->log.closed.lsn);
	rig_free(r);
}

/* Power is cut at every op; what was called durable is there, as one chain of records from the start. */
static void journal_called_durable_survives_power_loss_at_every_op(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(400); i++) {
		struct rig *r = rig_new(first + i, i % 2 ? 512 : 4096, SEGMENT, 32, 4 * SEGMENT);
		uint64_t known = 0;

		machine_crash_at(r->machine, machine_disk_ops(r->machine) + 1 + i % 60, true);
		while (!machine_crashed(r->machine) && r->log.end.lsn < 20 * SEGMENT) {
			uint32_t payload = 1 + (uint32_t)world_random_below(
						       r->world, world_random_below(r->world, 4) ? 700 : 8000);

			if (rig_has_room(r, payload))
				rig_append(r, payload);
			if (world_random_below(r->world, 3) == 0)
				rig_close(r);
			if (world_random_below(r->world, 4) == 0)
				journal_want_durable(&r->journal, r->log.closed.lsn);
			if (world_random_below(r->world, 2))
				world_run_for(r->world, world_random_below(r->world, 400 * MICROSECONDS));
			known = r->journal.durable;
			assert_true(r->journal.durable <= r->journal.written);
			assert_true(r->journal.written <= r->log.closed.lsn);
			if (i % 5 == 0)
				assert_true(chain_end(r, machine_disk_durable(r->machine, r->file)) >= known);
		}
		r->crashed = machine_crashed(r->machine);
		if (r->crashed)
			assert_true(chain_end(r, machine_disk_data(r->machine, r->file)) >= known);
		else
			rig_settle(r);
		rig_free(r);
	}
}

static void assert_failed_for_good(struct rig *r, const char *at)
{
	uint64_t durable = r->journal.durable, ops, writes;

	rig_settle(r);
	assert_int_equal(r->journal.failed, -EIO);
	assert_string_equal(r->journal.failed_at, at);
	ops = machine_disk_ops(r->machine);
	writes = r->journal.writes;
	rig_append(r, 100);
	rig_close(r);
	journal_want_durable(&r->journal, r->log.closed.lsn);
	world_run_for(r->world, SECONDS);
	assert_int_equal(machine_disk_ops(r->machine), ops);
	assert_int_equal(r->journal.writes, writes);
	assert_int_equal(r->journal.durable, durable);
	assert_int_equal(r->journal.failed, -EIO);
}

static void journal_after_a_failed_write_or_sync_tries_nothing_again(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 2; kind++) {
		struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 4, 2 * SEGMENT);

		rig_append(r, 100);
		rig_close(r);
		rig_settle(r);
		rig_fail(r, kind ? 1u << IO_SYNC : 1u << IO_WRITE, 1);
		rig_append(r, 100);
		rig_close(r);
		if (kind)
			journal_want_durable(&r->journal, r->log.closed.lsn);
		rig_settle(r);
		assert_failed_for_good(r, kind ? "sync" : "write");
		rig_free(r);
	}
}

/* A sync that fails while a write is under way: the write may end well, and still nothing counts. */
static void journal_counts_no_write_that_ends_after_a_failed_sync(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 4, 2 * SEGMENT);
	struct disk_timing slow = { .min_ns = 10 * MILLISECONDS, .max_ns = 10 * MILLISECONDS };
	uint64_t written;

	(void)state;
	rig_append(r, 100);
	rig_close(r);
	rig_settle(r);
	written = r->journal.written;
	rig_fail(r, 1u << IO_SYNC, 1);
	journal_want_durable(&r->journal, written);
	machine_disk_set_timing(r->machine, r->file, &slow);
	rig_append(r, 100);
	rig_close(r);
	assert_true(r->journal.sync_op.in_flight && r->journal.write_op.in_flight);
	rig_settle(r);
	assert_int_equal(r->journal.written, written);
	assert_failed_for_good(r, "sync");
	rig_free(r);
}

/* More than one write's worth of log waits, and the write's limit falls into the pad that ends a segment. */
static void split_inside_a_pad(void)
{
	struct rig *r = rig_new(test_seed_first(1), 4096, 8 << 20, 4, 16 << 20);
	uint32_t length;

	/* The long run of 250 KiB records starts so that 4 MiB later there is pad. */
	while (r->log.end.lsn < (4 << 20) - (64 << 10)) {
		rig_append(r, 8192);
		rig_close(r);
		rig_settle(r);
	}
	rig_append(r, 100);
	rig_close(r);	/* one write is in flight: what follows gathers */
	for (;;) {
		length = RECORD_HEADER_BYTES + 16 + (250 << 10);
		if (r->log.end.lsn + length + RECORD_HEADER_BYTES > 8 << 20)
			break;
		rig_append(r, 250 << 10);
	}
	rig_append(r, 250 << 10);
	rig_append(r, 100);
	assert_true(r->log.end.lsn > 8 << 20);
	rig_close(r);
	rig_settle(r);
	assert_int_equal(r->journal.written, r->log.closed.lsn);
	assert_int_equal(chain_end(r, machine_disk_data(r->machine, r->file)), r->log.closed.lsn);
	rig_free(r);
}

/* In a process of its own, as what is broken there ends in a CHECK. */
static void journal_splits_a_long_run_of_log_anywhere_even_inside_a_pad(void **state)
{
	int status = 0;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		split_inside_a_pad();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- cursors ---- */

/* The next record for the cursor, whatever it has to wait for. */
static int cursor_wait(struct rig *r, const struct record_header **out)
{
	int result;

	while ((result = cursor_look(&r->cursor, out)) == -EAGAIN) {
		unsigned ready = r->ready;

		while (r->ready == ready)
			assert_true(world_step(r->world));
	}
	return result;
}

static void journal_read_by_a_cursor_is_the_log_lap_after_lap(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct rig *r = rig_new(test_seed_first(60) + i, i % 2 ? 512 : 4096, SEGMENT, 8, 2 * SEGMENT);
		const struct position zero = { 0 };
		struct position at = { 0 };
		uint64_t from_file = 0, steps = 0;

		cursor_seek(&r->cursor, &zero);
		while (at.lsn < 30 * SEGMENT) {
			uint32_t payload = 1 + (uint32_t)world_random_below(r->world, 8000);
			const struct record_header *record = NULL;

			/* The log runs ahead as far as the ring lets it, then the cursor catches up: from the file
			 * first, then in memory. */
			while (rig_has_room(r, payload)) {
				rig_append(r, payload);
				if (world_random_below(r->world, 3) == 0)
					rig_close(r);
				if (!log_has_room(&r->log, 8192, r->journal.written))
					rig_settle(r);
			}
			rig_close(r);
			rig_settle(r);
			for (steps = world_random_below(r->world, 200);
			     steps || at.lsn < r->log.closed.lsn - 6 * SEGMENT; steps--) {
				int result = cursor_wait(r, &record);

				if (result == 0)
					break;
				assert_int_equal(result, 1);
				assert_int_equal(from_le64(record->lsn), at.lsn);
				from_file += at.lsn < r->log.start;
				assert_int_equal(
					record_look(record, record_wire_length(record), &at, &r->geometry),
					RECORD_GOOD);
				record_next(record, &at);
				cursor_advance(&r->cursor, record);
				assert_memory_equal(&r->cursor.at, &at, sizeof at);
				if (steps == 0)
					steps = 1;
			}
			r->journal.tail = log_mark_below(&r->log, at.lsn)->at.lsn;
		}
		assert_true(from_file > 100);
		rig_free(r);
	}
}

static void rig_fill(struct rig *r, uint64_t to)
{
	while (r->log.end.lsn < to) {
		r->journal.tail = r->log.closed.lsn;
		rig_append(r, 3000);
		rig_close(r);
		rig_settle(r);
	}
}

static void cursor_finds_out_a_part_that_was_overwritten(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 4, 2 * SEGMENT);
	const struct record_header *record = NULL;
	struct position old;

	(void)state;
	rig_fill(r, 2 * SEGMENT);
	old = log_mark_below(&r->log, SEGMENT)->at;
	rig_fill(r, 9 * SEGMENT);
	cursor_seek(&r->cursor, &old);
	assert_int_equal(cursor_wait(r, &record), -EBADMSG);
	assert_true(r->cursor.finding == RECORD_STALE || r->cursor.finding == RECORD_BLANK ||
		    r->cursor.finding == RECORD_TORN);
	rig_free(r);
}

/* The cursor has read ahead, and the ring goes over what it has not read yet. */
static void cursor_finds_out_that_the_ring_overtook_it(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 4, 2 * SEGMENT);
	const struct record_header *record = NULL;
	const struct position zero = { 0 };
	unsigned good = 0;
	int result;

	(void)state;
	rig_fill(r, 3 * SEGMENT);
	cursor_seek(&r->cursor, &zero);
	for (; good < 3; good++) {
		assert_int_equal(cursor_wait(r, &record), 1);
		cursor_advance(&r->cursor, record);
	}
	rig_fill(r, 9 * SEGMENT);
	while ((result = cursor_wait(r, &record)) == 1) {
		cursor_advance(&r->cursor, record);
		good++;
	}
	assert_int_equal(result, -EBADMSG);
	assert_int_equal(r->cursor.finding, RECORD_STALE);
	assert_true(good < 10);		/* what was in its buffer already */
	rig_free(r);
}

static void cursor_finds_out_rot(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 8, 2 * SEGMENT);
	const struct record_header *record = NULL;
	const struct position zero = { 0 };
	uint8_t rot = 0xa7;
	int result;

	(void)state;
	rig_fill(r, 5 * SEGMENT);
	machine_disk_write_now(r->machine, r->file, JOURNAL_HEADER_BYTES + SEGMENT + 1000, &rot, 1);
	cursor_seek(&r->cursor, &zero);
	while ((result = cursor_wait(r, &record)) == 1) {
		assert_true(from_le64(record->lsn) < SEGMENT + 1000);
		cursor_advance(&r->cursor, record);
	}
	assert_int_equal(result, -EBADMSG);
	assert_int_equal(r->cursor.finding, RECORD_TORN);
	rig_free(r);
}

static void cursor_refuses_any_position_that_is_no_place_of_the_log(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 8, 2 * SEGMENT);
	const struct record_header *record = NULL;

	(void)state;
	rig_fill(r, 6 * SEGMENT);
	for (unsigned in_memory = 0; in_memory < 2; in_memory++) {
		uint64_t about = in_memory ? r->log.closed.lsn - SEGMENT / 2 : 2 * SEGMENT;
		struct position place = log_mark_below(&r->log, about)->at, wrong = place;

		assert_int_equal(place.lsn >= r->log.start, in_memory);
		cursor_seek(&r->cursor, &place);
		assert_int_equal(cursor_wait(r, &record), 1);
		wrong.hash[5] ^= 1;
		cursor_seek(&r->cursor, &wrong);
		assert_int_equal(cursor_wait(r, &record), -EBADMSG);
		assert_int_equal(r->cursor.finding, RECORD_UNCHAINED);
		for (unsigned step = 1; step < 512; step++) {
			wrong = place;
			wrong.lsn += step;
			cursor_seek(&r->cursor, &wrong);
			assert_int_equal(cursor_wait(r, &record), -EBADMSG);
		}
	}
	rig_free(r);
}

static void cursor_says_what_the_disk_said(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), 512, SEGMENT, 8, 2 * SEGMENT);
	const struct record_header *record = NULL;
	const struct position zero = { 0 };

	(void)state;
	rig_fill(r, 6 * SEGMENT);
	rig_fail(r, 1u << IO_READ, 1);
	cursor_seek(&r->cursor, &zero);
	assert_int_equal(cursor_wait(r, &record), -EIO);
	assert_int_equal(cursor_wait(r, &record), -EIO);
	cursor_seek(&r->cursor, &zero);
	assert_int_equal(cursor_wait(r, &record), 1);
	rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(journal_commits_many_records_with_one_write_in_flight),
	cmocka_unit_test(journal_leaves_to_the_kernel_only_what_is_small_and_not_to_be_durable),
	cmocka_unit_test(journal_does_not_write_what_is_not_closed),
	cmocka_unit_test(journal_durable_write_alone_is_enough_only_behind_durable_log),
	cmocka_unit_test(journal_called_durable_survives_power_loss_at_every_op),
	cmocka_unit_test(journal_after_a_failed_write_or_sync_tries_nothing_again),
	cmocka_unit_test(journal_counts_no_write_that_ends_after_a_failed_sync),
	cmocka_unit_test(journal_read_by_a_cursor_is_the_log_lap_after_lap),
	cmocka_unit_test(cursor_finds_out_a_part_that_was_overwritten),
	cmocka_unit_test(cursor_finds_out_that_the_ring_overtook_it),
	cmocka_unit_test(cursor_finds_out_rot),
	cmocka_unit_test(cursor_refuses_any_position_that_is_no_place_of_the_log),
	cmocka_unit_test(cursor_says_what_the_disk_said),
	cmocka_unit_test(journal_splits_a_long_run_of_log_anywhere_even_inside_a_pad),
};
TEST_GROUP(journal, tests)
