/* SPDX-License-Identifier: Apache-2.0 */
/* Full journals, full and failing disks, opens and stops at bad moments. */
#include "directed.h"

static void a_secondary_whose_journal_fills_before_the_commit_is_known_goes_on(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	enum { WRITES = 400 };
	struct asked *all[WRITES];
	struct cluster *c;
	uint64_t done = 0;

	(void)state;
	o.segment_bytes = 64 << 10;
	o.journal_bytes = 256 << 10;
	c = start(&o);
	/* The primary's journal is slow, the rest is quick: nothing is committed for a while. */
	for (unsigned i = 0; i < WRITES; i++)
		all[i] = ask(c, 0, VOLUME_WRITE, (i % 32) * 24576, 24576, (int)i, 0);
	for (unsigned i = 0; i < WRITES; i++)
		done += wait_for(c, &all[i]->done, 5 * SECONDS);
	assert_int_equal(done, WRITES);
	cluster_converge(c);
	for (unsigned i = 0; i < WRITES; i++)
		asked_free(all[i]);
	cluster_free(c);
}

static void a_secondary_whose_disk_fails_does_not_hold_up_the_primary(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct disk_fault fault = { .kinds = 1u << IO_WRITE | 1u << IO_SYNC, .error = -EIO };

	(void)state;
	machine_disk_fail(cluster_machine(c, 1), cluster_disk(c, 1, 'j'), &fault);
	write_now(c, 0, 0, 4096, 1);
	write_now(c, 0, 4096, 4096, 2);
	cluster_free(c);
}

static void a_primary_whose_disk_failed_can_be_failed_over(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct disk_fault fault = { .kinds = 1u << IO_WRITE | 1u << IO_SYNC, .error = -EIO };
	struct asked *a;
	int result;

	(void)state;
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 'j'), &fault);
	a = ask(c, 0, VOLUME_WRITE, 0, 4096, 1, 0);
	assert_true(wait_for(c, &a->done, 10 * SECONDS));
	assert_int_equal(a->result, -EIO);
	cluster_run_for(c, 5 * SECONDS);
	result = cluster_call(c, 1, CLUSTER_FAILOVER, true, 1, 10 * SECONDS);
	if (result)
		print_error("failover: %s\n", cluster_why(c));
	assert_int_equal(result, 0);
	asked_free(a);
	cluster_free(c);
}

/* ---- opening and closing ---- */

static void a_stop_with_a_full_store_ends_and_leaves_the_rest_to_the_journal(void **state)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c = start(&o);
	struct disk_fault full = { .kinds = 1u << IO_WRITE, .error = -ENOSPC };

	(void)state;
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), &full);
	write_now(c, 0, 0, 65536, 7);
	assert_int_equal(cluster_call(c, 0, CLUSTER_CLOSE, false, 0, 60 * SECONDS), -EIO);
	volume_free(cluster_volume(c, 0));
	c->nodes[0].volume = NULL;
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), NULL);
	cluster_converge(c);
	cluster_free(c);
}

static void an_open_that_finds_the_store_full_goes_on_when_there_is_space(void **state)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct disk_fault full = { .kinds = 1u << IO_WRITE, .error = -ENOSPC };
	struct asked *last = NULL;
	struct cluster *c;

	(void)state;
	o.volume_bytes = 12 << 20;
	o.journal_bytes = 16 << 20;
	c = start(&o);
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), &full);
	for (unsigned i = 0; i < 1000; i++) {
		struct asked *a = ask(c, 0, VOLUME_WRITE, i * 8192, 8192, (int)i, 0);
		bool ok = wait_for(c, &a->done, SECONDS);

		if (!ok) {
			last = a;	/* the pool is full of what the store does not take */
			break;
		}
		asked_free(a);
	}
	cluster_run_for(c, SECONDS);
	/* A smaller memory at the next start is the same as a larger replay. */
	cluster_crash(c, 0, false);
	cluster_up(c, 0);
	cluster_run_for(c, 5 * SECONDS);
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), NULL);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(cluster_open_result(c, 0), 0);
	cluster_free(c);
	if (last)
		asked_free(last);
}

