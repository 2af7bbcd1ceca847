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
#include "control_rig.h"
#include "status_json.h"

static void control_answers_status(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);
	json_t *answer, *status, *peer;

	for (int i = 0; i < 3; i++) {
		answer = rig_ask(f, fd, "{\"verb\":\"status\"}\n");
		status = json_object_get(answer, "status");
		assert_string_equal(rig_text(status, "name"), "db0");
		assert_string_equal(rig_text(status, "role"), "secondary");
		assert_string_equal(rig_text(status, "version"), HOLDFAST_VERSION);
		assert_int_equal(strlen(rig_text(status, "uuid")), 36);
		assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "lsn"), "end")), 4711);
		assert_int_equal(json_array_size(json_object_get(status, "peers")), 2);
		peer = json_array_get(json_object_get(status, "peers"), 0);
		assert_string_equal(rig_text(peer, "mode"), "C");
		assert_string_equal(rig_text(peer, "why"), "no UTF-8: ??");
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
	int fd = rig_dial(f);

	rig_say_with_files(fd, mount, 1, (const char *[]){ "one" });
	json_decref(rig_hear(f, fd));
	assert_string_equal(f->file_said, "one");
	rig_assert_done(f, fd, "{\"verb\":\"umount\"}\n");
	/* With the first part of it, and the rest alone. */
	rig_say_with_files(fd, "{\"verb\":", 1, (const char *[]){ "two" });
	rig_serve(f, 20);
	rig_assert_done(f, fd, "\"loop\"}\n");
	assert_string_equal(f->file_said, "two");
	/* It was of that line only. */
	rig_assert_refused(f, fd, "{\"verb\":\"loop\"}\n", "EINVAL");
	rig_assert_done(f, fd, mount);
	assert_string_equal(f->file_said, "");
	close(fd);
}

static void control_keeps_no_file_that_nobody_asked_for(void **state)
{
	const char *said[8] = { "1", "2", "3", "4", "5", "6", "7", "8" };
	struct fake *f = *state;
	int fd = rig_dial(f);
	unsigned before;

	rig_assert_done(f, fd, "{\"verb\":\"status\"}\n");
	before = rig_files_open();
	for (unsigned i = 0; i < 20; i++) {
		rig_say_with_files(fd, "{\"verb\":\"status\"}\n", 1 + i % 8, said);
		json_decref(rig_hear(f, fd));
	}
	assert_int_equal(rig_files_open(), before);
	/* Several with the parts of one line: the last one counts. */
	for (unsigned i = 0; i < 8; i++) {
		rig_say_with_files(fd, " ", 1, &said[i]);
		rig_serve(f, 5);
	}
	rig_assert_done(f, fd, "{\"verb\":\"loop\"}\n");
	assert_string_equal(f->file_said, "8");
	assert_int_equal(rig_files_open(), before);
	/* And when the connection ends before the line does. */
	rig_say_with_files(fd, "{", 3, said);
	close(fd);
	rig_serve(f, 50);
	assert_int_equal(rig_files_open(), before - 2);
}

static void control_mounts_and_unmounts_and_status_says_where(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);
	json_t *answer;

	rig_assert_refused(f, fd, "{\"verb\":\"mount\"}\n", "EINVAL");
	rig_assert_refused(f, fd, "{\"verb\":\"umount\"}\n", "ENOENT");
	rig_assert_done(f, fd, "{\"verb\":\"mount\",\"directory\":\"/srv/photos\"}\n");
	rig_assert_refused(f, fd, "{\"verb\":\"mount\",\"directory\":\"/srv/photos\"}\n", "EALREADY");
	answer = rig_ask(f, fd, "{\"verb\":\"status\"}\n");
	assert_string_equal(rig_text(json_object_get(answer, "status"), "mount"), "/srv/photos");
	json_decref(answer);
	rig_assert_done(f, fd, "{\"verb\":\"umount\",\"force\":true}\n");
	close(fd);
}

