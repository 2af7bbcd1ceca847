/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes, and access control lists as POSIX 1003.1e (draft 17) has them. A list is kept as the bytes that
 * getxattr() shows. */
#include "files_model_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32, HEAD = 4, ENTRY = 8 };

static struct model_xattr *xattr_find(struct model_inode *i, const char *name)
{
	for (unsigned x = 0; x < i->xattr_count; x++)
		if (strcmp(i->xattrs[x].name, name) == 0)
			return &i->xattrs[x];
	return NULL;
}

static struct model_xattr *xattr_make(struct model_inode *i, const char *name)
{
	struct model_xattr *x = xattr_find(i, name);

	if (x)
		return x;
	i->xattrs = realloc(i->xattrs, (i->xattr_count + 1) * sizeof *x);
	x = &i->xattrs[i->xattr_count++];
	*x = (struct model_xattr){ .value = NULL };
	strcpy(x->name, name);
	return x;
}

static void xattr_put(struct model_inode *i, const char *name, const void *value, size_t len)
{
	struct model_xattr *x = xattr_make(i, name);

	x->value = realloc(x->value, len + 1);
	memcpy(x->value, value, len);
	x->len = len;
}

static void xattr_drop(struct model_inode *i, struct model_xattr *x)
{
	free(x->value);
	*x = i->xattrs[--i->xattr_count];
}

/* ---- access control lists ---- */

static unsigned acl_count(const struct model_xattr *x) { return (unsigned)(x->len - HEAD) / ENTRY; }
static uint8_t *acl_entry(const struct model_xattr *x, unsigned n) { return x->value + HEAD + ENTRY * n; }
static unsigned acl_tag(const uint8_t *e) { return e[0] | (unsigned)e[1] << 8; }
static unsigned acl_perm(const uint8_t *e) { return e[2] | (unsigned)e[3] << 8; }
static uint32_t acl_id(const uint8_t *e)
{
	return e[4] | (uint32_t)e[5] << 8 | (uint32_t)e[6] << 16 | (uint32_t)e[7] << 24;
}

/* The one with this tag; NULL: there is none. */
static uint8_t *acl_of(const struct model_xattr *x, unsigned tag)
{
	for (unsigned n = 0; n < acl_count(x); n++)
		if (acl_tag(acl_entry(x, n)) == tag)
			return acl_entry(x, n);
	return NULL;
}

/* What the group bits of the mode stand for. */
static uint8_t *acl_class(const struct model_xattr *x)
{
	return acl_of(x, MASK) ? acl_of(x, MASK) : acl_of(x, GROUP_OBJ);
}

static uint32_t acl_mode(const struct model_xattr *x)
{
	return acl_perm(acl_of(x, USER_OBJ)) << 6 | acl_perm(acl_class(x)) << 3 | acl_perm(acl_of(x, OTHER));
}

bool model_acl_may(const struct caller *c, const struct model_inode *i, unsigned mask, bool *allowed)
{
	const struct model_xattr *x = xattr_find((struct model_inode *)i, ACCESS);
	unsigned limit, groups = 0;

	if (!x)
		return false;
	limit = acl_of(x, MASK) ? acl_perm(acl_of(x, MASK)) : 7;
	for (unsigned n = 0; n < acl_count(x); n++) {
		const uint8_t *e = acl_entry(x, n);

		if (acl_tag(e) == USER && acl_id(e) == c->uid) {
			*allowed = (acl_perm(e) & limit & mask) == mask;
			return true;
		}
	}
	*allowed = false;
	for (unsigned n = 0; n < acl_count(x); n++) {
		const uint8_t *e = acl_entry(x, n);

		if (!(acl_tag(e) == GROUP_OBJ && model_in_group(c, i->a.gid)) &&
		    !(acl_tag(e) == GROUP && model_in_group(c, acl_id(e))))
			continue;
		groups++;
		*allowed |= (acl_perm(e) & limit & mask) == mask;
	}
	if (groups == 0)
		*allowed = (acl_perm(acl_of(x, OTHER)) & mask) == mask;
	return true;
}

bool model_acl_inherit(const struct model_inode *dir, struct model_inode *i)
{
	const struct model_xattr *from = xattr_find((struct model_inode *)dir, DEFAULT), *x;
	uint32_t mode = i->a.mode;

	if (!from)
		return false;
	if (S_ISDIR(mode))
		xattr_put(i, DEFAULT, from->value, from->len);
	xattr_put(i, ACCESS, from->value, from->len);
	x = xattr_find(i, ACCESS);
	acl_of(x, USER_OBJ)[2] &= mode >> 6 & 7;
	acl_class(x)[2] &= mode >> 3 & 7;
	acl_of(x, OTHER)[2] &= mode & 7;
	i->a.mode = (mode & ~0777u) | acl_mode(x);
	if (acl_count(x) == 3)
		xattr_drop(i, xattr_find(i, ACCESS));
	return true;
}

void model_acl_chmod(struct model_inode *i)
{
	const struct model_xattr *x = xattr_find(i, ACCESS);

	if (!x)
		return;
	acl_of(x, USER_OBJ)[2] = i->a.mode >> 6 & 7;
	acl_class(x)[2] = i->a.mode >> 3 & 7;
	acl_of(x, OTHER)[2] = i->a.mode & 7;
}

