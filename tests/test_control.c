/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about daemon/control.c and daemon/status_json.c: the real ring and real sockets, a volume that is only
 * its answers. */
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
#include "control.h"
#include "run.h"
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

struct fake {
	struct ring *ring;
	struct io *io;
	struct control *control;
	char dir[64], address[ADDRESS_BYTES], mounted[64];
	char file_said[16];		/* what is in the file that the last mount or loop brought; "" = none */
	enum volume_role role;
	unsigned writers, calls, downs, checks;
	enum control_call called;
	struct volume_call *call;	/* the last one */
	struct io_op answer;		/* the call's done() comes from a timer */
	int answer_result;
	bool answer_late;
	struct io_op pause;
	bool stopped;
};

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
static void serve(struct fake *f, unsigned ms)
{
	f->pause = (struct io_op){ .kind = IO_TIMER, .offset = (uint64_t)ms * MILLISECOND, .done = fake_paused };
	f->io->submit(f->io, &f->pause);
	ring_run(f->ring);
}

static int setup(void **state)
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

static void stop(struct fake *f, int result, const char *why)
{
	control_stop(f->control, result, why, control_is_stopped, f);
	assert_false(f->stopped);
	while (!f->stopped)
		ring_run(f->ring);
}

static int teardown(void **state)
{
	struct fake *f = *state;

	if (!f->stopped)
		stop(f, 0, "");
	control_free(f->control);
	ring_free(f->ring);
	rmdir(f->dir);
	free(f);
	return 0;
}

/* ---- the other side ---- */

static int dial(const struct fake *f)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(at.sun_path, f->address + strlen("unix:"));
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
	return fd;
}

static void say_bytes(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* @said[i] is in a file whose descriptor goes with @bytes. */
static void say_with_files(int fd, const char *bytes, unsigned count, const char *const said[])
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

static unsigned files_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* One answer, or NULL when the connection has ended. */
static json_t *hear(struct fake *f, int fd)
{
	static char line[256 << 10];
	json_t *answer;
	size_t len = 0;

	for (int i = 0; i < 400; i++) {
		ssize_t got = recv(fd, line + len, 1, 0);

		if (got == 0 || (got < 0 && errno == ECONNRESET))
			return NULL;
		if (got < 0) {
			serve(f, 5);
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

static json_t *ask(struct fake *f, int fd, const char *request)
{
	say_bytes(fd, request, strlen(request));
	return hear(f, fd);
}

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void assert_refused(struct fake *f, int fd, const char *request, const char *error)
{
	json_t *answer = ask(f, fd, request);

	assert_non_null(answer);
	assert_true(json_is_false(json_object_get(answer, "ok")));
	assert_string_equal(text(answer, "error"), error);
	assert_true(strlen(text(answer, "why")) > 10);
	json_decref(answer);
}

static void assert_done(struct fake *f, int fd, const char *request)
{
	json_t *answer = ask(f, fd, request);

	assert_non_null(answer);
	assert_true(json_is_true(json_object_get(answer, "ok")));
	assert_non_null(text(answer, "why"));
	json_decref(answer);
}

/* ---- facts ---- */

static void control_answers_status(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);
	json_t *answer, *status, *peer;

	for (int i = 0; i < 3; i++) {
		answer = ask(f, fd, "{\"verb\":\"status\"}\n");
		status = json_object_get(answer, "status");
		assert_string_equal(text(status, "name"), "db0");
		assert_string_equal(text(status, "role"), "secondary");
		assert_string_equal(text(status, "version"), HOLDFAST_VERSION);
		assert_int_equal(strlen(text(status, "uuid")), 36);
		assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "lsn"), "end")), 4711);
		assert_int_equal(json_array_size(json_object_get(status, "peers")), 2);
		peer = json_array_get(json_object_get(status, "peers"), 0);
		assert_string_equal(text(peer, "mode"), "C");
		assert_string_equal(text(peer, "why"), "no UTF-8: ??");
		assert_true(json_real_value(json_object_get(peer, "lag_seconds")) == 1.5);
		peer = json_array_get(json_object_get(status, "peers"), 1);
		assert_true(json_is_null(json_object_get(peer, "contact_age_seconds")));
		json_decref(answer);
	}
	close(fd);
}

