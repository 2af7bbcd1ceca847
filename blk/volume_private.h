/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a volume. In reading order:
 *
 *	volume.c	a write, from entry to acknowledgement; the turn
 *	volume_read.c	reads
 *	volume_open.c	recovery, start, stop
 *	volume_apply.c	a secondary's log becomes what its readers see
 *	resync_sink.c	a resync of this replica, step by step
 *	verify.c	blocks are compared with those of peers
 *	volume_failover.c	taking over by force
 *	fetch.c		blocks that cannot be read are had from peers
 *	volume_blocks.c	pages and transactions, for a filesystem
 *	volume_role.c	promote, demote, switchover, failover: a call as a list of steps
 *	volume_wait.c	until readers see it
 *	volume_commit.c	the acknowledgement policy in words
 *	volume_status.c	figures for people
 */
#ifndef HOLDFAST_VOLUME_PRIVATE_H
#define HOLDFAST_VOLUME_PRIVATE_H

#include "ack.h"
#include "cursor.h"
#include "destage.h"
#include "fetch.h"
#include "history.h"
#include "journal.h"
#include "lack.h"
#include "list.h"
#include "log.h"
#include "meta.h"
#include "peer.h"
#include "pool.h"
#include "resync.h"
#include "say.h"
#include "undo.h"
#include "verify.h"
#include "volume.h"
#include "volume_blocks.h"

#define VOLUME_STATES(X) X(NEW) X(OPENING) X(OPEN) X(CLOSING) X(CLOSED)
enum volume_state {
#define X(name) VOLUME_##name,
	VOLUME_STATES(X)
#undef X
};

enum open_step {
	OPEN_SYNC,
	OPEN_READ_META,
	OPEN_READ_HEADER,
	OPEN_READ_JOURNAL_END,
	OPEN_READ_STORE_END,
	OPEN_LOAD,
	OPEN_SCAN, OPEN_CLEAR,
	OPEN_REWRITE,
	OPEN_REPLAY
};

/* A change of role, step by step; one at a time. */
#define ROLE_STEPS(X) \
	X(NONE) \
	X(BACK)		/* a resync of ours is undone: back to where we were consistent */ \
	X(ASK)		/* peers are asked to promise */ \
	X(SETTLE)	/* our log becomes durable and applied */ \
	X(PROMISE)	/* the new number becomes durable in meta */ \
	X(EPOCH)	/* the epoch's record becomes durable */ \
	X(DRAIN)	/* demote, switchover: all is acknowledged */ \
	X(HAND)		/* switchover: our promise becomes durable */ \
	X(WAIT)		/* switchover: for the other to be primary */
enum role_step {
#define X(name) ROLE_STEP_##name,
	ROLE_STEPS(X)
#undef X
};

struct role_change {
	enum role_step step;
	struct volume_call *call;	/* NULL when a peer asked for it */
	enum { CHANGE_PROMOTE, CHANGE_DEMOTE, CHANGE_HANDOVER, CHANGE_REQUEST } kind;
	struct peer *peer;		/* handover: to whom, or (promote) from whom */
	uint64_t number;		/* of the new epoch */
	uint64_t ticket;		/* of meta */
	uint64_t deadline_ns;
	bool asked[PEERS_MAX], agreed[PEERS_MAX];
	char note[WHY_BYTES];		/* what failover says may be lost */
};

struct volume {
	struct io *io;
	struct volume_config config;
	struct geometry geometry;
	enum volume_state state;
	enum volume_role role;
	int failed;			/* -errno, for good */
	char why[WHY_BYTES];

