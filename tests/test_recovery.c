/* SPDX-License-Identifier: Apache-2.0 */
/* A node that was killed opens its replica again: each row of what may end the scan of its journal, and each file
 * that is not what the config says. A refusal names the object and leaves every disk as it was. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checksum.h"
#include "sim/world_probe.h"
#include "volume_private.h"

enum { DISKS = 3, VOLUME_BYTES = 1 << 20, SEGMENT = 64 << 10 };

struct rig {
	struct world *world;
	struct machine *machine;
	struct volume_config config;
	struct volume *volume;
	struct volume_call call;
	struct volume_request request;
	bool busy;
	int result;
	bool free_when_done;
	uint8_t *buffer;
	uint8_t *model;			/* after each write of the rig */
	uint8_t *before[DISKS];		/* what was on the disks */
	struct position end;		/* of the log, when it was killed */
	uint64_t reach, tail;
};

static bool rig_is_busy(void *context) { return ((struct rig *)context)->busy; }

static void rig_called(struct volume_call *call, int result)
{
	struct rig *r = container_of(call, struct rig, call);

	r->busy = false;
	r->result = result;
	if (r->free_when_done) {
		volume_free(r->volume);
		r->volume = NULL;
	}
}

static void rig_answered(struct volume_request *request, int result)
{
	struct rig *r = container_of(request, struct rig, request);

	r->busy = false;
	r->result = result;
}

static int rig_wait(struct rig *r)
{
	assert_true(world_run_while(r->world, rig_is_busy, r, 100 * SECONDS));
	return r->result;
}

static struct rig *rig_new(uint32_t block)
{
	struct rig *r = calloc(1, sizeof *r);
	struct geometry g = { .uuid = { 9, 8, 7, 6 }, .volume_bytes = VOLUME_BYTES, .journal_bytes = 8 * SEGMENT,
			      .segment_bytes = SEGMENT, .journal_block = block, .node = "a" };
	static uint8_t meta[META_BYTES], header[JOURNAL_HEADER_BYTES];

	r->world = world_new(test_seed_first(1));
	r->machine = world_machine(r->world, "a");
	r->config = (struct volume_config){ .geometry = g, .name = "v", .memory_bytes = 7 << 20, .min_copies = 1,
					    .peer_timeout_ns = SECONDS };
	r->config.store = machine_disk(r->machine, g.volume_bytes);
	r->config.journal = machine_disk(r->machine, JOURNAL_HEADER_BYTES + g.journal_bytes);
	r->config.meta = machine_disk(r->machine, META_BYTES);
	r->config.bitmap = machine_disk(r->machine, replica_bitmap_bytes(&g));
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		r->config.undo[i] = machine_disk(r->machine, replica_undo_bytes(&g));
	replica_format(&g, meta, header);
	machine_disk_write_now(r->machine, r->config.meta, 0, meta, sizeof meta);
	machine_disk_write_now(r->machine, r->config.journal, 0, header, sizeof header);
	assert_int_equal(posix_memalign((void **)&r->buffer, 4096, VOLUME_BYTES), 0);
	r->model = calloc(1, VOLUME_BYTES);
	return r;
}

static void rig_free(struct rig *r)
{
	world_free(r->world);
	for (unsigned i = 0; i < DISKS; i++)
		free(r->before[i]);
	free(r->buffer);
	free(r->model);
	free(r);
}

static int rig_open(struct rig *r)
{
	char why[WHY_BYTES];

	assert_int_equal(volume_new(&r->volume, machine_io(r->machine), &r->config, why), 0);
	r->busy = true;
	r->call = (struct volume_call){ .done = rig_called };
	volume_open(r->volume, &r->call);
	return rig_wait(r);
}

static int rig_promote(struct rig *r)
{
	r->busy = true;
	r->call = (struct volume_call){ .done = rig_called, .force = true };
	volume_promote(r->volume, &r->call);
	return rig_wait(r);
}

static int rig_request(struct rig *r, enum volume_op op, uint64_t offset, uint64_t len, unsigned flags)
{
	r->busy = true;
	r->request = (struct volume_request){ .op = op, .offset = offset, .len = len, .flags = flags,
					      .buffer = r->buffer, .done = rig_answered };
	volume_submit(r->volume, &r->request);
	return rig_wait(r);
}

