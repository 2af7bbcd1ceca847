/* SPDX-License-Identifier: Apache-2.0 */
/* Split brains: who gives up, when, and that it is never both. */
#include "directed.h"

static char why[WHY_BYTES];	/* what the last resolve() said */

/* Somebody says on @node that @keep is to be kept. */
static int resolve(struct cluster *c, unsigned node, unsigned keep)
{
	struct volume_call call = { 0 };
	int result;

	call.node[0] = (char)('a' + keep);
	result = cluster_command(c, node, volume_resolve, &call, SECONDS);
	snprintf(why, sizeof why, "%s", cluster_why(c));
	return result;
}

static int drop(struct cluster *c, unsigned node)
{
	struct volume_call call = { 0 };

	for (unsigned i = UNDO_SLOTS; i > 0; i--)
		if (cluster_volume(c, node)->undo.slots[i - 1].kind == UNDO_DIVERGENCE)
			call.id = from_le64(cluster_volume(c, node)->undo.slots[i - 1].header.id);
	cover_forget_divergence(&c->nodes[node], call.id);
	return cluster_command(c, node, volume_divergence_drop, &call, SECONDS);
}

static struct cluster_options split_options(unsigned nodes)
{
	struct cluster_options o = options_of(nodes, MODE_C);

	o.fall_out = true;
	o.journal_bytes = 1 << 20;
	o.segment_bytes = 64 << 10;
	o.undo_bytes = o.volume_bytes;
	return o;
}

/* Both sides are primary, each with @blocks of its own since the fork. */
static void split(struct cluster *c, unsigned a, unsigned b, unsigned a_blocks, unsigned b_blocks)
{
	struct world *w = cluster_world(c);

	world_isolate(w, cluster_machine(c, b), true);
	cluster_run_for(c, 3 * SECONDS);
	assert_int_equal(cluster_call(c, b, CLUSTER_FAILOVER, true, b, 20 * SECONDS), 0);
	for (unsigned i = 0; i < a_blocks; i++)
		write_now(c, a, i * 4096, 4096, 50 + (int)i);
	for (unsigned i = 0; i < b_blocks; i++)
		write_now(c, b, i * 8192, 4096, 150 + (int)i);
	cluster_run_for(c, 3 * SECONDS);
}

/* The old primary has rewound to the forced epoch's fork unless both have an epoch of their own: a is made one. */
static struct cluster *start_split(const struct cluster_options *o, unsigned a_blocks, unsigned b_blocks)
{
	struct cluster *c = start(o);

	write_now(c, 0, 0, 256 << 10, 1);
	cluster_run_for(c, 3 * SECONDS);
	split(c, 0, 1, 0, 0);
	/* a opens one more epoch on its own. */
	assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 20 * SECONDS), 0);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 20 * SECONDS), 0);
	for (unsigned i = 0; i < a_blocks; i++)
		write_now(c, 0, i * 4096, 4096, 50 + (int)i);
	for (unsigned i = 0; i < b_blocks; i++)
		write_now(c, 1, i * 8192, 4096, 150 + (int)i);
	return c;
}

static bool is_split(struct cluster *c, unsigned node, unsigned other)
{
	return peer_of(c, node, other)->state == PEER_SPLIT;
}

static unsigned primaries(struct cluster *c)
{
	unsigned count = 0;

	for (unsigned i = 0; i < c->options.nodes; i++)
		count += cluster_is_primary(&c->nodes[i]);
	return count;
}

static void a_split_brain_stays_until_somebody_decides(void **state)
{
	struct cluster_options o = split_options(2);
	struct cluster *c = start_split(&o, 3, 4);

	(void)state;
	world_heal(cluster_world(c));
	cluster_run_for(c, 30 * SECONDS);
	assert_true(is_split(c, 0, 1) && is_split(c, 1, 0));
	assert_int_equal(primaries(c), 2);
	assert_int_equal(resolve(c, 0, 1), 0);
	cluster_run_for(c, 10 * SECONDS);
	assert_true(cluster_is_primary(&c->nodes[1]) && !cluster_is_primary(&c->nodes[0]));
	cluster_converge(c);
	cluster_free(c);
}

