/* SPDX-License-Identifier: Apache-2.0 */
/* What stopped_new() does, in order; it is what an open does, but that it changes nothing:
 *
 *	take_meta()	where the tail is, how far the store may reach, which epochs are known
 *	take_undo()	a resync was under way: is there a snapshot that can be read?
 *	take_header()	whether the journal is this volume's
 *	scan()		the log, from the tail to its end; what it would take to index it
 *	index_log()	once more, up to where it is shown
 *
 * A block is then (block_read) the snapshot's, if undo has saved it, else the store's, and, where no snapshot is read,
 * with the log's changes on top. */
#include "stopped.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bitmap.h"
#include "journal.h"
#include "redo.h"
#include "scan.h"
#include "undo.h"

enum { PAGE_INDEX = 2 * STOPPED_PAGES };

struct stopped_page { uint64_t block, used; };	/* used: the turn that it was last read in; 0 = none */

/* A walk over the records of the log. */
struct walk { struct position at; uint64_t buffer_lsn; uint32_t len; enum record_finding finding; int error; };

struct stopped {
	struct blocks blocks;
	struct io *io;
	struct stopped_files *files;
	struct geometry geometry;
	enum stopped_view view;
	bool force;
	struct meta meta;
	struct history history;
	struct history snapshot_history;
	uint64_t log_end, lsn;
	bool snapshot;
	unsigned slot;
	struct bitmap_unit *saved;	/* of the snapshot: all of undo's bitmap */
	struct redo redo;
	uint8_t *buffer;		/* of the walk */
	uint32_t buffer_bytes;
	char why[WHY_BYTES], doubt[WHY_BYTES];

	uint8_t *pages;			/* STOPPED_PAGES, each at its number */
	struct stopped_page *page;
	uint16_t *page_index;		/* number + 1, by block; open addressing */
	uint32_t page_next;		/* the clock's hand */
	uint64_t turn;			/* number of this transaction, from 1 */
};

/* ---- refusing ---- */

/* What can be forced: @why is the end of it, unless it was. */
static int doubt(struct stopped *s, const char *why)
{
	if (s->force && !s->doubt[0])
		snprintf(s->doubt, WHY_BYTES, "%s", why);
	return s->force ? 0 : -EUCLEAN;
}

static int file_read(struct stopped *s, unsigned file, uint64_t offset, void *out, size_t len)
{
	static const char *const names[] = { "store", "journal", "meta", "undo" };
	int error = s->files->read(s->files, file, offset, out, len);

	if (error)
		snprintf(s->why, WHY_BYTES, "%s: %zu bytes at %llu cannot be read (%s)",
			 names[file < STOPPED_UNDO ? file : STOPPED_UNDO], len, (unsigned long long)offset,
			 strerrordesc_np(-error));
	return error;
}

/* ---- meta, undo, the journal's header ---- */

static int take_meta(struct stopped *s, const struct geometry *geometry, char why[WHY_BYTES])
{
	uint8_t *slots = s->buffer;
	int error = file_read(s, STOPPED_META, 0, slots, META_BYTES);

	if (error) {
		snprintf(why, WHY_BYTES, "%s", s->why);
		return error;
	}
	error = meta_geometry(slots, &s->geometry, why);
	if (error)
		return error;
	s->meta = (struct meta){ .geometry = geometry ? geometry : &s->geometry, .history = &s->history };
	error = meta_load(&s->meta, slots, why);
	s->meta.geometry = &s->geometry;
	/* An epoch whose record is not in the log never was. The scan finds those that are. */
	history_truncate(&s->history, s->meta.tail.lsn);
	s->blocks.count = s->geometry.volume_bytes / BLOCK_BYTES;
	return error;
}

