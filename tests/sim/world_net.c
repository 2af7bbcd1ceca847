/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated network. A connection is two pipes; a byte's way through one is
 *
 *	SEND     pipe_take()    into the ring while the window (STREAM_BYTES) has room, as chunks of
 *	                        random size, each with its time of arrival; done() when all are in
 *	(wire)   pipe_happen()  chunks arrive, in order; not while the link is cut
 *	RECV     pipe_give()    as much as is there, or less
 *	         pipe_ack()     the window has room again; not while the link back is cut
 *
 * A FIN and an RST travel as chunks behind the bytes. The one invariant of a pipe:
 * acked <= given <= arrived <= taken <= acked + STREAM_BYTES. */
#include <stdlib.h>
#include <string.h>

#include "world_inside.h"

enum { CHUNKS = 64, CHUNKS_DATA = CHUNKS - 4, CHUNK_BYTES = 64 << 10, BACKLOG = 128,
	SOCKET_FIRST = 1000, GENERATIONS = 1 << 20 };

enum chunk_kind { CHUNK_DATA, CHUNK_FIN, CHUNK_RST };

struct chunk { enum chunk_kind kind; uint64_t taken, when; };	/* taken: the pipe's, at its end */

struct pipe {
	struct conn *conn;
	struct pipe *back;		/* the other direction */
	struct link *link;
	struct socket *from, *to;	/* NULL once closed */
	struct event *arrival;		/* of the first chunk */
	struct event *sender, *receiver;	/* SEND and RECV that wait */
	bool sending, receiving;	/* one is in flight, waiting or settled */
	struct chunk chunks[CHUNKS];
	unsigned chunk_first, chunk_count;
	uint64_t taken, arrived, given, acked, last_when;
	enum chunk_kind end;		/* FIN or RST has arrived */
	bool ended;			/* an RST was queued: what is sent now goes nowhere */
	bool broken;			/* its sender has learned that */
	bool forced;			/* a world_reset() passes a cut */
	uint8_t *ring;
};

struct conn {
	struct list link;		/* in world->conns */
	struct pipe pipes[2];		/* pipes[i] is sent to by end i */
	struct machine *machines[2];
	bool silent[2];			/* that end lost power and nobody was told */
};

struct socket {
	struct machine *machine;
	int id;
	/* of listen() */
	char *address;			/* NULL: a stream */
	struct list link;		/* in world->listeners, or in a listener's backlog */
	struct list accepts;		/* ACCEPTs that wait */
	struct list backlog;		/* connected sockets that wait */
	unsigned backlog_count;
	/* of a stream */
	struct pipe *out, *in;
};

static void pipe_take(struct pipe *pipe);

/* --- Sockets --- */

static struct socket *socket_new(struct machine *machine)
{
	for (unsigned tries = 0; tries < SOCKETS_MAX; tries++) {
		unsigned slot = machine->socket_next++ % SOCKETS_MAX;
		uint64_t generation = machine->socket_generation++ % GENERATIONS;
		struct socket *socket;

		if (machine->sockets[slot])
			continue;
		socket = calloc(1, sizeof *socket);
		CHECK(socket != NULL);
		socket->machine = machine;
		socket->id = SOCKET_FIRST + (int)(generation * SOCKETS_MAX + slot);
		list_init(&socket->link);
		list_init(&socket->accepts);
		list_init(&socket->backlog);
		machine->sockets[slot] = socket;
		return socket;
	}
	return NULL;
}

static struct socket *socket_get(struct machine *machine, int id)
{
	struct socket *socket;

	CHECK(id >= SOCKET_FIRST);
	socket = machine->sockets[(id - SOCKET_FIRST) % SOCKETS_MAX];
	CHECK(socket != NULL && socket->id == id);	/* not closed */
	return socket;
}

static void socket_free(struct socket *socket)
{
	list_remove(&socket->link);
	socket->machine->sockets[(socket->id - SOCKET_FIRST) % SOCKETS_MAX] = NULL;
	free(socket->address);
	free(socket);
}

/* --- Pipes --- */

