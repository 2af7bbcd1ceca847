/* SPDX-License-Identifier: Apache-2.0 */
/* The filesystem against a model of POSIX: random operations by root and users on a small volume that runs full, blocks
 * that are not in memory, remounts, and loss of power between any two records. */
#include <unistd.h>

#include "files_operation.h"
#include "files_rig.h"

enum { HANDLES_MAX = 12, BYTES_MAX = OPERATION_FILE_BYTES_MAX };

struct player {
	struct files_rig *rig;
	struct operation_source source;
	struct model model;
	uint64_t handles[HANDLES_MAX];	/* inodes that are open */
	unsigned handle_count;
	uint64_t steps, full, full_before;	/* operations; those that found no room, before this step */
	uint64_t cuts;			/* of power between the records of one operation */
	uint64_t played[OPERATION_VERBS];	/* that were done */
	uint8_t bytes[BYTES_MAX], other[BYTES_MAX];
};

static uint64_t draw(struct player *p, uint64_t below) { return files_rig_draw(p->rig, below); }
static bool chance(struct player *p, unsigned one_in) { return draw(p, one_in) == 0; }

static uint64_t source_below(struct operation_source *source, uint64_t bound)
{
	return draw(container_of(source, struct player, source), bound);
}

/* ---- comparing ---- */

static bool same_time(struct fs_time a, struct fs_time b)
{
	return a.seconds == b.seconds && a.nanoseconds == b.nanoseconds;
}

static void compare_attributes(const struct attributes *a, const struct attributes *b)
{
	if (a->mode != b->mode || a->nlink != b->nlink || a->uid != b->uid || a->gid != b->gid || a->rdev != b->rdev ||
	    a->size != b->size)
		fail_msg("inode %llu: mode %o nlink %u uid %u gid %u size %llu, should be %o %u %u %u %llu",
			 (unsigned long long)a->ino, a->mode, a->nlink, a->uid, a->gid, (unsigned long long)a->size,
			 b->mode, b->nlink, b->uid, b->gid, (unsigned long long)b->size);
	if (!same_time(a->atime, b->atime) || !same_time(a->mtime, b->mtime) || !same_time(a->ctime, b->ctime) ||
	    !same_time(a->btime, b->btime))
		fail_msg("inode %llu: a time of it is another", (unsigned long long)a->ino);
}

static void compare_data(struct player *p, struct files_rig *r, struct model_inode *i, uint64_t from, uint64_t len)
{
	uint64_t got;

	if (from > i->a.size)
		return;
	len = min_u64(len, i->a.size - from);
	got = files_rig_read(r, i->a.ino, from, p->other, len);
	assert_int_equal(got, len);
	if (len == 0 || memcmp(p->other, i->data + from, len) == 0)
		return;
	for (uint64_t at = 0; at < len; at++)
		if (p->other[at] != i->data[from + at])
			fail_msg("inode %llu: byte %llu is %u and not %u", (unsigned long long)i->a.ino,
				 (unsigned long long)(from + at), p->other[at], i->data[from + at]);
}

/* A hole has only zeros in it, and data and holes take turns. */
static void compare_seek(struct player *p, struct files_rig *r, struct model_inode *i)
{
	uint64_t at = i->a.size ? draw(p, i->a.size) : 0, data, hole;
	int error = RIG(r, op_seek(r->f, i->a.ino, at, SEEK_DATA, &data));

	if (i->a.size == 0) {
		assert_int_equal(error, -ENXIO);
		return;
	}
	if (error)
		assert_int_equal(error, -ENXIO);
	data = error ? i->a.size : data;
	assert_in_range(data, at, i->a.size);
	for (uint64_t b = at; b < data; b++)
		assert_int_equal(i->data[b], 0);
	assert_int_equal(RIG(r, op_seek(r->f, i->a.ino, at, SEEK_HOLE, &hole)), 0);
	assert_in_range(hole, at, i->a.size);
	assert_true((data == at) == (hole > at));
}

