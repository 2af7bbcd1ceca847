/* SPDX-License-Identifier: Apache-2.0 */
/* A request, from the line to the answer:
 *
 *	client_received()	bytes came, perhaps with a file descriptor; more are awaited until the newline
 *	client_line()		one line: is it a request at all
 *	client_request()	its verb, from the table; refused here, or
 *	client_called()		when the volume has done what was asked
 *	client_answer()		one line back, exactly one for each request
 *	client_answered()	the next line, or the end
 *
 * Invariant: a client has exactly one thing in flight - a receive, a call, a send, or the daemon's stop - and
 * its state says which. So nothing is left behind when a connection ends, whatever the other side does. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "say.h"
#include "status_json.h"

enum { STOP_PATIENCE_NS = 1000000000, ACCEPT_PAUSE_NS = 1000000000 };
enum { TIMEOUT_MS_MAX = 1000000000 };	/* of wait: eleven days */

enum client_state {
	CLIENT_FREE,
	CLIENT_RECEIVING,
	CLIENT_CALLING,		/* the volume has the call */
	CLIENT_DOWN,		/* answered by control_stop() */
	CLIENT_ANSWERING,
};

struct client {
	struct control *control;
	enum client_state state;
	int socket;
	bool last;		/* the connection ends after this answer */
	struct io_op op;	/* receive or send */
	struct volume_call call;
	struct usage usage;
	char directory[PATH_MAX];	/* of mount */
	int file;		/* a descriptor that came with the line, not taken yet; -1 */
	char *answer;		/* from json_dumps(), while it is sent */
	size_t line_len;
	char line[CONTROL_LINE_BYTES];
};

struct control {
	struct io *io;
	struct ring *ring;
	struct control_config config;
	int listening;		/* -1: not */
	struct io_op accept;
	struct io_op pause;	/* after an accept that failed */
	bool refuse_calls;

	bool stopping, patience_over;
	struct io_op patience;	/* for answers that are still being sent */
	void (*stopped)(void *context);
	void *stopped_context;

	struct client clients[CONTROL_CLIENTS_MAX + 1];	/* one to tell the 17th that there is no room */
};

static void client_next(struct client *c);
static void accept_next(struct control *control);

/* ---- the end -------------------------------------------------------------------------------------- */

static unsigned clients_count(const struct control *control)
{
	unsigned count = 0;

	for (unsigned i = 0; i <= CONTROL_CLIENTS_MAX; i++)
		count += control->clients[i].state != CLIENT_FREE;
	return count;
}

static void stop_check(struct control *control)
{
	if (!control->stopping || clients_count(control) || control->accept.in_flight || control->pause.in_flight)
		return;
	if (control->patience_over)
		control->stopped(control->stopped_context);
	else
		control->io->cancel(control->io, &control->patience);
}

static void file_drop(struct client *c)
{
	if (c->file >= 0)
		close(c->file);
	c->file = -1;
}

static int file_take(struct client *c)
{
	int fd = c->file;

	c->file = -1;
	return fd;
}

static void client_close(struct client *c)
{
	if (c->socket >= 0)
		c->control->io->close(c->control->io, c->socket);
	c->socket = -1;
	file_drop(c);
}

static void client_end(struct client *c)
{
	client_close(c);
	c->state = CLIENT_FREE;
	accept_next(c->control);
	stop_check(c->control);		/* last: who is told may free the server */
}

/* ---- the answer ------------------------------------------------------------------------------------ */

static void client_answered(struct io_op *op, int64_t result)
{
	struct client *c = container_of(op, struct client, op);

	CHECK(c->state == CLIENT_ANSWERING);
	free(c->answer);
	c->answer = NULL;
	if (result < 0 || c->last)
		client_end(c);
	else
		client_next(c);
}

/* Takes @body, which may be NULL: then memory was short, and the connection ends without a word. */
static void client_answer(struct client *c, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(body);
	c->answer = realloc(text, len + 2);
	if (!text || !c->answer || c->control->patience_over) {
		free(c->answer ? c->answer : text);
		c->answer = NULL;
		client_end(c);
		return;
	}
	memcpy(c->answer + len, "\n", 2);
	c->state = CLIENT_ANSWERING;
	c->op = (struct io_op){ .kind = IO_SEND, .file = c->socket, .data = c->answer, .len = len + 1,
				.done = client_answered };
	c->control->io->submit(c->control->io, &c->op);
}

