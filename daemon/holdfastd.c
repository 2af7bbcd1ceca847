/* SPDX-License-Identifier: Apache-2.0 */
/* holdfastd: one volume on one node. Its life, from top to bottom of this file:
 *
 *	main()			options, a process of its own, the config
 *	start()			replica files, ring, volume; then the volume opens
 *	start_opened()		front ends, control socket, pid file; "ready"
 *	(ring_run)		everything happens in callbacks of the ring
 *	stop_begin()		a signal, or `holdfast down`: no more calls
 *	stop_nbd_done()		NBD clients are gone
 *	stop_loop_done()	the loop front end is unmounted
 *	stop_mount_done()	the directory is unmounted
 *	stop_volume_closed()	the store is written
 *	stop_links_done()	no connection to a peer is left
 *	stop_nbd_links_done()	nor one to a client
 *	stop_control_done()	who asked for it has been told
 *	finish()		all memory and files are given back
 *
 * A start that fails leaves one line on stderr, and what is on disk as it was. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auto.h"
#include "background.h"
#include "certificates.h"
#include "checker.h"
#include "config.h"
#include "config_edit.h"
#include "config_text.h"
#include "control.h"
#include "identity.h"
#include "links.h"
#include "loop.h"
#include "mount.h"
#include "nbd.h"
#include "privilege.h"
#include "replica_files.h"
#include "ring.h"
#include "say.h"

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };
enum {
	NBD_MEMORY_BYTES = 64 << 20, LOOP_MEMORY_BYTES = 16 << 20,
	MOUNT_BUFFER_BYTES = 16 << 20, MOUNT_MEMORY_BYTES = 24 << 20,	/* with what knows of open files and requests */
	READY_FDS = 2
};

struct daemon {
	const char *root, *name;	/* of the command line */
	bool foreground;
	int ready_fds[READY_FDS];	/* who waits for us to be up: --ready-fd, and our parent; -1 = none */

	struct paths paths;
	struct config config;
	struct replica_files files;	/* until the ring owns them */
	struct ring *ring;
	struct io *io;
	struct identity *identity;	/* these three only when a peer has to prove who it is */
	struct x509_store_st *authority;	/* NULL: its fingerprint is all that counts */
	struct links *links;
	struct certificates *certificates;	/* these two only with nbd-tls */
	struct links *nbd_links;
	struct volume *volume;
	struct nbd_server *nbd;
	struct loop *loop;		/* NULL: not offered */
	struct mount *mount;		/* NULL: the volume has no filesystem */
	struct checker *checker;	/* NULL, too */
	struct control *control;
	struct volume_call call;	/* open, then close */
	struct io_op signal;
	int signal_fd;
	bool opened, stopping, pid_written;
	int close_result;		/* of volume_close() */
	int exit_code;
	char why[WHY_BYTES];
};

static const char usage[] =
	"usage: holdfastd [--root DIR] [--foreground] [--ready-fd N] VOLUME\n"
	"Serves one volume of this node, as ROOT/etc/holdfast/VOLUME.conf says.\n"
	"  --root DIR      use DIR/etc, DIR/var and DIR/run instead of the machine's own\n"
	"  --foreground    do not go to the background\n"
	"  --ready-fd N    write \"ready\" or \"why: ...\" to file descriptor N when it is decided\n";

static void stop_begin(struct daemon *d, const char *reason);

/* ---- telling who waits ---------------------------------------------------------------------------- */

static void ready_tell(struct daemon *d, const char *line)
{
	for (int i = 0; i < READY_FDS; i++) {
		if (d->ready_fds[i] < 0)
			continue;
		(void)!write(d->ready_fds[i], line, strlen(line));
		close(d->ready_fds[i]);
		d->ready_fds[i] = -1;
	}
}

/* The start has failed because of d->why. */
static int refuse(struct daemon *d)
{
	char line[WHY_BYTES + 16];

	fprintf(stderr, "E volume=%s %s\n", d->name, d->why);
	snprintf(line, sizeof line, "why: %s\n", d->why);
	ready_tell(d, line);
	d->exit_code = EXIT_REFUSED;
	return -1;
}

__attribute__((format(printf, 2, 3)))
static int refuse_why(struct daemon *d, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(d->why, sizeof d->why, format, args);
	va_end(args);
	return refuse(d);
}

/* ---- what the control server and the volume ask of us --------------------------------------------- */

