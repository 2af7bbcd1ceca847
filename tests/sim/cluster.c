/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cluster_inside.h"

const char *const cluster_node_names[CLUSTER_NODES_MAX] = { "a", "b", "c", "d", "e", "f", "g", "h" };

static void node_print(const struct volume *v)
{
	fprintf(stderr,
		"node %s: %s, state %d%s; log %llu..%llu closed %llu written %llu durable %llu commit %llu "
		"applied %llu tail %llu reach %llu; dirty %llu free %llu clean %llu; destage %d; waiting %llu "
		"acks %llu; "
		"role step %d; source %s\n",
		v->geometry.node, volume_role_name(v->role), v->state, v->failed ? " FAILED" : "",
		(unsigned long long)v->log.start, (unsigned long long)v->log.end.lsn,
		(unsigned long long)v->log.closed.lsn, (unsigned long long)v->journal.written,
		(unsigned long long)v->journal.durable, (unsigned long long)v->commit,
		(unsigned long long)v->applied, (unsigned long long)v->journal.tail,
		(unsigned long long)v->meta.reach, (unsigned long long)v->pool.dirty_count,
		(unsigned long long)v->pool.free_count, (unsigned long long)v->pool.clean_count, v->destage.state,
		(unsigned long long)v->waiting_count, (unsigned long long)v->ack_count, v->change.step,
		v->source ? v->source->config->name : "none");
	fprintf(stderr, "   floor %llu, lacks step %d; resync sink step %d%s%s; undo %s%s\n",
		(unsigned long long)v->journal.floor, v->lacks.step, v->sink.step, resync_running(v) ? ", running" : "",
		resync_readable(v) ? ", readable" : "", undo_idle(&v->undo) ? "idle" : "busy",
		undo_recording(&v->undo) ? ", recording" : "");
	for (unsigned i = 0; i < v->peer_count; i++)
		fprintf(stderr,
			"   peer %s: %s %s; received %llu written %llu durable %llu applied %llu; cursor "
			"%llu%s; source step %d, %llu bits, known %llu covers %llu marked %llu\n",
			v->peers[i].config->name, peer_state_text(v->peers[i].state), v->peers[i].why,
			(unsigned long long)v->peers[i].received, (unsigned long long)v->peers[i].written,
			(unsigned long long)v->peers[i].durable, (unsigned long long)v->peers[i].applied,
			(unsigned long long)v->peers[i].cursor.at.lsn, v->peers[i].blocked ? " blocked" : "",
			v->peers[i].give.step, (unsigned long long)v->lacks.at[i].bits.count,
			(unsigned long long)v->lacks.at[i].place->known,
			(unsigned long long)v->lacks.at[i].place->covers,
			(unsigned long long)v->lacks.at[i].place->marked);
}

void cluster_breach(struct cluster *c, const char *format, ...)
{
	va_list args;

	world_print_log(c->world, stderr);
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (c->nodes[i].volume)
			node_print(c->nodes[i].volume);
	fprintf(stderr, "BREACH seed=0x%llx at %.6f s (%llu events): ", (unsigned long long)c->options.seed,
		(double)world_now(c->world) / 1e9, (unsigned long long)world_events(c->world));
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	abort();
}

static void commit_random(struct world *w, struct cluster_options *o)
{
	uint64_t kind = world_random_below(w, 6);

	o->commit = kind == 0 ? COMMIT_LOCAL : kind < 3 && o->mode != MODE_A ? COMMIT_ANY : COMMIT_ALL;
	o->commit_copies = 1 + (unsigned)world_random_below(w, o->nodes - 1);
	o->commit_nodes = (unsigned)world_random_below(w, 1u << o->nodes);
	for (unsigned i = 0; (unsigned)__builtin_popcount(o->commit_nodes) <= o->commit_copies; i++)
		o->commit_nodes |= 1u << i;
	if (o->commit != COMMIT_ALL)
		o->min_copies = 1;
}

