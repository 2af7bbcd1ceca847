#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""posix.py DIRECTORY: facts of files that programs build on, each a function; and posix.py DIRECTORY --leave, which
leaves unnamed files open until it is killed."""

import ctypes
import errno
import fcntl
import os
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FICLONE = 0x80086601, 0x40086602, 0x40049409
MIB = 1 << 20


def refused(number, call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except OSError as error:
        assert error.errno == number, f'{error}, not {errno.errorcode[number]}'
    else:
        raise AssertionError(f'not refused with {errno.errorcode[number]}')


def renameat2(old, new, flags):
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), 'renameat2')


def name_give(fd, name):
    if libc.linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, name.encode(), 0x400) != 0:
        raise OSError(ctypes.get_errno(), 'linkat')


def holes(fd):
    """The data of a file, as (offset, end)."""
    found, at = [], 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            return found
        end = os.lseek(fd, at, os.SEEK_HOLE)
        found.append((at, end))
        at = end


def copy(source, target, length, at, to):
    while length:
        done = os.copy_file_range(source, target, length, at, to)
        if not done:
            return
        length, at, to = length - done, at + done, to + done


# ---- files without a name

def unnamed_file_gets_a_name():
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b'bytes')
    assert os.fstat(fd).st_nlink == 0 and os.listdir('.') == []
    name_give(fd, 'named')
    assert os.fstat(fd).st_nlink == 1 and os.fstat(fd).st_mode & 0o7777 == 0o640
    os.close(fd)
    with open('named', 'rb') as f:
        assert f.read() == b'bytes'


def unnamed_file_that_lost_its_name_gets_none_again():
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600)
    name_give(fd, 'named')
    os.unlink('named')
    refused(errno.ENOENT, name_give, fd, 'again')
    os.close(fd)


def unnamed_file_made_exclusive_gets_no_name():
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    refused(errno.ENOENT, name_give, fd, 'named')
    os.close(fd)


def unnamed_file_gives_its_space_back():
    free = os.statvfs('.').f_bfree
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, bytes(8 * MIB))
    assert os.statvfs('.').f_bfree < free - 2000
    os.close(fd)
    for _ in range(200):
        if os.statvfs('.').f_bfree >= free - 10:
            return
        time.sleep(0.02)
    raise AssertionError(f'{free - os.statvfs(".").f_bfree} blocks are not given back')


# ---- copy_file_range

def copy_has_the_bytes_and_the_holes():
    source, target = os.open('source', os.O_RDWR | os.O_CREAT), os.open('target', os.O_RDWR | os.O_CREAT)
    for at, length in ((0, 100), (3 * MIB, 700000), (9 * MIB + 5, 1), (20 * MIB, 5000)):
        os.pwrite(source, os.urandom(length), at)
    os.ftruncate(source, 25 * MIB + 17)
    os.pwrite(target, os.urandom(6 * MIB), 0)        # must go where the source has holes
    os.lseek(source, 0, os.SEEK_SET)
    copy(source, target, 1 << 40, 0, 0)
    os.fsync(target)
    with open('source', 'rb') as a, open('target', 'rb') as b:
        assert a.read() == b.read()
    assert holes(source) == holes(target)
    assert os.fstat(source).st_blocks == os.fstat(target).st_blocks
    os.close(source)
    os.close(target)


def copy_at_odd_places_into_the_same_file():
    fd = os.open('file', os.O_RDWR | os.O_CREAT)
    data = bytearray(os.urandom(400000))
    os.pwrite(fd, data, 0)
    copy(fd, fd, 100001, 3, 300007)
    data[300007:300007 + 100001] = data[3:3 + 100001]
    assert os.pread(fd, 1 << 20, 0) == bytes(data)
    refused(errno.EINVAL, os.copy_file_range, fd, fd, 1000, 0, 999)
    assert os.copy_file_range(fd, fd, 1000, 1 << 30, 0) == 0
    os.close(fd)


def copy_of_a_small_file_and_to_nowhere():
    small, other = os.open('small', os.O_RDWR | os.O_CREAT), os.open('other', os.O_RDWR | os.O_CREAT)
    os.write(small, b'few bytes')
    assert os.copy_file_range(small, other, 100, 4, 10) == 5
    assert os.pread(other, 100, 0) == bytes(10) + b'bytes'
    directory, reader = os.open('.', os.O_RDONLY), os.open('small', os.O_RDONLY)
    refused(errno.EISDIR, os.copy_file_range, directory, other, 10, 0, 0)
    refused(errno.EBADF, os.copy_file_range, small, reader, 3, 0, 0)
    for fd in small, other, directory, reader:
        os.close(fd)


def copy_sees_what_was_mapped():
    import mmap
    fd, other = os.open('mapped', os.O_RDWR | os.O_CREAT), os.open('other', os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8192)
    with mmap.mmap(fd, 8192) as m:
        m[5000:5005] = b'bytes'
        copy(fd, other, 8192, 0, 0)
        assert os.pread(other, 5, 5000) == b'bytes'
    os.close(fd)
    os.close(other)


# ---- the rest

def directory_has_a_size_and_is_synced():
    os.mkdir('d')
    assert os.stat('d').st_size == 4096 and os.stat('d').st_nlink == 2
    fd = os.open('d', os.O_RDONLY)
    os.fsync(fd)
    os.fdatasync(fd)
    assert libc.syncfs(fd) == 0
    os.close(fd)


def birth_time_is_told():
    before = int(time.time()) - 1
    with open('file', 'w') as f:
        f.write('bytes')
    os.mkdir('d')
    time.sleep(0.01)
    os.utime('file', (1, 1))
    os.chmod('d', 0o700)
    for name in 'file', 'd', '.':
        born = int(subprocess.run(['stat', '-c', '%W', name], check=True, capture_output=True).stdout)
        assert before <= born <= time.time() + 1 or born == 0 and kernel() < (6, 6), f'{name} is from {born}'
    assert os.stat('file').st_mtime == 1 and os.stat('file').st_size == 5


def kernel():
    return tuple(int(part) for part in os.uname().release.split('-')[0].split('.')[:2])


def rename_with_flags():
    for name in 'ab':
        with open(name, 'w') as f:
            f.write(name)
    refused(errno.EEXIST, renameat2, 'a', 'b', RENAME_NOREPLACE)
    renameat2('a', 'b', RENAME_EXCHANGE)
    with open('a') as f:
        assert f.read() == 'b'
    refused(errno.EINVAL, renameat2, 'a', 'b', RENAME_WHITEOUT)
    refused(errno.ENOENT, renameat2, 'a', 'c', RENAME_EXCHANGE)
    renameat2('a', 'c', RENAME_NOREPLACE)


def ioctls_that_are_not_there_say_so():
    fd = os.open('file', os.O_RDWR | os.O_CREAT)
    for request in FS_IOC_GETFLAGS, FS_IOC_SETFLAGS:
        try:
            fcntl.ioctl(fd, request, bytearray(8))
        except OSError as error:
            assert error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS), error
        else:
            raise AssertionError('flags are answered')
    other = os.open('other', os.O_RDWR | os.O_CREAT)
    try:
        fcntl.ioctl(other, FICLONE, fd)
    except OSError as error:
        assert error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV), error
    os.close(fd)
    os.close(other)


def as_user(call):
    pid = os.fork()
    if not pid:
        os.setgroups([])
        os.setgid(1001)
        os.setuid(1001)
        call()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def setuid_goes_when_somebody_else_changes_bytes():
    with open('source', 'w') as f:
        f.write('bytes')
    source = os.open('source', os.O_RDONLY)
    fd = os.open('file', os.O_RDWR | os.O_CREAT, 0o777)
    os.chown('.', 1001, 1001)
    for change in (lambda: os.write(fd, b'x'), lambda: os.pwrite(fd, bytes(8192), 0), lambda: os.ftruncate(fd, 3),
                   lambda: os.truncate('file', 7), lambda: os.posix_fallocate(fd, 0, 9000),
                   lambda: os.copy_file_range(source, fd, 5, 0, 0),
                   lambda: os.close(os.open('file', os.O_WRONLY | os.O_TRUNC))):
        os.fchown(fd, 1000, 1000)
        os.fchmod(fd, 0o6777)
        change()                                    # root's changes nothing
        assert os.fstat(fd).st_mode & 0o7777 == 0o6777, oct(os.fstat(fd).st_mode)
        as_user(change)
        assert os.fstat(fd).st_mode & 0o7777 == 0o777, oct(os.fstat(fd).st_mode)
    os.fchmod(fd, 0o6777)
    os.fchown(fd, 1000, 1000)
    assert os.fstat(fd).st_mode & 0o7777 == 0o777
    os.close(fd)
    os.close(source)


def capability_goes_with_a_write():
    fd = os.open('file', os.O_RDWR | os.O_CREAT, 0o777)
    for _ in range(2):
        os.setxattr('file', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
        assert 'security.capability' in os.listxattr('file')
        os.write(fd, b'x')
        assert os.listxattr('file') == []
    os.close(fd)


FACTS = [unnamed_file_gets_a_name, unnamed_file_that_lost_its_name_gets_none_again,
         unnamed_file_made_exclusive_gets_no_name, unnamed_file_gives_its_space_back, copy_has_the_bytes_and_the_holes,
         copy_at_odd_places_into_the_same_file, copy_of_a_small_file_and_to_nowhere, copy_sees_what_was_mapped,
         directory_has_a_size_and_is_synced, birth_time_is_told, rename_with_flags, ioctls_that_are_not_there_say_so,
         setuid_goes_when_somebody_else_changes_bytes, capability_goes_with_a_write]


def leave(root):
    fds = [os.open(root, os.O_TMPFILE | os.O_RDWR, 0o600) for _ in range(20)]
    for fd in fds:
        os.write(fd, os.urandom(MIB))
        os.fsync(fd)
    print('left', flush=True)
    time.sleep(600)


def main():
    root = os.path.abspath(sys.argv[1])
    if sys.argv[2:] == ['--leave']:
        leave(root)
    os.umask(0)
    failed = 0
    for number, fact in enumerate(FACTS):
        os.mkdir(f'{root}/{number}')
        os.chdir(f'{root}/{number}')
        try:
            fact()
        except (AssertionError, OSError) as error:
            failed += 1
            line = sys.exc_info()[2].tb_next.tb_lineno
            print(f'{fact.__name__}: line {line}: {error}')
    sys.exit(failed > 0)


main()
