/* SPDX-License-Identifier: Apache-2.0 */
/* A split brain: two nodes each have an epoch that the other lacks. Neither gives anything up by itself: they stay
 * connected, tell each other what they wrote since the fork, and wait until the operator decides
 * (volume_resolve(), on either side) or the policy of one side says that it loses. Who loses does it all: it rewinds to
 * the fork and takes the other's history (resync.h); what it had written becomes a divergence. */
#ifndef HOLDFAST_SPLIT_H
#define HOLDFAST_SPLIT_H

#include "frame.h"
#include "tally.h"

struct peer;

struct split {
	bool walking;			/* our figures are being made, and kept up to date */
	bool give_up;			/* our operator said so */
	bool keep;			/* our operator said that the peer is to give up */
	struct position told_at;	/* the fork that he meant: what he said holds for that one */
	bool said_both;			/* both operators said to keep their own: told once */
	bool said_full;			/* there is no slot of undo to keep it in: told once */
	bool say;
	bool since_floor;		/* ours begins at the floor of our journal: the fork is before that */
	struct tally ours;		/* of our records since the fork */
	bool known;
	struct frame_side theirs;	/* known = 0 until it is there */
};

/* What decides. Both sides ask, with the arguments swapped; at most one gets true. Pure. */
struct split_side {
	bool primary;
	uint64_t blocks;		/* written since the fork */
	uint64_t last_ns;		/* the last of it; 0 = nothing */
};
bool split_loses(enum split_policy policy, const struct split_side *ours, const struct split_side *theirs);
/* The same where each side has a policy of its own: policies that contradict each other decide nothing. */
bool split_loses_between(enum split_policy policy, enum split_policy their_policy, const struct split_side *ours,
			 const struct split_side *theirs);

/* The verdict of the meeting is a split brain. */
void split_met(struct peer *p);
void split_told(struct peer *p, const struct frame_side *side);
void split_tick(struct peer *p);
void split_put(struct peer *p);

#endif
