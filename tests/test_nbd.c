/* SPDX-License-Identifier: Apache-2.0 */
/* What the NBD server says to each option and to each command, good and bad. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd_bench.h"

/* ---- handshake ----------------------------------------------------------------------------------- */

static void nbd_greets_as_fixed_newstyle_without_zeroes(void **state)
{
	struct bench b;
	(void)state;

	bench_begin(&b);
	assert_memory_equal(b.loop.sockets[b.client].to_client.bytes, "NBDMAGICIHAVEOPT\0\3", 18);
	assert_true(bench_nothing_more(&b));
	bench_end(&b);
}

static void nbd_unknown_client_flags_end_the_connection(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	script_add32(&s, 4);
	bench_play(&b, &s);
	assert_true(bench_is_cut_off(&b));
	bench_end(&b);
	free(s.bytes);
}

static void nbd_export_name_enters_transmission_with_and_without_zeroes(void **state)
{
	static const char *const names[] = { "db0", "" };
	struct script s = { 0 };
	struct bench b;
	(void)state;

	for (unsigned i = 0; i < 4; i++) {
		struct nbd_export export;

		bench_begin(&b);
		script_add32(&s, NBD_FLAG_FIXED_NEWSTYLE | (i & 1 ? NBD_FLAG_NO_ZEROES : 0));
		script_option(&s, NBD_OPT_EXPORT_NAME, names[i / 2], strlen(names[i / 2]));
		bench_play(&b, &s);
		memcpy(&export, bench_next(&b, sizeof export), sizeof export);
		assert_true(from_be64(export.bytes) == VOLUME);
		assert_int_equal(from_be16(export.flags), 0x96d);
		for (int zero = 0; zero < (i & 1 ? 0 : NBD_ZEROES_BYTES); zero++)
			assert_int_equal(*bench_next(&b, 1), 0);
		assert_true(bench_nothing_more(&b));
		assert_int_equal(bench_ask(&b, NBD_CMD_FLUSH, 0, 0, 0), 0);
		bench_end(&b);
	}
	free(s.bytes);
}

static void nbd_export_name_of_another_export_ends_the_connection(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	script_add32(&s, NBD_FLAG_FIXED_NEWSTYLE);
	script_option(&s, NBD_OPT_EXPORT_NAME, "db", 2);
	bench_play(&b, &s);
	assert_true(bench_is_cut_off(&b) && bench_nothing_more(&b));
	bench_end(&b);
	free(s.bytes);
}

/* A connection that has sent its flags, for options. */
static void options_begin(struct bench *b, struct script *s)
{
	*s = (struct script){ 0 };
	bench_begin(b);
	script_add32(s, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	bench_play(b, s);
}

static void options_end(struct bench *b, struct script *s)
{
	bench_end(b);
	free(s->bytes);
}

static void nbd_list_names_the_one_export(void **state)
{
	const uint8_t *data;
	struct script s;
	struct bench b;
	uint32_t len;
	(void)state;

	options_begin(&b, &s);
	script_option(&s, NBD_OPT_LIST, NULL, 0);
	script_option(&s, NBD_OPT_LIST, "x", 1);
	bench_play(&b, &s);
	assert_int_equal(bench_option_reply(&b, NBD_OPT_LIST, &data, &len), NBD_REP_SERVER);
	assert_int_equal(len, 7);
	assert_memory_equal(data, "\0\0\0\3db0", 7);
	assert_int_equal(bench_option_reply(&b, NBD_OPT_LIST, &data, &len), NBD_REP_ACK);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_LIST), NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	options_end(&b, &s);
}

