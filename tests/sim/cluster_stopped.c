/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a node that is down, read as those of a stopped replica (blk/stopped.h), against the same node once it
 * is open: both views end where they must, and each block is what the lineage makes of its history up to there. That
 * the open node shows what the lineage makes is the oracle's business. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "cluster_inside.h"
#include "stopped.h"

enum { VIEWS = 2 };	/* STOPPED_LOG, STOPPED_OPEN */

struct stopped_look {
	int result[VIEWS];
	char why[WHY_BYTES];
	struct stopped_status status[VIEWS];
	uint8_t (*sums[VIEWS])[HASH_BYTES];	/* of each block */
};

struct reader {
	struct stopped_files files;
	struct io io;
	struct node *node;
};

static int disk_read(struct stopped_files *files, unsigned file, uint64_t offset, void *out, size_t len)
{
	struct reader *r = container_of(files, struct reader, files);
	int disk = r->node->disks[file < STOPPED_UNDO ? file : file - STOPPED_UNDO + 4];

	if (offset > machine_disk_size(r->node->machine, disk) ||
	    len > machine_disk_size(r->node->machine, disk) - offset)
		return -EIO;
	memcpy(out, machine_disk_data(r->node->machine, disk) + offset, len);
	return 0;
}

static void *heap_alloc(struct io *io, size_t bytes, unsigned flags)
{
	(void)io;
	(void)flags;
	return calloc(1, bytes);
}

static void heap_free(struct io *io, void *memory)
{
	(void)io;
	free(memory);
}

static void look_at(struct cluster *c, struct reader *r, enum stopped_view view, struct stopped_look *look)
{
	const struct stopped_options options = { .view = view };
	uint64_t count = c->options.volume_bytes / BLOCK_BYTES;
	static uint8_t page[BLOCK_BYTES];
	struct stopped *s;

	look->result[view] = stopped_new(&s, &r->io, &r->files, &options, look->why);
	if (look->result[view])
		return;
	look->sums[view] = malloc(count * HASH_BYTES);
	stopped_status(s, &look->status[view]);
	for (uint64_t block = 0; block < count; block++) {
		if (stopped_read(s, block, 1, page))
			cluster_breach(c, "stopped: node %s, block %llu: %s", cluster_node_names[r->node->index],
				       (unsigned long long)block, stopped_why(s));
		checksum_hash(page, BLOCK_BYTES, look->sums[view][block]);
	}
	stopped_free(s);
}

void stopped_look(struct cluster *c, struct node *n)
{
	struct reader r = { .files.read = disk_read, .io = { .alloc = heap_alloc, .free = heap_free }, .node = n };

	stopped_forget(n);
	if (n->rotten)
		return;
	n->looks = calloc(1, sizeof *n->looks);
	for (unsigned view = 0; view < VIEWS; view++)
		look_at(c, &r, view, n->looks);
	if (n->looks->result[STOPPED_LOG] != n->looks->result[STOPPED_OPEN])
		cluster_breach(c, "stopped: node %s can be read in one view only: %s", cluster_node_names[n->index],
			       n->looks->why);
}

void stopped_forget(struct node *n)
{
	for (unsigned view = 0; n->looks && view < VIEWS; view++)
		free(n->looks->sums[view]);
	free(n->looks);
	n->looks = NULL;
}

/* Where each view must end, now that the node is open. */
static void ends_check(struct cluster *c, struct node *n, const struct stopped_look *look)
{
	const struct stopped_status *log = &look->status[STOPPED_LOG], *open = &look->status[STOPPED_OPEN];
	const struct volume *v = n->volume;
	bool running = resync_running(v);
	uint64_t shown = running ? from_le64(v->sink.slot->header.lsn) : v->applied;
	uint64_t end = running ? shown : v->log.closed.lsn;

	if (open->resync != running || log->resync != running)
		cluster_breach(c, "stopped: node %s is%s in the midst of a resync, and its files say otherwise",
			       cluster_node_names[n->index], running ? "" : " not");
	if (open->lsn != shown || log->lsn != end)
		cluster_breach(c, "stopped: the files of node %s show LSN %llu, and %llu with all of the log; open, it "
			       "shows %llu, and its log ends at %llu", cluster_node_names[n->index],
			       (unsigned long long)open->lsn, (unsigned long long)log->lsn, (unsigned long long)shown,
			       (unsigned long long)end);
	if (!running && (log->history.count != v->history.count ||
			 memcmp(log->history.epochs, v->history.epochs,
				v->history.count * sizeof v->history.epochs[0])))
		cluster_breach(c, "stopped: the files of node %s have another history than it has open",
			       cluster_node_names[n->index]);
	c->looked.compared++;
	c->looked.snapshots += running;
	c->looked.ahead += log->lsn > open->lsn;
	c->looked.replayed += !running && log->lsn > v->meta.tail.lsn;
}

void stopped_opened(struct cluster *c, struct node *n, int result)
{
	struct stopped_look *look = n->looks;

	if (!look)
		return;
	if (result == 0 && look->result[STOPPED_OPEN] == 0) {
		ends_check(c, n, look);
		return;
	}
	if (result == 0 && (!resync_running(n->volume) || resync_readable(n->volume)))
		cluster_breach(c, "stopped: node %s opened, and its files could not be read: %s",
			       cluster_node_names[n->index], look->why);
	c->looked.mixtures += result == 0;
	c->looked.damaged += result == -EBADMSG && look->result[STOPPED_OPEN] < 0;
	stopped_forget(n);
}

void stopped_compare(struct cluster *c, struct node *n)
{
	struct stopped_look *look = n->looks;

	for (unsigned view = 0; view < VIEWS && look->result[view] == 0; view++) {
		const struct stopped_status *s = &look->status[view];
		const struct epoch_entry *last = history_last(&s->history);
		const struct branch *branch = last ? lineage_find(c->lineage, last) : NULL;
		struct position at;

		if (last && !branch)
			cluster_breach(c, "stopped: the files of node %s name an epoch that nobody began",
				       cluster_node_names[n->index]);
		if (!path_at(branch, s->lsn, &at))
			cluster_breach(c, "stopped: the files of node %s show LSN %llu, which is no place of its log",
				       cluster_node_names[n->index], (unsigned long long)s->lsn);
		for (uint64_t block = 0; block < c->options.volume_bytes / BLOCK_BYTES; block++) {
			uint8_t want[BLOCK_BYTES], sum[HASH_BYTES];

			path_block(branch, s->lsn, block, want);
			checksum_hash(want, BLOCK_BYTES, sum);
			if (memcmp(sum, look->sums[view][block], HASH_BYTES))
				cluster_breach(c, "stopped: block %llu in the files of node %s is not what the log up "
					       "to LSN %llu makes", (unsigned long long)block,
					       cluster_node_names[n->index], (unsigned long long)s->lsn);
		}
	}
	stopped_forget(n);
}

struct cluster_looks cluster_looks(const struct cluster *c) { return c->looked; }
