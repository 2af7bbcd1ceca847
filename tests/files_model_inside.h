/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the model: files_model.c has inodes, names and bytes, files_model_xattr.c attributes and ACLs. */
#ifndef HOLDFAST_TESTS_FILES_MODEL_INSIDE_H
#define HOLDFAST_TESTS_FILES_MODEL_INSIDE_H

#include "files_model.h"

bool model_in_group(const struct caller *c, uint32_t gid);
bool model_may(const struct caller *c, const struct model_inode *i, unsigned mask);
bool model_owns(const struct caller *c, const struct model_inode *i);

/* Whether it has an access ACL; then *allowed says whether that lets @c, who is neither root nor the owner, do it. */
bool model_acl_may(const struct caller *c, const struct model_inode *i, unsigned mask, bool *allowed);
/* A new inode in @dir: true when a default ACL has made its mode (and ACLs), so that the umask does not count. */
bool model_acl_inherit(const struct model_inode *dir, struct model_inode *i);
/* The mode was set. */
void model_acl_chmod(struct model_inode *i);

#endif
