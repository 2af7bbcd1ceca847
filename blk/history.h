/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs, and the one function that decides what two nodes do when they meet. No state, no time, no luck:
 * both sides call it with the arguments swapped and get answers that fit. */
#ifndef HOLDFAST_HISTORY_H
#define HOLDFAST_HISTORY_H

#include "record.h"

/* On disk (meta), on the wire (HELLO) and in the log (annotation of RECORD_EPOCH). */
struct epoch_entry {
	uint8_t uuid[UUID_BYTES];
	le64 number;			/* 1 for the first */
	le64 start;			/* LSN of its RECORD_EPOCH: all log below is of older epochs */
	uint8_t hash[HASH_BYTES];	/* running hash at start */
	le64 wall_ns;
	char node[NAME_BYTES];		/* who was primary; 0-filled behind the name */
};
_Static_assert(sizeof(struct epoch_entry) == 120, "size on disk");

/* Oldest first. When it is full the oldest entry goes. */
struct history {
	uint32_t count;
	struct epoch_entry epochs[HISTORY_MAX];
};

enum history_verdict {
	HISTORY_EQUAL,		/* same history, same position */
	HISTORY_AHEAD,		/* theirs is our past: we have log for them */
	HISTORY_BEHIND,		/* ours is their past: they have log for us */
	HISTORY_REWIND_PEER,	/* their log runs past where ours turned into a newer epoch */
	HISTORY_REWIND_SELF,	/* ours runs past theirs */
	HISTORY_SPLIT_BRAIN,	/* each has an epoch that the other lacks */
	HISTORY_UNRELATED,	/* nothing in common */
	HISTORY_DAMAGED,	/* same history and LSN, other bytes: a disk or a program lied */
	HISTORY_VERDICTS
};

struct history_meeting {
	enum history_verdict verdict;
	uint64_t fork;		/* LSN up to which both logs are the same, as far as histories tell */
	uint8_t hash[HASH_BYTES];	/* running hash there */
};

const char *history_verdict_name(enum history_verdict verdict);

/* Every entry in order: numbers and starts rise, names are terminated. For bytes from disk or wire. */
MUST_CHECK bool history_check(const struct history *h);
/* The last epoch, or NULL before the first promotion. */
const struct epoch_entry *history_last(const struct history *h);
uint64_t history_last_number(const struct history *h);
void history_add(struct history *h, const struct epoch_entry *epoch);
/* Forgets epochs that start at or above @end: their record is not in the log, so nothing was ever
 * acknowledged in them by us. */
void history_truncate(struct history *h, uint64_t end);
/* True when @epoch may follow @h at @at: its number is higher, its start and hash are @at. */
MUST_CHECK bool history_follows(const struct history *h, const struct epoch_entry *epoch,
				const struct position *at);

struct history_meeting history_compare(const struct history *ours, const struct position *our_end,
				       const struct history *theirs, const struct position *their_end);

#endif
