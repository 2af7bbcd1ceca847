/* SPDX-License-Identifier: Apache-2.0 */
/* The listening side: strangers get one small buffer and little time to say a HELLO that we know. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

enum { TLS_HANDSHAKE = 22 };	/* the first byte of who means to encrypt the link */

static void greeting_end(struct greeting *g)
{
	struct volume *v = g->volume;

	if (g->socket >= 0)
		v->io->close(v->io, g->socket);
	g->socket = -1;
	g->whole = false;
	g->in_len = 0;
}

/* The HELLO is whole. The newest connection of a peer counts: older ones, whose end the peer may have left long
 * ago, would only come between. */
static void greeting_whole(struct greeting *g, struct peer *p)
{
	struct listener *l = &g->volume->listener;

	for (unsigned i = 0; i < GREETINGS_MAX; i++) {
		struct greeting *other = &l->greetings[i];

		if (other != g && other->whole && other->peer == p)
			greeting_end(other);
	}
	if (p->socket >= 0 || p->dial.in_flight)
		peer_drop(p, "it dialed anew", 0);
	g->whole = true;
	g->peer = p;
	listener_step(l);
}

void listener_step(struct listener *l)
{
	for (unsigned i = 0; i < GREETINGS_MAX; i++) {
		struct greeting *g = &l->greetings[i];
		int socket = g->socket;

		/* Ops of the peer's old connection may still be on their way. */
		if (!g->whole || g->peer->socket >= 0 || !peer_quiet(g->peer))
			continue;
		g->socket = -1;
		g->whole = false;
		peer_adopt(g->peer, socket, (const void *)(g->in + sizeof(struct frame_header)));
	}
}

static void greeting_look(struct greeting *g)
{
	struct volume *v = g->volume;
	const struct frame_header *header = (const void *)g->in;
	const struct frame_hello *hello = (const void *)(header + 1);
	const char *field = NULL;
	char why[WHY_BYTES];
	int result = frame_look(g->in, g->in_len, &v->geometry, &field);

	if (result == 0)
		return;
	if (result < 0 && g->in[0] == TLS_HANDSHAKE)
		field = "magic: it begins a TLS handshake, and the config here has a fingerprint of no peer";
	if (result == 1 && from_le16(header->type) != FRAME_HELLO) {
		field = "type (HELLO comes first)";
		result = -EBADMSG;
	}
	if (result == 1)
		result = frame_hello_check(hello, &field) ? -EBADMSG : 1;
	if (result == 1 && !peer_by_name(v, hello->node)) {
		field = "node: no peer of this name is configured";
		result = -EBADMSG;
	}
	/* Before it comes between us and the connection that the node may have. */
	if (result == 1 && !peer_proved(v, peer_by_name(v, hello->node)->config, g->socket, why)) {
		say(v->io, IO_WARNING, "volume=%s peer=%s a connection was refused: %s; ended", v->config.name,
		    hello->node, why);
		greeting_end(g);
		return;
	}
	/* With nothing at stake it is answered, so that the other side learns what is wrong. */
	if (result == 1 && memcmp(hello->uuid, v->geometry.uuid, UUID_BYTES) != 0 &&
	    peer_connected(peer_by_name(v, hello->node))) {
		field = "uuid, and its node is connected already";
		result = -EBADMSG;
	}
	if (result < 0) {
		say(v->io, IO_WARNING, "volume=%s a connection was refused: wrong %s; ended", v->config.name, field);
		greeting_end(g);
		return;
	}
	greeting_whole(g, peer_by_name(v, hello->node));
}

static void greeting_receive(struct greeting *g);

static void greeting_received(struct io_op *op, int64_t result)
{
	struct greeting *g = container_of(op, struct greeting, recv);

	if (g->socket < 0) {
		volume_turn_soon(g->volume);
		return;
	}
	if (result <= 0) {
		greeting_end(g);
		return;
	}
	g->in_len += (uint32_t)result;
	greeting_look(g);
	if (g->socket >= 0 && !g->whole)
		greeting_receive(g);
}

