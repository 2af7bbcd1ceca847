/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by cluster.c (nodes, clients, time) and cluster_oracle.c (what must hold). */
#ifndef HOLDFAST_TESTS_CLUSTER_INSIDE_H
#define HOLDFAST_TESTS_CLUSTER_INSIDE_H

#include "cluster.h"
#include "volume_private.h"

/* A record of the lineage; its bytes are a copy. */
struct entry { uint64_t lsn, end; uint8_t hash_after[HASH_BYTES]; struct record_header *record; };

struct node {
	struct cluster *cluster;
	unsigned index;
	struct machine *machine;
	int store, journal, meta, bitmap, undo[UNDO_SLOTS];
	unsigned disk_count;
	struct volume *volume;
	struct volume_call open;
	int open_result;
	uint64_t cover_flushed, cover_acked;	/* acknowledged while this node had to have it */
	uint64_t epoch_seen, applied_seen;
	bool planned_power;
	uint64_t solid;			/* durable in its journal when it was last seen */
	uint64_t received, written, durable, applied;	/* the most that it ever had of the lineage */
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
	uint8_t newest_uuid[UUID_BYTES];
	uint64_t any_acked, any_flushed;	/* acknowledged because some K of the named nodes had it */
	struct volume_call call;
	bool call_busy;
	unsigned call_node;
	int call_result;

	struct entry *lineage;
	uint64_t count, room;
	uint8_t *image;			/* the volume after the first `image_at` entries */
	uint64_t image_at;
};

/* What writes of @node wait for at @peer. */
enum replication_mode cluster_mode(const struct cluster *c, unsigned node, unsigned peer);
void lineage_cut(struct cluster *c, uint64_t lsn);
void oracle_observe(struct cluster *c);
void oracle_acked(struct cluster *c, const struct client *client);
void oracle_crashed(struct cluster *c, struct node *n, bool power);
void oracle_check_some(struct cluster *c);

#endif
