/* SPDX-License-Identifier: Apache-2.0 */
/* Who is primary. A change of role is a list of steps; each waits for a fact and volume_turn() comes back.
 *
 *	promote		(BACK: a resync under way is undone) -> ASK every peer to promise -> SETTLE: all our log
 * durable and applied -> PROMISE: the new epoch's number durable in meta -> EPOCH: its record durable -> primary
 *	demote		DRAIN: everything acknowledged and durable -> secondary
 *	switchover	DRAIN, and the target has it all durable -> HAND: we promise the next epoch, durably, and
 *			are secondary -> WAIT until the target says that it is primary
 *	failover	promote with force, after saying what may be lost
 *
 * What keeps two primaries apart: a promise is durable before it is given, and whoever promised epoch E refuses
 * log of any primary below E. A promotion with --force asks only those that are connected.
 */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

enum {
	ROLE_WAIT_NS = 1000000000,	/* on top of the peer timeout */
	ROLE_EXPECT_NS = 2000000000,	/* a peer that was heard so lately is about to come back */
};

static void step_start(struct volume *v, enum role_step step)
{
	v->change.step = step;
	v->change.deadline_ns = volume_now(v) + v->config.peer_timeout_ns + ROLE_WAIT_NS;
	volume_turn_soon(v);
}

void volume_call_answer(struct volume *v, struct volume_call *call, int result)
{
	call->result = result;
	list_append(&v->answered, &call->link);
	volume_turn_soon(v);
}

void volume_calls_answer(struct volume *v)
{
	while (!list_empty(&v->answered)) {
		struct volume_call *call = list_entry(list_first(&v->answered), struct volume_call, link);

		list_remove(&call->link);
		call->done(call, call->result);
	}
}

/* The change is over. @why is the sentence that the operator gets. */
static void change_end(struct volume *v, int result, const char *why)
{
	struct role_change change = v->change;

	v->change = (struct role_change){ 0 };
	v->frozen = false;
	if (result)
		say(v->io, IO_WARNING, "volume=%s role stays %s: %s", v->config.name, volume_role_name(v->role), why);
	if (result && change.kind == CHANGE_HANDOVER && !change.call && change.peer && peer_connected(change.peer))
		peer_say_role(change.peer, ROLE_SWITCHOVER_NO, 0, NULL, why);
	if (change.call) {
		snprintf(change.call->why, WHY_BYTES, "%s", why);
		volume_call_answer(v, change.call, result);
	}
	volume_turn_soon(v);
}

static void change_start(struct volume *v, struct volume_call *call, int kind, enum role_step step)
{
	CHECK(v->change.step == ROLE_STEP_NONE);
	v->change = (struct role_change){ .call = call, .kind = kind };
	step_start(v, step);
}

void volume_meet_anew(struct volume *v, const struct peer *but)
{
	for (unsigned i = 0; i < v->peer_count; i++)
		if (&v->peers[i] != but && v->peers[i].socket >= 0 && !v->peers[i].closing)
			peer_drop(&v->peers[i], "", 0);
}

/* All nodes meet anew when a node becomes primary. What is written until then is not acknowledged with fewer copies
 * than a moment later. */
static void expect_followers(struct volume *v)
{
	for (unsigned i = 0; i < v->peer_count; i++)
		if (peer_connected(&v->peers[i]) || v->change.agreed[i])
			v->peers[i].expected_ns = volume_now(v) + v->config.peer_timeout_ns;
}

void volume_role_set(struct volume *v, enum volume_role role)
{
	const struct epoch_entry *epoch = history_last(&v->history);

	if (v->role == role)
		return;
	v->role = role;
	if (role == ROLE_SECONDARY) {
		volume_fail_writes(v, -EROFS, true);
		log_close(&v->log);
		/* All of it is in pages; the cursor goes on behind it. */
		v->applied = v->log.closed.lsn;
		v->commit = max_u64(v->commit, v->applied);
		cursor_seek(&v->apply, &v->log.closed);
	}
	say(v->io, IO_INFO, "volume=%s role is %s now: epoch %llu of node %s, log ends at LSN %llu",
	    v->config.name, volume_role_name(role), epoch ? (unsigned long long)from_le64(epoch->number) : 0,
	    epoch ? epoch->node : "none", (unsigned long long)v->log.closed.lsn);
	if (role == ROLE_PRIMARY)
		expect_followers(v);
	volume_meet_anew(v, NULL);
	if (v->on_role)
		v->on_role(v->on_role_context, role);
}

