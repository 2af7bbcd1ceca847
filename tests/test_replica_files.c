/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about daemon/replica_files*.c, in a directory under TMPDIR. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "replica_files.h"
#include "run.h"

/* The engine's own takes its place where it is linked. */
__attribute__((weak)) void replica_format(const struct geometry *geometry, uint8_t meta[META_BYTES],
					  uint8_t journal_header[JOURNAL_HEADER_BYTES])
{
	(void)geometry;
	memset(meta, 'm', META_BYTES);
	memset(journal_header, 'j', JOURNAL_HEADER_BYTES);
}

enum { VOLUME_BYTES = 1 << 20, JOURNAL_BYTES = 1 << 20 };

struct place {
	char dir[64], why[WHY_BYTES];
	struct config config;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof *p);
	const char *tmp = getenv("TMPDIR");

	snprintf(p->dir, sizeof p->dir, "%s/replica-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(p->dir))
		return -1;
	snprintf(p->config.store, PATH_MAX, "%s/var/db0/store", p->dir);
	snprintf(p->config.journal, PATH_MAX, "%s/var/db0/journal", p->dir);
	snprintf(p->config.meta, PATH_MAX, "%s/other/meta", p->dir);
	snprintf(p->config.bitmap, PATH_MAX, "%s/var/db0/bitmap", p->dir);
	snprintf(p->config.undo, PATH_MAX, "%s/other/undo", p->dir);
	p->config.volume.geometry = (struct geometry){
		.uuid = { 1, 2, 3 }, .volume_bytes = VOLUME_BYTES, .journal_bytes = JOURNAL_BYTES,
		.segment_bytes = 64 << 10, .journal_block = 4096, .node = "a",
	};
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	char command[128];
	int res;

	snprintf(command, sizeof command, "rm -rf '%s'", p->dir);
	res = system(command);
	free(p);
	return res;
}

static void assert_opens_as(struct place *p, int want)
{
	struct replica_files files;
	int res = replica_files_open(&files, &p->config, p->why);

	if (res != want)
		print_message("%d: %s\n", res, p->why);
	assert_int_equal(res, want);
	if (res < 0) {
		assert_int_equal(files.store, -1);
		assert_int_equal(files.undo[UNDO_SLOTS - 1], -1);
		assert_non_null(strchr(p->why, ';'));
	}
	replica_files_close(&files);
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

static void replica_files_opens_what_it_created(void **state)
{
	struct place *p = *state;
	const struct geometry *g = &p->config.volume.geometry;
	char parent[80], undo[PATH_MAX], bytes[2 * BLOCK_BYTES];
	struct stat st;
	int fd;

	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	st = stat_of(p->config.bitmap);
	assert_int_equal(st.st_size, replica_bitmap_bytes(g));
	assert_true((uint64_t)st.st_blocks * 512 >= replica_bitmap_bytes(g));
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
		config_undo_path(&p->config, slot, undo);
		st = stat_of(undo);
		assert_int_equal(st.st_size, replica_undo_bytes(g));
		assert_int_equal(st.st_blocks, 0);
	}
	st = stat_of(p->config.store);
	assert_int_equal(st.st_size, VOLUME_BYTES);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_blocks * 512 < VOLUME_BYTES);
	st = stat_of(p->config.journal);
	assert_int_equal(st.st_size, JOURNAL_HEADER_BYTES + JOURNAL_BYTES);
	assert_true(st.st_blocks * 512 >= JOURNAL_BYTES);
	assert_int_equal(stat_of(p->config.meta).st_size, META_BYTES);
	snprintf(parent, sizeof parent, "%s/var/db0", p->dir);
	assert_int_equal(stat_of(parent).st_mode & 0777, 0700);

	fd = open(p->config.journal, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
	assert_true(memcmp(bytes, bytes + BLOCK_BYTES, BLOCK_BYTES) != 0);	/* a header, then zeros */
	for (int i = BLOCK_BYTES; i < 2 * BLOCK_BYTES; i++)
		assert_int_equal(bytes[i], 0);
	close(fd);
	assert_opens_as(p, 0);
}

