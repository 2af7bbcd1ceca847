/* SPDX-License-Identifier: Apache-2.0 */
/* A peer: another node of the volume, as seen from this one. One connection at a time; the node whose name
 * sorts first dials, the other listens.
 *
 *	peer.c		the connection: dial, adopt, drop, time
 *	peer_meet.c	HELLO, what the two histories say, who follows whom
 *	peer_send.c	frames out; as source: log from the cursor
 *	peer_receive.c	frames in; as sink: records into our log
 *	resync_source.c	the blocks of its bitmap, between the log
 */
#ifndef HOLDFAST_PEER_H
#define HOLDFAST_PEER_H

#include "cursor.h"
#include "frame.h"
#include "resync.h"
#include "split.h"
#include "volume.h"

struct volume;

/* What we and the peer are to each other. The second column is what people read. */
#define PEER_STATES(X) \
	X(OFFLINE,	"offline",	TO(HANDSHAKE)) \
	X(HANDSHAKE,	"handshake",	TO(OFFLINE) | TO(IDLE) | TO(SPLIT) | TO(REFUSED)) \
	X(IDLE,		"connected",	TO(OFFLINE) | TO(CATCHUP) | TO(RESYNC) | TO(FOLLOWING) | TO(REFUSED)) \
	X(CATCHUP,	"catching up",	TO(OFFLINE) | TO(IDLE) | TO(ONLINE) | TO(RESYNC) | TO(REFUSED)) \
	X(ONLINE,	"online",	TO(OFFLINE) | TO(IDLE) | TO(CATCHUP) | TO(REFUSED)) \
	X(RESYNC,	"resyncing",	TO(OFFLINE) | TO(IDLE) | TO(CATCHUP) | TO(REFUSED)) \
	X(FOLLOWING,	"following",	TO(OFFLINE) | TO(REFUSED)) \
	X(SPLIT,	"split brain",	TO(OFFLINE) | TO(IDLE) | TO(FOLLOWING) | TO(REFUSED)) \
	X(REFUSED,	"refused",	TO(OFFLINE) | TO(HANDSHAKE))

enum peer_state {
#define X(name, text, to) PEER_##name,
	PEER_STATES(X)
#undef X
	PEER_STATE_COUNT
};

struct peer {
	struct volume *volume;
	const struct volume_peer_config *config;
	enum peer_state state;
	char why[WHY_BYTES];		/* of OFFLINE, SPLIT, REFUSED */
	bool dials;			/* our name sorts first: we dial */

	int socket;			/* -1: none */
	struct io_op dial, recv, send;
	uint64_t redial_ns;		/* not before */
	uint64_t expected_ns;		/* it was there when we became primary, and until then, or until we know what
					 * it is to us, it counts as online. 0 = not */
	uint64_t deadline_ns;		/* of dial and handshake */
	uint64_t heard_ns, sent_ns, met_ns;	/* 0 = never */
	bool closing;			/* an error is on its way out: close after it */

	uint8_t *in;			/* in_bytes; [in_at, in_len) is not consumed yet */
	uint32_t in_bytes, in_at, in_len;
	uint8_t *out;			/* out_bytes; being sent while send is in flight */
	uint32_t out_bytes, out_len;
	uint64_t bytes_sent, bytes_received;

	/* What to say as soon as the wire is free. */
	bool say_hello, say_start, say_ack, say_ping, say_role, say_error;
	struct frame_role role_out;
	char role_text[FRAME_TEXT_MAX];
	struct frame_error error_out;
	char error_text[FRAME_TEXT_MAX];

	/* What it last said of itself. */
	bool met;			/* its HELLO was taken on this connection */
	enum volume_role role;
	enum replication_mode wants;	/* what it, as primary, waits for from us */
	uint64_t epoch_number, promised;
	struct position end;		/* of HELLO; lsn moves with PING */
	uint64_t promise_ticket, promise_number;	/* ours to it, not durable yet; 0 = none */
	bool ahead;			/* it has log that we lack and that follows ours */
	enum history_verdict verdict;	/* of our meeting */
	struct position fork;		/* up to where its log and ours are the same, as far as histories tell */
	bool resyncing;			/* its store is in the middle of a resync */
	bool rewind; /* we give up our log behind the fork for its: a newer epoch, or a split brain decided */
	uint64_t received, written, durable, applied;
	uint64_t progress_ns;		/* since when writes wait for it without any of these having moved */

