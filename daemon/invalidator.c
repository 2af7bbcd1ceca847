/* SPDX-License-Identifier: Apache-2.0 */
#define FUSE_USE_VERSION 314
#include "invalidator.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "auto.h"

enum { STACK_BYTES = 256 << 10 };	/* it is locked in memory as all of the daemon is */

/* From 7.44 on: entries handed out before are asked for anew. The header that we build with may not know it. */
enum { NOTIFY_INC_EPOCH = 8 };

/* ---- the thread ---- */

static void drop_names(struct invalidator *v, bool epochs)
{
	struct fuse_out_header header = { .len = sizeof header, .error = NOTIFY_INC_EPOCH };

	if (epochs && write(fuse_session_fd(v->session), &header, sizeof header) == (ssize_t)sizeof header)
		return;
	/* A remount with the flags that it has lets go of every name that nobody uses, and of their inodes. */
	(void)mount(NULL, v->directory, NULL, MS_REMOUNT | v->flags, NULL);
}

/* No entry has that name; but the directory is locked while it is looked for. */
static void settle(struct invalidator *v, uint64_t directory)
{
	(void)fuse_lowlevel_notify_inval_entry(v->session, directory, ".", 1);
}

/* ENOENT: the kernel does not have it. Anything else means that there is no kernel to tell. */
static void drop_item(struct invalidator *v, const struct invalidator_item *item)
{
	if (item->name_len == 1 && item->name[0] == '.')
		settle(v, item->inode);
	else if (item->name_len)
		(void)fuse_lowlevel_notify_inval_entry(v->session, item->inode, item->name, item->name_len);
	else
		(void)fuse_lowlevel_notify_inval_inode(v->session, item->inode, item->offset, item->len);
}

