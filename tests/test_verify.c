/* SPDX-License-Identifier: Apache-2.0 */
/* Online verify: no false alarm whatever is written or fails meanwhile; what a disk has changed is found and mended.
 * And read repair: what a disk cannot read is served by a peer. */
#include "directed.h"

enum { BLOCKS_ROTTED = 3 };

static struct volume_status *status_of(struct cluster *c, unsigned node)
{
	static struct volume_status status;

	volume_status(cluster_volume(c, node), &status);
	return &status;
}

static const struct volume_peer_status *peer_status_of(struct cluster *c, unsigned node, unsigned other)
{
	const struct volume_status *s = status_of(c, node);

	for (unsigned i = 0; i < s->peer_count; i++)
		if (s->peers[i].name[0] == (char)('a' + other))
			return &s->peers[i];
	return NULL;
}

/* ---- the call ---- */

struct command { struct volume_call call; int result; bool over; };

static void command_over(struct volume_call *call, int result)
{
	struct command *command = container_of(call, struct command, call);

	command->result = result;
	command->over = true;
}

/* Starts one; the result. */
static int verify_start(struct cluster *c, unsigned node, const char *only, bool repair, char why[WHY_BYTES])
{
	/* One on a node that is paused is answered later, one on a node that dies is not: more than one cluster has. */
	static struct command commands[64];
	static unsigned next;
	struct command *command = &commands[next++ % 64];

	*command = (struct command){ .call = { .done = command_over, .repair = repair } };
	snprintf(command->call.node, sizeof command->call.node, "%s", only);
	volume_verify(cluster_volume(c, node), &command->call);
	for (unsigned i = 0; i < 1000 && !command->over; i++)
		cluster_step(c);
	if (why)
		snprintf(why, WHY_BYTES, "%s", command->call.why);
	return command->over ? command->result : -ETIMEDOUT;
}

static bool all_online(struct cluster *c, unsigned node)
{
	const struct volume *v = cluster_volume(c, node);

	for (unsigned i = 0; i < v->peer_count; i++)
		if (v->peers[i].state != PEER_ONLINE)
			return false;
	return true;
}

/* To its end. */
static void verify_run(struct cluster *c, unsigned node, bool repair)
{
	uint64_t until = world_now(cluster_world(c)) + 120 * SECONDS;

	/* An earlier one ends; and who has just come back with the same log is not connected yet. */
	while (status_of(c, node)->verify.running || !all_online(c, node))
		if (world_now(cluster_world(c)) > until || !cluster_step(c))
			cluster_breach(c, "the peers do not come online");
	assert_int_equal(verify_start(c, node, "", repair, NULL), 0);
	while (status_of(c, node)->verify.running)
		if (world_now(cluster_world(c)) > until || !cluster_step(c))
			cluster_breach(c, "a verify does not end");
}

static void assert_all_compared(struct cluster *c, unsigned node)
{
	const struct volume_verify_status *s = &status_of(c, node)->verify;

	if (s->bytes_done != s->bytes_total)
		cluster_breach(c, "a verify ended after %llu of %llu bytes", (unsigned long long)s->bytes_done,
			       (unsigned long long)s->bytes_total);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (cluster_volume(c, node)->verify.of[i].skipped)
			cluster_breach(c, "blocks were not compared");
}

static void assert_no_alarm(struct cluster *c, unsigned node)
{
	const struct volume_status *s = status_of(c, node);

	for (unsigned i = 0; i < s->peer_count; i++)
		if (s->peers[i].verify_mismatches)
			cluster_breach(c, "a false alarm: %llu blocks of peer %s, the first at %llu",
				       (unsigned long long)s->peers[i].verify_mismatches, s->peers[i].name,
				       (unsigned long long)s->peers[i].verify_ranges[0].offset);
}

/* ---- no false alarm ---- */

static struct cluster *start_random(uint64_t seed, unsigned nodes)
{
	struct cluster_options o = cluster_options_random(seed, nodes);

	o.mixed = seed % 3 == 0;
	for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++)
		for (unsigned k = 0; k < CLUSTER_NODES_MAX; k++)
			o.modes[i][k] = (enum replication_mode)((seed >> (i + 3 * k) % 20) % 4);
	return start(&o);
}

