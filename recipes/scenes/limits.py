"""How good can a map of so few patches be, and what comes nearer to that? NIB on the study's scenes, with remedies.

OMP_NUM_THREADS=1 python recipes/scenes/limits.py measure --out RUN    # resumes
python recipes/scenes/limits.py report --out RUN     # into docs/explanation/study

`perfect` gives each patch of each view the share of it that the object covers: no method can know more from these
views. Pointing is measured on the mask itself, within the published tolerance (15 pixels at 640, here 3 of 128), and
in the box.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from runs import FEW, SEED, collect, kept, machine, on_mask, parse_arguments, scenes, stored, write_tables

import nibt
from nibt.evaluation.statistics import interval
from nibt.methods._views import FINEST, overlaps, shifts
from nibt.metrics.localization import PointingGame
from nibt.metrics.rankings import AveragePrecision

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
NIB = {"layer": "7", "baseline": "blank", "quadrature": "gauss", "steps": 4, "views": 1, "text_steps": 1}
"""The default of images until views came; captions are not looked at."""
VIEWS = (1, 2, 3, 5, 7)
ROWS = {
    **{f"perfect, {n} view{'s' * (n > 1)}": n for n in VIEWS},
    "center": {"method": "center"},
    "as published": {"variant": "paper"},
    "layer 7, gauss 4": NIB,
    "its map stretched bicubically": {**NIB, "bicubic": True},
    "toward mean, centered": {**NIB, "baseline": "mean", "target": "centered"},
    "layers 4 to 9 averaged": {**NIB, "layer": "4,5,6,7,8,9", "steps": 2},
    "16 nodes": {**NIB, "steps": 16},
    "images enlarged to 192 x 192": {**NIB, "image_size": 192},
    **{f"NIB's default, {n} view{'s' * (n > 1)}": {"views": n, "text_steps": 1} for n in VIEWS},
}
METRICS = {
    "on the mask": (PointingGame(0.0), False),
    "within 15 / 640": (PointingGame(), False),
    "in the box": (PointingGame(0.0), True),
    "AP": (AveragePrecision(), False),
}
FEWER = (
    "layers 4 to 9 averaged",
    "16 nodes",
    "images enlarged to 192 x 192",
    "NIB's default, 5 views",
    "NIB's default, 7 views",
)
"""What costs much is measured on the first scenes."""


def named_apart(pairs):
    """The pairs, with a source of its own for each image."""
    return [replace(pair, image=replace(pair.image, source=str(place))) for place, pair in enumerate(pairs)]


def masks(pair):
    """The named object's mask and box, as masks of the image."""
    (named,) = [item for item in pair.objects if item.spans]
    box = np.zeros_like(named.mask)
    left, top, width, height = named.box
    box[top : top + height, left : left + width] = True
    return torch.from_numpy(named.mask), torch.from_numpy(box)


def perfect(pair, views):
    """The covered share of each patch of each view, as its mean over the views at each cell."""
    mask, patches = masks(pair)[0].double(), 8
    side, cells = len(mask) // patches, min(views, FINEST)
    wide, total, covered = F.pad(mask, (side,) * 4), 0, 0
    for shift in shifts(views):
        down, right = (round(step * side) for step in shift)
        seen = wide[side + down : side + down + len(mask), side + right : side + right + len(mask)]
        rows, columns = (overlaps(patches, cells, step / side) for step in (down, right))
        total = total + rows @ F.avg_pool2d(seen[None], side)[0] @ columns.T
        covered = covered + rows.sum(1)[:, None] * columns.sum(1)
    return total / covered


def maps(model, pairs, setting):
    """The grids of one row of the table."""
    if not isinstance(setting, dict):
        return [perfect(pair, setting) for pair in pairs]
    options = {key: value for key, value in setting.items() if key not in ("bicubic", "image_size")}
    if size := setting.get("image_size"):
        model = nibt.load_model(model.id, image_size=size)
    answers = nibt.explain(
        model, [pair.image for pair in pairs], [pair.caption for pair in pairs], batch_size=50, **options
    )
    grids = [answer.grid for answer in answers]
    if not setting.get("bicubic"):
        return grids
    return [F.interpolate(grid[None, None], (128, 128), mode="bicubic")[0, 0] for grid in grids]


def held(grid, pair):
    """The numbers of one map."""
    mask, box = masks(pair)
    return {name: on_mask(metric, grid, box if boxed else mask) for name, (metric, boxed) in METRICS.items()}


def measure(options):
    model, path = nibt.load_model(options.model), options.out / f"limits-{options.part}.jsonl"
    pairs, done = named_apart(scenes("one", options.count)), stored(path)
    for number, (name, setting) in enumerate(ROWS.items()):
        if name not in done and number % options.parts == options.part:
            subset = pairs[:FEW] if name in FEWER else pairs
            results = [held(grid, pair) for grid, pair in zip(maps(model, subset, setting), subset, strict=True)]
            values = {metric: [row[metric] for row in results] for metric in METRICS}
            kept(path, {"key": name, "values": values})
            print(json.dumps({name: {key: round(float(np.mean(one)), 3) for key, one in values.items()}}), flush=True)


def table(records):
    lines = ["| | " + " | ".join(METRICS) + " | scenes |", "|---" * (len(METRICS) + 2) + "|"]
    for name in ROWS:
        if name in records:
            values = records[name]["values"]
            numbers = " | ".join("{:.3f} [{:.3f}, {:.3f}]".format(*interval(values[metric])) for metric in METRICS)
            lines.append(f"| {name} | {numbers} | {len(values['AP'])} |")
    return "\n".join(lines)


def main():
    options = parse_arguments(__doc__)
    if options.what == "measure":
        measure(options)
    else:
        tables = {"limits": table(collect(options.out, "limits"))}
        write_tables(STUDY, tables, f"{machine()}; scenes of seed {SEED}")


if __name__ == "__main__":
    main()
