/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes and their bounds; access control lists, what they allow and what becomes of them. */
#include <sys/xattr.h>

#include "acl.h"
#include "files_rig.h"
#include "xattr.h"

static uint8_t value[XATTR_VALUE_MAX + 1], got[XATTR_VALUE_MAX + 1];

static int set(struct files_rig *r, const struct caller *c, uint64_t ino, const char *name, size_t len, int flags)
{
	return RIG(r, op_setxattr(r->f, c, ino, name, value, len, flags));
}

static int get(struct files_rig *r, const struct caller *c, uint64_t ino, const char *name, size_t size, size_t *len)
{
	return RIG(r, op_getxattr(r->f, c, ino, name, got, size, len));
}

static void fs_xattr_values_have_0_to_64_kib(void **state)
{
	static const size_t lens[] = { 0, 1, 900, 977, 978, 979, 996, 1975, 30000, 65535, 65536 };
	struct files_rig *r = files_rig_new(1000, 1);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644), free_before = rig_free_blocks(r);
	size_t len;

	(void)state;
	for (unsigned i = 0; i < 121; i++) {	/* each length over each other */
		size_t want = lens[i % 2 ? i / 11 : i % 11];

		for (size_t b = 0; b < want; b++)
			value[b] = (uint8_t)(b * 13 + i);
		assert_int_equal(set(r, &r->root, file, "user.name", want, 0), 0);
		assert_int_equal(get(r, &r->root, file, "user.name", sizeof got, &len), 0);
		assert_int_equal(len, want);
		assert_memory_equal(got, value, len);
		assert_int_equal(get(r, &r->root, file, "user.name", 0, &len), 0);
		assert_int_equal(len, want);
		if (want > 1)
			assert_int_equal(get(r, &r->root, file, "user.name", want - 1, &len), -ERANGE);
	}
	assert_int_equal(set(r, &r->root, file, "user.name", XATTR_VALUE_MAX + 1, 0), -E2BIG);
	assert_int_equal(RIG(r, op_removexattr(r->f, &r->root, file, "user.name")), 0);
	assert_int_equal(get(r, &r->root, file, "user.name", 0, &len), -ENODATA);
	assert_int_equal(rig_free_blocks(r), free_before);
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_xattr_names_with_one_hash_live_together_and_the_list_is_bounded(void **state)
{
	struct files_rig *r = files_rig_new(1000, 2);
	static char list[XATTR_LIST_MAX_BYTES + 1];
	uint64_t file;
	char name[256];
	unsigned count = 0;
	size_t len;

	(void)state;
	r->f->hash_mask = 1ull << 63;		/* two hashes */
	file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	for (int error = 0; error == 0; count++) {
		memset(name, 'n', 255);
		name[255] = 0;
		snprintf(name, sizeof name, "user.%0250u", count);
		error = set(r, &r->root, file, name, 3, XATTR_CREATE);
		if (error)
			assert_int_equal(error, -ENOSPC);
	}
	assert_in_range(count, 200, XATTR_LIST_MAX_BYTES / 256 + 1);
	assert_int_equal(RIG(r, op_listxattr(r->f, &r->root, file, list, sizeof list, &len)), 0);
	assert_int_equal(len, (count - 1) * 256);
	assert_int_equal(RIG(r, op_listxattr(r->f, &r->root, file, list, 5, &len)), -ERANGE);
	for (unsigned i = 0; i < count - 1; i++) {
		snprintf(name, sizeof name, "user.%0250u", (i * 7 + 3) % (count - 1));
		if ((count - 1) % 7)
			assert_int_equal(RIG(r, op_removexattr(r->f, &r->root, file, name)), 0);
	}
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), 0);
	files_rig_reclaim(r);
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_xattr_name_spaces_have_their_owners(void **state)
{
	struct files_rig *r = files_rig_new(300, 3);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct attributes a;
	char list[100];
	size_t len;

	(void)state;
	assert_int_equal(set(r, &r->root, file, "trusted.a", 1, 0), 0);
	assert_int_equal(set(r, &r->root, file, "security.b", 1, 0), 0);
	assert_int_equal(set(r, &r->root, file, "user.c", 1, 0), 0);
	assert_int_equal(set(r, &r->user, file, "trusted.a", 1, 0), -EPERM);
	assert_int_equal(set(r, &r->user, file, "user.c", 1, 0), -EACCES);
	assert_int_equal(get(r, &r->user, file, "trusted.a", 9, &len), -ENODATA);
	assert_int_equal(get(r, &r->user, file, "user.c", 9, &len), 0);
	assert_int_equal(RIG(r, op_listxattr(r->f, &r->root, file, list, 100, &len)), 0);
	assert_int_equal(len, 10 + 11 + 7);
	assert_int_equal(RIG(r, op_listxattr(r->f, &r->user, file, list, 100, &len)), 0);
	assert_int_equal(len, 11 + 7);
	assert_int_equal(set(r, &r->root, file, "user.c", 1, XATTR_CREATE), -EEXIST);
	assert_int_equal(set(r, &r->root, file, "user.d", 1, XATTR_REPLACE), -ENODATA);
	assert_int_equal(set(r, &r->root, file, "system.other", 1, 0), -EOPNOTSUPP);
	assert_int_equal(set(r, &r->root, file, "user.", 1, 0), -EINVAL);
	assert_int_equal(set(r, &r->root, file, "", 1, 0), -ERANGE);
	assert_int_equal(RIG(r, op_symlink(r->f, &r->root, FS_ROOT_INODE, "l", "f", &a)), 0);
	assert_int_equal(set(r, &r->root, a.ino, "user.c", 1, 0), -EPERM);
	assert_int_equal(set(r, &r->root, a.ino, "trusted.c", 1, 0), 0);
	files_rig_free(r);
}

