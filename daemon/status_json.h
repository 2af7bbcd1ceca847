/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's status as JSON, for `holdfast status --json` and scripts. Keys are only ever added: sizes and
 * positions in bytes, times in seconds (numbers with a fraction; *_time: since 1970, 0 = never or not known), UUIDs
 * as text of 36 characters, a divergence's id as 16 hex digits.
 *
 *	{ "version": "0.1.0", "name": "db0", "uuid": "...", "node": "a",
 *	  "volume_bytes": n, "journal_bytes": n, "segment_bytes": n, "journal_block_bytes": n,
 *	  "role": "primary"|"secondary", "open": bool, "failed": ""|"EIO", "why": "",
 *	  "epoch": { "number": n, "uuid": "...", "node": "a" },
 *	  "lsn": { "end": n, "written": n, "durable": n, "commit": n, "applied": n, "tail": n, "oldest": n,
 *		   "floor": n, "consistent": n },
 *	  "consistent": bool, "resync": RESYNC with "source": "b",	(we are being resynced)
 *	  "undo_bytes": n, "undo_limit_bytes": n, "reads_repaired": n,
 *	  "divergences": [ { "id": "0123456789abcdef", "slot": n, "recording": bool, "fork": n, "end": n, "partial": n,
 *			     "epoch": { "number": n, "node": "a" }, "source": "b", "taken_time": x, "first_time": x,
 *			     "last_time": x, "blocks": n, "bytes": n, "blocks_kept": n } ],
 *	  "verify": { "running": bool, "bytes_total": n, "bytes_done": n, "started_time": x, "ended_time": x },
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
 *		       "contact_age_seconds": x|null (never), "bytes_sent": n, "bytes_received": n, "why": "",
 *		       "resync": RESYNC,	(we send it)
 *		       "verify": { "mismatches": n, "repaired": n, "ranges": [ { "offset": n, "len": n } ] } } ] }
 *
 *	RESYNC: { "running": bool, "bytes_total": n, "bytes_done": n, "bytes_sent": n, "bytes_per_second": n,
 *		  "eta_seconds": x|null (not known yet) }
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
