#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/bench/tls.py: what encrypted links cost. Two mirrors in mode C, which differ in nothing else, take turns.

    BENCH_ROUNDS=15      how often each row is measured; the two take turns in a round, in a new order each time
    BENCH_SAMPLE=0.6     seconds of one sample
    BENCH_DIR=build      where the replicas lie
"""
import importlib.machinery
import importlib.util
import os
import random
import shutil
import statistics
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
loader = importlib.machinery.SourceFileLoader("bench", f"{TOP}/scripts/bench")
sys.dont_write_bytecode = True
bench = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
loader.exec_module(bench)
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 15))
SAMPLE = float(os.environ.get("BENCH_SAMPLE", 0.6))
ROWS = [("write", 1), ("write", 32), ("write+fua", 1), ("stream", 1), ("stream", 4)]


def measure(clear, tls, rows):
    for number in range(ROUNDS):
        for load, depth in ROWS:
            bench.progress(f"round {number + 1} of {ROUNDS}, {load} at depth {depth}")
            for setup in random.sample([clear, tls], 2):
                before = [node.cpu_ticks() for node in setup.nodes]
                ((_, numbers),) = bench.samples(setup.nbd(load, depth, SAMPLE))
                setup.settle()
                ticks = sum(node.cpu_ticks() for node in setup.nodes) - sum(before)
                rows.setdefault((load, depth), {}).setdefault(setup, []).append((*numbers, ticks / (numbers[0] * SAMPLE)))
                setup.destaged()


def middle(values, form):
    return f"{form % statistics.median(values)} ({form % min(values)}..{form % max(values)})"


def main():
    folder = tempfile.mkdtemp(prefix="bench.", dir=os.environ.get("BENCH_DIR", f"{TOP}/build"))
    clear, tls, rows = bench.Setup("C", folder, "C", clear=True), bench.Setup("T", folder, "C"), {}
    try:
        for setup in clear, tls:
            setup.create()
            setup.start()
            setup.settle()
            encrypted = setup.nodes[0].status()["peers"][0]["encrypted"]
            if encrypted != (setup is tls):
                raise bench.Failure(f"the link of {setup.name} is not as it should be")
            setup.nbd("fill", 1, 1)
            setup.destaged()
        measure(clear, tls, rows)
        for setup in clear, tls:
            setup.stop()
            setup.compare()
        bench.progress("")
        print("median (min..max) of %d rounds of %.1f s" % (ROUNDS, SAMPLE))
        print(f"{'what':<10} depth  {'clear, per second':<26}{'TLS, per second':<26}{'TLS / clear':<22}"
              f"{'p50 us: clear':<10} {'TLS':<8} {'CPU us/op: clear':<10}  TLS")
        for (load, depth), got in rows.items():
            a, b = got[clear], got[tls]
            print(f"{load:<10} {depth:>5}  {middle([x[0] for x in a], '%.0f'):<26}{middle([x[0] for x in b], '%.0f'):<26}"
                  f"{middle([y[0] / x[0] for x, y in zip(a, b)], '%.2f'):<22}"
                  f"{statistics.median(x[1] for x in a):<13.1f} {statistics.median(x[1] for x in b):<8.1f} "
                  f"{statistics.median(x[3] for x in a) * bench.TICK_US:<17.1f} "
                  f"{statistics.median(x[3] for x in b) * bench.TICK_US:.1f}")
    except bench.Failure as failure:
        sys.exit(f"tls.py: {failure}")
    finally:
        for setup in clear, tls:
            for node in setup.nodes:
                node.kill()
        shutil.rmtree(folder)


main()
