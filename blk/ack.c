/* SPDX-License-Identifier: Apache-2.0 */
#include "ack.h"

#include "bytes.h"

/* ---- one peer ----------------------------------------------------------------------------------- */

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

static uint64_t written_at(const struct ack_peer *p) { return p->written; }
static uint64_t durable_at(const struct ack_peer *p) { return p->durable; }

static bool is_connected(const struct ack_peer *p) { return p->connected; }
static bool is_named(const struct ack_peer *p) { return p->named; }
static bool is_named_and_connected(const struct ack_peer *p) { return p->named && p->connected; }

bool ack_has(const struct ack_peer *p, uint64_t lsn)
{
	return p->connected && min_u64(complete_at(p), flushed_at(p)) >= lsn;
}

bool ack_counts(const struct ack_peer *p, const struct ack_policy *policy)
{
	switch (policy->commit) {
	case COMMIT_ALL: return p->online && p->mode != MODE_A;
	case COMMIT_LOCAL: return false;
	case COMMIT_ANY: return is_named_and_connected(p);
	}
	return false;
}

/* ---- several ------------------------------------------------------------------------------------ */

/* The highest mark that at least @copies of the peers that @counts have reached: UINT64_MAX for no copies, 0 when
 * there are not so many. */
static uint64_t reached_by(unsigned copies, const struct ack_peer *peers, unsigned count,
			   bool (*counts)(const struct ack_peer *), uint64_t (*mark)(const struct ack_peer *))
{
	uint64_t best = 0;

	if (copies == 0)
		return UINT64_MAX;
	for (unsigned i = 0; i < count; i++) {
		unsigned reached = 0;

		if (!counts(&peers[i]))
			continue;
		for (unsigned k = 0; k < count; k++)
			reached += counts(&peers[k]) && mark(&peers[k]) >= mark(&peers[i]);
		if (reached >= copies)
			best = max_u64(best, mark(&peers[i]));
	}
	return best;
}

static struct ack_marks marks_of_all(const struct ack_peer *peers, unsigned count, unsigned min_copies)
{
	unsigned others = min_copies > 1 ? min_copies - 1 : 0;
	uint64_t durable = reached_by(others, peers, count, is_connected, durable_at);
	struct ack_marks marks = {
		.complete = reached_by(others, peers, count, is_connected, written_at),
		.flushed = durable, .commit = durable,
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

/* What the policy asks of the peers alone. */
static struct ack_marks marks_of_peers(const struct ack_peer *peers, unsigned count, const struct ack_policy *policy)
{
	unsigned copies = policy->copies;

	switch (policy->commit) {
	case COMMIT_ALL:
		return marks_of_all(peers, count, policy->min_copies);
	case COMMIT_LOCAL:
		return (struct ack_marks){ UINT64_MAX, UINT64_MAX, UINT64_MAX };
	case COMMIT_ANY:
		return (struct ack_marks){
			.complete = reached_by(copies, peers, count, is_named_and_connected, complete_at),
			.flushed = reached_by(copies, peers, count, is_named_and_connected, flushed_at),
			.commit = reached_by(copies, peers, count, is_named_and_connected, durable_at),
		};
	}
	return (struct ack_marks){ 0 };
}

struct ack_marks ack_marks(uint64_t written, uint64_t durable, const struct ack_peer *peers, unsigned count,
			   const struct ack_policy *policy)
{
	struct ack_marks marks = marks_of_peers(peers, count, policy);

	marks.complete = min_u64(marks.complete, written);
	marks.flushed = min_u64(marks.flushed, durable);
	marks.commit = min_u64(marks.commit, durable);
	return marks;
}

int ack_blocker(uint64_t lsn, const struct ack_peer *peers, unsigned count, const struct ack_policy *policy)
{
	struct ack_marks marks = marks_of_peers(peers, count, policy);

	for (unsigned i = 0; i < count && policy->commit == COMMIT_ALL; i++)
		if (peers[i].online && min_u64(complete_at(&peers[i]), flushed_at(&peers[i])) < lsn)
			return (int)i;
	return min_u64(marks.complete, marks.flushed) < lsn ? ACK_TOO_FEW : ACK_NO_BLOCKER;
}

uint64_t ack_kept_up(const struct ack_peer *peers, unsigned count, const struct ack_policy *policy)
{
	uint64_t least = UINT64_MAX;
	unsigned connected = 0;

	if (policy->commit == COMMIT_ANY) {
		for (unsigned i = 0; i < count; i++)
			connected += is_named_and_connected(&peers[i]);
		return reached_by(policy->copies, peers, count,
				  connected >= policy->copies ? is_named_and_connected : is_named, written_at);
	}
	for (unsigned i = 0; i < count; i++)
		if (ack_counts(&peers[i], policy))
			least = min_u64(least, peers[i].written);
	return least;
}