void volume_step_down(struct volume *v, const struct peer *by, const char *why)
{
	say(v->io, IO_WARNING,
	    "volume=%s superseded: %s; this node stops being primary, writes are refused from now on",
	    v->config.name, why);
	v->role = ROLE_SECONDARY;
	volume_fail_writes(v, -EROFS, true);
	log_close(&v->log);
	v->applied = v->log.closed.lsn;
	cursor_seek(&v->apply, &v->log.closed);
	if (v->change.step != ROLE_STEP_NONE)
		change_end(v, -EPERM, "a newer epoch was opened elsewhere");
	volume_meet_anew(v, by);
	if (v->on_role)
		v->on_role(v->on_role_context, v->role);
}

/* ---- peers that are about to come back ----------------------------------------------------------------- */

static bool peer_expected(struct volume *v)
{
	uint64_t now = volume_now(v);

	for (unsigned i = 0; i < v->peer_count; i++) {
		const struct peer *p = &v->peers[i];

		if (!peer_connected(p) && p->state != PEER_REFUSED &&
		    now - max_u64(p->heard_ns, v->opened_ns) < ROLE_EXPECT_NS)
			return true;
		if (v->role == ROLE_PRIMARY && p->state == PEER_IDLE && now - p->met_ns < ROLE_EXPECT_NS)
			return true;	/* it will follow us in a moment */
	}
	return false;
}

/* Every change of role makes all nodes meet anew, which takes a moment; so does a start. A command given just
 * then waits for that, and is not refused for it. True: @verb runs again, later. */
static bool expect_peers(struct volume *v, struct volume_call *call,
			 void (*verb)(struct volume *v, struct volume_call *call))
{
	if (v->expecting || v->state != VOLUME_OPEN || v->failed || !peer_expected(v))
		return false;
	v->expecting = call;
	v->expecting_verb = verb;
	return true;
}

static void expect_step(struct volume *v)
{
	struct volume_call *call = v->expecting;

	if (!call || (peer_expected(v) && v->state == VOLUME_OPEN && !v->failed))
		return;
	v->expecting_verb(v, call);
	/* It did not wait again, as nobody is expected any more. */
	v->expecting = NULL;
}

/* ---- promote ---------------------------------------------------------------------------------------- */

int volume_promote_refusal(struct volume *v, const struct volume_call *call, char why[WHY_BYTES])
{
	if (v->state != VOLUME_OPEN || v->failed) {
		snprintf(why, WHY_BYTES, "this replica has failed: %s", v->why);
		return -EIO;
	}
	if (v->change.step != ROLE_STEP_NONE) {
		snprintf(why, WHY_BYTES, "another change of role is under way; try again when it is over");
		return -EBUSY;
	}
	if (v->meta.promised >= EPOCH_NUMBER_MAX - 2) {
		snprintf(why, WHY_BYTES,
			 "all epoch numbers are used up: a peer has asked for an absurd one; create the "
			 "volume anew");
		return -EPERM;
	}
	if (resync_running(v) && !resync_readable(v)) {
		snprintf(why, WHY_BYTES,
			 "this replica is inconsistent: its resync from node %s is not over, and undo could not "
			 "keep where it was before; bring %s back, or promote another node",
			 v->meta.resync.source, v->meta.resync.source);
		return -EPERM;
	}
	if (resync_running(v) && !call->force) {
		snprintf(why, WHY_BYTES,
			 "this replica is in the middle of a resync from node %s; wait for its end, promote "
			 "another node, or go back to LSN %llu with --force",
			 v->meta.resync.source, (unsigned long long)from_le64(v->sink.slot->header.lsn));
		return -EPERM;
	}
	for (unsigned i = 0; i < v->peer_count; i++) {
		const struct peer *p = &v->peers[i];
		const char *name = p->config->name;

		if (peer_connected(p) && p->role == ROLE_PRIMARY && p->state != PEER_REFUSED) {
			snprintf(why, WHY_BYTES, "node %s is primary; hand over with: holdfast switchover %s %s", name,
				 v->config.name, v->geometry.node);
			return -EPERM;
		}
		if (!call->force && peer_connected(p) && (p->rewind || p->state == PEER_SPLIT)) {
			snprintf(why, WHY_BYTES,
				 "node %s has a history of its own; see: holdfast status %s; --force would make a "
				 "split brain",
				 name, v->config.name);
			return -EPERM;
		}
		if (peer_connected(p) && p->ahead && !p->rewind &&
		    (resync_running(v) || p->end.lsn > v->log.closed.lsn)) {
			snprintf(why, WHY_BYTES,
				 "node %s has %llu bytes of log that this node lacks; wait until they are "
				 "here, or promote %s",
				 name, (unsigned long long)(p->end.lsn - min_u64(p->end.lsn, v->log.closed.lsn)),
				 name);
			return -EPERM;
		}
		if (!call->force && (!peer_connected(p) || p->state == PEER_REFUSED)) {
			snprintf(why, WHY_BYTES,
				 "node %s is %s%s%s, so nobody knows what it has; bring it back, or use --force",
				 name, p->state == PEER_REFUSED ? "refused" : "not connected",
				 p->why[0] ? ": " : "", p->why);
			return -EPERM;
		}
	}
	return 0;
}

