/* SPDX-License-Identifier: Apache-2.0 */
/* Who is right, by histories alone: every row of the table, and that both sides come to answers that fit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "run.h"
#include "sim/world.h"

struct epoch { uint64_t number, start; char branch; };

static struct epoch_entry entry_of(struct epoch e)
{
	struct epoch_entry out = { .number = to_le64(e.number), .start = to_le64(e.start), .node = "a" };

	snprintf((char *)out.uuid, sizeof out.uuid, "%c%llu", e.branch, (unsigned long long)e.number);
	return out;
}

/* Up to 4 epochs; number 0 ends the list. */
static void history_fill(struct history *h, const struct epoch epochs[4])
{
	h->count = 0;
	for (unsigned i = 0; i < 4 && epochs[i].number; i++) {
		struct epoch_entry e = entry_of(epochs[i]);

		history_add(h, &e);
	}
}

struct row {
	const char *name;
	struct epoch ours[4];
	uint64_t our_end;
	struct epoch theirs[4];
	uint64_t their_end;
	bool other_hash;
	enum history_verdict verdict;
	uint64_t fork;
};

#define E(number, start) { number, start, 'x' }
#define F(number, start) { number, start, 'y' }
static const struct row rows[] = {
	{ "two new replicas", { { 0 } }, 0, { { 0 } }, 0, false, HISTORY_EQUAL, 0 },
	{ "same", { E(1, 0), E(2, 800) }, 900, { E(1, 0), E(2, 800) }, 900, false, HISTORY_EQUAL, 900 },
	{ "same but for the bytes", { E(1, 0) }, 900, { E(1, 0) }, 900, true, HISTORY_DAMAGED, 900 },
	{ "longer log", { E(1, 0) }, 900, { E(1, 0) }, 800, false, HISTORY_AHEAD, 800 },
	{ "shorter log", { E(1, 0) }, 800, { E(1, 0) }, 900, true, HISTORY_BEHIND, 800 },
	{ "a new replica", { E(1, 0) }, 800, { { 0 } }, 0, false, HISTORY_AHEAD, 0 },
	{ "prefix, ends below the fork",
	  { E(1, 0), E(2, 800) },
	  1000,
	  { E(1, 0) },
	  700,
	  false,
	  HISTORY_AHEAD,
	  700 },
	{ "prefix, ends at the fork", { E(1, 0), E(2, 800) }, 1000, { E(1, 0) }, 800, false, HISTORY_AHEAD, 800 },
	{ "prefix, ends past the fork",
	  { E(1, 0), E(2, 800) },
	  1000,
	  { E(1, 0) },
	  808,
	  false,
	  HISTORY_REWIND_PEER,
	  800 },
	{ "prefix, past it and longer than ours",
	  { E(1, 0), E(2, 800) },
	  1000,
	  { E(1, 0) },
	  5000,
	  false,
	  HISTORY_REWIND_PEER,
	  800 },
	{ "prefix, two epochs behind",
	  { E(1, 0), E(2, 800), E(5, 900) },
	  1000,
	  { E(1, 0) },
	  850,
	  false,
	  HISTORY_REWIND_PEER,
	  800 },
	{ "ours the prefix, below", { E(1, 0) }, 700, { E(1, 0), E(2, 800) }, 1000, false, HISTORY_BEHIND, 700 },
	{ "ours the prefix, at", { E(1, 0) }, 800, { E(1, 0), E(2, 800) }, 1000, false, HISTORY_BEHIND, 800 },
	{ "ours the prefix, past",
	  { E(1, 0) },
	  808,
	  { E(1, 0), E(2, 800) },
	  1000,
	  false,
	  HISTORY_REWIND_SELF,
	  800 },
	{ "split brain, same number",
	  { E(1, 0), E(2, 800) },
	  900,
	  { E(1, 0), F(2, 800) },
	  900,
	  false,
	  HISTORY_SPLIT_BRAIN,
	  800 },
	{ "split brain, other numbers",
	  { E(1, 0), E(2, 800) },
	  900,
	  { E(1, 0), F(3, 800) },
	  2000,
	  false,
	  HISTORY_SPLIT_BRAIN,
	  800 },
	{ "split brain, our fork lower",
	  { E(1, 0), E(2, 800) },
	  900,
	  { E(1, 0), F(3, 850) },
	  2000,
	  false,
	  HISTORY_SPLIT_BRAIN,
	  800 },
	{ "split brain, their fork lower",
	  { E(1, 0), E(2, 800) },
	  900,
	  { E(1, 0), F(3, 600) },
	  2000,
	  false,
	  HISTORY_SPLIT_BRAIN,
	  600 },
	{ "split brain from the first epoch on",
	  { E(1, 0) },
	  900,
	  { F(1, 0) },
	  900,
	  false,
	  HISTORY_SPLIT_BRAIN,
	  0 },
	{ "trimmed, and the rest is common",
	  { E(2, 800), E(3, 900) },
	  1000,
	  { E(1, 0), E(2, 800), E(3, 900) },
	  1000,
	  false,
	  HISTORY_EQUAL,
	  1000 },
	{ "trimmed, they lack our last",
	  { E(2, 800), E(3, 900) },
	  1000,
	  { E(1, 0), E(2, 800) },
	  900,
	  false,
	  HISTORY_AHEAD,
	  900 },
	{ "trimmed, and split",
	  { E(2, 800), E(3, 900) },
	  1000,
	  { E(1, 0), E(2, 800), F(4, 850) },
	  900,
	  false,
	  HISTORY_SPLIT_BRAIN,
	  850 },
	{ "both trimmed, nothing common",
	  { E(2, 800), E(3, 900) },
	  1000,
	  { F(4, 850), F(5, 860) },
	  900,
	  false,
	  HISTORY_UNRELATED,
	  0 },
	{ "one trimmed, nothing common", { E(2, 800) }, 1000, { E(1, 0) }, 900, false, HISTORY_UNRELATED, 0 },
	{ "trimmed, and a new replica", { E(2, 800) }, 1000, { { 0 } }, 0, false, HISTORY_UNRELATED, 0 },
};

