"""How well the embedded model `scenes` sees: zero-shot and retrieval on scenes that it was not trained on.

OMP_NUM_THREADS=1 python recipes/scenes/zero_shot.py [--model FOLDER]
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from runs import machine

import nibt
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import BACKGROUNDS, NOUNS, STYLES
from nibt.engine.encode import encode
from nibt.evaluation.statistics import interval

SEED = 77  # neither of the training, nor of the study
COUNT = 2000


def unit(tower, items):
    return F.normalize(encode(tower, items, 100), dim=-1)


def places(model, prompts, data):
    """The places of a scene's objects among all nouns, the last of them for each scene."""
    pairs = list(data)
    order = (unit(model.image, [pair.image for pair in pairs]) @ prompts.T).argsort(1, descending=True)
    ranks = order.argsort(1)
    return np.array(
        [max(int(ranks[row, NOUNS.index(item.name)]) for item in pair.objects) for row, pair in enumerate(pairs)]
    )


def print_share(name, values):
    mean, low, high = interval(values)
    print(f"{name:44s} {mean:.3f} [{low:.3f}, {high:.3f}]  n={len(values)}", flush=True)


def retrieval(model, groups=20, size=100):
    """The share of images whose caption comes first among those of their group, all of two objects."""
    hits = []
    for group in range(groups):
        pairs = list(Scenes(count=size, seed=SEED + 1 + group, fewest=2, most=2, named="all"))
        seen = unit(model.image, [pair.image for pair in pairs])
        caption_vectors = unit(model.text, [pair.caption for pair in pairs])
        hits += ((seen @ caption_vectors.T).argmax(1) == torch.arange(size)).float().tolist()
    return hits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes")
    model = nibt.load_model(parser.parse_args().model)
    prompts = unit(model.text, [with_article(noun) for noun in NOUNS])
    print(f"{machine()}; weights {model.weights_hash}; scenes of seed {SEED} on")
    single = places(model, prompts, Scenes(count=COUNT, seed=SEED, fewest=1, most=1))
    print_share("one object: first among 64", single < 1)
    print_share("one object: among the first 5", single < 5)
    print_share("two objects: both among the first 3", places(model, prompts, Scenes(COUNT, SEED, 2, 2)) < 3)
    print_share("caption first among 100 of two objects", retrieval(model))
    for style in STYLES:
        worst_places = places(model, prompts, Scenes(500, SEED, 1, 1, styles=(style,)))
        print_share(f"one object, {style}: first", worst_places < 1)
    for background in BACKGROUNDS:
        worst_places = places(model, prompts, Scenes(500, SEED, 1, 1, backgrounds=(background,)))
        print_share(f"one object on {background}: first", worst_places < 1)
    for smallest, largest in ((20, 24), (25, 40), (41, 50)):
        worst_places = places(model, prompts, Scenes(500, SEED, 1, 1, smallest, largest))
        print_share(f"one object of {smallest} to {largest} % of the side: first", worst_places < 1)


if __name__ == "__main__":
    main()
