/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a regular file. Those of a small one lie in the tree (inline); otherwise they are in its extents.
 *
 * Invariants:
 *	The bytes of a block behind the file's end are zeros, so that a file grows without looking at them: who makes it
 *	shorter puts zeros there, who writes a part of a new block makes the rest zeros.
 *	An inline item is as long as what was written of the file; what lies behind it, up to the size, is a hole.
 *	An extent behind the end is unwritten, but while INODE_TRIM says that it is still to be freed; until that is
 *	done
 *	the file does not grow. */
#ifndef HOLDFAST_FS_FILE_H
#define HOLDFAST_FS_FILE_H

#include "extent.h"

static inline uint64_t file_blocks(uint64_t bytes) { return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES; }

/* -EISDIR; -EINVAL: it has no bytes. */
MUST_CHECK int file_read_inode(struct files *f, uint64_t ino, struct inode *inode);
/* Another size, in @inode, which the caller writes. A size that is not more than before also gives back what was
 * allocated behind it. OP_AGAIN: the size holds, but a bounded part of that only is done. */
MUST_CHECK int file_resize(struct files *f, struct inode *inode, uint64_t size);
/* A bounded part of what INODE_TRIM says, in @inode, which the caller writes. Says OP_AGAIN, also when it is done. */
MUST_CHECK int file_trim(struct files *f, struct inode *inode);
/* The same, written: what an operation does instead when it finds INODE_TRIM in its way. */
MUST_CHECK int file_trim_first(struct files *f, struct inode *inode);
/* Inline bytes: at most FILE_INLINE_MAX. *len: 0 when there are none. */
MUST_CHECK int file_inline_read(struct files *f, const struct inode *inode, uint8_t out[FILE_INLINE_MAX],
				uint16_t *len);
/* Those that are inline become these. */
MUST_CHECK int file_inline_put(struct files *f, struct inode *inode, const uint8_t *bytes, uint16_t len);
/* They go to a block. */
MUST_CHECK int file_inline_out(struct files *f, struct inode *inode);
/* Bytes [from, to) of a block of the file are zeros; it is not freed by this transaction. */
MUST_CHECK int file_zero_part(struct files *f, const struct inode *inode, uint64_t block, uint32_t from, uint32_t to);

#endif
