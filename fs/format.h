/* SPDX-License-Identifier: Apache-2.0 */
/* The filesystem on the volume's blocks.
 *
 *	block 0         1 .. 5          6                     6 + GROUP_BLOCKS
 *	+------------+ +-------------+ +-----+--------------+ +-----+--------------+
 *	| superblock | | fulls       | | map | its blocks   | | map | its blocks   | ...
 *	+------------+ +-------------+ +-----+--------------+ +-----+--------------+
 *	                one bit per     group 0                group 1; the last one may be short
 *	                group
 *
 * A group is a map block and the GROUP_BITS blocks that it covers, one bit each, set = in use. They hold the nodes of
 * the one tree, and the bytes of files. A bit of the fulls says that no block of that group is free, so that a nearly
 * full volume is searched by a handful of blocks. There are always as many of them as the largest volume needs, so that
 * a volume may grow in place.
 *
 * A block of maps or fulls that is all zeros was never written: everything that it covers is free (is not full).
 * So a volume of any size is formatted by writing three blocks, provided that it reads as zeros.
 *
 * Every other metadata block starts with struct block_header and is valid when it stands at its own address, has the
 * magic of what it is taken for, its checksum holds, and its _check() below says so. The checksum starts from the
 * filesystem's uuid: a block of an earlier filesystem is not taken for one of this.
 *
 * What changes together lies together: the log holds ranges of changed bytes, with 16 bytes for each.
 */
#ifndef HOLDFAST_FS_FORMAT_H
#define HOLDFAST_FS_FORMAT_H

#include <stdbool.h>

#include "bounds.h"
#include "bytes.h"
#include "check.h"

enum { FS_VERSION = 1 };
enum {
	FS_BLOCKS_MIN = 256,		/* 1 MiB: room for the reserve, and something to reserve it for */
};
#define FS_BLOCKS_MAX (VOLUME_BYTES_MAX / BLOCK_BYTES)	/* 2^32 */

/* Features: a bit that we do not know means ... */
#define FS_COMPAT 0ull		/* ... nothing to us */
#define FS_RO_COMPAT 0ull	/* ... we may read, not write */
#define FS_INCOMPAT 0ull	/* ... we may not mount */

enum {
	SUPERBLOCK_MAGIC = 0x53464c48,	/* "HLFS" */
	FULLS_MAGIC = 0x55464c48,	/* "HLFU" */
	MAP_MAGIC = 0x4d464c48,		/* "HLFM" */
	NODE_MAGIC = 0x4e464c48,	/* "HLFN" */
};

enum block_kind { BLOCK_SUPERBLOCK, BLOCK_FULLS, BLOCK_MAP, BLOCK_NODE, BLOCK_KINDS };

struct block_header {
	le64 block;		/* where it stands */
	le32 magic;
	le32 crc;		/* CRC32C of uuid, of the 12 bytes above, and of all behind it */
};
_Static_assert(sizeof(struct block_header) == 16, "size on disk");
_Static_assert(offsetof(struct block_header, crc) == 12, "next to what changes");

/* ---- superblock --------------------------------------------------------------------------------- */

struct superblock {
	struct block_header header;	/* block 0; its crc starts from nothing, as uuid is in here */
	/* What changes. */
	le64 root;			/* block of the tree's root */
	le64 free_count;		/* blocks that are free, in all maps */
	le64 inode_next;		/* a number is never given twice; the root directory is 1 */
	le64 inode_count;		/* inodes that exist */
	uint8_t root_level;		/* 0: the root is a leaf */
	uint8_t reserved_1[7];
	/* What does not. */
	le32 version, reserved_2;
	le64 compat, ro_compat, incompat;
	uint8_t uuid[UUID_BYTES];
	le64 block_count;		/* FS_BLOCKS_MIN.._MAX, at most the volume's */
	le64 made_ns;			/* since 1970 */
	uint8_t reserved[BLOCK_BYTES - 120];
};
_Static_assert(sizeof(struct superblock) == BLOCK_BYTES, "size on disk");

/* ---- maps --------------------------------------------------------------------------------------- */

enum { MAP_BYTES = BLOCK_BYTES - 32, MAP_WORDS = MAP_BYTES / 8 };

/* Of a group: bit n is block n of those that it covers; bits past the volume's end are clear. Of the fulls: block f of
 * them has bit n for group f x FULLS_BITS + n. */
struct map {
	struct block_header header;
	le32 clear_count;		/* bits that are clear, of those that mean something */
	le32 reserved_1;
	le64 reserved_2;
	le64 words[MAP_WORDS];		/* bit n: words[n / 64], bit n % 64 */
};
_Static_assert(sizeof(struct map) == BLOCK_BYTES, "size on disk");

enum {
	GROUP_BITS = MAP_BYTES * 8,	/* 32512 blocks, 127 MiB */
	GROUP_BLOCKS = GROUP_BITS + 1,
	FULLS_BITS = MAP_BYTES * 8,
	FULLS_BLOCKS = 5,		/* from block 1: for 132,104 groups, which are 16 TiB */
	GROUP_FIRST = 1 + FULLS_BLOCKS,	/* the map of group 0 */
};

