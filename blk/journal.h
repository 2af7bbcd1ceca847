/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: the file that holds the log, behind JOURNAL_HEADER_BYTES of header that never change, in a ring
 * of geometry.journal_bytes: the byte of LSN n stands at JOURNAL_HEADER_BYTES + n mod journal_bytes.
 *
 * The happy path: log_close() ends a batch; journal_kick() writes all closed batches at once, one write in
 * flight (what is longer than journal_write_max() in several, one after the other); `written` moves when the last
 * batch is whole, then `durable`. A batch for which somebody waits (journal_want_durable) is written
 * with IO_DURABLE when all before it is durable, and followed by a sync when not: a device may make a durable
 * write durable alone.
 *
 * With `cached` small writes that nobody wants durable yet are done as soon as the kernel has them, and reach the disk
 * with the next sync, or when there are many: programs that work on a directory wait for each write by itself, and none
 * of them asks for the disk before it asks for a sync.
 *
 * Failure: the first failed write or sync is final. The volume stops acknowledging; nothing is tried again,
 * because after a failed sync nobody knows what the device has kept.
 */
#ifndef HOLDFAST_JOURNAL_H
#define HOLDFAST_JOURNAL_H

#include "io.h"
#include "log.h"

enum { JOURNAL_MAGIC = 0x4a464c48 /* "HLFJ" */, JOURNAL_VERSION = 1 };
enum { JOURNAL_CACHED_MAX = 2 << 20 };	/* FUSE's largest write, with headers: copied in 0.3 ms, written in 2 or 3 */

struct journal_header {
	le32 magic;
	le16 version, reserved;
	uint8_t uuid[UUID_BYTES];
	le64 volume_bytes, journal_bytes;
	le32 segment_bytes, journal_block;
	uint8_t zero[JOURNAL_HEADER_BYTES - 52];
	le32 crc;
};
_Static_assert(sizeof(struct journal_header) == JOURNAL_HEADER_BYTES, "size on disk");

struct journal {
	struct io *io;
	int file;
	const struct geometry *geometry;
	struct log *log;
	uint64_t submitted, written, durable;	/* LSNs, ends of batches but for `submitted` */
	uint64_t tail;			/* LSN: the store holds all below */
	uint64_t floor;			/* LSN: what a peer lacks below is in its bitmap. The ring may overwrite what is
					 * below both */
	uint64_t want_durable;
	int failed;			/* -errno, for good */
	const char *failed_at;		/* "write" or "sync" */
	/* Called when written, durable or failed changed. */
	void (*moved)(struct journal *j);

	struct io_op write_op, sync_op;
	uint64_t write_next, sync_end;
	bool cached;			/* small writes may stay in the kernel's cache until a sync (IO_CACHED) */
	uint64_t write_goal;		/* LSN: where `written` moves to: what was closed when the first write behind it
					 * began, or the segment's end */
	bool write_durable;
	uint64_t writes, syncs, bytes_written;	/* counters */
};

void journal_header_format(const struct geometry *g, struct journal_header *out);
/* 0; -EBADMSG with a sentence in @why when it is not the journal of @g. */
MUST_CHECK int journal_header_check(const struct journal_header *h, const struct geometry *g,
				    char why[WHY_BYTES]);

void journal_init(struct journal *j, struct io *io, int file, const struct geometry *g, struct log *log,
		  void (*moved)(struct journal *j));
/* All log below @end is durable in the file, the store holds all below @tail, bitmaps know all below @floor. */
void journal_start_at(struct journal *j, uint64_t tail, uint64_t floor, uint64_t end);
/* Log up to here fits the ring. */
static inline uint64_t journal_limit(const struct journal *j)
{
	return (j->tail < j->floor ? j->tail : j->floor) + j->geometry->journal_bytes;
}
/* Writes what is closed and not yet submitted, if nothing is in flight. */
void journal_kick(struct journal *j);
/* All below @lsn (<= log->closed) shall become durable soon. */
void journal_want_durable(struct journal *j, uint64_t lsn);
/* Whether the ring takes a record of @length without overwriting what the store still needs. */
bool journal_has_room(const struct journal *j, uint32_t length);
bool journal_busy(const struct journal *j);

/* A write is no longer than this; a larger batch takes several. */
static inline uint64_t journal_write_max(const struct geometry *g)
{
	return g->segment_bytes / 2;
}

static inline uint64_t journal_place(const struct geometry *g, uint64_t lsn)
{
	return JOURNAL_HEADER_BYTES + lsn % g->journal_bytes;
}

#endif
