/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that are slow, silent or stuck: for whom writes wait, and for how long. */
#include "directed.h"

static void slow_journal(struct cluster *c, unsigned node, uint64_t ns)
{
	struct disk_timing slow = { ns, ns, 0, 0 };

	machine_disk_set_timing(cluster_machine(c, node), cluster_disk(c, node, 'j'), &slow);
}

static bool write_takes(struct cluster *c, uint64_t limit)
{
	struct asked *a = ask(c, 0, VOLUME_WRITE, 4096, 4096, 9, 0);
	bool done = wait_for(c, &a->done, limit);

	if (!done)
		assert_true(wait_for(c, &a->done, 60 * SECONDS));
	assert_int_equal(a->result, 0);
	asked_free(a);
	return done;
}

static void writes_go_on_without_a_peer_that_is_silent(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);

	(void)state;
	world_cut(cluster_world(c), cluster_machine(c, 1), cluster_machine(c, 0), true);
	assert_true(write_takes(c, 3 * SECONDS));	/* its timeout is 2 s */
	assert_false(peer_of(c, 0, 1)->state == PEER_ONLINE);
	world_heal(cluster_world(c));
	cluster_converge(c);
	cluster_free(c);
}

static void writes_go_on_without_a_peer_that_gets_nothing_done(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);

	(void)state;
	slow_journal(c, 1, 100 * SECONDS);	/* and it answers every PING */
	assert_true(write_takes(c, 8 * SECONDS));
	slow_journal(c, 1, 1 * MILLISECONDS);
	cluster_run_for(c, 150 * SECONDS);
	cluster_converge(c);
	cluster_free(c);
}

static void writes_do_not_wait_for_a_peer_that_catches_up(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	unsigned during = 0;

	(void)state;
	cluster_crash(c, 1, false);
	cluster_run_for(c, 5 * SECONDS);
	for (unsigned i = 0; i < 30; i++)
		write_now(c, 0, i % 10 * 100000, 100000, (int)i);
	slow_journal(c, 1, 80 * MILLISECONDS);
	cluster_up(c, 1);
	for (unsigned i = 0; i < 4000 && during < 5; i++) {
		cluster_run_for(c, 1 * MILLISECONDS);
		if (peer_of(c, 0, 1)->state != PEER_CATCHUP || cluster_volume(c, 1)->journal.written == 0)
			continue;
		assert_true(write_takes(c, 40 * MILLISECONDS));
		during++;
	}
	assert_int_equal(during, 5);
	cluster_converge(c);
	cluster_free(c);
}

static void the_log_does_not_run_away_from_a_peer_that_writes_wait_for(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	enum { WRITES = 300 };
	struct asked *all[WRITES];
	struct cluster *c;
	unsigned done = 0;
	uint64_t most = 0;

	(void)state;
	o.journal_bytes = 1 << 20;
	c = start(&o);
	slow_journal(c, 1, 20 * MILLISECONDS);
	for (unsigned i = 0; i < WRITES; i++)
		all[i] = ask(c, 0, VOLUME_WRITE, (i % 32) * 24576, 24576, (int)i, 0);
	while (done < WRITES) {
		const struct volume *a = cluster_volume(c, 0);
		uint64_t ahead = a->log.end.lsn - cluster_volume(c, 1)->journal.written;

		assert_true(ahead <= o.journal_bytes);
		most = ahead > most ? ahead : most;
		cluster_step(c);
		for (done = 0; done < WRITES && all[done]->done; done++)
			;
	}
	assert_true(most > o.journal_bytes / 2);
	cluster_converge(c);
	for (unsigned i = 0; i < WRITES; i++)
		asked_free(all[i]);
	cluster_free(c);
}

static void what_a_peer_had_counts_no_more_when_it_asks_for_it_again(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct peer *b = peer_of(c, 0, 1);
	struct position early = cluster_volume(c, 0)->log.closed;

	(void)state;
	write_now(c, 0, 0, 100000, 1);
	cluster_run_for(c, 2 * SECONDS);
	assert_true(b->durable > early.lsn);
	peer_source_start(b, &early);
	assert_int_equal(b->received, early.lsn);
	assert_int_equal(b->written, early.lsn);
	assert_int_equal(b->durable, early.lsn);
	cluster_free(c);
}

/* ---- what a peer lacks is noted before it is forgotten, and forgotten after it is there ---- */

static struct cluster *start_fallen_out(uint64_t resync_rate)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c;

	o.journal_bytes = 1 << 20;
	o.segment_bytes = 64 << 10;
	o.undo_bytes = o.volume_bytes;
	o.resync_rate = resync_rate;
	c = start(&o);
	cluster_crash(c, 1, false);
	cluster_run_for(c, 3 * SECONDS);
	return c;
}

