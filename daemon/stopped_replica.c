/* SPDX-License-Identifier: Apache-2.0 */
/* Files, and memory from the heap, for blk/stopped.c. */
#include "stopped_replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "auto.h"
#include "replica_files.h"

struct stopped_replica {
	struct stopped_files reader;
	struct io io;
	struct replica_files files;
	struct stopped *stopped;
};

/* ---- the door to the world, as far as it is open here ---- */

static void *heap_alloc(struct io *io, size_t bytes, unsigned flags)
{
	size_t align = bytes >= BLOCK_BYTES ? BLOCK_BYTES : 16;
	void *memory = NULL;

	(void)io;
	(void)flags;
	if (posix_memalign(&memory, align, bytes) != 0)
		return NULL;
	return memset(memory, 0, bytes);
}

static void heap_free(struct io *io, void *memory)
{
	(void)io;
	free(memory);
}

static void chance(struct io *io, void *out, size_t len)
{
	(void)io;
	for (size_t done = 0; done < len; ) {
		ssize_t got = getrandom((uint8_t *)out + done, len - done, 0);

		CHECK(got > 0 || errno == EINTR);
		done += got > 0 ? (size_t)got : 0;
	}
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(struct io *io)
{
	(void)io;
	return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t wall_ns(struct io *io)
{
	(void)io;
	return clock_ns(CLOCK_REALTIME);
}

static void log_line(struct io *io, enum io_level level, const char *line)
{
	(void)io;
	(void)level;
	fprintf(stderr, "holdfast: %s\n", line);
}

/* ---- files ---- */

static int files_read(struct stopped_files *files, unsigned file, uint64_t offset, void *out, size_t len)
{
	struct stopped_replica *r = container_of(files, struct stopped_replica, reader);
	int fd = file == STOPPED_STORE	   ? r->files.store
		 : file == STOPPED_JOURNAL ? r->files.journal
		 : file == STOPPED_META	   ? r->files.meta
					   : r->files.undo[file - STOPPED_UNDO];

	if (fd < 0)
		return -ENOENT;
	for (size_t done = 0; done < len; ) {
		ssize_t got = pread(fd, (uint8_t *)out + done, len - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		done += (size_t)got;
	}
	return 0;
}

static int open_files(struct stopped_replica **out, const struct config *config, const struct geometry *geometry,
		      enum stopped_view view, bool force, char why[WHY_BYTES])
{
	const struct stopped_options options = { .geometry = geometry, .view = view, .force = force };
	struct stopped_replica *r = calloc(1, sizeof *r);
	int res;

	*out = NULL;
	snprintf(why, WHY_BYTES, "no memory to read it; try again");
	if (!r)
		return -ENOMEM;
	r->reader.read = files_read;
	r->io = (struct io){ .now_ns = now_ns, .wall_ns = wall_ns, .random = chance, .alloc = heap_alloc,
			     .free = heap_free, .log = log_line };
	res = replica_files_open_to_read(&r->files, config, why);
	if (res == 0)
		res = stopped_new(&r->stopped, &r->io, &r->reader, &options, why);
	if (res < 0) {
		stopped_replica_close(r);
		return res;
	}
	*out = r;
	return 0;
}

int stopped_replica_open(struct stopped_replica **out, const struct config *config, enum stopped_view view, bool force,
			 char why[WHY_BYTES])
{
	return open_files(out, config, &config->volume.geometry, view, force, why);
}

int stopped_replica_open_in(struct stopped_replica **out, const char *directory, enum stopped_view view, bool force,
			    char why[WHY_BYTES])
{
	AUTO_FREE struct config *config = calloc(1, sizeof *config);
	const struct { char *path; const char *name; } files[] = {
		{ config->store, "store" }, { config->journal, "journal" }, { config->meta, "meta" },
		{ config->undo, "undo" },
	};

	*out = NULL;
	snprintf(why, WHY_BYTES, "no memory to read it; try again");
	if (!config)
		return -ENOMEM;
	for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
		int len = snprintf(files[i].path, PATH_MAX, "%s/%s", directory, files[i].name);

		if (len >= PATH_MAX) {
			snprintf(why, WHY_BYTES, "%.200s...: the path is too long", directory);
			return -ENAMETOOLONG;
		}
	}
	return open_files(out, config, NULL, view, force, why);
}

void stopped_replica_close(struct stopped_replica *r)
{
	if (!r)
		return;
	stopped_free(r->stopped);
	replica_files_close(&r->files);
	free(r);
}

struct stopped *stopped_replica_stopped(struct stopped_replica *r) { return r->stopped; }
struct io *stopped_replica_io(struct stopped_replica *r) { return &r->io; }
