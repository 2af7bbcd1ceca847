#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is wrong is refused in one line that names it and the next step, and nothing of the replica is changed.
. "$(dirname "$0")/lib.sh"
need_root
need_tools qemu-io python3

# unchanged PATTERN: `up` on a is refused, and the replica is as it was.
unchanged()
{
	local before after
	before=$(replica_sum a)
	refused 1 "^holdfast: volume $V[: ].*$1" hf a up $V
	after=$(replica_sum a)
	[ "$before" = "$after" ] || fail "a refused start changed the replica"
	[ -z "$(daemons_of_test)" ] || fail "a daemon was left"
}

config=$T/a/etc/holdfast/$V.conf
state=$T/a/var/lib/holdfast/$V

keep()
{
	rm -rf "$T/kept"
	mkdir "$T/kept"
	cp -a "$config" "$T/kept/config"
	cp -a --sparse=always "$state" "$T/kept/state"
}

# restore [FILE...]: the config, and what was damaged. (That nothing else changed is what unchanged() is for.)
restore()
{
	local file
	cp -a "$T/kept/config" "$config"
	for file in "$@"; do
		rm -f "${state:?}/$file"
		cp -a --sparse=always "$T/kept/state/$file" "$state/$file"
	done
}

garbage()
{
	dd if=/dev/urandom of="$state/$1" bs=4096 seek="$2" count="$3" conv=notrunc status=none
}

journal_size=32M
nodes_create 16M C --no-loop

# ---- usage and no daemon
refused 2 'nosuch.*holdfast --help' hf a nosuch $V
refused 2 'usage: .*down VOLUME' hf a down $V more
status=0
hf a status --nosuch 2>"$T/said" || status=$?
[ $status -eq 2 ] && grep -q '^usage: ' "$T/said" || fail "an unknown option: status $status, $(cat "$T/said")"
refused 2 'usage: .*create VOLUME' hf a create other
refused 2 '\.\./x' hf a status ../x
for verb in "status $V" "promote $V" "demote $V" "switchover $V b" "failover $V --dry-run" "attach $V" "down $V"; do
	# shellcheck disable=SC2086
	refused 3 "volume $V: no daemon is running; start it with: holdfast up $V" hf a $verb
done
refused 1 'there is no config.*holdfast create nix' hf a up nix
refused 1 'there is a config .* already' hf a create $V --size 64M --node a
refused 1 'size' hf a create other --size many --node a
[ ! -e "$T/a/var/lib/holdfast/other" ] && [ ! -e "$T/a/etc/holdfast/other.conf" ] || fail "a refused create left files"
fact "usage is 2, no daemon is 3, the rest is 1"

# ---- config
keep
node_set a size 32M
unchanged 'store .*has 16777216 bytes and needs 33554432'
restore
node_set a size 8M
unchanged 'store .*has 16777216 bytes, more than the volume.s 8388608'
restore
node_set a uuid "$(cat /proc/sys/kernel/random/uuid)"
unchanged "store .*belongs to volume $uuid and the config says"
restore
node_set a colour red
unchanged 'photos.conf:2: \[volume\] has no key "colour"'
restore
echo 'this is no line' >>"$config"
unchanged 'photos.conf:[0-9]+: '
restore
node_set a memory 1K
unchanged 'memory'
restore
truncate -s 100 "$config"
unchanged 'photos.conf'
restore
fact "config: each refusal names file, line or key"

# ---- the replica's files
keep
for file in store journal meta; do
	truncate -s -4096 "$state/$file"
	unchanged "$file .*has [0-9]+ bytes and needs [0-9]+"
	restore "$file"
	: >"$state/$file"
	unchanged "$file .*has 0 bytes and needs"
	restore "$file"
	rm "$state/$file"
	unchanged "$file .*No such file"
	restore "$file"
done
garbage journal 0 1
unchanged 'journal.*not a Holdfast journal'
restore journal
garbage meta 0 32
unchanged 'meta: neither of its two copies is whole; replace this replica from a peer'
restore meta
cp -a --sparse=always "$T/b/var/lib/holdfast/$V/meta" "$state/meta"
unchanged "meta: this replica is another node's"
restore meta
fact "store, journal, meta: cut short, empty, missing, garbage, another's"