static void compare_xattrs(struct player *p, struct files_rig *r, struct model_inode *i)
{
	size_t len, names = 0;
	char list[4096];

	for (unsigned x = 0; x < i->xattr_count; x++) {
		struct model_xattr *m = &i->xattrs[x];

		assert_int_equal(RIG(r, op_getxattr(r->f, &r->root, i->a.ino, m->name, p->other, BYTES_MAX, &len)), 0);
		assert_int_equal(len, m->len);
		assert_memory_equal(p->other, m->value, len);
		names += strlen(m->name) + 1;
	}
	assert_int_equal(RIG(r, op_listxattr(r->f, &r->root, i->a.ino, list, sizeof list, &len)), 0);
	assert_int_equal(len, names);
}

struct listing { struct model_inode *dir; unsigned count, limit; uint64_t cookie; struct model *model; };

static bool listing_take(void *context, const struct directory_entry *entry)
{
	struct listing *l = context;
	uint64_t ino;

	if (l->limit == 0)
		return false;
	l->limit--;
	assert_true(entry->cookie > l->cookie && entry->cookie >> 63 == 0);
	l->cookie = entry->cookie;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) {
		assert_int_equal(entry->ino, entry->name_len == 1 ? l->dir->a.ino : l->dir->parent);
		return true;
	}
	assert_int_equal(strlen(entry->name), entry->name_len);
	ino = model_find(l->model, l->dir->a.ino, entry->name);
	assert_int_equal(entry->ino, ino);
	assert_int_equal(entry->type, model_inode(l->model, ino)->a.mode & S_IFMT);
	l->count++;
	return true;
}

static void compare_listing(struct player *p, struct files_rig *r, struct model_inode *i)
{
	struct listing l = { .dir = i, .model = &p->model };
	uint64_t before;

	do {
		before = l.cookie;
		l.limit = 1 + (unsigned)draw(p, 40);
		assert_int_equal(RIG(r, op_readdir(r->f, i->a.ino, l.cookie, chance(p, 2), listing_take, &l)), 0);
	} while (l.cookie > before);
	assert_int_equal(l.count, i->name_count);
}

static void compare_inode(struct player *p, struct files_rig *r, struct model_inode *i)
{
	struct attributes a;
	char target[SYMLINK_MAX_BYTES + 1];
	uint32_t len;

	assert_int_equal(RIG(r, op_getattr(r->f, i->a.ino, &a)), 0);
	compare_attributes(&a, &i->a);
	compare_xattrs(p, r, i);
	if (S_ISDIR(a.mode))
		compare_listing(p, r, i);
	if (S_ISREG(a.mode)) {
		compare_data(p, r, i, 0, BYTES_MAX);
		compare_seek(p, r, i);
	}
	if (!S_ISLNK(a.mode))
		return;
	assert_int_equal(RIG(r, op_readlink(r->f, i->a.ino, target, &len)), 0);
	assert_string_equal(target, i->target);
	assert_int_equal(len, a.size);
}

/* Everything. @crashed: what is open here is not open there. */
static void compare_all(struct player *p, struct files_rig *r, bool crashed)
{
	struct statfs_figures figures;
	unsigned count = 0;

	assert_int_equal(files_rig_damages(r), 0);
	files_rig_reclaim(r);
	for (unsigned i = 0; i < p->model.count; i++) {
		struct model_inode *inode = &p->model.inodes[i];

		if (crashed && inode->a.nlink == 0)
			continue;
		compare_inode(p, r, inode);
		count++;
	}
	assert_int_equal(RIG(r, op_statfs(r->f, &figures)), 0);
	assert_int_equal(figures.inodes, count);
	assert_int_equal(files_rig_damages(r), 0);
	assert_int_equal(r->f->damage.count, 0);
}

static void crash_here(struct player *p)
{
	struct files_rig *copy = files_rig_copy(p->rig);

	compare_all(p, copy, true);
	files_rig_free(copy);
}

/* Between two records of one operation the filesystem is whole, whatever it shows. */
static void cut_between(struct files_rig *r)
{
	struct player *p = r->context;
	struct files_rig *copy;

	p->cuts++;
	if (!chance(p, 4))
		return;
	copy = files_rig_copy(r);
	assert_int_equal(files_rig_damages(copy), 0);
	files_rig_reclaim(copy);
	assert_int_equal(files_rig_damages(copy), 0);
	files_rig_free(copy);
}

/* ---- playing ---- */

