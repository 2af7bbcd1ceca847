/* SPDX-License-Identifier: Apache-2.0 */
/* The real struct io: one io_uring, one thread. */
#ifndef HOLDFAST_RING_H
#define HOLDFAST_RING_H

#include <stdbool.h>
#include <sys/types.h>

#include "bounds.h"
#include "io.h"

struct ring;

struct ring_config {
	bool sqpoll;		/* a kernel thread polls for submissions; costs a core; off by default */
};

/* *out is the caller's until ring_free(), and from now on only the calling thread may use it (so: after any
 * fork). -ENOSYS: this kernel has no io_uring, or one without what we need (before 5.11); -EPERM: it is
 * switched off (sysctl kernel.io_uring_disabled, a container's seccomp filter); -ENOMEM: also when RLIMIT_MEMLOCK
 * is below about 64 KiB. */
MUST_CHECK int ring_new(struct ring **out, const struct ring_config *config);
/* No op may be in flight but accepts, recvs, polls, timers and soons, which are dropped without done(). Closes
 * what is still open. Memory of io->alloc is not freed: that is its owner's, before this. */
void ring_free(struct ring *ring);
struct io *ring_io(struct ring *ring);

/* The ring owns @fd from now on. Returns its file id, or -ENFILE when the table is full (then the fd
 * is still the caller's). */
MUST_CHECK int ring_file_add(struct ring *ring, int fd);
/* Closes the fd; no op on it may be in flight. */
void ring_file_remove(struct ring *ring, int file);

/* Who is at the other end of a connected unix socket. -EOPNOTSUPP for TCP, -EBADF. */
MUST_CHECK int ring_socket_peer_uid(struct ring *ring, int socket, uid_t *uid);

/* What has come on a unix socket, without waiting: IO_POLL says when. Bytes, 0 when the other side has closed, -EAGAIN,
 * other -errno. *fd: a file descriptor that came with them, the caller's; -1: none. More than one are closed. */
MUST_CHECK ssize_t ring_socket_receive(struct ring *ring, int socket, void *bytes, size_t len, int *fd);

/* Where the other end of a connected socket is, as text for people. */
void ring_socket_address(struct ring *ring, int socket, char out[ADDRESS_BYTES]);

/* Submits, waits, completes; returns when ring_stop() was called by some done(). */
void ring_run(struct ring *ring);
void ring_stop(struct ring *ring);

#endif
