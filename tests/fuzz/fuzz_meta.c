/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as meta: the first half of the input begins one slot, the second half the other. What is loaded can
 * be saved and loaded again, and says the same. */
#include <string.h>

#include "journal.h"
#include "meta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t slots[META_BYTES];
static struct history history, again_history;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct geometry g = { .uuid = { 9, 8, 7, 6 }, .volume_bytes = 1 << 20, .journal_bytes = 256 << 10,
			      .segment_bytes = 64 << 10, .journal_block = 512, .node = "a" };
	struct meta m = { .geometry = &g, .history = &history }, again = { .geometry = &g, .history = &again_history };
	uint8_t header[JOURNAL_HEADER_BYTES] = { 0 };
	size_t half = size / 2;
	char why[WHY_BYTES] = "";

	if (half > META_SLOT_BYTES)
		return 0;
	memset(slots, 0, sizeof slots);
	memcpy(slots, data, half);
	memcpy(slots + META_SLOT_BYTES, data + half, half);
	memcpy(header, data, size < sizeof header ? size : sizeof header);
	if (journal_header_check((const void *)header, &g, why))
		CHECK(why[0] && memchr(why, 0, sizeof why));
	why[0] = 0;
	if (meta_load(&m, slots, why)) {
		CHECK(why[0] && memchr(why, 0, sizeof why));
		return 0;
	}
	CHECK(m.tail.lsn % g.journal_block == 0 && m.tail.lsn <= m.reach && history_check(&history));
	memset(slots, 0, sizeof slots);
	meta_encode(&m, m.generation, slots);
	CHECK(meta_load(&again, slots, why) == 0);
	CHECK(memcmp(&again.tail, &m.tail, sizeof m.tail) == 0 && again.reach == m.reach && again.commit == m.commit &&
	      again.promised == m.promised && again_history.count == history.count);
	return 0;
}
