/* SPDX-License-Identifier: Apache-2.0 */
/* The taking side of a resync: steps, each of which waits for a fact; resync.h has them in order. Until JUMP nothing of
 * the replica is changed, and a lost connection ends it. From JUMP to END meta says that a resync is under way, so that
 * a crash, or any other interruption, ends in SINK_NONE with v->meta.resync.running, and the next source goes on.
 *
 * Invariant from JUMP to END: every block in which the store may differ from the volume as of meta.resync.base (on the
 * history that we had then) is in `saved` or `want` of the undo slot. */
#include <errno.h>
#include <string.h>

#include "checksum.h"
#include "resync_private.h"
#include "volume_private.h"

enum { FINISH_COMMIT_NS = 1000000000 };

static void read_done(struct volume_request *request, int result);

int resync_sink_new(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	s->history = v->io->alloc(v->io, sizeof *s->history, 0);
	s->buffer = v->io->alloc(v->io, frame_blocks_max(&v->geometry) * (uint64_t)BLOCK_BYTES, IO_FIXED);
	s->read.done = read_done;
	return s->history && s->buffer ? 0 : -ENOMEM;
}

void resync_sink_delete(struct volume *v)
{
	v->io->free(v->io, v->sink.history);
	v->io->free(v->io, v->sink.buffer);
}

bool resync_running(const struct volume *v)
{
	return (v->meta.resync.running && v->sink.step != SINK_END && v->sink.step != SINK_CLEAR) ||
	       v->sink.step == SINK_BACK_SAVE;
}

bool resync_readable(const struct volume *v)
{
	return resync_running(v) && v->sink.slot && !from_le64(v->sink.slot->header.partial);
}

void resync_step_to(struct volume *v, enum sink_step step)
{
	v->sink.step = step;
	volume_turn_soon(v);
}

/* Nothing of this replica was changed: everything is as before. */
void resync_give_up(struct volume *v, const char *why)
{
	struct resync_sink *s = &v->sink;
	struct peer *p = s->peer;

	s->peer = NULL;
	s->rewind = false;
	if (s->slot && s->slot->taking) {
		undo_untake(s->slot);
		s->slot = NULL;
	}
	if (s->slot && s->slot->kind == UNDO_RESYNC)
		undo_drop(s->slot);
	resync_step_to(v, s->slot ? SINK_DROP : SINK_NONE);
	if (p && why)
		peer_refuse(p, FRAME_ERROR_BUSY, 0, PEER_REFUSED, "node %s: %s", v->geometry.node, why);
}

void resync_sink_lost(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	s->say_ask = s->say_want = s->say_taken = s->say_finished = s->ask_anew = false;
	s->got_count = 0;
	s->read_over = false;
	s->read_stale = s->reading;
	switch (s->step) {
	case SINK_SETTLE:
	case SINK_WALK:
		resync_give_up(v, NULL);
		break;
	case SINK_SNAPSHOT:	/* when undo is idle again */
	case SINK_PARTIAL:
	case SINK_JUMP:
	case SINK_SAVE:
	case SINK_END:
	case SINK_CLEAR:
		s->peer = NULL;
		break;
	case SINK_ASK:
	case SINK_QUIET:
		if (!v->meta.resync.running) {
			resync_give_up(v, NULL);
			break;
		}
		/* fallthrough */
	case SINK_REST:
	case SINK_RUN:
	case SINK_FINISH:
		s->peer = NULL;
		resync_step_to(v, SINK_NONE);
		break;
	default:
		break;
	}
}

/* ---- the jump ---- */

