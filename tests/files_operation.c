/* SPDX-License-Identifier: Apache-2.0 */
#include "files_operation.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "acl.h"

enum { XATTR_DRAWN_MAX = 70000 };

static uint64_t below(struct operation_source *s, uint64_t bound) { return s->below(s, bound); }
static bool one_in(struct operation_source *s, uint64_t count) { return below(s, count) == 0; }

/* ---- drawing ---- */

void operation_draw_caller(struct operation_source *s, struct caller *out)
{
	static const uint32_t groups[] = { 200 };
	uint64_t who = below(s, 10);

	*out = (struct caller){ .umask = 022, .now = s->now };
	if (who == 0) {
		out->uid = 1001;
		out->gid = 100;
		out->umask = 027;
	} else if (who <= 3) {
		out->uid = 1000;
		out->gid = 100;
		out->groups = groups;
		out->group_count = 1;
		out->checked = who == 3;
	}
}

uint64_t operation_draw_inode(struct operation_source *s, struct model *m, uint32_t type)
{
	for (unsigned tries = 0; tries < 6; tries++) {
		const struct model_inode *i = &m->inodes[below(s, m->count)];

		if (!type || (i->a.mode & S_IFMT) == type)
			return i->a.ino;
	}
	if (one_in(s, 20))
		return 1ull << 40;
	return type == S_IFREG ? m->inodes[below(s, m->count)].a.ino : MODEL_ROOT;
}

static uint64_t draw_dir(struct operation_source *s, struct model *m)
{
	return operation_draw_inode(s, m, one_in(s, 30) ? 0 : S_IFDIR);
}

void operation_draw_name(struct operation_source *s, char n[OPERATION_NAME_BYTES])
{
	switch (below(s, 60)) {
	case 0: strcpy(n, "."); break;
	case 1: strcpy(n, ".."); break;
	case 2: strcpy(n, ""); break;
	case 3: strcpy(n, "a/b"); break;
	case 4: case 5: case 6:
		memset(n, 'x', 299);
		n[254] = (char)('0' + below(s, 3));
		n[255 + below(s, 8) / 7] = 0;
		break;
	case 7: strcpy(n, "\n"); break;
	case 8: strcpy(n, "...\xff\xfe\x01"); break;
	default:
		snprintf(n, OPERATION_NAME_BYTES, "%c%llu", "fdl"[below(s, 3)],
			 (unsigned long long)below(s, one_in(s, 4) ? 200 : 6));
	}
}

uint64_t operation_draw_size(struct operation_source *s)
{
	uint64_t size;

	switch (below(s, 12)) {
	case 0: return 0;
	case 1: case 2: case 3: return below(s, 300);
	case 4: size = below(s, 400000); break;
	case 5: size = below(s, 64) * BLOCK_BYTES; break;
	case 6: size = one_in(s, 6) ? below(s, 1500000) : below(s, 60000); break;
	default: size = below(s, 20000);
	}
	return size < s->file_bytes ? size : below(s, s->file_bytes);
}

static struct fs_time draw_time(struct operation_source *s)
{
	return (struct fs_time){ (int64_t)below(s, UINT64_MAX) >> below(s, 60), (uint32_t)below(s, 1000000000) };
}

static void draw_make(struct operation *op, struct operation_source *s, struct model *m)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR,
					  S_IFLNK, S_IFIFO, S_IFCHR, S_IFSOCK };

	op->parent = draw_dir(s, m);
	op->rdev = below(s, 1 << 20);
	op->mode = types[below(s, 9)] | (one_in(s, 8) ? (uint32_t)below(s, 07777) : 0777);
	if (S_ISLNK(op->mode))
		op->mode = S_IFLNK | 0777;
	else if (S_ISDIR(op->mode))
		op->mode = S_IFDIR | (op->mode & 01777);
	op->len = one_in(s, 4) ? below(s, 4100) : below(s, 60);
}

static void draw_open(struct operation *op, struct operation_source *s, struct model *m)
{
	static const int creates[] = { O_RDWR, O_WRONLY | O_EXCL, O_RDWR | O_TRUNC, O_RDONLY, O_WRONLY | O_TRUNC };
	static const int opens[] = { O_RDWR, O_RDONLY, O_WRONLY | O_TRUNC, O_RDONLY | O_DIRECTORY, O_RDWR | O_TRUNC };

	op->parent = draw_dir(s, m);
	op->ino = operation_draw_inode(s, m, 0);
	op->mode = (uint32_t)below(s, 07777);
	op->flags = op->verb == OPERATION_CREATE ? creates[below(s, 5)] : opens[below(s, 5)];
}

