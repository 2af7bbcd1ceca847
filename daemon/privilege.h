/* SPDX-License-Identifier: Apache-2.0 */
/* What the process may do beyond what the modes of files allow. */
#ifndef HOLDFAST_PRIVILEGE_H
#define HOLDFAST_PRIVILEGE_H

#include <stdbool.h>

#include "check.h"

/* Before anything is read that others must not see: no core is dumped, and only root looks into the process. The limit
 * of locked memory is raised, where that is allowed. */
void privilege_begin(void);
/* Whether memory may be locked without a limit. */
bool privilege_locks(void);
/* When all files are open, and before there is another thread: every capability goes, for good and for what the process
 * may ever run. What stays: CAP_SYS_ADMIN (mount(2), umount(2)) with @mounts, and CAP_IPC_LOCK where locked memory
 * has a limit. -errno: it was not possible. A process without any has none to give up. */
MUST_CHECK int privilege_drop(bool mounts);
/* Whether we may mount and unmount now. */
bool privilege_mounts(void);

#endif
