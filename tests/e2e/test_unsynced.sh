#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a directory has answered without a sync: it survives the daemon, which is killed again and again; and a write
# that is faster than the disk leaves nothing out.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3

nodes=(a)
at=$T/on-a
rounds=${ROUNDS:-4}

# Numbered files of many sizes, none of them synced; a number is noted when its file has been written and renamed.
writer()
{
	python3 - "$at" "$T/noted" "$1" <<-'END'
		import os, sys
		at, noted, first = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND), int(sys.argv[3])
		try:
		    for n in range(first, first + 1000000):
		        with open(f"{at}/new", "wb", buffering=0) as file:
		            bytes = b"%08d" % n * (n * 7919 % 30000)
		            while bytes:
		                bytes = bytes[file.write(bytes):]
		        os.rename(f"{at}/new", f"{at}/{n}")
		        if n >= first + 200:
		            os.unlink(f"{at}/{n - 200}")
		        os.write(noted, b"%d\n" % n)
		except OSError:
		    pass
	END
}

# check FIRST LAST: these are there, whole.
check()
{
	python3 - "$at" "$1" "$2" <<-'END'
		import sys
		at, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
		for n in range(first, last + 1):
		    with open(f"{at}/{n}", "rb") as file:
		        if file.read() != b"%08d" % n * (n * 7919 % 30000):
		            sys.exit(f"file {n} is not what was written")
	END
}

nodes_create 1G A --fs
hf a up $V
hf a promote $V --wait 20 >/dev/null
hf a mount $V "$at"
wait_until 10 "the filesystem is made" touch "$at/first"
for ((round = 0; round < rounds; round++)); do
	first=$((round * 1000000))
	: >"$T/noted"
	background writer $first
	wait_until 60 "some files are written" eval '[ "$(wc -l <"$T/noted")" -gt 400 ]'
	daemon_kill a
	wait
	last=$(tail -n 1 "$T/noted")
	hf a up $V
	hf a promote $V --wait 20 >/dev/null
	hf a mount $V "$at"
	check $((last - 198)) "$last" || fail "round $round: an acknowledged file is lost"
	[ -e "$at/$((last - 201))" ] && fail "round $round: an unlinked file is back"
	rm -f "$at"/[0-9]*
done
fact "$rounds times the daemon was killed: what was answered is there, nothing of it was synced"

# A small journal and a large file: most commits find no room at first.
nodes_remove
umount -l "$at" 2>/dev/null || true
journal_size=32M nodes_create 1G A --fs
hf a up $V
hf a promote $V --wait 20 >/dev/null
hf a mount $V "$at"
wait_until 10 "the filesystem is made" touch "$at/first"
dd if=/dev/urandom of="$T/large" bs=1M count=200 2>/dev/null
for ((round = 0; round < rounds; round++)); do
	dd if="$T/large" of="$at/large" bs=1M 2>/dev/null
	[ "$(stat -c '%s %b' "$at/large")" = "209715200 409600" ] || fail "the large file has a hole: $(stat "$at/large")"
	hf a umount $V		# with what the kernel has of it
	hf a mount $V "$at"
	cmp "$T/large" "$at/large" || fail "the large file differs"
done
fact "$rounds times 200 MiB over a journal of 32 MiB: nothing is left out"
nodes_down
