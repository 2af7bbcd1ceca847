/* SPDX-License-Identifier: Apache-2.0 */
/* The giving side of a resync. The peer's bitmap is gone through once from its start; runs of bits are looked up in
 * the store (holes go as ranges), read, and sent in between the log. Bits clear when the peer has the blocks
 * durably, so whatever interrupts this, what is left of the bitmap is what is left to do.
 *
 * The one rule: a block is read as of some LSN, and no log beyond that LSN may be sent before the block is. (Log
 * that was sent before must be part of it.) resync_log_limit() keeps peer_send.c to that. */
#include <errno.h>
#include <string.h>

#include "checksum.h"
#include "volume_private.h"

enum {
	BITS_SAVE_NS = 1000000000,
	BURST_NS = 2 * TICK_NS,		/* a cap is kept over such a time */
	CLIENTS_NS = 50000000,		/* so long after a request of a client they are busy */
	PACED_BLOCKS = 16,		/* beside them: 64 KiB, which take as long as some requests, */
	PACE = 4,			/* then nothing for four times as long as that took */
};

static void chunk_done(struct volume_request *request, int result);

int resync_source_new(struct peer *p)
{
	struct io *io = p->volume->io;

	for (unsigned i = 0; i < RESYNC_CHUNKS; i++) {
		struct resync_chunk *c = &p->give.chunks[i];

		c->peer = p;
		c->request.done = chunk_done;
		c->buffer = io->alloc(io, frame_blocks_max(&p->volume->geometry) * (uint64_t)BLOCK_BYTES, IO_FIXED);
		if (!c->buffer)
			return -ENOMEM;
	}
	return 0;
}

void resync_source_delete(struct peer *p)
{
	for (unsigned i = 0; i < RESYNC_CHUNKS; i++)
		p->volume->io->free(p->volume->io, p->give.chunks[i].buffer);
}

bool resync_source_quiet(const struct peer *p)
{
	for (unsigned i = 0; i < RESYNC_CHUNKS; i++)
		if (p->give.chunks[i].state == CHUNK_MAP || p->give.chunks[i].state == CHUNK_READ)
			return false;
	return true;
}

void resync_source_stop(struct peer *p)
{
	struct resync_source *g = &p->give;

	for (unsigned i = 0; i < RESYNC_CHUNKS; i++) {
		struct resync_chunk *c = &g->chunks[i];

		if (c->state == CHUNK_READY)
			c->state = CHUNK_FREE;
		c->stale = c->state != CHUNK_FREE;
	}
	g->step = SOURCE_NONE;
	g->say_need = g->say_begin = g->say_done = false;
	g->window_count = g->differ_count = 0;
	if (p->lack)
		lack_unmark(p->lack);
}

/* ---- the beginning ---- */

void resync_needed(struct peer *p)
{
	peer_source_stop(p);
	if (p->state != PEER_IDLE)
		peer_move(p, PEER_IDLE, "the journal does not hold what it lacks: it needs a resync");
	p->give.say_need = true;
	p->give.need = NEED_RESYNC;
	volume_turn_soon(p->volume);
}

bool resync_asked(struct peer *p, const struct frame_ask *ask)
{
	struct volume *v = p->volume;
	struct resync_source *g = &p->give;

	if (p->state == PEER_FOLLOWING && p->rewind) {
		p->split.give_up = false;
		peer_drop(p, "each of us was told to take the other's history; tell one of them again", 1000000000);
		return false;
	}
	if (p->state != PEER_IDLE && p->state != PEER_CATCHUP && p->state != PEER_ONLINE && p->state != PEER_RESYNC &&
	    p->state != PEER_SPLIT) {
		peer_malformed(p, "ASK is not expected now");
		return false;
	}
	if (resync_running(v) || v->sink.step != SINK_NONE) {
		peer_drop(p, "it asks for a resync, and this node is in one itself", 1000000000);
		return false;
	}
	peer_source_stop(p);
	if (p->state != PEER_IDLE)
		peer_move(p, PEER_IDLE, "");
	p->resyncing = true;
	g->ask = *ask;
	if (!from_le64(ask->id)) {
		g->step = SOURCE_MARK;
		p->lack->place->id = 0;
	} else if (from_le64(ask->id) == p->lack->place->id &&
		   (p->verdict == HISTORY_EQUAL || p->verdict == HISTORY_AHEAD)) {
		struct position at = frame_position_get(&ask->at);

		cursor_seek(&p->cursor, &at);
		g->step = SOURCE_PROVE;
	} else {
		g->say_need = true;
		g->need = NEED_WANT;
		g->step = SOURCE_WANTED;
	}
	volume_turn_soon(v);
	return true;
}