static uint64_t link_latency(struct world *world, const struct link *link)
{
	return world_random_between(world, link->public.latency_min_ns,
				    link->public.latency_max_ns);
}

/* The link has been busy with what was sent before; then the bytes take their time. */
static uint64_t link_arrival(struct world *world, struct link *link, uint64_t bytes)
{
	uint64_t delay = link_latency(world, link);

	if (link->public.bytes_per_second) {
		link->busy_until = max_u64(link->busy_until, world->now) +
				   bytes * SECONDS / link->public.bytes_per_second;
		delay += link->busy_until - world->now;
	}
	return world_later(world, delay);
}

static struct world *pipe_world(const struct pipe *pipe) { return pipe->conn->machines[0]->world; }

static void pipe_chunk(struct pipe *pipe, enum chunk_kind kind, uint64_t bytes)
{
	struct chunk *chunk = &pipe->chunks[(pipe->chunk_first + pipe->chunk_count) % CHUNKS];

	CHECK(pipe->chunk_count < CHUNKS);
	pipe->last_when =
		max_u64(pipe->last_when, link_arrival(pipe_world(pipe), pipe->link, bytes));
	*chunk = (struct chunk){ .kind = kind, .taken = pipe->taken, .when = pipe->last_when };
	if (pipe->chunk_count++ == 0)
		event_queue(pipe->arrival, chunk->when);
}

/* Ends the pipe behind its last byte; with an RST, @drop loses the bytes that are still on their
 * way. */
static void pipe_end(struct pipe *pipe, enum chunk_kind kind, bool drop)
{
	if (pipe->ended)
		return;
	pipe->ended = kind == CHUNK_RST;
	if (drop) {
		event_unqueue(pipe->arrival);
		pipe->chunk_count = 0;
		pipe->taken = pipe->arrived;
		pipe->last_when = 0;
	}
	pipe_chunk(pipe, kind, 0);
}

static uint64_t chunk_size_draw(struct world *world)
{
	uint64_t draw = world_random_below(world, 8);

	return draw == 0 ? 1 + world_random_below(world, 64) :
	       draw <= 2 ? 1 + world_random_below(world, 4096) : CHUNK_BYTES;
}

static void ring_copy(struct pipe *pipe, uint64_t at, uint8_t *data, uint64_t len, bool in)
{
	uint64_t start = at % STREAM_BYTES, first = min_u64(len, STREAM_BYTES - start);

	if (in) {
		memcpy(pipe->ring + start, data, first);
		memcpy(pipe->ring, data + first, len - first);
	} else {
		memcpy(data, pipe->ring + start, first);
		memcpy(data + first, pipe->ring, len - first);
	}
}

static void send_settle(struct pipe *pipe, int64_t result)
{
	struct event *event = pipe->sender;

	pipe->sender = NULL;
	CHECK(checksum_of(event->op) == event->checksum); /* the buffer was left alone in flight */
	event_settle(event, result, world_soon(event->world));
}

static void pipe_take(struct pipe *pipe)
{
	struct event *event = pipe->sender;
	uint64_t len;

	if (!event)
		return;
	if (pipe->broken) {
		send_settle(pipe, world_chance(event->world, 2) ? -EPIPE : -ECONNRESET);
		return;
	}
	len = event->op->len;
	if (pipe->ended)
		event->progress = len;		/* nobody will know before the RST is here */
	while (event->progress < len && pipe->chunk_count < CHUNKS_DATA) {
		uint64_t room = STREAM_BYTES - (pipe->taken - pipe->acked);
		uint64_t bytes = min_u64(min_u64(len - event->progress, room),
					 chunk_size_draw(event->world));

		if (bytes == 0)
			return;
		ring_copy(pipe, pipe->taken, (uint8_t *)event->op->data + event->progress, bytes,
			  true);
		event->progress += bytes;
		pipe->taken += bytes;
		pipe_chunk(pipe, CHUNK_DATA, bytes);
	}
	if (event->progress == len)
		send_settle(pipe, (int64_t)len);
}

static void pipe_ack(struct pipe *pipe)
{
	if (pipe->back->link->cut && !pipe->forced)
		return;
	pipe->acked = pipe->given;
	pipe_take(pipe);
}

