/* SPDX-License-Identifier: Apache-2.0 */
/* What readers of a secondary see, with the caches that lie above the volume: who waits for that, and who does not. */
#include "blocks_rig.h"

static void mode_d_waits_until_caches_of_the_peer_have_dropped_what_was(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_D);
	struct told told = { .caches = true };
	struct cluster *c = start(&o);
	struct volume_status status;
	struct asked *ack;

	(void)state;
	cluster_run_for(c, 1 * SECONDS);
	volume_on_applied(cluster_volume(c, 1), told_of, &told);
	for (uint64_t i = 1; i <= 5; i++) {
		uint64_t before = told.lsn;

		beat_on(c, 0, i);
		ack = ask(c, 0, VOLUME_ACK, 0, 0, 0, 0);
		cluster_run_for(c, 500 * MILLISECONDS);
		assert_true(told.lsn > before);		/* it is applied; who reads without a cache sees it */
		assert_false(ack->done);
		volume_status(cluster_volume(c, 1), &status);
		assert_true(status.lsn_visible < told.lsn && status.lsn_applied >= told.lsn);
		volume_caches_dropped(cluster_volume(c, 1), told.lsn - 1);
		cluster_run_for(c, 500 * MILLISECONDS);
		assert_false(ack->done);
		volume_caches_dropped(cluster_volume(c, 1), told.lsn);
		assert_true(wait_for(c, &ack->done, 1 * SECONDS));
		assert_int_equal(ack->result, 0);
		volume_status(cluster_volume(c, 1), &status);
		assert_int_equal(status.lsn_visible, status.lsn_applied);
		asked_free(ack);
	}
	told.caches = false;
	cluster_converge(c);
	cluster_free(c);
}

/* The kernel there hangs, and drops nothing any more. */
static void in_other_modes_nobody_waits_for_caches(void **state)
{
	for (enum replication_mode mode = MODE_A; mode <= MODE_C; mode++) {
		struct cluster_options o = options_of_blocks(2, mode);
		struct told told = { .caches = true };
		struct cluster *c = start(&o);

		(void)state;
		cluster_run_for(c, 1 * SECONDS);
		volume_on_applied(cluster_volume(c, 1), told_of, &told);
		for (uint64_t i = 1; i <= 40; i++) {
			struct asked *ack;

			beat_on(c, 0, i);
			ack = ask(c, 0, VOLUME_ACK, 0, 0, 0, 0);
			assert_true(wait_for(c, &ack->done, 200 * MILLISECONDS));
			assert_int_equal(ack->result, 0);
			asked_free(ack);
			cluster_run_for(c, 500 * MILLISECONDS);
			assert_int_equal(cluster_volume(c, 0)->peers[0].state, PEER_ONLINE);
		}
		assert_true(told.count + told.unknown >= 40 && volume_visible(cluster_volume(c, 1)) < told.lsn);
		volume_caches_dropped(cluster_volume(c, 1), UINT64_MAX);
		told.caches = false;
		cluster_converge(c);
		cluster_free(c);
	}
}

