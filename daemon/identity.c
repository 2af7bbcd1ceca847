/* SPDX-License-Identifier: Apache-2.0 */
/* A node's key and certificate, and fingerprints as text.
 *
 *	identity_create()	key, certificate, both as text; certificate, then key, each whole under its name
 *	identity_load()		who may touch the files, then their bytes, then identity_parse(), then whose they are
 *
 * Invariant: no byte of a private key is in a message, and the memory that held one as text is overwritten. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "auto.h"
#include "config.h"
#include "config_text.h"
#include "identity.h"

struct identity {
	EVP_PKEY *key;
	X509 *certificate;
	uint8_t fingerprint[FINGERPRINT_BYTES];
};

static const char key_name[] = "identity.key", certificate_name[] = "identity.crt";
enum { IDENTITY_PATH_MAX = PATH_MAX + 32 };

static inline void auto_bio(BIO **bio) { BIO_free(*bio); }	/* a memory BIO overwrites what it held */
static inline void auto_key(EVP_PKEY **key) { EVP_PKEY_free(*key); }
static inline void auto_certificate(X509 **certificate) { X509_free(*certificate); }
static inline void auto_identity(struct identity **identity) { identity_free(*identity); }
#define AUTO_BIO __attribute__((cleanup(auto_bio)))
#define AUTO_KEY __attribute__((cleanup(auto_key)))
#define AUTO_CERTIFICATE __attribute__((cleanup(auto_certificate)))
#define AUTO_IDENTITY __attribute__((cleanup(auto_identity)))

__attribute__((format(printf, 3, 4)))
static int refuse(char why[WHY_BYTES], int res, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, WHY_BYTES, format, args);
	va_end(args);
	return res;
}

static void path_of(char out[IDENTITY_PATH_MAX], const char *directory, const char *name, const char *ending)
{
	snprintf(out, IDENTITY_PATH_MAX, "%.*s/%s%s", PATH_MAX, directory, name, ending);
}

/* ---- fingerprints ---------------------------------------------------------------------------------- */

int fingerprint_of(const struct x509_st *certificate, uint8_t out[FINGERPRINT_BYTES])
{
	unsigned char *der = NULL;
	X509_PUBKEY *key = X509_get_X509_PUBKEY(certificate);
	int len = key ? i2d_X509_PUBKEY(key, &der) : -1;

	if (len <= 0)
		return -EBADMSG;
	SHA256(der, (size_t)len, out);
	OPENSSL_free(der);
	return 0;
}

void fingerprint_text(const uint8_t fingerprint[FINGERPRINT_BYTES], char out[FINGERPRINT_TEXT_BYTES])
{
	int len = sprintf(out, "sha256:");

	for (unsigned i = 0; i < FINGERPRINT_BYTES; i++)
		len += sprintf(out + len, "%02x", fingerprint[i]);
}

void fingerprint_short(const uint8_t fingerprint[FINGERPRINT_BYTES], char out[FINGERPRINT_SHORT_BYTES])
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

	for (unsigned i = 0; i < 16; i++) {
		unsigned bit = 5 * i, pair = (unsigned)fingerprint[bit / 8] << 8 | fingerprint[bit / 8 + 1];

		if (i && i % 4 == 0)
			*out++ = '-';
		*out++ = digits[pair >> (11 - bit % 8) & 31];
	}
	*out = '\0';
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int fingerprint_parse(const char *text, uint8_t out[FINGERPRINT_BYTES])
{
	if (strncmp(text, "sha256:", 7) != 0 || strlen(text) != 7 + 2 * FINGERPRINT_BYTES)
		return -EINVAL;
	for (unsigned i = 0; i < FINGERPRINT_BYTES; i++) {
		int high = hex_digit(text[7 + 2 * i]), low = hex_digit(text[8 + 2 * i]);

		if (high < 0 || low < 0)
			return -EINVAL;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

int certificate_node(const struct x509_st *certificate, char out[NAME_BYTES])
{
	X509_NAME *subject = X509_get_subject_name(certificate);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	char why[WHY_BYTES];
	int len;

	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return -EBADMSG;
	len = X509_NAME_get_text_by_NID(subject, NID_commonName, out, NAME_BYTES);
	/* A longer one is cut off there, and would be another name. */
	if (len <= 0 || len != ASN1_STRING_length(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))) ||
	    strlen(out) != (size_t)len || name_check(out, why) < 0) {
		*out = '\0';
		return -EBADMSG;
	}
	return 0;
}

