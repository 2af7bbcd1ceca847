/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk: two images. `cache` is what reads see; `durable` is what a loss of power is
 * sure to leave. Between them lies the list of changes: complete, in order, not yet synced.
 *
 *	submit   counted; a SYNC notes the last change complete at this moment
 *	happen   READ copies from the cache; WRITE goes to the cache and becomes a change;
 *	         SYNC moves the changes it covers to durable; a durable WRITE goes to both
 *	crash    process: parts of what is in flight become changes
 *	         power: parts of the changes, then of what is in flight, become durable,
 *	         and the cache is what is durable
 *
 * The one invariant: where no change lies, cache and durable are equal. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "world_inside.h"

enum { MAP_BLOCK = 4096, DONTNEED_BYTES_MIN = 64 << 10, GRANULES_MAX = 4096 };

struct image {
	uint8_t *data;
	uint64_t *allocated;	/* one bit per MAP_BLOCK; holes read as zeros */
};

struct change {
	struct list link;
	enum io_kind kind;
	bool lost;		/* by a failed sync: it will never be durable */
	uint64_t sequence, offset, len;
	uint8_t data[];		/* of a WRITE */
};

struct disk {
	struct machine *machine;
	uint64_t bytes, block;
	struct image cache, durable;
	struct list changes;
	uint64_t change_count, sequence;
	struct disk_timing timing;
	struct disk_fault fault;
	bool failing;
	uint64_t fault_seen, fault_hits;
};

/* How much of something survives. */
struct chance { bool by_sector; uint64_t of_256; };

static void *map_new(uint64_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(map != MAP_FAILED);
	return map;
}

static uint64_t disk_bitmap_bytes(const struct disk *disk)
{
	return round_up(disk->bytes / MAP_BLOCK / 8 + 8, 4096);
}

int machine_disk(struct machine *machine, uint64_t bytes)
{
	struct disk *disk = calloc(1, sizeof *disk);

	CHECK(disk != NULL && machine->disk_count < DISKS_MAX);
	CHECK(bytes > 0 && bytes % MAP_BLOCK == 0);
	*disk = (struct disk){ .machine = machine, .bytes = bytes, .block = SECTOR_BYTES,
		.timing = { 20 * MICROSECONDS, 200 * MICROSECONDS, 5 * MILLISECONDS, 200 } };
	list_init(&disk->changes);
	disk->cache = (struct image){ map_new(bytes), map_new(disk_bitmap_bytes(disk)) };
	disk->durable = (struct image){ map_new(bytes), map_new(disk_bitmap_bytes(disk)) };
	machine->disks[machine->disk_count] = disk;
	return (int)machine->disk_count++;
}

static struct disk *disk_get(struct machine *machine, int id)
{
	CHECK(id >= 0 && (unsigned)id < machine->disk_count);
	return machine->disks[id];
}

static void change_free(struct disk *disk, struct change *change)
{
	disk->change_count--;
	list_remove(&change->link);
	free(change);
}

static void changes_free(struct disk *disk)
{
	struct list *link;

	while ((link = list_first(&disk->changes)))
		change_free(disk, list_entry(link, struct change, link));
}

void machine_disk_replace(struct machine *machine, int id)
{
	struct disk *disk = disk_get(machine, id);

	CHECK(!machine->up);
	changes_free(disk);
	disk->failing = false;
	for (unsigned i = 0; i < 2; i++) {
		struct image *image = i ? &disk->durable : &disk->cache;

		CHECK(madvise(image->data, disk->bytes, MADV_DONTNEED) == 0);
		CHECK(madvise(image->allocated, disk_bitmap_bytes(disk), MADV_DONTNEED) == 0);
	}
}

void disks_free(struct machine *machine)
{
	for (unsigned i = 0; i < machine->disk_count; i++) {
		struct disk *disk = machine->disks[i];

		changes_free(disk);
		munmap(disk->cache.data, disk->bytes);
		munmap(disk->durable.data, disk->bytes);
		munmap(disk->cache.allocated, disk_bitmap_bytes(disk));
		munmap(disk->durable.allocated, disk_bitmap_bytes(disk));
		free(disk);
	}
}

void machine_disk_set_block(struct machine *machine, int disk, uint64_t block)
{
	CHECK(block == 512 || block == 4096);
	disk_get(machine, disk)->block = block;
}

