/* SPDX-License-Identifier: Apache-2.0 */
/* A volume that is an array of bytes: what an NBD server is bound to in tests. Requests are queued and
 * answered by steps, in the order of their submits or in any. */
#ifndef HOLDFAST_TESTS_MEMORY_VOLUME_H
#define HOLDFAST_TESTS_MEMORY_VOLUME_H

#include "nbd_private.h"

struct memory_volume {
	uint8_t *bytes;
	uint8_t *is_data;		/* for each block */
	uint64_t len;
	struct list queue;		/* volume_requests */
	unsigned queued;
	bool secondary;
	int fail;			/* each request fails with this -errno, unless it is 0 */
	uint64_t map_max;		/* a MAP tells of at most so many bytes, unless it is 0 */
	uint64_t seed;			/* 0: in order, else in an order made of it */
	unsigned reads, writes, flushes, discards, zeros, maps, fuas;	/* done */
	unsigned refused;		/* with -EROFS */
};

void memory_volume_init(struct memory_volume *m, uint64_t bytes);
void memory_volume_end(struct memory_volume *m);
struct nbd_backend memory_volume_backend(struct memory_volume *m);
/* Answers one request; false when there is none. */
bool memory_volume_step(struct memory_volume *m);

#endif