/* How many entries the value has; -errno: it is no list. */
static int acl_check(const uint8_t *value, size_t len)
{
	static const char tags[] = "uUgGmo";
	bool named = false, mask = false;
	char before = 0;

	if (len == 0)
		return 0;
	if (len < HEAD || (len - HEAD) % ENTRY)
		return -EINVAL;
	if (memcmp(value, "\2\0\0\0", HEAD))
		return -EOPNOTSUPP;
	if (len == HEAD)
		return 0;
	for (const uint8_t *e = value + HEAD; e < value + len; e += ENTRY) {
		unsigned tag = acl_tag(e);
		const char *after = before == 0 ? "u" : before == 'u' || before == 'U' ? "Ug"
				  : before == 'g' || before == 'G' ? "Gmo" : before == 'm' ? "o" : "";
		char now = 0;

		for (unsigned bit = 0; bit < 6; bit++)
			now = tag == 1u << bit ? tags[bit] : now;
		if (!now || !strchr(after, now) || acl_perm(e) > 7)
			return -EINVAL;
		if ((now == 'U' || now == 'G') && acl_id(e) == UINT32_MAX)
			return -EINVAL;
		named |= now == 'U' || now == 'G';
		mask |= now == 'm';
		before = now;
	}
	return before == 'o' && (mask || !named) ? (int)((len - HEAD) / ENTRY) : -EINVAL;
}

static void acl_put(struct model_inode *i, const char *name, const uint8_t *value, size_t len)
{
	xattr_put(i, name, value, len);
	for (unsigned n = 0; n < acl_count(xattr_find(i, name)); n++) {
		uint8_t *e = acl_entry(xattr_find(i, name), n);

		if (!(acl_tag(e) & (USER | GROUP)))
			memset(e + 4, 0xff, 4);		/* an id that means nothing */
	}
}

static int acl_set(const struct caller *c, struct model_inode *i, const char *name, const uint8_t *value, size_t len)
{
	bool is_default = strcmp(name, DEFAULT) == 0;
	struct model_xattr *there = xattr_find(i, name);
	int count = acl_check(value, len);

	if (S_ISLNK(i->a.mode))
		return -EOPNOTSUPP;
	if (count < 0)
		return count;
	if (is_default && !S_ISDIR(i->a.mode)) {
		if (count)
			return -EACCES;
	} else if (!model_owns(c, i)) {
		return -EPERM;
	} else if (count == 0) {
		if (there)
			xattr_drop(i, there);
	} else {
		acl_put(i, name, value, len);
	}
	if (count && !is_default) {
		i->a.mode = (i->a.mode & ~0777u) | acl_mode(xattr_find(i, name));
		if (c->uid && !model_in_group(c, i->a.gid))
			i->a.mode &= ~(uint32_t)S_ISGID;
		if (count == 3)			/* it says no more than the mode */
			xattr_drop(i, xattr_find(i, name));
	}
	i->a.ctime = c->now;
	return 0;
}

static bool is_acl(const char *name) { return strcmp(name, ACCESS) == 0 || strcmp(name, DEFAULT) == 0; }

/* ---- setting ---- */

static int may_setxattr(const struct caller *c, const struct model_inode *i, const char *name)
{
	static const char *const spaces[] = { "user.", "trusted.", "security." };
	bool user = strncmp(name, "user.", 5) == 0, known = false;

	if (!*name || strlen(name) > 255)
		return -ERANGE;
	for (unsigned s = 0; s < 3; s++) {
		if (strcmp(name, spaces[s]) == 0)
			return -EINVAL;
		known |= strncmp(name, spaces[s], strlen(spaces[s])) == 0;
	}
	if (is_acl(name))
		return 0;
	if (!known)
		return -EOPNOTSUPP;
	if (user && !S_ISREG(i->a.mode) && !S_ISDIR(i->a.mode))
		return -EPERM;
	if (user && S_ISDIR(i->a.mode) && i->a.mode & S_ISVTX && !model_owns(c, i))
		return -EPERM;
	if (user)
		return model_may(c, i, 2) ? 0 : -EACCES;
	return c->uid && !c->checked ? -EPERM : 0;
}

int model_setxattr(struct model *m, const struct caller *c, uint64_t ino, const char *name, const void *value,
		   size_t len, int flags)
{
	struct model_inode *i = model_inode(m, ino);
	struct model_xattr *x;
	int error;

	if (!i)
		return -ENOENT;
	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	error = may_setxattr(c, i, name);
	if (error)
		return error;
	if (len > 65536)
		return -E2BIG;
	if (is_acl(name))
		return acl_set(c, i, name, value, len);
	x = xattr_find(i, name);
	if (x && flags & XATTR_CREATE)
		return -EEXIST;
	if (!x && flags & XATTR_REPLACE)
		return -ENODATA;
	xattr_put(i, name, value, len);
	i->a.ctime = c->now;
	return 0;
}

int model_removexattr(struct model *m, const struct caller *c, uint64_t ino, const char *name)
{
	struct model_inode *i = model_inode(m, ino);
	struct model_xattr *x;
	int error;

	if (!i)
		return -ENOENT;
	error = may_setxattr(c, i, name);
	if (error)
		return error;
	if (is_acl(name))
		return acl_set(c, i, name, NULL, 0);
	x = xattr_find(i, name);
	if (!x)
		return -ENODATA;
	xattr_drop(i, x);
	i->a.ctime = c->now;
	return 0;
}