void resync_wanted(struct peer *p, const struct frame_want *want)
{
	const struct frame_range *range = (const void *)(want + 1);

	/* A bit too many does no harm, so there is no wrong time for this. */
	for (uint64_t i = 0; i < from_le64(want->count); i++)
		bitmap_set(&p->lack->bits, from_le64(range[i].first), from_le64(range[i].count));
}

static void begin(struct peer *p, const struct position *at, uint32_t flags)
{
	struct volume *v = p->volume;
	struct resync_source *g = &p->give;

	g->step = SOURCE_RUN;
	g->say_begin = true;
	g->begin_flags = flags;
	g->next = g->sequence = g->acked = g->map_first = g->map_end = g->bytes_sent = 0;
	resync_progress_start(&g->progress, volume_now(v), p->lack->bits.count * BLOCK_BYTES);
	g->log_first = true;
	lack_met(p->lack, at->lsn, false);
	cursor_seek(&p->cursor, at);
	p->sourcing = true;
	p->limit = 0;
	p->received = p->written = p->durable = at->lsn;
	p->applied = 0;
	peer_move(p, PEER_RESYNC, flags & BEGIN_GOES_ON ? "it goes on from where it was" : "");
	volume_turn_soon(v);
}

/* The resync is the one we know. If its log is ours too, it goes on; else what it lacks of the log is in its bitmap or
 * still in the journal, and it begins anew with what is left of the bitmap. */
static void prove(struct peer *p)
{
	struct volume *v = p->volume;
	const struct record_header *r = NULL;
	int result = cursor_look(&p->cursor, &r);

	if (result == -EAGAIN)
		return;
	if (result == 1 || (result == 0 && p->cursor.at.lsn == v->log.closed.lsn &&
			    memcmp(p->cursor.at.hash, v->log.closed.hash, HASH_BYTES) == 0)) {
		struct position at = p->cursor.at;

		begin(p, &at, BEGIN_GOES_ON);
		return;
	}
	p->give.ask.base = p->give.ask.at.lsn;
	p->give.step = SOURCE_MARK;
}

static void mark(struct peer *p)
{
	struct volume *v = p->volume;
	struct lack *k = p->lack;
	uint64_t base = min_u64(from_le64(p->give.ask.base), p->fork.lsn), snapshot = from_le64(p->give.ask.snapshot);
	const struct log_mark *applied = log_mark_below(&v->log, v->applied);

	if (k->marked_now) {
		struct position at = k->at;

		lack_unmark(k);
		v->io->random(v->io, &k->place->id, sizeof k->place->id);
		k->place->id |= 1;
		meta_save(&v->meta);
		begin(p, &at, 0);
	} else if (!k->wanted && v->role == ROLE_PRIMARY) {
		lack_mark(k, base, snapshot, &v->log.closed);
	} else if (!k->wanted && applied && applied->at.lsn >= base) {
		/* A secondary gives what its readers see. */
		lack_mark(k, base, snapshot, &applied->at);
	}
}

/* ---- blocks ---- */

static struct resync_chunk *chunk_free(struct peer *p)
{
	struct volume *v = p->volume;
	struct resync_chunk *found = NULL;
	unsigned busy = 0;

