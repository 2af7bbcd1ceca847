/* SPDX-License-Identifier: Apache-2.0 */
/* Swarms: three nodes whose roles change while links, machines and disks fail; forced failovers whose old
 * primary comes back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "run.h"
#include "sim/cluster_inside.h"

static struct cluster *swarm_start(const struct cluster_options *options)
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

static void heal(struct cluster *c)
{
	world_heal(cluster_world(c));
	for (unsigned i = 0; i < c->options.nodes; i++) {
		machine_pause(cluster_machine(c, i), false);
		if (!cluster_volume(c, i))
			cluster_up(c, i);
	}
}

static void something_breaks(struct cluster *c, unsigned swarm)
{
	struct world *w = cluster_world(c);
	unsigned n = (unsigned)world_random_below(w, c->options.nodes);
	unsigned k = (n + 1 + (unsigned)world_random_below(w, c->options.nodes - 1)) % c->options.nodes;
	struct machine *a = cluster_machine(c, n), *b = cluster_machine(c, k);
	unsigned what = (unsigned)world_random_below(w, 12);

	if (!(swarm & 1u << what))
		return;
	switch (what) {
	case 0: world_cut_both(w, a, b, true); break;
	case 1: world_cut(w, a, b, true); break;
	case 2: world_reset(w, a, b); break;
	case 3: machine_pause(a, true); break;
	case 4: world_isolate(w, a, true); break;
	case 5:
	case 6:
		if (cluster_volume(c, n))
			cluster_crash(c, n, what == 6);
		break;
	case 7: machine_set_silent(a, world_random_below(w, 2)); break;
	case 8: world_link(w, a, b)->bytes_per_second = (64 << 10) << world_random_below(w, 8); break;
	case 9:
		if (cluster_volume(c, n))
			cluster_crash(c, n, true);
		if (cluster_volume(c, k))
			cluster_crash(c, k, true);
		break;
	case 10: cluster_crash_at(c, n, machine_disk_ops(a) + 1 + world_random_below(w, 200), true); break;
	case 11: cluster_crash_at(c, n, machine_disk_ops(a) + 1 + world_random_below(w, 200), false); break;
	}
}

static void role_changes(struct cluster *c, bool force)
{
	struct world *w = cluster_world(c);
	unsigned n = (unsigned)world_random_below(w, c->options.nodes);
	unsigned k = (unsigned)world_random_below(w, c->options.nodes);
	int primary = cluster_primary(c);
	uint64_t limit = world_random_below(w, 4) ? 5 * SECONDS : world_random_below(w, 30 * MILLISECONDS);

	switch (world_random_below(w, 6)) {
	case 0:
		if (primary >= 0 && (unsigned)primary != k)
			cluster_call(c, (unsigned)primary, CLUSTER_SWITCHOVER, false, k, limit);
		break;
	case 1: cluster_call(c, n, CLUSTER_SWITCHOVER, false, n, limit); break;
	case 2: cluster_call(c, n, CLUSTER_DEMOTE, false, n, limit); break;
	case 3: cluster_call(c, n, CLUSTER_PROMOTE, false, n, limit); break;
	case 4:
		if (force)
			cluster_call(c, n, CLUSTER_FAILOVER, true, n, limit);
		break;
	default:
		if (primary < 0)
			cluster_call(c, n, CLUSTER_PROMOTE, false, n, limit);
	}
}

static void three_nodes_converge_after_faults_and_changes_of_role(void **state)
{
	uint64_t first = test_seed_first(5000);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster_options o = cluster_options_random(first + i, 3);
		struct cluster *c;
		unsigned swarm;

		o.nodes = (first + i) % 4 ? 3 : 2;
		c = swarm_start(&o);
		swarm = (unsigned)world_random_below(cluster_world(c), 1 << 12);
		for (unsigned round = 0; round < 25; round++) {
			cluster_load(c, world_random_below(cluster_world(c), 60));
			cluster_run_for(c, world_random_below(cluster_world(c), 800 * MILLISECONDS));
			if (world_random_below(cluster_world(c), 3))
				something_breaks(c, swarm);
			else
				heal(c);
			role_changes(c, false);
		}
		for (unsigned n = 0; n < o.nodes; n++) {
			machine_crash_at(cluster_machine(c, n), 0, false);
			for (unsigned k = 0; k < o.nodes; k++)
				if (k != n)
					world_link(cluster_world(c), cluster_machine(c, n),
						   cluster_machine(c, k))->bytes_per_second = 0;
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

/* ---- forced failovers ---- */

static bool same_log(const struct volume *a, const struct volume *b)
{
	return a->log.closed.lsn == b->log.closed.lsn &&
	       memcmp(a->log.closed.hash, b->log.closed.hash, HASH_BYTES) == 0;
}

