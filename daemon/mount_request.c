/* SPDX-License-Identifier: Apache-2.0 */
/* A request of the kernel, from its slot to its answer:
 *
 *	request_begin()		a slot; refused at once where it cannot be
 *	(an operation of fs/)	runs whole, or says that it must run again
 *	request_end()		-EAGAIN: its message is kept, and it waits for blocks; OP_AGAIN: for the next turn
 *	request_acknowledged()	what it changed is acknowledged as a write of the volume would be
 *	request_answer()	exactly once, and only here
 *
 * An operation that has to run again keeps nothing of its first run but what it has done already: the kernel's message
 * is taken apart anew, by libfuse, and so becomes the same call. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fuse_statx.h"
#include "mount_private.h"

/* What the kernel knows it keeps: on the primary nobody else changes it, and a secondary's is dropped when it changes.
 * But when all is to be dropped, a directory that somebody stands in is not reached, nor is a name that is in use where
 * the kernel has no epochs: the invalidator waits until these have timed out. */
static const double cache_seconds = 86400;

double mount_name_seconds(const struct mount *m)
{
	return m->epochs || (m->role == ROLE_PRIMARY && m->remounts) ? cache_seconds : INVALIDATOR_SETTLES_SECONDS;
}

double mount_inode_seconds(const struct mount *m, uint32_t mode)
{
	return S_ISDIR(mode) ? INVALIDATOR_SETTLES_SECONDS : mount_name_seconds(m);
}

struct stat mount_stat(const struct attributes *a)
{
	return (struct stat){
		.st_ino = a->ino, .st_mode = a->mode, .st_nlink = a->nlink, .st_uid = a->uid, .st_gid = a->gid,
		/* What a directory takes is not counted by itself; programs take 0 for one that is not real. */
		.st_rdev = a->rdev, .st_size = S_ISDIR(a->mode) ? BLOCK_BYTES : (off_t)a->size,
		.st_blksize = BLOCK_BYTES,
		.st_blocks = (blkcnt_t)a->blocks,
		.st_atim = { a->atime.seconds, a->atime.nanoseconds },
		.st_mtim = { a->mtime.seconds, a->mtime.nanoseconds },
		.st_ctim = { a->ctime.seconds, a->ctime.nanoseconds },
	};
}

struct fuse_entry_param mount_entry(const struct mount *m, const struct attributes *a)
{
	return (struct fuse_entry_param){ .ino = a->ino, .generation = a->generation, .attr = mount_stat(a),
					  .attr_timeout = mount_inode_seconds(m, a->mode),
					  .entry_timeout = mount_name_seconds(m) };
}

/* ---- the slot ---- */

static struct mount_request *request_take(struct mount *m, fuse_req_t fuse)
{
	struct mount_request *r = m->again;

	if (r) {
		m->again = NULL;
		r->fuse = fuse;
		return r;
	}
	CHECK(!list_empty(&m->free));
	r = list_entry(list_first(&m->free), struct mount_request, link);
	list_remove(&r->link);
	fuse_channel_begin(&m->channel);
	r->fuse = fuse;
	r->answer = ANSWER_ERROR;
	r->changed = r->durable = r->soon = false;
	r->done = 0;
	r->resume = NULL;
	return r;
}

struct mount_request *request_begin(fuse_req_t fuse, unsigned kind)
{
	struct mount *m = fuse_req_userdata(fuse);
	struct mount_request *r = request_take(m, fuse);
	int error = mount_ready(m);

	if (!error && kind == REQUEST_CHANGES && m->role != ROLE_PRIMARY)
		error = -EROFS;
	r->changed_before = op_lsn(&m->files);
	if (!error)
		return r;
	request_end(r, error);
	return NULL;
}

struct caller request_caller(struct mount_request *r, bool groups)
{
	const struct fuse_ctx *context = fuse_req_ctx(r->fuse);
	uint64_t now = r->m->io->wall_ns(r->m->io);
	struct caller caller = {
		.uid = context->uid, .gid = context->gid, .umask = context->umask, .checked = true,
		.now = { (int64_t)(now / 1000000000), (uint32_t)(now % 1000000000) },
	};
	int count = 0;

