#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Real programs in the mounted directory, and what they say of it: rsync, tar, git, make, restic, SQLite while it and the
# daemon are killed. The secondary's copy must do as well.
#	PROGRAMS_TREE=/usr/src/linux PROGRAMS_ROUNDS=20 PROGRAMS_MAKE=all tests/e2e/test_programs.sh	for a long time
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools git python3 tar make

tree=${PROGRAMS_TREE:-/usr/include/linux}
rounds=${PROGRAMS_ROUNDS:-1}
at_a=$T/on-a
at_b=$T/on-b
export HOME=$T GIT_CONFIG_NOSYSTEM=1 PYTHONDONTWRITEBYTECODE=1

shown()
{
	wait_until 60 "the secondary has applied all" all_applied a
}

# took WHAT COMMAND...
took()
{
	local what=$1 start
	shift
	start=$(now_ms)
	"$@"
	fact "$what: $(($(now_ms) - start)) ms"
}

nodes_create "${PROGRAMS_SIZE:-2G}" C --fs
for node in a b; do node_set $node peer-timeout 1s; done
nodes_up
hf b mount $V "$at_b"
primary_make a
hf a mount $V "$at_a"
wait_until 10 "the filesystem is made" touch "$at_a/first"

# ---- trees

tree_by_tar()
{
	mkdir "$at_a/tar"
	tar -C "$tree" -cf - . | tar -C "$at_a/tar" -xpf - || fail "tar into the directory"
	diff --no-dereference -r "$tree" "$at_a/tar" >"$T/differ" || fail "tar: $(head -n 3 "$T/differ")"
	shown
	diff --no-dereference -r "$tree" "$at_b/tar" >"$T/differ" || fail "tar, on the secondary: $(head -n 3 "$T/differ")"
}
took "tar of $(find "$tree" | wc -l) names in, diff -r on both" tree_by_tar

if command -v rsync setfacl >/dev/null; then
	source=$T/source
	mkdir "$source"
	cp -a "$here/.." "$source/tests"
	ln "$source/tests/run.c" "$source/hard"
	ln -s nowhere "$source/dangling"
	mkfifo "$source/fifo"
	mknod "$source/device" c 1 3
	truncate -s 1G "$source/sparse"
	echo x | dd of="$source/sparse" bs=1 seek=500000000 conv=notrunc 2>/dev/null
	setfattr -n user.note -v text "$source/hard" 2>/dev/null || true
	setfacl -m u:1234:r,d:g:77:rwx "$source/tests" 2>/dev/null || true
	chmod 6755 "$source/tests/hunt.c"
	touch -d '1969-12-31 23:59:59.123456789 UTC' "$source/tests/run.h"
	rsync -aHAXS --numeric-ids "$source/" "$at_a/rsync/" || fail "rsync into the directory"
	shown
	for at in "$at_a" "$at_b"; do
		rsync -aHAXnci --delete --numeric-ids "$source/" "$at/rsync/" >"$T/differ" 2>&1 || fail "rsync: $(tail "$T/differ")"
		[ ! -s "$T/differ" ] || fail "rsync finds other than it wrote in $at: $(head -n 5 "$T/differ")"
	done
	[ "$(stat -c %b "$at_a/rsync/sparse")" -le 16 ] || fail "the sparse file takes $(stat -c %b "$at_a/rsync/sparse") blocks"
	fact "rsync -aHAXS: hard links, ACLs, xattrs, holes, devices, times; nothing differs on both"
fi

# ---- git

history=$top
if [ ! -e "$top/.git" ]; then
	history=$T/history
	git init -q "$history"
	cp -r "$here/.." "$history/"
	git -C "$history" add .
	git -C "$history" -c user.name=x -c user.email=x@x commit -qm one
fi
with_git()
{
	git clone -q --no-local --no-hardlinks "$history" "$at_a/clone" 2>"$T/said" || fail "git clone: $(cat "$T/said")"
	git -C "$at_a/clone" gc -q --prune=now
	git -C "$at_a/clone" fsck --full --strict >"$T/said" 2>&1 || fail "git fsck: $(cat "$T/said")"
	[ -z "$(git -C "$at_a/clone" status --porcelain)" ] || fail "git status finds changes"
	shown
	git -c safe.directory='*' -C "$at_b/clone" fsck --full --strict >"$T/said" 2>&1 || fail "git fsck there: $(cat "$T/said")"
	[ "$(git -c safe.directory='*' -C "$at_b/clone" rev-parse HEAD)" = "$(git -C "$history" rev-parse HEAD)" ] || fail "another HEAD"
}
took "git clone, gc, fsck on both" with_git