	struct log log;
	struct journal journal;
	struct meta meta;
	struct history history;
	struct pool pool;
	struct destage destage;
	struct lacks lacks;		/* what peers may lack; in the order of peers */
	struct undo undo;
	struct resync_sink sink;
	unsigned views;			/* resyncs begun: a read of an earlier one's snapshot is told by it */
	struct verify verify;
	struct verify_sink verify_sink;
	struct fetches fetches;
	struct volume_blocks *blocks;	/* or NULL */
	struct volume_still *still;	/* or NULL */
	struct cursor apply;		/* of a secondary; the scan of recovery too */
	uint64_t applied;		/* pages and holes hold the log up to here */
	uint64_t commit;
	struct peer peers[PEERS_MAX];
	unsigned peer_count;
	struct listener listener;
	struct peer *source;		/* whose log we take */
	uint64_t source_want_durable;

	/* requests */
	struct list waiting;		/* writes that are not, or not wholly, in the log; in order */
	struct list acks;		/* writes in the log, by lsn */
	struct list flushes;		/* flushes and FUA writes in the log, by lsn */
	struct list finished;		/* answered at the end of this turn; request->stage holds -result */
	uint64_t waiting_count, ack_count;
	uint64_t flush_wanted;		/* somebody waits for durability up to here */
	bool frozen;			/* a role change drains: writes wait */
	uint64_t requests_in_flight;

	/* the turn */
	struct io_op turn, tick;
	struct io_op news;		/* until what readers elsewhere wait for is said: see volume_news_soon() */
	uint64_t quiet_lsn;		/* where the log ended when it was last over */
	bool store_full_said;
	uint64_t destage_ns;		/* when something was first found dirty since the last round */

	/* opening and closing */
	enum open_step open_step;
	struct volume_call *opening, *closing;
	uint8_t *slots;			/* META_BYTES while opening */
	struct io_op open_op;
	struct position scan_end;
	uint64_t clear_lsn, rewrite_lsn;
	unsigned open_synced;		/* files */
	struct history *scan_history;
	bool close_saved;
	uint64_t close_ticket;

	struct role_change change;
	struct list answered;		/* calls, told at the end of the turn */
	struct list waits;		/* calls of volume_wait() */
	struct volume_call *expecting;	/* waits for peers that are about to come back, then runs as */
	void (*expecting_verb)(struct volume *v, struct volume_call *call);
	uint64_t opened_ns;
	void (*on_role)(void *context, enum volume_role role);
	void *on_role_context;
	bool (*on_applied)(void *context, const void *annotation, uint32_t len, uint64_t lsn);
	void *on_applied_context;
	uint64_t hidden;		/* its caches may hold what is older than this; 0 = they do not */
	uint64_t visible;		/* of that: and nothing that is older than this */
	bool snapshot_shown;		/* a resync runs, as volume_shown() last saw it */

	uint64_t reads, writes, flushes_done, discards, bytes_read, bytes_written;
};

enum {
	TICK_NS = 100000000,
	/* Of what moves the commit LSN and what follows from it, nothing is said more often, and nobody is asked for a
	 * sync sooner after a write, when no one waits but readers elsewhere. */
	NEWS_NS = 1000000,
};

/* Flags of our own READs. EXACT: it is the volume as of request->lsn for sure; or -EAGAIN, when destage overtook it too
 * often. CURRENT: of what pages and store hold, whatever readers are shown; and no peer is asked for what our disk
 * cannot read. */
enum { VOLUME_EXACT = 1 << 8, VOLUME_CURRENT = 1 << 9 };

/* volume.c */
void volume_turn_soon(struct volume *v);
void volume_pump(struct volume *v);
/* One record into the log, its effects into pages and holes: readers see it from here on. -EAGAIN: it has to wait, and
 * whoever makes room starts a turn. Or as pool_prepare(). */