static void nbd_options_it_does_not_offer_are_refused_and_negotiation_goes_on(void **state)
{
	static const struct { uint32_t code, len, error; } refused[] = {
		{ NBD_OPT_STARTTLS, 0, NBD_REP_ERR_UNSUP }, { NBD_OPT_STARTTLS, 1, NBD_REP_ERR_INVALID },
		{ NBD_OPT_STRUCTURED_REPLY, 1, NBD_REP_ERR_INVALID }, { 4, 0, NBD_REP_ERR_UNSUP },
		{ 11, 0, NBD_REP_ERR_UNSUP }, { 0xffffffff, 9, NBD_REP_ERR_UNSUP },
		{ NBD_OPT_INFO, 64 << 10, NBD_REP_ERR_INVALID },
		{ NBD_OPT_INFO, (64 << 10) + 1, NBD_REP_ERR_TOO_BIG }, { NBD_OPT_LIST, 1 << 20, NBD_REP_ERR_TOO_BIG },
	};
	uint8_t *junk = calloc(1, 1 << 20);
	struct script s;
	struct bench b;
	(void)state;

	memset(junk, 0x55, 1 << 20);
	options_begin(&b, &s);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		script_option(&s, refused[i].code, junk, refused[i].len);
		bench_play(&b, &s);
		assert_int_equal(bench_only_option_reply(&b, refused[i].code), NBD_REP_ERROR + refused[i].error);
	}
	script_go(&s, NBD_OPT_GO, "", 0);
	bench_play(&b, &s);
	assert_int_equal(b.server->connections[0].state, NBD_REQUEST);
	options_end(&b, &s);
	free(junk);
}

/* A TLS that changes no byte. */
struct plain_tls { int socket, result; unsigned count; };

static int plain_secure(void *context, int socket)
{
	struct plain_tls *t = context;

	t->socket = socket;
	t->count++;
	return t->result;
}

static void tls_begin(struct bench *b, struct script *s, struct plain_tls *t, int result)
{
	options_begin(b, s);
	*t = (struct plain_tls){ .socket = -1, .result = result };
	b->server->secure = plain_secure;
	b->server->secure_context = t;
	b->server->connections[0].tls_required = true;
}

static void nbd_serves_nothing_before_tls_where_it_is_required(void **state)
{
	static const uint32_t refused[] = { NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_STRUCTURED_REPLY,
					    NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, 99 };
	struct plain_tls t;
	struct script s;
	struct bench b;
	(void)state;

	tls_begin(&b, &s, &t, 0);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		script_option(&s, refused[i], NULL, 0);
		bench_play(&b, &s);
		assert_int_equal(bench_only_option_reply(&b, refused[i]), NBD_REP_ERROR + NBD_REP_ERR_TLS_REQD);
	}
	assert_int_equal(t.count, 0);
	script_option(&s, NBD_OPT_STARTTLS, NULL, 0);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_STARTTLS), NBD_REP_ACK);
	assert_int_equal(t.count, 1);
	assert_int_equal(t.socket, b.server->connections[0].socket);
	script_option(&s, NBD_OPT_STARTTLS, NULL, 0);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_STARTTLS), NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	script_go(&s, NBD_OPT_GO, "", 0);
	bench_play(&b, &s);
	assert_int_equal(b.server->connections[0].state, NBD_REQUEST);
	assert_int_equal(t.count, 1);
	options_end(&b, &s);

	tls_begin(&b, &s, &t, 0);
	script_option(&s, NBD_OPT_EXPORT_NAME, "db0", 3);
	bench_play(&b, &s);
	assert_true(bench_is_cut_off(&b) && bench_nothing_more(&b));
	options_end(&b, &s);
}

static void nbd_what_was_agreed_before_tls_counts_no_more(void **state)
{
	struct plain_tls t;
	struct script s;
	struct bench b;
	(void)state;

	tls_begin(&b, &s, &t, 0);
	b.server->connections[0].tls_required = false;
	script_option(&s, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_STRUCTURED_REPLY), NBD_REP_ACK);
	script_option(&s, NBD_OPT_STARTTLS, NULL, 0);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_STARTTLS), NBD_REP_ACK);
	assert_false(b.server->connections[0].structured);
	script_meta(&s, NBD_OPT_SET_META_CONTEXT, "", 1, script_allocation);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_SET_META_CONTEXT), NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	options_end(&b, &s);
}

