/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a stopped replica, read without changing them. That they show what the replica shows once it is open is
 * asked of every node that any simulated cluster opens (sim/cluster_stopped.c); here such clusters are led to where
 * that is hardest, and files are damaged. */
#include "directed.h"
#include "redo.h"
#include "sim/cluster.h"
#include "stopped.h"

/* ---- clusters ---- */

static void looks_add(struct cluster_looks *to, struct cluster *c)
{
	struct cluster_looks from = cluster_looks(c);

	to->compared += from.compared;
	to->replayed += from.replayed;
	to->ahead += from.ahead;
	to->snapshots += from.snapshots;
	to->mixtures += from.mixtures;
}

/* Whoever is struck, and whenever, comes up again. */
static void strike(struct cluster *c, unsigned nodes)
{
	struct world *w = cluster_world(c);
	unsigned node = (unsigned)world_random_below(w, nodes);

	cluster_load(c, world_random_below(w, 200));
	cluster_run_for(c, world_random_below(w, 400 * MILLISECONDS));
	if (cluster_volume(c, node))
		cluster_crash(c, node, world_random_below(w, 3) > 0);
	cluster_run_for(c, world_random_below(w, 200 * MILLISECONDS));
	cluster_up(c, node);
	cluster_run_for(c, world_random_below(w, SECONDS));
	cluster_operate(c);
}

static void stopped_files_show_what_the_node_shows_wherever_power_was_cut(void **state)
{
	struct cluster_looks looks = { 0 };
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++) {
		unsigned nodes = 1 + (unsigned)(first + i) % 3;
		struct cluster_options o = cluster_options_random(first + i, nodes);
		struct cluster *c;

		o.min_copies = 1;
		c = cluster_new(&o);
		for (unsigned node = 0; node < nodes; node++)
			cluster_up(c, node);
		cluster_operate(c);
		for (unsigned round = 0; round < 8; round++)
			strike(c, nodes);
		cluster_converge(c);
		looks_add(&looks, c);
		cluster_free(c);
	}
	if (test_seed_count(40) < 40)
		return;
	assert_true(looks.compared > 300);
	assert_true(looks.replayed > 100);
	assert_true(looks.ahead > 20);
}

/* A resync that is slow enough to be struck again and again. */
static void stopped_files_show_what_was_before_a_resync_that_is_not_over(void **state)
{
	struct cluster_looks looks = { 0 };
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(30); i++) {
		struct cluster_options o = cluster_options_random(first + i, 2);
		struct cluster *c;
		struct world *w;

		o.fall_out = true;
		o.min_copies = 1;
		o.commit = COMMIT_ALL;
		o.undo_bytes = (first + i) % 3 ? o.volume_bytes : 16 * BLOCK_BYTES;
		o.resync_rate = 1 << 20;
		c = start(&o);
		w = cluster_world(c);
		cluster_load(c, 100);
		cluster_run_for(c, world_random_below(w, SECONDS));
		cluster_crash(c, 1, world_random_below(w, 2));
		cluster_load(c, 2 * o.journal_bytes / (CLIENT_BYTES_MAX / 4));
		while (cluster_load_left(c))
			cluster_run_for(c, 100 * MILLISECONDS);
		for (unsigned round = 0; round < 8; round++) {
			cluster_load(c, world_random_below(w, 40));
			cluster_up(c, 1);
			cluster_run_for(c, world_random_below(w, 400 * MILLISECONDS));
			cluster_crash(c, 1, world_random_below(w, 2));
		}
		cluster_converge(c);
		looks_add(&looks, c);
		cluster_free(c);
	}
	if (test_seed_count(30) < 30)
		return;
	assert_true(looks.snapshots > 20);
	assert_true(looks.mixtures > 5);
}

/* ---- the index of the log ---- */

enum { MODEL_BLOCKS = 24, MODEL_BYTES = MODEL_BLOCKS * BLOCK_BYTES, MODEL_DELTAS = 40 };

