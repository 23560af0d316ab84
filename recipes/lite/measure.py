"""Measure a `lite` folder on boxed photographs: `python recipes/lite/measure.py --photos DIR`. See README.md.

Maps come from `maps.py`, judgements from `scoring.py`; this file chooses the cases and prints the tables.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from maps import Lite
from PIL import Image
from scoring import energy, interval, points, ranking, union_mask, upsample
from torch.nn import functional

HERE = Path(__file__).parent
LEAST, MOST = 0.01, 0.35  # of the picture: the cases' share of the area


def caption_of(category):
    return f"a photo of {'an' if category[0] in 'aeiou' else 'a'} {category}"


def cases(picture, known):
    """(category, mask) of the categories in a picture that ImageNet knows and that cover 1 to 35 % of it."""
    size = picture["width"], picture["height"]
    for category in sorted({item["category"] for item in picture["objects"]} & set(known)):
        boxes = [item["box_xywh"] for item in picture["objects"] if item["category"] == category]
        mask = union_mask(boxes, size)
        if LEAST <= mask.mean() <= MOST:
            yield category, mask


def maps_of(lite, picture, photos, targets, options):
    """The maps of a picture, averaged over the layers asked for, on the pixels of the photograph."""
    pixels = lite.pixels(Image.open(photos / picture["file"]), options.size)
    sums = [lite.image_maps(pixels, targets, layer, options.reference, options.steps) for layer in options.layers]
    size = picture["width"], picture["height"]
    return [upsample(sum(several) / len(several), size) for several in zip(*sums, strict=True)]


def image_side(lite, pictures, photos, known, options):
    """Rows of (pointing, energy) by map, and the cases' share of the area."""
    rows, chance = {"nib": [], "centred": [], "centre": [], "random": []}, np.random.default_rng(0)
    shares, names, began = [], [], time.time()
    for picture in pictures:
        found = list(cases(picture, known))
        targets = lite.texts([caption_of(category) for category, _ in found]) if found else []
        contrast = [functional.normalize(y - lite.reference["centre.text"], dim=0) for y in targets]
        given = maps_of(lite, picture, photos, [*targets, *contrast], options) if found else []
        for index, (category, mask) in enumerate(found):
            shares.append(mask.mean())
            names.append(category)
            grid = upsample(chance.standard_normal((14, 14)), (picture["width"], picture["height"]))
            for kind, scores in (
                ("nib", given[index]),
                ("centred", given[index + len(found)]),
                ("centre", centre(mask.shape)),
                ("random", grid),
            ):
                rows[kind].append((points(scores, mask), energy(scores, mask)))
    return rows, shares, names, time.time() - began


def centre(shape):
    """A bump in the middle: what any map must beat."""
    down, across = (np.linspace(-1, 1, side) for side in shape)
    return np.exp(-2 * (down[:, None] ** 2 + across[None, :] ** 2))


def text_side(lite, pictures, photos, known, options):
    """AUC of the naming words over the other words of a caption, against the picture and against it centred."""
    rows = {"nib": [], "centred": []}
    for picture in pictures:
        embedding = lite.image(lite.pixels(Image.open(photos / picture["file"]), options.size))[0]
        contrast = functional.normalize(embedding - lite.reference["centre.image"], dim=0)
        for number, caption in enumerate(picture["captions"]):
            spans = [
                (word["start"], word["end"])
                for word in picture["grounded_words"]
                if word["caption"] == number and word["category"] in known
            ]
            for kind, target in (("nib", embedding), ("centred", contrast)):
                words = lite.word_scores(caption, target) if spans else []
                truth = [any(start < b and a < end for start, end in spans) for (a, b), _ in words]
                rows[kind].append(ranking([score for _, score in words], truth) if words else None)
    return {kind: [value for value in values if value is not None] for kind, values in rows.items()}


def report(name, values):
    print(f"{name:28s} {{:.3f}} [{{:.2f}}, {{:.2f}}]  n={len(values)}".format(*interval(values)), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=HERE.parents[1] / "src/nibt/models/embedded/lite")
    parser.add_argument("--photos", type=Path, required=True, help="a folder with annotations.json and the pictures")
    parser.add_argument("--size", type=int)
    parser.add_argument("--layers", type=int, nargs="+")
    parser.add_argument("--reference", choices=["blank", "mean", "zero"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--side", choices=["image", "text", "both"], default="both")
    parser.add_argument("--by-category", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    lite = Lite(options.model)
    layer = lite.settings["image_layer"]
    options.size = options.size or lite.settings["image_size"]
    options.layers = options.layers or (layer if isinstance(layer, list) else [layer])
    options.reference = options.reference or lite.settings["image_reference"]
    options.steps = options.steps or lite.settings["image_steps"]
    pictures = json.loads((options.photos / "annotations.json").read_text())["images"]
    known = json.loads((HERE / "categories.json").read_text())
    print(f"size {options.size}, layers {options.layers}, reference {options.reference}, {options.steps} nodes")
    if options.side != "text":
        rows, shares, names, seconds = image_side(lite, pictures, options.photos, known, options)
        print(f"{len(shares)} cases, box share of the area {np.mean(shares):.3f}, {seconds:.0f} s")
        for kind, values in rows.items():
            report(f"{kind} pointing", [value[0] for value in values])
            report(f"{kind} energy", [value[1] for value in values])
        for category in sorted(set(names)) if options.by_category else ():
            mine = [value for value, name in zip(rows["nib"], names, strict=True) if name == category]
            print(f"  {category:16s} {len(mine)}  {np.mean(mine, axis=0).round(2)}")
    if options.side != "image":
        for kind, values in text_side(lite, pictures, options.photos, known, options).items():
            report(f"{kind} naming words AUC", values)


if __name__ == "__main__":
    main()
