"""How much, not only where: the sum of a map on each object against what the score loses without the object.

    OMP_NUM_THREADS=1 python recipes/scenes/removal.py measure --out RUN [--part 0/2]    # resumes
    python recipes/scenes/removal.py report --out RUN    # into docs/explanation/study

Captions name all two or three objects of a scene; scenes are drawn again without each. ``r`` and ``rho`` are the
correlations of sums and drops over all objects (Pearson, Spearman), ``slope`` that of the line of drops on sums, ``R2``
that of the identity, and ``largest`` is the metric ``removal``. Pointing and AP are those of the study: one object is
named. ``forwards`` counts the passes of the image tower.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from runs import SEED, collect, kept, machine, on_mask, parse_arguments, scenes, stored, write_tables
from scipy import stats

import nibt
from nibt.core.perturbation import masker
from nibt.datasets.scenes import Scenes
from nibt.engine.batches import explain_batches
from nibt.engine.spec import Request, resolve
from nibt.engine.targets import Contrast
from nibt.evaluation.statistics import interval
from nibt.methods._coalitions import drawn_coalitions, least_squares
from nibt.metrics.base import MetricInput
from nibt.metrics.localization import PointingGame
from nibt.metrics.rankings import AveragePrecision
from nibt.metrics.removal import Removal
from nibt.registry import MethodSpec, find
from nibt.results.attribution import Attribution

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
FASTER = {"rise": {"masks": 500}, "banzhaf": {"budget": 256}, "shapley": {"budget": 256}}
"""Where the default takes too long; what was used is said in the table."""
SLOW = ("banzhaf", "integrated_gradients", "m2ib", "mfaba", "occlusion", "rise", "shapley")
"""These have the first scenes only, as rows with a prior do."""
FEW = 30
DEPTH = 12
"""Rows with layers are for models of so many blocks."""
FILLED = "objects, filled in"
"""How well filling in stands for drawing again."""


@dataclass(frozen=True)
class Row:
    method: str
    options: dict = field(default_factory=dict)
    prior: dict | None = None  # the options of NIB whose map coalitions start from

    @property
    def name(self):
        parts = [self.method, *(f"{name}={value}" for name, value in self.options.items())]
        return " ".join(parts) + (
            "" if self.prior is None else f" with the prior {' '.join(['nib', *map(str, self.prior.values())])}"
        )

    @property
    def few(self):
        return self.method in SLOW


def rows():
    """What answers the question comes first, and then all methods."""
    removal = {"amounts": "removal"}
    chosen = [
        Row("nib"),
        Row("nib", removal),
        Row("nib", {"variant": "fast", **removal}),
        Row("nib", {"variant": "fast"}),
    ]
    chosen += [
        Row("gae", {"views": 3, **removal}),
        Row("nib", {"variant": "paper"}),
        Row("nib", {"variant": "paper", **removal}),
    ]
    chosen += [Row("nib", {"layer": layer}) for layer in ("3", "5", "5,8")] + [Row("nib", {"baseline": "mean"})]
    for method in nibt.available("methods"):
        if method not in ("nib", "fixlip") and "vectors" not in find("methods", method).needs:
            chosen.append(Row(method, FASTER.get(method, {})))
    chosen += [Row("gae", {"views": 3}), Row("grad_eclip", {"views": 3}), Row("grad_eclip", {"views": 3, **removal})]
    for budget in (32, 128):
        chosen += [Row("banzhaf", {"budget": budget}, prior) for prior in (None, {"layer": "5"}, {"layer": "8"})]
    chosen.append(Row("banzhaf", {"budget": 128, "units": "segments"}))
    return list({row.name: row for row in chosen}.values())


def effects(model, row, pairs):
    """The map, the sums on objects and the drops of each pair."""
    variant = row.options.get("variant", "default")
    options = {f"image_{name}": value for name, value in row.options.items() if name != "variant"}
    spec = resolve(model, Request(MethodSpec(row.method, variant, options), "cosine", Contrast.of((), (), ()), seed=0))
    priors = None if row.prior is None else dict(enumerate(maps(model, Row("nib", row.prior), pairs)))
    results = {}
    for batch in explain_batches(spec, pairs, 20, ["image"]):
        side, attribution = batch.sides[0], batch.attributions[0]
        if priors is not None:
            grids = torch.stack([priors[index] for index in batch.indices])
            attribution = with_prior(side, row.options["budget"], grids)
        truths = tuple(truth_of(batch, position) for position in range(len(batch.indices)))
        of_objects = Removal().effects(MetricInput(side, attribution, truths))
        for position, index in enumerate(batch.indices):
            results[index] = attribution[position].grid, *of_objects[position]
    return [results[index] for index in range(len(pairs))]


def maps(model, row, pairs):
    return [grid for grid, _, _ in effects(model, row, pairs)]


def filled_objects(model, pairs):
    """As the sums, what the score loses if each object is filled in, beside the drops of scenes drawn again."""
    plain = [replace(pair, objects=tuple(replace(obj, without=None) for obj in pair.objects)) for pair in pairs]
    both = zip(effects(model, Row("ones"), plain), effects(model, Row("ones"), pairs), strict=True)
    return [(grid, filled, drops) for (grid, _, filled), (_, _, drops) in both]


def truth_of(batch, position):
    regions, words = batch.sides[0].inputs.regions, batch.sides[1].inputs.words
    return nibt.data.ground_truth.ground_truth(batch.pairs[position], regions[position], words[position])


def with_prior(side, budget, grids, weight=4.0):
    """Banzhaf values by least squares that are drawn toward a map instead of toward zero."""
    units = side.units
    shown, weights = drawn_coalitions(units.count, budget, 0.5, 0)
    keep = torch.from_numpy(shown).float()[:, None].expand(-1, len(grids), -1)
    values = masker(side, units)(keep).double().numpy()
    fine = grids.shape[-1] // units.columns
    sums = grids.double().unflatten(-1, (-1, fine)).unflatten(-3, (-1, fine)).sum((-3, -1)).flatten(1).numpy()
    scores = [
        start + least_squares(shown.astype(float), weights, values[:, item] - shown @ start, weight)
        for item, start in enumerate(sums)
    ]
    return Attribution(torch.tensor(np.stack(scores)).float(), units.bare(), torch.zeros(len(grids)))


def cost(model, row):
    spec = MethodSpec(row.method, row.options.get("variant", "default"), {})
    options = {name: value for name, value in row.options.items() if name not in ("variant", "amounts")}
    method = find("methods", row.method).configured(model.image, spec.variant, options, model.defaults)
    return method.forwards(model.image.depth, 64)


def measure(options):
    model, path = nibt.load_model(options.model), options.out / f"removal-{options.part}.jsonl"
    done = stored(path)
    for number, row in enumerate([Row(FILLED), *rows()]):
        other_depth = model.image.depth != DEPTH and ("layer" in row.options or row.prior)
        if row.name in done or number % options.parts != options.part or other_depth:
            continue
        count = min(options.count, FEW) if row.few else options.count
        everything = list(Scenes(count=count, seed=SEED, fewest=2, most=3, named="all"))
        of_objects = filled_objects(model, everything) if row.name == FILLED else effects(model, row, everything)
        record = {
            "key": row.name,
            "sums": [np.round(sums, 6).tolist() for _, sums, _ in of_objects],
            "drops": [np.round(drops, 6).tolist() for _, _, drops in of_objects],
            **({} if row.name == FILLED else truth(model, row, scenes("one", count))),
        }
        kept(path, record)
        print(line(record), flush=True)


def truth(model, row, pairs):
    """Pointing and AP for captions with one name, and the passes of the image tower."""
    masks = [torch.from_numpy(next(obj.mask for obj in pair.objects if obj.spans)) for pair in pairs]
    grids, metrics = maps(model, row, pairs), {"pointing": PointingGame(0.0), "AP": AveragePrecision()}
    values = {
        label: [on_mask(metric, grid, mask) for grid, mask in zip(grids, masks, strict=True)]
        for label, metric in metrics.items()
    }
    passes = cost(model, row) + (0 if row.prior is None else cost(model, Row("nib", row.prior)))
    return {"values": values, "forwards": passes}


def line(record):
    """A row of the table."""
    pairs = list(zip(record["sums"], record["drops"], strict=True))
    sums, drops = (np.concatenate([np.array(pair[side]) for pair in pairs]) for side in (0, 1))
    largest = [float(np.argmax(sums) == np.argmax(drops)) for sums, drops in pairs]
    slope = np.cov(sums, drops)[0, 1] / sums.var(ddof=1) if sums.any() else np.nan
    identity = 1 - ((drops - sums) ** 2).sum() / ((drops - drops.mean()) ** 2).sum()
    r, rho = stats.pearsonr(sums, drops)[0], stats.spearmanr(sums, drops)[0]
    cells = [
        f"{r:.2f}",
        f"{rho:.2f}",
        f"{slope:.2g}",
        f"{identity:.2g}",
        "{:.2f} [{:.2f}, {:.2f}]".format(*interval(largest)),
    ]
    if "values" not in record:
        return f"| {record['key']} | {' | '.join(cells)} | | | 1 per object | {len(pairs)} |"
    cells += [f"{np.mean(record['values'][label]):.3f}" for label in ("pointing", "AP")]
    passes = f"{record['forwards']:.1f}" + (" + regions" if "amounts=removal" in record["key"] else "")
    return f"| {record['key']} | {' | '.join(cells)} | {passes} | {len(pairs)} |"


def table(records):
    head = "| | r | rho | slope | R2 | largest | pointing | AP | forwards | scenes |"
    return "\n".join(
        [head, "|---" * 10 + "|", *(line(records[row.name]) for row in [Row(FILLED), *rows()] if row.name in records)]
    )


def report(options):
    write_tables(STUDY, {"removal": table(collect(options.out, "removal"))}, f"{machine()}; scenes of seed {SEED}")


def main():
    options = parse_arguments(__doc__)
    report(options) if options.what == "report" else measure(options)


if __name__ == "__main__":
    main()
