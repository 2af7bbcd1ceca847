/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about daemon/ring.c, on the real kernel: temporary files under TMPDIR, sockets on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bounds.h"
#include "ring.h"
#include "run.h"

enum { FILE_BYTES = 1 << 20, MILLISECOND = 1000000 };

struct world {
	struct ring *ring;
	struct io *io;
	char dir[64];
	unsigned missing, order;
};

struct await {
	struct io_op op;
	struct world *world;
	int64_t result;
	unsigned order;		/* 1 = the first that was done */
	void (*then)(struct await *await);
};

static void await_done(struct io_op *op, int64_t result)
{
	struct await *await = container_of(op, struct await, op);
	struct world *w = await->world;

	assert_int_equal(op->in_flight, 0);
	await->result = result;
	await->order = ++w->order;
	if (await->then)
		await->then(await);
	if (--w->missing == 0)
		ring_stop(w->ring);
}

static void start(struct world *w, struct await *await, struct io_op op)
{
	await->op = op;
	await->op.done = await_done;
	await->world = w;
	await->order = 0;
	w->missing++;
	w->io->submit(w->io, &await->op);
	assert_int_equal(await->order, 0);	/* never from inside submit() */
	assert_int_equal(await->op.in_flight, 1);
}

static int64_t run(struct world *w, struct io_op op)
{
	struct await await = { 0 };

	start(w, &await, op);
	ring_run(w->ring);
	return await.result;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	const char *tmp = getenv("TMPDIR");

	snprintf(w->dir, sizeof w->dir, "%s/ring-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(w->dir) || ring_new(&w->ring, &(struct ring_config){ 0 }) < 0)
		return -1;
	w->io = ring_io(w->ring);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char command[128];

	ring_free(w->ring);
	snprintf(command, sizeof command, "rm -rf '%s'", w->dir);
	if (system(command) != 0)
		return -1;
	free(w);
	return 0;
}

static int file_open(struct world *w, int flags)
{
	char path[80];
	int fd, id;

	snprintf(path, sizeof path, "%s/file", w->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
	if (fd < 0 && (flags & O_DIRECT))
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
	id = ring_file_add(w->ring, fd);
	assert_true(id >= 0);
	return id;
}

static struct io_op disk(enum io_kind kind, int file, uint64_t offset, uint64_t len, void *data)
{
	return (struct io_op){ .kind = kind, .file = file, .offset = offset, .len = len, .data = data };
}

/* ---- disk ---- */

static void round_trip(struct world *w, unsigned alloc_flags, unsigned write_flags)
{
	int file = file_open(w, O_DIRECT);
	uint8_t *out = w->io->alloc(w->io, 65536, alloc_flags), *in = w->io->alloc(w->io, 65536, alloc_flags);
	struct io_op write = disk(IO_WRITE, file, 8192, 65536, out);

	assert_int_equal((uintptr_t)out % BLOCK_BYTES, 0);
	w->io->random(w->io, out, 65536);
	write.flags = write_flags;
	assert_int_equal(run(w, write), 65536);
	assert_int_equal(run(w, disk(IO_SYNC, file, 0, 0, NULL)), 0);
	assert_int_equal(run(w, disk(IO_READ, file, 8192, 65536, in)), 65536);
	assert_memory_equal(in, out, 65536);
	assert_int_equal(run(w, disk(IO_READ, file, 12288, 4096, in + 4096)), 4096);
	assert_memory_equal(in + 4096, out + 4096, 4096);
	w->io->free(w->io, out);
	w->io->free(w->io, in);
	ring_file_remove(w->ring, file);
}

static void ring_reads_what_was_written(void **state) { round_trip(*state, 0, 0); }
static void ring_reads_what_was_written_from_registered_memory(void **state) { round_trip(*state, IO_FIXED, 0); }
static void ring_writes_durably(void **state) { round_trip(*state, IO_FIXED, IO_DURABLE); }

static void ring_alloc_gives_zeros_again_after_free(void **state)
{
	struct world *w = *state;
	struct { size_t bytes; unsigned flags; } sizes[] = {
		{ 1, 0 }, { 16, IO_FIXED }, { 4096, 0 }, { 5000, IO_FIXED }, { 3 << 20, IO_FIXED }, { 3 << 20, 0 },
	};
	uint8_t *memory[6];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 6; i++) {
			memory[i] = w->io->alloc(w->io, sizes[i].bytes, sizes[i].flags);
			assert_non_null(memory[i]);
			assert_int_equal((uintptr_t)memory[i] % (sizes[i].bytes >= 4096 ? 4096 : 16), 0);
			for (size_t at = 0; at < sizes[i].bytes; at++)
				assert_int_equal(memory[i][at], 0);
			memset(memory[i], 0xaa, sizes[i].bytes);
		}
		for (int i = 0; i < 6; i++)
			w->io->free(w->io, memory[round == 1 ? 5 - i : i]);
	}
	w->io->free(w->io, NULL);
	assert_null(w->io->alloc(w->io, SIZE_MAX - 100, 0));
}

