/* SPDX-License-Identifier: Apache-2.0 */
/* Archives out of filesystems that are made in memory and laid down as a stopped replica: what is in a file, byte for
 * byte, and what becomes of trees that cannot be. */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>

#include "directory.h"
#include "extract.h"
#include "files_rig.h"

enum { VOLUME_BLOCKS = 4096 };

struct laid { char dir[64]; unsigned said, lost; };

static void said(void *context, const char *path, const char *what, bool lost)
{
	struct laid *l = context;

	assert_non_null(path);
	assert_true(strlen(what) > 3);
	l->said++;
	l->lost += lost;
}

static void file_lay(const struct laid *l, const char *name, const void *bytes, size_t len, uint64_t size)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/%s", l->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/* The rig's blocks as the store of a replica that was never up; block @broken is overwritten. */
static void lay(struct laid *l, struct files_rig *r, uint64_t broken)
{
	const struct geometry g = { .uuid = { 7 }, .volume_bytes = VOLUME_BLOCKS * (uint64_t)BLOCK_BYTES, .node = "a",
				    .journal_bytes = 256 << 10, .segment_bytes = 64 << 10, .journal_block = 4096 };
	static uint8_t meta[META_BYTES], header[JOURNAL_HEADER_BYTES];
	uint8_t *store = calloc(VOLUME_BLOCKS, BLOCK_BYTES);
	uint64_t count, *written = memory_blocks_written(r->blocks, &count);

	for (uint64_t i = 0; i < count; i++)
		memcpy(store + written[i] * BLOCK_BYTES, memory_blocks_page(r->blocks, written[i]), BLOCK_BYTES);
	if (broken < VOLUME_BLOCKS)
		memset(store + broken * BLOCK_BYTES + 64, 0x5a, 1000);
	replica_format(&g, meta, header);
	file_lay(l, "meta", meta, sizeof meta, sizeof meta);
	file_lay(l, "journal", header, sizeof header, JOURNAL_HEADER_BYTES + g.journal_bytes);
	file_lay(l, "store", store, VOLUME_BLOCKS * (size_t)BLOCK_BYTES, g.volume_bytes);
	free(written);
	free(store);
}

static void laid_new(struct laid *l)
{
	const char *tmp = getenv("TMPDIR");

	*l = (struct laid){ 0 };
	snprintf(l->dir, sizeof l->dir, "%s/extract-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	assert_non_null(mkdtemp(l->dir));
}

static void laid_free(struct laid *l)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf '%s'", l->dir);
	assert_int_equal(system(command), 0);
}

/* Everything, into DIR/tar. The result of extract_new(), or of extract_path(). */
static int extract_all(struct laid *l, struct extract_figures *figures)
{
	struct extract_options options = { .say = said, .context = l };
	char why[WHY_BYTES], path[128];
	struct stopped_replica *replica;
	struct extract *x;
	int error;

	l->said = l->lost = 0;
	*figures = (struct extract_figures){ 0 };
	snprintf(path, sizeof path, "%s/tar", l->dir);
	options.archive = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(stopped_replica_open_in(&replica, l->dir, STOPPED_LOG, false, why), 0);
	error = extract_new(&x, replica, &options, why);
	if (!error) {
		error = extract_path(x, "/", why);
		assert_int_equal(extract_end(x, why), 0);
		*figures = extract_figures(x);
		assert_int_equal(figures->lost, l->lost);
		extract_free(x);
	}
	stopped_replica_close(replica);
	close(options.archive);
	return error;
}

/* The bytes of @name in the archive, @size of them, are @want. */
static void assert_in_archive(const struct laid *l, const char *name, const uint8_t *want, uint64_t size)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	uint8_t *have = calloc(1, size + 1);
	bool found = false;
	char path[128];

	snprintf(path, sizeof path, "%s/tar", l->dir);
	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_filename(a, path, 65536), ARCHIVE_OK);
	while (!found && archive_read_next_header(a, &e) == ARCHIVE_OK)
		found = strcmp(archive_entry_pathname(e), name) == 0;
	assert_true(found);
	assert_int_equal(archive_entry_size(e), size);
	assert_true(archive_read_data(a, have, size + 1) >= 0);	/* of a hole at the end it says nothing */
	assert_memory_equal(have, want, size);
	archive_read_free(a);
	free(have);
}

