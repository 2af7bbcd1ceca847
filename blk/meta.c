/* SPDX-License-Identifier: Apache-2.0 */
#include "meta.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checksum.h"
#include "journal.h"
#include "undo.h"

static uint32_t slot_crc(const struct meta_slot *slot, uint32_t epochs)
{
	uint32_t crc = checksum_crc(0, slot, offsetof(struct meta_slot, crc));

	return checksum_crc(crc, slot + 1, epochs * sizeof(struct epoch_entry));
}

void meta_encode(const struct meta *m, uint64_t generation, uint8_t bytes[META_SLOT_BYTES])
{
	struct meta_slot *slot = (void *)bytes;
	const struct geometry *g = m->geometry;

	memset(bytes, 0, META_SLOT_BYTES);
	slot->magic = to_le32(META_MAGIC);
	slot->version = to_le16(META_VERSION);
	slot->generation = to_le64(generation);
	memcpy(slot->uuid, g->uuid, UUID_BYTES);
	memcpy(slot->node, g->node, NAME_BYTES);
	slot->volume_bytes = to_le64(g->volume_bytes);
	slot->journal_bytes = to_le64(g->journal_bytes);
	slot->segment_bytes = to_le32(g->segment_bytes);
	slot->journal_block = to_le32(g->journal_block);
	slot->tail = to_le64(m->tail.lsn);
	memcpy(slot->tail_hash, m->tail.hash, HASH_BYTES);
	slot->reach = to_le64(m->reach);
	slot->durable = to_le64(m->durable);
	slot->commit = to_le64(m->commit);
	slot->promised = to_le64(m->promised);
	slot->floor = to_le64(m->floor.lsn);
	memcpy(slot->floor_hash, m->floor.hash, HASH_BYTES);
	if (m->resync.running) {
		slot->resync_slot = to_le32(m->resync.slot + 1);
		slot->resync_id = to_le64(m->resync.id);
		slot->resync_base = to_le64(m->resync.base);
		memcpy(slot->resync_source, m->resync.source, NAME_BYTES);
	}
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		const struct lack_place *from = &m->peers[i];
		struct meta_peer *to = &slot->peers[i];

		memcpy(to->name, from->name, NAME_BYTES);
		to->known = to_le64(from->known);
		to->covers = to_le64(from->covers);
		to->marked = to_le64(from->marked);
		to->id = to_le64(from->id);
		to->snapshot = to_le64(from->snapshot);
	}
	slot->epoch_count = to_le32(m->history->count);
	memcpy(slot + 1, m->history->epochs, m->history->count * sizeof(struct epoch_entry));
	slot->crc = to_le32(slot_crc(slot, m->history->count));
}

/* Whether the slot is whole; nothing else of it may be read when it is not. */
static bool slot_whole(const struct meta_slot *slot)
{
	uint32_t epochs = from_le32(slot->epoch_count);

	return from_le32(slot->magic) == META_MAGIC && epochs <= HISTORY_MAX &&
	       checksum_equal(slot_crc(slot, epochs), from_le32(slot->crc));
}

static int refuse(char why[WHY_BYTES], const char *reason)
{
	snprintf(why, WHY_BYTES, "meta: %s", reason);
	return -EBADMSG;
}

