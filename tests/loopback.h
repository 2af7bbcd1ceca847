/* SPDX-License-Identifier: Apache-2.0 */
/* A struct io that is all memory, for tests of a server: one listening socket, connections that are two
 * queues of bytes, a clock that stands until it is moved. The test plays the clients. */
#ifndef HOLDFAST_TESTS_LOOPBACK_H
#define HOLDFAST_TESTS_LOOPBACK_H

#include <stdbool.h>

#include "io.h"

enum { LOOPBACK_SOCKETS = 24, LOOPBACK_OPS = 256 };

struct loopback_queue { uint8_t *bytes; size_t taken, len, allotted; };	/* bytes[taken..len) are there */

struct loopback_socket {
	bool open, accepted, client_closed, server_closed;
	bool deaf;			/* the client does not read: sends of the server do not complete */
	struct loopback_queue to_server, to_client;
};

struct loopback {
	struct io io;
	uint64_t now, seed;
	uint64_t recv_max;		/* 0: as much as fits; else at most that; UINT64_MAX: random */
	struct loopback_socket sockets[LOOPBACK_SOCKETS];	/* socket ids are 1.., 0 is the listening one */
	bool listening;
	int accept_error;		/* what the next accept fails with, once */
	struct io_op *ops[LOOPBACK_OPS];
	size_t op_count, allocations, allocations_fail_at;	/* fail_at: 0 = never */
};

void loopback_init(struct loopback *l, uint64_t seed);
/* CHECKs that all memory was given back and no op is in flight. */
void loopback_end(struct loopback *l);

/* A new client; the server sees it when the loop runs. Returns its socket. */
int loopback_dial(struct loopback *l);
void loopback_put(struct loopback *l, int socket, const void *bytes, size_t len);
/* No more bytes from this client, and none to it. */
void loopback_hang_up(struct loopback *l, int socket);
/* Forget what the client has received. */
void loopback_received_clear(struct loopback *l, int socket);
/* Free the socket for a next dial; both sides have closed it. */
void loopback_forget(struct loopback *l, int socket);

/* Completes one op that can be; false when there is none. */
bool loopback_step(struct loopback *l);
/* Moves the clock; timers that are over complete in later steps. */
void loopback_sleep(struct loopback *l, uint64_t ns);
uint64_t loopback_random(struct loopback *l);

#endif
