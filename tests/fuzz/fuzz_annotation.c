/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as annotations of records that a secondary applies. The input is a list of them: two bytes of length, the
 * bytes; 0xffff is the helper thread that works the queue off. What is an annotation is the same when it is made anew
 * from what was read in it; what is none has everything dropped from the kernel's caches. Whatever comes, the queue
 * for the kernel keeps to its bounds, and all in it can be told to a kernel. */
#include <stdlib.h>
#include <string.h>

#include "mount_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LEN_MAX = BLOCKS_ANNOTATION_MAX + 64, READS = 3, BAD_MAX = 4 };

static struct mount mount;
static struct mount_request reads[READS];

/* A mounted directory with three files open, one of which is being read at a time, and no thread behind its queue. */
static void mount_start(void)
{
	struct invalidator *v = &mount.invalidator;
	struct opens *opens = &mount.files.opens;

	if (!opens->slots) {
		opens->slots = calloc(OPENS_SLOTS, sizeof *opens->slots);
		v->items = calloc(INVALIDATOR_ITEMS, sizeof *v->items);
		v->open = calloc(OPENS_MAX, sizeof *v->open);
		v->open_max = OPENS_MAX;
		pthread_mutex_init(&v->lock, NULL);
		pthread_cond_init(&v->wake, NULL);
		CHECK(opens->slots && v->items && v->open);
		for (uint64_t i = 0; i < READS; i++)
			opens->slots[i * 1000] = (struct opens_slot){ .ino = i + 2, .count = 1 };
	}
	v->running = true;
	v->first = v->count = 0;
	v->everything = false;
	v->open_count = 0;
	mount.mounted = true;
	list_init(&mount.reading);
	for (unsigned i = 0; i < READS; i++) {
		reads[i] = (struct mount_request){ .ino = i + 2 };
		list_append(&mount.reading, &reads[i].reading);
	}
}

static void queue_check(void)
{
	const struct invalidator *v = &mount.invalidator;

	CHECK(v->count <= INVALIDATOR_ITEMS && v->first < INVALIDATOR_ITEMS && v->open_count <= v->open_max);
	for (unsigned i = 0; i < v->count; i++) {
		const struct invalidator_item *item = &v->items[(v->first + i) % INVALIDATOR_ITEMS];

		CHECK(item->name_len < INVALIDATOR_NAME_BYTES);
		CHECK(item->name_len == 0 || item->name[item->name_len] == 0);
		CHECK(item->offset >= -1 && item->len >= 0);
		CHECK(item->offset < 0 || item->len <= INT64_MAX - item->offset);
	}
}

static void queue_work_off(void)
{
	struct invalidator *v = &mount.invalidator;

	queue_check();
	v->first = (v->first + v->count) % INVALIDATOR_ITEMS;
	v->count = 0;
	v->everything = false;
	v->open_count = 0;
	mount.mounted = true;
}

static void change_add(struct annotation *a, const struct annotation_change *c)
{
	switch (c->kind) {
	case ANNOTATION_ADDED:
	case ANNOTATION_REMOVED:
		annotation_entry(a, c->kind, c->parent, c->inode, c->name, c->name_len);
		break;
	case ANNOTATION_DATA:
		annotation_data(a, c->inode, c->offset, c->len);
		break;
	case ANNOTATION_XATTR:
		annotation_xattr(a, c->inode, c->name, c->name_len);
		break;
	default:
		annotation_inode(a, c->kind, c->inode);
	}
}

static void read_all(const uint8_t *bytes, uint32_t len)
{
	struct annotation_change change;
	static struct annotation again;
	uint32_t at = 0, changes = 0;

	annotation_begin(&again, annotation_operation(bytes));
	while (annotation_next(bytes, &at, &change)) {
		CHECK(++changes <= ANNOTATION_CHANGES_MAX && at <= len && change.inode != 0);
		CHECK((const uint8_t *)change.name + change.name_len <= bytes + len && change.name_len <= 255);
		change_add(&again, &change);
	}
	CHECK(at == len || changes == 0);
	CHECK(again.len == len && memcmp(again.bytes, bytes, len) == 0);
}

static bool apply(const uint8_t *bytes, uint32_t len)
{
	uint8_t *exact = aligned_alloc(8, round_up(len + 1, 8));	/* a record's annotation is aligned so */
	uint64_t epoch = mount.cache_epoch;
	bool good;

	CHECK(exact != NULL);
	memcpy(exact, bytes, len);
	good = annotation_check(exact, len);
	if (good)
		read_all(exact, len);
	mount_applied(&mount, exact, len, 0);
	CHECK(good || (mount.cache_epoch == epoch + 1 && mount.invalidator.everything && !mount.mounted));
	for (unsigned i = 0; i < READS && !good; i++)
		CHECK(reads[i].moved);
	queue_check();
	free(exact);
	return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned bad = 0;

	mount_start();
	while (size >= 2 && bad < BAD_MAX) {
		uint32_t len = data[0] | (uint32_t)data[1] << 8;

		data += 2;
		size -= 2;
		if (len == 0xffff) {
			queue_work_off();
			continue;
		}
		len = (uint32_t)min_u64(len % LEN_MAX, size);
		bad += !apply(data, len);
		data += len;
		size -= len;
	}
	queue_work_off();
	return 0;
}
