/* SPDX-License-Identifier: Apache-2.0 */
/* directory LOAD DIR ARGS: one load on a directory, whatever filesystem that is of; the directory exists. Prints lines
 * of "WHAT DEPTH OPERATIONS/S P50_US P99_US", as sample.h does; scripts/bench makes the table.
 *
 *	names DIR PROCESSES COUNT KEPT	COUNT files are made, asked for, unlinked, by processes that share them, in a
 *					directory that has KEPT others: create, stat, unlink
 *	walk DIR			every name below is read and its inode asked for, as `git status` does
 *	write DIR MIB			1 MiB at a time to a new file, then fsync: MiB/s
 *	read DIR MIB			the same back, and compared
 *	sync DIR WRITERS MS		each writer appends 4 KiB to a file of its own and syncs it
 *	lag DIR OTHER COUNT		a number is written to a file of DIR, and read in OTHER, another node's mount,
 *					until it is there
 *
 * A load forks its processes; each keeps its latencies in memory that all share. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sample.h"

enum { MIB = 1 << 20, BLOCK = 4096, PROCESSES_MAX = 64, PATH_BYTES = 4096 };

/* What one process did. */
struct part {
	uint64_t begun_ns, ended_ns, count;
	uint32_t latencies_ns[];	/* of `room` */
};

struct load {
	const char *what;
	unsigned processes;
	uint64_t room;			/* operations of one process, at most */
	uint64_t number, ms;		/* what the load makes of them */
	const char *other;
	void (*run)(const struct load *load, unsigned process, struct part *part);
};

static void add(const struct load *load, struct part *part, uint64_t begun_ns)
{
	part->ended_ns = sample_now_ns();
	if (part->count < load->room)
		part->latencies_ns[part->count++] = (uint32_t)min_u64(part->ended_ns - begun_ns, UINT32_MAX);
}

/* ---- processes -------------------------------------------------------------------------------------- */

/* All begin at once: when the write end of a pipe is closed. */
static pid_t begin(const struct load *load, unsigned process, struct part *part, int gate[2])
{
	pid_t child = fork();
	char none;

	if (child < 0)
		err(1, "fork");
	if (child > 0)
		return child;
	close(gate[1]);
	(void)!read(gate[0], &none, 1);
	part->begun_ns = part->ended_ns = sample_now_ns();
	load->run(load, process, part);
	_exit(0);
}

static void print(const struct load *load, uint8_t *parts, size_t part_bytes)
{
	struct sample sample = { .begun_ns = UINT64_MAX };
	uint64_t count = 0;

	sample.latencies_ns = malloc(load->processes * load->room * sizeof *sample.latencies_ns);
	if (!sample.latencies_ns)
		errx(1, "no memory for a sample");
	for (unsigned i = 0; i < load->processes; i++) {
		const struct part *part = (const void *)(parts + i * part_bytes);

		sample.begun_ns = min_u64(sample.begun_ns, part->begun_ns);
		sample.ended_ns = max_u64(sample.ended_ns, part->ended_ns);
		memcpy(sample.latencies_ns + count, part->latencies_ns, part->count * sizeof *part->latencies_ns);
		count += part->count;
	}
	sample.count = count;
	sample_print(&sample, load->what, load->processes);
	free(sample.latencies_ns);
}

