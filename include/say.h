/* SPDX-License-Identifier: Apache-2.0 */
/* One line to the operator: subject first, then what changed, why, and what happens next; numbers with
 * units; said once, at the one place that knows. */
#ifndef HOLDFAST_SAY_H
#define HOLDFAST_SAY_H

#include <stdarg.h>
#include <stdio.h>

#include "io.h"

__attribute__((format(printf, 3, 4)))
static inline void say(struct io *io, enum io_level level, const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	io->log(io, level, line);
}

#endif
