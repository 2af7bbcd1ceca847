/* SPDX-License-Identifier: Apache-2.0 */
/* Log that is not what it should be: a peer whose memory or program is wrong is found out by what follows from what. */
#include "directed.h"

/* Time without the oracle: what the test has bent would be a breach to it. */
static void run(struct cluster *c, uint64_t ns)
{
	uint64_t until = world_now(cluster_world(c)) + ns;

	while (world_now(cluster_world(c)) < until && world_step(cluster_world(c)))
		;
}

/* a's log goes on with a record that b must not take. */
static void b_refuses(struct cluster *c, const struct record_draft *draft)
{
	struct volume *a = cluster_volume(c, 0), *b = cluster_volume(c, 1);
	uint64_t end = b->log.closed.lsn;

	log_append(&a->log, draft, 1);
	volume_turn_soon(a);
	run(c, 1 * SECONDS);
	assert_true(a->log.closed.lsn > end);
	assert_int_equal(b->log.closed.lsn, end);
	assert_int_equal(b->log.end.lsn, end);
	assert_int_equal(history_last_number(&b->history), 1);
	assert_null(b->source);
	cluster_free(c);
}

static void a_record_of_another_epoch_than_the_log_is_in_is_refused(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);
	uint8_t bytes[64] = "newer";
	struct slice payload = { bytes, sizeof bytes };
	struct record_delta delta = { to_le64(0), to_le32(sizeof bytes), to_le16(DELTA_DATA), { 0 } };
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = &delta, .delta_count = 1, .payload = &payload,
				      .slice_count = 1 };

	(void)state;
	cluster_volume(c, 0)->log.epoch = 2;	/* and no record has opened it */
	b_refuses(c, &draft);
}

static void an_epoch_that_does_not_follow_the_history_is_refused(void **state)
{
	(void)state;
	for (unsigned bent = 0; bent < 3; bent++) {
		struct cluster_options o = options_of(2, MODE_A);
		struct cluster *c = start(&o);
		struct log *log = &cluster_volume(c, 0)->log;
		struct epoch_entry epoch = { .uuid = "another", .number = to_le64(bent == 2 ? 1 : 2),
					     .start = to_le64(log->end.lsn - (bent == 0 ? 4096 : 0)), .node = "a" };
		struct record_draft draft = { .kind = RECORD_EPOCH, .annotation = &epoch,
					      .annotation_len = sizeof epoch };

		memcpy(epoch.hash, log->end.hash, HASH_BYTES);
		epoch.hash[3] ^= bent == 1;
		log->epoch = from_le64(epoch.number);
		b_refuses(c, &draft);
	}
}

static void who_asks_for_log_shows_the_hash_of_all_before_it(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct volume *a = cluster_volume(c, 0);
	struct position bent;
	struct peer *b;

	(void)state;
	write_now(c, 0, 0, 100000, 1);
	cluster_run_for(c, 2 * SECONDS);
	for (unsigned below = 0; below < 2; below++) {
		b = peer_of(c, 0, 1);
		assert_int_equal(b->state, PEER_ONLINE);
		bent = below ? log_mark_below(&a->log, a->log.closed.lsn - 1)->at : a->log.closed;
		bent.hash[5] ^= 1;
		peer_source_start(b, &bent);
		cluster_run_for(c, 100 * MILLISECONDS);
		assert_int_not_equal(b->state, PEER_ONLINE);
		assert_int_not_equal(b->state, PEER_CATCHUP);
		cluster_run_for(c, 20 * SECONDS);
	}
	cluster_converge(c);
	cluster_free(c);
}

