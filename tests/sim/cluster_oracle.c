/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes show, against the lineage. After every event:
 *
 *	follow		the epochs of a node's history: one that nobody knew is a new branch
 *	grow		a branch takes the records that its primary has appended
 *	opened		a new primary: P1 (cover_epoch), P5
 * and every few events, of each node: its log is the path that its history names; what it believes to be durable is,
 * and the store is given no more than that; it shows no more than it may; a block drawn by chance holds what the path
 * makes of it. */
#include <errno.h>
#include <string.h>

#include "cluster_inside.h"

#define NAME(n) cluster_node_names[(n)->index]

/* ---- follow ---- */

/* The branch of a node's last epoch; the new ones of its history are made. */
static struct branch *branch_of(struct cluster *c, struct node *n)
{
	const struct history *h = &n->volume->history;
	struct branch *b = NULL;
	uint32_t known = h->count;

	while (known > 0 && !(b = lineage_find(c->lineage, &h->epochs[known - 1])))
		known--;
	for (const struct branch *at = b; at && known > 1; at = at->parent, known--)
		if (!at->parent || memcmp(at->parent->epoch.uuid, h->epochs[known - 2].uuid, UUID_BYTES))
			cluster_breach(c, "P2: node %s has epoch %llu in its history, which did not begin in the one "
				       "before it", NAME(n), (unsigned long long)from_le64(at->epoch.number));
	for (known = h->count; known > 0 && !lineage_find(c->lineage, &h->epochs[known - 1]); known--)
		;
	for (; known < h->count; known++) {
		const struct epoch_entry *epoch = &h->epochs[known];
		struct position at;

		if (!path_at(b, from_le64(epoch->start), &at) || memcmp(at.hash, epoch->hash, HASH_BYTES))
			cluster_breach(c, "P2: epoch %llu of node %s begins inside a record, or at another one's place",
				       (unsigned long long)from_le64(epoch->number), epoch->node);
		b = lineage_add(c->lineage, b, epoch);
		b->forced = n->force;
	}
	return b;
}

/* During a resync readers see the volume as it was before, and the store is a mixture. */
static void look_for_resync(struct node *n)
{
	n->resyncing = resync_running(n->volume);
	if (!n->resyncing)
		n->shown = n->branch;
}

static void follow(struct cluster *c, struct node *n)
{
	const struct epoch_entry *last = history_last(&n->volume->history);

	if (!last && !n->branch)
		return;
	if (!last)
		n->branch = NULL;
	else if (n->branch && memcmp(n->branch->epoch.uuid, last->uuid, UUID_BYTES) == 0)
		return;
	else
		n->branch = branch_of(c, n);
	look_for_resync(n);
}

/* ---- grow ---- */

/* In memory; or in the journal's file, when its node died in the very turn that appended it. */
static const struct record_header *record_at(struct cluster *c, struct node *n, const struct position *at)
{
	const struct volume *v = n->volume;
	const struct geometry *g = &v->geometry;
	const struct record_header *r;

	if (at->lsn >= v->log.start)
		return log_record(&v->log, at->lsn);
	r = (const void *)(machine_disk_data(n->machine, cluster_disk(c, n->index, 'j')) + journal_place(g, at->lsn));
	if (record_look(r, g->segment_bytes - at->lsn % g->segment_bytes, at, g) != RECORD_GOOD)
		cluster_breach(c, "P2: node %s has log at LSN %llu that does not follow its own", NAME(n),
			       (unsigned long long)at->lsn);
	return r;
}

static void grow(struct cluster *c, struct node *n)
{
	struct branch *b = n->branch;

	if (resync_sink_moves_log(n->volume))
		return;		/* the log is not yet that of its history */
	while (b && b->end < n->volume->log.end.lsn && strcmp(b->epoch.node, n->volume->geometry.node) == 0) {
		struct position at = branch_end(b);

		branch_append(b, record_at(c, n, &at));
	}
}

/* ---- opened ---- */

/* What its meta would say after a loss of power. */
static struct meta durable_meta(const struct node *n)
{
	static struct history history;
	struct meta m = { .geometry = &n->volume->geometry, .history = &history };
	char why[WHY_BYTES];

	if (meta_load(&m, machine_disk_durable(n->machine, n->disks[2]), why))
		m = (struct meta){ 0 };
	return m;
}

