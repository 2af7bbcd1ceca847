/* SPDX-License-Identifier: Apache-2.0 */
/* Encrypted links over the simulated network: machines a and b with their own keys, strangers, and a wire that delays,
 * cuts, resets and ends at any moment. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "links_parts.h"
#include "run.h"
#include "sim/world.h"

static const uint8_t uuid[UUID_BYTES] = { 9 };
static struct identity *identities[2];

/* An op of "the engine". */
struct call { struct io_op op; bool done; int64_t result; };

struct side {
	struct machine *machine;
	struct volume_config volume;
	struct links *links;
	struct io *io;
	int listening, socket;
	struct call dial, accept, send, recv;
	uint64_t sent, received, total;
	bool failed, ended;
	uint8_t out[300000], in[200000];
};
static struct side sides[2];			/* a dials, b listens */
static const char *come_from;			/* what the address of the next connection is; NULL = not known */
static struct world *world;
static bool stopped[2];

static void address_tell(void *context, int socket, char out[ADDRESS_BYTES])
{
	(void)context;
	(void)socket;
	strcpy(out, come_from ? come_from : "somewhere");
}

static void identity_make(unsigned at, const char *node)
{
	char directory[64] = "/tmp/holdfast-links.XXXXXX", why[WHY_BYTES];

	assert_non_null(mkdtemp(directory));
	assert_int_equal(identity_create(directory, node, uuid, why), 0);
	assert_int_equal(identity_load(&identities[at], directory, node, uuid, why), 0);
	identity_remove(directory);
}

static int setup(void **state)
{
	(void)state;
	identity_make(0, "a");
	identity_make(1, "b");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	identity_free(identities[0]);
	identity_free(identities[1]);
	return 0;
}

/* Another peer, that has no fingerprint, of the listening side. */
enum other { NOBODY, IN_THE_CLEAR, NOT_ALLOWED };

static void side_start(unsigned at, enum other other)
{
	struct side *s = &sides[at];
	struct links_config config = { .volume = &s->volume, .identity = identities[at], .address = address_tell };
	char why[WHY_BYTES];

	memset(s, 0, sizeof *s);
	s->machine = world_machine(world, at ? "b" : "a");
	s->socket = s->listening = -1;
	s->volume = (struct volume_config){
		.name = "v", .peer_count = other == NOBODY ? 1 : 2, .insecure_loopback = other == IN_THE_CLEAR,
		.peers = { { .name = "", .pinned = true }, { .name = "plain", .address = "plain:1" } },
	};
	strcpy(s->volume.peers[0].name, at ? "a" : "b");
	strcpy(s->volume.peers[0].address, at ? "a:1" : "b:1");
	identity_fingerprint(identities[!at], s->volume.peers[0].fingerprint);
	assert_int_equal(links_new(&s->links, machine_io(s->machine), &config, why), 0);
	s->io = links_io(s->links);
	if (at)
		assert_int_equal(s->io->listen(s->io, "b:1", &s->listening), 0);
}

static void start(uint64_t seed, enum other other)
{
	world = world_new(seed);
	side_start(0, NOBODY);
	side_start(1, other);
	stopped[0] = stopped[1] = false;
}

static void stop_done(void *context)
{
	*(bool *)context = true;
}

static bool stop_busy(void *context)
{
	return !*(bool *)context;
}

static void stop(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct side *s = &sides[i];

		if (s->listening >= 0)
			s->io->close(s->io, s->listening);
		links_stop(s->links, stop_done, &stopped[i]);
		assert_true(world_run_while(world, stop_busy, &stopped[i], SECONDS));
		assert_false(s->dial.op.in_flight || s->accept.op.in_flight || s->send.op.in_flight ||
			     s->recv.op.in_flight);
		links_free(s->links);
	}
	world_free(world);
}

static void call_done(struct io_op *op, int64_t result)
{
	struct call *c = container_of(op, struct call, op);

	CHECK(!c->done);
	c->done = true;
	c->result = result;
}

static bool call_busy(void *call)
{
	return !((struct call *)call)->done;
}

