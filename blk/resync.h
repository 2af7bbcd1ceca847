/* SPDX-License-Identifier: Apache-2.0 */
/* A resync: how a replica that log alone cannot bring up to date becomes one that is.
 *
 *	sink (resync_sink.c)				source (resync_source.c)
 *	----					------
 *	START(our end), or: we have to rewind		NEED: the journal does not hold that
 *	SETTLE	all our log is in the store
 *	WALK	the blocks that we wrote behind the fork are wanted
 *	SNAPSHOT an undo slot records from here on
 *	ASK(id, base)					the id is known: go on. Else NEED the wanted blocks (REST), then
 *							mark: the bitmap names all changes up to S
 *	JUMP	our log begins anew at S		BEGIN(S); the log from S on, and between its records the
 *	RUN	blocks go to pages, log as ever		blocks of the bitmap, as of an LSN not below the log sent
 *		TAKEN: durable				bits clear
 *	FINISH	all applied up to L			DONE(L)
 *	consistent: TAKEN(finished)			an ordinary follower
 *
 * Blocks may come early: each is put in place at once, though it holds effects of records that are yet to be
 * applied. Redo of those changes nothing, so once all log up to DONE is applied the store is the volume as of an LSN.
 * Until then it is not, and what readers see is the snapshot.
 *
 * `base` is the LSN that the sink's store is the volume as of, on the source's history, but for the blocks that it
 * wants: those it has changed since (undo's `saved`) or wrote itself on a history that it gives up (undo's `want`).
 * What the source adds are the blocks that its own history changed since base. Both together are all that may differ.
 */
#ifndef HOLDFAST_RESYNC_H
#define HOLDFAST_RESYNC_H

#include "frame.h"
#include "lack.h"
#include "tally.h"
#include "undo.h"
#include "volume.h"

struct peer;
struct volume;

/* ---- both ---- */

/* Bytes of blocks, as one side of a resync sees them go by. */
struct resync_progress {
	uint64_t total, left;
	uint64_t rate;			/* bytes per second, lately; 0 = not known yet */
	uint64_t since_ns, since_left;	/* it is being measured since then, with so many left */
};

void resync_progress_start(struct resync_progress *g, uint64_t now, uint64_t total);
/* So many are left now; any number of times a second. */
void resync_progress_note(struct resync_progress *g, uint64_t now, uint64_t left);
/* @moved: bytes that went as data. */
void resync_progress_status(const struct resync_progress *g, uint64_t moved, struct volume_resync_status *out);

/* ---- source ---- */

enum { RESYNC_CHUNKS = 4, RESYNC_WINDOW = 512 };

struct resync_chunk {
	struct peer *peer;
	struct volume_request request;
	uint8_t *buffer;
	enum { CHUNK_FREE, CHUNK_MAP, CHUNK_READ, CHUNK_READY } state;
	bool stale;			/* its resync is over: forget it when its read is done */
	enum blocks_kind kind;
	uint64_t first, lsn, since, marks;
	uint32_t count;
	uint64_t started_ns;
};

/* Sent, and not durable there yet. */
struct resync_sent {
	uint64_t sequence, first, lsn, marks;
	uint32_t count;
	bool hashed, answered;		/* hashes: `mask` is what was equal, once it is answered */
	uint64_t mask;
};

#define SOURCE_STEPS(X) X(NONE) X(PROVE) X(WANTED) X(MARK) X(RUN) X(FINISHING)
enum source_step {
#define X(name) SOURCE_##name,
	SOURCE_STEPS(X)
#undef X
};

struct resync_source {
	enum source_step step;
	struct frame_ask ask;
	bool say_need, say_begin, say_done;
	enum need_what need;
	uint32_t begin_flags;
	uint64_t next;			/* bitmap: where the pass goes on */
	uint64_t sequence, acked;
	struct resync_chunk chunks[RESYNC_CHUNKS];
	struct resync_sent window[RESYNC_WINDOW];
	uint32_t window_first, window_count;
	struct { uint64_t first, mask; } differ[RESYNC_WINDOW];	/* answered hashes: to be sent as data */
	uint32_t differ_count;
	bool log_first;			/* the next frame is log's turn */
	uint64_t tokens_ns;		/* with a cap: nothing is sent before */
	uint64_t done_lsn, ticket;
	uint64_t clients_seen, clients_ns;	/* requests of clients so far, and until when they count as busy */
	bool paced;			/* they are: one chunk at a time, a small one, and */
	uint64_t pace_ns;		/* none before */
	uint64_t map_first, map_end;	/* blocks known to be data in the store */
	struct resync_progress progress;
	uint64_t bytes_sent;		/* of blocks, as data */
	uint64_t saved_ns;		/* when the bitmap was last asked to be saved */
};

