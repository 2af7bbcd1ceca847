/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends of a link in memory, and the wire between them in our hands: cut into any pieces, ended, changed, replayed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "bytes.h"
#include "identity.h"
#include "run.h"
#include "tls.h"

enum { NODES = 3 };	/* a, b, and a stranger who calls itself b */

static const uint8_t uuid[UUID_BYTES] = { 7 };
static struct identity *identities[NODES];
static struct tls_pin pins[NODES];
static struct tls_context *contexts[2];		/* a knows b, b knows a */
static uint64_t chance;

/* One direction: what was sent, and how much of it has arrived. */
struct wire { uint8_t *bytes; size_t len, at; uint64_t room; };
struct ends { struct tls *t[2]; struct wire wire[2]; int said[2]; };	/* wire[i] comes from t[i] */

static uint64_t draw(uint64_t below)
{
	chance = chance * 6364136223846793005ull + 1442695040888963407ull;
	return below ? (chance >> 33) % below : 0;
}

static void identity_make(unsigned at, const char *node)
{
	char directory[64] = "/tmp/holdfast-tls.XXXXXX", why[WHY_BYTES];

	assert_non_null(mkdtemp(directory));
	assert_int_equal(identity_create(directory, node, uuid, why), 0);
	assert_int_equal(identity_load(&identities[at], directory, node, uuid, why), 0);
	identity_remove(directory);
	snprintf(pins[at].node, NAME_BYTES, "%s", node);
	identity_fingerprint(identities[at], pins[at].fingerprint);
}

static int setup(void **state)
{
	(void)state;
	chance = test_seed_first(1);
	identity_make(0, "a");
	identity_make(1, "b");
	identity_make(2, "b");
	assert_int_equal(tls_context_new(&contexts[0], identities[0], &pins[1], 1), 0);
	return tls_context_new(&contexts[1], identities[1], &pins[0], 1);
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++)
		tls_context_free(contexts[i]);
	for (unsigned i = 0; i < NODES; i++)
		identity_free(identities[i]);
	return 0;
}

/* ---- the wire ---- */

static struct ends ends_of(struct tls_context *dialer, struct tls_context *listener)
{
	struct ends e = { 0 };

	assert_int_equal(tls_new(&e.t[0], dialer, "b"), 0);
	assert_int_equal(tls_new(&e.t[1], listener, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		e.wire[i].room = 8 << 20;
		e.wire[i].bytes = malloc(e.wire[i].room);
		assert_non_null(e.wire[i].bytes);
	}
	return e;
}

static void ends_free(struct ends *e)
{
	for (unsigned i = 0; i < 2; i++) {
		tls_free(e->t[i]);
		free(e->wire[i].bytes);
	}
}

static bool wire_take(struct ends *e, unsigned from)
{
	struct wire *w = &e->wire[from];
	size_t len;
	const void *bytes = tls_wire_take(e->t[from], &len);

	if (!bytes)
		return false;
	assert_true(len <= w->room - w->len);
	memcpy(w->bytes + w->len, bytes, len);
	w->len += len;
	tls_wire_sent(e->t[from]);
	return true;
}

/* At most @most bytes arrive, and no more than there is room for. */
static bool wire_give(struct ends *e, unsigned from, size_t most)
{
	struct wire *w = &e->wire[from];
	size_t room, len = min_u64(w->len - w->at, most);
	void *to = tls_wire_room(e->t[!from], &room);

	len = min_u64(len, room);
	if (len == 0)
		return false;
	memcpy(to, w->bytes + w->at, len);
	w->at += len;
	tls_wire_received(e->t[!from], len);
	return true;
}

/* Both sides, until nothing moves; what each said last is in said[]. */
static void shake(struct ends *e, size_t piece)
{
	bool moved = true;

	while (moved) {
		moved = false;
		for (unsigned i = 0; i < 2; i++) {
			moved |= wire_give(e, !i, piece ? 1 + draw(piece) : SIZE_MAX);
			e->said[i] = tls_handshake(e->t[i]);
			moved |= wire_take(e, i);
		}
	}
}

static struct ends ends_open(size_t piece)
{
	struct ends e = ends_of(contexts[0], contexts[1]);

