/* SPDX-License-Identifier: Apache-2.0 */
/* The bitmap against a flat array of bytes; what a saved one is after loss of power at any moment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "sim/world_probe.h"

enum { OFFSET = 8192, BITS_MAX = 70000 };	/* three pages and a bit */

struct rig {
	struct world *world;
	struct machine *machine;
	struct bitmap bitmap;
	unsigned moved;
	int disk;
	uint64_t bits;
	bool model[BITS_MAX];
};

static void rig_moved(struct bitmap *b)
{
	container_of(b, struct rig, bitmap)->moved++;
}

static struct rig *rig_new(uint64_t seed, uint64_t bits)
{
	struct rig *r = calloc(1, sizeof *r);

	r->world = world_new(seed);
	r->machine = world_machine(r->world, "a");
	r->disk = machine_disk(r->machine, OFFSET + bitmap_bytes(bits));
	r->bits = bits;
	assert_int_equal(bitmap_new(&r->bitmap, machine_io(r->machine), r->disk, OFFSET, bits, rig_moved), 0);
	return r;
}

static void rig_free(struct rig *r)
{
	world_free(r->world);
	free(r);
}

static void rig_boot(struct rig *r)
{
	machine_boot(r->machine);
	assert_int_equal(bitmap_new(&r->bitmap, machine_io(r->machine), r->disk, OFFSET, r->bits, rig_moved), 0);
}

static bool rig_loading(void *context)
{
	struct rig *r = context;

	return !r->bitmap.loaded && !r->bitmap.failed;
}

static void rig_load(struct rig *r, bool damaged_set)
{
	bitmap_load(&r->bitmap, damaged_set);
	assert_true(world_run_while(r->world, rig_loading, r, 10 * SECONDS));
	assert_int_equal(r->bitmap.failed, 0);
}

/* Power off and on, and loaded. */
static void rig_reboot(struct rig *r, bool damaged_set)
{
	machine_crash(r->machine, true);
	world_run_for(r->world, MILLISECONDS);
	rig_boot(r);
	rig_load(r, damaged_set);
}

struct ticket { struct bitmap *bitmap; uint64_t ticket; };

static bool not_saved(void *context)
{
	struct ticket *t = context;

	return t->bitmap->saved < t->ticket && !t->bitmap->failed;
}

static bool rig_save(struct rig *r)
{
	struct ticket t = { &r->bitmap, bitmap_save(&r->bitmap) };

	return world_run_while(r->world, not_saved, &t, 10 * SECONDS);
}

/* Sets or clears a range, here and in the model; most are short, some long. */
static void rig_change(struct rig *r)
{
	struct world *w = r->world;
	uint64_t first = world_random_below(w, r->bits), left = r->bits - first;
	uint64_t count = world_random_below(w, min_u64(left, world_random_below(w, 8) ? 5 : left) + 1);
	bool set = world_random_below(w, 2);

	if (set)
		bitmap_set(&r->bitmap, first, count);
	else
		bitmap_clear(&r->bitmap, first, count);
	memset(r->model + first, set, count);
}

static uint64_t model_run(const bool *model, uint64_t from, uint64_t end, bool wanted)
{
	while (from < end && model[from] != wanted)
		from++;
	return from;
}

static void assert_bitmap_is(const struct bitmap *b, const bool *model)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < b->bits; i++) {
		if (bitmap_test(b, i) != model[i])
			fail_msg("bit %llu is %d", (unsigned long long)i, !model[i]);
		count += model[i];
	}
	assert_int_equal(b->count, count);
}

static void bitmap_is_an_array_of_bools(void **state)
{
	static const uint64_t sizes[] = { 1, 16, 63, 64, 65, 4031, 4032, 4033, 32256, 32257, BITS_MAX };
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(22); i++) {
		struct rig *r = rig_new(first + i, sizes[i % (sizeof sizes / sizeof sizes[0])]);
		const struct bitmap *b = &r->bitmap;

		for (unsigned change = 0; change < 400; change++) {
			uint64_t at = world_random_below(r->world, r->bits), end;

			rig_change(r);
			end = at + 1 + world_random_below(r->world, r->bits - at);
			assert_int_equal(bitmap_next(b, at), model_run(r->model, at, r->bits, true));
			assert_int_equal(bitmap_next_clear(b, at), model_run(r->model, at, r->bits, false));
			assert_int_equal(bitmap_run_end(b, at, end), model_run(r->model, at, end, !r->model[at]));
			if (change % 50 == 0)
				assert_bitmap_is(b, r->model);
		}
		assert_bitmap_is(b, r->model);
		assert_int_equal(bitmap_next(b, r->bits), r->bits);
		assert_int_equal(bitmap_next_clear(b, r->bits), r->bits);
		rig_free(r);
	}
}

static void bitmap_merged_has_the_bits_of_both(void **state)
{
	struct rig *r = rig_new(test_seed_first(3), 40000), *other = rig_new(test_seed_first(4), 40000);

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		rig_change(r);
		rig_change(other);
		bitmap_merge(&r->bitmap, &other->bitmap);
		for (uint64_t bit = 0; bit < r->bits; bit++)
			r->model[bit] |= other->model[bit];
		assert_bitmap_is(&r->bitmap, r->model);
	}
	rig_free(r);
	rig_free(other);
}

static void bitmap_saved_comes_back_after_power_loss(void **state)
{
	static const uint64_t sizes[] = { 16, 4032, 40000, BITS_MAX };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct rig *r = rig_new(test_seed_first(7) + i, sizes[i]);

		rig_load(r, true);	/* zeros were never written, and are no damage */
		assert_int_equal(r->bitmap.damaged + r->bitmap.count, 0);
		for (unsigned round = 0; round < 4; round++) {
			for (unsigned change = 0; change < 30; change++)
				rig_change(r);
			assert_true(rig_save(r));
			rig_reboot(r, true);
			assert_int_equal(r->bitmap.damaged, 0);
			assert_bitmap_is(&r->bitmap, r->model);
		}
		bitmap_delete(&r->bitmap);
		assert_int_equal(machine_memory(r->machine), 0);
		rig_free(r);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(bitmap_is_an_array_of_bools),
	cmocka_unit_test(bitmap_merged_has_the_bits_of_both),
	cmocka_unit_test(bitmap_saved_comes_back_after_power_loss),
};
TEST_GROUP(bitmap, tests)