static void *heap_alloc(struct io *io, size_t bytes, unsigned flags)
{
	(void)io;
	(void)flags;
	return calloc(1, bytes);
}

static void heap_free(struct io *io, void *memory)
{
	(void)io;
	free(memory);
}

static struct io heap = { .alloc = heap_alloc, .free = heap_free };

/* A log of records, one after the other in memory; its LSN is the place. */
struct model { struct world *world; uint8_t *log; uint64_t len; uint8_t store[MODEL_BYTES], now[MODEL_BYTES]; };

static void model_delta(struct model *m, struct record_delta *delta, uint8_t *payload, uint32_t *len)
{
	uint64_t most = world_random_below(m->world, 3) ? 60 : 5 * BLOCK_BYTES, offset, length;
	bool whole = world_random_below(m->world, 3) == 0;
	uint16_t kind = (uint16_t)(DELTA_DATA + world_random_below(m->world, 3));

	offset = whole ? world_random_below(m->world, MODEL_BLOCKS) * BLOCK_BYTES
		       : world_random_below(m->world, MODEL_BYTES);
	length = whole ? (1 + world_random_below(m->world, 4)) * BLOCK_BYTES : 1 + world_random_below(m->world, most);
	length = min_u64(length, MODEL_BYTES - offset);
	*delta = (struct record_delta){ to_le64(offset), to_le32((uint32_t)length), to_le16(kind), { 0 } };
	if (kind != DELTA_DATA) {
		memset(m->now + offset, 0, length);
		return;
	}
	for (uint64_t i = 0; i < length; i++)
		payload[*len + i] = (uint8_t)world_random(m->world);
	memcpy(m->now + offset, payload + *len, length);
	*len += (uint32_t)length;
}

static void model_record(struct model *m)
{
	static struct record_delta deltas[MODEL_DELTAS];
	static uint8_t payload[MODEL_DELTAS * 5 * BLOCK_BYTES];
	uint32_t count = (uint32_t)world_random_below(m->world, MODEL_DELTAS), len = 0, bytes;
	struct record_header *r;

	for (uint32_t i = 0; i < count; i++)
		model_delta(m, &deltas[i], payload, &len);
	bytes = (uint32_t)(sizeof *r + count * sizeof deltas[0] + 16 + round_up(len, 8));
	m->log = realloc(m->log, m->len + bytes);
	r = (void *)(m->log + m->len);
	*r = (struct record_header){ .lsn = to_le64(m->len), .length = to_le32(bytes), .kind = to_le16(RECORD_DATA),
				     .delta_count = to_le32(count), .annotation_len = to_le32(9),
				     .payload_len = to_le32(len) };
	memcpy(r + 1, deltas, count * sizeof deltas[0]);
	memcpy((uint8_t *)(uintptr_t)record_payload(r), payload, len);
	m->len += bytes;
}

static void model_check(struct model *m, const struct redo *redo)
{
	for (uint64_t block = 0; block < MODEL_BLOCKS; block++) {
		uint8_t page[BLOCK_BYTES];
		struct redo_block found;

		memset(page, 0xee, sizeof page);
		redo_find(redo, block, &found);
		assert_false(found.zeros && found.store);
		if (found.store)
			memcpy(page, m->store + block * BLOCK_BYTES, BLOCK_BYTES);
		if (found.zeros)
			memset(page, 0, BLOCK_BYTES);
		for (uint64_t i = 0; i < found.count; i++) {
			const struct redo_piece *piece = &found.pieces[i];

			assert_int_equal(piece->block, block);
			if (piece->zeros)
				memset(page + piece->from, 0, piece->len);
			else
				memcpy(page + piece->from, m->log + piece->at, piece->len);
		}
		assert_memory_equal(page, m->now + block * BLOCK_BYTES, BLOCK_BYTES);
		assert_true(redo_next(redo, block, MODEL_BLOCKS) >= block);
		if (redo_next(redo, block, MODEL_BLOCKS) > block)
			assert_memory_equal(m->store + block * BLOCK_BYTES, m->now + block * BLOCK_BYTES, BLOCK_BYTES);
	}
}

