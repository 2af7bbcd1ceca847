/* SPDX-License-Identifier: Apache-2.0 */
/* Any prefix of the log is a whole filesystem, and the tree of just so many operations. A replica is fed the records of
 * random operations one by one; at each boundary between two it is audited, and walked name by name and byte by byte.
 * What changed since the record before is what the record's annotation names, so a secondary that drops just that from
 * its kernel's caches shows nothing old. Now and then the replica becomes primary: what a crash left is freed. */
#include <sys/stat.h>

#include "audit.h"
#include "files_rig.h"
#include "files_tree.h"

enum { HANDLES_MAX = 8, FILE_BYTES = 100 << 10, COMB_BLOCKS = 240 };

struct crash {
	struct files_rig *rig, *replica;	/* the primary, and who is fed its records */
	struct operation_source source;
	struct model model;
	uint64_t handles[HANDLES_MAX];
	unsigned handle_count;
	uint64_t fed;			/* records */
	uint64_t boundaries, within, promoted, opened;
	struct tree_inode *seen;	/* by the last walk */
	unsigned seen_count;
};

static uint64_t source_below(struct operation_source *source, uint64_t bound)
{
	return files_rig_draw(container_of(source, struct crash, source)->rig, bound);
}

static bool one_in(struct crash *c, uint64_t count) { return files_rig_draw(c->rig, count) == 0; }

/* ---- annotations ---- */

static const struct tree_inode *seen(const struct crash *c, uint64_t ino)
{
	for (unsigned i = 0; i < c->seen_count; i++)
		if (c->seen[i].ino == ino)
			return &c->seen[i];
	return NULL;
}

/* What of it the annotation says has changed: 1 something, 2 bytes or names. */
static unsigned told(const void *annotation, const struct tree_inode *inode)
{
	struct annotation_change change;
	unsigned what = 0;
	uint32_t at = 0;

	while (annotation_next(annotation, &at, &change)) {
		if (change.inode == inode->ino)
			what |= change.kind == ANNOTATION_DATA || change.kind == ANNOTATION_XATTR ||
				change.kind == ANNOTATION_ATTRIBUTES ? 3 : 1;
		if (change.parent == inode->ino)
			what |= 3;
	}
	return what;
}

static void annotation_says_what_changed(struct crash *c, const struct tree_walk *walk)
{
	const void *annotation;
	uint32_t len = memory_blocks_annotation(c->rig->blocks, c->fed - 1, &annotation);

	assert_true(annotation_check(annotation, len));
	for (unsigned i = 0; i < walk->count; i++) {
		const struct tree_inode *now = &walk->inodes[i], *before = seen(c, now->ino);
		unsigned what = told(annotation, now);

		if (before && before->content != now->content && !(what & 2))
			fail_msg("record %llu: bytes or names of inode %llu have changed, and nobody says so",
				 (unsigned long long)c->fed, (unsigned long long)now->ino);
		if ((!before || before->sum != now->sum) && !what)
			fail_msg("record %llu: inode %llu has changed, and nobody says so",
				 (unsigned long long)c->fed, (unsigned long long)now->ino);
	}
	free(c->seen);
	c->seen = malloc(walk->count * sizeof *c->seen);
	c->seen_count = walk->count;
	memcpy(c->seen, walk->inodes, walk->count * sizeof *c->seen);
}

/* ---- one boundary ---- */

static void walk_all(struct files_rig *r, struct tree_walk *walk, uint64_t keep)
{
	int result;

	tree_walk_begin(walk, r->f, keep);
	do
		result = tree_walk_step(walk);
	while (result == 1 || files_rig_again(r, result));
	assert_int_equal(result, 0);
}

static void tree_is(struct crash *c, struct files_rig *r, const struct tree_moment *moment, const char *what,
		    bool follows)
{
	struct tree_walk walk;
	const char *differs;

	walk_all(r, &walk, moment->ino);
	differs = tree_differs(&walk, moment);
	if (differs)
		fail_msg("record %llu, %s: %s", (unsigned long long)c->fed, what, differs);
	if (follows)
		annotation_says_what_changed(c, &walk);
	tree_walk_end(&walk);
}

