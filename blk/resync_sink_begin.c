/* SPDX-License-Identifier: Apache-2.0 */
/* The taking side of a resync, before anything is changed: all our log is in the store; what we wrote behind the
 * fork is known, block by block; undo has begun to record. Then the source is asked. */
#include <errno.h>
#include <string.h>

#include "resync_private.h"
#include "volume_private.h"

void resync_sink_start(struct peer *p)
{
	struct volume *v = p->volume;
	struct resync_sink *s = &v->sink;

	CHECK(s->step == SINK_NONE && !v->meta.resync.running && v->source == p);
	s->peer = p;
	s->rewind = p->rewind;
	s->fork = p->fork;
	s->given_up = (struct tally){ 0 };
	/* What the source has, it has: it may be shown. (Our own records that it lacks were shown before.) */
	v->commit = max_u64(v->commit, v->log.closed.lsn);
	say(v->io, IO_INFO, "volume=%s %s from node %s begins: our log ends at LSN %llu%s", v->config.name,
	    s->rewind ? "rewind and resync" : "resync", p->config->name, (unsigned long long)v->log.closed.lsn,
	    s->rewind ? ", past the fork" : ", which its journal does not hold any more");
	resync_step_to(v, SINK_SETTLE);
	volume_meet_anew(v, p);
}

void resync_sink_again(struct peer *p)
{
	struct volume *v = p->volume;
	struct resync_sink *s = &v->sink;

	CHECK(s->step == SINK_NONE && v->meta.resync.running && s->slot);
	s->peer = p;
	s->ask_anew = p->rewind || !v->meta.resync.id;
	s->rewind = p->rewind;
	s->fork = p->fork;
	if (s->ask_anew || s->fork.lsn < v->meta.resync.base) {
		resync_step_to(v, SINK_REST);
		return;
	}
	s->say_ask = true;
	resync_step_to(v, SINK_ASK);
}

void resync_say_wants(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	s->ask_anew = s->say_want = true;
	s->want_part = 0;
	s->want_next = 0;
	resync_step_to(v, SINK_ASK);
}

const char *resync_rewind_refusal(const struct volume *v)
{
	return undo_divergences(&v->undo) < UNDO_SLOTS - 1 ?
		       NULL :
		       "it has to set aside what it wrote since the fork, and all slots of undo hold divergences; see: "
		       "holdfast divergence VOLUME list, and drop one";
}

/* All our log is in the store, and durably so. */
bool resync_settled(struct volume *v)
{
	log_drop_open(&v->log);
	journal_want_durable(&v->journal, v->log.closed.lsn);
	if (v->journal.durable < v->log.closed.lsn || v->applied < v->log.closed.lsn)
		return false;
	if (pool_dirty(&v->pool) || v->destage.state != DESTAGE_IDLE) {
		destage_start(&v->destage);
		return false;
	}
	return !journal_busy(&v->journal) && !v->apply.op.in_flight && v->pool.loading_count == 0 &&
	       v->lacks.step == LACK_IDLE;
}

static void snapshot(struct volume *v);

/* What the snapshot holds of our own history goes with it: it becomes a divergence when the resync is over. */
static void keep_snapshot(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	struct undo_header *h = &s->slot->header;

	h->base = to_le64(s->fork.lsn);
	if (from_le64(h->partial)) {
		say(v->io, IO_WARNING,
		    "volume=%s node %s has a history that our LSNs %llu to %llu are not part of; undo could "
		    "not keep what they had written here",
		    v->config.name, s->peer->config->name, (unsigned long long)s->fork.lsn,
		    (unsigned long long)from_le64(h->lsn));
	} else {
		h->keep = to_le32(1);
		h->blocks = to_le64(s->slot->want.count);
		memset(h->source, 0, NAME_BYTES);
		memcpy(h->source, s->peer->config->name, strlen(s->peer->config->name));
	}
	undo_describe(s->slot);
}

