"""Are refined units better than as many requests with a uniform grid, or with superpixels? On unseen scenes.

    OMP_NUM_THREADS=1 python recipes/scenes/refined.py measure --out RUN --count 100    # resumes
    python recipes/scenes/refined.py report --out RUN    # into docs/explanation/study

A scene has two or three objects, one of which its caption names. Each row is a method with units of one kind, and
``requests`` is the mean number of changed images, that of refinement included: the rows of a group have about as many.
``pointing``, ``energy`` and ``AP`` are the metrics of these names, on the named object, and ``deletion`` is the mean
similarity while a tenth of the pixels after another is removed, by decreasing score per pixel: less is better.
``pointing - refined`` and so on are the paired differences of a row from the refined units of its group, with their
95 % intervals.
"""

import json
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from runs import machine, parse_arguments, stored, write_tables
from shown import STUDY

import nibt
from nibt.core.perturbation import score_of_pixels
from nibt.core.side import Side
from nibt.data.units import Segments
from nibt.datasets.scenes import SIDE, Scenes
from nibt.evaluation.statistics import interval
from nibt.metrics.localization import hit
from nibt.registry import find

UNSEEN = 67_001
"""The seed of scenes on which nothing was chosen."""
METRICS = ("pointing", "energy", "AP", "deletion")
LEVELS = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Row:
    """A method with units: ``cells`` x ``cells`` blocks, so many ``refined`` units, or superpixels."""

    group: str
    method: str
    units: str
    count: int
    budget: int | None = None

    @property
    def name(self):
        return f"{self.group}: {self.units} {self.count}"

    def method_of(self):
        options = {} if self.budget is None else {"budget": self.budget}
        if self.units == "refined":
            options["units"] = f"refined:{self.count}"
        if self.units == "segments":
            options |= {"units": "segments", "segments": self.count}
        return find("methods", self.method)(**options)

    def units_of(self, side, method):
        if self.units != "cells":
            return method.units_of(side)
        edges = np.arange(SIDE) * self.count // SIDE
        labels = torch.from_numpy(edges[:, None] * self.count + edges)[None]
        return Segments(labels, (self.count**2,))


def rows():
    """Rows of a group take about as many requests; the numbers of units were chosen so on other scenes."""
    listed = []
    for requests, cells, refined in ((16, 4, 13), (36, 6, 27), (64, 8, 45)):
        group = f"occlusion, {requests}"
        listed += [
            Row(group, "occlusion", "refined", refined),
            Row(group, "occlusion", "cells", cells),
            Row(group, "occlusion", "segments", requests),
        ]
    for requests, cells, refined, removed in ((64, (3, 4), 12, 13), (128, (4, 5), 18, 22)):
        group = f"banzhaf, {requests}"
        listed += [
            Row(group, "banzhaf", "refined", refined, requests - removed),
            *(Row(group, "banzhaf", "cells", count, requests) for count in cells),
            Row(group, "banzhaf", "segments", cells[1] ** 2, requests),
        ]
    return listed


def average_precision(scores, mask):
    order = np.argsort(-scores.ravel(), kind="stable")
    inside = mask.ravel()[order]
    return float((np.cumsum(inside) / np.arange(1, inside.size + 1))[inside].mean())


def values(model, row, pair):
    """All numbers of one scene."""
    trace = model.image.trace(model.image.prepare([pair.image]), model.image.depth)
    with torch.no_grad():
        text = model.text.encode(model.text.prepare([pair.caption]))
    passes = []

    def score(seen):
        passes.append(len(seen) if seen.ndim == 3 else 0)  # of masks
        return torch.cosine_similarity(seen, text, dim=-1)

    side = Side(model, trace, score)
    whole = float(side.value())
    method = row.method_of()
    passes.clear()
    units = row.units_of(side, method)
    found = sum(passes)
    scores = method.estimates(side, units).scores
    requests = sum(passes) if row.budget else max(found, units.count)
    grid = units.grid.unfold(units.on_grid(scores))
    pixels = F.interpolate(grid[None], (SIDE, SIDE), mode="nearest")[0, 0]
    mask = torch.from_numpy(next(obj for obj in pair.objects if obj.spans).mask)
    positive = pixels.clamp_min(0)
    return {
        "requests": requests,
        "pointing": hit(pixels, mask, 15 / 640),
        "energy": float(positive[mask].sum() / positive.sum().clamp_min(1e-12)),
        "AP": average_precision(pixels.numpy(), mask.numpy()),
        "deletion": deletion(side, pixels, whole),
    }


def deletion(side, pixels, whole):
    """Return the mean similarity over all levels; of equal scores, the first pixels go first."""
    ranks = torch.argsort(torch.argsort(-pixels.flatten(), stable=True)).view(pixels.shape)
    keep = torch.stack([ranks >= round(float(share) * ranks.numel()) for share in LEVELS[1:]]).float()
    with torch.no_grad():
        curve = [whole, *score_of_pixels(side, keep[:, None])[:, 0].tolist()]
    return float(np.trapezoid(curve, LEVELS))


def measure(options):
    torch.set_num_threads(1)
    model, path = nibt.load_model(options.model), options.out / "refined.jsonl"
    done = stored(path)
    pairs = list(Scenes(count=options.count, seed=UNSEEN, fewest=2, most=3, named="one"))
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in rows():
        if row.name in done:
            continue
        measured = [values(model, row, pair) for pair in pairs]
        record = {"key": row.name, "values": {name: [each[name] for each in measured] for name in measured[0]}}
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(row.name, {name: round(float(np.mean(of)), 3) for name, of in record["values"].items()}, flush=True)


def report(options):
    records = stored(options.out / "refined.jsonl")
    columns = [column for name in METRICS for column in (name, f"{name} - refined")]
    lines = [f"| | requests | {' | '.join(columns)} | scenes |", "|---" * (len(columns) + 3) + "|"]
    firsts = {row.group: row.name for row in rows() if row.units == "refined"}
    for row in rows():
        of_row, of_first = (records[name]["values"] for name in (row.name, firsts[row.group]))
        cells = []
        for name in METRICS:
            own, first = np.array(of_row[name]), np.array(of_first[name])
            cells.append(f"{own.mean():.3f}")
            mean, low, high = interval(own - first, (-1.0, 1.0)) if row.units != "refined" else (0, 0, 0)
            cells.append("" if row.units == "refined" else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        requests = np.mean(of_row["requests"])
        lines.append(f"| {row.name} | {requests:.1f} | {' | '.join(cells)} | {len(of_row['AP'])} |")
    table = "\n".join(lines)
    print(table)
    write_tables(STUDY, {"refined": table}, f"{machine()}; scenes of seed {UNSEEN}")


def main():
    options = parse_arguments(__doc__)
    report(options) if options.what == "report" else measure(options)


if __name__ == "__main__":
    main()
