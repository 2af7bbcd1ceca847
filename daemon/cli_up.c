/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the daemon, and waiting for its end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auto.h"
#include "cli.h"
#include "fuse_mountpoint.h"
#include "config_edit.h"

enum { PROMOTE_WAIT_SECONDS = 5 }; /* peers that start together have found each other by then */

/* Beside ourselves (a build directory), in ../sbin (installed), or wherever PATH says. */
static void daemon_find(char out[PATH_MAX])
{
	static const char *const places[] = { "holdfastd", "../sbin/holdfastd" };
	char ourselves[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", ourselves, sizeof ourselves - 32);
	char *slash;

	ourselves[len > 0 ? len : 0] = 0;
	slash = strrchr(ourselves, '/');
	for (unsigned i = 0; slash && i < 2; i++) {
		strcpy(slash + 1, places[i]);
		if (access(ourselves, X_OK) == 0) {
			strcpy(out, ourselves);
			return;
		}
	}
	strcpy(out, "holdfastd");
}

/* In the child: a session of its own, the log as its output. Comes back only with an error, which
 * the parent hears through @ready. */
static void daemon_exec(const struct cli *cli, const char *volume, int log, int ready)
{
	char program[PATH_MAX], number[16];
	const char *root = *cli->root ? cli->root : "/";
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	daemon_find(program);
	snprintf(number, sizeof number, "%d", ready);
	if (setsid() < 0 || null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 ||
	    chdir("/") < 0 || fcntl(ready, F_SETFD, 0) < 0) {
		dprintf(ready, "why: the daemon cannot be set up: %s\n", strerror(errno));
		return;
	}
	/* It need not fork once more: this process is the daemon, and its death is seen. */
	execlp(program, "holdfastd", "--foreground", "--root", root, "--ready-fd", number, volume,
	       (char *)NULL);
	dprintf(ready, "why: %s cannot be run: %s\n", program, strerror(errno));
}

/* "ready", or "why: SENTENCE", or nothing when the daemon died. */
static enum cli_exit daemon_wait(const char *volume, int ready, pid_t pid, const char *log)
{
	AUTO_FCLOSE FILE *from = fdopen(ready, "r");
	char line[WHY_BYTES + 16] = "";
	int status = 0;

	if (!from || !fgets(line, sizeof line, from))
		*line = 0;
	line[strcspn(line, "\n")] = 0;
	if (strcmp(line, "ready") == 0)
		return CLI_DONE;
	if (strncmp(line, "why: ", 5) == 0) {
		waitpid(pid, &status, 0);
		return cli_refuse_why(volume, line + 5);
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		return cli_refuse(
			"volume %s: the daemon died of signal %d before it was ready; see %s",
			volume, WTERMSIG(status), log);
	return cli_refuse("volume %s: the daemon ended with status %d before it was ready; see %s",
			  volume, WEXITSTATUS(status), log);
}

enum cli_exit cli_daemon_start(const struct cli *cli, const char *volume)
{
	char log_path[PATH_MAX + 128];
	int pipe_fds[2], res;
	pid_t pid;

	snprintf(log_path, sizeof log_path, "%s/var/log/holdfast/%s.log", cli->root, volume);
	res = parents_make(log_path);
	if (res < 0)
		return cli_refuse("volume %s: the log %s: %s", volume, log_path, strerror(-res));
	AUTO_CLOSE int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	if (log < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return cli_refuse("volume %s: the log %s: %s", volume, log_path, strerror(errno));
	AUTO_CLOSE int from = pipe_fds[0], to = pipe_fds[1];

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return cli_refuse("volume %s: fork: %s", volume, strerror(errno));
	if (pid == 0) {
		daemon_exec(cli, volume, log, to);
		_exit(127);
	}
	close(TAKE_FD(to));
	return daemon_wait(volume, TAKE_FD(from), pid, log_path);
}

enum cli_exit cli_up(struct cli *cli, int argc, char **argv)
{
	bool primary = false;
	const struct cli_option options[] = { { .name = "primary", .flag = &primary }, { 0 } };
	static struct config config;
	struct paths paths;
	const char *volume;
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	volume = cli->words[0];
	res = cli_paths(cli, volume, &paths);
	if (res == CLI_DONE)
		res = cli_config(&paths, volume, &config);
	if (res != CLI_DONE)
		return res;
	AUTO_CLOSE int running = cli_control_open(&paths);

	if (running >= 0)
		return cli_refuse(
			"volume %s: its daemon is running already; see: holdfast status %s", volume,
			volume);
	cli_detach_dead(volume, &paths);
	res = cli_daemon_start(cli, volume);
	if (res == CLI_DONE && primary)
		res = cli_promote_wait(cli, volume, false, PROMOTE_WAIT_SECONDS);
	return res;
}

/* A file descriptor of the daemon's process, or -errno. A pid would be another's by the time we
 * look. */
static int daemon_pidfd(int control)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	int fd;

	if (getsockopt(control, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	if (peer.pid <= 0)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	return fd < 0 ? -errno : fd;
}

static void daemon_end_wait(int pidfd, const struct paths *paths)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };

	if (pidfd >= 0) {
		while (poll(&end, 1, -1) < 0 && errno == EINTR)
			;
		return;
	}
	for (;;) {		/* another pid namespace: until nobody listens */
		AUTO_CLOSE int fd = cli_control_open(paths);

		if (fd == -ENOENT || fd == -ECONNREFUSED)
			return;
		usleep(50000);
	}
}

enum cli_exit cli_down(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };
	AUTO_JSON json_t *request = json_pack("{s:s}", "verb", "down"), *reply = NULL;
	char directory[PATH_MAX] = "";
	struct paths paths;
	const char *volume;
	enum cli_exit res;
	int error, attached;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	volume = cli->words[0];
	res = cli_paths(cli, volume, &paths);
	if (res != CLI_DONE)
		return res;
	AUTO_CLOSE int fd = cli_control_open(&paths);

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return cli_no_daemon(volume);
	attached = cli_attached(&paths);
	if (attached >= 0)
		return cli_refuse("volume %s: it is attached as /dev/loop%d, which would fail; "
				  "detach it first with: holdfast detach %s",
				  volume, attached, volume);
	AUTO_CLOSE int pidfd = fd < 0 ? -1 : daemon_pidfd(fd);
	AUTO_JSON json_t *ask = json_pack("{s:s}", "verb", "status"), *status = NULL;

	if (fd >= 0 && cli_control_ask(fd, ask, &status) == 0)
		snprintf(directory, sizeof directory, "%s", cli_json_text(json_object_get(status, "status"), "mount"));
	error = fd < 0 ? fd : cli_control_ask(fd, request, &reply);
	if (error < 0 && error != -EPIPE && error != -ECONNRESET)
		return cli_refuse("volume %s: the daemon at %s does not answer: %s", volume,
				  paths.control, strerror(-error));
	if (error == 0 && !json_is_true(json_object_get(reply, "ok")))
		return cli_refused_by_daemon(volume, reply);
	close(TAKE_FD(fd));
	daemon_end_wait(pidfd, &paths);
	/* What it was not allowed to unmount. */
	fuse_mountpoint_clear(paths.mount);
	if (*directory)
		fuse_mountpoint_clear(directory);
	if (*cli_json_text(reply, "why"))
		printf("%s\n", cli_json_text(reply, "why"));
	return CLI_DONE;
}
