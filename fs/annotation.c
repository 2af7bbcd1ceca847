/* SPDX-License-Identifier: Apache-2.0 */
#include "annotation.h"

#include <string.h>

enum { NAMED = 1 << ANNOTATION_ADDED | 1 << ANNOTATION_REMOVED | 1 << ANNOTATION_XATTR };

static struct annotation_header *header_of(struct annotation *a)
{
	return (struct annotation_header *)a->bytes;
}

void annotation_begin(struct annotation *a, enum annotation_operation operation)
{
	a->len = sizeof(struct annotation_header);
	*header_of(a) = (struct annotation_header){
		.magic = to_le16(ANNOTATION_MAGIC), .version = ANNOTATION_VERSION, .operation = (uint8_t)operation,
		.length = to_le16((uint16_t)a->len),
	};
}

static void add(struct annotation *a, const struct annotation_change *change)
{
	uint32_t padded = (uint32_t)round_up(change->name_len, 8);
	struct annotation_record *record = (struct annotation_record *)(a->bytes + a->len);
	bool data = change->kind == ANNOTATION_DATA;

	CHECK(change->name_len <= 255 && header_of(a)->count < ANNOTATION_CHANGES_MAX);
	CHECK(a->len + sizeof *record + padded <= sizeof a->bytes);
	*record = (struct annotation_record){
		.kind = (uint8_t)change->kind, .name_len = (uint8_t)change->name_len,
		.inode = to_le64(change->inode), .place = to_le64(data ? change->offset : change->parent),
		.len = to_le64(change->len),
	};
	memset(record + 1, 0, padded);
	if (change->name_len)
		memcpy(record + 1, change->name, change->name_len);
	a->len += (uint32_t)sizeof *record + padded;
	header_of(a)->count++;
	header_of(a)->length = to_le16((uint16_t)a->len);
}

void annotation_entry(struct annotation *a, enum annotation_kind added_or_removed, uint64_t parent, uint64_t inode,
		      const char *name, size_t name_len)
{
	add(a, &(struct annotation_change){ .kind = added_or_removed, .inode = inode, .parent = parent,
					    .name = name, .name_len = (uint32_t)name_len });
}

void annotation_inode(struct annotation *a, enum annotation_kind attributes_or_freed, uint64_t inode)
{
	add(a, &(struct annotation_change){ .kind = attributes_or_freed, .inode = inode });
}

void annotation_data(struct annotation *a, uint64_t inode, uint64_t offset, uint64_t len)
{
	add(a, &(struct annotation_change){ .kind = ANNOTATION_DATA, .inode = inode, .offset = offset, .len = len });
}

void annotation_xattr(struct annotation *a, uint64_t inode, const char *name, size_t name_len)
{
	add(a, &(struct annotation_change){ .kind = ANNOTATION_XATTR, .inode = inode, .name = name,
					    .name_len = (uint32_t)name_len });
}

/* ---- reading ---- */

static bool zeros(const uint8_t *bytes, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

/* One change, with @left bytes from its start on. Returns its bytes with the name, or 0 when it breaks a rule. */
static uint32_t record_check(const struct annotation_record *record, uint32_t left)
{
	uint32_t padded, kind;

	if (left < sizeof *record)
		return 0;
	kind = record->kind;
	padded = (uint32_t)round_up(record->name_len, 8);
	if (kind == 0 || kind >= ANNOTATION_KINDS || left - sizeof *record < padded)
		return 0;
	if (from_le16(record->reserved16) || from_le32(record->reserved32) || from_le64(record->inode) == 0)
		return 0;
	if ((NAMED >> kind & 1) != (record->name_len > 0))
		return 0;
	if (kind != ANNOTATION_DATA && from_le64(record->len))
		return 0;
	if (kind > ANNOTATION_REMOVED && kind != ANNOTATION_DATA && from_le64(record->place))
		return 0;
	if (!zeros((const uint8_t *)(record + 1) + record->name_len, padded - record->name_len))
		return 0;
	return (uint32_t)sizeof *record + padded;
}

bool annotation_check(const void *bytes, uint32_t len)
{
	const struct annotation_header *header = bytes;
	uint32_t at = sizeof *header;

	if (len < sizeof *header || len > BLOCKS_ANNOTATION_MAX || from_le16(header->magic) != ANNOTATION_MAGIC)
		return false;
	if (header->version != ANNOTATION_VERSION || header->reserved || from_le16(header->length) != len)
		return false;
	if (header->operation == 0 || header->operation >= ANNOTATION_OPERATIONS)
		return false;
	if (header->count > ANNOTATION_CHANGES_MAX)
		return false;
	for (unsigned i = 0; i < header->count; i++) {
		uint32_t size = record_check((const void *)((const uint8_t *)bytes + at), len - at);

		if (size == 0)
			return false;
		at += size;
	}
	return at == len;
}

enum annotation_operation annotation_operation(const void *bytes)
{
	return ((const struct annotation_header *)bytes)->operation;
}

bool annotation_next(const void *bytes, uint32_t *at, struct annotation_change *change)
{
	const struct annotation_header *header = bytes;
	uint32_t here = *at ? *at : (uint32_t)sizeof *header;
	const struct annotation_record *record = (const void *)((const uint8_t *)bytes + here);
	bool data, entry;

	if (here >= from_le16(header->length))
		return false;
	data = record->kind == ANNOTATION_DATA;
	entry = record->kind <= ANNOTATION_REMOVED;
	*change = (struct annotation_change){
		.kind = record->kind, .inode = from_le64(record->inode),
		.parent = entry ? from_le64(record->place) : 0, .offset = data ? from_le64(record->place) : 0,
		.len = from_le64(record->len), .name = (const char *)(record + 1), .name_len = record->name_len,
	};
	*at = here + (uint32_t)sizeof *record + (uint32_t)round_up(record->name_len, 8);
	return true;
}
