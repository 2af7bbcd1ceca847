/* SPDX-License-Identifier: Apache-2.0 */
/* A peer with a fingerprint in the config is met when the io says that its key was proved, and else refused: on both
 * sides, and before it comes between the connection that the peer has. */
#include "directed.h"

static void pinned_set(struct cluster *c, unsigned node, bool pinned)
{
	cluster_volume(c, node)->config.peers[0].pinned = pinned;
}

static void keys_are(struct cluster *c, const char *first, const char *second)
{
	machine_set_node(cluster_machine(c, 0), first);
	machine_set_node(cluster_machine(c, 1), second);
}

/* Both are connected anew, or are not, two seconds after the connection broke. */
static bool meet_again(struct cluster *c)
{
	world_reset(cluster_world(c), cluster_machine(c, 0), cluster_machine(c, 1));
	cluster_run_for(c, 2 * SECONDS);
	assert_int_equal(peer_connected(peer_of(c, 0, 1)), peer_connected(peer_of(c, 1, 0)));
	return peer_connected(peer_of(c, 0, 1));
}

static void peer_with_a_fingerprint_is_met_by_its_key_on_both_sides(void **state)
{
	struct cluster_options o = options_of(2, MODE_C);
	static struct volume_status status;
	struct cluster *c = start(&o);

	(void)state;
	volume_status(cluster_volume(c, 0), &status);
	assert_false(status.peers[0].encrypted);
	pinned_set(c, 0, true);
	pinned_set(c, 1, true);
	keys_are(c, "a", "b");
	assert_true(meet_again(c));
	volume_status(cluster_volume(c, 0), &status);
	assert_true(status.peers[0].encrypted);
	write_now(c, 0, 0, 4096, 1);
	cluster_converge(c);
	cluster_free(c);
}

static void peer_in_the_clear_or_with_anothers_key_is_refused_by_who_has_its_fingerprint(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);

	(void)state;
	for (unsigned node = 0; node < 2; node++) {
		pinned_set(c, node, true);
		keys_are(c, "", "");
		assert_false(meet_again(c));
		keys_are(c, "a", "b");
		assert_true(meet_again(c));
		keys_are(c, node ? "c" : "a", node ? "b" : "c");
		assert_false(meet_again(c));
		/* A key of another node is no proof, whether one is asked for or not. */
		pinned_set(c, node, false);
		assert_false(meet_again(c));
		keys_are(c, "", "");
		assert_true(meet_again(c));
	}
	cluster_converge(c);
	cluster_free(c);
}

static void dial_that_is_refused_says_why_in_the_status(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);

	(void)state;
	pinned_set(c, 0, true);
	assert_false(meet_again(c));
	assert_non_null(strstr(peer_of(c, 0, 1)->why, "not encrypted, and node b has to prove who it is"));
	keys_are(c, "a", "x");
	assert_false(meet_again(c));
	assert_non_null(strstr(peer_of(c, 0, 1)->why, "says that it is node b, and its key is node x's"));
	keys_are(c, "", "");
	pinned_set(c, 0, false);
	cluster_converge(c);
	cluster_free(c);
}

struct stranger { struct io_op op; int64_t result; bool done; _Alignas(8) uint8_t bytes[FRAME_HELLO_MAX]; };

static void stranger_done(struct io_op *op, int64_t result)
{
	struct stranger *s = container_of(op, struct stranger, op);

	s->result = result;
	s->done = true;
}

static int64_t stranger_call(struct cluster *c, struct stranger *s, struct io_op op)
{
	struct machine *m = world_machine(cluster_world(c), "stranger");

	op.done = stranger_done;
	s->op = op;
	s->done = false;
	machine_io(m)->submit(machine_io(m), &s->op);
	while (!s->done)
		cluster_step(c);
	return s->result;
}

