/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "config_edit.h"
#include "config_text.h"
#include "run.h"

#define UUID "6f1c2b3a-0001-4002-8003-a1b2c3d4e5f6"
#define FINGERPRINT "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD "[volume]\nuuid = " UUID "\nsize = 10G\nnode = a\n"

static struct config config;
static struct paths paths;
static char why[WHY_BYTES];

static int parse_bytes(const char *text, size_t len)
{
	assert_int_equal(paths_of(&paths, "/srv/x", "db0", why), 0);
	*why = 0;
	return config_parse(&config, text, len, "db0.conf", &paths, "db0", why);
}

static int parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

/* @text is refused, and the sentence holds @words. */
static void refused(const char *text, const char *words)
{
	assert_int_equal(parse(text), -EINVAL);
	if (!strstr(why, words))
		fail_msg("\"%s\" does not say \"%s\"", why, words);
}

static void config_defaults_are_what_the_header_says(void **state)
{
	char undo[PATH_MAX];

	(void)state;
	assert_int_equal(parse(HEAD), 0);
	assert_int_equal(config.volume.geometry.volume_bytes, 10ull << 30);
	assert_int_equal(config.volume.geometry.journal_bytes, JOURNAL_BYTES_DEFAULT);
	assert_int_equal(config.volume.geometry.journal_block, 4096);
	assert_int_equal(config.volume.geometry.segment_bytes, SEGMENT_BYTES);
	assert_int_equal(config.volume.memory_bytes, MEMORY_BYTES_DEFAULT);
	assert_int_equal(config.volume.peer_timeout_ns, 5000000000ull);
	assert_int_equal(config.volume.min_copies, 1);
	assert_int_equal(config.volume.store, -1);
	assert_string_equal(config.volume.name, "db0");
	assert_string_equal(config.volume.listen, "");
	assert_string_equal(config.store, "/srv/x/var/lib/holdfast/db0/store");
	assert_string_equal(config.meta, "/srv/x/var/lib/holdfast/db0/meta");
	assert_string_equal(config.bitmap, "/srv/x/var/lib/holdfast/db0/bitmap");
	config_undo_path(&config, 3, undo);
	assert_string_equal(undo, "/srv/x/var/lib/holdfast/db0/undo-3");
	assert_int_equal(config.volume.bitmap, -1);
	assert_int_equal(config.volume.undo[3], -1);
	assert_int_equal(config.volume.undo_bytes, 0);
	assert_int_equal(config.volume.resync_rate, 0);
	assert_false(config.volume.resync_checksum);
	assert_int_equal(config.volume.split_policy, SPLIT_NONE);
	assert_true(config.loop);
	assert_false(config.sqpoll);
}

static void config_every_key_is_read(void **state)
{
	(void)state;
	assert_int_equal(
		parse(HEAD
		      "listen = 127.0.0.1:7701\nmin-copies = 2\npeer-timeout = 750ms\n"
		      "memory = 512M\nstore = /dev/vdb\njournal = /j\nmeta = /m\n"
		      "journal-size = 64M\njournal-block = 512\nsegment = 1M\n"
		      "bitmap = /b\nundo = /u/x\nundo-size = 2G\nresync = checksum\nresync-rate = 100M\n"
		      "split-brain = keep-newest\n"
		      "nbd = 127.0.0.1:10809  [::1]:10809 unix:/run/n\nloop = no\nsqpoll = yes\n"
		      "[peer b]\naddress = 10.0.0.2:7702\n"
		      "[peer c.d-e]\n  mode = A\n\taddress = [fe80::1%eth0]:7703 ; remark\n"),
		0);
	assert_string_equal(config.volume.listen, "127.0.0.1:7701");
	assert_int_equal(config.volume.min_copies, 2);
	assert_int_equal(config.volume.peer_timeout_ns, 750000000);
	assert_int_equal(config.volume.memory_bytes, 512 << 20);
	assert_string_equal(config.store, "/dev/vdb");
	assert_int_equal(config.volume.geometry.journal_bytes, 64 << 20);
	assert_int_equal(config.volume.geometry.journal_block, 512);
	assert_int_equal(config.volume.geometry.segment_bytes, 1 << 20);
	assert_string_equal(config.bitmap, "/b");
	assert_string_equal(config.undo, "/u/x");
	assert_int_equal(config.volume.undo_bytes, 2ull << 30);
	assert_true(config.volume.resync_checksum);
	assert_int_equal(config.volume.resync_rate, 100 << 20);
	assert_int_equal(config.volume.split_policy, SPLIT_KEEP_NEWEST);
	assert_int_equal(config.nbd_count, 3);
	assert_string_equal(config.nbd[1], "[::1]:10809");
	assert_false(config.loop);
	assert_true(config.sqpoll);
	assert_int_equal(config.volume.peer_count, 2);
	assert_string_equal(config.volume.peers[0].name, "b");
	assert_int_equal(config.volume.peers[0].mode, MODE_C);
	assert_string_equal(config.volume.peers[1].name, "c.d-e");
	assert_string_equal(config.volume.peers[1].address, "[fe80::1%eth0]:7703");
	assert_int_equal(config.volume.peers[1].mode, MODE_A);
}

