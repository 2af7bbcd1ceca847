/* SPDX-License-Identifier: Apache-2.0 */
/* What we assert of ourselves, and what a caller may not ignore. */
#ifndef HOLDFAST_CHECK_H
#define HOLDFAST_CHECK_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))

/* container_of(pointer to member, type, member): the object the member is embedded in. */
#define container_of(pointer, type, member) \
	((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/* Prints the condition and its place on stderr and aborts. Defined by each program (daemon/check.c). */
__attribute__((noreturn, cold)) void check_failed(const char *condition, const char *file, int line);

/* A fact about our own state. It stays on in every build: a node that has lost its mind must stop
 * before it acknowledges anything more. Never used on bytes from a disk, a peer or a user. */
#define CHECK(condition) \
	do { \
		if (__builtin_expect(!(condition), 0)) \
			check_failed(#condition, __FILE__, __LINE__); \
	} while (0)

#endif
