/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about daemon/ring_cached.c, on the real kernel: a temporary file under TMPDIR. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bounds.h"
#include "ring.h"
#include "run.h"

enum { BLOCKS = 4096, BLOCKS_MOST = 16, ROUNDS = 4000 };

struct one {
	struct io_op op;
	struct ring *ring;
	int64_t result;
};

static void one_done(struct io_op *op, int64_t result)
{
	struct one *one = container_of(op, struct one, op);

	one->result = result;
	ring_stop(one->ring);
}

static int64_t run(struct ring *ring, struct io_op op)
{
	struct one one = { .op = op, .ring = ring, .result = INT64_MIN };

	one.op.done = one_done;
	ring_io(ring)->submit(ring_io(ring), &one.op);
	assert_int_equal(one.result, INT64_MIN);	/* never from inside submit() */
	ring_run(ring);
	return one.result;
}

/* A file of zeros that has no name any more; without direct I/O where the filesystem has none. */
static int file_of_zeros(struct ring *ring)
{
	const char *tmp = getenv("TMPDIR");
	char path[256];
	int fd, direct, id;

	snprintf(path, sizeof path, "%s/cached-XXXXXX", tmp ? tmp : "/tmp");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	unlink(path);
	assert_int_equal(ftruncate(fd, (off_t)BLOCKS * BLOCK_BYTES), 0);
	if (direct >= 0)
		close(fd);
	id = ring_file_add(ring, direct >= 0 ? direct : fd);
	assert_true(id >= 0);
	return id;
}

/* What goes to the kernel's cache and what goes past it is one file, whichever came last. */
static void ring_writes_to_the_cache_and_past_it_in_one_file(void **state)
{
	uint8_t *page, *model = calloc(BLOCKS, BLOCK_BYTES);
	uint64_t draw, next = 0;
	struct ring *ring;
	struct io *io;
	int file;

	(void)state;
	assert_int_equal(ring_new(&ring, &(struct ring_config){ 0 }), 0);
	io = ring_io(ring);
	page = io->alloc(io, BLOCKS_MOST * BLOCK_BYTES, IO_FIXED);
	file = file_of_zeros(ring);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct io_op op = { .file = file, .data = page };
		uint64_t at, count;

		io->random(io, &draw, sizeof draw);
		count = 1 + (draw >> 16) % BLOCKS_MOST;
		/* Mostly one behind the other, as a journal: so that the kernel is asked to write it back, too. */
		at = draw % 4 && next + count <= BLOCKS ? next : draw % (BLOCKS - BLOCKS_MOST);
		next = at + count;
		op.offset = at * BLOCK_BYTES;
		op.len = count * BLOCK_BYTES;
		if (draw >> 32 & 1) {
			op.kind = IO_WRITE;
			op.flags = (unsigned[]){ 0, IO_DURABLE, IO_CACHED, IO_CACHED }[draw >> 33 & 3];
			memset(page, (int)i, op.len);
			memcpy(model + op.offset, page, op.len);
		}
		assert_int_equal(run(ring, op), op.len);
		if (op.kind == IO_READ)
			assert_memory_equal(page, model + op.offset, op.len);
		if ((draw >> 40) % 200 == 0)
			assert_int_equal(run(ring, (struct io_op){ .kind = IO_SYNC, .file = file }), 0);
	}
	free(model);
	io->free(io, page);
	ring_file_remove(ring, file);
	ring_free(ring);
}

/* The kernel's queue says what plain write() would have said. */
static void ring_write_to_the_cache_says_what_is_wrong(void **state)
{
	struct ring *ring;
	struct io *io;
	uint8_t *page;
	int fd, file;

	(void)state;
	assert_int_equal(ring_new(&ring, &(struct ring_config){ 0 }), 0);
	io = ring_io(ring);
	page = io->alloc(io, BLOCK_BYTES, IO_FIXED);
	fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	file = ring_file_add(ring, fd);
	assert_int_equal(run(ring, (struct io_op){ .kind = IO_WRITE, .flags = IO_CACHED, .file = file, .data = page,
						   .len = BLOCK_BYTES }), -ENOSPC);
	io->free(io, page);
	ring_file_remove(ring, file);
	ring_free(ring);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(ring_writes_to_the_cache_and_past_it_in_one_file),
	cmocka_unit_test(ring_write_to_the_cache_says_what_is_wrong),
};
TEST_GROUP(ring_cached, tests)
