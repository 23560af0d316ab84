"""What a user sees: does the map add up, point, match removal, and show a shortcut? NIB and peers on unseen scenes.

    OMP_NUM_THREADS=1 python recipes/scenes/shortcut.py train --kind mark --steps 220 --out MODEL
    OMP_NUM_THREADS=1 python recipes/scenes/shown.py measure --out RUN --shortcut MODEL [--part 0/2] --count 500
    python recipes/scenes/shown.py report --out RUN    # into docs/explanation/study
    python recipes/scenes/shown.py measure --out RUN2 --model FOLDER2 --count 500    # the second model
    python recipes/scenes/shown.py report --out RUN2 --second

All is measured through ``nibt.explain``. ``gap`` is the difference between the sum of the map and the change of the
similarity from the blank image to the image that is shown, relative to that change: its median and 90th percentile.
``pointing`` and ``AP`` are on the mask of the named object, and ``agreeing`` is where the mean change over the views is
within 5 % of the change. ``r`` is the correlation of sums over objects with what the similarity loses without the
object, on 200 scenes. ``mark`` is the share of the positive evidence on the shortcut and the object that is on the
shortcut, for the model that reads it and for ``scenes``, which does not, and ``AUC`` tells the models apart by one map.
Slow methods have a fifth of all scenes.
"""

from pathlib import Path

import numpy as np
import torch
from removal import Row, effects
from runs import collect, kept, machine, on_mask, paired_test, parse_arguments, stored, write_tables
from scipy import stats
from shortcut import MASK, evidence_share, image, marked, used_share

import nibt
from nibt.datasets.scenes import SIDE, Scenes
from nibt.evaluation.statistics import interval
from nibt.methods._views import shifts
from nibt.metrics.localization import PointingGame
from nibt.metrics.rankings import AveragePrecision
from nibt.registry import find
from nibt.results.pixels import to_pixels

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
UNSEEN = 20261129
"""The seed of scenes on which nothing was chosen."""
BATCH, OBJECTS, MARKED = 50, 200, 200
SLOW = ("integrated_gradients", "occlusion")
"""These have a fifth of the scenes."""
ROWS = {
    "nib": ("nib", {}),
    "nib, 1 view": ("nib", {"views": 1}),
    "nib, 5 views": ("nib", {"views": 5}),
    "nib:fast": ("nib:fast", {}),
    "nib, not distributed": ("nib", {"distribute": False, "steps": 3}),
    "nib, 3 views, 4 steps": ("nib", {"views": 3, "steps": 4}),
    "nib:paper": ("nib:paper", {}),
    "gae": ("gae", {}),
    "gae, 3 views": ("gae", {"views": 3}),
    "legrad": ("legrad", {}),
    "grad_eclip": ("grad_eclip", {}),
    "grad_cam": ("grad_cam", {}),
    "clip_surgery": ("clip_surgery", {}),
    "integrated_gradients": ("integrated_gradients", {}),
    "occlusion": ("occlusion", {}),
}


def maps(model, method, options, images, captions):
    """The maps and the paths of pairs, in batches."""
    named = {f"image_{name}": value for name, value in options.items()}
    fast_words = (
        {} if method in ("gae", "legrad", "grad_eclip", "grad_cam", "clip_surgery", "occlusion") else {"text_steps": 1}
    )
    results = nibt.explain(model, images, captions, method, batch_size=BATCH, **named, **fast_words)
    return [(result.grid, result.image.path) for result in results]


def changes(model, images, captions):
    """The change of the similarity from the blank image, and by how much its mean over three views differs from it."""
    tower, side = model.image, model.image.patch
    moves = [(round(side * down), round(side * right)) for down, right in shifts(3)]
    blank, values = tower.encode(tower.blank_inputs(tower.prepare(images[:1]))), []
    for pair_image, caption in zip(images, captions, strict=True):
        seen = tower.encode(tower.shifted(tower.prepare([pair_image]), moves))
        text = model.text.encode(model.text.prepare([caption]))
        of_views = model.similarity(seen, text.expand(3, -1)) - model.similarity(blank, text)
        values.append((float(of_views[0]), float((of_views.mean() - of_views[0]).abs() / of_views[0].abs())))
    return np.array(values).T


def evidence(grids, masks):
    """The share of the positive evidence on the squares and the object that is on the squares."""
    shares = []
    for grid, mask in zip(grids, masks, strict=True):
        pixels = to_pixels(grid[None], *MASK.shape)[0].numpy()
        shares.append(evidence_share(pixels, mask & ~MASK, MASK))
    return shares


