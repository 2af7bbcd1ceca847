/* SPDX-License-Identifier: Apache-2.0 */
/* A check finds every kind of damage that it names, says where it is, and finds nothing else. Each damage here is made
 * of whole blocks: items that are wrong, with checksums that hold. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/xattr.h>

#include "acl.h"
#include "directory.h"
#include "extent.h"
#include "files_rig.h"
#include "fs_check.h"
#include "node.h"
#include "xattr.h"

enum { BLOCKS = 900, MANY = 150, GONE = 999999 };

/*	/d/			dir
 *	/d/sub/			sub
 *	/d/f			file	10,000 bytes, and more allocated behind its end
 *	/i			small	100 bytes
 *	/l			link	3,000 bytes
 *	/h, /d/h		hard
 *	/x			marked	user.long in 3 pieces, an access ACL
 *	/many/0 ...		inodes for some windows; it has a default ACL
 *	/far/			far
 *	/far/farther/		farther */
struct tree { uint64_t dir, sub, file, small, link, hard, marked, many, far, farther, orphan; };

static struct files_rig *healthy;
static struct tree t;

static const uint8_t acl[] = {
	2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
	16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
};

static void set_xattr(struct files_rig *r, uint64_t ino, const char *name, const void *value, size_t len)
{
	assert_int_equal(RIG(r, op_setxattr(r->f, &r->root, ino, name, value, len, 0)), 0);
}

static void make_healthy(void)
{
	struct files_rig *r = healthy = files_rig_new(BLOCKS, 1);
	static uint8_t bytes[10000];
	char target[3001], name[20];
	struct attributes a;

	memset(bytes, 0x5a, sizeof bytes);
	memset(target, 't', sizeof target);
	target[3000] = 0;
	t.dir = rig_dir(r, FS_ROOT_INODE, "d", 0755);
	t.sub = rig_dir(r, t.dir, "sub", 0755);
	t.file = rig_file(r, t.dir, "f", 0644);
	assert_int_equal(files_rig_write(r, &r->root, t.file, 0, bytes, sizeof bytes), 0);
	assert_int_equal(RIG(r, op_fallocate(r->f, &r->root, t.file, FALLOC_FL_KEEP_SIZE, 20000, 9000)), 0);
	t.small = rig_file(r, FS_ROOT_INODE, "i", 0644);
	assert_int_equal(files_rig_write(r, &r->root, t.small, 0, bytes, 100), 0);
	assert_int_equal(RIG(r, op_symlink(r->f, &r->root, FS_ROOT_INODE, "l", target, &a)), 0);
	t.link = a.ino;
	t.hard = rig_file(r, FS_ROOT_INODE, "h", 0644);
	assert_int_equal(RIG(r, op_link(r->f, &r->root, t.hard, t.dir, "h", &a)), 0);
	t.marked = rig_file(r, FS_ROOT_INODE, "x", 0660);
	set_xattr(r, t.marked, "user.long", bytes, 2500);
	set_xattr(r, t.marked, ACL_ACCESS_NAME, acl, sizeof acl);
	t.many = rig_dir(r, FS_ROOT_INODE, "many", 0755);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "%u", i);
		rig_file(r, t.many, name, 0644);
	}
	set_xattr(r, t.many, ACL_DEFAULT_NAME, acl, sizeof acl);
	t.far = rig_dir(r, FS_ROOT_INODE, "far", 0755);
	t.farther = rig_dir(r, t.far, "farther", 0755);
	assert_int_equal(RIG(r, op_create(r->f, &r->root, t.dir, "o", 0644, O_RDWR, &a)), 0);
	assert_int_equal(files_rig_write(r, &r->root, a.ino, 0, bytes, 9000), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, t.dir, "o")), 0);
	t.orphan = a.ino;
	assert_int_equal(files_rig_damages(r), 0);
}

/* ---- items ---- */

static struct tree_key found_key;
static uint8_t found[ITEM_VALUE_MAX];
static uint16_t found_len;

/* The first item at or behind the key, in found*. */
static void item_find(struct files_rig *r, uint64_t ino, enum item_kind kind, uint64_t at)
{
	struct tree_key key = tree_key(ino, kind, at);
	struct tree_item item;

	assert_int_equal(tree_next_alike(&r->f->fs, &key, &item), 0);
	found_key = item.key;
	found_len = item.len;
	memcpy(found, item.value, item.len);
}

