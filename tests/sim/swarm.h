/* SPDX-License-Identifier: Apache-2.0 */
/* A swarm of clusters, a third of them with files: each seed draws a cluster (nodes, modes, sizes), which faults are
 * on, how often they come and how long they last, and plays them; then everything heals, and the nodes must converge. A
 * breach prints the seed and the last events, and aborts. */
#ifndef HOLDFAST_TESTS_SWARM_H
#define HOLDFAST_TESTS_SWARM_H

#include "cluster.h"
#include "node_files.h"

/* What can go wrong, and what operators do at bad moments: by which function, and what reports call it. */
#define SWARM_FAULTS(X) \
	X(KILL,		play_kill,		"kill") \
	X(POWER,	play_power,		"power loss") \
	X(POWER_ALL,	play_power_all,		"power loss of several") \
	X(KILL_AT_OP,	play_kill_at_op,	"kill at a disk op") \
	X(POWER_AT_OP,	play_power_at_op,	"power loss at a disk op") \
	X(SILENT,	play_silent,		"power loss without a word") \
	X(CUT,		play_cut,		"cut") \
	X(CUT_ONE_WAY,	play_cut_one_way,	"cut one way") \
	X(ISOLATE,	play_isolate,		"isolation") \
	X(RESET,	play_reset,		"reset") \
	X(PAUSE,	play_pause,		"pause") \
	X(SLOW_LINK,	play_slow_link,		"slow link") \
	X(SLOW_DISK,	play_slow_disk,		"slow disk") \
	X(FULL_DISK,	play_full_disk,		"full disk") \
	X(READ_ERROR,	play_read_error,	"read errors") \
	X(FAILING_DISK,	play_failing_disk,	"failing disk") \
	X(CLOCK_SKEW,	play_clock_skew,	"clock skew") \
	X(DEMOTE,	play_demote,		"demote") \
	X(SWITCHOVER,	play_switchover,	"switchover") \
	X(ABSENCE,	play_absence,		"long absence") \
	X(WIPE,		play_wipe,		"replaced disk") \
	X(FAILOVER,	play_failover,		"forced failover")

enum swarm_fault {
#define X(name, play, text) SWARM_##name,
	SWARM_FAULTS(X)
#undef X
	SWARM_FAULT_COUNT
};

struct swarm_report {
	uint64_t seeds;
	uint64_t faults[SWARM_FAULT_COUNT];
	uint64_t virtual_ns, events, acked;
	struct files_figures files;
};

/* Plays one seed; adds to @report as it goes, so that it is right when the seed aborts, too. */
void swarm_run(uint64_t seed, struct swarm_report *report);
void swarm_report_add(struct swarm_report *to, const struct swarm_report *from);
const char *swarm_fault_name(enum swarm_fault fault);

#endif