static void opened(struct cluster *c, struct node *n)
{
	unsigned long long number = from_le64(n->branch->epoch.number);

	n->primary_of = n->branch;
	if (strcmp(n->branch->epoch.node, n->volume->geometry.node))
		cluster_breach(c, "P5: node %s is primary in epoch %llu, which is not its own", NAME(n), number);
	if (durable_meta(n).promised < number)
		cluster_breach(c, "P5: node %s opens epoch %llu, and has not promised so durably", NAME(n), number);
	if (n->volume->journal.durable <= n->branch->start)
		cluster_breach(c, "P5: node %s is primary and the record of its epoch %llu is not durable", NAME(n),
			       number);
	cover_epoch(c, n, n->branch);
}

void oracle_observe(struct cluster *c)
{
	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];
		struct volume *v = n->volume;

		if (!v || (v->state != VOLUME_OPEN && v->state != VOLUME_CLOSING))
			continue;
		follow(c, n);
		grow(c, n);
		if (n->looks && n->open_result == 0)
			stopped_compare(c, n);
		if (v->role != ROLE_PRIMARY)
			continue;
		/* It shows all it has, and may keep that when it stops to be primary (its batch is closed then). */
		n->applied_seen = v->log.end.lsn + 2 * BLOCK_BYTES;
		if (n->primary_of != n->branch)
			opened(c, n);
	}
}

/* ---- requests ---- */

/* The block as the node's readers see it now. */
static const uint8_t *peek(struct node *n, uint64_t block)
{
	static const uint8_t zeros[BLOCK_BYTES];
	const struct volume *v = n->volume;
	const struct page *page = pool_find(&v->pool, block);

	if (n->resyncing && bitmap_test(&v->sink.slot->saved, block))
		return machine_disk_data(n->machine, v->sink.slot->file) + undo_block_offset(&v->undo, block);
	if (n->resyncing)
		return machine_disk_data(n->machine, n->disks[0]) + block * BLOCK_BYTES;
	if (page && page->state != PAGE_LOADING)
		return page->data;
	if (!page && pool_in_hole(&n->volume->pool, block))
		return zeros;
	return machine_disk_data(n->machine, n->disks[0]) + block * BLOCK_BYTES;
}

static void read_check(struct cluster *c, struct node *n, const struct volume_request *r)
{
	const uint8_t *have = r->buffer + r->offset % BLOCK_BYTES;
	struct position at;

	if (n->rotten)
		return;
	if (!path_at(n->shown, r->lsn, &at))
		cluster_breach(c, "P2: a read of node %s is as of LSN %llu, which is no place of its log", NAME(n),
			       (unsigned long long)r->lsn);
	for (uint64_t block = r->offset / BLOCK_BYTES; block * BLOCK_BYTES < r->offset + r->len; block++) {
		uint64_t from = max_u64(block * BLOCK_BYTES, r->offset);
		uint64_t to = min_u64((block + 1) * BLOCK_BYTES, r->offset + r->len);
		uint8_t want[BLOCK_BYTES];

		path_block(n->shown, r->lsn, block, want);
		if (memcmp(want + from % BLOCK_BYTES, have + (from - r->offset), to - from))
			cluster_breach(c, "P2: a read of %llu bytes at %llu returned other bytes than node %s had at "
				       "LSN %llu", (unsigned long long)r->len, (unsigned long long)r->offset, NAME(n),
				       (unsigned long long)r->lsn);
	}
}

void oracle_acked(struct cluster *c, const struct client *client)
{
	const struct volume_request *r = &client->request;
	struct node *n = &c->nodes[client->node];

	c->acked++;
	oracle_observe(c);
	look_for_resync(n);
	if (r->op == VOLUME_READ)
		read_check(c, n, r);
	else if (n->volume->role == ROLE_PRIMARY)
		cover_acked(n, r->lsn, r->op == VOLUME_FLUSH || (r->flags & VOLUME_FUA));
}

void oracle_crashed(struct cluster *c, struct node *n, bool power)
{
	(void)c;
	n->applied_seen = 0;
	n->primary_of = NULL;
	n->resyncing = false;
	cover_crashed(n, power);
}

/* ---- what a node shows ---- */

