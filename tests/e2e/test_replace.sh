#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A replica's files are lost, and `replace` makes it anew. A secondary that is being resynced serves what it had before,
# and goes back to it when it has to take over; where undo-size does not allow that, it says so before it begins.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io nbdcopy

export journal_size=32M

# write NODE BYTE MIB LENGTH: LENGTH MiB of it from there on
write()
{
	qio "$1" -c "write -P $2 ${3}M ${4}M" -c flush || fail "$1: $said_qio"
}

# writes_go_on: 1 MiB after another at a, a line for each that was acknowledged.
writes_go_on()
{
	local n=0
	while qio a -c "write -P $((n % 250 + 1)) $((n % 64 + 128))M 1M" -c flush; do
		n=$((n + 1))
		echo $n >>"$T/written"
	done
}

writes_stop()
{
	kill "$1"
	wait "$1" 2>/dev/null || true
}

more_than()
{
	[ "$(wc -l <"$T/written")" -gt "$1" ]
}

# ---- the disk of a secondary goes while it is mirrored to

nodes_create 256M C --no-loop
for node in a b; do node_set $node peer-timeout 1s; done
nodes_up
primary_make a
write a 1 0 64
wait_until 30 "b has it all" all_applied a
: >"$T/written"
background writes_go_on
writer=$job
wait_until 30 "writes are done" more_than 3
replica_remove b
daemon_kill b
refused 1 'holdfast replace' hf b up $V
count=$(wc -l <"$T/written")
wait_until 30 "a writes without b" more_than $((count + 3))
said 'as soon as it meets a peer that has the volume, a resync begins by itself' hf b replace $V
wait_until 60 "b is filled" is b 's["consistent"] and not s["resync"]["running"] and s["lsn"]["applied"] > 0'
job_over "$writer" && fail "a write failed while b was replaced"
writes_stop "$writer"
wait_until 60 "b has it all" all_applied a
is b 's["divergences"] == []' || fail "a new replica has a divergence"
nodes_down
stores_same
fact "state directory removed, daemon killed: replace filled it beside $(wc -l <"$T/written") writes"

# ---- the primary's

nodes_up
primary_make a
replica_remove a
daemon_kill a
wait_until 20 "b sees a gone" is b 'not p["connected"]'
hf b failover $V --force >/dev/null
write b 2 0 1
said 'a resync begins by itself' hf a replace $V
wait_until 60 "a is filled" all_applied b
qio a -r -c "read -P 2 0 1M" -c "read -P 1 1M 63M" || fail "a after replace: $said_qio"
hf b switchover $V a >/dev/null
wait_online a
nodes_down
stores_same
nodes_remove
fact "the primary's files removed: the other takes over, replace fills it, and it may be primary again"

# ---- behind the journal: what the secondary shows until it is there

# b has 1 everywhere in the first 64 MiB, then misses three journals full of other bytes.
far_behind()
{
	nodes_create 256M C --no-loop --resync-rate 8M "$@"
	for node in a b; do node_set $node peer-timeout 1s; done
	nodes_up
	primary_make a
	write a 1 0 64
	wait_until 30 "b has it all" all_applied a
	volume_copy b "$T/old"
	hf b down $V
	write a 2 0 48
	write a 3 100 48
	hf b up $V
	wait_until 30 "a resync runs" is b 's["resync"]["running"]'
}

resync_over()
{
	hf a peer $V list >/dev/null
	wait_until 120 "the resync is over" is b 'not s["resync"]["running"]'
	wait_until 30 "b has it all" all_applied a
}

far_behind --undo-size 256M
is b 's["consistent"] and s["resync"]["source"] == "a"' || fail "b is not consistent: $(field b s)"
said 'resyncing [0-9]+ %.* from a' hf b status $V
said 'consistent as of LSN [0-9]+: readers see that' hf b status $V
said 'resyncing .*left\)|resyncing ' hf a status $V
is a 'p["state"] == "resyncing" and p["resync"]["running"]' || fail "a does not say so: $(field a p)"
refused 1 'primary a is alive' hf b failover $V --force
volume_copy b "$T/seen"
is b 's["resync"]["running"]' || fail "the resync was over before the copy was"
cmp "$T/seen" "$T/old" || fail "a reader saw something else than what b had"
fact "during a resync the secondary shows what it had, byte for byte"

hf a switchover $V b >"$T/said" 2>&1 && fail "a switchover to a node in a resync"
said 'node b is resyncing' cat "$T/said"
write a 4 60 1
resync_over
qio b -r -c "read -P 2 0 48M" -c "read -P 3 100M 48M" -c "read -P 4 60M 1M" || fail "b after the resync: $said_qio"
nodes_down
stores_same
nodes_remove
fact "the resync went on beside writes and ended by itself; the stores are the same"

far_behind --undo-size 256M
wait_until 30 "some of it is there" is b 's["resync"]["bytes_done"] > 16 << 20'
daemon_kill a
wait_until 20 "b sees a gone" is b 'not p["connected"]'
said 'log ends at LSN' hf b failover $V --dry-run
hf b failover $V --force >/dev/null
is b 's["role"] == "primary" and s["consistent"] and not s["resync"]["running"]' || fail "b: $(field b s)"
volume_copy b "$T/seen"
cmp "$T/seen" "$T/old" || fail "b did not go back to what it had"
fact "a take-over during a resync goes back to what the secondary had, byte for byte"
write b 5 200 1
hf a up $V
wait_until 120 "a has set aside what only it had" is a 'len(s["divergences"]) == 1'
wait_until 120 "a follows b" all_applied b
id=$(field a 's["divergences"][0]["id"]')
hf a divergence $V export "$id" "$T/image" >/dev/null
said=$(qemu-io -r -f raw -c "read -P 2 0 48M" -c "read -P 3 100M 48M" -c "read -P 1 48M 16M" "$T/image")
! grep -q 'verification failed' <<<"$said" || fail "the divergence is not what a had: $said"
nodes_down
stores_same
rm -f "$T/image"
nodes_remove
fact "what the old primary had written is its divergence, and the stores are the same"

# ---- undo-size is too small

far_behind --undo-size 1M
is b 'not s["consistent"]' || fail "b says it is consistent, with nothing to go back to"
said 'inconsistent until the resync is over' hf b status $V
said=$(grep -n 'undo: .*undo-size allows .*inconsistent' "$T/b/var/log/holdfast/$V.log") || fail "b's log does not say so"
begins=$(grep -n 'resync from node a: .* blocks, log from LSN' "$T/b/var/log/holdfast/$V.log" | tail -n 1)
[ "${said%%:*}" -lt "${begins%%:*}" ] || fail "b said so only after it had begun"
nbdcopy "$(uri b)" "$T/seen" 2>"$T/said" && fail "an inconsistent replica was read"
daemon_kill a
wait_until 20 "b sees a gone" is b 'not p["connected"]'
refused 1 'inconsistent: its resync from node a is not over' hf b failover $V --force
refused 1 'inconsistent: its resync from node a is not over' hf b promote $V --force
hf a up $V
primary_make_again()
{
	hf a promote $V --force >/dev/null 2>&1
}
wait_until 30 "a is primary again" primary_make_again
resync_over
is b 's["consistent"]' || fail "b is still inconsistent"
nodes_down
stores_same
fact "undo-size too small: said before it began, neither read nor promoted until it was over"
