/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of role at bad moments: promises, steps down, what peers believe of each other. */
#include "directed.h"

static void who_promised_a_newer_epoch_takes_no_more_log_of_the_older(void **state)
{
	unsigned played = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct cluster_options o = options_of(3, MODE_C);
		struct volume_call call = { .done = closed, .force = true };
		struct cluster *c;

		o.seed = seed;
		o.min_copies = 2;
		c = start(&o);
		/* a and b do not hear each other, c hears both; the operator takes b for the better one. */
		world_cut_both(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1), true);
		cluster_run_for(c, 3 * SECONDS);
		volume_failover(cluster_volume(c, 1), &call);
		while (!cluster_volume(c, 2)->meta.promised || cluster_volume(c, 2)->meta.promised == 1)
			cluster_step(c);
		/* From here on nothing more may be acknowledged by a with c's help. */
		cluster_load(c, 100);
		cluster_run_for(c, 10 * SECONDS);
		played += cluster_volume(c, 1)->role == ROLE_PRIMARY;
		assert_null(strstr(peer_of(c, 1, 2)->why, "rewind"));
		cluster_free(c);
	}
	assert_int_equal(played, 20);
}

/* The nodes meet anew after a promotion, and a program writes at once: all its copies are waited for. */
static void a_write_right_after_a_promotion_has_all_its_copies(void **state)
{
	unsigned early = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct cluster_options o = options_of(3, MODE_C);
		struct volume_call call = { .done = closed, .node = "b" };
		struct asked *write;
		struct volume *b;
		struct cluster *c;
		uint64_t lsn;

		o.seed = seed;
		c = start(&o);
		b = cluster_volume(c, 1);
		volume_switchover(cluster_volume(c, seed % 2), &call);
		while (b->role != ROLE_PRIMARY)
			assert_true(cluster_step(c));
		early += peer_of(c, 1, 0)->state != PEER_ONLINE;
		write = ask(c, 1, VOLUME_WRITE, 0, 4096, 7, 0);
		lsn = b->log.end.lsn;
		assert_true(wait_for(c, &write->done, 10 * SECONDS));
		assert_int_equal(write->result, 0);
		assert_true(cluster_volume(c, 0)->journal.written >= lsn);
		assert_true(cluster_volume(c, 2)->journal.written >= lsn);
		asked_free(write);
		cluster_free(c);
	}
	assert_int_equal(early, 20);
}

/* One of them dies in that moment: the others are not kept waiting for longer than the peer timeout. */
static void who_does_not_come_back_after_a_promotion_is_not_waited_for(void **state)
{
	struct cluster_options o = options_of(3, MODE_C);
	struct volume_call call = { .done = closed, .node = "b" };
	struct cluster *c = start(&o);
	uint64_t began;

	(void)state;
	volume_switchover(cluster_volume(c, 0), &call);
	while (cluster_volume(c, 1)->role != ROLE_PRIMARY)
		assert_true(cluster_step(c));
	world_isolate(cluster_world(c), cluster_machine(c, 2), true);
	began = world_now(cluster_world(c));
	write_now(c, 1, 0, 4096, 7);
	assert_in_range(world_now(cluster_world(c)) - began, 0, cluster_volume(c, 1)->config.peer_timeout_ns + SECONDS);
	world_heal(cluster_world(c));
	cluster_converge(c);
	cluster_free(c);
}

/* b had c's promise and died before it opened its epoch: no log tells of it, c's promise alone does. */
static void a_promise_for_an_epoch_that_nobody_opened_fences_all_the_same(void **state)
{
	struct cluster_options o = options_of(3, MODE_C);
	struct volume_call call = { .done = closed, .force = true };
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);

	(void)state;
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 1), true);
	cluster_run_for(c, 3 * SECONDS);
	volume_failover(cluster_volume(c, 1), &call);
	while (cluster_volume(c, 2)->meta.promised < 2)
		cluster_step(c);
	cluster_crash(c, 1, true);
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 2), true);
	cluster_run_for(c, 10 * SECONDS);
	assert_int_equal(cluster_volume(c, 0)->role, ROLE_PRIMARY);
	assert_int_equal(history_last_number(&cluster_volume(c, 2)->history), 1);
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 2), false);
	cluster_run_for(c, 10 * SECONDS);
	assert_int_not_equal(cluster_volume(c, 0)->role, ROLE_PRIMARY);
	assert_int_equal(cluster_volume(c, 0)->meta.promised, 2);
	cluster_up(c, 1);
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 1), false);
	cluster_converge(c);
	cluster_free(c);
}

