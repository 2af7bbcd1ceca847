/* SPDX-License-Identifier: Apache-2.0 */
/* A still shows the volume as it was at one moment, or says that it cannot; and nobody waits for it. */
#include "directed.h"

enum { BLOCKS = 256, GROUP = 12 /* blocks that every beat changes alike */ };

static struct cluster_options options_of_still(unsigned nodes, enum replication_mode mode)
{
	struct cluster_options o = options_of(nodes, mode);

	o.filesystem = true;
	return o;
}

static bool keep_all(uint64_t block, const uint8_t *page)
{
	(void)block, (void)page;
	return true;
}

static bool keep_even(uint64_t block, const uint8_t *page)
{
	(void)page;
	return block % 2 == 0;
}

static struct volume_still *still_on(struct cluster *c, unsigned node, uint64_t blocks_max,
				     bool (*keep)(uint64_t block, const uint8_t *page))
{
	const struct volume_still_config config = { .blocks_max = blocks_max, .keep = keep };
	struct volume_still *s, *second;
	uint64_t lsn;

	assert_int_equal(volume_still_new(cluster_volume(c, node), &config, &s), 0);
	assert_int_equal(volume_still_new(cluster_volume(c, node), &config, &second), -EBUSY);
	assert_int_equal(volume_still_take(s, &lsn), 0);
	return s;
}

/* 0 or -ESTALE. */
static int look(struct cluster *c, struct blocks *blocks, uint64_t block, uint8_t out[BLOCK_BYTES])
{
	const uint8_t *page;
	int result;

	while ((result = blocks->read(blocks, block, &page)) == -EAGAIN) {
		blocks->abort(blocks);
		cluster_run_for(c, MILLISECONDS);
	}
	if (result == 0)
		memcpy(out, page, BLOCK_BYTES);
	else
		assert_int_equal(result, -ESTALE);
	blocks->abort(blocks);
	return result;
}

/* One transaction that changes some blocks by a byte, makes some anew, writes over some, and empties some. */
static int scribble(struct blocks *blocks, struct world *w)
{
	static uint8_t bytes[3 * BLOCK_BYTES];
	uint64_t lsn, block = 1 + world_random_below(w, 20);
	bool wrote = false;
	int result = 0;
	uint8_t *page;

	memset(bytes, (int)world_random_below(w, 256), sizeof bytes);
	for (; result == 0 && block + 4 < BLOCKS; block += 4 + world_random_below(w, 60)) {
		switch (world_random_below(w, 5)) {
		case 0:
			result = wrote ? 0 : blocks->write(blocks, block * BLOCK_BYTES + 100, bytes, 2 * BLOCK_BYTES);
			wrote = true;
			break;
		case 1:
			result = blocks->discard(blocks, block, 3);
			break;
		case 2:
			result = blocks->fresh(blocks, block, &page);
			break;
		default:
			result = blocks->change(blocks, block, &page);
		}
	}
	/* Block 0 is never any of these. */
	if (result == 0)
		result = blocks->change(blocks, 0, &page);
	if (result == 0) {
		page[world_random_below(w, BLOCK_BYTES)]++;
		result = blocks->commit(blocks, NULL, 0, &lsn);
	}
	return result;
}

static void scribble_on(struct cluster *c, unsigned node)
{
	struct blocks *blocks = volume_blocks(cluster_volume(c, node));
	int result;

	while ((result = scribble(blocks, cluster_world(c))) == -EAGAIN) {
		blocks->abort(blocks);
		cluster_run_for(c, MILLISECONDS);
	}
	assert_int_equal(result, 0);
}

