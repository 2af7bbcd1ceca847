# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Helpers of the end-to-end tests: nodes a and b (or as many as `nodes` names), each in a network namespace of its own,
# each two of them joined by a veth pair, so that one link can be cut and the others stay.
#
#	. "$(dirname "$0")/lib.sh"
#	nodes_create 256M		# T is the directory of this test; hf NODE VERB ... is holdfast there
#	nodes_up; hf a promote $V --wait 10
#
# Whatever happens, what a test started is gone when it ends: processes are found by their --root below $T, mounts
# and loop devices by their path below $T. Exit 77 skips.
set -eu -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${HOLDFAST_BIN:-$top/build/release}
here=$top/tests/e2e
T=$(mktemp -d "${TMPDIR:-/tmp}/holdfast-e2e.XXXXXX")
V=photos
uuid=$(cat /proc/sys/kernel/random/uuid)
net=hf$$
nodes=(a b)
jobs_started=()

# ---- the end

# Prints the pids of daemons whose root is below $T.
daemons_of_test()
{
	local process
	for process in /proc/[0-9]*; do
		case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in
		*holdfastd*" --root $T/"*) echo "${process#/proc/}" ;;
		esac
	done
}

cleanup()
{
	local status=$? pid device at
	trap - EXIT INT TERM ERR
	set +e
	if [ $status -ne 0 ] && [ $status -ne 77 ]; then
		for at in "$T"/*/var/log/holdfast/*.log; do
			[ -e "$at" ] && echo "--- ${at#"$T"/}" && tail -n "${LOG_LINES:-15}" "$at"
		done
		for at in "${nodes[@]}"; do
			[ -e "/run/netns/$net-$at" ] && echo "--- status of $at" && hf "$at" status
		done
	fi
	# A job is a shell; what it runs in a namespace is its child.
	# shellcheck disable=SC2046
	for pid in "${jobs_started[@]}"; do kill -KILL $(ps -o pid= --ppid "$pid") "$pid" 2>/dev/null; done
	for pid in $(daemons_of_test); do kill -KILL "$pid" 2>/dev/null; done
	wait 2>/dev/null
	awk -v t="$T/" 'index($2, t) == 1 && $3 !~ /^fuse/ { print $2 }' /proc/mounts | sort -r |
		while read -r at; do umount "$at" 2>/dev/null || umount -l "$at"; done
	for device in /sys/block/loop*/loop/backing_file; do
		case $(cat "$device" 2>/dev/null) in
		"$T"/*) device=${device#/sys/block/}; losetup -d "/dev/${device%%/*}" ;;
		esac
	done
	awk -v t="$T/" 'index($2, t) == 1 { print $2 }' /proc/mounts | sort -r |
		while read -r at; do umount -l "$at"; done
	net_down
	rm -rf --one-file-system "$T"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM
trap 'echo "stopped at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR
set -E

fail()
{
	echo "failed: $*" >&2
	trap - ERR
	exit 1
}

skip()
{
	echo "skipped: $*"
	exit 77
}

fact()
{
	echo "-- $*"
}

# ---- what the machine must have

need_root()
{
	[ "$(id -u)" = 0 ] || skip "needs root"
}

need_loop()
{
	[ -e /dev/fuse ] || modprobe fuse 2>/dev/null || skip "there is no /dev/fuse"
	[ -e /dev/loop-control ] || modprobe loop 2>/dev/null || skip "there is no /dev/loop-control"
}

need_tools()
{
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || skip "there is no $tool"
	done
}

# ---- namespaces

net_up()
{
	local node x y
	need_tools ip nsenter
	for node in "${nodes[@]}"; do
		ip netns add "$net-$node" 2>/dev/null || skip "network namespaces are not allowed here"
		ip -n "$net-$node" link set lo up
		ip -n "$net-$node" address add "$(address_of "$node")/32" dev lo
	done
	for x in "${nodes[@]}"; do
		for y in "${nodes[@]}"; do
			[[ $x < $y ]] || continue
			ip link add "$net-$x$y" netns "$net-$x" type veth peer name "$net-$y$x" netns "$net-$y" 2>/dev/null ||
				skip "there are no veth devices here"
			link_up "$x" "$y"
		done
	done
}

net_down()
{
	local node
	for node in a b c; do
		if [ -e "/run/netns/$net-$node" ]; then ip netns delete "$net-$node"; fi
	done
}

# Node names are single letters.
address_of()
{
	printf '10.77.0.%d\n' $(($(printf %d "'$1") - 96))
}

# link_down [X Y]: X is told, Y only hears nothing any more.
link_down()
{
	local x=${1:-a} y=${2:-b}
	ip -n "$net-$x" link set "$net-$x$y" down
}

link_up()
{
	local x=${1:-a} y=${2:-b}
	ip -n "$net-$x" link set "$net-$x$y" up
	ip -n "$net-$y" link set "$net-$y$x" up
	ip -n "$net-$x" route replace "$(address_of "$y")/32" dev "$net-$x$y" src "$(address_of "$x")"
	ip -n "$net-$y" route replace "$(address_of "$x")/32" dev "$net-$y$x" src "$(address_of "$y")"
}

# on NODE COMMAND...: in its network; mounts are everybody's.
on()
{
	local node=$1
	shift
	nsenter "--net=/run/netns/$net-$node" "$@"
}

hf()
{
	local node=$1
	shift
	on "$node" "$bin/holdfast" --root "$T/$node" "$@"
}

# other NODE: the first of the others.
other()
{
	local node
	for node in "${nodes[@]}"; do
		if [ "$node" != "$1" ]; then
			echo "$node"
			return
		fi
	done
}

# ---- nodes

# nodes_create SIZE [MODE [OPTIONS...]]; journal_size=SIZE before it, for another than 64M
nodes_create()
{
	local size=$1 mode=${2:-C} node peer peers
	shift
	[ $# -eq 0 ] || shift
	[ -e "/run/netns/$net-a" ] || { need_root; net_up; }
	for node in "${nodes[@]}"; do
		peers=()
		for peer in "${nodes[@]}"; do
			[ "$peer" = "$node" ] || peers+=(--peer "$peer=$(address_of "$peer"):7701,$mode")
		done
		hf "$node" create $V --size "$size" --node "$node" --uuid "$uuid" --listen "$(address_of "$node"):7701" \
			"${peers[@]}" --memory 160M --journal-size "${journal_size:-64M}" "$@" >/dev/null
	done
	nodes_pin
}

fingerprint_of()
{
	hf "$1" identity $V | sed -n 's/^ *\(sha256:[0-9a-f]*\)$/\1/p'
}

# pin NODE PEER [FINGERPRINT]: without one, the peer's own
pin()
{
	hf "$1" peer $V fingerprint "$2" "${3:-$(fingerprint_of "$2")}" >/dev/null
}

# Each node has the fingerprints of the others.
nodes_pin()
{
	local node peer
	for node in "${nodes[@]}"; do
		for peer in "${nodes[@]}"; do
			[ "$peer" = "$node" ] || pin "$node" "$peer"
		done
	done
}

# node_set NODE KEY VALUE: in the [volume] part of its config.
node_set()
{
	local config=$T/$1/etc/holdfast/$V.conf
	sed -i "/^$2 *=/d; s|^\[volume\]\$|[volume]\n$2 = $3|" "$config"
}

nodes_up()
{
	local node
	for node in "${nodes[@]}"; do hf "$node" up $V; done
}

nodes_down()
{
	local node
	for node in "${nodes[@]}"; do hf "$node" down $V; done
}

# All gone and made anew, for the next round of a test.
nodes_remove()
{
	local node
	for node in "${nodes[@]}"; do
		hf "$node" detach $V 2>/dev/null || true
		hf "$node" down $V 2>/dev/null || true
		rm -rf --one-file-system "${T:?}/$node"
	done
}

# replica_remove NODE: all files of it but its key, which the others would not know again.
replica_remove()
{
	find "$T/$1/var/lib/holdfast/$V" -type f ! -name 'identity.*' -delete
}

pid_of()
{
	cat "$T/$1/run/holdfast/$V.pid"
}

daemon_kill()
{
	local pid
	pid=$(pid_of "$1")
	kill -KILL "$pid"
	wait_until 20 "daemon of $1 is gone" daemon_gone "$1" "$pid"
}

# Also what its io_uring held: the kernel lets go of sockets and locks a moment after the process has died.
daemon_gone()
{
	local status=0
	process_gone "$2" || return 1
	hf "$1" status $V || status=$?
	[ $status -eq 3 ]
}

process_gone()
{
	[ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null
}

# field NODE EXPRESSION: a Python expression over its status s, its first peer p, and its peers by name.
field()
{
	hf "$1" status $V --json | python3 -c "
import json, sys
s = json.load(sys.stdin)
p = s['peers'][0] if s['peers'] else {}
peers = {p['name']: p for p in s['peers']}
print($2)"
}

# is NODE EXPRESSION: it is true now.
is()
{
	[ "$(field "$1" "$2" 2>/dev/null)" = True ]
}

# What a write in mode C waits for; a peer syncs its journal only when a flush asks.
in_sync()
{
	is "$1" 'all(q["state"] == "online" and q["lsn"]["written"] == s["lsn"]["end"] == s["lsn"]["written"]
		for q in s["peers"])'
}

# The secondaries have shown and applied all of it, so after all are down their stores are the same.
all_applied()
{
	local end node
	in_sync "$1" || return 1
	end=$(field "$1" 's["lsn"]["end"]')
	for node in "${nodes[@]}"; do
		[ "$node" = "$1" ] ||
			is "$node" "s['consistent'] and not s['resync']['running'] and s['lsn']['applied'] == $end" || return 1
	done
}

wait_online()
{
	wait_until "${2:-20}" "$1 and its peers are in sync" in_sync "$1"
}

# primary_make NODE: with its peers' agreement.
primary_make()
{
	hf "$1" promote $V --wait 20 >/dev/null
	wait_online "$1"
}

stores_same()
{
	local node
	for node in "${nodes[@]}"; do
		cmp "$T/${nodes[0]}/var/lib/holdfast/$V/store" "$T/$node/var/lib/holdfast/$V/store" ||
			fail "the stores of ${nodes[0]} and $node differ"
	done
}

# volume_copy NODE FILE: what its readers see.
volume_copy()
{
	nbdcopy "$(uri "$1")" "$2" || fail "the volume cannot be read at $1"
}

# uri NODE: of its NBD server.
uri()
{
	echo "nbd+unix:///$V?socket=$T/$1/run/holdfast/$V.nbd"
}

# qio NODE QEMU_IO_ARGUMENTS...: fails when qemu-io does or says that something has failed; what it said is in $said_qio.
qio()
{
	local node=$1
	shift
	said_qio=$(qemu-io -f raw "$@" "$(uri "$node")" 2>&1) || return 1
	! grep -qiE 'fail|error|refused|denied' <<<"$said_qio"
}

# ---- waiting and expecting

now_ms()
{
	date +%s%3N
}

# wait_until SECONDS WHAT COMMAND...
wait_until()
{
	local seconds=$1 what=$2 end
	shift 2
	end=$(($(now_ms) + seconds * 1000))
	until "$@" >/dev/null 2>&1; do
		[ "$(now_ms)" -lt $end ] || fail "after $seconds s still not: $what"
		sleep 0.05
	done
}

background()
{
	"$@" &
	jobs_started+=($!)
	job=$!
}

job_over()
{
	! kill -0 "$1" 2>/dev/null
}

# refused STATUS PATTERN COMMAND...: exits with STATUS, and says one line that matches.
refused()
{
	local want=$1 pattern=$2 status=0 said
	shift 2
	said=$("$@" 2>&1 >/dev/null) || status=$?
	echo "   $said"
	[ $status -eq "$want" ] || fail "status $status instead of $want of: $*"
	[ "$(wc -l <<<"$said")" -eq 1 ] || fail "not one line from: $*"
	grep -qE -- "$pattern" <<<"$said" || fail "does not say \"$pattern\": $said"
}

# said PATTERN COMMAND...: succeeds, and its output matches.
said()
{
	local pattern=$1 text
	shift
	text=$("$@" 2>&1) || fail "status $? of: $*: $text"
	echo "   $text"
	grep -qE -- "$pattern" <<<"$text" || fail "does not say \"$pattern\": $text"
}

# replica_sum NODE: of everything the replica consists of.
replica_sum()
{
	(cd "$T/$1/var/lib/holdfast" && find . -type f -print0 | sort -z | xargs -0 sha256sum; cat "$T/$1/etc/holdfast/"*) |
		sha256sum
}
