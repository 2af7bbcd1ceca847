/* SPDX-License-Identifier: Apache-2.0 */
/* The apply step of a secondary: records that are committed, and written here, go into pages in log order; from
 * then on readers see them. A primary applies as it appends, so there is nothing for it to do here.
 *
 * Invariant: applied is the end of a record, and pages and holes hold exactly the log below it. */
#include "volume_private.h"

#include <errno.h>

/* How far it may go. While opening, the store may already hold effects up to `reach`: nobody may look before
 * all of them are there. A node that becomes primary applies all its log. */
static uint64_t apply_target(const struct volume *v)
{
	if (v->state == VOLUME_OPENING)
		return min_u64(max_u64(v->meta.saved_reach, v->commit), v->log.closed.lsn);
	if (v->change.step == ROLE_STEP_SETTLE)
		return v->log.closed.lsn;
	/* Before its log begins anew, all that it holds is applied: nobody gives it to us again. */
	if (v->sink.step == SINK_SETTLE || v->sink.step == SINK_REST || v->sink.step == SINK_QUIET)
		return min_u64(v->journal.written, v->log.closed.lsn);
	if (v->sink.step == SINK_PARTIAL || v->sink.step == SINK_JUMP || v->sink.step >= SINK_BACK_QUIET)
		return v->applied;
	return min_u64(min_u64(v->commit, min_u64(verify_hold(v), fetch_hold(v))),
		       min_u64(v->journal.written, v->log.closed.lsn));
}

/* From the end of one record to that of the next. */
static void tell(struct volume *v, const void *annotation, uint32_t len, uint64_t start, uint64_t end)
{
	if (!v->on_applied || v->on_applied(v->on_applied_context, annotation, len, end))
		return;
	if (!v->hidden)
		v->visible = start;
	v->hidden = end;
}

void volume_caches_dropped(struct volume *v, uint64_t lsn)
{
	if (!v->hidden)
		return;
	v->visible = max_u64(v->visible, lsn);
	if (lsn >= v->hidden)
		v->hidden = 0;
	for (unsigned i = 0; i < v->peer_count; i++)
		peer_news(&v->peers[i]);
	volume_turn_soon(v);
}

uint64_t volume_visible(const struct volume *v)
{
	uint64_t shown = v->applied;

	if (resync_running(v))
		shown = resync_readable(v) ? from_le64(v->sink.slot->header.lsn) : 0;
	return v->hidden ? min_u64(shown, v->visible) : shown;
}

static int apply_record(struct volume *v, const struct record_header *r)
{
	const struct record_delta *deltas = record_deltas(r);
	uint64_t end = from_le64(r->lsn) + record_length(r);
	int result;

	if (from_le16(r->kind) != RECORD_DATA)
		return 0;
	result = pool_prepare(&v->pool, deltas, from_le32(r->delta_count));
	if (result)
		return result;
	pool_apply(&v->pool, deltas, from_le32(r->delta_count), record_payload(r), from_le64(r->lsn), end);
	/* While a resync runs readers see its snapshot, and all is told as one when it is over. */
	if (v->state == VOLUME_OPEN && !resync_running(v)) {
		uint32_t len = from_le32(r->annotation_len);

		tell(v, len ? record_annotation(r) : NULL, len, v->applied, end);
	}
	return 0;
}

void volume_shown(struct volume *v)
{
	bool running = resync_running(v);

	if (v->snapshot_shown == running)
		return;
	v->snapshot_shown = running;
	/* What caches hold may be of a history that is not ours any more. */
	v->hidden = 0;
	tell(v, NULL, 0, 0, v->applied);
}

int volume_put_blocks(struct volume *v, const struct record_delta *deltas, uint32_t count, const uint8_t *bytes,
		      uint64_t lsn_end)
{
	int result = pool_prepare(&v->pool, deltas, count);

	if (result == -ENOSPC)
		destage_start(&v->destage);
	/* As old as a record that is just being applied: the next round takes them. */
	if (!result)
		pool_apply(&v->pool, deltas, count, bytes, v->applied ? v->applied - 1 : 0, lsn_end);
	return result;
}

void volume_apply_step(struct volume *v)
{
	enum { BYTES_AT_ONCE = 8 << 20 };	/* then others get a turn */
	uint64_t target = apply_target(v), start = v->applied;

	if (v->role != ROLE_SECONDARY || v->failed)
		return;
	while (v->apply.at.lsn < target && v->applied - start < BYTES_AT_ONCE) {
		const struct record_header *r = NULL;
		int result = cursor_look(&v->apply, &r);

		/* A record that only ends behind the target is not committed yet. */
		if (result == 0 || result == -EAGAIN || (result == 1 && v->apply.at.lsn + record_length(r) > target))
			break;
		if (result == 1)
			result = apply_record(v, r);
		if (result == -ENOSPC)
			destage_start(&v->destage);
		if (result == -EAGAIN || result == -ENOSPC)
			return;
		if (result < 0) {
			volume_fail(v, result, "journal: reading back what was written");
			return;
		}
		cursor_advance(&v->apply, r);
		v->applied = v->apply.at.lsn;
	}
	if (v->applied == start)
		return;
	for (unsigned i = 0; i < v->peer_count; i++)
		peer_news(&v->peers[i]);
	if (destage_due(&v->destage))
		destage_start(&v->destage);
	volume_turn_soon(v);
}

void volume_apply_ready(struct cursor *c)
{
	volume_turn_soon(container_of(c, struct volume, apply));
}