static void verify_finds_no_difference_while_clients_write_in_every_mode(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster *c = start_random(first + i, 2 + (unsigned)((first + i) % 3));

		for (unsigned round = 0; round < 4; round++) {
			cluster_load(c, 300);
			cluster_run_for(c, world_random_below(cluster_world(c), 30 * MILLISECONDS));
			verify_run(c, 0, world_random_below(cluster_world(c), 2));
			assert_all_compared(c, 0);
			assert_no_alarm(c, 0);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

/* One thing that goes wrong, or right again. */
static void something_happens(struct cluster *c, unsigned nodes)
{
	struct world *w = cluster_world(c);
	unsigned n = (unsigned)world_random_below(w, nodes), other = (n + 1) % nodes;
	struct machine *a = cluster_machine(c, n), *b = cluster_machine(c, other);
	struct disk_timing slow = { MILLISECONDS, 30 * MILLISECONDS, 2 * SECONDS, 50 };

	switch (world_random_below(w, 12)) {
	case 0:
	case 1:
		if (cluster_volume(c, n))
			cluster_crash(c, n, world_random_below(w, 2));
		break;
	case 2: world_cut_both(w, a, b, true); break;
	case 3: world_cut(w, a, b, true); break;
	case 4: world_reset(w, a, b); break;
	case 5: machine_pause(a, true); break;
	case 6: machine_disk_set_timing(a, cluster_disk(c, n, "sj"[world_random_below(w, 2)]), &slow); break;
	case 7: world_link(w, a, b)->bytes_per_second = 1 << 20; break;
	case 8:
		if (cluster_primary(c) >= 0)
			cluster_call(c, (unsigned)cluster_primary(c), CLUSTER_SWITCHOVER, false, n, 3 * SECONDS);
		break;
	default: cluster_heal(c);
	}
}

static void verify_raises_no_false_alarm_whatever_fails_meanwhile(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		unsigned nodes = 2 + (unsigned)((first + i) % 3);
		struct cluster *c = start_random(first + i, nodes);
		struct world *w = cluster_world(c);

		for (unsigned round = 0; round < 20; round++) {
			int primary = cluster_primary(c);

			if (primary >= 0)
				(void)!verify_start(c, (unsigned)primary, "", world_random_below(w, 2), NULL);
			cluster_load(c, world_random_below(w, 60));
			cluster_run_for(c, world_random_below(w, 600 * MILLISECONDS));
			something_happens(c, nodes);
			for (unsigned n = 0; n < nodes; n++)
				if (cluster_volume(c, n))
					assert_no_alarm(c, n);
			if (cluster_primary(c) < 0)
				cluster_call(c, round % nodes, CLUSTER_PROMOTE, false, 0, 3 * SECONDS);
		}
		cluster_settle(c);
		verify_run(c, (unsigned)cluster_primary(c), false);
		assert_all_compared(c, (unsigned)cluster_primary(c));
		assert_no_alarm(c, (unsigned)cluster_primary(c));
		cluster_converge(c);
		cluster_free(c);
	}
}

/* ---- rot ---- */

/* All that was written is in the stores, and only there. */
static void rest(struct cluster *c, unsigned nodes)
{
	cluster_settle(c);
	cluster_run_for(c, 8 * SECONDS);
	for (unsigned i = 0; i < nodes; i++) {
		struct volume *v = cluster_volume(c, i);

		if (pool_dirty(&v->pool) || v->pool.loading_count)
			cluster_breach(c, "node %u is not at rest", i);
		pool_forget(&v->pool);
	}
}

/* The disk changes a byte of the block behind our back. */
static void rot(struct cluster *c, unsigned node, uint64_t block)
{
	struct machine *m = cluster_machine(c, node);
	int store = cluster_disk(c, node, 's');
	uint64_t offset = block * BLOCK_BYTES + world_random_below(cluster_world(c), BLOCK_BYTES);
	uint8_t byte = (uint8_t)~machine_disk_data(m, store)[offset];

	c->nodes[node].rotten = true;
	machine_disk_write_now(m, store, offset, &byte, 1);
}

static void assert_range(const struct volume_range *range, uint64_t block, uint64_t count)
{
	assert_int_equal(range->offset, block * BLOCK_BYTES);
	assert_int_equal(range->len, count * BLOCK_BYTES);
}

static void rotted_blocks_of_a_peer_are_found_once_and_mended_on_request(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(30); i++) {
		struct cluster *c = start_random(first + i, 3);
		uint64_t blocks = c->options.volume_bytes / BLOCK_BYTES;
		uint64_t block = world_random_below(cluster_world(c), blocks - BLOCKS_ROTTED);
		const struct volume_peer_status *b;

		cluster_load(c, 200);
		rest(c, 3);
		for (unsigned k = 0; k < BLOCKS_ROTTED; k++)
			rot(c, 1, block + k);
		for (unsigned round = 0; round < 3; round++) {		/* compared; mended; compared again */
			verify_run(c, 0, round == 1);
			assert_all_compared(c, 0);
			b = peer_status_of(c, 0, 1);
			assert_int_equal(b->verify_mismatches, round < 2 ? BLOCKS_ROTTED : 0);
			assert_int_equal(b->verify_repaired, round == 1 ? BLOCKS_ROTTED : 0);
			assert_int_equal(b->verify_range_count, round < 2);
			if (round < 2)
				assert_range(&b->verify_ranges[0], block, BLOCKS_ROTTED);
			assert_int_equal(peer_status_of(c, 0, 2)->verify_mismatches, 0);
		}
		c->nodes[1].rotten = false;
		cluster_converge(c);
		cluster_free(c);
	}
}