static void what_was_decided_of_one_split_brain_says_nothing_of_the_next(void **state)
{
	(void)state;
	for (unsigned self = 0; self < 2; self++) {
		struct cluster_options o = split_options(2);
		struct cluster *c = start_split(&o, 3, 4);
		struct world *w = cluster_world(c);

		world_heal(w);
		cluster_run_for(c, 5 * SECONDS);
		/* b is kept; said on a, or on b. */
		assert_int_equal(resolve(c, self, 1), 0);
		cluster_run_for(c, 10 * SECONDS);
		assert_true(cluster_is_primary(&c->nodes[1]) && !cluster_is_primary(&c->nodes[0]));
		/* The next one. */
		world_isolate(w, cluster_machine(c, 0), true);
		cluster_run_for(c, 3 * SECONDS);
		assert_int_equal(cluster_call(c, 0, CLUSTER_FAILOVER, true, 0, 20 * SECONDS), 0);
		assert_int_equal(cluster_call(c, 1, CLUSTER_DEMOTE, false, 1, 20 * SECONDS), 0);
		assert_int_equal(cluster_call(c, 1, CLUSTER_PROMOTE, true, 1, 20 * SECONDS), 0);
		write_now(c, 0, 0, 4096, 7);
		write_now(c, 1, 0, 4096, 8);
		world_heal(w);
		cluster_run_for(c, 20 * SECONDS);
		assert_true(is_split(c, 0, 1) && is_split(c, 1, 0));
		assert_int_equal(primaries(c), 2);
		cluster_converge(c);
		cluster_free(c);
	}
}

