/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world keeps the contract of io.h, and is as unkind as it says. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "run.h"
#include "sim/world_probe.h"

enum { DISK_BYTES = 1 << 20, SECTORS = DISK_BYTES / SECTOR_BYTES };

/* --- Disks --- */

static _Alignas(4096) uint8_t block[64][4096];

/* Writes at random, syncs at random; returns the trace. */
static uint64_t disk_storm(uint64_t seed)
{
	struct world *w = world_new(seed);
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, DISK_BYTES);
	static struct probe probes[64];
	uint64_t trace;

	memset(probes, 0, sizeof probes);
	for (unsigned i = 0; i < 2000; i++) {
		unsigned slot = (unsigned)world_random_below(w, 64);

		if (!probes[slot].op.in_flight) {
			memset(block[slot], (int)i, sizeof block[slot]);
			probe_start(m, &probes[slot], world_random_below(w, 8) ? IO_WRITE : IO_SYNC,
				    disk, world_random_below(w, SECTORS - 8) * SECTOR_BYTES,
				    block[slot], 4096);
		}
		world_run_for(w, world_random_below(w, 20 * MICROSECONDS));
	}
	trace = world_trace(w);
	world_free(w);
	return trace;
}

static void world_same_seed_gives_the_same_run(void **state)
{
	(void)state;
	assert_true(disk_storm(7) == disk_storm(7));
	assert_true(disk_storm(7) != disk_storm(8));
}

static void world_runs_a_million_events_in_seconds(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	static struct probe probes[256];
	struct timespec start, end;
	double seconds;

	(void)state;
	memset(probes, 0, sizeof probes);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned round = 0; round < 4000; round++) {
		for (unsigned i = 0; i < 256; i++)
			probe_start(m, &probes[i], IO_TIMER, 0, i * 17 % 256 * 1000, NULL, 0);
		world_run_for(w, MILLISECONDS);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
	print_message("%.1f million events/s\n", (double)world_events(w) / seconds / 1e6);
	assert_true(seconds < 20);
	world_free(w);
}

static void disk_ops_overtake_each_other(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, DISK_BYTES);
	struct probe probes[16];
	unsigned inversions = 0;

	(void)state;
	memset(probes, 0, sizeof probes);
	for (unsigned i = 0; i < 16; i++)
		probe_start(m, &probes[i], IO_WRITE, disk, i * 4096, block[i], 4096);
	world_run_for(w, SECONDS);
	for (unsigned i = 0; i < 16; i++) {
		assert_true(probes[i].done);
		assert_int_equal(probes[i].result, 4096);
		inversions += i > 0 && probes[i].order < probes[i - 1].order;
	}
	assert_true(inversions > 0);
	world_free(w);
}

static void disk_synced_writes_survive_and_others_may_be_torn_by_sector(void **state)
{
	unsigned lost = 0, kept = 0, torn = 0;

	(void)state;
	for (uint64_t seed = test_seed_first(1); seed < test_seed_first(1) + test_seed_count(200);
	     seed++) {
		struct world *w = world_new(seed);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, DISK_BYTES);
		const uint8_t *seen = machine_disk_data(m, disk);
		unsigned fresh = 0;

		memset(block[0], 1, 4096);
		memset(block[1], 2, 4096);
		assert_int_equal(probe_run(w, m, IO_WRITE, disk, 0, block[0], 4096, 0), 4096);
		assert_int_equal(probe_run(w, m, IO_WRITE, disk, 8192, block[0], 4096, 0), 4096);
		assert_int_equal(probe_run(w, m, IO_SYNC, disk, 0, NULL, 0, 0), 0);
		assert_int_equal(machine_disk_unsynced(m, disk), 0);
		assert_int_equal(probe_run(w, m, IO_WRITE, disk, 8192, block[1], 4096, 0), 4096);
		assert_int_equal(seen[8192], 2);
		machine_crash(m, false);
		assert_int_equal(seen[8192], 2);	/* the machine did not lose power */
		machine_boot(m);
		machine_crash(m, true);
		for (unsigned i = 0; i < 4096; i++)
			assert_int_equal(seen[i], 1);
		for (unsigned i = 0; i < 8; i++) {
			uint8_t value = seen[8192 + i * SECTOR_BYTES];

			assert_true(value == 1 || value == 2);
			for (unsigned j = 0; j < SECTOR_BYTES; j++)
				assert_int_equal(seen[8192 + i * SECTOR_BYTES + j], value);
			fresh += value == 2;
		}
		assert_memory_equal(seen, machine_disk_durable(m, disk), DISK_BYTES);
		lost += fresh == 0;
		kept += fresh == 8;
		torn += fresh > 0 && fresh < 8;
		world_free(w);
	}
	assert_true(test_seed_count(200) < 200 || (lost > 0 && kept > 0 && torn > 0));
}

