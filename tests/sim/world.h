/* SPDX-License-Identifier: Apache-2.0 */
/* A world of machines in one process and one thread, whose clock is virtual and whose every chance
 * comes from a seed: the second struct io, beside daemon/ring.c. The same seed and the same calls
 * give the same run, to the last event (world_trace() proves it).
 *
 * What the machines do happens in world_step() only, one event after the other. A machine is torn
 * down there too, never under the feet of its own code: a crash that is due while a done() of the
 * machine runs makes everything the machine still does void, and is carried out when that done()
 * has returned.
 *
 * All times are nanoseconds, all sizes bytes. CHECK()s of the world are bugs of the code under
 * test: an op submitted twice, a buffer changed in flight, direct I/O that is not aligned, a closed
 * socket. */
#ifndef HOLDFAST_TESTS_WORLD_H
#define HOLDFAST_TESTS_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "io.h"

enum {
	MACHINES_MAX = 16,
	DISKS_MAX = 12,			/* of one machine */
	SOCKETS_MAX = 1024,		/* of one machine */
	SECTOR_BYTES = 512,		/* what a power loss keeps or drops, whatever the block */
	STREAM_BYTES = 256 << 10,	/* sent and not yet received, one way of a connection */
};

#define MICROSECONDS 1000ull
#define MILLISECONDS 1000000ull
#define SECONDS 1000000000ull

struct world;
struct machine;

/* --- The world --- */

struct world *world_new(uint64_t seed);
/* Ops in flight vanish; their memory is not touched. Frees the machines and their memory. */
void world_free(struct world *world);

uint64_t world_seed(const struct world *world);
uint64_t world_now(const struct world *world);
/* Chances for the harness, from the same seed. _below() is in [0, bound), 0 for bound 0. */
uint64_t world_random(struct world *world);
uint64_t world_random_below(struct world *world, uint64_t bound);
/* A hash of all that has happened: which op of which machine ended when, with what result. */
uint64_t world_trace(const struct world *world);
uint64_t world_events(const struct world *world);	/* how many have run */

/* Completions of disk, network and timers happen at multiples of this (default 1000): the coarser,
 * the more of them fall into one turn, before the IO_SOON of that turn. 0 counts as 1. */
void world_set_tick(struct world *world, uint64_t tick_ns);

/* The next event. False, and nothing has happened, when there is none. */
bool world_step(struct world *world);
/* Until the time is @until_ns; or @for_ns have passed; or @busy returns false, asked between
 * events. They return true when they got there. False: (_while only) @limit_ns have passed or
 * nothing is left to happen; or, any of them, right after a crash planned by machine_crash_at(). */
bool world_run_until(struct world *world, uint64_t until_ns);
bool world_run_for(struct world *world, uint64_t for_ns);
bool world_run_while(struct world *world, bool (*busy)(void *context), void *context,
		     uint64_t limit_ns);

/* A line of the harness in the log. The last 200 lines, of machines too, are kept for when a test
 * fails; with SIM_VERBOSE=1 in the environment they are on stderr as they happen. */
__attribute__((format(printf, 2, 3))) void world_note(struct world *world, const char *format, ...);
void world_print_log(const struct world *world, FILE *out);

/* --- Machines --- */

/* The machine with that name (under 32 bytes); made, and up, at the first call. */
struct machine *world_machine(struct world *world, const char *name);
const char *machine_name(const struct machine *machine);
/* Valid as long as the world, across crashes. now_ns() starts anywhere, anew at each boot. */
struct io *machine_io(struct machine *machine);
/* What wall_ns() is wrong by, from now on. */
void machine_set_wall_skew(struct machine *machine, int64_t skew_ns);
uint64_t machine_memory(const struct machine *machine);	/* of io->alloc(), at present */

/* The process dies (@power: and the machine loses power). Its ops never get their done(), its
 * sockets close, all memory of io->alloc() is freed. Not for the machine's own code to call, unless
 * from a done().
 *
 * Process: complete writes can still be read and are as little durable as before. Of a write in
 * flight all, no, or some sectors are written. Peers get what was sent, then 0 or -ECONNRESET.
 * Power: of all that was not durable, each sector of each write in turn survives or not, by a
 * chance drawn per crash (none, all, some sectors, some writes), so that an older version of a
 * sector may be what remains. Peers lose what had not arrived and get -ECONNRESET; or nothing until
 * the next boot, if machine_set_silent(). */