static void a_still_shows_each_block_as_it_was_or_says_that_it_cannot(void **state)
{
	static uint8_t was[BLOCKS][BLOCK_BYTES], is[BLOCK_BYTES];
	uint64_t changed = 0, stale = 0;

	(void)state;
	for (uint64_t seed = test_seed_first(1), end = seed + test_seed_count(6); seed < end; seed++) {
		struct cluster_options o = options_of_still(1, MODE_A);
		struct volume_still *s;
		struct blocks *blocks, *now;
		struct cluster *c;
		uint64_t lsn;

		o.seed = seed;
		o.journal_bytes = 2 << 20;
		c = start(&o);
		now = volume_blocks(cluster_volume(c, 0));
		s = still_on(c, 0, BLOCKS, seed % 2 ? keep_all : keep_even);
		blocks = volume_still_blocks(s);
		for (unsigned round = 0; round < 6; round++) {
			for (unsigned i = 0; i < 40; i++)
				scribble_on(c, 0);
			assert_int_equal(volume_still_take(s, &lsn), 0);
			assert_int_equal(lsn, cluster_volume(c, 0)->applied);
			for (uint64_t block = 0; block < BLOCKS; block++)
				assert_int_equal(look(c, now, block, was[block]), 0);
			for (unsigned i = 0; i < 400; i++) {
				uint64_t block = world_random_below(cluster_world(c), BLOCKS);
				uint8_t current[BLOCK_BYTES];

				if (i % 10 == 0)
					scribble_on(c, 0);
				assert_int_equal(look(c, now, block, current), 0);
				changed += memcmp(current, was[block], BLOCK_BYTES) != 0;
				if (look(c, blocks, block, is)) {
					stale++;
					assert_true(block != 0 || seed % 2 == 0);
				} else {
					assert_memory_equal(is, was[block], BLOCK_BYTES);
				}
			}
		}
		volume_still_free(s);
		cluster_converge(c);
		cluster_free(c);
	}
	if (test_seed_count(6) > 1) {
		assert_true(changed > 500);
		assert_true(stale > 50);
	}
}

static void a_still_without_room_says_so_and_can_be_taken_anew(void **state)
{
	struct cluster_options o = options_of_still(1, MODE_A);
	static uint8_t is[BLOCK_BYTES];
	struct volume_still *s;
	struct cluster *c;
	uint64_t lsn;

	(void)state;
	c = start(&o);
	s = still_on(c, 0, 3, keep_all);
	assert_int_equal(look(c, volume_still_blocks(s), 7, is), 0);
	for (unsigned i = 0; i < 40; i++)
		scribble_on(c, 0);
	for (uint64_t block = 0; block < BLOCKS; block++)
		assert_int_equal(look(c, volume_still_blocks(s), block, is), -ESTALE);
	assert_int_equal(volume_still_take(s, &lsn), 0);
	for (uint64_t block = 0; block < BLOCKS; block++)
		assert_int_equal(look(c, volume_still_blocks(s), block, is), 0);
	volume_still_free(s);
	cluster_converge(c);
	cluster_free(c);
}

/* ---- a follower's ---- */

static int beat(struct blocks *blocks, uint64_t number)
{
	uint64_t lsn;
	uint8_t *page;
	int result;

	for (unsigned i = 0; i < GROUP; i++) {
		result = blocks->change(blocks, i * 20, &page);
		if (result)
			return result;
		memcpy(page + i * 300, &number, sizeof number);
	}
	return blocks->commit(blocks, NULL, 0, &lsn);
}

static void beat_on(struct cluster *c, unsigned node, uint64_t number)
{
	struct blocks *blocks = volume_blocks(cluster_volume(c, node));
	int result;

	while ((result = beat(blocks, number)) == -EAGAIN) {
		blocks->abort(blocks);
		cluster_run_for(c, MILLISECONDS);
	}
	assert_int_equal(result, 0);
}

/* What block @i of the group says. */
static uint64_t beat_of(const uint8_t page[BLOCK_BYTES], unsigned i)
{
	uint64_t number;

	memcpy(&number, page + i * 300, sizeof number);
	return number;
}

