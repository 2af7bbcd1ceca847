/* SPDX-License-Identifier: Apache-2.0 */
/* The data path. A write, from entry to acknowledgement:
 *
 *	volume_submit()		in range, we are primary: it joins the queue
 *	volume_pump()		in order: room in log, journal and pool? else it waits
 *	write_chunk()		one record into the log, its bytes into pages; readers see it from here on
 *	volume_turn()		end of the loop's turn: the batch is closed and goes to the journal and,
 *				as the same bytes, to every peer (peer_send.c)
 *	volume_journal_moved()	written, then durable, here	\ in any order
 *	peer_receive.c: ack	received, written, durable there /
 *	volume_acks()		all that the modes ask for is there: answered, exactly once, and only here
 *
 * Reads are in volume_read.c.
 */
#include "volume_private.h"

#include <errno.h>
#include <string.h>

const char *replication_mode_name(enum replication_mode mode)
{
	static const char *const names[] = { "A", "B", "C", "D" };

	return names[mode];
}

const char *volume_role_name(enum volume_role role)
{
	return role == ROLE_PRIMARY ? "primary" : "secondary";
}

const char *split_policy_name(enum split_policy policy)
{
	static const char *const names[SPLIT_POLICIES] = { "none", "keep-primary", "keep-newest", "keep-only-writer" };

	return names[policy];
}

uint64_t volume_now(struct volume *v)
{
	return v->io->now_ns(v->io);
}

/* ---- answers ------------------------------------------------------------------------------------ */

void volume_answer(struct volume *v, struct volume_request *request, int result)
{
	list_remove(&request->link);
	v->requests_in_flight--;
	if (v->state == VOLUME_CLOSING)
		volume_turn_soon(v);
	request->done(request, result);
}

/* An answer that is known inside volume_submit(): it is given at the end of the turn. */
void volume_answer_later(struct volume *v, struct volume_request *request, int result)
{
	list_remove(&request->link);
	request->stage = (unsigned)-result;
	list_append(&v->finished, &request->link);
	volume_turn_soon(v);
}

static void answer_finished(struct volume *v)
{
	struct list ready;

	/* Only those of now: done() may submit more. */
	list_init(&ready);
	while (!list_empty(&v->finished)) {
		struct list *link = list_first(&v->finished);

		list_remove(link);
		list_append(&ready, link);
	}
	while (!list_empty(&ready)) {
		struct volume_request *request = list_entry(list_first(&ready), struct volume_request, link);

		volume_answer(v, request, -(int)request->stage);
	}
}

static void fail_list(struct volume *v, struct list *list, int error)
{
	while (!list_empty(list))
		volume_answer_later(v, list_entry(list_first(list), struct volume_request, link), error);
}

void volume_fail_writes(struct volume *v, int error, bool unacknowledged_too)
{
	fail_list(v, &v->waiting, error);
	v->waiting_count = 0;
	if (!unacknowledged_too)
		return;
	fail_list(v, &v->acks, error);
	fail_list(v, &v->flushes, error);
	v->ack_count = 0;
	v->flush_wanted = 0;
}

/* The replica has lost its disk's trust. Nothing is acknowledged any more; what is durable stays. */
void volume_fail(struct volume *v, int error, const char *what)
{
	volume_turn_soon(v);
	if (v->failed)
		return;
	v->failed = error;
	snprintf(v->why, sizeof v->why, "%s failed (%s); nothing is acknowledged any more; check the disk, then "
		 "restart this node, or fail over to a peer", what, strerrordesc_np(-error));
	say(v->io, IO_ERROR, "volume=%s %s", v->config.name, v->why);
	volume_fail_writes(v, -EIO, true);
	/* Nobody waits for us, and whoever wants to take over may. */
	for (unsigned i = 0; i < v->peer_count; i++)
		if (peer_connected(&v->peers[i]) && !v->peers[i].closing)
			peer_refuse_failed(&v->peers[i]);
}

/* ---- acknowledgement ------------------------------------------------------------------------------ */

