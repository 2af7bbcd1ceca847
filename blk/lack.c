/* SPDX-License-Identifier: Apache-2.0 */
#include "lack.h"

#include <errno.h>
#include <string.h>

#include "tally.h"

enum { WALK_BYTES = 4 << 20 };	/* of log at once; then others get a turn */

static void bits_moved(struct bitmap *bits)
{
	struct lack *k = container_of(bits, struct lack, bits);

	k->all->moved(k->all);
}

static void cursor_ready(struct cursor *c)
{
	struct lacks *l = container_of(c, struct lacks, cursor);

	l->moved(l);
}

int lacks_new(struct lacks *l, struct io *io, int bitmap_file, struct log *log, struct journal *journal,
	      struct meta *meta, const char *const *names, unsigned count, void (*moved)(struct lacks *l))
{
	uint64_t blocks = log->geometry->volume_bytes / BLOCK_BYTES;

	*l = (struct lacks){ .io = io, .log = log, .journal = journal, .meta = meta, .moved = moved };
	if (cursor_new(&l->cursor, io, log, journal, cursor_ready))
		return -ENOMEM;
	for (; l->count < count; l->count++) {
		struct lack *k = &l->at[l->count];

		k->all = l;
		k->name = names[l->count];
		/* Which part of the file is its own is known with meta. */
		if (bitmap_new(&k->bits, io, bitmap_file, 0, blocks, bits_moved))
			return -ENOMEM;
	}
	return 0;
}

void lacks_delete(struct lacks *l)
{
	if (!l->io)
		return;
	cursor_delete(&l->cursor);
	for (unsigned i = 0; i < l->count; i++)
		bitmap_delete(&l->at[i].bits);
	*l = (struct lacks){ 0 };
}

/* ---- load ---- */

static bool configured(const struct lacks *l, const char *name)
{
	for (unsigned i = 0; i < l->count; i++)
		if (strcmp(l->at[i].name, name) == 0)
			return true;
	return false;
}

static struct lack_place *place_of(struct lacks *l, const char *name)
{
	struct lack_place *places = l->meta->peers;

	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (strcmp(places[i].name, name) == 0)
			return &places[i];
	return NULL;
}

/* A place that is nobody's, or of somebody who is not a peer any more. There are as many places as peers. */
static struct lack_place *place_take(struct lacks *l, const char *name)
{
	struct lack_place *places = l->meta->peers, *found = place_of(l, "");

	for (unsigned i = 0; i < PEERS_MAX && !found; i++)
		if (!configured(l, places[i].name))
			found = &places[i];
	CHECK(found);
	*found = (struct lack_place){ 0 };
	memcpy(found->name, name, strlen(name));
	return found;
}

void lacks_load(struct lacks *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		struct lack *k = &l->at[i];
		bool stranger = !place_of(l, k->name);

		k->place = stranger ? place_take(l, k->name) : place_of(l, k->name);
		k->bits.offset = (uint64_t)(k->place - l->meta->peers) * bitmap_bytes(k->bits.bits);
		/* What a stranger lacks nobody wrote down: all below the floor. */
		k->place->marked = stranger ? l->meta->floor.lsn : k->place->marked;
		bitmap_load(&k->bits, true);
		k->stranger = stranger;
	}
}

bool lacks_loaded(const struct lacks *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (!l->at[i].bits.loaded)
			return false;
	return true;
}

/* Once they are loaded: a stranger's are all set, whoever had the place before. */
static void strangers(struct lacks *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		struct lack *k = &l->at[i];

		if (!k->stranger)
			continue;
		k->stranger = false;
		if (l->meta->floor.lsn)
			bitmap_set_all(&k->bits);
		else
			bitmap_clear_all(&k->bits);
		bitmap_save(&k->bits);
	}
}

int lacks_failed(const struct lacks *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->at[i].bits.failed)
			return l->at[i].bits.failed;
	return 0;
}

bool lacks_quiet(const struct lacks *l)
{
	bool busy = l->cursor.op.in_flight;

	for (unsigned i = 0; i < l->count; i++)
		busy |= !bitmap_quiet(&l->at[i].bits);
	return !busy;
}

/* ---- what is known ---- */

