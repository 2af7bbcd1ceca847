/* SPDX-License-Identifier: Apache-2.0 */
/* What a run of records changed: which blocks, how much data, from when to when. For those that walk the log to
 * learn what somebody lacks, or gives up. */
#ifndef HOLDFAST_TALLY_H
#define HOLDFAST_TALLY_H

#include "bitmap.h"
#include "record.h"

struct tally {
	uint64_t bytes;			/* of data and of emptied ranges */
	uint64_t first_ns, last_ns;	/* wall clock of the first and the last record with any; 0 = there was none */
};

/* Sets the bits of all blocks that a good record changes. Others than RECORD_DATA change none. */
void tally_blocks(struct bitmap *bits, const struct record_header *r);
/* The same, and adds it up. */
void tally_record(struct tally *tally, struct bitmap *bits, const struct record_header *r);

#endif