/* The map of saved blocks, all of it. */
static int take_saved(struct stopped *s, char why[WHY_BYTES])
{
	uint64_t bytes = bitmap_bytes(s->blocks.count), units = bytes / BITMAP_UNIT_BYTES;
	int error;

	s->saved = s->io->alloc(s->io, bytes, 0);
	if (!s->saved) {
		snprintf(why, WHY_BYTES, "memory: not enough for undo's map of this volume");
		return -ENOMEM;
	}
	for (uint64_t at = 0; at < bytes; at += BITMAP_STAGE_BYTES) {
		error = file_read(s, STOPPED_UNDO + s->slot, undo_saved_offset() + at, (uint8_t *)s->saved + at,
				  min_u64(BITMAP_STAGE_BYTES, bytes - at));
		if (error) {
			snprintf(why, WHY_BYTES, "%s", s->why);
			return doubt(s, why) ? -EUCLEAN : 1;
		}
	}
	for (uint64_t i = 0; i < units; i++) {
		if (bitmap_unit_whole(&s->saved[i], i))
			continue;
		snprintf(why, WHY_BYTES, "undo %u: its map of saved blocks is damaged, and in the midst of a resync "
			 "nobody knows without it what is old and what is new; replace this replica from a peer",
			 s->slot);
		return doubt(s, why) ? -EUCLEAN : 1;
	}
	s->snapshot = true;
	return 0;
}

/* What is there of the slot in which a resync was under way: 1, with its header in the buffer; 0: it is over. */
static int take_slot(struct stopped *s, const struct undo_header **header, char why[WHY_BYTES])
{
	char reason[WHY_BYTES];
	bool uneven;
	int copy, error = file_read(s, STOPPED_UNDO + s->slot, 0, s->buffer, META_BYTES);

	if (error) {
		snprintf(why, WHY_BYTES, "%s", s->why);
		return doubt(s, why);
	}
	copy = undo_header_choose(s->buffer, &s->geometry, &uneven, reason);
	if (copy < 0) {
		snprintf(why, WHY_BYTES, "undo %u: %.400s", s->slot, reason);
		return doubt(s, why);
	}
	*header = (const void *)(s->buffer + copy * META_SLOT_BYTES);
	return from_le16((*header)->kind) == UNDO_RESYNC;
}

/* Undo lets go of a resync when it is over, and meta hears of that later: then it is as if none had been. */
static int take_undo(struct stopped *s, char why[WHY_BYTES])
{
	const struct undo_header *header = NULL;
	int found;

	if (!s->meta.resync.running)
		return 0;
	s->slot = s->meta.resync.slot;
	found = take_slot(s, &header, why);
	if (found <= 0)
		return found;
	if (from_le64(header->partial)) {
		snprintf(why, WHY_BYTES, "this replica is inconsistent: a resync from node %.64s had begun to change "
			 "it, and undo could not keep what was there before; replace it from a peer",
			 s->meta.resync.source);
		return doubt(s, why);
	}
	s->lsn = from_le64(header->lsn);
	s->snapshot_history.count = from_le32(header->epoch_count);
	memcpy(s->snapshot_history.epochs, header + 1, s->snapshot_history.count * sizeof(struct epoch_entry));
	found = take_saved(s, why);
	return found < 0 ? found : 0;
}

static int take_header(struct stopped *s, char why[WHY_BYTES])
{
	struct geometry g = s->geometry;
	int error = file_read(s, STOPPED_JOURNAL, 0, s->buffer, JOURNAL_HEADER_BYTES);

	if (error) {
		snprintf(why, WHY_BYTES, "%s", s->why);
		return error;
	}
	return journal_header_check((const void *)s->buffer, &g, why);
}

/* ---- the log ---- */

static enum record_finding walk_look(const struct stopped *s, const struct walk *w)
{
	uint64_t avail = w->at.lsn >= w->buffer_lsn && w->at.lsn < w->buffer_lsn + w->len ?
			 w->buffer_lsn + w->len - w->at.lsn : 0;

	return record_look(s->buffer + (avail ? w->at.lsn - w->buffer_lsn : 0), avail, &w->at, &s->geometry);
}

