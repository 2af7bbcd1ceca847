/* SPDX-License-Identifier: Apache-2.0 */
/* A whole volume, node b of a, b and c, with a stranger on the wire: node a dials it, node c is dialed. Any bytes as
 * their streams must never crash, hang or leak, and the volume must still close.
 *
 * The first byte chooses: which connection is used first, whether a good HELLO goes before, whether b is primary,
 * the journal's block, the mode, and whether the rest is the stream itself or a program: frames that are
 * well-formed and of which some field is odd, what b's own clients and operator do, and time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../sim/world.h"
#include "volume_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_DIALED = 1, FUZZ_HELLO = 2, FUZZ_PRIMARY = 4, FUZZ_BLOCK = 8, FUZZ_RAW = 16, FUZZ_FOLLOW = 32 };
enum { OUT_BYTES = 160 << 10, STEPS_MAX = 120, WRITES = 8 };

/* One end that we hold of a connection to b. */
struct wire {
	struct machine *machine;
	int socket;
	bool dials;
	struct io_op open, send, recv;
	uint8_t in[8192];
	uint8_t *out;
	uint32_t out_len;
	const char *node;
};

struct write { struct volume_request request; bool busy; uint8_t *data; };

static struct world *world;
static struct machine *b;
static struct volume *volume;
static struct wire wires[2];
static struct write writes[WRITES];
static int listening;
static struct volume_call call;
static bool call_busy, open_done;
static const uint8_t *input, *input_end;

static unsigned take(void)
{
	return input < input_end ? *input++ : 0;
}

static uint64_t take_number(void)
{
	unsigned how = take();
	uint64_t low = take();

	switch (how % 8) {
	case 0: return low;
	case 1: return low * 512;
	case 2: return volume->log.closed.lsn + low * 8;
	case 3: return volume->log.closed.lsn - low * 8;
	case 4: return volume->log.end.lsn;
	case 5: return UINT64_MAX - low;
	case 6: return history_last_number(&volume->history) + low;
	}
	return low << (how / 8 * 2);
}

static void run_ms(uint64_t ms)
{
	world_run_for(world, ms * MILLISECONDS);
}

/* ---- the wire ---- */

static void wire_read(struct wire *wire);

static void wire_received(struct io_op *op, int64_t result)
{
	struct wire *wire = container_of(op, struct wire, recv);

	if (result > 0)
		wire_read(wire);
}

static void wire_read(struct wire *wire)
{
	struct io *io = machine_io(wire->machine);

	if (wire->socket < 0 || wire->recv.in_flight)
		return;
	wire->recv = (struct io_op){ .kind = IO_RECV, .file = wire->socket, .data = wire->in, .len = sizeof wire->in,
				     .done = wire_received };
	io->submit(io, &wire->recv);
}

static void wire_sent(struct io_op *op, int64_t result)
{
	(void)op;
	(void)result;
}

static void wire_opened(struct io_op *op, int64_t result)
{
	struct wire *wire = container_of(op, struct wire, open);

	if (result < 0)
		return;
	if (wire->socket >= 0) {
		machine_io(wire->machine)->close(machine_io(wire->machine), (int)result);
		return;
	}
	wire->socket = (int)result;
	wire_read(wire);
}

static void wire_open(struct wire *wire)
{
	struct io *io = machine_io(wire->machine);

	if (wire->open.in_flight || wire->socket >= 0)
		return;
	wire->open = (struct io_op){ .kind = wire->dials ? IO_DIAL : IO_ACCEPT, .file = wire->dials ? 0 : listening,
				     .address = wire->dials ? "b:1" : NULL, .done = wire_opened };
	io->submit(io, &wire->open);
	for (unsigned i = 0; i < 12 && wire->socket < 0; i++)
		run_ms(100);
}

