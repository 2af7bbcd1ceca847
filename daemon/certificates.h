/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that an authority (CA) has signed, from files: for who has one, and for clients that can check nothing
 * else. PEM, each file at most CERTIFICATES_FILE_MAX bytes. */
#ifndef HOLDFAST_CERTIFICATES_H
#define HOLDFAST_CERTIFICATES_H

#include "bounds.h"
#include "check.h"

enum {
	CERTIFICATES_FILE_MAX = 64 << 10,
	CERTIFICATES_CHAIN_MAX = 8,	/* of ours, with what is between it and the authority */
};

struct x509_st;
struct x509_store_st;
struct evp_pkey_st;

/* A server's, as qemu and libnbd lay them out:
 *	DIRECTORY/ca-cert.pem		who signs the certificates of clients
 *	DIRECTORY/server-cert.pem	ours, then what is between it and the authority
 *	DIRECTORY/server-key.pem	its key, not encrypted, which others may not read
 */
struct certificates {
	struct evp_pkey_st *key;
	struct x509_st *chain[CERTIFICATES_CHAIN_MAX];	/* ours first */
	unsigned chain_count;
	struct x509_store_st *authority;
};

/* *out is the caller's until certificates_free(). @why is one sentence, and none of it is of the key. -ENOENT;
 * -EPERM others could read the key; -EBADMSG not such a file, or the key is not the certificate's; other -errno. */
MUST_CHECK int certificates_load(struct certificates **out, const char *directory, char why[WHY_BYTES]);
/* NULL is fine. */
void certificates_free(struct certificates *certificates);

/* The authority alone. *out is the caller's until authority_free(); errors as above. */
MUST_CHECK int authority_load(struct x509_store_st **out, const char *path, char why[WHY_BYTES]);
void authority_free(struct x509_store_st *authority);

#endif