static unsigned daemon_writers(void *context, char who[WHY_BYTES])
{
	struct daemon *d = context;
	unsigned clients = nbd_server_writers(d->nbd), opens = d->loop ? loop_writers(d->loop) : 0;

	/* %.0u of 0 is nothing */
	snprintf(who, WHY_BYTES, "%.0u%s%s%s", clients, clients == 1 ? " NBD client" : clients ? " NBD clients" : "",
		 clients && opens ? " and " : "", opens ? "the loop front end (a loop device or a program)" : "");
	return clients + opens;
}

static bool daemon_loop_offered(void *context)
{
	return ((struct daemon *)context)->loop != NULL;
}

static const char *daemon_mounted(void *context)
{
	return mount_directory(((struct daemon *)context)->mount);
}

static int daemon_mount(void *context, const char *directory, int fd, char why[WHY_BYTES])
{
	return mount_at(((struct daemon *)context)->mount, directory, fd, why);
}

static int daemon_loop_serve(void *context, int fd, char why[WHY_BYTES])
{
	AUTO_CLOSE int mounted = fd;
	struct daemon *d = context;

	if (d->loop) {
		snprintf(why, WHY_BYTES, "the loop front end is served already");
		return -EALREADY;
	}
	if (!d->config.loop) {
		snprintf(why, WHY_BYTES, "the config says loop = no; change it and start the daemon again");
		return -EOPNOTSUPP;
	}
	return loop_new(&d->loop, d->ring, d->volume, d->paths.mount, TAKE_FD(mounted), LOOP_MEMORY_BYTES, why);
}

static void daemon_umount(void *context, struct volume_call *call)
{
	int res = mount_leave(((struct daemon *)context)->mount, call);

	if (res < 0)
		call->done(call, res);
}

static int daemon_check(void *context, char why[WHY_BYTES])
{
	return checker_start(((struct daemon *)context)->checker, why);
}

static json_t *daemon_check_status(void *context)
{
	return checker_json(((struct daemon *)context)->checker);
}

static void daemon_down(void *context)
{
	stop_begin(context, "asked by `holdfast down`");
}

static void daemon_role_changed(void *context, enum volume_role role)
{
	struct daemon *d = context;

	(void)role;
	nbd_server_role_changed(d->nbd);
	if (d->loop)
		loop_role_changed(d->loop);
	if (d->mount)
		mount_role_changed(d->mount);
}

/* ---- signals --------------------------------------------------------------------------------------- */

static void signal_came(struct io_op *op, int64_t result)
{
	struct daemon *d = container_of(op, struct daemon, signal);
	struct signalfd_siginfo info;
	char reason[64];

	if (result < 0)
		return;
	if (read(d->signal_fd, &info, sizeof info) == sizeof info) {
		snprintf(reason, sizeof reason, "SIG%s from process %u", sigabbrev_np((int)info.ssi_signo),
			 info.ssi_pid);
		stop_begin(d, reason);
	}
	d->io->submit(d->io, op);
}

/* Blocked before there is a thread, so that no other thread gets them. */
static int signals_block(sigset_t *set)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	return sigprocmask(SIG_BLOCK, set, NULL);
}

static int signals_watch(struct daemon *d)
{
	sigset_t set;

	if (signals_block(&set) < 0)
		return -errno;
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signal_fd < 0)
		return -errno;
	d->signal = (struct io_op){ .kind = IO_POLL, .done = signal_came };
	d->signal.file = ring_file_add(d->ring, d->signal_fd);
	if (d->signal.file < 0)
		return d->signal.file;
	d->io->submit(d->io, &d->signal);
	return 0;
}

/* ---- start ----------------------------------------------------------------------------------------- */

/* A volume's daemon must not wait for memory that only its own writes could free: it is kept in memory, and
 * the kernel is told that we write out others' dirty pages. Both are wishes; plain users have none. */
static void process_prepare(const struct daemon *d)
{
	char name[16];

	snprintf(name, sizeof name, "holdfastd:%s", d->name);
	(void)!prctl(PR_SET_NAME, name);
	(void)!prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	privilege_begin();
	if (privilege_locks())
		(void)!mlockall(MCL_CURRENT | MCL_FUTURE);
}

