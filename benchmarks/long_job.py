"""Does memory grow with the rows of a job? Memory after every chunk of a long one, with a plot.

    OMP_NUM_THREADS=1 python benchmarks/long_job.py --out FOLDER [--count 20480] [--plot FILE]

The pairs are drawn scenes, saved as images that a table names again and again with other captions; drawing them in the
job would fill the data set's cache of emoji. The model is the embedded one that was trained on them, the method NIB
with two nodes a side (the cost of a row does not matter here, their number does). Killed, it goes on; what is judged is
the longest session: the slope, by least squares, of memory over rows after its first 2,000, once of the bytes that are
allocated, once of the resident memory, which also has what the allocator keeps, and jumps by megabytes. Exit code 1:
the first grows by 0.1 MB per 1,000 rows or more, or the second by 1 MB. Linux with glibc only.
"""

import argparse
import csv
import ctypes
import gc
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
from workers import images

import nibt

FIRST, LIMIT, RESIDENT_LIMIT = 2000, 0.1, 1.0
IMAGES = 640


def resident():
    """This process's memory, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Allocations(ctypes.Structure):
    """What ``mallinfo2`` of glibc returns, over all arenas."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def allocated():
    """The bytes that are allocated and not freed, in MB."""
    gc.collect()
    report = ctypes.CDLL(None).mallinfo2
    report.restype = Allocations
    info = report()
    return (info.uordblks + info.hblkhd) / 1e6


def table(folder, count):
    """A table of many rows with the images of a few."""
    short = images(folder, IMAGES)
    long = folder / f"long-{count}.csv"
    with short.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    pairs = ((rows[i % IMAGES]["image"], rows[(7 * i + i // IMAGES) % IMAGES]["caption"]) for i in range(count))
    with long.open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "caption"), *pairs])
    return long


def explained(out, count):
    """Run the job; a line for each chunk goes to memory.csv."""
    log, began, rows = out / "memory.csv", time.perf_counter(), 0
    with log.open("a", newline="") as stream:
        writer = csv.writer(stream)

        def on_progress(progress):
            nonlocal rows
            rows = progress.done
            seconds = time.perf_counter() - began
            writer.writerow([os.getpid(), rows, f"{resident():.3f}", f"{seconds:.1f}", f"{allocated():.3f}"])
            stream.flush()

        job = nibt.batch("scenes", table(out / "pairs", count), out / "job", steps=2, on_progress=on_progress)
    return job, log


def longest(log):
    """Rows, resident MB, seconds and allocated MB of the session with the most rows."""
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
    rows, memory, seconds, live = longest(log)
    late = rows > FIRST
    slope, resident_slope = (1000 * np.polyfit(rows[late], values[late], 1)[0] for values in (live, memory))
    problems = job.check() or "none"
    print(f"rows: {job.manifest.rows:,}, without an answer: {job.manifest.errors}, problems: {problems}")
    print(
        f"longest session: {rows[-1]:,.0f} rows in {seconds[-1]:,.0f} s ({1000 * seconds[-1] / rows[-1]:.1f} ms each)"
    )
    print(
        f"resident memory after {FIRST:,} rows: {memory[late].min():.1f} to {memory[late].max():.1f} MB, "
        f"at the end {memory[-1]:.1f} MB"
    )
    print(f"allocated after {FIRST:,} rows: {live[late].min():.1f} to {live[late].max():.1f} MB")
    print(
        f"growth per 1,000 rows: {slope:+.3f} MB allocated (limit {LIMIT}), {resident_slope:+.3f} MB resident "
        f"(limit {RESIDENT_LIMIT})"
    )
    print(
        f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), Python "
        f"{platform.python_version()}, torch {version('torch')}, pyarrow {version('pyarrow')}"
    )
    if options.plot:
        plot_memory(rows, memory, options.plot)
    sys.exit(int(slope >= LIMIT or resident_slope >= RESIDENT_LIMIT))


if __name__ == "__main__":
    main()
