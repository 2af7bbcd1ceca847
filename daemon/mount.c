/* SPDX-License-Identifier: Apache-2.0 */
/* From new to free; where it is mounted; what a role changes; what a secondary drops from the kernel's caches.
 *
 * Unmounting, in steps:
 *	mount_leave(), mount_stop(), mount_gone()	asked for; or it has happened
 *	(the helper thread)				umount2() waits for answers of ours, so it is not done here
 *	mount_left()					it is unmounted; who still waits in vain is let go
 *	mount_closed()					no request is in flight: the connection is closed */
#include "mount_private.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "auto.h"
#include "bytes.h"
#include "privilege.h"

enum { PATIENCE_SECONDS = 10 };		/* then programs lose what is mapped and not written */
enum { EPOCH_MINOR = 44 };		/* the first kernel protocol 7.x with epochs of names */

/* ---- the kernel's view ---- */

static void op_init(void *context, struct fuse_conn_info *conn)
{
	struct mount *m = context;

	conn->max_write = conn->max_read = FUSE_DATA_BYTES;
	conn->max_readahead = FUSE_DATA_BYTES;
	conn->max_background = FUSE_BACKGROUND;
	conn->congestion_threshold = FUSE_CONGESTION;
	conn->time_gran = 1;
	/* Bytes are dropped from the cache when we say so, and a changed size says enough by itself. With the writeback
	 * cache the kernel would believe its own size and times for good: no secondary could ever show another's. */
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ |
				  FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_READDIRPLUS_AUTO |
				  FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
	/* Not READDIRPLUS_AUTO: of the second part of a listing the kernel would ask for names only, and for what they
	 * are one by one. */
	conn->want |= conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL |
				       FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_DIO | FUSE_CAP_ASYNC_READ |
				       FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS |
				       FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT);
	m->epochs = conn->proto_major == 7 && conn->proto_minor >= EPOCH_MINOR;
	m->remounts = privilege_mounts();
	invalidator_epochs(&m->invalidator, m->epochs);
}

static void op_forget(fuse_req_t fuse, fuse_ino_t ino, uint64_t lookups)
{
	(void)ino;
	(void)lookups;
	fuse_reply_none(fuse);
}

static void op_forget_multi(fuse_req_t fuse, size_t count, struct fuse_forget_data *forgets)
{
	(void)count;
	(void)forgets;
	fuse_reply_none(fuse);
}

/* Without flush close() asks us nothing. Without locks they are the kernel's. */
static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.forget = op_forget, .forget_multi = op_forget_multi,
	.lookup = mount_op_lookup, .getattr = mount_op_getattr, .setattr = mount_op_setattr,
	.readlink = mount_op_readlink, .mknod = mount_op_mknod, .mkdir = mount_op_mkdir,
	.unlink = mount_op_unlink, .rmdir = mount_op_rmdir, .symlink = mount_op_symlink,
	.rename = mount_op_rename, .link = mount_op_link,
	.open = mount_op_open, .create = mount_op_create, .release = mount_op_release,
	.read = mount_op_read, .write = mount_op_write, .fsync = mount_op_fsync,
	.opendir = mount_op_opendir, .releasedir = mount_op_release, .fsyncdir = mount_op_fsync,
	.readdir = mount_op_readdir, .readdirplus = mount_op_readdirplus,
	.statfs = mount_op_statfs, .fallocate = mount_op_fallocate, .lseek = mount_op_lseek,
	.copy_file_range = mount_op_copy_file_range,
	.setxattr = mount_op_setxattr, .getxattr = mount_op_getxattr, .listxattr = mount_op_listxattr,
	.removexattr = mount_op_removexattr,
};

/* ---- what a secondary drops ---- */

static void reads_moved(struct mount *m, uint64_t inode, bool all)
{
	for (struct list *link = m->reading.next; link != &m->reading; link = link->next) {
		struct mount_request *r = list_entry(link, struct mount_request, reading);

		r->moved |= all || r->ino == inode;
	}
}