static void urn_of(const uint8_t uuid[UUID_BYTES], char out[48])
{
	strcpy(out, "urn:uuid:");
	uuid_text(uuid, out + 9);
}

static bool certificate_has_uuid(X509 *certificate, const uint8_t uuid[UUID_BYTES])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	char urn[48];
	bool found = false;

	urn_of(uuid, urn);
	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		found = name->type == GEN_URI &&
			ASN1_STRING_length(name->d.uniformResourceIdentifier) == (int)strlen(urn) &&
			memcmp(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier), urn, strlen(urn)) == 0;
	}
	GENERAL_NAMES_free(names);
	return found;
}

/* ---- making one ------------------------------------------------------------------------------------ */

static int extension_add(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	int done = extension && X509_add_ext(certificate, extension, -1);

	X509_EXTENSION_free(extension);
	return done ? 0 : -ENOMEM;
}

/* It never expires: what ends a key's time is that the peers drop its fingerprint (RFC 5280, 4.1.2.5, has this date
 * for that). A clock that is wrong at first start does no harm either. */
static int certificate_fill(X509 *certificate, EVP_PKEY *key, const char *node, const uint8_t uuid[UUID_BYTES])
{
	X509_NAME *subject = X509_get_subject_name(certificate);
	uint8_t serial[16];
	BIGNUM *number;
	char urn[48], value[56];
	bool done;

	if (RAND_bytes(serial, sizeof serial) != 1)
		return -EIO;
	serial[0] &= 0x7f;
	number = BN_bin2bn(serial, sizeof serial, NULL);
	done = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	urn_of(uuid, urn);
	snprintf(value, sizeof value, "URI:%s", urn);
	if (!done || !X509_set_version(certificate, X509_VERSION_3) ||
	    !ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate), "20000101000000Z") ||
	    !ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), "99991231235959Z") ||
	    !X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC, (const uint8_t *)node, -1, -1, 0) ||
	    !X509_set_issuer_name(certificate, subject) || !X509_set_pubkey(certificate, key) ||
	    extension_add(certificate, NID_basic_constraints, "critical,CA:FALSE") < 0 ||
	    extension_add(certificate, NID_key_usage, "critical,digitalSignature") < 0 ||
	    extension_add(certificate, NID_subject_alt_name, value) < 0)
		return -ENOMEM;
	return X509_sign(certificate, key, NULL) > 0 ? 0 : -ENOMEM;	/* Ed25519 has its own digest */
}

/* @name in @directory has the bytes of @text, durably, under its final name or not at all. */
static int file_make(const char *directory, const char *name, mode_t mode, BIO *text, char why[WHY_BYTES])
{
	char path[IDENTITY_PATH_MAX], part[IDENTITY_PATH_MAX];
	char *bytes;
	long len = BIO_get_mem_data(text, &bytes);
	AUTO_CLOSE int fd = -1;

	path_of(path, directory, name, "");
	path_of(part, directory, name, ".new");
	(void)!unlink(part);		/* of a crash */
	fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0 || fchmod(fd, mode) < 0 || write(fd, bytes, (size_t)len) != len || fsync(fd) < 0 ||
	    rename(part, path) < 0) {
		int res = errno ? -errno : -EIO;

		(void)!unlink(part);
		return refuse(why, res, "identity %s: cannot be written: %s; make room or correct permissions", path,
			      strerror(-res));
	}
	return 0;
}

static int directory_sync(const char *directory, char why[WHY_BYTES])
{
	AUTO_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && fsync(fd) == 0)
		return 0;
	return refuse(why, -errno, "directory %.300s: cannot be synced: %s", directory, strerror(errno));
}