struct cluster_options cluster_options_random(uint64_t seed, unsigned nodes)
{
	struct world *w = world_new(seed ^ 0xc0ffee);
	struct cluster_options o = {
		.seed = seed, .nodes = nodes, .mode = (enum replication_mode)world_random_below(w, 4),
		.min_copies = world_random_below(w, 4) == 0 ? 2 : 1,
		.journal_block = world_random_below(w, 2) ? 512 : 4096,
		.segment_bytes = 256 << 10, .volume_bytes = (1 << 20) + 4096 * world_random_below(w, 256),
		.journal_bytes = (256 << 10) * (4 + world_random_below(w, 12)),
	};

	/* Some journals are as small as they may be; with peers, large enough that clients_go_on() can keep them in. */
	if (world_random_below(w, 4) == 0) {
		o.segment_bytes = 64 << 10;
		o.journal_bytes = (64 << 10) * ((nodes > 1 ? 24 : 4) + world_random_below(w, 12));
	}
	/* The pool has some 600 pages: now and then the volume has more. */
	if (world_random_below(w, 4) == 0)
		o.volume_bytes = 6 << 20;
	if (nodes >= 3)
		commit_random(w, &o);
	o.filesystem = world_random_below(w, 3) == 0;
	world_free(w);
	return o;
}

void cluster_options_files(struct cluster_options *o)
{
	o->filesystem = o->files = true;
	/* One operation is one record, and an eighth of a segment bounds that. */
	if (o->segment_bytes < 256 << 10) {
		o->segment_bytes = 256 << 10;
		o->journal_bytes = max_u64(round_up(o->journal_bytes, o->segment_bytes), 4 * o->segment_bytes);
	}
}

/* ---- nodes ------------------------------------------------------------------------------------------ */

static struct geometry geometry_of(const struct cluster *c, unsigned node)
{
	struct geometry g = {
		.uuid = { 1, 2, 3, 4, 5 }, .volume_bytes = c->options.volume_bytes,
		.journal_bytes = c->options.journal_bytes, .segment_bytes = c->options.segment_bytes,
		.journal_block = c->options.journal_block,
	};

	strcpy(g.node, cluster_node_names[node]);
	return g;
}

void node_format(struct cluster *c, struct node *n)
{
	struct geometry g = geometry_of(c, n->index);
	uint8_t *meta = malloc(META_BYTES), header[JOURNAL_HEADER_BYTES];

	replica_format(&g, meta, header);
	machine_disk_write_now(n->machine, n->disks[2], 0, meta, META_BYTES);
	machine_disk_write_now(n->machine, n->disks[1], 0, header, sizeof header);
	free(meta);
}

static void node_new(struct cluster *c, unsigned index)
{
	struct node *n = &c->nodes[index];
	struct geometry g = geometry_of(c, index);

	*n = (struct node){ .cluster = c, .index = index,
			    .machine = world_machine(c->world, cluster_node_names[index]) };
	n->disks[0] = machine_disk(n->machine, g.volume_bytes);
	n->disks[1] = machine_disk(n->machine, JOURNAL_HEADER_BYTES + g.journal_bytes);
	n->disks[2] = machine_disk(n->machine, META_BYTES);
	n->disks[3] = machine_disk(n->machine, replica_bitmap_bytes(&g));
	for (unsigned slot = 0; slot < UNDO_SLOTS; slot++)
		n->disks[4 + slot] = machine_disk(n->machine, replica_undo_bytes(&g));
	node_format(c, n);
}

/* Its memory went with the machine's. */
static void files_down(struct node *n)
{
	node_files_free(n->files, true);
	n->files = NULL;
}

struct cluster *cluster_new(const struct cluster_options *options)
{
	struct cluster *c = calloc(1, sizeof *c);

	c->options = *options;
	c->world = world_new(options->seed);
	c->lineage = lineage_new(options->volume_bytes);
	if (options->files)
		c->files = files_history_new();
	for (unsigned i = 0; i < options->nodes; i++)
		node_new(c, i);
	return c;
}

void cluster_free(struct cluster *c)
{
	for (unsigned i = 0; i < c->options.nodes; i++)
		files_down(&c->nodes[i]);
	world_free(c->world);
	lineage_free(c->lineage);
	for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++)
		stopped_forget(&c->nodes[i]);
	files_history_free(c->files);
	for (unsigned i = 0; i < CLIENT_REQUESTS; i++)
		free(c->clients[i].buffer);
	free(c);
}

