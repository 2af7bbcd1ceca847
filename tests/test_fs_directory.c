/* SPDX-License-Identifier: Apache-2.0 */
/* Names: who finds them, who may change them, what a walk through a directory sees. */
#include <fcntl.h>
#include <linux/fs.h>

#include "directory.h"
#include "files_rig.h"

struct walk { uint64_t cookie; unsigned seen[2000], told; unsigned limit; };

static bool walk_take(void *context, const struct directory_entry *entry)
{
	struct walk *w = context;

	if (w->limit-- == 0)
		return false;
	w->cookie = entry->cookie;
	w->told++;
	if (entry->name[0] == 'n')
		w->seen[strtoul(entry->name + 1, NULL, 10)]++;
	return true;
}

/* Some entries more; false at the end. */
static bool walk(struct files_rig *r, uint64_t dir, struct walk *w, unsigned limit)
{
	uint64_t before = w->cookie;

	w->limit = limit;
	assert_int_equal(RIG(r, op_readdir(r->f, dir, w->cookie, false, walk_take, w)), 0);
	return w->cookie != before;
}

static void fs_directory_names_with_one_hash_live_together(void **state)
{
	struct files_rig *r = files_rig_new(2000, 1);
	struct walk w = { 0 };
	struct attributes a;
	char name[20];

	(void)state;
	r->f->hash_mask = 0;
	for (unsigned i = 0; i < NAMES_ALIKE_MAX; i++) {
		snprintf(name, sizeof name, "n%u", i);
		rig_file(r, FS_ROOT_INODE, name, 0644);
	}
	assert_int_equal(RIG(r, op_mknod(r->f, &r->root, FS_ROOT_INODE, "one more", S_IFREG, 0, &a)), -ENOSPC);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "n100")), 0);
	assert_int_equal(rig_lookup(r, &r->root, FS_ROOT_INODE, "n100"), -ENOENT);
	assert_int_equal(rig_lookup(r, &r->root, FS_ROOT_INODE, "n255"), 0);
	rig_file(r, FS_ROOT_INODE, "n300", 0644);
	while (walk(r, FS_ROOT_INODE, &w, 7))
		;
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(w.seen[i], i == 300 || (i < 256 && i != 100));
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_directory_a_walk_tells_each_entry_that_stays_exactly_once(void **state)
{
	struct files_rig *r = files_rig_new(4000, 2);
	struct walk w = { 0 };
	char name[20];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof name, "n%u", i);
		rig_file(r, FS_ROOT_INODE, name, 0644);
	}
	memory_blocks_miss(r->blocks, 30);
	for (unsigned i = 0; walk(r, FS_ROOT_INODE, &w, 20); i += 20) {
		for (unsigned n = i; n < i + 20 && n < 500; n++) {	/* the lower half goes, others come */
			snprintf(name, sizeof name, "n%u", n);
			assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, name)), 0);
			snprintf(name, sizeof name, "n%u", n + 1000);
			rig_file(r, FS_ROOT_INODE, name, 0644);
		}
	}
	for (unsigned i = 0; i < 1500; i++)
		assert_in_range(w.seen[i], i >= 500 && i < 1000, 1);
	files_rig_free(r);
}

static void fs_directory_a_lookup_among_50000_names_reads_one_path_of_the_tree(void **state)
{
	struct files_rig *r = files_rig_new(20000, 3);
	uint64_t reads, most = 0;
	char name[20];

	(void)state;
	for (unsigned i = 0; i < 50000; i++) {
		snprintf(name, sizeof name, "n%u", i);
		rig_file(r, FS_ROOT_INODE, name, 0644);
	}
	assert_int_equal(rig_stat(r, FS_ROOT_INODE).size, 50000);
	for (unsigned i = 0; i < 50000; i += 100) {
		snprintf(name, sizeof name, "n%u", i);
		reads = memory_blocks_figures(r->blocks)->reads;
		assert_int_equal(rig_lookup(r, &r->root, FS_ROOT_INODE, name), 0);
		most = max_u64(most, memory_blocks_figures(r->blocks)->reads - reads);
	}
	assert_in_range(most, 4, 12);	/* superblock; paths to the directory, to the name, to the inode */
	files_rig_free(r);
}

static uint64_t parent_of(struct files_rig *r, uint64_t dir)
{
	struct attributes a;

	assert_int_equal(RIG(r, op_lookup(r->f, &r->root, dir, "..", &a)), 0);
	return a.ino;
}

