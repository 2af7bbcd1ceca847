/* SPDX-License-Identifier: Apache-2.0 */
/* The filesystem on the nodes of a cluster: operations on whoever is primary, beside a model of POSIX, and a walk
 * through what each node shows, now and then.
 *
 * All operations that any primary has ever done are kept, with the branch and LSN of their records. So at any place of
 * any log it is known what the tree is there: the sum of the model's at that moment; and the model of a new primary is
 * made by playing those on its path once more. What a node shows must be that: after failovers, in a resync, after a
 * rewind, after crashes.
 *
 * An operation that a crash has ended in the middle of its records leaves one file between old and new. The new primary
 * walks its tree, and the model takes that file as it is, when it is one of those that may be. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cluster.h"
#include "files_tree.h"
#include "fs_check.h"
#include "lineage.h"
#include "node_files.h"

enum {
	HANDLES_MAX = 6,
	FILE_BYTES = 600 << 10,		/* a file, with its holes */
	WRITE_BYTES = 24 << 10, XATTR_BYTES = 6 << 10,
	COMB_WRITES = 80,
	CHECK_MEMORY = 64 << 10,
};

enum happening_kind { HAPPENED_FORMAT, HAPPENED_OPERATION, HAPPENED_WITHIN, HAPPENED_ADOPTED };

/* What a record did to the tree. */
struct happening {
	enum happening_kind kind;
	const struct branch *branch;
	uint64_t lsn;			/* where its record ends */
	struct attributes root;		/* FORMAT */
	struct operation operation;	/* OPERATION */
	struct tree_file adopted;	/* ADOPTED */
	struct tree_moment moment;	/* the tree from here on */
};

struct files_history {
	struct happening **at;
	unsigned count, room;
	uint64_t operations, walks, adopted, within;
};

/* What is known of the tree of a primary. BETWEEN: one file is being changed, and it is not known how far that went. */
enum node_files_stage { STAGE_UNKNOWN, STAGE_NONE, STAGE_BETWEEN, STAGE_KNOWN };

struct node_files {
	struct files files;
	struct cluster *cluster;
	struct files_history *history;
	const char *name;		/* of the node */
	bool mounted;
	bool waiting;			/* for ready() */
	struct operation_source source;

	/* of a primary */
	const struct branch *branch;	/* the epoch that the model is of; NULL = none */
	enum node_files_stage stage;
	struct model model;
	struct operation operation;
	bool busy, within;		/* it is under way; some of its records are there */
	uint64_t comb;			/* this file gets holes, */
	unsigned comb_left;		/* with so many writes to come */
	uint64_t handles[HANDLES_MAX];
	unsigned handle_count;

	/* a walk through what it shows, at this place of this branch; and the last one that was done */
	bool walking;
	struct tree_walk walk;
	uint64_t walk_lsn, walked_lsn;
	const struct branch *walk_on, *walked_on;

	bool checking;
};

static uint64_t source_below(struct operation_source *source, uint64_t bound)
{
	return world_random_below(cluster_world(container_of(source, struct node_files, source)->cluster), bound);
}

/* ---- what has happened ---- */

static struct happening *happened(struct node_files *nf, enum happening_kind kind, uint64_t lsn)
{
	struct files_history *h = nf->history;
	struct happening *new = calloc(1, sizeof *new);

	if (h->count == h->room) {
		h->room = h->room ? 2 * h->room : 256;
		h->at = realloc(h->at, h->room * sizeof *h->at);
	}
	*new = (struct happening){ .kind = kind, .branch = nf->branch, .lsn = lsn };
	return h->at[h->count++] = new;
}

/* Whether it is on the path to @b up to @lsn. */
static bool on_path(const struct happening *h, const struct branch *b, uint64_t lsn)
{
	for (; b; b = b->parent) {
		if (b == h->branch)
			return h->lsn <= lsn;
		lsn = min_u64(lsn, b->start);
	}
	return false;
}

/* The last one of the path; NULL: there is no filesystem there. */
static const struct happening *happened_last(const struct files_history *h, const struct branch *b, uint64_t lsn)
{
	for (unsigned i = h->count; i-- > 0;)
		if (on_path(h->at[i], b, lsn))
			return h->at[i];
	return NULL;
}

struct files_history *files_history_new(void) { return calloc(1, sizeof(struct files_history)); }

void files_history_free(struct files_history *h)
{
	for (unsigned i = 0; h && i < h->count; i++) {
		tree_moment_free(&h->at[i]->moment);
		free(h->at[i]->adopted.data);
		free(h->at[i]);
	}
	if (h)
		free(h->at);
	free(h);
}

/* ---- up and down ---- */

static void ready(struct blocks *blocks) { ((struct node_files *)blocks->context)->waiting = false; }

