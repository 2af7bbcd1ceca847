/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a replica's files: what must hold before the engine may touch a byte.
 *
 *	file_open()	it is there, a file or a device, open for direct I/O
 *	file_lock()	and nobody else has it
 *	file_size()	and it is as large as the config says
 *	store_owner()	and a store belongs to this volume
 *
 * Who only reads a stopped replica asks for less, and takes a lock that others who read may have, too.
 *
 * Making them is in replica_files_create.c. Nothing here writes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "replica_files.h"

enum { LOCK_TRIES = 40, LOCK_PAUSE_NS = 50000000 };	/* 2 s */

__attribute__((format(printf, 3, 4)))
static int refuse(int res, char why[WHY_BYTES], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, WHY_BYTES, format, args);
	va_end(args);
	return res;
}

/* ---- one file ---- */

static int file_open(const char *what, const char *path, bool *buffered, char why[WHY_BYTES])
{
	int fd, flags = O_RDWR | O_CLOEXEC;
	struct stat st;

	if (stat(path, &st) < 0)
		return refuse(-errno, why, "%s %s: %s; bring it back or correct the path in the config; when it is "
			      "lost, `holdfast replace` makes this replica anew from a peer", what, path,
			      strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return refuse(-EINVAL, why, "%s %s: is neither a file nor a block device; correct the path in the "
			      "config", what, path);
	if (S_ISBLK(st.st_mode))
		flags |= O_EXCL;		/* the kernel's own lock: a mounted device is refused */
	fd = open(path, flags | O_DIRECT);
	if (fd < 0 && errno == EINVAL) {
		fd = open(path, flags);
		*buffered = true;
	}
	if (fd >= 0)
		return fd;
	if (errno == EBUSY)
		return refuse(-EBUSY, why, "%s %s: the device is mounted or in use by the kernel; unmount it, or "
			      "correct the path in the config", what, path);
	return refuse(-errno, why, "%s %s: cannot be opened: %s; give this user read and write permission", what,
		      path, strerror(errno));
}

/* @kind: LOCK_EX, or LOCK_SH of who only reads. */
static int file_lock(int fd, int kind, const char *what, const char *path, char why[WHY_BYTES])
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, kind | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return refuse(-errno, why, "%s %s: cannot be locked: %s; use a filesystem that has locks",
				      what, path, strerror(errno));
		nanosleep(&pause, NULL);
	}
	if (kind == LOCK_SH)
		return refuse(-EBUSY, why, "%s %s: a running daemon has it; use what that serves, or stop it first "
			      "(`holdfast down`)", what, path);
	return refuse(-EBUSY, why, "%s %s: another daemon, or one who reads it, has it; stop that one first "
		      "(`holdfast down`), or correct the path in the config", what, path);
}

/* Bytes; -errno when a device does not tell. */
static int64_t size_of(int fd)
{
	struct stat st;
	uint64_t bytes;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISBLK(st.st_mode))
		return st.st_size;
	return ioctl(fd, BLKGETSIZE64, &bytes) < 0 ? -errno : (int64_t)bytes;
}

static int file_size(int fd, const char *what, const char *path, uint64_t want, bool exactly, char why[WHY_BYTES])
{
	int64_t bytes = size_of(fd);

	if (bytes < 0)
		return refuse((int)bytes, why, "%s %s: its size cannot be read: %s; check the device", what, path,
			      strerror((int)-bytes));
	if ((uint64_t)bytes < want)
		return refuse(-EINVAL, why, "%s %s: has %lld bytes and needs %llu; correct the sizes in the config, or "
			      "bring back the whole file", what, path, (long long)bytes, (unsigned long long)want);
	if (exactly && (uint64_t)bytes > want)
		return refuse(-EINVAL, why, "%s %s: has %lld bytes, more than the volume's %llu; correct the size in "
			      "the config, or the path", what, path, (long long)bytes, (unsigned long long)want);
	return 0;
}

