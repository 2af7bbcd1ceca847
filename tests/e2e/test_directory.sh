#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The mounted directory: real programs in it, the same tree live on the secondary, and what becomes of it when roles
# change and daemons die.
. "$(dirname "$0")/lib.sh"
need_root
need_loop
need_tools git python3

tree=${DIRECTORY_TREE:-/usr/share/doc}
at_a=$T/on-a
at_b=$T/on-b

# same: the secondary has all of it, and shows it.
same()
{
	diff --no-dereference -r "$at_a" "$at_b" >"$T/differ" 2>&1
}

mounted()
{
	grep -q " $1 fuse.holdfast " /proc/mounts
}

# shows FILE TEXT
shows()
{
	[ "$(cat "$1" 2>/dev/null)" = "$2" ]
}

nodes_create 1G C --fs
for node in a b; do node_set $node peer-timeout 1s; done
nodes_up
refused 1 "filesystem|no daemon|directory" hf a mount $V /proc/nowhere
hf b mount $V "$at_b"
primary_make a
hf a mount $V "$at_a"
wait_until 10 "the filesystem is made" touch "$at_a/first"
wait_until 10 "the secondary shows it" ls "$at_b/first"
refused 1 "mounted at .* already" hf a mount $V "$T/elsewhere"
hf a status $V | grep -q "mounted .*on-a, writable" || fail "status does not show the mount"
hf b status $V | grep -q "mounted .*on-b, read-only" || fail "status does not show the mount of b"
touch "$at_b/x" 2>"$T/said" && fail "the secondary's directory is writable"
grep -q "Read-only file system" "$T/said" || fail "not EROFS: $(cat "$T/said")"
mkdir "$at_b/x" 2>/dev/null && fail "mkdir on the secondary"
rm "$at_b/first" 2>/dev/null && fail "rm on the secondary"
fact "mounted on both nodes; the secondary's is read-only"

cp -a "$tree" "$at_a/tree"
diff --no-dereference -r "$tree" "$at_a/tree" || fail "the copy differs"
wait_until 20 "the secondary shows the same tree" same
fact "a tree of $(find "$tree" | wc -l) names, the same on the secondary"

# What its kernel has in its caches follows: bytes, sizes, names, names that are not there.
echo one >"$at_a/file"
wait_until 5 "a new file" shows "$at_b/file" one
exec 9<"$at_b/file"
echo two >>"$at_a/file"
wait_until 5 "it has grown" shows "$at_b/file" $'one\ntwo'
[ "$(cat <&9)" = $'one\ntwo' ] || fail "who had it open does not see it"
exec 9<&-
echo x >"$at_a/file"
wait_until 5 "it has shrunk" shows "$at_b/file" x
[ -e "$at_b/name" ] && fail "it is there already"
mv "$at_a/file" "$at_a/name"
wait_until 5 "the name is there" shows "$at_b/name" x
[ -e "$at_b/file" ] && fail "the old name is still there"
chmod 741 "$at_a/name"
wait_until 5 "the mode follows" eval '[ "$(stat -c %a "$at_b/name")" = 741 ]'
rm "$at_a/name"
wait_until 5 "it is gone" eval '[ ! -e "$at_b/name" ]'
fact "a secondary's caches follow: bytes, sizes, names, modes"

git init -q "$at_a/git"
cp -r /usr/include/linux "$at_a/git/"
git -C "$at_a/git" add .
git -C "$at_a/git" -c user.name=x -c user.email=x@x commit -qm one
git -C "$at_a/git" gc -q
git -C "$at_a/git" fsck --full 2>"$T/said" || fail "git fsck: $(cat "$T/said")"
wait_until 20 "the secondary shows the repository" same
git -C "$at_b/git" -c safe.directory='*' fsck --full 2>"$T/said" || fail "git fsck there: $(cat "$T/said")"
fact "git: commit, gc, fsck, on both"

python3 "$here/exerciser.py" "$at_a/exercised" "${EXERCISER_STEPS:-4000}" "${SEED:-1}" || fail "the exerciser found a difference"
wait_until 20 "the secondary shows what the exerciser left" same
fact "reads, writes, cuts, holes and mappings of one file, as a model has them"

