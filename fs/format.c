/* SPDX-License-Identifier: Apache-2.0 */
/* Judging bytes of metadata, and sealing them. Nothing here trusts a field before it is bounded. */
#include "format.h"

#include <string.h>

#include "checksum.h"

_Static_assert(GROUP_BITS % 64 == 0 && MAP_WORDS * 64 == GROUP_BITS, "whole words");
_Static_assert((FS_BLOCKS_MAX - GROUP_FIRST + GROUP_BLOCKS - 1) / GROUP_BLOCKS <= FULLS_BLOCKS * (uint64_t)FULLS_BITS,
	       "a bit for each group of the largest volume");

/* ---- layout ------------------------------------------------------------------------------------- */

struct layout layout_of(uint64_t blocks)
{
	uint64_t rest = blocks - GROUP_FIRST;

	/* A last group that would be a map and nothing else is none. */
	return (struct layout){ blocks, rest / GROUP_BLOCKS + (rest % GROUP_BLOCKS >= 2) };
}

uint64_t layout_map(const struct layout *l, uint64_t group)
{
	(void)l;
	return GROUP_FIRST + group * GROUP_BLOCKS;
}

uint32_t layout_map_bits(const struct layout *l, uint64_t group)
{
	return (uint32_t)min_u64(l->blocks - layout_map(l, group) - 1, GROUP_BITS);
}

uint32_t layout_fulls_bits(const struct layout *l, uint64_t index)
{
	uint64_t before = index * FULLS_BITS;

	return l->groups <= before ? 0 : (uint32_t)min_u64(l->groups - before, FULLS_BITS);
}

bool layout_is_usable(const struct layout *l, uint64_t block)
{
	return block > GROUP_FIRST && block < l->blocks && layout_group(l, block) < l->groups &&
	       (block - GROUP_FIRST) % GROUP_BLOCKS != 0;
}

uint64_t layout_group(const struct layout *l, uint64_t block)
{
	(void)l;
	return (block - GROUP_FIRST) / GROUP_BLOCKS;
}

uint32_t layout_bit(const struct layout *l, uint64_t block)
{
	(void)l;
	return (uint32_t)((block - GROUP_FIRST) % GROUP_BLOCKS - 1);
}

uint64_t layout_usable_count(const struct layout *l)
{
	return (l->groups - 1) * GROUP_BITS + layout_map_bits(l, l->groups - 1);
}

bool extent_check(const struct layout *l, const void *bytes, uint16_t len)
{
	struct extent extent;
	uint64_t block;
	uint32_t count;

	if (len != sizeof extent)
		return false;
	memcpy(&extent, bytes, sizeof extent);
	block = from_le64(extent.block);
	count = from_le32(extent.count);
	return layout_is_usable(l, block) && count > 0 && from_le32(extent.flags) <= EXTENT_UNWRITTEN &&
	       count <= layout_map_bits(l, layout_group(l, block)) - layout_bit(l, block);
}

/* ---- header and checksum ------------------------------------------------------------------------ */

static const uint32_t magics[BLOCK_KINDS] = { SUPERBLOCK_MAGIC, FULLS_MAGIC, MAP_MAGIC, NODE_MAGIC };

static uint32_t block_crc(const uint8_t page[BLOCK_BYTES], uint32_t seed)
{
	uint32_t crc = checksum_crc(seed, page, offsetof(struct block_header, crc));

	return checksum_crc(crc, page + sizeof(struct block_header), BLOCK_BYTES - sizeof(struct block_header));
}

uint32_t block_seed(const uint8_t uuid[UUID_BYTES])
{
	return checksum_crc(0, uuid, UUID_BYTES);
}

bool block_is_zero(const uint8_t page[BLOCK_BYTES])
{
	return page[0] == 0 && memcmp(page, page + 1, BLOCK_BYTES - 1) == 0;
}

const char *block_header_check(uint64_t block, enum block_kind kind, uint32_t seed, const uint8_t page[BLOCK_BYTES])
{
	const struct block_header *header = (const void *)page;

	if (from_le32(header->magic) != magics[kind])
		return "it has another magic";
	if (from_le64(header->block) != block)
		return "it was written for another place";
	if (!checksum_equal(block_crc(page, seed), from_le32(header->crc)))
		return "its checksum does not hold";
	return NULL;
}

bool block_may_be_metadata(uint64_t block, const uint8_t page[BLOCK_BYTES])
{
	const struct block_header *header = (const void *)page;

	if (from_le64(header->block) == block)
		for (unsigned kind = 0; kind < BLOCK_KINDS; kind++)
			if (from_le32(header->magic) == magics[kind])
				return true;
	return (block < GROUP_FIRST || (block - GROUP_FIRST) % GROUP_BLOCKS == 0) && block_is_zero(page);
}

void block_header_init(uint8_t page[BLOCK_BYTES], uint64_t block, enum block_kind kind)
{
	struct block_header *header = (void *)page;

	header->block = to_le64(block);
	header->magic = to_le32(magics[kind]);
}

void block_seal(uint8_t page[BLOCK_BYTES], uint32_t seed)
{
	struct block_header *header = (void *)page;

	header->crc = to_le32(block_crc(page, seed));
}

/* ---- what is behind the header ------------------------------------------------------------------- */

