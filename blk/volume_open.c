/* SPDX-License-Identifier: Apache-2.0 */
/* A replica's start and stop.
 *
 *	sync		meta, store, bitmaps, undo: what a killed daemon wrote last may only be in a cache
 *	read meta	where the tail is, how far the store may reach, which epochs we know
 *	read header	whether the journal is this volume's
 *	read ends	whether journal and store are as long as they must be
 *	load		the bitmaps of the peers, and undo: was a resync under way?
 *	scan		from the tail, record by record, to the first that is none
 *	clear		records of this lap behind that: remains of a batch that was lost in part
 *	rewrite, sync	what was found behind `durable` may only be in a cache (the last daemon was killed), or be gone
 *			with the next loss of power (its last sync failed): write it once more, then sync
 *	listen		(nobody is accepted yet)
 *	replay		what the store may lack, into pages, up to `reach` and the commit LSN
 *	accept, dial	and be a secondary
 *
 * What ends the scan, and what that means: scan.c.
 *
 * The log ends at the end of a batch: a batch is acknowledged whole or not at all, so the records of a torn one
 * are given up together, and no durable block is ever written again.
 */
#include <errno.h>
#include <string.h>

#include "scan.h"
#include "volume_private.h"

/* ---- new, free -------------------------------------------------------------------------------------- */

static uint64_t log_ring_bytes(const struct volume_config *c)
{
	uint64_t segment = c->geometry.segment_bytes, bytes = round_down(c->memory_bytes / 8, segment);

	return bytes < 2 * segment ? 2 * segment : bytes;
}

/* Not part of `memory`: 32.5 MiB per TiB for each peer, and twice that for each slot of undo. */
static int allot_bitmaps(struct volume *v)
{
	const char *names[PEERS_MAX];
	uint64_t limit = v->config.undo_bytes ? v->config.undo_bytes : v->geometry.volume_bytes / 10;

	for (unsigned i = 0; i < v->config.peer_count; i++)
		names[i] = v->config.peers[i].name;
	return lacks_new(&v->lacks, v->io, v->config.bitmap, &v->log, &v->journal, &v->meta, names,
			 v->config.peer_count, volume_lacks_moved) ||
			       undo_new(&v->undo, v->io, v->config.undo, v->config.store, &v->geometry, limit,
					volume_undo_moved)
		       ? -ENOMEM
		       : 0;
}

static int allot(struct volume *v, char why[WHY_BYTES])
{
	struct io *io = v->io;
	const struct geometry *g = &v->geometry;
	uint64_t fixed = log_ring_bytes(&v->config) + (v->config.peer_count + 1ull) * 10 * frame_bytes_max(g);
	uint32_t stages = v->config.memory_bytes >= (32 << 20) ? DESTAGE_STAGES : 2;
	uint64_t pages;

	fixed += stages * (uint64_t)DESTAGE_STAGE_BYTES + UNDO_COPY_BYTES + verify_memory_bytes(g);
	fixed += v->config.filesystem ? volume_blocks_memory_bytes() : 0;
	if (v->config.memory_bytes < fixed + fixed / 4) {
		snprintf(why, WHY_BYTES,
			 "memory: %llu MiB (without the front ends') are too few for %u peer%s and segments of "
			 "%u KiB; `memory =` must be larger by %llu MiB at least",
			 (unsigned long long)v->config.memory_bytes >> 20, v->config.peer_count,
			 v->config.peer_count == 1 ? "" : "s", g->segment_bytes >> 10,
			 (unsigned long long)((fixed + fixed / 4 - v->config.memory_bytes) >> 20) + 1);
		return -EINVAL;
	}
	pages = (v->config.memory_bytes - fixed) / POOL_PAGE_COST;
	if (log_new(&v->log, io, g, log_ring_bytes(&v->config)) ||
	    pool_new(&v->pool, io, v->config.store, g, pages, volume_pool_loaded) ||
	    meta_new(&v->meta, io, v->config.meta, g, &v->history, volume_meta_moved) ||
	    destage_new(&v->destage, io, v->config.store, &v->pool, &v->journal, &v->meta, &v->undo, &v->applied,
			stages, volume_destage_freed) ||
	    cursor_new(&v->apply, io, &v->log, &v->journal, volume_apply_ready) ||
	    listener_new(&v->listener, v) || allot_bitmaps(v) || resync_sink_new(v) || verify_new(v) ||
	    fetch_new(v) || volume_blocks_new(v))
		return -ENOMEM;
	v->pool.mend = fetch_load;
	v->scan_history = io->alloc(io, sizeof *v->scan_history, 0);
	v->slots = io->alloc(io, META_BYTES, IO_FIXED);
	if (!v->scan_history || !v->slots)
		return -ENOMEM;
	for (; v->peer_count < v->config.peer_count; v->peer_count++) {
		struct peer *p = &v->peers[v->peer_count];

		if (peer_new(p, v, &v->config.peers[v->peer_count]))
			return -ENOMEM;
		p->lack = &v->lacks.at[v->peer_count];
	}
	return 0;
}

