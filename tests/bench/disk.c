/* SPDX-License-Identifier: Apache-2.0 */
/* disk FILE LOAD DEPTH SECONDS: one sample of the raw disk, to be held beside one of nbd.c. FILE is made, of
 * 256 MiB that are written once, when it is not there. */
#include <string.h>

#include "disk.h"

enum { FILE_BYTES = 256 << 20 };

int main(int argc, char **argv)
{
	static const struct { const char *name; enum disk_load load; } loads[] = {
		{ "write+fua", DISK_WRITE_DURABLE }, { "write", DISK_WRITE }, { "read", DISK_READ },
	};
	unsigned depth = argc == 5 ? (unsigned)atoi(argv[3]) : 0;
	struct sample sample = { 0 };
	struct disk disk;

	if (depth < 1 || depth > DISK_DEPTH_MAX)
		errx(2, "usage: disk FILE write+fua|write|read DEPTH SECONDS");
	for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
		if (strcmp(argv[2], loads[i].name) != 0)
			continue;
		disk_open(&disk, argv[1], FILE_BYTES);
		disk_run(&disk, loads[i].load, depth, atof(argv[4]), &sample);
		sample_print(&sample, argv[2], depth);
		return 0;
	}
	errx(2, "%s: no such load", argv[2]);
}
