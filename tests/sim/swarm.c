/* SPDX-License-Identifier: Apache-2.0 */
#include "swarm.h"

#include <errno.h>
#include <stdlib.h>

struct swarm {
	struct cluster *c;
	struct world *w;
	struct cluster_options options;
	unsigned on;			/* faults of this seed, a bit each */
	unsigned rounds;
	uint64_t pace_ns;		/* a round takes up to so long */
	uint64_t load;			/* and brings up to so many requests */
	unsigned repair;		/* of 8 rounds so many mend something */
	struct swarm_report *report;
};

static uint64_t below(struct swarm *s, uint64_t bound) { return world_random_below(s->w, bound); }
static bool one_in(struct swarm *s, uint64_t n) { return below(s, n) == 0; }
static unsigned any_node(struct swarm *s) { return (unsigned)below(s, s->options.nodes); }
/* From @low to @high, each doubling as likely as the other ones. */
static uint64_t any_size(struct swarm *s, uint64_t low, uint64_t high)
{
	unsigned doublings = 0;

	while (low << (doublings + 1) <= high)
		doublings++;
	low <<= below(s, doublings + 1);
	return low + below(s, low);
}

/* Another node than @but; there are at least two. */
static unsigned another(struct swarm *s, unsigned but)
{
	return (but + 1 + (unsigned)below(s, s->options.nodes - 1)) % s->options.nodes;
}

/* ---- faults: true when it was done ---- */

static bool crash(struct swarm *s, unsigned node, bool power)
{
	if (!cluster_volume(s->c, node))
		return false;
	cluster_crash(s->c, node, power);
	return true;
}

static bool crash_at_op(struct swarm *s, bool power)
{
	unsigned node = any_node(s);

	if (!cluster_volume(s->c, node))
		return false;
	cluster_crash_at(s->c, node, machine_disk_ops(cluster_machine(s->c, node)) + 1 + any_size(s, 1, 512), power);
	return true;
}

static bool play_kill(struct swarm *s) { return crash(s, any_node(s), false); }
static bool play_power(struct swarm *s) { return crash(s, any_node(s), true); }
static bool play_kill_at_op(struct swarm *s) { return crash_at_op(s, false); }
static bool play_power_at_op(struct swarm *s) { return crash_at_op(s, true); }

static bool play_power_all(struct swarm *s)
{
	bool all = one_in(s, 2), any = false;

	for (unsigned i = 0; i < s->options.nodes; i++)
		if (all || one_in(s, 2))
			any |= crash(s, i, true);
	return any;
}

static bool play_silent(struct swarm *s)
{
	unsigned node = any_node(s);

	machine_set_silent(cluster_machine(s->c, node), true);
	return crash(s, node, true);
}

/* Two nodes, or two groups of them. */
static bool cut(struct swarm *s, bool one_way)
{
	unsigned nodes = s->options.nodes, group = 1 + (unsigned)below(s, (1u << nodes) - 1);

	if (nodes < 2)
		return false;
	if (one_in(s, 2))
		group = 1u << any_node(s);
	for (unsigned i = 0; i < nodes; i++)
		for (unsigned k = 0; k < nodes; k++) {
			if (!(group >> i & 1) || group >> k & 1)
				continue;
			world_cut(s->w, cluster_machine(s->c, i), cluster_machine(s->c, k), true);
			if (!one_way)
				world_cut(s->w, cluster_machine(s->c, k), cluster_machine(s->c, i), true);
		}
	return true;
}

static bool play_cut(struct swarm *s) { return cut(s, false); }
static bool play_cut_one_way(struct swarm *s) { return cut(s, true); }

static bool play_isolate(struct swarm *s)
{
	world_isolate(s->w, cluster_machine(s->c, any_node(s)), true);
	return s->options.nodes > 1;
}

static bool play_reset(struct swarm *s)
{
	unsigned node = any_node(s);

	if (s->options.nodes < 2)
		return false;
	world_reset(s->w, cluster_machine(s->c, node), cluster_machine(s->c, another(s, node)));
	return true;
}

static bool play_pause(struct swarm *s)
{
	unsigned node = any_node(s);

	if (!cluster_volume(s->c, node))
		return false;
	machine_pause(cluster_machine(s->c, node), true);
	return true;
}

static bool play_slow_link(struct swarm *s)
{
	unsigned from = any_node(s);
	struct world_link *link;

	if (s->options.nodes < 2)
		return false;
	link = world_link(s->w, cluster_machine(s->c, from), cluster_machine(s->c, another(s, from)));
	if (one_in(s, 2))
		link->bytes_per_second = any_size(s, 64 << 10, 16 << 20);
	else
		link->latency_max_ns = link->latency_min_ns + any_size(s, MILLISECONDS, 500 * MILLISECONDS);
	return true;
}