if command -v sqlite3 >/dev/null; then
	sqlite3 "$at_a/db" 'create table t (id integer primary key, text text)'
	acknowledged_rows()
	{
		local n=0
		while sqlite3 "$at_a/db" "insert into t values ($n, hex(randomblob(500)))"; do
			n=$((n + 1))
			echo "$n" >>"$T/rows"
		done
	}
	: >"$T/rows"
	background acknowledged_rows
	wait_until 30 "some rows are there" eval '[ "$(wc -l <"$T/rows")" -gt 20 ]'
fi

# Synced files, as many as are done when the daemon dies.
writer()
{
	local n=0
	while echo "content $n" >"$at_a/synced-$n" && sync "$at_a/synced-$n"; do
		echo $n >>"$T/synced"
		n=$((n + 1))
	done
}
: >"$T/synced"
background writer
wait_until 30 "some files are synced" eval '[ "$(wc -l <"$T/synced")" -gt 50 ]'
daemon_kill a
wait_until 5 "who uses the dead mount gets an error" eval '! timeout 2 ls "$at_a"'
exec 9<"$at_b/tree/$(ls "$at_b/tree" | head -n 1)"
hf b failover $V --force >/dev/null
wait_until 10 "the survivor's directory is writable" touch "$at_b/written"
exec 9<&-
while read -r n; do
	shows "$at_b/synced-$n" "content $n" || fail "synced-$n was synced, and is not there"
done <"$T/synced"
fact "$(wc -l <"$T/synced") files were synced before the primary was killed: all are there"
if command -v sqlite3 >/dev/null; then
	said '^ok$' sqlite3 "$at_b/db" 'pragma integrity_check'
	rows=$(sqlite3 "$at_b/db" 'select count(*) from t')
	[ "$rows" -ge "$(wc -l <"$T/rows")" ] || fail "$rows rows of $(wc -l <"$T/rows")"
	fact "SQLite: $rows rows, whole"
fi

hf a up $V
hf a mount $V "$at_a"
wait_online b
wait_until 30 "the old primary shows the same" same
touch "$at_a/x" 2>/dev/null && fail "the old primary is writable"
fact "the old primary is back, over its dead mount, as secondary"

# A switchover with open files: readable on, and writable elsewhere, without a mount.
exec 8>>"$at_b/open" 9<"$at_b/open"
echo before >&8
hf b switchover $V a
echo after 2>/dev/null >&8 && fail "an open file is writable on the old primary"
[ "$(cat <&9)" = before ] || fail "an open file is not readable any more"
wait_until 10 "the new primary is writable" eval 'echo more >>"$at_a/open"'
wait_until 5 "who has it open on the old one sees it" eval '[ "$(cat <&9)" = more ]'
exec 8>&- 9<&-
wait_online a
fact "a switchover leaves open files open"

dd if=/dev/zero of="$at_a/full" bs=1M 2>"$T/said" && fail "it is endless"
grep -q "No space left" "$T/said" || fail "not ENOSPC: $(cat "$T/said")"
echo x >"$at_a/more" 2>/dev/null || true
rm "$at_a/full"
wait_until 20 "the space is back" dd if=/dev/zero of="$at_a/half" bs=1M count=200
wait_online a
wait_until 20 "the secondary shows the same" same
fact "a full filesystem: ENOSPC, and rm gives the space back"

exec 9<"$at_a/half"
refused 1 "in use at" hf a umount $V
exec 9<&-
hf a umount $V
mounted "$at_a" && fail "it is still mounted"
refused 1 "not mounted" hf a umount $V
hf a mount $V "$at_a"
[ -e "$at_a/half" ] || fail "mounted again, it is empty"
for node in a b; do wait_until 20 "$node has applied all" all_applied a; done
nodes_down
mounted "$at_a" && fail "a daemon that stopped left its mount"
mounted "$at_b" && fail "a daemon that stopped left its mount"
stores_same
fact "unmounted cleanly, with umount and with down; the stores are the same"

node_set a mount "$at_a"
nodes_up
wait_until 10 "up mounts it" [ -e "$at_a/half" ]
nodes_down
fact "mount = DIR mounts at up"
