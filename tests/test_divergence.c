/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about daemon/divergence*.c: slots' files and a store made by hand, read as the command line reads them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "divergence.h"
#include "replica_files.h"
#include "run.h"
#include "undo.h"

/* More than a page of a bitmap, so that maps have two. */
enum { BLOCKS = 33000, UNIT_BITS = BITMAP_UNIT_BITS };
static const uint64_t volume_bytes = (uint64_t)BLOCKS * BLOCK_BYTES;

struct place {
	char dir[64], image[80], why[WHY_BYTES];
	struct config config;
	struct divergence divergence;
	struct divergence_export export;
	int store, slot;		/* of slot 1 */
	uint64_t generation;
	struct bitmap_unit saved[BLOCKS / UNIT_BITS + 1];
	uint32_t (*expected)[BLOCKS];	/* what each block of the image begins with */
};

/* ---- by hand ---- */

static void put(int fd, const void *bytes, size_t len, uint64_t offset)
{
	assert_int_equal(pwrite(fd, bytes, len, (off_t)offset), (ssize_t)len);
}

/* A block that is @tag all over; 0 is a block of zeros. */
static void block_put(int fd, uint64_t offset, uint32_t tag)
{
	uint32_t block[BLOCK_BYTES / 4];

	for (unsigned i = 0; i < BLOCK_BYTES / 4; i++)
		block[i] = tag;
	put(fd, block, sizeof block, offset);
}

static void header_put(struct place *p, int slot, uint64_t id, enum undo_kind kind, uint64_t partial)
{
	struct { struct undo_header header; struct epoch_entry epochs[2]; } head = { 0 };
	struct undo_header *h = &head.header;
	char path[PATH_MAX];
	int fd;

	h->magic = to_le32(UNDO_MAGIC);
	h->version = to_le16(UNDO_VERSION);
	h->kind = to_le16((uint16_t)kind);
	h->generation = to_le64(++p->generation);
	h->volume_bytes = to_le64(volume_bytes);
	memcpy(h->uuid, p->config.volume.geometry.uuid, UUID_BYTES);
	strcpy(h->node, "a");
	h->id = to_le64(id);
	h->lsn = to_le64(5000);
	h->base = to_le64(4000);
	h->partial = to_le64(partial ? partial + 1 : 0);
	h->wall_ns = to_le64(1700000000ull * 1000000000);
	h->first_ns = to_le64(1600000000ull * 1000000000);
	h->last_ns = to_le64(1600000001ull * 1000000000);
	h->blocks = to_le64(3);
	h->bytes = to_le64(12288);
	h->keep = to_le32(1);
	h->epoch_count = to_le32(2);
	strcpy(h->source, "b");
	for (unsigned i = 0; i < 2; i++) {
		head.epochs[i].uuid[0] = (uint8_t)(i + 1);
		head.epochs[i].number = to_le64(i + 1);
		head.epochs[i].start = to_le64(4096 * i);
		strcpy(head.epochs[i].node, i ? "a" : "b");
	}
	undo_header_seal(h);
	config_undo_path(&p->config, (unsigned)slot, path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	put(fd, &head, sizeof head, 0);
	put(fd, &head, sizeof head, META_SLOT_BYTES);
	close(fd);
}

/* Sets the bit of @block in slot 1's map of saved blocks. */
static void bit_put(struct place *p, uint64_t block)
{
	struct bitmap_unit *unit = &p->saved[block / UNIT_BITS];
	le64 *word = &unit->words[block % UNIT_BITS / 64];

	*word = to_le64(from_le64(*word) | 1ull << block % 64);
	unit->index = to_le32((uint32_t)(block / UNIT_BITS) + 1);
	unit->crc = to_le32(checksum_crc(0, unit, offsetof(struct bitmap_unit, crc)));
	put(p->slot, unit, sizeof *unit, undo_saved_offset() + block / UNIT_BITS * sizeof *unit);
}

/* Block @block is changed in the store, as the engine does it: its old bytes, its bit, then the store. */
static void block_change(struct place *p, uint64_t block, uint32_t tag)
{
	if ((*p->expected)[block])	/* a hole is kept as one */
		block_put(p->slot, undo_data_offset(volume_bytes) + block * BLOCK_BYTES, (*p->expected)[block]);
	bit_put(p, block);
	block_put(p->store, block * BLOCK_BYTES, tag);
}

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof *p);
	const char *tmp = getenv("TMPDIR");
	char path[PATH_MAX];

	snprintf(p->dir, sizeof p->dir, "%s/divergence-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(p->dir))
		return -1;
	snprintf(p->image, sizeof p->image, "%s/image", p->dir);
	snprintf(p->config.store, PATH_MAX, "%s/store", p->dir);
	snprintf(p->config.journal, PATH_MAX, "%s/journal", p->dir);
	snprintf(p->config.meta, PATH_MAX, "%s/meta", p->dir);
	snprintf(p->config.bitmap, PATH_MAX, "%s/bitmap", p->dir);
	snprintf(p->config.undo, PATH_MAX, "%s/undo", p->dir);
	strcpy(p->config.volume.name, "db0");
	p->config.volume.geometry = (struct geometry){
		.uuid = { 1, 2, 3 }, .volume_bytes = volume_bytes, .journal_bytes = 256 << 10,
		.segment_bytes = 64 << 10, .journal_block = 4096, .node = "a",
	};
	if (replica_files_create(&p->config, p->why) < 0)
		return -1;
	p->expected = calloc(1, sizeof *p->expected);
	p->store = open(p->config.store, O_RDWR | O_CLOEXEC);
	config_undo_path(&p->config, 1, path);
	p->slot = open(path, O_RDWR | O_CLOEXEC);
	header_put(p, 1, 0xabc0000000000001, UNDO_DIVERGENCE, 0);
	*state = p;
	return p->store < 0 || p->slot < 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	char command[128];
	int res;

	close(p->store);
	close(p->slot);
	snprintf(command, sizeof command, "rm -rf '%s'", p->dir);
	res = system(command);
	free(p->expected);
	free(p);
	return res;
}