static void wire_close(struct wire *wire)
{
	if (wire->socket >= 0)
		machine_io(wire->machine)->close(machine_io(wire->machine), wire->socket);
	wire->socket = -1;
	for (unsigned i = 0; i < 20 && (wire->send.in_flight || wire->recv.in_flight); i++)
		run_ms(1);
	CHECK(!wire->send.in_flight && !wire->recv.in_flight);
	wire->out_len = 0;
}

static void wire_flush(struct wire *wire)
{
	struct io *io = machine_io(wire->machine);

	if (wire->socket < 0 || wire->out_len == 0 || wire->send.in_flight)
		return;
	wire->send = (struct io_op){ .kind = IO_SEND, .file = wire->socket, .data = wire->out, .len = wire->out_len,
				     .done = wire_sent };
	io->submit(io, &wire->send);
	for (unsigned i = 0; i < 4 && wire->send.in_flight; i++)
		run_ms(1);
	run_ms(1);
	if (!wire->send.in_flight)
		wire->out_len = 0;
}

static void wire_put(struct wire *wire, const void *bytes, size_t len)
{
	if (wire->send.in_flight || len > OUT_BYTES - wire->out_len)
		return;
	memcpy(wire->out + wire->out_len, bytes, len);
	wire->out_len += (uint32_t)len;
}

/* A frame, of which the program may spoil one byte of header or body. */
static void wire_put_frame(struct wire *wire, enum frame_type type, const void *body, uint32_t length)
{
	static _Alignas(8) uint8_t frame[OUT_BYTES];
	unsigned spoil = take();

	CHECK(sizeof(struct frame_header) + length <= sizeof frame);
	memcpy(frame + sizeof(struct frame_header), body, length);
	frame_seal((struct frame_header *)(void *)frame, type, length);
	if (spoil > 240)
		frame[take() % (sizeof(struct frame_header) + length)] ^= (uint8_t)take();
	wire_put(wire, frame, sizeof(struct frame_header) + length);
	if (spoil % 4)
		wire_flush(wire);
}

/* ---- frames ---- */

static void put_hello(struct wire *wire, enum volume_role role, unsigned odd)
{
	static struct { struct frame_hello hello; struct epoch_entry epochs[HISTORY_MAX]; } h;
	uint32_t count = volume->history.count;

	memset(&h, 0, sizeof h.hello);
	h.hello = (struct frame_hello){
		.version_min = to_le16(1), .version_max = to_le16(1), .role = to_le16((uint16_t)role),
		.mode = to_le16((uint16_t)(odd % 4)), .volume_bytes = to_le64(volume->geometry.volume_bytes),
		.segment_bytes = to_le32(volume->geometry.segment_bytes),
		.journal_block = to_le32(volume->geometry.journal_block), .end = frame_position_of(&volume->log.closed),
		.durable = to_le64(volume->log.closed.lsn), .commit = to_le64(volume->commit),
		.flags = to_le32(HELLO_CLEAR),
	};
	memcpy(h.hello.uuid, volume->geometry.uuid, UUID_BYTES);
	strcpy(h.hello.node, wire->node);
	strcpy(h.hello.to, "b");
	memcpy(h.epochs, volume->history.epochs, count * sizeof h.epochs[0]);
	if (odd & 4 && count < HISTORY_MAX) {		/* an epoch that b lacks */
		struct epoch_entry e = { .number = to_le64(take_number()),
					 .start = to_le64(take_number()),
					 .node = "x" };

		e.uuid[3] = (uint8_t)take();
		h.epochs[count++] = e;
	}
	if (odd & 8 && count)				/* one that b has is missing */
		count--;
	if (odd & 16)
		h.hello.end.lsn = to_le64(take_number());
	if (odd & 32)
		h.hello.promised = to_le64(take_number());
	if (odd & 64)
		h.hello.durable = to_le64(take_number());
	if (odd & 128)
		((uint8_t *)&h.hello)[take() % sizeof h.hello] ^= (uint8_t)take();
	h.hello.epoch_count = to_le32(count);
	wire_put_frame(wire, FRAME_HELLO, &h, (uint32_t)(sizeof h.hello + count * sizeof h.epochs[0]));
}

