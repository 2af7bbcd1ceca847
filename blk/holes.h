/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of blocks that a discard or a zeroing emptied, which the store does not know of yet: disjoint, sorted,
 * bounded. */
#ifndef HOLDFAST_HOLES_H
#define HOLDFAST_HOLES_H

#include <stdbool.h>
#include <stdint.h>

enum { HOLES_MAX = 1024 };	/* 40 KiB, and as many calls of fallocate in one destage round */

/* Blocks [first, end), emptied by a record that ends at lsn_end. The store lacks, of these blocks, everything
 * since lsn: pages and other holes that this one took the place of count too. */
struct hole {
	uint64_t first, end;
	uint64_t lsn, lsn_end;
	bool keep_space;	/* zeroed (IO_ZERO) rather than discarded (IO_PUNCH) */
};

struct holes { uint32_t count; struct hole at[HOLES_MAX]; };

/* Room for @more calls of holes_add(), whatever they overlap. */
bool holes_have_room(const struct holes *h, uint32_t more);
/* The new range takes the place of what it overlaps. */
void holes_add(struct holes *h, const struct hole *hole);
bool holes_have(const struct holes *h, uint64_t block);
/* First border (start or end of a hole) behind @block, or UINT64_MAX. */
uint64_t holes_border(const struct holes *h, uint64_t block);
/* The oldest record in any, or UINT64_MAX. */
uint64_t holes_oldest(const struct holes *h);

#endif
