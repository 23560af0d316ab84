"""Make the embedded model `lite`: `python recipes/lite/make.py --out DIR`. See README.md.

One CPU thread and about half an hour; seeded; a run that is cut short goes on from its checkpoint in the cache.
"""

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import joint
import numpy as np
import open_clip
import sources
import tokens as tokenizer
import torch
import words
from captions import Writer
from PIL import Image
from safetensors.torch import save_file
from skimage import data

import nibt
from nibt.models._mean_states import MeanStates

WIDTH = 320
CAPTIONS = ("{}", "a photo of a {}", "there is a {} on the table in the room")  # of the mean states
HERE = Path(__file__).parent
SETTINGS = json.loads((HERE / "settings.json").read_text())
SIZE = SETTINGS["image_size"]
CLASSIFIER_SIZE = 256


def configuration(vocabulary_size):
    vision = {
        "timm_model_name": sources.MODEL,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_proj_bias": True,
        "image_size": CLASSIFIER_SIZE,
    }
    text = {
        "context_length": tokenizer.CONTEXT,
        "vocab_size": vocabulary_size,
        "hf_tokenizer_name": "lite",
        "width": WIDTH,
        "heads": 5,
        "layers": 2,
        "mlp_ratio": 2.0,
        "pool_type": "argmax",
    }
    model = {"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    image = {
        "mean": [sources.MEAN] * 3,
        "std": [sources.STD] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    return {"model_cfg": model, "preprocess_cfg": image}


class Ingredients:
    """Everything that training and writing need, from the packages in the cache."""

    def __init__(self, cache):
        self.trunk = sources.trunk(sources.fetch(cache))
        self.net, self.offsets = sources.wordnet(cache), sources.classes()
        self.names = words.names(self.offsets, self.net)
        self.neutral = words.neutral_words(self.net, self.names)
        self.numbers = tokenizer.vocabulary(self.names, self.neutral)
        blanks = joint.blank_features(self.trunk, sources.MEAN, sources.STD)
        scene = torch.tensor(json.loads((HERE / "scene.json").read_text()))
        self.space = joint.JointSpace(self.trunk, WIDTH, blanks, scene)
        self.rows = {name: row for row, name in enumerate(self.names)}
        self.vectors = torch.stack([self.space.name(indices) for indices in self.names.values()])
        self.concepts = torch.stack([self.space.name([index]) for index in range(len(self.offsets))])

    def lookup(self, text):
        unknown = self.numbers[tokenizer.UNKNOWN]
        return [self.numbers.get(word, unknown) for word in text.split()]

    def writer(self, seed):
        firsts = words.first_names(self.offsets, self.net)
        everyday = [words.simple(name) for name in json.loads((HERE / "everyday.json").read_text())]
        everyday = [form for name in everyday for form in (name, words.plural(name, self.net.plurals))]
        listed = set((HERE / "neutral.txt").read_text().split())
        parts = {word for name in self.names for word in name.split()} - set(self.names)
        return Writer(
            self.lookup,
            [firsts, [name for name in everyday if name in self.names], list(self.names)],
            [30, 45, 25],
            self.rows,
            self.vectors,
            self.space.caption,
            self.neutral,
            [word for word in self.neutral if word in listed],
            sorted(parts),
            self.numbers[tokenizer.START],
            self.numbers[tokenizer.END],
            self.numbers[tokenizer.UNKNOWN],
            seed,
        )


def fresh_model(parts, seed):
    """The untrained dual encoder: the image side complete, word embeddings begun at what the words name."""
    torch.manual_seed(seed)
    config = configuration(len(parts.numbers))["model_cfg"]
    model = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    state = {name: value for name, value in parts.trunk.state_dict().items() if not name.startswith("classifier")}
    model.visual.trunk.load_state_dict(state)
    model.visual.head.proj.weight.data.copy_(parts.space.projection)
    model.visual.head.proj.bias.data.copy_(parts.space.bias)
    _begin_words(model.text, parts)
    return model.eval()


@torch.no_grad()
def _begin_words(text, parts):
    total, count = torch.zeros_like(text.token_embedding.weight), torch.zeros(len(parts.numbers), 1)
    for name, row in parts.rows.items():
        numbers = parts.lookup(name)
        total[numbers] += parts.vectors[row] / len(numbers)
        count[numbers] += 1
    text.token_embedding.weight.add_(0.5 * total / count.clamp_min(1))
    text.text_projection.copy_(torch.eye(WIDTH) * 0.1)


def train(parts, options):
    """Train the text tower to send captions to the sum of what they name, by squared distance."""
    model, writer = fresh_model(parts, options.seed), parts.writer(options.seed)
    rest, mask = list(model.text.parameters()), model.text.build_causal_mask()
    optimizer = torch.optim.AdamW(rest, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint, first, began = Path(options.cache) / f"text-{options.steps}.pt", 0, time.time()
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.text.load_state_dict(saved["text"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    for step in range(first, options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * schedule(step, options.steps)
        caption, target = writer.batch(options.batch, step)
        model.text.attn_mask = mask[: caption.shape[1], : caption.shape[1]]
        loss = (model.text(caption) - target).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f} after {time.time() - began:.0f} s", flush=True)
        if step % 200 == 199 or step + 1 == options.steps:
            saved = {"text": model.text.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(saved, checkpoint)
    model.text.attn_mask = mask
    return model


def schedule(step, steps, warm=60):
    return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / steps))


@torch.no_grad()
def class_texts(model, parts):
    """Unit embeddings of `a photo of a NAME`, over the 1,000 classes."""
    start, end = parts.numbers[tokenizer.START], parts.numbers[tokenizer.END]
    rows = []
    for name in words.first_names(parts.offsets, parts.net):
        row = [start, *parts.lookup("a photo of a " + name), end]
        rows.append(torch.tensor(row + [0] * (tokenizer.CONTEXT - len(row))))
    return model.encode_text(torch.stack(rows), normalize=True)


def samples():
    """scikit-image's four colour photographs of things, as pixels at the classifier's size and at the shipped size."""
    images = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]

    def pixels(image, side):
        values = torch.from_numpy(np.array(image.resize((side, side), Image.Resampling.BICUBIC)))
        return (values.permute(2, 0, 1) / 255 - sources.MEAN) / sources.STD

    return [torch.stack([pixels(image, side) for image in images]) for side in (CLASSIFIER_SIZE, SIZE)]


@torch.no_grad()
def calibrate(model, parts):
    """The logit scale whose softmax over the 1,000 class captions is nearest (KL) to the classifier's, on samples."""
    small, _ = samples()
    wanted = parts.trunk(small).softmax(1)
    cosines = model.encode_image(small, normalize=True) @ class_texts(model, parts).T
    scales = torch.arange(5, 100, 0.5)
    losses = [-(wanted * (scale * cosines).log_softmax(1)).sum(1).mean() for scale in scales]
    return float(scales[torch.stack(losses).argmin()])


@torch.no_grad()
def image_centre(model):
    """The mean of unit image embeddings, as far as it is known without images.

    The content of images lies in all directions, which about cancel; presence and the constant remain. How large
    they are beside the rest is taken from the samples at the shipped size.
    """
    _, large = samples()
    center = torch.zeros(WIDTH)
    center[-joint.EXTRA :] = model.encode_image(large, normalize=True)[:, -joint.EXTRA :].mean(0)
    return center


def write(model, parts, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model.logit_scale.data.fill_(math.log(calibrate(model, parts)))
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file(
        {name: value.contiguous() for name, value in state.items()},
        folder / "open_clip_model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "open_clip_config.json").write_text(json.dumps(configuration(len(parts.numbers)), indent=2) + "\n")
    tokenizer.write(folder, parts.numbers)
    for notice in sorted((HERE / "notices").iterdir()):
        shutil.copyfile(notice, folder / notice.name)
    (folder / "nibt.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    depth = len(parts.trunk.blocks)
    baseline = {f"image.mean.{k}": joint.mean_state(parts.trunk, k) for k in range(depth + 1)}
    baseline["centre.image"] = image_centre(model)
    baseline["centre.text"] = class_texts(model, parts).mean(0)
    MeanStates(baseline).save(folder / "mean_states.safetensors")
    add_text_means(folder, parts)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def add_text_means(folder, parts):
    """The mean states of captions, by nibt's own calibration of the folder just written."""
    names = words.first_names(parts.offsets, parts.net)
    captions = [template.format(name) for name in names for template in CAPTIONS]
    model = nibt.load_model(folder)
    text = nibt.calibrate(model, [], captions, batch_size=100)
    image = MeanStates.load(folder / "mean_states.safetensors", model)
    facts = {**text.facts, "model": "lite", "images": "ImageNet, from the batch norms"}
    MeanStates({**image.tensors, **text.tensors}, facts).save(folder / "mean_states.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--cache", type=Path, default=Path("lite-cache"), help="for the packages and the checkpoint")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = Ingredients(options.cache)
    write(train(parts, options), parts, options.out)


if __name__ == "__main__":
    main()
