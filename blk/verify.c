/* SPDX-License-Identifier: Apache-2.0 */
/* The primary's side: ranges of blocks go through READY (to be read), READ, ASKED (the peers have the hashes) and, when
 * they differ and are to be repaired, once more through all three with the blocks themselves. One range is worked on
 * while clients' writes wait, VERIFY_RANGES otherwise.
 *
 * The one rule is that of resync_source.c: a block is read as of some LSN, and no log beyond it may be sent before the
 * block's hash is. verify_log_limit() keeps peer_send.c to that. */
#include "verify.h"

#include <errno.h>
#include <string.h>

#include "checksum.h"
#include "volume_private.h"

enum {
	AGAIN_NS = 50000000,		/* before a piece is tried again; times its tries */
	ANSWER_NS = 90000000000,	/* a peer has its own, shorter bounds; this is for one that keeps no bound */
	HURRY_NS = 20000000,		/* for a check, a flush is asked for at most so often */
};

static void read_done(struct volume_request *request, int result);

static uint64_t buffer_bytes(const struct geometry *g)
{
	return frame_blocks_max(g) * (uint64_t)BLOCK_BYTES;
}

uint64_t verify_memory_bytes(const struct geometry *g)
{
	return (VERIFY_RANGES + 2) * buffer_bytes(g);
}

int verify_new(struct volume *v)
{
	struct io *io = v->io;
	bool all = true;

	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		struct verify_range *r = &v->verify.ranges[i];

		r->volume = v;
		r->buffer = io->alloc(io, buffer_bytes(&v->geometry), IO_FIXED);
		all = all && r->buffer;
	}
	v->verify_sink.buffer = io->alloc(io, buffer_bytes(&v->geometry), IO_FIXED);
	v->verify_sink.data = io->alloc(io, buffer_bytes(&v->geometry), 0);
	return all && v->verify_sink.buffer && v->verify_sink.data ? 0 : -ENOMEM;
}

void verify_delete(struct volume *v)
{
	for (unsigned i = 0; i < VERIFY_RANGES; i++)
		v->io->free(v->io, v->verify.ranges[i].buffer);
	v->io->free(v->io, v->verify_sink.buffer);
	v->io->free(v->io, v->verify_sink.data);
}

static unsigned bit_of(const struct peer *p)
{
	return 1u << (p - p->volume->peers);
}

/* ---- begin, end ---- */

/* The names of the peers in the mask, for a sentence. */
static void names_put(const struct volume *v, unsigned peers, char out[WHY_BYTES])
{
	size_t at = 0;

	out[0] = 0;
	for (unsigned i = 0; i < v->peer_count; i++)
		if (peers >> i & 1)
			at += (size_t)snprintf(out + at, WHY_BYTES - at, "%s%s", at ? ", " : "",
					       v->peers[i].config->name);
}

static unsigned peers_online(const struct volume *v, const char *only)
{
	unsigned peers = 0;

	for (unsigned i = 0; i < v->peer_count; i++)
		if (v->peers[i].state == PEER_ONLINE && (!only[0] || strcmp(only, v->peers[i].config->name) == 0))
			peers |= 1u << i;
	return peers;
}

static int refusal(struct volume *v, const struct volume_call *call, char why[WHY_BYTES])
{
	if (v->role != ROLE_PRIMARY) {
		snprintf(why, WHY_BYTES, "this node is secondary; the primary compares: run it there");
		return -EPERM;
	}
	if (v->failed || v->state != VOLUME_OPEN) {
		snprintf(why, WHY_BYTES, "this replica has failed or is being closed: %.300s", v->why);
		return -EIO;
	}
	if (v->verify.running) {
		snprintf(why, WHY_BYTES, "a verify is under way; see: holdfast status %s", v->config.name);
		return -EBUSY;
	}
	if (!peers_online(v, call->node)) {
		snprintf(why, WHY_BYTES, "%s%s is online, so there is nothing to compare with; see: holdfast status %s",
			 call->node[0] ? "node " : "no peer", call->node, v->config.name);
		if (call->node[0])
			snprintf(why, WHY_BYTES, "node %s is not an online peer of this node; see: holdfast status %s",
				 call->node, v->config.name);
		return -ENOTCONN;
	}
	return 0;
}