/* The volume is so full that it may say so. */
static bool may_be_full(struct player *p, uint64_t need)
{
	struct statfs_figures figures;

	assert_int_equal(RIG(p->rig, op_statfs(p->rig->f, &figures)), 0);
	return figures.available < need + 30;
}

/* True: the real one did what the model has to do now as well; false: it found no room, which may be. */
static bool did(struct player *p, int result, uint64_t need)
{
	if (result != -ENOSPC)
		return true;
	if (!may_be_full(p, need))
		fail_msg("step %llu: ENOSPC with room left", (unsigned long long)p->steps);
	p->full++;
	return false;
}

static void agree(struct player *p, const char *what, int result, int model)
{
	if (result != model)
		fail_msg("step %llu: %s says %s, and not %s", (unsigned long long)p->steps, what,
			 result ? strerrorname_np(-result) : "0", model ? strerrorname_np(-model) : "0");
}

static void check_inode(struct player *p, uint64_t ino)
{
	struct model_inode *i = model_inode(&p->model, ino);
	struct attributes a;

	if (!i)
		return;
	assert_int_equal(RIG(p->rig, op_getattr(p->rig->f, ino, &a)), 0);
	compare_attributes(&a, &i->a);
}

/* All that it may have changed. */
static void check_changed(struct player *p, const struct operation *op, const uint64_t before[2])
{
	check_inode(p, op->ino);
	check_inode(p, op->parent);
	check_inode(p, op->new_parent);
	check_inode(p, before[0]);
	check_inode(p, before[1]);
}

/* What came of bytes and attributes. */
static void check_content(struct player *p, const struct operation *op)
{
	struct model_inode *i = model_inode(&p->model, op->attributes.ino ? op->attributes.ino : op->ino);
	uint64_t from = op->offset > 5000 ? op->offset - 5000 : 0;

	if (op->attributes.ino)
		compare_attributes(&op->attributes, &i->a);
	if (op->verb == OPERATION_SETXATTR || op->verb == OPERATION_REMOVEXATTR || op->verb == OPERATION_MAKE)
		compare_xattrs(p, p->rig, i);
	if (op->verb == OPERATION_WRITE)
		compare_data(p, p->rig, i, from, op->written + 10000);
	if (op->verb == OPERATION_FALLOCATE ||
	    (op->verb == OPERATION_SETATTR && S_ISREG(i->a.mode) && chance(p, 4)))
		compare_data(p, p->rig, i, 0, BYTES_MAX);
}

/* A part of it is allocated: times say so, bytes do not. */
static void allocated_in_part(struct player *p, const struct operation *op)
{
	struct model_inode *i = model_inode(&p->model, op->ino);

	i->a.mtime = i->a.ctime = op->caller.now;
	if (op->caller.uid && !op->caller.checked)
		model_kill_privileges(i);
	check_inode(p, op->ino);
	compare_data(p, p->rig, i, 0, BYTES_MAX);
}

static void play_operation(struct player *p)
{
	struct operation op;
	uint64_t before[2];
	int result;

	p->source.now = p->rig->root.now;
	p->source.may_open = p->handle_count < HANDLES_MAX;
	operation_draw(&op, &p->source, &p->model);
	before[0] = model_find(&p->model, op.parent, op.name);
	before[1] = model_find(&p->model, op.new_parent, op.new_name);
	result = RIG(p->rig, operation_run(&op, p->rig->f));
	if (result == -ENOSPC && op.verb == OPERATION_FALLOCATE && p->rig->records)
		allocated_in_part(p, &op);
	if (!did(p, result, op.acl_len ? 4 : op.verb == OPERATION_SETXATTR ? 80 : op.len / BLOCK_BYTES + 4))
		return;
	agree(p, operation_name(&op), result, operation_model(&op, &p->model, result));
	p->played[op.verb] += result == 0;
	check_changed(p, &op, before);
	if (result)
		return;
	check_content(p, &op);
	if (op.verb == OPERATION_CREATE || op.verb == OPERATION_OPEN || op.verb == OPERATION_TMPFILE)
		p->handles[p->handle_count++] = op.attributes.ino;
}