static uint32_t deltas_make(struct record_delta *deltas, uint32_t count)
{
	uint32_t payload = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t length = 1 + (take() << take() % 6), kind = DELTA_DATA + take() % 3;
		uint64_t offset = (uint64_t)take() * 1024 + take();

		if (kind == DELTA_DATA)
			length = 1 + length % 1500;
		deltas[i] = (struct record_delta){ to_le64(offset), to_le32(length), to_le16((uint16_t)kind), { 0 } };
		payload += kind == DELTA_DATA ? length : 0;
	}
	return payload;
}

/* A record that follows @at, and @at moves behind it. */
static uint32_t record_make(uint8_t *to, struct position *at, uint64_t *epoch, unsigned how)
{
	struct record_header *r = (void *)to;
	uint32_t block = volume->geometry.journal_block, count = how & 1 ? 1 + take() % 5 : 0, payload = 0;
	struct record_delta *deltas = (void *)(r + 1);

	memset(to, 0, 8192);
	r->magic = to_le32(RECORD_MAGIC);
	r->version = to_le16(RECORD_VERSION);
	r->lsn = to_le64(at->lsn);
	r->epoch = to_le64(*epoch);
	memcpy(r->hash, at->hash, HASH_BYTES);
	r->volume_tag = to_le32(record_volume_tag(&volume->geometry));
	if (how % 8 == 6) {
		struct epoch_entry e = { .number = to_le64(how & 128 ? take_number() : *epoch + 1),
					 .start = to_le64(at->lsn), .node = "a" };

		e.uuid[1] = (uint8_t)take();
		memcpy(e.hash, at->hash, HASH_BYTES);
		memcpy(r + 1, &e, sizeof e);
		*epoch = from_le64(e.number);
		r->epoch = e.number;
		r->kind = to_le16(RECORD_EPOCH);
		r->annotation_len = to_le32(sizeof e);
		r->length = to_le32(RECORD_HEADER_BYTES + sizeof e);
	} else if (how % 8 == 2 || how % 8 == 4) {
		uint64_t pad = round_up(at->lsn + RECORD_HEADER_BYTES, block) - at->lsn;

		if (how % 8 == 4 && how & 64)		/* to the end of the segment */
			pad = round_up(at->lsn + 1, volume->geometry.segment_bytes) - at->lsn;
		r->kind = to_le16(RECORD_PAD);
		r->length = to_le32((uint32_t)pad);
	} else {
		payload = deltas_make(deltas, count);
		r->kind = to_le16(RECORD_DATA);
		r->delta_count = to_le32(count);
		r->payload_len = to_le32(payload);
		memset(deltas + count, (int)how, payload);
		r->length = to_le32((uint32_t)(RECORD_HEADER_BYTES + count * sizeof *deltas + round_up(payload, 8)));
	}
	if (how > 250)
		to[take() % record_wire_length(r)] ^= (uint8_t)take();
	/* Odd lengths may travel, but the next record stands aligned. */
	if (record_wire_length(r) < RECORD_HEADER_BYTES || record_wire_length(r) > 8192)
		r->length = to_le32(8192);
	record_next(r, at);
	return (uint32_t)round_up(record_wire_length(r), 8);
}

static void put_log(struct wire *wire)
{
	static struct { struct frame_log log; uint8_t records[64 << 10]; } f;
	struct position at = volume->log.end;
	uint64_t epoch = volume->log.epoch;
	unsigned count = take() % 6, odd = take();
	uint32_t length = 0;

	f.log.first = to_le64(at.lsn);
	f.log.commit = to_le64(odd & 1 ? take_number() : volume->commit);
	f.log.want_durable = to_le64(odd & 2 ? take_number() : 0);
	for (unsigned i = 0; i < count && length < 40000; i++)
		length += record_make(f.records + length, &at, &epoch, take());
	f.log.end = to_le64(odd & 4 ? take_number() : at.lsn);
	if (odd & 8)
		f.log.first = to_le64(take_number());
	if (odd > 200)
		length = (uint32_t)round_down(length / 2, 8);
	if (length > frame_log_max(&volume->geometry))
		length = frame_log_max(&volume->geometry);
	wire_put_frame(wire, FRAME_LOG, &f, (uint32_t)sizeof f.log + length);
}

