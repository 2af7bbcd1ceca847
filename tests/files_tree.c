/* SPDX-License-Identifier: Apache-2.0 */
#include "files_tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

/* ---- sums ---- */

struct summed {
	uint64_t ino, rdev, size, parent, content;
	int64_t times[4];
	uint32_t nanoseconds[4];
	uint32_t mode, nlink, uid, gid;
};

static uint64_t sum_inode(const struct attributes *a, uint64_t parent, uint64_t content)
{
	struct summed s = {
		.ino = a->ino, .rdev = a->rdev, .size = a->size, .parent = parent, .content = content,
		.times = { a->atime.seconds, a->mtime.seconds, a->ctime.seconds, a->btime.seconds },
		.nanoseconds = { a->atime.nanoseconds, a->mtime.nanoseconds, a->ctime.nanoseconds,
				 a->btime.nanoseconds },
		.mode = a->mode, .nlink = a->nlink, .uid = a->uid, .gid = a->gid,
	};
	_Static_assert(sizeof s == 104, "no padding");

	return XXH3_64bits(&s, sizeof s);
}

static uint64_t sum_name(uint64_t ino, const char *name) { return XXH3_64bits_withSeed(name, strlen(name), ino); }

/* A block of a file. Of zeros, which most of a file with holes is: 0. */
static uint64_t sum_block(uint64_t offset, const void *bytes, size_t len)
{
	static const uint8_t zeros[BLOCK_BYTES];

	return memcmp(bytes, zeros, len) ? XXH3_64bits_withSeed(bytes, len, offset) : 0;
}

static uint64_t sum_xattr(const char *name, const void *value, size_t len)
{
	return XXH3_64bits_withSeed(value, len, sum_name(~0ull, name));
}

static uint64_t sum_model_inode(const struct model_inode *i)
{
	uint64_t content = 0;

	for (uint64_t at = 0; i->data && at < i->a.size; at += BLOCK_BYTES)
		content += sum_block(at, i->data + at, min_u64(BLOCK_BYTES, i->a.size - at));
	for (unsigned n = 0; n < i->name_count; n++)
		content += sum_name(i->names[n].ino, i->names[n].name);
	for (unsigned x = 0; x < i->xattr_count; x++)
		content += sum_xattr(i->xattrs[x].name, i->xattrs[x].value, i->xattrs[x].len);
	if (i->target)
		content += sum_name(i->a.ino, i->target);
	return sum_inode(&i->a, S_ISDIR(i->a.mode) ? i->parent : 0, content);
}

uint64_t tree_sum(struct model *m, uint64_t but)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->count; i++)
		if (m->inodes[i].a.nlink && m->inodes[i].a.ino != but)
			sum += sum_model_inode(&m->inodes[i]);
	return sum;
}

/* ---- moments ---- */

static uint8_t *data_copy(const uint8_t *data, uint64_t size)
{
	uint8_t *copy = malloc(size + 1);

	if (size)
		memcpy(copy, data, size);
	return copy;
}

struct tree_moment tree_moment_of(struct model *m)
{
	return (struct tree_moment){ .sum = tree_sum(m, 0) };
}

struct tree_moment tree_moment_within(struct model *m, const struct operation *op)
{
	uint64_t ino = operation_target(op, m);
	struct model_inode *i = model_inode(m, ino), one;
	struct operation alone = *op;
	struct model only = { .inodes = &one, .count = 1, .room = 1 };
	struct tree_moment moment = { .sum = tree_sum(m, ino), .ino = ino };

	CHECK(i && S_ISREG(i->a.mode));
	moment.before = (struct tree_file){ i->a, data_copy(i->data, i->a.size) };
	/* What it will be: the same done to a model of this file only. */
	one = (struct model_inode){ .a = i->a, .data = data_copy(i->data, i->a.size) };
	alone.ino = ino;
	alone.caller.checked = true;
	if (op->verb == OPERATION_CREATE)
		alone.verb = OPERATION_OPEN;
	if (op->verb != OPERATION_WRITE)	/* that one only waits for room at first */
		CHECK(operation_model(&alone, &only, 0) == 0);
	if (op->caller.uid && !op->caller.checked)
		model_kill_privileges(&one);
	moment.after = (struct tree_file){ one.a, one.data };
	return moment;
}

void tree_moment_free(struct tree_moment *moment)
{
	free(moment->before.data);
	free(moment->after.data);
}

/* ---- walking ---- */

void tree_walk_begin(struct tree_walk *walk, struct files *files, uint64_t keep)
{
	*walk = (struct tree_walk){ .files = files, .keep = keep, .value = malloc(XATTR_VALUE_MAX),
				    .list = malloc(XATTR_LIST_MAX_BYTES), .count = 1, .room = 64 };
	walk->inodes = malloc(walk->room * sizeof *walk->inodes);
	walk->inodes[0] = (struct tree_inode){ .ino = FS_ROOT_INODE };
}

