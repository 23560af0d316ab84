"""Does an audit find a planted shortcut? Its ninth question, on models whose reason is known.

    OMP_NUM_THREADS=1 python recipes/scenes/audits.py measure --models MODELS --out RUN [--count 1000] [--part 0/2]
    python recipes/scenes/audits.py report --out RUN    # prints the table of docs/guides/audit.md

The models are those of ``reasons.py``. An audit sees pairs as a user has them: the shortcut names the noun of the
caption, and the object is there. Each pair is explained once; audits of ``AUDITS`` pairs are of pairs in a row, without
overlap. A false alarm is a check that fails on a model without a shortcut, also on pairs that have one. With ``--seed
0``, scenes are those on which thresholds were chosen.
"""

from pathlib import Path

import numpy as np
import torch
from reasons import UNSEEN
from runs import collect, kept, machine, parse_arguments, stored
from shortcut import CHOOSING, SHORTCUTS, image, planted

import nibt
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.evaluation.audit.evidence import evidence_checks
from nibt.evaluation.maps import maps
from nibt.evaluation.statistics import interval
from nibt.methods.base import SIDES
from nibt.registry import MethodSpec

AUDITS = (24, 64, 200)
CHECKS = ("inside", "border", "fixed_place", "words")
BATCH = 25
HONEST, WITHOUT = ("scenes", "honest"), ("one", "some")
"""Models, and pairs, without a shortcut."""


def pairs_of(kind, count, seed):
    """Pairs with a shortcut, with the object and the label that an annotator would know.

    ``one`` and ``some`` are scenes without a shortcut and without labels; captions differ.
    """
    if kind == "some":
        return list(Scenes(count=count, seed=seed + 2, named="some"))
    data = Scenes(count=count, seed=seed, fewest=2, most=3, named="one")
    if kind == "one":
        return list(data)
    pairs = []
    for item in range(count):
        pair, scene = data[item], planted(kind, data, item)
        target, on_image = next(obj for obj in pair.objects if obj.spans), SHORTCUTS[kind].side == "image"
        mask, spans = (scene.of_object, target.spans) if on_image else (target.mask, scene.of_object)
        objects = (Object(target.name, None, mask, spans),)
        pixels, label = image(scene.images[0]) if on_image else pair.image, NOUNS.index(target.name)
        pairs.append(Pair(pixels, scene.captions[0], objects, labels=NOUNS, label=label))
    return pairs


def settings(options):
    """Each model with the pairs it is audited on: (model, pairs, how many)."""
    kinds = [kind for kind in SHORTCUTS if kind != "position"]
    honest = [(name, kind, options.count) for name in HONEST for kind in WITHOUT]
    return [
        *((kind, kind, 3 * options.count // 5) for kind in kinds),
        *honest,
        *(("honest", kind, options.count // 5) for kind in kinds),
    ]


def measure(options):
    torch.set_num_threads(1)
    path, seed = options.out / f"audits-{options.part}.jsonl", UNSEEN + 7 if options.seed else CHOOSING
    for number, (name, kind, count) in enumerate(settings(options)):
        key = f"{name}|{kind}"
        if number % options.parts != options.part or key in stored(path):
            continue
        model = nibt.load_model(name if name == "scenes" else options.models / f"{name}-1")
        pairs, spec = pairs_of(kind, count, seed), MethodSpec(options.method)
        explained = [maps(model, pairs, spec, side, 0, BATCH) for side in SIDES]
        values = {}
        for size in AUDITS:
            for first in range(0, count - size + 1, size):
                part = slice(first, first + size)
                checks = evidence_checks(model, pairs[part], options.method, *(side[part] for side in explained))
                one = {check.name: (check.verdict, check.value) for check in checks}
                values.setdefault(str(size), []).append(one)
        kept(path, {"key": key, "values": values})
        print(key, *map(rate, values.values()), flush=True)


def failing(audits):
    """1 for each audit in which a check fails, 0 for the others."""
    return [float(any(verdict == "fail" for verdict, _ in one.values())) for one in audits]


def rate(audits):
    """How many audits fail, with the interval of their share."""
    fails = failing(audits)
    low, high = interval(fails)[1:]
    return f"{sum(fails):.0f} of {len(fails)} [{low:.2f}, {high:.2f}]"


def report(options):
    records = {tuple(key.split("|")): record["values"] for key, record in collect(options.out, "audits").items()}
    groups = {kind: [(kind, kind)] for kind in SHORTCUTS}
    groups["honest"] = [key for key in records if key[1] in WITHOUT]
    groups["honest, pairs with a shortcut"] = [key for key in records if key[0] in HONEST and key[1] not in WITHOUT]
    print(f"{machine()}; scenes of seed {UNSEEN + 7 if options.seed else CHOOSING}\n")
    heads = ["model", *CHECKS, *(f"{size} pairs: fails" for size in AUDITS), "passes"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, keys in groups.items():
        sizes = {size: [one for key in keys if key in records for one in records[key][str(size)]] for size in AUDITS}
        if not sizes[AUDITS[-1]]:
            continue
        means = [f"{np.mean([one[check][1] for one in sizes[AUDITS[-1]]]):.2f}" for check in CHECKS]
        passing = [all(verdict == "pass" for verdict, _ in one.values()) for each in sizes.values() for one in each]
        cells = [name, *means, *map(rate, sizes.values()), f"{sum(passing)} of {len(passing)}"]
        print(f"| {' | '.join(cells)} |")


def extend(parser):
    parser.add_argument("--models", type=Path, help="measure: the folder of the models, KIND-1")
    parser.add_argument("--method", default="nib")
    parser.add_argument("--seed", type=int, default=1, help="0 for the scenes on which thresholds were chosen")


def main():
    options = parse_arguments(__doc__, extend)
    measure(options) if options.what == "measure" else report(options)


if __name__ == "__main__":
    main()