static void rotted_blocks_are_mended_while_clients_write(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++) {
		struct cluster *c = start_random(first + i, 2);
		struct world *w = cluster_world(c);

		cluster_load(c, 100);
		rest(c, 2);
		for (unsigned k = 0; k < 30; k++)
			rot(c, 1, world_random_below(w, c->options.volume_bytes / BLOCK_BYTES));
		cluster_load(c, 600);
		cluster_run_for(c, world_random_below(w, 20 * MILLISECONDS));
		verify_run(c, 0, true);
		assert_all_compared(c, 0);
		assert_int_equal(peer_status_of(c, 0, 1)->verify_repaired, peer_status_of(c, 0, 1)->verify_mismatches);
		c->nodes[1].rotten = false;
		cluster_check_all(c, 1);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void rotted_block_of_the_primary_is_found_and_taken_by_the_peer_on_request(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);

	(void)state;
	write_now(c, 0, 0, 64 << 10, 7);
	rest(c, 2);
	rot(c, 0, 5);
	c->nodes[1].rotten = true;	/* it will be, by request */
	verify_run(c, 0, false);
	assert_int_equal(peer_status_of(c, 0, 1)->verify_mismatches, 1);
	assert_range(&peer_status_of(c, 0, 1)->verify_ranges[0], 5, 1);
	verify_run(c, 0, true);
	assert_int_equal(peer_status_of(c, 0, 1)->verify_repaired, 1);
	verify_run(c, 0, false);
	assert_no_alarm(c, 0);
	assert_memory_equal(machine_disk_data(cluster_machine(c, 0), cluster_disk(c, 0, 's')),
			    machine_disk_data(cluster_machine(c, 1), cluster_disk(c, 1, 's')), o.volume_bytes);
	cluster_free(c);
}

/* ---- how it ends ---- */

static void verify_is_refused_in_words(void **state)
{
	struct cluster_options o = options_of(3, MODE_C);
	struct cluster *c = start(&o);
	char why[WHY_BYTES];

	(void)state;
	assert_int_equal(verify_start(c, 1, "", false, why), -EPERM);
	assert_non_null(strstr(why, "primary"));
	assert_int_equal(verify_start(c, 0, "x", false, why), -ENOTCONN);
	assert_non_null(strstr(why, "node x"));
	assert_int_equal(verify_start(c, 0, "c", false, why), 0);
	assert_int_equal(verify_start(c, 0, "", false, why), -EBUSY);
	assert_non_null(strstr(why, "holdfast status"));
	cluster_crash(c, 1, false);
	cluster_crash(c, 2, false);
	cluster_run_for(c, 5 * SECONDS);
	assert_false(status_of(c, 0)->verify.running);
	assert_int_equal(verify_start(c, 0, "", false, why), -ENOTCONN);
	cluster_converge(c);
	cluster_free(c);
}

/* Slow disks, so that it is in the middle when something happens. */
static struct cluster *verify_in_the_middle(void)
{
	struct cluster_options o = options_of(2, MODE_C);
	struct cluster *c = start(&o);
	struct disk_timing slow = { 100 * MILLISECONDS, 200 * MILLISECONDS, 0, 0 };