/* As the mounted directory of a secondary hears it. */
static bool applied(void *context, const void *annotation, uint32_t len, uint64_t lsn)
{
	struct node_files *nf = context;

	(void)lsn;
	if (!annotation || !annotation_check(annotation, len))
		nf->mounted = false;
	return true;
}

struct node_files *node_files_new(struct files_history *h, struct cluster *c, unsigned node, struct volume *v,
				  struct io *io)
{
	struct node_files *nf = calloc(1, sizeof *nf);
	struct blocks *blocks = volume_blocks(v);
	char why[WHY_BYTES];

	*nf = (struct node_files){ .cluster = c, .history = h, .name = cluster_node_name(node) };
	nf->source = (struct operation_source){ .below = source_below, .file_bytes = FILE_BYTES };
	if (files_new(&nf->files, io, blocks, why))
		cluster_breach(c, "node %s: no filesystem: %s", nf->name, why);
	blocks->ready = ready;
	blocks->context = nf;
	volume_on_applied(v, applied, nf);
	return nf;
}

static void forget_model(struct node_files *nf)
{
	model_end(&nf->model);
	nf->model = (struct model){ 0 };
	nf->branch = NULL;
	nf->stage = STAGE_UNKNOWN;
	nf->busy = nf->within = false;
	nf->comb_left = 0;
}

static void walk_drop(struct node_files *nf)
{
	if (nf->walking)
		tree_walk_end(&nf->walk);
	nf->walking = false;
}

void node_files_free(struct node_files *nf, bool crashed)
{
	if (!nf)
		return;
	walk_drop(nf);
	forget_model(nf);
	if (!crashed)
		files_delete(&nf->files);	/* else its memory went with the machine's */
	free(nf);
}

/* ---- the model of a primary ---- */

/* A model of the path to @b up to @lsn. */
static void replay(struct node_files *nf, const struct branch *b, uint64_t lsn, struct model *m)
{
	for (unsigned i = 0; i < nf->history->count; i++) {
		const struct happening *h = nf->history->at[i];

		if (!on_path(h, b, lsn))
			continue;
		if (h->kind == HAPPENED_FORMAT) {
			model_init(m, &h->root);
		} else if (h->kind == HAPPENED_ADOPTED) {
			tree_adopt(m, &h->adopted);
		} else if (h->kind == HAPPENED_OPERATION) {
			int result = operation_model(&h->operation, m, 0);

			if (result && result != -ENOENT)	/* an open file without a name may be gone */
				cluster_breach(nf->cluster, "node %s: %s of LSN %llu, played once more, says %d",
					       nf->name, operation_name(&h->operation), (unsigned long long)h->lsn,
					       result);
		}
	}
	model_remount(m);
}

/* A new epoch of this node: what is there, and nothing is open. */
static void epoch_begin(struct node_files *nf, const struct files_view *view)
{
	const struct happening *last = happened_last(nf->history, view->branch, view->end);

	forget_model(nf);
	nf->branch = view->branch;
	while (nf->handle_count)
		op_release(&nf->files, nf->handles[--nf->handle_count]);
	nf->mounted = false;
	if (last)
		replay(nf, view->branch, view->end, &nf->model);
	nf->stage = !last ? STAGE_NONE : last->kind == HAPPENED_WITHIN ? STAGE_BETWEEN : STAGE_KNOWN;
}

/* 0, -EAGAIN, -EIO; -EINVAL where there is no filesystem, and should be none. */
static int mount(struct node_files *nf, bool there)
{
	char why[WHY_BYTES];
	int error = nf->mounted ? 0 : fs_mount(&nf->files.fs, why);

	if (error && error != -EAGAIN && error != -EIO && (error != -EINVAL || there))
		cluster_breach(nf->cluster, "node %s: the filesystem cannot be mounted: %s", nf->name, why);
	if (!error && !there)
		cluster_breach(nf->cluster, "P2: node %s has a filesystem that it has not been given", nf->name);
	nf->mounted = !error;
	return error;
}

static int format(struct node_files *nf)
{
	static const uint8_t uuid[UUID_BYTES] = "files in a world";
	const struct caller owner = { .now = nf->source.now };
	int error = mount(nf, false);
	struct happening *h;

	if (error == -EINVAL)
		error = files_format(&nf->files, &owner, uuid);
	if (error)
		return error;
	h = happened(nf, HAPPENED_FORMAT, op_lsn(&nf->files));
	error = op_getattr(&nf->files, FS_ROOT_INODE, &h->root);
	CHECK(error == 0);		/* it was made a moment ago */
	model_init(&nf->model, &h->root);
	h->moment = tree_moment_of(&nf->model);
	nf->mounted = true;
	nf->stage = STAGE_KNOWN;
	return 0;
}

/* ---- operations ---- */

