/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of the ring share; private to ring*.c.
 *
 *	ring.c		the loop: queue, enter, complete; and the disk ops
 *	ring_cached.c	writes that the kernel's cache takes
 *	ring_socket.c	addresses, listen, dial, accept
 *	ring_memory.c	memory that ops point into, registered with the kernel where it lets us
 *	ring_timer.c	the heap of timers
 */
#ifndef HOLDFAST_RING_PARTS_H
#define HOLDFAST_RING_PARTS_H

#include <liburing.h>
#include <sys/socket.h>

#include "list.h"
#include "ring.h"

enum {
	RING_SUBMISSIONS = 256, /* a turn of the loop rarely has more; the rest waits for the next turn */
	RING_COMPLETIONS =
		4096,           /* CLIENTS_MAX x 32 requests and the engine's own, before the kernel must queue */
	RING_FILES_MAX = 512,   /* 64 NBD clients, 7 peers x 2, 16 control, 8 files; below the usual 1024 fds */
	RING_REGIONS_MAX = 256, /* pieces of registered memory: allotted at start by a dozen owners */
	RING_TIMERS_MAX = 4096, /* a few per peer and client */
	RING_ZERO_BYTES = 256 << 10, /* one write of zeros where fallocate cannot */
};
#define RING_REGION_BYTES (1ull << 30)	/* the kernel's bound for one registered buffer */

/* Where an op is between submit() and done(). */
enum op_stage {
	OP_QUEUED,	/* in ring->queued, not seen by the kernel */
	OP_KERNEL,	/* its CQE will come; in ring->cancels when that is to come sooner */
	OP_BEHIND,	/* a send that waits for the send before it on the same socket */
	OP_ENDED,	/* in ring->ended, with its result: done() runs in this turn or the next */
	OP_TIMER,	/* in ring->timers */
	OP_SOON,	/* in ring->soon */
};

/* io_op.private */
struct ring_op {
	struct list link;			/* of the list that its stage names */
	union {
		struct list on_file;		/* of ring_file.ops */
		uint64_t timer_sequence;	/* equal deadlines end in the order of submission */
	};
	union {
		uint64_t progress;		/* bytes done so far */
		uint64_t deadline_ns;
		int64_t result;			/* of OP_ENDED */
	};
	uint8_t stage;
	uint8_t cancelled : 1, attached : 1, by_writes : 1;
	uint16_t file;				/* index in ring->files, when attached */
	uint32_t timer;				/* index in ring->timers */
} __attribute__((may_alias));
_Static_assert(sizeof(struct ring_op) <= sizeof((struct io_op){ 0 }.private), "the io's own part of an op");

static inline struct ring_op *ring_op(struct io_op *op) { return (struct ring_op *)(void *)op->private; }
static inline struct io_op *ring_op_of(struct ring_op *at) { return container_of(at, struct io_op, private); }
static inline struct io_op *ring_op_at(struct list *link)
{
	return ring_op_of(list_entry(link, struct ring_op, link));
}

struct ring_file {
	int fd;				/* -1: a free slot */
	uint32_t generation;		/* part of the id, so that an id outlived by its file finds nothing */
	unsigned ops;			/* in flight on it */
	struct list attached;		/* those ops */
	struct io_op *sending;		/* the one send that the kernel has */
	bool socket, closing, direct, device;
	bool no_punch, no_zero;		/* the filesystem said so once */
	bool no_cache;			/* it cannot be opened once more */
	int cached_fd;			/* the same file without O_DIRECT, from its first IO_CACHED on; -1 */
	uint64_t cached_from;		/* what was left to the kernel behind this it has not been asked to write */
	struct sockaddr_storage address;	/* of a dial, while the kernel reads it; of a listening unix socket */
	socklen_t address_len;
	bool unlink;			/* address names a socket file that is ours */
};

struct ring_region {
	uint8_t *start;
	uint64_t len;			/* of this piece */
	uint64_t mapped;		/* of the whole mapping, in its first piece; else 0 */
	int buffer;			/* index in the kernel's table */
};

struct ring {
	struct io io;
	struct io_uring uring;
	bool stopped, debug;
	bool files_registered;		/* slot = index in the kernel's table */
	bool buffers_registered;	/* the kernel has a table, and has not refused a buffer yet */

	struct list queued, cancels, ended, soon;
	unsigned passed;		/* turns since the kernel was last asked */
	unsigned owed;			/* disk ops, sends and dials in flight: they may not be dropped */

	struct io_op *timers[RING_TIMERS_MAX];	/* binary heap, the earliest first */
	uint32_t timer_count;
	uint64_t timer_sequence;

	struct ring_region regions[RING_REGIONS_MAX];	/* sorted by start */
	unsigned region_count;
	bool buffer_taken[RING_REGIONS_MAX];
	uint8_t *zeros;			/* RING_ZERO_BYTES, for punch and zero by writes */

	struct ring_file files[RING_FILES_MAX];
};

/* ---- ring.c ---- */

struct ring_file *ring_file_find(struct ring *ring, int file);	/* NULL: no such id, or closed */
int ring_file_id(const struct ring *ring, const struct ring_file *file);
void ring_file_release(struct ring *ring, struct ring_file *file);
/* The op has its result; done() runs later in the loop. */
void ring_op_end(struct ring *ring, struct io_op *op, int64_t result);
void ring_op_attach(struct ring *ring, struct io_op *op, struct ring_file *file);

/* ---- ring_cached.c ---- */

/* An IO_CACHED that is done, all of it, with its result; false: it goes to the queue. */
bool ring_write_cached(struct ring *ring, struct ring_file *file, struct io_op *op, int64_t *result);

/* ---- ring_socket.c ---- */

int ring_listen(struct io *io, const char *address, int *socket);
/* Makes the socket that @op will connect, and attaches op to it; -errno and then nothing is attached. */
int ring_dial(struct ring *ring, struct io_op *op);
/* What becomes of the kernel's answer: a socket id or -errno. */
int ring_dialed(struct ring *ring, struct ring_file *file, int res);
int ring_accepted(struct ring *ring, int fd);
const char *ring_socket_node(struct io *io, int socket);

/* ---- ring_memory.c ---- */

void ring_memory_limit_raise(void);
void ring_memory_init(struct ring *ring);
void *ring_alloc(struct io *io, size_t bytes, unsigned flags);
void ring_memory_free(struct io *io, void *memory);
/* The kernel's index of the registered buffer in which all of [data, data + len) lies, or -1. */
int ring_buffer_find(const struct ring *ring, const void *data, uint64_t len);

/* ---- ring_timer.c ---- */

void ring_timer_add(struct ring *ring, struct io_op *op);
void ring_timer_remove(struct ring *ring, struct io_op *op);
/* Takes the earliest timer when its deadline is at or before @now_ns, else NULL. */
struct io_op *ring_timer_expire(struct ring *ring, uint64_t now_ns);

#endif