static void ring_read_is_short_only_at_the_end_of_the_file(void **state)
{
	struct world *w = *state;
	int file = file_open(w, O_DIRECT);
	uint8_t *data = w->io->alloc(w->io, 16384, IO_FIXED);

	assert_int_equal(run(w, disk(IO_READ, file, FILE_BYTES - 8192, 16384, data)), 8192);
	assert_int_equal(run(w, disk(IO_READ, file, FILE_BYTES, 4096, data)), 0);
	w->io->free(w->io, data);
	ring_file_remove(w->ring, file);
}

static void ring_direct_read_ends_inside_the_last_sector(void **state)
{
	struct world *w = *state;
	uint8_t *data = w->io->alloc(w->io, 16384, 0);
	char path[80];
	int fd, file;

	snprintf(path, sizeof path, "%s/odd", w->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0600);
	if (fd < 0)
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 5000), 0);
	file = ring_file_add(w->ring, fd);
	assert_int_equal(run(w, disk(IO_READ, file, 0, 16384, data)), 5000);
	assert_int_equal(run(w, disk(IO_READ, file, 4096, 4096, data)), 904);
	w->io->free(w->io, data);
	ring_file_remove(w->ring, file);
}

static bool reads_as(struct world *w, int file, uint64_t offset, uint64_t len, uint8_t byte)
{
	uint8_t *data = w->io->alloc(w->io, len, IO_FIXED);
	bool same = run(w, disk(IO_READ, file, offset, len, data)) == (int64_t)len;

	for (uint64_t i = 0; same && i < len; i++)
		same = data[i] == byte;
	w->io->free(w->io, data);
	return same;
}

static void file_fill(struct world *w, int file, uint8_t byte)
{
	uint8_t *data = w->io->alloc(w->io, FILE_BYTES, IO_FIXED);

	memset(data, byte, FILE_BYTES);
	assert_int_equal(run(w, disk(IO_WRITE, file, 0, FILE_BYTES, data)), FILE_BYTES);
	w->io->free(w->io, data);
}

static void ring_punch_makes_a_hole_that_map_finds(void **state)
{
	struct world *w = *state;
	int file = file_open(w, O_DIRECT);
	struct await map = { 0 };

	file_fill(w, file, 0x55);
	assert_int_equal(run(w, disk(IO_PUNCH, file, 65536, 131072, NULL)), 0);
	assert_true(reads_as(w, file, 65536, 131072, 0));
	assert_true(reads_as(w, file, 0, 65536, 0x55));
	assert_true(reads_as(w, file, 196608, 65536, 0x55));

	start(w, &map, disk(IO_MAP, file, 0, FILE_BYTES, NULL));
	ring_run(w->ring);
	assert_int_equal(map.result, 1);
	assert_int_equal(map.op.extent, 65536);
	start(w, &map, disk(IO_MAP, file, 65536, FILE_BYTES, NULL));
	ring_run(w->ring);
	assert_int_equal(map.result, 0);
	assert_int_equal(map.op.extent, 131072);
	start(w, &map, disk(IO_MAP, file, 69632, 4096, NULL));
	ring_run(w->ring);
	assert_int_equal(map.result, 0);
	assert_int_equal(map.op.extent, 4096);
	ring_file_remove(w->ring, file);
}

