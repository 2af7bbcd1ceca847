/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a cluster:
 *
 *	cluster.c		nodes, clients, time
 *	cluster_operator.c	what mends, and who decides: replaced disks, split brain, promotion; the end
 *	cluster_oracle.c	what nodes show, against the lineage (P2, P3, P5)
 *	cluster_cover.c		what they must still have, or have kept (P1)
 *	cluster_stopped.c	what the files of a node that is down show to who only reads them
 *	node_files.c		the filesystem on them, against a model of POSIX
 */
#ifndef HOLDFAST_TESTS_CLUSTER_INSIDE_H
#define HOLDFAST_TESTS_CLUSTER_INSIDE_H

#include "cluster.h"
#include "lineage.h"
#include "node_files.h"
#include "volume_private.h"

enum { KEPT_MAX = 64, NODE_DISKS = 4 + UNDO_SLOTS };

/* What a node must have: that branch up to that LSN. NULL: nothing. */
struct cover { struct branch *branch; uint64_t lsn; };

/* What was given up, and must be found in a divergence until that is dropped. */
struct kept { struct branch *branch; uint64_t lsn, divergence; };

struct node {
	struct cluster *cluster;
	unsigned index;
	struct machine *machine;
	int disks[NODE_DISKS];		/* store, journal, meta, bitmap, undo */
	struct volume *volume;
	struct volume_call open;
	int open_result;
	uint64_t open_ns;		/* world's time when it was opened */
	bool planned_power;
	bool rotten;			/* a test changed its store: what it shows is not looked at */
	uint64_t solid;			/* durable in its journal when it was last seen */
	bool force;			/* its last promotion was */
	bool fresh;			/* its disks were replaced, and the cluster has not settled since */

	struct branch *branch;		/* the last epoch of its history */
	struct branch *primary_of;	/* that it was last seen to be primary of */
	struct branch *shown;		/* on which what readers see lies: `branch`, but during a resync */
	bool resyncing;			/* its store is a mixture */
	uint64_t applied_seen;
	/* Acknowledged while it had to have it: in memory, in its journal, durable there. */
	struct cover received, written, flushed;
	struct kept kept[KEPT_MAX];
	unsigned kept_count;
	uint64_t closed_applied;	/* what a clean stop has brought into the store */
	struct stopped_look *looks;	/* at its files before it was opened; NULL: none that is still to be compared */
	struct node_files *files;	/* with options.files, as long as there is a volume */
};

struct client {
	struct cluster *cluster;
	struct volume_request request;
	uint8_t *buffer;
	bool busy;
	unsigned node;
};

struct cluster {
	struct cluster_options options;
	struct world *world;
	struct node nodes[CLUSTER_NODES_MAX];
	struct client clients[CLIENT_REQUESTS];
	uint64_t load_left, acked;
	uint64_t still_since, still_events;	/* time, and how many events have run since it moved */
	uint64_t newest_number;		/* of all epochs that had a primary */
	struct cluster_looks looked;
	struct volume_call call;
	bool call_busy;
	unsigned call_node;
	int call_result;
	struct lineage *lineage;
	struct files_history *files;
};

/* cluster.c */
extern const char *const cluster_node_names[CLUSTER_NODES_MAX];
/* What writes of @node wait for at @peer. */
enum replication_mode cluster_mode(const struct cluster *c, unsigned node, unsigned peer);
bool cluster_is_primary(const struct node *n);
/* As cluster_call(), for any call of the volume: @call says all but its done(). */
int cluster_command(struct cluster *c, unsigned node, void (*verb)(struct volume *v, struct volume_call *call),
		    const struct volume_call *call, uint64_t limit_ns);
void node_format(struct cluster *c, struct node *n);

/* cluster_oracle.c */
struct files_view oracle_files_view(struct node *n);
void oracle_observe(struct cluster *c);
void oracle_acked(struct cluster *c, const struct client *client);
void oracle_crashed(struct cluster *c, struct node *n, bool power);
void oracle_check_some(struct cluster *c);

/* cluster_cover.c */
/* A write, or a flush, was acknowledged up to @lsn by node @n, which is primary. */
void cover_acked(struct node *n, uint64_t lsn, bool flushed);
void cover_crashed(struct node *n, bool power);
/* @opener opens epoch @b. */
void cover_epoch(struct cluster *c, struct node *opener, const struct branch *b);
/* An open node has what it must have, or has kept it. */
void cover_check(struct cluster *c, struct node *n);
/* Every byte of what was kept. The node's store and undo are at rest. */
void cover_check_kept(struct cluster *c, struct node *n);
/* Nobody asks for it any more: its disks were replaced; the operator has dropped a divergence. */
void cover_forget(struct node *n);
void cover_forget_divergence(struct node *n, uint64_t id);

/* cluster_stopped.c */
/* The node is up, and nothing was opened yet: what do its files show? */
void stopped_look(struct cluster *c, struct node *n);
/* The open is over: it shows the same, or refuses what could not be looked at. */
void stopped_opened(struct cluster *c, struct node *n, int result);
/* The history of the open node is in the lineage: each block that was seen is what that makes. */
void stopped_compare(struct cluster *c, struct node *n);
void stopped_forget(struct node *n);

#endif
