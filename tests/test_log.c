/* SPDX-License-Identifier: Apache-2.0 */
/* The log in memory: what a sender appends a receiver has, to the byte, and so has the file of each. */
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "log.h"
#include "run.h"
#include "sim/world.h"

enum { SEGMENT = 64 << 10, RING = 3 * SEGMENT, JOURNAL = 8 * SEGMENT, RECORD_MAX = SEGMENT / 8 };

/* A log and the file that it is written to. */
struct side { struct log log; uint8_t *file; uint64_t written; };

struct logs {
	struct world *world;
	struct io *io;
	struct geometry geometry;
	struct side sender, receiver;
};

static void side_new(struct logs *t, struct side *s, uint64_t ring)
{
	static const struct position zero;

	assert_int_equal(log_new(&s->log, t->io, &t->geometry, ring), 0);
	log_start_at(&s->log, &zero);
	s->log.epoch = 1;
	s->file = calloc(1, JOURNAL);
	s->written = 0;
}

static struct logs *logs_new(uint64_t seed, uint32_t block)
{
	struct logs *t = calloc(1, sizeof *t);

	t->world = world_new(seed);
	t->io = machine_io(world_machine(t->world, "a"));
	t->geometry = (struct geometry){ .uuid = { 9, 8, 7, 6 }, .volume_bytes = 1 << 20, .journal_bytes = JOURNAL,
					 .segment_bytes = SEGMENT, .journal_block = block, .node = "a" };
	side_new(t, &t->sender, RING);
	side_new(t, &t->receiver, 2 * SEGMENT);
	return t;
}

static void logs_free(struct logs *t)
{
	log_delete(&t->sender.log, t->io);
	log_delete(&t->receiver.log, t->io);
	assert_int_equal(machine_memory(world_machine(t->world, "a")), 0);
	free(t->sender.file);
	free(t->receiver.file);
	world_free(t->world);
	free(t);
}

/* What the journal does with closed batches, up to @limit. */
static void side_write(struct side *s, uint64_t limit)
{
	while (s->written < limit) {
		uint64_t next, end = log_run_end(&s->log, s->written, limit, &next);

		assert_true(end > s->written && end <= next && end <= limit && next <= s->log.closed.lsn);
		assert_int_equal(s->written % s->log.geometry->journal_block, 0);
		assert_int_equal(end % s->log.geometry->journal_block, 0);
		assert_int_equal(s->written / SEGMENT, (end - 1) / SEGMENT);
		memcpy(s->file + s->written % JOURNAL, log_at(&s->log, s->written), end - s->written);
		s->written = next;
	}
}

static struct record_draft draft_random(struct world *w, uint32_t most)
{
	static uint8_t bytes[RECORD_MAX];
	static struct record_delta deltas[4];
	static struct slice slices[4];
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = deltas, .payload = slices, .annotation = bytes };

	for (uint32_t i = 0; i < sizeof bytes; i += 8)
		memcpy(bytes + i, &(uint64_t){ world_random(w) }, 8);
	draft.annotation_len = world_random_below(w, 2) ? (uint32_t)world_random_below(w, 60) : 0;
	for (uint64_t n = world_random_below(w, 5); n; n--) {
		uint32_t room = most - log_draft_length(&draft) - 32, len = 1 + (uint32_t)world_random_below(w, room);

		if (log_draft_length(&draft) + 40 >= most)
			break;
		if (world_random_below(w, 3))
			len = 1 + len % 300;
		slices[draft.slice_count++] =
			(struct slice){ bytes + world_random_below(w, sizeof bytes - len + 1), len };
		deltas[draft.delta_count++] = (struct record_delta){ to_le64(world_random_below(w, (1 << 20) - len)),
								     to_le32(len), to_le16(DELTA_DATA), { 0 } };
	}
	return draft;
}

static void append_random(struct logs *t, uint32_t most)
{
	struct record_draft draft = draft_random(t->world, most);
	struct log *log = &t->sender.log;
	uint32_t length = log_draft_length(&draft);
	uint64_t before = log->end.lsn, cost = log_cost(log, length);

	assert_true(log_has_room(log, length, t->sender.written));
	log_append(log, &draft, 5);
	assert_int_equal(record_length(log_record(log, log->end.lsn - length)), length);
	assert_true(log->end.lsn - before <= cost);
}

/* Everything closed there goes over the wire, cut into exact pieces. */
static void transfer(struct logs *t)
{
	struct log *from = &t->sender.log, *to = &t->receiver.log;

	while (to->end.lsn < from->closed.lsn) {
		const struct record_header *r = log_record(from, to->end.lsn);
		uint32_t wire = record_wire_length(r), used = 0;
		uint8_t *bytes = malloc(wire);

		assert_true(log_has_room(to, record_length(r), t->receiver.written));
		memcpy(bytes, r, wire);
		assert_int_equal(log_receive(to, bytes, wire - 1, &used), RECORD_SHORT);
		assert_int_equal(log_receive(to, bytes, wire, &used), RECORD_GOOD);
		assert_int_equal(used, wire);
		assert_memory_equal(log_at(to, from_le64(r->lsn)), bytes, wire);
		free(bytes);
		side_write(&t->receiver, to->closed.lsn);
	}
}

static void assert_file_holds_the_log(const struct side *s, const struct geometry *g)
{
	struct position at = { .lsn = round_down(s->written, SEGMENT) };

	/* The hash of a segment's start is in its first record. */
	if (at.lsn == s->written)
		return;
	memcpy(at.hash, ((const struct record_header *)(const void *)(s->file + at.lsn % JOURNAL))->hash, HASH_BYTES);
	while (at.lsn < s->written) {
		uint64_t place = at.lsn % JOURNAL;

		assert_int_equal(record_look(s->file + place, SEGMENT - place % SEGMENT, &at, g), RECORD_GOOD);
		record_next((const void *)(s->file + place), &at);
	}
	assert_memory_equal(&at, &s->log.closed, sizeof at);
}

static void log_received_is_the_log_that_was_sent_and_the_files_are_the_same_bytes(void **state)
{
	(void)state;
	for (unsigned run = 0; run < 8; run++) {
		struct logs *t = logs_new(test_seed_first(1) + run, run % 2 ? 512 : 4096);

		for (unsigned batch = 0; batch < 600; batch++) {
			for (uint64_t n = 1 + world_random_below(t->world, 5); n; n--)
				append_random(t, world_random_below(t->world, 3) ? 900 : RECORD_MAX);
			log_close(&t->sender.log);
			assert_int_equal(t->sender.log.closed.lsn % t->geometry.journal_block, 0);
			assert_memory_equal(&t->sender.log.closed, &t->sender.log.end, sizeof t->sender.log.end);
			side_write(&t->sender, t->sender.log.closed.lsn);
			transfer(t);
			assert_memory_equal(&t->receiver.log.end, &t->sender.log.end, sizeof t->sender.log.end);
			assert_memory_equal(&t->receiver.log.closed, &t->sender.log.end, sizeof t->sender.log.end);
			assert_int_equal(t->receiver.log.records, t->sender.log.records);
			assert_file_holds_the_log(&t->sender, &t->geometry);
		}
		assert_true(t->sender.log.end.lsn > 2 * JOURNAL);
		assert_memory_equal(t->sender.file, t->receiver.file, JOURNAL);
		logs_free(t);
	}
}

static void log_keeps_records_in_segments_and_room_for_an_epoch_behind_each_batch(void **state)
{
	(void)state;
	for (unsigned run = 0; run < 2; run++) {
		struct logs *t = logs_new(test_seed_first(20) + run, run % 2 ? 512 : 4096);
		struct log *log = &t->sender.log;

		while (log->end.lsn < 40 * SEGMENT) {
			uint64_t from = log->end.lsn, left;

			append_random(t, RECORD_MAX);
			if (world_random_below(t->world, 3) == 0) {
				log_close(log);
				left = SEGMENT - log->end.lsn % SEGMENT;
				assert_true(left >= 2 * RECORD_HEADER_BYTES + sizeof(struct epoch_entry));
			}
			while (from < log->end.lsn) {
				const struct record_header *r = log_record(log, from);

				assert_int_equal(from / SEGMENT, (from + record_length(r) - 1) / SEGMENT);
				if (record_is_pad(r))
					assert_int_equal((from + record_length(r)) % t->geometry.journal_block, 0);
				from += record_length(r);
			}
			assert_int_equal(from, log->end.lsn);
			t->sender.written = log->closed.lsn;
		}
		logs_free(t);
	}
}

