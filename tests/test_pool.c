/* SPDX-License-Identifier: Apache-2.0 */
/* The pool and its destage, with too few pages for the volume, against a flat array of bytes: what readers see,
 * and what a loss of power at any moment leaves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "destage.h"
#include "sim/world_probe.h"

enum {
	SEGMENT = 64 << 10,
	BLOCKS = 96,
	VOLUME_BYTES = BLOCKS * BLOCK_BYTES,
	PAGES = 20,
	DELTAS = 3,
	RECORDS_MAX = 4000
};

struct rig {
	struct world *world;
	struct machine *machine;
	struct geometry geometry;
	struct history history;
	struct log log;
	struct journal journal;
	struct meta meta;
	struct pool pool;
	struct destage destage;
	struct undo undo;	/* nothing records */
	uint64_t applied;
	int store, file, meta_file;
	int load_error;
	uint8_t model[VOLUME_BYTES];
	struct record_header *records[RECORDS_MAX];	/* copies of all DATA, in order */
	unsigned record_count;
	uint64_t seen_durable;
};

static void rig_journal_moved(struct journal *j) { destage_step(&container_of(j, struct rig, journal)->destage); }
static void rig_meta_moved(struct meta *m) { destage_step(&container_of(m, struct rig, meta)->destage); }
static void rig_freed(struct destage *d) { (void)d; }
static void rig_loaded(struct pool *pool, int error)
{
	struct rig *r = container_of(pool, struct rig, pool);

	r->load_error = error ? error : r->load_error;
}

static struct rig *rig_new(uint64_t seed, uint64_t pages)
{
	static const struct position zero;
	static uint8_t meta[META_BYTES], header[JOURNAL_HEADER_BYTES];
	struct rig *r = calloc(1, sizeof *r);
	struct geometry *g = &r->geometry;
	struct io *io;

	r->world = world_new(seed);
	r->machine = world_machine(r->world, "a");
	io = machine_io(r->machine);
	*g = (struct geometry){ .uuid = { 9, 8, 7, 6 }, .volume_bytes = VOLUME_BYTES, .segment_bytes = SEGMENT,
				.journal_bytes = 4 * SEGMENT, .journal_block = seed % 2 ? 512 : 4096, .node = "a" };
	r->store = machine_disk(r->machine, VOLUME_BYTES);
	r->file = machine_disk(r->machine, JOURNAL_HEADER_BYTES + g->journal_bytes);
	r->meta_file = machine_disk(r->machine, META_BYTES);
	replica_format(g, meta, header);
	machine_disk_write_now(r->machine, r->meta_file, 0, meta, sizeof meta);
	assert_int_equal(log_new(&r->log, io, g, 2 * SEGMENT), 0);
	log_start_at(&r->log, &zero);
	r->log.epoch = 1;
	journal_init(&r->journal, io, r->file, g, &r->log, rig_journal_moved);
	journal_start_at(&r->journal, 0, 1ull << 40, 0);
	assert_int_equal(meta_new(&r->meta, io, r->meta_file, g, &r->history, rig_meta_moved), 0);
	r->meta.generation = 1;
	assert_int_equal(pool_new(&r->pool, io, r->store, g, pages, rig_loaded), 0);
	assert_int_equal(destage_new(&r->destage, io, r->store, &r->pool, &r->journal, &r->meta, &r->undo,
				     &r->applied, 2, rig_freed),
			 0);
	return r;
}

static void rig_free(struct rig *r)
{
	world_free(r->world);
	for (unsigned i = 0; i < r->record_count; i++)
		free(r->records[i]);
	free(r);
}

static void image_apply(uint8_t *image, const struct record_header *h)
{
	const struct record_delta *deltas = record_deltas(h);
	const uint8_t *payload = record_payload(h);

	for (uint32_t i = 0; i < from_le32(h->delta_count); i++) {
		uint64_t offset = from_le64(deltas[i].offset), length = from_le32(deltas[i].length);

		if (from_le16(deltas[i].kind) == DELTA_DATA) {
			memcpy(image + offset, payload, length);
			payload += length;
		} else {
			memset(image + offset, 0, length);
		}
	}
}

