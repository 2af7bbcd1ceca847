/* SPDX-License-Identifier: Apache-2.0 */
/* The bench is strict: what it cannot parse, and what comes beyond, fails the test. */
#include <stdlib.h>
#include <string.h>

#include "nbd_bench.h"

/* ---- a client's bytes ---------------------------------------------------------------------------- */

void script_add(struct script *s, const void *bytes, size_t len)
{
	if (s->len + len > s->allotted) {
		s->allotted = 2 * (s->len + len);
		s->bytes = realloc(s->bytes, s->allotted);
		assert_non_null(s->bytes);
	}
	if (len)
		memcpy(s->bytes + s->len, bytes, len);
	s->len += len;
}

static void script_add16(struct script *s, unsigned value)
{
	be16 wire = to_be16((uint16_t)value);

	script_add(s, &wire, sizeof wire);
}

void script_add32(struct script *s, uint32_t value)
{
	be32 wire = to_be32(value);

	script_add(s, &wire, sizeof wire);
}

void script_option(struct script *s, uint32_t code, const void *data, size_t len)
{
	struct nbd_option wire = { to_be64(NBD_OPTION_MAGIC), to_be32(code), to_be32((uint32_t)len) };

	script_add(s, &wire, sizeof wire);
	script_add(s, data, len);
}

void script_go(struct script *s, uint32_t code, const char *name, unsigned count)
{
	struct script data = { 0 };

	script_add32(&data, (uint32_t)strlen(name));
	script_add(&data, name, strlen(name));
	script_add16(&data, count);
	for (unsigned i = 0; i < count; i++)
		script_add16(&data, i);
	script_option(s, code, data.bytes, data.len);
	free(data.bytes);
}

void script_meta(struct script *s, uint32_t code, const char *name, unsigned count, const char *const *queries)
{
	struct script data = { 0 };

	script_add32(&data, (uint32_t)strlen(name));
	script_add(&data, name, strlen(name));
	script_add32(&data, count);
	for (unsigned i = 0; i < count; i++) {
		script_add32(&data, (uint32_t)strlen(queries[i]));
		script_add(&data, queries[i], strlen(queries[i]));
	}
	script_option(s, code, data.bytes, data.len);
	free(data.bytes);
}

const char *const script_allocation[] = { "base:allocation" };

