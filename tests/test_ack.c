/* SPDX-License-Identifier: Apache-2.0 */
/* When a write, a flush and the commit LSN may move: every mode, every policy. */
#include <stdlib.h>

#include "ack.h"
#include "bytes.h"
#include "run.h"
#include "sim/world.h"

enum { WRITTEN = 900, DURABLE = 800 };

/* A peer in full contact whose four watermarks differ. */
static struct ack_peer peer_of(enum replication_mode mode)
{
	return (struct ack_peer){ .mode = mode, .online = true, .connected = true, .received = 700, .written = 600,
				  .durable = 500, .applied = 400 };
}

static struct ack_marks marks_all(uint64_t written, uint64_t durable, const struct ack_peer *peers, unsigned count,
				  unsigned min_copies)
{
	return ack_marks(written, durable, peers, count, &(struct ack_policy){ COMMIT_ALL, 0, min_copies });
}

static int blocker_all(uint64_t lsn, const struct ack_peer *peers, unsigned count, unsigned min_copies)
{
	return ack_blocker(lsn, peers, count, &(struct ack_policy){ COMMIT_ALL, 0, min_copies });
}

static void assert_marks(struct ack_marks marks, uint64_t complete, uint64_t flushed, uint64_t commit)
{
	assert_int_equal(marks.complete, complete);
	assert_int_equal(marks.flushed, flushed);
	assert_int_equal(marks.commit, commit);
}

static void ack_waits_for_the_watermarks_of_its_mode(void **state)
{
	static const struct { enum replication_mode mode; uint64_t complete, flushed, commit; } rows[] = {
		{ MODE_A, WRITTEN, DURABLE, DURABLE },
		{ MODE_B, 700, 700, 700 },
		{ MODE_C, 600, 500, 500 },
		{ MODE_D, 400, 400, 500 },
	};

	(void)state;
	assert_marks(marks_all(WRITTEN, DURABLE, NULL, 0, 1), WRITTEN, DURABLE, DURABLE);
	assert_marks(marks_all(WRITTEN, DURABLE, NULL, 0, 0), WRITTEN, DURABLE, DURABLE);
	for (unsigned i = 0; i < 4; i++) {
		struct ack_peer p = peer_of(rows[i].mode);

		assert_marks(marks_all(WRITTEN, DURABLE, &p, 1, 1), rows[i].complete, rows[i].flushed, rows[i].commit);
		/* Our own marks bound all of them. */
		assert_marks(marks_all(300, 200, &p, 1, 1), 300, 200, 200);
		/* Applied before it is durable: a flush in mode D waits for both. */
		p.applied = 550;
		assert_int_equal(marks_all(WRITTEN, DURABLE, &p, 1, 1).flushed,
				 rows[i].mode == MODE_D ? 500 : rows[i].flushed);
	}
}

static void ack_does_not_wait_for_a_peer_that_is_not_online(void **state)
{
	(void)state;
	for (enum replication_mode mode = MODE_A; mode <= MODE_D; mode++) {
		struct ack_peer p = peer_of(mode);

		p.online = false;
		assert_marks(marks_all(WRITTEN, DURABLE, &p, 1, 1), WRITTEN, DURABLE, DURABLE);
		assert_int_equal(blocker_all(WRITTEN, &p, 1, 1), -2);
	}
}

static void ack_waits_for_the_slowest_of_those_that_are_online(void **state)
{
	struct ack_peer peers[3] = { peer_of(MODE_C), peer_of(MODE_B), peer_of(MODE_A) };

	(void)state;
	peers[1].received = 450;
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 1), 450, 450, 450);
	peers[1].online = false;
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 1), 600, 500, 500);
}