static void who_is_past_the_fork_is_refused_and_who_is_not_converges(struct cluster *c)
{
	struct world *w = cluster_world(c);
	uint64_t limit = world_now(w) + 60 * SECONDS;
	bool settled = false;

	while (!settled && world_now(w) < limit) {
		int primary = cluster_primary(c);

		cluster_run_for(c, SECONDS);
		settled = primary >= 0;
		for (unsigned i = 0; settled && i < c->options.nodes; i++) {
			struct volume *p = cluster_volume(c, (unsigned)primary), *v = cluster_volume(c, i);
			struct history_meeting meeting;

			if (!v || v->state != VOLUME_OPEN) {
				settled = false;
				break;
			}
			meeting = history_compare(&v->history, &v->log.closed, &p->history, &p->log.closed);
			if (meeting.verdict == HISTORY_REWIND_SELF || meeting.verdict == HISTORY_SPLIT_BRAIN)
				continue;
			if (!same_log(p, v) || v->applied != p->applied)
				settled = false;
		}
	}
	if (!settled)
		cluster_breach(c,
			       "P3: after forced failovers a node neither converges nor is past the fork (load "
			       "left %llu)",
			       (unsigned long long)cluster_load_left(c));
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (same_log(cluster_volume(c, i), cluster_volume(c, (unsigned)cluster_primary(c))))
			cluster_check_all(c, i);
}

static void forced_failovers_lose_nothing_silently(void **state)
{
	uint64_t first = test_seed_first(9000);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster_options o = cluster_options_random(first + i, 3);
		struct cluster *c;
		unsigned swarm;

		o.nodes = (first + i) % 3 ? 3 : 2;
		o.min_copies = 1;
		c = swarm_start(&o);
		swarm = (unsigned)world_random_below(cluster_world(c), 1 << 12) & ~(1u << 10 | 1u << 11);
		for (unsigned round = 0; round < 12; round++) {
			cluster_load(c, world_random_below(cluster_world(c), 60));
			cluster_run_for(c, world_random_below(cluster_world(c), 3000 * MILLISECONDS));
			if (world_random_below(cluster_world(c), 2))
				something_breaks(c, swarm);
			else
				heal(c);
			role_changes(c, true);
		}
		heal(c);
		c->load_left = 0;
		for (unsigned n = 0; n < o.nodes; n++)
			for (unsigned k = 0; k < o.nodes; k++)
				if (k != n)
					world_link(cluster_world(c), cluster_machine(c, n),
						   cluster_machine(c, k))->bytes_per_second = 0;
		cluster_run_for(c, 10 * SECONDS);
		for (unsigned n = 0; n < o.nodes && cluster_primary(c) < 0; n++)
			cluster_call(c, n, CLUSTER_FAILOVER, true, n, 10 * SECONDS);
		who_is_past_the_fork_is_refused_and_who_is_not_converges(c);
		cluster_free(c);
	}
}

/* ---- disks that fail ---- */

static void a_failing_disk_never_makes_wrong_bytes(void **state)
{
	uint64_t first = test_seed_first(13000);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(60); i++) {
		struct cluster_options o = cluster_options_random(first + i, 2);
		struct cluster *c;
		struct world *w;

		o.min_copies = 1;
		c = swarm_start(&o);
		w = cluster_world(c);
		for (unsigned round = 0; round < 10; round++) {
			unsigned n = (unsigned)world_random_below(w, 2);
			char which = "sjm"[world_random_below(w, 3)];
			struct disk_fault fault = {
				.kinds = 1u << (IO_READ + world_random_below(w, 5)),
				.error = world_random_below(w, 3) == 0 && which == 's' ? -ENOSPC : -EIO,
				.after = world_random_below(w, 20), .count = 1 + world_random_below(w, 3),
			};

			machine_disk_fail(cluster_machine(c, n), cluster_disk(c, n, which), &fault);
			cluster_load(c, 80);
			cluster_run_for(c, 3 * SECONDS);
			machine_disk_fail(cluster_machine(c, n), cluster_disk(c, n, which), NULL);
			/* Who failed, is started anew. */
			for (unsigned k = 0; k < 2; k++) {
				if (cluster_volume(c, k) && cluster_volume(c, k)->failed)
					cluster_crash(c, k, world_random_below(w, 2));
				if (!cluster_volume(c, k))
					cluster_up(c, k);
			}
			cluster_run_for(c, 3 * SECONDS);
			for (unsigned k = 0; k < 2 && cluster_primary(c) < 0; k++)
				cluster_call(c, k, CLUSTER_PROMOTE, false, k, 10 * SECONDS);
		}
		cluster_converge(c);
		cluster_free(c);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(three_nodes_converge_after_faults_and_changes_of_role),
	cmocka_unit_test(forced_failovers_lose_nothing_silently),
	cmocka_unit_test(a_failing_disk_never_makes_wrong_bytes),
};
TEST_GROUP(adversary_swarm, tests)