static void requests_that_come_while_it_closes_do_not_disturb_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct cluster_options o = options_of(1, MODE_A);
		struct cluster *c;
		struct volume_call call = { 0 };
		struct volume *v;
		struct asked *a;
		uint64_t steps = 0;

		o.seed = seed;
		c = start(&o);
		a = ask(c, 0, VOLUME_WRITE, 0, 4096, 7, 0);
		assert_true(wait_for(c, &a->done, 10 * SECONDS));
		v = cluster_volume(c, 0);
		call.done = closed;
		volume_close(v, &call);
		while (v->state != VOLUME_CLOSED) {
			if (a->done && v->tick.in_flight == 0 && steps++ < 1) {
				a->done = false;
				a->request.op = VOLUME_FLUSH;
				volume_submit(v, &a->request);
			}
			world_step(cluster_world(c));
		}
		volume_free(v);
		c->nodes[0].volume = NULL;
		asked_free(a);
		cluster_free(c);
	}
}

static void what_an_open_finds_survives_the_next_loss_of_power(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct cluster_options o = options_of(1, MODE_A);
		struct disk_fault fault = { .kinds = 1u << IO_SYNC, .error = -EIO, .count = 1 };
		struct cluster *c;
		uint64_t end;

		o.seed = seed;
		c = start(&o);
		/* What a failed sync has lost can still be read, until the power goes. */
		if (seed % 2)
			machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 'j'), &fault);
		for (unsigned i = 0; i < 10; i++)
			write_now(c, 0, i * 4096, 4096, (int)i);
		for (unsigned i = 0; seed % 2 && i < 100 && !cluster_volume(c, 0)->failed; i++)
			cluster_run_for(c, 10 * MILLISECONDS);
		cluster_crash(c, 0, false);
		cluster_up(c, 0);
		while (cluster_open_result(c, 0) == 1)
			cluster_step(c);
		end = cluster_volume(c, 0)->journal.durable;
		cluster_crash(c, 0, true);
		cluster_up(c, 0);
		while (cluster_open_result(c, 0) == 1)
			cluster_step(c);
		assert_true(cluster_volume(c, 0)->log.end.lsn >= end);
		cluster_free(c);
	}
}

static void what_an_open_reads_in_meta_is_durable(void **state)
{
	unsigned played = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct cluster_options o = options_of(1, MODE_A);
		struct cluster *c;
		const uint8_t *meta, *durable;

		o.seed = seed;
		c = start(&o);
		meta = machine_disk_data(cluster_machine(c, 0), cluster_disk(c, 0, 'm'));
		durable = machine_disk_durable(cluster_machine(c, 0), cluster_disk(c, 0, 'm'));
		cluster_load(c, 20);
		while (!cluster_volume(c, 0)->meta.op.in_flight)
			cluster_step(c);
		cluster_crash(c, 0, false);
		played += memcmp(meta, durable, META_BYTES) != 0;
		cluster_up(c, 0);
		while (cluster_open_result(c, 0) == 1)
			cluster_step(c);
		assert_memory_equal(meta, durable, META_BYTES);
		cluster_free(c);
	}
	assert_in_range(played, 10, 100);
}

static void an_open_that_cannot_listen_is_refused(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);
	struct io *io = machine_io(cluster_machine(c, 0));
	int socket;

	(void)state;
	cluster_load(c, 20);
	cluster_run_for(c, 500 * MILLISECONDS);
	cluster_crash(c, 0, false);
	machine_boot(cluster_machine(c, 0));
	assert_int_equal(io->listen(io, "a:1", &socket), 0);
	cluster_up(c, 0);
	struct volume *v = cluster_volume(c, 0);
	for (unsigned i = 0; i < 100000 && cluster_open_result(c, 0) == 1; i++)
		world_step(cluster_world(c));
	assert_int_equal(cluster_open_result(c, 0), -EADDRINUSE);
	volume_free(v);
	cluster_free(c);
}

static void an_open_whose_replay_cannot_read_the_store_is_refused(void **state)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c = start(&o);
	struct disk_fault fault = { .kinds = 1u << IO_READ, .error = -EIO, .after = 2 };

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		write_now(c, 0, 4000 + i * 8192, 5000, (int)i);
	/* In the middle of a round: the store may hold some, so all must be replayed. */
	while (cluster_volume(c, 0)->meta.saved_reach < 64 << 10)
		cluster_step(c);
	cluster_crash(c, 0, false);
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), &fault);
	cluster_up(c, 0);
	for (unsigned i = 0; i < 100000 && cluster_open_result(c, 0) == 1; i++)
		world_step(cluster_world(c));
	assert_int_equal(cluster_open_result(c, 0), -EIO);
	cluster_free(c);
}

