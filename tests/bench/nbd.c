/* SPDX-License-Identifier: Apache-2.0 */
/* nbd SOCKET LOAD DEPTH SECONDS: one sample of a daemon, as an NBD client with DEPTH requests in flight sees it.
 *
 *	fill		the whole volume is written once, with what `read` expects (no sample)
 *	write		4 KiB at random blocks
 *	write+fua	the same, each durable when it is answered
 *	write,flush	the same by two requests; the flush's answer ends the operation
 *	stream		1 MiB at a time, one place after the other, at most 6 in flight
 *	read		4 KiB from random blocks of the first quarter, which the other loads leave alone
 *
 * Its way:
 *	handshake()		to the transmission phase
 *	load_run()		requests_begin() fills the free slots, bytes_move() sends and receives,
 *				replies_take() checks the answers and frees their slots
 *	load_check()		outside the sample: a flush, then blocks that were written are read back
 *
 * Every block holds its number and a sequence number that no two writes share, so a read tells which write it
 * sees; a block has at most one write in flight. What is wrong, or silent for 30 s, ends with one line and status 1. */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "nbd_protocol.h"
#include "sample.h"

enum { STREAM_BYTES = 1 << 20, STREAM_DEPTH = 6 };
enum { DEPTH_MAX = 128, FILL_BYTES = 128 << 10, FILL_DEPTH = 16, SILENCE_MS = 30000 };
enum { CHECKED_BLOCKS = 512, FULL_COMPARE = 16 };	/* of the reads of a sample, one in 16 is compared whole */
enum { OUT_BYTES = 8 << 20, IN_BYTES = 4 << 20 };
enum { SEQUENCE_OF_FILL = 1 };

enum load { LOAD_FILL, LOAD_WRITE, LOAD_WRITE_FUA, LOAD_WRITE_FLUSH, LOAD_STREAM, LOAD_READ, LOAD_FLUSH, LOAD_CHECK,
	LOADS };
static const char *const load_names[] = { "fill", "write", "write+fua", "write,flush", "stream", "read" };

struct slot {
	bool busy;
	enum nbd_command command;
	uint64_t block, sequence, begun_ns;
	uint32_t len;
};

struct client {
	int fd;
	uint64_t blocks, read_blocks;	/* of the volume; of them the first are for `read` */
	enum load load;
	unsigned depth, in_flight;
	bool ending;			/* nothing new is begun */
	struct slot slots[DEPTH_MAX];
	uint64_t *written;		/* of each block the sequence that was acknowledged last; 0 = none of ours */
	bool *writing;
	uint64_t sequence, random, next, checked, compared;
	struct sample sample;
	uint8_t *out, *in;
	size_t out_start, out_end, in_start, in_end;
};

/* ---- what a block holds ---------------------------------------------------------------------------- */

static uint64_t stamp(uint64_t block, uint64_t sequence)
{
	uint64_t state = block * 0x2545f4914f6cdd1dull ^ sequence;

	return sample_random(&state);
}

static void block_fill(uint8_t *out, uint64_t block, uint64_t sequence)
{
	uint64_t words[BLOCK_BYTES / 8] = { block, sequence }, first = stamp(block, sequence);

	for (unsigned i = 2; i < BLOCK_BYTES / 8; i++)
		words[i] = first + i;
	memcpy(out, words, sizeof words);
}

static void block_check(struct client *c, const uint8_t *bytes, uint64_t block, uint64_t sequence)
{
	uint8_t expected[BLOCK_BYTES];
	uint64_t found[2];

	memcpy(found, bytes, sizeof found);
	if (found[0] == block && found[1] == sequence && c->load == LOAD_READ && c->compared++ % FULL_COMPARE)
		return;
	block_fill(expected, block, sequence);
	if (memcmp(bytes, expected, BLOCK_BYTES) != 0)
		errx(1, "WRONG DATA: block %llu should be of write %llu; it says block %llu, write %llu",
		     (unsigned long long)block, (unsigned long long)sequence, (unsigned long long)found[0],
		     (unsigned long long)found[1]);
	c->checked++;
}

