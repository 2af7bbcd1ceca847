/* SPDX-License-Identifier: Apache-2.0 */
#include "background.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* In the parent: waits until the child is up or has failed (it has said why on stderr), and exits. */
static void parent_wait(int fd, int ready, int refused)
{
	char answer[8] = "";
	ssize_t len;

	do
		len = read(fd, answer, sizeof answer - 1);
	while (len < 0 && errno == EINTR);
	_exit(strncmp(answer, "ready", 5) == 0 ? ready : refused);
}

int background(int ready, int refused, int *told)
{
	int ends[2], null;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0 || (child = fork()) < 0)
		return -errno;
	if (child > 0) {
		close(ends[1]);
		parent_wait(ends[0], ready, refused);
	}
	close(ends[0]);
	*told = ends[1];
	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		close(null);
	}
	return 0;
}
