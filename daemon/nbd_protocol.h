/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD protocol on the wire, as far as we speak it: fixed newstyle handshake, simple and structured
 * replies, base:allocation. The text is doc/proto.md of github.com/NetworkBlockDevice/nbd; "proto.md: X"
 * names its section. All numbers are big-endian, nothing is aligned or padded.
 *
 *	server					client
 *	nbd_greeting			->
 *					<-	nbd_client_flags
 *					<-	nbd_option, data	\ repeated, until GO or
 *	nbd_option_reply, data		->				/ EXPORT_NAME is accepted
 *					<-	nbd_request, data	\ repeated, many in flight,
 *	nbd_simple_reply or nbd_chunk	->				/ until DISC
 */
#ifndef HOLDFAST_NBD_PROTOCOL_H
#define HOLDFAST_NBD_PROTOCOL_H

#include "bounds.h"
#include "bytes.h"

#define NBD_WIRE struct __attribute__((packed))

/* ---- proto.md: Handshake phase ------------------------------------------------------------------- */

#define NBD_GREETING_MAGIC 0x4e42444d41474943ull	/* "NBDMAGIC" */
#define NBD_OPTION_MAGIC 0x49484156454f5054ull		/* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC 0x3e889045565a9ull

enum nbd_handshake_flag { NBD_FLAG_FIXED_NEWSTYLE = 1 << 0, NBD_FLAG_NO_ZEROES = 1 << 1 };

enum nbd_export_flag {		/* proto.md: Transmission flags */
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_SEND_DF = 1 << 7,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
	NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum nbd_option_code {		/* proto.md: Option types */
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ERROR 0x80000000u
enum nbd_reply_code {		/* proto.md: Option reply types; errors are NBD_REP_ERROR + these */
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_META_CONTEXT = 4,
	NBD_REP_ERR_UNSUP = 1,
	NBD_REP_ERR_INVALID = 3,
	NBD_REP_ERR_TLS_REQD = 5,
	NBD_REP_ERR_UNKNOWN = 6,
	NBD_REP_ERR_TOO_BIG = 9,
};

enum nbd_info_kind {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

enum {
	NBD_OPTION_BYTES_MAX = 64 << 10,	/* data of an option that we look at: a name has at most 4 KiB */
	NBD_OPTION_SKIP_MAX = 1 << 20,		/* more data than this is no client's mistake: we hang up */
	NBD_OPTIONS_MAX = 128,			/* of one handshake; libnbd needs less than 10 */
	NBD_META_QUERIES_MAX = 64,
	NBD_ZEROES_BYTES = 124,			/* what ends an EXPORT_NAME without NO_ZEROES */
};

NBD_WIRE nbd_greeting { be64 magic, option_magic; be16 flags; };
_Static_assert(sizeof(struct nbd_greeting) == 18, "size on the wire");

NBD_WIRE nbd_client_flags { be32 flags; };
_Static_assert(sizeof(struct nbd_client_flags) == 4, "size on the wire");

NBD_WIRE nbd_option { be64 magic; be32 code, len; };
_Static_assert(sizeof(struct nbd_option) == 16, "size on the wire");

NBD_WIRE nbd_option_reply { be64 magic; be32 code, reply, len; };
_Static_assert(sizeof(struct nbd_option_reply) == 20, "size on the wire");

/* The answer to EXPORT_NAME; NBD_ZEROES_BYTES of zeros follow unless the client waived them. */
NBD_WIRE nbd_export { be64 bytes; be16 flags; };
_Static_assert(sizeof(struct nbd_export) == 10, "size on the wire");

NBD_WIRE nbd_info_export { be16 kind; be64 bytes; be16 flags; };
_Static_assert(sizeof(struct nbd_info_export) == 12, "size on the wire");

NBD_WIRE nbd_info_block_size { be16 kind; be32 min, preferred, max; };
_Static_assert(sizeof(struct nbd_info_block_size) == 14, "size on the wire");

/* ---- proto.md: Transmission phase ---------------------------------------------------------------- */

#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_CHUNK_MAGIC 0x668e33efu

enum nbd_command {		/* proto.md: Request types */
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

enum nbd_command_flag {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

enum nbd_chunk_type {		/* proto.md: Structured reply types */
	NBD_CHUNK_OFFSET_DATA = 1,
	NBD_CHUNK_BLOCK_STATUS = 5,
	NBD_CHUNK_ERROR = (1 << 15) + 1,
};

enum { NBD_CHUNK_DONE = 1 << 0 };	/* flag of the last chunk */

enum nbd_error {		/* proto.md: Error values */
	NBD_OK = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ESHUTDOWN = 108,
};

enum { NBD_STATE_HOLE = 1 << 0, NBD_STATE_ZERO = 1 << 1 };	/* proto.md: base:allocation */

enum {
	NBD_CONTEXT_ALLOCATION = 1,	/* our id of base:allocation */
	NBD_SKIP_BYTES_MAX = 2 * REQUEST_BYTES_MAX,	/* of a refused write; more: we hang up */
};

/* The cookie is the client's; it comes back as it was. */
NBD_WIRE nbd_request_header { be32 magic; be16 flags, command; be64 cookie, offset; be32 len; };
_Static_assert(sizeof(struct nbd_request_header) == 28, "size on the wire");

NBD_WIRE nbd_simple_reply { be32 magic, error; be64 cookie; };
_Static_assert(sizeof(struct nbd_simple_reply) == 16, "size on the wire");

NBD_WIRE nbd_chunk { be32 magic; be16 flags, type; be64 cookie; be32 len; };
_Static_assert(sizeof(struct nbd_chunk) == 20, "size on the wire");

NBD_WIRE nbd_chunk_data { struct nbd_chunk chunk; be64 offset; };		/* the data follows */
_Static_assert(sizeof(struct nbd_chunk_data) == 28, "size on the wire");

NBD_WIRE nbd_chunk_error { struct nbd_chunk chunk; be32 error; be16 message_len; };
_Static_assert(sizeof(struct nbd_chunk_error) == 26, "size on the wire");

NBD_WIRE nbd_extent { be32 len, flags; };
_Static_assert(sizeof(struct nbd_extent) == 8, "size on the wire");

NBD_WIRE nbd_chunk_status { struct nbd_chunk chunk; be32 context; };		/* nbd_extents follow */
_Static_assert(sizeof(struct nbd_chunk_status) == 24, "size on the wire");

enum { NBD_REPLY_HEADER_MAX = sizeof(struct nbd_chunk_data) };

#endif