/* ---- access control lists ---- */

struct entry { unsigned tag, perm, id; };

/* The entries as a value; its length. */
static size_t acl_of(const struct entry *entries, unsigned count)
{
	struct acl_entry_item item;
	le32 version = to_le32(ACL_VERSION);

	memcpy(value, &version, 4);
	for (unsigned i = 0; i < count; i++) {
		item = (struct acl_entry_item){ to_le16((uint16_t)entries[i].tag), to_le16((uint16_t)entries[i].perm),
						to_le32(entries[i].id) };
		memcpy(value + 4 + 8 * i, &item, 8);
	}
	return 4 + 8 * count;
}

static const struct entry named[] = {
	{ ACL_USER_OBJ, 7, 0 }, { ACL_USER, 7, 1000 }, { ACL_GROUP_OBJ, 4, 0 }, { ACL_GROUP, 6, 100 },
	{ ACL_MASK, 6, 0 }, { ACL_OTHER, 1, 0 },
};

static int may(struct files_rig *r, const struct caller *c, uint64_t ino, unsigned mask)
{
	return RIG(r, op_access(r->f, c, ino, mask));
}

static void fs_acl_allows_by_user_by_group_and_by_mask(void **state)
{
	struct files_rig *r = files_rig_new(300, 4);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0600);
	struct caller stranger = { .uid = 5, .gid = 5 }, checked = r->other;

	(void)state;
	checked.checked = true;
	assert_int_equal(set(r, &r->user, file, ACL_ACCESS_NAME, acl_of(named, 6), 0), -EPERM);
	assert_int_equal(set(r, &r->root, file, ACL_ACCESS_NAME, acl_of(named, 6), 0), 0);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0761);	/* the mask is the group's bits */
	assert_int_equal(may(r, &r->user, file, MAY_READ | MAY_WRITE), 0);
	assert_int_equal(may(r, &r->user, file, MAY_EXECUTE), -EACCES);	/* beyond the mask */
	assert_int_equal(may(r, &r->other, file, MAY_READ | MAY_WRITE), 0);	/* by group 100 */
	assert_int_equal(may(r, &r->other, file, MAY_EXECUTE), -EACCES);	/* a group of his says no */
	assert_int_equal(may(r, &stranger, file, MAY_EXECUTE), 0);
	assert_int_equal(may(r, &stranger, file, MAY_READ), -EACCES);
	assert_int_equal(may(r, &r->root, file, MAY_READ), 0);
	assert_int_equal(may(r, &checked, file, 7), 0);
	files_rig_free(r);
}

static void fs_acl_and_mode_say_the_same(void **state)
{
	static const struct entry plain[] = { { ACL_USER_OBJ, 6, 0 }, { ACL_GROUP_OBJ, 4, 0 }, { ACL_OTHER, 0, 0 } };
	struct files_rig *r = files_rig_new(300, 5);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0777);
	struct attributes_set chmod = { .valid = SET_MODE, .mode = 0742 };
	size_t len;

	(void)state;
	assert_int_equal(set(r, &r->root, file, ACL_ACCESS_NAME, acl_of(plain, 3), 0), 0);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0640);
	assert_int_equal(get(r, &r->root, file, ACL_ACCESS_NAME, 0, &len), -ENODATA);	/* the mode says it */
	assert_int_equal(set(r, &r->root, file, ACL_ACCESS_NAME, acl_of(named, 6), 0), 0);
	assert_int_equal(rig_set(r, &r->root, file, &chmod), 0);
	assert_int_equal(get(r, &r->root, file, ACL_ACCESS_NAME, sizeof got, &len), 0);
	assert_int_equal(len, 4 + 6 * 8);
	assert_int_equal(got[4 + 4 * 8 + 2], 4);	/* mask */
	assert_int_equal(got[4 + 2 * 8 + 2], 4);	/* the owning group's entry stays */
	assert_int_equal(got[4 + 5 * 8 + 2], 2);	/* others */
	assert_int_equal(may(r, &r->user, file, MAY_WRITE), -EACCES);
	assert_int_equal(RIG(r, op_removexattr(r->f, &r->root, file, ACL_ACCESS_NAME)), 0);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0742);
	assert_int_equal(get(r, &r->root, file, ACL_ACCESS_NAME, 0, &len), -ENODATA);
	files_rig_free(r);
}

