/* SPDX-License-Identifier: Apache-2.0 */
#include "resync.h"

enum { MEASURE_NS = 500000000 };

void resync_progress_start(struct resync_progress *g, uint64_t now, uint64_t total)
{
	*g = (struct resync_progress){ .total = total, .left = total, .since_ns = now, .since_left = total };
}

void resync_progress_note(struct resync_progress *g, uint64_t now, uint64_t left)
{
	uint64_t ns = now - g->since_ns, rate = 0;

	g->left = left;
	if (ns < MEASURE_NS)
		return;
	if (g->since_left > left)
		rate = (uint64_t)((double)(g->since_left - left) * 1e9 / (double)ns);
	g->rate = g->rate ? (7 * g->rate + 3 * rate) / 10 : rate;
	g->since_ns = now;
	g->since_left = left;
}

void resync_progress_status(const struct resync_progress *g, uint64_t moved, struct volume_resync_status *out)
{
	uint64_t total = max_u64(g->total, g->left);

	*out = (struct volume_resync_status){
		.running = true, .bytes_total = total, .bytes_done = total - g->left, .bytes_sent = moved,
		.rate = g->rate, .eta_ns = g->rate ? (uint64_t)((double)g->left * 1e9 / (double)g->rate) : UINT64_MAX,
	};
}