static void run(const struct load *load)
{
	size_t part_bytes = round_up(sizeof(struct part) + load->room * sizeof(uint32_t), BLOCK);
	pid_t children[PROCESSES_MAX];
	uint8_t *parts = mmap(NULL, load->processes * part_bytes, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int gate[2], status;

	if (parts == MAP_FAILED || pipe(gate) < 0)
		err(1, "%s", load->what);
	for (unsigned i = 0; i < load->processes; i++)
		children[i] = begin(load, i, (void *)(parts + i * part_bytes), gate);
	close(gate[1]);
	close(gate[0]);
	for (unsigned i = 0; i < load->processes; i++)
		if (waitpid(children[i], &status, 0) < 0 || status != 0)
			errx(1, "%s: a process failed", load->what);
	print(load, parts, part_bytes);
	munmap(parts, load->processes * part_bytes);
}

/* ---- names ------------------------------------------------------------------------------------------- */

/* As long as programs' names are. */
static const char *name_of(const char *kind, uint64_t number)
{
	static char name[64];

	snprintf(name, sizeof name, "%s-%08llx.dat", kind, (unsigned long long)(number * 2654435761u & 0xffffffff));
	return name;
}

static void create(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		err(1, "creating %s", name);
	close(fd);
}

static void names_create(const struct load *load, unsigned process, struct part *part)
{
	for (uint64_t i = process; i < load->number; i += load->processes) {
		const char *name = name_of("new", i);
		uint64_t begun_ns = sample_now_ns();

		create(name);
		add(load, part, begun_ns);
	}
}

static void names_stat(const struct load *load, unsigned process, struct part *part)
{
	struct stat st;

	for (uint64_t i = process; i < load->number; i += load->processes) {
		const char *name = name_of("new", i);
		uint64_t begun_ns = sample_now_ns();

		if (lstat(name, &st) < 0 || !S_ISREG(st.st_mode))
			err(1, "asking for %s", name);
		add(load, part, begun_ns);
	}
}

static void names_unlink(const struct load *load, unsigned process, struct part *part)
{
	for (uint64_t i = process; i < load->number; i += load->processes) {
		const char *name = name_of("new", i);
		uint64_t begun_ns = sample_now_ns();

		if (unlink(name) < 0)
			err(1, "unlinking %s", name);
		add(load, part, begun_ns);
	}
}

static void names(unsigned processes, uint64_t count, uint64_t kept)
{
	struct load load = { .processes = processes, .room = count / processes + 1, .number = count };

	if (access(name_of("kept", 0), F_OK) < 0)
		for (uint64_t i = 0; i < kept; i++)
			create(name_of("kept", i));
	load.what = "create";
	load.run = names_create;
	run(&load);
	load.what = "stat";
	load.run = names_stat;
	run(&load);
	load.what = "unlink";
	load.run = names_unlink;
	run(&load);
}

/* ---- walk -------------------------------------------------------------------------------------------- */

static void walk_directory(const struct load *load, int fd, struct part *part)
{
	DIR *dir = fdopendir(fd);
	struct dirent *e;
	struct stat st;

	if (!dir)
		err(1, "a directory");
	while ((e = readdir(dir))) {
		uint64_t begun_ns = sample_now_ns();

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			err(1, "asking for %s", e->d_name);
		add(load, part, begun_ns);
		if (S_ISDIR(st.st_mode)) {
			int below = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			if (below < 0)
				err(1, "opening %s", e->d_name);
			walk_directory(load, below, part);
		}
	}
	closedir(dir);
}

static void walk_run(const struct load *load, unsigned process, struct part *part)
{
	int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)process;
	if (fd < 0)
		err(1, "opening it");
	walk_directory(load, fd, part);
}

/* ---- one large file ----------------------------------------------------------------------------------- */

/* The @number-th MiB: words that are seldom the same. */
static void fill(uint64_t *words, uint64_t number)
{
	for (uint64_t i = 0; i < MIB / sizeof *words; i++)
		words[i] = (number * MIB + i) * 0x9e3779b97f4a7c15ull;
}