/* A write-behind file that lags by chance: what it has not got must be whole in memory, always. */
static void log_with_room_never_overwrites_what_the_file_has_not_got(void **state)
{
	struct logs *t = logs_new(test_seed_first(30), 512);
	struct log *log = &t->sender.log;
	struct position at = { 0 };
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct record_draft draft = draft_random(t->world, world_random_below(t->world, 4) ? 600 : RECORD_MAX);

		if (log_has_room(log, log_draft_length(&draft), at.lsn)) {
			log_append(log, &draft, 1);
			if (world_random_below(t->world, 2))
				log_close(log);
			assert_true(log->start <= at.lsn);
			continue;
		}
		refused++;
		log_close(log);
		assert_true(log->start <= at.lsn);
		for (uint64_t stop = at.lsn + world_random_below(t->world, log->closed.lsn - at.lsn) + 1;
		     at.lsn < stop;) {
			const struct record_header *r = log_record(log, at.lsn);

			assert_int_equal(record_look(r, log->end.lsn - at.lsn, &at, &t->geometry), RECORD_GOOD);
			record_next(r, &at);
		}
	}
	assert_true(refused > 20);
	logs_free(t);
}

static void log_takes_nothing_from_a_record_that_is_not_good(void **state)
{
	struct logs *t = logs_new(1, 512);
	struct log *to = &t->receiver.log;
	struct position before = to->end;
	const struct record_header *r;
	uint32_t used = 77;
	uint8_t *bytes;

	(void)state;
	append_random(t, 900);
	log_close(&t->sender.log);
	r = log_record(&t->sender.log, 0);
	bytes = malloc(record_length(r));
	for (uint32_t i = 0; i < record_length(r); i++) {
		memcpy(bytes, r, record_length(r));
		bytes[i] ^= 0x10;
		assert_int_not_equal(log_receive(to, bytes, record_length(r), &used), RECORD_GOOD);
		assert_memory_equal(&to->end, &before, sizeof before);
		assert_int_equal(to->records, 0);
		assert_int_equal(used, 77);
	}
	free(bytes);
	logs_free(t);
}

static void log_drop_open_forgets_the_batch_and_goes_on_from_its_start(void **state)
{
	(void)state;
	for (unsigned run = 0; run < 30; run++) {
		struct logs *t = logs_new(test_seed_first(40) + run, run % 2 ? 512 : 4096);
		struct log *to = &t->receiver.log;

		for (unsigned batch = 0; batch < 40; batch++) {
			struct position closed = to->closed;
			uint64_t records = to->records;

			for (unsigned n = 0; n < 6; n++)
				append_random(t, world_random_below(t->world, 2) ? 600 : RECORD_MAX);
			log_close(&t->sender.log);
			side_write(&t->sender, t->sender.log.closed.lsn);
			/* Some of the batch, then the connection is gone. */
			for (uint64_t n = world_random_below(t->world, 6); n; n--) {
				const struct record_header *r = log_record(&t->sender.log, to->end.lsn);
				uint32_t used;

				assert_int_equal(log_receive(to, r, record_wire_length(r), &used), RECORD_GOOD);
			}
			if (to->closed.lsn != closed.lsn) {
				closed = to->closed;
				records = to->records_closed;
			}
			log_drop_open(to);
			assert_memory_equal(&to->end, &closed, sizeof closed);
			assert_int_equal(to->records, records);
			side_write(&t->receiver, to->closed.lsn);
			transfer(t);
		}
		assert_memory_equal(&to->end, &t->sender.log.end, sizeof to->end);
		assert_memory_equal(t->sender.file, t->receiver.file, JOURNAL);
		logs_free(t);
	}
}

/* Runs that end anywhere, as the journal's largest write makes them end: inside a record, inside a pad. */
static void log_run_end_of_any_limit_goes_forward_and_leaves_nothing_out(void **state)
{
	struct logs *t = logs_new(test_seed_first(50), 512);
	struct log *log = &t->sender.log;

	(void)state;
	for (unsigned batch = 0; batch < 300; batch++) {
		while (log_has_room(log, RECORD_MAX, t->sender.written))
			append_random(t, RECORD_MAX);
		log_close(log);
		while (t->sender.written < log->closed.lsn) {
			uint64_t limit = t->sender.written + 512 * (1 + world_random_below(t->world, 40)), next, end;

			limit = min_u64(limit, log->closed.lsn);
			end = log_run_end(log, t->sender.written, limit, &next);
			if (end <= t->sender.written || end > limit || end > next || next > log->closed.lsn)
				fail_msg("from %llu, limit %llu: the run ends at %llu, the next starts at %llu",
					 (unsigned long long)t->sender.written, (unsigned long long)limit,
					 (unsigned long long)end, (unsigned long long)next);
			memcpy(t->sender.file + t->sender.written % JOURNAL, log_at(log, t->sender.written),
			       end - t->sender.written);
			t->sender.written = next;
		}
		assert_file_holds_the_log(&t->sender, &t->geometry);
	}
	logs_free(t);
}