static void item_put(struct files_rig *r)
{
	assert_int_equal(tree_replace(&r->f->fs, &found_key, found, found_len), 0);
}

static void item_drop(struct files_rig *r)
{
	assert_int_equal(tree_delete(&r->f->fs, &found_key), 0);
}

static void item_new(struct files_rig *r, uint64_t ino, enum item_kind kind, uint64_t at, const void *value,
		     uint16_t len)
{
	struct tree_key key = tree_key(ino, kind, at);

	assert_int_equal(tree_insert(&r->f->fs, &key, value, len), 0);
}

/* Its fields, as `i`, become others. */
#define CHANGE(r, ino, change) \
	({ \
		struct inode i; \
		assert_int_equal(inode_read((r)->f, ino, &i), 0); \
		change; \
		assert_int_equal(inode_write((r)->f, &i), 0); \
	})

/* One more name in a directory, which counts it. @number: among those with its hash. */
static void name_new(struct files_rig *r, uint64_t dir, const char *name, uint32_t len, uint64_t ino, uint32_t type,
		     unsigned number)
{
	uint8_t value[300];
	struct name_item *n = (struct name_item *)value;
	struct inode inode;

	n->inode = to_le64(ino);
	n->type = (uint8_t)(type >> 12);
	n->name_len = (uint8_t)len;
	memcpy(n->name, name, len);
	assert_int_equal(inode_read(r->f, dir, &inode), 0);
	item_new(r, dir, ITEM_NAME, name_hash(r->f, &inode, name, len) + number, value, (uint16_t)(sizeof *n + len));
	CHANGE(r, dir, { i.size++; i.nlink += type == S_IFDIR; });
}

static void name_find(struct files_rig *r, uint64_t dir, const char *name)
{
	struct inode inode;

	assert_int_equal(inode_read(r->f, dir, &inode), 0);
	item_find(r, dir, ITEM_NAME, name_hash(r->f, &inode, name, strlen(name)));
}

static void name_drop(struct files_rig *r, uint64_t dir, const char *name, uint32_t type)
{
	name_find(r, dir, name);
	item_drop(r);
	CHANGE(r, dir, { i.size--; i.nlink -= type == S_IFDIR; });
}

static void xattr_find(struct files_rig *r, uint64_t ino, const char *name, unsigned piece)
{
	item_find(r, ino, ITEM_XATTR, xattr_hash(r->f, ino, name, strlen(name)) + piece);
}

static struct superblock *superblock(struct files_rig *r)
{
	struct superblock *s;

	assert_int_equal(fs_superblock_change(&r->f->fs, &s), 0);
	return s;
}

/* ---- the damages ---- */

static const le64 gone = { GONE };

