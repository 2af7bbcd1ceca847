/* SPDX-License-Identifier: Apache-2.0 */
/* Making a replica, in an order in which every crash leaves something that the daemon refuses:
 *
 *	store		a hole of volume_bytes, marked with the volume's uuid
 *	journal		zeros that are *written*: a first write to a byte that is only allotted costs twice
 *	journal header	after the zeros are durable
 *	bitmap		zeros, allotted now: it must never be the one that finds the disk full
 *	undo		holes; what they keep is bounded by undo-size
 *	meta		last: without it there is no replica
 *
 * Whatever was made is remembered, and removed in reverse when a later step fails. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bytes.h"
#include "replica_files.h"

enum { MADE_MAX = 64, PIECE_BYTES = 1 << 20 };

struct creation {
	const struct config *config;
	char *why;			/* WHY_BYTES */
	uint8_t *zeros;			/* PIECE_BYTES */
	uint8_t *meta, *journal_header;
	unsigned made_count;
	char *made[MADE_MAX];		/* files and directories, in the order they were made */
};

__attribute__((format(printf, 3, 4)))
static int refuse(struct creation *c, int res, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->why, WHY_BYTES, format, args);
	va_end(args);
	return res;
}

static int refuse_errno(struct creation *c, const char *what, const char *path, const char *step)
{
	int res = -errno;
	const char *next = res == -ENOSPC || res == -EDQUOT ? "make room, or choose a smaller size or another disk" :
			   res == -EACCES || res == -EPERM ? "run as a user who may write there" :
							     "check the disk and the path";

	return refuse(c, res, "%s %s: %s: %s; %s", what, path, step, strerror(-res), next);
}

static int remember(struct creation *c, const char *path)
{
	char *copy = c->made_count < MADE_MAX ? strdup(path) : NULL;

	if (!copy) {
		remove(path);
		return refuse(c, -ENOMEM, "%s: too many directories to make; make them by hand", path);
	}
	c->made[c->made_count++] = copy;
	return 0;
}

/* ---- steps ---- */

static int directory_sync(struct creation *c, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0) {
		int res = refuse_errno(c, "directory", path, "cannot be synced");

		if (fd >= 0)
			close(fd);
		return res;
	}
	close(fd);
	return 0;
}

/* "/a/b" of "/a/b/c"; "." when there is no slash. */
static void parent_of(const char *path, char out[PATH_MAX])
{
	char *slash;

	snprintf(out, PATH_MAX, "%s", path);
	slash = strrchr(out, '/');
	if (!slash)
		strcpy(out, ".");
	else
		slash[slash == out] = '\0';
}

static int parent_sync(struct creation *c, const char *path)
{
	char parent[PATH_MAX];

	parent_of(path, parent);
	return directory_sync(c, parent);
}

/* Makes the directories above @path that are missing. */
static int parents_make(struct creation *c, const char *path)
{
	char at[PATH_MAX];
	int res;

	if (strlen(path) >= sizeof at)
		return refuse(c, -ENAMETOOLONG, "%s: the path is too long; choose a shorter one", path);
	strcpy(at, path);
	for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(at, 0700) == 0) {
			res = remember(c, at);
			if (res == 0)
				res = parent_sync(c, at);
			if (res < 0)
				return res;
		} else if (errno != EEXIST) {
			return refuse_errno(c, "directory", at, "cannot be made");
		}
		*slash = '/';
	}
	return 0;
}

static int write_at(int fd, const uint8_t *data, uint64_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t done = pwrite(fd, data, len, (off_t)offset);

		if (done < 0 && errno != EINTR)
			return -1;
		if (done > 0) {
			data += done;
			offset += (uint64_t)done;
			len -= (uint64_t)done;
		}
	}
	return 0;
}

static bool is_zeros(const struct creation *c, int fd, uint64_t offset, uint64_t len)
{
	uint8_t *data = malloc(len);
	bool zeros = data && pread(fd, data, len, (off_t)offset) == (ssize_t)len && memcmp(data, c->zeros, len) == 0;

	free(data);
	return zeros;
}

/* A device of the operator's: never one that holds something. Labels and superblocks live in the first MiB
 * or, of old RAID and of partition tables, in the last. */
static int device_take(struct creation *c, const char *what, const char *path, uint64_t bytes)
{
	uint64_t have = 0;
	int res = 0, fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &have) < 0) {
		res = refuse_errno(c, what, path, "the device cannot be taken");
	} else if (have < bytes) {
		res = refuse(c, -EINVAL, "%s %s: the device has %llu bytes and needs %llu; choose a larger one, or a "
			     "smaller size", what, path, (unsigned long long)have, (unsigned long long)bytes);
	} else {
		uint64_t edge = min_u64(have, PIECE_BYTES);

		if (!is_zeros(c, fd, 0, edge) || !is_zeros(c, fd, have - edge, edge))
			res = refuse(c, -EEXIST, "%s %s: the device holds data; when nobody needs it, clear the device "
				     "(blkdiscard -z %s) and create again", what, path, path);
	}
	if (res == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return res;
}

/* The new, empty file, or the device that is there. */
static int file_make(struct creation *c, const char *what, const char *path, uint64_t bytes)
{
	struct stat st;
	int fd, res = parents_make(c, path);

	if (res < 0)
		return res;
	if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
		return device_take(c, what, path, bytes);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return refuse(c, -EEXIST, "%s %s: exists already and is not overwritten; remove it when nobody needs "
			      "it, or choose another path", what, path);
	if (fd < 0)
		return refuse_errno(c, what, path, "cannot be made");
	res = remember(c, path);
	if (res < 0)
		close(fd);
	return res < 0 ? res : fd;
}

