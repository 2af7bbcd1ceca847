/* SPDX-License-Identifier: Apache-2.0 */
/* Getting a replica's old files out of the way of a new one:
 *
 *	old_open()	each that is there is locked, so that no daemon has any of them
 *	old_move()	then each file gets another name, and a device loses what says that it holds something
 *
 * Nothing is touched before all are locked. A crash between two moves leaves a part of a replica, which no daemon
 * opens; the next try moves the rest. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "auto.h"
#include "bytes.h"
#include "replica_files.h"

enum { EDGE_BYTES = 1 << 20 };		/* what `create` looks at */

struct old {
	char path[PATH_MAX];
	int fd;				/* -1: it is not there */
	bool device;
};

static int refuse(const struct old *old, int res, const char *step, char why[WHY_BYTES])
{
	snprintf(why, WHY_BYTES, "old file %s: %s: %s; %s", old->path, step, strerror(-res),
		 res == -EBUSY ? "stop who has it first (`holdfast down`)" : "correct path or permissions");
	return res;
}

static int old_open(struct old *old, char why[WHY_BYTES])
{
	struct stat st;

	if (stat(old->path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : refuse(old, -errno, "cannot be examined", why);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return refuse(old, -EINVAL, "is neither a file nor a block device", why);
	old->device = S_ISBLK(st.st_mode);
	old->fd = open(old->path, O_RDWR | O_CLOEXEC | (old->device ? O_EXCL : 0));
	if (old->fd < 0)
		return refuse(old, -errno, "cannot be opened", why);
	if (flock(old->fd, LOCK_EX | LOCK_NB) < 0)
		return refuse(old, errno == EWOULDBLOCK ? -EBUSY : -errno, "cannot be locked", why);
	return 0;
}

static int device_clear(const struct old *old, char why[WHY_BYTES])
{
	uint64_t bytes, first[2] = { 0, EDGE_BYTES }, last[2] = { 0, EDGE_BYTES };

	if (ioctl(old->fd, BLKGETSIZE64, &bytes) < 0)
		return refuse(old, -errno, "its size cannot be read", why);
	first[1] = last[1] = min_u64(bytes, EDGE_BYTES);
	last[0] = bytes - last[1];
	if (ioctl(old->fd, BLKZEROOUT, first) < 0 || ioctl(old->fd, BLKZEROOUT, last) < 0 || fsync(old->fd) < 0)
		return refuse(old, -errno, "its ends cannot be zeroed", why);
	return 0;
}

/* 1 when it has another name now. */
static int old_move(const struct old *old, const char *ending, char why[WHY_BYTES])
{
	char to[PATH_MAX + REPLICA_ENDING_BYTES], directory[PATH_MAX];

	if (old->device)
		return device_clear(old, why);
	snprintf(to, sizeof to, "%s%s", old->path, ending);
	if (rename(old->path, to) < 0)
		return refuse(old, -errno, "cannot be renamed", why);
	snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(old->path, '/') - old->path), old->path);
	AUTO_CLOSE int fd = open(*directory ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return refuse(old, -errno, "its directory cannot be synced", why);
	return 1;
}

static bool ending_taken(const struct old olds[REPLICA_FILES], const char *ending)
{
	char to[PATH_MAX + REPLICA_ENDING_BYTES];

	for (unsigned i = 0; i < REPLICA_FILES; i++) {
		snprintf(to, sizeof to, "%s%s", olds[i].path, ending);
		if (access(to, F_OK) == 0)
			return true;
	}
	return false;
}

/* Of this second, or the next one that is not taken by an earlier replacement. */
static void ending_choose(const struct old olds[REPLICA_FILES], char ending[REPLICA_ENDING_BYTES])
{
	time_t now = time(NULL);
	struct tm parts;

	do
		strftime(ending, REPLICA_ENDING_BYTES, ".old-%Y%m%dT%H%M%SZ", gmtime_r(&now, &parts));
	while (now++, ending_taken(olds, ending));
}

int replica_files_set_aside(const struct config *config, char ending[REPLICA_ENDING_BYTES], char why[WHY_BYTES])
{
	/* Meta stands last and is moved first: without it there is no replica that would miss the others. */
	const char *first[] = { config->store, config->journal, config->bitmap };
	static struct old olds[REPLICA_FILES];
	int res = 0, moved = 0;

	for (unsigned i = 0; i < REPLICA_FILES; i++) {
		olds[i] = (struct old){ .fd = -1 };
		if (i < 3)
			strcpy(olds[i].path, first[i]);
		else if (i < 3 + UNDO_SLOTS)
			config_undo_path(config, i - 3, olds[i].path);
		else
			strcpy(olds[i].path, config->meta);
	}
	for (unsigned i = 0; i < REPLICA_FILES && res >= 0; i++)
		res = old_open(&olds[i], why);
	ending_choose(olds, ending);
	for (unsigned i = REPLICA_FILES; i-- > 0 && res >= 0; moved += res > 0)
		res = olds[i].fd < 0 ? 0 : old_move(&olds[i], ending, why);
	for (unsigned i = 0; i < REPLICA_FILES; i++)
		if (olds[i].fd >= 0)
			close(olds[i].fd);
	return res < 0 ? res : moved;
}
