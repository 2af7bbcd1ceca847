/* SPDX-License-Identifier: Apache-2.0 */
/* The walk: a stack of directories, each with the cookie of its last entry. One operation of the filesystem at a time,
 * and each may find damage; then it is named, and the walk goes on behind it. */
#include "extract.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "auto.h"
#include "extract_private.h"

static const struct caller root = { .checked = true };

/* ---- saying ---- */

void extract_ask(struct extract *x)
{
	x->damages = x->files.fs.transaction.damage.count;
	x->item_damages = x->files.damage.count;
}

const char *extract_reason(struct extract *x, int error, char out[WHY_BYTES])
{
	const struct damage *block = &x->files.fs.transaction.damage;
	const struct files_damage *item = &x->files.damage;

	if (error == -EIO && block->count != x->damages && block->what)
		snprintf(out, WHY_BYTES, "block %llu is damaged: %s", (unsigned long long)block->block, block->what);
	else if (error == -EIO && item->count != x->item_damages)
		snprintf(out, WHY_BYTES, "inode %llu is damaged: %s", (unsigned long long)item->ino, item->what);
	else if (error == -EIO && stopped_why(x->stopped)[0])
		snprintf(out, WHY_BYTES, "%s", stopped_why(x->stopped));
	else
		snprintf(out, WHY_BYTES, "%s", strerror(-error));
	return out;
}

void extract_lost(struct extract *x, const char *what)
{
	x->figures.lost++;
	x->options.say(x->options.context, x->path, what, true);
}

void extract_note(struct extract *x, const char *what)
{
	x->options.say(x->options.context, x->path, what, false);
}

int extract_fail(struct extract *x, const char *format, ...)
{
	va_list args;

	if (x->ended)
		return x->ended;
	va_start(args, format);
	vsnprintf(x->why, WHY_BYTES, format, args);
	va_end(args);
	x->ended = -ECANCELED;
	return x->ended;
}

static int no_memory(struct extract *x)
{
	return extract_fail(x, "memory: not enough to go on with a tree of %zu directories and files of several names",
			    x->seen_count);
}

void extract_print_name(FILE *out, const char *text)
{
	static const char plain[] = "\a\b\t\n\v\f\r", letters[] = "abtnvfr";

	for (; *text; text++) {
		const char *found = memchr(plain, *text, sizeof plain - 1);

		if (found)
			fprintf(out, "\\%c", letters[found - plain]);
		else if ((unsigned char)*text < ' ' || *text == 127)
			fprintf(out, "\\%03o", (unsigned char)*text);
		else if (*text == '\\')
			fputs("\\\\", out);
		else
			fputc(*text, out);
	}
}

/* ---- what was met ---- */

static struct extract_seen *seen_place(const struct extract *x, uint64_t ino)
{
	size_t at = (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20);

	while (x->seen[at % x->seen_room].ino && x->seen[at % x->seen_room].ino != ino)
		at++;
	return &x->seen[at % x->seen_room];
}

static int seen_grow(struct extract *x)
{
	size_t room = x->seen_room, old_room = room;
	struct extract_seen *old = x->seen;

	if (2 * x->seen_count < room)
		return 0;
	room = room ? 2 * room : 1024;
	x->seen = calloc(room, sizeof *x->seen);
	if (!x->seen) {
		x->seen = old;
		return no_memory(x);
	}
	x->seen_room = room;
	for (size_t i = 0; i < old_room; i++)
		if (old[i].ino)
			*seen_place(x, old[i].ino) = old[i];
	free(old);
	return 0;
}

/* *first: where it was met before, "" of a directory; NULL: it was not, and from here on it was. */
static int seen(struct extract *x, const struct attributes *a, const char **first)
{
	struct extract_seen *place;

	*first = NULL;
	if (!S_ISDIR(a->mode) && a->nlink < 2)
		return 0;
	if (seen_grow(x))
		return -ECANCELED;
	place = seen_place(x, a->ino);
	if (place->ino) {
		*first = place->path ? place->path : "";
		return 0;
	}
	if (!S_ISDIR(a->mode)) {
		place->path = strdup(x->path);
		if (!place->path)
			return no_memory(x);
	}
	place->ino = a->ino;
	x->seen_count++;
	return 0;
}

/* ---- the path ---- */

static int path_cut(struct extract *x, size_t len)
{
	x->path_len = len;
	x->path[len] = 0;
	return 0;
}