static void a_promise_survives_the_loss_of_power_that_follows_it(void **state)
{
	struct disk_timing slow = { .min_ns = 5 * MILLISECONDS, .max_ns = 9 * MILLISECONDS };

	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct cluster_options o = options_of(2, MODE_C);
		struct volume_call call = { .done = closed };
		struct cluster *c;
		uint64_t number;

		o.seed = seed;
		c = start(&o);
		assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 10 * SECONDS), 0);
		cluster_run_for(c, 2 * SECONDS);
		machine_disk_set_timing(cluster_machine(c, 1), cluster_disk(c, 1, 'm'), &slow);
		volume_promote(cluster_volume(c, 0), &call);
		number = cluster_volume(c, 0)->change.number;
		while (!cluster_volume(c, 0)->change.agreed[0] && cluster_volume(c, 0)->change.step == ROLE_STEP_ASK)
			cluster_step(c);
		cluster_crash(c, 1, true);
		cluster_up(c, 1);
		while (cluster_open_result(c, 1) == 1)
			cluster_step(c);
		assert_true(number > 1 && cluster_volume(c, 1)->meta.promised >= number);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void a_promotion_that_failed_half_way_can_be_tried_again(void **state)
{
	struct cluster_options o = options_of(3, MODE_C);
	struct cluster *c = start(&o);
	int result = -1;

	(void)state;
	assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 10 * SECONDS), 0);
	cluster_run_for(c, 2 * SECONDS);
	machine_pause(cluster_machine(c, 2), true);
	assert_int_not_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 20 * SECONDS), 0);
	cluster_crash(c, 2, false);
	cluster_up(c, 2);
	for (unsigned i = 0; i < 5 && result; i++) {
		cluster_run_for(c, 3 * SECONDS);
		result = cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 20 * SECONDS);
	}
	if (result)
		print_error("promote: %s\n", cluster_why(c));
	assert_int_equal(result, 0);
	cluster_converge(c);
	cluster_free(c);
}

static void who_has_more_log_than_the_asker_does_not_promise(void **state)
{
	struct cluster_options o = options_of(3, MODE_A);
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);
	int result;

	(void)state;
	/* b meets c while c is ahead: b lags behind a on a slow line. */
	world_link(w, cluster_machine(c, 0), cluster_machine(c, 1))->bytes_per_second = 300 << 10;
	cluster_load(c, 60);
	for (unsigned i = 0; i < 200 && cluster_load_left(c); i++)
		cluster_run_for(c, MILLISECONDS);
	world_reset(w, cluster_machine(c, 1), cluster_machine(c, 2));
	for (unsigned i = 0; i < 3000 && !(peer_connected(peer_of(c, 1, 2)) && peer_of(c, 1, 2)->ahead); i++)
		cluster_run_for(c, MILLISECONDS);
	assert_true(peer_of(c, 1, 2)->ahead);
	cluster_run_for(c, 20 * SECONDS);
	world_link(w, cluster_machine(c, 0), cluster_machine(c, 1))->bytes_per_second = 0;
	/* Now b gets what c does not get. */
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 2), true);
	cluster_run_for(c, 3 * SECONDS);
	machine_pause(cluster_machine(c, 2), true);
	cluster_load(c, 40);
	cluster_run_for(c, 500 * MILLISECONDS);
	machine_pause(cluster_machine(c, 2), false);
	assert_true(cluster_volume(c, 1)->log.closed.lsn > cluster_volume(c, 2)->log.closed.lsn);
	result = cluster_call(c, 2, CLUSTER_FAILOVER, true, 2, 10 * SECONDS);
	if (result == 0)
		print_error("c was let be primary at LSN %llu by b, which has %llu\n",
			    (unsigned long long)cluster_volume(c, 2)->log.closed.lsn,
			    (unsigned long long)cluster_volume(c, 1)->log.closed.lsn);
	assert_int_not_equal(result, 0);
	/* Once a is dead and c has caught up with b, nothing speaks against c. */
	cluster_crash(c, 0, true);
	cluster_run_for(c, 6 * SECONDS);
	result = cluster_call(c, 2, CLUSTER_FAILOVER, true, 2, 10 * SECONDS);
	if (result)
		print_error("failover: %s\n", cluster_why(c));
	assert_int_equal(result, 0);
	cluster_converge(c);
	cluster_free(c);
}

