/* SPDX-License-Identifier: Apache-2.0 */
/* A control server on the real ring and real sockets, of a volume that is only its answers; and its other side. */
#ifndef HOLDFAST_TESTS_CONTROL_RIG_H
#define HOLDFAST_TESTS_CONTROL_RIG_H

#include "control.h"
#include "run.h"

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

void rig_serve(struct fake *f, unsigned ms);
int rig_setup(void **state);
int rig_teardown(void **state);
void rig_stop(struct fake *f, int result, const char *why);
int rig_dial(const struct fake *f);
void rig_say_bytes(int fd, const void *bytes, size_t len);
void rig_say_with_files(int fd, const char *bytes, unsigned count, const char *const said[]);
unsigned rig_files_open(void);
json_t *rig_hear(struct fake *f, int fd);
json_t *rig_ask(struct fake *f, int fd, const char *request);
const char *rig_text(const json_t *object, const char *key);
void rig_assert_refused(struct fake *f, int fd, const char *request, const char *error);
void rig_assert_done(struct fake *f, int fd, const char *request);

#endif