/* What a man in the middle puts behind STARTTLS would else be taken for the client's, encrypted. */
static void nbd_bytes_behind_starttls_end_the_connection(void **state)
{
	struct plain_tls t;
	struct script s;
	struct bench b;
	(void)state;

	for (int more = 0; more < 2; more++) {
		tls_begin(&b, &s, &t, more ? 0 : -ENOBUFS);
		script_option(&s, NBD_OPT_STARTTLS, NULL, 0);
		if (more)
			script_add(&s, "I", 1);
		bench_play(&b, &s);
		assert_true(bench_is_cut_off(&b));
		assert_int_equal(t.count, more ? 0 : 1);	/* without memory it ends, too */
		options_end(&b, &s);
	}
}

static void nbd_info_tells_all_and_go_enters_transmission(void **state)
{
	static const uint32_t codes[] = { NBD_OPT_INFO, NBD_OPT_GO };
	const uint8_t *data;
	struct script s;
	struct bench b;
	uint32_t len;
	(void)state;

	options_begin(&b, &s);
	for (int i = 0; i < 2; i++) {
		script_go(&s, codes[i], "db0", 40);
		bench_play(&b, &s);
		assert_int_equal(bench_option_reply(&b, codes[i], &data, &len), NBD_REP_INFO);
		assert_int_equal(len, 12);
		assert_memory_equal(data, "\0\0\0\0\0\0\4\0\0\0\x9\x6d", 12);
		assert_int_equal(bench_option_reply(&b, codes[i], &data, &len), NBD_REP_INFO);
		assert_memory_equal(data, "\0\1db0", len);
		assert_int_equal(bench_option_reply(&b, codes[i], &data, &len), NBD_REP_INFO);
		assert_memory_equal(data, "\0\2Holdfast volume db0", len);
		assert_int_equal(bench_option_reply(&b, codes[i], &data, &len), NBD_REP_INFO);
		assert_int_equal(len, 14);
		assert_memory_equal(data, "\0\3\0\0\0\1\0\0\x10\0\2\0\0\0", 14);
		assert_int_equal(bench_only_option_reply(&b, codes[i]), NBD_REP_ACK);
	}
	assert_int_equal(bench_ask(&b, NBD_CMD_FLUSH, 0, 0, 0), 0);
	options_end(&b, &s);
}

static void nbd_info_of_another_export_or_with_wrong_lengths_is_refused(void **state)
{
	struct script s;
	struct bench b;
	(void)state;

	options_begin(&b, &s);
	script_go(&s, NBD_OPT_GO, "db1", 3);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_GO), NBD_REP_ERROR + NBD_REP_ERR_UNKNOWN);
	for (uint32_t len = 0; len < 9; len++) {	/* 9 bytes would be whole */
		script_option(&s, NBD_OPT_GO, "\0\0\0\3db0\0\0", len);
		bench_play(&b, &s);
		assert_int_equal(bench_only_option_reply(&b, NBD_OPT_GO), NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	}
	script_option(&s, NBD_OPT_GO, "\xff\xff\xff\xff" "db0\0\0", 9);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_GO), NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	script_option(&s, NBD_OPT_GO, "\0\0\0\3db0\0\0\0", 10);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_GO), NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	options_end(&b, &s);
}

