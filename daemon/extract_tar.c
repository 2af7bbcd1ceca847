/* SPDX-License-Identifier: Apache-2.0 */
/* One entry of the archive:
 *
 *	entry_fill()	name, mode, owner, times, device
 *	entry_xattrs()	extended attributes; the two that are ACLs as what tar has for these
 *	map_read()	of a file: where its data is, so that the rest of it can be holes
 *	bytes_write()	its bytes, all of them; what cannot be read is zeros, and named
 *
 * A file's size is in its header, before the first of its bytes is read, so nothing can be taken back there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "acl.h"
#include "auto.h"
#include "extract_private.h"

enum { RANGES_MAX = 1 << 20 };	/* of data in one file that are told from holes: 24 MiB; what is behind is data */

static const struct caller root = { .checked = true };

static int archive_failed(struct extract *x)
{
	return extract_fail(x, "archive: cannot be written: %s", archive_error_string(x->archive));
}

/* ---- the header ---- */

/* Before 1970 a time is so many seconds and a fraction more; libarchive writes both as they are, behind one sign. So
 * they are made the decimal that they stand for. (The last second has none: "-0.5" would need a sign of zero.) */
static void mtime_set(struct archive_entry *e, const struct fs_time *t)
{
	int64_t seconds = t->seconds;
	uint32_t nanoseconds = t->nanoseconds;

	if (seconds < -1 && nanoseconds) {
		seconds++;
		nanoseconds = 1000000000 - nanoseconds;
	} else if (seconds == -1) {
		nanoseconds = 0;
	}
	archive_entry_set_mtime(e, (time_t)seconds, (long)nanoseconds);
}

static void entry_fill(struct extract *x, const struct attributes *a, const char *link)
{
	struct archive_entry *e = x->entry;

	archive_entry_clear(e);
	archive_entry_set_pathname(e, x->path_len ? x->path : ".");
	archive_entry_set_mode(e, (mode_t)a->mode);
	archive_entry_set_uid(e, a->uid);
	archive_entry_set_gid(e, a->gid);
	mtime_set(e, &a->mtime);
	archive_entry_set_size(e, S_ISREG(a->mode) && !link ? (int64_t)a->size : 0);
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode)) {
		archive_entry_set_rdevmajor(e, major((dev_t)a->rdev));
		archive_entry_set_rdevminor(e, minor((dev_t)a->rdev));
	}
	if (link)
		archive_entry_set_hardlink(e, link);
}

/* As Linux has it in the attribute. What is no ACL is refused. */
static bool acl_add(struct archive_entry *e, const uint8_t *value, size_t len, int type)
{
	static const struct { uint16_t tag; int as; } tags[] = {
		{ ACL_USER_OBJ, ARCHIVE_ENTRY_ACL_USER_OBJ }, { ACL_USER, ARCHIVE_ENTRY_ACL_USER },
		{ ACL_GROUP_OBJ, ARCHIVE_ENTRY_ACL_GROUP_OBJ }, { ACL_GROUP, ARCHIVE_ENTRY_ACL_GROUP },
		{ ACL_MASK, ARCHIVE_ENTRY_ACL_MASK }, { ACL_OTHER, ARCHIVE_ENTRY_ACL_OTHER },
	};
	struct acl_entry_item item;
	le32 version;

	if (len < sizeof version || (len - sizeof version) % sizeof item)
		return false;
	memcpy(&version, value, sizeof version);
	if (from_le32(version) != ACL_VERSION)
		return false;
	for (size_t at = sizeof version; at < len; at += sizeof item) {
		unsigned i = 0;

		memcpy(&item, value + at, sizeof item);
		while (i < sizeof tags / sizeof tags[0] && tags[i].tag != from_le16(item.tag))
			i++;
		if (i == sizeof tags / sizeof tags[0] || from_le16(item.perm) > 7)
			return false;
		if (archive_entry_acl_add_entry(e, type, from_le16(item.perm), tags[i].as,
						(int)from_le32(item.id), NULL) != ARCHIVE_OK)
			return false;
	}
	return true;
}

