/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server and its connections: who may connect, what is received, how it ends.
 *
 *	listener_accepted()		a socket gets a connection, which greets and has 10 s to choose
 *	connection_received()		bytes came; nbd_connection_advance() takes the steps they allow
 *	connection_sent()		the socket takes more
 *	nbd_connection_drop()		hang up: nothing more is sent or read
 *	nbd_connection_settle()		the last op and the last request have ended: the connection is free
 *
 * What is kept out:
 *	- A client that does not read or send while others wait for the buffers it holds: server_tick() hangs
 *	  up on it. A client that waits for a buffer holds none half filled, as a request takes its one buffer
 *	  before its payload is received; so there is no circle of clients waiting for each other.
 *	- Bytes of one client in the replies to another: what is sent was written for that reply, to its end. */
#include <errno.h>
#include <string.h>

#include "config_text.h"
#include "nbd_private.h"
#include "say.h"

#define TO(name) (1u << NBD_##name)
#define ROW(name, step, moves) [NBD_##name] = { #name, step, moves },

static enum nbd_step nbd_step_leave(struct nbd_connection *c);

static const struct {
	const char *name;
	enum nbd_step (*step)(struct nbd_connection *c);	/* NULL: only an event leads out of it */
	unsigned moves;
} states[NBD_STATES_COUNT] = { NBD_STATES(ROW) };

static void server_settle(struct nbd_server *s);

static bool connection_is_idle(const struct nbd_connection *c)
{
	return !c->recv.in_flight && !c->send.in_flight && !c->soon.in_flight && c->request_count == 0;
}

static void state_check(const struct nbd_connection *c)
{
	CHECK((c->state == NBD_PAYLOAD || c->state == NBD_PAYLOAD_SKIP) == (c->payload != NULL) ||
	      c->state == NBD_GONE);
	CHECK((c->state == NBD_PAYLOAD_SKIP || c->state == NBD_OPTION_SKIP) == (c->skip > 0) ||
	      c->state == NBD_GONE);
	CHECK((c->state == NBD_STARVED) == !list_empty(&c->link));
	if (c->state == NBD_FREE) {
		CHECK(connection_is_idle(c));
		CHECK(c->buffer_count == 0 && list_empty(&c->replies));
		CHECK(!c->payload && !c->sending);
	}
}

/* Moves between requests are not logged: there are two of them for each write. */
void nbd_connection_move(struct nbd_connection *c, enum nbd_state state)
{
	bool quiet = state >= NBD_REQUEST && state <= NBD_STARVED;

	CHECK(states[c->state].moves & 1u << state);
	if (!quiet)
		say(c->server->io, IO_DEBUG, "volume=%s nbd client %u: %s -> %s", c->server->name, c->number,
		    states[c->state].name, states[state].name);
	c->state = state;
	state_check(c);
}

/* ---- what both phases have ----------------------------------------------------------------------- */

bool nbd_connection_skip(struct nbd_connection *c)
{
	uint32_t len = (uint32_t)min_u64(c->skip, c->in_end - c->in_start);

	c->in_start += len;
	c->skip -= len;
	return c->skip == 0;
}

static enum nbd_step nbd_step_leave(struct nbd_connection *c)
{
	if (c->request_count == 0 && !c->send.in_flight)
		nbd_connection_drop(c, NULL);
	return NBD_WAIT;
}

/* ---- receive and send ---------------------------------------------------------------------------- */

static void connection_receive(struct nbd_connection *c)
{
	struct nbd_request *r = c->payload;

	c->recv_direct = c->state == NBD_PAYLOAD && r->len - r->payload_received >= NBD_DIRECT_BYTES;
	if (c->recv_direct) {
		CHECK(c->in_start == c->in_end);	/* the payload's first part was in there */
		c->recv.data = r->data + r->payload_received;
		c->recv.len = min_u64(r->len - r->payload_received, IO_LEN_MAX);
	} else {
		memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
		c->in_end -= c->in_start;
		c->in_start = 0;
		CHECK(c->in_end < NBD_IN_BYTES);
		c->recv.data = c->in + c->in_end;
		c->recv.len = NBD_IN_BYTES - c->in_end;
	}
	c->recv.file = c->socket;
	c->moved_ns = c->server->io->now_ns(c->server->io);
	c->server->io->submit(c->server->io, &c->recv);
}

