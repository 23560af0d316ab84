"""Does an audit find a planted shortcut? Its ninth question, on models whose reason is known.

    OMP_NUM_THREADS=1 python recipes/scenes/audits.py measure --models MODELS --out RUN [--count 1000] [--part 0/2]
    python recipes/scenes/audits.py report --out RUN    # prints the table of docs/explanation/study_audit.md
    python recipes/scenes/audits.py measure --against --models MODELS --out RUN --count 200    # and report --against

The models are those of ``reasons.py``; ``half`` ones use the object, too. An audit sees pairs as a user has them: the
shortcut names the noun of the caption, and the object is there. Each pair is explained once; audits of ``AUDITS`` pairs
are of pairs in a row, without overlap. A false alarm is a check that fails on a model without a shortcut, also on pairs
that have one, and on ``DECORATIONS``: images with something that says nothing of the noun. With ``--without``, pairs
have no masks and no words that name objects. With ``--seed 0``, scenes are those on which thresholds were chosen. With
``--against``, models are compared with ``scenes`` on pairs with and without their shortcut. If maps of both models are
exchanged at random, nothing may have moved.
"""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from reasons import UNSEEN
from runs import collect, kept, machine, parse_arguments, stored
from shortcut import CHOOSING, COLORS, SHORTCUTS, image, mixed, planted

import nibt
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.evaluation.audit.against import compared
from nibt.evaluation.audit.evidence import Evidence, _labels, fixed_place, positive_shares, truths_of
from nibt.evaluation.audit.exchange import exchange_beside_objects, exchange_of_words
from nibt.evaluation.audit.runner import AuditRunner, donors
from nibt.evaluation.maps import maps
from nibt.evaluation.statistics import interval, paired_test
from nibt.methods.base import SIDES
from nibt.records import plain_data
from nibt.registry import MethodSpec

AUDITS = (24, 64, 200)
CHECKS = ("inside", "typography", "border", "fixed_place", "exchange", "words", "exchange_words")
BATCH = 25
HONEST, WITHOUT = ("scenes", "honest", "honest-2", "honest-3"), ("one", "some")
"""Models, and pairs, without a shortcut."""


def framed(pixels, mask, draws):
    """A frame of a random color."""
    for edge in (np.s_[:7], np.s_[-7:], np.s_[:, :7], np.s_[:, -7:]):
        pixels[edge] = COLORS[draws.integers(len(COLORS))]
    return pixels, mask


def with_logo(pixels, mask, draws):
    """A half-transparent disc of a random color at a random place."""
    rows, columns = np.ogrid[:128, :128]
    top, left = draws.integers(16, 112, 2)
    disc = (rows - top) ** 2 + (columns - left) ** 2 < 144
    pixels[disc] = (pixels[disc].astype(int) + COLORS[draws.integers(len(COLORS))]) // 2
    return pixels, mask


def printed(pixels, mask, draws):
    """A random noun printed on the object."""
    canvas = Image.fromarray(pixels)
    rows, columns = np.nonzero(mask)
    middle = int(columns.mean()), int(rows.mean())
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    noun = str(draws.choice(NOUNS))
    half = draw.textlength(noun, font) / 2 + 2
    draw.rectangle((middle[0] - half, middle[1] - 8, middle[0] + half, middle[1] + 8), "white")
    draw.text(middle, noun, "black", font, anchor="mm")
    return np.array(canvas), mask


def placed(pixels, mask, draws):
    """The object at the same place in all images."""
    rows, columns = np.nonzero(mask)
    shift = 40 - int(rows.mean()), 40 - int(columns.mean())
    return np.roll(pixels, shift, (0, 1)), np.roll(mask, shift, (0, 1))


DECORATIONS = {"framed": framed, "logo": with_logo, "printed": printed, "placed": placed}


def decorated(kind, data, item):
    """A pair with something in the image that says nothing of the noun."""
    pair = data[item]
    target = next(obj for obj in pair.objects if obj.spans)
    draws = np.random.default_rng((2, item))
    pixels, mask = DECORATIONS[kind](np.array(pair.image.pil_image), target.mask, draws)
    objects = (Object(target.name, None, mask, target.spans),)
    return Pair(image(pixels), pair.caption, objects, labels=NOUNS, label=NOUNS.index(target.name))


