#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What programs build on beside reads and writes: files without a name, copies within the volume, flags, ioctls. And that
# a crash gives back what had no name.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3

at_a=$T/on-a

mounted_a()
{
	hf a up $V
	hf a promote $V --force --wait 20 >/dev/null
	hf a mount $V "$at_a"
	wait_until 10 "the filesystem is there" touch "$at_a/first"
}

free_blocks()
{
	stat -f -c %f "$at_a"
}

all_back()
{
	[ "$(free_blocks)" -ge "$1" ]
}

nodes=(a)
nodes_create 256M C --fs
mounted_a
if [ -n "${POSIX_REFERENCE:-}" ]; then python3 "$here/posix.py" "$POSIX_REFERENCE" || true; fi
python3 "$here/posix.py" "$at_a" || fail "posix.py"
fact "files without a name, copies, renames, ioctls"

sync -f "$at_a"
free=$(free_blocks)
background python3 "$here/posix.py" "$at_a" --leave >"$T/left"
leaver=$job
wait_until 20 "files without a name are there" grep -q left "$T/left"
[ "$(free_blocks)" -lt $((free - 4000)) ] || fail "they take no space"
daemon_kill a
kill -KILL "$leaver" 2>/dev/null || true
mounted_a
wait_until 20 "their space is back" all_back $((free - 20))
fact "a crash gives back the space of files without a name"
hf a down $V