static void control_takes_the_file_that_comes_with_a_line(void **state)
{
	static const char mount[] = "{\"verb\":\"mount\",\"directory\":\"/srv/photos\"}\n";
	struct fake *f = *state;
	int fd = dial(f);

	say_with_files(fd, mount, 1, (const char *[]){ "one" });
	json_decref(hear(f, fd));
	assert_string_equal(f->file_said, "one");
	assert_done(f, fd, "{\"verb\":\"umount\"}\n");
	/* With the first part of it, and the rest alone. */
	say_with_files(fd, "{\"verb\":", 1, (const char *[]){ "two" });
	serve(f, 20);
	assert_done(f, fd, "\"loop\"}\n");
	assert_string_equal(f->file_said, "two");
	/* It was of that line only. */
	assert_refused(f, fd, "{\"verb\":\"loop\"}\n", "EINVAL");
	assert_done(f, fd, mount);
	assert_string_equal(f->file_said, "");
	close(fd);
}

static void control_keeps_no_file_that_nobody_asked_for(void **state)
{
	const char *said[8] = { "1", "2", "3", "4", "5", "6", "7", "8" };
	struct fake *f = *state;
	int fd = dial(f);
	unsigned before;

	assert_done(f, fd, "{\"verb\":\"status\"}\n");
	before = files_open();
	for (unsigned i = 0; i < 20; i++) {
		say_with_files(fd, "{\"verb\":\"status\"}\n", 1 + i % 8, said);
		json_decref(hear(f, fd));
	}
	assert_int_equal(files_open(), before);
	/* Several with the parts of one line: the last one counts. */
	for (unsigned i = 0; i < 8; i++) {
		say_with_files(fd, " ", 1, &said[i]);
		serve(f, 5);
	}
	assert_done(f, fd, "{\"verb\":\"loop\"}\n");
	assert_string_equal(f->file_said, "8");
	assert_int_equal(files_open(), before);
	/* And when the connection ends before the line does. */
	say_with_files(fd, "{", 3, said);
	close(fd);
	serve(f, 50);
	assert_int_equal(files_open(), before - 2);
}

static void control_mounts_and_unmounts_and_status_says_where(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);
	json_t *answer;

	assert_refused(f, fd, "{\"verb\":\"mount\"}\n", "EINVAL");
	assert_refused(f, fd, "{\"verb\":\"umount\"}\n", "ENOENT");
	assert_done(f, fd, "{\"verb\":\"mount\",\"directory\":\"/srv/photos\"}\n");
	assert_refused(f, fd, "{\"verb\":\"mount\",\"directory\":\"/srv/photos\"}\n", "EALREADY");
	answer = ask(f, fd, "{\"verb\":\"status\"}\n");
	assert_string_equal(text(json_object_get(answer, "status"), "mount"), "/srv/photos");
	json_decref(answer);
	assert_done(f, fd, "{\"verb\":\"umount\",\"force\":true}\n");
	close(fd);
}

static void control_begins_a_check_tells_of_it_and_how_full_it_is(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);
	json_t *answer;

	assert_done(f, fd, "{\"verb\":\"check\"}\n");
	assert_refused(f, fd, "{\"verb\":\"check\"}\n", "EBUSY");
	answer = ask(f, fd, "{\"verb\":\"check-status\"}\n");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "check"), "number")), 2);
	json_decref(answer);
	answer = ask(f, fd, "{\"verb\":\"df\"}\n");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "df"), "size")), 4711);
	json_decref(answer);
	close(fd);
}

static void control_status_tells_of_resync_divergences_and_verify(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);
	json_t *answer = ask(f, fd, "{\"verb\":\"status\"}\n"), *status = json_object_get(answer, "status");
	json_t *resync = json_object_get(status, "resync"), *peer, *divergence, *range;

	assert_true(json_is_false(json_object_get(status, "consistent")));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "lsn"), "floor")), 42);
	assert_true(json_is_true(json_object_get(resync, "running")));
	assert_string_equal(text(resync, "source"), "b");
	assert_int_equal(json_integer_value(json_object_get(resync, "bytes_done")), 42);
	assert_true(json_is_null(json_object_get(resync, "eta_seconds")));
	assert_int_equal(json_integer_value(json_object_get(status, "reads_repaired")), 3);
	assert_int_equal(json_array_size(json_object_get(status, "divergences")), 1);
	divergence = json_array_get(json_object_get(status, "divergences"), 0);
	assert_string_equal(text(divergence, "id"), "fedcba9876543210");
	assert_true(json_is_true(json_object_get(divergence, "recording")));
	assert_true(json_real_value(json_object_get(divergence, "taken_time")) == 1.5);
	assert_int_equal(json_integer_value(json_object_get(divergence, "blocks")), 7);
	peer = json_array_get(json_object_get(status, "peers"), 0);
	assert_true(json_real_value(json_object_get(json_object_get(peer, "resync"), "eta_seconds")) == 1.5);
	peer = json_object_get(peer, "verify");
	assert_int_equal(json_integer_value(json_object_get(peer, "mismatches")), 5);
	range = json_array_get(json_object_get(peer, "ranges"), 0);
	assert_int_equal(json_integer_value(json_object_get(range, "len")), 8192);
	json_decref(answer);
	close(fd);
}

