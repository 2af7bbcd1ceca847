/* SPDX-License-Identifier: Apache-2.0 */
/* A check's life:
 *
 *	checker_start()		memory
 *	begin()			a still, mounted; from here again when it became stale
 *	checker_turn()		a step, once per turn of the loop, or when a block that was missing is there
 *	finish()		the report stays, memory goes */
#include "checker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs_check.h"
#include "say.h"
#include "status_json.h"

struct checker {
	struct io *io;
	struct volume *volume;
	const char *name;
	uint64_t kept;
	bool stopped;
	bool freed;			/* as soon as `turn` is no more in flight */
	struct checker_report report;
	json_t *found;			/* of the last one that went through */

	struct volume_still *still;	/* while one runs, and so are: */
	struct files *files;
	bool taken;			/* the still; it is mounted when there is a check */
	struct fs_check *check;		/* or NULL */
	struct io_op turn;
};

int checker_new(struct checker **out, struct io *io, struct volume *volume, const char *name, uint64_t kept)
{
	struct checker *c = io->alloc(io, sizeof *c, 0);

	if (!c)
		return -ENOMEM;
	c->io = io;
	c->volume = volume;
	c->name = name;
	c->kept = kept;
	*out = c;
	return 0;
}

static void end_try(struct checker *c)
{
	fs_check_free(c->check);
	c->check = NULL;
	c->taken = false;
}

static void release(struct checker *c)
{
	end_try(c);
	if (c->files)
		files_delete(c->files);
	c->io->free(c->io, c->files);
	c->files = NULL;
	volume_still_free(c->still);
	c->still = NULL;
}

void checker_stop(struct checker *c)
{
	c->stopped = true;
	if (!c->report.running)
		return;
	release(c);
	c->report.running = false;
	c->report.result = -ESHUTDOWN;
	snprintf(c->report.why, sizeof c->report.why, "volume is stopping: the check has ended before it was through; "
		 "a stopped replica can be checked too");
}

void checker_free(struct checker *c)
{
	if (!c)
		return;
	checker_stop(c);
	json_decref(c->found);
	c->found = NULL;
	c->freed = true;
	if (!c->turn.in_flight)
		c->io->free(c->io, c);
}

/* ---- steps ---- */

static void checker_turn(struct io_op *op, int64_t result);

static void turn_soon(struct checker *c)
{
	if (c->turn.in_flight)
		return;
	c->turn = (struct io_op){ .kind = IO_SOON, .done = checker_turn };
	c->io->submit(c->io, &c->turn);
}

static void block_ready(struct blocks *blocks)
{
	turn_soon(blocks->context);
}

static void finish(struct checker *c, int result)
{
	c->report.running = false;
	c->report.result = result;
	if (result == 0) {
		const struct fs_check_figures *f = fs_check_figures(c->check);

		json_decref(c->found);
		c->found = json_object();
		if (!c->found || !check_json(c->found, c->check)) {
			c->report.result = -ENOMEM;
			snprintf(c->report.why, sizeof c->report.why, "check: no memory to tell what was found");
		}
		say(c->io, f->damages ? IO_ERROR : IO_INFO, "volume=%s check: %llu damages in %llu inodes and %llu "
		    "blocks, as of LSN %llu", c->name, (unsigned long long)f->damages, (unsigned long long)f->inodes,
		    (unsigned long long)f->blocks_used, (unsigned long long)c->report.lsn);
	} else {
		if (!c->report.why[0])
			snprintf(c->report.why, WHY_BYTES, "block %llu: %s",
				 (unsigned long long)c->files->fs.transaction.damage.block,
				 c->files->fs.transaction.damage.what ? c->files->fs.transaction.damage.what
								      : strerror(-result));
		say(c->io, IO_WARNING, "volume=%s check: ended before it was through: %s", c->name, c->report.why);
	}
	release(c);
}

/* As of now. */
static int begin(struct checker *c)
{
	char why[WHY_BYTES] = "";
	int result = c->taken ? 0 : volume_still_take(c->still, &c->report.lsn);

	c->taken = result == 0;
	if (result == -EIO)
		snprintf(c->report.why, WHY_BYTES, "volume cannot be read just now: a resync runs, and its undo was "
			 "too small to keep what was there before; check it when the resync is over");
	if (result)
		return result;
	result = files_mount(c->files, why);
	if (result == -EAGAIN || result == -ESTALE)
		return result;
	if (result) {
		snprintf(c->report.why, WHY_BYTES, "%.500s", why);
		return result;
	}
	result = fs_check_new(&c->check, c->files, CHECK_BYTES);
	if (result)
		snprintf(c->report.why, WHY_BYTES, "check: no memory");
	return result;
}

