/* SPDX-License-Identifier: Apache-2.0 */
/* A check of a volume that is written to: on the primary and on a follower, on stills, step by step between operations
 * of all kinds. The tree is whole at each moment, so it finds nothing; and it comes to an end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checker.h"
#include "files.h"
#include "fs_check.h"
#include "run.h"
#include "sim/cluster.h"
#include "volume_private.h"

enum { DIRS = 6, NAMES = 40, CHECKS = 12, TRIES_MAX = 200 };

struct live {
	struct cluster *c;
	struct files files;
	struct caller caller;
	uint64_t dirs[DIRS];
	uint64_t operations;
};

/* Until it is done; @result: of the call. */
static bool again(struct live *l, int result)
{
	if (result == -EAGAIN)
		cluster_run_for(l->c, MILLISECONDS);
	return result == -EAGAIN || result == OP_AGAIN;
}

#define LIVE(l, call) \
	({ \
		int result_; \
		do \
			result_ = (call); \
		while (again(l, result_)); \
		result_; \
	})

static void operate(struct live *l)
{
	static const uint8_t bytes[20000] = { 1, 2, 3 };
	struct world *w = cluster_world(l->c);
	uint64_t dir = l->dirs[world_random_below(w, DIRS)], other = l->dirs[world_random_below(w, DIRS)];
	struct attributes_set set = { .valid = SET_SIZE, .size = world_random_below(w, 20000) };
	struct files *f = &l->files;
	struct attributes a;
	char name[20], to[20];
	uint32_t written;
	int result;

	l->operations++;
	l->caller.now.seconds++;
	snprintf(name, sizeof name, "n%u", (unsigned)world_random_below(w, NAMES));
	snprintf(to, sizeof to, "n%u", (unsigned)world_random_below(w, NAMES));
	switch (world_random_below(w, 8)) {
	case 0:
		result = LIVE(l, op_unlink(f, &l->caller, dir, name));
		break;
	case 1:
		result = LIVE(l, op_rename(f, &l->caller, dir, name, other, to, 0));
		break;
	case 2:
		result = LIVE(l, op_lookup(f, &l->caller, dir, name, &a));
		if (result == 0)
			result = LIVE(l, op_link(f, &l->caller, a.ino, other, to, &a));
		break;
	case 3:
		result = LIVE(l, op_lookup(f, &l->caller, dir, name, &a));
		if (result == 0)
			result = LIVE(l, op_setattr(f, &l->caller, a.ino, &set, &a));
		break;
	case 4:
		result = LIVE(l, op_lookup(f, &l->caller, dir, name, &a));
		if (result == 0)
			result = LIVE(l, op_setxattr(f, &l->caller, a.ino, "user.x", bytes, set.size / 8, 0));
		break;
	default:
		result = LIVE(l, op_mknod(f, &l->caller, dir, name, S_IFREG | 0644, 0, &a));
		if (result == -EEXIST)
			result = LIVE(l, op_lookup(f, &l->caller, dir, name, &a));
		if (result == 0)
			result = LIVE(l, op_write(f, &l->caller, a.ino, world_random_below(w, 30000), bytes,
						  1 + world_random_below(w, sizeof bytes), 0, &written));
	}
	assert_true(result == 0 || result == -ENOENT || result == -EEXIST || result == -ENOSPC);
	result = LIVE(l, op_reclaim(f));
	assert_int_equal(result, 0);
}

static struct live *live_start(uint64_t seed)
{
	static const uint8_t uuid[UUID_BYTES] = "it lives";
	const struct cluster_options options = {
		.seed = seed, .nodes = 2, .mode = (enum replication_mode)(seed % 4), .min_copies = 1,
		.journal_block = 4096, .segment_bytes = 256 << 10, .volume_bytes = 6 << 20, .journal_bytes = 4 << 20,
		.filesystem = true,
	};
	struct live *l = calloc(1, sizeof *l);
	char why[WHY_BYTES], name[20];
	struct attributes a;
	struct volume *v;