static void extract_has_every_byte_of_files_with_any_holes(void **state)
{
	enum { FILE_MAX = 3 << 20, FILES = 6 };
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(12); i++) {
		struct files_rig *r = files_rig_new(VOLUME_BLOCKS, first + i);
		uint8_t *model[FILES], piece[9000];
		uint64_t size[FILES] = { 0 };
		struct extract_figures figures;
		struct laid l;

		laid_new(&l);
		for (unsigned file = 0; file < FILES; file++) {
			char name[8] = { (char)('a' + file), 0 };
			uint64_t ino = rig_file(r, FS_ROOT_INODE, name, 0644);

			model[file] = calloc(1, FILE_MAX);
			for (unsigned n = (unsigned)files_rig_draw(r, 200) * (file > 0); n > 0; n--) {
				uint64_t len = 1 + files_rig_draw(r, sizeof piece);
				uint64_t at = files_rig_draw(r, FILE_MAX >> (2 * file)) % (FILE_MAX - len);

				for (uint64_t byte = 0; byte < len; byte++)
					piece[byte] = (uint8_t)files_rig_draw(r, 256);
				assert_int_equal(files_rig_write(r, &r->root, ino, at, piece, len), 0);
				memcpy(model[file] + at, piece, len);
				size[file] = max_u64(size[file], at + len);
			}
			if (files_rig_draw(r, 2)) {
				size[file] = max_u64(size[file], files_rig_draw(r, FILE_MAX));
				assert_int_equal(rig_truncate(r, ino, size[file]), 0);
			}
		}
		lay(&l, r, UINT64_MAX);
		assert_int_equal(extract_all(&l, &figures), 0);
		assert_int_equal(figures.entries, FILES + 1);
		assert_int_equal(l.said, 0);
		for (unsigned file = 0; file < FILES; file++) {
			char name[8] = { (char)('a' + file), 0 };

			assert_in_archive(&l, name, model[file], size[file]);
			free(model[file]);
		}
		laid_free(&l);
		files_rig_free(r);
	}
}

/* A name for a directory that is above it: nobody can make that but a broken disk, or a hostile one. */
static void name_put(struct files_rig *r, uint64_t dir, const char *name, uint64_t ino)
{
	struct inode at, to;
	struct place place;
	int result;

	do {
		files_begin(r->f, ANNOTATION_MKDIR);
		result = inode_read(r->f, dir, &at);
		if (!result)
			result = inode_read(r->f, ino, &to);
		if (!result)
			result = place_find(r->f, &r->root, &at, name, &place);
		if (!result)
			result = place_put(r->f, &place, &to, r->root.now);
		if (!result)
			result = inode_write(r->f, &at);
		result = files_finish(r->f, result);
	} while (files_rig_again(r, result));
	assert_int_equal(result, 0);
}

static void extract_ends_in_a_tree_that_is_a_circle(void **state)
{
	struct files_rig *r = files_rig_new(VOLUME_BLOCKS, test_seed_first(1));
	struct extract_figures figures;
	uint64_t one, two;
	struct laid l;

	(void)state;
	laid_new(&l);
	one = rig_dir(r, FS_ROOT_INODE, "one", 0755);
	two = rig_dir(r, one, "two", 0755);
	rig_file(r, two, "file", 0644);
	name_put(r, two, "up", FS_ROOT_INODE);
	name_put(r, two, "self", two);
	name_put(r, FS_ROOT_INODE, "again", one);
	lay(&l, r, UINT64_MAX);
	assert_int_equal(extract_all(&l, &figures), 0);
	assert_int_equal(figures.entries, 4);	/* the root, one (or again), two, file */
	assert_int_equal(figures.lost, 3);
	laid_free(&l);
	files_rig_free(r);
}

/* Whatever block of metadata is lost: it ends, it says so, or nothing was needed of it. */
static void extract_goes_on_behind_any_damaged_block(void **state)
{
	struct files_rig *r = files_rig_new(VOLUME_BLOCKS, test_seed_first(1));
	struct extract_figures whole, figures;
	unsigned gone_on = 0, named = 0;
	uint64_t count, *written;
	uint8_t bytes[5000] = "bytes";
	struct laid l;

	(void)state;
	laid_new(&l);
	for (unsigned i = 0; i < 400; i++) {
		char name[64];
		uint64_t ino;

		snprintf(name, sizeof name, "%u-a-name-that-takes-some-room-in-its-node", i);
		ino = i % 7 ? rig_file(r, FS_ROOT_INODE, name, 0644) : rig_dir(r, FS_ROOT_INODE, name, 0755);
		if (i % 7)
			assert_int_equal(files_rig_write(r, &r->root, ino, i * 100, bytes, i % 3 ? 100 : 5000), 0);
		assert_int_equal(RIG(r, op_setxattr(r->f, &r->root, ino, "user.x", bytes, 30, 0)), 0);
	}
	lay(&l, r, UINT64_MAX);
	assert_int_equal(extract_all(&l, &whole), 0);
	assert_int_equal(whole.entries, 401);
	written = memory_blocks_written(r->blocks, &count);
	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *page = memory_blocks_page(r->blocks, written[i]);
		le32 magic;
		int result;

		memcpy(&magic, page + 8, sizeof magic);
		if (from_le32(magic) != NODE_MAGIC && from_le32(magic) != SUPERBLOCK_MAGIC)
			continue;
		lay(&l, r, written[i]);
		result = extract_all(&l, &figures);
		assert_true(result || figures.lost);
		named += result == 0;
		gone_on += figures.entries > whole.entries / 2;
	}
	assert_true(named > 10);
	assert_true(gone_on > 10);
	free(written);
	laid_free(&l);
	files_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(extract_has_every_byte_of_files_with_any_holes),
	cmocka_unit_test(extract_ends_in_a_tree_that_is_a_circle),
	cmocka_unit_test(extract_goes_on_behind_any_damaged_block),
};
TEST_GROUP(extract, tests)
