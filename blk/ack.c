/* SPDX-License-Identifier: Apache-2.0 */
#include "ack.h"

#include "bytes.h"

static uint64_t complete_at(const struct ack_peer *p)
{
	switch (p->mode) {
	case MODE_A: return UINT64_MAX;
	case MODE_B: return p->received;
	case MODE_C: return p->written;
	case MODE_D: return p->applied;
	}
	return 0;
}

static uint64_t flushed_at(const struct ack_peer *p)
{
	switch (p->mode) {
	case MODE_A: return UINT64_MAX;
	case MODE_B: return p->received;
	case MODE_C: return p->durable;
	case MODE_D: return min_u64(p->durable, p->applied);
	}
	return 0;
}

static uint64_t committed_at(const struct ack_peer *p)
{
	/* Not `applied`: a peer applies only what is committed. */
	return p->mode == MODE_D ? p->durable : flushed_at(p);
}

/* The watermark that at least @copies connected peers have reached; UINT64_MAX for none. */
static uint64_t reached_by(unsigned copies, const struct ack_peer *peers, unsigned count, bool durable)
{
	uint64_t best = 0;

	if (copies == 0)
		return UINT64_MAX;
	for (unsigned i = 0; i < count; i++) {
		uint64_t mark = durable ? peers[i].durable : peers[i].written;
		unsigned reached = 0;

		for (unsigned k = 0; k < count; k++)
			reached += peers[k].connected && (durable ? peers[k].durable : peers[k].written) >= mark;
		if (peers[i].connected && reached >= copies)
			best = max_u64(best, mark);
	}
	return best;
}

struct ack_marks ack_marks(uint64_t written, uint64_t durable, const struct ack_peer *peers, unsigned count,
			   unsigned min_copies)
{
	unsigned others = min_copies > 1 ? min_copies - 1 : 0;
	uint64_t copies_written = reached_by(others, peers, count, false);
	uint64_t copies_durable = reached_by(others, peers, count, true);
	struct ack_marks marks = {
		.complete = min_u64(written, copies_written),
		.flushed = min_u64(durable, copies_durable),
		.commit = min_u64(durable, copies_durable),
	};

	for (unsigned i = 0; i < count; i++) {
		if (!peers[i].online)
			continue;
		marks.complete = min_u64(marks.complete, complete_at(&peers[i]));
		marks.flushed = min_u64(marks.flushed, flushed_at(&peers[i]));
		marks.commit = min_u64(marks.commit, committed_at(&peers[i]));
	}
	return marks;
}

int ack_blocker(uint64_t lsn, const struct ack_peer *peers, unsigned count, unsigned min_copies)
{
	for (unsigned i = 0; i < count; i++)
		if (peers[i].online && min_u64(complete_at(&peers[i]), flushed_at(&peers[i])) < lsn)
			return (int)i;
	if (min_copies > 1 && min_u64(reached_by(min_copies - 1, peers, count, false),
				      reached_by(min_copies - 1, peers, count, true)) < lsn)
		return -1;
	return -2;
}
