/* SPDX-License-Identifier: Apache-2.0 */
/* The transmission phase. One request, from its header to its reply:
 *
 *	nbd_step_request()	a whole header is there: it is checked, gets a request and a buffer, or waits
 *	nbd_step_payload()	the rest of a write's data is there
 *	request_do()		it is the volume's
 *	request_done()		the volume's answer; BLOCK_STATUS asks again until it has enough extents
 *	reply_queue()		it will be answered, at the end of this turn of the loop
 *	nbd_replies_soon()	all that is done by then is packed into one send
 *	nbd_request_release()	the reply is packed, or sent: request and buffer are free
 *
 * Requests run side by side and are answered in the order they finish. Each accepted header is answered
 * exactly once, unless the connection ends before. */
#include <errno.h>
#include <string.h>

#include "nbd_private.h"

void nbd_transmission_init(struct nbd_connection *c)
{
	list_init(&c->requests_free);
	list_init(&c->replies);
	for (unsigned i = 0; i < NBD_REQUESTS_MAX; i++) {
		c->requests[i].connection = c;
		list_append(&c->requests_free, &c->requests[i].link);
	}
}

static enum nbd_error error_of(int result)
{
	switch (-result) {
	case 0:
		return NBD_OK;
	case EROFS:
	case EPERM:
		return NBD_EPERM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOMEM:
		return NBD_ENOMEM;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case ESHUTDOWN:
	case ECANCELED:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

/* ---- receive and check --------------------------------------------------------------------------- */

/* The rules of each command: FUA is allowed with all of them, as existing clients send it so. */
static const struct command_rule {
	bool known, writes;
	unsigned flags;
	enum nbd_error beyond;		/* when the range ends beyond the volume */
} rules[] = {
	[NBD_CMD_READ] = { true, false, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF, NBD_EINVAL },
	[NBD_CMD_WRITE] = { true, true, NBD_CMD_FLAG_FUA, NBD_ENOSPC },
	[NBD_CMD_FLUSH] = { true, false, NBD_CMD_FLAG_FUA, NBD_EINVAL },
	[NBD_CMD_TRIM] = { true, true, NBD_CMD_FLAG_FUA, NBD_EINVAL },
	[NBD_CMD_WRITE_ZEROES] = { true, true, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
				   NBD_ENOSPC },
	[NBD_CMD_BLOCK_STATUS] = { true, false, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE, NBD_EINVAL },
};

/* What the header claims, in our byte order. */
struct header { unsigned flags, command; be64 cookie; uint64_t offset; uint32_t len; };

/* Takes the header apart. Returns what is so wrong that only hanging up is left, or NULL. */
static const char *header_check(const struct nbd_request_header *wire, struct header *header)
{
	if (from_be32(wire->magic) != NBD_REQUEST_MAGIC)
		return "what it sent is not an NBD request: the magic is wrong";
	*header = (struct header){ from_be16(wire->flags), from_be16(wire->command), wire->cookie,
				   from_be64(wire->offset), from_be32(wire->len) };
	if (header->command == NBD_CMD_WRITE && header->len > NBD_SKIP_BYTES_MAX)
		return "it sent a write of more than 64 MiB";
	return NULL;
}

/* May it be done? What is refused here is answered, and the connection goes on. */
static enum nbd_error header_refuse(const struct nbd_connection *c, const struct header *h)
{
	bool moves_data = h->command == NBD_CMD_READ || h->command == NBD_CMD_WRITE;
	const struct nbd_server *s = c->server;
	const struct command_rule *rule;

	if (h->command >= sizeof rules / sizeof rules[0])
		return NBD_EINVAL;
	rule = &rules[h->command];
	if (!rule->known || h->flags & ~rule->flags)
		return NBD_EINVAL;
	if (rule->writes && (c->read_only || !s->writable))
		return NBD_EPERM;
	if (h->command == NBD_CMD_FLUSH)
		return h->offset || h->len ? NBD_EINVAL : NBD_OK;
	if (h->flags & NBD_CMD_FLAG_DF && !c->structured)
		return NBD_EINVAL;
	if (h->command == NBD_CMD_BLOCK_STATUS && !c->allocation)
		return NBD_EINVAL;
	if (h->len == 0)
		return NBD_EINVAL;
	if (h->offset > s->backend.bytes || h->len > s->backend.bytes - h->offset)
		return rule->beyond;
	if (moves_data && h->len > s->request_bytes_max)
		return h->flags & NBD_CMD_FLAG_DF ? NBD_EOVERFLOW : NBD_EINVAL;
	return NBD_OK;
}

/* A read that is sent from its own buffer has a page before its blocks, whose end takes the header. */
static uint32_t header_page(const struct header *h)
{
	return h->command == NBD_CMD_READ && h->len > NBD_PACK_BYTES ? 1 : 0;
}

static uint32_t pages_of(const struct header *h)
{
	if (h->command == NBD_CMD_BLOCK_STATUS)
		return 1;		/* NBD_EXTENTS_MAX extents */
	if (h->command != NBD_CMD_READ && h->command != NBD_CMD_WRITE)
		return 0;
	return (uint32_t)(VOLUME_BUFFER_BYTES(h->offset, (uint64_t)h->len) / BLOCK_BYTES) + header_page(h);
}
_Static_assert(NBD_EXTENTS_MAX * sizeof(struct nbd_extent) <= BLOCK_BYTES, "in one page");
_Static_assert(NBD_EXTENTS_MAX * sizeof(struct nbd_extent) <= NBD_PACK_BYTES, "they are packed");

/* Its one buffer, for its whole life. False: somebody else waits already, or there is no room. */
static bool buffer_take(struct nbd_connection *c, uint32_t pages, uint8_t **buffer)
{
	struct nbd_server *s = c->server;
	bool is_turn = c->is_turn;

	*buffer = NULL;
	if (pages == 0)
		return true;
	c->is_turn = false;
	if (is_turn || list_empty(&s->starved))
		*buffer = nbd_buffers_take(&s->buffers, pages);
	c->buffer_count += *buffer != NULL;
	return *buffer != NULL;
}

static struct nbd_request *request_take(struct nbd_connection *c, const struct header *h, uint8_t *buffer)
{
	struct nbd_request *r = list_entry(list_first(&c->requests_free), struct nbd_request, link);

	list_remove(&r->link);
	c->request_count++;
	r->command = h->command;
	r->flags = h->flags;
	r->cookie = h->cookie;
	r->offset = h->offset;
	r->len = h->len;
	r->error = NBD_OK;
	r->buffer = buffer;
	r->data = NULL;
	if (h->command == NBD_CMD_BLOCK_STATUS)
		r->data = buffer;
	else if (buffer)	/* as in the volume's blocks, so that whole blocks stay aligned */
		r->data = buffer + (uint64_t)header_page(h) * BLOCK_BYTES + h->offset % BLOCK_BYTES;
	r->payload_received = 0;
	r->extent_count = r->map_count = 0;
	return r;
}

void nbd_request_release(struct nbd_request *r)
{
	struct nbd_connection *c = r->connection;

	list_remove(&r->link);
	if (r->buffer) {
		nbd_buffers_put(&c->server->buffers, r->buffer);
		r->buffer = NULL;
		c->buffer_count--;
		nbd_server_buffer_freed(c->server);
	}
	CHECK(c->request_count > 0);
	c->request_count--;
	list_append(&c->requests_free, &r->link);
}

/* Called when the whole reply can be told; it is sent at the end of the turn, with all others of it. */
static void reply_queue(struct nbd_request *r)
{
	struct nbd_connection *c = r->connection;

	list_append(&c->replies, &r->link);
	if (!c->send.in_flight && !c->soon.in_flight)
		c->server->io->submit(c->server->io, &c->soon);
}

/* A refused write is answered after its data has come and was dropped: libnbd takes a reply to what it is
 * still sending for a reply to nothing, and gives up. */
static void request_refuse(struct nbd_connection *c, const struct header *h, enum nbd_error error)
{
	struct nbd_request *r = request_take(c, h, NULL);

	r->error = error;
	if (h->command == NBD_CMD_WRITE && h->len > 0) {
		c->payload = r;
		c->skip = h->len;
		nbd_connection_move(c, NBD_PAYLOAD_SKIP);
	} else {
		reply_queue(r);
	}
}

enum nbd_step nbd_step_payload_skip(struct nbd_connection *c)
{
	struct nbd_request *r = c->payload;

	if (!nbd_connection_skip(c))
		return NBD_BYTES;
	c->payload = NULL;
	nbd_connection_move(c, NBD_REQUEST);
	reply_queue(r);
	return NBD_AGAIN;
}

static void request_do(struct nbd_request *r);

enum nbd_step nbd_step_request(struct nbd_connection *c)
{
	struct nbd_request_header wire;
	struct header header;
	enum nbd_error error;
	const char *wrong;
	uint8_t *buffer;

	if (c->in_end - c->in_start < sizeof wire)
		return NBD_BYTES;
	memcpy(&wire, c->in + c->in_start, sizeof wire);
	wrong = header_check(&wire, &header);
	if (wrong) {
		nbd_connection_drop(c, wrong);
		return NBD_WAIT;
	}
	if (header.command == NBD_CMD_DISC) {
		c->in_start += sizeof wire;
		nbd_connection_leave(c);
		return NBD_AGAIN;
	}
	if (list_empty(&c->requests_free))
		return NBD_WAIT;		/* until a reply is sent; the header stays where it is */
	error = header_refuse(c, &header);
	if (error) {
		c->in_start += sizeof wire;
		request_refuse(c, &header, error);
		return NBD_AGAIN;
	}
	if (!buffer_take(c, pages_of(&header), &buffer)) {
		c->pages_wanted = pages_of(&header);
		list_append(&c->server->starved, &c->link);
		nbd_connection_move(c, NBD_STARVED);
		return NBD_WAIT;
	}
	c->in_start += sizeof wire;
	if (header.command == NBD_CMD_WRITE) {
		c->payload = request_take(c, &header, buffer);
		nbd_connection_move(c, NBD_PAYLOAD);
	} else {
		request_do(request_take(c, &header, buffer));
	}
	return NBD_AGAIN;
}

/* Data comes here from the receive buffer, or was received directly: connection_receive() chooses. */
enum nbd_step nbd_step_payload(struct nbd_connection *c)
{
	struct nbd_request *r = c->payload;
	uint32_t len = (uint32_t)min_u64(r->len - r->payload_received, c->in_end - c->in_start);

	memcpy(r->data + r->payload_received, c->in + c->in_start, len);
	c->in_start += len;
	r->payload_received += len;
	if (r->payload_received < r->len)
		return NBD_BYTES;
	c->payload = NULL;
	nbd_connection_move(c, NBD_REQUEST);
	request_do(r);
	return NBD_AGAIN;
}

/* ---- do ------------------------------------------------------------------------------------------ */

static void request_done(struct volume_request *volume, int result);

static void request_do(struct nbd_request *r)
{
	struct nbd_server *s = r->connection->server;
	struct volume_request *v = &r->volume;

	*v = (struct volume_request){ .offset = r->offset, .len = r->len, .done = request_done };
	v->flags = r->flags & NBD_CMD_FLAG_FUA && rules[r->command].writes ? VOLUME_FUA : 0;
	switch (r->command) {
	case NBD_CMD_READ:
		v->op = VOLUME_READ;
		v->buffer = r->data - r->offset % BLOCK_BYTES;
		break;
	case NBD_CMD_WRITE:
		v->op = VOLUME_WRITE;
		v->buffer = r->data;
		break;
	case NBD_CMD_FLUSH:
		v->op = VOLUME_FLUSH;
		break;
	case NBD_CMD_TRIM:
		v->op = VOLUME_DISCARD;
		break;
	case NBD_CMD_WRITE_ZEROES:	/* what was discarded reads as zeros, too */
		v->op = r->flags & NBD_CMD_FLAG_NO_HOLE ? VOLUME_ZERO : VOLUME_DISCARD;
		break;
	case NBD_CMD_BLOCK_STATUS:
		v->op = VOLUME_MAP;
		break;
	case NBD_CMD_DISC:
		CHECK(!"a request");
	}
	s->backend.submit(s->backend.context, v);
}

/* One more answer of MAP. True when the client shall be asked to come back for the rest, or has all. */
static bool status_append(struct nbd_request *r, bool is_data)
{
	struct volume_request *v = &r->volume;
	uint32_t flags = is_data ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO;
	struct nbd_extent *extents = (struct nbd_extent *)(void *)r->data, *last;

	CHECK(v->extent >= 1 && v->extent <= v->len);
	last = r->extent_count ? &extents[r->extent_count - 1] : NULL;
	if (last && from_be32(last->flags) == flags)
		last->len = to_be32(from_be32(last->len) + (uint32_t)v->extent);
	else
		extents[r->extent_count++] =
			(struct nbd_extent){ to_be32((uint32_t)v->extent), to_be32(flags) };
	r->map_count++;
	v->offset += v->extent;
	v->len -= v->extent;
	return v->len == 0 || r->map_count == NBD_EXTENTS_MAX || r->flags & NBD_CMD_FLAG_REQ_ONE;
}

static void request_done(struct volume_request *volume, int result)
{
	struct nbd_request *r = container_of(volume, struct nbd_request, volume);
	struct nbd_connection *c = r->connection;

	if (c->state == NBD_GONE) {
		nbd_request_release(r);
		nbd_connection_settle(c);
		return;
	}
	if (r->command == NBD_CMD_BLOCK_STATUS && result >= 0 && !status_append(r, result == 1)) {
		c->server->backend.submit(c->server->backend.context, volume);
		return;
	}
	r->error = error_of(result < 0 ? result : 0);
	reply_queue(r);
}

/* ---- reply --------------------------------------------------------------------------------------- */

/* How many bytes of r->data follow the header. */
static uint32_t reply_data_len(const struct nbd_request *r)
{
	if (r->error)
		return 0;
	if (r->command == NBD_CMD_READ)
		return r->len;
	if (r->command == NBD_CMD_BLOCK_STATUS)
		return r->extent_count * (uint32_t)sizeof(struct nbd_extent);
	return 0;
}

/* Structured only where they must be: the answers to READ, once negotiated, and to BLOCK_STATUS. One chunk
 * is the whole reply, as all of it is known before its first byte is sent. Returns the header's length. */
static uint32_t reply_header(const struct nbd_request *r, uint8_t out[NBD_REPLY_HEADER_MAX])
{
	bool structured = r->connection->structured &&
			  (r->command == NBD_CMD_READ || r->command == NBD_CMD_BLOCK_STATUS);
	struct nbd_simple_reply simple = { to_be32(NBD_SIMPLE_REPLY_MAGIC), to_be32(r->error), r->cookie };
	struct nbd_chunk chunk = { to_be32(NBD_CHUNK_MAGIC), to_be16(NBD_CHUNK_DONE), { 0 }, r->cookie, { 0 } };
	uint32_t data_len = reply_data_len(r);

	if (!structured) {
		memcpy(out, &simple, sizeof simple);
		return sizeof simple;
	}
	if (r->error) {
		struct nbd_chunk_error error = { chunk, to_be32(r->error), to_be16(0) };

		error.chunk.type = to_be16(NBD_CHUNK_ERROR);
		error.chunk.len = to_be32(sizeof error - sizeof chunk);
		memcpy(out, &error, sizeof error);
		return sizeof error;
	}
	if (r->command == NBD_CMD_READ) {
		struct nbd_chunk_data data = { chunk, to_be64(r->offset) };

		data.chunk.type = to_be16(NBD_CHUNK_OFFSET_DATA);
		data.chunk.len = to_be32((uint32_t)(sizeof data - sizeof chunk) + data_len);
		memcpy(out, &data, sizeof data);
		return sizeof data;
	}
	struct nbd_chunk_status status = { chunk, to_be32(NBD_CONTEXT_ALLOCATION) };

	status.chunk.type = to_be16(NBD_CHUNK_BLOCK_STATUS);
	status.chunk.len = to_be32((uint32_t)(sizeof status - sizeof chunk) + data_len);
	memcpy(out, &status, sizeof status);
	return sizeof status;
}

/* As many replies as go into one send: all small ones at the front of the queue, or one large one. */
static void replies_send(struct nbd_connection *c)
{
	uint8_t header[NBD_REPLY_HEADER_MAX];
	struct list *link;

	c->out_len = 0;
	while ((link = list_first(&c->replies)) != NULL) {
		struct nbd_request *r = list_entry(link, struct nbd_request, link);
		uint32_t data_len = reply_data_len(r), header_len;

		if (data_len > NBD_PACK_BYTES && c->out_len > 0)
			break;
		if (c->out_len + NBD_REPLY_HEADER_MAX + data_len > NBD_OUT_BYTES && data_len <= NBD_PACK_BYTES)
			break;
		header_len = reply_header(r, header);
		if (data_len > NBD_PACK_BYTES) {
			list_remove(&r->link);
			memcpy(r->data - header_len, header, header_len);
			c->sending = r;
			c->send_at = r->data - header_len;
			c->send_left = (uint64_t)header_len + data_len;
			nbd_connection_send(c, c->send_at, min_u64(c->send_left, IO_LEN_MAX));
			return;
		}
		memcpy(c->out + c->out_len, header, header_len);
		if (data_len > 0)
			memcpy(c->out + c->out_len + header_len, r->data, data_len);
		c->out_len += header_len + data_len;
		nbd_request_release(r);
	}
	if (c->out_len > 0)
		nbd_connection_send(c, c->out, c->out_len);
}

void nbd_replies_soon(struct io_op *op, int64_t result)
{
	struct nbd_connection *c = container_of(op, struct nbd_connection, soon);

	(void)result;
	if (c->state == NBD_GONE) {
		nbd_connection_settle(c);
		return;
	}
	if (!c->send.in_flight)
		replies_send(c);
	nbd_connection_advance(c);	/* there are free requests again */
}

void nbd_replies_sent(struct nbd_connection *c)
{
	if (c->sending) {
		c->send_at += c->send.len;
		c->send_left -= c->send.len;
		if (c->send_left > 0) {
			nbd_connection_send(c, c->send_at, min_u64(c->send_left, IO_LEN_MAX));
			return;
		}
		nbd_request_release(c->sending);
		c->sending = NULL;
	}
	replies_send(c);
}
