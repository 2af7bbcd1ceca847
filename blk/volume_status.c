/* SPDX-License-Identifier: Apache-2.0 */
/* Figures for people. */
#include <string.h>

#include "volume_private.h"

static void lag_of(struct volume *v, const struct peer *p, struct volume_peer_status *out)
{
	const struct log_mark *mark;
	uint64_t wall = v->io->wall_ns(v->io);

	if (v->role != ROLE_PRIMARY || p->durable >= v->log.closed.lsn)
		return;
	out->lag_bytes = v->log.closed.lsn - p->durable;
	mark = log_mark_below(&v->log, p->durable);
	out->lag_records = v->log.records - (mark ? mark->records : 0);
	/* The age of the newest record that it has, as long as there are newer ones. */
	if (mark && mark->wall_ns && wall > mark->wall_ns)
		out->lag_ns = wall - mark->wall_ns;
}

static void peer_status(struct volume *v, const struct peer *p, struct volume_peer_status *out)
{
	memcpy(out->name, p->config->name, sizeof out->name);
	memcpy(out->address, p->config->address, sizeof out->address);
	memcpy(out->why, p->why, sizeof out->why);
	out->mode = p->config->mode;
	out->state = peer_state_text(p->state);
	out->connected = peer_connected(p);
	out->encrypted = p->socket >= 0 && *p->volume->io->socket_node(p->volume->io, p->socket);
	out->role = p->role;
	out->lsn_received = p->received;
	out->lsn_written = p->written;
	out->lsn_durable = p->durable;
	out->lsn_applied = p->applied;
	out->contact_age_ns = p->heard_ns ? volume_now(v) - p->heard_ns : UINT64_MAX;
	out->bytes_sent = p->bytes_sent;
	out->bytes_received = p->bytes_received;
	lag_of(v, p, out);
	resync_source_status(p, &out->resync);
	verify_peer_status(v, (unsigned)(p - v->peers), out);
}

static void waiting_for(struct volume *v, char out[WHY_BYTES])
{
	if (v->destage.store_full) {
		snprintf(out, WHY_BYTES,
			 "space: the store's disk is full; free space on it, and writes go on by themselves");
		return;
	}
	if (v->role != ROLE_PRIMARY || (!v->ack_count && !v->waiting_count))
		return;
	volume_commit_waits(v, out);
	if (!*out && v->waiting_count)
		snprintf(out, WHY_BYTES, "room in the journal or in memory (the store is being written)");
}

static void divergences(const struct volume *v, struct volume_status *out)
{
	for (unsigned i = 0; i < UNDO_SLOTS; i++) {
		const struct undo_slot *slot = &v->undo.slots[i];
		const struct undo_header *h = &slot->header;
		const struct epoch_entry *epoch = history_last(slot->history);
		struct volume_divergence_status *d = &out->divergences[out->divergence_count];

		if (slot->kind != UNDO_DIVERGENCE)
			continue;
		out->divergence_count++;
		*d = (struct volume_divergence_status){
			.id = from_le64(h->id), .slot = i, .recording = from_le64(h->partial) == 0,
			.fork = from_le64(h->base), .end = from_le64(h->lsn),
			.partial = from_le64(h->partial) ? from_le64(h->partial) - 1 : 0,
			.taken_ns = from_le64(h->wall_ns), .first_ns = from_le64(h->first_ns),
			.last_ns = from_le64(h->last_ns), .blocks = from_le64(h->blocks), .bytes = from_le64(h->bytes),
			.blocks_kept = slot->saved.count,
		};
		memcpy(d->source, h->source, NAME_BYTES);
		if (!epoch)
			continue;
		d->epoch_number = from_le64(epoch->number);
		memcpy(d->epoch_node, epoch->node, NAME_BYTES);
	}
}

void volume_status(struct volume *v, struct volume_status *out)
{
	const struct epoch_entry *epoch = history_last(&v->history);
	uint64_t ring = v->geometry.journal_bytes;

	*out = (struct volume_status){
		.geometry = v->geometry, .role = v->role, .open = v->state == VOLUME_OPEN, .failed = v->failed,
		.lsn_end = v->log.end.lsn, .lsn_written = v->journal.written, .lsn_durable = v->journal.durable,
		.lsn_commit = v->commit, .lsn_applied = v->applied, .lsn_visible = volume_visible(v),
		.lsn_tail = v->journal.tail,
		.lsn_oldest = v->log.end.lsn > ring ? v->log.end.lsn - ring : 0,
		.requests_waiting = v->waiting_count, .acks_waiting = v->ack_count,
		.pages = v->pool.page_count, .pages_dirty = v->pool.dirty_count, .pages_clean = v->pool.clean_count,
		.reads = v->reads, .writes = v->writes, .flushes = v->flushes_done, .discards = v->discards,
		.bytes_read = v->bytes_read, .bytes_written = v->bytes_written,
		.journal_writes = v->journal.writes, .journal_syncs = v->journal.syncs,
		.journal_bytes_written = v->journal.bytes_written, .destage_rounds = v->destage.rounds,
		.destage_bytes = v->destage.bytes, .punched_bytes = v->destage.punched_bytes,
		.reads_repaired = v->fetches.repaired, .min_copies = v->config.min_copies, .peer_count = v->peer_count,
	};
	memcpy(out->name, v->config.name, sizeof out->name);
	memcpy(out->why, v->why, sizeof out->why);
	commit_text(&v->config, out->commit);
	if (epoch) {
		out->epoch_number = from_le64(epoch->number);
		memcpy(out->epoch_uuid, epoch->uuid, UUID_BYTES);
		memcpy(out->epoch_node, epoch->node, NAME_BYTES);
	}
	out->lsn_floor = v->journal.floor;
	resync_sink_status(v, out);
	verify_status(v, &out->verify);
	divergences(v, out);
	waiting_for(v, out->waiting_for);
	for (unsigned i = 0; i < v->peer_count; i++)
		peer_status(v, &v->peers[i], &out->peers[i]);
}
