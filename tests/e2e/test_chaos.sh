#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test_chaos.sh [SECONDS]: below a filesystem that is written to, daemons are killed, stopped and restarted, links cut,
# roles moved by force; journals are so small that who is away for a moment needs a resync. After every round
# everything heals by itself in a bounded time, all that was fsynced is there, and fsck finds nothing; at the end the
# stores are the same bytes. What a take-over gives up is in a divergence, or it was not fsynced.
#
#	SEED=n		replays the faults of a run (not their timing)
#	NODES="2 3"	so many nodes, one part of the time each
#	ROUNDS="..."	only these rounds, by the names of the functions round_*
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools fio

seconds=${1:-50}
heal_seconds=${HEAL_SECONDS:-120}
RANDOM=${SEED:-$((RANDOM + 1))}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "seed: SEED=$seed NODES=\"${NODES:-2 3}\" $0 $seconds"

# below N: a number from 0 to N - 1
below()
{
	drawn=$((RANDOM % $1))
}

# one_of WORD...
one_of()
{
	below $#
	shift $drawn
	picked=$1
}

pause_ms()
{
	below "$1"
	sleep "$(printf '0.%03d' $drawn)"
}

# ---- the filesystem on the primary, its writer, and fio

filesystem_open()
{
	local status=0
	device=$(hf $primary attach $V)
	if [ "${1:-}" = check ]; then
		e2fsck -p "$device" >"$T/fsck" 2>&1 || status=$?
		[ $status -le 1 ] || fail "round $round: e2fsck -p says $status: $(cat "$T/fsck")"
		e2fsck -fn "$device" >"$T/fsck" 2>&1 || fail "round $round: e2fsck -fn: $(cat "$T/fsck")"
	fi
	mkdir -p "$T/mount-$primary"
	mount "$device" "$T/mount-$primary"
}

# filesystem_close [NODE]
filesystem_close()
{
	local node=${1:-$primary} pid
	if mountpoint -q "$T/mount-$node"; then umount "$T/mount-$node" || fail "umount on $node"; fi
	hf "$node" detach $V 2>/dev/null || true
}

load_start()
{
	background python3 "$here/writer.py" write "$T/mount-$primary/data" "$log"
	writer=$job
	background fio --name=chaos --filename="$T/mount-$primary/fio" --size=24M --rw=randwrite --bsrange=4k-64k \
		--direct=1 --ioengine=psync --verify=crc32c --verify_backlog=16 --verify_fatal=1 --verify_state_save=0 --loops=10000 \
		--rate=40m --randseed="$round" --output="$T/fio"
	fio=$job
	begun=$(wc -l <"$log")
	wait_until 30 "round $round: something is fsynced" fsynced
}

# Some files since the load began.
fsynced()
{
	[ "$(wc -l <"$log")" -gt $((begun + 6)) ]
}

# Errors of the device are no news when its daemon was killed. Wrong bytes are.
load_stop()
{
	local pid
	for pid in "$writer" "$fio"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	! grep -qiE 'verify failed|bad (magic|header)|verify: bad' "$T/fio" || fail "round $round: $(cat "$T/fio")"
}

# The writer must not notice what happens to others.
load_goes_on()
{
	job_over "$writer" && fail "round $round: the writer ended: $1"
	job_over "$fio" && fail "round $round: fio ended: $1: $(cat "$T/fio")"
	return 0
}

# From here on another primary counts: what the old one acknowledges later is not promised.
log_fork()
{
	generation=$((generation + 1))
	cp "$log" "$T/log.$generation"
	log=$T/log.$generation
}

check_data()
{
	python3 "$here/writer.py" check "$T/mount-$primary/data" "$log" >"$T/said" ||
		fail "round $round ($1): $(cat "$T/said")"
}

# ---- healing

daemon_up()
{
	[ -e "$T/$1/run/holdfast/$V.pid" ] && ! process_gone "$(pid_of "$1")"
}

# The primary is the only one, everybody follows it, and nobody's store is in between.
all_well()
{
	local node
	all_applied "$primary" || return 1
	is "$primary" 's["role"] == "primary" and not s["failed"]' || return 1
	for node in "${nodes[@]}"; do
		[ "$node" = "$primary" ] || is "$node" 's["role"] == "secondary" and not s["failed"]' || return 1
	done
}