static void ack_with_min_copies_waits_for_so_many_copies_whatever_the_mode(void **state)
{
	struct ack_peer peers[3] = { peer_of(MODE_A), peer_of(MODE_A), peer_of(MODE_A) };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		peers[i].written = 600 + 10 * i;
		peers[i].durable = 500 + 10 * i;
	}
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 1), WRITTEN, DURABLE, DURABLE);
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 2), 620, 520, 520);
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 3), 610, 510, 510);
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 4), 600, 500, 500);
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 5), 0, 0, 0);
	/* One that catches up is connected: its copy counts. */
	peers[2].online = false;
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 2), 620, 520, 520);
	peers[2].connected = false;
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 3, 2), 610, 510, 510);
}

static void ack_with_too_few_copies_never_moves(void **state)
{
	struct ack_peer peers[2] = { peer_of(MODE_A), peer_of(MODE_C) };

	(void)state;
	assert_marks(marks_all(WRITTEN, DURABLE, NULL, 0, 2), 0, 0, 0);
	peers[0].connected = peers[1].connected = peers[0].online = peers[1].online = false;
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 2, 2), 0, 0, 0);
	assert_int_equal(blocker_all(WRITTEN, peers, 2, 2), -1);
	peers[0].connected = true;
	assert_marks(marks_all(WRITTEN, DURABLE, peers, 2, 3), 0, 0, 0);
	assert_int_equal(blocker_all(WRITTEN, peers, 2, 3), -1);
}

static void ack_blocker_names_who_is_behind(void **state)
{
	struct ack_peer peers[3] = { peer_of(MODE_A), peer_of(MODE_B), peer_of(MODE_C) };

	(void)state;
	assert_int_equal(blocker_all(500, peers, 3, 1), -2);
	assert_int_equal(blocker_all(501, peers, 3, 1), 2);	/* it has 500 durable */
	assert_int_equal(blocker_all(701, peers, 3, 1), 1);
	assert_int_equal(blocker_all(500, peers, 3, 4), -2);
	peers[0].durable = 100;
	assert_int_equal(blocker_all(500, peers, 3, 3), -2);
	assert_int_equal(blocker_all(500, peers, 3, 4), -1);
}

/* The k-th largest by sorting, against the function. */
static int falling(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x > y ? -1 : x < y;
}

static void ack_marks_of_any_peers_never_pass_what_the_policy_asks(void **state)
{
	struct world *w = world_new(test_seed_first(5));

	(void)state;
	for (unsigned run = 0; run < 20000; run++) {
		struct ack_peer peers[PEERS_MAX];
		unsigned count = (unsigned)world_random_below(w, PEERS_MAX + 1),
			 copies = (unsigned)world_random_below(w, 9);
		uint64_t written[PEERS_MAX], durable[PEERS_MAX], connected = 0;
		struct ack_marks marks;

		for (unsigned i = 0; i < count; i++) {
			struct ack_peer *p = &peers[i];

			p->mode = (enum replication_mode)world_random_below(w, 4);
			p->received = world_random_below(w, 20);
			p->written = world_random_below(w, p->received + 1);
			p->durable = world_random_below(w, p->written + 1);
			p->applied = world_random_below(w, p->received + 1);
			p->connected = world_random_below(w, 3);
			p->online = p->connected && world_random_below(w, 2);
			written[connected] = p->written;
			durable[connected] = p->durable;
			connected += p->connected;
		}
		marks = marks_all(15, 10, peers, count, copies);
		assert_true(marks.complete <= 15 && marks.flushed <= 10 && marks.commit <= 10);
		qsort(written, connected, sizeof written[0], falling);
		qsort(durable, connected, sizeof durable[0], falling);
		if (copies > 1 && copies - 1 > connected)
			assert_marks(marks, 0, 0, 0);
		else if (copies > 1)
			assert_true(marks.complete <= written[copies - 2] && marks.flushed <= durable[copies - 2]);
		/* Nobody blocks exactly what is acknowledged both ways. */
		if (copies < 2)
			assert_int_equal(blocker_all(min_u64(marks.complete, marks.flushed), peers, count, copies), -2);
	}
	world_free(w);
}

/* ---- any K of the named, local ---- */

