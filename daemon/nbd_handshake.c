/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake: from the greeting until the client has chosen the export.
 *
 *	nbd_greet()		who we are
 *	nbd_step_flags()	who the client is
 *	nbd_step_option()	one whole option: its header is checked, it is looked up, done and answered
 *
 * Options are answered one by one: the next is not looked at before the last answer is sent, so the
 * send buffer always has room for all answers to one option. */
#include <errno.h>
#include <string.h>

#include "nbd_private.h"
#include "say.h"

static const char context_name[] = "base:allocation";

/* What is left of an option's data, to be taken from its front. */
struct option_data { const uint8_t *at; uint64_t left; };

static bool take(struct option_data *data, void *out, size_t len)
{
	if (data->left < len)
		return false;
	memcpy(out, data->at, len);
	data->at += len;
	data->left -= len;
	return true;
}

/* A string with its length before it, left where it is. */
static bool take_string(struct option_data *data, const uint8_t **string, uint32_t *len)
{
	be32 wire;

	if (!take(data, &wire, sizeof wire) || from_be32(wire) > data->left)
		return false;
	*string = data->at;
	*len = from_be32(wire);
	data->at += *len;
	data->left -= *len;
	return true;
}

/* Both names mean the one export: its own, and "" for the default. */
static bool export_is_ours(const struct nbd_connection *c, const uint8_t *name, uint64_t len)
{
	const char *ours = c->server->name;

	return len == 0 || (len == strlen(ours) && memcmp(name, ours, len) == 0);
}

static void put(struct nbd_connection *c, const void *bytes, size_t len)
{
	CHECK(len <= NBD_OUT_BYTES - c->out_len);
	memcpy(c->out + c->out_len, bytes, len);
	c->out_len += (uint32_t)len;
}

static void put_reply(struct nbd_connection *c, uint32_t option, uint32_t reply, size_t len)
{
	struct nbd_option_reply wire = {
		to_be64(NBD_OPTION_REPLY_MAGIC), to_be32(option), to_be32(reply), to_be32((uint32_t)len) };

	put(c, &wire, sizeof wire);
}

static void put_ack(struct nbd_connection *c, uint32_t option)
{
	put_reply(c, option, NBD_REP_ACK, 0);
}

static void put_error(struct nbd_connection *c, uint32_t option, enum nbd_reply_code error, const char *message)
{
	put_reply(c, option, NBD_REP_ERROR + (uint32_t)error, strlen(message));
	put(c, message, strlen(message));
}

static void put_info(struct nbd_connection *c, uint32_t option, const void *info, size_t len)
{
	put_reply(c, option, NBD_REP_INFO, len);
	put(c, info, len);
}

static uint16_t export_flags(const struct nbd_connection *c)
{
	/* One volume behind all connections: a flush on any of them covers what was answered on every
	 * other, as CAN_MULTI_CONN asks. Zeroing is a range in the log, always faster than its bytes. */
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
			 NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_CAN_MULTI_CONN;

	if (c->structured)
		flags |= NBD_FLAG_SEND_DF;
	if (!c->server->writable)
		flags |= NBD_FLAG_READ_ONLY;
	return (uint16_t)flags;
}

void nbd_greet(struct nbd_connection *c)
{
	struct nbd_greeting greeting = { to_be64(NBD_GREETING_MAGIC), to_be64(NBD_OPTION_MAGIC),
					 to_be16(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) };

	put(c, &greeting, sizeof greeting);
	nbd_connection_send(c, c->out, c->out_len);
}

static int client_flags_check(const struct nbd_client_flags *wire)
{
	uint32_t known = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES;

	return from_be32(wire->flags) & ~known ? -EBADMSG : 0;
}

enum nbd_step nbd_step_flags(struct nbd_connection *c)
{
	struct nbd_client_flags wire;

	if (c->in_end - c->in_start < sizeof wire)
		return NBD_BYTES;
	memcpy(&wire, c->in + c->in_start, sizeof wire);
	c->in_start += sizeof wire;
	if (client_flags_check(&wire) < 0) {
		nbd_connection_drop(c, "it sent handshake flags that do not exist");
		return NBD_WAIT;
	}
	c->no_zeroes = from_be32(wire.flags) & NBD_FLAG_NO_ZEROES;
	nbd_connection_move(c, NBD_OPTION);
	return NBD_AGAIN;
}