static void rig_write(struct rig *r, uint64_t offset, uint64_t len, uint8_t value)
{
	memset(r->buffer, value, len);
	memset(r->model + offset, value, len);
	assert_int_equal(rig_request(r, VOLUME_WRITE, offset, len, VOLUME_FUA), 0);
}

static void rig_kill(struct rig *r)
{
	r->end = r->volume->log.closed;
	r->reach = r->volume->meta.saved_reach;
	r->tail = r->volume->journal.tail;
	machine_crash(r->machine, false);
	machine_boot(r->machine);
	r->volume = NULL;
}

/* A primary with some writes behind it, killed while the log above `reach` is only in the journal. */
static struct rig *rig_killed(uint32_t block)
{
	struct rig *r = rig_new(block);

	assert_int_equal(rig_open(r), 0);
	assert_int_equal(rig_promote(r), 0);
	for (unsigned i = 0; i < 5; i++)
		rig_write(r, 10000 * i, 5000, (uint8_t)(i + 1));
	world_run_for(r->world, 4 * SECONDS);
	assert_true(r->volume->journal.tail > 0);
	for (unsigned i = 5; i < 9; i++)
		rig_write(r, 10000 * i + 3, 5000, (uint8_t)(i + 1));
	rig_kill(r);
	assert_true(r->end.lsn > r->reach);
	return r;
}

/* One that was killed in the middle of a destage: the store may hold all of the log. */
static struct rig *rig_killed_below_reach(void)
{
	struct disk_fault fault = { .kinds = 1u << IO_SYNC, .error = -EIO };
	struct rig *r = rig_new(512);

	assert_int_equal(rig_open(r), 0);
	assert_int_equal(rig_promote(r), 0);
	for (unsigned i = 0; i < 5; i++)
		rig_write(r, 10000 * i, 5000, (uint8_t)(i + 1));
	machine_disk_fail(r->machine, r->config.store, &fault);
	world_run_for(r->world, 4 * SECONDS);
	assert_int_equal(r->volume->failed, -EIO);
	rig_kill(r);
	machine_disk_fail(r->machine, r->config.store, NULL);
	assert_true(r->reach == r->end.lsn && r->tail < r->reach);
	return r;
}

static void *rig_journal(struct rig *r, uint64_t lsn)
{
	return (void *)(uintptr_t)(machine_disk_data(r->machine, r->config.journal) +
				   journal_place(&r->config.geometry, lsn));
}

static void rig_plant(struct rig *r, uint64_t lsn, const void *bytes, uint64_t len)
{
	machine_disk_write_now(r->machine, r->config.journal, journal_place(&r->config.geometry, lsn), bytes, len);
}

static void disks_remember(struct rig *r)
{
	const int disks[DISKS] = { r->config.store, r->config.journal, r->config.meta };

	for (unsigned i = 0; i < DISKS; i++) {
		uint64_t size = machine_disk_size(r->machine, disks[i]);

		r->before[i] = realloc(r->before[i], size);
		memcpy(r->before[i], machine_disk_data(r->machine, disks[i]), size);
	}
}

static void assert_disks_unchanged(struct rig *r)
{
	const int disks[DISKS] = { r->config.store, r->config.journal, r->config.meta };

	for (unsigned i = 0; i < DISKS; i++)
		assert_memory_equal(r->before[i], machine_disk_data(r->machine, disks[i]),
				    machine_disk_size(r->machine, disks[i]));
}

static void assert_refused(struct rig *r, const char *object, const char *says)
{
	int result;

	disks_remember(r);
	result = rig_open(r);
	if (result == 0)
		fail_msg("it opened, and should say \"%s\"", says);
	if (strncmp(r->call.why, object, strlen(object)) != 0 || !strstr(r->call.why, says))
		fail_msg("\"%s\" does not begin with %s and say \"%s\"", r->call.why, object, says);
	world_run_for(r->world, 3 * SECONDS);
	assert_disks_unchanged(r);
	volume_free(r->volume);
	assert_int_equal(machine_memory(r->machine), 0);
}

