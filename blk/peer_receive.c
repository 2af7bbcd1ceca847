/* SPDX-License-Identifier: Apache-2.0 */
/* Frames in. Nothing that a peer says is believed before frame_look() and record_look() have bounded it; what is
 * wrong ends the connection with the name of the field. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

static void receive(struct peer *p);

void peer_malformed(struct peer *p, const char *field)
{
	if (p->state == PEER_HANDSHAKE || p->met)
		peer_refuse(p, FRAME_ERROR_PROTOCOL, 0, PEER_REFUSED, "node %s sent a malformed frame: %s",
			    p->config->name, field);
	if (!p->met)
		peer_drop(p, "", 2000000000);
}

/* ---- sink ---- */

/* The record's epoch must be ours, or a new one that follows. */
static bool epoch_fits(struct volume *v, const struct record_header *r, uint64_t avail)
{
	struct epoch_entry epoch;

	if (avail < sizeof *r || from_le16(r->kind) != RECORD_EPOCH)
		return avail < sizeof *r || from_le64(r->epoch) == v->log.epoch;
	if (record_look(r, avail, &v->log.end, &v->geometry) != RECORD_GOOD)
		return true;	/* log_receive() will say what is wrong */
	if (from_le32(r->annotation_len) != sizeof epoch)
		return false;
	memcpy(&epoch, record_annotation(r), sizeof epoch);
	return from_le64(epoch.number) == from_le64(r->epoch) &&
	       history_follows(&v->history, &epoch, &v->log.end);
}

static void epoch_note(struct volume *v, const struct record_header *r)
{
	struct epoch_entry epoch;

	if (from_le16(r->kind) != RECORD_EPOCH)
		return;
	memcpy(&epoch, record_annotation(r), sizeof epoch);
	history_add(&v->history, &epoch);
	v->meta.promised = max_u64(v->meta.promised, from_le64(epoch.number));
}

/* One record of the current LOG frame. False when it has to wait for bytes or room, or is wrong. */
static bool take_record(struct peer *p)
{
	struct volume *v = p->volume;
	const struct record_header *r = (const void *)(p->in + p->in_at);
	uint64_t avail = min_u64(p->in_len - p->in_at, p->log_left);
	enum record_finding finding;
	uint32_t used = 0;

	if (avail >= sizeof *r && (record_length(r) > v->geometry.segment_bytes ||
				   record_length(r) < sizeof *r)) {
		peer_malformed(p, "record length");
		return false;
	}
	if (avail >= sizeof *r && (!log_has_room(&v->log, record_length(r), v->journal.written) ||
				   !journal_has_room(&v->journal, record_length(r)))) {
		p->blocked = true;
		destage_start(&v->destage);
		return false;
	}
	p->blocked = false;
	if (!epoch_fits(v, r, avail)) {
		peer_malformed(p, "record epoch");
		return false;
	}
	finding = log_receive(&v->log, r, avail, &used);
	if (finding == RECORD_SHORT && avail < p->log_left)
		return false;
	if (finding != RECORD_GOOD) {
		peer_malformed(p, record_finding_name(finding));
		return false;
	}
	epoch_note(v, r);
	p->in_at += used;
	p->log_left -= used;
	return true;
}

static bool take_log(struct peer *p, const struct frame_header *header)
{
	struct volume *v = p->volume;
	const struct frame_log *log = (const void *)(header + 1);

	if (v->source != p || from_le64(log->first) != v->log.end.lsn || from_le64(log->commit) >= LSN_MAX ||
	    (v->sink.step != SINK_NONE && v->sink.step < SINK_RUN)) {
		peer_malformed(p, "LOG first");
		return false;
	}
	v->commit = max_u64(v->commit, from_le64(log->commit));
	v->source_want_durable = max_u64(v->source_want_durable, from_le64(log->want_durable));
	p->log_left = from_le32(header->length) - sizeof *log;
	peer_learn(p, from_le64(log->durable));
	p->end.lsn = max_u64(p->end.lsn, from_le64(log->end));
	return true;
}

/* ---- source ---- */

static bool take_start(struct peer *p, const struct frame_start *start)
{
	struct position at = frame_position_get(&start->at);

	/* Who has asked for a resync waits for that. */
	if ((p->state != PEER_IDLE && p->state != PEER_CATCHUP && p->state != PEER_ONLINE) ||
	    p->give.step != SOURCE_NONE) {
		peer_malformed(p, "START is not expected now");
		return false;
	}
	if (p->sourcing || at.lsn % p->volume->geometry.journal_block) {
		peer_malformed(p, "START at");
		return false;
	}
	p->resyncing = false;
	peer_source_start(p, &at);
	return true;
}

