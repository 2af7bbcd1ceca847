/* SPDX-License-Identifier: Apache-2.0 */
/* A failed CHECK ends the process: what is durable stays as it is, and nothing more is acknowledged. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

void check_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "E bug: %s:%d: expected %s; stopping, so that nothing more is acknowledged\n",
		file, line, condition);
	abort();
}