unsigned volume_ack_peers(const struct volume *v, struct ack_peer out[PEERS_MAX])
{
	for (unsigned i = 0; i < v->peer_count; i++) {
		const struct peer *p = &v->peers[i];

		if (p->expected_ns && !p->sourcing) {	/* of this epoch it has nothing yet */
			out[i] = (struct ack_peer){ .mode = p->config->mode, .online = true,
						    .named = p->config->commit };
			continue;
		}
		out[i] = (struct ack_peer){
			.mode = p->config->mode, .online = p->state == PEER_ONLINE || p->expected_ns,
			/* In the middle of a resync its log is no copy of anything. */
			.connected = p->sourcing && p->state != PEER_RESYNC,
			.received = p->received, .written = p->written, .durable = p->durable,
			.applied = p->applied, .named = p->config->commit,
		};
	}
	return v->peer_count;
}

struct ack_policy volume_ack_policy(const struct volume *v)
{
	return (struct ack_policy){ .commit = v->config.commit, .copies = v->config.commit_copies,
				    .min_copies = v->config.min_copies };
}

struct ack_marks volume_marks(const struct volume *v)
{
	struct ack_policy policy = volume_ack_policy(v);
	struct ack_peer peers[PEERS_MAX];
	unsigned count = volume_ack_peers(v, peers);

	return ack_marks(v->journal.written, v->journal.durable, peers, count, &policy);
}

static void answer_up_to(struct volume *v, struct list *list, uint64_t lsn)
{
	while (!list_empty(list)) {
		struct volume_request *request = list_entry(list_first(list), struct volume_request, link);

		if (request->lsn > lsn)
			return;
		v->ack_count--;
		volume_answer(v, request, 0);
	}
}

void volume_acks(struct volume *v)
{
	struct ack_marks marks;

	if (v->role != ROLE_PRIMARY || v->failed)
		return;
	marks = volume_marks(v);
	if (marks.commit > v->commit) {
		v->commit = marks.commit;
		for (unsigned i = 0; i < v->peer_count; i++)
			peer_news(&v->peers[i]);
	}
	answer_up_to(v, &v->acks, marks.complete);
	answer_up_to(v, &v->flushes, marks.flushed);
}

void volume_journal_moved(struct journal *j)
{
	struct volume *v = container_of(j, struct volume, journal);

	if (j->failed) {
		volume_fail(v, j->failed, j->failed_at[0] == 's' ? "journal: a sync" : "journal: a write");
		return;
	}
	volume_acks(v);
	destage_step(&v->destage);
	for (unsigned i = 0; i < v->peer_count; i++)
		peer_news(&v->peers[i]);
	volume_turn_soon(v);
}

void volume_meta_moved(struct meta *m)
{
	struct volume *v = container_of(m, struct volume, meta);

	if (m->failed)
		volume_fail(v, m->failed, "meta: a write");
	destage_step(&v->destage);
	volume_turn_soon(v);
}

/* ---- writes --------------------------------------------------------------------------------------- */

static uint32_t chunk_length(const struct volume *v, const struct volume_request *request)
{
	uint64_t left = request->len - request->progress, offset = request->offset + request->progress;
	uint64_t most = min_u64(WRITE_CHUNK_BYTES, round_down(record_bytes_max(&v->geometry) - 256, BLOCK_BYTES));

	if (request->op != VOLUME_WRITE)
		most = DELTA_RANGE_MAX;
	/* Later chunks start at a block, so that no block is changed by two records. */
	return left <= most ? (uint32_t)left : (uint32_t)(round_down(offset + most, BLOCK_BYTES) - offset);
}

/* Those that writes wait for must still find in our journal what they lack when their connection was lost for a
 * moment: so the log does not run away from them by more than the journal holds. */
static bool peers_keep_up(const struct volume *v, uint32_t record)
{
	uint64_t span = v->geometry.journal_bytes - v->geometry.segment_bytes;
	uint64_t end = v->log.end.lsn + log_cost(&v->log, record);
	struct ack_policy policy = volume_ack_policy(v);
	struct ack_peer peers[PEERS_MAX];
	unsigned count = volume_ack_peers(v, peers);

	return end <= span || ack_kept_up(peers, count, &policy) >= end - span;
}

int volume_append(struct volume *v, const struct record_draft *draft)
{
	uint32_t length = log_draft_length(draft);
	const struct record_header *r;
	int result;

	if (!log_has_room(&v->log, length, v->journal.written) || !peers_keep_up(v, length))
		return -EAGAIN;
	result = journal_has_room(&v->journal, length) ? pool_prepare(&v->pool, draft->deltas, draft->delta_count) :
							 -ENOSPC;
	if (result == -ENOSPC) {
		destage_start(&v->destage);
		return -EAGAIN;
	}
	if (result)
		return result;
	log_append(&v->log, draft, v->io->wall_ns(v->io));
	r = log_record(&v->log, v->log.end.lsn - length);
	pool_apply(&v->pool, draft->deltas, draft->delta_count, record_payload(r), v->log.end.lsn - length,
		   v->log.end.lsn);
	/* A batch is always a small part of anybody's journal: a peer can give room back only between batches. */
	if (v->log.end.lsn - v->log.closed.lsn >= v->geometry.segment_bytes / 2)
		log_close(&v->log);
	v->applied = v->log.end.lsn;
	return 0;
}

