/* SPDX-License-Identifier: Apache-2.0 */
/* Inodes of which something is still to be freed: those without a name, and files that were cut (INODE_TRIM). What is
 * large comes back in many records; an item in the tree says of which inodes, so that a crash in between loses nothing,
 * and op_reclaim() goes on with them. */
#ifndef HOLDFAST_FS_ORPHAN_H
#define HOLDFAST_FS_ORPHAN_H

#include "inode.h"

MUST_CHECK int orphan_add(struct files *f, uint64_t ino);
MUST_CHECK int orphan_remove(struct files *f, uint64_t ino);
/* The inode has lost its last name (nlink is 0): it is freed by this transaction if it is not open and not large, else
 * written, and an orphan. The annotation says which. What is open is looked at again when it is released and not
 * before: many files that are open without a name make each other no slower. */
MUST_CHECK int orphan_bury(struct files *f, struct inode *inode);

#endif
