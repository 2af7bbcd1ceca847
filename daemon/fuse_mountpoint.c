/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "fuse_mountpoint.h"

enum { MOUNTS_DEAD_MAX = 16 };	/* one on the other, from daemons that were killed */

int fuse_mountpoint_prepare(const char *mountpoint, char why[WHY_BYTES])
{
	struct stat st, parent;
	struct statfs figures;
	char above[PATH_MAX + 4];
	unsigned dead = 0;

	if (mkdir(mountpoint, 0700) < 0 && errno != EEXIST && errno != ENOTCONN) {
		int error = errno;

		snprintf(why, WHY_BYTES, "the mountpoint %.200s cannot be made: %s", mountpoint,
			 strerror(error));
		return -error;
	}
	/* The kernel may remember what stat() says, but asks for what statfs() says. */
	while (stat(mountpoint, &st) < 0 || statfs(mountpoint, &figures) < 0) {
		int error = errno;

		if ((error == ENOTCONN || error == ECONNABORTED) && dead++ < MOUNTS_DEAD_MAX &&
		    umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
			continue;
		snprintf(why, WHY_BYTES, "the mountpoint %.200s cannot be used: %s", mountpoint,
			 strerror(error));
		return -error;
	}
	snprintf(above, sizeof above, "%s/..", mountpoint);
	if (!S_ISDIR(st.st_mode) || stat(above, &parent) < 0 || parent.st_dev != st.st_dev) {
		snprintf(why, WHY_BYTES,
			 "the mountpoint %.200s is in use or no directory; umount it first",
			 mountpoint);
		return -EBUSY;
	}
	return 0;
}
