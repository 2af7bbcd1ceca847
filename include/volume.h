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

#include "bounds.h"
#include "check.h"
#include "io.h"
#include "list.h"
#include "replica.h"

struct volume;

enum replication_mode { MODE_A, MODE_B, MODE_C, MODE_D };	/* async, memory-sync, sync, apply */
enum volume_role { ROLE_SECONDARY, ROLE_PRIMARY };

struct volume_peer_config {
	char name[NAME_BYTES];
	char address[ADDRESS_BYTES];
	enum replication_mode mode;	/* what our writes wait for when we are primary */
};

struct volume_config {
	struct geometry geometry;	/* what the config says; open refuses a replica that says otherwise */
	char name[NAME_BYTES];		/* the volume's, for the log */
	char listen[ADDRESS_BYTES];	/* for peers; "" when there are none */
	uint64_t memory_bytes;		/* for log, pool and peers together: all of it allotted by volume_new */
	uint64_t peer_timeout_ns;	/* silence after which a peer is gone; default 5 s */
	unsigned min_copies;		/* replicas, with our own, that must have a write; 1 = never wait for more */
	unsigned peer_count;		/* <= PEERS_MAX */
	struct volume_peer_config peers[PEERS_MAX];
	int store, journal, meta;	/* file ids of the io, open and locked; the caller closes them after free */
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
	bool dry_run;			/* failover, switchover: change nothing, say in @why what would happen */
	char node[NAME_BYTES];		/* switchover: who becomes primary (may be ourselves) */
	/* Out. On refusal one sentence: the object, the reason, what to do next. On success a sentence
	 * that may be empty (what was done, what may be lost). */
	char why[WHY_BYTES];
	struct list link;		/* the volume's own */
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
/* End the connection to peer call->node and dial or wait anew. -ENOENT for no such peer. */
void volume_reconnect(struct volume *v, struct volume_call *call);

/* ---- requests: the data path ------------------------------------------------------------------- */

enum volume_op { VOLUME_READ, VOLUME_WRITE, VOLUME_FLUSH, VOLUME_DISCARD, VOLUME_ZERO, VOLUME_MAP };
enum { VOLUME_FUA = 1 };	/* request flag: done only when it is durable as a flush would make it */

/* How large the buffer of a READ of @len bytes at @offset must be: its blocks, whole. */
#define VOLUME_BUFFER_BYTES(offset, len) \
	(((len) + (offset) % BLOCK_BYTES + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES)

struct volume_request {
	enum volume_op op;
	unsigned flags;
	uint64_t offset, len;	/* bytes, any alignment, offset + len <= volume_bytes; len >= 1 but for FLUSH;
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
 * was done before it was submitted. */
void volume_submit(struct volume *v, struct volume_request *request);

/* ---- what it is and how it does ------------------------------------------------------------------ */

struct volume_peer_status {
	char name[NAME_BYTES];
	char address[ADDRESS_BYTES];
	enum replication_mode mode;
	const char *state;		/* lower case, static: "offline", "online", "needs resync", ... */
	bool connected;
	enum volume_role role;		/* as it last said */
	uint64_t lsn_received, lsn_written, lsn_durable, lsn_applied;	/* as it last said */
	uint64_t lag_bytes, lag_records,
		lag_ns;                 /* of our log, what it has not made durable; 0 when we are not primary */
	uint64_t contact_age_ns;	/* since we last heard from it; UINT64_MAX = never */
	uint64_t bytes_sent, bytes_received;	/* since start, on the wire */
	char why[WHY_BYTES];		/* of a state that needs the operator */
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
	uint64_t requests_waiting;	/* admitted to the queue, not in the log yet */
	uint64_t acks_waiting;		/* in the log, not acknowledged yet */
	char waiting_for[WHY_BYTES];	/* "" or for whom or what */
	uint64_t pages, pages_dirty, pages_clean;
	uint64_t reads, writes, flushes, discards, bytes_read, bytes_written;
	uint64_t journal_writes, journal_syncs, journal_bytes_written;
	uint64_t destage_rounds, destage_bytes, punched_bytes;
	unsigned min_copies, peer_count;
	struct volume_peer_status peers[PEERS_MAX];
};

void volume_status(struct volume *v, struct volume_status *out);
const char *replication_mode_name(enum replication_mode mode);		/* "A".."D" */
const char *volume_role_name(enum volume_role role);			/* "primary", "secondary" */

/* Told after every change of role, so that front ends can change what they offer. One listener. */
void volume_on_role(struct volume *v, void (*changed)(void *context, enum volume_role role), void *context);

#endif
