"""Why does one image match a caption better than another? The truth on scenes that differ in one object.

    OMP_NUM_THREADS=1 python recipes/scenes/differences.py measure --out RUN --count 500 [--instead] [--seed 555]
    python recipes/scenes/differences.py report --out RUN [--instead]    # into docs/explanation/study

A scene with two or three objects, all of which its caption names, is compared with the same scene without one of them
(``nibt.explain(..., against_images=...)``), or with ``--instead`` with another object in its place. The difference is
read place by place: the map of the one minus that of the other, or for ``from the other image`` the map of a path from
the other image's states. ``pointing`` and ``AP`` are on the mask of the object, ``inside`` is the share of positive
scores in cells that touch it, ``words`` is the AUC of its noun among all words, and ``gap`` is the median of what the
sum misses of the difference of the similarities, relative to that. ``equal`` is the largest score if one pixel differs
by one level, as a share of that of one map.
Slow methods have a fifth of the scenes.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from runs import cells, collect, machine, measure_rows, on_mask, parse_arguments, write_tables
from shown import ROWS as SHOWN
from shown import SLOW, STUDY
from sklearn.metrics import roc_auc_score

import nibt
from nibt.data.units import WordScore
from nibt.datasets._draws import Draws
from nibt.datasets.scenes import SIDE, Scenes, _painted
from nibt.datasets.scenes.drawing import CODES, NOUNS, STYLES, sprite
from nibt.metrics.localization import PointingGame
from nibt.metrics.rankings import AveragePrecision

_STREAM = 11  # of the draws for another object, apart from those of the data set
UNSEEN = 20261130
"""The seed of scenes on which nothing was chosen."""
VISIBLE = 100  # pixels of an object that others leave to see
PEERS = ("gae", "gae, 3 views", "legrad", "grad_eclip", "grad_cam", "clip_surgery", "integrated_gradients", "occlusion")
TABLE = "table, layer 11, 10 steps"  # the setting of exCLIP's program
ROWS = {
    "nib": SHOWN["nib"],
    "nib, 3 views": ("nib", {"views": 3}),
    "nib, from the other image": ("nib", {"baseline": "against"}),
    **{name: SHOWN[name] for name in ("nib:paper", *PEERS)},
    TABLE: ("table", {"layer": 11, "steps": 10, "quadrature": "riemann", "views": 1, "distribute": False}),
    "random": ("random", {}),
}


def pairs(count, instead=False, seed=UNSEEN):
    """Scenes, each with the one object that the other image lacks, and the other image."""
    data, selected, item = Scenes(count=10 * count, seed=seed, fewest=2, most=3, named="all"), [], 0
    while len(selected) < count:
        pair = data[item]
        obj = pair.objects[item % len(pair.objects)]
        if obj.mask.sum() >= VISIBLE:
            without = np.array(obj.without().pil_image.convert("RGB"))
            selected.append(
                (pair, obj, with_another(without, pair, obj, Draws(seed, item, _STREAM)) if instead else without)
            )
        item += 1
    return selected


def with_another(pixels, pair, obj, draws):
    """The image with an object that the scene does not have in the place of one of its objects."""
    name = draws.one_of([noun for noun in NOUNS if noun not in {each.name for each in pair.objects}])
    left, top, across, down = obj.box
    size = min(max(across, down), SIDE - left, SIDE - top)
    _painted(pixels, sprite(draws.one_of(CODES[name]), draws.one_of(STYLES), size, 0), left, top)
    return pixels


def read(model, method, options, image, caption, second):
    """The explanation, and the map of the difference."""
    if method == "table":
        return subtracted(*(nibt.regions(model, each, caption, **options) for each in (image, second)))
    named = {f"image_{name}": value for name, value in options.items()}
    answer = nibt.explain(model, image, caption, method, against_images=second, **named)
    return answer, answer.grid - answer.against.grid if "against" in answer.sides else answer.grid


def subtracted(first, second):
    """The difference of two word-region tables: as an explanation, and as a map."""
    table, target = first.table - second.table, {"value": first.similarity - second.similarity}
    rows = zip(first.words, table, strict=True)
    words = [WordScore(word.text, float(scores.sum()), word.tokens) for word, scores in rows]
    return SimpleNamespace(grid=first.table.sum(0), words=words, target=target, sides=()), table.sum(0)


def values(model, method, options, pair, obj, second):
    """All numbers of one scene."""
    answer, grid = read(model, method, options, pair.image, pair.caption, second)
    mask, difference = torch.from_numpy(obj.mask), answer.target["value"]
    edges = np.linspace(0, SIDE, len(grid) + 1)
    low, high = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    spans = [slice(*span) for span in zip(low, high, strict=True)]
    touched = torch.tensor([[bool(mask[down, across].any()) for across in spans] for down in spans])
    positive = grid.clamp_min(0)
    nouns = [word.text in obj.name.split() for word in answer.words]
    pixels = second.copy()
    pixels[0, 0, 0] ^= 1  # nearly the same image, which would be refused if it were the same
    _, equal = read(model, method, options, second, pair.caption, pixels)
    return {
        "pointing": on_mask(PointingGame(0.0), grid, mask),
        "AP": on_mask(AveragePrecision(), grid, mask),
        "inside": float(positive[touched].sum() / positive.sum().clamp_min(1e-12)),
        "words": float(roc_auc_score(nouns, [word.score for word in answer.words])),
        "gap": float((grid.sum() - difference).abs() / abs(difference)),
        "equal": float(equal.abs().max() / answer.grid.abs().max().clamp_min(1e-12)),
    }


def measure(options):
    model, path = nibt.load_model(options.model), options.out / f"differences-{options.part}.jsonl"
    scenes, part = pairs(options.count, options.instead, options.seed), (options.part, options.parts)
    measure_rows(path, ROWS, SLOW, scenes, partial(values, model), line, part)


def line(name, record, first):
    """A row of the table: means with intervals, and a star where the paired test finds a difference from ``nib``."""
    texts = cells(record["values"], first["values"], ("pointing", "AP", "inside", "words"), name == "nib")
    adds_up = name.startswith("nib") or name in SLOW
    texts.append(f"{np.median(record['values']['gap']):.3f}" if adds_up else "-")
    texts.append(f"{np.max(record['values']['equal']):.1g}")
    return f"| {name} | {' | '.join(texts)} | {len(record['values']['AP'])} |"


def report(options):
    records = collect(options.out, "differences")
    head = "| | pointing | AP | inside | words | gap | equal | scenes |"
    lines = [line(name, records[name], records["nib"]) for name in ROWS if name in records]
    print("\n".join([head, "|---" * 8 + "|", *lines]))
    note, name = (
        f"{machine()}; scenes of seed {options.seed}",
        "differences-instead" if options.instead else "differences",
    )
    write_tables(STUDY, {name: "\n".join([head, "|---" * 8 + "|", *lines])}, note)


def main():
    about = "another object is in the place of the one that is absent"

    def extend(parser):
        parser.add_argument("--instead", action="store_true", help=about)
        parser.add_argument("--seed", type=int, default=UNSEEN, help="of the scenes; settings are chosen on 555")

    options = parse_arguments(__doc__, extend)
    report(options) if options.what == "report" else measure(options)


if __name__ == "__main__":
    main()