static int run_directory_make(struct daemon *d)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s", d->paths.run);
	for (char *at = path + 1; ; at++) {
		char was = *at;

		if (was != '/' && was != '\0')
			continue;
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return refuse_why(d, "directory %s: cannot be made: %s; make it, or use --root", path,
					  strerror(errno));
		*at = was;
		if (was == '\0')
			return 0;
	}
}

/* All files are open. Each thread, the kernel's for the ring too, keeps what it began with: so before there is one. */
static void privileges_drop(struct daemon *d)
{
	int res = privilege_drop(d->config.loop || d->config.volume.filesystem);

	if (res < 0)
		fprintf(stderr, "W volume=%s privileges: cannot be given up (%s); the daemon keeps what it has\n",
			d->name, strerror(-res));
}

static int ring_start(struct daemon *d)
{
	struct ring_config config = { .sqpoll = d->config.sqpoll };
	int res = ring_new(&d->ring, &config);

	if (res == -ENOSYS || res == -EPERM)
		return refuse_why(d, "io_uring: %s; use Linux 5.11 or newer and allow it (sysctl "
				  "kernel.io_uring_disabled, the container's seccomp filter)", strerror(-res));
	if (res < 0)
		return refuse_why(d, "io_uring: %s; free memory or raise RLIMIT_MEMLOCK (ulimit -l)", strerror(-res));
	d->io = ring_io(d->ring);
	return 0;
}

/* `memory` is for all of it: what the front ends take is not the volume's. */
static void memory_divide(struct daemon *d)
{
	uint64_t others = NBD_MEMORY_BYTES + (d->config.loop ? LOOP_MEMORY_BYTES : 0) +
			  (d->config.volume.filesystem ? MOUNT_MEMORY_BYTES : 0) +
			  links_memory_bytes(&d->config.volume) +
			  (*d->config.nbd_tls ? links_server_memory_bytes() : 0);

	CHECK(d->config.volume.memory_bytes >= MEMORY_BYTES_MIN && others < MEMORY_BYTES_MIN);
	d->config.volume.memory_bytes -= others;
}

/* In the clear there is no telling who is there: the operator is told each time. */
static void plaintext_warn(struct daemon *d)
{
	for (unsigned i = 0; i < d->config.volume.peer_count; i++)
		if (!peer_config_encrypted(&d->config.volume.peers[i]))
			say(d->io, IO_WARNING, "volume=%s peer=%s the link to %s is not encrypted (insecure-loopback): "
			    "programs on this machine can read it and be that peer; give both nodes each other's "
			    "fingerprint (holdfast identity %s)", d->name, d->config.volume.peers[i].name,
			    d->config.volume.peers[i].address, d->name);
}

static void socket_address(void *context, int socket, char out[ADDRESS_BYTES])
{
	ring_socket_address(context, socket, out);
}

/* The io that the volume gets. */
static int links_start(struct daemon *d)
{
	const struct geometry *geometry = &d->config.volume.geometry;
	struct links_config config = { .volume = &d->config.volume, .address = socket_address, .context = d->ring };

	if (!links_needed(&d->config.volume))
		return 0;
	if (identity_load(&d->identity, d->paths.state, geometry->node, *d->config.ca ? NULL : geometry->uuid,
			  d->why) < 0 ||
	    (*d->config.ca && authority_load(&d->authority, d->config.ca, d->why) < 0))
		return refuse(d);
	config.identity = d->identity;
	config.authority = d->authority;
	return links_new(&d->links, d->io, &config, d->why) < 0 ? refuse(d) : 0;
}

/* The io that the NBD server gets. */
static int nbd_links_start(struct daemon *d)
{
	struct links_config config = { .volume = &d->config.volume, .address = socket_address, .context = d->ring };

	if (!*d->config.nbd_tls)
		return 0;
	if (certificates_load(&d->certificates, d->config.nbd_tls, d->why) < 0)
		return refuse(d);
	config.server = d->certificates;
	return links_new(&d->nbd_links, d->io, &config, d->why) < 0 ? refuse(d) : 0;
}

static int nbd_secure(void *context, int socket)
{
	return links_secure(context, socket);
}

static int files_give(struct daemon *d)
{
	int *fds[REPLICA_FILES], *ids[REPLICA_FILES];

	replica_files_list(&d->files, &d->config.volume, fds, ids);
	for (int i = 0; i < REPLICA_FILES; i++) {
		*ids[i] = ring_file_add(d->ring, *fds[i]);
		if (*ids[i] < 0)
			return refuse_why(d, "replica files: %s; report a bug", strerror(-*ids[i]));
		*fds[i] = -1;
	}
	return 0;
}

