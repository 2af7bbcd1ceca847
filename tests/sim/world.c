/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world's time, chances, events and machines.
 *
 *	io->submit()      world_submit()   an event is made, and queued or put where it waits
 *	world_step()      event->happen()  disk and wire do their part, whatever the machine does
 *	                  world_deliver()  done() runs, unless the machine is paused
 *
 * The one invariant: an op is in flight exactly as long as its machine lists an event for it. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xxhash.h>

#include "world_inside.h"

enum { SLAB_EVENTS = 1024, PAGE_BYTES = 4096, MAPPED_BYTES_MIN = 128 << 10, POISON = 0xdb };
#define MEMORY_MAGIC 0x6d656d6f72792121ull
#define WALL_START 1700000000000000000ull

/* --- Chance: xoshiro256**, seeded by splitmix64 --- */

static uint64_t rotate_left(uint64_t value, int by) { return value << by | value >> (64 - by); }

uint64_t world_random(struct world *world)
{
	uint64_t *s = world->random, result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

static uint64_t splitmix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t world_random_below(struct world *world, uint64_t bound)
{
	return (uint64_t)((unsigned __int128)world_random(world) * bound >> 64);
}

uint64_t world_random_between(struct world *world, uint64_t min, uint64_t max)
{
	return max > min ? min + world_random_below(world, max - min + 1) : min;
}

bool world_chance(struct world *world, uint64_t one_in)
{
	return world_random_below(world, one_in) == 0;
}

/* --- The queue of events: a binary heap by (time, sequence) --- */

static bool entry_before(const struct heap_entry *a, const struct heap_entry *b)
{
	return a->when != b->when ? a->when < b->when : a->sequence < b->sequence;
}

static void heap_place(struct world *world, size_t at, struct heap_entry entry)
{
	world->heap[at] = entry;
	entry.event->at = (int64_t)at;
}

static void heap_up(struct world *world, size_t at, struct heap_entry entry)
{
	while (at > 0 && entry_before(&entry, &world->heap[(at - 1) / 2])) {
		heap_place(world, at, world->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_place(world, at, entry);
}

static void heap_down(struct world *world, size_t at, struct heap_entry entry)
{
	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= world->heap_count)
			break;
		if (child + 1 < world->heap_count &&
		    entry_before(&world->heap[child + 1], &world->heap[child]))
			child++;
		if (!entry_before(&world->heap[child], &entry))
			break;
		heap_place(world, at, world->heap[child]);
		at = child;
	}
	heap_place(world, at, entry);
}

void event_unqueue(struct event *event)
{
	struct world *world = event->world;
	size_t at = (size_t)event->at;
	struct heap_entry last;

	if (event->at == NOT_QUEUED)
		return;
	event->at = NOT_QUEUED;
	last = world->heap[--world->heap_count];
	if (last.event == event)
		return;
	if (at > 0 && entry_before(&last, &world->heap[(at - 1) / 2]))
		heap_up(world, at, last);
	else
		heap_down(world, at, last);
}

void event_queue(struct event *event, uint64_t when)
{
	struct world *world = event->world;

	CHECK(when >= world->now);
	event_unqueue(event);
	if (world->heap_count == world->heap_room) {
		world->heap_room = world->heap_room ? 2 * world->heap_room : 1024;
		world->heap = realloc(world->heap, world->heap_room * sizeof *world->heap);
		CHECK(world->heap != NULL);
	}
	heap_up(world, world->heap_count++,
		(struct heap_entry){ .when = when, .sequence = world->sequence++, .event = event });
}

/* --- Events --- */

static void events_refill(struct world *world)
{
	struct event *slab = calloc(SLAB_EVENTS, sizeof *slab);

	world->slabs = realloc(world->slabs, (world->slab_count + 1) * sizeof *world->slabs);
	CHECK(slab != NULL && world->slabs != NULL);
	world->slabs[world->slab_count++] = slab;
	for (unsigned i = 0; i < SLAB_EVENTS; i++)
		list_append(&world->events_free, &slab[i].link);
}

struct event *event_new(struct world *world, struct machine *machine, struct io_op *op,
			bool (*happen)(struct event *))
{
	struct event *event;

	if (list_empty(&world->events_free))
		events_refill(world);
	event = list_entry(world->events_free.prev, struct event, link);	/* the warmest */
	list_remove(&event->link);
	*event = (struct event){ .world = world, .machine = machine, .op = op, .happen = happen,
				 .at = NOT_QUEUED };
	list_init(&event->link);
	list_init(&event->wait);
	if (machine)
		list_append(&machine->events, &event->link);
	if (op)
		op->private[0] = event;
	return event;
}

void event_free(struct event *event)
{
	event_unqueue(event);
	list_remove(&event->link);
	list_remove(&event->wait);
	list_append(&event->world->events_free, &event->link);
}

void event_settle(struct event *event, int64_t result, uint64_t when)
{
	CHECK(!event->settled);
	event->settled = true;
	event->result = result;
	list_remove(&event->wait);
	event_queue(event, when);
}

uint64_t world_later(struct world *world, uint64_t delay)
{
	uint64_t over, when;

	if (__builtin_add_overflow(world->now, delay, &when) || when > UINT64_MAX / 2)
		return UINT64_MAX / 2;
	over = when % world->tick;
	return over ? when + world->tick - over : when;
}

uint64_t world_soon(struct world *world)
{
	return world_later(world, world_chance(world, 16)
					  ? world_random_below(world, 300 * MICROSECONDS)
					  : world_random_below(world, 2 * MICROSECONDS));
}

uint64_t checksum_of(const struct io_op *op)
{
	return XXH3_64bits(op->data, op->len);
}

static void trace_add(struct world *world, uint64_t value)
{
	world->trace = rotate_left((world->trace ^ value) * 0x9e3779b97f4a7c15, 29);
}

/* --- Log --- */

static void log_add(struct world *world, const char *who, const char *text)
{
	struct log_line *line = &world->log[world->log_count++ % LOG_LINES];

	line->when = world->now;
	snprintf(line->text, sizeof line->text, "%s %s", who, text);
	trace_add(world, XXH3_64bits(text, strlen(text)));
	if (world->verbose)
		fprintf(stderr, "%14.6f ms %s\n", (double)world->now / 1e6, line->text);
}

void world_note(struct world *world, const char *format, ...)
{
	char text[LOG_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	log_add(world, "*", text);
}

void world_print_log(const struct world *world, FILE *out)
{
	uint64_t first = world->log_count > LOG_LINES ? world->log_count - LOG_LINES : 0;

	fprintf(out, "--- seed 0x%llx, at %.6f ms, after %llu events:\n",
		(unsigned long long)world->seed, (double)world->now / 1e6,
		(unsigned long long)world->event_count);
	for (uint64_t i = first; i < world->log_count; i++)
		fprintf(out, "%14.6f ms %s\n", (double)world->log[i % LOG_LINES].when / 1e6,
			world->log[i % LOG_LINES].text);
}

/* --- struct io of a machine --- */

static uint64_t machine_now_ns(struct io *io)
{
	return machine_of(io)->world->now + machine_of(io)->clock_offset;
}

static uint64_t machine_wall_ns(struct io *io)
{
	return WALL_START + machine_of(io)->world->now + (uint64_t)machine_of(io)->wall_skew;
}

static void machine_random(struct io *io, void *out, size_t len)
{
	uint8_t *to = out;

	for (size_t at = 0; at < len; at += 8) {
		uint64_t value = world_random(machine_of(io)->world);

		memcpy(to + at, &value, len - at < 8 ? len - at : 8);
	}
}

static void machine_log(struct io *io, enum io_level level, const char *line)
{
	struct machine *machine = machine_of(io);
	char who[48];

	snprintf(who, sizeof who, "%c %s%s", "EWID"[level], machine->name,
		 machine->dying ? "(dead)" : "");
	log_add(machine->world, who, line);
}

/* A head stands before the memory: on a page of its own when the memory is aligned to one. Large
 * memory is mapped with a page behind it that faults, and faults as a whole once it is freed. */
static void *machine_alloc(struct io *io, size_t bytes, unsigned flags)
{
	struct machine *machine = machine_of(io);
	size_t head = bytes >= PAGE_BYTES ? PAGE_BYTES : round_up(sizeof(struct memory), 16);
	size_t align = bytes >= PAGE_BYTES ? PAGE_BYTES : 16, mapped = 0;
	struct memory *memory;
	char *start;

	(void)flags;
	CHECK(machine->up);
	if (bytes >= MAPPED_BYTES_MIN) {
		mapped = head + round_up(bytes, PAGE_BYTES) + PAGE_BYTES;
		start = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (start == MAP_FAILED)
			return NULL;
		CHECK(mprotect(start + mapped - PAGE_BYTES, PAGE_BYTES, PROT_NONE) == 0);
	} else {
		start = aligned_alloc(align, round_up(head + bytes, align));
		if (!start)
			return NULL;
		memset(start, 0, head + bytes);
	}
	memory = (struct memory *)(void *)(start + head - round_up(sizeof *memory, 16));
	*memory = (struct memory){ .bytes = bytes, .mapped = mapped, .magic = MEMORY_MAGIC };
	list_append(&machine->memory, &memory->link);
	machine->memory_bytes += bytes;
	return start + head;
}

static void memory_free(struct machine *machine, struct memory *memory)
{
	size_t head = memory->bytes >= PAGE_BYTES ? PAGE_BYTES : round_up(sizeof *memory, 16);
	char *start = (char *)memory + round_up(sizeof *memory, 16) - head;
	size_t mapped = memory->mapped;

	CHECK(memory->magic == MEMORY_MAGIC);
	list_remove(&memory->link);
	machine->memory_bytes -= memory->bytes;
	if (mapped) {
		CHECK(munmap(start, mapped) == 0);
		return;
	}
	memset(start, POISON, head + memory->bytes);
	free(start);
}

static void machine_free_memory(struct io *io, void *at)
{
	if (at)
		memory_free(machine_of(io),
			    (void *)((char *)at - round_up(sizeof(struct memory), 16)));
}

static void machine_submit(struct io *io, struct io_op *op)
{
	struct machine *machine = machine_of(io);
	struct world *world = machine->world;

	CHECK(machine->up);
	CHECK(!op->in_flight);
	CHECK(op->done != NULL);
	op->in_flight = 1;
	if (machine->dying) {
		event_new(world, machine, op, NULL);	/* never queued */
		return;
	}
	switch (op->kind) {
	case IO_READ: case IO_WRITE: case IO_SYNC: case IO_PUNCH: case IO_ZERO: case IO_MAP:
		disk_submit(machine, op);
		return;
	case IO_ACCEPT: case IO_DIAL: case IO_SEND: case IO_RECV:
		net_submit(machine, op);
		return;
	case IO_TIMER:
		event_queue(event_new(world, machine, op, NULL), world_later(world, op->offset));
		return;
	case IO_SOON:	/* all that is complete at this time has an earlier sequence */
		event_queue(event_new(world, machine, op, NULL), world->now);
		return;
	case IO_POLL: case IO_KINDS:
		break;
	}
	CHECK(!"a kind of op that the simulated machine has");
}

static void machine_cancel(struct io *io, struct io_op *op)
{
	struct machine *machine = machine_of(io);
	struct event *event = op->private[0];

	if (!op->in_flight || machine->dying)
		return;
	CHECK(op->kind > IO_MAP);	/* not for disk ops */
	CHECK(event->op == op);
	if (event->settled)
		return;
	switch (op->kind) {
	case IO_TIMER:
		if (world_later(machine->world, 0) >= machine->world->heap[event->at].when)
			return;		/* too late: it is over at this very time */
		break;
	case IO_SOON:
		return;
	default:
		net_cancel(event);
	}
	event_settle(event, -ECANCELED, world_soon(machine->world));
}

/* --- Machines --- */

struct machine *world_machine(struct world *world, const char *name)
{
	struct machine *machine;

	for (unsigned i = 0; i < world->machine_count; i++)
		if (strcmp(world->machines[i]->name, name) == 0)
			return world->machines[i];
	CHECK(world->machine_count < MACHINES_MAX);
	machine = calloc(1, sizeof *machine);
	CHECK(machine != NULL);
	CHECK(strlen(name) < sizeof machine->name);
	strcpy(machine->name, name);
	machine->world = world;
	machine->index = world->machine_count;
	machine->node = "";
	machine->io = (struct io){ .now_ns = machine_now_ns, .wall_ns = machine_wall_ns,
		.random = machine_random, .alloc = machine_alloc, .free = machine_free_memory,
		.submit = machine_submit, .cancel = machine_cancel, .listen = net_listen,
		.socket_node = net_socket_node, .close = net_close, .log = machine_log };
	list_init(&machine->events);
	list_init(&machine->held);
	list_init(&machine->memory);
	world->machines[world->machine_count++] = machine;
	machine_boot(machine);
	return machine;
}

const char *machine_name(const struct machine *machine) { return machine->name; }
struct io *machine_io(struct machine *machine) { return &machine->io; }
uint64_t machine_memory(const struct machine *machine) { return machine->memory_bytes; }
uint64_t machine_disk_ops(const struct machine *machine) { return machine->disk_ops; }
void machine_set_silent(struct machine *machine, bool silent) { machine->silent = silent; }
void machine_set_node(struct machine *machine, const char *node) { machine->node = node; }
void machine_set_wall_skew(struct machine *machine, int64_t skew_ns)
{
	machine->wall_skew = skew_ns;
}

/* Nothing of the machine's own code may be running. */
static void machine_down(struct machine *machine)
{
	bool power = machine->dying_power;
	struct list *link;

	CHECK(machine->world->running != machine);
	world_note(machine->world, "%s %s at disk op %llu", machine->name,
		   power ? "loses power" : "crashes", (unsigned long long)machine->disk_ops);
	disks_crash(machine, power);
	net_crash(machine, power);
	while ((link = list_first(&machine->events))) {
		struct event *event = list_entry(link, struct event, link);

		event->op->in_flight = 0;
		event_free(event);
	}
	while ((link = list_first(&machine->memory)))
		memory_free(machine, list_entry(link, struct memory, link));
	CHECK(machine->memory_bytes == 0);
	machine->up = machine->dying = machine->paused = false;
}

static void machines_down(struct world *world)
{
	world->crash_due = false;
	for (unsigned i = 0; i < world->machine_count; i++)
		if (world->machines[i]->dying)
			machine_down(world->machines[i]);
}

void machine_crash(struct machine *machine, bool power)
{
	CHECK(machine->up);
	if (!machine->dying)
		machine->dying_power = power;
	machine->dying = true;
	if (machine->world->running == machine)
		machine->world->crash_due = true;
	else
		machine_down(machine);
}

void machine_crash_at(struct machine *machine, uint64_t disk_op, bool power)
{
	CHECK(disk_op == 0 || disk_op > machine->disk_ops);
	machine->crash_at = disk_op;
	machine->crash_at_power = power;
}

bool machine_crashed(struct machine *machine)
{
	return !machine->up || machine->dying;
}

void machine_boot(struct machine *machine)
{
	if (machine->dying)
		machine_down(machine);
	CHECK(!machine->up);
	CHECK(list_empty(&machine->events));
	machine->up = true;
	machine->world->crash_hit = false;
	machine->clock_offset = world_random_below(machine->world, 1ull << 40);
	net_boot(machine);
	world_note(machine->world, "%s boots", machine->name);
}

void machine_pause(struct machine *machine, bool paused)
{
	struct list *link;

	world_note(machine->world, "%s %s", machine->name, paused ? "is paused" : "goes on");
	machine->paused = paused;
	while (!paused && (link = list_first(&machine->held))) {
		struct event *event = list_entry(link, struct event, wait);

		list_remove(&event->wait);
		event_queue(event, machine->world->now);
	}
}

/* --- The world --- */

struct world *world_new(uint64_t seed)
{
	struct world *world = calloc(1, sizeof *world);
	const char *verbose = getenv("SIM_VERBOSE");
	uint64_t state = seed;

	CHECK(world != NULL);
	world->seed = seed;
	for (unsigned i = 0; i < 4; i++)
		world->random[i] = splitmix(&state);
	world->log = calloc(LOG_LINES, sizeof *world->log);
	CHECK(world->log != NULL);
	world->verbose = verbose && *verbose && *verbose != '0';
	world->tick = 1000;
	list_init(&world->events_free);
	list_init(&world->listeners);
	list_init(&world->conns);
	list_init(&world->dials_stalled);
	for (unsigned i = 0; i < MACHINES_MAX; i++)
		for (unsigned j = 0; j < MACHINES_MAX; j++)
			world->links[i][j].public = i == j ?
				(struct world_link){ 5 * MICROSECONDS, 20 * MICROSECONDS, 0 } :
				(struct world_link){ 50 * MICROSECONDS, 250 * MICROSECONDS, 0 };
	return world;
}

void world_free(struct world *world)
{
	struct list *link;

	CHECK(world->running == NULL);
	net_free(world);
	for (unsigned i = 0; i < world->machine_count; i++) {
		struct machine *machine = world->machines[i];

		disks_free(machine);
		while ((link = list_first(&machine->memory)))
			memory_free(machine, list_entry(link, struct memory, link));
		free(machine);
	}
	for (size_t i = 0; i < world->slab_count; i++)
		free(world->slabs[i]);
	free(world->slabs);
	free(world->heap);
	free(world->log);
	free(world);
}

uint64_t world_seed(const struct world *world) { return world->seed; }
uint64_t world_now(const struct world *world) { return world->now; }
uint64_t world_trace(const struct world *world) { return world->trace; }
uint64_t world_events(const struct world *world) { return world->event_count; }
void world_set_tick(struct world *world, uint64_t tick_ns) { world->tick = tick_ns ? tick_ns : 1; }

static void world_deliver(struct event *event)
{
	struct world *world = event->world;
	struct machine *machine = event->machine;
	struct io_op *op = event->op;
	int64_t result = event->result;

	if (machine->paused) {
		event->settled = true;
		event->happen = NULL;
		list_append(&machine->held, &event->wait);
		return;
	}
	CHECK(op->in_flight);
	trace_add(world, world->now ^ (uint64_t)machine->index << 56 ^ (uint64_t)op->kind << 48);
	trace_add(world, (uint64_t)result);
	event_free(event);
	op->in_flight = 0;
	world->running = machine;
	op->done(op, result);
	world->running = NULL;
}

bool world_step(struct world *world)
{
	struct event *event;

	CHECK(world->running == NULL);
	if (world->crash_due) {
		machines_down(world);
		return true;
	}
	if (world->heap_count == 0)
		return false;
	world->now = world->heap[0].when;
	world->event_count++;
	event = world->heap[0].event;
	event_unqueue(event);
	if ((!event->happen || event->happen(event)) && !event->machine->dying)
		world_deliver(event);
	if (world->crash_due)
		machines_down(world);
	return true;
}

/* True, once, right after a planned crash. */
static bool world_crash_hit(struct world *world)
{
	bool hit = world->crash_hit;

	if (hit && world->crash_due)
		machines_down(world);
	world->crash_hit = false;
	return hit;
}

bool world_run_until(struct world *world, uint64_t until_ns)
{
	for (;;) {
		if (world_crash_hit(world))
			return false;
		if (!world->crash_due && (world->heap_count == 0 || world->heap[0].when > until_ns))
			break;
		world_step(world);
	}
	world->now = max_u64(world->now, until_ns);
	return true;
}

bool world_run_for(struct world *world, uint64_t for_ns)
{
	return world_run_until(world, world->now + for_ns);
}

bool world_run_while(struct world *world, bool (*busy)(void *context), void *context,
		     uint64_t limit_ns)
{
	uint64_t until = world->now + limit_ns;

	for (;;) {
		if (world_crash_hit(world))
			return false;
		if (!busy(context))
			return true;
		if (!world->crash_due && (world->heap_count == 0 || world->heap[0].when > until))
			return false;
		world_step(world);
	}
}