static void ring_zero_reads_as_zeros(void **state)
{
	struct world *w = *state;
	int file = file_open(w, O_DIRECT);

	file_fill(w, file, 0x55);
	assert_int_equal(run(w, disk(IO_ZERO, file, 4096, 700 * 1024, NULL)), 0);
	assert_true(reads_as(w, file, 4096, 700 * 1024, 0));
	assert_true(reads_as(w, file, 0, 4096, 0x55));
	assert_true(reads_as(w, file, 4096 + 700 * 1024, 4096, 0x55));
	ring_file_remove(w->ring, file);
}

/* tmpfs has no ZERO_RANGE. */
static void ring_zero_writes_zeros_where_the_filesystem_cannot(void **state)
{
	struct world *w = *state;
	int file, fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		skip();
	assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
	file = ring_file_add(w->ring, fd);
	for (int round = 0; round < 2; round++) {
		file_fill(w, file, 0x55);
		assert_int_equal(run(w, disk(IO_ZERO, file, 4096, 700 * 1024, NULL)), 0);
		assert_true(reads_as(w, file, 4096, 700 * 1024, 0));
		assert_true(reads_as(w, file, 0, 4096, 0x55));
		assert_true(reads_as(w, file, 4096 + 700 * 1024, 4096, 0x55));
	}
	ring_file_remove(w->ring, file);
}

static void ring_op_of_no_length_has_nothing_to_do(void **state)
{
	struct world *w = *state;
	int file = file_open(w, 0);

	assert_int_equal(run(w, disk(IO_READ, file, 0, 0, NULL)), 0);
	assert_int_equal(run(w, disk(IO_WRITE, file, 0, 0, NULL)), 0);
	assert_int_equal(run(w, disk(IO_PUNCH, file, 0, 0, NULL)), 0);
	ring_file_remove(w->ring, file);
}

static void ring_goes_on_after_an_op_that_failed(void **state)
{
	struct world *w = *state;
	int file = file_open(w, 0), fd = open("/dev/null", O_RDONLY | O_CLOEXEC), null;
	uint8_t data[16] = { 7 };

	assert_int_equal(run(w, disk(IO_READ, 12345, 0, 16, data)), -EBADF);
	assert_int_equal(run(w, disk(IO_SYNC, -1, 0, 0, NULL)), -EBADF);
	null = ring_file_add(w->ring, fd);
	assert_int_equal(run(w, disk(IO_WRITE, null, 0, 16, data)), -EBADF);
	assert_int_equal(run(w, disk(IO_WRITE, file, 0, 16, data)), 16);
	ring_file_remove(w->ring, null);
	assert_int_equal(run(w, disk(IO_WRITE, null, 0, 16, data)), -EBADF);
	ring_file_remove(w->ring, file);
}

static void ring_takes_more_ops_than_its_queue_holds(void **state)
{
	enum { OPS = 10000 };
	struct world *w = *state;
	struct await *awaits = calloc(OPS, sizeof *awaits);
	uint8_t *data = w->io->alloc(w->io, 4096, IO_FIXED);
	int file = file_open(w, O_DIRECT);

	for (int i = 0; i < OPS; i++)
		start(w, &awaits[i], disk(IO_READ, file, 0, 4096, data));
	ring_run(w->ring);
	for (int i = 0; i < OPS; i++)
		assert_int_equal(awaits[i].result, 4096);
	w->io->free(w->io, data);
	ring_file_remove(w->ring, file);
	free(awaits);
}