static void control_answers_attach_info(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);
	json_t *answer = ask(f, fd, "{\"verb\":\"attach-info\"}\n");

	assert_string_equal(text(answer, "mount_file"), "/run/holdfast/db0/volume");
	assert_string_equal(text(answer, "role"), "secondary");
	assert_true(json_is_true(json_object_get(answer, "loop")));
	assert_int_equal(json_integer_value(json_object_get(answer, "volume_bytes")), 1ll << 40);
	json_decref(answer);
	close(fd);
}

static void control_hands_calls_to_the_volume(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);

	assert_done(f, fd, "{\"verb\":\"promote\",\"force\":true}\n");
	assert_int_equal(f->called, CONTROL_PROMOTE);
	assert_true(f->call->force);
	assert_done(f, fd, "{\"verb\":\"failover\",\"dry_run\":true}\n");
	assert_int_equal(f->called, CONTROL_FAILOVER);
	assert_true(f->call->dry_run && !f->call->force);
	assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"b\"}\n");
	assert_int_equal(f->called, CONTROL_SWITCHOVER);
	assert_string_equal(f->call->node, "b");
	assert_done(f, fd, "{\"verb\":\"reconnect\",\"node\":\"c\"}\n");
	assert_int_equal(f->called, CONTROL_RECONNECT);
	assert_done(f, fd, "{\"verb\":\"resolve\",\"node\":\"b\",\"dry_run\":true}\n");
	assert_int_equal(f->called, CONTROL_RESOLVE);
	assert_true(f->call->dry_run);
	assert_string_equal(f->call->node, "b");
	assert_done(f, fd, "{\"verb\":\"verify\",\"repair\":true,\"node\":\"c\"}\n");
	assert_int_equal(f->called, CONTROL_VERIFY);
	assert_true(f->call->repair);
	assert_string_equal(f->call->node, "c");
	assert_done(f, fd, "{\"verb\":\"verify\"}\n");
	assert_false(f->call->repair);
	assert_string_equal(f->call->node, "");
	assert_done(f, fd, "{\"verb\":\"wait\",\"lsn\":4611686018427387904,\"node\":\"b\",\"timeout_ms\":1500}\n");
	assert_int_equal(f->called, CONTROL_WAIT);
	assert_true(f->call->lsn == 1ull << 62 && f->call->timeout_ns == 1500 * MILLISECOND);
	assert_done(f, fd, "{\"verb\":\"divergence-drop\",\"id\":\"fedcba9876543210\"}\n");
	assert_int_equal(f->called, CONTROL_DIVERGENCE_DROP);
	assert_true(f->call->id == 0xfedcba9876543210);
	assert_done(f, fd, "{\"verb\":\"demote\"}\n");
	assert_int_equal(f->called, CONTROL_DEMOTE);
	f->answer_result = -EPERM;
	assert_refused(f, fd, "{\"verb\":\"promote\"}\n", "EPERM");
	close(fd);
}

static void control_answers_several_requests_of_one_packet_in_order(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);
	const char *requests =
		"\n{\"verb\":\"promote\"}\n  \r\n{\"verb\":\"nonsense\"}\n{\"verb\":\"attach-info\"}\n{\"ver";
	json_t *answer;

	say_bytes(fd, requests, strlen(requests));
	answer = hear(f, fd);
	assert_true(json_is_true(json_object_get(answer, "ok")));
	json_decref(answer);
	answer = hear(f, fd);
	assert_string_equal(text(answer, "error"), "EOPNOTSUPP");
	json_decref(answer);
	answer = hear(f, fd);
	assert_non_null(text(answer, "mount_file"));
	json_decref(answer);
	assert_done(f, fd, "b\":\"promote\"}\n");
	assert_int_equal(f->calls, 2);
	close(fd);
}

static void control_refuses_demote_and_switchover_while_someone_writes(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);

	f->role = ROLE_PRIMARY;
	f->writers = 2;
	assert_refused(f, fd, "{\"verb\":\"demote\"}\n", "EBUSY");
	assert_refused(f, fd, "{\"verb\":\"switchover\",\"node\":\"b\"}\n", "EBUSY");
	assert_int_equal(f->calls, 0);
	assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"a\"}\n");
	assert_done(f, fd, "{\"verb\":\"demote\",\"force\":true}\n");
	assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"b\",\"force\":true}\n");
	f->role = ROLE_SECONDARY;
	assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"a\"}\n");
	assert_int_equal(f->calls, 4);
	close(fd);
}

