/* SPDX-License-Identifier: Apache-2.0 */
/* How far something is that takes minutes. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { SHOW_EVERY_MS = 200 };

/* "50 s", "12 min", "3 h 20 min" */
static void duration_text(double seconds, char out[32])
{
	if (seconds < 100)
		snprintf(out, 32, "%.0f s", seconds);
	else if (seconds < 100 * 60)
		snprintf(out, 32, "%.0f min", seconds / 60);
	else
		snprintf(out, 32, "%.0f h %.0f min", (double)(long)(seconds / 3600),
			 (double)((long)(seconds / 60) % 60));
}

void cli_progress_text(const struct cli_progress *p, char out[CLI_PROGRESS_BYTES])
{
	static const char units[] = "BKMGT";
	double scale = 1, part = p->total > 0 ? p->done / p->total : 1;
	char rate[32], eta[32];
	unsigned unit = 0;
	int len;

	for (; p->total / scale >= 1024 && unit < sizeof units - 2; unit++)
		scale *= 1024;
	/* Nothing is complete before it is: 99.96 % is 99 %. */
	len = snprintf(out, CLI_PROGRESS_BYTES, "%u %% (%.*f of %.*f %c%s", (unsigned)(part * 100), unit > 0,
		       p->done / scale, unit > 0, p->total / scale, units[unit], unit > 0 ? "iB" : "");
	if (p->rate > 0) {
		size_text((uint64_t)p->rate, rate);
		len += snprintf(out + len, CLI_PROGRESS_BYTES - (size_t)len, ", %s/s", rate);
	}
	if (p->eta_seconds >= 0) {
		duration_text(p->eta_seconds, eta);
		len += snprintf(out + len, CLI_PROGRESS_BYTES - (size_t)len, ", %s left", eta);
	}
	snprintf(out + len, CLI_PROGRESS_BYTES - (size_t)len, ")");
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void cli_progress_show(const char *what, struct cli_progress *p)
{
	char text[CLI_PROGRESS_BYTES];
	double now = seconds_now();

	if (!isatty(STDERR_FILENO) || (p->shown && now - p->shown < SHOW_EVERY_MS / 1000.0))
		return;
	if (!p->started)
		p->started = now;
	if (p->rate_measured && now - p->started > 1 && p->done > 0) {
		p->rate = p->done / (now - p->started);
		p->eta_seconds = (p->total - p->done) / p->rate;
	}
	p->shown = now;
	cli_progress_text(p, text);
	fprintf(stderr, "\r%s %s\033[K", what, text);
}

void cli_progress_end(const struct cli_progress *p)
{
	if (p->shown)
		fprintf(stderr, "\r\033[K");
}
