"""How the scores of units become pixels: stretchings and readings of the same maps, for each metric on the mask.

OMP_NUM_THREADS=1 python recipes/scenes/pixels.py measure --out RUN    # resumes
python recipes/scenes/pixels.py report --out RUN     # into docs/explanation/study

``area`` is the mean over a window of the size of a patch of the map whose units have one score all over. With one
view, whose units are patches, that is what ``bilinear`` gives; with more, ``bilinear`` takes the mean over a cell.
A reading changes the scores of the units before they are stretched.
"""

import json
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from limits import masks, named_apart
from runs import NAMES, SEED, collect, kept, machine, on_mask, parse_arguments, scenes, stored, write_tables

import nibt
from nibt.evaluation.statistics import interval
from nibt.metrics.localization import Energy, PointingGame
from nibt.metrics.rankings import AveragePrecision
from nibt.metrics.segmentation import IntersectionOverUnion
from nibt.results.pixels import to_pixels

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
SIZE, PATCHES = 128, 8
COUNT = 500
MAPS = {
    "nib, 1 view": {"views": 1, "layer": 7, "quadrature": "gauss", "steps": 4},
    "nib, 3 views": {},
    "gae, 1 view": {"method": "gae", "views": 1},
    "gae, 3 views": {"method": "gae", "views": 3},
}
METRICS = {
    "pointing_game": PointingGame(0.0),
    "average_precision": AveragePrecision(),
    "energy": Energy(),
    "intersection_over_union": IntersectionOverUnion(),
}


def nearest(grid):
    return F.interpolate(grid[None, None], (SIZE, SIZE), mode="nearest")[0, 0]


def bilinear(grid):
    return to_pixels(grid, SIZE, SIZE)


def bicubic(grid):
    return F.interpolate(grid[None, None], (SIZE, SIZE), mode="bicubic")[0, 0]


def area(grid):
    """The mean over a window of one patch around the center of each pixel; at the edges the map goes on unchanged."""
    finer = 3  # so that the center of a pixel is the center of a fine one, and a cell a whole number of them
    side = finer * SIZE
    window = side // PATCHES
    fine = F.interpolate(grid[None, None], (side, side), mode="nearest")
    wide = F.pad(fine, (window // 2,) * 4, mode="replicate")
    for size in (window, 2):  # the first means are around the corners of fine pixels; their centers are between
        wide = F.avg_pool2d(F.avg_pool2d(wide, (size, 1), 1), (1, size), 1)
    return wide[0, 0, finer // 2 :: finer, finer // 2 :: finer]


STRETCHINGS = {"nearest": nearest, "bilinear": bilinear, "bicubic": bicubic, "area": area}
READINGS = {
    "raw": lambda grid: grid,
    "positive part": lambda grid: grid.clamp_min(0),
    "root of the positive part": lambda grid: grid.clamp_min(0).sqrt(),
}


def measure(options):
    model, path = nibt.load_model(options.model), options.out / f"pixels-{options.part}.jsonl"
    pairs, done = named_apart(scenes("one", min(options.count, COUNT))), stored(path)
    for number, (name, setting) in enumerate(MAPS.items()):
        if name in done or number % options.parts != options.part:
            continue
        answers = nibt.explain(
            model, [pair.image for pair in pairs], [pair.caption for pair in pairs], batch_size=50, **setting
        )
        values = {
            f"{reading}, {stretching}": of_all(answers, pairs, read, stretch)
            for reading, read in READINGS.items()
            for stretching, stretch in STRETCHINGS.items()
        }
        kept(path, {"key": name, "values": values})
        print(json.dumps({name: {way: brief(one) for way, one in values.items()}}), flush=True)


def of_all(answers, pairs, read, stretch):
    """The numbers of all scenes for one way from scores to pixels."""
    measured = {metric: [] for metric in METRICS}
    for answer, pair in zip(answers, pairs, strict=True):
        pixels, mask = stretch(read(answer.grid.double())), masks(pair)[0]
        for metric, numbers in measured.items():
            numbers.append(round(on_mask(METRICS[metric], pixels, mask), 5))
    return measured


def brief(values):
    return {NAMES[metric]: round(float(np.mean(numbers)), 3) for metric, numbers in values.items()}


def table(records):
    lines = ["| metric | map | " + " | ".join(STRETCHINGS) + " |", "|---" * (len(STRETCHINGS) + 2) + "|"]
    for metric in METRICS:
        for name, record in records.items():
            for reading in READINGS:
                ways = [record["values"][f"{reading}, {stretching}"][metric] for stretching in STRETCHINGS]
                cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*interval(one)) for one in ways]
                lines.append(f"| {NAMES[metric]} | {name}, {reading} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    options = parse_arguments(__doc__)
    if options.what == "measure":
        measure(options)
        return
    measured = collect(options.out, "pixels")
    records = {name: measured[name] for name in MAPS if name in measured}
    write_tables(STUDY, {"pixels": table(records)}, f"{machine()}; {COUNT} scenes of seed {SEED}")


if __name__ == "__main__":
    main()