/* By a file's number alone, as somebody asks who has a handle of it. */
static void fs_directory_dot_of_a_file_is_the_file_until_it_has_no_name(void **state)
{
	struct files_rig *r = files_rig_new(300, 4);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0640);
	struct attributes a;

	(void)state;
	assert_int_equal(RIG(r, op_lookup(r->f, &r->root, file, ".", &a)), 0);
	assert_int_equal(a.ino, file);
	assert_int_equal(a.mode, S_IFREG | 0640);
	assert_int_equal(RIG(r, op_lookup(r->f, &r->root, file, "..", &a)), -ENOTDIR);
	assert_int_equal(RIG(r, op_lookup(r->f, &r->root, file, "f", &a)), -ENOTDIR);
	assert_int_equal(RIG(r, op_open(r->f, &r->root, file, O_RDWR, &a)), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), 0);
	assert_int_equal(RIG(r, op_lookup(r->f, &r->root, file, ".", &a)), -ENOENT);
	op_release(r->f, file);
	files_rig_reclaim(r);
	assert_int_equal(RIG(r, op_lookup(r->f, &r->root, file, ".", &a)), -ENOENT);
	files_rig_free(r);
}

static int rename_as(struct files_rig *r, const struct caller *c, uint64_t from, const char *name, uint64_t to,
		     const char *new_name, unsigned flags)
{
	return RIG(r, op_rename(r->f, c, from, name, to, new_name, flags));
}

static void fs_directory_dot_dot_is_right_after_every_rename(void **state)
{
	struct files_rig *r = files_rig_new(300, 4);
	uint64_t a = rig_dir(r, FS_ROOT_INODE, "a", 0755), b = rig_dir(r, FS_ROOT_INODE, "b", 0755);
	uint64_t c = rig_dir(r, a, "c", 0755), d = rig_dir(r, b, "d", 0755);

	(void)state;
	assert_int_equal(parent_of(r, FS_ROOT_INODE), FS_ROOT_INODE);
	assert_int_equal(parent_of(r, c), a);
	assert_int_equal(rename_as(r, &r->root, a, "c", b, "e", 0), 0);
	assert_int_equal(parent_of(r, c), b);
	assert_int_equal(rig_stat(r, a).nlink, 2);
	assert_int_equal(rig_stat(r, b).nlink, 4);
	assert_int_equal(rename_as(r, &r->root, b, "e", FS_ROOT_INODE, "a", RENAME_EXCHANGE), 0);
	assert_int_equal(parent_of(r, c), FS_ROOT_INODE);
	assert_int_equal(parent_of(r, a), b);
	assert_int_equal(rename_as(r, &r->root, b, "e", b, "d", 0), 0);		/* over an empty one */
	assert_int_equal(RIG(r, op_access(r->f, &r->root, d, 0)), -ENOENT);
	assert_int_equal(rig_stat(r, b).nlink, 3);
	files_rig_free(r);
}

static void fs_directory_never_gets_into_itself(void **state)
{
	struct files_rig *r = files_rig_new(300, 5);
	uint64_t a = rig_dir(r, FS_ROOT_INODE, "a", 0755), b = rig_dir(r, a, "b", 0755), c = rig_dir(r, b, "c", 0755);

	(void)state;
	rig_dir(r, FS_ROOT_INODE, "z", 0755);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, "a", c, "a", 0), -EINVAL);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, "a", a, "a", 0), -EINVAL);
	assert_int_equal(rename_as(r, &r->root, b, "c", FS_ROOT_INODE, "a", 0), -ENOTEMPTY);
	assert_int_equal(rename_as(r, &r->root, b, "c", FS_ROOT_INODE, "a", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, "a", b, "c", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, "z", FS_ROOT_INODE, "a", 0), -ENOTEMPTY);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, "a", FS_ROOT_INODE, "z", 0), 0);
	files_rig_free(r);
}

static void fs_directory_that_damage_put_above_itself_is_an_error_and_no_endless_walk(void **state)
{
	struct files_rig *r = files_rig_new(300, 6);
	uint64_t dirs[40], at = FS_ROOT_INODE, out = rig_dir(r, FS_ROOT_INODE, "out", 0755);
	struct inode inode;

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		at = dirs[i] = rig_dir(r, at, "d", 0755);
	files_begin(r->f, ANNOTATION_RENAME);
	assert_int_equal(inode_read(r->f, dirs[5], &inode), 0);
	inode.parent = dirs[30];
	assert_int_equal(inode_write(r->f, &inode), 0);
	assert_int_equal(files_finish(r->f, 0), 0);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, "out", dirs[20], "out", 0), -EIO);
	assert_int_equal(r->f->damage.count, 1);
	assert_int_equal(parent_of(r, out), FS_ROOT_INODE);
	files_rig_free(r);
}

