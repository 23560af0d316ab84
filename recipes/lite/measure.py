"""Measure `lite`, or any model, on boxed photographs: `python recipes/lite/measure.py --photos DIR`. See README.md.

Maps come from nibt itself, as its users get them; judgements from `scoring.py`; this file chooses the cases and prints
the tables.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scoring import energy, interval, points, ranking, union_mask, upsample

import nibt
from nibt.report.image.heatmap import score_map

HERE = Path(__file__).parent
LEAST, MOST = 0.01, 0.35  # of the image: the cases' share of the area


def half_of(images, half):
    """Return the photographs of a half: `even` was used to choose settings, `odd` was not."""
    return images if half == "all" else images[half == "odd" :: 2]


def caption_of(category):
    return f"a photo of {'an' if category[0] in 'aeiou' else 'a'} {category}"


def cases(image, known):
    """(category, mask) of the categories in an image that ImageNet knows and that cover 1 to 35 % of it."""
    size = image["width"], image["height"]
    for category in sorted({item["category"] for item in image["objects"]} & set(known)):
        boxes = [item["box_xywh"] for item in image["objects"] if item["category"] == category]
        mask = union_mask(boxes, size)
        if LEAST <= mask.mean() <= MOST:
            yield category, mask


def center(shape):
    """A bump in the middle: what any map must beat."""
    down, across = (np.linspace(-1, 1, side) for side in shape)
    return np.exp(-2 * (down[:, None] ** 2 + across[None, :] ** 2))


def image_side(model, images, photos, known, method):
    """Rows of (pointing, energy) by map, and the cases' share of the area."""
    rows, chance, shares = {"nib": [], "center prior": [], "random map": []}, np.random.default_rng(0), []
    for image in images:
        known_cases = list(cases(image, known))
        captions = [caption_of(category) for category, _ in known_cases]
        answers = nibt.explain(model, photos / image["file"], captions, method) if known_cases else []
        for (_, mask), answer in zip(known_cases, answers, strict=True):
            shares.append(mask.mean())
            noise = upsample(chance.standard_normal((14, 14)), (image["width"], image["height"]))
            maps = {"nib": score_map(answer), "center prior": center(mask.shape), "random map": noise}
            for kind, scores in maps.items():
                rows[kind].append((points(scores, mask), energy(scores, mask)))
    return rows, shares


def text_side(model, images, photos, known, method):
    """AUC of the naming words over the other words of a caption."""
    values = []
    for image in images:
        named = {}
        for word in image["grounded_words"]:
            if word["category"] in known:
                named.setdefault(word["caption"], []).append((word["start"], word["end"]))
        captions = [image["captions"][number] for number in named]
        answers = nibt.explain(model, photos / image["file"], captions, method) if captions else []
        for answer, spans in zip(answers, named.values(), strict=True):
            values.append(naming(answer, spans))
    return [value for value in values if value is not None]


def naming(answer, spans):
    """The AUC of one caption; its words stand in their order, so each is looked for behind the one before."""
    scores, truth, place = [], [], 0
    for word in answer.words:
        start = answer.caption.index(word.text, place)
        place = start + len(word.text)
        scores.append(word.score)
        truth.append(any(first < place and start < last for first, last in spans))
    return ranking(scores, truth)


def report(name, values):
    print(f"{name:28s} {{:.3f}} [{{:.2f}}, {{:.2f}}]  n={len(values)}".format(*interval(values)), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--photos", type=Path, required=True, help="a folder with annotations.json and the images")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--half", choices=["even", "odd", "all"], default="all")
    parser.add_argument("--side", choices=["image", "text", "both"], default="both")
    parser.add_argument("--method", default="nib", help="with its options, such as 'nib text_steps=1'")
    arguments = parser.parse_args()
    model = nibt.load_model(arguments.model, image_size=arguments.image_size)
    images = half_of(json.loads((arguments.photos / "annotations.json").read_text())["images"], arguments.half)
    known = json.loads((HERE / "categories.json").read_text())
    packages = ", ".join(f"{name} {version(name)}" for name in ("nibt", "torch", "timm", "open_clip_torch"))
    print(f"{time.strftime('%Y-%m-%d')}; Python {platform.python_version()}, {packages}; weights {model.weights_hash}")
    if arguments.side != "text":
        rows, shares = image_side(model, images, arguments.photos, known, arguments.method)
        print(f"{len(shares)} cases, box share of the area {np.mean(shares):.3f}")
        for kind, values in rows.items():
            report(f"{kind}: pointing", [value[0] for value in values])
            report(f"{kind}: energy", [value[1] for value in values])
    if arguments.side != "image":
        report("naming words: AUC", text_side(model, images, arguments.photos, known, arguments.method))


if __name__ == "__main__":
    main()