static void nbd_meta_contexts_are_listed_and_set_as_the_specification_says(void **state)
{
	static const char *const queries[] = { "base:allocation", "base:", "", "base:other", "qemu:x", "base" };
	const char *many[NBD_META_QUERIES_MAX + 1];
	const uint8_t *data;
	struct script s;
	struct bench b;
	uint32_t len;
	(void)state;

	options_begin(&b, &s);
	script_meta(&s, NBD_OPT_SET_META_CONTEXT, "db0", 1, script_allocation);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_SET_META_CONTEXT),
			 NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	script_option(&s, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_STRUCTURED_REPLY), NBD_REP_ACK);
	for (int i = 0; i <= NBD_META_QUERIES_MAX; i++)
		many[i] = "x:";
	for (int set = 0; set < 2; set++) {
		uint32_t code = set ? NBD_OPT_SET_META_CONTEXT : NBD_OPT_LIST_META_CONTEXT;

		for (unsigned i = 0; i < 6; i++) {
			bool found = i == 0 || (i == 1 && !set);

			script_meta(&s, code, "", 1, &queries[i]);
			bench_play(&b, &s);
			if (found) {
				assert_int_equal(bench_option_reply(&b, code, &data, &len), NBD_REP_META_CONTEXT);
				assert_int_equal(data[3], set);
				assert_memory_equal(data + 4, "base:allocation", len - 4);
			}
			assert_int_equal(bench_only_option_reply(&b, code), NBD_REP_ACK);
			assert_int_equal(b.server->connections[0].allocation, set && i == 0);
		}
		script_meta(&s, code, "", 6, queries);		/* once, though two of them match */
		bench_play(&b, &s);
		assert_int_equal(bench_option_reply(&b, code, &data, &len), NBD_REP_META_CONTEXT);
		assert_int_equal(bench_only_option_reply(&b, code), NBD_REP_ACK);
		script_meta(&s, code, "", 0, NULL);
		bench_play(&b, &s);
		if (!set)
			assert_int_equal(bench_option_reply(&b, code, &data, &len), NBD_REP_META_CONTEXT);
		assert_int_equal(bench_only_option_reply(&b, code), NBD_REP_ACK);
		assert_false(b.server->connections[0].allocation);
		script_meta(&s, code, "db1", 1, queries);
		bench_play(&b, &s);
		assert_int_equal(bench_only_option_reply(&b, code), NBD_REP_ERROR + NBD_REP_ERR_UNKNOWN);
		script_meta(&s, code, "db0", NBD_META_QUERIES_MAX + 1, many);
		bench_play(&b, &s);
		assert_int_equal(bench_only_option_reply(&b, code), NBD_REP_ERROR + NBD_REP_ERR_TOO_BIG);
		script_option(&s, code, "\0\0\0\0\0\0\0\2\0\0\0\5base:\0\0\0\6base:", 26);
		bench_play(&b, &s);
		assert_int_equal(bench_only_option_reply(&b, code), NBD_REP_ERROR + NBD_REP_ERR_INVALID);
	}
	options_end(&b, &s);
}

static void nbd_abort_is_acknowledged_and_ends_the_connection(void **state)
{
	struct script s;
	struct bench b;
	(void)state;

	options_begin(&b, &s);
	script_option(&s, NBD_OPT_ABORT, "why", 3);
	bench_play(&b, &s);
	assert_int_equal(bench_only_option_reply(&b, NBD_OPT_ABORT), NBD_REP_ACK);
	assert_true(bench_is_cut_off(&b));
	options_end(&b, &s);
}

static void nbd_senseless_or_endless_negotiation_ends_the_connection(void **state)
{
	struct nbd_option bad_magic = { { 0 }, to_be32(NBD_OPT_LIST), to_be32(0) };
	struct nbd_option endless = { to_be64(NBD_OPTION_MAGIC), to_be32(NBD_OPT_LIST), to_be32((1 << 20) + 1) };
	struct nbd_option long_name = { to_be64(NBD_OPTION_MAGIC), to_be32(NBD_OPT_EXPORT_NAME),
					to_be32((64 << 10) + 1) };
	struct script s;
	struct bench b;
	(void)state;

	for (int i = 0; i < 4; i++) {
		options_begin(&b, &s);
		if (i == 0)
			script_add(&s, &bad_magic, sizeof bad_magic);
		else if (i == 1)
			script_add(&s, &endless, sizeof endless);
		else if (i == 2)
			script_add(&s, &long_name, sizeof long_name);
		for (int options = 0; i == 3 && options < NBD_OPTIONS_MAX; options++)
			script_option(&s, 99, NULL, 0);
		bench_play(&b, &s);
		if (i == 3) {
			assert_false(bench_is_cut_off(&b));
			script_option(&s, 99, NULL, 0);
			bench_play(&b, &s);
		}
		assert_true(bench_is_cut_off(&b));
		options_end(&b, &s);
	}
}

