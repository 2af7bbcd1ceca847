/* SPDX-License-Identifier: Apache-2.0 */
/* The image of a divergence, a chunk of blocks at a time:
 *
 *	page_read()		which blocks are saved
 *	chunk_read()		these from the slot's file, the others from the store
 *	page_read()		again: a block that has been saved meanwhile was perhaps read too late
 *	chunk_late()		so it is taken from the slot after all
 *	chunk_write()		what is not zeros
 *
 * The daemon makes a block's bit durable before it changes the block in the store, and the block's old bytes durable
 * before its bit. So a block whose bit was clear after it was read was read unchanged, and a block whose bit is set
 * is in the slot's file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auto.h"
#include "divergence_private.h"

enum {
	CHUNK_BLOCKS = 256,
	CHUNK_BYTES = CHUNK_BLOCKS * BLOCK_BYTES,
	PAGE_UNITS = BITMAP_PAGE_BYTES / BITMAP_UNIT_BYTES,
	PAGE_BITS = PAGE_UNITS * BITMAP_UNIT_BITS,
	PAGE_TRIES = 20,
	PART_BYTES = 6,			/* ".part" */
};

/* A page of a bitmap. */
struct page { struct bitmap_unit units[PAGE_UNITS]; };

struct work {
	const struct config *config;
	const struct divergence *divergence;
	struct divergence_export *out;
	const char *path, *part;
	int slot, store, image;
	uint64_t blocks;
	uint8_t *data;			/* CHUNK_BYTES */
	struct page *saved, *again;
	char *why;
};

static int refuse_read(struct work *w, int res, const char *what, const char *path, uint64_t offset)
{
	return divergence_refuse(res, w->why, "%s %s: cannot be read at %llu: %s; check the disk", what, path,
				 (unsigned long long)offset, strerror(-res));
}

static int refuse_image(struct work *w, const char *step)
{
	int res = -errno;
	bool full = res == -ENOSPC || res == -EDQUOT;
	const char *next = full ? "make room or choose another disk" : "check path and disk";

	return divergence_refuse(res, w->why, "image %s: %s: %s; %s", w->path, step, strerror(-res), next);
}

/* ---- the maps ---- */

/* Page @number of the map of saved blocks. */
static int page_read(struct work *w, uint64_t number, struct page *page)
{
	uint64_t offset = undo_saved_offset() + number * BITMAP_PAGE_BYTES, first, last;
	unsigned bad = 0;

	for (unsigned try = 0; try < PAGE_TRIES; try++) {
		int res = divergence_pread(w->slot, page, sizeof *page, offset);

		if (res < 0)
			return refuse_read(w, res, "undo", w->divergence->path, offset);
		for (bad = 0; bad < PAGE_UNITS && bitmap_unit_whole(&page->units[bad], number * PAGE_UNITS + bad); )
			bad++;
		if (bad == PAGE_UNITS)
			return 0;
		divergence_read_pause();
	}
	first = (number * PAGE_UNITS + bad) * BITMAP_UNIT_BITS;
	last = min_u64(first + BITMAP_UNIT_BITS, w->blocks) - 1;
	return divergence_refuse(-EBADMSG, w->why, "undo %s: its map of saved blocks is damaged for blocks %llu to "
				 "%llu, so nobody knows where these are to be taken from; no image was made",
				 w->divergence->path, (unsigned long long)first, (unsigned long long)last);
}

static bool page_test(const struct page *page, uint64_t block)
{
	return bitmap_unit_test(page->units, block % PAGE_BITS);
}

/* Where the run of blocks that are as @first is ends, at most @end. */
static uint64_t run_end(const struct page *page, uint64_t first, uint64_t end)
{
	uint64_t at = first + 1;

	while (at < end && page_test(page, at) == page_test(page, first))
		at++;
	return at;
}

/* How much of blocks [first, end) of the slot's file is data. */
static uint64_t slot_data(struct work *w, uint64_t first, uint64_t end)
{
	uint64_t base = undo_data_offset(w->blocks * BLOCK_BYTES), bytes = 0;
	off_t at = (off_t)(base + first * BLOCK_BYTES), limit = (off_t)(base + end * BLOCK_BYTES);

	while (at < limit) {
		off_t hole;

		at = lseek(w->slot, at, SEEK_DATA);
		hole = at < 0 || at >= limit ? -1 : lseek(w->slot, at, SEEK_HOLE);
		if (hole < 0)
			break;
		bytes += (uint64_t)(hole < limit ? hole : limit) - (uint64_t)at;
		at = hole;
	}
	return bytes;
}

