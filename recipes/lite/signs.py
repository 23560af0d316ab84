"""Check the signs of `lite`: `python recipes/lite/signs.py --photos DIR [--half odd]`. See README.md.

Prints the share of absent nouns with a negative score, of present nouns with a positive one, what captions that name
nothing and blank pictures score, and how often a word and its region in the word-region table have the same sign.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
from measure import HERE, caption_of, half_of, report
from PIL import Image

import nibt

ABSENT = 8
NOTHING = (
    "a photo of something",
    "people standing in the snow",
    "she is very happy",
    "xyzzy plugh 42",
    "a man in a room",
)
BLANKS = {"black": (0, 0, 0), "gray": (128, 128, 128), "white": (255, 255, 255)}


def scores(model, image, captions):
    """Return the cosine of each caption with an image."""
    ranking = nibt.rank(model, image, list(dict.fromkeys(captions)))
    cosines = {ranked.label: ranked.similarity for ranked in ranking}
    return [cosines[caption] for caption in captions]


def nouns(model, images, photos, known):
    """Return whether the sign is right: of absent nouns, of nouns in captions, of the largest known object."""
    absent, named, largest, chance = [], [], [], random.Random(0)
    for image in images:
        areas = {}
        for item in image["objects"]:
            if item["category"] in known:
                areas[item["category"]] = areas.get(item["category"], 0) + np.prod(item["box_xywh"][2:])
        words = sorted({word["category"] for word in image["grounded_words"]} & set(known))
        others = chance.sample(sorted(set(known) - set(areas) - set(words)), ABSENT)
        main = [max(areas, key=areas.get)] if areas else []
        values = scores(model, photos / image["file"], [caption_of(name) for name in [*others, *words, *main]])
        absent += [value < 0 for value in values[:ABSENT]]
        named += [value > 0 for value in values[ABSENT : ABSENT + len(words)]]
        largest += [value > 0 for value in values[ABSENT + len(words) :]]
    return absent, named, largest


def regions(model, images, photos, known):
    """Return whether a word's score and the sum of its region have the same sign, for the naming words of captions."""
    same = []
    for image in images:
        for number, caption in enumerate(image["captions"]):
            spans = [
                (word["start"], word["end"])
                for word in image["grounded_words"]
                if word["caption"] == number and word["category"] in known
            ]
            if not spans:
                continue
            answer = nibt.explain(model, photos / image["file"], caption)
            table = nibt.regions(model, photos / image["file"], caption)
            sums, place = table.table.sum((1, 2)).tolist(), 0
            for word, total in zip(answer.words, sums, strict=True):
                start = caption.index(word.text, place)
                place = start + len(word.text)
                if any(first < place and start < last for first, last in spans):
                    same.append(word.score * total > 0)
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--photos", type=Path, required=True, help="a folder with annotations.json and the images")
    parser.add_argument("--half", choices=["even", "odd", "all"], default="all")
    arguments = parser.parse_args()
    model = nibt.load_model(arguments.model)
    images = half_of(json.loads((arguments.photos / "annotations.json").read_text())["images"], arguments.half)
    known = json.loads((HERE / "categories.json").read_text())
    for name, values in zip(
        ("absent nouns negative", "nouns in captions positive", "largest object positive"),
        nouns(model, images, arguments.photos, known),
        strict=True,
    ):
        report(name, values)
    cosines = np.array([scores(model, arguments.photos / image["file"], list(NOTHING)) for image in images])
    print(f"captions of nothing: cosine from {cosines.min():+.4f} to {cosines.max():+.4f}")
    for name, color in BLANKS.items():
        values = scores(model, Image.new("RGB", (640, 480), color), [caption_of(category) for category in known])
        print(f"{name} picture: cosine with known nouns from {min(values):+.4f} to {max(values):+.4f}")
    report("word and region of one sign", regions(model, images, arguments.photos, known))


if __name__ == "__main__":
    main()