static bool all_zero(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

const char *superblock_check(const uint8_t page[BLOCK_BYTES])
{
	const struct superblock *s = (const void *)page;
	uint64_t blocks = from_le64(s->block_count);
	struct layout l;

	if (from_le32(s->version) != FS_VERSION)
		return "its version is not known";
	if (blocks < FS_BLOCKS_MIN || blocks > FS_BLOCKS_MAX)
		return "its size is out of bounds";
	if (!all_zero(s->reserved, sizeof s->reserved) || !all_zero(s->reserved_1, sizeof s->reserved_1) ||
	    from_le32(s->reserved_2))
		return "reserved bytes are not zero";
	l = layout_of(blocks);
	if (!layout_is_usable(&l, from_le64(s->root)) || s->root_level >= NODE_LEVELS_MAX)
		return "the root of the tree is out of bounds";
	if (from_le64(s->free_count) >= layout_usable_count(&l))
		return "more blocks are free than there are";
	if (from_le64(s->inode_next) == 0 || from_le64(s->inode_count) >= from_le64(s->inode_next))
		return "the numbers of inodes are out of bounds";
	return NULL;
}

const char *map_check(const struct layout *l, uint64_t block, const uint8_t page[BLOCK_BYTES], bool fulls)
{
	const struct map *m = (const void *)page;
	uint32_t bits = fulls ? layout_fulls_bits(l, block - 1) : layout_map_bits(l, layout_group(l, block));
	uint32_t used = 0;

	if (from_le32(m->reserved_1) || from_le64(m->reserved_2))
		return "reserved bytes are not zero";
	for (uint32_t i = 0; i < MAP_WORDS; i++) {
		uint64_t word = from_le64(m->words[i]);

		if (i >= bits / 64 && word >> (i == bits / 64 ? bits % 64 : 0) != 0)
			return "it has bits for what there is not";
		used += (uint32_t)__builtin_popcountll(word);
	}
	if (from_le32(m->clear_count) != bits - used)
		return "its count is not that of its bits";
	return NULL;
}

/* Whether the item at @at lies within the heap, and its value's length is one that it may have. */
static bool item_bounds(const struct node *n, uint32_t at, uint32_t heap)
{
	const struct item *item = (const void *)((const uint8_t *)n + at);
	uint32_t len;

	if (at < heap || at > BLOCK_BYTES - sizeof *item)
		return false;
	len = from_le16(item->len);
	return len <= BLOCK_BYTES - sizeof *item - at && len <= ITEM_VALUE_MAX && item->reserved == 0;
}

/* Bytes [first, first + len) of the node belong to one item only; @taken has a bit per byte. */
static bool item_take(uint64_t taken[BLOCK_BYTES / 64], uint32_t first, uint32_t len)
{
	uint32_t end = first + len;

	while (first < end) {
		uint32_t bit = first % 64, bits = 64 - bit < end - first ? 64 - bit : end - first;
		uint64_t mask = (bits == 64 ? ~0ull : (1ull << bits) - 1) << bit;

		if (taken[first / 64] & mask)
			return false;
		taken[first / 64] |= mask;
		first += bits;
	}
	return true;
}

static bool item_sorted(const struct item *before, const struct item *item)
{
	if (from_le64(before->inode) != from_le64(item->inode))
		return from_le64(before->inode) < from_le64(item->inode);
	if (before->kind != item->kind)
		return before->kind < item->kind;
	return from_le64(before->at) < from_le64(item->at);
}

static const char *item_check(const struct layout *l, const struct node *n, uint32_t index, const struct item *item)
{
	le64 child;

	if (n->level == 0)
		return item->kind == ITEM_NONE || item->kind >= ITEM_KINDS ? "an item is of no known kind" : NULL;
	if (index == 0 && (from_le64(item->inode) || item->kind || from_le64(item->at)))
		return "its first key is not the least";
	if (item->kind >= ITEM_KINDS || from_le16(item->len) != sizeof child)
		return "an item is not one of an inner node";
	memcpy(&child, item->value, sizeof child);
	return layout_is_usable(l, from_le64(child)) ? NULL : "a child is out of bounds";
}

const char *node_check(const struct layout *l, uint64_t block, const uint8_t page[BLOCK_BYTES])
{
	const struct node *n = (const void *)page;
	uint32_t count = from_le16(n->count), heap = from_le16(n->heap), in_use = 0;
	uint64_t taken[BLOCK_BYTES / 64] = { 0 };
	const struct item *before = NULL;

	(void)block;
	if (n->level >= NODE_LEVELS_MAX || n->reserved)
		return "its level is out of bounds";
	if (heap > BLOCK_BYTES || count > NODE_ROOM / 2 || NODE_HEADER_BYTES + 2 * count > heap)
		return "its slots and its heap overlap";
	if (n->level > 0 && count == 0)
		return "it is an inner node without a child";
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = from_le16(n->slots[i]);
		const struct item *item = (const void *)(page + at);
		const char *what;

		if (!item_bounds(n, at, heap))
			return "an item is out of bounds";
		if (!item_take(taken, at, (uint32_t)sizeof *item + from_le16(item->len)))
			return "two items overlap";
		if (before && !item_sorted(before, item))
			return "its keys are not in order";
		what = item_check(l, n, i, item);
		if (what)
			return what;
		in_use += (uint32_t)sizeof *item + from_le16(item->len);
		before = item;
	}
	return in_use + from_le16(n->dead) == BLOCK_BYTES - heap ? NULL : "its heap does not add up";
}
