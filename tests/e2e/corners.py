#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""corners.py DIR [NAME...]: what programs do seldom, and then rely on: mappings and locks shared by processes, thousands of open
files (CORNERS_FILES), deep directories, many threads in one directory. corners.py fill DIR ROUNDS: it is filled, emptied, filled again; no
space may be lost. One line per corner; exits 1 with the first that is not as it must be."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import resource
import shutil
import signal
import socket
import stat
import struct
import sys
import threading
import time

PROCESSES, TURNS = 4, 200
libc = ctypes.CDLL(None, use_errno=True)


def in_processes(count, function):
    """function(number) in as many processes; all must end well."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                function(number)
                status = 0
            except BaseException as error:  # pylint: disable=broad-except
                print(repr(error), file=sys.stderr, flush=True)
            os._exit(status)
        children.append(child)
    assert not any([os.waitpid(child, 0)[1] for child in children]), "a process failed"


def shared_mapping(at):
    """Each process writes every fourth byte, all in the same pages; and reads what is written through descriptors."""
    size = 256 << 10
    with open(at + "/mapped", "wb") as file:
        file.truncate(size)

    def writer(number):
        fd = os.open(at + "/mapped", os.O_RDWR)
        with mmap.mmap(fd, size) as mapped:
            for i in range(number, size, PROCESSES):
                mapped[i] = (i * 7 + number) & 255
                if i % 65536 < PROCESSES:
                    assert os.pread(fd, 1, i)[0] == mapped[i], "read() does not see what is mapped"
            mapped.flush()

    in_processes(PROCESSES, writer)
    with open(at + "/mapped", "rb") as file:
        data = file.read()
    assert data == bytes((i * 7 + i % PROCESSES) & 255 for i in range(size)), "bytes of a shared mapping are lost"


def counted_under_lock(lock):
    def corner(at):
        path = f"{at}/counter-{lock}"
        with open(path, "wb") as file:
            file.write(struct.pack("Q", 0))

        def count(_):
            fd = os.open(path, os.O_RDWR)
            for _ in range(TURNS):
                take(fd, fcntl.F_WRLCK)
                value, = struct.unpack("Q", os.pread(fd, 8, 0))
                os.pwrite(fd, struct.pack("Q", value + 1), 0)
                take(fd, fcntl.F_UNLCK)

        def take(fd, kind):
            if lock == "flock":
                fcntl.flock(fd, fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX)
            else:
                fcntl.fcntl(fd, fcntl.F_SETLKW if lock == "posix" else fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", kind, 0, 0, 8, 0))

        in_processes(PROCESSES, count)
        with open(path, "rb") as file:
            value, = struct.unpack("Q", file.read())
        assert value == PROCESSES * TURNS, f"{value} of {PROCESSES * TURNS} turns under a lock"
    return corner


def appends(at):
    """O_APPEND of several processes: no record is torn, none is lost."""
    def append(number):
        fd = os.open(at + "/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for turn in range(TURNS):
            os.write(fd, struct.pack("II", number, turn) * 50)

    in_processes(PROCESSES, append)
    with open(at + "/log", "rb") as file:
        data = file.read()
    found = [data[i:i + 400] for i in range(0, len(data), 400)]
    wanted = [struct.pack("II", number, turn) * 50 for number in range(PROCESSES) for turn in range(TURNS)]
    assert sorted(found) == sorted(wanted), "appended records are torn or lost"


def open_files(at):
    count = int(os.environ.get("CORNERS_FILES", "2000"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(hard, count + 100)))
    os.mkdir(at + "/open")
    fds = [os.open(f"{at}/open/{i}", os.O_RDWR | os.O_CREAT, 0o644) for i in range(count)]
    for i in range(0, count, 2):
        os.unlink(f"{at}/open/{i}")
    for i, fd in enumerate(fds):
        os.pwrite(fd, b"%d" % i, 0)
    for i, fd in enumerate(fds):
        assert os.pread(fd, 20, 0) == b"%d" % i, f"open file {i} has other bytes"
        assert os.fstat(fd).st_nlink == i % 2
        os.close(fd)
    assert len(os.listdir(at + "/open")) == count // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def deep(at):
    depth, name = 300, "d" * 30
    os.mkdir(at + "/deep")
    os.chdir(at + "/deep")
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    with open("bottom", "w", encoding="ascii") as file:
        file.write("here")
    for _ in range(depth):
        os.chdir("..")
    assert os.stat(".").st_ino == os.stat(at + "/deep").st_ino, ".. does not lead back"
    fd = os.open(".", os.O_RDONLY)
    for _ in range(depth):
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    assert os.listdir(fd) == ["bottom"]
    os.close(fd)
    os.chdir("/")
    shutil.rmtree(at + "/deep")


def threads_in_one_directory(at):
    """Each thread makes, renames and removes names of its own; what each left is there, and nothing else."""
    os.mkdir(at + "/threads")
    left, wrong = [], []

    def work(number):
        chance = random.Random(number)
        mine = set()
        try:
            for turn in range(150):
                name = f"{at}/threads/{number}-{turn}"
                with open(name, "w", encoding="ascii") as file:
                    file.write(name)
                mine.add(name)
                if chance.random() < 0.5:
                    os.rename(name, name + "-renamed")
                    mine.remove(name)
                    mine.add(name + "-renamed")
                if chance.random() < 0.4:
                    os.unlink(mine.pop())
                if turn % 30 == 0:
                    listed = {f"{at}/threads/{n}" for n in os.listdir(at + "/threads")}
                    if not mine <= listed:
                        wrong.append(sorted(mine - listed))
            left.extend(mine)
        except OSError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]
    assert sorted(left) == sorted(f"{at}/threads/{n}" for n in os.listdir(at + "/threads")), "names are there or lacking"


def send_file(at):
    data = random.Random(5).randbytes(3 << 20)
    with open(at + "/sent", "wb") as file:
        file.write(data)
    here, there = socket.socketpair()
    got = bytearray()

    def receive():
        while len(got) < len(data):
            got.extend(there.recv(1 << 20))

    thread = threading.Thread(target=receive)
    thread.start()
    with open(at + "/sent", "rb") as file:
        assert here.sendfile(file) == len(data)
    thread.join()
    assert got == data, "sendfile() sent other bytes"
    with open(at + "/sent", "rb") as file, open(at + "/copied", "wb") as into:
        done = 0
        while done < len(data):
            done += os.sendfile(into.fileno(), file.fileno(), done, len(data) - done)
    with open(at + "/copied", "rb") as file:
        assert file.read() == data, "sendfile() into a file wrote other bytes"


def interrupted(at):
    """A timer's signal every millisecond: no call fails, none is done twice, and reads and writes are whole."""
    hits = [0]

    def hit(*_):
        hits[0] += 1

    def work(number):
        signal.signal(signal.SIGALRM, hit)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        data = random.Random(number).randbytes(200000)
        for turn in range(60):
            name = f"{at}/interrupted-{number}-{turn}"
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            assert os.write(fd, data) == len(data)
            os.fsync(fd)
            os.rename(name, name + "-renamed")
            os.mkdir(name)
            assert os.pread(fd, len(data), 0) == data, "a read that was interrupted has other bytes"
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(fd, len(data), 0) == data, "a read that was interrupted has other bytes"
            os.rmdir(name)
            os.unlink(name + "-renamed")
            assert os.fstat(fd).st_nlink == 0
            os.close(fd)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert hits[0] > 10

    in_processes(3, work)


