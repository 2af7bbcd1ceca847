/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks, and what they may do.
 *
 * With `default_permissions` the kernel itself checks, from the attributes and ACLs that we gave it, before it asks us:
 * search and write permission of directories, permission bits on open and truncate, sticky directories, who may chmod,
 * chown, set times and which bits chmod keeps, the namespaces of xattrs. A caller with `checked` says that this was
 * done, and none of it is done again: the kernel knows capabilities, and we only know uid 0. All the rest is ours for
 * every caller: inheritance of group, setgid and ACLs, the umask, clearing of setuid and setgid by chown and when a
 * request asks for it, what an ACL makes of the mode and the mode of an ACL. Without `checked` all of it is done here;
 * uid 0 may everything, but execute a file that nobody may execute. */
#ifndef HOLDFAST_CALLER_H
#define HOLDFAST_CALLER_H

#include <stdbool.h>
#include <stdint.h>

#include "check.h"

struct fs_time {
	int64_t seconds;	/* since 1970, before it negative */
	uint32_t nanoseconds;	/* below 1e9 */
};

struct caller {
	uint32_t uid, gid;
	const uint32_t *groups;		/* supplementary; the caller's */
	unsigned group_count;
	uint32_t umask;			/* of new inodes in directories without a default ACL */
	bool checked;			/* see above */
	struct fs_time now;		/* wall clock: what times become */
};

enum { MAY_EXECUTE = 1, MAY_WRITE = 2, MAY_READ = 4 };	/* as access(2) has them */

bool caller_in_group(const struct caller *caller, uint32_t gid);

#endif