/* What a sends to b, but for @flags, from somewhere else; a socket. */
static int hello_say(struct cluster *c, struct stranger *s, uint32_t without_flags)
{
	struct frame_header *header = (void *)s->bytes;
	struct frame_hello *hello = (void *)(header + 1);
	int socket;

	peer_hello_fill(peer_of(c, 0, 1), hello, (struct epoch_entry *)(void *)(hello + 1));
	hello->flags = to_le32(from_le32(hello->flags) & ~without_flags);
	frame_seal(header, FRAME_HELLO, (uint32_t)(sizeof *hello + from_le32(hello->epoch_count) *
						   sizeof(struct epoch_entry)));
	socket = (int)stranger_call(c, s, (struct io_op){ .kind = IO_DIAL, .address = "b:1" });
	assert_true(socket >= 0);
	stranger_call(c, s, (struct io_op){ .kind = IO_SEND, .file = socket, .data = s->bytes,
					    .len = sizeof *header + from_le32(header->length) });
	return socket;
}

/* Word for word. */
static void hello_without_the_key_does_not_touch_the_connection_of_its_node(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	static struct stranger s;
	struct cluster *c = start(&o);
	int socket, old;

	(void)state;
	pinned_set(c, 0, true);
	pinned_set(c, 1, true);
	keys_are(c, "a", "b");
	assert_true(meet_again(c));
	old = peer_of(c, 1, 0)->socket;
	socket = hello_say(c, &s, 0);
	assert_true(stranger_call(c, &s, (struct io_op){ .kind = IO_RECV, .file = socket, .data = s.bytes,
							 .len = 100 }) <= 0);
	assert_int_equal(peer_of(c, 1, 0)->socket, old);
	assert_true(peer_connected(peer_of(c, 1, 0)));
	cluster_converge(c);
	cluster_free(c);
}

static void link_in_the_clear_needs_both_configs_to_allow_it(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	struct cluster *c = start(&o);

	(void)state;
	for (unsigned node = 0; node < 2; node++) {
		cluster_volume(c, node)->config.insecure_loopback = false;
		assert_false(meet_again(c));
		assert_non_null(strstr(peer_of(c, 0, 1)->why, node ? "" : "does not allow that for node b"));
		keys_are(c, "a", "b");			/* it is of no account where the link is encrypted */
		assert_true(meet_again(c));
		keys_are(c, "", "");
		cluster_volume(c, node)->config.insecure_loopback = true;
		assert_true(meet_again(c));
	}
	cluster_converge(c);
	cluster_free(c);
}

static bool why_has(struct cluster *c, const char *text)
{
	for (unsigned steps = 0; steps < 20000 && !strstr(peer_of(c, 1, 0)->why, text); steps++)
		cluster_step(c);
	return strstr(peer_of(c, 1, 0)->why, text);
}

static void hello_that_does_not_say_that_the_clear_is_allowed_is_refused(void **state)
{
	struct cluster_options o = options_of(2, MODE_A);
	static struct stranger s;
	struct cluster *c = start(&o);

	(void)state;
	hello_say(c, &s, 0);
	world_isolate(cluster_world(c), cluster_machine(c, 0), true);
	hello_say(c, &s, HELLO_CLEAR);
	assert_true(why_has(c, "and its config does not allow that"));
	assert_int_equal(peer_of(c, 1, 0)->state, PEER_REFUSED);
	world_heal(cluster_world(c));
	cluster_converge(c);
	cluster_free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(peer_with_a_fingerprint_is_met_by_its_key_on_both_sides),
	cmocka_unit_test(peer_in_the_clear_or_with_anothers_key_is_refused_by_who_has_its_fingerprint),
	cmocka_unit_test(dial_that_is_refused_says_why_in_the_status),
	cmocka_unit_test(hello_without_the_key_does_not_touch_the_connection_of_its_node),
	cmocka_unit_test(link_in_the_clear_needs_both_configs_to_allow_it),
	cmocka_unit_test(hello_that_does_not_say_that_the_clear_is_allowed_is_refused),
};
TEST_GROUP(peer_identity, tests)
