/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "config.h"
#include "status_json.h"

json_t *text_json(const char *text)
{
	json_t *json = json_string(text);
	char safe[1024];
	size_t len = 0;

	if (json)
		return json;
	for (; text[len] && len < sizeof safe - 1; len++)
		safe[len] = (unsigned char)text[len] < 0x80 ? text[len] : '?';
	safe[len] = '\0';
	return json_string(safe);
}

/* Keeps jansson's "steal, and NULL is an error" to one place: @bad collects. */
static void put(json_t *object, const char *key, json_t *value, int *bad)
{
	*bad |= json_object_set_new(object, key, value) < 0;
}

static void put_number(json_t *object, const char *key, uint64_t value, int *bad)
{
	put(object, key, json_integer((json_int_t)min_u64(value, INT64_MAX)), bad);
}

static void put_text(json_t *object, const char *key, const char *text, int *bad)
{
	put(object, key, text_json(text), bad);
}

static void put_uuid(json_t *object, const char *key, const uint8_t uuid[UUID_BYTES], int *bad)
{
	char text[37];

	uuid_text(uuid, text);
	put_text(object, key, text, bad);
}

static void put_seconds(json_t *object, const char *key, uint64_t ns, int *bad)
{
	put(object, key, json_real((double)ns / 1e9), bad);
}

static void put_errno(json_t *object, const char *key, int res, int *bad)
{
	const char *name = res < 0 ? strerrorname_np(-res) : "";

	put_text(object, key, name ? name : "EIO", bad);
}

/* What never changes in the volume's life. */
static void put_geometry(json_t *o, const struct volume_status *s, int *bad)
{
	put_text(o, "version", HOLDFAST_VERSION, bad);
	put_text(o, "name", s->name, bad);
	put_uuid(o, "uuid", s->geometry.uuid, bad);
	put_text(o, "node", s->geometry.node, bad);
	put_number(o, "volume_bytes", s->geometry.volume_bytes, bad);
	put_number(o, "journal_bytes", s->geometry.journal_bytes, bad);
	put_number(o, "segment_bytes", s->geometry.segment_bytes, bad);
	put_number(o, "journal_block_bytes", s->geometry.journal_block, bad);
}

static void put_position(json_t *o, const struct volume_status *s, int *bad)
{
	json_t *epoch = json_object(), *lsn = json_object();

	put_text(o, "role", volume_role_name(s->role), bad);
	put(o, "open", json_boolean(s->open), bad);
	put_errno(o, "failed", s->failed, bad);
	put_text(o, "why", s->why, bad);
	put_number(epoch, "number", s->epoch_number, bad);
	put_uuid(epoch, "uuid", s->epoch_uuid, bad);
	put_text(epoch, "node", s->epoch_node, bad);
	put(o, "epoch", epoch, bad);
	put_number(lsn, "end", s->lsn_end, bad);
	put_number(lsn, "written", s->lsn_written, bad);
	put_number(lsn, "durable", s->lsn_durable, bad);
	put_number(lsn, "commit", s->lsn_commit, bad);
	put_number(lsn, "applied", s->lsn_applied, bad);
	put_number(lsn, "visible", s->lsn_visible, bad);
	put_number(lsn, "tail", s->lsn_tail, bad);
	put_number(lsn, "oldest", s->lsn_oldest, bad);
	put_number(lsn, "floor", s->lsn_floor, bad);
	put_number(lsn, "consistent", s->lsn_consistent, bad);
	put(o, "lsn", lsn, bad);
}

static void put_counters(json_t *o, const struct volume_status *s, int *bad)
{
	put_number(o, "requests_waiting", s->requests_waiting, bad);
	put_number(o, "acks_waiting", s->acks_waiting, bad);
	put_text(o, "waiting_for", s->waiting_for, bad);
	put_number(o, "pages", s->pages, bad);
	put_number(o, "pages_dirty", s->pages_dirty, bad);
	put_number(o, "pages_clean", s->pages_clean, bad);
	put_number(o, "reads", s->reads, bad);
	put_number(o, "writes", s->writes, bad);
	put_number(o, "flushes", s->flushes, bad);
	put_number(o, "discards", s->discards, bad);
	put_number(o, "bytes_read", s->bytes_read, bad);
	put_number(o, "bytes_written", s->bytes_written, bad);
	put_number(o, "journal_writes", s->journal_writes, bad);
	put_number(o, "journal_syncs", s->journal_syncs, bad);
	put_number(o, "journal_bytes_written", s->journal_bytes_written, bad);
	put_number(o, "destage_rounds", s->destage_rounds, bad);
	put_number(o, "destage_bytes", s->destage_bytes, bad);
	put_number(o, "punched_bytes", s->punched_bytes, bad);
}

static json_t *resync_json(const struct volume_resync_status *r, int *bad)
{
	json_t *o = json_object();

	put(o, "running", json_boolean(r->running), bad);
	put_number(o, "bytes_total", r->bytes_total, bad);
	put_number(o, "bytes_done", r->bytes_done, bad);
	put_number(o, "bytes_sent", r->bytes_sent, bad);
	put_number(o, "bytes_per_second", r->rate, bad);
	if (r->eta_ns == UINT64_MAX)
		put(o, "eta_seconds", json_null(), bad);
	else
		put_seconds(o, "eta_seconds", r->eta_ns, bad);
	return o;
}