static void xattr_add(struct extract *x, const char *name, const uint8_t *value, size_t len)
{
	char what[WHY_BYTES];
	bool added = true;

	if (strcmp(name, ACL_ACCESS_NAME) == 0)
		added = acl_add(x->entry, value, len, ARCHIVE_ENTRY_ACL_TYPE_ACCESS);
	else if (strcmp(name, ACL_DEFAULT_NAME) == 0)
		added = acl_add(x->entry, value, len, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT);
	else
		archive_entry_xattr_add_entry(x->entry, name, value, len);
	if (added)
		return;
	snprintf(what, sizeof what, "its %s is no access control list", name);
	extract_lost(x, what);
}

static void entry_xattrs(struct extract *x, uint64_t ino)
{
	AUTO_FREE char *names = malloc(XATTR_LIST_MAX_BYTES);
	char why[WHY_BYTES], what[2 * WHY_BYTES];
	size_t len = 0, value_len = 0;
	int error = names ? 0 : -ENOMEM;

	extract_ask(x);
	if (!error)
		error = op_listxattr(&x->files, &root, ino, names, XATTR_LIST_MAX_BYTES, &len);
	if (error) {
		snprintf(what, sizeof what, "its extended attributes cannot be read: %s",
			 extract_reason(x, error, why));
		extract_lost(x, what);
		return;
	}
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		extract_ask(x);
		error = op_getxattr(&x->files, &root, ino, name, x->buffer, XATTR_VALUE_MAX, &value_len);
		if (!error) {
			xattr_add(x, name, x->buffer, value_len);
			continue;
		}
		snprintf(what, sizeof what, "its extended attribute %.255s cannot be read: %s", name,
			 extract_reason(x, error, why));
		extract_lost(x, what);
	}
}

/* ---- the bytes ---- */

/* Of a file: data that lies in the volume, or bytes of its inode, or what cannot be found. */
struct range { uint64_t offset, len; };

struct bytes {
	uint64_t ino, size;
	struct range *ranges;		/* of what is no hole, rising */
	size_t count, room;
};

/* Where the file's bytes from @at on are. */
static int plan_make(struct extract *x, uint64_t at)
{
	extract_ask(x);
	return op_read(&x->files, x->plan_ino, at, FILE_BYTES_MAX, &x->plan);
}

/* For extract_behind(). */
static int plan_probe(struct extract *x, uint64_t block)
{
	return plan_make(x, block * BLOCK_BYTES);
}

static int range_add(struct extract *x, struct bytes *b, uint64_t offset, uint64_t len)
{
	struct range *last = b->count ? &b->ranges[b->count - 1] : NULL;

	/* What is too near to be worth a hole, or one too many: data, of which some are zeros. */
	if (last && (offset - (last->offset + last->len) < BLOCK_BYTES || b->count == RANGES_MAX)) {
		last->len = offset + len - last->offset;
		return 0;
	}
	if (b->count == b->room) {
		size_t room = b->room ? 2 * b->room : 64;
		struct range *grown = realloc(b->ranges, room * sizeof *grown);

		if (!grown)
			return extract_fail(x, "memory: not enough for the extents of a file");
		b->ranges = grown;
		b->room = room;
	}
	b->ranges[b->count++] = (struct range){ offset, len };
	return 0;
}

static int plan_take(struct extract *x, struct bytes *b, uint64_t *at)
{
	for (unsigned i = 0; i < x->plan.count && *at < b->size; i++) {
		uint64_t len = min_u64(x->plan.pieces[i].len, b->size - *at);

		if (x->plan.pieces[i].kind != PIECE_ZEROS && range_add(x, b, *at, len))
			return -ECANCELED;
		*at += len;
	}
	return 0;
}

