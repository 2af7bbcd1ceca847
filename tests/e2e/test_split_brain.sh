#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Both nodes are made primary while the link is cut, and both write. They say so and change nothing until somebody
# decides; then the one that gives up keeps what it wrote, byte for byte. By hand on either side, and by each policy.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io nbdcopy

write()
{
	qio "$1" -c "write -P $2 $3 $4" -c flush || fail "$1: $said_qio"
}

start()
{
	local node
	nodes_create 64M C --no-loop --undo-size 64M --split-brain "$1"
	for node in a b; do node_set $node peer-timeout 1s; done
	nodes_up
	primary_make a
	write a 1 0 8M
	wait_until 20 "b has it all" all_applied a
	link_down
	wait_until 20 "b sees a gone" is b 'not p["connected"]'
	wait_until 20 "a sees b gone" is a 'not p["connected"]'
	hf b failover $V --force >/dev/null
	hf a demote $V
	hf a promote $V --force
}

# What both wrote: a 1 MiB at 1 MiB and 64 KiB at 16 MiB, b 512 KiB at 1 MiB.
write_both()
{
	write a 8 1M 1M
	write a 9 16M 64k
	write b 7 1M 512k
}

# is_split NODE: it says so, and how to go on.
is_split()
{
	is "$1" 'p["state"] == "split brain" and "were both primary after LSN" in p["why"] and "holdfast resolve" in p["why"]'
}

heal()
{
	volume_copy a "$T/a.before"
	volume_copy b "$T/b.before"
	link_up
}

# The loser has what it wrote as a divergence, and follows the winner; then it is dropped, and its space comes back.
resolved()
{
	local winner=$1 loser=$2 id slot before after
	wait_until 60 "$loser has set aside what it wrote" is "$loser" 'len(s["divergences"]) == 1'
	wait_until 60 "$loser has all of $winner" all_applied "$winner"
	is "$winner" 's["role"] == "primary" and s["divergences"] == []' || fail "the winner: $(field "$winner" s)"
	is "$loser" 's["role"] == "secondary"' || fail "the loser: $(field "$loser" s)"
	volume_copy "$winner" "$T/now"
	cmp "$T/now" "$T/$winner.before" || fail "the winner's volume has changed"
	id=$(field "$loser" 's["divergences"][0]["id"]')
	slot=$T/$loser/var/lib/holdfast/$V/undo-$(field "$loser" 's["divergences"][0]["slot"]')
	said "$id" hf "$loser" divergence $V list
	said "given up +for the history of node $winner" hf "$loser" divergence $V show "$id"
	said "the volume as node $loser had it" hf "$loser" divergence $V export "$id" "$T/image"
	cmp "$T/image" "$T/$loser.before" || fail "the divergence is not what $loser had"
	sync "$slot"
	before=$(du -k "$slot" | cut -f 1)
	said 'dropped' hf "$loser" divergence $V drop "$id"
	wait_until 20 "the divergence is gone" is "$loser" 's["divergences"] == []'
	after=$(du -k "$slot" | cut -f 1)
	[ "$after" -lt "$before" ] || fail "no space came back: $before KiB, then $after KiB"
	write "$winner" 10 20M 1M
	wait_until 20 "$loser has it" all_applied "$winner"
	nodes_down
	stores_same
	rm -f "$T/image" "$T/now"
	nodes_remove
	fact "$loser gave up for $winner: its image is what it had, and drop gave $((before - after)) KiB back"
}

# by_hand WINNER WHERE
by_hand()
{
	local winner=$1 where=$2 node
	start none
	write_both
	heal
	for node in a b; do wait_until 30 "$node says split brain" is_split $node; done
	for node in a b; do said 'split brain.*' hf $node status $V; done
	write a 9 16M 64k		# the same bytes: both stay primary until somebody decides
	write b 7 1M 512k
	for node in a b; do
		is $node 's["role"] == "primary"' || fail "$node gave up by itself"
		said 'a wrote [0-9]+ bytes in 272 blocks' hf $node resolve $V --keep a --dry-run
		said 'b wrote [0-9]+ bytes in 128 blocks' hf $node resolve $V --keep b --dry-run
	done
	refused 2 'usage' hf a resolve $V
	refused 1 'no node has that name' hf a resolve $V --keep nobody
	is_split a || fail "a dry run or a refusal decided: $(field a p)"
	said "sets aside what it wrote since LSN [0-9]+ and takes the history of $winner" \
		hf "$where" resolve $V --keep "$winner"
	resolved "$winner" "$(other "$winner")"
}

by_hand b b
by_hand b a
by_hand a b

nodes_create 64M C --no-loop
nodes_up
primary_make a
refused 1 'there is no split brain' hf a resolve $V --keep a
nodes_remove

# Policies: who gives up is told by the config of each, and nobody has to come.
start keep-primary
write_both
hf a demote $V
heal
resolved b a

start keep-newest
write b 7 1M 512k
write a 8 1M 1M
heal
resolved a b

start keep-only-writer
write a 8 1M 1M
volume_copy b "$T/b.before"
heal
wait_until 60 "b has all of a" all_applied a
is b 's["role"] == "secondary"' || fail "b, which wrote nothing, is still primary"
[ "$(field b 'len(s["divergences"])')" -le 1 ] || fail "b: $(field b 's["divergences"]')"
volume_copy b "$T/now"
cmp "$T/now" "$T/a.before" || fail "b has not what a had"
nodes_down
stores_same
nodes_remove
fact "keep-only-writer: b, which had written nothing, gave up"

start keep-only-writer
write_both
heal
for node in a b; do wait_until 30 "$node says split brain" is_split $node; done
hf a resolve $V --keep a >/dev/null
resolved a b
fact "keep-only-writer decides nothing when both wrote"
