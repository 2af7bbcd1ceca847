/* SPDX-License-Identifier: Apache-2.0 */
/* Links, from their first byte to their last:
 *
 *	link_dial(), link_accepted()	a connection of the inner io becomes a link
 *	first_came()			the first byte of an accepted one says whether it speaks TLS at all
 *	link_step()			whatever has happened, all that can go on does: handshake, plain stream, wire
 *	link_opened()			the node is proved: the dial is done, or an accept gets the socket
 *	link_shut()			the engine has closed it, or it has failed
 *
 * An op of the engine on a link is ours from submit() to done(); what the inner io gets are ops of the link. A socket's
 * id is the inner one. done() runs from ended_flush() only, which is called from the inner io's completions and never
 * inside submit(), cancel() or close().
 *
 * Invariant: the engine gets the socket of a link, or a byte from it, only in OPEN, whose tls_node() is proved; or in
 * CLEAR, where socket_node() says so. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auto.h"
#include "links_parts.h"
#include "say.h"

enum { OPENSSL_BYTES = 50 << 10 };	/* what it takes for a link, about */
enum { SHORT_BYTES = 64 << 10 };	/* of a send that is over when it has left */

static uint64_t now_of(struct links *s) { return s->inner->now_ns(s->inner); }

/* ---- ops of the engine ----------------------------------------------------------------------------- */

static void soon_came(struct io_op *op, int64_t result);

static void soon_submit(struct links *s)
{
	if (s->soon.in_flight)
		return;
	s->soon = (struct io_op){ .kind = IO_SOON, .done = soon_came };
	s->inner->submit(s->inner, &s->soon);
}

void link_op_end(struct links *s, struct io_op **at, int64_t result)
{
	struct io_op *op = *at;

	if (!op)
		return;
	*at = NULL;
	ended_op(op)->result = result;
	list_append(&s->ended, &ended_op(op)->link);
	if (!s->completing)
		soon_submit(s);
}

void link_op_begin(struct io_op **at, struct io_op *op)
{
	CHECK(!op->in_flight && op->done != NULL);
	CHECK(*at == NULL);		/* one of a kind at a time */
	op->in_flight = 1;
	list_init(&ended_op(op)->link);
	*at = op;
}

static void quiet_look(struct links *s);

/* What done() ends in its turn waits for the next time, or a stream that never ends would have all of ours. */
static void ended_flush(struct links *s)
{
	struct list *last = s->ended.prev, *link;
	bool more = !list_empty(&s->ended);

	while (more && (link = list_first(&s->ended))) {
		struct io_op *op = container_of((void *)list_entry(link, struct ended_op, link), struct io_op, private);

		more = link != last;
		list_remove(link);
		op->in_flight = 0;
		op->done(op, ended_op(op)->result);
	}
	s->completing = false;
	if (!list_empty(&s->ended))
		soon_submit(s);
	quiet_look(s);
}

static void soon_came(struct io_op *op, int64_t result)
{
	struct links *s = container_of(op, struct links, soon);

	(void)result;
	s->completing = true;
	ended_flush(s);
}

/* ---- telling the operator -------------------------------------------------------------------------- */

/* For status, and for the log when it is not what was said the last time. */
static void dial_refused(struct links *s, struct link *l, const char *why)
{
	char *said = s->why[l->peer - s->config.volume->peers], line[WHY_BYTES];

	snprintf(line, sizeof line, "no encrypted link to node %s at %s: %.350s", l->peer->name, l->peer->address, why);
	if (strcmp(said, line) != 0)
		say(s->inner, IO_WARNING, "volume=%s peer=%s %s; tried again and again", s->config.volume->name,
		    l->peer->name, line);
	strcpy(said, line);
	if (l->user_dial)
		l->user_dial->why = said;
}

static void link_refused(struct link *l, int error, const char *why)
{
	struct links *s = l->links;

	if (l->peer)
		dial_refused(s, l, why);
	else if (l->state == LINK_GREETING || l->state == LINK_HANDSHAKE)
		stranger_refused(l, error, why);
	link_op_end(s, &l->user_dial, error);
}

/* ---- states ---------------------------------------------------------------------------------------- */

void link_move(struct link *l, enum link_state state)
{
#define TO(name) (1u << LINK_##name)
	static const unsigned allowed[] = {
#define X(name, to) [LINK_##name] = to,
		LINK_STATES(X)
#undef X
	};
#undef TO
	CHECK(allowed[l->state] & 1u << state);
	CHECK(state != LINK_OPEN || (l->tls && *tls_node(l->tls)));
	l->state = state;
}

