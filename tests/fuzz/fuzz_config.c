/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a config: refused with a sentence, or a config that can be written and read back. */
#include <string.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config;
	static struct paths paths;
	char why[WHY_BYTES] = "";

	CHECK(paths_of(&paths, "/tmp/holdfast-fuzz", "db0", why) == 0);
	if (config_parse(&config, (const char *)data, size, "db0.conf", &paths, "db0", why) < 0)
		CHECK(*why && memchr(why, 0, sizeof why));
	else
		CHECK(config.volume.peer_count <= PEERS_MAX && config.nbd_count <= NBD_LISTENS_MAX &&
		      config.commit_count == 0 && commit_check(&config.volume, why) == 0);
	return 0;
}
