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
	/* A resync. The sink asks for it, the source answers with BEGIN, then LOG and BLOCKS in turn. */
	FRAME_NEED = 8,		/* source -> sink: what it has to say before it can be given log */
	FRAME_WANT = 9,		/* sink -> source: ranges of blocks that it needs whatever the source's bitmap says */
	FRAME_ASK = 10,		/* sink -> source: begin, or go on with, a resync */
	FRAME_BEGIN = 11,	/* source -> sink: log begins at this position */
	FRAME_BLOCKS = 12,	/* source -> sink */
	FRAME_TAKEN = 13,	/* sink -> source: blocks that it has durably */
	FRAME_DONE = 14,	/* source -> sink: it was given all; consistent from here on */
	FRAME_SIDE = 15,	/* both, in a split brain: what this side wrote since the fork */
	/* Blocks against blocks. "In its place" = no log beyond its lsn was sent before it, as with BLOCKS. */
	FRAME_VERIFY = 16,	/* source -> sink, in its place: hashes, to be compared */
	FRAME_REPAIR = 17,	/* source -> sink, in its place: blocks that differed */
	FRAME_VERIFIED = 18,	/* sink -> source: the answer to either */
	FRAME_FETCH = 19,	/* both: a block that the sender's disk cannot read */
	FRAME_FETCHED = 20,	/* both: the answer; from source to sink in its place */
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
	le32 epoch_count;
	le32 flags;		/* HELLO_... */
};
_Static_assert(sizeof(struct frame_hello) == 232, "size on the wire");
enum {
	HELLO_RESYNCING = 1,	/* the sender's store is in the middle of a resync: it can give nothing to anybody */
	HELLO_CLEAR = 2,	/* the sender's config allows a link to the receiver in the clear: both must say so */
	HELLO_FLAGS = HELLO_RESYNCING | HELLO_CLEAR,
};

struct frame_start { struct frame_position at; };

struct frame_log {
	le64 first, end;	/* LSNs: of the first record, behind the last */
	le64 commit;
	le64 want_durable;	/* make durable up to here and say so; 0 = no hurry */
	le64 durable;		/* of the sender */
};

struct frame_ack {
	le64 received, written, durable, applied;
	le64 limit;		/* the sender's journal has room up to this LSN: nothing is sent that reaches past it */
};

struct frame_ping {
	le64 end;		/* of the sender's log */
	le64 commit;
	le64 want_durable;
	le64 durable;		/* of the sender */
};

enum need_what {
	NEED_RESYNC = 1,	/* our journal does not hold your position: ask for a resync */
	NEED_WANT = 2,		/* we do not know your resync: say which blocks you want, then ask with id 0 */
	NEED_WHATS
};

struct frame_need { le32 what, reserved; };

struct frame_range { le64 first, count; };	/* blocks */
struct frame_want { le64 count; };		/* tail: so many frame_range */
enum { FRAME_RANGES_MAX = 512 };

struct frame_ask {
	le64 id;		/* of the resync that it goes on with, as BEGIN named it; 0 = a new one */
	le64 base;		/* its store is the volume as of here, but for what it wants */
	struct frame_position at;	/* where its log ends */
	le64 snapshot;		/* id of its undo: which replica this is */
};

struct frame_begin {
	le64 id;
	struct frame_position at;	/* log comes from here on; with BEGIN_GOES_ON that is where the sink's ends */
	le64 commit;
	le64 blocks;		/* that are to come, as far as is known */
	le32 flags;
	le32 epoch_count;	/* tail: the source's history */
};
enum { BEGIN_GOES_ON = 1 };

enum blocks_kind { BLOCKS_DATA = 1, BLOCKS_ZERO = 2, BLOCKS_HASH = 3, BLOCKS_KINDS };

/* The blocks as the source had them at `lsn`, which is not below any log that was sent before. Redo of that log on top
 * changes nothing, so the sink puts them in place at once; it is consistent when it has applied all up to DONE. */
