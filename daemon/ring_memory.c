/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that ops point into. What is allotted with IO_FIXED is registered: the kernel pins it once, and
 * not at each read and write. It is pinned memory, which plain users have little of (RLIMIT_MEMLOCK);
 * past that we go on without, slower, and say so once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bounds.h"
#include "bytes.h"
#include "ring_parts.h"
#include "say.h"

/* Root may raise the hard limit too. What is refused here shows when something is registered. */
void ring_memory_limit_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)!setrlimit(RLIMIT_MEMLOCK, &limit);
	limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
	if (geteuid() == 0)
		(void)!setrlimit(RLIMIT_MEMLOCK, &limit);
}

void ring_memory_init(struct ring *ring)
{
	ring->buffers_registered = io_uring_register_buffers_sparse(&ring->uring, RING_REGIONS_MAX) == 0;
}

static int region_register(struct ring *ring, int buffer, void *start, uint64_t len)
{
	struct iovec piece = { start, len };
	int res = io_uring_register_buffers_update_tag(&ring->uring, (unsigned)buffer, &piece, NULL, 1);

	return res < 0 ? res : 0;
}

static void region_add(struct ring *ring, struct ring_region region)
{
	unsigned at = ring->region_count++;

	for (; at > 0 && ring->regions[at - 1].start > region.start; at--)
		ring->regions[at] = ring->regions[at - 1];
	ring->regions[at] = region;
	ring->buffer_taken[region.buffer] = true;
}

/* Takes all pieces of [start, start + mapped) out of the kernel's table and ours. */
static void regions_remove(struct ring *ring, const uint8_t *start, uint64_t mapped)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < ring->region_count; i++) {
		struct ring_region *region = &ring->regions[i];

		if (region->start >= start && region->start < start + mapped) {
			(void)!region_register(ring, region->buffer, NULL, 0);
			ring->buffer_taken[region->buffer] = false;
		} else {
			ring->regions[kept++] = *region;
		}
	}
	ring->region_count = kept;
}

/* Maps and registers @bytes in pieces that the kernel accepts; NULL when it does not. */
static void *region_map(struct ring *ring, uint64_t bytes)
{
	uint64_t mapped = round_up(bytes, BLOCK_BYTES);
	uint8_t *start;
	int res = 0;

	if ((mapped + RING_REGION_BYTES - 1) / RING_REGION_BYTES > RING_REGIONS_MAX - ring->region_count)
		return NULL;
	start = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		return NULL;
	for (uint64_t at = 0; at < mapped && res == 0; at += RING_REGION_BYTES) {
		struct ring_region region = { start + at, min_u64(mapped - at, RING_REGION_BYTES),
					      at == 0 ? mapped : 0, 0 };

		while (ring->buffer_taken[region.buffer])
			region.buffer++;
		res = region_register(ring, region.buffer, region.start, region.len);
		if (res == 0)
			region_add(ring, region);
	}
	if (res == 0)
		return start;
	regions_remove(ring, start, mapped);
	munmap(start, mapped);
	ring->buffers_registered = false;
	say(&ring->io, IO_WARNING, "memory: the kernel registers no more buffers (%s); disk reads and writes go on "
	    "unregistered and cost more CPU; raise RLIMIT_MEMLOCK (ulimit -l) to at least the volume's memory",
	    strerror(-res));
	return NULL;
}

void *ring_alloc(struct io *io, size_t bytes, unsigned flags)
{
	struct ring *ring = container_of(io, struct ring, io);
	void *memory = NULL;

	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return NULL;
	if ((flags & IO_FIXED) && ring->buffers_registered)
		memory = region_map(ring, bytes);
	if (memory)
		return memory;
	if (posix_memalign(&memory, bytes >= BLOCK_BYTES ? BLOCK_BYTES : 16, bytes) != 0)
		return NULL;
	return memset(memory, 0, bytes);
}

void ring_memory_free(struct io *io, void *memory)
{
	struct ring *ring = container_of(io, struct ring, io);

	for (unsigned i = 0; i < ring->region_count; i++) {
		uint64_t mapped = ring->regions[i].mapped;

		if (ring->regions[i].start == memory && mapped) {
			regions_remove(ring, memory, mapped);
			munmap(memory, mapped);
			return;
		}
	}
	free(memory);
}

int ring_buffer_find(const struct ring *ring, const void *data, uint64_t len)
{
	const uint8_t *start = data;
	unsigned low = 0, high = ring->region_count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (ring->regions[middle].start <= start)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return -1;

	const struct ring_region *region = &ring->regions[low - 1];
	uint64_t skip = (uint64_t)(start - region->start);

	return skip <= region->len && len <= region->len - skip ? region->buffer : -1;
}