/* ---- frames of a resync, and of a split brain ---- */

static uint64_t take_block(void)
{
	return take() & 7 ? take() % (volume->geometry.volume_bytes / BLOCK_BYTES) : take_number();
}

static void put_ask(struct wire *wire)
{
	struct frame_ask ask = { .at = frame_position_of(&volume->log.closed), .snapshot = to_le64(take() % 3) };
	unsigned odd = take();

	if (odd & 1)
		ask.id = odd & 2 ? to_le64(volume->lacks.at[wire == &wires[1]].place->id) : to_le64(take_number());
	ask.base = to_le64(odd & 4 ? take_number() : volume->log.closed.lsn);
	if (odd & 8)
		ask.at.lsn = to_le64(round_down(take_number(), volume->geometry.journal_block));
	wire_put_frame(wire, FRAME_ASK, &ask, sizeof ask);
}

static void put_want(struct wire *wire)
{
	static struct { struct frame_want want; struct frame_range ranges[FRAME_RANGES_MAX]; } f;
	uint32_t count = take() % 8;

	for (uint32_t i = 0; i < count; i++)
		f.ranges[i] = (struct frame_range){ to_le64(take_block()), to_le64(take()) };
	f.want.count = to_le64(take() & 31 ? count : take_number());
	wire_put_frame(wire, FRAME_WANT, &f, (uint32_t)(sizeof f.want + count * sizeof f.ranges[0]));
}

static void put_begin(struct wire *wire)
{
	static struct { struct frame_begin begin; struct epoch_entry epochs[HISTORY_MAX]; } f;
	uint32_t count = volume->history.count;
	unsigned odd = take();

	f.begin = (struct frame_begin){
		.id = to_le64(1 + take() % 2), .at = frame_position_of(&volume->log.closed),
		.commit = to_le64(volume->commit), .blocks = to_le64(odd & 1 ? take_number() : 3),
		.flags = to_le32(odd & 2 ? BEGIN_GOES_ON : 0),
	};
	if (odd & 4)
		f.begin.id = to_le64(volume->meta.resync.id);
	if (odd & 8)
		f.begin.at.lsn = to_le64(round_down(take_number(), volume->geometry.journal_block));
	if (odd & 16)
		f.begin.at.hash[0] ^= 1;
	memcpy(f.epochs, volume->history.epochs, count * sizeof f.epochs[0]);
	if (odd & 32 && count < HISTORY_MAX) {
		f.epochs[count] = (struct epoch_entry){ .number = to_le64(take_number()),
							.start = to_le64(take_number()), .node = "x" };
		f.epochs[count++].uuid[3] = (uint8_t)take();
	}
	if (odd & 64 && count)
		count--;
	f.begin.epoch_count = to_le32(count);
	wire_put_frame(wire, FRAME_BEGIN, &f, (uint32_t)(sizeof f.begin + count * sizeof f.epochs[0]));
}

static void put_blocks(struct wire *wire)
{
	static struct { struct frame_blocks blocks; uint8_t tail[FRAME_BLOCKS_MAX * BLOCK_BYTES]; } f;
	uint32_t kind = 1 + take() % 3, count = 1 + take() % 4, length = 0;
	unsigned odd = take();

	f.blocks = (struct frame_blocks){
		.sequence = to_le64(odd & 1 ? take_number() : 1 + take()),
		.count = to_le32(count),
		.kind = to_le32(kind),
		.lsn = to_le64(odd & 2 ? take_number() : volume->log.end.lsn),
		.first = to_le64(take_block()),
		.left = to_le64(odd & 4 ? take_number() : 5),
	};
	if (odd & 8)
		f.blocks.count = to_le32((uint32_t)take_number());
	memset(f.tail, (int)odd, 4 * BLOCK_BYTES);
	if (kind != BLOCKS_ZERO)
		length = count * (kind == BLOCKS_DATA ? (uint32_t)BLOCK_BYTES : (uint32_t)HASH_BYTES);
	wire_put_frame(wire, FRAME_BLOCKS, &f, (uint32_t)sizeof f.blocks + length);
}

