/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "config.h"
#include "config_text.h"

static const char units[] = "BKMGTPE";

int name_check(const char *name, char why[WHY_BYTES])
{
	size_t len = strlen(name);

	if (len == 0 || len >= NAME_BYTES) {
		snprintf(why, WHY_BYTES, "the name \"%.80s\" has %zu bytes, 1 to %d are allowed",
			 name, len, NAME_BYTES - 1);
		return -EINVAL;
	}
	for (const char *at = name; *at; at++) {
		bool alphanumeric = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
				    (*at >= '0' && *at <= '9');

		if (alphanumeric || *at == '_' || (at > name && (*at == '-' || *at == '.')))
			continue;
		snprintf(why, WHY_BYTES, "the name \"%s\" may have letters, digits, - _ . "
			 "and does not start with a dot or dash", name);
		return -EINVAL;
	}
	return 0;
}

static int address_refuse(const char *address, const char *reason, char why[WHY_BYTES])
{
	snprintf(why, WHY_BYTES, "the address \"%.140s\" %s", address, reason);
	return -EINVAL;
}

/* Digits only, as neither strtol() nor atoi() insists on. */
static bool port_valid(const char *port)
{
	unsigned value = 0;

	if (!*port || strlen(port) > 5)
		return false;
	for (; *port; port++) {
		if (*port < '0' || *port > '9')
			return false;
		value = value * 10 + (unsigned)(*port - '0');
	}
	return value >= 1 && value <= 65535;
}

/* Splits "HOST:PORT" and "[HOST]:PORT"; @host has ADDRESS_BYTES. Returns the port, or NULL. */
static const char *address_split(const char *address, char *host, bool *v6)
{
	const char *start = address, *end = strrchr(address, ':'), *port;

	if (!end)
		return NULL;
	port = end + 1;
	*v6 = *start == '[';
	if (*v6) {
		start++;
		if (end == start || *--end != ']')
			return NULL;
	}
	if (end < start)
		return NULL;
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = 0;
	return port;
}

int address_check(const char *address, char why[WHY_BYTES])
{
	struct sockaddr_un un;
	struct in_addr in;
	struct in6_addr in6;
	char host[ADDRESS_BYTES];
	const char *port;
	bool v6;

	if (strlen(address) >= ADDRESS_BYTES)
		return address_refuse(address, "is too long", why);
	if (strncmp(address, "unix:", 5) == 0) {
		if (address[5] != '/' || strlen(address + 5) >= sizeof un.sun_path)
			return address_refuse(
				address, "is not unix: and an absolute path of at most 107 bytes",
				why);
		return 0;
	}
	port = address_split(address, host, &v6);
	if (!port || !port_valid(port))
		return address_refuse(address, "is not IPv4:PORT, [IPv6]:PORT or unix:/PATH", why);
	if (v6) {
		char *zone = strchr(host, '%');

		if (zone && !zone[1])
			return address_refuse(address, "has an empty zone", why);
		if (zone)
			*zone = 0;
		if (inet_pton(AF_INET6, host, &in6) != 1)
			return address_refuse(address,
					      "is not IPv4:PORT, [IPv6]:PORT or unix:/PATH", why);
	} else if (inet_pton(AF_INET, host, &in) != 1) {
		return address_refuse(address, "is not IPv4:PORT, [IPv6]:PORT or unix:/PATH "
				      "(names are not looked up)", why);
	}
	return 0;
}

bool address_is_local(const char *address)
{
	char host[ADDRESS_BYTES], why[WHY_BYTES];
	struct in6_addr in6;
	struct in_addr in;
	bool v6;

	if (address_check(address, why) < 0)
		return false;
	if (strncmp(address, "unix:", 5) == 0)
		return true;
	(void)!address_split(address, host, &v6);
	return v6 ? inet_pton(AF_INET6, host, &in6) == 1 && IN6_IS_ADDR_LOOPBACK(&in6) :
		    inet_pton(AF_INET, host, &in) == 1 && ntohl(in.s_addr) >> 24 == 127;
}

/* Decimal digits at @text; *end is what follows them. */
static int digits_parse(const char *text, uint64_t *value, const char **end)
{
	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (*value = 0; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(*text - '0'), value))
			return -ERANGE;
	*end = text;
	return 0;
}

int size_parse(const char *text, uint64_t *bytes)
{
	const char *end, *unit;
	uint64_t value;
	int res = digits_parse(text, &value, &end);

	if (res < 0)
		return res;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || (end[1] && strcmp(end + 1, "iB") != 0))
			return -EINVAL;
		if (__builtin_mul_overflow(value, UINT64_C(1) << 10 * (unit - units), &value))
			return -ERANGE;
	}
	*bytes = value;
	return 0;
}

void size_exact_text(uint64_t bytes, char out[24])
{
	unsigned unit = 0;

	while (bytes && bytes % 1024 == 0 && unit < 4) {
		bytes /= 1024;
		unit++;
	}
	snprintf(out, 24, "%" PRIu64 "%.*s", bytes, unit > 0, units + unit);
}

void size_text(uint64_t bytes, char out[32])
{
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1024 && unit < sizeof units - 2) {
		value /= 1024;
		unit++;
	}
	if (unit == 0)
		snprintf(out, 32, "%" PRIu64 " B", bytes);
	else
		snprintf(out, 32, "%.*f %ciB", bytes % (UINT64_C(1) << 10 * unit) ? 1 : 0, value,
			 units[unit]);
}

int duration_parse(const char *text, uint64_t *ns)
{
	const char *end;
	uint64_t value, unit;
	int res = digits_parse(text, &value, &end);

	if (res < 0)
		return res;
	if (strcmp(end, "ms") == 0)
		unit = 1000000;
	else if (strcmp(end, "s") == 0)
		unit = 1000000000;
	else
		return -EINVAL;
	return __builtin_mul_overflow(value, unit, ns) ? -ERANGE : 0;
}

int mode_parse(const char *text, enum replication_mode *mode)
{
	if (text[0] < 'A' || text[0] > 'D' || text[1])
		return -EINVAL;
	*mode = MODE_A + (enum replication_mode)(text[0] - 'A');
	return 0;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef",
		   *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

int uuid_parse(const char *text, uint8_t uuid[UUID_BYTES])
{
	uint8_t parsed[UUID_BYTES] = { 0 };
	unsigned digits = 0;

	for (; *text; text++) {
		int digit = hex_digit(*text);

		if (*text == '-' && digits > 0 && text[1] && text[1] != '-')
			continue;
		if (digit < 0 || digits == 2 * UUID_BYTES)
			return -EINVAL;
		parsed[digits / 2] = (uint8_t)(parsed[digits / 2] << 4 | digit);
		digits++;
	}
	if (digits != 2 * UUID_BYTES)
		return -EINVAL;
	memcpy(uuid, parsed, UUID_BYTES);
	return 0;
}

void uuid_text(const uint8_t uuid[UUID_BYTES], char out[37])
{
	char *at = out;

	for (unsigned i = 0; i < UUID_BYTES; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		at += snprintf(at, 3, "%02x", uuid[i]);
	}
}