/* Two operators, each on one side, at the same moment. */
static void both_told_to_give_up_are_not_both_obeyed(void **state)
{
	(void)state;
	for (unsigned delay = 0; delay < 600; delay += 50) {
		struct cluster_options o = split_options(2);
		struct cluster *c = start_split(&o, 3, 4);
		uint64_t events;

		o.seed += delay;
		world_heal(cluster_world(c));
		cluster_run_for(c, 5 * SECONDS);
		assert_true(is_split(c, 0, 1) && is_split(c, 1, 0));
		assert_int_equal(resolve(c, 0, 1), 0);
		cluster_run_for(c, delay * MILLISECONDS / 4);
		resolve(c, 1, 0);
		cluster_run_for(c, 20 * SECONDS);
		events = world_events(cluster_world(c));
		cluster_run_for(c, 20 * SECONDS);
		/* It rests: a tick, a ping now and then. */
		assert_in_range(world_events(cluster_world(c)) - events, 0, 4000);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void both_told_to_keep_their_own_stay_until_one_is_told_otherwise(void **state)
{
	struct cluster_options o = split_options(2);
	struct cluster *c = start_split(&o, 3, 4);

	(void)state;
	world_heal(cluster_world(c));
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(resolve(c, 0, 0), 0);
	assert_int_equal(resolve(c, 1, 1), 0);
	cluster_run_for(c, 10 * SECONDS);
	assert_true(primaries(c) >= 1);
	if (is_split(c, 0, 1)) {
		assert_int_equal(resolve(c, 0, 1), 0);
		cluster_run_for(c, 10 * SECONDS);
		assert_true(cluster_is_primary(&c->nodes[1]) && !cluster_is_primary(&c->nodes[0]));
	}
	cluster_converge(c);
	cluster_free(c);
}

static void a_decision_survives_a_connection_that_is_lost_right_after_it(void **state)
{
	(void)state;
	for (unsigned events = 0; events < 60; events += 3) {
		struct cluster_options o = split_options(2);
		struct cluster *c = start_split(&o, 3, 4);
		struct world *w = cluster_world(c);

		world_heal(w);
		cluster_run_for(c, 5 * SECONDS);
		assert_int_equal(resolve(c, events & 1, 1), 0);
		for (unsigned i = 0; i < events; i++)
			cluster_step(c);
		world_reset(w, cluster_machine(c, 0), cluster_machine(c, 1));
		cluster_run_for(c, 10 * SECONDS);
		assert_true(cluster_is_primary(&c->nodes[1]) && !cluster_is_primary(&c->nodes[0]));
		cluster_converge(c);
		cluster_free(c);
	}
}

static void a_crash_of_either_side_at_any_disk_op_of_the_end_of_a_split_brain(void **state)
{
	unsigned stride = test_seed_count(0) ? 1 : 17;

	(void)state;
	for (unsigned node = 0; node < 2; node++) {
		for (uint64_t op = 1; op < 160; op += stride) {
			struct cluster_options o = split_options(2);
			struct cluster *c = start_split(&o, 30, 40);

			world_heal(cluster_world(c));
			cluster_run_for(c, 5 * SECONDS);
			cluster_crash_at(c, node, machine_disk_ops(cluster_machine(c, node)) + op, op % 3 != 0);
			resolve(c, (unsigned)op & 1, 1);
			cluster_run_for(c, 2 * SECONDS);
			cluster_converge(c);
			cluster_free(c);
		}
	}
}

/* ---- policies ---- */

static void at_most_one_side_loses_whatever_the_figures_and_policies(void **state)
{
	static const uint64_t figures[] = { 0, 1, 2, UINT64_MAX };

	(void)state;
	for (unsigned i = 0; i < 2u * 4 * 4 * 2 * 4 * 4; i++) {
		struct split_side a = { i & 1, figures[i / 2 % 4], figures[i / 8 % 4] };
		struct split_side b = { i / 32 & 1, figures[i / 64 % 4], figures[i / 256 % 4] };

		for (unsigned policy = 0; policy < SPLIT_POLICIES; policy++) {
			assert_false(split_loses(policy, &a, &b) && split_loses(policy, &b, &a));
			assert_false(split_loses(policy, &a, &a));
		}
		for (unsigned mixed = 0; mixed < SPLIT_POLICIES * SPLIT_POLICIES; mixed++) {
			unsigned ours = mixed / SPLIT_POLICIES, theirs = mixed % SPLIT_POLICIES;

			bool loses = split_loses_between(ours, theirs, &a, &b);

			assert_false(loses && split_loses_between(theirs, ours, &b, &a));
			if (ours == theirs)
				assert_int_equal(loses, split_loses(ours, &a, &b));
		}
		assert_false(split_loses(SPLIT_NONE, &a, &b));
		/* Who wrote something gives nothing up to who wrote nothing. */
		if (a.blocks && !b.blocks)
			assert_false(split_loses(SPLIT_KEEP_ONLY_WRITER, &a, &b));
	}
}

static void a_policy_ends_a_split_brain_and_it_stays_ended(void **state)
{
	static const struct { enum split_policy policy; unsigned a, b; int winner; } rows[] = {
		{ SPLIT_KEEP_NEWEST, 3, 4, 1 },
		{ SPLIT_KEEP_ONLY_WRITER, 0, 4, 1 }, { SPLIT_KEEP_ONLY_WRITER, 4, 0, 0 },
		{ SPLIT_KEEP_ONLY_WRITER, 3, 4, -1 }, { SPLIT_KEEP_PRIMARY, 3, 4, -1 }, { SPLIT_NONE, 0, 4, -1 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct cluster_options o = split_options(2);
		struct cluster *c;

		o.split_policy = rows[i].policy;
		c = start_split(&o, rows[i].a, rows[i].b);
		world_heal(cluster_world(c));
		cluster_run_for(c, 20 * SECONDS);
		assert_int_equal(primaries(c), rows[i].winner < 0 ? 2 : 1);
		if (rows[i].winner >= 0)
			assert_true(cluster_is_primary(&c->nodes[rows[i].winner]));
		cluster_converge(c);
		cluster_free(c);
	}
}

/* Each node's config says something else. */
static void policies_that_contradict_each_other_end_nothing(void **state)
{
	struct cluster_options o = split_options(2);
	struct cluster *c;

	(void)state;
	o.split_policy = SPLIT_KEEP_NEWEST;
	c = start_split(&o, 3, 4);
	/* b has the newest; by keep-primary a would win, as b is none. */
	cluster_call(c, 1, CLUSTER_DEMOTE, false, 1, 20 * SECONDS);
	cluster_volume(c, 1)->config.split_policy = SPLIT_KEEP_PRIMARY;
	world_heal(cluster_world(c));
	cluster_run_for(c, 20 * SECONDS);
	assert_true(is_split(c, 0, 1) && is_split(c, 1, 0));
	assert_true(cluster_is_primary(&c->nodes[0]));
	cluster_converge(c);
	cluster_free(c);
}

/* b, apart from a, writes far beyond where a is, and notes in its bitmap for c what c lacks of that. Then it gives all
 * this up for a's shorter log, and is the only one that c meets: what c lacks is not what b had noted. */
static void what_a_third_node_lacks_is_not_told_by_bitmaps_of_what_was_given_up(void **state)
{
	struct cluster_options o = split_options(3);
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);

	(void)state;
	write_now(c, 0, 0, 32 << 10, 1);
	cluster_run_for(c, 2 * SECONDS);
	cluster_crash(c, 2, false);
	cluster_run_for(c, 5 * SECONDS);
	for (unsigned i = 0; i < 8; i++)
		write_now(c, 0, (768 << 10) + i * 16384, 16384, 10 + (int)i);
	world_isolate(w, cluster_machine(c, 1), true);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
	for (unsigned i = 0; i < 80; i++)
		write_now(c, 1, i % 8 * 65536, 60000, 20 + (int)i);
	assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 20 * SECONDS), 0);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 20 * SECONDS), 0);
	write_now(c, 0, 640 << 10, 16384, 40);
	cluster_run_for(c, 5 * SECONDS);
	assert_true(cluster_volume(c, 1)->meta.floor.lsn > cluster_volume(c, 0)->log.end.lsn);
	world_heal(w);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(resolve(c, 0, 0), 0);
	cluster_run_for(c, 20 * SECONDS);
	assert_int_equal(peer_of(c, 0, 1)->state, PEER_ONLINE);
	cluster_crash(c, 0, false);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
	cluster_up(c, 2);
	cluster_run_for(c, 20 * SECONDS);
	assert_int_equal(peer_of(c, 1, 2)->state, PEER_ONLINE);
	cluster_check_all(c, 2);
	cluster_up(c, 0);
	cluster_converge(c);
	cluster_free(c);
}

