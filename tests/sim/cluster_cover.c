/* SPDX-License-Identifier: Apache-2.0 */
/* What was acknowledged, and who must have it (P1). Each acknowledgement covers the nodes that its mode names: it
 * raises what they must have. From then on, whenever one of them is open:
 *
 *	its log has it			fine; a crash lowers it to what the mode says of such a crash
 *	a forced promotion went on	then it must be in a divergence of this node, byte for byte, until the operator
 *	without it, its log is that one	drops that
 *	anything else			a breach
 *
 * And a new epoch that nobody forced begins at or above what every node must have, but for those that a forced
 * one has left behind before. */
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "cluster_inside.h"
#include "undo.h"

#define NAME(n) cluster_node_names[(n)->index]

static bool held(const struct cover *cover, const struct branch *log, uint64_t end)
{
	return !cover->branch || path_holds(log, end, cover->branch, cover->lsn);
}

/* ---- acknowledged ---- */

static void raise(struct node *n, struct cover *cover, struct branch *b, uint64_t lsn)
{
	/* What it must have of another branch is not forgotten for this one. */
	if (!held(cover, b, lsn))
		cover_check(n->cluster, n);
	if (lsn > 0 && held(cover, b, lsn))
		*cover = (struct cover){ .branch = b, .lsn = lsn };
}

/* The peer's word is of the node as it is now, not as it was before a crash that we have not noticed. */
static bool spoke_since_it_opened(const struct node *n, const struct peer *p, const struct node *other)
{
	uint64_t met_age = volume_now(n->volume) - p->met_ns;

	return other->volume && other->volume->state == VOLUME_OPEN &&
	       world_now(n->cluster->world) - met_age >= other->open_ns;
}

/* At this moment K of the named nodes must have it: not as the primary believes, but in their own memory and journals.
 * (Who died since it said so may have had it.) From now on they must keep it. */
static void acked_by_any(struct node *n, uint64_t lsn, bool flushed)
{
	const struct volume *v = n->volume;
	unsigned have = 0;

	for (unsigned i = 0; i < v->peer_count; i++) {
		const struct peer *p = &v->peers[i];
		struct node *other = &n->cluster->nodes[p->config->name[0] - 'a'];
		const struct volume *o = other->volume;
		enum replication_mode mode = p->config->mode;

		if (!p->config->commit || !spoke_since_it_opened(n, p, other)) {
			have += p->config->commit;
			continue;
		}
		if (!path_holds(other->branch, mode == MODE_B ? o->log.closed.lsn : flushed ? o->journal.durable
				: o->journal.written, n->branch, lsn) || (mode == MODE_D && o->applied < lsn))
			continue;
		have++;
		raise(other, &other->received, n->branch, lsn);
		if (mode == MODE_B)
			continue;
		raise(other, &other->written, n->branch, lsn);
		if (flushed)
			raise(other, &other->flushed, n->branch, lsn);
	}
	if (have < v->config.commit_copies)
		cluster_breach(n->cluster,
			       "P1: LSN %llu is acknowledged with %u of the named nodes having it, %u are asked "
			       "for",
			       (unsigned long long)lsn, have, v->config.commit_copies);
}

void cover_acked(struct node *n, uint64_t lsn, bool flushed)
{
	const struct volume *v = n->volume;

	raise(n, &n->written, n->branch, lsn);
	if (flushed)
		raise(n, &n->flushed, n->branch, lsn);
	if (v->config.commit == COMMIT_ANY)
		acked_by_any(n, lsn, flushed);
	for (unsigned i = 0; i < v->peer_count && v->config.commit == COMMIT_ALL; i++) {
		const struct peer *p = &v->peers[i];
		struct node *other = &n->cluster->nodes[p->config->name[0] - 'a'];

		if (p->state != PEER_ONLINE || p->config->mode == MODE_A || !spoke_since_it_opened(n, p, other))
			continue;
		raise(other, &other->received, n->branch, lsn);
		if (p->config->mode == MODE_B)
			continue;
		raise(other, &other->written, n->branch, lsn);
		if (flushed)
			raise(other, &other->flushed, n->branch, lsn);
	}
}

void cover_crashed(struct node *n, bool power)
{
	n->received = (struct cover){ 0 };
	if (power)
		n->written = n->flushed;
}

void cover_forget(struct node *n)
{
	n->received = n->written = n->flushed = (struct cover){ 0 };
	n->kept_count = 0;
}

/* ---- promotion ---- */

static void left_out(struct cluster *c, const struct node *opener, const struct branch *b, const struct node *n,
		     const struct cover *cover, const char *what)
{
	if (!held(cover, b, b->start) && !path_forced_apart(b, cover->branch))
		cluster_breach(c, "P1: node %s opens epoch %llu at LSN %llu, unforced; %s up to LSN %llu is "
			       "acknowledged, and node %s has it", NAME(opener),
			       (unsigned long long)from_le64(b->epoch.number), (unsigned long long)b->start, what,
			       (unsigned long long)cover->lsn, NAME(n));
}

void cover_epoch(struct cluster *c, struct node *opener, const struct branch *b)
{
	for (unsigned i = 0; i < c->options.nodes; i++) {
		const struct node *n = &c->nodes[i];

		left_out(c, opener, b, n, &n->flushed, "a flush");
		left_out(c, opener, b, n, &n->written, "a write");
		left_out(c, opener, b, n, &n->received, "a write");
	}
}

/* ---- kept ---- */

