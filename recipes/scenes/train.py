"""Train the embedded model `scenes`, or another network, from nothing, on scenes drawn as they are needed.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python recipes/scenes/train.py --out RUN [--network siglip|late]

Resumes from RUN/checkpoint.pt. RUN/log.jsonl has the loss of every step and what was measured now and then. One
thread makes the same losses again (`--stop 200` ends early). `export.py` makes the model's folder of it.

What learns (contrast within a batch alone stays at chance for long): single large objects first, then up to four
small ones; cross-entropy of the image against the prompts of all nouns, from the start; and, from step 650
on, the contrast between images and captions, each with a caption beside it in which one noun is wrong.
In the first part only some of the patches are looked at, those of the objects among them, which is faster.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from course import ARCHITECTURES, SEED, TRAINING, VALIDATION, architecture
from muon import Muon

from nibt.datasets._captions import with_article
from nibt.datasets._draws import Draws
from nibt.datasets.scenes import SIDE, TEMPLATES, Scenes, drawn
from nibt.datasets.scenes.drawing import NOUNS

_STREAM = 9  # of the draws for captions here, apart from the data set's own


def _cosines(seen, texts):
    return seen @ texts.T


class Training:
    """A network in training: its file as a module, the model and its tokenizer."""

    def __init__(self, name):
        torch.manual_seed(SEED)
        self.architecture = architecture(name)
        self.course = self.architecture.COURSE
        self.words = self.architecture.tokenizer()
        self.model = self.architecture.network(self.words).train()

    @property
    def scale(self):
        return self.model.logit_scale.exp()

    def similarities(self, seen, texts):
        """The similarity of every image with every text."""
        return getattr(self.architecture, "similarities", _cosines)(seen, texts)

    def seen(self, scenes, kept=None):
        """Unit embeddings of scenes."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.architecture.MEAN, self.architecture.STD))
        stacked = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2)
        return self.architecture.image_embeddings(self.model, (stacked.float() / 255 - mean) / std, kept)

    def read(self, captions):
        """Unit embeddings of captions."""
        return self.architecture.text_embeddings(self.model, self.words, captions)


def looked_at(scenes, first, share, patch):
    """The patches that are looked at, that share of them: those of objects first, then any; None for all."""
    if share == 1:
        return None
    cells = SIDE // patch
    objects = np.stack([np.any(scene.masks, 0) for scene in scenes]).reshape(-1, cells, patch, cells, patch)
    chance = [Draws(TRAINING, first + row, _STREAM + 2).bytes(cells**2) for row in range(len(scenes))]
    order = np.argsort(-(256 * objects.any((2, 4)).reshape(len(scenes), -1) + np.stack(chance)), 1, kind="stable")
    return torch.from_numpy(order[:, : round(share * cells**2)])


def captions(scene, item):
    """A true caption of some of the objects, and the same with one noun that is not there; and their nouns."""
    draws = Draws(TRAINING, item, _STREAM)
    nouns = draws.several_of(scene.names, draws.between(1, len(scene.names)))
    wrong = list(nouns)
    wrong[draws.below(len(nouns))] = draws.one_of([noun for noun in NOUNS if noun not in scene.names])
    place = draws.below(1 << 30)
    return [(drawn(named, Draws(place, 0, _STREAM)).text, set(named)) for named in (nouns, wrong)]


def noun_loss(training, seen, scenes, step):
    """Cross-entropy against the prompts of all nouns, with the objects that are there as equal labels."""
    template = Draws(TRAINING, step, _STREAM + 1).one_of(TEMPLATES)
    prompts = training.read([template.format(with_article(noun)) for noun in NOUNS])
    labels = torch.zeros(len(scenes), len(NOUNS))
    for row, scene in enumerate(scenes):
        labels[row, [NOUNS.index(name) for name in scene.names]] = 1 / len(scene.names)
    return F.cross_entropy(training.scale * training.similarities(seen, prompts), labels)