	shake(&e, piece);
	assert_int_equal(e.said[0], 1);
	assert_int_equal(e.said[1], 1);
	return e;
}

static void says(const struct tls *t, const char *words)
{
	if (!strstr(tls_why(t), words))
		fail_msg("\"%s\" does not say \"%s\"", tls_why(t), words);
}

/* ---- facts ---- */

static void tls_both_ends_know_who_the_other_is(void **state)
{
	struct ends e = ends_open(0);

	(void)state;
	assert_string_equal(tls_node(e.t[0]), "b");
	assert_string_equal(tls_node(e.t[1]), "a");
	ends_free(&e);
}

static uint8_t byte_at(uint64_t at) { return (uint8_t)(at * 0x9e3779b97f4a7c15 >> 56); }

/* @total bytes from each end to the other, in pieces of any size. */
static void stream_pass(struct ends *e, uint64_t total, size_t piece)
{
	static uint8_t data[100000];
	uint64_t sent[2] = { 0 }, got[2] = { 0 };

	while (got[0] < total || got[1] < total)
		for (unsigned i = 0; i < 2; i++) {
			size_t len = min_u64(1 + draw(sizeof data), total - sent[i]);
			ssize_t moved;

			for (size_t j = 0; j < len; j++)
				data[j] = byte_at(sent[i] + j + i);
			moved = len ? tls_send(e->t[i], data, len) : 0;
			assert_true(moved >= 0);
			sent[i] += (uint64_t)moved;
			e->wire[i].len -= e->wire[i].at;
			memmove(e->wire[i].bytes, e->wire[i].bytes + e->wire[i].at, e->wire[i].len);
			e->wire[i].at = 0;
			wire_take(e, i);
			wire_give(e, i, piece ? 1 + draw(piece) : SIZE_MAX);
			moved = tls_receive(e->t[!i], data, 1 + draw(sizeof data));
			if (moved == -EAGAIN)
				continue;
			assert_true(moved > 0);
			for (size_t j = 0; j < (size_t)moved; j++)
				assert_int_equal(data[j], byte_at(got[i] + j + i));
			got[i] += (uint64_t)moved;
		}
}

static void tls_stream_arrives_whole_however_the_wire_is_cut(void **state)
{
	const size_t pieces[] = { 1, 7, 1500, 70000, 0 };

	(void)state;
	for (unsigned i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
		struct ends e = ends_open(pieces[i]);

		stream_pass(&e, pieces[i] == 1 ? 2000 : 1 << 20, pieces[i] * 20);
		tls_end(e.t[0]);
		wire_take(&e, 0);
		while (wire_give(&e, 0, SIZE_MAX))
			;
		assert_int_equal(tls_receive(e.t[1], (uint8_t[1]){ 0 }, 1), 0);
		ends_free(&e);
	}
}

static void tls_keys_are_replaced_after_so_many_bytes(void **state)
{
	struct ends e;

	(void)state;
	tls_context_set_key_bytes(contexts[0], 256 << 10);
	e = ends_open(0);
	stream_pass(&e, 1 << 20, 0);
	assert_true(tls_key_updates(e.t[0]) >= 4);
	assert_int_equal(tls_key_updates(e.t[1]), 0);
	ends_free(&e);
	tls_context_set_key_bytes(contexts[0], TLS_KEY_BYTES);
}

/* The handshake between what @dialer and @listener know; what each end says. */
static void refused(struct tls_context *dialer, struct tls_context *listener, int dialer_error, const char *dialer_why,
		    int listener_error, const char *listener_why)
{
	struct ends e = ends_of(dialer, listener);

	shake(&e, 0);
	assert_int_equal(e.said[0], dialer_error);
	assert_int_equal(e.said[1], listener_error);
	says(e.t[0], dialer_why);
	says(e.t[1], listener_why);
	assert_string_equal(tls_node(e.t[0]), "");
	assert_string_equal(tls_node(e.t[1]), "");
	ends_free(&e);
}

static void tls_dialer_refuses_a_key_that_is_not_the_pinned_one(void **state)
{
	struct tls_context *stranger;

	(void)state;
	assert_int_equal(tls_context_new(&stranger, identities[2], &pins[0], 1), 0);
	refused(contexts[0], stranger, -EKEYREJECTED, "is not the one that the config has as fingerprint of node b",
		-EACCES, "does not accept this node's key");
	tls_context_free(stranger);
}

static void tls_listener_refuses_a_key_of_nobody_and_the_dialer_learns_it_in_the_handshake(void **state)
{
	struct tls_context *stranger;

	(void)state;
	assert_int_equal(tls_context_new(&stranger, identities[2], &pins[1], 1), 0);
	refused(stranger, contexts[1], -EACCES, "does not accept this node's key",
		-EKEYREJECTED, "is the fingerprint of no peer in the config");
	tls_context_free(stranger);
}

static void tls_name_in_the_certificate_must_be_that_of_the_pin(void **state)
{
	struct tls_pin misnamed = pins[1], known = pins[0];
	struct tls_context *c;

	(void)state;
	/* a's config says that b's key is c's, and dials b as c; b knows a. */
	strcpy(misnamed.node, "b");
	strcpy(known.node, "x");
	assert_int_equal(tls_context_new(&c, identities[1], &known, 1), 0);
	refused(contexts[0], c, -EACCES, "does not accept", -EKEYREJECTED,
		"is node x's, and its certificate says node a");
	tls_context_free(c);
	strcpy(misnamed.node, "c");
	assert_int_equal(tls_context_new(&c, identities[0], &misnamed, 1), 0);
	{
		struct ends e = { 0 };

		e = ends_of(contexts[0], contexts[1]);
		tls_free(e.t[0]);
		assert_int_equal(tls_new(&e.t[0], c, "b"), -ENOENT);
		assert_int_equal(tls_new(&e.t[0], c, "c"), 0);
		shake(&e, 0);
		assert_int_equal(e.said[0], -EKEYREJECTED);
		says(e.t[0], "its certificate says node b");
		ends_free(&e);
	}
	tls_context_free(c);
}

static void tls_dialer_accepts_no_other_node_that_it_knows(void **state)
{
	struct tls_pin both[2] = { pins[1], pins[0] };
	struct tls_context *c;

	(void)state;
	/* a dials b, and finds itself there: a key that it knows, and not b's. */
	assert_int_equal(tls_context_new(&c, identities[0], both, 2), 0);
	refused(c, c, -EKEYREJECTED, "it calls itself node a) is not the one", -EACCES, "does not accept");
	tls_context_free(c);
}

static void tls_one_key_is_one_node(void **state)
{
	struct tls_pin both[2] = { pins[1], pins[1] };
	struct tls_context *c;

	(void)state;
	strcpy(both[1].node, "c");
	assert_int_equal(tls_context_new(&c, identities[0], both, 2), -EINVAL);
}

static void tls_wire_that_ends_anywhere_is_an_error_on_the_other_end(void **state)
{
	struct ends whole = ends_open(0);
	size_t handshake[2] = { whole.wire[0].len, whole.wire[1].len };

	(void)state;
	ends_free(&whole);
	/* In the handshake: after each byte of either side. */
	for (unsigned from = 0; from < 2; from++)
		for (size_t len = 0; len < handshake[from]; len += from ? 1 : 3) {
			struct ends e = ends_of(contexts[0], contexts[1]);
			int said = 0;

			for (bool moved = true; moved && said >= 0; ) {
				moved = wire_give(&e, !from, SIZE_MAX);
				(void)!tls_handshake(e.t[from]);
				moved |= wire_take(&e, from);
				moved |= wire_give(&e, from, len - min_u64(len, e.wire[from].at));
				said = tls_handshake(e.t[!from]);
				moved |= wire_take(&e, !from);
			}
			tls_wire_ended(e.t[!from]);
			if (said == 0)
				said = tls_handshake(e.t[!from]);
			if (said != -ECONNRESET)
				fail_msg("%zu bytes of %u: %d %s", len, from, said, tls_why(e.t[!from]));
			ends_free(&e);
		}
}

/* After @records records of the stream, and @more bytes. */
static void truncated(unsigned records, size_t more)
{
	struct ends e = ends_open(0);
	uint8_t data[4000] = { 1 }, out[5000];
	size_t ends[4], got = 0;
	ssize_t moved;

	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(tls_send(e.t[0], data, 1000), 1000);
		wire_take(&e, 0);
		ends[i] = e.wire[0].len;
	}
	e.wire[0].len = (records ? ends[records - 1] : e.wire[0].at) + more;
	wire_give(&e, 0, SIZE_MAX);
	tls_wire_ended(e.t[1]);
	while ((moved = tls_receive(e.t[1], out, sizeof out)) > 0)
		got += (size_t)moved;
	assert_int_equal(moved, -ECONNRESET);
	assert_int_equal(got, records * 1000);
	says(e.t[1], "ended in the middle of the stream");
	assert_int_equal(tls_receive(e.t[1], out, sizeof out), -ECONNRESET);
	ends_free(&e);
}

