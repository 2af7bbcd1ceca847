/* SPDX-License-Identifier: Apache-2.0 */
/* The loop device of a volume. It is tied here and not by the daemon, which may not open its own
 * mount. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "auto.h"
#include "cli.h"
#include "fuse_mountpoint.h"

enum { GONE_WAIT_MS = 10000, GET_FREE_TRIES = 16, DEVICES_MAX = 16 };

/* The first line of the small file that @format names, without its newline. -errno */
__attribute__((format(printf, 3, 4)))
static int line_read(char *out, size_t room, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof path, format, args);
	va_end(args);
	AUTO_FCLOSE FILE *f = fopen(path, "re");

	if (!f)
		return -errno;
	if (!fgets(out, (int)room, f))
		return -EIO;
	out[strcspn(out, "\n")] = 0;
	return 0;
}

/* The numbers of the loop devices over @file; how many. */
static int devices_find(const char *file, int numbers[DEVICES_MAX])
{
	DIR *dir = opendir("/sys/block");
	char backing[PATH_MAX];
	struct dirent *entry;
	int count = 0;

	while (dir && count < DEVICES_MAX && (entry = readdir(dir))) {
		const char *number = entry->d_name + 4;

		if (strncmp(entry->d_name, "loop", 4) != 0 || !isdigit((unsigned char)*number))
			continue;
		if (line_read(backing, sizeof backing, "/sys/block/loop%s/loop/backing_file",
			      number) == 0 &&
		    strcmp(backing, file) == 0)
			numbers[count++] = atoi(number);
	}
	if (dir)
		closedir(dir);
	return count;
}

/* Sysfs names the file by its real path, so ours must be one. */
static void real_path(const char *path, char out[PATH_MAX])
{
	char directory[PATH_MAX];
	char *name;

	snprintf(directory, sizeof directory, "%s", path);
	name = strrchr(directory, '/'); /* the directory: a dead mount can be named, not entered */
	*name = 0;
	name = strrchr(directory, '/');
	*name = 0;
	if (!realpath(*directory ? directory : "/", out))
		snprintf(out, PATH_MAX, "%s", directory);
	if (strcmp(out, "/") == 0)
		*out = 0;
	snprintf(out + strlen(out), PATH_MAX - strlen(out), "%s", path + (name - directory));
}

int cli_attached(const struct paths *paths)
{
	int numbers[DEVICES_MAX];
	char file[PATH_MAX];

	real_path(paths->mount_file, file);
	return devices_find(file, numbers) > 0 ? numbers[0] : -ENOENT;
}

static enum cli_exit device_configure(const char *volume, const char *file, bool read_only,
				      char device[32])
{
	int mode = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	AUTO_CLOSE int backing = open(file, mode);
	AUTO_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .block_size = 512,
				      .info = { .lo_flags = LO_FLAGS_DIRECT_IO } };

	if (backing < 0)
		return cli_refuse("volume %s: %s: %s", volume, file, strerror(errno));
	if (control < 0)
		return cli_refuse("volume %s: /dev/loop-control: %s; load the loop module", volume,
				  strerror(errno));
	config.fd = (uint32_t)backing;
	config.info.lo_flags |= read_only ? LO_FLAGS_READ_ONLY : 0;
	snprintf((char *)config.info.lo_file_name, sizeof config.info.lo_file_name, "%.63s", file);
	/* Between asking for a free device and taking it, somebody else may. */
	for (unsigned i = 0; i < GET_FREE_TRIES; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		AUTO_CLOSE int fd = -1;

		if (number < 0)
			return cli_refuse("volume %s: no loop device is free: %s", volume,
					  strerror(errno));
		snprintf(device, 32, "/dev/loop%d", number);
		fd = open(device, mode);
		if (fd < 0)
			return cli_refuse("volume %s: %s: %s", volume, device, strerror(errno));
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			return CLI_DONE;
		if (errno != EBUSY)
			return cli_refuse("volume %s: %s over %s: %s", volume, device, file,
					  strerror(errno));
	}
	return cli_refuse("volume %s: others took each free loop device; try again", volume);
}