static void replica_files_create_never_overwrites(void **state)
{
	struct place *p = *state;
	enum { FIRST_UNDO = 4, FILES = FIRST_UNDO + UNDO_SLOTS };
	char undo[UNDO_SLOTS][PATH_MAX];
	const char *paths[FILES] = { p->config.store, p->config.journal, p->config.meta, p->config.bitmap };

	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
		config_undo_path(&p->config, slot, undo[slot]);
		paths[FIRST_UNDO + slot] = undo[slot];
	}
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_int_equal(replica_files_create(&p->config, p->why), -EEXIST);
	assert_non_null(strstr(p->why, p->config.store));
	assert_opens_as(p, 0);
	for (int i = 0; i < FILES; i++) {		/* whichever one is there, the others are not left behind */
		for (int j = 0; j < FILES; j++)
			if (j != i)
				unlink(paths[j]);
		assert_int_equal(replica_files_create(&p->config, p->why), -EEXIST);
		for (int j = 0; j < FILES; j++)
			assert_int_equal(access(paths[j], F_OK), j == i ? 0 : -1);
		unlink(paths[i]);
		assert_int_equal(replica_files_create(&p->config, p->why), 0);
	}
}

static void replica_files_create_removes_what_it_made_when_it_fails(void **state)
{
	struct place *p = *state;
	char parent[80];

	p->config.volume.geometry.journal_bytes = 1ull << 60;
	assert_true(replica_files_create(&p->config, p->why) < 0);
	assert_non_null(strstr(p->why, "journal"));
	snprintf(parent, sizeof parent, "%s/var", p->dir);
	assert_int_equal(access(parent, F_OK), -1);
	snprintf(parent, sizeof parent, "%s/other", p->dir);
	assert_int_equal(access(parent, F_OK), -1);
}

static void replica_files_are_never_shared(void **state)
{
	struct place *p = *state;
	struct replica_files mine;

	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_int_equal(replica_files_open(&mine, &p->config, p->why), 0);
	assert_opens_as(p, -EBUSY);
	replica_files_close(&mine);
	assert_opens_as(p, 0);
}

static void replica_files_of_the_wrong_size_are_refused(void **state)
{
	struct place *p = *state;
	char undo[PATH_MAX];

	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_int_equal(truncate(p->config.store, VOLUME_BYTES + 4096), 0);
	assert_opens_as(p, -EINVAL);
	assert_int_equal(truncate(p->config.store, VOLUME_BYTES - 4096), 0);
	assert_opens_as(p, -EINVAL);
	assert_int_equal(truncate(p->config.store, VOLUME_BYTES), 0);
	assert_opens_as(p, 0);
	assert_int_equal(truncate(p->config.journal, JOURNAL_BYTES), 0);
	assert_opens_as(p, -EINVAL);
	assert_int_equal(truncate(p->config.journal, JOURNAL_BYTES * 2), 0);
	assert_opens_as(p, 0);
	assert_int_equal(truncate(p->config.meta, META_BYTES - 1), 0);
	assert_opens_as(p, -EINVAL);
	assert_non_null(strstr(p->why, p->config.meta));
	assert_int_equal(truncate(p->config.meta, META_BYTES), 0);
	assert_int_equal(truncate(p->config.bitmap, 4096), 0);
	assert_opens_as(p, -EINVAL);
	assert_non_null(strstr(p->why, p->config.bitmap));
	assert_int_equal(truncate(p->config.bitmap, (off_t)replica_bitmap_bytes(&p->config.volume.geometry)), 0);
	config_undo_path(&p->config, 2, undo);
	assert_int_equal(truncate(undo, 4096), 0);
	assert_opens_as(p, -EINVAL);
	assert_non_null(strstr(p->why, undo));
	assert_int_equal(unlink(undo), 0);
	assert_opens_as(p, -ENOENT);
	assert_non_null(strstr(p->why, "holdfast replace"));
}

