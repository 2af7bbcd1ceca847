/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a slot is a plan: a list of steps, below, that run one after the other. A step that submits
 * something returns true; its done() calls undo_next() when it worked, and the next step comes. The plans:
 *
 *	load		headers and bitmaps of each slot
 *	start		clean the file, `want`, (eagerly: the blocks,) header. Without space: abandon
 *	keep, drop	header; then (drop) everything goes
 *	roll back	blocks to the store
 *	preserve	for each slot that records: blocks, sync, bits. Without space: overflow
 *	note		of a partial RESYNC: bits only
 *
 * Invariant: between two steps nothing is in flight but a save of `want` that its owner asked for. */
#include "undo.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checksum.h"
#include "undo_private.h"

/* ---- the header's format ---- */

static uint32_t header_crc(const struct undo_header *header, uint32_t epochs)
{
	uint32_t crc = checksum_crc(0, header, offsetof(struct undo_header, crc));

	return checksum_crc(crc, header + 1, epochs * sizeof(struct epoch_entry));
}

void undo_header_seal(struct undo_header *header)
{
	header->crc = to_le32(header_crc(header, from_le32(header->epoch_count)));
}

static int refuse(char why[WHY_BYTES], const char *reason)
{
	snprintf(why, WHY_BYTES, "%s", reason);
	return -EBADMSG;
}