static char any_disk(struct swarm *s) { return "sjm"[below(s, 3)]; }

static bool play_slow_disk(struct swarm *s)
{
	unsigned node = any_node(s);
	uint64_t slow = any_size(s, MILLISECONDS, 64 * MILLISECONDS);
	struct disk_timing timing = { slow / 2, slow, 20 * slow, 50 };

	machine_disk_set_timing(cluster_machine(s->c, node), cluster_disk(s->c, node, any_disk(s)), &timing);
	return true;
}

static bool disk_fault(struct swarm *s, char which, struct disk_fault fault)
{
	unsigned node = any_node(s);

	machine_disk_fail(cluster_machine(s->c, node), cluster_disk(s->c, node, which), &fault);
	return true;
}

static bool play_full_disk(struct swarm *s)
{
	return disk_fault(s, 's', (struct disk_fault){
		.kinds = 1u << IO_WRITE | 1u << IO_ZERO, .error = -ENOSPC, .after = below(s, 20),
		.count = one_in(s, 2) ? 0 : 1 + below(s, 100) });
}

static bool play_read_error(struct swarm *s)
{
	return disk_fault(s, any_disk(s), (struct disk_fault){
		.kinds = 1u << IO_READ, .error = -EIO, .after = below(s, 20), .count = 1 + below(s, 4) });
}

static bool play_failing_disk(struct swarm *s)
{
	return disk_fault(s, any_disk(s), (struct disk_fault){
		.kinds = 1u << (IO_READ + below(s, 5)), .error = -EIO, .after = below(s, 40),
		.count = one_in(s, 4) ? 0 : 1 + below(s, 3), .one_in = 1 + below(s, 3) });
}

static bool play_clock_skew(struct swarm *s)
{
	int64_t skew = (int64_t)any_size(s, SECONDS, 1000000 * SECONDS);

	machine_set_wall_skew(cluster_machine(s->c, any_node(s)), one_in(s, 2) ? skew : -skew);
	return true;
}

/* How long an operator waits for a command: mostly to its end, sometimes hardly at all. */
static uint64_t patience(struct swarm *s) { return one_in(s, 4) ? below(s, 30 * MILLISECONDS) : 8 * SECONDS; }

static bool play_demote(struct swarm *s)
{
	int primary = cluster_primary(s->c);

	if (primary < 0)
		return false;
	cluster_call(s->c, (unsigned)primary, CLUSTER_DEMOTE, false, 0, patience(s));
	return true;
}

static bool play_switchover(struct swarm *s)
{
	unsigned to = any_node(s);
	int primary = cluster_primary(s->c);

	if (s->options.nodes < 2)
		return false;
	cluster_call(s->c, primary >= 0 && one_in(s, 2) ? (unsigned)primary : to, CLUSTER_SWITCHOVER, false, to,
		     patience(s));
	return true;
}

/* A node is away, by any means, until the journal of the others has gone round. */
static bool play_absence(struct swarm *s)
{
	unsigned node = any_node(s);
	uint64_t until = world_now(s->w) + 60 * SECONDS;
	int primary = cluster_primary(s->c);

	if (primary < 0 || s->options.nodes < 2 || (unsigned)primary == node)
		return false;
	if (!one_in(s, 3))
		crash(s, node, one_in(s, 2));
	else
		world_isolate(s->w, cluster_machine(s->c, node), true);
	cluster_load(s->c, any_size(s, 1, 4) * s->options.journal_bytes / (CLIENT_BYTES_MAX / 4));
	while (world_now(s->w) < until && cluster_load_left(s->c) && cluster_run_for(s->c, SECONDS))
		;
	return true;
}

static bool play_wipe(struct swarm *s) { return cluster_replace(s->c, any_node(s)); }

static bool play_failover(struct swarm *s)
{
	unsigned node = any_node(s);

	if (cluster_primary(s->c) == (int)node)
		return false;
	cluster_call(s->c, node, CLUSTER_FAILOVER, true, node, patience(s));
	return true;
}

static const struct { bool (*play)(struct swarm *s); const char *name; } faults[SWARM_FAULT_COUNT] = {
#define X(name, play, text) [SWARM_##name] = { play, text },
	SWARM_FAULTS(X)
#undef X
};

const char *swarm_fault_name(enum swarm_fault fault) { return faults[fault].name; }

/* ---- what mends ---- */

