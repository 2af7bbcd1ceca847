/* SPDX-License-Identifier: Apache-2.0 */
/* The two sums of the system: CRC32C (Castagnoli, as in RFC 3720) against accidents to one record or block,
 * and a running XXH3-128 that ties a record to all before it. */
#ifndef HOLDFAST_CHECKSUM_H
#define HOLDFAST_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"

/* Start with @crc = 0; the result of one call is the start of the next. */
uint32_t checksum_crc(uint32_t crc, const void *bytes, size_t len);
void checksum_hash(const void *bytes, size_t len, uint8_t out[HASH_BYTES]);
/* False means damage. In the fuzzers' build any sum is right, so that mutations get past it. */
bool checksum_equal(uint32_t found, uint32_t wanted);

#endif