static int directory_make(const char *directory, char why[WHY_BYTES])
{
	char path[PATH_MAX];
	int res = snprintf(path, sizeof path, "%s", directory);

	if (res >= (int)sizeof path)
		return refuse(why, -ENAMETOOLONG, "identity: the path of its directory is too long");
	for (char *at = path + 1; ; at++) {
		char was = *at;

		if (was != '/' && was != '\0')
			continue;
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return refuse(why, -errno, "directory %.300s: cannot be made: %s", path, strerror(errno));
		*at = was;
		if (was == '\0')
			return 0;
	}
}

static int files_make(const char *directory, EVP_PKEY *key, X509 *certificate, char why[WHY_BYTES])
{
	AUTO_BIO BIO *key_text = BIO_new(BIO_s_mem()), *certificate_text = BIO_new(BIO_s_mem());
	int res;

	if (!key_text || !certificate_text || !PEM_write_bio_X509(certificate_text, certificate) ||
	    !PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL))
		return refuse(why, -ENOMEM, "identity: no memory to write it");
	res = directory_make(directory, why);
	if (res == 0)
		res = file_make(directory, certificate_name, 0644, certificate_text, why);
	if (res == 0)
		res = directory_sync(directory, why);
	/* From here on there is an identity, and its certificate is durable. */
	if (res == 0)
		res = file_make(directory, key_name, 0600, key_text, why);
	if (res == 0)
		res = directory_sync(directory, why);
	return res;
}

int identity_create(const char *directory, const char *node, const uint8_t uuid[UUID_BYTES], char why[WHY_BYTES])
{
	AUTO_KEY EVP_PKEY *key = NULL;
	AUTO_CERTIFICATE X509 *certificate = NULL;
	char path[IDENTITY_PATH_MAX];
	struct stat st;

	path_of(path, directory, key_name, "");
	if (lstat(path, &st) == 0)
		return refuse(why, -EEXIST, "identity %s: exists already and is not overwritten", path);
	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	certificate = X509_new();
	if (!key || !certificate || certificate_fill(certificate, key, node, uuid) < 0)
		return refuse(why, -ENOMEM, "identity: OpenSSL cannot make an Ed25519 key and a certificate; is its "
			      "configuration restricted?");
	return files_make(directory, key, certificate, why);
}

void identity_remove(const char *directory)
{
	char path[IDENTITY_PATH_MAX];

	path_of(path, directory, key_name, "");
	(void)!unlink(path);
	path_of(path, directory, certificate_name, "");
	(void)!unlink(path);
	(void)!rmdir(directory);	/* only when it is empty */
}

/* ---- reading it ------------------------------------------------------------------------------------ */

/* A key in a file may be encrypted: nobody is asked for a word, on no terminal. */
static int no_password(char *out, int room, int writing, void *context)
{
	(void)out;
	(void)room;
	(void)writing;
	(void)context;
	return -1;
}

int identity_parse(struct identity **out, const void *key, size_t key_len, const void *certificate,
		   size_t certificate_len, const char *path, char why[WHY_BYTES])
{
	AUTO_IDENTITY struct identity *identity = calloc(1, sizeof *identity);
	AUTO_BIO BIO *key_text = NULL, *certificate_text = NULL;

	if (!identity)
		return refuse(why, -ENOMEM, "identity %s: no memory to read it", path);
	if (key_len > IDENTITY_FILE_MAX || certificate_len > IDENTITY_FILE_MAX)
		return refuse(why, -EBADMSG, "identity %s: key or certificate is longer than %d bytes", path,
			      IDENTITY_FILE_MAX);
	key_text = BIO_new_mem_buf(key, (int)key_len);
	certificate_text = BIO_new_mem_buf(certificate, (int)certificate_len);
	if (!key_text || !certificate_text)
		return refuse(why, -ENOMEM, "identity %s: no memory to read it", path);
	identity->key = PEM_read_bio_PrivateKey(key_text, NULL, no_password, NULL);
	if (!identity->key || !EVP_PKEY_is_a(identity->key, "ED25519"))
		return refuse(why, -EBADMSG, "identity %s: %s holds no Ed25519 key that is not encrypted; put back the "
			      "one that was there", path, key_name);
	identity->certificate = PEM_read_bio_X509(certificate_text, NULL, no_password, NULL);
	if (!identity->certificate)
		return refuse(why, -EBADMSG, "identity %s: %s holds no certificate; put back the one that was there",
			      path, certificate_name);
	if (X509_check_private_key(identity->certificate, identity->key) != 1 ||
	    fingerprint_of(identity->certificate, identity->fingerprint) < 0)
		return refuse(why, -EBADMSG, "identity %s: the key of %s is not that of %s; put back the pair that was "
			      "there", path, key_name, certificate_name);
	*out = TAKE_POINTER(identity);
	return 0;
}