/* The daemon may not mount: it is done here, and handed to it. */
static enum cli_exit loop_mount(const struct cli *cli, const char *volume, const char *mount_file)
{
	char directory[PATH_MAX], why[WHY_BYTES];
	AUTO_CLOSE int fd = -1;
	enum cli_exit res;

	snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(mount_file, '/') - mount_file), mount_file);
	if (fuse_mountpoint_prepare(directory, why) < 0 ||
	    fuse_mountpoint_mount(directory, &fuse_mount_loop, &fd, why) < 0)
		return cli_refuse("volume %s: %s", volume, why);
	res = cli_ask_with_file(cli, volume, json_pack("{s:s}", "verb", "loop"), fd, NULL);
	if (res != CLI_DONE)
		(void)umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW);
	return res;
}

enum cli_exit cli_attach(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };
	AUTO_JSON json_t *reply = NULL;
	int numbers[DEVICES_MAX];
	char file[PATH_MAX], device[32];
	const char *volume;
	bool read_only;
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	volume = cli->words[0];
	res = cli_ask(cli, volume, json_pack("{s:s}", "verb", "attach-info"), &reply);
	if (res != CLI_DONE)
		return res;
	if (!strchr(cli_json_text(reply, "mount_file"), '/'))
		return cli_refuse("volume %s: the daemon's answer has no mount_file; is it another version?", volume);
	if (!json_is_true(json_object_get(reply, "loop"))) {
		res = loop_mount(cli, volume, cli_json_text(reply, "mount_file"));
		if (res != CLI_DONE)
			return res;
	}
	real_path(cli_json_text(reply, "mount_file"), file);
	read_only = strcmp(cli_json_text(reply, "role"), "primary") != 0;
	if (devices_find(file, numbers) > 0)
		return cli_refuse("volume %s: it is attached as /dev/loop%d already; detach it "
				  "with: holdfast detach %s",
				  volume, numbers[0], volume);
	res = device_configure(volume, file, read_only, device);
	if (res != CLI_DONE)
		return res;
	printf("%s\n", device);
	if (read_only)
		fprintf(stderr,
			"holdfast: volume %s: this node is not the primary, so %s is read-only\n",
			volume, device);
	return CLI_DONE;
}

/* ---- detach ------------------------------------------------------------------------------- */

/* Where the device with number @dev ("7:0") is mounted: in @at, as mountinfo writes it. */
static bool device_mounted(const char *dev, char at[PATH_MAX])
{
	AUTO_FCLOSE FILE *f = fopen("/proc/self/mountinfo", "re");
	AUTO_FREE char *line = NULL;
	size_t room = 0;
	char number[32];

	while (f && getline(&line, &room, f) > 0)
		if (sscanf(line, "%*u %*u %31s %*s %4095s", number, at) == 2 &&
		    strcmp(number, dev) == 0)
			return true;
	return false;
}