static void draw_rename(struct operation *op, struct operation_source *s, struct model *m)
{
	static const int flags[] = { 0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, 3, 4 };

	op->parent = draw_dir(s, m);
	op->new_parent = one_in(s, 3) ? op->parent : draw_dir(s, m);
	operation_draw_name(s, op->new_name);
	op->flags = flags[below(s, 9)];
}

static void draw_setattr(struct operation *op, struct operation_source *s, struct model *m)
{
	op->ino = operation_draw_inode(s, m, 0);
	op->set = (struct attributes_set){
		.valid = 1u << below(s, 11) | (one_in(s, 3) ? 1u << below(s, 11) : 0),
		.mode = (uint32_t)below(s, 010000), .uid = 1000 + (uint32_t)below(s, 3) % 2,
		.gid = (uint32_t)below(s, 3) * 100,
		.size = one_in(s, 30) ? FILE_BYTES_MAX + 1 : operation_draw_size(s),
		.atime = draw_time(s), .mtime = draw_time(s), .ctime = draw_time(s),
	};
}

static void draw_write(struct operation *op, struct operation_source *s, struct model *m)
{
	struct model_inode *i;

	op->ino = operation_draw_inode(s, m, one_in(s, 30) ? 0 : S_IFREG);
	op->offset = operation_draw_size(s);
	op->len = operation_draw_size(s);
	i = model_inode(m, op->ino);
	if (one_in(s, 2) && i)
		op->offset = i->a.size;		/* an append */
	if (op->offset + op->len >= s->file_bytes)
		op->len = op->offset < s->file_bytes ? s->file_bytes - op->offset : 0;
	if (one_in(s, 200)) {
		op->offset = FILE_BYTES_MAX;
		op->len = 1;
	}
}

static void draw_fallocate(struct operation *op, struct operation_source *s, struct model *m)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE };

	op->ino = operation_draw_inode(s, m, one_in(s, 30) ? 0 : S_IFREG);
	op->offset = operation_draw_size(s);
	op->len = operation_draw_size(s);
	op->len = min_u64(op->len, s->file_bytes - op->offset);
	op->flags = modes[below(s, 7)];
}

/* Mostly a list that is one: the three classes, some who are named, a mask when it needs one. */
static void draw_acl(struct operation *op, struct operation_source *s)
{
	static const uint32_t ids[] = { 1000, 1001, 100, 200, 300 };
	struct acl_entry_item at[OPERATION_ACL_ENTRIES];
	le32 version = to_le32(one_in(s, 40) ? 1 : ACL_VERSION);
	unsigned count = 0, users = (unsigned)below(s, 3), groups = (unsigned)below(s, 3);

	at[count++] = (struct acl_entry_item){ to_le16(ACL_USER_OBJ), to_le16((uint16_t)below(s, 8)), to_le32(~0u) };
	for (unsigned i = 0; i < users; i++)
		at[count++] = (struct acl_entry_item){ to_le16(ACL_USER), to_le16((uint16_t)below(s, 8)),
						       to_le32(ids[below(s, 2)]) };
	at[count++] = (struct acl_entry_item){ to_le16(ACL_GROUP_OBJ), to_le16((uint16_t)below(s, 8)), to_le32(~0u) };
	for (unsigned i = 0; i < groups; i++)
		at[count++] = (struct acl_entry_item){ to_le16(ACL_GROUP), to_le16((uint16_t)below(s, 8)),
						       to_le32(ids[2 + below(s, 3)]) };
	if (((users || groups) && !one_in(s, 20)) || one_in(s, 4))
		at[count++] = (struct acl_entry_item){ to_le16(ACL_MASK), to_le16((uint16_t)below(s, 8)),
						       to_le32(~0u) };
	at[count++] = (struct acl_entry_item){ to_le16(ACL_OTHER), to_le16((uint16_t)below(s, 8)), to_le32(~0u) };
	if (one_in(s, 20))
		at[below(s, count)].tag = to_le16((uint16_t)(1u << below(s, 8)));
	if (one_in(s, 40))
		at[below(s, count)].perm = to_le16(8);
	if (one_in(s, 20))
		count = (unsigned)below(s, count);
	memcpy(op->acl, &version, sizeof version);
	memcpy(op->acl + sizeof version, at, count * sizeof at[0]);
	op->acl_len = (uint32_t)(sizeof version + count * sizeof at[0]);
	if (one_in(s, 40))
		op->acl_len -= 1 + (uint32_t)below(s, 3);
}

