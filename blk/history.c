/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include <string.h>

const char *history_verdict_name(enum history_verdict verdict)
{
	static const char *const names[HISTORY_VERDICTS] = {
		[HISTORY_EQUAL] = "equal", [HISTORY_AHEAD] = "ahead", [HISTORY_BEHIND] = "behind",
		[HISTORY_REWIND_PEER] = "the peer needs a rewind", [HISTORY_REWIND_SELF] = "needs a rewind",
		[HISTORY_SPLIT_BRAIN] = "split brain", [HISTORY_UNRELATED] = "unrelated",
		[HISTORY_DAMAGED] = "damaged",
	};

	return names[verdict];
}

bool history_check(const struct history *h)
{
	if (h->count > HISTORY_MAX)
		return false;
	for (uint32_t i = 0; i < h->count; i++) {
		const struct epoch_entry *e = &h->epochs[i];

		if (from_le64(e->number) == 0 || from_le64(e->number) >= EPOCH_NUMBER_MAX || e->node[0] == 0 ||
		    memchr(e->node, 0, NAME_BYTES) == NULL)
			return false;
		if (i > 0 && (from_le64(e->number) <= from_le64(e[-1].number) ||
			      from_le64(e->start) <= from_le64(e[-1].start)))
			return false;
	}
	return true;
}

const struct epoch_entry *history_last(const struct history *h)
{
	return h->count ? &h->epochs[h->count - 1] : NULL;
}

uint64_t history_last_number(const struct history *h)
{
	return h->count ? from_le64(history_last(h)->number) : 0;
}

void history_add(struct history *h, const struct epoch_entry *epoch)
{
	CHECK(from_le64(epoch->number) > history_last_number(h));
	if (h->count == HISTORY_MAX) {
		memmove(&h->epochs[0], &h->epochs[1], (HISTORY_MAX - 1) * sizeof h->epochs[0]);
		h->count--;
	}
	h->epochs[h->count++] = *epoch;
}

void history_truncate(struct history *h, uint64_t end)
{
	while (h->count && from_le64(history_last(h)->start) >= end)
		h->count--;
}

bool history_follows(const struct history *h, const struct epoch_entry *epoch, const struct position *at)
{
	return from_le64(epoch->number) > history_last_number(h) && from_le64(epoch->number) < EPOCH_NUMBER_MAX &&
	       from_le64(epoch->start) == at->lsn &&
	       memcmp(epoch->hash, at->hash, HASH_BYTES) == 0 && epoch->node[0] != 0 &&
	       memchr(epoch->node, 0, NAME_BYTES) != NULL;
}

static bool same_epoch(const struct epoch_entry *a, const struct epoch_entry *b)
{
	return memcmp(a->uuid, b->uuid, UUID_BYTES) == 0;
}

/* The first record of a volume is its first epoch's: a history that starts at LSN 0 was never trimmed. */
static bool reaches_back(const struct history *h)
{
	return h->count == 0 || from_le64(h->epochs[0].start) == 0;
}

/* How far two histories agree: *ours_at and *theirs_at index the first entries that differ. False when they
 * have nothing in common. Before any epoch all replicas of a volume are the same, so histories that reach
 * back to LSN 0 always have that in common; a trimmed one must share an epoch. */
static bool common_prefix(const struct history *ours, const struct history *theirs,
			  uint32_t *ours_at, uint32_t *theirs_at)
{
	uint32_t i = 0, j = 0;

	while (i < ours->count && j < theirs->count && !same_epoch(&ours->epochs[i], &theirs->epochs[j])) {
		if (from_le64(ours->epochs[i].number) < from_le64(theirs->epochs[j].number))
			i++;
		else if (from_le64(ours->epochs[i].number) > from_le64(theirs->epochs[j].number))
			j++;
		else
			break;
	}
	if (i == ours->count || j == theirs->count || !same_epoch(&ours->epochs[i], &theirs->epochs[j])) {
		*ours_at = *theirs_at = 0;
		return reaches_back(ours) && reaches_back(theirs);
	}
	while (i < ours->count && j < theirs->count && same_epoch(&ours->epochs[i], &theirs->epochs[j])) {
		i++;
		j++;
	}
	*ours_at = i;
	*theirs_at = j;
	return true;
}

static struct history_meeting meeting(enum history_verdict verdict, uint64_t fork, const uint8_t hash[HASH_BYTES])
{
	struct history_meeting m = { .verdict = verdict, .fork = fork };

	memcpy(m.hash, hash, HASH_BYTES);
	return m;
}

static struct history_meeting at_epoch(enum history_verdict verdict, const struct epoch_entry *fork)
{
	return meeting(verdict, from_le64(fork->start), fork->hash);
}

static struct history_meeting meet_same(const struct position *our_end, const struct position *their_end)
{
	if (our_end->lsn > their_end->lsn)
		return meeting(HISTORY_AHEAD, their_end->lsn, their_end->hash);
	if (our_end->lsn < their_end->lsn)
		return meeting(HISTORY_BEHIND, our_end->lsn, our_end->hash);
	if (memcmp(our_end->hash, their_end->hash, HASH_BYTES) != 0)
		return meeting(HISTORY_DAMAGED, our_end->lsn, our_end->hash);
	return meeting(HISTORY_EQUAL, our_end->lsn, our_end->hash);
}

struct history_meeting history_compare(const struct history *ours, const struct position *our_end,
				       const struct history *theirs, const struct position *their_end)
{
	const struct epoch_entry *our_fork, *their_fork;
	uint32_t i, j;

	if (!common_prefix(ours, theirs, &i, &j))
		return (struct history_meeting){ .verdict = HISTORY_UNRELATED };
	if (i == ours->count && j == theirs->count)
		return meet_same(our_end, their_end);
	our_fork = i < ours->count ? &ours->epochs[i] : NULL;
	their_fork = j < theirs->count ? &theirs->epochs[j] : NULL;
	if (our_fork && their_fork)
		return at_epoch(HISTORY_SPLIT_BRAIN,
				from_le64(our_fork->start) < from_le64(their_fork->start) ? our_fork : their_fork);
	if (our_fork)
		return their_end->lsn <= from_le64(our_fork->start)
			       ? meeting(HISTORY_AHEAD, their_end->lsn, their_end->hash)
			       : at_epoch(HISTORY_REWIND_PEER, our_fork);
	return our_end->lsn <= from_le64(their_fork->start) ? meeting(HISTORY_BEHIND, our_end->lsn, our_end->hash)
							    : at_epoch(HISTORY_REWIND_SELF, their_fork);
}
