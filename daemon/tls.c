/* SPDX-License-Identifier: Apache-2.0 */
/* TLS on OpenSSL, between buffers of ours. OpenSSL reads from and writes to a BIO that is these buffers, so that it
 * never waits, and its memory and ours have bounds.
 *
 * Invariant: a plain byte goes out only after tls_handshake() has said 1; and that it says only when verify() has found
 * the key that the other side then proved to have, and both sides named our protocol. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "auto.h"
#include "bytes.h"
#include "certificates.h"
#include "tls.h"

enum {
	RECORD_PLAIN_MAX = 16 << 10,
	RECORD_ROOM = RECORD_PLAIN_MAX + 512,	/* sealed, with a KeyUpdate before it and an alert behind it */
	STRANGER_OUT_BYTES = 32 << 10,
	CERTIFICATES_MAX = 4096,		/* bytes of certificates that a stranger may send */
	SERVER_CERTIFICATES_MAX = 12 << 10,	/* and a client, whose authority may use RSA and have others between */
};
static const unsigned char protocol[] = "\x0aholdfast/1";	/* ALPN */
enum { PROTOCOL_BYTES = sizeof protocol - 1 };
static const uint8_t welcome = 'W';

struct tls_context {
	SSL_CTX *ssl;
	BIO_METHOD *method;
	uint64_t key_bytes;
	uint32_t out_bytes, in_bytes;	/* of an open link's buffers */
	bool trusting;			/* there is an authority */
	bool server;			/* of a front end: any client of the authority */
	unsigned pin_count;
	struct tls_pin pins[PEERS_MAX];
};

struct tls {
	struct tls_context *context;
	SSL *ssl;
	char expected[NAME_BYTES];	/* the node that is dialed; "" on the listening end */
	char node[NAME_BYTES];		/* whose key verify() found */
	bool handshaken, open, failed, ended;
	int error;			/* of `failed` */
	uint64_t stranger_bytes;	/* from the wire, before it was open */
	uint64_t key_used, key_updates;
	uint8_t *in;
	uint32_t in_bytes, in_at, in_len;	/* [in_at, in_len) of in_bytes is not read yet */
	bool in_ended;
	uint8_t *out[2];
	uint32_t out_bytes[2];
	unsigned filling;		/* which of out is filled; the other one is on its way when `sending` */
	bool sending;
	uint32_t out_len;		/* of the one that is filled */
	char why[WHY_BYTES];
};

/* ---- the BIO: our buffers -------------------------------------------------------------------------- */

static int wire_read(BIO *bio, char *out, int room)
{
	struct tls *t = BIO_get_data(bio);
	uint32_t len = (uint32_t)min_u64(t->in_len - t->in_at, (uint64_t)room);

	BIO_clear_retry_flags(bio);
	if (len == 0) {
		if (!t->in_ended)
			BIO_set_retry_read(bio);
		return t->in_ended ? 0 : -1;
	}
	memcpy(out, t->in + t->in_at, len);
	t->in_at += len;
	if (t->in_at == t->in_len)
		t->in_at = t->in_len = 0;
	return (int)len;
}

static int wire_write(BIO *bio, const char *data, int len)
{
	struct tls *t = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	/* Nothing is begun without room for it; what has no room all the same is a flood of answers to a flood. */
	if ((uint32_t)len > t->out_bytes[t->filling] - t->out_len)
		return -1;
	memcpy(t->out[t->filling] + t->out_len, data, (size_t)len);
	t->out_len += (uint32_t)len;
	return len;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
	struct tls *t = BIO_get_data(bio);

	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH ? 1 : command == BIO_CTRL_EOF ? t->in_ended && t->in_at == t->in_len : 0;
}

/* ---- who is there ---------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static int fail(struct tls *t, int res, const char *format, ...)
{
	va_list args;

	if (!t->failed) {		/* what was found first is the reason for all else */
		t->failed = true;
		t->error = res;
		va_start(args, format);
		vsnprintf(t->why, sizeof t->why, format, args);
		va_end(args);
	}
	return t->error;
}

static const struct tls_pin *pin_of_key(const struct tls_context *c, const uint8_t fingerprint[FINGERPRINT_BYTES])
{
	for (unsigned i = 0; i < c->pin_count; i++)
		if (!c->pins[i].certified && memcmp(c->pins[i].fingerprint, fingerprint, FINGERPRINT_BYTES) == 0)
			return &c->pins[i];
	return NULL;
}