static void control_refuses_requests_that_are_not_understood(void **state)
{
	static const char *const bad[] = {
		"{}\n",
		"{\"verb\":1}\n",
		"{\"verb\":\"failover\",\"dryrun\":true}\n",
		"{\"verb\":\"promote\",\"force\":1}\n",
		"{\"verb\":\"switchover\"}\n",
		"{\"verb\":\"reconnect\",\"node\":\"\"}\n",
		"{\"verb\":\"promote\",\"node\":null}\n",
		"{\"verb\":\"resolve\"}\n",
		"{\"verb\":\"verify\",\"repair\":\"yes\"}\n",
		"{\"verb\":\"wait\",\"lsn\":-1}\n",
		"{\"verb\":\"wait\",\"lsn\":\"1\"}\n",
		"{\"verb\":\"wait\",\"lsn\":9223372036854775807}\n",
		"{\"verb\":\"wait\",\"lsn\":1,\"timeout_ms\":1e3}\n",
		"{\"verb\":\"divergence-drop\"}\n",
		"{\"verb\":\"divergence-drop\",\"id\":17}\n",
		"{\"verb\":\"divergence-drop\",\"id\":\"\"}\n",
		"{\"verb\":\"divergence-drop\",\"id\":\"0\"}\n",
		"{\"verb\":\"divergence-drop\",\"id\":\"-1\"}\n",
		"{\"verb\":\"divergence-drop\",\"id\":\"0x1\"}\n",
		"{\"verb\":\"divergence-drop\",\"id\":\"1 \"}\n",
		"{\"verb\":\"divergence-drop\",\"id\":\"11111111111111111\"}\n",
		"{\"verb\":\"switchover\",\"node\":"
		"\"0123456789012345678901234567890123456789012345678901234567890123\"}\n",
	};
	struct fake *f = *state;
	int fd = dial(f);

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused(f, fd, bad[i], "EINVAL");
	assert_int_equal(f->calls, 0);
	assert_done(f, fd, "{\"verb\":\"promote\"}\n");
	close(fd);
}

static void control_ends_a_connection_that_sends_garbage(void **state)
{
	static const char *const bad[] = { "hello\n", "[]\n", "\"status\"\n", "{\"verb\":\"status\"} {}\n", "{\n",
					   "{\"verb\":\"status\",\"verb\":\"down\"}\n", "\xff\xfe\xfd\n" };
	struct fake *f = *state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		int fd = dial(f);

		assert_refused(f, fd, bad[i], "EBADMSG");
		assert_null(hear(f, fd));
		close(fd);
	}
	assert_int_equal(f->downs, 0);
}

static void control_ends_a_connection_whose_line_is_too_long(void **state)
{
	struct fake *f = *state;
	char *line = malloc(CONTROL_LINE_BYTES);
	json_t *answer;
	int fd = dial(f);

	memset(line, '[', CONTROL_LINE_BYTES);
	say_bytes(fd, line, CONTROL_LINE_BYTES);
	answer = hear(f, fd);
	assert_string_equal(text(answer, "error"), "EMSGSIZE");
	json_decref(answer);
	assert_null(hear(f, fd));
	close(fd);
	fd = dial(f);
	line[CONTROL_LINE_BYTES - 1] = '\n';
	say_bytes(fd, line, CONTROL_LINE_BYTES);
	answer = hear(f, fd);
	assert_string_equal(text(answer, "error"), "EBADMSG");
	json_decref(answer);
	close(fd);
	free(line);
}

static void control_survives_random_bytes(void **state)
{
	static const char alphabet[] = "{}[]\":,\\u0a truefalsenull1e9-.\n\t\xc3\xff" "verb" "status";
	struct fake *f = *state;
	uint64_t seed = test_seed_first(0x2a);

	for (unsigned round = 0; round < 200; round++) {
		int fd = dial(f);
		char bytes[300];

		for (size_t i = 0; i < sizeof bytes; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			bytes[i] = round % 2 ? alphabet[(seed >> 33) % sizeof alphabet] : (char)(seed >> 40);
		}
		say_bytes(fd, bytes, sizeof bytes);
		serve(f, 1);
		close(fd);
	}
	int fd = dial(f);

	assert_done(f, fd, "{\"verb\":\"attach-info\"}\n");
	close(fd);
}