def measured(row, models, data):
    """The numbers of one row, scene by scene."""
    (method, options), (honest, *shortcuts) = ROWS[row], models
    few = 5 if row in SLOW else 1
    pairs, (change, disagreement) = data["pairs"][: len(data["pairs"]) // few], data["changes"]
    masks = [next(obj.mask for obj in pair.objects if obj.spans) for pair in pairs]
    images, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    results = maps(honest, method, options, images, captions)
    signed = results[0][1] is not None
    shown = zip(results, change[: len(pairs)], strict=True)
    gaps = [abs(float(grid.sum()) - of_pair) / abs(of_pair) for (grid, _), of_pair in shown]
    truth = {
        name: [on_mask(metric, grid, torch.from_numpy(mask)) for (grid, _), mask in zip(results, masks, strict=True)]
        for name, metric in (("pointing", PointingGame(0.0)), ("AP", AveragePrecision()))
    }
    name, _, variant = method.partition(":")
    everything = list(Scenes(count=OBJECTS // few, seed=UNSEEN + 2, fewest=2, most=3, named="all"))
    of_objects = effects(honest, Row(name, {**options, **({"variant": variant} if variant else {})}), everything)
    sums, drops = (np.concatenate([np.array(each[place]) for each in of_objects]) for place in (1, 2))
    return {
        **truth,
        **(on_marks(method, options, honest, *shortcuts, MARKED // few) if shortcuts else {}),
        "gap": gaps if signed else [],
        "disagreement": disagreement[: len(pairs)].tolist(),
        "r": [float(stats.pearsonr(sums, drops)[0])],
        "forwards": [forwards(row, honest)],
    }


def on_marks(method, options, honest, shortcut, count):
    """The shares of the evidence on the squares, for both models, and the share that the second one uses."""
    scenes = Scenes(count=count, seed=UNSEEN + 1, fewest=2, most=3, named="one")
    squares = [(pair, next(obj for obj in pair.objects if obj.spans)) for pair in scenes]
    marks = [image(marked(scenes.scene(item).pixels, obj.name)) for item, (_, obj) in enumerate(squares)]
    return {
        name: evidence(
            [grid for grid, _ in maps(model, method, options, marks, [pair.caption for pair, _ in squares])],
            [obj.mask for _, obj in squares],
        )
        for name, model in (("mark", shortcut), ("honest", honest))
    } | {"used": [float(used_share(shortcut, Scenes(count=60, seed=UNSEEN + 1, fewest=2, most=3, named="one")))]}


def measure(options):
    path = options.out / f"shown-{options.part}.jsonl"
    models = [nibt.load_model(name) for name in (options.model, options.shortcut) if name]
    done, pairs = stored(path), list(Scenes(count=options.count, seed=UNSEEN, fewest=2, most=3, named="one"))
    data = {"pairs": pairs}
    data["changes"] = changes(models[0], [pair.image for pair in pairs], [pair.caption for pair in pairs])
    for number, row in enumerate(ROWS):
        if row not in done and number % options.parts == options.part:
            kept(path, {"key": row, "values": measured(row, models, data)})
            print(line(row, stored(path)), flush=True)


def line(row, records):
    values, nib = records[row]["values"], records.get("nib", records[row])["values"]
    cells = []
    for quantile in (0.5, 0.9):
        draws = np.random.default_rng(0).integers(0, max(1, len(values["gap"])), (1000, max(1, len(values["gap"]))))
        if values["gap"]:
            low, high = np.quantile(np.quantile(np.array(values["gap"])[draws], quantile, axis=1), [0.025, 0.975])
            cells.append(f"{np.quantile(values['gap'], quantile):.3f} [{low:.3f}, {high:.3f}]")
        else:
            cells.append("")
    for name in ("pointing", "AP"):
        cells.append(f"{np.mean(values[name]):.3f} (p {paired_test(values[name], nib[name]):.2g})")
    agreeing = np.array(values["disagreement"]) <= 0.05
    cells += [f"{np.array(values['pointing'])[agreeing].mean():.3f}", f"{np.array(values['AP'])[agreeing].mean():.3f}"]
    cells.append(f"{values['r'][0]:.3f}")
    if "mark" in values:
        auc = np.mean(np.array(values["mark"])[:, None] > np.array(values["honest"]))
        cells += ["{:.3f} [{:.3f}, {:.3f}]".format(*interval(values[name])) for name in ("mark", "honest")]
        cells.append(f"{auc:.3f}")
    cost = values["forwards"][0] if "forwards" in values else forwards(row, nibt.load_model("scenes"))
    return f"| {row} | {' | '.join([*cells, f'{cost:.4g}', str(len(values['AP']))])} |"


def forwards(row, model):
    """The cost in forward passes of the tower of images."""
    (text, options), tower = ROWS[row], model.image
    name, _, variant = text.partition(":")
    method = find("methods", name).configured(tower, variant or "default", options, {})
    return method.forwards(tower.depth, (SIDE // tower.patch) ** 2)


def table(records):
    heads = [
        "",
        "median gap",
        "90th gap",
        "pointing",
        "AP",
        "pointing, agreeing",
        "AP, agreeing",
        "r",
        *(("mark", "honest", "AUC") if "mark" in next(iter(records.values()))["values"] else ()),
        "forwards",
        "scenes",
    ]
    return "\n".join(
        [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(line(row, records) for row in ROWS if row in records)]
    )


def main():
    def extend(parser):
        parser.add_argument("--shortcut", help="measure: the folder of a model that reads the squares")
        parser.add_argument("--second", action="store_true", help="report: the run is of the second model")

    options = parse_arguments(__doc__, extend)
    if options.what == "measure":
        measure(options)
        return
    records = collect(options.out, "shown")
    print(table(records))
    used = next(iter(records.values()))["values"].get("used")
    note = f"{machine()}; scenes of seed {UNSEEN}" + (f"; used share {used[0]:.2f}" if used else "")
    write_tables(STUDY, {"shown-second" if options.second else "shown": table(records)}, note)


if __name__ == "__main__":
    main()
