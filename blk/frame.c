/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <errno.h>
#include <string.h>

#include "checksum.h"

/* Fixed part and longest tail of each type; a tail is a multiple of its unit. */
struct shape { uint32_t fixed, tail_max, tail_unit; };

static struct shape shape_of(uint16_t type, const struct geometry *g)
{
	switch (type) {
	case FRAME_HELLO:
		return (struct shape){ sizeof(struct frame_hello), HISTORY_MAX * sizeof(struct epoch_entry),
				       sizeof(struct epoch_entry) };
	case FRAME_START: return (struct shape){ sizeof(struct frame_start), 0, 1 };
	case FRAME_LOG: return (struct shape){ sizeof(struct frame_log), frame_log_max(g), 8 };
	case FRAME_ACK: return (struct shape){ sizeof(struct frame_ack), 0, 1 };
	case FRAME_PING: return (struct shape){ sizeof(struct frame_ping), 0, 1 };
	case FRAME_ROLE: return (struct shape){ sizeof(struct frame_role), FRAME_TEXT_MAX, 8 };
	case FRAME_ERROR: return (struct shape){ sizeof(struct frame_error), FRAME_TEXT_MAX, 8 };
	case FRAME_NEED: return (struct shape){ sizeof(struct frame_need), 0, 1 };
	case FRAME_WANT:
		return (struct shape){ sizeof(struct frame_want), FRAME_RANGES_MAX * sizeof(struct frame_range),
				       sizeof(struct frame_range) };
	case FRAME_ASK: return (struct shape){ sizeof(struct frame_ask), 0, 1 };
	case FRAME_BEGIN:
		return (struct shape){ sizeof(struct frame_begin), HISTORY_MAX * sizeof(struct epoch_entry),
				       sizeof(struct epoch_entry) };
	case FRAME_BLOCKS:
		return (struct shape){ sizeof(struct frame_blocks), frame_blocks_max(g) * BLOCK_BYTES, HASH_BYTES };
	case FRAME_TAKEN: return (struct shape){ sizeof(struct frame_taken), 0, 1 };
	case FRAME_DONE: return (struct shape){ sizeof(struct frame_done), 0, 1 };
	case FRAME_SIDE: return (struct shape){ sizeof(struct frame_side), 0, 1 };
	case FRAME_VERIFY:
		return (struct shape){ sizeof(struct frame_verify), frame_blocks_max(g) * HASH_BYTES, HASH_BYTES };
	case FRAME_REPAIR:
		return (struct shape){ sizeof(struct frame_repair), frame_blocks_max(g) * BLOCK_BYTES, BLOCK_BYTES };
	case FRAME_VERIFIED: return (struct shape){ sizeof(struct frame_verified), 0, 1 };
	case FRAME_FETCH: return (struct shape){ sizeof(struct frame_fetch), 0, 1 };
	case FRAME_FETCHED: return (struct shape){ sizeof(struct frame_fetched), BLOCK_BYTES, BLOCK_BYTES };
	}
	return (struct shape){ 0, 0, 1 };
}

uint32_t frame_blocks_max(const struct geometry *g)
{
	uint32_t blocks = frame_bytes_max(g) / BLOCK_BYTES - 1;

	return blocks < FRAME_BLOCKS_MAX ? blocks : FRAME_BLOCKS_MAX;
}

uint32_t frame_bytes_max(const struct geometry *g)
{
	uint32_t log = sizeof(struct frame_header) + sizeof(struct frame_log) + frame_log_max(g);

	return log > FRAME_HELLO_MAX ? log : FRAME_HELLO_MAX;
}

static uint32_t crc_of(const struct frame_header *header, uint32_t covered)
{
	uint32_t crc = checksum_crc(0, header, offsetof(struct frame_header, crc));

	return checksum_crc(crc, header + 1, covered);
}

int frame_look(const void *bytes, uint64_t avail, const struct geometry *g, const char **field)
{
	const struct frame_header *header = bytes;
	uint32_t length, covered;
	struct shape shape;

	if (avail < sizeof *header)
		return 0;
	shape = shape_of(from_le16(header->type), g);
	length = from_le32(header->length);
	*field = NULL;
	if (from_le32(header->magic) != FRAME_MAGIC)
		*field = "magic";
	else if (shape.fixed == 0)
		*field = "type";
	else if (from_le16(header->reserved) != 0)
		*field = "reserved";
	else if (length < shape.fixed || length - shape.fixed > shape.tail_max ||
		 (length - shape.fixed) % shape.tail_unit)
		*field = "length";
	if (*field)
		return -EBADMSG;
	covered = from_le16(header->type) == FRAME_LOG ? shape.fixed : length;
	if (avail < sizeof *header + covered)
		return 0;
	if (!checksum_equal(crc_of(header, covered), from_le32(header->crc))) {
		*field = "crc";
		return -EBADMSG;
	}
	return 1;
}