static void client_answer_result(struct client *c, int result, const char *why)
{
	const char *name = result < 0 ? strerrorname_np(-result) : NULL;

	if (result >= 0)
		client_answer(c, json_pack("{s:b, s:o}", "ok", 1, "why", text_json(why)));
	else
		client_answer(c, json_pack("{s:b, s:s, s:o}", "ok", 0, "error", name ? name : "EIO",
					   "why", text_json(why)));
}

__attribute__((format(printf, 3, 4)))
static void client_refuse(struct client *c, int res, const char *format, ...)
{
	char why[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof why, format, args);
	va_end(args);
	client_answer_result(c, res, why);
}

/* ---- verbs ----------------------------------------------------------------------------------------- */

static void run_status(struct client *c)
{
	const struct control_config *config = &c->control->config;
	struct volume_status status;
	json_t *json;

	config->status(config->volume, &status);
	json = status_json(&status);
	if (json && config->mounted)
		json_object_set_new(json, "mount", text_json(config->mounted(config->context)));
	client_answer(c, json_pack("{s:b, s:s, s:o}", "ok", 1, "why", "", "status", json));
}

static void run_attach_info(struct client *c)
{
	const struct control_config *config = &c->control->config;
	struct volume_status status;

	config->status(config->volume, &status);
	client_answer(c, json_pack("{s:b, s:s, s:o, s:b, s:I, s:s, s:o}", "ok", 1, "why", "",
				   "mount_file", text_json(config->mount_file),
				   "loop", config->loop_offered(config->context),
				   "volume_bytes", (json_int_t)status.geometry.volume_bytes,
				   "role", volume_role_name(status.role), "name", text_json(status.name)));
}

static void run_down(struct client *c)
{
	c->state = CLIENT_DOWN;
	c->control->refuse_calls = true;
	c->control->config.down(c->control->config.context);
}

static void client_called(struct volume_call *call, int result)
{
	struct client *c = container_of(call, struct client, call);

	CHECK(c->state == CLIENT_CALLING);
	client_answer_result(c, result, call->why);
}

static void client_call(struct client *c, enum control_call which)
{
	c->state = CLIENT_CALLING;
	c->call.done = client_called;
	c->control->config.calls[which](c->control->config.volume, &c->call);
}

/* Who writes would get errors from one moment to the next: that is asked for by force only. */
static bool held_for_writing(struct client *c)
{
	const struct control_config *config = &c->control->config;
	char who[WHY_BYTES] = "";

	if (c->call.force || config->writers(config->context, who) == 0)
		return false;
	client_refuse(c, -EBUSY, "volume is held for writing by %.200s; unmount or disconnect them first (`holdfast "
		      "detach`), or use --force: their writes then fail", who);
	return true;
}

static void run_demote(struct client *c)
{
	if (!held_for_writing(c))
		client_call(c, CONTROL_DEMOTE);
}

static void run_switchover(struct client *c)
{
	struct volume_status status;

	c->control->config.status(c->control->config.volume, &status);
	if (status.role == ROLE_PRIMARY && strcmp(c->call.node, status.geometry.node) != 0 && held_for_writing(c))
		return;
	client_call(c, CONTROL_SWITCHOVER);
}

static void run_promote(struct client *c) { client_call(c, CONTROL_PROMOTE); }
static void run_failover(struct client *c) { client_call(c, CONTROL_FAILOVER); }
static void run_reconnect(struct client *c) { client_call(c, CONTROL_RECONNECT); }
static void run_resolve(struct client *c) { client_call(c, CONTROL_RESOLVE); }
static void run_verify(struct client *c) { client_call(c, CONTROL_VERIFY); }
static void run_wait(struct client *c) { client_call(c, CONTROL_WAIT); }
static void run_divergence_drop(struct client *c) { client_call(c, CONTROL_DIVERGENCE_DROP); }

/* A volume without a filesystem has no directory. */
static bool without_filesystem(struct client *c)
{
	if (c->control->config.mounted)
		return false;
	client_refuse(c, -EOPNOTSUPP, "volume has no filesystem; make one that has with: holdfast create --fs; or use "
		      "`holdfast attach`");
	return true;
}

static void run_mount(struct client *c)
{
	const struct control_config *config = &c->control->config;
	char why[WHY_BYTES] = "";

	if (without_filesystem(c))
		return;
	if (!c->directory[0])
		client_refuse(c, -EINVAL, "request: mount needs a \"directory\"");
	else
		client_answer_result(c, config->mount(config->context, c->directory, file_take(c), why), why);
}