static void name_of_nothing(struct files_rig *r) { name_new(r, t.dir, "ghost", 5, GONE, S_IFREG, 0); }
static void name_of_other_type(struct files_rig *r)
{
	name_find(r, t.dir, "f");
	found[8] = S_IFIFO >> 12;
	item_put(r);
}
static void name_under_other_hash(struct files_rig *r)
{
	name_find(r, t.dir, "f");
	item_drop(r);
	item_new(r, t.dir, ITEM_NAME, found_key.at ^ 1 << 20, found, found_len);
}
static void name_twice(struct files_rig *r)
{
	name_new(r, t.dir, "f", 1, t.file, S_IFREG, 1);
	CHANGE(r, t.file, i.nlink++);
}
static void name_dot(struct files_rig *r)
{
	name_new(r, t.dir, ".", 1, t.file, S_IFREG, 0);
	CHANGE(r, t.file, i.nlink++);
}
static void name_slash(struct files_rig *r)
{
	name_new(r, t.dir, "a/b", 3, t.file, S_IFREG, 0);
	CHANGE(r, t.file, i.nlink++);
}
static void name_zero(struct files_rig *r)
{
	name_new(r, t.dir, "a\0b", 3, t.file, S_IFREG, 0);
	CHANGE(r, t.file, i.nlink++);
}
static void name_none(struct files_rig *r)
{
	item_new(r, t.dir, ITEM_NAME, 1 << 20, found, 5);
	CHANGE(r, t.dir, i.size++);
}
static void name_low(struct files_rig *r)
{
	name_find(r, t.dir, "f");
	item_new(r, t.dir, ITEM_NAME, 3, found, found_len);
	CHANGE(r, t.dir, i.size++);
}
static void name_in_file(struct files_rig *r)
{
	name_find(r, t.dir, "f");
	item_new(r, t.file, ITEM_NAME, 1 << 20, found, found_len);
	CHANGE(r, t.file, i.nlink++);
}
static void links_more(struct files_rig *r) { CHANGE(r, t.file, i.nlink++); }
static void links_less(struct files_rig *r) { CHANGE(r, t.hard, i.nlink--); }
static void links_of_directory(struct files_rig *r) { CHANGE(r, t.dir, i.nlink++); }
static void directory_size(struct files_rig *r) { CHANGE(r, t.dir, i.size += 3); }
static void directory_nameless(struct files_rig *r) { name_drop(r, t.dir, "sub", S_IFDIR); }
static void directory_of_two(struct files_rig *r) { name_new(r, FS_ROOT_INODE, "again", 5, t.sub, S_IFDIR, 0); }
static void directory_of_two_in_one(struct files_rig *r) { name_new(r, t.dir, "again", 5, t.sub, S_IFDIR, 0); }
static void directory_parent(struct files_rig *r) { CHANGE(r, t.sub, i.parent = t.many); }
static void directory_ring(struct files_rig *r)
{
	name_drop(r, FS_ROOT_INODE, "d", S_IFDIR);
	name_new(r, t.sub, "d", 1, t.dir, S_IFDIR, 0);
	CHANGE(r, t.dir, i.parent = t.sub);
}
/* Two directories above each other, of inodes of a later window than the one below them. */
static void directory_ring_far(struct files_rig *r)
{
	name_drop(r, FS_ROOT_INODE, "far", S_IFDIR);
	name_new(r, t.farther, "far", 3, t.far, S_IFDIR, 0);
	CHANGE(r, t.far, i.parent = t.farther);
	name_drop(r, t.dir, "sub", S_IFDIR);
	name_new(r, t.far, "sub", 3, t.sub, S_IFDIR, 0);
	CHANGE(r, t.sub, i.parent = t.far);
}
static void directory_own_child(struct files_rig *r)
{
	name_drop(r, FS_ROOT_INODE, "many", S_IFDIR);
	name_new(r, t.many, "many", 4, t.many, S_IFDIR, 0);
	CHANGE(r, t.many, i.parent = t.many);
}
static void directory_removed(struct files_rig *r)
{
	name_drop(r, FS_ROOT_INODE, "many", S_IFDIR);
	CHANGE(r, t.many, i.nlink = 0);
	item_new(r, 0, ITEM_ORPHAN, t.many, NULL, 0);
}
static void root_named(struct files_rig *r) { name_new(r, FS_ROOT_INODE, "r", 1, FS_ROOT_INODE, S_IFDIR, 0); }
static void root_parent(struct files_rig *r) { CHANGE(r, FS_ROOT_INODE, i.parent = t.dir); }
static void root_gone(struct files_rig *r)
{
	item_find(r, FS_ROOT_INODE, ITEM_INODE, 0);
	item_drop(r);
	superblock(r)->inode_count = to_le64(from_le64(superblock(r)->inode_count) - 1);
}

static void inode_type(struct files_rig *r) { CHANGE(r, t.file, i.mode &= 0777); }
static void inode_flags(struct files_rig *r) { CHANGE(r, t.file, i.flags |= 1 << 20); }
static void inode_times(struct files_rig *r) { CHANGE(r, t.file, i.mtime.nanoseconds = 2000000000); }
static void inode_short(struct files_rig *r)
{
	item_find(r, t.file, ITEM_INODE, 0);
	found_len = 50;
	item_put(r);
}
static void inode_gone(struct files_rig *r)
{
	item_find(r, t.file, ITEM_INODE, 0);
	item_drop(r);
}
static void inode_twice(struct files_rig *r)
{
	item_find(r, t.file, ITEM_INODE, 0);
	item_new(r, t.file, ITEM_INODE, 7, found, found_len);
}
static void item_orphan_elsewhere(struct files_rig *r) { item_new(r, t.file, ITEM_ORPHAN, 7, NULL, 0); }
static void item_of_nothing(struct files_rig *r) { item_new(r, 0, ITEM_XATTR, 7, NULL, 0); }