static void call_start(struct side *s, struct call *c, enum io_kind kind, int file, void *data, uint64_t len)
{
	*c = (struct call){ .op = { .kind = kind, .file = file, .data = data, .len = len, .done = call_done } };
	if (kind == IO_DIAL) {
		c->op.address = "b:1";
		c->op.node = "b";
	}
	s->io->submit(s->io, &c->op);
	CHECK(!c->done);
}

static int64_t call_wait(struct call *c, uint64_t limit_ns)
{
	assert_true(world_run_while(world, call_busy, c, limit_ns));
	return c->result;
}

static void connect_sides(void)
{
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	call_start(&sides[0], &sides[0].dial, IO_DIAL, 0, NULL, 0);
	sides[0].socket = (int)call_wait(&sides[0].dial, 4 * SECONDS);
	sides[1].socket = (int)call_wait(&sides[1].accept, 4 * SECONDS);
	assert_true(sides[0].socket >= 0 && sides[1].socket >= 0);
}

/* ---- streams, both ways ---- */

static uint8_t byte_at(unsigned side, uint64_t at)
{
	return (uint8_t)((at + side * 77) * 0x9e3779b97f4a7c15 >> 56);
}

static void stream_sent(struct io_op *op, int64_t result);
static void stream_received(struct io_op *op, int64_t result);

static void stream_send(struct side *s)
{
	uint64_t len = min_u64(1 + world_random_below(world, sizeof s->out), s->total - s->sent);

	if (len == 0 || s->failed)
		return;
	for (uint64_t i = 0; i < len; i++)
		s->out[i] = byte_at((unsigned)(s - sides), s->sent + i);
	s->send.op = (struct io_op){ .kind = IO_SEND, .file = s->socket, .data = s->out, .len = len,
				     .done = stream_sent };
	s->io->submit(s->io, &s->send.op);
}

static void stream_receive(struct side *s)
{
	s->recv.op = (struct io_op){ .kind = IO_RECV, .file = s->socket, .data = s->in,
				     .len = 1 + world_random_below(world, sizeof s->in), .done = stream_received };
	s->io->submit(s->io, &s->recv.op);
}

static void stream_sent(struct io_op *op, int64_t result)
{
	struct side *s = container_of(op, struct side, send.op);

	CHECK(result < 0 || result == (int64_t)op->len);
	s->failed |= result < 0;
	s->sent += result > 0 ? (uint64_t)result : 0;
	memset(s->out, 0xee, sizeof s->out);	/* it is the sender's again */
	stream_send(s);
}

static void stream_received(struct io_op *op, int64_t result)
{
	struct side *s = container_of(op, struct side, recv.op);
	unsigned from = s == sides;

	CHECK(result <= (int64_t)op->len);
	if (result <= 0) {
		s->failed |= result < 0;
		s->ended = true;
		return;
	}
	for (int64_t i = 0; i < result; i++)
		CHECK(s->in[i] == byte_at(from, s->received + (uint64_t)i));
	s->received += (uint64_t)result;
	stream_receive(s);
}

static void streams_start(uint64_t bytes)
{
	for (unsigned i = 0; i < 2; i++) {
		sides[i].total = bytes;
		stream_receive(&sides[i]);
		stream_send(&sides[i]);
	}
}

static bool streams_busy(void *context)
{
	(void)context;
	return sides[0].received < sides[1].total || sides[1].received < sides[0].total;
}

static bool streams_open(void *context)
{
	(void)context;
	return !sides[0].ended || !sides[1].ended;
}

static void links_pass_both_streams_whole_and_say_who_is_there(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0, count = test_seed_count(5); i < count; i++) {
		start(first + i, NOBODY);
		connect_sides();
		assert_string_equal(sides[0].io->socket_node(sides[0].io, sides[0].socket), "b");
		assert_string_equal(sides[1].io->socket_node(sides[1].io, sides[1].socket), "a");
		streams_start(3 << 20);
		for (unsigned cuts = 0; cuts < 4; cuts++) {
			world_cut(world, sides[cuts & 1].machine, sides[!(cuts & 1)].machine, true);
			world_run_for(world, world_random_below(world, 20 * MILLISECONDS));
			world_heal(world);
			world_run_for(world, world_random_below(world, 5 * MILLISECONDS));
		}
		assert_true(world_run_while(world, streams_busy, NULL, 60 * SECONDS));
		/* The end is told, after the last byte. */
		sides[0].io->close(sides[0].io, sides[0].socket);
		world_run_for(world, SECONDS);
		assert_true(sides[1].ended && !sides[1].failed);
		sides[1].io->close(sides[1].io, sides[1].socket);
		stop();
	}
}