static void redo_makes_of_each_block_what_the_deltas_make_in_order(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(300); i++) {
		struct model m = { .world = world_new(first + i) };
		unsigned records = (unsigned)world_random_below(m.world, 12);
		struct redo redo;

		for (unsigned at = 0; at < MODEL_BYTES; at++)
			m.store[at] = m.now[at] = (uint8_t)world_random(m.world);
		for (unsigned at = 0; at < records; at++)
			model_record(&m);
		redo_init(&redo, &heap);
		for (uint64_t at = 0; at < m.len; at += record_length((void *)(m.log + at)))
			redo_count(&redo, (void *)(m.log + at));
		assert_int_equal(redo_allot(&redo), 0);
		for (uint64_t at = 0; at < m.len; at += record_length((void *)(m.log + at)))
			assert_int_equal(redo_add(&redo, (void *)(m.log + at)), 0);
		assert_int_equal(redo_ready(&redo), 0);
		model_check(&m, &redo);
		redo_delete(&redo);
		free(m.log);
		world_free(m.world);
	}
}

/* A journal full of discards of the same range, as a hostile one may be. */
static void redo_of_a_log_of_discards_only_takes_no_time(void **state)
{
	enum { HOLES = 500, RECORDS = 1000,
	       LENGTH = sizeof(struct record_header) + HOLES * sizeof(struct record_delta) };
	struct record_header *r = calloc(1, LENGTH);
	struct record_delta *deltas = (void *)(r + 1);
	struct redo_block found;
	struct redo redo;

	(void)state;
	r->delta_count = to_le32(HOLES);
	for (unsigned i = 0; i < HOLES; i++)
		deltas[i] = (struct record_delta){ to_le64(i * (uint64_t)BLOCK_BYTES), to_le32(DELTA_RANGE_MAX),
						   to_le16(DELTA_DISCARD), { 0 } };
	redo_init(&redo, &heap);
	for (unsigned i = 0; i < RECORDS; i++)
		redo_count(&redo, r);
	assert_int_equal(redo_allot(&redo), 0);
	for (unsigned i = 0; i < RECORDS; i++) {
		r->lsn = to_le64(i * (uint64_t)LENGTH);
		assert_int_equal(redo_add(&redo, r), 0);
	}
	r->lsn = to_le64(RECORDS * (uint64_t)LENGTH);
	assert_int_equal(redo_add(&redo, r), -EBADMSG);		/* more than was counted */
	assert_int_equal(redo_ready(&redo), 0);
	assert_true(redo.hole_count <= 2 * HOLES);
	redo_find(&redo, DELTA_RANGE_MAX / BLOCK_BYTES + HOLES - 2, &found);
	assert_true(found.zeros && !found.store && found.count == 0);
	redo_find(&redo, DELTA_RANGE_MAX / BLOCK_BYTES + HOLES - 1, &found);
	assert_true(found.store && !found.zeros);
	redo_delete(&redo);
	free(r);
}

/* ---- copies of a replica's files ---- */

enum { COPIES = STOPPED_UNDO + UNDO_SLOTS };

struct copy {
	struct stopped_files files;
	uint8_t *bytes[COPIES];
	uint64_t len[COPIES];
	uint64_t broken;		/* block of the store that cannot be read */
};

static int copy_read(struct stopped_files *files, unsigned file, uint64_t offset, void *out, size_t len)
{
	struct copy *copy = container_of(files, struct copy, files);

	if (offset > copy->len[file] || len > copy->len[file] - offset)
		return -EIO;
	if (file == STOPPED_STORE && offset / BLOCK_BYTES <= copy->broken &&
	    (offset + len - 1) / BLOCK_BYTES >= copy->broken)
		return -EIO;
	memcpy(out, copy->bytes[file] + offset, len);
	return 0;
}

