/* SPDX-License-Identifier: Apache-2.0 */
/* What reaches a link's ends from the wire before and after anybody has proved anything.
 *
 *	first byte 0 mod 3	the rest goes to a listening end, as it is; without a key it never opens
 *	1			to a dialing end
 *	2			two ends meet, a stream follows; the rest changes bytes of the wire: which way (a bit),
 *				where (15 bits), by what. Whatever comes out is the beginning of what went in. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_context *contexts[2];
static struct { uint8_t bytes[64 << 10]; size_t len, at; } wire[2];

static void contexts_make(void)
{
	static struct identity *identities[2];
	struct tls_pin pins[2] = { { .node = "a" }, { .node = "b" } };
	char why[WHY_BYTES];

	for (unsigned i = 0; i < 2; i++) {
		char directory[64] = "/tmp/holdfast-fuzz.XXXXXX";
		const uint8_t uuid[UUID_BYTES] = { 1 };

		CHECK(mkdtemp(directory) != NULL);
		CHECK(identity_create(directory, pins[i].node, uuid, why) == 0);
		CHECK(identity_load(&identities[i], directory, pins[i].node, uuid, why) == 0);
		identity_remove(directory);
		identity_fingerprint(identities[i], pins[i].fingerprint);
	}
	CHECK(tls_context_new(&contexts[0], identities[0], &pins[1], 1) == 0);
	CHECK(tls_context_new(&contexts[1], identities[1], &pins[0], 1) == 0);
}

/* One end, and bytes of nobody's. */
static void feed(struct tls *t, const uint8_t *data, size_t size)
{
	int said = tls_handshake(t);

	while (said == 0 && size > 0) {
		size_t room, len;
		void *to = tls_wire_room(t, &room);

		CHECK(room > 0);
		len = min_u64(size, room);
		memcpy(to, data, len);
		tls_wire_received(t, len);
		data += len;
		size -= len;
		said = tls_handshake(t);
		if (tls_wire_take(t, &len))
			tls_wire_sent(t);
	}
	CHECK(said <= 0 && !*tls_node(t));
	CHECK(said == 0 || (*tls_why(t) && memchr(tls_why(t), 0, WHY_BYTES)));
}

static void wire_take(struct tls *t, unsigned from)
{
	const void *bytes;
	size_t len;

	bytes = tls_wire_take(t, &len);
	if (!bytes)
		return;
	CHECK(len <= sizeof wire[from].bytes - wire[from].len);
	memcpy(wire[from].bytes + wire[from].len, bytes, len);
	wire[from].len += len;
	tls_wire_sent(t);
}

/* What is on the wire arrives, changed where the changes say so. */
static bool wire_give(struct tls *t, unsigned from, const uint8_t *changes, size_t size)
{
	size_t room, len = wire[from].len - wire[from].at;
	uint8_t *to = tls_wire_room(t, &room);

	len = min_u64(len, room);
	if (len == 0)
		return false;
	memcpy(to, wire[from].bytes + wire[from].at, len);
	for (; size >= 3; changes += 3, size -= 3) {
		size_t at = (changes[0] & 0x7fu) << 8 | changes[1];

		if (changes[0] >> 7 == from && at >= wire[from].at && at < wire[from].at + len)
			to[at - wire[from].at] ^= changes[2];
	}
	wire[from].at += len;
	tls_wire_received(t, len);
	return true;
}

static void meet(struct tls *ends[2], const uint8_t *changes, size_t size)
{
	static uint8_t plain[20000], out[20000];
	int said[2] = { 0 };
	ssize_t got;
	size_t total = 0;
	bool moved = true;

	memset(plain, 'x', sizeof plain);
	wire[0].len = wire[0].at = wire[1].len = wire[1].at = 0;
	while (moved) {
		moved = false;
		for (unsigned i = 0; i < 2; i++) {
			if (said[i] == 0)
				moved |= wire_give(ends[i], !i, changes, size);
			said[i] = tls_handshake(ends[i]);
			wire_take(ends[i], i);
			moved |= wire[i].at < wire[i].len && said[!i] == 0;
		}
	}
	if (said[0] != 1 || said[1] != 1)
		return;
	CHECK(tls_send(ends[0], plain, sizeof plain) == sizeof plain);
	tls_end(ends[0]);
	wire_take(ends[0], 0);
	do {
		while ((got = tls_receive(ends[1], out, sizeof out)) > 0) {
			CHECK(memcmp(out, plain, (size_t)got) == 0);
			total += (size_t)got;
		}
	} while (got == -EAGAIN && wire_give(ends[1], 0, changes, size));
	CHECK(total <= sizeof plain);
	CHECK(got != 0 || total == sizeof plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls *ends[2];

	if (!contexts[0])
		contexts_make();
	if (size < 1)
		return 0;
	CHECK(tls_new(&ends[0], contexts[0], "b") == 0);
	CHECK(tls_new(&ends[1], contexts[1], NULL) == 0);
	switch (data[0] % 3) {
	case 0:
		feed(ends[1], data + 1, size - 1);
		break;
	case 1:
		feed(ends[0], data + 1, size - 1);
		break;
	default:
		meet(ends, data + 1, size - 1);
	}
	tls_free(ends[0]);
	tls_free(ends[1]);
	return 0;
}
