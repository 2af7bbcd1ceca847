/* SPDX-License-Identifier: Apache-2.0 */
/* mount, umount: the daemon does both; what has to look at paths, which may lie on mounts of its own, is done here. */
#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "auto.h"
#include "cli.h"
#include "config_edit.h"
#include "fuse_mountpoint.h"

/* The directory as the daemon wants it: it is there, no dead mount is on it, and no link is in its path. */
static enum cli_exit directory_prepare(const char *volume, const char *given, char out[PATH_MAX])
{
	char why[WHY_BYTES], below[PATH_MAX];
	int res;

	if (strlen(given) >= sizeof below - 4)
		return cli_refuse("volume %s: the path has %zu bytes, which is too long", volume, strlen(given));
	snprintf(below, sizeof below, "%s/x", given);
	res = parents_make(below);
	if (res < 0 && res != -ENOTCONN && res != -EEXIST)
		return cli_refuse("volume %s: directory %s: cannot be made: %s", volume, given, strerror(-res));
	if (fuse_mountpoint_prepare(given, why) < 0)
		return cli_refuse("volume %s: %s", volume, why);
	if (!realpath(given, out))
		return cli_refuse("volume %s: directory %s: %s", volume, given, strerror(errno));
	return CLI_DONE;
}

enum cli_exit cli_mount(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };
	char directory[PATH_MAX];
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 2, 2) != CLI_DONE)
		return CLI_USAGE;
	res = directory_prepare(cli->words[0], cli->words[1], directory);
	if (res != CLI_DONE)
		return res;
	return cli_tell(cli, cli->words[0], json_pack("{s:s, s:s}", "verb", "mount", "directory", directory));
}

enum cli_exit cli_umount(struct cli *cli, int argc, char **argv)
{
	bool force = false;
	const struct cli_option options[] = { { .name = "force", .flag = &force }, { 0 } };

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	return cli_tell(cli, cli->words[0], json_pack("{s:s, s:b}", "verb", "umount", "force", force));
}