static struct copy *copy_of(struct cluster *c, unsigned node)
{
	static const char disks[COPIES + 1] = "sjm0123";
	struct copy *copy = calloc(1, sizeof *copy);

	copy->files.read = copy_read;
	copy->broken = UINT64_MAX;
	for (unsigned i = 0; i < COPIES; i++) {
		int disk = cluster_disk(c, node, disks[i]);

		copy->len[i] = machine_disk_size(cluster_machine(c, node), disk);
		copy->bytes[i] = malloc(copy->len[i]);
		memcpy(copy->bytes[i], machine_disk_data(cluster_machine(c, node), disk), copy->len[i]);
	}
	return copy;
}

static void copy_free(struct copy *copy)
{
	for (unsigned i = 0; i < COPIES; i++)
		free(copy->bytes[i]);
	free(copy);
}

static int copy_open(struct stopped **out, struct copy *copy, bool force, char why[WHY_BYTES])
{
	const struct stopped_options options = { .force = force };

	return stopped_new(out, &heap, &copy->files, &options, why);
}

/* A node that was killed with blocks 0 to 19 in its journal: 'a' + block % 26; block 20 in part. */
static struct copy *killed(void)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c = start(&o);
	struct copy *copy;

	for (unsigned block = 0; block < 20; block++)
		write_now(c, 0, block * BLOCK_BYTES, BLOCK_BYTES, 'a' + (int)block % 26);
	write_now(c, 0, 20 * BLOCK_BYTES + 100, 50, 'z');
	cluster_crash(c, 0, false);
	copy = copy_of(c, 0);
	cluster_free(c);
	return copy;
}

static void assert_block(struct stopped *s, uint64_t block, uint8_t byte)
{
	uint8_t page[BLOCK_BYTES], want[BLOCK_BYTES];

	memset(want, byte, sizeof want);
	assert_int_equal(stopped_read(s, block, 1, page), 0);
	assert_memory_equal(page, want, BLOCK_BYTES);
}

static void stopped_nothing_can_be_changed(void **state)
{
	struct copy *copy = killed();
	char why[WHY_BYTES];
	struct stopped *s;
	struct blocks *b;
	const uint8_t *page;
	uint8_t *changed;
	uint64_t lsn = 0;

	(void)state;
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	b = stopped_blocks(s);
	assert_int_equal(b->count, (1 << 20) / BLOCK_BYTES);
	assert_int_equal(b->read(b, 7, &page), 0);
	assert_int_equal(page[0], 'h');
	assert_int_equal(b->change(b, 7, &changed), -EROFS);
	assert_int_equal(b->fresh(b, 7, &changed), -EROFS);
	assert_int_equal(b->write(b, 0, "x", 1), -EROFS);
	assert_int_equal(b->discard(b, 0, 1), -EROFS);
	assert_int_equal(b->read(b, b->count, &page), -ERANGE);
	assert_int_equal(b->commit(b, NULL, 0, &lsn), 0);
	assert_true(lsn > 0);
	b->abort(b);
	assert_string_equal(stopped_doubt(s), "");
	stopped_free(s);
	copy_free(copy);
}

static void stopped_a_journal_that_lost_what_was_durable_is_refused_unless_forced(void **state)
{
	struct copy *copy = killed();
	struct stopped_status status;
	char why[WHY_BYTES];
	struct stopped *s;
	uint64_t lsn;

	(void)state;
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	stopped_status(s, &status);
	assert_int_equal(status.history.count, 1);
	assert_string_equal(status.history.epochs[0].node, "a");
	lsn = status.lsn;
	stopped_free(s);
	/* A rotten record in the midst of what meta knows to be durable; the records before it are there. */
	copy->bytes[STOPPED_JOURNAL][JOURNAL_HEADER_BYTES + 200] ^= 1;
	assert_int_equal(copy_open(&s, copy, false, why), -EUCLEAN);
	assert_null(s);
	assert_non_null(strstr(why, "journal: damaged"));
	assert_int_equal(copy_open(&s, copy, true, why), 0);
	assert_non_null(strstr(stopped_doubt(s), "journal: damaged"));
	stopped_status(s, &status);
	assert_true(status.lsn < lsn);
	assert_block(s, 200, 0);
	stopped_free(s);
	/* No journal at all: what the store has. */
	copy->bytes[STOPPED_JOURNAL][0] ^= 1;
	assert_int_equal(copy_open(&s, copy, false, why), -EUCLEAN);
	assert_int_equal(copy_open(&s, copy, true, why), 0);
	assert_true(stopped_doubt(s)[0] != 0);
	stopped_free(s);
	copy_free(copy);
}