/* Deltas of odd sizes and any kind, of which no two touch the same block. */
static struct record_draft draft_random(struct rig *r)
{
	static struct record_delta deltas[DELTAS];
	static struct slice slices[DELTAS];
	static uint8_t bytes[8192];
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = deltas, .payload = slices };
	struct world *w = r->world;
	uint64_t part = VOLUME_BYTES / DELTAS, value = world_random(w);

	for (unsigned i = 0; i < sizeof bytes; i += 8, value = value * 6364136223846793005u + 1)
		memcpy(bytes + i, &value, 8);
	for (uint64_t i = 0, count = 1 + world_random_below(w, DELTAS); i < count; i++) {
		uint16_t kind = (uint16_t)(DELTA_DATA + (world_random_below(w, 4) ? 0 : 1 + world_random_below(w, 2)));
		uint64_t most = kind == DELTA_DATA ? 2200 : 40000, length = 1 + world_random_below(w, most);
		uint64_t offset = world_random_below(w, part - 40000);

		if (kind == DELTA_DATA && count == 1 && world_random_below(w, 2)) {	/* a whole block */
			length = BLOCK_BYTES;
			offset = round_down(offset, BLOCK_BYTES);
		}
		if (length > part - offset)
			length = part - offset;
		deltas[i] = (struct record_delta){ to_le64(i * part + offset), to_le32((uint32_t)length), to_le16(kind),
						   { 0 } };
		if (kind == DELTA_DATA)
			slices[draft.slice_count++] =
				(struct slice){ bytes + world_random_below(w, 4000), (uint32_t)length };
		draft.delta_count++;
	}
	return draft;
}

static void rig_close(struct rig *r)
{
	log_close(&r->log);
	r->applied = r->log.end.lsn;
	journal_kick(&r->journal);
}

/* 0, or why not, as volume.c does it. */
static int rig_change(struct rig *r, const struct record_draft *draft)
{
	uint32_t length = log_draft_length(draft);
	const struct record_header *h;
	int result;

	if (!log_has_room(&r->log, length, r->journal.written))
		return -EAGAIN;
	if (!journal_has_room(&r->journal, length))
		return -ENOSPC;
	result = pool_prepare(&r->pool, draft->deltas, draft->delta_count);
	if (result)
		return result;
	log_append(&r->log, draft, 0);
	h = log_record(&r->log, r->log.end.lsn - length);
	pool_apply(&r->pool, record_deltas(h), draft->delta_count, record_payload(h), from_le64(h->lsn),
		   r->log.end.lsn);
	r->applied = r->log.end.lsn;
	image_apply(r->model, h);
	assert_true(r->record_count < RECORDS_MAX);
	r->records[r->record_count] = malloc(length);
	memcpy(r->records[r->record_count++], h, length);
	return 0;
}

/* Page, then hole, then store: what every block reads as. */
static void assert_readers_see_the_model(struct rig *r)
{
	static const uint8_t zeros[BLOCK_BYTES];
	const uint8_t *store = machine_disk_data(r->machine, r->store);

	for (uint64_t block = 0; block < BLOCKS; block++) {
		const struct page *page = pool_find(&r->pool, block);
		const uint8_t *bytes = store + block * BLOCK_BYTES;

		assert_true(!page || page->state != PAGE_FREE);
		if (page && page->state != PAGE_LOADING)
			bytes = page->data;
		else if (!page && pool_in_hole(&r->pool, block))
			bytes = zeros;
		if (memcmp(bytes, r->model + block * BLOCK_BYTES, BLOCK_BYTES) != 0)
			fail_msg("block %llu is not what the model says (%s)", (unsigned long long)block,
				 page ? "page" : bytes == zeros ? "hole" : "store");
	}
}

static void assert_counts_hold(const struct pool *pool)
{
	uint64_t dirty = 0, free_ones = 0, loading = 0, clean = 0;

	for (uint64_t i = 0; i < pool->page_count; i++) {
		const struct page *page = &pool->pages[i];

		dirty += page->state == PAGE_DIRTY;
		free_ones += page->state == PAGE_FREE;
		loading += page->state == PAGE_LOADING;
		clean += page->state == PAGE_CLEAN && !page->writing;
	}
	assert_int_equal(pool->dirty_count, dirty);
	assert_int_equal(pool->free_count, free_ones);
	assert_int_equal(pool->loading_count, loading);
	assert_int_equal(pool->clean_count, clean);
}

