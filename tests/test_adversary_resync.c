/* SPDX-License-Identifier: Apache-2.0 */
/* Resyncs that are interrupted where it hurts: each test leads a cluster to one place and breaks it there. */
#include "directed.h"

enum { HALF = 512 << 10 };

/* Writes so much that the ring of every journal is gone through, into the first half of the volume. */
static void write_over_the_ring(struct cluster *c, unsigned node, int byte)
{
	for (unsigned i = 0; i < 80; i++)
		write_now(c, node, i % 8 * (64 << 10), 64 << 10, byte + (int)i % 40);
	cluster_run_for(c, 3 * SECONDS);
}

static void slow_link(struct cluster *c, unsigned from, unsigned to, uint64_t bytes_per_second)
{
	world_link(cluster_world(c), cluster_machine(c, from), cluster_machine(c, to))->bytes_per_second =
		bytes_per_second;
}

static struct resync_sink *sink_of(struct cluster *c, unsigned node) { return &cluster_volume(c, node)->sink; }

/* False when that step did not come within the time. */
static bool until_step(struct cluster *c, unsigned node, enum sink_step step, uint64_t limit)
{
	uint64_t until = world_now(cluster_world(c)) + limit;

	while (world_now(cluster_world(c)) < until) {
		if (cluster_volume(c, node) && sink_of(c, node)->step == step)
			return true;
		if (!cluster_step(c))
			break;
	}
	return false;
}

static struct cluster_options resync_options(unsigned nodes)
{
	struct cluster_options o = options_of(nodes, MODE_C);

	o.fall_out = true;
	o.journal_bytes = 1 << 20;
	o.segment_bytes = 64 << 10;
	o.undo_bytes = o.volume_bytes;
	return o;
}

/* Node b has fallen out of a's journal, and comes back to a slow resync. */
static struct cluster *start_behind(const struct cluster_options *o)
{
	struct cluster *c = start(o);

	write_now(c, 0, 0, HALF, 1);
	write_now(c, 0, HALF, 256 << 10, 2);
	cluster_run_for(c, 3 * SECONDS);
	world_isolate(cluster_world(c), cluster_machine(c, 1), true);
	write_over_the_ring(c, 0, 3);
	slow_link(c, 0, 1, 4 << 20);
	world_heal(cluster_world(c));
	return c;
}

/* Until so many blocks are not lacking any more at the source. */
static void until_left(struct cluster *c, unsigned source, unsigned sink, uint64_t most)
{
	uint64_t until = world_now(cluster_world(c)) + 30 * SECONDS;

	assert_true(until_step(c, sink, SINK_RUN, 30 * SECONDS));
	while (world_now(cluster_world(c)) < until && peer_of(c, source, sink)->lack->bits.count > most)
		cluster_step(c);
	assert_in_range(peer_of(c, source, sink)->lack->bits.count, 1, most);
	assert_int_equal(sink_of(c, sink)->step, SINK_RUN);
}

/* ---- the end ---- */

static void a_resync_ends_though_writes_wait_for_the_copy_that_it_makes(void **state)
{
	struct cluster_options o = resync_options(2);
	struct cluster *c;
	struct asked *writes[8];

	(void)state;
	o.min_copies = 2;
	c = start(&o);
	write_over_the_ring(c, 0, 3);
	slow_link(c, 0, 1, 4 << 20);
	assert_true(cluster_replace(c, 1));
	assert_true(until_step(c, 1, SINK_RUN, 10 * SECONDS));
	for (unsigned i = 0; i < 8; i++)
		writes[i] = ask(c, 0, VOLUME_WRITE, i * 8192, 8192, 9, VOLUME_FUA);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(wait_for(c, &writes[i]->done, 60 * SECONDS));
		assert_int_equal(writes[i]->result, 0);
		asked_free(writes[i]);
	}
	cluster_converge(c);
	cluster_free(c);
}

static void resyncs_end_though_all_the_copies_that_writes_wait_for_are_in_one(void **state)
{
	struct cluster_options o = resync_options(4);
	struct cluster *c;
	struct asked *writes[8];

	(void)state;
	o.commit = COMMIT_ANY;
	o.commit_copies = 2;
	o.commit_nodes = 15;
	c = start(&o);
	write_over_the_ring(c, 0, 3);
	for (unsigned i = 1; i < 4; i++)
		slow_link(c, 0, i, 4 << 20);
	for (unsigned i = 1; i < 4; i++)
		assert_true(cluster_replace(c, i));
	for (unsigned i = 1; i < 4; i++)
		assert_true(until_step(c, i, SINK_RUN, 10 * SECONDS));
	for (unsigned i = 0; i < 8; i++)
		writes[i] = ask(c, 0, VOLUME_WRITE, i * 8192, 8192, 9, VOLUME_FUA);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(wait_for(c, &writes[i]->done, 60 * SECONDS));
		asked_free(writes[i]);
	}
	cluster_converge(c);
	cluster_free(c);
}