/* The record at w->at, or NULL: w->finding says what is there instead, or w->error that it cannot be read. */
static const struct record_header *walk_record(struct stopped *s, struct walk *w)
{
	const struct geometry *g = &s->geometry;
	uint64_t limit = s->meta.tail.lsn + g->journal_bytes;
	uint64_t boundary = round_down(w->at.lsn, g->segment_bytes) + g->segment_bytes;

	w->finding = RECORD_GOOD;
	if (w->at.lsn >= limit)
		return NULL;
	w->finding = walk_look(s, w);
	if (w->finding != RECORD_GOOD && w->buffer_lsn != w->at.lsn) {
		/* The buffer may have ended in it. A whole record fits from its beginning on. */
		w->buffer_lsn = w->at.lsn;
		w->len = 0;
		w->error = file_read(s, STOPPED_JOURNAL, journal_place(g, w->at.lsn), s->buffer,
				     min_u64(s->buffer_bytes, boundary - w->at.lsn));
		if (w->error)
			return NULL;
		w->len = (uint32_t)min_u64(s->buffer_bytes, boundary - w->at.lsn);
		w->finding = walk_look(s, w);
	}
	if (w->finding == RECORD_SHORT)
		w->finding = RECORD_TORN;
	return w->finding == RECORD_GOOD ? (const void *)(s->buffer + (w->at.lsn - w->buffer_lsn)) : NULL;
}

static int scan(struct stopped *s, char why[WHY_BYTES])
{
	struct walk w = { .at = s->meta.tail, .buffer_lsn = UINT64_MAX };
	const struct record_header *r;
	int error;

	while ((r = walk_record(s, &w))) {
		error = scan_record(&s->meta, r, &w.at, why);
		if (error && doubt(s, why))
			return -EUCLEAN;
		redo_count(&s->redo, r);
		record_next(r, &w.at);
		if (w.at.lsn % s->geometry.journal_block == 0)
			s->log_end = w.at.lsn;
	}
	if (w.error) {
		snprintf(why, WHY_BYTES, "%s", s->why);
		return doubt(s, why);
	}
	error = scan_end(&s->meta, s->log_end, w.at.lsn, w.finding, why);
	return error ? doubt(s, why) : 0;
}

static uint64_t shown(const struct stopped *s)
{
	uint64_t open = min_u64(max_u64(s->meta.reach, s->meta.commit), s->log_end);

	return s->view == STOPPED_OPEN ? open : s->log_end;
}

/* What changed since the scan is refused: somebody writes to the journal. */
static int index_log(struct stopped *s, char why[WHY_BYTES])
{
	struct walk w = { .at = s->meta.tail, .buffer_lsn = UINT64_MAX };
	uint64_t limit = shown(s);
	const struct record_header *r;
	int error = redo_allot(&s->redo);

	while (!error && w.at.lsn < limit) {
		r = walk_record(s, &w);
		if (!r)
			error = w.error ? w.error : -EBADMSG;
		else if (w.at.lsn + record_length(r) > limit)
			break;
		else
			error = redo_add(&s->redo, r);
		if (!error)
			record_next(r, &w.at);
	}
	s->lsn = w.at.lsn;
	if (!error)
		error = redo_ready(&s->redo);
	if (error == -ENOMEM)
		snprintf(why, WHY_BYTES, "memory: not enough to index the log from LSN %llu to %llu",
			 (unsigned long long)s->meta.tail.lsn, (unsigned long long)limit);
	else if (error)
		snprintf(why, WHY_BYTES, "journal: it changed while it was read, at LSN %llu: is a daemon running?",
			 (unsigned long long)w.at.lsn);
	return error;
}

/* ---- life ---- */

static int read_all(struct stopped *s, const struct geometry *geometry, char why[WHY_BYTES])
{
	int error = take_meta(s, geometry, why);

	if (!error)
		error = take_undo(s, why);
	if (error || s->snapshot)
		return error;
	s->log_end = s->meta.tail.lsn;
	error = take_header(s, why);
	if (!error)
		error = scan(s, why);
	else
		error = doubt(s, why);	/* forced: the store alone, as far as the tail */
	return error ? error : index_log(s, why);
}

static int blocks_read(struct blocks *blocks, uint64_t block, const uint8_t **page);
static int blocks_change(struct blocks *blocks, uint64_t block, uint8_t **page);
static int blocks_write(struct blocks *blocks, uint64_t offset, const void *bytes, uint32_t len);
static int blocks_discard(struct blocks *blocks, uint64_t block, uint64_t count);
static int blocks_commit(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn);
static void blocks_abort(struct blocks *blocks);