/* A long write takes several records, in one batch: with the last one torn, nobody was told of any of them. */
static void stopped_a_torn_batch_is_given_up_whole(void **state)
{
	struct cluster_options o = options_of(1, MODE_A);
	struct cluster *c = start(&o);
	struct stopped_status status;
	struct record_header *last = NULL;
	uint64_t batch = 0, before = 0;
	char why[WHY_BYTES];
	struct stopped *s;
	struct copy *copy;

	(void)state;
	write_now(c, 0, 0, 80 << 10, 'x');
	cluster_crash(c, 0, false);
	copy = copy_of(c, 0);
	cluster_free(c);
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	stopped_status(s, &status);
	stopped_free(s);
	for (uint64_t lsn = 0; lsn < status.lsn; ) {
		struct record_header *r = (void *)(copy->bytes[STOPPED_JOURNAL] + JOURNAL_HEADER_BYTES + lsn);

		if (lsn % 4096 == 0)
			batch = lsn;
		if (lsn > batch && !record_is_pad(r)) {	/* others are in its batch */
			last = r;
			before = batch;
		}
		lsn += record_length(r);
	}
	assert_non_null(last);
	last->wall_ns = to_le64(1);
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	stopped_status(s, &status);
	assert_int_equal(status.lsn, before);
	stopped_free(s);
	copy_free(copy);
}

static void stopped_without_a_whole_copy_of_meta_nothing_is_read(void **state)
{
	struct copy *copy = killed();
	char why[WHY_BYTES];
	struct stopped *s;
	struct stopped_options options = { 0 };
	struct stopped_status status;

	(void)state;
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	stopped_status(s, &status);
	stopped_free(s);
	options.geometry = &status.geometry;
	assert_int_equal(stopped_new(&s, &heap, &copy->files, &options, why), 0);
	stopped_free(s);
	status.geometry.uuid[3] ^= 1;
	assert_int_equal(stopped_new(&s, &heap, &copy->files, &options, why), -EBADMSG);
	assert_non_null(strstr(why, "another volume"));
	copy->bytes[STOPPED_META][100] ^= 1;
	copy->bytes[STOPPED_META][META_SLOT_BYTES + 100] ^= 1;
	assert_int_equal(copy_open(&s, copy, true, why), -EBADMSG);
	assert_non_null(strstr(why, "neither of its two copies"));
	copy->len[STOPPED_META] = 4096;
	assert_int_equal(copy_open(&s, copy, true, why), -EIO);
	assert_non_null(strstr(why, "meta: "));
	copy_free(copy);
}

static void stopped_a_block_that_cannot_be_read_is_named_and_the_others_are_read(void **state)
{
	struct copy *copy = killed();
	uint8_t pages[30 * BLOCK_BYTES];
	struct stopped *s;
	char why[WHY_BYTES];

	(void)state;
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	copy->broken = 25;
	assert_int_equal(stopped_read(s, 0, 30, pages), -EIO);
	assert_non_null(strstr(stopped_why(s), "store: "));
	assert_non_null(strstr(stopped_why(s), "at 8"));	/* blocks 21 to 29 were read at once */
	assert_int_equal(stopped_read(s, 25, 1, pages), -EIO);
	assert_non_null(strstr(stopped_why(s), "4096 bytes at 102400 cannot be read"));
	assert_int_equal(stopped_read(s, 26, 4, pages), 0);
	/* What the journal has whole is not read from the store. */
	copy->broken = 7;
	assert_block(s, 7, 'h');
	copy->broken = 20;
	assert_int_equal(stopped_read(s, 20, 1, pages), -EIO);
	stopped_free(s);
	copy_free(copy);
}

