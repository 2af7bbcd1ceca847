/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that log alone cannot bring up to date: resync, rewind, split brain, a replaced disk. */
#include "directed.h"
#include "sim/cluster.h"
#include "sim/swarm.h"

/* A cluster drawn from the seed, whose nodes may fall out of the journal. */
static struct cluster *start_slow(uint64_t seed, unsigned nodes, uint64_t resync_rate)
{
	struct cluster_options o = cluster_options_random(seed, nodes);
	struct world *w = world_new(seed ^ 0xbeef);
	struct cluster *c;

	o.fall_out = true;
	o.min_copies = 1;
	o.commit = COMMIT_ALL;
	o.undo_bytes =
		world_random_below(w, 2) ? o.volume_bytes : world_random_below(w, 64) * BLOCK_BYTES + BLOCK_BYTES;
	o.resync_checksum = world_random_below(w, 3) == 0;
	o.resync_rate = resync_rate;
	world_free(w);
	c = cluster_new(&o);
	for (unsigned i = 0; i < nodes; i++)
		cluster_up(c, i);
	while (cluster_primary(c) < 0) {
		cluster_run_for(c, 100 * MILLISECONDS);
		cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS);
	}
	return c;
}

static struct cluster *start_random(uint64_t seed, unsigned nodes)
{
	return start_slow(seed, nodes, 0);
}

/* So many requests that the ring of every journal was gone through. */
static void load_over_the_ring(struct cluster *c, uint64_t journal_bytes)
{
	uint64_t limit = world_now(cluster_world(c)) + 300 * SECONDS;

	cluster_load(c, 2 * journal_bytes / (CLIENT_BYTES_MAX / 4));
	while (cluster_load_left(c) && world_now(cluster_world(c)) < limit)
		cluster_run_for(c, 100 * MILLISECONDS);
}