# ---- make

with_make()
{
	make -s -C "$at_a/clone" -j2 "${PROGRAMS_MAKE:-build/release/daemon/holdfast.o}" >"$T/said" 2>&1 || fail "make: $(tail "$T/said")"
	make -s -C "$at_a/clone" -q "${PROGRAMS_MAKE:-build/release/daemon/holdfast.o}" || fail "make does it again: the times are wrong"
}
[ -e "$at_a/clone/Makefile" ] && took "make" with_make

# ---- restic

with_restic()
{
	export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$T/cache
	restic -q -r "$at_a/restic" init
	restic -q -r "$at_a/restic" backup "$at_a/clone"
	restic -q -r "$at_a/restic" check --read-data >"$T/said" 2>&1 || fail "restic check: $(cat "$T/said")"
	shown
	restic -q -r "$at_b/restic" --no-lock --no-cache check --read-data >"$T/said" 2>&1 || fail "restic check there: $(cat "$T/said")"
}
if command -v restic >/dev/null; then took "restic backup, check --read-data on both" with_restic; fi

# ---- SQLite: it is killed, and its filesystem

# rows NAME MODE: numbered rows, each noted when its commit has returned.
rows()
{
	python3 - "$1" "$2" "$3" <<-'PYTHON'
	import sqlite3, sys
	path, mode, log = sys.argv[1:]
	db = sqlite3.connect(path, isolation_level=None)
	db.execute(f"pragma journal_mode={mode}")
	db.execute("pragma synchronous=full")
	db.execute("create table if not exists t (n integer primary key, text text)")
	n = db.execute("select coalesce(max(n), -1) + 1 from t").fetchone()[0]
	with open(log, "a", buffering=1) as out:
	    while True:
	        db.execute("insert into t values (?, hex(randomblob(700)))", (n,))
	        if n % 7 == 0 and n > 3:
	            db.execute("begin")
	            db.execute("delete from t where n = ?", (n - 3,))
	            db.execute("insert into t values (?, 'again')", (n - 3,))
	            db.execute("commit")
	        print(n, file=out)
	        n += 1
	PYTHON
}

# whole_rows PATH LOG
whole_rows()
{
	local count told
	said '^ok$' sqlite3 "$1" 'pragma integrity_check'
	told=$(wc -l <"$2")
	count=$(sqlite3 "$1" "select count(*) from t where n < $told")
	[ "$count" -eq "$told" ] || fail "$1: $count rows, and $told commits were told"
}

sqlite_round()
{
	local mode path node=$1 jobs=() next
	next=$(other "$node")
	rm -f "$T"/rows-*
	for mode in wal delete truncate; do
		rm -f "$T/on-$node/$mode".db*
		background rows "$T/on-$node/$mode.db" $mode "$T/rows-$mode" 2>/dev/null
		jobs+=("$job")
	done
	for mode in wal delete truncate; do
		wait_until 60 "there are rows of $mode" eval '[ -e "$T/rows-'$mode'" ] && [ "$(wc -l <"$T/rows-'$mode'")" -gt 30 ]'
	done
	# The program: its children of a subshell, so by the file that they have open.
	for job in "${jobs[@]}"; do
		kill -KILL $(pgrep -P "$job") "$job" 2>/dev/null || true
	done
	for mode in wal delete truncate; do
		path=$T/on-$node/$mode.db
		whole_rows "$path" "$T/rows-$mode"
	done
	jobs=()
	for mode in wal delete truncate; do
		background rows "$T/on-$node/$mode.db" $mode "$T/rows-$mode" 2>/dev/null
		jobs+=("$job")
	done
	sleep 1
	daemon_kill "$node"
	hf "$next" failover $V --force >/dev/null
	wait_until 20 "$next is writable" touch "$T/on-$next/first"
	for job in "${jobs[@]}"; do wait "$job" && fail "a writer outlived its directory"; done
	for mode in wal delete truncate; do whole_rows "$T/on-$next/$mode.db" "$T/rows-$mode"; done
	hf "$node" up $V
	hf "$node" mount $V "$T/on-$node"
	wait_online "$next" 60
}
if command -v sqlite3 >/dev/null; then
	node=a
	for _ in $(seq "$rounds"); do
		sqlite_round $node
		node=$(other $node)
	done
	fact "SQLite in three journal modes, $rounds rounds of killing it, then the daemon under it: whole, and all commits there"
fi