static void fs_directory_sticky_protects_what_belongs_to_others(void **state)
{
	struct files_rig *r = files_rig_new(300, 7);
	uint64_t tmp = rig_dir(r, FS_ROOT_INODE, "tmp", 01777);
	struct attributes a;

	(void)state;
	assert_int_equal(rig_set(r, &r->root, tmp, &(struct attributes_set){ .valid = SET_MODE, .mode = 01777 }), 0);
	assert_int_equal(RIG(r, op_mknod(r->f, &r->user, tmp, "mine", S_IFREG | 0666, 0, &a)), 0);
	assert_int_equal(RIG(r, op_mknod(r->f, &r->other, tmp, "his", S_IFREG | 0666, 0, &a)), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->other, tmp, "mine")), -EPERM);
	assert_int_equal(rename_as(r, &r->other, tmp, "mine", tmp, "x", 0), -EPERM);
	assert_int_equal(rename_as(r, &r->other, tmp, "his", tmp, "mine", 0), -EPERM);
	assert_int_equal(rename_as(r, &r->other, tmp, "his", tmp, "mine", RENAME_EXCHANGE), -EPERM);
	assert_int_equal(rename_as(r, &r->other, tmp, "his", tmp, "x", RENAME_NOREPLACE), 0);
	assert_int_equal(rename_as(r, &r->user, tmp, "mine", tmp, "x", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->user, tmp, "mine")), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, tmp, "x")), 0);
	files_rig_free(r);
}

static void fs_directory_with_setgid_gives_its_group(void **state)
{
	struct files_rig *r = files_rig_new(300, 8);
	uint64_t dir = rig_dir(r, FS_ROOT_INODE, "shared", 0777);
	struct attributes_set set = { .valid = SET_MODE | SET_GID, .mode = 02777, .gid = 300 };
	struct attributes a;

	(void)state;
	assert_int_equal(rig_set(r, &r->root, dir, &set), 0);
	assert_int_equal(RIG(r, op_mkdir(r->f, &r->user, dir, "d", 0777, &a)), 0);
	assert_int_equal(a.gid, 300);
	assert_int_equal(a.mode, S_IFDIR | 02755);
	assert_int_equal(RIG(r, op_mknod(r->f, &r->user, dir, "f", S_IFREG | 02775, 0, &a)), 0);
	assert_int_equal(a.gid, 300);
	assert_int_equal(a.mode, S_IFREG | 0755);	/* he is not in the group */
	files_rig_free(r);
}

static void fs_directory_that_was_removed_takes_no_names_and_goes_when_it_is_closed(void **state)
{
	struct files_rig *r = files_rig_new(300, 9);
	uint64_t free_at_start = rig_free_blocks(r), dir = rig_dir(r, FS_ROOT_INODE, "d", 0755);
	struct walk w = { 0 };
	struct attributes a;

	(void)state;
	assert_int_equal(RIG(r, op_open(r->f, &r->root, dir, O_RDONLY | O_DIRECTORY, &a)), 0);
	assert_int_equal(RIG(r, op_rmdir(r->f, &r->root, FS_ROOT_INODE, "d")), 0);
	assert_int_equal(RIG(r, op_mknod(r->f, &r->root, dir, "f", S_IFREG, 0, &a)), -ENOENT);
	assert_int_equal(rig_lookup(r, &r->root, dir, ".."), -ENOENT);
	assert_false(walk(r, dir, &w, 5));
	assert_int_equal(rig_stat(r, dir).nlink, 0);
	files_rig_reclaim(r);
	op_release(r->f, dir);
	assert_true(op_reclaim_wanted(r->f));
	files_rig_reclaim(r);
	assert_int_equal(RIG(r, op_getattr(r->f, dir, &a)), -ENOENT);
	assert_int_equal(rig_free_blocks(r), free_at_start);
	files_rig_free(r);
}