primary_is_back()
{
	is "$primary" 's["role"] == "primary"' && return
	hf "$primary" promote $V >/dev/null 2>&1
}

# Links, processes and roles are as they should be; the rest is up to the nodes.
heal()
{
	local x y node started
	started=$(now_ms)
	for x in "${nodes[@]}"; do
		for y in "${nodes[@]}"; do
			if [[ $x < $y ]]; then link_up "$x" "$y"; fi
		done
		if daemon_up "$x"; then kill -CONT "$(pid_of "$x")"; else hf "$x" up $V; fi
	done
	wait_until "$heal_seconds" "round $round: $primary is primary" primary_is_back
	wait_until "$heal_seconds" "round $round: all follow $primary and are consistent" all_well
	healed=$(awk -v ms=$(($(now_ms) - started)) 'BEGIN { printf "%.1f s", ms / 1000 }')
	for node in "${nodes[@]}"; do divergences_drop "$node"; done
}

divergences_drop()
{
	local id
	for id in $(field "$1" '*[d["id"] for d in s["divergences"]]'); do
		hf "$1" divergence $V drop "$id" >/dev/null
	done
}

# divergence_check NODE LOG: what the old primary had acknowledged alone is in its divergence.
divergence_check()
{
	local node=$1 device id
	id=$(field "$node" 's["divergences"][-1]["id"]')
	hf "$node" divergence $V export "$id" "$T/image" >/dev/null
	device=$(losetup --find --show "$T/image")
	e2fsck -p "$device" >"$T/fsck" 2>&1 || [ $? -eq 1 ] || fail "round $round: divergence: $(cat "$T/fsck")"
	mkdir -p "$T/mount-image"
	mount -o ro "$device" "$T/mount-image"
	python3 "$here/writer.py" check "$T/mount-image/data" "$2" >"$T/said" ||
		fail "round $round: the divergence: $(cat "$T/said")"
	umount "$T/mount-image"
	losetup -d "$device"
	rm "$T/image"
}

# ---- rounds: each ends with the load stopped, filesystems closed, and `primary` set

draw_secondary()
{
	local others=() node
	for node in "${nodes[@]}"; do [ "$node" = "$primary" ] || others+=("$node"); done
	one_of "${others[@]}"
}

cut_off()
{
	local node
	for node in "${nodes[@]}"; do
		if [ "$node" != "$1" ]; then cut_pair "$1" "$node"; fi
	done
}

cut_pair()
{
	if [[ $1 < $2 ]]; then link_down "$1" "$2"; else link_down "$2" "$1"; fi
}

round_secondary_killed()
{
	draw_secondary
	daemon_kill "$picked"
	pause_ms 900
	load_goes_on "$picked was killed"
	hf "$picked" up $V
	pause_ms 900
	load_stop
}

# Again and again, so that a resync, if one is needed, is interrupted.
round_secondary_killed_often()
{
	local victim n
	draw_secondary
	victim=$picked
	for n in 1 2 3; do
		daemon_kill "$victim"
		pause_ms 900
		hf "$victim" up $V
		pause_ms 300
	done
	load_goes_on "$victim was killed three times"
	load_stop
}

round_secondary_restarted()
{
	draw_secondary
	hf "$picked" down $V
	pause_ms 900
	hf "$picked" up $V
	pause_ms 300
	load_goes_on "$picked was restarted"
	load_stop
}

round_secondary_stopped()
{
	draw_secondary
	kill -STOP "$(pid_of "$picked")"
	pause_ms 900
	pause_ms 900
	kill -CONT "$(pid_of "$picked")"
	pause_ms 500
	load_goes_on "$picked stood still"
	load_stop
}

round_link_cut()
{
	draw_secondary
	cut_pair $primary "$picked"
	pause_ms 900
	pause_ms 900
	load_goes_on "the link to $picked was cut"
	link_up_pair $primary "$picked"
	pause_ms 900
	load_stop
}

link_up_pair()
{
	if [[ $1 < $2 ]]; then link_up "$1" "$2"; else link_up "$2" "$1"; fi
}

# A link that flaps, also among secondaries.
round_links_flap()
{
	local x y n
	for n in 1 2 3 4; do
		one_of "${nodes[@]}"
		x=$picked
		for y in "${nodes[@]}"; do [ "$y" = "$x" ] || break; done
		cut_pair "$x" "$y"
		pause_ms 500
		link_up_pair "$x" "$y"
		pause_ms 200
	done
	load_goes_on "links went up and down"
	load_stop
}

