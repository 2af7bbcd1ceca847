/* SPDX-License-Identifier: Apache-2.0 */
/* A volume on one node: the engine that front ends, the control socket and the filesystem talk to.
 *
 * All calls are made on the thread of the struct io. Requests and calls are embedded in the caller's
 * objects and belong to the volume from the call until their done(), which runs exactly once, later,
 * never from inside the call.
 */
#ifndef HOLDFAST_VOLUME_H
#define HOLDFAST_VOLUME_H

#include <stdbool.h>
#include <stdint.h>

#include "blocks.h"
#include "bounds.h"
#include "check.h"
#include "io.h"
#include "list.h"
#include "replica.h"

struct volume;

enum replication_mode { MODE_A, MODE_B, MODE_C, MODE_D };	/* async, memory-sync, sync, apply */
enum volume_role { ROLE_SECONDARY, ROLE_PRIMARY };
/* For which peers a write waits, as their modes say: blk/ack.h has the rules. */
enum commit_policy { COMMIT_ALL, COMMIT_LOCAL, COMMIT_ANY };
/* Who gives up, without being told, when two nodes find that both were primary: the side that the policy of its own
 * config says loses. `keep-primary`: exactly one of them is primary now. `keep-newest`: the last write is newer.
 * `keep-only-writer`: the other side has written nothing since the fork. What is given up becomes a divergence. */
enum split_policy { SPLIT_NONE, SPLIT_KEEP_PRIMARY, SPLIT_KEEP_NEWEST, SPLIT_KEEP_ONLY_WRITER, SPLIT_POLICIES };

struct volume_peer_config {
	char name[NAME_BYTES];
	char address[ADDRESS_BYTES];
	enum replication_mode mode;	/* what our writes wait for when we are primary */
	bool commit;			/* of COMMIT_ANY: it is one of those that count; not in mode A */
	bool pinned;			/* its link is encrypted, and it proves by its key who it is */
	uint8_t fingerprint[FINGERPRINT_BYTES];	/* of that key; the io knows what to do with it */
	bool certified;			/* not pinned: a certificate of the config's authority proves who it is */
};

static inline bool peer_config_encrypted(const struct volume_peer_config *peer)
{
	return peer->pinned || peer->certified;
}

struct volume_config {
	struct geometry geometry;	/* what the config says; open refuses a replica that says otherwise */
	char name[NAME_BYTES];		/* the volume's, for the log */
	char listen[ADDRESS_BYTES];	/* for peers; "" when there are none */
	uint64_t memory_bytes;		/* for log, pool and peers together: all of it allotted by volume_new */
	uint64_t peer_timeout_ns;	/* silence after which a peer is gone; default 5 s */
	enum commit_policy commit;
	unsigned commit_copies;		/* of COMMIT_ANY: how many of those that count must have a write; 1.. */
	unsigned min_copies;		/* of COMMIT_ALL: replicas, with our own, that must have a write; 1 = never
					 * wait for more. Of the others: 1 */
	unsigned peer_count;		/* <= PEERS_MAX */
	struct volume_peer_config peers[PEERS_MAX];
	uint64_t undo_bytes;		/* data that one slot of undo may hold; 0 = a tenth of the volume */
	bool resync_checksum;		/* as source of a resync: send hashes first, and only blocks that differ */
	uint64_t resync_rate;		/* as source of a resync: bytes per second at most, per peer; 0 = no cap */
	enum split_policy split_policy;
	bool insecure_loopback;		/* peers without a fingerprint are met in the clear, when they say so too. The
					 * caller has seen to it that nobody else can reach these links */
	bool filesystem;		/* volume_blocks() is wanted: 3 MiB of `memory` */
	int store, journal, meta;	/* file ids of the io, open and locked; the caller closes them after free */
	int bitmap, undo[UNDO_SLOTS];
};

/* Allots everything. *out is the caller's until volume_free(). -ENOMEM; -EINVAL with @why. */
MUST_CHECK int volume_new(struct volume **out, struct io *io, const struct volume_config *config,
			  char why[WHY_BYTES]);
/* Only before volume_open() or after volume_close() is done. */
void volume_free(struct volume *v);

/* ---- calls: rare, may wait ---------------------------------------------------------------------- */

