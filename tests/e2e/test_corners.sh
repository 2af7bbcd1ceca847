#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What programs do seldom in a directory: shared mappings, locks of every kind between processes, thousands of open files,
# deep directories, io_uring; and a volume that is filled and emptied again and again loses no block.
#	CORNERS_ROUNDS=20 CORNERS_FILES=10000 tests/e2e/test_corners.sh	fills it more often, opens more
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3

at_a=$T/on-a
at_b=$T/on-b

same()
{
	diff --no-dereference -r "$at_a" "$at_b" >"$T/differ" 2>&1
}

nodes_create "${CORNERS_SIZE:-64M}" C --fs
nodes_up
hf b mount $V "$at_b"
primary_make a
hf a mount $V "$at_a"
wait_until 10 "the filesystem is made" mkdir "$at_a/corners"

python3 "$here/corners.py" "$at_a/corners"
if command -v fio >/dev/null; then
	for engine in io_uring libaio psync mmap; do
		direct=1
		[ $engine = mmap ] && direct=0
		fio --name=verify --directory="$at_a/corners" --ioengine=$engine --direct=$direct --rw=randwrite --bsrange=512-64k \
			--blockalign=512 --size=1M --iodepth=8 --verify=crc32c --verify_fatal=1 --randseed="${SEED:-1}" \
			--fallocate=none --unlink=1 --verify_state_save=0 >"$T/said" 2>&1 ||
			fail "fio $engine: $(grep -iE 'verify|error' "$T/said" | head -n 3)"
	done
	fact "fio --verify with io_uring, libaio, psync, mmap"
fi
wait_until 30 "the secondary has applied all" all_applied a
same || fail "the trees differ: $(head -n 3 "$T/differ")"
fact "shared mappings, locks, many open files, depth, threads; the same on the secondary"

rm -r "$at_a/corners"
python3 "$here/corners.py" fill "$at_a" "${CORNERS_ROUNDS:-2}" || fail "space is lost"
python3 "$here/exerciser.py" "$at_a/after" 300 1
wait_until 30 "the secondary has applied all" all_applied a
same || fail "the trees differ: $(head -n 3 "$T/differ")"
fact "full and empty, ${CORNERS_ROUNDS:-2} times: the same room each time, and ENOSPC left nothing half done"