int stopped_new(struct stopped **out, struct io *io, struct stopped_files *files,
		const struct stopped_options *options, char why[WHY_BYTES])
{
	struct stopped *s = io->alloc(io, sizeof *s, 0);
	int error = -ENOMEM;

	*out = NULL;
	snprintf(why, WHY_BYTES, "memory: not enough to read a replica");
	if (!s)
		return error;
	s->io = io;
	s->files = files;
	s->view = options->view;
	s->force = options->force;
	s->turn = 1;
	s->blocks = (struct blocks){ .write_max = 1, .read = blocks_read, .change = blocks_change,
				     .fresh = blocks_change, .write = blocks_write, .discard = blocks_discard,
				     .commit = blocks_commit, .abort = blocks_abort };
	redo_init(&s->redo, io);
	s->buffer_bytes = 2 * RECORD_BYTES_MAX;
	s->buffer = io->alloc(io, s->buffer_bytes, 0);
	s->pages = io->alloc(io, (uint64_t)STOPPED_PAGES * BLOCK_BYTES, 0);
	s->page = io->alloc(io, STOPPED_PAGES * sizeof *s->page, 0);
	s->page_index = io->alloc(io, PAGE_INDEX * sizeof *s->page_index, 0);
	if (s->buffer && s->pages && s->page && s->page_index) {
		why[0] = 0;
		error = read_all(s, options->geometry, why);
	}
	if (error)
		stopped_free(s);
	else
		*out = s;
	return error;
}

void stopped_free(struct stopped *s)
{
	struct io *io = s ? s->io : NULL;

	if (!s)
		return;
	redo_delete(&s->redo);
	io->free(io, s->saved);
	io->free(io, s->page_index);
	io->free(io, s->page);
	io->free(io, s->pages);
	io->free(io, s->buffer);
	io->free(io, s);
}

struct blocks *stopped_blocks(struct stopped *s) { return &s->blocks; }
const char *stopped_why(const struct stopped *s) { return s->why; }
const char *stopped_doubt(const struct stopped *s) { return s->doubt; }

void stopped_status(const struct stopped *s, struct stopped_status *out)
{
	*out = (struct stopped_status){
		.geometry = s->geometry, .lsn = s->lsn, .log_end = s->snapshot ? s->lsn : s->log_end,
		.commit = s->snapshot ? s->lsn : min_u64(s->meta.commit, s->log_end), .resync = s->snapshot,
		.redo_bytes = (s->redo.piece_count + 1) * sizeof *s->redo.pieces +
			      (s->redo.hole_count + 1) * sizeof *s->redo.holes,
		.history = s->snapshot ? s->snapshot_history : s->history,
	};
	if (!s->snapshot)
		history_truncate(&out->history, s->lsn);
}

/* ---- blocks ---- */

/* What the log makes of it, on top of what @page holds. */
static int redo_block(struct stopped *s, const struct redo_block *found, uint8_t *page)
{
	if (found->zeros)
		memset(page, 0, BLOCK_BYTES);
	for (uint64_t i = 0; i < found->count; i++) {
		const struct redo_piece *piece = &found->pieces[i];
		int error = 0;

		if (piece->zeros)
			memset(page + piece->from, 0, piece->len);
		else
			error = file_read(s, STOPPED_JOURNAL, journal_place(&s->geometry, piece->at),
					  page + piece->from, piece->len);
		if (error)
			return error;
	}
	return 0;
}

/* Blocks [first, end) of which the log says nothing, into @out: from undo or from the store. */
static int store_read(struct stopped *s, uint64_t first, uint64_t end, uint8_t *out)
{
	uint64_t undo = undo_data_offset(s->geometry.volume_bytes);
	int error = 0;

	for (uint64_t at = first, to; at < end && !error; at = to) {
		bool saved = s->snapshot && bitmap_unit_test(s->saved, at);

		for (to = at + 1; to < end && s->snapshot && bitmap_unit_test(s->saved, to) == saved; )
			to++;
		if (!s->snapshot)
			to = end;
		error = file_read(s, saved ? STOPPED_UNDO + s->slot : STOPPED_STORE,
				  at * BLOCK_BYTES + (saved ? undo : 0), out + (at - first) * BLOCK_BYTES,
				  (to - at) * BLOCK_BYTES);
	}
	return error;
}

