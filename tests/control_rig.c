/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"
#include "control_rig.h"
#include "status_json.h"

enum { MILLISECOND = 1000000 };

/* The engine's and config's own take their place where they are linked. */
__attribute__((weak)) const char *replication_mode_name(enum replication_mode mode)
{
	return &"A\0B\0C\0D"[2 * mode];
}

__attribute__((weak)) const char *volume_role_name(enum volume_role role)
{
	return role == ROLE_PRIMARY ? "primary" : "secondary";
}

__attribute__((weak)) void uuid_text(const uint8_t uuid[UUID_BYTES], char out[37])
{
	for (int i = 0, at = 0; i < UUID_BYTES; i++)
		at += sprintf(out + at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

static struct fake *fake_of(struct volume *v) { return (struct fake *)(void *)v; }

static void fake_answered(struct io_op *op, int64_t result)
{
	struct fake *f = container_of(op, struct fake, answer);

	(void)result;
	snprintf(f->call->why, WHY_BYTES, f->answer_result ? "peer b: is primary; demote it there first" : "");
	f->call->done(f->call, f->answer_result);
}

static void fake_call(struct volume *v, struct volume_call *call, enum control_call which)
{
	struct fake *f = fake_of(v);

	f->calls++;
	f->called = which;
	f->call = call;
	f->answer = (struct io_op){ .kind = IO_TIMER, .offset = f->answer_late ? 50 * MILLISECOND : 0,
				    .done = fake_answered };
	f->io->submit(f->io, &f->answer);
}

static void fake_promote(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_PROMOTE); }
static void fake_demote(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_DEMOTE); }
static void fake_failover(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_FAILOVER); }
static void fake_switchover(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_SWITCHOVER); }
static void fake_reconnect(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_RECONNECT); }

static void fake_resolve(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_RESOLVE); }
static void fake_verify(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_VERIFY); }
static void fake_wait(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_WAIT); }
static void fake_drop(struct volume *v, struct volume_call *c) { fake_call(v, c, CONTROL_DIVERGENCE_DROP); }

static void fake_status(struct volume *v, struct volume_status *out)
{
	memset(out, 0, sizeof *out);
	out->role = fake_of(v)->role;
	out->open = true;
	strcpy(out->name, "db0");
	strcpy(out->geometry.node, "a");
	out->geometry.volume_bytes = 1ull << 40;
	out->lsn_end = 4711;
	out->lsn_floor = 42;
	out->resync = (struct volume_resync_status){ .running = true, .bytes_total = 100, .bytes_done = 42,
						     .eta_ns = UINT64_MAX };
	strcpy(out->resync_source, "b");
	out->divergence_count = 1;
	out->divergences[0] = (struct volume_divergence_status){ .id = 0xfedcba9876543210, .recording = true,
								 .blocks = 7, .taken_ns = 1500 * MILLISECOND };
	out->reads_repaired = 3;
	out->peer_count = 2;
	strcpy(out->peers[0].name, "b");
	strcpy(out->peers[0].why, "no UTF-8: \xff\xfe");
	out->peers[0].mode = MODE_C;
	out->peers[0].state = "online";
	out->peers[0].lag_ns = 1500 * MILLISECOND;
	out->peers[0].verify_mismatches = 5;
	out->peers[0].verify_range_count = 1;
	out->peers[0].verify_ranges[0] = (struct volume_range){ 4096, 8192 };
	out->peers[0].resync = (struct volume_resync_status){ .running = true, .eta_ns = 1500 * MILLISECOND };
	strcpy(out->peers[1].name, "c");
	out->peers[1].state = "offline";
	out->peers[1].contact_age_ns = UINT64_MAX;
}

static unsigned fake_writers(void *context, char who[WHY_BYTES])
{
	strcpy(who, "2 NBD clients");
	return ((struct fake *)context)->writers;
}

static bool fake_loop_offered(void *context)
{
	(void)context;
	return true;
}

static const char *fake_mounted(void *context)
{
	return ((struct fake *)context)->mounted;
}

static void fake_file(struct fake *f, int fd)
{
	memset(f->file_said, 0, sizeof f->file_said);
	if (fd < 0)
		return;
	assert_true(pread(fd, f->file_said, sizeof f->file_said - 1, 0) > 0);
	close(fd);
}

static int fake_loop_serve(void *context, int fd, char why[WHY_BYTES])
{
	*why = 0;
	fake_file(context, fd);
	return 0;
}

static int fake_mount(void *context, const char *directory, int fd, char why[WHY_BYTES])
{
	struct fake *f = context;

	fake_file(f, fd);

	if (f->mounted[0]) {
		strcpy(why, "is mounted already, says a test");
		return -EALREADY;
	}
	strcpy(f->mounted, directory);
	return 0;
}

static void fake_umount(void *context, struct volume_call *call)
{
	struct fake *f = context;

	strcpy(call->why, f->mounted[0] ? "" : "is not mounted, says a test");
	call->done(call, f->mounted[0] ? 0 : -ENOENT);
	f->mounted[0] = 0;
}

static int fake_check(void *context, char why[WHY_BYTES])
{
	struct fake *f = context;

	strcpy(why, "is being checked already, says a test");
	return f->checks++ ? -EBUSY : 0;
}

