/* SPDX-License-Identifier: Apache-2.0 */
/* Two nodes meet: each says where its log ends and of which epochs it is made, both ask the same pure function
 * (history.c), and each does its part:
 *
 *	verdict		| we are primary	| the peer is primary	| neither is
 *	equal		| wait for its START	| follow it		| nothing to do
 *	ahead		| wait for its START	| it is superseded	| wait for its START
 *	behind		| step down, follow it	| follow it		| follow it
 *	they rewind	| wait for their ASK	| it is superseded	| wait for their ASK
 *	we rewind	| step down, resync	| resync from it	| resync from it
 *	split brain	| split.c: tell what each side wrote, until somebody or a policy decides
 *	anything else	| refuse, and say why	| refuse		| refuse
 *
 * Who is in the middle of a resync gives nothing to anybody, and goes on with it (ASK) where others send START.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "volume_private.h"

enum { REFUSED_RETRY_NS = 2000000000 };

void peer_hello_fill(struct peer *p, struct frame_hello *hello, struct epoch_entry *epochs)
{
	struct volume *v = p->volume;
	bool resyncing = v->meta.resync.running || v->sink.step != SINK_NONE;
	bool clear = v->config.insecure_loopback && !peer_config_encrypted(p->config);

	*hello = (struct frame_hello){
		.version_min = to_le16(FRAME_VERSION_MIN), .version_max = to_le16(FRAME_VERSION_MAX),
		.role = to_le16((uint16_t)v->role), .mode = to_le16((uint16_t)p->config->mode),
		.volume_bytes = to_le64(v->geometry.volume_bytes),
		.segment_bytes = to_le32(v->geometry.segment_bytes),
		.journal_block = to_le32(v->geometry.journal_block),
		.end = frame_position_of(&v->log.closed), .durable = to_le64(v->journal.durable),
		.commit = to_le64(v->commit), .promised = to_le64(v->meta.promised),
		.epoch_count = to_le32(v->history.count),
		.flags = to_le32((resyncing ? HELLO_RESYNCING : 0) | (clear ? HELLO_CLEAR : 0)),
	};
	memcpy(hello->uuid, v->geometry.uuid, UUID_BYTES);
	memcpy(hello->node, v->geometry.node, NAME_BYTES);
	memcpy(hello->to, p->config->name, NAME_BYTES);
	memcpy(epochs, v->history.epochs, v->history.count * sizeof *epochs);
}

void peer_refuse(struct peer *p, enum frame_error_code code, uint64_t detail, enum peer_state state,
		 const char *format, ...)
{
	char why[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof why, format, args);
	va_end(args);
	p->error_out = (struct frame_error){ .code = to_le32(code), .detail = to_le64(detail) };
	snprintf(p->error_text, sizeof p->error_text, "%s", why);
	p->say_error = true;
	peer_move(p, state, why);
	peer_source_stop(p);
	p->closing = true;
	p->deadline_ns = volume_now(p->volume) + 1000000000;
	volume_turn_soon(p->volume);
}

void peer_refuse_failed(struct peer *p)
{
	struct volume *v = p->volume;

	peer_refuse(p, FRAME_ERROR_BUSY, 0, PEER_REFUSED, "the replica of node %s has failed: %.300s", v->geometry.node,
		    v->why);
}

/* Takes log from @p from now on. */
static void follow(struct peer *p)
{
	struct volume *v = p->volume;

	v->source = p;
	p->log_left = 0;
	peer_move(p, PEER_FOLLOWING, p->role == ROLE_PRIMARY ? "" : "it is secondary too, and has log that we lack");
	if (v->meta.resync.running)
		resync_sink_again(p);
	else if (p->rewind)
		resync_sink_start(p);
	else
		p->say_start = p->say_ack = true;
	volume_turn_soon(v);
}

void peer_follow_best(struct volume *v)
{
	struct peer *best = NULL;

	/* Who is about to open an epoch takes no more log: its end is what the others promised for. */
	if (v->role != ROLE_SECONDARY || v->source || v->state != VOLUME_OPEN || v->sink.step != SINK_NONE ||
	    (v->change.step != ROLE_STEP_NONE && v->change.kind == CHANGE_PROMOTE))
		return;
	for (unsigned i = 0; i < v->peer_count; i++) {
		struct peer *p = &v->peers[i];

		/* What it had when we met may be here by now, from somebody else. */
		if ((p->state == PEER_IDLE || p->state == PEER_SPLIT) && p->ahead && !p->closing &&
		    (p->role == ROLE_PRIMARY || p->rewind || resync_running(v) || p->end.lsn > v->log.closed.lsn) &&
		    (!best || (p->role == ROLE_PRIMARY && best->role != ROLE_PRIMARY)))
			best = p;
	}
	if (best)
		follow(best);
}