static void promote_ask(struct volume *v)
{
	struct role_change *c = &v->change;

	c->number = max_u64(v->meta.promised, history_last_number(&v->history));
	for (unsigned i = 0; i < v->peer_count; i++)
		if (peer_connected(&v->peers[i]))
			c->number = max_u64(c->number, max_u64(v->peers[i].promised, v->peers[i].epoch_number));
	c->number++;
	for (unsigned i = 0; i < v->peer_count; i++) {
		struct peer *p = &v->peers[i];

		/* Whoever hands over has promised by that. A refused one is not part of this. */
		if (!peer_connected(p) || p->state == PEER_REFUSED || p->state == PEER_SPLIT || p->rewind ||
		    p == c->peer)
			continue;
		c->asked[i] = true;
		p->promised = c->number;	/* perhaps: the next try asks for more */
		peer_say_role(p, ROLE_PROMOTE_ASK, c->number, &v->log.closed, "");
	}
}

void volume_promote_start(struct volume *v, struct volume_call *call, struct peer *from)
{
	bool back = resync_running(v) || v->sink.step != SINK_NONE;

	change_start(v, call, CHANGE_PROMOTE, back ? ROLE_STEP_BACK : ROLE_STEP_ASK);
	v->change.peer = from;
	if (!back)
		promote_ask(v);
}

/* No source any more, the steps that nothing can stop are over, and the store is the volume as of an LSN. */
static void step_back(struct volume *v)
{
	if (v->source) {
		peer_drop(v->source, "this node becomes primary", 0);
		return;
	}
	if (v->sink.step == SINK_NONE && resync_readable(v))
		resync_sink_back(v);
	if (v->sink.step != SINK_NONE)
		return;
	if (resync_running(v)) {
		change_end(v, -EPERM, "this replica is inconsistent until its resync is over");
		return;
	}
	step_start(v, ROLE_STEP_ASK);
	promote_ask(v);
}

void volume_promote(struct volume *v, struct volume_call *call)
{
	int result;

	call->why[0] = 0;
	if (v->role == ROLE_PRIMARY) {
		snprintf(call->why, WHY_BYTES, "this node is primary already");
		volume_call_answer(v, call, 0);
		return;
	}
	if (!call->force && expect_peers(v, call, volume_promote))
		return;
	result = volume_promote_refusal(v, call, call->why);
	if (result)
		volume_call_answer(v, call, result);
	else
		volume_promote_start(v, call, NULL);
}

static void step_ask(struct volume *v)
{
	for (unsigned i = 0; i < v->peer_count; i++)
		if (v->change.asked[i] && !v->change.agreed[i])
			return;
	/* From here on we take no more log from anybody. */
	for (unsigned i = 0; i < v->peer_count; i++)
		if (v->source == &v->peers[i])
			peer_drop(&v->peers[i], "", 0);
	step_start(v, ROLE_STEP_SETTLE);
}

static void step_settle(struct volume *v)
{
	log_drop_open(&v->log);
	journal_want_durable(&v->journal, v->log.closed.lsn);
	if (v->journal.durable < v->log.closed.lsn || v->apply.at.lsn < v->log.closed.lsn) {
		volume_apply_step(v);
		return;
	}
	v->commit = max_u64(v->commit, v->log.closed.lsn);
	v->meta.promised = v->change.number;
	v->change.ticket = meta_save(&v->meta);
	step_start(v, ROLE_STEP_PROMISE);
}

