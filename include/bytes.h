/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian fields of formats on disk and on the wire, as types that cannot be read by accident. */
#ifndef HOLDFAST_BYTES_H
#define HOLDFAST_BYTES_H

#include <endian.h>
#include <stdint.h>

typedef struct { uint16_t raw; } le16;
typedef struct { uint32_t raw; } le32;
typedef struct { uint64_t raw; } le64;
typedef struct { uint16_t raw; } be16;
typedef struct { uint32_t raw; } be32;
typedef struct { uint64_t raw; } be64;

static inline le16 to_le16(uint16_t value) { return (le16){ htole16(value) }; }
static inline le32 to_le32(uint32_t value) { return (le32){ htole32(value) }; }
static inline le64 to_le64(uint64_t value) { return (le64){ htole64(value) }; }
static inline uint16_t from_le16(le16 value) { return le16toh(value.raw); }
static inline uint32_t from_le32(le32 value) { return le32toh(value.raw); }
static inline uint64_t from_le64(le64 value) { return le64toh(value.raw); }

static inline be16 to_be16(uint16_t value) { return (be16){ htobe16(value) }; }
static inline be32 to_be32(uint32_t value) { return (be32){ htobe32(value) }; }
static inline be64 to_be64(uint64_t value) { return (be64){ htobe64(value) }; }
static inline uint16_t from_be16(be16 value) { return be16toh(value.raw); }
static inline uint32_t from_be32(be32 value) { return be32toh(value.raw); }
static inline uint64_t from_be64(be64 value) { return be64toh(value.raw); }

/* @unit is a power of two. */
static inline uint64_t round_down(uint64_t value, uint64_t unit) { return value & ~(unit - 1); }
static inline uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) & ~(unit - 1); }

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif
