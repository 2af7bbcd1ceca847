/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions on a volume: each is there whole, in its place, or not at all; on every node, after any crash. */
#include "blocks_rig.h"

enum { BLOCKS = 256 };

/* What the node's readers see of a block, copied. */
static int look(struct cluster *c, unsigned node, uint64_t block, uint8_t out[BLOCK_BYTES])
{
	struct blocks *blocks = blocks_of(c, node);
	const uint8_t *page;
	int result;

	while ((result = blocks->read(blocks, block, &page)) == -EAGAIN) {
		blocks->abort(blocks);
		wait_ready(c, blocks);
	}
	if (!result)
		memcpy(out, page, BLOCK_BYTES);
	blocks->abort(blocks);
	return result;
}

/* ---- random transactions beside a model ---- */

struct model {
	struct cluster *c;
	uint8_t *bytes, *next;		/* the volume after the last commit, and as the transaction would make it */
	uint64_t *hashes;		/* of `bytes` after each commit */
	uint64_t *lsns;
	unsigned commits, stamps_same;
	uint64_t stamps[BLOCKS];	/* of `stamped`: the blocks when they had these */
	uint8_t *stamped;
	uint8_t payload[BLOCK_BYTES * 3];
};

enum { COMMITS_MAX = 4000, MODEL_BYTES = BLOCKS * BLOCK_BYTES };

static uint64_t bytes_hash(const uint8_t *bytes)
{
	uint64_t hash = 0xcbf29ce484222325ull, word;

	for (uint64_t i = 0; i < MODEL_BYTES; i += sizeof word) {
		memcpy(&word, bytes + i, sizeof word);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 29;
	}
	return hash;
}

static void model_note(struct model *m, uint64_t lsn)
{
	assert_true(m->commits < COMMITS_MAX);
	m->hashes[m->commits] = bytes_hash(m->bytes);
	m->lsns[m->commits++] = lsn;
}

static struct model *model_new(struct cluster *c)
{
	struct model *m = calloc(1, sizeof *m);

	m->c = c;
	m->bytes = calloc(1, MODEL_BYTES);
	m->next = calloc(1, MODEL_BYTES);
	m->stamped = calloc(1, MODEL_BYTES);
	m->hashes = calloc(COMMITS_MAX, sizeof *m->hashes);
	m->lsns = calloc(COMMITS_MAX, sizeof *m->lsns);
	model_note(m, 0);
	return m;
}

static void model_free(struct model *m)
{
	free(m->bytes);
	free(m->next);
	free(m->stamped);
	free(m->hashes);
	free(m->lsns);
	free(m);
}

static int change_some(struct model *m, struct blocks *blocks, uint64_t block, struct world *w)
{
	bool fresh = world_random_below(w, 4) == 0;
	uint8_t *page;
	int result = fresh ? blocks->fresh(blocks, block, &page) : blocks->change(blocks, block, &page);

	if (result)
		return result;
	if (fresh)
		memset(m->next + block * BLOCK_BYTES, 0, BLOCK_BYTES);
	assert_memory_equal(page, m->next + block * BLOCK_BYTES, BLOCK_BYTES);
	for (uint64_t i = world_random_below(w, 50); i; i--) {
		uint64_t from = world_random_below(w, BLOCK_BYTES), len = 1 + world_random_below(w, 40);

		len = from + len > BLOCK_BYTES ? BLOCK_BYTES - from : len;
		memset(page + from, (int)world_random_below(w, 3), len);
	}
	memcpy(m->next + block * BLOCK_BYTES, page, BLOCK_BYTES);
	return 0;
}

static int write_some(struct model *m, struct blocks *blocks, uint64_t block, struct world *w)
{
	uint32_t from = (uint32_t)world_random_below(w, BLOCK_BYTES);
	uint32_t len = 1 + (uint32_t)world_random_below(w, 2 * BLOCK_BYTES);

	for (uint32_t i = 0; i < len; i++)
		m->payload[i] = (uint8_t)(i + block * 7);
	memcpy(m->next + block * BLOCK_BYTES + from, m->payload, len);
	return blocks->write(blocks, block * BLOCK_BYTES + from, m->payload, len);
}