static void fs_acl_defaults_are_inherited_in_place_of_the_umask(void **state)
{
	struct files_rig *r = files_rig_new(300, 6);
	uint64_t dir = rig_dir(r, FS_ROOT_INODE, "d", 0755), file;
	struct attributes a;
	size_t len;

	(void)state;
	assert_int_equal(set(r, &r->root, dir, ACL_DEFAULT_NAME, acl_of(named, 6), 0), 0);
	assert_int_equal(rig_stat(r, dir).mode, S_IFDIR | 0755);
	file = rig_file(r, dir, "f", 0666);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0660);	/* 0666 of 0761; no umask */
	assert_int_equal(get(r, &r->root, file, ACL_ACCESS_NAME, sizeof got, &len), 0);
	assert_int_equal(got[4 + 4 * 8 + 2], 6);
	assert_int_equal(get(r, &r->root, file, ACL_DEFAULT_NAME, 0, &len), -ENODATA);
	assert_int_equal(RIG(r, op_mkdir(r->f, &r->root, dir, "sub", 0700, &a)), 0);
	assert_int_equal(a.mode, S_IFDIR | 0700);
	assert_int_equal(get(r, &r->root, a.ino, ACL_DEFAULT_NAME, sizeof got, &len), 0);
	assert_int_equal(len, acl_of(named, 6));
	for (unsigned i = 0; i < 6; i++)
		assert_memory_equal(got + 4 + 8 * i, value + 4 + 8 * i, 4);
	assert_int_equal(RIG(r, op_symlink(r->f, &r->root, dir, "l", "x", &a)), 0);
	assert_int_equal(a.mode, S_IFLNK | 0777);
	assert_int_equal(set(r, &r->root, a.ino, ACL_ACCESS_NAME, acl_of(named, 6), 0), -EOPNOTSUPP);
	assert_int_equal(set(r, &r->root, file, ACL_DEFAULT_NAME, acl_of(named, 6), 0), -EACCES);
	assert_int_equal(RIG(r, op_removexattr(r->f, &r->root, dir, ACL_DEFAULT_NAME)), 0);
	file = rig_file(r, dir, "g", 0666);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0644);
	files_rig_free(r);
}

static void fs_acl_what_is_none_is_refused(void **state)
{
	static const struct { unsigned count; struct entry at[5]; } bad[] = {
		{ 1, { { ACL_USER_OBJ, 7, 0 } } },
		{ 2, { { ACL_USER_OBJ, 7, 0 }, { ACL_GROUP_OBJ, 7, 0 } } },
		{ 3, { { ACL_GROUP_OBJ, 7, 0 }, { ACL_USER_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 3, { { ACL_USER_OBJ, 8, 0 }, { ACL_GROUP_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 4, { { ACL_USER_OBJ, 7, 0 }, { ACL_USER, 7, 5 }, { ACL_GROUP_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 4, { { ACL_USER_OBJ, 7, 0 }, { ACL_USER_OBJ, 7, 0 }, { ACL_GROUP_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 4, { { ACL_USER_OBJ, 7, 0 }, { ACL_GROUP_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 }, { 64, 7, 0 } } },
		{ 4, { { ACL_USER_OBJ, 7, 0 }, { ACL_GROUP_OBJ, 7, 0 }, { 3, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 5, { { ACL_USER_OBJ, 7, 0 }, { ACL_USER, 7, UINT32_MAX }, { ACL_GROUP_OBJ, 7, 0 }, { ACL_MASK, 7, 0 },
		       { ACL_OTHER, 7, 0 } } },
	};
	struct files_rig *r = files_rig_new(300, 7);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0600);

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(set(r, &r->root, file, ACL_ACCESS_NAME, acl_of(bad[i].at, bad[i].count), 0), -EINVAL);
	assert_int_equal(set(r, &r->root, file, ACL_ACCESS_NAME, acl_of(named, 6) - 1, 0), -EINVAL);
	value[0] = 3;
	assert_int_equal(set(r, &r->root, file, ACL_ACCESS_NAME, 4 + 6 * 8, 0), -EOPNOTSUPP);
	acl_of(named, 6);
	assert_int_equal(set(r, &r->root, file, ACL_ACCESS_NAME, XATTR_VALUE_MAX - 4, 0), -ENOSPC);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0600);
	files_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_xattr_values_have_0_to_64_kib),
	cmocka_unit_test(fs_xattr_names_with_one_hash_live_together_and_the_list_is_bounded),
	cmocka_unit_test(fs_xattr_name_spaces_have_their_owners),
	cmocka_unit_test(fs_acl_allows_by_user_by_group_and_by_mask),
	cmocka_unit_test(fs_acl_and_mode_say_the_same),
	cmocka_unit_test(fs_acl_defaults_are_inherited_in_place_of_the_umask),
	cmocka_unit_test(fs_acl_what_is_none_is_refused),
};
TEST_GROUP(fs_xattr, tests)