void volume_verify(struct volume *v, struct volume_call *call)
{
	struct verify *k = &v->verify;
	char names[WHY_BYTES];
	int result;

	call->why[0] = 0;
	result = refusal(v, call, call->why);
	if (result) {
		volume_call_answer(v, call, result);
		return;
	}
	k->running = true;
	k->repair = call->repair;
	k->peers = peers_online(v, call->node);
	k->next = k->done = k->unreadable = 0;
	k->started_ns = v->io->wall_ns(v->io);
	k->ended_ns = 0;
	memset(k->of, 0, sizeof k->of);
	names_put(v, k->peers, names);
	say(v->io, IO_INFO, "volume=%s verify begins: comparing with %.300s%s", v->config.name, names,
	    k->repair ? "; blocks that differ are sent anew" : "");
	volume_call_answer(v, call, 0);
}

static void say_result(struct volume *v, unsigned i)
{
	const struct verify_peer *of = &v->verify.of[i];
	char skipped[64] = "";

	if (of->skipped)
		snprintf(skipped, sizeof skipped, "; %llu could not be compared", (unsigned long long)of->skipped);
	if (of->mismatches || of->skipped)
		say(v->io, IO_WARNING, "volume=%s verify: peer %s: %llu blocks differ, %llu were sent anew%s",
		    v->config.name, v->peers[i].config->name, (unsigned long long)of->mismatches,
		    (unsigned long long)of->repaired, skipped);
}

static void end(struct volume *v, const char *why)
{
	struct verify *k = &v->verify;
	uint64_t all = v->geometry.volume_bytes / BLOCK_BYTES;

	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		struct verify_range *r = &k->ranges[i];

		r->stale = r->state == RANGE_READ;
		if (r->state != RANGE_READ)
			r->state = RANGE_FREE;
	}
	k->running = false;
	k->peers = 0;
	k->ended_ns = v->io->wall_ns(v->io);
	for (unsigned i = 0; i < v->peer_count; i++)
		say_result(v, i);
	if (k->unreadable)
		say(v->io, IO_WARNING, "volume=%s verify: %llu blocks could not be read on this node; check the disk",
		    v->config.name, (unsigned long long)k->unreadable);
	say(v->io, *why ? IO_WARNING : IO_INFO, "volume=%s verify %s after %llu of %llu blocks%s%s", v->config.name,
	    *why ? "stops" : "is over", (unsigned long long)k->done, (unsigned long long)all, *why ? ": " : "", why);
}

/* ---- one piece of a range ---- */

static void piece_over(struct volume *v, struct verify_range *r)
{
	uint64_t left;

	v->verify.done += r->count;
	r->first += r->count;
	left = r->end - r->first;
	/* What was cut small for some trouble grows again. */
	r->count = (uint32_t)min_u64(left, 2 * (uint64_t)r->count);
	r->tries = 0;
	r->repair = false;
	r->from_ns = 0;
	r->state = left ? RANGE_READY : RANGE_FREE;
	volume_turn_soon(v);
}

static void piece_again(struct volume *v, struct verify_range *r)
{
	r->tries++;
	r->from_ns = volume_now(v) + r->tries * AGAIN_NS;
	r->state = RANGE_READY;
	if (!r->repair)		/* the bits of `differ` count from `first` on */
		r->count = r->count > 1 ? r->count / 2 : 1;
}

static void read_piece(struct volume *v, struct verify_range *r)
{
	r->state = RANGE_READ;
	r->request = (struct volume_request){
		.op = VOLUME_READ, .flags = VOLUME_EXACT, .offset = r->first * BLOCK_BYTES,
		.len = r->count * (uint64_t)BLOCK_BYTES, .buffer = r->buffer, .done = read_done,
	};
	volume_read_current(v, &r->request);
}