/* One transaction, in which no two calls but change() and read() touch the same block. */
static int transaction(struct model *m, struct blocks *blocks, struct world *w)
{
	uint64_t at = world_random_below(w, 8);
	bool wrote = false;

	memcpy(m->next, m->bytes, MODEL_BYTES);
	for (int result; at + 8 < BLOCKS; at += 1 + world_random_below(w, 60)) {
		const uint8_t *page;

		switch (world_random_below(w, 8)) {
		case 0:
			if (wrote)
				continue;	/* one payload is all that the model has */
			wrote = true;
			result = write_some(m, blocks, at, w);
			at += 3;
			break;
		case 1:
			result = blocks->discard(blocks, at, 2);
			memset(m->next + at * BLOCK_BYTES, 0, 2 * BLOCK_BYTES);
			at += 2;
			break;
		default:
			result = change_some(m, blocks, at, w);
			if (!result)
				result = blocks->read(blocks, at, &page);
			if (!result)
				assert_memory_equal(page, m->next + at * BLOCK_BYTES, BLOCK_BYTES);
			break;
		}
		if (result)
			return result;
	}
	return world_random_below(w, 10) ? 0 : -ECANCELED;
}

/* A block that has the stamp that it had has the bytes that it had. */
static void stamps_check(struct model *m, struct blocks *blocks)
{
	for (uint64_t block = 0; block < BLOCKS; block++) {
		uint8_t *was = m->stamped + block * BLOCK_BYTES;
		const uint8_t *page;
		uint64_t stamp;

		if (blocks->read(blocks, block, &page))
			continue;
		stamp = blocks->stamp(blocks, block);
		if (stamp && stamp == m->stamps[block]) {
			assert_memory_equal(page, was, BLOCK_BYTES);
			m->stamps_same++;
		}
		m->stamps[block] = stamp;
		memcpy(was, page, BLOCK_BYTES);
	}
	blocks->abort(blocks);
}

static void transact(struct model *m, struct world *w)
{
	struct blocks *blocks = blocks_of(m->c, 0);
	uint64_t lsn = 0;
	int result;

	for (;;) {
		result = transaction(m, blocks, w);
		if (!result)
			result = blocks->commit(blocks, "note", 4, &lsn);
		if (result != -EAGAIN)
			break;
		blocks->abort(blocks);
		wait_ready(m->c, blocks);
	}
	if (result) {
		assert_int_equal(result, -ECANCELED);
		blocks->abort(blocks);
		return;
	}
	memcpy(m->bytes, m->next, MODEL_BYTES);
	model_note(m, lsn);
	stamps_check(m, blocks);
}

static void model_check(struct model *m, unsigned node)
{
	uint8_t page[BLOCK_BYTES];

	for (uint64_t block = 0; block < BLOCKS; block++) {
		assert_int_equal(look(m->c, node, block, page), 0);
		assert_memory_equal(page, m->bytes + block * BLOCK_BYTES, BLOCK_BYTES);
	}
}

/* The node has come back: it has what it had after one of the transactions, and none is lost that was durable. */
static void model_find(struct model *m, uint64_t durable)
{
	unsigned before = m->commits;
	uint64_t hash;

	for (uint64_t block = 0; block < BLOCKS; block++)
		assert_int_equal(look(m->c, 0, block, m->bytes + block * BLOCK_BYTES), 0);
	hash = bytes_hash(m->bytes);
	while (m->hashes[m->commits - 1] != hash) {
		m->commits--;
		assert_true(m->commits > 0);
	}
	assert_true(m->commits == before || m->lsns[m->commits] > durable);
}