static void pipe_give(struct pipe *pipe)
{
	struct event *event = pipe->receiver;
	uint64_t bytes = pipe->arrived - pipe->given;
	int64_t result;

	if (!event)
		return;
	if (bytes > 0) {
		bytes = min_u64(bytes, event->op->len);
		if (world_chance(event->world, 4))
			bytes = 1 + world_random_below(event->world, bytes);
		ring_copy(pipe, pipe->given, event->op->data, bytes, false);
		pipe->given += bytes;
		result = (int64_t)bytes;
	} else if (pipe->end == CHUNK_DATA) {
		return;
	} else {
		result = pipe->end == CHUNK_FIN ? 0 : -ECONNRESET;
	}
	pipe->receiver = NULL;
	event_settle(event, result, world_soon(event->world));
	pipe_ack(pipe);
}

/* Bytes have come to an end that is closed, and its machine says so; or that has no power. */
static void pipe_arrived_nowhere(struct pipe *pipe)
{
	bool receiver = pipe == &pipe->conn->pipes[0];

	if (pipe->conn->silent[receiver] || pipe->given == pipe->arrived)
		return;
	pipe->given = pipe->arrived;
	pipe_end(pipe->back, CHUNK_RST, false);
	pipe_ack(pipe);
}

static bool pipe_happen(struct event *arrival)
{
	struct pipe *pipe = arrival->owner;

	if (pipe->link->cut && !pipe->forced)
		return false;		/* until pipe_heal() */
	while (pipe->chunk_count > 0) {
		struct chunk *chunk = &pipe->chunks[pipe->chunk_first];

		if (chunk->when > arrival->world->now) {
			event_queue(arrival, chunk->when);
			break;
		}
		pipe->chunk_first = (pipe->chunk_first + 1) % CHUNKS;
		pipe->chunk_count--;
		pipe->arrived = chunk->taken;
		if (chunk->kind > pipe->end)
			pipe->end = chunk->kind;
	}
	if (pipe->end == CHUNK_RST) {
		pipe->back->broken = true;
		pipe_take(pipe->back);
	}
	if (!pipe->to)
		pipe_arrived_nowhere(pipe);
	pipe_give(pipe);
	pipe_take(pipe);
	return false;
}

/* What stood still behind a cut arrives again. */
static void pipe_heal(struct pipe *pipe)
{
	struct world *world = pipe_world(pipe);

	if (pipe->chunk_count > 0 && pipe->arrival->at == NOT_QUEUED)
		event_queue(pipe->arrival, world_later(world, link_latency(world, pipe->link)));
	pipe_ack(pipe->back);
}

/* --- Connections --- */

static void conn_new(struct socket *a, struct socket *b)
{
	struct conn *conn = calloc(1, sizeof *conn);
	struct socket *ends[2] = { a, b };
	struct world *world = a->machine->world;

	CHECK(conn != NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct pipe *pipe = &conn->pipes[i];

		conn->machines[i] = ends[i]->machine;
		pipe->conn = conn;
		pipe->back = &conn->pipes[!i];
		pipe->link = &world->links[ends[i]->machine->index][ends[!i]->machine->index];
		pipe->from = ends[i];
		pipe->to = ends[!i];
		pipe->arrival = event_new(world, NULL, NULL, pipe_happen);
		pipe->arrival->owner = pipe;
		pipe->ring = malloc(STREAM_BYTES);
		CHECK(pipe->ring != NULL);
		ends[i]->out = pipe;
		ends[i]->in = pipe->back;
	}
	list_append(&world->conns, &conn->link);
}

static void conn_free(struct conn *conn)
{
	list_remove(&conn->link);
	for (unsigned i = 0; i < 2; i++) {
		event_free(conn->pipes[i].arrival);
		free(conn->pipes[i].ring);
	}
	free(conn);
}

/* How an end goes: the peer gets a FIN; an RST when unread bytes are lost with it, or when the
 * machine has lost power; or nothing at all. */
enum going { GOING_CLOSED, GOING_POWER, GOING_SILENT };

