"""How the cost of explanations grows with images, models, pairs, captions and answers: work and peak memory.

It writes benchmarks/growth.csv.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [pixels] [size] [pairs] [captions] [stored] [answer] [table]

Each row has a process of its own, whose peak memory counts the model and the libraries. ``work`` counts the
multiplications of matrix products and convolutions, as ``speed.py`` does, so it does not depend on the load of the
machine. ``plain`` is one forward pass of the towers on the same inputs. An exponent e says that the work grows as the
e-th power of the axis, by least squares of the logarithms.

- ``pixels``: the side of the images, of a CLIP of ViT-B/32 size with random weights; positions are interpolated.
- ``size``: B/32, L/14 and H/14, with their parameters as the axis; one image.
- ``pairs``: pairs in one call.
- ``captions``: captions of one image, each of which is explained. The plain pass is that of the image and of the texts.
- ``stored``: captions whose maps follow from stored vectors of the image (``nibt.contributions``).
- ``answer``: words of a given answer of ``scenes_generator``; the plain pass reads image, prompt and answer.
- ``table``: words of a caption in a word-region table.
"""

import argparse
import csv
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from limit import CAPTION, NOUNS, machine, most_memory
from PIL import Image
from regions import LARGE, model
from speed import multiplications

import nibt
from nibt.data.images import read_image
from nibt.generators.answers import ForcedWord
from nibt.generators.forced import AnswerRequest

TABLE = Path(__file__).with_suffix(".csv")
HUGE = {
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "projection_dim": 1024,
}
SIZES = {"B/32": {}, "L/14": LARGE, "H/14": HUGE}
QUESTION = "what is left of the house ?"
VALUES = {
    "pixels": (224, 448, 896),
    "size": tuple(SIZES),
    "pairs": (1, 8, 64),
    "captions": (1, 10, 100),
    "stored": (1, 10, 100, 1_000),
    "answer": (5, 20, 50, 150),
    "table": (2, 4, 8, 16),
}


def noise(count, side=224):
    """Images of noise."""
    draws = np.random.default_rng(0)
    return [Image.fromarray(draws.integers(0, 255, (side, side, 3), np.uint8)) for _ in range(count)]


def captions(count):
    """Different captions, as far as there are nouns."""
    return [CAPTION.format(NOUNS[place % len(NOUNS)]) for place in range(count)]


def passes(clip, images, texts):
    """A forward pass of both towers, in batches of 16."""
    for first in range(0, len(images), 16):
        clip.image.encode(clip.image.prepare([read_image(image) for image in images[first : first + 16]]))
    for first in range(0, len(texts), 16):
        clip.text.encode(clip.text.prepare(texts[first : first + 16]))


def both(clip, images, texts):
    """The plain pass and the explanations of pairs; an image without a list is that of all captions."""
    pictures = images if isinstance(images, list) else [images]
    pairs = images if isinstance(images, list) else [images] * len(texts)
    return partial(passes, clip, pictures, texts), partial(nibt.explain, clip, pairs, texts, batch_size=16)


def resized(side):
    """A CLIP of ViT-B/32 size that takes images of another size."""
    plain = model()
    return nibt.load_model(plain.module, processor=plain.request.processor, image_size=side)


def stored(count):
    """Maps of captions from the stored vectors of an image."""
    clip = model()
    (image,) = noise(1)
    texts = captions(count)

    def maps():
        vectors = nibt.contributions(clip, image)
        for text in texts:
            vectors.explain(text)

    return partial(passes, clip, [image], texts), maps


def answered(words):
    """An explanation of all words of an answer."""
    generator = nibt.load_generator("scenes_generator")
    answer = " ".join(["a cat and a house"] * (words // 5))
    forced = AnswerRequest.of("sample:scene", QUESTION, answer, None).forced(generator)
    tower = generator.answers

    def plain():
        inputs = tower.prepare([ForcedWord(forced.prompted, forced.answer)])
        with torch.no_grad():
            generator.module(**tower.arguments(inputs))

    return plain, partial(nibt.explain_answer, generator, "sample:scene", QUESTION, answer)


def tabled(words):
    """The word-region table of a caption."""
    clip = model()
    (image,) = noise(1)
    text = " ".join([*NOUNS, *NOUNS][:words])
    return partial(passes, clip, [image], [text]), partial(nibt.regions, clip, image, text)


def of_axis(axis, value):
    """The plain pass and the explanation of a row."""
    if axis == "pixels":
        return both(resized(value), noise(1, value), captions(1))
    if axis == "size":
        return both(model(**SIZES[value]), noise(1), captions(1))
    if axis == "pairs":
        return both(model(), noise(value), captions(value))
    if axis == "captions":
        return both(model(), noise(1)[0], captions(value))
    return {"stored": stored, "answer": answered, "table": tabled}[axis](value)


def measured(axis, value, what):
    """The work and the peak memory of one process."""
    arguments = [sys.executable, __file__, axis, "--one", str(value), "--what", what]
    printed = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    return float(printed[-2]), float(printed[-1])


def exponent(axis, work):
    """By which power of the axis work grows."""
    values = VALUES[axis]
    if axis == "size":
        values = [sum(tensor.numel() for tensor in model(**SIZES[name]).module.parameters()) for name in values]
    return np.polyfit(np.log(values), np.log(work), 1)[0]


def rows_of(axis):
    """The rows of an axis: value, work and memory relative to the plain pass, and the exponents."""
    plain = [measured(axis, value, "plain") for value in VALUES[axis]]
    maps = [measured(axis, value, "maps") for value in VALUES[axis]]
    powers = [f"{exponent(axis, [work for work, _ in side]):.2f}" for side in (plain, maps)]
    for value, (plain_work, plain_memory), (work, memory) in zip(VALUES[axis], plain, maps, strict=True):
        yield axis, str(value), f"{work / plain_work:.2f}", f"{memory / plain_memory:.2f}", *powers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", choices=[*VALUES, []], default=[])
    parser.add_argument("--one", help="measure this value of one axis in this process")
    parser.add_argument("--what", choices=("plain", "maps"), default="maps")
    options = parser.parse_args()
    axes = options.axes or list(VALUES)
    if options.one:
        axis = axes[0]
        value = options.one if axis == "size" else int(options.one)
        plain, maps = of_axis(axis, value)
        print(multiplications(plain if options.what == "plain" else maps), most_memory())
        return

    print(machine())
    with TABLE.open(encoding="utf-8", newline="") if TABLE.exists() else open("/dev/null") as file:
        kept = [row for row in csv.reader(file) if row and row[0] not in ("axis", *axes)]
    head = ("axis", "value", "work", "memory", "exponent of the plain pass", "exponent")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for axis in axes:
        for row in rows_of(axis):
            print(f"| {' | '.join(row)} |", flush=True)
            kept.append(list(row))

        with TABLE.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *kept])


if __name__ == "__main__":
    main()