static void control_has_room_for_sixteen_and_tells_the_others(void **state)
{
	struct fake *f = *state;
	json_t *answer;
	int fds[CONTROL_CLIENTS_MAX], fd;

	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		fds[i] = dial(f);
		serve(f, 1);
	}
	for (int i = 0; i < 20; i++) {
		fd = dial(f);
		answer = hear(f, fd);
		assert_string_equal(text(answer, "error"), "EUSERS");
		json_decref(answer);
		assert_null(hear(f, fd));
		close(fd);
	}
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		assert_done(f, fds[i], "{\"verb\":\"attach-info\"}\n");
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		close(fds[i]);
	serve(f, 1);
	fd = dial(f);
	assert_done(f, fd, "{\"verb\":\"attach-info\"}\n");
	close(fd);
}

static void control_answers_down_when_the_store_is_written(void **state)
{
	struct fake *f = *state;
	int fds[] = { dial(f), dial(f) }, idle = dial(f), other = dial(f);
	json_t *answer;

	for (int i = 0; i < 2; i++) {
		say_bytes(fds[i], "{\"verb\":\"down\"}\n", 16);
		serve(f, 5);
	}
	assert_int_equal(f->downs, 2);
	assert_refused(f, other, "{\"verb\":\"promote\"}\n", "ESHUTDOWN");
	assert_done(f, other, "{\"verb\":\"status\"}\n");
	stop(f, -EIO, "store: cannot be written; the journal has it");
	for (int i = 0; i < 2; i++) {
		answer = hear(f, fds[i]);
		assert_string_equal(text(answer, "error"), "EIO");
		assert_string_equal(text(answer, "why"), "store: cannot be written; the journal has it");
		json_decref(answer);
		assert_null(hear(f, fds[i]));
		close(fds[i]);
	}
	assert_null(hear(f, idle));
	assert_null(hear(f, other));
	close(idle);
	close(other);
}

static void control_stop_waits_for_a_call_and_not_for_one_who_does_not_read(void **state)
{
	struct fake *f = *state;
	int caller = dial(f), deaf = dial(f);
	json_t *answer;

	for (int i = 0; i < 20000; i++)
		if (send(deaf, "{\"verb\":\"status\"}\n", 18, MSG_NOSIGNAL) < 0)
			break;
	serve(f, 50);
	f->answer_late = true;
	say_bytes(caller, "{\"verb\":\"promote\"}\n", 19);
	serve(f, 5);
	assert_int_equal(f->calls, 1);
	stop(f, 0, "");
	answer = hear(f, caller);
	assert_true(json_is_true(json_object_get(answer, "ok")));
	json_decref(answer);
	close(caller);
	close(deaf);
}

static void control_survives_a_caller_who_leaves(void **state)
{
	struct fake *f = *state;
	int fd = dial(f);

	f->answer_late = true;
	say_bytes(fd, "{\"verb\":\"promote\"}\n", 19);
	serve(f, 5);
	close(fd);
	serve(f, 60);
	fd = dial(f);
	assert_done(f, fd, "{\"verb\":\"attach-info\"}\n");
	close(fd);
}

static void status_json_names_the_failure(void **state)
{
	struct volume_status status = { .failed = -EIO, .why = "store: write failed", .lsn_end = UINT64_MAX };
	json_t *json = status_json(&status);

	(void)state;
	assert_string_equal(text(json, "failed"), "EIO");
	assert_string_equal(text(json, "why"), "store: write failed");
	assert_true(json_integer_value(json_object_get(json_object_get(json, "lsn"), "end")) == INT64_MAX);
	json_decref(json);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
	FACT(control_answers_status),
	FACT(control_takes_the_file_that_comes_with_a_line),
	FACT(control_keeps_no_file_that_nobody_asked_for),
	FACT(control_begins_a_check_tells_of_it_and_how_full_it_is),
	FACT(control_mounts_and_unmounts_and_status_says_where),
	FACT(control_status_tells_of_resync_divergences_and_verify),
	FACT(control_answers_attach_info),
	FACT(control_hands_calls_to_the_volume),
	FACT(control_answers_several_requests_of_one_packet_in_order),
	FACT(control_refuses_demote_and_switchover_while_someone_writes),
	FACT(control_refuses_requests_that_are_not_understood),
	FACT(control_ends_a_connection_that_sends_garbage),
	FACT(control_ends_a_connection_whose_line_is_too_long),
	FACT(control_survives_random_bytes),
	FACT(control_has_room_for_sixteen_and_tells_the_others),
	FACT(control_answers_down_when_the_store_is_written),
	FACT(control_stop_waits_for_a_call_and_not_for_one_who_does_not_read),
	FACT(control_survives_a_caller_who_leaves),
	cmocka_unit_test(status_json_names_the_failure),
};
TEST_GROUP(control, tests)
