/* SPDX-License-Identifier: Apache-2.0 */
/* A node's files of identity, of any content: refused with a sentence, or a key and a certificate that belong together.
 *
 *	first byte even		length of the key (two bytes), the key, the certificate
 *	odd			what `create` makes, with changes: where (two bytes), and to what */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct file { uint8_t bytes[IDENTITY_FILE_MAX]; size_t len; } good[2];

static void file_take(struct file *f, const char *directory, const char *name)
{
	char path[128];
	ssize_t len;
	int fd;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	fd = open(path, O_RDONLY);
	len = read(fd, f->bytes, sizeof f->bytes);
	CHECK(fd >= 0 && len > 0);
	close(fd);
	f->len = (size_t)len;
}

static void good_make(void)
{
	char directory[64] = "/tmp/holdfast-fuzz.XXXXXX", why[WHY_BYTES];

	CHECK(mkdtemp(directory) != NULL);
	CHECK(identity_create(directory, "a", (const uint8_t[UUID_BYTES]){ 1 }, why) == 0);
	file_take(&good[0], directory, "identity.key");
	file_take(&good[1], directory, "identity.crt");
	identity_remove(directory);
}

static void parse(const uint8_t *key, size_t key_len, const uint8_t *certificate, size_t certificate_len)
{
	uint8_t fingerprint[FINGERPRINT_BYTES], again[FINGERPRINT_BYTES];
	char text[FINGERPRINT_TEXT_BYTES], node[NAME_BYTES], why[WHY_BYTES] = "";
	struct identity *identity = NULL;

	if (identity_parse(&identity, key, key_len, certificate, certificate_len, "/x", why) < 0) {
		CHECK(identity == NULL);
		CHECK(*why && memchr(why, 0, sizeof why));
		return;
	}
	identity_fingerprint(identity, fingerprint);
	fingerprint_text(fingerprint, text);
	CHECK(fingerprint_parse(text, again) == 0);
	CHECK(memcmp(fingerprint, again, sizeof again) == 0);
	if (certificate_node(identity_certificate(identity), node) == 0)
		CHECK(*node && memchr(node, 0, sizeof node));
	identity_free(identity);
}

static void parse_changed(const uint8_t *data, size_t size)
{
	struct file changed[2];

	memcpy(changed, good, sizeof changed);
	for (; size >= 3; data += 3, size -= 3) {
		size_t at = ((size_t)data[0] << 8 | data[1]) % (good[0].len + good[1].len);
		bool second = at >= good[0].len;

		changed[second].bytes[second ? at - good[0].len : at] = data[2];
	}
	parse(changed[0].bytes, changed[0].len, changed[1].bytes, changed[1].len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[FINGERPRINT_TEXT_BYTES + 8] = "";
	uint8_t out[FINGERPRINT_BYTES];
	size_t len;

	if (!good[0].len)
		good_make();
	if (size < 3)
		return 0;
	if (data[0] & 1) {
		parse_changed(data + 1, size - 1);
		return 0;
	}
	len = ((size_t)data[1] << 8 | data[2]) % (size - 2);
	parse(data + 3, len, data + 3 + len, size - 3 - len);
	memcpy(text, data + 3, size - 3 < sizeof text - 1 ? size - 3 : sizeof text - 1);
	(void)!fingerprint_parse(text, out);
	return 0;
}
