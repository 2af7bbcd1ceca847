/* SPDX-License-Identifier: Apache-2.0 */
/* The real struct io on io_uring. One turn of the loop, which is one system call at most:
 *
 *	ring_fill()	what was submitted since the last turn goes to the kernel's queue, as much as fits
 *	ring_enter()	and is entered, unless we have something to do that needs no kernel; we wait there for a
 *			completion or for the earliest timer
 *	ring_reap()	every completion there is: its op goes on (a short read, a short send) or is done
 *	ring_ended()	ops that ended without the kernel: errors of submit, cancelled ones, IO_MAP
 *	ring_expire()	timers whose time has come
 *	ring_soons()	the end of the turn, where batches are closed
 *
 * submit() only queues, so done() never runs inside it and a full submission queue is no error.
 * Invariant: an op is in flight exactly while its stage says where it is, and a slot of the file table is
 * freed only when no op refers to it: the kernel never sees a new file under an old op. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "ring_parts.h"
#include "say.h"

enum { DIRECT_BYTES = 512, REAP_BATCH = 64, PASSES_MAX = 8 };
enum { FILE_BITS = 9, GENERATION_MASK = (1 << 22) - 1 };
_Static_assert(1 << FILE_BITS == RING_FILES_MAX, "a file id is generation and index");

/* ---- files ------------------------------------------------------------------------------------ */

int ring_file_id(const struct ring *ring, const struct ring_file *file)
{
	return (int)((file->generation & GENERATION_MASK) << FILE_BITS | (uint32_t)(file - ring->files));
}

struct ring_file *ring_file_find(struct ring *ring, int id)
{
	struct ring_file *file;

	if (id < 0)
		return NULL;
	file = &ring->files[id & (RING_FILES_MAX - 1)];
	return file->fd >= 0 && !file->closing && ring_file_id(ring, file) == id ? file : NULL;
}

static void file_register(struct ring *ring, struct ring_file *file, int fd)
{
	if (ring->files_registered)
		(void)!io_uring_register_files_update(&ring->uring, (unsigned)(file - ring->files), &fd, 1);
}

int ring_file_add(struct ring *ring, int fd)
{
	struct ring_file *file = ring->files;
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) < 0)
		return -errno;
	while (file < ring->files + RING_FILES_MAX && file->fd >= 0)
		file++;
	if (file == ring->files + RING_FILES_MAX)
		return -ENFILE;
	*file = (struct ring_file){ .fd = fd, .generation = file->generation,
				    .direct = flags & O_DIRECT, .device = S_ISBLK(st.st_mode), .cached_fd = -1 };
	list_init(&file->attached);
	file_register(ring, file, fd);
	return ring_file_id(ring, file);
}

void ring_file_release(struct ring *ring, struct ring_file *file)
{
	CHECK(file->ops == 0);
	if (file->unlink)
		(void)!unlink(((struct sockaddr_un *)&file->address)->sun_path);
	file_register(ring, file, -1);
	close(file->fd);
	if (file->cached_fd >= 0)
		close(file->cached_fd);
	file->fd = -1;
	file->generation++;
}

void ring_file_remove(struct ring *ring, int id)
{
	struct ring_file *file = ring_file_find(ring, id);

	CHECK(file != NULL);
	ring_file_release(ring, file);
}

/* ---- an op, from submit to done ------------------------------------------------------------------ */

static bool kind_is_owed(enum io_kind kind) { return kind <= IO_MAP || kind == IO_DIAL || kind == IO_SEND; }

static bool kind_is_transfer(enum io_kind kind)
{
	return kind == IO_READ || kind == IO_WRITE || kind == IO_SEND || kind == IO_RECV;
}

static void op_enqueue(struct ring *ring, struct io_op *op)
{
	ring_op(op)->stage = OP_QUEUED;
	list_append(&ring->queued, &ring_op(op)->link);
}

/* From a list or from none. */
void ring_op_end(struct ring *ring, struct io_op *op, int64_t result)
{
	list_remove(&ring_op(op)->link);
	ring_op(op)->stage = OP_ENDED;
	ring_op(op)->result = result;
	list_append(&ring->ended, &ring_op(op)->link);
}

void ring_op_attach(struct ring *ring, struct io_op *op, struct ring_file *file)
{
	ring_op(op)->file = (uint16_t)(file - ring->files);
	ring_op(op)->attached = 1;
	list_append(&file->attached, &ring_op(op)->on_file);
	file->ops++;
}

