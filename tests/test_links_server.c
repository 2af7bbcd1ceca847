/* SPDX-License-Identifier: Apache-2.0 */
/* A front end's links over the simulated network: a server that asks for certificates, a client that speaks TLS with
 * OpenSSL alone, and others who do not. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "bytes.h"
#include "certificates.h"
#include "links_parts.h"
#include "run.h"
#include "sim/world_probe.h"

static const uint8_t uuid[UUID_BYTES] = { 7 };
static struct identity *server_key, *client_key, *other_key;
static struct certificates certificates;
static struct volume_config volume = { .name = "v" };
static struct world *world;
static struct machine *server_machine, *client_machine;
static struct links *links;
static struct io *io;			/* the server's */
static int listening;

static struct identity *key_make(const char *node)
{
	char directory[64] = "/tmp/holdfast-links.XXXXXX", why[WHY_BYTES];
	struct identity *made;

	assert_non_null(mkdtemp(directory));
	assert_int_equal(identity_create(directory, node, uuid, why), 0);
	assert_int_equal(identity_load(&made, directory, node, uuid, why), 0);
	identity_remove(directory);
	return made;
}

/* The client's certificate is its own authority. */
static int setup(void **state)
{
	(void)state;
	server_key = key_make("server");
	client_key = key_make("client");
	other_key = key_make("client");
	certificates = (struct certificates){ .key = identity_key(server_key), .chain_count = 1 };
	certificates.chain[0] = identity_certificate(server_key);
	certificates.authority = X509_STORE_new();
	return X509_STORE_add_cert(certificates.authority, identity_certificate(client_key)) == 1 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	X509_STORE_free(certificates.authority);
	identity_free(server_key);
	identity_free(client_key);
	identity_free(other_key);
	return 0;
}

static void start(uint64_t seed)
{
	struct links_config config = { .volume = &volume, .server = &certificates };
	char why[WHY_BYTES];

	world = world_new(seed);
	server_machine = world_machine(world, "server");
	client_machine = world_machine(world, "client");
	assert_int_equal(links_new(&links, machine_io(server_machine), &config, why), 0);
	io = links_io(links);
	assert_int_equal(io->listen(io, "server:1", &listening), 0);
}

static void stop_done(void *context)
{
	*(bool *)context = true;
}

static bool stop_busy(void *context)
{
	return !*(bool *)context;
}

static void stop(void)
{
	bool stopped = false;

	io->close(io, listening);
	links_stop(links, stop_done, &stopped);
	assert_true(world_run_while(world, stop_busy, &stopped, 10 * SECONDS));
	links_free(links);
	world_free(world);
}

/* probe_start(), through the links. */
static void op_start(struct probe *p, enum io_kind kind, int file, void *data, uint64_t len)
{
	*p = (struct probe){ .op = { .kind = kind, .file = file, .data = data, .len = len, .done = probe_done } };
	io->submit(io, &p->op);
}

/* ---- a client ---- */

struct client { int socket, at_server; SSL_CTX *context; SSL *ssl; BIO *in, *out; };

static void client_begin(struct client *c, const struct identity *key)
{
	struct probe accept, dial = { .op.address = "server:1" };

	op_start(&accept, IO_ACCEPT, listening, NULL, 0);
	probe_start(client_machine, &dial, IO_DIAL, 0, 0, NULL, 0);
	assert_true(world_run_while(world, probe_busy, &accept, SECONDS));
	assert_true(world_run_while(world, probe_busy, &dial, SECONDS));
	*c = (struct client){ .socket = (int)dial.result, .at_server = (int)accept.result };
	assert_true(c->socket >= 0 && c->at_server >= 0);
	c->context = SSL_CTX_new(TLS_client_method());
	if (key) {
		assert_int_equal(SSL_CTX_use_certificate(c->context, identity_certificate(key)), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(c->context, identity_key(key)), 1);
	}
	c->ssl = SSL_new(c->context);
	c->in = BIO_new(BIO_s_mem());
	c->out = BIO_new(BIO_s_mem());
	SSL_set_bio(c->ssl, c->in, c->out);
	SSL_set_connect_state(c->ssl);
}

static void client_end(struct client *c)
{
	struct io *plain = machine_io(client_machine);

	SSL_free(c->ssl);
	SSL_CTX_free(c->context);
	if (c->socket >= 0)
		plain->close(plain, c->socket);
}

