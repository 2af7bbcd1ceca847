/* SPDX-License-Identifier: Apache-2.0 */
/* A replica whose daemon does not run, opened to be read (blk/stopped.h): what `extract` and its like stand on. */
#ifndef HOLDFAST_STOPPED_REPLICA_H
#define HOLDFAST_STOPPED_REPLICA_H

#include "config.h"
#include "io.h"
#include "stopped.h"

struct stopped_replica;

/* The replica of @config: store, journal, meta and undo by its paths, and its geometry must be the files'. No daemon
 * can start while it is open. -EBUSY: a daemon has it; -ENOENT, -EACCES and other -errno of the files; the errors of
 * stopped_new(); then @why is one sentence. */
MUST_CHECK int stopped_replica_open(struct stopped_replica **out, const struct config *config, enum stopped_view view,
				    bool force, char why[WHY_BYTES]);
/* The same of a directory that has files named store, journal, meta, undo-0 to undo-3, whosever they are: a replica's
 * state directory, or a copy of one. */
MUST_CHECK int stopped_replica_open_in(struct stopped_replica **out, const char *directory, enum stopped_view view,
				       bool force, char why[WHY_BYTES]);
/* NULL is fine. */
void stopped_replica_close(struct stopped_replica *r);

struct stopped *stopped_replica_stopped(struct stopped_replica *r);
/* Memory, chance, clocks and a log on stderr, for a filesystem on its blocks. There are no disks behind it: nothing may
 * be submitted. */
struct io *stopped_replica_io(struct stopped_replica *r);

#endif