static void size_cut(struct files_rig *r) { CHANGE(r, t.file, i.size = 4096); }
static void size_huge(struct files_rig *r) { CHANGE(r, t.file, i.size = FILE_BYTES_MAX + 1); }
static void tail(struct files_rig *r)
{
	item_find(r, t.file, ITEM_EXTENT, 0);
	memory_blocks_make(r->blocks, from_le64(((struct extent *)(void *)found)->block) + 2)[4000] = 1;
}
static void tail_last_byte(struct files_rig *r)
{
	item_find(r, t.file, ITEM_EXTENT, 0);
	memory_blocks_make(r->blocks, from_le64(((struct extent *)(void *)found)->block) + 2)[4095] = 1;
}
static void blocks(struct files_rig *r) { CHANGE(r, t.file, i.blocks++); }
static void extent_of_directory(struct files_rig *r)
{
	item_find(r, t.file, ITEM_EXTENT, 1);
	item_drop(r);
	item_new(r, t.dir, ITEM_EXTENT, 0, found, found_len);
	CHANGE(r, t.file, i.blocks -= from_le32(((struct extent *)(void *)found)->count));
}
static void extent_of_inline(struct files_rig *r)
{
	item_find(r, t.file, ITEM_EXTENT, 1);
	item_drop(r);
	item_new(r, t.small, ITEM_EXTENT, 0, found, found_len);
	CHANGE(r, t.file, i.blocks -= from_le32(((struct extent *)(void *)found)->count));
}
static void extent_far(struct files_rig *r)
{
	item_find(r, t.file, ITEM_EXTENT, 1);
	item_drop(r);
	item_new(r, t.file, ITEM_EXTENT, FILE_BLOCKS_MAX, found, found_len);
}
static void extent_twice(struct files_rig *r)
{
	item_find(r, t.file, ITEM_EXTENT, 1);
	((struct extent *)(void *)found)->count = to_le32(1);
	item_new(r, t.hard, ITEM_EXTENT, 0, found, found_len);
	CHANGE(r, t.hard, i.blocks = 1);
}
static void extent_none(struct files_rig *r)
{
	item_new(r, t.hard, ITEM_EXTENT, 0, &gone, 8);
}

static void inline_unsaid(struct files_rig *r) { CHANGE(r, t.small, i.flags = 0); }
static void inline_gone(struct files_rig *r)
{
	item_find(r, t.small, ITEM_INLINE, 0);
	item_drop(r);
}
static void inline_long(struct files_rig *r) { CHANGE(r, t.small, i.size = 99); }
static void inline_second(struct files_rig *r) { item_new(r, t.small, ITEM_INLINE, 1, found, 10); }
static void target_short(struct files_rig *r) { CHANGE(r, t.link, i.size++); }
static void target_gone(struct files_rig *r)
{
	item_find(r, t.link, ITEM_INLINE, 1);
	item_drop(r);
}
static void target_zero(struct files_rig *r)
{
	item_find(r, t.link, ITEM_INLINE, 1);
	found[5] = 0;
	item_put(r);
}