static void put_small_resync(struct wire *wire, unsigned which)
{
	struct frame_need need = { .what = to_le32(1 + take() % 2) };
	struct frame_taken taken = { to_le64(take() % 9), to_le64(take() % 9),
				     to_le64(take() & 1 ? UINT64_MAX : take()), to_le64(take() % 4 == 0) };
	struct frame_done done = { to_le64(take() & 3 ? volume->meta.resync.id : take_number()),
				   to_le64(take() & 3 ? volume->log.closed.lsn : take_number()) };
	struct frame_side side = { .fork = to_le64(take_number()), .blocks = to_le64(take_number()),
				   .last_ns = to_le64(take_number()), .role = to_le16(take() % 2),
				   .keep = to_le16(take() % 2), .policy = to_le16(take() % SPLIT_POLICIES),
				   .known = to_le32(take() % 2) };

	switch (which % 4) {
	case 0: wire_put_frame(wire, FRAME_NEED, &need, sizeof need); return;
	case 1: wire_put_frame(wire, FRAME_TAKEN, &taken, sizeof taken); return;
	case 2: wire_put_frame(wire, FRAME_DONE, &done, sizeof done); return;
	case 3: wire_put_frame(wire, FRAME_SIDE, &side, sizeof side); return;
	}
}

static void put_resync(struct wire *wire, unsigned which)
{
	switch (which % 8) {
	case 0: put_ask(wire); return;
	case 1: put_want(wire); return;
	case 2: put_begin(wire); return;
	case 3: put_blocks(wire); return;
	default: put_small_resync(wire, which);
	}
}

/* ---- verify and fetch: at, below or above what b has ---- */

static uint64_t take_lsn(void)
{
	return take() & 1 ? volume->log.end.lsn + 8 * take() : take_number();
}

static void put_verify(struct wire *wire)
{
	static struct { struct frame_repair repair; uint8_t bytes[16 * BLOCK_BYTES]; } f;
	static struct { struct frame_verify verify; uint8_t hashes[16 * HASH_BYTES]; } g;
	unsigned count = 1 + take() % 13;
	uint64_t mask = take() + 1;

	if (take() & 1) {
		f.repair = (struct frame_repair){ to_le64(take()), to_le64(take_lsn()), to_le64(take() % 64),
						  to_le64(mask) };
		memset(f.bytes, (int)mask, sizeof f.bytes);
		wire_put_frame(wire, FRAME_REPAIR, &f, (uint32_t)sizeof f.repair +
			       (uint32_t)__builtin_popcountll(mask) * BLOCK_BYTES);
		return;
	}
	g.verify = (struct frame_verify){ to_le64(take()), to_le64(take_lsn()), to_le64(take() % 64), to_le32(count),
					  to_le32(0) };
	memset(g.hashes, (int)count, sizeof g.hashes);
	wire_put_frame(wire, FRAME_VERIFY, &g, (uint32_t)sizeof g.verify + count * HASH_BYTES);
}

static uint64_t take_id(void)
{
	unsigned odd = take();

	return odd & 1 ? volume->fetches.ids : odd & 2 ? volume->verify.ids : odd;
}

