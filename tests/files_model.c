/* SPDX-License-Identifier: Apache-2.0 */
#include "files_model_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the array of inodes ---- */

struct model_inode *model_inode(struct model *m, uint64_t ino)
{
	for (unsigned i = 0; i < m->count; i++)
		if (m->inodes[i].a.ino == ino)
			return &m->inodes[i];
	return NULL;
}

static struct model_inode *add(struct model *m)
{
	if (m->count == m->room) {
		m->room = m->room ? 2 * m->room : 16;
		m->inodes = realloc(m->inodes, m->room * sizeof *m->inodes);
	}
	m->inodes[m->count] = (struct model_inode){ .a.nlink = 1 };
	return &m->inodes[m->count++];
}

static void wipe(struct model_inode *i)
{
	for (unsigned x = 0; x < i->xattr_count; x++)
		free(i->xattrs[x].value);
	free(i->xattrs);
	free(i->names);
	free(i->data);
	free(i->target);
}

static void drop(struct model *m, uint64_t ino)
{
	struct model_inode *i = model_inode(m, ino);

	if (i->a.nlink || i->opens)
		return;
	wipe(i);
	*i = m->inodes[--m->count];
}

void model_init(struct model *m, const struct attributes *root)
{
	struct model_inode *i;

	*m = (struct model){ 0 };
	i = add(m);
	i->a = *root;
	i->parent = root->ino;
}

void model_end(struct model *m)
{
	for (unsigned i = 0; i < m->count; i++)
		wipe(&m->inodes[i]);
	free(m->inodes);
}

void model_remount(struct model *m)
{
	for (unsigned i = 0; i < m->count; i++)
		m->inodes[i].opens = 0;
	for (unsigned i = m->count; i-- > 0;)
		drop(m, m->inodes[i].a.ino);
}

/* ---- who may ---- */

bool model_in_group(const struct caller *c, uint32_t gid)
{
	for (unsigned i = 0; i < c->group_count; i++)
		if (c->groups[i] == gid)
			return true;
	return c->gid == gid;
}

bool model_may(const struct caller *c, const struct model_inode *i, unsigned mask)
{
	unsigned shift = c->uid == i->a.uid ? 6 : model_in_group(c, i->a.gid) ? 3 : 0;
	bool allowed;

	if (c->checked)
		return true;
	if (c->uid == 0)
		return S_ISDIR(i->a.mode) || !(mask & 1) || i->a.mode & 0111;
	if (c->uid != i->a.uid && model_acl_may(c, i, mask, &allowed))
		return allowed;
	return (i->a.mode >> shift & mask) == mask;
}

bool model_owns(const struct caller *c, const struct model_inode *i)
{
	return c->checked || c->uid == 0 || c->uid == i->a.uid;
}

static bool sticky_forbids(const struct caller *c, const struct model_inode *dir, const struct model_inode *i)
{
	return dir->a.mode & S_ISVTX && !c->checked && c->uid && c->uid != i->a.uid && c->uid != dir->a.uid;
}

int model_access(struct model *m, const struct caller *c, uint64_t ino, unsigned mask)
{
	struct model_inode *i = model_inode(m, ino);

	return !i ? -ENOENT : model_may(c, i, mask) ? 0 : -EACCES;
}

/* ---- names ---- */

