# SPDX-License-Identifier: Apache-2.0
"""The mounted directory beside ext4 on a loop device over a file of the same disk. Of scripts/bench."""
import contextlib
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import time

import table
from daemons import BUILD, Setup, progress, run

KEPT_FILES, NAMES = 10000, 2000		# what the directory of names has, and what is made and unlinked there
TREE_FILES_EACH, TREE_BYTES_MOST = 40, 12000
SYNC_WRITERS, SYNC_MS = [1, 8, 16], 1000
LAG_WRITES = 300
ORDER = ["create", "stat", "unlink", "untar", "walk warm", "walk cold", "remove", "write MiB", "read MiB warm",
         "read MiB cold", "sync", "seen by b"]
WHOSE = ["ext4", "unmirrored", "mode A", "mode C"]


# ---- what is measured -----------------------------------------------------------------------------------


class Ext4:
    """On a loop device with the defaults of losetup and mkfs."""

    name, setup = "ext4", None

    def __init__(self, folder, mib):
        self.image, self.directory, self.device = f"{folder}/ext4.image", f"{folder}/ext4", None
        self.bytes = mib << 20

    def start(self):
        os.mkdir(self.directory)
        with open(self.image, "wb") as image:
            os.posix_fallocate(image.fileno(), 0, self.bytes)
        self.device = run("losetup", "-f", "--show", self.image).strip()
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.device)
        run("mount", self.device, self.directory)

    def rest(self):
        run("sync", "-f", self.directory)

    def cold(self):
        run("umount", self.directory)
        with open(self.image, "rb") as image:
            os.fsync(image.fileno())
            os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        run("mount", self.device, self.directory)

    def stop(self):
        run("umount", self.directory)
        run("losetup", "-d", self.device)
        self.device = None

    def kill(self):
        if self.device:
            subprocess.run(["umount", "-l", self.directory], capture_output=True)
            subprocess.run(["losetup", "-d", self.device], capture_output=True)


class Directory:
    """A volume's directory on its primary."""

    def __init__(self, name, folder, mib, mode=None):
        self.name, self.directory, self.follower = name, f"{folder}/{name}.a", f"{folder}/{name}.b"
        self.setup = Setup(name, folder, mode, ["--fs", "--size", f"{mib}M"])

    def start(self):
        self.setup.create()
        self.up()

    def up(self):
        self.setup.start()
        self.setup.nodes[0].holdfast("mount", "bench", self.directory)
        os.listdir(self.directory)		# the first one waits until the filesystem is there

    def rest(self):
        self.setup.destaged()

    def cold(self):
        """The daemon's own memory is emptied, too."""
        self.stop()
        self.up()

    def stop(self):
        self.setup.nodes[0].holdfast("umount", "bench")
        self.setup.stop()

    def kill(self):
        self.setup.kill()
        for mounted in self.directory, self.follower:
            subprocess.run(["umount", "-l", mounted], capture_output=True)


# ---- loads ---------------------------------------------------------------------------------------------


class Measuring:
    """The rows, and on whom an operation is being counted."""

    def __init__(self, folder, files, mib):
        self.rows, self.tar, self.mib = {}, None, mib
        self.files = files

    @contextlib.contextmanager
    def counted(self, who):
        """What happens in it is put into the list, as (what, depth), numbers, operations. When it is one thing, the
        daemons' CPU was for that."""
        nodes = who.setup.nodes if who.setup else []
        before = [node.cpu_ticks() for node in nodes]
        samples = []
        yield samples
        ticks = [node.cpu_ticks() - was for node, was in zip(nodes, before)]
        for (what, depth), numbers, operations in samples:
            row = self.rows.setdefault((what, depth, who.name), table.Row())
            row.add(numbers, ticks if len(samples) == 1 else (), operations)

    def program(self, who, load, below, *args, row=None, operations=None):
        """@operations: when they are not all that it did in SYNC_MS."""
        os.makedirs(f"{who.directory}/{below}", exist_ok=True)
        with self.counted(who) as samples:
            text = run(f"{BUILD}/bench/directory", load, f"{who.directory}/{below}", *map(str, args))
            samples += [((row or what, depth), numbers, operations or numbers[0] * SYNC_MS / 1000)
                        for (what, depth), numbers in table.samples(text)]

    def timed(self, who, what, operations, *command):
        with self.counted(who) as samples:
            begun = time.monotonic()
            run(*command)
            samples.append(((what, 1), (operations / (time.monotonic() - begun),), operations))


