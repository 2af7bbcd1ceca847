#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the daemon may do: nothing beyond mounts when it was started as root; no more than that it serves a directory and a
# loop device all the same when it may not even mount, because the command line does that; the systemd unit.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools setpriv nbdcopy

# capabilities NODE: what the daemon has, in every set and every thread, as hex masks, each once.
capabilities()
{
	local pid masked=0
	pid=$(pid_of "$1")
	# where locked memory has a limit it may be locked without one
	grep -q "^Max locked memory *unlimited" "/proc/$pid/limits" || masked=$((1 << 14))
	awk '/^Cap/ { print $2 }' "/proc/$pid"/task/*/status | while read -r set; do
		printf '%016x\n' $((0x$set & ~masked))
	done | sort -u | tr '\n' ' '
}

limited()
{
	local pid
	pid=$(pid_of "$1")
	grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$pid/status" || fail "$1: programs that it runs may get privileges"
	grep -Eq '^Max core file size +0 +0 ' "/proc/$pid/limits" || fail "$1: it may dump a core"
}

mounted()
{
	grep -q " $1 fuse.holdfast " /proc/mounts
}

unmounted()
{
	! mounted "$1"
}

# up_without NODE: as a service manager starts it.
up_without()
{
	mkdir -p "$T/$1/var/log"
	on "$1" setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$bin/holdfastd" --root "$T/$1" $V \
		2>>"$T/$1/var/log/daemon.log" || { fail "$1 does not start: $(cat "$T/$1/var/log/daemon.log")"; }
}

nodes_create 256M C --fs
hf a up $V
hf b up $V
none="0000000000000000 " mounts="0000000000000000 0000000000200000 "
[ "$(capabilities a)" = "$mounts" ] || fail "a daemon that mounts has capabilities $(capabilities a)"
limited a
primary_make a
hf a mount $V "$T/on-a"
wait_until 10 "the filesystem is made" touch "$T/on-a/x"
[ "$(capabilities a)" = "$mounts" ] || fail "with a mount it has capabilities $(capabilities a)"
hf a down $V
unmounted "$T/on-a" || fail "down leaves the mount"
hf a up $V
hf a promote $V --wait 20 >/dev/null
fact "of what root may do it keeps mount(2)"

node_set a loop no
sed -i '/^filesystem *=/d' "$T/b/etc/holdfast/$V.conf"
hf b down $V
node_set b loop no
hf b up $V
[ "$(capabilities b)" = "$none" ] || fail "a daemon without mounts has capabilities $(capabilities b)"
limited b
fact "and without a mount nothing"

hf b down $V
node_set b filesystem yes
hf a down $V
sed -i '/^loop *=/d' "$T/a/etc/holdfast/$V.conf"
node_set a memory 200M
up_without a
hf b up $V
[ "$(capabilities a)" = "$none" ] || fail "it was started without any and has capabilities $(capabilities a)"
primary_make a
hf a mount $V "$T/on-a"
echo one >"$T/on-a/one"
hf b mount $V "$T/on-b"
wait_until 10 "the secondary shows it" cmp "$T/on-a/one" "$T/on-b/one"
refused 1 "mounted at .* already" hf a mount $V "$T/elsewhere"
unmounted "$T/elsewhere" || fail "a mount that was refused stays"
sleep 1000 <"$T/on-a/one" &
jobs_started+=($!)
busy=$!
refused 1 "in use at .*fuser" hf a umount $V
kill $busy
wait $busy 2>/dev/null || true
hf a umount $V
unmounted "$T/on-a" || fail "umount leaves the mount"
hf a mount $V "$T/on-a"
[ "$(cat "$T/on-a/one")" = one ] || fail "it was mounted again and does not show the file"
fact "a daemon that may not mount serves a directory that the command line mounted"

sleep 1000 <"$T/on-a/one" &
jobs_started+=($!)
hf a umount $V --force
unmounted "$T/on-a" || fail "umount --force leaves the mount"
hf a mount $V "$T/on-a"
hf a switchover $V b
wait_until 10 "the role has moved" touch "$T/on-b/two"
touch "$T/on-a/three" 2>/dev/null && fail "the old primary's directory is writable"
wait_until 10 "the old primary shows it" ls "$T/on-a/two"
device=$(hf a attach $V 2>/dev/null)
[ "$(blockdev --getsize64 "$device")" = $((256 << 20)) ] || fail "the loop device has another size"
volume_copy a "$T/image"
cmp "$device" "$T/image" || fail "the loop device has other bytes"
hf a detach $V
hf a down $V
unmounted "$T/on-a" || fail "down leaves the directory"
unmounted "$T/a/run/holdfast/$V.mnt" || fail "down leaves the loop front end"
grep -q "$T/a/" /proc/mounts && fail "a mount is left: $(grep "$T/a/" /proc/mounts)"
fact "roles, force, a loop device and down as well"

# With the directory of the config, and of a daemon that died.
node_set a mount "$T/on-a"
up_without a
hf a mount $V
mounted "$T/on-a" || fail "mount without a directory does not mount that of the config"
daemon_kill a
refused 3 "no daemon" hf a umount $V --force
unmounted "$T/on-a" || fail "the dead mount stays"
fact "the config's directory; the mount of a dead daemon goes"

if command -v systemd-analyze >/dev/null; then
	sed "s|@PREFIX@|/usr/local|" "$top/daemon/holdfast@.service" >"$T/holdfast@.service"
	exposure=$(systemd-analyze security --offline=true "$T/holdfast@.service" |
		sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
	awk -v e="${exposure:-10}" 'BEGIN { exit !(e < 3) }' || fail "the unit's exposure is ${exposure:-unknown}"
	fact "the unit's exposure is $exposure"
fi