static void tls_stream_that_ends_at_a_record_without_saying_so_is_an_error(void **state)
{
	(void)state;
	for (unsigned records = 0; records <= 4; records++)
		for (size_t more = 0; more < 30 && (more == 0 || records < 4); more += 4)
			truncated(records, more);
}

static void tls_changed_byte_anywhere_is_noticed_and_nothing_of_its_record_comes_out(void **state)
{
	(void)state;
	for (size_t at = 0; at < 60; at++) {
		struct ends e = ends_open(0);
		uint8_t data[32] = { 1 }, out[64];

		assert_int_equal(tls_send(e.t[0], data, sizeof data), sizeof data);
		wire_take(&e, 0);
		if (at >= e.wire[0].len - e.wire[0].at) {
			ends_free(&e);
			continue;
		}
		e.wire[0].bytes[e.wire[0].at + at] ^= (uint8_t)(1u << draw(8));
		wire_give(&e, 0, SIZE_MAX);
		tls_wire_ended(e.t[1]);
		if (tls_receive(e.t[1], out, sizeof out) >= 0)
			fail_msg("byte %zu was changed and nobody noticed", at);
		ends_free(&e);
	}
}

static void tls_changed_byte_in_the_handshake_never_opens_both_ends(void **state)
{
	struct ends whole = ends_open(0);
	size_t lens[2] = { whole.wire[0].len, whole.wire[1].len };

	(void)state;
	ends_free(&whole);
	for (unsigned from = 0; from < 2; from++)
		for (size_t at = 0; at < lens[from]; at += 1 + draw(3)) {
			struct ends e;
			bool moved = true, changed = false;

			if (at == 1 || at == 2)		/* a version that means nothing: RFC 8446, 5.1 */
				continue;
			e = ends_of(contexts[0], contexts[1]);
			while (moved) {
				moved = false;
				for (unsigned i = 0; i < 2; i++) {
					if (i == from && !changed && e.wire[i].len > at && e.wire[i].at <= at) {
						e.wire[i].bytes[at] ^= (uint8_t)(1u << draw(8));
						changed = true;
					}
					moved |= wire_give(&e, i, SIZE_MAX);
					e.said[!i] = tls_handshake(e.t[!i]);
					moved |= wire_take(&e, !i);
				}
			}
			if (changed && e.said[0] == 1 && e.said[1] == 1)
				fail_msg("byte %zu of end %u was changed and nobody noticed", at, from);
			ends_free(&e);
		}
}

