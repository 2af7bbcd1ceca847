/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of many names, a file of many extents: what an operation costs hardly grows with them. Cost is what can
 * be counted: blocks that it looks at, bytes that it logs. ENTRIES=1000000 for a million (a minute, 200 MiB of memory);
 * SIM_VERBOSE=1 prints what each costs, and its time. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <time.h>
#include <unistd.h>

#include "files_rig.h"

enum { BLOCKS = 6 << 20, SAMPLE = 400, LINKS = 60000, FIRST = 1000 };

/* Of one operation, on the average. */
struct cost { double reads, logged, microseconds; };

struct scale {
	struct files_rig *rig;
	uint64_t ino, target;
	uint64_t count;			/* of names or extents */
};

static double now_microseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct cost cost_of(struct scale *s, void (*operate)(struct scale *s, uint64_t number))
{
	struct memory_blocks_figures before = *memory_blocks_figures(s->rig->blocks), after;
	double start = now_microseconds();

	for (unsigned i = 0; i < SAMPLE; i++)
		operate(s, files_rig_draw(s->rig, s->count));
	after = *memory_blocks_figures(s->rig->blocks);
	return (struct cost){ (double)(after.reads - before.reads) / SAMPLE,
			      (double)(after.logged - before.logged) / SAMPLE,
			      (now_microseconds() - start) / SAMPLE };
}

static struct files_rig *rig_made(void)
{
	struct files_rig *r = files_rig_new(BLOCKS, 1);

	memory_blocks_miss(r->blocks, 0);
	return r;
}

static uint64_t entries(void)
{
	const char *text = getenv("ENTRIES");

	return text ? strtoull(text, NULL, 0) : 40000;
}

/* ---- names ---- */

static const char *name_of(uint64_t number)
{
	static char name[40];

	snprintf(name, sizeof name, "a-name-of-usual-length-%llu", (unsigned long long)number);
	return name;
}

static void name_add(struct scale *s)
{
	struct attributes a;

	if (s->count % LINKS == 0)
		s->target = rig_file(s->rig, FS_ROOT_INODE, name_of(s->count), 0644);
	assert_int_equal(RIG(s->rig, op_link(s->rig->f, &s->rig->root, s->target, s->ino, name_of(s->count++), &a)),
			 0);
}

static void name_looked_up(struct scale *s, uint64_t number)
{
	struct attributes a;

	assert_int_equal(RIG(s->rig, op_lookup(s->rig->f, &s->rig->root, s->ino, name_of(number), &a)), 0);
}

static void name_not_there(struct scale *s, uint64_t number)
{
	struct attributes a;

	assert_int_equal(RIG(s->rig, op_lookup(s->rig->f, &s->rig->root, s->ino, name_of(number + (1ull << 40)), &a)),
			 -ENOENT);
}

static void name_renamed(struct scale *s, uint64_t number)
{
	assert_int_equal(RIG(s->rig, op_rename(s->rig->f, &s->rig->root, s->ino, name_of(number), s->ino, "x", 0)),
			 0);
	assert_int_equal(RIG(s->rig, op_rename(s->rig->f, &s->rig->root, s->ino, "x", s->ino, name_of(number), 0)),
			 0);
}

static void name_replaced(struct scale *s, uint64_t number)
{
	struct attributes a;

	assert_int_equal(RIG(s->rig, op_unlink(s->rig->f, &s->rig->root, s->ino, name_of(number))), 0);
	assert_int_equal(RIG(s->rig, op_link(s->rig->f, &s->rig->root, s->target, s->ino, name_of(number), &a)), 0);
}

static bool take_some(void *context, const struct directory_entry *entry)
{
	unsigned *left = context;

	return entry->cookie && (*left)-- > 0;
}

static void names_listed_from_anywhere(struct scale *s, uint64_t number)
{
	unsigned left = 20;

	assert_int_equal(RIG(s->rig, op_readdir(s->rig->f, s->ino, (number * 0x9e3779b97f4a7c15u) >> 1, false,
						take_some, &left)), 0);
}

/* ---- extents ---- */

static void extent_add(struct scale *s)
{
	assert_int_equal(RIG(s->rig, op_fallocate(s->rig->f, &s->rig->root, s->ino, 0,
						  2 * BLOCK_BYTES * s->count++, BLOCK_BYTES)), 0);
}