MUST_CHECK int volume_append(struct volume *v, const struct record_draft *draft);
/* Watermarks moved: raise the commit LSN, answer whom that concerns. */
void volume_acks(struct volume *v);
struct ack_marks volume_marks(const struct volume *v);
/* The peers as the policy sees them; returns how many. */
unsigned volume_ack_peers(const struct volume *v, struct ack_peer out[PEERS_MAX]);
struct ack_policy volume_ack_policy(const struct volume *v);
void volume_fail(struct volume *v, int error, const char *what);
void volume_fail_writes(struct volume *v, int error, bool unacknowledged_too);
void volume_journal_moved(struct journal *j);
void volume_meta_moved(struct meta *m);
void volume_pool_loaded(struct pool *pool, int error);
/* Its done(), now: from another done(), or a turn. Or at the end of this turn. */
void volume_answer(struct volume *v, struct volume_request *request, int result);
void volume_answer_later(struct volume *v, struct volume_request *request, int result);
/* volume_read.c; READ and MAP of volume_submit() */
void volume_read_submit(struct volume *v, struct volume_request *request);
void volume_map_submit(struct volume *v, struct volume_request *request);
/* A read of what pages and store hold, whatever readers are shown. @request as of volume_submit(). */
void volume_read_current(struct volume *v, struct volume_request *request);
/* A READ that waited for a block (fetch.h) begins anew; or fails. */
void volume_read_again(struct volume *v, struct volume_request *request);
void volume_read_refuse(struct volume *v, struct volume_request *request);
void volume_lacks_moved(struct lacks *l);
void volume_undo_moved(struct undo *u);
void volume_destage_freed(struct destage *d);
void volume_tick_start(struct volume *v);
/* A turn, NEWS_NS from now: something is to be said, and it is too soon. */
void volume_news_soon(struct volume *v);
uint64_t volume_now(struct volume *v);

/* volume_apply.c */
void volume_apply_step(struct volume *v);
/* Every turn, before anybody else is asked for what readers see: a resync has begun, or is over. */
void volume_shown(struct volume *v);
void volume_apply_ready(struct cursor *c);
/* What all readers here see at least. */
uint64_t volume_visible(const struct volume *v);
/* Blocks that no record of our log brought, as they are at @lsn_end, become dirty pages (or holes): @deltas of
 * whole blocks,
 * @bytes of those with data. 0, or as pool_prepare(): then nothing was done, and it may be tried again next turn.
 */
MUST_CHECK int volume_put_blocks(struct volume *v, const struct record_delta *deltas, uint32_t count,
				 const uint8_t *bytes, uint64_t lsn_end);

/* volume_open.c */
void volume_open_step(struct volume *v);
void volume_close_step(struct volume *v);

/* volume_wait.c */
void volume_wait_step(struct volume *v);

/* volume_commit.c */
/* For whom writes wait just now, "" for nobody; and whether they go on when @p is gone. */
void volume_commit_waits(const struct volume *v, char out[WHY_BYTES]);
bool volume_commit_goes_on_without(const struct volume *v, const struct peer *p);

/* volume_role.c */
void volume_role_step(struct volume *v);
/* 0, or why it cannot become primary; whether it may be forced says the call. */
int volume_promote_refusal(struct volume *v, const struct volume_call *call, char why[WHY_BYTES]);
/* @from hands over, or NULL. The call (or NULL) is answered when it is over. */
void volume_promote_start(struct volume *v, struct volume_call *call, struct peer *from);
void volume_calls_answer(struct volume *v);
/* It is answered at the end of the turn, never from inside itself. */
void volume_call_answer(struct volume *v, struct volume_call *call, int result);
void volume_role_frame(struct peer *p, const struct frame_role *role, const char *text);
void volume_role_lost(struct peer *p);		/* its connection ended */
void volume_role_met(struct peer *p);		/* its HELLO was taken */
/* Somebody opened a newer epoch: stop being primary, at once. All peers but @by are met anew. */
void volume_step_down(struct volume *v, const struct peer *by, const char *why);
/* Every decision is a comparison of positions and roles: all peers are met anew, but @but (or NULL). */
void volume_meet_anew(struct volume *v, const struct peer *but);
void volume_role_set(struct volume *v, enum volume_role role);

#endif