round_primary_killed()
{
	daemon_kill $primary
	wait "$writer" 2>/dev/null || true
	load_stop
	filesystem_close
}

# Everybody is current, so nothing may be missing at the one who takes over.
round_primary_killed_failover()
{
	local old=$primary
	daemon_kill $primary
	wait "$writer" 2>/dev/null || true
	load_stop
	filesystem_close
	draw_secondary
	primary=$picked
	take_over
	below 2
	if [ $drawn = 1 ]; then
		filesystem_open check
		check_data "after the take-over"
		load_start
		pause_ms 900
		hf "$old" up $V
		pause_ms 900
		load_goes_on "$old came back"
		load_stop
	fi
}

take_over()
{
	wait_until "$heal_seconds" "round $round: $primary takes over" hf $primary failover $V --force
}

round_switchover()
{
	load_stop
	filesystem_close
	draw_secondary
	wait_until "$heal_seconds" "round $round: a switchover to $picked" hf $primary switchover $V "$picked"
	primary=$picked
}

# A primary that sleeps through a failover. Its writer's last requests wait in it.
round_primary_stopped_failover()
{
	local old=$primary
	kill -STOP "$(pid_of "$old")"
	pause_ms 300
	log_fork
	draw_secondary
	primary=$picked
	take_over
	kill -CONT "$(pid_of "$old")"
	load_stop
	filesystem_close "$old"
}

# It stands still for a moment only; nobody takes over.
round_primary_stopped()
{
	kill -STOP "$(pid_of $primary)"
	pause_ms 900
	kill -CONT "$(pid_of $primary)"
	pause_ms 300
	load_goes_on "the primary stood still"
	load_stop
}

# The primary goes on alone, as min-copies = 1 allows, dies, and another one takes over without these writes.
round_primary_alone_failover()
{
	local old=$primary whole
	load_stop
	wait_until "$heal_seconds" "round $round: all have everything" all_well
	log_fork
	whole=$log
	cut_off "$old"
	wait_until 30 "round $round: $old is alone" is "$old" 'all(q["state"] == "offline" for q in s["peers"])'
	log=$T/log.alone
	cp "$whole" "$log"
	load_start
	pause_ms 900
	load_goes_on "$old is alone"
	daemon_kill "$old"
	wait "$writer" 2>/dev/null || true
	load_stop
	filesystem_close
	log=$whole
	draw_secondary
	primary=$picked
	take_over
	heal_until_divergence "$old"
	divergence_check "$old" "$T/log.alone"
}

heal_until_divergence()
{
	local x y
	for x in "${nodes[@]}"; do
		for y in "${nodes[@]}"; do
			if [[ $x < $y ]]; then link_up "$x" "$y"; fi
		done
	done
	hf "$1" up $V
	wait_until "$heal_seconds" "round $round: $1 has set aside what it wrote alone" \
		is "$1" 'len(s["divergences"]) == 1 and s["consistent"] and not s["resync"]["running"]'
}

# The primary has written so much without $1 that its journal does not hold what $1 lacks.
fallen_out()
{
	is "$primary" "s['lsn']['oldest'] > $2"
}

# fall_out NODE: it is away for longer than the journal reaches back.
fall_out()
{
	local end
	daemon_kill "$1"
	end=$(field "$primary" 's["lsn"]["end"]')
	wait_until "$heal_seconds" "round $round: $1 has fallen out of the journal" fallen_out "$1" "$end"
	load_goes_on "$1 was killed"
	hf "$1" up $V
}

resyncs()
{
	grep -c 'resync from node .* begins' "$T/$1/var/log/holdfast/$V.log" || true
}

# more_resyncs NODE N: more than N of it have begun.
more_resyncs()
{
	[ "$(resyncs "$1")" -gt "$2" ]
}

round_secondary_away()
{
	draw_secondary
	fall_out "$picked"
	pause_ms 900
	load_stop
}