static void draw_xattr(struct operation *op, struct operation_source *s, struct model *m)
{
	static const char *const names[] = { "user.a", "user.b", "trusted.t", "security.s", "user.", "other.x",
					     "user", "system.posix_acl" };

	op->ino = operation_draw_inode(s, m, 0);
	op->len = one_in(s, 8) ? below(s, min_u64(XATTR_DRAWN_MAX, s->file_bytes / 32)) : below(s, 2000);
	op->flags = (int)(one_in(s, 2) ? 0 : below(s, 5));
	memset(op->name, 0, sizeof op->name);
	strcpy(op->name, names[one_in(s, 8) ? below(s, 8) : below(s, 3)]);
	if (one_in(s, 10)) {
		memset(op->name + 5, 'n', 290);
		op->name[254 + below(s, 3)] = 0;
	}
	if (!one_in(s, 3))
		return;
	strcpy(op->name, one_in(s, 2) ? ACL_ACCESS_NAME : ACL_DEFAULT_NAME);
	op->len = 0;
	if (op->verb == OPERATION_SETXATTR && !one_in(s, 20))
		draw_acl(op, s);
}

void operation_draw(struct operation *op, struct operation_source *s, struct model *m)
{
	static const uint8_t verbs[] = {
		OPERATION_MAKE, OPERATION_MAKE, OPERATION_MAKE, OPERATION_CREATE, OPERATION_OPEN, OPERATION_UNLINK,
		OPERATION_UNLINK, OPERATION_RMDIR, OPERATION_LINK, OPERATION_RENAME, OPERATION_RENAME,
		OPERATION_RENAME, OPERATION_SETATTR, OPERATION_SETATTR, OPERATION_WRITE, OPERATION_WRITE,
		OPERATION_WRITE, OPERATION_WRITE, OPERATION_FALLOCATE, OPERATION_FALLOCATE, OPERATION_SETXATTR,
		OPERATION_SETXATTR, OPERATION_REMOVEXATTR, OPERATION_TMPFILE,
	};

	*op = (struct operation){ .fill = below(s, 1 << 20) };
	do
		op->verb = (enum operation_verb)verbs[below(s, sizeof verbs)];
	while (!s->may_open && (op->verb == OPERATION_OPEN || op->verb == OPERATION_CREATE ||
				op->verb == OPERATION_TMPFILE));
	operation_draw_caller(s, &op->caller);
	operation_draw_name(s, op->name);
	switch (op->verb) {
	case OPERATION_MAKE: draw_make(op, s, m); break;
	case OPERATION_CREATE: case OPERATION_OPEN: case OPERATION_TMPFILE: draw_open(op, s, m); break;
	case OPERATION_LINK: op->ino = operation_draw_inode(s, m, one_in(s, 3) ? 0 : S_IFREG); /* fall through */
	case OPERATION_UNLINK: case OPERATION_RMDIR: op->parent = draw_dir(s, m); break;
	case OPERATION_RENAME: draw_rename(op, s, m); break;
	case OPERATION_SETATTR: draw_setattr(op, s, m); break;
	case OPERATION_WRITE: draw_write(op, s, m); break;
	case OPERATION_FALLOCATE: draw_fallocate(op, s, m); break;
	case OPERATION_SETXATTR: case OPERATION_REMOVEXATTR: draw_xattr(op, s, m); break;
	case OPERATION_VERBS: break;
	}
}

/* ---- playing ---- */

static const uint8_t *bytes_of(const struct operation *op)
{
	static uint8_t bytes[OPERATION_FILE_BYTES_MAX + 1];

	CHECK(op->len < sizeof bytes);
	for (uint64_t i = 0; i < op->len; i++)
		bytes[i] = (uint8_t)(1 + (i + op->fill) * 167 % 251);
	return bytes;
}

static const char *target_of(const struct operation *op)
{
	static char target[5000];

	CHECK(op->len < sizeof target);
	memset(target, 't', op->len);
	target[op->len] = 0;
	return target;
}

static const void *value_of(const struct operation *op) { return op->acl_len ? op->acl : bytes_of(op); }
static size_t value_len(const struct operation *op) { return op->acl_len ? op->acl_len : op->len; }