static void disk_older_version_of_a_sector_may_be_what_survives(void **state)
{
	unsigned seen_version[4] = { 0 };

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct world *w = world_new(seed);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, DISK_BYTES);

		for (unsigned i = 1; i <= 3; i++) {
			memset(block[0], (int)i, 4096);
			assert_true(probe_run(w, m, IO_WRITE, disk, 0, block[0], 4096, 0) == 4096);
		}
		machine_crash(m, true);
		seen_version[machine_disk_data(m, disk)[0]]++;
		world_free(w);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_true(seen_version[i] > 0);
}

static void disk_sync_covers_only_what_was_complete_when_it_was_submitted(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct world *w = world_new(seed);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, DISK_BYTES);
		struct probe write = { 0 }, sync = { 0 };

		memset(block[0], 5, 4096);
		probe_start(m, &write, IO_WRITE, disk, 0, block[0], 4096);
		probe_start(m, &sync, IO_SYNC, disk, 0, NULL, 0);
		assert_true(world_run_while(w, probe_busy, &sync, SECONDS));
		assert_true(world_run_while(w, probe_busy, &write, SECONDS));
		assert_int_equal(machine_disk_unsynced(m, disk), 1);
		machine_crash(m, true);
		lost += machine_disk_data(m, disk)[0] == 0;
		world_free(w);
	}
	assert_true(lost > 10);
}

static void disk_durable_write_makes_only_itself_durable(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct world *w = world_new(seed);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, DISK_BYTES);
		const uint8_t *seen = machine_disk_data(m, disk);

		memset(block, 1, sizeof block);
		assert_int_equal(probe_run(w, m, IO_WRITE, disk, 0, block, 16384, 0), 16384);
		memset(block, 2, sizeof block);
		assert_true(probe_run(w, m, IO_WRITE, disk, 4096, block, 4096, IO_DURABLE) == 4096);
		assert_int_equal(machine_disk_unsynced(m, disk),
				 2); /* what is left on both sides */
		if (seed % 2) { /* a later sync does not bring the older version back either */
			assert_int_equal(probe_run(w, m, IO_SYNC, disk, 0, NULL, 0, 0), 0);
			assert_int_equal(machine_disk_unsynced(m, disk), 0);
		}
		machine_crash(m, true);
		for (unsigned i = 4096; i < 8192; i++)
			assert_int_equal(seen[i], 2);
		if (seed % 2)
			assert_true(seen[0] == 1 && seen[8192] == 1 && seen[16383] == 1);
		lost += seen[0] == 0 || seen[8192] == 0;
		world_free(w);
	}
	assert_true(lost > 20);
}

/* What a sector may hold after loss of power: what is durable, or any version written since. */
struct sector_model { uint32_t durable, last, since[64]; unsigned count; };

static void sector_model_write(struct sector_model *sector, uint32_t version, bool durable)
{
	sector->last = version;
	if (durable) {
		sector->durable = version;
		sector->count = 0;
	} else {
		assert_true(sector->count < 64);
		sector->since[sector->count++] = version;
	}
}