static void fs_directory_names_have_255_bytes_of_any_kind(void **state)
{
	struct files_rig *r = files_rig_new(300, 10);
	struct attributes a;
	char name[300];

	(void)state;
	for (unsigned i = 0; i < 299; i++)
		name[i] = (char)(i % 255 + 1 == '/' ? 'x' : i % 255 + 1);
	name[256] = 0;
	assert_int_equal(RIG(r, op_mknod(r->f, &r->root, FS_ROOT_INODE, name, S_IFREG, 0, &a)), -ENAMETOOLONG);
	assert_int_equal(rig_lookup(r, &r->root, FS_ROOT_INODE, name), -ENAMETOOLONG);
	name[255] = 0;
	rig_file(r, FS_ROOT_INODE, name, 0644);
	assert_int_equal(rig_lookup(r, &r->root, FS_ROOT_INODE, name), 0);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, name, FS_ROOT_INODE, "..", 0), -EBUSY);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, name)), 0);
	files_rig_free(r);
}

static void fs_directory_a_secondary_refuses_every_change(void **state)
{
	struct files_rig *r = files_rig_new(300, 11);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct attributes_set set = { .valid = SET_MODE, .mode = 0600 };
	struct attributes a;
	uint32_t written;

	(void)state;
	memory_blocks_read_only(r->blocks, true);
	assert_int_equal(RIG(r, op_mknod(r->f, &r->root, FS_ROOT_INODE, "g", S_IFREG, 0, &a)), -EROFS);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), -EROFS);
	assert_int_equal(rename_as(r, &r->root, FS_ROOT_INODE, "f", FS_ROOT_INODE, "g", 0), -EROFS);
	assert_int_equal(RIG(r, op_write(r->f, &r->root, file, 0, "x", 1, 0, &written)), -EROFS);
	assert_int_equal(RIG(r, op_write(r->f, &r->root, file, 9000, "x", 1, 0, &written)), -EROFS);
	assert_int_equal(rig_set(r, &r->root, file, &set), -EROFS);
	assert_int_equal(RIG(r, op_setxattr(r->f, &r->root, file, "user.a", "b", 1, 0)), -EROFS);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "nothing")), -ENOENT);
	assert_int_equal(rig_lookup(r, &r->root, FS_ROOT_INODE, "f"), 0);
	memory_blocks_read_only(r->blocks, false);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), 0);
	files_rig_free(r);
}

static void fs_directory_a_file_has_at_most_65536_names(void **state)
{
	struct files_rig *r = files_rig_new(300, 12);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct attributes a;
	struct inode inode;

	(void)state;
	files_begin(r->f, ANNOTATION_LINK);
	assert_int_equal(inode_read(r->f, file, &inode), 0);
	inode.nlink = LINKS_MAX - 1;
	assert_int_equal(inode_write(r->f, &inode), 0);
	assert_int_equal(files_finish(r->f, 0), 0);
	assert_int_equal(RIG(r, op_link(r->f, &r->root, file, FS_ROOT_INODE, "g", &a)), 0);
	assert_int_equal(a.nlink, LINKS_MAX);
	assert_int_equal(RIG(r, op_link(r->f, &r->root, file, FS_ROOT_INODE, "h", &a)), -EMLINK);
	assert_int_equal(RIG(r, op_link(r->f, &r->root, FS_ROOT_INODE, FS_ROOT_INODE, "h", &a)), -EPERM);
	files_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_directory_names_with_one_hash_live_together),
	cmocka_unit_test(fs_directory_a_walk_tells_each_entry_that_stays_exactly_once),
	cmocka_unit_test(fs_directory_a_lookup_among_50000_names_reads_one_path_of_the_tree),
	cmocka_unit_test(fs_directory_dot_of_a_file_is_the_file_until_it_has_no_name),
	cmocka_unit_test(fs_directory_dot_dot_is_right_after_every_rename),
	cmocka_unit_test(fs_directory_never_gets_into_itself),
	cmocka_unit_test(fs_directory_that_damage_put_above_itself_is_an_error_and_no_endless_walk),
	cmocka_unit_test(fs_directory_sticky_protects_what_belongs_to_others),
	cmocka_unit_test(fs_directory_with_setgid_gives_its_group),
	cmocka_unit_test(fs_directory_that_was_removed_takes_no_names_and_goes_when_it_is_closed),
	cmocka_unit_test(fs_directory_names_have_255_bytes_of_any_kind),
	cmocka_unit_test(fs_directory_a_secondary_refuses_every_change),
	cmocka_unit_test(fs_directory_a_file_has_at_most_65536_names),
};
TEST_GROUP(fs_directory, tests)