static void check_block(struct cluster *c, struct node *n, uint64_t block)
{
	uint8_t want[BLOCK_BYTES];
	const uint8_t *have = peek(n, block);
	unsigned at = 0;

	/* Readers of a page that is ahead have to wait. */
	if (n->rotten || fetch_ahead(n->volume, block, block + 1))
		return;
	path_block(n->shown, n->resyncing ? from_le64(n->volume->sink.slot->header.lsn) : n->volume->applied, block,
		   want);
	if (memcmp(have, want, BLOCK_BYTES) == 0)
		return;
	while (have[at] == want[at])
		at++;
	cluster_breach(c, "P2: node %s, block %llu, byte %u: not what the log up to its applied LSN %llu makes",
		       NAME(n), (unsigned long long)block, at, (unsigned long long)n->volume->applied);
}

/* The same, as a filesystem on the volume sees it. */
static void check_page(struct cluster *c, struct node *n, uint64_t block)
{
	struct blocks *blocks = volume_blocks(n->volume);
	uint8_t want[BLOCK_BYTES];
	const uint8_t *have;
	int result;

	if (!blocks || n->rotten)
		return;
	result = blocks->read(blocks, block, &have);
	path_block(n->shown, n->resyncing ? from_le64(n->volume->sink.slot->header.lsn) : n->volume->applied, block,
		   want);
	if (!result && memcmp(have, want, BLOCK_BYTES) != 0)
		cluster_breach(c, "P2: node %s, page %llu: not what the log up to its applied LSN %llu makes", NAME(n),
			       (unsigned long long)block, (unsigned long long)n->volume->applied);
	if (result && result != -EAGAIN && result != -EIO)
		cluster_breach(c, "node %s: a page could not be read: %d", NAME(n), result);
	blocks->abort(blocks);
}

struct files_view oracle_files_view(struct node *n)
{
	const struct volume *v = n->volume;

	look_for_resync(n);
	return (struct files_view){ .branch = n->branch, .end = v->log.end.lsn, .shown = n->shown,
				    .lsn = n->resyncing ? from_le64(v->sink.slot->header.lsn) : v->applied };
}

static void check_log(struct cluster *c, struct node *n)
{
	const struct volume *v = n->volume;
	const struct epoch_entry *last = history_last(&v->history);
	struct position at;

	if (resync_sink_moves_log(v))
		return;		/* its history is ahead of its log, for a moment */
	if (last && from_le64(last->start) >= v->log.end.lsn)
		cluster_breach(c, "P2: node %s knows an epoch that is not in its log", NAME(n));
	if (!path_at(n->branch, v->log.closed.lsn, &at) || memcmp(at.hash, v->log.closed.hash, HASH_BYTES))
		cluster_breach(c, "P2: the log of node %s ends at LSN %llu, no place of what its history names",
			       NAME(n), (unsigned long long)v->log.closed.lsn);
	if (n->resyncing && resync_readable(v) &&
	    (!path_at(n->shown, from_le64(v->sink.slot->header.lsn), &at) ||
	     memcmp(at.hash, v->sink.slot->header.hash, HASH_BYTES)))
		cluster_breach(c, "P2: node %s shows LSN %llu during its resync, which was no place of its log",
			       NAME(n), (unsigned long long)from_le64(v->sink.slot->header.lsn));
	if (!n->resyncing && !path_at(n->shown, v->applied, &at))
		cluster_breach(c, "P2: node %s shows LSN %llu, which is no place of its log", NAME(n),
			       (unsigned long long)v->applied);
}

/* A record drawn by chance, of those that are durable and not overwritten. */
static void check_journal(struct cluster *c, struct node *n, uint64_t from, uint64_t to)
{
	const struct record_header *r = path_record(n->branch, from + world_random_below(c->world, to - from));
	const uint8_t *durable = machine_disk_durable(n->machine, n->disks[1]);

	if (r && from_le64(r->lsn) >= from && from_le64(r->lsn) + record_length(r) <= to &&
	    memcmp(durable + journal_place(&n->volume->geometry, from_le64(r->lsn)), r, record_wire_length(r)))
		cluster_breach(c, "P1: node %s takes its journal from LSN %llu to %llu for durable; the record at %llu "
			       "is not", NAME(n), (unsigned long long)from, (unsigned long long)to,
			       (unsigned long long)from_le64(r->lsn));
}

