/* SPDX-License-Identifier: Apache-2.0 */
/* Runs every registered test, or the group that argv[1] names and those tests whose names match it; the last line is
 * "N passed, N failed". */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static struct test_group *groups;

void test_group_register(struct test_group *group)
{
	struct test_group **at = &groups;

	while (*at && strcmp((*at)->name, group->name) < 0)
		at = &(*at)->next;
	group->next = *at;
	*at = group;
}

uint64_t test_seed_first(uint64_t first)
{
	const char *seed = getenv("SEED");

	return seed && *seed ? strtoull(seed, NULL, 0) : first;
}

unsigned test_seed_count(unsigned count)
{
	const char *seed = getenv("SEED"), *seeds = getenv("SEEDS");

	if (seed && *seed)
		return 1;
	return seeds && *seeds ? (unsigned)strtoul(seeds, NULL, 0) : count;
}

static size_t matches(const struct test_group *group, const char *pattern)
{
	size_t count = 0;

	for (size_t i = 0; i < group->count; i++)
		count += fnmatch(pattern, group->tests[i].name, 0) == 0;
	return count;
}

int main(int argc, char **argv)
{
	char pattern[256] = "*";
	size_t total = 0;
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (struct test_group *group = groups; group; group = group->next) {
		size_t count;
		int bad;

		if (argc > 1)
			snprintf(pattern, sizeof pattern, strcmp(argv[1], group->name) ? "*%s*" : "*", argv[1]);
		cmocka_set_test_filter(pattern);
		count = matches(group, pattern);
		bad = count == 0 ? 0 : _cmocka_run_group_tests(group->name, group->tests, group->count, NULL, NULL);

		failed += bad > 0 ? bad : bad < 0 ? (int)count : 0;
		total += count;
	}
	printf("%d passed, %d failed\n", (int)total - failed, failed);
	return failed != 0;
}