static void config_refusals_name_file_and_line(void **state)
{
	(void)state;
	refused(HEAD "colour = red\n", "db0.conf:5: [volume] has no key \"colour\"");
	refused(HEAD "[peer b]\nport = 1\naddress = 10.0.0.2:1\n",
		"db0.conf:6: [peer] has no key \"port\"");
	refused(HEAD "[witness]\n", "db0.conf:5: [witness] is neither");
	refused("size = 1G\n" HEAD, "db0.conf:1: \"size\" stands before any section");
	refused(HEAD "size = 11G\n", "db0.conf:5: size is here twice");
	refused(HEAD "[volume]\n", "db0.conf:5: [volume] is here twice");
	refused(HEAD "[peer b]\naddress = 10.0.0.2:1\naddress = 10.0.0.2:2\n",
		"db0.conf:7: address is here twice");
	refused(HEAD "nonsense\nsize = 1\n", "db0.conf:5: neither");
	refused(HEAD "[peer b\naddress = 1.1.1.1:1\n",
		"db0.conf:5: the section has no closing bracket");
	refused(HEAD "[peer b] c\n", "db0.conf:5: there is something after");
	refused("", "db0.conf: there is no [volume]");
}

static void config_what_has_no_default_must_be_there(void **state)
{
	(void)state;
	refused("[volume]\nsize = 10G\nnode = a\n", "uuid is missing");
	refused("[volume]\nuuid = " UUID "\nnode = a\n", "size is missing");
	refused("[volume]\nuuid = " UUID "\nsize = 10G\n", "node is missing");
	refused(HEAD "[peer b]\n", "db0.conf:5: [peer b]: address is missing");
	refused(HEAD "loop =\n", "loop: the value is empty");
}

static void config_values_out_of_range_are_refused(void **state)
{
	(void)state;
	refused("[volume]\nsize = 10Q\n", "db0.conf:2: size: \"10Q\" is not a size");
	refused("[volume]\nsize = 32T\n", "out of range");
	refused("[volume]\nsize = 99999999999999999999\n", "out of range");
	refused("[volume]\nsize = -1\n", "not a size");
	refused("[volume]\nuuid = 6f1c\n", "not a UUID");
	refused("[volume]\nnode = ../a\n", "does not start with a dot");
	refused("[volume]\nlisten = somewhere:7701\n", "names are not looked up");
	refused("[volume]\nlisten = 127.0.0.1:0\n", "is not IPv4:PORT");
	refused("[volume]\nlisten = 127.0.0.1:65536\n", "is not IPv4:PORT");
	refused("[volume]\nlisten = [::1:7701\n", "is not IPv4:PORT");
	refused("[volume]\nlisten = unix:here\n", "absolute path");
	refused("[volume]\nmin-copies = 0\n", "number of copies");
	refused("[volume]\nmin-copies = 9\n", "number of copies");
	refused("[volume]\npeer-timeout = 5\n", "500ms to 300s");
	refused("[volume]\npeer-timeout = 499ms\n", "500ms to 300s");
	refused("[volume]\npeer-timeout = 301s\n", "500ms to 300s");
	refused("[volume]\nmemory = 1M\n", "out of range");
	refused("[volume]\nstore = store\n", "not absolute");
	refused("[volume]\nsegment = 4G\n", "out of range");
	refused("[volume]\njournal-block = 8192\n", "out of range");
	refused("[volume]\nloop = maybe\n", "neither yes nor no");
	refused("[volume]\nundo = undo\n", "db0.conf:2: undo: the path \"undo\" is not absolute");
	refused("[volume]\nundo-size = 1K\n", "out of range");
	refused("[volume]\nundo-size = 0\n", "out of range");
	refused("[volume]\nresync = all\n", "neither blocks nor checksum");
	refused("[volume]\nresync-rate = 1K\n", "out of range");
	refused("[volume]\nresync-rate = fast\n", "not a size");
	refused("[volume]\nsplit-brain = keep\n", "is none of none, keep-primary, keep-newest, keep-only-writer");
	refused(HEAD "[peer b]\naddress = 10.0.0.2:1\nmode = E\n", "none of A B C D");
}