/* It opens, its log ends there, and once it is primary its readers see all of it. */
static void assert_open_ends_at(struct rig *r, uint64_t end)
{
	int result = rig_open(r);

	if (result)
		fail_msg("refused: %s", r->call.why);
	assert_int_equal(r->volume->log.closed.lsn, end);
	assert_int_equal(rig_promote(r), 0);
	assert_int_equal(rig_request(r, VOLUME_READ, 0, VOLUME_BYTES, 0), 0);
	assert_memory_equal(r->buffer, r->model, VOLUME_BYTES);
}

/* It can be written on, killed and opened again. */
static void assert_goes_on(struct rig *r)
{
	rig_write(r, 500000, 9000, 0x99);
	rig_kill(r);
	assert_open_ends_at(r, r->end.lsn);
}

/* ---- the end of the log ---- */

static void recovery_of_a_killed_node_has_every_acknowledged_write(void **state)
{
	(void)state;
	for (uint32_t block = 512; block <= 4096; block *= 8) {
		struct rig *r = rig_killed(block);

		assert_open_ends_at(r, r->end.lsn);
		assert_goes_on(r);
		rig_free(r);
	}
}

static void recovery_after_laps_ends_at_the_record_of_an_earlier_lap(void **state)
{
	struct rig *r = rig_new(512);

	(void)state;
	assert_int_equal(rig_open(r), 0);
	assert_int_equal(rig_promote(r), 0);
	for (unsigned i = 0; i < 500; i++) {
		const struct position *end = &r->volume->log.closed;

		rig_write(r, 4000 * (i % 200), 5000, (uint8_t)i);
		if (end->lsn > 3 * r->config.geometry.journal_bytes &&
		    record_look(rig_journal(r, end->lsn), 512, end, &r->config.geometry) == RECORD_STALE)
			break;
	}
	rig_kill(r);
	assert_int_equal(record_look(rig_journal(r, r->end.lsn), 512, &r->end, &r->config.geometry), RECORD_STALE);
	assert_open_ends_at(r, r->end.lsn);
	assert_goes_on(r);
	rig_free(r);
}

static void recovery_ends_before_a_torn_tail_and_gives_up_its_whole_batch(void **state)
{
	(void)state;
	/* What was never acknowledged stands behind the end, torn at any sector. */
	for (unsigned sector = 0; sector < 10; sector++) {
		struct rig *r = rig_killed(512);
		uint64_t end = r->end.lsn;
		uint8_t *zeros = calloc(1, 512), *old = malloc(VOLUME_BYTES);

		assert_int_equal(rig_open(r), 0);
		assert_int_equal(rig_promote(r), 0);
		end = r->volume->log.closed.lsn;
		memcpy(old, r->model, VOLUME_BYTES);
		rig_write(r, 700001, 5000, 0x77);
		memcpy(r->model, old, VOLUME_BYTES);
		rig_kill(r);
		rig_plant(r, end + 512 * sector, zeros, 512);
		assert_open_ends_at(r, end);
		assert_goes_on(r);
		free(zeros);
		free(old);
		rig_free(r);
	}
}

/* Three records of one batch; the second one's header lies across two sectors, and the second sector is lost. */
static void recovery_ends_before_a_header_that_is_torn_between_two_sectors(void **state)
{
	(void)state;
	for (unsigned kept = 8; kept < RECORD_HEADER_BYTES; kept += 8) {
		struct rig *r = rig_killed(512);
		struct log log = { 0 };
		struct record_draft draft = { .kind = RECORD_DATA, .annotation = r->buffer };

		/* A batch as the primary would have made it, in a log of its own. */
		assert_int_equal(log_new(&log, machine_io(r->machine), &r->config.geometry, 2 * SEGMENT), 0);
		log_start_at(&log, &r->end);
		log.epoch = 1;
		draft.annotation_len = 512 - 2 * RECORD_HEADER_BYTES + (RECORD_HEADER_BYTES - kept);
		log_append(&log, &draft, 1);
		log_append(&log, &draft, 1);
		log_close(&log);
		assert_int_equal(512 - (r->end.lsn + RECORD_HEADER_BYTES + draft.annotation_len) % 512, kept);
		rig_plant(r, r->end.lsn, log_at(&log, r->end.lsn), 512);
		log_delete(&log, machine_io(r->machine));
		assert_open_ends_at(r, r->end.lsn);
		rig_free(r);
	}
}