static int slot_check(const struct meta_slot *slot, const struct geometry *g, char why[WHY_BYTES])
{
	if (from_le16(slot->version) != META_VERSION)
		return refuse(why, "it was written by another version of the program; use that one");
	if (memcmp(slot->uuid, g->uuid, UUID_BYTES) != 0)
		return refuse(why, "it belongs to another volume; check `meta =` and `uuid =` in the config");
	if (from_le64(slot->volume_bytes) != g->volume_bytes) {
		snprintf(why, WHY_BYTES, "meta: the volume has %llu bytes and the config says %llu; correct `size =`",
			 (unsigned long long)from_le64(slot->volume_bytes), (unsigned long long)g->volume_bytes);
		return -EBADMSG;
	}
	if (from_le64(slot->journal_bytes) != g->journal_bytes ||
	    from_le32(slot->segment_bytes) != g->segment_bytes ||
	    from_le32(slot->journal_block) != g->journal_block) {
		snprintf(why, WHY_BYTES, "meta: the journal was made with journal-size %llu, segment %u, "
			 "journal-block %u; set these in the config",
			 (unsigned long long)from_le64(slot->journal_bytes),
			 from_le32(slot->segment_bytes), from_le32(slot->journal_block));
		return -EBADMSG;
	}
	if (memchr(slot->node, 0, NAME_BYTES) == NULL || strcmp(slot->node, g->node) != 0)
		return refuse(why, "this replica is another node's; check `node =` and the paths in the config");
	if (from_le64(slot->promised) >= EPOCH_NUMBER_MAX)
		return refuse(why, "it holds an impossible epoch number; replace this replica from a peer");
	if (from_le64(slot->reach) >= LSN_MAX || from_le64(slot->durable) >= LSN_MAX ||
	    from_le64(slot->durable) % g->journal_block != 0 || from_le64(slot->tail) % g->journal_block != 0 ||
	    from_le64(slot->tail) > from_le64(slot->reach) || from_le64(slot->floor) >= LSN_MAX ||
	    from_le64(slot->floor) % g->journal_block != 0 || from_le64(slot->resync_base) >= LSN_MAX ||
	    from_le32(slot->resync_slot) > UNDO_SLOTS || memchr(slot->resync_source, 0, NAME_BYTES) == NULL)
		return refuse(why, "its positions contradict each other; replace this replica from a peer");
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (memchr(slot->peers[i].name, 0, NAME_BYTES) == NULL)
			return refuse(why, "a peer's name in it has no end; replace this replica from a peer");
	return 0;
}

static void load_peers(struct meta *m, const struct meta_slot *slot)
{
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		const struct meta_peer *from = &slot->peers[i];
		struct lack_place *to = &m->peers[i];

		memcpy(to->name, from->name, NAME_BYTES);
		to->known = from_le64(from->known);
		to->covers = from_le64(from->covers);
		to->marked = from_le64(from->marked);
		to->id = from_le64(from->id);
		to->snapshot = from_le64(from->snapshot);
	}
}

static void load_resync(struct meta *m, const struct meta_slot *slot)
{
	m->resync = (struct meta_resync){ .running = from_le32(slot->resync_slot) != 0 };
	if (!m->resync.running)
		return;
	m->resync.slot = from_le32(slot->resync_slot) - 1;
	m->resync.id = from_le64(slot->resync_id);
	m->resync.base = from_le64(slot->resync_base);
	memcpy(m->resync.source, slot->resync_source, NAME_BYTES);
}

/* The one that counts, or NULL. */
static const struct meta_slot *slot_newest(const uint8_t slots[META_BYTES])
{
	const struct meta_slot *best = NULL;

	for (unsigned i = 0; i < 2; i++) {
		const struct meta_slot *slot = (const void *)(slots + i * META_SLOT_BYTES);

		if (slot_whole(slot) && (!best || from_le64(slot->generation) > from_le64(best->generation)))
			best = slot;
	}
	return best;
}

int meta_geometry(const uint8_t slots[META_BYTES], struct geometry *out, char why[WHY_BYTES])
{
	const struct meta_slot *slot = slot_newest(slots);

	if (!slot)
		return refuse(why, "neither of its two copies is whole; replace this replica from a peer");
	*out = (struct geometry){
		.volume_bytes = from_le64(slot->volume_bytes), .journal_bytes = from_le64(slot->journal_bytes),
		.segment_bytes = from_le32(slot->segment_bytes), .journal_block = from_le32(slot->journal_block),
	};
	memcpy(out->uuid, slot->uuid, UUID_BYTES);
	memcpy(out->node, slot->node, NAME_BYTES);
	return geometry_check(out, why) ? -EBADMSG : 0;
}

int meta_load(struct meta *m, const uint8_t slots[META_BYTES], char why[WHY_BYTES])
{
	const struct meta_slot *best = slot_newest(slots);
	int bad;

	if (!best)
		return refuse(why, "neither of its two copies is whole; replace this replica from a peer");
	bad = slot_check(best, m->geometry, why);
	if (bad)
		return bad;
	m->tail.lsn = from_le64(best->tail);
	memcpy(m->tail.hash, best->tail_hash, HASH_BYTES);
	m->reach = m->saved_reach = from_le64(best->reach);
	m->durable = from_le64(best->durable);
	m->commit = from_le64(best->commit);
	m->promised = from_le64(best->promised);
	m->generation = from_le64(best->generation);
	m->floor.lsn = from_le64(best->floor);
	memcpy(m->floor.hash, best->floor_hash, HASH_BYTES);
	load_peers(m, best);
	load_resync(m, best);
	m->history->count = from_le32(best->epoch_count);
	memcpy(m->history->epochs, best + 1, m->history->count * sizeof(struct epoch_entry));
	if (!history_check(m->history))
		return refuse(why, "its history is not in order; replace this replica from a peer");
	return 0;
}

