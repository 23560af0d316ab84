"""What captions cost and show from several layers: work, gaps, and whether nouns of the image have the highest scores.

It feeds docs/explanation/cost.md.

    OMP_NUM_THREADS=1 python benchmarks/caption_layers.py [--count 100] [--seed 0]

``work``: the multiplications of the maps of captions, in plain forward passes of the text tower (``speed.py``).
``gap``: the median and the 90th percentile over scenes of ``nibt.datasets.scenes`` with the model ``scenes``, as a
share of the change. ``AUC``: the mean over scenes of the metric ``word_auc``. Differences are those from the default,
with a 95 % interval over scenes. Choose on one seed, and report another.
"""

import argparse
from functools import partial

import numpy as np
from limit import Batch, machine
from regions import model
from speed import BATCH, multiplications

import nibt
from nibt.datasets.scenes import Scenes
from nibt.engine.batches import explain_batches
from nibt.engine.spec import Request, resolve
from nibt.evaluation.measure import measure
from nibt.evaluation.statistics import student
from nibt.registry import MethodSpec, find

SETTINGS = {
    "layer 0, 6 steps (default)": {},
    "layer 0, 4 steps (fast)": {"text_steps": 4},
    **{
        f"layer {layer}, {steps} steps": {"text_layer": str(layer), "text_steps": steps}
        for layer, steps in [(6, 4), (12, 2), (12, 4), (12, 6)]
    },
}


def gaps(scenes, pairs, options):
    """The gap of each caption, as a share of the change."""
    spec = resolve(scenes, Request(MethodSpec("nib", options=options)))
    values = np.full(len(pairs), np.nan)
    for batch in explain_batches(spec, pairs, 16, ["text"]):
        attribution = batch.attributions[1]
        path = attribution.path
        change = path.at_input - path.at_baseline
        values[list(batch.indices)] = ((path.sum - change).abs() / change.abs()).numpy()
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(machine())

    batch = Batch(model(), BATCH, ("text",))
    plain = multiplications(batch.plain)
    scenes = nibt.load_model("scenes")
    pairs = list(Scenes(count=options.count, seed=options.seed))
    auc = find("metrics", "word_auc")()
    print("| setting | work | gap, median | gap, 90th | AUC | difference of gap | difference of AUC |")
    print("|---|---|---|---|---|---|---|")

    first = None
    for name, setting in SETTINGS.items():
        work = multiplications(partial(batch.maps, "default", setting)) / plain
        of_gap = gaps(scenes, pairs, setting)
        of_auc = np.full(len(pairs), np.nan)
        for record in measure(
            scenes, pairs, [auc], MethodSpec("nib", options={**setting, "image_steps": 1, "image_views": 1})
        ):
            of_auc[record.item] = record.value
        first = first or (of_gap, of_auc)
        differences = [
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(*student(now - before))
            for now, before in zip((of_gap, of_auc), first, strict=True)
            if now is not before
        ] or ["", ""]
        print(
            f"| {name} | {work:.2f} | {np.median(of_gap):.4f} | {np.quantile(of_gap, 0.9):.4f} | "
            f"{np.nanmean(of_auc):.4f} | {' | '.join(differences)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