int volume_new(struct volume **out, struct io *io, const struct volume_config *config, char why[WHY_BYTES])
{
	struct volume *v;
	int result = geometry_check(&config->geometry, why);

	if (result == 0)
		result = commit_check(config, why);
	if (result)
		return result;
	v = io->alloc(io, sizeof *v, 0);
	if (!v)
		return -ENOMEM;
	v->io = io;
	v->config = *config;
	v->geometry = config->geometry;
	list_init(&v->waiting);
	list_init(&v->acks);
	list_init(&v->flushes);
	list_init(&v->finished);
	list_init(&v->answered);
	list_init(&v->waits);
	journal_init(&v->journal, io, config->journal, &v->geometry, &v->log, volume_journal_moved);
	v->journal.cached = config->filesystem;
	snprintf(why, WHY_BYTES, "memory: not enough for what `memory =` asks");
	result = allot(v, why);
	if (result) {
		volume_free(v);
		return result;
	}
	*out = v;
	return 0;
}

void volume_free(struct volume *v)
{
	struct io *io = v->io;

	CHECK(v->state == VOLUME_NEW || v->state == VOLUME_CLOSED);
	CHECK(!v->turn.in_flight && !v->tick.in_flight && !v->news.in_flight && !journal_busy(&v->journal));
	for (unsigned i = 0; i < PEERS_MAX; i++)
		peer_delete(&v->peers[i]);
	listener_delete(&v->listener);
	cursor_delete(&v->apply);
	lacks_delete(&v->lacks);
	undo_delete(&v->undo);
	resync_sink_delete(v);
	verify_delete(v);
	fetch_delete(v);
	volume_blocks_delete(v);
	destage_delete(&v->destage);
	meta_delete(&v->meta);
	pool_delete(&v->pool);
	log_delete(&v->log, io);
	io->free(io, v->scan_history);
	io->free(io, v->slots);
	io->free(io, v);
}

void volume_on_role(struct volume *v, void (*changed)(void *context, enum volume_role role), void *context)
{
	v->on_role = changed;
	v->on_role_context = context;
}

void volume_on_applied(struct volume *v,
		       bool (*applied)(void *context, const void *annotation, uint32_t len, uint64_t lsn),
		       void *context)
{
	v->on_applied = applied;
	v->on_applied_context = context;
}

/* ---- open ------------------------------------------------------------------------------------------- */

static void open_end(struct volume *v, int result)
{
	struct volume_call *call = v->opening;

	v->opening = NULL;
	v->state = result ? VOLUME_CLOSED : VOLUME_OPEN;
	v->opened_ns = volume_now(v);
	if (!result)
		volume_tick_start(v);
	call->done(call, result);
}