static void a_transaction_is_there_whole_or_not_at_all_after_any_crash(void **state)
{
	unsigned fell_back = 0;

	(void)state;
	for (uint64_t seed = test_seed_first(1), end = seed + test_seed_count(6); seed < end; seed++) {
		struct cluster_options o = options_of_blocks(1, MODE_A);
		struct cluster *c;
		struct world *w;
		struct model *m;

		o.seed = seed;
		o.journal_bytes = 2 << 20;
		c = start(&o);
		w = cluster_world(c);
		m = model_new(c);
		for (unsigned round = 0; round < 12; round++) {
			bool power = world_random_below(w, 2);
			unsigned before;
			uint64_t durable;

			for (uint64_t i = world_random_below(w, 60); i; i--) {
				transact(m, w);
				if (world_random_below(w, 4) == 0)
					cluster_run_for(c, world_random_below(w, 20 * MILLISECONDS));
			}
			model_check(m, 0);
			durable = cluster_volume(c, 0)->journal.durable;
			before = m->commits;
			cluster_crash(c, 0, power);
			cluster_up(c, 0);
			cluster_run_for(c, 2 * SECONDS);
			assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
			model_find(m, durable);
			memset(m->stamps, 0, sizeof m->stamps);
			fell_back += m->commits < before;
		}
		assert_true(m->stamps_same > 0);
		model_free(m);
		cluster_free(c);
	}
	assert_true(fell_back > 0);
}

/* ---- followers ---- */

/* 0: all say *number; -EAGAIN: not all are in memory. */
static int beat_seen(struct blocks *blocks, uint64_t *number)
{
	uint64_t each;
	const uint8_t *page;
	int result;

	for (unsigned i = 0; i < GROUP; i++) {
		result = blocks->read(blocks, i * 20, &page);
		if (result) {
			blocks->abort(blocks);
			return result;
		}
		memcpy(&each, page + i * 300, sizeof each);
		if (i == 0)
			*number = each;
		assert_int_equal(each, *number);
	}
	blocks->abort(blocks);
	return 0;
}

static void a_follower_shows_whole_transactions_in_their_order(void **state)
{
	(void)state;
	for (uint64_t seed = test_seed_first(1), end = seed + test_seed_count(10); seed < end; seed++) {
		struct cluster_options o = options_of_blocks(2, (enum replication_mode)(seed % 4));
		uint64_t number = 0, last = 0, seen = 0;
		struct cluster *c;

		o.seed = seed;
		c = start(&o);
		for (uint64_t i = 1; i <= 300; i++) {
			struct blocks *b = blocks_of(c, 1);

			beat_on(c, 0, i);
			if (i % 3 == 0)
				cluster_run_for(c, world_random_below(cluster_world(c), 5 * MILLISECONDS));
			if (beat_seen(b, &number))
				continue;
			assert_true(number >= last && number <= i);
			seen += number != last;
			last = number;
		}
		assert_true(seen > 20);
		cluster_run_for(c, 2 * SECONDS);
		while (beat_seen(blocks_of(c, 1), &number) == -EAGAIN)
			wait_ready(c, blocks_of(c, 1));
		assert_int_equal(number, 300);
		cluster_converge(c);
		cluster_free(c);
	}
}

static void a_follower_is_told_of_each_annotation_in_order_and_of_what_has_none(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_C);
	struct told told = { 0 };
	struct cluster *c;
	uint64_t lsn = 0;

	(void)state;
	c = start(&o);
	volume_on_applied(cluster_volume(c, 1), told_of, &told);
	for (unsigned i = 1; i <= 200; i++) {
		struct blocks *a = blocks_of(c, 0);
		uint8_t *page;
		int result;

		do {
			result = a->fresh(a, i, &page);
			if (result == 0) {
				page[0] = (uint8_t)i;
				result = a->commit(a, &i, sizeof i, &lsn);
			}
			if (result == -EAGAIN)
				wait_ready(c, a);
		} while (result == -EAGAIN);
		assert_int_equal(result, 0);
	}
	cluster_run_for(c, 2 * SECONDS);
	assert_int_equal(told.count, 200);
	assert_int_equal(told.unknown, 0);
	assert_int_equal(told.lsn, lsn);
	write_now(c, 0, 0, BLOCK_BYTES, 7);
	cluster_run_for(c, 2 * SECONDS);
	assert_int_equal(told.unknown, 1);
	assert_false(told.wrong);
	cluster_converge(c);
	cluster_free(c);
}