static const struct ack_policy any_1 = { COMMIT_ANY, 1, 1 }, any_2 = { COMMIT_ANY, 2, 1 }, any_3 = { COMMIT_ANY, 3, 1 },
			       local = { COMMIT_LOCAL, 0, 1 };

static struct ack_peer named(enum replication_mode mode, uint64_t received, uint64_t written, uint64_t durable,
			     uint64_t applied)
{
	return (struct ack_peer){ mode, true, true, received, written, durable, applied, true };
}

static void ack_any_of_waits_for_the_kth_fastest_of_the_named_as_its_mode_says(void **state)
{
	struct ack_peer peers[4] = { named(MODE_B, 700, 690, 310, 10), named(MODE_C, 670, 600, 500, 20),
				     named(MODE_D, 660, 650, 550, 400), named(MODE_C, 1, 1, 1, 1) };

	(void)state;
	peers[3].named = false;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 4, &any_1), 700, 700, 550);
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 4, &any_2), 600, 500, 500);
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 4, &any_3), 400, 400, 310);
	assert_marks(ack_marks(300, 200, peers, 4, &any_1), 300, 200, 200);
	/* The peers alone say who holds a write up: never one by itself. */
	assert_int_equal(ack_blocker(700, peers, 4, &any_1), ACK_NO_BLOCKER);
	assert_int_equal(ack_blocker(701, peers, 4, &any_1), ACK_TOO_FEW);
	assert_int_equal(ack_blocker(500, peers, 4, &any_2), ACK_NO_BLOCKER);
	assert_int_equal(ack_blocker(501, peers, 4, &any_2), ACK_TOO_FEW);
}

static void ack_any_of_replaces_a_slow_peer_by_a_faster_one_without_a_pause(void **state)
{
	struct ack_peer peers[2] = { named(MODE_C, 500, 500, 500, 500), named(MODE_C, 400, 400, 400, 400) };

	(void)state;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 2, &any_1), 500, 500, 500);
	/* The first one stands still; the other one overtakes it. */
	for (uint64_t lsn = 410; lsn <= 800; lsn += 10) {
		uint64_t best = lsn > 500 ? lsn : 500;

		peers[1].received = peers[1].written = peers[1].durable = peers[1].applied = lsn;
		assert_marks(ack_marks(WRITTEN, DURABLE, peers, 2, &any_1), best, best, best);
	}
	/* That the slow one goes, and that it comes back, changes nothing. */
	peers[0].online = peers[0].connected = false;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 2, &any_1), 800, 800, 800);
	peers[0].connected = true;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 2, &any_1), 800, 800, 800);
	/* While it catches up it counts with what it has. */
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 2, &any_2), 500, 500, 500);
}

static void ack_any_of_with_fewer_connected_than_asked_never_moves(void **state)
{
	struct ack_peer peers[3] = { named(MODE_C, 500, 500, 500, 500), named(MODE_C, 400, 400, 400, 400),
				     named(MODE_C, 800, 800, 800, 800) };

	(void)state;
	peers[2].named = false;		/* it may be as good as it likes */
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, &any_3), 0, 0, 0);
	peers[1].connected = peers[1].online = false;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, &any_2), 0, 0, 0);
	assert_int_equal(ack_blocker(1, peers, 3, &any_2), ACK_TOO_FEW);
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, &any_1), 500, 500, 500);
	assert_marks(ack_marks(WRITTEN, DURABLE, NULL, 0, &any_1), 0, 0, 0);
}

static void ack_local_waits_for_nobody(void **state)
{
	struct ack_peer peers[4] = { peer_of(MODE_A), peer_of(MODE_B), peer_of(MODE_C), peer_of(MODE_D) };

	(void)state;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 4, &local), WRITTEN, DURABLE, DURABLE);
	assert_int_equal(ack_blocker(WRITTEN, peers, 4, &local), ACK_NO_BLOCKER);
	assert_true(ack_kept_up(peers, 4, &local) == UINT64_MAX);
	for (unsigned i = 0; i < 4; i++)
		assert_false(ack_counts(&peers[i], &local));
}

