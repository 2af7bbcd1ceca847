/* SPDX-License-Identifier: Apache-2.0 */
/* Frames out. One send is in flight at a time; when the wire is free, all that is to be said is packed into one
 * buffer, small frames first, then log. The log's bytes are copied here, so a peer that does not read holds up
 * its own connection and nothing else. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

void *peer_body(struct peer *p)
{
	return p->out + p->out_len + sizeof(struct frame_header);
}

void peer_body_end(struct peer *p, enum frame_type type, uint32_t length)
{
	frame_seal((struct frame_header *)(void *)(p->out + p->out_len), type, length);
	p->out_len += (uint32_t)sizeof(struct frame_header) + length;
	CHECK(p->out_len <= p->out_bytes);
}

bool peer_body_fits(const struct peer *p, uint64_t length)
{
	return p->out_len + sizeof(struct frame_header) + length <= p->out_bytes;
}

static uint32_t text_put(void *to, const char *text)
{
	uint32_t length = (uint32_t)strnlen(text, FRAME_TEXT_MAX), padded = (uint32_t)round_up(length, 8);

	memset(to, 0, padded);
	memcpy(to, text, length);
	return padded;
}

static void put_hello(struct peer *p)
{
	struct frame_hello *hello = peer_body(p);

	peer_hello_fill(p, hello, (struct epoch_entry *)(void *)(hello + 1));
	peer_body_end(p, FRAME_HELLO, (uint32_t)(sizeof *hello + from_le32(hello->epoch_count) *
					     sizeof(struct epoch_entry)));
	p->say_hello = false;
}

/* What readers see during a resync may be of a history that our source does not know. */
static uint64_t ack_applied(const struct volume *v)
{
	return resync_running(v) ? 0 : volume_visible(v);
}

struct frame_ack peer_ack(const struct volume *v)
{
	return (struct frame_ack){ to_le64(v->log.closed.lsn), to_le64(v->journal.written),
				   to_le64(v->journal.durable), to_le64(ack_applied(v)),
				   to_le64(journal_limit(&v->journal)) };
}

static void put_small(struct peer *p)
{
	struct volume *v = p->volume;

	if (p->say_role) {
		struct frame_role *role = peer_body(p);

		*role = p->role_out;
		peer_body_end(p, FRAME_ROLE, (uint32_t)sizeof *role + text_put(role + 1, p->role_text));
	}
	if (p->say_start) {
		struct frame_start *start = peer_body(p);

		start->at = frame_position_of(&v->log.closed);
		peer_body_end(p, FRAME_START, sizeof *start);
	}
	if (p->say_ack && resync_sink_acks(v)) {
		struct frame_ack *ack = peer_body(p);

		*ack = peer_ack(v);
		p->ack_sent = *ack;
		peer_body_end(p, FRAME_ACK, sizeof *ack);
	}
	if (p->say_ping) {
		struct frame_ping *ping = peer_body(p);

		*ping = (struct frame_ping){ .end = to_le64(v->log.closed.lsn), .commit = to_le64(v->commit),
					     .durable = to_le64(v->journal.durable) };
		if (p->sourcing) {
			p->want_durable_sent = min_u64(v->flush_wanted, p->cursor.at.lsn);
			ping->want_durable = to_le64(p->want_durable_sent);
		}
		p->commit_sent = v->commit;
		peer_body_end(p, FRAME_PING, sizeof *ping);
	}
	if (p->say_error) {
		struct frame_error *error = peer_body(p);

		*error = p->error_out;
		peer_body_end(p, FRAME_ERROR, (uint32_t)sizeof *error + text_put(error + 1, p->error_text));
	}
	p->say_role = p->say_start = p->say_ack = p->say_ping = p->say_error = false;
}

/* ---- source ---- */