static void recovery_ends_before_a_record_that_does_not_follow(void **state)
{
	struct rig *r = rig_killed(512);
	struct log log;
	struct record_draft draft = { .kind = RECORD_DATA };
	struct position other = r->end;

	(void)state;
	other.hash[0] ^= 1;
	assert_int_equal(log_new(&log, machine_io(r->machine), &r->config.geometry, 2 * SEGMENT), 0);
	log_start_at(&log, &other);
	log_append(&log, &draft, 1);
	log_close(&log);
	rig_plant(r, r->end.lsn, log_at(&log, r->end.lsn), 512);
	log_delete(&log, machine_io(r->machine));
	assert_open_ends_at(r, r->end.lsn);
	assert_goes_on(r);
	rig_free(r);
}

/* ---- refusals of the scan ---- */

/* A record as it would stand at @at, changed and sealed again. */
static void record_plant(struct rig *r, const struct position *at, void (*change)(struct record_header *h))
{
	uint8_t bytes[512] = { 0 };
	struct record_header *h = (void *)bytes;

	*h = (struct record_header){
		.magic = to_le32(RECORD_MAGIC), .version = to_le16(RECORD_VERSION), .kind = to_le16(RECORD_DATA),
		.lsn = to_le64(at->lsn), .epoch = to_le64(1), .length = to_le32(512), .annotation_len = to_le32(440),
		.volume_tag = to_le32(record_volume_tag(&r->config.geometry)),
	};
	memcpy(h->hash, at->hash, HASH_BYTES);
	change(h);
	h->crc = to_le32(checksum_crc(checksum_crc(0, h, offsetof(struct record_header, crc)), h + 1, 440));
	rig_plant(r, at->lsn, bytes, 512);
}

static void make_foreign(struct record_header *h) { h->volume_tag = to_le32(1); }
static void make_newer(struct record_header *h) { h->version = to_le16(2); }
static void make_bad(struct record_header *h) { h->kind = to_le16(9); }

/* Where replay starts, with its hash. */
static struct position tail_of(struct rig *r)
{
	struct position at = { .lsn = r->tail };

	memcpy(at.hash, ((const struct record_header *)rig_journal(r, r->tail))->hash, HASH_BYTES);
	return at;
}

static void recovery_refuses_newer_and_bad_records_that_follow_wherever_they_stand(void **state)
{
	static const struct { void (*make)(struct record_header *); const char *says; } rows[] = {
		{ make_newer, "newer program" }, { make_bad, "damaged" },
	};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned below = 0; below < 2; below++) {
			struct rig *r = below ? rig_killed_below_reach() : rig_killed(512);
			struct position at = below ? tail_of(r) : r->end;

			record_plant(r, &at, rows[i].make);
			assert_refused(r, "journal:", rows[i].says);
			rig_free(r);
		}
	}
}

/* Bytes behind the end of the log may be what a client wrote: they must not keep its node from opening. */
static void recovery_takes_another_volumes_record_for_the_end_of_the_log(void **state)
{
	struct rig *r = rig_killed(512);

	(void)state;
	record_plant(r, &r->end, make_foreign);
	assert_open_ends_at(r, r->end.lsn);
	rig_free(r);
	r = rig_killed_below_reach();
	record_plant(r, &(struct position[]){ tail_of(r) }[0], make_foreign);
	assert_refused(r, "journal: damaged", "replace this replica");
	rig_free(r);
}

/* As when the power goes before the tick at which meta learns how far the journal is durable. */
static void meta_forgets_durable(struct rig *r)
{
	static struct history history;
	static uint8_t slot[META_SLOT_BYTES];
	struct meta m = { .geometry = &r->config.geometry, .history = &history };
	char why[WHY_BYTES];

	assert_int_equal(meta_load(&m, machine_disk_data(r->machine, r->config.meta), why), 0);
	m.durable = 0;
	meta_encode(&m, m.generation, slot);
	machine_disk_write_now(r->machine, r->config.meta, m.generation % 2 * META_SLOT_BYTES, slot, sizeof slot);
}