static void replica_files_of_the_wrong_kind_are_refused(void **state)
{
	struct place *p = *state;
	char undo[PATH_MAX];

	assert_opens_as(p, -ENOENT);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	strcpy(p->config.meta, "/dev/null");
	assert_opens_as(p, -EINVAL);
	strcpy(p->config.meta, p->dir);
	assert_opens_as(p, -EINVAL);
	strcpy(p->config.meta, p->config.journal);
	assert_opens_as(p, -EINVAL);
	snprintf(p->config.meta, PATH_MAX, "%s/other/meta", p->dir);
	config_undo_path(&p->config, 0, undo);
	assert_int_equal(unlink(undo), 0);
	assert_int_equal(symlink(p->config.bitmap, undo), 0);	/* one file under two names */
	assert_opens_as(p, -EINVAL);
	assert_non_null(strstr(p->why, "the same file"));
}

static void replica_store_of_another_volume_is_refused(void **state)
{
	struct place *p = *state;

	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	if (getxattr(p->config.store, STORE_UUID_ATTRIBUTE, NULL, 0) < 0)
		skip();
	p->config.volume.geometry.uuid[15] = 9;
	assert_opens_as(p, -EBADMSG);
	assert_int_equal(removexattr(p->config.store, STORE_UUID_ATTRIBUTE), 0);
	assert_opens_as(p, -EBADMSG);
	assert_non_null(strstr(p->why, "setfattr"));
}

/* Runs @command with the loop device's name in $1 when it can; -1 when there are no loop devices here. */
static int loop_device(struct place *p, char device[64])
{
	char command[256];
	FILE *pipe;

	snprintf(command, sizeof command, "truncate -s 8M '%s/disk' && losetup -f --show '%s/disk' 2>/dev/null", p->dir,
		 p->dir);
	pipe = popen(command, "r");
	if (!pipe || !fgets(device, 64, pipe))
		device[0] = '\0';
	device[strcspn(device, "\n")] = '\0';
	return pipe && pclose(pipe) == 0 && device[0] ? 0 : -1;
}

static void device_clear(const char *device)
{
	int fd = open(device, O_RDWR | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 8 << 20), 0);
	close(fd);
}

static void remove_file(const char *path)
{
	if (S_ISREG(stat_of(path).st_mode))
		unlink(path);
}

static void remove_files(struct place *p)
{
	char undo[PATH_MAX];

	remove_file(p->config.store);
	remove_file(p->config.journal);
	remove_file(p->config.meta);
	remove_file(p->config.bitmap);
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
		config_undo_path(&p->config, slot, undo);
		remove_file(undo);
	}
}

