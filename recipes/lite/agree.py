"""How the two towers fit each other: `python recipes/lite/agree.py --cache DIR --photos DIR`. See README.md.

Zero-shot over 1,000 captions "a photo of a NAME" against the trunk's own classifier, and how near captions come to the
concepts that they name. There is no ImageNet here, so accuracy is not measured.
"""

import argparse
import json
from pathlib import Path

import make
import numpy as np
import torch
from PIL import Image
from skimage import data
from torch.nn import functional

import nibt
from nibt.data.images import read_image
from nibt.engine.encode import encode

WORDY = ["a man in a room", "people standing in the snow", "xyzzy plugh 42", "she is very happy"]


def agreement(lite, parts, images):
    """Shares of images whose zero-shot class is the classifier's first, and among its first five."""
    prompts, first, five = make.class_texts(lite.module, parts), [], []
    for image in images:
        pixels = lite.image.prepare([read_image(image)])
        guess = int((lite.image.encode(pixels) @ prompts.T).argmax())
        best = parts.trunk(pixels.values)[0].topk(5).indices.tolist()
        first.append(guess == best[0])
        five.append(guess in best)
    return np.mean(first), np.mean(five)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=make.HERE.parents[1] / "src/nibt/models/embedded/lite")
    parser.add_argument("--cache", type=Path, default=Path("lite-cache"))
    parser.add_argument("--photos", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    parts = make.Ingredients(options.cache)
    listed = json.loads((options.photos / "annotations.json").read_text())["images"]
    photographs = [Image.open(options.photos / item["file"]) for item in listed]
    samples = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]
    for name, images in (("photographs", photographs), ("scikit-image samples", samples)):
        for size in (make.CLASSIFIER_SIZE, make.SIZE):
            first, five = agreement(nibt.load_model(options.model, image_size=size), parts, images)
            print(f"{name} at {size}: classifier's first {first:.3f}, among its first five {five:.3f}")
    lite = nibt.load_model(options.model, image_size=make.CLASSIFIER_SIZE)
    texts, targets = make.class_texts(lite.module, parts), captions_of(parts, parts.concepts)
    print(f"class captions find their concept among 1,000: {own_concept_share(texts, targets):.3f}")
    near = (texts * targets).sum(1)
    print(f"class captions' cosine with it: mean {near.mean():.3f}, lowest tenth below {near.quantile(0.1):.3f}")
    near = (texts_of(lite, ["a photo of a " + name for name in parts.names]) * captions_of(parts, parts.vectors)).sum(1)
    print(f"all {len(near)} names: mean {near.mean():.3f}, lowest tenth below {near.quantile(0.1):.3f}")
    print(
        "captions of nothing known, cosine with the neutral direction:",
        [round(float(value), 2) for value in texts_of(lite, WORDY)[:, -1]],
    )
    print(f"logit scale {lite.scale:.1f}")
    rounding(lite, parts)


def captions_of(parts, vectors):
    """Return the unit vectors of captions that name one concept each."""
    return functional.normalize(torch.stack([parts.space.caption(vector[None]) for vector in vectors]), dim=1)


def texts_of(lite, captions):
    return functional.normalize(encode(lite.text, captions), dim=1)


def own_concept_share(texts, concepts):
    return (texts @ concepts.T).argmax(1).eq(torch.arange(len(concepts))).float().mean()


def rounding(lite, parts):
    """What 16-bit numbers cost: the cosine of the folder's image embedding with one from the package's own weights."""
    pixels = make.samples()[0]
    features = parts.trunk.forward_head(parts.trunk.forward_features(pixels), pre_logits=True)
    exact = functional.normalize(features @ parts.space.projection.T + parts.space.bias, dim=1)
    shipped = functional.normalize(lite.module.encode_image(pixels), dim=1)
    print(f"cosine with 32-bit image embeddings: {float((exact * shipped).sum(1).min()):.6f}")


if __name__ == "__main__":
    main()