static void ring_file_table_says_when_it_is_full(void **state)
{
	struct world *w = *state;
	int ids[1024], count = 0, fd, last;

	for (;;) {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		last = ring_file_add(w->ring, fd);
		if (last < 0)
			break;
		ids[count++] = last;
	}
	assert_int_equal(last, -ENFILE);
	close(fd);
	while (count > 0)
		ring_file_remove(w->ring, ids[--count]);
}

/* ---- time ---- */

static struct io_op timer(uint64_t delay_ns) { return (struct io_op){ .kind = IO_TIMER, .offset = delay_ns }; }

static void ring_timers_end_in_the_order_of_their_deadlines(void **state)
{
	static const uint8_t delays[] = { 9, 3, 12, 3, 1, 7, 15, 2, 0, 5 };
	struct world *w = *state;
	struct await awaits[10] = { 0 };
	uint64_t began = w->io->now_ns(w->io);

	for (int i = 0; i < 10; i++)
		start(w, &awaits[i], timer(delays[i] * MILLISECOND));
	ring_run(w->ring);
	assert_true(w->io->now_ns(w->io) - began >= 15 * MILLISECOND);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(awaits[i].result, 0);
		for (int j = 0; j < 10; j++)
			if (delays[i] < delays[j])
				assert_true(awaits[i].order < awaits[j].order);
	}
}

static void ring_timer_that_is_cancelled_ends_at_once(void **state)
{
	struct world *w = *state;
	struct await awaits[100] = { 0 };

	for (int i = 0; i < 100; i++)
		start(w, &awaits[i], timer((uint64_t)(i % 10) * MILLISECOND + (i % 3 ? 0 : 3600000ull * MILLISECOND)));
	for (int i = 0; i < 100; i += 3) {
		w->io->cancel(w->io, &awaits[i].op);
		w->io->cancel(w->io, &awaits[i].op);
		assert_int_equal(awaits[i].order, 0);
	}
	ring_run(w->ring);
	for (int i = 0; i < 100; i++)
		assert_int_equal(awaits[i].result, i % 3 ? 0 : -ECANCELED);
	w->io->cancel(w->io, &awaits[0].op);	/* not in flight: nothing */
}

static void soon_again(struct await *await)
{
	start(await->world, await + 1, (struct io_op){ .kind = IO_SOON });
}

static void ring_soon_comes_after_all_that_is_complete(void **state)
{
	struct world *w = *state;
	struct await soons[2] = { 0 }, map = { 0 }, zero = { 0 }, bad = { 0 };
	int file = file_open(w, 0);

	soons[0].then = soon_again;
	start(w, &soons[0], (struct io_op){ .kind = IO_SOON });
	start(w, &map, disk(IO_MAP, file, 0, 4096, NULL));
	start(w, &zero, timer(0));
	start(w, &bad, disk(IO_READ, 12345, 0, 4096, NULL));
	ring_run(w->ring);
	assert_true(map.order < soons[0].order);
	assert_true(zero.order < soons[0].order);
	assert_true(bad.order < soons[0].order);
	assert_true(soons[0].order < soons[1].order);
	ring_file_remove(w->ring, file);
}

/* ---- network ---- */

struct pair { int listening, left, right; };

static struct io_op dial(const char *address) { return (struct io_op){ .kind = IO_DIAL, .address = address }; }
static struct io_op net(enum io_kind kind, int socket, void *data, uint64_t len)
{
	return (struct io_op){ .kind = kind, .file = socket, .data = data, .len = len };
}