struct frame_blocks {
	le64 sequence;		/* rises by one with each on a connection, from 1 */
	le64 lsn;
	le64 first;
	le32 count, kind;	/* tail: DATA the bytes, HASH XXH3-128 of each block, ZERO none */
	le64 left;		/* blocks that are still to come after these */
};
enum {
	FRAME_BLOCKS_MAX = 64,			/* of DATA and HASH: one mask */
	FRAME_ZERO_MAX = 1 << 14,		/* of ZERO: 64 MiB */
};

struct frame_taken {
	le64 sequence;		/* all up to here are durable */
	le64 hashed;		/* sequence of a HASH that is answered by this; 0 = none */
	le64 differ;		/* of its blocks: bit n = block n is wanted as data */
	le64 finished;		/* 1: the resync is over, this replica is consistent */
};

struct frame_done { le64 id, lsn; };

struct frame_side {
	le64 fork;		/* LSN */
	le64 blocks, bytes;	/* that this side's records since then changed; data in them */
	le64 first_ns, last_ns;	/* wall clock of the first and the last of them; 0 = there is none, or not known */
	le16 role, keep, policy, reserved;	/* keep: 1 = its operator said that it is to be kept */
	le32 reserved_too, known;	/* known: 1 = the figures are there */
};
_Static_assert(sizeof(struct frame_begin) == 56 && sizeof(struct frame_blocks) == 40, "size on the wire");
_Static_assert(sizeof(struct frame_side) == 56 && sizeof(struct frame_ask) == 48, "size on the wire");

/*	| frame_verify | XXH3-128 of each block |	| frame_repair | the blocks of `mask`, one after the other |
 *	| frame_fetched | the block, if it is found |
 *
 * The sink applies no log beyond the lsn of a VERIFY or REPAIR before it has read its own blocks, or put these in
 * place, at exactly that LSN: so nothing that is written meanwhile makes a difference. */
struct frame_verify {
	le64 id;		/* names it in the answer */
	le64 lsn;		/* of the source's blocks; the sink's are taken at the same one */
	le64 first;
	le32 count, reserved;	/* 1..frame_blocks_max() */
};

struct frame_repair {
	le64 id, lsn, first;
	le64 mask;		/* bit n: block first + n is there */
};

struct frame_verified {
	le64 id;
	le64 differ;		/* of a VERIFY: bit n = block first + n differs, or cannot be read */
	le32 done, reserved;	/* 1: compared, or (REPAIR) durable in the store. 0: it could not be done */
};

struct frame_fetch {
	le64 id;
	le64 lsn;		/* to a sink: answer when this is applied */
	le64 block;
};

struct frame_fetched {
	le64 id;
	le64 lsn;		/* the block as of here */
	le64 block;
	le32 found, reserved;	/* 1: its bytes follow */
};
_Static_assert(sizeof(struct frame_verify) == 32 && sizeof(struct frame_repair) == 32, "size on the wire");
_Static_assert(sizeof(struct frame_verified) == 24 && sizeof(struct frame_fetch) == 24, "size on the wire");
_Static_assert(sizeof(struct frame_fetched) == 32, "size on the wire");

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
/* Blocks of one BLOCKS with data, of one VERIFY and of one REPAIR at most. */
uint32_t frame_blocks_max(const struct geometry *g);

/* Looks at the first @avail bytes of a stream. 1: header and all that has to be whole is there (of LOG the
 * fixed part, of others everything), and valid. 0: more bytes are needed. -EBADMSG: *field names what is
 * wrong. */
MUST_CHECK int frame_look(const void *bytes, uint64_t avail, const struct geometry *g, const char **field);
/* Fields of a HELLO whose frame_look() was 1, that can be judged without knowing us. */
MUST_CHECK int frame_hello_check(const struct frame_hello *hello, const char **field);

/* Fixed part against tail, and what can be judged without knowing us, of the frames of a resync and of SIDE;
 * frame_look() was 1. */
MUST_CHECK int frame_resync_check(const struct frame_header *header, const struct geometry *g, const char **field);

/* The same of VERIFY, REPAIR, VERIFIED, FETCH and FETCHED. */
MUST_CHECK int frame_verify_check(const struct frame_header *header, const struct geometry *g, const char **field);

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