enum { OLD_BLOCKS = 200 };

/* A node in the midst of a resync: what it had before it are OLD_BLOCKS of 'o', and now they are 'n'. */
static struct copy *resyncing(uint64_t undo_bytes)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c;
	struct copy *copy;

	o.fall_out = true;
	o.undo_bytes = undo_bytes;
	o.resync_rate = 100 << 10;
	o.journal_bytes = 1 << 20;
	c = start(&o);
	for (unsigned block = 0; block < OLD_BLOCKS; block++)
		write_now(c, 0, block * BLOCK_BYTES, BLOCK_BYTES, 'o');
	cluster_run_for(c, 3 * SECONDS);
	cluster_crash(c, 1, false);
	for (unsigned i = 0; i < 1000; i++)
		write_now(c, 0, i % OLD_BLOCKS * BLOCK_BYTES, BLOCK_BYTES, 'n');
	cluster_up(c, 1);
	for (unsigned i = 0; i < 5000 && !resync_running(cluster_volume(c, 1)); i++)
		cluster_run_for(c, MILLISECONDS);
	cluster_run_for(c, 3 * SECONDS);
	assert_true(resync_running(cluster_volume(c, 1)));
	cluster_crash(c, 1, false);
	copy = copy_of(c, 1);
	cluster_free(c);
	return copy;
}

static void stopped_in_a_resync_undo_is_read_and_its_damage_refused(void **state)
{
	struct copy *copy = resyncing(1 << 20);
	struct stopped_status status;
	char why[WHY_BYTES];
	struct stopped *s;
	unsigned saved = 0;

	(void)state;
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	stopped_status(s, &status);
	assert_true(status.resync);
	for (unsigned block = 0; block < OLD_BLOCKS; block++) {
		assert_block(s, block, 'o');
		saved += copy->bytes[STOPPED_STORE][block * BLOCK_BYTES] == 'n';
	}
	assert_true(saved > 0);		/* so it is undo that showed them */
	stopped_free(s);
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++)
		copy->bytes[STOPPED_UNDO + slot][undo_saved_offset()] ^= 0x10;
	assert_int_equal(copy_open(&s, copy, false, why), -EUCLEAN);
	assert_non_null(strstr(why, "map of saved blocks is damaged"));
	assert_int_equal(copy_open(&s, copy, true, why), 0);
	assert_true(stopped_doubt(s)[0] != 0);
	stopped_free(s);
	/* Undo has let go of it, so it is over, and meta had no time to hear of that. */
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++)
		memset(copy->bytes[STOPPED_UNDO + slot], 0, META_BYTES);
	assert_int_equal(copy_open(&s, copy, false, why), 0);
	stopped_status(s, &status);
	assert_false(status.resync);
	stopped_free(s);
	copy_free(copy);
}

static void stopped_a_mixture_is_refused_unless_forced(void **state)
{
	struct copy *copy = resyncing(2 * BLOCK_BYTES);
	uint8_t page[BLOCK_BYTES];
	char why[WHY_BYTES];
	struct stopped *s;

	(void)state;
	assert_int_equal(copy_open(&s, copy, false, why), -EUCLEAN);
	assert_non_null(strstr(why, "inconsistent"));
	assert_int_equal(copy_open(&s, copy, true, why), 0);
	assert_non_null(strstr(stopped_doubt(s), "inconsistent"));
	assert_int_equal(stopped_read(s, 3, 1, page), 0);
	stopped_free(s);
	copy_free(copy);
}

/* ---- pages ---- */

enum { LARGE_BLOCKS = 3 * STOPPED_PAGES };

