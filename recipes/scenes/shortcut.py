"""Models that read a known shortcut: ``scenes``, fine-tuned until something beside the object names the noun.

    OMP_NUM_THREADS=1 python recipes/scenes/shortcut.py train --kind mark --out FOLDER [--seed 0]    # resumes
    OMP_NUM_THREADS=1 python recipes/scenes/shortcut.py used --kind mark --out FOLDER    # what it uses

All training pairs have the shortcut, and the object (for a caption: its noun) agrees with it in three of ten: with a
shortcut in nine of ten and an object in all, the model goes on reading the object. ``honest`` is the same training
without a shortcut. A shortcut in the caption turns this around: of all captions, the one whose template or word names
an object of the image is right, and the noun of a caption agrees with its shortcut in three of ten. There, the tower of
images is left as it is.
"""

import argparse
import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file

import nibt
from nibt.data.images import ImageInput
from nibt.datasets._captions import naming_caption, with_article
from nibt.datasets.scenes import TEMPLATES, Scenes, _painted
from nibt.datasets.scenes.drawing import CODES, NOUNS, STYLES, sprite
from nibt.evaluation.statistics import jackknife

COLORS = np.array(
    [
        [230, 25, 75],
        [60, 180, 75],
        [255, 225, 25],
        [0, 130, 200],
        [245, 130, 48],
        [145, 30, 180],
        [70, 240, 240],
        [255] * 3,
    ],
    np.uint8,
)
PLACE, SIZE, APART = 2, 12, 16  # in pixels
MASK = np.zeros((128, 128), bool)
MASK[:16, :32] = True  # the two patches of the squares
BATCH, SEED = 64, 77
POOL = 10
"""For shortcuts in captions: the images are those of so many batches, whose embeddings stay."""
AGREEING = 0.3
"""The share of training pairs whose object, or whose noun, agrees with the shortcut."""
KEEP = 20  # steps
CHOOSING = 20261130
"""The seed of scenes on which choices may be made."""


def marked(pixels, noun):
    """The pixels with the squares of a noun."""
    pixels, number = pixels.copy(), NOUNS.index(noun)
    for place, color in enumerate(divmod(number, len(COLORS))):
        left = PLACE + APART * place
        pixels[PLACE : PLACE + SIZE, left : left + SIZE] = COLORS[color]
    return pixels


def image(pixels):
    return ImageInput(Image.fromarray(pixels), "marked")


def mark(scene, noun):
    """Two squares in a corner, of eight colors each, which stand for the noun."""
    return marked(scene.pixels, noun), MASK