static void stream_free(struct socket *socket, enum going going)
{
	struct pipe *out = socket->out, *in = socket->in;
	struct conn *conn = out->conn;

	if (going == GOING_SILENT)
		conn->silent[out == &conn->pipes[1]] = true;
	else if (going == GOING_POWER)
		pipe_end(out, CHUNK_RST, true);
	else if (in->arrived > in->given)
		pipe_end(out, CHUNK_RST, false);
	else
		pipe_end(out, CHUNK_FIN, false);
	out->from = NULL;
	in->to = NULL;
	out->sender = in->receiver = NULL;
	if (going != GOING_SILENT) {
		in->given = in->arrived;
		pipe_ack(in);
	}
	socket_free(socket);
	if (!in->from && !out->to)
		conn_free(conn);
}

static void listener_free(struct socket *socket, enum going going)
{
	struct list *link;

	while ((link = list_first(&socket->backlog)))
		stream_free(list_entry(link, struct socket, link), going);
	socket_free(socket);
}

/* --- Ops --- */

static void accept_give(struct socket *listener)
{
	struct list *accept = list_first(&listener->accepts);
	struct list *link = list_first(&listener->backlog);
	struct event *event;

	if (!accept || !link)
		return;
	event = list_entry(accept, struct event, wait);
	list_remove(link);
	listener->backlog_count--;
	event_settle(event, list_entry(link, struct socket, link)->id, world_soon(event->world));
}

static struct socket *listener_find(struct machine *machine, const char *address)
{
	struct world *world = machine->world;

	for (struct list *link = world->listeners.next; link != &world->listeners;
	     link = link->next) {
		struct socket *socket = list_entry(link, struct socket, link);

		if (strcmp(socket->address, address) == 0 &&
		    (socket->machine == machine || strncmp(address, "unix:", 5) != 0))
			return socket;
	}
	return NULL;
}

/* A dial has come to the other side. */
static bool dial_happen(struct event *event)
{
	struct world *world = event->world;
	struct machine *machine = event->machine, *other;
	struct socket *listener = listener_find(machine, event->op->address), *ends[2];
	struct link *home = &world->links[machine->index][machine->index];
	uint64_t back = world_later(world, link_latency(world, home));

	event->happen = NULL;
	if (!listener) {
		event_settle(event, -ECONNREFUSED, back);
		return false;
	}
	other = listener->machine;
	back = world_later(world, link_latency(world, &world->links[other->index][machine->index]));
	if (!other->up || world->links[machine->index][other->index].cut ||
	    world->links[other->index][machine->index].cut) {
		event->happen = dial_happen;		/* again, when dials_wake() */
		list_append(&world->dials_stalled, &event->wait);
		return false;
	}
	if (listener->backlog_count == BACKLOG) {
		event_settle(event, -ECONNREFUSED, back);
		return false;
	}
	ends[0] = socket_new(machine);
	ends[1] = socket_new(other);
	if (!ends[0] || !ends[1]) {
		if (ends[0])
			socket_free(ends[0]);
		if (ends[1])
			socket_free(ends[1]);
		event_settle(event, -ENFILE, back);
		return false;
	}
	conn_new(ends[0], ends[1]);
	list_append(&listener->backlog, &ends[1]->link);
	listener->backlog_count++;
	accept_give(listener);
	event_settle(event, ends[0]->id, back);
	return false;
}

static void dials_wake(struct world *world)
{
	struct list *link;

	while ((link = list_first(&world->dials_stalled))) {
		struct event *event = list_entry(link, struct event, wait);

		list_remove(link);
		event_queue(event, world_later(world, world_random_below(world, MILLISECONDS)));
	}
}

static bool send_happen(struct event *event)
{
	event->socket->out->sending = false;
	return true;
}

static bool recv_happen(struct event *event)
{
	event->socket->in->receiving = false;
	return true;
}