static void recovery_refuses_a_log_that_ends_below_what_the_store_may_hold(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct rig *r = rig_killed_below_reach();
		struct position at = tail_of(r), wrong = at;
		uint8_t zeros[512] = { 0 }, rot = 0x42;

		if (i >= 4)
			meta_forgets_durable(r);
		switch (i % 4) {
		case 0:		/* torn */
			rig_plant(r, at.lsn + 100, &rot, 1);
			break;
		case 1:		/* nothing */
			rig_plant(r, at.lsn, zeros, sizeof zeros);
			break;
		case 2:		/* of an earlier lap */
			wrong.lsn += 8 * SEGMENT;
			((struct record_header *)rig_journal(r, at.lsn))->lsn = to_le64(wrong.lsn);
			break;
		case 3:		/* the last record of what is needed */
			rig_plant(r, r->reach - 1536, zeros, sizeof zeros);
			break;
		}
		assert_refused(r, "journal: damaged", "replace this replica");
		rig_free(r);
	}
}

/* Not the end of the log: what stands behind was durable, and acknowledged. */
static void recovery_refuses_a_journal_that_lost_a_block_of_what_was_durable(void **state)
{
	struct rig *r = rig_new(512);
	uint8_t zeros[512] = { 0 };
	uint64_t middle;

	(void)state;
	assert_int_equal(rig_open(r), 0);
	assert_int_equal(rig_promote(r), 0);
	rig_write(r, 4096, 9000, 0x11);
	middle = r->volume->log.closed.lsn;
	for (unsigned i = 0; i < 4; i++)
		rig_write(r, 40960 * (i + 1), 9000, (uint8_t)(0x20 + i));
	world_run_for(r->world, 300 * MILLISECONDS);
	rig_kill(r);
	rig_plant(r, middle, zeros, sizeof zeros);
	assert_refused(r, "journal: damaged", "was durable up to");
	rig_free(r);
}

/* ---- files that are not what the config says ---- */

static void recovery_refuses_another_volumes_journal(void **state)
{
	struct rig *r = rig_killed(512);
	struct geometry other = r->config.geometry;
	struct journal_header header;

	(void)state;
	other.uuid[3] ^= 1;
	journal_header_format(&other, &header);
	machine_disk_write_now(r->machine, r->config.journal, 0, &header, sizeof header);
	assert_refused(r, "journal:", "another volume");
	memset(&header, 0, sizeof header);
	machine_disk_write_now(r->machine, r->config.journal, 0, &header, sizeof header);
	assert_refused(r, "journal:", "not a Holdfast journal");
	rig_free(r);
}

static void recovery_refuses_garbage_for_meta(void **state)
{
	struct rig *r = rig_killed(512);

	(void)state;
	memset(r->buffer, 0xa5, META_BYTES);
	machine_disk_write_now(r->machine, r->config.meta, 0, r->buffer, META_BYTES);
	assert_refused(r, "meta:", "neither of its two copies is whole");
	rig_free(r);
}

static void recovery_refuses_files_that_are_too_short(void **state)
{
	struct rig *r = rig_killed(512);

	(void)state;
	r->config.meta = machine_disk(r->machine, META_BYTES / 2);
	assert_refused(r, "meta:", "too short");
	rig_free(r);
}

/* The header is there and the ring is cut off. */
static void recovery_refuses_a_journal_that_is_shorter_than_its_ring(void **state)
{
	struct rig *r = rig_killed(512);
	uint64_t shorter = JOURNAL_HEADER_BYTES + 4 * SEGMENT;
	int journal = machine_disk(r->machine, shorter);

	(void)state;
	machine_disk_write_now(r->machine, journal, 0, machine_disk_data(r->machine, r->config.journal), shorter);
	r->config.journal = journal;
	assert_refused(r, "journal:", "short");
	rig_free(r);
}

static void recovery_refuses_a_config_of_another_size_or_node(void **state)
{
	struct rig *r = rig_killed(512);
	struct geometry good = r->config.geometry;

	(void)state;
	r->config.geometry.volume_bytes *= 2;
	assert_refused(r, "meta:", "size");
	r->config.geometry = good;
	r->config.geometry.journal_bytes /= 2;
	assert_refused(r, "meta:", "journal-size");
	r->config.geometry = good;
	strcpy(r->config.geometry.node, "b");
	assert_refused(r, "meta:", "another node");
	r->config.geometry = good;
	assert_open_ends_at(r, r->end.lsn);
	rig_free(r);
}