/* ---- slots ---- */

/* a has set aside what it wrote since a fork, as often as it has room for, and is primary. */
static void slots_fill(struct cluster *c)
{
	struct world *w = cluster_world(c);
	unsigned kept = 0;

	write_now(c, 0, 0, 256 << 10, 1);
	for (unsigned round = 0; round < UNDO_SLOTS - 1; round++) {
		world_isolate(w, cluster_machine(c, 1), true);
		cluster_run_for(c, 3 * SECONDS);
		assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
		write_now(c, 0, 8192, 4096, 20);
		world_heal(w);
		cluster_run_for(c, 10 * SECONDS);
		assert_false(cluster_is_primary(&c->nodes[0]));
		assert_int_equal(cluster_call(c, 1, CLUSTER_SWITCHOVER, false, 0, 20 * SECONDS), 0);
		cluster_run_for(c, 3 * SECONDS);
	}
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		kept += cluster_volume(c, 0)->undo.slots[i].kind == UNDO_DIVERGENCE;
	assert_int_equal(kept, UNDO_SLOTS - 1);
}

static void with_all_slots_full_no_rewind_begins_and_the_peer_says_why(void **state)
{
	struct cluster_options o = split_options(2);
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);

	(void)state;
	slots_fill(c);
	world_isolate(w, cluster_machine(c, 1), true);
	cluster_run_for(c, 3 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
	write_now(c, 0, 8192, 4096, 20);
	world_heal(w);
	for (unsigned i = 0; i < 2000; i++) {
		cluster_run_for(c, 10 * MILLISECONDS);
		assert_int_equal(cluster_volume(c, 0)->sink.step, SINK_NONE);
	}
	assert_non_null(strstr(peer_of(c, 0, 1)->why, "drop one"));
	assert_int_equal(drop(c, 0), 0);
	cluster_run_for(c, 20 * SECONDS);
	assert_string_equal(peer_state_text(peer_of(c, 1, 0)->state), "online");
	cluster_converge(c);
	cluster_free(c);
}