#define PEERS_BCD \
	"[peer b]\naddress = 10.0.0.2:1\n[peer c]\naddress = 10.0.0.3:1\nmode = B\n" \
	"[peer d]\naddress = 10.0.0.4:1\nmode = A\n"

static void config_commit_names_its_peers_wherever_they_stand(void **state)
{
	static const char *const spellings[] = {
		"any 2 of (b, c)", "any 2 of (c,b)", "any\t2  of(b,c)", "any 2 of ( b ,\tc )  ",
	};
	char text[WHY_BYTES];

	(void)state;
	assert_int_equal(parse(HEAD), 0);
	assert_int_equal(config.volume.commit, COMMIT_ALL);
	assert_int_equal(parse(HEAD "commit = local\n" PEERS_BCD), 0);
	assert_int_equal(config.volume.commit, COMMIT_LOCAL);
	assert_int_equal(parse(HEAD "commit = all\nmin-copies = 3\n" PEERS_BCD), 0);
	assert_int_equal(config.volume.commit, COMMIT_ALL);
	for (unsigned i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
		char before[512], behind[512];

		snprintf(before, sizeof before, HEAD "commit = %s\n" PEERS_BCD, spellings[i]);
		snprintf(behind, sizeof behind, PEERS_BCD HEAD "commit = %s\n", spellings[i]);
		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(parse(k ? behind : before), 0);
			assert_int_equal(config.volume.commit, COMMIT_ANY);
			assert_int_equal(config.volume.commit_copies, 2);
			assert_true(config.volume.peers[0].commit && config.volume.peers[1].commit);
			assert_false(config.volume.peers[2].commit);
			assert_int_equal(config.commit_count, 0);
			commit_text(&config.volume, text);
			assert_string_equal(text, "any 2 of (b, c)");
		}
	}
	/* Set anew, key by key, it forgets what it was. */
	assert_int_equal(config_set(&config, "commit", "any 1 of (c)", why), 0);
	assert_int_equal(config_check(&config, why), 0);
	commit_text(&config.volume, text);
	assert_string_equal(text, "any 1 of (c)");
}

static void config_commit_that_cannot_be_is_refused(void **state)
{
	(void)state;
	refused(HEAD "commit = some\n" PEERS_BCD, "db0.conf:5: commit: \"some\" is not all, local or any K of (NAME");
	refused(HEAD "commit = any 1 of b\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit = any 1 of (b, c\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit = any 1 of (b) c\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit = any1 of (b)\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit = any 1of (b)\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit = any of (b)\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit = local b\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit = any\n" PEERS_BCD, "is not all, local or any K of");
	refused(HEAD "commit =\n" PEERS_BCD, "db0.conf:5: commit: the value is empty");
	refused(HEAD "commit = any 0 of (b)\n" PEERS_BCD, "K is a number from 1 to 7");
	refused(HEAD "commit = any 8 of (b)\n" PEERS_BCD, "K is a number from 1 to 7");
	refused(HEAD "commit = any 99999999999999999999 of (b)\n" PEERS_BCD, "K is a number from 1 to 7");
	refused(HEAD "commit = any 2 of (b)\n" PEERS_BCD, "db0.conf:5: commit: any 2 of 1 is not possible");
	refused(HEAD "commit = any 1 of ()\n" PEERS_BCD, "1 to 63 are allowed");
	refused(HEAD "commit = any 1 of (b,,c)\n" PEERS_BCD, "1 to 63 are allowed");
	refused(HEAD "commit = any 1 of (b, c, b)\n" PEERS_BCD, "db0.conf:5: commit: b is named twice");
	refused(HEAD "commit = any 1 of (b, e)\n" PEERS_BCD, "db0.conf:5: commit names e, which is none of the peers");
	refused(HEAD "commit = any 1 of (a)\n" PEERS_BCD, "commit names a, which is none of the peers");
	refused(HEAD "commit = any 1 of (b, d)\n" PEERS_BCD, "db0.conf:5: commit = any 1 of (b, d) names d, but no "
		"write waits for a peer in mode A");
	refused(HEAD "commit = any 1 of (p,q,r,s,t,u,v,w)\n" PEERS_BCD, "more than 7 names");
	refused(HEAD "commit = local\nmin-copies = 2\n" PEERS_BCD, "min-copies goes with commit = all");
	refused(HEAD "commit = any 1 of (b)\nmin-copies = 2\n" PEERS_BCD, "min-copies goes with commit = all");
}

