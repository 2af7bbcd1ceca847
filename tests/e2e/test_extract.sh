#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The way out when no daemon is to be had: a tar archive from the files of a replica that was killed, with everything a
# file may be, on the primary's side and on the secondary's; and what is said when the files are damaged.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3 tar getfattr setfattr getfacl setfacl script setpriv

at=$T/mounted

# Everything that a tree can have.
tree_make()
{
	local i deep
	cd "$1"
	mkdir -p many plain/sub deep "$(printf 'directory%.0s' {1..20})"
	for i in $(seq 1000); do echo "file $i" >"many/file-$i"; done
	cp -r /usr/include/linux plain/
	head -c 20000000 /dev/urandom >plain/large
	: >plain/empty
	head -c 200 /dev/urandom >plain/inline
	deep=deep
	for i in $(seq 60); do deep=$deep/level-$i; done
	mkdir -p "$deep"
	echo bottom >"$deep/bottom"
	echo x >"$(printf 'n%.0s' {1..255})"
	echo x >"$(printf 'directory%.0s' {1..20})/$(printf 'm%.0s' {1..200})"
	echo x >$'newline\nin it'
	echo x >'größe 長い'
	echo x >$'not UTF-8 \xff\xfe'
	ln -s plain/large link
	ln -s "$(printf '/nowhere%.0s' {1..400})" dangling
	ln plain/inline hard
	ln plain/large many/hard-large
	mkfifo fifo
	mknod null c 1 3
	mknod -m 640 disk b 7 200
	truncate -s 100M sparse
	printf head | dd of=sparse conv=notrunc status=none
	dd if=plain/large of=sparse bs=4096 count=300 seek=5000 conv=notrunc status=none
	dd if=plain/large of=sparse bs=1000 count=3 seek=90000 conv=notrunc status=none
	truncate -s 200000001 hole
	fallocate -l 1M reserved
	chmod 4751 plain/inline
	chmod 1777 plain/sub
	chown 12345:54321 plain/empty
	chown -h 3000000:3000001 dangling
	setfattr -n user.text -v 'a text' plain/empty
	setfattr -n user.bytes -v 0x00ff00fe0a plain/empty
	setfattr -n trusted.root -v secret plain
	setfattr -n user.of-directory -v yes plain
	setfacl -m u:12345:r-x,g:54321:-wx,m::rwx plain/empty
	setfacl -m u:7:rw-,d:u:12345:rwx,d:g::r-x plain/sub
	touch -d '2001-02-03 04:05:06.123456789' plain/linux many plain/empty
	touch -h -d '1961-02-03 04:05:06.987654321' link
	touch -d '@0.000000001' fifo null
	touch -d '2100-01-01 00:00:00.000000002' .
	cd - >/dev/null
}

# What can be asked of a tree, as text. Directories' sizes are the filesystem's own.
tree_text()
{
	(
		cd "$1"
		find . ! -type s -printf '%P|%y|%m|%U|%G|%n|%T@|%l|' \( -type d -printf '\n' -o -printf '%s\n' \) | LC_ALL=C sort
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
		find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} + | LC_ALL=C sort
		find . ! -type l ! -type s -print0 | LC_ALL=C sort -z | xargs -0 getfattr -d -m '^(user|trusted|security)' -e hex --
		find . ! -type l ! -type s -print0 | LC_ALL=C sort -z | xargs -0 getfacl -n -p --
	)
}

# unpacked ARCHIVE DIRECTORY: it is what tree_text() said.
unpacked()
{
	mkdir "$2"
	tar -xp --numeric-owner --xattrs --xattrs-include='*' --acls -f "$1" -C "$2" 2>"$T/said" ||
		fail "tar: $(head -n 3 "$T/said")"
	tree_text "$2" >"$T/found"
	diff "$T/wanted" "$T/found" >"$T/differ" || fail "it differs: $(head -n 20 "$T/differ")"
	[ "$2/hard" -ef "$2/plain/inline" ] || fail "the hard link is none"
	[ "$(du -k "$2/sparse" | cut -f 1)" -lt 4000 ] || fail "the sparse file has no holes"
}