static void pair_open(struct world *w, struct pair *pair, const char *address)
{
	struct await accept = { 0 }, dialing = { 0 };

	assert_int_equal(w->io->listen(w->io, address, &pair->listening), 0);
	start(w, &accept, net(IO_ACCEPT, pair->listening, NULL, 0));
	start(w, &dialing, dial(address));
	ring_run(w->ring);
	assert_true(accept.result >= 0);
	assert_true(dialing.result >= 0);
	pair->left = (int)dialing.result;
	pair->right = (int)accept.result;
}

static void pair_close(struct world *w, struct pair *pair)
{
	w->io->close(w->io, pair->left);
	w->io->close(w->io, pair->right);
	w->io->close(w->io, pair->listening);
}

/* A port that is free now. */
static const char *tcp_address(void)
{
	static char text[32];
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	close(fd);
	snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(at.sin_port));
	return text;
}

static const char *unix_address(struct world *w)
{
	static char text[ADDRESS_BYTES];

	snprintf(text, sizeof text, "unix:%s/socket", w->dir);
	return text;
}

static void echo_with_partial_reads(struct world *w, const char *address)
{
	struct pair pair;
	char in[16] = "";

	pair_open(w, &pair, address);
	assert_int_equal(run(w, net(IO_SEND, pair.left, "hello, world", 12)), 12);
	assert_int_equal(run(w, net(IO_RECV, pair.right, in, 5)), 5);
	assert_int_equal(run(w, net(IO_RECV, pair.right, in + 5, 11)), 7);
	assert_string_equal(in, "hello, world");
	assert_int_equal(run(w, net(IO_SEND, pair.right, in, 12)), 12);
	memset(in, 0, sizeof in);
	assert_int_equal(run(w, net(IO_RECV, pair.left, in, 16)), 12);
	assert_string_equal(in, "hello, world");
	w->io->close(w->io, pair.left);
	assert_int_equal(run(w, net(IO_RECV, pair.right, in, 16)), 0);	/* the other side has closed */
	assert_int_equal(run(w, net(IO_RECV, pair.left, in, 16)), -EBADF);
	w->io->close(w->io, pair.right);
	w->io->close(w->io, pair.listening);
}

static void ring_echoes_over_tcp(void **state) { echo_with_partial_reads(*state, tcp_address()); }
static void ring_echoes_over_unix_sockets(void **state) { echo_with_partial_reads(*state, unix_address(*state)); }

static void ring_echoes_over_ipv6(void **state)
{
	char address[32];
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		skip();
	close(fd);
	snprintf(address, sizeof address, "[::1]:%s", tcp_address() + strlen("127.0.0.1:"));
	echo_with_partial_reads(*state, address);
}

enum { LARGE_BYTES = 8 << 20, LARGE_SENDS = 3 };

struct slow_reader {
	struct await await;
	struct world *world;
	int socket;
	uint8_t *in;
	uint64_t got;
};

static void slow_read(struct await *await)
{
	struct slow_reader *r = container_of(await, struct slow_reader, await);

	if (await->op.kind == IO_RECV) {
		assert_true(await->result > 0);
		r->got += (uint64_t)await->result;
	}
	if (r->got == LARGE_BYTES * LARGE_SENDS)
		return;
	if (await->op.kind == IO_RECV && r->got % 7 == 0)
		start(r->world, await, timer(MILLISECOND / 10));
	else
		start(r->world, await, net(IO_RECV, r->socket, r->in + r->got, 300001));
}

