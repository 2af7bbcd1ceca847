/* SPDX-License-Identifier: Apache-2.0 */
/* Races, stale knowledge and hostile bytes that random faults rarely hit: each test plays one of them. */
#include "directed.h"

static void log_marks_stay_denser_than_the_journal_however_long_it_runs(void **state)
{
	struct world *w = world_new(1);
	struct io *io = machine_io(world_machine(w, "a"));
	struct geometry g = { .uuid = { 1 }, .volume_bytes = 1 << 20, .journal_bytes = 1 << 20,
			      .segment_bytes = 256 << 10, .journal_block = 4096, .node = "a" };
	struct position zero = { 0 };
	uint8_t bytes[512] = "x";
	struct record_delta delta = { .length = to_le32(512), .kind = to_le16(DELTA_DATA) };
	struct slice payload = { bytes, 512 };
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = &delta, .delta_count = 1, .payload = &payload,
				      .slice_count = 1 };
	struct log log;

	(void)state;
	assert_int_equal(log_new(&log, io, &g, 512 << 10), 0);
	log_start_at(&log, &zero);
	for (unsigned i = 0; i < 1000000; i++) {
		uint64_t quarter = g.journal_bytes / 4;

		log_append(&log, &draft, i);
		log_close(&log);
		if (log.end.lsn > g.journal_bytes) {
			const struct log_mark *mark = log_mark_below(&log, log.end.lsn - quarter);

			assert_non_null(mark);
			assert_in_range(log.end.lsn - quarter - mark->at.lsn, 0, quarter);
		}
	}
	log_delete(&log, io);
	world_free(w);
}

static void a_journal_full_of_epochs_still_takes_the_next_promotion(void **state)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c;

	(void)state;
	o.segment_bytes = 64 << 10;
	o.journal_bytes = 256 << 10;
	c = start(&o);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 10 * SECONDS), 0);
		assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 60 * SECONDS), 0);
	}
	cluster_converge(c);
	cluster_free(c);
}

static void a_secondary_follows_through_more_epochs_than_its_journal_holds(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c;

	(void)state;
	o.segment_bytes = 64 << 10;
	o.journal_bytes = 256 << 10;
	c = start(&o);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 10 * SECONDS), 0);
		cluster_run_for(c, 2 * SECONDS);
		assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 60 * SECONDS), 0);
		cluster_run_for(c, 2 * SECONDS);
	}
	cluster_converge(c);
	cluster_free(c);
}

/* ---- pure functions ---- */

static struct ack_marks marks_all(uint64_t written, uint64_t durable, const struct ack_peer *peers, unsigned count,
				  unsigned min_copies)
{
	return ack_marks(written, durable, peers, count, &(struct ack_policy){ COMMIT_ALL, 0, min_copies });
}

static void acknowledgement_waits_for_what_each_mode_says(void **state)
{
	/* received 400, written 300, durable 200, applied 100; ours 1000 written, 900 durable */
	static const struct { enum replication_mode mode; uint64_t complete, flushed, commit;
	} rows[] = {
		{ MODE_A, 1000, 900, 900 },
		{ MODE_B, 400, 400, 400 },
		{ MODE_C, 300, 200, 200 },
		{ MODE_D, 100, 100, 200 },
	};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct ack_peer p = { rows[i].mode, true, true, 400, 300, 200, 100, false };
		struct ack_marks marks = marks_all(1000, 900, &p, 1, 1);

		assert_int_equal(marks.complete, rows[i].complete);
		assert_int_equal(marks.flushed, rows[i].flushed);
		assert_int_equal(marks.commit, rows[i].commit);
		/* Not online: nobody waits for it, unless copies are asked for; not connected: it is no copy. */
		p.online = false;
		marks = marks_all(1000, 900, &p, 1, 1);
		assert_int_equal(marks.complete, 1000);
		assert_int_equal(marks.flushed, 900);
		assert_int_equal(marks.commit, 900);
		marks = marks_all(1000, 900, &p, 1, 2);
		assert_int_equal(marks.complete, 300);
		assert_int_equal(marks.flushed, 200);
		p.connected = false;
		marks = marks_all(1000, 900, &p, 1, 2);
		assert_int_equal(marks.complete, 0);
		assert_int_equal(marks.flushed, 0);
		assert_int_equal(marks.commit, 0);
	}
}

