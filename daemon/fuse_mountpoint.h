/* SPDX-License-Identifier: Apache-2.0 */
/* The directory that a front end mounts on, and the mount(2) itself. The command line does it, as root, and hands what
 * it has opened to the daemon, which needs no privilege then; a daemon that has it may also do it by itself. */
#ifndef HOLDFAST_FUSE_MOUNTPOINT_H
#define HOLDFAST_FUSE_MOUNTPOINT_H

#include "volume.h"

enum { FUSE_DATA_BYTES = 1 << 20 };	/* of one FUSE read or write: the most */

/* What is mounted: the rest of mount(2)'s options, MS_*, and how many bytes of a file that is read in order the kernel
 * may ask for ahead; 0: as it likes. */
struct fuse_mount { const char *options; unsigned long flags; uint32_t read_ahead; };
extern const struct fuse_mount fuse_mount_directory, fuse_mount_loop;

/* Makes the directory, and frees it of mounts whose daemon has died. -EBUSY when a live mount is
 * there, other -errno; @why says it. */
MUST_CHECK int fuse_mountpoint_prepare(const char *mountpoint, char why[WHY_BYTES]);
/* Mounts on a directory that was prepared. *fd: of /dev/fuse, non-blocking, the caller's; the kernel's first request is
 * in it. -errno with @why, and nothing is mounted. */
MUST_CHECK int fuse_mountpoint_mount(const char *mountpoint, const struct fuse_mount *mount, int *fd,
				     char why[WHY_BYTES]);
/* Takes mounts away whose daemon has died; others, and what is no mount, stay. */
void fuse_mountpoint_clear(const char *mountpoint);

#endif