static void ack_only_those_that_writes_wait_for_have_to_keep_up(void **state)
{
	struct ack_peer peers[3] = { named(MODE_C, 9, 600, 9, 9), named(MODE_D, 9, 500, 9, 9),
				     named(MODE_A, 9, 400, 9, 9) };
	const struct ack_policy all = { COMMIT_ALL, 0, 1 };

	(void)state;
	assert_int_equal(ack_kept_up(peers, 3, &all), 500);
	peers[1].online = false;
	assert_int_equal(ack_kept_up(peers, 3, &all), 600);
	peers[0].online = false;
	assert_true(ack_kept_up(peers, 3, &all) == UINT64_MAX);
	peers[2].named = false;
	assert_int_equal(ack_kept_up(peers, 3, &any_1), 600);
	assert_int_equal(ack_kept_up(peers, 3, &any_2), 500);
	peers[0].connected = false;
	assert_int_equal(ack_kept_up(peers, 3, &any_1), 500);	/* it alone can let writes go on */
	peers[1].connected = false;
	assert_int_equal(ack_kept_up(peers, 3, &any_1), 600);	/* nobody can: what was last known */
	assert_true(ack_counts(&(struct ack_peer){ .named = true, .connected = true }, &any_1));
	assert_false(ack_counts(&(struct ack_peer){ .named = false, .connected = true, .online = true }, &any_1));
	assert_false(ack_counts(&peers[1], &any_1));
}

/* ---- against a model: of all sets of peers that would be enough, the best one's slowest member ---- */

enum mark_kind { COMPLETE, FLUSHED, COMMIT };

static uint64_t model_mark(const struct ack_peer *p, enum mark_kind kind, enum commit_policy commit)
{
	if (kind == COMMIT && commit == COMMIT_ANY)
		return p->durable;
	if (p->mode == MODE_A)
		return UINT64_MAX;
	if (p->mode == MODE_B)
		return p->received;
	if (kind == COMPLETE)
		return p->mode == MODE_C ? p->written : p->applied;
	return p->mode == MODE_D && kind == FLUSHED && p->applied < p->durable ? p->applied : p->durable;
}

static uint64_t model(const struct ack_peer *peers, unsigned count, const struct ack_policy *policy,
		      enum mark_kind kind)
{
	unsigned copies = policy->commit == COMMIT_ANY ? policy->copies : policy->min_copies - 1;
	uint64_t best = 0, all = UINT64_MAX;

	if (policy->commit == COMMIT_LOCAL)
		return UINT64_MAX;
	for (unsigned set = 0; set < 1u << count; set++) {
		uint64_t slowest = UINT64_MAX;
		bool eligible = (unsigned)__builtin_popcount(set) == copies;

		for (unsigned i = 0; i < count; i++) {
			const struct ack_peer *p = &peers[i];

			if (!(set & 1u << i))
				continue;
			eligible = eligible && p->connected && (policy->commit == COMMIT_ALL || p->named);
			if (policy->commit == COMMIT_ANY)
				slowest = min_u64(slowest, model_mark(p, kind, COMMIT_ANY));
			else
				slowest = min_u64(slowest, kind == COMPLETE ? p->written : p->durable);
		}
		if (eligible)
			best = max_u64(best, slowest);
	}
	for (unsigned i = 0; i < count && policy->commit == COMMIT_ALL; i++)
		if (peers[i].online)
			all = min_u64(all, model_mark(&peers[i], kind, COMMIT_ALL));
	return min_u64(best, all);
}

static struct ack_peer any_peer(struct world *w, enum commit_policy commit)
{
	struct ack_peer p = { .mode = (enum replication_mode)world_random_below(w, 4) };