/* One record of the request. 0: it is in the log. -EAGAIN: it has to wait, and whoever makes room calls
 * volume_pump(). */
static int write_chunk(struct volume *v, struct volume_request *request)
{
	static const uint16_t kinds[] = { [VOLUME_WRITE] = DELTA_DATA, [VOLUME_DISCARD] = DELTA_DISCARD,
					  [VOLUME_ZERO] = DELTA_ZERO };
	uint32_t length = chunk_length(v, request);
	struct record_delta delta = {
		.offset = to_le64(request->offset + request->progress), .length = to_le32(length),
		.kind = to_le16(kinds[request->op]),
	};
	struct slice payload = { request->buffer + request->progress, length };
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = &delta, .delta_count = 1, .payload = &payload,
				      .slice_count = request->op == VOLUME_WRITE };
	int result = volume_append(v, &draft);

	if (!result)
		request->progress += length;
	return result;
}

void volume_pump(struct volume *v)
{
	while (!list_empty(&v->waiting) && !v->frozen && v->role == ROLE_PRIMARY && !v->failed) {
		struct volume_request *request = list_entry(list_first(&v->waiting), struct volume_request, link);
		int result = write_chunk(v, request);

		if (result == -EAGAIN)
			break;
		if (result == 0 && request->progress < request->len)
			continue;
		v->waiting_count--;
		if (result) {
			volume_answer_later(v, request, result);
			continue;
		}
		request->lsn = v->log.end.lsn;
		list_remove(&request->link);
		list_append(request->flags & VOLUME_FUA ? &v->flushes : &v->acks, &request->link);
		v->ack_count++;
		if (request->flags & VOLUME_FUA)
			v->flush_wanted = request->lsn;
		volume_turn_soon(v);
	}
	if (destage_due(&v->destage))
		destage_start(&v->destage);
}

static void submit_write(struct volume *v, struct volume_request *request)
{
	if (request->op == VOLUME_WRITE) {
		v->writes++;
		v->bytes_written += request->len;
	} else {
		v->discards++;
	}
	list_append(&v->waiting, &request->link);
	v->waiting_count++;
	volume_pump(v);
	/* The first part of a long one may be in the log while the rest waits for room: the batch has to go. */
	if (v->log.end.lsn != v->log.closed.lsn)
		volume_turn_soon(v);
}

static void submit_flush(struct volume *v, struct volume_request *request)
{
	v->flushes_done++;
	/* A secondary has acknowledged nothing that a flush could cover. */
	if (v->role != ROLE_PRIMARY) {
		volume_answer_later(v, request, 0);
		return;
	}
	request->lsn = v->log.end.lsn;
	v->flush_wanted = max_u64(v->flush_wanted, request->lsn);
	list_append(&v->flushes, &request->link);
	v->ack_count++;
	volume_turn_soon(v);
}

static void submit_ack(struct volume *v, struct volume_request *request)
{
	if (v->role != ROLE_PRIMARY) {
		volume_answer_later(v, request, 0);
		return;
	}
	request->lsn = v->log.end.lsn;
	list_append(&v->acks, &request->link);
	v->ack_count++;
	volume_turn_soon(v);
}

/* ---- entry ---------------------------------------------------------------------------------------- */

static int refusal(const struct volume *v, const struct volume_request *request)
{
	bool changes = request->op == VOLUME_WRITE || request->op == VOLUME_DISCARD || request->op == VOLUME_ZERO;
	bool moves_data = request->op == VOLUME_READ || request->op == VOLUME_WRITE;

	if (v->state != VOLUME_OPEN)
		return -ESHUTDOWN;
	if (v->failed && request->op != VOLUME_READ && request->op != VOLUME_MAP)
		return -EIO;
	if (request->op == VOLUME_FLUSH || request->op == VOLUME_ACK)
		return 0;
	if (request->len == 0 || request->offset > v->geometry.volume_bytes ||
	    request->len > v->geometry.volume_bytes - request->offset ||
	    (moves_data && request->len > REQUEST_BYTES_MAX))
		return -EINVAL;
	return changes && v->role != ROLE_PRIMARY ? -EROFS : 0;
}

