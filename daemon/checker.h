/* SPDX-License-Identifier: Apache-2.0 */
/* `holdfast check` of a volume whose daemon runs: a check (fs/fs_check.h) of a still (volume.h), some of it in each
 * turn of the loop, so nobody waits for it: neither clients, nor the log of a secondary. Its memory, some 70 MiB at
 * most (bounds.h), is there while one runs.
 *
 * When more metadata changes meanwhile than there is room to keep, it begins anew, CHECK_TRIES times in all.
 */
#ifndef HOLDFAST_CHECKER_H
#define HOLDFAST_CHECKER_H

#include <jansson.h>

#include "volume.h"

struct checker;

/* What the last check has found, or the one that runs. */
struct checker_report {
	uint64_t number;		/* of the check, since the daemon's start; 0: none yet */
	bool running;
	int result;			/* 0: it went through; else -errno with @why */
	char why[WHY_BYTES];
	unsigned tries;			/* 1.. */
	uint64_t lsn;			/* the volume's, as of which */
};

/* *out is the caller's until checker_free(). @name: the volume's, for the log; it stays. @kept: blocks that change
 * meanwhile are kept, so many at most (CHECK_KEPT_BLOCKS). -ENOMEM. */
MUST_CHECK int checker_new(struct checker **out, struct io *io, struct volume *volume, const char *name,
			   uint64_t kept);
/* Ends what runs; after it, or when nothing runs. NULL is fine. */
void checker_free(struct checker *c);
/* Begins one. -EBUSY: one runs; -ENOMEM; with @why. What else may go wrong, its report says. */
MUST_CHECK int checker_start(struct checker *c, char why[WHY_BYTES]);
/* Ends what runs, and no other begins: before volume_close(). */
void checker_stop(struct checker *c);

/* The report as JSON, the caller's; NULL: no memory. Its keys are only ever added to:
 *	{ "number": n, "running": bool, "error": ""|"EBUSY", "why": "", "tries": n, "lsn": n, "permille": n } and, when
 *	it went through, those of check_json() */
MUST_CHECK json_t *checker_json(const struct checker *c);

struct fs_check;
/* What a check that is done has found, into @object:
 *	"damages": n, "found": [ "inode 7 (/a/b): ..." ] (the first ones), "inodes": n, "directories": n, "names": n,
 *	"blocks_used": n, "nodes": n, "data_blocks": n, "passed": n, "incomplete": bool
 * False: no memory. */
MUST_CHECK bool check_json(json_t *object, const struct fs_check *check);

#endif
