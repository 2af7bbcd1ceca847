/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on names, attributes, and what is open. An inode's number is the kernel's number for it, so there is
 * nothing to count, and nothing to forget. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fuse_statx.h"
#include "mount_private.h"

/* ---- looking ---- */

void mount_op_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);
	struct fuse_entry_param nothing = { 0 };
	struct caller caller;
	int error;

	if (!r)
		return;
	caller = request_caller(r, false);
	r->answer = ANSWER_ENTRY;
	error = op_lookup(&r->m->files, &caller, parent, name, &r->attributes);
	if (!error)
		mount_looked(r->m, parent);
	if (error != -ENOENT || op_getattr(&r->m->files, parent, &r->attributes) != 0) {
		request_end(r, error);
		return;
	}
	/* The directory is there, the name is not: that too is worth remembering. */
	nothing.entry_timeout = mount_name_seconds(r->m);
	fuse_reply_entry(r->fuse, &nothing);
	request_give(r);
}

void mount_op_getattr(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);
	const struct fuse_in_header *header;
	const struct fuse_getattr_in *getattr;

	(void)info;
	if (!r)
		return;
	header = request_message(r);
	getattr = (const void *)(header + 1);
	r->answer = getattr->getattr_flags & FUSE_STATX_MARK ? ANSWER_STATX : ANSWER_ATTRIBUTES;
	request_end(r, op_getattr(&r->m->files, ino, &r->attributes));
}

void mount_op_readlink(fuse_req_t fuse, fuse_ino_t ino)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);
	char target[SYMLINK_MAX_BYTES + 1];
	uint32_t len = 0;
	int error;

	if (!r)
		return;
	error = op_readlink(&r->m->files, ino, target, &len);
	if (error) {
		request_end(r, error);
		return;
	}
	target[len] = 0;
	fuse_reply_readlink(r->fuse, target);
	request_give(r);
}

void mount_op_statfs(fuse_req_t fuse, fuse_ino_t ino)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);
	struct statfs_figures figures;
	struct statvfs st = { .f_bsize = BLOCK_BYTES, .f_frsize = BLOCK_BYTES, .f_namemax = NAME_MAX_BYTES };
	int error;

	(void)ino;
	if (!r)
		return;
	error = op_statfs(&r->m->files, &figures);
	if (error) {
		request_end(r, error);
		return;
	}
	st.f_blocks = figures.blocks;
	st.f_bfree = figures.free;
	st.f_bavail = figures.available;
	st.f_files = figures.inodes + figures.inodes_free;
	st.f_ffree = st.f_favail = figures.inodes_free;
	st.f_flag = r->m->role == ROLE_PRIMARY ? 0 : ST_RDONLY;
	fuse_reply_statfs(r->fuse, &st);
	request_give(r);
}

/* ---- attributes ---- */

static struct fs_time time_of(struct timespec t)
{
	return (struct fs_time){ t.tv_sec, (uint32_t)t.tv_nsec };
}

static struct attributes_set set_of(const struct stat *st, int to_set, bool by_handle)
{
	static const struct { int fuse; unsigned set; } bits[] = {
		{ FUSE_SET_ATTR_MODE, SET_MODE }, { FUSE_SET_ATTR_UID, SET_UID }, { FUSE_SET_ATTR_GID, SET_GID },
		{ FUSE_SET_ATTR_SIZE, SET_SIZE }, { FUSE_SET_ATTR_ATIME, SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, SET_MTIME }, { FUSE_SET_ATTR_ATIME_NOW, SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, SET_MTIME_NOW }, { FUSE_SET_ATTR_CTIME, SET_CTIME },
	};
	struct attributes_set set = {
		.valid = by_handle ? SET_BY_HANDLE : 0, .mode = st->st_mode & 07777, .uid = st->st_uid,
		.gid = st->st_gid, .size = (uint64_t)st->st_size, .atime = time_of(st->st_atim),
		.mtime = time_of(st->st_mtim), .ctime = time_of(st->st_ctim),
	};

	for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
		set.valid |= to_set & bits[i].fuse ? bits[i].set : 0;
	return set;
}