/* What direct I/O asks of offsets, as far as the kernel tells; the engine writes in units of @unit. */
static int file_alignment(int fd, const char *what, const char *path, uint32_t unit, char why[WHY_BYTES])
{
	struct statx stx = { 0 };

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 || !(stx.stx_mask & STATX_DIOALIGN))
		return 0;
	if (!(fcntl(fd, F_GETFL) & O_DIRECT) || stx.stx_dio_offset_align <= unit)
		return 0;
	return refuse(-EINVAL, why, "%s %s: the disk wants writes in units of %u bytes and ours are %u; create the "
		      "replica with journal-block = 4096 on a disk of 4096-byte sectors or smaller", what, path,
		      stx.stx_dio_offset_align, unit);
}

static bool is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int store_owner(int fd, const char *path, const uint8_t uuid[UUID_BYTES], char why[WHY_BYTES])
{
	char want[37], have[64] = "";
	ssize_t len;

	uuid_text(uuid, want);
	len = fgetxattr(fd, STORE_UUID_ATTRIBUTE, have, sizeof have - 1);
	if (len < 0 && (errno == EOPNOTSUPP || errno == EPERM))
		return 0;			/* such a filesystem cannot tell */
	if (len < 0 && errno == ENODATA)
		return refuse(-EBADMSG, why, "store %s: does not say whose it is; if it is this volume's (a copy loses "
			      "the mark): setfattr -n %s -v %s %s", path, STORE_UUID_ATTRIBUTE, want, path);
	if (len < 0)
		return refuse(-errno, why, "store %s: its mark %s cannot be read: %s; check the filesystem", path,
			      STORE_UUID_ATTRIBUTE, strerror(errno));
	if (strcasecmp(have, want) != 0)
		return refuse(-EBADMSG, why, "store %s: belongs to volume %.36s and the config says %s; correct the "
			      "path or the uuid in the config", path, have, want);
	return 0;
}

/* ---- the replica ---- */

/* One of a replica's files: what must hold of it. */
struct part {
	int *fd;
	const char *what, *path;
	uint64_t bytes;
	uint32_t unit;			/* of the engine's writes */
};

static int part_open(const struct part *part, bool *buffered, char why[WHY_BYTES])
{
	bool exactly = strcmp(part->what, "store") == 0;
	int res = file_open(part->what, part->path, buffered, why);

	if (res < 0)
		return res;
	*part->fd = res;		/* the caller closes it, also after an error */
	if (strcmp(part->what, "undo") == 0 && !is_file(res))
		return refuse(-EINVAL, why, "undo %s: is a device, and must be a file that may have holes; correct the "
			      "path in the config", part->path);
	res = file_lock(*part->fd, LOCK_EX, part->what, part->path, why);
	if (res == 0)
		res = file_size(*part->fd, part->what, part->path, part->bytes, exactly && is_file(*part->fd), why);
	if (res == 0)
		res = file_alignment(*part->fd, part->what, part->path, part->unit, why);
	return res;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	if (stat(a, &x) < 0 || stat(b, &y) < 0)
		return false;
	return S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode) ? x.st_rdev == y.st_rdev
							 : x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int all_open(struct replica_files *files, const struct config *c, char why[WHY_BYTES])
{
	const struct geometry *g = &c->volume.geometry;
	char undo[UNDO_SLOTS][PATH_MAX];
	struct part parts[REPLICA_FILES] = {
		{ &files->store, "store", c->store, g->volume_bytes, BLOCK_BYTES },
		{ &files->journal, "journal", c->journal, JOURNAL_HEADER_BYTES + g->journal_bytes, g->journal_block },
		{ &files->meta, "meta", c->meta, META_BYTES, BLOCK_BYTES },
		{ &files->bitmap, "bitmap", c->bitmap, replica_bitmap_bytes(g), BLOCK_BYTES },
	};

	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
		config_undo_path(c, slot, undo[slot]);
		parts[REPLICA_FILES - UNDO_SLOTS + slot] = (struct part){ &files->undo[slot], "undo", undo[slot],
									  replica_undo_bytes(g), BLOCK_BYTES };
	}
	for (unsigned i = 0; i < REPLICA_FILES; i++)
		for (unsigned j = 0; j < i; j++)
			if (same_file(parts[i].path, parts[j].path))
				return refuse(-EINVAL, why, "%s %s: is the same file as %s %s; give each its own path "
					      "in the config", parts[i].what, parts[i].path, parts[j].what,
					      parts[j].path);
	for (unsigned i = 0; i < REPLICA_FILES; i++) {
		int res = part_open(&parts[i], &files->buffered, why);

		if (res == 0 && i == 0 && is_file(files->store))
			res = store_owner(files->store, c->store, g->uuid, why);
		if (res < 0)
			return res;
	}
	return 0;
}

