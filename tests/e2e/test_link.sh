#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The network between the nodes goes away while the primary writes: with min-copies = 1 writes go on after at most the
# peer timeout, with 2 they wait; both say so, and both heal by themselves.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io

timeout_seconds=2

# Writes one after the other, a line with the time in ms after each.
writer()
{
	local n=0
	while qio a -c "write -P $((n % 255 + 1)) $((n % 64))M 64k" -c flush; do
		now_ms >>"$T/written"
		n=$((n + 1))
	done
}

# more_than N: so many writes were done.
more_than()
{
	[ "$(wc -l <"$T/written")" -gt "$1" ]
}

writes()
{
	wc -l <"$T/written"
}

start()
{
	: >"$T/written"
	nodes_create 256M C --no-loop --min-copies "$1"
	node_set a peer-timeout ${timeout_seconds}s
	node_set b peer-timeout ${timeout_seconds}s
	nodes_up
	primary_make a
	background writer
	writer=$job
	wait_until 10 "writes are done" more_than 5
}

stop()
{
	kill "$writer"
	wait "$writer" 2>/dev/null || true
	wait_online a 30
	wait_until 10 "the secondary has applied all" all_applied a
	nodes_down
	stores_same
	rm -rf "${T:?}/a" "${T:?}/b"
}

start 1
link_down
cut=$(now_ms)
wait_until 10 "the primary says that its peer is gone" is a 'not p["connected"] and p["state"] == "offline"'
said "$V .*primary" hf a status $V
said 'b .*offline' hf a status $V
count=$(writes)
wait_until 5 "writes go on" more_than $((count + 5))
pause=$(awk -v cut="$cut" '$1 > cut - 1000 { if (last && $1 - last > longest) longest = $1 - last; last = $1 }
	END { print longest + 0 }' "$T/written")
[ "$pause" -le $((timeout_seconds * 1000 + 1500)) ] || fail "writes stood for $pause ms"
fact "link down, min-copies 1: writes stood for $pause ms (peer-timeout ${timeout_seconds} s) and went on"
is a 'p["lag_bytes"] > 0' || fail "no lag is told: $(field a p)"
link_up
wait_online a 30
fact "link up: caught up by itself"
stop

start 2
link_down
wait_until 10 "the status names whom writes wait for" is a '"b" in s["waiting_for"] and s["acks_waiting"] + s["requests_waiting"] > 0'
said 'wait for .*b' hf a status $V
wait_until 10 "the peer is told to be gone" is a 'not p["connected"]'
count=$(writes)
sleep $((timeout_seconds + 1))		# what must not happen has no event to wait for
[ "$(writes)" -eq "$count" ] || fail "a write was acknowledged with one copy only"
is a '"b" in s["waiting_for"]' || fail "the status no longer names b: $(field a 's["waiting_for"]')"
job_over "$writer" && fail "the writer got an error"
link_up
wait_until 20 "writes go on" more_than $((count + 5))
fact "min-copies 2: writes waited, the status said for whom, and they went on when the link was back"
stop