/* Two sends in the kernel at once may mix when the first is short: they go one by one, in order. */
static void send_next(struct ring *ring, struct ring_file *file)
{
	file->sending = NULL;
	for (struct list *link = file->attached.next; link != &file->attached; link = link->next) {
		struct ring_op *at = list_entry(link, struct ring_op, on_file);

		if (at->stage == OP_BEHIND) {
			file->sending = ring_op_of(at);
			op_enqueue(ring, file->sending);
			return;
		}
	}
}

static void op_detach(struct ring *ring, struct io_op *op)
{
	struct ring_file *file = &ring->files[ring_op(op)->file];

	if (!ring_op(op)->attached)
		return;
	list_remove(&ring_op(op)->on_file);
	file->ops--;
	if (file->sending == op)
		send_next(ring, file);
	if (file->closing && file->ops == 0)
		ring_file_release(ring, file);
}

/* The one place that calls done(). The op is nothing of ours by then: it may be submitted again. */
static void op_done(struct ring *ring, struct io_op *op, int64_t result)
{
	op_detach(ring, op);
	if (kind_is_owed(op->kind))
		ring->owed--;
	op->in_flight = 0;
	op->done(op, result);
}

/* How the bytes from offset are kept, of IO_MAP. What cannot be asked for is data. */
static int64_t map_answer(struct ring_file *file, struct io_op *op)
{
	off_t at = (off_t)op->offset, hole = -1, data = file->device ? at : lseek(file->fd, at, SEEK_DATA);

	op->extent = op->len;
	if (data < 0 && errno == ENXIO)			/* no data from here to the end */
		return 0;
	if (data > at) {
		op->extent = min_u64(op->len, (uint64_t)(data - at));
		return 0;
	}
	if (!file->device && data == at)
		hole = lseek(file->fd, at, SEEK_HOLE);
	if (hole > at)
		op->extent = min_u64(op->len, (uint64_t)(hole - at));
	return 1;
}

/* What needs no kernel queue has its result at once; false: it goes to the queue. */
static bool submit_ends(struct ring *ring, struct ring_file *file, struct io_op *op, int64_t *result)
{
	if (op->kind == IO_MAP) {
		*result = map_answer(file, op);
		return true;
	}
	if (ring_write_cached(ring, file, op, result))
		return true;
	if (op->len > 0 || op->kind == IO_SYNC || op->kind == IO_ACCEPT || op->kind == IO_POLL)
		return false;
	*result = op->kind == IO_RECV ? -EINVAL : 0;	/* 0 would say that the other side has closed */
	return true;
}

static void submit_on_file(struct ring *ring, struct io_op *op)
{
	struct ring_file *file = ring_file_find(ring, op->file);
	int64_t result;

	if (!file) {
		ring_op_end(ring, op, -EBADF);
		return;
	}
	ring_op_attach(ring, op, file);
	if (submit_ends(ring, file, op, &result)) {
		ring_op_end(ring, op, result);
	} else if (op->kind == IO_SEND && file->sending) {
		ring_op(op)->stage = OP_BEHIND;
	} else {
		if (op->kind == IO_SEND)
			file->sending = op;
		op_enqueue(ring, op);
	}
}

static void ring_submit(struct io *io, struct io_op *op)
{
	struct ring *ring = container_of(io, struct ring, io);
	int res;

	CHECK(!op->in_flight);
	CHECK(op->done != NULL);
	CHECK(op->len <= IO_LEN_MAX || !kind_is_transfer(op->kind));
	op->in_flight = 1;
	*ring_op(op) = (struct ring_op){ 0 };
	list_init(&ring_op(op)->link);
	if (kind_is_owed(op->kind))
		ring->owed++;
	switch (op->kind) {
	case IO_TIMER:
		ring_timer_add(ring, op);
		break;
	case IO_SOON:
		ring_op(op)->stage = OP_SOON;
		list_append(&ring->soon, &ring_op(op)->link);
		break;
	case IO_DIAL:
		res = ring_dial(ring, op);
		if (res < 0)
			ring_op_end(ring, op, res);
		else
			op_enqueue(ring, op);
		break;
	default:
		CHECK(op->kind < IO_KINDS);
		submit_on_file(ring, op);
	}
}