static void a_node_that_fell_out_of_the_journal_is_resynced(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster *c = start_random(first + i, 2);
		struct world *w = cluster_world(c);

		cluster_load(c, world_random_below(w, 300));
		cluster_run_for(c, world_random_below(w, SECONDS));
		if (world_random_below(w, 2))
			cluster_crash(c, 1, world_random_below(w, 2));
		else
			world_isolate(w, cluster_machine(c, 1), true);
		load_over_the_ring(c, cluster_volume(c, 0)->geometry.journal_bytes);
		world_heal(w);
		if (!cluster_volume(c, 1))
			cluster_up(c, 1);
		cluster_load(c, 200);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void any_resync_goes_on_after_any_interruption(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster *c = start_random(first + i, 2);
		struct world *w = cluster_world(c);

		cluster_load(c, world_random_below(w, 300));
		cluster_run_for(c, world_random_below(w, SECONDS));
		cluster_crash(c, 1, world_random_below(w, 2));
		load_over_the_ring(c, cluster_volume(c, 0)->geometry.journal_bytes);
		for (unsigned round = 0; round < 6; round++) {
			unsigned node = (unsigned)world_random_below(w, 2);

			cluster_mend(c);
			cluster_load(c, world_random_below(w, 200));
			cluster_run_for(c, world_random_below(w, 60 * MILLISECONDS));
			cluster_operate(c);
			cluster_run_for(c, world_random_below(w, 60 * MILLISECONDS));
			switch (world_random_below(w, 4)) {
			case 0: world_reset(w, cluster_machine(c, 0), cluster_machine(c, 1)); break;
			case 1: world_isolate(w, cluster_machine(c, node), true); break;
			default:
				if (cluster_volume(c, node))
					cluster_crash(c, node, world_random_below(w, 2));
			}
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

/* What was sent to it went away again when it went back: the old primary must not count on that. */
static void an_old_primary_is_rewound_by_whom_it_was_resyncing(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster *c = start_slow(first + i, 2, 1 << 20);
		struct world *w = cluster_world(c);

		cluster_load(c, world_random_below(w, 300));
		cluster_run_for(c, world_random_below(w, SECONDS));
		cluster_crash(c, 1, false);
		load_over_the_ring(c, cluster_volume(c, 0)->geometry.journal_bytes);
		cluster_up(c, 1);
		for (unsigned turn = 0; turn < 500 && !resync_running(cluster_volume(c, 1)); turn++)
			cluster_run_for(c, MILLISECONDS);
		cluster_run_for(c, world_random_below(w, SECONDS));
		cluster_crash(c, 0, world_random_below(w, 2));
		for (unsigned try = 0; try < 20 && cluster_primary(c) != 1; try++) {
			cluster_run_for(c, SECONDS);
			cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 10 * SECONDS);
		}
		cluster_load(c, world_random_below(w, 60));
		cluster_run_for(c, world_random_below(w, SECONDS));
		cluster_up(c, 0);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void a_replaced_disk_is_filled_again(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++) {
		struct cluster *c = start_random(first + i, 2);
		struct world *w = cluster_world(c);

		cluster_load(c, world_random_below(w, 600));
		cluster_run_for(c, world_random_below(w, 2 * SECONDS));
		cluster_crash(c, 1, true);
		if (world_random_below(w, 2))
			load_over_the_ring(c, cluster_volume(c, 0)->geometry.journal_bytes);
		assert_true(cluster_replace(c, 1));
		cluster_load(c, 200);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void something_happens(struct cluster *c, unsigned nodes, unsigned swarm)
{
	struct world *w = cluster_world(c);
	unsigned n = (unsigned)world_random_below(w, nodes);
	uint64_t what = world_random_below(w, 14);

	if (cluster_fault(c, n, (n + 1) % nodes, swarm, what))
		return;
	if (what == CLUSTER_FAULTS && (swarm & 4))
		world_isolate(w, cluster_machine(c, n), true);
	else if (what == CLUSTER_FAULTS + 1 || what == CLUSTER_FAULTS + 2)
		cluster_call(c, n, CLUSTER_FAILOVER, true, n, 3 * SECONDS);
	else if (what > CLUSTER_FAULTS)
		cluster_mend(c);
}

static void take_overs(uint64_t seed, unsigned nodes)
{
	struct cluster *c = start_random(seed, nodes);
	struct world *w = cluster_world(c);
	unsigned swarm = (unsigned)world_random_below(w, 32);

	for (unsigned round = 0; round < 25; round++) {
		cluster_load(c, world_random_below(w, world_random_below(w, 6) ? 60 : 2000));
		cluster_run_for(c, world_random_below(w, 800 * MILLISECONDS));
		something_happens(c, nodes, swarm);
		if (world_random_below(w, 3) == 0)
			cluster_operate(c);
	}
	cluster_converge(c);
	cluster_free(c);
}

static void two_nodes_converge_after_forced_take_overs_on_both_sides(void **state)
{
	uint64_t first = test_seed_first(1000);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(80); i++)
		take_overs(first + i, 2);
}

static void four_nodes_converge_after_forced_take_overs_anywhere(void **state)
{
	uint64_t first = test_seed_first(1000);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++)
		take_overs(first + i, 3 + (unsigned)(i % 2));
}

/* A WANT that was cleared before it was read; a rewind that waited for a primary who could not be promoted because of
 * it; an end that waited for a commit that waited for it. */
static void swarms_that_once_failed_converge(void **state)
{
	static const uint64_t seeds[] = { 0x47, 0x525, 0x588 };
	struct swarm_report report = { .seeds = 0 };

	(void)state;
	for (unsigned i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
		swarm_run(seeds[i], &report);
	assert_true(report.acked > 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(swarms_that_once_failed_converge),
	cmocka_unit_test(a_node_that_fell_out_of_the_journal_is_resynced),
	cmocka_unit_test(any_resync_goes_on_after_any_interruption),
	cmocka_unit_test(an_old_primary_is_rewound_by_whom_it_was_resyncing),
	cmocka_unit_test(a_replaced_disk_is_filled_again),
	cmocka_unit_test(two_nodes_converge_after_forced_take_overs_on_both_sides),
	cmocka_unit_test(four_nodes_converge_after_forced_take_overs_anywhere),
};
TEST_GROUP(resync, tests)
