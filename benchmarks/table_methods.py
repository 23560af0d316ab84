"""What word-region tables of each method cost, and how near they come to the exact interactions.

It feeds docs/explanation/regions.md.

    OMP_NUM_THREADS=1 python benchmarks/table_methods.py error      # error against forward passes, as CSV
    OMP_NUM_THREADS=1 python benchmarks/table_methods.py cost       # seconds and memory at ViT-B/32 size

``error``: the embedded model `scenes`, two scenes, 14 superpixels and captions of 8 words, so that all coalitions
can be evaluated: the exact table has the cross-modal coefficients of the best model of order two (share
1/2). The error is the length of the difference, relative to that of the exact table; mean over scenes and seeds. A
forward pass is one of both towers.

``cost``: a CLIP of ViT-B/32 size with random weights, 49 patches, a caption of seven words, each method in a process of
its own. Seconds are processor time, memory is the peak of the process above that of the loaded model.
"""

import argparse
import csv
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import nibt
from nibt.datasets.scenes import Scenes

BUDGETS = (16, 32, 64, 128, 256, 512)
WAYS = {
    "fixlip, drawn pairs": ("fixlip", {"pairs": "drawn"}),
    "fixlip, all pairs": ("fixlip", {}),
    "banzhaf": ("banzhaf", {}),
    "banzhaf, ridge 2": ("banzhaf", {"ridge": 2.0}),
    "banzhaf, means": ("banzhaf", {"estimate": "means"}),
    "shapley": ("shapley", {}),
}
OTHERS = {"occlusion": ("occlusion", {})}
COSTS = {
    "nib, default steps": ("nib", {"tolerance": None}),
    "nib, tolerance 0.01": ("nib", {}),
    "integrated_gradients, 50": ("integrated_gradients", {}),
    "occlusion": ("occlusion", {}),
    "banzhaf, 200": ("banzhaf", {"budget": 200}),
    "shapley, 200": ("shapley", {"budget": 200}),
    "rise, 200": ("rise", {"masks": 200}),
    "fixlip, 200": ("fixlip", {"budget": 200}),
    "gae (word game)": ("gae", {}),
    "grad_eclip (word game)": ("grad_eclip", {}),
}


def table_of(model, pair, method, **options):
    return nibt.regions(model, pair.image, pair.caption, method=method, **options).table


def error():
    model = nibt.load_model("scenes")
    scenes = list(Scenes(count=4, seed=31, fewest=2, most=2, named="all"))
    lines = {}
    for place, segments in ((0, 16), (3, 13)):  # 14 superpixels each
        pair, units = scenes[place], {"units": "segments", "segments": segments}
        exact = table_of(model, pair, "banzhaf", budget=2**14, **units)
        for label, (method, options) in WAYS.items():
            for budget in BUDGETS:
                chosen = {"budget": budget, **units, **options}
                tables = [table_of(model, pair, method, seed=seed, **chosen) for seed in range(5)]
                errors = [float((table - exact).norm() / exact.norm()) for table in tables]
                lines.setdefault((label, budget), []).append(np.mean(errors))
        for label, (method, options) in OTHERS.items():
            apart = table_of(model, pair, method, **units, **options) - exact
            lines.setdefault((label, 0), []).append(float(apart.norm() / exact.norm()))
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write(["method", *(f"{budget} passes" for budget in BUDGETS)])
    for label in WAYS:
        write([label, *(f"{np.mean(lines[label, budget]):.3f}" for budget in BUDGETS)])
    for label in OTHERS:
        write([f"{label}, 14 and 8 forward passes", f"{np.mean(lines[label, 0]):.3f}", *[""] * (len(BUDGETS) - 1)])


def peak_memory():
    """The peak of resident memory in GB since it was reset (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def cost(label):
    from PIL import Image
    from regions import CAPTION, least, model, plain

    from nibt.data.images import read_image

    ready = model()
    image = read_image(Image.fromarray(np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)))
    forward = min(plain(ready, image) for _ in range(5))
    Path("/proc/self/clear_refs").write_text("5")  # the peak of loading does not count
    before = peak_memory()
    method, options = COSTS[label]
    table, seconds = least(lambda: nibt.regions(ready, image, CAPTION, method=method, **options))
    peak = peak_memory()
    words = len(table.words)
    values = [f"{seconds:.2f}", f"{seconds / forward:.1f}", f"{peak - before:.2f}", f"{words} x {table.grid.count}"]
    csv.writer(sys.stdout, lineterminator="\n").writerow([label, *values])
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["error", "cost", *COSTS], metavar="error|cost")
    what = parser.parse_args().what
    if what in COSTS:
        cost(what)
        return
    if what == "error":
        error()
    else:
        heads = "method", "seconds", "forward passes of both towers", "peak GB above the model", "words x patches"
        print(*heads, sep=",", flush=True)
        for label in COSTS:
            subprocess.run([sys.executable, __file__, label], check=True)
    print(
        f"{time.strftime('%-d %B %Y')}, {platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}"
    )


if __name__ == "__main__":
    main()