static int run_make(struct operation *op, struct files *f)
{
	const struct caller *c = &op->caller;

	if (S_ISLNK(op->mode))
		return op_symlink(f, c, op->parent, op->name, target_of(op), &op->attributes);
	if (S_ISDIR(op->mode))
		return op_mkdir(f, c, op->parent, op->name, op->mode, &op->attributes);
	return op_mknod(f, c, op->parent, op->name, op->mode, op->rdev, &op->attributes);
}

int operation_run(struct operation *op, struct files *f)
{
	const struct caller *c = &op->caller;

	op->attributes = (struct attributes){ 0 };
	switch (op->verb) {
	case OPERATION_MAKE: return run_make(op, f);
	case OPERATION_CREATE:
		return op_create(f, c, op->parent, op->name, op->mode, op->flags, &op->attributes);
	case OPERATION_OPEN: return op_open(f, c, op->ino, op->flags, &op->attributes);
	case OPERATION_LINK: return op_link(f, c, op->ino, op->parent, op->name, &op->attributes);
	case OPERATION_UNLINK: return op_unlink(f, c, op->parent, op->name);
	case OPERATION_RMDIR: return op_rmdir(f, c, op->parent, op->name);
	case OPERATION_RENAME:
		return op_rename(f, c, op->parent, op->name, op->new_parent, op->new_name, (unsigned)op->flags);
	case OPERATION_SETATTR: return op_setattr(f, c, op->ino, &op->set, &op->attributes);
	case OPERATION_WRITE:
		return op_write(f, c, op->ino, op->offset, bytes_of(op), op->len, 0, &op->written);
	case OPERATION_FALLOCATE: return op_fallocate(f, c, op->ino, op->flags, op->offset, op->len);
	case OPERATION_SETXATTR:
		return op_setxattr(f, c, op->ino, op->name, value_of(op), value_len(op), op->flags);
	case OPERATION_REMOVEXATTR: return op_removexattr(f, c, op->ino, op->name);
	case OPERATION_TMPFILE: return op_tmpfile(f, c, op->parent, op->mode, &op->attributes);
	case OPERATION_VERBS: break;
	}
	return -ENOSYS;
}

int operation_model(const struct operation *op, struct model *m, int result)
{
	const struct caller *c = &op->caller;
	uint64_t made = op->attributes.ino;

	switch (op->verb) {
	case OPERATION_MAKE:
		return model_make(m, c, op->parent, op->name, op->mode, op->rdev,
				  S_ISLNK(op->mode) ? target_of(op) : NULL, made);
	case OPERATION_CREATE: return model_create(m, c, op->parent, op->name, op->mode, op->flags, made);
	case OPERATION_OPEN: return model_open(m, c, op->ino, op->flags);
	case OPERATION_LINK: return model_link(m, c, op->ino, op->parent, op->name);
	case OPERATION_UNLINK: return model_unlink(m, c, op->parent, op->name);
	case OPERATION_RMDIR: return model_rmdir(m, c, op->parent, op->name);
	case OPERATION_RENAME:
		return model_rename(m, c, op->parent, op->name, op->new_parent, op->new_name, (unsigned)op->flags);
	case OPERATION_SETATTR: return model_setattr(m, c, op->ino, &op->set);
	case OPERATION_WRITE:
		return model_write(m, c, op->ino, op->offset, bytes_of(op), result ? op->len : op->written);
	case OPERATION_FALLOCATE: return model_fallocate(m, c, op->ino, op->flags, op->offset, op->len);
	case OPERATION_SETXATTR:
		return model_setxattr(m, c, op->ino, op->name, value_of(op), value_len(op), op->flags);
	case OPERATION_REMOVEXATTR: return model_removexattr(m, c, op->ino, op->name);
	case OPERATION_TMPFILE: return model_tmpfile(m, c, op->parent, op->mode, made);
	case OPERATION_VERBS: break;
	}
	return -ENOSYS;
}

const char *operation_name(const struct operation *op)
{
	static const char *const names[OPERATION_VERBS] = {
		"make", "create", "open", "link", "unlink", "rmdir", "rename", "setattr", "write", "fallocate",
		"setxattr", "removexattr", "tmpfile",
	};

	return names[op->verb];
}

uint64_t operation_target(const struct operation *op, struct model *m)
{
	return op->verb == OPERATION_CREATE ? model_find(m, op->parent, op->name) : op->ino;
}
