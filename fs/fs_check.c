/* SPDX-License-Identifier: Apache-2.0 */
/* The stages of a check:
 *
 *	CHECK_BLOCKS	the audit
 *	CHECK_ITEMS	items from where the last window ended, until this one's table of inodes is full: what they say
 *			among themselves (fs_check_inode.c)
 *	CHECK_NAMES	all names and orphans of the tree, as far as they are of inodes of the window
 *	CHECK_LINKS	each inode of it: has it the names that it should have, is it rightly (no) orphan
 *	CHECK_WAYS	each directory of it: does a way lead from the root to it
 *			the next window, from CHECK_ITEMS on, or
 *	CHECK_COUNTS	of the superblock
 *	CHECK_PATHS	of inodes that are damaged: first one name of each, then those of its directories, up to the
 *			root (fs_check_path.c)
 */
#include "fs_check.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs_check_private.h"

enum { STEP_NODES = 32, STEP_ENTRIES = 512, STEP_WAYS = 32 };

/* ---- from new to free ---- */

static void blocks_damaged(struct audit_listener *listener, uint64_t inode, uint64_t block, uint64_t count,
			   const char *what)
{
	struct fs_check *c = container_of(listener, struct fs_check, blocks);
	struct fs_check_damage *damage = fs_check_report(c, inode, false, what);

	if (damage) {
		damage->block = block;
		damage->block_count = count;
	}
}

