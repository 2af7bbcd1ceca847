/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over from a primary that is dead: a promotion by force, after saying what may be lost. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

static void may_be_lost(struct volume *v, char why[WHY_BYTES])
{
	uint64_t now = volume_now(v), here = v->log.closed.lsn, known;
	const struct peer *last = NULL;

	if (resync_readable(v))
		here = from_le64(v->sink.slot->header.lsn);
	known = here;
	for (unsigned i = 0; i < v->peer_count; i++) {
		const struct peer *p = &v->peers[i];

		known = max_u64(known, p->end.lsn);
		if (p->heard_ns && p->role == ROLE_PRIMARY && (!last || p->heard_ns > last->heard_ns))
			last = p;
	}
	if (!last)
		snprintf(why, WHY_BYTES, "this node's log ends at LSN %llu; no primary was heard since this daemon "
			 "started, so what others acknowledged after that LSN is not known and would be lost",
			 (unsigned long long)here);
	else
		snprintf(why, WHY_BYTES,
			 "this node's log ends at LSN %llu; primary %s was last heard %.1f s ago and its log "
			 "ended at LSN %llu: %llu bytes known to be missing here, and whatever it acknowledged "
			 "since",
			 (unsigned long long)here, last->config->name,
			 (double)(now - last->heard_ns) / 1e9, (unsigned long long)known,
			 (unsigned long long)(known - here));
}

void volume_failover(struct volume *v, struct volume_call *call)
{
	char note[WHY_BYTES];
	int result = 0;

	call->why[0] = 0;
	if (v->role == ROLE_PRIMARY) {
		snprintf(call->why, WHY_BYTES, "this node is primary already");
		volume_call_answer(v, call, 0);
		return;
	}
	for (unsigned i = 0; i < v->peer_count && !result; i++) {
		if (!peer_connected(&v->peers[i]) || v->peers[i].role != ROLE_PRIMARY ||
		    v->peers[i].state == PEER_REFUSED)
			continue;
		snprintf(call->why, WHY_BYTES,
			 "primary %s is alive and connected; hand over with: holdfast switchover %s %s",
			 v->peers[i].config->name, v->config.name, v->geometry.node);
		result = -EBUSY;
	}
	may_be_lost(v, note);
	if (!result && !call->force && !call->dry_run) {
		snprintf(call->why, WHY_BYTES, "not without --force: %.440s", note);
		result = -EPERM;
	} else if (!result && call->dry_run) {
		snprintf(call->why, WHY_BYTES, "%s", note);
		volume_call_answer(v, call, 0);
		return;
	}
	if (!result)
		result = volume_promote_refusal(v, call, call->why);
	if (result) {
		volume_call_answer(v, call, result);
		return;
	}
	volume_promote_start(v, call, NULL);
	snprintf(v->change.note, sizeof v->change.note, "%s", note);
}