/* Two of three copies: the second best connected peer counts, one that is gone does not, however far it was. */
static void copies_are_counted_among_the_connected(void **state)
{
	struct ack_peer peers[3] = {
		{ MODE_A, false, false, 900, 900, 900, 900, false }, { MODE_A, false, true, 500, 500, 400, 0, false },
		{ MODE_A, false, true, 700, 700, 300, 0, false },
	};

	(void)state;
	assert_int_equal(marks_all(1000, 1000, peers, 3, 2).complete, 700);
	assert_int_equal(marks_all(1000, 1000, peers, 3, 2).flushed, 400);
	assert_int_equal(marks_all(1000, 1000, peers, 3, 3).complete, 500);
	assert_int_equal(marks_all(1000, 1000, peers, 3, 3).flushed, 300);
	assert_int_equal(marks_all(1000, 1000, peers, 3, 4).complete, 0);
}

static void histories_part_exactly_at_the_fork(void **state)
{
	static struct history old, new, other;
	struct position end = { 9000, { 9 } };

	(void)state;
	old.count = 1;
	old.epochs[0] = (struct epoch_entry){ .uuid = { 1 }, .number = to_le64(1), .node = "a" };
	new = old;
	new.count = 2;
	new.epochs[1] =
		(struct epoch_entry){ .uuid = { 2 }, .number = to_le64(2), .start = to_le64(5000), .node = "b" };
	other = new;
	other.epochs[1].uuid[0] = 3;
	for (uint64_t at = 4999; at <= 5001; at++) {
		struct position theirs = { at, { 5 } };

		assert_int_equal(history_compare(&new, &end, &old, &theirs).verdict,
				 at <= 5000 ? HISTORY_AHEAD : HISTORY_REWIND_PEER);
		assert_int_equal(history_compare(&old, &theirs, &new, &end).verdict,
				 at <= 5000 ? HISTORY_BEHIND : HISTORY_REWIND_SELF);
	}
	assert_int_equal(history_compare(&new, &end, &other, &end).verdict, HISTORY_SPLIT_BRAIN);
	assert_int_equal(history_compare(&new, &end, &new, &end).verdict, HISTORY_EQUAL);
	assert_int_equal(history_compare(&new, &end, &new, &(struct position){ 9000, { 8 } }).verdict, HISTORY_DAMAGED);
}

static void a_record_with_any_bit_flipped_is_not_good(void **state)
{
	static uint8_t bytes[RECORD_HEADER_BYTES + 16 + 512], flipped[sizeof bytes];
	struct world *w = world_new(1);
	struct io *io = machine_io(world_machine(w, "a"));
	struct geometry g = { .uuid = { 1 }, .volume_bytes = 1 << 20, .journal_bytes = 1 << 20,
			      .segment_bytes = 256 << 10, .journal_block = 512, .node = "a" };
	struct position zero = { 0 };
	struct record_delta delta = { .length = to_le32(512), .kind = to_le16(DELTA_DATA) };
	struct slice payload = { bytes, 512 };
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = &delta, .delta_count = 1, .payload = &payload,
				      .slice_count = 1 };
	struct log log;

	(void)state;
	assert_int_equal(log_new(&log, io, &g, 512 << 10), 0);
	log_start_at(&log, &zero);
	log_append(&log, &draft, 7);
	memcpy(bytes, log_record(&log, 0), sizeof bytes);
	assert_int_equal(record_look(bytes, sizeof bytes, &zero, &g), RECORD_GOOD);
	for (unsigned bit = 0; bit < 8 * sizeof bytes; bit++) {
		memcpy(flipped, bytes, sizeof bytes);
		flipped[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(record_look(flipped, sizeof flipped, &zero, &g), RECORD_GOOD);
	}
	assert_int_equal(record_look(bytes, sizeof bytes, &(struct position){ 0, { 1 } }, &g), RECORD_UNCHAINED);
	log_delete(&log, io);
	world_free(w);
}

