/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "auto.h"
#include "certificates.h"

__attribute__((format(printf, 3, 4)))
static int refuse(char why[WHY_BYTES], int res, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, WHY_BYTES, format, args);
	va_end(args);
	ERR_clear_error();
	return res;
}

static int no_password(char *out, int room, int writing, void *context)
{
	(void)out;
	(void)room;
	(void)writing;
	(void)context;
	return -1;
}

/* The whole file, as a BIO that is the caller's; @forbidden are bits of its mode that make it useless as a secret. */
static int file_read(BIO **out, const char *path, mode_t forbidden, char why[WHY_BYTES])
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO_FREE char *text = malloc(CERTIFICATES_FILE_MAX + 1);
	struct stat st;
	ssize_t len;

	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse(why, -errno, "certificates: %.300s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(why, -EBADMSG, "certificates: %.300s is no file", path);
	if (st.st_mode & forbidden)
		return refuse(why, -EPERM, "certificates: %.300s has mode %04o, so others could read it; chmod 600 it, "
			      "and make a new one if somebody may have", path, (unsigned)(st.st_mode & 07777));
	len = text ? read(fd, text, CERTIFICATES_FILE_MAX + 1) : -1;
	if (len < 0)
		return refuse(why, -EIO, "certificates: %.300s cannot be read: %s", path, strerror(errno));
	if (len > CERTIFICATES_FILE_MAX)
		return refuse(why, -EBADMSG, "certificates: %.300s has more than %d bytes", path,
			      CERTIFICATES_FILE_MAX);
	*out = BIO_new(BIO_s_mem());		/* it overwrites what it held */
	if (!*out || BIO_write(*out, text, (int)len) != (int)len) {
		BIO_free(*out);
		*out = NULL;
		len = -ENOMEM;
	}
	OPENSSL_cleanse(text, CERTIFICATES_FILE_MAX + 1);
	return len < 0 ? refuse(why, -ENOMEM, "certificates: no memory to read %.300s", path) : 0;
}

int authority_load(struct x509_store_st **out, const char *path, char why[WHY_BYTES])
{
	X509_STORE *store = NULL;
	X509 *certificate;
	BIO *text = NULL;
	unsigned count = 0;
	int res = file_read(&text, path, 0, why);

	if (res < 0)
		return res;
	store = X509_STORE_new();
	while (store && (certificate = PEM_read_bio_X509(text, NULL, no_password, NULL))) {
		count += X509_STORE_add_cert(store, certificate) == 1;
		X509_free(certificate);
	}
	BIO_free(text);
	ERR_clear_error();
	if (count == 0) {
		X509_STORE_free(store);
		return refuse(why, -EBADMSG, "certificates: %.300s holds no certificate of an authority", path);
	}
	*out = store;
	return 0;
}

void authority_free(struct x509_store_st *authority)
{
	X509_STORE_free(authority);
}

static int key_load(struct certificates *c, const char *path, char why[WHY_BYTES])
{
	BIO *text = NULL;
	int res = file_read(&text, path, 027, why);

	if (res < 0)
		return res;
	c->key = PEM_read_bio_PrivateKey(text, NULL, no_password, NULL);
	BIO_free(text);
	return c->key ? 0 : refuse(why, -EBADMSG, "certificates: %.300s holds no key that is not encrypted", path);
}

static int chain_load(struct certificates *c, const char *path, char why[WHY_BYTES])
{
	X509 *certificate;
	BIO *text = NULL;
	int res = file_read(&text, path, 0, why);

	if (res < 0)
		return res;
	while (c->chain_count < CERTIFICATES_CHAIN_MAX &&
	       (certificate = PEM_read_bio_X509(text, NULL, no_password, NULL)))
		c->chain[c->chain_count++] = certificate;
	BIO_free(text);
	ERR_clear_error();
	return c->chain_count ? 0 : refuse(why, -EBADMSG, "certificates: %.300s holds no certificate", path);
}

static int load(struct certificates *c, const char *directory, char why[WHY_BYTES])
{
	char path[PATH_MAX + 32];
	int res;

	snprintf(path, sizeof path, "%.*s/ca-cert.pem", PATH_MAX, directory);
	res = authority_load(&c->authority, path, why);
	if (res < 0)
		return res;
	snprintf(path, sizeof path, "%.*s/server-cert.pem", PATH_MAX, directory);
	res = chain_load(c, path, why);
	if (res < 0)
		return res;
	snprintf(path, sizeof path, "%.*s/server-key.pem", PATH_MAX, directory);
	res = key_load(c, path, why);
	if (res < 0)
		return res;
	if (X509_check_private_key(c->chain[0], c->key) != 1)
		return refuse(why, -EBADMSG, "certificates: the key of %.250s is not that of server-cert.pem beside it",
			      path);
	return 0;
}

int certificates_load(struct certificates **out, const char *directory, char why[WHY_BYTES])
{
	struct certificates *c = calloc(1, sizeof *c);
	int res = c ? load(c, directory, why) : refuse(why, -ENOMEM, "certificates: no memory to read them");

	if (res < 0) {
		certificates_free(c);
		return res;
	}
	*out = c;
	return 0;
}

void certificates_free(struct certificates *c)
{
	if (!c)
		return;
	EVP_PKEY_free(c->key);		/* overwrites its private part */
	for (unsigned i = 0; i < c->chain_count; i++)
		X509_free(c->chain[i]);
	X509_STORE_free(c->authority);
	free(c);
}
