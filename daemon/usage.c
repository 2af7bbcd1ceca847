/* SPDX-License-Identifier: Apache-2.0 */
#include "usage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs.h"

int usage_json(const uint8_t page[BLOCK_BYTES], json_t **out, char why[WHY_BYTES])
{
	struct fs_figures f;
	const char *what = fs_figures_read(page, &f);

	if (what) {
		snprintf(why, WHY_BYTES, "volume holds no filesystem that can be read: its superblock, block 0: %s%s",
			 what, block_is_zero(page) ? " (it is made when a node becomes primary for the first time)"
						   : "");
		return -EINVAL;
	}
	*out = json_pack("{s:I, s:I, s:I, s:I}", "size", (json_int_t)(f.blocks * BLOCK_BYTES), "used",
			 (json_int_t)((f.blocks - f.free) * BLOCK_BYTES), "available",
			 (json_int_t)(f.available * BLOCK_BYTES), "inodes", (json_int_t)f.inodes);
	return 0;
}

static void usage_read(struct volume_request *request, int result)
{
	struct usage *usage = container_of(request, struct usage, request);
	uint8_t *page = request->buffer;

	usage->json = NULL;
	if (result)
		snprintf(usage->why, WHY_BYTES, "volume cannot be read just now; see `holdfast status`");
	else
		result = usage_json(page, &usage->json, usage->why);
	free(page);
	usage->done(usage, result);
}

void usage_ask(struct volume *v, struct usage *usage)
{
	uint8_t *page = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);

	if (!page) {
		snprintf(usage->why, WHY_BYTES, "df: no memory");
		usage->done(usage, -ENOMEM);
		return;
	}
	usage->request = (struct volume_request){ .op = VOLUME_READ, .len = BLOCK_BYTES, .buffer = page,
						  .done = usage_read };
	volume_submit(v, &usage->request);
}
