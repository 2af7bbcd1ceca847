/* SPDX-License-Identifier: Apache-2.0 */
/* What this node had written before it gave up its own history, as its files of undo keep it (blk/undo.h): found, and
 * made an image of, whether the daemon runs or not. Nothing here writes to a replica's files. */
#ifndef HOLDFAST_DIVERGENCE_H
#define HOLDFAST_DIVERGENCE_H

#include "config.h"

struct divergence {
	struct volume_divergence_status status;	/* but for blocks_kept, which needs the whole map: see the export */
	bool resync_runs;		/* it becomes one for good when that is over; it can be exported already */
	uint64_t space_bytes;		/* that its file takes on disk */
	char path[PATH_MAX];		/* of its file */
};

/* The divergence of @slot. 1 it is there, 0 there is none, -errno: the file cannot be read (-EBADMSG: what is in it
 * is damaged), with one sentence in @why. */
MUST_CHECK int divergence_read(struct divergence *out, const struct config *config, unsigned slot, char why[WHY_BYTES]);
/* The one whose id, as 16 hex digits, begins with @prefix. -EINVAL no hex digits; -ENOENT none; -ENOTUNIQ several;
 * -errno of divergence_read() when the only candidates cannot be read. One sentence in @why. */
MUST_CHECK int divergence_find(struct divergence *out, const struct config *config, const char *prefix,
			       char why[WHY_BYTES]);

struct divergence_export {
	bool force;			/* a file that is there already is replaced, when the image is whole */
	void (*progress)(void *context, uint64_t done, uint64_t total);	/* bytes; may be NULL */
	void *context;

	/* Out, when it is done. */
	uint64_t blocks_saved;		/* from the slot's file: all that the node's own records had changed, and
					 * what was changed since */
	uint64_t data_saved;		/* bytes of these that are data there; the others are holes: zeros, or, when it
					 * is partial, perhaps only noted to have changed */
	uint64_t partial;		/* as in the status, but at the end */
	uint64_t data_bytes;		/* in the image; the rest of it is holes */
};

/* Writes the volume as that side saw it to @path, a raw image with holes: a saved block comes from the slot's file,
 * any other one from the store. It may run beside the daemon. The image appears under its name when it is whole and
 * synced. -EEXIST, -EBADMSG the map of saved blocks is damaged, -ENOENT it was dropped meanwhile, other -errno; then
 * @why is one sentence and what was written is removed. */
MUST_CHECK int divergence_export(const struct config *config, const struct divergence *divergence, const char *path,
				 struct divergence_export *export, char why[WHY_BYTES]);

#endif