static const struct tls_pin *pin_of_node(const struct tls_context *c, const char *node)
{
	for (unsigned i = 0; i < c->pin_count; i++)
		if (strcmp(c->pins[i].node, node) == 0)
			return &c->pins[i];
	return NULL;
}

/* As OpenSSL does it: the chain up to our authority, its dates and what it is for. */
static bool certificate_verify(struct tls *t, X509_STORE_CTX *store, const char *name)
{
	if (X509_verify_cert(store) == 1) {
		snprintf(t->node, sizeof t->node, "%s", name);
		return true;
	}
	fail(t, -EKEYREJECTED, "its certificate, of %s, is refused: %s", name,
	     X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
	return false;
}

static bool node_is_certified(const struct tls *t, const char *name)
{
	const struct tls_pin *pin = pin_of_node(t->context, name);

	return t->context->trusting && pin && pin->certified && (!t->expected[0] || strcmp(t->expected, name) == 0);
}

/* Whether @certificate is of somebody whom we know; whoever sent it has yet to prove that the key is its own. */
static bool certificate_known(struct tls *t, X509_STORE_CTX *store)
{
	const X509 *certificate = X509_STORE_CTX_get0_cert(store);
	uint8_t fingerprint[FINGERPRINT_BYTES];
	char text[FINGERPRINT_TEXT_BYTES], shown[FINGERPRINT_SHORT_BYTES], name[NAME_BYTES];
	const struct tls_pin *pin;

	if (!certificate || fingerprint_of(certificate, fingerprint) < 0) {
		fail(t, -EKEYREJECTED, "its certificate cannot be read");
		return false;
	}
	if (certificate_node(certificate, name) < 0)
		strcpy(name, "?");
	fingerprint_text(fingerprint, text);
	fingerprint_short(fingerprint, shown);
	pin = pin_of_key(t->context, fingerprint);
	if (!pin && node_is_certified(t, name))
		return certificate_verify(t, store, name);
	if (t->expected[0] && (!pin || strcmp(pin->node, t->expected) != 0))
		fail(t, -EKEYREJECTED, "its key %s (%s, it calls itself node %s) is not the one that the config has as "
		     "fingerprint of node %s; when it has a new key, compare it by voice and set it with: holdfast "
		     "peer VOLUME fingerprint", shown, text, name, t->expected);
	else if (!pin)
		fail(t, -EKEYREJECTED, "its key %s (%s, it calls itself node %s) is the fingerprint of no peer in the "
		     "config", shown, text, name);
	else if (strcmp(pin->node, name) != 0)
		fail(t, -EKEYREJECTED, "its key %s is node %s's, and its certificate says node %s", shown, pin->node,
		     name);
	else
		strcpy(t->node, pin->node);
	return !t->failed;
}

/* Whatever a client calls itself, as far as it can be shown. */
static void client_name(X509 *certificate, char out[NAME_BYTES])
{
	if (X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, out, NAME_BYTES) <= 0)
		strcpy(out, "?");
	for (char *at = out; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
}

/* In place of all that OpenSSL would check of a chain. */
static int verify(X509_STORE_CTX *store, void *context)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);
	char name[NAME_BYTES];

	(void)context;
	if (t->context->server)
		client_name(X509_STORE_CTX_get0_cert(store), name);
	if (t->context->server ? certificate_verify(t, store, name) : certificate_known(t, store)) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);	/* the alert is bad_certificate */
	return 0;
}

static int protocol_select(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
			   unsigned in_len, void *context)
{
	(void)ssl;
	(void)context;
	for (unsigned at = 0; at < in_len && in_len - at > in[at]; at += 1u + in[at])
		if (in_len - at >= PROTOCOL_BYTES && memcmp(in + at, protocol, PROTOCOL_BYTES) == 0) {
			*out = in + at + 1;
			*out_len = PROTOCOL_BYTES - 1;
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- context and session --------------------------------------------------------------------------- */

/* What holds for each of our ends. */
static bool ssl_configure(SSL_CTX *ssl)
{
	SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_clear_options(ssl, SSL_OP_ENABLE_MIDDLEBOX_COMPAT | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_read_ahead(ssl, 1);			/* header and body of a record by one call */
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_cert_list(ssl, CERTIFICATES_MAX);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT | SSL_VERIFY_CLIENT_ONCE, NULL);
	SSL_CTX_set_cert_verify_callback(ssl, verify, NULL);
	SSL_CTX_set_quiet_shutdown(ssl, 0);
	return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) &&
	       SSL_CTX_set_num_tickets(ssl, 0) && SSL_CTX_set_max_early_data(ssl, 0) &&
	       SSL_CTX_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					     "TLS_CHACHA20_POLY1305_SHA256");
}