/* We cannot read it ourselves. */
static void unreadable(struct volume *v, struct verify_range *r)
{
	if (r->count > 1) {
		r->count = 1;
		r->state = RANGE_READY;
		return;
	}
	v->verify.unreadable++;
	fetch_block(v, r->first);
	say(v->io, IO_WARNING, "volume=%s verify: block %llu (offset %llu) cannot be read on this node", v->config.name,
	    (unsigned long long)r->first, (unsigned long long)r->first * BLOCK_BYTES);
	piece_over(v, r);
}

static void read_done(struct volume_request *request, int result)
{
	struct verify_range *r = container_of(request, struct verify_range, request);
	struct volume *v = r->volume;
	struct verify *k = &v->verify;

	volume_turn_soon(v);
	if (r->stale || !k->running) {
		r->stale = false;
		r->state = RANGE_FREE;
		return;
	}
	if (result == -EIO && !r->repair) {
		unreadable(v, r);
		return;
	}
	r->could_not = r->answer = r->send = 0;
	r->state = RANGE_ASKED;
	for (unsigned i = 0; i < v->peer_count; i++)
		r->send |= (unsigned)(!r->repair || r->differ[i]) << i;
	r->send &= k->peers;
	if (result) {		/* EAGAIN; or, of a repair, what could be read a moment ago */
		r->could_not = r->send;
		r->send = 0;
		return;
	}
	r->answer = r->send;
	r->lsn = request->lsn;
	r->id = ++k->ids;
	r->until_ns = volume_now(v) + ANSWER_NS;
	if (r->repair)
		return;
	memset(r->differ, 0, sizeof r->differ);
	for (uint32_t i = 0; i < r->count; i++)
		checksum_hash(r->buffer + i * (uint64_t)BLOCK_BYTES, BLOCK_BYTES, r->hashes + i * HASH_BYTES);
}

/* ---- what the peers say ---- */

/* Kept as one range with what it touches. */
static void note_run(struct volume *v, unsigned peer, uint64_t first, uint64_t count)
{
	struct verify_peer *of = &v->verify.of[peer];
	uint64_t offset = first * BLOCK_BYTES, len = count * BLOCK_BYTES;

	of->mismatches += count;
	for (unsigned i = 0; i < of->range_count; i++) {
		struct volume_range *range = &of->ranges[i];

		if (range->offset + range->len != offset && offset + len != range->offset)
			continue;
		range->offset = min_u64(range->offset, offset);
		range->len += len;
		return;
	}
	if (of->range_count == VERIFY_RANGES_MAX)
		return;
	of->ranges[of->range_count++] = (struct volume_range){ offset, len };
	say(v->io, IO_WARNING, "volume=%s verify: peer %s differs from this node at offset %llu (%llu blocks%s)%s",
	    v->config.name, v->peers[peer].config->name, (unsigned long long)offset, (unsigned long long)count,
	    count == 1 ? "" : " or more",
	    of->range_count == VERIFY_RANGES_MAX ? "; further ranges are only counted" : "");
}

static void note_differences(struct volume *v, unsigned peer, uint64_t first, uint64_t mask)
{
	while (mask) {
		unsigned from = (unsigned)__builtin_ctzll(mask), to = from;

		while (to < 64 && mask >> to & 1)
			mask &= ~(1ull << to++);
		note_run(v, peer, first + from, to - from);
	}
}

/* All have answered, but for those that are gone. */
static void piece_answered(struct volume *v, struct verify_range *r)
{
	struct verify *k = &v->verify;
	bool differ = false;

	r->could_not &= k->peers;
	if (r->could_not && r->tries < VERIFY_TRIES) {
		piece_again(v, r);
		return;
	}
	for (unsigned i = 0; i < v->peer_count && !r->repair; i++) {
		if (r->could_not >> i & 1)
			k->of[i].skipped += r->count;
		if (!(k->peers >> i & 1))
			r->differ[i] = 0;
		note_differences(v, i, r->first, r->differ[i]);
		differ = differ || r->differ[i];
	}
	if (!differ || !k->repair) {
		piece_over(v, r);
		return;
	}
	r->repair = true;
	r->tries = 0;
	r->from_ns = 0;
	r->state = RANGE_READY;
	volume_turn_soon(v);
}

