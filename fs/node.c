/* SPDX-License-Identifier: Apache-2.0 */
/* Slots are kept sorted, items stay where they are put. A new item goes into the gap, else into the dead bytes between
 * two items where it fits, and only when neither has room are items moved: as few as close the holes. */
#include "node.h"

#include <string.h>

static struct item *item_at(struct node *n, uint32_t index)
{
	return (void *)((uint8_t *)n + from_le16(n->slots[index]));
}

static uint32_t item_size(const struct item *item)
{
	return item_bytes(from_le16(item->len));
}

struct tree_key node_key(const struct node *n, uint32_t index)
{
	const struct item *item = node_item(n, index);

	return (struct tree_key){ from_le64(item->inode), from_le64(item->at), item->kind };
}

uint64_t node_child(const struct node *n, uint32_t index)
{
	le64 child;

	CHECK(n->level > 0);
	memcpy(&child, node_item(n, index)->value, sizeof child);
	return from_le64(child);
}

uint32_t node_search(const struct node *n, const struct tree_key *key)
{
	uint32_t first = 0, end = node_count(n);

	while (first < end) {
		uint32_t middle = (first + end) / 2;
		struct tree_key found = node_key(n, middle);

		if (tree_key_compare(&found, key) < 0)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

uint32_t node_search_child(const struct node *n, const struct tree_key *key)
{
	uint32_t index = node_search(n, key);
	struct tree_key found;

	if (index < node_count(n)) {
		found = node_key(n, index);
		if (tree_key_compare(&found, key) == 0)
			return index;
	}
	return index ? index - 1 : 0;
}

void node_init(struct node *n, uint8_t level)
{
	n->count = to_le16(0);
	n->heap = to_le16(BLOCK_BYTES);
	n->dead = to_le16(0);
	n->level = level;
	n->reserved = 0;
}

/* ---- room ---------------------------------------------------------------------------------------- */

enum { ITEMS_MAX = NODE_ROOM / (sizeof(struct item) + 2) };

/* Slots in the order of where their items are, the highest first. */
static uint32_t node_by_place(const struct node *n, uint16_t order[ITEMS_MAX])
{
	uint32_t count = node_count(n);

	CHECK(count <= ITEMS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = i;

		for (; at > 0 && from_le16(n->slots[order[at - 1]]) < from_le16(n->slots[i]); at--)
			order[at] = order[at - 1];
		order[at] = (uint16_t)i;
	}
	return count;
}

/* Where @size dead bytes lie together, in the hole that fits best; 0 when there is none. */
static uint32_t node_hole(const struct node *n, uint32_t size)
{
	uint16_t order[ITEMS_MAX];
	uint32_t count, end = BLOCK_BYTES, best = UINT32_MAX, place = 0;

	if (from_le16(n->dead) < size)
		return 0;
	count = node_by_place(n, order);
	for (uint32_t i = 0; i <= count; i++) {
		const struct item *item = i < count ? node_item(n, order[i]) : NULL;
		uint32_t at = item ? from_le16(n->slots[order[i]]) : from_le16(n->heap);
		uint32_t item_end = item ? at + item_size(item) : at;

		if (end - item_end >= size && end - item_end < best) {
			best = end - item_end;
			place = end - size;
		}
		end = at;
	}
	return place;
}

/* All items together at the end; those that lie above the highest hole do not move. */
static void node_compact(struct node *n)
{
	uint16_t order[ITEMS_MAX];
	uint32_t count = node_by_place(n, order), end = BLOCK_BYTES;

	for (uint32_t i = 0; i < count; i++) {
		struct item *item = item_at(n, order[i]);
		uint32_t size = item_size(item);

		end -= size;
		memmove((uint8_t *)n + end, item, size);
		n->slots[order[i]] = to_le16((uint16_t)end);
	}
	n->heap = to_le16((uint16_t)end);
	n->dead = to_le16(0);
}

/* Takes @size bytes of the heap, beside @slots bytes that the gap must keep for slots. Returns where. */
static uint32_t node_take(struct node *n, uint32_t size, uint32_t slots)
{
	uint32_t place = 0;

	if (node_gap(n) >= size + slots) {
		place = from_le16(n->heap) - size;
	} else if (node_gap(n) >= slots) {
		place = node_hole(n, size);
		if (place) {
			n->dead = to_le16((uint16_t)(from_le16(n->dead) - size));
			return place;
		}
	}
	if (!place) {
		node_compact(n);
		CHECK(node_gap(n) >= size + slots);
		place = from_le16(n->heap) - size;
	}
	n->heap = to_le16((uint16_t)place);
	return place;
}

/* Bytes of the heap are in no item any more. */
static void node_give(struct node *n, uint32_t place, uint32_t size)
{
	if (place == from_le16(n->heap))
		n->heap = to_le16((uint16_t)(place + size));
	else
		n->dead = to_le16((uint16_t)(from_le16(n->dead) + size));
}

/* ---- items --------------------------------------------------------------------------------------- */

void node_insert(struct node *n, uint32_t index, const struct tree_key *key, const void *value, uint16_t len)
{
	uint32_t count = node_count(n), place;
	struct item *item;

	CHECK(index <= count && node_has_room(n, len));
	place = node_take(n, item_bytes(len), 2);
	memmove(&n->slots[index + 1], &n->slots[index], (count - index) * sizeof n->slots[0]);
	n->slots[index] = to_le16((uint16_t)place);
	n->count = to_le16((uint16_t)(count + 1));
	item = item_at(n, index);
	item->inode = to_le64(key->inode);
	item->at = to_le64(key->at);
	item->kind = key->kind;
	item->reserved = 0;
	item->len = to_le16(len);
	if (len)
		memcpy(item->value, value, len);
}

void node_remove(struct node *n, uint32_t index)
{
	uint32_t count = node_count(n);

	CHECK(index < count);
	node_give(n, from_le16(n->slots[index]), item_size(node_item(n, index)));
	memmove(&n->slots[index], &n->slots[index + 1], (count - index - 1) * sizeof n->slots[0]);
	n->count = to_le16((uint16_t)(count - 1));
	if (count == 1)
		node_init(n, n->level);
}

uint8_t *node_value(struct node *n, uint32_t index)
{
	return item_at(n, index)->value;
}

/* A value that becomes shorter stays where it is, and so does what it has in common with the old one. */
void node_replace(struct node *n, uint32_t index, const void *value, uint16_t len)
{
	struct item *item = item_at(n, index);
	uint32_t old = from_le16(item->len);
	struct tree_key key;

	if (len > old) {
		key = node_key(n, index);
		node_remove(n, index);
		node_insert(n, index, &key, value, len);
		return;
	}
	if (len)
		memmove(item->value, value, len);
	item->len = to_le16(len);
	n->dead = to_le16((uint16_t)(from_le16(n->dead) + old - len));
}

void node_set_key(struct node *n, uint32_t index, const struct tree_key *key)
{
	struct item *item = item_at(n, index);

	item->inode = to_le64(key->inode);
	item->at = to_le64(key->at);
	item->kind = key->kind;
}

void node_set_child(struct node *n, uint32_t index, uint64_t child)
{
	le64 value = to_le64(child);

	CHECK(n->level > 0);
	memcpy(node_value(n, index), &value, sizeof value);
}

void node_move(struct node *n, uint32_t first, struct node *to)
{
	uint32_t count = node_count(n);

	for (uint32_t i = first; i < count; i++) {
		struct tree_key key = node_key(n, i);

		node_insert(to, node_count(to), &key, node_item(n, i)->value, from_le16(node_item(n, i)->len));
	}
	while (count > first)
		node_remove(n, --count);
}