static bool take_ack(struct peer *p, const struct frame_ack *ack)
{
	uint64_t received = from_le64(ack->received), written = from_le64(ack->written);
	uint64_t durable = from_le64(ack->durable), applied = from_le64(ack->applied);

	if (!p->sourcing)
		return true;	/* of before we stopped to be its source */
	if (received > p->cursor.at.lsn || written > received || durable > written || applied > received) {
		peer_malformed(p, "ACK watermarks");
		return false;
	}
	if (received > p->received || written > p->written || durable > p->durable || applied > p->applied)
		p->progress_ns = volume_now(p->volume);
	p->received = max_u64(p->received, received);
	p->written = max_u64(p->written, written);
	p->durable = max_u64(p->durable, durable);
	p->applied = max_u64(p->applied, applied);
	p->limit = from_le64(ack->limit);
	peer_learn(p, p->durable);
	volume_acks(p->volume);
	return true;
}

/* ---- all ---- */

static bool take_ping(struct peer *p, const struct frame_ping *ping)
{
	struct volume *v = p->volume;

	if (from_le64(ping->end) >= LSN_MAX || from_le64(ping->commit) >= LSN_MAX) {
		peer_malformed(p, "PING end or commit");
		return false;
	}
	p->end.lsn = max_u64(p->end.lsn, from_le64(ping->end));
	if (!p->sourcing)
		peer_learn(p, from_le64(ping->durable));
	if (v->source == p) {
		v->commit = max_u64(v->commit, from_le64(ping->commit));
		v->source_want_durable = max_u64(v->source_want_durable, from_le64(ping->want_durable));
	}
	return true;
}

static bool take_error(struct peer *p, const struct frame_header *header)
{
	struct volume *v = p->volume;
	const struct frame_error *error = (const void *)(header + 1);
	char text[FRAME_TEXT_MAX + 1] = "";
	uint32_t code = from_le32(error->code);

	memcpy(text, error + 1, from_le32(header->length) - sizeof *error);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	if (code == FRAME_ERROR_FENCED && v->role == ROLE_PRIMARY && from_le64(error->detail) < EPOCH_NUMBER_MAX &&
	    from_le64(error->detail) > history_last_number(&v->history)) {
		v->meta.promised = max_u64(v->meta.promised, from_le64(error->detail));
		meta_save(&v->meta);
		volume_step_down(v, p, text);
	}
	if (p->state != PEER_REFUSED)
		peer_move(p, PEER_REFUSED, text[0] ? text : "the peer gave no reason");
	peer_drop(p, "", 2000000000);
	return false;
}

static bool take_role(struct peer *p, const struct frame_header *header)
{
	const struct frame_role *role = (const void *)(header + 1);
	char text[FRAME_TEXT_MAX + 1] = "";
	int socket = p->socket;

	memcpy(text, role + 1, from_le32(header->length) - sizeof *role);
	if (from_le16(role->ask) == 0 || from_le16(role->ask) >= ROLE_ASKS) {
		peer_malformed(p, "ROLE ask");
		return false;
	}
	if (from_le64(role->number) >= EPOCH_NUMBER_MAX ||
	    (from_le16(role->ask) == ROLE_HANDOVER && from_le64(role->number) == 0)) {
		peer_malformed(p, "ROLE number");
		return false;
	}
	volume_role_frame(p, role, text);
	return p->socket == socket;
}

/* Of our source. Some have to wait; they are looked at again next turn. */
static bool take_resync(struct peer *p, const struct frame_header *header)
{
	const char *field = NULL;
	int result = resync_sink_frame(p, header, &field);

	if (result == -EAGAIN) {
		p->in_at -= (uint32_t)sizeof *header + from_le32(header->length);
		p->blocked = true;
		return false;
	}
	p->blocked = false;
	if (result)
		peer_malformed(p, field);
	return result == 0;
}

