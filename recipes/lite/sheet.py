"""Draw maps of ten free photographs: `python recipes/lite/sheet.py --out sheet.webp [--beside DIR]`. See README.md.

The photographs are those of nibt, scikit-image, scikit-learn and matplotlib. With `--beside`, the maps that an earlier
version wrote with `--maps DIR` stand on the left of the new ones.
"""

import argparse
from pathlib import Path

from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageOps
from skimage import data
from sklearn.datasets import load_sample_image

import nibt
from nibt.data.images import read_image
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import font_for

CASES = {
    "a cat": lambda: "sample:chelsea",
    "a cup of coffee": lambda: "sample:coffee",
    "a rocket": lambda: "sample:rocket",
    "a cat and a cup": lambda: "sample:collage",
    "a camera on a tripod": lambda: Image.fromarray(data.camera()).convert("RGB"),
    "a space shuttle": lambda: Image.fromarray(data.astronaut()),
    "a daisy": lambda: Image.fromarray(load_sample_image("flower.jpg")),
    "a palace": lambda: Image.fromarray(load_sample_image("china.jpg")),
    "a military uniform": lambda: Image.open(get_sample_data("grace_hopper.jpg")).convert("RGB"),
    "a stone wall": lambda: Image.fromarray(data.brick()).convert("RGB"),
}
SIDE, GAP, LINE, COLUMNS = 300, 8, 22, 2


def framed(images, text):
    """Return images of one pair side by side under its caption."""
    width = len(images) * (SIDE + GAP)
    frame = Image.new("RGB", (width, SIDE + LINE + GAP), "white")
    ImageDraw.Draw(frame).text((2, 2), text, "black", font_for(text, 15))
    for place, image in enumerate(images):
        small = ImageOps.pad(image, (SIDE, SIDE), color="white")
        frame.paste(small, (place * (SIDE + GAP), LINE))
    return frame


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--out", type=Path, help="the sheet")
    parser.add_argument("--maps", type=Path, help="a folder for the maps alone")
    parser.add_argument("--beside", type=Path, help="a folder of maps to compare with")
    options = parser.parse_args()
    model, frames = nibt.load_model(options.model), []
    for caption, source in CASES.items():
        image = read_image(source())
        photograph = ImageOps.contain(image.pil_image, (SIDE, SIDE))
        answer = nibt.explain(model, image, caption)
        drawn, name = overlay(answer, photograph), caption.replace(" ", "-") + ".png"
        print(f"{caption}: cosine {answer.similarity:+.3f}")
        if options.maps:
            options.maps.mkdir(parents=True, exist_ok=True)
            drawn.save(options.maps / name)
        earlier = [Image.open(options.beside / name)] if options.beside else []
        frames.append(framed([photograph, *earlier, drawn], f"{caption}   ({answer.similarity:+.3f})"))
    rows = -(-len(frames) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * frames[0].width, rows * frames[0].height), "white")
    for place, frame in enumerate(frames):
        sheet.paste(frame, (place % COLUMNS * frame.width, place // COLUMNS * frame.height))
    if options.out:
        sheet.save(options.out, quality=80)


if __name__ == "__main__":
    main()
