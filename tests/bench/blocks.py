# SPDX-License-Identifier: Apache-2.0
"""4 KiB blocks: the engine alone, and a daemon as an NBD client sees it, beside the disk. Of scripts/bench."""
import os
import random
import shutil

import table
from daemons import BUILD, Setup, progress, run

SETUP_SECONDS, SLICE_SECONDS, ROUND_SECONDS = 10, 0.15, 8	# what goes by outside the samples
LOADS = ["write+fua", "write,flush", "write", "read"]
DEPTHS = [1, 32]
# The order of a round: what makes many dirty pages comes last, and is waited for.
ROUND = [("read", 1), ("read", 32), ("write+fua", 1), ("write,flush", 1), ("write", 1),
         ("write+fua", 32), ("write,flush", 32), ("write", 32)]


def nbd(setup, load, depth, seconds):
    return run(f"{BUILD}/bench/nbd", f"{setup.nodes[0].root}/run/holdfast/bench.nbd", load, str(depth), str(seconds))


def measure_journal(folder, rounds, seconds, rows):
    progress(f"journal: {rounds} rounds")
    os.mkdir(folder)
    for (who, depth), numbers in table.samples(run(f"{BUILD}/bench/journal", folder, str(seconds), str(rounds))):
        rows.setdefault(("journal", depth, "disk" if who == "raw" else who), table.Row()).add(numbers)
    shutil.rmtree(folder)


def prepare(setups):
    """Volumes that are full, and daemons that have nothing of them in memory."""
    for setup in setups:
        progress(f"{setup.name}: filling")
        setup.create()
        setup.start()
        nbd(setup, "fill", 1, 1)
        setup.stop()
        setup.start()


def measure_setup(setup, load, depth, seconds, rows):
    before = [node.cpu_ticks() for node in setup.nodes]
    text = nbd(setup, load, depth, seconds)
    setup.settle()
    ticks = [node.cpu_ticks() - was for node, was in zip(setup.nodes, before)]
    for _, numbers in table.samples(text):
        rows.setdefault((load, depth, setup.name), table.Row()).add(numbers, ticks, numbers[0] * seconds)


def measure_disk(path, load, depth, seconds, rows):
    for _, numbers in table.samples(run(f"{BUILD}/bench/disk", path, load, str(depth), str(seconds))):
        rows.setdefault((load, depth, "disk"), table.Row()).add(numbers)


def measure_nbd(folder, setups, rounds, seconds, rows):
    run(f"{BUILD}/bench/disk", f"{folder}/raw", "read", "1", "0.1")
    for number in range(rounds):
        for load, depth in ROUND:
            progress(f"NBD: round {number + 1} of {rounds}, {load} at depth {depth}")
            # The disk has no write,flush: its durable write is what that is held beside.
            turn = setups + ([None] if load != "write,flush" else [])
            for setup in random.sample(turn, len(turn)):
                if setup:
                    measure_setup(setup, load, depth, seconds, rows)
                else:
                    measure_disk(f"{folder}/raw", load, depth, seconds, rows)
            for setup in setups if load != "read" and depth > 1 else []:
                setup.destaged()


def ordered(rows):
    loads, whose = ["journal"] + LOADS, ["disk", "engine", "unmirrored", "mode A", "mode C"]
    return dict(sorted(rows.items(), key=lambda item: (loads.index(item[0][0]), item[0][1], whose.index(item[0][2]))))


def bench(folder, setups, rounds, seconds):
    """@setups: empty; those that are begun here are put there, whatever happens."""
    setups += [Setup("unmirrored", folder), Setup("mode A", folder, "A"), Setup("mode C", folder, "C")]
    slices = rounds * (6 + len(DEPTHS) * (4 * len(LOADS) - 1))
    seconds, rows = max(0.2, (seconds - SETUP_SECONDS - ROUND_SECONDS * rounds) / slices - SLICE_SECONDS), {}
    measure_journal(f"{folder}/journal", rounds, seconds, rows)
    prepare(setups)
    measure_nbd(folder, setups, rounds, seconds, rows)
    for setup in setups:
        setup.stop()
        setup.compare()
    progress("")
    print(f"4 KiB operations; each sample {seconds:.2f} s\n")
    table.table(ordered(rows), "disk")