/* An op in the kernel ends when the kernel says so; all others are in our hands. */
static void op_cancel(struct ring *ring, struct io_op *op)
{
	struct ring_op *at = ring_op(op);

	switch (at->stage) {
	case OP_KERNEL:
		if (!at->cancelled)
			list_append(&ring->cancels, &at->link);
		at->cancelled = 1;
		break;
	case OP_TIMER:
		ring_timer_remove(ring, op);
		ring_op_end(ring, op, -ECANCELED);
		break;
	case OP_ENDED:
		break;
	case OP_QUEUED:
		/* A send that went on after a short one is in the queue again: its bytes are lost all the same. */
		if (op->kind == IO_DIAL)
			ring->files[at->file].closing = true;
		/* fall through */
	default:
		ring_op_end(ring, op, -ECANCELED);
	}
}

static void ring_cancel(struct io *io, struct io_op *op)
{
	if (!op->in_flight)
		return;
	CHECK(op->kind > IO_MAP);
	op_cancel(container_of(io, struct ring, io), op);
}

static void ring_close(struct io *io, int socket)
{
	struct ring *ring = container_of(io, struct ring, io);
	struct ring_file *file = ring_file_find(ring, socket);

	CHECK(file != NULL);
	CHECK(file->socket);
	file->closing = true;
	shutdown(file->fd, SHUT_RDWR);
	for (struct list *link = file->attached.next; link != &file->attached; link = link->next) {
		struct io_op *op = ring_op_of(list_entry(link, struct ring_op, on_file));

		op_cancel(ring, op);
		if (ring_op(op)->stage == OP_ENDED)
			ring_op(op)->result = -ECANCELED;
	}
	if (file->ops == 0)
		ring_file_release(ring, file);
}

/* ---- the kernel's queue -------------------------------------------------------------------------- */

static void prepare_disk(struct ring *ring, struct io_uring_sqe *sqe, struct io_op *op)
{
	struct ring_file *file = &ring->files[ring_op(op)->file];
	uint64_t done = ring_op(op)->progress, left = op->len - done, at = op->offset + done;
	bool zeros = op->kind == IO_PUNCH || op->kind == IO_ZERO;
	uint8_t *data = zeros ? ring->zeros : (uint8_t *)op->data + done;
	unsigned len = (unsigned)min_u64(left, zeros ? RING_ZERO_BYTES : IO_LEN_MAX);
	int buffer, fd = ring->files_registered ? (int)(file - ring->files) : file->fd;

	if (op->kind == IO_SYNC) {
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		return;
	}
	if (zeros && !(op->kind == IO_PUNCH ? file->no_punch : file->no_zero)) {
		int mode = op->kind == IO_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

		io_uring_prep_fallocate(sqe, fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)left);
		return;
	}
	ring_op(op)->by_writes = zeros;
	buffer = ring_buffer_find(ring, data, len);
	if (op->kind == IO_READ && buffer >= 0)
		io_uring_prep_read_fixed(sqe, fd, data, len, at, buffer);
	else if (op->kind == IO_READ)
		io_uring_prep_read(sqe, fd, data, len, at);
	else if (buffer >= 0)
		io_uring_prep_write_fixed(sqe, fd, data, len, at, buffer);
	else
		io_uring_prep_write(sqe, fd, data, len, at);
	if (op->kind == IO_WRITE && (op->flags & IO_DURABLE))
		sqe->rw_flags = RWF_DSYNC;
}

static void prepare(struct ring *ring, struct io_uring_sqe *sqe, struct io_op *op)
{
	struct ring_file *file = &ring->files[ring_op(op)->file];
	int fd = ring->files_registered ? (int)(file - ring->files) : file->fd;
	uint64_t done = ring_op(op)->progress;

	switch (op->kind) {
	case IO_ACCEPT:
		io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
		break;
	case IO_DIAL:
		io_uring_prep_connect(sqe, fd, (struct sockaddr *)&file->address, file->address_len);
		break;
	case IO_SEND:
		io_uring_prep_send(sqe, fd, (uint8_t *)op->data + done, op->len - done,
				   MSG_NOSIGNAL | MSG_WAITALL);
		break;
	case IO_RECV:
		io_uring_prep_recv(sqe, fd, op->data, op->len, 0);
		break;
	case IO_POLL:
		io_uring_prep_poll_add(sqe, fd, POLLIN);
		break;
	default:
		prepare_disk(ring, sqe, op);
	}
	if (ring->files_registered)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, op);
	ring_op(op)->stage = OP_KERNEL;
}

