/* SPDX-License-Identifier: Apache-2.0 */
/* Ops stand in one list in the order of their submits; a step completes the first that can complete, and
 * an IO_SOON only when no other can. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "loopback.h"

static struct loopback *loopback_of(struct io *io)
{
	return container_of(io, struct loopback, io);
}

uint64_t loopback_random(struct loopback *l)
{
	l->seed += 0x9e3779b97f4a7c15ull;
	uint64_t x = l->seed;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t now_ns(struct io *io)
{
	return loopback_of(io)->now;
}

static void random_bytes(struct io *io, void *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)loopback_random(loopback_of(io));
}

static void *io_alloc(struct io *io, size_t bytes, unsigned flags)
{
	struct loopback *l = loopback_of(io);
	void *memory;

	(void)flags;
	if (l->allocations_fail_at > 0 && --l->allocations_fail_at == 0)
		return NULL;
	memory = aligned_alloc(bytes >= 4096 ? 4096 : 16, round_up(bytes, bytes >= 4096 ? 4096 : 16));
	CHECK(memory);
	memset(memory, 0, bytes);
	l->allocations++;
	return memory;
}

static void io_free(struct io *io, void *memory)
{
	loopback_of(io)->allocations -= memory != NULL;
	free(memory);
}

static void submit(struct io *io, struct io_op *op)
{
	struct loopback *l = loopback_of(io);

	CHECK(!op->in_flight && l->op_count < LOOPBACK_OPS);
	CHECK(op->done);
	op->in_flight = 1;
	op->private[0] = NULL;			/* not cancelled */
	op->private[1] = (void *)(uintptr_t)(op->kind == IO_TIMER ? l->now + op->offset : 0);
	l->ops[l->op_count++] = op;
}

static void cancel(struct io *io, struct io_op *op)
{
	(void)io;
	if (op->in_flight)
		op->private[0] = op;
}

static int io_listen(struct io *io, const char *address, int *socket)
{
	struct loopback *l = loopback_of(io);

	(void)address;
	if (l->listening)
		return -EADDRINUSE;
	l->listening = true;
	*socket = 0;
	return 0;
}

static void io_close(struct io *io, int socket)
{
	struct loopback *l = loopback_of(io);

	if (socket == 0) {
		CHECK(l->listening);
		l->listening = false;
	} else {
		CHECK(l->sockets[socket].open && !l->sockets[socket].server_closed);
		l->sockets[socket].server_closed = true;
	}
	for (size_t i = 0; i < l->op_count; i++)
		if (l->ops[i]->file == socket && l->ops[i]->kind >= IO_ACCEPT && l->ops[i]->kind <= IO_RECV)
			cancel(io, l->ops[i]);
}

static void io_log(struct io *io, enum io_level level, const char *line)
{
	(void)io;
	(void)level;
	(void)line;
}

void loopback_init(struct loopback *l, uint64_t seed)
{
	*l = (struct loopback){ .seed = seed, .now = 1 };
	l->io = (struct io){ .now_ns = now_ns, .wall_ns = now_ns, .random = random_bytes, .alloc = io_alloc,
			     .free = io_free, .submit = submit, .cancel = cancel, .listen = io_listen,
			     .close = io_close, .log = io_log };
}

void loopback_end(struct loopback *l)
{
	CHECK(l->op_count == 0);
	CHECK(l->allocations == 0);
	for (int i = 0; i < LOOPBACK_SOCKETS; i++) {
		free(l->sockets[i].to_server.bytes);
		free(l->sockets[i].to_client.bytes);
	}
}

static void queue_put(struct loopback_queue *q, const void *bytes, size_t len)
{
	if (q->len + len > q->allotted) {
		q->allotted = 2 * (q->len + len);
		q->bytes = realloc(q->bytes, q->allotted);
		CHECK(q->bytes);
	}
	if (len > 0)
		memcpy(q->bytes + q->len, bytes, len);
	q->len += len;
}

int loopback_dial(struct loopback *l)
{
	for (int i = 1; i < LOOPBACK_SOCKETS; i++)
		if (!l->sockets[i].open) {
			l->sockets[i].open = true;
			return i;
		}
	CHECK(!"a free socket");
	return -1;
}

void loopback_put(struct loopback *l, int socket, const void *bytes, size_t len)
{
	queue_put(&l->sockets[socket].to_server, bytes, len);
}

void loopback_hang_up(struct loopback *l, int socket)
{
	l->sockets[socket].client_closed = true;
}

void loopback_received_clear(struct loopback *l, int socket)
{
	l->sockets[socket].to_client.len = 0;
}

void loopback_forget(struct loopback *l, int socket)
{
	struct loopback_socket *s = &l->sockets[socket];

	CHECK(s->server_closed);
	s->open = s->accepted = s->client_closed = s->server_closed = s->deaf = false;
	s->to_server.len = s->to_server.taken = s->to_client.len = 0;
}

static bool accept_result(struct loopback *l, int64_t *result)
{
	if (l->accept_error) {
		*result = l->accept_error;
		l->accept_error = 0;
		return true;
	}
	for (int i = 1; i < LOOPBACK_SOCKETS; i++)
		if (l->sockets[i].open && !l->sockets[i].accepted) {
			l->sockets[i].accepted = true;
			*result = i;
			return true;
		}
	return false;
}

static bool recv_result(struct loopback *l, struct io_op *op, int64_t *result)
{
	struct loopback_socket *s = &l->sockets[op->file];
	uint64_t len = min_u64(op->len, s->to_server.len - s->to_server.taken);

	if (len == 0 && !s->client_closed)
		return false;
	if (l->recv_max == UINT64_MAX && len > 0)
		len = 1 + loopback_random(l) % min_u64(len, 1ull << loopback_random(l) % 24);
	else if (l->recv_max > 0)
		len = min_u64(len, l->recv_max);
	if (len > 0)
		memcpy(op->data, s->to_server.bytes + s->to_server.taken, len);
	s->to_server.taken += len;
	*result = (int64_t)len;
	return true;
}

static bool send_result(struct loopback *l, struct io_op *op, int64_t *result)
{
	struct loopback_socket *s = &l->sockets[op->file];

	if (s->deaf && !s->client_closed)
		return false;
	*result = s->client_closed ? -EPIPE : (int64_t)op->len;
	if (!s->client_closed)
		queue_put(&s->to_client, op->data, op->len);
	return true;
}

static bool op_result(struct loopback *l, struct io_op *op, bool soon, int64_t *result)
{
	*result = -ECANCELED;
	if (op->private[0])
		return true;
	*result = 0;
	switch (op->kind) {
	case IO_ACCEPT:
		return accept_result(l, result);
	case IO_RECV:
		return recv_result(l, op, result);
	case IO_SEND:
		return send_result(l, op, result);
	case IO_TIMER:
		return (uintptr_t)op->private[1] <= l->now;
	case IO_SOON:
		return soon;
	default:
		CHECK(!"an op of a network server");
		return false;
	}
}

bool loopback_step(struct loopback *l)
{
	int64_t result;

	for (int soon = 0; soon < 2; soon++)
		for (size_t i = 0; i < l->op_count; i++) {
			struct io_op *op = l->ops[i];

			if (!op_result(l, op, soon, &result))
				continue;
			l->op_count--;
			memmove(&l->ops[i], &l->ops[i + 1], (l->op_count - i) * sizeof l->ops[0]);
			op->in_flight = 0;
			op->done(op, result);
			return true;
		}
	return false;
}

void loopback_sleep(struct loopback *l, uint64_t ns)
{
	l->now += ns;
}
