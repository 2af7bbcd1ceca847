#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""writer.py write DIR LOG [FILES]: replaces files of DIR, each durably, until it is stopped or DIR fails.
writer.py check DIR LOG: each file is as LOG says it must be at least.

The log gets "begin NAME SUM" before a file may change and "done NAME SUM" after it is durable; so a file must
have the sum of its last "done", or of a "begin" after that.
"""
import hashlib
import os
import random
import sys


def sum_of(data):
    return hashlib.sha256(data).hexdigest()


def replace(directory, name, data):
    fd = os.open(f"{directory}/{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{directory}/{name}.new", f"{directory}/{name}")
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write(directory, log, files):
    with open(log, "a", buffering=1) as out:
        while True:
            name = f"file{random.randrange(files)}"
            data = random.randbytes(random.choice((1, 100, 4096, 30000, 200000, 500000)))
            print("begin", name, sum_of(data), file=out)
            try:
                replace(directory, name, data)
            except OSError as error:
                print("stopped:", error.strerror)
                return
            print("done", name, sum_of(data), file=out)


def check(directory, log):
    allowed, bad = {}, 0
    durable = set()
    for line in open(log):
        what, name, digest = line.split()
        if what == "done":
            allowed[name] = {digest}
            durable.add(name)
        else:
            allowed.setdefault(name, set()).add(digest)
    for name in sorted(durable):
        try:
            with open(f"{directory}/{name}", "rb") as file:
                got = sum_of(file.read())
        except OSError as error:
            got = error.strerror
        if got not in allowed[name]:
            print(f"{name}: is {got}, not what was made durable")
            bad += 1
    print(f"{len(durable)} files checked, {bad} bad")
    return 1 if bad else 0


if sys.argv[1] == "write":
    write(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 48)
else:
    sys.exit(check(sys.argv[2], sys.argv[3]))