/* Nobody says what has changed, or the queue is full. */
static void drop_everything(struct mount *m)
{
	const struct opens *opens = &m->files.opens;
	uint64_t count = 0;

	m->mounted = false;		/* even the superblock may be another */
	m->cache_epoch++;
	m->look_count = 0;		/* a look has the epoch of its begin; a directory that is listed is open */
	reads_moved(m, 0, true);
	if (!m->invalidator.running)
		return;
	invalidator_everything_begin(&m->invalidator);
	for (uint64_t i = 0; i < OPENS_SLOTS && count < OPENS_MAX; i++)
		if (opens->slots[i].count)
			m->invalidator.open[count++] = opens->slots[i].ino;
	invalidator_everything_end(&m->invalidator, count);
}

/* False: the queue was full. */
static bool drop_change(struct mount *m, const struct annotation_change *change)
{
	struct invalidator *v = &m->invalidator;
	uint64_t offset = min_u64(change->offset, INT64_MAX);

	switch (change->kind) {
	case ANNOTATION_ADDED:
	case ANNOTATION_REMOVED:
		/* A directory's pages are its listing, of who had it open when this was the primary. */
		return invalidator_name(v, change->parent, change->name, change->name_len) &&
		       invalidator_inode(v, change->parent, 0, 0) && invalidator_inode(v, change->inode, -1, 0);
	case ANNOTATION_DATA:		/* 0 is all above: so is what ends where no file can */
		return invalidator_inode(v, change->inode, (int64_t)offset,
					 change->len > INT64_MAX - offset ? 0 : (int64_t)change->len);
	default:
		return invalidator_inode(v, change->inode, -1, 0);
	}
}

/* Answers that are on their way: see invalidator_settle(). False: the queue was full. */
static bool settle_looks(struct mount *m)
{
	while (m->look_count)
		if (!invalidator_settle(&m->invalidator, m->looks[--m->look_count]))
			return false;
	return true;
}

void mount_looked(struct mount *m, uint64_t directory)
{
	if (m->role == ROLE_PRIMARY)
		return;			/* all is dropped when that changes */
	for (unsigned i = 0; i < m->look_count; i++)
		if (m->looks[i] == directory)
			return;
	if (m->look_count == LOOKS_MAX && !settle_looks(m))
		drop_everything(m);
	m->looks[m->look_count++] = directory;
}

bool mount_applied(void *mount, const void *annotation, uint32_t len, uint64_t lsn)
{
	struct annotation_change change;
	struct mount *m = mount;
	bool room = annotation && annotation_check(annotation, len) && settle_looks(m);
	uint32_t at = 0;

	while (room && annotation_next(annotation, &at, &change)) {
		reads_moved(m, change.inode, false);
		room = drop_change(m, &change);
	}
	if (!room)
		drop_everything(m);
	return invalidator_mark(&m->invalidator, lsn);
}

static void mount_dropped(void *context, uint64_t lsn)
{
	volume_caches_dropped(((struct mount *)context)->v, lsn);
}

bool mount_cached(struct mount *m, uint64_t ino)
{
	struct mount_cached *slot = &m->cached[ino % CACHED_SLOTS];
	bool cached = slot->ino == ino && slot->epoch == m->cache_epoch;

	*slot = (struct mount_cached){ ino, m->cache_epoch };
	return cached;
}

/* ---- roles ---- */

void mount_role_changed(struct mount *m)
{
	struct volume_status status;
	bool demoted;

	volume_status(m->v, &status);
	demoted = m->role == ROLE_PRIMARY && status.role != ROLE_PRIMARY;
	m->role = status.role;
	m->mounted = false;
	if (demoted)
		drop_everything(m);
	m->refused_said = false;
	if (m->role == ROLE_PRIMARY && m->making == MAKING_NOTHING)
		m->making = MAKING_LOOK;
	mount_work_soon(m);		/* who waits to change something is refused now, or goes on */
}

static void mount_blocks_ready(struct blocks *blocks)
{
	mount_work_soon(blocks->context);
}

/* ---- leaving ---- */

void mount_stop_maybe(struct mount *m)
{
	if (!m->stopping || !m->idle || m->over || m->patience.in_flight || m->work.in_flight)
		return;
	m->over = true;
	m->stopped(m->stopped_context);
}