static void with_all_slots_full_nothing_is_given_up(void **state)
{
	struct cluster_options o = split_options(2);
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);

	(void)state;
	slots_fill(c);
	world_isolate(w, cluster_machine(c, 1), true);
	cluster_run_for(c, 3 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
	assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 20 * SECONDS), 0);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, true, 0, 20 * SECONDS), 0);
	write_now(c, 0, 8192, 4096, 30);
	write_now(c, 1, 4096, 4096, 31);
	world_heal(w);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(resolve(c, 0, 1), -EBUSY);
	assert_non_null(strstr(why, "divergence"));
	assert_int_equal(resolve(c, 1, 1), 0);
	cluster_run_for(c, 10 * SECONDS);
	assert_true(cluster_is_primary(&c->nodes[0]));
	assert_int_equal(drop(c, 0), 0);
	cluster_run_for(c, 20 * SECONDS);
	assert_false(cluster_is_primary(&c->nodes[0]));
	cluster_converge(c);
	cluster_free(c);
}

/* ---- anything ---- */

static void trouble(struct cluster *c, unsigned nodes)
{
	struct world *w = cluster_world(c);
	unsigned n = (unsigned)world_random_below(w, nodes);

	switch (world_random_below(w, 8)) {
	case 0:
		if (cluster_volume(c, n))
			cluster_crash_at(c, n, machine_disk_ops(cluster_machine(c, n)) + 1 + world_random_below(w, 300),
					 world_random_below(w, 2));
		break;
	case 1:
		world_isolate(w, cluster_machine(c, n), true);
		break;
	case 2:
		world_reset(w, cluster_machine(c, n), cluster_machine(c, (n + 1) % nodes));
		break;
	case 3:
		cluster_call(c, n, CLUSTER_FAILOVER, true, n, 3 * SECONDS);
		break;
	case 4:
		resolve(c, n, (unsigned)world_random_below(w, nodes));
		break;
	case 5:
		cluster_call(c, n, CLUSTER_DEMOTE, false, n, 3 * SECONDS);
		break;
	default: cluster_mend(c);
	}
}

static void nodes_converge_whatever_their_policies_are_and_operators_say(void **state)
{
	uint64_t first = test_seed_first(3000);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(30); i++) {
		unsigned nodes = 2 + (unsigned)((first + i) % 3);
		struct cluster_options o = split_options(nodes);
		struct cluster *c;
		struct world *w;

		o.seed = first + i;
		o.mode = (enum replication_mode)(o.seed % 4);
		o.resync_checksum = o.seed % 5 == 0;
		o.undo_bytes = o.seed % 7 ? o.volume_bytes : 30 * BLOCK_BYTES;
		c = start(&o);
		w = cluster_world(c);
		for (unsigned round = 0; round < 30; round++) {
			for (unsigned n = 0; n < nodes; n++)
				if (cluster_volume(c, n))
					cluster_volume(c, n)->config.split_policy = (enum split_policy)(
						(o.seed / 8 + (o.seed % 3 ? 0 : n)) % SPLIT_POLICIES);
			cluster_load(c, world_random_below(w, world_random_below(w, 4) ? 80 : 600));
			cluster_run_for(c, world_random_below(w, 900 * MILLISECONDS));
			trouble(c, nodes);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_split_brain_stays_until_somebody_decides),
	cmocka_unit_test(what_was_decided_of_one_split_brain_says_nothing_of_the_next),
	cmocka_unit_test(both_told_to_give_up_are_not_both_obeyed),
	cmocka_unit_test(both_told_to_keep_their_own_stay_until_one_is_told_otherwise),
	cmocka_unit_test(a_decision_survives_a_connection_that_is_lost_right_after_it),
	cmocka_unit_test(a_crash_of_either_side_at_any_disk_op_of_the_end_of_a_split_brain),
	cmocka_unit_test(at_most_one_side_loses_whatever_the_figures_and_policies),
	cmocka_unit_test(a_policy_ends_a_split_brain_and_it_stays_ended),
	cmocka_unit_test(policies_that_contradict_each_other_end_nothing),
	cmocka_unit_test(what_a_third_node_lacks_is_not_told_by_bitmaps_of_what_was_given_up),
	cmocka_unit_test(with_all_slots_full_no_rewind_begins_and_the_peer_says_why),
	cmocka_unit_test(with_all_slots_full_nothing_is_given_up),
	cmocka_unit_test(nodes_converge_whatever_their_policies_are_and_operators_say),
};
TEST_GROUP(adversary_split, tests)
