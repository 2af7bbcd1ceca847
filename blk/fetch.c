/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch.h"

#include <errno.h>
#include <string.h>

#include "volume_private.h"

enum {
	ASK_NS = 2000000000,		/* for an answer; then the next peer is asked */
	SERVE_NS = 1500000000,		/* that much of it is ours, when a peer asks */
	LOAD_NS = 3000000000,		/* a load, without which the replica is stuck, waits for a peer to come back */
	RETRY_NS = 500000000,		/* and tries the disk again meanwhile */
};

int fetch_new(struct volume *v)
{
	struct fetches *f = &v->fetches;

	list_init(&f->readers);
	list_init(&f->early);
	f->memory = v->io->alloc(v->io, (FETCHES + FETCH_SERVES) * BLOCK_BYTES, IO_FIXED);
	if (!f->memory)
		return -ENOMEM;
	for (unsigned i = 0; i < FETCHES; i++)
		f->at[i].data = f->memory + i * BLOCK_BYTES;
	for (unsigned i = 0; i < FETCH_SERVES; i++) {
		f->serves[i].volume = v;
		f->serves[i].data = f->memory + (FETCHES + i) * BLOCK_BYTES;
	}
	return 0;
}

void fetch_delete(struct volume *v)
{
	v->io->free(v->io, v->fetches.memory);
}

static unsigned bit_of(const struct peer *p)
{
	return 1u << (p - p->volume->peers);
}

static uint64_t block_of(const struct volume_request *request)
{
	return request->io.offset / BLOCK_BYTES;
}

/* ---- who waits ---- */

static bool can_ask(const struct volume *v)
{
	return v->state == VOLUME_OPEN && !v->failed && !resync_running(v) && v->peer_count;
}

bool fetch_serves(const struct volume *v, const struct volume_request *request)
{
	return can_ask(v) && !(request->flags & VOLUME_CURRENT);
}

bool fetch_read(struct volume *v, struct volume_request *request)
{
	if (!fetch_serves(v, request))
		return false;
	list_append(&v->fetches.readers, &request->link);
	volume_turn_soon(v);
	return true;
}

bool fetch_load(struct pool *pool, uint64_t block)
{
	struct volume *v = container_of(pool, struct volume, pool);

	(void)block;
	if (!can_ask(v))
		return false;
	volume_turn_soon(v);
	return true;
}

bool fetch_ahead(const struct volume *v, uint64_t first, uint64_t end)
{
	if (v->applied >= v->fetches.ahead)
		return false;
	for (; first < end; first++) {
		const struct page *page = pool_find(&v->pool, first);

		if (page && page->state == PAGE_DIRTY && page->lsn_last > v->applied)
			return true;
	}
	return false;
}

void fetch_early(struct volume *v, struct volume_request *request)
{
	list_append(&v->fetches.early, &request->link);
	volume_turn_soon(v);
}

/* It can be read now, or nobody has it. */
static void finish(struct volume *v, struct fetch *f, bool helped)
{
	struct list ready;
	struct list *link = v->fetches.readers.next;

	f->state = FETCH_FREE;
	if (!helped && pool_mending(&v->pool, f->block) && !pool_given_up(&v->pool, f->block))
		volume_fail(v, -EIO, "store: a read");
	list_init(&ready);
	while (link != &v->fetches.readers) {
		struct volume_request *request = list_entry(link, struct volume_request, link);

		link = link->next;
		if (block_of(request) != f->block)
			continue;
		list_remove(&request->link);
		list_append(&ready, &request->link);
	}
	while (!list_empty(&ready)) {
		struct volume_request *request = list_entry(list_first(&ready), struct volume_request, link);

		list_remove(&request->link);
		if (helped)
			volume_read_again(v, request);
		else
			volume_read_refuse(v, request);
	}
	volume_turn_soon(v);
}

/* ---- asking ---- */

static void want(struct volume *v, uint64_t block)
{
	struct fetch *found = NULL;

	for (unsigned i = 0; i < FETCHES; i++) {
		struct fetch *f = &v->fetches.at[i];

		if (f->state == FETCH_FREE)
			found = f;
		else if (f->block == block)
			return;
	}
	if (!found)
		return;
	*found = (struct fetch){ .state = FETCH_ASK, .block = block, .since = v->destage.traced,
				 .began_ns = volume_now(v), .retried_ns = volume_now(v), .data = found->data };
}