static void who_hands_over_has_promised_durably(void **state)
{
	struct disk_timing slow = { .min_ns = 50 * MILLISECONDS, .max_ns = 60 * MILLISECONDS };

	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct cluster_options o = options_of(2, MODE_C);
		struct volume_call call = { .done = closed, .node = "b" };
		struct cluster *c;

		o.seed = seed;
		c = start(&o);
		machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 'm'), &slow);
		volume_switchover(cluster_volume(c, 0), &call);
		while (cluster_volume(c, 1)->change.step == ROLE_STEP_NONE)
			cluster_step(c);
		cluster_crash(c, 0, true);
		cluster_up(c, 0);
		while (cluster_open_result(c, 0) == 1)
			cluster_step(c);
		assert_in_range(cluster_volume(c, 0)->meta.promised, 2, 2);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void after_a_switchover_every_node_follows_the_new_primary(void **state)
{
	struct cluster_options o = options_of(3, MODE_C);
	struct cluster *c = start(&o);

	(void)state;
	assert_int_equal(cluster_call(c, 0, CLUSTER_SWITCHOVER, false, 1, 20 * SECONDS), 0);
	cluster_run_for(c, 20 * SECONDS);
	assert_string_equal(peer_state_text(peer_of(c, 1, 0)->state), "online");
	assert_string_equal(peer_state_text(peer_of(c, 1, 2)->state), "online");
	cluster_converge(c);
	cluster_free(c);
}

static void who_steps_down_lets_its_followers_go(void **state)
{
	struct cluster_options o = options_of(3, MODE_A);
	struct cluster *c = start(&o);
	struct world *w = cluster_world(c);
	struct asked *a;

	(void)state;
	world_isolate(w, cluster_machine(c, 1), true);
	cluster_run_for(c, 4 * SECONDS);
	assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 20 * SECONDS), 0);
	/* A flush that waits when the news comes is answered, though not as it hoped. */
	cluster_volume(c, 0)->config.min_copies = 4;
	a = ask(c, 0, VOLUME_FLUSH, 0, 0, 0, 0);
	world_cut_both(w, cluster_machine(c, 0), cluster_machine(c, 1), false);
	cluster_run_for(c, 6 * SECONDS);
	assert_true(a->done);
	assert_int_equal(a->result, -EROFS);
	asked_free(a);
	cluster_volume(c, 0)->config.min_copies = 1;
	world_heal(w);
	cluster_run_for(c, 20 * SECONDS);
	assert_string_equal(peer_state_text(peer_of(c, 1, 0)->state), "online");
	assert_string_equal(peer_state_text(peer_of(c, 1, 2)->state), "online");
	cluster_converge(c);
	cluster_free(c);
}

/* ---- back-pressure ---- */