static void play_release(struct player *p)
{
	unsigned h;

	if (p->handle_count == 0)
		return;
	h = (unsigned)draw(p, p->handle_count);
	op_release(p->rig->f, p->handles[h]);
	model_release(&p->model, p->handles[h]);
	p->handles[h] = p->handles[--p->handle_count];
}

static void play_lookup(struct player *p)
{
	struct caller c;
	uint64_t parent = operation_draw_inode(&p->source, &p->model, S_IFDIR), ino = 0;
	char name[OPERATION_NAME_BYTES];
	struct attributes a = { 0 };
	int result;

	operation_draw_caller(&p->source, &c);
	operation_draw_name(&p->source, name);
	result = RIG(p->rig, op_lookup(p->rig->f, &c, parent, name, &a));
	agree(p, "lookup", result, model_lookup(&p->model, &c, parent, name, &ino));
	if (result == 0)
		compare_attributes(&a, &model_inode(&p->model, ino)->a);
	assert_int_equal(a.ino, result ? 0 : ino);
	ino = operation_draw_inode(&p->source, &p->model, 0);
	parent = draw(p, 8);
	agree(p, "access", RIG(p->rig, op_access(p->rig->f, &c, ino, (unsigned)parent)),
	      model_access(&p->model, &c, ino, (unsigned)parent));
}

/* Every second block of a part of a file: what is cut or punched later takes many records. */
static void play_comb(struct player *p)
{
	uint64_t ino = operation_draw_inode(&p->source, &p->model, S_IFREG), first = draw(p, 20) * BLOCK_BYTES;
	struct model_inode *i = model_inode(&p->model, ino);

	if (!i || !S_ISREG(i->a.mode) || !chance(p, 4))
		return;
	memset(p->bytes, (int)(1 + p->steps % 255), BLOCK_BYTES);
	for (uint64_t block = 0; block < 150; block += 2) {
		uint64_t offset = first + block * BLOCK_BYTES;
		int result = files_rig_write(p->rig, &p->rig->root, ino, offset, p->bytes, BLOCK_BYTES);

		if (!did(p, result, 1))
			return;
		assert_int_equal(result, 0);
		assert_int_equal(model_write(&p->model, &p->rig->root, ino, offset, p->bytes, BLOCK_BYTES), 0);
	}
	compare_data(p, p->rig, model_inode(&p->model, ino), 0, BYTES_MAX);
}

/* What takes much room becomes short, so that the next operations have some. */
static void play_relief(struct player *p)
{
	const struct caller *root = &p->rig->root;
	struct attributes_set set = { .valid = SET_SIZE };
	struct attributes a;

	for (unsigned i = 0; i < p->model.count; i++) {
		const struct model_inode *inode = &p->model.inodes[i];

		if (!S_ISREG(inode->a.mode) || inode->a.size < 20000 || chance(p, 3))
			continue;
		set.size = draw(p, 3) * draw(p, 5000);
		assert_int_equal(RIG(p->rig, op_setattr(p->rig->f, root, inode->a.ino, &set, &a)), 0);
		assert_int_equal(model_setattr(&p->model, root, inode->a.ino, &set), 0);
		check_inode(p, inode->a.ino);
	}
}

static void play_life(struct player *p)
{
	switch (draw(p, 40)) {
	case 0:
		files_rig_reclaim(p->rig);
		break;
	case 1:
		files_rig_remount(p->rig);
		model_remount(&p->model);
		p->handle_count = 0;
		break;
	case 2: case 3:
		crash_here(p);
		break;
	case 4:
		memory_blocks_miss(p->rig->blocks, chance(p, 3) ? 0 : 20 + (unsigned)draw(p, 200));
		break;
	case 5:
		compare_all(p, p->rig, false);
		break;
	default:
		if (chance(p, 4))
			return;
		RIG(p->rig, op_reclaim(p->rig->f));
	}
}

static void play(struct player *p)
{
	files_rig_tick(p->rig);
	p->steps++;
	if (p->full > p->full_before && chance(p, 3))
		play_relief(p);
	p->full_before = p->full;
	if (chance(p, 40))
		play_life(p);
	else if (chance(p, 9))
		play_release(p);
	else if (chance(p, 20))
		play_lookup(p);
	else if (chance(p, 25))
		play_comb(p);
	else
		play_operation(p);
}

