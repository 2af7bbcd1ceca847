/* SPDX-License-Identifier: Apache-2.0 */
/* What operations put into the log: how much of it, and what the annotations say. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "directory.h"
#include "files_rig.h"

/* ---- how much ---- */

static void fs_log_an_append_of_1_kib_is_1_kib_and_512_bytes_at_most(void **state)
{
	struct files_rig *r = files_rig_new(20000, 1);
	static uint8_t bytes[1024];
	uint64_t most = 0, all = 0, appends = 0, large = 0;

	(void)state;
	memset(bytes, 0xa5, sizeof bytes);
	for (unsigned start = 0; start < 300; start++) {
		char name[20];
		uint64_t file, size = start * 37 % 5000;

		snprintf(name, sizeof name, "some-file-%u", start);
		file = rig_file(r, FS_ROOT_INODE, name, 0644);
		assert_int_equal(files_rig_write(r, &r->root, file, 0, bytes, min_u64(size, 1024)), 0);
		assert_int_equal(rig_truncate(r, file, size), 0);
		for (unsigned i = 0; i < 20; i++, size += sizeof bytes, appends++) {
			files_rig_tick(r);
			assert_int_equal(files_rig_write(r, &r->root, file, size, bytes, sizeof bytes), 0);
			assert_int_equal(r->records, 1);
			all += r->logged;
			/* The first one may add an item to a leaf that divides then: once for dozens of files. */
			most = i ? max_u64(most, r->logged) : most;
			large += r->logged > 1024 + 512;
		}
	}
	if (getenv("SIM_VERBOSE"))
		fprintf(stderr, "an append of 1 KiB: %llu bytes, %llu at most; %llu of %llu divided a leaf\n",
			(unsigned long long)(all / appends), (unsigned long long)most, (unsigned long long)large,
			(unsigned long long)appends);
	assert_in_range(large, 0, 300 / 10);
	assert_in_range(most, 1024, 1024 + 512);
	files_rig_free(r);
}

static void fs_log_a_create_is_1_kib_at_most_unless_a_leaf_divides(void **state)
{
	struct files_rig *r = files_rig_new(20000, 2);
	uint64_t all = 0, large = 0, limit = 1024, count = 10000;
	char name[64];

	(void)state;
	for (unsigned i = 0; i < count; i++) {
		struct attributes a;

		files_rig_tick(r);
		snprintf(name, sizeof name, "a-file-with-a-name-%u", i);
		assert_int_equal(RIG(r, op_create(r->f, &r->user, FS_ROOT_INODE, name, 0644, O_RDWR, &a)), -EACCES);
		assert_int_equal(RIG(r, op_create(r->f, &r->root, FS_ROOT_INODE, name, 0644, O_RDWR, &a)), 0);
		assert_int_equal(r->records, 1);
		op_release(r->f, a.ino);
		all += r->logged;
		large += r->logged > limit;
	}
	if (getenv("SIM_VERBOSE"))
		fprintf(stderr, "a create: %llu bytes on the average, %llu of %llu over 1 KiB\n",
			(unsigned long long)(all / count), (unsigned long long)large, (unsigned long long)count);
	assert_in_range(all / count, 1, limit);
	assert_in_range(large, 0, count / 10);
	files_rig_free(r);
}

/* Who waits for what he did to be acknowledged does not wait for others. */
static void fs_log_end_of_what_changes_nothing_stays(void **state)
{
	struct files_rig *r = files_rig_new(1000, 4);
	struct blocks *blocks = memory_blocks_blocks(r->blocks);
	uint64_t lsn, before, file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct attributes_set nothing = { 0 };
	struct attributes a;

	(void)state;
	before = op_lsn(r->f);
	assert_int_equal(blocks->discard(blocks, blocks->count - 1, 1), 0);	/* somebody else's record */
	assert_int_equal(blocks->commit(blocks, NULL, 0, &lsn), 0);
	assert_true(lsn > before);
	assert_int_equal(RIG(r, op_create(r->f, &r->root, FS_ROOT_INODE, "f", 0644, O_RDWR, &a)), 0);
	assert_int_equal(a.ino, file);
	assert_int_equal(RIG(r, op_setattr(r->f, &r->root, file, &nothing, &a)), 0);
	assert_int_equal(RIG(r, op_rename(r->f, &r->root, FS_ROOT_INODE, "f", FS_ROOT_INODE, "f", 0)), 0);
	assert_int_equal(RIG(r, op_reclaim(r->f)), 0);
	assert_int_equal(op_lsn(r->f), before);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), 0);
	assert_true(op_lsn(r->f) > lsn);
	op_release(r->f, file);
	files_rig_free(r);
}