	for (unsigned i = 0; i < RESYNC_CHUNKS; i++) {
		struct resync_chunk *c = &p->give.chunks[i];

		if (c->state == CHUNK_FREE)
			found = c;
		else
			busy++;
		if (c->state == CHUNK_MAP)
			return NULL;	/* it decides where the pass goes on */
	}
	/* Whoever waits for the disk goes first, and whoever comes soon does not find it, or this thread, busy. */
	if (busy && v->role == ROLE_PRIMARY && (v->ack_count || v->waiting_count))
		return NULL;
	if (p->give.paced && (busy || volume_now(v) < p->give.pace_ns))
		return NULL;
	return p->give.window_count + busy < RESYNC_WINDOW - 1 ? found : NULL;
}

static void chunk_start(struct resync_chunk *c, enum volume_op op, uint64_t first, uint64_t count)
{
	struct volume *v = c->peer->volume;

	c->state = op == VOLUME_MAP ? CHUNK_MAP : CHUNK_READ;
	c->stale = false;
	c->started_ns = volume_now(v);
	c->first = first;
	c->count = (uint32_t)count;
	c->since = v->destage.traced;
	c->marks = c->peer->lack->marks;
	c->request.op = op;
	c->request.flags = op == VOLUME_READ ? VOLUME_EXACT : 0;
	c->request.offset = first * BLOCK_BYTES;
	c->request.len = count * BLOCK_BYTES;
	c->request.buffer = c->buffer;
	volume_submit(v, &c->request);
}

/* Blocks that were found to differ by their hashes. */
static bool differ_next(struct peer *p, struct resync_chunk *c)
{
	struct resync_source *g = &p->give;
	unsigned first, count = 0;

	if (!g->differ_count)
		return false;
	first = (unsigned)__builtin_ctzll(g->differ[0].mask);
	while (first + count < 64 && g->differ[0].mask >> (first + count) & 1)
		g->differ[0].mask &= ~(1ull << (first + count++));
	c->kind = BLOCKS_DATA;
	chunk_start(c, VOLUME_READ, g->differ[0].first + first, count);
	if (!g->differ[0].mask)
		memmove(&g->differ[0], &g->differ[1], --g->differ_count * sizeof g->differ[0]);
	return true;
}

static bool pass_next(struct peer *p, struct resync_chunk *c)
{
	struct resync_source *g = &p->give;
	const struct bitmap *bits = &p->lack->bits;
	uint64_t first = bitmap_next(bits, g->next), end;

	if (first == bits->bits)
		return false;
	end = bitmap_next_clear(bits, first);
	g->next = first;
	if (first < g->map_first || first >= g->map_end) {
		chunk_start(c, VOLUME_MAP, first, min_u64(end - first, FRAME_ZERO_MAX));
		return true;
	}
	end = min_u64(min_u64(end, g->map_end), first + frame_blocks_max(&p->volume->geometry));
	end = g->paced ? min_u64(end, first + PACED_BLOCKS) : end;
	c->kind = p->volume->config.resync_checksum ? BLOCKS_HASH : BLOCKS_DATA;
	g->next = end;
	chunk_start(c, VOLUME_READ, first, end - first);
	return true;
}

static bool may_send(struct peer *p)
{
	return !p->volume->config.resync_rate || p->give.tokens_ns < volume_now(p->volume) + BURST_NS;
}

/* Whether clients are at work, who should not notice much of this. Their requests make turns, so there is no need of a
 * timer to go on in time. */
static bool clients_busy(struct peer *p)
{
	struct volume *v = p->volume;
	uint64_t count = v->reads + v->writes + v->flushes_done, now = volume_now(v);

	for (unsigned i = 0; i < v->peer_count; i++)
		for (unsigned j = 0; j < RESYNC_CHUNKS; j++)
			count -= v->peers[i].give.chunks[j].state == CHUNK_READ;
	if (count != p->give.clients_seen)
		p->give.clients_ns = now + CLIENTS_NS;
	p->give.clients_seen = count;
	return now < p->give.clients_ns;
}