static int take_begin(struct volume *v, const struct frame_begin *begin, const char **field)
{
	struct resync_sink *s = &v->sink;

	if (s->step != SINK_ASK) {
		*field = "BEGIN is not expected now";
		return -EBADMSG;
	}
	s->history->count = from_le32(begin->epoch_count);
	memcpy(s->history->epochs, begin + 1, s->history->count * sizeof s->history->epochs[0]);
	if (!history_check(s->history)) {
		*field = "BEGIN history";
		return -EBADMSG;
	}
	/* Its epochs from there on come with the log. */
	history_truncate(s->history, from_le64(begin->at.lsn));
	s->begin = *begin;
	resync_progress_start(&s->progress, volume_now(v), from_le64(begin->blocks) * BLOCK_BYTES);
	s->bytes_got = 0;
	s->got_first = s->got_count = 0;
	s->taken = s->hashed = s->differ = 0;
	if (!(from_le32(begin->flags) & BEGIN_GOES_ON)) {
		resync_step_to(v, SINK_QUIET);
		return 0;
	}
	if (!v->meta.resync.running || from_le64(begin->id) != v->meta.resync.id ||
	    from_le64(begin->at.lsn) != v->log.closed.lsn) {
		*field = "BEGIN goes on with what we do not know";
		return -EBADMSG;
	}
	s->peer->say_ack = true;
	resync_step_to(v, SINK_RUN);
	return 0;
}

static void quiet(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	uint64_t blocks = from_le64(s->begin.blocks), room = v->undo.limit_blocks;
	bool small;

	if (!resync_settled(v) || !undo_idle(&v->undo))
		return;
	room -= min_u64(room, s->slot->data_count);
	/* A new resync replaces what we asked for, and what is saved is among that. */
	small = blocks > room + (v->meta.resync.running ? 0 : s->slot->saved.count);
	if (small && !from_le64(s->slot->header.partial)) {
		say(v->io, IO_WARNING,
		    "volume=%s undo: %llu blocks are to be replaced and undo-size allows %llu; this replica is "
		    "inconsistent "
		    "until the resync is over, and cannot take over before that",
		    v->config.name, (unsigned long long)blocks, (unsigned long long)v->undo.limit_blocks);
		v->undo.lsn_now = v->applied;
		undo_stop(s->slot);
	}
	resync_step_to(v, SINK_PARTIAL);
}

/* Everything rests. Meta gets a log that begins anew, and an undo slot beside it. */
static void jump(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	struct position at = frame_position_get(&s->begin.at);

	if (!undo_idle(&v->undo))
		return;
	if (!s->peer) {
		if (v->meta.resync.running)
			resync_step_to(v, SINK_NONE);
		else
			resync_give_up(v, NULL);
		return;
	}
	v->history = *s->history;
	v->meta.resync.base = v->meta.resync.running ? min_u64(v->meta.resync.base, s->fork.lsn)
						     : from_le64(s->slot->header.base);
	v->views++;
	v->meta.resync.running = true;
	v->meta.resync.slot = s->slot->index;
	v->meta.resync.id = from_le64(s->begin.id);
	memcpy(v->meta.resync.source, s->peer->config->name, NAME_BYTES);
	resync_meta_anew(v, &at);
	resync_step_to(v, SINK_JUMP);
}

void resync_meta_anew(struct volume *v, const struct position *at)
{
	v->meta.tail = *at;
	v->meta.reach = v->meta.durable = v->meta.commit = at->lsn;
	lacks_forget(&v->lacks, at);
	v->sink.ticket = meta_save(&v->meta);
}

void resync_log_anew(struct volume *v, const struct position *at)
{
	/* Meta has no more than the log that begins here: a later crash would find the rest missing. */
	CHECK(v->meta.durable == at->lsn && v->meta.commit == at->lsn);
	log_start_at(&v->log, at);
	journal_start_at(&v->journal, at->lsn, at->lsn, at->lsn);
	cursor_seek(&v->apply, at);
	v->applied = v->commit = at->lsn;
	v->log.epoch = history_last_number(&v->history);
}

