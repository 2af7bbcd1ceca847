/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of `holdfast` share: the command line, refusals, the control socket. */
#ifndef HOLDFAST_CLI_H
#define HOLDFAST_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "config.h"

enum cli_exit { CLI_DONE, CLI_REFUSED, CLI_USAGE, CLI_NO_DAEMON };

struct cli;

struct cli_verb {
	const char *name, *arguments, *what;	/* for usage and completion */
	enum cli_exit (*run)(struct cli *cli, int argc, char **argv);
	bool hidden;
};

struct cli {
	char root[PATH_MAX];		/* absolute, or "" for the machine itself */
	const struct cli_verb *verb;
	char **words; /* of the arguments, what is no option; set by cli_arguments() */
	int word_count;
};

/* One long option: either a flag, or up to @max values, counted. */
struct cli_option {
	const char *name;
	bool *flag;
	const char **values;
	unsigned max, *count;		/* count may be NULL when max is 1 */
};

/* Takes argv apart; @options ends with a NULL name. CLI_USAGE, after a word on stderr, for anything
 * unknown, too many values, or fewer than @least or more than @most words. */
MUST_CHECK enum cli_exit cli_arguments(struct cli *cli, int argc, char **argv,
				       const struct cli_option *options, int least, int most);
/* One line on stderr: "holdfast: " and @format; returns CLI_REFUSED. */
__attribute__((format(printf, 1, 2))) enum cli_exit cli_refuse(const char *format, ...);
/* The verb's usage on stderr; returns CLI_USAGE. */
enum cli_exit cli_usage(const struct cli *cli);
/* CLI_USAGE after a refusal when the name is none. */
MUST_CHECK enum cli_exit cli_paths(const struct cli *cli, const char *volume, struct paths *out);
/* CLI_REFUSED after a refusal. */
MUST_CHECK enum cli_exit cli_config(const struct paths *paths, const char *volume,
				    struct config *out);

/* The connected control socket of the daemon, or -errno: -ENOENT and -ECONNREFUSED when there is
 * none. */
MUST_CHECK int cli_control_open(const struct paths *paths);
/* Sends one line and reads one. *reply is the caller's, an object. -EPIPE when the daemon went
 * away, -EPROTO when it answers no JSON. */
MUST_CHECK int cli_control_ask(int fd, const json_t *request, json_t **reply);
/* Both, for one question; what goes wrong is said on stderr. @reply may be NULL. Consumes
 * @request. */
MUST_CHECK enum cli_exit cli_ask(const struct cli *cli, const char *volume, json_t *request,
				 json_t **reply);
/* The same; the daemon gets a copy of file descriptor @file. */
MUST_CHECK enum cli_exit cli_ask_with_file(const struct cli *cli, const char *volume, json_t *request, int file,
					   json_t **reply);
/* The same without, and prints what the daemon has to say of a success. */
MUST_CHECK enum cli_exit cli_tell(const struct cli *cli, const char *volume, json_t *request);
/* Says that there is no daemon; returns CLI_NO_DAEMON. */
enum cli_exit cli_no_daemon(const char *volume);
/* The daemon's own sentence, with the volume's name in it; returns CLI_REFUSED. */
enum cli_exit cli_refuse_why(const char *volume, const char *why);
/* The same of its answer. */
enum cli_exit cli_refused_by_daemon(const char *volume, const json_t *reply);
/* Every VOLUME.conf of the root, sorted. *names is the caller's. -errno of the directory; none is no error. */
MUST_CHECK int cli_volumes(const struct cli *cli, char (**names)[NAME_BYTES], size_t *count);
/* "" and 0 for what is not there. */
const char *cli_json_text(const json_t *object, const char *key);
double cli_json_number(const json_t *object, const char *key);

static inline void auto_json(json_t **json)
{
	json_decref(*json);
}
#define AUTO_JSON __attribute__((cleanup(auto_json)))

enum { CLI_PROGRESS_BYTES = 128 };

/* How far something is. */
struct cli_progress {
	double done, total;		/* bytes */
	double rate;			/* bytes per second; 0 = not known */
	double eta_seconds;		/* below 0 = not known */
	bool rate_measured;		/* by cli_progress_show() itself */
	double started, shown;		/* the progress's own: 0 = not yet */
};

/* "42 % (4.2 of 10.0 GiB, 118.2 MiB/s, 50 s left)" */
void cli_progress_text(const struct cli_progress *p, char out[CLI_PROGRESS_BYTES]);
/* On a terminal only: @what and the text, in place, a few times a second. */
void cli_progress_show(const char *what, struct cli_progress *p);
void cli_progress_end(const struct cli_progress *p);

enum cli_exit cli_create(struct cli *cli, int argc, char **argv);
enum cli_exit cli_up(struct cli *cli, int argc, char **argv);
enum cli_exit cli_down(struct cli *cli, int argc, char **argv);
enum cli_exit cli_status(struct cli *cli, int argc, char **argv);
enum cli_exit cli_promote(struct cli *cli, int argc, char **argv);
enum cli_exit cli_demote(struct cli *cli, int argc, char **argv);
enum cli_exit cli_switchover(struct cli *cli, int argc, char **argv);
enum cli_exit cli_failover(struct cli *cli, int argc, char **argv);
enum cli_exit cli_attach(struct cli *cli, int argc, char **argv);
enum cli_exit cli_detach(struct cli *cli, int argc, char **argv);
enum cli_exit cli_mount(struct cli *cli, int argc, char **argv);
enum cli_exit cli_umount(struct cli *cli, int argc, char **argv);
enum cli_exit cli_peer(struct cli *cli, int argc, char **argv);
enum cli_exit cli_divergence(struct cli *cli, int argc, char **argv);
enum cli_exit cli_resolve(struct cli *cli, int argc, char **argv);
enum cli_exit cli_verify(struct cli *cli, int argc, char **argv);
enum cli_exit cli_check(struct cli *cli, int argc, char **argv);
enum cli_exit cli_df(struct cli *cli, int argc, char **argv);
enum cli_exit cli_replace(struct cli *cli, int argc, char **argv);
enum cli_exit cli_lsn(struct cli *cli, int argc, char **argv);
enum cli_exit cli_wait(struct cli *cli, int argc, char **argv);
enum cli_exit cli_extract(struct cli *cli, int argc, char **argv);
enum cli_exit cli_identity(struct cli *cli, int argc, char **argv);

/* This node's fingerprint, and what to do with it on the others. CLI_REFUSED after a refusal. */
MUST_CHECK enum cli_exit cli_identity_print(const struct config *config, const struct paths *paths);

/* The number of a loop device over the volume's mount, or -ENOENT. */
MUST_CHECK int cli_attached(const struct paths *paths);
/* Lets go of loop devices over the mount of a daemon that has died: later nobody could tell whose they are. One that is
 * mounted goes when it is umounted. Says what it did on stderr. */
void cli_detach_dead(const char *volume, const struct paths *paths);
/* Starts the daemon and waits until it is up; why it is not is said on stderr. */
MUST_CHECK enum cli_exit cli_daemon_start(const struct cli *cli, const char *volume);
/* Asks for the primary role until it is given, or @seconds are over. */
enum cli_exit cli_promote_wait(struct cli *cli, const char *volume, bool force, unsigned seconds);

#endif