void peer_source_start(struct peer *p, const struct position *at)
{
	struct volume *v = p->volume;

	if (at->lsn > v->log.closed.lsn || (at->lsn == v->log.closed.lsn &&
					    memcmp(at->hash, v->log.closed.hash, HASH_BYTES) != 0)) {
		peer_refuse(p, FRAME_ERROR_HISTORY, 0, PEER_REFUSED,
			    "node %s asks for log from LSN %llu, which is not a place of ours", p->config->name,
			    (unsigned long long)at->lsn);
		return;
	}
	cursor_seek(&p->cursor, at);
	p->sourcing = true;
	p->limit = 0;			/* until its first ACK */
	p->received = at->lsn;
	p->written = min_u64(p->written, at->lsn);
	p->durable = min_u64(p->durable, at->lsn);
	peer_move(p, PEER_CATCHUP, "");
	volume_turn_soon(v);
}

void peer_source_stop(struct peer *p)
{
	p->sourcing = false;
	resync_source_stop(p);
	verify_lost(p);
	fetch_lost(p);
}

static void cannot_source(struct peer *p, int error)
{
	struct volume *v = p->volume;
	unsigned long long lsn = p->cursor.at.lsn;

	if (error != -EBADMSG)
		peer_refuse(p, FRAME_ERROR_BUSY, 0, PEER_REFUSED, "node %s cannot read its journal at LSN %llu (%s)",
			    v->geometry.node, lsn, strerrordesc_np(-error));
	else if (p->cursor.finding == RECORD_UNCHAINED && !p->resyncing)
		peer_refuse(p, FRAME_ERROR_HISTORY, 0, PEER_REFUSED,
			    "the logs of nodes %s and %s differ below LSN %llu: a disk or memory has lied; "
			    "on the bad one run: holdfast replace %s --force", v->geometry.node, p->config->name, lsn,
			    v->config.name);
	else
		resync_needed(p);
}

/* Its journal needs the record, a pad behind it, and the rest of that pad's block. Without this bound the record
 * would wait there for room, the commit LSN that makes room would wait behind the record, and so for ever. */
static bool peer_has_room(const struct peer *p, const struct record_header *r)
{
	const struct geometry *g = &p->volume->geometry;

	return from_le64(r->lsn) + record_length(r) + RECORD_HEADER_BYTES + g->journal_block <= p->limit;
}

/* One frame of log, as much as there is and fits. */
static void put_log(struct peer *p)
{
	struct volume *v = p->volume;
	struct frame_log *frame = peer_body(p);
	uint8_t *records = (uint8_t *)(frame + 1);
	uint32_t length = 0, most = frame_log_max(&v->geometry);
	uint64_t first = p->cursor.at.lsn, limit = resync_log_limit(p);

	limit = min_u64(limit, min_u64(verify_log_limit(p), fetch_log_limit(p)));
	if (p->out_len + sizeof(struct frame_header) + sizeof *frame + most > p->out_bytes)
		return;
	for (;;) {
		const struct record_header *r = NULL;
		int result = cursor_look(&p->cursor, &r);

		if (result < 0 && result != -EAGAIN)
			cannot_source(p, result);
		p->limited = result == 1 && (!peer_has_room(p, r) || from_le64(r->lsn) + record_length(r) > limit);
		if (result != 1 || p->limited || length + record_wire_length(r) > most)
			break;
		memcpy(records + length, r, record_wire_length(r));
		length += record_wire_length(r);
		cursor_advance(&p->cursor, r);
	}
	if (!p->sourcing || length == 0)
		return;
	p->want_durable_sent = v->flush_wanted;
	p->commit_sent = v->commit;
	*frame = (struct frame_log){ to_le64(first), to_le64(p->cursor.at.lsn), to_le64(v->commit),
				     to_le64(v->flush_wanted), to_le64(v->journal.durable) };
	peer_body_end(p, FRAME_LOG, (uint32_t)sizeof *frame + length);
}

static void source(struct peer *p)
{
	struct volume *v = p->volume;

	put_log(p);
	if (p->state == PEER_CATCHUP && p->cursor.at.lsn == v->log.closed.lsn)
		peer_move(p, PEER_ONLINE, "");
}

void peer_cursor_ready(struct cursor *c)
{
	volume_turn_soon(container_of(c, struct peer, cursor)->volume);
}

/* ---- all ---- */