# files_sum NODE: of all bytes of its replica; undo is all hole.
files_sum()
{
	(cd "$T/$1/var/lib/holdfast/$V" && sha256sum store journal meta bitmap && stat -c '%n %Y %Z %b' ./*) | sha256sum
}

nodes_create 192M C --fs
nodes_up
hf b mount $V "$T/on-b"
primary_make a
hf a mount $V "$at"
wait_until 10 "the filesystem is made" touch "$at/first"
rm "$at/first"
tree_make "$at"
python3 -c "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])" "$at/socket"
touch -d '2100-01-01 00:00:00.000000002' "$at"
tree_text "$at" >"$T/wanted"
# The last of it is in the journal only.
wait_until 20 "the secondary has all of it" all_applied a
refused 1 "a running daemon has it" hf a extract $V --output "$T/a.tar"
[ ! -e "$T/a.tar" ] || fail "a refusal left a file behind"
daemon_kill a
daemon_kill b
fact "a tree of $(wc -l <"$T/wanted") lines; both daemons killed"

sum=$(files_sum a)
hf a extract $V --output "$T/a.tar" 2>"$T/said" || fail "extract: $(cat "$T/said")"
sed 's/^/   /' "$T/said"
grep -q "socket: a socket" "$T/said" || fail "it does not say that the socket is left out"
unpacked "$T/a.tar" "$T/from-a"
[ "$sum" = "$(files_sum a)" ] || fail "the replica's files are not what they were"
[ "$(stat -c %s "$T/a.tar")" -lt 60000000 ] || fail "holes take space in the archive: $(stat -c %s "$T/a.tar")"
fact "the primary's replica: bytes, holes, links, devices, modes, owners, times, attributes, ACLs"

hf b extract $V 2>/dev/null | cat >"$T/b.tar"
unpacked "$T/b.tar" "$T/from-b"
fact "the secondary's, through a pipe"

refused 1 "is overwritten|overwritten: choose" hf a extract $V --output "$T/a.tar"
refused 2 "usage" hf a extract $V --list --output "$T/x.tar"
status=0
hf a extract $V plain/sub no/such 2>"$T/said" >"$T/x.tar" || status=$?
[ $status -eq 1 ] && grep -q "volume $V: no: No such file" "$T/said" || fail "a path that is not there: $(cat "$T/said")"
[ "$(tar -tf "$T/x.tar")" = plain/sub/ ] || fail "the other path is not in the archive"
script -qec "$bin/holdfast --root $T/a extract $V" /dev/null >"$T/said" && fail "an archive went to a terminal"
grep -q "stdout is a terminal" "$T/said" || fail "not refused for the terminal: $(head -c 300 "$T/said")"
hf a extract $V --list 2>/dev/null | sort >"$T/listed"
tar -tf "$T/a.tar" | sed 's,^\./$,./,' | sort >"$T/in-tar"
[ "$(wc -l <"$T/listed")" -eq "$(($(wc -l <"$T/in-tar") + 1))" ] || fail "--list does not list what is in the archive"
grep -qx 'newline\\nin it' "$T/listed" || fail "a newline in a name is not escaped"
hf a extract $V plain/linux /deep 2>/dev/null | tar -tf - >"$T/in-tar"
grep -q '^plain/linux/' "$T/in-tar" && grep -q '^deep/level-1/' "$T/in-tar" || fail "two paths: $(head -n 3 "$T/in-tar")"
grep -vqE '^(plain/linux|deep)/' "$T/in-tar" && fail "more than the two paths"
fact "paths, names, refusals"

# A copied directory, in the hands of somebody who is not root.
mkdir "$T/copy"
cp --sparse=always "$T/a/var/lib/holdfast/$V"/{store,journal,meta} "$T/copy/"
chmod 711 "$T"
chmod -R a+rX "$T/copy"
setpriv --reuid 65534 --regid 65534 --clear-groups "$bin/holdfast" extract --from "$T/copy" >"$T/copy.tar" 2>/dev/null ||
	fail "not from a copy, by a user"
unpacked "$T/copy.tar" "$T/from-copy"
fact "a copy of a replica's directory, without root"

# Damage: a node of the tree, in a store that has everything.
hf a up $V
hf a promote $V --force >/dev/null 2>&1 || true
hf a down $V
store=$T/a/var/lib/holdfast/$V/store
python3 - "$store" >"$T/broken" <<'PYTHON'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
size, at, nodes = os.fstat(fd).st_size, 0, []
while True:
    try:
        at = os.lseek(fd, at, os.SEEK_DATA) & ~4095
    except OSError:
        break
    end = os.lseek(fd, at, os.SEEK_HOLE)
    for block in range(at, end, 4096):
        head = os.pread(fd, 16, block)
        if head[8:12] == b"HLFN" and int.from_bytes(head[0:8], "little") == block // 4096:
            nodes.append(block)
    at = end
print(len(nodes), *[node // 4096 for node in nodes[len(nodes) // 2:len(nodes) // 2 + 3]])
for node in nodes[len(nodes) // 2:len(nodes) // 2 + 3]:
    os.pwrite(fd, os.urandom(2000), node + 1000)
PYTHON
read -r count first rest <"$T/broken"
[ "$count" -gt 50 ] || fail "there are $count nodes only"
status=0
hf a extract $V >"$T/damaged.tar" 2>"$T/said" || status=$?
tail -n 4 "$T/said" | sed 's/^/   /'
[ $status -eq 1 ] || fail "status $status with damage"
grep -qE "block ($first|${rest// /|}) is damaged" "$T/said" || fail "the damaged block is not named: $(cat "$T/said")"
grep -q "the rest is complete" "$T/said" || fail "no last word"
found=$(tar -tf "$T/damaged.tar" | wc -l)
[ "$found" -gt "$(($(wc -l <"$T/in-tar") / 2))" ] && [ "$found" -lt "$(wc -l <"$T/listed")" ] ||
	fail "$found names of $(wc -l <"$T/listed") are left"
fact "three of $count nodes damaged: named, and $found of $(wc -l <"$T/listed") names are there"

# Nothing to extract.
V=plain
nodes_create 64M C
refused 1 "no filesystem of Holdfast's" hf a extract $V --output "$T/plain.tar"
[ ! -e "$T/plain.tar" ] || fail "a refusal left a file behind"
refused 1 "neither of its two copies is whole; replace this replica from a peer$" eval 'truncate -s 0 "$T/copy/meta"; truncate -s 128K "$T/copy/meta"; "$bin/holdfast" extract --from "$T/copy" --list'
refused 1 "cannot be opened" hf a extract --from "$T/nowhere" --list
fact "a plain volume, lost meta, no replica at all: refused in one line"
