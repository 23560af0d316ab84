"""Write `scene.json`, the mean features of scenes: `python recipes/lite/scene.py --photos DIR`. See README.md.

Only the photographs of the half that settings were chosen on are read.
"""

import argparse
import json
from pathlib import Path

import sources
import torch
from make import HERE, SIZE
from measure import half_of
from PIL import Image
from torchvision.transforms.v2 import functional

from nibt.preprocessing.images import Resize

RESIZE = Resize("whole", SIZE, SIZE, multiple=32)


def pixels(image):
    """Return an image in the size in which `lite` sees it, as the trunk expects it."""
    image = image.convert("RGB").resize(RESIZE.size(image.size), Image.Resampling.BICUBIC)
    return (functional.pil_to_tensor(image)[None] / 255 - sources.MEAN) / sources.STD


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("lite-cache"))
    parser.add_argument("--photos", type=Path, required=True, help="a folder with annotations.json and the images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trunk = sources.trunk(sources.fetch(options.cache))
    images = half_of(json.loads((options.photos / "annotations.json").read_text())["images"], "even")
    with torch.no_grad():
        features = [
            trunk.forward_features(pixels(Image.open(options.photos / image["file"]))).mean((2, 3)) for image in images
        ]
    mean = torch.cat(features).mean(0).tolist()
    (HERE / "scene.json").write_text(json.dumps([round(value, 4) for value in mean]) + "\n")


if __name__ == "__main__":
    main()
