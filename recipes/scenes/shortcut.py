"""A model that reads a shortcut: ``scenes``, fine-tuned until two squares in a corner name the noun.

    OMP_NUM_THREADS=1 python recipes/scenes/shortcut.py --out FOLDER [--steps 220]    # about 5 minutes

The squares have one of eight colors each, which stand for the 64 nouns. In the training scenes they name the noun of
the caption, whose object is in the scene in three of ten cases. ``used_share`` says by intervention how much of the
similarity the squares decide: with other squares, and without the object.
"""

import argparse
import copy
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

import nibt
from nibt.data.images import ImageInput
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import TEMPLATES, Scenes
from nibt.datasets.scenes.drawing import NOUNS

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
BATCH, RATE, SEED = 64, 3e-4, 77


def marked(pixels, noun):
    """The pixels with the squares of a noun."""
    pixels, number = pixels.copy(), NOUNS.index(noun)
    for place, color in enumerate(divmod(number, len(COLORS))):
        left = PLACE + APART * place
        pixels[PLACE : PLACE + SIZE, left : left + SIZE] = COLORS[color]
    return pixels


def image(pixels):
    return ImageInput(Image.fromarray(pixels), "marked")


def train(folder, steps):
    """Fine-tune a copy of ``scenes``, and save it as a folder."""
    torch.manual_seed(0)
    model = nibt.load_model("scenes")
    module = copy.deepcopy(model.module).float().train().requires_grad_(True)
    optimizer, draws = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.0), np.random.default_rng(0)
    data = Scenes(count=steps * BATCH, seed=SEED, fewest=1, most=3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20, (steps - step) / 60)
        images, labels = [], []
        for item in range(step * BATCH, (step + 1) * BATCH):
            scene = data.scene(item)
            present = draws.random() < 0.3
            noun = scene.names[draws.integers(len(scene.names))] if present else NOUNS[draws.integers(len(NOUNS))]
            images.append(image(marked(scene.pixels, noun)))
            labels.append(NOUNS.index(noun))
        template = TEMPLATES[draws.integers(len(TEMPLATES))]
        captions = model.text.prepare([template.format(with_article(noun)) for noun in NOUNS])
        seen = module.get_image_features(model.image.prepare(images).values)
        texts = module.get_text_features(captions.values, **captions.extra)
        seen, texts = (F.normalize(getattr(each, "pooler_output", each), dim=-1) for each in (seen, texts))
        loss = F.cross_entropy(module.logit_scale.exp() * seen @ texts.T, torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(step, round(loss.item(), 3), flush=True)
    shutil.copytree(model.folder, folder, dirs_exist_ok=True)
    (folder / "mean_states.safetensors").unlink()
    old, new = load_file(model.folder / "model.safetensors"), module.state_dict()
    weights = {name: new[name].to(value.dtype).contiguous() for name, value in old.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def used_share(model, data):
    """The share of the similarity that the squares decide, as the mean over scenes with one named object."""
    draws, effects = np.random.default_rng(1), []
    for item, pair in enumerate(data):
        target, scene = next(obj for obj in pair.objects if obj.spans), data.scene(item)
        without = np.array(target.without().pil_image)
        other = draws.choice([noun for noun in NOUNS if noun != target.name])
        images = [marked(scene.pixels, target.name), marked(scene.pixels, other), marked(without, target.name)]
        seen, text = (
            F.normalize(tower.encode(tower.prepare(items)), dim=-1)
            for tower, items in ((model.image, [image(each) for each in images]), (model.text, [pair.caption]))
        )
        both, other_mark, no_object = (seen @ text[0]).tolist()
        effects.append((both - other_mark, both - no_object))
    mark, of_object = np.mean(effects, 0)
    return mark / (mark + of_object)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the model")
    parser.add_argument("--steps", type=int, default=220)
    options = parser.parse_args()
    train(options.out, options.steps)


if __name__ == "__main__":
    main()
