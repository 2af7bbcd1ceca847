/* SPDX-License-Identifier: Apache-2.0 */
/* Who a node is to its peers: an Ed25519 key of its own, and a certificate that it signed for itself, in the replica's
 * state directory. Nobody vouches for the certificate: a peer knows the key's fingerprint, or refuses. The
 * certificate's subject is CN = the node's name, and its alternative name is urn:uuid:UUID of the volume.
 *
 *	identity.crt	the certificate, PEM
 *	identity.key	the key, PKCS #8 in PEM, mode 0600; written last: without it there is no identity
 */
#ifndef HOLDFAST_IDENTITY_H
#define HOLDFAST_IDENTITY_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"
#include "check.h"

enum {
	IDENTITY_FILE_MAX = 4096,	/* an Ed25519 key and its certificate need less than 1 KiB each */
	FINGERPRINT_TEXT_BYTES = 72,	/* "sha256:", 64 hex digits and the 0 */
	FINGERPRINT_SHORT_BYTES = 20,	/* "XXXX-XXXX-XXXX-XXXX" and the 0 */
};

struct identity;

/* Makes key and certificate in @directory, which is made, mode 0700, when it is not there; both synced. Atomic: after a
 * crash there is a whole identity or none. -EEXIST when there is one already, which is left as it is; other -errno.
 * @why is one sentence. */
MUST_CHECK int identity_create(const char *directory, const char *node, const uint8_t uuid[UUID_BYTES],
			       char why[WHY_BYTES]);
/* Removes what identity_create() has made. */
void identity_remove(const char *directory);

/* Reads them. *out is the caller's until identity_free(). @why is one sentence, and none of it is of the key.
 * @uuid NULL: an authority has signed the certificate, and of which volume it is, is for the peers to say.
 * -ENOENT there is none; -EPERM others could read the key or change one of the files; -EBADMSG not what
 * identity_create() makes, or the key is not the certificate's; -EINVAL of another node or volume; other -errno. */
MUST_CHECK int identity_load(struct identity **out, const char *directory, const char *node,
			     const uint8_t *uuid, char why[WHY_BYTES]);
/* The same of files that were read, of any content: the part of it that a fuzzer calls. @path is for messages. */
MUST_CHECK int identity_parse(struct identity **out, const void *key, size_t key_len, const void *certificate,
			      size_t certificate_len, const char *path, char why[WHY_BYTES]);
/* Overwrites the key first. NULL is fine. */
void identity_free(struct identity *identity);

/* OpenSSL's own objects (EVP_PKEY, X509), the identity's. */
struct evp_pkey_st *identity_key(const struct identity *identity);
struct x509_st *identity_certificate(const struct identity *identity);
void identity_fingerprint(const struct identity *identity, uint8_t out[FINGERPRINT_BYTES]);

/* SHA-256 of the certificate's public key (its SubjectPublicKeyInfo, DER). -EBADMSG. */
MUST_CHECK int fingerprint_of(const struct x509_st *certificate, uint8_t out[FINGERPRINT_BYTES]);
/* The node's name that a certificate, of anybody, gives: its one CN. -EBADMSG when it is no name. */
MUST_CHECK int certificate_node(const struct x509_st *certificate, char out[NAME_BYTES]);

/* For configs: "sha256:" and 64 hex digits. */
void fingerprint_text(const uint8_t fingerprint[FINGERPRINT_BYTES], char out[FINGERPRINT_TEXT_BYTES]);
/* To be compared by voice: its first 80 bits, four groups of four from 0-9 and A-Z without I L O U. */
void fingerprint_short(const uint8_t fingerprint[FINGERPRINT_BYTES], char out[FINGERPRINT_SHORT_BYTES]);
/* What fingerprint_text() wrote, hex digits in either case. -EINVAL. */
MUST_CHECK int fingerprint_parse(const char *text, uint8_t out[FINGERPRINT_BYTES]);

#endif
