/* SPDX-License-Identifier: Apache-2.0 */
/* The side that is compared. A check waits until our log is applied up to its LSN; verify_hold() keeps the apply step
 * from going on before our blocks are read. That is milliseconds; HOLD_NS bounds it. A check that cannot be done is
 * answered as such, and never holds up the connection: frames behind it are taken meanwhile, since it may be they that
 * bring what it waits for. */
#include <errno.h>
#include <string.h>

#include "checksum.h"
#include "volume_private.h"

enum {
	HOLD_NS = 1000000000,
	PATIENCE_NS = 30000000000,	/* for our log to get there: nothing is held up by that; and for destage */
};

static void over(struct volume *v, struct verify_check *c, bool done)
{
	struct verify_sink *s = &v->verify_sink;

	if (s->reading == c)
		s->reading = NULL;
	c->state = CHECK_DONE;
	c->done = done;
	volume_turn_soon(v);
}

/* ---- what comes ---- */

static struct verify_check *check_free(struct volume *v, bool repair)
{
	struct verify_check *found = NULL;

	for (unsigned i = 0; i < VERIFY_CHECKS; i++) {
		struct verify_check *c = &v->verify_sink.checks[i];

		if (c->state == CHECK_FREE)
			found = c;
		else if (repair && c->repair && c->state == CHECK_HELD)
			return NULL;
	}
	return found;
}

bool verify_asked(struct peer *p, const struct frame_header *header)
{
	struct volume *v = p->volume;
	const struct frame_verify *verify = (const void *)(header + 1);
	const struct frame_repair *repair = (const void *)(header + 1);
	bool is_repair = from_le16(header->type) == FRAME_REPAIR;
	struct verify_check *c;

	/* id, lsn and first stand at the same place in both. */
	if (v->source != p || from_le64(verify->lsn) < v->log.end.lsn) {
		peer_malformed(p, v->source != p ? "type (we do not follow it)" : "lsn of VERIFY or REPAIR");
		return false;
	}
	c = check_free(v, is_repair);
	if (!c)
		return true;		/* more than it may ask for: it waits for this one in vain */
	c->id = from_le64(verify->id);
	c->lsn = from_le64(verify->lsn);
	c->first = from_le64(verify->first);
	c->repair = is_repair;
	c->count = is_repair ? 0 : from_le32(verify->count);
	c->differ = is_repair ? from_le64(repair->mask) : 0;
	c->at = 0;
	c->single = c->done = false;
	c->until_ns = volume_now(v) + PATIENCE_NS;
	c->reached_ns = 0;
	c->state = CHECK_HELD;
	if (is_repair)
		memcpy(v->verify_sink.data, repair + 1, (uint64_t)__builtin_popcountll(c->differ) * BLOCK_BYTES);
	else
		memcpy(c->hashes, verify + 1, c->count * HASH_BYTES);
	volume_turn_soon(v);
	return true;
}

void verify_sink_lost(struct volume *v)
{
	struct verify_sink *s = &v->verify_sink;

	for (unsigned i = 0; i < VERIFY_CHECKS; i++)
		s->checks[i].state = CHECK_FREE;
	s->reading = NULL;
}

uint64_t verify_hold(const struct volume *v)
{
	uint64_t hold = UINT64_MAX;

	for (unsigned i = 0; i < VERIFY_CHECKS; i++)
		if (v->verify_sink.checks[i].state == CHECK_HELD)
			hold = min_u64(hold, v->verify_sink.checks[i].lsn);
	return hold;
}

/* ---- compare ---- */

static void read_done(struct volume_request *request, int result);

static void read_next(struct volume *v, struct verify_check *c)
{
	struct verify_sink *s = &v->verify_sink;

	if (s->busy)
		return;
	s->busy = true;
	s->reading = c;
	s->read_count = c->single ? 1 : c->count - c->at;
	s->read = (struct volume_request){
		.op = VOLUME_READ, .flags = VOLUME_EXACT, .offset = (c->first + c->at) * BLOCK_BYTES,
		.len = s->read_count * (uint64_t)BLOCK_BYTES, .buffer = s->buffer, .done = read_done,
	};
	volume_read_current(v, &s->read);
}

