/* SPDX-License-Identifier: Apache-2.0 */
/* One end of an encrypted link: TLS 1.3 and nothing older, both sides proved by keys that are pinned. A pure machine:
 * it makes no system call and knows no time; bytes of the wire and of the plain stream go in and come out.
 *
 *	tls_wire_room(), tls_wire_received()	what came from the wire
 *	tls_wire_take(), tls_wire_sent()	what is to go to the wire
 *	tls_handshake()				until it says 1
 *	tls_send(), tls_receive()		then the plain stream
 *
 * The other side is who its key says: the certificate's public key is one of the pinned ones, and its CN is the name of
 * the node that this key is pinned for. No authority, no expiry date and no algorithm but Ed25519 takes part in that.
 * Where a node has no pinned key, and the context an authority, it is who shows a certificate with its name as CN, that
 * the authority has signed and that is good today; its own key is an Ed25519 one all the same.
 * The dialer expects one certain node. The listener's first byte says that it has accepted the dialer, so whoever is
 * refused knows it when the handshake ends, and not from a link that breaks later.
 *
 * A front end's server (tls_context_new_server) is the listening end for clients that are nobody in particular: it lets
 * in who has a certificate of its authority that is good today, and there is no protocol's name and no first byte.
 *
 * Memory: until the other side has proved who it is, TLS_STRANGER_MEMORY and some 50 KiB that OpenSSL takes, and of
 * what it sends TLS_STRANGER_BYTES are read and no more; then TLS_MEMORY, or TLS_SERVER_MEMORY.
 */
#ifndef HOLDFAST_TLS_H
#define HOLDFAST_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bounds.h"
#include "identity.h"

enum {
	TLS_OUT_BYTES = 256 << 10,	/* one of two buffers: one is filled while the other is on its way */
	TLS_IN_BYTES = 256 << 10,
	TLS_MEMORY = 2 * TLS_OUT_BYTES + TLS_IN_BYTES,
	TLS_SERVER_BYTES = 128 << 10,	/* each of the three of a front end's link */
	TLS_SERVER_MEMORY = 3 * TLS_SERVER_BYTES,
	TLS_STRANGER_BYTES = 16 << 10,	/* a whole handshake of ours has less than 2 KiB each way */
	TLS_STRANGER_MEMORY = TLS_STRANGER_BYTES + 2 * (32 << 10),
	TLS_FIRST_BYTE = 0x16,		/* of a client that speaks TLS; what is in the clear begins otherwise */
};
/* Bytes of plain stream under one key at most, then comes the next (KeyUpdate). AES-GCM is good for 2^24.5 full records
 * of 16 KiB, 380 GiB (RFC 8446, 5.5); small records count as full ones. */
#define TLS_KEY_BYTES (64ull << 30)

/* A node, and the fingerprint of its key; or certified: it has none, and a certificate of the authority names it. */
struct tls_pin { char node[NAME_BYTES]; bool certified; uint8_t fingerprint[FINGERPRINT_BYTES]; };

/* What all links of a node have in common. @identity is the caller's, until tls_context_free(); @pins are copied.
 * -EINVAL when two pins have the same key; -ENOMEM. */
struct tls_context;
MUST_CHECK int tls_context_new(struct tls_context **out, const struct identity *identity, const struct tls_pin *pins,
			       unsigned pin_count);
struct x509_store_st;
/* The authority that certifies those of the pins that are. */
void tls_context_trust(struct tls_context *context, struct x509_store_st *authority);
struct certificates;
/* @certificates are the caller's, until tls_context_free(). -EINVAL OpenSSL does not take the certificate; -ENOMEM. */
MUST_CHECK int tls_context_new_server(struct tls_context **out, const struct certificates *certificates);
void tls_context_free(struct tls_context *context);
/* For tests: how much goes under one key. */
void tls_context_set_key_bytes(struct tls_context *context, uint64_t bytes);

struct tls;
/* @node: the dialing end, and whom it means to reach, one of the pinned; NULL: the listening end. *out is the caller's.
 * -ENOENT for a node without a pin, -ENOMEM. */
MUST_CHECK int tls_new(struct tls **out, struct tls_context *context, const char *node);
/* NULL is fine. */
void tls_free(struct tls *t);

/* Where bytes from the wire go, and how many: 0 when what is there has to be taken out first, by tls_handshake() or
 * tls_receive(). */
void *tls_wire_room(struct tls *t, size_t *room);
/* So many are there. */
void tls_wire_received(struct tls *t, size_t len);
/* No more will come. */
void tls_wire_ended(struct tls *t);
/* What is to be sent, NULL when there is nothing or the last is still on its way. It stays until tls_wire_sent(). */
const void *tls_wire_take(struct tls *t, size_t *len);
void tls_wire_sent(struct tls *t);

/* 1: both sides have proved who they are. 0: more bytes are needed. After an error tls_why() is a sentence without a
 * subject, there may be an alert for the other side to be taken, and nothing else works any more: -EKEYREJECTED we
 * refuse who that is; -EACCES it refuses us; -EPROTO it does not speak as we do; -ECONNRESET it ended. */
MUST_CHECK int tls_handshake(struct tls *t);
/* How many bytes of @data were taken: less than @len, also 0, when the wire has to be taken first. -errno as above. */
MUST_CHECK ssize_t tls_send(struct tls *t, const void *data, size_t len);
/* 1.. bytes; 0 the other side has ended the stream, and said so; -EAGAIN nothing is there; -ECONNRESET the wire ended
 * without that: bytes may be missing; -EBADMSG what came was changed on its way; or as above. */
MUST_CHECK ssize_t tls_receive(struct tls *t, void *out, size_t room);
/* The next byte that is sent is under the next key, whether the last has had its bytes or not. */
void tls_key_renew(struct tls *t);
/* Says that no more will be sent. */
void tls_end(struct tls *t);

/* The node whose key was proved, or what the certificate of a client calls it; "" before. */
const char *tls_node(const struct tls *t);
const char *tls_why(const struct tls *t);
/* How often our sending key was replaced. */
uint64_t tls_key_updates(const struct tls *t);

#endif
