/* SPDX-License-Identifier: Apache-2.0 */
#include "directory.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

void directory_init(struct files *f, uint64_t parent, struct inode *inode)
{
	inode->nlink = 2;
	inode->parent = parent;
	f->fs.io->random(f->fs.io, &inode->special, sizeof inode->special);
}

void directory_root(struct files *f, const struct caller *owner, struct inode *root)
{
	*root = (struct inode){ .ino = FS_ROOT_INODE, .mode = S_IFDIR | 0755, .uid = owner->uid, .gid = owner->gid,
				.generation = 1, .mtime = owner->now, .ctime = owner->now, .atime = owner->now,
				.btime = owner->now };
	directory_init(f, FS_ROOT_INODE, root);
}

int directory_empty(struct files *f, const struct inode *dir)
{
	struct tree_key key = tree_key(dir->ino, ITEM_NAME, 0);
	struct tree_item item;
	int error = tree_next_alike(&f->fs, &key, &item);

	return error == 0 ? -ENOTEMPTY : error == -ENOENT ? 0 : error;
}

/* Damage may have made a ring of directories. A stone is laid down after 2, 4, 8 ... steps: who meets it again walks in
 * a ring. */
int directory_outside(struct files *f, uint64_t ino, uint64_t top)
{
	uint64_t stone = 0, steps = 0, next_stone = 2;
	struct inode dir;

	for (;;) {
		int error;

		if (ino == top)
			return -EINVAL;
		if (ino == FS_ROOT_INODE)
			return 0;
		error = inode_read_named(f, ino, &dir);
		if (error)
			return error;
		if (ino == stone || !S_ISDIR(dir.mode))
			return files_damaged(f, ino, "it is above itself");
		if (dir.nlink == 0)
			return 0;
		if (++steps == next_stone) {
			stone = ino;
			next_stone *= 2;
		}
		ino = dir.parent;
	}
}

/* ---- items ---- */

const char *name_judge(const struct tree_item *item)
{
	const struct name_item *n = (const struct name_item *)item->value;

	if (item->len <= sizeof *n || item->len != sizeof *n + n->name_len || from_le64(n->inode) == 0)
		return "one of its names is none";
	if (item->key.at < NAMES_ALIKE_MAX || item->key.at >> 63)
		return "one of its names has a hash that there is not";
	return NULL;
}

static int name_check(struct files *f, uint64_t dir, const struct tree_item *item)
{
	const char *wrong = name_judge(item);

	return wrong ? files_damaged(f, dir, wrong) : 0;
}

/* *item: the name's, or -ENOENT; then *number is one that no name with this hash has, or NAMES_ALIKE_MAX. */
static int look(struct files *f, const struct place *place, struct tree_item *item, unsigned *number)
{
	struct tree_key key = tree_key(place->dir->ino, ITEM_NAME, place->hash);

	*number = 0;
	for (;;) {
		const struct name_item *n;
		int error = tree_next_alike(&f->fs, &key, item);

		if (error || (item->key.at ^ place->hash) >> 8)
			return error ? error : -ENOENT;
		error = name_check(f, place->dir->ino, item);
		if (error)
			return error;
		n = (const struct name_item *)item->value;
		if (n->name_len == place->len && memcmp(n->name, place->name, place->len) == 0)
			return 0;
		if ((item->key.at & 0xff) == *number)
			++*number;
		key.at = item->key.at + 1;
	}
}

/* ---- places ---- */

uint64_t name_hash(const struct files *f, const struct inode *dir, const char *name, size_t len)
{
	uint64_t hash = files_hash(f, dir->special, name, len) & f->hash_mask;

	hash = hash >> 9;
	return (hash ? hash : 1) << 8;
}

int place_find(struct files *f, const struct caller *caller, struct inode *dir, const char *name,
	       struct place *place)
{
	int error = inode_may(f, caller, dir, MAY_EXECUTE);
	size_t len = strlen(name);
	struct tree_item item;
	unsigned number;

	if (error)
		return error;
	if (len == 0 || strchr(name, '/'))
		return len ? -EINVAL : -ENOENT;
	if (len > NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	*place = (struct place){ .dir = dir, .name = name, .len = (uint32_t)len };
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'))) {
		place->dots = len == 1 ? PLACE_DOT : PLACE_DOT_DOT;
		place->ino = len == 1 ? dir->ino : dir->nlink ? dir->parent : 0;
		return 0;
	}
	place->hash = name_hash(f, dir, name, len);
	error = look(f, place, &item, &number);
	if (error)
		return error == -ENOENT ? 0 : error;
	place->at = item.key.at;
	place->ino = from_le64(((const struct name_item *)item.value)->inode);
	return 0;
}

int place_may_add(struct files *f, const struct caller *caller, const struct place *place)
{
	int error;

	if (place->dots || place->ino)
		return -EEXIST;
	error = inode_may(f, caller, place->dir, MAY_WRITE | MAY_EXECUTE);
	return error ? error : place->dir->nlink ? 0 : -ENOENT;
}

int place_may_remove(struct files *f, const struct caller *caller, const struct place *place,
		     const struct inode *inode, bool directory)
{
	int error = inode_may(f, caller, place->dir, MAY_WRITE | MAY_EXECUTE);

	if (error)
		return error;
	if (place->dir->mode & S_ISVTX && !inode_owned(caller, inode) && !inode_owned(caller, place->dir))
		return -EPERM;
	if (directory && !S_ISDIR(inode->mode))
		return -ENOTDIR;
	return !directory && S_ISDIR(inode->mode) ? -EISDIR : 0;
}

static void directory_touch(struct inode *dir, int64_t names, struct fs_time now)
{
	dir->size += (uint64_t)names;
	dir->mtime = dir->ctime = now;
}