void fetch_block(struct volume *v, uint64_t block)
{
	if (can_ask(v))
		want(v, block);
}

static struct peer *peer_next(struct volume *v, const struct fetch *f)
{
	for (unsigned i = 0; i < v->peer_count; i++) {
		struct peer *p = &v->peers[i];
		bool fits = v->role == ROLE_PRIMARY ? p->state == PEER_ONLINE
						    : v->source == p && v->sink.step == SINK_NONE;

		if (fits && p->met && !p->closing && !(f->asked & bit_of(p)))
			return p;
	}
	return NULL;
}

static void ask_again(struct fetch *f, bool another)
{
	if (another && f->peer)
		f->asked |= bit_of(f->peer);
	f->peer = NULL;
	f->state = FETCH_ASK;
}

static void ask(struct volume *v, struct fetch *f, uint64_t now)
{
	f->peer = can_ask(v) ? peer_next(v, f) : NULL;
	f->role = v->role;
	f->lsn = min_u64(v->applied, v->meta.saved_reach);
	f->until_ns = now + ASK_NS;
	if (f->peer)
		return;
	f->asked = 0;
	/* A load that is not tried again any more: whoever needed it is gone. */
	if (!can_ask(v) || !f->load || now - f->began_ns > 2ull * LOAD_NS ||
	    (f->retried_ns > f->began_ns + LOAD_NS && pool_mending(&v->pool, f->block))) {
		finish(v, f, false);
	} else if (now - f->retried_ns > RETRY_NS && pool_mending(&v->pool, f->block)) {
		f->retried_ns = now;
		pool_unmended(&v->pool, f->block);
	}
}

bool fetch_answered(struct peer *p, const struct frame_fetched *frame)
{
	struct volume *v = p->volume;
	uint64_t lsn = from_le64(frame->lsn);

	for (unsigned i = 0; i < FETCHES; i++) {
		struct fetch *f = &v->fetches.at[i];

		if (f->state != FETCH_ASKED || f->peer != p || f->id != from_le64(frame->id))
			continue;
		volume_turn_soon(v);
		if (!from_le32(frame->found) || f->role != v->role || (v->role == ROLE_PRIMARY && lsn < f->lsn)) {
			ask_again(f, true);
			return true;
		}
		if (from_le64(frame->block) != f->block ||
		    (v->role == ROLE_PRIMARY ? lsn > v->log.end.lsn : lsn < v->log.end.lsn)) {
			peer_malformed(p, "FETCHED block or lsn");
			return false;
		}
		memcpy(f->data, frame + 1, BLOCK_BYTES);
		f->lsn = lsn;
		f->state = FETCH_GOT;
		f->until_ns = volume_now(v) + 2 * v->config.peer_timeout_ns;
	}
	return true;
}

uint64_t fetch_hold(const struct volume *v)
{
	uint64_t hold = UINT64_MAX;

	for (unsigned i = 0; i < FETCHES && v->role == ROLE_SECONDARY; i++)
		if (v->fetches.at[i].state == FETCH_GOT)
			hold = min_u64(hold, v->fetches.at[i].lsn);
	return hold;
}

void fetch_lost(struct peer *p)
{
	struct fetches *all = &p->volume->fetches;

	for (unsigned i = 0; i < FETCHES; i++)
		if (all->at[i].state != FETCH_FREE && all->at[i].peer == p)
			ask_again(&all->at[i], false);
	for (unsigned i = 0; i < FETCH_SERVES; i++) {
		struct fetch_serve *s = &all->serves[i];

		if (s->peer != p)
			continue;
		s->peer = NULL;
		if (s->state != SERVE_READ)
			s->state = SERVE_FREE;
	}
}

/* ---- put ---- */

static void tell(struct volume *v, const struct fetch *f)
{
	struct fetches *all = &v->fetches;

	all->repaired++;
	if (f->block != all->said_next)
		say(v->io, IO_WARNING,
		    "volume=%s store: block %llu (offset %llu) unreadable, served and rewritten from peer %s; "
		    "check the disk", v->config.name, (unsigned long long)f->block,
		    (unsigned long long)f->block * BLOCK_BYTES, f->peer->config->name);
	all->said_next = f->block + 1;
}

