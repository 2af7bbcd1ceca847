/* SPDX-License-Identifier: Apache-2.0 */
/* Holes against a flat array of blocks. */
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "holes.h"
#include "run.h"
#include "sim/world.h"

enum { BLOCKS = 400 };

/* Of each block: the newest kind of emptying, and the LSNs that must be covered by whatever hole has it. */
struct flat { bool hole, keep; uint64_t lsn; };

static void assert_same(const struct holes *h, const struct flat flat[BLOCKS])
{
	uint64_t oldest = UINT64_MAX;

	for (uint32_t i = 0; i < h->count; i++) {
		assert_true(h->at[i].first < h->at[i].end && h->at[i].lsn < h->at[i].lsn_end);
		assert_true(i == 0 || h->at[i - 1].end <= h->at[i].first);
		/* Touching ones of one kind are one. */
		assert_true(i == 0 || h->at[i - 1].end < h->at[i].first ||
			    h->at[i - 1].keep_space != h->at[i].keep_space);
		for (uint64_t block = h->at[i].first; block < h->at[i].end; block++) {
			assert_true(flat[block].hole);
			assert_int_equal(h->at[i].keep_space, flat[block].keep);
			assert_true(flat[block].lsn >= h->at[i].lsn && flat[block].lsn + 10 <= h->at[i].lsn_end);
		}
		oldest = min_u64(oldest, h->at[i].lsn);
	}
	assert_int_equal(holes_oldest(h), oldest);
	for (uint64_t block = 0; block < BLOCKS; block++) {
		uint64_t border = block + 1;

		assert_int_equal(holes_have(h, block), flat[block].hole);
		while (border < BLOCKS && flat[border].hole == flat[block].hole &&
		       (!flat[block].hole || flat[border].keep == flat[block].keep))
			border++;
		if (border == BLOCKS && !flat[block].hole)
			border = UINT64_MAX;
		assert_int_equal(holes_border(h, block), border);
	}
}

static void holes_are_what_a_flat_array_of_blocks_says(void **state)
{
	struct holes *h = calloc(1, sizeof *h);

	(void)state;
	for (unsigned run = 0; run < 100; run++) {
		struct world *w = world_new(test_seed_first(1) + run);
		struct flat flat[BLOCKS] = { { 0 } };
		uint64_t longest = 1 + world_random_below(w, 60);

		h->count = 0;
		for (uint64_t lsn = 10; lsn < 10 * 60; lsn += 10) {
			uint64_t first = world_random_below(w, BLOCKS - 1);
			uint64_t end = min_u64(BLOCKS, first + 1 + world_random_below(w, longest));
			struct hole hole = { first, end, lsn, lsn + 10, world_random_below(w, 2) };
			uint32_t before = h->count;

			assert_true(holes_have_room(h, 1));
			holes_add(h, &hole);
			assert_true(h->count <= before + 2);
			for (uint64_t block = first; block < end; block++)
				flat[block] = (struct flat){ true, hole.keep_space, lsn };
			assert_same(h, flat);
		}
		world_free(w);
	}
	free(h);
}

static void holes_with_room_take_so_many_more_whatever_they_overlap(void **state)
{
	struct holes *h = calloc(1, sizeof *h);
	struct hole all = { 0, 1 << 20, 1, 2, false };

	(void)state;
	/* The worst: each splits one of the other kind. */
	holes_add(h, &all);
	for (uint64_t i = 0; holes_have_room(h, 1); i++) {
		struct hole hole = { 10 * i + 5, 10 * i + 6, 2 + i, 3 + i, true };

		holes_add(h, &hole);
		assert_int_equal(h->count, 2 * i + 3);
	}
	assert_true(h->count <= HOLES_MAX && h->count + 2 > HOLES_MAX);
	holes_add(h, &(struct hole){ 0, 1 << 20, 5, 9000, true });
	assert_int_equal(h->count, 1);
	/* Its record may be lost with the power: until it is durable, what it hides must not be forgotten. */
	assert_int_equal(h->at[0].lsn, 1);
	assert_int_equal(h->at[0].lsn_end, 9000);
	free(h);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(holes_are_what_a_flat_array_of_blocks_says),
	cmocka_unit_test(holes_with_room_take_so_many_more_whatever_they_overlap),
};
TEST_GROUP(holes, tests)
