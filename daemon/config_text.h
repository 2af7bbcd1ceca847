/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of text that configs and command lines are made of. Sizes and UUIDs stand in
 * config.h. */
#ifndef HOLDFAST_CONFIG_TEXT_H
#define HOLDFAST_CONFIG_TEXT_H

#include <stdbool.h>

#include "volume.h"

/* A node's or volume's name: letters, digits, - _ . ; not starting with a dot or dash; 1 to 63
 * bytes. -EINVAL with @why. */
MUST_CHECK int name_check(const char *name, char why[WHY_BYTES]);
/* "unix:/PATH", "IPv4:PORT" or "[IPv6]:PORT" (a %zone is fine), port 1 to 65535. -EINVAL with @why. */
MUST_CHECK int address_check(const char *address, char why[WHY_BYTES]);
/* Whether it is such an address, and one that no other machine reaches: loopback's, or a unix socket. */
MUST_CHECK bool address_is_local(const char *address);
/* "5s" or "500ms" to ns; -EINVAL, -ERANGE. */
MUST_CHECK int duration_parse(const char *text, uint64_t *ns);
/* "A" to "D"; -EINVAL. */
MUST_CHECK int mode_parse(const char *text, enum replication_mode *mode);
/* What size_parse() reads back as exactly @bytes, short: "10G", "1000". out has at least
 * 24 bytes. */
void size_exact_text(uint64_t bytes, char out[24]);

#endif