static void recovery_refuses_when_a_disk_cannot_be_read_or_synced(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct rig *r = rig_killed(512);
		struct disk_fault fault = { .kinds = i >= 3 ? 1u << IO_SYNC : 1u << IO_READ, .error = -EIO,
					    .after = i == 2 };
		bool meta = i == 0 || i == 4;

		machine_disk_fail(r->machine, meta ? r->config.meta : r->config.journal, &fault);
		assert_refused(r, meta ? "meta:" : "journal:", "failed");
		rig_free(r);
	}
}

/* ---- what the callers of open and close may do in done() ---- */

static void listen_refused_after_replay(void)
{
	struct rig *r = rig_killed_below_reach();
	int socket;

	assert_int_equal(machine_io(r->machine)->listen(machine_io(r->machine), "a:1", &socket), 0);
	strcpy(r->config.listen, "a:1");
	r->free_when_done = true;
	assert_int_equal(rig_open(r), -EADDRINUSE);
	assert_non_null(strstr(r->call.why, "a:1"));
	world_run_for(r->world, SECONDS);
	assert_int_equal(machine_memory(r->machine), 0);
	rig_free(r);
}

static void flush_answered(struct volume_request *request, int result)
{
	assert_int_equal(result, -ESHUTDOWN);
	request->len = 1;
}

/* At every event of a close. */
static void request_while_closing(void)
{
	for (unsigned step = 0; step < 400; step++) {
		struct volume_request flush = { .op = VOLUME_FLUSH, .done = flush_answered };
		struct rig *r = rig_killed(512);

		assert_int_equal(rig_open(r), 0);
		r->free_when_done = true;
		r->busy = true;
		r->call = (struct volume_call){ .done = rig_called };
		volume_close(r->volume, &r->call);
		for (unsigned i = 0; i < step && r->busy; i++)
			world_step(r->world);
		if (!r->busy)
			step = 400;	/* it was closed before */
		else
			volume_submit(r->volume, &flush);
		world_run_for(r->world, SECONDS);
		rig_free(r);
	}
}

static void assert_child_ends_well(void (*run)(void))
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void recovery_refused_by_listen_lets_the_volume_be_freed_in_done(void **state)
{
	(void)state;
	assert_child_ends_well(listen_refused_after_replay);
}

static void recovery_close_lets_the_volume_be_freed_in_done_whatever_is_asked_meanwhile(void **state)
{
	(void)state;
	assert_child_ends_well(request_while_closing);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(recovery_of_a_killed_node_has_every_acknowledged_write),
	cmocka_unit_test(recovery_after_laps_ends_at_the_record_of_an_earlier_lap),
	cmocka_unit_test(recovery_ends_before_a_torn_tail_and_gives_up_its_whole_batch),
	cmocka_unit_test(recovery_ends_before_a_header_that_is_torn_between_two_sectors),
	cmocka_unit_test(recovery_ends_before_a_record_that_does_not_follow),
	cmocka_unit_test(recovery_refuses_newer_and_bad_records_that_follow_wherever_they_stand),
	cmocka_unit_test(recovery_takes_another_volumes_record_for_the_end_of_the_log),
	cmocka_unit_test(recovery_refuses_a_log_that_ends_below_what_the_store_may_hold),
	cmocka_unit_test(recovery_refuses_a_journal_that_lost_a_block_of_what_was_durable),
	cmocka_unit_test(recovery_refuses_another_volumes_journal),
	cmocka_unit_test(recovery_refuses_garbage_for_meta),
	cmocka_unit_test(recovery_refuses_files_that_are_too_short),
	cmocka_unit_test(recovery_refuses_a_journal_that_is_shorter_than_its_ring),
	cmocka_unit_test(recovery_refuses_a_config_of_another_size_or_node),
	cmocka_unit_test(recovery_refuses_when_a_disk_cannot_be_read_or_synced),
	cmocka_unit_test(recovery_refused_by_listen_lets_the_volume_be_freed_in_done),
	cmocka_unit_test(recovery_close_lets_the_volume_be_freed_in_done_whatever_is_asked_meanwhile),
};
TEST_GROUP(recovery, tests)
