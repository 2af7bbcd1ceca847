/* SPDX-License-Identifier: Apache-2.0 */
/* The filesystem is found, or made: on the first primary of a volume that reads as zeros, as a record, so that replicas
 * that were made together stay equal.
 *
 *	mount_ready()	the superblock is judged; once, until blocks have changed of which nobody said how
 *	mount_make()	a primary that finds none asks the volume what it holds
 *	ask_on()	range after range: a hole, or zeros? Then it is formatted */
#include <errno.h>
#include <string.h>

#include "bytes.h"
#include "mount_private.h"

static void mapped(struct volume_request *request, int result);

static void refuse(struct mount *m, const char *why)
{
	if (m->refused_said)
		return;
	m->refused_said = true;
	say(m->io, m->role == ROLE_PRIMARY ? IO_ERROR : IO_INFO, "volume=%s filesystem: %s", m->name, why);
}

/* As fs_mount() says. */
static int look(struct mount *m, char why[WHY_BYTES])
{
	int error = fs_mount(&m->files.fs, why);

	if (error)
		return error;
	m->mounted = true;
	m->refused_said = false;
	/* What an earlier primary left without a name, and what is open here stays: files_mount() would forget that. */
	files_want_reclaim_all(&m->files);
	return 0;
}

int mount_ready(struct mount *m)
{
	char why[WHY_BYTES] = "";
	int error;

	if (m->mounted)
		return 0;
	if (m->making > MAKING_LOOK)
		return -EAGAIN;
	error = look(m, why);
	if (!error || error == -EAGAIN)
		return error;
	if (error == -EINVAL && m->role == ROLE_PRIMARY && m->making == MAKING_LOOK)
		return -EAGAIN;
	refuse(m, why);
	return -EIO;
}

/* ---- making ---- */

static void format(struct mount *m)
{
	uint64_t now = m->io->wall_ns(m->io);
	struct caller owner = { .checked = true,
				.now = { (int64_t)(now / 1000000000), (uint32_t)(now % 1000000000) } };
	uint8_t uuid[UUID_BYTES];
	int error;

	if (m->role != ROLE_PRIMARY || m->stopping) {
		m->making = MAKING_NOTHING;
		return;
	}
	m->io->random(m->io, uuid, sizeof uuid);
	error = files_format(&m->files, &owner, uuid);
	if (error == -EAGAIN)
		return;
	m->making = MAKING_NOTHING;
	if (error) {
		refuse(m, strerror(-error));
		return;
	}
	m->mounted = true;
	say(m->io, IO_INFO, "volume=%s filesystem made: the volume was empty", m->name);
	mount_work_soon(m);
}

/* The volume was asked for the last time. */
static void ask_end(struct mount *m, enum mount_making then)
{
	m->making = then;
	fuse_channel_give(&m->channel, &m->ask_buffer);
	fuse_channel_end(&m->channel);
	mount_work_soon(m);
}

static void ask_refuse(struct mount *m, const char *why)
{
	refuse(m, why);
	ask_end(m, MAKING_NOTHING);
}

/* The next range, or what is known of all: it is empty. */
static void ask_on(struct mount *m, uint64_t done)
{
	uint64_t offset = m->ask.offset + done;

	if (m->stopping || m->role != ROLE_PRIMARY) {
		ask_end(m, MAKING_NOTHING);
	} else if (offset == m->volume_bytes) {
		ask_end(m, MAKING_FORMAT);
	} else {
		m->ask = (struct volume_request){ .op = VOLUME_MAP, .offset = offset, .len = m->volume_bytes - offset,
						  .done = mapped };
		volume_submit(m->v, &m->ask);
	}
}

static void looked_at(struct volume_request *request, int result)
{
	struct mount *m = container_of(request, struct mount, ask);
	const uint8_t *bytes = request->buffer;

	if (result < 0)
		ask_refuse(m, "the volume cannot be read");
	else if (bytes[0] || memcmp(bytes, bytes + 1, request->len - 1) != 0)
		ask_refuse(m, "there is none on this volume, and the volume is not empty; make a volume anew with "
			   "`holdfast create --fs`, or set filesystem = no");
	else
		ask_on(m, request->len);
}

static void mapped(struct volume_request *request, int result)
{
	struct mount *m = container_of(request, struct mount, ask);

	if (result < 0) {
		ask_refuse(m, "the volume cannot be read");
	} else if (result == 0) {
		ask_on(m, request->extent);
	} else {		/* data, which may be zeros: a page in memory, a block device */
		m->ask = (struct volume_request){ .op = VOLUME_READ, .offset = request->offset,
						  .len = min_u64(request->extent, FUSE_DATA_BYTES),
						  .buffer = m->ask_buffer.bytes, .done = looked_at };
		volume_submit(m->v, &m->ask);
	}
}

void mount_make(struct mount *m)
{
	char why[WHY_BYTES];
	int error;

	if (m->making == MAKING_FORMAT)
		format(m);
	if (m->making != MAKING_LOOK)
		return;
	error = m->mounted ? 0 : look(m, why);
	if (error == -EAGAIN)
		return;
	m->making = MAKING_NOTHING;
	if (error == -EINVAL && m->role == ROLE_PRIMARY && !m->stopping) {
		m->making = MAKING_ASK;
		fuse_channel_begin(&m->channel);
		m->ask_buffer = fuse_channel_reading(&m->channel, FUSE_DATA_BYTES);
		m->ask.offset = 0;
		ask_on(m, 0);
	} else if (error) {
		refuse(m, why);
	}
}