/* Every second block of a file is written, so that what is done to it then takes many records. */
static void draw_comb(struct node_files *nf)
{
	struct operation *op = &nf->operation;

	*op = (struct operation){ .verb = OPERATION_WRITE, .ino = nf->comb, .len = BLOCK_BYTES,
				  .caller.now = nf->source.now, .fill = nf->comb_left };
	op->offset = 2ull * BLOCK_BYTES * (COMB_WRITES - nf->comb_left--);
	if (nf->comb_left)
		return;
	*op = (struct operation){ .verb = OPERATION_FALLOCATE, .ino = nf->comb, .caller.now = nf->source.now,
				  .len = 2ull * BLOCK_BYTES * COMB_WRITES };
	op->flags = (int)source_below(&nf->source, 2) ? 3 : 16;	/* punch a hole, or zero the range */
	if (source_below(&nf->source, 2))
		*op = (struct operation){ .verb = OPERATION_SETATTR, .ino = nf->comb, .caller.now = nf->source.now,
					  .set = { .valid = SET_SIZE, .size = source_below(&nf->source, 5000) } };
}

static void draw(struct node_files *nf)
{
	struct operation *op = &nf->operation;

	if (nf->comb_left && !model_inode(&nf->model, nf->comb))
		nf->comb_left = 0;
	if (nf->comb_left) {
		draw_comb(nf);
		return;
	}
	nf->source.may_open = nf->handle_count < HANDLES_MAX;
	operation_draw(op, &nf->source, &nf->model);
	if (op->verb == OPERATION_WRITE && op->offset < FILE_BYTES_MAX)
		op->len = min_u64(op->len, WRITE_BYTES);
	if (op->verb == OPERATION_SETXATTR)
		op->len = min_u64(op->len, XATTR_BYTES);
	if (source_below(&nf->source, 25) == 0) {
		nf->comb = operation_draw_inode(&nf->source, &nf->model, S_IFREG);
		nf->comb_left = COMB_WRITES;
	}
}

static void operation_done(struct node_files *nf, int result, bool logged)
{
	struct operation *op = &nf->operation;
	int model = operation_model(op, &nf->model, result);

	if (model != result)
		cluster_breach(nf->cluster, "node %s: %s says %d, and not %d", nf->name, operation_name(op),
			       result, model);
	if (logged) {
		struct happening *h = happened(nf, HAPPENED_OPERATION, op_lsn(&nf->files));

		h->operation = *op;
		h->moment = tree_moment_of(&nf->model);
	}
	nf->history->operations++;
	if (result == 0 && (op->verb == OPERATION_CREATE || op->verb == OPERATION_OPEN))
		nf->handles[nf->handle_count++] = op->attributes.ino;
}

/* False: it has to wait. */
static bool operate(struct node_files *nf)
{
	uint64_t before = op_lsn(&nf->files);
	int result;

	if (!nf->busy)
		draw(nf);
	nf->busy = true;
	result = operation_run(&nf->operation, &nf->files);
	if (result == -EAGAIN) {
		nf->waiting = true;
		return false;
	}
	if (result == OP_AGAIN) {
		struct happening *h = happened(nf, HAPPENED_WITHIN, op_lsn(&nf->files));

		h->moment = tree_moment_within(&nf->model, &nf->operation);
		nf->within = true;
		nf->history->within++;
		return true;
	}
	nf->busy = false;
	if (result == -EROFS || result == -EIO || (result == -ENOSPC && nf->within)) {
		forget_model(nf);	/* what is there will be seen when it is primary again */
		return true;
	}
	nf->within = false;
	if (result != -ENOSPC)
		operation_done(nf, result, op_lsn(&nf->files) != before);
	return true;
}

static bool reclaim(struct node_files *nf)
{
	int result = op_reclaim(&nf->files);

	nf->waiting = result == -EAGAIN;
	return result >= 0;
}

static bool release(struct node_files *nf)
{
	unsigned h = (unsigned)source_below(&nf->source, nf->handle_count);

	op_release(&nf->files, nf->handles[h]);
	model_release(&nf->model, nf->handles[h]);
	nf->handles[h] = nf->handles[--nf->handle_count];
	return true;
}

bool node_files_play(struct node_files *nf, const struct files_view *view)
{
	uint64_t now = world_now(cluster_world(nf->cluster));
	int error = 0;

	if (nf->waiting)
		return false;
	nf->source.now = (struct fs_time){ 1000000000 + (int64_t)(now / SECONDS), (uint32_t)(now % SECONDS) };
	if (nf->branch != view->branch)
		epoch_begin(nf, view);
	if (nf->stage == STAGE_BETWEEN)
		return false;			/* until it was walked */
	if (nf->stage == STAGE_NONE)
		error = format(nf);
	else if (!nf->mounted)
		error = mount(nf, true);
	if (error) {
		nf->waiting = error == -EAGAIN;
		return false;
	}
	if (!nf->busy && nf->handle_count && source_below(&nf->source, 12) == 0)
		return release(nf);
	if (!nf->busy && source_below(&nf->source, 20) == 0)
		return reclaim(nf);
	return operate(nf);
}