/* Several sends at once, each larger than any socket buffer: they arrive whole and in order. */
static void ring_send_completes_whole_to_a_slow_reader(void **state)
{
	struct world *w = *state;
	struct pair pair;
	struct await sends[LARGE_SENDS] = { 0 };
	struct slow_reader reader = { .world = w };
	uint8_t *out = w->io->alloc(w->io, LARGE_BYTES * LARGE_SENDS, IO_FIXED);

	reader.in = w->io->alloc(w->io, LARGE_BYTES * LARGE_SENDS + 300001, 0);
	w->io->random(w->io, out, LARGE_BYTES * LARGE_SENDS);
	pair_open(w, &pair, tcp_address());
	reader.socket = pair.right;
	reader.await.then = slow_read;
	for (int i = 0; i < LARGE_SENDS; i++)
		start(w, &sends[i], net(IO_SEND, pair.left, out + i * LARGE_BYTES, LARGE_BYTES));
	start(w, &reader.await, timer(10 * MILLISECOND));
	ring_run(w->ring);
	for (int i = 0; i < LARGE_SENDS; i++) {
		assert_int_equal(sends[i].result, LARGE_BYTES);
		assert_true(i == 0 || sends[i - 1].order < sends[i].order);
	}
	assert_memory_equal(reader.in, out, LARGE_BYTES * LARGE_SENDS);
	pair_close(w, &pair);
	w->io->free(w->io, out);
	w->io->free(w->io, reader.in);
}

static void close_then(struct await *await)
{
	struct pair *pair = await->op.data;

	await->world->io->close(await->world->io, pair->left);
	await->world->io->close(await->world->io, pair->listening);
}

static void ring_close_cancels_ops_in_flight(void **state)
{
	struct world *w = *state;
	struct pair pair;
	struct await recv = { 0 }, sends[3] = { 0 }, accept = { 0 }, closing = { .then = close_then }, late = { 0 };
	uint8_t in[16], *out = w->io->alloc(w->io, LARGE_BYTES, 0);
	struct io_op soon = timer(2 * MILLISECOND);

	pair_open(w, &pair, unix_address(w));
	start(w, &recv, net(IO_RECV, pair.left, in, sizeof in));
	for (int i = 0; i < 3; i++)
		start(w, &sends[i], net(IO_SEND, pair.left, out, LARGE_BYTES));	/* nobody reads */
	start(w, &accept, net(IO_ACCEPT, pair.listening, NULL, 0));
	soon.data = &pair;
	start(w, &closing, soon);
	ring_run(w->ring);
	assert_int_equal(recv.result, -ECANCELED);
	assert_int_equal(accept.result, -ECANCELED);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sends[i].result, -ECANCELED);

	/* and also what the kernel has not seen yet */
	start(w, &late, net(IO_RECV, pair.right, in, sizeof in));
	w->io->close(w->io, pair.right);
	assert_int_equal(late.order, 0);
	ring_run(w->ring);
	assert_int_equal(late.result, -ECANCELED);
	w->io->free(w->io, out);
}

static void cancel_then(struct await *await)
{
	await->world->io->cancel(await->world->io, await->op.data);
}

static void ring_recv_that_is_cancelled_leaves_the_socket_usable(void **state)
{
	struct world *w = *state;
	struct pair pair;
	struct await recv = { 0 }, cancelling = { .then = cancel_then };
	struct io_op soon = timer(MILLISECOND);
	char in[16] = "";

	pair_open(w, &pair, tcp_address());
	start(w, &recv, net(IO_RECV, pair.left, in, sizeof in));
	soon.data = &recv.op;
	start(w, &cancelling, soon);
	ring_run(w->ring);
	assert_int_equal(recv.result, -ECANCELED);
	start(w, &recv, net(IO_RECV, pair.left, in, sizeof in));
	w->io->cancel(w->io, &recv.op);			/* still in our own queue */
	ring_run(w->ring);
	assert_int_equal(recv.result, -ECANCELED);
	assert_int_equal(run(w, net(IO_SEND, pair.right, "abc", 3)), 3);
	assert_int_equal(run(w, net(IO_RECV, pair.left, in, sizeof in)), 3);
	pair_close(w, &pair);
}

