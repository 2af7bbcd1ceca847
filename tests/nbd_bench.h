/* SPDX-License-Identifier: Apache-2.0 */
/* A bench for the NBD server: it serves a memory volume on a loopback, and the test plays the clients with
 * strings of bytes. Cookies of requests say how many bytes of data a good simple reply carries. */
#ifndef HOLDFAST_TESTS_NBD_BENCH_H
#define HOLDFAST_TESTS_NBD_BENCH_H

#include "loopback.h"
#include "memory_volume.h"
#include "run.h"

enum { VOLUME = 64 << 20, MIB = 1 << 20 };

struct bench {
	struct loopback loop;
	struct memory_volume volume;
	struct nbd_server *server;
	int client;			/* the socket that the helpers below speak for */
	bool structured, hold;		/* hold: the volume does not answer */
	size_t seen;			/* bytes of to_client that were looked at */
};

struct script { uint8_t *bytes; size_t len, allotted; };

struct reply { uint32_t number, error, data_len; const uint8_t *data; };

extern const char *const script_allocation[];	/* the one query that selects something */

void script_add(struct script *s, const void *bytes, size_t len);
void script_add32(struct script *s, uint32_t value);
void script_option(struct script *s, uint32_t code, const void *data, size_t len);
/* GO and INFO for export @name, asking for @count kinds of information: 0, 1, ... */
void script_go(struct script *s, uint32_t code, const char *name, unsigned count);
void script_meta(struct script *s, uint32_t code, const char *name, unsigned count, const char *const *queries);
void script_handshake(struct script *s, bool structured);
void script_request(struct script *s, unsigned command, unsigned flags, uint64_t offset, uint32_t len,
			uint32_t number);
uint8_t script_pattern(uint64_t offset, uint32_t number);
void script_write(struct script *s, unsigned flags, uint64_t offset, uint32_t len, uint32_t number);
/* Until nothing moves any more. */
void bench_run(struct bench *b);
void bench_begin_sized(struct bench *b, unsigned clients, uint64_t buffer_bytes);
void bench_begin(struct bench *b);
void bench_end(struct bench *b);
void bench_play(struct bench *b, struct script *s);
bool bench_is_cut_off(const struct bench *b);
/* The next @len bytes that the client received. */
const uint8_t *bench_next(struct bench *b, size_t len);
bool bench_nothing_more(const struct bench *b);
void bench_connect(struct bench *b, bool structured);
int bench_connect_another(struct bench *b, bool structured);
/* The next option reply; its data is at *data. */
uint32_t bench_option_reply(struct bench *b, uint32_t option, const uint8_t **data, uint32_t *len);
uint32_t bench_only_option_reply(struct bench *b, uint32_t option);
/* The next reply, whatever it is. */
struct reply bench_reply(struct bench *b);
/* One request, alone: its error. */
uint32_t bench_ask(struct bench *b, unsigned command, unsigned flags, uint64_t offset, uint32_t len);
/* The volume has what script_write() of @number put there. */
void bench_assert_written(const struct bench *b, uint64_t offset, uint32_t len, uint32_t number);
/* For nbd_server_stop(): @context is a bool. */
void bench_stop_done(void *context);

#endif