static bool link_busy(const struct link *l)
{
	return l->dial.in_flight || l->recv.in_flight || l->send.in_flight;
}

bool link_stranger(const struct link *l)
{
	return !l->peer && (l->state == LINK_GREETING || l->state == LINK_HANDSHAKE || l->state == LINK_READY);
}

void link_release(struct link *l)
{
	struct links *s = l->links;

	tls_free(l->tls);
	link_move(l, LINK_FREE);
	*l = (struct link){ .links = s, .socket = -1 };
}

void link_shut(struct link *l)
{
	struct links *s = l->links;

	if (l->state == LINK_SHUT)
		return;
	link_op_end(s, &l->user_dial, -ECANCELED);
	link_op_end(s, &l->user_recv, -ECANCELED);
	link_op_end(s, &l->user_send, -ECANCELED);
	link_move(l, LINK_SHUT);
	if (l->dial.in_flight)
		s->inner->cancel(s->inner, &l->dial);
	if (l->socket >= 0)
		s->inner->close(s->inner, l->socket);
	l->socket = -1;
	if (!link_busy(l))
		link_release(l);
}

static struct link *link_new(struct links *s)
{
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++)
		if (l->state == LINK_FREE) {
			l->born = ++s->births;
			return l;
		}
	return NULL;
}

/* The socket stays until the front end closes it, and what it does with it until then fails. */
static void link_failed(struct link *l, int error)
{
	l->refused = error;
	link_op_end(l->links, &l->user_recv, error);
	link_op_end(l->links, &l->user_send, error);
	link_move(l, LINK_FAILED);
}

/* By the last one found: a node with one peer has no other, and the table is long. */
struct link *link_find(struct links *s, int socket)
{
	if (s->found && s->found->state != LINK_FREE && s->found->socket == socket)
		return s->found;
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++)
		if (l->state != LINK_FREE && l->socket == socket)
			return s->found = l;
	return NULL;
}

void link_send_away(struct link *l, int error, const char *why)
{
	link_refused(l, error, why);
	if (l->secured)
		link_failed(l, error);
	else
		link_shut(l);
}

/* ---- time ------------------------------------------------------------------------------------------ */

static void timer_came(struct io_op *op, int64_t result);

static bool link_hurries(const struct link *l)
{
	return link_stranger(l) || l->state == LINK_HANDSHAKE || l->state == LINK_ENDING;
}

static void timer_submit(struct links *s)
{
	if (s->timer.in_flight || s->stopping)
		return;
	s->timer = (struct io_op){ .kind = IO_TIMER, .offset = LINK_TICK_NS, .done = timer_came };
	s->inner->submit(s->inner, &s->timer);
}

static void timer_came(struct io_op *op, int64_t result)
{
	struct links *s = container_of(op, struct links, timer);
	uint64_t now = now_of(s);
	bool again = false;

	s->completing = true;
	for (struct link *l = s->all; l < s->all + LINKS_MAX && result == 0; l++) {
		if (!link_hurries(l))
			continue;
		again = true;
		if (now < l->deadline_ns)
			continue;
		if (l->state != LINK_ENDING)
			link_send_away(l, -ETIMEDOUT, "after 5 s it has not proved who it is");
		else
			link_shut(l);
	}
	if (again)
		timer_submit(s);
	ended_flush(s);
}

void link_deadline(struct link *l, uint64_t ns)
{
	l->deadline_ns = now_of(l->links) + ns;
	timer_submit(l->links);
}

/* ---- the wire -------------------------------------------------------------------------------------- */

/* After each completion of an op of the link. */
static void link_completed(struct link *l)
{
	struct links *s = l->links;

	if (l->state != LINK_SHUT)
		link_step(l);
	else if (!link_busy(l))
		link_release(l);
	ended_flush(s);
}

static void wire_sent(struct io_op *op, int64_t result)
{
	struct link *l = container_of(op, struct link, send);

	l->links->completing = true;
	tls_wire_sent(l->tls);
	if (result < 0 && l->state != LINK_SHUT)
		l->error = (int)result;
	link_completed(l);
}

static void wire_received(struct io_op *op, int64_t result)
{
	struct link *l = container_of(op, struct link, recv);

	l->links->completing = true;
	if (result > 0)
		tls_wire_received(l->tls, (size_t)result);
	else if (result == 0)
		tls_wire_ended(l->tls);
	else if (l->state != LINK_SHUT)
		l->error = (int)result;
	link_completed(l);
}

