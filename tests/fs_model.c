/* SPDX-License-Identifier: Apache-2.0 */
#include "fs_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

void fs_model_free(struct fs_model *m)
{
	free(m->items);
	*m = (struct fs_model){ 0 };
}

struct fs_model fs_model_copy(const struct fs_model *m)
{
	struct fs_model other = { malloc((m->count + 1) * sizeof *m->items), m->count, m->count + 1 };

	if (m->count)
		memcpy(other.items, m->items, m->count * sizeof *m->items);
	return other;
}

void fs_model_value(uint8_t value[ITEM_VALUE_MAX], uint16_t len, uint32_t number)
{
	uint32_t x = number * 2654435761u | 1;

	for (uint16_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		value[i] = i < 4 ? (uint8_t)(number >> 8 * i) : (uint8_t)(x >> 24);
	}
}

/* The first item at or behind @key. */
static uint32_t model_search(const struct fs_model *m, const struct tree_key *key)
{
	uint32_t first = 0, end = m->count;

	while (first < end) {
		uint32_t middle = (first + end) / 2;

		if (tree_key_compare(&m->items[middle].key, key) < 0)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

static bool model_is_at(const struct fs_model *m, uint32_t at, const struct tree_key *key)
{
	return at < m->count && tree_key_compare(&m->items[at].key, key) == 0;
}

struct model_step fs_model_draw(struct fs_rig *r, const struct model_shape *shape)
{
	struct model_step step = {
		.key = tree_key(1 + fs_rig_draw(r, shape->inodes), 1 + (enum item_kind)fs_rig_draw(r, 4),
				fs_rig_draw(r, shape->ats)),
		.len = (uint16_t)fs_rig_draw(r, shape->len_max + 1u),
		.number = (uint32_t)fs_rig_draw(r, 1u << 31),
	};

	if (fs_rig_draw(r, 5) == 0)
		step.kind = STEP_FIND + (enum step_kind)fs_rig_draw(r, STEP_KINDS - STEP_FIND);
	else if (fs_rig_draw(r, 100) < shape->deletes)
		step.kind = STEP_DELETE;
	else
		step.kind = fs_rig_draw(r, 4) ? STEP_INSERT : STEP_REPLACE;
	return step;
}

static void step_found(struct model_step *step, const struct tree_item *item)
{
	uint8_t value[ITEM_VALUE_MAX];

	step->found = item->key;
	step->found_len = item->len;
	step->found_number = 0;
	memcpy(&step->found_number, item->value, item->len < 4 ? item->len : 4);
	step->value_ok = true;
	if (item->len < 4)
		return;		/* its first bytes are its number's, and it has no others */
	fs_model_value(value, item->len, step->found_number);
	step->value_ok = memcmp(value, item->value, item->len) == 0;
}

static int step_run(struct fs_rig *r, struct model_step *step)
{
	struct tree_item item = { .len = 0 };
	uint8_t value[ITEM_VALUE_MAX];

	fs_model_value(value, step->len, step->number);
	switch (step->kind) {
	case STEP_INSERT:
		return tree_insert(&r->fs, &step->key, step->len ? value : NULL, step->len);
	case STEP_REPLACE:
		return tree_replace(&r->fs, &step->key, value, step->len);
	case STEP_DELETE:
		return tree_delete(&r->fs, &step->key);
	case STEP_FIND:
		step->result = tree_find(&r->fs, &step->key, &item);
		break;
	case STEP_NEXT:
		step->result = tree_next(&r->fs, &step->key, &item);
		break;
	default:
		step->result = tree_previous(&r->fs, &step->key, &item);
		break;
	}
	if (!step->result)
		step_found(step, &item);
	return step->result;
}

int fs_model_run(struct fs_rig *r, struct model_step *steps, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		steps[i].result = step_run(r, &steps[i]);
		if (steps[i].result && steps[i].result != -ENOENT && steps[i].result != -EEXIST)
			return steps[i].result;
	}
	return 0;
}

static void model_put(struct fs_model *m, uint32_t at, const struct model_step *step)
{
	if (m->count == m->room) {
		m->room = m->room ? 2 * m->room : 64;
		m->items = realloc(m->items, m->room * sizeof *m->items);
	}
	memmove(&m->items[at + 1], &m->items[at], (m->count++ - at) * sizeof *m->items);
	m->items[at] = (struct model_item){ step->key, step->len, step->number };
}

static uint32_t value_number(const struct model_item *item)
{
	return item->len >= 4 ? item->number : item->number & ((1u << 8 * item->len) - 1);
}

static void step_found_agrees(const struct model_step *step, const struct fs_model *m, uint32_t at, bool there)
{
	assert_int_equal(step->result, there ? 0 : -ENOENT);
	if (!there)
		return;
	assert_int_equal(tree_key_compare(&step->found, &m->items[at].key), 0);
	assert_int_equal(step->found_len, m->items[at].len);
	assert_int_equal(step->found_number, value_number(&m->items[at]));
	assert_true(step->value_ok);
}

static void step_agrees(struct fs_model *m, const struct model_step *step)
{
	uint32_t at = model_search(m, &step->key);
	bool there = model_is_at(m, at, &step->key);

	switch (step->kind) {
	case STEP_INSERT:
		assert_int_equal(step->result, there ? -EEXIST : 0);
		if (!there)
			model_put(m, at, step);
		break;
	case STEP_REPLACE:
		assert_int_equal(step->result, there ? 0 : -ENOENT);
		if (there)
			m->items[at] = (struct model_item){ step->key, step->len, step->number };
		break;
	case STEP_DELETE:
		assert_int_equal(step->result, there ? 0 : -ENOENT);
		if (there)
			memmove(&m->items[at], &m->items[at + 1], (--m->count - at) * sizeof *m->items);
		break;
	case STEP_FIND:
		step_found_agrees(step, m, at, there);
		break;
	case STEP_NEXT:
		step_found_agrees(step, m, at, at < m->count);
		break;
	default:
		step_found_agrees(step, m, at - !there, there || at > 0);
	}
}

void fs_model_agree(struct fs_model *m, const struct model_step *steps, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		step_agrees(m, &steps[i]);
}

/* One item that must be item @at of the model. */
static void same_item(const struct fs_model *m, uint32_t at, const struct tree_item *item)
{
	uint8_t value[ITEM_VALUE_MAX];

	assert_true(at < m->count);
	assert_int_equal(tree_key_compare(&item->key, &m->items[at].key), 0);
	assert_int_equal(item->len, m->items[at].len);
	fs_model_value(value, item->len, m->items[at].number);
	assert_memory_equal(value, item->value, item->len);
}

void fs_model_same(const struct fs_model *m, struct fs_rig *r)
{
	struct tree_key key = { 0 };
	struct tree_item item;
	uint32_t at = 0;
	int result;

	for (;;) {
		while (fs_rig_again(r, result = tree_next(&r->fs, &key, &item)))
			;
		if (result)
			break;
		same_item(m, at++, &item);
		key = item.key;
		key.at++;		/* no test has the last one of a kind */
		if (at % 64 == 0)
			fs_abort(&r->fs);
	}
	assert_int_equal(result, -ENOENT);
	assert_int_equal(at, m->count);
	key = tree_key(UINT64_MAX, ITEM_ORPHAN, UINT64_MAX);
	for (;;) {
		while (fs_rig_again(r, result = tree_previous(&r->fs, &key, &item)))
			;
		if (result)
			break;
		same_item(m, --at, &item);
		key = item.key;
		if (key.at-- == 0)
			key = (struct tree_key){ key.inode, UINT64_MAX, (uint8_t)(key.kind - 1) };
		if (at % 64 == 0)
			fs_abort(&r->fs);
	}
	assert_int_equal(result, -ENOENT);
	assert_int_equal(at, 0);
	fs_abort(&r->fs);
}
