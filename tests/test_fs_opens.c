/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what is open against an array of counts. */
#include "files_rig.h"

enum { INOS = 100000 };

static void fs_opens_agrees_with_an_array_to_its_last_slot(void **state)
{
	struct files_rig *r = files_rig_new(300, test_seed_first(1));
	struct opens *o = &r->f->opens;
	unsigned *count = calloc(INOS, sizeof *count);
	bool *marked = calloc(INOS, sizeof *marked);

	(void)state;
	for (unsigned turn = 0; turn < 600000; turn++) {
		uint64_t i = files_rig_draw(r, INOS), ino = i * (i % 3 ? 1 : 1ull << 33) + 1;

		assert_int_equal(opens_count(o, ino), count[i]);
		if (files_rig_draw(r, turn < 400000 ? 10 : 3) && (count[i] || opens_have_room(o))) {
			opens_add(o, ino);
			count[i]++;
		} else if (count[i] && files_rig_draw(r, 2)) {
			opens_mark(o, ino);
			marked[i] = true;
		} else if (count[i]) {
			assert_int_equal(opens_remove(o, ino), --count[i] == 0 && marked[i]);
			marked[i] &= count[i] > 0;
		}
	}
	assert_true(o->count > 50000);
	for (uint64_t i = 0; i < INOS; i++) {
		uint64_t ino = i * (i % 3 ? 1 : 1ull << 33) + 1;

		while (count[i]--)
			opens_remove(o, ino);
	}
	assert_int_equal(o->count, 0);
	free(count);
	free(marked);
	files_rig_free(r);
}

static const struct CMUnitTest tests[] = { cmocka_unit_test(fs_opens_agrees_with_an_array_to_its_last_slot) };
TEST_GROUP(fs_opens, tests)
