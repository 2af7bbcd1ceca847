/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's status as JSON, for `holdfast status --json` and scripts. Keys are only ever added: sizes and
 * positions in bytes, times in seconds (numbers with a fraction), UUIDs as text of 36 characters.
 *
 *	{ "version": "0.1.0", "name": "db0", "uuid": "...", "node": "a",
 *	  "volume_bytes": n, "journal_bytes": n, "segment_bytes": n, "journal_block_bytes": n,
 *	  "role": "primary"|"secondary", "open": bool, "failed": ""|"EIO", "why": "",
 *	  "epoch": { "number": n, "uuid": "...", "node": "a" },
 *	  "lsn": { "end": n, "written": n, "durable": n, "commit": n, "applied": n, "tail": n, "oldest": n },
 *	  "requests_waiting": n, "acks_waiting": n, "waiting_for": "",
 *	  "pages": n, "pages_dirty": n, "pages_clean": n,
 *	  "reads": n, "writes": n, "flushes": n, "discards": n, "bytes_read": n, "bytes_written": n,
 *	  "journal_writes": n, "journal_syncs": n, "journal_bytes_written": n,
 *	  "destage_rounds": n, "destage_bytes": n, "punched_bytes": n,
 *	  "commit": "all"|"local"|"any 1 of (b, c)", "min_copies": n, "peer_count": n,
 *	  "peers": [ { "name": "b", "address": "127.0.0.1:7702", "mode": "C", "state": "online",
 *		       "connected": bool, "role": "secondary",
 *		       "lsn": { "received": n, "written": n, "durable": n, "applied": n },
 *		       "lag_bytes": n, "lag_records": n, "lag_seconds": x,
 *		       "contact_age_seconds": x|null (never), "bytes_sent": n, "bytes_received": n, "why": "" } ] }
 */
#ifndef HOLDFAST_STATUS_JSON_H
#define HOLDFAST_STATUS_JSON_H

#include <jansson.h>

#include "volume.h"

/* The caller's, to be given back with json_decref(). NULL when there is no memory. */
MUST_CHECK json_t *status_json(const struct volume_status *status);

/* A string of any bytes: those that are no UTF-8 become "?". NULL when there is no memory. */
MUST_CHECK json_t *text_json(const char *text);

#endif
