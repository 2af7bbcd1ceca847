/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated network: streams stay whole or end as told, whatever is cut, reset or crashed. */
#include <errno.h>
#include <stdlib.h>

#include "bytes.h"
#include "run.h"
#include "sim/world_probe.h"

static uint8_t block[64][4096];

/* Connects a to b; *sa and *sb are the two ends, *listening what b listens on. */
static void connect_machines(struct world *w, struct machine *a, struct machine *b, int *sa,
			     int *sb, int *listening)
{
	struct probe accept = { 0 }, dial = { .op.address = "b:1" };

	assert_int_equal(machine_io(b)->listen(machine_io(b), "b:1", listening), 0);
	probe_start(b, &accept, IO_ACCEPT, *listening, 0, NULL, 0);
	probe_start(a, &dial, IO_DIAL, 0, 0, NULL, 0);
	assert_true(world_run_while(w, probe_busy, &accept, SECONDS));
	assert_true(world_run_while(w, probe_busy, &dial, SECONDS));
	assert_true(accept.result >= 0 && dial.result >= 0);
	*sa = (int)dial.result;
	*sb = (int)accept.result;
}

/* Sends a stream of bytes that tell their place, checks what comes. */
struct pump {
	struct probe send, recv;
	struct world *world;
	struct machine *from, *to;
	int out, in;
	uint64_t sent, received, total, seed;
	uint8_t send_data[100000], recv_data[70000];
	int64_t error;
};

static uint8_t pump_byte(const struct pump *pump, uint64_t at)
{
	return (uint8_t)((at + pump->seed) * 0x9e3779b97f4a7c15 >> 56);
}

static void pump_sent(struct io_op *op, int64_t result)
{
	struct pump *pump = container_of(op, struct pump, send.op);
	uint64_t len = min_u64(1 + world_random_below(pump->world, sizeof pump->send_data),
			       pump->total - pump->sent);

	if (result < 0) {
		pump->error = result;
		return;
	}
	if (len == 0)
		return;
	for (uint64_t i = 0; i < len; i++)
		pump->send_data[i] = pump_byte(pump, pump->sent + i);
	pump->sent += len;
	*op = (struct io_op){ .kind = IO_SEND,
			      .file = pump->out,
			      .data = pump->send_data,
			      .len = len,
			      .done = pump_sent };
	machine_io(pump->from)->submit(machine_io(pump->from), op);
}

static void pump_received(struct io_op *op, int64_t result)
{
	struct pump *pump = container_of(op, struct pump, recv.op);
	unsigned wrong = 0;

	if (result < 0) {
		pump->error = result;
		return;
	}
	for (int64_t i = 0; i < result; i++)
		wrong += pump->recv_data[i] != pump_byte(pump, pump->received + (uint64_t)i);
	assert_int_equal(wrong, 0);
	pump->received += (uint64_t)result;
	*op = (struct io_op){ .kind = IO_RECV, .file = pump->in, .data = pump->recv_data,
			      .len = 1 + world_random_below(pump->world, sizeof pump->recv_data),
			      .done = pump_received };
	if (pump->received < pump->total)
		machine_io(pump->to)->submit(machine_io(pump->to), op);
}

static bool pump_busy(void *pump)
{
	return ((struct pump *)pump)->received < ((struct pump *)pump)->total;
}

static struct pump *pump_new(struct world *w, struct machine *from, int out, struct machine *to,
			     int in)
{
	struct pump *pump = calloc(1, sizeof *pump);

	assert_non_null(pump);
	pump->world = w;
	pump->from = from;
	pump->to = to;
	pump->out = out;
	pump->in = in;
	pump->total = 3 << 20;
	pump->seed = world_random(w);
	pump_sent(&pump->send.op, 0);
	pump_received(&pump->recv.op, 0);
	return pump;
}

static void stream_is_whole_in_both_directions_through_cuts(void **state)
{
	(void)state;
	for (uint64_t seed = test_seed_first(1); seed < test_seed_first(1) + test_seed_count(10);
	     seed++) {
		struct world *w = world_new(seed);
		struct machine *a = world_machine(w, "a"), *b = world_machine(w, "b");
		struct pump *there, *back;
		int sa, sb, listening;

		if (seed % 2)
			world_link(w, a, b)->bytes_per_second = 100 << 20;
		connect_machines(w, a, b, &sa, &sb, &listening);
		there = pump_new(w, a, sa, b, sb);
		back = pump_new(w, b, sb, a, sa);
		for (unsigned i = 0; i < 50; i++) {
			struct machine *from = world_random_below(w, 2) ? a : b;

			world_run_for(w, world_random_below(w, 2 * MILLISECONDS));
			world_cut(w, from, from == a ? b : a, world_random_below(w, 2));
			if (world_random_below(w, 4) == 0)
				machine_pause(from, world_random_below(w, 2));
		}
		machine_pause(a, false);
		machine_pause(b, false);
		world_heal(w);
		assert_true(world_run_while(w, pump_busy, there, 100 * SECONDS));
		assert_true(world_run_while(w, pump_busy, back, 100 * SECONDS));
		assert_int_equal(there->error + back->error, 0);
		world_free(w);
		free(there);
		free(back);
	}
}