static void jumped(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	struct position at = frame_position_get(&s->begin.at);

	if (v->meta.saved < s->ticket)
		return;
	resync_log_anew(v, &at);
	v->meta.promised = max_u64(v->meta.promised, v->log.epoch);
	if (!s->peer) {
		resync_step_to(v, SINK_NONE);
		return;
	}
	s->peer->fork = at;
	say(v->io, IO_INFO, "volume=%s resync from node %s: %llu blocks, log from LSN %llu on", v->config.name,
	    s->peer->config->name, (unsigned long long)from_le64(s->begin.blocks), (unsigned long long)at.lsn);
	s->peer->say_ack = true;
	resync_step_to(v, SINK_RUN);
}

/* ---- run ---- */

static void got(struct volume *v, uint64_t sequence)
{
	struct resync_sink *s = &v->sink;

	s->got[(s->got_first + s->got_count++) % RESYNC_WINDOW] =
		(struct resync_got){ sequence, v->pool.order, v->destage.started };
}

static int put_blocks(struct volume *v, const struct frame_blocks *blocks)
{
	bool zero = from_le32(blocks->kind) == BLOCKS_ZERO;
	struct record_delta delta = {
		.offset = to_le64(from_le64(blocks->first) * BLOCK_BYTES),
		.length = to_le32((uint32_t)(from_le32(blocks->count) * (uint64_t)BLOCK_BYTES)),
		.kind = to_le16(zero ? DELTA_DISCARD : DELTA_DATA),
	};

	return volume_put_blocks(v, &delta, 1, (const uint8_t *)(blocks + 1), v->applied) ? -EAGAIN : 0;
}

static void read_done(struct volume_request *request, int result)
{
	struct volume *v = request->volume;

	v->sink.reading = false;
	v->sink.read_over = !v->sink.read_stale;
	v->sink.read_stale = false;
	v->sink.read_result = result;
	volume_turn_soon(v);
}

/* Our blocks against the source's hashes. What is the same is as good as sent. */
static int compare_blocks(struct volume *v, const struct frame_blocks *blocks)
{
	struct resync_sink *s = &v->sink;
	const uint8_t *theirs = (const uint8_t *)(blocks + 1);
	uint32_t count = from_le32(blocks->count);

	if (s->reading || s->hashed)
		return -EAGAIN;
	if (!s->read_over) {
		s->reading = true;
		s->read.op = VOLUME_READ;
		s->read.offset = from_le64(blocks->first) * BLOCK_BYTES;
		s->read.len = count * (uint64_t)BLOCK_BYTES;
		s->read.buffer = s->buffer;
		volume_read_current(v, &s->read);
		return -EAGAIN;
	}
	s->read_over = false;
	s->differ = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t ours[HASH_BYTES];

		checksum_hash(s->buffer + i * (uint64_t)BLOCK_BYTES, BLOCK_BYTES, ours);
		/* A block that cannot be read differs: the source's bytes mend it. */
		if (s->read_result || memcmp(ours, theirs + i * HASH_BYTES, HASH_BYTES) != 0)
			s->differ |= 1ull << i;
	}
	s->hashed = from_le64(blocks->sequence);
	s->say_taken = true;
	return 0;
}

static int take_blocks(struct volume *v, const struct frame_blocks *blocks, const char **field)
{
	struct resync_sink *s = &v->sink;
	int result;

	if (s->step != SINK_RUN || from_le64(blocks->lsn) < v->log.end.lsn) {
		*field = "BLOCKS are not expected now, or their lsn";
		return -EBADMSG;
	}
	if (s->got_count == RESYNC_WINDOW)
		return -EAGAIN;
	result = from_le32(blocks->kind) == BLOCKS_HASH ? compare_blocks(v, blocks) : put_blocks(v, blocks);
	if (result)
		return result;
	if (from_le32(blocks->kind) == BLOCKS_DATA)
		s->bytes_got += from_le32(blocks->count) * (uint64_t)BLOCK_BYTES;
	resync_progress_note(&s->progress, volume_now(v), from_le64(blocks->left) * BLOCK_BYTES);
	got(v, from_le64(blocks->sequence));
	volume_turn_soon(v);
	return 0;
}