static void mend_node(struct swarm *s, unsigned node)
{
	struct volume_status *status = calloc(1, sizeof *status);
	bool failed;

	machine_pause(cluster_machine(s->c, node), false);
	for (const char *which = "sjm"; *which; which++)
		machine_disk_fail(cluster_machine(s->c, node), cluster_disk(s->c, node, *which), NULL);
	if (cluster_volume(s->c, node))
		volume_status(cluster_volume(s->c, node), status);
	failed = status->failed;
	free(status);
	if (failed)
		cluster_crash(s->c, node, one_in(s, 2));
	if (!cluster_volume(s->c, node))
		cluster_up(s->c, node);
}

static void something_is_mended(struct swarm *s)
{
	switch (below(s, 4)) {
	case 0: world_heal(s->w); break;
	case 1: cluster_heal(s->c); break;
	default: mend_node(s, any_node(s));
	}
}

static void something_goes_wrong(struct swarm *s)
{
	unsigned fault;

	do
		fault = (unsigned)below(s, SWARM_FAULT_COUNT);
	while (!(s->on >> fault & 1));
	if (faults[fault].play(s))
		s->report->faults[fault]++;
}

/* ---- a seed's life ---- */

static struct cluster_options any_cluster(struct swarm *s, uint64_t seed)
{
	static const uint8_t counts[] = { 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4 };
	unsigned nodes = one_in(s, 24) ? 5 + (unsigned)below(s, 4) : counts[below(s, sizeof counts)];
	struct cluster_options o = cluster_options_random(seed, nodes);

	if (o.min_copies > nodes)
		o.min_copies = nodes;
	o.mixed = one_in(s, 3);
	for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++)
		for (unsigned k = 0; k < CLUSTER_NODES_MAX; k++)
			o.modes[i][k] = (enum replication_mode)below(s, 4);
	o.undo_bytes = one_in(s, 3) ? any_size(s, 1, 64) * BLOCK_BYTES : o.volume_bytes;
	o.resync_checksum = one_in(s, 3);
	o.split_policy = one_in(s, 2) ? SPLIT_NONE : (enum split_policy)below(s, SPLIT_POLICIES);
	if (seed % 3 == 0)
		cluster_options_files(&o);
	return o;
}

/* A life is short and wild, or long and calm, or anything between. */
static void draw(struct swarm *s)
{
	s->on = (unsigned)world_random(s->w) & ((1u << SWARM_FAULT_COUNT) - 1);
	s->on |= 1u << SWARM_KILL;
	s->options.fall_out = s->on & (1u << SWARM_ABSENCE | 1u << SWARM_WIPE);
	s->rounds = (unsigned)any_size(s, 8, 64);
	s->pace_ns = any_size(s, 100 * MILLISECONDS, 16 * SECONDS);
	s->load = any_size(s, 4, 64);
	s->repair = 2 + (unsigned)below(s, 4);
}

static void somebody_becomes_primary(struct swarm *s)
{
	unsigned node = any_node(s);

	if (cluster_primary(s->c) < 0)
		cluster_call(s->c, node, CLUSTER_PROMOTE, false, node, patience(s));
}

static void play(struct swarm *s)
{
	for (unsigned i = 0; i < s->options.nodes; i++)
		cluster_up(s->c, i);
	if (one_in(s, 2))
		cluster_settle(s->c);
	for (unsigned round = 0; round < s->rounds; round++) {
		cluster_load(s->c, below(s, s->load));
		cluster_run_for(s->c, below(s, s->pace_ns));
		if (below(s, 8) < s->repair)
			something_is_mended(s);
		else
			something_goes_wrong(s);
		somebody_becomes_primary(s);
		if (one_in(s, 16))
			cluster_settle(s->c);
	}
	cluster_converge(s->c);
}

void swarm_run(uint64_t seed, struct swarm_report *report)
{
	struct swarm s = { .w = world_new(seed ^ 0x5a5a), .report = report };

	s.options = any_cluster(&s, seed);
	draw(&s);
	world_free(s.w);
	s.c = cluster_new(&s.options);
	s.w = cluster_world(s.c);
	play(&s);
	report->seeds++;
	report->virtual_ns += world_now(s.w);
	report->events += world_events(s.w);
	report->acked += cluster_acked(s.c);
	cluster_files_figures(s.c, &report->files);
	cluster_free(s.c);
}

void swarm_report_add(struct swarm_report *to, const struct swarm_report *from)
{
	for (unsigned i = 0; i < SWARM_FAULT_COUNT; i++)
		to->faults[i] += from->faults[i];
	to->seeds += from->seeds;
	to->virtual_ns += from->virtual_ns;
	to->events += from->events;
	to->acked += from->acked;
	to->files.operations += from->files.operations;
	to->files.walks += from->files.walks;
	to->files.within += from->files.within;
	to->files.adopted += from->files.adopted;
}
