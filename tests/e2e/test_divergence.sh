#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a node wrote beside another primary and gave up: listed, exported as an image of that side, dropped. And a disk
# that is lost is replaced by one command.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io python3

nodes_create 64M C --no-loop --undo-size 64M
nodes_up
primary_make a
qio a -c "write -P 1 0 8M" -c flush || fail "$said_qio"
wait_online a
said 'no divergence' hf a divergence $V list
refused 1 'is no id' hf a divergence $V show xyz
refused 1 'there is none' hf a divergence $V export 12 "$T/image"
refused 2 'usage: ' hf a divergence $V drop

link_down
wait_until 20 "b sees a gone" is b 'not p["connected"]'
hf b failover $V --force >/dev/null
qio b -c "write -P 7 1M 64k" -c flush || fail "$said_qio"
qio a -c "write -P 8 2M 64k" -c flush || fail "$said_qio"
link_up
wait_until 30 "a has given up what it wrote" is a 'len(s["divergences"]) == 1'
wait_until 30 "a follows" in_sync b
id=$(field a 's["divergences"][0]["id"]')
said "$id .*recording" hf a divergence $V list
said 'changed +16 blocks' hf a divergence $V show "${id:0:6}"
said '1 divergence' hf a status $V

# Block by block as it was on that side, also when the store has gone on, and with the daemon or without.
qio b -c "write -P 9 2M 4M" -c flush || fail "$said_qio"
wait_until 20 "a has applied it" all_applied b
said 'the volume as node a had it' hf a divergence $V export "${id:0:6}" "$T/image"
refused 1 'exists already' hf a divergence $V export "$id" "$T/image"
image=$(qemu-io -r -f raw -c "read -P 8 2M 64k" -c "read -P 1 1M 64k" -c "read -P 1 2112k 5M" "$T/image")
! grep -q 'verification failed' <<<"$image" || fail "the image is not what a had: $image"
qio a -r -c "read -P 7 1M 64k" -c "read -P 9 2M 4M" || fail "a is not what b has: $said_qio"
hf a down $V
hf a divergence $V export "$id" "$T/image2" >/dev/null
cmp "$T/image" "$T/image2" || fail "without the daemon the image is another one"
refused 1 'is a file of the replica' hf a divergence $V export "$id" "$T/a/var/lib/holdfast/$V/store" --force
refused 3 'no daemon' hf a divergence $V drop "$id"
hf a up $V
said 'dropped, .*(came|coming) back' hf a divergence $V drop "$id"
said 'no divergence' hf a divergence $V list
fact "a divergence is exported byte for byte, beside the daemon and without it, then dropped"

wait_online b
refused 1 'its daemon is running' hf a replace $V
hf a down $V
refused 1 'all files of this replica are there.*--force' hf a replace $V
replica_remove a
refused 1 'holdfast replace' hf a up $V
said 'a resync begins' hf a replace $V
wait_until 30 "the new replica is in sync" all_applied b
qio a -r -c "read -P 7 1M 64k" -c "read -P 9 2M 4M" -c "read -P 1 6M 2M" || fail "after replace: $said_qio"
hf a down $V
said '8 old files now end in .old-' hf a replace $V --force
wait_until 30 "the new replica is in sync again" all_applied b
nodes_down
stores_same
fact "a lost disk is replaced by one command; a whole replica only by force, and what it had is kept aside"