static int take_need(struct peer *p, const struct frame_need *need, const char **field)
{
	struct volume *v = p->volume;
	struct resync_sink *s = &v->sink;

	if (from_le32(need->what) == NEED_WANT && s->step == SINK_ASK) {
		if (v->meta.resync.running)
			resync_step_to(v, SINK_REST);
		else
			resync_say_wants(v);
	} else if (from_le32(need->what) == NEED_RESYNC && (s->step == SINK_RUN || s->step == SINK_FINISH)) {
		resync_sink_lost(v);
		resync_sink_again(p);
	} else if (from_le32(need->what) == NEED_RESYNC && s->step == SINK_NONE && !v->meta.resync.running &&
		   v->change.step == ROLE_STEP_NONE) {
		log_drop_open(&v->log);
		p->log_left = 0;
		resync_sink_start(p);
	} else {
		*field = "NEED is not expected now";
		return -EBADMSG;
	}
	volume_turn_soon(v);
	return 0;
}

int resync_sink_frame(struct peer *p, const struct frame_header *header, const char **field)
{
	struct volume *v = p->volume;
	struct resync_sink *s = &v->sink;
	const void *fixed = header + 1;
	const struct frame_done *done = fixed;

	if (v->source != p) {
		*field = "type (we do not follow it)";
		return -EBADMSG;
	}
	switch (from_le16(header->type)) {
	case FRAME_NEED: return take_need(p, fixed, field);
	case FRAME_BEGIN: return take_begin(v, fixed, field);
	case FRAME_BLOCKS: return take_blocks(v, fixed, field);
	}
	if (s->step != SINK_RUN || from_le64(done->id) != v->meta.resync.id) {
		*field = "DONE is not expected now";
		return -EBADMSG;
	}
	s->done_lsn = from_le64(done->lsn);
	s->done_ns = volume_now(v);
	resync_step_to(v, SINK_FINISH);
	return 0;
}

bool resync_sink_acks(const struct volume *v)
{
	return v->sink.step == SINK_NONE || v->sink.step >= SINK_RUN;
}

bool resync_sink_holds(const struct volume *v)
{
	return v->sink.step == SINK_QUIET || v->sink.step == SINK_PARTIAL || v->sink.step == SINK_JUMP;
}

bool resync_sink_moves_log(const struct volume *v)
{
	return v->sink.step == SINK_JUMP || v->sink.step == SINK_BACK_SAVE;
}

/* What the store has durably by now. */
static void count_durable(struct volume *v)
{
	struct resync_sink *s = &v->sink;
	const struct destage *d = &v->destage;
	bool clean = d->state == DESTAGE_IDLE && !pool_dirty(&v->pool);

	while (s->got_count) {
		const struct resync_got *g = &s->got[s->got_first];

		if (!clean && (d->finished <= g->round || d->clean_order < g->order))
			break;
		s->taken = g->sequence;
		s->say_taken = true;
		s->got_first = (s->got_first + 1) % RESYNC_WINDOW;
		s->got_count--;
	}
	if (s->got_count && d->state == DESTAGE_IDLE)
		destage_start(&v->destage);
}

/* ---- the end ---- */

static void finish(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	count_durable(v);
	/* Writes may wait for us to be a copy, so that nothing is committed before we are one: then what we have is
	 * shown when it is whole, and as far as the source had it. */
	if (v->commit < s->done_lsn && volume_now(v) - s->done_ns > FINISH_COMMIT_NS)
		v->commit = s->done_lsn;
	if (s->got_count || v->applied < s->done_lsn || v->commit < s->done_lsn)
		return;
	if (v->journal.durable < v->applied) {
		journal_want_durable(&v->journal, min_u64(v->applied, v->log.closed.lsn));
		return;
	}
	v->meta.reach = max_u64(v->meta.reach, v->applied);
	v->meta.commit = v->commit;
	s->ticket = meta_save(&v->meta);
	resync_step_to(v, SINK_SAVE);
}