static const enum history_verdict mirrored[] = {
	[HISTORY_EQUAL] = HISTORY_EQUAL, [HISTORY_AHEAD] = HISTORY_BEHIND, [HISTORY_BEHIND] = HISTORY_AHEAD,
	[HISTORY_REWIND_PEER] = HISTORY_REWIND_SELF, [HISTORY_REWIND_SELF] = HISTORY_REWIND_PEER,
	[HISTORY_SPLIT_BRAIN] = HISTORY_SPLIT_BRAIN, [HISTORY_UNRELATED] = HISTORY_UNRELATED,
	[HISTORY_DAMAGED] = HISTORY_DAMAGED,
};

static struct history ours, theirs;

static void assert_meeting(const char *name, const struct position *our_end, const struct position *their_end,
			   enum history_verdict verdict, uint64_t fork)
{
	struct history_meeting here = history_compare(&ours, our_end, &theirs, their_end);
	struct history_meeting there = history_compare(&theirs, their_end, &ours, our_end);

	if (here.verdict != verdict || here.fork != fork)
		fail_msg("%s: %s at %llu, not %s at %llu", name, history_verdict_name(here.verdict),
			 (unsigned long long)here.fork, history_verdict_name(verdict), (unsigned long long)fork);
	if (there.verdict != mirrored[verdict] || there.fork != fork)
		fail_msg("%s: the other side says %s at %llu", name, history_verdict_name(there.verdict),
			 (unsigned long long)there.fork);
}

static void history_compare_gives_each_row_of_the_table_and_its_mirror(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct row *row = &rows[i];
		struct position our_end = { .lsn = row->our_end }, their_end = { .lsn = row->their_end };

		their_end.hash[3] = row->other_hash;
		history_fill(&ours, row->ours);
		history_fill(&theirs, row->theirs);
		assert_meeting(row->name, &our_end, &their_end, row->verdict, row->fork);
	}
}