int frame_hello_check(const struct frame_hello *hello, const char **field)
{
	const struct frame_header *header = (const struct frame_header *)hello - 1;
	uint64_t tail = from_le32(header->length) - sizeof *hello;

	*field = NULL;
	if (from_le16(hello->version_min) > from_le16(hello->version_max))
		*field = "version";
	else if (from_le16(hello->role) > ROLE_PRIMARY)
		*field = "role";
	else if (from_le16(hello->mode) > MODE_D)
		*field = "mode";
	else if (memchr(hello->node, 0, NAME_BYTES) == NULL || hello->node[0] == 0)
		*field = "node";
	else if (memchr(hello->to, 0, NAME_BYTES) == NULL)
		*field = "to";
	else if (from_le32(hello->flags) & ~(uint32_t)HELLO_FLAGS)
		*field = "flags";
	else if (from_le32(hello->epoch_count) * sizeof(struct epoch_entry) != tail)
		*field = "epoch_count";
	return *field ? -EBADMSG : 0;
}

static const char *blocks_field(const struct frame_blocks *b, uint64_t tail, const struct geometry *g)
{
	uint64_t first = from_le64(b->first), count = from_le32(b->count), all = g->volume_bytes / BLOCK_BYTES;
	uint32_t kind = from_le32(b->kind);

	if (kind == 0 || kind >= BLOCKS_KINDS)
		return "BLOCKS kind";
	if (count == 0 || count > (kind == BLOCKS_ZERO ? FRAME_ZERO_MAX : frame_blocks_max(g)))
		return "BLOCKS count";
	if (first > all || count > all - first)
		return "BLOCKS first";
	if (tail != (kind == BLOCKS_DATA ? count * BLOCK_BYTES : kind == BLOCKS_HASH ? count * HASH_BYTES : 0))
		return "BLOCKS length";
	return from_le64(b->lsn) >= LSN_MAX || from_le64(b->sequence) == 0 ? "BLOCKS lsn or sequence" : NULL;
}

static const char *want_field(const struct frame_want *want, uint64_t tail, const struct geometry *g)
{
	const struct frame_range *range = (const void *)(want + 1);
	uint64_t all = g->volume_bytes / BLOCK_BYTES;

	if (from_le64(want->count) != tail / sizeof *range)
		return "WANT count";
	for (uint64_t i = 0; i < from_le64(want->count); i++)
		if (from_le64(range[i].first) > all || from_le64(range[i].count) > all - from_le64(range[i].first))
			return "WANT range";
	return NULL;
}

static const char *begin_field(const struct frame_begin *begin, uint64_t tail, const struct geometry *g)
{
	uint64_t at = from_le64(begin->at.lsn);

	if (from_le32(begin->epoch_count) * sizeof(struct epoch_entry) != tail)
		return "BEGIN epoch_count";
	if (at >= LSN_MAX || at % g->journal_block || from_le64(begin->commit) >= LSN_MAX)
		return "BEGIN at or commit";
	return from_le64(begin->id) == 0 ? "BEGIN id" : NULL;
}

static const char *side_field(const struct frame_side *side)
{
	if (from_le16(side->role) > ROLE_PRIMARY || from_le16(side->keep) > 1 ||
	    from_le16(side->policy) >= SPLIT_POLICIES || from_le32(side->known) > 1)
		return "SIDE role, keep, policy or known";
	return from_le64(side->fork) >= LSN_MAX ? "SIDE fork" : NULL;
}