static void mount_patience_over(struct io_op *op, int64_t result)
{
	struct mount *m = container_of(op, struct mount, patience);

	if (result == 0 && m->place == PLACE_LEAVING) {
		say(m->io, IO_WARNING, "volume=%s directory %s: unmounting takes longer than %d s; who has it open "
		    "gets errors from now on", m->name, m->directory, PATIENCE_SECONDS);
		(void)umount2(m->directory, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	mount_stop_maybe(m);
}

static void mount_closed(void *context)
{
	struct mount *m = context;
	struct volume_call *call = m->leaving;

	fuse_channel_close(&m->channel);
	opens_clear(&m->files.opens);
	files_want_reclaim_all(&m->files);
	m->place = PLACE_NONE;
	m->directory[0] = 0;
	m->leaving = NULL;
	m->io->cancel(m->io, &m->patience);
	m->idle = m->stopping;
	if (call)
		call->done(call, 0);
	mount_stop_maybe(m);
}

static void mount_left(void *context, int result)
{
	struct volume_call *call;
	struct mount *m = context;

	if (result == 0) {
		volume_caches_dropped(m->v, UINT64_MAX);
		m->place = PLACE_CLOSING;
		m->channel.mounted = false;
		fuse_channel_stop(&m->channel, mount_closed, m);
		requests_refuse(m);
		return;
	}
	call = m->leaving;
	m->leaving = NULL;
	if (!m->stopping)
		m->place = PLACE_MOUNTED;
	if (call) {
		snprintf(call->why, WHY_BYTES, "is in use at %.200s: %s; see who with: fuser -vm %.200s; or use "
			 "--force", m->directory, strerror(-result), m->directory);
		call->done(call, result);
	}
}

static void mount_gone(void *context, int error)
{
	struct mount *m = context;

	if (m->place != PLACE_MOUNTED)
		return;
	say(m->io, IO_INFO, "volume=%s directory %s: was unmounted by somebody (%s)", m->name, m->directory,
	    strerror(error));
	m->place = PLACE_LEAVING;
	invalidator_leave(&m->invalidator, LEAVE_UNMOUNTED);
}

static void leave(struct mount *m, bool force)
{
	m->place = PLACE_LEAVING;
	if (force && !m->patience.in_flight)
		m->io->submit(m->io, &m->patience);
	invalidator_leave(&m->invalidator, force ? LEAVE_FORCED : LEAVE_PLAIN);
}

int mount_leave(struct mount *m, struct volume_call *call)
{
	if (m->place == PLACE_NONE) {
		snprintf(call->why, WHY_BYTES, "is not mounted here");
		return -ENOENT;
	}
	if (m->place != PLACE_MOUNTED) {
		snprintf(call->why, WHY_BYTES, "is being unmounted already");
		return -EALREADY;
	}
	m->leaving = call;
	leave(m, call->force);
	return 0;
}

/* ---- mounting ---- */

const char *mount_directory(const struct mount *m)
{
	return m->place == PLACE_MOUNTED ? m->directory : "";
}

int mount_at(struct mount *m, const char *directory, int fd, char why[WHY_BYTES])
{
	AUTO_CLOSE int mounted = fd;
	int res;

	if (m->place != PLACE_NONE || m->stopping) {
		snprintf(why, WHY_BYTES, "is mounted at %.200s already; unmount it first with: holdfast umount %s",
			 m->directory, m->name);
		return -EALREADY;
	}
	if (directory[0] != '/' || strlen(directory) >= sizeof m->directory) {
		snprintf(why, WHY_BYTES, "the directory \"%.200s\" is no absolute path", directory);
		return -EINVAL;
	}
	strcpy(m->directory, directory);
	res = fuse_channel_mount(&m->channel, m->directory, &fuse_mount_directory, TAKE_FD(mounted), why);
	if (res < 0) {
		m->directory[0] = 0;
		return res;
	}
	res = invalidator_start(&m->invalidator, m->channel.session, m->directory, fuse_mount_directory.flags,
				mount_left, mount_dropped, m);
	if (res < 0) {
		snprintf(why, WHY_BYTES, "there is no thread for the kernel's caches: %s", strerror(-res));
		(void)umount2(m->directory, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
		m->place = PLACE_CLOSING;
		m->channel.mounted = false;
		fuse_channel_stop(&m->channel, mount_closed, m);
		return res;
	}
	m->place = PLACE_MOUNTED;
	m->cache_epoch++;
	say(m->io, IO_INFO, "volume=%s directory %s: mounted, %s", m->name, m->directory,
	    m->role == ROLE_PRIMARY ? "writable" : "read-only until this node is primary");
	return 0;
}

/* ---- from new to free ---- */

static bool mount_has_room(void *context)
{
	return !list_empty(&((struct mount *)context)->free);
}

static int mount_allot(struct mount *m, struct ring *ring, uint64_t memory_bytes, char why[WHY_BYTES])
{
	const struct fuse_channel_config config = {
		.ring = ring, .operations = &operations, .operations_size = sizeof operations, .context = m,
		.ready = mount_has_room, .gone = mount_gone, .statx = true,
		/* Else each write() asks first whether there is a security.capability to take away. */
		.init_flags = FUSE_HANDLE_KILLPRIV_V2,
	};
	struct blocks *blocks = volume_blocks(m->v);
	int res;

	snprintf(why, WHY_BYTES, "there is no memory for the directory");
	if (fuse_channel_new(&m->channel, &config, memory_bytes) < 0 ||
	    invalidator_new(&m->invalidator, ring, OPENS_MAX) < 0)
		return -ENOMEM;
	m->requests = m->io->alloc(m->io, FUSE_REQUESTS * sizeof *m->requests, 0);
	m->cached = m->io->alloc(m->io, CACHED_SLOTS * sizeof *m->cached, 0);
	if (!m->requests || !m->cached)
		return -ENOMEM;
	for (unsigned i = 0; i < FUSE_REQUESTS; i++) {
		m->requests[i].m = m;
		list_init(&m->requests[i].reading);
		list_append(&m->free, &m->requests[i].link);
	}
	blocks->context = m;
	blocks->ready = mount_blocks_ready;
	res = files_new(&m->files, m->io, blocks, why);
	m->files_there = res == 0;
	return res;
}

int mount_new(struct mount **out, struct ring *ring, struct volume *v, uint64_t memory_bytes, char why[WHY_BYTES])
{
	struct io *io = ring_io(ring);
	struct mount *m = io->alloc(io, sizeof *m, 0);
	struct volume_status status;
	int res;

	if (!m) {
		snprintf(why, WHY_BYTES, "there is no memory for the directory");
		return -ENOMEM;
	}
	volume_status(v, &status);
	*m = (struct mount){ .io = io, .ring = ring, .v = v, .role = status.role,
			     .volume_bytes = status.geometry.volume_bytes };
	snprintf(m->name, sizeof m->name, "%s", status.name);
	list_init(&m->free);
	list_init(&m->waiting);
	list_init(&m->reading);
	m->work = (struct io_op){ .kind = IO_SOON, .done = mount_work };
	m->patience = (struct io_op){ .kind = IO_TIMER, .offset = PATIENCE_SECONDS * 1000000000ull,
				      .done = mount_patience_over };
	res = mount_allot(m, ring, memory_bytes, why);
	if (res < 0) {
		mount_free(m);
		return res;
	}
	*out = m;
	return 0;
}

static void mount_idle(void *context)
{
	struct mount *m = context;

	m->idle = true;
	mount_stop_maybe(m);
}

void mount_stop(struct mount *m, void (*done)(void *context), void *context)
{
	CHECK(!m->stopping);
	m->stopping = true;
	m->stopped = done;
	m->stopped_context = context;
	if (m->place == PLACE_NONE)
		fuse_channel_stop(&m->channel, mount_idle, m);	/* the volume may still be asked what it holds */
	else if (m->place != PLACE_CLOSING)
		leave(m, true);
}

void mount_free(struct mount *m)
{
	struct io *io;

	if (!m)
		return;
	io = m->io;
	CHECK(!m->work.in_flight && !m->patience.in_flight);
	fuse_channel_delete(&m->channel);
	invalidator_delete(&m->invalidator);
	if (m->files_there)
		files_delete(&m->files);
	io->free(io, m->requests);
	io->free(io, m->cached);
	io->free(io, m);
}