static void kept_add(struct cluster *c, struct node *n, const struct cover *cover, uint64_t divergence)
{
	for (unsigned i = 0; i < n->kept_count; i++)
		if (n->kept[i].divergence == divergence) {
			n->kept[i].lsn = max_u64(n->kept[i].lsn, cover->lsn);
			return;
		}
	if (n->kept_count == KEPT_MAX)
		cluster_breach(c, "more than %d divergences of node %s", KEPT_MAX, NAME(n));
	n->kept[n->kept_count++] = (struct kept){ cover->branch, cover->lsn, divergence };
}

void cover_forget_divergence(struct node *n, uint64_t id)
{
	for (unsigned i = 0; i < n->kept_count; i++)
		if (n->kept[i].divergence == id)
			n->kept[i--] = n->kept[--n->kept_count];
}

/* The divergence that has what the log has not. */
static void cover_kept(struct cluster *c, struct node *n, struct cover *cover, const char *what)
{
	uint64_t id = 0;
	bool forced;

	/* Epochs alone are nothing that anybody wrote. */
	if (!path_lost_data(n->branch, n->volume->log.closed.lsn, cover->branch, cover->lsn)) {
		*cover = (struct cover){ 0 };
		return;
	}
	for (unsigned i = 0; i < UNDO_SLOTS; i++) {
		const struct undo_slot *slot = &n->volume->undo.slots[i];
		const struct undo_header *h = &slot->header;

		/* It is a divergence, or becomes one when the resync under way is over. */
		if (slot->kind != UNDO_FREE && from_le32(h->keep) && from_le64(h->base) < cover->lsn &&
		    cover->lsn <= from_le64(h->lsn))
			id = from_le64(h->id);
	}
	/* Its log may begin anew before the epoch that it gives this up for: that comes with the log. */
	if (id && resync_running(n->volume))
		return;
	forced = path_forced_apart(n->branch, cover->branch);
	if (!id || !forced)
		cluster_breach(c, "P1: node %s has lost LSN %llu of epoch %llu, up to which %s is acknowledged; "
			       "it is in %s", NAME(n), (unsigned long long)cover->lsn,
			       (unsigned long long)from_le64(cover->branch->epoch.number), what,
			       id ? "a divergence, and nobody has forced a promotion"
			       : forced ? "no divergence" : "no divergence, and nobody has forced a promotion");
	kept_add(c, n, cover, id);
	*cover = (struct cover){ 0 };
}

/* It went back to before its resync: what was to become a divergence is in its log again. */
static void kept_again(struct node *n, uint64_t end)
{
	for (unsigned i = 0; i < n->kept_count; i++) {
		struct kept k = n->kept[i];

		if (!path_holds(n->branch, end, k.branch, k.lsn))
			continue;
		n->kept[i--] = n->kept[--n->kept_count];
		raise(n, &n->written, k.branch, k.lsn);
	}
}

void cover_check(struct cluster *c, struct node *n)
{
	uint64_t end = n->volume->log.closed.lsn;

	if (resync_sink_moves_log(n->volume))
		return;
	kept_again(n, end);

	if (!held(&n->flushed, n->branch, end))
		cover_kept(c, n, &n->flushed, "a flush");
	if (!held(&n->written, n->branch, end))
		cover_kept(c, n, &n->written, "a write");
	if (!held(&n->received, n->branch, end))
		cover_kept(c, n, &n->received, "a write");
}

/* ---- the bytes of a divergence ---- */

static bool bit_of(const uint8_t *bitmap, uint64_t bit)
{
	const struct bitmap_unit *unit = (const struct bitmap_unit *)(const void *)bitmap + bit / BITMAP_UNIT_BITS;

	return from_le64(unit->words[bit % BITMAP_UNIT_BITS / 64]) >> bit % 64 & 1;
}

/* The volume as that side saw it: a block that is saved is in the slot, any other one in the store. */
static void slot_check(struct cluster *c, struct node *n, const struct kept *kept, const uint8_t *slot)
{
	const struct undo_header *header = (const void *)slot;
	const uint8_t *store = machine_disk_durable(n->machine, n->disks[0]);
	uint64_t bytes = c->options.volume_bytes;

	if (from_le64(header->partial))
		return;			/* it says that it could not keep all */
	for (uint64_t block = 0; block < bytes / BLOCK_BYTES; block++) {
		bool saved = bit_of(slot + undo_saved_offset(), block);
		const uint8_t *have = (saved ? slot + undo_data_offset(bytes) : store) + block * BLOCK_BYTES;
		uint8_t want[BLOCK_BYTES];

		path_block(kept->branch, from_le64(header->lsn), block, want);
		if (memcmp(have, want, BLOCK_BYTES))
			cluster_breach(c, "P1: divergence %llu of node %s does not give block %llu back as it was at "
				       "LSN %llu", (unsigned long long)kept->divergence, NAME(n),
				       (unsigned long long)block, (unsigned long long)from_le64(header->lsn));
	}
}

void cover_check_kept(struct cluster *c, struct node *n)
{
	for (unsigned i = 0; i < n->kept_count; i++) {
		const uint8_t *found = NULL;

		for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
			const uint8_t *data = machine_disk_durable(n->machine, n->disks[4 + slot]);

			if (from_le64(((const struct undo_header *)(const void *)data)->id) == n->kept[i].divergence)
				found = data;
		}
		if (!found)
			cluster_breach(c, "P1: divergence %llu of node %s is gone, and nobody dropped it",
				       (unsigned long long)n->kept[i].divergence, NAME(n));
		slot_check(c, n, &n->kept[i], found);
	}
}