def pairs_of(kind, count, seed):
    """Pairs with a shortcut, with the object and the label that an annotator would know.

    ``one`` and ``some`` are scenes without a shortcut and without labels; captions differ.
    """
    if kind == "some":
        return list(Scenes(count=count, seed=seed + 2, named="some"))
    data = Scenes(count=count, seed=seed, fewest=2, most=3, named="one")
    if kind == "one":
        return list(data)
    if kind in DECORATIONS:
        return [decorated(kind, data, item) for item in range(count)]
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
        *((f"half {kind}", kind, 3 * options.count // 5) for kind in kinds),
        *honest,
        *((name, kind, options.count // 5) for name in HONEST[1:] for kind in kinds),
        *((name, kind, options.count // 2) for name in HONEST for kind in DECORATIONS),
    ]


def folder_of(options, name):
    """The folder of a model; None for ``scenes``."""
    if name == "scenes":
        return None
    kind = name.removeprefix("half ")
    return options.models / (kind if "-" in kind else f"{kind}-1")


def seed_of(options):
    return UNSEEN + 7 if options.seed else CHOOSING


def measure(options):
    torch.set_num_threads(1)
    path, seed = options.out / f"audits-{options.part}.jsonl", seed_of(options)
    for number, (name, kind, count) in enumerate(settings(options)):
        key = f"{name}|{kind}"
        folder = folder_of(options, name)
        if folder is not None and not (folder / "model.safetensors").exists():
            continue
        if number % options.parts != options.part or key in stored(path):
            continue
        model = mixed(folder, 0.5) if name.startswith("half ") else nibt.load_model(folder or "scenes")
        pairs, spec = pairs_of(kind, count, seed), MethodSpec.parse(options.method)
        if options.without:
            pairs = [replace(pair, objects=()) for pair in pairs]
        explained = [maps(model, pairs, spec, side, 0, BATCH) for side in SIDES]
        values = {}
        for size in AUDITS:
            for first in range(0, count - size + 1, size):
                part = slice(first, first + size)
                images, texts = (side[part] for side in explained)
                truths = truths_of(model, pairs[part], images)
                evidence = Evidence.of(model, pairs[part], images, texts, truths)
                exchanges = {
                    "image": exchange_beside_objects(model, pairs[part], donors(pairs[part]), images, truths),
                    "text": exchange_of_words(model, pairs[part]),
                }
                of_model = [each.check_values(side).check() for side, each in exchanges.items()]
                checks = [*evidence.checks(options.method, exchanges), *filter(None, of_model)]
                one = {check.name: (check.verdict, check.value) for check in checks}
                values.setdefault(str(size), []).append(one)
        kept(path, {"key": key, "values": values})
        print(key, *map(rate, values.values()), flush=True)


COMPARED = {"one": ("honest", "mark", "text", "background"), "mark": ("mark", "honest")}
COMPARED |= {"text": ("text",), "background": ("background",)}
"""Models that are compared with ``scenes``, by the shortcut of the pairs."""
FEW, EXCHANGES = 64, 500


def sliced(runner, first, last):
    """A copy of a runner that has some of the pairs."""
    new, part = copy.copy(runner), slice(first, last)
    new.pairs, new.unchanged = runner.pairs[part], {key: each[part] for key, each in runner.unchanged.items()}
    new.reworded = {key: each[part] for key, each in runner.reworded.items()}
    images = new.unchanged[str(runner.methods[0]), "image"]
    new.exchanges = {
        "image": exchange_beside_objects(
            runner.model, new.pairs, donors(new.pairs), images, truths_of(runner.model, new.pairs, images)
        ),
        "text": exchange_of_words(runner.model, new.pairs),
    }
    new.evidence = {
        method: Evidence.of(runner.model, new.pairs, *(new.unchanged[method, side] for side in SIDES))
        for method in runner.evidence
    }
    return new


def ran(source, pairs, method):
    """The maps of a model, and those for two wordings of the first pairs."""
    runner = AuditRunner(nibt.load_model(source), pairs, [MethodSpec(method)], 0, BATCH)
    few = sliced(runner, 0, FEW)
    list(few.wording(2))
    missing = np.full(len(pairs) - FEW, np.nan)
    runner.reworded = {key: np.concatenate([each, missing]) for key, each in few.reworded.items()}
    return runner


def alarms(runners, method, draws):
    """How often the fixed place moves if the maps of both models are exchanged in half of the pairs."""
    labels, grids = (
        _labels(runners[0].pairs),
        [[positive_shares(one.scores) for one in each.unchanged[method, "image"]] for each in runners],
    )
    count = 0
    for _ in range(EXCHANGES):
        swap = draws.integers(2, size=FEW)
        mixed = [[grids[which ^ of][item] for item, of in enumerate(swap)] for which in (0, 1)]
        count += paired_test(*(fixed_place(each, labels)[0] for each in mixed)) < 0.05
    return count


def measure_against(options):
    torch.set_num_threads(1)
    path, draws = options.out / f"against-{options.part}.jsonl", np.random.default_rng(0)
    for kind, names in COMPARED.items():
        missing = [name for name in names if f"{name}|{kind}" not in stored(path)]
        pairs = pairs_of(kind, options.count, seed_of(options)) if missing else []
        scenes = missing and ran("scenes", pairs, options.method)
        for name in missing:
            runners, values = (ran(options.models / f"{name}-1", pairs, options.method), scenes), {}
            for size in (FEW, options.count):
                for first in range(0, options.count - size + 1, size):
                    parts = [sliced(runner, first, first + size) for runner in runners]
                    values.setdefault(str(size), []).append([plain_data(row) for row in compared(parts)[0]])
            few = [sliced(runner, 0, FEW) for runner in runners]
            kept(path, {"key": f"{name}|{kind}", "values": values, "alarms": alarms(few, options.method, draws)})
            print(name, kind, flush=True)


def report_against(options):
    print(f"{machine()}; scenes of seed {seed_of(options)}\n")
    records = collect(options.out, "against")
    of_images = ["maps image", "inside image", "border image", "fixed_place image", "exchange image"]
    names = [*of_images, "maps text", "words text", "exchange_words text", "similarity"]
    print(f"| model | pairs | {' | '.join(names)} | 64 pairs: moved |\n|{'---|' * (len(names) + 3)}")
    for key, record in records.items():
        most = max(record["values"], key=int)
        rows = {f"{row['name']} {row['side']}".strip(): row for row in record["values"][most][0]}
        cells = [
            f"{rows[name]['difference']:+.2f} [{rows[name]['low']:+.2f}, {rows[name]['high']:+.2f}]"
            f"{' *' * (rows[name]['p_holm'] < 0.05)}"
            for name in names
        ]
        few = [row for rows in record["values"][str(FEW)][:1] for row in rows if row["p_holm"] < 0.05]
        counts = Counter(f"{row['name']} {row['side']}".strip() for row in few)
        moved = ", ".join(f"{name} {counts[name]}" for name in names if counts[name])
        print(f"| {' | '.join([*key.split('|'), *cells, moved])} |")
    print("fixed place, exchanged:", [record["alarms"] / EXCHANGES for record in records.values()])


def failing(audits):
    """1 for each audit in which a check fails, 0 for the others."""
    return [float(any(verdict == "fail" for verdict, _ in one.values())) for one in audits]


def rate(audits):
    """How many audits fail, with the interval of their share."""
    fails = failing(audits)
    if not fails:
        return ""
    low, high = interval(fails)[1:]
    ends = f" [{low:.2f}, {high:.2f}]" if len(fails) > 1 else ""
    return f"{sum(fails):.0f} of {len(fails)}{ends}"


def report(options):
    records = {tuple(key.split("|")): record["values"] for key, record in collect(options.out, "audits").items()}
    groups = {name: [(name, kind)] for kind in SHORTCUTS for name in (kind, f"half {kind}")}
    groups["honest"] = [key for key in records if key[1] in WITHOUT]
    groups["honest, pairs with a shortcut"] = [key for key in records if key[0] in HONEST and key[1] in SHORTCUTS]
    groups |= {
        f"honest, {kind}": [key for key in records if key[0] in HONEST and key[1] == kind] for kind in DECORATIONS
    }
    print(f"{machine()}; scenes of seed {seed_of(options)}\n")
    heads = ["model", *CHECKS, *(f"{size} pairs: fails" for size in AUDITS), "passes", "cannot tell"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, keys in groups.items():
        sizes = {
            size: [one for key in keys if key in records for one in records[key].get(str(size), [])] for size in AUDITS
        }
        if not any(sizes.values()):
            continue
        largest = next(sizes[size] for size in reversed(AUDITS) if sizes[size])
        values = [[one[check][1] for one in largest if check in one] for check in CHECKS]
        means = [f"{np.mean(each):.2f}" if each else "" for each in values]
        verdicts = [{verdict for verdict, _ in one.values()} for each in sizes.values() for one in each]
        passing = sum(each <= {"pass", "no verdict"} for each in verdicts)
        untold = sum("cannot tell" in each and "fail" not in each for each in verdicts)
        counts = [f"{count} of {len(verdicts)}" for count in (passing, untold)]
        cells = [name, *means, *map(rate, sizes.values()), *counts]
        print(f"| {' | '.join(cells)} |")


def extend(parser):
    parser.add_argument("--models", type=Path, help="measure: the folder of the models, KIND-1")
    parser.add_argument("--method", default="nib")
    parser.add_argument("--without", action="store_true", help="without masks and words that name objects")
    parser.add_argument("--against", action="store_true", help="compare models with scenes")
    parser.add_argument("--seed", type=int, default=1, help="0 for the scenes on which thresholds were chosen")


def main():
    options = parse_arguments(__doc__, extend)
    both = (measure_against, report_against) if options.against else (measure, report)
    both[options.what == "report"](options)


if __name__ == "__main__":
    main()
