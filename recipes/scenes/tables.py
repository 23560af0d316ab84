"""The study of word-region tables: which method for which question, at which budget?

    OMP_NUM_THREADS=1 python recipes/scenes/tables.py measure --out RUN          # resumes; hours
    python recipes/scenes/tables.py report --out RUN

Scenes of two or three objects, all named, of a seed of their own. Each table is held against the objects (right
object, energy, mass) and against the model (insertion, deletion, faithfulness on held-out coalitions). In scenes with a
wrong noun, the row of the absent noun ought to be negative. Expensive methods explain the first scenes only.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from runs import SEED, collect, kept, machine, paired_test, parse_arguments, stored, write_tables

import nibt
from nibt.data.ground_truth import word_spans
from nibt.datasets.scenes import Scenes
from nibt.engine.batches import trace_sides
from nibt.engine.regions import explain_pair, resolve_regions
from nibt.evaluation.context import nouns_of
from nibt.evaluation.statistics import interval
from nibt.metrics._perturbation import embeddings_of_patches, embeddings_of_words
from nibt.metrics.base import RegionsInput
from nibt.metrics.coalitions import AdditiveShare, TableFaithfulness
from nibt.metrics.localization import NounEnergy, NounMass, NounPointing
from nibt.metrics.region_curves import PairCurve, PairDeletion, PairInsertion
from nibt.registry import MethodSpec

HELD_OUT = {0.3: 32, 0.5: 64, 0.7: 32}
"""The probabilities with which units are kept, and the held-out coalitions of each side."""
METRICS = {
    "pointing": NounPointing(),
    "energy": NounEnergy(),
    "elsewhere": NounEnergy("others"),
    "mass": NounMass(),
    "insertion": PairInsertion(),
    "deletion": PairDeletion(),
    **{f"R2 {share}": TableFaithfulness(count, share) for share, count in HELD_OUT.items()},
    **{f"rank {share}": TableFaithfulness(count, share, measure="spearman") for share, count in HELD_OUT.items()},
    **{f"additive {share}": AdditiveShare(count, share) for share, count in HELD_OUT.items()},
}
ABSENT = "absent"
STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study_regions"


@dataclass(frozen=True)
class Setting:
    """A method with its options, the number of scenes that it explains, and its forward passes of each tower."""

    label: str
    method: str
    options: dict = field(default_factory=dict, hash=False)
    first: int = 1000


def coalitions(method, budget, first=1000, label="", **options):
    name = " ".join([label or method, *(f"{key} {value}" for key, value in options.items())])
    return Setting(f"{name}, {budget}", method, {"budget": budget, **options}, first)


SETTINGS = [
    Setting("nib, tolerance 0.01", "nib"),
    Setting("nib, default steps", "nib", {"tolerance": None}),
    Setting("nib, one view, 4 steps", "nib", {"image_steps": 4, "views": 1}, 300),
    Setting("occlusion", "occlusion"),
    coalitions("banzhaf", 50, share=0.5, ridge=8.0),
    coalitions("banzhaf", 200, share=0.5),
    coalitions("banzhaf", 50, 60, share=0.3, ridge=8.0),
    coalitions("banzhaf", 200, 60, share=0.3),
    coalitions("banzhaf", 200, 60, share=0.7),
    coalitions("banzhaf", 200, 60, share=0.5, ridge=8.0),
    coalitions("banzhaf", 200, 60, share=0.5, estimate="means"),
    coalitions("shapley", 200, 100),
    Setting("rise, 200", "rise", {"masks": 200, "share": 0.5}, 30),
    Setting("integrated_gradients, 16 steps", "integrated_gradients", {"steps": 16}, 60),
    Setting("gae", "gae", {}, 30),
    Setting("legrad", "legrad", {}, 30),
    Setting("grad_eclip", "grad_eclip", {}, 60),
    Setting("chefer", "chefer", {}, 60),
    coalitions("banzhaf", 1000, 30, share=0.5),
    coalitions("shapley", 1000, 30),
    coalitions("fixlip", 1000, 6, share=0.5, pairs="drawn"),
    coalitions("fixlip", 200, 6, share=0.5),
    coalitions("banzhaf", 5000, 4, share=0.5),
    coalitions("shapley", 5000, 4),
]


def pairs_of(count):
    """The scenes with true captions, and as many whose captions have a wrong noun."""
    true = Scenes(count=count, seed=SEED + 7, fewest=2, most=3, named="all")
    wrong = Scenes(count=count, seed=SEED + 8, fewest=2, most=3, named="all", mismatch=100)
    return list(true), list(wrong)


def words_of(pair, table, spans):
    """The positions of the words that touch any of the spans."""
    places = enumerate(word_spans(pair.caption, table.units))
    return [
        place
        for place, span in places
        if span is not None and any(first < span[1] and span[0] < last for first, last in spans)
    ]


def once(cache, key, compute):
    """The value of a key, which the first setting computes."""
    if key not in cache:
        cache[key] = compute()
    return cache[key]


def measured(spec, pair, absent, cache_of_pair, curves):
    """The numbers of one setting and scene."""
    started = time.process_time()
    table, image, text = explain_pair(spec, pair, ())
    record = {"seconds": round(time.process_time() - started, 4)}
    nouns = nouns_of(pair, table.region, table.units)
    metric_input = RegionsInput(table, image, text, nouns, shared=partial(once, cache_of_pair))
    own = {name: metric for name, metric in METRICS.items() if curves or not isinstance(metric, PairCurve)}
    record |= {name: round(float(metric(metric_input)), 5) for name, metric in own.items()}
    named = set(words_of(pair, table, [span for item in pair.objects for span in item.spans]))
    size = table.table.abs().sum((1, 2))
    others = [place for place in range(len(size)) if place not in named]
    record["nothing"] = round(float(size[others].sum() / size.sum()), 5)
    if absent is not None:
        wrong, _, _ = explain_pair(spec, absent, ())
        rows = wrong.table.sum((1, 2))[words_of(absent, wrong, absent.absent)]
        record[ABSENT] = float(rows.sum() < 0)
    return record


def measure(model, count, path, part):
    done = stored(path)
    true, wrong = pairs_of(count)
    specs = {one.label: resolve_regions(model, MethodSpec(one.method, "default", one.options)) for one in SETTINGS}
    for settings in ([one for one in SETTINGS if one.first == 1000], [one for one in SETTINGS if one.first < 1000]):
        for place in range(part[0], count, part[1]):
            cache_of_pair = {}
            for setting in settings:
                key = f"{setting.label} | {place}"
                if place < setting.first and key not in done:
                    absent = wrong[place] if place < 200 and setting.first == 1000 else None
                    numbers = measured(specs[setting.label], true[place], absent, cache_of_pair, place < 200)
                    kept(path, {"key": key, "label": setting.label, **numbers})
    for place in range(part[0], 12, part[1]):
        key = f"orders | {place}"
        if key not in done:
            kept(path, {"key": key, "label": "orders", **orders(model, true[place])})


def orders(model, pair):
    """R^2 of models of order one and two of the score of held-out coalitions, with the coefficients of `banzhaf`.

    The model of order one has the mean effect of each word and patch; that of order two the table, too.
    """
    record = {}
    for share in HELD_OUT:
        spec = resolve_regions(model, MethodSpec("banzhaf", "default", {"budget": 1000, "share": share}))
        image, text = trace_sides(spec, [pair])
        words = text.inputs.words[0].words[0]
        sides = spec.methods["image"].vectors(image), spec.methods["text"].vectors(text)
        vectors = sides[0].of_cells()[0].values[:-1], sides[1].of_words([word.tokens for word in words]).values[:-1]
        draws = torch.Generator().manual_seed(1)
        shown = [(torch.rand(100, len(own), generator=draws) < share).float() for own in vectors]
        table, _, _ = explain_pair(resolve_regions(model, MethodSpec("occlusion", "default", {})), pair, ())
        embeddings = embeddings_of_patches(image, shown[0]), embeddings_of_words(text, table, shown[1])
        means = [own.mean(0) for own in embeddings]  # of the held-out coalitions, so that the constant is right
        moved = [(kept_units - kept_units.mean(0)) @ own for kept_units, own in zip(shown, vectors, strict=True)]
        actual = embeddings[0] @ embeddings[1].T
        one = means[0] @ means[1] + (moved[0] @ means[1])[:, None] + (moved[1] @ means[0])[None]
        two = one + moved[0] @ moved[1].T
        total = (actual - actual.mean()).square().sum()
        record[f"one {share}"] = round(float(1 - (actual - one).square().sum() / total), 5)
        record[f"two {share}"] = round(float(1 - (actual - two).square().sum() / total), 5)
    return record


COLUMNS = {
    "pointing": "right object",
    "energy": "energy",
    "elsewhere": "on others",
    "mass": "mass",
    ABSENT: "absent negative",
    "nothing": "on other words",
    "insertion": "insertion",
    "deletion": "deletion",
    "R2 0.3": "R2, p 0.3",
    "R2 0.5": "R2, p 0.5",
    "R2 0.7": "R2, p 0.7",
    "rank 0.5": "Spearman, p 0.5",
}


def report(records):
    """Print the tables, and write them for the page of the study."""
    by_label = defaultdict(dict)
    for key, record in records.items():
        by_label[record["label"]][int(key.rpartition("| ")[2])] = record
    labels = [one.label for one in SETTINGS if one.label in by_label]
    tables = {
        "regions": means(by_label, labels),
        "differences": differences(by_label, labels),
        "orders": orders_table(by_label, labels),
    }
    print("\n\n".join([*tables.values(), machine()]))
    write_tables(STUDY, tables, f"{machine()}; scenes of seed {SEED + 7}")


def means(by_label, labels):
    lines = ["| method | scenes | " + " | ".join(COLUMNS.values()) + " | seconds |", "|---" * (len(COLUMNS) + 3) + "|"]
    for label in labels:
        rows = list(by_label[label].values())
        cells = [cell([row[name] for row in rows if name in row]) for name in COLUMNS]
        seconds = f"{np.median([row['seconds'] for row in rows]):.2f}"
        lines.append(" | ".join([f"| {label}", str(len(rows)), *cells, seconds]) + " |")
    return "\n".join(lines)


def differences(by_label, labels):
    """Differences from `nib` with its tolerance on the same scenes, and p of a paired test."""
    lines = [
        "| method | right object | energy | mass | R2, p 0.5 |",
        "|---" * 5 + "|",
    ]
    for label in labels[1:]:
        both = sorted(set(by_label[label]) & set(by_label[labels[0]]))
        texts = []
        for name in ("pointing", "energy", "mass", "R2 0.5"):
            one, other = ([by_label[which][place][name] for place in both] for which in (label, labels[0]))
            texts.append(f"{np.mean(one) - np.mean(other):+.3f} (p {paired_test(one, other):.2g})")
        lines.append(" | ".join([f"| {label}", *texts]) + " |")
    return "\n".join(lines)


def orders_table(by_label, labels):
    """R2 of models of held-out coalitions with the coefficients of `banzhaf`, and of any sum of a score per side."""
    lines = [
        "| p | order one | order two | any sum of both sides |",
        "|---" * 4 + "|",
    ]
    for share in HELD_OUT:
        one, two = ([row[f"{order} {share}"] for row in by_label["orders"].values()] for order in ("one", "two"))
        additive = [by_label[labels[0]][place][f"additive {share}"] for place in by_label["orders"]]
        lines.append(f"| {share} | {cell(one)} | {cell(two)} | {cell(additive)} |")
    return "\n".join(lines)


def cell(values):
    values = [value for value in values if not np.isnan(value)]
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval(values)) if values else "-"


def main():
    options = parse_arguments(__doc__)
    if options.what == "measure":
        path = options.out / f"tables-{options.part}.jsonl"
        measure(nibt.load_model(options.model), options.count, path, (options.part, options.parts))
        return
    report(collect(options.out, "tables"))


if __name__ == "__main__":
    main()
