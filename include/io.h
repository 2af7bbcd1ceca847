/* SPDX-License-Identifier: Apache-2.0 */
/* The one door to the world: clock, chance, memory, disks, network, timers and the operator's log.
 *
 * blk/ and fs/ make no system call and read no clock; all they ask for goes through a struct io.
 * daemon/ring.c is the real one (io_uring); tests/sim/world.c is a simulated machine from a seed.
 *
 * One thread owns a struct io and everything built on it. An op is a struct io_op embedded in the
 * object that it works for. Between submit() and done() the op, its buffer and its address string
 * belong to the io and must stay where they are. done() runs exactly once for each submitted op,
 * never from inside submit(), cancel() or close(), and always on the owning thread.
 */
#ifndef HOLDFAST_IO_H
#define HOLDFAST_IO_H

#include <stddef.h>
#include <stdint.h>

#include "check.h"

enum io_kind {
	/* Disk. file = a file id; offset and len in bytes. On a file opened for direct I/O (all of a
	 * replica's files are) offset, len and the buffer's address must be multiples of the file's
	 * block: 512 or 4096. Results are 0 or more bytes, or -errno. */
	IO_READ,	/* result: bytes read; fewer than len only at the end of the file */
	IO_WRITE,	/* result: len. A failed write may have written any part. With IO_DURABLE these
			 * bytes (and no others: the device may use FUA) survive loss of power. With IO_CACHED they
			 * may be left to the kernel, which has them sooner than the disk: complete means, as always,
			 * that they survive this process. For small writes; the wait for memory is the caller's. */
	IO_SYNC,	/* result: 0. What was *complete* when this was submitted survives loss of power.
			 * After an error nothing is known of any write since the last good sync. */
	IO_PUNCH,	/* result: 0. The range (len may be large) reads as zeros and gives its space back. */
	IO_ZERO,	/* result: 0. The range reads as zeros and keeps, or gets, its space. */
	IO_MAP,		/* result: 1 when the bytes at offset are allocated data, 0 when they are a hole that
			 * reads as zeros. op->extent = how many bytes from offset are alike, at most len. */

	/* Network. Addresses are text: "127.0.0.1:7701", "[::1]:7701", "unix:/run/x.sock". */
	IO_ACCEPT,	/* file = a listening socket; result: the new socket */
	IO_DIAL,	/* address; result: the new, connected socket. No time-out of its own: cancel() it. */
	IO_SEND,	/* result: len, all of it, or -errno after any part was sent */
	IO_RECV,	/* result: 1..len bytes, 0 when the other side has closed */
	IO_POLL,	/* result: 0, when file can be read (the real io only) */

	/* Time. */
	IO_TIMER,	/* offset = delay in ns; result: 0 when it is over */
	IO_SOON,	/* result: 0, after every op that is already complete has had its done():
			 * the end of this turn of the loop, where batches are closed */
	IO_KINDS
};

enum { IO_DURABLE = 1, IO_CACHED = 2 };	/* io_op.flags, of IO_WRITE; one of them at most */

struct io_op {
	enum io_kind kind;
	int file;		/* file id or socket id, never a file descriptor */
	unsigned flags;
	uint64_t offset;	/* bytes; of IO_TIMER ns */
	uint64_t len;		/* bytes; of READ, WRITE, SEND, RECV at most IO_LEN_MAX */
	void *data;		/* not changed by WRITE and SEND */
	const char *address;	/* of IO_DIAL */
	const char *node;	/* of IO_DIAL: who is meant to be there; an io that knows that node's key connects to
				 * nobody else. NULL = whoever it is */
	const char *why;	/* out, of IO_DIAL: NULL or why not, one sentence, the io's until the next dial */
	uint64_t extent;	/* out, of IO_MAP */
	void (*done)(struct io_op *op, int64_t result);	/* result: as above, or -errno */

	/* The io's own, from submit() to done(). `in_flight` may be read by the op's owner. */
	int in_flight;
	void *private[6];
};

enum { IO_LEN_MAX = 16 << 20 };

enum io_level { IO_ERROR, IO_WARNING, IO_INFO, IO_DEBUG };

enum { IO_FIXED = 1 };	/* io->alloc flags: ops will point into it (a registered buffer where possible) */

struct io {
	uint64_t (*now_ns)(struct io *io);	/* monotonic, from any start; the only clock that decides */
	uint64_t (*wall_ns)(struct io *io);	/* since 1970; for records and people */
	void (*random)(struct io *io, void *out, size_t len);

	/* Zeroed memory, aligned to 4096 when bytes >= 4096 and to 16 otherwise; NULL when there is
	 * none. Called at start only, never on the data path. */
	void *(*alloc)(struct io *io, size_t bytes, unsigned flags);
	void (*free)(struct io *io, void *memory);	/* NULL is fine */

	void (*submit)(struct io *io, struct io_op *op);
	/* The op's done() runs soon, with -ECANCELED or, when it was too late, with its own result.
	 * Not for disk ops. Nothing happens when the op is not in flight. */
	void (*cancel)(struct io *io, struct io_op *op);

	/* *socket is the caller's until close(). -EADDRINUSE, -EINVAL for no address, other -errno. */
	int (*listen)(struct io *io, const char *address, int *socket) MUST_CHECK;
	/* The node at the other end of a connected @socket, as it has proved by its key; "" when the link is in the
	 * clear, and anybody may be there. The io's, until close(). */
	const char *(*socket_node)(struct io *io, int socket);
	/* Ends a socket of listen, accept or dial. Its ops in flight complete with -ECANCELED, later. */
	void (*close)(struct io *io, int socket);

	/* One line for the operator, without a newline: subject first ("volume=db0 peer=c gone: ..."). */
	void (*log)(struct io *io, enum io_level level, const char *line);
};

#endif