/* Fields that must be the same on both sides, before any history is compared. */
static bool same_volume(struct peer *p, const struct frame_hello *hello)
{
	struct volume *v = p->volume;
	const char *name = p->config->name;

	if (from_le16(hello->version_max) < FRAME_VERSION_MIN || from_le16(hello->version_min) > FRAME_VERSION_MAX)
		peer_refuse(p, FRAME_ERROR_VERSION, 0, PEER_REFUSED,
			    "node %s speaks versions %u to %u of the protocol, node %s %d to %d; upgrade the older one",
			    name, from_le16(hello->version_min), from_le16(hello->version_max), v->geometry.node,
			    FRAME_VERSION_MIN, FRAME_VERSION_MAX);
	else if (!*v->io->socket_node(v->io, p->socket) && !(from_le32(hello->flags) & HELLO_CLEAR))
		peer_refuse(p, FRAME_ERROR_VOLUME, 0, PEER_REFUSED,
			    "the link to node %s is not encrypted, and its config does not allow that; give both nodes "
			    "each other's fingerprint (or, on one machine, insecure-loopback = yes in both configs)",
			    name);
	else if (memcmp(hello->uuid, v->geometry.uuid, UUID_BYTES) != 0)
		peer_refuse(
			p, FRAME_ERROR_VOLUME, 0, PEER_REFUSED,
			"node %s has another volume (its uuid differs); check `uuid =` and the peers' addresses",
			name);
	else if (strcmp(hello->node, name) != 0 || strcmp(hello->to, v->geometry.node) != 0)
		peer_refuse(p, FRAME_ERROR_VOLUME, 0, PEER_REFUSED,
			    "the node at %s is %s and wants %s, not %s; check the peers' names and addresses",
			    p->config->address, hello->node, hello->to, v->geometry.node);
	else if (from_le64(hello->volume_bytes) != v->geometry.volume_bytes)
		peer_refuse(p, FRAME_ERROR_VOLUME, 0, PEER_REFUSED,
			    "node %s has %llu bytes, node %s %llu; both replicas must have the same size", name,
			    (unsigned long long)from_le64(hello->volume_bytes), v->geometry.node,
			    (unsigned long long)v->geometry.volume_bytes);
	else if (from_le32(hello->segment_bytes) != v->geometry.segment_bytes ||
		 from_le32(hello->journal_block) != v->geometry.journal_block)
		peer_refuse(p, FRAME_ERROR_VOLUME, 0, PEER_REFUSED,
			    "node %s was created with segment %u and journal-block %u, node %s with %u and %u; "
			    "give both the same in the config, then on one run: holdfast replace %s --force", name,
			    from_le32(hello->segment_bytes), from_le32(hello->journal_block), v->geometry.node,
			    v->geometry.segment_bytes, v->geometry.journal_block, v->config.name);
	else
		return true;
	return false;
}

static void refuse_history(struct peer *p, const struct history_meeting *meeting)
{
	struct volume *v = p->volume;
	const char *name = p->config->name;
	unsigned long long fork = meeting->fork;

	switch (meeting->verdict) {
	case HISTORY_SPLIT_BRAIN:
		peer_refuse(p, FRAME_ERROR_HISTORY, 0, PEER_REFUSED,
			    "split brain: nodes %s and %s were both primary after LSN %llu, and one of them is in the "
			    "middle of a resync; it waits for that one's source", v->geometry.node, name, fork);
		return;
	case HISTORY_UNRELATED:
		peer_refuse(p, FRAME_ERROR_HISTORY, 0, PEER_REFUSED,
			    "nodes %s and %s have no epoch in common, though their volume's uuid is the same; "
			    "on the one to give up run: holdfast replace %s --force", v->geometry.node, name,
			    v->config.name);
		return;
	default:
		peer_refuse(p, FRAME_ERROR_HISTORY, 0, PEER_REFUSED,
			    "nodes %s and %s differ at LSN %llu of the same epoch: a disk or memory has lied; "
			    "check both disks, and on the bad one run: holdfast replace %s --force", v->geometry.node,
			    name, fork, v->config.name);
	}
}

