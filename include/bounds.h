/* SPDX-License-Identifier: Apache-2.0 */
/* Every bound of the system in one place, each with its reason. Bytes unless the name says otherwise. */
#ifndef HOLDFAST_BOUNDS_H
#define HOLDFAST_BOUNDS_H

enum {
	BLOCK_BYTES = 4096, /* the volume's block, the pool's page */
	UUID_BYTES = 16,
	HASH_BYTES = 16, /* XXH3-128 */
	FINGERPRINT_BYTES = 32, /* SHA-256 of a node's public key */

	NAME_BYTES = 64,     /* names of volumes and nodes with the final 0: they become file names */
	ADDRESS_BYTES = 128, /* "unix:" and a socket path of 108, or [IPv6%zone]:port */
	WHY_BYTES = 512,     /* one sentence to the operator */
	PEERS_MAX = 7,       /* + ourselves = 8 copies; a peer costs 4 MiB of buffers */
	HISTORY_MAX = 500,   /* epochs kept; they fill one meta slot */
	UNDO_SLOTS = 4,      /* one for a resync, the others keep divergences until they are dropped */

	RECORD_BYTES_MAX = 1 << 20, /* a whole record with 8 MiB segments: an eighth of a segment */
	RECORD_PAGES_MAX = 2048,    /* blocks that one record changes: 8 MiB, a part of the smallest pool */
	RECORD_HOLES_MAX = 512,     /* its discards and zeroings of whole blocks: half of what the pool keeps */
	WRITE_CHUNK_BYTES = 256 << 10, /* payload of one record of a long write: a segment's tail wastes 3 % */
	SEGMENT_BYTES =
		8 << 20, /* default; no record crosses a multiple of it, so neither ring wraps inside one */
	JOURNAL_BYTES_DEFAULT = 256 << 20,
	JOURNAL_SEGMENTS_MIN = 4,
	MEMORY_BYTES_DEFAULT = 256 << 20,
	MEMORY_BYTES_MIN =
		160 << 20, /* 80 MiB of it are the front ends' buffers: NBD allows requests of 32 MiB; the rest is
			    * enough for two peers and their encrypted links. A filesystem or nbd-tls may need more:
			    * what is refused says how much */

	CHECK_BYTES = 16 << 20,   /* while a check runs, bits and a table: 256 GiB and 260,000 inodes at once */
	CHECK_KEPT_BLOCKS = 8192, /* and of metadata that changes meanwhile: 32 MiB, some seconds of creating files */
	CHECK_TRIES = 5,          /* from the beginning, when that was not enough */

	REQUEST_BYTES_MAX = 32 << 20, /* one volume_request's data: NBD's customary maximum */
	CLIENTS_MAX = 64,             /* NBD connections of one daemon */
};

#define LSN_MAX (1ull << 62)		/* refused from there on; at 10 GB/s a log gets there in 14 years */
#define EPOCH_NUMBER_MAX (1ull << 62)	/* refused from there on: numbers only rise, and must not wrap */
#define VOLUME_BYTES_MAX (1ull << 44)	/* 16 TiB */
#define VOLUME_BYTES_MIN (64ull << 10)
#define FILESYSTEM_BYTES_MIN (16ull << 20)	/* below it the reserve that lets unlink work would be most of it */

#endif
