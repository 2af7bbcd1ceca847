/* SPDX-License-Identifier: Apache-2.0 */
/* Divergences as the files of undo have them. The daemon may be running: what is read here it may be writing, so
 * files are read past the page cache where they were written past it, and what is damaged is read again before
 * anybody believes it. */
#include "divergence.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "auto.h"
#include "divergence_private.h"

enum { READ_TRIES = 20, READ_PAUSE_NS = 20000000 };	/* a write that tears what we read is over by then */

int divergence_refuse(int res, char why[WHY_BYTES], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, WHY_BYTES, format, args);
	va_end(args);
	return res;
}

int divergence_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);

	if (fd < 0 && errno == EINVAL)		/* so the daemon has it buffered, too */
		fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int divergence_pread(int fd, void *out, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len; ) {
		ssize_t got = pread(fd, (uint8_t *)out + done, len - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EIO;		/* the file is shorter than it must be */
		done += (size_t)got;
	}
	return 0;
}

void divergence_read_pause(void)
{
	const struct timespec pause = { .tv_nsec = READ_PAUSE_NS };

	nanosleep(&pause, NULL);
}

/* Both copies of the head of a slot's file, into @heads. *best is the one that counts. -errno with @why. */
static int heads_read(int fd, const char *path, const struct geometry *g, struct undo_head heads[2],
		      const struct undo_head **best, char why[WHY_BYTES])
{
	char reason[WHY_BYTES] = "";
	bool uneven;

	for (unsigned i = 0; i < READ_TRIES; i++) {
		int bad = divergence_pread(fd, heads, META_BYTES, 0);

		if (bad)
			return divergence_refuse(bad, why, "undo %s: cannot be read: %s; check the disk", path,
						 strerror(-bad));
		bad = undo_header_choose((const uint8_t *)heads, g, &uneven, reason);
		if (bad >= 0) {
			*best = &heads[bad];
			return 0;
		}
		divergence_read_pause();
	}
	return divergence_refuse(-EBADMSG, why, "undo %s: %.300s", path, reason);
}

static void status_fill(struct volume_divergence_status *s, unsigned slot, const struct undo_head *head)
{
	const struct undo_header *h = &head->header;
	uint32_t epochs = from_le32(h->epoch_count);

	*s = (struct volume_divergence_status){
		.id = from_le64(h->id), .slot = slot, .recording = from_le64(h->partial) == 0,
		.fork = from_le64(h->base), .end = from_le64(h->lsn),
		.partial = from_le64(h->partial) ? from_le64(h->partial) - 1 : 0,
		.taken_ns = from_le64(h->wall_ns), .first_ns = from_le64(h->first_ns),
		.last_ns = from_le64(h->last_ns), .blocks = from_le64(h->blocks), .bytes = from_le64(h->bytes),
	};
	snprintf(s->source, NAME_BYTES, "%.*s", NAME_BYTES - 1, h->source);
	if (epochs == 0 || epochs > HISTORY_MAX)
		return;
	s->epoch_number = from_le64(head->epochs[epochs - 1].number);
	snprintf(s->epoch_node, NAME_BYTES, "%.*s", NAME_BYTES - 1, head->epochs[epochs - 1].node);
}

int divergence_read(struct divergence *out, const struct config *config, unsigned slot, char why[WHY_BYTES])
{
	AUTO_FREE struct undo_head *heads = aligned_alloc(BLOCK_BYTES, META_BYTES);
	const struct undo_head *head = NULL;
	AUTO_CLOSE int fd = -1;
	enum undo_kind kind;
	struct stat st;
	int res;

	*out = (struct divergence){ 0 };
	config_undo_path(config, slot, out->path);
	if (!heads)
		return divergence_refuse(-ENOMEM, why, "undo %s: no memory to read it; try again", out->path);
	fd = divergence_open(out->path);
	if (fd < 0)
		return divergence_refuse(fd, why, "undo %s: cannot be opened: %s; ask as root or as the daemon's user, "
					 "or correct `undo =` in the config", out->path, strerror(-fd));
	res = heads_read(fd, out->path, &config->volume.geometry, heads, &head, why);
	if (res < 0)
		return res;
	kind = from_le16(head->header.kind);
	if (kind != UNDO_DIVERGENCE && !(kind == UNDO_RESYNC && from_le32(head->header.keep)))
		return 0;
	if (fstat(fd, &st) == 0)
		out->space_bytes = (uint64_t)st.st_blocks * 512;
	out->resync_runs = kind == UNDO_RESYNC;
	status_fill(&out->status, slot, head);
	return 1;
}

int divergence_find(struct divergence *out, const struct config *config, const char *prefix, char why[WHY_BYTES])
{
	AUTO_FREE struct divergence *one = malloc(sizeof *one);
	size_t len = strlen(prefix);
	unsigned found = 0;
	int bad = 0;

	if (!one)
		return divergence_refuse(-ENOMEM, why, "divergence %.40s: no memory to look for it; try again", prefix);
	if (len == 0 || len > 16 || strspn(prefix, "0123456789abcdef") != len)
		return divergence_refuse(-EINVAL, why, "divergence \"%.40s\": is no id, which has 1 to 16 hex digits; "
					 "see `holdfast divergence %s list`", prefix, config->volume.name);
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++) {
		char id[17], reason[WHY_BYTES];
		int res = divergence_read(one, config, slot, reason);

		if (res < 0 && bad == 0)
			bad = divergence_refuse(res, why, "%s", reason);
		snprintf(id, sizeof id, "%016" PRIx64, one->status.id);
		if (res <= 0 || strncmp(id, prefix, len) != 0)
			continue;
		*out = *one;
		found++;
	}
	if (found > 1)
		return divergence_refuse(-ENOTUNIQ, why, "divergence %s: %u ids begin so; give more digits, see "
					 "`holdfast divergence %s list`", prefix, found, config->volume.name);
	if (found == 0 && bad == 0)
		return divergence_refuse(-ENOENT, why, "divergence %s: there is none; see `holdfast divergence %s "
					 "list`", prefix, config->volume.name);
	return found ? 0 : bad;
}