static void ring_poll_tells_when_there_is_something_to_read(void **state)
{
	struct world *w = *state;
	struct pair pair;
	struct await poll = { 0 }, cancelling = { .then = cancel_then };
	struct io_op soon = timer(MILLISECOND);
	char in[4];

	pair_open(w, &pair, unix_address(w));
	start(w, &poll, net(IO_POLL, pair.left, NULL, 0));
	soon.data = &poll.op;
	start(w, &cancelling, soon);
	ring_run(w->ring);
	assert_int_equal(poll.result, -ECANCELED);
	start(w, &poll, net(IO_POLL, pair.left, NULL, 0));
	start(w, &cancelling, net(IO_SEND, pair.right, "x", 1));
	cancelling.then = NULL;
	ring_run(w->ring);
	assert_int_equal(poll.result, 0);
	assert_int_equal(run(w, net(IO_RECV, pair.left, in, 4)), 1);
	pair_close(w, &pair);
}

static void ring_dial_is_refused_where_nobody_listens(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 50; i++)
		assert_int_equal(run(w, dial(tcp_address())), -ECONNREFUSED);
	assert_int_equal(run(w, dial(unix_address(w))), -ENOENT);
}

static void ring_dial_can_be_cancelled(void **state)
{
	struct world *w = *state;
	struct await dialing = { 0 }, cancelling = { .then = cancel_then };
	struct io_op soon = timer(MILLISECOND);

	start(w, &dialing, dial("192.0.2.1:7701"));	/* TEST-NET: no answer, or no route at once */
	soon.data = &dialing.op;
	start(w, &cancelling, soon);
	ring_run(w->ring);
	assert_true(dialing.result < 0);
	start(w, &dialing, dial("192.0.2.1:7701"));
	w->io->cancel(w->io, &dialing.op);
	ring_run(w->ring);
	assert_int_equal(dialing.result, -ECANCELED);
}

static void ring_refuses_what_is_no_address(void **state)
{
	static const char *const bad[] = {
		"", "127.0.0.1", "127.0.0.1:", ":7701", "127.0.0.1:65536", "127.0.0.1:77x", "127.0.0.1:-1",
		"localhost:1", "[::1]", "[::1:7701", "::1:7701", "[::1%nosuchzone]:1", "unix:", "[]:1", "]:1",
	};
	struct world *w = *state;
	char path[200] = "unix:/";
	int socket;

	memset(path + 6, 'x', 150);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(w->io->listen(w->io, bad[i], &socket), -EINVAL);
		assert_int_equal(run(w, dial(bad[i])), -EINVAL);
	}
	assert_int_equal(w->io->listen(w->io, path, &socket), -EINVAL);
	assert_int_equal(run(w, dial(NULL)), -EINVAL);
}

static void ring_listen_says_that_an_address_is_in_use(void **state)
{
	struct world *w = *state;
	const char *addresses[] = { tcp_address(), unix_address(w) };
	int one, two;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(w->io->listen(w->io, addresses[i], &one), 0);
		assert_int_equal(w->io->listen(w->io, addresses[i], &two), -EADDRINUSE);
		w->io->close(w->io, one);
		assert_int_equal(w->io->listen(w->io, addresses[i], &two), 0);
		w->io->close(w->io, two);
	}
}