static bool ssl_configure_node(SSL_CTX *ssl, const struct identity *identity)
{
	SSL_CTX_set_alpn_select_cb(ssl, protocol_select, NULL);
	return SSL_CTX_set1_groups_list(ssl, "X25519") && SSL_CTX_set1_sigalgs_list(ssl, "ed25519") &&
	       SSL_CTX_set_alpn_protos(ssl, protocol, PROTOCOL_BYTES) == 0 &&
	       SSL_CTX_use_certificate(ssl, identity_certificate(identity)) == 1 &&
	       SSL_CTX_use_PrivateKey(ssl, identity_key(identity)) == 1;
}

static bool ssl_configure_server(SSL_CTX *ssl, const struct certificates *certificates)
{
	bool done = SSL_CTX_use_certificate(ssl, certificates->chain[0]) == 1 &&
		    SSL_CTX_use_PrivateKey(ssl, certificates->key) == 1;

	for (unsigned i = 1; i < certificates->chain_count; i++)
		done = done && SSL_CTX_add1_chain_cert(ssl, certificates->chain[i]) == 1;
	SSL_CTX_set1_cert_store(ssl, certificates->authority);
	SSL_CTX_set_max_cert_list(ssl, SERVER_CERTIFICATES_MAX);
	return done;
}

static bool context_init(struct tls_context *c)
{
	c->key_bytes = TLS_KEY_BYTES;
	c->out_bytes = TLS_OUT_BYTES;
	c->in_bytes = TLS_IN_BYTES;
	c->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "holdfast wire");
	c->ssl = SSL_CTX_new(TLS_method());
	return c->method && c->ssl && BIO_meth_set_read(c->method, wire_read) &&
	       BIO_meth_set_write(c->method, wire_write) && BIO_meth_set_ctrl(c->method, wire_control) &&
	       ssl_configure(c->ssl);
}

int tls_context_new_server(struct tls_context **out, const struct certificates *certificates)
{
	struct tls_context *c = calloc(1, sizeof *c);
	int result = -ENOMEM;

	if (c && context_init(c)) {
		c->server = true;
		c->out_bytes = c->in_bytes = TLS_SERVER_BYTES;
		result = ssl_configure_server(c->ssl, certificates) ? 0 : -EINVAL;
	}
	ERR_clear_error();
	if (result < 0)
		tls_context_free(c);
	else
		*out = c;
	return result;
}