static int front_ends_new(struct daemon *d)
{
	struct control_config control = {
		.volume = d->volume, .status = volume_status,
		.calls = {
			[CONTROL_PROMOTE] = volume_promote, [CONTROL_DEMOTE] = volume_demote,
			[CONTROL_FAILOVER] = volume_failover, [CONTROL_SWITCHOVER] = volume_switchover,
			[CONTROL_RECONNECT] = volume_reconnect, [CONTROL_RESOLVE] = volume_resolve,
			[CONTROL_VERIFY] = volume_verify, [CONTROL_DIVERGENCE_DROP] = volume_divergence_drop,
			[CONTROL_WAIT] = volume_wait,
		},
		.context = d, .writers = daemon_writers, .loop_offered = daemon_loop_offered,
		.loop_serve = daemon_loop_serve, .down = daemon_down,
		.mount_file = d->paths.mount_file,
	};
	struct io *nbd_io = d->nbd_links ? links_io(d->nbd_links) : d->io;
	int res = nbd_server_new(&d->nbd, nbd_io, d->volume, d->name, NBD_MEMORY_BYTES);

	if (res == 0 && d->nbd_links)
		nbd_server_offer_tls(d->nbd, nbd_secure, d->nbd_links);
	if (res == 0 && d->config.volume.filesystem) {
		if (mount_new(&d->mount, d->ring, d->volume, MOUNT_BUFFER_BYTES, d->why) < 0)
			return refuse(d);
		volume_on_applied(d->volume, mount_applied, d->mount);
		control.mounted = daemon_mounted;
		control.mount = daemon_mount;
		control.umount = daemon_umount;
		control.check = daemon_check;
		control.check_status = daemon_check_status;
		control.df = usage_ask;
		res = checker_new(&d->checker, d->io, d->volume, d->name, CHECK_KEPT_BLOCKS);
	}
	if (res == 0)
		res = control_new(&d->control, d->ring, &control);
	if (res < 0)
		return refuse_why(d, "front ends: %s; free memory and start again", strerror(-res));
	volume_on_role(d->volume, daemon_role_changed, d);
	return 0;
}

static void start_opened(struct volume_call *call, int result);

/* Everything that can be refused before the first byte of the replica is read. */
static int start(struct daemon *d)
{
	int res;

	process_prepare(d);
	if (replica_files_open(&d->files, &d->config, d->why) < 0)
		return refuse(d);
	if (run_directory_make(d) < 0)
		return -1;
	privileges_drop(d);
	if (ring_start(d) < 0 || files_give(d) < 0)
		return -1;
	if (d->files.buffered)
		say(d->io, IO_WARNING, "volume=%s replica: its filesystem has no direct I/O; goes on through the "
		    "page cache, slower", d->name);
	res = signals_watch(d);
	if (res < 0)
		return refuse_why(d, "signals: %s; report a bug", strerror(-res));
	memory_divide(d);
	plaintext_warn(d);
	if (links_start(d) < 0 || nbd_links_start(d) < 0)
		return -1;
	if (volume_new(&d->volume, d->links ? links_io(d->links) : d->io, &d->config.volume, d->why) < 0)
		return refuse(d);
	if (front_ends_new(d) < 0)
		return -1;
	d->call.done = start_opened;
	volume_open(d->volume, &d->call);
	return 0;
}

static void loop_start(struct daemon *d)
{
	char why[WHY_BYTES] = "";

	if (!d->config.loop)
		return;
	if (!privilege_mounts()) {
		say(d->io, IO_INFO, "volume=%s loop front end: this daemon may not mount; `holdfast attach` does it, "
		    "as root", d->name);
		return;
	}
	if (loop_new(&d->loop, d->ring, d->volume, d->paths.mount, -1, LOOP_MEMORY_BYTES, why) == 0)
		return;
	d->loop = NULL;
	say(d->io, IO_WARNING, "volume=%s loop front end is off: %s; NBD and replication go on", d->name, why);
}

