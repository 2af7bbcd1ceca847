#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In each mode the secondary gets everything, `status` says so, and what the mode promises at the moment of the
# acknowledgement holds.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io

io()
{
	qio "$@" || fail "qemu-io: $said_qio"
}

for mode in A B C D; do
	nodes_create 64M $mode --no-loop
	nodes_up
	primary_make a
	is a "p['mode'] == '$mode' and s['role'] == 'primary' and s['open'] and s['failed'] == ''" ||
		fail "mode $mode: the primary's status: $(field a s)"
	is b "s['role'] == 'secondary' and p['role'] == 'primary' and p['connected']" ||
		fail "mode $mode: the secondary's status: $(field b s)"
	before=$(field a 's["bytes_written"]')
	if [ $mode = D ]; then
		for round in 1 2 3 4 5 6 7 8; do
			io a -c "write -P $round ${round}M 700k"
			io b -r -c "read -P $round ${round}M 700k"
		done
		fact "D: a write that was acknowledged is read at the secondary at once, eight times"
	else
		for round in 1 2 3 4 5 6 7 8; do io a -c "write -P $round ${round}M 700k"; done
	fi
	[ $(($(field a 's["bytes_written"]') - before)) -eq $((8 * 700 * 1024)) ] || fail "bytes_written is wrong"
	io a -c "write -P 0x5a 5000 3" -c flush
	case $mode in
	C|D)
		is a 'p["lsn"]["durable"] >= s["lsn"]["end"] and p["lag_bytes"] == 0' ||
			fail "mode $mode: a flush was answered before the peer was durable: $(field a p)"
		fact "$mode: when the flush is answered the peer is durable to the end" ;;
	B)
		is a 'p["lsn"]["received"] >= s["lsn"]["end"]' ||
			fail "mode B: a flush was answered before the peer had it: $(field a p)"
		fact "B: when the flush is answered the peer has received all" ;;
	A)
		is a 's["lsn"]["durable"] >= s["lsn"]["end"]' || fail "mode A: the flush did not reach our journal"
		fact "A: when the flush is answered our journal is durable" ;;
	esac
	wait_until 10 "the secondary has applied all" all_applied a
	for round in 1 2 3 4 5 6 7 8; do io b -r -c "read -P $round ${round}M 700k"; done
	io b -r -c "read -P 0x5a 5000 3"
	nodes_down
	stores_same
	fact "$mode: the stores are the same bytes after \`down\`"
	rm -rf "${T:?}/a" "${T:?}/b"
done
