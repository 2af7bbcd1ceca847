/* SPDX-License-Identifier: Apache-2.0 */
/* What ends the scan, and what it means (rows are exclusive; scan_rows below):
 *
 *	found			| log ends below `durable`	| at or above it
 *	nothing, stale, torn,	| damaged: what was durable	| the end of the log: what stands here was
 *	foreign, unchained	| is gone			| never acknowledged as written
 *	the whole ring		| damaged			| the end of the log
 *	newer version		| newer				| newer
 *	wrong content		| damaged			| damaged
 *
 * Behind the end stand bytes of earlier laps, and clients chose them: only what is chained to our log by the
 * running hash, which nobody can foresee, may keep a node from opening. Whose journal it is says its header. */
#include "scan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum scan_outcome { SCAN_END, SCAN_DAMAGED, SCAN_NEWER };

/* The table of the file's head. RECORD_GOOD stands for "the whole ring was good". */
static const struct scan_row { unsigned findings; bool below_durable, above_durable; enum scan_outcome outcome; }
scan_rows[] = {
#define F(name) (1u << RECORD_##name)
	{ F(BLANK) | F(FOREIGN) | F(STALE) | F(TORN) | F(UNCHAINED) | F(SHORT) | F(GOOD), true, false, SCAN_DAMAGED },
	{ F(BLANK) | F(FOREIGN) | F(STALE) | F(TORN) | F(UNCHAINED) | F(SHORT) | F(GOOD), false, true, SCAN_END },
	{ F(NEWER), true, true, SCAN_NEWER },
	{ F(BAD), true, true, SCAN_DAMAGED },
#undef F
};

static enum scan_outcome scan_outcome(enum record_finding finding, bool below_durable)
{
	const struct scan_row *found = NULL;

	for (unsigned i = 0; i < sizeof scan_rows / sizeof scan_rows[0]; i++) {
		const struct scan_row *row = &scan_rows[i];

		if (!(row->findings & 1u << finding) || !(below_durable ? row->below_durable : row->above_durable))
			continue;
		CHECK(!found);		/* exclusive */
		found = row;
	}
	CHECK(found);			/* and complete */
	return found->outcome;
}

/* What the journal must have: meta said so when it was durable. */
static uint64_t scan_promised(const struct meta *m)
{
	return max_u64(m->reach, m->durable);
}

int scan_end(const struct meta *m, uint64_t end, uint64_t at, enum record_finding finding, char why[WHY_BYTES])
{
	switch (scan_outcome(finding, end < scan_promised(m))) {
	case SCAN_END:
		return 0;
	case SCAN_NEWER:
		snprintf(why, WHY_BYTES,
			 "journal: the record at LSN %llu was written by a newer program; use that one",
			 (unsigned long long)at);
		break;
	case SCAN_DAMAGED:
		snprintf(why, WHY_BYTES,
			 "journal: damaged: it ends at LSN %llu (%s at %llu), and was durable up to %llu; "
			 "replace this replica from a peer",
			 (unsigned long long)end, record_finding_name(finding), (unsigned long long)at,
			 (unsigned long long)scan_promised(m));
		break;
	}
	return -EBADMSG;
}

static void scan_epoch(struct history *history, const struct record_header *r, const struct position *at)
{
	struct epoch_entry epoch;

	if (from_le16(r->kind) != RECORD_EPOCH || from_le32(r->annotation_len) != sizeof epoch)
		return;
	memcpy(&epoch, record_annotation(r), sizeof epoch);
	if (history_follows(history, &epoch, at))
		history_add(history, &epoch);
}

int scan_record(const struct meta *m, const struct record_header *r, const struct position *at, char why[WHY_BYTES])
{
	if (m->reach > at->lsn && m->reach < at->lsn + record_length(r)) {
		snprintf(why, WHY_BYTES,
			 "meta: damaged: the store may reach LSN %llu, which is inside the record at %llu; "
			 "replace this replica from a peer",
			 (unsigned long long)m->reach, (unsigned long long)at->lsn);
		return -EBADMSG;
	}
	scan_epoch(m->history, r, at);
	return 0;
}
