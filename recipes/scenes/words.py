"""What does the replacement of a word change? The truth on scenes, whose nouns are known.

    OMP_NUM_THREADS=1 python recipes/scenes/words.py

Each noun of a caption is replaced by each of the 64 nouns of scenes that the caption lacks (``nibt.replace_words``).
A noun that is there should not be improved by one that is absent, and an absent one by one that is there. In a caption
of one noun, it is also negated, counted, put into the plural and, in a fifth of the scenes, replaced by 1,000 everyday
nouns.
"""

import argparse
from collections import defaultdict

import numpy as np
from runs import machine

import nibt
from nibt.datasets._captions import plural, with_article
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.evaluation.statistics import interval

UNSEEN = 20261137
"""The seed of scenes on which nothing was chosen."""
SCENES = {
    "one object": {"most": 1},
    "one to three objects": {"most": 3},
    "one to three objects, a noun is wrong": {"most": 3, "mismatch": 100},
}


def nouns(model, options, settings):
    """Replace the nouns of captions, and yield what is true of each replacement."""
    for pair in Scenes(count=options.count, seed=UNSEEN, named="all", **settings):
        present, absent = {obj.name for obj in pair.objects}, {pair.caption[slice(*span)] for span in pair.absent}
        named = [noun for noun in NOUNS if noun in pair.caption.lower().replace(",", "").split()]
        for word in named:
            others = [noun for noun in NOUNS if noun not in named]
            changes = {
                row.replacement: row.change
                for row in nibt.replace_words(model, pair.image, pair.caption, {word: others}, 100)
            }
            true = [change for noun, change in changes.items() if noun in present]
            best = max(changes, key=changes.__getitem__)
            if word in absent:
                yield "an absent noun is improved by one that is there", max(true) > 0
                yield "and by none more than by this one", best in present
            else:
                yield "a noun that is there is improved by no absent one", changes[best] <= 0 or best in present


def phrases(model, options):
    """Replace, negate and count the noun of captions of one object, and yield the changes."""
    for number, pair in enumerate(Scenes(count=options.count, seed=UNSEEN, most=1)):
        noun = pair.objects[0].name
        caption = with_article(noun)
        if number % 5 == 0:
            rows = nibt.replace_words(model, pair.image, caption, most=1)
            yield "improved by none of 1,000 everyday nouns", max(row.change for row in rows if row.word == noun) <= 0
        several = plural(noun)
        changed = {
            "no ...": f"no {noun}",
            "not a ...": f"not {caption}",
            "two ...s": f"two {several}",
            "three ...s": f"three {several}",
            "...s": several,
        }
        rows = {
            row.replacement: row
            for row in nibt.replace_words(model, pair.image, caption, {caption: [*changed.values()]})
        }
        for name, text in changed.items():
            before = rows[text].similarity - rows[text].change
            yield f"“{name}” lowers the similarity by more than half", rows[text].change < -abs(before) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="scenes of each kind")
    options, model = parser.parse_args(), nibt.load_model("scenes")
    print("| | share | nouns |\n|---|---|---|")
    for name, measured in {
        **{name: nouns(model, options, settings) for name, settings in SCENES.items()},
        "a caption of one noun": phrases(model, options),
    }.items():
        shares = defaultdict(list)
        for row, value in measured:
            shares[row].append(value)
        for row, values in shares.items():
            print(
                f"| {name}: {row} | {'{:.3f} [{:.3f}, {:.3f}]'.format(*interval(np.array(values)))} | {len(values)} |",
                flush=True,
            )
    print(f"\n{machine()}; scenes of seed {UNSEEN}")


if __name__ == "__main__":
    main()