/* Nothing of it makes a page dirty, and no write comes. */
static void blocks_that_are_the_same_are_not_waited_for(void **state)
{
	struct cluster_options o = resync_options(2);
	struct cluster *c;
	uint64_t until;

	(void)state;
	o.resync_checksum = true;
	c = start(&o);
	write_over_the_ring(c, 0, 3);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_CLOSE, false, 1, 10 * SECONDS), 0);
	cluster_crash(c, 1, false);
	/* All blocks in doubt, and all the same but for one. */
	for (unsigned i = 0; i < 80; i++)
		write_now(c, 0, 0, 64 << 10, 3 + 72 % 40);
	cluster_run_for(c, 3 * SECONDS);
	bitmap_set(&peer_of(c, 0, 1)->lack->bits, 0, 256);
	cluster_up(c, 1);
	assert_true(until_step(c, 1, SINK_RUN, 10 * SECONDS));
	until = world_now(cluster_world(c)) + 30 * SECONDS;
	while (resync_running(cluster_volume(c, 1)) && world_now(cluster_world(c)) < until)
		cluster_step(c);
	assert_false(resync_running(cluster_volume(c, 1)));
	cluster_converge(c);
	cluster_free(c);
}

/* ---- taken over in the middle ---- */

static void who_takes_over_in_the_middle_of_its_resync_is_followed_by_its_source(void **state)
{
	struct cluster_options o = resync_options(2);
	struct cluster *c = start_behind(&o);

	(void)state;
	until_left(c, 0, 1, 60);
	world_isolate(cluster_world(c), cluster_machine(c, 0), true);
	cluster_run_for(c, 3 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
	write_now(c, 1, 900 << 10, 4096, 200);
	cluster_converge(c);
	cluster_free(c);
}

static void a_roll_back_that_is_cut_short_is_made_good_by_the_next_resync(void **state)
{
	uint64_t stride = 5;

	(void)state;
	for (uint64_t op = 1; op < 60; op += stride) {
		struct cluster_options o = resync_options(2);
		struct cluster *c = start_behind(&o);

		until_left(c, 0, 1, 60);
		cluster_crash(c, 0, false);
		cluster_run_for(c, 3 * SECONDS);
		cluster_crash_at(c, 1, machine_disk_ops(cluster_machine(c, 1)) + op, op & 1);
		cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS);
		cluster_up(c, 0);
		if (!cluster_volume(c, 1)) {
			cluster_run_for(c, 3 * SECONDS);
			assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 20 * SECONDS), 0);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

/* b and c follow a; c is left at F, b later; b's resync from a is half done when a dies and c takes over at F. */
static void another_source_with_a_history_of_its_own_goes_on_with_a_resync(void **state)
{
	(void)state;
	for (uint64_t left = 20; left < 120; left += 20) {
		struct cluster_options o = resync_options(3);
		struct cluster *c = start(&o);
		struct world *w = cluster_world(c);

		write_now(c, 0, 0, HALF, 1);
		write_now(c, 0, HALF, 256 << 10, 2);
		cluster_run_for(c, 3 * SECONDS);
		world_isolate(w, cluster_machine(c, 2), true);
		write_now(c, 0, HALF, 128 << 10, 90);
		write_now(c, 0, 900 << 10, 8192, 91);
		cluster_run_for(c, 3 * SECONDS);
		world_isolate(w, cluster_machine(c, 1), true);
		write_over_the_ring(c, 0, 3);
		slow_link(c, 0, 1, 4 << 20);
		world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 1), false);
		until_left(c, 0, 1, left);
		cluster_crash(c, 0, true);
		world_heal(w);
		world_cut_both(w, cluster_machine(c, 1), cluster_machine(c, 2), true);
		cluster_run_for(c, 3 * SECONDS);
		assert_int_equal(cluster_call(c, 2, CLUSTER_FAILOVER, true, 2, 20 * SECONDS), 0);
		write_now(c, 2, 950 << 10, 8192, 95);
		world_heal(w);
		cluster_run_for(c, 10 * SECONDS);
		assert_false(resync_running(cluster_volume(c, 1)));
		cluster_check_all(c, 1);
		cluster_converge(c);
		cluster_free(c);
	}
}