/* When it is not in memory the operation itself says so, and all is asked anew. */
static bool has_privileges(struct mount *m, uint64_t ino)
{
	struct attributes a;

	return op_getattr(&m->files, ino, &a) == 0 && S_ISREG(a.mode) && a.mode & (S_ISUID | S_ISGID);
}

/* Where the kernel leaves it to us (FUSE_HANDLE_KILLPRIV_V2) to take setuid and setgid away, it says so: with a cut in
 * a flag that libfuse does not pass on, otherwise by asking for nothing else, before it allocates. But so does a
 * chown() that changes nothing, which anybody may call: only who may write the file may do that. 1, 0 or -EAGAIN. */
static int kills_privileges(struct mount_request *r, uint64_t ino, const struct attributes_set *set)
{
	const struct fuse_in_header *header = request_message(r);
	const struct fuse_setattr_in *setattr = (const void *)(header + 1);
	struct caller caller = request_caller(r, true);
	bool asked = setattr->valid & FATTR_KILL_SUIDGID;
	int error;

	if ((!asked && set->valid & ~(unsigned)SET_BY_HANDLE) || !has_privileges(r->m, ino))
		return 0;
	caller.checked = false;
	error = asked ? 0 : op_access(&r->m->files, &caller, ino, MAY_WRITE);
	return error == -EAGAIN ? error : error == 0;
}

void mount_op_setattr(fuse_req_t fuse, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *info)
{
	struct mount_request *r = request_begin(fuse, REQUEST_CHANGES);
	struct attributes_set set = set_of(st, to_set, info != NULL);
	struct caller caller;
	int kills;

	if (!r)
		return;
	r->answer = ANSWER_ATTRIBUTES;
	kills = kills_privileges(r, ino, &set);
	if (kills < 0) {
		request_end(r, kills);
		return;
	}
	if (kills)
		set.valid |= SET_KILL_PRIVILEGES;
	caller = request_caller(r, false);
	request_end(r, op_setattr(&r->m->files, &caller, ino, &set, &r->attributes));
}

/* ---- names ---- */

void mount_op_mknod(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, true, &caller);

	if (!r)
		return;
	r->answer = ANSWER_ENTRY;
	request_end(r, op_mknod(&r->m->files, &caller, parent, name, mode, rdev, &r->attributes));
}

void mount_op_mkdir(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, true, &caller);

	if (!r)
		return;
	r->answer = ANSWER_ENTRY;
	request_end(r, op_mkdir(&r->m->files, &caller, parent, name, mode, &r->attributes));
}

void mount_op_symlink(fuse_req_t fuse, const char *target, fuse_ino_t parent, const char *name)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, false, &caller);

	if (!r)
		return;
	r->answer = ANSWER_ENTRY;
	request_end(r, op_symlink(&r->m->files, &caller, parent, name, target, &r->attributes));
}

void mount_op_link(fuse_req_t fuse, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, false, &caller);

	if (!r)
		return;
	r->answer = ANSWER_ENTRY;
	request_end(r, op_link(&r->m->files, &caller, ino, parent, name, &r->attributes));
}

void mount_op_unlink(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, false, &caller);

	if (!r)
		return;
	request_end(r, op_unlink(&r->m->files, &caller, parent, name));
}

void mount_op_rmdir(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, false, &caller);

	if (!r)
		return;
	request_end(r, op_rmdir(&r->m->files, &caller, parent, name));
}

void mount_op_rename(fuse_req_t fuse, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		     unsigned flags)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, false, &caller);

	if (!r)
		return;
	request_end(r, op_rename(&r->m->files, &caller, parent, name, new_parent, new_name, flags));
}

/* ---- open ---- */

/* What the kernel has of the file's bytes stays if it is good: nobody changes them without its knowledge. */
static void opened(struct mount_request *r, const struct fuse_file_info *info, enum mount_answer answer, uint64_t ino)
{
	r->answer = answer;
	r->ino = ino;
	r->info = *info;
	r->info.keep_cache = mount_cached(r->m, ino);
	r->info.noflush = 1;
}

static bool cuts_privileges(const struct mount_request *r, const struct fuse_file_info *info)
{
	const struct fuse_in_header *header = request_message(r);
	const struct fuse_open_in *open = (const void *)(header + 1);

	return info->flags & O_TRUNC && open->open_flags & FUSE_OPEN_KILL_SUIDGID;
}