int place_put(struct files *f, struct place *place, const struct inode *inode, struct fs_time now)
{
	uint8_t value[sizeof(struct name_item) + NAME_MAX_BYTES];
	struct name_item *n = (struct name_item *)value;
	struct tree_key key = tree_key(place->dir->ino, ITEM_NAME, place->at);
	uint16_t len = (uint16_t)(sizeof *n + place->len);
	struct tree_item item;
	unsigned number;
	int error;

	n->inode = to_le64(inode->ino);
	n->type = (uint8_t)(inode->mode >> 12);
	n->name_len = (uint8_t)place->len;
	memcpy(n->name, place->name, place->len);
	annotation_entry(&f->annotation, ANNOTATION_ADDED, place->dir->ino, inode->ino, place->name, place->len);
	directory_touch(place->dir, place->ino == 0, now);
	if (place->ino) {
		place->ino = inode->ino;
		return tree_replace(&f->fs, &key, value, len);
	}
	error = look(f, place, &item, &number);
	if (error != -ENOENT)
		return error ? error : files_damaged(f, place->dir->ino, "a name came to it from nowhere");
	if (number == NAMES_ALIKE_MAX)
		return -ENOSPC;
	key.at = place->at = place->hash | number;
	place->ino = inode->ino;
	return tree_insert(&f->fs, &key, value, len);
}

int place_remove(struct files *f, struct place *place, struct fs_time now)
{
	struct tree_key key = tree_key(place->dir->ino, ITEM_NAME, place->at);

	annotation_entry(&f->annotation, ANNOTATION_REMOVED, place->dir->ino, place->ino, place->name, place->len);
	directory_touch(place->dir, -1, now);
	place->ino = 0;
	return tree_delete(&f->fs, &key);
}

/* ---- operations ---- */

static int lookup(struct files *f, const struct caller *caller, uint64_t parent, const char *name,
		  struct attributes *out)
{
	struct inode dir, inode;
	struct place place;
	int error = inode_read(f, parent, &dir);

	if (error == 0 && !S_ISDIR(dir.mode)) {
		if (strcmp(name, ".") != 0)
			return -ENOTDIR;
		inode_attributes(&dir, out);
		return dir.nlink ? 0 : -ENOENT;
	}
	if (error == 0)
		error = place_find(f, caller, &dir, name, &place);
	if (error == 0 && place.ino == 0)
		error = -ENOENT;
	if (error == 0)
		error = place.dots ? inode_read(f, place.ino, &inode) : inode_read_named(f, place.ino, &inode);
	if (error == 0)
		inode_attributes(&inode, out);
	return error;
}

int op_lookup(struct files *f, const struct caller *caller, uint64_t parent, const char *name,
	      struct attributes *out)
{
	return files_looked(f, lookup(f, caller, parent, name, out));
}

typedef bool readdir_take(void *context, const struct directory_entry *entry);

/* "." and "..", as far as they are behind @cookie. *more: take() wants more. */
static void readdir_dots(const struct inode *dir, uint64_t cookie, readdir_take *take, void *context, bool *more)
{
	for (uint64_t dot = COOKIE_DOT; *more && dot <= COOKIE_DOT_DOT; dot++) {
		struct directory_entry entry = { .cookie = dot, .type = S_IFDIR, .name_len = (uint32_t)dot,
						 .ino = dot == COOKIE_DOT ? dir->ino : dir->parent };

		if (dot <= cookie)
			continue;
		memcpy(entry.name, "..", dot);
		entry.attributes.ino = entry.ino;
		entry.attributes.mode = S_IFDIR;
		*more = take(context, &entry);
	}
}

static int entry_of(struct files *f, uint64_t dir, const struct tree_item *item, bool plus,
		    struct directory_entry *entry)
{
	const struct name_item *n = (const struct name_item *)item->value;
	struct inode inode;
	int error = name_check(f, dir, item);

	if (error)
		return error;
	entry->cookie = item->key.at;
	entry->ino = from_le64(n->inode);
	entry->type = (uint32_t)n->type << 12;
	entry->name_len = n->name_len;
	memcpy(entry->name, n->name, n->name_len);
	entry->name[n->name_len] = 0;
	if (!plus)
		return 0;
	error = inode_read_named(f, entry->ino, &inode);
	if (error == 0)
		inode_attributes(&inode, &entry->attributes);
	return error;
}

/* *taken: there was something to tell already, so that a block that is missing is not waited for. */
static int readdir(struct files *f, uint64_t ino, uint64_t cookie, bool plus, readdir_take *take, void *context,
		   bool *taken)
{
	struct tree_key key = tree_key(ino, ITEM_NAME, max_u64(cookie, NAMES_ALIKE_MAX - 1) + 1);
	struct directory_entry entry = { 0 };
	struct inode dir;
	bool more = true;
	int error = inode_read_directory(f, ino, &dir);

	if (error || dir.nlink == 0)
		return error;
	readdir_dots(&dir, cookie, take, context, &more);
	*taken = cookie < COOKIE_DOT_DOT;
	while (more && cookie >> 63 == 0) {
		struct tree_item item;

		error = tree_next_alike(&f->fs, &key, &item);
		if (error == 0)
			error = entry_of(f, ino, &item, plus, &entry);
		if (error)
			return error == -ENOENT ? 0 : error;
		more = take(context, &entry);
		*taken |= more;
		key.at = entry.cookie + 1;
	}
	return 0;
}

int op_readdir(struct files *f, uint64_t ino, uint64_t cookie, bool plus,
	       bool (*take)(void *context, const struct directory_entry *entry), void *context)
{
	bool taken = false;
	int error = readdir(f, ino, cookie, plus, take, context, &taken);

	return files_looked(f, error == -EAGAIN && taken ? 0 : error);
}
