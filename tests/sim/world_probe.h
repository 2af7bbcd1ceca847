/* SPDX-License-Identifier: Apache-2.0 */
/* An op for tests, that remembers what has become of it. */
#ifndef HOLDFAST_TESTS_WORLD_PROBE_H
#define HOLDFAST_TESTS_WORLD_PROBE_H

#include "run.h"
#include "world.h"

/* Zeroed before its first use; op.flags and op.address may be set beforehand. */
struct probe {
	struct io_op op;
	bool done;
	int64_t result;
	unsigned order;			/* among all done()s of this file */
};

static inline unsigned probe_order_next(void)
{
	static unsigned order;

	return ++order;
}

static inline void probe_done(struct io_op *op, int64_t result)
{
	struct probe *probe = container_of(op, struct probe, op);

	assert_false(probe->done);
	assert_false(op->in_flight);
	probe->done = true;
	probe->result = result;
	probe->order = probe_order_next();
}

static inline bool probe_busy(void *probe)
{
	return !((struct probe *)probe)->done;
}

static inline void probe_start(struct machine *m, struct probe *probe, enum io_kind kind, int file,
			       uint64_t offset, void *data, uint64_t len)
{
	unsigned flags = probe->op.flags;
	const char *address = probe->op.address;

	*probe = (struct probe){ .op = { .kind = kind, .file = file, .offset = offset, .data = data,
		.len = len, .flags = flags, .address = address, .done = probe_done } };
	machine_io(m)->submit(machine_io(m), &probe->op);
	assert_false(probe->done);
}

/* Submits it and waits for it. */
static inline int64_t probe_run(struct world *w, struct machine *m, enum io_kind kind, int file,
			     uint64_t offset, void *data, uint64_t len, unsigned flags)
{
	struct probe probe = { .op.flags = flags };

	probe_start(m, &probe, kind, file, offset, data, len);
	assert_true(world_run_while(w, probe_busy, &probe, 100 * SECONDS));
	return probe.result;
}

#endif