void verify_answered(struct peer *p, const struct frame_verified *verified)
{
	struct volume *v = p->volume;
	unsigned index = (unsigned)(p - v->peers);

	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		struct verify_range *r = &v->verify.ranges[i];

		if (r->state != RANGE_ASKED || r->id != from_le64(verified->id) || !(r->answer & ~r->send & bit_of(p)))
			continue;
		r->answer &= ~bit_of(p);
		if (!from_le32(verified->done)) {
			r->could_not |= bit_of(p);
		} else if (r->repair) {
			v->verify.of[index].repaired += (uint64_t)__builtin_popcountll(r->differ[index]);
			r->differ[index] = 0;
		} else {
			r->differ[index] = from_le64(verified->differ) & (UINT64_MAX >> (64 - r->count));
		}
		volume_turn_soon(v);
	}
}

void verify_lost(struct peer *p)
{
	struct verify *k = &p->volume->verify;

	if (!(k->peers & bit_of(p)))
		return;
	k->peers &= ~bit_of(p);
	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		k->ranges[i].send &= ~bit_of(p);
		k->ranges[i].answer &= ~bit_of(p);
		k->ranges[i].differ[p - p->volume->peers] = 0;
	}
	if (k->running)
		say(p->volume->io, IO_WARNING, "volume=%s verify: peer %s is gone after about %llu blocks",
		    p->volume->config.name, p->config->name, (unsigned long long)k->done);
}

/* ---- every turn ---- */

static bool waits_for_clients(const struct volume *v)
{
	return v->ack_count || v->waiting_count;
}

/* Whether one more may be read. Of those that are repaired one at a time: the peer has room for one. */
static bool may_read(const struct volume *v, bool repair)
{
	unsigned busy = 0, most = waits_for_clients(v) ? 1 : VERIFY_RANGES;

	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		const struct verify_range *r = &v->verify.ranges[i];

		if (r->state != RANGE_READ && r->state != RANGE_ASKED)
			continue;
		busy++;
		if (repair && r->repair)
			return false;
	}
	return busy < most;
}

static void range_step(struct volume *v, struct verify_range *r, uint64_t now)
{
	struct verify *k = &v->verify;
	uint64_t all = v->geometry.volume_bytes / BLOCK_BYTES;

	if (r->state == RANGE_FREE && k->next < all) {
		r->first = k->next;
		r->count = (uint32_t)min_u64(all - k->next, frame_blocks_max(&v->geometry));
		r->end = k->next = r->first + r->count;
		r->tries = 0;
		r->from_ns = 0;
		r->repair = false;
		r->state = RANGE_READY;
	}
	if (r->state == RANGE_ASKED && now > r->until_ns) {
		r->could_not |= r->answer;
		r->answer = r->send = 0;
	}
	if (r->state == RANGE_ASKED && !r->answer)
		piece_answered(v, r);
	if (r->state == RANGE_READY && now >= r->from_ns && may_read(v, r->repair))
		read_piece(v, r);
}

/* What is compared has to be committed first. Else it takes a tick, now and then it should not. */
static void hurry(struct volume *v, uint64_t now)
{
	struct verify *k = &v->verify;
	uint64_t lsn = 0;

	for (unsigned i = 0; i < VERIFY_RANGES; i++)
		if (k->ranges[i].state == RANGE_ASKED && k->ranges[i].answer)
			lsn = max_u64(lsn, k->ranges[i].lsn);
	if (lsn <= v->commit || lsn <= v->flush_wanted || now - k->hurried_ns < HURRY_NS)
		return;
	k->hurried_ns = now;
	v->flush_wanted = lsn;
	volume_turn_soon(v);
}