void nbd_connection_advance(struct nbd_connection *c)
{
	enum nbd_step step = NBD_AGAIN;

	while (step == NBD_AGAIN)
		step = states[c->state].step ? states[c->state].step(c) : NBD_WAIT;
	if (step == NBD_BYTES && !c->recv.in_flight)
		connection_receive(c);
}

/* The client has closed its side. Between two requests that is as good as DISC. */
static void connection_ended(struct nbd_connection *c)
{
	if (c->state == NBD_REQUEST && c->in_start == c->in_end)
		nbd_connection_leave(c);
	else if (c->state >= NBD_REQUEST)
		nbd_connection_drop(c, "it closed the connection in the middle of a request");
	else
		nbd_connection_drop(c, NULL);
}

static void connection_received(struct io_op *op, int64_t result)
{
	struct nbd_connection *c = container_of(op, struct nbd_connection, recv);

	if (c->state == NBD_GONE) {
		nbd_connection_settle(c);
		return;
	}
	if (result < 0) {
		nbd_connection_drop(c, c->request_count ? "its connection broke" : NULL);
		return;
	}
	CHECK((uint64_t)result <= op->len);
	if (result == 0)
		connection_ended(c);
	else if (c->recv_direct)
		c->payload->payload_received += (uint32_t)result;
	else
		c->in_end += (uint32_t)result;
	nbd_connection_advance(c);
}

void nbd_connection_send(struct nbd_connection *c, void *data, uint64_t len)
{
	CHECK(!c->send.in_flight && len > 0 && len <= IO_LEN_MAX);
	c->send.file = c->socket;
	c->send.data = data;
	c->send.len = len;
	c->moved_ns = c->server->io->now_ns(c->server->io);
	c->server->io->submit(c->server->io, &c->send);
}

static void connection_sent(struct io_op *op, int64_t result)
{
	struct nbd_connection *c = container_of(op, struct nbd_connection, send);

	if (c->state == NBD_GONE) {
		nbd_connection_settle(c);
		return;
	}
	if (result < 0) {
		nbd_connection_drop(c, c->request_count ? "its connection broke" : NULL);
		return;
	}
	CHECK((uint64_t)result == op->len);
	nbd_replies_sent(c);
	nbd_connection_advance(c);
}

/* ---- begin and end of a connection --------------------------------------------------------------- */

static void server_tick_arm(struct nbd_server *s)
{
	if (!s->tick.in_flight && !s->stopping)
		s->io->submit(s->io, &s->tick);
}

/* From another machine, and nothing was served to it yet. */
static bool connection_is_stranger(const struct nbd_connection *c)
{
	return c->tls_required && c->state >= NBD_FLAGS && c->state < NBD_REQUEST;
}

/* A crowd of them must not take the places of those who are served. */
static void strangers_bound(struct nbd_server *s)
{
	struct nbd_connection *oldest = NULL;
	unsigned count = 0;

	for (unsigned i = 0; i < s->connections_max; i++) {
		struct nbd_connection *c = &s->connections[i];

		if (!connection_is_stranger(c))
			continue;
		count++;
		if (!oldest || c->number < oldest->number)
			oldest = c;
	}
	if (count >= NBD_STRANGERS_MAX)
		nbd_connection_drop(oldest, "too many others who have not chosen an export came after it");
}

/* What strangers do is told so and so often; the rest is for who looks for it. */
static enum io_level stranger_level(struct nbd_server *s, enum io_level level)
{
	uint64_t now = s->io->now_ns(s->io);

	if (now >= s->stranger_lines_until_ns) {
		s->stranger_lines = 0;
		s->stranger_lines_until_ns = now + NBD_STRANGER_LINES_NS;
	}
	return s->stranger_lines++ < NBD_STRANGER_LINES ? level : IO_DEBUG;
}