/* Cancels first: what they name is in the kernel's queue already, before them, while an op that is queued
 * anew under the same address comes after them. */
static void ring_fill(struct ring *ring)
{
	struct io_uring_sqe *sqe;
	struct list *link;

	while ((link = list_first(&ring->cancels)) && (sqe = io_uring_get_sqe(&ring->uring))) {
		list_remove(link);
		io_uring_prep_cancel(sqe, ring_op_at(link), 0);
		io_uring_sqe_set_data(sqe, NULL);
	}
	while ((link = list_first(&ring->queued)) && (sqe = io_uring_get_sqe(&ring->uring))) {
		list_remove(link);
		prepare(ring, sqe, ring_op_at(link));
	}
}

/* A turn in which only we have something to do needs no system call; but the kernel has its turn, too. */
static bool ring_passes(struct ring *ring)
{
	bool ours = !list_empty(&ring->ended) || !list_empty(&ring->soon);

	if (!ours || io_uring_sq_ready(&ring->uring) || !list_empty(&ring->queued) || !list_empty(&ring->cancels) ||
	    ring->passed == PASSES_MAX) {
		ring->passed = 0;
		return false;
	}
	ring->passed++;
	return true;
}

static void ring_enter(struct ring *ring)
{
	bool busy = !list_empty(&ring->queued) || !list_empty(&ring->cancels) || !list_empty(&ring->ended) ||
		    !list_empty(&ring->soon);
	uint64_t now_ns = ring->timer_count ? ring->io.now_ns(&ring->io) : 0;
	uint64_t deadline_ns = ring->timer_count ? ring_op(ring->timers[0])->deadline_ns : UINT64_MAX;
	struct __kernel_timespec wait = { 0 };
	struct io_uring_cqe *cqe;
	int res;

	if (busy || deadline_ns <= now_ns) {
		res = io_uring_submit_and_get_events(&ring->uring);
	} else if (deadline_ns == UINT64_MAX) {
		res = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, NULL, NULL);
	} else {
		wait.tv_sec = (int64_t)((deadline_ns - now_ns) / 1000000000);
		wait.tv_nsec = (int64_t)((deadline_ns - now_ns) % 1000000000);
		res = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &wait, NULL);
	}
	/* Time is over, a signal, or the kernel wants its completions reaped first: all is still queued. */
	if (res >= 0 || res == -ETIME || res == -EINTR || res == -EAGAIN || res == -EBUSY || res == -ENOMEM)
		return;
	say(&ring->io, IO_ERROR, "io_uring: the kernel refuses the queue (%s); stopping, so that nothing more is "
	    "acknowledged", strerror(-res));
	abort();
}

/* ---- completions --------------------------------------------------------------------------------- */

/* fallocate() that the filesystem or the device does not have: zeros are written instead, and from now on
 * at once. */
static bool zero_by_writes(struct ring_file *file, struct io_op *op, int res)
{
	if (ring_op(op)->by_writes || (res != -EOPNOTSUPP && res != -ENOSYS && res != -ENODEV))
		return false;
	if (op->kind == IO_PUNCH)
		file->no_punch = true;
	else
		file->no_zero = true;
	return true;
}

/* The kernel moved @res > 0 bytes. True when the op is to go on with the rest. */
static bool transfer_goes_on(struct ring_file *file, struct io_op *op, int res, int64_t *result)
{
	struct ring_op *at = ring_op(op);

	at->progress += (uint64_t)res;
	*result = (int64_t)at->progress;
	if (at->progress >= op->len)
		return false;
	/* Direct I/O stops inside a sector only at the end of the file, and cannot go on from there. */
	return !(op->kind == IO_READ && file->direct && at->progress % DIRECT_BYTES);
}

/* What an answer of the kernel means. True: the op has to be queued once more. */
static bool answer_goes_on(struct ring *ring, struct ring_file *file, struct io_op *op, int res,
			   int64_t *result)
{
	*result = res;
	if ((res == -EINTR && op->kind != IO_DIAL) || (res == -EAGAIN && op->kind <= IO_MAP))
		return true;
	switch (op->kind) {
	case IO_READ:
		*result = res < 0 ? res : (int64_t)ring_op(op)->progress;
		return res > 0 && transfer_goes_on(file, op, res, result);
	case IO_WRITE:
	case IO_SEND:
		*result = res == 0 ? -EIO : res;
		return res > 0 && transfer_goes_on(file, op, res, result);
	case IO_PUNCH:
	case IO_ZERO:
		if (ring_op(op)->by_writes && res > 0 && transfer_goes_on(file, op, res, result))
			return true;
		*result = res > 0 ? 0 : ring_op(op)->by_writes && res == 0 ? -EIO : res;
		return zero_by_writes(file, op, res);
	case IO_ACCEPT:
		if (res >= 0)
			*result = ring_accepted(ring, res);
		return false;
	case IO_DIAL:
		*result = ring_dialed(ring, file, res);
		return false;
	case IO_POLL:
		*result = res < 0 ? res : 0;
		return false;
	default:
		return false;
	}
}

