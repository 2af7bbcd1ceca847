/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions on the volume of a simulated node: waiting for blocks, and a transaction that is seen whole or not. */
#ifndef HOLDFAST_TESTS_BLOCKS_RIG_H
#define HOLDFAST_TESTS_BLOCKS_RIG_H

#include "directed.h"

enum { GROUP = 12 };	/* blocks that every transaction of a `beat` changes alike */

static inline struct cluster_options options_of_blocks(unsigned nodes, enum replication_mode mode)
{
	struct cluster_options o = options_of(nodes, mode);

	o.filesystem = true;
	return o;
}

static inline void now(struct blocks *blocks) { *(bool *)blocks->context = true; }

/* Lets time pass until whoever was told -EAGAIN may try again. */
static inline void wait_ready(struct cluster *c, struct blocks *blocks)
{
	uint64_t until = world_now(cluster_world(c)) + 60 * SECONDS;
	bool ready = false;

	blocks->ready = now;
	blocks->context = &ready;
	while (!ready && world_now(cluster_world(c)) < until)
		cluster_step(c);
	assert_true(ready);
	blocks->ready = NULL;
}

static inline struct blocks *blocks_of(struct cluster *c, unsigned node)
{
	return volume_blocks(cluster_volume(c, node));
}

/* Each block of the group says the same number, or it is no moment of the volume's. */
static inline int beat(struct blocks *blocks, uint64_t number)
{
	uint64_t lsn;
	uint8_t *page;
	int result;

	for (unsigned i = 0; i < GROUP; i++) {
		result = blocks->change(blocks, i * 20, &page);
		if (result)
			return result;
		memcpy(page + i * 300, &number, sizeof number);
	}
	return blocks->commit(blocks, NULL, 0, &lsn);
}

static inline void beat_on(struct cluster *c, unsigned node, uint64_t number)
{
	struct blocks *blocks = blocks_of(c, node);
	int result;

	while ((result = beat(blocks, number)) == -EAGAIN) {
		blocks->abort(blocks);
		wait_ready(c, blocks);
	}
	assert_int_equal(result, 0);
}

/* What a listener of volume_on_applied() was told. */
struct told { unsigned count, unknown; bool wrong, caches; uint64_t lsn; };

/* The annotation is the number of the record. */
static inline bool told_of(void *context, const void *annotation, uint32_t len, uint64_t lsn)
{
	struct told *told = context;
	unsigned number = 0;

	told->wrong |= lsn <= told->lsn && annotation;
	told->lsn = lsn;
	if (!annotation) {
		told->unknown++;
		return !told->caches;
	}
	if (len == sizeof number)
		memcpy(&number, annotation, sizeof number);
	told->wrong |= number != ++told->count;
	return !told->caches;
}

#endif
