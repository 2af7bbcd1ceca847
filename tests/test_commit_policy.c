/* SPDX-License-Identifier: Apache-2.0 */
/* commit = any K of, local: who holds writes up, and who does not, on clusters of up to eight nodes. */
#include "directed.h"

enum { B = 1, C = 2, D = 3, NODE_B = 1 << B, NODE_C = 1 << C, NODE_D = 1 << D };

static struct cluster_options policy_of(unsigned nodes, enum replication_mode mode, unsigned copies, unsigned named)
{
	struct cluster_options o = options_of(nodes, mode);

	o.commit = COMMIT_ANY;
	o.commit_copies = copies;
	o.commit_nodes = named;
	return o;
}

struct alarm { struct io_op op; bool rung; };

static void alarm_rings(struct io_op *op, int64_t result)
{
	(void)result;
	container_of(op, struct alarm, op)->rung = true;
}

/* Exactly @ns: cluster_run_for() alone ends with the first event behind that. */
static void rest(struct cluster *c, uint64_t ns)
{
	struct alarm a = { .op = { .kind = IO_TIMER, .offset = ns, .done = alarm_rings } };
	struct io *io = machine_io(cluster_machine(c, 0));

	io->submit(io, &a.op);
	assert_true(wait_for(c, &a.rung, 2 * ns));
}

/* One write (every fourth one durable) every @every_ns for @ns; the longest time that one took. */
static uint64_t longest_write(struct cluster *c, uint64_t ns, uint64_t every_ns)
{
	uint64_t until = world_now(cluster_world(c)) + ns, longest = 0;

	for (unsigned i = 0; world_now(cluster_world(c)) < until; i++) {
		uint64_t from = world_now(cluster_world(c));
		unsigned flags = i % 4 ? 0 : VOLUME_FUA;
		struct asked *a = ask(c, 0, VOLUME_WRITE, 4096 * (i % 200), 4096, (int)(i % 250), flags);

		assert_true(wait_for(c, &a->done, 60 * SECONDS));
		assert_int_equal(a->result, 0);
		asked_free(a);
		longest = max_u64(longest, world_now(cluster_world(c)) - from);
		rest(c, every_ns);
	}
	return longest;
}

/* Three ways for a node to be no help. */
static void trouble(struct cluster *c, unsigned node, unsigned kind)
{
	if (kind == 0)
		world_isolate(cluster_world(c), cluster_machine(c, node), true);
	else if (kind == 1)
		machine_pause(cluster_machine(c, node), true);
	else
		cluster_crash(c, node, true);
}

static void commit_any_1_of_two_never_pauses_when_the_other_one_is_in_trouble(void **state)
{
	(void)state;
	for (enum replication_mode mode = MODE_B; mode <= MODE_D; mode++) {
		for (unsigned kind = 0; kind < 3; kind++) {
			struct cluster_options o = policy_of(3, mode, 1, NODE_B | NODE_C);
			struct cluster *c = start(&o);
			uint64_t usual = longest_write(c, 4 * SECONDS, 20 * MILLISECONDS), then;

			trouble(c, B, kind);
			then = longest_write(c, 6 * SECONDS, 20 * MILLISECONDS);
			assert_true(usual < 20 * MILLISECONDS);
			if (then > 3 * usual + 5 * MILLISECONDS)
				cluster_breach(c, "a write took %.1f ms, %.1f ms are usual", (double)then / 1e6,
					       (double)usual / 1e6);
			cluster_converge(c);
			cluster_free(c);
		}
	}
}

/* That the measure above sees a pause where there is one. */
static void commit_all_pauses_for_the_time_out_when_one_is_in_trouble(void **state)
{
	struct cluster_options o = options_of(3, MODE_C);
	struct cluster *c = start(&o);

	(void)state;
	trouble(c, B, 0);
	assert_true(longest_write(c, 6 * SECONDS, 20 * MILLISECONDS) > SECONDS);
	cluster_converge(c);
	cluster_free(c);
}

static void commit_who_is_not_named_neither_holds_up_nor_throttles(void **state)
{
	(void)state;
	for (unsigned local = 0; local < 2; local++) {
		struct cluster_options o = policy_of(4, MODE_C, 1, NODE_B);
		struct cluster *c;
		uint64_t usual, end;

		o.journal_bytes = 1 << 20;
		o.commit = local ? COMMIT_LOCAL : COMMIT_ANY;
		c = start(&o);
		usual = longest_write(c, 2 * SECONDS, 5 * MILLISECONDS);
		end = cluster_volume(c, 0)->log.end.lsn;
		trouble(c, D, 1);
		if (local) {
			trouble(c, B, 1);
			trouble(c, C, 1);
		}
		/* Before the time-out, while they all are online still, more than the journal holds. */
		if (longest_write(c, 1900 * MILLISECONDS, 3 * MILLISECONDS) > 3 * usual + 5 * MILLISECONDS)
			cluster_breach(c, "a write waited for a node that is not named");
		assert_true(peer_connected(peer_of(c, 0, D)));
		assert_true(cluster_volume(c, 0)->log.end.lsn > end + o.journal_bytes);
		cluster_free(c);
	}
}