def tree_make(path, files):
    """A tar of many small files of text, as sources are; in memory."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as top:
        for number in range(files):
            folder = f"{top}/{number // 1600:03}/{number // TREE_FILES_EACH % 40:02}"
            os.makedirs(folder, exist_ok=True)
            words = b"the quick brown fox jumps over the lazy dog\n" * (TREE_BYTES_MOST // 44 + 1)
            with open(f"{folder}/file-{number % TREE_FILES_EACH:02}.c", "wb") as file:
                file.write(words[:int(TREE_BYTES_MOST * chance.random() ** 2)])
        with tarfile.open(path, "w") as tar:
            tar.add(top, arcname="tree")


def names(m, who):
    for processes in 1, 4:
        m.program(who, "names", "names", processes, NAMES, KEPT_FILES)


def untar(m, who):
    m.timed(who, "untar", m.files, "tar", "-xf", m.tar, "-C", who.directory)


def walk(m, who):
    run(f"{BUILD}/bench/directory", "walk", f"{who.directory}/tree")
    m.program(who, "walk", "tree", row="walk warm", operations=m.files)


def write(m, who):
    m.program(who, "write", "large", m.mib, row="write MiB", operations=m.mib)
    m.program(who, "read", "large", m.mib, row="read MiB warm", operations=m.mib)


def cold(m, who):
    who.cold()
    m.program(who, "walk", "tree", row="walk cold", operations=m.files)
    m.program(who, "read", "large", m.mib, row="read MiB cold", operations=m.mib)


def remove(m, who):
    m.timed(who, "remove", m.files, "rm", "-r", f"{who.directory}/tree")
    os.unlink(f"{who.directory}/large/large")


def sync(m, who):
    for writers in SYNC_WRITERS:
        m.program(who, "sync", "sync", writers, SYNC_MS)


def lag(m, who):
    """From a write here to its bytes there."""
    if len(who.setup.nodes if who.setup else []) < 2:
        return
    who.setup.nodes[1].holdfast("mount", "bench", who.follower)
    with m.counted(who) as samples:
        text = run(f"{BUILD}/bench/directory", "lag", who.directory, who.follower, str(LAG_WRITES))
        samples += [(("seen by b", depth), (None, *numbers[1:]), LAG_WRITES)
                    for (_, depth), numbers in table.samples(text)]
    who.setup.nodes[1].holdfast("umount", "bench")


LOADS = [names, untar, walk, write, cold, remove, sync, lag]


# ---- all of it -----------------------------------------------------------------------------------------


def ordered(rows):
    return dict(sorted(rows.items(), key=lambda item: (ORDER.index(item[0][0]), item[0][1], WHOSE.index(item[0][2]))))


def bench(folder, begun, rounds, files, mib):
    """@begun: empty; what is begun here is put there, whatever happens."""
    size = 1024 + files // 20 + 4 * mib
    m = Measuring(folder, files, mib)
    memory = tempfile.mkdtemp(prefix="bench.", dir="/dev/shm" if os.path.isdir("/dev/shm") else folder)
    try:
        m.tar = f"{memory}/tree.tar"
        tree_make(m.tar, files)
        for who in (Ext4(folder, size), Directory("unmirrored", folder, size), Directory("mode A", folder, size, "A"),
                    Directory("mode C", folder, size, "C")):
            begun.append(who)
            progress(f"directory: {who.name} begins")
            who.start()
        for number in range(rounds):
            for load in LOADS:
                for who in random.sample(begun, len(begun)):
                    progress(f"directory: round {number + 1} of {rounds}, {load.__name__}, {who.name}")
                    load(m, who)
                    who.rest()
        for who in begun:
            who.stop()
            if who.setup:
                who.setup.compare()
    finally:
        shutil.rmtree(memory)
    progress("")
    print(f"a directory; {files} small files, {mib} MiB in one\n")
    table.table(ordered(m.rows), "ext4")
