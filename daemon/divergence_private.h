/* SPDX-License-Identifier: Apache-2.0 */
/* What finding a divergence and exporting it have in common. */
#ifndef HOLDFAST_DIVERGENCE_PRIVATE_H
#define HOLDFAST_DIVERGENCE_PRIVATE_H

#include "divergence.h"
#include "undo.h"

/* One copy of the head of a slot's file, as it is on disk. */
struct undo_head {
	struct undo_header header;
	struct epoch_entry epochs[(META_SLOT_BYTES - sizeof(struct undo_header)) / sizeof(struct epoch_entry)];
};
_Static_assert(sizeof(struct undo_head) == META_SLOT_BYTES && 2 * META_SLOT_BYTES == META_BYTES, "size on disk");

__attribute__((format(printf, 3, 4)))
int divergence_refuse(int res, char why[WHY_BYTES], const char *format, ...);
/* For reading, O_DIRECT where there is such a thing; -errno. */
MUST_CHECK int divergence_open(const char *path);
/* All @len bytes, or -errno; -EIO at the end of the file. */
MUST_CHECK int divergence_pread(int fd, void *out, size_t len, uint64_t offset);
/* Between two tries to read what somebody may be writing. */
void divergence_read_pause(void);
#endif