static int path_add(struct extract *x, const char *name)
{
	size_t len = strlen(name), need = x->path_len + len + 2;

	if (need > x->path_room) {
		char *grown = realloc(x->path, 2 * need);

		if (!grown)
			return no_memory(x);
		x->path = grown;
		x->path_room = 2 * need;
	}
	if (x->path_len)
		x->path[x->path_len++] = '/';
	memcpy(x->path + x->path_len, name, len + 1);
	x->path_len += len;
	return 0;
}

static int level_push(struct extract *x, uint64_t ino)
{
	if (x->level_count == x->level_room) {
		size_t room = x->level_room ? 2 * x->level_room : 64;
		struct extract_level *grown = realloc(x->levels, room * sizeof *grown);

		if (!grown)
			return no_memory(x);
		x->levels = grown;
		x->level_room = room;
	}
	x->levels[x->level_count++] = (struct extract_level){ .ino = ino, .path_len = x->path_len };
	return 0;
}

/* ---- the walk ---- */

/* What x->path names, by its inode; of a directory it goes on there. */
static int visit(struct extract *x, uint64_t ino)
{
	struct attributes a;
	char why[WHY_BYTES];
	const char *first;
	int error;

	extract_ask(x);
	error = op_getattr(&x->files, ino, &a);
	if (error) {
		extract_lost(x, error == -ENOENT ? "its inode is missing; left out" : extract_reason(x, error, why));
		return 0;
	}
	error = seen(x, &a, &first);
	if (error)
		return error;
	if (first && S_ISDIR(a.mode)) {
		extract_lost(x, "this directory was met before under another name; it is not gone into again");
		return 0;
	}
	error = extract_entry(x, &a, first);
	if (!error && S_ISDIR(a.mode))
		error = level_push(x, ino);
	return error;
}

static bool take_one(void *context, const struct directory_entry *entry)
{
	struct directory_entry *out = context;

	if (out->name_len)
		return false;
	/* "." and ".." are no entries of the archive. */
	if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
		*out = *entry;
	return true;
}

static int entry_after(struct extract *x, uint64_t cookie, struct directory_entry *entry)
{
	*entry = (struct directory_entry){ 0 };
	extract_ask(x);
	return op_readdir(&x->files, x->levels[x->level_count - 1].ino, cookie, false, take_one, entry);
}

static int entry_probe(struct extract *x, uint64_t cookie)
{
	struct directory_entry entry;

	return entry_after(x, cookie, &entry);
}

/* The next entry of the directory on top; none: it goes. */
static int walk_step(struct extract *x)
{
	struct extract_level *level = &x->levels[x->level_count - 1];
	struct directory_entry entry;
	char why[WHY_BYTES], what[2 * WHY_BYTES];
	int error = entry_after(x, level->cookie, &entry);

	path_cut(x, level->path_len);
	/* The entry may have been taken before the damage was met: it is behind that one then. */
	if (error && !entry.name_len) {
		snprintf(what, sizeof what, "names in this directory cannot be read: %s",
			 extract_reason(x, error, why));
		extract_lost(x, what);
		level->cookie = extract_behind(x, level->cookie, INT64_MAX, entry_probe);
		if (level->cookie == INT64_MAX)
			x->level_count--;
		return 0;
	}
	if (!entry.name_len) {
		x->level_count--;
		return 0;
	}
	level->cookie = entry.cookie;
	if (path_add(x, entry.name))
		return -ECANCELED;
	return visit(x, entry.ino);
}

uint64_t extract_behind(struct extract *x, uint64_t bad, uint64_t end, int (*probe)(struct extract *x, uint64_t at))
{
	uint64_t low = bad, high = end, step = 1;

	for (; step < end - bad; step *= 2) {
		if (probe(x, bad + step) == 0) {
			high = bad + step;
			break;
		}
		low = bad + step;
	}
	if (high == end && end - low > 1 && probe(x, end - 1) == 0)
		high = end - 1;
	while (high < end && high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		if (probe(x, middle) == 0)
			high = middle;
		else
			low = middle;
	}
	return high;
}

/* ---- from outside ---- */

/* The inode at @path, which x->path is from here on. */
static int path_find(struct extract *x, const char *path, uint64_t *ino, char why[WHY_BYTES])
{
	struct attributes a;
	char reason[WHY_BYTES], name[NAME_MAX_BYTES + 1];

	*ino = FS_ROOT_INODE;
	path_cut(x, 0);
	while (*(path += strspn(path, "/"))) {
		size_t len = strcspn(path, "/");
		int error = len > NAME_MAX_BYTES ? -ENAMETOOLONG : len == 2 && memcmp(path, "..", 2) == 0 ? -EINVAL : 0;

		if (!error) {
			memcpy(name, path, len);
			name[len] = 0;
			extract_ask(x);
			error = op_lookup(&x->files, &root, *ino, name, &a);
		}
		if (error) {
			snprintf(why, WHY_BYTES, "%.150s%s%.*s: %s", x->path, x->path_len ? "/" : "",
				 (int)min_u64(len, 150), path,
				 error == -EINVAL ? "give the path without \"..\"" : extract_reason(x, error, reason));
			return error;
		}
		path += len;
		if (strcmp(name, ".") == 0)
			continue;
		*ino = a.ino;
		if (path_add(x, name))
			return -ECANCELED;
	}
	return 0;
}