static void act(struct peer *p, enum history_verdict verdict)
{
	struct volume *v = p->volume;
	bool running = resync_running(v);

	p->rewind = !p->resyncing && verdict == HISTORY_REWIND_SELF;
	/* Nobody has more than the primary of our own epoch; its HELLO may be older than what we have by now. */
	p->ahead = !p->resyncing &&
		   (verdict == HISTORY_BEHIND || p->rewind || (running && verdict == HISTORY_EQUAL) ||
		    (p->role == ROLE_PRIMARY && p->epoch_number == history_last_number(&v->history)));
	peer_move(p, PEER_IDLE, "");
	if (!p->ahead)
		return;
	if (v->role == ROLE_PRIMARY)
		volume_step_down(v, p, p->rewind ? "a peer has a newer epoch that our last records are not part of"
						 : "a peer has a newer epoch");
	if (v->source && v->source->role != ROLE_PRIMARY && p->role == ROLE_PRIMARY)
		peer_drop(v->source, "the primary is there", 0);
	peer_follow_best(v);
}

/* What the peer has of our log, for the floor of our journal and its bitmap. */
static void note_place(struct peer *p, uint64_t durable)
{
	bool ours = p->verdict == HISTORY_EQUAL || p->verdict == HISTORY_AHEAD || p->verdict == HISTORY_BEHIND;

	if (ours || p->verdict == HISTORY_REWIND_SELF || p->verdict == HISTORY_REWIND_PEER)
		lack_met(p->lack, min_u64(durable, p->fork.lsn), ours && !p->resyncing);
}

void peer_meet(struct peer *p, const struct frame_hello *hello)
{
	struct volume *v = p->volume;
	struct history *theirs = v->scan_history;	/* room for one history; not kept */
	struct position end = frame_position_get(&hello->end);
	struct history_meeting meeting;

	/* For a moment our history and our log are not of each other: no verdict would be true. */
	if (resync_sink_moves_log(v)) {
		peer_drop(p, "", 0);
		return;
	}
	p->met = true;
	p->heard_ns = p->met_ns = volume_now(v);
	p->commit_sent = p->want_durable_sent = 0;
	p->ack_sent = (struct frame_ack){ 0 };
	if (!same_volume(p, hello))
		return;
	if (v->failed) {
		peer_refuse_failed(p);
		return;
	}
	theirs->count = from_le32(hello->epoch_count);
	memcpy(theirs->epochs, hello + 1, theirs->count * sizeof theirs->epochs[0]);
	if (!history_check(theirs) || from_le64(hello->promised) >= EPOCH_NUMBER_MAX ||
	    end.lsn >= LSN_MAX || end.lsn % v->geometry.journal_block) {
		peer_refuse(p, FRAME_ERROR_PROTOCOL, 0, PEER_REFUSED, "node %s sent a HELLO with a wrong history",
			    p->config->name);
		return;
	}
	p->role = from_le16(hello->role);
	p->wants = from_le16(hello->mode);
	p->promised = from_le64(hello->promised);
	p->epoch_number = history_last_number(theirs);
	p->end = end;
	p->received = end.lsn;
	p->written = p->durable = from_le64(hello->durable);
	p->applied = 0;
	p->resyncing = from_le32(hello->flags) & HELLO_RESYNCING;
	meeting = history_compare(&v->history, &v->log.closed, theirs, &end);
	p->verdict = meeting.verdict;
	p->fork.lsn = meeting.fork;
	memcpy(p->fork.hash, meeting.hash, HASH_BYTES);
	note_place(p, from_le64(hello->durable));
	if (p->role == ROLE_PRIMARY && p->epoch_number < max_u64(v->meta.promised, history_last_number(&v->history))) {
		peer_refuse(p, FRAME_ERROR_FENCED, max_u64(v->meta.promised, history_last_number(&v->history)),
			    PEER_REFUSED, "node %s is primary of epoch %llu, which is fenced: epoch %llu was promised "
			    "or opened since", p->config->name, (unsigned long long)p->epoch_number,
			    (unsigned long long)max_u64(v->meta.promised, history_last_number(&v->history)));
		return;
	}
	if (meeting.verdict == HISTORY_SPLIT_BRAIN && !p->resyncing && !resync_running(v))
		split_met(p);
	else if (meeting.verdict == HISTORY_REWIND_SELF && v->role == ROLE_SECONDARY && !p->resyncing &&
		 !resync_running(v) && resync_rewind_refusal(v))
		/* Here, so that it is said once, and not with every try. */
		peer_refuse(p, FRAME_ERROR_BUSY, 0, PEER_REFUSED, "node %s: %s", v->geometry.node,
			    resync_rewind_refusal(v));
	else if (meeting.verdict > HISTORY_REWIND_SELF)
		refuse_history(p, &meeting);
	else
		act(p, meeting.verdict);
	volume_role_met(p);
}
