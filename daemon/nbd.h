/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD front end: serves one volume, as the export of its name and as the default export. */
#ifndef HOLDFAST_NBD_H
#define HOLDFAST_NBD_H

#include "volume.h"

struct nbd_server;

/* Allots CLIENTS_MAX connections' heads; buffers come from one budget of @memory_bytes (at least 64 MiB),
 * a full budget makes clients wait. *out is the caller's until nbd_server_free(). -ENOMEM. */
MUST_CHECK int nbd_server_new(struct nbd_server **out, struct io *io, struct volume *v,
			      const char *export_name, uint64_t memory_bytes);
/* Clients may ask for TLS, and must at addresses that other machines reach. @secure encrypts @socket from the next byte
 * on, each way; -errno. To be called before nbd_server_listen(). */
void nbd_server_offer_tls(struct nbd_server *server, int (*secure)(void *context, int socket), void *context);
/* "unix:PATH", "IPv4:PORT" or "[IPv6]:PORT"; may be called several times (at most 4). -EPERM for a
 * TCP address that is not loopback when there is no TLS, -EADDRINUSE, -EINVAL, other -errno. */
MUST_CHECK int nbd_server_listen(struct nbd_server *server, const char *address);
/* To be called after every change of role: clients of a demoted volume get errors for writes at once. */
void nbd_server_role_changed(struct nbd_server *server);
/* Connections in transmission that may write. */
unsigned nbd_server_writers(const struct nbd_server *server);
/* Ends listening and all connections; done(context) runs once, when no op and no request is in flight. */
void nbd_server_stop(struct nbd_server *server, void (*done)(void *context), void *context);
/* After stop is done. */
void nbd_server_free(struct nbd_server *server);

#endif
