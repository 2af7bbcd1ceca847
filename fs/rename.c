/* SPDX-License-Identifier: Apache-2.0 */
/* rename: one name goes, another one comes, and what that meant goes; or two names change places. All in one record.
 *
 *	find()		both places, and what is there
 *	may_rename()	what is refused, in the order in which Linux looks
 *	replace(), exchange()
 */
#include <errno.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "directory.h"
#include "orphan.h"

struct renaming {
	unsigned flags;
	struct inode dirs[2], *from, *to;	/* two are one when it stays in its directory */
	struct place old, new;
	struct inode inode, there;		/* at the old name; at the new one if new.ino */
};

static int find(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint64_t new_parent,
		const char *new_name, struct renaming *r)
{
	int error = inode_read_directory(f, parent, &r->dirs[0]);

	r->from = r->to = &r->dirs[0];
	if (error == 0)
		error = place_find(f, caller, r->from, name, &r->old);
	if (error == 0 && new_parent != parent) {
		r->to = &r->dirs[1];
		error = inode_read_directory(f, new_parent, r->to);
	}
	if (error == 0)
		error = place_find(f, caller, r->to, new_name, &r->new);
	if (error)
		return error;
	if (r->old.dots || r->new.dots)
		return -EBUSY;
	if (r->old.ino == 0 || (r->new.ino == 0 && r->flags & RENAME_EXCHANGE))
		return -ENOENT;
	if (r->new.ino && r->flags & RENAME_NOREPLACE)
		return -EEXIST;
	error = inode_read_named(f, r->old.ino, &r->inode);
	if (error == 0 && r->new.ino)
		error = inode_read_named(f, r->new.ino, &r->there);
	return error;
}

/* No directory gets into itself. */
static int may_nest(struct files *f, const struct renaming *r)
{
	int error = 0;

	if (r->from == r->to)
		return 0;
	if (S_ISDIR(r->inode.mode))
		error = directory_outside(f, r->to->ino, r->inode.ino);
	if (error == 0 && r->new.ino && S_ISDIR(r->there.mode)) {
		error = directory_outside(f, r->from->ino, r->there.ino);
		if (error == -EINVAL && !(r->flags & RENAME_EXCHANGE))
			error = -ENOTEMPTY;
	}
	return error;
}

static int may_rename(struct files *f, const struct caller *caller, const struct renaming *r)
{
	bool directory = S_ISDIR(r->inode.mode), exchange = r->flags & RENAME_EXCHANGE;
	bool there_directory = r->new.ino && S_ISDIR(r->there.mode);
	int error = place_may_remove(f, caller, &r->old, &r->inode, directory);

	if (error)
		return error;
	error = r->new.ino ? place_may_remove(f, caller, &r->new, &r->there, exchange ? there_directory : directory)
			   : place_may_add(f, caller, &r->new);
	/* What changes its directory has its ".." changed. */
	if (error == 0 && r->from != r->to && directory)
		error = inode_may(f, caller, &r->inode, MAY_WRITE);
	if (error == 0 && r->from != r->to && exchange && there_directory)
		error = inode_may(f, caller, &r->there, MAY_WRITE);
	if (error == 0 && there_directory && !exchange)
		error = directory_empty(f, &r->there);
	return error;
}

static void move(const struct caller *caller, struct inode *inode, struct inode *from, struct inode *to)
{
	inode->ctime = caller->now;
	if (!S_ISDIR(inode->mode))
		return;
	inode->parent = to->ino;
	from->nlink--;
	to->nlink++;
}

static int exchange(struct files *f, const struct caller *caller, struct renaming *r)
{
	int error = place_put(f, &r->old, &r->there, caller->now);

	if (error == 0)
		error = place_put(f, &r->new, &r->inode, caller->now);
	move(caller, &r->there, r->to, r->from);
	return error ? error : inode_write(f, &r->there);
}

static int replace(struct files *f, const struct caller *caller, struct renaming *r)
{
	bool was = r->new.ino;
	int error = place_remove(f, &r->old, caller->now);

	if (error == 0)
		error = place_put(f, &r->new, &r->inode, caller->now);
	if (error || !was)
		return error;
	if (r->there.nlink == 0)
		return files_damaged(f, r->there.ino, "it has a name and counts none");
	r->there.ctime = caller->now;
	r->there.nlink--;
	if (S_ISDIR(r->there.mode)) {
		r->there.nlink = 0;
		r->to->nlink--;
	}
	if (r->there.nlink == 0)
		return orphan_bury(f, &r->there);
	annotation_inode(&f->annotation, ANNOTATION_ATTRIBUTES, r->there.ino);
	return inode_write(f, &r->there);
}

static int rename_(struct files *f, const struct caller *caller, uint64_t parent, const char *name,
		   uint64_t new_parent, const char *new_name, struct renaming *r)
{
	int error = find(f, caller, parent, name, new_parent, new_name, r);

	if (error == 0)
		error = may_nest(f, r);
	if (error || r->old.ino == r->new.ino)
		return error;
	error = may_rename(f, caller, r);
	if (error == 0)
		error = r->flags & RENAME_EXCHANGE ? exchange(f, caller, r) : replace(f, caller, r);
	if (error)
		return error;
	move(caller, &r->inode, r->from, r->to);
	error = inode_write(f, &r->inode);
	if (error == 0)
		error = inode_write(f, r->from);
	return error || r->from == r->to ? error : inode_write(f, r->to);
}

int op_rename(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint64_t new_parent,
	      const char *new_name, unsigned flags)
{
	struct renaming r = { .flags = flags };

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	files_begin(f, flags & RENAME_EXCHANGE ? ANNOTATION_EXCHANGE : ANNOTATION_RENAME);
	return files_finish(f, rename_(f, caller, parent, name, new_parent, new_name, &r));
}