/* Grows one history by chance, forks it, trims either; what must come out follows from how it was made. */
static void history_compare_of_histories_made_by_chance_is_what_was_made_and_fits_both_ways(void **state)
{
	struct world *w = world_new(test_seed_first(3));

	(void)state;
	for (unsigned run = 0; run < 20000; run++) {
		unsigned common = (unsigned)world_random_below(w, 6), ahead[2];
		uint64_t number = 0, lsn = 0, fork[2] = { UINT64_MAX, UINT64_MAX };
		struct history *both[2] = { &ours, &theirs };
		struct position end[2] = { { 0 } };
		enum history_verdict verdict;

		ours.count = theirs.count = 0;
		for (unsigned i = 0; i < common; i++) {
			struct epoch_entry e = entry_of((struct epoch){ ++number, lsn, 'c' });

			history_add(&ours, &e);
			history_add(&theirs, &e);
			lsn += 512 * (1 + world_random_below(w, 4));
			number += world_random_below(w, 3);
		}
		for (unsigned side = 0; side < 2; side++) {
			uint64_t at = common ? lsn - 256 + 256 * world_random_below(w, 3) : 0, n = number;

			ahead[side] = (unsigned)world_random_below(w, 3);
			end[side].lsn = at;
			for (unsigned i = 0; i < ahead[side]; i++) {
				struct epoch_entry e = entry_of((struct epoch){ ++n, at, side ? 't' : 'o' });

				fork[side] = min_u64(fork[side], at);
				history_add(both[side], &e);
				at += 512 * (1 + world_random_below(w, 4));
				end[side].lsn = at;
				n += world_random_below(w, 3);
			}
		}
		if (ahead[0] && ahead[1])
			verdict = HISTORY_SPLIT_BRAIN;
		else if (ahead[0])
			verdict = end[1].lsn <= fork[0] ? HISTORY_AHEAD : HISTORY_REWIND_PEER;
		else if (ahead[1])
			verdict = end[0].lsn <= fork[1] ? HISTORY_BEHIND : HISTORY_REWIND_SELF;
		else
			verdict = end[0].lsn > end[1].lsn ? HISTORY_AHEAD : end[0].lsn < end[1].lsn ? HISTORY_BEHIND
											    : HISTORY_EQUAL;
		/* What was trimmed away changes nothing as long as one epoch is common. */
		for (unsigned side = 0; side < 2 && common; side++) {
			unsigned gone = (unsigned)world_random_below(w, common);

			memmove(&both[side]->epochs[0], &both[side]->epochs[gone],
				(both[side]->count - gone) * sizeof both[side]->epochs[0]);
			both[side]->count -= gone;
		}
		assert_true(history_check(&ours) && history_check(&theirs));
		assert_meeting("by chance", &end[0], &end[1], verdict,
			       min_u64(min_u64(fork[0], fork[1]), min_u64(end[0].lsn, end[1].lsn)));
	}
	world_free(w);
}

static void history_compare_of_any_two_lists_answers_and_fits_both_ways(void **state)
{
	struct world *w = world_new(test_seed_first(4));

	(void)state;
	for (unsigned run = 0; run < 50000; run++) {
		struct history *both[2] = { &ours, &theirs };
		struct position end[2] = { { .lsn = 8 * world_random_below(w, 20) },
					   { .lsn = 8 * world_random_below(w, 20) } };
		struct history_meeting here, there;

		for (unsigned side = 0; side < 2; side++) {
			uint64_t number = 0, start = 8 * world_random_below(w, 2);

			both[side]->count = 0;
			for (uint64_t n = world_random_below(w, 5); n; n--) {
				struct epoch_entry e;

				number += 1 + world_random_below(w, 2);
				e = entry_of((struct epoch){ number, start, world_random_below(w, 3) ? 'x' : 'y' });
				history_add(both[side], &e);
				start += 8 * (1 + world_random_below(w, 4));
			}
		}
		here = history_compare(&ours, &end[0], &theirs, &end[1]);
		there = history_compare(&theirs, &end[1], &ours, &end[0]);
		assert_int_equal(there.verdict, mirrored[here.verdict]);
		assert_int_equal(there.fork, here.fork);
	}
	world_free(w);
}

