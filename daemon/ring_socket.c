/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of the ring: what an address text means, how to listen, and how a connection begins.
 * Addresses are numbers: a name service could block the one thread that everything runs on. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bounds.h"
#include "ring_parts.h"

enum { LISTEN_BACKLOG = 128 };	/* more than CLIENTS_MAX may dial in one turn of the loop */

static int address_parse_unix(const char *path, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_un *at = (struct sockaddr_un *)out;

	if (*path == '\0' || strlen(path) >= sizeof at->sun_path)
		return -EINVAL;
	at->sun_family = AF_UNIX;
	strcpy(at->sun_path, path);
	*len = sizeof *at;
	return 0;
}

static int address_parse_inet6(char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_in6 *at = (struct sockaddr_in6 *)out;
	char *zone = strchr(host, '%');

	if (zone) {
		*zone++ = '\0';
		at->sin6_scope_id = if_nametoindex(zone);
		if (at->sin6_scope_id == 0)
			return -EINVAL;
	}
	if (inet_pton(AF_INET6, host, &at->sin6_addr) != 1)
		return -EINVAL;
	at->sin6_family = AF_INET6;
	at->sin6_port = htons(port);
	*len = sizeof *at;
	return 0;
}

static int address_parse_inet4(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_in *at = (struct sockaddr_in *)out;

	if (inet_pton(AF_INET, host, &at->sin_addr) != 1)
		return -EINVAL;
	at->sin_family = AF_INET;
	at->sin_port = htons(port);
	*len = sizeof *at;
	return 0;
}

