/* SPDX-License-Identifier: Apache-2.0 */
/* What a scan of the journal, from meta's tail on, makes of what it meets: the judgement alone, for recovery, which
 * walks with a cursor, and for who reads a stopped replica. */
#ifndef HOLDFAST_SCAN_H
#define HOLDFAST_SCAN_H

#include "meta.h"

/* @r is good and stands at @at, at or above meta's tail. An epoch that it begins is added to meta's history, which
 * was cut at the tail. -EBADMSG with a sentence in @why: meta and log contradict each other. */
MUST_CHECK int scan_record(const struct meta *m, const struct record_header *r, const struct position *at,
			   char why[WHY_BYTES]);
/* The last batch ended at LSN @end, and at LSN @at no further record was found but @finding; RECORD_GOOD: the ring is
 * full of them. 0: the log ends at @end. -EBADMSG with a sentence in @why: what was durable is gone, or the journal is
 * a newer program's. */
MUST_CHECK int scan_end(const struct meta *m, uint64_t end, uint64_t at, enum record_finding finding,
			char why[WHY_BYTES]);

#endif
