/* SPDX-License-Identifier: Apache-2.0 */
/* To the background, and back to whoever started us when it is decided. */
#ifndef HOLDFAST_BACKGROUND_H
#define HOLDFAST_BACKGROUND_H

#include "check.h"

/* Returns in a child of its own session, whose stdin and stdout are nobody's; stderr stays. Before there is a ring or a
 * thread: neither survives fork(). *told: the caller's; the process that was started waits until "ready" or anything
 * else is written there, or it is closed, and exits with @ready or @refused. -errno: there is no child. */
MUST_CHECK int background(int ready, int refused, int *told);

#endif