	p.named = world_random_below(w, 4);
	if (p.named && commit == COMMIT_ANY && p.mode == MODE_A)
		p.mode = MODE_C;
	p.received = world_random_below(w, 20);
	p.written = world_random_below(w, p.received + 1);
	p.durable = world_random_below(w, p.written + 1);
	p.applied = world_random_below(w, p.received + 1);
	p.connected = world_random_below(w, 4);
	p.online = p.connected && world_random_below(w, 3);
	return p;
}

/* Something gets better: a watermark rises; of any K of the named, one comes back, or one more is named. */
static void rise(struct world *w, struct ack_peer *p, enum commit_policy commit)
{
	switch (world_random_below(w, commit == COMMIT_ANY && p->mode != MODE_A ? 6 : 4)) {
	case 0: p->received++; break;
	case 1: p->written++; break;
	case 2: p->durable++; break;
	case 3: p->applied++; break;
	case 4: p->connected = true; break;
	case 5: p->named = true; break;
	}
}

static void ack_marks_are_what_a_model_by_sets_says_and_only_rise(void **state)
{
	struct world *w = world_new(test_seed_first(17));

	(void)state;
	for (unsigned run = 0; run < 30000; run++) {
		struct ack_policy policy = { .commit = (enum commit_policy)world_random_below(w, 3),
					     .copies = 1 + (unsigned)world_random_below(w, 4),
					     .min_copies = 1 + (unsigned)world_random_below(w, 4) };
		unsigned count = (unsigned)world_random_below(w, PEERS_MAX + 1);
		uint64_t written = world_random_below(w, 22), durable = world_random_below(w, written + 1);
		struct ack_peer peers[PEERS_MAX];
		struct ack_marks last = { 0 };

		for (unsigned i = 0; i < count; i++)
			peers[i] = any_peer(w, policy.commit);
		for (unsigned step = 0; step < 6; step++) {
			struct ack_marks marks = ack_marks(written, durable, peers, count, &policy);
			uint64_t lsn = world_random_below(w, 22);
			uint64_t peers_have = min_u64(model(peers, count, &policy, COMPLETE),
						      model(peers, count, &policy, FLUSHED));

			assert_marks(marks, min_u64(written, model(peers, count, &policy, COMPLETE)),
				     min_u64(durable, model(peers, count, &policy, FLUSHED)),
				     min_u64(durable, model(peers, count, &policy, COMMIT)));
			assert_int_equal(ack_blocker(lsn, peers, count, &policy) == ACK_NO_BLOCKER, lsn <= peers_have);
			assert_true(marks.complete >= last.complete && marks.flushed >= last.flushed &&
				    marks.commit >= last.commit);
			last = marks;
			if (count)
				rise(w, &peers[world_random_below(w, count)], policy.commit);
			written += world_random_below(w, 2);
			durable += durable < written;
		}
	}
	world_free(w);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(ack_waits_for_the_watermarks_of_its_mode),
	cmocka_unit_test(ack_does_not_wait_for_a_peer_that_is_not_online),
	cmocka_unit_test(ack_waits_for_the_slowest_of_those_that_are_online),
	cmocka_unit_test(ack_with_min_copies_waits_for_so_many_copies_whatever_the_mode),
	cmocka_unit_test(ack_with_too_few_copies_never_moves),
	cmocka_unit_test(ack_blocker_names_who_is_behind),
	cmocka_unit_test(ack_marks_of_any_peers_never_pass_what_the_policy_asks),
	cmocka_unit_test(ack_any_of_waits_for_the_kth_fastest_of_the_named_as_its_mode_says),
	cmocka_unit_test(ack_any_of_replaces_a_slow_peer_by_a_faster_one_without_a_pause),
	cmocka_unit_test(ack_any_of_with_fewer_connected_than_asked_never_moves),
	cmocka_unit_test(ack_local_waits_for_nobody),
	cmocka_unit_test(ack_only_those_that_writes_wait_for_have_to_keep_up),
	cmocka_unit_test(ack_marks_are_what_a_model_by_sets_says_and_only_rise),
};
TEST_GROUP(ack, tests)
