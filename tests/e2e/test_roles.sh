#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who may be primary: refusals name the next step; a switchover loses nothing; an old primary that comes back from a
# failover is superseded and writes no more.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io

qio()
{
	local node=$1
	shift
	qemu-io -f raw "$@" "$(uri "$node")" 2>&1
}

writes_ok()
{
	! qio "$1" -c "write -P $2 0 64k" -c flush | grep -qiE 'fail|error|read.only|denied|permi'
}

nodes_create 64M C --no-loop
for node in a b; do node_set $node peer-timeout 1s; done
refused 3 'no daemon is running' hf a promote $V
hf a up $V
refused 1 "node b is not connected.*--force" hf a promote $V
writes_ok a 1 && fail "a secondary took a write"
hf b up $V
hf a promote $V --wait 10
said 'primary already' hf a promote $V
wait_online a
refused 1 "node a is primary.*switchover $V b" hf b promote $V
refused 1 "primary a is alive.*switchover $V b" hf b failover $V --force
refused 2 'usage' hf b failover $V
refused 1 'no peer is named nobody' hf a switchover $V nobody
fact "promotion: refused without the peer, and beside a primary"

writes_ok a 2 || fail "the primary refused a write"
for round in 1 2 3; do
	for from in a b; do
		to=$(other $from)
		qio $from -c "write -P $((round * 16)) 1M 4M" -c "write -P $((round * 16 + 1)) 5M 4M" >/dev/null
		said 'nothing would be lost' hf $from switchover $V $to --dry-run
		is $from 's["role"] == "primary"' || fail "a dry run changed something"
		if [ $round -eq 2 ]; then
			hf $to switchover $V $to		# asked of the one who becomes it
		else
			hf $from switchover $V $to
		fi
		wait_until 10 "$to is primary" is $to 's["role"] == "primary"'
		is $from 's["role"] == "secondary"' || fail "two primaries"
		qio $to -c "read -P $((round * 16)) 1M 4M" -c "read -P $((round * 16 + 1)) 5M 4M" | grep -qi fail &&
			fail "round $round: data is missing after a switchover from $from to $to"
		wait_online $to
	done
done
fact "switchover six times, both ways and asked on both sides: nothing lost"

# With writes in flight: what was acknowledged is there.
background qemu-io -f raw "$(uri a)" -c "write -P 99 8M 16M" -c "write -P 98 24M 8M"
hf a switchover $V b || true
wait "$job" || true
wait_until 10 "one is primary" is b 's["role"] == "primary"'
wait_online b
hf b switchover $V a
wait_online a
fact "switchover with writes in flight"

hf a demote $V
is a 's["role"] == "secondary"' || fail "demote"
writes_ok a 3 && fail "a demoted node took a write"
hf a promote $V --wait 10
wait_online a
writes_ok a 4 || fail "promoted again, a write failed"
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
writes_ok b 5 || fail "the new primary refused a write"
kill -CONT "$old"
wait_until 20 "the old primary is superseded" is a 's["role"] == "secondary"'
writes_ok a 6 && fail "the superseded primary took a write"
grep -q "superseded" "$T/a/var/log/holdfast/$V.log" || fail "the log does not say superseded"
wait_online b 30
qio b -c "read -P 5 0 64k" | grep -qi fail && fail "the new primary's write is gone"
fact "an old primary that slept through a failover is superseded, says so, and follows"

# The same, but it took writes that nobody else has: it keeps them, and follows nobody.
link_down
wait_until 10 "a is alone" is b 'not p["connected"]'
wait_until 10 "b is alone" is a 'not p["connected"]'
writes_ok b 7 || fail "b alone refused a write"
hf a failover $V --force >/dev/null
writes_ok a 8 || fail "a refused a write"
link_up
wait_until 20 "b has stopped to be primary" is b 's["role"] == "secondary"'
writes_ok b 9 && fail "the superseded primary took a write"
is a 's["role"] == "primary"' || fail "the new primary stepped down"
wait_until 10 "b says what it needs" is b '"rewind" in p["why"]'
said 'needs a rewind' hf b status $V
said 'needs a rewind' hf a status $V
writes_ok a 10 || fail "the new primary refuses writes"
fact "one that wrote beside the new primary is superseded, keeps its log and says what it needs"
nodes_down