static void config_nbd_without_tls_is_loopback_or_unix(void **state)
{
	(void)state;
	refused(HEAD "nbd = 10.0.0.1:10809\n", "is not loopback");
	refused(HEAD "nbd = 127.0.0.1:1 [2001:db8::1]:10809\n", "is not loopback");
	refused(HEAD "nbd = 0.0.0.0:10809\n", "is not loopback");
	refused("[volume]\nnbd = 127.0.0.1:1 127.0.0.1:2 127.0.0.1:3 127.0.0.1:4\n", "more than 3");
	assert_int_equal(parse(HEAD "nbd = 127.1.2.3:10809\n"), 0);
	assert_int_equal(parse(HEAD "nbd = 10.0.0.1:10809\nnbd-tls = /etc/pki/holdfast\n"), 0);
	refused(HEAD "nbd = 10.0.0.1:10809\nnbd-tls = pki\n", "is not absolute");
}

static void config_keys_at_odds_are_refused(void **state)
{
	(void)state;
	refused(HEAD "[peer a]\naddress = 10.0.0.2:1\n", "has the name of this node");
	refused(HEAD "[peer b]\naddress = 10.0.0.2:1\n[peer b]\naddress = 10.0.0.3:1\n",
		"db0.conf:7: [peer b]: there is a peer b already");
	refused(HEAD "min-copies = 2\n", "only 1 nodes");
	refused(HEAD "store = /x\njournal = /x\n", "must be different files");
	refused(HEAD "bitmap = /x\nmeta = /x\n", "must be different files");
	refused(HEAD "bitmap = /x-3\nundo = /x\n", "must be different files");
	refused(HEAD "journal-size = 8M\n", "db0.conf: ");
}

static void config_more_peers_than_the_bound_are_refused(void **state)
{
	char text[4096] = HEAD;

	(void)state;
	for (int i = 0; i <= PEERS_MAX; i++) {
		size_t len = strlen(text);

		snprintf(text + len, sizeof text - len, "[peer p%d]\naddress = 10.0.0.2:%d\n", i,
			 i + 1);
		if (i < PEERS_MAX)
			assert_int_equal(parse(text), 0);
	}
	refused(text, "the most allowed");
}

static void config_nothing_is_cut_off_in_silence(void **state)
{
	char text[9000] = HEAD "store = /";
	char name[NAME_BYTES];

	(void)state;
	memset(text + strlen(text), 'x', 4200);
	refused(text, "db0.conf:5: the line has");
	memset(name, 'p', sizeof name - 1);
	name[sizeof name - 1] = 0;
	snprintf(text, sizeof text, HEAD "[peer %s]\naddress = 10.0.0.2:1\n", name);
	refused(text, "the section's name has");
	refused(HEAD "# a \001\n", "db0.conf:5: there is a control character (0x01)");
	assert_int_equal(parse_bytes(HEAD "loop = no\0yes\n", sizeof HEAD + 14), -EINVAL);
	assert_int_equal(parse("\xef\xbb\xbf" HEAD "loop = no"), 0);
	assert_false(config.loop);
}

