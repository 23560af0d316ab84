"""How far weights in half precision move a map, on both sides: float16 and bfloat16 against float32.

It feeds docs/reference/results/precision.md.

    OMP_NUM_THREADS=1 python benchmarks/precision.py [--pairs 30] [--only TEXT] [--cost] [--write]

For each pair the largest difference of a score, as a share of the largest score of float32, and Spearman's correlation
of the scores: the median and the worst over the pairs. `rounded` is the largest difference from the map of the same
rounded weights, held in float32: what is not the rounding of the weights. Two rows are what nibt does not do on the
CPU. `TF32` rounds both factors of each matrix product to 11 bits, as accelerators do where TF32 is allowed. `half
products` rounds the factors and the result to the dtype of the weights, with all else in float32. The random models are
those of `models/random_models.py`. Pairs whose float32 map is zero are left out; constant maps have no correlation.

``--cost`` adds time and memory at ViT-B/32 size (`limit.py`). ``--write`` writes ``precision.csv`` and, with a summary
and the costs, ``precision.md`` in ``docs/reference/results``; it needs ``--cost``.
"""

import argparse
import csv
import statistics
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from limit import Batch, machine, most_memory, seconds
from models import random_models
from regions import model as large
from torch.utils._python_dispatch import TorchDispatchMode

import nibt
from nibt.datasets.scenes import Scenes
from nibt.metrics._numbers import rank_correlation

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "results" / "precision.md"
RANDOM = {
    "random CLIP": random_models.clip,
    "random SigLIP": random_models.siglip,
    "random OpenCLIP": random_models.open_clip_vit,
}
METHODS = {"scenes": ("nib", "gae", "grad_cam"), "lite": ("nib", "grad_cam")}
OF_RANDOM = ("nib", "gae")
HALF = ("float16", "bfloat16")
ZERO = 1e-6  # a map without a larger score is zero up to rounding
PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}
COLUMNS = ("model", "method", "weights", "side", "median", "worst", "Spearman median", "Spearman worst", "rounded")
ABOUT = """# Half precision

This page compares the maps of models whose weights are in half precision (float16 or bfloat16) with those of the same
models in float32.[^run]
[Precision](../../explanation/cost.md#precision) describes how nibt computes with them, and which to prefer.

We explained {pairs} drawn scenes on both sides, with `nib` and `grad_cam`, and with the model `scenes` also with
`gae`. The table has the worst values: the largest difference of a score from that in float32, as a share of the
largest absolute score of the map in float32, and the smallest rank correlation (Spearman) of a map with that in
float32. [precision.csv](precision.csv) has a row for each method and side, with medians, and rows for models with
random weights and for two computations that nibt does not use ([precision.py](../../../benchmarks/precision.py)
describes them).

{summary}

The next table has costs for a model of ViT-B/32 size with random weights, with batches of 8. `size` is the memory of
the weights, and `peak` the largest memory of the process, both in GB. The columns `forward` and
`default maps` have the times of a forward pass and of maps with the defaults of `nib`, relative to those in float32.

{costs}

[^run]: {note}. `OMP_NUM_THREADS=1 python benchmarks/precision.py --cost --write`.
"""


class RoundedProducts(TorchDispatchMode):
    """Rounds the factors of matrix products to 11 bits or, with a dtype, factors and results to that dtype."""

    def __init__(self, dtype=None):
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        out = func(*args[:-2], *map(self.rounded, args[-2:]), **(kwargs or {}))
        return out if self.dtype is None else self.rounded(out)

    def rounded(self, values):
        if values.dtype != torch.float32:
            return values
        if self.dtype is not None:
            return values.to(self.dtype).float()
        bits = values.contiguous().view(torch.int32)
        return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def loaded(name, captions, dtype="float32"):
    if name not in RANDOM:
        return nibt.load_model(name, dtype=dtype)
    module, parts = RANDOM[name](captions)
    return nibt.load_model(module.to(getattr(torch, dtype)), **parts)


def rounded(model, dtype):
    """Round the weights of a model in float32 as a dtype does."""
    with torch.no_grad():
        for tensor in (*model.module.parameters(), *model.module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(getattr(torch, dtype)).float())
    return model


def of_side(answers, side):
    """The scores of each pair; of a caption, those of its words' tokens."""
    maps = (getattr(answer, side) for answer in answers)
    return [one.scores.flatten() if side == "image" else one.scores[one.units.explained] for one in maps]