static bool zeros(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

/* What a whole header says. */
static int fields_check(const struct undo_header *header, char why[WHY_BYTES])
{
	struct history history = { .count = from_le32(header->epoch_count) };
	bool no_id = from_le64(header->id) == 0;

	memcpy(history.epochs, header + 1, history.count * sizeof history.epochs[0]);
	if (from_le16(header->kind) >= UNDO_KINDS || (from_le16(header->kind) == UNDO_FREE) != no_id)
		return refuse(why, "its header is of no kind that there is; replace this replica from a peer");
	if (from_le64(header->lsn) >= LSN_MAX || from_le64(header->base) >= LSN_MAX ||
	    from_le64(header->partial) > LSN_MAX)
		return refuse(why, "its header has impossible positions; replace this replica from a peer");
	if (from_le64(header->generation) == 0 || from_le64(header->generation) >= LSN_MAX ||
	    from_le32(header->keep) > 1 || !memchr(header->source, 0, NAME_BYTES) ||
	    !zeros(header->zero, sizeof header->zero))
		return refuse(why, "its header has impossible fields; replace this replica from a peer");
	if (!history_check(&history))
		return refuse(why, "its history is not in order; replace this replica from a peer");
	return 0;
}

int undo_header_check(const struct undo_header *header, uint64_t avail, const struct geometry *g, char why[WHY_BYTES])
{
	uint32_t epochs = from_le32(header->epoch_count);

	if (zeros(header, sizeof *header))
		return 0;
	if (from_le32(header->magic) != UNDO_MAGIC || epochs > HISTORY_MAX ||
	    epochs * sizeof(struct epoch_entry) > avail ||
	    !checksum_equal(header_crc(header, epochs), from_le32(header->crc)))
		return refuse(why, "neither of its two headers is whole; replace this replica from a peer");
	if (from_le16(header->version) != UNDO_VERSION)
		return refuse(why, "it was written by another version of the program; use that one");
	if (memcmp(header->uuid, g->uuid, UUID_BYTES) != 0)
		return refuse(why, "it belongs to another volume; check the paths in the config");
	if (from_le64(header->volume_bytes) != g->volume_bytes)
		return refuse(why, "it was made for another size of the volume; check `size =` in the config");
	if (!memchr(header->node, 0, NAME_BYTES) || strcmp(header->node, g->node) != 0)
		return refuse(why, "it is another node's; check `node =` and the paths in the config");
	return fields_check(header, why);
}

int undo_header_choose(const uint8_t copies[META_BYTES], const struct geometry *g, bool *uneven, char why[WHY_BYTES])
{
	const struct undo_header *first = (const void *)copies, *second = (const void *)(copies + META_SLOT_BYTES);
	char ignored[WHY_BYTES];
	int bad[2] = { undo_header_check(first, META_SLOT_BYTES - sizeof *first, g, why),
		       undo_header_check(second, META_SLOT_BYTES - sizeof *second, g, ignored) };

	if (bad[0] && bad[1])
		return -EBADMSG;
	*uneven = bad[0] || bad[1] || from_le64(first->generation) != from_le64(second->generation);
	return bad[0] || (!bad[1] && from_le64(second->generation) > from_le64(first->generation));
}

/* ---- plans ---- */

static int error_of(int64_t result)
{
	return result < 0 ? (int)result : -EIO;	/* cut short */
}

void undo_fail(struct undo_slot *slot, const char *what, int64_t result)
{
	struct undo *u = slot->undo;

	if (u->failed)
		return;
	u->failed = error_of(result);
	snprintf(u->why, WHY_BYTES, "undo %u: %s: %s; check its disk, restart this node", slot->index, what,
		 strerrordesc_np(-u->failed));
	u->moved(u);
}

/* False when the plan is over. */
static bool go(struct undo *u)
{
	while (*u->plan) {
		undo_step *step = *u->plan++;

		if (step(u->slot))
			return true;
	}
	u->plan = u->otherwise = NULL;
	u->preserving = false;
	return false;
}

void undo_next(struct undo *u)
{
	if (!u->failed && !go(u))
		u->moved(u);
}

void undo_trouble(struct undo *u, const char *what, int64_t result)
{
	bool space = result == -ENOSPC || result == -EDQUOT;

	if (!u->otherwise) {
		undo_fail(u->slot, what, result);
		return;
	}
	if (!u->preserving)
		u->slot->error = space ? -ENOSPC : error_of(result);
	u->plan = u->otherwise;
	u->otherwise = NULL;
	undo_next(u);
}

/* From a call, whose caller is never called back from here: the plan has at least one step that waits. */
static void begin(struct undo_slot *slot, undo_step *const *plan, undo_step *const *otherwise)
{
	struct undo *u = slot->undo;

	CHECK(undo_idle(u));
	u->slot = slot;
	u->plan = plan;
	u->otherwise = otherwise;
	CHECK(go(u));
}

static bool op_right(const struct io_op *op, int64_t result)
{
	return op->kind == IO_READ || op->kind == IO_WRITE ? result == (int64_t)op->len : result >= 0;
}

/* Of an op that may find the disk full, or broken. */
static void op_tried(struct io_op *op, int64_t result)
{
	struct undo *u = container_of(op, struct undo, op);

	if (op_right(op, result))
		undo_next(u);
	else
		undo_trouble(u, u->what, result);
}

/* Of an op without which nothing can be said of the slot any more. */
static void op_needed(struct io_op *op, int64_t result)
{
	struct undo *u = container_of(op, struct undo, op);

	if (op_right(op, result))
		undo_next(u);
	else
		undo_fail(u->slot, u->what, result);
}

static bool submit(struct undo *u, const struct io_op *op, const char *what)
{
	u->what = what;
	u->op = *op;
	u->io->submit(u->io, &u->op);
	return true;
}

/* ---- steps: bitmaps ---- */

static void bitmap_wait(struct undo *u, struct bitmap *b, uint64_t ticket)
{
	u->waiting = b;
	u->ticket = ticket;
}

/* A bitmap was loaded or saved: for us, or because its owner asked for it. */
static void bitmap_moved(struct undo_slot *slot, struct bitmap *b)
{
	struct undo *u = slot->undo;

	if (b->failed) {
		undo_fail(slot, "its bitmap cannot be read or written", b->failed);
	} else if (u->waiting == b && b->saved >= u->ticket) {
		u->waiting = NULL;
		undo_next(u);
	} else if (u->waiting != b && !u->failed) {
		u->moved(u);
	}
}

static void saved_moved(struct bitmap *b)
{
	bitmap_moved(container_of(b, struct undo_slot, saved), b);
}

static void want_moved(struct bitmap *b)
{
	bitmap_moved(container_of(b, struct undo_slot, want), b);
}

static bool save(struct undo *u, struct bitmap *b)
{
	uint64_t ticket = bitmap_save(b);

	if (b->saved < ticket)
		bitmap_wait(u, b, ticket);
	return b->saved < ticket;
}

static bool want_save(struct undo_slot *slot)
{
	return save(slot->undo, &slot->want);
}

static bool asked_save(struct undo_slot *slot)
{
	undo_set_asked(slot, &slot->saved);
	return save(slot->undo, &slot->saved);
}

static bool want_as_saved(struct undo_slot *slot)
{
	bitmap_merge(&slot->saved, &slot->want);
	return save(slot->undo, &slot->saved);
}

/* What its owner asked to be saved is over. */
static bool want_settle(struct undo_slot *slot)
{
	if (slot->want.saved < slot->want.wanted)
		bitmap_wait(slot->undo, &slot->want, slot->want.wanted);
	return slot->want.saved < slot->want.wanted;
}

static bool load(struct undo_slot *slot, struct bitmap *b)
{
	if (slot->kind == UNDO_FREE)
		return false;
	bitmap_load(b, true);
	bitmap_wait(slot->undo, b, 0);
	return true;
}

static bool saved_load(struct undo_slot *slot) { return load(slot, &slot->saved); }
static bool want_load(struct undo_slot *slot) { return load(slot, &slot->want); }

/* ---- steps: the header ---- */

static bool header_submit(struct undo_slot *slot, unsigned copy)
{
	struct undo *u = slot->undo;
	struct undo_header *header = (void *)u->data;
	uint64_t epochs_bytes = slot->history->count * sizeof(struct epoch_entry);
	char why[WHY_BYTES];

	memset(u->data, 0, META_SLOT_BYTES);
	*header = slot->header;
	header->magic = to_le32(UNDO_MAGIC);
	header->version = to_le16(UNDO_VERSION);
	header->generation = to_le64(slot->generation);
	memcpy(header->uuid, u->geometry->uuid, UUID_BYTES);
	memcpy(header->node, u->geometry->node, NAME_BYTES);
	header->volume_bytes = to_le64(u->geometry->volume_bytes);
	header->epoch_count = to_le32(slot->history->count);
	memcpy(header + 1, slot->history->epochs, epochs_bytes);
	undo_header_seal(header);
	CHECK(undo_header_check(header, META_SLOT_BYTES - sizeof *header, u->geometry, why) == 0);
	return submit(u, &(struct io_op){ .kind = IO_WRITE, .flags = IO_DURABLE, .file = slot->file, .data = header,
					  .offset = (uint64_t)copy * META_SLOT_BYTES,
					  .len = round_up(sizeof *header + epochs_bytes, 4096), .done = op_needed },
		      "its header cannot be written");
}

/* First the copy that may be the worse one: the other one is good until this one is. */
static bool header_write(struct undo_slot *slot)
{
	slot->generation++;
	return header_submit(slot, !slot->copy);
}

static bool header_again(struct undo_slot *slot)
{
	slot->uneven = false;
	return header_submit(slot, slot->copy);
}

/* The two steps above are left out when there is nothing to mend. */
static bool header_mend(struct undo_slot *slot)
{
	if (slot->saved.damaged && from_le64(slot->header.partial) == 0)
		slot->header.partial = to_le64(from_le64(slot->header.lsn) + 1);
	else if (!slot->uneven)
		slot->undo->plan += 2;
	return false;
}

static void header_take(struct undo_slot *slot)
{
	struct undo *u = slot->undo;
	const struct undo_header *chosen;
	char why[WHY_BYTES];
	int copy = undo_header_choose(u->data, u->geometry, &slot->uneven, why);

	if (copy < 0) {
		u->failed = copy;
		snprintf(u->why, WHY_BYTES, "undo %u: %.400s", slot->index, why);
		u->moved(u);
		return;
	}
	slot->copy = (unsigned)copy;
	chosen = (const void *)(u->data + slot->copy * META_SLOT_BYTES);
	slot->header = *chosen;
	slot->kind = from_le16(slot->header.kind);
	slot->generation = from_le64(slot->header.generation);
	slot->history->count = from_le32(slot->header.epoch_count);
	memcpy(slot->history->epochs, chosen + 1, slot->history->count * sizeof(struct epoch_entry));
	undo_next(u);
}

static void header_was_read(struct io_op *op, int64_t result)
{
	struct undo *u = container_of(op, struct undo, op);

	if (op_right(op, result))
		header_take(u->slot);
	else
		undo_fail(u->slot, u->what, result);
}

static bool header_read(struct undo_slot *slot)
{
	return submit(slot->undo, &(struct io_op){ .kind = IO_READ, .file = slot->file, .data = slot->undo->data,
						   .len = META_BYTES, .done = header_was_read },
		      "its header cannot be read");
}

/* ---- steps: the file ---- */

static bool range(struct undo_slot *slot, enum io_kind kind, uint64_t offset, uint64_t end)
{
	return submit(slot->undo, &(struct io_op){ .kind = kind, .file = slot->file, .offset = offset,
						   .len = end - offset, .done = op_tried },
		      "its file cannot be cleaned");
}

/* Nothing of an earlier life may be taken for old bytes, or for bits: power may have been lost in drop's last step. */
static bool data_clean(struct undo_slot *slot)
{
	uint64_t bytes = slot->undo->geometry->volume_bytes;

	return range(slot, IO_PUNCH, undo_data_offset(bytes), undo_file_bytes(bytes));
}

/* Headers and bitmaps get space that is theirs: where old bytes can be kept no more, that can still be said. */
static bool bitmaps_clean(struct undo_slot *slot)
{
	return range(slot, IO_ZERO, undo_saved_offset(), undo_data_offset(slot->undo->geometry->volume_bytes));
}

/* The copy that is written first; the other one, if it ever was written, stays and says that the slot is free. */
static bool header_reserve(struct undo_slot *slot)
{
	uint64_t offset = slot->copy ? 0 : META_SLOT_BYTES;

	if (slot->generation == 0)
		return range(slot, IO_ZERO, 0, META_BYTES);
	return range(slot, IO_ZERO, offset, offset + META_SLOT_BYTES);
}

static bool file_give_back(struct undo_slot *slot)
{
	return range(slot, IO_PUNCH, undo_saved_offset(), undo_file_bytes(slot->undo->geometry->volume_bytes));
}

/* Old bytes of which some are missing lead nowhere; the disk may be full. */
static void data_given_back(struct io_op *op, int64_t result)
{
	struct undo *u = container_of(op, struct undo, op);

	if (result >= 0)
		u->slot->data_count = 0;
	undo_next(u);
}

static bool data_give_back(struct undo_slot *slot)
{
	uint64_t bytes = slot->undo->geometry->volume_bytes, at = undo_data_offset(bytes);

	if (slot->kind != UNDO_RESYNC || from_le32(slot->header.keep))
		return false;
	return submit(slot->undo, &(struct io_op){ .kind = IO_PUNCH, .file = slot->file, .offset = at,
						   .len = undo_file_bytes(bytes) - at, .done = data_given_back },
		      "");
}

static bool sync(struct undo_slot *slot, int file)
{
	return submit(slot->undo, &(struct io_op){ .kind = IO_SYNC, .file = file, .done = op_tried },
		      "a file cannot be synced");
}

static bool file_sync(struct undo_slot *slot) { return sync(slot, slot->file); }
static bool store_sync(struct undo_slot *slot) { return sync(slot, slot->undo->store); }
static bool copied_sync(struct undo_slot *slot) { return slot->undo->copied && file_sync(slot); }

/* ---- steps: what follows ---- */

static void slot_reset(struct undo_slot *slot)
{
	slot->kind = UNDO_FREE;
	slot->taking = false;
	slot->header = (struct undo_header){ .magic = { 0 } };
	slot->history->count = 0;
	bitmap_empty(&slot->saved);
	bitmap_empty(&slot->want);
	slot->data_count = 0;
	slot->data_counted = true;
}

static bool slot_is_free(struct undo_slot *slot)
{
	slot_reset(slot);
	return false;
}

static bool slot_is_what_its_header_says(struct undo_slot *slot)
{
	slot->kind = from_le16(slot->header.kind);
	slot->taking = false;
	return false;
}

static bool header_as_resync(struct undo_slot *slot)
{
	slot->header.kind = to_le16(UNDO_RESYNC);
	return false;
}

static bool header_as_free(struct undo_slot *slot)
{
	slot->header = (struct undo_header){ .magic = { 0 } };
	slot->history->count = 0;
	return false;
}

static bool header_as_partial(struct undo_slot *slot)
{
	slot->header.partial = to_le64(slot->undo->lsn_now + 1);
	return false;
}

static bool asked_note(struct undo_slot *slot)
{
	if (slot->kind != UNDO_RESYNC)
		return false;
	undo_set_asked(slot, &slot->want);
	return want_save(slot);
}

static undo_step load_next, preserve_next;

static undo_step *const plan_load[] = {
	header_read, saved_load, want_load, header_mend, header_write, header_again, load_next, NULL,
};
static undo_step *const plan_start[] = {
	data_clean, header_reserve, bitmaps_clean, file_sync, want_save,
	header_as_resync, header_write, header_again, slot_is_what_its_header_says, NULL,
};
static undo_step *const plan_start_eagerly[] = {
	data_clean, header_reserve, bitmaps_clean, file_sync, want_save, undo_copy_want, copied_sync, want_as_saved,
	header_as_resync, header_write, header_again, slot_is_what_its_header_says, NULL,
};
static undo_step *const plan_abandon[] = { file_give_back, slot_is_free, NULL };
static undo_step *const plan_keep[] = { header_write, header_again, slot_is_what_its_header_says, NULL };
static undo_step *const plan_drop[] = {
	want_settle, header_as_free, header_write, header_again, file_give_back, slot_is_free, NULL,
};
static undo_step *const plan_roll_back[] = { undo_copy_back, store_sync, NULL };
static undo_step *const plan_leave[] = { NULL };
static undo_step *const plan_preserve[] = { undo_count, undo_copy_asked, copied_sync, asked_save, preserve_next, NULL };
static undo_step *const plan_overflow[] = {
	header_as_partial, header_write, header_again, data_give_back, asked_note, preserve_next, NULL,
};
static undo_step *const plan_stop[] = { header_as_partial, header_write, header_again, data_give_back, NULL };
static undo_step *const plan_note[] = { asked_note, preserve_next, NULL };

/* ---- life ---- */

int undo_new(struct undo *u, struct io *io, const int files[UNDO_SLOTS], int store, const struct geometry *g,
	     uint64_t limit_bytes, void (*moved)(struct undo *u))
{
	uint64_t bytes = g->volume_bytes, bits = bytes / BLOCK_BYTES;
	bool short_of = false;

	*u = (struct undo){ .io = io, .store = store, .geometry = g, .limit_blocks = limit_bytes / BLOCK_BYTES,
			    .moved = moved };
	u->data = io->alloc(io, UNDO_COPY_BYTES, IO_FIXED);
	for (unsigned i = 0; i < UNDO_SLOTS; i++) {
		struct undo_slot *s = &u->slots[i];

		*s = (struct undo_slot){ .undo = u, .index = i, .file = files[i], .data_counted = true };
		s->history = io->alloc(io, sizeof *s->history, 0);
		short_of |= !s->history;
		short_of |= bitmap_new(&s->saved, io, s->file, undo_saved_offset(), bits, saved_moved) != 0;
		short_of |= bitmap_new(&s->want, io, s->file, undo_want_offset(bytes), bits, want_moved) != 0;
	}
	for (unsigned i = 0; i < UNDO_LANES; i++)
		u->lanes[i] = (struct undo_lane){ .undo = u, .data = u->data + i * UNDO_LANE_BLOCKS * BLOCK_BYTES };
	if (u->data && !short_of)
		return 0;
	undo_delete(u);
	return -ENOMEM;
}

uint64_t undo_memory_bytes(const struct geometry *g)
{
	uint64_t bits = g->volume_bytes / BLOCK_BYTES;

	return UNDO_COPY_BYTES + UNDO_SLOTS * (sizeof(struct history) + 2 * bitmap_memory_bytes(bits));
}

void undo_delete(struct undo *u)
{
	if (!u->io)
		return;
	CHECK(undo_quiet(u));
	for (unsigned i = 0; i < UNDO_SLOTS; i++) {
		u->io->free(u->io, u->slots[i].history);
		bitmap_delete(&u->slots[i].saved);
		bitmap_delete(&u->slots[i].want);
	}
	u->io->free(u->io, u->data);
	*u = (struct undo){ 0 };
}

bool undo_quiet(const struct undo *u)
{
	bool busy = u->op.in_flight || u->map.in_flight;

	for (unsigned i = 0; i < UNDO_LANES; i++)
		busy |= u->lanes[i].op.in_flight;
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		busy |= !bitmap_quiet(&u->slots[i].saved) || !bitmap_quiet(&u->slots[i].want);
	return !busy;
}

static bool load_next(struct undo_slot *slot)
{
	struct undo *u = slot->undo;

	slot->data_count = slot->saved.count;
	slot->data_counted = slot->data_count == 0;
	if (slot->kind == UNDO_FREE)
		slot_reset(slot);
	if (slot->index + 1 < UNDO_SLOTS) {
		u->slot = slot + 1;
		u->plan = plan_load;
	} else {
		u->loaded = true;
	}
	return false;
}

void undo_load(struct undo *u)
{
	CHECK(!u->loaded && !u->failed && !u->plan);
	u->slot = &u->slots[0];
	u->plan = plan_load;
	CHECK(go(u));
}

bool undo_idle(const struct undo *u)
{
	return u->loaded && !u->plan && !u->preserving && !u->failed;
}

/* ---- one slot's life ---- */

struct undo_slot *undo_take(struct undo *u)
{
	struct undo_slot *slot = u->slots;
	uint64_t id = 0;

	CHECK(undo_idle(u));
	while (slot < u->slots + UNDO_SLOTS && (slot->kind != UNDO_FREE || slot->taking))
		slot++;
	if (slot == u->slots + UNDO_SLOTS)
		return NULL;
	while (id == 0)
		u->io->random(u->io, &id, sizeof id);
	slot->taking = true;
	slot->taken_at = slot->want.wanted;
	slot->error = 0;
	slot->header = (struct undo_header){ .magic = to_le32(UNDO_MAGIC), .version = to_le16(UNDO_VERSION),
					     .id = to_le64(id),
					     .volume_bytes = to_le64(u->geometry->volume_bytes) };
	memcpy(slot->header.uuid, u->geometry->uuid, UUID_BYTES);
	memcpy(slot->header.node, u->geometry->node, NAME_BYTES);
	return slot;
}

void undo_untake(struct undo_slot *slot)
{
	CHECK(slot->taking && undo_idle(slot->undo));
	slot_reset(slot);
}

void undo_start(struct undo_slot *slot, bool eagerly)
{
	CHECK(slot->taking && slot->saved.count == 0 && slot->want.wanted == slot->taken_at);
	slot->error = 0;
	begin(slot, eagerly ? plan_start_eagerly : plan_start, plan_abandon);
}

void undo_stop(struct undo_slot *slot)
{
	CHECK(slot->kind == UNDO_RESYNC);
	begin(slot, plan_stop, NULL);
}

void undo_describe(struct undo_slot *slot)
{
	CHECK(slot->kind == UNDO_RESYNC);
	begin(slot, plan_keep, NULL);
}

void undo_end(struct undo_slot *slot)
{
	CHECK(slot->kind == UNDO_RESYNC);
	if (from_le32(slot->header.keep) == 0) {
		undo_drop(slot);
		return;
	}
	slot->header.kind = to_le16(UNDO_DIVERGENCE);
	begin(slot, plan_keep, NULL);
}

void undo_drop(struct undo_slot *slot)
{
	CHECK(slot->kind != UNDO_FREE);
	begin(slot, plan_drop, NULL);
}

void undo_roll_back(struct undo_slot *slot)
{
	CHECK(slot->kind != UNDO_FREE && from_le64(slot->header.partial) == 0);
	slot->error = 0;
	begin(slot, plan_roll_back, plan_leave);
}

/* ---- before the store changes ---- */

static bool slot_records(const struct undo_slot *slot)
{
	return slot->kind == UNDO_RESYNC || (slot->kind == UNDO_DIVERGENCE && from_le64(slot->header.partial) == 0);
}

unsigned undo_divergences(const struct undo *u)
{
	unsigned count = 0;

	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		count += u->slots[i].kind == UNDO_DIVERGENCE;
	return count;
}

bool undo_recording(const struct undo *u)
{
	bool any = false;

	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		any |= slot_records(&u->slots[i]);
	return any;
}

/* Makes the plan for the first slot from @slot on that has something to record. */
static void preserve_from(struct undo *u, struct undo_slot *slot)
{
	uint64_t first, end;

	for (; slot < u->slots + UNDO_SLOTS; slot++) {
		struct undo_walk walk = { .at = 0 };
		bool partial = from_le64(slot->header.partial) != 0;

		if (!slot_records(slot) ||
		    !(partial ? undo_unnoted(slot) : undo_walk_unsaved(slot, &walk, &first, &end)))
			continue;
		u->slot = slot;
		u->plan = partial ? plan_note : plan_preserve;
		u->otherwise = plan_overflow;
		return;
	}
}

static bool preserve_next(struct undo_slot *slot)
{
	preserve_from(slot->undo, slot + 1);
	return false;
}

void undo_preserve(struct undo *u, const uint64_t *blocks, uint64_t count, const struct holes *holes)
{
	CHECK(undo_idle(u));
	u->blocks = blocks;
	u->block_count = count;
	u->holes = holes;
	preserve_from(u, u->slots);
	if (!u->plan)
		return;
	u->preserving = true;
	CHECK(go(u));
}

bool undo_preserved(const struct undo *u)
{
	return !u->preserving && !u->failed;
}
