"""Does memory grow with the rows of a job? Resident memory after every chunk of a long one, with a plot.

    OMP_NUM_THREADS=1 python benchmarks/long_job.py --out FOLDER [--count 20480] [--plot FILE]

The pairs are drawn scenes, the model is the embedded one that was trained on them, the method NIB with two nodes a side
(the cost of a row does not matter here, their number does). Killed, it goes on; what is judged is the longest session:
the slope, by least squares, of resident memory over rows after its first 2,000. Exit code 1: it grows by 0.1 MB per
1,000 rows, or more. Linux only.
"""

import argparse
import csv
import os
import platform
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import nibt
from nibt.datasets.scenes import Scenes

FIRST, LIMIT = 2000, 0.1


def resident():
    """This process's memory, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def explained(out, count):
    """Run the job; a line for each chunk goes to memory.csv."""
    log, began, rows = out / "memory.csv", time.perf_counter(), 0
    with log.open("a", newline="") as stream:
        writer = csv.writer(stream)

        def on_progress(progress):
            nonlocal rows
            rows = progress.done
            writer.writerow([os.getpid(), rows, f"{resident():.3f}", f"{time.perf_counter() - began:.1f}"])
            stream.flush()

        job = nibt.batch("scenes", Scenes(count=count, seed=2026), out / "job", steps=2, on_progress=on_progress)
    return job, log


def longest(log):
    """Rows, MB and seconds of the session with the most rows."""
    sessions = {}
    with log.open(newline="") as stream:
        for session, *numbers in csv.reader(stream):
            sessions.setdefault(session, []).append([float(number) for number in numbers])
    return np.array(max(sessions.values(), key=len)).T


def plot_memory(rows, memory, path):
    """Plot resident memory over rows as a PNG file."""
    figure = Figure(figsize=(6.4, 3.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(rows, memory, linewidth=1)
    axes.set_xlim(0, max(rows))
    axes.set_ylim(0, 1.15 * max(memory))
    axes.set_xlabel("rows explained", fontsize=8)
    axes.set_ylabel("resident memory, MB", fontsize=8)
    axes.tick_params(labelsize=7)
    figure.savefig(path, format="png", metadata={"Software": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20480)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    job, log = explained(options.out, options.count)
    rows, memory, seconds = longest(log)
    late = rows > FIRST
    slope = 1000 * np.polyfit(rows[late], memory[late], 1)[0]
    problems = job.check() or "none"
    print(f"rows: {job.manifest.rows:,}, without an answer: {job.manifest.errors}, problems: {problems}")
    print(
        f"longest session: {rows[-1]:,.0f} rows in {seconds[-1]:,.0f} s ({1000 * seconds[-1] / rows[-1]:.1f} ms each)"
    )
    print(
        f"resident memory after {FIRST:,} rows: {memory[late].min():.1f} to {memory[late].max():.1f} MB, "
        f"at the end {memory[-1]:.1f} MB"
    )
    half = rows > rows[-1] / 2
    settled = 1000 * np.polyfit(rows[half], memory[half], 1)[0]
    print(f"growth: {slope:+.3f} MB per 1,000 rows (limit {LIMIT}); in the second half of them {settled:+.3f}")
    print(
        f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), Python "
        f"{platform.python_version()}, torch {version('torch')}, pyarrow {version('pyarrow')}"
    )
    if options.plot:
        plot_memory(rows, memory, options.plot)
    sys.exit(int(slope >= LIMIT))


if __name__ == "__main__":
    main()