void volume_submit(struct volume *v, struct volume_request *request)
{
	int result = refusal(v, request);

	list_init(&request->link);
	request->volume = v;
	request->progress = 0;
	request->stage = 0;
	v->requests_in_flight++;
	if (result) {
		volume_answer_later(v, request, result);
		return;
	}
	switch (request->op) {
	case VOLUME_READ: volume_read_submit(v, request); return;
	case VOLUME_FLUSH: submit_flush(v, request); return;
	case VOLUME_ACK: submit_ack(v, request); return;
	case VOLUME_MAP: volume_map_submit(v, request); return;
	case VOLUME_WRITE:
	case VOLUME_DISCARD:
	case VOLUME_ZERO: submit_write(v, request); return;
	}
	volume_answer_later(v, request, -EINVAL);
}

/* ---- the turn --------------------------------------------------------------------------------------- */

static bool any_peer_counts(const struct volume *v, enum replication_mode mode)
{
	struct ack_policy policy = volume_ack_policy(v);
	struct ack_peer peers[PEERS_MAX];
	unsigned count = volume_ack_peers(v, peers);

	for (unsigned i = 0; i < count; i++)
		if (peers[i].mode == mode && ack_counts(&peers[i], &policy))
			return true;
	return false;
}

/* Closes the batch, when the journal can take it: while it writes, what arrives gathers for the next one. */
static void close_batch(struct volume *v)
{
	if (v->role == ROLE_PRIMARY && !v->journal.write_op.in_flight) {
		log_close(&v->log);
		v->applied = v->log.end.lsn;	/* a pad has no effect */
	}
	/* In mode D readers there see only what is committed, that is durable: every write waits for that. */
	if (any_peer_counts(v, MODE_D))
		v->flush_wanted = v->log.closed.lsn;
	if (v->role == ROLE_PRIMARY && v->flush_wanted > v->journal.durable)
		journal_want_durable(&v->journal, min_u64(v->flush_wanted, v->log.closed.lsn));
	if (v->role == ROLE_SECONDARY && v->source_want_durable > v->journal.durable)
		journal_want_durable(&v->journal, min_u64(v->source_want_durable, v->log.closed.lsn));
	journal_kick(&v->journal);
}

/* Nobody asks that the end of the log becomes durable, and readers elsewhere see no further. */
static bool readers_wait(const struct volume *v)
{
	if (v->role != ROLE_PRIMARY || v->failed || v->flush_wanted >= v->log.closed.lsn)
		return false;
	for (unsigned i = 0; i < v->peer_count; i++)
		if (v->peers[i].sourcing)
			return true;
	return false;
}

static void volume_news(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, news);

	/* While writes follow each other a tick is soon enough. */
	if (result >= 0 && readers_wait(v) && v->log.closed.lsn == v->quiet_lsn)
		v->flush_wanted = v->log.closed.lsn;
	v->quiet_lsn = v->log.closed.lsn;
	volume_turn_soon(v);
}

void volume_news_soon(struct volume *v)
{
	if (v->news.in_flight || v->state != VOLUME_OPEN)
		return;
	v->news = (struct io_op){ .kind = IO_TIMER, .offset = NEWS_NS, .done = volume_news };
	v->io->submit(v->io, &v->news);
}

static void volume_turn(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, turn);

	(void)result;
	answer_finished(v);
	volume_calls_answer(v);
	if (v->state == VOLUME_OPEN || v->state == VOLUME_CLOSING) {
		volume_pump(v);
		volume_apply_step(v);
		volume_blocks_turn(v);
		close_batch(v);
		volume_acks(v);
		if (!resync_sink_moves_log(v) && (v->state == VOLUME_OPEN || v->lacks.step != LACK_IDLE))
			lacks_step(&v->lacks);
		resync_sink_step(v);
		volume_shown(v);
		fetch_step(v);
		verify_sink_step(v);
		verify_step(v);
		volume_role_step(v);
		volume_wait_step(v);
		listener_step(&v->listener);
		peer_follow_best(v);
		for (unsigned i = 0; i < v->peer_count; i++) {
			if (v->state == VOLUME_OPEN)
				peer_dial(&v->peers[i], volume_now(v));
			peer_process(&v->peers[i]);
			resync_source_step(&v->peers[i]);
			peer_news(&v->peers[i]);
			peer_send(&v->peers[i]);
		}
		if (readers_wait(v))
			volume_news_soon(v);
	}
	/* Last, as its call's done() may free the volume. */
	if (v->state == VOLUME_OPENING)
		volume_open_step(v);
	else if (v->state == VOLUME_CLOSING)
		volume_close_step(v);
}

