/* SPDX-License-Identifier: Apache-2.0 */
/* What people do: mend machines, replace disks, decide who is primary and, after a split brain, whose history is kept;
 * and what they may then expect: that all replicas become the same. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster_inside.h"

/* ---- mending ---- */

static void machine_heal(struct cluster *c, struct node *n)
{
	static const struct disk_timing usual = { 20 * MICROSECONDS, 200 * MICROSECONDS, 5 * MILLISECONDS, 200 };

	machine_pause(n->machine, false);
	machine_set_wall_skew(n->machine, 0);
	machine_crash_at(n->machine, 0, false);
	for (unsigned i = 0; i < NODE_DISKS; i++) {
		machine_disk_fail(n->machine, n->disks[i], NULL);
		machine_disk_set_timing(n->machine, n->disks[i], &usual);
	}
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (i != n->index)
			*world_link(c->world, n->machine, c->nodes[i].machine) =
				(struct world_link){ 50 * MICROSECONDS, 250 * MICROSECONDS, 0 };
}

void cluster_heal(struct cluster *c)
{
	world_note(c->world, "all faults heal");
	world_heal(c->world);
	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];

		machine_heal(c, n);
		/* A replica whose disk has failed says so for good; the operator starts it anew. */
		if (n->volume && n->volume->failed && n->volume->state == VOLUME_OPEN)
			cluster_crash(c, i, false);
		if (!n->volume)
			cluster_up(c, i);
		machine_set_silent(n->machine, false);
	}
}

bool cluster_replace(struct cluster *c, unsigned node)
{
	struct node *n = &c->nodes[node];
	int primary = cluster_primary(c);

	/* Nobody does that to the only one who has it all. */
	if (primary < 0 || primary == (int)node || c->nodes[primary].fresh)
		return false;
	if (!machine_crashed(n->machine))
		cluster_crash(c, node, true);
	world_note(c->world, "node %s gets new disks", cluster_node_names[node]);
	for (unsigned i = 0; i < NODE_DISKS; i++)
		machine_disk_replace(n->machine, n->disks[i]);
	node_format(c, n);
	cover_forget(n);
	n->branch = n->shown = NULL;
	n->solid = 0;
	n->fresh = true;
	cluster_up(c, node);
	return true;
}

/* ---- deciding ---- */

static bool is_open(const struct node *n) { return n->volume && n->volume->state == VOLUME_OPEN; }

/* Newer epoch first, then more log. */
static bool has_more(const struct node *a, const struct node *b)
{
	uint64_t number = history_last_number(&a->volume->history), other = history_last_number(&b->volume->history);

	return number != other ? number > other : a->volume->log.closed.lsn > b->volume->log.closed.lsn;
}

static struct node *best_of(struct cluster *c)
{
	struct node *best = NULL;

	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];

		if (is_open(n) && !n->fresh && !resync_running(n->volume) && (!best || has_more(n, best)))
			best = n;
	}
	return best;
}

/* Of a split brain that it is in: the primary is kept, or who has more. */
static void resolve(struct cluster *c, struct node *n, const struct peer *p)
{
	struct node *other = &c->nodes[p->config->name[0] - 'a'];
	int primary = cluster_primary(c);
	bool self = primary == (int)n->index || (primary < 0 && is_open(other) && has_more(n, other));

	if (primary == (int)other->index || self)
		cluster_call(c, n->index, CLUSTER_RESOLVE, false, self ? n->index : other->index, 10 * SECONDS);
}

void cluster_operate(struct cluster *c)
{
	struct node *best;

	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];
		unsigned kept = 0;

		for (unsigned slot = 0; is_open(n) && slot < UNDO_SLOTS; slot++)
			kept += n->volume->undo.slots[slot].kind == UNDO_DIVERGENCE;
		if (kept == UNDO_SLOTS - 1)
			cluster_call(c, i, CLUSTER_DROP, false, i, 10 * SECONDS);
		for (unsigned p = 0; is_open(n) && p < n->volume->peer_count; p++)
			if (n->volume->peers[p].state == PEER_SPLIT)
				resolve(c, n, &n->volume->peers[p]);
	}
	best = best_of(c);
	if (cluster_primary(c) < 0 && best)
		cluster_call(c, best->index, CLUSTER_PROMOTE, false, best->index, 10 * SECONDS);
}

/* ---- the end ---- */

static bool same_log(const struct node *a, const struct node *b)
{
	return a->volume->log.closed.lsn == b->volume->log.closed.lsn &&
	       memcmp(a->volume->log.closed.hash, b->volume->log.closed.hash, HASH_BYTES) == 0;
}

static bool converged(struct cluster *c)
{
	int primary = cluster_primary(c);
	const struct node *p;

	if (primary < 0 || cluster_load_left(c) || c->call_busy)
		return false;
	p = &c->nodes[primary];
	if (p->volume->log.closed.lsn != p->volume->log.end.lsn ||
	    p->volume->journal.durable != p->volume->log.end.lsn)
		return false;
	for (unsigned i = 0; i < c->options.nodes; i++) {
		const struct node *n = &c->nodes[i];

		if (!is_open(n))
			return false;
		if (!same_log(n, p) || n->volume->applied != p->volume->log.end.lsn || resync_running(n->volume))
			return false;
	}
	return true;
}

void cluster_settle(struct cluster *c)
{
	uint64_t limit = world_now(c->world) + 120 * SECONDS;

	cluster_heal(c);
	/* At least for two ticks: what a full disk refused is tried again at the next one. */
	do {
		if (!cluster_run_for(c, 200 * MILLISECONDS))
			cluster_breach(c, "P3: nothing is left to happen, and the nodes are not the same");
		for (unsigned i = 0; i < c->options.nodes; i++)
			if (c->nodes[i].open_result < 0)
				cluster_breach(c, "node %s does not open: %s", cluster_node_names[i],
					       c->nodes[i].open.why);
		cluster_operate(c);
		if (world_now(c->world) > limit)
			cluster_breach(c, "P3: no convergence in 120 s (load left %llu)",
				       (unsigned long long)cluster_load_left(c));
	} while (!converged(c));
	for (unsigned i = 0; i < c->options.nodes; i++) {
		cluster_check_all(c, i);
		c->nodes[i].fresh &= !same_log(&c->nodes[i], &c->nodes[cluster_primary(c)]);
	}
}

static void node_close(struct cluster *c, struct node *n)
{
	int result = cluster_call(c, n->index, CLUSTER_CLOSE, false, n->index, 60 * SECONDS);

	if (result)
		cluster_breach(c, "close of %s: %d", cluster_node_names[n->index], result);
	n->closed_applied = n->volume->applied;
	volume_free(n->volume);
	n->volume = NULL;
	if (machine_memory(n->machine))
		cluster_breach(c, "node %s leaks memory", cluster_node_names[n->index]);
}

void cluster_converge(struct cluster *c)
{
	cluster_settle(c);
	for (unsigned i = 0; i < c->options.nodes; i++)
		node_close(c, &c->nodes[i]);
	for (unsigned i = 0; i < c->options.nodes; i++)
		cluster_check_store(c, i);
}