static void control_begins_a_check_tells_of_it_and_how_full_it_is(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);
	json_t *answer;

	rig_assert_done(f, fd, "{\"verb\":\"check\"}\n");
	rig_assert_refused(f, fd, "{\"verb\":\"check\"}\n", "EBUSY");
	answer = rig_ask(f, fd, "{\"verb\":\"check-status\"}\n");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "check"), "number")), 2);
	json_decref(answer);
	answer = rig_ask(f, fd, "{\"verb\":\"df\"}\n");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "df"), "size")), 4711);
	json_decref(answer);
	close(fd);
}

static void control_status_tells_of_resync_divergences_and_verify(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);
	json_t *answer = rig_ask(f, fd, "{\"verb\":\"status\"}\n"), *status = json_object_get(answer, "status");
	json_t *resync = json_object_get(status, "resync"), *peer, *divergence, *range;

	assert_true(json_is_false(json_object_get(status, "consistent")));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "lsn"), "floor")), 42);
	assert_true(json_is_true(json_object_get(resync, "running")));
	assert_string_equal(rig_text(resync, "source"), "b");
	assert_int_equal(json_integer_value(json_object_get(resync, "bytes_done")), 42);
	assert_true(json_is_null(json_object_get(resync, "eta_seconds")));
	assert_int_equal(json_integer_value(json_object_get(status, "reads_repaired")), 3);
	assert_int_equal(json_array_size(json_object_get(status, "divergences")), 1);
	divergence = json_array_get(json_object_get(status, "divergences"), 0);
	assert_string_equal(rig_text(divergence, "id"), "fedcba9876543210");
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
	int fd = rig_dial(f);
	json_t *answer = rig_ask(f, fd, "{\"verb\":\"attach-info\"}\n");

	assert_string_equal(rig_text(answer, "mount_file"), "/run/holdfast/db0/volume");
	assert_string_equal(rig_text(answer, "role"), "secondary");
	assert_true(json_is_true(json_object_get(answer, "loop")));
	assert_int_equal(json_integer_value(json_object_get(answer, "volume_bytes")), 1ll << 40);
	json_decref(answer);
	close(fd);
}

static void control_hands_calls_to_the_volume(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);

	rig_assert_done(f, fd, "{\"verb\":\"promote\",\"force\":true}\n");
	assert_int_equal(f->called, CONTROL_PROMOTE);
	assert_true(f->call->force);
	rig_assert_done(f, fd, "{\"verb\":\"failover\",\"dry_run\":true}\n");
	assert_int_equal(f->called, CONTROL_FAILOVER);
	assert_true(f->call->dry_run && !f->call->force);
	rig_assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"b\"}\n");
	assert_int_equal(f->called, CONTROL_SWITCHOVER);
	assert_string_equal(f->call->node, "b");
	rig_assert_done(f, fd, "{\"verb\":\"reconnect\",\"node\":\"c\"}\n");
	assert_int_equal(f->called, CONTROL_RECONNECT);
	rig_assert_done(f, fd, "{\"verb\":\"resolve\",\"node\":\"b\",\"dry_run\":true}\n");
	assert_int_equal(f->called, CONTROL_RESOLVE);
	assert_true(f->call->dry_run);
	assert_string_equal(f->call->node, "b");
	rig_assert_done(f, fd, "{\"verb\":\"verify\",\"repair\":true,\"node\":\"c\"}\n");
	assert_int_equal(f->called, CONTROL_VERIFY);
	assert_true(f->call->repair);
	assert_string_equal(f->call->node, "c");
	rig_assert_done(f, fd, "{\"verb\":\"verify\"}\n");
	assert_false(f->call->repair);
	assert_string_equal(f->call->node, "");
	rig_assert_done(f, fd, "{\"verb\":\"wait\",\"lsn\":4611686018427387904,\"node\":\"b\",\"timeout_ms\":1500}\n");
	assert_int_equal(f->called, CONTROL_WAIT);
	assert_true(f->call->lsn == 1ull << 62 && f->call->timeout_ns == 1500 * 1000000);
	rig_assert_done(f, fd, "{\"verb\":\"divergence-drop\",\"id\":\"fedcba9876543210\"}\n");
	assert_int_equal(f->called, CONTROL_DIVERGENCE_DROP);
	assert_true(f->call->id == 0xfedcba9876543210);
	rig_assert_done(f, fd, "{\"verb\":\"demote\"}\n");
	assert_int_equal(f->called, CONTROL_DEMOTE);
	f->answer_result = -EPERM;
	rig_assert_refused(f, fd, "{\"verb\":\"promote\"}\n", "EPERM");
	close(fd);
}