const char *cluster_node_name(unsigned node) { return cluster_node_names[node]; }
void cluster_files_figures(const struct cluster *c, struct files_figures *f) { files_history_figures(c->files, f); }
struct world *cluster_world(struct cluster *c) { return c->world; }
struct machine *cluster_machine(struct cluster *c, unsigned node) { return c->nodes[node].machine; }
struct volume *cluster_volume(struct cluster *c, unsigned node) { return c->nodes[node].volume; }
const char *cluster_open_why(struct cluster *c, unsigned node) { return c->nodes[node].open.why; }
int cluster_open_result(struct cluster *c, unsigned node) { return c->nodes[node].open_result; }
const char *cluster_why(struct cluster *c) { return c->call.why; }

int cluster_disk(struct cluster *c, unsigned node, char which)
{
	static const char disks[NODE_DISKS + 1] = "sjmb0123";

	return c->nodes[node].disks[strchr(disks, which) - disks];
}

static void opened(struct volume_call *call, int result)
{
	struct node *n = container_of(call, struct node, open);

	n->open_result = result;
	world_note(n->cluster->world, "node %s open: %d %s", cluster_node_names[n->index], result, call->why);
	stopped_opened(n->cluster, n, result);
	if (!result)
		return;
	files_down(n);
	n->volume = NULL;		/* its memory goes with the machine's */
}

/* The policy as this node sees it: without itself. */
static void commit_set(const struct cluster *c, struct volume_config *config)
{
	unsigned named = 0;

	for (unsigned i = 0; i < config->peer_count; i++) {
		struct volume_peer_config *p = &config->peers[i];

		p->commit = c->options.commit_nodes & 1u << (p->name[0] - 'a') && p->mode != MODE_A;
		named += p->commit;
	}
	config->commit = c->options.commit == COMMIT_ANY && !named ? COMMIT_ALL : c->options.commit;
	config->commit_copies = c->options.commit_copies < named ? c->options.commit_copies : named;
}

enum replication_mode cluster_mode(const struct cluster *c, unsigned node, unsigned peer)
{
	return c->options.mixed ? c->options.modes[node][peer] : c->options.mode;
}

void cluster_up(struct cluster *c, unsigned node)
{
	struct node *n = &c->nodes[node];
	uint64_t peers = c->options.nodes << 20;	/* for their buffers */
	struct volume_config config = {
		.geometry = geometry_of(c, node), .name = "v",
		.memory_bytes = c->options.memory_bytes ? c->options.memory_bytes : (6 << 20) + peers,
		.peer_timeout_ns = 2 * SECONDS, .min_copies = c->options.min_copies,
		.store = n->disks[0], .journal = n->disks[1], .meta = n->disks[2], .bitmap = n->disks[3],
		.undo_bytes = c->options.undo_bytes, .resync_checksum = c->options.resync_checksum,
		.resync_rate = c->options.resync_rate,
		.split_policy = c->options.split_policy, .filesystem = c->options.filesystem,
		.insecure_loopback = true,
	};
	char why[WHY_BYTES];
	int result;

	if (c->options.filesystem && !c->options.memory_bytes)
		config.memory_bytes += 4 << 20;
	if (n->open_result < 0 && !machine_crashed(n->machine))
		machine_crash(n->machine, false);	/* the process that could not open has ended */
	if (machine_crashed(n->machine))
		machine_boot(n->machine);
	stopped_look(c, n);
	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct volume_peer_config *p = &config.peers[config.peer_count];

		if (i == node)
			continue;
		strcpy(p->name, cluster_node_names[i]);
		snprintf(p->address, sizeof p->address, "%s:1", cluster_node_names[i]);
		p->mode = cluster_mode(c, node, i);
		config.peer_count++;
	}
	memcpy(config.undo, &n->disks[4], sizeof config.undo);
	commit_set(c, &config);
	if (config.peer_count)
		snprintf(config.listen, sizeof config.listen, "%s:1", cluster_node_names[node]);
	result = volume_new(&n->volume, machine_io(n->machine), &config, why);
	if (result)
		cluster_breach(c, "volume_new: %d %s", result, why);
	n->open_result = 1;
	n->open_ns = world_now(c->world);
	n->open.done = opened;
	if (c->files)
		n->files = node_files_new(c->files, c, node, n->volume, machine_io(n->machine));
	volume_open(n->volume, &n->open);
}

