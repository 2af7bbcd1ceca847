/* SPDX-License-Identifier: Apache-2.0 */
/* A helper thread that speaks to the kernel where the kernel may make us wait for ourselves: what changed is dropped
 * from its caches (it may hold a directory's lock while it waits for an answer of the ring's thread), and the directory
 * is unmounted (it writes mapped pages back first, to us).
 *
 * The ring's thread only puts into a queue of fixed size, and never waits. When that is full all is dropped instead:
 * names by an epoch of the kernel where it has one, or else all that is not in use; of what is open, the inodes. */
#ifndef HOLDFAST_INVALIDATOR_H
#define HOLDFAST_INVALIDATOR_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>

#include "ring.h"
#include "volume.h"

enum {
	INVALIDATOR_ITEMS = 2048,	/* what a secondary applies in a turn, some times over: half a MiB */
	INVALIDATOR_NAME_BYTES = 256,
	/* What the kernel may have without our knowing (a directory that somebody stands in) it may keep so long. */
	INVALIDATOR_SETTLES_SECONDS = 1,
};

struct invalidator_item {
	uint64_t inode;			/* of a name: the directory */
	int64_t offset, len;		/* of data; offset -1: attributes only */
	uint64_t lsn;			/* with this item all of the log up to here is done; 0 = not all of a record */
	uint32_t name_len;		/* 0: it is an inode */
	char name[INVALIDATOR_NAME_BYTES];
};

enum invalidator_leave { LEAVE_NOT, LEAVE_PLAIN, LEAVE_FORCED, LEAVE_UNMOUNTED };

struct fuse_session;

struct invalidator {
	struct io *io;
	struct ring *ring;
	struct invalidator_item *items;	/* a ring of INVALIDATOR_ITEMS */
	uint64_t *open;			/* inodes that are open, of the last time that all was dropped */
	uint64_t open_max;

	/* of one mount */
	struct fuse_session *session;
	char directory[PATH_MAX];
	unsigned long flags;		/* of mount(2) */
	pthread_t thread;
	bool running;
	int event, event_file;		/* the thread has something to say; its id of the ring */
	struct io_op told;
	/* What leaving came to: 0, and the thread is over; or -errno (LEAVE_PLAIN only), and it goes on. */
	void (*left)(void *context, int result);
	/* As invalidator_mark() says. */
	void (*dropped)(void *context, uint64_t lsn);
	void *context;

	pthread_mutex_t lock;		/* of what follows */
	pthread_cond_t wake;
	unsigned first, count;
	bool busy;			/* the thread is at an item that is in the queue no more */
	bool everything;		/* names, then the first open_count of `open` */
	uint64_t open_count, settle_next;
	uint64_t lsn_asked, lsn_dropped;
	uint64_t settled_ns;		/* monotonic: what everything did not reach has timed out by then */
	bool event_sent;		/* and not taken */
	bool epochs;			/* the kernel has them */
	enum invalidator_leave leave;
	bool left_said;
	int left_result;
};

/* Allots the queue, and room for @open_max inodes. -ENOMEM; then it is to be deleted. */
MUST_CHECK int invalidator_new(struct invalidator *v, struct ring *ring, uint64_t open_max);
void invalidator_delete(struct invalidator *v);
/* For the mount of @session on @directory. -errno: no thread. left() and dropped() as above, from the ring. */
MUST_CHECK int invalidator_start(struct invalidator *v, struct fuse_session *session, const char *directory,
				 unsigned long flags, void (*left)(void *context, int result),
				 void (*dropped)(void *context, uint64_t lsn), void *context);
/* The kernel's INIT said which version it speaks. */
void invalidator_epochs(struct invalidator *v, bool epochs);

/* What the kernel has of it is dropped, soon, in order. Without a thread: nothing. False: the queue was full, and
 * everything is to be dropped. */
MUST_CHECK bool invalidator_name(struct invalidator *v, uint64_t directory, const char *name, uint32_t name_len);
MUST_CHECK bool invalidator_inode(struct invalidator *v, uint64_t inode, int64_t offset, int64_t len);
/* Who looks a name up in @directory, or lists it, just now, has taken its answer in before what is put behind this
 * is dropped: the kernel drops nothing of an inode that it only hears of with that answer. */
MUST_CHECK bool invalidator_settle(struct invalidator *v, uint64_t directory);
/* All that was put is what the log up to @lsn has changed. True: it is dropped. False: dropped() will say @lsn, or
 * more, when it is. LSNs go back only behind an everything. */
MUST_CHECK bool invalidator_mark(struct invalidator *v, uint64_t lsn);
/* Everything. @v->open is locked by begin, filled with the inodes that are open by the caller, and given by end. */
void invalidator_everything_begin(struct invalidator *v);
void invalidator_everything_end(struct invalidator *v, uint64_t open_count);

/* left() follows. PLAIN: refused while it is in use. FORCED: detached then, after what is mapped was written.
 * UNMOUNTED: somebody else did it. Asked again, the stronger word counts. */
void invalidator_leave(struct invalidator *v, enum invalidator_leave how);

#endif