void tree_walk_end(struct tree_walk *walk)
{
	free(walk->kept.data);
	free(walk->inodes);
	free(walk->value);
	free(walk->list);
	*walk = (struct tree_walk){ 0 };
}

static void meet(struct tree_walk *walk, uint64_t ino)
{
	for (unsigned i = 0; i < walk->count; i++)
		if (walk->inodes[i].ino == ino)
			return;
	if (walk->count == walk->room) {
		walk->room *= 2;
		walk->inodes = realloc(walk->inodes, walk->room * sizeof *walk->inodes);
	}
	walk->inodes[walk->count++] = (struct tree_inode){ .ino = ino };
}

static bool take(void *context, const struct directory_entry *entry)
{
	struct tree_walk *walk = context;

	walk->cookie = entry->cookie;
	if (strcmp(entry->name, "..") == 0)
		walk->parent = entry->ino;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return true;
	walk->content += sum_name(entry->ino, entry->name);
	meet(walk, entry->ino);
	return true;
}

static int names(struct tree_walk *walk)
{
	uint64_t before;
	int error;

	walk->cookie = 0;
	do {
		before = walk->cookie;
		error = op_readdir(walk->files, walk->a.ino, before, false, take, walk);
	} while (!error && walk->cookie != before);
	return error;
}

static int xattrs(struct tree_walk *walk)
{
	const struct caller root = { 0 };
	size_t len, value_len;
	int error = op_listxattr(walk->files, &root, walk->a.ino, (char *)walk->list, XATTR_LIST_MAX_BYTES, &len);

	for (const char *name = (const char *)walk->list; !error && name < (const char *)walk->list + len;
	     name += strlen(name) + 1) {
		error = op_getxattr(walk->files, &root, walk->a.ino, name, walk->value, XATTR_VALUE_MAX, &value_len);
		if (!error)
			walk->content += sum_xattr(name, walk->value, value_len);
	}
	return error;
}

/* All but bytes of files. From its beginning after an error. */
static int begin(struct tree_walk *walk)
{
	char target[SYMLINK_MAX_BYTES + 1];
	unsigned count = walk->count;
	uint32_t len;
	int error = op_getattr(walk->files, walk->inodes[walk->next].ino, &walk->a);

	walk->parent = walk->content = walk->offset = 0;
	if (!error)
		error = xattrs(walk);
	if (!error && S_ISDIR(walk->a.mode))
		error = names(walk);
	if (!error && S_ISLNK(walk->a.mode)) {
		error = op_readlink(walk->files, walk->a.ino, target, &len);
		if (!error)
			walk->content += sum_name(walk->a.ino, target);
	}
	if (error)
		walk->count = count;
	return error;
}

static int volume_read(struct tree_walk *walk, uint64_t offset, uint8_t *out, uint64_t len)
{
	struct blocks *blocks = walk->files->fs.blocks;
	int error = 0;

	while (!error && len) {
		uint64_t part = min_u64(len, BLOCK_BYTES - offset % BLOCK_BYTES);
		const uint8_t *page;

		error = blocks->read(blocks, offset / BLOCK_BYTES, &page);
		if (!error)
			memcpy(out, page + offset % BLOCK_BYTES, part);
		out += part;
		offset += part;
		len -= part;
	}
	blocks->abort(blocks);
	return error;
}

/* The piece, which begins at byte *at of the file, block by block; walk->offset is behind the last whole one. */
static int piece_look(struct tree_walk *walk, const struct file_plan *plan, const struct file_piece *piece,
		      uint64_t *at)
{
	for (uint64_t done = 0; done < piece->len;) {
		uint64_t part = min_u64(BLOCK_BYTES - *at % BLOCK_BYTES, piece->len - done);
		uint8_t *to = walk->block + *at % BLOCK_BYTES;
		int error = 0;

		if (piece->kind == PIECE_ZEROS && *at % BLOCK_BYTES == 0 && piece->len - done >= BLOCK_BYTES) {
			part = round_down(piece->len - done, BLOCK_BYTES);
			if (walk->a.ino == walk->keep)
				memset(walk->kept.data + *at, 0, part);
			done += part;
			walk->offset = *at += part;
			continue;
		}
		if (piece->kind == PIECE_VOLUME)
			error = volume_read(walk, piece->offset + done, to, part);
		else if (piece->kind == PIECE_INLINE)
			memcpy(to, plan->bytes + piece->offset + done, part);
		else
			memset(to, 0, part);
		if (error)
			return error;
		done += part;
		*at += part;
		if (*at % BLOCK_BYTES && *at < walk->a.size)
			continue;
		part = *at - walk->offset;
		walk->content += sum_block(walk->offset, walk->block, part);
		if (walk->a.ino == walk->keep)
			memcpy(walk->kept.data + walk->offset, walk->block, part);
		walk->offset = *at;
	}
	return 0;
}