static void mount_start(struct daemon *d)
{
	char why[WHY_BYTES];

	if (!d->mount)
		return;
	mount_role_changed(d->mount);
	if (*d->config.mount && privilege_mounts() && mount_at(d->mount, d->config.mount, -1, why) < 0)
		say(d->io, IO_WARNING, "volume=%s directory %s: is not mounted: %s; the volume goes on without; mount "
		    "it with: holdfast mount %s %s", d->name, d->config.mount, why, d->name, d->config.mount);
}

static int nbd_start(struct daemon *d, const char *address)
{
	int res = nbd_server_listen(d->nbd, address);

	if (res == 0)
		return 0;
	return refuse_why(d, "nbd %s: %s; %s", address, strerror(-res), res == -EADDRINUSE ?
			  "choose another address in the config, or stop who listens there" :
			  "correct the address in the config");
}

static int listens_start(struct daemon *d)
{
	char address[PATH_MAX + 8];
	int res;

	snprintf(address, sizeof address, "unix:%s", d->paths.nbd);
	if (nbd_start(d, address) < 0)
		return -1;
	for (unsigned i = 0; i < d->config.nbd_count; i++)
		if (nbd_start(d, d->config.nbd[i]) < 0)
			return -1;
	snprintf(address, sizeof address, "unix:%s", d->paths.control);
	res = control_listen(d->control, address);
	if (res < 0)
		return refuse_why(d, "control socket %s: %s; %s", d->paths.control, strerror(-res),
				  res == -EADDRINUSE ? "somebody else answers there, or it is no socket: remove it" :
				  res == -EINVAL ? "the path is longer than 107 bytes: use a shorter --root" :
						   "correct the directory's permissions");
	return 0;
}

static int pid_write(struct daemon *d)
{
	FILE *file = fopen(d->paths.pid, "we");

	if (!file || fprintf(file, "%d\n", getpid()) < 0) {
		int res = errno;

		if (file)
			fclose(file);
		return refuse_why(d, "pid file %s: %s; make room or correct permissions", d->paths.pid,
				  strerror(res));
	}
	d->pid_written = true;
	if (fclose(file) != 0)
		return refuse_why(d, "pid file %s: %s; make room", d->paths.pid, strerror(errno));
	return 0;
}

/* The volume is readable. A signal that came meanwhile is obeyed now. */
static void start_opened(struct volume_call *call, int result)
{
	struct daemon *d = container_of(call, struct daemon, call);

	if (result < 0) {
		snprintf(d->why, sizeof d->why, "%s", call->why);
		refuse(d);
		ring_stop(d->ring);
		return;
	}
	d->opened = true;
	if (d->stopping) {
		refuse_why(d, "stopped before it was up, by a signal; start it again");
		d->stopping = false;
		stop_begin(d, "the start was interrupted");
		return;
	}
	if (listens_start(d) < 0 || pid_write(d) < 0) {
		stop_begin(d, "the start has failed");
		return;
	}
	loop_start(d);
	mount_start(d);
	say(d->io, IO_INFO, "volume=%s node=%s up (version %s): control socket %s", d->name,
	    d->config.volume.geometry.node, HOLDFAST_VERSION, d->paths.control);
	ready_tell(d, "ready\n");
}

/* ---- stop ------------------------------------------------------------------------------------------ */

static void stop_nbd_done(void *context);
static void stop_loop_done(void *context);
static void stop_mount_done(void *context);
static void stop_volume_closed(struct volume_call *call, int result);
static void stop_links_done(void *context);
static void stop_nbd_links_done(void *context);
static void stop_control_done(void *context);

static void stop_begin(struct daemon *d, const char *reason)
{
	if (d->stopping)
		return;
	d->stopping = true;
	control_refuse_calls(d->control);
	say(d->io, IO_INFO, "volume=%s stopping: %s", d->name, reason);
	if (d->opened)		/* else start_opened() comes back here */
		nbd_server_stop(d->nbd, stop_nbd_done, d);
}

static void stop_nbd_done(void *context)
{
	struct daemon *d = context;

	if (d->loop)
		loop_stop(d->loop, stop_loop_done, d);
	else
		stop_loop_done(d);
}

static void stop_loop_done(void *context)
{
	struct daemon *d = context;

	if (d->mount)
		mount_stop(d->mount, stop_mount_done, d);
	else
		stop_mount_done(d);
}

static void stop_mount_done(void *context)
{
	struct daemon *d = context;

	if (d->checker)
		checker_stop(d->checker);
	d->call = (struct volume_call){ .done = stop_volume_closed };
	volume_close(d->volume, &d->call);
}

