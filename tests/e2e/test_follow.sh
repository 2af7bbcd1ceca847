#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# To read on the secondary what was written on the primary: with `holdfast lsn` and `wait`, or with mode D alone. Nothing
# may be older than what was waited for, whatever caches hold it.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3 getfattr

at_a=$T/on-a
at_b=$T/on-b
rounds=${FOLLOW_ROUNDS:-400}

# started MODE TIMEOUT: both nodes are up, mounted, a is primary.
started()
{
	nodes_create 512M "$1" --fs
	for node in a b; do node_set $node peer-timeout "$2"; done
	nodes_up
	primary_make a
	hf a mount $V "$at_a"
	hf b mount $V "$at_b"
	wait_until 10 "the filesystem is made" touch "$at_a/first"
	wait_until 10 "the secondary shows it" ls "$at_b/first"
}

# follow [OPTIONS...]
follow()
{
	python3 "$here/follower.py" "$@" --rounds "$rounds" --seed "${SEED:-$RANDOM}" || fail "follower.py $*"
}

control_b=$T/b/run/holdfast/$V.sock

started C 1s
follow "$at_a" "$at_b" --control "$control_b" --readers 0
rm -r "$at_a"/d?
follow "$at_a" "$at_b" --control "$control_b" --readers 3
fact "mode C: after lsn and wait nothing is stale"

# The commands.
echo one >"$at_a/file"
lsn=$(hf a lsn "$at_a/file")
hf b wait $V --lsn "$lsn" --timeout 10
[ "$(cat "$at_b/file")" = one ] || fail "wait on the secondary came too early"
echo two >"$at_a/file"
hf a wait $V --lsn "$(hf a lsn "$at_a/file")" --node b
[ "$(cat "$at_b/file")" = two ] || fail "wait for the peer came too early"
[ "$(getfattr -h --only-values -n holdfast.lsn "$at_b/file")" -ge "$lsn" ] || fail "the secondary's LSN is too low"
getfattr -d -m - "$at_a/file" | grep -q lsn && fail "the attribute is listed"
chmod 755 "$T" "$at_a"
setpriv --reuid 65534 --regid 65534 --clear-groups getfattr --only-values -n holdfast.lsn "$at_a/file" >/dev/null ||
	fail "users cannot read the LSN"
refused 1 "not in the mounted directory" hf a lsn /etc/passwd
refused 1 "No such file" hf a lsn "$at_a/nothing"
refused 1 "node b shows the log up to LSN [0-9]+, not to 4000000000000, after 0.3 s" \
	hf a wait $V --lsn 4000000000000 --node b --timeout 0.3
refused 1 "node b shows the log up to LSN" hf b wait $V --lsn 4000000000000 --timeout 0
refused 1 "not the primary" hf b wait $V --lsn 1 --node a
refused 1 "no node is named x" hf a wait $V --lsn 1 --node x
refused 2 "is no LSN" hf a wait $V --lsn -5
refused 2 "is missing" hf a wait $V
fact "lsn and wait; what they refuse"

# Written into a mapping, and not synced.
python3 -c "
import mmap, sys, subprocess
with open('$at_a/mapped', 'w+b') as f:
	f.truncate(8192)
	m = mmap.mmap(f.fileno(), 8192)
	m[5000:5004] = b'xyzw'
	subprocess.run(['$bin/holdfast', 'lsn', '$at_a/mapped'], check=True, stdout=open('$T/lsn', 'w'))
	m.close()
"
hf b wait $V --lsn "$(cat "$T/lsn")"
[ "$(dd if="$at_b/mapped" bs=1 skip=5000 count=4 status=none)" = xyzw ] || fail "a mapping's bytes are not covered"
fact "lsn covers what was written into a mapping"

# All that caches hold is dropped when the secondary has been away for longer than the journal reaches back: also of a
# directory that somebody stands in, which nothing of that reaches.
mkdir "$at_a/stood" "$at_a/gone"
hf b wait $V --lsn "$(hf a lsn "$at_a")"
cat >"$T/stand.py" <<'EOF'
import os, sys
os.chdir(sys.argv[1])
for line in sys.stdin:
	print(os.stat('.').st_nlink, os.stat('.').st_mtime_ns, *sorted(os.listdir('.')), flush=True)
EOF
coproc stand { python3 "$T/stand.py" "$at_b/stood"; }
jobs_started+=("$stand_PID")
echo >&"${stand[1]}"
read -r saw <&"${stand[0]}"
[[ $saw == "2 "* ]] || fail "who stands in a directory sees: $saw"
link_down
wait_until 20 "a has noticed" is a 'p["state"] == "offline"'
for i in 1 2 3 4 5; do head -c 20M /dev/urandom >"$at_a/gone/$i"; done
mkdir "$at_a/stood/inside"
link_up
hf a wait $V --lsn "$(hf a lsn "$at_a")" --node b --timeout 60
grep -q "resync" "$T/a/var/log/holdfast/$V.log" || fail "the journal reached back after all"
echo >&"${stand[1]}"
read -r saw <&"${stand[0]}"
[ "$saw" = "3 $(stat -c %.9Y "$at_a/stood" | tr -d .) inside" ] || fail "who stands in a directory sees: $saw"
kill "$stand_PID"
[ "$(ls "$at_b/gone")" = "$(ls "$at_a/gone")" ] || fail "names after the resync"
fact "after a resync nothing is stale either"

nodes_down
nodes_remove
started D 20s
follow "$at_a" "$at_b" --readers 0
rm -r "$at_a"/d?
follow "$at_a" "$at_b" --readers 3
fact "mode D: what was written is seen there, without a wait"

# The secondary's daemon is stopped: a write waits for it, until it counts no more.
mkdir "$at_a/d"
kill -STOP "$(pid_of b)"
background timeout 30 touch "$at_a/d/late"
touched=$job
sleep 1
over=$(job_over "$touched" && echo yes || echo no)
kill -CONT "$(pid_of b)"
[ "$over" = no ] || fail "mode D did not wait for a secondary that stands still"
wait_until 10 "it goes on" job_over "$touched"
[ -e "$at_b/d/late" ] || fail "acknowledged, and not seen"
fact "mode D waits for a secondary that stands still"
nodes_down
stores_same