/* Changes, batches, rounds and time, by chance. False: the machine crashed. */
static bool rig_run(struct rig *r, unsigned changes)
{
	struct world *w = r->world;
	unsigned tries = 0;

	for (unsigned i = 0; i < changes && tries < 100 * changes + 10000; tries++) {
		struct record_draft draft = draft_random(r);
		int result = -EAGAIN;

		/* A record that has to wait stays the same record. */
		for (unsigned again = 0; again < 3000 && (result == -EAGAIN || result == -ENOSPC); again++) {
			result = rig_change(r, &draft);
			if (result == -ENOSPC || destage_due(&r->destage))
				destage_start(&r->destage);
			if (result == -EAGAIN || result == -ENOSPC) {
				rig_close(r);
				destage_retry(&r->destage);
				world_run_for(w, 20 * MICROSECONDS);
			}
			if (machine_crashed(r->machine))
				return false;
			if (r->destage.failed)
				return true;
		}
		assert_int_equal(result, 0);
		i++;
		if (world_random_below(w, 3) == 0)
			rig_close(r);
		if (world_random_below(w, 6) == 0)
			destage_start(&r->destage);
		if (world_random_below(w, 8) == 0)
			journal_want_durable(&r->journal, r->log.closed.lsn);
		if (world_random_below(w, 2))
			world_run_for(w, world_random_below(w, 300 * MICROSECONDS));
		if (machine_crashed(r->machine))
			return false;
		r->seen_durable = r->journal.durable;
		assert_readers_see_the_model(r);
		if (i % 16 == 0)
			assert_counts_hold(&r->pool);
		assert_true(r->meta.tail.lsn <= r->journal.durable && r->journal.tail <= r->meta.tail.lsn);
	}
	return true;
}

static bool rig_dirty(void *context)
{
	struct rig *r = context;

	if (r->destage.state == DESTAGE_IDLE)
		destage_start(&r->destage);
	return r->destage.state != DESTAGE_IDLE || !destage_quiet(&r->destage) || r->meta.op.in_flight ||
	       journal_busy(&r->journal);
}

static void pool_readers_see_what_was_written_whatever_destage_does(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(12); i++) {
		struct rig *r = rig_new(first + i, PAGES + i);

		assert_true(rig_run(r, 700));
		assert_true(r->destage.rounds > 5);
		rig_close(r);
		assert_true(world_run_while(r->world, rig_dirty, r, 10 * SECONDS));
		assert_false(pool_dirty(&r->pool));
		assert_memory_equal(machine_disk_durable(r->machine, r->store), r->model, VOLUME_BYTES);
		assert_int_equal(r->meta.tail.lsn, r->log.closed.lsn);
		assert_int_equal(r->journal.tail, r->log.closed.lsn);
		assert_counts_hold(&r->pool);
		pool_delete(&r->pool);
		destage_delete(&r->destage);
		meta_delete(&r->meta);
		log_delete(&r->log, machine_io(r->machine));
		assert_int_equal(machine_memory(r->machine), 0);
		rig_free(r);
	}
}