static void config_fingerprint_is_of_one_peer_and_whole_or_refused(void **state)
{
	static const uint8_t begin[] = { 0x00, 0x11, 0x22 }, nothing[FINGERPRINT_BYTES];

	(void)state;
	assert_int_equal(parse(HEAD "[peer b]\nfingerprint = sha256:" FINGERPRINT "\naddress = 10.0.0.2:1\n"
			       "[peer c]\naddress = 10.0.0.3:1\n"), 0);
	assert_true(config.volume.peers[0].pinned);
	assert_memory_equal(config.volume.peers[0].fingerprint, begin, sizeof begin);
	assert_false(config.volume.peers[1].pinned);
	assert_memory_equal(config.volume.peers[1].fingerprint, nothing, sizeof nothing);
	refused(HEAD "[peer b]\naddress = 10.0.0.2:1\nfingerprint = " FINGERPRINT "\n", "is no fingerprint: sha256:");
	refused(HEAD "[peer b]\naddress = 10.0.0.2:1\nfingerprint = sha256:" FINGERPRINT "0\n", "at most 71");
	refused(HEAD "[peer b]\naddress = 10.0.0.2:1\nfingerprint = sha256:0011\n", "db0.conf:5: [peer b]:");
	refused(HEAD "[peer b]\naddress = 10.0.0.2:1\nfingerprint = sha256:" FINGERPRINT "\nfingerprint = none\n",
		"fingerprint is here twice");
	assert_int_equal(config_peer_pin(&config.volume.peers[0], "none", why), 0);
	assert_false(config.volume.peers[0].pinned);
}

static void links_are(int result, const char *text, const char *said)
{
	assert_int_equal(parse(text), 0);
	*why = 0;
	assert_int_equal(config_links_check(&config, why), result);
	assert_non_null(strstr(why, said));
}

static void config_links_are_encrypted_or_local_and_allowed_to_be_in_the_clear(void **state)
{
#define PIN "fingerprint = sha256:" FINGERPRINT "\n"
#define CLEAR HEAD "insecure-loopback = yes\n"
	(void)state;
	links_are(0, HEAD, "");
	links_are(0, HEAD "listen = 0.0.0.0:1\n[peer b]\naddress = 10.0.0.2:1\n" PIN, "");
	links_are(-EPERM, HEAD "[peer b]\naddress = 127.0.0.1:1\n", "peer b has no fingerprint, so nobody could tell");
	links_are(-EPERM, HEAD "[peer b]\naddress = 127.0.0.1:1\n" PIN "[peer c]\naddress = unix:/c\n",
		  "peer c has no fingerprint");
	links_are(0, CLEAR "listen = unix:/a\n[peer b]\naddress = [::1]:1\n[peer c]\naddress = unix:/c\n", "");
	links_are(-EPERM, CLEAR "listen = 127.0.0.1:1\n[peer b]\naddress = 10.0.0.2:1\n",
		  "and 10.0.0.2:1 is reached from other machines");
	links_are(-EPERM, CLEAR "listen = 0.0.0.0:1\n[peer b]\naddress = 127.0.0.1:1\n",
		  "and 0.0.0.0:1 is reached from other machines");
	links_are(-EPERM, CLEAR "[peer b]\naddress = [::ffff:127.0.0.1]:1\n", "is reached from other machines");
	links_are(0, CLEAR "listen = 127.0.0.1:1\n[peer b]\naddress = 10.0.0.2:1\n" PIN
		  "[peer c]\naddress = unix:/c\n", "");
	links_are(-EPERM, CLEAR "listen = 10.0.0.1:1\n[peer b]\naddress = 10.0.0.2:1\n" PIN
		  "[peer c]\naddress = unix:/c\n", "peer c has no fingerprint, and 10.0.0.1:1");
	links_are(0, HEAD "ca = /ca.pem\n[peer b]\naddress = 10.0.0.2:1\n" PIN "[peer c]\naddress = 10.0.0.3:1\n", "");
	assert_false(config.volume.peers[0].certified);
	assert_true(config.volume.peers[1].certified);
	refused(HEAD "insecure-loopback = maybe\n", "neither yes nor no");
#undef PIN
#undef CLEAR
}

static void config_windows_line_ends_are_fine(void **state)
{
	(void)state;
	assert_int_equal(
		parse("[volume]\r\nuuid = " UUID "\r\nsize = 10G\r\nnode = a\r\nloop = no\r\n"), 0);
	assert_false(config.loop);
}