	if (groups && caller.uid)
		count = fuse_req_getgroups(r->fuse, GROUPS_MAX, (gid_t *)r->m->groups);
	if (count > 0) {
		caller.groups = r->m->groups;
		caller.group_count = (unsigned)(count < GROUPS_MAX ? count : GROUPS_MAX);
	}
	return caller;
}

const void *request_message(const struct mount_request *r)
{
	CHECK(!r->resume);
	return r->message ? r->message : r->m->channel.receive;
}

struct mount_request *request_begin_by(fuse_req_t fuse, unsigned kind, bool groups, struct caller *caller)
{
	struct mount_request *r = request_begin(fuse, kind);

	if (r)
		*caller = request_caller(r, groups);
	return r;
}

void request_give(struct mount_request *r)
{
	struct mount *m = r->m;

	fuse_channel_give(&m->channel, &r->message_buffer);
	fuse_channel_give(&m->channel, &r->data);
	r->message = NULL;
	list_remove(&r->reading);
	list_append(&m->free, &r->link);
	fuse_channel_end(&m->channel);
	if (m->role == ROLE_PRIMARY && op_reclaim_wanted(&m->files))
		mount_work_soon(m);
}

/* ---- the answer ---- */

static struct fuse_statx_time statx_time(struct fs_time t)
{
	return (struct fuse_statx_time){ t.seconds, t.nanoseconds, 0 };
}

static int reply_statx(struct mount_request *r)
{
	const struct attributes *a = &r->attributes;
	struct stat st = mount_stat(a);
	struct fuse_statx_answer answer = {
		.valid_seconds = (uint64_t)mount_inode_seconds(r->m, a->mode), .mask = STATX_BASIC_STATS | STATX_BTIME,
		.block_bytes = BLOCK_BYTES, .nlink = a->nlink, .uid = a->uid, .gid = a->gid,
		.mode = (uint16_t)a->mode, .ino = a->ino, .size = (uint64_t)st.st_size, .blocks = a->blocks,
		.atime = statx_time(a->atime), .btime = statx_time(a->btime), .ctime = statx_time(a->ctime),
		.mtime = statx_time(a->mtime), .rdev_major = major(a->rdev), .rdev_minor = minor(a->rdev),
	};

	return fuse_reply_buf(r->fuse, (const char *)&answer, sizeof answer);
}

static int reply(struct mount_request *r)
{
	struct fuse_entry_param entry = mount_entry(r->m, &r->attributes);

	switch (r->answer) {
	case ANSWER_ENTRY: return fuse_reply_entry(r->fuse, &entry);
	case ANSWER_ATTRIBUTES: return fuse_reply_attr(r->fuse, &entry.attr, entry.attr_timeout);
	case ANSWER_STATX: return reply_statx(r);
	case ANSWER_OPEN: return fuse_reply_open(r->fuse, &r->info);
	case ANSWER_CREATE: return fuse_reply_create(r->fuse, &entry, &r->info);
	case ANSWER_WRITE: return fuse_reply_write(r->fuse, r->done);
	case ANSWER_ERROR: break;
	}
	return fuse_reply_err(r->fuse, 0);
}

static void request_answer(struct mount_request *r, int result)
{
	bool opened = result == 0 && (r->answer == ANSWER_OPEN || r->answer == ANSWER_CREATE);
	int sent = result < 0 ? fuse_reply_err(r->fuse, -result) : reply(r);

	/* The caller was interrupted: there will be no release. */
	if (opened && sent < 0)
		op_release(&r->m->files, r->ino);
	request_give(r);
}

static void request_acknowledged(struct volume_request *request, int result)
{
	struct mount_request *r = container_of(request, struct mount_request, volume);

	if (result < 0 && (r->answer == ANSWER_OPEN || r->answer == ANSWER_CREATE))
		op_release(&r->m->files, r->ino);
	request_answer(r, result < 0 ? result : 0);
}