/* b has fallen out of a's journal and is resynced, slowly: it shows what it had until that is over. */
static void a_follower_in_a_resync_shows_the_moment_before_it(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_A);
	struct told told = { 0 };
	uint64_t number = 0, during = 0;
	struct cluster *c;

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
	volume_on_applied(cluster_volume(c, 1), told_of, &told);
	for (unsigned i = 0; i < 400; i++) {
		cluster_run_for(c, 20 * MILLISECONDS);
		if (cluster_open_result(c, 1) || beat_seen(blocks_of(c, 1), &number))
			continue;
		assert_true(number == 5 || number == 9000);
		during += resync_running(cluster_volume(c, 1));
		assert_true(!resync_running(cluster_volume(c, 1)) || number == 5);
	}
	assert_true(during > 20);
	assert_int_equal(number, 9000);
	assert_true(told.unknown >= 2);		/* it began, and was over */
	cluster_converge(c);
	cluster_free(c);
}

/* ---- refusals ---- */

static void what_cannot_be_changed_is_refused_and_nothing_is_half_done(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_C);
	struct blocks *a, *b;
	uint64_t before, lsn = 0;
	uint8_t bytes[BLOCK_BYTES];
	const uint8_t *page;
	struct cluster *c;
	uint8_t *mine;

	(void)state;
	o.volume_bytes = 2 * BLOCKS * BLOCK_BYTES;
	c = start(&o);
	a = blocks_of(c, 0);
	b = blocks_of(c, 1);
	before = cluster_volume(c, 0)->log.end.lsn;
	assert_int_equal(a->count, 2 * BLOCKS);
	assert_int_equal(b->change(b, 1, &mine), -EROFS);
	assert_int_equal(b->fresh(b, 1, &mine), -EROFS);
	assert_int_equal(b->write(b, 0, "x", 1), -EROFS);
	assert_int_equal(b->discard(b, 1, 1), -EROFS);
	assert_int_equal(a->read(a, 2 * BLOCKS, &page), -ERANGE);
	assert_int_equal(a->fresh(a, 2 * BLOCKS, &mine), -ERANGE);
	assert_int_equal(a->discard(a, 2 * BLOCKS - 1, 2), -ERANGE);
	assert_int_equal(a->write(a, 2 * BLOCKS * BLOCK_BYTES - 1, "xy", 2), -ERANGE);
	/* Larger than a record of segments of 256 KiB may be. */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(a->fresh(a, i, &mine), 0);
		memset(mine, 1, BLOCK_BYTES);
	}
	assert_int_equal(a->commit(a, NULL, 0, &lsn), -E2BIG);
	for (unsigned i = 0; i < BLOCKS_CHANGES_MAX; i++)
		assert_int_equal(a->fresh(a, i, &mine), 0);
	assert_int_equal(a->fresh(a, BLOCKS_CHANGES_MAX, &mine), -E2BIG);
	assert_int_equal(a->fresh(a, 0, &mine), 0);
	a->abort(a);
	assert_int_equal(look(c, 0, 3, bytes), 0);
	assert_int_equal(a->fresh(a, 3, &mine), 0);
	assert_int_equal(a->commit(a, "note", 4, &lsn), 0);	/* it is zeros already */
	assert_int_equal(lsn, before);
	assert_int_equal(cluster_volume(c, 0)->log.end.lsn, before);
	cluster_converge(c);
	cluster_free(c);
}

static void what_differs_is_logged_to_the_byte_and_near_ranges_as_one(void **state)
{
	struct cluster_options o = options_of_blocks(1, MODE_A);
	struct cluster *c = start(&o);
	struct blocks *a = blocks_of(c, 0);
	uint8_t page[BLOCK_BYTES], *mine;
	uint64_t before, lsn = 0;

	(void)state;
	assert_int_equal(look(c, 0, 7, page), 0);
	before = cluster_volume(c, 0)->log.end.lsn;
	assert_int_equal(a->change(a, 7, &mine), 0);
	memcpy(mine + 100, "ab", 2);
	memcpy(mine + 110, "cd", 2);	/* 8 equal bytes between: one range of 12 */
	memcpy(mine + 4095, "e", 1);
	mine[2000] = 1;
	mine[2000] = 0;
	assert_int_equal(a->commit(a, "12345678", 8, &lsn), 0);
	assert_int_equal(lsn - before, RECORD_HEADER_BYTES + 2 * sizeof(struct record_delta) + 8 + 16);
	assert_int_equal(look(c, 0, 7, page), 0);
	assert_memory_equal(page + 100, "ab\0\0\0\0\0\0\0\0cd", 12);
	/* A fresh block that is not in memory: zeros, and what is not. */
	assert_null(pool_find(&cluster_volume(c, 0)->pool, 200));
	before = cluster_volume(c, 0)->log.end.lsn;
	assert_int_equal(a->fresh(a, 200, &mine), 0);
	memset(mine + 1000, 7, 24);
	assert_int_equal(a->commit(a, NULL, 0, &lsn), 0);
	assert_int_equal(lsn - before, RECORD_HEADER_BYTES + 2 * sizeof(struct record_delta) + 24);
	assert_int_equal(look(c, 0, 200, page), 0);
	assert_int_equal(page[999] + page[1024], 0);
	assert_int_equal(page[1000], 7);
	assert_int_equal(look(c, 0, 7, page), 0);
	assert_int_equal(page[4095], 'e');
	cluster_free(c);
}