/* All names go, and all blocks and inodes come back. */
static void empty(struct player *p, uint64_t free_at_start)
{
	struct files_rig *r = p->rig;
	struct model *m = &p->model;

	while (p->handle_count)
		play_release(p);
	while (model_inode(m, MODEL_ROOT)->name_count) {
		for (unsigned i = 0; i < m->count; i++) {
			struct model_inode *dir = &m->inodes[i];

			for (unsigned n = dir->name_count; n-- > 0;) {
				uint64_t parent = dir->a.ino, ino = dir->names[n].ino;
				char name[300];

				strcpy(name, dir->names[n].name);
				if (model_inode(m, ino)->name_count)
					continue;
				if (S_ISDIR(model_inode(m, ino)->a.mode)) {
					agree(p, "rmdir", RIG(r, op_rmdir(r->f, &r->root, parent, name)), 0);
					model_rmdir(m, &r->root, parent, name);
				} else {
					agree(p, "unlink", RIG(r, op_unlink(r->f, &r->root, parent, name)), 0);
					model_unlink(m, &r->root, parent, name);
				}
				dir = model_inode(m, parent);
			}
		}
	}
	compare_all(p, r, false);
	for (unsigned x = model_inode(m, MODEL_ROOT)->xattr_count; x-- > 0;)
		assert_int_equal(RIG(r, op_removexattr(r->f, &r->root, MODEL_ROOT,
						       model_inode(m, MODEL_ROOT)->xattrs[x].name)), 0);
	assert_int_equal(rig_free_blocks(r), free_at_start);
}

static struct player *player_new(uint64_t seed)
{
	struct player *p = calloc(1, sizeof *p);
	uint64_t blocks;

	p->rig = files_rig_new(256, seed);
	blocks = 256 + draw(p, 3) * draw(p, 1500);
	files_rig_free(p->rig);
	p->rig = files_rig_new(blocks, seed);
	p->source = (struct operation_source){ .below = source_below, .file_bytes = BYTES_MAX };
	p->rig->between = cut_between;
	p->rig->context = p;
	if (chance(p, 3))
		p->rig->f->hash_mask = 0x3ull << 62;	/* names fall together */
	model_init(&p->model, &(struct attributes){ 0 });
	p->model.inodes[0].a = rig_stat(p->rig, FS_ROOT_INODE);
	p->model.inodes[0].parent = FS_ROOT_INODE;
	return p;
}

static void player_free(struct player *p)
{
	model_end(&p->model);
	files_rig_free(p->rig);
	free(p);
}

static void fs_posix_agrees_with_a_model_after_every_operation(void **state)
{
	uint64_t first = test_seed_first(1);
	unsigned count = test_seed_count(24);
	const char *steps = getenv("STEPS");
	uint64_t operations = 0, full = 0, cuts = 0, played[OPERATION_VERBS] = { 0 };

	(void)state;
	for (uint64_t seed = first; seed < first + count; seed++) {
		struct player *p = player_new(seed);
		uint64_t free_at_start = rig_free_blocks(p->rig), limit = steps ? strtoull(steps, NULL, 0) : 5000;

		if (getenv("SIM_VERBOSE"))
			fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		while (p->steps < limit)
			play(p);
		memory_blocks_miss(p->rig->blocks, 0);
		crash_here(p);
		empty(p, free_at_start);
		operations += p->steps;
		full += p->full;
		cuts += p->cuts;
		for (unsigned verb = 0; verb < OPERATION_VERBS; verb++)
			played[verb] += p->played[verb];
		player_free(p);
	}
	if (count > 1)
		assert_true(full > 0 && cuts > 0);
	for (unsigned verb = 0; verb < OPERATION_VERBS && count > 1; verb++)
		assert_true(played[verb] > 0);
	if (getenv("SIM_VERBOSE"))
		fprintf(stderr, "%llu operations, %llu without room, %llu cuts within one\n",
			(unsigned long long)operations, (unsigned long long)full, (unsigned long long)cuts);
}

static const struct CMUnitTest tests[] = { cmocka_unit_test(fs_posix_agrees_with_a_model_after_every_operation) };
TEST_GROUP(fs_posix, tests)