static void step_promise(struct volume *v)
{
	struct epoch_entry epoch = { .number = to_le64(v->change.number), .start = to_le64(v->log.end.lsn),
				     .wall_ns = to_le64(v->io->wall_ns(v->io)) };
	struct record_draft draft = { .kind = RECORD_EPOCH, .annotation = &epoch, .annotation_len = sizeof epoch };
	uint32_t length = log_draft_length(&draft);

	if (v->meta.saved < v->change.ticket)
		return;
	if (!journal_has_room(&v->journal, length) || !log_has_room(&v->log, length, v->journal.written)) {
		destage_start(&v->destage);
		return;
	}
	v->io->random(v->io, epoch.uuid, sizeof epoch.uuid);
	memcpy(epoch.hash, v->log.end.hash, HASH_BYTES);
	memcpy(epoch.node, v->geometry.node, NAME_BYTES);
	v->log.epoch = v->change.number;
	log_append(&v->log, &draft, v->io->wall_ns(v->io));
	log_close(&v->log);
	history_add(&v->history, &epoch);
	journal_want_durable(&v->journal, v->log.closed.lsn);
	step_start(v, ROLE_STEP_EPOCH);
}

static void step_epoch(struct volume *v)
{
	char note[WHY_BYTES];

	if (v->journal.durable < v->log.closed.lsn)
		return;
	v->applied = v->log.closed.lsn;
	snprintf(note, sizeof note, "%s", v->change.note);
	volume_role_set(v, ROLE_PRIMARY);
	change_end(v, 0, note);
}

/* ---- demote, switchover ------------------------------------------------------------------------------ */

void volume_demote(struct volume *v, struct volume_call *call)
{
	call->why[0] = 0;
	if (v->role != ROLE_PRIMARY) {
		snprintf(call->why, WHY_BYTES, "this node is secondary already");
		volume_call_answer(v, call, 0);
		return;
	}
	if (v->change.step != ROLE_STEP_NONE) {
		snprintf(call->why, WHY_BYTES, "another change of role is under way; try again when it is over");
		volume_call_answer(v, call, -EBUSY);
		return;
	}
	v->frozen = true;
	change_start(v, call, CHANGE_DEMOTE, ROLE_STEP_DRAIN);
}

static void lacks(struct volume *v, const struct peer *p, char why[WHY_BYTES])
{
	const struct log_mark *mark = log_mark_below(&v->log, p->durable);

	if (p->state != PEER_ONLINE && p->state != PEER_CATCHUP)
		snprintf(why, WHY_BYTES, "node %s is %s%s%s; nothing was changed", p->config->name,
			 peer_state_text(p->state), p->why[0] ? ": " : "", p->why);
	else
		snprintf(why, WHY_BYTES, "node %s lacks %llu bytes (%llu records) of the log; nothing was changed; "
			 "try again when `holdfast status` says online", p->config->name,
			 (unsigned long long)(v->log.closed.lsn - p->durable),
			 (unsigned long long)(mark ? v->log.records - mark->records : v->log.records));
}

static int handover_start(struct volume *v, struct volume_call *call, struct peer *p, char why[WHY_BYTES])
{
	if (v->change.step != ROLE_STEP_NONE) {
		snprintf(why, WHY_BYTES, "another change of role is under way; try again when it is over");
		return -EBUSY;
	}
	if (p->state != PEER_ONLINE) {
		lacks(v, p, why);
		return -EAGAIN;
	}
	if (call && call->dry_run) {
		snprintf(why, WHY_BYTES,
			 "node %s would be primary; it has to be sent %llu bytes before that, and nothing "
			 "would be lost",
			 p->config->name, (unsigned long long)(v->log.end.lsn - p->durable));
		return 0;
	}
	v->frozen = true;
	change_start(v, call, CHANGE_HANDOVER, ROLE_STEP_DRAIN);
	v->change.peer = p;
	return -EINPROGRESS;
}