int meta_new(struct meta *m, struct io *io, int file, const struct geometry *g, struct history *history,
	     void (*moved)(struct meta *m))
{
	*m = (struct meta){ .io = io, .file = file, .geometry = g, .history = history, .moved = moved };
	m->buffer = io->alloc(io, META_SLOT_BYTES, IO_FIXED);
	return m->buffer ? 0 : -ENOMEM;
}

void meta_delete(struct meta *m)
{
	if (!m->io)
		return;
	CHECK(!m->op.in_flight);
	m->io->free(m->io, m->buffer);
	*m = (struct meta){ 0 };
}

static void submit(struct meta *m);

static void meta_wrote(struct io_op *op, int64_t result)
{
	struct meta *m = container_of(op, struct meta, op);

	if (result != (int64_t)op->len) {
		m->failed = result < 0 ? (int)result : -EIO;
	} else {
		m->saved = m->submitted_ticket;
		m->saved_reach = m->submitted_reach;
	}
	m->moved(m);
	if (!m->failed && m->wanted > m->saved && !m->op.in_flight)
		submit(m);
}

static void submit(struct meta *m)
{
	m->generation++;
	m->submitted_ticket = m->wanted;
	m->submitted_reach = m->reach;
	meta_encode(m, m->generation, m->buffer);
	m->op = (struct io_op){
		.kind = IO_WRITE, .flags = IO_DURABLE, .file = m->file, .data = m->buffer,
		.offset = m->generation % 2 * META_SLOT_BYTES,
		.len = round_up(sizeof(struct meta_slot) + m->history->count * sizeof(struct epoch_entry), 4096),
		.done = meta_wrote,
	};
	m->io->submit(m->io, &m->op);
}

uint64_t meta_save(struct meta *m)
{
	m->wanted++;
	if (!m->failed && !m->op.in_flight)
		submit(m);
	return m->wanted;
}

/* ---- a new replica ---- */

int geometry_check(const struct geometry *g, char why[WHY_BYTES])
{
	const char *wrong = NULL;

	if (g->volume_bytes < VOLUME_BYTES_MIN || g->volume_bytes > VOLUME_BYTES_MAX ||
	    g->volume_bytes % BLOCK_BYTES)
		wrong = "size: it must be a multiple of 4096, from 64K to 16T";
	else if (g->journal_block != 512 && g->journal_block != 4096)
		wrong = "journal-block: it must be 512 or 4096";
	else if (g->segment_bytes < (64 << 10) || g->segment_bytes > (64 << 20) ||
		 (g->segment_bytes & (g->segment_bytes - 1)))
		wrong = "segment: it must be a power of two, from 64K to 64M";
	else if (g->journal_bytes % g->segment_bytes ||
		 g->journal_bytes / g->segment_bytes < JOURNAL_SEGMENTS_MIN || g->journal_bytes > VOLUME_BYTES_MAX)
		wrong = "journal-size: it must be a multiple of the segment (8M by default), at least 4 of them";
	else if (g->node[0] == 0 || memchr(g->node, 0, NAME_BYTES) == NULL)
		wrong = "node: this node needs a name";
	if (!wrong)
		return 0;
	snprintf(why, WHY_BYTES, "%s", wrong);
	return -EINVAL;
}

uint64_t replica_bitmap_bytes(const struct geometry *g)
{
	return PEERS_MAX * bitmap_bytes(g->volume_bytes / BLOCK_BYTES);
}

uint64_t replica_undo_bytes(const struct geometry *g)
{
	return undo_file_bytes(g->volume_bytes);
}

void replica_format(const struct geometry *geometry, uint8_t meta[META_BYTES],
		    uint8_t journal_header[JOURNAL_HEADER_BYTES])
{
	static const struct history none;
	struct meta m = { .geometry = geometry, .history = (struct history *)(uintptr_t)&none };

	meta_encode(&m, 1, meta + META_SLOT_BYTES);
	memset(meta, 0, META_SLOT_BYTES);
	journal_header_format(geometry, (struct journal_header *)(void *)journal_header);
}
