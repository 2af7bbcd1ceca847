#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""conformance_attributes.py DIR [PATTERN]: as conformance.py, of what is not an error: which times each operation moves, what
times may be set, what a write takes from the mode, extended attributes, access control lists, links, directories, locks."""
import ctypes
import fcntl
import itertools
import mmap
import os
import select
import stat
import struct
import subprocess
import time

import conformance as c
from conformance import answer, as_user, call, fallocate, opened, rename2, write, GROUP, MATE, OWNER, USERS

ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xFFFFFFFF


# ---- times

def snapshot(paths):
    found = {}
    for name, path in paths.items():
        if os.path.lexists(path):
            st = os.lstat(path)
            found[name] = (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)
    return found


def moved(before, after):
    said = []
    for name in sorted(set(before) | set(after)):
        if name in before and name in after and before[name][3] == after[name][3]:
            which = "".join(letter for letter, old, new in zip("amc", before[name], after[name]) if old != new)
            said.append(f"{name}:{which or '-'}")
        else:
            said.append(f"{name}:{'gone' if name not in after else 'new'}")
    return " ".join(said)


def with_mapping(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4) as m:
        m[0:2] = b"zz"
        m.flush()


def handle(path, flags, function):
    def run():
        fd = os.open(path, flags)
        function(fd)
        os.close(fd)
    return run


def times(run):
    """Of the file, of its directory and of another directory: which times an operation moves."""
    def of(w):
        f, d = w + "/in/f", w + "/in"
        return {
            "chmod": lambda: os.chmod(f, 0o600), "chmod-same": lambda: os.chmod(f, 0o644), "chown": lambda: os.chown(f, 5, 6),
            "chown-nobody": lambda: os.chown(f, -1, -1), "utime": lambda: os.utime(f, (7, 8)), "utime-now": lambda: os.utime(f),
            "utime-atime": lambda: os.utime(f, ns=(9, os.stat(f).st_mtime_ns)), "link": lambda: os.link(f, w + "/to/l"),
            "unlink": lambda: os.unlink(f), "unlink-one": lambda: (os.link(f, w + "/l"), time.sleep(0.02), os.unlink(w + "/l"))[0],
            "rename": lambda: os.rename(f, w + "/to/g"), "rename-within": lambda: os.rename(f, d + "/g"),
            "rename-over": lambda: os.rename(f, w + "/to/t"), "rename-directory": lambda: os.rename(d + "/s", w + "/to/s"),
            "exchange": lambda: rename2(f, w + "/to/t", 2), "rename-same": lambda: os.rename(f, f),
            "mkdir": lambda: os.mkdir(d + "/n"), "rmdir": lambda: os.rmdir(d + "/s"), "create": lambda: write(d + "/n"),
            "symlink": lambda: os.symlink("x", d + "/n"), "mkfifo": lambda: os.mkfifo(d + "/n"), "write": handle(f, os.O_RDWR, lambda fd: os.write(fd, b"x")),
            "write-nothing": handle(f, os.O_RDWR, lambda fd: os.write(fd, b"")), "append": handle(f, os.O_RDWR | os.O_APPEND, lambda fd: os.write(fd, b"x")),
            "truncate": lambda: os.truncate(f, 1), "truncate-same": lambda: os.truncate(f, 4), "truncate-larger": lambda: os.truncate(f, 9),
            "ftruncate-same": handle(f, os.O_RDWR, lambda fd: os.ftruncate(fd, 4)), "open-truncate": lambda: opened(f, os.O_WRONLY | os.O_TRUNC),
            "open-truncate-empty": lambda: opened(w + "/in/e", os.O_WRONLY | os.O_TRUNC), "open": lambda: opened(f, os.O_RDWR),
            "open-create": lambda: opened(f, os.O_RDWR | os.O_CREAT), "fallocate": handle(f, os.O_RDWR, lambda fd: fallocate(fd, 0, 0, 9000)),
            "fallocate-keep": handle(f, os.O_RDWR, lambda fd: fallocate(fd, 1, 0, 9000)), "punch": handle(f, os.O_RDWR, lambda fd: fallocate(fd, 3, 0, 2)),
            "mapping": lambda: with_mapping(f), "setxattr": lambda: os.setxattr(f, "user.a", b"1"), "getxattr": lambda: os.getxattr(f, "user.b"),
            "removexattr": lambda: os.removexattr(f, "user.b"), "removexattr-none": lambda: os.removexattr(f, "user.none"),
            "setxattr-directory": lambda: os.setxattr(d, "user.a", b"1"), "stat": lambda: os.stat(f), "access": lambda: os.access(f, os.R_OK),
            "fsync": handle(f, os.O_RDWR, os.fsync), "failed-mkdir": lambda: os.mkdir(d + "/s"), "failed-rmdir": lambda: os.rmdir(w + "/in"),
            "failed-unlink": lambda: os.unlink(d + "/none"), "failed-rename": lambda: os.rename(d + "/s", w + "/to/t"),
            "copy-range": handle(f, os.O_RDWR, lambda fd: os.copy_file_range(fd, fd, 2, 0, 2)),
            "chmod-directory": lambda: os.chmod(d, 0o700), "lchown-link": lambda: os.lchown(d + "/y", 3, 4),
        }
    cases = {}
    for name in of("/nowhere"):
        w = run.fresh(spare=False)
        for at in ("in", "to", "in/s"):
            os.mkdir(f"{w}/{at}")
        write(w + "/in/f")
        write(w + "/in/e", b"")
        write(w + "/to/t")
        os.symlink("f", w + "/in/y")
        os.setxattr(w + "/in/f", "user.b", b"1")
        cases[name] = w
    time.sleep(0.05)		# a filesystem's clock may go in steps
    for name, w in cases.items():
        paths = {p: f"{w}/{p}" for p in ("in", "to", "in/f", "in/e", "in/s", "in/y", "to/t")}
        before = snapshot(paths)
        said = answer(lambda n=name, at=w: of(at)[n]() and None)
        run.say("times", name, f"{said} {moved(before, snapshot(paths))}")


def access_times(run):
    """relatime: the first read after a change moves it, the second does not."""
    w = run.fresh()
    reads = {"file": (w + "/f", lambda: open(w + "/f", "rb").read()), "directory": (w + "/d", lambda: os.listdir(w + "/d")),
             "link": (w + "/l", lambda: os.readlink(w + "/l")),
             "mapping": (w + "/m", lambda: mmap.mmap(os.open(w + "/m", os.O_RDONLY), 4, prot=mmap.PROT_READ)[0:2]),
             "pread-nothing": (w + "/n", lambda: os.pread(os.open(w + "/n", os.O_RDONLY), 0, 0)),
             "at-end": (w + "/e", lambda: os.pread(os.open(w + "/e", os.O_RDONLY), 9, 100)),
             "noatime": (w + "/a", lambda: os.read(os.open(w + "/a", os.O_RDONLY | os.O_NOATIME), 9)),
             "empty": (w + "/z", lambda: open(w + "/z", "rb").read())}
    for name, (path, _) in reads.items():
        if name == "directory":
            os.mkdir(path)
            write(path + "/x")
        elif name == "link":
            os.symlink("f", path)
        else:
            write(path, b"" if name == "empty" else b"data")
        os.utime(path, (100, 200), follow_symlinks=False)
    for name, (path, read) in reads.items():
        said = []
        for _ in range(2):
            before = os.lstat(path).st_atime_ns
            time.sleep(0.01)
            read()
            said.append("moved" if os.lstat(path).st_atime_ns != before else "same")
        run.say("atime", name, " ".join(said))
    run.say("atime", "O_NOATIME of another's file", as_user("other", opened, w + "/f", os.O_RDONLY | os.O_NOATIME))


def set_times(run):
    w = run.fresh()
    now, omit = (1 << 30) - 1, (1 << 30) - 2
    for name, seconds, nanoseconds in (("zero", 0, 0), ("last-ns", 5, 999999999), ("past-ns", 5, 1000000000), ("negative-ns", 5, -1),
                                       ("before-1970", -1, 1), ("1902", -(1 << 31), 0), ("2038", 1 << 31, 5), ("2106", 1 << 32, 7),
                                       ("2400", 13569465600, 9), ("now", 0, now), ("omit", 0, omit), ("now-odd", 77, now)):
        for which in (0, 1):
            pair = [0, omit, 0, omit]
            pair[2 * which], pair[2 * which + 1] = seconds, nanoseconds
            os.utime(w + "/spare", ns=(3, 4))
            said = answer(call, "utimensat", c.AT_FDCWD, w + "/spare", struct.pack("qqqq", *pair), 0)
            st = os.stat(w + "/spare")
            shown = [t if abs(t - time.time_ns()) > 10**11 else "now" for t in (st.st_atime_ns, st.st_mtime_ns)]
            run.say("utimens", f"{name} {'am'[which]}", f"{said} {shown}")
    for user, mode in itertools.product(USERS, (0o644, 0o666, 0o444)):
        for name, pair in (("now", (0, now, 0, now)), ("set", (1, 2, 3, 4)), ("atime-now", (0, now, 0, omit)), ("omit", (0, omit, 0, omit))):
            os.chown(w + "/spare", OWNER, GROUP)
            os.chmod(w + "/spare", mode)
            os.chmod(w, 0o755)
            run.say("utimens", f"{name} by {user} of {mode:o}",
                    as_user(user, call, "utimensat", c.AT_FDCWD, w + "/spare", struct.pack("qqqq", *pair), 0))


# ---- what a change by a user takes from the mode

def lost_privileges(run):
    changes = {
        "write": lambda p: handle(p, os.O_WRONLY, lambda fd: os.write(fd, b"x"))(), "open-truncate": lambda p: opened(p, os.O_WRONLY | os.O_TRUNC),
        "write-nothing": lambda p: handle(p, os.O_WRONLY, lambda fd: os.write(fd, b""))(),
        "truncate": lambda p: os.truncate(p, 1), "truncate-same": lambda p: os.truncate(p, 4), "mapping": with_mapping,
        "ftruncate": lambda p: handle(p, os.O_WRONLY, lambda fd: os.ftruncate(fd, 2))(),
        "fallocate": lambda p: handle(p, os.O_WRONLY, lambda fd: fallocate(fd, 0, 0, 100))(),
        "punch": lambda p: handle(p, os.O_WRONLY, lambda fd: fallocate(fd, 3, 0, 2))(),
        "direct": lambda p: handle(p, os.O_WRONLY | os.O_DIRECT, lambda fd: os.writev(fd, [mmap.mmap(-1, 4096)]))(),
        "setxattr": lambda p: os.setxattr(p, "user.x", b"1"), "read": lambda p: open(p, "rb").read(), "utime": os.utime,
        "link": lambda p: os.link(p, p + "-2"),
    }
    for user, name, mode in itertools.product(("root", "owner", "other"), changes, (0o6777, 0o2767, 0o4776)):
        w = run.fresh(0o777, spare=False)
        write(w + "/f")
        os.chown(w + "/f", OWNER, GROUP)
        os.chmod(w + "/f", mode)
        said = as_user(user, lambda n=name, at=w: changes[n](at + "/f") and None)
        run.say("privilege", f"{name} by {user} of {mode:o}", f"{said} {os.stat(w + '/f').st_mode:o}")


# ---- extended attributes and ACLs

def xattrs(run):
    names = {"user": "user.x", "long": "user." + "n" * 250, "too-long": "user." + "n" * 251, "no-name": "user.", "trusted": "trusted.x",
             "security": "security.x", "system": "system.x", "unknown": "other.x", "empty": "", "no-dot": "user", "utf8": "user.ä"}
    for kind, name in itertools.product(("file", "directory", "fifo", "dangling-link", "device"), names):
        w = run.fresh(0o777, spare=False)
        c.KINDS[kind](w + "/it")
        said = [answer(lambda at=w, n=name: function(at + "/it", n)) for function in (
            lambda p, n: os.getxattr(p, names[n], follow_symlinks=False),
            lambda p, n: os.setxattr(p, names[n], b"v", os.XATTR_REPLACE, follow_symlinks=False),
            lambda p, n: os.setxattr(p, names[n], b"value", os.XATTR_CREATE, follow_symlinks=False),
            lambda p, n: os.setxattr(p, names[n], b"v", os.XATTR_CREATE, follow_symlinks=False),
            lambda p, n: os.setxattr(p, names[n], b"", os.XATTR_REPLACE, follow_symlinks=False),
            lambda p, n: os.getxattr(p, names[n], follow_symlinks=False),
            lambda p, n: sorted(os.listxattr(p, follow_symlinks=False)),
            lambda p, n: os.removexattr(p, names[n], follow_symlinks=False),
            lambda p, n: os.removexattr(p, names[n], follow_symlinks=False))]
        run.say("xattr", f"{name} of {kind}", " ".join(said))
    w = run.fresh()
    os.setxattr(w + "/spare", "user.ten", b"0123456789")
    for size in (0, 1, 9, 10, 11):
        room = ctypes.create_string_buffer(20)
        run.say("xattr", f"getxattr into {size}", answer(call, "getxattr", w + "/spare", "user.ten", room, size))
        run.say("xattr", f"listxattr into {size}", answer(call, "listxattr", w + "/spare", room, size))
    run.say("xattr", "value of 65537", answer(os.setxattr, w + "/spare", "user.big", b"x" * 65537))
    run.say("xattr", "unknown flag", answer(call, "setxattr", w + "/spare", "user.y", b"x", 1, 8))
    for user in ("owner", "other"):
        for mode in (0o644, 0o600, 0o444):
            os.chown(w + "/spare", OWNER, GROUP)
            os.chmod(w + "/spare", mode)
            said = [as_user(user, os.getxattr, w + "/spare", "user.ten"), as_user(user, os.setxattr, w + "/spare", "user.ten", b"0123456789"),
                    as_user(user, os.getxattr, w + "/spare", "trusted.ten"), as_user(user, os.listxattr, w + "/spare")]
            run.say("xattr", f"by {user} of {mode:o}", " ".join(said))
    os.chmod(w + "/spared", 0o1777)
    run.say("xattr", "of a sticky directory by other", as_user("other", os.setxattr, w + "/spared", "user.x", b"1"))


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


ACLS = {
    "mate-rw": acl((ACL_USER_OBJ, 7, NOBODY), (ACL_USER, 6, MATE), (ACL_GROUP_OBJ, 4, NOBODY), (ACL_MASK, 6, NOBODY), (ACL_OTHER, 0, NOBODY)),
    "masked": acl((ACL_USER_OBJ, 6, NOBODY), (ACL_USER, 7, c.OTHER), (ACL_GROUP_OBJ, 7, NOBODY), (ACL_GROUP, 7, GROUP), (ACL_MASK, 4, NOBODY),
                  (ACL_OTHER, 7, NOBODY)),
    "none-for-mate": acl((ACL_USER_OBJ, 7, NOBODY), (ACL_USER, 0, MATE), (ACL_GROUP_OBJ, 7, NOBODY), (ACL_MASK, 7, NOBODY), (ACL_OTHER, 7, NOBODY)),
    "minimal": acl((ACL_USER_OBJ, 6, NOBODY), (ACL_GROUP_OBJ, 4, NOBODY), (ACL_OTHER, 4, NOBODY)),
    "no-mask": acl((ACL_USER_OBJ, 7, NOBODY), (ACL_USER, 6, MATE), (ACL_GROUP_OBJ, 4, NOBODY), (ACL_OTHER, 0, NOBODY)),
    "no-other": acl((ACL_USER_OBJ, 7, NOBODY), (ACL_GROUP_OBJ, 4, NOBODY)), "empty": acl(), "short": b"\2\0", "version-1": struct.pack("<I", 1),
    "unsorted": acl((ACL_OTHER, 4, NOBODY), (ACL_USER_OBJ, 7, NOBODY), (ACL_GROUP_OBJ, 4, NOBODY)),
    "twice": acl((ACL_USER_OBJ, 7, NOBODY), (ACL_USER, 6, MATE), (ACL_USER, 5, MATE), (ACL_GROUP_OBJ, 4, NOBODY), (ACL_MASK, 6, NOBODY), (ACL_OTHER, 0, NOBODY)),
    "bad-permission": acl((ACL_USER_OBJ, 17, NOBODY), (ACL_GROUP_OBJ, 4, NOBODY), (ACL_OTHER, 0, NOBODY)),
}


def lists(run):
    """Access control lists: who may then, the mode they make, and what is inherited."""
    for name, value in ACLS.items():
        w = run.fresh(0o777)
        write(w + "/f")
        os.mkdir(w + "/d")
        for path in ("/f", "/d"):
            os.chown(w + path, OWNER, GROUP)
        said = [answer(os.setxattr, w + "/f", "system.posix_acl_access", value), answer(os.setxattr, w + "/d", "system.posix_acl_default", value),
                answer(os.setxattr, w + "/f", "system.posix_acl_default", value)]
        run.say("acl", f"{name} set", f"{' '.join(said)} {os.stat(w + '/f').st_mode:o} {answer(os.getxattr, w + '/f', 'system.posix_acl_access')}")
        for user in USERS:
            run.say("acl", f"{name} {user}", " ".join(as_user(user, opened, w + "/f", flags) for flags in (os.O_RDONLY, os.O_WRONLY)))
        for mask, mode in ((0o022, 0o666), (0o077, 0o777), (0, 0o640)):
            os.umask(mask)
            opened(f"{w}/d/f{mode:o}", os.O_CREAT | os.O_RDWR, mode)
            os.mkdir(f"{w}/d/d{mode:o}", mode)
            os.symlink("x", f"{w}/d/l{mode:o}")
            os.umask(0o022)
            for made in ("f", "d", "l"):
                at = f"{w}/d/{made}{mode:o}"
                got = [answer(lambda p=at, n=n: os.getxattr(p, "system.posix_acl_" + n, follow_symlinks=False)) for n in ("access", "default")]
                run.say("acl", f"{name} inherited by {made} {mode:o} {mask:o}", f"{os.lstat(at).st_mode:o} {got}")
        for mode in (0o777, 0o600, 0o6075):
            os.chmod(w + "/f", mode)
            run.say("acl", f"{name} chmod {mode:o}", f"{os.stat(w + '/f').st_mode:o} {answer(os.getxattr, w + '/f', 'system.posix_acl_access')}")
        said = [as_user("other", os.setxattr, w + "/f", "system.posix_acl_access", ACLS["minimal"]),
                as_user("owner", os.setxattr, w + "/f", "system.posix_acl_access", ACLS["mate-rw"]),
                answer(os.removexattr, w + "/f", "system.posix_acl_access"), answer(os.removexattr, w + "/f", "system.posix_acl_access"),
                answer(os.listxattr, w + "/d")]
        run.say("acl", f"{name} removed", f"{' '.join(said)} {os.stat(w + '/f').st_mode:o}")


# ---- links, directories, bytes, locks, events

def counts(run):
    """Link counts of directories through all that moves them; what a directory lists."""
    w = run.fresh()
    steps = {"start": lambda: None, "mkdir": lambda: os.mkdir(w + "/spared/a"), "second": lambda: os.mkdir(w + "/spared/b"), "file": lambda: write(w + "/spared/f"),
             "link": lambda: os.symlink("a", w + "/spared/l"), "rename-in": lambda: os.rename(w + "/spared/a", w + "/spared/b/a"),
             "rename-out": lambda: os.rename(w + "/spared/b/a", w + "/a"), "exchange": lambda: rename2(w + "/a", w + "/spared/f", 2),
             "over": lambda: os.rename(w + "/spared/b", w + "/spared/f"), "rmdir": lambda: os.rmdir(w + "/spared/f"), "unlink": lambda: os.unlink(w + "/spared/l")}
    for name, step in steps.items():
        step()
        run.say("counts", name, f"{os.stat(w).st_nlink} {os.stat(w + '/spared').st_nlink} {c.tree(w)}")
    write(w + "/many")
    for i in range(2000):
        os.link(w + "/many", f"{w}/spared/{i}")
    run.say("counts", "2000 links", f"{os.stat(w + '/many').st_nlink} {len(os.listdir(w + '/spared'))}")
    fd = os.open(w + "/spared", os.O_RDONLY)
    with os.scandir(fd) as entries:
        first = [next(entries).name for _ in range(10)]
        for name in os.listdir(w + "/spared"):
            if name not in first and int(name) % 2:
                os.unlink(f"{w}/spared/{name}")
        rest = [entry.name for entry in entries]
    run.say("counts", "listed while names go", f"{len(set(first + rest)) == len(first + rest)} {all(str(i) in first + rest for i in range(0, 2000, 2))}")
    os.close(fd)
    kinds = run.fresh(spare=False)
    for kind, make in c.KINDS.items():
        make(f"{kinds}/{kind}")
    with os.scandir(kinds) as entries:
        run.say("counts", "types", sorted((e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink()) for e in entries))
    listed = subprocess.run(["ls", "-a", "-U", kinds], capture_output=True, check=True).stdout.split()
    run.say("counts", "dots", sorted(listed)[:2])


def sizes(run):
    """Sizes, bytes and allocated blocks after writes, cuts and holes."""
    w = run.fresh()
    steps = [("write", 0, 10000), ("write", 100000, 1), ("truncate", 50000), ("truncate", 3), ("truncate", 5000), ("allocate", 0, 0, 20000), ("allocate", 1, 20000, 20000),
             ("punch", 3, 100, 8000), ("zero", 16, 4000, 9000), ("zero", 17, 30000, 9000), ("write", 12000, 5000), ("truncate", 13000), ("truncate", 0),
             ("write", 5, 1), ("truncate", 4096), ("allocate", 0, 4096, 1), ("punch", 3, 0, 1 << 30), ("truncate", 1 << 33), ("write", 1 << 32, 4096), ("truncate", 100)]
    fd = os.open(w + "/f", os.O_RDWR | os.O_CREAT)
    for number, (name, *a) in enumerate(steps):
        if name == "write":
            os.pwrite(fd, bytes((number + 1,)) * a[1], a[0])
        elif name == "truncate":
            os.ftruncate(fd, a[0])
        else:
            fallocate(fd, *a)
        st = os.fstat(fd)
        digest = sum(i * b for i, b in enumerate(os.pread(fd, 200000, 0)) if b)
        run.say("sizes", f"{number} {name} {a}", f"{st.st_size} {digest} {'empty' if st.st_blocks == 0 else 'blocks'}")
    os.close(fd)
    st = os.statvfs(w)
    run.say("sizes", "statvfs", f"{st.f_bsize} {st.f_frsize} {st.f_namemax} {st.f_bfree <= st.f_blocks} {st.f_bavail <= st.f_bfree}")


def locks(run):
    """Between two processes; what a lock of each kind refuses."""
    w = run.fresh()

    def try_lock(kind, exclusive):
        fd = os.open(w + "/spare", os.O_RDWR)
        if kind == "flock":
            return answer(fcntl.flock, fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK, 0, 10, 10, 0)
        return answer(lambda: fcntl.fcntl(fd, fcntl.F_SETLK if kind == "posix" else fcntl.F_OFD_SETLK, lock) and None)

    for kind, exclusive in itertools.product(("flock", "posix", "ofd"), (False, True)):
        for other, theirs in itertools.product(("flock", "posix", "ofd"), (False, True)):
            fd = os.open(w + "/spare", os.O_RDWR)
            if kind == "flock":
                fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            else:
                fcntl.fcntl(fd, fcntl.F_SETLK if kind == "posix" else fcntl.F_OFD_SETLK,
                            struct.pack("hhqqi4x", fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK, 0, 0, 15, 0))
            run.say("locks", f"{kind} {exclusive} against {other} {theirs}", in_child(try_lock, other, theirs))
            os.close(fd)
    fd = os.open(w + "/spare", os.O_RDWR)
    run.say("locks", "lease", answer(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_WRLCK))
    os.close(fd)


def in_child(function, *arguments):
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(into, function(*arguments).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def events(run):
    """inotify: what a watcher of a directory is told."""
    w = run.fresh()
    fd = c.libc.inotify_init1(os.O_NONBLOCK)
    call("inotify_add_watch", fd, w, 0xFFF)
    steps = {"create": lambda: write(w + "/n"), "rename": lambda: os.rename(w + "/n", w + "/m"), "chmod": lambda: os.chmod(w + "/m", 0o600), "mkdir": lambda: os.mkdir(w + "/d"),
             "link": lambda: os.link(w + "/m", w + "/l"), "write": handle(w + "/m", os.O_WRONLY, lambda f: os.write(f, b"y")), "unlink": lambda: os.unlink(w + "/m"),
             "truncate": lambda: os.truncate(w + "/l", 0), "utime": lambda: os.utime(w + "/l"), "setxattr": lambda: os.setxattr(w + "/l", "user.q", b"1"),
             "fallocate": handle(w + "/l", os.O_WRONLY, lambda f: fallocate(f, 0, 0, 100)), "rmdir": lambda: os.rmdir(w + "/d"), "read": lambda: open(w + "/l", "rb").read(),
             "symlink": lambda: os.symlink("q", w + "/s"), "move-out": lambda: os.rename(w + "/l", w + "/spared/l")}
    for name, step in steps.items():
        step()
        said = []
        while select.select([fd], [], [], 0)[0]:
            data, at = os.read(fd, 65536), 0
            while at < len(data):
                _, mask, cookie, length = struct.unpack_from("iIII", data, at)
                said.append(f"{mask:x}{'+' if cookie else ''}:{data[at + 16:at + 16 + length].rstrip(bytes(1)).decode()}")
                at += 16 + length
        run.say("events", name, " ".join(said))
    os.close(fd)


if __name__ == "__main__":
    c.main({"times": times, "atime": access_times, "utimens": set_times, "privilege": lost_privileges, "xattr": xattrs, "acl": lists,
            "counts": counts, "sizes": sizes, "locks": locks, "events": events})