void machine_disk_set_timing(struct machine *machine, int disk, const struct disk_timing *timing)
{
	disk_get(machine, disk)->timing = *timing;
}

const uint8_t *machine_disk_data(struct machine *machine, int disk)
{
	return disk_get(machine, disk)->cache.data;
}

const uint8_t *machine_disk_durable(struct machine *machine, int disk)
{
	return disk_get(machine, disk)->durable.data;
}

uint64_t machine_disk_size(struct machine *machine, int disk)
{
	return disk_get(machine, disk)->bytes;
}

uint64_t machine_disk_unsynced(struct machine *machine, int disk)
{
	return disk_get(machine, disk)->change_count;
}

void machine_disk_fail(struct machine *machine, int disk, const struct disk_fault *fault)
{
	struct disk *d = disk_get(machine, disk);

	d->failing = fault != NULL;
	d->fault_seen = d->fault_hits = 0;
	if (fault) {
		CHECK(fault->error < 0);
		d->fault = *fault;
	}
}

/* --- Images --- */

static bool image_allocated(const struct image *image, uint64_t block)
{
	return image->allocated[block / 64] >> block % 64 & 1;
}

static void image_mark(struct image *image, uint64_t first, uint64_t end, bool allocated)
{
	for (uint64_t block = first; block < end;) {
		uint64_t bits = min_u64(64 - block % 64, end - block);
		uint64_t mask = (bits == 64 ? ~0ull : (1ull << bits) - 1) << block % 64;

		if (allocated)
			image->allocated[block / 64] |= mask;
		else
			image->allocated[block / 64] &= ~mask;
		block += bits;
	}
}

/* The end of the run of blocks that are like @block, at most @end. */
static uint64_t image_run(const struct image *image, uint64_t block, uint64_t end)
{
	bool allocated = image_allocated(image, block);
	uint64_t all_alike = allocated ? ~0ull : 0;

	while (block < end) {
		if (block % 64 == 0 && image->allocated[block / 64] == all_alike)
			block += 64;
		else if (image_allocated(image, block) == allocated)
			block++;
		else
			break;
	}
	return min_u64(block, end);
}

static void image_zero(struct image *image, uint64_t offset, uint64_t len)
{
	uint64_t first = round_up(offset, MAP_BLOCK), end = round_down(offset + len, MAP_BLOCK);

	if (len < DONTNEED_BYTES_MIN) {
		memset(image->data + offset, 0, len);
		return;
	}
	memset(image->data + offset, 0, first - offset);
	CHECK(madvise(image->data + first, end - first, MADV_DONTNEED) == 0);	/* reads as zeros */
	memset(image->data + end, 0, offset + len - end);
}

/* A block is a hole again only when all of it was punched: so a hole is zeros in every image. */
static void image_apply(struct image *image, enum io_kind kind, uint64_t offset, uint64_t len,
			const uint8_t *data)
{
	if (kind == IO_WRITE)
		memcpy(image->data + offset, data, len);
	else
		image_zero(image, offset, len);
	if (kind != IO_PUNCH)
		image_mark(image, offset / MAP_BLOCK, (offset + len + MAP_BLOCK - 1) / MAP_BLOCK,
			   true);
	else if (round_up(offset, MAP_BLOCK) < round_down(offset + len, MAP_BLOCK))
		image_mark(image, round_up(offset, MAP_BLOCK) / MAP_BLOCK,
			   (offset + len) / MAP_BLOCK, false);
}

/* Makes the blocks that the range touches in @to what they are in @from. */
static void image_copy(struct image *to, const struct image *from, uint64_t offset, uint64_t len)
{
	uint64_t block = offset / MAP_BLOCK, end = (offset + len + MAP_BLOCK - 1) / MAP_BLOCK;

	while (block < end) {
		uint64_t stop = image_run(from, block, end);
		uint64_t at = block * MAP_BLOCK, bytes = (stop - block) * MAP_BLOCK;

		if (image_allocated(from, block))
			image_apply(to, IO_WRITE, at, bytes, from->data + at);
		else
			image_apply(to, IO_PUNCH, at, bytes, NULL);
		block = stop;
	}
}

/* --- Changes --- */