int replica_files_open(struct replica_files *out, const struct config *config, char why[WHY_BYTES])
{
	struct replica_files files = REPLICA_FILES_CLOSED;
	int res = all_open(&files, config, why);

	if (res < 0)
		replica_files_close(&files);
	*out = files;
	return res;
}

/* ---- to be read ---- */

static int file_open_to_read(int *fd, const char *what, const char *path, char why[WHY_BYTES])
{
	struct stat st;
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;	/* of something else that stands there: it is not waited for */

	if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
		flags |= O_EXCL;
	*fd = open(path, flags);
	if (*fd < 0 && errno == EBUSY)
		return refuse(-EBUSY, why, "%s %s: the device is mounted or in use, perhaps by a running daemon; stop "
			      "that first (`holdfast down`)", what, path);
	if (*fd < 0)
		return refuse(-errno, why, "%s %s: cannot be opened: %s; ask as root or as the daemon's user, or give "
			      "the right place", what, path, strerror(errno));
	if (fstat(*fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return refuse(-EINVAL, why, "%s %s: is neither a file nor a block device", what, path);
	return file_lock(*fd, LOCK_SH, what, path, why);
}

int replica_files_open_to_read(struct replica_files *out, const struct config *config, char why[WHY_BYTES])
{
	const struct { int *fd; const char *what, *path; } parts[] = {
		{ &out->meta, "meta", config->meta },
		{ &out->store, "store", config->store },
		{ &out->journal, "journal", config->journal },
	};
	int res = 0;

	*out = REPLICA_FILES_CLOSED;
	out->buffered = true;
	for (unsigned i = 0; i < sizeof parts / sizeof parts[0] && res == 0; i++)
		res = file_open_to_read(parts[i].fd, parts[i].what, parts[i].path, why);
	for (unsigned slot = 0; slot < UNDO_SLOTS && res == 0; slot++) {
		char path[PATH_MAX];

		config_undo_path(config, slot, path);
		if (access(path, F_OK) == 0)
			res = file_open_to_read(&out->undo[slot], "undo", path, why);
	}
	if (res < 0)
		replica_files_close(out);
	return res;
}

void replica_files_list(struct replica_files *files, struct volume_config *volume, int *fds[REPLICA_FILES],
			int *ids[REPLICA_FILES])
{
	int *const first_fds[] = { &files->store, &files->journal, &files->meta, &files->bitmap };
	int *const first_ids[] = { &volume->store, &volume->journal, &volume->meta, &volume->bitmap };

	for (unsigned i = 0; i < REPLICA_FILES; i++) {
		unsigned slot = i - (REPLICA_FILES - UNDO_SLOTS);

		fds[i] = i < REPLICA_FILES - UNDO_SLOTS ? first_fds[i] : &files->undo[slot];
		ids[i] = i < REPLICA_FILES - UNDO_SLOTS ? first_ids[i] : &volume->undo[slot];
	}
}

void replica_files_close(struct replica_files *files)
{
	struct volume_config ignored;
	int *fds[REPLICA_FILES], *ids[REPLICA_FILES];

	replica_files_list(files, &ignored, fds, ids);
	for (unsigned i = 0; i < REPLICA_FILES; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}