static void link_cut_one_way_lets_the_other_way_pass_up_to_its_window(void **state)
{
	struct world *w = world_new(1);
	struct machine *a = world_machine(w, "a"), *b = world_machine(w, "b");
	struct pump *there, *back;
	int sa, sb, listening;

	(void)state;
	connect_machines(w, a, b, &sa, &sb, &listening);
	world_cut(w, b, a, true);
	there = pump_new(w, a, sa, b, sb);
	back = pump_new(w, b, sb, a, sa);
	world_run_for(w, 10 * SECONDS);
	assert_int_equal(there->received, STREAM_BYTES);
	assert_int_equal(back->received, 0);
	world_heal(w);
	assert_true(world_run_while(w, pump_busy, there, SECONDS));
	assert_true(world_run_while(w, pump_busy, back, SECONDS));
	world_free(w);
	free(there);
	free(back);
}

static void stream_close_gives_the_rest_then_the_end(void **state)
{
	struct world *w = world_new(1);
	struct machine *a = world_machine(w, "a"), *b = world_machine(w, "b");
	struct probe recv = { 0 }, accept = { 0 };
	struct io *io = machine_io(a);
	int sa, sb, listening;
	int64_t got = 0;

	(void)state;
	connect_machines(w, a, b, &sa, &sb, &listening);
	assert_int_equal(probe_run(w, a, IO_SEND, sa, 0, block, 10000, 0), 10000);
	probe_start(a, &recv, IO_RECV, sa, 0, block[5], 100);
	io->close(io, sa);
	assert_false(recv.done);
	while (got < 10000) {
		int64_t part = probe_run(w, b, IO_RECV, sb, 0, block[0], 5000, 0);

		assert_true(part > 0);
		got += part;
	}
	assert_true(recv.done);
	assert_int_equal(recv.result, -ECANCELED);
	assert_int_equal(got, 10000);
	assert_int_equal(probe_run(w, b, IO_RECV, sb, 0, block[0], 5000, 0), 0);
	assert_int_equal(probe_run(w, b, IO_SEND, sb, 0, block[0], 4096, 0), 4096);
	world_run_for(w, SECONDS);	/* the answer is an RST */
	got = probe_run(w, b, IO_SEND, sb, 0, block[0], 4096, 0);
	assert_true(got == -EPIPE || got == -ECONNRESET);
	assert_int_equal(probe_run(w, b, IO_RECV, sb, 0, block[0], 5000, 0), -ECONNRESET);
	machine_io(b)->close(machine_io(b), sb);
	probe_start(b, &accept, IO_ACCEPT, listening, 0, NULL, 0);
	machine_io(b)->close(machine_io(b), listening);
	world_run_for(w, SECONDS);
	assert_int_equal(accept.result, -ECANCELED);
	world_free(w);
}

static void dial_is_refused_or_hangs_until_cancelled_or_healed(void **state)
{
	struct world *w = world_new(1);
	struct machine *a = world_machine(w, "a"), *b = world_machine(w, "b");
	struct probe dial = { .op.address = "b:1" }, accept = { 0 };
	struct io *io = machine_io(a);
	int listening;

	(void)state;
	probe_start(a, &dial, IO_DIAL, 0, 0, NULL, 0);
	world_run_for(w, SECONDS);
	assert_int_equal(dial.result, -ECONNREFUSED);
	assert_int_equal(machine_io(b)->listen(machine_io(b), "b:1", &listening), 0);
	world_cut(w, a, b, true);
	probe_start(a, &dial, IO_DIAL, 0, 0, NULL, 0);
	world_run_for(w, 100 * SECONDS);
	assert_false(dial.done);
	io->cancel(io, &dial.op);
	world_run_for(w, SECONDS);
	assert_int_equal(dial.result, -ECANCELED);
	probe_start(a, &dial, IO_DIAL, 0, 0, NULL, 0);
	probe_start(b, &accept, IO_ACCEPT, listening, 0, NULL, 0);
	world_run_for(w, SECONDS);
	world_heal(w);
	world_run_for(w, SECONDS);
	assert_true(dial.result > 0 && accept.result > 0);
	probe_start(b, &accept, IO_ACCEPT, listening, 0, NULL, 0);
	machine_io(b)->cancel(machine_io(b), &accept.op);
	world_run_for(w, SECONDS);
	assert_int_equal(accept.result, -ECANCELED);
	world_free(w);
}