/* What the snapshot holds is the past of our log after all: sources may have changed since that was in doubt. */
static bool snapshot_is_past(const struct volume *v)
{
	const struct undo_slot *slot = v->sink.slot;
	struct position at = undo_position(slot);
	enum history_verdict verdict;

	verdict = history_compare(&v->history, &v->log.closed, slot->history, &at).verdict;
	return verdict == HISTORY_AHEAD || verdict == HISTORY_EQUAL;
}

static void saved(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	if (v->meta.saved < s->ticket || !undo_idle(&v->undo) || !undo_preserved(&v->undo))
		return;
	if (snapshot_is_past(v))
		s->slot->header.keep = to_le32(0);
	if (from_le32(s->slot->header.keep))
		say(v->io, IO_WARNING,
		    "volume=%s divergence %llx: %llu blocks that this node wrote between LSN %llu and %llu were "
		    "set aside "
		    "for the history of node %s; see: holdfast divergence %s list",
		    v->config.name, (unsigned long long)from_le64(s->slot->header.id),
		    (unsigned long long)from_le64(s->slot->header.blocks),
		    (unsigned long long)from_le64(s->slot->header.base),
		    (unsigned long long)from_le64(s->slot->header.lsn), s->slot->header.source, v->config.name);
	undo_end(s->slot);
	resync_step_to(v, SINK_END);
}

static void ended(struct volume *v)
{
	if (!undo_idle(&v->undo))
		return;
	v->sink.slot = NULL;
	v->meta.resync = (struct meta_resync){ 0 };
	v->sink.ticket = meta_save(&v->meta);
	resync_step_to(v, SINK_CLEAR);
}

static void cleared(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	if (v->meta.saved < s->ticket)
		return;
	say(v->io, IO_INFO, "volume=%s resync is over: consistent at LSN %llu", v->config.name,
	    (unsigned long long)v->applied);
	if (s->peer) {
		s->say_finished = true;
		s->peer->rewind = false;
	}
	resync_step_to(v, SINK_NONE);
	volume_meet_anew(v, s->peer);
	s->rewind = false;
}

static void dropped(struct volume *v)
{
	if (!undo_idle(&v->undo))
		return;
	v->sink.slot = NULL;
	resync_step_to(v, SINK_NONE);
}

/* ---- the turn ---- */

/* A slot that was taken for a resync that never came to its jump. */
static void leftovers(struct volume *v)
{
	for (unsigned i = 0; i < UNDO_SLOTS; i++) {
		struct undo_slot *slot = &v->undo.slots[i];

		if (slot->kind == UNDO_RESYNC && slot != v->sink.slot && undo_idle(&v->undo) &&
		    undo_preserved(&v->undo))
			undo_drop(slot);
	}
}

void resync_sink_step(struct volume *v)
{
	struct resync_sink *s = &v->sink;

	if (v->failed)
		return;
	switch (s->step) {
	case SINK_NONE: leftovers(v); break;
	case SINK_SETTLE: resync_settle(v); break;
	case SINK_WALK: resync_walk(v); break;
	case SINK_SNAPSHOT: resync_snapshot_taken(v); break;
	case SINK_REST: resync_rest(v); break;
	case SINK_ASK: break;
	case SINK_QUIET: quiet(v); break;
	case SINK_PARTIAL: jump(v); break;
	case SINK_JUMP: jumped(v); break;
	case SINK_RUN:
		count_durable(v);
		resync_progress_note(&s->progress, volume_now(v), s->progress.left);
		break;
	case SINK_FINISH: finish(v); break;
	case SINK_SAVE: saved(v); break;
	case SINK_END: ended(v); break;
	case SINK_CLEAR: cleared(v); break;
	case SINK_DROP: dropped(v); break;
	case SINK_BACK_QUIET: resync_back_quiet(v); break;
	case SINK_BACK_FORGET: resync_back_forgot(v); break;
	case SINK_BACK_COPY: resync_back_copied(v); break;
	case SINK_BACK_SAVE: resync_back_saved(v); break;
	}
}