/* We are the target: the primary does it. */
static int request_start(struct volume *v, struct volume_call *call)
{
	struct peer *primary = NULL;

	for (unsigned i = 0; i < v->peer_count; i++)
		if (peer_connected(&v->peers[i]) && v->peers[i].role == ROLE_PRIMARY)
			primary = &v->peers[i];
	if (!primary) {
		snprintf(call->why, WHY_BYTES, "no primary is connected; take over with: holdfast failover %s --force",
			 v->config.name);
		return -ENOTCONN;
	}
	if (v->change.step != ROLE_STEP_NONE) {
		snprintf(call->why, WHY_BYTES, "another change of role is under way; try again when it is over");
		return -EBUSY;
	}
	if (call->dry_run) {
		snprintf(call->why, WHY_BYTES, "node %s would hand over to this node", primary->config->name);
		return 0;
	}
	change_start(v, call, CHANGE_REQUEST, ROLE_STEP_WAIT);
	v->change.peer = primary;
	peer_say_role(primary, ROLE_SWITCHOVER_ASK, 0, &v->log.closed, "");
	return -EINPROGRESS;
}

void volume_switchover(struct volume *v, struct volume_call *call)
{
	struct peer *p = peer_by_name(v, call->node);
	int result;

	call->why[0] = 0;
	if (expect_peers(v, call, volume_switchover))
		return;
	if (strcmp(call->node, v->geometry.node) == 0 && v->role == ROLE_PRIMARY) {
		snprintf(call->why, WHY_BYTES, "this node is primary already");
		result = 0;
	} else if (strcmp(call->node, v->geometry.node) == 0) {
		result = request_start(v, call);
	} else if (!p) {
		snprintf(call->why, WHY_BYTES, "no peer is named %s; see: holdfast peer %s list", call->node,
			 v->config.name);
		result = -ENOENT;
	} else if (v->role != ROLE_PRIMARY) {
		snprintf(call->why, WHY_BYTES, "this node is not primary; run it on the primary or on %s", call->node);
		result = -EPERM;
	} else {
		result = handover_start(v, call, p, call->why);
	}
	if (result != -EINPROGRESS)
		volume_call_answer(v, call, result);
}

static void step_drain(struct volume *v)
{
	struct peer *p = v->change.peer;

	log_close(&v->log);
	v->flush_wanted = v->log.closed.lsn;
	if (v->ack_count || v->journal.durable < v->log.closed.lsn)
		return;
	if (v->change.kind == CHANGE_DEMOTE) {
		volume_role_set(v, ROLE_SECONDARY);
		change_end(v, 0, "");
		return;
	}
	/* Meanwhile it may have fallen out of the journal. */
	if (p->state != PEER_ONLINE && p->state != PEER_CATCHUP) {
		char why[WHY_BYTES];

		lacks(v, p, why);
		change_end(v, -EAGAIN, why);
		return;
	}
	if (p->durable < v->log.closed.lsn)
		return;
	v->change.number = max_u64(v->meta.promised, history_last_number(&v->history)) + 1;
	v->meta.promised = v->change.number;
	v->change.ticket = meta_save(&v->meta);
	step_start(v, ROLE_STEP_HAND);
}

static void step_hand(struct volume *v)
{
	struct peer *p = v->change.peer;

	if (v->meta.saved < v->change.ticket)
		return;
	if (!peer_connected(p) || p->durable < v->log.closed.lsn ||
	    (p->state != PEER_ONLINE && p->state != PEER_CATCHUP)) {
		change_end(v, -ENOTCONN, "the connection was lost; nothing was changed");
		return;
	}
	/* The point of no return: from here on only the target, or a forced promotion, makes a primary. */
	v->role = ROLE_SECONDARY;
	v->applied = v->log.closed.lsn;
	v->commit = max_u64(v->commit, v->applied);
	cursor_seek(&v->apply, &v->log.closed);
	volume_fail_writes(v, -EROFS, true);
	say(v->io, IO_INFO, "volume=%s handed over to node %s at LSN %llu; waiting for it to be primary",
	    v->config.name, p->config->name, (unsigned long long)v->log.closed.lsn);
	peer_say_role(p, ROLE_HANDOVER, v->change.number, &v->log.closed, "");
	step_start(v, ROLE_STEP_WAIT);
	volume_meet_anew(v, p);
	if (v->on_role)
		v->on_role(v->on_role_context, v->role);
}