static void tls_replayed_record_or_connection_is_refused(void **state)
{
	struct ends e = ends_open(0), again;
	size_t begin = e.wire[0].len, record;
	uint8_t out[64];

	(void)state;
	assert_int_equal(tls_send(e.t[0], "once", 4), 4);
	wire_take(&e, 0);
	record = e.wire[0].len - begin;
	memcpy(e.wire[0].bytes + e.wire[0].len, e.wire[0].bytes + begin, record);
	e.wire[0].len += record;
	wire_give(&e, 0, SIZE_MAX);
	assert_int_equal(tls_receive(e.t[1], out, sizeof out), 4);
	assert_int_equal(tls_receive(e.t[1], out, sizeof out), -EBADMSG);
	/* The whole of what the dialer has sent, to a new listening end: its answers are others. */
	again = ends_of(contexts[0], contexts[1]);
	memcpy(again.wire[0].bytes, e.wire[0].bytes, e.wire[0].len);
	again.wire[0].len = e.wire[0].len;
	do {
		again.said[1] = tls_handshake(again.t[1]);
		wire_take(&again, 1);
	} while (again.said[1] == 0 && wire_give(&again, 0, 64));
	assert_true(again.said[1] < 0);
	ends_free(&e);
	ends_free(&again);
}

/* ---- others than we ---- */