	/* We are its source. */
	bool sourcing;
	struct cursor cursor;
	struct split split;		/* of a split brain */
	struct lack *lack;		/* what it may lack of what the journal does not hold */
	struct resync_source give;
	uint64_t commit_sent, want_durable_sent;
	uint64_t news_ns;		/* when a frame was last sent that is for readers only */
	uint64_t limit;			/* its journal takes no log that ends above this */
	bool limited;			/* there is log that it cannot take yet */

	/* It is our source. */
	uint64_t log_left;		/* bytes of the current LOG frame still to come */
	bool blocked;			/* a frame or record waits for room, or for a step of our own resync */
	struct frame_ack ack_sent;
};

/* An accepted connection that has not said who it is. */
struct greeting {
	struct volume *volume;
	int socket;			/* -1: free */
	struct io_op recv;
	uint8_t *in;			/* FRAME_HELLO_MAX */
	uint32_t in_len;
	uint64_t deadline_ns;
	bool whole;			/* waits for the old connection of `peer` to be over */
	struct peer *peer;
};
enum { GREETINGS_MAX = 4 };

struct listener {
	struct volume *volume;
	int socket;
	struct io_op accept;
	struct greeting greetings[GREETINGS_MAX];
};

MUST_CHECK int peer_new(struct peer *p, struct volume *v, const struct volume_peer_config *config);
void peer_delete(struct peer *p);
/* Dials if that is our part and it is time; every turn. */
void peer_dial(struct peer *p, uint64_t now);
/* Ends what has timed out, pings; every tick. */
void peer_tick(struct peer *p, uint64_t now);
/* Ends the connection (and dials anew after @delay_ns). @why is for the operator; "" says nothing. */
void peer_drop(struct peer *p, const char *why, uint64_t delay_ns);
/* Takes no more log from v->source. */
void peer_source_lost(struct volume *v);
/* NULL: there is none. */
struct peer *peer_by_name(struct volume *v, const char *name);
bool peer_connected(const struct peer *p);
/* Whether who is at the other end of @socket may be @config's node: by its key, or where no key is asked for. If not,
 * @why is the sentence. */
bool peer_proved(const struct volume *v, const struct volume_peer_config *config, int socket, char why[WHY_BYTES]);
bool peer_quiet(const struct peer *p);
/* It has all our log durably, up to @lsn: for the floor of our journal. */
void peer_learn(struct peer *p, uint64_t lsn);
const char *peer_state_text(enum peer_state state);
void peer_move(struct peer *p, enum peer_state state, const char *why);
/* Gives it the connected @socket; ops of an earlier one are over. */
void peer_adopt(struct peer *p, int socket, const struct frame_hello *hello);
void peer_receive_start(struct peer *p);

/* peer_meet.c */
void peer_hello_fill(struct peer *p, struct frame_hello *hello, struct epoch_entry *epochs);
void peer_meet(struct peer *p, const struct frame_hello *hello);
/* A secondary without a source takes log from a peer that has some, the primary if it can. */
void peer_follow_best(struct volume *v);
/* Says @text and closes. */
__attribute__((format(printf, 5, 6)))
void peer_refuse(struct peer *p, enum frame_error_code code, uint64_t detail, enum peer_state state,
		 const char *format, ...);

/* Our replica has failed. */
void peer_refuse_failed(struct peer *p);

/* peer_send.c */
void peer_send(struct peer *p);
/* Where the next frame's body goes in what is being put together; and its end. For the other stages that send. */
void *peer_body(struct peer *p);
void peer_body_end(struct peer *p, enum frame_type type, uint32_t length);
/* Whether a frame of @length more fits. */
bool peer_body_fits(const struct peer *p, uint64_t length);
void peer_source_start(struct peer *p, const struct position *at);
void peer_source_stop(struct peer *p);
void peer_say_role(struct peer *p, enum role_ask ask, uint64_t number, const struct position *at,
		   const char *text);
/* What it should know of us as our source. */
struct frame_ack peer_ack(const struct volume *v);
/* Whether it should hear of what changed here. */
void peer_news(struct peer *p);
void peer_cursor_ready(struct cursor *c);

/* peer_receive.c */
void peer_process(struct peer *p);
void peer_malformed(struct peer *p, const char *field);

/* listener (peer_listen.c) */
MUST_CHECK int listener_new(struct listener *l, struct volume *v);
void listener_delete(struct listener *l);
/* -errno of io->listen(). Nobody is accepted before listener_start(). */
MUST_CHECK int listener_listen(struct listener *l, const char *address);
void listener_start(struct listener *l);
void listener_stop(struct listener *l);
/* Hands whole greetings to their peers; every turn. */
void listener_step(struct listener *l);
void listener_tick(struct listener *l, uint64_t now);
bool listener_quiet(const struct listener *l);

#endif
