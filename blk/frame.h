/* SPDX-License-Identifier: Apache-2.0 */
/* The wire between two nodes of a volume: a stream of frames each way.
 *
 *	| frame_header 16 | fixed part of the type | tail: epochs of HELLO, records of LOG, text of ERROR and ROLE |
 *
 * The dialer sends HELLO first, the listener answers with its own; then each knows what the other has. The one
 * that is behind sends START; the other sends LOG from there, for ever; ACKs come back. PING both ways.
 *
 * A frame is valid when magic, type and length are in bounds and the CRC holds over header and fixed part.
 * Records carry their own CRC and chain; epochs and text are covered by the frame's CRC too.
 */
#ifndef HOLDFAST_FRAME_H
#define HOLDFAST_FRAME_H

#include "history.h"
#include "volume.h"

enum {
	FRAME_MAGIC = 0x4e464c48,	/* "HLFN" */
	FRAME_VERSION_MIN = 1,		/* versions of the protocol that this program speaks */
	FRAME_VERSION_MAX = 1,
	FRAME_TEXT_MAX = 400,		/* of ERROR and ROLE; padded with zeros to 8, so that every frame is aligned */
};

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_START = 2,	/* sink -> source: send log from here */
	FRAME_LOG = 3,		/* source -> sink */
	FRAME_ACK = 4,		/* sink -> source */
	FRAME_PING = 5,		/* both */
	FRAME_ROLE = 6,		/* both */
	FRAME_ERROR = 7,	/* both; the sender closes after it unless the code says otherwise */
	FRAME_TYPES
};

struct frame_header {
	le32 magic;
	le16 type, reserved;
	le32 length;		/* bytes behind this header */
	le32 crc;		/* of the above, then of all behind it but LOG's records */
};
_Static_assert(sizeof(struct frame_header) == 16, "size on the wire");

struct frame_position { le64 lsn; uint8_t hash[HASH_BYTES]; };

struct frame_hello {
	le16 version_min, version_max;
	le16 role;		/* enum volume_role */
	le16 mode;		/* enum replication_mode: what the sender, as primary, wants of the receiver */
	le64 features;		/* none yet: 0 */
	uint8_t uuid[UUID_BYTES];
	le64 volume_bytes;
	le32 segment_bytes, journal_block;
	char node[NAME_BYTES];	/* who speaks */
	char to[NAME_BYTES];	/* whom it means to reach */
	struct frame_position end;
	le64 durable, commit, promised;
	le32 epoch_count, reserved;
};
_Static_assert(sizeof(struct frame_hello) == 232, "size on the wire");

struct frame_start { struct frame_position at; };

struct frame_log {
	le64 first, end;	/* LSNs: of the first record, behind the last */
	le64 commit;
	le64 want_durable;	/* make durable up to here and say so; 0 = no hurry */
};

struct frame_ack {
	le64 received, written, durable, applied;
	le64 limit;		/* the sender's journal has room up to this LSN: nothing is sent that reaches past it */
};

struct frame_ping {
	le64 end;		/* of the sender's log */
	le64 commit;
	le64 want_durable;
};

enum role_ask {
	ROLE_PROMOTE_ASK = 1,	/* may I open epoch `number`? */
	ROLE_PROMOTE_YES = 2,	/* I will refuse all below it from now on, durably */
	ROLE_PROMOTE_NO = 3,	/* tail: why */
	ROLE_SWITCHOVER_ASK = 4,	/* hand the primary role to me */
	ROLE_SWITCHOVER_NO = 5,	/* tail: why */
	ROLE_HANDOVER = 6,	/* I am not primary any more; my log ends at `at`: open epoch `number` */
	ROLE_ASKS
};

struct frame_role {
	le16 ask, reserved[3];
	le64 number;
	struct frame_position at;
};
_Static_assert(sizeof(struct frame_role) == 40, "size on the wire");

enum frame_error_code {
	FRAME_ERROR_PROTOCOL = 1,	/* malformed, or not expected now */
	FRAME_ERROR_VERSION = 2,
	FRAME_ERROR_VOLUME = 3,		/* another volume or geometry, an unknown node */
	FRAME_ERROR_HISTORY = 4,	/* rewind, split brain, unrelated, damaged */
	FRAME_ERROR_RESYNC = 5,		/* the journal does not hold what the peer lacks; the connection stays */
	FRAME_ERROR_FENCED = 6,		/* `detail` = the epoch number that was promised */
	FRAME_ERROR_BUSY = 7,
};

struct frame_error { le32 code, reserved; le64 detail; };

enum { FRAME_HELLO_MAX = sizeof(struct frame_header) + sizeof(struct frame_hello) +
			 HISTORY_MAX * sizeof(struct epoch_entry) };

/* Bytes of LOG's records in one frame at most: at least one record. */
static inline uint32_t frame_log_max(const struct geometry *g)
{
	return record_bytes_max(g);
}
/* The largest frame of a volume. */
uint32_t frame_bytes_max(const struct geometry *g);

/* Looks at the first @avail bytes of a stream. 1: header and all that has to be whole is there (of LOG the
 * fixed part, of others everything), and valid. 0: more bytes are needed. -EBADMSG: *field names what is
 * wrong. */
MUST_CHECK int frame_look(const void *bytes, uint64_t avail, const struct geometry *g, const char **field);
/* Fields of a HELLO whose frame_look() was 1, that can be judged without knowing us. */
MUST_CHECK int frame_hello_check(const struct frame_hello *hello, const char **field);

/* Fills the header in front of @length bytes of body, in place. LOG: only its fixed part is summed. */
void frame_seal(struct frame_header *header, enum frame_type type, uint32_t length);

static inline struct frame_position frame_position_of(const struct position *at)
{
	struct frame_position out = { .lsn = to_le64(at->lsn) };

	__builtin_memcpy(out.hash, at->hash, HASH_BYTES);
	return out;
}
static inline struct position frame_position_get(const struct frame_position *in)
{
	struct position out = { .lsn = from_le64(in->lsn) };

	__builtin_memcpy(out.hash, in->hash, HASH_BYTES);
	return out;
}

#endif
