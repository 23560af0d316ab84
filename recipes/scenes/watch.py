"""When do maps show a shortcut, and when does the model use it? ``scenes``, watched while it learns ``mark``.

    OMP_NUM_THREADS=1 python recipes/scenes/watch.py --out FOLDER [--steps 220] [--seed 0]

Each row is a step: the used share (``shortcut.used_share``, by intervention, 100 scenes with one named object), the
share of the positive evidence of ``nib`` on the mark and the object that is on the mark (``shown.evidence``, the same
scenes), its interval, and how often the noun of a single object comes first among 64 without a mark (100 scenes). The
folder has what ``nibt.bridges.training.Watch`` writes of eight scenes, and the picture of the guide: three of them, at
half of the steps. The last line is what the watch costs.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from runs import machine
from shortcut import CHOOSING, MASK, image, marked, train, used_share
from shown import evidence, maps
from zero_shot import places, unit

import nibt
from nibt.bridges.training import Watch
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.evaluation.statistics import interval

WATCHED, COUNT = 8, 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(machine(), flush=True)
    data = Scenes(count=COUNT, seed=CHOOSING, fewest=2, most=3, named="one")
    single = Scenes(count=COUNT, seed=CHOOSING, fewest=1, most=1)
    objects = [next(obj for obj in pair.objects if obj.spans) for pair in data]
    images = [image(marked(data.scene(item).pixels, obj.name)) for item, obj in enumerate(objects)]
    captions, masks = [pair.caption for pair in data], [obj.mask for obj in objects]
    request = nibt.load_model("scenes").request
    loading = {"processor": request.processor, "tokenizer": request.tokenizer}
    pairs = list(zip(images, captions, [MASK] * COUNT, strict=True))[:WATCHED]
    watch = Watch(pairs, options.out / "watch", **loading)
    seconds = {"all": time.perf_counter(), "watch": 0.0, "others": 0.0}

    def log(module, step):
        """Log a step, and print what the model uses and what maps show."""
        started = time.perf_counter()
        watch.log(module, step)
        seconds["watch"] += (logged := time.perf_counter()) - started
        model = nibt.load_model(copy.deepcopy(module).eval(), **loading)
        shares = evidence([grid for grid, _ in maps(model, "nib", {}, images, captions)], masks)
        with torch.no_grad():
            prompts = unit(model.text, [with_article(noun) for noun in NOUNS])
            accuracy = (places(model, prompts, single) == 0).mean()
        used = used_share(model, data)
        print(
            "| {} | {:.3f} | {:.3f} [{:.3f}, {:.3f}] | {:.2f} |".format(step, used, *interval(shares), accuracy),
            flush=True,
        )
        seconds["others"] += time.perf_counter() - logged

    print("| step | used share | evidence on the mark | accuracy |\n|---|---|---|---|")
    train(options.out / "model", "mark", options.seed, options.steps, log)
    training = time.perf_counter() - seconds["all"] - seconds["watch"] - seconds["others"]
    watch.pairs, steps = watch.pairs[:3], list(watch.explanations)[::2]
    watch.explanations = {step: watch.explanations[step] for step in steps}
    watch.draw().save(options.out / "watch.webp", quality=85)
    print(f"training {training:.0f} s, watch {seconds['watch']:.0f} s, {seconds['watch'] / training:.1%}")


if __name__ == "__main__":
    main()