/* ---- a connection that is lost at any step ---- */

static void a_connection_may_be_lost_at_any_step_of_the_sink(void **state)
{
	(void)state;
	for (unsigned rewind = 0; rewind < 2; rewind++) {
		for (enum sink_step step = SINK_SETTLE; step <= SINK_CLEAR; step++) {
			struct cluster_options o = resync_options(2);
			struct cluster *c;

			o.undo_bytes = step == SINK_PARTIAL ? 8 * BLOCK_BYTES : o.volume_bytes;
			c = start_behind(&o);
			if (rewind) {
				world_isolate(cluster_world(c), cluster_machine(c, 1), true);
				cluster_run_for(c, 3 * SECONDS);
				cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS);
				world_heal(cluster_world(c));
			}
			if (rewind)
				cluster_operate(c);
			for (unsigned round = 0; round < 3; round++) {
				until_step(c, rewind ? 0 : 1, step, 2 * SECONDS);
				until_step(c, 1, step, 1 * SECONDS);
				world_reset(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1));
				cluster_step(c);
			}
			cluster_converge(c);
			cluster_free(c);
		}
	}
}

/* ---- a crash at any disk op ---- */

/* A resync from its first step to its end, with writes. */
enum story { STORY_PLAIN, STORY_CHECKSUM, STORY_PARTIAL, STORY_REWIND, STORY_TAKE_OVER, STORIES };

static struct cluster *story_begin(enum story story, unsigned number)
{
	struct cluster_options o = resync_options(2);
	struct cluster *c;

	o.resync_checksum = story == STORY_CHECKSUM;
	o.undo_bytes = story == STORY_PARTIAL ? 20 * BLOCK_BYTES : o.volume_bytes;
	o.journal_block = number % 2 ? 512 : 4096;
	c = start_behind(&o);
	slow_link(c, 0, 1, 64 << 20);
	if (story == STORY_REWIND) {
		world_isolate(cluster_world(c), cluster_machine(c, 1), true);
		cluster_run_for(c, 3 * SECONDS);
		cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS);
		if (cluster_is_primary(&c->nodes[1]))
			write_now(c, 1, 700 << 10, 32 << 10, 77);
		world_heal(cluster_world(c));
	}
	return c;
}

static void story_go_on(struct cluster *c, enum story story)
{
	cluster_load(c, 60);
	if (story == STORY_TAKE_OVER) {
		until_step(c, 1, SINK_RUN, 3 * SECONDS);
		cluster_run_for(c, 10 * MILLISECONDS);
		world_isolate(cluster_world(c), cluster_machine(c, 0), true);
		cluster_run_for(c, 100 * MILLISECONDS);
		cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS);
		cluster_run_for(c, 1 * SECONDS);
		world_heal(cluster_world(c));
		cluster_run_for(c, 1 * SECONDS);
		return;
	}
	cluster_run_for(c, 1500 * MILLISECONDS);
	if (story == STORY_REWIND)
		cluster_operate(c);
	cluster_run_for(c, 1500 * MILLISECONDS);
}

static void a_crash_at_any_disk_op(enum story story, unsigned node, unsigned stride)
{
	struct cluster *c = story_begin(story, 0);
	uint64_t from = machine_disk_ops(cluster_machine(c, node)), ops;

	story_go_on(c, story);
	ops = machine_disk_ops(cluster_machine(c, node)) - from;
	cluster_converge(c);
	cluster_free(c);
	for (uint64_t op = 1 + test_seed_first(1) % stride; op <= ops; op += stride) {
		c = story_begin(story, (unsigned)op);
		cluster_crash_at(c, node, machine_disk_ops(cluster_machine(c, node)) + op, op % 3 != 0);
		story_go_on(c, story);
		cluster_converge(c);
		cluster_free(c);
	}
}

static unsigned stride_of(unsigned usual)
{
	return test_seed_count(0) ? 1 : usual;
}

static void a_plain_resync_survives_any_crash_of_the_sink(void **state)
{
	(void)state;
	a_crash_at_any_disk_op(STORY_PLAIN, 1, stride_of(37));
}

static void a_plain_resync_survives_any_crash_of_the_source(void **state)
{
	(void)state;
	a_crash_at_any_disk_op(STORY_PLAIN, 0, stride_of(37));
}

