/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checksum.h"

void journal_header_format(const struct geometry *g, struct journal_header *out)
{
	*out = (struct journal_header){
		.magic = to_le32(JOURNAL_MAGIC), .version = to_le16(JOURNAL_VERSION),
		.volume_bytes = to_le64(g->volume_bytes), .journal_bytes = to_le64(g->journal_bytes),
		.segment_bytes = to_le32(g->segment_bytes), .journal_block = to_le32(g->journal_block),
	};
	memcpy(out->uuid, g->uuid, UUID_BYTES);
	out->crc = to_le32(checksum_crc(0, out, offsetof(struct journal_header, crc)));
}

int journal_header_check(const struct journal_header *h, const struct geometry *g, char why[WHY_BYTES])
{
	if (from_le32(h->magic) != JOURNAL_MAGIC) {
		snprintf(why, WHY_BYTES,
			 "journal: the file is not a Holdfast journal; check `journal =` in the config");
		return -EBADMSG;
	}
	if (from_le16(h->version) != JOURNAL_VERSION) {
		snprintf(why, WHY_BYTES,
			 "journal: its version is %u, this program knows %d; use the program that wrote it",
			 from_le16(h->version), JOURNAL_VERSION);
		return -EBADMSG;
	}
	if (!checksum_equal(checksum_crc(0, h, offsetof(struct journal_header, crc)), from_le32(h->crc))) {
		snprintf(why, WHY_BYTES, "journal: its header is damaged (checksum); replace this replica from a peer");
		return -EBADMSG;
	}
	if (memcmp(h->uuid, g->uuid, UUID_BYTES) != 0) {
		snprintf(why, WHY_BYTES, "journal: it belongs to another volume; check `journal =` in the config");
		return -EBADMSG;
	}
	if (from_le64(h->volume_bytes) != g->volume_bytes || from_le64(h->journal_bytes) != g->journal_bytes ||
	    from_le32(h->segment_bytes) != g->segment_bytes || from_le32(h->journal_block) != g->journal_block) {
		snprintf(why, WHY_BYTES, "journal: it was made for a volume of %llu bytes with journal-size %llu, "
			 "segment %u, journal-block %u; set these in the config",
			 (unsigned long long)from_le64(h->volume_bytes),
			 (unsigned long long)from_le64(h->journal_bytes),
			 from_le32(h->segment_bytes), from_le32(h->journal_block));
		return -EBADMSG;
	}
	return 0;
}

void journal_init(struct journal *j, struct io *io, int file, const struct geometry *g, struct log *log,
		  void (*moved)(struct journal *j))
{
	*j = (struct journal){ .io = io, .file = file, .geometry = g, .log = log, .moved = moved };
}

void journal_start_at(struct journal *j, uint64_t tail, uint64_t floor, uint64_t end)
{
	CHECK(!journal_busy(j) && tail <= end);
	j->tail = tail;
	j->floor = floor;
	j->submitted = j->written = j->durable = j->want_durable = end;
}

bool journal_busy(const struct journal *j)
{
	return j->write_op.in_flight || j->sync_op.in_flight;
}

static void fail(struct journal *j, int64_t result, const char *at)
{
	if (j->failed)
		return;
	j->failed = result < 0 ? (int)result : -EIO;
	j->failed_at = at;
}

static void journal_synced(struct io_op *op, int64_t result)
{
	struct journal *j = container_of(op, struct journal, sync_op);

	if (result < 0)
		fail(j, result, "sync");
	else if (!j->failed)
		j->durable = max_u64(j->durable, j->sync_end);
	j->moved(j);
	journal_kick(j);
}

static void sync_if_wanted(struct journal *j)
{
	/* A write in flight that is durable by itself, or that the sync would not cover, is no reason to wait:
	 * the sync covers `written`. */
	if (j->failed || j->sync_op.in_flight || j->want_durable <= j->durable || j->written <= j->durable)
		return;
	j->sync_end = j->written;
	j->sync_op = (struct io_op){ .kind = IO_SYNC, .file = j->file, .done = journal_synced };
	j->syncs++;
	j->io->submit(j->io, &j->sync_op);
}

static void journal_wrote(struct io_op *op, int64_t result)
{
	struct journal *j = container_of(op, struct journal, write_op);

	if (result != (int64_t)op->len) {
		fail(j, result, "write");
	} else if (!j->failed) {
		bool all_durable = j->write_durable && j->durable == j->written;

		j->submitted = j->write_next;
		/* A part of a batch is none: after a crash its records are given up, so nobody hears of it. */
		if (j->submitted == j->write_goal)
			j->written = j->submitted;
		if (all_durable)
			j->durable = j->written;
	}
	j->moved(j);
	journal_kick(j);
}

static unsigned write_flags(const struct journal *j, uint64_t len)
{
	if (j->write_durable)
		return IO_DURABLE;
	return j->cached && len <= JOURNAL_CACHED_MAX ? IO_CACHED : 0;
}

void journal_kick(struct journal *j)
{
	struct log *log = j->log;
	uint64_t from = j->submitted, limit, run_end;

	if (j->failed)
		return;
	sync_if_wanted(j);
	if (j->write_op.in_flight || from == log->closed.lsn)
		return;
	if (from == j->written)
		j->write_goal = min_u64(log->closed.lsn, round_down(from, j->geometry->segment_bytes) +
								 j->geometry->segment_bytes);
	limit = min_u64(j->write_goal, from + journal_write_max(j->geometry));
	run_end = log_run_end(log, from, limit, &j->write_next);
	CHECK(from >= log->start && run_end - from <= journal_write_max(j->geometry));
	CHECK(j->write_next <= j->write_goal && j->write_next <= journal_limit(j));
	j->write_durable = j->want_durable > from && j->durable == from && j->write_next == j->write_goal;
	j->write_op = (struct io_op){
		.kind = IO_WRITE, .file = j->file, .flags = write_flags(j, run_end - from),
		.offset = journal_place(j->geometry, from), .len = run_end - from,
		.data = log_at(log, from), .done = journal_wrote,
	};
	j->writes++;
	j->bytes_written += run_end - from;
	j->io->submit(j->io, &j->write_op);
}

void journal_want_durable(struct journal *j, uint64_t lsn)
{
	CHECK(lsn <= j->log->closed.lsn);
	j->want_durable = max_u64(j->want_durable, lsn);
	journal_kick(j);
}

bool journal_has_room(const struct journal *j, uint32_t length)
{
	return j->log->end.lsn + log_cost(j->log, length) <= journal_limit(j);
}
