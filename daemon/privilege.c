/* SPDX-License-Identifier: Apache-2.0 */
#include "privilege.h"

#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

void privilege_begin(void)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY }, none = { 0, 0 };

	/* Keys and pages of the volume are in memory. Where cores are piped the limit does not count, the flag does. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)setrlimit(RLIMIT_MEMLOCK, &all);
}

static bool lock_limited(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur != RLIM_INFINITY;
}

static bool have(unsigned capability)
{
	return capng_get_caps_process() == 0 && capng_have_capability(CAPNG_EFFECTIVE, capability);
}

static int keep(unsigned capability)
{
	return capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, capability) < 0 ? -EINVAL : 0;
}

int privilege_drop(bool mounts)
{
	bool locks = lock_limited() && have(CAP_IPC_LOCK);
	int res = 0;

	mounts = mounts && privilege_mounts();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (capng_get_caps_process() < 0)
		return -EIO;
	if (capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE)
		return 0;
	capng_clear(CAPNG_SELECT_BOTH);
	if (mounts)
		res = keep(CAP_SYS_ADMIN);
	if (res == 0 && locks)
		res = keep(CAP_IPC_LOCK);
	if (res == 0 && capng_apply(CAPNG_SELECT_BOTH) < 0)
		res = -EPERM;
	return res;
}

bool privilege_locks(void) { return !lock_limited() || have(CAP_IPC_LOCK); }
bool privilege_mounts(void) { return have(CAP_SYS_ADMIN); }