int resync_sink_open(struct volume *v, char why[WHY_BYTES])
{
	struct undo_slot *slot = &v->undo.slots[v->meta.resync.slot];

	if (v->undo.failed) {
		snprintf(why, WHY_BYTES, "%.400s", v->undo.why);
		return v->undo.failed;
	}
	if (!v->meta.resync.running)
		return 0;
	/* Undo lets go when all that was to come is there: only meta did not hear of it any more. */
	if (slot->kind != UNDO_RESYNC)
		v->meta.resync = (struct meta_resync){ 0 };
	else
		v->sink.slot = slot;
	return 0;
}

/* ---- frames ---- */

static bool put_want(struct volume *v, struct peer *p)
{
	struct resync_sink *s = &v->sink;
	struct frame_want *want = peer_body(p);
	struct frame_range *range = (void *)(want + 1);
	const struct bitmap *bits = s->want_part ? &s->slot->saved : &s->slot->want;
	uint32_t count = 0;

	if (!peer_body_fits(p, sizeof *want + FRAME_RANGES_MAX * sizeof *range))
		return false;
	while (count < FRAME_RANGES_MAX && s->want_next < bits->bits) {
		uint64_t first = bitmap_next(bits, s->want_next);

		s->want_next = first == bits->bits ? first : bitmap_next_clear(bits, first);
		if (first == bits->bits)
			break;
		range[count].first = to_le64(first);
		range[count++].count = to_le64(s->want_next - first);
	}
	if (count) {
		want->count = to_le64(count);
		peer_body_end(p, FRAME_WANT, (uint32_t)(sizeof *want + count * sizeof *range));
	}
	if (s->want_next == bits->bits && s->want_part++ == 1) {
		s->say_want = false;
		s->say_ask = true;
	} else if (s->want_next == bits->bits) {
		s->want_next = 0;
	}
	return true;
}

void resync_sink_put(struct peer *p)
{
	struct volume *v = p->volume;
	struct resync_sink *s = &v->sink;

	if (s->peer != p)
		return;
	while (s->say_want && put_want(v, p))
		;
	if (s->say_ask && peer_body_fits(p, sizeof(struct frame_ask))) {
		struct frame_ask *ask = peer_body(p);
		uint64_t base = v->meta.resync.running ? v->meta.resync.base : from_le64(s->slot->header.base);

		*ask = (struct frame_ask){ to_le64(s->ask_anew ? 0 : v->meta.resync.id),
					   to_le64(min_u64(base, s->fork.lsn)), frame_position_of(&v->log.closed),
					   s->slot->header.id };
		peer_body_end(p, FRAME_ASK, sizeof *ask);
		s->say_ask = s->ask_anew = false;
	}
	if ((s->say_taken || s->say_finished) && peer_body_fits(p, sizeof(struct frame_taken))) {
		struct frame_taken *taken = peer_body(p);

		*taken = (struct frame_taken){ to_le64(s->taken), to_le64(s->hashed), to_le64(s->differ),
					       to_le64(s->say_finished) };
		peer_body_end(p, FRAME_TAKEN, sizeof *taken);
		s->say_taken = s->say_finished = false;
		s->hashed = s->differ = 0;
	}
}

void resync_sink_status(const struct volume *v, struct volume_status *out)
{
	const struct resync_sink *s = &v->sink;

	out->consistent = !resync_running(v) || resync_readable(v);
	out->lsn_consistent = resync_readable(v) ? from_le64(s->slot->header.lsn) : resync_running(v) ? 0 : v->applied;
	out->undo_limit = v->undo.limit_blocks * BLOCK_BYTES;
	if (!resync_running(v))
		return;
	out->undo_bytes = s->slot->data_count * BLOCK_BYTES;
	memcpy(out->resync_source, v->meta.resync.source, NAME_BYTES);
	resync_progress_status(&s->progress, s->bytes_got, &out->resync);
}