static void links_that_break_are_an_error_on_both_sides_and_no_byte_is_wrong(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0, count = test_seed_count(10); i < count; i++) {
		start(first + i, NOBODY);
		connect_sides();
		streams_start(64 << 20);
		world_run_for(world, world_random_below(world, 60 * MILLISECONDS));
		world_reset(world, sides[0].machine, sides[1].machine);
		assert_true(world_run_while(world, streams_open, NULL, 10 * SECONDS));
		assert_true(sides[0].failed && sides[1].failed);
		for (unsigned j = 0; j < 2; j++)
			sides[j].io->close(sides[j].io, sides[j].socket);
		/* And the next one is as good as the first. */
		for (unsigned j = 0; j < 2; j++) {
			sides[j].failed = sides[j].ended = false;
			sides[j].sent = sides[j].received = 0;
		}
		world_run_for(world, 100 * MILLISECONDS);
		connect_sides();
		streams_start(1 << 20);
		assert_true(world_run_while(world, streams_busy, NULL, 60 * SECONDS));
		stop();
	}
}

/* Whatever is under way. stop() finds that each op has had its done(), once, and that nothing is left. */
static void links_end_in_every_state_when_they_are_stopped_closed_or_cancelled(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0, count = test_seed_count(150); i < count; i++) {
		start(first + i, NOBODY);
		call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
		call_start(&sides[0], &sides[0].dial, IO_DIAL, 0, NULL, 0);
		world_run_for(world, world_random_below(world, 4 * MILLISECONDS));
		switch (world_random_below(world, 4)) {
		case 0:
			sides[0].io->cancel(sides[0].io, &sides[0].dial.op);
			break;
		case 1:
			sides[1].io->cancel(sides[1].io, &sides[1].accept.op);
			break;
		case 2:
			sides[1].io->close(sides[1].io, sides[1].listening);
			sides[1].listening = -1;
			break;
		}
		world_run_for(world, world_random_below(world, 4 * MILLISECONDS));
		if (sides[0].dial.done && sides[0].dial.result >= 0) {
			sides[0].socket = (int)sides[0].dial.result;
			sides[0].total = 1 << 20;
			stream_send(&sides[0]);
			stream_receive(&sides[0]);
			world_run_for(world, world_random_below(world, 2 * MILLISECONDS));
			if (world_random_below(world, 2))
				sides[0].io->close(sides[0].io, sides[0].socket);
		}
		stop();
	}
}

/* ---- strangers ---- */

enum { CROWD = 60 };
static struct call crowd[CROWD];

/* Connections from a machine with no key, in the clear: what they get is what the plain network gives. */
static struct io *crowd_dial(unsigned count)
{
	struct machine *m = world_machine(world, "stranger");
	struct io *io = machine_io(m);

	for (unsigned i = 0; i < count; i++) {
		crowd[i] = (struct call){ .op = { .kind = IO_DIAL, .address = "b:1", .done = call_done } };
		io->submit(io, &crowd[i].op);
	}
	for (unsigned i = 0; i < count; i++)
		assert_true(call_wait(&crowd[i], SECONDS) >= 0);
	return io;
}

static struct call say_call, hear_call;
static uint8_t heard[100];

static void say_plain(struct io *io, int socket, const char *text)
{
	say_call = (struct call){ .op = { .kind = IO_SEND, .file = socket, .data = (void *)(uintptr_t)text,
					  .len = strlen(text), .done = call_done } };
	io->submit(io, &say_call.op);
	call_wait(&say_call, SECONDS);
}

static int64_t hear_plain(struct io *io, int socket)
{
	hear_call = (struct call){ .op = { .kind = IO_RECV, .file = socket, .data = heard, .len = sizeof heard,
					   .done = call_done } };
	io->submit(io, &hear_call.op);
	return call_wait(&hear_call, 20 * SECONDS);
}