	l->c = cluster_new(&options);
	cluster_up(l->c, 0);
	cluster_up(l->c, 1);
	cluster_run_for(l->c, 2 * SECONDS);
	assert_int_equal(cluster_call(l->c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
	cluster_run_for(l->c, 2 * SECONDS);
	v = cluster_volume(l->c, 0);
	l->caller = (struct caller){ .umask = 022, .now = { 1000000000, 5 } };
	assert_int_equal(files_new(&l->files, v->io, volume_blocks(v), why), 0);
	assert_int_equal(LIVE(l, files_format(&l->files, &l->caller, uuid)), 0);
	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(name, sizeof name, "d%u", i);
		assert_int_equal(LIVE(l, op_mkdir(&l->files, &l->caller, i % 2 ? l->dirs[i - 1] : FS_ROOT_INODE, name,
						  0755, &a)), 0);
		l->dirs[i] = a.ino;
	}
	for (unsigned i = 0; i < 300; i++)
		operate(l);
	cluster_run_for(l->c, 2 * SECONDS);
	return l;
}

static void live_end(struct live *l)
{
	files_delete(&l->files);
	cluster_converge(l->c);
	cluster_free(l->c);
	free(l);
}

/* One check on @node, an operation or more between two steps. -ESTALE: too much has changed. */
static int check_once(struct live *l, struct volume_still *still, struct files *files)
{
	struct fs_check *check;
	char why[WHY_BYTES], text[CHECK_TEXT_BYTES];
	uint64_t lsn;
	int result;

	assert_int_equal(volume_still_take(still, &lsn), 0);
	while ((result = files_mount(files, why)) == -EAGAIN)
		cluster_run_for(l->c, MILLISECONDS);
	if (result == -ESTALE)
		return result;
	assert_int_equal(result, 0);
	assert_int_equal(fs_check_new(&check, files, CHECK_MEMORY_MIN), 0);
	do {
		result = fs_check_step(check);
		if (result == -EAGAIN)
			cluster_run_for(l->c, MILLISECONDS);
		if (world_random_below(cluster_world(l->c), 8) == 0)
			operate(l);
	} while (result == 1 || result == -EAGAIN);
	for (unsigned i = 0; i < min_u64(fs_check_figures(check)->damages, CHECK_DAMAGES_MAX); i++) {
		fs_check_damage_text(fs_check_damage(check, i), text);
		print_message("%s\n", text);
	}
	assert_int_equal(fs_check_figures(check)->damages, 0);
	assert_true(result || fs_check_figures(check)->inodes > DIRS);
	fs_check_free(check);
	return result;
}

static void check_live(unsigned node)
{
	uint64_t operations = 0, moved = 0;

	for (uint64_t seed = test_seed_first(1), end = seed + test_seed_count(4); seed < end; seed++) {
		const struct volume_still_config config = { .blocks_max = 60, .keep = block_may_be_metadata };
		struct live *l = live_start(seed);
		struct files *files = calloc(1, sizeof *files);
		struct volume *v = cluster_volume(l->c, node);
		struct volume_still *still;
		char why[WHY_BYTES];
		unsigned done = 0;

		assert_int_equal(volume_still_new(v, &config, &still), 0);
		assert_int_equal(files_new(files, v->io, volume_still_blocks(still), why), 0);
		operations -= l->operations;
		for (unsigned tries = 0; done < CHECKS; tries++) {
			uint64_t applied = v->applied;
			int result = check_once(l, still, files);

			assert_true(tries < TRIES_MAX);
			assert_true(result == 0 || result == -ESTALE);
			done += result == 0;
			moved += v->applied > applied;
		}
		operations += l->operations;
		files_delete(files);
		free(files);
		volume_still_free(still);
		live_end(l);
	}
	if (test_seed_count(4) > 1) {
		assert_true(operations > 300);
		assert_true(moved > 20);
	}
}

static void fs_check_of_a_primary_finds_nothing_while_it_is_written_to(void **state)
{
	(void)state;
	check_live(0);
}

static void fs_check_of_a_follower_finds_nothing_while_its_log_goes_on(void **state)
{
	(void)state;
	check_live(1);
}

/* ---- the daemon's ---- */

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* Until nothing runs, an operation now and then; the report, which is the caller's. */
static json_t *report_of(struct live *l, struct checker *checker, unsigned one_in)
{
	for (;;) {
		json_t *report = checker_json(checker);

		if (!json_is_true(json_object_get(report, "running")))
			return report;
		assert_in_range(number(report, "permille"), 0, 999);
		json_decref(report);
		cluster_step(l->c);
		if (world_random_below(cluster_world(l->c), one_in) == 0)
			operate(l);
	}
}

static void checker_goes_through_beside_operations_one_at_a_time(void **state)
{
	struct live *l = live_start(test_seed_first(1));
	char why[WHY_BYTES] = "";

	(void)state;
	for (unsigned node = 0; node < 2; node++) {
		struct volume *v = cluster_volume(l->c, node);
		struct checker *checker;
		json_t *report;

		assert_int_equal(checker_new(&checker, v->io, v, "v", CHECK_KEPT_BLOCKS), 0);
		for (json_int_t i = 1; i < 4; i++) {
			assert_int_equal(checker_start(checker, why), 0);
			assert_int_equal(checker_start(checker, why), -EBUSY);
			assert_non_null(strstr(why, "already"));
			report = report_of(l, checker, 10);
			assert_string_equal(text(report, "error"), "");
			assert_int_equal(number(report, "number"), i);
			assert_int_equal(number(report, "tries"), 1);
			assert_int_equal(number(report, "damages"), 0);
			assert_true(number(report, "inodes") > DIRS);
			assert_int_equal(number(report, "permille"), 1000);
			json_decref(report);
		}
		checker_free(checker);
		cluster_run_for(l->c, MILLISECONDS);
	}
	live_end(l);
}

static void checker_begins_anew_and_gives_up_in_the_end_where_too_much_changes(void **state)
{
	struct live *l = live_start(test_seed_first(1));
	struct volume *v = cluster_volume(l->c, 0);
	struct checker *checker;
	char why[WHY_BYTES];
	json_t *report;

	(void)state;
	assert_int_equal(checker_new(&checker, v->io, v, "v", 1), 0);
	assert_int_equal(checker_start(checker, why), 0);
	report = report_of(l, checker, 1);
	assert_string_equal(text(report, "error"), "ESTALE");
	assert_int_equal(number(report, "tries"), CHECK_TRIES);
	assert_non_null(strstr(text(report, "why"), "too busy"));
	json_decref(report);
	assert_int_equal(checker_start(checker, why), 0);	/* it is quiet now */
	report = report_of(l, checker, UINT32_MAX);
	assert_string_equal(text(report, "error"), "");
	json_decref(report);
	checker_free(checker);
	cluster_run_for(l->c, MILLISECONDS);
	live_end(l);
}

static void checker_that_is_stopped_says_so_and_leaves_nothing(void **state)
{
	struct live *l = live_start(test_seed_first(1));
	struct volume *v = cluster_volume(l->c, 1);
	char why[WHY_BYTES];

	(void)state;
	for (unsigned steps = 0; steps < 40; steps++) {
		struct checker *checker;
		json_t *report;

		assert_int_equal(checker_new(&checker, v->io, v, "v", CHECK_KEPT_BLOCKS), 0);
		assert_int_equal(checker_start(checker, why), 0);
		for (unsigned i = 0; i < steps; i++)
			cluster_step(l->c);
		report = checker_json(checker);
		if (json_is_true(json_object_get(report, "running"))) {
			json_decref(report);
			checker_stop(checker);
			report = checker_json(checker);
			assert_string_equal(text(report, "error"), "ESHUTDOWN");
		} else {
			checker_stop(checker);
		}
		json_decref(report);
		assert_null(v->still);
		assert_int_equal(checker_start(checker, why), -EBUSY);
		checker_free(checker);
	}
	cluster_run_for(l->c, SECONDS);
	live_end(l);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(checker_goes_through_beside_operations_one_at_a_time),
	cmocka_unit_test(checker_begins_anew_and_gives_up_in_the_end_where_too_much_changes),
	cmocka_unit_test(checker_that_is_stopped_says_so_and_leaves_nothing),
	cmocka_unit_test(fs_check_of_a_primary_finds_nothing_while_it_is_written_to),
	cmocka_unit_test(fs_check_of_a_follower_finds_nothing_while_its_log_goes_on),
};
TEST_GROUP(fs_check_live, tests)