static void what_was_committed_of_log_that_never_came_is_forgotten_with_its_source(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);
	struct volume *b;

	(void)state;
	cluster_crash(c, 1, false);
	for (unsigned i = 0; i < 20; i++)
		write_now(c, 0, i * 50000, 50000, (int)i);
	cluster_run_for(c, 2 * SECONDS);
	cluster_up(c, 1);
	while (cluster_open_result(c, 1) == 1)
		cluster_step(c);
	b = cluster_volume(c, 1);
	while (b->commit <= b->log.closed.lsn + (100 << 10))
		cluster_step(c);
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 1), true);
	while (b->source)
		cluster_step(c);
	assert_true(b->commit <= b->log.closed.lsn);
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 1), false);
	cluster_converge(c);
	cluster_free(c);
}

/* b's store takes nothing, so its journal fills and stays full; a, who does not wait for b, has more for it. */
static struct cluster *start_full(void)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct disk_fault full = { .kinds = 1u << IO_WRITE, .error = -ENOSPC };
	struct cluster *c;

	o.journal_bytes = 2 << 20;
	o.fall_out = true;
	c = start(&o);
	machine_disk_fail(cluster_machine(c, 1), cluster_disk(c, 1, 's'), &full);
	return c;
}

static bool journal_is_full(struct volume *v)
{
	return !journal_has_room(&v->journal, 60000);
}

static void no_log_is_sent_that_the_journal_there_has_no_room_for(void **state)
{
	struct cluster *c = start_full();
	struct volume *b = cluster_volume(c, 1);

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		write_now(c, 0, i % 8 * 50000, 50000, (int)i);
		cluster_run_for(c, 200 * MILLISECONDS);
		assert_false(peer_of(c, 1, 0)->blocked);
	}
	assert_true(journal_is_full(b));
	assert_true(peer_of(c, 0, 1)->limited);
	machine_disk_fail(cluster_machine(c, 1), cluster_disk(c, 1, 's'), NULL);
	cluster_converge(c);
	cluster_free(c);
}

static void log_that_the_journal_has_no_room_for_is_not_taken_whatever_the_source_sends(void **state)
{
	struct cluster *c = start_full();
	struct volume *b = cluster_volume(c, 1);
	bool blocked = false;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		write_now(c, 0, i % 8 * 50000, 50000, (int)i);
		for (unsigned step = 0; step < 300 && peer_of(c, 0, 1); step++) {
			peer_of(c, 0, 1)->limit = LSN_MAX;
			cluster_step(c);
			blocked |= peer_of(c, 1, 0)->blocked && journal_is_full(b);
		}
	}
	assert_true(blocked);
	assert_true(b->log.end.lsn <= journal_limit(&b->journal));
	machine_disk_fail(cluster_machine(c, 1), cluster_disk(c, 1, 's'), NULL);
	cluster_converge(c);
	cluster_free(c);
}

static void an_ack_of_log_that_was_not_sent_is_refused(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct volume *a = cluster_volume(c, 0), *b = cluster_volume(c, 1);

	(void)state;
	write_now(c, 0, 0, 100000, 1);
	cluster_run_for(c, 2 * SECONDS);
	b->log.end.lsn += 4096;
	b->log.closed.lsn += 4096;
	peer_of(c, 1, 0)->say_ack = true;
	volume_turn_soon(b);
	run(c, 100 * MILLISECONDS);
	assert_true(peer_of(c, 0, 1)->received <= a->log.end.lsn);
	assert_int_not_equal(peer_of(c, 0, 1)->state, PEER_ONLINE);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(no_log_is_sent_that_the_journal_there_has_no_room_for),
	cmocka_unit_test(log_that_the_journal_has_no_room_for_is_not_taken_whatever_the_source_sends),
	cmocka_unit_test(an_ack_of_log_that_was_not_sent_is_refused),
	cmocka_unit_test(a_record_of_another_epoch_than_the_log_is_in_is_refused),
	cmocka_unit_test(an_epoch_that_does_not_follow_the_history_is_refused),
	cmocka_unit_test(who_asks_for_log_shows_the_hash_of_all_before_it),
	cmocka_unit_test(what_was_committed_of_log_that_never_came_is_forgotten_with_its_source),
};
TEST_GROUP(adversary_log, tests)