static void commit_with_too_few_of_the_named_writes_wait_and_status_says_for_whom(void **state)
{
	static struct volume_status status;
	struct cluster_options o = policy_of(4, MODE_C, 2, NODE_B | NODE_C);
	struct cluster *c = start(&o);
	struct asked *a;

	(void)state;
	write_now(c, 0, 0, 4096, 1);
	trouble(c, C, 0);
	a = ask(c, 0, VOLUME_WRITE, 0, 4096, 2, 0);
	assert_false(wait_for(c, &a->done, 10 * SECONDS));
	volume_status(cluster_volume(c, 0), &status);
	assert_string_equal(status.commit, "any 2 of (b, c)");
	assert_string_equal(status.waiting_for, "commit = any 2 of (b, c): node c (offline)");
	assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 20 * SECONDS), -ETIMEDOUT);
	assert_non_null(strstr(cluster_why(c), "writes wait for commit = any 2 of (b, c): node c (offline); nothing"));
	world_heal(cluster_world(c));
	assert_true(wait_for(c, &a->done, 10 * SECONDS));
	assert_int_equal(a->result, 0);
	asked_free(a);
	volume_status(cluster_volume(c, 0), &status);
	assert_string_equal(status.waiting_for, "");
	cluster_converge(c);
	cluster_free(c);
}

/* Where all are waited for, it would be left behind: here that would not let writes go on. */
static void commit_one_of_the_named_that_gets_nothing_done_is_not_dropped(void **state)
{
	static struct volume_status status;
	const struct disk_timing hangs = { .min_ns = 15 * SECONDS, .max_ns = 15 * SECONDS };
	const struct disk_timing goes_on = { .min_ns = 20 * MICROSECONDS, .max_ns = 200 * MICROSECONDS };
	struct cluster_options o = policy_of(3, MODE_C, 2, NODE_B | NODE_C);
	struct cluster *c = start(&o);
	struct asked *a;

	(void)state;
	machine_disk_set_timing(cluster_machine(c, C), cluster_disk(c, C, 'j'), &hangs);
	a = ask(c, 0, VOLUME_WRITE, 0, 4096, 2, 0);
	assert_false(wait_for(c, &a->done, 12 * SECONDS));
	volume_status(cluster_volume(c, 0), &status);
	assert_string_equal(status.waiting_for, "commit = any 2 of (b, c): node c (online)");
	machine_disk_set_timing(cluster_machine(c, C), cluster_disk(c, C, 'j'), &goes_on);
	assert_true(wait_for(c, &a->done, 20 * SECONDS));
	asked_free(a);
	cluster_converge(c);
	cluster_free(c);
}

static void commit_with_too_few_of_the_named_the_log_stays_where_they_find_it(void **state)
{
	struct cluster_options o = policy_of(3, MODE_C, 1, NODE_B);
	struct asked *asked[200];
	struct cluster *c;

	(void)state;
	o.journal_bytes = 1 << 20;
	c = start(&o);
	trouble(c, B, 0);
	cluster_run_for(c, 5 * SECONDS);
	for (unsigned i = 0; i < 200; i++)
		asked[i] = ask(c, 0, VOLUME_WRITE, 4096 * i, 16384, (int)i, 0);
	cluster_run_for(c, 20 * SECONDS);
	for (unsigned i = 0; i < 200; i++)
		assert_false(asked[i]->done);
	assert_true(cluster_volume(c, 0)->log.end.lsn <= peer_of(c, 0, B)->written + o.journal_bytes);
	world_heal(cluster_world(c));
	for (unsigned i = 0; i < 200; i++) {
		assert_true(wait_for(c, &asked[i]->done, 30 * SECONDS));
		assert_int_equal(asked[i]->result, 0);
		asked_free(asked[i]);
	}
	cluster_converge(c);
	cluster_free(c);
}

