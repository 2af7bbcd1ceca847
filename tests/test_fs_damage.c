/* SPDX-License-Identifier: Apache-2.0 */
/* Items of the tree that hold anything, in blocks that are whole: operations answer with an error or with something,
 * and always come to an end. Under the sanitizers they read nothing that is not theirs. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "acl.h"
#include "files_rig.h"
#include "fs_check.h"

enum { INODES = 24, TURNS_MAX = 3000 };

static uint8_t bytes[70000], out[70000];

/* The operation to its end, which it must have. */
#define ENDS(r, call) \
	({ \
		int result_; \
		unsigned turns_ = 0; \
		do { \
			result_ = (call); \
			assert_true(++turns_ < TURNS_MAX); \
		} while (result_ == OP_AGAIN); \
		assert_true(result_ <= 0 && result_ > -4096 && result_ != -EAGAIN); \
		result_; \
	})

static void populate(struct files_rig *r)
{
	static const uint8_t acl[] = {
		2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 1, 0, 255, 255, 255, 255,
	};
	struct attributes a;
	uint64_t dir = FS_ROOT_INODE;
	char name[40], target[3000];

	memset(bytes, 0x5a, sizeof bytes);
	memset(target, 't', sizeof target);
	target[2999] = 0;
	for (unsigned i = 0; i < INODES - 4; i++) {
		snprintf(name, sizeof name, "n%u", i);
		if (i % 5 == 0) {
			dir = rig_dir(r, i % 10 ? dir : FS_ROOT_INODE, name, 0777);
			assert_int_equal(RIG(r, op_setxattr(r->f, &r->root, dir, ACL_DEFAULT_NAME, acl, sizeof acl, 0)),
					 0);
			continue;
		}
		a.ino = rig_file(r, dir, name, 0666);
		assert_int_equal(files_rig_write(r, &r->root, a.ino, i * 3000 % 20000, bytes, i * 700 % 9000 + 1), 0);
		assert_int_equal(files_rig_write(r, &r->root, a.ino, i * 9000, bytes, i % 3 * 5000), 0);
		assert_int_equal(RIG(r, op_setxattr(r->f, &r->root, a.ino, "user.x", bytes, i * i * 100, 0)), 0);
		assert_int_equal(RIG(r, op_fallocate(r->f, &r->root, a.ino, FALLOC_FL_KEEP_SIZE, 50000, 9000)), 0);
	}
	assert_int_equal(RIG(r, op_symlink(r->f, &r->root, dir, "l", target, &a)), 0);
	for (unsigned i = 0; i < 2; i++) {	/* orphans */
		snprintf(name, sizeof name, "o%u", i);
		assert_int_equal(RIG(r, op_create(r->f, &r->root, FS_ROOT_INODE, name, 0644, O_RDWR, &a)), 0);
		assert_int_equal(files_rig_write(r, &r->root, a.ino, 0, bytes, 9000), 0);
		assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, name)), 0);
	}
}

/* Some item becomes another one, by chance. */
static void damage_item(struct files_rig *r)
{
	struct tree_key key = tree_key(files_rig_draw(r, INODES), (enum item_kind)(1 + files_rig_draw(r, 6)),
				       files_rig_draw(r, 2) ? 0 : files_rig_draw(r, UINT64_MAX));
	uint8_t value[ITEM_VALUE_MAX] = { 0 };
	struct tree_item item;
	uint16_t len;

	if (tree_next(&r->f->fs, &key, &item))
		return;
	key = item.key;
	len = item.len;
	memcpy(value, item.value, len);
	switch (files_rig_draw(r, 8)) {
	case 0:
		assert_int_equal(tree_delete(&r->f->fs, &key), 0);
		return;
	case 1:
		len = (uint16_t)files_rig_draw(r, files_rig_draw(r, 2) ? 40 : ITEM_VALUE_MAX);
		break;
	case 2:
		key.at += files_rig_draw(r, 600) - 300;
		key.inode += files_rig_draw(r, 3);
		if (tree_insert(&r->f->fs, &key, value, len) == 0)
			return;
		break;
	default:
		for (uint64_t flips = 1 + files_rig_draw(r, 4); len && flips--;)
			value[files_rig_draw(r, len)] = (uint8_t)(files_rig_draw(r, 2) ? files_rig_draw(r, 256) : 255);
	}
	(void)!tree_replace(&r->f->fs, &key, value, len);
}

static void damage(struct files_rig *r)
{
	files_begin(r->f, ANNOTATION_WRITE);
	for (uint64_t items = 1 + files_rig_draw(r, 4); items--;)
		damage_item(r);
	assert_int_equal(files_finish(r->f, 0), 0);
}

static bool take(void *context, const struct directory_entry *entry)
{
	uint64_t *cookie = context;

	assert_true(entry->cookie > *cookie && entry->name_len <= NAME_MAX_BYTES);
	*cookie = entry->cookie;
	return true;
}

static uint64_t ino_of(struct files_rig *r) { return 1 + files_rig_draw(r, INODES); }