static int unmount(struct invalidator *v, enum invalidator_leave how)
{
	AUTO_CLOSE int fd = -1;

	if (how == LEAVE_UNMOUNTED || umount2(v->directory, UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (how == LEAVE_PLAIN)
		return -errno;
	fd = open(v->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)syncfs(fd);
	close(TAKE_FD(fd));
	(void)umount2(v->directory, MNT_DETACH | UMOUNT_NOFOLLOW);
	return 0;
}

/* True: the thread is over. */
static bool leave(struct invalidator *v, enum invalidator_leave how)
{
	uint64_t one = 1;
	int result = unmount(v, how);

	pthread_mutex_lock(&v->lock);
	if (result == 0 || v->leave == how)	/* else a stronger word came meanwhile */
		v->leave = LEAVE_NOT;
	v->left_result = result;
	v->left_said = true;
	pthread_mutex_unlock(&v->lock);
	(void)!write(v->event, &one, sizeof one);
	return result == 0;
}

static uint64_t monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool idle(const struct invalidator *v)
{
	return !v->busy && !v->everything && !v->open_count && !v->count;
}

/* With the lock. The ring hears of the first of several, and looks when it comes to it. */
static void say_dropped(struct invalidator *v, uint64_t lsn)
{
	uint64_t one = 1;

	if (lsn == v->lsn_dropped)
		return;
	v->lsn_dropped = lsn;
	if (!v->event_sent)
		(void)!write(v->event, &one, sizeof one);
	v->event_sent = true;
}

/* With the lock. The thread has dropped what was told up to @lsn; 0: a part of it. */
static void item_done(struct invalidator *v, uint64_t lsn)
{
	v->busy = false;
	if (monotonic_ns() < v->settled_ns || v->everything || v->open_count)
		return;
	if (idle(v))
		say_dropped(v, v->lsn_asked);
	else if (lsn)
		say_dropped(v, lsn);
}

/* With the lock. */
static void wait_for_more(struct invalidator *v)
{
	struct timespec until = { (time_t)(v->settled_ns / 1000000000), (long)(v->settled_ns % 1000000000) };

	if (v->lsn_dropped == v->lsn_asked)
		pthread_cond_wait(&v->wake, &v->lock);
	else
		pthread_cond_timedwait(&v->wake, &v->lock, &until);
	if (idle(v))
		item_done(v, 0);
}

/* With the lock, which is let go of meanwhile. False: there is nothing to drop. */
static bool drop_next(struct invalidator *v)
{
	struct invalidator_item item = { 0 };
	bool names = v->everything && v->settle_next == v->open_count, epochs = v->epochs;

	if (idle(v))
		return false;
	v->busy = true;
	if (names) {
		v->everything = false;
		v->settled_ns = monotonic_ns() + INVALIDATOR_SETTLES_SECONDS * 1000000000ull;
	} else if (v->everything) {
		item = (struct invalidator_item){ .inode = v->open[v->settle_next++], .name_len = 1, .name = "." };
	} else if (v->open_count) {
		item.inode = v->open[--v->open_count];
	} else {
		item = v->items[v->first];
		v->first = (v->first + 1) % INVALIDATOR_ITEMS;
		v->count--;
	}
	pthread_mutex_unlock(&v->lock);
	if (names)
		drop_names(v, epochs);
	else
		drop_item(v, &item);
	pthread_mutex_lock(&v->lock);
	item_done(v, item.lsn);
	return true;
}

static void *thread_main(void *context)
{
	struct invalidator *v = context;

	(void)prctl(PR_SET_NAME, "holdfastd:cache");
	pthread_mutex_lock(&v->lock);
	for (;;) {
		enum invalidator_leave how = v->leave;

		if (how != LEAVE_NOT) {
			bool over;

			pthread_mutex_unlock(&v->lock);
			over = leave(v, how);
			if (over)
				return NULL;
			pthread_mutex_lock(&v->lock);
		} else if (!drop_next(v)) {
			wait_for_more(v);
		}
	}
}

/* ---- the ring's side ---- */

static bool put(struct invalidator *v, const struct invalidator_item *item)
{
	bool room;

	if (!v->running)
		return true;
	pthread_mutex_lock(&v->lock);
	room = v->count < INVALIDATOR_ITEMS;
	if (room) {
		v->items[(v->first + v->count) % INVALIDATOR_ITEMS] = *item;
		v->count++;
		pthread_cond_signal(&v->wake);
	}
	pthread_mutex_unlock(&v->lock);
	return room;
}

bool invalidator_name(struct invalidator *v, uint64_t directory, const char *name, uint32_t name_len)
{
	struct invalidator_item item = { .inode = directory, .name_len = name_len };

	CHECK(name_len > 0 && name_len < INVALIDATOR_NAME_BYTES);
	memcpy(item.name, name, name_len);
	return put(v, &item);
}

bool invalidator_inode(struct invalidator *v, uint64_t inode, int64_t offset, int64_t len)
{
	struct invalidator_item item = { .inode = inode, .offset = offset, .len = len };

	return put(v, &item);
}

bool invalidator_settle(struct invalidator *v, uint64_t directory)
{
	return invalidator_name(v, directory, ".", 1);
}

bool invalidator_mark(struct invalidator *v, uint64_t lsn)
{
	bool dropped;

	if (!v->running)
		return true;
	pthread_mutex_lock(&v->lock);
	v->lsn_asked = lsn;
	if (v->count)
		v->items[(v->first + v->count - 1) % INVALIDATOR_ITEMS].lsn = lsn;
	dropped = idle(v) && monotonic_ns() >= v->settled_ns;
	if (dropped)
		v->lsn_dropped = lsn;
	pthread_mutex_unlock(&v->lock);
	return dropped;
}

void invalidator_everything_begin(struct invalidator *v)
{
	pthread_mutex_lock(&v->lock);
	v->lsn_dropped = 0;		/* LSNs may begin anew from an earlier one */
}

void invalidator_everything_end(struct invalidator *v, uint64_t open_count)
{
	CHECK(open_count <= v->open_max);
	v->everything = true;
	v->open_count = open_count;
	v->settle_next = 0;
	v->count = 0;			/* all of that is in it */
	pthread_cond_signal(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

void invalidator_epochs(struct invalidator *v, bool epochs)
{
	pthread_mutex_lock(&v->lock);
	v->epochs = epochs;
	pthread_mutex_unlock(&v->lock);
}

void invalidator_leave(struct invalidator *v, enum invalidator_leave how)
{
	CHECK(v->running);
	pthread_mutex_lock(&v->lock);
	if (how > v->leave)
		v->leave = how;
	pthread_cond_signal(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

static void told(struct io_op *op, int64_t result)
{
	struct invalidator *v = container_of(op, struct invalidator, told);
	uint64_t count, lsn;
	bool leaving;
	int left;

	(void)result;
	(void)!read(v->event, &count, sizeof count);
	pthread_mutex_lock(&v->lock);
	left = v->left_result;
	leaving = v->left_said;
	lsn = v->lsn_dropped;
	v->left_said = v->event_sent = false;
	pthread_mutex_unlock(&v->lock);
	if (!leaving || left) {
		v->io->submit(v->io, &v->told);
		v->dropped(v->context, lsn);
	} else {
		pthread_join(v->thread, NULL);	/* its last deed was to tell us */
		v->running = false;
		ring_file_remove(v->ring, v->event_file);
	}
	if (leaving)
		v->left(v->context, left);
}

int invalidator_start(struct invalidator *v, struct fuse_session *session, const char *directory, unsigned long flags,
		      void (*left)(void *context, int result),
		      void (*dropped)(void *context, uint64_t lsn), void *context)
{
	pthread_attr_t attributes;
	int result;

	CHECK(!v->running);
	v->session = session;
	v->flags = flags;
	strcpy(v->directory, directory);
	v->left = left;
	v->dropped = dropped;
	v->context = context;
	v->first = v->count = 0;
	v->everything = v->epochs = v->busy = v->event_sent = v->left_said = false;
	v->lsn_asked = v->lsn_dropped = v->settled_ns = 0;
	v->open_count = 0;
	v->leave = LEAVE_NOT;
	v->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->event < 0)
		return -errno;
	v->event_file = ring_file_add(v->ring, v->event);
	if (v->event_file < 0) {
		close(v->event);
		return v->event_file;
	}
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	result = pthread_create(&v->thread, &attributes, thread_main, v);
	pthread_attr_destroy(&attributes);
	if (result) {
		ring_file_remove(v->ring, v->event_file);
		return -result;
	}
	v->running = true;
	v->told = (struct io_op){ .kind = IO_POLL, .file = v->event_file, .done = told };
	v->io->submit(v->io, &v->told);
	return 0;
}

int invalidator_new(struct invalidator *v, struct ring *ring, uint64_t open_max)
{
	struct io *io = ring_io(ring);
	pthread_condattr_t clock;

	*v = (struct invalidator){ .io = io, .ring = ring, .open_max = open_max };
	pthread_mutex_init(&v->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&v->wake, &clock);
	pthread_condattr_destroy(&clock);
	v->items = io->alloc(io, INVALIDATOR_ITEMS * sizeof *v->items, 0);
	v->open = io->alloc(io, open_max * sizeof *v->open, 0);
	return v->items && v->open ? 0 : -ENOMEM;
}

void invalidator_delete(struct invalidator *v)
{
	if (!v->io)
		return;
	CHECK(!v->running);
	v->io->free(v->io, v->items);
	v->io->free(v->io, v->open);
	pthread_cond_destroy(&v->wake);
	pthread_mutex_destroy(&v->lock);
}