/* One frame that is whole (of LOG: its fixed part). False: no more until something changes. */
static bool take_frame(struct peer *p)
{
	const struct frame_header *header = (const void *)(p->in + p->in_at);
	uint16_t type = from_le16(header->type);
	const void *fixed = header + 1;
	const char *field = NULL;

	/* Taken now: its bytes stay in place until the next recv, and a handler may end the connection. */
	p->in_at += (uint32_t)sizeof *header +
		    (type == FRAME_LOG ? (uint32_t)sizeof(struct frame_log) : from_le32(header->length));
	if (!p->met) {
		if (type == FRAME_ERROR)
			return take_error(p, header);
		if (type != FRAME_HELLO || frame_hello_check(fixed, &field)) {
			peer_malformed(p, field ? field : "type (HELLO comes first)");
			return false;
		}
		peer_meet(p, fixed);
		return p->socket >= 0;
	}
	if (frame_resync_check(header, &p->volume->geometry, &field) ||
	    frame_verify_check(header, &p->volume->geometry, &field)) {
		peer_malformed(p, field);
		return false;
	}
	switch (type) {
	case FRAME_LOG: return take_log(p, header);
	case FRAME_START: return take_start(p, fixed);
	case FRAME_ACK: return take_ack(p, fixed);
	case FRAME_PING: return take_ping(p, fixed);
	case FRAME_ROLE: return take_role(p, header);
	case FRAME_ERROR: return take_error(p, header);
	case FRAME_SIDE: split_told(p, fixed); return true;
	case FRAME_VERIFY:
	case FRAME_REPAIR: return verify_asked(p, header);
	case FRAME_VERIFIED: verify_answered(p, fixed); return true;
	case FRAME_FETCH: fetch_asked(p, fixed); return true;
	case FRAME_FETCHED: return fetch_answered(p, fixed);
	case FRAME_WANT: resync_wanted(p, fixed); return true;
	case FRAME_ASK: return resync_asked(p, fixed);
	case FRAME_TAKEN: return resync_taken(p, fixed);
	case FRAME_NEED:
	case FRAME_BEGIN:
	case FRAME_BLOCKS:
	case FRAME_DONE: return take_resync(p, header);
	}
	peer_malformed(p, "type (a second HELLO)");
	return false;
}

/* Goes through what has arrived. Called after a recv, and every turn, as room in the log may have come. */
void peer_process(struct peer *p)
{
	struct volume *v = p->volume;
	uint64_t closed = v->log.closed.lsn;

	p->blocked = false;
	while (p->socket >= 0 && !p->closing && p->in_at < p->in_len) {
		const char *field = NULL;
		int result;

		if (v->source == p && resync_sink_holds(v)) {
			p->blocked = true;
			break;
		}

		if (p->log_left) {
			if (!take_record(p))
				break;
			continue;
		}
		result = frame_look(p->in + p->in_at, p->in_len - p->in_at, &v->geometry, &field);
		if (result < 0)
			peer_malformed(p, field);
		if (result != 1 || !take_frame(p))
			break;
	}
	if (v->log.closed.lsn != closed) {
		peer_news(p);
		volume_turn_soon(v);
	}
	if (p->socket >= 0 && !p->closing && !p->recv.in_flight)
		receive(p);
}

static void peer_received(struct io_op *op, int64_t result)
{
	struct peer *p = container_of(op, struct peer, recv);
	struct volume *v = p->volume;

	if (p->socket < 0 || result == -ECANCELED) {
		volume_turn_soon(v);
		return;
	}
	if (result <= 0) {
		peer_drop(p, result == 0 ? "it closed the connection" : strerrordesc_np((int)-result), 0);
		return;
	}
	p->bytes_received += (uint64_t)result;
	p->heard_ns = volume_now(v);
	p->in_len += (uint32_t)result;
	peer_process(p);
	volume_turn_soon(v);
}

static void receive(struct peer *p)
{
	/* With a full buffer nothing is read, and TCP holds the sender back, until the record finds room. */
	memmove(p->in, p->in + p->in_at, p->in_len - p->in_at);
	p->in_len -= p->in_at;
	p->in_at = 0;
	if (p->in_len == p->in_bytes)
		return;
	p->recv = (struct io_op){ .kind = IO_RECV, .file = p->socket, .data = p->in + p->in_len,
				  .len = min_u64(p->in_bytes - p->in_len, IO_LEN_MAX), .done = peer_received };
	p->volume->io->submit(p->volume->io, &p->recv);
}

void peer_receive_start(struct peer *p)
{
	if (p->socket >= 0 && !p->recv.in_flight && !p->closing)
		receive(p);
}