static void sector_model_crash(struct sector_model *sector, uint32_t seen, bool power)
{
	bool allowed = seen == sector->durable;

	for (unsigned i = 0; i < sector->count; i++)
		allowed |= seen == sector->since[i];
	assert_true(power ? allowed : seen == sector->last);
	if (power)
		*sector = (struct sector_model){ .durable = seen, .last = seen };
}

static void disk_model_run(struct world *w, struct sector_model model[SECTORS], uint8_t *data)
{
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, DISK_BYTES);
	bool power;

	for (uint32_t version = 1; version < 500; version++) {
		uint64_t first = world_random_below(w, 256), count = 1 + world_random_below(w, 32);
		uint64_t draw = world_random_below(w, 16);
		enum io_kind kind = draw < 12   ? IO_WRITE
				    : draw < 13 ? IO_PUNCH
				    : draw < 14 ? IO_ZERO
						: IO_SYNC;
		unsigned flags = draw < 3 ? IO_DURABLE : 0;

		for (uint64_t i = 0; i < count * SECTOR_BYTES; i += 4)
			memcpy(data + i, &version, 4);
		assert_true(probe_run(w, m, kind, disk, first * SECTOR_BYTES, data,
				   count * SECTOR_BYTES, flags) >= 0);
		for (uint64_t i = 0; i < SECTORS && kind == IO_SYNC; i++)
			sector_model_write(&model[i], model[i].last, true);
		for (uint64_t i = first; i < first + count && kind != IO_SYNC; i++)
			sector_model_write(&model[i], kind == IO_WRITE ? version : 0, flags);
		if (world_random_below(w, 30) > 0)
			continue;
		power = world_random_below(w, 2);
		machine_crash(m, power);
		machine_boot(m);
		for (unsigned i = 0; i < SECTORS; i++) {
			uint32_t seen;

			memcpy(&seen, machine_disk_data(m, disk) + i * SECTOR_BYTES, 4);
			sector_model_crash(&model[i], seen, power);
		}
	}
}

static void disk_holds_after_a_crash_what_a_model_allows(void **state)
{
	static struct sector_model model[SECTORS];
	static _Alignas(4096) uint8_t data[16384];

	(void)state;
	for (uint64_t seed = test_seed_first(1); seed < test_seed_first(1) + test_seed_count(40);
	     seed++) {
		struct world *w = world_new(seed);

		memset(model, 0, sizeof model);
		disk_model_run(w, model, data);
		world_free(w);
	}
}

static void disk_write_in_flight_may_be_written_in_part(void **state)
{
	unsigned none = 0, all = 0, part = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 400; seed++) {
		struct world *w = world_new(seed);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, DISK_BYTES);
		struct probe write = { 0 };
		unsigned fresh = 0;

		memset(block[0], 3, 4096);
		probe_start(m, &write, IO_WRITE, disk, 4096, block[0], 4096);
		machine_crash(m, seed % 2);
		assert_false(write.op.in_flight);
		machine_boot(m);
		for (unsigned i = 0; i < 8; i++)
			fresh += machine_disk_data(m, disk)[4096 + i * SECTOR_BYTES] == 3;
		none += fresh == 0;
		all += fresh == 8;
		part += fresh > 0 && fresh < 8;
		world_run_for(w, SECONDS);
		assert_false(write.done);
		world_free(w);
	}
	assert_true(none > 0 && all > 0 && part > 0);
}

static void disk_map_tells_data_from_holes(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, 1ull << 32);
	struct probe map = { 0 };

	(void)state;
	memset(block[0], 1, 4096);
	assert_int_equal(probe_run(w, m, IO_WRITE, disk, 1 << 20, block[0], 4096, 0), 4096);
	assert_int_equal(probe_run(w, m, IO_ZERO, disk, (1 << 20) + 4096, NULL, 1 << 20, 0), 0);
	probe_start(m, &map, IO_MAP, disk, 512, NULL, 1ull << 32);
	world_run_while(w, probe_busy, &map, SECONDS);
	assert_int_equal(map.result, 0);
	assert_int_equal(map.op.extent, (1 << 20) - 512);
	probe_start(m, &map, IO_MAP, disk, 1 << 20, NULL, 1ull << 32);
	world_run_while(w, probe_busy, &map, SECONDS);
	assert_int_equal(map.result, 1);
	assert_int_equal(map.op.extent, (1 << 20) + 4096);
	assert_int_equal(probe_run(w, m, IO_PUNCH, disk, 0, NULL, 1ull << 32, 0), 0);
	probe_start(m, &map, IO_MAP, disk, 0, NULL, 1ull << 32);
	world_run_while(w, probe_busy, &map, SECONDS);
	assert_int_equal(map.result, 0);
	assert_int_equal(map.op.extent, 1ull << 32);
	assert_int_equal(machine_disk_data(m, disk)[1 << 20], 0);
	machine_crash(m, true);
	world_free(w);
}