	write_now(c, 0, 0, 1 << 20, 7);
	rest(c, 2);
	for (unsigned i = 0; i < 2; i++)
		machine_disk_set_timing(cluster_machine(c, i), cluster_disk(c, i, 's'), &slow);
	assert_int_equal(verify_start(c, 0, "", true, NULL), 0);
	cluster_run_for(c, 800 * MILLISECONDS);
	assert_true(status_of(c, 0)->verify.running);
	assert_true(status_of(c, 0)->verify.bytes_done > 0);
	return c;
}

static void assert_ended_early(struct cluster *c, unsigned node)
{
	const struct volume_verify_status *s = &status_of(c, node)->verify;

	assert_false(s->running);
	assert_true(s->bytes_done > 0 && s->bytes_done < s->bytes_total);
	assert_true(s->ended_ns >= s->started_ns);
	assert_no_alarm(c, node);
	cluster_converge(c);
	cluster_free(c);
}

static void verify_ends_when_its_peer_is_gone(void **state)
{
	struct cluster *c = verify_in_the_middle();

	(void)state;
	cluster_crash(c, 1, false);
	cluster_run_for(c, 3 * SECONDS);
	assert_ended_early(c, 0);
}

static void verify_ends_when_the_connection_is_reset_and_clients_go_on(void **state)
{
	struct cluster *c = verify_in_the_middle();

	(void)state;
	world_reset(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1));
	cluster_run_for(c, 1 * SECONDS);
	write_now(c, 0, 4096, 8192, 9);
	assert_ended_early(c, 0);
}

static void verify_ends_with_the_role(void **state)
{
	struct cluster *c = verify_in_the_middle();

	(void)state;
	assert_int_equal(cluster_call(c, 0, CLUSTER_SWITCHOVER, false, 1, 10 * SECONDS), 0);
	cluster_run_for(c, 1 * SECONDS);
	assert_ended_early(c, 0);
}

static void verify_waits_for_a_peer_that_is_slow_to_apply(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);
	struct disk_timing slow = { 20 * MILLISECONDS, 50 * MILLISECONDS, 0, 0 };

	(void)state;
	machine_disk_set_timing(cluster_machine(c, 1), cluster_disk(c, 1, 'j'), &slow);
	cluster_load(c, 2000);
	cluster_run_for(c, 50 * MILLISECONDS);
	verify_run(c, 0, false);
	assert_all_compared(c, 0);
	assert_no_alarm(c, 0);
	cluster_converge(c);
	cluster_free(c);
}

/* ---- read repair ---- */

static void unreadable(struct cluster *c, unsigned node, uint64_t block, uint64_t count)
{
	struct disk_fault fault = { .kinds = 1u << IO_READ, .error = -EIO, .offset = block * BLOCK_BYTES,
				    .len = count * BLOCK_BYTES };

	machine_disk_fail(cluster_machine(c, node), cluster_disk(c, node, 's'), &fault);
}

/* A block per number, in the stores only; node a is primary. */
static struct cluster *start_written(unsigned nodes, enum replication_mode mode)
{
	struct cluster_options o = options_of(nodes, mode);
	struct cluster *c = start(&o);

	for (unsigned i = 0; i < 16; i++)
		write_now(c, 0, i * BLOCK_BYTES, BLOCK_BYTES, 100 + (int)i);
	rest(c, nodes);
	return c;
}

static int read_now(struct cluster *c, unsigned node, uint64_t block, uint64_t count)
{
	struct asked *a = ask(c, node, VOLUME_READ, block * BLOCK_BYTES, count * BLOCK_BYTES, 0, 0);
	int result;

	assert_true(wait_for(c, &a->done, 30 * SECONDS));
	result = a->result;
	for (uint64_t i = 0; result == 0 && i < count * BLOCK_BYTES; i++)
		assert_int_equal(a->buffer[i], 100 + block + i / BLOCK_BYTES);
	asked_free(a);
	return result;
}

