#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What some 6,000 system calls answer in the mounted directory is what they answer in ext4, but for the lines that
# conformance.differences has patterns and reasons for. As six users, on everything that can be at a name.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools python3 mkfs.ext4

at_a=$T/on-a
at_e=$T/on-ext4
chmod 755 "$T"

nodes_create 2G C --fs
nodes_up
primary_make a
hf a mount $V "$at_a"
wait_until 10 "the filesystem is made" mkdir "$at_a/x" "$at_a/y"
truncate -s 1G "$T/ext4"
mkfs.ext4 -q "$T/ext4"
mkdir "$at_e"
mount -o loop "$T/ext4" "$at_e"
mkdir "$at_e/x" "$at_e/y"
chmod 755 "$at_a" "$at_e"

export PYTHONDONTWRITEBYTECODE=1
cd /
for side in a e; do
	at=at_$side
	{ python3 "$here/conformance.py" "${!at}/x" && python3 "$here/conformance_attributes.py" "${!at}/y"; } >"$T/said-$side" 2>"$T/wrong-$side" &
	jobs_started+=($!)
done
for job in "${jobs_started[@]}"; do wait "$job" || fail "it did not run to its end: $(cat "$T"/wrong-*)"; done
[ "$(wc -l <"$T/said-e")" -gt 5000 ] || fail "only $(wc -l <"$T/said-e") cases"

grep -vE '^#|^$' "$here/conformance.differences" >"$T/known"
for side in a e; do grep -avE -f "$T/known" "$T/said-$side" >"$T/unknown-$side"; done
diff -a "$T/unknown-e" "$T/unknown-a" >"$T/differ" || fail "< ext4, > the directory: $(grep -ac '^[<>]' "$T/differ") lines: $(cut -c 1-400 "$T/differ")"
fact "$(wc -l <"$T/unknown-a") answers are those of ext4; $(diff -a "$T/said-e" "$T/said-a" | grep -ac '^>' || true) differ as conformance.differences says"
