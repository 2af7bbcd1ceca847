/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "cluster_inside.h"

/* ---- lineage ------------------------------------------------------------------------------------------ */

void lineage_cut(struct cluster *c, uint64_t lsn)
{
	while (c->count && c->lineage[c->count - 1].end > lsn)
		free(c->lineage[--c->count].record);
	if (c->image_at > c->count) {
		memset(c->image, 0, c->options.volume_bytes);
		c->image_at = 0;
	}
}

static uint64_t lineage_end(const struct cluster *c)
{
	return c->count ? c->lineage[c->count - 1].end : 0;
}

static void lineage_add(struct cluster *c, const struct record_header *r)
{
	struct entry *e;
	struct position after;

	if (c->count == c->room) {
		c->room = c->room ? c->room * 2 : 1024;
		c->lineage = realloc(c->lineage, c->room * sizeof *c->lineage);
	}
	record_next(r, &after);
	e = &c->lineage[c->count++];
	e->lsn = from_le64(r->lsn);
	e->end = after.lsn;
	memcpy(e->hash_after, after.hash, HASH_BYTES);
	e->record = malloc(record_wire_length(r));
	memcpy(e->record, r, record_wire_length(r));
}

/* Index of the first entry that ends above @lsn. */
static uint64_t lineage_at(const struct cluster *c, uint64_t lsn)
{
	uint64_t low = 0, high = c->count;

	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (c->lineage[middle].end <= lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Applies a record to the part [from, to) of an image that starts at volume offset @from. */
static void replay(const struct record_header *r, uint8_t *bytes, uint64_t from, uint64_t to)
{
	const struct record_delta *d = record_deltas(r);
	const uint8_t *payload = record_payload(r);

	if (from_le16(r->kind) != RECORD_DATA)
		return;
	for (uint32_t i = 0; i < from_le32(r->delta_count); i++) {
		uint64_t offset = from_le64(d[i].offset), end = offset + from_le32(d[i].length);
		uint64_t a = max_u64(offset, from), b = min_u64(end, to);
		bool data = from_le16(d[i].kind) == DELTA_DATA;

		if (a < b && data)
			memcpy(bytes + (a - from), payload + (a - offset), b - a);
		else if (a < b)
			memset(bytes + (a - from), 0, b - a);
		if (data)
			payload += end - offset;
	}
}

/* The bytes of the volume [from, from + len) as of @lsn. Kept forward: the image follows the slowest looker. */
static void lineage_bytes(struct cluster *c, uint64_t lsn, uint64_t from, uint64_t len, uint8_t *out)
{
	uint64_t to = lineage_at(c, lsn), start = c->image_at;

	if (start > to) {
		memset(out, 0, len);
		start = 0;
	} else {
		memcpy(out, c->image + from, len);
	}
	for (uint64_t i = start; i < to; i++)
		replay(c->lineage[i].record, out, from, from + len);
}

static void image_forward(struct cluster *c, uint64_t lsn)
{
	uint64_t to = lineage_at(c, lsn);

	for (; c->image_at < to; c->image_at++)
		replay(c->lineage[c->image_at].record, c->image, 0, c->options.volume_bytes);
}

/* ---- P1: what a new epoch must begin with -------------------------------------------------------------- */

/* What its meta would say after a loss of power. */
static uint64_t promised_durably(struct node *n)
{
	static struct history history;
	struct meta m = { .geometry = &n->volume->geometry, .history = &history };
	char why[WHY_BYTES];

	return meta_load(&m, machine_disk_durable(n->machine, n->meta), why) ? 0 : m.promised;
}

static void epoch_opened(struct cluster *c, struct node *n, const struct epoch_entry *epoch)
{
	uint64_t start = from_le64(epoch->start);

	if (start < n->cover_flushed)
		cluster_breach(c, "P1: node %u opens epoch %llu at LSN %llu, a flush was acknowledged up to %llu",
			       n->index, (unsigned long long)from_le64(epoch->number), (unsigned long long)start,
			       (unsigned long long)n->cover_flushed);
	if (start < n->cover_acked)
		cluster_breach(c, "P1: node %u opens epoch %llu at LSN %llu, a write was acknowledged up to %llu",
			       n->index, (unsigned long long)from_le64(epoch->number), (unsigned long long)start,
			       (unsigned long long)n->cover_acked);
	/* Whoever is not forced has asked everybody, so also one of the K that had it. */
	if (!c->call.force && start < max_u64(c->any_flushed, c->any_acked))
		cluster_breach(c, "P1: node %u opens epoch %llu at LSN %llu; K of the named nodes had writes up to "
			       "%llu, flushes up to %llu", n->index, (unsigned long long)from_le64(epoch->number),
			       (unsigned long long)start, (unsigned long long)c->any_acked,
			       (unsigned long long)c->any_flushed);
	if (promised_durably(n) < from_le64(epoch->number))
		cluster_breach(c, "P5: node %u opens epoch %llu, and has not promised so durably", n->index,
			       (unsigned long long)from_le64(epoch->number));
	if (n->volume->journal.durable <= start)
		cluster_breach(c, "P5: node %u is primary and the record of its epoch %llu is not durable", n->index,
			       (unsigned long long)from_le64(epoch->number));
	for (uint64_t i = lineage_at(c, start); i < c->count; i++)
		if (c->lineage[i].lsn < start)
			cluster_breach(c, "P2: epoch %llu begins inside a record",
				       (unsigned long long)from_le64(epoch->number));
	lineage_cut(c, start);
	/* Whoever had acknowledged more and lost it did so outside of what its mode covers. */
	for (unsigned i = 0; i < c->options.nodes; i++) {
		c->nodes[i].cover_flushed = min_u64(c->nodes[i].cover_flushed, start);
		c->nodes[i].cover_acked = min_u64(c->nodes[i].cover_acked, start);
		c->nodes[i].received = min_u64(c->nodes[i].received, start);
		c->nodes[i].written = min_u64(c->nodes[i].written, start);
		c->nodes[i].durable = min_u64(c->nodes[i].durable, start);
		c->nodes[i].applied = min_u64(c->nodes[i].applied, start);
	}
	c->any_flushed = min_u64(c->any_flushed, start);
	c->any_acked = min_u64(c->any_acked, start);
}

/* In memory; or in the journal's file, when a node died in the very turn that appended it. */
static const struct record_header *record_at(struct cluster *c, struct node *n, uint64_t lsn)
{
	struct volume *v = n->volume;
	struct position at = { .lsn = lsn };
	const struct record_header *r;

	if (lsn >= v->log.start)
		return log_record(&v->log, lsn);
	r = (const void *)(machine_disk_data(n->machine, n->journal) + journal_place(&v->geometry, lsn));
	if (c->count)
		memcpy(at.hash, c->lineage[c->count - 1].hash_after, HASH_BYTES);
	if (record_look(r, v->geometry.segment_bytes - lsn % v->geometry.segment_bytes, &at, &v->geometry) !=
	    RECORD_GOOD)
		cluster_breach(c, "P2: node %u has log at LSN %llu that does not follow the lineage", n->index,
			       (unsigned long long)lsn);
	return r;
}

void oracle_observe(struct cluster *c)
{
	int primary = cluster_primary(c);
	struct node *n;
	struct volume *v;

	/* A primary shows all it has; what it shows when it stops to be one (its batch is closed then) it may keep. */
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (c->nodes[i].volume && c->nodes[i].volume->role == ROLE_PRIMARY)
			c->nodes[i].applied_seen = c->nodes[i].volume->log.end.lsn + 2 * BLOCK_BYTES;
	if (primary < 0)
		return;
	n = &c->nodes[primary];
	v = n->volume;
	if (history_last_number(&v->history) != n->epoch_seen) {
		n->epoch_seen = history_last_number(&v->history);
		epoch_opened(c, n, history_last(&v->history));
	}
	while (lineage_end(c) < v->log.end.lsn)
		lineage_add(c, record_at(c, n, lineage_end(c)));
	for (unsigned i = 0; i < c->options.nodes; i++) {
		n = &c->nodes[i];
		if (!n->volume)
			continue;
		n->received = max_u64(n->received, n->volume->log.closed.lsn);
		n->written = max_u64(n->written, n->volume->journal.written);
		n->durable = max_u64(n->durable, n->volume->journal.durable);
		n->applied = max_u64(n->applied, n->volume->applied);
	}
}

/* What readers of a node in the middle of a resync see: the volume as of its snapshot. */
static bool view_on_lineage(struct cluster *c, const struct volume *v)
{
	uint64_t lsn, i;

	if (!resync_readable(v))
		return false;
	lsn = from_le64(v->sink.slot->header.lsn);
	i = lineage_at(c, lsn);
	return lsn > 0 && i > 0 && c->lineage[i - 1].end == lsn &&
	       memcmp(c->lineage[i - 1].hash_after, v->sink.slot->header.hash, HASH_BYTES) == 0;
}

static bool on_lineage(struct cluster *c, const struct volume *v)
{
	uint64_t i;

	if (v->state == VOLUME_OPEN && resync_running(v))
		return view_on_lineage(c, v);

	if (v->state != VOLUME_OPEN || v->applied > lineage_end(c))
		return false;
	/* A log that is not the primary's: LSNs may be equal, bytes need not be. */
	i = lineage_at(c, v->log.closed.lsn);
	if (v->log.closed.lsn > lineage_end(c) ||
	    (i > 0 && (c->lineage[i - 1].end != v->log.closed.lsn ||
		       memcmp(c->lineage[i - 1].hash_after, v->log.closed.hash, HASH_BYTES))))
		return false;
	if (v->applied == 0)
		return true;
	i = lineage_at(c, v->applied);
	return i > 0 && c->lineage[i - 1].end == v->applied;
}

bool cluster_on_lineage(struct cluster *c, unsigned node)
{
	struct volume *v = c->nodes[node].volume;

	oracle_observe(c);
	return v && on_lineage(c, v);
}

/* Not what the primary believes, but what those nodes had in their own memory and journals. */
static void acked_by_any(struct cluster *c, const struct volume *v, uint64_t lsn, bool flushed)
{
	unsigned have = 0;

	for (unsigned i = 0; i < v->peer_count; i++) {
		const struct volume_peer_config *p = &v->config.peers[i];
		const struct node *n = &c->nodes[p->name[0] - 'a'];
		uint64_t most = p->mode == MODE_B ? n->received : flushed ? n->durable : n->written;

		have += p->commit && most >= lsn && (p->mode != MODE_D || n->applied >= lsn);
	}
	if (have < v->config.commit_copies)
		cluster_breach(c, "P1: LSN %llu is acknowledged with %u of the named nodes having it, %u are asked for",
			       (unsigned long long)lsn, have, v->config.commit_copies);
	c->any_acked = max_u64(c->any_acked, lsn);
	if (flushed && c->options.mode != MODE_B)
		c->any_flushed = max_u64(c->any_flushed, lsn);
}

void oracle_acked(struct cluster *c, const struct client *client)
{
	const struct volume_request *r = &client->request;
	struct node *n = &c->nodes[client->node];
	bool flushed = r->op == VOLUME_FLUSH || (r->flags & VOLUME_FUA);
	struct volume *v = n->volume;

	c->acked++;
	if (r->op == VOLUME_READ) {
		uint8_t want[CLIENT_BYTES_MAX];

		oracle_observe(c);
		if (n->rotten || !on_lineage(c, v) || r->lsn > lineage_end(c))
			return;
		lineage_bytes(c, r->lsn, r->offset, r->len, want);
		if (memcmp(want, r->buffer + r->offset % BLOCK_BYTES, r->len))
			cluster_breach(c, "a read of %llu bytes at %llu returned other bytes than were written",
				       (unsigned long long)r->len, (unsigned long long)r->offset);
		return;
	}
	n->cover_acked = max_u64(n->cover_acked, r->lsn);
	if (flushed)
		n->cover_flushed = max_u64(n->cover_flushed, r->lsn);
	if (v->config.commit == COMMIT_ANY && cluster_primary(c) == (int)client->node)
		acked_by_any(c, v, r->lsn, flushed);
	for (unsigned i = 0; i < v->peer_count && v->config.commit == COMMIT_ALL; i++) {
		const struct peer *p = &v->peers[i];
		struct node *other = &c->nodes[p->config->name[0] - 'a'];

		if (p->state != PEER_ONLINE || p->config->mode == MODE_A)
			continue;
		/* Mode B: only memory there has it; it counts until that node goes. */
		other->cover_acked = max_u64(other->cover_acked, r->lsn);
		if (flushed && p->config->mode != MODE_B)
			other->cover_flushed = max_u64(other->cover_flushed, r->lsn);
	}
}

void oracle_crashed(struct cluster *c, struct node *n, bool power)
{
	bool memory_only = false;

	for (unsigned i = 0; i < c->options.nodes; i++)
		memory_only |= i != n->index && cluster_mode(c, i, n->index) == MODE_B;
	n->applied_seen = 0;
	if (power || memory_only)
		n->cover_acked = n->cover_flushed;
	if (power || c->options.mode == MODE_B)
		c->any_acked = c->any_flushed;
	n->epoch_seen = 0;
}

/* ---- P2: what a node shows ------------------------------------------------------------------------------- */

/* The block as the node's readers see it now. */
static const uint8_t *peek(struct node *n, uint64_t block)
{
	static const uint8_t zeros[BLOCK_BYTES];
	const struct page *page = pool_find(&n->volume->pool, block);
	struct volume *v = n->volume;

	if (resync_running(v) && bitmap_test(&v->sink.slot->saved, block))
		return machine_disk_data(n->machine, v->sink.slot->file) + undo_block_offset(&v->undo, block);
	if (resync_running(v))
		return machine_disk_data(n->machine, n->store) + block * BLOCK_BYTES;
	if (page && page->state != PAGE_LOADING)
		return page->data;
	if (!page && pool_in_hole(&n->volume->pool, block))
		return zeros;
	return machine_disk_data(n->machine, n->store) + block * BLOCK_BYTES;
}

static void check_block(struct cluster *c, struct node *n, uint64_t block)
{
	uint8_t want[BLOCK_BYTES];
	const uint8_t *have = peek(n, block);
	struct volume *v = n->volume;
	unsigned at = 0;

	if (n->rotten)
		return;
	lineage_bytes(c, resync_running(v) ? from_le64(v->sink.slot->header.lsn) : v->applied, block * BLOCK_BYTES,
		      BLOCK_BYTES, want);
	if (memcmp(have, want, BLOCK_BYTES) == 0)
		return;
	while (have[at] == want[at])
		at++;
	cluster_breach(c, "P2: node %u, block %llu, byte %u: not what the log up to its applied LSN %llu makes",
		       n->index, (unsigned long long)block, at, (unsigned long long)n->volume->applied);
}

void oracle_check_some(struct cluster *c)
{
	uint64_t slowest = lineage_end(c);

	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];
		uint64_t blocks = c->options.volume_bytes / BLOCK_BYTES;

		if (!n->volume || n->volume->state != VOLUME_OPEN) {
			slowest = 0;
			continue;
		}
		slowest = min_u64(slowest, n->volume->applied);
		if (resync_readable(n->volume))
			slowest = min_u64(slowest, from_le64(n->volume->sink.slot->header.lsn));
		if (n->volume->history.count && n->volume->sink.step != SINK_JUMP &&
		    from_le64(history_last(&n->volume->history)->start) >= n->volume->log.end.lsn)
			cluster_breach(c, "node %u knows an epoch that is not in its log", i);
		/* Who was primary has applied more than was committed, and so has who failed on the way to it; nobody
		 * goes further than that. */
		if (n->volume->role == ROLE_SECONDARY && !n->volume->failed &&
		    n->volume->change.step == ROLE_STEP_NONE &&
		    n->volume->applied >
			    max_u64(n->applied_seen, min_u64(n->volume->commit, n->volume->journal.written)))
			cluster_breach(
				c, "P2: node %u shows LSN %llu, which is not committed, or not in its journal", i,
				(unsigned long long)n->volume->applied);
		n->applied_seen = max_u64(n->applied_seen, n->volume->applied);
		if (!on_lineage(c, n->volume)) {
			/* A node that lost its primary's company may hold a tail that nobody else has. */
			if (cluster_primary(c) == (int)i)
				cluster_breach(c, "P2: the primary's applied LSN is not in its own log");
			continue;
		}
		check_block(c, n, world_random_below(c->world, blocks));
	}
	image_forward(c, slowest);
}

void cluster_check_all(struct cluster *c, unsigned node)
{
	struct node *n = &c->nodes[node];

	if (!on_lineage(c, n->volume))
		cluster_breach(c, "P2: node %u shows LSN %llu, which is no record boundary of the primary's log", node,
			       (unsigned long long)n->volume->applied);
	for (uint64_t block = 0; block < c->options.volume_bytes / BLOCK_BYTES; block++)
		check_block(c, n, block);
}

void cluster_check_store(struct cluster *c, unsigned node)
{
	struct node *n = &c->nodes[node];

	image_forward(c, UINT64_MAX);
	if (memcmp(c->image, machine_disk_data(n->machine, n->store), c->options.volume_bytes))
		cluster_breach(c, "P3: the store of node %u is not what the log makes", node);
	if (memcmp(c->image, machine_disk_durable(n->machine, n->store), c->options.volume_bytes))
		cluster_breach(c, "P1: the store of node %u is not durable after a clean stop", node);
}