int tls_context_new(struct tls_context **out, const struct identity *identity, const struct tls_pin *pins,
		    unsigned pin_count)
{
	struct tls_context *c = calloc(1, sizeof *c);

	CHECK(pin_count <= PEERS_MAX);
	if (!c)
		return -ENOMEM;
	for (unsigned i = 0; i < pin_count; i++) {
		if (!pins[i].certified && pin_of_key(c, pins[i].fingerprint)) {
			tls_context_free(c);
			return -EINVAL;
		}
		c->pins[c->pin_count++] = pins[i];
	}
	if (!context_init(c) || !ssl_configure_node(c->ssl, identity)) {
		tls_context_free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void tls_context_free(struct tls_context *c)
{
	if (!c)
		return;
	SSL_CTX_free(c->ssl);
	BIO_meth_free(c->method);
	free(c);
}

void tls_context_trust(struct tls_context *c, struct x509_store_st *authority)
{
	c->trusting = true;
	SSL_CTX_set1_cert_store(c->ssl, authority);
}

void tls_context_set_key_bytes(struct tls_context *c, uint64_t bytes)
{
	c->key_bytes = bytes;
}

/* An empty buffer, in place of what was there: only a node that is known gets a large one. Without memory for that the
 * small one does. */
static bool buffer_make(uint8_t **buffer, uint32_t *had, uint32_t bytes)
{
	uint8_t *made = *had < bytes ? malloc(bytes) : NULL;

	if (made) {
		free(*buffer);
		*buffer = made;
		*had = bytes;
	}
	return *buffer != NULL;
}

int tls_new(struct tls **out, struct tls_context *c, const char *node)
{
	struct tls *t;
	BIO *bio;

	if (node && !pin_of_node(c, node))
		return -ENOENT;
	t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	bio = BIO_new(c->method);
	t->ssl = SSL_new(c->ssl);
	if (!bio || !t->ssl || !buffer_make(&t->in, &t->in_bytes, TLS_STRANGER_BYTES) ||
	    !buffer_make(&t->out[0], &t->out_bytes[0], STRANGER_OUT_BYTES) ||
	    !buffer_make(&t->out[1], &t->out_bytes[1], STRANGER_OUT_BYTES)) {
		BIO_free(bio);
		tls_free(t);
		return -ENOMEM;
	}
	t->context = c;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_app_data(t->ssl, t);
	if (node) {
		snprintf(t->expected, sizeof t->expected, "%s", node);
		SSL_set_connect_state(t->ssl);
	} else {
		SSL_set_accept_state(t->ssl);
	}
	*out = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t->in);			/* these have seen sealed bytes only */
	free(t->out[0]);
	free(t->out[1]);
	free(t);
}

/* ---- the wire -------------------------------------------------------------------------------------- */

void *tls_wire_room(struct tls *t, size_t *room)
{
	*room = 0;
	if (t->in_at == t->in_len) {
		if (t->open)
			buffer_make(&t->in, &t->in_bytes, t->context->in_bytes);
		*room = t->in_bytes;
	}
	return t->in;
}

void tls_wire_received(struct tls *t, size_t len)
{
	CHECK(t->in_at == t->in_len && len <= t->in_bytes);
	t->in_at = 0;
	t->in_len = (uint32_t)len;
	if (!t->open)
		t->stranger_bytes += len;
}

void tls_wire_ended(struct tls *t)
{
	t->in_ended = true;
}

const void *tls_wire_take(struct tls *t, size_t *len)
{
	const void *bytes = t->out[t->filling];

	if (t->sending || t->out_len == 0)
		return NULL;
	*len = t->out_len;
	t->sending = true;
	t->filling = !t->filling;
	t->out_len = 0;
	return bytes;
}

void tls_wire_sent(struct tls *t)
{
	CHECK(t->sending);
	t->sending = false;
}

/* ---- the handshake --------------------------------------------------------------------------------- */

/* What OpenSSL says has gone wrong, in our words. */
static int fail_ssl(struct tls *t, int result)
{
	int kind = SSL_get_error(t->ssl, result);
	unsigned long error = ERR_peek_error();
	const char *reason = ERR_reason_error_string(error);

	ERR_clear_error();
	if (kind == SSL_ERROR_SYSCALL || ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return fail(t, -ECONNRESET, t->handshaken ? "the connection ended in the middle of the stream" :
			    "it ended the connection in the middle of the handshake; does its config have this node's "
			    "fingerprint?");
	switch (ERR_GET_REASON(error)) {
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
		return fail(t, -EKEYREJECTED, "its key is refused");
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
		return fail(t, -EACCES, "it does not accept this node's key; compare this node's fingerprint (holdfast "
			    "identity) with the one in its config");
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return fail(t, -EKEYREJECTED, "it has no key to prove who it is");
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_NO_PROTOCOLS_AVAILABLE:
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
		return fail(t, -EPROTO, "it does not speak TLS 1.3");
	case SSL_R_NO_APPLICATION_PROTOCOL:
	case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
		return fail(t, -EPROTO, "it does not speak our protocol (ALPN %s)", protocol + 1);
	case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
	case SSL_R_SSLV3_ALERT_BAD_RECORD_MAC:
		return fail(t, -EBADMSG, "bytes were changed on their way");
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
		return fail(t, t->handshaken ? -EBADMSG : -EPROTO, "what it sent is not TLS");
	default:
		return fail(t, t->handshaken ? -EBADMSG : -EPROTO, "TLS: %.200s",
			    reason ? reason : "an error without a name");
	}
}

static int handshaken(struct tls *t)
{
	const unsigned char *name;
	unsigned len;

	SSL_get0_alpn_selected(t->ssl, &name, &len);
	/* Our own verify() has been asked, whatever OpenSSL made of the answer. */
	if (!t->node[0] || t->failed || SSL_get_verify_result(t->ssl) != X509_V_OK || SSL_session_reused(t->ssl))
		return fail(t, -EKEYREJECTED, "it has not proved who it is");
	if (!t->context->server && (len != PROTOCOL_BYTES - 1 || memcmp(name, protocol + 1, len) != 0))
		return fail(t, -EPROTO, "it does not speak our protocol (ALPN %s)", protocol + 1);
	t->handshaken = true;
	return 0;
}

/* The listener says that it has accepted; the dialer waits for that. 1, 0 or -errno */
static int welcome_pass(struct tls *t)
{
	uint8_t byte;
	int result = 1;

	if (!t->context->server)
		result = t->expected[0] ? SSL_read(t->ssl, &byte, 1) : SSL_write(t->ssl, &welcome, 1);
	if (result <= 0)
		return SSL_get_error(t->ssl, result) == SSL_ERROR_WANT_READ ? 0 : fail_ssl(t, result);
	if (t->expected[0] && byte != welcome)
		return fail(t, -EPROTO, "it does not begin as a node does");
	t->open = true;
	return 1;
}

int tls_handshake(struct tls *t)
{
	int result;

	if (t->open)
		return 1;
	if (t->failed)
		return t->error;
	/* Before anything is read of it: memory that OpenSSL takes for a stranger is bounded by this. */
	if (t->stranger_bytes > TLS_STRANGER_BYTES)
		return fail(t, -EPROTO, "it sent more than %d KiB before it had proved who it is",
			    TLS_STRANGER_BYTES >> 10);
	ERR_clear_error();
	if (!t->handshaken) {
		result = SSL_do_handshake(t->ssl);
		if (result != 1)
			return SSL_get_error(t->ssl, result) == SSL_ERROR_WANT_READ ? 0 : fail_ssl(t, result);
		result = handshaken(t);
		if (result < 0)
			return result;
	}
	return welcome_pass(t);
}

/* ---- the stream ------------------------------------------------------------------------------------ */

/* Each side replaces the key that it sends with. */
static int key_count(struct tls *t)
{
	t->key_used += RECORD_PLAIN_MAX;
	if (t->key_used < t->context->key_bytes)
		return 0;
	if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
		return fail(t, -EPROTO, "TLS: the key cannot be replaced");
	t->key_used = 0;
	t->key_updates++;
	return 0;
}

/* SSL_get_error() looks at what is there. To clear nothing costs as much as a tenth of a short record. */
static void errors_clear(void)
{
	if (ERR_peek_error())
		ERR_clear_error();
}

void tls_key_renew(struct tls *t)
{
	t->key_used = max_u64(t->key_used, t->context->key_bytes);
}

ssize_t tls_send(struct tls *t, const void *data, size_t len)
{
	size_t taken = 0;

	CHECK(t->open && !t->ended);
	if (t->failed)
		return t->error;
	errors_clear();
	if (t->out_len == 0)
		buffer_make(&t->out[t->filling], &t->out_bytes[t->filling], t->context->out_bytes);
	while (taken < len && t->out_bytes[t->filling] - t->out_len >= RECORD_ROOM) {
		int piece = (int)min_u64(len - taken, RECORD_PLAIN_MAX), result;

		if (key_count(t) < 0)
			return -EPROTO;
		result = SSL_write(t->ssl, (const uint8_t *)data + taken, piece);
		if (result != piece)
			return fail_ssl(t, result);
		taken += (size_t)piece;
	}
	return (ssize_t)taken;
}

/* There may be something to be read. */
static bool bytes_wait(struct tls *t)
{
	return t->in_at < t->in_len || t->in_ended || SSL_has_pending(t->ssl) ||
	       SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN;
}

ssize_t tls_receive(struct tls *t, void *out, size_t room)
{
	size_t taken = 0;
	int result = 1;

	CHECK(t->open);
	if (t->failed)
		return t->error;
	if (!bytes_wait(t))		/* to ask in vain costs as much as a short record */
		return -EAGAIN;
	errors_clear();
	while (taken < room) {
		if (taken && !bytes_wait(t))
			break;
		result = SSL_read(t->ssl, (uint8_t *)out + taken, (int)min_u64(room - taken, 1 << 30));
		if (result <= 0)
			break;
		taken += (size_t)result;
	}
	if (result > 0)
		return (ssize_t)taken;
	switch (SSL_get_error(t->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return taken ? (ssize_t)taken : -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return (ssize_t)taken;
	default:			/* what came before it is good; it is told by the next call */
		result = fail_ssl(t, result);
		return taken ? (ssize_t)taken : result;
	}
}

void tls_end(struct tls *t)
{
	if (!t->open || t->failed || t->ended)
		return;
	t->ended = true;
	(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
}

const char *tls_node(const struct tls *t)
{
	return t->open ? t->node : "";
}

const char *tls_why(const struct tls *t)
{
	return t->why;
}

uint64_t tls_key_updates(const struct tls *t)
{
	return t->key_updates;
}
