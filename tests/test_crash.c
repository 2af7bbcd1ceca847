/* SPDX-License-Identifier: Apache-2.0 */
/* The same workload again and again, each time ended at another disk operation: at its submission or at its
 * completion, by loss of power or by SIGKILL. Afterwards everything acknowledged must be there, nothing invented,
 * and the store must be what the log makes. */
#include <stdio.h>

#include "run.h"
#include "sim/cluster.h"

enum { WORKLOAD = 40 };

static struct cluster *start(uint64_t seed, unsigned nodes, bool files)
{
	struct cluster_options o = cluster_options_random(seed, nodes);
	struct cluster *c;

	o.min_copies = 1;
	if (files)
		cluster_options_files(&o);
	c = cluster_new(&o);
	for (unsigned i = 0; i < nodes; i++)
		cluster_up(c, i);
	return c;
}

static void promote(struct cluster *c)
{
	for (unsigned tries = 0; tries < 100 && cluster_primary(c) < 0; tries++) {
		cluster_run_for(c, 50 * MILLISECONDS);
		cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 5 * SECONDS);
		if (!cluster_volume(c, 0))
			return;		/* the planned crash hit */
	}
}

/* The workload from the first op of the node's life; the destage of an idle volume is part of it. */
static void work(struct cluster *c)
{
	promote(c);
	cluster_load(c, WORKLOAD);
	cluster_run_for(c, 3 * SECONDS);
}

static uint64_t ops_of_workload(uint64_t seed, unsigned nodes, unsigned node, bool files)
{
	struct cluster *c = start(seed, nodes, files);
	uint64_t ops;

	work(c);
	ops = machine_disk_ops(cluster_machine(c, node));
	cluster_converge(c);
	cluster_free(c);
	return ops;
}

static void cut_at_every_op(uint64_t seed, unsigned nodes, unsigned node, bool files, unsigned stride)
{
	uint64_t ops = ops_of_workload(seed, nodes, node, files);

	for (uint64_t op = 1 + seed % stride; op <= ops; op += stride) {
		struct cluster *c = start(seed, nodes, files);

		if (op > machine_disk_ops(cluster_machine(c, node)))
			cluster_crash_at(c, node, op, (op + seed) % 3 != 0);
		work(c);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void alone_nothing_acknowledged_is_lost_whenever_the_node_dies(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(6); i++)
		cut_at_every_op(first + i, 1, 0, false, 1);
}

static void mirrored_nothing_acknowledged_is_lost_whenever_the_primary_dies(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(6); i++)
		cut_at_every_op(first + i, 2, 0, false, 2);
}

static void mirrored_nothing_acknowledged_is_lost_whenever_the_secondary_dies(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(6); i++)
		cut_at_every_op(first + i, 2, 1, false, 2);
}

/* After recovery the filesystem is mounted, walked and audited: it is the tree that the log up to its end has made, and
 * what was flushed is in that log; then what has no name any more is freed, and it is whole again. */
static void alone_the_filesystem_is_whole_and_at_an_operation_whenever_the_power_goes(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(4); i++)
		cut_at_every_op(first + i, 1, 0, true, 1);
}

static void mirrored_the_filesystem_is_whole_and_at_an_operation_whenever_a_node_dies(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(2); i++)
		for (unsigned node = 0; node < 2; node++)
			cut_at_every_op(first + i, 2, node, true, 3);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(alone_the_filesystem_is_whole_and_at_an_operation_whenever_the_power_goes),
	cmocka_unit_test(mirrored_the_filesystem_is_whole_and_at_an_operation_whenever_a_node_dies),
	cmocka_unit_test(alone_nothing_acknowledged_is_lost_whenever_the_node_dies),
	cmocka_unit_test(mirrored_nothing_acknowledged_is_lost_whenever_the_primary_dies),
	cmocka_unit_test(mirrored_nothing_acknowledged_is_lost_whenever_the_secondary_dies),
};
TEST_GROUP(crash, tests)