void machine_crash(struct machine *machine, bool power);
/* Plans a crash at that disk op of machine_disk_ops(); 0 takes the plan back. It hits once. */
void machine_crash_at(struct machine *machine, uint64_t disk_op, bool power);
/* True from the crash on, until machine_boot(). */
bool machine_crashed(struct machine *machine);
/* Up again, with nothing but its disks. */
void machine_boot(struct machine *machine);
/* SIGSTOP and SIGCONT: what completes meanwhile gets its done() afterwards, in that order. */
void machine_pause(struct machine *machine, bool paused);
/* Loss of power leaves connections hanging, and dials to its addresses, until it boots again. */
void machine_set_silent(struct machine *machine, bool silent);

/* What its key proves it to be, to whoever it is connected with: a static name, or "" (the default), as with links in
 * the clear. What io->socket_node() of the other end says from now on. */
void machine_set_node(struct machine *machine, const char *node);

/* --- Disks --- */

struct disk_timing {
	uint64_t min_ns, max_ns;	/* of one op; default 20 to 200 us: they overtake */
	uint64_t tail_ns;		/* so much longer, at most, */
	uint64_t tail_one_in;		/* takes one op in so many (0: none); default 5 ms, 200 */
};

struct disk_fault {
	unsigned kinds;			/* of (1u << IO_READ), (1u << IO_WRITE), ... */
	int error;			/* -EIO, -ENOSPC */
	uint64_t after;			/* lets so many ops that match pass first */
	uint64_t count;			/* fails so many, then is over; 0: for good */
	uint64_t one_in;		/* fails one in so many, by chance; 0 and 1: all */
	uint64_t offset, len;		/* only ops that touch this; len 0: all; IO_SYNC always */
};

/* A new disk of holes; @bytes a multiple of 4096. Returns its file id, 0, 1, ... It survives
 * crashes. Ops must be aligned to SECTOR_BYTES, or to what machine_disk_set_block() says. Reads end
 * at the end of the disk, writes past it fail with -ENOSPC. */
int machine_disk(struct machine *machine, uint64_t bytes);
/* Another disk of the same size takes its place: holes, nothing fails. The machine is down. */
void machine_disk_replace(struct machine *machine, int disk);
void machine_disk_set_block(struct machine *machine, int disk, uint64_t block);
void machine_disk_set_timing(struct machine *machine, int disk, const struct disk_timing *timing);
/* What reads see, until the next event. Not for writing. */
const uint8_t *machine_disk_data(struct machine *machine, int disk);
/* What is sure to survive the next loss of power. */
const uint8_t *machine_disk_durable(struct machine *machine, int disk);
uint64_t machine_disk_size(struct machine *machine, int disk);
/* Writes outside of time: visible and durable at once, for formatting and for planting rot. Any
 * range inside the disk. */
void machine_disk_write_now(struct machine *machine, int disk, uint64_t offset, const void *data,
			    uint64_t len);
/* Replaces the disk's fault; NULL heals it. A failed read leaves junk, a failed write may have
 * written any sectors. A failed sync leaves all as it was, or makes it durable, or drops some of it
 * for good: it can be read until the power goes, and no later sync saves it. */
void machine_disk_fail(struct machine *machine, int disk, const struct disk_fault *fault);
/* Counts each submission and each completion of a disk op since the machine was made. */
uint64_t machine_disk_ops(const struct machine *machine);
/* Complete writes, punches and zeros that no sync has made durable. */
uint64_t machine_disk_unsynced(struct machine *machine, int disk);

/* --- Network ---
 * Any text is an address, known in the whole world; one that begins with "unix:", in its machine
 * only. A connection is two streams, each in order and without loss while it lives, cut up anyhow.
 * A socket has at most one SEND and one RECV in flight (io_uring may interleave more): CHECKed.
 * The peer of a closed socket gets the rest, then 0, or -ECONNRESET when the closer had not read
 * all there was; its sends vanish until the RST is there, and then get -EPIPE or -ECONNRESET. */

/* One direction, to be set at any time. */
struct world_link {
	uint64_t latency_min_ns, latency_max_ns; /* default 50 to 250 us; to itself 5 to 20 us */
	uint64_t bytes_per_second;		 /* 0: no limit, the default */
};
struct world_link *world_link(struct world *world, struct machine *from, struct machine *to);

/* Cut: bytes from @from to @to wait, silently, until healed, as with a lost route; dials hang
 * either way round. Acknowledgements are bytes too: the other direction stops when its window is
 * full. */
void world_cut(struct world *world, struct machine *from, struct machine *to, bool cut);
void world_cut_both(struct world *world, struct machine *a, struct machine *b, bool cut);
/* Cuts, or heals, @machine to and from all others that exist. */
void world_isolate(struct world *world, struct machine *machine, bool cut);
/* Heals every cut. */
void world_heal(struct world *world);
/* All connections between the two break: -ECONNRESET at both ends soon, cut or not. What had not
 * arrived is lost. */
void world_reset(struct world *world, struct machine *a, struct machine *b);

#endif