static void crashed(struct cluster *c, unsigned node, bool power)
{
	struct node *n = &c->nodes[node];

	n->volume = NULL;
	stopped_forget(n);
	files_down(n);
	oracle_crashed(c, n, power);
	for (unsigned i = 0; i < CLIENT_REQUESTS; i++)
		if (c->clients[i].busy && c->clients[i].node == node)
			c->clients[i].busy = false;
	if (c->call_busy && c->call_node == node) {
		c->call_busy = false;
		c->call_result = -ESHUTDOWN;
	}
}

void cluster_crash(struct cluster *c, unsigned node, bool power)
{
	world_note(c->world, "node %s %s", cluster_node_names[node], power ? "loses power" : "is killed");
	machine_crash(c->nodes[node].machine, power);
	crashed(c, node, power);
}

void cluster_crash_at(struct cluster *c, unsigned node, uint64_t disk_op, bool power)
{
	c->nodes[node].planned_power = power;
	machine_crash_at(c->nodes[node].machine, disk_op, power);
}

bool cluster_is_primary(const struct node *n)
{
	return n->volume && n->volume->role == ROLE_PRIMARY && n->volume->state == VOLUME_OPEN;
}

int cluster_primary(struct cluster *c)
{
	int primary = -1;

	/* One that was failed over and does not know it yet is none, though its successor be gone. */
	for (unsigned i = 0; i < c->options.nodes; i++) {
		const struct node *n = &c->nodes[i];
		uint64_t number = cluster_is_primary(n) ? history_last_number(&n->volume->history) : 0;

		if (!number || number < c->newest_number || (number == c->newest_number && primary >= 0))
			continue;
		c->newest_number = number;
		primary = (int)i;
	}
	return primary;
}

/* ---- calls ------------------------------------------------------------------------------------------ */

static void called(struct volume_call *call, int result)
{
	struct cluster *c = container_of(call, struct cluster, call);

	c->call_busy = false;
	c->call_result = result;
	world_note(c->world, "call on %s: %d %s", cluster_node_names[c->call_node], result, call->why);
}

int cluster_command(struct cluster *c, unsigned node, void (*verb)(struct volume *v, struct volume_call *call),
		    const struct volume_call *call, uint64_t limit_ns)
{
	struct node *n = &c->nodes[node];
	uint64_t until = world_now(c->world) + limit_ns;

	if (!n->volume || n->volume->state != VOLUME_OPEN)
		return -ESHUTDOWN;
	if (c->call_busy)
		return -EBUSY;
	c->call = *call;
	c->call.done = called;
	c->call_busy = true;
	c->call_node = node;
	verb(n->volume, &c->call);
	while (c->call_busy && world_now(c->world) < until && cluster_step(c))
		;
	if (c->call_busy)
		return -ETIMEDOUT;
	return c->call_result;
}

int cluster_call(struct cluster *c, unsigned node, enum cluster_verb verb, bool force, unsigned target,
		 uint64_t limit_ns)
{
	static void (*const verbs[])(struct volume *, struct volume_call *) = {
		[CLUSTER_PROMOTE] = volume_promote, [CLUSTER_DEMOTE] = volume_demote,
		[CLUSTER_FAILOVER] = volume_failover, [CLUSTER_SWITCHOVER] = volume_switchover,
		[CLUSTER_CLOSE] = volume_close,
	};
	struct volume_call call = { .force = force };

	if ((verb == CLUSTER_PROMOTE || verb == CLUSTER_FAILOVER) && !c->call_busy)
		c->nodes[node].force = force;
	strcpy(call.node, cluster_node_names[target]);
	return cluster_command(c, node, verbs[verb], &call, limit_ns);
}

/* ---- clients ---------------------------------------------------------------------------------------- */

