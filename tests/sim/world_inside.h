/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of the world share: world.c (time, events, machines), world_disk.c and _net.c. */
#ifndef HOLDFAST_TESTS_WORLD_INSIDE_H
#define HOLDFAST_TESTS_WORLD_INSIDE_H

#include <errno.h>

#include "bytes.h"
#include "list.h"
#include "world.h"

enum { LOG_LINES = 200, LOG_BYTES = 400, NOT_QUEUED = -1 };

struct disk;
struct socket;

/* Something that will happen. Those with an op end in its done(); the op's memory may be gone after
 * a crash, so all that the world needs stands here. Pooled: none is malloced twice. */
struct event {
	struct world *world;
	struct machine *machine;	/* whose done() it ends in; NULL: it is on the wire */
	struct io_op *op;
	bool (*happen)(struct event *event);	/* true: now done(); NULL: just done() */
	void *owner;			/* of an event without op */
	struct list link;		/* in machine->events, or free in world->events_free */
	struct list wait;		/* in a queue: accepts, stalled dials, machine->held */
	int64_t at;			/* index in the heap, or NOT_QUEUED */
	int64_t result;
	bool settled;			/* result is final: too late to cancel */
	uint64_t checksum;		/* of the op's buffer at submit() */
	uint64_t progress;		/* bytes of a SEND taken so far */
	uint64_t mark;			/* of a SYNC: the last change it covers */
	struct disk *disk;
	struct socket *socket;
};

struct heap_entry { uint64_t when, sequence; struct event *event; };

struct log_line { uint64_t when; char text[LOG_BYTES]; };

/* The direction of a link; cut is changed by world_cut() only, which wakes what waits. */
struct link { struct world_link public; bool cut; uint64_t busy_until; };

struct memory { struct list link; size_t bytes, mapped; uint64_t magic; };

struct machine {
	struct io io;
	struct world *world;
	char name[32];
	unsigned index;
	const char *node;		/* machine_set_node() */
	bool up, dying, dying_power, paused, silent;
	uint64_t clock_offset;
	int64_t wall_skew;
	struct list events;		/* each op in flight has one */
	struct list held;		/* those that wait for the end of the pause */
	struct list memory;
	uint64_t memory_bytes;
	struct disk *disks[DISKS_MAX];
	unsigned disk_count;
	uint64_t disk_ops, crash_at;
	bool crash_at_power;
	struct socket *sockets[SOCKETS_MAX];
	unsigned socket_next;
	uint64_t socket_generation;
};

struct world {
	uint64_t seed, random[4];
	uint64_t now, sequence, tick, trace, event_count;
	struct heap_entry *heap;
	size_t heap_count, heap_room;
	struct list events_free;
	struct event **slabs;
	size_t slab_count;
	struct machine *machines[MACHINES_MAX];
	unsigned machine_count;
	struct machine *running;	/* whose done() is running */
	bool crash_due;			/* some machine is dying */
	bool crash_hit;			/* a planned crash was there: the run functions return */
	struct link links[MACHINES_MAX][MACHINES_MAX];
	struct list listeners, conns, dials_stalled;
	struct log_line *log;
	uint64_t log_count;
	bool verbose;
};

/* world.c */
uint64_t world_random_between(struct world *world, uint64_t min, uint64_t max);
bool world_chance(struct world *world, uint64_t one_in);
/* Now + @delay, rounded up to the tick. */
uint64_t world_later(struct world *world, uint64_t delay);
/* A moment later, as software takes. */
uint64_t world_soon(struct world *world);
struct event *event_new(struct world *world, struct machine *machine, struct io_op *op,
			bool (*happen)(struct event *));
void event_free(struct event *event);
/* Queues, or moves what is queued already. */
void event_queue(struct event *event, uint64_t when);
void event_unqueue(struct event *event);
/* The result is final; done() runs at @when. */
void event_settle(struct event *event, int64_t result, uint64_t when);
uint64_t checksum_of(const struct io_op *op);

/* world_disk.c */
void disk_submit(struct machine *machine, struct io_op *op);
/* Before the events of the machine are thrown away. */
void disks_crash(struct machine *machine, bool power);
void disks_free(struct machine *machine);

/* world_net.c */
void net_submit(struct machine *machine, struct io_op *op);
void net_cancel(struct event *event);
int net_listen(struct io *io, const char *address, int *socket);
void net_close(struct io *io, int socket);
const char *net_socket_node(struct io *io, int socket);
void net_crash(struct machine *machine, bool power);
void net_boot(struct machine *machine);
void net_free(struct world *world);

static inline struct machine *machine_of(struct io *io)
{
	return container_of(io, struct machine, io);
}

#endif
