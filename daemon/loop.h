/* SPDX-License-Identifier: Apache-2.0 */
/* The loop front end: a FUSE mount with one file, `volume`, whose bytes are the volume's. `holdfast attach`
 * ties it to a loop device; the daemon itself never opens its own mount. */
#ifndef HOLDFAST_LOOP_H
#define HOLDFAST_LOOP_H

#include "ring.h"
#include "volume.h"

struct loop;

/* Serves the mount on directory @mountpoint from the ring; @fd as fuse_channel_mount() says. Buffers are allotted here:
 * @memory_bytes, at least 16 MiB. -errno with @why. */
MUST_CHECK int loop_new(struct loop **out, struct ring *ring, struct volume *v, const char *mountpoint, int fd,
			uint64_t memory_bytes, char why[WHY_BYTES]);
void loop_role_changed(struct loop *loop);
/* How many times the file is open for writing now (a loop device holds it once). */
unsigned loop_writers(const struct loop *loop);
/* Unmounts (lazily when it is busy); done(context) runs once, when no request is in flight. */
void loop_stop(struct loop *loop, void (*done)(void *context), void *context);
void loop_free(struct loop *loop);

#endif