static void an_open_that_fails_while_it_destages_waits_for_that_and_ends(void **state)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c = start(&o);
	struct disk_fault full = { .kinds = 1u << IO_WRITE, .error = -ENOSPC };
	struct disk_fault fault = { .kinds = 1u << IO_READ, .error = -EIO, .count = 1 };
	unsigned refused = 0;

	(void)state;
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), &full);
	for (unsigned i = 0; i < 100; i++)
		write_now(c, 0, i % 2 * 512 * 1024 + i * 4096, 20000, (int)i);
	for (fault.after = 4; refused == 0 || cluster_open_result(c, 0) != 0; fault.after++) {
		cluster_crash(c, 0, false);
		machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), NULL);
		machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 'j'), &fault);
		cluster_up(c, 0);
		for (unsigned i = 0; i < 100000 && cluster_open_result(c, 0) == 1; i++)
			world_step(cluster_world(c));
		assert_int_not_equal(cluster_open_result(c, 0), 1);
		refused += cluster_open_result(c, 0) == -EIO;
	}
	cluster_free(c);
}

/* A batch that is longer than a write of the journal may be takes several, and each may end in the middle of a record:
 * nobody hears of it before it is whole, neither the peers nor meta, or a crash between two of these writes would leave
 * a replica that promises what it cannot give. */
static void a_batch_in_several_writes_counts_when_it_is_whole(void **state)
{
	struct disk_timing slow = { 300 * MILLISECONDS, 300 * MILLISECONDS, 0, 0 };
	struct cluster_options o = options_of(2, MODE_A);
	struct asked *writes[120];
	unsigned split = 0;
	struct cluster *c;
	struct volume *b;

	(void)state;
	o.memory_bytes = 128 << 20;
	o.volume_bytes = 16 << 20;
	o.journal_bytes = 64 << 20;
	o.segment_bytes = 8 << 20;	/* a write ends at its segment, too */
	c = start(&o);
	b = cluster_volume(c, 1);
	machine_disk_set_timing(cluster_machine(c, 1), cluster_disk(c, 1, 'j'), &slow);
	for (unsigned i = 0; i < 120; i++)
		writes[i] = ask(c, 0, VOLUME_WRITE, i * 100000, 70000 + i * 8, (int)i, 0);
	for (unsigned i = 0; i < 20000 && split < 20; i++) {
		struct position at;

		cluster_step(c);
		assert_true(path_at(c->nodes[1].branch, b->journal.written, &at));
		assert_true(path_at(c->nodes[1].branch, b->journal.durable, &at));
		assert_true(path_at(c->nodes[1].branch, b->meta.reach, &at));
		assert_true(b->applied <= b->journal.written);
		split += !path_at(c->nodes[1].branch, b->journal.submitted, &at);
	}
	assert_int_equal(split, 20);
	cluster_crash(c, 1, true);
	cluster_up(c, 1);
	cluster_converge(c);
	for (unsigned i = 0; i < 120; i++)
		asked_free(writes[i]);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_secondary_whose_journal_fills_before_the_commit_is_known_goes_on),
	cmocka_unit_test(a_secondary_whose_disk_fails_does_not_hold_up_the_primary),
	cmocka_unit_test(a_primary_whose_disk_failed_can_be_failed_over),
	cmocka_unit_test(a_stop_with_a_full_store_ends_and_leaves_the_rest_to_the_journal),
	cmocka_unit_test(an_open_that_finds_the_store_full_goes_on_when_there_is_space),
	cmocka_unit_test(requests_that_come_while_it_closes_do_not_disturb_it),
	cmocka_unit_test(what_an_open_finds_survives_the_next_loss_of_power),
	cmocka_unit_test(what_an_open_reads_in_meta_is_durable),
	cmocka_unit_test(an_open_that_cannot_listen_is_refused),
	cmocka_unit_test(an_open_whose_replay_cannot_read_the_store_is_refused),
	cmocka_unit_test(a_batch_in_several_writes_counts_when_it_is_whole),
	cmocka_unit_test(an_open_that_fails_while_it_destages_waits_for_that_and_ends),
};
TEST_GROUP(adversary_disk, tests)