static void a_resync_by_checksums_survives_any_crash(void **state)
{
	(void)state;
	a_crash_at_any_disk_op(STORY_CHECKSUM, 1, stride_of(53));
	a_crash_at_any_disk_op(STORY_CHECKSUM, 0, stride_of(53));
}

static void a_resync_that_undo_cannot_hold_survives_any_crash(void **state)
{
	(void)state;
	a_crash_at_any_disk_op(STORY_PARTIAL, 1, stride_of(53));
	a_crash_at_any_disk_op(STORY_PARTIAL, 0, stride_of(53));
}

static void a_rewind_survives_any_crash(void **state)
{
	(void)state;
	a_crash_at_any_disk_op(STORY_REWIND, 1, stride_of(53));
	a_crash_at_any_disk_op(STORY_REWIND, 0, stride_of(53));
}

static void a_take_over_in_a_resync_survives_any_crash(void **state)
{
	(void)state;
	a_crash_at_any_disk_op(STORY_TAKE_OVER, 1, stride_of(37));
	a_crash_at_any_disk_op(STORY_TAKE_OVER, 0, stride_of(53));
}

/* ---- closed, and failing disks, at any step ---- */

static void a_node_closes_cleanly_at_any_step_of_its_resync(void **state)
{
	(void)state;
	for (unsigned who = 0; who < 2; who++) {
		for (enum sink_step step = SINK_SETTLE; step <= SINK_CLEAR; step++) {
			struct cluster_options o = resync_options(2);
			struct cluster *c;

			o.undo_bytes = step == SINK_PARTIAL ? 8 * BLOCK_BYTES : o.volume_bytes;
			c = start_behind(&o);
			until_step(c, 1, step, 3 * SECONDS);
			assert_int_equal(cluster_call(c, who, CLUSTER_CLOSE, false, who, 30 * SECONDS), 0);
			cluster_crash(c, who, false);
			cluster_converge(c);
			cluster_free(c);
		}
	}
}

static void a_failing_disk_at_any_step_of_a_resync_harms_nothing(void **state)
{
	static const char disks[] = "sjmb0123";

	(void)state;
	for (unsigned i = 0; disks[i]; i++) {
		for (enum sink_step step = SINK_SETTLE; step <= SINK_CLEAR; step++) {
			for (unsigned who = 0; who < 2; who++) {
				struct cluster_options o = resync_options(2);
				struct cluster *c;
				struct disk_fault fault = { .kinds = 1u << IO_WRITE | 1u << IO_READ | 1u << IO_SYNC,
							    .error = -EIO, .after = i + step };

				if ((i + step + who) % 3)
					continue;
				o.undo_bytes = step == SINK_PARTIAL ? 8 * BLOCK_BYTES : o.volume_bytes;
				c = start_behind(&o);
				until_step(c, 1, step, 3 * SECONDS);
				machine_disk_fail(cluster_machine(c, who), cluster_disk(c, who, disks[i]), &fault);
				cluster_load(c, 20);
				cluster_run_for(c, 3 * SECONDS);
				cluster_converge(c);
				cluster_free(c);
			}
		}
	}
}

/* The disk of undo is full: from any of its ops on. */
static void a_full_disk_for_undo_makes_a_replica_inconsistent_and_no_more(void **state)
{
	(void)state;
	for (uint64_t after = 0; after < 60; after += 4) {
		struct cluster_options o = resync_options(2);
		struct cluster *c = start_behind(&o);
		struct disk_fault fault = { .kinds = 1u << IO_WRITE, .error = -ENOSPC, .after = after,
					    .offset = undo_data_offset(o.volume_bytes), .len = o.volume_bytes };

		for (unsigned i = 0; i < UNDO_SLOTS; i++)
			machine_disk_fail(cluster_machine(c, 1), cluster_disk(c, 1, (char)('0' + i)), &fault);
		cluster_load(c, 100);
		cluster_run_for(c, 300 * MILLISECONDS);
		if (after % 8)
			cluster_crash(c, 1, true);
		cluster_run_for(c, 2 * SECONDS);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void an_inconsistent_replica_neither_takes_over_nor_is_read_and_says_why(void **state)
{
	struct cluster_options o = resync_options(2);
	struct cluster *c;
	struct asked *read;
	uint64_t log;

	(void)state;
	o.undo_bytes = 4096;
	c = start_behind(&o);
	assert_true(until_step(c, 1, SINK_RUN, 10 * SECONDS));
	cluster_run_for(c, 20 * MILLISECONDS);
	cluster_crash(c, 0, false);
	cluster_run_for(c, 5 * SECONDS);
	log = cluster_volume(c, 1)->log.end.lsn;
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), -EPERM);
	assert_non_null(strstr(cluster_why(c), "undo could not keep where it was before; bring a back"));
	read = ask(c, 1, VOLUME_READ, 0, 4096, 0, 0);
	assert_true(wait_for(c, &read->done, 5 * SECONDS));
	assert_int_equal(read->result, -EIO);
	asked_free(read);
	assert_int_equal(cluster_volume(c, 1)->role, ROLE_SECONDARY);
	assert_int_equal(cluster_volume(c, 1)->log.end.lsn, log);
	cluster_up(c, 0);
	cluster_run_for(c, 2 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 20 * SECONDS), 0);
	cluster_converge(c);
	cluster_free(c);
}