/* ---- bytes ----------------------------------------------------------------------------------------- */

/* Where the next @len bytes to be sent go. */
static uint8_t *out_room(struct client *c, size_t len)
{
	if (c->out_start == c->out_end || c->out_end + len > OUT_BYTES) {
		memmove(c->out, c->out + c->out_start, c->out_end - c->out_start);
		c->out_end -= c->out_start;
		c->out_start = 0;
	}
	if (c->out_end + len > OUT_BYTES)
		errx(1, "the send buffer is too small");
	c->out_end += len;
	return c->out + c->out_end - len;
}

/* One send, and one receive that waits only when there is nothing left to send. At depth 1 an operation so
 * costs two system calls. */
static void bytes_move(struct client *c)
{
	struct pollfd ready = { .fd = c->fd, .events = POLLIN };
	ssize_t sent = 0, received;

	if (c->out_start < c->out_end) {
		sent = send(c->fd, c->out + c->out_start, c->out_end - c->out_start, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN)
			err(1, "sending to the daemon");
		c->out_start += sent > 0 ? (size_t)sent : 0;
	}
	memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
	c->in_end -= c->in_start;
	c->in_start = 0;
	received = recv(c->fd, c->in + c->in_end, IN_BYTES - c->in_end, c->out_start < c->out_end ? MSG_DONTWAIT : 0);
	if (received > 0) {
		c->in_end += (size_t)received;
		return;
	}
	if (received == 0)
		errx(1, "the daemon has closed the connection");
	if (errno != EAGAIN)
		err(1, "receiving from the daemon");
	ready.events |= c->out_start < c->out_end ? POLLOUT : 0;
	if ((c->out_start == c->out_end || sent <= 0) && poll(&ready, 1, SILENCE_MS) <= 0)
		errx(1, "HANG: no answer for %d s, with %u requests in flight", SILENCE_MS / 1000, c->in_flight);
}

/* The next @len received bytes. */
static void *in_take(struct client *c, size_t len)
{
	while (c->in_end - c->in_start < len)
		bytes_move(c);
	c->in_start += len;
	return c->in + c->in_start - len;
}

/* ---- handshake ------------------------------------------------------------------------------------- */

static void handshake(struct client *c)
{
	struct { struct nbd_client_flags flags; struct nbd_option option; be32 name_len; be16 infos; }
		__attribute__((packed)) hello = {
			{ to_be32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) },
			{ to_be64(NBD_OPTION_MAGIC), to_be32(NBD_OPT_GO), to_be32(6) }, to_be32(0), to_be16(0) };
	struct nbd_greeting greeting;

	memcpy(&greeting, in_take(c, sizeof greeting), sizeof greeting);
	if (from_be64(greeting.magic) != NBD_GREETING_MAGIC)
		errx(1, "the daemon does not speak NBD");
	memcpy(out_room(c, sizeof hello), &hello, sizeof hello);
	for (;;) {
		struct nbd_option_reply reply;
		struct nbd_info_export export;
		uint8_t *data;

		memcpy(&reply, in_take(c, sizeof reply), sizeof reply);
		data = in_take(c, from_be32(reply.len));
		if (from_be32(reply.reply) == NBD_REP_ACK)
			break;
		if (from_be32(reply.reply) != NBD_REP_INFO)
			errx(1, "the daemon refuses: %.*s", (int)from_be32(reply.len), data);
		if (from_be32(reply.len) != sizeof export)
			continue;
		memcpy(&export, data, sizeof export);
		c->blocks = from_be64(export.bytes) / BLOCK_BYTES;
		if (from_be16(export.flags) & NBD_FLAG_READ_ONLY)
			errx(1, "the volume is read-only here: its daemon is not the primary");
	}
	c->read_blocks = c->blocks / 4;
}

