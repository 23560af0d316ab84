"""How often ``nibt explain --check`` finds a noun of which the map of a caption shows nothing, on photographs.

    OMP_NUM_THREADS=1 python benchmarks/noun_places.py --photos FOLDER [--model lite]

Each photograph is explained with its first two captions. A noun is missing from a map if its sum on the boxes of the
objects that the noun names is not positive; the check does not see the boxes. FOLDER has ``annotations.json`` with the
captions, boxes and grounded words of ``images``. Prints the counts of nouns, on even and on odd photographs.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import nibt
from nibt.data.images import read_image
from nibt.data.pair import Pair
from nibt.evaluation.maps import Map, maps
from nibt.evaluation.vocabulary import WORDING
from nibt.preprocessing.captions import NOUNS
from nibt.registry import MethodSpec

TOP = 0.1


def sum_on_boxes(image_map: Map, boxes):
    """The sum of the cells whose centers are in boxes."""
    scores, region = image_map.scores, image_map.region
    downs = region.top + region.height * (np.arange(scores.shape[0]) + 0.5) / scores.shape[0]
    acrosses = region.left + region.width * (np.arange(scores.shape[1]) + 0.5) / scores.shape[1]
    inside = np.zeros(scores.shape, bool)
    for left, top, width, height in boxes:
        rows = (downs >= top) & (downs <= top + height)
        columns = (acrosses >= left) & (acrosses <= left + width)
        inside |= rows[:, None] & columns
    return float(scores[inside].sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", default="lite")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, method = nibt.load_model(options.model), MethodSpec("nib")
    counts = {"even": Counter(), "odd": Counter()}
    for place, entry in enumerate(json.loads((options.photos / "annotations.json").read_text())["images"]):
        image = read_image(options.photos / entry["file"])
        for number, caption in enumerate(entry["captions"][:2]):
            boxes = {}
            for word in entry["grounded_words"]:
                noun = word["text"].lower()
                noun = noun if noun in NOUNS else noun.removesuffix("s")
                if word["caption"] == number and noun in NOUNS and re.search(rf"\b{noun}", caption.lower()):
                    boxes[noun] = [one["box_xywh"] for one in entry["objects"] if one["category"] == word["category"]]
            if not boxes:
                continue
            captions = [caption, *(WORDING.format(noun) for noun in boxes)]
            of_caption, *of_nouns = maps(model, [Pair(image, one) for one in captions], method, "image", None, 2)
            for noun, alone in zip(boxes, of_nouns, strict=True):
                count = max(1, round(TOP * alone.scores.size))
                top = np.argsort(-alone.scores, axis=None, kind="stable")[:count]
                is_flagged = of_caption.scores.ravel()[top].sum() <= 0
                is_missing = sum_on_boxes(of_caption, boxes[noun]) <= 0
                counts["odd" if place % 2 else "even"][bool(is_missing), bool(is_flagged)] += 1
    print("| photographs | missing, fails | missing, passes | shown, fails | shown, passes |\n|---|---|---|---|---|")
    for half, of_half in counts.items():
        cells = [of_half[key] for key in ((True, True), (True, False), (False, True), (False, False))]
        print(f"| {half} | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