static void greeting_receive(struct greeting *g)
{
	struct volume *v = g->volume;

	/* frame_look() bounds a HELLO by the buffer, so there is always room for the rest of it. */
	CHECK(g->in_len < FRAME_HELLO_MAX);
	g->recv = (struct io_op){ .kind = IO_RECV, .file = g->socket, .data = g->in + g->in_len,
				  .len = FRAME_HELLO_MAX - g->in_len, .done = greeting_received };
	v->io->submit(v->io, &g->recv);
}

static void listener_accept(struct listener *l);

static void listener_accepted(struct io_op *op, int64_t result)
{
	struct listener *l = container_of(op, struct listener, accept);
	struct volume *v = l->volume;
	struct greeting *free_one = NULL;

	if (l->socket < 0) {
		if (result >= 0)
			v->io->close(v->io, (int)result);
		volume_turn_soon(v);
		return;
	}
	if (result >= 0) {
		for (unsigned i = 0; i < GREETINGS_MAX && !free_one; i++)
			if (l->greetings[i].socket < 0 && !l->greetings[i].recv.in_flight)
				free_one = &l->greetings[i];
		if (free_one) {
			free_one->socket = (int)result;
			free_one->in_len = 0;
			free_one->whole = false;
			free_one->deadline_ns = volume_now(v) + v->config.peer_timeout_ns;
			greeting_receive(free_one);
		} else {
			v->io->close(v->io, (int)result);
		}
	}
	/* After an error (out of files) the next tick tries again. */
	if (result >= 0)
		listener_accept(l);
}

static void listener_accept(struct listener *l)
{
	struct volume *v = l->volume;

	l->accept = (struct io_op){ .kind = IO_ACCEPT, .file = l->socket, .done = listener_accepted };
	v->io->submit(v->io, &l->accept);
}

int listener_new(struct listener *l, struct volume *v)
{
	*l = (struct listener){ .volume = v, .socket = -1 };
	for (unsigned i = 0; i < GREETINGS_MAX; i++) {
		l->greetings[i] = (struct greeting){ .volume = v, .socket = -1 };
		l->greetings[i].in = v->io->alloc(v->io, FRAME_HELLO_MAX, 0);
		if (!l->greetings[i].in)
			return -ENOMEM;
	}
	return 0;
}

void listener_delete(struct listener *l)
{
	for (unsigned i = 0; l->volume && i < GREETINGS_MAX; i++)
		l->volume->io->free(l->volume->io, l->greetings[i].in);
	l->volume = NULL;
}

int listener_listen(struct listener *l, const char *address)
{
	int result = l->volume->io->listen(l->volume->io, address, &l->socket);

	if (result)
		l->socket = -1;
	return result;
}

void listener_start(struct listener *l)
{
	if (l->socket >= 0)
		listener_accept(l);
}

void listener_stop(struct listener *l)
{
	if (l->socket >= 0)
		l->volume->io->close(l->volume->io, l->socket);
	l->socket = -1;
	for (unsigned i = 0; i < GREETINGS_MAX; i++)
		greeting_end(&l->greetings[i]);
}

bool listener_quiet(const struct listener *l)
{
	bool busy = l->accept.in_flight;

	for (unsigned i = 0; i < GREETINGS_MAX; i++)
		busy |= l->greetings[i].recv.in_flight;
	return !busy;
}

void listener_tick(struct listener *l, uint64_t now)
{
	if (l->socket >= 0 && !l->accept.in_flight)
		listener_accept(l);
	for (unsigned i = 0; i < GREETINGS_MAX; i++) {
		struct greeting *g = &l->greetings[i];

		if (g->socket >= 0 && now > g->deadline_ns)
			greeting_end(g);
	}
}