static void disk_ends_where_it_ends(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, DISK_BYTES);

	(void)state;
	assert_int_equal(probe_run(w, m, IO_READ, disk, DISK_BYTES - 512, block[0], 4096, 0), 512);
	assert_int_equal(probe_run(w, m, IO_READ, disk, DISK_BYTES, block[0], 4096, 0), 0);
	assert_int_equal(probe_run(w, m, IO_WRITE, disk, DISK_BYTES - 512, block[0], 4096, 0),
			 -ENOSPC);
	world_free(w);
}

static void disk_faults_hit_as_told(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, DISK_BYTES);
	unsigned lost = 0;

	(void)state;
	machine_disk_fail(m, disk,
			  &(struct disk_fault){
				  .kinds = 1u << IO_READ, .error = -EIO, .after = 1, .count = 2 });
	assert_int_equal(probe_run(w, m, IO_READ, disk, 0, block[0], 4096, 0), 4096);
	assert_int_equal(probe_run(w, m, IO_WRITE, disk, 0, block[0], 4096, 0), 4096);
	assert_int_equal(probe_run(w, m, IO_READ, disk, 0, block[0], 4096, 0), -EIO);
	assert_int_equal(probe_run(w, m, IO_READ, disk, 0, block[0], 4096, 0), -EIO);
	assert_int_equal(probe_run(w, m, IO_READ, disk, 0, block[0], 4096, 0), 4096);
	machine_disk_fail(m, disk, &(struct disk_fault){ .kinds = 1u << IO_WRITE, .error = -ENOSPC,
							 .offset = 8192, .len = 4096 });
	assert_int_equal(probe_run(w, m, IO_WRITE, disk, 4096, block[0], 4096, 0), 4096);
	assert_int_equal(probe_run(w, m, IO_WRITE, disk, 8192, block[0], 4096, 0), -ENOSPC);
	assert_int_equal(probe_run(w, m, IO_WRITE, disk, 8192, block[0], 4096, 0), -ENOSPC);
	machine_disk_fail(m, disk, NULL);
	assert_int_equal(probe_run(w, m, IO_WRITE, disk, 8192, block[0], 4096, 0), 4096);
	for (unsigned i = 0; i < 100;
	     i++) { /* a later good sync does not save what a failed one lost */
		memset(block[0], (int)(i + 1), 4096);
		assert_int_equal(probe_run(w, m, IO_WRITE, disk, 0, block[0], 4096, 0), 4096);
		machine_disk_fail(
			m, disk,
			&(struct disk_fault){ .kinds = 1u << IO_SYNC, .error = -EIO, .count = 1 });
		assert_int_equal(probe_run(w, m, IO_SYNC, disk, 0, NULL, 0, 0), -EIO);
		assert_int_equal(probe_run(w, m, IO_SYNC, disk, 0, NULL, 0, 0), 0);
		assert_int_equal(machine_disk_data(m, disk)[0], i + 1);
		machine_crash(m, true);
		machine_boot(m);
		lost += machine_disk_data(m, disk)[0] != i + 1;
	}
	assert_true(lost > 0 && lost < 100);
	world_free(w);
}

