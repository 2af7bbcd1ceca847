#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Random work in the mounted directory, against what must come of it: two files that everything is done to that can be done
# to bytes, and processes that change names and attributes all at once; then the secondary's tree is the primary's.
#	EXERCISER_SECONDS=600 SEED=7 tests/e2e/test_exercisers.sh	for a long time
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3

seconds=${EXERCISER_SECONDS:-5}
seed=${SEED:-1}
at_a=$T/on-a
at_b=$T/on-b

# same_sums: names, attributes, times, xattrs and bytes.
same_sums()
{
	python3 "$here/stresser.py" sum "$at_a" >"$T/sum-a" && python3 "$here/stresser.py" sum "$at_b" >"$T/sum-b" &&
		cmp "$T/sum-a" "$T/sum-b"
}

nodes_create 2G C --fs
nodes_up
hf b mount $V "$at_b"
primary_make a
hf a mount $V "$at_a"
wait_until 10 "the filesystem is made" mkdir "$at_a/stress"

exercisers=()
for n in 1 2; do
	background python3 "$here/exerciser.py" "$at_a/bytes$n" 800 $((seed * 1000 + n * 100000)) "$seconds"
	exercisers+=("$job")
done
python3 "$here/stresser.py" run "$at_a/stress" 6 "$seconds" "$seed" || fail "the stresser found a difference (SEED=$seed)"
for job in "${exercisers[@]}"; do wait "$job" || fail "an exerciser found a difference (SEED=$seed)"; done
fact "$seconds s of random work: bytes, names and attributes are as they must be"

wait_until 30 "the secondary has applied all" all_applied a
same_sums || fail "the trees differ: $(diff "$T/sum-a" "$T/sum-b" | head -n 4 | cut -c 1-300)"
fact "$(wc -l <"$T/sum-a") names are the same on the secondary, with inodes, times and blocks"

# The roles change, the mounts stay, with all that the kernel has in its caches.
hf a switchover $V b
wait_until 20 "the new primary is writable" mkdir "$at_b/there"
python3 "$here/stresser.py" run "$at_b/there" 4 2 $((seed + 1)) || fail "the stresser found a difference (SEED=$seed)"
python3 "$here/exerciser.py" "$at_b/bytes1" 200 $((seed * 1000 + 1)) || fail "an exerciser found a difference (SEED=$seed)"
wait_until 30 "the old primary has applied all" all_applied b
same_sums || fail "the trees differ after a switchover: $(diff "$T/sum-a" "$T/sum-b" | head -n 4 | cut -c 1-300)"
fact "the same the other way round, after a switchover under the mounts"

# Nothing of it is only in caches: the same tree after a restart of both.
cp "$T/sum-a" "$T/sum-before"
nodes_down
stores_same
nodes_up
hf b mount $V "$at_b"
hf a mount $V "$at_a"
primary_make a
wait_until 20 "it is writable there" touch "$at_a/stress"
same_sums || fail "the trees differ after a restart"
diff <(grep -v "^b'/stress' " "$T/sum-before") <(grep -v "^b'/stress' " "$T/sum-b") >"$T/differ" ||
	fail "a restart changed the tree: $(head -n 4 "$T/differ" | cut -c 1-300)"
fact "the same after a restart of both"