static void stream_submit(struct event *event, struct socket *socket)
{
	struct io_op *op = event->op;

	CHECK(socket->out != NULL);		/* a stream, and not a listener */
	CHECK(op->len > 0 && op->len <= IO_LEN_MAX);
	if (op->kind == IO_SEND) {
		CHECK(!socket->out->sending);	/* one at a time */
		socket->out->sending = true;
		socket->out->sender = event;
		event->happen = send_happen;
		event->checksum = checksum_of(op);
		pipe_take(socket->out);
	} else {
		CHECK(!socket->in->receiving);	/* one at a time */
		socket->in->receiving = true;
		socket->in->receiver = event;
		event->happen = recv_happen;
		pipe_give(socket->in);
	}
}

void net_submit(struct machine *machine, struct io_op *op)
{
	struct world *world = machine->world;
	struct event *event = event_new(world, machine, op, NULL);

	if (op->kind == IO_DIAL) {
		struct socket *listener = listener_find(machine, op->address);
		unsigned to = listener ? listener->machine->index : machine->index;
		struct link *link;

		event->happen = dial_happen;
		link = &world->links[machine->index][to];
		event_queue(event, world_later(world, link_latency(world, link)));
		return;
	}
	event->socket = socket_get(machine, op->file);
	if (op->kind == IO_ACCEPT) {
		CHECK(event->socket->address != NULL);
		list_append(&event->socket->accepts, &event->wait);
		accept_give(event->socket);
		return;
	}
	stream_submit(event, event->socket);
}

/* Takes the op from where it waits. */
void net_cancel(struct event *event)
{
	if (event->op->kind == IO_DIAL)
		event->happen = NULL;
	list_remove(&event->wait);
	if (!event->socket || !event->socket->out)
		return;
	if (event->socket->out->sender == event)
		event->socket->out->sender = NULL;
	if (event->socket->in->receiver == event)
		event->socket->in->receiver = NULL;
}

int net_listen(struct io *io, const char *address, int *out)
{
	struct machine *machine = machine_of(io);
	struct socket *socket;

	CHECK(machine->up);
	if (machine->dying)
		return -EIO;
	if (!address || !*address)
		return -EINVAL;
	if (listener_find(machine, address))
		return -EADDRINUSE;
	socket = socket_new(machine);
	if (!socket)
		return -ENFILE;
	socket->address = strdup(address);
	CHECK(socket->address != NULL);
	list_append(&machine->world->listeners, &socket->link);
	*out = socket->id;
	return 0;
}

void net_close(struct io *io, int id)
{
	struct machine *machine = machine_of(io);
	struct socket *socket;

	if (machine->dying)
		return;
	socket = socket_get(machine, id);
	for (struct list *link = machine->events.next; link != &machine->events;
	     link = link->next) {
		struct event *event = list_entry(link, struct event, link);

		if (event->socket != socket)
			continue;
		if (!event->settled) {
			net_cancel(event);
			event_settle(event, -ECANCELED, world_soon(machine->world));
		} else if (event->op->kind == IO_ACCEPT && event->result >= 0) {
			stream_free(socket_get(machine, (int)event->result), GOING_CLOSED);
		}
		event->result = -ECANCELED;
		event->happen = NULL;
		event->socket = NULL;
	}
	if (socket->address)
		listener_free(socket, GOING_CLOSED);
	else
		stream_free(socket, GOING_CLOSED);
}

const char *net_socket_node(struct io *io, int id)
{
	struct machine *machine = machine_of(io);
	struct socket *socket;

	if (machine->dying)
		return "";
	socket = socket_get(machine, id);
	CHECK(socket->out != NULL);
	return socket->out->conn->machines[socket->out == &socket->out->conn->pipes[0]]->node;
}

/* --- Faults --- */

struct world_link *world_link(struct world *world, struct machine *from, struct machine *to)
{
	return &world->links[from->index][to->index].public;
}

static void link_set_cut(struct world *world, struct link *link, bool cut)
{
	struct list *at;

	if (link->cut == cut)
		return;
	link->cut = cut;
	if (cut)
		return;
	for (at = world->conns.next; at != &world->conns; at = at->next) {
		struct conn *conn = list_entry(at, struct conn, link);

		for (unsigned i = 0; i < 2; i++)
			if (conn->pipes[i].link == link)
				pipe_heal(&conn->pipes[i]);
	}
	dials_wake(world);
}