/* The primary dies here, and this replica goes on. */
static void promote(struct crash *c, const struct tree_moment *moment)
{
	struct files_rig *r = files_rig_copy(c->replica);

	c->promoted++;
	files_rig_reclaim(r);
	assert_int_equal(files_rig_damages(r), 0);
	tree_is(c, r, moment, "promoted", false);
	files_rig_free(r);
}

static void boundary(struct crash *c, const struct tree_moment *moment, const char *what)
{
	memory_blocks_apply(c->replica->blocks, c->rig->blocks, c->fed++);
	c->boundaries++;
	if (files_rig_damages(c->replica))
		fail_msg("record %llu, %s: the replica is damaged", (unsigned long long)c->fed, what);
	tree_is(c, c->replica, moment, what, true);
	if (one_in(c, 20))
		promote(c, moment);
}

/* All records that the primary has made since: the last of them ends an operation, the model was told of that. */
static void follow(struct crash *c, const struct tree_moment *within, const char *what)
{
	uint64_t end = memory_blocks_kept(c->rig->blocks);
	struct tree_moment moment;

	if (c->fed == end)
		return;
	while (c->fed + 1 < end) {
		c->within++;
		boundary(c, within, what);
	}
	moment = tree_moment_of(&c->model);
	boundary(c, &moment, what);
}

/* ---- operations ---- */

static bool is_file(struct model *m, uint64_t ino)
{
	struct model_inode *i = model_inode(m, ino);

	return i && S_ISREG(i->a.mode);
}

/* A part of an allocation is there, and what is left of the operation is not to come. */
static void adopt(struct crash *c, const struct tree_moment *within)
{
	struct tree_walk walk;
	const char *differs;

	walk_all(c->rig, &walk, within->ino);
	differs = tree_differs(&walk, within);
	if (differs)
		fail_msg("an allocation that found no room: %s", differs);
	tree_adopt(&c->model, &walk.kept);
	tree_walk_end(&walk);
}

static void operation_drawn(struct crash *c, struct operation *op)
{
	c->source.now = c->rig->root.now;
	c->source.may_open = c->handle_count < HANDLES_MAX;
	operation_draw(op, &c->source, &c->model);
}

static void operate(struct crash *c, struct operation *op)
{
	struct tree_moment within = { 0 };
	int result, model;

	do {
		result = operation_run(op, c->rig->f);
		if (result == OP_AGAIN && !within.ino) {
			assert_true(is_file(&c->model, operation_target(op, &c->model)));
			within = tree_moment_within(&c->model, op);
		}
	} while (files_rig_again(c->rig, result));
	if (result == -ENOSPC && within.ino)
		adopt(c, &within);
	if (result != -ENOSPC) {
		model = operation_model(op, &c->model, result);
		if (result != model)
			fail_msg("%s says %s, and not %s", operation_name(op),
				 result ? strerrorname_np(-result) : "0", model ? strerrorname_np(-model) : "0");
	}
	if (result == 0 && (op->verb == OPERATION_CREATE || op->verb == OPERATION_OPEN ||
			    op->verb == OPERATION_TMPFILE)) {
		c->handles[c->handle_count++] = op->attributes.ino;
		c->opened++;
	}
	follow(c, &within, operation_name(op));
	tree_moment_free(&within);
}

static void play_release(struct crash *c)
{
	unsigned h;

	if (c->handle_count == 0)
		return;
	h = (unsigned)files_rig_draw(c->rig, c->handle_count);
	op_release(c->rig->f, c->handles[h]);
	model_release(&c->model, c->handles[h]);
	c->handles[h] = c->handles[--c->handle_count];
}

static void play_reclaim(struct crash *c)
{
	struct tree_moment moment = tree_moment_of(&c->model);

	files_rig_reclaim(c->rig);
	follow(c, &moment, "reclaim");
}