static int store_fill(struct creation *c, int fd, const char *path, uint64_t bytes)
{
	uint64_t range[2] = { 0, bytes };
	struct stat st;
	char uuid[37];

	if (fstat(fd, &st) < 0)
		return refuse_errno(c, "store", path, "cannot be examined");
	if (S_ISBLK(st.st_mode))	/* equal from the first byte on: two new replicas must not differ */
		return ioctl(fd, BLKZEROOUT, range) < 0 ? refuse_errno(c, "store", path, "cannot be zeroed") : 0;
	if (ftruncate(fd, (off_t)bytes) < 0)
		return refuse_errno(c, "store", path, "cannot be made that large");
	uuid_text(c->config->volume.geometry.uuid, uuid);
	if (fsetxattr(fd, STORE_UUID_ATTRIBUTE, uuid, strlen(uuid), 0) < 0 && errno != EOPNOTSUPP && errno != EPERM)
		return refuse_errno(c, "store", path, "cannot be marked with the volume's uuid");
	return 0;
}

static int journal_fill(struct creation *c, int fd, const char *path, uint64_t bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse_errno(c, "journal", path, "cannot be examined");
	/* First as a whole, so that a full disk is found before minutes of writing. */
	if (S_ISREG(st.st_mode) && fallocate(fd, 0, 0, (off_t)bytes) < 0 && errno != EOPNOTSUPP)
		return refuse_errno(c, "journal", path, "cannot be made that large");
	for (uint64_t at = 0; at < bytes; at += PIECE_BYTES)
		if (write_at(fd, c->zeros, min_u64(PIECE_BYTES, bytes - at), at) < 0)
			return refuse_errno(c, "journal", path, "cannot be written");
	if (fdatasync(fd) < 0)
		return refuse_errno(c, "journal", path, "cannot be synced");
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (write_at(fd, c->journal_header, JOURNAL_HEADER_BYTES, 0) < 0)
		return refuse_errno(c, "journal", path, "cannot be written");
	return 0;
}

static int bitmap_fill(struct creation *c, int fd, const char *path, uint64_t bytes)
{
	uint64_t range[2] = { 0, bytes };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse_errno(c, "bitmap", path, "cannot be examined");
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKZEROOUT, range) < 0 ? refuse_errno(c, "bitmap", path, "cannot be zeroed") : 0;
	errno = posix_fallocate(fd, 0, (off_t)bytes);
	return errno ? refuse_errno(c, "bitmap", path, "cannot be made that large") : 0;
}

static int undo_fill(struct creation *c, int fd, const char *path, uint64_t bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse_errno(c, "undo", path, "cannot be examined");
	if (!S_ISREG(st.st_mode))
		return refuse(c, -EINVAL, "undo %s: is a device, and must be a file that may have holes; choose "
			      "another path", path);
	return ftruncate(fd, (off_t)bytes) < 0 ? refuse_errno(c, "undo", path, "cannot be made that large") : 0;
}

static int meta_fill(struct creation *c, int fd, const char *path, uint64_t bytes)
{
	return write_at(fd, c->meta, bytes, 0) < 0 ? refuse_errno(c, "meta", path, "cannot be written") : 0;
}

static int one_create(struct creation *c, const char *what, const char *path, uint64_t bytes,
		      int (*fill)(struct creation *c, int fd, const char *path, uint64_t bytes))
{
	int res, fd = file_make(c, what, path, bytes);

	if (fd < 0)
		return fd;
	res = fill(c, fd, path, bytes);
	if (res == 0 && fsync(fd) < 0)
		res = refuse_errno(c, what, path, "cannot be synced");
	if (close(fd) < 0 && res == 0)
		res = refuse_errno(c, what, path, "cannot be closed");
	return res < 0 ? res : parent_sync(c, path);
}

static int all_create(struct creation *c)
{
	const struct config *config = c->config;
	const struct geometry *g = &config->volume.geometry;
	uint64_t journal_bytes = JOURNAL_HEADER_BYTES + g->journal_bytes;
	char undo[PATH_MAX];
	int res;

	replica_format(g, c->meta, c->journal_header);
	res = one_create(c, "store", config->store, g->volume_bytes, store_fill);
	if (res == 0)
		res = one_create(c, "journal", config->journal, journal_bytes, journal_fill);
	if (res == 0)
		res = one_create(c, "bitmap", config->bitmap, replica_bitmap_bytes(g), bitmap_fill);
	for (unsigned slot = 0; slot < UNDO_SLOTS && res == 0; slot++) {
		config_undo_path(config, slot, undo);
		res = one_create(c, "undo", undo, replica_undo_bytes(g), undo_fill);
	}
	if (res == 0)
		res = one_create(c, "meta", config->meta, META_BYTES, meta_fill);
	return res;
}

int replica_files_create(const struct config *config, char why[WHY_BYTES])
{
	struct creation c = { .config = config, .why = why };
	int res;

	c.zeros = calloc(1, PIECE_BYTES);
	c.meta = calloc(1, META_BYTES);
	c.journal_header = calloc(1, JOURNAL_HEADER_BYTES);
	if (c.zeros && c.meta && c.journal_header)
		res = all_create(&c);
	else
		res = refuse(&c, -ENOMEM, "replica: no memory to create it; try again");
	while (c.made_count > 0) {
		char *path = c.made[--c.made_count];

		if (res < 0)
			(void)!remove(path);	/* a directory that others have used meanwhile stays */
		free(path);
	}
	free(c.zeros);
	free(c.meta);
	free(c.journal_header);
	return res;
}