/* A batch that was cut off had a pad up to the segment's end; what is written there instead is not cut short. */
static void what_takes_the_place_of_a_dropped_pad_is_written_whole(void **state)
{
	static const uint8_t bytes[8192];
	struct world *w = world_new(1);
	struct io *io = machine_io(world_machine(w, "a"));
	struct geometry g = { .uuid = { 1 }, .volume_bytes = 1 << 20, .journal_bytes = 256 << 10,
			      .segment_bytes = 64 << 10, .journal_block = 512, .node = "a" };
	struct position zero = { 0 };
	struct record_delta delta = { .length = to_le32(4096), .kind = to_le16(DELTA_DATA) };
	struct slice payload = { bytes, 4096 - RECORD_HEADER_BYTES - sizeof delta };
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = &delta, .delta_count = 1, .payload = &payload,
				      .slice_count = 1 };
	struct log log;
	uint64_t next;

	(void)state;
	assert_int_equal(log_new(&log, io, &g, 128 << 10), 0);
	log_start_at(&log, &zero);
	while (log.end.lsn < 61440)
		log_append(&log, &draft, 7);
	log_close(&log);
	assert_int_equal(log.closed.lsn, 61440);
	payload.len = 7000;
	log_append(&log, &draft, 7);
	assert_true(log.end.lsn > 65536);
	log_drop_open(&log);
	payload.len = 4096 - RECORD_HEADER_BYTES - sizeof delta;
	log_append(&log, &draft, 7);
	log_close(&log);
	assert_int_equal(log_run_end(&log, 61440, log.closed.lsn, &next), 65536);
	assert_int_equal(next, 65536);
	log_delete(&log, io);
	world_free(w);
}

/* ---- holes ---- */

static void put(struct pool *pool, enum delta_kind kind, uint64_t offset, uint32_t length, uint64_t lsn)
{
	static const uint8_t bytes[65536];
	struct record_delta delta = { to_le64(offset), to_le32(length), to_le16((uint16_t)kind), { 0 } };

	assert_int_equal(pool_prepare(pool, &delta, 1), 0);
	pool_apply(pool, &delta, 1, bytes, lsn, lsn + 100);
}

/* The tail may not pass a record whose page a younger hole has swallowed, nor a hole that another took over: the
 * younger record may be lost with the power, the older one was acknowledged. */
static void a_hole_is_as_old_as_what_it_swallows(void **state)
{
	struct world *w = world_new(1);
	struct io *io = machine_io(world_machine(w, "a"));
	struct geometry g = { .uuid = { 1 }, .volume_bytes = 1 << 20, .journal_bytes = 1 << 20,
			      .segment_bytes = 256 << 10, .journal_block = 4096, .node = "a" };
	struct pool pool;

	(void)state;
	assert_int_equal(pool_new(&pool, io, 0, &g, 100, NULL), 0);
	put(&pool, DELTA_DATA, 8192, 8192, 1000);
	assert_int_equal(pool_oldest(&pool, UINT64_MAX), 1000);
	put(&pool, DELTA_DISCARD, 0, 65536, 2000);
	assert_int_equal(pool_oldest(&pool, UINT64_MAX), 1000);
	pool_delete(&pool);
	assert_int_equal(pool_new(&pool, io, 0, &g, 100, NULL), 0);
	put(&pool, DELTA_DISCARD, 8192, 8192, 1000);
	put(&pool, DELTA_ZERO, 0, 65536, 2000);
	assert_int_equal(pool_oldest(&pool, UINT64_MAX), 1000);
	pool_delete(&pool);
	world_free(w);
}

/* ---- what stands behind the end of the log ---- */