/* Some of the file's bytes. */
static int data(struct tree_walk *walk)
{
	uint64_t before = walk->offset, at = before;
	struct file_plan plan;
	int error = op_read(walk->files, walk->a.ino, before, walk->a.size - before, &plan);

	for (unsigned i = 0; !error && i < plan.count; i++)
		error = piece_look(walk, &plan, &plan.pieces[i], &at);
	return error ? error : walk->offset == before ? -EIO : 0;	/* the size says that there is more */
}

static void finish(struct tree_walk *walk)
{
	struct tree_inode *i = &walk->inodes[walk->next++];

	i->content = walk->content;
	i->sum = sum_inode(&walk->a, walk->parent, walk->content);
	walk->sum += i->ino == walk->keep ? 0 : i->sum;
	walk->begun = false;
}

int tree_walk_step(struct tree_walk *walk)
{
	int error;

	if (walk->next == walk->count)
		return 0;
	if (!walk->begun) {
		error = begin(walk);
		if (error)
			return error;
		walk->begun = true;
		if (walk->a.ino == walk->keep)
			walk->kept = (struct tree_file){ walk->a, malloc(walk->a.size + 1) };
	}
	while (S_ISREG(walk->a.mode) && walk->offset < walk->a.size) {
		error = data(walk);
		if (error)
			return error;
	}
	finish(walk);
	return walk->next < walk->count;
}

/* ---- comparing ---- */

static bool time_is(struct fs_time t, struct fs_time a, struct fs_time b)
{
	return (t.seconds == a.seconds && t.nanoseconds == a.nanoseconds) ||
	       (t.seconds == b.seconds && t.nanoseconds == b.nanoseconds);
}

static uint8_t byte_of(const struct tree_file *f, uint64_t at) { return at < f->a.size ? f->data[at] : 0; }

static const char *file_differs(const struct tree_file *is, const struct tree_file *b, const struct tree_file *a)
{
	if (is->a.mode != b->a.mode && is->a.mode != a->a.mode)
		return "the mode of the file that is being changed is neither the old nor the new one";
	if (is->a.uid != b->a.uid && is->a.uid != a->a.uid)
		return "the owner of the file that is being changed is neither the old nor the new one";
	if (is->a.nlink != b->a.nlink || is->a.rdev != b->a.rdev)
		return "the file that is being changed has other links";
	if (is->a.size != b->a.size && is->a.size != a->a.size)
		return "the size of the file that is being changed is neither the old nor the new one";
	if (!time_is(is->a.mtime, b->a.mtime, a->a.mtime) || !time_is(is->a.ctime, b->a.ctime, a->a.ctime) ||
	    !time_is(is->a.atime, b->a.atime, a->a.atime))
		return "a time of the file that is being changed is neither the old nor the new one";
	for (uint64_t at = 0; at < is->a.size; at++)
		if (is->data[at] != byte_of(b, at) && is->data[at] != byte_of(a, at))
			return "a byte of the file that is being changed is neither the old nor the new one";
	return NULL;
}

const char *tree_differs(const struct tree_walk *walk, const struct tree_moment *moment)
{
	CHECK(walk->keep == moment->ino && walk->next == walk->count);
	if (walk->sum != moment->sum)
		return "the tree is another one";
	if (!moment->ino || (!walk->kept.data && moment->before.a.nlink == 0))
		return NULL;
	if (!walk->kept.data)
		return "the file that is being changed is not there";
	return file_differs(&walk->kept, &moment->before, &moment->after);
}

static const struct tree_inode *met(const struct tree_walk *walk, uint64_t ino)
{
	for (unsigned i = 0; i < walk->count; i++)
		if (walk->inodes[i].ino == ino)
			return &walk->inodes[i];
	return NULL;
}

void tree_explain(const struct tree_walk *walk, struct model *m)
{
	for (unsigned i = 0; i < m->count; i++) {
		const struct model_inode *should = &m->inodes[i];
		const struct tree_inode *is = met(walk, should->a.ino);

		if (should->a.nlink && (!is || is->sum != sum_model_inode(should)))
			fprintf(stderr, "inode %llu (mode %o, %llu bytes) %s\n", (unsigned long long)should->a.ino,
				should->a.mode, (unsigned long long)should->a.size, is ? "differs" : "is not there");
	}
	for (unsigned i = 0; i < walk->count; i++)
		if (!model_inode(m, walk->inodes[i].ino))
			fprintf(stderr, "inode %llu should not be there\n", (unsigned long long)walk->inodes[i].ino);
}

void tree_adopt(struct model *m, const struct tree_file *kept)
{
	struct model_inode *i = model_inode(m, kept->a.ino);

	if (!i)
		return;
	i->a = kept->a;
	free(i->data);
	i->data = data_copy(kept->data, kept->a.size);
}