/* ---- many ---- */

static void seven_nodes_are_resynced_at_once_while_their_source_dies(void **state)
{
	struct cluster_options o = resync_options(8);
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);

	(void)state;
	write_now(c, 0, 0, HALF, 1);
	cluster_run_for(c, 3 * SECONDS);
	for (unsigned i = 2; i < 8; i++)
		world_isolate(w, cluster_machine(c, i), true);
	write_over_the_ring(c, 0, 3);
	for (unsigned i = 2; i < 8; i++)
		slow_link(c, 0, i, 4 << 20);
	world_heal(w);
	assert_true(until_step(c, 7, SINK_RUN, 10 * SECONDS));
	cluster_load(c, 300);
	cluster_run_for(c, 50 * MILLISECONDS);
	cluster_crash(c, 0, true);
	cluster_run_for(c, 3 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
	cluster_load(c, 300);
	cluster_run_for(c, 50 * MILLISECONDS);
	cluster_up(c, 0);
	cluster_run_for(c, 1 * SECONDS);
	cluster_converge(c);
	cluster_free(c);
}

/* A secondary gives a resync where no primary is; with an epoch in its log that nobody has committed. */
static void a_secondary_gives_a_resync_as_far_as_its_readers_see(void **state)
{
	(void)state;
	for (unsigned delay = 0; delay < 12; delay++) {
		struct cluster_options o = resync_options(3);
		struct cluster *c = start(&o);
		struct world *w = cluster_world(c);

		write_now(c, 0, 0, HALF, 1);
		cluster_run_for(c, 3 * SECONDS);
		world_isolate(w, cluster_machine(c, 2), true);
		write_over_the_ring(c, 0, 3);
		cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 10 * SECONDS);
		cluster_run_for(c, 1 * SECONDS);
		cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 10 * SECONDS);
		cluster_load(c, 50);
		cluster_run_for(c, 10 * MILLISECONDS * delay);
		cluster_crash(c, 0, true);
		cluster_run_for(c, 3 * SECONDS);
		world_heal(w);
		cluster_run_for(c, 10 * SECONDS);
		assert_false(resync_running(cluster_volume(c, 2)));
		cluster_check_all(c, 2);
		cluster_up(c, 0);
		cluster_converge(c);
		cluster_free(c);
	}
}

/* ---- roles ---- */

/* It lags so far behind that it falls out of the journal while the writes drain. */
static void switchover_waits_for_no_node_that_is_in_a_resync(void **state)
{
	(void)state;
	for (unsigned writes = 4; writes < 24; writes++) {
		struct cluster_options o = resync_options(2);
		struct cluster *c;
		int result;

		o.mode = MODE_A;
		c = start(&o);
		write_now(c, 0, 0, HALF, 1);
		cluster_run_for(c, 3 * SECONDS);
		assert_int_equal(peer_of(c, 0, 1)->state, PEER_ONLINE);
		slow_link(c, 0, 1, 100 << 10);
		for (unsigned i = 0; i < writes; i++)
			write_now(c, 0, i % 8 * (64 << 10), 64 << 10, 3);
		result = cluster_call(c, 0, CLUSTER_SWITCHOVER, false, 1, 20 * SECONDS);
		/* All of it was there, or nothing was changed. */
		assert_int_equal(cluster_is_primary(&c->nodes[0]), result != 0);
		slow_link(c, 0, 1, 0);
		cluster_converge(c);
		cluster_free(c);
	}
}

