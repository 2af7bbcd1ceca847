/* SPDX-License-Identifier: Apache-2.0 */
#include "files_rig.h"

#include "fs_check.h"

static uint64_t draw(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

uint64_t files_rig_draw(struct files_rig *r, uint64_t below)
{
	return draw(&r->random) % below;
}

static struct files_rig *rig_on(struct memory_blocks *blocks, uint64_t seed)
{
	static const uint32_t groups[] = { 200 };
	struct files_rig *r = calloc(1, sizeof *r);
	char why[WHY_BYTES];

	r->blocks = blocks;
	r->f = &r->files;
	r->random = seed;
	r->root = (struct caller){ .umask = 022, .now = { 1000000000, 5 } };
	r->user = (struct caller){ .uid = 1000, .gid = 100, .groups = groups, .group_count = 1, .umask = 022,
				   .now = r->root.now };
	r->other = (struct caller){ .uid = 1001, .gid = 100, .umask = 027, .now = r->root.now };
	assert_int_equal(files_new(r->f, memory_blocks_io(blocks), memory_blocks_blocks(blocks), why), 0);
	return r;
}

struct files_rig *files_rig_new(uint64_t blocks, uint64_t seed)
{
	static const uint8_t uuid[UUID_BYTES] = "a files rig";
	struct files_rig *r = rig_on(memory_blocks_new(blocks, seed), seed);

	assert_int_equal(files_format(r->f, &r->root, uuid), 0);
	return r;
}

static void mount(struct files_rig *r)
{
	char why[WHY_BYTES];
	int error;

	do
		error = files_mount(r->f, why);
	while (files_rig_again(r, error));
	assert_int_equal(error, 0);
}

struct files_rig *files_rig_copy(struct files_rig *r)
{
	uint64_t seed = draw(&r->random), count;
	struct memory_blocks *blocks = memory_blocks_new(memory_blocks_blocks(r->blocks)->count, seed);
	uint64_t *written = memory_blocks_written(r->blocks, &count);
	struct files_rig *copy;

	for (uint64_t i = 0; i < count; i++)
		memcpy(memory_blocks_make(blocks, written[i]), memory_blocks_page(r->blocks, written[i]), BLOCK_BYTES);
	free(written);
	copy = rig_on(blocks, seed);
	copy->files.hash_mask = r->files.hash_mask;
	copy->root.now = copy->user.now = copy->other.now = r->root.now;
	mount(copy);
	return copy;
}

void files_rig_free(struct files_rig *r)
{
	files_delete(r->f);
	memory_blocks_free(r->blocks);
	free(r);
}

void files_rig_remount(struct files_rig *r)
{
	files_unmount(r->f);
	mount(r);
}

bool files_rig_again(struct files_rig *r, int result)
{
	if (result == -EAGAIN)
		memory_blocks_settle(r->blocks);
	if (result == OP_AGAIN && r->between)
		r->between(r);
	return result == -EAGAIN || result == OP_AGAIN;
}

void files_rig_tick(struct files_rig *r)
{
	struct fs_time now = { r->root.now.seconds + (int64_t)files_rig_draw(r, 3),
			       (uint32_t)files_rig_draw(r, 1000000000) };

	r->root.now = r->user.now = r->other.now = now;
}

void files_rig_reclaim(struct files_rig *r)
{
	assert_int_equal(RIG(r, op_reclaim(r->f)), 0);
	assert_false(op_reclaim_wanted(r->f));
}

uint64_t files_rig_damages(struct files_rig *r)
{
	struct fs_check *check;
	char text[CHECK_TEXT_BYTES];
	uint64_t damages;
	int result;

	assert_int_equal(fs_check_new(&check, r->f, files_rig_draw(r, 2) ? CHECK_MEMORY_MIN : 1 << 20), 0);
	do
		result = fs_check_step(check);
	while (result == 1 || files_rig_again(r, result));
	damages = fs_check_figures(check)->damages;
	for (unsigned i = 0; i < min_u64(damages, CHECK_DAMAGES_MAX); i++) {
		fs_check_damage_text(fs_check_damage(check, i), text);
		fprintf(stderr, "%s\n", text);
	}
	fs_check_free(check);
	return damages + (result != 0);
}

static void piece_read(struct files_rig *r, const struct file_plan *plan, const struct file_piece *piece, uint8_t *out)
{
	uint64_t offset = piece->offset;

	if (piece->kind == PIECE_ZEROS)
		memset(out, 0, piece->len);
	if (piece->kind == PIECE_INLINE)
		memcpy(out, plan->bytes + offset, piece->len);
	if (piece->kind != PIECE_VOLUME)
		return;
	for (uint64_t done = 0; done < piece->len;) {
		uint64_t part = min_u64(BLOCK_BYTES - offset % BLOCK_BYTES, piece->len - done);
		const uint8_t *page = memory_blocks_page(r->blocks, offset / BLOCK_BYTES);

		if (page)
			memcpy(out + done, page + offset % BLOCK_BYTES, part);
		else
			memset(out + done, 0, part);
		done += part;
		offset += part;
	}
}

uint64_t files_rig_read(struct files_rig *r, uint64_t ino, uint64_t offset, uint8_t *out, uint64_t len)
{
	struct file_plan plan;
	uint64_t done = 0;

	do {
		uint64_t at = 0;

		assert_int_equal(RIG(r, op_read(r->f, ino, offset + done, len - done, &plan)), 0);
		for (unsigned i = 0; i < plan.count; at += plan.pieces[i++].len)
			piece_read(r, &plan, &plan.pieces[i], out + done + at);
		assert_int_equal(at, plan.len);
		done += at;
	} while (done < len && plan.len);
	return done;
}

int files_rig_write(struct files_rig *r, const struct caller *c, uint64_t ino, uint64_t offset, const void *bytes,
		    uint64_t len)
{
	uint64_t done = 0;

	while (done < len) {
		uint32_t written;
		int error = RIG(r, op_write(r->f, c, ino, offset + done, (const uint8_t *)bytes + done, len - done, 0,
					    &written));

		if (error)
			return error;
		assert_in_range(written, 1, len - done);
		done += written;
	}
	return 0;
}