/* As a page. A primary's is as new as its log, a secondary's may be ahead. */
static void put(struct volume *v, struct fetch *f)
{
	uint64_t lsn_end = v->role == ROLE_PRIMARY ? v->applied : f->lsn;
	struct record_delta delta = { .offset = to_le64(f->block * BLOCK_BYTES), .length = to_le32(BLOCK_BYTES),
				      .kind = to_le16(DELTA_DATA) };

	if (pool_mending(&v->pool, f->block))
		pool_mended(&v->pool, f->block, f->data, v->applied ? v->applied - 1 : 0, lsn_end);
	else if (volume_put_blocks(v, &delta, 1, f->data, lsn_end))
		return;
	if (lsn_end > v->applied)
		v->fetches.ahead = max_u64(v->fetches.ahead, lsn_end);
	tell(v, f);
	finish(v, f, true);
}

static void got(struct volume *v, struct fetch *f, uint64_t now)
{
	uint64_t sure = min_u64(v->commit, min_u64(v->journal.written, v->log.closed.lsn));

	if (f->role != v->role || now > f->until_ns || !can_ask(v) ||
	    (v->role == ROLE_SECONDARY && (v->applied > f->lsn || v->sink.step != SINK_NONE)))
		ask_again(f, true);
	else if (v->role == ROLE_PRIMARY || sure >= f->lsn)
		put(v, f);
}

/* Whether the block can be had without a peer: memory has it, or the store was given it anew. */
static bool known(const struct volume *v, const struct fetch *f)
{
	const struct page *page = pool_find(&v->pool, f->block);

	if (page)
		return page->state != PAGE_LOADING;
	return pool_in_hole(&v->pool, f->block) || destage_touched(&v->destage, f->block, f->block + 1, f->since);
}

static void step(struct volume *v, struct fetch *f, uint64_t now)
{
	if (known(v, f)) {
		finish(v, f, true);
		return;
	}
	f->since = v->destage.traced;	/* looked at each turn, as no more is remembered */
	f->load = f->load || pool_mending(&v->pool, f->block);
	if ((f->state == FETCH_ASKED || (f->state == FETCH_ASK && f->peer)) && (now > f->until_ns || !can_ask(v)))
		ask_again(f, true);
	if (f->state == FETCH_GOT)
		got(v, f, now);
	if (f->state == FETCH_ASK && !f->peer)
		ask(v, f, now);
}

/* Pages are ahead no longer; or nobody is to wait for that any more. */
static void early_step(struct volume *v)
{
	bool over = v->state != VOLUME_OPEN || v->failed;
	struct list ready;

	list_init(&ready);
	while (!list_empty(&v->fetches.early) && (over || v->applied >= v->fetches.ahead)) {
		struct list *link = list_first(&v->fetches.early);

		list_remove(link);
		list_append(&ready, link);
	}
	while (!list_empty(&ready)) {
		struct volume_request *request = list_entry(list_first(&ready), struct volume_request, link);

		list_remove(&request->link);
		if (over)
			volume_read_refuse(v, request);
		else
			volume_read_again(v, request);
	}
}

static void serve_step(struct volume *v, struct fetch_serve *s);

void fetch_step(struct volume *v)
{
	struct fetches *all = &v->fetches;
	uint64_t now = volume_now(v);

	if (resync_running(v))		/* it began with all pages in the store, and may have a log of lower LSNs */
		all->ahead = 0;
	for (struct list *link = all->readers.next; link != &all->readers; link = link->next)
		want(v, block_of(list_entry(link, struct volume_request, link)));
	for (unsigned i = 0; v->pool.loading_count && i < POOL_LOADS_MAX; i++)
		if (v->pool.loads[i].mending)
			want(v, v->pool.loads[i].page->block);
	for (unsigned i = 0; i < FETCHES; i++)
		if (all->at[i].state != FETCH_FREE)
			step(v, &all->at[i], now);
	early_step(v);
	for (unsigned i = 0; i < FETCH_SERVES; i++)
		if (all->serves[i].state == SERVE_WAIT)
			serve_step(v, &all->serves[i]);
}