static void open_refuse(struct volume *v, int result)
{
	/* Reads of the scan, or a round of the replay's destage, may still be in flight: when the last of them is over,
	 * volume_turn() comes back here. */
	v->failed = v->failed ? v->failed : result;
	if (v->turn.in_flight || v->open_op.in_flight || v->apply.op.in_flight || journal_busy(&v->journal) ||
	    v->pool.loading_count || !destage_quiet(&v->destage) || v->meta.op.in_flight ||
	    !lacks_quiet(&v->lacks) || !undo_quiet(&v->undo))
		return;
	open_end(v, v->failed);
}

static void open_read_done(struct io_op *op, int64_t result);

static void open_read(struct volume *v, enum open_step step, int file, uint64_t offset, uint64_t len)
{
	v->open_step = step;
	v->open_op = (struct io_op){ .kind = IO_READ, .file = file, .data = v->slots, .offset = offset, .len = len,
				     .done = open_read_done };
	v->io->submit(v->io, &v->open_op);
}

static int take_meta(struct volume *v)
{
	int result = meta_load(&v->meta, v->slots, v->opening->why);

	if (result)
		return result;
	v->commit = v->meta.commit;
	open_read(v, OPEN_READ_HEADER, v->config.journal, 0, JOURNAL_HEADER_BYTES);
	return 0;
}

static int take_header(struct volume *v)
{
	int result = journal_header_check((const void *)v->slots, &v->geometry, v->opening->why);

	if (result)
		return result;
	open_read(v, OPEN_READ_JOURNAL_END, v->config.journal,
		  JOURNAL_HEADER_BYTES + v->geometry.journal_bytes - BLOCK_BYTES, BLOCK_BYTES);
	return 0;
}

static int take_journal_end(struct volume *v)
{
	open_read(v, OPEN_READ_STORE_END, v->config.store, v->geometry.volume_bytes - BLOCK_BYTES, BLOCK_BYTES);
	return 0;
}

static int load_start(struct volume *v)
{
	v->open_step = OPEN_LOAD;
	lacks_load(&v->lacks);
	undo_load(&v->undo);
	return 0;
}

static int scan_start(struct volume *v)
{
	v->scan_end = v->meta.tail;
	/* Meta may know an epoch whose record was lost with the power; another may stand there by now. The scan
	 * finds all that are in the log. */
	history_truncate(&v->history, v->meta.tail.lsn);
	log_start_at(&v->log, &v->meta.tail);
	journal_start_at(&v->journal, v->meta.tail.lsn, v->meta.floor.lsn, v->meta.tail.lsn);
	v->apply.limit = v->meta.tail.lsn + v->geometry.journal_bytes;
	cursor_seek(&v->apply, &v->meta.tail);
	v->open_step = OPEN_SCAN;
	volume_turn_soon(v);
	return 0;
}

static void open_read_done(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, open_op);
	static const struct { const char *object; int (*take)(struct volume *v); } steps[] = {
		[OPEN_READ_META] = { "meta", take_meta }, [OPEN_READ_HEADER] = { "journal", take_header },
		[OPEN_READ_JOURNAL_END] = { "journal", take_journal_end },
		[OPEN_READ_STORE_END] = { "store", load_start },
	};
	int error;

	if (result < (int64_t)op->len) {
		snprintf(v->opening->why, WHY_BYTES, "%s: reading %llu bytes at %llu failed (%s)",
			 steps[v->open_step].object, (unsigned long long)op->len, (unsigned long long)op->offset,
			 result < 0 ? strerrordesc_np((int)-result) : "the file is too short");
		open_refuse(v, result < 0 ? (int)result : -EBADMSG);
		return;
	}
	error = steps[v->open_step].take(v);
	if (error)
		open_refuse(v, error);
}

/* ---- scan ---- */

static void scan_synced(struct io_op *op, int64_t result);
static void rewrite_wrote(struct io_op *op, int64_t result);
static void rewrite_refuse(struct volume *v, int64_t result);
static void rewrite(struct volume *v);
static void clear(struct volume *v);

