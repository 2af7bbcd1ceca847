/* SPDX-License-Identifier: Apache-2.0 */
/* What a scope owns is freed when the scope is left; what is handed on leaves by TAKE_*. Never
 * for memory that an op in flight points to. errno is kept, so `return -errno` may stand anywhere. */
#ifndef HOLDFAST_AUTO_H
#define HOLDFAST_AUTO_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void auto_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void auto_free(void *pointer)
{
	free(*(void **)pointer);
}

static inline void auto_fclose(FILE **file)
{
	int saved = errno;

	if (*file)
		fclose(*file);
	errno = saved;
}

#define AUTO_CLOSE __attribute__((cleanup(auto_close)))
#define AUTO_FREE __attribute__((cleanup(auto_free)))
#define AUTO_FCLOSE __attribute__((cleanup(auto_fclose)))

#define TAKE_FD(fd) \
	({ \
		int taken_fd = (fd); \
		(fd) = -1; \
		taken_fd; \
	})
#define TAKE_POINTER(pointer) \
	({ \
		__typeof__(pointer) taken_pointer = (pointer); \
		(pointer) = NULL; \
		taken_pointer; \
	})

#endif