/* Any 2 of (b, c, d): what is acknowledged is on one of any two of them. */
static void commit_a_takeover_in_contact_with_enough_of_the_named_has_every_write(void **state)
{
	(void)state;
	for (unsigned slow = B; slow <= D; slow++) {
		struct cluster_options o = policy_of(4, MODE_C, 2, NODE_B | NODE_C | NODE_D);
		struct cluster *c = start(&o);
		unsigned fast = slow == C ? D : C;
		uint64_t end;
		int result = -1;

		write_now(c, 0, 0, 4096, 1);
		world_isolate(cluster_world(c), cluster_machine(c, slow), true);
		for (int i = 0; i < 50; i++)
			write_now(c, 0, 4096 * (uint64_t)(i % 100), 4096, i);
		end = cluster_volume(c, 0)->log.end.lsn;
		cluster_crash(c, 0, true);
		/* Of those two that have it all, one is gone too. */
		cluster_crash(c, slow == B ? D : slow == C ? B : B, true);
		world_heal(cluster_world(c));
		assert_true(cluster_volume(c, slow)->log.closed.lsn < end);
		for (unsigned i = 0; i < 20 && result; i++) {
			cluster_run_for(c, SECONDS);
			result = cluster_call(c, slow, CLUSTER_FAILOVER, true, slow, 10 * SECONDS);
		}
		assert_int_equal(result, 0);
		assert_true(cluster_volume(c, slow)->log.end.lsn >= end);
		assert_non_null(cluster_volume(c, fast));
		cluster_converge(c);
		cluster_free(c);
	}
}

static struct cluster *eight_nodes(uint64_t seed, enum commit_policy commit, unsigned copies)
{
	struct cluster_options o = cluster_options_random(seed, CLUSTER_NODES_MAX);

	o.commit = commit;
	o.commit_copies = copies;
	o.commit_nodes = (1u << CLUSTER_NODES_MAX) - 1;
	o.min_copies = 1;
	if (o.mode == MODE_A)
		o.mode = MODE_C;
	return start(&o);
}

static void commit_eight_nodes_end_with_the_same_bytes_under_every_policy(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		struct cluster *c = eight_nodes(test_seed_first(1) + i, i < 7 ? COMMIT_ANY : i == 7 ? COMMIT_LOCAL
							 : COMMIT_ALL, i < 7 ? i + 1 : 0);

		cluster_load(c, 400);
		cluster_converge(c);
		if (cluster_acked(c) < 400)
			cluster_breach(c, "only %llu of 400 requests were answered",
				       (unsigned long long)cluster_acked(c));
		cluster_free(c);
	}
}

static void commit_eight_nodes_converge_after_faults_under_every_policy(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		struct cluster *c = eight_nodes(test_seed_first(31) + i, i < 7 ? COMMIT_ANY : i == 7 ? COMMIT_LOCAL
							 : COMMIT_ALL, i < 7 ? i + 1 : 0);
		struct world *w = cluster_world(c);

		for (unsigned round = 0; round < 8; round++) {
			unsigned n = (unsigned)world_random_below(w, CLUSTER_NODES_MAX), primary;

			cluster_load(c, 60);
			cluster_run_for(c, world_random_below(w, 2 * SECONDS));
			if (cluster_volume(c, n))
				trouble(c, n, (unsigned)world_random_below(w, 3));
			cluster_run_for(c, world_random_below(w, 3 * SECONDS));
			world_heal(w);
			machine_pause(cluster_machine(c, n), false);
			if (!cluster_volume(c, n))
				cluster_up(c, n);
			primary = (unsigned)world_random_below(w, CLUSTER_NODES_MAX);
			if (cluster_primary(c) < 0)
				cluster_call(c, primary, CLUSTER_PROMOTE, false, primary, 5 * SECONDS);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(commit_any_1_of_two_never_pauses_when_the_other_one_is_in_trouble),
	cmocka_unit_test(commit_all_pauses_for_the_time_out_when_one_is_in_trouble),
	cmocka_unit_test(commit_who_is_not_named_neither_holds_up_nor_throttles),
	cmocka_unit_test(commit_with_too_few_of_the_named_writes_wait_and_status_says_for_whom),
	cmocka_unit_test(commit_one_of_the_named_that_gets_nothing_done_is_not_dropped),
	cmocka_unit_test(commit_with_too_few_of_the_named_the_log_stays_where_they_find_it),
	cmocka_unit_test(commit_a_takeover_in_contact_with_enough_of_the_named_has_every_write),
	cmocka_unit_test(commit_eight_nodes_end_with_the_same_bytes_under_every_policy),
	cmocka_unit_test(commit_eight_nodes_converge_after_faults_under_every_policy),
};
TEST_GROUP(commit_policy, tests)
