/* SPDX-License-Identifier: Apache-2.0 */
/* The real struct io: one io_uring, one thread. */
#ifndef HOLDFAST_RING_H
#define HOLDFAST_RING_H

#include <stdbool.h>

#include "io.h"

struct ring;

struct ring_config {
	bool sqpoll;		/* a kernel thread polls for submissions; costs a core; off by default */
};

/* *out is the caller's until ring_free(). -errno of io_uring_queue_init (ENOSYS, EPERM: io_uring is
 * switched off on this machine; ENOMEM). */
MUST_CHECK int ring_new(struct ring **out, const struct ring_config *config);
/* No op may be in flight but accepts, recvs, polls and timers, which are dropped without done(). */
void ring_free(struct ring *ring);
struct io *ring_io(struct ring *ring);

/* The ring owns @fd from now on. Returns its file id, or -ENFILE when the table is full (then the fd
 * is still the caller's). */
MUST_CHECK int ring_file_add(struct ring *ring, int fd);
/* Closes the fd; no op on it may be in flight. */
void ring_file_remove(struct ring *ring, int file);

/* Submits, waits, completes; returns when ring_stop() was called by some done(). */
void ring_run(struct ring *ring);
void ring_stop(struct ring *ring);

#endif