int stopped_read(struct stopped *s, uint64_t block, uint32_t count, void *out)
{
	uint64_t end = block + count, to;
	uint8_t *bytes = out;

	CHECK(block <= s->blocks.count && count <= s->blocks.count - block);
	for (uint64_t at = block; at < end; at = to) {
		uint8_t *page = bytes + (at - block) * BLOCK_BYTES;
		struct redo_block found;
		int error = 0;

		to = redo_next(&s->redo, at, end);
		if (to > at) {
			error = store_read(s, at, to, page);
		} else {
			to = at + 1;
			redo_find(&s->redo, at, &found);
			if (found.store)
				error = store_read(s, at, to, page);
			if (!error)
				error = redo_block(s, &found, page);
		}
		if (error)
			return -EIO;
	}
	return 0;
}

/* ---- pages ---- */

static uint16_t *index_of(struct stopped *s, uint64_t block)
{
	uint64_t at = block * 0x9e3779b97f4a7c15ull >> 20;

	for (;; at++) {
		uint16_t *slot = &s->page_index[at % PAGE_INDEX];

		if (!*slot || s->page[*slot - 1].block == block)
			return slot;
	}
}

static void index_build(struct stopped *s)
{
	memset(s->page_index, 0, PAGE_INDEX * sizeof *s->page_index);
	for (uint32_t i = 0; i < STOPPED_PAGES; i++)
		if (s->page[i].used)
			*index_of(s, s->page[i].block) = (uint16_t)(i + 1);
}

/* A page that this transaction does not look at, by a hand that goes round: an eighth of them at once goes, so that the
 * index is built anew now and then only. -E2BIG. */
static int page_take(struct stopped *s, uint32_t *number)
{
	uint32_t freed = 0;

	for (uint32_t i = 0; i < STOPPED_PAGES && s->page[s->page_next].used; i++)
		s->page_next = (s->page_next + 1) % STOPPED_PAGES;
	if (s->page[s->page_next].used) {
		for (uint32_t i = 0; i < STOPPED_PAGES && freed < STOPPED_PAGES / 8; i++) {
			struct stopped_page *page = &s->page[(s->page_next + i) % STOPPED_PAGES];

			freed += page->used != s->turn;
			page->used = page->used == s->turn ? s->turn : 0;
		}
		if (!freed)
			return -E2BIG;
		index_build(s);
		while (s->page[s->page_next].used)
			s->page_next = (s->page_next + 1) % STOPPED_PAGES;
	}
	*number = s->page_next;
	s->page_next = (s->page_next + 1) % STOPPED_PAGES;
	return 0;
}

static int blocks_read(struct blocks *blocks, uint64_t block, const uint8_t **page)
{
	struct stopped *s = container_of(blocks, struct stopped, blocks);
	uint16_t *slot;
	uint32_t number;
	int error;

	if (block >= blocks->count)
		return -ERANGE;
	slot = index_of(s, block);
	if (*slot) {
		number = *slot - 1u;
	} else {
		error = page_take(s, &number);
		if (!error)
			error = stopped_read(s, block, 1, s->pages + (uint64_t)number * BLOCK_BYTES);
		if (error)
			return error;
		s->page[number].block = block;
		*index_of(s, block) = (uint16_t)(number + 1);
	}
	s->page[number].used = s->turn;
	*page = s->pages + (uint64_t)number * BLOCK_BYTES;
	return 0;
}

static int blocks_change(struct blocks *blocks, uint64_t block, uint8_t **page)
{
	(void)blocks;
	(void)block;
	(void)page;
	return -EROFS;
}

static int blocks_write(struct blocks *blocks, uint64_t offset, const void *bytes, uint32_t len)
{
	(void)blocks;
	(void)offset;
	(void)bytes;
	(void)len;
	return -EROFS;
}

static int blocks_discard(struct blocks *blocks, uint64_t block, uint64_t count)
{
	(void)blocks;
	(void)block;
	(void)count;
	return -EROFS;
}

static int blocks_commit(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn)
{
	struct stopped *s = container_of(blocks, struct stopped, blocks);

	(void)annotation;
	(void)len;
	*lsn = s->lsn;
	s->turn++;
	return 0;
}

static void blocks_abort(struct blocks *blocks)
{
	container_of(blocks, struct stopped, blocks)->turn++;
}