static void the_floor_rises_when_the_bits_are_durable_and_no_sooner(void **state)
{
	struct disk_timing slow = { 20 * SECONDS, 20 * SECONDS, 0, 0 };
	struct cluster *c = start_fallen_out(0);
	const struct volume *a = cluster_volume(c, 0);

	(void)state;
	machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 'b'), &slow);
	for (unsigned i = 0; i < 14; i++)
		write_now(c, 0, i % 8 * 50000, 50000, (int)i);
	cluster_run_for(c, 10 * SECONDS);
	assert_true(a->lacks.at[0].bits.op.in_flight);
	assert_int_equal(a->meta.floor.lsn, 0);
	assert_int_equal(a->journal.floor, 0);
	cluster_run_for(c, 90 * SECONDS);
	assert_true(a->journal.floor > 0);
	cluster_up(c, 1);
	cluster_converge(c);
	cluster_free(c);
}

/* The first of what was sent and is not done with, as of an LSN that is not durable here; 0 = none. */
static uint64_t sent_early(const struct volume *a, const struct peer *b)
{
	for (unsigned i = 0; i < b->give.window_count; i++) {
		const struct resync_sent *sent = &b->give.window[(b->give.window_first + i) % RESYNC_WINDOW];

		if (sent->lsn > a->journal.durable)
			return sent->sequence;
	}
	return 0;
}

static void a_bit_clears_when_our_own_log_for_the_block_is_durable_and_no_sooner(void **state)
{
	struct disk_timing slow = { 3 * SECONDS, 3 * SECONDS, 0, 0 };
	struct cluster *c = start_fallen_out(256 << 10);
	const struct volume *a = cluster_volume(c, 0);
	const struct peer *b = peer_of(c, 0, 1);
	uint64_t early = 0, lsn;
	bool taken = false;

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		write_now(c, 0, i % 8 * 50000, 50000, (int)i);
	cluster_run_for(c, 3 * SECONDS);
	cluster_up(c, 1);
	while (b->state != PEER_RESYNC || b->give.acked == 0)
		cluster_step(c);
	write_now(c, 0, 0, 4096, 99);
	lsn = a->log.end.lsn;
	assert_true(a->journal.durable < lsn);
	machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 'j'), &slow);
	while (a->journal.durable < lsn) {
		cluster_step(c);
		early = early ? early : sent_early(a, b);
		if (!early || a->journal.durable >= lsn)
			continue;
		taken |= b->give.acked >= early;
		assert_int_equal(sent_early(a, b), early);
	}
	assert_true(taken);
	cluster_converge(c);
	cluster_free(c);
}

/* The journal does not reach back to the beginning any more when a node is added to the configs; the volume's second
 * half was never written. */
static struct cluster *start_added(unsigned nodes)
{
	struct cluster_options o = options_of(nodes, MODE_A);
	struct cluster *c;

	o.journal_bytes = 1 << 20;
	o.segment_bytes = 64 << 10;
	o.resync_rate = 128 << 10;
	c = cluster_new(&o);
	c->options.nodes = nodes - 1;
	for (unsigned i = 0; i < nodes - 1; i++)
		cluster_up(c, i);
	cluster_run_for(c, 2 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
	for (unsigned i = 0; i < 60; i++)
		write_now(c, 0, i % 10 * 50000, 50000, (int)i);
	cluster_run_for(c, 3 * SECONDS);
	assert_true(cluster_volume(c, 0)->meta.floor.lsn > 0);
	for (unsigned i = 0; i < nodes - 1; i++)
		cluster_crash(c, i, false);
	c->options.nodes = nodes;
	for (unsigned i = 0; i < nodes; i++)
		cluster_up(c, i);
	return c;
}

static void a_node_that_is_added_later_gets_all_that_there_is(void **state)
{
	struct cluster *c = start_added(3);

	(void)state;
	cluster_run_for(c, 3 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
	cluster_converge(c);
	cluster_free(c);
}

/* Where the map of @b that is under way begins, or UINT64_MAX. */
static uint64_t mapped_at(const struct peer *b)
{
	for (unsigned i = 0; i < RESYNC_CHUNKS; i++)
		if (b->give.chunks[i].state == CHUNK_MAP)
			return b->give.chunks[i].first;
	return UINT64_MAX;
}

static void what_is_written_while_a_hole_is_being_looked_for_is_sent(void **state)
{
	struct disk_timing slow = { 400 * MILLISECONDS, 400 * MILLISECONDS, 0, 0 };	/* b has applied it by then */
	struct cluster *c = start_added(2);
	struct asked *last = NULL;

	(void)state;
	machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 's'), &slow);
	cluster_run_for(c, 1 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 10 * SECONDS), 0);
	for (unsigned i = 0; i < 200000 && peer_of(c, 0, 1)->state != PEER_ONLINE; i++) {
		uint64_t first = mapped_at(peer_of(c, 0, 1));

		cluster_step(c);
		if (first < 123 || first > 240 || last)
			continue;
		last = ask(c, 0, VOLUME_WRITE, (first + 3) * 4096, 4096, (int)first, 0);
	}
	assert_non_null(last);
	assert_true(wait_for(c, &last->done, 10 * SECONDS));
	asked_free(last);
	cluster_converge(c);
	cluster_free(c);
}

