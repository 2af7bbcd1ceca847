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

bool cluster_fault(struct cluster *c, unsigned node, unsigned other, unsigned swarm, uint64_t what)
{
	static const unsigned bits[CLUSTER_FAULTS] = { 1, 1, 2, 2, 4, 8, 16 };
	struct machine *m = c->nodes[node].machine, *o = c->nodes[other].machine;

	if (what >= CLUSTER_FAULTS)
		return false;
	if (!(swarm & bits[what]))
		return true;
	switch (bits[what]) {
	case 1:
	case 2:
		if (c->nodes[node].volume)
			cluster_crash(c, node, bits[what] == 2);
		break;
	case 4: world_cut_both(c->world, m, o, true); break;
	case 8: world_reset(c->world, m, o); break;
	case 16: machine_pause(m, true); break;
	}
	return true;
}

void cluster_mend(struct cluster *c)
{
	world_heal(c->world);
	for (unsigned i = 0; i < c->options.nodes; i++) {
		machine_pause(c->nodes[i].machine, false);
		if (!c->nodes[i].volume)
			cluster_up(c, i);
	}
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

/* How @n stands to the history of @other. */
static enum history_verdict verdict(const struct node *n, const struct node *other)
{
	return history_compare(&n->volume->history, &n->volume->log.closed, &other->volume->history,
			       &other->volume->log.closed).verdict;
}

/* Newer epoch first, then more log. */
static bool has_more(const struct node *a, const struct node *b)
{
	uint64_t number = history_last_number(&a->volume->history), other = history_last_number(&b->volume->history);

	return number != other ? number > other : a->volume->log.closed.lsn > b->volume->log.closed.lsn;
}

/* Whose history is kept is a matter of taste. The winner tells the others, or each of these is told. */
static void resolve_split_brain(struct cluster *c, unsigned keep)
{
	bool by_winner = world_random_below(c->world, 2), split = false;

	if (!is_open(&c->nodes[keep]))
		return;
	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct volume_call call = { .force = false };
		unsigned where = by_winner ? keep : i;

		if (!is_open(&c->nodes[i]) || verdict(&c->nodes[i], &c->nodes[keep]) != HISTORY_SPLIT_BRAIN ||
		    (split && by_winner))
			continue;
		strcpy(call.node, cluster_node_names[keep]);
		split |= cluster_command(c, where, volume_resolve, &call, 10 * SECONDS) == 0;
	}
	/* The epoch that is kept need not be the newest. */
	if (split)
		c->newest_number = 0;
}

/* Before their slots run out. */
static void drop_divergences(struct cluster *c)
{
	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct volume_call call = { .force = false };
		struct volume_status status;

		if (!is_open(&c->nodes[i]))
			continue;
		volume_status(c->nodes[i].volume, &status);
		if (status.divergence_count + 1 < UNDO_SLOTS)
			continue;
		call.id = status.divergences[world_random_below(c->world, status.divergence_count)].id;
		if (cluster_command(c, i, volume_divergence_drop, &call, 10 * SECONDS) == 0)
			cover_forget_divergence(&c->nodes[i], call.id);
	}
}

static bool any_primary(const struct cluster *c)
{
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (cluster_is_primary(&c->nodes[i]))
			return true;
	return false;
}

static void promote_somebody(struct cluster *c)
{
	for (unsigned i = 0; !any_primary(c) && i < c->options.nodes; i++)
		cluster_call(c, i, CLUSTER_PROMOTE, false, i, 10 * SECONDS);
}

void cluster_operate(struct cluster *c)
{
	struct node *best = NULL;

	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];

		if (is_open(n) && !n->fresh && !resync_running(n->volume) && (!best || has_more(n, best)))
			best = n;
	}
	if (best)
		resolve_split_brain(c, best->index);
	drop_divergences(c);
	promote_somebody(c);
}

/* ---- the end ---- */

static bool same_log(const struct node *a, const struct node *b)
{
	return a->volume->log.closed.lsn == b->volume->log.closed.lsn &&
	       memcmp(a->volume->log.closed.hash, b->volume->log.closed.hash, HASH_BYTES) == 0;
}

/* All are what this primary is. */
static bool converged_on(const struct cluster *c, const struct node *p)
{
	if (!cluster_is_primary(p) || p->volume->log.closed.lsn != p->volume->log.end.lsn ||
	    p->volume->journal.durable != p->volume->log.end.lsn)
		return false;
	for (unsigned i = 0; i < c->options.nodes; i++) {
		const struct node *n = &c->nodes[i];

		if (!is_open(n) || resync_running(n->volume))
			return false;
		if (!same_log(n, p) || n->volume->applied != p->volume->log.end.lsn)
			return false;
	}
	return true;
}

static const struct node *converged(struct cluster *c)
{
	if (cluster_load_left(c) || c->call_busy)
		return NULL;
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (converged_on(c, &c->nodes[i]))
			return &c->nodes[i];
	return NULL;
}

/* Each node's tree is the model's, and whole. */
static void files_check(struct cluster *c)
{
	uint64_t limit = world_now(c->world) + 20 * SECONDS;

	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];
		struct files_view view = oracle_files_view(n);

		while (!node_files_walked(n->files, &view)) {
			if (world_now(c->world) > limit || !cluster_step(c))
				cluster_breach(c, "node %s: its filesystem cannot be walked", cluster_node_names[i]);
			node_files_look(n->files, &view);
		}
		node_files_check(n->files);
	}
}

void cluster_settle(struct cluster *c)
{
	uint64_t limit = world_now(c->world) + 120 * SECONDS;
	unsigned keep = (unsigned)world_random_below(c->world, c->options.nodes);
	const struct node *winner;

	while (c->nodes[keep].fresh)
		keep = (keep + 1) % c->options.nodes;
	cluster_heal(c);
	/* At least for two ticks: what a full disk refused is tried again at the next one. */
	do {
		if (!cluster_run_for(c, 200 * MILLISECONDS))
			cluster_breach(c, "P3: nothing is left to happen, and the nodes are not the same");
		for (unsigned i = 0; i < c->options.nodes; i++)
			if (c->nodes[i].open_result < 0)
				cluster_breach(c, "node %s does not open: %s", cluster_node_names[i],
					       c->nodes[i].open.why);
		resolve_split_brain(c, keep);
		drop_divergences(c);
		promote_somebody(c);
		if (world_now(c->world) > limit)
			cluster_breach(c, "P3: no convergence in 120 s (load left %llu)",
				       (unsigned long long)cluster_load_left(c));
	} while (!(winner = converged(c)));
	for (unsigned i = 0; i < c->options.nodes; i++) {
		cluster_check_all(c, i);
		c->nodes[i].fresh &= !same_log(&c->nodes[i], winner);
	}
	if (c->files)
		files_check(c);
}

static void node_close(struct cluster *c, struct node *n)
{
	if (n->files) {		/* as a front end that stops before its volume: it hears nothing any more */
		volume_blocks(n->volume)->ready = NULL;
		volume_on_applied(n->volume, NULL, NULL);
	}
	node_files_free(n->files, false);
	n->files = NULL;
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
	if (c->files) {
		node_files_reclaim(c->nodes[cluster_primary(c)].files);
		cluster_settle(c);
	}
	for (unsigned i = 0; i < c->options.nodes; i++)
		node_close(c, &c->nodes[i]);
	for (unsigned i = 0; i < c->options.nodes; i++)
		cluster_check_store(c, i);
}