uint64_t model_find(struct model *m, uint64_t dir, const char *name)
{
	struct model_inode *d = model_inode(m, dir);

	for (unsigned i = 0; d && i < d->name_count; i++)
		if (strcmp(d->names[i].name, name) == 0)
			return d->names[i].ino;
	return 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The directory can be entered and the name be looked for. */
static int enter(struct model *m, const struct caller *c, uint64_t parent, const char *name)
{
	struct model_inode *d = model_inode(m, parent);

	if (!d)
		return -ENOENT;
	if (!S_ISDIR(d->a.mode))
		return -ENOTDIR;
	if (!model_may(c, d, 1))
		return -EACCES;
	if (!*name)
		return -ENOENT;
	if (strchr(name, '/'))
		return -EINVAL;
	return strlen(name) > 255 ? -ENAMETOOLONG : 0;
}

int model_lookup(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint64_t *ino)
{
	const struct model_inode *of = model_inode(m, parent);
	int error = enter(m, c, parent, name);

	if (error == -ENOTDIR && strcmp(name, ".") == 0 && of->a.nlink) {
		*ino = parent;
		return 0;
	}
	if (error == -ENOTDIR && strcmp(name, ".") == 0)
		return -ENOENT;
	if (error)
		return error;
	if (strcmp(name, ".") == 0)
		*ino = parent;
	else if (strcmp(name, "..") == 0)
		*ino = model_inode(m, parent)->a.nlink ? model_inode(m, parent)->parent : 0;
	else
		*ino = model_find(m, parent, name);
	return *ino ? 0 : -ENOENT;
}

/* A new name may go there. */
static int may_add(struct model *m, const struct caller *c, uint64_t parent, const char *name)
{
	int error = enter(m, c, parent, name);

	if (error)
		return error;
	if (is_dots(name) || model_find(m, parent, name))
		return -EEXIST;
	if (!model_may(c, model_inode(m, parent), 3))
		return -EACCES;
	return model_inode(m, parent)->a.nlink ? 0 : -ENOENT;
}

/* The name, which is there, may go. */
static int may_remove(struct model *m, const struct caller *c, uint64_t parent, uint64_t ino, bool as_directory)
{
	struct model_inode *d = model_inode(m, parent), *i = model_inode(m, ino);

	if (!model_may(c, d, 3))
		return -EACCES;
	if (sticky_forbids(c, d, i))
		return -EPERM;
	if (as_directory && !S_ISDIR(i->a.mode))
		return -ENOTDIR;
	return !as_directory && S_ISDIR(i->a.mode) ? -EISDIR : 0;
}

static void touch_directory(struct model *m, uint64_t dir, struct fs_time now)
{
	struct model_inode *d = model_inode(m, dir);

	d->a.mtime = d->a.ctime = now;
	d->a.size = d->name_count;
}

static void put(struct model *m, uint64_t dir, const char *name, uint64_t ino)
{
	struct model_inode *d = model_inode(m, dir);

	d->names = realloc(d->names, (d->name_count + 1) * sizeof *d->names);
	memset(&d->names[d->name_count], 0, sizeof *d->names);
	strcpy(d->names[d->name_count].name, name);
	d->names[d->name_count++].ino = ino;
}

static void take(struct model *m, uint64_t dir, const char *name)
{
	struct model_inode *d = model_inode(m, dir);

	for (unsigned i = 0; i < d->name_count; i++)
		if (strcmp(d->names[i].name, name) == 0) {
			d->names[i] = d->names[--d->name_count];
			return;
		}
}

/* One name less for @ino, whose directory @dir was. */
static void unname(struct model *m, uint64_t dir, uint64_t ino, struct fs_time now)
{
	struct model_inode *i = model_inode(m, ino);

	i->a.ctime = now;
	i->a.nlink = S_ISDIR(i->a.mode) ? 0 : i->a.nlink - 1;
	if (S_ISDIR(i->a.mode))
		model_inode(m, dir)->a.nlink--;
	drop(m, ino);
}

int model_make(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint32_t mode, uint64_t rdev,
	       const char *target, uint64_t ino)
{
	int error = may_add(m, c, parent, name);
	struct model_inode *i, *d;
	struct attributes dir;

	if (error)
		return error;
	if (target && !*target)
		return -ENOENT;
	if (target && strlen(target) > 4095)
		return -ENAMETOOLONG;
	dir = model_inode(m, parent)->a;
	i = add(m);
	i->a = (struct attributes){ .ino = ino, .mode = mode, .nlink = 1, .uid = c->uid,
		.gid = dir.mode & S_ISGID ? dir.gid : c->gid, .atime = c->now, .mtime = c->now, .ctime = c->now,
		.btime = c->now, .rdev = S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0 };
	if (!S_ISLNK(mode) && !model_acl_inherit(model_inode(m, parent), i))
		i->a.mode &= ~c->umask;
	if (dir.mode & S_ISGID && S_ISDIR(mode))
		i->a.mode |= S_ISGID;
	else if (!S_ISDIR(mode) && (i->a.mode & 02010) == 02010 && c->uid && !model_in_group(c, i->a.gid))
		i->a.mode &= ~(uint32_t)S_ISGID;
	if (target) {
		i->target = strdup(target);
		i->a.size = strlen(target);
	}
	i->parent = S_ISDIR(mode) ? parent : 0;
	d = model_inode(m, parent);
	if (S_ISDIR(mode)) {
		i->a.nlink = 2;
		d->a.nlink++;
	}
	put(m, parent, name, ino);
	touch_directory(m, parent, c->now);
	return 0;
}

int model_create(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint32_t mode, int flags,
		 uint64_t ino)
{
	int error = enter(m, c, parent, name);
	uint64_t there;

	if (error)
		return error;
	there = model_find(m, parent, name);
	if (is_dots(name))
		return -EEXIST;
	if (there && flags & O_EXCL)
		return -EEXIST;
	if (there)
		return model_open(m, c, there, flags);
	error = model_make(m, c, parent, name, S_IFREG | (mode & 07777), 0, NULL, ino);
	if (error == 0)
		model_inode(m, ino)->opens++;
	return error;
}

/* As one that was made under a name and lost it at once; but the directory is as it was. */
int model_tmpfile(struct model *m, const struct caller *c, uint64_t parent, uint32_t mode, uint64_t ino)
{
	static const char name[] = "O_TMPFILE: nothing else in these tests has this name";
	struct attributes dir = model_inode(m, parent) ? model_inode(m, parent)->a : (struct attributes){ 0 };
	int error = model_make(m, c, parent, name, S_IFREG | (mode & 07777), 0, NULL, ino);

	if (error)
		return error;
	take(m, parent, name);
	model_inode(m, parent)->a = dir;
	model_inode(m, ino)->a.nlink = 0;
	model_inode(m, ino)->opens++;
	model_inode(m, ino)->nameable = true;
	return 0;
}

int model_link(struct model *m, const struct caller *c, uint64_t ino, uint64_t parent, const char *name)
{
	struct model_inode *i = model_inode(m, ino);
	int error;

	if (!i)
		return -ENOENT;
	error = may_add(m, c, parent, name);
	if (error)
		return error;
	if (S_ISDIR(i->a.mode))
		return -EPERM;
	if (i->a.nlink == 0 && !i->nameable)
		return -ENOENT;
	if (i->a.nlink >= 65536)
		return -EMLINK;
	i->nameable = false;
	i->a.nlink++;
	i->a.ctime = c->now;
	put(m, parent, name, ino);
	touch_directory(m, parent, c->now);
	return 0;
}

int model_unlink(struct model *m, const struct caller *c, uint64_t parent, const char *name)
{
	int error = enter(m, c, parent, name);
	uint64_t ino;

	if (error)
		return error;
	if (is_dots(name))
		return -EISDIR;
	ino = model_find(m, parent, name);
	error = ino ? may_remove(m, c, parent, ino, false) : -ENOENT;
	if (error)
		return error;
	take(m, parent, name);
	touch_directory(m, parent, c->now);
	unname(m, parent, ino, c->now);
	return 0;
}

int model_rmdir(struct model *m, const struct caller *c, uint64_t parent, const char *name)
{
	int error = enter(m, c, parent, name);
	uint64_t ino;

	if (error)
		return error;
	if (is_dots(name))
		return name[1] ? -ENOTEMPTY : -EINVAL;
	ino = model_find(m, parent, name);
	error = ino ? may_remove(m, c, parent, ino, true) : -ENOENT;
	if (error)
		return error;
	if (model_inode(m, ino)->name_count)
		return -ENOTEMPTY;
	take(m, parent, name);
	unname(m, parent, ino, c->now);
	touch_directory(m, parent, c->now);
	return 0;
}

/* ---- rename ---- */

static bool is_below(struct model *m, uint64_t ino, uint64_t top)
{
	while (ino != top && ino != MODEL_ROOT) {
		struct model_inode *i = model_inode(m, ino);

		if (!i || i->a.nlink == 0)
			return false;
		ino = i->parent;
	}
	return ino == top;
}

/* What is at both names allows it. @there = 0: nothing is at the new name. */
static int may_rename(struct model *m, const struct caller *c, uint64_t parent, uint64_t ino, uint64_t new_parent,
		      uint64_t there, unsigned flags)
{
	bool exchange = flags & RENAME_EXCHANGE;
	bool directory = S_ISDIR(model_inode(m, ino)->a.mode);
	int error;

	if (directory && is_below(m, new_parent, ino))
		return -EINVAL;
	if (there && S_ISDIR(model_inode(m, there)->a.mode) && is_below(m, parent, there))
		return exchange ? -EINVAL : -ENOTEMPTY;
	if (ino == there)
		return 0;
	error = may_remove(m, c, parent, ino, directory);
	if (error)
		return error;
	if (!there && !model_may(c, model_inode(m, new_parent), 3))
		return -EACCES;
	if (!there && model_inode(m, new_parent)->a.nlink == 0)
		return -ENOENT;
	if (there) {
		error = may_remove(m, c, new_parent, there,
				   exchange ? S_ISDIR(model_inode(m, there)->a.mode) : directory);
		if (error)
			return error;
	}
	if (parent != new_parent) {
		if (directory && !model_may(c, model_inode(m, ino), 2))
			return -EACCES;
		if (exchange && S_ISDIR(model_inode(m, there)->a.mode) && !model_may(c, model_inode(m, there), 2))
			return -EACCES;
	}
	return there && !exchange && model_inode(m, there)->name_count ? -ENOTEMPTY : 0;
}

/* The inode's directory becomes @to. */
static void move(struct model *m, uint64_t ino, uint64_t from, uint64_t to, struct fs_time now)
{
	struct model_inode *i = model_inode(m, ino);

	i->a.ctime = now;
	if (!S_ISDIR(i->a.mode))
		return;
	i->parent = to;
	model_inode(m, from)->a.nlink--;
	model_inode(m, to)->a.nlink++;
}

int model_rename(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint64_t new_parent,
		 const char *new_name, unsigned flags)
{
	uint64_t ino, there;
	int error;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	error = enter(m, c, parent, name);
	if (!error)
		error = enter(m, c, new_parent, new_name);
	if (error)
		return error;
	if (is_dots(name) || is_dots(new_name))
		return -EBUSY;
	ino = model_find(m, parent, name);
	there = model_find(m, new_parent, new_name);
	if (!ino || (!there && flags & RENAME_EXCHANGE))
		return -ENOENT;
	if (there && flags & RENAME_NOREPLACE)
		return -EEXIST;
	error = may_rename(m, c, parent, ino, new_parent, there, flags);
	if (error || ino == there)
		return error;
	take(m, parent, name);
	if (there)
		take(m, new_parent, new_name);
	put(m, new_parent, new_name, ino);
	move(m, ino, parent, new_parent, c->now);
	if (flags & RENAME_EXCHANGE) {
		put(m, parent, name, there);
		move(m, there, new_parent, parent, c->now);
	} else if (there) {
		unname(m, new_parent, there, c->now);
	}
	touch_directory(m, parent, c->now);
	touch_directory(m, new_parent, c->now);
	return 0;
}

/* ---- attributes ---- */

void model_kill_privileges(struct model_inode *i)
{
	i->a.mode &= ~(uint32_t)S_ISUID;
	if (i->a.mode & S_IXGRP)
		i->a.mode &= ~(uint32_t)S_ISGID;
}

static void resize(struct model_inode *i, uint64_t size)
{
	i->data = realloc(i->data, size + 1);
	if (size > i->a.size)
		memset(i->data + i->a.size, 0, size - i->a.size);
	i->a.size = size;
}

static int may_setattr(const struct caller *c, const struct model_inode *i, const struct attributes_set *set)
{
	bool times = set->valid & (SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW);
	bool touch = (set->valid & (SET_ATIME_NOW | SET_MTIME_NOW)) == (SET_ATIME_NOW | SET_MTIME_NOW);

	if (set->valid & SET_UID && c->uid && !c->checked && !(c->uid == i->a.uid && set->uid == i->a.uid))
		return -EPERM;
	if (set->valid & SET_GID && c->uid && !c->checked &&
	    !(c->uid == i->a.uid && (set->gid == i->a.gid || model_in_group(c, set->gid))))
		return -EPERM;
	if (set->valid & SET_MODE && !model_owns(c, i))
		return -EPERM;
	if (times && !model_owns(c, i) && !(touch && model_may(c, i, 2)))
		return touch ? -EACCES : -EPERM;
	if (!(set->valid & SET_SIZE))
		return 0;
	if (!S_ISREG(i->a.mode))
		return S_ISDIR(i->a.mode) ? -EISDIR : -EINVAL;
	if (!(set->valid & SET_BY_HANDLE) && !model_may(c, i, 2))
		return -EACCES;
	return set->size > 1ull << 44 ? -EFBIG : 0;
}

int model_setattr(struct model *m, const struct caller *c, uint64_t ino, const struct attributes_set *set)
{
	struct model_inode *i = model_inode(m, ino);
	uint32_t gid;
	int error;

	if (!i)
		return -ENOENT;
	error = may_setattr(c, i, set);
	if (error || (set->valid & ~(unsigned)SET_BY_HANDLE) == 0)
		return error;
	gid = set->valid & SET_GID ? set->gid : i->a.gid;
	if (((set->valid & (SET_UID | SET_GID)) && !S_ISDIR(i->a.mode)) || set->valid & SET_KILL_PRIVILEGES)
		model_kill_privileges(i);
	if (set->valid & SET_SIZE && c->uid && !c->checked)
		model_kill_privileges(i);
	if (set->valid & SET_MODE) {
		i->a.mode = (i->a.mode & S_IFMT) | (set->mode & 07777);
		if (c->uid && !c->checked && !model_in_group(c, gid))
			i->a.mode &= ~(uint32_t)S_ISGID;
		model_acl_chmod(i);
	}
	if (set->valid & SET_UID)
		i->a.uid = set->uid;
	i->a.gid = gid;
	i->a.ctime = set->valid & SET_CTIME ? set->ctime : c->now;
	if (set->valid & SET_SIZE) {
		resize(i, set->size);
		i->a.mtime = c->now;
	}
	if (set->valid & (SET_ATIME | SET_ATIME_NOW))
		i->a.atime = set->valid & SET_ATIME_NOW ? c->now : set->atime;
	if (set->valid & (SET_MTIME | SET_MTIME_NOW))
		i->a.mtime = set->valid & SET_MTIME_NOW ? c->now : set->mtime;
	return 0;
}

/* ---- bytes ---- */

int model_open(struct model *m, const struct caller *c, uint64_t ino, int flags)
{
	struct model_inode *i = model_inode(m, ino);
	unsigned mask = (flags & O_ACCMODE) == O_RDONLY ? 4 : (flags & O_ACCMODE) == O_WRONLY ? 2 : 6;

	if (!i)
		return -ENOENT;
	if (S_ISLNK(i->a.mode))
		return -ELOOP;
	if (flags & O_TRUNC)
		mask |= 2;
	if (S_ISDIR(i->a.mode) && mask & 2)
		return -EISDIR;
	if (flags & O_DIRECTORY && !S_ISDIR(i->a.mode))
		return -ENOTDIR;
	if (!model_may(c, i, mask))
		return -EACCES;
	if (flags & O_TRUNC && S_ISREG(i->a.mode)) {
		if (c->uid && !c->checked)
			model_kill_privileges(i);
		resize(i, 0);
		i->a.mtime = i->a.ctime = c->now;
	}
	i->opens++;
	return 0;
}

void model_release(struct model *m, uint64_t ino)
{
	model_inode(m, ino)->opens--;
	drop(m, ino);
}

static int regular(const struct model_inode *i)
{
	return !i ? -ENOENT : S_ISDIR(i->a.mode) ? -EISDIR : S_ISREG(i->a.mode) ? 0 : -EINVAL;
}

static void written(struct model_inode *i, const struct caller *c)
{
	if (c->uid && !c->checked)
		model_kill_privileges(i);
	i->a.mtime = i->a.ctime = c->now;
}

int model_write(struct model *m, const struct caller *c, uint64_t ino, uint64_t offset, const void *bytes, uint64_t len)
{
	struct model_inode *i = model_inode(m, ino);
	int error = regular(i);

	if (error || len == 0)
		return error;
	if (offset >= 1ull << 44)
		return -EFBIG;
	if (offset + len > i->a.size)
		resize(i, offset + len);
	memcpy(i->data + offset, bytes, len);
	written(i, c);
	return 0;
}

int model_fallocate(struct model *m, const struct caller *c, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	struct model_inode *i = model_inode(m, ino);
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	uint64_t end = offset + len;
	int what = mode & ~FALLOC_FL_KEEP_SIZE;

	if (!i)
		return -ENOENT;
	if (what && what != FALLOC_FL_ZERO_RANGE && !(what == FALLOC_FL_PUNCH_HOLE && keep))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	if (!S_ISREG(i->a.mode))
		return S_ISDIR(i->a.mode) ? -EISDIR : -ENODEV;
	if (end > 1ull << 44 || end < offset)
		return -EFBIG;
	if (what && offset < i->a.size)
		memset(i->data + offset, 0, (end < i->a.size ? end : i->a.size) - offset);
	if (!keep && end > i->a.size)
		resize(i, end);
	written(i, c);
	return 0;
}