/* The epoch's record is here, the pad behind it is not: what such a batch says never happened. */
static void an_epoch_whose_batch_is_cut_off_is_forgotten(void **state)
{
	unsigned played = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct cluster_options o = options_of(2, MODE_A);
		struct volume_call call = { .done = closed, .node = "a" };
		struct cluster *c;
		const struct volume *b;

		o.seed = seed;
		c = start(&o);
		b = cluster_volume(c, 1);
		assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 10 * SECONDS), 0);
		cluster_run_for(c, 2 * SECONDS);
		assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
		for (unsigned i = 0; i < 10000 && history_last_number(&b->history) == 1; i++)
			cluster_step(c);
		/* What came is cut up anyhow; of the rest nothing is read any more. */
		volume_reconnect(cluster_volume(c, 1), &call);
		assert_null(b->source);
		assert_true(from_le64(history_last(&b->history)->start) < b->log.closed.lsn);
		played += history_last_number(&b->history) == 1;
		cluster_converge(c);
		cluster_free(c);
	}
	assert_in_range(played, 1, 99);
}

static void power_loss(struct cluster *c, unsigned node)
{
	cluster_crash(c, node, true);
	cluster_up(c, node);
	while (cluster_open_result(c, node) == 1)
		cluster_step(c);
	assert_int_equal(cluster_open_result(c, node), 0);
}

/* Meta may know an epoch that the power took from the journal; later another one stands in its place. */
static void an_epoch_that_only_meta_knows_is_forgotten(void **state)
{
	struct disk_timing slow = { 60 * SECONDS, 60 * SECONDS, 0, 0 }, fast = { 20000, 90000, 0, 0 };
	unsigned played = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct cluster_options o = options_of(2, MODE_C);
		struct volume_call call = { .done = closed };
		struct cluster *c;
		uint64_t ticket;

		o.seed = seed;
		c = start(&o);
		assert_int_equal(cluster_call(c, 0, CLUSTER_DEMOTE, false, 0, 10 * SECONDS), 0);
		cluster_run_for(c, 2 * SECONDS);
		machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 'j'), &slow);
		volume_promote(cluster_volume(c, 0), &call);
		while (history_last_number(&cluster_volume(c, 0)->history) < 2)
			cluster_step(c);
		ticket = meta_save(&cluster_volume(c, 0)->meta);	/* as a destage that ends just now */
		while (cluster_volume(c, 0)->meta.saved < ticket)
			cluster_step(c);
		machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 'j'), &fast);
		power_loss(c, 0);
		if (cluster_volume(c, 0)->history.count == 1) {
			/* From here on its meta does not get to disk. */
			machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 'm'), &slow);
			world_cut_both(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1), true);
			cluster_run_for(c, 3 * SECONDS);
			assert_int_equal(cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 10 * SECONDS), 0);
			world_heal(cluster_world(c));
			cluster_run_for(c, 5 * SECONDS);
			assert_true(cluster_volume(c, 0)->history.count == 2);
			machine_disk_set_timing(cluster_machine(c, 0), cluster_disk(c, 0, 'm'), &fast);
			power_loss(c, 0);
			assert_true(cluster_volume(c, 0)->history.count == 2);
			played++;
		}
		cluster_converge(c);
		cluster_free(c);
	}
	assert_in_range(played, 1, 20);
}

/* What a peer asks for, as if it had come over the wire. */
static void asks_for_promise(struct cluster *c, unsigned node, unsigned by, uint64_t number)
{
	struct volume *v = cluster_volume(c, node);
	struct frame_role role = { .ask = to_le16(ROLE_PROMOTE_ASK), .number = to_le64(number),
				   .at = frame_position_of(&v->log.closed) };

	volume_role_frame(peer_of(c, node, by), &role, "");
}

static void a_promise_is_only_for_a_higher_number_and_a_primary_gives_none(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);

	(void)state;
	cluster_volume(c, 1)->meta.promised = 7;
	asks_for_promise(c, 1, 0, 7);
	asks_for_promise(c, 1, 0, 3);
	assert_int_equal(cluster_volume(c, 1)->meta.promised, 7);
	asks_for_promise(c, 1, 0, 8);
	assert_int_equal(cluster_volume(c, 1)->meta.promised, 8);
	asks_for_promise(c, 0, 1, 9);
	assert_int_equal(cluster_volume(c, 0)->meta.promised, 1);
	cluster_free(c);
}

