#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An old primary that slept, or was cut off, while another node took over: as soon as they meet it finds itself fenced,
# says so, refuses writes and follows by itself. What only it had written is kept as a divergence; if there was
# nothing, there is none.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io nbdcopy

# write NODE BYTE MIB: 256 KiB of it there
write()
{
	qio "$1" -c "write -P $2 ${3}M 256k" -c flush
}

# has NODE BYTE MIB
has()
{
	qio "$1" -r -c "read -P $2 ${3}M 256k"
}

start()
{
	local node
	nodes_create 64M C --no-loop
	for node in a b; do node_set $node peer-timeout 1s; done
	nodes_up
	primary_make a
	write a 1 1 || fail "$said_qio"
	wait_online a
}

# What the old primary a says, does and becomes when it meets b.
fenced()
{
	wait_until 30 "a is secondary" is a 's["role"] == "secondary"'
	wait_until 5 "a's log says that it was superseded" \
		grep -q 'superseded: .*writes are refused from now on' "$T/a/var/log/holdfast/$V.log"
	write a 66 20 && fail "the fenced primary took a write"
	wait_until 60 "a follows b and has everything" all_applied b
	is a 'p["state"] == "following" and p["role"] == "primary" and s["epoch"]["node"] == "b"' ||
		fail "a does not follow b: $(field a s)"
	said '^photos .*secondary' hf a status $V
}

start
kill -STOP "$(pid_of a)"
wait_until 20 "b sees a gone" is b 'not p["connected"]'
said 'log ends at LSN [0-9]+; primary a' hf b failover $V --force
write b 2 2 || fail "the new primary refuses writes: $said_qio"
kill -CONT "$(pid_of a)"
fenced
is a 's["divergences"] == []' || fail "a wrote nothing, and has a divergence: $(field a 's["divergences"]')"
has a 2 2 && has a 1 1 || fail "a has not what b has: $said_qio"
nodes_down
stores_same
nodes_remove
fact "stopped, with nothing written that b lacks: fenced, follows, no divergence"

# Writes that are in its queues when it stops are done after it goes on, by a primary that has not met the other yet.
start
kill -STOP "$(pid_of a)"
background qemu-io -f raw "$(uri a)" -c "write -P 3 3M 256k" -c flush
held=$job
wait_until 20 "b sees a gone" is b 'not p["connected"]'
hf b failover $V --force >/dev/null
write b 4 4 || fail "the new primary refuses writes: $said_qio"
kill -CONT "$(pid_of a)"
wait_until 30 "the write is answered" job_over "$held"
fenced
case $(field a 'len(s["divergences"])') in
0)	fact "the write in the queue was refused" ;;
1)	id=$(field a 's["divergences"][0]["id"]')
	hf a divergence $V export "$id" "$T/image" >/dev/null
	said=$(qemu-io -r -f raw -c "read -P 3 3M 256k" "$T/image")
	! grep -q 'verification failed' <<<"$said" || fail "the divergence has not the write: $said"
	fact "the write in the queue is in a divergence" ;;
*)	fail "more than one divergence" ;;
esac
has a 0 3 && has a 4 4 || fail "a has not what b has: $said_qio"
nodes_down
stores_same
nodes_remove
fact "stopped with a write in its queue: fenced, follows, and nothing is lost without a word"

# Cut off, it goes on alone, as min-copies = 1 allows; these writes were acknowledged, so they must not vanish.
start
link_down
wait_until 20 "b sees a gone" is b 'not p["connected"]'
wait_until 20 "a sees b gone" is a 'not p["connected"]'
write a 5 5 || fail "a alone refuses writes: $said_qio"
write a 6 1 || fail "a alone refuses writes: $said_qio"
hf b failover $V --force >/dev/null
write b 7 7 || fail "the new primary refuses writes: $said_qio"
volume_copy a "$T/before"
link_up
fenced
[ "$(field a 'len(s["divergences"])')" = 1 ] || fail "a's own writes are no divergence: $(field a 's["divergences"]')"
said '! 1 divergence' hf a status $V
said 'divergence .*were set aside for the history of node b' tail -n 40 "$T/a/var/log/holdfast/$V.log"
id=$(field a 's["divergences"][0]["id"]')
said 'the volume as node a had it' hf a divergence $V export "$id" "$T/alone"
cmp "$T/before" "$T/alone" || fail "the divergence is not what a had"
has a 0 5 && has a 1 1 && has a 7 7 || fail "a has not what b has: $said_qio"
hf b switchover $V a >/dev/null
wait_online a
write a 8 8 || fail "a is primary again and refuses writes: $said_qio"
wait_until 20 "b has it" all_applied a
nodes_down
stores_same
fact "cut off and writing: fenced, its tail is a divergence byte for byte, it follows and may be primary again"