def killed(at):
    """Processes die at any moment of open, create, write, unlink: what only they had open goes with them."""
    os.mkdir(at + "/killed")
    first = settled(at)

    def work(number):
        data = b"x" * 300000
        for turn in range(1 << 30):
            name = f"{at}/killed/{number}-{turn % 5}"
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            again = os.open(name, os.O_RDONLY)
            os.unlink(name)
            os.write(fd, data)
            os.close(again if turn % 2 else fd)

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for turn in range(25):
        children = []
        for number in range(4):
            child = os.fork()
            if child == 0:
                work(number)
            children.append(child)
        time.sleep(0.02 + turn % 5 * 0.013)
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    for name in os.listdir(at + "/killed"):
        os.unlink(f"{at}/killed/{name}")
    last = settled(at)
    # What names and inodes leave behind in the tree may take some nodes more than before.
    assert last[1] == first[1] and abs(last[0] - first[0]) <= 8, \
        f"{first} blocks were free and inodes used, now {last}: what killed processes had open is not given back"


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]


def handles(at):
    """Files and directories by handle alone, as an NFS server finds them, when the kernel has nothing of them in its caches."""
    def take(path):
        handle, mount = Handle(128), ctypes.c_int()
        assert libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) == 0
        return handle

    def opened(handle):
        top = os.open(at, os.O_RDONLY)
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
            drop.write("2")
        fd = libc.open_by_handle_at(top, ctypes.byref(handle), os.O_RDONLY)
        if fd < 0:
            found = errno.errorcode[ctypes.get_errno()]
        elif stat.S_ISREG(os.fstat(fd).st_mode):
            found = os.read(fd, 9)		# it has no path for the kernel until somebody looks its name up
        else:
            found = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), at)
        for done in (top, fd):
            if done >= 0:
                os.close(done)
        return found

    os.makedirs(at + "/handles/a/b")
    with open(at + "/handles/a/b/file", "w", encoding="ascii") as file:
        file.write("text")
    of_file, of_directory = take(at + "/handles/a/b/file"), take(at + "/handles/a/b")
    assert opened(of_file) == b"text", opened(of_file)
    assert opened(of_directory) == "handles/a/b", opened(of_directory)
    os.rename(at + "/handles/a/b", at + "/handles/c")
    assert opened(of_directory) == "handles/c", opened(of_directory)
    assert opened(of_file) == b"text", opened(of_file)
    os.unlink(at + "/handles/c/file")
    assert opened(of_file) == "ESTALE", opened(of_file)


