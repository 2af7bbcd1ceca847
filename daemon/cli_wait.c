/* SPDX-License-Identifier: Apache-2.0 */
/* lsn, wait: to read on one node what was written on another. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "auto.h"
#include "cli.h"
#include "mount.h"

/* What programs have written into mappings is the volume's only when the kernel has written it back. */
static void mapped_write(const char *path)
{
	struct stat st;
	AUTO_CLOSE int fd = -1;

	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				      SYNC_FILE_RANGE_WAIT_AFTER);
}

enum cli_exit cli_lsn(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };
	const char *path;
	char lsn[32];
	ssize_t len;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	path = cli->words[0];
	mapped_write(path);
	len = lgetxattr(path, MOUNT_LSN_XATTR, lsn, sizeof lsn - 1);
	if (len < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
		return cli_refuse("%s: is not in the mounted directory of a volume; see: holdfast status", path);
	if (len < 0)
		return cli_refuse("%s: %s", path, strerror(errno));
	printf("%.*s\n", (int)len, lsn);
	return CLI_DONE;
}

enum cli_exit cli_wait(struct cli *cli, int argc, char **argv)
{
	const char *lsn = NULL, *node = "", *timeout = "60";
	const struct cli_option options[] = {
		{ .name = "lsn", .values = &lsn, .max = 1 },
		{ .name = "node", .values = &node, .max = 1 },
		{ .name = "timeout", .values = &timeout, .max = 1 },
		{ 0 },
	};
	char *end_lsn = NULL, *end;
	unsigned long long at = 0;
	double seconds;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	errno = 0;
	if (lsn)
		at = strtoull(lsn, &end_lsn, 10);
	if (!lsn || errno || *lsn < '0' || *lsn > '9' || *end_lsn || at >= LSN_MAX) {
		cli_refuse("wait: --lsn %.40s: is no LSN; `holdfast lsn PATH` prints one", lsn ? lsn : "is missing");
		return CLI_USAGE;
	}
	seconds = strtod(timeout, &end);
	if (*timeout < '0' || *timeout > '9' || *end || !(seconds <= 1000000)) {
		cli_refuse("wait: --timeout %.40s: is no number of seconds up to a million", timeout);
		return CLI_USAGE;
	}
	return cli_tell(cli, cli->words[0],
			json_pack("{s:s,s:I,s:s,s:I}", "verb", "wait", "lsn", (json_int_t)at, "node", node,
				  "timeout_ms", (json_int_t)(seconds * 1000)));
}
