/* SPDX-License-Identifier: Apache-2.0 */
#include "split.h"

#include <errno.h>
#include <string.h>

#include "volume_private.h"

bool split_loses(enum split_policy policy, const struct split_side *ours, const struct split_side *theirs)
{
	switch (policy) {
	case SPLIT_KEEP_PRIMARY: return theirs->primary && !ours->primary;
	case SPLIT_KEEP_NEWEST: return theirs->last_ns > ours->last_ns;
	case SPLIT_KEEP_ONLY_WRITER: return ours->blocks == 0 && theirs->blocks > 0;
	case SPLIT_NONE:
	case SPLIT_POLICIES: break;
	}
	return false;
}

bool split_loses_between(enum split_policy policy, enum split_policy their_policy, const struct split_side *ours,
			 const struct split_side *theirs)
{
	return split_loses(policy, ours, theirs) && !split_loses(their_policy, theirs, ours);
}

void split_met(struct peer *p)
{
	struct volume *v = p->volume;
	struct split *s = &p->split;
	struct position from = p->fork;
	char why[WHY_BYTES];

	if (s->told_at.lsn == from.lsn && memcmp(s->told_at.hash, from.hash, HASH_BYTES) == 0)
		*s = (struct split){ .walking = true, .give_up = s->give_up, .keep = s->keep, .told_at = from,
				     .said_full = s->said_full };
	else
		*s = (struct split){ .walking = true };
	/* What is below the floor is in the peer's bitmap: blocks, but no bytes and times. */
	if (!lack_names(p->lack, from.lsn))
		bitmap_set_all(&p->lack->bits);
	s->since_floor = from.lsn < v->meta.floor.lsn;
	if (s->since_floor)
		from = v->meta.floor;
	cursor_seek(&p->cursor, &from);
	snprintf(why, sizeof why,
		 "nodes %s and %s were both primary after LSN %llu; neither gives anything up until told: "
		 "holdfast resolve %s --keep NODE (see --dry-run first)",
		 v->geometry.node, p->config->name, (unsigned long long)p->fork.lsn, v->config.name);
	peer_move(p, PEER_SPLIT, why);
}

/* When we wrote first; 0 when that is before what the journal has. */
static uint64_t first_ns(const struct peer *p)
{
	return p->split.since_floor ? 0 : p->split.ours.first_ns;
}

/* Our records since the fork: their blocks go to the peer's bitmap, as it lacks them. */
static void walk(struct peer *p)
{
	struct split *s = &p->split;
	const struct record_header *r = NULL;
	int result;

	while ((result = cursor_look(&p->cursor, &r)) == 1) {
		tally_record(&s->ours, &p->lack->bits, r);
		cursor_advance(&p->cursor, r);
	}
	if (result == -EAGAIN)
		return;
	s->walking = result == 0;
	if (result < 0)
		bitmap_set_all(&p->lack->bits);
	s->known = s->say = true;
}

static void lose(struct peer *p, const char *why)
{
	struct volume *v = p->volume;

	/* Before anything is changed: it could not be set aside, and who is primary would stop to be it for nothing. */
	if (undo_divergences(&v->undo) >= UNDO_SLOTS - 1) {
		if (!p->split.said_full)
			say(v->io, IO_WARNING,
			    "volume=%s peer=%s split brain: %s, but all slots of undo hold divergences; "
			    "this node goes on as it is; see: holdfast divergence %s list, and drop one",
			    v->config.name, p->config->name, why, v->config.name);
		p->split.said_full = true;
		return;
	}
	p->split.said_full = false;
	say(v->io, IO_WARNING,
	    "volume=%s peer=%s split brain: %s; this node sets aside what it wrote since LSN %llu and "
	    "takes the history of %s",
	    v->config.name, p->config->name, why, (unsigned long long)p->fork.lsn, p->config->name);
	if (v->role == ROLE_PRIMARY)
		volume_step_down(v, p, "its history is given up for a peer's");
	p->rewind = p->ahead = true;
	if (v->source && v->source != p)
		peer_drop(v->source, "another history is taken", 0);
	peer_follow_best(v);
}

static void decide(struct peer *p)
{
	struct volume *v = p->volume;
	struct split *s = &p->split;
	struct split_side ours = { v->role == ROLE_PRIMARY, p->lack->bits.count, s->ours.last_ns };
	struct split_side theirs = { from_le16(s->theirs.role) == ROLE_PRIMARY, from_le64(s->theirs.blocks),
				     from_le64(s->theirs.last_ns) };

	if (!s->known || !from_le32(s->theirs.known) || p->rewind || v->change.step != ROLE_STEP_NONE)
		return;
	if (s->keep && from_le16(s->theirs.keep)) {
		if (!s->said_both)
			say(v->io, IO_WARNING,
			    "volume=%s peer=%s split brain: each node was told that it is the one to keep; "
			    "tell one of them otherwise",
			    v->config.name, p->config->name);
		s->said_both = true;
	} else if (s->give_up) {
		lose(p, "told to keep the peer");
	} else if (from_le16(s->theirs.keep)) {
		lose(p, "the peer was told that it is the one to keep");
	} else if (!s->keep &&
		   split_loses_between(v->config.split_policy, from_le16(s->theirs.policy), &ours, &theirs)) {
		lose(p, split_policy_name(v->config.split_policy));
	}
}