static void op_answered(struct ring *ring, struct io_op *op, int res)
{
	struct ring_file *file = &ring->files[ring_op(op)->file];
	int64_t result = -ECANCELED;

	CHECK(ring_op(op)->stage == OP_KERNEL);
	list_remove(&ring_op(op)->link);		/* of ring->cancels, when it came too late */
	if (file->closing) {
		if (op->kind == IO_ACCEPT && res >= 0)
			close(res);
	} else if (ring_op(op)->cancelled && res < 0) {
		file->closing = op->kind == IO_DIAL;
	} else if (answer_goes_on(ring, file, op, res, &result)) {
		if (!ring_op(op)->cancelled) {
			op_enqueue(ring, op);
			return;
		}
		result = -ECANCELED;
	}
	op_done(ring, op, result);
}

static void ring_reap(struct ring *ring)
{
	struct io_uring_cqe *cqes[REAP_BATCH];
	unsigned count;

	while ((count = io_uring_peek_batch_cqe(&ring->uring, cqes, REAP_BATCH)) > 0) {
		for (unsigned i = 0; i < count; i++) {
			struct io_op *op = io_uring_cqe_get_data(cqes[i]);

			if (op)			/* else a cancel's own answer */
				op_answered(ring, op, cqes[i]->res);
		}
		io_uring_cq_advance(&ring->uring, count);
	}
}

/* Moves what is in @from now to the empty list @to: what done() adds meanwhile is for the next turn. */
static void list_take(struct list *to, struct list *from)
{
	list_init(to);
	if (list_empty(from))
		return;
	*to = *from;
	to->next->prev = to->prev->next = to;
	list_init(from);
}

static void ring_ended(struct ring *ring)
{
	struct list now, *link;

	for (list_take(&now, &ring->ended); (link = list_first(&now)); ) {
		list_remove(link);
		op_done(ring, ring_op_at(link), ring_op(ring_op_at(link))->result);
	}
}

static void ring_expire(struct ring *ring)
{
	uint64_t now_ns = ring->timer_count ? ring->io.now_ns(&ring->io) : 0;
	struct io_op *op;

	while ((op = ring_timer_expire(ring, now_ns)))
		op_done(ring, op, 0);
}

static void ring_soons(struct ring *ring)
{
	struct list now, *link;

	for (list_take(&now, &ring->soon); (link = list_first(&now)); ) {
		list_remove(link);
		op_done(ring, ring_op_at(link), 0);
	}
}

void ring_run(struct ring *ring)
{
	ring->stopped = false;
	while (!ring->stopped) {
		ring_fill(ring);
		if (!ring_passes(ring))
			ring_enter(ring);
		ring_reap(ring);
		ring_ended(ring);
		ring_expire(ring);
		ring_soons(ring);
	}
}

void ring_stop(struct ring *ring)
{
	ring->stopped = true;
}

/* ---- clock, chance, log --------------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t ring_now_ns(struct io *io) { (void)io; return clock_ns(CLOCK_MONOTONIC); }
static uint64_t ring_wall_ns(struct io *io) { (void)io; return clock_ns(CLOCK_REALTIME); }

static void ring_random(struct io *io, void *out, size_t len)
{
	(void)io;
	for (size_t done = 0; done < len; ) {
		ssize_t got = getrandom((uint8_t *)out + done, len - done, 0);

		CHECK(got > 0 || errno == EINTR);
		done += got > 0 ? (size_t)got : 0;
	}
}

/* One write(), so that lines of several daemons on one terminal do not mix. A line may quote a peer or
 * a user: nothing in it may look like a second line. */
