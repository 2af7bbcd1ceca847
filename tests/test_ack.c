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
	assert_marks(ack_marks(WRITTEN, DURABLE, NULL, 0, 1), WRITTEN, DURABLE, DURABLE);
	assert_marks(ack_marks(WRITTEN, DURABLE, NULL, 0, 0), WRITTEN, DURABLE, DURABLE);
	for (unsigned i = 0; i < 4; i++) {
		struct ack_peer p = peer_of(rows[i].mode);

		assert_marks(ack_marks(WRITTEN, DURABLE, &p, 1, 1), rows[i].complete, rows[i].flushed, rows[i].commit);
		/* Our own marks bound all of them. */
		assert_marks(ack_marks(300, 200, &p, 1, 1), 300, 200, 200);
		/* Applied before it is durable: a flush in mode D waits for both. */
		p.applied = 550;
		assert_int_equal(ack_marks(WRITTEN, DURABLE, &p, 1, 1).flushed,
				 rows[i].mode == MODE_D ? 500 : rows[i].flushed);
	}
}

static void ack_does_not_wait_for_a_peer_that_is_not_online(void **state)
{
	(void)state;
	for (enum replication_mode mode = MODE_A; mode <= MODE_D; mode++) {
		struct ack_peer p = peer_of(mode);

		p.online = false;
		assert_marks(ack_marks(WRITTEN, DURABLE, &p, 1, 1), WRITTEN, DURABLE, DURABLE);
		assert_int_equal(ack_blocker(WRITTEN, &p, 1, 1), -2);
	}
}

static void ack_waits_for_the_slowest_of_those_that_are_online(void **state)
{
	struct ack_peer peers[3] = { peer_of(MODE_C), peer_of(MODE_B), peer_of(MODE_A) };

	(void)state;
	peers[1].received = 450;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 1), 450, 450, 450);
	peers[1].online = false;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 1), 600, 500, 500);
}

static void ack_with_min_copies_waits_for_so_many_copies_whatever_the_mode(void **state)
{
	struct ack_peer peers[3] = { peer_of(MODE_A), peer_of(MODE_A), peer_of(MODE_A) };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		peers[i].written = 600 + 10 * i;
		peers[i].durable = 500 + 10 * i;
	}
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 1), WRITTEN, DURABLE, DURABLE);
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 2), 620, 520, 520);
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 3), 610, 510, 510);
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 4), 600, 500, 500);
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 5), 0, 0, 0);
	/* One that catches up is connected: its copy counts. */
	peers[2].online = false;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 2), 620, 520, 520);
	peers[2].connected = false;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 3, 2), 610, 510, 510);
}

static void ack_with_too_few_copies_never_moves(void **state)
{
	struct ack_peer peers[2] = { peer_of(MODE_A), peer_of(MODE_C) };

	(void)state;
	assert_marks(ack_marks(WRITTEN, DURABLE, NULL, 0, 2), 0, 0, 0);
	peers[0].connected = peers[1].connected = peers[0].online = peers[1].online = false;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 2, 2), 0, 0, 0);
	assert_int_equal(ack_blocker(WRITTEN, peers, 2, 2), -1);
	peers[0].connected = true;
	assert_marks(ack_marks(WRITTEN, DURABLE, peers, 2, 3), 0, 0, 0);
	assert_int_equal(ack_blocker(WRITTEN, peers, 2, 3), -1);
}

static void ack_blocker_names_who_is_behind(void **state)
{
	struct ack_peer peers[3] = { peer_of(MODE_A), peer_of(MODE_B), peer_of(MODE_C) };

	(void)state;
	assert_int_equal(ack_blocker(500, peers, 3, 1), -2);
	assert_int_equal(ack_blocker(501, peers, 3, 1), 2);	/* it has 500 durable */
	assert_int_equal(ack_blocker(701, peers, 3, 1), 1);
	assert_int_equal(ack_blocker(500, peers, 3, 4), -2);
	peers[0].durable = 100;
	assert_int_equal(ack_blocker(500, peers, 3, 3), -2);
	assert_int_equal(ack_blocker(500, peers, 3, 4), -1);
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
		marks = ack_marks(15, 10, peers, count, copies);
		assert_true(marks.complete <= 15 && marks.flushed <= 10 && marks.commit <= 10);
		qsort(written, connected, sizeof written[0], falling);
		qsort(durable, connected, sizeof durable[0], falling);
		if (copies > 1 && copies - 1 > connected)
			assert_marks(marks, 0, 0, 0);
		else if (copies > 1)
			assert_true(marks.complete <= written[copies - 2] && marks.flushed <= durable[copies - 2]);
		/* Nobody blocks exactly what is acknowledged both ways. */
		if (copies < 2)
			assert_int_equal(ack_blocker(min_u64(marks.complete, marks.flushed), peers, count, copies), -2);
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
};
TEST_GROUP(ack, tests)
