/* SPDX-License-Identifier: Apache-2.0 */
/* journal DIR SECONDS ROUNDS: durable 4 KiB writes through the engine, and through nothing, in turn.
 *
 *	replica_make()		a replica under DIR, as `holdfast create` makes it
 *	volume_up()		the volume on a real ring, opened and promoted; it has no peers
 *	engine_run()		DEPTH writes with VOLUME_FUA at random blocks, a new one for each that is done
 *	disk_run()		the same on a written file beside it; at depth 1 an append
 *	volume_down()		and the store has it all
 *
 * While one is measured the other stands still: the engine's ring is not run, so its destage falls into
 * its own samples. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "config_edit.h"
#include "disk.h"
#include "replica_files.h"
#include "ring.h"
#include "volume.h"

enum { DEPTH_MAX = 32, RAW_BYTES = 256 << 20 };

struct engine {
	struct config config;
	struct ring *ring;
	struct io *io;
	struct volume *volume;
	struct volume_call call;
	int call_result;
	struct writer {
		struct volume_request request;
		struct engine *engine;
		uint64_t begun_ns;
	} writers[DEPTH_MAX];
	unsigned in_flight;
	uint64_t random;
	struct sample *sample;
};

/* ---- the replica ---------------------------------------------------------------------------------- */

static void replica_make(struct engine *e, const char *dir, struct replica_files *files)
{
	static struct paths paths;
	char why[WHY_BYTES];

	if (paths_of(&paths, dir, "bench", why) < 0)
		errx(1, "%s", why);
	config_init(&e->config, &paths, "bench");
	if (config_set(&e->config, "size", "256M", why) < 0 || config_set(&e->config, "node", "a", why) < 0)
		errx(1, "%s", why);
	if (getrandom(e->config.volume.geometry.uuid, UUID_BYTES, 0) != UUID_BYTES)
		err(1, "random bytes");
	if (config_check(&e->config, why) < 0 || replica_files_create(&e->config, why) < 0 ||
	    replica_files_open(files, &e->config, why) < 0)
		errx(1, "%s", why);
}

/* ---- the volume ----------------------------------------------------------------------------------- */

static void call_done(struct volume_call *call, int result)
{
	struct engine *e = container_of(call, struct engine, call);

	e->call_result = result;
	ring_stop(e->ring);
}

static void call(struct engine *e, void (*function)(struct volume *v, struct volume_call *call))
{
	e->call = (struct volume_call){ .done = call_done };
	function(e->volume, &e->call);
	ring_run(e->ring);
	if (e->call_result < 0)
		errx(1, "%s", e->call.why[0] ? e->call.why : strerror(-e->call_result));
}

static void volume_up(struct engine *e, struct replica_files *files)
{
	struct volume_config *config = &e->config.volume;
	char why[WHY_BYTES] = "the ring";
	int *fds[REPLICA_FILES], *ids[REPLICA_FILES], res = ring_new(&e->ring, &(struct ring_config){ 0 });

	if (res < 0)
		errx(1, "io_uring: %s", strerror(-res));
	e->io = ring_io(e->ring);
	replica_files_list(files, config, fds, ids);
	for (unsigned i = 0; i < REPLICA_FILES; i++) {
		*ids[i] = ring_file_add(e->ring, *fds[i]);
		if (*ids[i] < 0)
			errx(1, "%s", why);
	}
	if (volume_new(&e->volume, e->io, config, why) < 0)
		errx(1, "%s", why);
	call(e, volume_open);
	call(e, volume_promote);
}

static void volume_down(struct engine *e, struct replica_files *files)
{
	int *fds[REPLICA_FILES], *ids[REPLICA_FILES];

	call(e, volume_close);
	volume_free(e->volume);
	replica_files_list(files, &e->config.volume, fds, ids);
	for (unsigned i = 0; i < REPLICA_FILES; i++)
		ring_file_remove(e->ring, *ids[i]);
	for (unsigned i = 0; i < DEPTH_MAX; i++)
		e->io->free(e->io, e->writers[i].request.buffer);
	ring_free(e->ring);
}

/* ---- the load ------------------------------------------------------------------------------------- */

static void writer_done(struct volume_request *request, int result);

static void writer_write(struct writer *w, uint64_t now_ns)
{
	struct engine *e = w->engine;
	uint64_t blocks = e->config.volume.geometry.volume_bytes / BLOCK_BYTES;
	uint8_t *buffer = w->request.buffer;

	w->request = (struct volume_request){
		.op = VOLUME_WRITE, .flags = VOLUME_FUA, .len = BLOCK_BYTES, .buffer = buffer,
		.offset = sample_random(&e->random) % blocks * BLOCK_BYTES, .done = writer_done,
	};
	memcpy(buffer, &w->request.offset, sizeof w->request.offset);
	w->begun_ns = now_ns;
	e->in_flight++;
	volume_submit(e->volume, &w->request);
}

static void writer_done(struct volume_request *request, int result)
{
	struct writer *w = container_of(request, struct writer, request);
	struct engine *e = w->engine;

	if (result < 0)
		errx(1, "the engine failed a write: %s", strerror(-result));
	e->in_flight--;
	if (sample_add(e->sample, w->begun_ns))
		writer_write(w, e->sample->ended_ns);
	else if (e->in_flight == 0)
		ring_stop(e->ring);
}

static void engine_run(struct engine *e, unsigned depth, double seconds, struct sample *s)
{
	e->sample = s;
	sample_begin(s, seconds);
	for (unsigned i = 0; i < depth; i++)
		writer_write(&e->writers[i], sample_now_ns());
	ring_run(e->ring);
}

int main(int argc, char **argv)
{
	static const unsigned depths[] = { 1, 8, 32 };
	static struct engine engine;
	double seconds = argc == 4 ? atof(argv[2]) : 0;
	struct sample sample = { 0 };
	struct replica_files files;
	struct disk disk;
	char path[PATH_MAX];

	if (seconds <= 0)
		errx(2, "usage: journal DIR SECONDS ROUNDS");
	snprintf(path, sizeof path, "%s/raw", argv[1]);
	disk_open(&disk, path, RAW_BYTES);
	replica_make(&engine, argv[1], &files);
	volume_up(&engine, &files);
	engine.random = sample_now_ns();
	for (unsigned i = 0; i < DEPTH_MAX; i++) {
		engine.writers[i].engine = &engine;
		engine.writers[i].request.buffer = engine.io->alloc(engine.io, BLOCK_BYTES, IO_FIXED);
		if (!engine.writers[i].request.buffer)
			errx(1, "no memory for the writers");
	}
	for (int round = 0; round < atoi(argv[3]); round++)
		for (unsigned i = 0; i < sizeof depths / sizeof depths[0]; i++) {
			disk_run(&disk, depths[i] == 1 ? DISK_APPEND : DISK_WRITE_DURABLE, depths[i], seconds, &sample);
			sample_print(&sample, "raw", depths[i]);
			engine_run(&engine, depths[i], seconds, &sample);
			sample_print(&sample, "engine", depths[i]);
		}
	volume_down(&engine, &files);
	return 0;
}
