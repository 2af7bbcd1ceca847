/* SPDX-License-Identifier: Apache-2.0 */
/* One node of the tree, in its page: which node_check() found good, or which was made here. Nothing moves that need
 * not: what changes is logged. */
#ifndef HOLDFAST_FS_NODE_H
#define HOLDFAST_FS_NODE_H

#include "format.h"
#include "tree.h"

static inline uint32_t node_count(const struct node *n) { return from_le16(n->count); }
/* @index < count. */
static inline const struct item *node_item(const struct node *n, uint32_t index)
{
	return (const void *)((const uint8_t *)n + from_le16(n->slots[index]));
}
static inline uint32_t item_bytes(uint32_t value_len) { return (uint32_t)sizeof(struct item) + value_len; }
static inline uint32_t node_gap(const struct node *n)
{
	return from_le16(n->heap) - NODE_HEADER_BYTES - 2 * node_count(n);
}
/* Bytes that items and their slots take, of NODE_ROOM. */
static inline uint32_t node_used(const struct node *n)
{
	return NODE_ROOM - node_gap(n) - from_le16(n->dead);
}
static inline bool node_has_room(const struct node *n, uint32_t value_len)
{
	return NODE_ROOM - node_used(n) >= item_bytes(value_len) + 2;
}

struct tree_key node_key(const struct node *n, uint32_t index);
/* The block of an inner node's child. */
uint64_t node_child(const struct node *n, uint32_t index);
/* The first item whose key is >= @key; count when there is none. */
uint32_t node_search(const struct node *n, const struct tree_key *key);
/* Of an inner node: the child where @key belongs. */
uint32_t node_search_child(const struct node *n, const struct tree_key *key);

/* Of a page with a header and zeros otherwise, or to be emptied. */
void node_init(struct node *n, uint8_t level);
/* Becomes item @index. There is room. */
void node_insert(struct node *n, uint32_t index, const struct tree_key *key, const void *value, uint16_t len);
void node_remove(struct node *n, uint32_t index);
/* The value's bytes, to be changed in place. */
uint8_t *node_value(struct node *n, uint32_t index);
/* Another value for the same key. There is room once the old one is gone. */
void node_replace(struct node *n, uint32_t index, const void *value, uint16_t len);
/* Another key for the same value; the order stays. */
void node_set_key(struct node *n, uint32_t index, const struct tree_key *key);
void node_set_child(struct node *n, uint32_t index, uint64_t child);
/* Items from @first on become the last ones of @to, where there is room. */
void node_move(struct node *n, uint32_t first, struct node *to);

#endif