/* At most IDENTITY_FILE_MAX + 1 bytes; their number or -errno. A key that others can read is no secret any more. */
static int file_read(const char *directory, const char *name, mode_t forbidden, char out[IDENTITY_FILE_MAX + 1],
		     char why[WHY_BYTES])
{
	char path[IDENTITY_PATH_MAX];
	struct stat st;
	ssize_t len;
	AUTO_CLOSE int fd = -1;

	path_of(path, directory, name, "");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return refuse(why, -ENOENT, "identity %s: there is none; make it with: holdfast identity VOLUME "
			      "--create", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse(why, -errno, "identity %s: cannot be read: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(why, -EPERM, "identity %s: is no file", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return refuse(why, -EPERM, "identity %s: belongs to user %u, who could change it; chown it to the user "
			      "that runs the daemon", path, (unsigned)st.st_uid);
	if (st.st_mode & forbidden)
		return refuse(why, -EPERM, "identity %s: has mode %04o, so others could %s it; chmod %s it, and make a "
			      "new one if somebody may have", path, (unsigned)(st.st_mode & 07777),
			      forbidden & 044 ? "read" : "change", forbidden & 044 ? "600" : "644");
	len = read(fd, out, IDENTITY_FILE_MAX + 1);
	if (len < 0)
		return refuse(why, -errno, "identity %s: cannot be read: %s", path, strerror(errno));
	return (int)len;
}

static int load(struct identity **out, const char *directory, char key[IDENTITY_FILE_MAX + 1], char why[WHY_BYTES])
{
	char certificate[IDENTITY_FILE_MAX + 1];
	int key_len = file_read(directory, key_name, 077, key, why), len;

	if (key_len < 0)
		return key_len;
	len = file_read(directory, certificate_name, 022, certificate, why);
	return len < 0 ? len : identity_parse(out, key, (size_t)key_len, certificate, (size_t)len, directory, why);
}

int identity_load(struct identity **out, const char *directory, const char *node, const uint8_t *uuid,
		  char why[WHY_BYTES])
{
	AUTO_IDENTITY struct identity *identity = NULL;
	char key[IDENTITY_FILE_MAX + 1], name[NAME_BYTES];
	int res = load(&identity, directory, key, why);

	OPENSSL_cleanse(key, sizeof key);
	if (res < 0)
		return res;
	if (certificate_node(identity->certificate, name) < 0 || strcmp(name, node) != 0)
		return refuse(why, -EINVAL, "identity %s: is of node \"%s\", and this node is %s", directory, name,
			      node);
	if (uuid && !certificate_has_uuid(identity->certificate, uuid))
		return refuse(why, -EINVAL, "identity %s: is of another volume (its uuid differs)", directory);
	*out = TAKE_POINTER(identity);
	return 0;
}

void identity_free(struct identity *identity)
{
	if (!identity)
		return;
	EVP_PKEY_free(identity->key);	/* overwrites its private part */
	X509_free(identity->certificate);
	free(identity);
}

struct evp_pkey_st *identity_key(const struct identity *identity)
{
	return identity->key;
}

struct x509_st *identity_certificate(const struct identity *identity)
{
	return identity->certificate;
}

void identity_fingerprint(const struct identity *identity, uint8_t out[FINGERPRINT_BYTES])
{
	memcpy(out, identity->fingerprint, FINGERPRINT_BYTES);
}