/* ---- the options, each with its data; the answer goes to c->out ---------------------------------- */

static void enter_transmission(struct nbd_connection *c)
{
	c->read_only = !c->server->writable;
	c->deadline_ns = 0;
	nbd_connection_move(c, NBD_REQUEST);
	say(c->server->io, IO_INFO, "volume=%s nbd client %u connected%s, %s", c->server->name, c->number,
	    c->tls ? ", encrypted" : "", c->read_only ? "read-only: this node is not the primary" : "read-write");
}

static void option_export_name(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	struct nbd_export export = { to_be64(c->server->backend.bytes), to_be16(export_flags(c)) };
	static const uint8_t zeroes[NBD_ZEROES_BYTES];

	(void)option;
	if (!export_is_ours(c, data.at, data.left)) {
		nbd_connection_drop(c, "it asked for an export that is not served here");
		return;		/* this option has no way to say so */
	}
	put(c, &export, sizeof export);
	if (!c->no_zeroes)
		put(c, zeroes, sizeof zeroes);
	enter_transmission(c);
}

static void option_abort(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	(void)data;
	put_ack(c, option);
	nbd_connection_leave(c);
}

static void option_list(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	size_t name_len = strlen(c->server->name);
	be32 wire = to_be32((uint32_t)name_len);

	if (data.left > 0) {
		put_error(c, option, NBD_REP_ERR_INVALID, "LIST has no data");
		return;
	}
	put_reply(c, option, NBD_REP_SERVER, sizeof wire + name_len);
	put(c, &wire, sizeof wire);
	put(c, c->server->name, name_len);
	put_ack(c, option);
}

static void option_starttls(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	if (data.left > 0) {
		put_error(c, option, NBD_REP_ERR_INVALID, "STARTTLS has no data");
	} else if (!c->server->secure) {
		put_error(c, option, NBD_REP_ERR_UNSUP, "no TLS here: only this machine is served");
	} else if (c->tls) {
		put_error(c, option, NBD_REP_ERR_INVALID, "this connection is encrypted already");
	} else if (c->in_start != c->in_end) {
		/* Who has put them there is not who will prove to be a client. */
		nbd_connection_drop(c, "it sent more behind STARTTLS before it was answered");
	} else {
		put_ack(c, option);
		nbd_connection_move(c, NBD_SECURING);
	}
}

/* What was agreed in the clear counts no more, as the specification asks. */
enum nbd_step nbd_step_securing(struct nbd_connection *c)
{
	struct nbd_server *s = c->server;

	if (c->send.in_flight)
		return NBD_WAIT;
	if (s->secure(s->secure_context, c->socket) < 0) {
		nbd_connection_drop(c, "too many clients are encrypted, or there is no memory for one more");
		return NBD_WAIT;
	}
	c->tls = true;
	c->structured = c->allocation = false;
	nbd_connection_move(c, NBD_OPTION);
	return NBD_AGAIN;
}

