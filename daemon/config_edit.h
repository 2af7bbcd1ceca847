/* SPDX-License-Identifier: Apache-2.0 */
/* A config made or changed key by key: what reading a file and the CLI's create and peer have in
 * common. */
#ifndef HOLDFAST_CONFIG_EDIT_H
#define HOLDFAST_CONFIG_EDIT_H

#include "config.h"

/* All defaults; what has none (uuid, size, node) is zero. */
void config_init(struct config *out, const struct paths *paths, const char *volume);
/* One key of [volume] by its text. -ENOENT no such key, -EINVAL, -EPERM; @why says it without the
 * key. */
MUST_CHECK int config_set(struct config *config, const char *key, const char *value,
			  char why[WHY_BYTES]);
/* The number of @key for bookkeeping, below 64; -ENOENT. */
MUST_CHECK int config_key(const char *key);
/* @mode NULL = the default, C. -EINVAL, -EEXIST, -ENOSPC with PEERS_MAX peers already. */
MUST_CHECK int config_peer_add(struct config *config, const char *name, const char *address,
			       const char *mode, char why[WHY_BYTES]);
/* @value: as fingerprint_text() writes it, or "none". -EINVAL. */
MUST_CHECK int config_peer_pin(struct volume_peer_config *peer, const char *value, char why[WHY_BYTES]);
/* Index of the peer, or -ENOENT. */
MUST_CHECK int config_peer_find(const struct config *config, const char *name);
/* Finds the peers that `commit` names, which come after it. -EINVAL: one is no peer, or K or a mode does not fit. */
MUST_CHECK int config_commit_resolve(struct config *config, char why[WHY_BYTES]);
/* What no single key can tell: something missing, two keys at odds. Resolves `commit` and whom `ca` is for. -EINVAL */
MUST_CHECK int config_check(struct config *config, char why[WHY_BYTES]);
/* Whether each link to a peer is encrypted, or one that may be in the clear. A config that says otherwise can be
 * written and edited, and no daemon runs with it. -EPERM; @why says what to do. */
MUST_CHECK int config_links_check(const struct config *config, char why[WHY_BYTES]);
/* Makes each missing directory above the file @path, mode 0755. -errno */
MUST_CHECK int parents_make(const char *path);

#endif