static struct change *change_new(struct disk *disk, enum io_kind kind, uint64_t offset,
				 uint64_t len, const uint8_t *data)
{
	struct change *change = malloc(sizeof *change + (kind == IO_WRITE ? len : 0));

	CHECK(change != NULL);
	*change = (struct change){ .kind = kind, .offset = offset, .len = len };
	if (kind == IO_WRITE)
		memcpy(change->data, data, len);
	list_init(&change->link);
	disk->change_count++;
	return change;
}

/* The bytes are visible from now on, and not durable. */
static void disk_change(struct disk *disk, enum io_kind kind, uint64_t offset, uint64_t len,
			const uint8_t *data)
{
	struct change *change = change_new(disk, kind, offset, len, data);

	change->sequence = ++disk->sequence;
	list_append(&disk->changes, &change->link);
	image_apply(&disk->cache, kind, offset, len, data);
}

/* Takes the range out of one change, which may leave a part before it and one after it. */
static void change_cut(struct disk *disk, struct change *change, uint64_t offset, uint64_t end)
{
	uint64_t change_end = change->offset + change->len;

	if (change_end <= offset || change->offset >= end)
		return;
	if (end < change_end) {
		struct change *tail = change_new(disk, change->kind, end, change_end - end,
						 change->data + (end - change->offset));

		tail->sequence = change->sequence;
		tail->lost = change->lost;
		list_append(change->link.next, &tail->link);	/* right behind it */
	}
	if (change->offset < offset)
		change->len = offset - change->offset;
	else
		change_free(disk, change);
}

/* The range is durable now: no older change may come back over it. */
static void changes_cut(struct disk *disk, uint64_t offset, uint64_t len)
{
	for (struct list *link = disk->changes.next, *next; link != &disk->changes; link = next) {
		next = link->next;
		change_cut(disk, list_entry(link, struct change, link), offset, offset + len);
	}
}

/* Visible and durable from now on. */
static void disk_change_durable(struct disk *disk, uint64_t offset, uint64_t len,
				const uint8_t *data)
{
	image_apply(&disk->cache, IO_WRITE, offset, len, data);
	image_apply(&disk->durable, IO_WRITE, offset, len, data);
	changes_cut(disk, offset, len);
}

void machine_disk_write_now(struct machine *machine, int id, uint64_t offset, const void *data,
			    uint64_t len)
{
	struct disk *disk = disk_get(machine, id);

	CHECK(len <= disk->bytes && offset <= disk->bytes - len);
	if (len > 0)
		disk_change_durable(disk, offset, len, data);
}

/* Makes the changes up to @mark durable; of a sync that fails, drops each with a chance of
 * @lost_of_256. */
static void disk_sync(struct disk *disk, uint64_t mark, uint64_t lost_of_256)
{
	for (struct list *link = disk->changes.next, *next; link != &disk->changes; link = next) {
		struct change *change = list_entry(link, struct change, link);

		next = link->next;
		if (change->sequence > mark)
			break;
		if (lost_of_256 && world_random_below(disk->machine->world, 256) < lost_of_256)
			change->lost = true;
		if (change->lost)
			continue;
		image_apply(&disk->durable, change->kind, change->offset, change->len,
			    change->data);
		change_free(disk, change);
	}
}

/* --- Chance --- */

static struct chance chance_draw(struct world *world)
{
	switch (world_random_below(world, 4)) {
	case 0: return (struct chance){ false, 0 };
	case 1: return (struct chance){ false, 256 };
	case 2: return (struct chance){ false, world_random_below(world, 257) };
	default: return (struct chance){ true, world_random_below(world, 257) };
	}
}

/* Hands the parts that chance keeps to @keep, in order, neighbours as one. */
static void chance_apply(struct disk *disk, struct chance chance, enum io_kind kind,
			 uint64_t offset, uint64_t len, const uint8_t *data,
			 void (*keep)(struct disk *, enum io_kind, uint64_t, uint64_t,
				      const uint8_t *))
{
	struct world *world = disk->machine->world;
	uint64_t granule = SECTOR_BYTES, start = 0, at = 0;

	if (!chance.by_sector)
		granule = len;
	else if (len / SECTOR_BYTES > GRANULES_MAX)
		granule = round_up(len / GRANULES_MAX, MAP_BLOCK);
	for (; at < len; at = min_u64(at + granule, len)) {
		if (world_random_below(world, 256) < chance.of_256)
			continue;
		if (start < at)
			keep(disk, kind, offset + start, at - start, data ? data + start : NULL);
		start = min_u64(at + granule, len);
	}
	if (start < at)
		keep(disk, kind, offset + start, at - start, data ? data + start : NULL);
}

