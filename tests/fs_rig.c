/* SPDX-License-Identifier: Apache-2.0 */
#include "fs_rig.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t uuid[UUID_BYTES] = "0123456789abcde";

static struct fs_rig *rig_on(struct memory_blocks *blocks, uint64_t seed)
{
	struct fs_rig *r = calloc(1, sizeof *r);
	char why[WHY_BYTES];

	r->blocks = blocks;
	r->random = seed;
	CHECK(fs_new(&r->fs, memory_blocks_io(blocks), memory_blocks_blocks(blocks), why) == 0);
	return r;
}

struct fs_rig *fs_rig_new(uint64_t blocks, uint64_t seed)
{
	struct fs_rig *r = rig_on(memory_blocks_new(blocks, seed), seed);

	CHECK(FS_RIG_DO(r, fs_format(&r->fs, uuid, 1)) == 0);
	return r;
}

struct fs_rig *fs_rig_mount(struct memory_blocks *blocks, char why[WHY_BYTES])
{
	struct fs_rig *r = rig_on(blocks, 1);
	int error;

	while (fs_rig_again(r, error = fs_mount(&r->fs, why)))
		;
	if (!error)
		return r;
	fs_rig_free(r);
	return NULL;
}

void fs_rig_free(struct fs_rig *r)
{
	if (!r)
		return;
	fs_delete(&r->fs);
	memory_blocks_free(r->blocks);
	free(r);
}

uint64_t fs_rig_draw(struct fs_rig *r, uint64_t below)
{
	uint64_t x = r->random += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (x ^ x >> 31) % below;
}

bool fs_rig_again(struct fs_rig *r, int error)
{
	if (!error)
		return false;
	fs_abort(&r->fs);
	if (error == -EAGAIN)
		memory_blocks_settle(r->blocks);
	return error == -EAGAIN;
}

int fs_rig_commit(struct fs_rig *r)
{
	uint64_t lsn;

	return fs_commit(&r->fs, NULL, 0, &lsn);
}

struct loud_listener { struct audit_listener listener; bool loud; };

static void damaged(struct audit_listener *listener, uint64_t inode, uint64_t block, uint64_t count,
		    const char *what)
{
	(void)inode;
	if (container_of(listener, struct loud_listener, listener)->loud)
		fprintf(stderr, "blocks %" PRIu64 " + %" PRIu64 ": %s\n", block, count, what);
}

struct audit_figures fs_rig_audit(struct fs_rig *r, uint64_t memory_bytes, bool loud)
{
	struct loud_listener listener = { { damaged, NULL }, loud };
	struct audit_figures figures;
	struct audit *a;
	int result;

	CHECK(audit_new(&a, &r->fs, &listener.listener, memory_bytes) == 0);
	while ((result = audit_step(a)) == 1 || fs_rig_again(r, result))
		;
	figures = *audit_figures(a);
	if (result) {
		figures.damages++;
		if (loud)
			fprintf(stderr, "the audit could not go on: %s\n", strerror(-result));
	}
	audit_free(a);
	return figures;
}

uint64_t fs_rig_damages(struct fs_rig *r, uint64_t memory_bytes, bool loud)
{
	return fs_rig_audit(r, memory_bytes, loud).damages;
}