static void request_submit(struct mount_request *r, enum volume_op op)
{
	r->volume = (struct volume_request){ .op = op, .done = request_acknowledged };
	volume_submit(r->m->v, &r->volume);
}

void request_flush(struct mount_request *r)
{
	request_submit(r, VOLUME_FLUSH);
}

/* ---- waiting ---- */

/* What libfuse made of the message goes; the kernel still waits for its answer. */
static void request_keep(struct mount_request *r)
{
	struct fuse_channel *ch = &r->m->channel;

	if (!r->resume) {
		if (!r->message) {
			r->message_len = ch->receive_len;
			r->message_buffer = fuse_channel_keep(ch, ch->receive, ch->receive_len, &r->message);
		}
		fuse_reply_none(r->fuse);
		r->fuse = NULL;
	}
	list_append(&r->m->waiting, &r->link);
}

/* What is damaged is said when it is found; who runs into the same again is not worth a line. */
static void damage_say(struct mount *m)
{
	const struct damage *block = &m->files.fs.transaction.damage;
	const struct files_damage *item = &m->files.damage;

	if (block->what && (block->what != m->damage_said.what || block->block != m->damage_said.block)) {
		m->damage_said = *block;
		say(m->io, IO_ERROR, "volume=%s filesystem: block %llu is damaged: %s; operations that need it fail",
		    m->name, (unsigned long long)block->block, block->what);
	}
	if (item->what && (item->what != m->item_said.what || item->ino != m->item_said.ino)) {
		m->item_said = *item;
		say(m->io, IO_ERROR, "volume=%s filesystem: inode %llu is damaged: %s; operations that need it fail",
		    m->name, (unsigned long long)item->ino, item->what);
	}
}

void request_end(struct mount_request *r, int result)
{
	struct mount *m = r->m;

	r->changed |= op_lsn(&m->files) != r->changed_before;
	if (result == -EAGAIN || result == OP_AGAIN) {
		r->soon = result == OP_AGAIN;
		request_keep(r);
		if (r->soon)
			mount_work_soon(m);
		return;
	}
	if (result == -EIO)
		damage_say(m);
	if (result == 0 && r->changed)
		request_submit(r, r->durable ? VOLUME_FLUSH : VOLUME_ACK);
	else
		request_answer(r, result);
}

static void request_again(struct mount_request *r)
{
	struct fuse_buf message = { .mem = r->message, .size = r->message_len };
	struct mount *m = r->m;

	if (r->resume) {
		r->resume(r);
		return;
	}
	m->again = r;
	fuse_session_process_buf(m->channel.session, &message);
	CHECK(m->again == NULL);
}

void requests_refuse(struct mount *m)
{
	while (!list_empty(&m->waiting)) {
		struct mount_request *r = list_entry(list_first(&m->waiting), struct mount_request, link);

		list_remove(&r->link);
		if (r->fuse)
			fuse_reply_err(r->fuse, ENOTCONN);
		request_give(r);
	}
}

/* A bounded part of what nobody can reach any more. */
static bool reclaim(struct mount *m)
{
	if (m->role != ROLE_PRIMARY || m->stopping || !m->mounted || !op_reclaim_wanted(&m->files))
		return false;
	return op_reclaim(&m->files) == OP_AGAIN;
}

void mount_work(struct io_op *op, int64_t result)
{
	struct mount *m = container_of(op, struct mount, work);
	struct list waiting;
	bool more = false;

	(void)result;
	mount_make(m);
	list_init(&waiting);
	while (!list_empty(&m->waiting)) {
		struct list *link = list_first(&m->waiting);

		list_remove(link);
		list_append(&waiting, link);
	}
	while (!list_empty(&waiting)) {
		struct list *link = list_first(&waiting);

		list_remove(link);
		request_again(list_entry(link, struct mount_request, link));
	}
	more = reclaim(m);
	if (more)
		mount_work_soon(m);
	mount_stop_maybe(m);
}

void mount_work_soon(struct mount *m)
{
	if (!m->work.in_flight && !m->over)
		m->io->submit(m->io, &m->work);
}