/* b gets the live log during its resync, too; but no copy of the volume is there before it is over. */
static void in_a_resync_nobody_counts_as_a_copy(void **state)
{
	struct cluster *c = start_added(2);
	struct asked *write;

	(void)state;
	cluster_crash(c, 0, false);
	c->options.mode = MODE_C;
	c->options.commit = COMMIT_ANY;
	c->options.commit_copies = 1;
	c->options.commit_nodes = 1u << 1;
	cluster_up(c, 0);
	while (cluster_open_result(c, 0) == 1 || peer_of(c, 0, 1)->state != PEER_RESYNC)
		cluster_step(c);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 10 * SECONDS), 0);
	while (peer_of(c, 0, 1)->state != PEER_RESYNC)
		cluster_step(c);
	write = ask(c, 0, VOLUME_WRITE, 0, 4096, 9, 0);
	cluster_run_for(c, 1 * SECONDS);
	assert_int_equal(peer_of(c, 0, 1)->state, PEER_RESYNC);
	assert_true(peer_of(c, 0, 1)->written >= write->request.lsn);
	assert_false(write->done);
	assert_true(wait_for(c, &write->done, 60 * SECONDS));
	assert_int_not_equal(peer_of(c, 0, 1)->state, PEER_RESYNC);
	asked_free(write);
	cluster_converge(c);
	cluster_free(c);
}

/* The walk that is to name the blocks which b lacks comes to a record that the disk has lost. */
static void log_that_cannot_be_read_back_stands_for_all_blocks(void **state)
{
	struct cluster *c = start_fallen_out(0);
	struct volume *a = cluster_volume(c, 0);
	uint64_t rotten = a->log.end.lsn;

	(void)state;
	for (unsigned i = 0; i < 7; i++)
		write_now(c, 0, (i + 1) * 50000, 50000, (int)i);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(a->meta.floor.lsn, 0);
	assert_true(a->meta.tail.lsn > rotten + 16384);
	cluster_crash(c, 0, false);
	cluster_up(c, 0);	/* it does not need what is below the tail, and has none of it in memory */
	cluster_run_for(c, 1 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 10 * SECONDS), 0);
	a = cluster_volume(c, 0);
	machine_disk_write_now(cluster_machine(c, 0), cluster_disk(c, 0, 'j'),
			       journal_place(&a->geometry, rotten + 8192), "rotten", 6);
	for (unsigned i = 0; i < 30; i++)
		write_now(c, 0, 0, 50000, (int)i);
	cluster_run_for(c, 2 * SECONDS);
	assert_true(a->meta.floor.lsn > rotten);
	assert_int_equal(a->lacks.at[0].bits.count, a->lacks.at[0].bits.bits);
	cluster_up(c, 1);
	cluster_converge(c);
	cluster_free(c);
}

static void a_resync_is_over_when_meta_says_how_far_the_store_reaches(void **state)
{
	struct disk_timing slow = { 500 * MILLISECONDS, 500 * MILLISECONDS, 0, 0 };
	struct cluster *c = start_fallen_out(0);
	const struct volume *b;
	bool waited = false;

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		write_now(c, 0, i % 8 * 50000, 50000, (int)i);
	cluster_up(c, 1);
	b = cluster_volume(c, 1);
	while (b->sink.step != SINK_RUN)
		cluster_step(c);
	machine_disk_set_timing(cluster_machine(c, 1), cluster_disk(c, 1, 'm'), &slow);
	while (b->sink.step != SINK_NONE) {
		bool saving = b->sink.step == SINK_SAVE;

		cluster_step(c);
		waited |= saving && b->meta.saved < b->sink.ticket;
		assert_true(!saving || b->sink.step == SINK_SAVE || b->meta.saved >= b->sink.ticket);
	}
	assert_true(waited);
	cluster_converge(c);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_resync_is_over_when_meta_says_how_far_the_store_reaches),
	cmocka_unit_test(a_node_that_is_added_later_gets_all_that_there_is),
	cmocka_unit_test(what_is_written_while_a_hole_is_being_looked_for_is_sent),
	cmocka_unit_test(in_a_resync_nobody_counts_as_a_copy),
	cmocka_unit_test(log_that_cannot_be_read_back_stands_for_all_blocks),
	cmocka_unit_test(the_floor_rises_when_the_bits_are_durable_and_no_sooner),
	cmocka_unit_test(a_bit_clears_when_our_own_log_for_the_block_is_durable_and_no_sooner),
	cmocka_unit_test(writes_go_on_without_a_peer_that_is_silent),
	cmocka_unit_test(writes_go_on_without_a_peer_that_gets_nothing_done),
	cmocka_unit_test(writes_do_not_wait_for_a_peer_that_catches_up),
	cmocka_unit_test(the_log_does_not_run_away_from_a_peer_that_writes_wait_for),
	cmocka_unit_test(what_a_peer_had_counts_no_more_when_it_asks_for_it_again),
};
TEST_GROUP(adversary_pace, tests)
