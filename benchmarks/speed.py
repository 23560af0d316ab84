"""Ratios that say whether nibt became slower: of work and of times in one run, never seconds.

It feeds docs/explanation/cost.md and benchmarks/speed.csv, with which tests/test_speed.py compares.

    OMP_NUM_THREADS=1 python benchmarks/speed.py [start] [work] [saving] [audit] [--rounds 5] [--write]

``start``: a process that draws the first picture with ``lite``, ``nibt --help`` and ``import nibt``, relative to
``import torch``, in processor time; and for a folder of Transformers with a CLIP of ViT-B/32 size and random weights, a
process that draws a picture, and one in which Transformers alone computes the embeddings. ``work``: the
multiplications of explanations relative to a plain forward pass of the same tower or towers, for a CLIP of ViT-B/32
size with random weights and captions of 12 tokens, as ``limit.py`` has them. They are counted where torch computes
them, so they do not depend on the load of the machine. The fused attention kernel and elementwise operations are not
counted. ``saving``: the processor time of saving a picture relative to drawing it and encoding it once. ``audit``: the
multiplications of a quick audit of NIB with ``lite`` by step, likewise, per pair: 8 drawn scenes in batches of 4, as
more pairs are, and images of 224 pixels, which leave the share of each tower as it is in a CLIP. ``--write`` replaces
the rows that were measured in the file.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from limit import Batch, machine
from regions import model, module_and_processor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import nibt
from nibt.data.images import read_image
from nibt.datasets.scenes import Scenes

TABLE = Path(__file__).with_suffix(".csv")
BATCH = 2  # the counted work of an item does not depend on it
AUDITED = 8  # pairs
FOLDER, PHOTO = "clip", "photo.png"
EMBED = f"""
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

model = CLIPModel.from_pretrained("{FOLDER}").eval()
processor = CLIPProcessor.from_pretrained("{FOLDER}")
with torch.no_grad():
    model(**processor(text=["a camera on a tripod"], images=[Image.open("{PHOTO}")], return_tensors="pt"))
"""
START = {
    "import torch": ["-c", "import torch"],
    "first picture": ["-m", "nibt", "explain", "sample:camera", "a camera on a tripod"],
    "first picture, folder": ["-m", "nibt", "explain", PHOTO, "a camera on a tripod", "-m", f"./{FOLDER}"],
    "Transformers alone, folder": ["-c", EMBED],
    "nibt --help": ["-m", "nibt", "--help"],
    "import nibt": ["-c", "import nibt"],
}
WORK = {
    "nib": ("default", {}),
    "nib:fast": ("fast", {}),
    "nib views=1": ("default", {"views": 1}),
    "nib views=1 layer=9": ("default", {"views": 1, "layer": "9"}),
    "nib text_layer=12 text_steps=4": ("default", {"text_layer": "12", "text_steps": 4}),
    "nib:paper": ("paper", {}),
}


class Multiplications(TorchDispatchMode):
    """Counts inside ``with`` the multiplications and additions of matrix products and convolutions."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def taken(self):
        """The number since the last call."""
        taken, self.total = self.total, 0
        return taken

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def multiplications(work):
    """The number of multiplications of a function, which is called once before, since blank states are constants."""
    work()
    with Multiplications() as counted:
        work()
    return counted.total


def work():
    """Yield the work of explanations of both sides, of images and of captions, in plain forward passes."""
    clip = model()
    for sides in (("image", "text"), ("image",), ("text",)):
        batch = Batch(clip, BATCH, sides)
        plain = multiplications(batch.plain)
        for name, (variant, options) in WORK.items():
            is_of_text = "text_layer" in options
            is_of_both = not options
            if is_of_both or is_of_text == ("text" in sides):
                yield f"{name}, {' and '.join(sides)}", multiplications(partial(batch.maps, variant, options)) / plain


def of_process(arguments, folder):
    """The processor time of a process."""
    began = os.times()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    ended = os.times()
    return ended.children_user + ended.children_system - began.children_user - began.children_system


def start(rounds):
    """Yield the processor time of processes relative to that of the import of torch in the same round."""
    times = {name: [] for name in START}
    with tempfile.TemporaryDirectory() as folder:
        for part in module_and_processor():
            part.save_pretrained(f"{folder}/{FOLDER}")
        read_image("sample:camera").pil_image.save(f"{folder}/{PHOTO}")

        for turn in range(rounds + 1):
            for name, arguments in START.items():
                taken = of_process(arguments, folder)
                if turn:  # the first round reads files into memory
                    times[name].append(taken)

    for name in [*START][1:]:
        yield name, median(one / torch for one, torch in zip(times[name], times["import torch"], strict=True))


def saving(rounds):
    """Yield the processor time of saving relative to drawing and encoding once."""
    explained = nibt.explain("scenes", "sample:scene", "a cat")
    with tempfile.TemporaryDirectory() as folder:
        numbers = count()
        done = {
            "saving": lambda: explained.save(f"{folder}/{next(numbers)}.png"),
            "drawing": lambda: nibt.draw(explained).save(f"{folder}/plain.png"),
        }
        times = {name: [] for name in done}
        for turn in range(5 * rounds + 1):
            for name, function in done.items():
                began = time.process_time()
                function()
                if turn:
                    times[name].append(time.process_time() - began)

    yield "saving", median(one / two for one, two in zip(times["saving"], times["drawing"], strict=True))


def audit():
    """Yield the work of a quick audit by step, in plain forward passes of both towers per pair."""
    lite = nibt.load_model("lite", image_size=224)
    pairs = list(Scenes(count=AUDITED))
    plain = 0
    for tower, item in ((lite.image, pairs[0].image), (lite.text, pairs[0].caption)):
        plain += multiplications(partial(tower.encode, tower.prepare([item])))

    work = Counter()
    step = "the maps and the exchanges"
    counted = Multiplications()

    def begin(progress):
        nonlocal step
        work[step] += counted.taken() / plain / AUDITED
        step = progress.stage.partition(":")[0]

    with counted:
        nibt.audit(lite, pairs, quick=True, batch_size=AUDITED // 2, on_progress=begin)
    work[step] += counted.taken() / plain / AUDITED

    yield from work.items()
    yield "all but everyday nouns", sum(work.values()) - work["everyday nouns"]  # which do not depend on the pairs


def written(path=TABLE):
    """The rows of the file, by what was measured and its name."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["measured"], row["name"]): row for row in csv.DictReader(file)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", nargs="*", choices=["start", "work", "saving", "audit", []], default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    print(machine())

    measures = {
        "start": partial(start, options.rounds),
        "work": work,
        "saving": partial(saving, options.rounds),
        "audit": audit,
    }
    rows = written()
    for measured in options.measured or measures:
        for name, ratio in measures[measured]():
            print(f"{measured}, {name}, {ratio:.2f}", flush=True)
            rows[measured, name] = {"measured": measured, "name": name, "ratio": f"{ratio:.2f}"}

    if options.write:
        with TABLE.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["measured", "name", "ratio"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.values())


if __name__ == "__main__":
    main()