/* A client of plain OpenSSL, with a's own key: @version, @protocols as ALPN has them, a certificate or none. */
static int foreign(int version, const char *protocols, bool certificate, char why[WHY_BYTES])
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	struct tls *t;
	SSL *ssl;
	int said = 0;

	SSL_CTX_set_max_proto_version(context, version);
	if (certificate) {
		assert_int_equal(SSL_CTX_use_certificate(context, identity_certificate(identities[0])), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(context, identity_key(identities[0])), 1);
	}
	ssl = SSL_new(context);
	SSL_set_bio(ssl, in, out);
	if (protocols)
		assert_int_equal(SSL_set_alpn_protos(ssl, (const void *)protocols, (unsigned)strlen(protocols)), 0);
	SSL_set_connect_state(ssl);
	assert_int_equal(tls_new(&t, contexts[1], NULL), 0);
	for (unsigned i = 0; i < 10 && said == 0; i++) {
		size_t room, len;
		uint8_t *to = tls_wire_room(t, &room);
		const void *bytes;
		int got;

		(void)SSL_do_handshake(ssl);
		got = BIO_read(out, to, (int)room);
		if (got > 0)
			tls_wire_received(t, (size_t)got);
		said = tls_handshake(t);
		bytes = tls_wire_take(t, &len);
		if (bytes) {
			assert_int_equal(BIO_write(in, bytes, (int)len), len);
			tls_wire_sent(t);
		}
	}
	snprintf(why, WHY_BYTES, "%s", tls_why(t));
	tls_free(t);
	SSL_free(ssl);
	SSL_CTX_free(context);
	return said;
}

static void tls_older_versions_other_protocols_and_nobody_are_refused(void **state)
{
	char why[WHY_BYTES];

	(void)state;
	assert_int_equal(foreign(TLS1_3_VERSION, "\x0aholdfast/1", true, why), 1);
	assert_int_equal(foreign(TLS1_3_VERSION, "\x02h2\x0aholdfast/1", true, why), 1);
	assert_int_equal(foreign(TLS1_2_VERSION, "\x0aholdfast/1", true, why), -EPROTO);
	assert_non_null(strstr(why, "does not speak TLS 1.3"));
	assert_int_equal(foreign(TLS1_3_VERSION, "\x02h2", true, why), -EPROTO);
	assert_non_null(strstr(why, "ALPN holdfast/1"));
	assert_int_equal(foreign(TLS1_3_VERSION, NULL, true, why), -EPROTO);
	assert_non_null(strstr(why, "ALPN holdfast/1"));
	assert_int_equal(foreign(TLS1_3_VERSION, "\x0aholdfast/1", false, why), -EKEYREJECTED);
	assert_non_null(strstr(why, "has no key to prove"));
}