/* The device itself or one of its partitions is mounted, swapped to, or below another device. */
static bool device_used(int number, char by[PATH_MAX + 32])
{
	char directory[64], dev[32], at[PATH_MAX], line[256], name[32];
	struct dirent *entry;
	DIR *dir;
	bool used = line_read(dev, sizeof dev, "/sys/block/loop%d/dev", number) == 0 &&
		    device_mounted(dev, at);

	snprintf(directory, sizeof directory, "/sys/block/loop%d", number);
	dir = opendir(directory);
	while (!used && dir && (entry = readdir(dir)))
		used = strncmp(entry->d_name, "loop", 4) == 0 && strlen(entry->d_name) < 32 &&
		       line_read(dev, sizeof dev, "%s/%s/dev", directory, entry->d_name) == 0 &&
		       device_mounted(dev, at);
	if (dir)
		closedir(dir);
	if (used) {
		snprintf(by, PATH_MAX + 32, "mounted on %s", at);
		return true;
	}
	snprintf(directory, sizeof directory, "/sys/block/loop%d/holders", number);
	dir = opendir(directory);
	while (!used && dir && (entry = readdir(dir))) {
		used = entry->d_name[0] != '.';
		snprintf(by, PATH_MAX + 32, "below /dev/%.200s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	snprintf(name, sizeof name, "/dev/loop%d", number);
	AUTO_FCLOSE FILE *swaps = fopen("/proc/swaps", "re");

	while (!used && swaps && fgets(line, sizeof line, swaps)) {
		used = strncmp(line, name, strlen(name)) == 0 &&
		       !isdigit((unsigned char)line[strlen(name)]);
		snprintf(by, PATH_MAX + 32, "swap space");
	}
	return used;
}

static bool device_over(int number, const char *file)
{
	char backing[PATH_MAX];

	return line_read(backing, sizeof backing, "/sys/block/loop%d/loop/backing_file",
			 number) == 0 &&
	       strcmp(backing, file) == 0;
}

static enum cli_exit device_detach(const char *volume, const char *file, int number)
{
	char device[32], by[PATH_MAX + 32];

	snprintf(device, sizeof device, "/dev/loop%d", number);
	if (device_used(number, by))
		return cli_refuse("volume %s: %s is %s; umount it first", volume, device, by);
	AUTO_CLOSE int fd = open(device, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return cli_refuse("volume %s: %s: %s", volume, device, strerror(errno));
	/* What programs wrote to the device without syncing lies in its page cache. */
	if (fsync(fd) < 0)
		cli_refuse("volume %s: %s: last writes are lost: %s", volume, device,
			   strerror(errno));
	if (ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO)
		return cli_refuse("volume %s: %s: %s", volume, device, strerror(errno));
	close(TAKE_FD(fd));
	for (unsigned ms = 0; device_over(number, file); ms += 20) {
		if (ms >= GONE_WAIT_MS)
			return cli_refuse("volume %s: %s is still open somewhere; it goes when "
					  "that is closed",
					  volume, device);
		usleep(20000);
	}
	return CLI_DONE;
}

/* Works without a daemon: a device over a dead mount must be got rid of, too. */
enum cli_exit cli_detach(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };
	enum cli_exit res;
	int numbers[DEVICES_MAX], count;
	struct paths paths;
	char file[PATH_MAX];

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	res = cli_paths(cli, cli->words[0], &paths);
	if (res != CLI_DONE)
		return res;
	real_path(paths.mount_file, file);
	count = devices_find(file, numbers);
	if (count == 0)
		return cli_refuse(
			"volume %s: it is not attached; attach it with: holdfast attach %s",
			cli->words[0], cli->words[0]);
	for (int i = 0; i < count && res == CLI_DONE; i++)
		res = device_detach(cli->words[0], file, numbers[i]);
	return res;
}

void cli_detach_dead(const char *volume, const struct paths *paths)
{
	char file[PATH_MAX], device[32], by[PATH_MAX + 32];
	int numbers[DEVICES_MAX], count;

	real_path(paths->mount_file, file);
	count = devices_find(file, numbers);
	for (int i = 0; i < count; i++) {
		bool used = device_used(numbers[i], by);

		snprintf(device, sizeof device, "/dev/loop%d", numbers[i]);
		AUTO_CLOSE int fd = open(device, O_RDONLY | O_CLOEXEC);

		fprintf(stderr, "holdfast: volume %s: %s was of a daemon that has died; ", volume, device);
		if (fd < 0 || ioctl(fd, LOOP_CLR_FD) < 0)
			fprintf(stderr, "it cannot be detached: %s\n", strerror(errno));
		else if (used)
			fprintf(stderr, "it fails, and is %s: umount it, and it goes\n", by);
		else
			fprintf(stderr, "it is detached\n");
	}
}
