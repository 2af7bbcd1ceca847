/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "auto.h"
#include "cli.h"

enum { OPTIONS_MAX = 24 };

enum cli_exit cli_refuse(const char *format, ...)
{
	va_list args;

	fputs("holdfast: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return CLI_REFUSED;
}

enum cli_exit cli_usage(const struct cli *cli)
{
	fprintf(stderr, "usage: holdfast [--root DIR] %s %s\n", cli->verb->name,
		cli->verb->arguments);
	return CLI_USAGE;
}

/* One option of the command line, which getopt has found to be @option. */
static enum cli_exit option_take(const struct cli *cli, const struct cli_option *option,
				 unsigned *count)
{
	if (option->flag) {
		*option->flag = true;
		return CLI_DONE;
	}
	if (*count == option->max) {
		cli_refuse("%s: --%s is given more than %u time%s", cli->verb->name, option->name,
			   option->max, option->max == 1 ? "" : "s");
		return CLI_USAGE;
	}
	option->values[(*count)++] = optarg;
	return CLI_DONE;
}

enum cli_exit cli_arguments(struct cli *cli, int argc, char **argv,
			    const struct cli_option *options, int least, int most)
{
	struct option longs[OPTIONS_MAX + 1] = { 0 };
	unsigned counts[OPTIONS_MAX] = { 0 }, count = 0;
	int found;

	for (; options[count].name; count++) {
		CHECK(count < OPTIONS_MAX);
		longs[count].name = options[count].name;
		longs[count].has_arg = options[count].flag ? no_argument : required_argument;
		longs[count].val = (int)count;
	}
	optind = 0;		/* of glibc: begin anew */
	for (;;) {
		found = getopt_long(argc, argv, "", longs, NULL);
		if (found < 0)
			break;
		if (found >= (int)count)
			return cli_usage(cli);
		if (option_take(cli, &options[found], &counts[found]) != CLI_DONE)
			return cli_usage(cli);
		if (options[found].count)
			*options[found].count = counts[found];
	}
	cli->words = argv + optind;
	cli->word_count = argc - optind;
	if (cli->word_count < least || cli->word_count > most)
		return cli_usage(cli);
	return CLI_DONE;
}

enum cli_exit cli_paths(const struct cli *cli, const char *volume, struct paths *out)
{
	char why[WHY_BYTES];

	if (paths_of(out, cli->root, volume, why) == 0)
		return CLI_DONE;
	cli_refuse("volume %.80s: %s", volume, why);
	return CLI_USAGE;
}

enum cli_exit cli_config(const struct paths *paths, const char *volume, struct config *out)
{
	char why[WHY_BYTES];
	int res = config_read(out, paths, volume, why);

	if (res == -ENOENT)
		return cli_refuse(
			"volume %s: there is no config %s; make a replica with: holdfast create %s",
			volume, paths->config, volume);
	if (res < 0)
		return cli_refuse("volume %s: %s", volume, why);
	return CLI_DONE;
}