static void client_done(struct volume_request *request, int result)
{
	struct client *client = container_of(request, struct client, request);
	struct cluster *c = client->cluster;

	client->busy = false;
	if (result == 0)
		oracle_acked(c, client);
	else if (result != -EROFS && result != -ESHUTDOWN && result != -EIO)
		cluster_breach(c, "a request got %d", result);
}

/* Some pages and runs, in one record. */
static int transaction(struct cluster *c, struct blocks *blocks, const uint8_t *bytes)
{
	struct world *w = c->world;
	uint64_t lsn, block = 0;

	for (uint64_t count = 1 + world_random_below(w, 6); count; count--) {
		uint64_t kind = world_random_below(w, 10), from = world_random_below(w, BLOCK_BYTES - 64);
		uint8_t *page;
		int result;

		block += world_random_below(w, blocks->count / 8);
		if (block + 2 > blocks->count)
			break;
		if (kind == 0)
			result = blocks->discard(blocks, block, 1 + world_random_below(w, 2));
		else if (kind == 1)
			result = blocks->write(blocks, block * BLOCK_BYTES + from, bytes, 64);
		else if (kind == 2)
			result = blocks->fresh(blocks, block, &page);
		else
			result = blocks->change(blocks, block, &page);
		if (result)
			return result;
		if (kind > 1)
			memcpy(page + from, bytes, 64);
		block += 2;
	}
	return blocks->commit(blocks, bytes, (uint32_t)world_random_below(w, 64), &lsn);
}

/* Whether the transaction was made that the client's ACK or FLUSH is to wait for; one that has to wait is dropped. */
static bool client_transact(struct cluster *c, struct client *client, unsigned node)
{
	struct blocks *blocks = volume_blocks(c->nodes[node].volume);
	int result = transaction(c, blocks, client->buffer);

	if (!result)
		return true;
	blocks->abort(blocks);
	if (result != -EAGAIN && result != -EROFS && result != -EIO && result != -E2BIG)
		cluster_breach(c, "a transaction got %d", result);
	return false;
}

/* The same with an operation on files, or a part of it. */
static bool client_files(struct cluster *c, unsigned node)
{
	struct node *n = &c->nodes[node];
	struct files_view view;

	oracle_observe(c);
	if (!n->branch || n->primary_of != n->branch)
		return false;
	view = oracle_files_view(n);
	return node_files_play(n->files, &view);
}

static void client_send(struct cluster *c, struct client *client, unsigned node)
{
	struct world *w = c->world;
	struct volume_request *r = &client->request;
	uint64_t kind = world_random_below(w, 20), bytes = c->options.volume_bytes;

	if (!client->buffer && posix_memalign((void **)&client->buffer, 4096, CLIENT_BYTES_MAX + 8192))
		abort();
	memset(r, 0, sizeof *r);
	r->op = kind < 13 ? VOLUME_WRITE : kind < 16 ? VOLUME_FLUSH : kind < 17 ? VOLUME_DISCARD
		: kind < 18 ? VOLUME_ZERO : VOLUME_READ;
	r->flags = kind % 5 == 0 && r->op != VOLUME_READ ? VOLUME_FUA : 0;
	r->len = 1 + world_random_below(w, world_random_below(w, 3) ? 9000 : CLIENT_BYTES_MAX);
	r->offset = world_random_below(w, bytes - r->len);
	if (world_random_below(w, 2)) {
		r->offset &= ~4095ull;
		r->len = (r->len + 4095) & ~4095ull;
		if (r->len > CLIENT_BYTES_MAX)
			r->len = CLIENT_BYTES_MAX;
	}
	if (r->offset + r->len > bytes)
		r->len = bytes - r->offset;
	for (uint64_t i = 0; i < r->len; i += 8) {
		uint64_t value = world_random(w);

		memcpy(client->buffer + i, &value, 8);
	}
	if (c->options.files ? r->op != VOLUME_READ && r->op != VOLUME_FLUSH
			     : c->options.filesystem && r->op == VOLUME_WRITE && world_random_below(w, 2)) {
		if (c->options.files ? !client_files(c, node) : !client_transact(c, client, node))
			return;
		r->op = world_random_below(w, 2) ? VOLUME_ACK : VOLUME_FLUSH;
		r->flags = 0;
	}
	r->buffer = client->buffer;
	r->done = client_done;
	/* A read asks anybody. */
	for (unsigned i = 0; i < c->options.nodes && r->op == VOLUME_READ; i++) {
		unsigned any = (node + (unsigned)world_random_below(w, c->options.nodes)) % c->options.nodes;

		if (c->nodes[any].volume && c->nodes[any].volume->state == VOLUME_OPEN)
			node = any;
	}
	client->cluster = c;
	client->busy = true;
	client->node = node;
	c->load_left--;
	volume_submit(c->nodes[node].volume, r);
}

