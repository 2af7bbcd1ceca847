/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that crash, lose power, lose their links and come back, on seeds. */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"
#include "sim/cluster.h"

static struct cluster *cluster_start(const struct cluster_options *options)
{
	struct cluster *c = cluster_new(options);

	for (unsigned i = 0; i < options->nodes; i++)
		cluster_up(c, i);
	while (cluster_primary(c) < 0) {
		cluster_run_for(c, 100 * MILLISECONDS);
		cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS);
		if (world_now(cluster_world(c)) > 60 * SECONDS)
			cluster_breach(c, "no first promotion: %s", cluster_why(c));
	}
	return c;
}

static void one_node_keeps_what_it_acknowledged_through_crashes(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster_options o = cluster_options_random(first + i, 1);
		struct cluster *c;

		o.min_copies = 1;
		c = cluster_start(&o);
		for (unsigned round = 0; round < 6; round++) {
			cluster_load(c, 60);
			cluster_run_for(c, world_random_below(cluster_world(c), 60 * MILLISECONDS));
			cluster_crash(c, 0, world_random_below(cluster_world(c), 2));
			cluster_up(c, 0);
			cluster_run_for(c, 100 * MILLISECONDS);
			cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

static void two_nodes_without_faults_end_with_the_same_bytes_in_every_mode(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++) {
		struct cluster_options o = cluster_options_random(first + i, 2);
		struct cluster *c = cluster_start(&o);

		cluster_load(c, 800);
		cluster_converge(c);
		if (cluster_acked(c) < 800)
			cluster_breach(c, "only %llu of 800 requests were answered",
				       (unsigned long long)cluster_acked(c));
		cluster_free(c);
	}
}

/* One thing that goes wrong, or right again. */
static void something_happens(struct cluster *c, unsigned swarm)
{
	struct world *w = cluster_world(c);
	unsigned n = (unsigned)world_random_below(w, 2);
	uint64_t what = world_random_below(w, 12);

	if (what == CLUSTER_FAULTS && (swarm & 4))
		world_cut(w, cluster_machine(c, !n), cluster_machine(c, n), true);
	else if (what > CLUSTER_FAULTS)
		cluster_mend(c);
	else
		cluster_fault(c, n, !n, swarm, what);
}

static void two_nodes_converge_after_any_faults(void **state)
{
	uint64_t first = test_seed_first(1000);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(150); i++) {
		struct cluster_options o = cluster_options_random(first + i, 2);
		struct cluster *c = cluster_start(&o);
		struct world *w = cluster_world(c);
		unsigned swarm = (unsigned)world_random_below(w, 32);

		for (unsigned round = 0; round < 25; round++) {
			unsigned who = (unsigned)world_random_below(w, 2);

			cluster_load(c, world_random_below(w, 60));
			cluster_run_for(c, world_random_below(w, 800 * MILLISECONDS));
			something_happens(c, swarm);
			if (cluster_primary(c) < 0)
				cluster_call(c, who, CLUSTER_PROMOTE, false, who, 3 * SECONDS);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(one_node_keeps_what_it_acknowledged_through_crashes),
	cmocka_unit_test(two_nodes_without_faults_end_with_the_same_bytes_in_every_mode),
	cmocka_unit_test(two_nodes_converge_after_any_faults),
};
TEST_GROUP(cluster, tests)