static void run_umount(struct client *c)
{
	if (without_filesystem(c))
		return;
	c->state = CLIENT_CALLING;
	c->call.done = client_called;
	c->control->config.umount(c->control->config.context, &c->call);
}

static void run_loop(struct client *c)
{
	const struct control_config *config = &c->control->config;
	char why[WHY_BYTES] = "";

	if (c->file < 0)
		client_refuse(c, -EINVAL, "request: loop needs a file descriptor; it is what `holdfast attach` sends");
	else
		client_answer_result(c, config->loop_serve(config->context, file_take(c), why), why);
}

static void run_check(struct client *c)
{
	const struct control_config *config = &c->control->config;
	char why[WHY_BYTES] = "";
	int result;

	if (without_filesystem(c))
		return;
	result = config->check(config->context, why);
	client_answer_result(c, result, result ? why : "");
}

static void run_check_status(struct client *c)
{
	const struct control_config *config = &c->control->config;

	if (!without_filesystem(c))
		client_answer(c, json_pack("{s:b, s:s, s:o}", "ok", 1, "why", "", "check",
					   config->check_status(config->context)));
}

static void client_has_usage(struct usage *usage, int result)
{
	struct client *c = container_of(usage, struct client, usage);

	CHECK(c->state == CLIENT_CALLING);
	if (result)
		client_answer_result(c, result, usage->why);
	else
		client_answer(c, json_pack("{s:b, s:s, s:o}", "ok", 1, "why", "", "df", usage->json));
}

static void run_df(struct client *c)
{
	if (without_filesystem(c))
		return;
	c->state = CLIENT_CALLING;
	c->usage.done = client_has_usage;
	c->control->config.df(c->control->config.volume, &c->usage);
}

static const struct verb {
	const char *name;
	void (*run)(struct client *c);
	bool is_call, wants_node, wants_id;
} verbs[] = {
	{ "status", run_status, false, false, false },
	{ "attach-info", run_attach_info, false, false, false },
	{ "down", run_down, false, false, false },
	{ "promote", run_promote, true, false, false },
	{ "demote", run_demote, true, false, false },
	{ "failover", run_failover, true, false, false },
	{ "switchover", run_switchover, true, true, false },
	{ "reconnect", run_reconnect, true, true, false },
	{ "resolve", run_resolve, true, true, false },
	{ "verify", run_verify, true, false, false },
	{ "divergence-drop", run_divergence_drop, true, false, true },
	{ "wait", run_wait, true, false, false },
	{ "mount", run_mount, true, false, false },
	{ "umount", run_umount, true, false, false },
	{ "loop", run_loop, true, false, false },
	{ "check", run_check, true, false, false },
	{ "check-status", run_check_status, false, false, false },
	{ "df", run_df, true, false, false },
};

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* ---- the request ----------------------------------------------------------------------------------- */

/* Of a divergence: never 0. JSON's own numbers are signed, so it is text. */
static bool id_read(const char *text, uint64_t *id)
{
	*id = 0;
	if (strlen(text) > 16 || text[strspn(text, "0123456789abcdef")] != '\0')
		return false;
	*id = strtoull(text, NULL, 16);
	return *id != 0;
}

static bool count_read(const json_t *value, uint64_t most, uint64_t *out)
{
	json_int_t count = json_integer_value(value);

	if (!json_is_integer(value) || count < 0 || (uint64_t)count > most)
		return false;
	*out = (uint64_t)count;
	return true;
}

