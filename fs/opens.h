/* SPDX-License-Identifier: Apache-2.0 */
/* How often each inode is open: a table of bounded size in memory, which knows nothing of files. */
#ifndef HOLDFAST_FS_OPENS_H
#define HOLDFAST_FS_OPENS_H

#include <stdbool.h>

#include "io.h"

enum { OPENS_SLOTS = 1 << 17, OPENS_MAX = OPENS_SLOTS / 4 * 3 };	/* 98,304 files open at once in 2 MiB */

struct opens_slot { uint64_t ino; uint32_t count; bool marked, nameable; };	/* count 0: free */
struct opens {
	struct opens_slot *slots;
	uint64_t count;			/* inodes that are open */
	uint64_t seed;			/* by chance: nobody makes all inodes fall together */
};

/* -ENOMEM. */
MUST_CHECK int opens_new(struct opens *o, struct io *io);
void opens_delete(struct opens *o, struct io *io);
void opens_clear(struct opens *o);
uint64_t opens_count(const struct opens *o, uint64_t ino);
/* Room for one more inode. */
bool opens_have_room(const struct opens *o);
/* There is room, or it is open. */
void opens_add(struct opens *o, uint64_t ino);
/* It is open. Whoever takes the last one away wants to know. */
void opens_mark(struct opens *o, uint64_t ino);
/* It is open. It never had a name, and may get one. */
void opens_nameable(struct opens *o, uint64_t ino, bool nameable);
bool opens_is_nameable(const struct opens *o, uint64_t ino);
/* It is open. True when that was the last time, and it is marked. */
bool opens_remove(struct opens *o, uint64_t ino);

#endif
