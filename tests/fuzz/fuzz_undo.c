/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a slot's file: the input is cut in four, for the header's two copies and for the two bitmaps. The header
 * is judged as it is; then all of it is loaded from a simulated disk. What is loaded holds together: it can be read, is
 * bounded by the volume, and can be dropped; loaded once more it is free. */
#include <string.h>

#include "sim/world.h"
#include "undo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOLUME_BYTES = 5000 * BLOCK_BYTES };	/* two units and a part of each bitmap */

static struct history history;
static uint8_t copy[META_SLOT_BYTES];

static void moved(struct undo *u)
{
	CHECK(undo_idle(u) || u->failed);
}

static bool busy(void *undo)
{
	struct undo *u = undo;

	return !undo_idle(u) && !u->failed;
}

static void header_judge(const uint8_t *data, size_t size, const struct geometry *g)
{
	struct undo_header *header = (void *)copy;
	char why[WHY_BYTES] = "";

	memset(copy, 0, sizeof copy);
	memcpy(copy, data, size);
	if (undo_header_check(header, sizeof copy - sizeof *header, g, why)) {
		CHECK(why[0] && memchr(why, 0, sizeof why));
		return;
	}
	history.count = from_le32(header->epoch_count);
	CHECK(history.count <= HISTORY_MAX);
	memcpy(history.epochs, header + 1, history.count * sizeof history.epochs[0]);
	CHECK(history_check(&history) && from_le16(header->kind) < UNDO_KINDS);
	CHECK((from_le16(header->kind) == UNDO_FREE) == (from_le64(header->id) == 0));
	CHECK(from_le64(header->lsn) < LSN_MAX && memchr(header->source, 0, NAME_BYTES));
}

static void bits_judge(const struct bitmap *b)
{
	uint64_t count = 0, end;

	for (uint64_t at = bitmap_next(b, 0); at < b->bits; at = bitmap_next(b, end)) {
		end = bitmap_run_end(b, at, b->bits);
		count += end - at;
	}
	CHECK(count == b->count);
	CHECK(b->damaged <= b->unit_count);
}

/* The slot when it is loaded, or NULL. */
static struct undo_slot *load(struct undo *u, struct world *w, const int files[UNDO_SLOTS], int store,
			      const struct geometry *g)
{
	CHECK(undo_new(u, machine_io(world_machine(w, "a")), files, store, g, VOLUME_BYTES, moved) == 0);
	undo_load(u);
	world_run_while(w, busy, u, 100 * SECONDS);
	CHECK(undo_quiet(u));
	if (!u->failed)
		return &u->slots[1];
	CHECK(strncmp(u->why, "undo 1: ", 8) == 0 && memchr(u->why, 0, sizeof u->why));
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct geometry g = { .uuid = { 9, 8, 7 }, .volume_bytes = VOLUME_BYTES, .node = "a" };
	const uint64_t bitmap = bitmap_bytes(VOLUME_BYTES / BLOCK_BYTES);
	const uint64_t offsets[4] = { 0, META_SLOT_BYTES, undo_saved_offset(), undo_want_offset(VOLUME_BYTES) };
	size_t part = size / 4;
	int files[UNDO_SLOTS];
	struct undo_slot *slot;
	struct machine *m;
	struct world *w;
	struct undo u;

	if (part > BITMAP_PAGE_BYTES * 4)
		return 0;
	header_judge(data, part, &g);
	w = world_new(1);
	m = world_machine(w, "a");
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		files[i] = machine_disk(m, undo_file_bytes(VOLUME_BYTES));
	for (unsigned i = 0; i < 4; i++)
		machine_disk_write_now(m, files[1], offsets[i], data + i * part,
				       min_u64(part, i < 2 ? META_SLOT_BYTES : bitmap));
	slot = load(&u, w, files, machine_disk(m, VOLUME_BYTES), &g);
	if (slot) {
		bits_judge(&slot->saved);
		bits_judge(&slot->want);
		CHECK(slot->kind != UNDO_FREE || slot->saved.count + slot->want.count == 0);
	}
	if (slot && slot->kind != UNDO_FREE) {
		CHECK(!slot->saved.damaged || from_le64(slot->header.partial) > 0);
		undo_drop(slot);
		CHECK(world_run_while(w, busy, &u, 100 * SECONDS) && !u.failed);
		undo_delete(&u);
		slot = load(&u, w, files, (int)UNDO_SLOTS, &g);
		CHECK(slot && slot->kind == UNDO_FREE);
	}
	undo_delete(&u);
	CHECK(machine_memory(m) == 0);
	world_free(w);
	return 0;
}
