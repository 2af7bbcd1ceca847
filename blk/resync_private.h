/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of the taking side know of each other: resync_sink_begin.c (until it asks), resync_sink.c (from the
 * jump to the end), resync_sink_back.c (a take-over in between). */
#ifndef HOLDFAST_RESYNC_PRIVATE_H
#define HOLDFAST_RESYNC_PRIVATE_H

#include "resync.h"

void resync_step_to(struct volume *v, enum sink_step step);
/* Nothing of this replica was changed: everything is as before. @why (or NULL) is what the source is told. */
void resync_give_up(struct volume *v, const char *why);
/* All our log is durable, applied and in the store, and nothing is in flight. */
bool resync_settled(struct volume *v);
/* Meta, and with it what peers may lack, is of a log that begins anew at @at; history and resync are set. Saved when
 * v->sink.ticket is. */
void resync_meta_anew(struct volume *v, const struct position *at);
/* Log, journal and apply go on from @at, as meta says already. */
void resync_log_anew(struct volume *v, const struct position *at);
void resync_say_wants(struct volume *v);
/* A resync that goes on with another source, whose history parts from ours below where we were: what that means is
 * noted durably before it is asked. */
void resync_rest(struct volume *v);

/* Steps: each is called every turn while it is the one. */
void resync_settle(struct volume *v);
void resync_walk(struct volume *v);
void resync_snapshot_taken(struct volume *v);
void resync_back_quiet(struct volume *v);
void resync_back_forgot(struct volume *v);
void resync_back_copied(struct volume *v);
void resync_back_saved(struct volume *v);

#endif