static void connect_to(struct client *c, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct timeval silence = { .tv_sec = SILENCE_MS / 1000 };

	if (strlen(path) >= sizeof at.sun_path)
		errx(1, "%s: a socket's path has at most 107 bytes", path);
	strcpy(at.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof at) < 0 ||
	    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence) < 0)
		err(1, "%s", path);
	c->out = malloc(OUT_BYTES);
	c->in = malloc(IN_BYTES);
	if (!c->out || !c->in)
		errx(1, "no memory for buffers");
	handshake(c);
	c->written = calloc(c->blocks, sizeof *c->written);
	c->writing = calloc(c->blocks, sizeof *c->writing);
	if (!c->written || !c->writing)
		errx(1, "no memory for %llu blocks", (unsigned long long)c->blocks);
	c->random = c->sequence = sample_now_ns();
}

/* ---- requests -------------------------------------------------------------------------------------- */

static void request_send(struct client *c, struct slot *slot, enum nbd_command command, unsigned flags)
{
	struct nbd_request_header header = {
		to_be32(NBD_REQUEST_MAGIC), to_be16((uint16_t)flags), to_be16((uint16_t)command),
		to_be64((uint64_t)(slot - c->slots)), to_be64(slot->block * BLOCK_BYTES), to_be32(slot->len) };

	slot->command = command;
	if (command == NBD_CMD_FLUSH) {
		header.offset = to_be64(0);
		header.len = to_be32(0);
	}
	memcpy(out_room(c, sizeof header), &header, sizeof header);
	for (uint32_t at = 0; command == NBD_CMD_WRITE && at < slot->len; at += BLOCK_BYTES)
		block_fill(out_room(c, BLOCK_BYTES), slot->block + at / BLOCK_BYTES, slot->sequence);
}

static void write_begin(struct client *c, struct slot *slot)
{
	slot->sequence = ++c->sequence;
	do
		slot->block = c->read_blocks + sample_random(&c->random) % (c->blocks - c->read_blocks);
	while (c->writing[slot->block]);
	c->writing[slot->block] = true;
	request_send(c, slot, NBD_CMD_WRITE, c->load == LOAD_WRITE_FUA ? NBD_CMD_FLAG_FUA : 0);
}

/* The first block of a place stands for all of it: places do not overlap, and there are more than are in flight. */
static void stream_begin(struct client *c, struct slot *slot)
{
	uint64_t places = (c->blocks - c->read_blocks) * BLOCK_BYTES / STREAM_BYTES;

	if (places <= STREAM_DEPTH)
		errx(1, "the volume is too small for a stream");
	slot->sequence = ++c->sequence;
	slot->len = STREAM_BYTES;
	slot->block = c->read_blocks + c->next++ % places * (STREAM_BYTES / BLOCK_BYTES);
	request_send(c, slot, NBD_CMD_WRITE, 0);
}

/* The next request of the load. False: there is none any more. */
static bool request_begin(struct client *c, struct slot *slot)
{
	*slot = (struct slot){ .busy = true, .len = BLOCK_BYTES, .begun_ns = sample_now_ns() };
	switch (c->load) {
	case LOAD_FILL:
		slot->block = c->next;
		slot->len = (uint32_t)min_u64(FILL_BYTES, (c->blocks - c->next) * BLOCK_BYTES);
		slot->sequence = SEQUENCE_OF_FILL;
		c->next += slot->len / BLOCK_BYTES;
		if (slot->len > 0)
			request_send(c, slot, NBD_CMD_WRITE, 0);
		return slot->len > 0;
	case LOAD_STREAM:
		stream_begin(c, slot);
		return true;
	case LOAD_READ:
		slot->block = sample_random(&c->random) % c->read_blocks;
		slot->sequence = SEQUENCE_OF_FILL;
		request_send(c, slot, NBD_CMD_READ, 0);
		return true;
	case LOAD_FLUSH:
		if (c->next++ == 0)
			request_send(c, slot, NBD_CMD_FLUSH, 0);
		return c->next == 1;
	case LOAD_CHECK:
		while (c->next < c->blocks && !c->written[c->next])
			c->next++;
		if (c->next == c->blocks || c->checked >= CHECKED_BLOCKS)
			return false;
		slot->block = c->next++;
		slot->sequence = c->written[slot->block];
		request_send(c, slot, NBD_CMD_READ, 0);
		return true;
	default:
		write_begin(c, slot);
		return true;
	}
}

