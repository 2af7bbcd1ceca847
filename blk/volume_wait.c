/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting until readers see what was written: here, or at a peer that takes our log. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

static bool is_here(const struct volume *v, const struct volume_call *call)
{
	return !call->node[0] || strcmp(call->node, v->geometry.node) == 0;
}

/* 0: not yet. 1: it is seen. Or why it will never be known. */
static int look(struct volume *v, struct volume_call *call)
{
	struct peer *p = is_here(v, call) ? NULL : peer_by_name(v, call->node);

	if (is_here(v, call))
		return volume_visible(v) >= call->lsn;
	if (!p) {
		snprintf(call->why, WHY_BYTES, "no node is named %s; see: holdfast peer %s list", call->node,
			 v->config.name);
		return -ENOENT;
	}
	if (v->role != ROLE_PRIMARY) {
		snprintf(call->why, WHY_BYTES, "this node is not the primary, to which node %s tells what its readers "
			 "see; ask there, or on node %s", call->node, call->node);
		return -EPERM;
	}
	/* What it said on an earlier connection it may have shown, died, and show anew only later. */
	return p->sourcing && p->applied >= call->lsn;
}

static void say_late(struct volume *v, struct volume_call *call)
{
	const struct peer *p = is_here(v, call) ? NULL : peer_by_name(v, call->node);
	unsigned long long seen = p ? p->applied : volume_visible(v);
	double seconds = (double)call->timeout_ns / 1e9;

	if (p && !p->sourcing)
		snprintf(call->why, WHY_BYTES, "node %s is not known to show the log up to LSN %llu after %.1f s: it "
			 "is %s; see: holdfast status %s", call->node, (unsigned long long)call->lsn, seconds,
			 peer_state_text(p->state), v->config.name);
	else
		snprintf(call->why, WHY_BYTES, "node %s shows the log up to LSN %llu, not to %llu, after %.1f s; see: "
			 "holdfast status %s", p ? call->node : v->geometry.node, seen, (unsigned long long)call->lsn,
			 seconds, v->config.name);
}

static void wait_step(struct volume *v, struct volume_call *call, uint64_t now)
{
	int result = look(v, call);

	if (result == 0 && v->state != VOLUME_OPEN) {
		snprintf(call->why, WHY_BYTES, "volume is stopping; start it again with `holdfast up`");
		result = -ESHUTDOWN;
	} else if (result == 0 && now >= call->deadline_ns) {
		say_late(v, call);
		result = -ETIMEDOUT;
	}
	if (result == 0)
		return;
	list_remove(&call->link);
	volume_call_answer(v, call, result < 0 ? result : 0);
}

void volume_wait_step(struct volume *v)
{
	uint64_t now = volume_now(v);

	for (struct list *link = v->waits.next, *next; link != &v->waits; link = next) {
		next = link->next;
		wait_step(v, list_entry(link, struct volume_call, link), now);
	}
}

void volume_wait(struct volume *v, struct volume_call *call)
{
	uint64_t now = volume_now(v);

	call->why[0] = 0;
	call->deadline_ns = now + call->timeout_ns;
	list_append(&v->waits, &call->link);
	wait_step(v, call, now);
}