/* ---- serving ---- */

void fetch_asked(struct peer *p, const struct frame_fetch *frame)
{
	struct volume *v = p->volume;

	for (unsigned i = 0; i < FETCH_SERVES; i++) {
		struct fetch_serve *s = &v->fetches.serves[i];

		if (s->state != SERVE_FREE)
			continue;
		s->state = SERVE_WAIT;
		s->peer = p;
		s->id = from_le64(frame->id);
		s->block = from_le64(frame->block);
		s->lsn = from_le64(frame->lsn);
		s->until_ns = volume_now(v) + SERVE_NS;
		s->found = false;
		volume_turn_soon(v);
		return;
	}
}

static void serve_read_done(struct volume_request *request, int result)
{
	struct fetch_serve *s = container_of(request, struct fetch_serve, request);

	volume_turn_soon(s->volume);
	s->state = s->peer ? SERVE_READY : SERVE_FREE;
	s->found = result == 0;
	s->lsn = request->lsn;
}

static void serve_step(struct volume *v, struct fetch_serve *s)
{
	bool ours = v->source == s->peer;	/* of what it has lost, it has applied the log: so must we */

	if ((!ours && !s->peer->sourcing) || resync_running(v) || v->sink.step != SINK_NONE || v->failed ||
	    v->state != VOLUME_OPEN || volume_now(v) > s->until_ns) {
		s->state = SERVE_READY;
		volume_turn_soon(v);
		return;
	}
	if ((ours && v->applied < s->lsn) || v->applied < v->fetches.ahead)
		return;
	s->state = SERVE_READ;
	s->request = (struct volume_request){
		.op = VOLUME_READ, .flags = VOLUME_EXACT, .offset = s->block * BLOCK_BYTES, .len = BLOCK_BYTES,
		.buffer = s->data, .done = serve_read_done,
	};
	volume_read_current(v, &s->request);
}

/* ---- frames ---- */

uint64_t fetch_log_limit(const struct peer *p)
{
	uint64_t limit = UINT64_MAX;

	for (unsigned i = 0; i < FETCH_SERVES; i++) {
		const struct fetch_serve *s = &p->volume->fetches.serves[i];

		if (s->state == SERVE_READY && s->peer == p && s->found && s->lsn >= p->cursor.at.lsn)
			limit = min_u64(limit, s->lsn);
	}
	return limit;
}

static void put_answer(struct peer *p, struct fetch_serve *s)
{
	struct frame_fetched *fetched = peer_body(p);

	/* What we relay may be beyond what we have applied. */
	if (p->sourcing && s->lsn < p->cursor.at.lsn)
		s->found = false;
	*fetched = (struct frame_fetched){ .id = to_le64(s->id), .lsn = to_le64(s->found ? s->lsn : 0),
					   .block = to_le64(s->block), .found = to_le32(s->found) };
	if (s->found)
		memcpy(fetched + 1, s->data, BLOCK_BYTES);
	peer_body_end(p, FRAME_FETCHED, (uint32_t)sizeof *fetched + s->found * BLOCK_BYTES);
	s->state = SERVE_FREE;
	s->peer = NULL;
}

void fetch_put(struct peer *p)
{
	struct fetches *all = &p->volume->fetches;

	for (unsigned i = 0; i < FETCHES; i++) {
		struct fetch *f = &all->at[i];
		struct frame_fetch *frame = peer_body(p);

		if (f->state != FETCH_ASK || f->peer != p || !peer_body_fits(p, sizeof *frame))
			continue;
		f->id = ++all->ids;
		*frame = (struct frame_fetch){ to_le64(f->id), to_le64(f->lsn), to_le64(f->block) };
		peer_body_end(p, FRAME_FETCH, sizeof *frame);
		f->state = FETCH_ASKED;
	}
	for (unsigned i = 0; i < FETCH_SERVES; i++) {
		struct fetch_serve *s = &all->serves[i];

		if (s->state == SERVE_READY && s->peer == p &&
		    peer_body_fits(p, sizeof(struct frame_fetched) + BLOCK_BYTES))
			put_answer(p, s);
	}
}
