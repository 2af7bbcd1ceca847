/* SPDX-License-Identifier: Apache-2.0 */
/* When a write may be acknowledged: a pure function of watermarks, modes and policy.
 *
 *	mode | a write waits for    | a flush waits for
 *	A    | ours written         | ours durable
 *	B    | + peer received      | + peer received
 *	C    | + peer written       | + peer durable
 *	D    | + peer applied       | + peer durable and applied
 *
 *	commit =          | for which peers                    | the commit LSN is what is durable
 *	all               | each that is online                | here, and at each of these as its mode says
 *	local             | none                               | here
 *	any K of (a, ...) | any K of those named: the K-th     | here, and at any K of those named,
 *	                  | fastest of the connected ones      | whatever their mode
 *
 * With `all` a peer that is gone is not waited for, but min_copies is how many copies, with our own, there must be.
 * With `any K of` the K fastest change from write to write: a peer that slows down or goes is replaced by one that has
 * the write already, in the same turn, without a time-out. Peers that are not named never hold a write up. With fewer
 * than K of the named connected nothing is acknowledged. Mode A cannot be named: there is nothing to wait for.
 *
 * A peer counts when its watermarks are alive (`connected`), even while it catches up: what it has, it has.
 */
#ifndef HOLDFAST_ACK_H
#define HOLDFAST_ACK_H

#include <stdbool.h>
#include <stdint.h>

#include "volume.h"

struct ack_policy {
	enum commit_policy commit;
	unsigned copies;	/* of COMMIT_ANY: K, at least 1 */
	unsigned min_copies;	/* of COMMIT_ALL: counts our own copy */
};

struct ack_peer {
	enum replication_mode mode;
	bool online;		/* it has been given all log: with COMMIT_ALL writes wait for it as its mode says */
	bool connected;		/* its watermarks are alive, and count as a copy */
	uint64_t received, written, durable, applied;
	bool named;		/* of COMMIT_ANY: one of those that count */
};

struct ack_marks {
	uint64_t complete;	/* writes that end at or below are acknowledged */
	uint64_t flushed;	/* flushes */
	uint64_t commit;	/* durable as the policy asks */
};

enum { ACK_NO_BLOCKER = -2, ACK_TOO_FEW = -1 };

/* Without enough connected copies all marks are 0: the caller's only rise. */
struct ack_marks ack_marks(uint64_t written, uint64_t durable, const struct ack_peer *peers, unsigned count,
			   const struct ack_policy *policy);
/* Index of a peer that by itself keeps writes to @lsn from being acknowledged; ACK_TOO_FEW when too few of those that
 * count have them; ACK_NO_BLOCKER when no peer does. */
int ack_blocker(uint64_t lsn, const struct ack_peer *peers, unsigned count, const struct ack_policy *policy);
/* It has all up to @lsn, for a write and for a flush, as its mode says. */
bool ack_has(const struct ack_peer *p, uint64_t lsn);
/* Whether what @p does may let a write go on. */
bool ack_counts(const struct ack_peer *p, const struct ack_policy *policy);
/* What of our log those that writes wait for have in their journals. The log must not run ahead of this by more than
 * our journal holds, or they would not find there what they lack after a lost connection. With too few of the named
 * connected it is what K of them were last known to have. UINT64_MAX: no peer has to keep up. */
uint64_t ack_kept_up(const struct ack_peer *peers, unsigned count, const struct ack_policy *policy);

#endif