MUST_CHECK int resync_source_new(struct peer *p);
void resync_source_delete(struct peer *p);
bool resync_source_quiet(const struct peer *p);
/* It asks; it says what it wants; it has taken blocks. False: that ended the connection. */
bool resync_asked(struct peer *p, const struct frame_ask *ask);
void resync_wanted(struct peer *p, const struct frame_want *want);
bool resync_taken(struct peer *p, const struct frame_taken *taken);
/* Every turn. */
void resync_source_step(struct peer *p);
/* Its log is not in our journal (any more). */
void resync_needed(struct peer *p);
/* The connection is over, or it is no sink of ours any more. */
void resync_source_stop(struct peer *p);
/* Frames, when the wire is free. */
void resync_source_put(struct peer *p);
/* Log must not be sent beyond: blocks that are ready to go are as of this LSN. */
uint64_t resync_log_limit(const struct peer *p);
void resync_source_status(const struct peer *p, struct volume_resync_status *out);

/* ---- sink ---- */

#define SINK_STEPS(X) \
	X(NONE) \
	X(SETTLE)	/* our log becomes durable, applied and written to the store */ \
	X(WALK)		/* our records behind the fork: which blocks did they change? */ \
	X(SNAPSHOT)	/* undo begins to record */ \
	X(REST)		/* a source that does not know our resync: all that we hold goes to the store first */ \
	X(ASK)		/* until the source says BEGIN */ \
	X(QUIET)	/* BEGIN came: all our log is applied and in the store */ \
	X(PARTIAL)	/* undo cannot hold what is to come: it says so first */ \
	X(JUMP)		/* meta says where our log begins anew */ \
	X(RUN) \
	X(FINISH)	/* DONE came: until all is applied */ \
	X(SAVE)		/* meta says how far the store reaches */ \
	X(END)		/* undo lets go: from here on the replica is consistent */ \
	X(CLEAR)	/* meta says so too */ \
	X(DROP)		/* given up before anything was changed: undo lets go */ \
	X(BACK_QUIET)	/* a take-over: destage comes to rest */ \
	X(BACK_FORGET)	/* meta forgets the resync's id: it cannot go on from where it was */ \
	X(BACK_COPY)	/* undo is copied back */ \
	X(BACK_SAVE)	/* meta is at the consistent LSN again */
enum sink_step {
#define X(name) SINK_##name,
	SINK_STEPS(X)
#undef X
};

/* Blocks in pages that are not in the store yet. */
struct resync_got { uint64_t sequence, order, round; };

struct resync_sink {
	enum sink_step step;
	struct peer *peer;		/* the source */
	struct position fork;
	bool rewind;
	struct undo_slot *slot;		/* NULL: none; v->meta.resync says which one counts */
	struct frame_begin begin;
	struct history *history;	/* room for BEGIN's */
	uint64_t ticket;
	bool say_ask, say_taken, say_finished;
	bool ask_anew;			/* the next ASK is for a new resync */
	bool say_want;
	unsigned want_part;		/* 0: slot->want, 1: slot->saved */
	uint64_t want_next;
	uint64_t done_lsn, done_ns;
	struct resync_got got[RESYNC_WINDOW];
	uint32_t got_first, got_count;
	uint64_t taken, hashed, differ;	/* for TAKEN */
	struct volume_request read;	/* of our blocks, to be compared with hashes */
	bool reading, read_over;
	bool read_stale;		/* it was for a connection that is gone */
	int read_result;
	uint8_t *buffer;
	struct resync_progress progress;
	uint64_t bytes_got;		/* of blocks, as data */
	struct tally given_up;		/* the records that are */
	uint64_t blocks;		/* and how many blocks they changed */
};

MUST_CHECK int resync_sink_new(struct volume *v);
void resync_sink_delete(struct volume *v);
/* Why nothing can be set aside just now, so that there is no rewind: a sentence, or NULL. */
const char *resync_rewind_refusal(const struct volume *v);
/* Our source says that log alone will not do, or (@p->rewind) we know: begins. */
void resync_sink_start(struct peer *p);
/* A resync is under way that a crash or a lost connection interrupted: goes on with this source. */
void resync_sink_again(struct peer *p);
/* The source is gone. */
void resync_sink_lost(struct volume *v);
/* Frames of our source. -EAGAIN: it has to wait, and is given again next turn. -EBADMSG: @field is wrong. */
MUST_CHECK int resync_sink_frame(struct peer *p, const struct frame_header *header, const char **field);
/* Whether the source may be told how far our log is: it is the log that the source knows. */
bool resync_sink_acks(const struct volume *v);
/* Whether log and blocks have to wait for a step of ours. */
bool resync_sink_holds(const struct volume *v);
/* Meta is told that our log begins anew elsewhere; log and journal are not there yet. */
bool resync_sink_moves_log(const struct volume *v);
void resync_sink_put(struct peer *p);
/* Every turn. */
void resync_sink_step(struct volume *v);
/* To the consistent LSN, so that this node can become primary. Only with resync_readable(). */
void resync_sink_back(struct volume *v);
/* Our store is not the volume as of any LSN: a resync has begun to change it. */
bool resync_running(const struct volume *v);
/* And there is a snapshot that readers see. */
bool resync_readable(const struct volume *v);
/* After undo_load(): what meta says is under way must be there. 0, or -EBADMSG with @why. */
MUST_CHECK int resync_sink_open(struct volume *v, char why[WHY_BYTES]);
void resync_sink_status(const struct volume *v, struct volume_status *out);

#endif