/* What recovery would do: from the tail of meta, good records up to the first that is none. */
static void assert_replay_gives_a_prefix(struct rig *r)
{
	static struct history history;
	static uint8_t image[VOLUME_BYTES], wanted[VOLUME_BYTES];
	const uint8_t *journal = machine_disk_data(r->machine, r->file);
	struct meta meta = { .geometry = &r->geometry, .history = &history };
	struct position at;
	char why[WHY_BYTES];

	if (meta_load(&meta, machine_disk_data(r->machine, r->meta_file), why))
		fail_msg("%s", why);
	at = meta.tail;
	memcpy(image, machine_disk_data(r->machine, r->store), VOLUME_BYTES);
	for (;;) {
		const struct record_header *h = (const void *)(journal + journal_place(&r->geometry, at.lsn));

		if (record_look(h, SEGMENT - at.lsn % SEGMENT, &at, &r->geometry) != RECORD_GOOD)
			break;
		if (!record_is_pad(h))
			image_apply(image, h);
		record_next(h, &at);
	}
	assert_true(at.lsn >= r->seen_durable);
	assert_true(at.lsn >= meta.reach);
	memset(wanted, 0, sizeof wanted);
	for (unsigned i = 0; i < r->record_count && from_le64(r->records[i]->lsn) < at.lsn; i++)
		image_apply(wanted, r->records[i]);
	for (uint64_t block = 0; block < BLOCKS; block++)
		if (memcmp(image + block * BLOCK_BYTES, wanted + block * BLOCK_BYTES, BLOCK_BYTES) != 0)
			fail_msg("seed %llu: block %llu is not the log up to LSN %llu; replayed from %llu, reach %llu",
				 (unsigned long long)world_seed(r->world), (unsigned long long)block,
				 (unsigned long long)at.lsn, (unsigned long long)meta.tail.lsn,
				 (unsigned long long)meta.reach);
}

static void pool_and_journal_give_a_prefix_after_power_loss_at_any_op(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(250); i++) {
		struct rig *r = rig_new(first + i, PAGES);

		machine_crash_at(r->machine, machine_disk_ops(r->machine) + 1 + 7 * i % 900, true);
		rig_run(r, 300);
		if (machine_crashed(r->machine))
			assert_replay_gives_a_prefix(r);
		rig_free(r);
	}
}

static void rig_fail(struct rig *r, unsigned kinds, int error, uint64_t after, uint64_t count)
{
	struct disk_fault fault = { .kinds = kinds, .error = error, .after = after, .count = count };

	machine_disk_fail(r->machine, r->store, &fault);
}

static void destage_waits_for_space_on_a_full_disk_and_goes_on(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct rig *r = rig_new(test_seed_first(30) + i, PAGES);

		rig_fail(r, 1u << IO_WRITE | 1u << IO_ZERO, -ENOSPC, i, 5);
		assert_true(rig_run(r, 300));
		assert_int_equal(r->destage.failed, 0);
		rig_close(r);
		for (unsigned k = 0; k < 10; k++) {
			destage_retry(&r->destage);
			world_run_for(r->world, 100 * MILLISECONDS);
		}
		assert_true(world_run_while(r->world, rig_dirty, r, 10 * SECONDS));
		assert_memory_equal(machine_disk_durable(r->machine, r->store), r->model, VOLUME_BYTES);
		rig_free(r);
	}
}

static void destage_that_failed_changes_nothing_more_and_readers_still_see_all(void **state)
{
	static const unsigned kinds[] = { IO_WRITE, IO_SYNC, IO_PUNCH };

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		struct rig *r = rig_new(test_seed_first(40) + i, PAGES);
		uint64_t tail, ops;

		rig_fail(r, 1u << kinds[i % 3], -EIO, i / 3, 1);
		assert_true(rig_run(r, 600));
		assert_int_equal(r->destage.failed, -EIO);
		assert_readers_see_the_model(r);
		world_run_for(r->world, SECONDS);
		tail = r->journal.tail;
		ops = machine_disk_ops(r->machine);
		destage_start(&r->destage);
		destage_step(&r->destage);
		destage_retry(&r->destage);
		world_run_for(r->world, SECONDS);
		assert_int_equal(machine_disk_ops(r->machine), ops);
		assert_int_equal(r->journal.tail, tail);
		assert_readers_see_the_model(r);
		machine_crash(r->machine, true);
		assert_replay_gives_a_prefix(r);
		rig_free(r);
	}
}

static void pool_gives_up_a_page_that_could_not_be_read(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), PAGES);
	struct record_delta delta = { to_le64(100), to_le32(10), to_le16(DELTA_DATA), { 0 } };

	(void)state;
	rig_fail(r, 1u << IO_READ, -EIO, 0, 1);
	assert_int_equal(pool_prepare(&r->pool, &delta, 1), -EAGAIN);
	world_run_for(r->world, SECONDS);
	assert_int_equal(r->load_error, -EIO);
	assert_null(pool_find(&r->pool, 0));
	assert_counts_hold(&r->pool);
	rig_free(r);
}