void script_handshake(struct script *s, bool structured)
{
	script_add32(s, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	if (structured) {
		script_option(s, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		script_meta(s, NBD_OPT_SET_META_CONTEXT, "db0", 1, script_allocation);
	}
	script_go(s, NBD_OPT_GO, "db0", 0);
}

void script_request(struct script *s, unsigned command, unsigned flags, uint64_t offset, uint32_t len,
			uint32_t number)
{
	uint64_t data_len = command == NBD_CMD_READ ? len : 0;
	struct nbd_request_header wire = { to_be32(NBD_REQUEST_MAGIC), to_be16((uint16_t)flags),
					   to_be16((uint16_t)command), to_be64(data_len << 32 | number),
					   to_be64(offset), to_be32(len) };

	script_add(s, &wire, sizeof wire);
}

uint8_t script_pattern(uint64_t offset, uint32_t number)
{
	return (uint8_t)((offset * 0x9e3779b1u + number * 77u) >> 7 | 1);
}

void script_write(struct script *s, unsigned flags, uint64_t offset, uint32_t len, uint32_t number)
{
	script_request(s, NBD_CMD_WRITE, flags, offset, len, number);
	for (uint32_t i = 0; i < len; i++) {
		uint8_t byte = script_pattern(offset + i, number);

		script_add(s, &byte, 1);
	}
}

/* ---- the bench ----------------------------------------------------------------------------------- */

void bench_run(struct bench *b)
{
	while (loopback_step(&b->loop) || (!b->hold && memory_volume_step(&b->volume)))
		;
}

void bench_begin_sized(struct bench *b, unsigned clients, uint64_t buffer_bytes)
{
	struct nbd_backend backend;

	memset(b, 0, sizeof *b);
	loopback_init(&b->loop, 1);
	memory_volume_init(&b->volume, VOLUME);
	backend = memory_volume_backend(&b->volume);
	assert_int_equal(nbd_server_new_backend(&b->server, &b->loop.io, &backend, "db0", clients,
						buffer_bytes), 0);
	/* What one client left in a buffer shall not be seen by another. */
	memset(b->server->buffers.memory, 0xaa, b->server->buffers.page_count * (size_t)BLOCK_BYTES);
	assert_int_equal(nbd_server_listen(b->server, "unix:/run/db0.nbd"), 0);
	b->client = loopback_dial(&b->loop);
	bench_run(b);
	b->seen = sizeof(struct nbd_greeting);
}

void bench_begin(struct bench *b)
{
	bench_begin_sized(b, 4, 80 << 20);
}

void bench_stop_done(void *context)
{
	*(bool *)context = true;
}

void bench_end(struct bench *b)
{
	bool stopped = false;

	b->hold = false;
	nbd_server_stop(b->server, bench_stop_done, &stopped);
	assert_false(stopped);
	bench_run(b);
	assert_true(stopped);
	nbd_server_free(b->server);
	memory_volume_end(&b->volume);
	loopback_end(&b->loop);
}

void bench_play(struct bench *b, struct script *s)
{
	loopback_put(&b->loop, b->client, s->bytes, s->len);
	s->len = 0;
	bench_run(b);
}

bool bench_is_cut_off(const struct bench *b)
{
	return b->loop.sockets[b->client].server_closed;
}

const uint8_t *bench_next(struct bench *b, size_t len)
{
	const struct loopback_queue *q = &b->loop.sockets[b->client].to_client;

	assert_true(q->len - b->seen >= len);
	b->seen += len;
	return q->bytes + b->seen - len;
}

bool bench_nothing_more(const struct bench *b)
{
	return b->loop.sockets[b->client].to_client.len == b->seen;
}

void bench_connect(struct bench *b, bool structured)
{
	struct script s = { 0 };

	script_handshake(&s, structured);
	b->structured = structured;
	bench_play(b, &s);
	b->seen = b->loop.sockets[b->client].to_client.len;
	assert_false(bench_is_cut_off(b));
	free(s.bytes);
}

int bench_connect_another(struct bench *b, bool structured)
{
	b->client = loopback_dial(&b->loop);
	bench_connect(b, structured);
	return b->client;
}

uint32_t bench_option_reply(struct bench *b, uint32_t option, const uint8_t **data, uint32_t *len)
{
	struct nbd_option_reply wire;

	memcpy(&wire, bench_next(b, sizeof wire), sizeof wire);
	assert_true(from_be64(wire.magic) == NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(from_be32(wire.code), option);
	*len = from_be32(wire.len);
	*data = bench_next(b, *len);
	return from_be32(wire.reply);
}

uint32_t bench_only_option_reply(struct bench *b, uint32_t option)
{
	const uint8_t *data;
	uint32_t len, reply = bench_option_reply(b, option, &data, &len);

	assert_true(bench_nothing_more(b));
	return reply;
}

static struct reply reply_simple(struct bench *b)
{
	struct nbd_simple_reply wire;
	struct reply r = { 0 };

	memcpy(&wire, bench_next(b, sizeof wire), sizeof wire);
	r.number = (uint32_t)from_be64(wire.cookie);
	r.error = from_be32(wire.error);
	r.data_len = r.error ? 0 : (uint32_t)(from_be64(wire.cookie) >> 32);
	r.data = bench_next(b, r.data_len);
	return r;
}

static struct reply reply_chunk(struct bench *b)
{
	struct nbd_chunk wire;
	struct reply r = { 0 };
	be32 error;
	size_t head;

	memcpy(&wire, bench_next(b, sizeof wire), sizeof wire);
	assert_int_equal(from_be16(wire.flags), NBD_CHUNK_DONE);
	r.number = (uint32_t)from_be64(wire.cookie);
	if (from_be16(wire.type) == NBD_CHUNK_ERROR) {
		memcpy(&error, bench_next(b, from_be32(wire.len)), sizeof error);
		assert_int_equal(from_be32(wire.len), 6);
		r.error = from_be32(error);
		return r;
	}
	head = from_be16(wire.type) == NBD_CHUNK_OFFSET_DATA ? 8 : 4;
	r.data_len = from_be32(wire.len) - (uint32_t)head;
	r.data = bench_next(b, head + r.data_len) + head;
	return r;
}

struct reply bench_reply(struct bench *b)
{
	be32 magic;

	memcpy(&magic, bench_next(b, sizeof magic), sizeof magic);
	b->seen -= sizeof magic;
	if (from_be32(magic) == NBD_SIMPLE_REPLY_MAGIC)
		return reply_simple(b);
	assert_int_equal(from_be32(magic), NBD_CHUNK_MAGIC);
	assert_true(b->structured);
	return reply_chunk(b);
}

uint32_t bench_ask(struct bench *b, unsigned command, unsigned flags, uint64_t offset, uint32_t len)
{
	struct script s = { 0 };
	struct reply r;

	if (command == NBD_CMD_WRITE)
		script_write(&s, flags, offset, len, 7);
	else
		script_request(&s, command, flags, offset, len, 7);
	bench_play(b, &s);
	free(s.bytes);
	r = bench_reply(b);
	assert_int_equal(r.number, 7);
	assert_true(bench_nothing_more(b));
	return r.error;
}

void bench_assert_written(const struct bench *b, uint64_t offset, uint32_t len, uint32_t number)
{
	for (uint64_t i = offset; i < offset + len; i++)
		assert_int_equal(b->volume.bytes[i], script_pattern(i, number));
}
