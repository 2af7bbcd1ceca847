/* SPDX-License-Identifier: Apache-2.0 */
/* Data buffers: runs of pages cut from one region that was allotted at start.
 *
 * The search begins where the last one ended and goes from run to run, so that a taken page costs
 * little while there is room. Neighbours that are free are always one run: when all is put back the
 * region is whole again, therefore the largest request fits sooner or later if new ones queue behind it. */
#include <errno.h>

#include "nbd_private.h"

#define RUN_FREE (1u << 31)

static uint32_t run_len(const struct nbd_buffers *b, uint32_t page)
{
	return b->runs[page] & ~RUN_FREE;
}

static bool run_is_free(const struct nbd_buffers *b, uint32_t page)
{
	return b->runs[page] & RUN_FREE;
}

static void run_set(struct nbd_buffers *b, uint32_t page, uint32_t len, uint32_t flag)
{
	b->runs[page] = b->runs[page + len - 1] = len | flag;
}

int nbd_buffers_init(struct nbd_buffers *b, struct io *io, uint64_t bytes)
{
	CHECK(bytes >= BLOCK_BYTES && bytes / BLOCK_BYTES < RUN_FREE);
	b->page_count = (uint32_t)(bytes / BLOCK_BYTES);
	b->page_next = 0;
	b->memory = io->alloc(io, (size_t)b->page_count * BLOCK_BYTES, IO_FIXED);
	b->runs = io->alloc(io, b->page_count * sizeof *b->runs, 0);
	if (!b->memory || !b->runs) {
		nbd_buffers_free(b, io);
		return -ENOMEM;
	}
	run_set(b, 0, b->page_count, RUN_FREE);
	return 0;
}

void nbd_buffers_free(struct nbd_buffers *b, struct io *io)
{
	if (b->memory && b->runs)
		CHECK(run_is_free(b, 0) && run_len(b, 0) == b->page_count);
	io->free(io, b->memory);
	io->free(io, b->runs);
	*b = (struct nbd_buffers){ 0 };
}

/* Leaves page_next at a run that is free and long enough, or says that there is none. */
bool nbd_buffers_has(struct nbd_buffers *b, uint32_t pages)
{
	uint32_t seen = 0;

	CHECK(pages >= 1 && pages <= b->page_count);
	while (seen < b->page_count) {
		uint32_t len = run_len(b, b->page_next);

		if (run_is_free(b, b->page_next) && len >= pages)
			return true;
		seen += len;
		b->page_next = (b->page_next + len) % b->page_count;
	}
	return false;
}

uint8_t *nbd_buffers_take(struct nbd_buffers *b, uint32_t pages)
{
	uint32_t page, left;

	if (!nbd_buffers_has(b, pages))
		return NULL;
	page = b->page_next;
	left = run_len(b, page) - pages;
	run_set(b, page, pages, 0);
	if (left)
		run_set(b, page + pages, left, RUN_FREE);
	b->page_next = (page + pages) % b->page_count;
	return b->memory + (uint64_t)page * BLOCK_BYTES;
}

void nbd_buffers_put(struct nbd_buffers *b, uint8_t *memory)
{
	uint32_t page = (uint32_t)((uint64_t)(memory - b->memory) / BLOCK_BYTES), len, next;

	CHECK(memory >= b->memory && page < b->page_count && !run_is_free(b, page));
	len = run_len(b, page);
	CHECK(len >= 1);
	next = page + len;
	if (next < b->page_count && run_is_free(b, next))
		len += run_len(b, next);
	if (page > 0 && run_is_free(b, page - 1)) {
		len += run_len(b, page - 1);
		page -= run_len(b, page - 1);
	}
	run_set(b, page, len, RUN_FREE);
	/* A run begins there no more, when the two were joined. */
	if (b->page_next > page && b->page_next < page + len)
		b->page_next = page;
}