/* Fills c->call and *verb from an object of any content. False: it was refused. */
static bool request_read(struct client *c, const json_t *request, const char **verb)
{
	uint64_t milliseconds;
	const char *key;
	json_t *value;

	memset(&c->call, 0, sizeof c->call);
	c->directory[0] = 0;
	*verb = NULL;
	json_object_foreach((json_t *)request, key, value) {
		const char *text = json_string_value(value);

		if (strcmp(key, "verb") == 0 && text) {
			*verb = text;
		} else if (strcmp(key, "node") == 0 && text && strlen(text) < NAME_BYTES) {
			strcpy(c->call.node, text);
		} else if (strcmp(key, "directory") == 0 && text && strlen(text) < sizeof c->directory) {
			strcpy(c->directory, text);
		} else if (strcmp(key, "force") == 0 && json_is_boolean(value)) {
			c->call.force = json_is_true(value);
		} else if (strcmp(key, "dry_run") == 0 && json_is_boolean(value)) {
			c->call.dry_run = json_is_true(value);
		} else if (strcmp(key, "repair") == 0 && json_is_boolean(value)) {
			c->call.repair = json_is_true(value);
		} else if (strcmp(key, "id") == 0 && text && id_read(text, &c->call.id)) {
			continue;
		} else if (strcmp(key, "lsn") == 0 && count_read(value, LSN_MAX, &c->call.lsn)) {
			continue;
		} else if (strcmp(key, "timeout_ms") == 0 && count_read(value, TIMEOUT_MS_MAX, &milliseconds)) {
			c->call.timeout_ns = milliseconds * 1000000;
		} else {
			client_refuse(c, -EINVAL, "request: \"%.64s\" is no key of a request, or its value is of "
				      "the wrong kind; use verb, node, force, dry_run, repair, id, directory, lsn, "
				      "timeout_ms", key);
			return false;
		}
	}
	if (!*verb)
		client_refuse(c, -EINVAL, "request: it has no \"verb\"; send for example {\"verb\":\"status\"}");
	return *verb != NULL;
}

static void client_request(struct client *c, const json_t *request)
{
	const struct verb *verb;
	const char *name;

	if (!request_read(c, request, &name))
		return;
	verb = verb_find(name);
	if (!verb)
		client_refuse(c, -EOPNOTSUPP, "request: this daemon (version %s) has no verb \"%.64s\"; see "
			      "`holdfast help`", HOLDFAST_VERSION, name);
	else if (verb->wants_node && !c->call.node[0])
		client_refuse(c, -EINVAL, "request: %s needs a \"node\"; name one of `holdfast status`", verb->name);
	else if (verb->wants_id && c->call.id == 0)
		client_refuse(c, -EINVAL, "request: %s needs an \"id\"; name one of `holdfast divergence`", verb->name);
	else if (verb->is_call && c->control->refuse_calls)
		client_refuse(c, -ESHUTDOWN, "volume is stopping and takes no %s; start it again with `holdfast up`",
			      verb->name);
	else
		verb->run(c);
}

static void client_line(struct client *c, const char *line, size_t len)
{
	json_error_t error;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);

	if (json_is_object(request)) {
		client_request(c, request);
	} else {
		c->last = true;
		client_refuse(c, -EBADMSG, "request: the line is no JSON object; send one object per line");
	}
	json_decref(request);
}

static void client_received(struct io_op *op, int64_t result)
{
	struct client *c = container_of(op, struct client, op);
	int fd = -1;

	CHECK(c->state == CLIENT_RECEIVING);
	if (result == 0)
		result = ring_socket_receive(c->control->ring, c->socket, c->line + c->line_len,
					     sizeof c->line - c->line_len, &fd);
	if (fd >= 0) {
		file_drop(c);
		c->file = fd;
	}
	if (result <= 0 && result != -EAGAIN) {
		client_end(c);
		return;
	}
	c->line_len += result > 0 ? (size_t)result : 0;
	client_next(c);
}

/* Takes the next line of what has come, or waits for more. Empty lines are nothing. */
static void client_next(struct client *c)
{
	char *end;

	if (c->control->stopping) {
		client_end(c);
		return;
	}
	while ((end = memchr(c->line, '\n', c->line_len))) {
		size_t len = (size_t)(end - c->line);
		bool empty = strspn(c->line, " \t\r") == len;

		if (!empty)
			client_line(c, c->line, len);	/* keeps nothing of the line */
		if (!empty)
			file_drop(c);
		c->line_len -= len + 1;
		memmove(c->line, end + 1, c->line_len);
		if (!empty)
			return;
	}
	if (c->line_len == sizeof c->line) {
		c->last = true;
		client_refuse(c, -EMSGSIZE, "request: the line is longer than %d bytes; send one request per line",
			      CONTROL_LINE_BYTES);
		return;
	}
	c->state = CLIENT_RECEIVING;
	c->op = (struct io_op){ .kind = IO_POLL, .file = c->socket, .done = client_received };
	c->control->io->submit(c->control->io, &c->op);
}

/* ---- connections ----------------------------------------------------------------------------------- */

static struct client *client_free_slot(struct control *control)
{
	for (unsigned i = 0; i <= CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i].state == CLIENT_FREE)
			return &control->clients[i];
	return NULL;
}