/* Undo's bound is reached by the very round of destage that the roll back waits for. */
static void a_take_over_is_refused_when_undo_overflows_at_that_moment(void **state)
{
	(void)state;
	for (unsigned blocks = 40; blocks < 128; blocks += 8) {
		struct cluster_options o = resync_options(2);
		struct cluster *c;
		uint64_t until;

		o.undo_bytes = 160 * BLOCK_BYTES;
		c = start_behind(&o);
		until_left(c, 0, 1, 120);
		/* The disk of undo is full from now on. */
		for (unsigned i = 0; i < UNDO_SLOTS; i++)
			machine_disk_fail(cluster_machine(c, 1), cluster_disk(c, 1, (char)('0' + i)),
					  &(struct disk_fault){ .kinds = 1u << IO_WRITE, .error = -ENOSPC,
						.offset = undo_data_offset(o.volume_bytes), .len = o.volume_bytes });
		until = world_now(cluster_world(c)) + 5 * SECONDS;
		while (cluster_volume(c, 1)->destage.state != DESTAGE_PRESERVE && world_now(cluster_world(c)) < until)
			cluster_step(c);
		cluster_crash(c, 0, false);
		world_reset(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1));
		if (resync_readable(cluster_volume(c, 1)))
			cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS);
		cluster_up(c, 0);
		cluster_converge(c);
		cluster_free(c);
	}
}

/* ---- hostile ---- */

static void answers_to_hashes_that_are_repeated_change_nothing(void **state)
{
	struct cluster_options o = resync_options(2);
	struct cluster *c;
	struct peer *p;
	struct resync_source *g;
	uint64_t sequence = 0;

	(void)state;
	o.resync_checksum = true;
	c = start_behind(&o);
	p = peer_of(c, 0, 1);
	g = &p->give;
	while (!sequence && cluster_step(c))
		for (uint32_t i = 0; i < g->window_count; i++)
			if (g->window[(g->window_first + i) % RESYNC_WINDOW].hashed)
				sequence = g->window[(g->window_first + i) % RESYNC_WINDOW].sequence;
	for (unsigned i = 0; i < 3 * RESYNC_WINDOW && g->step == SOURCE_RUN; i++) {
		struct frame_taken taken = { .hashed = to_le64(sequence), .differ = to_le64(UINT64_MAX) };

		resync_taken(p, &taken);
		assert_in_range(g->differ_count, 0, 2);
	}
	cluster_converge(c);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_resync_ends_though_writes_wait_for_the_copy_that_it_makes),
	cmocka_unit_test(resyncs_end_though_all_the_copies_that_writes_wait_for_are_in_one),
	cmocka_unit_test(blocks_that_are_the_same_are_not_waited_for),
	cmocka_unit_test(who_takes_over_in_the_middle_of_its_resync_is_followed_by_its_source),
	cmocka_unit_test(a_roll_back_that_is_cut_short_is_made_good_by_the_next_resync),
	cmocka_unit_test(another_source_with_a_history_of_its_own_goes_on_with_a_resync),
	cmocka_unit_test(a_connection_may_be_lost_at_any_step_of_the_sink),
	cmocka_unit_test(a_plain_resync_survives_any_crash_of_the_sink),
	cmocka_unit_test(a_plain_resync_survives_any_crash_of_the_source),
	cmocka_unit_test(a_resync_by_checksums_survives_any_crash),
	cmocka_unit_test(a_resync_that_undo_cannot_hold_survives_any_crash),
	cmocka_unit_test(a_rewind_survives_any_crash),
	cmocka_unit_test(a_take_over_in_a_resync_survives_any_crash),
	cmocka_unit_test(a_node_closes_cleanly_at_any_step_of_its_resync),
	cmocka_unit_test(a_failing_disk_at_any_step_of_a_resync_harms_nothing),
	cmocka_unit_test(a_full_disk_for_undo_makes_a_replica_inconsistent_and_no_more),
	cmocka_unit_test(an_inconsistent_replica_neither_takes_over_nor_is_read_and_says_why),
	cmocka_unit_test(seven_nodes_are_resynced_at_once_while_their_source_dies),
	cmocka_unit_test(a_secondary_gives_a_resync_as_far_as_its_readers_see),
	cmocka_unit_test(switchover_waits_for_no_node_that_is_in_a_resync),
	cmocka_unit_test(a_take_over_is_refused_when_undo_overflows_at_that_moment),
	cmocka_unit_test(answers_to_hashes_that_are_repeated_change_nothing),
};
TEST_GROUP(adversary_resync, tests)