static void connection_open(struct nbd_server *s, int socket, bool tls_required)
{
	struct nbd_connection *c = NULL;

	if (tls_required)
		strangers_bound(s);
	for (unsigned i = 0; i < s->connections_max && !c; i++)
		if (s->connections[i].state == NBD_FREE)
			c = &s->connections[i];
	if (!c) {
		if (!s->full_said)
			say(s->io, IO_WARNING, "volume=%s nbd has %u clients, which is its limit; more are "
			    "turned away until one leaves", s->name, s->connections_max);
		s->full_said = true;
		s->io->close(s->io, socket);
		return;
	}
	s->connection_count++;
	c->number = ++s->connection_number;
	c->socket = socket;
	c->in_start = c->in_end = c->out_len = 0;
	c->skip = 0;
	c->option_count = 0;
	c->is_turn = c->no_zeroes = c->structured = c->allocation = c->tls = false;
	c->tls_required = tls_required;
	c->read_only = true;
	c->deadline_ns = s->io->now_ns(s->io) + NBD_HANDSHAKE_NS;
	nbd_connection_move(c, NBD_FLAGS);
	nbd_greet(c);
	nbd_connection_advance(c);
	server_tick_arm(s);
}

void nbd_connection_leave(struct nbd_connection *c)
{
	c->deadline_ns = c->server->io->now_ns(c->server->io) + NBD_LEAVE_NS;
	nbd_connection_move(c, NBD_LEAVING);
}

void nbd_connection_drop(struct nbd_connection *c, const char *why)
{
	struct nbd_server *s = c->server;
	enum io_level level = why ? IO_WARNING : IO_INFO;

	if (connection_is_stranger(c))
		level = stranger_level(s, level);
	if (why)
		say(s->io, level, "volume=%s nbd client %u cut off: %s; %u requests of it end unanswered",
		    s->name, c->number, why, c->request_count);
	else
		say(s->io, level, "volume=%s nbd client %u left", s->name, c->number);
	c->deadline_ns = 0;
	c->skip = 0;
	list_remove(&c->link);
	nbd_connection_move(c, NBD_GONE);
	s->io->close(s->io, c->socket);
	nbd_connection_settle(c);
}

/* Whatever the socket no longer uses is put back; the volume answers its requests one by one. */
void nbd_connection_settle(struct nbd_connection *c)
{
	struct nbd_server *s = c->server;
	struct list *link;

	CHECK(c->state == NBD_GONE);
	if (c->payload && !c->recv.in_flight) {
		nbd_request_release(c->payload);
		c->payload = NULL;
	}
	if (c->sending && !c->send.in_flight) {
		nbd_request_release(c->sending);
		c->sending = NULL;
	}
	while ((link = list_first(&c->replies)) != NULL)
		nbd_request_release(list_entry(link, struct nbd_request, link));
	if (!connection_is_idle(c))
		return;
	nbd_connection_move(c, NBD_FREE);
	s->connection_count--;
	s->full_said = false;
	server_settle(s);
}

/* ---- the server's own turn of the loop ----------------------------------------------------------- */

static void server_tick(struct io_op *op, int64_t result)
{
	struct nbd_server *s = container_of(op, struct nbd_server, tick);
	uint64_t now = s->io->now_ns(s->io);

	(void)result;		/* a cancelled tick is one of a server that stops */
	if (s->stopping) {
		server_settle(s);
		return;
	}
	for (unsigned i = 0; i < s->connections_max; i++) {
		struct nbd_connection *c = &s->connections[i];
		bool awaited = c->send.in_flight || c->state == NBD_PAYLOAD;

		if (c->state == NBD_FREE || c->state == NBD_GONE)
			continue;
		if (c->deadline_ns && now >= c->deadline_ns)
			nbd_connection_drop(c, c->state == NBD_LEAVING ?
					    "its last requests were not answered, or not taken, within 10 s" :
					    "it did not choose an export within 10 s");
		else if (!list_empty(&s->starved) && c->buffer_count > 0 && awaited &&
			 now - c->moved_ns >= NBD_STALL_NS)
			nbd_connection_drop(c, "it moved no byte for 30 s and holds what others wait for");
	}
	for (unsigned i = 0; i < s->listener_count; i++)
		if (!s->listeners[i].accept.in_flight)
			s->io->submit(s->io, &s->listeners[i].accept);
	if (s->connection_count > 0)
		server_tick_arm(s);
}

void nbd_server_buffer_freed(struct nbd_server *s)
{
	if (!list_empty(&s->starved) && !s->soon.in_flight)
		s->io->submit(s->io, &s->soon);
}

