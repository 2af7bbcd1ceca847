/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing. Invariant: from an inode's own slot to where it stands no slot is free, so a search ends at the first
 * free one; who leaves moves those behind it up. */
#include "opens.h"

#include <errno.h>
#include <string.h>

static uint64_t home(const struct opens *o, uint64_t ino)
{
	return (ino ^ o->seed) * 0x9e3779b97f4a7c15ull >> 47 & (OPENS_SLOTS - 1);
}

/* Where it stands, or the free slot where it would. */
static uint64_t find(const struct opens *o, uint64_t ino)
{
	uint64_t at = home(o, ino);

	while (o->slots[at].count && o->slots[at].ino != ino)
		at = (at + 1) & (OPENS_SLOTS - 1);
	return at;
}

int opens_new(struct opens *o, struct io *io)
{
	*o = (struct opens){ .slots = io->alloc(io, OPENS_SLOTS * sizeof *o->slots, 0) };
	if (!o->slots)
		return -ENOMEM;
	io->random(io, &o->seed, sizeof o->seed);
	return 0;
}

void opens_delete(struct opens *o, struct io *io)
{
	if (o->slots)
		io->free(io, o->slots);
	*o = (struct opens){ 0 };
}

void opens_clear(struct opens *o)
{
	memset(o->slots, 0, OPENS_SLOTS * sizeof *o->slots);
	o->count = 0;
}

uint64_t opens_count(const struct opens *o, uint64_t ino)
{
	return o->slots[find(o, ino)].count;
}

bool opens_have_room(const struct opens *o)
{
	return o->count < OPENS_MAX;
}

void opens_add(struct opens *o, uint64_t ino)
{
	struct opens_slot *slot = &o->slots[find(o, ino)];

	if (slot->count == 0) {
		CHECK(opens_have_room(o));
		o->count++;
		slot->ino = ino;
	}
	slot->count++;
}

void opens_mark(struct opens *o, uint64_t ino)
{
	struct opens_slot *slot = &o->slots[find(o, ino)];

	CHECK(slot->count > 0);
	slot->marked = 1;
}

void opens_nameable(struct opens *o, uint64_t ino, bool nameable)
{
	struct opens_slot *slot = &o->slots[find(o, ino)];

	CHECK(slot->count > 0);
	slot->nameable = nameable;
}

bool opens_is_nameable(const struct opens *o, uint64_t ino)
{
	const struct opens_slot *slot = &o->slots[find(o, ino)];

	return slot->count && slot->nameable;
}

bool opens_remove(struct opens *o, uint64_t ino)
{
	uint64_t free_slot = find(o, ino), at = free_slot;
	bool marked = o->slots[at].marked;

	CHECK(o->slots[at].count > 0);
	if (--o->slots[at].count)
		return false;
	o->count--;
	o->slots[at].marked = 0;
	for (;;) {
		uint64_t from;

		at = (at + 1) & (OPENS_SLOTS - 1);
		if (o->slots[at].count == 0)
			return marked;
		from = home(o, o->slots[at].ino);
		/* It may stand at the free slot unless its own lies behind that. */
		if (((at - from) & (OPENS_SLOTS - 1)) < ((at - free_slot) & (OPENS_SLOTS - 1)))
			continue;
		o->slots[free_slot] = o->slots[at];
		o->slots[at] = (struct opens_slot){ 0 };
		free_slot = at;
	}
}