static void disk_never_brings_back_what_a_failed_sync_lost_over_what_was_synced_later(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct world *w = world_new(seed);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, DISK_BYTES);
		struct disk_fault once = { .kinds = 1u << IO_SYNC, .error = -EIO, .count = 1 };

		machine_disk_fail(m, disk, &once);
		for (unsigned i = 1; i <= 2; i++) {
			memset(block[0], (int)i, 4096);
			assert_true(probe_run(w, m, IO_WRITE, disk, 0, block[0], 4096, 0) == 4096);
			assert_int_equal(probe_run(w, m, IO_SYNC, disk, 0, NULL, 0, 0),
					 i == 1 ? -EIO : 0);
		}
		machine_crash(m, true);
		assert_memory_equal(machine_disk_data(m, disk), block[0], 4096);
		world_free(w);
	}
}

static void disk_power_can_be_cut_at_every_op(void **state)
{
	uint64_t ops = 0;

	(void)state;
	for (uint64_t cut = 0; cut == 0 || cut <= ops; cut++) {
		struct world *w = world_new(3);
		struct machine *m = world_machine(w, "a");
		int disk = machine_disk(m, DISK_BYTES);
		struct probe probes[4];
		bool hit = false;

		memset(probes, 0, sizeof probes);
		machine_crash_at(m, cut, true);
		for (unsigned i = 0; i < 4 && !hit; i++) {
			probe_start(m, &probes[i], i == 3 ? IO_SYNC : IO_WRITE, disk, i * 4096,
				    block[i], 4096);
			if (i % 2)
				hit = !world_run_for(w, SECONDS);
		}
		if (cut == 0)
			ops = machine_disk_ops(m);
		assert_int_equal(hit, cut != 0);
		assert_int_equal(machine_crashed(m), cut != 0);
		assert_int_equal(machine_disk_ops(m), cut ? cut : ops);
		for (unsigned i = 0; cut && i < 4; i++)
			assert_false(probes[i].op.in_flight);
		if (cut)
			machine_boot(m);
		assert_true(world_run_for(w, SECONDS));
		world_free(w);
	}
	assert_int_equal(ops, 8);
}