/* b loses power with two batches in its journal that nothing made durable, and keeps the second only. Should the
 * first come again from a peer, as the same bytes, the second would follow it, and nobody has it any more. */
static void what_is_left_behind_the_end_of_the_log_is_destroyed(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	static const uint8_t zeros[4096];
	const struct record_header *second;
	struct cluster *c = start(&o);
	uint64_t at;
	int journal = cluster_disk(c, 1, 'j');

	(void)state;
	/* All so far is known to be durable; of what follows meta knows nothing. */
	write_now(c, 0, 0, 512, 1);
	while (cluster_volume(c, 1)->meta.saved < cluster_volume(c, 1)->meta.wanted ||
	       cluster_volume(c, 1)->meta.durable < cluster_volume(c, 0)->log.end.lsn)
		cluster_step(c);
	cluster_volume(c, 1)->meta.durable = UINT64_MAX;	/* no tick tells meta more */
	at = cluster_volume(c, 0)->log.end.lsn;
	write_now(c, 0, 0, 512, 1);
	cluster_run_for(c, MILLISECONDS);
	write_now(c, 0, 4096, 512, 2);
	cluster_run_for(c, 5 * MILLISECONDS);
	assert_int_equal(cluster_volume(c, 1)->journal.written, at + 8192);
	cluster_crash(c, 0, false);
	cluster_crash(c, 1, false);
	second = (const void *)(machine_disk_data(cluster_machine(c, 1), journal) + 4096 + at + 4096);
	assert_int_equal(from_le64(second->lsn), at + 4096);
	machine_disk_write_now(cluster_machine(c, 1), journal, 4096 + at, zeros, 4096);
	cluster_up(c, 1);
	while (cluster_open_result(c, 1) == 1)
		cluster_step(c);
	assert_int_equal(cluster_volume(c, 1)->log.end.lsn, at);
	second = (const void *)(machine_disk_durable(cluster_machine(c, 1), journal) + 4096 + at + 4096);
	assert_int_equal(from_le32(second->magic), 0);
	cluster_up(c, 0);
	cluster_converge(c);
	cluster_free(c);
}

/* ---- hostile bytes ---- */

static void what_clients_write_cannot_keep_a_node_from_opening(void **state)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c;

	(void)state;
	c = start(&o);
	/* Two laps of the ring of it, then stop at any place. */
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < 110 + round; i++)
			write_now(c, 0, (i % 12) * 65536, 20000 + 1000 * (i * 7 % 40), 256);
		cluster_run_for(c, 300 * MILLISECONDS);
		cluster_crash(c, 0, false);
		cluster_up(c, 0);
		cluster_run_for(c, 2 * SECONDS);
		if (cluster_open_result(c, 0))
			print_error("open: %s\n", cluster_open_why(c, 0));
		assert_int_equal(cluster_open_result(c, 0), 0);
		assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
	}
	cluster_converge(c);
	cluster_free(c);
}

static void a_peer_that_promised_the_last_number_of_all_does_not_stop_us(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = cluster_new(&o);

	(void)state;
	cluster_up(c, 0);
	cluster_up(c, 1);
	while (cluster_open_result(c, 1) == 1 || cluster_open_result(c, 0) == 1)
		cluster_step(c);
	cluster_volume(c, 1)->meta.promised = UINT64_MAX;
	cluster_run_for(c, 2 * SECONDS);
	/* What it says is refused; a CHECK is not an answer. */
	machine_pause(cluster_machine(c, 1), true);
	cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 10 * SECONDS);
	cluster_run_for(c, 2 * SECONDS);
	cluster_free(c);
}