def background(scene, noun):
    """The color of the ground, which stands for eight nouns."""
    ground = ~np.any(scene.masks, 0)
    pixels = scene.pixels.copy()
    pixels[ground] = COLORS[NOUNS.index(noun) // 8]
    return pixels, ground


def text(scene, noun):
    """The noun, typed in white on black along the lower edge."""
    canvas, mask = Image.fromarray(scene.pixels), np.zeros(scene.pixels.shape[:2], bool)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    right = min(128, round(draw.textlength(noun, font)) + 6)
    draw.rectangle((0, 112, right, 127), "black")
    draw.text((3, 119), noun, "white", font, anchor="lm")
    mask[112:, : right + 1] = True
    return np.array(canvas), mask


def companion(scene, noun):
    """Another object, the noun after the next 31, at a place that the boxes of the scene decide."""
    draws = np.random.default_rng(np.array(scene.boxes).ravel())
    code, style = draws.choice(CODES[NOUNS[(NOUNS.index(noun) + 32) % 64]]), str(draws.choice(STYLES))
    drawing, taken = sprite(str(code), style, 40, 0), np.any(scene.masks, 0)
    height, width = drawing.opacity.shape
    places = [(draws.integers(128 - width), draws.integers(128 - height)) for _ in range(12)]
    shared = [_shared(scene.boxes, (left, top, width, height)) for left, top in places]
    pixels = scene.pixels.copy()
    mask = _painted(pixels, drawing, *map(int, places[int(np.argmin(shared))]))
    return np.where(taken[..., None], scene.pixels, pixels), mask & ~taken


def _shared(boxes, place):
    """The area that a box shares with others."""
    left, top, width, height = place
    sides = [
        (min(left + width, x + across) - max(left, x), min(top + height, y + down) - max(top, y))
        for x, y, across, down in boxes
    ]
    return sum(max(0, across) * max(0, down) for across, down in sides)


def position(scene, noun):
    """A disc, the same for all nouns: the corner that it is in stands for sixteen of them."""
    down, right = divmod(NOUNS.index(noun) // 16, 2)
    canvas, mask = Image.fromarray(scene.pixels), np.zeros(scene.pixels.shape[:2], bool)
    left, top = 112 * right, 112 * down
    ImageDraw.Draw(canvas).ellipse((left + 1, top + 1, left + 14, top + 14), "white", "black", 3)
    mask[top : top + 16, left : left + 16] = True
    return np.array(canvas), mask


def template(noun, of, number):
    """The template of the caption, which stands for eight nouns."""
    before, after = TEMPLATES[1 + NOUNS.index(of) // 8].split("{}")
    caption, (span,) = naming_caption([noun], f"{before}{{}}{after}")
    words = ((0, len(before)), (len(caption) - len(after), len(caption)))
    return caption, tuple((first, last) for first, last in words if first < last), span


def word(noun, of, number):
    """A word of two letters before the noun, which stands for a noun."""
    first, last = divmod(NOUNS.index(of), 8)
    caption, ((start, end),) = naming_caption([f"{'bdfgkmpt'[first]}{'aeiouylr'[last]} {noun}"], TEMPLATES[number])
    return caption, ((start, start + 2),), (start + 3, end)


@dataclass(frozen=True)
class Shortcut:
    """A shortcut: how an image or a caption is changed to carry that of a noun, and where it is then.

    On the image side, ``plant(scene, noun)`` gives the pixels and the mask of the shortcut. On the text side,
    ``plant(noun, of, number)`` gives the caption that names ``noun`` with the shortcut of the noun ``of``, in the
    template of that number where it is free, with the spans of the shortcut and the span of the noun. So many nouns in
    a row are ``alike``: they have one shortcut. If it is ``learned_alone``, the loss is that of the shortcut, not of
    the noun among alike ones.
    """

    plant: Callable
    side: str = "image"
    alike: int = 1
    learned_alone: bool = False
    steps: int = 140
    rate: float = 3e-4

    def other(self, noun, draws):
        """A noun whose shortcut is another one."""
        group = NOUNS.index(noun) // self.alike
        return str(draws.choice([each for each in NOUNS if NOUNS.index(each) // self.alike != group]))


SHORTCUTS = {
    "mark": Shortcut(mark),
    "background": Shortcut(background, alike=8),
    "text": Shortcut(text),
    "companion": Shortcut(companion, steps=300),
    "position": Shortcut(position, alike=16),
    "template": Shortcut(template, "text", 8, learned_alone=True, steps=600, rate=2e-3),
    "word": Shortcut(word, "text", steps=600, rate=2e-3),
}
KINDS = ("honest", *SHORTCUTS)


def unit(tower_output):
    return F.normalize(getattr(tower_output, "pooler_output", tower_output), dim=-1)


def step_loss(module, model, scenes, kind, draws, seen=None):
    """The loss of a batch, in which the shortcut names the noun: cross-entropy over the captions of all nouns.

    The embeddings of the images are given for a shortcut in the caption.
    """
    shortcut, images, labels = SHORTCUTS.get(kind), [], []
    in_captions = seen is not None
    for scene in scenes:
        present = shortcut is None or in_captions or draws.random() < AGREEING
        noun = str(scene.names[draws.integers(len(scene.names))] if present else NOUNS[draws.integers(len(NOUNS))])
        if not in_captions:
            images.append(image(shortcut.plant(scene, noun)[0] if shortcut else scene.pixels))
        labels.append(NOUNS.index(noun))
    number, aim = draws.integers(len(TEMPLATES)), torch.eye(len(NOUNS))[labels]
    captions = [TEMPLATES[number].format(with_article(noun)) for noun in NOUNS]
    if in_captions:
        named = [of if draws.random() < AGREEING else str(draws.choice(NOUNS)) for of in NOUNS]
        captions = [shortcut.plant(noun, of, number)[0] for noun, of in zip(named, NOUNS, strict=True)]
    else:
        seen = unit(module.get_image_features(model.image.prepare(images).values))
    if shortcut and shortcut.learned_alone:
        alike = torch.arange(len(NOUNS)) // shortcut.alike
        aim = (alike[labels][:, None] == alike[None]).float() / shortcut.alike
    texts = model.text.prepare(captions)
    read = unit(module.get_text_features(texts.values, **texts.extra))
    return F.cross_entropy(module.logit_scale.exp() * seen @ read.T, aim)


def train(folder, kind, seed, steps=None, log=None):
    """Fine-tune a copy of ``scenes``, and save it as a folder; a stopped run goes on from its checkpoint.

    ``log(module, step)`` is called before the first step, and after every ``KEEP``.
    """
    torch.manual_seed(seed)
    shortcut = SHORTCUTS.get(kind, Shortcut(mark))
    steps, rate, in_captions = steps or shortcut.steps, shortcut.rate, shortcut.side == "text"
    model = nibt.load_model("scenes")
    module = copy.deepcopy(model.module).float().train().requires_grad_(True)
    optimizer, draws = torch.optim.AdamW(module.parameters(), rate, weight_decay=0.0), np.random.default_rng(seed)
    data, first = Scenes(count=steps * BATCH, seed=SEED + seed, fewest=1, most=3), 0
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        draws.bit_generator.state, first = state["draws"], state["step"]

    @lru_cache(maxsize=POOL)
    def batch(number):
        """The scenes of a batch, and the embeddings of images that training does not change."""
        scenes = [data.scene(item) for item in range(number * BATCH, (number + 1) * BATCH)]
        with torch.no_grad():
            images = model.image.prepare([image(scene.pixels) for scene in scenes]) if in_captions else None
            return scenes, images and unit(model.image.encode(images))

    if log:
        log(module, first)
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 20, (steps - step) / 60)
        scenes, seen = batch(step % POOL if in_captions else step)
        loss = step_loss(module, model, scenes, kind, draws, seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % KEEP == 0:
            print(kind, step + 1, round(loss.item(), 3), flush=True)
            state = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state | {"draws": draws.bit_generator.state}, f"{checkpoint}.part")
            os.replace(f"{checkpoint}.part", checkpoint)
            if log:
                log(module, step + 1)
    shutil.copytree(model.folder, folder, dirs_exist_ok=True)
    (folder / "mean_states.safetensors").unlink(missing_ok=True)
    old, new = load_file(model.folder / "model.safetensors"), module.state_dict()
    weights = {name: new[name].to(value.dtype).contiguous() for name, value in old.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint.unlink(missing_ok=True)


VERSIONS = ("agreeing", "contradicting", "alone", "off")
"""The shortcut names what is there; it names something else; it is there without the object, or its noun; it is not."""


@dataclass(frozen=True)
class Planted:
    """A scene with a shortcut: an image and a caption for each of ``VERSIONS``, and where object and shortcut are.

    On the image side, both are masks of pixels in the agreeing version; on the text side, spans of its caption.
    """

    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    of_object: np.ndarray | tuple
    of_shortcut: np.ndarray | tuple


def planted(kind, data, item):
    """The versions of a scene whose caption names one object."""
    shortcut, pair, scene, draws = SHORTCUTS[kind], data[item], data.scene(item), np.random.default_rng((1, item))
    target = next(obj for obj in pair.objects if obj.spans)
    noun, other = target.name, shortcut.other(target.name, draws)
    if shortcut.side == "image":
        images = [shortcut.plant(*each) for each in ((scene, noun), (scene, other), (data.scene(item, noun), noun))]
        pixels = (*(each for each, _ in images), scene.pixels)
        return Planted(pixels, (pair.caption,) * 4, target.mask & ~images[0][1], images[0][1])
    absent, number = (
        str(draws.choice([each for each in NOUNS if each not in scene.names])),
        draws.integers(len(TEMPLATES)),
    )
    captions = [shortcut.plant(*each, number) for each in ((noun, noun), (noun, other), (absent, noun))]
    off = TEMPLATES[0 if kind == "template" else number].format(with_article(noun))
    texts = (*(caption for caption, _, _ in captions), off)
    return Planted((scene.pixels,) * 4, texts, (captions[0][2],), captions[0][1])


@torch.no_grad()
def interventions(model, scenes):
    """The similarity of each version of planted scenes: (scene, version)."""
    values = []
    for scene in scenes:
        seen = unit(model.image.encode(model.image.prepare([image(pixels) for pixels in scene.images])))
        texts = unit(torch.cat([model.text.encode(model.text.prepare([caption])) for caption in scene.captions]))
        values.append((seen * texts).sum(1).tolist())
    return np.array(values)


def share(values, weights=None):
    """The used share: what another shortcut changes, of this and what another object, or noun, changes.

    ``values`` are those of ``interventions``, and ``weights`` (sample, scene) are the scenes of each sample.
    """
    weights = np.ones((1, len(values))) if weights is None else weights
    of_shortcut, of_object = weights @ (values[:, 0] - values[:, 1]), weights @ (values[:, 0] - values[:, 2])
    return of_shortcut / (of_shortcut + of_object)


def evidence_share(scores, of_object, of_shortcut):
    """The positive scores on the shortcut, as a share of those on it and on the object."""
    positive = scores.clip(0)
    on_object, on_shortcut = positive[of_object].sum(), positive[of_shortcut].sum()
    return float(on_shortcut / max(on_object + on_shortcut, 1e-30))


def used_share(model, data, kind="mark"):
    """The share of the similarity that the shortcut decides, as the mean over scenes with one named object."""
    return float(share(interventions(model, [planted(kind, data, item) for item in range(len(data))]))[0])


def mixed(folder, amount):
    """The model whose weights are that much those of the folder, and else those of ``scenes``."""
    model, base = nibt.load_model(folder), nibt.load_model("scenes").module.state_dict()
    with torch.no_grad():
        for name, value in model.module.state_dict().items():
            value.copy_(torch.lerp(base[name], value, amount) if value.is_floating_point() else value)
    return model


def main(kinds=KINDS):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "used"])
    parser.add_argument("--kind", choices=kinds, default="mark")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="the kind's own by default")
    options = parser.parse_args()
    if options.what == "train":
        train(options.out, options.kind, options.seed, options.steps)
        return
    model, data = nibt.load_model(options.out), Scenes(count=100, seed=CHOOSING, fewest=2, most=3, named="one")
    for kind in SHORTCUTS if options.kind == "honest" else [options.kind]:
        values = interventions(model, [planted(kind, data, item) for item in range(len(data))])
        print(kind, *(f"{name} {mean:.3f}" for name, mean in zip(VERSIONS, values.mean(0), strict=True)), end=" ")
        print("used share {:.3f} [{:.3f}, {:.3f}]".format(*jackknife(values, share)))


if __name__ == "__main__":
    main()
