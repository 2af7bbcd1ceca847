#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A full disk: `create` is refused and leaves nothing; a store that cannot grow makes writes wait, the status says why,
# and they go on when there is room. On the primary and on the secondary.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io
net_up

# disk NODE SIZE: its root is a disk of its own.
disk()
{
	mkdir -p "$T/$1"
	mount -t tmpfs -o "size=$2" none "$T/$1" || skip "there is no tmpfs"
}

disk a 50M
refused 1 'journal .*No space left on device; make room' hf a create $V --size 64M --node a --journal-size 64M
[ -z "$(find "$T/a" -type f)" ] || fail "a refused create left: $(find "$T/a" -type f)"
umount "$T/a"
fact "create on a full disk is refused and leaves no file"

# Nine writes of 25 MiB, on a disk of NODE that holds three.
fill()
{
	local node=$1
	disk "$node" 150M
	nodes_create 256M C --no-loop
	nodes_up
	primary_make a
	writes=() reads=()
	for n in 0 1 2 3 4 5 6 7 8; do
		writes+=(-c "write -P $((n + 5)) $((n * 25))M 25M")
		reads+=(-c "read -P $((n + 5)) $((n * 25))M 25M")
	done
	background qemu-io -f raw "$(uri a)" "${writes[@]}" -c flush
	wait_until 20 "the status of $node says that the disk is full" is "$node" '"disk is full" in s["waiting_for"]'
	said 'disk is full; free space' hf "$node" status $V
	if [ "$node" = b ]; then
		wait_until 20 "the primary says that it waits for b" is a '"b" in s["waiting_for"] or p["state"] != "online"'
	fi
	is "$node" 's["failed"] == ""' || fail "the replica failed"
	job_over "$job" && fail "a write failed, or was acknowledged without room"
	mount -o remount,size=800M "$T/$node"
	wait "$job" || fail "a write failed after there was room"
	wait_online a 30
	qio a -r "${reads[@]}" || fail "$said_qio"
	wait_until 20 "the secondary has applied all" all_applied a
	nodes_down
	stores_same
	umount "$T/$node"
	rm -rf "${T:?}/a" "${T:?}/b"
}

fill a
fact "the primary's store was full: writes waited, and went on when there was room"
fill b
fact "the secondary's store was full: the same"