static void wire_send(struct link *l)
{
	struct io *inner = l->links->inner;
	const void *bytes;
	size_t len;

	if (l->send.in_flight || l->error)
		return;
	bytes = tls_wire_take(l->tls, &len);
	if (!bytes)
		return;
	l->send = (struct io_op){ .kind = IO_SEND, .file = l->socket, .data = (void *)(uintptr_t)bytes, .len = len,
				  .done = wire_sent };
	inner->submit(inner, &l->send);
}

static void wire_receive(struct link *l)
{
	struct io *inner = l->links->inner;
	size_t room;
	void *bytes;

	if (l->recv.in_flight || l->error)
		return;
	bytes = tls_wire_room(l->tls, &room);
	if (room == 0)
		return;
	l->recv = (struct io_op){ .kind = IO_RECV, .file = l->socket, .data = bytes, .len = room,
				  .done = wire_received };
	inner->submit(inner, &l->recv);
}

/* ---- a step ---------------------------------------------------------------------------------------- */

void links_accept_give(struct links *s)
{
	struct link *oldest = NULL;
	int socket;

	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++)
		if (l->state == LINK_READY && (!oldest || l->born < oldest->born))
			oldest = l;
	if (!oldest || !s->user_accept)
		return;
	socket = oldest->socket;
	link_move(oldest, oldest->tls ? LINK_OPEN : LINK_CLEAR);
	link_op_end(s, &s->user_accept, socket);
}

static void link_opened(struct link *l)
{
	struct links *s = l->links;

	l->keyed_ns = now_of(s);
	if (!l->peer)
		stranger_proved(l);
	if (l->secured) {
		link_move(l, LINK_OPEN);
	} else if (l->peer) {
		s->why[l->peer - s->config.volume->peers][0] = '\0';
		link_move(l, LINK_OPEN);
		link_op_end(s, &l->user_dial, l->socket);
	} else {
		link_move(l, LINK_READY);
		links_accept_give(s);
	}
}

static void handshake_step(struct link *l)
{
	int result = l->error ? l->error : tls_handshake(l->tls);

	if (result == 1) {
		link_opened(l);
	} else if (result < 0) {
		link_refused(l, result, l->error ? strerror(-l->error) : tls_why(l->tls));
		if (l->secured) {
			link_failed(l, result);
			return;
		}
		link_move(l, LINK_ENDING);	/* the other side is to learn why */
		link_deadline(l, LINK_ENDING_NS);
	}
}

/* However little goes through it, no key is used for days. */
static void key_look(struct link *l)
{
	uint64_t now = now_of(l->links);

	if (now - l->keyed_ns < LINK_KEY_NS)
		return;
	l->keyed_ns = now;
	tls_key_renew(l->tls);
}

static void stream_step(struct link *l)
{
	struct links *s = l->links;
	struct io_op *send = l->user_send;
	ssize_t result = l->error;

	if (send) {
		if (l->taken == 0)
			key_look(l);
		if (!l->error && l->taken < send->len)
			result = tls_send(l->tls, (uint8_t *)send->data + l->taken, send->len - l->taken);
		l->taken += result > 0 ? (uint64_t)result : 0;
		/* A long one is over when it is sealed, so that the next one is sealed while this one is on its way; a
		 * short one when it has left, which costs no turn of the loop. */
		if (result < 0 || (l->taken == send->len && send->len > SHORT_BYTES))
			link_op_end(s, &l->user_send, result < 0 ? result : (int64_t)l->taken);
	}
	if (l->user_recv) {
		result = l->error ? l->error : tls_receive(l->tls, l->user_recv->data, l->user_recv->len);
		if (result == -EBADMSG)
			say(s->inner, IO_WARNING, "volume=%s peer=%s the encrypted link is broken: %s; it ends",
			    s->config.volume->name, tls_node(l->tls), tls_why(l->tls));
		if (result != -EAGAIN)
			link_op_end(s, &l->user_recv, result);
	}
}

void link_step(struct link *l)
{
	if (l->state == LINK_HANDSHAKE)
		handshake_step(l);
	if (l->state == LINK_OPEN)
		stream_step(l);
	wire_send(l);
	if (l->state == LINK_OPEN && l->user_send && !l->send.in_flight && l->taken == l->user_send->len)
		link_op_end(l->links, &l->user_send, (int64_t)l->taken);
	else if (l->state == LINK_OPEN && l->user_send && l->taken < l->user_send->len)
		stream_step(l);			/* one buffer is on its way: the other one is filled */
	if (l->state == LINK_HANDSHAKE || (l->state == LINK_OPEN && l->user_recv))
		wire_receive(l);
	if (l->state == LINK_ENDING && !l->send.in_flight)
		link_shut(l);
}