static void ring_log(struct io *io, enum io_level level, const char *line)
{
	char out[1100];
	int len;

	if (level == IO_DEBUG && !container_of(io, struct ring, io)->debug)
		return;
	len = snprintf(out, sizeof out - 1, "%c %s", "EWID"[level], line);
	if (len > (int)sizeof out - 2)
		len = sizeof out - 2;
	for (int i = 0; i < len; i++)
		if ((unsigned char)out[i] < ' ' || out[i] == 127)
			out[i] = '?';
	out[len++] = '\n';
	(void)!write(STDERR_FILENO, out, (size_t)len);
}

/* ---- from new to free ------------------------------------------------------------------------------ */

/* The flags that this kernel may lack go one after the other. */
static int uring_init_sized(struct io_uring *uring, bool sqpoll, unsigned submissions, unsigned completions)
{
	const unsigned direct[] = {
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,				   /* 5.19 */
		0,
	};
	const unsigned polled[] = { IORING_SETUP_SQPOLL | IORING_SETUP_SUBMIT_ALL, IORING_SETUP_SQPOLL, 0 };
	int res = -EINVAL;

	for (unsigned i = 0; i < 3 && res == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = IORING_SETUP_CQSIZE | (sqpoll ? polled : direct)[i],
			.cq_entries = completions, .sq_thread_idle = 1000,
		};

		res = io_uring_queue_init_params(submissions, uring, &params);
	}
	return res;
}

/* The queues count as locked memory: a plain user with 64 KiB of it gets smaller ones. */
static int uring_init(struct io_uring *uring, const struct ring_config *config)
{
	int res = uring_init_sized(uring, config->sqpoll, RING_SUBMISSIONS, RING_COMPLETIONS);

	if (res == -ENOMEM)
		res = uring_init_sized(uring, config->sqpoll, RING_SUBMISSIONS / 8, RING_COMPLETIONS / 8);
	if (res < 0)
		return res;
	if (!(uring->features & IORING_FEAT_EXT_ARG) || !(uring->features & IORING_FEAT_NODROP)) {
		io_uring_queue_exit(uring);
		return -ENOSYS;
	}
	(void)!io_uring_register_ring_fd(uring);
	return 0;
}

int ring_new(struct ring **out, const struct ring_config *config)
{
	struct ring *ring = calloc(1, sizeof *ring);
	int res;

	ring_memory_limit_raise();
	res = ring ? uring_init(&ring->uring, config) : -ENOMEM;
	if (res < 0) {
		free(ring);
		return res;
	}
	ring->io = (struct io){
		.now_ns = ring_now_ns, .wall_ns = ring_wall_ns, .random = ring_random,
		.alloc = ring_alloc, .free = ring_memory_free,
		.submit = ring_submit, .cancel = ring_cancel, .listen = ring_listen,
		.socket_node = ring_socket_node, .close = ring_close,
		.log = ring_log,
	};
	ring->debug = getenv("HOLDFAST_DEBUG") != NULL;
	list_init(&ring->queued);
	list_init(&ring->cancels);
	list_init(&ring->ended);
	list_init(&ring->soon);
	for (int i = 0; i < RING_FILES_MAX; i++)
		ring->files[i].fd = -1;
	ring->files_registered = io_uring_register_files_sparse(&ring->uring, RING_FILES_MAX) == 0;
	ring_memory_init(ring);
	ring->zeros = ring_alloc(&ring->io, RING_ZERO_BYTES, IO_FIXED);
	if (!ring->zeros) {
		ring_free(ring);
		return -ENOMEM;
	}
	*out = ring;
	return 0;
}

/* What is still in the kernel is cancelled and waited for: it points into memory and files that are about
 * to go. The files then close at once and not when the kernel gets to it, or a new daemon could find the
 * replica still locked. */
void ring_free(struct ring *ring)
{
	struct io_uring_sync_cancel_reg all = { .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
						.timeout = { .tv_sec = 1 } };

	if (!ring)
		return;
	CHECK(ring->owed == 0);
	(void)!io_uring_register_sync_cancel(&ring->uring, &all);
	(void)!io_uring_get_events(&ring->uring);
	for (struct ring_file *file = ring->files; file < ring->files + RING_FILES_MAX; file++) {
		if (file->fd < 0)
			continue;
		if (file->socket)
			shutdown(file->fd, SHUT_RDWR);
		file->ops = 0;
		ring_file_release(ring, file);
	}
	ring_memory_free(&ring->io, ring->zeros);
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

struct io *ring_io(struct ring *ring)
{
	return &ring->io;
}