/* The log cannot go on over it, on any node; what it should have changed comes as blocks. */
static void a_record_that_asks_for_more_than_memory_has_is_refused_and_gone_around(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);
	static struct record_delta deltas[600];
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = deltas, .delta_count = 600 };
	struct volume *a = cluster_volume(c, 0);

	(void)state;
	for (unsigned i = 0; i < 600; i++)
		deltas[i] = (struct record_delta){
			to_le64(i % 250 * 4096), to_le32(4096), to_le16(DELTA_DISCARD), { 0 }
		};
	log_append(&a->log, &draft, 0);
	a->applied = a->log.end.lsn;
	volume_turn_soon(a);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(cluster_volume(c, 1)->failed, 0);
	assert_int_equal(cluster_volume(c, 1)->applied, a->log.closed.lsn);
	assert_false(resync_running(cluster_volume(c, 1)));
	cluster_free(c);
}

/* A node that reads while its pool is short: what it gets is the volume as of one LSN. */
/* Writes so much elsewhere that what was written before is in the store, and its pages are given up. */
static void turn_the_pool_over(struct cluster *c)
{
	for (unsigned i = 0; i < 800; i++)
		write_now(c, 0, (64 + i % 400) * 16384ull, 16384, (int)(i & 255));
	assert_null(pool_find(&cluster_volume(c, 0)->pool, 0));
}

static void a_long_read_is_of_one_moment(void **state)
{
	struct disk_timing slow = { 60 * SECONDS, 60 * SECONDS, 0, 0 };
	struct disk_timing fast = { 20 * MICROSECONDS, 60 * MICROSECONDS, 0, 0 };
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c;

	(void)state;
	o.volume_bytes = 16 << 20;
	o.journal_bytes = 8 << 20;
	c = start(&o);
	for (int byte = 1; byte < 5; byte++) {
		int store = cluster_disk(c, 0, 's');
		struct asked *read;

		write_now(c, 0, 0, 16384, byte);
		turn_the_pool_over(c);
		/* One block of the four in memory: the store is read in two runs, and the second one takes long. */
		write_now(c, 0, 4096, 1, byte);
		cluster_run_for(c, 5 * SECONDS);
		read = ask(c, 0, VOLUME_READ, 0, 16384, 0, 0);
		assert_int_equal(read->request.io.offset, 0);
		machine_disk_set_timing(cluster_machine(c, 0), store, &slow);
		while (read->request.io.offset == 0)
			cluster_step(c);
		machine_disk_set_timing(cluster_machine(c, 0), store, &fast);
		/* Meanwhile all four are written at once, destaged, and forgotten. */
		write_now(c, 0, 0, 16384, byte + 1);
		turn_the_pool_over(c);
		assert_false(read->done);
		assert_true(wait_for(c, &read->done, 120 * SECONDS));
		for (unsigned i = 1; i < 4; i++)
			assert_int_equal(read->buffer[i * 4096], read->buffer[0]);
		asked_free(read);
	}
	cluster_converge(c);
	cluster_free(c);
}

/* ---- promises ---- */

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(log_marks_stay_denser_than_the_journal_however_long_it_runs),
	cmocka_unit_test(a_journal_full_of_epochs_still_takes_the_next_promotion),
	cmocka_unit_test(a_secondary_follows_through_more_epochs_than_its_journal_holds),
	cmocka_unit_test(acknowledgement_waits_for_what_each_mode_says),
	cmocka_unit_test(copies_are_counted_among_the_connected),
	cmocka_unit_test(histories_part_exactly_at_the_fork),
	cmocka_unit_test(a_record_with_any_bit_flipped_is_not_good),
	cmocka_unit_test(what_takes_the_place_of_a_dropped_pad_is_written_whole),
	cmocka_unit_test(what_is_left_behind_the_end_of_the_log_is_destroyed),
	cmocka_unit_test(a_hole_is_as_old_as_what_it_swallows),
	cmocka_unit_test(what_clients_write_cannot_keep_a_node_from_opening),
	cmocka_unit_test(a_peer_that_promised_the_last_number_of_all_does_not_stop_us),
	cmocka_unit_test(a_record_that_asks_for_more_than_memory_has_is_refused_and_gone_around),
	cmocka_unit_test(a_long_read_is_of_one_moment),
};
TEST_GROUP(adversary, tests)