static void keep_durable(struct disk *disk, enum io_kind kind, uint64_t offset, uint64_t len,
			 const uint8_t *data)
{
	image_apply(&disk->durable, kind, offset, len, data);
}

/* --- Ops --- */

static bool disk_fits(const struct disk *disk, const struct io_op *op)
{
	return op->offset <= disk->bytes && op->len <= disk->bytes - op->offset;
}

/* 0, or the error that this op is to end with. */
static int disk_fault(struct disk *disk, const struct io_op *op)
{
	const struct disk_fault *fault = &disk->fault;

	if (!disk->failing || !(fault->kinds >> op->kind & 1))
		return 0;
	if (fault->len && op->kind != IO_SYNC &&
	    (op->offset >= fault->offset + fault->len || op->offset + op->len <= fault->offset))
		return 0;
	if (disk->fault_seen++ < fault->after)
		return 0;
	if (fault->one_in > 1 && !world_chance(disk->machine->world, fault->one_in))
		return 0;
	if (fault->count && ++disk->fault_hits >= fault->count)
		disk->failing = false;
	world_note(disk->machine->world, "%s disk op %d at %llu fails: %d", disk->machine->name,
		   (int)op->kind, (unsigned long long)op->offset, fault->error);
	return fault->error;
}

static int64_t disk_failed(struct disk *disk, struct event *event, int error)
{
	struct world *world = disk->machine->world;
	struct io_op *op = event->op;

	switch (op->kind) {
	case IO_READ:
		memset(op->data, 0xee, op->len);
		break;
	case IO_SYNC:
		switch (world_random_below(world, 3)) {
		case 0: break;
		case 1: disk_sync(disk, event->mark, 0); break;
		default: disk_sync(disk, event->mark, 128);
		}
		break;
	case IO_WRITE: case IO_PUNCH: case IO_ZERO:
		if (disk_fits(disk, op))
			chance_apply(disk, chance_draw(world), op->kind, op->offset, op->len,
				     op->kind == IO_WRITE ? op->data : NULL, disk_change);
		break;
	default:
		break;
	}
	return error;
}

static int64_t disk_map(struct disk *disk, struct io_op *op)
{
	uint64_t end, run;

	if (op->offset >= disk->bytes || op->len == 0)
		return -EINVAL;
	end = op->offset + min_u64(op->len, disk->bytes - op->offset);
	run = image_run(&disk->cache, op->offset / MAP_BLOCK, (end + MAP_BLOCK - 1) / MAP_BLOCK);
	op->extent = min_u64(run * MAP_BLOCK, end) - op->offset;
	return image_allocated(&disk->cache, op->offset / MAP_BLOCK);
}

/* What the device does when the op ends; the result. */
static int64_t disk_act(struct disk *disk, struct event *event)
{
	struct io_op *op = event->op;
	int error = disk_fault(disk, op);
	uint64_t bytes;

	if (op->kind == IO_WRITE)
		CHECK(checksum_of(op) == event->checksum); /* the buffer was left alone in flight */
	if (error)
		return disk_failed(disk, event, error);
	switch (op->kind) {
	case IO_READ:
		bytes = op->offset < disk->bytes ? min_u64(op->len, disk->bytes - op->offset) : 0;
		memcpy(op->data, disk->cache.data + (bytes ? op->offset : 0), bytes);
		return (int64_t)bytes;
	case IO_WRITE:
		if (!disk_fits(disk, op))
			return -ENOSPC;
		if (op->flags & IO_DURABLE)
			disk_change_durable(disk, op->offset, op->len, op->data);
		else
			disk_change(disk, IO_WRITE, op->offset, op->len, op->data);
		return (int64_t)op->len;
	case IO_PUNCH: case IO_ZERO:
		if (!disk_fits(disk, op))
			return -ENOSPC;
		disk_change(disk, op->kind, op->offset, op->len, NULL);
		return 0;
	case IO_SYNC:
		disk_sync(disk, event->mark, 0);
		return 0;
	default:
		return disk_map(disk, op);
	}
}

