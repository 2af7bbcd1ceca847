/* SPDX-License-Identifier: Apache-2.0 */
/* What the items of one inode say among themselves. They come in the order of their keys: the inode first, then names,
 * attributes, inline bytes, extents. Of an inode without a name a part is freed already, so it may lack anything. */
#include <string.h>
#include <sys/stat.h>

#include "fs_check_private.h"

static bool bytes_are(const char *bytes, uint32_t len, const char *text)
{
	return len == strlen(text) && memcmp(bytes, text, len) == 0;
}

/* ---- names that have one hash ---- */

/* Whether it is there already; then it is one more of them. */
static bool alike_again(struct check_alike *a, uint64_t hash, const char *name, uint32_t len)
{
	if (hash != a->hash)
		a->count = 0;
	a->hash = hash;
	for (uint32_t i = 0; i < a->count; i++)
		if (a->at[i].len == len && memcmp(a->at[i].name, name, len) == 0)
			return true;
	if (a->count < NAMES_ALIKE_MAX) {
		a->at[a->count].len = (uint8_t)len;
		memcpy(a->at[a->count++].name, name, len);
	}
	return false;
}

/* ---- items ---- */

static void odd(struct fs_check *c, const char *what)
{
	if (!c->inode.odd_items)
		fs_check_report(c, c->inode.ino, false, what);
	c->inode.odd_items = true;
}

static void inode_item(struct fs_check *c, const struct tree_item *item)
{
	struct check_inode *i = &c->inode;
	const char *wrong = inode_parse(item, &i->inode);

	if (item->key.at) {
		odd(c, "it has an item that there is not");
		return;
	}
	i->there = true;
	c->inode_last = i->ino;
	c->figures.inodes++;
	if (wrong) {
		i->bad = true;
		fs_check_report(c, i->ino, false, wrong);
		return;
	}
	c->figures.directories += S_ISDIR(i->inode.mode);
	if (i->ino == FS_ROOT_INODE && !S_ISDIR(i->inode.mode))
		fs_check_report(c, i->ino, false, "it is the root, and no directory");
	if (i->ino == FS_ROOT_INODE && i->inode.parent != FS_ROOT_INODE)
		fs_check_report_count(c, i->ino, false, "it is the root, and has a parent", i->inode.parent,
				      FS_ROOT_INODE);
}

static void name_item(struct fs_check *c, const struct tree_item *item)
{
	const struct name_item *n = (const struct name_item *)item->value;
	struct check_inode *i = &c->inode;
	const char *wrong = name_judge(item);
	uint64_t ino;

	i->names++;
	c->figures.names++;
	if (!S_ISDIR(i->inode.mode)) {
		odd(c, "it has names, and is no directory");
		return;
	}
	if (wrong) {
		fs_check_report(c, i->ino, false, wrong);
		return;
	}
	i->directories += n->type == S_IFDIR >> 12;
	ino = from_le64(n->inode);
	if (memchr(n->name, '/', n->name_len) || memchr(n->name, 0, n->name_len) ||
	    bytes_are(n->name, n->name_len, ".") || bytes_are(n->name, n->name_len, ".."))
		fs_check_report_name(c, i->ino, false, "no such name can be", n->name, n->name_len, ino);
	if (name_hash(c->f, &i->inode, n->name, n->name_len) != (item->key.at & ~0xffull))
		fs_check_report_name(c, i->ino, false, "it stands under another name's hash", n->name, n->name_len,
				     ino);
	if (alike_again(&i->alike, item->key.at >> 8, n->name, n->name_len))
		fs_check_report_name(c, i->ino, false, "it is there twice", n->name, n->name_len, ino);
}

static void xattr_end(struct fs_check *c)
{
	struct check_xattr *x = &c->inode.xattr;
	const char *wrong = NULL;

	if (x->left && c->inode.inode.nlink)
		fs_check_report(c, c->inode.ino, true, "an extended attribute lacks a piece");
	else if (x->acl && x->left == 0)
		wrong = acl_judge(&c->inode.inode, x->acl == INODE_ACL_DEFAULT, x->value, x->acl_len);
	if (wrong)
		fs_check_report(c, c->inode.ino, false, wrong);
	x->left = x->acl = 0;
}