static void xattr_last_gone(struct files_rig *r)
{
	xattr_find(r, t.marked, "user.long", 2);
	item_drop(r);
}
static void xattr_middle_gone(struct files_rig *r)
{
	xattr_find(r, t.marked, "user.long", 1);
	item_drop(r);
}
static void xattr_lengths(struct files_rig *r)
{
	xattr_find(r, t.marked, ACL_ACCESS_NAME, 0);
	found[4]++;
	item_put(r);
}
static void xattr_bytes(struct files_rig *r) { CHANGE(r, t.marked, i.xattr_bytes += 5); }
static void xattr_under_other_hash(struct files_rig *r)
{
	xattr_find(r, t.marked, ACL_ACCESS_NAME, 0);
	item_drop(r);
	item_new(r, t.marked, ITEM_XATTR, found_key.at ^ 1 << 20, found, found_len);
}
static void xattr_twice(struct files_rig *r)
{
	xattr_find(r, t.marked, ACL_ACCESS_NAME, 0);
	item_new(r, t.marked, ITEM_XATTR, found_key.at + 256, found, found_len);
	CHANGE(r, t.marked, i.xattr_bytes += sizeof ACL_ACCESS_NAME);
}
static void xattr_reserved(struct files_rig *r)
{
	xattr_find(r, t.marked, "user.long", 0);
	found[6] = 1;
	item_put(r);
}
static void acl_none(struct files_rig *r)
{
	xattr_find(r, t.marked, ACL_ACCESS_NAME, 0);
	found[8 + sizeof ACL_ACCESS_NAME - 1 + 4 + 2] = 9;	/* the owner's permissions */
	item_put(r);
}
static void acl_mode_differs(struct files_rig *r) { CHANGE(r, t.marked, i.mode |= 0111); }
static void acl_unsaid(struct files_rig *r) { CHANGE(r, t.marked, i.flags &= ~(uint32_t)INODE_ACL_ACCESS); }
static void acl_gone(struct files_rig *r) { CHANGE(r, t.hard, i.flags |= INODE_ACL_ACCESS); }
static void acl_default_of_file(struct files_rig *r)
{
	struct inode inode;

	assert_int_equal(inode_read(r->f, t.hard, &inode), 0);
	inode.flags |= INODE_ACL_DEFAULT;
	assert_int_equal(xattr_put(r->f, &inode, ACL_DEFAULT_NAME, acl, sizeof acl, 0), 0);
	assert_int_equal(inode_write(r->f, &inode), 0);
}

static void orphan_lost(struct files_rig *r)
{
	item_find(r, 0, ITEM_ORPHAN, t.orphan);
	item_drop(r);
}
static void orphan_named(struct files_rig *r) { item_new(r, 0, ITEM_ORPHAN, t.file, NULL, 0); }
static void orphan_gone(struct files_rig *r) { item_new(r, 0, ITEM_ORPHAN, GONE, NULL, 0); }
static void orphan_trim(struct files_rig *r) { CHANGE(r, t.file, i.flags |= INODE_TRIM); }
static void inode_count(struct files_rig *r)
{
	superblock(r)->inode_count = to_le64(from_le64(superblock(r)->inode_count) - 1);
}
static void inode_next(struct files_rig *r) { superblock(r)->inode_next = superblock(r)->inode_count; }
static void features(struct files_rig *r) { superblock(r)->compat = to_le64(4); }

struct expected { const uint64_t *ino; const char *path, *what; };
static const uint64_t nobody = 0, root = FS_ROOT_INODE, ghost = GONE;

