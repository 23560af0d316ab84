"""Does a negative word speak against the image? Nouns that are there beside nouns that are not, in the same caption.

OMP_NUM_THREADS=1 python recipes/scenes/signs.py      # into docs/explanation/study

Captions name two or three things, of which one is not in the image. A method that made every word negative would find
all absent ones, so both signs are reported, and how well the score separates both kinds (AUC over all nouns).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from runs import SEED, machine, scenes, write_tables
from sklearn.metrics import roc_auc_score

import nibt
from nibt.data.ground_truth import ground_truth
from nibt.evaluation.statistics import interval

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
QUICK = {"image_layer": 11, "image_steps": 1, "image_views": 1}  # the image side is not looked at
GAUSS = {**QUICK, "text_quadrature": "gauss"}
WAYS = {
    "layer 0, blank, midpoint 6 (default)": QUICK,
    "layer 0, blank, midpoint 4": {**QUICK, "text_steps": 4},
    "layer 0, blank, gauss 6": {**GAUSS, "text_steps": 6},
    "layer 0, blank, gauss 8": {**GAUSS, "text_steps": 8},
    "layer 0, mean, gauss 8": {**GAUSS, "text_steps": 8, "text_baseline": "mean"},
    "layer 0, zero, geometric 8": {
        **QUICK,
        "text_steps": 8,
        "text_baseline": "zero",
        "text_quadrature": "geometric",
    },
    "layer 9, zero, riemann 10 (as published)": {
        "text_layer": 9,
        "text_baseline": "zero",
        "text_quadrature": "riemann",
        "text_steps": 10,
        **QUICK,
    },
    "integrated gradients": {"method": "integrated_gradients", "image_steps": 1},
}


def scored(model, pairs, options):
    """The scores of the nouns that are there, and of those that are not."""
    images, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    answers = nibt.explain(model, images, captions, batch_size=50, **options)
    present, missing = [], []
    for pair, answer in zip(pairs, answers, strict=True):
        known = ground_truth(pair, answer.region, answer.text.units)
        scores = torch.tensor([word.score for word in answer.words])
        present += scores[known.named & ~known.absent].tolist()
        missing += scores[known.absent].tolist()
    return np.array(present), np.array(missing)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="scenes")
    options = parser.parse_args()
    model, pairs = nibt.load_model("scenes"), scenes("absent", options.count)
    lines = ["| | there and positive | absent and negative | AUC |", "|---|---|---|---|"]
    for name, way in WAYS.items():
        present, missing = scored(model, pairs, way)
        auc = roc_auc_score(np.r_[np.ones(len(present)), np.zeros(len(missing))], np.r_[present, missing])
        shares = " | ".join("{:.3f} [{:.3f}, {:.3f}]".format(*interval(one)) for one in (present > 0, missing < 0))
        lines.append(f"| {name} | {shares} | {auc:.3f} |")
        print(lines[-1], flush=True)
    write_tables(STUDY, {"signs": "\n".join(lines)}, f"{machine()}; {options.count} scenes of seed {SEED + 1}")


if __name__ == "__main__":
    main()
