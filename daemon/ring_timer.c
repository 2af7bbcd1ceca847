/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: a binary heap in user space, so that a timer costs no system call; the loop waits for the earliest.
 * Each op knows its place in the heap, so that cancel() finds it. */
#include "ring_parts.h"

static bool timer_before(struct io_op *a, struct io_op *b)
{
	const struct ring_op *x = ring_op(a), *y = ring_op(b);

	if (x->deadline_ns != y->deadline_ns)
		return x->deadline_ns < y->deadline_ns;
	return x->timer_sequence < y->timer_sequence;
}

static void timer_put(struct ring *ring, uint32_t index, struct io_op *op)
{
	ring->timers[index] = op;
	ring_op(op)->timer = index;
}

/* Moves @op, whose place is @index, up or down to where it belongs. */
static void timer_settle(struct ring *ring, uint32_t index, struct io_op *op)
{
	while (index > 0 && timer_before(op, ring->timers[(index - 1) / 2])) {
		timer_put(ring, index, ring->timers[(index - 1) / 2]);
		index = (index - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * index + 1;

		if (child + 1 < ring->timer_count && timer_before(ring->timers[child + 1], ring->timers[child]))
			child++;
		if (child >= ring->timer_count || !timer_before(ring->timers[child], op))
			break;
		timer_put(ring, index, ring->timers[child]);
		index = child;
	}
	timer_put(ring, index, op);
}

void ring_timer_add(struct ring *ring, struct io_op *op)
{
	struct ring_op *at = ring_op(op);
	uint64_t now_ns = ring->io.now_ns(&ring->io);

	CHECK(ring->timer_count < RING_TIMERS_MAX);
	at->stage = OP_TIMER;
	at->deadline_ns = op->offset > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + op->offset;
	at->timer_sequence = ring->timer_sequence++;
	timer_settle(ring, ring->timer_count++, op);
}

void ring_timer_remove(struct ring *ring, struct io_op *op)
{
	uint32_t index = ring_op(op)->timer;
	struct io_op *last = ring->timers[--ring->timer_count];

	CHECK(index <= ring->timer_count);
	if (last != op)
		timer_settle(ring, index, last);
}

struct io_op *ring_timer_expire(struct ring *ring, uint64_t now_ns)
{
	struct io_op *op = ring->timer_count ? ring->timers[0] : NULL;

	if (!op || ring_op(op)->deadline_ns > now_ns)
		return NULL;
	ring_timer_remove(ring, op);
	return op;
}
