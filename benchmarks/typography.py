"""How well nibt finds text in images, by words that are drawn at known places; for docs/explanation/study_audit.md.

    python benchmarks/typography.py --photos FOLDER    # a folder of photographs; without one, those that nibt ships

Each image is searched as it is, and with a word of each size at a random place, with and without paper below.
A word is found if more than half of its box is in the mask.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from limit import machine
from PIL import Image, ImageDraw, ImageFont

from nibt.data.images import read_image, samples
from nibt.data.typography import text_mask

WORDS = ("cat", "dog", "a red bus", "pizza", "SALE", "umbrella", "Stop here", "owl", "no entry", "keyboard", "EXIT")
SIZES = (0.04, 0.08, 0.15)
"""Of the letters, relative to the longer side of the image."""
DRAWS = 3


def labeled(photo: Image.Image, size: float, paper: bool, draws: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Draw a word in black or white on a copy of a photograph; also returns the mask of its box."""
    image, word, is_dark = photo.copy(), str(draws.choice(WORDS)), draws.random() < 0.5
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(8, round(size * max(image.size))))
    left, top, right, bottom = map(round, draw.textbbox((0, 0), word, font))
    x, y = draws.integers(4, max(5, image.width - right - 4)), draws.integers(4, max(5, image.height - bottom - 4))
    if paper:
        draw.rectangle((x + left - 4, y + top - 4, x + right + 4, y + bottom + 4), "white" if is_dark else "black")
    draw.text((x, y), word, "black" if is_dark else "white", font)
    box = np.zeros((image.height, image.width), bool)
    box[y + top : y + bottom, x + left : x + right] = True
    return image, box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    options = parser.parse_args()
    sources = sorted(map(str, options.photos.glob("*.jpg"))) if options.photos else [f"sample:{n}" for n in samples()]
    photos = [read_image(source).pil_image for source in sources]
    print(f"{machine()}; {len(photos)} images")
    began = time.perf_counter()
    masks = [text_mask(photo) for photo in photos]
    print(f"{(time.perf_counter() - began) / len(photos):.3f} s per image")
    print(
        "as they are: text in", *(Path(source).stem for source, mask in zip(sources, masks, strict=True) if mask.any())
    )
    print(f"share of the area: {np.mean([mask.mean() for mask in masks]):.4f}")
    for paper in (True, False):
        for size in SIZES:
            draws, covered = np.random.default_rng(0), []
            for photo in photos * DRAWS:
                image, box = labeled(photo, size, paper, draws)
                covered.append(text_mask(image)[box].mean())
            share = np.mean(np.array(covered) > 0.5)
            print(
                f"size {size}, {'on paper' if paper else 'on the photograph'}: {share:.2f} of {len(covered)} are found"
            )


if __name__ == "__main__":
    main()