static int map_read(struct extract *x, struct bytes *b)
{
	x->plan_ino = b->ino;
	for (uint64_t at = 0; at < b->size; ) {
		char why[WHY_BYTES], what[2 * WHY_BYTES];
		uint64_t behind, from = at;
		int error = plan_make(x, at);

		if (!error && x->plan.len) {
			if (plan_take(x, b, &at))
				return -ECANCELED;
			continue;
		}
		if (!error)
			snprintf(why, sizeof why, "the file ends before its size");
		else
			extract_reason(x, error, why);
		behind = extract_behind(x, at / BLOCK_BYTES, (b->size - 1) / BLOCK_BYTES + 1, plan_probe);
		at = min_u64(behind * BLOCK_BYTES, b->size);
		snprintf(what, sizeof what, "bytes %llu to %llu cannot be found, and are zeros in the archive: %s",
			 (unsigned long long)from, (unsigned long long)at, why);
		extract_lost(x, what);
	}
	return 0;
}

static int give(struct extract *x, const void *bytes, uint64_t len)
{
	while (len) {
		la_ssize_t put = archive_write_data(x->archive, bytes, len);

		if (put <= 0)
			return archive_failed(x);
		bytes = (const uint8_t *)bytes + put;
		len -= min_u64((uint64_t)put, len);
	}
	return 0;
}

static int give_zeros(struct extract *x, uint64_t len)
{
	while (len) {
		uint64_t part = min_u64(len, EXTRACT_ZEROS_BYTES);

		if (give(x, x->zeros, part))
			return -ECANCELED;
		len -= part;
	}
	return 0;
}

/* Whole blocks of the volume into the buffer; those that cannot be read are zeros. @at: where in the file. */
static void blocks_fetch(struct extract *x, uint64_t block, uint32_t count, uint64_t at)
{
	char what[2 * WHY_BYTES];

	if (stopped_read(x->stopped, block, count, x->buffer) == 0)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *page = x->buffer + i * (size_t)BLOCK_BYTES;

		if (stopped_read(x->stopped, block + i, 1, page) == 0)
			continue;
		memset(page, 0, BLOCK_BYTES);
		snprintf(what, sizeof what, "%d bytes at %llu cannot be read, and are zeros in the archive: %s",
			 BLOCK_BYTES, (unsigned long long)(at + i * (uint64_t)BLOCK_BYTES), stopped_why(x->stopped));
		extract_lost(x, what);
	}
}

/* @len bytes at @offset of the volume. */
static int give_volume(struct extract *x, uint64_t offset, uint64_t len, uint64_t at)
{
	const uint64_t volume = stopped_blocks(x->stopped)->count * (uint64_t)BLOCK_BYTES;

	while (len) {
		uint64_t block = offset / BLOCK_BYTES, from = offset % BLOCK_BYTES;
		uint64_t part = min_u64(len, EXTRACT_BUFFER_BYTES - from);

		if (offset > volume || len > volume - offset) {
			extract_lost(x, "an extent of it is outside of the volume, and zeros in the archive");
			return give_zeros(x, len);
		}
		blocks_fetch(x, block, (uint32_t)((from + part + BLOCK_BYTES - 1) / BLOCK_BYTES), at - from);
		if (give(x, x->buffer + from, part))
			return -ECANCELED;
		offset += part;
		at += part;
		len -= part;
	}
	return 0;
}

