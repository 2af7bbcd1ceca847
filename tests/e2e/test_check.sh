#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `holdfast check` and `df`: on a secondary and on the primary while programs write, after a kill, of stopped replicas,
# and on damage that is written into the store behind the daemon's back.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3

at=$T/on-a
store_b=$T/b/var/lib/holdfast/$V/store

# Makes, moves, cuts, links and removes, until it is killed.
churn()
{
	local i
	for ((i = 0; ; i++)); do
		mkdir -p "$at/churn/$((i % 7))/deep"
		head -c $((i * 997 % 60000)) /dev/zero | tr '\0' x >"$at/churn/$((i % 7))/deep/f$((i % 50))"
		ln -f "$at/churn/$((i % 7))/deep/f$((i % 50))" "$at/churn/link$((i % 20))"
		mv "$at/churn/$((i % 7))/deep/f$((i % 50))" "$at/churn/$((i % 7))/moved$((i % 30))"
		truncate -s $((i * 31 % 9000)) "$at/churn/link$((i % 20))"
		ln -sfn "$((i % 7))" "$at/churn/symlink"
		[ $((i % 40)) -ne 39 ] || rm -rf "$at/churn/$((i / 40 % 7))"
	done
}

end_of()
{
	field "$1" 's["lsn"]["applied"]'
}

# clean NODE PATTERN: a check finds nothing, and says so; at most it also says what it could not look at.
clean()
{
	local text
	text=$(hf "$1" check $V 2>&1) || fail "status $? of a check on $1: $text"
	echo "   $text"
	[ -z "$(head -n -1 <<<"$text" | grep -v "written to meanwhile")" ] || fail "not one line: $text"
	tail -n 1 <<<"$text" | grep -qE "as of LSN [0-9]+ \($2\): no damage$" || fail "does not say \"$2\", no damage"
}

# damaged NODE BLOCK: it names the block, and counts.
damaged()
{
	local text status=0
	text=$(hf "$1" check $V 2>&1) || status=$?
	echo "$text" | sed 's/^/   /'
	[ $status -eq 1 ] || fail "status $status instead of 1"
	grep -qE "^block $2: " <<<"$text" || fail "block $2 is not named"
	grep -qE "[0-9]+ damages?$" <<<"$text" || fail "no summary"
}

# Prints the block of a leaf of the filesystem's tree in an image: not the root, and not at a map's place.
a_node()
{
	python3 - "$1" <<-'END'
	import struct, sys
	with open(sys.argv[1], "rb") as image:
	    root = struct.unpack_from("<Q", image.read(4096), 16)[0]
	    for block in range(7, 20000):
	        image.seek(block * 4096)
	        page = image.read(4096)
	        place, magic = struct.unpack_from("<QI", page)
	        if place == block and magic == 0x4e464c48 and page[22] == 0 and block != root:
	            print(block)
	            break
	END
}

nodes_create 1G D --fs
for node in a b; do node_set $node peer-timeout 2s; done
nodes_up
refused 1 "no filesystem|superblock" hf a check $V
primary_make a
hf a mount $V "$at"
wait_until 10 "the filesystem is made" mkdir "$at/churn"
clean a primary
wait_online a
clean b secondary
fact "an empty filesystem is whole on both nodes"

cp -a /usr/include/linux "$at/linux"
background churn
churner=$job
before=$(end_of b)
for _ in 1 2 3; do
	clean b secondary
	clean a primary
done
wait_until 10 "the secondary has gone on" eval '[ "$(end_of b)" -gt "$before" ]'
fact "checks on both nodes find nothing wrong while programs write in mode D, and nobody waits for them"

hf a check $V >"$T/one" 2>&1 &
hf a check $V >"$T/two" 2>&1 || true
wait $! || true
grep -qhE "no damage|checked already" "$T/one" || fail "the first of two: $(cat "$T/one")"
grep -qhE "no damage|checked already" "$T/two" || fail "the second of two: $(cat "$T/two")"
hf b check $V --json | python3 -c '
import json, sys
check = json.load(sys.stdin)
assert check["damages"] == 0 and check["found"] == [] and check["role"] == "secondary", check
assert check["inodes"] > check["directories"] > 5 and check["blocks_used"] > 100 and not check["incomplete"], check'
fact "two at once are one or two, and --json says the same"

hf a df $V | tee "$T/df"
hf b df >"$T/df-b"
[ "$(wc -l <"$T/df")" -eq 2 ] || fail "df has not two lines"
hf a df $V --json | python3 -c '
import json, os, sys
df, st = json.load(sys.stdin)[0], os.statvfs(sys.argv[1])
assert df["size"] == st.f_blocks * st.f_frsize, (df, st)
assert abs(df["used"] - (st.f_blocks - st.f_bfree) * st.f_frsize) < 64 << 20, (df, st)
assert df["available"] <= df["size"] - df["used"] and df["inodes"] > 100 and df["store_bytes"] > 0, df' "$at"
grep -qE "^$V +[0-9.]+ [KMG]iB +[0-9.]+ [KMG]iB +[0-9.]+ [KMG]iB +[0-9]+ % +[0-9]+" "$T/df-b" || fail "df: $(cat "$T/df-b")"
fact "df says what the mounted directory says, on both nodes"

daemon_kill a
kill "$churner" 2>/dev/null || true
wait "$churner" 2>/dev/null || true
clean a stopped
said "$V +" hf a df $V
hf a umount $V 2>/dev/null || umount -l "$at"
hf a up $V
clean a secondary
fact "a replica whose daemon was killed is whole, as it lies there and when it is up again"

primary_make a
wait_until 20 "all is on both" all_applied a
hf b down $V
block=$(a_node "$store_b")
[ -n "$block" ] || fail "there is no node in the store of b"
clean b stopped
printf '\377' | dd of="$store_b" bs=1 seek=$((block * 4096 + 3000)) conv=notrunc status=none
damaged b "$block"
hf b up $V
wait_online a
damaged b "$block"
fact "a byte of a node that has rotted in the store is found and named, stopped and running"

hf a verify $V --repair --wait
clean b secondary
fact "verify --repair mends it from the other node, and the next check finds nothing"

nodes_down
said "no damage" hf b check $V
stores_same