static void history_check_refuses_what_is_not_in_order(void **state)
{
	const struct epoch epochs[4] = { E(1, 0), E(2, 800), E(4, 900) };

	(void)state;
	history_fill(&ours, epochs);
	assert_true(history_check(&ours));
	ours.epochs[1].number = to_le64(1);
	assert_false(history_check(&ours));
	ours.epochs[1].number = to_le64(4);
	assert_false(history_check(&ours));
	history_fill(&ours, epochs);
	ours.epochs[0].number = to_le64(0);
	assert_false(history_check(&ours));
	history_fill(&ours, epochs);
	ours.epochs[2].start = to_le64(800);
	assert_false(history_check(&ours));
	history_fill(&ours, epochs);
	ours.epochs[2].node[0] = 0;
	assert_false(history_check(&ours));
	memset(ours.epochs[2].node, 'n', NAME_BYTES);
	assert_false(history_check(&ours));
	history_fill(&ours, epochs);
	ours.count = HISTORY_MAX + 1;
	assert_false(history_check(&ours));
	ours.count = 0;
	assert_true(history_check(&ours));
}

static void history_truncate_forgets_epochs_at_and_above_the_end(void **state)
{
	const struct epoch epochs[4] = { E(1, 0), E(2, 800), E(4, 900) };
	static const struct { uint64_t end; uint32_t count; } ends[] = {
		{ 901, 3 }, { 900, 2 }, { 801, 2 }, { 800, 1 }, { 1, 1 }, { 0, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		history_fill(&ours, epochs);
		history_truncate(&ours, ends[i].end);
		assert_int_equal(ours.count, ends[i].count);
	}
	assert_null(history_last(&ours));
	assert_int_equal(history_last_number(&ours), 0);
}

static void history_follows_only_a_higher_number_at_the_very_position(void **state)
{
	const struct epoch epochs[4] = { E(1, 0), E(5, 800) };
	const struct position at = { .lsn = 900, .hash = { 4, 5 } };
	struct epoch_entry good = entry_of((struct epoch){ 6, 900, 'x' }), bad;

	(void)state;
	history_fill(&ours, epochs);
	memcpy(good.hash, at.hash, HASH_BYTES);
	assert_true(history_follows(&ours, &good, &at));
	bad = good;
	bad.number = to_le64(5);
	assert_false(history_follows(&ours, &bad, &at));
	bad = good;
	bad.start = to_le64(908);
	assert_false(history_follows(&ours, &bad, &at));
	bad = good;
	bad.hash[15] ^= 1;
	assert_false(history_follows(&ours, &bad, &at));
	bad = good;
	bad.node[0] = 0;
	assert_false(history_follows(&ours, &bad, &at));
	memset(bad.node, 'n', NAME_BYTES);
	assert_false(history_follows(&ours, &bad, &at));
}

static void history_that_is_full_gives_up_its_oldest_epoch(void **state)
{
	(void)state;
	ours.count = 0;
	for (uint64_t i = 0; i < HISTORY_MAX + 3; i++) {
		struct epoch_entry e = entry_of((struct epoch){ i + 1, i * 512, 'x' });

		history_add(&ours, &e);
	}
	assert_int_equal(ours.count, HISTORY_MAX);
	assert_int_equal(from_le64(ours.epochs[0].number), 4);
	assert_int_equal(history_last_number(&ours), HISTORY_MAX + 3);
	assert_true(history_check(&ours));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(history_compare_gives_each_row_of_the_table_and_its_mirror),
	cmocka_unit_test(history_compare_of_histories_made_by_chance_is_what_was_made_and_fits_both_ways),
	cmocka_unit_test(history_compare_of_any_two_lists_answers_and_fits_both_ways),
	cmocka_unit_test(history_check_refuses_what_is_not_in_order),
	cmocka_unit_test(history_truncate_forgets_epochs_at_and_above_the_end),
	cmocka_unit_test(history_follows_only_a_higher_number_at_the_very_position),
	cmocka_unit_test(history_that_is_full_gives_up_its_oldest_epoch),
};
TEST_GROUP(history, tests)