static void peer_of_a_crashed_machine_learns_it(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 4; how++) { /* process, power, power in silence, reset */
		struct world *w = world_new(how);
		struct machine *a = world_machine(w, "a"), *b = world_machine(w, "b");
		struct probe recv = { 0 }, dial = { .op.address = "b:1" };
		int sa, sb, listening;

		connect_machines(w, a, b, &sa, &sb, &listening);
		probe_start(a, &recv, IO_RECV, sa, 0, block[0], 100);
		machine_set_silent(b, how == 2);
		world_cut(w, a, b, how == 3);
		if (how == 3)
			world_reset(w, a, b);
		else
			machine_crash(b, how > 0);
		world_run_for(w, SECONDS);
		if (how == 2) {
			assert_int_equal(probe_run(w, a, IO_SEND, sa, 0, block[1], 4096, 0), 4096);
			probe_start(a, &dial, IO_DIAL, 0, 0, NULL, 0);
			world_run_for(w, SECONDS);
			assert_false(recv.done || dial.done);
			machine_boot(b);
			world_run_for(w, SECONDS);
			assert_int_equal(dial.result, -ECONNREFUSED);
		}
		assert_true(recv.done);
		assert_int_equal(recv.result, how == 0 ? 0 : -ECONNRESET);
		world_free(w);
	}
}

/* Everything at once, to shake the world itself (mostly for the asan flavour). */
static void world_survives_chaos(void **state)
{
	(void)state;
	for (uint64_t seed = test_seed_first(1); seed < test_seed_first(1) + test_seed_count(8);
	     seed++) {
		struct world *w = world_new(seed);
		struct machine *m[2] = { world_machine(w, "a"), world_machine(w, "b") };
		struct pump *pumps[2] = { NULL, NULL };

		for (unsigned round = 0; round < 20; round++) {
			struct machine *victim = m[world_random_below(w, 2)];
			int sa, sb, listening;

			connect_machines(w, m[0], m[1], &sa, &sb, &listening);
			pumps[0] = pump_new(w, m[0], sa, m[1], sb);
			pumps[1] = pump_new(w, m[1], sb, m[0], sa);
			world_run_for(w, world_random_below(w, 5 * MILLISECONDS));
			if (world_random_below(w, 2))
				world_cut(w, victim, m[victim == m[0]], true);
			machine_set_silent(victim, world_random_below(w, 2));
			if (world_random_below(w, 3) == 0)
				world_reset(w, m[0], m[1]);
			world_run_for(w, world_random_below(w, MILLISECONDS));
			machine_crash(victim, world_random_below(w, 2));
			world_run_for(w, world_random_below(w, MILLISECONDS));
			machine_boot(victim);
			world_heal(w);
			world_run_for(w, world_random_below(w, MILLISECONDS));
			machine_crash(m[0], false);
			machine_crash(m[1], false);
			world_run_for(w, world_random_below(w, MILLISECONDS));
			machine_boot(m[0]);
			machine_boot(m[1]);
			free(pumps[0]);
			free(pumps[1]);
		}
		world_free(w);
	}
}

/* Also with an accept that waits, on another listener. */
static void world_ends_with_connections_that_nobody_has_accepted(void **state)
{
	struct world *w = world_new(1);
	struct machine *a = world_machine(w, "a"), *b = world_machine(w, "b");
	struct probe dials[3] = { 0 }, accept = { 0 };
	int listening, other;

	(void)state;
	assert_int_equal(machine_io(a)->listen(machine_io(a), "a:1", &listening), 0);
	assert_int_equal(machine_io(b)->listen(machine_io(b), "b:1", &other), 0);
	probe_start(b, &accept, IO_ACCEPT, other, 0, NULL, 0);
	for (unsigned i = 0; i < 3; i++) {
		dials[i].op.address = "a:1";
		probe_start(b, &dials[i], IO_DIAL, 0, 0, NULL, 0);
		assert_true(world_run_while(w, probe_busy, &dials[i], SECONDS));
		assert_true(dials[i].result >= 0);
	}
	world_free(w);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(stream_is_whole_in_both_directions_through_cuts),
	cmocka_unit_test(link_cut_one_way_lets_the_other_way_pass_up_to_its_window),
	cmocka_unit_test(stream_close_gives_the_rest_then_the_end),
	cmocka_unit_test(dial_is_refused_or_hangs_until_cancelled_or_healed),
	cmocka_unit_test(peer_of_a_crashed_machine_learns_it),
	cmocka_unit_test(world_survives_chaos),
	cmocka_unit_test(world_ends_with_connections_that_nobody_has_accepted),
};
TEST_GROUP(world_net, tests)