struct volume_call {
	void (*done)(struct volume_call *call, int result);	/* 0 or -errno */
	bool force;			/* promote, failover, demote: as their texts below say */
	bool dry_run; /* failover, switchover, resolve: change nothing, say in @why what would happen */
	bool repair;			/* verify: blocks that differ are sent anew */
	char node[NAME_BYTES];		/* switchover: who becomes primary (may be ourselves); resolve: whom to keep;
					 * verify: only this peer, "" = all; wait: whose readers, "" = ours */
	uint64_t id;			/* divergence_drop: which one */
	uint64_t lsn, timeout_ns;	/* wait */
	/* Out. On refusal one sentence: the object, the reason, what to do next. On success a sentence
	 * that may be empty (what was done, what may be lost). */
	char why[WHY_BYTES];
	struct list link;		/* the volume's own */
	uint64_t deadline_ns;
	int result;
};

/* Reads meta and journal, replays, starts to listen and to dial. The node comes up as secondary.
 * On an error nothing was changed on disk and volume_close() need not be called. */
void volume_open(struct volume *v, struct volume_call *call);
/* Answers everything, writes everything to the store, ends the connections. Done even after errors;
 * the result says whether the store is complete (0) or left to the journal (-EIO). */
void volume_close(struct volume *v, struct volume_call *call);

/* Become primary: opens an epoch with the agreement of every configured peer. Refused (-EPERM) when a
 * peer is primary, is not connected, or has log that we lack. With @force peers that are not connected
 * are not asked. */
void volume_promote(struct volume *v, struct volume_call *call);
/* Take over from a primary that is dead (out of contact). Needs @force or @dry_run (-EPERM without): says
 * what may be lost. -EBUSY when the primary is connected: that is a switchover. */
void volume_failover(struct volume *v, struct volume_call *call);
/* Stop being primary, with all log durable here. Writes from now on fail with -EROFS. */
void volume_demote(struct volume *v, struct volume_call *call);
/* Hand the primary role to @node with nothing lost; may be called on the primary or on @node. -EAGAIN
 * when @node lacks something: the sentence says how much. */
void volume_switchover(struct volume *v, struct volume_call *call);
/* End a split brain: call->node's history is kept. On the node that is kept: every peer that is in split brain with
 * it is told so. On another node: it gives up its own history for that of call->node. Nothing is lost: what is
 * given up becomes a divergence of the node that gives it up. Goes on in the background; @why says what. -ENOENT no
 * such node; -EPERM there is no split brain with it; -ENOTCONN it is not connected. With dry_run @why says what
 * each side wrote since the fork. */
void volume_resolve(struct volume *v, struct volume_call *call);
/* Drop divergence call->id for good. -ENOENT; -EBUSY when a resync needs it just now. */
void volume_divergence_drop(struct volume *v, struct volume_call *call);
/* On the primary: compare all blocks with the peers that are online, by hashes as of the same LSN on both sides. Starts
 * it; status says how it does. -EPERM not primary; -EBUSY one runs; -ENOTCONN no peer to compare with. */
void volume_verify(struct volume *v, struct volume_call *call);
/* Done when all readers of call->node see the log up to call->lsn, caches included. -ETIMEDOUT after
 * call->timeout_ns (to a tenth of a second); -ENOENT no such node; -EPERM it is a peer, and this is not the primary. */
void volume_wait(struct volume *v, struct volume_call *call);
/* End the connection to peer call->node and dial or wait anew. -ENOENT for no such peer. */
void volume_reconnect(struct volume *v, struct volume_call *call);

/* ---- requests: the data path ------------------------------------------------------------------- */

enum volume_op { VOLUME_READ, VOLUME_WRITE, VOLUME_FLUSH, VOLUME_ACK, VOLUME_DISCARD, VOLUME_ZERO, VOLUME_MAP };
enum { VOLUME_FUA = 1 };	/* request flag: done only when it is durable as a flush would make it */

