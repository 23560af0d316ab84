"""Does the region of each noun lie on its own object? The word-region table on captions that name all objects.

OMP_NUM_THREADS=1 python recipes/scenes/regions.py measure --out RUN    # resumes
python recipes/scenes/regions.py report --out RUN

Beside it each noun is explained as a caption of its own ("a cat"), with the same layers, nodes and baselines (so the
table has no tolerance). Both
maps are held against the mask of the noun's object: the pointing game on the mask itself, with the published tolerance
(15 pixels at 640), average precision; and whether the map peaks in another object of the caption.
"""

import time

import numpy as np
import torch
from runs import SEED, collect, kept, machine, on_mask, paired_test, parse_arguments, stored

import nibt
from nibt.data.ground_truth import word_spans
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import Scenes
from nibt.evaluation.statistics import interval
from nibt.metrics.localization import PointingGame
from nibt.metrics.rankings import AveragePrecision

METRICS = {"strict": PointingGame(0.0), "pointing": PointingGame(), "AP": AveragePrecision()}
NAMES = {
    "strict": "pointing, on the mask",
    "pointing": "pointing, tolerance 15 / 640",
    "AP": "AP",
    "elsewhere": "peak in another object",
}

WAYS = {
    "table": "table of the nouns",
    "all": "table of all words",
    "tolerant": "table of all words, default tolerance",
    "alone": "each noun alone",
}


def scenes(count):
    return list(Scenes(count=count, seed=SEED + 2, fewest=2, most=3, named="all"))


def held(grid, item, others):
    """The numbers of one map."""
    scores = {name: on_mask(metric, grid, torch.from_numpy(item.mask)) for name, metric in METRICS.items()}
    scores["elsewhere"] = max(on_mask(METRICS["strict"], grid, torch.from_numpy(other.mask)) for other in others)
    return scores


def one(model, pair):
    """Both ways to the regions of all nouns of a caption: numbers of each noun, and the seconds of each way; of the
    table with rows for all words, too, with the same nodes and with the default tolerance.
    """
    tolerant = time.process_time()
    nibt.regions(model, pair.image, pair.caption)
    started = time.process_time()
    nibt.regions(model, pair.image, pair.caption, tolerance=None)
    began = time.process_time()
    nouns = [item.name for item in pair.objects]
    table = nibt.regions(model, pair.image, pair.caption, words=nouns, tolerance=None)
    between = time.process_time()
    alone = nibt.explain(model, pair.image, [with_article(item.name) for item in pair.objects])
    ended = time.process_time()
    spans = list(word_spans(pair.caption, table.units))
    rows = []
    for item, explained in zip(pair.objects, alone, strict=True):
        others = [other for other in pair.objects if other is not item]
        words = [
            place
            for place, span in enumerate(spans)
            if span is not None and any(first < span[1] and span[0] < last for first, last in item.spans)
        ]
        rows.append({"table": held(table.for_words(*words), item, others), "alone": held(explained.grid, item, others)})
    return {
        "objects": len(pair.objects),
        "rows": rows,
        "tolerant": started - tolerant,
        "all": began - started,
        "table": between - began,
        "alone": ended - between,
    }


def measure(model, count, path):
    done = stored(path)
    for place, pair in enumerate(scenes(count)):
        if place not in done:
            kept(path, {"key": place, **one(model, pair)})


def report(records):
    for objects in (2, 3):
        chosen = [record for record in records.values() if record["objects"] == objects]
        rows = [row for record in chosen for row in record["rows"]]
        print(f"\n{objects} nouns: {len(chosen)} scenes; seconds a scene (median, both sides):")
        for way, name in WAYS.items():
            print(f"  {name:<44} {np.median([record[way] for record in chosen]):.3f}")
        for metric in NAMES:
            table, alone = ([row[way][metric] for row in rows] for way in ("table", "alone"))
            texts = f"table {format_interval(table)}   alone {format_interval(alone)}"
            print(f"  {NAMES[metric]:<30} {texts}   p {paired_test(table, alone):.3g}")


def format_interval(values):
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval(values))


def main():
    options = parse_arguments(__doc__)
    if options.what == "measure":
        measure(nibt.load_model(options.model), options.count, options.out / "regions-0.jsonl")
        return
    report(collect(options.out, "regions"))
    print(machine())


if __name__ == "__main__":
    main()