static void nbd_handshake_has_ten_seconds_and_transmission_has_no_end(void **state)
{
	struct bench b;
	int silent;
	(void)state;

	bench_begin(&b);
	silent = b.client;
	bench_connect_another(&b, false);
	for (int i = 0; i < 9; i++) {
		loopback_sleep(&b.loop, NBD_TICK_NS);
		bench_run(&b);
	}
	assert_false(b.loop.sockets[silent].server_closed);
	for (int i = 0; i < 100; i++) {
		loopback_sleep(&b.loop, NBD_TICK_NS);
		bench_run(&b);
	}
	assert_true(b.loop.sockets[silent].server_closed);
	assert_false(bench_is_cut_off(&b));
	bench_end(&b);
}

/* ---- transmission -------------------------------------------------------------------------------- */

static void nbd_what_was_written_is_read_at_any_offset_and_length(void **state)
{
	static const struct { uint64_t offset; uint32_t len; } ranges[] = {
		{ 0, 1 }, { 4095, 2 }, { 0, 4096 }, { 1, 4096 }, { 8192, 16 << 10 }, { 8191, (16 << 10) + 1 },
		{ 512, 65536 }, { 4000, 70000 }, { 4096, MIB }, { 5, MIB + 3 }, { VOLUME - 1, 1 },
		{ 7, 17 * MIB }, { 0, 32 * MIB }, { 4095, 32 * MIB },
	};
	struct bench b;
	(void)state;

	for (int structured = 0; structured < 2; structured++) {
		bench_begin(&b);
		bench_connect(&b, structured);
		for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
			struct script s = { 0 };
			struct reply r;

			assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, 0, ranges[i].offset, ranges[i].len), 0);
			bench_assert_written(&b, ranges[i].offset, ranges[i].len, 7);
			script_request(&s, NBD_CMD_READ, structured ? NBD_CMD_FLAG_DF : 0, ranges[i].offset,
				    ranges[i].len, (uint32_t)i);
			bench_play(&b, &s);
			r = bench_reply(&b);
			assert_int_equal(r.number, i);
			assert_int_equal(r.data_len, ranges[i].len);
			assert_memory_equal(r.data, b.volume.bytes + ranges[i].offset, r.data_len);
			assert_true(bench_nothing_more(&b));
			free(s.bytes);
			loopback_received_clear(&b.loop, b.client);
			b.seen = 0;
		}
		bench_end(&b);
	}
}

static void nbd_commands_reach_the_volume_with_their_flags(void **state)
{
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, 0, 0, 9000), 0);
	assert_int_equal(b.volume.fuas, 0);
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 4096), 0);
	assert_int_equal(b.volume.fuas, 1);
	assert_int_equal(bench_ask(&b, NBD_CMD_FLUSH, 0, 0, 0), 0);
	assert_int_equal(b.volume.flushes, 1);
	assert_int_equal(bench_ask(&b, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 4096), 0);
	assert_int_equal(b.volume.discards, 1);
	assert_int_equal(b.volume.fuas, 2);
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE_ZEROES, 0, 4096, 100), 0);
	assert_int_equal(b.volume.discards, 2);
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA, 4200,
				   100), 0);
	assert_int_equal(b.volume.zeros, 1);
	assert_int_equal(b.volume.fuas, 3);
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, VOLUME), 0);
	assert_int_equal(b.volume.discards, 3);
	assert_int_equal(bench_ask(&b, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, 4096), 0);	/* means nothing */
	assert_int_equal(b.volume.fuas, 3);
	bench_end(&b);
}