/* First come, first served: a large request is not overtaken for ever by small ones that still fit. */
static void server_feed(struct nbd_server *s)
{
	struct list *link;

	while ((link = list_first(&s->starved)) != NULL) {
		struct nbd_connection *c = list_entry(link, struct nbd_connection, link);

		if (!nbd_buffers_has(&s->buffers, c->pages_wanted))
			return;
		list_remove(&c->link);
		c->is_turn = true;
		nbd_connection_move(c, NBD_REQUEST);
		nbd_connection_advance(c);
		c->is_turn = false;
	}
}

static bool server_is_idle(const struct nbd_server *s)
{
	for (unsigned i = 0; i < s->listener_count; i++)
		if (s->listeners[i].accept.in_flight)
			return false;
	return s->connection_count == 0 && !s->tick.in_flight && !s->soon.in_flight;
}

static void server_settle(struct nbd_server *s)
{
	if (s->stopping && !s->stopped && server_is_idle(s))
		s->io->submit(s->io, &s->soon);
}

static void server_soon(struct io_op *op, int64_t result)
{
	struct nbd_server *s = container_of(op, struct nbd_server, soon);

	(void)result;
	if (!s->stopping) {
		server_feed(s);
	} else if (server_is_idle(s) && !s->stopped) {
		s->stopped = true;
		s->stop_done(s->stop_context);		/* may free the server */
	}
}

/* ---- listening ----------------------------------------------------------------------------------- */

static void listener_accepted(struct io_op *op, int64_t result)
{
	struct nbd_listener *l = container_of(op, struct nbd_listener, accept);
	struct nbd_server *s = l->server;

	if (s->stopping) {
		if (result >= 0)
			s->io->close(s->io, (int)result);
		server_settle(s);
		return;
	}
	if (result < 0) {
		say(s->io, IO_WARNING, "volume=%s nbd cannot accept a client at %s: %s; trying again in 1 s",
		    s->name, l->address, strerror((int)-result));
		server_tick_arm(s);
		return;
	}
	connection_open(s, (int)result, l->tls_required);
	s->io->submit(s->io, &l->accept);
}

void nbd_server_offer_tls(struct nbd_server *s, int (*secure)(void *context, int socket), void *context)
{
	CHECK(s->listener_count == 0);
	s->secure = secure;
	s->secure_context = context;
}

int nbd_server_listen(struct nbd_server *s, const char *address)
{
	struct nbd_listener *l = &s->listeners[s->listener_count];
	char why[WHY_BYTES];
	bool local = address_is_local(address);
	/* NBD without TLS has no passwords: who can reach the socket can write the volume. */
	int error = address_check(address, why) < 0 ? -EINVAL : local || s->secure ? 0 : -EPERM;

	CHECK(s->listener_count < NBD_LISTENERS_MAX && !s->stopping);
	if (!error)
		error = s->io->listen(s->io, address, &l->socket);
	if (error)
		return error;
	s->listener_count++;
	l->server = s;
	l->tls_required = !local;
	strcpy(l->address, address);
	l->accept = (struct io_op){ .kind = IO_ACCEPT, .file = l->socket, .done = listener_accepted };
	s->io->submit(s->io, &l->accept);
	say(s->io, IO_INFO, "volume=%s nbd listens at %s%s", s->name, address,
	    local ? "" : ", with TLS only");
	return 0;
}

/* ---- the server ---------------------------------------------------------------------------------- */

static void connection_init(struct nbd_server *s, struct nbd_connection *c, uint8_t *memory)
{
	c->server = s;
	c->in = memory;
	c->out = memory + NBD_IN_BYTES;
	c->recv = (struct io_op){ .kind = IO_RECV, .done = connection_received };
	c->send = (struct io_op){ .kind = IO_SEND, .done = connection_sent };
	c->soon = (struct io_op){ .kind = IO_SOON, .done = nbd_replies_soon };
	list_init(&c->link);
	nbd_transmission_init(c);
}