void volume_reconnect(struct volume *v, struct volume_call *call)
{
	struct peer *p = peer_by_name(v, call->node);

	call->why[0] = 0;
	if (!p) {
		snprintf(call->why, WHY_BYTES, "no peer is named %s; see: holdfast peer %s list", call->node,
			 v->config.name);
		volume_call_answer(v, call, -ENOENT);
		return;
	}
	peer_drop(p, "asked to reconnect", 0);
	volume_call_answer(v, call, 0);
}

/* ---- what peers say ----------------------------------------------------------------------------------- */

static const char *promise_refusal(const struct peer *p, const struct frame_role *role)
{
	struct volume *v = p->volume;

	if (v->role == ROLE_PRIMARY)
		return "it is primary";
	if (v->change.step != ROLE_STEP_NONE)
		return "it changes its own role just now";
	if (v->failed)
		return "its replica has failed";
	if (from_le64(role->number) <= max_u64(v->meta.promised, history_last_number(&v->history)))
		return "it has promised a newer epoch";
	/* What we are about to give up for its history does not count. */
	if (from_le64(role->at.lsn) < v->log.closed.lsn && !resync_running(v) && !p->rewind)
		return "it has log that you lack";
	return NULL;
}

static void promise_asked(struct peer *p, const struct frame_role *role)
{
	struct volume *v = p->volume;
	const char *no = promise_refusal(p, role);

	if (no) {
		peer_say_role(p, ROLE_PROMOTE_NO, from_le64(role->number), NULL, no);
		return;
	}
	/* It fences every older epoch: what its primary still sends is taken no more, and so not acknowledged. */
	if (v->source && v->source != p)
		peer_drop(v->source, "a newer epoch was promised", 0);
	/* Only once it is durable is it given: volume_role_step() answers. */
	v->meta.promised = from_le64(role->number);
	p->promise_number = v->meta.promised;
	p->promise_ticket = meta_save(&v->meta);
}

static void promise_answered(struct peer *p, const struct frame_role *role, const char *text)
{
	struct volume *v = p->volume;
	struct role_change *c = &v->change;
	char why[WHY_BYTES];

	if (c->step != ROLE_STEP_ASK || from_le64(role->number) != c->number)
		return;
	if (from_le16(role->ask) == ROLE_PROMOTE_YES) {
		c->agreed[p - v->peers] = true;
		volume_turn_soon(v);
		return;
	}
	snprintf(why, sizeof why, "node %s does not agree: %.300s", p->config->name, text);
	change_end(v, -EPERM, why);
}

static void handover_taken(struct peer *p, const struct frame_role *role)
{
	struct volume *v = p->volume;
	struct position at = frame_position_get(&role->at);
	struct volume_call *call = v->change.step == ROLE_STEP_WAIT && v->change.kind == CHANGE_REQUEST
					   ? v->change.call : NULL;

	if (v->role == ROLE_PRIMARY || v->source != p || resync_running(v) || v->sink.step != SINK_NONE ||
	    at.lsn != v->log.closed.lsn || memcmp(at.hash, v->log.closed.hash, HASH_BYTES) != 0 ||
	    (v->change.step != ROLE_STEP_NONE && v->change.kind != CHANGE_REQUEST)) {
		say(v->io, IO_WARNING,
		    "volume=%s peer=%s handed over at LSN %llu, which is not where our log ends; not taken",
		    v->config.name, p->config->name, (unsigned long long)at.lsn);
		return;
	}
	p->role = ROLE_SECONDARY;
	p->promised = max_u64(p->promised, from_le64(role->number) - 1);
	v->commit = max_u64(v->commit, at.lsn);
	v->change = (struct role_change){ 0 };
	volume_promote_start(v, call, p);
}

void volume_role_frame(struct peer *p, const struct frame_role *role, const char *text)
{
	struct volume *v = p->volume;
	char why[WHY_BYTES];

	switch (from_le16(role->ask)) {
	case ROLE_PROMOTE_ASK:
		promise_asked(p, role);
		break;
	case ROLE_PROMOTE_YES:
	case ROLE_PROMOTE_NO:
		promise_answered(p, role, text);
		break;
	case ROLE_SWITCHOVER_ASK:
		snprintf(why, sizeof why, "it is not primary");
		if (v->role != ROLE_PRIMARY || handover_start(v, NULL, p, why) != -EINPROGRESS)
			peer_say_role(p, ROLE_SWITCHOVER_NO, 0, NULL, why);
		break;
	case ROLE_SWITCHOVER_NO:
		if (v->change.step != ROLE_STEP_WAIT || v->change.kind != CHANGE_REQUEST || v->change.peer != p)
			break;
		snprintf(why, sizeof why, "node %s does not hand over: %.300s", p->config->name, text);
		change_end(v, -EAGAIN, why);
		break;
	case ROLE_HANDOVER:
		handover_taken(p, role);
		break;
	}
}