# A resync that is interrupted again and again, at either end and between them.
round_resync_interrupted()
{
	local victim n
	draw_secondary
	victim=$picked
	fall_out "$victim"
	for n in 1 2 3; do
		pause_ms 600
		one_of kill cut stop
		case $picked in
		kill)	daemon_kill "$victim"
			hf "$victim" up $V ;;
		cut)	cut_pair $primary "$victim"
			pause_ms 900
			link_up_pair $primary "$victim" ;;
		stop)	kill -STOP "$(pid_of "$victim")"
			pause_ms 900
			kill -CONT "$(pid_of "$victim")" ;;
		esac
	done
	load_goes_on "the resync of $victim was interrupted"
	load_stop
}

# The primary dies while it resyncs one node. Of three, the one that is current takes over; of two, the one in the
# resync goes back to what it had when it fell out, and the old primary keeps the rest as a divergence.
round_primary_killed_in_resync()
{
	local old=$primary victim fell before whole=$log
	draw_secondary
	victim=$picked
	kill -STOP "$writer"
	log_fork
	fell=$log
	log=$whole
	before=$(resyncs "$victim")
	daemon_kill "$victim"
	kill -CONT "$writer"
	wait_until "$heal_seconds" "round $round: $victim has fallen out of the journal" \
		fallen_out "$victim" "$(field "$primary" 's["lsn"]["end"]')"
	load_goes_on "$victim was killed"
	hf "$victim" up $V
	wait_until 30 "round $round: a resync begins" more_resyncs "$victim" "$before"
	pause_ms 600
	resyncing=$(field "$victim" 's["resync"]["running"]')
	daemon_kill "$old"
	wait "$writer" 2>/dev/null || true
	load_stop
	filesystem_close
	if [ ${#nodes[@]} -gt 2 ]; then
		while [ "$picked" = "$victim" ]; do draw_secondary; done
		primary=$picked
		take_over
		return
	fi
	primary=$victim
	take_over
	is "$victim" "s['lsn']['end'] > 0"
	filesystem_open check
	if python3 "$here/writer.py" check "$T/mount-$primary/data" "$log" >"$T/said"; then
		return		# the resync was over, and it has everything
	fi
	[ "$resyncing" = True ] || fail "round $round: $(cat "$T/said")"
	log=$fell
	check_data "back to where it was before its resync"
	heal_until_divergence "$old"
	divergence_check "$old" "$whole"
}

# ---- a run

rounds=(secondary_killed secondary_killed_often secondary_restarted secondary_stopped link_cut links_flap primary_killed
	primary_killed_failover switchover primary_stopped_failover primary_stopped primary_alone_failover
	secondary_away resync_interrupted primary_killed_in_resync)

run()
{
	local end=$(($(now_ms) + $1 * 1000)) node
	primary=a generation=0 log=$T/log.0
	journal_size=32M nodes_create 384M C --undo-size 384M
	one_of blocks checksum
	way=$picked
	one_of 0 16M
	for node in "${nodes[@]}"; do
		node_set "$node" peer-timeout 1s
		node_set "$node" resync "$way"
		node_set "$node" resync-rate "$picked"
	done
	nodes_up
	primary_make a
	: >"$log"
	mkfs.ext4 -q "$(hf a attach $V)"
	hf a detach $V
	filesystem_open
	mkdir "$T/mount-a/data"
	sync -f "$T/mount-a"
	for ((round = 1; $(now_ms) < end; round++)); do
		one_of ${ROUNDS:-"${rounds[@]}"}
		kind=$picked
		mountpoint -q "$T/mount-$primary" || filesystem_open check
		load_start
		pause_ms 900
		"round_$kind"
		filesystem_close
		heal
		filesystem_open check
		check_data "$kind"
		echo "round $round: $kind, primary is $primary, healed in $healed: $(cat "$T/said")"
	done
	filesystem_close
	wait_until "$heal_seconds" "all is applied everywhere" all_well
	nodes_down
	stores_same
	fact "${#nodes[@]} nodes, $((round - 1)) rounds, $(cat "$T"/?/var/log/holdfast/$V.log |
		grep -c 'resync is over') resyncs: the stores are the same bytes"
	nodes_remove
	rm -f "$T"/log.*
}

parts=(${NODES:-2 3})
for count in "${parts[@]}"; do
	nodes=(a b c)
	nodes=("${nodes[@]:0:count}")
	[ -e "/run/netns/$net-a" ] && net_down
	net_up
	run $((seconds / ${#parts[@]}))
done
