/* SPDX-License-Identifier: Apache-2.0 */
/* A node's key and certificate: what is made is read back; what others could have touched, or is not a pair, or is of
 * somebody else, is refused with a sentence. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "identity.h"
#include "run.h"

static const uint8_t uuid[UUID_BYTES] = { 1, 2, 3 }, other_uuid[UUID_BYTES] = { 1, 2, 4 };
static char directory[64], key_path[96], certificate_path[96], why[WHY_BYTES];

static int setup(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/holdfast-identity.XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	strcat(directory, "/state");
	snprintf(key_path, sizeof key_path, "%s/identity.key", directory);
	snprintf(certificate_path, sizeof certificate_path, "%s/identity.crt", directory);
	*why = '\0';
	return identity_create(directory, "a", uuid, why);
}

static int teardown(void **state)
{
	(void)state;
	identity_remove(directory);
	*strrchr(directory, '/') = '\0';
	return rmdir(directory);
}

static int load(void)
{
	struct identity *identity = NULL;
	int result = identity_load(&identity, directory, "a", uuid, why);

	identity_free(identity);
	return result;
}

static void refused(int error, const char *words)
{
	assert_int_equal(load(), error);
	if (!strstr(why, words))
		fail_msg("\"%s\" does not say \"%s\"", why, words);
}

static void file_write(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static size_t file_bytes(const char *path, char out[IDENTITY_FILE_MAX])
{
	int fd = open(path, O_RDONLY);
	ssize_t len = read(fd, out, IDENTITY_FILE_MAX);

	close(fd);
	assert_true(len > 0);
	return (size_t)len;
}

static void identity_that_is_made_is_read_back_and_its_key_is_private(void **state)
{
	struct identity *identity;
	uint8_t ours[FINGERPRINT_BYTES], shown[FINGERPRINT_BYTES];
	char node[NAME_BYTES];
	struct stat st;

	(void)state;
	assert_int_equal(identity_load(&identity, directory, "a", uuid, why), 0);
	identity_fingerprint(identity, ours);
	assert_int_equal(fingerprint_of(identity_certificate(identity), shown), 0);
	assert_memory_equal(ours, shown, sizeof ours);
	assert_int_equal(certificate_node(identity_certificate(identity), node), 0);
	assert_string_equal(node, "a");
	identity_free(identity);
	assert_int_equal(stat(key_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(directory, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void identity_is_never_overwritten(void **state)
{
	char before[IDENTITY_FILE_MAX], after[IDENTITY_FILE_MAX];
	size_t len = file_bytes(key_path, before);

	(void)state;
	assert_int_equal(identity_create(directory, "a", uuid, why), -EEXIST);
	assert_int_equal(file_bytes(key_path, after), len);
	assert_memory_equal(before, after, len);
	assert_int_equal(load(), 0);
}

static void identity_without_its_key_counts_as_none_and_is_made_anew(void **state)
{
	(void)state;
	assert_int_equal(unlink(key_path), 0);
	refused(-ENOENT, "there is none");
	assert_int_equal(identity_create(directory, "a", uuid, why), 0);
	assert_int_equal(load(), 0);
}

static void identity_of_another_node_or_volume_is_refused(void **state)
{
	struct identity *identity;

	(void)state;
	assert_int_equal(identity_load(&identity, directory, "b", uuid, why), -EINVAL);
	assert_non_null(strstr(why, "is of node \"a\", and this node is b"));
	assert_int_equal(identity_load(&identity, directory, "a", other_uuid, why), -EINVAL);
	assert_non_null(strstr(why, "another volume"));
}

static void identity_that_others_could_read_or_change_is_refused(void **state)
{
	(void)state;
	for (mode_t mode = 0601; mode <= 0677; mode++) {
		if (!(mode & 077))
			continue;
		chmod(key_path, mode);
		refused(-EPERM, "so others could read it");
	}
	chmod(key_path, 0600);
	chmod(certificate_path, 0664);
	refused(-EPERM, "so others could change it");
	chmod(certificate_path, 0644);
	assert_int_equal(load(), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(key_path, 12345, 0), 0);
		refused(-EPERM, "belongs to user 12345");
		assert_int_equal(chown(key_path, 0, 0), 0);
	}
}

static void identity_that_is_a_link_or_no_file_is_refused(void **state)
{
	char moved[112];

	(void)state;
	snprintf(moved, sizeof moved, "%s.moved", key_path);
	assert_int_equal(rename(key_path, moved), 0);
	assert_int_equal(symlink(moved, key_path), 0);
	refused(-ELOOP, "cannot be read");
	assert_int_equal(unlink(key_path), 0);
	assert_int_equal(mkfifo(key_path, 0600), 0);
	refused(-EPERM, "is no file");
	assert_int_equal(unlink(key_path), 0);
	assert_int_equal(rename(moved, key_path), 0);
	assert_int_equal(load(), 0);
}

static void identity_of_garbage_is_refused_and_no_byte_of_a_key_is_told(void **state)
{
	char key[IDENTITY_FILE_MAX], certificate[IDENTITY_FILE_MAX], big[IDENTITY_FILE_MAX + 1];
	size_t key_len = file_bytes(key_path, key), certificate_len = file_bytes(certificate_path, certificate);
	EVP_PKEY *rsa;
	FILE *f;

	(void)state;
	memset(big, 'x', sizeof big);
	file_write(key_path, big, sizeof big);
	refused(-EBADMSG, "longer than 4096 bytes");
	file_write(key_path, "", 0);
	refused(-EBADMSG, "holds no Ed25519 key");
	for (size_t len = 0; len < key_len - 1; len++) {
		file_write(key_path, key, len);
		if (len < key_len - 1 - strlen("-----END PRIVATE KEY-----"))
			refused(-EBADMSG, "holds no Ed25519 key");
		assert_null(strstr(why, "MC4CAQ"));
	}
	file_write(key_path, key, key_len);
	file_write(certificate_path, key, key_len);
	refused(-EBADMSG, "holds no certificate");
	file_write(certificate_path, certificate, certificate_len / 2);
	refused(-EBADMSG, "holds no certificate");
	file_write(certificate_path, certificate, certificate_len);
	rsa = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	f = fopen(key_path, "w");
	assert_true(f && PEM_write_PKCS8PrivateKey(f, rsa, NULL, NULL, 0, NULL, NULL));
	fclose(f);
	EVP_PKEY_free(rsa);
	refused(-EBADMSG, "holds no Ed25519 key");
}

static void identity_key_that_does_not_fit_the_certificate_is_refused(void **state)
{
	char key[IDENTITY_FILE_MAX];
	size_t len = file_bytes(key_path, key);

	(void)state;
	identity_remove(directory);
	assert_int_equal(identity_create(directory, "a", uuid, why), 0);
	file_write(key_path, key, len);
	refused(-EBADMSG, "is not that of identity.crt");
}

static void identity_key_under_a_password_is_refused_and_nobody_is_asked(void **state)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	FILE *f = fopen(key_path, "w");

	(void)state;
	assert_true(f && PEM_write_PKCS8PrivateKey(f, key, EVP_aes_256_cbc(), "word", 4, NULL, NULL));
	fclose(f);
	EVP_PKEY_free(key);
	refused(-EBADMSG, "not encrypted");
}

static void fingerprint_text_is_read_back_and_anything_else_refused(void **state)
{
	uint8_t in[FINGERPRINT_BYTES], out[FINGERPRINT_BYTES];
	char text[FINGERPRINT_TEXT_BYTES], shown[FINGERPRINT_SHORT_BYTES];

	(void)state;
	for (unsigned i = 0; i < sizeof in; i++)
		in[i] = (uint8_t)(i * 37 + 5);
	fingerprint_text(in, text);
	assert_int_equal(strlen(text), FINGERPRINT_TEXT_BYTES - 1);
	assert_int_equal(fingerprint_parse(text, out), 0);
	assert_memory_equal(in, out, sizeof in);
	text[70] = 'g';
	assert_int_equal(fingerprint_parse(text, out), -EINVAL);
	text[70] = '\0';
	assert_int_equal(fingerprint_parse(text, out), -EINVAL);
	assert_int_equal(fingerprint_parse("sha256:", out), -EINVAL);
	assert_int_equal(fingerprint_parse("", out), -EINVAL);
	memset(in, 0xff, sizeof in);
	fingerprint_short(in, shown);
	assert_string_equal(shown, "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
	memset(in, 0, sizeof in);
	in[0] = 0x08;			/* 00001 000.. */
	in[9] = 0x02;			/* ..00010 */
	fingerprint_short(in, shown);
	assert_string_equal(shown, "1000-0000-0000-0002");
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
	FACT(identity_that_is_made_is_read_back_and_its_key_is_private),
	FACT(identity_is_never_overwritten),
	FACT(identity_without_its_key_counts_as_none_and_is_made_anew),
	FACT(identity_of_another_node_or_volume_is_refused),
	FACT(identity_that_others_could_read_or_change_is_refused),
	FACT(identity_that_is_a_link_or_no_file_is_refused),
	FACT(identity_of_garbage_is_refused_and_no_byte_of_a_key_is_told),
	FACT(identity_key_that_does_not_fit_the_certificate_is_refused),
	FACT(identity_key_under_a_password_is_refused_and_nobody_is_asked),
	cmocka_unit_test(fingerprint_text_is_read_back_and_anything_else_refused),
};
TEST_GROUP(identity, tests)