static void nbd_bad_requests_are_refused_with_the_right_error_and_service_goes_on(void **state)
{
	enum { READ = NBD_CMD_READ, WRITE, FLUSH = 3, TRIM, ZEROES = 6, STATUS };
	static const struct { unsigned command, flags; uint64_t offset; uint32_t len, error; } bad[] = {
		{ READ, 0, VOLUME, 1, NBD_EINVAL }, { READ, 0, VOLUME - 1, 2, NBD_EINVAL },
		{ READ, 0, UINT64_MAX, 2, NBD_EINVAL }, { READ, 0, 0, 0, NBD_EINVAL },
		{ READ, 0, 0, 32 * MIB + 1, NBD_EINVAL },
		{ READ, NBD_CMD_FLAG_DF, 0, 32 * MIB + 1, NBD_EOVERFLOW },
		{ READ, NBD_CMD_FLAG_NO_HOLE, 0, 1, NBD_EINVAL }, { READ, 1 << 5, 0, 1, NBD_EINVAL },
		{ WRITE, 0, VOLUME, 5, NBD_ENOSPC }, { WRITE, 0, VOLUME - 1, 70000, NBD_ENOSPC },
		{ WRITE, 0, 0, 32 * MIB + 1, NBD_EINVAL }, { WRITE, 0, 0, 0, NBD_EINVAL },
		{ WRITE, NBD_CMD_FLAG_DF, 0, 600, NBD_EINVAL }, { WRITE, 0, UINT64_MAX, 64, NBD_ENOSPC },
		{ FLUSH, 0, 1, 0, NBD_EINVAL }, { FLUSH, 0, 0, 1, NBD_EINVAL },
		{ TRIM, 0, VOLUME, 1, NBD_EINVAL }, { TRIM, 0, 0, 0, NBD_EINVAL },
		{ ZEROES, 0, 1, VOLUME, NBD_ENOSPC }, { ZEROES, 0, 0, 0, NBD_EINVAL },
		{ ZEROES, NBD_CMD_FLAG_REQ_ONE, 0, 1, NBD_EINVAL },
		{ STATUS, 0, VOLUME, 1, NBD_EINVAL }, { STATUS, 0, 0, 0, NBD_EINVAL },
		{ 5, 0, 0, 4096, NBD_EINVAL }, { 8, 0, 0, 4096, NBD_EINVAL }, { 0xffff, 0, 0, 1, NBD_EINVAL },
	};
	struct bench b;
	(void)state;

	for (int structured = 0; structured < 2; structured++) {
		bench_begin(&b);
		bench_connect(&b, structured);
		for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
			bool no_df = bad[i].flags == NBD_CMD_FLAG_DF && !structured;

			assert_int_equal(bench_ask(&b, bad[i].command, bad[i].flags, bad[i].offset, bad[i].len),
					 no_df ? NBD_EINVAL : bad[i].error);
		}
		assert_int_equal(b.volume.reads + b.volume.writes + b.volume.discards + b.volume.zeros, 0);
		assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, 0, 0, 512), 0);
		bench_end(&b);
	}
}

static void nbd_senseless_requests_end_the_connection(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	for (int i = 0; i < 2; i++) {
		bench_begin(&b);
		bench_connect(&b, false);
		script_request(&s, NBD_CMD_WRITE, 0, 0, 64 * MIB + 1, 1);
		if (i == 0)
			s.bytes[0] ^= 1;
		bench_play(&b, &s);
		assert_true(bench_is_cut_off(&b) && bench_nothing_more(&b));
		bench_end(&b);
	}
	free(s.bytes);
}

