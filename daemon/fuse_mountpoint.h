/* SPDX-License-Identifier: Apache-2.0 */
/* The directory that a front end mounts on. */
#ifndef HOLDFAST_FUSE_MOUNTPOINT_H
#define HOLDFAST_FUSE_MOUNTPOINT_H

#include "volume.h"

/* Makes the directory, and frees it of mounts whose daemon has died. -EBUSY when a live mount is
 * there, other -errno; @why says it. */
MUST_CHECK int fuse_mountpoint_prepare(const char *mountpoint, char why[WHY_BYTES]);

#endif
