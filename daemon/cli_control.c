/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket, from the asking side: one line of JSON there, one back. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "auto.h"
#include "cli.h"

enum { REPLY_BYTES_MAX = 1 << 20 };	/* a status with all peers has less than 16 KiB */

int cli_control_open(const struct paths *paths)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	if (strlen(paths->control) >= sizeof at.sun_path)
		return -ENAMETOOLONG;
	strcpy(at.sun_path, paths->control);
	if (connect(fd, (const struct sockaddr *)&at, sizeof at) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* @file goes with the first of it; -1: none. */
static ssize_t part_send(int fd, const char *line, size_t len, int file)
{
	union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control = {
		.header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS },
	};
	struct iovec part = { (char *)line, len };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (file >= 0) {
		memcpy(CMSG_DATA(&control.header), &file, sizeof file);
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static int line_send(int fd, const char *line, size_t len, int file)
{
	while (len > 0) {
		ssize_t sent = part_send(fd, line, len, file);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		line += sent;
		len -= (size_t)sent;
		file = -1;
	}
	return 0;
}

/* *line is the caller's, with a 0 in the newline's place. */
static int line_receive(int fd, char **line)
{
	AUTO_FREE char *text = malloc(REPLY_BYTES_MAX);
	size_t len = 0;

	if (!text)
		return -ENOMEM;
	while (len < REPLY_BYTES_MAX) {
		ssize_t got = recv(fd, text + len, REPLY_BYTES_MAX - len, 0);
		char *end;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EPIPE;
		end = memchr(text + len, '\n', (size_t)got);
		len += (size_t)got;
		if (end) {
			*end = 0;
			*line = TAKE_POINTER(text);
			return 0;
		}
	}
	return -EPROTO;
}

static int ask(int fd, const json_t *request, int file, json_t **reply)
{
	AUTO_FREE char *question = json_dumps(request, JSON_COMPACT), *answer = NULL;
	int res = question ? line_send(fd, question, strlen(question), file) : -ENOMEM;

	if (res == 0)
		res = line_send(fd, "\n", 1, -1);
	if (res == 0)
		res = line_receive(fd, &answer);
	if (res < 0)
		return res;
	*reply = json_loads(answer, 0, NULL);
	if (!json_is_object(*reply)) {
		json_decref(*reply);
		*reply = NULL;
		return -EPROTO;
	}
	return 0;
}

int cli_control_ask(int fd, const json_t *request, json_t **reply)
{
	return ask(fd, request, -1, reply);
}

enum cli_exit cli_no_daemon(const char *volume)
{
	cli_refuse("volume %s: no daemon is running; start it with: holdfast up %s", volume,
		   volume);
	return CLI_NO_DAEMON;
}

/* The daemon says "volume is ..." or "volume db0: ..." or speaks of something else, a peer say. */
enum cli_exit cli_refuse_why(const char *volume, const char *why)
{
	size_t len = strlen(volume);

	if (strncmp(why, "volume", 6) != 0 || (why[6] != ' ' && why[6] != '='))
		return cli_refuse("volume %s: %s", volume, why);
	if (strncmp(why + 7, volume, len) == 0 && (why[7 + len] == ' ' || why[7 + len] == ':'))
		return cli_refuse("volume %s", why + 7);
	return cli_refuse("volume %s %s", volume, why + 7);
}

enum cli_exit cli_refused_by_daemon(const char *volume, const json_t *reply)
{
	const char *why = cli_json_text(reply, "why"), *error = cli_json_text(reply, "error");

	if (!*why)
		return cli_refuse("volume %s: refused without a reason (%s)", volume,
				  *error ? error : "no error");
	return cli_refuse_why(volume, why);
}

enum cli_exit cli_ask_with_file(const struct cli *cli, const char *volume, json_t *request, int file, json_t **out)
{
	AUTO_JSON json_t *question = request, *reply = NULL;
	AUTO_CLOSE int fd = -1;
	struct paths paths;
	enum cli_exit res = cli_paths(cli, volume, &paths);
	int error;

	if (res != CLI_DONE)
		return res;
	fd = cli_control_open(&paths);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return cli_no_daemon(volume);
	error = fd < 0 ? fd : ask(fd, question, file, &reply);
	if (error < 0)
		return cli_refuse("volume %s: the daemon at %s does not answer: %s", volume,
				  paths.control, strerror(-error));
	if (!json_is_true(json_object_get(reply, "ok")))
		return cli_refused_by_daemon(volume, reply);
	if (out)
		*out = TAKE_POINTER(reply);
	return CLI_DONE;
}

enum cli_exit cli_ask(const struct cli *cli, const char *volume, json_t *request, json_t **out)
{
	return cli_ask_with_file(cli, volume, request, -1, out);
}

enum cli_exit cli_tell(const struct cli *cli, const char *volume, json_t *request)
{
	AUTO_JSON json_t *reply = NULL;
	enum cli_exit res = cli_ask(cli, volume, request, &reply);

	if (res == CLI_DONE && *cli_json_text(reply, "why"))
		printf("%s\n", cli_json_text(reply, "why"));
	return res;
}

const char *cli_json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

double cli_json_number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}
