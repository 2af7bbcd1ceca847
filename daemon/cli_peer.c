/* SPDX-License-Identifier: Apache-2.0 */
/* peer: shows and edits the peers of a config. A running daemon has read its config already. */
#include <errno.h>
#include <string.h>

#include "auto.h"
#include "cli.h"
#include "config_edit.h"
#include "config_text.h"
#include "identity.h"

/* Static: a struct config is larger than is good for a stack. */
static struct config config;
static struct paths paths;

static enum cli_exit config_save(const char *volume)
{
	char why[WHY_BYTES];
	AUTO_CLOSE int running = -1;

	if (config_check(&config, why) < 0 || config_write(&config, &paths, why) < 0)
		return cli_refuse("volume %s: %s", volume, why);
	running = cli_control_open(&paths);
	if (running >= 0)
		printf("takes effect at the next `holdfast up %s`\n", volume);
	return CLI_DONE;
}

/* Index, or -ENOENT after a refusal. */
static int peer_find(const char *volume, const char *name)
{
	int index = config_peer_find(&config, name);

	if (index < 0)
		cli_refuse("volume %s: there is no peer %.80s; see: holdfast peer %s list", volume,
			   name, volume);
	return index;
}

static enum cli_exit peer_list(struct cli *cli)
{
	(void)cli;
	for (unsigned i = 0; i < config.volume.peer_count; i++) {
		const struct volume_peer_config *peer = &config.volume.peers[i];
		char shown[FINGERPRINT_SHORT_BYTES];

		const char *proof = peer->pinned ? "encrypted, fingerprint " :
				    peer->certified ? "encrypted, by its certificate" :
				    config.volume.insecure_loopback ? "in the clear" : "no fingerprint yet: no link";

		fingerprint_short(peer->fingerprint, shown);
		printf("%-16s mode %s  %-22s %s%s\n", peer->name, replication_mode_name(peer->mode), peer->address,
		       proof, peer->pinned ? shown : "");
	}
	return CLI_DONE;
}

static enum cli_exit peer_add(struct cli *cli)
{
	const char *volume = cli->words[0], *mode = cli->word_count > 4 ? cli->words[4] : NULL;
	char why[WHY_BYTES];

	if (config_peer_add(&config, cli->words[2], cli->words[3], mode, why) < 0)
		return cli_refuse("volume %s: %s", volume, why);
	return config_save(volume);
}

static enum cli_exit peer_remove(struct cli *cli)
{
	struct volume_config *volume = &config.volume;
	int index = peer_find(cli->words[0], cli->words[2]);

	char commit[WHY_BYTES];

	if (index < 0)
		return CLI_REFUSED;
	if (volume->commit == COMMIT_ANY && volume->peers[index].commit) {
		/* Nobody but the operator knows whether writes are to wait for another one or for fewer. */
		commit_text(volume, commit);
		return cli_refuse("volume %s: commit = %.250s names %s; take it out of that line of %.200s first",
				  cli->words[0], commit, cli->words[2], paths.config);
	}
	volume->peer_count--;
	memmove(&volume->peers[index], &volume->peers[index + 1],
		(volume->peer_count - (unsigned)index) * sizeof volume->peers[0]);
	return config_save(cli->words[0]);
}

static enum cli_exit peer_mode(struct cli *cli)
{
	int index = peer_find(cli->words[0], cli->words[2]);

	if (index < 0)
		return CLI_REFUSED;
	if (mode_parse(cli->words[3], &config.volume.peers[index].mode) < 0)
		return cli_refuse("peer %s: the mode \"%.40s\" is none of A B C D", cli->words[2],
				  cli->words[3]);
	return config_save(cli->words[0]);
}

static enum cli_exit peer_fingerprint(struct cli *cli)
{
	int index = peer_find(cli->words[0], cli->words[2]);
	char why[WHY_BYTES];

	if (index < 0)
		return CLI_REFUSED;
	if (config_peer_pin(&config.volume.peers[index], cli->words[3], why) < 0)
		return cli_refuse("peer %s: %s", cli->words[2], why);
	return config_save(cli->words[0]);
}

static enum cli_exit peer_reconnect(struct cli *cli)
{
	return cli_ask(cli, cli->words[0],
		       json_pack("{s:s,s:s}", "verb", "reconnect", "node", cli->words[2]), NULL);
}

enum cli_exit cli_peer(struct cli *cli, int argc, char **argv)
{
	static const struct cli_option options[] = { { 0 } };
	static const struct {
		const char *name;
		int least, most;	/* words, with VOLUME and the name */
		enum cli_exit (*run)(struct cli *cli);
	} actions[] = {
		{ "list", 2, 2, peer_list },
		{ "add", 4, 5, peer_add },
		{ "remove", 3, 3, peer_remove },
		{ "mode", 4, 4, peer_mode },
		{ "fingerprint", 4, 4, peer_fingerprint },
		{ "reconnect", 3, 3, peer_reconnect },
	};
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 2, 5) != CLI_DONE)
		return CLI_USAGE;
	for (unsigned i = 0; i < sizeof actions / sizeof actions[0]; i++) {
		if (strcmp(actions[i].name, cli->words[1]) != 0)
			continue;
		if (cli->word_count < actions[i].least || cli->word_count > actions[i].most)
			return cli_usage(cli);
		res = cli_paths(cli, cli->words[0], &paths);
		if (res == CLI_DONE)
			res = cli_config(&paths, cli->words[0], &config);
		return res == CLI_DONE ? actions[i].run(cli) : res;
	}
	return cli_usage(cli);
}