static void scan(struct volume *v)
{
	const struct record_header *r = NULL;
	enum record_finding finding = RECORD_GOOD;
	int result;

	while ((result = cursor_look(&v->apply, &r)) == 1) {
		int refused = scan_record(&v->meta, r, &v->apply.at, v->opening->why);

		if (refused) {
			open_refuse(v, refused);
			return;
		}
		cursor_advance(&v->apply, r);
		log_note(&v->log, r, &v->apply.at);
		if (v->apply.at.lsn % v->geometry.journal_block == 0)
			v->scan_end = v->apply.at;
	}
	if (result == -EAGAIN)
		return;
	if (result < 0 && result != -EBADMSG) {
		snprintf(v->opening->why, WHY_BYTES, "journal: reading it at LSN %llu failed (%s); check the disk",
			 (unsigned long long)v->apply.at.lsn, strerrordesc_np(-result));
		open_refuse(v, result);
		return;
	}
	if (result == -EBADMSG)
		finding = v->apply.finding;
	result = scan_end(&v->meta, v->scan_end.lsn, v->apply.at.lsn, finding, v->opening->why);
	if (result) {
		open_refuse(v, result);
		return;
	}
	v->open_step = OPEN_CLEAR;
	v->clear_lsn = v->scan_end.lsn;
	clear(v);
}

/* A piece of the ring that lies within one segment, for the op that works on it. */
static struct io_op piece(struct volume *v, uint64_t from, uint64_t limit,
			  void (*done)(struct io_op *op, int64_t result))
{
	uint64_t segment = v->geometry.segment_bytes, to = min_u64(limit, round_down(from, segment) + segment);

	return (struct io_op){
		.kind = IO_READ,
		.file = v->config.journal,
		.offset = journal_place(&v->geometry, from),
		.len = min_u64(to - from, round_down(v->apply.buffer_bytes, 4096)),
		.data = v->apply.buffer,
		.done = done,
	};
}

static void clear_wrote(struct io_op *op, int64_t result);

static void clear_read(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, open_op);
	uint32_t block = v->geometry.journal_block;
	bool found = false;

	if (result != (int64_t)op->len) {
		rewrite_refuse(v, result);
		return;
	}
	for (uint64_t at = 0; at < op->len; at += block) {
		struct record_header *r = (void *)(v->apply.buffer + at);

		if (from_le32(r->magic) != RECORD_MAGIC || from_le64(r->lsn) != v->clear_lsn + at)
			continue;
		memset(r, 0, block);
		found = true;
	}
	op->kind = IO_WRITE;
	op->done = clear_wrote;
	if (found)
		v->io->submit(v->io, op);
	else
		clear_wrote(op, result);
}

static void clear_wrote(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, open_op);

	if (result != (int64_t)op->len) {
		rewrite_refuse(v, result);
		return;
	}
	v->clear_lsn += op->len;
	clear(v);
}

/* Records of this lap behind the end are of a batch that was lost in part. Nobody was promised them; but should the
 * part that is missing come again, byte for byte, from a peer that has no more than that, they would follow it. */
static void clear(struct volume *v)
{
	uint64_t limit = v->meta.tail.lsn + v->geometry.journal_bytes;

	if (v->clear_lsn == limit) {
		v->open_step = OPEN_REWRITE;
		v->rewrite_lsn = min_u64(max_u64(v->meta.tail.lsn, v->meta.durable), v->scan_end.lsn);
		rewrite(v);
		return;
	}
	v->open_op = piece(v, v->clear_lsn, limit, clear_read);
	v->io->submit(v->io, &v->open_op);
}

static void rewrite_refuse(struct volume *v, int64_t result)
{
	snprintf(v->opening->why, WHY_BYTES, "journal: a %s failed (%s); check the disk",
		 v->open_op.kind == IO_READ ? "read" : v->open_op.kind == IO_WRITE ? "write" : "sync",
		 result < 0 ? strerrordesc_np((int)-result) : "cut short");
	open_refuse(v, result < 0 ? (int)result : -EIO);
}

static void rewrite_read(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, open_op);

	if (result != (int64_t)op->len) {
		rewrite_refuse(v, result);
		return;
	}
	op->kind = IO_WRITE;
	op->done = rewrite_wrote;
	v->io->submit(v->io, op);
}