int nbd_server_new_backend(struct nbd_server **out, struct io *io, const struct nbd_backend *backend,
			   const char *export_name, unsigned connections_max, uint64_t buffer_bytes)
{
	size_t connection_bytes = NBD_IN_BYTES + NBD_OUT_BYTES;
	struct nbd_server *s = io->alloc(io, sizeof *s, 0);

	CHECK(strlen(export_name) < NAME_BYTES);
	CHECK(buffer_bytes >= 5 * BLOCK_BYTES);
	if (!s)
		return -ENOMEM;
	s->io = io;
	s->backend = *backend;
	s->writable = backend->writable(backend->context);
	strcpy(s->name, export_name);
	list_init(&s->starved);
	s->tick = (struct io_op){ .kind = IO_TIMER, .offset = NBD_TICK_NS, .done = server_tick };
	s->soon = (struct io_op){ .kind = IO_SOON, .done = server_soon };
	s->connections = io->alloc(io, connections_max * sizeof *s->connections, 0);
	s->connection_memory = io->alloc(io, connections_max * connection_bytes, IO_FIXED);
	if (!s->connections || !s->connection_memory || nbd_buffers_init(&s->buffers, io, buffer_bytes) < 0) {
		nbd_server_free(s);
		return -ENOMEM;
	}
	/* A read takes a page for its header, and one more when its ends are not at a block's. */
	s->request_bytes_max =
		(uint32_t)min_u64(REQUEST_BYTES_MAX, (s->buffers.page_count - 2ull) * BLOCK_BYTES);
	s->connections_max = connections_max;
	for (unsigned i = 0; i < connections_max; i++)
		connection_init(s, &s->connections[i], s->connection_memory + i * connection_bytes);
	*out = s;
	return 0;
}

static void volume_backend_submit(void *context, struct volume_request *request)
{
	volume_submit(context, request);
}

static bool volume_backend_writable(void *context)
{
	struct volume_status status;

	volume_status(context, &status);
	/* Who writes past a filesystem of ours destroys it. */
	return status.role == ROLE_PRIMARY && !volume_blocks(context);
}

int nbd_server_new(struct nbd_server **out, struct io *io, struct volume *v, const char *export_name,
		   uint64_t memory_bytes)
{
	uint64_t heads = sizeof(struct nbd_server) +
			 CLIENTS_MAX * (sizeof(struct nbd_connection) + NBD_IN_BYTES + NBD_OUT_BYTES);
	struct nbd_backend backend = { volume_backend_submit, volume_backend_writable, v, 0 };
	struct volume_status status;

	CHECK(memory_bytes >= 64 << 20);
	volume_status(v, &status);
	backend.bytes = status.geometry.volume_bytes;
	/* 1/1024 of a page's bytes tells where the runs are. */
	return nbd_server_new_backend(out, io, &backend, export_name, CLIENTS_MAX,
				      (memory_bytes - heads) / 1025 * 1024);
}

void nbd_server_role_changed(struct nbd_server *s)
{
	s->writable = s->backend.writable(s->backend.context);
}

unsigned nbd_server_writers(const struct nbd_server *s)
{
	unsigned count = 0;

	for (unsigned i = 0; i < s->connections_max; i++) {
		const struct nbd_connection *c = &s->connections[i];

		count += s->writable && !c->read_only && c->state >= NBD_REQUEST && c->state <= NBD_STARVED;
	}
	return count;
}

void nbd_server_stop(struct nbd_server *s, void (*done)(void *context), void *context)
{
	CHECK(!s->stopping);
	s->stopping = true;
	s->stop_done = done;
	s->stop_context = context;
	for (unsigned i = 0; i < s->listener_count; i++)
		s->io->close(s->io, s->listeners[i].socket);
	for (unsigned i = 0; i < s->connections_max; i++)
		if (s->connections[i].state != NBD_FREE && s->connections[i].state != NBD_GONE)
			nbd_connection_drop(&s->connections[i], "this daemon stops serving");
	s->io->cancel(s->io, &s->tick);
	server_settle(s);
}

void nbd_server_free(struct nbd_server *s)
{
	if (!s)
		return;
	CHECK(s->stopped || (s->listener_count == 0 && server_is_idle(s)));
	nbd_buffers_free(&s->buffers, s->io);
	s->io->free(s->io, s->connection_memory);
	s->io->free(s->io, s->connections);
	s->io->free(s->io, s);
}
