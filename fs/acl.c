/* SPDX-License-Identifier: Apache-2.0 */
#include "acl.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "xattr.h"

struct acl_entry { uint32_t id; uint16_t tag, perm; };
struct acl { unsigned count; struct acl_entry at[ACL_ENTRIES_MAX]; };

enum { NAMED = ACL_USER | ACL_GROUP };
#define NO_ID UINT32_MAX

/* ---- bytes ---- */

/* One of each class in this order, any number of named ones, a mask when there are any. */
static bool acl_good(const struct acl *acl)
{
	unsigned seen = 0;

	for (unsigned i = 0; i < acl->count; i++) {
		unsigned tag = acl->at[i].tag;

		if (acl->at[i].perm > 7 || tag == 0 || tag > ACL_OTHER || tag & (tag - 1))
			return false;
		/* Tags rise, and only named ones come again. */
		if (seen >= 2 * tag || (seen & tag && !(tag & NAMED)))
			return false;
		if (tag & NAMED && acl->at[i].id == NO_ID)
			return false;
		seen |= tag;
	}
	if ((seen & (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER)) != (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER))
		return false;
	return !(seen & NAMED) || seen & ACL_MASK;
}

/* *acl with count 0: none. */
static int acl_parse(const uint8_t *bytes, size_t len, struct acl *acl)
{
	le32 version;

	acl->count = 0;
	if (len == 0)
		return 0;
	if (len < sizeof version || (len - sizeof version) % sizeof(struct acl_entry_item))
		return -EINVAL;
	memcpy(&version, bytes, sizeof version);
	if (from_le32(version) != ACL_VERSION)
		return -EOPNOTSUPP;
	if ((len - sizeof version) / sizeof(struct acl_entry_item) > ACL_ENTRIES_MAX)
		return -ENOSPC;
	for (size_t at = sizeof version; at < len; at += sizeof(struct acl_entry_item)) {
		struct acl_entry_item item;

		memcpy(&item, bytes + at, sizeof item);
		acl->at[acl->count++] = (struct acl_entry){ from_le32(item.id), from_le16(item.tag),
							    from_le16(item.perm) };
	}
	return acl->count == 0 || acl_good(acl) ? 0 : -EINVAL;
}

static struct acl_entry *entry_of(struct acl *acl, unsigned tag)
{
	for (unsigned i = 0; i < acl->count; i++)
		if (acl->at[i].tag == tag)
			return &acl->at[i];
	return NULL;
}

/* The entry that the mode's group bits stand for. */
static struct acl_entry *group_class(struct acl *acl)
{
	struct acl_entry *mask = entry_of(acl, ACL_MASK);

	return mask ? mask : entry_of(acl, ACL_GROUP_OBJ);
}

static uint32_t acl_mode(struct acl *acl)
{
	return (uint32_t)entry_of(acl, ACL_USER_OBJ)->perm << 6 | (uint32_t)group_class(acl)->perm << 3 |
	       entry_of(acl, ACL_OTHER)->perm;
}

static const char *acl_name(bool is_default)
{
	return is_default ? ACL_DEFAULT_NAME : ACL_ACCESS_NAME;
}

static uint32_t acl_flag(bool is_default)
{
	return is_default ? INODE_ACL_DEFAULT : INODE_ACL_ACCESS;
}

const char *acl_judge(const struct inode *inode, bool is_default, const uint8_t *bytes, size_t len)
{
	struct acl acl;

	if (acl_parse(bytes, len, &acl) || acl.count == 0)
		return "its access control list is none";
	if (is_default)
		return S_ISDIR(inode->mode) ? NULL : "it has a default access control list and is no directory";
	return acl_mode(&acl) == (inode->mode & 0777) ? NULL : "its mode and its access control list do not agree";
}

/* One that the inode says it has. */
static int acl_load(struct files *f, const struct inode *inode, bool is_default, struct acl *acl)
{
	uint8_t bytes[ACL_BYTES_MAX];
	size_t len;
	int error = xattr_get(f, inode, acl_name(is_default), bytes, sizeof bytes, &len);

	if (error == -ENODATA || error == -ERANGE || (error == 0 && (acl_parse(bytes, len, acl) || acl->count == 0)))
		return files_damaged(f, inode->ino, "its access control list is none");
	return error;
}