def contrast_loss(training, seen, scenes, first):
    """Contrast within the batch; a caption that is true of another image, too, is no negative there."""
    pairs = [captions(scene, first + row) for row, scene in enumerate(scenes)]
    texts = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    caption_vectors = training.read([text for text, _ in texts])
    logits = training.scale * training.similarities(seen, caption_vectors)
    true = torch.tensor([[nouns <= set(scene.names) for _, nouns in texts] for scene in scenes])
    count = len(scenes)
    true[:, :count].fill_diagonal_(False)
    logits = logits.masked_fill(true, -torch.inf)
    aim = torch.arange(count)
    return (F.cross_entropy(logits, aim) + F.cross_entropy(logits[:, :count].T, aim)) / 2


@torch.no_grad()
def measured(training, count=400):
    """Zero-shot and retrieval on validation scenes."""
    training.model.eval()
    prompts = training.read([with_article(noun) for noun in NOUNS])

    def ranks(objects):
        data = Scenes(seed=VALIDATION, fewest=objects, most=objects)
        scenes = [data.scene(item) for item in range(count)]
        seen = torch.cat([training.seen(scenes[at : at + 100]) for at in range(0, count, 100)])
        order = training.similarities(seen, prompts).argsort(1, descending=True)
        places = [
            [order[row].tolist().index(NOUNS.index(name)) for name in scene.names] for row, scene in enumerate(scenes)
        ]
        return torch.tensor(places), scenes[:100], seen[:100]

    one, _, _ = ranks(1)
    two, scenes, seen = ranks(2)
    caption_vectors = training.read(
        [drawn(scene.names, Draws(VALIDATION, i, 1)).text for i, scene in enumerate(scenes)]
    )
    training.model.train()
    return {
        "top1": (one < 1).float().mean().item(),
        "top5": (one < 5).float().mean().item(),
        "both_in_top3": (two < 3).all(1).float().mean().item(),
        "retrieval": (training.similarities(seen, caption_vectors).argmax(1) == torch.arange(100))
        .float()
        .mean()
        .item(),
    }


def optimizers(model, rate):
    """Muon for the matrices of the blocks, AdamW for all else; no decay on what has one dimension."""
    blocks = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    ids = {id(p) for p in blocks}
    others = [p for p in model.parameters() if id(p) not in ids]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [Muon(blocks, 2 * rate), torch.optim.AdamW(groups, rate, betas=(0.9, 0.98))]


def rate_at(step, course):
    """A share of the full rate: up in a line, down as a cosine, and at the end in a line to nothing."""
    if step < course.warm_up:
        return (step + 1) / course.warm_up
    cosine = 0.5 + 0.5 * math.cos(math.pi * (step - course.warm_up) / (course.cosine - course.warm_up))
    return cosine * min(1, (course.steps - step) / course.fall)


def step_loss(training, step):
    course = training.course
    first = step * course.batch
    data, share = course.at(step)
    scenes = [data.scene(first + row) for row in range(course.batch)]
    seen = training.seen(scenes, looked_at(scenes, first, share, training.architecture.PATCH))
    loss = noun_loss(training, seen, scenes, step)
    return loss + (contrast_loss(training, seen, scenes, first) if step >= course.contrast else 0.0)


def save(path, data):
    """Written beside, then moved: a killed run leaves a whole checkpoint."""
    torch.save(data, f"{path}.part")
    os.replace(f"{path}.part", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--network", choices=sorted(ARCHITECTURES), default="clip")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--stop", type=int, help="end after that many steps")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    training = Training(options.network)
    model, course = training.model, training.course
    all_optimizers = optimizers(model, options.rate)
    checkpoint = options.out / "checkpoint.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(all_optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    full = [[group["lr"] for group in optimizer.param_groups] for optimizer in all_optimizers] if not start else None
    full = full or [[2 * options.rate], [options.rate] * 2]
    log = (options.out / "log.jsonl").open("a", buffering=1)
    for step in range(start, options.stop or course.steps):
        began = time.time()
        for optimizer, rates in zip(all_optimizers, full, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * rate_at(step, course)
        loss = step_loss(training, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in all_optimizers:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        row = {"step": step, "loss": loss.item(), "seconds": round(time.time() - began, 3)}
        done = step + 1
        if done % 250 == 0 or done == course.steps:
            row |= measured(training)
            save(
                checkpoint,
                {"model": model.state_dict(), "optimizers": [o.state_dict() for o in all_optimizers], "step": done},
            )
        log.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