void split_tick(struct peer *p)
{
	if (p->state != PEER_SPLIT)
		return;
	if (p->split.walking)
		walk(p);
	decide(p);
}

void split_told(struct peer *p, const struct frame_side *side)
{
	p->split.theirs = *side;
}

void split_put(struct peer *p)
{
	struct volume *v = p->volume;
	struct split *s = &p->split;
	struct frame_side *side = peer_body(p);

	if (p->state != PEER_SPLIT || !s->say || !peer_body_fits(p, sizeof *side))
		return;
	s->say = false;
	*side = (struct frame_side){
		.fork = to_le64(p->fork.lsn),
		.blocks = to_le64(p->lack->bits.count),
		.bytes = to_le64(s->ours.bytes),
		.first_ns = to_le64(first_ns(p)),
		.last_ns = to_le64(s->ours.last_ns),
		.role = to_le16((uint16_t)v->role),
		.keep = to_le16(s->keep),
		.policy = to_le16((uint16_t)v->config.split_policy),
		.known = to_le32(s->known),
	};
	peer_body_end(p, FRAME_SIDE, sizeof *side);
}

/* ---- resolve ---- */

static void side_text(char *out, size_t room, const char *node, uint64_t blocks, uint64_t bytes, uint64_t first_ns,
		      uint64_t last_ns)
{
	snprintf(out, room, "%s wrote %llu bytes in %llu blocks, between %llu.%03llu and %llu.%03llu (unix time)", node,
		 (unsigned long long)bytes, (unsigned long long)blocks, (unsigned long long)(first_ns / 1000000000),
		 (unsigned long long)(first_ns / 1000000 % 1000), (unsigned long long)(last_ns / 1000000000),
		 (unsigned long long)(last_ns / 1000000 % 1000));
}

static void compare_text(struct peer *p, char why[WHY_BYTES])
{
	const struct frame_side *t = &p->split.theirs;
	char ours[200], theirs[200];

	side_text(ours, sizeof ours, p->volume->geometry.node, p->lack->bits.count, p->split.ours.bytes, first_ns(p),
		  p->split.ours.last_ns);
	side_text(theirs, sizeof theirs, p->config->name, from_le64(t->blocks), from_le64(t->bytes),
		  from_le64(t->first_ns), from_le64(t->last_ns));
	snprintf(why, WHY_BYTES, "since the fork at LSN %llu: %s; %s", (unsigned long long)p->fork.lsn, ours, theirs);
}

static int resolve(struct volume *v, struct volume_call *call)
{
	bool self = strcmp(call->node, v->geometry.node) == 0, found = self;
	unsigned count = 0;

	for (unsigned i = 0; i < v->peer_count; i++) {
		struct peer *p = &v->peers[i];
		bool named = strcmp(call->node, p->config->name) == 0;

		found |= named;
		if (p->state != PEER_SPLIT || !(self || named))
			continue;
		count++;
		if (call->dry_run) {
			compare_text(p, call->why);
			continue;
		}
		if (named && undo_divergences(&v->undo) >= UNDO_SLOTS - 1) {
			snprintf(call->why, WHY_BYTES,
				 "all slots of undo hold divergences, so what this node wrote could "
				 "not be set aside; see: holdfast divergence %s list, and drop one",
				 v->config.name);
			return -EBUSY;
		}
		p->split.keep = self;
		p->split.give_up = named;
		p->split.told_at = p->fork;
		p->split.say = true;
		p->split.said_both = false;
		snprintf(call->why, WHY_BYTES,
			 "node %s sets aside what it wrote since LSN %llu and takes the history of %s; "
			 "see: holdfast status, and on %s: holdfast divergence %s list",
			 self ? p->config->name : v->geometry.node, (unsigned long long)p->fork.lsn, call->node,
			 self ? p->config->name : v->geometry.node, v->config.name);
	}
	if (count)
		return 0;
	snprintf(call->why, WHY_BYTES,
		 found ? "there is no split brain with a connected node here; see: holdfast status %s"
		       : "no node has that name; see: holdfast peer %s list",
		 v->config.name);
	return found ? -EPERM : -ENOENT;
}

void volume_resolve(struct volume *v, struct volume_call *call)
{
	call->why[0] = 0;
	volume_call_answer(v, call, resolve(v, call));
}