static void batches_run(struct logs *t, unsigned count, struct position *ends)
{
	struct record_draft empty = { .kind = RECORD_DATA };

	for (unsigned i = 0; i < count; i++) {
		log_append(&t->sender.log, &empty, i);
		log_close(&t->sender.log);
		if (ends)
			ends[i] = t->sender.log.closed;
	}
}

static void log_marks_thin_out_and_each_is_the_end_of_a_batch(void **state)
{
	enum { BATCHES = 3 * LOG_MARKS + 17 };
	struct logs *t = logs_new(1, 512);
	struct position *ends = calloc(BATCHES, sizeof *ends);
	struct log *log = &t->sender.log;

	(void)state;
	batches_run(t, BATCHES, ends);
	assert_true(log->mark_count <= LOG_MARKS && log->mark_count > LOG_MARKS / 4);
	for (uint32_t i = 0; i < log->mark_count; i++) {
		const struct log_mark *mark = &log->marks[i];
		uint64_t index = mark->at.lsn / 512 - 1;

		assert_true(i == 0 || mark->at.lsn > mark[-1].at.lsn);
		assert_memory_equal(&mark->at, &ends[index], sizeof mark->at);
		assert_int_equal(mark->records, 2 * (index + 1));
	}
	for (uint64_t lsn = 0; lsn <= log->end.lsn; lsn += 256) {
		const struct log_mark *mark = log_mark_below(log, lsn);

		assert_true(mark ? mark->at.lsn <= lsn : lsn < log->marks[0].at.lsn);
		assert_true(!mark || mark == &log->marks[log->mark_count - 1] || mark[1].at.lsn > lsn);
	}
	assert_null(log_mark_below(log, log->marks[0].at.lsn - 1));
	free(ends);
	logs_free(t);
}

/* The tail moves from mark to mark: when these are further apart than the journal is long, it does not move. */
static void log_marks_stay_closer_than_the_journal_is_long_however_long_it_runs(void **state)
{
	struct logs *t = logs_new(1, 512);
	struct log *log = &t->sender.log;

	(void)state;
	batches_run(t, 2048 * LOG_MARKS / 4, NULL);
	for (uint64_t lsn = log->end.lsn - JOURNAL; lsn < log->end.lsn; lsn += 512) {
		const struct log_mark *mark = log_mark_below(log, lsn);

		if (!mark || lsn - mark->at.lsn > JOURNAL / 4)
			fail_msg("no mark between LSN %llu and %llu, with a journal of %d bytes",
				 mark ? (unsigned long long)mark->at.lsn : 0ull, (unsigned long long)lsn, JOURNAL);
	}
	logs_free(t);
}

static void log_start_at_forgets_marks_at_and_above_it(void **state)
{
	struct logs *t = logs_new(1, 512);
	struct log *log = &t->sender.log;
	struct position ends[10], back;

	(void)state;
	batches_run(t, 10, ends);
	back = ends[4];
	log_start_at(log, &back);
	assert_int_equal(log->start, back.lsn);
	assert_memory_equal(&log_mark_below(log, UINT64_MAX)->at, &back, sizeof back);
	assert_memory_equal(&log_mark_below(log, back.lsn - 1)->at, &ends[3], sizeof back);
	batches_run(t, 3, ends + 5);
	assert_memory_equal(&log_mark_below(log, UINT64_MAX)->at, &ends[7], sizeof back);
	logs_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(log_received_is_the_log_that_was_sent_and_the_files_are_the_same_bytes),
	cmocka_unit_test(log_keeps_records_in_segments_and_room_for_an_epoch_behind_each_batch),
	cmocka_unit_test(log_with_room_never_overwrites_what_the_file_has_not_got),
	cmocka_unit_test(log_takes_nothing_from_a_record_that_is_not_good),
	cmocka_unit_test(log_drop_open_forgets_the_batch_and_goes_on_from_its_start),
	cmocka_unit_test(log_run_end_of_any_limit_goes_forward_and_leaves_nothing_out),
	cmocka_unit_test(log_marks_thin_out_and_each_is_the_end_of_a_batch),
	cmocka_unit_test(log_marks_stay_closer_than_the_journal_is_long_however_long_it_runs),
	cmocka_unit_test(log_start_at_forgets_marks_at_and_above_it),
};
TEST_GROUP(log, tests)
