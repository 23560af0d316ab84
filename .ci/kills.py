"""Kill -9 at twenty random moments, then resume: is the table, times aside, the one of an undisturbed run, bit by bit?

OMP_NUM_THREADS=1 python .ci/kills.py --out FOLDER [--kills 20] [--seed 0]

Each run is the command ``nibt bench`` in a process of its own. It is killed a random while after a random number of
chunks is there, so at any moment of its work, its writing too. Exit code 1: the tables differ.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from nibt.evaluation.bench.cell import fingerprint
from nibt.evaluation.bench.run import Benchmark

PLAN = """
about = "What is killed"
batch_size = 2
models = [{ name = "scenes" }]
methods = ["nib", { name = "nib", variant = "paper" }, "grad_cam", "legrad", { name = "m2ib", options = { steps = 2 } }]
data = [{ name = "scenes", options = { count = 24, seed = 7 } }]
metrics = ["pointing_game", "word_auc", "confidence_drop", "confidence_increase"]
"""


def start_run(plan: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command, in a process of its own."""
    code = f"from nibt.cli import main; main(['bench', {str(plan)!r}, '--out', {str(out)!r}, '--quiet'])"
    return subprocess.Popen([sys.executable, "-c", code])


def parts(out: Path) -> int:
    """How many chunks are there."""
    return sum(not path.name.startswith(".") for path in (out / "parts").glob("*.parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plan, whole, killed = options.out / "plan.toml", options.out / "whole", options.out / "killed"
    plan.write_text(PLAN)
    draws, chunk_counts = random.Random(options.seed), []
    if start_run(plan, whole).wait():
        sys.exit("the undisturbed run failed")
    for _ in range(options.kills):
        child = start_run(plan, killed)
        enough = parts(killed) + draws.randrange(5)
        while parts(killed) < enough and child.poll() is None:
            time.sleep(0.002)
        time.sleep(draws.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        chunk_counts.append(parts(killed))
    if start_run(plan, killed).wait():
        sys.exit("the resumed run failed")
    tables = [Benchmark.open(out).table() for out in (whole, killed)]
    same = fingerprint(tables[0]) == fingerprint(tables[1])
    drafts = len(list((killed / "parts").glob(".*.parquet")))
    print(f"chunks there after each kill: {chunk_counts} of {len(list(Benchmark.open(whole).chunks()))}")
    counts = [table.num_rows for table in tables]
    print(f"rows: {counts[0]} undisturbed, {counts[1]} after {options.kills} kills; drafts left: {drafts}")
    print(f"tables, times aside: {'bit-identical' if same else 'DIFFERENT'} ({fingerprint(tables[1])[:16]})")
    sys.exit(not same)


if __name__ == "__main__":
    main()