static void xattr_value(struct check_xattr *x, const uint8_t *bytes, uint32_t len)
{
	uint32_t part = (uint32_t)min_u64(len, sizeof x->value - x->acl_len);

	if (!x->acl)
		return;
	memcpy(x->value + x->acl_len, bytes, part);
	x->acl_len += part;
	/* One that is longer is none: it is judged as one without entries. */
	if (part < len)
		x->acl_len = 0;
}

static void xattr_begin(struct fs_check *c, const struct tree_item *item)
{
	const struct xattr_head *head = (const struct xattr_head *)item->value;
	struct check_inode *i = &c->inode;
	const char *wrong = xattr_judge(item);
	struct check_xattr *x = &i->xattr;
	uint32_t part;

	xattr_end(c);
	if (wrong) {
		if (i->inode.nlink)
			fs_check_report(c, i->ino, false, wrong);
		i->xattr_bytes = UINT64_MAX / 2;	/* nobody knows */
		return;
	}
	part = item->len - (uint32_t)sizeof *head - head->name_len;
	i->xattr_bytes += head->name_len + 1u;
	if (memchr(head->name, 0, head->name_len) || head->reserved[0] || head->reserved[1] || head->reserved[2])
		fs_check_report_name(c, i->ino, false, "no such attribute can be", head->name, head->name_len, 0);
	if (xattr_hash(c->f, i->ino, head->name, head->name_len) != item->key.at >> 16 << 16)
		fs_check_report_name(c, i->ino, false, "the attribute stands under another one's hash", head->name,
				  head->name_len, 0);
	if (alike_again(&i->alike, item->key.at >> 16 | 1ull << 63, head->name, head->name_len))
		fs_check_report_name(c, i->ino, false, "the attribute is there twice", head->name, head->name_len, 0);
	x->at = item->key.at + 1;
	x->left = from_le32(head->value_len) - part;
	x->acl = bytes_are(head->name, head->name_len, ACL_ACCESS_NAME) ? INODE_ACL_ACCESS
	       : bytes_are(head->name, head->name_len, ACL_DEFAULT_NAME) ? INODE_ACL_DEFAULT : 0;
	x->acl_len = 0;
	i->acls |= x->acl;
	xattr_value(x, (const uint8_t *)head->name + head->name_len, part);
}

static void xattr_item(struct fs_check *c, const struct tree_item *item)
{
	struct check_xattr *x = &c->inode.xattr;

	if (x->left && item->key.at == x->at && item->len == min_u64(x->left, ITEM_VALUE_MAX)) {
		xattr_value(x, item->value, item->len);
		x->left -= item->len;
		x->at++;
	} else if (item->key.at & 0xff && c->inode.inode.nlink) {
		if (c->inode.xattr_bytes < UINT64_MAX / 2)
			fs_check_report(c, c->inode.ino, true,
					"a piece of an extended attribute is not as it should be");
		c->inode.xattr_bytes = UINT64_MAX / 2;
		x->left = x->acl = 0;
	} else if (!(item->key.at & 0xff)) {
		xattr_begin(c, item);
	}
}

static void inline_item(struct fs_check *c, const struct tree_item *item)
{
	struct check_inode *i = &c->inode;

	if (S_ISLNK(i->inode.mode)) {
		if (memchr(item->value, 0, item->len))
			fs_check_report(c, i->ino, false, "its target has a zero byte in it");
		if (item->key.at != i->inline_parts++)
			i->inline_bytes = UINT64_MAX / 2;
	} else if (!(i->inode.flags & INODE_INLINE) || item->key.at) {
		odd(c, "it has inline bytes, and should not");
	}
	i->inline_bytes += item->len;
}

/* What the audit has said of an extent is not said again. */
static void extent_item(struct fs_check *c, const struct tree_item *item)
{
	uint64_t last = file_blocks(c->inode.inode.size);
	struct check_inode *i = &c->inode;
	struct extent_run run;

	if (!S_ISREG(i->inode.mode) || i->inode.flags & INODE_INLINE) {
		odd(c, "it has extents, and should not");
		return;
	}
	if (!extent_parse(c->f, item, &run)) {
		i->extents_bad = true;
		if (extent_check(&c->f->fs.transaction.layout, item->value, item->len) && item->key.at < 1ull << 63)
			fs_check_report(c, i->ino, false, "an extent of it is behind the end of all files");
		return;
	}
	i->blocks += run.count;
	if (run.unwritten)
		return;
	if (extent_end(&run) > last && !(i->inode.flags & INODE_TRIM) && i->inode.nlink)
		fs_check_report_count(c, i->ino, false, "bytes are written behind its last block", extent_end(&run),
				      last);
	last--;
	if (i->inode.size % BLOCK_BYTES && run.first <= last && last < extent_end(&run) && i->inode.nlink) {
		CHECK(c->tail_count < CHECK_TAILS_MAX);
		c->tails[c->tail_count++] = (struct check_tail){ i->ino, run.block + (last - run.first),
								 i->inode.size % BLOCK_BYTES };
	}
}

