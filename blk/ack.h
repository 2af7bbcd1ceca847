/* SPDX-License-Identifier: Apache-2.0 */
/* When a write may be acknowledged: a pure function of watermarks, modes and policy.
 *
 *	mode | a write waits for    | a flush waits for
 *	A    | ours written         | ours durable
 *	B    | + peer received      | + peer received
 *	C    | + peer written       | + peer durable
 *	D    | + peer applied       | + peer durable and applied
 */
#ifndef HOLDFAST_ACK_H
#define HOLDFAST_ACK_H

#include <stdbool.h>
#include <stdint.h>

#include "volume.h"

struct ack_peer {
	enum replication_mode mode;
	bool online;		/* it has been given all log: writes wait for it as its mode says */
	bool connected;		/* its watermarks are alive, and count as a copy */
	uint64_t received, written, durable, applied;
};

struct ack_marks {
	uint64_t complete;	/* writes that end at or below are acknowledged */
	uint64_t flushed;	/* flushes */
	uint64_t commit;	/* durable as the policy asks */
};

/* @min_copies counts our own copy. Without enough connected copies all marks are 0: the caller's only rise. */
struct ack_marks ack_marks(uint64_t written, uint64_t durable, const struct ack_peer *peers, unsigned count,
			   unsigned min_copies);
/* Index of a peer that keeps writes to @lsn from being acknowledged, -1 when too few copies are connected,
 * -2 when no peer does. */
int ack_blocker(uint64_t lsn, const struct ack_peer *peers, unsigned count, unsigned min_copies);

#endif
