/* SPDX-License-Identifier: Apache-2.0 */
/* NBD clients that send anything. The first byte chooses how far a good handshake goes before, how the
 * stream is split, and in which order the volume answers; the second whether what follows is the
 * stream itself or a program: ops of 8 bytes that make well-formed messages with odd numbers in them.
 * Of a program's stream the replies are read back: each must be well-formed and answer a request, once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loopback.c"
#include "memory_volume.c"

enum { VOLUME = 256 << 10, PAGES = 20, MESSAGES_MAX = 512, STREAM_MAX = 1 << 20 };

enum { FUZZ_STRUCTURED = 1 << 0, FUZZ_GO = 1 << 1, FUZZ_RAW = 1 << 2, FUZZ_SPLIT = 1 << 3, FUZZ_SHUFFLE = 1 << 4,
       FUZZ_HOLD = 1 << 5, FUZZ_SECOND = 1 << 6, FUZZ_FAIL = 1 << 7 };

/* TLS that changes no byte; the first stranger of a run gets none. */
static int secure(void *context, int at)
{
	(void)context;
	return at % 2 ? 0 : -ENOBUFS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loopback loop;
static struct memory_volume volume;
static struct nbd_server *server;
static uint8_t stream[STREAM_MAX];
static size_t stream_len;
static unsigned message_count;
static uint8_t answered[MESSAGES_MAX];

static void put(const void *bytes, size_t len)
{
	if (len == 0 || len > STREAM_MAX - stream_len)
		return;
	memcpy(stream + stream_len, bytes, len);
	stream_len += len;
}

static void put_filler(size_t len)
{
	if (len > STREAM_MAX - stream_len)
		return;
	memset(stream + stream_len, (int)len, len);
	stream_len += len;
}

static void put_option(uint32_t code, const void *bytes, size_t len)
{
	struct nbd_option wire = { to_be64(NBD_OPTION_MAGIC), to_be32(code), to_be32((uint32_t)len) };

	put(&wire, sizeof wire);
	put(bytes, len);
}

static void put_handshake(unsigned choice)
{
	be32 flags = to_be32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	static const char context[] = "\0\0\0\0\0\0\0\1\0\0\0\x0f" "base:allocation";

	put(&flags, sizeof flags);
	if (choice & FUZZ_STRUCTURED) {
		put_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		put_option(NBD_OPT_SET_META_CONTEXT, context, sizeof context - 1);
	}
	if (choice & FUZZ_GO)
		put_option(NBD_OPT_GO, "\0\0\0\3db0\0\0", 9);
}

/* op[0] the command, op[1] flags, op[2..3] offset, op[4..6] length and how it is meant, op[7] its fraction. */
static void put_request(const uint8_t op[8])
{
	static const uint64_t units[] = { 1, 512, 4096, 16384 };
	uint64_t offset = (op[2] | op[3] << 8) * units[op[4] & 3];
	uint32_t len = (uint32_t)((op[5] | op[6] << 8) % 600 * units[op[4] >> 2 & 3]) + op[7] % 4;
	unsigned command = op[0] % 10;
	uint64_t data_len = command == NBD_CMD_READ ? len : 0;
	struct nbd_request_header wire = { to_be32(NBD_REQUEST_MAGIC), to_be16(op[1] & 31),
					   to_be16((uint16_t)command), to_be64(data_len << 32 | message_count),
					   to_be64(op[4] & 128 ? ~offset : offset % VOLUME), to_be32(len) };

	if (message_count == MESSAGES_MAX || (command == NBD_CMD_WRITE && len > 200000))
		return;
	if (command == NBD_CMD_FLUSH && op[4] & 64)
		wire.offset = to_be64(0), wire.len = to_be32(0);
	message_count++;
	put(&wire, sizeof wire);
	if (command == NBD_CMD_WRITE)
		put_filler(len);
}

static void put_program(const uint8_t *data, size_t size, bool transmission)
{
	for (; size >= 8; data += 8, size -= 8) {
		if (transmission) {
			put_request(data);
			continue;
		}
		size_t len = data[1] % 4 ? data[1] : (size_t)data[1] << 9;

		put_option(data[0] % 13, data + 8, 0);
		/* The data of the option: the next bytes of the input as they are, or filler. */
		((struct nbd_option *)(void *)(stream + stream_len - sizeof(struct nbd_option)))->len =
			to_be32((uint32_t)len);
		if (len <= size - 8) {
			put(data + 8, len);
			data += len / 8 * 8;
			size -= len / 8 * 8;
		} else {
			put_filler(len);
		}
		transmission = data[2] == 0xff;
	}
}

static void loop_run(bool hold)
{
	while (loopback_step(&loop) || (!hold && memory_volume_step(&volume)))
		;
}

/* One simple reply or chunk at @at; returns its length. */
static size_t reply_check(const uint8_t *at, size_t left)
{
	const struct nbd_simple_reply *simple = (const void *)at;
	const struct nbd_chunk *chunk = (const void *)at;
	uint64_t cookie;
	size_t len;

	CHECK(left >= sizeof *simple);
	if (from_be32(simple->magic) == NBD_SIMPLE_REPLY_MAGIC) {
		cookie = from_be64(simple->cookie);
		len = sizeof *simple + (from_be32(simple->error) ? 0 : cookie >> 32);
	} else {
		CHECK(left >= sizeof *chunk && from_be32(chunk->magic) == NBD_CHUNK_MAGIC);
		cookie = from_be64(chunk->cookie);
		len = sizeof *chunk + from_be32(chunk->len);
		if (from_be16(chunk->type) == NBD_CHUNK_OFFSET_DATA)
			CHECK(len == sizeof *chunk + 8 + (cookie >> 32));
	}
	CHECK((uint32_t)cookie < message_count && !answered[(uint32_t)cookie]);
	answered[(uint32_t)cookie] = 1;
	CHECK(len <= left);
	return len;
}

static void replies_check(int socket, bool structured)
{
	const struct loopback_queue *q = &loop.sockets[socket].to_client;
	/* the greeting, the ACK of STRUCTURED_REPLY, the context and its ACK, and the two replies to GO */
	size_t at = 18 + (structured ? 20 + 20 + 19 + 20 : 0) + 20 + 12 + 20;

	CHECK(q->len >= at);
	while (at < q->len)
		at += reply_check(q->bytes + at, q->len - at);
}

static void stopped(void *context)
{
	*(bool *)context = true;
}

static void play(int socket, unsigned choice, unsigned seed)
{
	if (choice & FUZZ_SPLIT)
		loop.recv_max = seed ? seed + stream_len / 4096 : UINT64_MAX;
	if (choice & FUZZ_SHUFFLE)
		volume.seed = seed + 1;
	if (choice & FUZZ_FAIL)
		volume.fail = seed & 1 ? -EIO : -EROFS;
	loopback_put(&loop, socket, stream, stream_len);
	loop_run(choice & FUZZ_HOLD);
	if (choice & FUZZ_SECOND) {
		int other = loopback_dial(&loop);

		loopback_put(&loop, other, stream, stream_len);
		loop_run(choice & FUZZ_HOLD);
		loopback_hang_up(&loop, other);
	}
	if (choice & FUZZ_HOLD && seed & 1)
		loopback_hang_up(&loop, socket);
	loop_run(false);
	for (int i = 0; i < 50 && seed & 2; i++) {
		loopback_sleep(&loop, NBD_TICK_NS);
		loop_run(false);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nbd_backend backend;
	bool is_stopped = false, program;
	unsigned choice;
	int socket;

	if (size < 2)
		return 0;
	choice = data[0];
	program = !(choice & FUZZ_RAW);
	stream_len = message_count = 0;
	memset(answered, 0, sizeof answered);
	loopback_init(&loop, data[1]);
	memory_volume_init(&volume, VOLUME);
	memset(volume.bytes, 0x5a, VOLUME);
	backend = memory_volume_backend(&volume);
	CHECK(nbd_server_new_backend(&server, &loop.io, &backend, "db0", 2, PAGES * BLOCK_BYTES) == 0);
	nbd_server_offer_tls(server, secure, &loop);
	CHECK(nbd_server_listen(server, "unix:/x") == 0);
	socket = loopback_dial(&loop);
	put_handshake(choice);
	if (program)
		put_program(data + 2, size - 2, choice & FUZZ_GO);
	else
		put(data + 2, size - 2);
	play(socket, choice, data[1]);
	if (program && choice & FUZZ_GO)
		replies_check(socket, choice & FUZZ_STRUCTURED);
	nbd_server_stop(server, stopped, &is_stopped);
	loop_run(false);
	CHECK(is_stopped);
	nbd_server_free(server);
	memory_volume_end(&volume);
	loopback_end(&loop);
	return 0;
}