/* From a write after which all is quiet, to where its readers see it: without a flush, and without a tick. */
static void readers_elsewhere_see_a_write_within_milliseconds(void **state)
{
	for (enum replication_mode mode = MODE_A; mode <= MODE_D; mode++) {
		struct cluster_options o = options_of_blocks(3, mode);
		struct cluster *c = start(&o);

		(void)state;
		cluster_run_for(c, 1 * SECONDS);
		for (uint64_t i = 1; i <= 50; i++) {
			uint64_t end, took = world_now(cluster_world(c));
			struct volume *a = cluster_volume(c, 0), *b = cluster_volume(c, 1), *d = cluster_volume(c, 2);

			beat_on(c, 0, i);
			end = a->log.end.lsn;
			while ((volume_visible(b) < end || volume_visible(d) < end || a->peers[0].applied < end) &&
			       world_now(cluster_world(c)) - took < 1 * SECONDS)
				cluster_step(c);
			took = world_now(cluster_world(c)) - took;
			if (took > 20 * MILLISECONDS)
				print_error("mode %s: %llu us\n", replication_mode_name(mode),
					    (unsigned long long)took / 1000);
			assert_true(took <= 20 * MILLISECONDS);
			cluster_run_for(c, world_random_below(cluster_world(c), 30 * MILLISECONDS));
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

struct waited { struct volume_call call; bool done; int result; };

static void wait_over(struct volume_call *call, int result)
{
	struct waited *w = container_of(call, struct waited, call);

	w->done = true;
	w->result = result;
}

static void wait_on(struct cluster *c, struct waited *w, unsigned at, const char *node, uint64_t lsn,
		    uint64_t timeout)
{
	*w = (struct waited){ .call = { .done = wait_over, .lsn = lsn, .timeout_ns = timeout } };
	strcpy(w->call.node, node);
	volume_wait(cluster_volume(c, at), &w->call);
}

static void a_wait_ends_when_readers_there_see_it_and_not_before(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_C);
	struct told told = { .caches = true };
	struct cluster *c = start(&o);
	struct waited here, there, too_long, ours;
	uint64_t lsn;

	(void)state;
	cluster_run_for(c, 1 * SECONDS);
	volume_on_applied(cluster_volume(c, 1), told_of, &told);
	beat_on(c, 0, 1);
	lsn = cluster_volume(c, 0)->log.end.lsn;
	wait_on(c, &here, 1, "", lsn, 60 * SECONDS);
	wait_on(c, &there, 0, "b", lsn, 60 * SECONDS);
	wait_on(c, &too_long, 0, "b", lsn, 500 * MILLISECONDS);
	wait_on(c, &ours, 0, "a", lsn, 60 * SECONDS);
	cluster_run_for(c, 400 * MILLISECONDS);
	assert_true(ours.done && ours.result == 0);
	assert_false(here.done || there.done || too_long.done);
	cluster_run_for(c, 300 * MILLISECONDS);
	assert_true(too_long.done);
	assert_int_equal(too_long.result, -ETIMEDOUT);
	assert_non_null(strstr(too_long.call.why, "node b shows the log up to LSN"));
	volume_caches_dropped(cluster_volume(c, 1), told.lsn);
	assert_true(wait_for(c, &here.done, 10 * MILLISECONDS));
	assert_true(wait_for(c, &there.done, 10 * MILLISECONDS));
	assert_true(here.result == 0 && there.result == 0);
	told.caches = false;
	cluster_converge(c);
	cluster_free(c);
}

static void a_wait_that_cannot_end_well_says_why(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_C);
	struct cluster *c = start(&o);
	struct waited nobody, elsewhere, gone, late;
	uint64_t lsn = cluster_volume(c, 0)->log.end.lsn;

	(void)state;
	wait_on(c, &nobody, 0, "x", lsn, 60 * SECONDS);
	wait_on(c, &elsewhere, 1, "a", lsn, 60 * SECONDS);
	cluster_run_for(c, 10 * MILLISECONDS);
	assert_true(nobody.done && nobody.result == -ENOENT);
	assert_true(elsewhere.done && elsewhere.result == -EPERM);
	assert_non_null(strstr(elsewhere.call.why, "on node a"));
	/* What it showed before it died counts no more. */
	cluster_crash(c, 1, true);
	cluster_run_for(c, 10 * SECONDS);
	wait_on(c, &gone, 0, "b", 1, 300 * MILLISECONDS);
	cluster_run_for(c, 1 * SECONDS);
	assert_true(gone.done && gone.result == -ETIMEDOUT);
	assert_non_null(strstr(gone.call.why, "it is offline"));
	wait_on(c, &gone, 0, "b", 1, 60 * SECONDS);
	wait_on(c, &late, 0, "", 1ull << 40, 600 * SECONDS);
	cluster_up(c, 1);
	assert_true(wait_for(c, &gone.done, 10 * SECONDS));
	assert_int_equal(gone.result, 0);
	assert_false(late.done);
	assert_int_equal(cluster_call(c, 0, CLUSTER_CLOSE, false, 0, 10 * SECONDS), 0);
	assert_int_equal(late.result, -ESHUTDOWN);
	cluster_crash(c, 0, false);
	cluster_converge(c);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(mode_d_waits_until_caches_of_the_peer_have_dropped_what_was),
	cmocka_unit_test(in_other_modes_nobody_waits_for_caches),
	cmocka_unit_test(readers_elsewhere_see_a_write_within_milliseconds),
	cmocka_unit_test(a_wait_ends_when_readers_there_see_it_and_not_before),
	cmocka_unit_test(a_wait_that_cannot_end_well_says_why),
};
TEST_GROUP(volume_visible, tests)
