/* SPDX-License-Identifier: Apache-2.0 */
/* What people do: mend machines, replace disks, decide who is primary and, after a split brain, whose history is kept;
 * and what they may then expect: that all replicas become the same. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster_inside.h"

/* Whether a node that fell out of the journal, or that a forced promotion has left behind, comes back by itself. Until
 * then it stays as it is and says why, and all others must converge. */
enum { ENGINE_RESYNCS = 0 };

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

static const struct peer *peer_of(const struct volume *v, unsigned node)
{
	for (unsigned i = 0; i < v->peer_count; i++)
		if (strcmp(v->peers[i].config->name, cluster_node_names[node]) == 0)
			return &v->peers[i];
	return NULL;
}

/* How @n stands to the history of @other. */
static enum history_verdict verdict(const struct node *n, const struct node *other)
{
	return history_compare(&n->volume->history, &n->volume->log.closed, &other->volume->history,
			       &other->volume->log.closed).verdict;
}

static bool is_open(const struct node *n) { return n->volume && n->volume->state == VOLUME_OPEN; }

/* It does not come back by itself: its log is not the primary's past, or the primary's journal has lost its place. */
static bool left_behind(const struct node *primary, const struct node *n)
{
	enum history_verdict parted = verdict(n, primary);

	return parted == HISTORY_REWIND_SELF || parted == HISTORY_SPLIT_BRAIN || parted == HISTORY_UNRELATED ||
	       peer_of(primary->volume, n->index)->state == PEER_RESYNC;
}

/* Newer epoch first, then more log. */
static bool has_more(const struct node *a, const struct node *b)
{
	uint64_t number = history_last_number(&a->volume->history), other = history_last_number(&b->volume->history);

	return number != other ? number > other : a->volume->log.closed.lsn > b->volume->log.closed.lsn;
}

static void promote_somebody(struct cluster *c)
{
	struct node *best = NULL;
	bool forced = false;

	for (unsigned i = 0; cluster_primary(c) < 0 && i < c->options.nodes; i++)
		cluster_call(c, i, CLUSTER_PROMOTE, false, i, 10 * SECONDS);
	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];

		if (is_open(n) && !n->fresh && (!best || has_more(n, best)))
			best = n;
	}
	for (unsigned i = 0; best && i < c->options.nodes; i++)
		forced |= is_open(&c->nodes[i]) && &c->nodes[i] != best && left_behind(best, &c->nodes[i]);
	/* With a node that is left behind not everybody agrees. */
	if (cluster_primary(c) < 0 && forced)
		cluster_call(c, best->index, CLUSTER_FAILOVER, true, best->index, 10 * SECONDS);
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
		if (same_log(n, p) ? n->volume->applied != p->volume->log.end.lsn
				   : ENGINE_RESYNCS || !left_behind(p, n))
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
		if (cluster_primary(c) < 0)
			promote_somebody(c);
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