static void disk_write_whose_buffer_changes_in_flight_stops_the_program(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		struct world *w = world_new(1);
		struct machine *m = world_machine(w, "a");
		struct probe write = { 0 };

		assert_non_null(freopen("/dev/null", "w", stderr));
		signal(SIGABRT, SIG_DFL);
		probe_start(m, &write, IO_WRITE, machine_disk(m, DISK_BYTES), 0, block[0], 4096);
		block[0][100] ^= 1;
		world_run_for(w, SECONDS);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* --- Time, memory, crashes --- */

static void timers_are_in_time_and_soon_is_last_of_its_turn(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	struct io *io = machine_io(m);
	struct probe late = { 0 }, early = { 0 }, soon = { 0 }, cancelled = { 0 };
	uint64_t start = io->now_ns(io);

	(void)state;
	probe_start(m, &late, IO_TIMER, 0, 5 * MILLISECONDS, NULL, 0);
	probe_start(m, &early, IO_TIMER, 0, 0, NULL, 0);
	probe_start(m, &cancelled, IO_TIMER, 0, SECONDS, NULL, 0);
	probe_start(m, &soon, IO_SOON, 0, 0, NULL, 0);
	io->cancel(io, &cancelled.op);
	io->cancel(io, &cancelled.op);
	assert_false(cancelled.done);
	assert_true(world_run_while(w, probe_busy, &soon, 0));
	assert_true(early.done && early.order < soon.order);
	assert_true(world_run_while(w, probe_busy, &late, SECONDS));
	assert_int_equal(io->now_ns(io) - start, 5 * MILLISECONDS);
	assert_true(cancelled.done);
	assert_int_equal(cancelled.result, -ECANCELED);
	io->cancel(io, &cancelled.op);
	world_free(w);
}

static void pause_holds_what_completes(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	int disk = machine_disk(m, DISK_BYTES);
	struct probe write = { 0 }, timer = { 0 };

	(void)state;
	memset(block[0], 9, 4096);
	probe_start(m, &write, IO_WRITE, disk, 0, block[0], 4096);
	probe_start(m, &timer, IO_TIMER, 0, MILLISECONDS, NULL, 0);
	machine_pause(m, true);
	world_run_for(w, SECONDS);
	assert_false(write.done || timer.done);
	assert_int_equal(machine_disk_data(m, disk)[0], 9);
	machine_pause(m, false);
	world_run_for(w, 0);
	assert_true(write.done && timer.done && write.result == 4096);
	world_free(w);
}

struct suicide { struct probe probe; struct machine *machine; char *memory; };

static void suicide_done(struct io_op *op, int64_t result)
{
	struct suicide *suicide = container_of(op, struct suicide, probe.op);
	struct io *io = machine_io(suicide->machine);

	(void)result;
	machine_crash(suicide->machine, false);
	assert_true(machine_crashed(suicide->machine));
	suicide->memory[0] = 1;		/* still there, while our own code runs */
	op->done = probe_done;
	io->submit(io, op);		/* and goes nowhere */
}

static void crash_frees_all_memory_and_forgets_all_ops(void **state)
{
	struct world *w = world_new(1);
	struct machine *m = world_machine(w, "a");
	struct io *io = machine_io(m);
	char *small = io->alloc(io, 100, 0), *page = io->alloc(io, 4096, IO_FIXED);
	char *large = io->alloc(io, 1 << 20, 0);
	struct suicide suicide = { .machine = m, .memory = small };
	int listening;

	(void)state;
	assert_int_equal((uintptr_t)small % 16 + (uintptr_t)page % 4096 + (uintptr_t)large % 4096,
			 0);
	for (unsigned i = 0; i < 4096; i++)
		assert_true(page[i] == 0 && large[i] == 0);
	large[(1 << 20) - 1] = 1;
	assert_int_equal(machine_memory(m), 100 + 4096 + (1 << 20));
	io->free(io, page);
	io->free(io, NULL);
	assert_int_equal(machine_memory(m), 100 + (1 << 20));
	assert_int_equal(io->listen(io, "a:1", &listening), 0);
	assert_int_equal(io->listen(io, "a:1", &listening), -EADDRINUSE);
	probe_start(m, &suicide.probe, IO_TIMER, 0, 1000, NULL, 0);
	suicide.probe.op.done = suicide_done;
	world_run_for(w, SECONDS);
	assert_false(suicide.probe.done);
	assert_int_equal(machine_memory(m), 0);
	machine_boot(m);
	assert_int_equal(io->listen(io, "a:1", &listening), 0);
	world_free(w);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(world_same_seed_gives_the_same_run),
	cmocka_unit_test(world_runs_a_million_events_in_seconds),
	cmocka_unit_test(disk_ops_overtake_each_other),
	cmocka_unit_test(disk_synced_writes_survive_and_others_may_be_torn_by_sector),
	cmocka_unit_test(disk_older_version_of_a_sector_may_be_what_survives),
	cmocka_unit_test(disk_sync_covers_only_what_was_complete_when_it_was_submitted),
	cmocka_unit_test(disk_durable_write_makes_only_itself_durable),
	cmocka_unit_test(disk_holds_after_a_crash_what_a_model_allows),
	cmocka_unit_test(disk_write_in_flight_may_be_written_in_part),
	cmocka_unit_test(disk_map_tells_data_from_holes),
	cmocka_unit_test(disk_ends_where_it_ends),
	cmocka_unit_test(disk_faults_hit_as_told),
	cmocka_unit_test(disk_never_brings_back_what_a_failed_sync_lost_over_what_was_synced_later),
	cmocka_unit_test(disk_write_whose_buffer_changes_in_flight_stops_the_program),
	cmocka_unit_test(disk_power_can_be_cut_at_every_op),
	cmocka_unit_test(timers_are_in_time_and_soon_is_last_of_its_turn),
	cmocka_unit_test(pause_holds_what_completes),
	cmocka_unit_test(crash_frees_all_memory_and_forgets_all_ops),
};
TEST_GROUP(world, tests)