static void client_begin(struct client *c, int socket, bool room)
{
	uid_t uid = (uid_t)-1;
	int res = ring_socket_peer_uid(c->control->ring, socket, &uid);

	c->socket = socket;
	c->last = false;
	c->line_len = 0;
	c->state = CLIENT_ANSWERING;
	if (res < 0 || (uid != 0 && uid != geteuid())) {
		c->last = true;
		client_refuse(c, -EPERM, "control socket: user %lld may not control this volume; ask as root or as "
			      "the user the daemon runs as", res < 0 ? -1ll : (long long)uid);
	} else if (!room) {
		c->last = true;
		client_refuse(c, -EUSERS, "control socket: %d connections are open already; close one and try again",
			      CONTROL_CLIENTS_MAX);
	} else {
		client_next(c);
	}
}

static void control_accepted(struct io_op *op, int64_t result)
{
	struct control *control = container_of(op, struct control, accept);
	bool room = clients_count(control) < CONTROL_CLIENTS_MAX;
	struct client *c = client_free_slot(control);

	if (control->stopping) {
		if (result >= 0)
			control->io->close(control->io, (int)result);
		stop_check(control);
	} else if (result < 0) {
		say(control->io, IO_WARNING, "control socket: a connection cannot be accepted: %s; trying again",
		    strerror((int)-result));
		control->pause.offset = ACCEPT_PAUSE_NS;
		control->io->submit(control->io, &control->pause);
	} else {
		CHECK(c != NULL);
		client_begin(c, (int)result, room);
		accept_next(control);
	}
}

static void control_paused(struct io_op *op, int64_t result)
{
	struct control *control = container_of(op, struct control, pause);

	(void)result;
	accept_next(control);
	stop_check(control);
}

/* Idle when all clients are taken, the one for refusals too: client_end() comes back here. */
static void accept_next(struct control *control)
{
	if (control->listening < 0 || control->accept.in_flight || control->pause.in_flight ||
	    !client_free_slot(control))
		return;
	control->accept.file = control->listening;
	control->io->submit(control->io, &control->accept);
}

/* ---- from new to free ------------------------------------------------------------------------------ */

static void control_patience_over(struct io_op *op, int64_t result)
{
	struct control *control = container_of(op, struct control, patience);

	(void)result;
	control->patience_over = true;
	for (unsigned i = 0; i <= CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i].state == CLIENT_ANSWERING)
			client_close(&control->clients[i]);	/* nobody reads there */
	stop_check(control);
}

int control_new(struct control **out, struct ring *ring, const struct control_config *config)
{
	struct control *control = calloc(1, sizeof *control);

	if (!control)
		return -ENOMEM;
	control->io = ring_io(ring);
	control->ring = ring;
	control->config = *config;
	control->listening = -1;
	control->accept = (struct io_op){ .kind = IO_ACCEPT, .done = control_accepted };
	control->pause = (struct io_op){ .kind = IO_TIMER, .done = control_paused };
	control->patience = (struct io_op){ .kind = IO_TIMER, .offset = STOP_PATIENCE_NS,
					    .done = control_patience_over };
	for (unsigned i = 0; i <= CONTROL_CLIENTS_MAX; i++) {
		control->clients[i].control = control;
		control->clients[i].socket = control->clients[i].file = -1;
	}
	*out = control;
	return 0;
}

int control_listen(struct control *control, const char *address)
{
	int res = control->io->listen(control->io, address, &control->listening);

	if (res < 0) {
		control->listening = -1;
		return res;
	}
	accept_next(control);
	return 0;
}

void control_refuse_calls(struct control *control)
{
	control->refuse_calls = true;
}

void control_stop(struct control *control, int result, const char *why, void (*done)(void *context),
		  void *context)
{
	CHECK(!control->stopping);
	control->stopping = control->refuse_calls = true;
	control->stopped = done;
	control->stopped_context = context;
	control->io->submit(control->io, &control->patience);
	if (control->listening >= 0)
		control->io->close(control->io, control->listening);
	control->listening = -1;
	control->io->cancel(control->io, &control->pause);
	for (unsigned i = 0; i <= CONTROL_CLIENTS_MAX; i++) {
		struct client *c = &control->clients[i];

		c->last = true;
		if (c->state == CLIENT_RECEIVING)
			client_close(c);
		else if (c->state == CLIENT_DOWN)
			client_answer_result(c, result, why);
	}
	stop_check(control);
}

void control_free(struct control *control)
{
	if (!control)
		return;
	CHECK(control->listening < 0 && !control->accept.in_flight && !control->patience.in_flight);
	CHECK(clients_count(control) == 0);
	free(control);
}