static void a_still_of_a_follower_is_one_moment_while_its_log_goes_on(void **state)
{
	static uint8_t page[BLOCK_BYTES];
	uint64_t whole = 0, later = 0;

	(void)state;
	for (uint64_t seed = test_seed_first(1), end = seed + test_seed_count(8); seed < end; seed++) {
		struct cluster_options o = options_of_still(2, (enum replication_mode)(seed % 4));
		struct volume_still *s;
		struct cluster *c;
		uint64_t number = 0, lsn;

		o.seed = seed;
		c = start(&o);
		beat_on(c, 0, ++number);
		cluster_run_for(c, 2 * SECONDS);
		s = still_on(c, 1, BLOCKS, keep_all);
		for (unsigned round = 0; round < 20; round++) {
			uint64_t first = 0, before = cluster_volume(c, 1)->applied;
			unsigned seen = 0;

			assert_int_equal(volume_still_take(s, &lsn), 0);
			assert_int_equal(lsn, before);
			for (unsigned i = 0; i < GROUP; i++) {
				beat_on(c, 0, ++number);
				cluster_run_for(c, world_random_below(cluster_world(c), 3 * MILLISECONDS));
				if (look(c, volume_still_blocks(s), i * 20, page))
					continue;
				if (seen++ == 0)
					first = beat_of(page, i);
				assert_int_equal(beat_of(page, i), first);
			}
			whole += seen == GROUP;
			later += cluster_volume(c, 1)->applied > before;
		}
		volume_still_free(s);
		cluster_converge(c);
		cluster_free(c);
	}
	if (test_seed_count(8) >= 8) {
		assert_true(whole > 40);
		assert_true(later > 100);
	}
}

/* b has fallen out of a's journal and is resynced, slowly. */
static void a_still_taken_in_a_resync_shows_the_moment_before_it_until_that_is_over(void **state)
{
	struct cluster_options o = options_of_still(2, MODE_A);
	static uint8_t page[BLOCK_BYTES];
	struct volume_still *s = NULL;
	uint64_t during = 0, lsn;
	struct cluster *c;
	int result = 0;

	(void)state;
	o.resync_rate = 256 << 10;
	o.undo_bytes = o.volume_bytes;
	o.journal_bytes = 2 << 20;
	c = start(&o);
	for (uint64_t i = 1; i <= 5; i++)
		beat_on(c, 0, i);
	cluster_run_for(c, 3 * SECONDS);
	cluster_crash(c, 1, false);
	for (uint64_t i = 6; i <= 9000; i++)
		beat_on(c, 0, i);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (i % 20)
			write_now(c, 0, i * BLOCK_BYTES, BLOCK_BYTES, (int)i);
	cluster_up(c, 1);
	for (unsigned i = 0; i < 400 && result == 0; i++) {
		cluster_run_for(c, 20 * MILLISECONDS);
		if (!s && !cluster_open_result(c, 1) && resync_running(cluster_volume(c, 1)))
			s = still_on(c, 1, BLOCKS, keep_all);
		if (!s)
			continue;
		result = look(c, volume_still_blocks(s), i % GROUP * 20, page);
		during += result == 0;
		assert_true(result || beat_of(page, i % GROUP) == 5);
	}
	assert_true(during > 20);
	assert_int_equal(result, -ESTALE);	/* it is over */
	assert_false(resync_running(cluster_volume(c, 1)));
	assert_int_equal(volume_still_take(s, &lsn), 0);
	assert_int_equal(look(c, volume_still_blocks(s), 20, page), 0);
	assert_int_equal(beat_of(page, 1), 9000);
	volume_still_free(s);
	cluster_converge(c);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_still_shows_each_block_as_it_was_or_says_that_it_cannot),
	cmocka_unit_test(a_still_without_room_says_so_and_can_be_taken_anew),
	cmocka_unit_test(a_still_of_a_follower_is_one_moment_while_its_log_goes_on),
	cmocka_unit_test(a_still_taken_in_a_resync_shows_the_moment_before_it_until_that_is_over),
};
TEST_GROUP(volume_still, tests)