static void put_fetch(struct wire *wire)
{
	static struct { struct frame_fetched fetched; uint8_t bytes[BLOCK_BYTES]; } f;
	struct frame_fetch fetch = { to_le64(take()), to_le64(take_lsn()), to_le64(take() % 64) };
	struct frame_verified verified = { to_le64(take_id()), to_le64(take()), to_le32(take() & 1), to_le32(0) };
	unsigned found = take() & 1;

	switch (take() % 3) {
	case 0:
		wire_put_frame(wire, FRAME_FETCH, &fetch, sizeof fetch);
		return;
	case 1:
		wire_put_frame(wire, FRAME_VERIFIED, &verified, sizeof verified);
		return;
	}
	f.fetched = (struct frame_fetched){ to_le64(take_id()), to_le64(take_lsn()), to_le64(take() % 64),
					    to_le32(found), to_le32(0) };
	memset(f.bytes, 1, sizeof f.bytes);
	wire_put_frame(wire, FRAME_FETCHED, &f, (uint32_t)sizeof f.fetched + found * BLOCK_BYTES);
}

static void put_raw(struct wire *wire)
{
	size_t len = take() % 64;

	if (len > (size_t)(input_end - input))
		len = (size_t)(input_end - input);
	wire_put(wire, input, len);
	input += len;
	wire_flush(wire);
}

static void put_frame(struct wire *wire, unsigned which)
{
	if (which & 16) {
		put_resync(wire, take());
		return;
	}
	switch (which % 8) {
	case 0:
		put_hello(wire, take() % 2 ? ROLE_PRIMARY : ROLE_SECONDARY, take());
		return;
	case 1: {
		struct position at = volume->log.closed;
		struct frame_start start;

		if (take() & 1)
			at = volume->meta.tail;
		else if (take() & 1)
			at.lsn = take_number();
		start.at = frame_position_of(&at);
		wire_put_frame(wire, FRAME_START, &start, sizeof start);
		return;
	}
	case 2:
		put_log(wire);
		return;
	case 3: {
		uint64_t n = volume->log.closed.lsn;
		struct frame_ack ack = { to_le64(n), to_le64(n), to_le64(n), to_le64(n), to_le64(n) };

		if (take() & 1)
			ack = (struct frame_ack){ to_le64(take_number()), to_le64(take_number()),
						  to_le64(take_number()), to_le64(take_number()),
						  to_le64(volume->log.end.lsn) };
		wire_put_frame(wire, FRAME_ACK, &ack, sizeof ack);
		return;
	}
	case 4: {
		struct frame_ping ping = { to_le64(take_number()), to_le64(take_number()),
					   to_le64(volume->log.end.lsn), to_le64(take_number()) };

		wire_put_frame(wire, FRAME_PING, &ping, sizeof ping);
		return;
	}
	case 5: {
		struct { struct frame_role role; char text[32]; } f = {
			.role = { .ask = to_le16((uint16_t)take()), .number = to_le64(take_number()),
				  .at = frame_position_of(&volume->log.closed) }, .text = "because %s" };

		if (take() & 1)
			f.role.at.lsn = to_le64(take_number());
		wire_put_frame(wire, FRAME_ROLE, &f, (uint32_t)sizeof f.role + 8 * (take() % 5));
		return;
	}
	case 6: {
		struct { struct frame_error error; char text[32]; } f = {
			.error = { .code = to_le32(take() % 10), .detail = to_le64(take_number()) }, .text = "no\n%n" };

		wire_put_frame(wire, FRAME_ERROR, &f, (uint32_t)sizeof f.error + 8 * (take() % 5));
		return;
	}
	case 7: put_raw(wire);
	}
}

/* ---- b's own clients and operator ---- */

static void called(struct volume_call *c, int result)
{
	(void)c;
	(void)result;
	call_busy = false;
}

static void opened(struct volume_call *c, int result)
{
	(void)c;
	CHECK(result == 0);
	open_done = true;
}

static void write_done(struct volume_request *request, int result)
{
	(void)result;
	container_of(request, struct write, request)->busy = false;
}