void peer_say_role(struct peer *p, enum role_ask ask, uint64_t number, const struct position *at,
		   const char *text)
{
	p->role_out = (struct frame_role){ .ask = to_le16((uint16_t)ask), .number = to_le64(number) };
	if (at)
		p->role_out.at = frame_position_of(at);
	snprintf(p->role_text, sizeof p->role_text, "%s", text);
	p->say_role = true;
	volume_turn_soon(p->volume);
}

/* News that only readers wait for: now, or in a while. */
static bool news_now(struct peer *p)
{
	uint64_t now = volume_now(p->volume);

	if (now - p->news_ns < NEWS_NS) {
		volume_news_soon(p->volume);
		return false;
	}
	p->news_ns = now;
	return true;
}

static void news_of_sink(struct peer *p)
{
	struct volume *v = p->volume;
	const struct frame_ack *sent = &p->ack_sent;
	bool received = from_le64(sent->received) != v->log.closed.lsn;
	bool written = from_le64(sent->written) != v->journal.written;
	bool durable = from_le64(sent->durable) != v->journal.durable;
	bool visible = from_le64(sent->applied) != ack_applied(v);

	p->say_ack |= journal_limit(&v->journal) - from_le64(sent->limit) >= v->geometry.journal_bytes / 8;
	switch (p->wants) {
	case MODE_A: break;	/* once a tick is enough */
	case MODE_B: p->say_ack |= received; break;
	case MODE_C: p->say_ack |= written || durable; break;
	case MODE_D: p->say_ack |= durable || visible; break;
	}
	if (visible && !p->say_ack)
		p->say_ack = news_now(p);
}

/* A flush that came after its log was sent. And the commit LSN: in mode D writes here wait for its readers, and a full
 * journal there waits for it; else readers alone do, when no log is there to carry it. */
static void news_of_source(struct peer *p)
{
	struct volume *v = p->volume;
	uint64_t want = min_u64(v->flush_wanted, p->cursor.at.lsn);
	bool hurry = p->limited || p->config->mode == MODE_D;

	p->say_ping |= want > p->want_durable_sent && want > p->durable;
	if (p->commit_sent != v->commit && !p->say_ping)
		p->say_ping = hurry || news_now(p);
}

void peer_news(struct peer *p)
{
	struct volume *v = p->volume;

	if (!p->met || p->closing)
		return;
	if (v->source == p && resync_sink_acks(v))
		news_of_sink(p);
	if (p->sourcing && (p->limited || p->cursor.at.lsn == v->log.closed.lsn))
		news_of_source(p);
	if ((p->say_ack || p->say_ping) && !p->send.in_flight)
		volume_turn_soon(v);
}

static void peer_sent(struct io_op *op, int64_t result)
{
	struct peer *p = container_of(op, struct peer, send);
	struct volume *v = p->volume;

	if (p->socket >= 0 && result < 0) {
		peer_drop(p, strerrordesc_np((int)-result), 0);
	} else if (p->socket >= 0) {
		p->bytes_sent += (uint64_t)result;
		p->sent_ns = volume_now(v);
		if (p->closing && !p->say_error)
			peer_drop(p, "", 2000000000);
	}
	volume_turn_soon(v);
}

void peer_send(struct peer *p)
{
	struct volume *v = p->volume;

	if (p->socket < 0 || p->send.in_flight)
		return;
	p->out_len = 0;
	if (p->say_hello) {
		put_hello(p);
	} else if (p->met) {
		put_small(p);
		split_put(p);
		resync_sink_put(p);
		if (!p->closing) {
			verify_put(p);
			fetch_put(p);
		}
		/* Log and blocks take turns in going first, so that neither starves. */
		if (p->give.log_first && p->sourcing && !p->closing)
			source(p);
		if (!p->closing)
			resync_source_put(p);
		if (!p->give.log_first && p->sourcing && !p->closing)
			source(p);
		p->give.log_first = !p->give.log_first || p->state != PEER_RESYNC;
	}
	if (!p->out_len)
		return;
	p->send = (struct io_op){ .kind = IO_SEND, .file = p->socket, .data = p->out, .len = p->out_len,
				  .done = peer_sent };
	v->io->submit(v->io, &p->send);
}