void lack_learn(struct lack *k, uint64_t lsn, bool consistent)
{
	if (lsn > k->all->log->closed.lsn)
		return;		/* it is ahead of us: nothing of ours that it lacks */
	if (lsn > k->place->known)
		k->place->known = lsn;
	/* It has all that its bitmap stands for. */
	if (consistent && k->bits.loaded && k->place->marked && k->place->known >= k->place->marked &&
	    k->all->step == LACK_IDLE) {
		bitmap_clear_all(&k->bits);
		bitmap_save(&k->bits);
		k->place->marked = k->place->covers = k->place->id = k->place->snapshot = 0;
	}
}

void lack_met(struct lack *k, uint64_t lsn, bool consistent)
{
	k->place->known = lsn < k->all->log->closed.lsn ? lsn : k->all->log->closed.lsn;
	lack_learn(k, k->place->known, consistent);
}

bool lack_names(const struct lack *k, uint64_t from)
{
	const struct lack_place *place = k->place;
	uint64_t floor = k->all->meta->floor.lsn;

	/* What a resync has sent was cleared for it, and it may have gone back since. */
	return from >= floor || (place->marked >= floor && place->covers <= from && !place->snapshot);
}

uint64_t lack_clears_for(struct lack *k, uint64_t snapshot)
{
	k->place->snapshot = snapshot;
	return meta_save(k->all->meta);
}

void lack_mark(struct lack *k, uint64_t base, uint64_t snapshot, const struct position *to)
{
	k->snapshot = snapshot;
	k->wanted = true;
	k->marked_now = k->marking = false;
	k->base = base;
	k->at = *to;
	k->all->moved(k->all);
}

void lack_unmark(struct lack *k)
{
	k->wanted = k->marked_now = k->marking = false;
}

void lacks_forget(struct lacks *l, const struct position *at)
{
	CHECK(l->step == LACK_IDLE);
	l->meta->floor = *at;
	for (unsigned i = 0; i < l->count; i++) {
		struct lack_place *place = l->at[i].place;

		place->known = place->covers = place->marked = place->id = place->snapshot = 0;
		bitmap_clear_all(&l->at[i].bits);
		lack_unmark(&l->at[i]);
	}
}

/* ---- the walk ---- */

static void set_bits(struct lacks *l, const struct record_header *r)
{
	uint64_t end = from_le64(r->lsn) + record_length(r);

	for (unsigned i = 0; i < l->count; i++)
		if (l->mask & 1u << i && end > l->at[i].from)
			tally_blocks(&l->at[i].bits, r);
}

static void save_bits(struct lacks *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->mask & 1u << i)
			l->at[i].ticket = bitmap_save(&l->at[i].bits);
	l->step = LACK_BITS;
}

/* What should have named the blocks cannot be read: then it is all of them. */
static void walk_lost(struct lacks *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->mask & 1u << i)
			bitmap_set_all(&l->at[i].bits);
	l->lost = true;
}

static void walk(struct lacks *l)
{
	uint64_t budget = WALK_BYTES;

	while (l->cursor.at.lsn < l->most && (l->mask || l->seeking)) {
		const struct record_header *r = NULL;
		int result = cursor_look(&l->cursor, &r);

		if (result == -EAGAIN)
			return;
		if (result != 1) {
			walk_lost(l);
			break;
		}
		if (record_length(r) > budget) {
			l->moved(l);
			return;
		}
		budget -= record_length(r);
		set_bits(l, r);
		cursor_advance(&l->cursor, r);
		/* A record that ends on a block ends a batch. */
		if (l->seeking && l->cursor.at.lsn <= l->most &&
		    l->cursor.at.lsn % l->journal->geometry->journal_block == 0)
			l->to = l->cursor.at;
	}
	save_bits(l);
}

static bool bits_saved(const struct lacks *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->mask & 1u << i && l->at[i].bits.saved < l->at[i].ticket)
			return false;
	return true;
}

/* The bits are durable: from here on meta may say so. */
static void note_marked(struct lacks *l, struct lack *k)
{
	struct lack_place *place = k->place;
	uint64_t floor = l->meta->floor.lsn;
	bool goes_on = place->marked && place->marked >= floor && k->from <= place->marked;

	if (k->bits.count == k->bits.bits)
		place->covers = 0;
	else if (!goes_on)
		place->covers = max_u64(k->from, floor);
	place->marked = max_u64(place->marked, l->to.lsn);
}