/* ---- a link begins --------------------------------------------------------------------------------- */

static void dial_done(struct io_op *op, int64_t result)
{
	struct link *l = container_of(op, struct link, dial);
	struct links *s = l->links;

	s->completing = true;
	if (l->state == LINK_SHUT) {			/* cancelled, too late */
		if (result >= 0)
			s->inner->close(s->inner, (int)result);
	} else if (result < 0) {
		l->user_dial->why = NULL;		/* nobody is there: the error says it */
		link_op_end(s, &l->user_dial, result);
		link_shut(l);
		ended_flush(s);
		return;
	} else {
		l->socket = (int)result;
		link_move(l, LINK_HANDSHAKE);
		link_deadline(l, LINK_HANDSHAKE_NS);
	}
	link_completed(l);
}

void link_dial(struct links *s, struct io_op *op, const struct volume_peer_config *peer)
{
	struct link *l = link_new(s);
	struct io_op *failed;

	if (!l || tls_new(&l->tls, s->tls, peer->name) < 0) {
		failed = NULL;
		link_op_begin(&failed, op);
		link_op_end(s, &failed, -ENOBUFS);
		return;
	}
	l->peer = peer;
	link_op_begin(&l->user_dial, op);
	link_move(l, LINK_DIALING);
	l->dial = (struct io_op){ .kind = IO_DIAL, .address = op->address, .done = dial_done };
	s->inner->submit(s->inner, &l->dial);
}

static void first_came(struct io_op *op, int64_t result)
{
	struct link *l = container_of(op, struct link, recv);
	struct links *s = l->links;
	size_t room;

	s->completing = true;
	if (l->state == LINK_SHUT) {
		link_completed(l);
		return;
	}
	if (result <= 0) {
		link_shut(l);			/* it has thought better of it */
	} else if (l->first == TLS_FIRST_BYTE && tls_new(&l->tls, s->tls, NULL) == 0) {
		*(uint8_t *)tls_wire_room(l->tls, &room) = l->first;
		tls_wire_received(l->tls, 1);
		link_move(l, LINK_HANDSHAKE);
		link_step(l);
	} else if (l->first != TLS_FIRST_BYTE && !s->all_encrypted) {
		link_move(l, LINK_READY);
		links_accept_give(s);
	} else {
		link_refused(l, -EPROTO, l->first == TLS_FIRST_BYTE ? "there is no memory for its handshake" :
			     "what it sent is not TLS, and every peer has a fingerprint: nothing is taken in the "
			     "clear");
		link_shut(l);
	}
	ended_flush(s);
}

static struct link *link_begin(struct links *s, int socket)
{
	char address[ADDRESS_BYTES] = "somewhere";
	struct link *l = NULL;

	if (s->config.address)
		s->config.address(s->config.context, socket, address);
	if (stranger_admit(s, address))
		l = link_new(s);
	if (!l)
		return NULL;
	l->socket = socket;
	strcpy(l->address, address);
	return l;
}

int links_secure(struct links *s, int socket)
{
	struct link *l = link_begin(s, socket);

	if (!l)
		return -ENOBUFS;
	if (tls_new(&l->tls, s->tls, NULL) < 0) {
		l->socket = -1;
		return -ENOBUFS;
	}
	l->secured = true;
	link_move(l, LINK_HANDSHAKE);
	link_deadline(l, LINK_HANDSHAKE_NS);
	link_step(l);
	return 0;
}

static void link_accepted(struct links *s, int socket)
{
	struct link *l = link_begin(s, socket);

	if (!l) {
		s->inner->close(s->inner, socket);
		return;
	}
	link_move(l, LINK_GREETING);
	link_deadline(l, LINK_HANDSHAKE_NS);
	l->recv = (struct io_op){ .kind = IO_RECV, .file = socket, .data = &l->first, .len = 1, .done = first_came };
	s->inner->submit(s->inner, &l->recv);
}

static void accept_done(struct io_op *op, int64_t result)
{
	struct links *s = container_of(op, struct links, accept);

	s->completing = true;
	if (s->listening < 0 || s->stopping) {
		if (result >= 0)
			s->inner->close(s->inner, (int)result);
	} else if (result >= 0) {
		link_accepted(s, (int)result);
		links_accept_next(s);
	} else {
		link_op_end(s, &s->user_accept, result);	/* the engine asks again when it thinks fit */
	}
	ended_flush(s);
}