static void ring_listen_replaces_a_socket_file_that_nobody_answers_on(void **state)
{
	struct world *w = *state;
	const char *path = unix_address(w) + strlen("unix:");
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), socket_id;

	strcpy(at.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	close(fd);
	assert_int_equal(w->io->listen(w->io, unix_address(w), &socket_id), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	w->io->close(w->io, socket_id);
	assert_int_equal(stat(path, &st), -1);

	/* but never a file that is no socket */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(w->io->listen(w->io, unix_address(w), &socket_id), -EADDRINUSE);
	assert_int_equal(stat(path, &st), 0);
}

static void ring_knows_the_user_at_the_other_end_of_a_unix_socket(void **state)
{
	struct world *w = *state;
	struct pair pair;
	uid_t uid = 12345;

	pair_open(w, &pair, unix_address(w));
	assert_int_equal(ring_socket_peer_uid(w->ring, pair.right, &uid), 0);
	assert_int_equal(uid, geteuid());
	pair_close(w, &pair);
	assert_int_equal(ring_socket_peer_uid(w->ring, pair.right, &uid), -EBADF);
	pair_open(w, &pair, tcp_address());
	assert_int_equal(ring_socket_peer_uid(w->ring, pair.right, &uid), -EOPNOTSUPP);
	pair_close(w, &pair);
}

/* What a daemon leaves behind when it stops: accepts, recvs, timers that nobody waits for. */
static void ring_free_drops_what_only_waits(void **state)
{
	struct world *w = *state;
	struct pair pair;
	struct await waits[4] = { 0 };
	char in[4];

	pair_open(w, &pair, tcp_address());
	start(w, &waits[0], net(IO_RECV, pair.left, in, 4));
	start(w, &waits[1], net(IO_ACCEPT, pair.listening, NULL, 0));
	start(w, &waits[2], net(IO_POLL, pair.right, NULL, 0));
	start(w, &waits[3], timer(3600000ull * MILLISECOND));
	w->missing = 0;
	assert_int_equal(run(w, timer(MILLISECOND)), 0);
	ring_free(w->ring);
	for (int i = 0; i < 4; i++)
		assert_int_equal(waits[i].order, 0);
	assert_int_equal(ring_new(&w->ring, &(struct ring_config){ 0 }), 0);
	w->io = ring_io(w->ring);
	ring_echoes_over_tcp(state);
}

static void ring_works_with_a_kernel_thread_that_polls(void **state)
{
	struct world *w = *state;

	ring_free(w->ring);
	assert_int_equal(ring_new(&w->ring, &(struct ring_config){ .sqpoll = true }), 0);
	w->io = ring_io(w->ring);
	ring_reads_what_was_written_from_registered_memory(state);
	ring_echoes_over_tcp(state);
	ring_takes_more_ops_than_its_queue_holds(state);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
	FACT(ring_reads_what_was_written), FACT(ring_reads_what_was_written_from_registered_memory),
	FACT(ring_writes_durably), FACT(ring_alloc_gives_zeros_again_after_free),
	FACT(ring_read_is_short_only_at_the_end_of_the_file),
	FACT(ring_direct_read_ends_inside_the_last_sector), FACT(ring_punch_makes_a_hole_that_map_finds),
	FACT(ring_zero_reads_as_zeros), FACT(ring_zero_writes_zeros_where_the_filesystem_cannot),
	FACT(ring_op_of_no_length_has_nothing_to_do), FACT(ring_goes_on_after_an_op_that_failed),
	FACT(ring_takes_more_ops_than_its_queue_holds), FACT(ring_file_table_says_when_it_is_full),
	FACT(ring_timers_end_in_the_order_of_their_deadlines),
	FACT(ring_timer_that_is_cancelled_ends_at_once), FACT(ring_soon_comes_after_all_that_is_complete),
	FACT(ring_echoes_over_tcp), FACT(ring_echoes_over_unix_sockets), FACT(ring_echoes_over_ipv6),
	FACT(ring_send_completes_whole_to_a_slow_reader), FACT(ring_close_cancels_ops_in_flight),
	FACT(ring_recv_that_is_cancelled_leaves_the_socket_usable),
	FACT(ring_poll_tells_when_there_is_something_to_read),
	FACT(ring_dial_is_refused_where_nobody_listens), FACT(ring_dial_can_be_cancelled),
	FACT(ring_refuses_what_is_no_address), FACT(ring_listen_says_that_an_address_is_in_use),
	FACT(ring_listen_replaces_a_socket_file_that_nobody_answers_on),
	FACT(ring_knows_the_user_at_the_other_end_of_a_unix_socket), FACT(ring_free_drops_what_only_waits),
	FACT(ring_works_with_a_kernel_thread_that_polls),
};
TEST_GROUP(ring, tests)