static void client(unsigned how)
{
	static const enum volume_op ops[] = { VOLUME_WRITE, VOLUME_FLUSH, VOLUME_DISCARD, VOLUME_READ, VOLUME_ZERO,
					      VOLUME_MAP };
	struct write *w = &writes[how % WRITES];

	if (w->busy)
		return;
	w->busy = true;
	w->request = (struct volume_request){ .op = ops[take() % 6], .flags = how & 64 ? VOLUME_FUA : 0,
		.offset = (uint64_t)take() * 512, .len = 1 + take() * 37, .buffer = w->data, .done = write_done };
	volume_submit(volume, &w->request);
}

static void operator_calls(unsigned verb, unsigned how)
{
	static void (*const verbs[])(struct volume *, struct volume_call *) = {
		volume_promote, volume_demote, volume_failover, volume_switchover, volume_reconnect, volume_resolve,
		volume_verify,
	};

	if (call_busy)
		return;
	call = (struct volume_call){ .done = called, .force = how & 1, .dry_run = how & 2 && verb % 7 != 0,
				     .repair = how & 2 };
	if (verb % 7 != 6 || how & 1)		/* a verify mostly of all peers */
		call.node[0] = "abcd"[how / 4 % 4];
	call_busy = true;
	verbs[verb % 7](volume, &call);
}

/* What must hold between any two events. */
static void invariants_check(void)
{
	const struct volume *v = volume;

	CHECK(v->journal.durable <= v->journal.written && v->journal.written <= v->log.closed.lsn);
	CHECK(v->log.closed.lsn <= v->log.end.lsn && v->applied <= v->log.end.lsn);
	CHECK(history_check(&v->history));
	/* A batch is open only while somebody may still end it. */
	if (v->role == ROLE_SECONDARY && !v->source && v->change.step == ROLE_STEP_NONE)
		CHECK(v->log.closed.lsn == v->log.end.lsn);
}

static void step(unsigned op)
{
	struct wire *wire = &wires[op >> 7];

	switch (op % 16) {
	case 5:		/* every now and then its disk cannot read */
		if (take() % 8 == 0) {
			struct disk_fault fault = { .kinds = 1u << IO_READ, .error = -EIO, .len = 4096,
						    .offset = take() % 64 * 4096u, .count = take() };

			machine_disk_fail(b, 0, &fault);
			break;
		}
		wire_open(wire);
		put_frame(wire, op);
		break;
	case 8:
		wire_open(wire);
		put_verify(wire);
		break;
	case 9:
		wire_open(wire);
		put_fetch(wire);
		break;
	case 10:
		run_ms(take());
		break;
	case 11:
		client(take());
		break;
	case 12:
		operator_calls(take(), take());
		run_ms(2);
		break;
	case 13:
		wire_close(wire);
		break;
	case 14:
		run_ms(1000 + 10 * take());
		break;
	case 15:
		run_ms(1);
		break;
	default:
		wire_open(wire);
		put_frame(wire, op);
	}
}

/* ---- the whole ---- */