void links_accept_next(struct links *s)
{
	if (s->accept.in_flight)
		return;
	s->accept = (struct io_op){ .kind = IO_ACCEPT, .file = s->listening, .done = accept_done };
	s->inner->submit(s->inner, &s->accept);
}

/* ---- from new to free ------------------------------------------------------------------------------ */

bool links_needed(const struct volume_config *volume)
{
	for (unsigned i = 0; i < volume->peer_count; i++)
		if (peer_config_encrypted(&volume->peers[i]))
			return true;
	return false;
}

uint64_t links_memory_bytes(const struct volume_config *volume)
{
	if (!links_needed(volume))
		return 0;
	return sizeof(struct links) + (uint64_t)LINK_STRANGERS_MAX * (TLS_STRANGER_MEMORY + OPENSSL_BYTES) +
	       2ull * volume->peer_count * (TLS_MEMORY + OPENSSL_BYTES);
}

uint64_t links_server_memory_bytes(void)
{
	return sizeof(struct links) + (uint64_t)LINK_STRANGERS_MAX * (TLS_STRANGER_MEMORY + OPENSSL_BYTES) +
	       (uint64_t)(LINKS_MAX - LINK_STRANGERS_MAX) * (TLS_SERVER_MEMORY + OPENSSL_BYTES);
}

static int context_make(struct links *s, char why[WHY_BYTES])
{
	const struct volume_config *volume = s->config.volume;
	struct tls_pin pins[PEERS_MAX];
	unsigned count = 0;
	int result;

	if (s->config.server) {
		result = tls_context_new_server(&s->tls, s->config.server);
		if (result < 0)
			snprintf(why, WHY_BYTES, "OpenSSL does not take server-cert.pem and its key for TLS 1.3; is "
				 "the key too short?");
		return result;
	}
	for (unsigned i = 0; i < volume->peer_count; i++) {
		if (!peer_config_encrypted(&volume->peers[i])) {
			s->all_encrypted &= !volume->insecure_loopback;
			continue;
		}
		pins[count].certified = volume->peers[i].certified;
		memcpy(pins[count].node, volume->peers[i].name, NAME_BYTES);
		memcpy(pins[count++].fingerprint, volume->peers[i].fingerprint, FINGERPRINT_BYTES);
	}
	result = tls_context_new(&s->tls, s->config.identity, pins, count);
	if (result == 0 && s->config.authority)
		tls_context_trust(s->tls, s->config.authority);
	if (result == -EINVAL)
		snprintf(why, WHY_BYTES, "two peers have the same fingerprint; each node has a key of its own");
	else if (result < 0)
		snprintf(why, WHY_BYTES, "OpenSSL refuses TLS 1.3 with Ed25519 keys; is its configuration restricted?");
	return result;
}

int links_new(struct links **out, struct io *inner, const struct links_config *config, char why[WHY_BYTES])
{
	AUTO_FREE struct links *s = calloc(1, sizeof *s);
	int result;

	if (!s) {
		snprintf(why, WHY_BYTES, "no memory for encrypted links");
		return -ENOMEM;
	}
	s->inner = inner;
	s->config = *config;
	s->listening = -1;
	s->all_encrypted = true;
	s->io = links_face;
	list_init(&s->ended);
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++)
		*l = (struct link){ .links = s, .socket = -1 };
	result = context_make(s, why);
	if (result < 0)
		return result;
	*out = TAKE_POINTER(s);
	return 0;
}

struct io *links_io(struct links *s)
{
	return &s->io;
}

/* Stopped: told once, and by whatever was in flight last. */
static void quiet_look(struct links *s)
{
	void (*stopped)(void *context) = s->stopped;
	bool busy = s->accept.in_flight || s->timer.in_flight || s->soon.in_flight || !list_empty(&s->ended);

	if (busy || !s->stopping || !stopped)		/* after nearly every op: no link is looked at */
		return;
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++)
		if (l->state != LINK_FREE)
			return;
	s->stopped = NULL;
	stopped(s->stopped_context);
}

void links_stop(struct links *s, void (*done)(void *context), void *context)
{
	s->stopping = true;
	s->stopped = done;
	s->stopped_context = context;
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++)
		if (l->state != LINK_FREE)
			link_shut(l);
	s->inner->cancel(s->inner, &s->accept);
	s->inner->cancel(s->inner, &s->timer);
	soon_submit(s);			/* so that done() is called later in any case */
}

void links_free(struct links *s)
{
	if (!s)
		return;
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++)
		tls_free(l->tls);
	tls_context_free(s->tls);
	free(s);
}
