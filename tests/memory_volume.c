/* SPDX-License-Identifier: Apache-2.0 */
/* It is strict where the real one need not be: it reads whole blocks into the buffer, as the real one may,
 * and CHECKs what volume.h asks of a caller. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory_volume.h"

void memory_volume_init(struct memory_volume *m, uint64_t bytes)
{
	CHECK(bytes % BLOCK_BYTES == 0);
	*m = (struct memory_volume){ .len = bytes };
	m->bytes = calloc(1, bytes);
	m->is_data = calloc(1, bytes / BLOCK_BYTES);
	CHECK(m->bytes && m->is_data);
	list_init(&m->queue);
}

void memory_volume_end(struct memory_volume *m)
{
	CHECK(list_empty(&m->queue));
	free(m->bytes);
	free(m->is_data);
}

static void volume_take(void *context, struct volume_request *r)
{
	struct memory_volume *m = context;

	CHECK(r->op == VOLUME_FLUSH || r->len >= 1);
	CHECK(r->offset <= m->len && r->len <= m->len - r->offset);
	if (r->op == VOLUME_READ)
		CHECK((uintptr_t)r->buffer % BLOCK_BYTES == 0);
	if (r->op == VOLUME_READ || r->op == VOLUME_WRITE)
		CHECK(r->len <= REQUEST_BYTES_MAX);
	list_append(&m->queue, &r->link);
	m->queued++;
}

static bool volume_writable(void *context)
{
	return !((struct memory_volume *)context)->secondary;
}

struct nbd_backend memory_volume_backend(struct memory_volume *m)
{
	return (struct nbd_backend){ volume_take, volume_writable, m, m->len };
}

static void mark(struct memory_volume *m, const struct volume_request *r, uint8_t is_data)
{
	uint64_t first = r->offset / BLOCK_BYTES, end = (r->offset + r->len + BLOCK_BYTES - 1) / BLOCK_BYTES;

	if (!is_data) {		/* only what is covered whole becomes a hole */
		first = round_up(r->offset, BLOCK_BYTES) / BLOCK_BYTES;
		end = (r->offset + r->len) / BLOCK_BYTES;
	}
	if (end > first)
		memset(m->is_data + first, is_data, end - first);
}

static int map(struct memory_volume *m, struct volume_request *r)
{
	uint64_t first = r->offset / BLOCK_BYTES, end = first + 1;

	while (end * BLOCK_BYTES < r->offset + r->len && m->is_data[end] == m->is_data[first])
		end++;
	r->extent = min_u64(end * BLOCK_BYTES, r->offset + r->len) - r->offset;
	if (m->map_max)
		r->extent = min_u64(r->extent, m->map_max);
	return m->is_data[first];
}

static int run(struct memory_volume *m, struct volume_request *r)
{
	if (m->fail)
		return m->fail;
	if (r->op != VOLUME_READ && r->op != VOLUME_MAP && r->op != VOLUME_FLUSH && r->op != VOLUME_ACK &&
	    m->secondary) {
		m->refused++;
		return -EROFS;
	}
	m->fuas += r->flags == VOLUME_FUA;
	switch (r->op) {
	case VOLUME_READ:
		memcpy(r->buffer, m->bytes + round_down(r->offset, BLOCK_BYTES),
		       VOLUME_BUFFER_BYTES(r->offset, r->len));
		m->reads++;
		return 0;
	case VOLUME_WRITE:
		memcpy(m->bytes + r->offset, r->buffer, r->len);
		mark(m, r, 1);
		m->writes++;
		return 0;
	case VOLUME_ACK:
		return 0;
	case VOLUME_FLUSH:
		m->flushes++;
		return 0;
	case VOLUME_DISCARD:
		memset(m->bytes + r->offset, 0, r->len);
		mark(m, r, 0);
		m->discards++;
		return 0;
	case VOLUME_ZERO:
		memset(m->bytes + r->offset, 0, r->len);
		mark(m, r, 1);
		m->zeros++;
		return 0;
	case VOLUME_MAP:
		m->maps++;
		return map(m, r);
	}
	return -EINVAL;
}

bool memory_volume_step(struct memory_volume *m)
{
	struct list *link = list_first(&m->queue);

	if (!link)
		return false;
	if (m->seed) {
		m->seed = m->seed * 6364136223846793005ull + 1442695040888963407ull;
		for (uint64_t skip = (m->seed >> 33) % m->queued; skip > 0; skip--)
			link = link->next;
	}
	struct volume_request *r = list_entry(link, struct volume_request, link);

	list_remove(&r->link);
	m->queued--;
	r->done(r, run(m, r));
	return true;
}
