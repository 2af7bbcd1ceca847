/* SPDX-License-Identifier: Apache-2.0 */
/* FUSE_STATX of the kernel's protocol 7.39: the header that we build with is older, and libfuse does not know it. The
 * request begins as that of FUSE_GETATTR, so it becomes one, with a mark that the kernel does not use; its answer has
 * also when the file was made. */
#ifndef HOLDFAST_FUSE_STATX_H
#define HOLDFAST_FUSE_STATX_H

#include <stdint.h>

enum { FUSE_STATX_OPCODE = 52 };
#define FUSE_STATX_MARK (1u << 31)	/* in fuse_getattr_in.getattr_flags */

struct fuse_statx_time { int64_t seconds; uint32_t nanoseconds; int32_t reserved; };

struct fuse_statx_answer {
	uint64_t valid_seconds;
	uint32_t valid_nanoseconds, flags;
	uint64_t spare[2];
	uint32_t mask, block_bytes;		/* mask: STATX_* */
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare_mode;
	uint64_t ino, size, blocks, attributes_mask;
	struct fuse_statx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare_end[14];
};
_Static_assert(sizeof(struct fuse_statx_answer) == 288, "size on the wire");

#endif