/* ---- what it says ---- */

static struct {
	int (*below)(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn);
	_Alignas(8) uint8_t bytes[BLOCKS_ANNOTATION_MAX];
	uint32_t len;
} heard;

static int hear(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn)
{
	memcpy(heard.bytes, annotation, len);
	heard.len = len;
	return heard.below(blocks, annotation, len, lsn);
}

static struct files_rig *rig_heard(void)
{
	struct files_rig *r = files_rig_new(1000, 3);

	heard.below = memory_blocks_blocks(r->blocks)->commit;
	memory_blocks_blocks(r->blocks)->commit = hear;
	return r;
}

/* The annotation of the last operation, as a line: "rename REMOVED 1/a=7 ADDED 1/b=7". */
static const char *said(void)
{
	static const char *const kinds[] = { "?", "ADDED", "REMOVED", "ATTRIBUTES", "DATA", "XATTR", "FREED" };
	static char line[2000];
	struct annotation_change c;
	uint32_t at = 0;
	int len = snprintf(line, sizeof line, "%u:", annotation_operation(heard.bytes));

	assert_true(annotation_check(heard.bytes, heard.len));
	while (annotation_next(heard.bytes, &at, &c)) {
		len += snprintf(line + len, sizeof line - (size_t)len, " %s", kinds[c.kind]);
		if (c.kind <= ANNOTATION_REMOVED)
			len += snprintf(line + len, sizeof line - (size_t)len, " %llu/%.*s",
					(unsigned long long)c.parent, (int)c.name_len, c.name);
		len += snprintf(line + len, sizeof line - (size_t)len, " =%llu", (unsigned long long)c.inode);
		if (c.kind == ANNOTATION_DATA)
			len += snprintf(line + len, sizeof line - (size_t)len, " %llu+%lld",
					(unsigned long long)c.offset, (long long)c.len);
		if (c.kind == ANNOTATION_XATTR)
			len += snprintf(line + len, sizeof line - (size_t)len, " %.*s", (int)c.name_len, c.name);
	}
	return line;
}

static void fs_log_annotations_name_what_changed(void **state)
{
	struct files_rig *r = rig_heard();
	struct attributes a;
	uint64_t dir = rig_dir(r, FS_ROOT_INODE, "d", 0755);

	(void)state;
	assert_string_equal(said(), "2: ADDED 1/d =2");
	rig_file(r, dir, "f", 0644);
	assert_string_equal(said(), "1: ADDED 2/f =3");
	assert_int_equal(files_rig_write(r, &r->root, 3, 10, "hello", 5), 0);
	assert_string_equal(said(), "11: DATA =3 10+5");
	assert_int_equal(rig_truncate(r, 3, 12), 0);
	assert_string_equal(said(), "10: DATA =3 12+-1 ATTRIBUTES =3");
	assert_int_equal(RIG(r, op_link(r->f, &r->root, 3, FS_ROOT_INODE, "g", &a)), 0);
	assert_string_equal(said(), "5: ADDED 1/g =3");
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "g")), 0);
	assert_string_equal(said(), "6: REMOVED 1/g =3");
	rig_file(r, FS_ROOT_INODE, "h", 0644);
	assert_int_equal(RIG(r, op_rename(r->f, &r->root, dir, "f", FS_ROOT_INODE, "h", 0)), 0);
	assert_string_equal(said(), "8: REMOVED 2/f =3 ADDED 1/h =3 FREED =4");
	assert_int_equal(RIG(r, op_rename(r->f, &r->root, FS_ROOT_INODE, "h", FS_ROOT_INODE, "d", RENAME_EXCHANGE)), 0);
	assert_string_equal(said(), "9: ADDED 1/h =2 ADDED 1/d =3");
	assert_int_equal(RIG(r, op_setxattr(r->f, &r->root, 3, "user.x", "1", 1, 0)), 0);
	assert_string_equal(said(), "13: XATTR =3 user.x");
	assert_int_equal(RIG(r, op_fallocate(r->f, &r->root, 3, FALLOC_FL_KEEP_SIZE, 0, 4096)), 0);
	assert_string_equal(said(), "12: DATA =3 0+4096");
	assert_int_equal(RIG(r, op_open(r->f, &r->root, 3, O_RDONLY, &a)), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "d")), 0);
	assert_string_equal(said(), "6: REMOVED 1/d =3 ATTRIBUTES =3");
	op_release(r->f, 3);
	assert_int_equal(op_reclaim(r->f), OP_AGAIN);
	assert_string_equal(said(), "16: FREED =3");
	files_rig_free(r);
}

