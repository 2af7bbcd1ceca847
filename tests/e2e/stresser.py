#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""stresser.py run DIR PROCESSES SECONDS SEED [OPERATIONS]: as many processes change names and attributes below DIR at once,
until the time is over or each has done OPERATIONS. Each has a directory of its own, and knows what must be in it; one
directory is everybody's, where they take, link, replace and remove each other's names. Then what is in DIR is compared
with what each of them knows, and the counts of links with the names that are there.
stresser.py sum DIR: one line per name below it: type, mode, owners, links, size, times, extended attributes, bytes; two
directories are the same when these lines are."""
import ctypes
import errno
import hashlib
import os
import random
import stat
import sys
import time

OURS = "shared"
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ENXIO,
            errno.ENODATA, errno.EPERM, errno.ETXTBSY, errno.ESTALE}
libc = ctypes.CDLL(None, use_errno=True)


def rename2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), f"renameat2({old}, {new}, {flags})")


class File:
    """What one inode must be; names that are links of it share it."""
    def __init__(self, kind, mode):
        self.kind, self.mode, self.data, self.xattrs, self.owner, self.mtime = kind, mode, b"", {}, (0, 0), None


class Stresser:
    """One process, in its own directory; .tree: what is there, path -> File."""
    def __init__(self, top, number, seed):
        self.home, self.ours, self.random = f"{top}/{number}", f"{top}/{OURS}", random.Random(seed)
        self.number, self.tree, self.kept, self.made = number, {}, [], 0
        os.mkdir(self.home)

    # ---- choices

    def directory(self):
        found = [path for path, file in self.tree.items() if file.kind == "directory"]
        return self.random.choice(found) if found and self.random.random() < 0.8 else ""

    def new(self):
        self.made += 1
        name = f"{self.made}" + "n" * self.random.choice((0, 0, 0, 5, 60, 240))
        return f"{self.directory()}/{name}"

    def any(self, *kinds):
        found = [path for path, file in self.tree.items() if not kinds or file.kind in kinds]
        return self.random.choice(found) if found else None

    def empty(self, path):
        return not any(other.startswith(path + "/") for other in self.tree)

    # ---- in the own directory: everything must do as the model says

    def make(self):
        path, mode = self.new(), self.random.choice((0o644, 0o600, 0o755, 0o4755, 0o1777))
        kind = self.random.choice(("file", "file", "file", "directory", "directory", "link", "fifo", "device"))
        file, at = File(kind, mode), self.home + path
        if kind == "file":
            file.data = self.random.randbytes(self.random.choice((0, 10, 250, 300, 4096, 9000)))
            with open(at, "xb") as out:
                out.write(file.data)
        elif kind == "directory":
            os.mkdir(at)
        elif kind == "link":
            file.data = b"t" * self.random.choice((1, 60, 500, 3000))
            os.symlink(file.data, at)
        elif kind == "fifo":
            os.mkfifo(at)
        else:
            os.mknod(at, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        if kind != "link":
            os.chmod(at, mode)
        self.tree[path] = file

    def remove(self):
        path = self.any()
        if path is None:
            return
        file = self.tree[path]
        if file.kind == "directory" and not self.empty(path):
            self.must_fail(errno.ENOTEMPTY, os.rmdir, self.home + path)
            return
        if file.kind == "file" and self.random.random() < 0.2 and len(self.kept) < 20:
            self.kept.append((os.open(self.home + path, os.O_RDWR), file))
        (os.rmdir if file.kind == "directory" else os.unlink)(self.home + path)
        del self.tree[path]

    def must_fail(self, number, function, *arguments):
        try:
            function(*arguments)
        except OSError as error:
            if error.errno != number:
                raise
            return
        raise AssertionError(f"{function.__name__}{arguments} did not fail with {errno.errorcode[number]}")

    def link(self):
        path = self.any("file", "link", "fifo", "device")
        if path:
            new = self.new()
            os.link(self.home + path, self.home + new, follow_symlinks=False)
            self.tree[new] = self.tree[path]

    def move(self):
        old, new = self.any(), self.new() if self.random.random() < 0.5 else self.any()
        if old is None or new is None or old == new:
            return
        file, over = self.tree[old], self.tree.get(new)
        arguments = os.rename, self.home + old, self.home + new
        if new.startswith(old + "/"):
            self.must_fail(errno.EINVAL, *arguments)
        elif over is file:
            os.rename(self.home + old, self.home + new)		# two names of one file: both stay
        elif old.startswith(new + "/"):
            self.must_fail(errno.ENOTEMPTY, *arguments)
        elif over and file.kind == "directory" and over.kind != "directory":
            self.must_fail(errno.ENOTDIR, *arguments)
        elif over and over.kind == "directory" and file.kind != "directory":
            self.must_fail(errno.EISDIR, *arguments)
        elif over and over.kind == "directory" and not self.empty(new):
            self.must_fail(errno.ENOTEMPTY, *arguments)
        else:
            os.rename(self.home + old, self.home + new)
            self.moved(old, new)

    def moved(self, old, new):
        self.tree[new] = self.tree.pop(old)
        for path in [path for path in self.tree if path.startswith(old + "/")]:
            self.tree[new + path[len(old):]] = self.tree.pop(path)

    def exchange(self):
        a, b = self.any(), self.any()
        if a is None or a == b or a.startswith(b + "/") or b.startswith(a + "/"):
            return
        rename2(self.home + a, self.home + b, 2)
        self.moved(a, "/swap")
        self.moved(b, a)
        self.moved("/swap", b)

    def change(self):
        path = self.any("file", "directory", "fifo", "device")
        if path is None:
            return
        file, at = self.tree[path], self.home + path
        what = self.random.randrange(4)
        if what == 0:
            file.mode = self.random.randrange(0o1000)
            os.chmod(at, file.mode)
        elif what == 1:
            file.owner = self.random.randrange(70000), self.random.randrange(70000)
            os.chown(at, *file.owner)
            if file.kind != "directory":
                file.mode &= ~0o4000
        elif what == 2:
            file.mtime = self.random.randrange(-10**9, 5 * 10**9) * 10**9 + self.random.randrange(10**9)
            os.utime(at, ns=(file.mtime, file.mtime))
        elif file.kind in ("file", "directory"):
            name = f"user.{self.random.randrange(4)}"
            if name in file.xattrs and self.random.random() < 0.5:
                os.removexattr(at, name)
                del file.xattrs[name]
            else:
                file.xattrs[name] = self.random.randbytes(self.random.choice((0, 5, 200, 700)))
                os.setxattr(at, name, file.xattrs[name])

    def write(self):
        path = self.any("file")
        if path is None:
            return
        file = self.tree[path]
        with open(self.home + path, "r+b", buffering=0) as out:
            if self.random.random() < 0.3:
                size = self.random.randrange(20000)
                out.truncate(size)
                file.data = (file.data + bytes(size))[:size]
            else:
                at, data = self.random.randrange(20000), self.random.randbytes(self.random.randrange(1, 9000))
                out.seek(at)
                out.write(data)
                file.data = (file.data + bytes(max(0, at - len(file.data))))[:at] + data + file.data[at + len(data):]
            if self.random.random() < 0.1:
                os.fsync(out.fileno())
        file.mtime = None

    def drop(self):
        """A file without a name, still open, is as it was; then it is closed."""
        if not self.kept:
            return
        fd, file = self.kept.pop(self.random.randrange(len(self.kept)))
        data = os.pread(fd, 1 << 20, 0)
        os.close(fd)
        assert data == file.data, "a file that was removed while open has other bytes"

    def look(self):
        path = self.any()
        if path is not None:
            self.compare(path)

    # ---- in everybody's directory: what one meets there is never certain, only the errors that it may give

    def there(self):
        def name():
            return f"{self.ours}/{'sub/' if self.random.random() < 0.3 else ''}{self.random.randrange(12)}"

        a, b = name(), name()
        what = self.random.randrange(14)
        try:
            if what == 0:
                os.close(os.open(a, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            elif what == 1:
                os.mkdir(a)
            elif what == 2:
                os.unlink(a)
            elif what == 3:
                os.rmdir(a)
            elif what == 4:
                os.link(a, b, follow_symlinks=False)
            elif what == 5:
                os.rename(a, b)
            elif what == 6:
                rename2(a, b, self.random.choice((1, 2)))
            elif what == 7:
                os.symlink(os.path.basename(b), a)
            elif what == 8:
                os.rename(a, a + "/" + os.path.basename(b))
            elif what == 9:
                fd = os.open(a, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND)
                os.write(fd, self.random.randbytes(3000))
                os.close(fd)
            elif what == 10:
                os.truncate(a, self.random.randrange(10000))
            elif what == 11:
                os.chmod(a, self.random.randrange(0o1000))
            elif what == 12:
                for entry in os.scandir(self.ours):
                    entry.stat(follow_symlinks=False)
            else:
                os.setxattr(a, "user.x", self.random.randbytes(100))
        except OSError as error:
            if error.errno not in EXPECTED:
                raise

    # ---- what must be there

    def compare(self, path):
        file, at = self.tree[path], self.home + path
        st = os.lstat(at)
        kinds = {"file": stat.S_ISREG, "directory": stat.S_ISDIR, "link": stat.S_ISLNK, "fifo": stat.S_ISFIFO, "device": stat.S_ISCHR}
        assert kinds[file.kind](st.st_mode), f"{at}: is no {file.kind}"
        if file.kind == "directory":
            links = 2 + sum(1 for p, f in self.tree.items() if f.kind == "directory" and os.path.dirname(p) == path)
        else:
            links = sum(1 for f in self.tree.values() if f is file)
        assert st.st_nlink == links, f"{at}: {st.st_nlink} links, not {links}"
        if file.kind == "link":
            assert os.fsencode(os.readlink(at)) == file.data, f"{at}: another target"
            return
        assert stat.S_IMODE(st.st_mode) == file.mode, f"{at}: mode {st.st_mode:o}, not {file.mode:o}"
        assert (st.st_uid, st.st_gid) == file.owner, f"{at}: of {st.st_uid} {st.st_gid}, not {file.owner}"
        if file.mtime is not None and file.kind != "directory":
            assert st.st_mtime_ns == file.mtime, f"{at}: mtime {st.st_mtime_ns}, not {file.mtime}"
        got = {name: os.getxattr(at, name, follow_symlinks=False) for name in os.listxattr(at, follow_symlinks=False)}
        assert got == file.xattrs, f"{at}: other extended attributes"
        if file.kind == "file":
            with open(at, "rb") as data:
                assert data.read() == file.data, f"{at}: other bytes"

    def compare_all(self):
        found = set()
        for at, directories, files in os.walk(self.home):
            found.update(f"{at}/{name}"[len(self.home):] for name in directories + files)
        assert found == set(self.tree), f"{self.home}: {sorted(found ^ set(self.tree))[:5]} are there or lacking"
        for path in self.tree:
            self.compare(path)

    def run(self, end, operations):
        doings = [self.make] * 6 + [self.remove] * 4 + [self.move] * 4 + [self.change, self.write, self.there] * 3 + [
            self.link, self.link, self.exchange, self.drop, self.look, self.look]
        done = 0
        while time.monotonic() < end and done < operations:
            (self.remove if len(self.tree) > 400 else self.random.choice(doings))()
            done += 1
        while self.kept:
            self.drop()
        self.compare_all()
        return done


def links_are_right(top):
    """In everybody's directory: every count of links is that of the names."""
    names, counts = {}, {}
    for at, directories, files in os.walk(top):
        for name in files + directories:
            st = os.lstat(f"{at}/{name}")
            if stat.S_ISDIR(st.st_mode):
                inside = sum(1 for e in os.scandir(f"{at}/{name}") if e.is_dir(follow_symlinks=False))
                assert st.st_nlink == 2 + inside, f"{at}/{name}: {st.st_nlink} links, {inside} directories"
            else:
                names[st.st_ino] = names.get(st.st_ino, 0) + 1
                counts[st.st_ino] = st.st_nlink
    assert names == counts, f"{top}: counts of links differ from names: {set(names.items()) ^ set(counts.items())}"