static void control_answers_several_requests_of_one_packet_in_order(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);
	const char *requests =
		"\n{\"verb\":\"promote\"}\n  \r\n{\"verb\":\"nonsense\"}\n{\"verb\":\"attach-info\"}\n{\"ver";
	json_t *answer;

	rig_say_bytes(fd, requests, strlen(requests));
	answer = rig_hear(f, fd);
	assert_true(json_is_true(json_object_get(answer, "ok")));
	json_decref(answer);
	answer = rig_hear(f, fd);
	assert_string_equal(rig_text(answer, "error"), "EOPNOTSUPP");
	json_decref(answer);
	answer = rig_hear(f, fd);
	assert_non_null(rig_text(answer, "mount_file"));
	json_decref(answer);
	rig_assert_done(f, fd, "b\":\"promote\"}\n");
	assert_int_equal(f->calls, 2);
	close(fd);
}

static void control_refuses_demote_and_switchover_while_someone_writes(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);

	f->role = ROLE_PRIMARY;
	f->writers = 2;
	rig_assert_refused(f, fd, "{\"verb\":\"demote\"}\n", "EBUSY");
	rig_assert_refused(f, fd, "{\"verb\":\"switchover\",\"node\":\"b\"}\n", "EBUSY");
	assert_int_equal(f->calls, 0);
	rig_assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"a\"}\n");
	rig_assert_done(f, fd, "{\"verb\":\"demote\",\"force\":true}\n");
	rig_assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"b\",\"force\":true}\n");
	f->role = ROLE_SECONDARY;
	rig_assert_done(f, fd, "{\"verb\":\"switchover\",\"node\":\"a\"}\n");
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
	int fd = rig_dial(f);

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		rig_assert_refused(f, fd, bad[i], "EINVAL");
	assert_int_equal(f->calls, 0);
	rig_assert_done(f, fd, "{\"verb\":\"promote\"}\n");
	close(fd);
}

static void control_ends_a_connection_that_sends_garbage(void **state)
{
	static const char *const bad[] = { "hello\n", "[]\n", "\"status\"\n", "{\"verb\":\"status\"} {}\n", "{\n",
					   "{\"verb\":\"status\",\"verb\":\"down\"}\n", "\xff\xfe\xfd\n" };
	struct fake *f = *state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		int fd = rig_dial(f);

		rig_assert_refused(f, fd, bad[i], "EBADMSG");
		assert_null(rig_hear(f, fd));
		close(fd);
	}
	assert_int_equal(f->downs, 0);
}

static void control_ends_a_connection_whose_line_is_too_long(void **state)
{
	struct fake *f = *state;
	char *line = malloc(CONTROL_LINE_BYTES);
	json_t *answer;
	int fd = rig_dial(f);

	memset(line, '[', CONTROL_LINE_BYTES);
	rig_say_bytes(fd, line, CONTROL_LINE_BYTES);
	answer = rig_hear(f, fd);
	assert_string_equal(rig_text(answer, "error"), "EMSGSIZE");
	json_decref(answer);
	assert_null(rig_hear(f, fd));
	close(fd);
	fd = rig_dial(f);
	line[CONTROL_LINE_BYTES - 1] = '\n';
	rig_say_bytes(fd, line, CONTROL_LINE_BYTES);
	answer = rig_hear(f, fd);
	assert_string_equal(rig_text(answer, "error"), "EBADMSG");
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
		int fd = rig_dial(f);
		char bytes[300];

		for (size_t i = 0; i < sizeof bytes; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			bytes[i] = round % 2 ? alphabet[(seed >> 33) % sizeof alphabet] : (char)(seed >> 40);
		}
		rig_say_bytes(fd, bytes, sizeof bytes);
		rig_serve(f, 1);
		close(fd);
	}
	int fd = rig_dial(f);

	rig_assert_done(f, fd, "{\"verb\":\"attach-info\"}\n");
	close(fd);
}