void verify_step(struct volume *v)
{
	struct verify *k = &v->verify;
	uint64_t now = volume_now(v);
	bool busy = false;

	if (!k->running)
		return;
	for (unsigned i = 0; i < v->peer_count; i++)
		if (k->peers >> i & 1 && v->peers[i].state != PEER_ONLINE)
			verify_lost(&v->peers[i]);
	if (v->role != ROLE_PRIMARY || v->state != VOLUME_OPEN || v->failed) {
		end(v, "this node is not a working primary any more");
		return;
	}
	if (!k->peers) {
		end(v, "no peer is left to compare with");
		return;
	}
	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		range_step(v, &k->ranges[i], now);
		busy = busy || k->ranges[i].state != RANGE_FREE || k->next < v->geometry.volume_bytes / BLOCK_BYTES;
	}
	hurry(v, now);
	if (!busy)
		end(v, "");
}

/* ---- frames ---- */

uint64_t verify_log_limit(const struct peer *p)
{
	uint64_t limit = UINT64_MAX;

	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		const struct verify_range *r = &p->volume->verify.ranges[i];

		if (r->state == RANGE_ASKED && r->send & bit_of(p))
			limit = min_u64(limit, r->lsn);
	}
	return limit;
}

static bool put_hashes(struct peer *p, const struct verify_range *r)
{
	struct frame_verify *verify = peer_body(p);
	uint32_t tail = r->count * HASH_BYTES;

	if (!peer_body_fits(p, sizeof *verify + tail))
		return false;
	*verify = (struct frame_verify){ .id = to_le64(r->id), .lsn = to_le64(r->lsn), .first = to_le64(r->first),
					 .count = to_le32(r->count) };
	memcpy(verify + 1, r->hashes, tail);
	peer_body_end(p, FRAME_VERIFY, (uint32_t)sizeof *verify + tail);
	return true;
}

static bool put_blocks(struct peer *p, const struct verify_range *r)
{
	struct frame_repair *repair = peer_body(p);
	uint64_t mask = r->differ[p - p->volume->peers], tail = (uint64_t)__builtin_popcountll(mask) * BLOCK_BYTES;
	uint8_t *to = (uint8_t *)(repair + 1);

	if (!peer_body_fits(p, sizeof *repair + tail))
		return false;
	*repair = (struct frame_repair){ .id = to_le64(r->id), .lsn = to_le64(r->lsn), .first = to_le64(r->first),
					 .mask = to_le64(mask) };
	for (; mask; mask &= mask - 1, to += BLOCK_BYTES)
		memcpy(to, r->buffer + (uint64_t)__builtin_ctzll(mask) * BLOCK_BYTES, BLOCK_BYTES);
	peer_body_end(p, FRAME_REPAIR, (uint32_t)(sizeof *repair + tail));
	return true;
}

void verify_put(struct peer *p)
{
	verify_sink_put(p);
	for (unsigned i = 0; i < VERIFY_RANGES; i++) {
		struct verify_range *r = &p->volume->verify.ranges[i];

		if (r->state != RANGE_ASKED || !(r->send & bit_of(p)))
			continue;
		CHECK(p->sourcing && r->lsn >= p->cursor.at.lsn);
		if (r->repair ? put_blocks(p, r) : put_hashes(p, r))
			r->send &= ~bit_of(p);
	}
}

/* ---- figures ---- */

void verify_status(const struct volume *v, struct volume_verify_status *out)
{
	const struct verify *k = &v->verify;

	if (!k->started_ns)
		return;
	*out = (struct volume_verify_status){
		.running = k->running, .bytes_total = v->geometry.volume_bytes, .bytes_done = k->done * BLOCK_BYTES,
		.started_ns = k->started_ns, .ended_ns = k->ended_ns,
	};
}

void verify_peer_status(const struct volume *v, unsigned peer, struct volume_peer_status *out)
{
	const struct verify_peer *of = &v->verify.of[peer];

	out->verify_mismatches = of->mismatches;
	out->verify_repaired = of->repaired;
	out->verify_range_count = of->range_count;
	memcpy(out->verify_ranges, of->ranges, sizeof of->ranges);
}