static json_t *divergence_json(const struct volume_divergence_status *d, int *bad)
{
	json_t *o = json_object(), *epoch = json_object();
	char id[17];

	snprintf(id, sizeof id, "%016" PRIx64, d->id);
	put_text(o, "id", id, bad);
	put_number(o, "slot", d->slot, bad);
	put(o, "recording", json_boolean(d->recording), bad);
	put_number(o, "fork", d->fork, bad);
	put_number(o, "end", d->end, bad);
	put_number(o, "partial", d->partial, bad);
	put_number(epoch, "number", d->epoch_number, bad);
	put_text(epoch, "node", d->epoch_node, bad);
	put(o, "epoch", epoch, bad);
	put_text(o, "source", d->source, bad);
	put_seconds(o, "taken_time", d->taken_ns, bad);
	put_seconds(o, "first_time", d->first_ns, bad);
	put_seconds(o, "last_time", d->last_ns, bad);
	put_number(o, "blocks", d->blocks, bad);
	put_number(o, "bytes", d->bytes, bad);
	put_number(o, "blocks_kept", d->blocks_kept, bad);
	return o;
}

/* What a resync is doing to us, what it has set aside, and what was found when replicas were compared. */
static void put_repair(json_t *o, const struct volume_status *s, int *bad)
{
	json_t *resync = resync_json(&s->resync, bad), *divergences = json_array(), *verify = json_object();

	put(o, "consistent", json_boolean(s->consistent), bad);
	put_text(resync, "source", s->resync_source, bad);
	put(o, "resync", resync, bad);
	put_number(o, "undo_bytes", s->undo_bytes, bad);
	put_number(o, "undo_limit_bytes", s->undo_limit, bad);
	put_number(o, "reads_repaired", s->reads_repaired, bad);
	for (unsigned i = 0; i < s->divergence_count && i < UNDO_SLOTS; i++)
		*bad |= json_array_append_new(divergences, divergence_json(&s->divergences[i], bad)) < 0;
	put(o, "divergences", divergences, bad);
	put(verify, "running", json_boolean(s->verify.running), bad);
	put_number(verify, "bytes_total", s->verify.bytes_total, bad);
	put_number(verify, "bytes_done", s->verify.bytes_done, bad);
	put_seconds(verify, "started_time", s->verify.started_ns, bad);
	put_seconds(verify, "ended_time", s->verify.ended_ns, bad);
	put(o, "verify", verify, bad);
}

static json_t *peer_verify_json(const struct volume_peer_status *p, int *bad)
{
	json_t *o = json_object(), *ranges = json_array();

	put_number(o, "mismatches", p->verify_mismatches, bad);
	put_number(o, "repaired", p->verify_repaired, bad);
	for (unsigned i = 0; i < p->verify_range_count && i < VERIFY_RANGES_MAX; i++) {
		json_t *range = json_object();

		put_number(range, "offset", p->verify_ranges[i].offset, bad);
		put_number(range, "len", p->verify_ranges[i].len, bad);
		*bad |= json_array_append_new(ranges, range) < 0;
	}
	put(o, "ranges", ranges, bad);
	return o;
}

static json_t *peer_json(const struct volume_peer_status *p, int *bad)
{
	json_t *o = json_object(), *lsn = json_object();

	put_text(o, "name", p->name, bad);
	put_text(o, "address", p->address, bad);
	put_text(o, "mode", replication_mode_name(p->mode), bad);
	put_text(o, "state", p->state ? p->state : "", bad);
	put(o, "connected", json_boolean(p->connected), bad);
	put(o, "encrypted", json_boolean(p->encrypted), bad);
	put_text(o, "role", volume_role_name(p->role), bad);
	put_number(lsn, "received", p->lsn_received, bad);
	put_number(lsn, "written", p->lsn_written, bad);
	put_number(lsn, "durable", p->lsn_durable, bad);
	put_number(lsn, "applied", p->lsn_applied, bad);
	put(o, "lsn", lsn, bad);
	put_number(o, "lag_bytes", p->lag_bytes, bad);
	put_number(o, "lag_records", p->lag_records, bad);
	put_seconds(o, "lag_seconds", p->lag_ns, bad);
	if (p->contact_age_ns == UINT64_MAX)
		put(o, "contact_age_seconds", json_null(), bad);
	else
		put_seconds(o, "contact_age_seconds", p->contact_age_ns, bad);
	put_number(o, "bytes_sent", p->bytes_sent, bad);
	put_number(o, "bytes_received", p->bytes_received, bad);
	put_text(o, "why", p->why, bad);
	put(o, "resync", resync_json(&p->resync, bad), bad);
	put(o, "verify", peer_verify_json(p, bad), bad);
	return o;
}

json_t *status_json(const struct volume_status *s)
{
	json_t *o = json_object(), *peers = json_array();
	int bad = 0;

	put_geometry(o, s, &bad);
	put_position(o, s, &bad);
	put_counters(o, s, &bad);
	put_text(o, "commit", s->commit, &bad);
	put_repair(o, s, &bad);
	put_number(o, "min_copies", s->min_copies, &bad);
	put_number(o, "peer_count", s->peer_count, &bad);
	for (unsigned i = 0; i < s->peer_count && i < PEERS_MAX; i++)
		bad |= json_array_append_new(peers, peer_json(&s->peers[i], &bad)) < 0;
	put(o, "peers", peers, &bad);
	if (!bad)
		return o;
	json_decref(o);
	return NULL;
}