/* The still has no more of what is needed. */
static int again(struct checker *c)
{
	end_try(c);
	if (c->report.tries < CHECK_TRIES) {
		c->report.tries++;
		return 1;
	}
	snprintf(c->report.why, WHY_BYTES, "volume is too busy: %d times more of the filesystem changed than could be "
		 "kept while it was checked; check it at a quieter hour, or another node, or a stopped replica",
		 CHECK_TRIES);
	return -ESTALE;
}

static void checker_turn(struct io_op *op, int64_t ended)
{
	struct checker *c = container_of(op, struct checker, turn);
	int result;

	(void)ended;
	if (c->freed) {
		c->io->free(c->io, c);
		return;
	}
	if (!c->report.running)
		return;
	result = c->check ? fs_check_step(c->check) : begin(c);
	if (result == 0 && fs_check_progress(c->check) < 1000)
		result = 1;	/* it was begun */
	if (result == -ESTALE)
		result = again(c);
	if (result == 1)
		turn_soon(c);
	else if (result != -EAGAIN)
		finish(c, result);
}

int checker_start(struct checker *c, char why[WHY_BYTES])
{
	const struct volume_still_config config = { .blocks_max = c->kept, .keep = block_may_be_metadata };
	int result;

	if (c->report.running || c->stopped) {
		snprintf(why, WHY_BYTES, "volume is being checked already; wait until that is over");
		return -EBUSY;
	}
	snprintf(why, WHY_BYTES, "check: no memory for it; free some, or check a stopped replica");
	result = volume_still_new(c->volume, &config, &c->still);
	c->files = result ? NULL : c->io->alloc(c->io, sizeof *c->files, 0);
	if (result == 0)
		result = c->files ? files_new(c->files, c->io, volume_still_blocks(c->still), why) : -ENOMEM;
	if (result) {
		release(c);
		return result;
	}
	volume_still_blocks(c->still)->ready = block_ready;
	volume_still_blocks(c->still)->context = c;
	c->report = (struct checker_report){ .number = c->report.number + 1, .running = true, .tries = 1 };
	turn_soon(c);
	return 0;
}

/* ---- as JSON ---- */

bool check_json(json_t *object, const struct fs_check *check)
{
	const struct fs_check_figures *f = fs_check_figures(check);
	json_t *found = json_array();
	char text[CHECK_TEXT_BYTES];
	bool good = found;

	for (unsigned i = 0; good && i < min_u64(f->damages, CHECK_DAMAGES_MAX); i++) {
		fs_check_damage_text(fs_check_damage(check, i), text);
		good = json_array_append_new(found, text_json(text)) == 0;
	}
	good = json_object_set_new(object, "found", found) == 0 && good;
	const struct { const char *key; uint64_t value; } numbers[] = {
		{ "damages", f->damages }, { "inodes", f->inodes }, { "directories", f->directories },
		{ "names", f->names }, { "blocks_used", f->blocks_used }, { "nodes", f->nodes },
		{ "data_blocks", f->data_blocks }, { "passed", f->passed },
	};
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		good = json_object_set_new(object, numbers[i].key, json_integer((json_int_t)numbers[i].value)) == 0 &&
		       good;
	return json_object_set_new(object, "incomplete", json_boolean(f->incomplete)) == 0 && good;
}

json_t *checker_json(const struct checker *c)
{
	const struct checker_report *r = &c->report;
	const char *error = r->result < 0 ? strerrorname_np(-r->result) : "";
	unsigned permille = r->running ? c->check ? fs_check_progress(c->check) : 0 : 1000;
	json_t *object = json_pack("{s:I, s:b, s:s, s:o, s:i, s:I, s:i}", "number", (json_int_t)r->number, "running",
				   r->running, "error", error ? error : "EIO", "why", text_json(r->why), "tries",
				   (int)r->tries, "lsn", (json_int_t)r->lsn, "permille", (int)permille);

	if (object && r->number && !r->running && r->result == 0)
		json_object_update(object, c->found);
	return object;
}