void volume_turn_soon(struct volume *v)
{
	if (v->turn.in_flight)
		return;
	v->turn = (struct io_op){ .kind = IO_SOON, .done = volume_turn };
	v->io->submit(v->io, &v->turn);
}

static bool any_peer_undurable(const struct volume *v)
{
	for (unsigned i = 0; i < v->peer_count; i++)
		if (v->peers[i].sourcing && v->peers[i].durable < v->log.closed.lsn)
			return true;
	return false;
}

/* Ten times a second: what moves by time alone. */
static void volume_tick(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, tick);
	bool moves = resync_sink_moves_log(v);
	uint64_t now = volume_now(v);

	if (result < 0) {
		volume_turn_soon(v);
		return;
	}
	/* The commit LSN follows within a tick even when nobody asks for a flush. */
	if (v->role == ROLE_PRIMARY && !v->failed && (v->log.closed.lsn > v->commit || any_peer_undurable(v)))
		v->flush_wanted = max_u64(v->flush_wanted, v->log.closed.lsn);
	/* Ten times a second at most meta learns how far the journal is durable: so that a journal that ends earlier
	 * after a crash is known to have lost what was promised. While the log moves, meta is ahead of it. */
	if (!moves)
		v->meta.commit = v->commit;
	if (!moves && v->journal.durable > v->meta.durable && v->state == VOLUME_OPEN && !v->failed) {
		v->meta.durable = v->journal.durable;
		meta_save(&v->meta);
	}
	if (!pool_dirty(&v->pool))
		v->destage_ns = 0;
	else if (!v->destage_ns)
		v->destage_ns = now;
	if (v->destage_ns && now - v->destage_ns > 2000000000ull) {
		v->destage_ns = now;
		destage_start(&v->destage);
	}
	destage_retry(&v->destage);
	if (v->state == VOLUME_OPEN) {
		for (unsigned i = 0; i < v->peer_count; i++)
			peer_tick(&v->peers[i], now);
		listener_tick(&v->listener, now);
	}
	volume_tick_start(v);
	volume_turn_soon(v);
}

void volume_tick_start(struct volume *v)
{
	v->tick = (struct io_op){ .kind = IO_TIMER, .offset = TICK_NS, .done = volume_tick };
	v->io->submit(v->io, &v->tick);
}

void volume_pool_loaded(struct pool *pool, int error)
{
	struct volume *v = container_of(pool, struct volume, pool);

	if (error)
		volume_fail(v, error, "store: a read");
	volume_turn_soon(v);
}

void volume_lacks_moved(struct lacks *l)
{
	struct volume *v = container_of(l, struct volume, lacks);

	if (lacks_failed(l))
		volume_fail(v, lacks_failed(l), "bitmap: a read or write");
	if (l->lost) {
		l->lost = false;
		say(v->io, IO_WARNING, "volume=%s journal: a part that a peer may lack cannot be read back; all blocks "
		    "are noted for it instead", v->config.name);
	}
	volume_turn_soon(v);
}

void volume_undo_moved(struct undo *u)
{
	struct volume *v = container_of(u, struct volume, undo);

	if (u->failed)
		volume_fail(v, u->failed, "undo: a read or write");
	destage_step(&v->destage);
	volume_turn_soon(v);
}

void volume_destage_freed(struct destage *d)
{
	struct volume *v = container_of(d, struct volume, destage);

	if (d->failed)
		volume_fail(v, d->failed, "store: a write or sync");
	if (d->store_full && !v->store_full_said)
		say(v->io, IO_WARNING,
		    "volume=%s store: its disk is full; writes wait once journal or memory are full too, "
		    "and go on when there is space again",
		    v->config.name);
	if (d->state == DESTAGE_IDLE && v->store_full_said)
		say(v->io, IO_INFO, "volume=%s store: its disk has space again; writes go on", v->config.name);
	v->store_full_said = d->store_full || (v->store_full_said && d->state != DESTAGE_IDLE);
	volume_turn_soon(v);
}