static void option_structured_reply(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	if (data.left > 0) {
		put_error(c, option, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY has no data");
		return;
	}
	c->structured = true;
	put_ack(c, option);
}

/* The data of INFO and GO: a name, a count of information requests, and exactly that many. */
static int info_check(struct option_data *data, const uint8_t **name, uint32_t *name_len)
{
	be16 count;

	if (!take_string(data, name, name_len) || !take(data, &count, sizeof count))
		return -EBADMSG;
	return data->left == from_be16(count) * sizeof(be16) ? 0 : -EBADMSG;
}

static void put_info_text(struct nbd_connection *c, uint32_t option, enum nbd_info_kind kind, const char *text)
{
	uint8_t info[sizeof(be16) + NAME_BYTES + 32];
	be16 wire = to_be16(kind);
	size_t len = strlen(text);

	CHECK(len <= sizeof info - sizeof wire);
	memcpy(info, &wire, sizeof wire);
	memcpy(info + sizeof wire, text, len);
	put_info(c, option, info, sizeof wire + len);
}

/* Each kind once, however often it was asked for; EXPORT in any case. */
static void put_infos(struct nbd_connection *c, uint32_t option, struct option_data kinds)
{
	struct nbd_info_export export = { to_be16(NBD_INFO_EXPORT), to_be64(c->server->backend.bytes),
					  to_be16(export_flags(c)) };
	struct nbd_info_block_size sizes = { to_be16(NBD_INFO_BLOCK_SIZE), to_be32(1), to_be32(BLOCK_BYTES),
					     to_be32(c->server->request_bytes_max) };
	char description[NAME_BYTES + 32];
	unsigned asked = 0;
	be16 kind;

	while (take(&kinds, &kind, sizeof kind))
		asked |= from_be16(kind) < 32 ? 1u << from_be16(kind) : 0;
	put_info(c, option, &export, sizeof export);
	if (asked & 1u << NBD_INFO_NAME)
		put_info_text(c, option, NBD_INFO_NAME, c->server->name);
	if (asked & 1u << NBD_INFO_DESCRIPTION) {
		snprintf(description, sizeof description, "Holdfast volume %s", c->server->name);
		put_info_text(c, option, NBD_INFO_DESCRIPTION, description);
	}
	if (asked & 1u << NBD_INFO_BLOCK_SIZE)
		put_info(c, option, &sizes, sizeof sizes);
	put_ack(c, option);
}

static void option_info(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	const uint8_t *name;
	uint32_t name_len;

	if (info_check(&data, &name, &name_len) < 0) {
		put_error(c, option, NBD_REP_ERR_INVALID, "lengths do not add up");
	} else if (!export_is_ours(c, name, name_len)) {
		put_error(c, option, NBD_REP_ERR_UNKNOWN, "no such export; the default export has no name");
	} else {
		put_infos(c, option, data);
		if (option == NBD_OPT_GO)
			enter_transmission(c);
	}
}

/* The data of LIST_ and SET_META_CONTEXT: an export's name, a count of queries, and exactly that many.
 * Leaves @data at the first query. */
static int meta_check(struct option_data *data, const uint8_t **name, uint32_t *name_len, uint32_t *count)
{
	struct option_data rest;
	const uint8_t *query;
	uint32_t query_len;
	be32 wire;

	if (!take_string(data, name, name_len) || !take(data, &wire, sizeof wire))
		return -EBADMSG;
	*count = from_be32(wire);
	rest = *data;
	for (uint32_t i = 0; i < *count; i++)
		if (!take_string(&rest, &query, &query_len))
			return -EBADMSG;
	return rest.left == 0 ? 0 : -EBADMSG;
}

/* "base:" is a wildcard of LIST only. All else that is not base:allocation, "" too, is some other
 * namespace's or leaf's affair and is passed over, as the specification asks. */
static bool query_matches(uint32_t option, const uint8_t *query, uint32_t len)
{
	if (len == strlen("base:") && memcmp(query, "base:", len) == 0)
		return option == NBD_OPT_LIST_META_CONTEXT;
	return len == strlen(context_name) && memcmp(query, context_name, len) == 0;
}

static void option_meta_context(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	bool set = option == NBD_OPT_SET_META_CONTEXT, found;
	be32 id = to_be32(set ? NBD_CONTEXT_ALLOCATION : 0);
	uint32_t name_len, query_len, count;
	const uint8_t *name, *query;

	if (set)
		c->allocation = false;		/* also when this fails */
	if (meta_check(&data, &name, &name_len, &count) < 0) {
		put_error(c, option, NBD_REP_ERR_INVALID, "lengths do not add up");
		return;
	}
	if (set && !c->structured) {
		put_error(c, option, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY must come first");
		return;
	}
	if (!export_is_ours(c, name, name_len)) {
		put_error(c, option, NBD_REP_ERR_UNKNOWN, "no such export; the default export has no name");
		return;
	}
	if (count > NBD_META_QUERIES_MAX) {
		put_error(c, option, NBD_REP_ERR_TOO_BIG, "too many queries: there is one context here");
		return;
	}
	found = count == 0 && !set;
	while (count-- > 0 && take_string(&data, &query, &query_len))
		found = found || query_matches(option, query, query_len);
	if (found) {
		put_reply(c, option, NBD_REP_META_CONTEXT, sizeof id + strlen(context_name));
		put(c, &id, sizeof id);
		put(c, context_name, strlen(context_name));
		c->allocation = c->allocation || set;
	}
	put_ack(c, option);
}

static const struct {
	enum nbd_option_code code;
	void (*answer)(struct nbd_connection *c, uint32_t option, struct option_data data);
} options[] = {
	{ NBD_OPT_EXPORT_NAME, option_export_name },
	{ NBD_OPT_ABORT, option_abort },
	{ NBD_OPT_LIST, option_list },
	{ NBD_OPT_STARTTLS, option_starttls },
	{ NBD_OPT_INFO, option_info },
	{ NBD_OPT_GO, option_info },
	{ NBD_OPT_STRUCTURED_REPLY, option_structured_reply },
	{ NBD_OPT_LIST_META_CONTEXT, option_meta_context },
	{ NBD_OPT_SET_META_CONTEXT, option_meta_context },
};

static void option_answer(struct nbd_connection *c, uint32_t option, struct option_data data)
{
	if (c->tls_required && !c->tls && option != NBD_OPT_STARTTLS && option != NBD_OPT_ABORT) {
		if (option == NBD_OPT_EXPORT_NAME)
			nbd_connection_drop(c, "it asked for an export without TLS");
		else
			put_error(c, option, NBD_REP_ERR_TLS_REQD, "TLS first: others reach this address");
		return;
	}
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
		if (options[i].code == option) {
			options[i].answer(c, option, data);
			return;
		}
	put_error(c, option, NBD_REP_ERR_UNSUP, "this option is not known here");
}

/* Returns what is wrong with it, so wrong that only hanging up is left, or NULL. */
static const char *option_check(const struct nbd_connection *c, const struct nbd_option *wire)
{
	if (from_be64(wire->magic) != NBD_OPTION_MAGIC)
		return "what it sent is not an NBD option: the magic is wrong";
	if (c->option_count >= NBD_OPTIONS_MAX)
		return "it sent too many options without choosing an export";
	if (from_be32(wire->len) > NBD_OPTION_SKIP_MAX)
		return "an option's data is longer than 1 MiB";
	if (from_be32(wire->len) > NBD_OPTION_BYTES_MAX && from_be32(wire->code) == NBD_OPT_EXPORT_NAME)
		return "an export's name is longer than 64 KiB";
	return NULL;
}

enum nbd_step nbd_step_option(struct nbd_connection *c)
{
	uint32_t have = c->in_end - c->in_start, code, len;
	struct nbd_option wire;
	const char *wrong;

	if (c->send.in_flight)
		return NBD_WAIT;
	if (have < sizeof wire)
		return NBD_BYTES;
	memcpy(&wire, c->in + c->in_start, sizeof wire);
	wrong = option_check(c, &wire);
	if (wrong) {
		nbd_connection_drop(c, wrong);
		return NBD_WAIT;
	}
	code = from_be32(wire.code);
	len = from_be32(wire.len);
	c->out_len = 0;
	if (len > NBD_OPTION_BYTES_MAX) {
		put_error(c, code, NBD_REP_ERR_TOO_BIG, "an option's data may have 64 KiB");
		c->skip = len;
		c->in_start += sizeof wire;
		c->option_count++;
		nbd_connection_move(c, NBD_OPTION_SKIP);
	} else if (have - sizeof wire < len) {
		return NBD_BYTES;
	} else {
		c->option_count++;
		c->in_start += (uint32_t)sizeof wire + len;
		option_answer(c, code, (struct option_data){ c->in + c->in_start - len, len });
	}
	if (c->out_len > 0 && c->state != NBD_GONE && c->state != NBD_FREE)
		nbd_connection_send(c, c->out, c->out_len);
	return NBD_AGAIN;
}

enum nbd_step nbd_step_option_skip(struct nbd_connection *c)
{
	if (!nbd_connection_skip(c))
		return NBD_BYTES;
	nbd_connection_move(c, NBD_OPTION);
	return NBD_AGAIN;
}
