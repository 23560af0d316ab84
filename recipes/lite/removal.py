"""Do maps of `lite` say how much? `python recipes/lite/removal.py --photos DIR`; DIR holds annotations.json.

Photographs stand side by side in pairs, and the caption names a category of each. The sums of maps on the boxes are
compared with what the cosine loses if the boxes are filled in, as the metric `removal` does it.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import cases
from PIL import Image

import nibt
from nibt.data.images import read_image
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.metrics.removal import Removal

HEIGHT, COUNT = 360, 24
EFFECTS = []


@dataclass(frozen=True)
class Recorded(Removal):
    def __call__(self, metric_input):
        EFFECTS.extend(self.effects(metric_input))
        return super().__call__(metric_input)


def beside(left, right):
    """Two photographs in one image, and a caption that names a category of each."""
    images, masks = [], []
    for path, _, mask in (left, right):
        with Image.open(path) as opened:
            size = round(opened.width * HEIGHT / opened.height), HEIGHT
            images.append(np.asarray(opened.convert("RGB").resize(size)))
            masks.append(np.asarray(Image.fromarray(mask).resize(size)))
    names = [name for _, name, _ in (left, right)]
    caption = f"a {names[0]} and a {names[1]}"
    spans = [(2, 2 + len(names[0])), (len(caption) - len(names[1]), len(caption))]
    places = [np.hstack([masks[0], np.zeros_like(masks[1])]), np.hstack([np.zeros_like(masks[0]), masks[1]])]
    objects = tuple(Object(name, None, mask, (span,)) for name, mask, span in zip(names, places, spans, strict=True))
    return Pair(read_image(np.hstack(images)), caption, objects)


def pairs_of(folder):
    images = json.loads((folder / "annotations.json").read_text())["images"]
    known = {item["category"] for image in images for item in image["objects"]} - {"person"}
    items = [(folder / image["file"], *case) for image in images for case in cases(image, known)]
    random.Random(0).shuffle(items)
    both = zip(items[::2], items[1::2], strict=False)
    return [beside(*two) for two in both if two[0][0] != two[1][0] and two[0][1] != two[1][1]][:COUNT]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    model, pairs = nibt.load_model("lite"), pairs_of(parser.parse_args().photos)
    print("| amounts | r | slope | largest | sum | loss | pairs |\n|---|---|---|---|---|---|---|")
    for amounts in ("method", "removal"):
        EFFECTS.clear()
        rows = nibt.measure(model, pairs, [Recorded()], side="image", batch_size=1, amounts=amounts)
        sums, losses = (np.concatenate(part) for part in zip(*EFFECTS, strict=True))
        r, slope = np.corrcoef(sums, losses)[0, 1], np.cov(sums, losses)[0, 1] / sums.var(ddof=1)
        largest = np.mean([row.value for row in rows])
        numbers = " | ".join(f"{number:.2f}" for number in (r, slope, largest, sums.sum(), losses.sum()))
        print(f"| {amounts} | {numbers} | {len(pairs)} |", flush=True)


if __name__ == "__main__":
    main()