void mount_op_open(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
	static const struct attributes_set kill = { .valid = SET_KILL_PRIVILEGES };
	bool changes = (info->flags & O_ACCMODE) != O_RDONLY || info->flags & O_TRUNC;
	int error;
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, changes ? REQUEST_CHANGES : REQUEST_READS, false, &caller);

	if (!r)
		return;
	opened(r, info, ANSWER_OPEN, ino);
	if (cuts_privileges(r, info) && has_privileges(r->m, ino)) {
		error = op_setattr(&r->m->files, &caller, ino, &kill, &r->attributes);
		if (error) {
			request_end(r, error);
			return;
		}
	}
	request_end(r, op_open(&r->m->files, &caller, ino, info->flags, &r->attributes));
}

void mount_op_create(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *info)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, true, &caller);
	int error;

	if (!r)
		return;
	if (strcmp(name, FUSE_CHANNEL_TMPFILE) == 0)
		error = op_tmpfile(&r->m->files, &caller, parent, mode, &r->attributes);
	else
		error = op_create(&r->m->files, &caller, parent, name, mode, info->flags, &r->attributes);
	if (!error)
		opened(r, info, ANSWER_CREATE, r->attributes.ino);
	request_end(r, error);
}

void mount_op_release(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
	struct mount *m = fuse_req_userdata(fuse);

	(void)info;
	op_release(&m->files, ino);
	fuse_reply_err(fuse, 0);
	if (m->role == ROLE_PRIMARY && op_reclaim_wanted(&m->files))
		mount_work_soon(m);
}

void mount_op_opendir(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_READS, false, &caller);

	if (!r)
		return;
	r->answer = ANSWER_OPEN;
	r->ino = ino;
	r->info = *info;
	/* Each listing is asked for (no cache_readdir): when several programs list a directory that others change, the
	 * kernel's copy has been seen to lack names, also on the primary, where it makes every change itself. */
	request_end(r, op_open(&r->m->files, &caller, ino, O_RDONLY | O_DIRECTORY, &r->attributes));
}

/* ---- directories ---- */

struct listing {
	struct mount_request *request;
	char *bytes;
	size_t len, room;
	bool plus;
};

static bool listing_take(void *context, const struct directory_entry *e)
{
	struct listing *l = context;
	fuse_req_t fuse = l->request->fuse;
	char *at = l->bytes + l->len;
	size_t room = l->room - l->len, more;
	bool dots = e->name[0] == '.' && (e->name_len == 1 || (e->name_len == 2 && e->name[1] == '.'));

	if (l->plus) {
		struct fuse_entry_param entry = mount_entry(l->request->m, &e->attributes);

		if (dots)
			entry = (struct fuse_entry_param){ 0 };
		entry.attr.st_ino = e->ino;
		entry.attr.st_mode = dots ? e->type : e->attributes.mode;
		more = fuse_add_direntry_plus(fuse, at, room, e->name, &entry, (off_t)e->cookie);
	} else {
		struct stat st = { .st_ino = e->ino, .st_mode = e->type };

		more = fuse_add_direntry(fuse, at, room, e->name, &st, (off_t)e->cookie);
	}
	if (more > room)
		return false;
	l->len += more;
	return true;
}

static void list_directory(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset, bool plus)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);
	struct listing l = { .request = r, .plus = plus, .room = size < FUSE_DATA_BYTES ? size : FUSE_DATA_BYTES };
	int error;

	if (!r)
		return;
	if (!r->data.pool)
		r->data = fuse_channel_reading(&r->m->channel, l.room);
	l.bytes = (char *)r->data.bytes;
	error = op_readdir(&r->m->files, ino, (uint64_t)offset, plus, listing_take, &l);
	if (!error && plus)
		mount_looked(r->m, ino);
	if (error) {
		request_end(r, error);
		return;
	}
	fuse_reply_buf(r->fuse, l.bytes, l.len);
	request_give(r);
}

void mount_op_readdir(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info)
{
	(void)info;
	list_directory(fuse, ino, size, offset, false);
}

void mount_op_readdirplus(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info)
{
	(void)info;
	list_directory(fuse, ino, size, offset, true);
}