/* As long as no node falls out of the journal: what comes after that is a resync. One that is on another branch has
 * nothing to lose there. */
static bool clients_wait(struct cluster *c, unsigned primary)
{
	const struct node *p = &c->nodes[primary];
	uint64_t busy = CLIENT_BYTES_MAX, end = p->volume->log.end.lsn;

	for (unsigned i = 0; i < CLIENT_REQUESTS; i++)
		busy += c->clients[i].busy ? 2 * c->clients[i].request.len : 0;	/* pads, and chunks */
	for (unsigned i = 0; i < c->options.nodes; i++) {
		struct node *n = &c->nodes[i];

		if (n->volume && n->volume->state == VOLUME_OPEN)
			n->solid = n->volume->journal.durable;
		if (end + busy - n->solid > c->options.journal_bytes / 2 &&
		    path_holds(p->branch, end, n->branch, n->solid))
			return true;
	}
	return false;
}

/* To whoever says that it is primary: clients do not know better. */
static void clients_go_on(struct cluster *c)
{
	unsigned primaries[CLUSTER_NODES_MAX], count = 0;

	for (unsigned i = 0; i < c->options.nodes; i++)
		if (cluster_is_primary(&c->nodes[i]) && (c->options.fall_out || !clients_wait(c, i)))
			primaries[count++] = i;
	for (unsigned i = 0; i < CLIENT_REQUESTS && count && c->load_left; i++)
		if (!c->clients[i].busy && world_random_below(c->world, 4) == 0)
			client_send(c, &c->clients[i], primaries[world_random_below(c->world, count)]);
}

void cluster_load(struct cluster *c, uint64_t requests) { c->load_left += requests; }
uint64_t cluster_acked(struct cluster *c) { return c->acked; }

uint64_t cluster_load_left(struct cluster *c)
{
	uint64_t busy = c->load_left;

	for (unsigned i = 0; i < CLIENT_REQUESTS; i++)
		busy += c->clients[i].busy;
	return busy;
}

/* ---- time ------------------------------------------------------------------------------------------- */

/* Who does something for ever without time passing hangs, and so does a node that never gets to an end. */
static void watch_progress(struct cluster *c)
{
	enum { STILL_EVENTS_MAX = 1 << 20, EVENTS_MAX = 100 << 20 };

	if (world_now(c->world) != c->still_since) {
		c->still_since = world_now(c->world);
		c->still_events = 0;
	}
	if (++c->still_events > STILL_EVENTS_MAX)
		cluster_breach(c, "liveness: %d events, and no time has passed", STILL_EVENTS_MAX);
	if (world_events(c->world) > EVENTS_MAX)
		cluster_breach(c, "liveness: %d events, and no end", EVENTS_MAX);
}

bool cluster_step(struct cluster *c)
{
	bool stepped;

	clients_go_on(c);
	oracle_observe(c);
	stepped = world_step(c->world);
	for (unsigned i = 0; i < c->options.nodes; i++)
		if (c->nodes[i].volume && machine_crashed(c->nodes[i].machine)) {
			world_note(c->world, "node %s: the planned crash", cluster_node_names[i]);
			crashed(c, i, c->nodes[i].planned_power);
		}
	oracle_observe(c);
	watch_progress(c);
	if (stepped && world_events(c->world) % 16 == 0)
		oracle_check_some(c);
	return stepped;
}

bool cluster_run_for(struct cluster *c, uint64_t ns)
{
	uint64_t until = world_now(c->world) + ns;

	while (world_now(c->world) < until)
		if (!cluster_step(c))
			return false;
	return true;
}