static void setup(unsigned choice)
{
	struct geometry g = { .uuid = { 9, 8, 7, 6 },
			      .volume_bytes = 256 << 10,
			      .journal_bytes = 256 << 10,
			      .segment_bytes = 64 << 10,
			      .journal_block = choice & FUZZ_BLOCK ? 4096 : 512,
			      .node = "b" };
	struct volume_config config = { .geometry = g, .name = "v", .listen = "b:1", .memory_bytes = 8 << 20,
		.peer_timeout_ns = SECONDS, .min_copies = 1, .peer_count = 2, .insecure_loopback = true,
		.peers = { { .name = "a", .address = "a:1", .mode = (enum replication_mode)(choice >> 6) },
			   { .name = "c", .address = "c:1", .mode = MODE_C } } };
	static uint8_t meta[META_BYTES], header[JOURNAL_HEADER_BYTES];
	char why[WHY_BYTES];

	world = world_new(1);
	world_set_tick(world, 100 * MICROSECONDS);
	b = world_machine(world, "b");
	config.store = machine_disk(b, g.volume_bytes);
	config.journal = machine_disk(b, JOURNAL_HEADER_BYTES + g.journal_bytes);
	config.meta = machine_disk(b, META_BYTES);
	config.bitmap = machine_disk(b, replica_bitmap_bytes(&g));
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		config.undo[i] = machine_disk(b, replica_undo_bytes(&g));
	config.undo_bytes = choice & FUZZ_RAW ? 8 * BLOCK_BYTES : g.volume_bytes;
	config.resync_checksum = choice & FUZZ_BLOCK;
	replica_format(&g, meta, header);
	machine_disk_write_now(b, config.meta, 0, meta, sizeof meta);
	machine_disk_write_now(b, config.journal, 0, header, sizeof header);
	for (unsigned i = 0; i < 2; i++) {
		struct wire *wire = &wires[i];
		uint8_t *out = wire->out ? wire->out : malloc(OUT_BYTES);

		*wire = (struct wire){ .machine = world_machine(world, i ? "c" : "a"), .socket = -1, .dials = i == 0,
				       .node = i ? "c" : "a", .out = out };
	}
	CHECK(machine_io(wires[1].machine)->listen(machine_io(wires[1].machine), "c:1", &listening) == 0);
	for (unsigned i = 0; i < WRITES; i++) {
		writes[i].busy = false;
		if (!writes[i].data)
			CHECK(posix_memalign((void **)&writes[i].data, 4096, 32768) == 0);
	}
	CHECK(volume_new(&volume, machine_io(b), &config, why) == 0);
	call_busy = open_done = false;
	call = (struct volume_call){ .done = opened };
	volume_open(volume, &call);
	for (unsigned i = 0; i < 100 && !open_done; i++)
		run_ms(10);
	CHECK(open_done);
}

static void teardown(void)
{
	for (unsigned i = 0; i < 400 && call_busy; i++)
		run_ms(100);
	CHECK(!call_busy);
	/* Whatever they said, the operator can go on with it. */
	wire_close(&wires[0]);
	wire_close(&wires[1]);
	machine_io(wires[1].machine)->close(machine_io(wires[1].machine), listening);
	run_ms(3000);
	wire_close(&wires[0]);	/* what was being opened until then */
	wire_close(&wires[1]);
	operator_calls(0, 1);
	for (unsigned i = 0; i < 400 && call_busy; i++)
		run_ms(100);
	CHECK(!call_busy);
	call = (struct volume_call){ .done = called };
	call_busy = true;
	volume_close(volume, &call);
	for (unsigned i = 0; i < 400 && call_busy; i++)
		run_ms(100);
	CHECK(!call_busy);
	for (unsigned i = 0; i < WRITES; i++)
		CHECK(!writes[i].busy);
	volume_free(volume);
	CHECK(machine_memory(b) == 0);
	world_free(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned choice = size ? data[0] : 0;
	struct wire *wire = &wires[choice & FUZZ_DIALED];

	if (size < 2 || size > 8192)
		return 0;
	input = data + 1;
	input_end = data + size;
	setup(choice);
	if (choice & FUZZ_PRIMARY) {
		operator_calls(0, 1);
		run_ms(100);
	}
	if (choice & (FUZZ_HELLO | FUZZ_FOLLOW)) {
		static const uint8_t ones[1] = { 1 };
		const uint8_t *rest = input, *end = input_end;

		input = ones;		/* nothing is spoiled in this one */
		input_end = ones + 1;
		wire_open(wire);
		put_hello(wire, choice & FUZZ_FOLLOW ? ROLE_PRIMARY : ROLE_SECONDARY, 2);
		wire_flush(wire);
		input = rest;
		input_end = end;
	}
	if (choice & FUZZ_RAW) {
		wire_open(wire);
		wire_put(wire, input, (size_t)(input_end - input));
		wire_flush(wire);
		run_ms(200);
	} else {
		for (unsigned i = 0; i < STEPS_MAX && input < input_end; i++) {
			step(take());
			invariants_check();
		}
	}
	teardown();
	return 0;
}