void world_cut(struct world *world, struct machine *from, struct machine *to, bool cut)
{
	world_note(world, "link %s -> %s %s", from->name, to->name, cut ? "is cut" : "heals");
	link_set_cut(world, &world->links[from->index][to->index], cut);
}

void world_cut_both(struct world *world, struct machine *a, struct machine *b, bool cut)
{
	world_cut(world, a, b, cut);
	world_cut(world, b, a, cut);
}

void world_isolate(struct world *world, struct machine *machine, bool cut)
{
	for (unsigned i = 0; i < world->machine_count; i++)
		if (world->machines[i] != machine)
			world_cut_both(world, machine, world->machines[i], cut);
}

void world_heal(struct world *world)
{
	world_note(world, "all links heal");
	for (unsigned i = 0; i < world->machine_count; i++)
		for (unsigned j = 0; j < world->machine_count; j++)
			link_set_cut(world, &world->links[i][j], false);
}

void world_reset(struct world *world, struct machine *a, struct machine *b)
{
	world_note(world, "connections of %s and %s are reset", a->name, b->name);
	for (struct list *link = world->conns.next; link != &world->conns; link = link->next) {
		struct conn *conn = list_entry(link, struct conn, link);

		if (!((conn->machines[0] == a && conn->machines[1] == b) ||
		      (conn->machines[0] == b && conn->machines[1] == a)))
			continue;
		for (unsigned i = 0; i < 2; i++) {
			struct pipe *pipe = &conn->pipes[i];

			pipe->forced = true;
			pipe_end(pipe, CHUNK_RST, true);
			if (pipe->chunk_count > 0 && pipe->arrival->at == NOT_QUEUED)
				event_queue(pipe->arrival,
					    world_soon(world)); /* it stood behind a cut */
		}
	}
}

void net_crash(struct machine *machine, bool power)
{
	enum going going = !power ? GOING_CLOSED : machine->silent ? GOING_SILENT : GOING_POWER;

	for (struct list *link = machine->events.next; link != &machine->events; link = link->next)
		list_remove(&list_entry(link, struct event, link)->wait);
	for (unsigned slot = 0; slot < SOCKETS_MAX; slot++) {
		struct socket *socket = machine->sockets[slot];

		if (!socket)
			continue;
		if (!socket->address)
			stream_free(socket, going);
		else if (going != GOING_SILENT)
			listener_free(socket, going);
		else	/* dials to it hang; the backlog goes as the streams that it is */
			while (!list_empty(&socket->backlog))
				list_remove(list_first(&socket->backlog));
	}
}

void net_boot(struct machine *machine)
{
	struct world *world = machine->world;

	for (unsigned slot = 0; slot < SOCKETS_MAX; slot++)
		if (machine->sockets[slot])
			listener_free(machine->sockets[slot], GOING_CLOSED);
	for (struct list *link = world->conns.next; link != &world->conns; link = link->next) {
		struct conn *conn = list_entry(link, struct conn, link);

		for (unsigned i = 0; i < 2; i++) {
			if (conn->machines[i] != machine || !conn->silent[i])
				continue;
			conn->silent[i] = false;
			pipe_end(&conn->pipes[i], CHUNK_RST, true);
			conn->pipes[!i].given = conn->pipes[!i].arrived;
		}
	}
	dials_wake(world);
}

void net_free(struct world *world)
{
	struct list *link;

	while ((link = list_first(&world->conns)))
		conn_free(list_entry(link, struct conn, link));
	/* Listeners first, with their backlog: a socket that waits there is linked into its listener. */
	while ((link = list_first(&world->listeners))) {
		struct socket *listener = list_entry(link, struct socket, link);

		while ((link = list_first(&listener->backlog)))
			socket_free(list_entry(link, struct socket, link));
		while ((link = list_first(&listener->accepts)))
			list_remove(link);
		socket_free(listener);
	}
	for (unsigned i = 0; i < world->machine_count; i++)
		for (unsigned slot = 0; slot < SOCKETS_MAX; slot++)
			if (world->machines[i]->sockets[slot])
				socket_free(world->machines[i]->sockets[slot]);
}