int extract_path(struct extract *x, const char *path, char why[WHY_BYTES])
{
	uint64_t ino = 0;
	int error = x->ended ? x->ended : path_find(x, path, &ino, why);

	if (error && error != -ECANCELED)
		return error;
	x->level_count = 0;
	if (!error)
		error = visit(x, ino);
	while (!error && x->level_count)
		error = walk_step(x);
	if (error)
		snprintf(why, WHY_BYTES, "%s", x->why);
	return error;
}

static int open_archive(struct extract *x, char why[WHY_BYTES])
{
	struct archive *a = archive_write_new();

	x->archive = a;
	x->entry = archive_entry_new();
	/* GNU tar and others know extended attributes by this header only; no blocks of 10 KiB at the end of a file. */
	if (a && x->entry && archive_write_set_format_pax(a) == ARCHIVE_OK &&
	    archive_write_set_format_option(a, "pax", "xattrheader", "SCHILY") == ARCHIVE_OK &&
	    archive_write_set_bytes_per_block(a, 512 << 10) == ARCHIVE_OK &&
	    archive_write_set_bytes_in_last_block(a, 1) == ARCHIVE_OK &&
	    archive_write_open_fd(a, x->options.archive) == ARCHIVE_OK)
		return 0;
	snprintf(why, WHY_BYTES, "archive: cannot be begun: %s", a ? archive_error_string(a) : strerror(ENOMEM));
	return -EIO;
}

/* What a caller may find instead. */
static int refuse_filesystem(int error, const char *reason, char why[WHY_BYTES])
{
	if (error == -EINVAL)
		snprintf(why, WHY_BYTES, "there is no filesystem of Holdfast's on this volume, so nothing to extract; "
			 "after `holdfast up` and `holdfast down` the store is a raw image of it");
	else
		snprintf(why, WHY_BYTES, "filesystem: %.400s", reason);
	return error;
}

int extract_new(struct extract **out, struct stopped_replica *replica, const struct extract_options *options,
		char why[WHY_BYTES])
{
	struct extract *x = calloc(1, sizeof *x);
	void *zeros = mmap(NULL, EXTRACT_ZEROS_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char reason[WHY_BYTES] = "";
	int error = -ENOMEM;

	*out = NULL;
	snprintf(why, WHY_BYTES, "no memory to read its filesystem; try again");
	if (!x || zeros == MAP_FAILED) {
		free(x);
		return error;
	}
	x->options = *options;
	x->zeros = zeros;
	x->stopped = stopped_replica_stopped(replica);
	x->buffer = malloc(EXTRACT_BUFFER_BYTES);
	x->path_room = 4096;
	x->path = calloc(1, x->path_room);
	if (x->buffer && x->path)
		error = files_new(&x->files, stopped_replica_io(replica), stopped_blocks(x->stopped), reason);
	if (!error)
		error = files_mount(&x->files, reason);
	if (error && error != -ENOMEM)
		error = refuse_filesystem(error, reason, why);
	if (!error && options->archive >= 0)
		error = open_archive(x, why);
	if (error)
		extract_free(x);
	else
		*out = x;
	return error;
}

int extract_end(struct extract *x, char why[WHY_BYTES])
{
	if (x->archive && !x->ended && archive_write_close(x->archive) != ARCHIVE_OK)
		(void)!extract_fail(x, "archive: cannot be written: %s", archive_error_string(x->archive));
	snprintf(why, WHY_BYTES, "%s", x->why);
	return x->ended;
}

void extract_free(struct extract *x)
{
	if (!x)
		return;
	if (x->archive && x->ended)
		(void)!archive_write_fail(x->archive);	/* so that free() does not try to end it */
	archive_write_free(x->archive);
	archive_entry_free(x->entry);
	files_delete(&x->files);
	for (size_t i = 0; i < x->seen_room; i++)
		free(x->seen[i].path);
	munmap((void *)(uintptr_t)x->zeros, EXTRACT_ZEROS_BYTES);
	free(x->seen);
	free(x->levels);
	free(x->path);
	free(x->buffer);
	free(x);
}

struct extract_figures extract_figures(const struct extract *x) { return x->figures; }
