/* SPDX-License-Identifier: Apache-2.0 */
/* hunt FIRST COUNT: plays that many seeds of the swarm (sim/swarm.h) from FIRST on, each in a process of its own, JOBS
 * at once. All that a failing seed says goes to stderr, one line with its cause to stdout; then hunt ends, unless
 * KEEP_GOING=1. COMMIT is what a failure names; without it git is asked. FORK=0 plays FIRST in this very process, for a
 * debugger. Exit 1 when any seed failed. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim/swarm.h"

enum { JOBS_MAX = 64, WALL_SECONDS_MAX = 300, CAUSE_BYTES = 512 };

/* A seed that runs, or (pid 0) room for one. */
struct job {
	pid_t pid;
	uint64_t seed;
	FILE *said;			/* its stderr */
	struct swarm_report *report;	/* shared with it */
};

struct hunt {
	uint64_t next, end, failed;
	unsigned jobs;
	bool keep_going, stopped;
	char commit[64];
	struct job job[JOBS_MAX];
	struct swarm_report sum;
	struct timespec start;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

static void commit_read(char out[64])
{
	const char *given = getenv("COMMIT");
	FILE *git = NULL;

	if (given && *given) {
		snprintf(out, 64, "%s", given);
		return;
	}
	git = popen("git describe --always --dirty 2>/dev/null", "r");
	if (!git || !fgets(out, 64, git))
		strcpy(out, "unknown");
	out[strcspn(out, "\n")] = 0;
	if (git)
		pclose(git);
}

static void job_start(struct hunt *h, struct job *job)
{
	job->seed = h->next++;
	job->said = tmpfile();
	memset(job->report, 0, sizeof *job->report);
	fflush(NULL);
	job->pid = fork();
	if (!job->said || job->pid < 0) {
		fprintf(stderr, "hunt: a seed could not be started (%s)\n", strerror(errno));
		exit(2);
	}
	if (job->pid)
		return;
	signal(SIGINT, SIG_IGN);	/* a seed under way is played to its end */
	dup2(fileno(job->said), STDERR_FILENO);
	alarm(WALL_SECONDS_MAX);
	swarm_run(job->seed, job->report);
	_exit(0);
}

/* The line of the breach, or of a CHECK, or how the process ended. */
static void cause_find(struct job *job, int status, char cause[CAUSE_BYTES])
{
	char line[CAUSE_BYTES];

	snprintf(cause, CAUSE_BYTES, "%s", WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
		 ? "liveness: no end after 300 s of wall time" : strsignal(WTERMSIG(status)));
	rewind(job->said);
	while (fgets(line, sizeof line, job->said)) {
		line[strcspn(line, "\n")] = 0;
		if (strstr(line, "BREACH") || strstr(line, "CHECK") || strstr(line, "ERROR:") ||
		    strstr(line, "runtime error"))
			snprintf(cause, CAUSE_BYTES, "%s", line);
	}
}

static void job_failed(struct hunt *h, struct job *job, int status)
{
	char bytes[4096], cause[CAUSE_BYTES];
	size_t got;

	rewind(job->said);
	while ((got = fread(bytes, 1, sizeof bytes, job->said)) > 0)
		fwrite(bytes, 1, got, stderr);
	cause_find(job, status, cause);
	printf("FAILED seed=0x%" PRIx64 " commit=%s %s\n", job->seed, h->commit, cause);
	h->failed++;
	h->stopped |= !h->keep_going;
}

static void job_end(struct hunt *h, pid_t pid, int status)
{
	for (unsigned i = 0; i < h->jobs; i++) {
		struct job *job = &h->job[i];

		if (job->pid != pid)
			continue;
		if (status)
			job_failed(h, job, status);
		job->report->seeds = 1;
		swarm_report_add(&h->sum, job->report);
		fclose(job->said);
		job->pid = 0;
	}
}

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static void report(const struct hunt *h)
{
	double wall = seconds_since(&h->start), hours = (double)h->sum.virtual_ns / 3600e9, busy;
	const char *comma = "";
	struct rusage used;

	getrusage(RUSAGE_CHILDREN, &used);
	busy = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
	       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;

	printf("faults: ");
	for (unsigned i = 0; i < SWARM_FAULT_COUNT; i++) {
		if (!h->sum.faults[i])
			continue;
		printf("%s%" PRIu64 " %s", comma, h->sum.faults[i], swarm_fault_name((enum swarm_fault)i));
		comma = ", ";
	}
	printf("\nwork: %" PRIu64 " requests answered, %" PRIu64 " events\n", h->sum.acked, h->sum.events);
	printf("files: %" PRIu64 " operations, %" PRIu64 " trees walked, %" PRIu64 " records within an operation, "
	       "%" PRIu64 " files found in the middle of one\n", h->sum.files.operations, h->sum.files.walks,
	       h->sum.files.within, h->sum.files.adopted);
	printf("time: %.2f h simulated in %.1f s: %.0f seeds, %.1f simulated hours per minute; %.1f s of CPU: %.0f "
	       "times real time per core\n", hours, wall, (double)h->sum.seeds * 60 / wall, hours * 60 / wall, busy,
	       hours * 3600 / busy);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", h->sum.seeds - h->failed, h->failed);
}

static uint64_t environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct swarm_report *shared;
	struct hunt h = { 0 };
	unsigned running = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: hunt FIRST COUNT    (JOBS=1 KEEP_GOING=0 FORK=1)\n");
		return 2;
	}
	/* Batches of a journal are as large as what malloc() asks of the kernel each time anew: a tenth of the time. */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	h.next = strtoull(argv[1], NULL, 0);
	if (!environment("FORK", 1)) {
		swarm_run(h.next, &h.sum);
		return 0;
	}
	h.end = h.next + strtoull(argv[2], NULL, 0);
	h.jobs = (unsigned)environment("JOBS", 1);
	h.keep_going = environment("KEEP_GOING", 0);
	if (h.jobs < 1 || h.jobs > JOBS_MAX)
		h.jobs = 1;
	commit_read(h.commit);
	shared = mmap(NULL, JOBS_MAX * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	for (unsigned i = 0; i < JOBS_MAX; i++)
		h.job[i].report = &shared[i];
	sigaction(SIGINT, &action, NULL);
	clock_gettime(CLOCK_MONOTONIC, &h.start);
	for (;;) {
		int status;
		pid_t pid;

		for (unsigned i = 0; i < h.jobs && h.next < h.end && !h.stopped && !interrupted; i++) {
			if (h.job[i].pid)
				continue;
			job_start(&h, &h.job[i]);
			running++;
		}
		if (!running)
			break;
		pid = wait(&status);
		if (pid < 0)
			continue;
		job_end(&h, pid, status);
		running--;
	}
	report(&h);
	return h.failed != 0;
}
