"""Why sums of ``amounts=removal`` are not the decreases of removal, and whether other settings mend it.

    OMP_NUM_THREADS=1 python recipes/scenes/amounts.py measure --out RUN --count 160    # seeds 501 and 502
    python recipes/scenes/amounts.py report --out RUN

As in ``removal.py``, captions name all objects, and scenes are drawn again without each. Settings differ in the margin
that is filled in around a region (in sides of the image), in the power of the scores within a region, and in the share
of its largest score below which cells get nothing. ``factor`` is that of least squares, and ``R2, factor`` the R2 with
it. The regions of nibt have the margin 1/32, the power 1 and the share 0. Choose on 501, and read 502.
"""

import pickle

import numpy as np
import torch
from removal import truth_of
from runs import parse_arguments

import nibt
from nibt.data.units import cells_of
from nibt.datasets.scenes import Scenes
from nibt.engine.batches import explain_batches
from nibt.engine.spec import Request, resolve
from nibt.engine.targets import Contrast
from nibt.methods import _amounts
from nibt.metrics.base import MetricInput
from nibt.metrics.removal import Removal, _sum
from nibt.registry import MethodSpec
from nibt.results.pixels import to_pixels

SEEDS = (501, 502)
MARGINS = (1 / 32, 1 / 16, 3 / 32)
POWERS = ((1, 0), (1.5, 0), (2, 0), (3, 0), (1, 0.3), (1, 0.5), (2, 0.3))
"""Powers and shares of the largest score."""


def measured(model, seed, count):
    """The map, its regions, what removal of each costs by margin, and the true drops, for each scene."""
    pairs = list(Scenes(count=count, seed=seed, fewest=2, most=3, named="all"))
    spec = resolve(model, Request(MethodSpec("nib", "default", {}), "cosine", Contrast.of((), (), ()), seed=0))
    scenes = []
    for batch in explain_batches(spec, pairs, 20, ["image"]):
        side, attribution = batch.sides[0], batch.attributions[0]
        grids, extent = cells_of(attribution.units).unfold(attribution.scores), side.tower.extent(side.inputs)
        labels = [_amounts.regions(pixels.double().numpy()) for pixels in to_pixels(grids.float(), *extent).cpu()]
        drops = {}
        for margin in MARGINS:
            _amounts._MARGIN = margin
            drops[margin] = _amounts._drops(side, labels)
        truths = tuple(truth_of(batch, position) for position in range(len(batch.indices)))
        effects = Removal().effects(MetricInput(side, attribution, truths))
        for position, truth in enumerate(truths):
            scenes.append(
                {
                    "grid": grids[position].double().numpy(),
                    "labels": labels[position],
                    "drops": {margin: of_margin[position] for margin, of_margin in drops.items()},
                    "true": effects[position][1],
                    "masks": [mask.numpy() for mask in truth.objects],
                }
            )
    return scenes


def scaled(grid, labels, drops, power, share):
    """The map with amounts by removal, with other weights of the cells of a region."""
    cell_labels, flat = _amounts._of_cells(labels, grid.shape).ravel(), grid.ravel()
    signs = np.sign(np.bincount(cell_labels, weights=flat, minlength=len(drops) + 1))
    signed = np.maximum(signs[cell_labels] * flat, 0)
    largest = np.zeros(len(drops) + 1)
    np.maximum.at(largest, cell_labels, signed)
    weights = np.where(signed >= share * largest[cell_labels], signed**power, 0)
    sums, totals = (np.bincount(cell_labels, weights=each, minlength=len(drops) + 1)[1:] for each in (signed, weights))
    factors = np.divide(drops, totals, out=np.zeros(len(drops)), where=totals > 0)
    outside = np.abs(drops).sum() / sums.sum() if sums.sum() else 0.0
    return np.where(cell_labels > 0, weights * np.append(0, factors)[cell_labels], flat * outside).reshape(grid.shape)


def line(scenes, margin, power, share):
    """r, R2, the factor, and R2 with it."""
    maps = [scaled(scene["grid"], scene["labels"], scene["drops"][margin], power, share) for scene in scenes]
    sums = np.array(
        [
            _sum(grid, torch.from_numpy(mask))
            for grid, scene in zip(maps, scenes, strict=True)
            for mask in scene["masks"]
        ]
    )
    drops = np.concatenate([scene["true"] for scene in scenes])
    factor, spread = (sums * drops).sum() / (sums**2).sum(), ((drops - drops.mean()) ** 2).sum()
    errors = [1 - ((drops - scale * sums) ** 2).sum() / spread for scale in (1, factor)]
    return f"{np.corrcoef(sums, drops)[0, 1]:.3f} | {errors[0]:.3f} | {factor:.3f} | {errors[1]:.3f}"


def main():
    options = parse_arguments(__doc__)
    for seed in SEEDS:
        path = options.out / f"amounts-{seed}.pickle"
        if options.what == "measure" and not path.exists():
            path.write_bytes(pickle.dumps(measured(nibt.load_model(options.model), seed, options.count)))
        if options.what == "report":
            scenes = pickle.loads(path.read_bytes())
            print(f"seed {seed} | margin | power | share | r | R2 | factor | R2, factor")
            for margin in MARGINS:
                for power, share in POWERS:
                    print(f"| {margin:.3f} | {power} | {share} | {line(scenes, margin, power, share)}")


if __name__ == "__main__":
    main()