static void note(struct lacks *l)
{
	if (l->for_floor && l->to.lsn == l->meta->floor.lsn) {
		l->step = LACK_IDLE;	/* no batch ended in between */
		return;
	}
	for (unsigned i = 0; i < l->count; i++)
		if (l->mask & 1u << i)
			note_marked(l, &l->at[i]);
	if (l->for_floor)
		l->meta->floor = l->to;
	l->ticket = meta_save(l->meta);
	l->step = LACK_META;
}

static void noted(struct lacks *l)
{
	if (l->for_floor) {
		l->journal->floor = l->to.lsn;
	} else {
		for (unsigned i = 0; i < l->count; i++) {
			struct lack *k = &l->at[i];

			/* It may have asked anew since, for more. */
			if (!(l->mask & 1u << i) || !k->marking)
				continue;
			k->wanted = k->marking = false;
			k->marked_now = true;
			k->at = l->to;
		}
	}
	l->step = LACK_IDLE;
	l->moved(l);
}

/* From the floor up to @most. @to is the position there; or, when it is being sought, the floor. */
static void walk_start(struct lacks *l, const struct position *to, uint64_t most)
{
	for (unsigned i = 0; i < l->count; i++)
		l->at[i].marks += l->mask >> i & 1;
	l->to = *to;
	l->most = most;
	l->seeking = to->lsn < most;
	l->step = LACK_WALK;
	cursor_seek(&l->cursor, &l->meta->floor);
	walk(l);
}

/* A peer's store is the volume as of k->base: can its bitmap name all that changed since? */
static void mark_start(struct lacks *l, unsigned i)
{
	struct lack *k = &l->at[i];
	const struct lack_place *place = k->place;
	const struct position *to;
	uint64_t floor = l->meta->floor.lsn;

	if ((k->base < floor && !(place->marked >= floor && place->covers <= k->base)) ||
	    (place->snapshot && place->snapshot != k->snapshot))
		bitmap_set_all(&k->bits);
	k->marking = true;
	l->mask = 1u << i;
	l->for_floor = false;
	k->from = k->base;
	to = k->at.lsn > floor ? &k->at : &l->meta->floor;
	walk_start(l, to, to->lsn);
}

/* Half of the ring is kept for peers that come back; so much is given up at once that the walk is worth it. */
static void floor_start(struct lacks *l)
{
	uint64_t ring = l->journal->geometry->journal_bytes, floor = l->meta->floor.lsn, most;
	const struct log_mark *mark;

	if (l->log->end.lsn - floor <= ring / 2 + ring / 16 || l->log->closed.lsn <= ring / 2)
		return;
	most = min_u64(l->log->closed.lsn - ring / 2, min_u64(l->journal->tail, l->journal->durable));
	if (most <= floor || most == l->most_tried)
		return;
	l->most_tried = most;
	l->mask = 0;
	l->for_floor = true;
	for (unsigned i = 0; i < l->count; i++) {
		l->at[i].from = l->at[i].place->known;
		if (l->at[i].from < most)
			l->mask |= 1u << i;
	}
	mark = log_mark_below(l->log, most);
	/* After a start the ends of batches so far back are not known: the walk finds them. */
	if (mark && mark->at.lsn > floor)
		walk_start(l, &mark->at, mark->at.lsn);
	else
		walk_start(l, &l->meta->floor, most);
}

void lacks_step(struct lacks *l)
{
	if (l->meta->failed || l->journal->failed || lacks_failed(l) || !lacks_loaded(l))
		return;
	strangers(l);
	if (l->step == LACK_WALK)
		walk(l);
	if (l->step == LACK_BITS && bits_saved(l))
		note(l);
	if (l->step == LACK_META && l->meta->saved >= l->ticket)
		noted(l);
	for (unsigned i = 0; i < l->count && l->step == LACK_IDLE; i++)
		if (l->at[i].wanted)
			mark_start(l, i);
	if (l->step == LACK_IDLE)
		floor_start(l);
	if (l->step == LACK_BITS && bits_saved(l))
		l->moved(l);
}
