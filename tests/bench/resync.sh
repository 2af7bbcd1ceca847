#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# resync.sh: what a resync of a whole volume costs the primary's clients, how fast it is, and how well its end is foretold.
# Prints one table. fio writes 4 KiB at random over NBD, one at a time, in slices in turn: both nodes in sync, beside a
# resync, alone (the link is cut, the resync stands still); so what else the machine does hits all alike.
#
#	SIZE=2G  SLICE=3  ROUNDS=3  RATE=64M	volume; seconds of a slice; rounds; resync-rate of the foretold one
. "$(dirname "$0")/../e2e/lib.sh"
need_root
need_tools fio qemu-io

size=${SIZE:-2G} slice=${SLICE:-3} rounds=${ROUNDS:-3} rate=${RATE:-64M}

# foreground NAME SECONDS [FIO_OPTIONS...]: a line of its JSON in $T/NAME.
foreground()
{
	local name=$1 seconds=$2
	shift 2
	fio --name=foreground --ioengine=nbd --uri="$(uri a)" --rw=randwrite --bs=4k --iodepth=1 --time_based \
		--runtime="$seconds" --randrepeat=0 --size=64M --output-format=json "$@" >>"$T/$name"
}

resync_runs()
{
	is a 'p["resync"]["running"]'
}

# b is empty again, and a resync of everything begins when the link is there.
b_anew()
{
	hf b down $V
	hf b replace $V --force >/dev/null
	rm -f "$T"/b/var/lib/holdfast/$V/*.old-*
}

nodes_create "$size" C --no-loop --undo-size 1M
for node in a b; do node_set $node peer-timeout 1s; done
sed -i 's/^memory = .*/memory = 256M/' "$T"/?/etc/holdfast/$V.conf
nodes_up
primary_make a
echo "filling $size" >&2
fio --name=fill --ioengine=nbd --uri="$(uri a)" --rw=write --bs=1M --iodepth=4 --size="$size" --refill_buffers \
	>/dev/null
wait_until 600 "b has it all" all_applied a
wait_until 60 "all is in the store" is a 's["pages_dirty"] == 0'

# beside_resync LOAD OPTIONS...: a slice in sync, then up to two beside a resync of everything, each with one alone.
beside_resync()
{
	local load=$1 n
	shift
	foreground "$load.mirrored" "$slice" "$@"
	b_anew
	for n in 1 2; do
		wait_until 60 "resync $n runs, or is over" is a 'p["resync"]["running"] or p["state"] == "online"'
		resync_runs || break
		foreground "$load.resync" "$slice" "$@"
		resync_runs || break
		link_down
		wait_until 20 "a is alone" is a 'not p["connected"]'
		foreground "$load.alone" "$slice" "$@"
		link_up
	done
	wait_until 600 "b has it all" all_applied a
}

for ((round = 1; round <= rounds; round++)); do
	echo "beside a resync, round $round of $rounds" >&2
	beside_resync write
	beside_resync write,flush --fsync=1
done

echo "a resync that nobody is beside" >&2
start=$(now_ms)
b_anew
wait_until 60 "the resync runs" resync_runs
start=$(now_ms)
wait_until 600 "the resync is over" is a 'p["state"] == "online"'
bytes=$(field a 's["volume_bytes"]')
awk -v bytes="$bytes" -v ms=$(($(now_ms) - start)) 'BEGIN { print bytes / 1048576 / ms * 1000, ms / 1000 }' >"$T/rate"

echo "a resync at resync-rate $rate" >&2
nodes_down
node_set a resync-rate "$rate"
nodes_up
primary_make a
b_anew
wait_until 60 "the resync runs" resync_runs
for part in 0.1 0.25 0.5 0.75; do
	wait_until 600 "$part is done" is a "p['resync']['bytes_done'] > $part * p['resync']['bytes_total']"
	echo "$part $(now_ms) $(field a 'p["resync"]["eta_seconds"], p["resync"]["bytes_per_second"]')" >>"$T/foretold"
done
wait_until 600 "the resync is over" is a 'p["state"] == "online"'
now_ms >"$T/end"

nodes_down
stores_same
python3 - "$T" <<'END'
import json
import statistics
import sys

folder = sys.argv[1]


def slices(name):
    """(p50, p99) in us of each slice."""
    out, decoder, text = [], json.JSONDecoder(), open(f"{folder}/{name}").read()
    at = 0
    while (at := text.find("{\n", at)) >= 0:	# fio has notes in between
        got, at = decoder.raw_decode(text, at)
        job = got["jobs"][0]
        part = job["sync"]["lat_ns"] if "flush" in name else job["write"]["clat_ns"]
        write = job["write"]["clat_ns"]["percentile"]
        flush = part.get("percentile", {})
        both = "flush" in name
        out.append(tuple((write[p] + (flush.get(p, 0) if both else 0)) / 1000 for p in ("50.000000", "99.000000")))
    return out


print(f"{'what':<14}{'beside':<34}{'slices':>7}{'p50 us':>9}{'p99 us':>9}{'p50':>8}{'p99':>8}")
for load in "write", "write,flush":
    base = [statistics.median(values) for values in zip(*slices(f"{load}.mirrored"))]
    for who, text in (("mirrored", "nothing, both nodes in sync"), ("alone", "nothing, the peer is away"),
                      ("resync", "a resync of the whole volume")):
        got = slices(f"{load}.{who}")
        middle = [statistics.median(values) for values in zip(*got)]
        print(f"{load:<14}{text:<34}{len(got):>7}{middle[0]:>9.0f}{middle[1]:>9.0f}"
              f"{middle[0] / base[0]:>7.1f}x{middle[1] / base[1]:>7.1f}x")
mib, seconds = map(float, open(f"{folder}/rate").read().split())
print(f"\nresync alone: {mib:.0f} MiB/s, {seconds:.1f} s for all of it")
end = int(open(f"{folder}/end").read())
for line in open(f"{folder}/foretold"):
    part, at, eta, rate = line.split()
    took = (end - int(at)) / 1000
    print(f"at {float(part):.0%}: foretold {float(eta):.1f} s more at {int(rate) / 1048576:.0f} MiB/s, took {took:.1f} s: "
          f"off by {(float(eta) - took) / took:+.0%}")
END