/* The listening end gets @len bytes, in pieces; its last word. */
static int fed(const void *bytes, size_t len, char why[WHY_BYTES])
{
	size_t at = 0, room, piece;
	struct tls *t;
	int said = 0;

	assert_int_equal(tls_new(&t, contexts[1], NULL), 0);
	while (said == 0 && at < len) {
		void *to = tls_wire_room(t, &room);

		assert_true(room > 0);
		piece = min_u64(min_u64(len - at, room), 1 + draw(5000));
		memcpy(to, (const uint8_t *)bytes + at, piece);
		tls_wire_received(t, piece);
		at += piece;
		said = tls_handshake(t);
	}
	snprintf(why, WHY_BYTES, "%s", tls_why(t));
	tls_free(t);
	return said;
}

static void tls_what_is_not_tls_is_refused(void **state)
{
	static uint8_t junk[40000];
	char why[WHY_BYTES];

	(void)state;
	assert_int_equal(fed("HLFN hello, this is in the clear", 32, why), -EPROTO);
	assert_non_null(strstr(why, "not TLS"));
	assert_int_equal(fed("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, why), -EPROTO);
	for (unsigned i = 0; i < 300; i++) {
		for (unsigned j = 0; j < sizeof junk; j++)
			junk[j] = (uint8_t)draw(256);
		junk[0] = TLS_FIRST_BYTE;
		junk[1] = 3;
		assert_true(fed(junk, sizeof junk, why) < 0);
		assert_true(*why != '\0');
	}
}

static void tls_stranger_who_sends_without_end_is_refused_at_a_bound(void **state)
{
	/* Records of a client's first message that announces 128 KiB and never ends. */
	static uint8_t flood[64 << 10];
	const uint8_t head[] = { TLS_FIRST_BYTE, 3, 1, 0, 104, 1, 1, 0xff, 0 };
	char why[WHY_BYTES];

	(void)state;
	for (size_t at = 0; at + 109 <= sizeof flood; at += 109)
		memcpy(flood + at, head, at ? 5 : sizeof head);
	assert_int_equal(fed(flood, sizeof flood, why), -EPROTO);
	assert_true(*why != '\0');
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
	FACT(tls_both_ends_know_who_the_other_is),
	FACT(tls_stream_arrives_whole_however_the_wire_is_cut),
	FACT(tls_keys_are_replaced_after_so_many_bytes),
	FACT(tls_dialer_refuses_a_key_that_is_not_the_pinned_one),
	FACT(tls_listener_refuses_a_key_of_nobody_and_the_dialer_learns_it_in_the_handshake),
	FACT(tls_name_in_the_certificate_must_be_that_of_the_pin),
	FACT(tls_dialer_accepts_no_other_node_that_it_knows),
	FACT(tls_one_key_is_one_node),
	FACT(tls_wire_that_ends_anywhere_is_an_error_on_the_other_end),
	FACT(tls_stream_that_ends_at_a_record_without_saying_so_is_an_error),
	FACT(tls_changed_byte_anywhere_is_noticed_and_nothing_of_its_record_comes_out),
	FACT(tls_changed_byte_in_the_handshake_never_opens_both_ends),
	FACT(tls_replayed_record_or_connection_is_refused),
	FACT(tls_older_versions_other_protocols_and_nobody_are_refused),
	FACT(tls_what_is_not_tls_is_refused),
	FACT(tls_stranger_who_sends_without_end_is_refused_at_a_bound),
};
TEST_GROUP(tls, tests)