static void stop_volume_closed(struct volume_call *call, int result)
{
	struct daemon *d = container_of(call, struct daemon, call);

	if (result < 0) {
		d->exit_code = EXIT_REFUSED;
		say(d->io, IO_ERROR, "volume=%s store lacks what only the journal has: %s; the next start replays it",
		    d->name, call->why[0] ? call->why : strerror(-result));
	}
	d->close_result = result;
	if (d->links)
		links_stop(d->links, stop_links_done, d);
	else
		stop_links_done(d);
}

static void stop_links_done(void *context)
{
	struct daemon *d = context;

	if (d->nbd_links)
		links_stop(d->nbd_links, stop_nbd_links_done, d);
	else
		stop_nbd_links_done(d);
}

static void stop_nbd_links_done(void *context)
{
	struct daemon *d = context;

	control_stop(d->control, d->close_result, d->call.why, stop_control_done, d);
}

static void stop_control_done(void *context)
{
	struct daemon *d = context;

	say(d->io, IO_INFO, "volume=%s stopped", d->name);
	ring_stop(d->ring);
}

/* After a stop, and after a start that got only half way. */
static void finish(struct daemon *d)
{
	int *fds[REPLICA_FILES], *ids[REPLICA_FILES];

	replica_files_list(&d->files, &d->config.volume, fds, ids);
	if (d->pid_written)
		unlink(d->paths.pid);
	control_free(d->control);
	if (d->loop)
		loop_free(d->loop);
	mount_free(d->mount);
	checker_free(d->checker);
	if (d->nbd)
		nbd_server_free(d->nbd);
	if (d->volume)
		volume_free(d->volume);
	links_free(d->nbd_links);
	certificates_free(d->certificates);
	links_free(d->links);
	authority_free(d->authority);
	identity_free(d->identity);
	for (int i = 0; i < REPLICA_FILES; i++)
		if (d->ring && *ids[i] >= 0)
			ring_file_remove(d->ring, *ids[i]);
	replica_files_close(&d->files);
	ring_free(d->ring);
}

/* ---- main ------------------------------------------------------------------------------------------ */

/* 0, or the exit code + 1. */
static int options_read(struct daemon *d, int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' }, { "foreground", no_argument, NULL, 'f' },
		{ "ready-fd", required_argument, NULL, 'n' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { 0 },
	};
	char *end;
	long fd;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'r':
			d->root = optarg;
			break;
		case 'f':
			d->foreground = true;
			break;
		case 'n':
			fd = strtol(optarg, &end, 10);
			if (*end || end == optarg || fd < 0 || fd > 1 << 20 ||
			    fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
				fprintf(stderr, "holdfastd: --ready-fd %s: is no open file descriptor\n", optarg);
				return EXIT_USAGE + 1;
			}
			d->ready_fds[0] = (int)fd;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_DONE + 1;
		case 'V':
			printf("holdfastd %s\n", HOLDFAST_VERSION);
			return EXIT_DONE + 1;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE + 1;
		}
	}
	if (optind != argc - 1) {
		fputs(usage, stderr);
		return EXIT_USAGE + 1;
	}
	d->name = argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	static struct daemon daemon = {
		.root = "", .ready_fds = { -1, -1 }, .signal_fd = -1,
		.config.volume = { .store = -1, .journal = -1, .meta = -1, .bitmap = -1,
				   .undo = { [0 ... UNDO_SLOTS - 1] = -1 } },
	};
	struct daemon *d = &daemon;
	int res = options_read(d, argc, argv);

	d->files = REPLICA_FILES_CLOSED;
	if (res > 0)
		return res - 1;
	umask(077);
	if (paths_of(&d->paths, d->root, d->name, d->why) < 0 ||
	    config_read(&d->config, &d->paths, d->name, d->why) < 0 ||
	    config_links_check(&d->config, d->why) < 0) {
		refuse(d);
		return d->exit_code;
	}
	if (!d->foreground)
		res = background(EXIT_DONE, EXIT_REFUSED, &d->ready_fds[1]);
	if (res < 0) {
		refuse_why(d, "background: %s; use --foreground", strerror(-res));
		return d->exit_code;
	}
	if (start(d) == 0)
		ring_run(d->ring);
	finish(d);
	return d->exit_code;
}