static void replica_files_may_be_empty_devices_but_for_undo(void **state)
{
	struct place *p = *state;
	static const char bytes[256 << 10];
	char device[64] = "", command[128], undo[PATH_MAX], ending[REPLICA_ENDING_BYTES];
	int fd;

	if (geteuid() != 0 || loop_device(p, device) < 0)
		skip();
	strcpy(p->config.journal, device);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_opens_as(p, 0);
	remove_files(p);
	assert_int_equal(replica_files_create(&p->config, p->why), -EEXIST);	/* there is a header now */
	assert_non_null(strstr(p->why, "holds data"));
	assert_int_equal(replica_files_set_aside(&p->config, ending, p->why), 0);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	remove_files(p);
	p->config.volume.geometry.journal_bytes = 64 << 20;
	assert_int_equal(replica_files_create(&p->config, p->why), -EINVAL);
	snprintf(p->config.journal, PATH_MAX, "%s/journal", p->dir);
	p->config.volume.geometry.journal_bytes = JOURNAL_BYTES;
	strcpy(p->config.store, device);
	device_clear(device);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_opens_as(p, 0);
	remove_files(p);
	snprintf(p->config.store, PATH_MAX, "%s/store", p->dir);
	strcpy(p->config.bitmap, device);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_opens_as(p, 0);
	config_undo_path(&p->config, 1, undo);
	assert_int_equal(unlink(undo), 0);
	assert_int_equal(symlink("/dev/zero", undo), 0);
	assert_opens_as(p, -EINVAL);
	unlink(undo);
	snprintf(p->config.bitmap, PATH_MAX, "%s/bitmap", p->dir);
	assert_int_equal(symlink(device, undo), 0);		/* undo must have holes */
	assert_opens_as(p, -ENOENT);
	assert_true(replica_bitmap_bytes(&p->config.volume.geometry) <= sizeof bytes);
	fd = open(p->config.bitmap, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
	close(fd);
	assert_opens_as(p, -EINVAL);
	if (!strstr(p->why, "may have holes"))
		fail_msg("%s", p->why);
	snprintf(command, sizeof command, "losetup -d %s", device);
	assert_int_equal(system(command), 0);
}

static void replica_files_are_set_aside_with_all_that_is_in_them(void **state)
{
	struct place *p = *state;
	char ending[2][REPLICA_ENDING_BYTES], path[PATH_MAX + REPLICA_ENDING_BYTES];
	struct replica_files mine;
	ino_t store;

	assert_int_equal(replica_files_set_aside(&p->config, ending[0], p->why), 0);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	store = stat_of(p->config.store).st_ino;
	assert_int_equal(replica_files_open(&mine, &p->config, p->why), 0);
	assert_int_equal(replica_files_set_aside(&p->config, ending[0], p->why), -EBUSY);
	assert_int_equal(stat_of(p->config.store).st_ino, store);
	replica_files_close(&mine);
	assert_opens_as(p, 0);
	assert_int_equal(replica_files_set_aside(&p->config, ending[0], p->why), REPLICA_FILES);
	assert_opens_as(p, -ENOENT);
	snprintf(path, sizeof path, "%s%s", p->config.store, ending[0]);
	assert_int_equal(stat_of(path).st_ino, store);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	unlink(p->config.meta);
	assert_int_equal(replica_files_set_aside(&p->config, ending[1], p->why), REPLICA_FILES - 1);
	assert_string_not_equal(ending[0], ending[1]);	/* in the same second, perhaps */
	assert_int_equal(stat_of(path).st_ino, store);
	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_opens_as(p, 0);
}

/* Several may read a stopped replica; a daemon and a reader keep each other away; and reading is all they can do. */
static void replica_files_opened_to_read_keep_daemons_away_and_nobody_else(void **state)
{
	struct place *p = *state;
	struct replica_files daemon, one, two;
	char undo[PATH_MAX];

	assert_int_equal(replica_files_create(&p->config, p->why), 0);
	assert_int_equal(replica_files_open(&daemon, &p->config, p->why), 0);
	assert_int_equal(replica_files_open_to_read(&one, &p->config, p->why), -EBUSY);
	assert_non_null(strstr(p->why, "holdfast down"));
	replica_files_close(&daemon);
	assert_int_equal(replica_files_open_to_read(&one, &p->config, p->why), 0);
	assert_int_equal(replica_files_open_to_read(&two, &p->config, p->why), 0);
	assert_opens_as(p, -EBUSY);
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++)
		assert_int_equal(pwrite(one.undo[slot], "x", 1, 0), -1);
	assert_int_equal(pwrite(one.store, "x", 1, 0), -1);
	assert_int_equal(pwrite(one.journal, "x", 1, 0), -1);
	assert_int_equal(pwrite(one.meta, "x", 1, 0), -1);
	replica_files_close(&one);
	replica_files_close(&two);
	config_undo_path(&p->config, 2, undo);
	unlink(undo);
	assert_int_equal(replica_files_open_to_read(&one, &p->config, p->why), 0);
	assert_int_equal(one.undo[2], -1);
	assert_true(one.undo[3] >= 0);
	replica_files_close(&one);
	unlink(p->config.journal);
	assert_int_equal(mkfifo(p->config.journal, 0600), 0);
	assert_int_equal(replica_files_open_to_read(&one, &p->config, p->why), -EINVAL);
	unlink(p->config.journal);
	assert_int_equal(replica_files_open_to_read(&one, &p->config, p->why), -ENOENT);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
	FACT(replica_files_opens_what_it_created),
	FACT(replica_files_create_never_overwrites),
	FACT(replica_files_create_removes_what_it_made_when_it_fails),
	FACT(replica_files_are_never_shared),
	FACT(replica_files_opened_to_read_keep_daemons_away_and_nobody_else),
	FACT(replica_files_of_the_wrong_size_are_refused),
	FACT(replica_files_of_the_wrong_kind_are_refused),
	FACT(replica_store_of_another_volume_is_refused),
	FACT(replica_files_are_set_aside_with_all_that_is_in_them),
	FACT(replica_files_may_be_empty_devices_but_for_undo),
};
TEST_GROUP(replica_files, tests)