static void requests_begin(struct client *c)
{
	for (struct slot *slot = c->slots; slot < c->slots + c->depth && !c->ending; slot++) {
		if (slot->busy)
			continue;
		slot->busy = request_begin(c, slot);
		c->ending = !slot->busy;
		c->in_flight += slot->busy;
	}
}

static void reply_take(struct client *c, struct slot *slot, const uint8_t *data)
{
	if (slot->command == NBD_CMD_READ)
		block_check(c, data, slot->block, slot->sequence);
	if (slot->command == NBD_CMD_WRITE && c->load == LOAD_WRITE_FLUSH) {
		request_send(c, slot, NBD_CMD_FLUSH, 0);
		return;
	}
	if (c->load >= LOAD_WRITE && c->load <= LOAD_STREAM) {
		c->written[slot->block] = slot->sequence;
		c->writing[slot->block] = false;
	}
	slot->busy = false;
	c->in_flight--;
	if (c->load <= LOAD_READ)
		c->ending |= !sample_add(&c->sample, slot->begun_ns);
}

/* All answers that have come whole. */
static void replies_take(struct client *c)
{
	struct nbd_simple_reply reply;

	while (c->in_end - c->in_start >= sizeof reply) {
		struct slot *slot;
		size_t data_len;

		memcpy(&reply, c->in + c->in_start, sizeof reply);
		if (from_be32(reply.magic) != NBD_SIMPLE_REPLY_MAGIC || from_be64(reply.cookie) >= c->depth)
			errx(1, "the daemon's answer is not one to our requests");
		slot = &c->slots[from_be64(reply.cookie)];
		if (!slot->busy || reply.error.raw)
			errx(1, "NBD error %u in answer to command %d at block %llu%s", from_be32(reply.error),
			     slot->command, (unsigned long long)slot->block, slot->busy ? "" : ", which was not asked");
		data_len = slot->command == NBD_CMD_READ ? slot->len : 0;
		if (c->in_end - c->in_start < sizeof reply + data_len)
			return;
		c->in_start += sizeof reply + data_len;
		reply_take(c, slot, c->in + c->in_start - data_len);
	}
}

static void load_run(struct client *c, enum load load, unsigned depth, double seconds)
{
	c->load = load;
	c->depth = depth;
	c->ending = false;
	c->next = 0;
	if (load <= LOAD_READ)
		sample_begin(&c->sample, seconds);
	for (;;) {
		requests_begin(c);
		if (c->in_flight == 0)
			return;
		bytes_move(c);
		replies_take(c);
	}
}

/* What was acknowledged is there; a flush, so that the next sample does not pay for this one. */
static void load_check(struct client *c, enum load load)
{
	load_run(c, LOAD_FLUSH, 1, 0);
	if (load == LOAD_READ || load == LOAD_FILL)
		return;
	load_run(c, LOAD_CHECK, 8, 0);
	if (c->checked == 0)
		errx(1, "no block could be checked");
}

int main(int argc, char **argv)
{
	static struct client client;
	unsigned depth = argc == 5 ? (unsigned)atoi(argv[3]) : 0;
	double seconds = argc == 5 ? atof(argv[4]) : 0;
	enum load load = LOAD_FILL;

	while (argc == 5 && load <= LOAD_READ && strcmp(argv[2], load_names[load]) != 0)
		load++;
	if (argc != 5 || load > LOAD_READ || depth < 1 || depth > (load == LOAD_STREAM ? STREAM_DEPTH : DEPTH_MAX))
		errx(2, "usage: nbd SOCKET fill|write|write+fua|write,flush|stream|read DEPTH SECONDS");
	connect_to(&client, argv[1]);
	if (load == LOAD_FILL) {
		load_run(&client, load, FILL_DEPTH, 600);
		load_check(&client, load);
		return 0;
	}
	load_run(&client, load, depth, seconds);
	load_check(&client, load);
	sample_print(&client.sample, load_names[load], depth);
	return 0;
}