static const struct damage_case {
	const char *name;
	void (*make)(struct files_rig *r);
	struct expected expected[4];
} cases[] = {
#define CASE(make, ...) { #make, make, { __VA_ARGS__ } }
	CASE(name_of_nothing, { &t.dir, "/d", "\"ghost\" = inode 999999: it names an inode that is not there" }),
	CASE(name_of_other_type, { &t.dir, "/d", "it says another type than its inode" }),
	CASE(name_under_other_hash, { &t.dir, "/d", "\"f\" = inode 4: it stands under another name's hash" }),
	CASE(name_twice, { &t.dir, "/d", "\"f\" = inode 4: it is there twice" }),
	CASE(name_dot, { &t.dir, "/d", "\".\" = inode 4: no such name can be" }),
	CASE(name_slash, { &t.dir, "/d", "\"a/b\" = inode 4: no such name can be" }),
	CASE(name_zero, { &t.dir, "/d", "\"a\\000b\" = inode 4: no such name can be" }),
	CASE(name_none, { &t.dir, "/d", "one of its names is none" }),
	CASE(name_low, { &t.dir, "/d", "one of its names has a hash that there is not" }),
	CASE(name_in_file, { &t.file, "/d/f", "it has names, and is no directory" }),
	CASE(links_more, { &t.file, "/d/f", "its link count is not the number of its names: 2 instead of 1" }),
	CASE(links_less, { &t.hard, "/h", "its link count is not the number of its names: 1 instead of 2" }),
	CASE(links_of_directory, { &t.dir, "/d", "its link count is not 2 and its directories: 4 instead of 3" }),
	CASE(directory_size, { &t.dir, "/d", "its size is not the number of its names: 6 instead of 3" }),
	CASE(directory_nameless, { &t.sub, "", "it is a directory without a name" }),
	CASE(directory_of_two,
	     { &root, "/", "\"again\" = inode 3: it names a directory whose parent is another one" },
	     { &t.sub, NULL, "it is a directory with more names than it may have" }),
	CASE(directory_of_two_in_one, { &t.sub, NULL, "it is a directory with more names than it may have" }),
	CASE(directory_parent, { &t.dir, "/d", "it names a directory whose parent is another one" }),
	CASE(directory_ring, { &t.dir, NULL, "it is a directory above itself" }),
	CASE(directory_ring_far, { &t.far, NULL, "it is a directory above itself" }),
	CASE(directory_own_child, { &t.many, NULL, "it is a directory above itself" }),
	CASE(directory_removed, { &t.many, "", "it is removed, and has names" }),
	CASE(root_named, { &root, "/", "it is a directory with more names than it may have" }),
	CASE(root_parent, { &root, "/", "it is the root, and has a parent: 2 instead of 1" }),
	CASE(root_gone, { &root, "/", "it has items, and is not there" },
	     { &root, "/", "it is the root, and is not there" }),
	CASE(inode_type, { &t.file, "/d/f", "it is of no type that there is" }),
	CASE(inode_flags, { &t.file, "/d/f", "it has flags that there are not" }),
	CASE(inode_times, { &t.file, "/d/f", "one of its times is none" }),
	CASE(inode_short, { &t.file, "/d/f", "its item has another length" }),
	CASE(inode_gone, { &t.file, "/d/f", "it has items, and is not there" },
	     { &t.dir, "/d", "\"f\" = inode 4: it names an inode that is not there" },
	     { &nobody, "", "count of inodes is wrong: 162 instead of 161" }),
	CASE(inode_twice, { &t.file, "/d/f", "it has an item that there is not" }),
	CASE(item_orphan_elsewhere, { &t.file, "/d/f", "it has an item that there is not" }),
	CASE(item_of_nothing, { &nobody, "", "there is an item that belongs to no inode" }),
	CASE(size_cut, { &t.file, "/d/f", "bytes are written behind its last block: 3 instead of 1" }),
	CASE(size_huge, { &t.file, "/d/f", "it is larger than a file can be" }),
	CASE(tail, { &t.file, "/d/f", ": there are other bytes than zeros behind its end" }),
	CASE(tail_last_byte, { &t.file, "/d/f", ": there are other bytes than zeros behind its end" }),
	CASE(blocks, { &t.file, "/d/f", "its count of blocks is not that of its extents: 8 instead of 7" }),
	CASE(extent_of_directory, { &t.dir, "/d", "it has extents, and should not" }),
	CASE(extent_of_inline, { &t.small, "/i", "it has extents, and should not" }),
	CASE(extent_far, { &t.file, "/d/f", "an extent of it is behind the end of all files" }),
	CASE(extent_twice, { &t.hard, "/h", ": it is referred to more than once" }),
	CASE(extent_none, { &t.hard, "/h", "an extent in it is out of bounds" }),
	CASE(inline_unsaid, { &t.small, "/i", "it has inline bytes, and should not" }),
	CASE(inline_gone, { &t.small, "/i", "it says that it has inline bytes, and has none" }),
	CASE(inline_long, { &t.small, "/i", "it has more inline bytes than it may: 100 instead of 99" }),
	CASE(inline_second, { &t.small, "/i", "it has inline bytes, and should not" },
	     { &t.small, "/i", "it has more inline bytes than it may" }),
	CASE(target_short, { &t.link, "/l", "its target is not as long as it says" }),
	CASE(target_gone, { &t.link, "/l", "its target is not as long as it says" }),
	CASE(target_zero, { &t.link, "/l", "its target has a zero byte in it" }),
	CASE(xattr_last_gone, { &t.marked, "/x", "an extended attribute lacks a piece" }),
	CASE(xattr_middle_gone, { &t.marked, "/x", "a piece of an extended attribute is not as it should be" }),
	CASE(xattr_lengths, { &t.marked, "/x", "the lengths of an extended attribute do not add up" }),
	CASE(xattr_bytes, { &t.marked, "/x", "its count of bytes of attributes' names is wrong: 39 instead of 34" }),
	CASE(xattr_under_other_hash,
	     { &t.marked, "/x", "\"system.posix_acl_access\": the attribute stands under another one's hash" }),
	CASE(xattr_twice, { &t.marked, "/x", "\"system.posix_acl_access\": the attribute is there twice" }),
	CASE(xattr_reserved, { &t.marked, "/x", "\"user.long\": no such attribute can be" }),
	CASE(acl_none, { &t.marked, "/x", "its access control list is none" }),
	CASE(acl_mode_differs, { &t.marked, "/x", "its mode and its access control list do not agree" }),
	CASE(acl_unsaid, { &t.marked, "/x", "it has an access control list, and does not say so" }),
	CASE(acl_gone, { &t.hard, "/h", "it says that it has an access control list, and has none" }),
	CASE(acl_default_of_file, { &t.hard, "/h", "it has a default access control list and is no directory" }),
	CASE(orphan_lost, { &t.orphan, "", "it should be among the orphans, and is not" }),
	CASE(orphan_named, { &t.file, "/d/f", "it is among the orphans, and should not be" }),
	CASE(orphan_gone, { &ghost, "", "it is among the orphans, and is not there" }),
	CASE(orphan_trim, { &t.file, "/d/f", "it should be among the orphans, and is not" }),
	CASE(inode_count, { &nobody, "", "the superblock's count of inodes is wrong: 161 instead of 162" }),
	CASE(inode_next, { &nobody, "", "the superblock's next number of an inode was given already" }),
	CASE(features, { &nobody, "", "the superblock has features that this program does not know" }),
};

