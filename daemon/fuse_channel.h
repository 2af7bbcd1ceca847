/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to the kernel's FUSE, served from the ring's own thread: what the loop front end and the mounted
 * directory have in common. It mounts, receives requests and hands them to libfuse, which calls the owner's operations;
 * it has the buffers, and says no to the kernel (back-pressure) while there is none left.
 *
 * A request, as the owner sees it:
 *	an operation of the owner is called	by libfuse; what came is in channel->receive until it returns
 *	fuse_channel_begin()			it is not answered at once
 *	fuse_channel_keep(), _reading()		what it needs of buffers: there always is one
 *	(answered by libfuse)
 *	fuse_channel_end()			the buffer goes back
 *
 * We mount and unmount by ourselves, and libfuse gets the open /dev/fuse: so the fd is non-blocking from the start, and
 * libfuse does not unmount a second time what was detached. Nothing on the ring's thread touches a path below the
 * mountpoint while it is mounted: we would wait for ourselves.
 */
#ifndef HOLDFAST_FUSE_CHANNEL_H
#define HOLDFAST_FUSE_CHANNEL_H

#include "fuse_mountpoint.h"
#include "ring.h"

enum {
	FUSE_RECEIVE_BYTES = FUSE_DATA_BYTES + 4096,	/* and headers, less than a page */
	FUSE_READ_BYTES = FUSE_DATA_BYTES + BLOCK_BYTES,	/* VOLUME_BUFFER_BYTES of an unaligned read */
	FUSE_SMALL_DATA_BYTES = 64 << 10,
	FUSE_SMALL_BYTES = FUSE_SMALL_DATA_BYTES + BLOCK_BYTES,
	FUSE_BACKGROUND = 256, FUSE_CONGESTION = 192,	/* requests that no thread waits for */
	FUSE_REQUESTS = 512,				/* as many again by threads that wait */
};
#define FUSE_MEMORY_BYTES_MIN (16ull << 20)

struct fuse_session;
struct fuse_lowlevel_ops;

struct fuse_pool {
	uint8_t *memory, **free;	/* free: the first free_count are not in use */
	unsigned free_count, count;
};

struct fuse_buffer { struct fuse_pool *pool; uint8_t *bytes; };	/* pool NULL: none */

/* What never changes. All of it must live as long as the channel. */
/* O_TMPFILE comes as a create() of this, which is no name. */
#define FUSE_CHANNEL_TMPFILE "/"

struct fuse_channel_config {
	struct ring *ring;
	const struct fuse_lowlevel_ops *operations;
	size_t operations_size;
	void *context;				/* of the operations, and of these: */
	bool (*ready)(void *context);		/* the owner has room for one more request */
	void (*gone)(void *context, int error);	/* somebody else unmounted it, or aborted the connection */
	bool statx;				/* getattr() heeds FUSE_STATX_MARK (fuse_statx.h) */
	uint32_t init_flags;			/* FUSE_* of INIT that libfuse does not know: said to a kernel that has
						 * them */
};

struct fuse_channel {
	struct fuse_channel_config config;
	struct io *io;
	struct fuse_session *session;	/* NULL: not mounted */
	int file;			/* of the ring: the session's fd again, to poll; -1 */
	bool mounted, stalled, stopping;
	struct io_op poll, soon;
	void (*stopped)(void *context);
	void *stopped_context;
	struct fuse_pool small, reads, receives;
	uint8_t *receive;		/* what the next request is received into; NULL when all are in use */
	uint64_t receive_len;
	unsigned in_flight;
};

/* Allots the buffers: @memory_bytes, at least FUSE_MEMORY_BYTES_MIN. -ENOMEM, and then it is to be deleted. */
MUST_CHECK int fuse_channel_new(struct fuse_channel *ch, const struct fuse_channel_config *config,
				uint64_t memory_bytes);
/* Serves a mount on directory @mountpoint: @fd of fuse_mountpoint_mount(), which is the channel's from now on, also
 * after an error; -1: it is mounted here (the directory is made when missing, a dead mount there is unmounted first).
 * -errno with @why; then it is not mounted, if we did that. */
MUST_CHECK int fuse_channel_mount(struct fuse_channel *ch, const char *mountpoint, const struct fuse_mount *kind,
				  int fd, char why[WHY_BYTES]);
/* No request comes any more; done(context) runs once, when none is in flight. Unmounting is the owner's: before, or
 * (with umount2() that does not wait for us) after it. */
void fuse_channel_stop(struct fuse_channel *ch, void (*done)(void *context), void *context);
/* After that, or a mount that failed: it may be mounted again. What the kernel still has open gets ENOTCONN. */
void fuse_channel_close(struct fuse_channel *ch);
void fuse_channel_delete(struct fuse_channel *ch);

void fuse_channel_begin(struct fuse_channel *ch);
/* A buffer for a read's data, BLOCK_BYTES-aligned, of @bytes at most FUSE_READ_BYTES. Once per request. */
struct fuse_buffer fuse_channel_reading(struct fuse_channel *ch, uint64_t bytes);
/* [@bytes, @bytes + @len) of what was just received stays: copied into a small buffer when there is one and it fits,
 * else the receive buffer is kept. *at: where the bytes are now. Once per request. */
struct fuse_buffer fuse_channel_keep(struct fuse_channel *ch, const void *bytes, uint64_t len, uint8_t **at);
/* Whether they lie in what was just received. */
bool fuse_channel_received(const struct fuse_channel *ch, const void *bytes, uint64_t len);
void fuse_channel_give(struct fuse_channel *ch, struct fuse_buffer *buffer);
/* The request is answered and its slot is free. What waited for it is received from the ring, not from here. */
void fuse_channel_end(struct fuse_channel *ch);

#endif
