/* SPDX-License-Identifier: Apache-2.0 */
/* The acknowledgement policy in words: what a config may ask for, how it reads, for whom writes wait. The rules
 * themselves are in ack.c. */
#include <errno.h>

#include "volume_private.h"

/* As snprintf() behind the @used bytes that @out has already; what does not fit is cut off. */
__attribute__((format(printf, 3, 4)))
static size_t add(char out[WHY_BYTES], size_t used, const char *format, ...)
{
	va_list args;
	int more;

	if (used >= WHY_BYTES)
		return used;
	va_start(args, format);
	more = vsnprintf(out + used, WHY_BYTES - used, format, args);
	va_end(args);
	return used + (size_t)more;
}

void commit_text(const struct volume_config *config, char out[WHY_BYTES])
{
	const char *between = "";
	size_t used;

	/* PEERS_MAX names take less than WHY_BYTES. */
	_Static_assert(PEERS_MAX * (NAME_BYTES + 2) + 32 < WHY_BYTES, "the text is always whole");
	if (config->commit != COMMIT_ANY) {
		snprintf(out, WHY_BYTES, "%s", config->commit == COMMIT_ALL ? "all" : "local");
		return;
	}
	used = add(out, 0, "any %u of (", config->commit_copies);
	for (unsigned i = 0; i < config->peer_count; i++) {
		if (!config->peers[i].commit)
			continue;
		used = add(out, used, "%s%s", between, config->peers[i].name);
		between = ", ";
	}
	add(out, used, ")");
}

int commit_check(const struct volume_config *config, char why[WHY_BYTES])
{
	unsigned named = 0;
	char text[WHY_BYTES];

	commit_text(config, text);
	if (config->commit != COMMIT_ALL && config->min_copies > 1) {
		snprintf(why, WHY_BYTES,
			 "min-copies is %u, but commit = %.300s says already how many copies a write waits for; "
			 "min-copies goes with commit = all", config->min_copies, text);
		return -EINVAL;
	}
	if (config->commit != COMMIT_ANY)
		return 0;
	for (unsigned i = 0; i < config->peer_count; i++) {
		const struct volume_peer_config *p = &config->peers[i];

		named += p->commit;
		if (p->commit && p->mode == MODE_A) {
			snprintf(why, WHY_BYTES,
				 "commit = %.250s names %s, but no write waits for a peer in mode A; give it mode B, C "
				 "or D, or take it out of the list", text, p->name);
			return -EINVAL;
		}
	}
	if (config->commit_copies < 1 || config->commit_copies > named) {
		snprintf(why, WHY_BYTES, "commit = %.300s: with %u named, the number is from 1 to %u", text, named,
			 named);
		return -EINVAL;
	}
	return 0;
}

void volume_commit_waits(const struct volume *v, char out[WHY_BYTES])
{
	struct ack_policy policy = volume_ack_policy(v);
	struct ack_peer peers[PEERS_MAX];
	unsigned count = volume_ack_peers(v, peers);
	int blocker = ack_blocker(v->log.closed.lsn, peers, count, &policy);
	char text[WHY_BYTES];
	size_t used;

	*out = 0;
	if (blocker >= 0)
		snprintf(out, WHY_BYTES, "node %s", v->peers[blocker].config->name);
	if (blocker != ACK_TOO_FEW)
		return;
	commit_text(&v->config, text);
	if (policy.commit == COMMIT_ANY)
		used = add(out, 0, "commit = %s:", text);
	else
		used = add(out, 0, "min-copies = %u:", policy.min_copies);
	for (unsigned i = 0; i < count; i++) {
		const struct peer *p = &v->peers[i];
		bool asked = policy.commit == COMMIT_ANY ? peers[i].named && !ack_has(&peers[i], v->log.closed.lsn)
							  : p->state != PEER_ONLINE;

		if (asked)
			used = add(out, used, " node %s (%s)", p->config->name, peer_state_text(p->state));
	}
}

bool volume_commit_goes_on_without(const struct volume *v, const struct peer *p)
{
	struct ack_policy policy = volume_ack_policy(v);
	struct ack_peer peers[PEERS_MAX];
	unsigned count = volume_ack_peers(v, peers);

	peers[p - v->peers].online = peers[p - v->peers].connected = false;
	return v->role == ROLE_PRIMARY && ack_marks(1, 1, peers, count, &policy).complete;
}