/* Where things are on a filesystem of @blocks, which is in FS_BLOCKS_MIN.._MAX. */
struct layout { uint64_t blocks, groups; };
struct layout layout_of(uint64_t blocks);
/* The map block of @group. */
uint64_t layout_map(const struct layout *l, uint64_t group);
/* Bits of @group's map (of fulls block @index) that mean something. */
uint32_t layout_map_bits(const struct layout *l, uint64_t group);
uint32_t layout_fulls_bits(const struct layout *l, uint64_t index);
/* May hold a node or data: a block of a group, not its map. */
bool layout_is_usable(const struct layout *l, uint64_t block);
/* Of a usable block. */
uint64_t layout_group(const struct layout *l, uint64_t block);
uint32_t layout_bit(const struct layout *l, uint64_t block);
/* How many usable blocks there are: all that was free before the first was taken. */
uint64_t layout_usable_count(const struct layout *l);

/* ---- the tree ------------------------------------------------------------------------------------ */

/* A node: slots grow up, the heap of items grows down. Slots are sorted by their items' keys, the heap is in no order,
 * and may have dead bytes in it that no item has any more.
 *
 *	+--------+-------------------+------ gap ------+------------------------------------+
 *	| header | slots: le16 each  |  anything       | heap: item, item, dead, item ...   |
 *	+--------+-------------------+-----------------+------------------------------------+
 *	0        24                  24 + 2 x count    heap                                 4096
 *
 * An inner node's value is the le64 block of a child whose keys are all >= the item's and < the next item's. Its first
 * key is always 0.0.0, which stands for the key of its own item in the node above. No node is empty but a root that
 * is a leaf. */
struct node {
	struct block_header header;
	le16 count;			/* items */
	le16 heap;			/* where it starts */
	le16 dead;			/* bytes of the heap that are in no item */
	uint8_t level;			/* 0 = leaf; below the root's everywhere one less than in the node above */
	uint8_t reserved;
	le16 slots[(BLOCK_BYTES - 24) / 2];	/* offsets of items in the node */
};
_Static_assert(sizeof(struct node) == BLOCK_BYTES, "size on disk");

struct item {
	le64 inode;
	le64 at;
	uint8_t kind;			/* enum item_kind */
	uint8_t reserved;
	le16 len;			/* of the value, which follows */
	uint8_t value[];
} __attribute__((packed));
_Static_assert(sizeof(struct item) == 20, "size on disk");

enum {
	NODE_HEADER_BYTES = 24,
	NODE_ROOM = BLOCK_BYTES - NODE_HEADER_BYTES,	/* for slots and heap */
	NODE_LEVELS_MAX = 12,	/* 2^32 nodes of 25 items are 7 levels */
	ITEM_VALUE_MAX = 996,	/* so that four items fit a node, whatever they are */
	ITEM_CHILD_BYTES = 8,
};
_Static_assert(4 * (sizeof(struct item) + ITEM_VALUE_MAX + 2) <= NODE_ROOM, "four items");

/* Keys sort by inode, kind, at. */
enum item_kind {
	ITEM_NONE,	/* only in the first key of an inner node */
	ITEM_INODE,	/* at = 0: what stat shows */
	ITEM_NAME,	/* of a directory; at = the name's hash */
	ITEM_XATTR,	/* at = the name's hash, or that and a piece's number */
	ITEM_INLINE,	/* at = 0: all bytes of a small file; at = 0, 1, ...: parts of a symbolic link's target */
	ITEM_EXTENT,	/* at = the first block of the file that it gives: struct extent */
	ITEM_ORPHAN,	/* of inode 0; at = an inode of which space is still to be given back: it has no name any
			 * more, or is being cut */
	ITEM_KINDS
};

/* @count blocks of a file from @block on, all in one group. */
struct extent {
	le64 block;
	le32 count;
	le32 flags;
};
_Static_assert(sizeof(struct extent) == 16, "size on disk");
enum { EXTENT_UNWRITTEN = 1 };		/* allocated, reads as zeros */

/* Whether @extent of @len bytes is one that may be: all its blocks are usable, in one group, and more than none. */
bool extent_check(const struct layout *l, const void *extent, uint16_t len);

/* ---- checks ------------------------------------------------------------------------------------- */

/* Each bounds everything in a page that came from a disk, before anybody reads a field of it: NULL when it is good,
 * else what is wrong, in a few static words that go after "block 17 is damaged: ". */
const char *superblock_check(const uint8_t page[BLOCK_BYTES]);	/* of a version that we know; features are not judged */
const char *map_check(const struct layout *l, uint64_t block, const uint8_t page[BLOCK_BYTES], bool fulls);
const char *node_check(const struct layout *l, uint64_t block, const uint8_t page[BLOCK_BYTES]);
/* Address, magic and checksum of any of them; @seed: of block_seed(), 0 for the superblock. */
const char *block_header_check(uint64_t block, enum block_kind kind, uint32_t seed, const uint8_t page[BLOCK_BYTES]);
bool block_is_zero(const uint8_t page[BLOCK_BYTES]);
/* Says it of itself, or is a map (fulls) that was never written. Bytes of a file may look so too. */
bool block_may_be_metadata(uint64_t block, const uint8_t page[BLOCK_BYTES]);

/* Makes an empty header for a block of this kind; the crc comes with block_seal(). */
void block_header_init(uint8_t page[BLOCK_BYTES], uint64_t block, enum block_kind kind);
uint32_t block_seed(const uint8_t uuid[UUID_BYTES]);
/* The page is complete: its crc is put in. */
void block_seal(uint8_t page[BLOCK_BYTES], uint32_t seed);

#endif
