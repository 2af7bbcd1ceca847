/* SPDX-License-Identifier: Apache-2.0 */
/* The connection of a peer: when it is made, when it is over. Nothing is remembered of an old connection but
 * figures for people: what two nodes are to each other is found out anew by each HELLO. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

enum { REDIAL_NS = 500000000 };

const char *peer_state_text(enum peer_state state)
{
	static const char *const texts[] = {
#define X(name, text, to) [PEER_##name] = text,
		PEER_STATES(X)
#undef X
	};

	return texts[state];
}

int peer_new(struct peer *p, struct volume *v, const struct volume_peer_config *config)
{
	struct io *io = v->io;
	uint32_t frame = (uint32_t)round_up(frame_bytes_max(&v->geometry), 4096);

	*p = (struct peer){ .volume = v, .config = config, .socket = -1 };
	p->dials = strcmp(v->geometry.node, config->name) < 0;
	p->in_bytes = 2 * frame;
	p->out_bytes = 2 * frame + 4096;
	p->in = io->alloc(io, p->in_bytes, 0);
	p->out = io->alloc(io, p->out_bytes, 0);
	if (!p->in || !p->out || resync_source_new(p))
		return -ENOMEM;
	return cursor_new(&p->cursor, io, &v->log, &v->journal, peer_cursor_ready);
}

void peer_delete(struct peer *p)
{
	if (!p->volume)
		return;
	CHECK(p->socket < 0 && peer_quiet(p));
	cursor_delete(&p->cursor);
	resync_source_delete(p);
	p->volume->io->free(p->volume->io, p->in);
	p->volume->io->free(p->volume->io, p->out);
	*p = (struct peer){ .socket = -1 };
}

bool peer_quiet(const struct peer *p)
{
	return !p->dial.in_flight && !p->recv.in_flight && !p->send.in_flight && !p->cursor.op.in_flight;
}

struct peer *peer_by_name(struct volume *v, const char *name)
{
	for (unsigned i = 0; i < v->peer_count; i++)
		if (strcmp(v->peers[i].config->name, name) == 0)
			return &v->peers[i];
	return NULL;
}

bool peer_connected(const struct peer *p)
{
	return p->socket >= 0 && p->met;
}

void peer_move(struct peer *p, enum peer_state state, const char *why)
{
#define TO(name) (1u << PEER_##name)
	static const unsigned allowed[] = {
#define X(name, text, to) [PEER_##name] = to,
		PEER_STATES(X)
#undef X
	};
#undef TO
	struct volume *v = p->volume;
	enum io_level level = state == PEER_REFUSED || state == PEER_SPLIT ? IO_WARNING : IO_INFO;

	if (p->state == state)
		return;
	CHECK(allowed[p->state] & 1u << state);
	CHECK(state == PEER_OFFLINE || state == PEER_REFUSED || p->socket >= 0);
	CHECK((state != PEER_ONLINE && state != PEER_CATCHUP && state != PEER_RESYNC) || p->sourcing);
	CHECK(state != PEER_FOLLOWING || v->source == p);
	/* A refusal is tried again every few seconds, and said once. */
	if (state != PEER_HANDSHAKE && !(p->state == PEER_HANDSHAKE && state == PEER_OFFLINE) &&
	    !(state == PEER_REFUSED && strcmp(p->why, why) == 0))
		say(v->io, level, "volume=%s peer=%s %s%s%s", v->config.name, p->config->name,
		    peer_state_text(state), why[0] ? ": " : "", why);
	p->state = state;
	if (state == PEER_ONLINE || state == PEER_RESYNC || state == PEER_SPLIT || state == PEER_REFUSED)
		p->expected_ns = 0;
	if (state != PEER_HANDSHAKE)
		snprintf(p->why, sizeof p->why, "%s", why);
}

