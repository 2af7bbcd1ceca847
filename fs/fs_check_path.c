/* SPDX-License-Identifier: Apache-2.0 */
/* Where damaged inodes are, for people. A path is put together from its end: one name of the inode, found by a walk
 * over all names, then the names of its directories, each looked for in its parent. What cannot be had is left out. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fs_check_private.h"

enum { STEP_NAMES = 512 };

static const char dots[] = "...";

/* A name and the slash before it. False: there is no room, and the path ends here. */
static bool path_put(struct fs_check_damage *damage, uint32_t *from, const char *name, uint32_t len)
{
	if (*from < len + sizeof dots) {
		*from -= (uint32_t)sizeof dots - 1;
		memcpy(damage->path + *from, dots, sizeof dots - 1);
		return false;
	}
	*from -= len;
	memcpy(damage->path + *from, name, len);
	damage->path[--*from] = '/';
	return true;
}

/* In each damage whose path is not begun: block by block the end of its path, and in `path` its directory. While the
 * paths are being made, the first bytes of one hold what is needed for the rest of it. */
struct path_start { uint64_t dir; uint32_t from; };
_Static_assert(sizeof(struct path_start) + NAME_MAX_BYTES + 2 < CHECK_PATH_BYTES, "room for both");

void fs_check_path_leaf(struct fs_check *c, const struct node *n)
{
	for (uint32_t index = 0; index < node_count(n); index++) {
		struct tree_item item = node_tree_item(n, index);
		const struct name_item *name = (const struct name_item *)item.value;

		c->at_inode = item.key.inode;
		if (!node_is_name(&item))
			continue;
		for (uint32_t i = 0; i < c->damage_count; i++) {
			struct fs_check_damage *damage = &c->damages[i];
			struct path_start start = { item.key.inode, CHECK_PATH_BYTES - 1 };

			if (damage->inode != from_le64(name->inode) || damage->path[0])
				continue;
			path_put(damage, &start.from, name->name, name->name_len);
			memcpy(damage->path + 1, &start, sizeof start);
			damage->path[0] = '/';
		}
	}
}

static void path_next(struct fs_check *c)
{
	c->path++;
	c->path_dir = 0;
}

/* The path is whole, or as much as there is room for. */
static void path_done(struct fs_check *c)
{
	struct fs_check_damage *damage = &c->damages[c->path];

	memmove(damage->path, damage->path + c->path_from, CHECK_PATH_BYTES - c->path_from);
	path_next(c);
}

static void path_unknown(struct fs_check *c)
{
	c->damages[c->path].path[0] = 0;
	path_next(c);
}

static void path_begin(struct fs_check *c)
{
	struct fs_check_damage *damage = &c->damages[c->path];
	struct path_start start;

	if (damage->inode == FS_ROOT_INODE) {
		memcpy(damage->path, "/", 2);
		path_next(c);
	} else if (damage->path[0] == 0) {
		path_next(c);
	} else {
		memcpy(&start, damage->path + 1, sizeof start);
		damage->path[CHECK_PATH_BYTES - 1] = 0;
		c->path_dir = start.dir;
		c->path_from = start.from;
		c->path_child = 0;
	}
}

/* The directory at hand is looked for in its parent from now on. */
static int path_parent(struct fs_check *c)
{
	struct inode inode;
	int error = inode_read(c->f, c->path_dir, &inode);

	if (error == -EIO || error == -ENOENT) {
		fs_abort(&c->f->fs);
		path_unknown(c);
		return 0;
	}
	if (error)
		return error;
	c->path_child = c->path_dir;
	c->path_dir = inode.parent;
	c->path_at = 0;
	return 0;
}

static int path_name(struct fs_check *c)
{
	struct tree_key key = tree_key(c->path_dir, ITEM_NAME, c->path_at);
	struct tree_item item;
	const struct name_item *name;
	int error = c->path_dir ? tree_next_alike(&c->f->fs, &key, &item) : -ENOENT;

	if (error == -EIO || error == -ENOENT || (error == 0 && item.key.at == UINT64_MAX)) {
		fs_abort(&c->f->fs);
		path_unknown(c);
		return 0;
	}
	if (error)
		return error;
	c->path_at = item.key.at + 1;
	name = (const struct name_item *)item.value;
	if (!node_is_name(&item) || from_le64(name->inode) != c->path_child)
		return 0;
	c->path_child = 0;
	if (!path_put(&c->damages[c->path], &c->path_from, name->name, name->name_len))
		path_done(c);
	return 0;
}

int fs_check_path_up(struct fs_check *c)
{
	for (unsigned i = 0; i < STEP_NAMES; i++) {
		int error = 0;

		if (c->path == c->damage_count)
			return 0;
		if (c->path_dir == 0)
			path_begin(c);
		else if (c->path_child)
			error = path_name(c);
		else if (c->path_dir == FS_ROOT_INODE)
			path_done(c);
		else
			error = path_parent(c);
		if (error)
			return error;
	}
	return 1;
}

/* ---- as text ---- */

/* What is no plain text as octal digits. */
static size_t put_quoted(char *out, size_t at, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && at < CHECK_TEXT_BYTES - 5; i++) {
		unsigned char byte = (unsigned char)bytes[i];

		if (byte >= 0x20 && byte != 0x7f && byte != '"' && byte != '\\')
			out[at++] = (char)byte;
		else
			at += (size_t)snprintf(out + at, 5, "\\%03o", byte);
	}
	out[at] = 0;
	return at;
}

__attribute__((format(printf, 3, 4)))
static size_t put(char *out, size_t at, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(out + at, CHECK_TEXT_BYTES - at, format, args);
	va_end(args);
	return min_u64(at + (size_t)len, CHECK_TEXT_BYTES - 1);
}

void fs_check_damage_text(const struct fs_check_damage *d, char out[CHECK_TEXT_BYTES])
{
	size_t at = 0;

	out[0] = 0;
	if (d->inode) {
		at = put(out, at, "inode %llu", (unsigned long long)d->inode);
		if (d->path[0]) {
			at = put(out, at, " (");
			at = put_quoted(out, at, d->path, strlen(d->path));
			at = put(out, at, ")");
		}
		at = put(out, at, "%s", d->block_count || d->name_len ? ", " : ": ");
	}
	if (d->block_count) {
		at = put(out, at, "block %llu", (unsigned long long)d->block);
		if (d->block_count > 1)
			at = put(out, at, " and %llu behind it", (unsigned long long)d->block_count - 1);
		at = put(out, at, ": ");
	}
	if (d->name_len) {
		at = put(out, at, "\"");
		at = put_quoted(out, at, d->name, d->name_len);
		at = put(out, at, "\"");
		if (d->other)
			at = put(out, at, " = inode %llu", (unsigned long long)d->other);
		at = put(out, at, ": ");
	}
	at = put(out, at, "%s", d->what);
	if (d->counted)
		put(out, at, ": %llu instead of %llu", (unsigned long long)d->is, (unsigned long long)d->should);
}
