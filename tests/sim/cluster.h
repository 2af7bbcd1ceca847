/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of one volume on simulated machines, clients that use it, operators, and an oracle that knows every record.
 *
 * The oracle reads each record off its primary's log as it is appended (lineage.h). From it follows what any block must
 * hold at any place of any log, so that any node can be checked at any moment against the promises:
 *	P1	what was acknowledged is where its mode says after every failure that the mode covers; only a forced
 *		promotion goes on without some of it, and then it is kept by who has it
 *	P2	what a node shows is the past of the epoch that its history names, at a record boundary
 *	P3	when faults heal, all stores are the same bytes (cluster_converge)
 *	P5	an epoch is promised, and its record durable, before its node is primary
 * A breach prints the seed and the last events, and aborts. */
#ifndef HOLDFAST_TESTS_CLUSTER_H
#define HOLDFAST_TESTS_CLUSTER_H

#include "volume.h"
#include "world.h"

enum { CLUSTER_NODES_MAX = 8, CLIENT_REQUESTS = 24, CLIENT_BYTES_MAX = 24 << 10 };

struct cluster;
struct files_figures;

struct cluster_options {
	uint64_t seed;
	unsigned nodes;			/* 1.. */
	enum replication_mode mode;
	bool mixed;			/* modes[node][peer] counts instead: what writes of `node` wait for at `peer` */
	enum replication_mode modes[CLUSTER_NODES_MAX][CLUSTER_NODES_MAX];
	unsigned min_copies;
	enum commit_policy commit;
	unsigned commit_copies, commit_nodes;	/* of COMMIT_ANY: K, and a mask of the nodes that are named */
	uint32_t journal_block;		/* 512 or 4096 */
	uint64_t volume_bytes, journal_bytes;
	uint32_t segment_bytes;
	uint64_t memory_bytes;		/* 0: as little as is fun, some 600 pages of pool */
	uint64_t undo_bytes;		/* as of volume_config */
	bool resync_checksum;
	uint64_t resync_rate;
	enum split_policy split_policy;
	bool filesystem;		/* as of volume_config */
	bool files;			/* and clients work on files, and with nothing else */
	bool fall_out;			/* clients do not wait for nodes that are away: these fall out of the journal */
};
/* Drawn from the seed. */
struct cluster_options cluster_options_random(uint64_t seed, unsigned nodes);

/* The same, with files. */
void cluster_options_files(struct cluster_options *o);

struct cluster *cluster_new(const struct cluster_options *options);
void cluster_free(struct cluster *c);
struct world *cluster_world(struct cluster *c);
const char *cluster_node_name(unsigned node);
struct machine *cluster_machine(struct cluster *c, unsigned node);
struct volume *cluster_volume(struct cluster *c, unsigned node);	/* NULL while it is down */
/* 's'tore, 'j'ournal, 'm'eta, 'b'itmap; '0' and up: undo. */
int cluster_disk(struct cluster *c, unsigned node, char which);

/* Boots the machine if it is down and opens the volume. What open says is in *cluster_open_why(). */
void cluster_up(struct cluster *c, unsigned node);
const char *cluster_open_why(struct cluster *c, unsigned node);
int cluster_open_result(struct cluster *c, unsigned node);		/* 1: under way */
void cluster_crash(struct cluster *c, unsigned node, bool power);
/* Plans a crash at that disk op of the node (machine_disk_ops()); cluster_step() carries it out. */
void cluster_crash_at(struct cluster *c, unsigned node, uint64_t disk_op, bool power);

enum cluster_verb {
	CLUSTER_PROMOTE, CLUSTER_DEMOTE, CLUSTER_FAILOVER, CLUSTER_SWITCHOVER, CLUSTER_CLOSE,
};
/* Runs the call to its end (or @limit_ns). The result; -ETIMEDOUT; -ESHUTDOWN when the node is down. */
int cluster_call(struct cluster *c, unsigned node, enum cluster_verb verb, bool force, unsigned target,
		 uint64_t limit_ns);
const char *cluster_why(struct cluster *c);				/* of the last cluster_call() */

int cluster_primary(struct cluster *c);					/* index, or -1 */

/* Clients send @requests more, as many as CLIENT_REQUESTS at once, to whoever is primary. */
void cluster_load(struct cluster *c, uint64_t requests);
uint64_t cluster_load_left(struct cluster *c);
uint64_t cluster_acked(struct cluster *c);
/* Adds what happened with options.files. */
void cluster_files_figures(const struct cluster *c, struct files_figures *figures);

/* Before a node is opened its files are read as those of a stopped replica, and compared with what it shows then:
 * how often that was done, and how often ... */
struct cluster_looks {
	uint64_t compared;
	uint64_t replayed;		/* ... its log had to be redone */
	uint64_t ahead;			/* ... its log went on where an open does not show it */
	uint64_t snapshots;		/* ... it was in the midst of a resync, and readable, */
	uint64_t mixtures;		/* or not */
	uint64_t damaged;		/* ... neither could read it */
};
struct cluster_looks cluster_looks(const struct cluster *c);

/* One event, then the oracle looks. False: nothing is left to happen. */
bool cluster_step(struct cluster *c);
bool cluster_run_for(struct cluster *c, uint64_t ns);
/* What an operator does who watches: ends split brains (the primary is kept, if it is one of the two), drops
 * divergences before they fill all slots, has one promoted when nobody is primary. */
void cluster_operate(struct cluster *c);
/* One of the usual faults of @node (and of its link to @other), @what of CLUSTER_FAULTS, if @swarm has its bit: 1 kill,
 * 2 power, 4 cut both ways, 8 reset, 16 pause. False: @what is none of them. */
enum { CLUSTER_FAULTS = 7 };
bool cluster_fault(struct cluster *c, unsigned node, unsigned other, unsigned swarm, uint64_t what);
/* Links heal, nobody is paused, who is down comes up; what disks do stays. */
void cluster_mend(struct cluster *c);
/* All that a test can break is whole again, and all nodes are up or opening. */
void cluster_heal(struct cluster *c);
/* The node, whatever it does, gets new disks and starts anew. False: that would lose something; nothing was done. */
bool cluster_replace(struct cluster *c, unsigned node);
/* Heals, has a node promoted if none is primary, and runs until the load is answered and all nodes show the same log;
 * then looks at every block of each. */
void cluster_settle(struct cluster *c);
/* Settles; then closes all and compares every store with the lineage. */
void cluster_converge(struct cluster *c);
/* All that is known of an open node against the lineage, and every block of it. */
void cluster_check_all(struct cluster *c, unsigned node);
/* Compares a closed node's store with the lineage, and all that it has kept. */
void cluster_check_store(struct cluster *c, unsigned node);
__attribute__((noreturn, format(printf, 2, 3))) void cluster_breach(struct cluster *c, const char *format, ...);

#endif
