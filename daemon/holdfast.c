/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast: the operator's side. The table of verbs is the program; it also makes usage and
 * completion. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static enum cli_exit cli_completion(struct cli *cli, int argc, char **argv);

static const struct cli_verb verbs[] = {
	{ "create",
	  "VOLUME --size SIZE --node NAME [--uuid UUID] [--listen ADDRESS] "
	  "[--peer NAME=ADDRESS[,MODE]]... [--commit POLICY] [--min-copies N] [--journal-size SIZE] [--memory SIZE] "
	  "[--store PATH] "
	  "[--journal PATH] [--meta PATH] [--bitmap PATH] [--undo PATH] [--undo-size SIZE] "
	  "[--resync blocks|checksum] [--resync-rate SIZE] "
	  "[--split-brain none|keep-primary|keep-newest|keep-only-writer] [--nbd ADDRESS]... [--nbd-tls DIR] "
	  "[--no-loop] [--fs] [--ca FILE] [--insecure-loopback yes|no]",
	  "make a new replica and its config", cli_create, false },
	{ "up", "VOLUME [--primary]", "start the daemon", cli_up, false },
	{ "down", "VOLUME", "stop the daemon, with everything in the store", cli_down, false },
	{ "status", "[VOLUME] [--json] [--watch]", "show volumes and peers", cli_status, false },
	{ "promote", "VOLUME [--force] [--wait SECONDS]", "make this node the primary", cli_promote,
	  false },
	{ "demote", "VOLUME [--force]", "make this node a secondary", cli_demote, false },
	{ "switchover", "VOLUME NODE [--dry-run] [--force]",
	  "hand the primary role to NODE, nothing lost", cli_switchover, false },
	{ "failover", "VOLUME --force | --dry-run", "take over from a primary that is dead",
	  cli_failover, false },
	{ "attach", "VOLUME", "make a loop device of the volume, and print it", cli_attach, false },
	{ "detach", "VOLUME", "take the loop device away", cli_detach, false },
	{ "mount", "VOLUME [DIRECTORY]", "mount its filesystem, here or where the config says", cli_mount, false },
	{ "umount", "VOLUME [--force]", "unmount it", cli_umount, false },
	{ "lsn", "PATH", "print the LSN that covers what was written to a file of a mounted directory", cli_lsn,
	  false },
	{ "wait", "VOLUME --lsn LSN [--node NODE] [--timeout SECONDS]",
	  "wait until readers, here or on NODE, see the log up to there", cli_wait, false },
	{ "peer",
	  "VOLUME list | add NAME ADDRESS [MODE] | remove NAME | mode NAME MODE | "
	  "fingerprint NAME FINGERPRINT|none | reconnect NAME",
	  "show and change the peers", cli_peer, false },
	{ "identity", "VOLUME [--create]", "print this node's fingerprint, or make it a key", cli_identity, false },
	{ "divergence", "VOLUME list | show ID | export ID FILE [--force] | drop ID",
	  "what this node wrote and gave up", cli_divergence, false },
	{ "resolve", "VOLUME --keep NODE [--dry-run]", "end a split brain: NODE's history is kept",
	  cli_resolve, false },
	{ "verify", "VOLUME [--repair] [--peer NODE] [--wait]", "compare the peers' blocks with ours",
	  cli_verify, false },
	{ "check", "VOLUME [--json]", "is its filesystem whole? Running or stopped, nothing is changed", cli_check,
	  false },
	{ "df", "[VOLUME] [--json]", "how full volumes are", cli_df, false },
	{ "replace", "VOLUME [--force]", "make this node's lost replica anew and start it, for a peer to fill",
	  cli_replace, false },
	{ "extract", "VOLUME | --from DIRECTORY [PATH]... [--output FILE] [--list] [--force]",
	  "write a tar archive of files in a stopped replica's filesystem", cli_extract, false },
	{ "completion", "", "print a completion script for bash", cli_completion, true },
};
enum { VERBS = sizeof verbs / sizeof verbs[0] };

