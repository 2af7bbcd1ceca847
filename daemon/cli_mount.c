/* SPDX-License-Identifier: Apache-2.0 */
/* mount, umount. What needs privileges or has to look at paths, which may lie on mounts of the daemon's own, is done
 * here; the daemon gets the open file. */
#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auto.h"
#include "cli.h"
#include "config_edit.h"
#include "fuse_mountpoint.h"

enum { LEFT_WAIT_MS = 10000 };

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

/* The directory of the command line, or of the config. */
static enum cli_exit directory_find(const struct cli *cli, char out[PATH_MAX])
{
	static struct config config;	/* larger than is good for a stack */
	const char *volume = cli->words[0], *given = cli->words[1];
	struct paths paths;
	enum cli_exit res;

	if (!given) {
		res = cli_paths(cli, volume, &paths);
		if (res == CLI_DONE)
			res = cli_config(&paths, volume, &config);
		if (res != CLI_DONE)
			return res;
		given = config.mount;
		if (!*given)
			return cli_refuse("volume %s: its config has no mount = DIRECTORY; name one: holdfast mount %s "
					  "DIRECTORY", volume, volume);
	}
	return directory_prepare(volume, given, out);
}

/* Where the daemon says that it is mounted; "" nowhere. */
static enum cli_exit mounted_at(const struct cli *cli, char out[PATH_MAX])
{
	AUTO_JSON json_t *reply = NULL;
	enum cli_exit res = cli_ask(cli, cli->words[0], json_pack("{s:s}", "verb", "status"), &reply);

	if (res == CLI_DONE)
		snprintf(out, PATH_MAX, "%s", cli_json_text(json_object_get(reply, "status"), "mount"));
	return res;
}

enum cli_exit cli_mount(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };
	char directory[PATH_MAX], before[PATH_MAX], why[WHY_BYTES];
	AUTO_CLOSE int fd = -1;
	enum cli_exit res;
	json_t *request;

	if (cli_arguments(cli, argc, argv, options, 1, 2) != CLI_DONE)
		return CLI_USAGE;
	res = mounted_at(cli, before);
	if (res == CLI_DONE)
		res = directory_find(cli, directory);
	if (res != CLI_DONE)
		return res;
	request = json_pack("{s:s, s:s}", "verb", "mount", "directory", directory);
	/* Who may not mount asks a daemon that may. */
	if (*before || fuse_mountpoint_mount(directory, &fuse_mount_directory, &fd, why) < 0)
		return cli_tell(cli, cli->words[0], request);
	res = cli_ask_with_file(cli, cli->words[0], request, fd, NULL);
	if (res != CLI_DONE)
		(void)umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW);
	return res;
}

/* The daemon has no privilege to do it. It sees by itself that it was done; that is waited for. */
static enum cli_exit umount_here(const struct cli *cli, const char *directory)
{
	const char *volume = cli->words[0];
	char at[PATH_MAX];

	if (umount2(directory, UMOUNT_NOFOLLOW) < 0) {
		if (errno == EBUSY)
			return cli_refuse("volume %s is in use at %s: see who with: fuser -vm %s; or use --force",
					  volume, directory, directory);
		return cli_refuse("volume %s: %s: %s", volume, directory, strerror(errno));
	}
	for (unsigned ms = 0; ms < LEFT_WAIT_MS; ms += 20) {
		enum cli_exit res = mounted_at(cli, at);

		if (res != CLI_DONE || strcmp(at, directory) != 0)
			return res;
		usleep(20000);
	}
	return cli_refuse("volume %s: %s is unmounted, but the daemon still serves it; see its log", volume, directory);
}

/* A daemon that died leaves its mount: that can be got rid of without one. */
static enum cli_exit umount_dead(const struct cli *cli)
{
	static struct config config;	/* larger than is good for a stack */
	struct paths paths;
	enum cli_exit res = cli_paths(cli, cli->words[0], &paths);

	if (res == CLI_DONE)
		res = cli_config(&paths, cli->words[0], &config);
	if (res == CLI_DONE && *config.mount)
		fuse_mountpoint_clear(config.mount);
	return res == CLI_DONE ? CLI_NO_DAEMON : res;
}

enum cli_exit cli_umount(struct cli *cli, int argc, char **argv)
{
	bool force = false;
	const struct cli_option options[] = { { .name = "force", .flag = &force }, { 0 } };
	AUTO_JSON json_t *request = NULL, *reply = NULL;
	char directory[PATH_MAX];
	struct paths paths;
	enum cli_exit res;
	int error;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	res = mounted_at(cli, directory);
	if (res == CLI_NO_DAEMON)
		return umount_dead(cli);
	if (res == CLI_DONE)
		res = cli_paths(cli, cli->words[0], &paths);
	if (res != CLI_DONE)
		return res;
	AUTO_CLOSE int fd = cli_control_open(&paths);

	request = json_pack("{s:s, s:b}", "verb", "umount", "force", force);
	error = fd < 0 ? fd : cli_control_ask(fd, request, &reply);
	if (error < 0)
		return cli_refuse("volume %s: the daemon at %s does not answer: %s", cli->words[0], paths.control,
				  strerror(-error));
	if (json_is_true(json_object_get(reply, "ok"))) {
		fuse_mountpoint_clear(directory);	/* by force, and it was not allowed to unmount */
		return CLI_DONE;
	}
	if (strcmp(cli_json_text(reply, "error"), "EPERM") == 0)
		return umount_here(cli, directory);
	return cli_refused_by_daemon(cli->words[0], reply);
}