static void disk_op_count(struct machine *machine)
{
	if (++machine->disk_ops != machine->crash_at)
		return;
	machine->crash_at = 0;
	machine->dying = machine->world->crash_due = machine->world->crash_hit = true;
	machine->dying_power = machine->crash_at_power;
}

static bool disk_happen(struct event *event)
{
	event->result = disk_act(event->disk, event);
	event->settled = true;
	disk_op_count(event->machine);
	return true;
}

void disk_submit(struct machine *machine, struct io_op *op)
{
	struct world *world = machine->world;
	struct disk *disk = disk_get(machine, op->file);
	struct event *event = event_new(world, machine, op, disk_happen);
	const struct disk_timing *timing = &disk->timing;
	uint64_t delay = world_random_between(world, timing->min_ns, timing->max_ns);

	if (op->kind != IO_SYNC && op->kind != IO_MAP) {
		CHECK(op->len > 0);
		CHECK(op->offset % disk->block == 0);
		CHECK(op->len % disk->block == 0);
	}
	if (op->kind == IO_READ || op->kind == IO_WRITE) {
		CHECK(op->len <= IO_LEN_MAX);
		CHECK((uintptr_t)op->data % disk->block == 0);
	}
	CHECK(op->flags == 0 || (op->kind == IO_WRITE && (op->flags == IO_DURABLE || op->flags == IO_CACHED)));
	event->disk = disk;
	event->mark = disk->sequence;
	if (op->kind == IO_WRITE)
		event->checksum = checksum_of(op);
	if (timing->tail_one_in && world_chance(world, timing->tail_one_in))
		delay += world_random_below(world, timing->tail_ns + 1);
	event_queue(event, world_later(world, delay));
	disk_op_count(machine);
}

/* --- Crashes --- */

static bool disk_changes(const struct event *event)
{
	return event->disk && !event->settled && disk_fits(event->disk, event->op) &&
	       (event->op->kind == IO_WRITE || event->op->kind == IO_PUNCH ||
		event->op->kind == IO_ZERO);
}

/* What was in flight happens in part: as changes, or in durable when the power is gone too. */
static void disks_crash_in_flight(struct machine *machine, bool power, struct chance chance)
{
	for (struct list *link = machine->events.next; link != &machine->events;
	     link = link->next) {
		struct event *event = list_entry(link, struct event, link);
		struct io_op *op = event->op;

		if (!power && event->disk && !event->settled && op->kind == IO_SYNC &&
		    world_chance(machine->world, 2))
			disk_sync(event->disk, event->mark, 0);
		if (!disk_changes(event))
			continue;
		if (op->kind == IO_WRITE)
			CHECK(checksum_of(op) == event->checksum);
		if (!power)
			chance = chance_draw(machine->world);
		chance_apply(event->disk, chance, op->kind, op->offset, op->len,
			     op->kind == IO_WRITE ? op->data : NULL,
			     power ? keep_durable : disk_change);
	}
}

void disks_crash(struct machine *machine, bool power)
{
	struct chance chance = chance_draw(machine->world);

	for (unsigned i = 0; power && i < machine->disk_count; i++) {
		struct disk *disk = machine->disks[i];

		for (struct list *link = disk->changes.next; link != &disk->changes;
		     link = link->next) {
			struct change *change = list_entry(link, struct change, link);

			if (!change->lost)
				chance_apply(disk, chance, change->kind, change->offset,
					     change->len,
					     change->kind == IO_WRITE ? change->data : NULL,
					     keep_durable);
		}
	}
	disks_crash_in_flight(machine, power, chance);
	if (!power)
		return;
	for (struct list *link = machine->events.next; link != &machine->events;
	     link = link->next) {
		struct event *event = list_entry(link, struct event, link);

		if (disk_changes(event))
			image_copy(&event->disk->cache, &event->disk->durable, event->op->offset,
				   event->op->len);
	}
	for (unsigned i = 0; i < machine->disk_count; i++) {
		struct disk *disk = machine->disks[i];
		struct list *link;

		while ((link = list_first(&disk->changes))) {
			struct change *change = list_entry(link, struct change, link);

			image_copy(&disk->cache, &disk->durable, change->offset, change->len);
			change_free(disk, change);
		}
	}
}
