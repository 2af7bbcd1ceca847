/* SPDX-License-Identifier: Apache-2.0 */
/* The face to the engine: what is a link's goes to the link, everything else to the inner io as it is. */
#include <errno.h>
#include <string.h>

#include "links_parts.h"

static const struct volume_peer_config *encrypted_peer(const struct links *s, const char *node)
{
	const struct volume_config *volume = s->config.volume;

	for (unsigned i = 0; node && i < volume->peer_count; i++)
		if (peer_config_encrypted(&volume->peers[i]) && strcmp(volume->peers[i].name, node) == 0)
			return &volume->peers[i];
	return NULL;
}

/* From its second byte on, what is in the clear is the inner io's alone. */
static void clear_receive(struct link *l, struct io_op *op)
{
	struct io_op *at = NULL;

	CHECK(op->len > 0);
	link_op_begin(&at, op);
	*(uint8_t *)op->data = l->first;
	link_op_end(l->links, &at, 1);
	link_release(l);
}

static void link_submit(struct link *l, struct io_op *op)
{
	struct io_op **at = op->kind == IO_RECV ? &l->user_recv : &l->user_send;

	link_op_begin(at, op);
	if (op->kind == IO_SEND)
		l->taken = 0;
	if (l->state == LINK_FAILED)
		link_op_end(l->links, at, l->refused);
	link_step(l);
}

static void links_submit(struct io *io, struct io_op *op)
{
	struct links *s = links_of(io);
	const struct volume_peer_config *peer;
	struct link *l;

	switch (op->kind) {
	case IO_DIAL:
		peer = encrypted_peer(s, op->node);
		if (!peer)
			break;
		link_dial(s, op, peer);
		return;
	case IO_ACCEPT:
		if (op->file != s->listening)
			break;
		link_op_begin(&s->user_accept, op);
		links_accept_next(s);
		links_accept_give(s);
		return;
	case IO_SEND:
	case IO_RECV:
		l = link_find(s, op->file);
		if (l && (l->state == LINK_OPEN || l->secured)) {
			link_submit(l, op);
			return;
		}
		if (l && op->kind == IO_RECV) {
			clear_receive(l, op);
			return;
		}
		break;
	default:
		break;
	}
	s->inner->submit(s->inner, op);
}

static void links_cancel(struct io *io, struct io_op *op)
{
	struct links *s = links_of(io);

	if (!op->in_flight)
		return;
	for (struct list *at = s->ended.next; at != &s->ended; at = at->next)
		if (at == &ended_op(op)->link)
			return;			/* too late */
	if (op == s->user_accept) {
		link_op_end(s, &s->user_accept, -ECANCELED);
		return;
	}
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++) {
		if (op == l->user_dial) {
			link_shut(l);
			return;
		}
		if (op == l->user_recv || op == l->user_send) {
			l->cut |= op == l->user_send;
			link_op_end(s, op == l->user_recv ? &l->user_recv : &l->user_send, -ECANCELED);
			return;
		}
	}
	s->inner->cancel(s->inner, op);
}

static int links_listen(struct io *io, const char *address, int *socket)
{
	struct links *s = links_of(io);
	int result = s->inner->listen(s->inner, address, socket);

	if (result == 0 && !s->config.server) {
		CHECK(s->listening < 0);
		s->listening = *socket;
	}
	return result;
}

static const char *links_socket_node(struct io *io, int socket)
{
	struct links *s = links_of(io);
	struct link *l = link_find(s, socket);

	return l && l->state == LINK_OPEN ? tls_node(l->tls) : s->inner->socket_node(s->inner, socket);
}

/* The end of a stream is said only where the stream is whole. */
static void link_end(struct link *l)
{
	bool whole = (!l->user_send || l->taken == l->user_send->len) && !l->cut && !l->error;

	if ((l->state != LINK_OPEN && l->state != LINK_FAILED) || !whole) {
		link_shut(l);
		return;
	}
	link_op_end(l->links, &l->user_recv, -ECANCELED);
	link_op_end(l->links, &l->user_send, -ECANCELED);
	tls_end(l->tls);		/* of FAILED: what it has to say is there already */
	link_move(l, LINK_ENDING);
	link_deadline(l, LINK_ENDING_NS);
	link_step(l);
}

static void links_close(struct io *io, int socket)
{
	struct links *s = links_of(io);
	struct link *l = link_find(s, socket);

	if (l) {
		link_end(l);
		return;
	}
	if (socket == s->listening) {
		s->listening = -1;
		link_op_end(s, &s->user_accept, -ECANCELED);
		for (l = s->all; l < s->all + LINKS_MAX; l++)
			if (link_stranger(l))
				link_shut(l);
	}
	s->inner->close(s->inner, socket);
}

/* The rest is the inner io's. */
static uint64_t links_now_ns(struct io *io)
{
	struct io *inner = links_of(io)->inner;

	return inner->now_ns(inner);
}

static uint64_t links_wall_ns(struct io *io)
{
	struct io *inner = links_of(io)->inner;

	return inner->wall_ns(inner);
}

static void links_random(struct io *io, void *out, size_t len)
{
	struct io *inner = links_of(io)->inner;

	inner->random(inner, out, len);
}

static void *links_alloc(struct io *io, size_t bytes, unsigned flags)
{
	struct io *inner = links_of(io)->inner;

	return inner->alloc(inner, bytes, flags);
}

static void links_memory_free(struct io *io, void *memory)
{
	struct io *inner = links_of(io)->inner;

	inner->free(inner, memory);
}

static void links_log(struct io *io, enum io_level level, const char *line)
{
	struct io *inner = links_of(io)->inner;

	inner->log(inner, level, line);
}

const struct io links_face = {
	.now_ns = links_now_ns, .wall_ns = links_wall_ns, .random = links_random, .alloc = links_alloc,
	.free = links_memory_free, .submit = links_submit, .cancel = links_cancel, .listen = links_listen,
	.socket_node = links_socket_node, .close = links_close, .log = links_log,
};