static void a_block_that_cannot_be_read_is_told_and_the_volume_goes_on(void **state)
{
	struct cluster_options o = options_of_blocks(1, MODE_A);
	struct cluster *c = start(&o);
	struct disk_fault bad = { .kinds = 1u << IO_READ, .error = -EIO };
	uint8_t page[BLOCK_BYTES];

	(void)state;
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), &bad);
	assert_int_equal(look(c, 0, 9, page), -EIO);
	assert_int_equal(look(c, 0, 9, page), -EIO);
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), NULL);
	assert_int_equal(look(c, 0, 9, page), 0);
	beat_on(c, 0, 1);
	assert_int_equal(cluster_volume(c, 0)->failed, 0);
	cluster_free(c);
}

static void a_block_that_cannot_be_read_comes_from_a_peer(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_C);
	struct cluster *c = start(&o);
	struct disk_fault bad = { .kinds = 1u << IO_READ, .error = -EIO };
	uint64_t number = 0;

	(void)state;
	beat_on(c, 0, 77);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_CLOSE, false, 0, 10 * SECONDS), 0);
	volume_free(cluster_volume(c, 0));
	cluster_up(c, 0);
	cluster_run_for(c, 5 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
	cluster_run_for(c, 1 * SECONDS);
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), &bad);
	while (beat_seen(blocks_of(c, 0), &number) == -EAGAIN)
		wait_ready(c, blocks_of(c, 0));
	assert_int_equal(number, 77);
	assert_true(cluster_volume(c, 0)->fetches.repaired > 0);
	machine_disk_fail(cluster_machine(c, 0), cluster_disk(c, 0, 's'), NULL);
	cluster_converge(c);
	cluster_free(c);
}

/* ---- acknowledgement ---- */

static void an_ack_waits_for_the_peer_as_a_write_does(void **state)
{
	struct cluster_options o = options_of_blocks(2, MODE_C);
	struct cluster *c = start(&o);
	struct asked *ack;

	(void)state;
	world_cut_both(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1), true);
	beat_on(c, 0, 1);
	ack = ask(c, 0, VOLUME_ACK, 0, 0, 0, 0);
	cluster_run_for(c, 500 * MILLISECONDS);
	assert_false(ack->done);
	world_cut_both(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1), false);
	assert_true(wait_for(c, &ack->done, 10 * SECONDS));
	assert_int_equal(ack->result, 0);
	assert_true(cluster_volume(c, 1)->journal.written >= ack->request.lsn);
	asked_free(ack);
	cluster_converge(c);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_transaction_is_there_whole_or_not_at_all_after_any_crash),
	cmocka_unit_test(a_follower_is_told_of_each_annotation_in_order_and_of_what_has_none),
	cmocka_unit_test(a_follower_shows_whole_transactions_in_their_order),
	cmocka_unit_test(a_follower_in_a_resync_shows_the_moment_before_it),
	cmocka_unit_test(what_cannot_be_changed_is_refused_and_nothing_is_half_done),
	cmocka_unit_test(what_differs_is_logged_to_the_byte_and_near_ranges_as_one),
	cmocka_unit_test(a_block_that_cannot_be_read_is_told_and_the_volume_goes_on),
	cmocka_unit_test(a_block_that_cannot_be_read_comes_from_a_peer),
	cmocka_unit_test(an_ack_waits_for_the_peer_as_a_write_does),
};
TEST_GROUP(volume_blocks, tests)