static void unreadable_blocks_are_served_from_a_peer_and_rewritten(void **state)
{
	(void)state;
	for (unsigned mode = MODE_A; mode <= MODE_D; mode++)
		for (unsigned node = 0; node < 2; node++) {
			struct cluster *c = start_written(2, (enum replication_mode)mode);
			uint64_t before = machine_disk_ops(cluster_machine(c, node));

			unreadable(c, node, 5, 2);
			machine_disk_write_now(cluster_machine(c, node), cluster_disk(c, node, 's'), 5 * BLOCK_BYTES,
					       "rot", 3);
			c->nodes[node].rotten = true;
			assert_int_equal(read_now(c, node, 0, 16), 0);
			assert_int_equal(status_of(c, node)->reads_repaired, 2);
			assert_int_equal(read_now(c, node, 4, 3), 0);
			assert_int_equal(status_of(c, node)->reads_repaired, 2);	/* it has them now */
			cluster_run_for(c, 5 * SECONDS);
			assert_true(machine_disk_ops(cluster_machine(c, node)) > before);
			assert_int_equal(status_of(c, node)->pages_dirty, 0);
			c->nodes[node].rotten = false;
			cluster_converge(c);		/* compares the stores: it was rewritten */
			cluster_free(c);
		}
}

static void unreadable_block_is_an_error_when_no_peer_can_help(void **state)
{
	struct cluster_options one = options_of(1, MODE_C);
	struct cluster *c = start(&one);

	(void)state;
	write_now(c, 0, 0, BLOCK_BYTES, 100);
	rest(c, 1);
	unreadable(c, 0, 0, 1);
	assert_int_equal(read_now(c, 0, 0, 1), -EIO);
	cluster_free(c);
	c = start_written(2, MODE_C);
	unreadable(c, 0, 3, 1);
	unreadable(c, 1, 3, 1);
	assert_int_equal(read_now(c, 0, 3, 1), -EIO);
	assert_int_equal(read_now(c, 1, 3, 1), -EIO);
	cluster_crash(c, 1, false);
	assert_int_equal(read_now(c, 0, 3, 1), -EIO);
	assert_int_equal(read_now(c, 0, 2, 1), 0);
	assert_int_equal(status_of(c, 0)->failed, 0);
	cluster_converge(c);
	cluster_free(c);
}