static void fs_log_the_longest_names_fit_an_annotation(void **state)
{
	struct files_rig *r = rig_heard();
	char one[NAME_MAX_BYTES + 1], two[NAME_MAX_BYTES + 1];

	(void)state;
	memset(one, 'a', NAME_MAX_BYTES);
	memset(two, 'b', NAME_MAX_BYTES);
	one[NAME_MAX_BYTES] = two[NAME_MAX_BYTES] = 0;
	rig_file(r, FS_ROOT_INODE, one, 0644);
	rig_file(r, FS_ROOT_INODE, two, 0644);
	assert_int_equal(RIG(r, op_rename(r->f, &r->root, FS_ROOT_INODE, one, FS_ROOT_INODE, two, RENAME_EXCHANGE)), 0);
	assert_true(annotation_check(heard.bytes, heard.len));
	assert_int_equal(RIG(r, op_rename(r->f, &r->root, FS_ROOT_INODE, one, FS_ROOT_INODE, two, 0)), 0);
	assert_true(annotation_check(heard.bytes, heard.len));
	files_rig_free(r);
}

static void fs_log_what_is_no_annotation_is_refused_and_never_read_beyond(void **state)
{
	struct files_rig *r = rig_heard();
	uint64_t good = 0;

	(void)state;
	rig_file(r, FS_ROOT_INODE, "a", 0644);
	assert_int_equal(RIG(r, op_rename(r->f, &r->root, FS_ROOT_INODE, "a", FS_ROOT_INODE, "name", 0)), 0);
	for (uint32_t len = 0; len <= heard.len; len++)
		assert_int_equal(annotation_check(heard.bytes, len), len == heard.len);
	for (unsigned i = 0; i < 20000; i++) {
		uint32_t len = (uint32_t)files_rig_draw(r, heard.len + 9);
		uint8_t *bytes = calloc(1, len + 1);
		struct annotation_change c;
		uint32_t at = 0;

		len = i % 2 ? heard.len < len ? len : heard.len : len;
		free(bytes);
		bytes = calloc(1, len + 1);
		memcpy(bytes, heard.bytes, min_u64(len, heard.len));
		for (unsigned flips = 0; len && flips <= i % 3; flips++)
			bytes[files_rig_draw(r, len)] ^= (uint8_t)(1 << files_rig_draw(r, 8));
		if (annotation_check(bytes, len)) {
			unsigned changes = 0;

			for (good++; annotation_next(bytes, &at, &c); changes++)
				assert_true((const uint8_t *)c.name + c.name_len <= bytes + len);
			assert_int_equal(at, len);
			assert_int_equal(changes, ((struct annotation_header *)bytes)->count);
		}
		free(bytes);
	}
	assert_true(good > 100);
	files_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_log_an_append_of_1_kib_is_1_kib_and_512_bytes_at_most),
	cmocka_unit_test(fs_log_a_create_is_1_kib_at_most_unless_a_leaf_divides),
	cmocka_unit_test(fs_log_end_of_what_changes_nothing_stays),
	cmocka_unit_test(fs_log_annotations_name_what_changed),
	cmocka_unit_test(fs_log_the_longest_names_fit_an_annotation),
	cmocka_unit_test(fs_log_what_is_no_annotation_is_refused_and_never_read_beyond),
};
TEST_GROUP(fs_log, tests)
