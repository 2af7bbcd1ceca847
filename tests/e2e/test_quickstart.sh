#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# scripts/quickstart holds what it shows; it leaves nothing behind, also after a run that was killed or interrupted, and
# --stop takes away what --keep left.
. "$(dirname "$0")/lib.sh"
need_root
need_loop

export QUICKSTART_TREE=/usr/include/linux
export TMPDIR=$T

left()
{
	find "$T" -maxdepth 1 -name 'holdfast-quickstart.*'
}

nothing_left()
{
	[ -z "$(left)" ] && ! grep -q "$T/holdfast-quickstart" /proc/mounts && [ -z "$(daemons_of_test)" ] || return 1
	! grep -qs "^$T/" /sys/block/loop*/loop/backing_file
}

"$top/scripts/quickstart" >"$T/out" 2>&1 || fail "$(cat "$T/out")"
cat "$T/out"
grep -q 'bit for bit' "$T/out" || fail "it compared nothing"
grep -q "^go-on .*b's directory is writable" "$T/out" || fail "it has shown no directory"
nothing_left || fail "it left: $(left)"
fact "a run holds, and leaves nothing"

: >"$T/out"			# what the last run said is not what this one says
"$top/scripts/quickstart" >"$T/out" 2>&1 &
pid=$!
wait_until 90 "it is under way" grep -q '^attach' "$T/out"
kill -KILL $pid
wait $pid 2>/dev/null || true
[ -n "$(left)" ] || fail "nothing was left by a killed run; is this a test?"
"$top/scripts/quickstart" >"$T/out" 2>&1 || fail "after a killed run: $(cat "$T/out")"
nothing_left || fail "it left: $(left)"
fact "a run after a killed one holds, and takes away what that one left"

: >"$T/out"			# what the last run said is not what this one says
"$top/scripts/quickstart" >"$T/out" 2>&1 &
pid=$!
wait_until 90 "it is under way" grep -q '^attach' "$T/out"
kill -TERM $pid
wait $pid 2>/dev/null && fail "an interrupted run says that all is well"
nothing_left || fail "an interrupted run left: $(left)"
fact "an interrupted run leaves nothing"

"$top/scripts/quickstart" --keep >"$T/out" 2>&1 || fail "--keep: $(cat "$T/out")"
grep -q "status $V" "$T/out" || fail "--keep does not say how to look at it"
dir=$(left)
"$bin/holdfast" --root "$dir/b" status $V | grep -q primary || fail "nothing is running after --keep"
"$top/scripts/quickstart" --stop "$dir"
nothing_left || fail "--stop left: $(left)"
fact "--keep keeps, --stop stops"