static void look(struct files_rig *r, const struct caller *c, uint64_t ino, const char *name)
{
	struct attributes a;
	struct file_plan plan;
	uint64_t cookie = 0;
	uint32_t link_len;
	size_t len;

	switch (files_rig_draw(r, 6)) {
	case 0: ENDS(r, op_lookup(r->f, c, ino, name, &a)); break;
	case 1: ENDS(r, op_readdir(r->f, ino, 0, files_rig_draw(r, 2), take, &cookie)); break;
	case 2: ENDS(r, op_read(r->f, ino, files_rig_draw(r, 60000), 40000, &plan)); break;
	case 3: ENDS(r, op_readlink(r->f, ino, (char *)out, &link_len)); break;
	case 4: ENDS(r, op_listxattr(r->f, c, ino, (char *)out, sizeof out, &len)); break;
	default:
		ENDS(r, op_seek(r->f, ino, files_rig_draw(r, 60000), SEEK_DATA, &cookie));
		ENDS(r, op_seek(r->f, ino, files_rig_draw(r, 60000), SEEK_HOLE, &cookie));
		ENDS(r, op_getxattr(r->f, c, ino, "user.x", out, sizeof out, &len));
		ENDS(r, op_access(r->f, c, ino, 7));
	}
}

static void change(struct files_rig *r, const struct caller *c, uint64_t ino, const char *name)
{
	static const int modes[] = { 0, FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };
	struct attributes_set set = { .valid = SET_MODE | SET_SIZE, .size = files_rig_draw(r, 70000) };
	uint64_t other = ino_of(r), offset = files_rig_draw(r, 60000), len = 1 + files_rig_draw(r, 60000);
	struct attributes a;
	uint32_t written;

	switch (files_rig_draw(r, 11)) {
	case 0: ENDS(r, op_mkdir(r->f, c, ino, "new", 0755, &a)); break;
	case 1: ENDS(r, op_link(r->f, c, other, ino, "new link", &a)); break;
	case 2: ENDS(r, op_unlink(r->f, c, ino, name)); break;
	case 3: ENDS(r, op_rmdir(r->f, c, ino, name)); break;
	case 4: ENDS(r, op_rename(r->f, c, ino, name, other, "n0", files_rig_draw(r, 2) * RENAME_EXCHANGE)); break;
	case 5: ENDS(r, op_setattr(r->f, c, ino, &set, &a)); break;
	case 6: ENDS(r, op_write(r->f, c, ino, offset, bytes, len, 0, &written)); break;
	case 7: ENDS(r, op_fallocate(r->f, c, ino, modes[files_rig_draw(r, 3)], offset, len)); break;
	case 8: ENDS(r, op_setxattr(r->f, c, ino, "user.x", bytes, len, 0)); break;
	case 9: ENDS(r, op_removexattr(r->f, c, ino, "user.x")); break;
	default: ENDS(r, op_reclaim(r->f));
	}
}

/* What a check has to say of it: it ends. */
static uint64_t check(struct files_rig *r)
{
	struct fs_check *check;
	unsigned turns = 0;
	uint64_t damages;
	int result;

	assert_int_equal(fs_check_new(&check, r->f, CHECK_MEMORY_MIN), 0);
	while ((result = fs_check_step(check)) == 1)
		assert_true(++turns < TURNS_MAX);
	assert_int_equal(result, 0);
	damages = fs_check_figures(check)->damages;
	fs_check_free(check);
	return damages;
}

static void fs_damage_in_any_item_ends_in_an_answer(void **state)
{
	uint64_t first = test_seed_first(1), damages = 0, found;
	unsigned count = test_seed_count(300);
	struct files_rig *whole = files_rig_new(900, 1);

	(void)state;
	populate(whole);
	for (uint64_t seed = first; seed < first + count; seed++) {
		struct files_rig *r = files_rig_copy(whole);

		r->random = seed;
		damage(r);
		found = check(r);
		for (unsigned i = 0; i < 80; i++) {
			const struct caller *c = files_rig_draw(r, 4) ? &r->root : &r->user;
			uint64_t ino = ino_of(r);
			char name[20];

			snprintf(name, sizeof name, "n%u", (unsigned)files_rig_draw(r, INODES));
			if (files_rig_draw(r, 2))
				look(r, c, ino, name);
			else
				change(r, c, ino, name);
		}
		/* What an operation has stumbled upon, a check has seen before. */
		if (r->f->damage.count && !found)
			fail_msg("seed %llu: inode %llu: %s, and a check has found nothing", (unsigned long long)seed,
				 (unsigned long long)r->f->damage.ino, r->f->damage.what);
		damages += r->f->damage.count;
		files_rig_free(r);
	}
	if (count > 1)
		assert_true(damages > count);
	files_rig_free(whole);
}

static const struct CMUnitTest tests[] = { cmocka_unit_test(fs_damage_in_any_item_ends_in_an_answer) };
TEST_GROUP(fs_damage, tests)