/* What undo noted is what differs from the snapshot only once everything is in the store: pages that are still to be
 * written, of another source's blocks and log, would change more of it after we have said what we want. */
void resync_rest(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	if (!resync_settled(v) || !undo_idle(&v->undo))
		return;
	/* Between its fork and our base lies a history of ours that nobody can name the blocks of any more. */
	if (s->fork.lsn < v->meta.resync.base && s->slot->want.count < s->slot->want.bits)
		bitmap_set_all(&s->slot->want);
	if (bitmap_save(&s->slot->want) > s->slot->want.saved)
		return;
	if (s->fork.lsn < from_le64(s->slot->header.base))
		keep_snapshot(v);
	else
		resync_say_wants(v);
}

void resync_settle(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	struct position from = s->fork;

	if (!resync_settled(v) || !undo_idle(&v->undo))
		return;
	if (s->rewind && resync_rewind_refusal(v)) {
		resync_give_up(v, resync_rewind_refusal(v));
		return;
	}
	s->slot = undo_take(&v->undo);
	if (!s->slot) {
		resync_give_up(v, "no slot of undo is free; see: holdfast divergence VOLUME list, and drop one");
		return;
	}
	if (!s->rewind) {
		snapshot(v);
		return;
	}
	/* Where the journal does not reach back to the fork, the peer's bitmap does. */
	if (from.lsn < v->meta.floor.lsn) {
		if (lack_names(s->peer->lack, from.lsn))
			bitmap_merge(&s->slot->want, &s->peer->lack->bits);
		else
			bitmap_set_all(&s->slot->want);
		from = v->meta.floor;
	}
	cursor_seek(&s->peer->cursor, &from);
	resync_step_to(v, SINK_WALK);
}

void resync_walk(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	struct cursor *c = &s->peer->cursor;
	const struct record_header *r = NULL;
	int result;

	while ((result = cursor_look(c, &r)) == 1) {
		tally_record(&s->given_up, &s->slot->want, r);
		cursor_advance(c, r);
	}
	if (result == -EAGAIN)
		return;
	if (result < 0)		/* what is in doubt is wanted, and kept */
		bitmap_set_all(&s->slot->want);
	snapshot(v);
}

static void snapshot(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	struct undo_header *h = &s->slot->header;
	bool keep = s->rewind && s->slot->want.count;

	h->lsn = to_le64(v->log.closed.lsn);
	memcpy(h->hash, v->log.closed.hash, HASH_BYTES);
	h->base = to_le64(s->rewind ? s->fork.lsn : v->log.closed.lsn);
	h->wall_ns = to_le64(v->io->wall_ns(v->io));
	h->first_ns = to_le64(s->given_up.first_ns);
	h->last_ns = to_le64(s->given_up.last_ns);
	s->blocks = s->slot->want.count;
	h->blocks = to_le64(s->blocks);
	h->bytes = to_le64(s->given_up.bytes);
	h->keep = to_le32(keep);
	memcpy(h->source, s->peer->config->name, NAME_BYTES);
	*s->slot->history = v->history;
	/* A replica that never had anything has nothing to go back to. */
	if (!v->history.count)
		h->partial = to_le64(v->log.closed.lsn + 1);
	resync_step_to(v, SINK_SNAPSHOT);
	undo_start(s->slot, keep);
}

void resync_snapshot_taken(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	char why[WHY_BYTES];

	if (!undo_idle(&v->undo))
		return;
	if (s->slot->error) {
		snprintf(why, sizeof why,
			 "what it wrote since the fork cannot be set aside (%s): %llu blocks; make "
			 "space on the disk of `undo =`",
			 strerrordesc_np(-s->slot->error), (unsigned long long)s->blocks);
		s->slot = NULL;
		resync_give_up(v, why);
		return;
	}
	if (!s->peer) {
		resync_give_up(v, NULL);
		return;
	}
	resync_say_wants(v);
}