static json_t *fake_check_status(void *context)
{
	return json_pack("{s:i}", "number", (int)((struct fake *)context)->checks);
}

static void fake_df(struct volume *v, struct usage *usage)
{
	(void)v;
	usage->json = json_pack("{s:i}", "size", 4711);
	usage->done(usage, 0);
}

static void fake_down(void *context) { ((struct fake *)context)->downs++; }

static void fake_paused(struct io_op *op, int64_t result)
{
	(void)result;
	ring_stop(container_of(op, struct fake, pause)->ring);
}

/* The server's turn, for a while. */
void rig_serve(struct fake *f, unsigned ms)
{
	f->pause = (struct io_op){ .kind = IO_TIMER, .offset = (uint64_t)ms * 1000000, .done = fake_paused };
	f->io->submit(f->io, &f->pause);
	ring_run(f->ring);
}

int rig_setup(void **state)
{
	struct fake *f = calloc(1, sizeof *f);
	const char *tmp = getenv("TMPDIR");
	struct control_config config = {
		.volume = (struct volume *)(void *)f, .status = fake_status, .context = f,
		.calls = { fake_promote, fake_demote, fake_failover, fake_switchover, fake_reconnect, fake_resolve,
			   fake_verify, fake_drop, fake_wait },
		.writers = fake_writers, .loop_offered = fake_loop_offered, .loop_serve = fake_loop_serve,
		.down = fake_down,
		.mount_file = "/run/holdfast/db0/volume",
		.mounted = fake_mounted, .mount = fake_mount, .umount = fake_umount,
		.check = fake_check, .check_status = fake_check_status, .df = fake_df,
	};

	snprintf(f->dir, sizeof f->dir, "%s/ctl-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(f->dir) || ring_new(&f->ring, &(struct ring_config){ 0 }) < 0)
		return -1;
	snprintf(f->address, sizeof f->address, "unix:%s/control", f->dir);
	f->io = ring_io(f->ring);
	if (control_new(&f->control, f->ring, &config) < 0 || control_listen(f->control, f->address) < 0)
		return -1;
	*state = f;
	return 0;
}

static void control_is_stopped(void *context)
{
	struct fake *f = context;

	f->stopped = true;
	ring_stop(f->ring);
}

void rig_stop(struct fake *f, int result, const char *why)
{
	control_stop(f->control, result, why, control_is_stopped, f);
	assert_false(f->stopped);
	while (!f->stopped)
		ring_run(f->ring);
}

int rig_teardown(void **state)
{
	struct fake *f = *state;

	if (!f->stopped)
		rig_stop(f, 0, "");
	control_free(f->control);
	ring_free(f->ring);
	rmdir(f->dir);
	free(f);
	return 0;
}

/* ---- the other side ---- */

int rig_dial(const struct fake *f)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(at.sun_path, f->address + strlen("unix:"));
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
	return fd;
}

void rig_say_bytes(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* @said[i] is in a file whose descriptor goes with @bytes. */
void rig_say_with_files(int fd, const char *bytes, unsigned count, const char *const said[])
{
	union { struct cmsghdr header; char bytes[CMSG_SPACE(8 * sizeof(int))]; } control = {
		.header = { .cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET,
			    .cmsg_type = SCM_RIGHTS },
	};
	struct iovec part = { (char *)bytes, strlen(bytes) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	int files[8];

	for (unsigned i = 0; i < count; i++) {
		files[i] = memfd_create("said", MFD_CLOEXEC);
		assert_int_equal(write(files[i], said[i], strlen(said[i])), (ssize_t)strlen(said[i]));
	}
	memcpy(CMSG_DATA(&control.header), files, count * sizeof(int));
	assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)strlen(bytes));
	for (unsigned i = 0; i < count; i++)
		close(files[i]);
}

unsigned rig_files_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* One answer, or NULL when the connection has ended. */
json_t *rig_hear(struct fake *f, int fd)
{
	static char line[256 << 10];
	json_t *answer;
	size_t len = 0;

	for (int i = 0; i < 400; i++) {
		ssize_t got = recv(fd, line + len, 1, 0);

		if (got == 0 || (got < 0 && errno == ECONNRESET))
			return NULL;
		if (got < 0) {
			rig_serve(f, 5);
			continue;
		}
		i = 0;
		if (line[len++] != '\n')
			continue;
		answer = json_loadb(line, len, 0, NULL);
		assert_non_null(answer);
		return answer;
	}
	fail_msg("no answer");
	return NULL;
}

json_t *rig_ask(struct fake *f, int fd, const char *request)
{
	rig_say_bytes(fd, request, strlen(request));
	return rig_hear(f, fd);
}

const char *rig_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

void rig_assert_refused(struct fake *f, int fd, const char *request, const char *error)
{
	json_t *answer = rig_ask(f, fd, request);

	assert_non_null(answer);
	assert_true(json_is_false(json_object_get(answer, "ok")));
	assert_string_equal(rig_text(answer, "error"), error);
	assert_true(strlen(rig_text(answer, "why")) > 10);
	json_decref(answer);
}

void rig_assert_done(struct fake *f, int fd, const char *request)
{
	json_t *answer = rig_ask(f, fd, request);

	assert_non_null(answer);
	assert_true(json_is_true(json_object_get(answer, "ok")));
	assert_non_null(rig_text(answer, "why"));
	json_decref(answer);
}
