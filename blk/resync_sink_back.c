/* SPDX-License-Identifier: Apache-2.0 */
/* A take-over in the middle of a resync: undo is copied back, and the replica is where it was consistent. And the
 * divergences that resyncs leave behind. */
#include <errno.h>
#include <string.h>

#include "resync_private.h"
#include "volume_private.h"

void resync_sink_back(struct volume *v)
{
	CHECK(resync_readable(v) && v->sink.step == SINK_NONE && !v->source);
	v->destage.held = true;
	say(v->io, IO_WARNING,
	    "volume=%s this replica goes back to LSN %llu, where it was consistent before its resync",
	    v->config.name, (unsigned long long)from_le64(v->sink.slot->header.lsn));
	resync_step_to(v, SINK_BACK_QUIET);
}

void resync_back_quiet(struct volume *v)
{
	if (v->destage.state != DESTAGE_IDLE || journal_busy(&v->journal) || v->pool.loading_count ||
	    v->apply.op.in_flight || v->lacks.step != LACK_IDLE || !undo_idle(&v->undo) || !undo_preserved(&v->undo))
		return;
	/* The last round of destage may have been too much for undo. */
	if (!resync_readable(v)) {
		v->destage.held = false;
		resync_step_to(v, SINK_NONE);
		return;
	}
	pool_forget(&v->pool);
	v->meta.resync.id = 0;
	v->sink.ticket = meta_save(&v->meta);
	resync_step_to(v, SINK_BACK_FORGET);
}

void resync_back_forgot(struct volume *v)
{
	if (v->meta.saved < v->sink.ticket)
		return;
	undo_roll_back(v->sink.slot);
	resync_step_to(v, SINK_BACK_COPY);
}

void resync_back_copied(struct volume *v)
{
	struct undo_slot *slot = v->sink.slot;
	struct position at = undo_position(slot);

	if (!undo_idle(&v->undo))
		return;
	if (slot->error) {
		volume_fail(v, slot->error, "store: going back to where it was consistent");
		return;
	}
	v->history = *slot->history;
	v->meta.resync = (struct meta_resync){ 0 };
	resync_meta_anew(v, &at);
	resync_step_to(v, SINK_BACK_SAVE);
}

void resync_back_saved(struct volume *v)
{
	struct position at = v->meta.tail;

	if (v->meta.saved < v->sink.ticket)
		return;
	resync_log_anew(v, &at);
	v->destage.held = false;
	undo_drop(v->sink.slot);
	resync_step_to(v, SINK_DROP);
}

/* ---- divergences ---- */

void volume_divergence_drop(struct volume *v, struct volume_call *call)
{
	int result = -ENOENT;

	snprintf(call->why, WHY_BYTES, "there is no divergence %llx; see: holdfast divergence %s list",
		 (unsigned long long)call->id, v->config.name);
	for (unsigned i = 0; i < UNDO_SLOTS && result == -ENOENT; i++) {
		struct undo_slot *slot = &v->undo.slots[i];

		if (slot->kind != UNDO_DIVERGENCE || from_le64(slot->header.id) != call->id)
			continue;
		result = v->sink.step == SINK_NONE && undo_idle(&v->undo) ? 0 : -EBUSY;
		snprintf(call->why, WHY_BYTES, result ? "undo is busy just now; try again in a moment" : "");
		if (!result)
			undo_drop(slot);
	}
	volume_call_answer(v, call, result);
}