/* What a node believes of its own disks is true, whenever the power goes. */
static void check_disks(struct cluster *c, struct node *n)
{
	const struct volume *v = n->volume;
	struct meta meta = durable_meta(n);
	struct position at;

	if (resync_sink_moves_log(v))
		return;		/* meta knows of a log that begins anew, and the journal does not yet */
	if (v->journal.tail > meta.tail.lsn)
		cluster_breach(c, "P1: node %s gives its journal up to LSN %llu back; a replay would begin at %llu",
			       NAME(n), (unsigned long long)v->journal.tail, (unsigned long long)meta.tail.lsn);
	if (!path_at(n->branch, meta.reach, &at) || !path_at(n->branch, meta.durable, &at))
		cluster_breach(c, "P2: meta of node %s speaks of LSNs %llu and %llu: one is in the middle of a record",
			       NAME(n), (unsigned long long)meta.reach, (unsigned long long)meta.durable);
	if (v->meta.saved_reach > meta.reach)
		cluster_breach(c, "P2: node %s takes reach %llu for durable; it is %llu", NAME(n),
			       (unsigned long long)v->meta.saved_reach, (unsigned long long)meta.reach);
	if (meta.reach > v->journal.durable)
		cluster_breach(c, "P2: the store of node %s may hold LSN %llu, and its journal is durable up to %llu",
			       NAME(n), (unsigned long long)meta.reach, (unsigned long long)v->journal.durable);
	for (uint32_t i = 0; i < v->destage.stage_count; i++) {
		const struct destage_stage *s = &v->destage.stages[i];

		if (s->op.in_flight && (s->lsn > meta.reach || s->lsn > v->journal.durable))
			cluster_breach(c, "P2: node %s gives its store LSN %llu; reach is %llu, its journal durable up "
				       "to %llu", NAME(n), (unsigned long long)s->lsn, (unsigned long long)meta.reach,
				       (unsigned long long)v->journal.durable);
	}
	if (v->journal.durable > meta.tail.lsn)
		check_journal(c, n, meta.tail.lsn, v->journal.durable);
}

static void check_node(struct cluster *c, struct node *n)
{
	struct volume *v = n->volume;
	uint64_t allowed = max_u64(n->applied_seen, min_u64(v->commit, v->journal.written));

	look_for_resync(n);
	check_log(c, n);
	cover_check(c, n);
	if (!v->failed)
		check_disks(c, n);
	/* Who was primary has applied more than was committed, and so has who failed on the way to it; nobody goes
	 * further than that. */
	if (v->role == ROLE_SECONDARY && !v->failed && v->change.step == ROLE_STEP_NONE && !n->resyncing &&
	    v->applied > allowed)
		cluster_breach(c, "P2: node %s shows LSN %llu, which is not committed, or not in its journal",
			       NAME(n), (unsigned long long)v->applied);
	n->applied_seen = max_u64(n->applied_seen, v->applied);
	if (n->resyncing && !resync_readable(v))
		return;
	check_block(c, n, world_random_below(c->world, c->options.volume_bytes / BLOCK_BYTES));
	if (n->files && !n->rotten && world_random_below(c->world, 8) == 0) {
		struct files_view view = oracle_files_view(n);

		node_files_look(n->files, &view);
	}
	if (c->options.filesystem && world_random_below(c->world, 8) == 0)
		check_page(c, n, world_random_below(c->world, c->options.volume_bytes / BLOCK_BYTES));
}

void oracle_check_some(struct cluster *c)
{
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (c->nodes[i].volume && c->nodes[i].volume->state == VOLUME_OPEN)
			check_node(c, &c->nodes[i]);
}

void cluster_check_all(struct cluster *c, unsigned node)
{
	struct node *n = &c->nodes[node];

	oracle_observe(c);
	check_node(c, n);
	for (uint64_t block = 0; block < c->options.volume_bytes / BLOCK_BYTES; block++)
		check_block(c, n, block);
}

void cluster_check_store(struct cluster *c, unsigned node)
{
	struct node *n = &c->nodes[node];
	const uint8_t *data = machine_disk_data(n->machine, n->disks[0]);
	const uint8_t *durable = machine_disk_durable(n->machine, n->disks[0]);

	for (uint64_t block = 0; block < c->options.volume_bytes / BLOCK_BYTES; block++) {
		uint8_t want[BLOCK_BYTES];

		path_block(n->shown, n->closed_applied, block, want);
		if (memcmp(want, data + block * BLOCK_BYTES, BLOCK_BYTES))
			cluster_breach(c, "P3: the store of node %s is not what the log makes, in block %llu", NAME(n),
				       (unsigned long long)block);
		if (memcmp(want, durable + block * BLOCK_BYTES, BLOCK_BYTES))
			cluster_breach(c, "P1: block %llu of the store of node %s is not durable after a clean stop",
				       (unsigned long long)block, NAME(n));
	}
	cover_check_kept(c, n);
}