int frame_resync_check(const struct frame_header *header, const struct geometry *g, const char **field)
{
	const void *fixed = header + 1;
	const struct frame_need *need = fixed;
	const struct frame_ask *ask = fixed;
	const struct frame_taken *taken = fixed;
	const struct frame_done *done = fixed;
	uint64_t length = from_le32(header->length);

	*field = NULL;
	switch (from_le16(header->type)) {
	case FRAME_NEED:
		if (from_le32(need->what) == 0 || from_le32(need->what) >= NEED_WHATS)
			*field = "NEED what";
		break;
	case FRAME_WANT:
		*field = want_field(fixed, length - sizeof(struct frame_want), g);
		break;
	case FRAME_ASK:
		if (from_le64(ask->base) >= LSN_MAX || from_le64(ask->at.lsn) >= LSN_MAX ||
		    from_le64(ask->at.lsn) % g->journal_block)
			*field = "ASK base or at";
		break;
	case FRAME_BEGIN:
		*field = begin_field(fixed, length - sizeof(struct frame_begin), g);
		break;
	case FRAME_BLOCKS:
		*field = blocks_field(fixed, length - sizeof(struct frame_blocks), g);
		break;
	case FRAME_TAKEN:
		if (from_le64(taken->finished) > 1)
			*field = "TAKEN finished";
		break;
	case FRAME_DONE:
		if (from_le64(done->lsn) >= LSN_MAX)
			*field = "DONE lsn";
		break;
	case FRAME_SIDE:
		*field = side_field(fixed);
		break;
	}
	return *field ? -EBADMSG : 0;
}

/* ---- verify ---- */

static bool in_volume(uint64_t first, uint64_t count, const struct geometry *g)
{
	uint64_t all = g->volume_bytes / BLOCK_BYTES;

	return first < all && count <= all - first;
}

static const char *repair_field(const struct frame_repair *repair, uint64_t tail, const struct geometry *g)
{
	uint64_t mask = from_le64(repair->mask), count = mask ? 64 - (uint64_t)__builtin_clzll(mask) : 0;

	if (count == 0 || count > frame_blocks_max(g))
		return "REPAIR mask";
	if (tail != (uint64_t)__builtin_popcountll(mask) * BLOCK_BYTES)
		return "REPAIR length";
	if (!in_volume(from_le64(repair->first), count, g))
		return "REPAIR first";
	return from_le64(repair->lsn) >= LSN_MAX ? "REPAIR lsn" : NULL;
}

static const char *verify_field(const struct frame_verify *verify, uint64_t tail, const struct geometry *g)
{
	uint64_t count = from_le32(verify->count);

	if (count == 0 || count > frame_blocks_max(g) || tail != count * HASH_BYTES)
		return "VERIFY count";
	if (!in_volume(from_le64(verify->first), count, g))
		return "VERIFY first";
	return from_le64(verify->lsn) >= LSN_MAX ? "VERIFY lsn" : NULL;
}

static const char *fetched_field(const struct frame_fetched *fetched, uint64_t tail, const struct geometry *g)
{
	if (from_le32(fetched->found) > 1 || tail != from_le32(fetched->found) * BLOCK_BYTES)
		return "FETCHED found";
	if (!in_volume(from_le64(fetched->block), 1, g))
		return "FETCHED block";
	return from_le64(fetched->lsn) >= LSN_MAX ? "FETCHED lsn" : NULL;
}

int frame_verify_check(const struct frame_header *header, const struct geometry *g, const char **field)
{
	const void *fixed = header + 1;
	const struct frame_verified *verified = fixed;
	const struct frame_fetch *fetch = fixed;
	uint64_t length = from_le32(header->length);

	*field = NULL;
	switch (from_le16(header->type)) {
	case FRAME_VERIFY:
		*field = verify_field(fixed, length - sizeof(struct frame_verify), g);
		break;
	case FRAME_REPAIR:
		*field = repair_field(fixed, length - sizeof(struct frame_repair), g);
		break;
	case FRAME_VERIFIED:
		if (from_le32(verified->done) > 1)
			*field = "VERIFIED done";
		break;
	case FRAME_FETCH:
		if (!in_volume(from_le64(fetch->block), 1, g) || from_le64(fetch->lsn) >= LSN_MAX)
			*field = "FETCH block or lsn";
		break;
	case FRAME_FETCHED:
		*field = fetched_field(fixed, length - sizeof(struct frame_fetched), g);
		break;
	}
	return *field ? -EBADMSG : 0;
}

void frame_seal(struct frame_header *header, enum frame_type type, uint32_t length)
{
	*header = (struct frame_header){ .magic = to_le32(FRAME_MAGIC), .type = to_le16((uint16_t)type),
					 .length = to_le32(length) };
	header->crc = to_le32(crc_of(header, type == FRAME_LOG ? sizeof(struct frame_log) : length));
}