/* ---- to be found ---- */

static struct fs_check *check_all(struct files_rig *r, uint64_t memory_bytes)
{
	struct fs_check *check;
	int result;

	assert_int_equal(fs_check_new(&check, r->f, memory_bytes), 0);
	do {
		assert_in_range(fs_check_progress(check), 0, 999);
		result = fs_check_step(check);
	} while (result == 1 || files_rig_again(r, result));
	assert_int_equal(result, 0);
	assert_int_equal(fs_check_progress(check), 1000);
	return check;
}

static bool is_expected(const struct fs_check_damage *damage, const struct expected *e)
{
	char text[CHECK_TEXT_BYTES];

	fs_check_damage_text(damage, text);
	return damage->inode == *e->ino && strstr(text, e->what) && (!e->path || strcmp(e->path, damage->path) == 0);
}

/* Each expected damage once, and no other. */
static void assert_found(const struct fs_check *check, const struct expected expected[4])
{
	uint64_t count = fs_check_figures(check)->damages;
	char text[CHECK_TEXT_BYTES];
	unsigned wanted = 0, met = 0;

	for (unsigned d = 0; d < count; d++) {
		fs_check_damage_text(fs_check_damage(check, d), text);
		print_message("    %s\n", text);
	}
	for (; wanted < 4 && expected[wanted].what; wanted++)
		for (unsigned d = 0; d < count; d++)
			met += is_expected(fs_check_damage(check, d), &expected[wanted]);
	assert_int_equal(met, wanted);
	assert_int_equal(count, wanted);
}

static void fs_check_finds_every_damage_that_it_names_and_no_other(void **state)
{
	static const uint64_t memory[] = { CHECK_MEMORY_MIN, 1 << 20 };	/* several windows; one */

	(void)state;
	make_healthy();
	for (unsigned n = 0; n < sizeof cases / sizeof cases[0]; n++) {
		struct files_rig *r = files_rig_copy(healthy);

		print_message("%s\n", cases[n].name);
		files_begin(r->f, ANNOTATION_WRITE);
		cases[n].make(r);
		assert_int_equal(files_finish(r->f, 0), 0);
		memory_blocks_miss(r->blocks, 20);
		for (unsigned m = 0; m < 2; m++) {
			struct fs_check *check = check_all(r, memory[m]);

			assert_found(check, cases[n].expected);
			fs_check_free(check);
		}
		files_rig_free(r);
	}
	files_rig_free(healthy);
}

