"""Measure how little of an image must be removed until the generator of scenes gives the right answer.

    python recipes/generator/correct.py measure --out RUN [--first 0] [--count 200]
    python recipes/generator/correct.py report --out RUN

Resumes: RUN/rows.jsonl has a line for each wrong answer and method. The model is asked what is left or right of an
object, or whether an object is there, on scenes that served for nothing else. Where it answers wrongly, each method
explains the right answer, and the cells with the lowest scores are removed one by one, until the model gives it. As in
EAGLE (Chen et al., CVPR 2026), AMCR is the mean share of removed cells, 1 where none corrects the answer, and CSR the
share of answers that are corrected without 10 % of the cells. (Their program divides CSR by the number of corrected
answers; here, all wrong answers count.) A second share is that after cells that are not needed are left out.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from study import BACKGROUNDS, image_of, read_rows
from world import Scenes, tasks

import nibt
from nibt.evaluation.statistics import holm, interval, paired_test
from nibt.generators.loading import load_generator
from nibt.registry import find

SEED = 18  # of scenes that served for nothing else
METHODS = ("nib", "gae", "occlusion", "tam", "eagle segments=16", "random")
BUDGET = 0.1


def questions(first, count):
    """Yield the image of each scene with a question about it and the right answer."""
    data = Scenes(count=10**7, seed=SEED, fewest=1, most=3, backgrounds=BACKGROUNDS)
    for item in range(first, first + count):
        scene, (_, task) = tasks(data, item)
        if "many" not in task.prompt:
            yield item, image_of(data, scene, item), task.prompt, task.answer


def removed_share(generator, explanation):
    """Return the share of cells, those with the lowest scores first, without which the model writes the answer."""
    with find("decisions", "answer").opened(generator, explanation, None, "mean", writes=True) as hidden:
        count = hidden.cells
        ranks = hidden.scores.flatten().double().cpu().argsort(stable=True).argsort()
        sizes = np.unique(np.linspace(0, count, 66).round().astype(int))[1:-1]
        shown = torch.stack([ranks >= int(size) for size in sizes])
        written = (hidden.shown(shown)[:, 0] > 0).nonzero()[:, 0]
        return float(sizes[int(written[0])] / count) if len(written) else 1.0


def measure(options):
    generator = load_generator("scenes_generator")
    path = options.out / "rows.jsonl"
    done = {row["scene"] for row in read_rows(path)}
    with path.open("a", buffering=1) as out:
        for item, image, prompt, answer in questions(options.first, options.count):
            if item in done:
                continue
            own = nibt.explain_answer(generator, image, prompt, method="ones", other_images=[], max_words=3)
            rows = [] if own.answer == answer else corrections(generator, image, prompt, answer)
            out.write("".join(json.dumps({"scene": item, **row}) + "\n" for row in rows or [{"method": ""}]))


def corrections(generator, image, prompt, answer):
    """Return how each method corrects a wrong answer."""
    rows = []
    for method in METHODS:
        explanation = nibt.explain_answer(generator, image, prompt, answer, method, narrow=["image"], other_images=[])
        decisive = nibt.decisive_region(generator, explanation, "correct").decisive
        share = removed_share(generator, explanation)
        small = 1.0 if decisive is None else decisive.share
        rows.append({"method": method, "removed": share, "needed": small})
    return rows


def report(options):
    rows = [json.loads(line) for line in (options.out / "rows.jsonl").read_text().splitlines()]
    print(f"{len({row['scene'] for row in rows})} questions")
    print("| method | wrong answers | AMCR | CSR at 10 % | needed cells alone | corrected | p against nib | random |")
    print("|---|---|---|---|---|---|---|---|")
    shares = {method: [row["removed"] for row in rows if row["method"] == method] for method in METHODS}
    against = {base: dict(zip(METHODS, corrected_p(shares, base), strict=True)) for base in ("nib", "random")}
    for method in METHODS:
        of_method = [row for row in rows if row["method"] == method]
        removed = np.array([row["removed"] for row in of_method])
        needed = np.array([row["needed"] for row in of_method])
        columns = [
            (removed, (0.0, 1.0)),
            ((removed <= BUDGET).astype(float), (0.0, 1.0)),
            (needed, (0.0, 1.0)),
            ((removed < 1).astype(float), (0.0, 1.0)),
        ]
        texts = []
        for values, bounds in columns:
            mean, low, high = interval(values, bounds)
            texts.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
        texts += [f"{against[base][method]:.2g}" for base in against]
        print(f"| `{method}` | {len(of_method)} | {' | '.join(texts)} |")


def corrected_p(shares, base):
    """Return the p value of each method against a base method, with Holm's correction; NaN for the base itself."""
    values = [np.nan if method == base else paired_test(shares[method], shares[base]) for method in METHODS]
    return holm(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("measure", "report"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="the first scene")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    {"measure": measure, "report": report}[options.step](options)


if __name__ == "__main__":
    main()
