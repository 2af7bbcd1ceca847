/* SPDX-License-Identifier: Apache-2.0 */
/* The mounted directory: the filesystem on a volume, as programs on this node see it. It is writable where the node is
 * primary, and read-only elsewhere; a change of role changes that in place, with all that is open. */
#ifndef HOLDFAST_MOUNT_H
#define HOLDFAST_MOUNT_H

#include "ring.h"
#include "volume.h"

struct mount;

/* An extended attribute that every inode has for all who may reach it, and that no list tells: an LSN in decimal. On
 * the primary the log up to there has every change that was answered before, of all files (what is written into a
 * mapping is no change before it is synced); elsewhere it is what readers here see. */
#define MOUNT_LSN_XATTR "holdfast.lsn"

/* Allots everything: @memory_bytes of it buffers, at least FUSE_MEMORY_BYTES_MIN. The volume has config.filesystem and
 * is not open yet. *out is the caller's until mount_free(). -ENOMEM; -EINVAL; with @why. */
MUST_CHECK int mount_new(struct mount **out, struct ring *ring, struct volume *v, uint64_t memory_bytes,
			 char why[WHY_BYTES]);
/* After every change of role, and once when the volume is open. The first primary of a volume that reads as zeros
 * makes the filesystem. */
void mount_role_changed(struct mount *m);
/* volume_on_applied()'s listener. */
bool mount_applied(void *mount, const void *annotation, uint32_t len, uint64_t lsn);

/* Serves @directory, an absolute path without links; @fd as fuse_channel_mount() says. -EALREADY; -EBUSY; -errno; with
 * @why. */
MUST_CHECK int mount_at(struct mount *m, const char *directory, int fd, char why[WHY_BYTES]);
/* Unmounts; call->done() later, with -EBUSY while programs use it, unless call->force: then they get errors from now
 * on. Errors, and then there is no done(): -ENOENT: it is not mounted; -EALREADY; with call->why. */
MUST_CHECK int mount_leave(struct mount *m, struct volume_call *call);
/* "" when it is not mounted. */
const char *mount_directory(const struct mount *m);

/* Unmounts by force, if it is mounted; done(context) runs once, when no request is in flight. */
void mount_stop(struct mount *m, void (*done)(void *context), void *context);
/* After mount_stop(), or before the volume was opened. NULL is fine. */
void mount_free(struct mount *m);

#endif