static void a_hand_over_at_another_place_than_our_log_ends_is_not_taken(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct volume *b = cluster_volume(c, 1);

	(void)state;
	for (unsigned bent = 0; bent < 3; bent++) {
		struct frame_role role = { .ask = to_le16(ROLE_HANDOVER), .number = to_le64(2),
					   .at = frame_position_of(&b->log.closed) };

		role.at.hash[7] ^= bent == 0;
		if (bent)
			role.at.lsn = to_le64(b->log.closed.lsn + (bent == 1 ? 4096 : -4096));
		volume_role_frame(peer_of(c, 1, 0), &role, "");
		assert_int_equal(b->change.step, ROLE_STEP_NONE);
		assert_int_equal(b->role, ROLE_SECONDARY);
	}
	cluster_converge(c);
	cluster_free(c);
}

static void a_switchover_waits_until_all_log_is_durable_there(void **state)
{
	struct disk_timing slow = { 200 * MILLISECONDS, 200 * MILLISECONDS, 0, 0 };
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);

	(void)state;
	machine_disk_set_timing(cluster_machine(c, 1), cluster_disk(c, 1, 'j'), &slow);
	for (unsigned i = 0; i < 10; i++)
		write_now(c, 0, i * 50000, 50000, (int)i);
	assert_true(peer_of(c, 0, 1)->durable < cluster_volume(c, 0)->log.closed.lsn);
	assert_int_equal(cluster_call(c, 0, CLUSTER_SWITCHOVER, false, 1, 60 * SECONDS), 0);
	cluster_converge(c);
	cluster_free(c);
}

static void writes_under_way_are_refused_when_a_newer_epoch_is_met(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct asked *write, *flush;

	(void)state;
	world_cut_both(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1), true);
	write = ask(c, 0, VOLUME_WRITE, 0, 4096, 1, 0);
	flush = ask(c, 0, VOLUME_FLUSH, 0, 0, 0, 0);
	cluster_run_for(c, 200 * MILLISECONDS);
	assert_false(write->done || flush->done);
	volume_step_down(cluster_volume(c, 0), NULL, "as a test says");
	assert_true(wait_for(c, &write->done, 100 * MILLISECONDS));
	assert_true(wait_for(c, &flush->done, 100 * MILLISECONDS));
	assert_int_equal(write->result, -EROFS);
	assert_int_equal(flush->result, -EROFS);
	asked_free(write);
	asked_free(flush);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_promise_is_only_for_a_higher_number_and_a_primary_gives_none),
	cmocka_unit_test(a_hand_over_at_another_place_than_our_log_ends_is_not_taken),
	cmocka_unit_test(a_switchover_waits_until_all_log_is_durable_there),
	cmocka_unit_test(writes_under_way_are_refused_when_a_newer_epoch_is_met),
	cmocka_unit_test(who_promised_a_newer_epoch_takes_no_more_log_of_the_older),
	cmocka_unit_test(a_write_right_after_a_promotion_has_all_its_copies),
	cmocka_unit_test(who_does_not_come_back_after_a_promotion_is_not_waited_for),
	cmocka_unit_test(a_promise_for_an_epoch_that_nobody_opened_fences_all_the_same),
	cmocka_unit_test(a_promise_survives_the_loss_of_power_that_follows_it),
	cmocka_unit_test(a_promotion_that_failed_half_way_can_be_tried_again),
	cmocka_unit_test(who_has_more_log_than_the_asker_does_not_promise),
	cmocka_unit_test(who_hands_over_has_promised_durably),
	cmocka_unit_test(after_a_switchover_every_node_follows_the_new_primary),
	cmocka_unit_test(who_steps_down_lets_its_followers_go),
	cmocka_unit_test(an_epoch_whose_batch_is_cut_off_is_forgotten),
	cmocka_unit_test(an_epoch_that_only_meta_knows_is_forgotten),
};
TEST_GROUP(adversary_roles, tests)