def run(top, processes, seconds, seed, operations):
    os.umask(0o022)
    os.makedirs(f"{top}/{OURS}/sub")
    end, children, failed = time.monotonic() + seconds, {}, 0
    for number in range(processes):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                done = Stresser(top, number, seed * 1000 + number).run(end, operations)
                print(f"process {number}, seed {seed}: {done} operations", flush=True)
                status = 0
            except (OSError, AssertionError) as error:
                print(f"process {number}, seed {seed}: {error!r} {getattr(error, 'filename', '')}", file=sys.stderr, flush=True)
            os._exit(status)
        children[child] = number
    for child in children:
        failed += os.waitpid(child, 0)[1] != 0
    links_are_right(f"{top}/{OURS}")
    return 1 if failed else 0


def sum_of(top):
    for at, directories, files in os.walk(os.fsencode(top)):
        directories.sort()
        for name in sorted(directories + files):
            path = at + b"/" + name
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    data = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(st.st_mode):
                data = os.fsdecode(os.readlink(path))
            else:
                data = str(st.st_rdev)
            xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in sorted(os.listxattr(path, follow_symlinks=False))}
            print(path[len(top):], f"{st.st_mode:o}", st.st_ino, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_blocks,
                  st.st_mtime_ns, st.st_ctime_ns, xattrs, data)


if sys.argv[1] == "run":
    sys.exit(run(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5], 0),
                 int(sys.argv[6]) if len(sys.argv) > 6 else 1 << 60))
sum_of(sys.argv[2])
