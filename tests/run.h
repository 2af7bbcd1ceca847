/* SPDX-License-Identifier: Apache-2.0 */
/* A test file registers its group and needs no other list:
 *
 *	static void journal_every_acked_record_survives(void **state) { ... }
 *	static const struct CMUnitTest tests[] = { cmocka_unit_test(journal_every_acked_record_survives) };
 *	TEST_GROUP(journal, tests)
 *
 * A test's name states the fact that holds. */
#ifndef HOLDFAST_TESTS_RUN_H
#define HOLDFAST_TESTS_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct test_group {
	const char *name;
	const struct CMUnitTest *tests;
	size_t count;
	struct test_group *next;
};

void test_group_register(struct test_group *group);

#define TEST_GROUP(group_name, array) \
	__attribute__((constructor)) static void register_##group_name(void) \
	{ \
		static struct test_group group = { #group_name, array, sizeof array / sizeof array[0], NULL }; \
		test_group_register(&group); \
	}

/* SEED of the environment when it is set (one seed then), else @first. */
uint64_t test_seed_first(uint64_t first);
/* How many seeds to run: 1 with SEED, else SEEDS of the environment, else @count. */
unsigned test_seed_count(unsigned count);

#endif
