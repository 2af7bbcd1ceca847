/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the mounted directory. In reading order:
 *
 *	mount.c			from new to free; mounting and leaving; roles; what secondaries are told
 *	mount_request.c		one request of the kernel, from its slot to its answer
 *	mount_names.c		operations on names, attributes and open files
 *	mount_bytes.c		writes, syncs, allocation, xattrs
 *	mount_read.c		reads: a plan, its pieces, and whether it still held when they were there
 *	mount_copy.c		copy_file_range()
 *	mount_format.c		the filesystem comes into being, or is found
 *	invalidator.c		the helper thread that speaks to the kernel's caches
 */
#ifndef HOLDFAST_MOUNT_PRIVATE_H
#define HOLDFAST_MOUNT_PRIVATE_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <limits.h>

#include "files.h"
#include "fuse_channel.h"
#include "invalidator.h"
#include "mount.h"
#include "say.h"

enum {
	READ_PIECES = 8,		/* of one read, that the volume is asked for at once */
	READ_TRIES = 8,			/* of a read whose plan is overtaken; then it is made of pages, in one turn */
	CACHED_SLOTS = 1 << 16,		/* inodes of which it is known that the kernel's pages are good: 1 MiB */
	LOOKS_MAX = 32,			/* directories whose names were told since the last record that was applied */
	GROUPS_MAX = 256,		/* supplementary ones of a caller that count: more than anybody has */
};

enum mount_answer { ANSWER_ERROR, ANSWER_ENTRY, ANSWER_ATTRIBUTES, ANSWER_STATX, ANSWER_OPEN, ANSWER_CREATE,
		    ANSWER_WRITE };

struct mount_piece {
	struct volume_request volume;
	struct mount_request *request;
	bool busy;
};

struct mount_request {
	struct mount *m;
	struct list link;		/* of free, waiting */
	fuse_req_t fuse;
	struct volume_request volume;	/* ACK or FLUSH */
	enum mount_answer answer;
	bool changed;			/* it has put a record into the log */
	bool durable;			/* it is answered when that is as durable as a flush makes it */
	bool soon;			/* waits for the next turn, not for blocks */
	uint64_t changed_before;	/* op_lsn() when this try began */
	uint64_t done;			/* of a read or write: bytes so far */
	uint64_t ino;
	struct attributes attributes;
	struct fuse_file_info info;
	/* How it goes on when what it waited for may be there. NULL: the kernel's message is taken apart anew. */
	void (*resume)(struct mount_request *r);
	struct fuse_buffer message_buffer;
	uint8_t *message;		/* kept, or NULL */
	uint64_t message_len;
	struct fuse_buffer data;	/* of what is read */

	uint64_t copy_ino, copy_offset;	/* of copy_file_range(): where to */

	/* A read, or what is copied. */
	struct list reading;		/* of mount.reading, while it has a plan */
	uint64_t offset, len;
	unsigned tries, piece_next, pieces_busy;
	bool moved;			/* a record touched what the plan was made of */
	bool no_access_time;
	int result;
	uint64_t piece_at;		/* where the next piece begins, from the plan's begin */
	struct file_plan plan;
	struct mount_piece pieces[READ_PIECES];
};

enum mount_place { PLACE_NONE, PLACE_MOUNTED, PLACE_LEAVING, PLACE_CLOSING };
enum mount_making { MAKING_NOTHING, MAKING_LOOK, MAKING_ASK, MAKING_FORMAT };

/* The kernel's pages of an inode, if it has any, are good since this epoch. */
struct mount_cached { uint64_t ino, epoch; };

struct mount {
	struct fuse_channel channel;
	struct io *io;
	struct ring *ring;
	struct volume *v;
	struct files files;
	bool files_there;		/* files_new() has been done */
	bool mounted;			/* the superblock was found good since blocks last changed unseen */
	bool refused_said;
	struct damage damage_said;	/* the last ones that the operator was told of */
	struct files_damage item_said;
	enum volume_role role;
	char name[NAME_BYTES];
	uint64_t volume_bytes;

	/* the filesystem's making */
	enum mount_making making;
	struct volume_request ask;
	struct fuse_buffer ask_buffer;

	/* requests */
	struct mount_request *requests;
	struct list free, waiting, reading;
	struct mount_request *again;	/* whose message is being taken apart anew */
	struct io_op work;
	uint32_t groups[GROUPS_MAX];
	struct mount_cached *cached;	/* CACHED_SLOTS, by inode */
	uint64_t cache_epoch;		/* counts the times that everything was dropped */
	bool epochs;			/* the kernel has epochs of names; else only a remount makes it forget */
	bool remounts;			/* we may do that */
	uint64_t looks[LOOKS_MAX];
	unsigned look_count;