static void write_run(const struct load *load, unsigned process, struct part *part)
{
	int fd = open("large", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	uint64_t *bytes = aligned_alloc(BLOCK, MIB);

	(void)process;
	if (fd < 0 || !bytes)
		err(1, "large");
	for (uint64_t i = 0; i < load->number; i++) {
		uint64_t begun_ns;

		fill(bytes, i);
		begun_ns = sample_now_ns();
		if (write(fd, bytes, MIB) != MIB)
			err(1, "writing");
		add(load, part, begun_ns);
	}
	if (fsync(fd) < 0)
		err(1, "syncing");
	part->ended_ns = sample_now_ns();
	close(fd);
}

static void read_run(const struct load *load, unsigned process, struct part *part)
{
	uint64_t *bytes = aligned_alloc(BLOCK, MIB), *expected = aligned_alloc(BLOCK, MIB);
	int fd = open("large", O_RDONLY | O_CLOEXEC);

	(void)process;
	if (fd < 0 || !bytes || !expected)
		err(1, "large");
	for (uint64_t i = 0; i < load->number; i++) {
		uint64_t begun_ns = sample_now_ns();

		if (read(fd, bytes, MIB) != MIB)
			err(1, "reading");
		add(load, part, begun_ns);
		/* A look at some of it: a comparison of all would be most of what is measured. */
		if (bytes[i % 1024] != (i * MIB + i % 1024) * 0x9e3779b97f4a7c15ull)
			errx(1, "WRONG DATA in MiB %llu", (unsigned long long)i);
	}
	close(fd);
}

/* ---- syncs ------------------------------------------------------------------------------------------- */

static void sync_run(const struct load *load, unsigned process, struct part *part)
{
	uint64_t end_ns = part->begun_ns + load->ms * 1000000;
	static uint8_t block[BLOCK];
	int fd;

	fd = open(name_of("sync", process), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		err(1, "a file to sync");
	do {
		uint64_t begun_ns = sample_now_ns();

		memset(block, (int)part->count, sizeof block);
		if (write(fd, block, sizeof block) != sizeof block || fsync(fd) < 0)
			err(1, "syncing");
		add(load, part, begun_ns);
	} while (part->ended_ns < end_ns && part->count < load->room);
	close(fd);
	unlink(name_of("sync", process));
}

/* ---- lag --------------------------------------------------------------------------------------------- */

static void lag_run(const struct load *load, unsigned process, struct part *part)
{
	char path[PATH_BYTES];
	int here = open("lag", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), there = -1;

	(void)process;
	snprintf(path, sizeof path, "%s/lag", load->other);
	for (uint64_t number = 1; number <= load->number; number++) {
		uint64_t begun_ns = sample_now_ns(), seen = 0;

		if (here < 0 || pwrite(here, &number, sizeof number, 0) != sizeof number)
			err(1, "writing a number");
		while (there < 0 && (there = open(path, O_RDONLY | O_CLOEXEC)) < 0 && errno == ENOENT)
			begun_ns = sample_now_ns();	/* of the first it is the name that comes late */
		while (there >= 0 && seen < number && pread(there, &seen, sizeof seen, 0) >= 0)
			if (sample_now_ns() - begun_ns > 30000000000ull)
				errx(1, "a number is not seen there after 30 s");
		if (seen != number)
			errx(1, "there the number is %llu and not %llu", (unsigned long long)seen,
			     (unsigned long long)number);
		add(load, part, begun_ns);
		usleep((useconds_t)(number * 7919 % 5000));	/* at any moment of what goes on there */
	}
	unlink("lag");
}

static uint64_t argument(char **argv, int argc, int at, uint64_t most)
{
	uint64_t value = at < argc ? strtoull(argv[at], NULL, 10) : 0;

	if (value > most || (value == 0 && at < 5))
		errx(2, "usage: directory names|walk|write|read|sync|lag DIR ARGS, as its head says");
	return value;
}

int main(int argc, char **argv)
{
	struct load load = { .processes = 1 };
	const char *what = argc > 2 ? argv[1] : "";

	if (argc > 2 && chdir(argv[2]) < 0)
		err(1, "%s", argv[2]);
	load.what = what;
	if (strcmp(what, "names") == 0) {
		names((unsigned)argument(argv, argc, 3, PROCESSES_MAX), argument(argv, argc, 4, 1 << 24),
		      argument(argv, argc, 5, 1 << 24));
		return 0;
	}
	if (strcmp(what, "walk") == 0) {
		load.room = 1 << 20;
		load.run = walk_run;
	} else if (strcmp(what, "write") == 0 || strcmp(what, "read") == 0) {
		load.room = load.number = argument(argv, argc, 3, 1 << 20);
		load.run = what[0] == 'w' ? write_run : read_run;
	} else if (strcmp(what, "lag") == 0 && argc > 3) {
		load.other = argv[3];
		load.room = load.number = argument(argv, argc, 4, 1 << 20);
		load.run = lag_run;
	} else {
		load.processes = (unsigned)argument(argv, argc, 3, PROCESSES_MAX);
		load.ms = argument(argv, argc, 4, 600000);
		load.room = 1 << 20;
		load.run = sync_run;
	}
	run(&load);
	return 0;
}