static void rewrite_wrote(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, open_op);

	if (result != (int64_t)op->len) {
		rewrite_refuse(v, result);
		return;
	}
	v->rewrite_lsn += op->len;
	rewrite(v);
}

/* The next piece, the same bytes to the same place; at the end the sync. */
static void rewrite(struct volume *v)
{
	if (v->rewrite_lsn == v->scan_end.lsn)
		v->open_op = (struct io_op){ .kind = IO_SYNC, .file = v->config.journal, .done = scan_synced };
	else
		v->open_op = piece(v, v->rewrite_lsn, v->scan_end.lsn, rewrite_read);
	v->io->submit(v->io, &v->open_op);
}

static void scan_synced(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, open_op);

	if (result < 0) {
		rewrite_refuse(v, result);
		return;
	}
	/* The last thing that can be refused, so before the replay, which may write to the store. */
	if (v->config.listen[0]) {
		int error = listener_listen(&v->listener, v->config.listen);

		if (error) {
			snprintf(v->opening->why, WHY_BYTES, "listen: %s cannot be listened on (%s); %s",
				 v->config.listen, strerrordesc_np(-error),
				 error == -EADDRINUSE ? "end what listens there, or change `listen =`"
						      : "give an address of this machine in `listen =`");
			open_refuse(v, error);
			return;
		}
	}
	log_start_at(&v->log, &v->scan_end);
	journal_start_at(&v->journal, v->meta.tail.lsn, v->meta.floor.lsn, v->scan_end.lsn);
	history_truncate(&v->history, v->scan_end.lsn);
	v->commit = min_u64(v->commit, v->scan_end.lsn);
	v->log.epoch = history_last_number(&v->history);
	v->meta.promised = max_u64(v->meta.promised, v->log.epoch);
	v->apply.limit = UINT64_MAX;
	cursor_seek(&v->apply, &v->meta.tail);
	v->applied = v->meta.tail.lsn;
	v->open_step = OPEN_REPLAY;
	volume_turn_soon(v);
}

/* ---- replay ---- */

static void open_done(struct volume *v)
{
	v->commit = max_u64(v->commit, v->applied);
	listener_start(&v->listener);
	say(v->io, IO_INFO, "volume=%s open: epoch %llu, log from LSN %llu to %llu, applied to %llu",
	    v->config.name, (unsigned long long)v->log.epoch, (unsigned long long)v->journal.tail,
	    (unsigned long long)v->log.closed.lsn, (unsigned long long)v->applied);
	open_end(v, 0);
}

void volume_open_step(struct volume *v)
{
	uint64_t target = min_u64(max_u64(v->meta.saved_reach, v->commit), v->log.closed.lsn);

	if (v->failed) {
		if (v->opening->why[0] == 0)
			snprintf(v->opening->why, WHY_BYTES, "%s", v->why);
		open_refuse(v, v->failed);
		return;
	}
	if (v->open_step == OPEN_LOAD && v->undo.loaded && lacks_loaded(&v->lacks)) {
		int error = resync_sink_open(v, v->opening->why);

		if (error) {
			open_refuse(v, error);
			return;
		}
		scan_start(v);
	}
	if (v->open_step == OPEN_SCAN)
		scan(v);
	if (v->open_step != OPEN_REPLAY)
		return;
	volume_apply_step(v);
	journal_kick(&v->journal);
	if (v->failed)
		volume_turn_soon(v);
	else if (v->apply.at.lsn >= target)
		open_done(v);
}

static void file_sync(struct volume *v);

static void file_synced(struct io_op *op, int64_t result)
{
	struct volume *v = container_of(op, struct volume, open_op);

	if (result < 0) {
		snprintf(v->opening->why, WHY_BYTES, "%s: a sync failed (%s); check the disk",
			 v->open_synced == 0   ? "meta"
			 : v->open_synced == 1 ? "store"
			 : v->open_synced == 2 ? "bitmap"
					       : "undo",
			 strerrordesc_np((int)-result));
		open_refuse(v, (int)result);
		return;
	}
	v->open_synced++;
	file_sync(v);
}