	/* the mount */
	enum mount_place place;
	char directory[PATH_MAX];
	struct invalidator invalidator;
	struct volume_call *leaving;
	struct io_op patience;
	bool stopping, idle, over;	/* idle: no request is in flight, and none comes; over: stopped() was called */
	void (*stopped)(void *context);
	void *stopped_context;
};

/* ---- mount_request.c ---- */

enum { REQUEST_READS = 0, REQUEST_CHANGES = 1 };
/* The slot of this request; NULL: it was answered (the filesystem is not there, this is a secondary), or it waits. */
struct mount_request *request_begin(fuse_req_t fuse, unsigned kind);
/* Who asks. @groups: the supplementary ones count. Until the next call. */
struct caller request_caller(struct mount_request *r, bool groups);
/* Both: *caller is set unless it returns NULL. */
struct mount_request *request_begin_by(fuse_req_t fuse, unsigned kind, bool groups, struct caller *caller);
/* The kernel's message, while its operation runs; not of one that resumes. */
const void *request_message(const struct mount_request *r);
/* What an operation said: answered, acknowledged first, or tried again. */
void request_end(struct mount_request *r, int result);
/* It was answered otherwise. */
void request_give(struct mount_request *r);
/* Records up to here are as durable as a flush makes them; then the answer. */
void request_flush(struct mount_request *r);
/* There is nobody any more who waits for them. */
void requests_refuse(struct mount *m);
/* The queue of those that wait, once; and what is done beside. From the ring. */
void mount_work(struct io_op *op, int64_t result);
void mount_work_soon(struct mount *m);
struct stat mount_stat(const struct attributes *a);
struct fuse_entry_param mount_entry(const struct mount *m, const struct attributes *a);
/* For how long the kernel may believe a name, or an inode of type @mode. */
double mount_name_seconds(const struct mount *m);
double mount_inode_seconds(const struct mount *m, uint32_t mode);

/* ---- mount.c ---- */

/* Whether the kernel may keep what it has of the file's bytes when the file is opened now. */
bool mount_cached(struct mount *m, uint64_t ino);
/* An answer that tells inodes by their names in @directory is about to be given. */
void mount_looked(struct mount *m, uint64_t directory);
/* Tells who waits for the stop, when it is over. */
void mount_stop_maybe(struct mount *m);

/* ---- mount_format.c ---- */

/* 0: the filesystem is there. -EAGAIN: not known yet. -EIO. */
int mount_ready(struct mount *m);
/* The next step, when there is one. */
void mount_make(struct mount *m);

/* ---- mount_read.c ---- */

/* The bytes of a piece of the volume, from pages that are in memory now; the caller ends with blocks->abort(). -EAGAIN:
 * those that are not have all been asked for. */
MUST_CHECK int mount_piece_pages(struct mount *m, const struct file_piece *piece, uint8_t *to);

/* ---- operations ---- */

void mount_op_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name);
void mount_op_getattr(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info);
void mount_op_setattr(fuse_req_t fuse, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *info);
void mount_op_readlink(fuse_req_t fuse, fuse_ino_t ino);
void mount_op_mknod(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void mount_op_mkdir(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode);
void mount_op_unlink(fuse_req_t fuse, fuse_ino_t parent, const char *name);
void mount_op_rmdir(fuse_req_t fuse, fuse_ino_t parent, const char *name);
void mount_op_symlink(fuse_req_t fuse, const char *target, fuse_ino_t parent, const char *name);
void mount_op_rename(fuse_req_t fuse, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		     unsigned flags);
void mount_op_link(fuse_req_t fuse, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void mount_op_open(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info);
void mount_op_create(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *info);
void mount_op_release(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info);
void mount_op_opendir(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info);
void mount_op_readdir(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info);
void mount_op_readdirplus(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info);
void mount_op_statfs(fuse_req_t fuse, fuse_ino_t ino);

void mount_op_read(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info);

void mount_op_copy_file_range(fuse_req_t fuse, fuse_ino_t ino, off_t offset, struct fuse_file_info *info,
			      fuse_ino_t copy_ino, off_t copy_offset, struct fuse_file_info *copy_info, size_t len,
			      int flags);

void mount_op_write(fuse_req_t fuse, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
		    struct fuse_file_info *info);
void mount_op_fsync(fuse_req_t fuse, fuse_ino_t ino, int data_only, struct fuse_file_info *info);
void mount_op_fallocate(fuse_req_t fuse, fuse_ino_t ino, int mode, off_t offset, off_t len,
			struct fuse_file_info *info);
void mount_op_lseek(fuse_req_t fuse, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *info);
void mount_op_setxattr(fuse_req_t fuse, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void mount_op_getxattr(fuse_req_t fuse, fuse_ino_t ino, const char *name, size_t size);
void mount_op_listxattr(fuse_req_t fuse, fuse_ino_t ino, size_t size);
void mount_op_removexattr(fuse_req_t fuse, fuse_ino_t ino, const char *name);

#endif