static void usage_print(FILE *out)
{
	fprintf(out, "usage: holdfast [--root DIR] VERB VOLUME [ARGUMENTS]\n"
		"Without arguments: the status of all volumes.\n\n");
	for (unsigned i = 0; i < VERBS; i++)
		if (!verbs[i].hidden)
			fprintf(out, "  %-11s %s\n              %s\n", verbs[i].name, verbs[i].what,
				verbs[i].arguments);
	fprintf(out, "\nExit status: 0 done, 1 refused, 2 usage, 3 no daemon is running.\n");
}

/* Each --option in the text of a verb's arguments. */
static void options_print(const char *arguments)
{
	for (const char *at = strstr(arguments, "--"); at; at = strstr(at + 2, "--"))
		printf(" %.*s", (int)(2 + strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-")), at);
}

static enum cli_exit cli_completion(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };

	if (cli_arguments(cli, argc, argv, options, 0, 0) != CLI_DONE)
		return CLI_USAGE;
	printf("_holdfast()\n{\n\tlocal word=${COMP_WORDS[COMP_CWORD]} root= verb= at=1 options= "
	       "volumes file\n"
	       "\tif [[ ${COMP_WORDS[1]} == --root ]]; then\n\t\troot=${COMP_WORDS[2]} at=3\n\tfi\n"
	       "\tverb=${COMP_WORDS[at]}\n\tcase $verb in\n");
	for (unsigned i = 0; i < VERBS; i++) {
		printf("\t%s) options=\"", verbs[i].name);
		options_print(verbs[i].arguments);
		printf("\" ;;\n");
	}
	printf("\tesac\n\tfor file in \"$root\"/etc/holdfast/*.conf; do\n"
	       "\t\t[[ -e $file ]] && file=${file##*/} && volumes+=\" ${file%%.conf}\"\n\tdone\n"
	       "\tif (( COMP_CWORD == at )); then\n\t\tCOMPREPLY=( $(compgen -W \"--root");
	for (unsigned i = 0; i < VERBS; i++)
		if (!verbs[i].hidden)
			printf(" %s", verbs[i].name);
	printf("\" -- \"$word\") )\n\telse\n"
	       "\t\tCOMPREPLY=( $(compgen -W \"$options $volumes\" -- \"$word\") )\n\tfi\n}\n"
	       "complete -o default -F _holdfast holdfast\n");
	return CLI_DONE;
}

/* A daemon has another working directory, so the root is absolute from here on. */
static enum cli_exit root_set(struct cli *cli, const char *root)
{
	char here[PATH_MAX];
	int len;

	if (!*root || !getcwd(here, sizeof here)) {
		cli_refuse("root \"%.200s\": is no directory; give a path", root);
		return CLI_USAGE;
	}
	if (*root == '/')
		len = snprintf(cli->root, sizeof cli->root, "%s", root);
	else
		len = snprintf(cli->root, sizeof cli->root, "%s/%s", here, root);
	if (len < 0 || (size_t)len >= sizeof cli->root) {
		cli_refuse("root %.200s: the path is too long", root);
		return CLI_USAGE;
	}
	return CLI_DONE;
}

static const struct cli_verb *verb_find(const char *name)
{
	for (unsigned i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct option globals[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	char *status_argv[] = { "status", NULL };
	struct cli cli = { 0 };
	int found;

	while ((found = getopt_long(argc, argv, "+", globals, NULL)) >= 0) {
		if (found == 'r' && root_set(&cli, optarg) != CLI_DONE)
			return CLI_USAGE;
		if (found == 'h')
			usage_print(stdout);
		if (found == 'v')
			printf("holdfast %s\n", HOLDFAST_VERSION);
		if (found == 'h' || found == 'v')
			return CLI_DONE;
		if (found == '?') {
			usage_print(stderr);
			return CLI_USAGE;
		}
	}
	argc -= optind;
	argv += optind;
	if (argc == 0) {
		argc = 1;
		argv = status_argv;
	}
	cli.verb = verb_find(argv[0]);
	if (!cli.verb) {
		cli_refuse("%.80s: there is no such verb; see: holdfast --help", argv[0]);
		return CLI_USAGE;
	}
	found = cli.verb->run(&cli, argc, argv);
	if (fflush(stdout) != 0 && found == CLI_DONE)
		return cli_refuse("stdout: %s", strerror(errno));
	return found;
}