/* A range, planned once more, piece by piece. What was not found then is not now. */
static int give_range(struct extract *x, const struct range *range)
{
	uint64_t at = range->offset, end = range->offset + range->len;

	while (at < end) {
		uint64_t next = min_u64(round_down(at, BLOCK_BYTES) + BLOCK_BYTES, end);
		int error = 0;

		if (plan_make(x, at) || !x->plan.len) {
			if (give_zeros(x, next - at))
				return -ECANCELED;
			at = next;
			continue;
		}
		for (unsigned i = 0; i < x->plan.count && at < end && !error; i++) {
			const struct file_piece *piece = &x->plan.pieces[i];
			uint64_t len = min_u64(piece->len, end - at);

			if (piece->kind == PIECE_ZEROS)
				error = give_zeros(x, len);
			else if (piece->kind == PIECE_INLINE)
				error = give(x, x->plan.bytes + piece->offset, len);
			else
				error = give_volume(x, piece->offset, len, at);
			at += len;
		}
		if (error)
			return error;
	}
	return 0;
}

static int bytes_write(struct extract *x, const struct bytes *b)
{
	uint64_t at = 0;

	x->plan_ino = b->ino;
	for (size_t i = 0; i < b->count; i++) {
		if (give_zeros(x, b->ranges[i].offset - at) || give_range(x, &b->ranges[i]))
			return -ECANCELED;
		at = b->ranges[i].offset + b->ranges[i].len;
		x->figures.bytes += b->ranges[i].len;
	}
	return give_zeros(x, b->size - at);
}

/* ---- the entry ---- */

static int header_write(struct extract *x)
{
	int res = archive_write_header(x->archive, x->entry);

	if (res == ARCHIVE_FATAL)
		return archive_failed(x);
	if (res == ARCHIVE_FAILED) {
		char what[2 * WHY_BYTES];

		snprintf(what, sizeof what, "left out: the archive has no place for it: %s",
			 archive_error_string(x->archive));
		extract_lost(x, what);
		return -ENOTSUP;
	}
	x->figures.entries++;
	return 0;
}

static int file_write(struct extract *x, const struct attributes *a)
{
	struct bytes b = { .ino = a->ino, .size = a->size };
	int error = map_read(x, &b);

	/* Holes only where there are some: most files are read by any tar. */
	if (!error && !(b.count == 1 && b.ranges[0].len == b.size))
		for (size_t i = 0; i < b.count; i++)
			archive_entry_sparse_add_entry(x->entry, (int64_t)b.ranges[i].offset,
						       (int64_t)b.ranges[i].len);
	if (!error && b.count == 0 && b.size)
		archive_entry_sparse_add_entry(x->entry, (int64_t)b.size, 0);
	if (!error)
		error = header_write(x);
	if (!error)
		error = bytes_write(x, &b);
	free(b.ranges);
	return error;
}

static int symlink_set(struct extract *x, uint64_t ino)
{
	char target[SYMLINK_MAX_BYTES + 1], why[WHY_BYTES], what[2 * WHY_BYTES];
	uint32_t len;
	int error;

	extract_ask(x);
	error = op_readlink(&x->files, ino, target, &len);
	if (!error) {
		archive_entry_set_symlink(x->entry, target);
		return 0;
	}
	snprintf(what, sizeof what, "left out: its target cannot be read: %s", extract_reason(x, error, why));
	extract_lost(x, what);
	return error;
}

static int name_print(struct extract *x, const struct attributes *a)
{
	extract_print_name(stdout, x->path_len ? x->path : ".");
	if (S_ISDIR(a->mode))
		putchar('/');
	putchar('\n');
	x->figures.entries++;
	return ferror(stdout) ? extract_fail(x, "stdout: %s", strerror(errno)) : 0;
}

int extract_entry(struct extract *x, const struct attributes *a, const char *link)
{
	int error = 0;

	if (!x->archive)
		return name_print(x, a);
	if (S_ISSOCK(a->mode)) {
		extract_note(x, "a socket, for which tar has no form; left out");
		return 0;
	}
	entry_fill(x, a, link);
	if (!link) {
		entry_xattrs(x, a->ino);
		if (S_ISLNK(a->mode))
			error = symlink_set(x, a->ino);
	}
	if (!error)
		error = !link && S_ISREG(a->mode) ? file_write(x, a) : header_write(x);
	return error == -ECANCELED ? error : 0;
}
