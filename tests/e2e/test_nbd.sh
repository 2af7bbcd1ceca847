#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What others speak NBD with works: libnbd's and qemu's tools, fio; on the unix socket and on loopback TCP.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io qemu-img nbdinfo nbdcopy fio

nodes_create 256M C --nbd 127.0.0.1:10809
nodes_up
primary_make a
unix=$(uri a)
tcp=nbd://127.0.0.1/$V
size=$((256 << 20))

[ "$(nbdinfo --size "$unix")" = $size ] || fail "nbdinfo: wrong size"
[ "$(on a nbdinfo --size "$tcp")" = $size ] || fail "nbdinfo on TCP: wrong size"
nbdinfo --can flush "$unix" && nbdinfo --can fua "$unix" && nbdinfo --can trim "$unix" && nbdinfo --can zero "$unix" &&
	nbdinfo --can multi-conn "$unix" || fail "an ability is missing: $(nbdinfo "$unix")"
nbdinfo --is read-only "$unix" && fail "the primary says read-only"
nbdinfo --is read-only "$(uri b)" || fail "the secondary does not say read-only"
nbdinfo --list "$unix" | grep -q "$V" || fail "the list lacks the volume"
fact "nbdinfo: size and abilities, unix and TCP; the secondary is read-only"

# An image with data, holes and an odd end
truncate -s $size "$T/image"
dd if=/dev/urandom of="$T/image" bs=1M seek=3 count=40 conv=notrunc status=none
dd if=/dev/urandom of="$T/image" bs=1000 seek=99999 count=777 conv=notrunc status=none
nbdcopy --flush --connections=4 "$T/image" "$unix"
nbdcopy --connections=4 "$unix" "$T/back"
cmp "$T/image" "$T/back" || fail "nbdcopy on the unix socket"
on a nbdcopy "$tcp" "$T/back"
cmp "$T/image" "$T/back" || fail "nbdcopy on TCP"
wait_until 10 "the secondary has applied all" all_applied a
nbdcopy "$(uri b)" "$T/back"
cmp "$T/image" "$T/back" || fail "nbdcopy of the secondary"
nbdinfo --map "$unix" | grep -q hole || fail "the map has no hole"
fact "nbdcopy in and out with four connections: the same bytes, also of the secondary; holes are mapped"

qemu-img compare -q -f raw -F raw "$T/image" "$unix" || fail "qemu-img compare"
qemu-img convert -f raw -O qcow2 "$unix" "$T/image.qcow2"
qemu-io -f raw -c "discard 0 256M" "$unix" >/dev/null
qemu-img convert -n -f qcow2 -O raw "$T/image.qcow2" "$unix"
qemu-img compare -q -f raw -F raw "$T/image" "$unix" || fail "qemu-img convert and back"
fact "qemu-img convert out and in, compare"

said=$(qemu-io -f raw "$unix" -c "write -P 1 0 1M" -c "write -f -P 2 1234567 77777" -c "write -z 2M 1M" \
	-c "write -z -u 4M 64k" -c "discard 5M 3M" -c "write -P 9 513 1" -c "write -P 7 8191 4098" -c flush \
	-c "read -P 2 1234567 77777" -c "read -P 0 2M 1M" -c "read -P 0 4M 64k" -c "read -P 0 5M 3M" \
	-c "read -P 9 513 1" -c "read -P 1 0 513" -c "read -P 1 514 7677" -c "read -P 7 8191 4098" \
	-c "read -P 1 12289 4096" -c "aio_write -P 3 20M 2M" -c "aio_write -P 4 24M 2M" -c "aio_flush" \
	-c "read -P 3 20M 2M" -c "read -P 4 24M 2M" 2>&1) || fail "qemu-io: $said"
grep -qiE 'fail|error' <<<"$said" && fail "qemu-io: $said"
fact "qemu-io: patterns, FUA, zeroes, discard, misaligned"

said=$(qemu-io -f raw "$(uri b)" -c "write -P 1 0 4k" 2>&1) || true
grep -qiE 'read.only|permission|not permitted|fail' <<<"$said" || fail "a write to the secondary: $said"
said=$(qemu-io -r -f raw "$(uri b)" -c "read 0 4k" 2>&1)
grep -q '^read 4096/4096' <<<"$said" || fail "a read of the secondary: $said"
fact "the secondary refuses writes and is read"

if fio --enghelp 2>/dev/null | grep -q '\<nbd\>'; then
	fio --name=verify --ioengine=nbd --uri="$unix" --rw=randwrite --bsrange=512-64k --bs_unaligned=0 --size=64M \
		--iodepth=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 --end_fsync=1 >"$T/fio" 2>&1 ||
		fail "fio: $(tail -n 20 "$T/fio")"
	fact "fio on NBD, 16 deep: random writes verified"
else
	need_loop
	device=$(hf a attach $V)
	fio --name=verify --ioengine=libaio --direct=1 --filename="$device" --rw=randwrite --bs=4k --size=64M \
		--iodepth=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 --end_fsync=1 >"$T/fio" 2>&1 ||
		fail "fio: $(tail -n 20 "$T/fio")"
	hf a detach $V
	fact "fio on the loop device, 16 deep: random writes verified"
fi

# Four clients at once, each its own quarter; then each sees all of it.
clients=()
for client in 0 1 2 3; do
	background qemu-io -f raw "$unix" -c "write -P $((client + 10)) $((client * 64))M 32M" -c flush
	clients+=("$job")
done >/dev/null
for pid in "${clients[@]}"; do wait "$pid" || fail "a client"; done
for client in 0 1 2 3; do
	said=$(on a qemu-io -r -f raw "$tcp" -c "read -P $((client + 10)) $((client * 64))M 32M" 2>&1)
	grep -q "^read 33554432/" <<<"$said" && ! grep -qi fail <<<"$said" || fail "client $client: $said"
done
fact "four clients at once"

said=$(on b "$bin/holdfast" --root "$T/a" status $V)
grep -q "$V" <<<"$said" || fail "status with clients"
wait_until 20 "the secondary has applied all" all_applied a
nodes_down
stores_same
fact "the stores are the same bytes after \`down\`"