void fs_check_inode_item(struct fs_check *c, const struct tree_item *item)
{
	struct check_inode *i = &c->inode;

	if (item->key.kind == ITEM_INODE) {
		inode_item(c, item);
		return;
	}
	if (i->bad)
		return;
	if (!i->there) {
		i->bad = true;
		fs_check_report(c, i->ino, true, "it has items, and is not there");
		return;
	}
	switch (item->key.kind) {
	case ITEM_NAME: name_item(c, item); break;
	case ITEM_XATTR: xattr_item(c, item); break;
	case ITEM_INLINE: inline_item(c, item); break;
	case ITEM_EXTENT: extent_item(c, item); break;
	default: odd(c, "it has an item that there is not");
	}
}

/* ---- sums ---- */

static void inline_sum(struct fs_check *c)
{
	const struct check_inode *i = &c->inode;

	if (S_ISLNK(i->inode.mode)) {
		if (i->inline_bytes != i->inode.size || i->inode.size == 0)
			fs_check_report(c, i->ino, true, "its target is not as long as it says");
	} else if (i->inode.flags & INODE_INLINE) {
		if (i->inline_bytes == 0)
			fs_check_report(c, i->ino, true, "it says that it has inline bytes, and has none");
		else if (i->inline_bytes > FILE_INLINE_MAX || i->inline_bytes > i->inode.size)
			fs_check_report_count(c, i->ino, false, "it has more inline bytes than it may", i->inline_bytes,
					   min_u64(i->inode.size, FILE_INLINE_MAX));
	}
}

static void acl_sum(struct fs_check *c)
{
	const struct check_inode *i = &c->inode;
	uint32_t says = i->inode.flags & (INODE_ACL_ACCESS | INODE_ACL_DEFAULT);

	if (i->acls & ~says)
		fs_check_report(c, i->ino, false, "it has an access control list, and does not say so");
	if (says & ~i->acls && i->xattr_bytes < UINT64_MAX / 2)
		fs_check_report(c, i->ino, true, "it says that it has an access control list, and has none");
}

static void directory_sum(struct fs_check *c)
{
	const struct check_inode *i = &c->inode;

	if (i->names != i->inode.size)
		fs_check_report_count(c, i->ino, true, "its size is not the number of its names", i->inode.size,
				      i->names);
	if (i->inode.nlink && i->inode.nlink != 2 + i->directories)
		fs_check_report_count(c, i->ino, true, "its link count is not 2 and its directories", i->inode.nlink,
				   2 + i->directories);
	if (i->inode.nlink == 0 && i->names)
		fs_check_report(c, i->ino, false, "it is removed, and has names");
}

void fs_check_inode_end(struct fs_check *c)
{
	const struct check_inode *i = &c->inode;

	if (!i->there || i->bad)
		return;
	xattr_end(c);
	if (S_ISDIR(i->inode.mode))
		directory_sum(c);
	if (i->blocks != i->inode.blocks && !i->extents_bad && !i->odd_items)
		fs_check_report_count(c, i->ino, true, "its count of blocks is not that of its extents",
				      i->inode.blocks, i->blocks);
	if (i->inode.nlink == 0)
		return;
	inline_sum(c);
	acl_sum(c);
	if (i->xattr_bytes != i->inode.xattr_bytes && i->xattr_bytes < UINT64_MAX / 2)
		fs_check_report_count(c, i->ino, true, "its count of bytes of attributes' names is wrong",
				      i->inode.xattr_bytes, i->xattr_bytes);
}

void fs_check_inode_begin(struct fs_check *c, uint64_t ino)
{
	struct check_inode *i = &c->inode;

	i->ino = ino;
	i->there = i->bad = i->extents_bad = i->odd_items = false;
	i->names = i->directories = i->blocks = i->xattr_bytes = i->inline_bytes = i->inline_parts = 0;
	i->acls = 0;
	i->inode = (struct inode){ 0 };
	i->xattr.left = i->xattr.acl = 0;
	i->alike.count = 0;
}