static void config_of_a_directory_needs_a_filesystem_and_room_for_it(void **state)
{
	(void)state;
	assert_int_equal(parse(HEAD "filesystem = yes\nmount = /srv/photos\n"), 0);
	assert_true(config.volume.filesystem);
	assert_string_equal(config.mount, "/srv/photos");
	assert_int_equal(parse(HEAD "filesystem = yes\n"), 0);
	assert_string_equal(config.mount, "");
	assert_int_equal(parse(HEAD "mount = /srv/photos\n"), -EINVAL);
	assert_non_null(strstr(why, "filesystem is not yes"));
	assert_int_equal(parse(HEAD "filesystem = yes\nmount = srv\n"), -EINVAL);
	assert_int_equal(parse("[volume]\nuuid = " UUID "\nsize = 8M\nnode = a\nfilesystem = yes\n"), -EINVAL);
	assert_non_null(strstr(why, "16 MiB"));
}

static void config_written_reads_back_the_same(void **state)
{
	static struct config back;
	char root[] = "/tmp/hf-config-XXXXXX", command[64];
	struct stat st;

	(void)state;
	assert_int_equal(
		parse(HEAD
		      "listen = 127.0.0.1:7701\nmin-copies = 2\npeer-timeout = 1500ms\n"
		      "journal = /dev/nvme0n1p3\njournal-size = 64M\nnbd = 127.0.0.1:1 unix:/x\n"
		      "bitmap = /dev/nvme0n1p4\nundo = /big/undo\nundo-size = 1536M\nresync = checksum\n"
		      "resync-rate = 1M\nsplit-brain = keep-only-writer\ninsecure-loopback = yes\n"
		      "nbd-tls = /a b\nca = /ca\nfilesystem = yes\nmount = /srv/a b\n"
		      "loop = no\n[peer b]\naddress = 10.0.0.2:7702\nmode = D\nfingerprint = sha256:" FINGERPRINT "\n"
		      "[peer c]\naddress = unix:/run/c\n"),
		0);
	assert_non_null(mkdtemp(root));
	assert_int_equal(paths_of(&paths, root, "db0", why), 0);
	memset(config.store, 0, sizeof config.store);
	memset(config.meta, 0, sizeof config.meta);
	snprintf(config.store, sizeof config.store, "%.200s/store", paths.state);
	snprintf(config.meta, sizeof config.meta, "%.200s/meta", paths.state);
	assert_int_equal(config_read(&back, &paths, "db0", why), -ENOENT);
	assert_non_null(strstr(why, "No such file"));
	for (int round = 0; round < 2; round++) {
		assert_int_equal(config_write(&config, &paths, why), 0);
		assert_int_equal(config_read(&back, &paths, "db0", why), 0);
		assert_memory_equal(&back, &config, sizeof config);
	}
	assert_int_equal(stat(paths.config, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(config_set(&config, "min-copies", "1", why), 0);
	assert_int_equal(config_set(&config, "commit", "any 1 of (c, b)", why), 0);
	assert_int_equal(config_check(&config, why), 0);
	assert_int_equal(config_write(&config, &paths, why), 0);
	assert_int_equal(config_read(&back, &paths, "db0", why), 0);
	assert_memory_equal(&back, &config, sizeof config);
	strcpy(config.store, "/a ;b");
	assert_int_equal(config_write(&config, &paths, why), -EINVAL);
	strcpy(config.store, "relative");
	assert_int_equal(config_write(&config, &paths, why), -EINVAL);
	assert_int_equal(config_read(&back, &paths, "db0", why), 0);
	snprintf(command, sizeof command, "rm -r %s", root);
	assert_int_equal(system(command), 0);
}

static void paths_are_below_the_root(void **state)
{
	char root[400];

	(void)state;
	assert_int_equal(paths_of(&paths, "/", "db0", why), 0);
	assert_string_equal(paths.config, "/etc/holdfast/db0.conf");
	assert_int_equal(paths_of(&paths, "", "db0", why), 0);
	assert_string_equal(paths.state, "/var/lib/holdfast/db0");
	assert_int_equal(paths_of(&paths, "/tmp/r//", "db0", why), 0);
	assert_string_equal(paths.control, "/tmp/r/run/holdfast/db0.sock");
	assert_string_equal(paths.mount_file, "/tmp/r/run/holdfast/db0/volume");
	assert_int_equal(paths_of(&paths, "/", "..", why), -EINVAL);
	assert_int_equal(paths_of(&paths, "/", "", why), -EINVAL);
	assert_int_equal(paths_of(&paths, "/", "a/b", why), -EINVAL);
	assert_int_equal(paths_of(&paths, "/", "db0.sock", why), -EINVAL);
	memset(root, 'r', sizeof root);
	root[0] = '/';
	root[100] = 0;
	assert_int_equal(paths_of(&paths, root, "db0", why), -ENAMETOOLONG);
}

static void sizes_read_and_print(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
		const char *exact, *people;
	} table[] = {
		{ "0", 0, "0", "0 B" },
		{ "1000", 1000, "1000", "1000 B" },
		{ "4k", 4096, "4K", "4 KiB" },
		{ "10GiB", 10ull << 30, "10G", "10 GiB" },
		{ "1536M", 1536ull << 20, "1536M", "1.5 GiB" },
		{ "16T", 16ull << 40, "16T", "16 TiB" },
	};
	char text[32];
	uint64_t bytes;

	(void)state;
	for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
		assert_int_equal(size_parse(table[i].text, &bytes), 0);
		assert_int_equal(bytes, table[i].bytes);
		size_exact_text(bytes, text);
		assert_string_equal(text, table[i].exact);
		size_text(bytes, text);
		assert_string_equal(text, table[i].people);
	}
	assert_int_equal(size_parse("", &bytes), -EINVAL);
	assert_int_equal(size_parse("1.5G", &bytes), -EINVAL);
	assert_int_equal(size_parse("1GG", &bytes), -EINVAL);
	assert_int_equal(size_parse("18446744073709551615", &bytes), 0);
	assert_int_equal(size_parse("18446744073709551616", &bytes), -ERANGE);
	assert_int_equal(size_parse("16E", &bytes), -ERANGE);
}