static int acl_store(struct files *f, struct inode *inode, bool is_default, const struct acl *acl)
{
	le32 version = to_le32(ACL_VERSION);
	uint8_t bytes[ACL_BYTES_MAX];
	size_t len = sizeof version;

	memcpy(bytes, &version, sizeof version);
	for (unsigned i = 0; i < acl->count; i++, len += sizeof(struct acl_entry_item)) {
		const struct acl_entry *e = &acl->at[i];
		struct acl_entry_item item = { to_le16(e->tag), to_le16(e->perm),
					       to_le32(e->tag & NAMED ? e->id : NO_ID) };

		memcpy(bytes + len, &item, sizeof item);
	}
	inode->flags |= acl_flag(is_default);
	return xattr_put(f, inode, acl_name(is_default), bytes, len, 0);
}

static int acl_drop(struct files *f, struct inode *inode, bool is_default)
{
	if (!(inode->flags & acl_flag(is_default)))
		return 0;
	inode->flags &= ~acl_flag(is_default);
	return xattr_remove(f, inode, acl_name(is_default));
}

/* ---- what they say ---- */

/* It says no more than a mode. */
static bool acl_is_mode(struct acl *acl)
{
	return acl->count == 3;
}

int acl_may(struct files *f, const struct caller *caller, const struct inode *inode, unsigned mask)
{
	struct acl acl;
	bool group = false;
	unsigned limit;
	int error = acl_load(f, inode, false, &acl);

	if (error)
		return error;
	limit = entry_of(&acl, ACL_MASK) ? entry_of(&acl, ACL_MASK)->perm : 7;
	for (unsigned i = 0; i < acl.count; i++)
		if (acl.at[i].tag == ACL_USER && acl.at[i].id == caller->uid)
			return (acl.at[i].perm & limit & mask) == mask ? 0 : -EACCES;
	/* Of all groups that he is in, one must allow all of it. */
	for (unsigned i = 0; i < acl.count; i++) {
		const struct acl_entry *e = &acl.at[i];

		if ((e->tag == ACL_GROUP_OBJ && caller_in_group(caller, inode->gid)) ||
		    (e->tag == ACL_GROUP && caller_in_group(caller, e->id))) {
			if ((e->perm & limit & mask) == mask)
				return 0;
			group = true;
		}
	}
	return !group && (entry_of(&acl, ACL_OTHER)->perm & mask) == mask ? 0 : -EACCES;
}

/* ---- what they become ---- */

int acl_inherit(struct files *f, const struct inode *dir, struct inode *inode)
{
	struct acl acl;
	struct acl_entry *user, *group, *other;
	int error = acl_load(f, dir, true, &acl);

	if (error == 0 && S_ISDIR(inode->mode))
		error = acl_store(f, inode, true, &acl);
	if (error)
		return error;
	user = entry_of(&acl, ACL_USER_OBJ);
	group = group_class(&acl);
	other = entry_of(&acl, ACL_OTHER);
	user->perm &= inode->mode >> 6 & 7;
	group->perm &= inode->mode >> 3 & 7;
	other->perm &= inode->mode & 7;
	inode->mode = (inode->mode & ~(uint32_t)0777) | acl_mode(&acl);
	return acl_is_mode(&acl) ? 0 : acl_store(f, inode, false, &acl);
}

int acl_chmod(struct files *f, struct inode *inode)
{
	struct acl acl;
	int error;

	if (!(inode->flags & INODE_ACL_ACCESS))
		return 0;
	error = acl_load(f, inode, false, &acl);
	if (error)
		return error;
	entry_of(&acl, ACL_USER_OBJ)->perm = inode->mode >> 6 & 7;
	group_class(&acl)->perm = inode->mode >> 3 & 7;
	entry_of(&acl, ACL_OTHER)->perm = inode->mode & 7;
	return acl_store(f, inode, false, &acl);
}

int acl_set(struct files *f, const struct caller *caller, struct inode *inode, bool is_default, const void *value,
	    size_t len)
{
	struct acl acl;
	int error;

	if (S_ISLNK(inode->mode))
		return -EOPNOTSUPP;
	error = acl_parse(value, len, &acl);
	if (error)
		return error;
	if (is_default && !S_ISDIR(inode->mode))
		return acl.count ? -EACCES : 0;
	if (!inode_owned(caller, inode))
		return -EPERM;
	if (acl.count == 0)
		return acl_drop(f, inode, is_default);
	if (is_default)
		return acl_store(f, inode, true, &acl);
	inode->mode = (inode->mode & ~(uint32_t)0777) | acl_mode(&acl);
	/* The kernel leaves this to us, so it does not matter what it has checked. */
	if (caller->uid && !caller_in_group(caller, inode->gid))
		inode->mode &= ~(uint32_t)S_ISGID;
	return acl_is_mode(&acl) ? acl_drop(f, inode, false) : acl_store(f, inode, false, &acl);
}