/* What cannot be looked at may hold anything: only what is seen to be wrong is told, each block once. */
static void fs_check_of_a_damaged_node_tells_nothing_of_what_it_hides(void **state)
{
	uint64_t count, *written, nodes = 0;

	(void)state;
	make_healthy();
	written = memory_blocks_written(healthy->blocks, &count);
	for (uint64_t i = 0; i < count; i++) {
		const struct node *n = (const void *)memory_blocks_page(healthy->blocks, written[i]);
		struct files_rig *r = files_rig_copy(healthy);
		struct fs_check *check;
		const uint8_t *page;

		if (transaction_read(&healthy->f->fs.transaction, written[i], BLOCK_NODE, &page) == 0 &&
		    n->level == 0) {
			nodes++;
			memory_blocks_page(r->blocks, written[i])[3000] ^= 1;
			check = check_all(r, CHECK_MEMORY_MIN);
			assert_int_equal(fs_check_figures(check)->damages, 1);
			assert_true(fs_check_figures(check)->incomplete);
			assert_int_equal(fs_check_damage(check, 0)->block, written[i]);
			fs_check_free(check);
		}
		fs_abort(&healthy->f->fs);
		files_rig_free(r);
	}
	assert_true(nodes > 3);
	free(written);
	files_rig_free(healthy);
}

/* A thousand damages cost no more memory than a hundred, and all are counted. */
static void fs_check_keeps_a_hundred_damages_and_counts_all(void **state)
{
	struct files_rig *r = files_rig_new(BLOCKS, 1);
	struct fs_check *check;
	uint64_t first = 0;
	char name[20];

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "%u", i);
		first = rig_file(r, FS_ROOT_INODE, name, 0644);
	}
	first -= 299;
	for (unsigned n = 0; n < 300; n++) {
		files_begin(r->f, ANNOTATION_WRITE);
		CHANGE(r, first + n, i.nlink++);
		assert_int_equal(files_finish(r->f, 0), 0);
	}
	check = check_all(r, CHECK_MEMORY_MIN);
	assert_int_equal(fs_check_figures(check)->damages, 300);
	for (unsigned i = 0; i < CHECK_DAMAGES_MAX; i++) {
		snprintf(name, sizeof name, "/%u", i);
		assert_string_equal(fs_check_damage(check, i)->path, name);
	}
	fs_check_free(check);
	files_rig_free(r);
}

/* Of a path that is longer than what is kept, the end is. */
static void fs_check_a_long_path_is_told_by_its_end(void **state)
{
	struct files_rig *r = files_rig_new(BLOCKS, 1);
	uint64_t dir = FS_ROOT_INODE;
	struct fs_check *check;
	const char *path;
	char name[201];

	(void)state;
	memset(name, 'n', 200);
	name[200] = 0;
	for (unsigned i = 0; i < 20; i++)
		dir = rig_dir(r, dir, name, 0755);
	files_begin(r->f, ANNOTATION_WRITE);
	CHANGE(r, dir, i.nlink++);
	assert_int_equal(files_finish(r->f, 0), 0);
	check = check_all(r, CHECK_MEMORY_MIN);
	assert_int_equal(fs_check_figures(check)->damages, 1);
	path = fs_check_damage(check, 0)->path;
	assert_memory_equal(path, ".../nnn", 7);
	assert_in_range(strlen(path), CHECK_PATH_BYTES - 250, CHECK_PATH_BYTES - 1);
	assert_string_equal(path + strlen(path) - 200, name);
	fs_check_free(check);
	files_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_check_finds_every_damage_that_it_names_and_no_other),
	cmocka_unit_test(fs_check_of_a_damaged_node_tells_nothing_of_what_it_hides),
	cmocka_unit_test(fs_check_keeps_a_hundred_damages_and_counts_all),
	cmocka_unit_test(fs_check_a_long_path_is_told_by_its_end),
};
TEST_GROUP(fs_check, tests)