static void fill(struct peer *p)
{
	struct resync_source *g = &p->give;
	struct resync_chunk *c;

	g->paced = clients_busy(p);
	/* A secondary gives what its readers see; log that was sent must be part of it. */
	if (p->volume->applied < p->cursor.at.lsn)
		return;
	while (may_send(p) && (c = chunk_free(p)))
		if (!differ_next(p, c) && !pass_next(p, c))
			break;
	if (bitmap_next(&p->lack->bits, g->next) == p->lack->bits.bits && !g->window_count && resync_source_quiet(p) &&
	    p->lack->bits.count)
		g->next = 0;		/* bits that were set behind the pass, or blocks that differed */
}

/* A hole in the store, if no page was made over it and it was not written to meanwhile. */
static void mapped(struct resync_chunk *c, int result)
{
	struct volume *v = c->peer->volume;
	struct resync_source *g = &c->peer->give;
	uint64_t count = max_u64(c->request.extent / BLOCK_BYTES, 1), zero = 0;

	c->state = CHUNK_FREE;
	if (result == 0 && !destage_touched(&v->destage, c->first, c->first + count, c->since))
		while (zero < count && !pool_find(&v->pool, c->first + zero))
			zero++;
	if (!zero) {
		g->map_first = c->first;
		g->map_end = c->first + (result == 0 ? 1 : count);
		return;
	}
	c->kind = BLOCKS_ZERO;
	c->count = (uint32_t)zero;
	c->lsn = v->applied;
	c->state = CHUNK_READY;
	g->next = c->first + zero;
}

