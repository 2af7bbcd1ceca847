#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who may be primary: refusals name the next step; a switchover loses nothing; an old primary that comes back from a
# failover is superseded and writes no more.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io

# write NODE BYTE: 64 KiB of it at 0
write()
{
	qio "$1" -c "write -P $2 0 64k" -c flush
}

nodes_create 64M C --no-loop
for node in a b; do node_set $node peer-timeout 1s; done
refused 3 'no daemon is running' hf a promote $V
hf a up $V
refused 1 "node b is not connected.*--force" hf a promote $V
write a 1 && fail "a secondary took a write"
hf b up $V
hf a promote $V --wait 10
said 'primary already' hf a promote $V
wait_online a
refused 1 "node a is primary.*switchover $V b" hf b promote $V
refused 1 "primary a is alive.*switchover $V b" hf b failover $V --force
refused 2 'usage' hf b failover $V
refused 1 'no peer is named nobody' hf a switchover $V nobody
fact "promotion: refused without the peer, and beside a primary"

write a 2 || fail "the primary refused a write"
for round in 1 2 3; do
	for from in a b; do
		to=$(other $from)
		qio $from -c "write -P $((round * 16)) 1M 4M" -c "write -P $((round * 16 + 1)) 5M 4M" ||
			fail "round $round: $said_qio"
		said 'nothing would be lost' hf $from switchover $V $to --dry-run
		is $from 's["role"] == "primary"' || fail "a dry run changed something"
		if [ $round -eq 2 ]; then
			hf $to switchover $V $to		# asked of the one who becomes it
		else
			hf $from switchover $V $to
		fi
		wait_until 10 "$to is primary" is $to 's["role"] == "primary"'
		is $from 's["role"] == "secondary"' || fail "two primaries"
		qio $to -r -c "read -P $((round * 16)) 1M 4M" -c "read -P $((round * 16 + 1)) 5M 4M" ||
			fail "round $round: after a switchover from $from to $to: $said_qio"
		wait_online $to
	done
done
fact "switchover six times, both ways and asked on both sides: nothing lost"

# With writes in flight: each that was acknowledged is there, whoever is primary when they end.
acknowledged_writes()
{
	local n=0
	while qio a -c "write -P $((n % 200 + 1)) $((n % 24 + 16))M 1M"; do
		n=$((n + 1))
		echo "$((n - 1))" >>"$T/acknowledged"
	done
}
: >"$T/acknowledged"
background acknowledged_writes
wait_until 10 "a few writes are done" eval '[ "$(wc -l <"$T/acknowledged")" -gt 5 ]'
while ! hf a switchover $V b --force 2>"$T/said"; do
	grep -q 'lacks\|catching up' "$T/said" || fail "switchover amid writes: $(cat "$T/said")"
done
wait "$job" || true
wait_online b
for n in $(tail -n 20 "$T/acknowledged"); do
	qio b -r -c "read -P $((n % 200 + 1)) $((n % 24 + 16))M 1M" || fail "write $n was acknowledged: $said_qio"
done
fact "switchover amid writes: the last of the $(wc -l <"$T/acknowledged") acknowledged are there"
hf b switchover $V a
wait_online a

background qemu-io -f raw "$(uri a)" -c "sleep 20000"
held=$job
wait_until 5 "a client is there" eval 'tail -n 1 "$T/a/var/log/holdfast/$V.log" | grep -q "connected, read-write"'
refused 1 'held for writing by 1 NBD client.*--force' hf a demote $V
refused 1 'held for writing by 1 NBD client.*--force' hf a switchover $V b
kill "$held"
wait_until 5 "the client is gone" eval 'tail -n 1 "$T/a/var/log/holdfast/$V.log" | grep -q "left"'
fact "a device that is in use is not taken from its writer without --force"
hf a demote $V
is a 's["role"] == "secondary"' || fail "demote"
write a 3 && fail "a demoted node took a write"
hf a promote $V --wait 10
wait_online a
write a 4 || fail "promoted again, a write failed"
fact "demote and promote again"

# The old primary stands still during a failover.
old=$(pid_of a)
kill -STOP "$old"
wait_until 10 "b sees it gone" is b 'not p["connected"]'
said "log ends at LSN [0-9]+; primary a was last heard [0-9.]+ s ago" hf b failover $V --dry-run
is b 's["role"] == "secondary"' || fail "a dry run changed something"
refused 1 "node a is not connected.*--force" hf b promote $V
said "log ends at LSN [0-9]+; primary a" hf b failover $V --force
is b 's["role"] == "primary"' || fail "failover"
write b 5 || fail "the new primary refused a write"
kill -CONT "$old"
wait_until 20 "the old primary is superseded" is a 's["role"] == "secondary"'
write a 6 && fail "the superseded primary took a write"
grep -q "superseded" "$T/a/var/log/holdfast/$V.log" || fail "the log does not say superseded"
wait_online b 30
qio b -r -c "read -P 5 0 64k" || fail "the new primary's write is gone: $said_qio"
fact "an old primary that slept through a failover is superseded, says so, and follows"

# The same, but it took writes that nobody else has: test_fence.sh.
nodes_down
stores_same