/* What is told in the end. */
static void chunk_count(struct work *w, uint64_t first, uint64_t end)
{
	for (uint64_t at = first, next; at < end; at = next) {
		next = run_end(w->again, at, end);
		if (!page_test(w->again, at))
			continue;
		w->out->blocks_saved += next - at;
		w->out->data_saved += slot_data(w, at, next);
	}
}

/* ---- a chunk ---- */

/* Blocks [first, end) of the chunk that begins at @chunk, from the slot's file or from the store. */
static int blocks_read(struct work *w, bool saved, uint64_t chunk, uint64_t first, uint64_t end)
{
	uint64_t offset = first * BLOCK_BYTES + (saved ? undo_data_offset(w->blocks * BLOCK_BYTES) : 0);
	uint8_t *data = w->data + (first - chunk) * BLOCK_BYTES;
	int res = divergence_pread(saved ? w->slot : w->store, data, (end - first) * BLOCK_BYTES, offset);

	if (res < 0)
		return refuse_read(w, res, saved ? "undo" : "store",
				   saved ? w->divergence->path : w->config->store, offset);
	return 0;
}

/* All of the chunk is a hole of the store: not worth reading. */
static bool store_hole(struct work *w, uint64_t first, uint64_t end)
{
	off_t data = lseek(w->store, (off_t)(first * BLOCK_BYTES), SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= end * BLOCK_BYTES;
}

/* *zeros: nothing but zeros was found, without looking at them. */
static int chunk_read(struct work *w, uint64_t first, uint64_t end, bool *zeros)
{
	*zeros = !page_test(w->saved, first) && run_end(w->saved, first, end) == end && store_hole(w, first, end);
	if (*zeros)
		memset(w->data, 0, (end - first) * BLOCK_BYTES);
	for (uint64_t at = first, next; !*zeros && at < end; at = next) {
		int res;

		next = run_end(w->saved, at, end);
		res = blocks_read(w, page_test(w->saved, at), first, at, next);
		if (res < 0)
			return res;
	}
	return 0;
}

static int chunk_late(struct work *w, uint64_t first, uint64_t end, bool *zeros)
{
	for (uint64_t at = first; at < end; at++) {
		int res;

		if (page_test(w->saved, at) || !page_test(w->again, at))
			continue;
		*zeros = false;
		res = blocks_read(w, true, first, at, at + 1);
		if (res < 0)
			return res;
	}
	return 0;
}

static bool block_zeros(const uint8_t *block)
{
	return block[0] == 0 && memcmp(block, block + 1, BLOCK_BYTES - 1) == 0;
}

static int chunk_write(struct work *w, uint64_t first, uint64_t end)
{
	for (uint64_t at = first; at < end; at++) {
		const uint8_t *data = w->data + (at - first) * BLOCK_BYTES;
		uint64_t run = at;

		while (run < end && !block_zeros(w->data + (run - first) * BLOCK_BYTES))
			run++;
		for (uint64_t done = 0, len = (run - at) * BLOCK_BYTES; done < len; ) {
			ssize_t put = pwrite(w->image, data + done, len - done, (off_t)(at * BLOCK_BYTES + done));

			if (put < 0 && errno != EINTR)
				return refuse_image(w, "cannot be written");
			done += put < 0 ? 0 : (uint64_t)put;
		}
		w->out->data_bytes += (run - at) * BLOCK_BYTES;
		at = run;
	}
	return 0;
}

static int chunk_export(struct work *w, uint64_t first, uint64_t end)
{
	bool zeros;
	int res = page_read(w, first / PAGE_BITS, w->saved);

	if (res == 0)
		res = chunk_read(w, first, end, &zeros);
	if (res == 0)
		res = page_read(w, first / PAGE_BITS, w->again);
	if (res == 0)
		res = chunk_late(w, first, end, &zeros);
	if (res == 0 && !zeros)
		res = chunk_write(w, first, end);
	if (res == 0)
		chunk_count(w, first, end);
	return res;
}

static int image_fill(struct work *w)
{
	if (ftruncate(w->image, (off_t)(w->blocks * BLOCK_BYTES)) < 0)
		return refuse_image(w, "cannot be made that large");
	for (uint64_t at = 0, end; at < w->blocks; at = end) {
		int res;

		end = min_u64(min_u64(at + CHUNK_BLOCKS, (at / PAGE_BITS + 1) * PAGE_BITS), w->blocks);
		res = chunk_export(w, at, end);
		if (res < 0)
			return res;
		if (w->out->progress)
			w->out->progress(w->out->context, end * BLOCK_BYTES, w->blocks * BLOCK_BYTES);
	}
	return fsync(w->image) < 0 ? refuse_image(w, "cannot be synced") : 0;
}

/* ---- the image ---- */

/* While we read, the daemon may have dropped it, or have had to stop recording. */
static int still_there(struct work *w)
{
	AUTO_FREE struct divergence *now = malloc(sizeof *now);
	int res;

	if (!now)
		return divergence_refuse(-ENOMEM, w->why, "image %s: no memory to end it; try again", w->path);
	res = divergence_read(now, w->config, w->divergence->status.slot, w->why);
	if (res < 0)
		return res;
	if (res == 0 || now->status.id != w->divergence->status.id)
		return divergence_refuse(-ENOENT, w->why, "divergence: it was dropped while it was being exported; no "
					 "image was made");
	w->out->partial = now->status.recording ? 0 : now->status.partial;
	return 0;
}

/* Never over one of the replica's own files, whatever is forced. */
static int image_check(struct work *w)
{
	const struct config *c = w->config;
	const char *files[4 + UNDO_SLOTS] = { c->store, c->journal, c->meta, c->bitmap };
	char undo[UNDO_SLOTS][PATH_MAX];
	struct stat image, st;

	if (stat(w->path, &image) < 0)
		return 0;
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
		config_undo_path(c, slot, undo[slot]);
		files[4 + slot] = undo[slot];
	}
	for (unsigned i = 0; i < 4 + UNDO_SLOTS; i++)
		if (stat(files[i], &st) == 0 && st.st_dev == image.st_dev && st.st_ino == image.st_ino)
			return divergence_refuse(-EPERM, w->why, "image %s: is a file of the replica; choose another "
						 "name", w->path);
	if (!S_ISREG(image.st_mode))
		return divergence_refuse(-EEXIST, w->why, "image %s: is there already and is no file; choose another "
					 "name", w->path);
	if (!w->out->force)
		return divergence_refuse(-EEXIST, w->why, "image %s: exists already and is not overwritten; choose "
					 "another name, or use --force", w->path);
	return 0;
}

