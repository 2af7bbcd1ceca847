/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that lead a cluster step by step: options, a started cluster, single requests. */
#ifndef HOLDFAST_TESTS_DIRECTED_H
#define HOLDFAST_TESTS_DIRECTED_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "sim/cluster_inside.h"

static inline struct cluster_options options_of(unsigned nodes, enum replication_mode mode)
{
	return (struct cluster_options){
		.seed = test_seed_first(1), .nodes = nodes, .mode = mode, .min_copies = 1, .journal_block = 4096,
		.segment_bytes = 256 << 10, .volume_bytes = 1 << 20, .journal_bytes = 4 << 20,
	};
}

static inline struct cluster *start(const struct cluster_options *options)
{
	struct cluster *c = cluster_new(options);

	for (unsigned i = 0; i < options->nodes; i++)
		cluster_up(c, i);
	cluster_run_for(c, 2 * SECONDS);
	assert_int_equal(cluster_call(c, 0, CLUSTER_PROMOTE, false, 0, 10 * SECONDS), 0);
	cluster_run_for(c, 2 * SECONDS);
	return c;
}

static inline struct peer *peer_of(struct cluster *c, unsigned node, unsigned other)
{
	struct volume *v = cluster_volume(c, node);

	for (unsigned i = 0; i < v->peer_count; i++)
		if (v->peers[i].config->name[0] == (char)('a' + other))
			return &v->peers[i];
	return NULL;
}

/* ---- requests of our own ---- */

struct asked { struct volume_request request; uint8_t *buffer; int result; bool done; };

static inline void asked_done(struct volume_request *request, int result)
{
	struct asked *a = container_of(request, struct asked, request);

	a->result = result;
	a->done = true;
}

/* @byte of 256 and more: the bytes of a record's header, over and over. */
static inline struct asked *ask(struct cluster *c, unsigned node, enum volume_op op, uint64_t offset, uint64_t len,
			 int byte, unsigned flags)
{
	static const uint8_t header[8] = { 'H', 'L', 'F', 'R', 1, 0, 2, 0 };
	struct asked *a = calloc(1, sizeof *a);

	a->buffer = aligned_alloc(4096, round_up(len, 4096) + 8192);
	memset(a->buffer, byte, len);
	for (uint64_t i = 0; byte > 255 && i < len; i += 8)
		memcpy(a->buffer + i, header, 8);
	a->request = (struct volume_request){ .op = op, .flags = flags, .offset = offset, .len = len,
					      .buffer = a->buffer, .done = asked_done };
	volume_submit(cluster_volume(c, node), &a->request);
	return a;
}

static inline bool wait_for(struct cluster *c, const bool *done, uint64_t limit)
{
	uint64_t until = world_now(cluster_world(c)) + limit;

	while (!*done && world_now(cluster_world(c)) < until)
		if (!cluster_step(c))
			break;
	return *done;
}

static inline void asked_free(struct asked *a)
{
	free(a->buffer);
	free(a);
}

static inline void write_now(struct cluster *c, unsigned node, uint64_t offset, uint64_t len, int byte)
{
	struct asked *a = ask(c, node, VOLUME_WRITE, offset, len, byte, 0);

	assert_true(wait_for(c, &a->done, 60 * SECONDS));
	assert_int_equal(a->result, 0);
	asked_free(a);
}

static inline void closed(struct volume_call *call, int result)
{
	(void)call;
	(void)result;
}

/* ---- bounded, for ever ---- */


#endif
