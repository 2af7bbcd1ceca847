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
	}
	return (struct shape){ 0, 0, 1 };
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
	else if (from_le32(hello->epoch_count) * sizeof(struct epoch_entry) != tail)
		*field = "epoch_count";
	return *field ? -EBADMSG : 0;
}

void frame_seal(struct frame_header *header, enum frame_type type, uint32_t length)
{
	*header = (struct frame_header){ .magic = to_le32(FRAME_MAGIC), .type = to_le16((uint16_t)type),
					 .length = to_le32(length) };
	header->crc = to_le32(crc_of(header, type == FRAME_LOG ? sizeof(struct frame_log) : length));
}
