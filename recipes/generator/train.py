"""Train the generator of scenes: captions of the objects from left to right, and questions with one-word answers.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python recipes/generator/train.py --out RUN

Resumes from RUN/checkpoint.pt, and writes the model as a folder of Transformers to RUN/model. RUN/log.jsonl has the
loss of every step. The patch encoder keeps the weights of ``scenes``; the projector and the decoder are trained.
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
from network import MEAN, STD, network, processor
from world import NOUNS, Scenes, tasks

SEED, TRAINING, VALIDATION = 7, 11, 12
BATCH, WARM_UP, RATE = 64, 100, 4e-3
BACKGROUNDS = ("plain", "gradient", "noise", "texture")


class Training:
    """A generator in training, with its processor."""

    def __init__(self):
        torch.manual_seed(SEED)
        self.processor = processor()
        self.tokenizer = self.processor.tokenizer
        self.model = network(self.processor).train()
        self.model.model.vision_tower.requires_grad_(False)

    def features(self, scenes):
        """Return the features of the patches of scenes."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        pixels = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2)
        with torch.no_grad():
            states = self.model.model.vision_tower((pixels.float() / 255 - mean) / std, output_hidden_states=True)
        return states.hidden_states[-1][:, 1:]

    def prompt(self, text, images=1):
        """Return the ids of a prompt in the chat template, without the images' repeated tokens."""
        content = [*[{"type": "image"}] * images, {"type": "text", "text": text}]
        return self.tokenizer(
            self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        ).input_ids

    def logits(self, features, prompts, answers):
        """Return the logits that predict each token of the answers, as rows, and the ids of these tokens."""
        token, count = self.model.config.image_token_index, features.shape[1]
        rows, places = [], []
        for prompt, answer in zip(prompts, answers, strict=True):
            at = prompt.index(token)
            before = [*prompt[:at], *[token] * count, *prompt[at + 1 :]]
            places.append((len(before) - 1, len(before) - 1 + len(answer)))
            rows.append([*before, *answer])
        ids = torch.full((len(rows), max(map(len, rows))), self.tokenizer.pad_token_id)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        language = self.model.model.language_model
        embeddings = language.get_input_embeddings()(ids)
        image = self.model.model.multi_modal_projector(features)
        embeddings = embeddings.masked_scatter((ids == token)[..., None], image)
        states = language(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        taken = torch.cat([states[number, first:last] for number, (first, last) in enumerate(places)])
        return self.model.lm_head(taken), torch.tensor([token for answer in answers for token in answer])

    def ids(self, text):
        """Return the ids of an answer with the end of the sequence."""
        return [*self.tokenizer(text).input_ids, self.tokenizer.eos_token_id]


def drawn(seed, first, count):
    """Draw scenes with their tasks; a third of them have plain backgrounds, about which a question may ask."""
    pairs = []
    for item in range(first, first + count):
        is_plain = item % 3 == 0
        backgrounds = ("plain",) if is_plain else BACKGROUNDS
        pairs.append(tasks(Scenes(count=10**7, seed=seed, fewest=1, most=3, backgrounds=backgrounds), item, is_plain))
    return [scene for scene, _ in pairs], [list(both) for both in zip(*(both for _, both in pairs), strict=True)]


def step_loss(training, step):
    """Return the cross-entropy of the tokens of captions and one-word answers."""
    scenes, (captions, questions) = drawn(TRAINING, step * BATCH, BATCH)
    features = training.features(scenes)
    both = [*captions, *questions]
    logits, ids = training.logits(
        features.repeat(2, 1, 1), [training.prompt(t.prompt) for t in both], [training.ids(t.answer) for t in both]
    )
    return F.cross_entropy(logits, ids)


@torch.no_grad()
def measured(training, count=200):
    """Return the share of right tokens in captions and of right one-word answers on validation scenes."""
    training.model.eval()
    scenes, (captions, questions) = drawn(VALIDATION, 0, count)
    features = training.features(scenes)
    values = {}
    for name, group in (("caption_nouns", captions), ("questions", questions)):
        logits, ids = training.logits(
            features, [training.prompt(t.prompt) for t in group], [training.ids(t.answer) for t in group]
        )
        right = logits.argmax(-1) == ids
        nouns = set(training.tokenizer.convert_tokens_to_ids(list(NOUNS)))
        keep = torch.tensor([name == "questions" or int(token) in nouns for token in ids])
        keep &= ids != training.tokenizer.eos_token_id
        values[name] = right[keep].float().mean().item()
    training.model.train()
    return values


def rate_at(step, steps):
    """Return the share of the full rate: up in a line, then down as a cosine."""
    return min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def fit(training, step_loss, measured, options, rate):
    """Train to a step, from the checkpoint if there is one."""
    options.out.mkdir(parents=True, exist_ok=True)
    trained = [p for p in training.model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98))
    checkpoint, start = options.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        training.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    with (options.out / "log.jsonl").open("a", buffering=1) as log:
        for step in range(start, options.stop or options.steps):
            began = time.time()
            for group in optimizer.param_groups:
                group["lr"] = rate * rate_at(step, options.steps)
            loss = step_loss(training, step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            row, done = {"step": step, "loss": loss.item(), "seconds": round(time.time() - began, 3)}, step + 1
            if done % 100 == 0 or done == options.steps:
                row |= measured(training)
                state = {"model": training.model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
                torch.save(state, f"{checkpoint}.part")
                os.replace(f"{checkpoint}.part", checkpoint)
                training.model.save_pretrained(options.out / "model")
                training.processor.save_pretrained(options.out / "model")
            log.write(json.dumps(row) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--stop", type=int, help="end after that many steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fit(Training(), step_loss, measured, options, RATE)


if __name__ == "__main__":
    main()