static void links_of_idle_strangers_do_not_keep_a_peer_out(void **state)
{
	struct io *io;

	(void)state;
	start(test_seed_first(1), NOBODY);
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	io = crowd_dial(CROWD);
	say_plain(io, (int)crowd[CROWD - 1].result, "\x16\x03\x01");
	call_start(&sides[0], &sides[0].dial, IO_DIAL, 0, NULL, 0);
	assert_true(call_wait(&sides[0].dial, 100 * MILLISECONDS) >= 0);
	/* Of them not one is handed on, and after 5 s none is left. */
	sides[1].socket = (int)call_wait(&sides[1].accept, SECONDS);
	assert_string_equal(sides[1].io->socket_node(sides[1].io, sides[1].socket), "a");
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	world_run_for(world, 6 * SECONDS);
	assert_false(sides[1].accept.done);
	for (unsigned i = 0; i < CROWD; i++)
		assert_true(hear_plain(io, (int)crowd[i].result) <= 0);
	stop();
}

/* One connection from @address, that begins as TLS does and goes on with something else: what it gets is an alert, or 0
 * when it was not even heard. */
static int64_t stranger_speaks(const char *address)
{
	char text[5 + 257 + 1];
	struct io *io;
	int64_t result;

	memset(text, 'x', sizeof text);
	memcpy(text, "\x16\x03\x01\x01\x01", 5);
	text[sizeof text - 1] = '\0';
	come_from = address;
	io = crowd_dial(1);
	say_plain(io, (int)crowd[0].result, text);
	result = hear_plain(io, (int)crowd[0].result);
	io->close(io, (int)crowd[0].result);
	come_from = NULL;
	return result;
}

static unsigned failures_of(unsigned tries, const char *address)
{
	unsigned heard_count = 0;

	for (unsigned i = 0; i < tries; i++)
		heard_count += stranger_speaks(address) > 0;
	return heard_count;
}

static void links_address_that_fails_again_and_again_waits_longer_each_time(void **state)
{
	uint64_t wait = LINK_WAIT_NS;

	(void)state;
	start(test_seed_first(1), NOBODY);
	strcpy(sides[1].volume.peers[0].address, "10.0.0.1:7701");
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	assert_int_equal(failures_of(LINK_FAILURES_FREE + 3, "10.9.9.9:1"), LINK_FAILURES_FREE + 1);
	assert_int_equal(failures_of(1, "10.9.9.9:2"), 0);
	assert_int_equal(failures_of(1, "10.9.9.8:2"), 1);
	assert_int_equal(failures_of(LINK_FAILURES_FREE + 9, "10.0.0.1:5"), LINK_FAILURES_FREE + 9);
	/* A host has many addresses in its /64. */
	assert_int_equal(failures_of(LINK_FAILURES_FREE + 1, "[2001:db8::1]:1"), LINK_FAILURES_FREE + 1);
	assert_int_equal(failures_of(1, "[2001:db8::ffff:2%eth0]:1"), 0);
	assert_int_equal(failures_of(1, "[2001:db8:0:1::1]:1"), 1);
	world_run_for(world, wait);
	for (unsigned i = 0; i < 9; i++) {
		assert_int_equal(failures_of(1, "10.9.9.9:3"), 1);
		assert_int_equal(failures_of(1, "10.9.9.9:3"), 0);
		wait = min_u64(2 * wait, LINK_WAIT_MAX_NS);
		world_run_for(world, wait / 2);
		assert_int_equal(failures_of(1, "10.9.9.9:3"), 0);
		world_run_for(world, wait / 2);
	}
	world_run_for(world, LINK_FORGET_NS + SECONDS);
	assert_int_equal(failures_of(LINK_FAILURES_FREE + 2, "10.9.9.9:1"), LINK_FAILURES_FREE + 1);
	assert_false(sides[1].accept.done);
	stop();
}

