/* SPDX-License-Identifier: Apache-2.0 */
/* replace: this node's replica anew, from its config alone; a peer fills it. What is left of the old one is moved
 * aside first, so that a mistake costs space and not data. */
#include <errno.h>
#include <string.h>

#include "auto.h"
#include "cli.h"
#include "identity.h"
#include "replica_files.h"

/* Static: a struct config is larger than is good for a stack. */
static struct config config;
static struct paths paths;

/* CLI_DONE when nothing speaks against making the replica anew. */
static enum cli_exit replace_check(const char *volume, bool force)
{
	struct replica_files files;
	char why[WHY_BYTES];
	int res;
	AUTO_CLOSE int running = cli_control_open(&paths);

	if (running >= 0)
		return cli_refuse("volume %s: its daemon is running; stop it first with: holdfast down %s", volume,
				  volume);
	if (config.volume.peer_count == 0)
		return cli_refuse("volume %s: the config has no peer that a new replica could be filled from; add one "
				  "with: holdfast peer %s add NAME ADDRESS", volume, volume);
	res = replica_files_open(&files, &config, why);
	replica_files_close(&files);
	if (res == -EBUSY)
		return cli_refuse_why(volume, why);
	if (res == 0 && !force)
		return cli_refuse("volume %s: all files of this replica are there, and may have what no other node "
				  "has; to begin anew without them all the same: holdfast replace %s --force", volume,
				  volume);
	return CLI_DONE;
}

static void next_steps_print(const char *volume)
{
	printf("volume %s: node %s is up with an empty replica, and no copy until it is filled: as soon as it meets a "
	       "peer that has the volume, a resync begins by itself; watch it with: holdfast status %s --watch\n",
	       volume, config.volume.geometry.node, volume);
}

enum cli_exit cli_replace(struct cli *cli, int argc, char **argv)
{
	bool force = false;
	const struct cli_option options[] = { { .name = "force", .flag = &force }, { 0 } };
	char why[WHY_BYTES], ending[REPLICA_ENDING_BYTES];
	const char *volume;
	enum cli_exit res;
	int moved;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	volume = cli->words[0];
	res = cli_paths(cli, volume, &paths);
	if (res == CLI_DONE)
		res = cli_config(&paths, volume, &config);
	if (res == CLI_DONE)
		res = replace_check(volume, force);
	if (res != CLI_DONE)
		return res;
	moved = replica_files_set_aside(&config, ending, why);
	if (moved < 0)
		return cli_refuse_why(volume, why);
	if (moved > 0)
		printf("volume %s: %d old file%s now end%s in %s; remove them when nobody needs them\n", volume, moved,
		       moved == 1 ? "" : "s", moved == 1 ? "s" : "", ending);
	moved = identity_create(paths.state, config.volume.geometry.node, config.volume.geometry.uuid, why);
	if (moved < 0 && moved != -EEXIST)
		return cli_refuse("volume %s: %s", volume, why);
	if (moved == 0)
		printf("volume %s: the key of this node was lost too, and it has a new one\n", volume);
	if (moved == 0 && cli_identity_print(&config, &paths) != CLI_DONE)
		return CLI_REFUSED;
	if (replica_files_create(&config, why) < 0)
		return cli_refuse_why(volume, why);
	cli_detach_dead(volume, &paths);
	res = cli_daemon_start(cli, volume);
	if (res == CLI_DONE)
		next_steps_print(volume);
	return res;
}
