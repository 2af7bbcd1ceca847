/* SPDX-License-Identifier: Apache-2.0 */
/* identity: whom the others are to expect here. The key itself is never shown. */
#include <errno.h>

#include "cli.h"
#include "identity.h"

enum cli_exit cli_identity_print(const struct config *config, const struct paths *paths)
{
	const struct volume_config *volume = &config->volume;
	const uint8_t *uuid = *config->ca ? NULL : volume->geometry.uuid;
	uint8_t fingerprint[FINGERPRINT_BYTES];
	char text[FINGERPRINT_TEXT_BYTES], shown[FINGERPRINT_SHORT_BYTES], why[WHY_BYTES];
	struct identity *identity;

	if (identity_load(&identity, paths->state, volume->geometry.node, uuid, why) < 0)
		return cli_refuse("volume %s: %s", volume->name, why);
	identity_fingerprint(identity, fingerprint);
	identity_free(identity);
	fingerprint_text(fingerprint, text);
	fingerprint_short(fingerprint, shown);
	printf("fingerprint of node %s: %s\n", volume->geometry.node, shown);
	printf("  %s\n", text);
	if (volume->peer_count)
		printf("for encrypted links run on each other node: holdfast peer %s fingerprint %s %s\n", volume->name,
		       volume->geometry.node, text);
	return CLI_DONE;
}

enum cli_exit cli_identity(struct cli *cli, int argc, char **argv)
{
	static struct config config;	/* larger than is good for a stack */
	bool create = false;
	const struct cli_option options[] = { { .name = "create", .flag = &create }, { 0 } };
	const struct geometry *geometry = &config.volume.geometry;
	char why[WHY_BYTES];
	struct paths paths;
	enum cli_exit res;

	if (cli_arguments(cli, argc, argv, options, 1, 1) != CLI_DONE)
		return CLI_USAGE;
	res = cli_paths(cli, cli->words[0], &paths);
	if (res == CLI_DONE)
		res = cli_config(&paths, cli->words[0], &config);
	if (res != CLI_DONE)
		return res;
	if (create && identity_create(paths.state, geometry->node, geometry->uuid, why) < 0)
		return cli_refuse("volume %s: %s", cli->words[0], why);
	return cli_identity_print(&config, &paths);
}