static void pool_refuses_a_record_that_it_can_never_hold(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), PAGES);
	struct record_delta delta = { to_le64(0), to_le32((PAGES + 1) * BLOCK_BYTES), to_le16(DELTA_DATA), { 0 } };

	(void)state;
	assert_int_equal(pool_prepare(&r->pool, &delta, 1), -E2BIG);
	delta.length = to_le32(PAGES * BLOCK_BYTES);
	assert_int_equal(pool_prepare(&r->pool, &delta, 1), 0);
	delta.length = to_le32(VOLUME_BYTES);
	delta.kind = to_le16(DELTA_DISCARD);
	assert_int_equal(pool_prepare(&r->pool, &delta, 1), 0);
	rig_free(r);
}

/* All pages but one are dirty; the record changes the clean one twice and needs a page besides. */
static void clean_page_counted_twice(void)
{
	static uint8_t bytes[2 * BLOCK_BYTES];
	struct rig *r = rig_new(1, PAGES);
	struct record_delta one = { to_le64(50 * BLOCK_BYTES), to_le32(8), to_le16(DELTA_DATA), { 0 } };
	struct record_delta all = { to_le64(0), to_le32((PAGES - 1) * BLOCK_BYTES), to_le16(DELTA_DATA), { 0 } };
	struct record_delta both[3] = {
		{ to_le64(50 * BLOCK_BYTES), to_le32(8), to_le16(DELTA_DATA), { 0 } },
		{ to_le64(50 * BLOCK_BYTES + 64), to_le32(8), to_le16(DELTA_DATA), { 0 } },
		{ to_le64(60 * BLOCK_BYTES), to_le32(BLOCK_BYTES), to_le16(DELTA_DATA), { 0 } },
	};
	static uint8_t many[PAGES * BLOCK_BYTES];

	assert_int_equal(pool_prepare(&r->pool, &one, 1), -EAGAIN);	/* block 50 is loaded, and clean */
	world_run_for(r->world, SECONDS);
	assert_int_equal(pool_prepare(&r->pool, &all, 1), 0);
	pool_apply(&r->pool, &all, 1, many, 0, 8);
	if (pool_prepare(&r->pool, both, 3) == 0)
		pool_apply(&r->pool, both, 3, bytes, 8, 16);
	rig_free(r);
}

static void pool_counts_a_page_once_that_a_record_changes_twice(void **state)
{
	int status = 0;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		clean_page_counted_twice();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* As a filesystem's transaction may be: many small changes of few pages. */
static void pool_takes_a_record_of_more_deltas_than_pages(void **state)
{
	struct rig *r = rig_new(test_seed_first(1), PAGES);
	struct record_delta deltas[3 * PAGES];

	(void)state;
	for (unsigned i = 0; i < 3 * PAGES; i++)
		deltas[i] = (struct record_delta){ to_le64(64 * i), to_le32(8), to_le16(DELTA_DATA), { 0 } };
	assert_int_equal(pool_prepare(&r->pool, deltas, 3 * PAGES), -EAGAIN);
	world_run_for(r->world, SECONDS);
	assert_int_equal(pool_prepare(&r->pool, deltas, 3 * PAGES), 0);
	rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(pool_readers_see_what_was_written_whatever_destage_does),
	cmocka_unit_test(pool_and_journal_give_a_prefix_after_power_loss_at_any_op),
	cmocka_unit_test(destage_waits_for_space_on_a_full_disk_and_goes_on),
	cmocka_unit_test(destage_that_failed_changes_nothing_more_and_readers_still_see_all),
	cmocka_unit_test(pool_gives_up_a_page_that_could_not_be_read),
	cmocka_unit_test(pool_refuses_a_record_that_it_can_never_hold),
	cmocka_unit_test(pool_counts_a_page_once_that_a_record_changes_twice),
	cmocka_unit_test(pool_takes_a_record_of_more_deltas_than_pages),
};
TEST_GROUP(pool, tests)