static void links_address_is_forgotten_when_one_from_there_proves_itself_or_others_come(void **state)
{
	char address[32];

	(void)state;
	start(test_seed_first(1), NOBODY);
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	failures_of(LINK_FAILURES_FREE, "10.9.9.9:1");
	come_from = "10.9.9.9:4";
	call_start(&sides[0], &sides[0].dial, IO_DIAL, 0, NULL, 0);
	assert_true(call_wait(&sides[0].dial, SECONDS) >= 0);
	assert_true(call_wait(&sides[1].accept, SECONDS) >= 0);
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	come_from = NULL;
	assert_int_equal(failures_of(LINK_FAILURES_FREE + 1, "10.9.9.9:1"), LINK_FAILURES_FREE + 1);
	assert_int_equal(failures_of(1, "10.9.9.9:1"), 0);
	for (unsigned i = 0; i < LINK_ADDRESSES; i++) {
		snprintf(address, sizeof address, "10.8.0.%u:1", i);
		failures_of(1, address);
	}
	assert_int_equal(failures_of(1, "10.9.9.9:1"), 1);
	stop();
}

/* However many come from elsewhere, those who come from where a peer is are not sent away for them. */
static void links_strangers_from_elsewhere_do_not_take_the_places_of_peers(void **state)
{
	struct call *call = &sides[0].dial;

	(void)state;
	start(test_seed_first(1), NOBODY);
	strcpy(sides[1].volume.peers[0].address, "10.0.0.1:7701");
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	come_from = "10.0.0.1:5";
	world_link(world, sides[0].machine, sides[1].machine)->latency_min_ns = SECONDS;
	world_link(world, sides[0].machine, sides[1].machine)->latency_max_ns = SECONDS;
	call_start(&sides[0], call, IO_DIAL, 0, NULL, 0);
	world_run_for(world, 1500 * MILLISECONDS);	/* it is accepted, and its next bytes are on their way */
	come_from = "10.7.7.7:1";
	crowd_dial(CROWD);
	assert_true(call_wait(call, 4 * SECONDS) >= 0);
	come_from = NULL;
	stop();
}

static void links_take_nothing_in_the_clear_unless_the_config_allows_it(void **state)
{
	struct io *io;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		start(test_seed_first(1), i ? NOT_ALLOWED : NOBODY);
		call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
		io = crowd_dial(1);
		say_plain(io, (int)crowd[0].result, "HLFN");
		assert_true(hear_plain(io, (int)crowd[0].result) <= 0);
		assert_false(sides[1].accept.done);
		stop();
	}
}

static void links_in_the_clear_are_passed_on_as_nobodys_where_a_peer_has_no_fingerprint(void **state)
{
	struct side *b = &sides[1];
	struct io *io;

	(void)state;
	start(test_seed_first(1), IN_THE_CLEAR);
	call_start(b, &b->accept, IO_ACCEPT, b->listening, NULL, 0);
	io = crowd_dial(1);
	say_plain(io, (int)crowd[0].result, "HLFN");
	b->socket = (int)call_wait(&b->accept, SECONDS);
	assert_string_equal(b->io->socket_node(b->io, b->socket), "");
	call_start(b, &b->recv, IO_RECV, b->socket, b->in, sizeof b->in);
	assert_int_equal(call_wait(&b->recv, SECONDS), 1);
	call_start(b, &b->recv, IO_RECV, b->socket, b->in + 1, sizeof b->in - 1);
	call_wait(&b->recv, SECONDS);
	assert_memory_equal(b->in, "HL", 2);
	assert_string_equal(b->io->socket_node(b->io, b->socket), "");
	call_start(b, &b->send, IO_SEND, b->socket, b->in, 4);
	assert_int_equal(call_wait(&b->send, SECONDS), 4);
	b->io->close(b->io, b->socket);
	/* Who has a fingerprint comes encrypted all the same. */
	connect_sides();
	assert_string_equal(b->io->socket_node(b->io, b->socket), "a");
	stop();
}

/* ---- a dial that comes to nothing ---- */

static void links_dial_gives_up_on_who_says_nothing_and_says_so(void **state)
{
	struct machine *mute;
	int listening;

	(void)state;
	start(test_seed_first(1), NOBODY);
	sides[1].io->close(sides[1].io, sides[1].listening);
	sides[1].listening = -1;
	mute = sides[1].machine;
	assert_int_equal(machine_io(mute)->listen(machine_io(mute), "b:1", &listening), 0);
	call_start(&sides[0], &sides[0].dial, IO_DIAL, 0, NULL, 0);
	assert_int_equal(call_wait(&sides[0].dial, 6 * SECONDS), -ETIMEDOUT);
	assert_non_null(sides[0].dial.op.why);
	assert_non_null(strstr(sides[0].dial.op.why, "no encrypted link to node b at b:1: after 5 s"));
	machine_io(mute)->close(machine_io(mute), listening);
	stop();
}

