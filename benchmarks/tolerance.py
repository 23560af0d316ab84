"""What a tolerance costs, in gradients per item, and how large the true error then is.

It feeds docs/explanation/cost.md.

    OMP_NUM_THREADS=1 python benchmarks/tolerance.py [--count 24] [--models scenes lite random]

The true error is the largest difference from the scores of 100 Gauss-Legendre nodes, relative to the largest score.
`now` is nibt's tolerance: panels of the path that are halved where the error is largest, for each item.
`gauss, doubled` is a simpler way, and is computed here from maps with fixed steps: 8, 16, 32 and 64
Gauss-Legendre nodes, each time all anew, until the last sum of the batch is complete.
`random` is a CLIP with 12 blocks and random weights; `lite` explains the photographs of `--photos`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from limit import machine
from models.random_models import draw_weights
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

import nibt
from nibt.data.images import read_image
from nibt.datasets.scenes import Scenes
from nibt.results.attribution import allowed

BATCH = 8
DOUBLED = (8, 16, 32, 64)
TOLERANCES = (0.1, 0.01, 0.003)
SIDES = ("image", "text")


def random_model():
    words = AutoTokenizer.from_pretrained(nibt.load_model("scenes").folder)
    tokens = {name: getattr(words, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = {"num_hidden_layers": 12, "hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3}
    text = {**shape, "hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, "vocab_size": 49408}
    config = CLIPConfig(vision_config={**shape, "patch_size": 32}, text_config={**text, **tokens}, projection_dim=128)
    return nibt.load_model(draw_weights(CLIPModel(config)), processor=CLIPProcessor(CLIPImageProcessor(), words))


def scenes(count):
    return [(read_image(pair.image), pair.caption) for pair in Scenes(count=count, seed=2026, fewest=2, named="one")]


def photographs(folder, count):
    known = [photo for photo in json.loads((folder / "annotations.json").read_text())["images"] if photo["objects"]]
    return [(read_image(folder / photo["file"]), f"a {photo['objects'][0]['category']}") for photo in known[:count]]


def maps(model, pairs, **options):
    """For each side, the scores of each pair, and the path of each."""
    images, captions = zip(*pairs, strict=True)
    answers = nibt.explain(model, list(images), list(captions), batch_size=BATCH, image_views=1, **options)
    return {
        side: ([getattr(one, side).scores for one in answers], [getattr(one, side).path for one in answers])
        for side in SIDES
    }


def error(scores, exact):
    return float((scores - exact).abs().max() / exact.abs().max())


def doubled(known, tolerance, count):
    """The scores and gradients of each item if the steps of a batch are doubled until the last sum is complete."""
    chosen, spent = [None] * count, [0] * count
    for first in range(0, count, BATCH):
        batch = range(first, min(first + BATCH, count))
        for steps in DOUBLED:
            scores, paths = known[steps]
            for item in batch:
                spent[item] += steps
                if chosen[item] is None and abs(paths[item].gap) <= allowed(_change(paths[item]), tolerance):
                    chosen[item] = scores[item]
            if all(chosen[item] is not None for item in batch):
                break
        for item in batch:
            chosen[item] = known[DOUBLED[-1]][0][item] if chosen[item] is None else chosen[item]
    return chosen, spent


def _change(path):
    return torch.as_tensor(path.at_input - path.at_baseline)


def rows(name, model, pairs):
    exact = maps(model, pairs, quadrature="gauss", steps=100)
    known = {steps: maps(model, pairs, quadrature="gauss", steps=steps) for steps in DOUBLED}
    now = {tolerance: maps(model, pairs, tolerance=tolerance) for tolerance in TOLERANCES}
    for side in SIDES:
        for tolerance in TOLERANCES:
            ours, paths = now[tolerance][side]
            before, spent = doubled({steps: known[steps][side] for steps in DOUBLED}, tolerance, len(pairs))
            for label, scores, cost in (
                ("gauss, doubled", before, spent),
                ("now", ours, [int(path.steps) for path in paths]),
            ):
                errors = [error(one, two) for one, two in zip(scores, exact[side][0], strict=True)]
                yield (
                    f"| {name} | {side} | {tolerance:g} | {label} | {np.mean(cost):.1f} | {np.mean(errors):.4f} | "
                    f"{max(errors):.4f} |"
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--models", nargs="+", default=["scenes", "random"], choices=["scenes", "random", "lite"])
    parser.add_argument("--photos", type=Path, help="the folder of the photographs, for lite")
    options = parser.parse_args()
    print(machine())
    print("| model | side | tolerance | rule | gradients | mean error | largest |\n|---|---|---|---|---|---|---|")
    for name in options.models:
        model = random_model() if name == "random" else nibt.load_model(name)
        pairs = photographs(options.photos, options.count) if name == "lite" else scenes(options.count)
        for row in rows(name, model, pairs):
            print(row, flush=True)


if __name__ == "__main__":
    main()