def compared(actual, expected, side):
    """Differences and correlations over the pairs."""
    both = zip(of_side(actual, side), of_side(expected, side), strict=True)
    pairs = [(one, other) for one, other in both if other.abs().max() > ZERO]
    apart = [float((one - other).abs().max() / other.abs().max()) for one, other in pairs]
    ranks = [value for value in (rank_correlation(*pair) for pair in pairs) if value == value]
    return apart, ranks


def rows(name, images, captions):
    """The rows of one model."""
    for method in METHODS.get(name, OF_RANDOM):
        exact = nibt.explain(loaded(name, captions), images, captions, method)
        for dtype in HALF:
            same = nibt.explain(rounded(loaded(name, captions), dtype), images, captions, method)
            half = loaded(name, captions, dtype)
            contexts = {"": nullcontext()}
            if method == "nib":
                contexts |= {"TF32": RoundedProducts(), "half products": RoundedProducts(getattr(torch, dtype))}
            for products, context in contexts.items():
                with context:
                    actual = nibt.explain(half, images, captions, method)
                for side in ("image", "text"):
                    apart, ranks = compared(actual, exact, side)
                    beyond, _ = compared(actual, same, side)
                    if not ranks:
                        continue
                    label = f"{method}, {products}" if products else method
                    numbers = statistics.median(apart), max(apart), statistics.median(ranks), min(ranks)
                    yield [name, label, dtype, side, *(f"{number:.4f}" for number in numbers), f"{max(beyond):.0e}"]


def summary(rows):
    """The worst of each model and dtype, without the ways to compute that nibt does not use, as Markdown."""
    lines = ["| model | weights | largest difference | smallest Spearman |", "|---|---|---|---|"]
    for name in METHODS:
        for dtype in HALF:
            same = [row for row in rows if (row[0], row[2]) == (name, dtype) and "," not in row[1]]
            largest, smallest = max(float(row[5]) for row in same), min(float(row[7]) for row in same)
            lines.append(f"| {name} | {dtype} | {largest:.4f} | {smallest:.4f} |")
    return "\n".join(lines)


def write(rows, costs, pairs, note):
    """The table and its page."""
    with PAGE.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    PAGE.write_text(ABOUT.format(pairs=pairs, summary=summary(rows), costs="\n".join(costs), note=note))


def of_size(dtype, size=8):
    """A batch of ViT-B/32 size in a dtype."""
    model = large()
    model.module.to(getattr(torch, dtype))
    return Batch(model, size)


def costs(rounds=5):
    """Time and memory, as lines of Markdown."""
    batches = {dtype: of_size(dtype) for dtype in ("float32", *HALF)}
    times = {(dtype, work): [] for dtype in batches for work in ("forward", "maps")}
    for number in range(rounds + 1):
        for dtype, batch in batches.items():
            works = {"forward": batch.plain, "maps": lambda batch=batch: batch.maps("default", {})}
            for work, run in works.items():
                times[dtype, work] += [seconds(run)] if number else []
                if not number:
                    run()
    for dtype, batch in batches.items():
        weights = sum(one.numel() * one.element_size() for one in batch.model.module.parameters())
        ratios = [
            statistics.median(
                one / other for one, other in zip(times[dtype, work], times["float32", work], strict=True)
            )
            for work in ("forward", "maps")
        ]
        command = [sys.executable, __file__, "--peak", dtype]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        yield f"| {dtype} | {weights / 1e9:.2f} | {peak:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--only", default="", help="only the models whose name has this")
    parser.add_argument("--cost", action="store_true", help="also time and memory at ViT-B/32 size")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--peak", help="print the peak memory of a process that explains in a dtype, in GB")
    options = parser.parse_args()
    if options.write and (options.only or not options.cost):
        parser.error("--write needs --cost, and all models: leave out --only")
    if options.peak:
        of_size(options.peak).maps("default", {})
        print(most_memory())
        return
    pairs = list(Scenes(count=options.pairs, seed=5, fewest=2, most=3, named="one"))
    images, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    print(machine(), ", ".join(COLUMNS), sep="\n")
    measured = []
    for name in ("scenes", "lite", *RANDOM):
        for row in rows(name, images, captions) if options.only in name else ():
            print(", ".join(row), flush=True)
            measured.append(row)
    of_costs = ["| weights | size | peak | forward | default maps |", "|---|---|---|---|---|"]
    if options.cost:
        of_costs += costs()
        print(*of_costs, sep="\n")
    if options.write:
        write(measured, of_costs, options.pairs, machine())


if __name__ == "__main__":
    main()