static void extent_read(struct scale *s, uint64_t number)
{
	struct file_plan plan;

	assert_int_equal(RIG(s->rig, op_read(s->rig->f, s->ino, number * 2 * BLOCK_BYTES, 100, &plan)), 0);
	assert_int_equal(plan.len, 100);
}

static void extent_written(struct scale *s, uint64_t number)
{
	assert_int_equal(files_rig_write(s->rig, &s->rig->root, s->ino, number * 2 * BLOCK_BYTES, "0123456789", 10),
			 0);
}

static void extent_punched_and_allocated(struct scale *s, uint64_t number)
{
	uint64_t offset = number * 2 * BLOCK_BYTES;

	assert_int_equal(RIG(s->rig, op_fallocate(s->rig->f, &s->rig->root, s->ino,
						  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, BLOCK_BYTES)),
			 0);
	assert_int_equal(RIG(s->rig, op_fallocate(s->rig->f, &s->rig->root, s->ino, 0, offset, BLOCK_BYTES)), 0);
}

static void extent_hole_found(struct scale *s, uint64_t number)
{
	uint64_t at;

	assert_int_equal(RIG(s->rig, op_seek(s->rig->f, s->ino, number * 2 * BLOCK_BYTES, SEEK_HOLE, &at)), 0);
}

/* ---- growing ---- */

struct row { const char *name; void (*operate)(struct scale *s, uint64_t number); struct cost first; };

static void rows_measure(struct scale *s, struct row *rows, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct cost cost = cost_of(s, rows[i].operate);

		if (getenv("SIM_VERBOSE"))
			fprintf(stderr, "%8llu %-28s %6.1f blocks %7.0f bytes of log %7.2f us\n",
				(unsigned long long)s->count, rows[i].name, cost.reads, cost.logged,
				cost.microseconds);
		if (s->count == FIRST)
			rows[i].first = cost;
		/* A tree of a thousand has two levels, of a million four. */
		if (cost.reads > 2.5 * rows[i].first.reads + 4 || cost.logged > 2 * rows[i].first.logged + 200)
			fail_msg("%s at %llu: %.1f blocks and %.0f bytes, at first %.1f and %.0f", rows[i].name,
				 (unsigned long long)s->count, cost.reads, cost.logged, rows[i].first.reads,
				 rows[i].first.logged);
	}
}

static void grow(struct scale *s, void (*add)(struct scale *s), struct row *rows, unsigned count)
{
	for (uint64_t step = FIRST; step <= entries(); step = step < entries() ? min_u64(10 * step, entries())
									       : entries() + 1) {
		while (s->count < step)
			add(s);
		rows_measure(s, rows, count);
	}
	assert_true(s->count > FIRST);
	assert_int_equal(files_rig_damages(s->rig), 0);
}

static void fs_scale_names_cost_the_same_in_a_large_directory(void **state)
{
	struct scale s = { .rig = rig_made() };
	struct row rows[] = {
		{ .name = "look a name up", .operate = name_looked_up },
		{ .name = "a name that is not there", .operate = name_not_there },
		{ .name = "rename, twice", .operate = name_renamed },
		{ .name = "unlink and link", .operate = name_replaced },
		{ .name = "list 20 names", .operate = names_listed_from_anywhere },
	};

	(void)state;
	s.ino = rig_dir(s.rig, FS_ROOT_INODE, "many", 0755);
	grow(&s, name_add, rows, sizeof rows / sizeof rows[0]);
	assert_int_equal(rig_stat(s.rig, s.ino).size, s.count);
	files_rig_free(s.rig);
}

static void fs_scale_extents_cost_the_same_in_a_file_of_many(void **state)
{
	struct scale s = { .rig = rig_made() };
	struct row rows[] = {
		{ .name = "read", .operate = extent_read },
		{ .name = "write 10 bytes", .operate = extent_written },
		{ .name = "punch and allocate", .operate = extent_punched_and_allocated },
		{ .name = "find a hole", .operate = extent_hole_found },
	};

	(void)state;
	s.ino = rig_file(s.rig, FS_ROOT_INODE, "many", 0644);
	grow(&s, extent_add, rows, sizeof rows / sizeof rows[0]);
	assert_int_equal(rig_stat(s.rig, s.ino).blocks, 8 * s.count);
	files_rig_free(s.rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_scale_names_cost_the_same_in_a_large_directory),
	cmocka_unit_test(fs_scale_extents_cost_the_same_in_a_file_of_many),
};
TEST_GROUP(fs_scale, tests)
