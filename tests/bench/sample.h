/* SPDX-License-Identifier: Apache-2.0 */
/* One measurement, as every program here makes it: a load runs for some seconds, each operation's latency is
 * kept, and one line of numbers is printed for scripts/bench, which makes the table:
 *
 *	WHAT DEPTH OPERATIONS/S P50_US P99_US
 */
#ifndef HOLDFAST_SAMPLE_H
#define HOLDFAST_SAMPLE_H

#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bytes.h"

enum { SAMPLE_LATENCIES_MAX = 8 << 20 };	/* 400,000 operations a second for 20 s; more are counted only */

struct sample {
	uint64_t begun_ns, ended_ns, deadline_ns;
	uint64_t count;			/* operations, all of them */
	uint32_t *latencies_ns;		/* of the first SAMPLE_LATENCIES_MAX; UINT32_MAX = 4.3 s or more */
};

static inline uint64_t sample_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* splitmix64: the next of a sequence of random numbers. */
static inline uint64_t sample_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline void sample_begin(struct sample *s, double seconds)
{
	if (!s->latencies_ns)	/* touched by use only: untouched memory costs nothing */
		s->latencies_ns = malloc(SAMPLE_LATENCIES_MAX * sizeof *s->latencies_ns);
	if (!s->latencies_ns)
		errx(1, "no memory for a sample");
	s->count = 0;
	s->begun_ns = s->ended_ns = sample_now_ns();
	s->deadline_ns = s->begun_ns + (uint64_t)(seconds * 1e9);
}

/* An operation that began at @begun_ns is done. True when another one shall begin. */
static inline bool sample_add(struct sample *s, uint64_t begun_ns)
{
	s->ended_ns = sample_now_ns();
	if (s->count < SAMPLE_LATENCIES_MAX)
		s->latencies_ns[s->count] = (uint32_t)min_u64(s->ended_ns - begun_ns, UINT32_MAX);
	s->count++;
	return s->ended_ns < s->deadline_ns;
}

static inline int sample_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The line. The clock stopped with the last operation, so that those in flight at the deadline count too. */
static inline void sample_print(struct sample *s, const char *what, unsigned depth)
{
	uint64_t kept = min_u64(s->count, SAMPLE_LATENCIES_MAX);

	if (kept == 0)
		errx(1, "%s at depth %u: no operation was done", what, depth);
	qsort(s->latencies_ns, kept, sizeof *s->latencies_ns, sample_compare);
	printf("%s %u %.1f %.2f %.2f\n", what, depth,
	       (double)s->count * 1e9 / (double)(s->ended_ns - s->begun_ns),
	       s->latencies_ns[kept / 2] / 1e3, s->latencies_ns[kept * 99 / 100] / 1e3);
	fflush(stdout);
}

#endif