static void control_has_room_for_sixteen_and_tells_the_others(void **state)
{
	struct fake *f = *state;
	json_t *answer;
	int fds[CONTROL_CLIENTS_MAX], fd;

	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		fds[i] = rig_dial(f);
		rig_serve(f, 1);
	}
	for (int i = 0; i < 20; i++) {
		fd = rig_dial(f);
		answer = rig_hear(f, fd);
		assert_string_equal(rig_text(answer, "error"), "EUSERS");
		json_decref(answer);
		assert_null(rig_hear(f, fd));
		close(fd);
	}
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		rig_assert_done(f, fds[i], "{\"verb\":\"attach-info\"}\n");
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		close(fds[i]);
	rig_serve(f, 1);
	fd = rig_dial(f);
	rig_assert_done(f, fd, "{\"verb\":\"attach-info\"}\n");
	close(fd);
}

static void control_answers_down_when_the_store_is_written(void **state)
{
	struct fake *f = *state;
	int fds[] = { rig_dial(f), rig_dial(f) }, idle = rig_dial(f), other = rig_dial(f);
	json_t *answer;

	for (int i = 0; i < 2; i++) {
		rig_say_bytes(fds[i], "{\"verb\":\"down\"}\n", 16);
		rig_serve(f, 5);
	}
	assert_int_equal(f->downs, 2);
	rig_assert_refused(f, other, "{\"verb\":\"promote\"}\n", "ESHUTDOWN");
	rig_assert_done(f, other, "{\"verb\":\"status\"}\n");
	rig_stop(f, -EIO, "store: cannot be written; the journal has it");
	for (int i = 0; i < 2; i++) {
		answer = rig_hear(f, fds[i]);
		assert_string_equal(rig_text(answer, "error"), "EIO");
		assert_string_equal(rig_text(answer, "why"), "store: cannot be written; the journal has it");
		json_decref(answer);
		assert_null(rig_hear(f, fds[i]));
		close(fds[i]);
	}
	assert_null(rig_hear(f, idle));
	assert_null(rig_hear(f, other));
	close(idle);
	close(other);
}

static void control_stop_waits_for_a_call_and_not_for_one_who_does_not_read(void **state)
{
	struct fake *f = *state;
	int caller = rig_dial(f), deaf = rig_dial(f);
	json_t *answer;

	for (int i = 0; i < 20000; i++)
		if (send(deaf, "{\"verb\":\"status\"}\n", 18, MSG_NOSIGNAL) < 0)
			break;
	rig_serve(f, 50);
	f->answer_late = true;
	rig_say_bytes(caller, "{\"verb\":\"promote\"}\n", 19);
	rig_serve(f, 5);
	assert_int_equal(f->calls, 1);
	rig_stop(f, 0, "");
	answer = rig_hear(f, caller);
	assert_true(json_is_true(json_object_get(answer, "ok")));
	json_decref(answer);
	close(caller);
	close(deaf);
}

static void control_survives_a_caller_who_leaves(void **state)
{
	struct fake *f = *state;
	int fd = rig_dial(f);

	f->answer_late = true;
	rig_say_bytes(fd, "{\"verb\":\"promote\"}\n", 19);
	rig_serve(f, 5);
	close(fd);
	rig_serve(f, 60);
	fd = rig_dial(f);
	rig_assert_done(f, fd, "{\"verb\":\"attach-info\"}\n");
	close(fd);
}

static void status_json_names_the_failure(void **state)
{
	struct volume_status status = { .failed = -EIO, .why = "store: write failed", .lsn_end = UINT64_MAX };
	json_t *json = status_json(&status);

	(void)state;
	assert_string_equal(rig_text(json, "failed"), "EIO");
	assert_string_equal(rig_text(json, "why"), "store: write failed");
	assert_true(json_integer_value(json_object_get(json_object_get(json, "lsn"), "end")) == INT64_MAX);
	json_decref(json);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

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
