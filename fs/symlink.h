/* SPDX-License-Identifier: Apache-2.0 */
/* The target of a symbolic link: in ITEM_INLINE, of which a long one has several, at = 0, 1 ... Nobody looks into it.
 * */
#ifndef HOLDFAST_FS_SYMLINK_H
#define HOLDFAST_FS_SYMLINK_H

#include "inode.h"

/* -ENOENT: empty; -ENAMETOOLONG. */
MUST_CHECK int symlink_check(const char *target);
/* Of a new inode. It gets its size. */
MUST_CHECK int symlink_put(struct files *f, struct inode *inode, const char *target);

#endif