garbage meta 0 1		# one of two copies: no harm
hf a up $V
hf a down $V
restore store journal meta
fact "one copy of meta is enough"

# The journal is damaged below what the store already has of it: the store alone would be neither old nor new. The
# store's disk is full meanwhile, so the journal is needed for certain.
rm -rf "${T:?}/a" "${T:?}/b"
mkdir "$T/a"
mount -t tmpfs -o size=60M none "$T/a"
nodes_create 48M C --no-loop
nodes_up
primary_make a
background qemu-io -f raw "$(uri a)" -c "write -P 5 0 20M" -c flush -c "write -P 6 20M 20M" -c flush >/dev/null
wait_until 20 "the store's disk is full" is a '"disk is full" in s["waiting_for"]'
tail=$(field a 's["lsn"]["tail"]')
daemon_kill a
hf b down $V
wait "$job" 2>/dev/null || true
mount -o remount,size=200M "$T/a"
keep
garbage journal $((tail % (32 << 20) / 4096 + 1)) 1
unchanged 'journal: damaged: .*replace this replica from a peer'
restore journal
hf a up $V
qio a -r -c "read -P 5 0 20M" || fail "after a full disk and a kill: $said_qio"
hf a down $V
umount "$T/a"
rm -rf "${T:?}/a" "${T:?}/b"
nodes_create 16M C --no-loop
keep
fact "a journal damaged where it is needed is refused"

# ---- addresses
restore store journal meta
nsenter "--net=/run/netns/$net-a" python3 -c '
import socket, sys, time
s = socket.create_server(("10.77.0.1", 7701))
open(sys.argv[1], "w").close()
time.sleep(60)' "$T/taken-a" &
holder=$!
jobs_started+=($holder)
wait_until 5 "the port is taken" test -e "$T/taken-a"
unchanged 'listen: 10.77.0.1:7701 cannot be listened on .*in use.*listen ='
kill $holder
wait $holder 2>/dev/null || true
node_set a nbd 10.77.0.1:10809
unchanged 'nbd: the address "10.77.0.1:10809" is not loopback'
restore
node_set a listen 10.99.99.99:7701
unchanged 'listen: 10.99.99.99:7701'
restore
hf a up $V
refused 1 'running already' hf a up $V
fact "addresses: in use, not ours, not loopback"

# ---- a peer that is none
on b python3 - <<'END'
import random, socket, struct
random.seed(1)
for n in range(40):
    s = socket.create_connection(("10.77.0.1", 7701))
    s.settimeout(0.2)
    try:
        if n % 2:
            s.sendall(random.randbytes(random.choice((1, 16, 64, 1000, 100000))))
        else:
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        s.recv(1000)
    except OSError:
        pass
    s.close()
END
is a 's["open"] and s["failed"] == ""' || fail "garbage broke the daemon"
tail -n 1 "$T/a/var/log/holdfast/$V.log" | grep 'a connection from .* was refused: ' || fail "garbage is not told"
fact "a stranger with garbage is refused and told"

# meets EXPECTED: b and a meet, and both say so.
meets()
{
	hf b up $V
	wait_until 10 "a says \"$1\"" eval "field a 'p[\"why\"]' | grep -qE '$1'"
	wait_until 10 "b refuses, too" is b 'p["state"] == "refused"'
	echo "   $(field a 'p["why"]')"
	refused 1 "node b is refused.*($1)" hf a promote $V
	hf b down $V
	rm -rf "${T:?}/b"
}

b_create()
{
	hf b create $V --listen 10.77.0.2:7701 --peer a=10.77.0.1:7701 --memory 160M --journal-size 64M --no-loop "$@" >/dev/null
	hf a down $V
	nodes_pin
	hf a up $V
}

hf a down $V
rm -rf "${T:?}/a" "${T:?}/b"
nodes_create 64M C --no-loop
hf a up $V
rm -rf --one-file-system "${T:?}/b"
b_create --size 64M --node b
meets 'another volume \(its uuid differs\)'
b_create --size 32M --node b --uuid "$uuid"
meets 'must have the same size'
fact "another volume, another size: both sides say what differs"
hf a down $V