/* What OpenSSL has to say goes out. */
static void client_flush(struct client *c)
{
	static uint8_t bytes[64 << 10];
	struct probe send = { 0 };
	int len;

	while ((len = BIO_read(c->out, bytes, sizeof bytes)) > 0) {
		probe_start(client_machine, &send, IO_SEND, c->socket, 0, bytes, (uint64_t)len);
		assert_true(world_run_while(world, probe_busy, &send, SECONDS));
	}
}

/* Some bytes come in, or none ever will. */
static bool client_fill(struct client *c)
{
	static uint8_t bytes[64 << 10];
	struct probe recv = { 0 };

	probe_start(client_machine, &recv, IO_RECV, c->socket, 0, bytes, sizeof bytes);
	assert_true(world_run_while(world, probe_busy, &recv, 10 * SECONDS));
	return recv.result > 0 && BIO_write(c->in, bytes, (int)recv.result) == recv.result;
}

static bool client_handshake(struct client *c)
{
	while (SSL_do_handshake(c->ssl) != 1) {
		client_flush(c);
		if (!client_fill(c))
			return false;
	}
	client_flush(c);
	return true;
}

static void pattern(uint8_t *out, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)((i + seed) * 0x9e3779b97f4a7c15 >> 56);
}

/* ---- facts ---- */

enum { BYTES = 300000 };
static uint8_t sent[BYTES], got[BYTES];

static void links_server_passes_both_ways_what_waited_for_the_handshake(void **state)
{
	struct probe recv, send;
	struct client c;
	int len;

	(void)state;
	start(test_seed_first(1));
	client_begin(&c, client_key);
	assert_int_equal(links_secure(links, c.at_server), 0);
	/* Both ops are there before the first byte of the handshake. */
	pattern(sent, BYTES, 1);
	op_start(&recv, IO_RECV, c.at_server, got, 5);
	op_start(&send, IO_SEND, c.at_server, sent, BYTES);
	assert_true(client_handshake(&c));
	assert_int_equal(SSL_write(c.ssl, "hello", 5), 5);
	client_flush(&c);
	assert_true(world_run_while(world, probe_busy, &recv, SECONDS));
	assert_int_equal(recv.result, 5);
	assert_memory_equal(got, "hello", 5);
	for (size_t at = 0; at < BYTES; at += (size_t)len)
		while ((len = SSL_read(c.ssl, got + at, (int)(BYTES - at))) <= 0)
			assert_true(client_fill(&c));
	assert_true(world_run_while(world, probe_busy, &send, SECONDS));
	assert_int_equal(send.result, BYTES);
	assert_memory_equal(got, sent, BYTES);
	io->close(io, c.at_server);
	while ((len = SSL_read(c.ssl, got, 1)) <= 0 && SSL_get_error(c.ssl, len) == SSL_ERROR_WANT_READ)
		assert_true(client_fill(&c));
	assert_int_equal(SSL_get_error(c.ssl, len), SSL_ERROR_ZERO_RETURN);	/* it said that this is the end */
	client_end(&c);
	stop();
}

/* @key's certificate is not of the authority, or there is none: its ops fail, the socket stays the front end's. */
static void refused(const struct identity *key, int error)
{
	struct probe recv, late;
	struct client c;
	char byte;
	int len;

	start(test_seed_first(1));
	client_begin(&c, key);
	assert_int_equal(links_secure(links, c.at_server), 0);
	op_start(&recv, IO_RECV, c.at_server, got, 5);
	if (client_handshake(&c))		/* its side is through before ours has looked at its certificate */
		while ((len = SSL_read(c.ssl, &byte, 1)) <= 0 && SSL_get_error(c.ssl, len) == SSL_ERROR_WANT_READ)
			if (!client_fill(&c))
				break;
	assert_true(world_run_while(world, probe_busy, &recv, SECONDS));
	assert_int_equal(recv.result, error);
	op_start(&late, IO_SEND, c.at_server, sent, 5);
	assert_true(world_run_while(world, probe_busy, &late, SECONDS));
	assert_int_equal(late.result, error);
	io->close(io, c.at_server);
	client_end(&c);
	stop();
}