/* What a file gives may be in a cache only, when the last daemon was killed; and nothing is written a second time
 * that stands there already: not a slot of meta, nor a bit that is set, nor a block that a resync finds equal. (The
 * journal has its own way: it is written once more.) */
static void file_sync(struct volume *v)
{
	const int first[] = { v->config.meta, v->config.store, v->config.bitmap };
	enum { FIRST = sizeof first / sizeof first[0] };
	unsigned next = v->open_synced;

	if (next == FIRST + UNDO_SLOTS) {
		open_read(v, OPEN_READ_META, v->config.meta, 0, META_BYTES);
		return;
	}
	v->open_op = (struct io_op){ .kind = IO_SYNC, .done = file_synced,
				     .file = next < FIRST ? first[next] : v->config.undo[next - FIRST] };
	v->io->submit(v->io, &v->open_op);
}

void volume_open(struct volume *v, struct volume_call *call)
{
	CHECK(v->state == VOLUME_NEW);
	v->state = VOLUME_OPENING;
	v->opening = call;
	call->why[0] = 0;
	v->open_step = OPEN_SYNC;
	file_sync(v);
}

/* ---- close ------------------------------------------------------------------------------------------ */

static bool all_quiet(const struct volume *v)
{
	for (unsigned i = 0; i < v->peer_count; i++)
		if (!peer_quiet(&v->peers[i]))
			return false;
	return listener_quiet(&v->listener) && !journal_busy(&v->journal) && destage_quiet(&v->destage) &&
	       !v->meta.op.in_flight && !v->apply.op.in_flight && v->pool.loading_count == 0 &&
	       lacks_quiet(&v->lacks) && undo_quiet(&v->undo) &&
	       (v->failed || (undo_idle(&v->undo) && v->sink.step == SINK_NONE)) &&
	       v->requests_in_flight == 0 && v->change.step == ROLE_STEP_NONE && !v->expecting &&
	       list_empty(&v->answered) && list_empty(&v->waits);
}

/* Batch closed and durable, everything applied is in the store, meta says so. */
static bool all_written(struct volume *v)
{
	/* A full disk may stay full: the journal keeps what the store does not take. */
	if (v->failed || v->destage.store_full)
		return true;
	if (resync_sink_moves_log(v))
		return false;	/* meta is of the log to come */
	log_close(&v->log);
	journal_want_durable(&v->journal, v->log.closed.lsn);
	if (v->journal.durable < v->log.closed.lsn)
		return false;
	if (pool_dirty(&v->pool) || v->destage.state != DESTAGE_IDLE) {
		destage_start(&v->destage);
		return false;
	}
	if (!v->close_saved) {
		v->close_saved = true;
		v->meta.commit = v->commit;
		v->close_ticket = meta_save(&v->meta);
	}
	return v->meta.saved >= v->close_ticket || v->meta.failed;
}

void volume_close_step(struct volume *v)
{
	struct volume_call *call = v->closing;

	/* A turn that was asked for meanwhile comes back here. */
	if (!all_written(v) || !all_quiet(v) || v->turn.in_flight)
		return;
	if (v->tick.in_flight || v->news.in_flight) {
		v->io->cancel(v->io, v->tick.in_flight ? &v->tick : &v->news);	/* each comes back here */
		return;
	}
	v->closing = NULL;
	v->state = VOLUME_CLOSED;
	call->done(call, v->failed || v->destage.store_full ? -EIO : 0);
}

void volume_close(struct volume *v, struct volume_call *call)
{
	CHECK(v->state == VOLUME_OPEN);
	v->state = VOLUME_CLOSING;
	v->closing = call;
	call->why[0] = 0;
	listener_stop(&v->listener);
	for (unsigned i = 0; i < v->peer_count; i++)
		peer_drop(&v->peers[i], "", 0);
	volume_fail_writes(v, -ESHUTDOWN, true);
	if (v->role == ROLE_PRIMARY)
		log_close(&v->log);
	volume_turn_soon(v);
}
