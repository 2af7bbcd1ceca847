/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: how `holdfast VERB VOLUME` speaks to the daemon. A request is one line of JSON, and
 * so is its answer; a connection has one request at a time and may have many.
 *
 *	{"verb":"status"}			{"ok":true,"why":"","status":{...}}	(status_json.h)
 *	{"verb":"attach-info"}			{"ok":true,"why":"","mount_file":"/run/.../volume","loop":true,
 *						 "volume_bytes":n,"role":"primary","name":"db0"}
 *	{"verb":"promote","force":false}	{"ok":true,"why":"what was done, or empty"}
 *	{"verb":"failover","force":false,"dry_run":false}
 *	{"verb":"switchover","node":"b","dry_run":false,"force":false}
 *	{"verb":"demote","force":false}
 *	{"verb":"reconnect","node":"b"}
 *	{"verb":"resolve","node":"b","dry_run":false}
 *	{"verb":"verify","repair":false,"node":""}
 *	{"verb":"divergence-drop","id":"1f03..."}	1 to 16 hex digits, all of them: no prefix
 *	{"verb":"wait","lsn":4711,"node":"","timeout_ms":60000}
 *	{"verb":"mount","directory":"/srv/photos"}	an absolute path without links. A file descriptor of
 *						fuse_mountpoint_mount() may come with the line (SCM_RIGHTS); without
 *						one the daemon mounts by itself
 *	{"verb":"loop"}				the loop front end is to serve the mount whose descriptor comes with
 *						the line, on the directory of mount_file
 *	{"verb":"umount","force":false}
 *	{"verb":"check"}			begins one; what it finds, and how far it is, says
 *	{"verb":"check-status"}			{"ok":true,"why":"","check":{...}}	(checker.h)
 *	{"verb":"df"}				{"ok":true,"why":"","df":{...}}		(usage.h)
 *	{"verb":"down"}				answered when the store is written, just before the daemon exits
 *
 * A refusal is {"ok":false,"error":"EBUSY","why":"one sentence"}. Keys that are not known are refused: a
 * misspelt "dry_run" must not be done for real. After a line that is no JSON object, or over
 * CONTROL_LINE_BYTES, the connection ends with the answer. Only root and the daemon's own user are served.
 */
#ifndef HOLDFAST_CONTROL_H
#define HOLDFAST_CONTROL_H

#include "ring.h"
#include "usage.h"
#include "volume.h"

enum {
	CONTROL_CLIENTS_MAX = 16,		/* people and scripts; 64 KiB each */
	CONTROL_LINE_BYTES = 64 << 10,
};

enum control_call { CONTROL_PROMOTE, CONTROL_DEMOTE, CONTROL_FAILOVER, CONTROL_SWITCHOVER, CONTROL_RECONNECT,
		    CONTROL_RESOLVE, CONTROL_VERIFY, CONTROL_DIVERGENCE_DROP, CONTROL_WAIT, CONTROL_CALLS };

/* What the server does its work with: of holdfastd, or of a test. */
struct control_config {
	struct volume *volume;
	void (*calls[CONTROL_CALLS])(struct volume *v, struct volume_call *call);	/* volume_promote, ... */
	void (*status)(struct volume *v, struct volume_status *out);			/* volume_status */

	void *context;		/* of the following */
	/* How many hold the volume for writing; when any do, @who names them ("1 NBD client and the loop device"). */
	unsigned (*writers)(void *context, char who[WHY_BYTES]);
	bool (*loop_offered)(void *context);
	/* 0, or -errno with @why; @fd is not the server's any more. */
	int (*loop_serve)(void *context, int fd, char why[WHY_BYTES]);
	/* The mounted directory: where it is, "" = nowhere. Mounting: 0, or -errno with @why; @fd as above, or
	 * -1. Leaving: call->done() runs later, or now. NULL: the volume has no filesystem. */
	const char *(*mounted)(void *context);
	int (*mount)(void *context, const char *directory, int fd, char why[WHY_BYTES]);
	void (*umount)(void *context, struct volume_call *call);
	/* Its check, and how full it is; as checker.h and usage.h say. NULL, too. */
	int (*check)(void *context, char why[WHY_BYTES]);
	json_t *(*check_status)(void *context);
	void (*df)(struct volume *v, struct usage *usage);
	/* The daemon is to stop; it calls control_stop() when the store is written. */
	void (*down)(void *context);
	const char *mount_file;		/* must live as long as the server */
};

struct control;

/* Allots everything. *out is the caller's until control_free(). -ENOMEM. */
MUST_CHECK int control_new(struct control **out, struct ring *ring, const struct control_config *config);
/* @address: "unix:PATH". -errno of io->listen. Once. */
MUST_CHECK int control_listen(struct control *control, const char *address);
/* From now on only status and attach-info are served: the daemon stops. */
void control_refuse_calls(struct control *control);
/* Ends listening and all connections. Who asked for "down" is answered first: @result 0, or -errno with @why.
 * done(context) runs once, later, when no op and no call is in flight. The volume must answer its calls. */
void control_stop(struct control *control, int result, const char *why, void (*done)(void *context),
		  void *context);
/* Before control_listen() or after stop is done. NULL is fine. */
void control_free(struct control *control);

#endif