static void verify_tells_of_unreadable_blocks_and_has_them_mended(void **state)
{
	(void)state;
	for (unsigned node = 0; node < 2; node++) {
		struct cluster *c = start_written(2, MODE_C);

		unreadable(c, node, 5, 2);
		verify_run(c, 0, true);
		cluster_run_for(c, 4 * SECONDS);
		assert_all_compared(c, 0);
		assert_int_equal(cluster_volume(c, 0)->verify.unreadable, node == 0 ? 2 : 0);
		assert_int_equal(status_of(c, 0)->reads_repaired, node == 0 ? 2 : 0);
		assert_int_equal(peer_status_of(c, 0, 1)->verify_mismatches, node == 1 ? 2 : 0);
		assert_int_equal(peer_status_of(c, 0, 1)->verify_repaired, node == 1 ? 2 : 0);
		if (node == 1)
			assert_range(&peer_status_of(c, 0, 1)->verify_ranges[0], 5, 2);
		machine_disk_fail(cluster_machine(c, node), cluster_disk(c, node, 's'), NULL);
		verify_run(c, 0, false);
		assert_no_alarm(c, 0);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void partial_write_onto_an_unreadable_block_is_repaired(void **state)
{
	(void)state;
	for (unsigned mode = MODE_A; mode <= MODE_D; mode++)
		for (unsigned node = 0; node < 3; node++) {
			struct cluster *c = start_written(3, (enum replication_mode)mode);

			unreadable(c, node, 5, 3);
			for (unsigned i = 0; i < 20; i++)
				write_now(c, 0, (5 + i % 3) * BLOCK_BYTES + 100 + i, 50 + i, (int)i);
			cluster_run_for(c, 4 * SECONDS);
			assert_int_equal(status_of(c, node)->failed, 0);
			assert_int_equal(status_of(c, node)->reads_repaired, 3);
			assert_int_equal(status_of(c, node)->lsn_applied, status_of(c, 0)->lsn_end);
			for (unsigned i = 0; i < 3; i++)
				cluster_check_all(c, i);
			cluster_converge(c);
			cluster_free(c);
		}
}

static void partial_write_fails_the_volume_when_no_peer_can_help(void **state)
{
	struct cluster *c = start_written(2, MODE_C);
	struct asked *a;

	(void)state;
	unreadable(c, 0, 5, 1);
	unreadable(c, 1, 5, 1);
	a = ask(c, 0, VOLUME_WRITE, 5 * BLOCK_BYTES + 7, 100, 1, 0);
	assert_true(wait_for(c, &a->done, 60 * SECONDS));
	assert_int_equal(a->result, -EIO);
	assert_int_equal(status_of(c, 0)->failed, -EIO);
	asked_free(a);
	cluster_converge(c);
	cluster_free(c);
}

/* Each node cannot read blocks of its own; all others are there. */
static void no_read_and_no_node_fails_while_somebody_has_the_block(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++) {
		unsigned nodes = 2 + (unsigned)((first + i) % 3);
		struct cluster *c = start_random(first + i, nodes);
		struct world *w = cluster_world(c);
		uint64_t share = c->options.volume_bytes / BLOCK_BYTES / nodes, repaired = 0;

		cluster_load(c, 200);
		rest(c, nodes);
		for (unsigned round = 0; round < 5; round++) {
			for (unsigned n = 0; n < nodes; n++) {
				uint64_t count = 1 + world_random_below(w, share);

				unreadable(c, n, n * share + world_random_below(w, share - count + 1), count);
			}
			cluster_load(c, 150);
			cluster_run_for(c, world_random_below(w, 400 * MILLISECONDS));
			while (cluster_load_left(c))
				if (!cluster_run_for(c, MILLISECONDS) || world_now(w) > 300 * SECONDS)
					cluster_breach(c, "requests are not answered");
			cluster_run_for(c, 3 * SECONDS);
			for (unsigned n = 0; n < nodes; n++) {
				if (status_of(c, n)->failed)
					cluster_breach(c, "node %u failed: %s", n, status_of(c, n)->why);
				repaired += status_of(c, n)->reads_repaired;
				if (!pool_dirty(&cluster_volume(c, n)->pool) &&
				    !cluster_volume(c, n)->pool.loading_count &&
				    destage_quiet(&cluster_volume(c, n)->destage))
					pool_forget(&cluster_volume(c, n)->pool);
			}
		}
		if (!repaired || cluster_acked(c) != 200 + 5 * 150)
			cluster_breach(c, "%llu blocks were repaired, %llu requests succeeded",
				       (unsigned long long)repaired, (unsigned long long)cluster_acked(c));
		cluster_converge(c);
		cluster_free(c);
	}
}

static void read_errors_and_any_other_faults_leave_replicas_that_converge(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++) {
		unsigned nodes = 2 + (unsigned)((first + i) % 3);
		struct cluster *c = start_random(first + i, nodes);
		struct world *w = cluster_world(c);

		for (unsigned round = 0; round < 20; round++) {
			uint64_t blocks = c->options.volume_bytes / BLOCK_BYTES;

			unreadable(c, (unsigned)world_random_below(w, nodes), world_random_below(w, blocks),
				   1 + world_random_below(w, 64));
			cluster_load(c, world_random_below(w, 60));
			cluster_run_for(c, world_random_below(w, 600 * MILLISECONDS));
			something_happens(c, nodes);
			if (cluster_primary(c) < 0)
				cluster_call(c, round % nodes, CLUSTER_PROMOTE, false, 0, 3 * SECONDS);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(verify_finds_no_difference_while_clients_write_in_every_mode),
	cmocka_unit_test(verify_raises_no_false_alarm_whatever_fails_meanwhile),
	cmocka_unit_test(rotted_blocks_of_a_peer_are_found_once_and_mended_on_request),
	cmocka_unit_test(rotted_blocks_are_mended_while_clients_write),
	cmocka_unit_test(rotted_block_of_the_primary_is_found_and_taken_by_the_peer_on_request),
	cmocka_unit_test(verify_is_refused_in_words),
	cmocka_unit_test(verify_ends_when_its_peer_is_gone),
	cmocka_unit_test(verify_ends_when_the_connection_is_reset_and_clients_go_on),
	cmocka_unit_test(verify_ends_with_the_role),
	cmocka_unit_test(verify_waits_for_a_peer_that_is_slow_to_apply),
	cmocka_unit_test(unreadable_blocks_are_served_from_a_peer_and_rewritten),
	cmocka_unit_test(unreadable_block_is_an_error_when_no_peer_can_help),
	cmocka_unit_test(verify_tells_of_unreadable_blocks_and_has_them_mended),
	cmocka_unit_test(partial_write_onto_an_unreadable_block_is_repaired),
	cmocka_unit_test(partial_write_fails_the_volume_when_no_peer_can_help),
	cmocka_unit_test(no_read_and_no_node_fails_while_somebody_has_the_block),
	cmocka_unit_test(read_errors_and_any_other_faults_leave_replicas_that_converge),
};
TEST_GROUP(verify, tests)