static int export(struct place *p)
{
	assert_int_equal(divergence_find(&p->divergence, &p->config, "abc", p->why), 0);
	return divergence_export(&p->config, &p->divergence, p->image, &p->export, p->why);
}

static void assert_image(struct place *p)
{
	int fd = open(p->image, O_RDONLY | O_CLOEXEC);
	uint32_t block[BLOCK_BYTES / 4];
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, volume_bytes);
	for (uint64_t at = 0; at < BLOCKS; at++) {
		assert_int_equal(pread(fd, block, sizeof block, (off_t)(at * BLOCK_BYTES)), sizeof block);
		for (unsigned i = 0; i < BLOCK_BYTES / 4; i++)
			if (block[i] != (*p->expected)[at])
				fail_msg("block %" PRIu64 " is %u and not %u", at, block[i], (*p->expected)[at]);
	}
	close(fd);
}

static void assert_no_image(struct place *p)
{
	char part[96];

	snprintf(part, sizeof part, "%s.part", p->image);
	assert_int_equal(access(p->image, F_OK), -1);
	assert_int_equal(access(part, F_OK), -1);
	assert_non_null(strstr(p->why, " "));
}

/* ---- facts ---- */

static void divergence_of_each_slot_is_read(void **state)
{
	struct place *p = *state;
	struct divergence *d = &p->divergence;

	assert_int_equal(divergence_read(d, &p->config, 0, p->why), 0);
	assert_int_equal(divergence_read(d, &p->config, 1, p->why), 1);
	assert_true(d->status.id == 0xabc0000000000001);
	assert_int_equal(d->status.slot, 1);
	assert_true(d->status.recording);
	assert_false(d->resync_runs);
	assert_int_equal(d->status.fork, 4000);
	assert_int_equal(d->status.end, 5000);
	assert_int_equal(d->status.epoch_number, 2);
	assert_string_equal(d->status.epoch_node, "a");
	assert_string_equal(d->status.source, "b");
	assert_int_equal(d->status.blocks, 3);
	assert_int_equal(d->status.bytes, 12288);
	header_put(p, 2, 7, UNDO_DIVERGENCE, 6000);
	assert_int_equal(divergence_read(d, &p->config, 2, p->why), 1);
	assert_false(d->status.recording);
	assert_int_equal(d->status.partial, 6000);
	header_put(p, 2, 7, UNDO_RESYNC, 0);
	assert_int_equal(divergence_read(d, &p->config, 2, p->why), 1);
	assert_true(d->resync_runs);
}