/* How large the buffer of a READ of @len bytes at @offset must be: its blocks, whole. */
#define VOLUME_BUFFER_BYTES(offset, len) \
	(((len) + (offset) % BLOCK_BYTES + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES)

struct volume_request {
	enum volume_op op;
	unsigned flags;
	uint64_t offset, len;	/* bytes, any alignment, offset + len <= volume_bytes; len >= 1 but for FLUSH and ACK;
				 * READ and WRITE at most REQUEST_BYTES_MAX */
	/* READ: the caller's, BLOCK_BYTES-aligned, VOLUME_BUFFER_BYTES long, IO_FIXED where possible; the bytes
	 * asked for are at buffer + offset % BLOCK_BYTES when it is done. WRITE: the bytes, any alignment. */
	uint8_t *buffer;
	uint64_t extent;	/* out, of MAP: bytes from offset (at most len) that are alike */
	/* 0 (of MAP: 1 = allocated data, 0 = hole that reads as zeros); -EROFS here is not the primary;
	 * -EIO the replica has failed, for good; -EINVAL out of range. */
	void (*done)(struct volume_request *request, int result);

	/* The volume's own, from submit to done. */
	struct list link;
	struct volume *volume;
	uint64_t lsn;		/* done when the log is complete (or durable) up to here; of a READ, in done():
				 * the bytes are the volume's as of this LSN */
	uint64_t progress;	/* bytes already in the log, or read */
	struct io_op io;
	unsigned stage;
};

/* A WRITE is seen by every READ that is submitted after its done(). A FLUSH covers every request that
 * was done before it was submitted; and every transaction (volume_blocks()) that was committed before. So does an ACK,
 * which is done when these are acknowledged as a WRITE would be. */
void volume_submit(struct volume *v, struct volume_request *request);

/* The volume as a filesystem works on it, from volume_open() to volume_close(); changed only on the primary, as its
 * readers see it elsewhere. -EAGAIN while it opens, or its role changes. NULL unless config.filesystem. The volume's
 * own. */
struct blocks *volume_blocks(struct volume *v);

/* ---- a still --------------------------------------------------------------------------------------- */

/* The volume's blocks as readers saw them at one moment, to be looked at for long, read-only, while the volume goes on
 * as if nobody did. A block that changes is kept first if it is in memory and `keep` wants it: as many as there is room
 * for. Of others that change it is only known that they did: their read() says -ESTALE. When there is no more room, or
 * what readers see becomes something else (a resync begins or is over), all of them say -ESTALE: take another. */
struct volume_still;

struct volume_still_config {
	uint64_t blocks_max;		/* that are kept; 4 KiB each */
	/* Is this block, as it is before its first change, to be kept? */
	bool (*keep)(uint64_t block, const uint8_t *page);
};

/* Allots everything: what is kept, 1 MiB for reads, and up to 16 MiB that know what has changed. One at a time: -EBUSY.
 * -ENOMEM. *out is the caller's until volume_still_free(), at the latest before volume_close(). */
MUST_CHECK int volume_still_new(struct volume *v, const struct volume_still_config *config,
				struct volume_still **out);
/* Its memory is given back when reads in flight have ended; ready() is not called any more. NULL is fine. */
void volume_still_free(struct volume_still *s);
/* From now on it shows the volume as of now: *lsn. -EAGAIN: not yet open. -EIO: there is nothing to see (the volume
 * is closed, or a resync runs without undo). */
MUST_CHECK int volume_still_take(struct volume_still *s, uint64_t *lsn);
/* The still's own. What changes is -EROFS. */
struct blocks *volume_still_blocks(struct volume_still *s);

/* ---- what it is and how it does ------------------------------------------------------------------ */

/* A resync, as seen by either side of it. */
struct volume_resync_status {
	bool running;
	uint64_t bytes_total, bytes_done;	/* of blocks; total may grow while it runs */
	uint64_t bytes_sent;		/* of these, as data: zeros and blocks that were equal are not */
	uint64_t rate;			/* bytes of blocks per second, lately; 0 = not known yet */
	uint64_t eta_ns;		/* UINT64_MAX = not known yet */
};

/* What this node wrote before it gave up its own history. */
struct volume_divergence_status {
	uint64_t id;
	unsigned slot;			/* which file of undo */
	bool recording; /* false: its bound was reached at LSN `partial`; later changes are not undone in it */
	uint64_t fork, end;		/* LSN range of the records */
	uint64_t partial;
	uint64_t epoch_number;		/* of the last epoch of that side */
	char epoch_node[NAME_BYTES];	/* its primary */
	char source[NAME_BYTES];	/* whose history was taken instead */
	uint64_t taken_ns, first_ns,
		last_ns; /* wall clock: when set aside; of the first and last record, 0 = not known */
	uint64_t blocks, bytes;		/* that the records changed; of data in them */
	uint64_t blocks_kept;		/* blocks in the file: those, and what was overwritten since */
};

struct volume_verify_status {
	bool running;
	uint64_t bytes_total, bytes_done;
	uint64_t started_ns, ended_ns;	/* wall clock, of the last one; 0 = never */
};

enum { VERIFY_RANGES_MAX = 16 };
struct volume_range { uint64_t offset, len; };	/* bytes */

struct volume_peer_status {
	char name[NAME_BYTES];
	char address[ADDRESS_BYTES];
	enum replication_mode mode;
	const char *state;		/* lower case, static: "offline", "online", "needs resync", ... */
	bool connected;
	bool encrypted;			/* the link that there is now */
	enum volume_role role;		/* as it last said */
	uint64_t lsn_received, lsn_written, lsn_durable;	/* as it last said */
	uint64_t lsn_applied;		/* the same: its lsn_visible */
	uint64_t lag_bytes, lag_records,
		lag_ns;                 /* of our log, what it has not made durable; 0 when we are not primary */
	uint64_t contact_age_ns;	/* since we last heard from it; UINT64_MAX = never */
	uint64_t bytes_sent, bytes_received;	/* since start, on the wire */
	char why[WHY_BYTES];		/* of a state that needs the operator */
	struct volume_resync_status resync;	/* we send it */
	uint64_t verify_mismatches;	/* blocks that differed in the last verify */
	uint64_t verify_repaired;	/* of these, sent anew */
	unsigned verify_range_count;	/* the first ones */
	struct volume_range verify_ranges[VERIFY_RANGES_MAX];
};

struct volume_status {
	struct geometry geometry;
	char name[NAME_BYTES];
	enum volume_role role;
	bool open;
	int failed;			/* 0 or the -errno that stopped the replica for good */
	char why[WHY_BYTES];		/* of failed */
	uint64_t epoch_number;		/* of our last epoch; 0 = none yet */
	uint8_t epoch_uuid[UUID_BYTES];
	char epoch_node[NAME_BYTES];
	uint64_t lsn_end, lsn_written, lsn_durable, lsn_commit, lsn_applied, lsn_tail, lsn_oldest;
	/* What every reader here sees at least, the caches of a listener (volume_on_applied()) included. During a
	 * resync: lsn_consistent. */
	uint64_t lsn_visible;
	uint64_t requests_waiting;	/* admitted to the queue, not in the log yet */
	uint64_t acks_waiting;		/* in the log, not acknowledged yet */
	char waiting_for[WHY_BYTES];	/* "" or for whom or what */
	uint64_t pages, pages_dirty, pages_clean;
	uint64_t reads, writes, flushes, discards, bytes_read, bytes_written;
	uint64_t journal_writes, journal_syncs, journal_bytes_written;
	uint64_t destage_rounds, destage_bytes, punched_bytes;
	uint64_t lsn_floor;		/* the journal has all log from here on; what peers lack below is in bitmaps */
	/* We are being resynced: readers see, and a failover goes back to, the consistent LSN, if there is one. */
	struct volume_resync_status resync;
	bool consistent;		/* false: there is none, until the resync is over */
	uint64_t lsn_consistent;	/* = lsn_applied but during a resync */
	char resync_source[NAME_BYTES];
	uint64_t undo_bytes, undo_limit;	/* kept by the resync's undo; what it may keep */
	struct volume_verify_status verify;
	uint64_t reads_repaired;	/* reads that our disk refused and a peer served */
	unsigned divergence_count;
	struct volume_divergence_status divergences[UNDO_SLOTS];
	char commit[WHY_BYTES];		/* as commit_text() */
	unsigned min_copies, peer_count;
	struct volume_peer_status peers[PEERS_MAX];
};

void volume_status(struct volume *v, struct volume_status *out);
const char *replication_mode_name(enum replication_mode mode);		/* "A".."D" */
const char *volume_role_name(enum volume_role role);			/* "primary", "secondary" */
/* "all", "local", "any 2 of (b, c, d)", and always whole. */
void commit_text(const struct volume_config *config, char out[WHY_BYTES]);
/* Whether commit, commit_copies, min_copies and the peers' modes go together. -EINVAL with @why. */
MUST_CHECK int commit_check(const struct volume_config *config, char why[WHY_BYTES]);
const char *split_policy_name(enum split_policy policy);	/* "none", "keep-primary", ... */

/* Told after every change of role, so that front ends can change what they offer. One listener. */
void volume_on_role(struct volume *v, void (*changed)(void *context, enum volume_role role), void *context);

/* Told, on a secondary, of each record of data whose changes readers see from here on, in order: @len bytes of
 * @annotation, of any content, which are gone after the call; @lsn is where the record ends. NULL: blocks have changed
 * of which nobody says what they were (a record without annotation, the end of a resync). One listener, which submits
 * nothing from inside. True: its readers see it. False: they may still see what caches hold, until it has said
 * volume_caches_dropped() for @lsn, or for a later one that it was told. Until then lsn_visible stays behind, and so
 * does what a primary in mode D waits for. */
void volume_on_applied(struct volume *v,
		       bool (*applied)(void *context, const void *annotation, uint32_t len, uint64_t lsn),
		       void *context);
/* The listener's caches hold nothing from before @lsn, which is not below that of an earlier call, but after a NULL. */
void volume_caches_dropped(struct volume *v, uint64_t lsn);

#endif