static void uuids_read_and_print(void **state)
{
	uint8_t uuid[UUID_BYTES];
	char text[37];

	(void)state;
	assert_int_equal(uuid_parse("6F1C2B3A000140028003a1b2c3d4e5f6", uuid), 0);
	uuid_text(uuid, text);
	assert_string_equal(text, UUID);
	assert_int_equal(uuid_parse(text, uuid), 0);
	assert_int_equal(uuid_parse("6f1c2b3a000140028003a1b2c3d4e5f", uuid), -EINVAL);
	assert_int_equal(uuid_parse("6f1c2b3a000140028003a1b2c3d4e5f6a", uuid), -EINVAL);
	assert_int_equal(uuid_parse("6f1c2b3a000140028003a1b2c3d4e5fg", uuid), -EINVAL);
	assert_int_equal(uuid_parse("-6f1c2b3a000140028003a1b2c3d4e5f6", uuid), -EINVAL);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(config_defaults_are_what_the_header_says),
	cmocka_unit_test(config_every_key_is_read),
	cmocka_unit_test(config_refusals_name_file_and_line),
	cmocka_unit_test(config_what_has_no_default_must_be_there),
	cmocka_unit_test(config_values_out_of_range_are_refused),
	cmocka_unit_test(config_commit_names_its_peers_wherever_they_stand),
	cmocka_unit_test(config_commit_that_cannot_be_is_refused),
	cmocka_unit_test(config_nbd_without_tls_is_loopback_or_unix),
	cmocka_unit_test(config_keys_at_odds_are_refused),
	cmocka_unit_test(config_more_peers_than_the_bound_are_refused),
	cmocka_unit_test(config_nothing_is_cut_off_in_silence),
	cmocka_unit_test(config_fingerprint_is_of_one_peer_and_whole_or_refused),
	cmocka_unit_test(config_links_are_encrypted_or_local_and_allowed_to_be_in_the_clear),
	cmocka_unit_test(config_windows_line_ends_are_fine),
	cmocka_unit_test(config_of_a_directory_needs_a_filesystem_and_room_for_it),
	cmocka_unit_test(config_written_reads_back_the_same),
	cmocka_unit_test(paths_are_below_the_root),
	cmocka_unit_test(sizes_read_and_print),
	cmocka_unit_test(uuids_read_and_print),
};
TEST_GROUP(config, tests)