static void read_done(struct volume_request *request, int result)
{
	struct volume *v = request->volume;
	struct verify_sink *s = &v->verify_sink;
	struct verify_check *c = s->reading;

	s->busy = false;
	s->reading = NULL;
	volume_turn_soon(v);
	if (!c)
		return;
	if (result == -EAGAIN)		/* it lost its race with destage: once more, while the check is held */
		return;
	if (result == -EIO && !c->single) {
		c->single = true;
		return;
	}
	if (result == 0 && request->lsn != c->lsn) {
		over(v, c, false);
		return;
	}
	for (uint32_t i = 0; i < s->read_count; i++, c->at++) {
		uint8_t ours[HASH_BYTES];

		checksum_hash(s->buffer + i * (uint64_t)BLOCK_BYTES, BLOCK_BYTES, ours);
		if (result || memcmp(ours, c->hashes + c->at * HASH_BYTES, HASH_BYTES) != 0)
			c->differ |= 1ull << c->at;
	}
	if (c->at == c->count)
		over(v, c, true);
}

/* ---- repair ---- */

/* Its blocks, as pages; destage brings them to the store like any others. A crash before that leaves there what was
 * there: the page says that it is as new as our log, so nothing is said to be in the store that is not. */
static void put_in_place(struct volume *v, struct verify_check *c)
{
	struct record_delta deltas[FRAME_BLOCKS_MAX];
	uint32_t count = 0;
	int result;

	for (uint64_t mask = c->differ; mask; mask &= mask - 1)
		deltas[count++] = (struct record_delta){
			.offset = to_le64((c->first + (uint64_t)__builtin_ctzll(mask)) * BLOCK_BYTES),
			.length = to_le32(BLOCK_BYTES), .kind = to_le16(DELTA_DATA),
		};
	result = volume_put_blocks(v, deltas, count, v->verify_sink.data, v->applied);
	if (result == -E2BIG)
		over(v, c, false);
	if (result)
		return;
	c->order = v->pool.order;
	c->round = v->destage.started;
	c->state = CHECK_PUT;
	c->until_ns = volume_now(v) + PATIENCE_NS;
	volume_turn_soon(v);
}

static void in_store(struct volume *v, struct verify_check *c)
{
	const struct destage *d = &v->destage;

	if (d->finished > c->round && d->clean_order >= c->order)
		over(v, c, true);
	else if (d->state == DESTAGE_IDLE && !pool_dirty(&v->pool))	/* nothing of it is left in memory */
		over(v, c, true);
	else
		destage_start(&v->destage);
}

/* ---- every turn ---- */

static void held(struct volume *v, struct verify_check *c, uint64_t now)
{
	if (v->role != ROLE_SECONDARY || v->sink.step != SINK_NONE || resync_running(v) || v->failed ||
	    v->applied > c->lsn || now > c->until_ns || (c->reached_ns && now - c->reached_ns > HOLD_NS)) {
		over(v, c, false);
		return;
	}
	if (v->applied < c->lsn)
		return;
	if (v->applied < v->fetches.ahead) {
		over(v, c, false);
		return;
	}
	if (!c->reached_ns)
		c->reached_ns = now;
	if (c->repair)
		put_in_place(v, c);
	else
		read_next(v, c);
}

void verify_sink_step(struct volume *v)
{
	uint64_t now = volume_now(v);

	for (unsigned i = 0; i < VERIFY_CHECKS; i++) {
		struct verify_check *c = &v->verify_sink.checks[i];

		if (c->state == CHECK_HELD)
			held(v, c, now);
		else if (c->state == CHECK_PUT && (now > c->until_ns || v->failed))
			over(v, c, false);
		else if (c->state == CHECK_PUT)
			in_store(v, c);
	}
}

void verify_sink_put(struct peer *p)
{
	struct volume *v = p->volume;

	for (unsigned i = 0; v->source == p && i < VERIFY_CHECKS; i++) {
		struct verify_check *c = &v->verify_sink.checks[i];
		struct frame_verified *verified = peer_body(p);

		if (c->state != CHECK_DONE || !peer_body_fits(p, sizeof *verified))
			continue;
		*verified = (struct frame_verified){ .id = to_le64(c->id), .differ = to_le64(c->done ? c->differ : 0),
						     .done = to_le32(c->done) };
		peer_body_end(p, FRAME_VERIFIED, sizeof *verified);
		c->state = CHECK_FREE;
	}
}
