/* SPDX-License-Identifier: Apache-2.0 */
/* A record: one atomic entry of the log, the same bytes in memory, in every journal and on the wire.
 *
 *	+--------+-----------------+------------------+----------------+
 *	| header | deltas          | annotation       | payload        |
 *	| 72     | 16 x count      | padded to 8      | padded to 8    |
 *	+--------+-----------------+------------------+----------------+
 *
 * A record is valid when it stands at its own LSN, its magic, version and volume tag are ours, its lengths
 * add up, its CRC covers header and body, and its `hash` is the running hash of all records before it. The
 * running hash after it is XXH3-128 of its bytes; as those hold the hash before, two logs that agree at one
 * LSN agree everywhere below it.
 *
 * A PAD fills the log up to a multiple of the journal's block or to the end of a segment. Only its header
 * counts: the CRC and the hash cover 72 bytes, and only they travel. What stands behind them is nothing.
 */
#ifndef HOLDFAST_RECORD_H
#define HOLDFAST_RECORD_H

#include <stdbool.h>

#include "bounds.h"
#include "bytes.h"
#include "check.h"
#include "replica.h"

enum { RECORD_MAGIC = 0x52464c48 /* "HLFR" */, RECORD_VERSION = 1 };

enum record_kind {
	RECORD_PAD = 1,
	RECORD_DATA = 2,	/* deltas, and perhaps an annotation */
	RECORD_EPOCH = 3,	/* annotation = struct epoch_entry (history.h), no deltas */
	RECORD_KINDS
};

struct record_header {
	le32 magic;
	le16 version, kind;
	le64 lsn;		/* where it stands */
	le64 epoch;		/* number of the epoch it was written in */
	uint8_t hash[HASH_BYTES];	/* running hash of all before it */
	le64 wall_ns;		/* since 1970 */
	le32 length;		/* whole record, a multiple of 8 */
	le32 delta_count;
	le32 annotation_len;	/* without padding */
	le32 payload_len;	/* without padding: the sum of the lengths of its DELTA_DATA */
	le32 volume_tag;	/* the first 4 bytes of the volume's UUID */
	le32 crc;		/* CRC32C of all above, then of the body */
};
_Static_assert(sizeof(struct record_header) == 72, "size on disk");
_Static_assert(offsetof(struct record_header, crc) == 68, "it covers all above");

enum delta_kind {
	DELTA_DATA = 1,		/* its bytes are the next `length` of the payload */
	DELTA_DISCARD = 2,	/* reads as zeros, space given back */
	DELTA_ZERO = 3,		/* reads as zeros, space kept; what it made zeros may be changed by deltas behind it */
};

struct record_delta {
	le64 offset;		/* bytes in the volume */
	le32 length;		/* bytes, at least 1 */
	le16 kind, reserved;
};
_Static_assert(sizeof(struct record_delta) == 16, "size on disk");

enum { RECORD_HEADER_BYTES = sizeof(struct record_header), DELTA_RANGE_MAX = 1 << 30 };

/* A place in the log and what is before it. */
struct position {
	uint64_t lsn;
	uint8_t hash[HASH_BYTES];
};

static inline uint32_t record_length(const struct record_header *r) { return from_le32(r->length); }
static inline bool record_is_pad(const struct record_header *r) { return from_le16(r->kind) == RECORD_PAD; }
/* How many of its bytes count: all, of a pad the header. */
static inline uint32_t record_wire_length(const struct record_header *r)
{
	return record_is_pad(r) ? RECORD_HEADER_BYTES : record_length(r);
}

static inline const struct record_delta *record_deltas(const struct record_header *r)
{
	return (const struct record_delta *)(r + 1);
}
static inline const uint8_t *record_annotation(const struct record_header *r)
{
	return (const uint8_t *)(record_deltas(r) + from_le32(r->delta_count));
}
static inline const uint8_t *record_payload(const struct record_header *r)
{
	return record_annotation(r) + round_up(from_le32(r->annotation_len), 8);
}

/* The largest record of a volume: an eighth of a segment. */
static inline uint32_t record_bytes_max(const struct geometry *g)
{
	return g->segment_bytes / 8 < RECORD_BYTES_MAX ? g->segment_bytes / 8 : RECORD_BYTES_MAX;
}
uint32_t record_volume_tag(const struct geometry *g);

/* What may stand where a record is looked for. Rows are exclusive: the first that fits, from above. */
enum record_finding {
	RECORD_SHORT,		/* fewer bytes than it needs are at hand */
	RECORD_BLANK,		/* no magic: never written, or torn */
	RECORD_TORN,		/* lengths or CRC do not hold; their rules are the same in every version */
	RECORD_FOREIGN,		/* whole, of another volume */
	RECORD_STALE,		/* whole, of another LSN: from an earlier lap of the ring */
	RECORD_UNCHAINED,	/* whole, but not the successor of what we have: from before a crash */
	RECORD_NEWER,		/* whole and chained, of a version that we do not know */
	RECORD_BAD,		/* whole and chained, but its content breaks the rules above, or a bound */
	RECORD_GOOD,
	RECORD_FINDINGS
};
const char *record_finding_name(enum record_finding finding);

/* Looks at @avail bytes for the record at @at. Reads nothing behind @avail; on RECORD_GOOD all fields, deltas
 * and lengths are in bounds. Of a pad only the header needs to be at hand. */
enum record_finding record_look(const void *bytes, uint64_t avail, const struct position *at,
				const struct geometry *g);
/* The position behind a good record. */
void record_next(const struct record_header *r, struct position *after);

#endif