static void nbd_errors_of_the_volume_become_errors_of_the_protocol(void **state)
{
	static const struct { int errno_value; uint32_t error; } map[] = {
		{ EROFS, NBD_EPERM }, { EPERM, NBD_EPERM }, { EIO, NBD_EIO }, { EINVAL, NBD_EINVAL },
		{ ENOMEM, NBD_ENOMEM }, { ENOSPC, NBD_ENOSPC }, { EDQUOT, NBD_ENOSPC }, { EFBIG, NBD_ENOSPC },
		{ ESHUTDOWN, NBD_ESHUTDOWN }, { ECANCELED, NBD_ESHUTDOWN }, { ENOTCONN, NBD_EIO },
	};
	static const unsigned commands[] = { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_BLOCK_STATUS };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
		for (int command = 0; command < 4; command++) {
			b.volume.fail = -map[i].errno_value;
			assert_int_equal(bench_ask(&b, commands[command], 0, 4096, 100000), map[i].error);
		}
	bench_end(&b);
}

static void nbd_a_secondary_is_read_only_and_a_demoted_primary_at_once(void **state)
{
	static const unsigned writing[] = { NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES };
	struct bench b;
	int promoted_later;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, false);
	assert_int_equal(nbd_server_writers(b.server), 1);
	b.volume.secondary = true;
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, 0, 0, 512), NBD_EPERM);		/* the volume's -EROFS */
	nbd_server_role_changed(b.server);
	assert_int_equal(nbd_server_writers(b.server), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(bench_ask(&b, writing[i], 0, 0, 512), NBD_EPERM);
	assert_int_equal(b.volume.refused, 1);		/* it is not even asked */
	assert_int_equal(bench_ask(&b, NBD_CMD_READ, 0, 0, 512), 0);
	promoted_later = bench_connect_another(&b, false);
	assert_true(b.server->connections[1].read_only);
	b.volume.secondary = false;
	nbd_server_role_changed(b.server);
	assert_int_equal(nbd_server_writers(b.server), 1);
	b.client = promoted_later;
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, 0, 0, 512), NBD_EPERM);	/* it was told read-only */
	bench_end(&b);
}

static void assert_extent(const struct reply *r, unsigned i, uint32_t len, uint32_t flags)
{
	struct nbd_extent extent;

	assert_true((i + 1) * sizeof extent <= r->data_len);
	memcpy(&extent, r->data + i * sizeof extent, sizeof extent);
	assert_int_equal(from_be32(extent.len), len);
	assert_int_equal(from_be32(extent.flags), flags);
}

static struct reply ask_status(struct bench *b, unsigned flags, uint64_t offset, uint32_t len)
{
	struct script s = { 0 };
	struct reply r;

	script_request(&s, NBD_CMD_BLOCK_STATUS, flags, offset, len, 3);
	bench_play(b, &s);
	free(s.bytes);
	r = bench_reply(b);
	assert_int_equal(r.error, 0);
	return r;
}

static void nbd_block_status_tells_data_from_holes(void **state)
{
	struct bench b;
	struct reply r;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, true);
	assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, 0, 4096, 8192), 0);
	r = ask_status(&b, 0, 100, 20000);
	assert_int_equal(r.data_len, 3 * sizeof(struct nbd_extent));
	assert_extent(&r, 0, 3996, NBD_STATE_HOLE | NBD_STATE_ZERO);
	assert_extent(&r, 1, 8192, 0);
	assert_extent(&r, 2, 20100 - 12288, NBD_STATE_HOLE | NBD_STATE_ZERO);
	r = ask_status(&b, NBD_CMD_FLAG_REQ_ONE, 0, VOLUME);
	assert_int_equal(r.data_len, sizeof(struct nbd_extent));
	assert_extent(&r, 0, 4096, NBD_STATE_HOLE | NBD_STATE_ZERO);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(bench_ask(&b, NBD_CMD_WRITE, 0, 8192 * i, 1), 0);
	r = ask_status(&b, 0, 12288, VOLUME - 12288);
	assert_int_equal(r.data_len, NBD_EXTENTS_MAX * sizeof(struct nbd_extent));
	for (unsigned i = 0; i < NBD_EXTENTS_MAX; i++)
		assert_extent(&r, i, 4096, i & 1 ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO);
	b.volume.map_max = 1024;		/* neighbours that are alike become one, and it ends at some time */
	r = ask_status(&b, 0, 12288, 8192);
	assert_int_equal(r.data_len, 2 * sizeof(struct nbd_extent));
	assert_extent(&r, 0, 4096, NBD_STATE_HOLE | NBD_STATE_ZERO);
	assert_extent(&r, 1, 4096, 0);
	r = ask_status(&b, 0, VOLUME - MIB, MIB);
	assert_int_equal(r.data_len, sizeof(struct nbd_extent));
	assert_extent(&r, 0, NBD_EXTENTS_MAX * 1024, NBD_STATE_HOLE | NBD_STATE_ZERO);
	bench_end(&b);
}