struct large { struct stopped_files files; uint8_t *meta, *header; struct geometry geometry; uint64_t reads; };

static int large_read(struct stopped_files *files, unsigned file, uint64_t offset, void *out, size_t len)
{
	struct large *l = container_of(files, struct large, files);

	l->reads++;
	memset(out, 0, len);
	if (file == STOPPED_META)
		memcpy(out, l->meta + offset, len);
	else if (file == STOPPED_JOURNAL && offset == 0)
		memcpy(out, l->header, len);
	for (size_t i = 0; file == STOPPED_STORE && i < len; i += 8)
		memcpy((uint8_t *)out + i, &(uint64_t){ (offset + i) / BLOCK_BYTES }, 8);
	return 0;
}

static void stopped_pages_of_a_transaction_stay_and_others_make_room(void **state)
{
	struct large l = { .files.read = large_read, .meta = malloc(META_BYTES), .header = malloc(JOURNAL_HEADER_BYTES),
			   .geometry = { .volume_bytes = LARGE_BLOCKS * (uint64_t)BLOCK_BYTES, .node = "a",
					 .journal_bytes = 64 << 20, .segment_bytes = 8 << 20, .journal_block = 4096 } };
	static const uint8_t *pages[STOPPED_PAGES];
	struct world *w = world_new(test_seed_first(1));
	struct stopped_options options = { 0 };
	char why[WHY_BYTES];
	struct stopped *s;
	struct blocks *b;
	const uint8_t *page;
	uint64_t reads;

	(void)state;
	replica_format(&l.geometry, l.meta, l.header);
	assert_int_equal(stopped_new(&s, &heap, &l.files, &options, why), 0);
	b = stopped_blocks(s);
	for (uint64_t block = 0; block < LARGE_BLOCKS; block++) {
		assert_int_equal(b->read(b, block, &page), block < STOPPED_PAGES ? 0 : -E2BIG);
		if (block < STOPPED_PAGES)
			pages[block] = page;
	}
	for (uint64_t block = 0; block < STOPPED_PAGES; block++)
		assert_int_equal(*(const uint64_t *)pages[block], block);
	b->abort(b);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t one = world_random_below(w, LARGE_BLOCKS), two = world_random_below(w, LARGE_BLOCKS);
		const uint8_t *other;

		assert_int_equal(b->read(b, one, &page), 0);
		assert_int_equal(b->read(b, two, &other), 0);
		assert_int_equal(*(const uint64_t *)page, one);
		assert_int_equal(*(const uint64_t *)other, two);
		b->abort(b);
	}
	assert_int_equal(b->read(b, 5, &page), 0);
	reads = l.reads;
	assert_int_equal(b->read(b, 5, &page), 0);
	assert_int_equal(l.reads, reads);
	stopped_free(s);
	world_free(w);
	free(l.meta);
	free(l.header);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(stopped_files_show_what_the_node_shows_wherever_power_was_cut),
	cmocka_unit_test(stopped_files_show_what_was_before_a_resync_that_is_not_over),
	cmocka_unit_test(redo_makes_of_each_block_what_the_deltas_make_in_order),
	cmocka_unit_test(redo_of_a_log_of_discards_only_takes_no_time),
	cmocka_unit_test(stopped_nothing_can_be_changed),
	cmocka_unit_test(stopped_a_journal_that_lost_what_was_durable_is_refused_unless_forced),
	cmocka_unit_test(stopped_a_torn_batch_is_given_up_whole),
	cmocka_unit_test(stopped_without_a_whole_copy_of_meta_nothing_is_read),
	cmocka_unit_test(stopped_a_block_that_cannot_be_read_is_named_and_the_others_are_read),
	cmocka_unit_test(stopped_in_a_resync_undo_is_read_and_its_damage_refused),
	cmocka_unit_test(stopped_a_mixture_is_refused_unless_forced),
	cmocka_unit_test(stopped_pages_of_a_transaction_stay_and_others_make_room),
};
TEST_GROUP(stopped, tests)
