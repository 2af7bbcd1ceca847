/* SPDX-License-Identifier: Apache-2.0 */
/* Files out of a filesystem on a stopped replica, as a POSIX pax archive (tar), or their names. No daemon and no mount
 * is needed, and nothing is written but the archive.
 *
 * Damage does not end it: what cannot be read is named, and the rest is taken. A directory is gone into once, however
 * many names a damaged tree gives it, so it ends whatever the blocks hold. Memory grows with the number of directories
 * and of files with several names that were met, and with the depth of the tree. */
#ifndef HOLDFAST_EXTRACT_H
#define HOLDFAST_EXTRACT_H

#include <stdio.h>

#include "stopped_replica.h"

struct extract;

struct extract_options {
	int archive;			/* a descriptor to write to, the caller's; -1: names go to stdout instead */
	/* @path: in the filesystem, without a leading slash; "" of the root. @what: a sentence without subject and
	 * full stop. @lost: it is not in the archive as it should be; else it is worth knowing only. */
	void (*say)(void *context, const char *path, const char *what, bool lost);
	void *context;
};

/* *replica stays the caller's, and open, until extract_free(). -ENOMEM; -EINVAL: there is no filesystem; -ENOTSUP,
 * -EIO: one that cannot be read, or the archive cannot be begun; with one sentence in @why. */
MUST_CHECK int extract_new(struct extract **out, struct stopped_replica *replica, const struct extract_options *options,
			   char why[WHY_BYTES]);
void extract_free(struct extract *x);

/* All that there is at @path ("" or "/": everything) goes into the archive, directories with all that is in them. 0,
 * also when say() was told of damage. -ENOENT, -ENOTDIR, -EINVAL (".."), -EIO: there is no such path, or no way to it,
 * and nothing was written; -ECANCELED: the archive cannot be written, or memory is used up: this is the end; with one
 * sentence in @why. */
MUST_CHECK int extract_path(struct extract *x, const char *path, char why[WHY_BYTES]);
/* The archive's end. -ECANCELED as above. */
MUST_CHECK int extract_end(struct extract *x, char why[WHY_BYTES]);

/* bytes: of data in files, without holes; lost: how often say() was told so. */
struct extract_figures { uint64_t entries, bytes, lost; };
struct extract_figures extract_figures(const struct extract *x);

/* @text to @out, with control characters as a shell's $'...' has them. */
void extract_print_name(FILE *out, const char *text);

#endif
