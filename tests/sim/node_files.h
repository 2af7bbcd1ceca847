/* SPDX-License-Identifier: Apache-2.0 */
/* The filesystem on the nodes of a cluster (options.files): operations of clients, and what each node shows. How it is
 * judged is told in node_files.c. This header and that file know nothing of the inside of a node. */
#ifndef HOLDFAST_TESTS_NODE_FILES_H
#define HOLDFAST_TESTS_NODE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "io.h"

struct branch;
struct cluster;
struct volume;
struct node_files;
struct files_history;

/* Where a node is, as the oracle knows it. */
struct files_view {
	const struct branch *branch;	/* its last epoch, */
	uint64_t end;			/* and the end of its log; */
	const struct branch *shown;	/* what readers see: on this branch, */
	uint64_t lsn;			/* up to here */
};

struct files_figures {
	uint64_t operations, walks;
	uint64_t within;		/* records in the middle of an operation */
	uint64_t adopted;		/* files that were found between old and new */
};

/* What happened to the filesystem of one cluster. */
struct files_history *files_history_new(void);
void files_history_free(struct files_history *h);
void files_history_figures(const struct files_history *h, struct files_figures *figures);

/* Of a volume that is new. */
struct node_files *node_files_new(struct files_history *h, struct cluster *c, unsigned node, struct volume *v,
				  struct io *io);
/* The volume is about to be closed, or @crashed. NULL: nothing. */
void node_files_free(struct node_files *nf, bool crashed);

/* Some of an operation: it is primary of view->branch. True: there may be something to be acknowledged. */
bool node_files_play(struct node_files *nf, const struct files_view *view);
/* Some of a walk through what it shows, which the oracle says can be read. */
void node_files_look(struct node_files *nf, const struct files_view *view);
/* A walk has seen just this. */
bool node_files_walked(const struct node_files *nf, const struct files_view *view);
/* At rest: all of it is whole; what nobody can reach any more is freed. They take steps of the cluster. */
void node_files_check(struct node_files *nf);
void node_files_reclaim(struct node_files *nf);

#endif
