/* SPDX-License-Identifier: Apache-2.0 */
/* A replica's files, as the machine has them: made once by `holdfast create`, opened and locked by the
 * daemon. What is in them is the volume's business (include/replica.h). */
#ifndef HOLDFAST_REPLICA_FILES_H
#define HOLDFAST_REPLICA_FILES_H

#include "config.h"

#define STORE_UUID_ATTRIBUTE "user.holdfast.uuid"	/* of a store that is a file: the volume's uuid as text */

enum { REPLICA_FILES = 4 + UNDO_SLOTS };

/* File descriptors, O_DIRECT where there is such a thing, and locked; -1 = none. */
struct replica_files {
	int store, journal, meta, bitmap, undo[UNDO_SLOTS];
	bool buffered;			/* a file's filesystem has no direct I/O: slower, and memory is used twice */
};
#define REPLICA_FILES_CLOSED \
	((struct replica_files){ -1, -1, -1, -1, { [0 ... UNDO_SLOTS - 1] = -1 }, false })

/* Opens the files that @config names. Each is checked (it is a file or a block device, of the right size, a
 * store is this volume's by its attribute user.holdfast.uuid, undo is no device) and locked, so that no two
 * daemons have it. Waits at most 2 s for a lock: the kernel may need a moment to let go of a killed daemon's files.
 * -ENOENT, -EBUSY (locked, or a device that is mounted), -EINVAL (wrong in kind or size), -EBADMSG
 * (another volume's store), other -errno; then @why is one sentence, and nothing is open. */
MUST_CHECK int replica_files_open(struct replica_files *out, const struct config *config, char why[WHY_BYTES]);
/* Opens what a reader of a stopped replica needs, and nothing can be written through that: store, journal and meta,
 * and of undo what is there; through the page cache, at any alignment. While they are open no daemon can open them.
 * -EBUSY: a daemon has one; other -errno; then @why is one sentence, and nothing is open. */
MUST_CHECK int replica_files_open_to_read(struct replica_files *out, const struct config *config, char why[WHY_BYTES]);
/* Only for descriptors that were given to nobody; -1 is skipped. */
void replica_files_close(struct replica_files *files);

/* Where each file's descriptor stands, and in the same order its file id of the io: what opens, gives and closes
 * all of them goes by these. */
void replica_files_list(struct replica_files *files, struct volume_config *volume, int *fds[REPLICA_FILES],
			int *ids[REPLICA_FILES]);

/* Makes a new replica: directories 0700, files 0600, store and undo holes, the journal's bytes written once, the
 * bitmap's allotted, all synced. A block device is taken when its first and last MiB are zeros, and zeroed where
 * the replica needs it. -EEXIST when something is there already, -ENOSPC, other -errno; then @why is one sentence,
 * and what had been made is removed. @config->volume.geometry has been checked. Takes seconds. */
MUST_CHECK int replica_files_create(const struct config *config, char why[WHY_BYTES]);

enum { REPLICA_ENDING_BYTES = 32 };

/* Makes room for a new replica where there may be parts of an old one: its files get names that end in @ending
 * (".old-TIME"); of a device the first and last MiB are zeroed. How many files were renamed; -EBUSY when a daemon has
 * one of them, and then nothing was touched; other -errno, with one sentence in @why, and then some may have been. */
MUST_CHECK int replica_files_set_aside(const struct config *config, char ending[REPLICA_ENDING_BYTES],
				       char why[WHY_BYTES]);

#endif
