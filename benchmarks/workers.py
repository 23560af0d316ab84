"""Rows a second of a job by the number of its workers: in this process, and by workers of Ray on this machine.

    OMP_NUM_THREADS=1 python benchmarks/workers.py --out FOLDER [--count 640] [--workers 1 2] [--rounds 2]

The pairs are drawn scenes, saved as pictures with a table; the model is the embedded `scenes`, the method NIB with two
nodes a side. Each worker has one thread. The time to start (processes, imports, models) is told apart: a job of a
million rows does not feel it. Rounds alternate between the ways, and the quickest of each counts, since machines are
shared. All ways must give the same bits. The last lines are computed, not measured: what a million pairs take.
"""

import argparse
import csv
import platform
import shutil
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

import nibt
from nibt.datasets.scenes import Scenes

CHUNK = 32


def pictures(folder, count):
    """The pairs as pictures with a table."""
    table = folder / "pairs.csv"
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for item, pair in enumerate(Scenes(count=count, seed=2026)):
            pair.picture.image.save(folder / f"{item}.png")
            rows.append((f"{item}.png", pair.caption))
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows([("image", "caption"), *rows])
    return table


def timed(table, out, **where):
    """Seconds until the first chunk, seconds for the rows after it, how many these are, and the bits."""
    shutil.rmtree(out, ignore_errors=True)
    began, marks = time.perf_counter(), []
    nibt.batch("scenes", table, out, steps=2, chunk_size=CHUNK,
               on_done=lambda rows: marks.append((time.perf_counter() - began, rows)), **where)  # fmt: skip
    skipped = where.get("workers", 1)  # the first chunk of each worker holds its start
    start, end = marks[skipped - 1][0], marks[-1][0]
    return (
        start,
        end - start,
        sum(rows for _, rows in marks[skipped:]),
        sorted(p.name for p in (out / "parts").iterdir()),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=640)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    table = pictures(options.out / f"pairs-{options.count}", options.count)
    ways = {"this process": {}, **{f"Ray, {n} worker(s)": {"on": "ray", "workers": n} for n in options.workers}}
    found = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, where in ways.items():
            found[way].append(timed(table, options.out / "job", **where))
    bits = {str(one[3]) for runs in found.values() for one in runs}
    best = {way: min(runs, key=lambda one: one[1] / one[2]) for way, runs in found.items()}
    alone = best["this process"][2] / best["this process"][1]
    print("| where | until the first chunks, s | rows a second | to this process |\n|---|---|---|---|")
    for way, (start, seconds, rows, _) in best.items():
        print(f"| {way} | {start:.1f} | {rows / seconds:.1f} | {rows / seconds / alone:.2f} |")
    print(f"bits of all {len(options.workers) + 1} ways and {options.rounds} rounds: "
          f"{'the same' if len(bits) == 1 else 'DIFFERENT'}")  # fmt: skip
    print(f"{options.count} rows in chunks of {CHUNK}, {date.today()}, {platform.machine()}, Python "
          f"{platform.python_version()}, torch {version('torch')}, ray {version('ray')}, {torch.get_num_threads()} "
          "thread(s)")  # fmt: skip


if __name__ == "__main__":
    main()