/* We lose our source: what it had not sent to the end of its batch never happened. */
void peer_source_lost(struct volume *v)
{
	v->source = NULL;
	v->source_want_durable = 0;
	log_drop_open(&v->log);
	/* In a jump the history is the source's already, and the log still the old one. */
	if (!resync_sink_moves_log(v)) {
		history_truncate(&v->history, v->log.closed.lsn);
		v->log.epoch = history_last_number(&v->history);
	}
	/* What was committed of log that we never got says nothing of what a newer epoch puts there. */
	v->commit = min_u64(v->commit, v->log.closed.lsn);
	resync_sink_lost(v);
	verify_sink_lost(v);
	/* Another one may go on where it stopped: volume_turn() looks for it. */
}

void peer_drop(struct peer *p, const char *why, uint64_t delay_ns)
{
	struct volume *v = p->volume;
	bool was_source = v->source == p;

	if (p->dial.in_flight)
		v->io->cancel(v->io, &p->dial);
	if (p->socket >= 0)
		v->io->close(v->io, p->socket);
	p->socket = -1;
	p->met = p->closing = p->ahead = p->rewind = p->resyncing = p->blocked = false;
	peer_source_stop(p);
	p->say_hello = p->say_start = p->say_ack = p->say_ping = p->say_role = p->say_error = false;
	p->in_at = p->in_len = 0;
	p->log_left = 0;
	p->redial_ns = max_u64(p->redial_ns, volume_now(v) + delay_ns);
	if (p->state != PEER_REFUSED)
		peer_move(p, PEER_OFFLINE, why);
	if (was_source)
		peer_source_lost(v);
	volume_role_lost(p);
	/* Writes that waited for it go on with a copy fewer, if the policy lets them. */
	volume_turn_soon(v);
}

void peer_learn(struct peer *p, uint64_t lsn)
{
	bool ours = p->verdict == HISTORY_EQUAL || p->verdict == HISTORY_AHEAD || p->verdict == HISTORY_BEHIND;

	if (ours && p->met)
		lack_learn(p->lack, lsn, !p->resyncing);
}

bool peer_proved(const struct volume *v, const struct volume_peer_config *config, int socket, char why[WHY_BYTES])
{
	const char *node = v->io->socket_node(v->io, socket);

	bool encrypted = peer_config_encrypted(config);

	if (*node ? strcmp(node, config->name) == 0 : !encrypted && v->config.insecure_loopback)
		return true;
	if (*node)
		snprintf(why, WHY_BYTES, "it says that it is node %s, and its key is node %s's", config->name, node);
	else
		snprintf(why, WHY_BYTES, encrypted ?
			 "its link is not encrypted, and node %s has to prove who it is" :
			 "its link is not encrypted, and the config here does not allow that for node %s "
			 "(insecure-loopback)", config->name);
	return false;
}

static void peer_not_dialed(struct peer *p, int error)
{
	struct volume *v = p->volume;

	p->redial_ns = volume_now(v) + REDIAL_NS;
	p->expected_ns = 0;
	if (p->state != PEER_REFUSED && error != -ECANCELED && p->dial.why)
		snprintf(p->why, sizeof p->why, "%s", p->dial.why);
	else if (p->state != PEER_REFUSED && error != -ECANCELED)
		snprintf(p->why, sizeof p->why, "dialing %s: %s", p->config->address, strerrordesc_np(-error));
	p->dial.why = NULL;
	volume_turn_soon(v);
}

static void peer_dialed(struct io_op *op, int64_t result)
{
	struct peer *p = container_of(op, struct peer, dial);
	struct volume *v = p->volume;
	char why[WHY_BYTES];

	if (result >= 0 && !peer_proved(v, p->config, (int)result, why)) {
		v->io->close(v->io, (int)result);
		p->dial.why = why;
		result = -EACCES;
	}
	if (result < 0) {
		peer_not_dialed(p, (int)result);
		return;
	}
	/* Meanwhile the volume may have begun to close, or another connection may have been made. */
	if (v->state != VOLUME_OPEN || p->socket >= 0) {
		v->io->close(v->io, (int)result);
		volume_turn_soon(v);
		return;
	}
	p->socket = (int)result;
	p->deadline_ns = volume_now(v) + v->config.peer_timeout_ns;
	peer_move(p, PEER_HANDSHAKE, "");
	p->say_hello = true;
	peer_receive_start(p);
	volume_turn_soon(v);
}