/* ---- looking ---- */

static void walked(struct node_files *nf, const struct files_view *view, const struct happening *h)
{
	const char *differs = tree_differs(&nf->walk, &h->moment);

	if (differs) {
		struct model m = { 0 };

		replay(nf, nf->walk_on, nf->walk_lsn, &m);
		tree_explain(&nf->walk, &m);
		cluster_breach(nf->cluster, "P2: node %s, filesystem at LSN %llu: %s (the last operation there: %s)",
			       nf->name,
			       (unsigned long long)nf->walk_lsn, differs,
			       h->kind == HAPPENED_OPERATION ? operation_name(&h->operation) : "none");
	}
	nf->history->walks++;
	nf->walked_lsn = nf->walk_lsn;
	nf->walked_on = nf->walk_on;
	if (nf->branch == view->branch && nf->stage == STAGE_BETWEEN && nf->walk_lsn == view->end) {
		struct happening *adopted = happened(nf, HAPPENED_ADOPTED, nf->walk_lsn);

		adopted->adopted = nf->walk.kept;
		nf->walk.kept.data = NULL;
		if (adopted->adopted.data)
			tree_adopt(&nf->model, &adopted->adopted);
		adopted->moment = tree_moment_of(&nf->model);
		nf->stage = STAGE_KNOWN;
		nf->history->adopted++;
	}
	walk_drop(nf);
}

void node_files_look(struct node_files *nf, const struct files_view *view)
{
	uint64_t lsn = view->lsn;
	const struct happening *h;
	int result;

	if (nf->checking)
		return;
	if (nf->walking && (nf->walk_lsn != lsn || nf->walk_on != view->shown || !nf->mounted))
		walk_drop(nf);
	if (nf->walked_lsn == lsn && nf->walked_on == view->shown && nf->stage != STAGE_BETWEEN)
		return;
	h = happened_last(nf->history, view->shown, lsn);
	if (nf->walking && (!h || nf->walk.keep != h->moment.ino))
		walk_drop(nf);		/* meanwhile it is known how far an operation went */
	result = mount(nf, h != NULL);
	if (result == -EINVAL) {
		nf->walked_lsn = lsn;
		nf->walked_on = view->shown;
	}
	if (result)
		return;
	if (!nf->walking) {
		tree_walk_begin(&nf->walk, &nf->files, h->moment.ino);
		nf->walking = true;
		nf->walk_lsn = lsn;
		nf->walk_on = view->shown;
	}
	while ((result = tree_walk_step(&nf->walk)) == 1)
		;
	if (result == 0)
		walked(nf, view, h);
	else if (result != -EAGAIN && result != -EIO)
		cluster_breach(nf->cluster, "P2: node %s, filesystem at LSN %llu: a walk says %d", nf->name,
			       (unsigned long long)lsn, result);
	else if (result == -EIO)
		walk_drop(nf);
}

/* ---- at rest ---- */

void node_files_check(struct node_files *nf)
{
	static char text[CHECK_TEXT_BYTES];
	struct fs_check *check;
	int result;

	if (!nf->mounted)
		return;
	if (fs_check_new(&check, &nf->files, CHECK_MEMORY))
		cluster_breach(nf->cluster, "node %s: no memory for a check", nf->name);
	nf->checking = true;
	while ((result = fs_check_step(check)) == 1 || (result == -EAGAIN && cluster_step(nf->cluster)))
		;
	if (result)
		cluster_breach(nf->cluster, "node %s, filesystem: a check says %d", nf->name, result);
	if (fs_check_figures(check)->damages) {
		fs_check_damage_text(fs_check_damage(check, 0), text);
		cluster_breach(nf->cluster, "node %s, filesystem: %s", nf->name, text);
	}
	nf->checking = false;
	fs_check_free(check);
}

bool node_files_walked(const struct node_files *nf, const struct files_view *view)
{
	return nf->walked_on == view->shown && nf->walked_lsn == view->lsn && nf->stage != STAGE_BETWEEN;
}

void node_files_reclaim(struct node_files *nf)
{
	int result = nf->mounted ? op_reclaim(&nf->files) : 0;

	while (result == OP_AGAIN || (result == -EAGAIN && cluster_step(nf->cluster)))
		result = op_reclaim(&nf->files);
	if (result)
		cluster_breach(nf->cluster, "node %s: a reclaim says %d", nf->name, result);
}

void files_history_figures(const struct files_history *h, struct files_figures *figures)
{
	if (!h)
		return;
	figures->operations += h->operations;
	figures->walks += h->walks;
	figures->within += h->within;
	figures->adopted += h->adopted;
}
