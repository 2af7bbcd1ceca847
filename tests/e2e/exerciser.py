#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""exerciser.py FILE STEPS SEED [SECONDS]: one file is written, cut, punched, copied, mapped and read through several
descriptors, at random, and compared with a model in memory after each read. With SECONDS there are rounds of STEPS until
these are over, the next one with the next seed; it says each seed that it begins. Exits 1 with the steps that led to the
first difference; the same file, steps and seed lead there again."""
import ctypes
import mmap
import os
import random
import sys
import time

SIZE_MAX = 1 << 20
PAGE = 4096
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
FADVISE = (os.POSIX_FADV_DONTNEED, os.POSIX_FADV_WILLNEED)
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, offset, length) != 0:
        raise OSError(ctypes.get_errno(), f"fallocate({mode}, {offset}, {length})")


class Exerciser:
    def __init__(self, path, seed):
        self.path, self.random, self.model, self.history = path, random.Random(seed), bytearray(), []
        self.fds = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), os.open(path, os.O_RDWR)]
        try:
            self.direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        except OSError:
            self.direct = None
        self.mapped = None	# a shared mapping that stays, while the file is not cut

    def fd(self):
        return self.random.choice(self.fds)

    def span(self, limit=SIZE_MAX):
        offset = self.random.randrange(limit)
        longest = self.random.choice([16, 300, PAGE, 3 * PAGE, 200_000])
        return offset, min(self.random.randrange(1, longest + 1), limit - offset)

    def grow(self, end):
        if end > len(self.model):
            self.model.extend(bytes(end - len(self.model)))

    def differ(self, what):
        print(f"{self.path}: {what}", *self.history[-40:], sep="\n  ", file=sys.stderr)
        sys.exit(1)

    def expect(self, offset, got, what):
        want = bytes(self.model[offset:offset + len(got)])
        if got != want:
            at = next(i for i in range(len(got)) if got[i:i + 1] != want[i:i + 1])
            self.differ(f"{what} at {offset}: byte {offset + at} is {got[at]}, not {want[at:at + 1]!r}")

    def write(self):
        offset, length = self.span()
        data = self.random.randbytes(length)
        os.pwrite(self.fd(), data, offset)
        self.grow(offset + length)
        self.model[offset:offset + length] = data
        return f"write {offset} {length}"

    def append(self):
        length = self.random.randrange(1, 3000)
        if len(self.model) + length > SIZE_MAX:
            return "append nothing"
        data = self.random.randbytes(length)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        self.model += data
        return f"append {length}"

    def write_direct(self):
        offset, length = (n // PAGE * PAGE for n in self.span())
        if self.direct is None or length == 0:
            return "direct write nothing"
        buffer = mmap.mmap(-1, length)
        buffer.write(self.random.randbytes(length))
        os.pwrite(self.direct, buffer, offset)
        self.grow(offset + length)
        self.model[offset:offset + length] = buffer[:]
        return f"direct write {offset} {length}"

    def read_direct(self):
        offset, length = (n // PAGE * PAGE for n in self.span())
        if self.direct is None or length == 0:
            return "direct read nothing"
        buffer = mmap.mmap(-1, length)
        got = os.preadv(self.direct, [buffer], offset)
        if got != max(0, min(length, len(self.model) - offset)):
            self.differ(f"direct read of {length} at {offset} of {len(self.model)} bytes has {got}")
        self.expect(offset, buffer[:got], "direct read")
        return f"direct read {offset} {length}"

    def write_vectors(self):
        offset, length = self.span(SIZE_MAX - 8000)
        parts = [self.random.randbytes(n) for n in (length // 3, 1, 4096, length - length // 3)]
        written = os.pwritev(self.fd(), parts, offset, self.random.choice((0, os.RWF_DSYNC)))
        data = b"".join(parts)[:written]
        self.grow(offset + len(data))
        self.model[offset:offset + len(data)] = data
        return f"vectors {offset} {len(data)}"

    def send(self):
        """Through a pipe: splice in and out of the file."""
        offset, length = self.span()
        out, into = os.pipe()
        data = self.random.randbytes(min(length, 60000))
        os.write(into, data)
        at, end = offset, offset + len(data)
        while at < end:
            at += os.splice(out, self.fds[0], end - at, offset_dst=at)
        self.grow(end)
        self.model[offset:end] = data
        count = os.splice(self.fds[1], into, len(data), offset_src=offset)
        got = os.read(out, count)
        os.close(out)
        os.close(into)
        self.expect(offset, got, "spliced")
        return f"splice {offset} {len(data)}"

    def advise(self):
        offset, length = self.span()
        advice = self.random.choice(FADVISE)
        os.posix_fadvise(self.fd(), offset, length, advice)
        return f"advise {offset} {length} {advice}"

    def reopen(self):
        at = self.random.randrange(len(self.fds))
        os.close(self.fds[at])
        self.fds[at] = os.open(self.path, os.O_RDWR)
        return f"reopen {at}"

    def read(self):
        offset, length = self.span()
        got = os.pread(self.fd(), length, offset)
        if len(got) != max(0, min(length, len(self.model) - offset)):
            self.differ(f"read of {length} at {offset} of {len(self.model)} bytes has {len(got)}")
        self.expect(offset, got, "read")
        return f"read {offset} {length}"

    def cut(self):
        self.unmap()
        size = self.random.randrange(SIZE_MAX) if self.random.random() < 0.5 else self.random.randrange(3 * PAGE)
        os.ftruncate(self.fd(), size)
        self.grow(size)
        del self.model[size:]
        return f"cut {size}"

    def hole(self):
        offset, length = self.span()
        zero = self.random.random() < 0.3
        fallocate(self.fd(), (ZERO_RANGE if zero else PUNCH_HOLE) | KEEP_SIZE, offset, length)
        end = min(offset + length, len(self.model))
        if offset < end:
            self.model[offset:end] = bytes(end - offset)
        return f"{'zero' if zero else 'punch'} {offset} {length}"

    def allocate(self):
        offset, length = self.span()
        fallocate(self.fd(), 0, offset, length)
        self.grow(offset + length)
        return f"allocate {offset} {length}"

    def copy(self):
        offset, length = self.span()
        to = self.random.randrange(SIZE_MAX - length)
        length = max(0, min(length, len(self.model) - offset, abs(to - offset)))
        if not length:
            return "copy nothing"
        done = 0
        while done < length:
            done += os.copy_file_range(self.fd(), self.fd(), length - done, offset + done, to + done)
        data = self.model[offset:offset + length]
        self.grow(to + length)
        self.model[to:to + length] = data
        return f"copy {offset} {length} to {to}"

    def map(self):
        if not self.model:
            return "map nothing"
        offset, length = self.span(len(self.model))
        data = self.random.randbytes(length)
        with mmap.mmap(self.fd(), len(self.model)) as mapped:
            self.expect(offset, mapped[offset:offset + length], "mapping")
            if self.random.random() < 0.7:
                mapped[offset:offset + length] = data
                self.model[offset:offset + length] = data
                if self.random.random() < 0.5:
                    mapped.flush()
        return f"map {offset} {length}"

    def unmap(self):
        if self.mapped:
            self.mapped.close()
            self.mapped = None

    def keep_mapped(self):
        """What is written there is in the file for readers of any kind, at once, and the other way round."""
        if self.mapped is None:
            if not self.model:
                return "keep nothing"
            self.mapped = mmap.mmap(self.fd(), len(self.model))
        offset, length = self.span(len(self.mapped))
        self.expect(offset, self.mapped[offset:offset + length], "mapping that was kept")
        if self.random.random() < 0.5:
            return f"kept mapping read {offset} {length}"
        data = self.random.randbytes(length)
        self.mapped[offset:offset + length] = data
        self.model[offset:offset + length] = data
        return f"kept mapping write {offset} {length}"

    def sync(self):
        os.fsync(self.fd())
        return "sync"

    def seek(self):
        if not self.model:
            return "seek nothing"
        if self.mapped:
            self.mapped.flush()
        offset = self.random.randrange(len(self.model))
        hole = os.lseek(self.fds[0], offset, os.SEEK_HOLE)
        try:
            data = os.lseek(self.fds[0], offset, os.SEEK_DATA)
        except OSError:
            data = len(self.model)
        if hole < offset or hole > len(self.model) or data < offset:
            self.differ(f"seek from {offset}: hole {hole}, data {data} of {len(self.model)}")
        if data > offset and any(self.model[offset:data]):
            self.differ(f"seek: there is data from {offset} on, not from {data}")
        return f"seek {offset}"

    def check(self):
        size = os.fstat(self.fd()).st_size
        if size != len(self.model):
            self.differ(f"its size is {size}, not {len(self.model)}")

    def run(self, steps):
        doings = [self.write] * 5 + [self.read] * 5 + [self.hole, self.map, self.keep_mapped] * 2 + [
            self.cut, self.append, self.write_direct, self.read_direct, self.write_vectors, self.copy, self.send, self.advise,
            self.reopen, self.allocate, self.sync, self.seek]
        for _ in range(steps):
            self.history.append(self.random.choice(doings)())
            self.check()
        self.unmap()
        with open(self.path, "rb") as file:
            self.expect(0, file.read(), "the end")
        for fd in self.fds + ([] if self.direct is None else [self.direct]):
            os.close(fd)


def main():
    path, steps, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3], 0)
    end = time.monotonic() + (float(sys.argv[4]) if len(sys.argv) > 4 else 0)
    while True:
        print(f"{path}: {steps} steps, seed {seed}", flush=True)
        try:
            Exerciser(path, seed).run(steps)
        except OSError as error:
            print(f"{path}: seed {seed}: {error}", file=sys.stderr)
            raise
        seed += 1
        if time.monotonic() >= end:
            break


main()
