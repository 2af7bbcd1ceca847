#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""conformance.py DIR [PATTERN]: what each system call answers in DIR, in each situation that can be made there: one line
"group case: answer", the same lines in the same order everywhere. As root, since it also asks as other users. Two
filesystems agree when their lines do; conformance_attributes.py has the cases of times, modes and bytes."""
import ctypes
import errno
import itertools
import os
import resource
import signal
import socket
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT = 1, 2, 8, 16, 32
OWNER, MATE, HELPER, OTHER = 61001, 61002, 61003, 61004		# mate: of the same group; helper: that is a supplementary one
GROUP, ALONE = 62001, 62002
USERS = {"root": None, "owner": (OWNER, GROUP, []), "mate": (MATE, GROUP, []), "helper": (HELPER, ALONE, [GROUP]),
         "other": (OTHER, ALONE, [])}


def call(name, *arguments):
    """A function of the C library; OSError with what it says."""
    converted = [os.fsencode(a) if isinstance(a, str) else ctypes.c_long(a) if isinstance(a, int) else a
                 for a in arguments]
    result = getattr(libc, name)(*converted)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def fallocate(fd, mode, offset, length):
    call("fallocate", fd, mode, offset, length)


def rename2(old, new, flags):
    call("renameat2", AT_FDCWD, old, AT_FDCWD, new, flags)


def answer(function, *arguments):
    """What it returned, or the name of its error."""
    try:
        result = function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "ok" if result is None else str(result)


def as_user(user, function, *arguments):
    """answer() of a process of that user."""
    if USERS[user] is None:
        return answer(function, *arguments)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            uid, gid, groups = USERS[user]
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            said = answer(function, *arguments)
        except BaseException as error:  # pylint: disable=broad-except
            said = repr(error)
        os.write(into, said.encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def write(path, data=b"data", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)


def opened(path, flags, mode=0o644):
    os.close(os.open(path, flags, mode))


def with_fd(path, flags, function):
    fd = os.open(path, flags)
    try:
        return function(fd)
    finally:
        os.close(fd)


# ---- what can be at a name

def make_socket(path):
    here = os.getcwd()
    os.chdir(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.basename(path))
    os.chdir(here)


def make_full(path):
    os.mkdir(path)
    write(path + "/inside")


def make_loop(path):
    os.symlink(os.path.basename(path), path)


def make_link_to(target, make):
    def both(path):
        make(path + target)
        os.symlink(os.path.basename(path) + target, path)
    return both


KINDS = {
    "nothing": lambda path: None, "file": write, "directory": os.mkdir, "full-directory": make_full, "fifo": os.mkfifo,
    "socket": make_socket, "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3)),
    "link-to-file": make_link_to("-f", write), "link-to-directory": make_link_to("-d", os.mkdir),
    "dangling-link": lambda path: os.symlink("nowhere", path), "looping-link": make_loop,
}

# What is done to a path; each is given the path and a directory that is its own.
OPERATIONS = {
    "stat": lambda p, d: os.stat(p) and None, "lstat": lambda p, d: os.lstat(p) and None,
    "open-read": lambda p, d: opened(p, os.O_RDONLY | os.O_NONBLOCK),
    "open-write": lambda p, d: opened(p, os.O_WRONLY | os.O_NONBLOCK),
    "open-truncate": lambda p, d: opened(p, os.O_RDWR | os.O_TRUNC | os.O_NONBLOCK),
    "open-read-truncate": lambda p, d: opened(p, os.O_RDONLY | os.O_TRUNC | os.O_NONBLOCK),
    "open-create": lambda p, d: opened(p, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK),
    "open-exclusive": lambda p, d: opened(p, os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "open-directory": lambda p, d: opened(p, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK),
    "open-create-directory": lambda p, d: opened(p, os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY | os.O_NONBLOCK),
    "open-nofollow": lambda p, d: opened(p, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK),
    "open-create-nofollow": lambda p, d: opened(p, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK),
    "open-path": lambda p, d: opened(p, os.O_PATH), "open-path-nofollow": lambda p, d: opened(p, os.O_PATH | os.O_NOFOLLOW),
    "open-temporary": lambda p, d: opened(p, os.O_RDWR | os.O_TMPFILE),
    "mkdir": lambda p, d: os.mkdir(p), "rmdir": lambda p, d: os.rmdir(p), "unlink": lambda p, d: os.unlink(p),
    "mkfifo": lambda p, d: os.mkfifo(p), "mknod": lambda p, d: os.mknod(p, stat.S_IFBLK | 0o600, os.makedev(7, 0)),
    "mknod-file": lambda p, d: os.mknod(p, stat.S_IFREG | 0o600), "mknod-directory": lambda p, d: os.mknod(p, stat.S_IFDIR | 0o700),
    "symlink": lambda p, d: os.symlink("x", p), "readlink": lambda p, d: os.readlink(p) and None,
    "chmod": lambda p, d: os.chmod(p, 0o700), "chown": lambda p, d: os.chown(p, OWNER, GROUP),
    "lchown": lambda p, d: os.lchown(p, OWNER, GROUP), "truncate": lambda p, d: os.truncate(p, 2),
    "utime": lambda p, d: os.utime(p, (1, 2)), "lutime": lambda p, d: os.utime(p, (1, 2), follow_symlinks=False),
    "access": lambda p, d: call("access", p, os.R_OK | os.W_OK), "exec": lambda p, d: call("access", p, os.X_OK),
    "chdir": lambda p, d: os.chdir(p), "readdir": lambda p, d: len(os.listdir(p)), "statfs": lambda p, d: os.statvfs(p) and None,
    "setxattr": lambda p, d: os.setxattr(p, "user.x", b"1"), "lsetxattr": lambda p, d: os.setxattr(p, "user.x", b"1", follow_symlinks=False),
    "getxattr": lambda p, d: os.getxattr(p, "user.x") and None, "removexattr": lambda p, d: os.removexattr(p, "user.x"),
    "listxattr": lambda p, d: os.listxattr(p) and None,
    "trusted": lambda p, d: os.setxattr(p, "trusted.x", b"1", follow_symlinks=False),
    "bind": lambda p, d: make_socket(p) if p.rpartition("/")[2] else os.mkdir(p),
    "link-from": lambda p, d: os.link(p, d + "/linked"), "link-from-followed": lambda p, d: call("linkat", AT_FDCWD, p, AT_FDCWD, d + "/linked", AT_SYMLINK_FOLLOW),
    "link-to": lambda p, d: os.link(d + "/spare", p), "rename-from": lambda p, d: os.rename(p, d + "/renamed"),
    "rename-to": lambda p, d: os.rename(d + "/spare", p), "rename-directory-to": lambda p, d: os.rename(d + "/spared", p),
}


NEED_SPARE = ("link-to", "rename-to", "rename-directory-to")


class Run:
    def __init__(self, directory, pattern):
        self.top, self.pattern, self.count = directory, pattern, 0

    def fresh(self, mode=0o755, spare=True):
        """A directory for one case, with a file and a directory to spare."""
        self.count += 1
        path = f"{self.top}/{self.count}"
        os.mkdir(path)
        if mode != 0o755:
            os.chmod(path, mode)
        if spare:
            write(path + "/spare")
            os.mkdir(path + "/spared")
        return path

    def say(self, group, case, what):
        line = f"{group} {case}: {what}"
        if self.pattern in line:
            print(line.encode("utf-8", "backslashreplace").decode())


def tree(path):
    """What is below it, in one line, with inodes that are the same named the same."""
    seen, found = {}, []
    for at, directories, files in os.walk(path):
        directories.sort()
        for name in sorted(directories + files):
            st = os.lstat(f"{at}/{name}")
            number = seen.setdefault(st.st_ino, len(seen))
            size = st.st_size if not stat.S_ISDIR(st.st_mode) else "-"
            found.append(f"{os.path.relpath(f'{at}/{name}', path)}={number}{stat.filemode(st.st_mode)}{st.st_nlink}.{size}")
    return " ".join(sorted(found))


# ---- one path

def one_path(run):
    """Every operation on everything that can be at a name."""
    for kind, operation in itertools.product(KINDS, OPERATIONS):
        where = run.fresh(spare=operation in NEED_SPARE)
        KINDS[kind](where + "/it")
        said = answer(OPERATIONS[operation], where + "/it", where)
        os.chdir("/")
        run.say("one", f"{operation} {kind}", f"{said} [{tree(where)}]")


def long_path(where, length):
    """A path of that many bytes, as directories that exist, but for its last name."""
    path = where
    os.chdir(where)
    while length - len(path) > 256:
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
        path += "/" + "d" * 200
    return path + "/" + "e" * (length - len(path) - 1)


ODD_PATHS = {
    "empty": lambda w: "", "name-255": lambda w: w + "/" + "n" * 255, "name-256": lambda w: w + "/" + "n" * 256,
    "name-utf8-256": lambda w: w + "/" + "ä" * 128, "path-4095": lambda w: long_path(w, 4095),
    "path-4096": lambda w: long_path(w, 4096), "through-file": lambda w: w + "/spare/x",
    "through-nothing": lambda w: w + "/no/x", "through-loop": lambda w: (make_loop(w + "/loop"), w + "/loop/x")[1],
    "through-fifo": lambda w: (os.mkfifo(w + "/fifo"), w + "/fifo/x")[1], "dot": lambda w: w + "/.", "dotdot": lambda w: w + "/..",
    "directory-dot": lambda w: w + "/spared/.", "directory-dotdot": lambda w: w + "/spared/..",
    "file-slash": lambda w: w + "/spare/", "directory-slash": lambda w: w + "/spared/", "nothing-slash": lambda w: w + "/no/",
    "nothing-slashes": lambda w: w + "/no//", "file-dot": lambda w: w + "/spare/.", "name-255-slash": lambda w: w + "/" + "n" * 255 + "/",
    "through-256": lambda w: w + "/" + "n" * 256 + "/x", "odd-bytes": lambda w: w + "/\x01 \xff\n*",
}


def odd_paths(run):
    for odd, operation in itertools.product(ODD_PATHS, OPERATIONS):
        above = run.fresh(spare=False)
        where = above + "/w"
        os.mkdir(where)
        write(where + "/spare")
        os.mkdir(where + "/spared")
        path = ODD_PATHS[odd](where)
        os.chdir(where)
        said = answer(OPERATIONS[operation], path, where)
        os.chdir("/")
        if not odd.startswith("path-"):
            said += f" [{tree(where)}]"
        run.say("odd", f"{operation} {odd}", said)


def chain_of_links(run):
    where = run.fresh()
    for count in (1, 8, 39, 40, 41):
        write(f"{where}/l{count}-0")
        for i in range(count):
            os.symlink(f"l{count}-{i}", f"{where}/l{count}-{i + 1}")
        run.say("links", str(count), answer(opened, f"{where}/l{count}-{count}", os.O_RDONLY))
    for length in (1, 59, 60, 255, 1023, 4095, 4096):
        said = answer(os.symlink, "t" * length, f"{where}/length-{length}")
        if said == "ok":
            said += f" {len(os.readlink(f'{where}/length-{length}'))} {os.lstat(f'{where}/length-{length}').st_size}"
        run.say("links", f"target of {length}", said)


# ---- two paths

MOVES = {
    "rename": os.rename, "link": os.link, "noreplace": lambda a, b: rename2(a, b, NOREPLACE),
    "exchange": lambda a, b: rename2(a, b, EXCHANGE), "both": lambda a, b: rename2(a, b, NOREPLACE | EXCHANGE),
}


def two_paths(run):
    for move, kind, onto in itertools.product(MOVES, KINDS, KINDS):
        where = run.fresh(spare=False)
        for side, make in (("a", KINDS[kind]), ("b", KINDS[onto])):
            os.mkdir(f"{where}/{side}")
            make(f"{where}/{side}/it")
        said = answer(MOVES[move], where + "/a/it", where + "/b/it")
        run.say("two", f"{move} {kind} {onto}", f"{said} [{tree(where)}]")
    for move in MOVES:
        where = run.fresh()
        os.makedirs(where + "/d/e/f")
        os.link(where + "/spare", where + "/same")
        for a, b in (("d", "d/e"), ("d", "d/e/g"), ("d/e/f", "d"), ("d/e", "d/e"), ("spare", "spare"), ("spare", "same"),
                     ("d", "d/."), ("d/.", "g"), ("d/..", "g"), ("d", "g/"), ("spare", "h/"), ("d/e", "g/e/"), ("d", "..")):
            said = answer(MOVES[move], f"{where}/{a}", f"{where}/{b}")
            run.say("two", f"{move} {a} to {b}", f"{said} [{tree(where)}]")


def other_filesystem(run):
    where = run.fresh()
    write("/dev/shm/conformance-spare")
    for move in MOVES:
        run.say("exdev", move, answer(MOVES[move], where + "/spare", "/dev/shm/conformance-moved"))
        run.say("exdev", move + " back", answer(MOVES[move], "/dev/shm/conformance-spare", where + "/moved"))
    os.unlink("/dev/shm/conformance-spare")
    os.mkdir(where + "/point")
    call("mount", "none", where + "/point", "tmpfs", 0, None)
    for name in ("rmdir", "unlink", "rename-from"):
        run.say("busy", name, answer(OPERATIONS[name], where + "/point", where))
    run.say("busy", "rename over", answer(os.rename, where + "/spared", where + "/point"))
    run.say("busy", "through the mount", answer(os.rename, where + "/spare", where + "/point/spare"))
    call("umount", where + "/point")


# ---- permission

def permissions(run):
    """Each user on a file and on a directory of each mode."""
    operations = ["open-read", "open-write", "open-truncate", "open-read-truncate", "truncate", "chmod", "chown", "utime", "exec",
                  "setxattr", "getxattr", "access", "unlink", "rename-from", "rename-to", "link-from",
                  "trusted", "removexattr", "open-temporary", "readdir", "chdir"]
    for kind, mode in itertools.product(("file", "directory"), (0o000, 0o640, 0o604, 0o077, 0o6755)):
        for user, operation in itertools.product(USERS, operations):
            where = run.fresh(0o777, operation in NEED_SPARE)
            KINDS[kind](where + "/it")
            if operation in ("getxattr", "removexattr"):
                os.setxattr(where + "/it", "user.x", b"1")
            os.chown(where + "/it", OWNER, GROUP)
            os.chmod(where + "/it", mode)
            said = as_user(user, OPERATIONS[operation], where + "/it", where)
            now = stat.filemode(os.lstat(where + "/it").st_mode) if os.path.lexists(where + "/it") else ""
            run.say("may", f"{operation} {kind} of {mode:o} by {user}", f"{said} {now}")


def directory_permissions(run):
    """Each user on what lies in a directory of each mode, sticky too."""
    operations = {"open-create": ("nothing", "file"), "open-read": ("file",), "unlink": ("nothing", "file"),
                  "rename-from": ("file", "directory"), "rename-to": ("nothing", "file"), "link-to": ("nothing",),
                  "mkdir": ("nothing", "file"), "mknod": ("nothing",), "rmdir": ("directory",), "link-from": ("file",),
                  "open-temporary": ("directory",), "rename-directory-to": ("directory",)}
    for mode, of in itertools.product((0o1777, 0o755, 0o711, 0o444, 0o1770, 0o3777), (OWNER, OTHER)):
        for user, operation in itertools.product(USERS, operations):
            for kind in operations[operation]:
                where = run.fresh(0o777, operation in NEED_SPARE)
                os.mkdir(where + "/in")
                KINDS[kind](where + "/in/it")
                if kind != "nothing":
                    os.chown(where + "/in/it", MATE, GROUP)
                os.chown(where + "/in", of, GROUP)
                os.chmod(where + "/in", mode)
                if operation in NEED_SPARE:
                    os.chown(where + "/spare", OTHER, GROUP)
                    os.chown(where + "/spared", OTHER, GROUP)
                run.say("in", f"{operation} {kind} by {user} in {mode:o} of {'owner' if of == OWNER else 'other'}",
                        as_user(user, OPERATIONS[operation], where + "/in/it", where))


def change_modes(run):
    """chmod and chown by those who may, and what becomes of setuid and setgid."""
    for user, mode, kind in itertools.product(USERS, (0o6755, 0o2745, 0o1777), ("file", "directory")):
        for uid, gid in ((OWNER, -1), (-1, GROUP), (-1, ALONE), (MATE, -1), (-1, -1), (OWNER, GROUP), (0, 0)):
            where = run.fresh(spare=False)
            KINDS[kind](where + "/it")
            os.chown(where + "/it", OWNER, GROUP)
            os.chmod(where + "/it", mode)
            said = as_user(user, os.chown, where + "/it", uid, gid)
            st = os.stat(where + "/it")
            run.say("chown", f"{user} {kind} {mode:o} {uid} {gid}", f"{said} {st.st_mode:o} {st.st_uid} {st.st_gid}")
        for new, gid in itertools.product((0o6777, 0o2710, 0o1777, 0o0), (GROUP, ALONE)):
            where = run.fresh(spare=False)
            KINDS[kind](where + "/it")
            os.chown(where + "/it", OWNER, gid)
            said = as_user(user, os.chmod, where + "/it", new)
            run.say("chmod", f"{user} {kind} {new:o} {gid}", f"{said} {os.stat(where + '/it').st_mode:o}")


def new_owners(run):
    """Owner, group and mode of what is made: umask, setgid directories."""
    makers = ["open-create", "mkdir", "mkfifo", "symlink", "mknod-file", "bind"]
    for user, mode, mask in itertools.product(("root", "mate", "other"), (0o777, 0o2777), (0, 0o22, 0o77)):
        for maker in makers:
            where = run.fresh(spare=False)
            os.mkdir(where + "/in")
            os.chown(where + "/in", OWNER, GROUP)
            os.chmod(where + "/in", mode)
            before = os.umask(mask)
            said = as_user(user, OPERATIONS[maker], where + "/in/it", where)
            os.umask(before)
            if not os.path.lexists(where + "/in/it"):
                run.say("new", f"{user} {mode:o} {mask:o} {maker}", said)
                continue
            st = os.lstat(where + "/in/it")
            run.say("new", f"{user} {mode:o} {mask:o} {maker}", f"{said} {st.st_mode:o} {st.st_uid} {st.st_gid}")
    for user, mode in itertools.product(("mate", "other", "helper"), (0o2755, 0o6777, 0o2711)):
        where = run.fresh(0o2777)
        os.chown(where, OWNER, GROUP)
        before = os.umask(0)
        as_user(user, lambda at=where, m=mode: opened(at + "/it", os.O_RDWR | os.O_CREAT, m))
        as_user(user, lambda at=where, m=mode: os.mkdir(at + "/in", m))
        os.umask(before)
        run.say("new", f"{user} {mode:o} in setgid", f"{os.stat(where + '/it').st_mode:o} {os.stat(where + '/in').st_mode:o}")


# ---- open files

def handles(run):
    """What open descriptors answer."""
    for kind in ("file", "directory", "fifo"):
        for flags, how in ((os.O_RDONLY, "r"), (os.O_RDWR, "rw"), (os.O_PATH, "path"), (os.O_RDWR | os.O_APPEND, "append"),
                           (os.O_RDWR | os.O_DIRECT, "direct")):
            where = run.fresh()
            KINDS[kind](where + "/it")
            try:
                fd = os.open(where + "/it", flags | os.O_NONBLOCK)
            except OSError as error:
                run.say("fd", f"{kind} {how} open", errno.errorcode[error.errno])
                continue
            for name, function in {
                    "pread": lambda: os.pread(fd, 1, 0), "pwrite": lambda: os.pwrite(fd, b"x", 0), "read": lambda: os.read(fd, 1),
                    "ftruncate": lambda: os.ftruncate(fd, 1), "fsync": lambda: os.fsync(fd), "fchmod": lambda: os.fchmod(fd, 0o600),
                    "fdatasync": lambda: os.fdatasync(fd), "negative": lambda: os.pread(fd, 1, -1),
                    "fchown": lambda: os.fchown(fd, OWNER, GROUP), "futime": lambda: os.utime(fd, (1, 2)),
                    "fsetxattr": lambda: os.setxattr(fd, "user.x", b"1"), "fallocate": lambda: fallocate(fd, 0, 0, 10),
                    "advise": lambda: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED),
                    "seek-end": lambda: os.lseek(fd, 0, os.SEEK_END) if kind == "file" else None,
                    "seek-data": lambda: os.lseek(fd, 0, os.SEEK_DATA) if kind != "directory" else None,
                    "seek-hole": lambda: os.lseek(fd, 0, os.SEEK_HOLE) if kind != "directory" else None,
                    "seek-beyond": lambda: os.lseek(fd, 1 << 62, os.SEEK_SET) if kind != "file" else None,
                    "listdir": lambda: len(os.listdir(fd)), "openat": lambda: os.close(os.open("x", os.O_RDONLY, dir_fd=fd)),
                    "flags": lambda: os.lseek(fd, 0, 9)}.items():
                run.say("fd", f"{kind} {how} {name}", answer(function))
            os.close(fd)


def unlinked(run):
    where = run.fresh()
    fd = os.open(where + "/spare", os.O_RDWR)
    os.unlink(where + "/spare")
    st = os.fstat(fd)
    run.say("gone", "file", f"{st.st_nlink} {st.st_size} {answer(os.pwrite, fd, b'more', 4)} {answer(os.pread, fd, 9, 0)}")
    run.say("gone", "file link", answer(os.link, f"/proc/self/fd/{fd}", where + "/again"))
    run.say("gone", "file link followed", answer(call, "linkat", AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, where + "/again",
                                                 AT_SYMLINK_FOLLOW))
    for name, function in (("chmod", lambda: os.fchmod(fd, 0o600)), ("truncate", lambda: os.ftruncate(fd, 1)),
                           ("setxattr", lambda: os.setxattr(fd, "user.x", b"1")), ("sync", lambda: os.fsync(fd)),
                           ("reopen", lambda: opened(f"/proc/self/fd/{fd}", os.O_RDWR)), ("size", lambda: os.fstat(fd).st_size)):
        run.say("gone", "file " + name, answer(function))
    os.close(fd)
    fd = os.open(where + "/spared", os.O_RDONLY)
    os.chdir(where + "/spared")
    os.rmdir(where + "/spared")
    run.say("gone", "directory", f"{os.fstat(fd).st_nlink} {answer(os.listdir, fd)} {answer(os.stat, '..')[:2]}")
    for name in ("open-create", "mkdir", "symlink", "mkfifo", "stat", "open-temporary"):
        run.say("gone", "in directory " + name, answer(lambda n=name: OPERATIONS[n]("x", where) if n != "bind" else None))
    run.say("gone", "link into directory", answer(os.link, where + "/x", "x"))
    run.say("gone", "rename into directory", answer(os.rename, KINDS["file"](where + "/x") or where + "/x", "x"))
    run.say("gone", "fchmod directory", answer(os.fchmod, fd, 0o700))
    run.say("gone", "getcwd", answer(os.getcwd))
    os.chdir("/")
    os.close(fd)
    write(where + "/y", b"under")
    write(where + "/z", b"over")
    with open(where + "/y", "rb") as file:
        os.rename(where + "/z", where + "/y")
        run.say("gone", "renamed over", f"{file.read()} {os.fstat(file.fileno()).st_nlink}")


def temporary(run):
    """O_TMPFILE, and a name for it."""
    where = run.fresh()
    for flags, how in ((0, "plain"), (os.O_EXCL, "exclusive")):
        try:
            fd = os.open(where, os.O_RDWR | os.O_TMPFILE | flags, 0o640)
        except OSError as error:
            run.say("temporary", how, errno.errorcode[error.errno])
            continue
        os.write(fd, b"text")
        run.say("temporary", how, f"{os.fstat(fd).st_nlink} {os.fstat(fd).st_mode:o} {sorted(os.listdir(where))}")
        run.say("temporary", how + " link", answer(call, "linkat", AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, where + "/t" + how,
                                                   AT_SYMLINK_FOLLOW))
        run.say("temporary", how + " linked", f"{os.fstat(fd).st_nlink} {answer(os.pread, fd, 9, 0)} {tree(where)}")
        os.close(fd)
    run.say("temporary", "read-only", answer(opened, where, os.O_RDONLY | os.O_TMPFILE))
    os.chmod(where, 0o755)
    run.say("temporary", "other", as_user("other", opened, where, os.O_RDWR | os.O_TMPFILE))


def running_programs(run):
    where = run.fresh()
    with open("/bin/sleep", "rb") as file:
        write(where + "/sleep", file.read(), 0o755)
    child = os.posix_spawn(where + "/sleep", ["sleep", "20"], {})
    for how, flags in (("write", os.O_WRONLY), ("truncate", os.O_RDWR | os.O_TRUNC), ("read", os.O_RDONLY)):
        run.say("text", how, answer(opened, where + "/sleep", flags))
    run.say("text", "truncate()", answer(os.truncate, where + "/sleep", 3))
    run.say("text", "unlink", answer(os.unlink, where + "/sleep"))
    os.kill(child, 9)
    os.waitpid(child, 0)
    write(where + "/script", b"#!/bin/sh\nexit 7\n", 0o755)
    fd = os.open(where + "/script", os.O_WRONLY)
    run.say("text", "run what is written", answer(os.posix_spawn, where + "/script", ["x"], {}))
    os.close(fd)
    run.say("text", "run", os.WEXITSTATUS(os.waitpid(os.posix_spawn(where + "/script", ["x"], {}), 0)[1]))
    os.chmod(where + "/script", 0o644)
    run.say("text", "run what is no program", answer(os.posix_spawn, where + "/script", ["x"], {}))


def limits(run):
    """EFBIG and what else a size may be."""
    where = run.fresh()
    fd = os.open(where + "/it", os.O_RDWR | os.O_CREAT)
    for name, function in {
            "truncate negative": lambda: os.ftruncate(fd, -1), "write at 2^63-1": lambda: os.pwrite(fd, b"xx", (1 << 63) - 1),
            "truncate 2^62": lambda: os.ftruncate(fd, 1 << 62), "read far": lambda: os.pread(fd, 1, 1 << 40),
            "allocate nothing": lambda: fallocate(fd, 0, 0, 0), "allocate negative": lambda: fallocate(fd, 0, -1, 5),
            "allocate far": lambda: fallocate(fd, 0, 1 << 60, 5), "punch without keep": lambda: fallocate(fd, PUNCH_HOLE, 0, 5),
            "punch and zero": lambda: fallocate(fd, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, 0, 5),
            "unknown mode": lambda: fallocate(fd, 1 << 20, 0, 5), "sparse 1 TiB": lambda: os.ftruncate(fd, 1 << 40),
            "blocks of sparse": lambda: os.fstat(fd).st_blocks, "append behind 1 TiB": lambda: os.pwrite(fd, b"x", 1 << 40),
            "size": lambda: os.fstat(fd).st_size, "back": lambda: os.ftruncate(fd, 0)}.items():
        run.say("limit", name, answer(function))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    said = {}
    for name, function in {"write across": lambda: os.pwrite(fd, b"x" * 20, 990), "write behind": lambda: os.pwrite(fd, b"x", 1000),
                           "truncate": lambda: os.ftruncate(fd, 1001), "allocate": lambda: fallocate(fd, 0, 0, 1001),
                           "size": lambda: os.fstat(fd).st_size}.items():
        said[name] = answer(function)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for name, what in said.items():
        run.say("limit", "RLIMIT_FSIZE " + name, what)
    os.close(fd)


GROUPS = {"one": one_path, "odd": odd_paths, "links": chain_of_links, "two": two_paths, "other": other_filesystem,
          "may": permissions, "in": directory_permissions, "owner": change_modes, "new": new_owners, "handles": handles,
          "unlinked": unlinked, "temporary": temporary, "running": running_programs, "limits": limits}


def main(groups):
    """Each group in a process of its own, which writes into a file of its own."""
    directory, pattern = os.path.realpath(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    os.umask(0o022)
    children = {}
    for group, function in groups.items():
        out = os.memfd_create(group)
        child = os.fork()
        if child == 0:
            os.dup2(out, 1)
            os.mkdir(f"{directory}/{group}")
            function(Run(f"{directory}/{group}", pattern))
            sys.stdout.flush()
            os._exit(0)
        children[group] = child, out
    failed = 0
    for group, (child, out) in children.items():
        failed |= os.waitpid(child, 0)[1]
        with os.fdopen(out, "r") as said:
            said.seek(0)
            sys.stdout.write(said.read())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(GROUPS)
