/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "auto.h"
#include "fuse_mountpoint.h"

enum { MOUNTS_DEAD_MAX = 16 };	/* one on the other, from daemons that were killed */

const struct fuse_mount fuse_mount_directory = { ",default_permissions,allow_other", 0, FUSE_DATA_BYTES };
const struct fuse_mount fuse_mount_loop = { "", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 };

/* The kernel may remember what stat() says, but asks for what statfs() says. */
static bool usable(const char *mountpoint, struct stat *st)
{
	struct statfs figures;

	return stat(mountpoint, st) == 0 && statfs(mountpoint, &figures) == 0;
}

static bool dead(int error) { return error == ENOTCONN || error == ECONNABORTED; }

int fuse_mountpoint_prepare(const char *mountpoint, char why[WHY_BYTES])
{
	struct stat st, parent;
	char above[PATH_MAX + 4];
	unsigned found = 0;

	if (mkdir(mountpoint, 0700) < 0 && errno != EEXIST && errno != ENOTCONN) {
		int error = errno;

		snprintf(why, WHY_BYTES, "the mountpoint %.200s cannot be made: %s", mountpoint,
			 strerror(error));
		return -error;
	}
	while (!usable(mountpoint, &st)) {
		int error = errno;

		if (dead(error) && found++ < MOUNTS_DEAD_MAX &&
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

void fuse_mountpoint_clear(const char *mountpoint)
{
	struct stat st;

	for (unsigned found = 0; found < MOUNTS_DEAD_MAX && !usable(mountpoint, &st) && dead(errno); found++)
		if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return;
}

/* What INIT is answered with can only make less of it. The mount's number is asked of the kernel and not of the daemon,
 * which does not answer yet. */
static void read_ahead_set(const char *mountpoint, uint32_t bytes)
{
	char path[64], text[16];
	struct statx stx;

	if (!bytes || statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &stx) < 0)
		return;
	snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", stx.stx_dev_major, stx.stx_dev_minor);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, text, (size_t)snprintf(text, sizeof text, "%u", bytes >> 10));
}

int fuse_mountpoint_mount(const char *mountpoint, const struct fuse_mount *kind, int *out, char why[WHY_BYTES])
{
	AUTO_CLOSE int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	char options[256];
	int error;

	if (fd < 0) {
		error = errno;
		snprintf(why, WHY_BYTES, "/dev/fuse: %s; load the fuse module", strerror(error));
		return -error;
	}
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,max_read=%d%s", fd, geteuid(),
		 getegid(), FUSE_DATA_BYTES, kind->options);
	if (mount("holdfast", mountpoint, "fuse.holdfast", kind->flags, options) < 0) {
		error = errno;
		snprintf(why, WHY_BYTES, "the mountpoint %.200s cannot be mounted: %s; be root", mountpoint,
			 strerror(error));
		return -error;
	}
	read_ahead_set(mountpoint, kind->read_ahead);
	*out = TAKE_FD(fd);
	return 0;
}