static void links_dial_to_nobody_fails_as_any_dial_does(void **state)
{
	(void)state;
	start(test_seed_first(1), NOBODY);
	sides[1].io->close(sides[1].io, sides[1].listening);
	sides[1].listening = -1;
	call_start(&sides[0], &sides[0].dial, IO_DIAL, 0, NULL, 0);
	assert_int_equal(call_wait(&sides[0].dial, SECONDS), -ECONNREFUSED);
	assert_null(sides[0].dial.op.why);
	stop();
}

static void links_refuse_a_wrong_key_on_both_sides(void **state)
{
	struct links_config config = { .volume = &sides[0].volume, .identity = identities[0] };
	char why[WHY_BYTES];

	(void)state;
	start(test_seed_first(1), NOBODY);
	links_free(sides[0].links);
	sides[0].volume.peers[0].fingerprint[3] ^= 1;
	assert_int_equal(links_new(&sides[0].links, machine_io(sides[0].machine), &config, why), 0);
	sides[0].io = links_io(sides[0].links);
	call_start(&sides[1], &sides[1].accept, IO_ACCEPT, sides[1].listening, NULL, 0);
	call_start(&sides[0], &sides[0].dial, IO_DIAL, 0, NULL, 0);
	assert_int_equal(call_wait(&sides[0].dial, SECONDS), -EKEYREJECTED);
	assert_non_null(strstr(sides[0].dial.op.why, "is not the one that the config has as fingerprint of node b"));
	world_run_for(world, 6 * SECONDS);
	assert_false(sides[1].accept.done);
	stop();
}

static uint64_t updates_of(struct side *s)
{
	for (struct link *l = s->links->all; l < s->links->all + LINKS_MAX; l++)
		if (l->state == LINK_OPEN)
			return tls_key_updates(l->tls);
	fail();
	return 0;
}

static void links_keys_have_their_time_however_little_is_sent(void **state)
{
	uint8_t byte = 1, got;

	(void)state;
	start(test_seed_first(1), NOBODY);
	connect_sides();
	for (unsigned hour = 0; hour < 4; hour++) {
		for (unsigned i = 0; i < 3; i++) {
			call_start(&sides[1], &sides[1].recv, IO_RECV, sides[1].socket, &got, 1);
			call_start(&sides[0], &sides[0].send, IO_SEND, sides[0].socket, &byte, 1);
			assert_int_equal(call_wait(&sides[1].recv, SECONDS), 1);
			assert_int_equal(call_wait(&sides[0].send, SECONDS), 1);
		}
		assert_int_equal(updates_of(&sides[0]), hour);
		assert_int_equal(updates_of(&sides[1]), 0);	/* each for what it sends itself */
		world_run_for(world, LINK_KEY_NS);
	}
	stop();
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
	FACT(links_pass_both_streams_whole_and_say_who_is_there),
	FACT(links_that_break_are_an_error_on_both_sides_and_no_byte_is_wrong),
	FACT(links_end_in_every_state_when_they_are_stopped_closed_or_cancelled),
	FACT(links_of_idle_strangers_do_not_keep_a_peer_out),
	FACT(links_address_that_fails_again_and_again_waits_longer_each_time),
	FACT(links_address_is_forgotten_when_one_from_there_proves_itself_or_others_come),
	FACT(links_strangers_from_elsewhere_do_not_take_the_places_of_peers),
	FACT(links_keys_have_their_time_however_little_is_sent),
	FACT(links_take_nothing_in_the_clear_unless_the_config_allows_it),
	FACT(links_in_the_clear_are_passed_on_as_nobodys_where_a_peer_has_no_fingerprint),
	FACT(links_dial_gives_up_on_who_says_nothing_and_says_so),
	FACT(links_dial_to_nobody_fails_as_any_dial_does),
	FACT(links_refuse_a_wrong_key_on_both_sides),
};
TEST_GROUP(links, tests)