static int directory_sync(const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');

	snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	AUTO_CLOSE int fd = open(*directory ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -1 : 0;
}

static int image_make(struct work *w)
{
	int res = image_check(w);

	if (res < 0)
		return res;
	AUTO_CLOSE int image = open(w->part, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (image < 0)
		return refuse_image(w, "cannot be made");
	if (flock(image, LOCK_EX | LOCK_NB) < 0)
		return divergence_refuse(-EBUSY, w->why, "image %s: another export writes it; wait for that one",
					 w->path);
	w->image = image;
	res = ftruncate(image, 0) < 0 ? refuse_image(w, "cannot be emptied") : image_fill(w);
	if (res == 0)
		res = still_there(w);
	if (res == 0)
		res = image_check(w);		/* somebody may have made it meanwhile */
	if (res == 0 && (rename(w->part, w->path) < 0 || directory_sync(w->path) < 0))
		res = refuse_image(w, "cannot be given its name");
	if (res < 0)
		unlink(w->part);
	return res;
}

static int memory_take(struct work *w)
{
	w->data = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	w->saved = aligned_alloc(BLOCK_BYTES, sizeof *w->saved);
	w->again = aligned_alloc(BLOCK_BYTES, sizeof *w->again);
	return w->data && w->saved && w->again ? 0 : -ENOMEM;
}

int divergence_export(const struct config *config, const struct divergence *divergence, const char *path,
		      struct divergence_export *export, char why[WHY_BYTES])
{
	char part[PATH_MAX + PART_BYTES];
	AUTO_CLOSE int slot = divergence_open(divergence->path), store = divergence_open(config->store);
	struct work w = { .config = config, .divergence = divergence, .out = export, .path = path, .part = part,
			  .slot = slot, .store = store, .image = -1, .why = why,
			  .blocks = config->volume.geometry.volume_bytes / BLOCK_BYTES };
	int res;

	export->blocks_saved = export->data_saved = export->data_bytes = 0;
	if (strlen(path) >= PATH_MAX)
		return divergence_refuse(-ENAMETOOLONG, why, "image %.200s: the path is too long", path);
	snprintf(part, sizeof part, "%s.part", path);
	if (slot < 0 || store < 0)
		return divergence_refuse(slot < 0 ? slot : store, why, "%s: cannot be opened: %s; ask as root or as "
					 "the daemon's user", slot < 0 ? divergence->path : config->store,
					 strerror(slot < 0 ? -slot : -store));
	res = memory_take(&w);
	if (res < 0)
		divergence_refuse(res, why, "image %s: no memory to make it; try again", path);
	else
		res = image_make(&w);
	free(w.data);
	free(w.saved);
	free(w.again);
	return res;
}