static void divergence_head_that_is_newer_counts(void **state)
{
	struct place *p = *state;
	struct undo_header header;

	assert_int_equal(pread(p->slot, &header, sizeof header, 0), sizeof header);
	header_put(p, 1, 0xabc0000000000001, UNDO_DIVERGENCE, 6000);
	put(p->slot, &header, sizeof header, META_SLOT_BYTES);		/* power was lost between the two */
	assert_int_equal(divergence_read(&p->divergence, &p->config, 1, p->why), 1);
	assert_false(p->divergence.status.recording);
}

static void divergence_is_found_by_the_beginning_of_its_id(void **state)
{
	struct place *p = *state;
	struct divergence *d = &p->divergence;

	header_put(p, 3, 0xabd0000000000002, UNDO_DIVERGENCE, 0);
	assert_int_equal(divergence_find(d, &p->config, "abc", p->why), 0);
	assert_int_equal(d->status.slot, 1);
	assert_int_equal(divergence_find(d, &p->config, "abd0000000000002", p->why), 0);
	assert_int_equal(d->status.slot, 3);
	assert_int_equal(divergence_find(d, &p->config, "ab", p->why), -ENOTUNIQ);
	assert_int_equal(divergence_find(d, &p->config, "ac", p->why), -ENOENT);
	assert_int_equal(divergence_find(d, &p->config, "", p->why), -EINVAL);
	assert_int_equal(divergence_find(d, &p->config, "ABC", p->why), -EINVAL);
	assert_int_equal(divergence_find(d, &p->config, "abc00000000000010", p->why), -EINVAL);
}

static void divergence_with_a_damaged_header_is_refused(void **state)
{
	struct place *p = *state;

	put(p->slot, "x", 1, 36);
	assert_int_equal(divergence_read(&p->divergence, &p->config, 1, p->why), 1);	/* one copy is enough */
	put(p->slot, "x", 1, META_SLOT_BYTES + 36);
	assert_int_equal(divergence_read(&p->divergence, &p->config, 1, p->why), -EBADMSG);
	assert_non_null(strstr(p->why, "undo-1"));
	assert_int_equal(divergence_find(&p->divergence, &p->config, "abc", p->why), -EBADMSG);
	header_put(p, 0, 0xabc0000000000009, UNDO_DIVERGENCE, 0);	/* another slot is served all the same */
	assert_int_equal(divergence_find(&p->divergence, &p->config, "abc", p->why), 0);
}

