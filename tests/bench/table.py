# SPDX-License-Identifier: Apache-2.0
"""Samples, gathered into rows, printed as a table. Of scripts/bench."""
import os
import statistics

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def samples(text):
    """The lines of sample_print(): (what, depth) and the numbers."""
    for line in text.splitlines():
        what, depth, *numbers = line.split()
        yield (what, int(depth)), tuple(float(n) for n in numbers)


class Row:
    """One line of the table: a sample per round, and the daemons' CPU over all rounds."""

    def __init__(self):
        self.samples, self.ticks, self.operations = [], [], 0

    def add(self, numbers, ticks=(), operations=0):
        self.samples.append(numbers)
        self.ticks = [sum(pair) for pair in zip(self.ticks, ticks)] or list(ticks)
        self.operations += operations


def number_text(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def range_text(values):
    if not values:
        return " " * 22
    return (f"{number_text(statistics.median(values)):>6} "
            f"{'(' + number_text(min(values)) + '..' + number_text(max(values)) + ')':<15}")


def ratio(row, to):
    """Round by round, so that what slowed both of a round cancels out."""
    if to is None or to is row:
        return []
    return [mine[0] / other[0] for mine, other in zip(row.samples, to.samples)]


def cells(rows, to, load, depth, who):
    row, ratios = rows[load, depth, who], []
    if who != to:
        other = rows.get(("write+fua" if load == "write,flush" else load, depth, to))
        ratios = [ratio(row, other), ratio(row, rows.get((load, depth, "unmirrored")) if "mode" in who else None)]
    cpu = [f"{'ab'[i]} {ticks * TICK_US / row.operations:.1f}" for i, ticks in enumerate(row.ticks)]
    numbers = [[sample[i] for sample in row.samples if i < len(sample) and sample[i] is not None] for i in range(3)]
    return [load, str(depth), who, *map(range_text, numbers + ratios), *(["  ".join(cpu)] if cpu else [])]


def table(rows, to):
    """@to: whose rate the others' are divided by."""
    head = ["what", "depth", "", "per second", "p50 us", "p99 us", f"to {to}", "to unmirrored", "daemons' CPU, us"]
    lines = [head] + [cells(rows, to, *key) for key in rows]
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(head))]
    for at, line in enumerate(lines):
        if at > 0 and lines[at - 1][:2] != line[:2]:
            print()
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