static void nbd_block_status_needs_the_context_and_structured_replies(void **state)
{
	struct script s = { 0 };
	struct bench b;
	(void)state;

	bench_begin(&b);
	bench_connect(&b, false);
	assert_int_equal(bench_ask(&b, NBD_CMD_BLOCK_STATUS, 0, 0, 4096), NBD_EINVAL);
	b.client = loopback_dial(&b.loop);
	b.structured = true;
	script_add32(&s, NBD_FLAG_FIXED_NEWSTYLE);
	script_option(&s, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	script_go(&s, NBD_OPT_GO, "", 0);
	bench_play(&b, &s);
	b.seen = b.loop.sockets[b.client].to_client.len;
	assert_int_equal(bench_ask(&b, NBD_CMD_BLOCK_STATUS, 0, 0, 4096), NBD_EINVAL);
	bench_end(&b);
	free(s.bytes);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(nbd_greets_as_fixed_newstyle_without_zeroes),
	cmocka_unit_test(nbd_unknown_client_flags_end_the_connection),
	cmocka_unit_test(nbd_export_name_enters_transmission_with_and_without_zeroes),
	cmocka_unit_test(nbd_export_name_of_another_export_ends_the_connection),
	cmocka_unit_test(nbd_list_names_the_one_export),
	cmocka_unit_test(nbd_options_it_does_not_offer_are_refused_and_negotiation_goes_on),
	cmocka_unit_test(nbd_serves_nothing_before_tls_where_it_is_required),
	cmocka_unit_test(nbd_what_was_agreed_before_tls_counts_no_more),
	cmocka_unit_test(nbd_bytes_behind_starttls_end_the_connection),
	cmocka_unit_test(nbd_info_tells_all_and_go_enters_transmission),
	cmocka_unit_test(nbd_info_of_another_export_or_with_wrong_lengths_is_refused),
	cmocka_unit_test(nbd_meta_contexts_are_listed_and_set_as_the_specification_says),
	cmocka_unit_test(nbd_abort_is_acknowledged_and_ends_the_connection),
	cmocka_unit_test(nbd_senseless_or_endless_negotiation_ends_the_connection),
	cmocka_unit_test(nbd_handshake_has_ten_seconds_and_transmission_has_no_end),
	cmocka_unit_test(nbd_what_was_written_is_read_at_any_offset_and_length),
	cmocka_unit_test(nbd_commands_reach_the_volume_with_their_flags),
	cmocka_unit_test(nbd_bad_requests_are_refused_with_the_right_error_and_service_goes_on),
	cmocka_unit_test(nbd_senseless_requests_end_the_connection),
	cmocka_unit_test(nbd_errors_of_the_volume_become_errors_of_the_protocol),
	cmocka_unit_test(nbd_a_secondary_is_read_only_and_a_demoted_primary_at_once),
	cmocka_unit_test(nbd_block_status_tells_data_from_holes),
	cmocka_unit_test(nbd_block_status_needs_the_context_and_structured_replies),
};
TEST_GROUP(nbd, tests)