void volume_role_met(struct peer *p)
{
	struct volume *v = p->volume;

	if (v->change.step == ROLE_STEP_WAIT && v->change.kind == CHANGE_HANDOVER && v->change.peer == p &&
	    p->role == ROLE_PRIMARY && p->epoch_number >= v->change.number)
		change_end(v, 0, "");
}

void volume_role_lost(struct peer *p)
{
	struct volume *v = p->volume;
	struct role_change *c = &v->change;
	char why[WHY_BYTES];

	p->promise_ticket = 0;
	if (c->step == ROLE_STEP_ASK && c->asked[p - v->peers] && !c->agreed[p - v->peers]) {
		if (c->call && c->call->force) {
			c->asked[p - v->peers] = false;
			volume_turn_soon(v);
			return;
		}
		snprintf(why, sizeof why, "the connection to node %s was lost before it agreed", p->config->name);
		change_end(v, -ENOTCONN, why);
	} else if (c->peer == p && c->step == ROLE_STEP_DRAIN) {
		snprintf(why, sizeof why, "the connection to node %s was lost; nothing was changed", p->config->name);
		change_end(v, -ENOTCONN, why);
	} else if (c->peer == p && c->step == ROLE_STEP_WAIT && c->kind == CHANGE_REQUEST) {
		snprintf(why, sizeof why, "the connection to node %s was lost; see: holdfast status", p->config->name);
		change_end(v, -ENOTCONN, why);
	}
}

/* ---- the turn ------------------------------------------------------------------------------------------ */

static void promises_give(struct volume *v)
{
	for (unsigned i = 0; i < v->peer_count; i++) {
		struct peer *p = &v->peers[i];

		if (!p->promise_ticket || v->meta.saved < p->promise_ticket || !peer_connected(p))
			continue;
		p->promise_ticket = 0;
		peer_say_role(p, ROLE_PROMOTE_YES, p->promise_number, &v->log.closed, "");
	}
}

static void overdue(struct volume *v)
{
	struct role_change *c = &v->change;
	char why[WHY_BYTES] = "", waits[WHY_BYTES];

	volume_commit_waits(v, waits);
	switch (c->step) {
	case ROLE_STEP_ASK:
		snprintf(why, sizeof why, "a peer did not answer in time; see: holdfast status %s", v->config.name);
		break;
	case ROLE_STEP_DRAIN:
		if (c->kind == CHANGE_HANDOVER)
			lacks(v, c->peer, why);
		else
			snprintf(why, sizeof why, "writes wait for %.400s; nothing was changed",
				 *waits ? waits : "the journal");
		break;
	case ROLE_STEP_WAIT:
		snprintf(why, sizeof why,
			 "node %s did not say in time that it is primary; see: holdfast status %s there; "
			 "this node is secondary",
			 c->peer->config->name, v->config.name);
		break;
	default:
		return;		/* our own disk: it takes what it takes, or fails */
	}
	change_end(v, -ETIMEDOUT, why);
}

void volume_role_step(struct volume *v)
{
	promises_give(v);
	expect_step(v);
	if (v->change.step == ROLE_STEP_NONE)
		return;
	if (v->failed || v->state != VOLUME_OPEN) {
		change_end(v, -EIO, v->failed ? v->why : "the daemon stops");
		return;
	}
	switch (v->change.step) {
	case ROLE_STEP_BACK: step_back(v); break;
	case ROLE_STEP_ASK: step_ask(v); break;
	case ROLE_STEP_SETTLE: step_settle(v); break;
	case ROLE_STEP_PROMISE: step_promise(v); break;
	case ROLE_STEP_EPOCH: step_epoch(v); break;
	case ROLE_STEP_DRAIN: step_drain(v); break;
	case ROLE_STEP_HAND: step_hand(v); break;
	case ROLE_STEP_WAIT:
	case ROLE_STEP_NONE: break;
	}
	if (v->change.step != ROLE_STEP_NONE && volume_now(v) > v->change.deadline_ns)
		overdue(v);
}