/* "127.0.0.1:7701", "[::1]:7701", "[fe80::1%eth0]:7701", "unix:PATH"; -EINVAL for anything else. */
static int address_parse(const char *text, struct sockaddr_storage *out, socklen_t *len)
{
	char host[ADDRESS_BYTES], *colon, *end;
	unsigned long port;

	memset(out, 0, sizeof *out);
	if (!text)
		return -EINVAL;
	if (strncmp(text, "unix:", 5) == 0)
		return address_parse_unix(text + 5, out, len);
	if (strlen(text) >= sizeof host)
		return -EINVAL;
	strcpy(host, text);
	colon = strrchr(host, ':');
	if (!colon || colon == host || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	port = strtoul(colon + 1, &end, 10);
	if (*end || port > UINT16_MAX)
		return -EINVAL;
	*colon = '\0';
	if (host[0] != '[')
		return address_parse_inet4(host, (uint16_t)port, out, len);
	if (colon[-1] != ']')
		return -EINVAL;
	colon[-1] = '\0';
	return address_parse_inet6(host + 1, (uint16_t)port, out, len);
}

/* Small frames must not wait for the answer to the last one. No keepalive: the engine pings. */
static void socket_tune(int fd, sa_family_t family)
{
	const int on = 1;

	if (family != AF_UNIX)
		(void)!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int socket_add(struct ring *ring, int fd)
{
	int id = ring_file_add(ring, fd);

	if (id >= 0)
		ring_file_find(ring, id)->socket = true;
	return id;
}

/* ---- listen ---- */

/* A daemon that was killed leaves its socket file; nobody answers on that one. -EADDRINUSE when somebody
 * does, or when the path is something else than a socket. */
static int stale_remove(const struct sockaddr_un *at)
{
	struct stat st;
	int fd, res;

	if (lstat(at->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	res = connect(fd, (const struct sockaddr *)at, sizeof *at) < 0 ? -errno : 0;
	close(fd);
	if (res != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(at->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The mode is set before bind(), so that there is no moment at which others may connect. */
static int bind_unix(int fd, const struct sockaddr_un *at)
{
	int res;

	if (fchmod(fd, 0600) < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)at, sizeof *at) < 0) {
		if (errno != EADDRINUSE)
			return -errno;
		res = stale_remove(at);
		if (res < 0)
			return res;
		if (bind(fd, (const struct sockaddr *)at, sizeof *at) < 0)
			return -errno;
	}
	return chmod(at->sun_path, 0600) < 0 ? -errno : 0;
}

static int bind_inet(int fd, const struct sockaddr_storage *at, socklen_t len)
{
	const int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
		return -errno;
	if (at->ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0)
		return -errno;
	return bind(fd, (const struct sockaddr *)at, len) < 0 ? -errno : 0;
}

int ring_listen(struct io *io, const char *address, int *socket_out)
{
	struct ring *ring = container_of(io, struct ring, io);
	struct sockaddr_storage at;
	struct ring_file *file;
	socklen_t len;
	int fd, id, res = address_parse(address, &at, &len);

	if (res < 0)
		return res;
	fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (at.ss_family == AF_UNIX)
		res = bind_unix(fd, (const struct sockaddr_un *)&at);
	else
		res = bind_inet(fd, &at, len);
	if (res == 0 && listen(fd, LISTEN_BACKLOG) < 0)
		res = -errno;
	id = res < 0 ? res : socket_add(ring, fd);
	if (id < 0) {
		close(fd);
		return id;
	}
	file = ring_file_find(ring, id);
	file->address = at;
	file->unlink = at.ss_family == AF_UNIX;
	*socket_out = id;
	return 0;
}

/* ---- connections ---- */

int ring_accepted(struct ring *ring, int fd)
{
	struct sockaddr_storage local = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof local;
	int id;

	(void)!getsockname(fd, (struct sockaddr *)&local, &len);
	socket_tune(fd, local.ss_family);
	id = socket_add(ring, fd);
	if (id < 0)
		close(fd);
	return id;
}

int ring_dial(struct ring *ring, struct io_op *op)
{
	struct sockaddr_storage at;
	struct ring_file *file;
	socklen_t len;
	int fd, id, res = address_parse(op->address, &at, &len);

	if (res < 0)
		return res;
	fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	socket_tune(fd, at.ss_family);
	id = socket_add(ring, fd);
	if (id < 0) {
		close(fd);
		return id;
	}
	file = ring_file_find(ring, id);
	file->address = at;
	file->address_len = len;
	ring_op_attach(ring, op, file);
	return 0;
}

/* A dial to a local port that nobody listens on may get that very port for its own end, and TCP then connects
 * the socket with itself. */
static bool connected_to_itself(int fd)
{
	struct sockaddr_storage local, remote;
	socklen_t local_len = sizeof local, remote_len = sizeof remote;

	memset(&local, 0, sizeof local);
	memset(&remote, 0, sizeof remote);
	if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&remote, &remote_len) < 0)
		return false;
	return local.ss_family != AF_UNIX && local_len == remote_len && memcmp(&local, &remote, local_len) == 0;
}

int ring_dialed(struct ring *ring, struct ring_file *file, int res)
{
	if (res == 0 && connected_to_itself(file->fd))
		res = -ECONNREFUSED;
	if (res == 0)
		return ring_file_id(ring, file);
	file->closing = true;	/* the slot goes when the dial is detached from it */
	return res;
}

/* Nobody proves anything here. */
const char *ring_socket_node(struct io *io, int socket)
{
	(void)io;
	(void)socket;
	return "";
}

void ring_socket_address(struct ring *ring, int socket, char out[ADDRESS_BYTES])
{
	struct ring_file *file = ring_file_find(ring, socket);
	char host[NI_MAXHOST], port[NI_MAXSERV];
	struct sockaddr_storage at;
	socklen_t len = sizeof at;

	if (!file || getpeername(file->fd, (struct sockaddr *)&at, &len) < 0 || at.ss_family == AF_UNIX ||
	    getnameinfo((struct sockaddr *)&at, len, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(out, ADDRESS_BYTES, "somewhere");
	else
		snprintf(out, ADDRESS_BYTES, at.ss_family == AF_INET6 ? "[%.100s]:%.6s" : "%.100s:%.6s", host, port);
}

int ring_socket_peer_uid(struct ring *ring, int socket, uid_t *uid)
{
	struct ring_file *file = ring_file_find(ring, socket);
	struct sockaddr_storage local = { .ss_family = AF_UNSPEC };
	struct ucred peer;
	socklen_t len = sizeof local;

	if (!file)
		return -EBADF;
	if (getsockname(file->fd, (struct sockaddr *)&local, &len) < 0)
		return -errno;
	if (local.ss_family != AF_UNIX)
		return -EOPNOTSUPP;
	len = sizeof peer;
	if (getsockopt(file->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	*uid = peer.uid;
	return 0;
}

ssize_t ring_socket_receive(struct ring *ring, int socket, void *bytes, size_t len, int *fd)
{
	struct ring_file *file = ring_file_find(ring, socket);
	union { struct cmsghdr header; uint8_t bytes[CMSG_SPACE(4 * sizeof(int))]; } control;
	struct iovec part = { bytes, len };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof control };
	ssize_t res;

	*fd = -1;
	if (!file)
		return -EBADF;
	do
		res = recvmsg(file->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (res < 0 && errno == EINTR);
	if (res < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int one;

			memcpy(&one, CMSG_DATA(c) + at, sizeof one);
			if (*fd < 0)
				*fd = one;
			else
				close(one);
		}
	}
	return res;
}