# ---- full and empty

def settled(at):
    """What is free, when that is the same for a while: what was removed comes back in parts."""
    before, same = None, 0
    while same < 5:
        st = os.statvfs(at)
        now = st.f_bfree, st.f_files - st.f_ffree
        same = same + 1 if now == before else 0
        before = now
        time.sleep(0.05)
    return before


def fill_with(at, size, chance):
    """Files of about that size until there is no room; returns how many bytes are in them."""
    total = number = 0
    while True:
        data = chance.randbytes(size)
        try:
            fd = os.open(f"{at}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return total
        try:
            done = 0
            while done < size:
                done += os.write(fd, data[done:])
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(fd)
        total += done
        number += 1
        if done < size:
            return total


def fill(at, rounds):
    chance, first, totals = random.Random(9), settled(at), {}
    for turn in range(rounds):
        size = (1 << 20, 60000, 5000)[turn % 3]
        inside = f"{at}/full-{turn}"
        os.mkdir(inside)
        total = fill_with(inside, size, chance)
        if turn % 2:
            for name in os.listdir(inside):
                os.truncate(f"{inside}/{name}", 0)
        shutil.rmtree(inside)
        free = settled(at)
        assert free[1] == first[1] and abs(free[0] - first[0]) <= 8, \
            f"round {turn}: {first} blocks were free and inodes used, now {free}"
        usual = totals.setdefault(size, total)
        assert abs(total - usual) <= usual // 100, f"round {turn}: {total} bytes fit, {usual} before"
    print(f"{rounds} rounds: {first[0]} blocks are free after each; fitted: {totals}", flush=True)


CORNERS = {"shared mapping": shared_mapping, "fcntl locks": counted_under_lock("posix"), "OFD locks": counted_under_lock("ofd"),
           "flock": counted_under_lock("flock"), "appends": appends, "open files": open_files, "deep directories": deep,
           "threads": threads_in_one_directory, "sendfile": send_file, "interrupted": interrupted, "killed": killed, "handles": handles}


def main():
    if sys.argv[1] == "fill":
        fill(sys.argv[2], int(sys.argv[3]))
        return
    for name, corner in CORNERS.items():
        if not sys.argv[2:] or name in sys.argv[2:]:
            start = time.monotonic()
            corner(sys.argv[1])
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)


main()
