#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Either daemon is killed at random moments below a filesystem that is written to. After every round all that was
# fsynced is there and the filesystem is clean; at the end both stores are the same bytes. (ROUNDS=20 SEED=n)
. "$(dirname "$0")/lib.sh"
need_root
need_loop

rounds=${ROUNDS:-20}
RANDOM=${SEED:-$(date +%N | sed 's/^0*//')}
echo "seed: SEED=$RANDOM"
RANDOM=$RANDOM
primary=a mounted=no

filesystem_open()
{
	local status=0
	device=$(hf $primary attach $V)
	if [ "${1:-}" = check ]; then
		e2fsck -p "$device" >"$T/fsck" 2>&1 || status=$?
		[ $status -le 1 ] || fail "e2fsck -p says $status: $(cat "$T/fsck")"
		e2fsck -fn "$device" >"$T/fsck" 2>&1 || fail "e2fsck -fn: $(cat "$T/fsck")"
	fi
	mount "$device" "$T/mount"
	mounted=yes
}

filesystem_close()
{
	umount "$T/mount" || fail "umount"
	mounted=no
	hf $primary detach $V 2>/dev/null || true
}

writer_start()
{
	background python3 "$here/writer.py" write "$T/mount/data" "$T/log"
	writer=$job
}

writer_stop()
{
	kill "$writer" 2>/dev/null || true
	wait "$writer" 2>/dev/null || true
}

nodes_create 512M C
nodes_up
primary_make a
mkdir "$T/mount"
touch "$T/log"
mkfs.ext4 -q "$(hf a attach $V)"
hf a detach $V
filesystem_open
mkdir "$T/mount/data"
sync -f "$T/mount"

for ((round = 1; round <= rounds; round++)); do
	writer_start
	sleep "0.$((RANDOM % 900 + 100))"
	if ((RANDOM % 3 == 0)); then
		victim=$(other $primary)
		daemon_kill "$victim"
		sleep "0.$((RANDOM % 500 + 100))"
		job_over "$writer" && fail "the writer ended when the secondary was killed"
		hf "$victim" up $V
		wait_online $primary 30
		writer_stop
		filesystem_close
	else
		victim=$primary
		daemon_kill "$victim"
		wait "$writer" 2>/dev/null || true
		filesystem_close
		hf "$victim" up $V
		primary_make "$victim"
	fi
	if ((RANDOM % 3 == 0)); then
		hf $primary switchover $V "$(other $primary)" >/dev/null
		primary=$(other $primary)
		wait_online $primary 30
	fi
	filesystem_open check
	python3 "$here/writer.py" check "$T/mount/data" "$T/log" >"$T/said" || fail "round $round: $(cat "$T/said")"
	echo "round $round: killed $victim, primary is $primary: $(cat "$T/said")"
done

filesystem_close
[ $mounted = no ]

# A loop device outlives the daemon below it; the next one lets go of it.
device=$(hf $primary attach $V)
daemon_kill $primary
said "$device was of a daemon that has died; it is detached" hf $primary up $V
[ ! -e "/sys/block/${device#/dev/}/loop/backing_file" ] || fail "$device is still there"
primary_make $primary
device=$(hf $primary attach $V)
mount "$device" "$T/mount"
daemon_kill $primary
said "$device was of a daemon that has died.* umount it" hf $primary up $V
umount "$T/mount"
wait_until 10 "$device is gone" test ! -e "/sys/block/${device#/dev/}/loop/backing_file"
primary_make $primary
fact "a loop device over a daemon that died goes with the next up"

wait_until 30 "everything is applied at the secondary" all_applied $primary
hf $primary down $V
hf "$(other $primary)" down $V
stores_same
fact "both stores are the same bytes"