void peer_adopt(struct peer *p, int socket, const struct frame_hello *hello)
{
	CHECK(p->socket < 0 && peer_quiet(p));
	p->socket = socket;
	p->deadline_ns = volume_now(p->volume) + p->volume->config.peer_timeout_ns;
	peer_move(p, PEER_HANDSHAKE, "");
	p->say_hello = true;
	/* Our HELLO has to go first, and to say what we compare: whoever reads it comes to a fitting verdict. */
	peer_send(p);
	peer_meet(p, hello);
	peer_receive_start(p);
}

void peer_dial(struct peer *p, uint64_t now)
{
	struct volume *v = p->volume;

	if (!p->dials || p->socket >= 0 || !peer_quiet(p) || now < p->redial_ns)
		return;
	p->redial_ns = now + TICK_NS;	/* a connection that ends at once is not made anew at once */
	p->deadline_ns = now + v->config.peer_timeout_ns;
	p->dial = (struct io_op){ .kind = IO_DIAL, .address = p->config->address, .node = p->config->name,
				  .done = peer_dialed };
	v->io->submit(v->io, &p->dial);
}

/* It is there, but writes wait for it and it gets nothing done: its disk hangs, or is full. Where any K of some peers
 * are enough, no write waits for this one: dropping it would help nobody. */
static bool peer_stuck(struct peer *p, uint64_t now)
{
	struct volume *v = p->volume;
	/* That its readers see nothing new holds nobody up but in mode D. */
	uint64_t least = p->config->mode == MODE_D ? min_u64(p->durable, p->applied) : p->durable;

	if (v->config.commit != COMMIT_ALL || p->state != PEER_ONLINE || p->config->mode == MODE_A ||
	    v->role != ROLE_PRIMARY || !v->ack_count || least >= v->log.closed.lsn)
		p->progress_ns = now;
	return now - p->progress_ns > 2 * v->config.peer_timeout_ns;
}

void peer_tick(struct peer *p, uint64_t now)
{
	struct volume *v = p->volume;
	uint64_t timeout = v->config.peer_timeout_ns;
	char why[WHY_BYTES];

	if (p->expected_ns && now > p->expected_ns) {
		p->expected_ns = 0;
		volume_turn_soon(v);
	}
	if (p->socket < 0) {
		if (p->dial.in_flight && now > p->deadline_ns)
			v->io->cancel(v->io, &p->dial);
		return;
	}
	if (!p->met || p->closing) {
		if (now > p->deadline_ns)
			peer_drop(p, "no answer to HELLO", REDIAL_NS);
		return;
	}
	if (p->blocked)		/* we do not read: its silence is our doing */
		p->heard_ns = now;
	if (now - p->heard_ns > timeout) {
		snprintf(why, sizeof why, "nothing heard for %llu ms; %s",
			 (unsigned long long)((now - p->heard_ns) / 1000000),
			 volume_commit_goes_on_without(v, p) ? "writes go on without it" : "dialing it anew");
		peer_drop(p, why, 0);
		return;
	}
	/* We were equal when we met; since then it got log that we did not, and whoever gave it that is gone. */
	if (v->role == ROLE_SECONDARY && !v->source && v->change.step == ROLE_STEP_NONE && p->state == PEER_IDLE &&
	    !p->ahead && p->end.lsn > v->log.closed.lsn && !p->resyncing && v->sink.step == SINK_NONE &&
	    p->verdict != HISTORY_REWIND_PEER) {
		peer_drop(p, "it has more log by now", 0);
		return;
	}
	if (peer_stuck(p, now)) {
		snprintf(why, sizeof why,
			 "writes wait for it, and it got nothing done for %llu ms (see its status); left behind",
			 (unsigned long long)((now - p->progress_ns) / 1000000));
		peer_drop(p, why, timeout);
		return;
	}
	if (now - p->sent_ns > timeout / 5 || p->commit_sent != v->commit)
		p->say_ping = true;
	split_tick(p);
	peer_news(p);
	if (memcmp(&p->ack_sent, &(struct frame_ack[]){ peer_ack(v) }, sizeof p->ack_sent) != 0)
		p->say_ack = v->source == p;
}