/* Every second block of a file is written, and then something that takes many records is done to it. */
static void play_comb(struct crash *c)
{
	uint64_t ino = operation_draw_inode(&c->source, &c->model, S_IFREG);
	static uint8_t bytes[BLOCK_BYTES];
	struct operation op;

	memset(bytes, (int)(1 + c->fed % 255), sizeof bytes);
	for (uint64_t block = 0; is_file(&c->model, ino) && block < COMB_BLOCKS; block += 2) {
		uint64_t at = block * BLOCK_BYTES;
		struct tree_moment before = tree_moment_of(&c->model);

		if (files_rig_write(c->rig, &c->rig->root, ino, at, bytes, sizeof bytes))
			break;
		assert_int_equal(model_write(&c->model, &c->rig->root, ino, at, bytes, sizeof bytes), 0);
		follow(c, &before, "comb");
	}
	do
		operation_drawn(c, &op);
	while (op.verb != OPERATION_FALLOCATE && !(op.verb == OPERATION_SETATTR && op.set.valid & SET_SIZE));
	op.ino = ino;
	if (op.verb == OPERATION_FALLOCATE)
		op.len = COMB_BLOCKS * BLOCK_BYTES - op.offset;
	operate(c, &op);
	/* So large a file does not stay. */
	op = (struct operation){ .verb = OPERATION_SETATTR, .ino = ino, .caller = c->rig->root,
				 .set = { .valid = SET_SIZE, .size = files_rig_draw(c->rig, 5000) } };
	operate(c, &op);
}

static void play(struct crash *c)
{
	struct operation op;

	files_rig_tick(c->rig);
	if (one_in(c, 10))
		play_release(c);
	else if (one_in(c, 20))
		play_reclaim(c);
	else if (one_in(c, 100))
		play_comb(c);
	else {
		operation_drawn(c, &op);
		operate(c, &op);
	}
}

static struct crash *crash_new(uint64_t seed)
{
	struct crash *c = calloc(1, sizeof *c);
	struct tree_walk walk;

	c->rig = files_rig_new(500 + seed % 4 * 300, seed);
	memory_blocks_keep(c->rig->blocks);
	c->replica = files_rig_copy(c->rig);
	memory_blocks_read_only(c->replica->blocks, true);
	if (one_in(c, 3))
		c->rig->f->hash_mask = c->replica->f->hash_mask = 0x3ull << 62;
	if (one_in(c, 3))
		memory_blocks_miss(c->rig->blocks, 100);
	c->source = (struct operation_source){ .below = source_below, .file_bytes = FILE_BYTES };
	model_init(&c->model, &(struct attributes){ 0 });
	c->model.inodes[0].a = rig_stat(c->rig, FS_ROOT_INODE);
	c->model.inodes[0].parent = FS_ROOT_INODE;
	walk_all(c->replica, &walk, 0);
	c->seen = walk.inodes;
	c->seen_count = walk.count;
	walk.inodes = NULL;
	tree_walk_end(&walk);
	return c;
}

static void crash_free(struct crash *c)
{
	model_end(&c->model);
	files_rig_free(c->rig);
	files_rig_free(c->replica);
	free(c->seen);
	free(c);
}

static void fs_crash_at_every_record_is_the_tree_of_so_many_operations(void **state)
{
	uint64_t first = test_seed_first(1), boundaries = 0, within = 0, promoted = 0, opened = 0;
	unsigned count = test_seed_count(8);
	const char *records = getenv("RECORDS");

	(void)state;
	for (uint64_t seed = first; seed < first + count; seed++) {
		struct crash *c = crash_new(seed);
		uint64_t limit = records ? strtoull(records, NULL, 0) : 1000;

		if (getenv("SIM_VERBOSE"))
			fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		while (c->boundaries < limit)
			play(c);
		boundaries += c->boundaries;
		within += c->within;
		promoted += c->promoted;
		opened += c->opened;
		crash_free(c);
	}
	if (count > 1)
		assert_true(within > 0 && promoted > 0 && opened > 0);
	if (getenv("SIM_VERBOSE"))
		fprintf(stderr, "%llu boundaries between records, %llu of them within an operation, %llu promoted\n",
			(unsigned long long)boundaries, (unsigned long long)within, (unsigned long long)promoted);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_crash_at_every_record_is_the_tree_of_so_many_operations),
};
TEST_GROUP(fs_crash, tests)
