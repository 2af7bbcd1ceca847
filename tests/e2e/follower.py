#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Changes a tree on the primary and, after each change, looks at it on a secondary.

    follower.py PRIMARY SECONDARY [--control SOCKET] [--rounds N] [--seed N] [--readers N]

With --control (of the secondary's daemon) it asks after each change until which LSN the log has it, waits for that LSN,
and then nothing there may be older: bytes read with what was open before, bytes of a mapping, sizes, modes, names,
lists, links, attributes. Without, the peer's mode is D, and there is nothing to wait for. Beside it --readers processes
look at everything on the secondary all the time, so that answers are on their way when caches are dropped."""

import argparse
import ctypes
import json
import mmap
import os
import random
import signal
import socket
import sys
import time

LSN = 'holdfast.lsn'
NAMES = 12          # few, so that each is known to the caches
DIRECTORIES = 3
BYTES_MAX = 40000


class Control:
    """The daemon's control socket: what `holdfast wait` speaks to."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile('r')

    def wait(self, lsn):
        request = {'verb': 'wait', 'lsn': lsn, 'timeout_ms': 20000}
        self.socket.sendall((json.dumps(request) + '\n').encode())
        answer = json.loads(self.file.readline())
        if not answer['ok']:
            sys.exit('wait: ' + answer['why'])


class Opened:
    """A file of the secondary that stays open and mapped while it changes."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        # Python's own mapping ends where the file ended then.
        self.at = self.libc.mmap(None, BYTES_MAX, mmap.PROT_READ, mmap.MAP_SHARED, self.fd, 0)
        if self.at == ctypes.c_void_p(-1).value:
            sys.exit(f'mmap: {os.strerror(ctypes.get_errno())}')

    def mapped(self, size):
        return ctypes.string_at(self.at, size)

    def close(self):
        self.libc.munmap(self.at, BYTES_MAX)
        os.close(self.fd)


class Follower:
    def __init__(self, options):
        self.a, self.b = options.primary, options.secondary
        self.control = Control(options.control) if options.control else None
        self.random = random.Random(options.seed)
        self.files = {}                     # path below the root: content
        self.modes = {}
        self.opened = {}                    # the same path: Opened
        self.late = []                      # seconds from the change to where it is seen
        self.what = ''
        for i in range(DIRECTORIES):
            os.mkdir(f'{self.a}/d{i}')

    def path(self):
        return f'd{self.random.randrange(DIRECTORIES)}/f{self.random.randrange(NAMES)}'

    def bytes(self):
        return self.random.randbytes(self.random.choice((0, 1, 100, 300, 4096, 5000, 20000)))

    def known(self):
        return self.random.choice(sorted(self.files)) if self.files else None

    def gone(self, path):
        self.files.pop(path, None)
        self.modes.pop(path, None)
        if path in self.opened:
            self.opened.pop(path).close()

    # ---- changes

    def write(self):
        path, content = self.path(), self.bytes()
        with open(f'{self.a}/{path}', 'wb', buffering=0) as f:
            f.write(content)
        self.files[path] = content
        self.modes.setdefault(path, 0o644)

    def overwrite(self):
        path, content = self.known(), self.bytes()
        if not path:
            return
        at = self.random.randrange(len(self.files[path]) + 1)
        content = content[:BYTES_MAX - at]
        with open(f'{self.a}/{path}', 'r+b', buffering=0) as f:
            f.seek(at)
            f.write(content)
        old = self.files[path]
        self.files[path] = old[:at] + content + old[at + len(content):]

    def truncate(self):
        path, size = self.known(), self.random.randrange(BYTES_MAX // 2)
        if path:
            os.truncate(f'{self.a}/{path}', size)
            self.files[path] = self.files[path][:size].ljust(size, b'\0')

    def rename(self):
        path, new = self.known(), self.path()
        if not path or path == new:
            return
        os.rename(f'{self.a}/{path}', f'{self.a}/{new}')
        content, mode, opened = self.files[path], self.modes[path], self.opened.pop(path, None)
        self.gone(path)
        self.gone(new)
        self.files[new], self.modes[new] = content, mode
        if opened:
            self.opened[new] = opened       # the same file under another name

    def unlink(self):
        path = self.known()
        if path:
            os.unlink(f'{self.a}/{path}')
            self.gone(path)

    def chmod(self):
        path, mode = self.known(), self.random.choice((0o600, 0o640, 0o755))
        if path:
            os.chmod(f'{self.a}/{path}', mode)
            self.modes[path] = mode

    def map(self):
        path = self.known()
        if not path or not self.files[path]:
            return
        with open(f'{self.a}/{path}', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
            at = self.random.randrange(len(m))
            m[at] = m[at] ^ 255
            m.flush()
        old = self.files[path]
        self.files[path] = old[:at] + bytes((old[at] ^ 255,)) + old[at + 1:]

    # ---- the secondary

    def expect(self, path, what, got, want):
        if got != want:
            if isinstance(want, bytes):
                at = next((i for i, (x, y) in enumerate(zip(got, want)) if x != y), min(len(got), len(want)))
                got, want = f'{len(got)} bytes, other from {at} on', f'{len(want)} bytes'
            sys.exit(f'after {self.what}: {path}: {what}: {got}, not {want}')

    def look(self, path):
        at, want = f'{self.b}/{path}', self.files.get(path)
        try:
            st = os.stat(at)
        except FileNotFoundError:
            st = None
        self.expect(path, 'is there', st is not None, want is not None)
        if st is None:
            return
        self.expect(path, 'size', st.st_size, len(want))
        self.expect(path, 'mode', st.st_mode & 0o7777, self.modes[path])
        if path not in self.opened:
            self.opened[path] = Opened(at)
        opened = self.opened[path]
        self.expect(path, 'inode', os.fstat(opened.fd).st_ino, st.st_ino)
        self.expect(path, 'bytes of what was open', os.pread(opened.fd, BYTES_MAX, 0), want)
        self.expect(path, 'bytes of the mapping', opened.mapped(len(want)), want)
        with open(at, 'rb', buffering=0) as f:
            self.expect(path, 'bytes', f.read(BYTES_MAX), want)

    def look_all(self):
        for i in range(DIRECTORIES):
            names = sorted(path[3:] for path in self.files if path.startswith(f'd{i}/'))
            self.expect(f'd{i}', 'names', sorted(os.listdir(f'{self.b}/d{i}')), names)

    def round(self):
        change = self.random.choice((self.write, self.write, self.overwrite, self.overwrite, self.truncate, self.rename,
                                     self.unlink, self.chmod, self.map))
        before = set(self.files)
        self.what = change.__name__
        change()
        began = time.monotonic()
        if self.control:
            self.control.wait(int(os.getxattr(self.a, LSN)))
        self.late.append(time.monotonic() - began)
        for path in sorted(before | set(self.files)):
            self.look(path)
        self.look_all()


def read_for_ever(root, seed):
    """Finds whatever it finds."""
    chance = random.Random(seed)
    while True:
        for i in range(DIRECTORIES):
            try:
                with os.scandir(f'{root}/d{i}') as entries:
                    for entry in entries:
                        entry.stat()
                path = f'{root}/d{i}/f{chance.randrange(NAMES)}'
                os.stat(path)
                with open(path, 'rb', buffering=0) as f:
                    f.read(BYTES_MAX)
            except FileNotFoundError:
                pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('primary')
    parser.add_argument('secondary')
    parser.add_argument('--control')
    parser.add_argument('--rounds', type=int, default=300)
    parser.add_argument('--readers', type=int, default=2)
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args()
    follower = Follower(options)
    readers = []
    try:
        while not os.path.isdir(f'{options.secondary}/d{DIRECTORIES - 1}'):
            time.sleep(0.01)
        for i in range(options.readers):
            pid = os.fork()
            if not pid:
                read_for_ever(options.secondary, options.seed + i)
            readers.append(pid)
        for _ in range(options.rounds):
            follower.round()
    finally:
        for pid in readers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    late = sorted(follower.late)
    print(f'{len(late)} changes, each seen at once; waited {late[len(late) // 2] * 1000:.1f} ms (median), '
          f'{late[len(late) * 99 // 100] * 1000:.1f} ms (99 %), {late[-1] * 1000:.1f} ms (longest)')


main()
