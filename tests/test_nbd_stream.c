/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server and the streams of bytes: any split, any end, many requests, too little room, stopping. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd_bench.h"

/* ---- splits and ends ----------------------------------------------------------------------------- */

enum { SCRIPTED = 60 };

/* A whole session: handshake with refusals, then requests good and bad of all sizes up to @len_max. */
static void add_session(struct script *s, uint64_t seed, uint32_t len_max, bool disc)
{
	static const unsigned commands[] = { 0, 1, 1, 3, 4, 6, 7, 5 };
	struct loopback dice = { .seed = seed };

	script_add32(s, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	script_option(s, NBD_OPT_LIST, NULL, 0);
	script_option(s, 77, "abc", 3);
	script_go(s, NBD_OPT_INFO, "nobody", 2);
	script_option(s, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	script_meta(s, NBD_OPT_SET_META_CONTEXT, "", 1, script_allocation);
	script_go(s, NBD_OPT_GO, "db0", 4);
	for (uint32_t i = 0; i < SCRIPTED; i++) {
		unsigned command = commands[loopback_random(&dice) % 8];
		uint32_t len = (uint32_t)(1 + loopback_random(&dice) % len_max);
		/* Apart from each other, as they may be done in any order. */
		uint64_t offset = i * (uint64_t)round_up(len_max, BLOCK_BYTES);

		if (loopback_random(&dice) % 8 == 0)
			offset = VOLUME - len / 2;
		if (command == NBD_CMD_WRITE)
			script_write(s, 0, offset, len, i);
		else if (command == NBD_CMD_FLUSH)
			script_request(s, command, 0, 0, 0, i);
		else
			script_request(s, command, 0, offset, len, i);
	}
	if (disc)
		script_request(s, NBD_CMD_DISC, 0, 0, 0, 0);
}

/* The session's replies as one string: by number, so that their order on the wire does not matter. */
static struct script session_result(struct bench *b)
{
	static const uint32_t options[] = { 3, 3, 77, 6, 8, 10, 10, 7, 7, 7, 7, 7 };
	struct reply replies[SCRIPTED] = { 0 };
	bool seen[SCRIPTED] = { false };
	struct script out = { 0 };
	const uint8_t *data;
	uint32_t len;

	b->seen = sizeof(struct nbd_greeting);
	b->structured = true;
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
		script_add32(&out, bench_option_reply(b, options[i], &data, &len));
	for (int i = 0; i < SCRIPTED; i++) {
		struct reply r = bench_reply(b);

		assert_true(r.number < SCRIPTED && !seen[r.number]);
		seen[r.number] = true;
		replies[r.number] = r;
	}
	assert_true(bench_nothing_more(b));
	for (int i = 0; i < SCRIPTED; i++) {
		script_add32(&out, replies[i].error);
		script_add32(&out, replies[i].data_len);
		script_add(&out, replies[i].data, replies[i].data_len);
	}
	return out;
}

static struct script session_play(uint64_t seed, uint32_t len_max, uint64_t recv_max, uint64_t volume_seed)
{
	struct script s = { 0 }, result;
	struct bench b;

	bench_begin_sized(&b, 2, 2 << 20);
	b.loop.seed = seed;
	b.loop.recv_max = recv_max;
	b.volume.seed = volume_seed;
	add_session(&s, seed, len_max, true);
	bench_play(&b, &s);
	assert_true(bench_is_cut_off(&b));
	result = session_result(&b);
	bench_end(&b);
	free(s.bytes);
	return result;
}

static void nbd_stream_replies_do_not_depend_on_how_the_stream_is_split(void **state)
{
	uint64_t first = test_seed_first(1);
	unsigned count = test_seed_count(40);
	(void)state;

	for (uint64_t seed = first; seed < first + count; seed++) {
		uint32_t len_max = seed % 4 ? 9000 : 200000;
		struct script whole = session_play(seed, len_max, 0, 0);
		uint64_t recv_max[] = { seed % 4 ? 1 : 4001, 27, 29, UINT64_MAX, UINT64_MAX };

		for (size_t i = 0; i < 5; i++) {
			struct script split = session_play(seed, len_max, recv_max[i], i % 2 ? seed + i : 0);

			if (split.len != whole.len || memcmp(split.bytes, whole.bytes, whole.len) != 0)
				fail_msg("SEED=%llu recv_max=%llu", (unsigned long long)seed,
					 (unsigned long long)recv_max[i]);
			free(split.bytes);
		}
		free(whole.bytes);
	}
}

static void nbd_stream_may_end_at_any_byte_and_the_server_goes_on(void **state)
{
	struct script s = { 0 }, flush = { 0 };
	struct bench b;
	int steady;
	(void)state;

	bench_begin_sized(&b, 2, 80 << 20);
	steady = b.client;
	bench_connect(&b, false);
	add_session(&s, 5, 300, false);
	for (size_t end = 0; end <= s.len; end++) {
		int client = loopback_dial(&b.loop);

		b.hold = end & 1;		/* requests in flight outlive the connection */
		loopback_put(&b.loop, client, s.bytes, end);
		bench_run(&b);
		loopback_hang_up(&b.loop, client);
		bench_run(&b);
		b.hold = false;
		bench_run(&b);
		assert_true(b.loop.sockets[client].server_closed);
		assert_int_equal(b.server->connection_count, 1);
		assert_true(nbd_buffers_has(&b.server->buffers, b.server->buffers.page_count));
		loopback_forget(&b.loop, client);
	}
	b.client = steady;
	script_request(&flush, NBD_CMD_FLUSH, 0, 0, 0, 1);
	bench_play(&b, &flush);
	assert_int_equal(bench_reply(&b).error, 0);
	bench_end(&b);
	free(s.bytes);
	free(flush.bytes);
}

static void nbd_stream_a_refused_write_is_answered_when_all_its_data_has_come(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	script_write(&s, 0, VOLUME, 300000, 4);
	s.len--;
	bench_play(&b, &s);
	assert_true(bench_nothing_more(&b));
	script_add(&s, "x", 1);
	bench_play(&b, &s);
	assert_int_equal(bench_reply(&b).error, NBD_ENOSPC);
	bench_end(&b);
	free(s.bytes);
}

/* ---- many requests, little room ------------------------------------------------------------------ */

static void nbd_stream_a_thousand_requests_are_answered_once_each_in_any_order(void **state)
{
	struct script s = { 0 };
	static bool seen[1000];
	struct bench b;
	unsigned most = 0;
	(void)state;

	memset(seen, 0, sizeof seen);
	bench_begin(&b);
	bench_connect(&b, true);
	b.volume.seed = 99;
	for (uint32_t i = 0; i < 1000; i++)
		script_write(&s, 0, i * 4096ull, 4096, i);
	loopback_put(&b.loop, b.client, s.bytes, s.len);
	do {
		while (loopback_step(&b.loop))
			;
		most = b.volume.queued > most ? b.volume.queued : most;
	} while (memory_volume_step(&b.volume));
	assert_int_equal(most, NBD_REQUESTS_MAX);
	for (uint32_t i = 0; i < 1000; i++) {
		struct reply r = bench_reply(&b);

		assert_true(!r.error && r.number < 1000 && !seen[r.number]);
		seen[r.number] = true;
		bench_assert_written(&b, i * 4096ull, 4096, i);
	}
	assert_true(bench_nothing_more(&b));
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_replies_of_one_turn_are_sent_at_once(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	for (uint32_t i = 0; i < 100; i++)
		script_request(&s, NBD_CMD_FLUSH, 0, 0, 0, i);
	loopback_put(&b.loop, b.client, s.bytes, s.len);
	while (loopback_step(&b.loop))
		;
	while (memory_volume_step(&b.volume))
		;
	assert_true(bench_nothing_more(&b));
	assert_true(loopback_step(&b.loop));	/* the end of the turn */
	assert_int_equal(b.server->connections[0].send.len, 100 * sizeof(struct nbd_simple_reply));
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_small_and_large_replies_of_one_turn_are_all_sent(void **state)
{
	static const uint32_t lens[] = { 4000, 40000, 1, 17 * MIB, 16 << 10, (16 << 10) + 1, 4096 };
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	for (uint32_t i = 0; i < 7; i++)
		bench_ask(&b, NBD_CMD_WRITE, 0, i * 100000, 5000);
	for (uint32_t i = 0; i < 7; i++)
		script_request(&s, NBD_CMD_READ, 0, i * 100000, lens[i], i);
	b.hold = true;
	bench_play(&b, &s);
	while (memory_volume_step(&b.volume))
		;
	bench_run(&b);
	for (uint32_t i = 0; i < 7; i++) {
		struct reply r = bench_reply(&b);

		assert_int_equal(r.number, i);
		assert_int_equal(r.data_len, lens[i]);
		assert_memory_equal(r.data, b.volume.bytes + i * 100000, lens[i]);
	}
	assert_true(bench_nothing_more(&b));
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_requests_in_flight_have_buffers_of_their_own(void **state)
{
	static const struct { uint64_t offset; uint32_t len; } reads[] = {
		{ 0, 4096 }, { 1, 4096 }, { 0, 16 << 10 }, { 4095, 16 << 10 }, { 0, (16 << 10) + 1 }, { 0, 20480 },
		{ 1, 20480 }, { 4095, 20482 }, { 4095, 1 }, { 4095, 2 },
	};
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	b.hold = true;
	for (uint32_t i = 0; i < 10; i++) {
		script_request(&s, NBD_CMD_READ, 0, reads[i].offset, reads[i].len, i);
		script_write(&s, 0, (i + 1) * MIB, 4096, i);		/* the buffer next to it */
	}
	bench_play(&b, &s);
	b.hold = false;
	bench_run(&b);
	for (uint32_t i = 0; i < 10; i++)
		bench_assert_written(&b, (i + 1) * MIB, 4096, i);
	bench_end(&b);
	free(s.bytes);
}

/* A kernel may still write and read them until it has said that it does not. */
static void nbd_stream_buffers_stay_taken_until_the_ops_on_them_have_ended(void **state)
{
	(void)state;
	for (int sending = 0; sending < 2; sending++) {
		struct script s = { 0 };
		bool stopped = false;
		struct bench b;

		bench_begin(&b);
		bench_connect(&b, true);
		b.loop.sockets[b.client].deaf = true;
		if (sending)
			script_request(&s, NBD_CMD_READ, 0, 0, 100000, 1);
		else
			script_write(&s, 0, 0, 300000, 1);
		s.len -= sending ? 0 : 100000;
		bench_play(&b, &s);
		nbd_server_stop(b.server, bench_stop_done, &stopped);
		assert_true(bench_is_cut_off(&b));
		assert_false(nbd_buffers_has(&b.server->buffers, b.server->buffers.page_count));
		bench_run(&b);
		assert_true(stopped);
		assert_true(nbd_buffers_has(&b.server->buffers, b.server->buffers.page_count));
		nbd_server_free(b.server);
		memory_volume_end(&b.volume);
		loopback_end(&b.loop);
		free(s.bytes);
	}
}

static void nbd_stream_replies_to_a_client_that_is_gone_are_dropped(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	b.loop.sockets[b.client].deaf = true;
	for (uint32_t i = 0; i < 20; i++)
		script_request(&s, NBD_CMD_READ, 0, i * 100000, i % 2 ? 4096 : 100000, i);
	bench_play(&b, &s);
	loopback_hang_up(&b.loop, b.client);
	bench_run(&b);
	assert_true(bench_is_cut_off(&b));
	assert_int_equal(b.server->connection_count, 0);
	assert_true(nbd_buffers_has(&b.server->buffers, b.server->buffers.page_count));
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_with_room_for_one_request_all_are_served_in_turn(void **state)
{
	struct script s = { 0 };
	struct bench b;
	int clients[3];
	(void)state;

	bench_begin_sized(&b, 3, 5 * BLOCK_BYTES);
	assert_int_equal(b.server->request_bytes_max, 3 * BLOCK_BYTES);
	clients[0] = b.client;
	bench_connect(&b, true);
	for (int i = 1; i < 3; i++)
		clients[i] = bench_connect_another(&b, true);
	for (int i = 0; i < 3; i++) {
		s.len = 0;
		for (uint32_t n = 0; n < 50; n++)
			if (n % 3)
				script_write(&s, 0, (uint64_t)i * MIB * 4 + n * 16384, n % 2 ? 12288 : 1, n);
			else
				script_request(&s, n % 2 ? NBD_CMD_READ : NBD_CMD_BLOCK_STATUS, 0,
					       n * 4096 + 1, 12288, n);
		loopback_put(&b.loop, clients[i], s.bytes, s.len);
	}
	bench_run(&b);
	for (int i = 0; i < 3; i++) {
		b.client = clients[i];
		assert_false(bench_is_cut_off(&b));
		b.seen = b.loop.sockets[b.client].to_client.len;
		assert_int_equal(bench_ask(&b, NBD_CMD_READ, 0, 0, 1), 0);
	}
	assert_int_equal(b.volume.writes, 3 * 33);
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_a_large_request_is_not_overtaken_for_ever(void **state)
{
	struct script s = { 0 };
	struct bench b;
	int small;
	(void)state;

	bench_begin_sized(&b, 2, 8 * BLOCK_BYTES);
	small = b.client;
	bench_connect(&b, true);
	b.hold = true;
	for (uint32_t n = 0; n < 100; n++)
		script_request(&s, NBD_CMD_READ, 0, n * 4096, 4096, n);
	bench_play(&b, &s);					/* all pages are taken, more is wanted */
	assert_int_equal(b.volume.queued, 8);
	bench_connect_another(&b, true);
	script_request(&s, NBD_CMD_READ, 0, 0, 6 * BLOCK_BYTES, 1);
	bench_play(&b, &s);
	for (int i = 0; i < 20 && b.volume.queued > 0; i++) {
		memory_volume_step(&b.volume);
		bench_run(&b);
	}
	assert_int_equal(bench_reply(&b).number, 1);		/* though the other has 80 to go */
	b.hold = false;
	bench_run(&b);
	b.client = small;
	assert_false(bench_is_cut_off(&b));
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_a_newcomer_queues_behind_those_who_wait(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin_sized(&b, 3, 8 * BLOCK_BYTES);
	bench_connect(&b, true);
	b.hold = true;
	for (uint32_t n = 0; n < 8; n++)
		script_request(&s, NBD_CMD_READ, 0, 0, 4096, n);
	bench_play(&b, &s);
	bench_connect_another(&b, true);
	script_request(&s, NBD_CMD_READ, 0, 0, 6 * BLOCK_BYTES, 8);
	bench_play(&b, &s);
	memory_volume_step(&b.volume);
	bench_run(&b);
	assert_int_equal(b.volume.queued, 7);		/* a page is free, too little for who waits */
	bench_connect_another(&b, true);
	script_request(&s, NBD_CMD_READ, 0, 0, 4096, 9);
	bench_play(&b, &s);
	assert_int_equal(b.volume.queued, 7);
	b.hold = false;
	bench_run(&b);
	assert_int_equal(bench_reply(&b).number, 9);
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_a_client_that_does_not_read_is_bounded_and_keeps_its_connection(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	b.loop.sockets[b.client].deaf = true;
	for (uint32_t i = 0; i < 1000; i++)
		script_request(&s, NBD_CMD_READ, 0, 0, 4096, i);
	bench_play(&b, &s);
	assert_int_equal(b.server->connections[0].request_count, NBD_REQUESTS_MAX);
	for (int i = 0; i < 60; i++) {			/* nobody waits for what it holds */
		loopback_sleep(&b.loop, NBD_TICK_NS);
		bench_run(&b);
	}
	b.loop.sockets[b.client].deaf = false;
	bench_run(&b);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(bench_reply(&b).error, 0);
	bench_end(&b);
	free(s.bytes);
}

/* @deaf: it takes no reply; else it sends half of a write. */
static void holder_is_cut_off(bool deaf)
{
	struct script s = { 0 };
	struct bench b;
	int holder, silent;

	bench_begin_sized(&b, 4, 8 * BLOCK_BYTES);
	silent = b.client;
	bench_connect(&b, true);
	holder = bench_connect_another(&b, true);
	b.loop.sockets[holder].deaf = deaf;
	if (deaf)
		script_request(&s, NBD_CMD_READ, 0, 0, 6 * BLOCK_BYTES, 1);
	else
		script_write(&s, 0, 0, 6 * BLOCK_BYTES, 1);
	s.len -= !deaf;
	bench_play(&b, &s);
	bench_connect_another(&b, true);
	script_request(&s, NBD_CMD_READ, 0, 0, 6 * BLOCK_BYTES, 2);
	bench_play(&b, &s);
	assert_true(bench_nothing_more(&b));
	for (int i = 0; i < 29; i++) {
		loopback_sleep(&b.loop, NBD_TICK_NS);
		bench_run(&b);
	}
	assert_false(b.loop.sockets[holder].server_closed);
	loopback_sleep(&b.loop, 2 * NBD_TICK_NS);
	bench_run(&b);
	assert_true(b.loop.sockets[holder].server_closed);
	assert_int_equal(bench_reply(&b).number, 2);
	assert_false(b.loop.sockets[silent].server_closed);
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_who_holds_what_others_wait_for_and_does_not_read_is_cut_off(void **state)
{
	(void)state;
	holder_is_cut_off(true);
}

static void nbd_stream_who_holds_what_others_wait_for_and_does_not_send_is_cut_off(void **state)
{
	(void)state;
	holder_is_cut_off(false);
}

static void nbd_stream_disconnect_is_heeded_after_all_replies(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	b.hold = true;
	script_request(&s, NBD_CMD_READ, 0, 0, 40000, 1);
	script_request(&s, NBD_CMD_READ, 0, 0, 4000, 2);
	script_request(&s, NBD_CMD_DISC, 0, 0, 0, 0);
	bench_play(&b, &s);
	assert_false(bench_is_cut_off(&b));
	b.hold = false;
	bench_run(&b);
	assert_int_equal(bench_reply(&b).data_len, 40000);
	assert_int_equal(bench_reply(&b).data_len, 4000);
	assert_true(bench_nothing_more(&b) && bench_is_cut_off(&b));
	bench_end(&b);
	free(s.bytes);
}

static void nbd_stream_last_replies_have_ten_seconds_to_be_taken(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	b.loop.sockets[b.client].deaf = true;
	script_request(&s, NBD_CMD_READ, 0, 0, 40000, 1);
	script_request(&s, NBD_CMD_DISC, 0, 0, 0, 0);
	bench_play(&b, &s);
	assert_false(bench_is_cut_off(&b));
	loopback_sleep(&b.loop, NBD_LEAVE_NS);
	bench_run(&b);
	assert_true(bench_is_cut_off(&b));
	bench_end(&b);
	free(s.bytes);
}

/* ---- the server ---------------------------------------------------------------------------------- */

static void nbd_stream_stop_waits_for_requests_in_flight(void **state)
{
	struct script s = { 0 };
	bool stopped = false;
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	b.hold = true;
	script_write(&s, 0, 0, 4096, 1);
	script_request(&s, NBD_CMD_READ, 0, 0, MIB, 2);
	script_write(&s, 0, 0, MIB, 3);
	s.len -= 100;
	bench_play(&b, &s);
	nbd_server_stop(b.server, bench_stop_done, &stopped);
	bench_run(&b);
	assert_true(bench_is_cut_off(&b) && !stopped);
	b.hold = false;
	bench_run(&b);
	assert_true(stopped && bench_nothing_more(&b));
	nbd_server_free(b.server);
	memory_volume_end(&b.volume);
	loopback_end(&b.loop);
	free(s.bytes);
}

static void nbd_stream_stop_may_come_before_the_end_of_a_turn(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	b.hold = true;
	script_request(&s, NBD_CMD_FLUSH, 0, 0, 0, 1);
	bench_play(&b, &s);
	memory_volume_step(&b.volume);
	bench_end(&b);			/* the reply is queued, its send is not begun */
	free(s.bytes);
}

static void nbd_stream_one_client_too_many_is_turned_away_and_may_come_back(void **state)
{
	struct bench b;
	int first, refused;
	(void)state;

	bench_begin_sized(&b, 1, 1 << 20);
	first = b.client;
	bench_connect(&b, false);
	refused = loopback_dial(&b.loop);
	bench_run(&b);
	assert_true(b.loop.sockets[refused].server_closed);
	assert_int_equal(b.loop.sockets[refused].to_client.len, 0);
	loopback_hang_up(&b.loop, first);
	bench_run(&b);
	bench_connect_another(&b, false);
	b.loop.accept_error = -EMFILE;			/* the loop is told again by the next tick */
	loopback_dial(&b.loop);
	bench_run(&b);
	assert_false(b.server->listeners[0].accept.in_flight);
	loopback_sleep(&b.loop, NBD_TICK_NS);
	bench_run(&b);
	assert_true(b.server->listeners[0].accept.in_flight);
	bench_end(&b);
}

/* From another machine; one that is served, and those of this machine, stay whatever their number. */
static void nbd_stream_strangers_have_few_places_and_the_oldest_goes(void **state)
{
	struct bench b;
	int served, strangers[NBD_STRANGERS_MAX + 1];
	(void)state;

	bench_begin_sized(&b, 22, 8 << 20);
	served = bench_connect_another(&b, false);
	b.server->connections[1].tls_required = b.server->connections[1].tls = true;
	b.server->listeners[0].tls_required = true;
	for (unsigned i = 0; i <= NBD_STRANGERS_MAX; i++) {
		strangers[i] = loopback_dial(&b.loop);
		bench_run(&b);
	}
	assert_true(b.loop.sockets[strangers[0]].server_closed);
	for (unsigned i = 1; i <= NBD_STRANGERS_MAX; i++)
		assert_false(b.loop.sockets[strangers[i]].server_closed);
	assert_false(b.loop.sockets[served].server_closed);
	assert_false(b.loop.sockets[1].server_closed);		/* it came by another address, and has not chosen yet */
	bench_end(&b);
}

static void nbd_stream_only_this_machine_is_listened_to(void **state)
{
	static const struct { const char *address; int error; } tried[] = {
		{ "0.0.0.0:10809", -EPERM }, { "192.168.1.1:1", -EPERM }, { "[::]:1", -EPERM },
		{ "127.evil.org:1", -EINVAL },
		{ "example.org:1", -EINVAL }, { "[::1%eth0]:1", -EPERM }, { "", -EINVAL }, { "unix:", -EINVAL },
		{ "127.0.0.1", -EINVAL }, { "127.0.0.1:10809", 0 }, { "[::1]:10809", 0 }, { "127.1.2.3:1", 0 },
		{ "unix:/x", 0 },
	};
	(void)state;

	for (size_t i = 0; i < sizeof tried / sizeof tried[0]; i++) {
		struct memory_volume volume;
		struct nbd_server *server;
		struct loopback loop;
		bool stopped = false;
		struct nbd_backend backend;

		loopback_init(&loop, 1);
		memory_volume_init(&volume, BLOCK_BYTES);
		backend = memory_volume_backend(&volume);
		assert_int_equal(nbd_server_new_backend(&server, &loop.io, &backend, "db0", 1, 1 << 20), 0);
		assert_int_equal(nbd_server_listen(server, tried[i].address), tried[i].error);
		if (!tried[i].error)
			assert_int_equal(nbd_server_listen(server, tried[i].address), -EADDRINUSE);
		nbd_server_stop(server, bench_stop_done, &stopped);
		while (loopback_step(&loop))
			;
		assert_true(stopped);
		nbd_server_free(server);
		memory_volume_end(&volume);
		loopback_end(&loop);
	}
}

static void nbd_stream_without_memory_there_is_no_server_and_no_leak(void **state)
{
	struct memory_volume volume;
	struct nbd_backend backend;
	(void)state;

	memory_volume_init(&volume, BLOCK_BYTES);
	backend = memory_volume_backend(&volume);
	for (size_t fail_at = 1; fail_at <= 5; fail_at++) {
		struct nbd_server *server;
		struct loopback loop;

		loopback_init(&loop, 1);
		loop.allocations_fail_at = fail_at;
		assert_int_equal(nbd_server_new_backend(&server, &loop.io, &backend, "db0", 1, 1 << 20), -ENOMEM);
		loopback_end(&loop);
	}
	memory_volume_end(&volume);
}

static void nbd_stream_buffers_never_overlap_and_join_again(void **state)
{
	enum { PAGES = 97, HELD = 40 };
	struct { uint8_t *at; uint32_t pages; } held[HELD] = { 0 };
	struct nbd_buffers buffers;
	struct loopback loop;
	(void)state;

	loopback_init(&loop, test_seed_first(3));
	assert_int_equal(nbd_buffers_init(&buffers, &loop.io, PAGES * BLOCK_BYTES), 0);
	for (int round = 0; round < 100000; round++) {
		unsigned i = loopback_random(&loop) % HELD;

		if (held[i].at) {
			for (uint32_t page = 0; page < held[i].pages; page++)
				assert_int_equal(held[i].at[(size_t)page * BLOCK_BYTES], i);
			nbd_buffers_put(&buffers, held[i].at);
			held[i].at = NULL;
			continue;
		}
		held[i].pages = 1 + loopback_random(&loop) % (loopback_random(&loop) % 8 ? 4 : PAGES);
		held[i].at = nbd_buffers_take(&buffers, held[i].pages);
		if (held[i].at)
			memset(held[i].at, (int)i, (size_t)held[i].pages * BLOCK_BYTES);
	}
	for (int i = 0; i < HELD; i++)
		if (held[i].at)
			nbd_buffers_put(&buffers, held[i].at);
	assert_true(nbd_buffers_has(&buffers, PAGES));
	nbd_buffers_free(&buffers, &loop.io);
	loopback_end(&loop);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(nbd_stream_replies_do_not_depend_on_how_the_stream_is_split),
	cmocka_unit_test(nbd_stream_may_end_at_any_byte_and_the_server_goes_on),
	cmocka_unit_test(nbd_stream_a_refused_write_is_answered_when_all_its_data_has_come),
	cmocka_unit_test(nbd_stream_a_thousand_requests_are_answered_once_each_in_any_order),
	cmocka_unit_test(nbd_stream_replies_of_one_turn_are_sent_at_once),
	cmocka_unit_test(nbd_stream_small_and_large_replies_of_one_turn_are_all_sent),
	cmocka_unit_test(nbd_stream_requests_in_flight_have_buffers_of_their_own),
	cmocka_unit_test(nbd_stream_buffers_stay_taken_until_the_ops_on_them_have_ended),
	cmocka_unit_test(nbd_stream_replies_to_a_client_that_is_gone_are_dropped),
	cmocka_unit_test(nbd_stream_with_room_for_one_request_all_are_served_in_turn),
	cmocka_unit_test(nbd_stream_a_large_request_is_not_overtaken_for_ever),
	cmocka_unit_test(nbd_stream_a_newcomer_queues_behind_those_who_wait),
	cmocka_unit_test(nbd_stream_a_client_that_does_not_read_is_bounded_and_keeps_its_connection),
	cmocka_unit_test(nbd_stream_who_holds_what_others_wait_for_and_does_not_read_is_cut_off),
	cmocka_unit_test(nbd_stream_who_holds_what_others_wait_for_and_does_not_send_is_cut_off),
	cmocka_unit_test(nbd_stream_disconnect_is_heeded_after_all_replies),
	cmocka_unit_test(nbd_stream_last_replies_have_ten_seconds_to_be_taken),
	cmocka_unit_test(nbd_stream_stop_waits_for_requests_in_flight),
	cmocka_unit_test(nbd_stream_stop_may_come_before_the_end_of_a_turn),
	cmocka_unit_test(nbd_stream_one_client_too_many_is_turned_away_and_may_come_back),
	cmocka_unit_test(nbd_stream_strangers_have_few_places_and_the_oldest_goes),
	cmocka_unit_test(nbd_stream_only_this_machine_is_listened_to),
	cmocka_unit_test(nbd_stream_without_memory_there_is_no_server_and_no_leak),
	cmocka_unit_test(nbd_stream_buffers_never_overlap_and_join_again),
};
TEST_GROUP(nbd_stream, tests)