static void divergence_image_is_the_volume_before_each_change(void **state)
{
	struct place *p = *state;
	static const uint64_t changed[] = { 0, 1, 7, 255, 256, 257, 4031, 4032, 32255, 32256, BLOCKS - 1 };
	struct stat st;

	for (uint64_t at = 0; at < BLOCKS; at++) {
		if (at % 512 >= 8 || at / 512 % 3 == 1)
			continue;	/* ranges that are holes, of whole chunks, too */
		(*p->expected)[at] = (uint32_t)at + 1;
		block_put(p->store, at * BLOCK_BYTES, (uint32_t)at + 1);
	}
	for (unsigned i = 0; i < sizeof changed / sizeof changed[0]; i++)
		block_change(p, changed[i], 0xffff0000);
	if (export(p) < 0)
		fail_msg("%s", p->why);
	assert_image(p);
	assert_int_equal(p->export.blocks_saved, sizeof changed / sizeof changed[0]);
	assert_int_equal(p->export.data_saved, 4 * BLOCK_BYTES);
	assert_int_equal(p->export.partial, 0);
	assert_int_equal(stat(p->image, &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 < volume_bytes / 4);		/* holes stay holes */
}

static void divergence_image_never_overwrites_but_by_force(void **state)
{
	struct place *p = *state;

	(*p->expected)[3] = 4;
	block_change(p, 3, 5);
	assert_int_equal(export(p), 0);
	assert_int_equal(truncate(p->image, 1), 0);
	assert_int_equal(export(p), -EEXIST);
	assert_non_null(strstr(p->why, "--force"));
	p->export.force = true;
	assert_int_equal(export(p), 0);
	assert_image(p);
	snprintf(p->image, sizeof p->image, "%s", p->config.store);
	assert_int_equal(export(p), -EPERM);
	snprintf(p->image, sizeof p->image, "%s/nowhere/image", p->dir);
	assert_int_equal(export(p), -ENOENT);
}

static void divergence_with_a_damaged_map_is_refused(void **state)
{
	struct place *p = *state;

	block_change(p, 5000, 5);
	put(p->slot, "x", 1, undo_saved_offset() + BITMAP_UNIT_BYTES + 9);
	assert_int_equal(export(p), -EBADMSG);
	assert_non_null(strstr(p->why, "blocks 4032 to 8063"));
	assert_no_image(p);
	bit_put(p, 5000);		/* another unit's bytes, whole as they are */
	put(p->slot, &p->saved[1], sizeof p->saved[1], undo_saved_offset());
	assert_int_equal(export(p), -EBADMSG);
	assert_non_null(strstr(p->why, "blocks 0 to 4031"));
	put(p->slot, &p->saved[0], sizeof p->saved[0], undo_saved_offset());
	put(p->slot, "x", 1, undo_want_offset(volume_bytes) + 9);	/* that map is none of ours */
	assert_int_equal(export(p), 0);
	assert_image(p);
}

static void store_cut_short_is_told(void **state)
{
	struct place *p = *state;

	assert_int_equal(ftruncate(p->store, (off_t)volume_bytes - BLOCK_BYTES), 0);
	block_put(p->store, volume_bytes - 3 * BLOCK_BYTES, 1);
	assert_int_equal(export(p), -EIO);
	assert_non_null(strstr(p->why, "store"));
	assert_no_image(p);
}

/* ---- beside the daemon ---- */

static void progress_drops(void *context, uint64_t done, uint64_t total)
{
	static const struct undo_header nothing;
	struct place *p = context;

	if (done == total) {
		put(p->slot, &nothing, sizeof nothing, 0);
		put(p->slot, &nothing, sizeof nothing, META_SLOT_BYTES);
	}
}

static void progress_stops_recording(void *context, uint64_t done, uint64_t total)
{
	if (done == total)
		header_put(context, 1, 0xabc0000000000001, UNDO_DIVERGENCE, 7000);
}

static void divergence_dropped_meanwhile_leaves_no_image(void **state)
{
	struct place *p = *state;

	p->export.progress = progress_drops;
	p->export.context = p;
	assert_int_equal(export(p), -ENOENT);
	assert_no_image(p);
}

static void divergence_that_stops_recording_meanwhile_is_told_to_be_partial(void **state)
{
	struct place *p = *state;

	p->export.progress = progress_stops_recording;
	p->export.context = p;
	assert_int_equal(export(p), 0);
	assert_int_equal(p->export.partial, 7000);
}

/* What the engine does meanwhile: every block is changed, in an order that meets the export at all places. */
static void *engine_run(void *context)
{
	struct place *p = context;

	for (uint64_t n = 0; n < BLOCKS; n++)
		block_change(p, n * 7919 % BLOCKS, 0xdead0000);
	return NULL;
}

static void divergence_image_is_right_while_the_store_changes(void **state)
{
	struct place *p = *state;
	pthread_t engine;

	for (uint64_t at = 0; at < BLOCKS; at++) {
		if (at / 1024 % 4 == 1)
			continue;
		(*p->expected)[at] = (uint32_t)at + 1;
		block_put(p->store, at * BLOCK_BYTES, (uint32_t)at + 1);
	}
	p->export.force = true;
	assert_int_equal(pthread_create(&engine, NULL, engine_run, p), 0);
	for (unsigned round = 0; round < 4; round++) {
		if (export(p) < 0)
			fail_msg("%s", p->why);
		assert_image(p);
	}
	assert_int_equal(pthread_join(engine, NULL), 0);
	assert_int_equal(export(p), 0);
	assert_image(p);
	assert_int_equal(p->export.blocks_saved, BLOCKS);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
	FACT(divergence_of_each_slot_is_read),
	FACT(divergence_head_that_is_newer_counts),
	FACT(divergence_is_found_by_the_beginning_of_its_id),
	FACT(divergence_with_a_damaged_header_is_refused),
	FACT(divergence_image_is_the_volume_before_each_change),
	FACT(divergence_image_never_overwrites_but_by_force),
	FACT(divergence_with_a_damaged_map_is_refused),
	FACT(store_cut_short_is_told),
	FACT(divergence_dropped_meanwhile_leaves_no_image),
	FACT(divergence_that_stops_recording_meanwhile_is_told_to_be_partial),
	FACT(divergence_image_is_right_while_the_store_changes),
};
TEST_GROUP(divergence, tests)