static bool all_zero(const uint8_t *bytes, uint64_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static void chunk_done(struct volume_request *request, int result)
{
	struct resync_chunk *c = container_of(request, struct resync_chunk, request);
	struct peer *p = c->peer;
	struct volume *v = p->volume;
	bool map = c->state == CHUNK_MAP;

	if (!map) {		/* not somebody's read */
		v->reads--;
		v->bytes_read -= request->len;
	}
	volume_turn_soon(v);
	if (c->stale || p->give.step != SOURCE_RUN) {
		c->state = CHUNK_FREE;
		c->stale = false;
	} else if (result == -EAGAIN) {		/* the bits are still set: the next pass comes here */
		c->state = CHUNK_FREE;
	} else if (result < 0) {
		c->state = CHUNK_FREE;
		peer_drop(p, "the resync stops: blocks that it lacks cannot be read here; check the disk", 5000000000);
	} else if (map) {
		mapped(c, result);
	} else {
		c->lsn = request->lsn;
		if (all_zero(c->buffer, c->count * (uint64_t)BLOCK_BYTES))
			c->kind = BLOCKS_ZERO;
		c->state = CHUNK_READY;
	}
}

/* ---- what it has ---- */

static void answered(struct peer *p, uint64_t hashed, uint64_t differ)
{
	struct resync_source *g = &p->give;

	for (uint32_t i = 0; i < g->window_count; i++) {
		struct resync_sent *s = &g->window[(g->window_first + i) % RESYNC_WINDOW];
		uint64_t all;

		if (s->sequence != hashed || !s->hashed || s->answered)
			continue;
		all = s->count == 64 ? UINT64_MAX : (1ull << s->count) - 1;
		s->answered = true;
		s->mask = all & ~differ;
		if (!(differ & all))
			return;
		g->differ[g->differ_count].first = s->first;
		g->differ[g->differ_count++].mask = differ & all;
		return;
	}
}

static void clear_sent(struct peer *p, const struct resync_sent *s)
{
	if (!s->hashed)
		bitmap_clear(&p->lack->bits, s->first, s->count);
	for (unsigned i = 0; s->hashed && i < s->count; i++)
		if (s->mask >> i & 1)
			bitmap_clear(&p->lack->bits, s->first + i, 1);
}

/* Bits clear when the peer has the blocks durably, and we have durably all log that they hold effects of: else a crash
 * here could take back what was sent there. */
static void clear_bits(struct peer *p)
{
	struct volume *v = p->volume;
	struct resync_source *g = &p->give;

	if (p->lack->place->snapshot != from_le64(g->ask.snapshot))
		g->ticket = lack_clears_for(p->lack, from_le64(g->ask.snapshot));
	if (v->meta.saved < g->ticket)
		return;
	while (g->window_count) {
		struct resync_sent *s = &g->window[g->window_first];

		if (s->sequence > g->acked)
			return;
		if (s->lsn > v->journal.durable) {
			journal_want_durable(&v->journal, min_u64(s->lsn, v->log.closed.lsn));
			return;
		}
		/* A bit may have been set again since the block was read: for a later record. */
		if (s->marks == p->lack->marks)
			clear_sent(p, s);
		g->window_first = (g->window_first + 1) % RESYNC_WINDOW;
		g->window_count--;
	}
}

bool resync_taken(struct peer *p, const struct frame_taken *taken)
{
	struct resync_source *g = &p->give;
	struct volume *v = p->volume;

	if (g->step != SOURCE_RUN && g->step != SOURCE_FINISHING)
		return true;	/* of before it stopped */
	if (from_le64(taken->sequence) > g->sequence || from_le64(taken->hashed) > g->sequence) {
		peer_malformed(p, "TAKEN sequence");
		return false;
	}
	p->progress_ns = volume_now(v);
	g->acked = max_u64(g->acked, from_le64(taken->sequence));
	if (from_le64(taken->hashed))
		answered(p, from_le64(taken->hashed), from_le64(taken->differ));
	if (from_le64(taken->finished) && g->step == SOURCE_FINISHING) {
		p->resyncing = false;
		resync_source_stop(p);
		lack_learn(p->lack, p->lack->place->marked, true);
		peer_move(p, PEER_CATCHUP, "the resync is over");
	}
	volume_turn_soon(v);
	return true;
}

void resync_source_step(struct peer *p)
{
	struct volume *v = p->volume;
	struct resync_source *g = &p->give;
	uint64_t now = volume_now(v);

	if (g->step == SOURCE_NONE || v->state != VOLUME_OPEN || !p->met || p->closing)
		return;
	if (g->step == SOURCE_PROVE)
		prove(p);
	if (g->step == SOURCE_MARK)
		mark(p);
	if (g->step != SOURCE_RUN)
		return;
	clear_bits(p);
	resync_progress_note(&g->progress, now, p->lack->bits.count * BLOCK_BYTES);
	fill(p);
	if (now - g->saved_ns > BITS_SAVE_NS) {
		g->saved_ns = now;
		bitmap_save(&p->lack->bits);
	}
	if (!p->lack->bits.count && !g->window_count && !g->say_begin) {
		g->done_lsn = v->applied;
		g->say_done = true;
		g->step = SOURCE_FINISHING;
	}
}

/* ---- frames ---- */

uint64_t resync_log_limit(const struct peer *p)
{
	uint64_t limit = p->volume->role == ROLE_PRIMARY ? UINT64_MAX : p->volume->applied;

	if (p->give.step != SOURCE_RUN)
		return UINT64_MAX;
	for (unsigned i = 0; i < RESYNC_CHUNKS; i++)
		if (p->give.chunks[i].state == CHUNK_READY)
			limit = min_u64(limit, p->give.chunks[i].lsn);
	return limit;
}

static void put_chunk(struct peer *p, struct resync_chunk *c)
{
	struct volume *v = p->volume;
	struct resync_source *g = &p->give;
	struct frame_blocks *blocks = peer_body(p);
	uint8_t *tail = (uint8_t *)(blocks + 1);
	uint64_t bytes = c->count * (uint64_t)BLOCK_BYTES, length = sizeof *blocks;
	struct resync_sent *s = &g->window[(g->window_first + g->window_count) % RESYNC_WINDOW];

	CHECK(c->lsn >= p->cursor.at.lsn && g->window_count < RESYNC_WINDOW);
	*blocks = (struct frame_blocks){
		.sequence = to_le64(++g->sequence), .lsn = to_le64(c->lsn), .first = to_le64(c->first),
		.count = to_le32(c->count), .kind = to_le32(c->kind),
		.left = to_le64(p->lack->bits.count),
	};
	if (c->kind == BLOCKS_DATA) {
		memcpy(tail, c->buffer, bytes);
		length += bytes;
		g->bytes_sent += bytes;
	}
	for (uint32_t i = 0; c->kind == BLOCKS_HASH && i < c->count; i++, length += HASH_BYTES)
		checksum_hash(c->buffer + i * (uint64_t)BLOCK_BYTES, BLOCK_BYTES, tail + i * HASH_BYTES);
	*s = (struct resync_sent){ .sequence = g->sequence,
				   .first = c->first,
				   .lsn = c->lsn,
				   .marks = c->marks,
				   .count = c->count,
				   .hashed = c->kind == BLOCKS_HASH };
	g->window_count++;
	if (v->config.resync_rate)
		g->tokens_ns = max_u64(g->tokens_ns, volume_now(v)) +
			       (uint64_t)((double)length * 1e9 / (double)v->config.resync_rate);
	g->pace_ns = volume_now(v) + PACE * (volume_now(v) - c->started_ns);
	c->state = CHUNK_FREE;
	peer_body_end(p, FRAME_BLOCKS, (uint32_t)length);
}

static void put_begin(struct peer *p)
{
	struct volume *v = p->volume;
	struct frame_begin *frame = peer_body(p);

	*frame = (struct frame_begin){
		.id = to_le64(p->lack->place->id), .at = frame_position_of(&p->cursor.at), .commit = to_le64(v->commit),
		.blocks = to_le64(p->lack->bits.count), .flags = to_le32(p->give.begin_flags),
		.epoch_count = to_le32(v->history.count),
	};
	memcpy(frame + 1, v->history.epochs, v->history.count * sizeof v->history.epochs[0]);
	peer_body_end(p, FRAME_BEGIN, (uint32_t)(sizeof *frame + v->history.count * sizeof v->history.epochs[0]));
	p->give.say_begin = false;
}

void resync_source_put(struct peer *p)
{
	struct resync_source *g = &p->give;

	if (g->say_need) {
		struct frame_need *need = peer_body(p);

		*need = (struct frame_need){ .what = to_le32(g->need) };
		peer_body_end(p, FRAME_NEED, sizeof *need);
		g->say_need = false;
	}
	if (g->say_begin && peer_body_fits(p, FRAME_HELLO_MAX))
		put_begin(p);
	for (unsigned i = 0; i < RESYNC_CHUNKS && !g->say_begin && g->step == SOURCE_RUN; i++) {
		struct resync_chunk *c = &g->chunks[i];

		if (c->state == CHUNK_READY &&
		    peer_body_fits(p, sizeof(struct frame_blocks) +
				      (c->kind == BLOCKS_ZERO ? 0 : c->count * (uint64_t)BLOCK_BYTES)))
			put_chunk(p, c);
	}
	if (g->say_done && peer_body_fits(p, sizeof(struct frame_done))) {
		struct frame_done *done = peer_body(p);

		*done = (struct frame_done){ to_le64(p->lack->place->id), to_le64(g->done_lsn) };
		peer_body_end(p, FRAME_DONE, sizeof *done);
		g->say_done = false;
	}
}

void resync_source_status(const struct peer *p, struct volume_resync_status *out)
{
	const struct resync_source *g = &p->give;

	if (g->step == SOURCE_RUN || g->step == SOURCE_FINISHING)
		resync_progress_status(&g->progress, g->bytes_sent, out);
}
