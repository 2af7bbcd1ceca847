/* SPDX-License-Identifier: Apache-2.0 */
/* Those who come and have not proved who they are. There are few places for them, and an address that fails again and
 * again waits: a crowd of them costs neither memory, nor the log, nor the peers their turn.
 *
 * The addresses of the config's peers come first and never wait: whoever shares one with a peer must not be able to
 * keep it out. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "links_parts.h"
#include "say.h"

/* Of "1.2.3.4:5" or "[2001:db8::1%eth0]:5": who is to be told from whom. False for what has no host. */
static bool host_of(const char *address, uint8_t out[16])
{
	const char *end = strrchr(address, ':');
	char host[ADDRESS_BYTES];
	bool v6 = address[0] == '[';

	memset(out, 0, 16);
	if (!end)
		return false;
	snprintf(host, sizeof host, "%.*s", (int)(end - address) - v6, address + v6);
	host[strcspn(host, "]%")] = '\0';
	if (v6) {
		if (inet_pton(AF_INET6, host, out) != 1)
			return false;
		memset(out + 8, 0, 8);		/* a host has all of its /64 */
		return true;
	}
	out[10] = out[11] = 0xff;
	return inet_pton(AF_INET, host, out + 12) == 1;
}

static bool address_is_a_peers(const struct links *s, const char *address)
{
	const struct volume_config *volume = s->config.volume;
	uint8_t host[16], theirs[16];

	if (s->config.server || !host_of(address, host))
		return false;
	for (unsigned i = 0; i < volume->peer_count; i++)
		if (host_of(volume->peers[i].address, theirs) && memcmp(host, theirs, 16) == 0)
			return true;
	return false;
}

/* ---- addresses that wait --------------------------------------------------------------------------- */

static struct links_address *address_find(struct links *s, const uint8_t host[16])
{
	for (struct links_address *a = s->addresses; a < s->addresses + LINK_ADDRESSES; a++)
		if (a->failures && memcmp(a->host, host, 16) == 0)
			return a;
	return NULL;
}

/* The one whose last failure is longest ago makes room. */
static struct links_address *address_add(struct links *s, const uint8_t host[16])
{
	struct links_address *oldest = s->addresses;

	for (struct links_address *a = s->addresses; a < s->addresses + LINK_ADDRESSES; a++)
		if (a->failed_ns < oldest->failed_ns)
			oldest = a;
	*oldest = (struct links_address){ 0 };
	memcpy(oldest->host, host, 16);
	return oldest;
}

/* How long whoever comes from there has to wait from now on, in ns. */
static uint64_t address_failed(struct links *s, const char *address)
{
	uint64_t now = s->inner->now_ns(s->inner), wait = LINK_WAIT_NS;
	struct links_address *a;
	uint8_t host[16];

	/* A host has many clients: one that is wrong must not keep the others out. */
	if (s->config.server || address_is_a_peers(s, address) || !host_of(address, host))
		return 0;
	a = address_find(s, host);
	if (!a)
		a = address_add(s, host);
	if (now - a->failed_ns > LINK_FORGET_NS)
		a->failures = 0;
	a->failures++;
	a->failed_ns = now;
	if (a->failures <= LINK_FAILURES_FREE)
		return 0;
	for (unsigned i = LINK_FAILURES_FREE + 1; i < a->failures && wait < LINK_WAIT_MAX_NS; i++)
		wait *= 2;
	a->until_ns = now + wait;
	return wait;
}

static bool address_waits(struct links *s, const char *address)
{
	struct links_address *a;
	uint8_t host[16];

	if (!host_of(address, host) || address_is_a_peers(s, address))
		return false;
	a = address_find(s, host);
	return a && s->inner->now_ns(s->inner) < a->until_ns;
}

void stranger_proved(const struct link *l)
{
	struct links_address *a;
	uint8_t host[16];

	if (!host_of(l->address, host))
		return;
	a = address_find(l->links, host);
	if (a)
		*a = (struct links_address){ 0 };
}

/* ---- what the operator is told --------------------------------------------------------------------- */

/* Whether one more line may be said now. What was left out before is told as a number. */
static bool line_allowed(struct links *s, bool wanted)
{
	uint64_t now = s->inner->now_ns(s->inner);

	if (now >= s->lines_until_ns) {
		if (s->lines_left_out)
			say(s->inner, IO_WARNING, "volume=%s %u more connections were refused meanwhile",
			    s->config.volume->name, s->lines_left_out);
		s->lines = s->lines_left_out = 0;
		s->lines_until_ns = now + LINK_LINES_NS;
	}
	if (!wanted || s->lines == LINK_LINES) {
		s->lines_left_out++;
		return false;
	}
	s->lines++;
	return true;
}

void stranger_refused(struct link *l, int error, const char *why)
{
	struct links *s = l->links;
	/* That others came after it is no fault of its. */
	uint64_t wait = error == -EBUSY ? 0 : address_failed(s, l->address);
	char next[64] = "";

	if (wait)
		snprintf(next, sizeof next, "; from there nobody is heard for %.2f s", (double)wait / 1e9);
	if (line_allowed(s, true))
		say(s->inner, IO_WARNING, "volume=%s a connection from %s was refused: %s%s", s->config.volume->name,
		    l->address, why, next);
}

/* ---- places ---------------------------------------------------------------------------------------- */

bool stranger_admit(struct links *s, const char *address)
{
	struct link *oldest = NULL;
	bool peers = address_is_a_peers(s, address), oldest_peers = true;
	unsigned count = 0;

	if (address_waits(s, address))
		return line_allowed(s, false);
	for (struct link *l = s->all; l < s->all + LINKS_MAX; l++) {
		bool theirs;

		if (!link_stranger(l))
			continue;
		count++;
		if (l->state == LINK_READY)
			continue;
		theirs = address_is_a_peers(s, l->address);
		if (!oldest || (oldest_peers && !theirs) || (oldest_peers == theirs && l->born < oldest->born)) {
			oldest = l;
			oldest_peers = theirs;
		}
	}
	if (count < LINK_STRANGERS_MAX)
		return true;
	if (!oldest || (oldest_peers && !peers))
		return line_allowed(s, false);
	link_send_away(oldest, -EBUSY, "too many others who have not proved who they are came after it");
	return true;
}
