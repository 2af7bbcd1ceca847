/* SPDX-License-Identifier: Apache-2.0 */
/* How full the filesystem of a volume is, as `holdfast df` shows it: from its superblock, as readers see it. */
#ifndef HOLDFAST_USAGE_H
#define HOLDFAST_USAGE_H

#include <jansson.h>

#include "volume.h"

/* Embedded in who asks. */
struct usage {
	/* 0: `json` is the caller's (NULL: no memory); else -errno with @why. */
	void (*done)(struct usage *usage, int result);
	json_t *json;
	char why[WHY_BYTES];

	struct volume_request request;	/* its own, until done() */
};

/* done() runs later, or now. */
void usage_ask(struct volume *v, struct usage *usage);
/* Of the bytes of block 0: { "size": n, "used": n, "available": n (bytes), "inodes": n }. -EINVAL: there is no
 * filesystem, or its superblock is damaged, with @why. */
MUST_CHECK int usage_json(const uint8_t page[BLOCK_BYTES], json_t **out, char why[WHY_BYTES]);

#endif