static void links_server_refuses_who_is_not_of_its_authority(void **state)
{
	(void)state;
	refused(other_key, -EKEYREJECTED);
	refused(NULL, -EKEYREJECTED);
}

static void links_server_gives_up_on_who_says_nothing(void **state)
{
	struct probe recv;
	struct client c;

	(void)state;
	start(test_seed_first(1));
	client_begin(&c, client_key);
	assert_int_equal(links_secure(links, c.at_server), 0);
	op_start(&recv, IO_RECV, c.at_server, got, 5);
	world_run_for(world, LINK_HANDSHAKE_NS - SECONDS);
	assert_true(probe_busy(&recv));
	world_run_for(world, 2 * SECONDS);
	assert_int_equal(recv.result, -ETIMEDOUT);
	io->close(io, c.at_server);
	client_end(&c);
	stop();
}

/* More than may be on their way to a proof: the oldest fails, and the last one gets through. */
static void links_server_has_a_place_for_a_client_beside_a_crowd(void **state)
{
	static struct client crowd[2 * LINK_STRANGERS_MAX];
	static struct probe recvs[2 * LINK_STRANGERS_MAX];
	static uint8_t bytes[2 * LINK_STRANGERS_MAX];
	struct client c;

	(void)state;
	start(test_seed_first(1));
	for (unsigned i = 0; i < 2 * LINK_STRANGERS_MAX; i++) {
		client_begin(&crowd[i], NULL);
		assert_int_equal(links_secure(links, crowd[i].at_server), 0);
		op_start(&recvs[i], IO_RECV, crowd[i].at_server, &bytes[i], 1);
		world_run_for(world, MILLISECONDS);
		if (i < LINK_STRANGERS_MAX)
			continue;
		assert_int_equal(recvs[i - LINK_STRANGERS_MAX].result, -EBUSY);
		io->close(io, crowd[i - LINK_STRANGERS_MAX].at_server);
	}
	client_begin(&c, client_key);
	assert_int_equal(links_secure(links, c.at_server), 0);
	assert_true(client_handshake(&c));
	client_end(&c);
	for (unsigned i = 0; i < 2 * LINK_STRANGERS_MAX; i++)
		client_end(&crowd[i]);
	stop();
}

/* Closed by either side, or stopped, at any moment: each op is done once, and nothing is left. */
static void links_server_ends_in_every_state(void **state)
{
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0, count = test_seed_count(60); i < count; i++) {
		struct probe recv, send;
		struct client c;
		bool closed = false;
		int at_server;

		start(first + i);
		client_begin(&c, i % 3 ? client_key : other_key);
		at_server = c.at_server;
		assert_int_equal(links_secure(links, c.at_server), 0);
		op_start(&recv, IO_RECV, c.at_server, got, BYTES);
		op_start(&send, IO_SEND, c.at_server, sent, 1 + world_random_below(world, BYTES));
		if (world_random_below(world, 4)) {
			(void)!SSL_do_handshake(c.ssl);
			client_flush(&c);
			if (world_random_below(world, 4) && client_fill(&c)) {
				(void)!SSL_do_handshake(c.ssl);
				client_flush(&c);
			}
		}
		world_run_for(world, world_random_below(world, 2 * MILLISECONDS));
		if (world_random_below(world, 2)) {
			io->close(io, at_server);
			closed = true;
			world_run_for(world, world_random_below(world, 2 * MILLISECONDS));
		}
		if (world_random_below(world, 2)) {
			client_end(&c);
			c = (struct client){ .socket = -1 };
			world_run_for(world, world_random_below(world, 2 * MILLISECONDS));
		}
		if (!closed && world_random_below(world, 2))
			io->close(io, at_server);
		stop();
		assert_false(probe_busy(&recv) || probe_busy(&send));
		if (c.ssl) {
			SSL_free(c.ssl);
			SSL_CTX_free(c.context);
		}
	}
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
	FACT(links_server_passes_both_ways_what_waited_for_the_handshake),
	FACT(links_server_refuses_who_is_not_of_its_authority),
	FACT(links_server_gives_up_on_who_says_nothing),
	FACT(links_server_has_a_place_for_a_client_beside_a_crowd),
	FACT(links_server_ends_in_every_state),
};
TEST_GROUP(links_server, tests)
