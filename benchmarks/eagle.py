"""Compare ``eagle`` with the authors' program, on the generator that ships with nibt.

    python benchmarks/eagle.py CLONE [--segments 16] [--words 3]

CLONE is a clone of RuoyuChen10/EAGLE, which needs opencv-python, matplotlib, scikit-learn and tqdm. Its greedy search
and its scores run on the same model, with the superpixels of nibt and with the mean color in removed ones. Prints, for
each word, the largest differences of the probabilities of all steps, of the scores and of the reliance on the image,
and whether the orders agree. (Their reliance is that of a token: it is compared for words of one token.)
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from limit import machine

import nibt
from nibt.data.images import read_image
from nibt.generators.answers import AnswerProbability
from nibt.generators.forced import AnswerRequest
from nibt.generators.methods.eagle import EAGLE, greedy_order

PROMPT = "describe the picture"


class Probabilities:
    """The model as the authors' search calls it: the probabilities of the tokens of a word for an image."""

    device = "cpu"

    def __init__(self, side, targets):
        self.side = side
        self.targets = targets

    def __call__(self, image):
        inputs = self.side.inputs
        changed = self.side.tower.mask_pixels(inputs, torch.ones(1, *image.shape[:2]))
        changed.values.copy_(image.permute(2, 0, 1)[None])
        with torch.no_grad():
            logits = self.side.tower.logits(self.side.tower.encode(changed))[0]
        return logits.softmax(-1).gather(-1, self.targets[:, None])[:, 0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("--segments", type=int, default=16)
    parser.add_argument("--words", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(options.clone))
    from interpretation.submodular_vision import MLLMSubModularExplanationVision
    from visualization.visualization import add_value, get_word_saliency

    print(machine())
    model = nibt.load_generator("scenes_generator")
    request = AnswerRequest((read_image("sample:scene"),), PROMPT, None, options.words)
    forced = request.forced(model).narrowing(["image"])
    method = EAGLE(segments=options.segments)
    for number, word in enumerate(forced.answer.words):
        side = forced.side([number], None, None)
        units = method.units_of(side)
        players = method.players(units, 1)[0]
        targets = side.inputs.extra["targets"]
        ours = greedy_order(
            side.__class__(side.model, side.trace, AnswerProbability(side.tower, targets)), units, players
        )

        labels = units.labels[0].numpy()
        regions = [(labels == label)[..., None].astype(int) for label in range(units.counts[0])]
        pixels = side.inputs.values[0].permute(1, 2, 0).numpy()
        search = MLLMSubModularExplanationVision(Probabilities(side, targets[0]))
        chosen, steps = search(pixels, regions)
        theirs = [next(label for label, region in enumerate(regions) if region is mask) for mask in chosen]
        _, values = add_value(chosen, steps)
        scores = (values - values.min()) / (values.max() - values.min())

        inserted = np.abs(np.array(ours.inserted) - steps["insertion_score"]).max()
        deleted = np.abs(np.array(ours.deleted) - steps["deletion_score"]).max()
        difference = np.abs(ours.scores()[theirs] - scores).max()
        sizes = np.array([region.mean() for region in regions])
        reliance = abs(ours.reliance(sizes) - float(np.mean(get_word_saliency(steps))))
        print(
            f"{word.text}: {len(regions)} superpixels, order {'equal' if list(ours.units) == theirs else 'differs'}, "
            f"probabilities {max(inserted, deleted):.1e}, scores {difference:.1e}, reliance {reliance:.1e}"
        )


if __name__ == "__main__":
    main()
