#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A thousand strangers who say nothing, and others who say garbage, knock at both nodes: replication goes on, a peer that
# comes back is let in, memory and log stay bounded.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io python3

# How long 64 MiB take to be written and durable on both.
write_ms()
{
	local begin
	begin=$(now_ms)
	qio a -c "write -P $1 0 16M" -c "write -P $1 16M 16M" -c "write -P $1 32M 16M" -c "write -P $1 48M 16M" -c flush ||
		fail "qemu-io: $said_qio"
	echo $(($(now_ms) - begin))
}

# resident NODE: KiB
resident()
{
	awk '/^VmRSS:/ { print $2 }' "/proc/$(pid_of "$1")/status"
}

knock()
{
	on c python3 "$here/strangers.py" "$(address_of "$1")" 7701 "$2" "$3" >"$T/knocking-$1"
}

nodes=(a b c)
need_root
net_up
nodes=(a b)
nodes_create 128M C --no-loop
nodes_up
primary_make a
write_ms 1 >/dev/null
alone=$(write_ms 2)
before=$(($(resident a) + $(resident b)))
daemons=$(pid_of a)
for node in a b; do
	background knock $node 1000 4
	wait_until 30 "the crowd is at $node" grep -q knocking "$T/knocking-$node"
done
beside=$(write_ms 3)
echo "   64 MiB alone: $alone ms, beside the crowd: $beside ms"
[ "$beside" -lt $((3 * alone + 2000)) ] || fail "the crowd has slowed replication down: $beside ms, alone $alone ms"
fact "beside 2000 who say nothing and 8 who say garbage 64 MiB were written and replicated"

daemon_kill b
qio a -c "write -P 4 0 4M" -c flush || fail "qemu-io: $said_qio"
hf b up $V
wait_online a 15
[ "$daemons" = "$(pid_of a)" ] || fail "a has died"
fact "a peer that comes back is let in beside them"

told()
{
	grep -qE 'W volume=photos [0-9]+ more connections were refused meanwhile' "$T/$1/var/log/holdfast/$V.log"
}
for node in a b; do wait_until 30 "$node tells how many they were" told $node; done
after=$(($(resident a) + $(resident b)))
echo "   resident: $before KiB before, $after KiB beside the crowd"
[ "$after" -lt $((before + 24 * 1024)) ] || fail "the crowd takes memory: $before KiB, then $after KiB"
seconds=$(($(date +%s) - $(stat -c %Y "$T/knocking-a") + 1))
for node in a b; do
	lines=$(grep -c 'refused' "$T/$node/var/log/holdfast/$V.log")
	echo "   log of $node: $lines lines of them"
	[ "$lines" -le $((12 * (seconds / 10 + 2))) ] || fail "the crowd fills the log of $node: $lines lines in $seconds s"
done
fact "memory and log stay bounded"
wait_online a
nodes_down
stores_same