int fs_check_new(struct fs_check **out, struct files *f, uint64_t memory_bytes)
{
	struct io *io = f->fs.io;
	struct fs_check *c = io->alloc(io, sizeof *c, 0);
	uint64_t half = max_u64(memory_bytes, CHECK_MEMORY_MIN) / 2;

	if (!c)
		return -ENOMEM;
	c->f = f;
	c->blocks = (struct audit_listener){ .damaged = blocks_damaged };
	c->entry_max = (uint32_t)min_u64(half / sizeof *c->entries, UINT32_MAX);
	c->entries = io->alloc(io, c->entry_max * sizeof *c->entries, 0);
	if (!c->entries || audit_new(&c->audit, &f->fs, &c->blocks, half)) {
		fs_check_free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void fs_check_free(struct fs_check *c)
{
	struct io *io;

	if (!c)
		return;
	io = c->f->fs.io;
	audit_free(c->audit);
	fs_abort(&c->f->fs);
	io->free(io, c->entries);
	io->free(io, c);
}

const struct fs_check_figures *fs_check_figures(const struct fs_check *c)
{
	return &c->figures;
}

/* The audit is a third of it, as a rule. */
unsigned fs_check_progress(const struct fs_check *c)
{
	uint64_t windows = max_u64((c->inode_count + c->entry_max - 1) / c->entry_max, c->windows + 1);
	double of_walk = c->inode_next ? (double)c->at_inode / (double)c->inode_next : 0, of_window;

	if (c->stage == CHECK_DONE)
		return 1000;
	if (c->stage == CHECK_BLOCKS)
		return audit_progress(c->audit) / 3;
	if (c->stage >= CHECK_COUNTS)
		return 999;
	of_window = c->stage == CHECK_ITEMS ? of_walk / 2 : c->stage == CHECK_NAMES ? 0.5 + of_walk / 2 : 1;
	return (unsigned)min_u64(333 + (uint64_t)(666 * ((double)c->windows + of_window) / (double)windows), 999);
}

/* ---- reports ---- */

struct fs_check_damage *fs_check_report(struct fs_check *c, uint64_t ino, bool lack, const char *what)
{
	struct fs_check_damage *damage;

	if (lack && c->figures.incomplete)
		return NULL;
	c->figures.damages++;
	if (c->damage_count == CHECK_DAMAGES_MAX)
		return NULL;
	damage = &c->damages[c->damage_count++];
	*damage = (struct fs_check_damage){ .inode = ino, .what = what };
	return damage;
}

void fs_check_report_count(struct fs_check *c, uint64_t ino, bool lack, const char *what, uint64_t is, uint64_t should)
{
	struct fs_check_damage *damage = fs_check_report(c, ino, lack, what);

	if (!damage)
		return;
	damage->counted = true;
	damage->is = is;
	damage->should = should;
}

void fs_check_report_name(struct fs_check *c, uint64_t ino, bool lack, const char *what, const char *name, uint32_t len,
		       uint64_t other)
{
	struct fs_check_damage *damage = fs_check_report(c, ino, lack, what);

	if (!damage)
		return;
	damage->other = other;
	damage->name_len = (uint8_t)len;
	memcpy(damage->name, name, len);
}

const struct fs_check_damage *fs_check_damage(const struct fs_check *c, unsigned index)
{
	CHECK(index < c->damage_count);
	return &c->damages[index];
}

/* ---- items ---- */

static void entry_add(struct fs_check *c)
{
	const struct check_inode *i = &c->inode;
	struct check_entry *e = &c->entries[c->entry_count++];
	bool directory = S_ISDIR(i->inode.mode);

	*e = (struct check_entry){ .ino = i->ino, .parent = i->inode.parent, .nlink = i->inode.nlink,
				   .type = (uint8_t)(i->inode.mode >> 12), .flags = i->bad ? CHECK_BAD : 0 };
	e->missing = !directory ? i->inode.nlink : i->inode.nlink && i->ino != FS_ROOT_INODE;
	if (i->inode.nlink == 0 || i->inode.flags & INODE_TRIM)
		e->flags |= CHECK_ORPHAN_WANTED;
}

static void end_inode(struct fs_check *c)
{
	if (!c->inode.ino)
		return;
	fs_check_inode_end(c);
	if (c->inode.there)
		entry_add(c);
	c->inode.ino = 0;
}

static void items_leaf(struct fs_check *c, const struct node *n)
{
	for (uint32_t index = 0; index < node_count(n) && !c->stop; index++) {
		struct tree_item item = node_tree_item(n, index);

		if (item.key.inode < c->low)
			continue;
		c->at_inode = item.key.inode;
		if (item.key.inode == 0) {
			if (item.key.kind != ITEM_ORPHAN || item.len || item.key.at == 0)
				fs_check_report(c, 0, false, "there is an item that belongs to no inode");
			continue;
		}
		if (item.key.inode != c->inode.ino) {
			end_inode(c);
			c->stop = c->entry_count == c->entry_max;
			if (c->stop)
				c->high = item.key.inode;
			else
				fs_check_inode_begin(c, item.key.inode);
		}
		if (!c->stop)
			fs_check_inode_item(c, &item);
	}
}

/* What is in the file's last block behind its end. */
static int tail_read(struct fs_check *c, const struct check_tail *tail)
{
	struct damage *found = &c->f->fs.transaction.damage;
	struct fs_check_damage *damage = NULL;
	const uint8_t *page;
	int error;

	fs_abort(&c->f->fs);
	error = transaction_data_read(&c->f->fs.transaction, tail->block, &page);
	if (error == -ESTALE)
		c->figures.passed++;
	else if (error == -EIO)
		damage = fs_check_report(c, tail->ino, false, found->what);
	else if (error)
		return error;
	else if (page[tail->from] || memcmp(page + tail->from, page + tail->from + 1, BLOCK_BYTES - tail->from - 1u))
		damage = fs_check_report(c, tail->ino, false, "there are other bytes than zeros behind its end");
	if (damage) {
		damage->block = tail->block;
		damage->block_count = 1;
	}
	fs_abort(&c->f->fs);
	return 0;
}

/* ---- names ---- */

static bool in_window(const struct fs_check *c, uint64_t ino)
{
	return ino >= c->low && (c->high == 0 || ino < c->high);
}

/* NULL: it is not in the window. */
static struct check_entry *entry_find(struct fs_check *c, uint64_t ino)
{
	uint32_t low = 0, high = c->entry_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (c->entries[middle].ino < ino)
			low = middle + 1;
		else
			high = middle;
	}
	return low < c->entry_count && c->entries[low].ino == ino ? &c->entries[low] : NULL;
}

static void name_of_window(struct fs_check *c, const struct tree_item *item)
{
	const struct name_item *n = (const struct name_item *)item->value;
	uint64_t dir = item->key.inode, ino = from_le64(n->inode);
	struct check_entry *e = entry_find(c, ino);

	if (!e) {
		fs_check_report_name(c, dir, true, "it names an inode that is not there", n->name, n->name_len, ino);
		return;
	}
	e->missing--;
	if (e->flags & CHECK_BAD)
		return;
	if (n->type != e->type)
		fs_check_report_name(c, dir, false, "it says another type than its inode", n->name, n->name_len, ino);
	if (e->type == S_IFDIR >> 12 && e->parent != dir)
		fs_check_report_name(c, dir, false, "it names a directory whose parent is another one", n->name,
				  n->name_len, ino);
}

static void orphan_of_window(struct fs_check *c, uint64_t ino)
{
	struct check_entry *e = entry_find(c, ino);

	if (e)
		e->flags |= CHECK_ORPHAN;
	else
		fs_check_report(c, ino, true, "it is among the orphans, and is not there");
}

static void names_leaf(struct fs_check *c, const struct node *n)
{
	for (uint32_t index = 0; index < node_count(n); index++) {
		struct tree_item item = node_tree_item(n, index);

		c->at_inode = item.key.inode;
		if (item.key.inode == 0 && item.key.kind == ITEM_ORPHAN && in_window(c, item.key.at))
			orphan_of_window(c, item.key.at);
		else if (node_is_name(&item) && in_window(c, from_le64(((const struct name_item *)item.value)->inode)))
			name_of_window(c, &item);
	}
}

/* ---- links ---- */

static void links_of(struct fs_check *c, struct check_entry *e)
{
	uint8_t orphan = e->flags & (CHECK_ORPHAN | CHECK_ORPHAN_WANTED);

	if (e->flags & CHECK_BAD)
		return;
	if (e->type != S_IFDIR >> 12 && e->missing)
		fs_check_report_count(c, e->ino, e->missing > 0, "its link count is not the number of its names",
				   e->nlink, (uint64_t)((int64_t)e->nlink - e->missing));
	else if (e->missing > 0)
		fs_check_report(c, e->ino, true, "it is a directory without a name");
	else if (e->missing < 0)
		fs_check_report(c, e->ino, false, "it is a directory with more names than it may have");
	if (orphan == CHECK_ORPHAN_WANTED)
		fs_check_report(c, e->ino, true, "it should be among the orphans, and is not");
	else if (orphan == CHECK_ORPHAN)
		fs_check_report(c, e->ino, false, "it is among the orphans, and should not be");
}

static int check_links(struct fs_check *c)
{
	for (unsigned i = 0; i < STEP_ENTRIES && c->entry < c->entry_count; i++, c->entry++) {
		links_of(c, &c->entries[c->entry]);
		c->entries[c->entry].missing = 0;
	}
	return c->entry < c->entry_count;
}

/* ---- ways ---- */

/* One directory further up from that of entry c->entry. Those of earlier windows were looked at, and so were those that
 * another way has visited: whatever is wrong there was told. 1: further; 0: this one is done. */
static int way_up(struct fs_check *c)
{
	int64_t visitor = (int64_t)c->entry + 1;
	struct check_entry *e;
	struct inode inode;
	int error;

	if (c->way == FS_ROOT_INODE || c->way < c->low)
		return 0;
	if (in_window(c, c->way)) {
		e = entry_find(c, c->way);
		if (!e || e->flags & CHECK_BAD || e->type != S_IFDIR >> 12 || (e->missing && e->missing != visitor))
			return 0;
		if (e->missing == visitor) {
			fs_check_report(c, e->ino, false,
					"it is a directory above itself: no way leads to it from the root");
			return 0;
		}
		e->missing = visitor;
		c->way = e->parent;
		return 1;
	}
	error = inode_read(c->f, c->way, &inode);
	if (error == -ENOENT || error == -EIO || (error == 0 && !S_ISDIR(inode.mode))) {
		fs_abort(&c->f->fs);
		return 0;
	}
	if (error)
		return error;
	if (c->way == c->stone)		/* a ring: it is told in the window of its first directory */
		return 0;
	if (++c->steps == c->next_stone) {
		c->stone = c->way;
		c->next_stone *= 2;
	}
	c->way = inode.parent;
	return 1;
}

static int check_ways(struct fs_check *c)
{
	for (unsigned i = 0; i < STEP_WAYS;) {
		const struct check_entry *e;
		int result;

		if (c->entry == c->entry_count)
			return 0;
		e = &c->entries[c->entry];
		if (c->way == 0) {
			c->way = e->type == S_IFDIR >> 12 && e->nlink && !e->missing ? e->ino : FS_ROOT_INODE;
			c->stone = c->steps = 0;
			c->next_stone = 2;
		}
		i += !in_window(c, c->way);
		result = way_up(c);
		if (result < 0)
			return result;
		if (result == 0) {
			c->entry++;
			c->way = 0;
		}
	}
	return 1;
}

/* ---- counts ---- */

static int check_counts(struct fs_check *c)
{
	const struct superblock *s;
	int error = fs_superblock(&c->f->fs, &s);

	if (error)
		return error;
	c->figures.blocks_used = layout_usable_count(&c->f->fs.transaction.layout) - from_le64(s->free_count);
	if (from_le64(s->inode_count) != c->figures.inodes)
		fs_check_report_count(c, 0, true, "the superblock's count of inodes is wrong",
				      from_le64(s->inode_count), c->figures.inodes);
	if (c->inode_last >= from_le64(s->inode_next))
		fs_check_report_count(c, 0, false, "the superblock's next number of an inode was given already",
				   from_le64(s->inode_next), c->inode_last + 1);
	if (from_le64(s->compat) & ~FS_COMPAT || from_le64(s->ro_compat) & ~FS_RO_COMPAT)
		fs_check_report(c, 0, false, "the superblock has features that this program does not know: not all "
				"can be checked");
	return 0;
}

/* ---- stages ---- */

static void check_leaf(struct walk_listener *listener, uint64_t block, const struct node *n)
{
	struct fs_check *c = container_of(listener, struct fs_check, leaves);

	(void)block;
	switch (c->stage) {
	case CHECK_ITEMS: items_leaf(c, n); break;
	case CHECK_NAMES: names_leaf(c, n); break;
	default: fs_check_path_leaf(c, n);
	}
}

/* The stage's walk. 1: more; 0: it has seen enough. */
static int check_walk(struct fs_check *c)
{
	struct tree_key from = tree_key(c->stage == CHECK_ITEMS ? c->low : 0, ITEM_NONE, 0);
	int result = 1;

	if (!c->begun) {
		c->leaves = (struct walk_listener){ .leaf = check_leaf };
		walk_begin(&c->walk, &c->f->fs, &c->leaves, &from);
		c->begun = true;
		c->stop = false;
	}
	for (unsigned i = 0; i < STEP_NODES && result == 1; i++) {
		while (c->tail_count) {
			result = tail_read(c, &c->tails[c->tail_count - 1]);
			if (result)
				return result;
			c->tail_count--;
			i++;
		}
		result = c->stop ? 0 : walk_step(&c->walk);
	}
	return result;
}

static int check_blocks(struct fs_check *c)
{
	const struct audit_figures *found = audit_figures(c->audit);
	int result = audit_step(c->audit);
	const struct superblock *s;

	if (result)
		return result;
	result = fs_superblock(&c->f->fs, &s);
	if (result)
		return result;
	c->inode_next = from_le64(s->inode_next);
	c->inode_count = from_le64(s->inode_count);
	c->figures.nodes = found->nodes;
	c->figures.data_blocks = found->data_blocks;
	c->figures.incomplete = found->incomplete;
	return 0;
}

static int check_stage_step(struct fs_check *c)
{
	switch (c->stage) {
	case CHECK_BLOCKS: return check_blocks(c);
	case CHECK_LINKS: return check_links(c);
	case CHECK_WAYS: return check_ways(c);
	case CHECK_COUNTS: return check_counts(c);
	case CHECK_PATHS: return c->damage_count ? check_walk(c) : 0;
	case CHECK_PATHS_UP: return fs_check_path_up(c);
	default: return check_walk(c);
	}
}

/* What is due at the end of a stage; which one comes next. */
static enum check_stage check_stage_end(struct fs_check *c)
{
	c->begun = false;
	c->entry = 0;
	c->at_inode = 0;
	switch (c->stage) {
	case CHECK_ITEMS:
		end_inode(c);
		if (c->low <= FS_ROOT_INODE && !entry_find(c, FS_ROOT_INODE))
			fs_check_report(c, FS_ROOT_INODE, true, "it is the root, and is not there");
		break;
	case CHECK_WAYS:
		c->windows++;
		c->low = c->high;
		c->high = 0;
		c->entry_count = 0;
		return c->low ? CHECK_ITEMS : CHECK_COUNTS;
	default:
		break;
	}
	return c->stage + 1;
}

int fs_check_step(struct fs_check *c)
{
	int result;

	if (c->stage == CHECK_DONE)
		return 0;
	result = check_stage_step(c);
	fs_abort(&c->f->fs);
	if (result)
		return result;
	c->stage = check_stage_end(c);
	return c->stage != CHECK_DONE;
}
