"""Train the generator further on two images, and measure whether sums of maps tell which of them an answer comes from.

    python recipes/generator/two_images.py train --out RUN [--steps 900]    # resumes
    python recipes/generator/two_images.py measure --out RUN [--count 300]  # resumes
    python recipes/generator/two_images.py report --out RUN

A question is about an object that only one of both images shows: "in which picture is the owl ?", one that names the
image, "describe the first picture", or one about it alone, "what is left of the owl ?". Odd scenes show two or three
objects, even ones show one, from which the model learns sooner.
"""

import argparse
import functools
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from network import IMAGE, MEAN, TEMPLATE, processor
from PIL import Image
from study import measure_map, read_rows
from train import BACKGROUNDS, Training, fit
from transformers import LlavaForConditionalGeneration
from world import NOUNS, Scenes, Task, from_left_to_right

import nibt
from nibt.datasets._captions import with_article
from nibt.datasets._draws import Draws
from nibt.datasets.scenes import SIDE
from nibt.evaluation.statistics import interval, jackknife

FROM = Path(nibt.__file__).parent / "models" / "embedded" / "scenes_generator"
PLACES = ("first", "second")
SEED, TRAINING, VALIDATION, TEST = 8, 16, 17, 18  # seeds of scenes that served for nothing else
BATCH, RATE, POOL = 16, 2e-3, 5000
METHODS = {"nib": 300, "gae": 300, "rollout": 300, "random": 300, "integrated_gradients": 60, "occlusion": 20}  # pairs
BLANK = tuple(round(255 * value) for value in MEAN)
_STREAM = 22  # of the draws of questions


class TwoImages(Training):
    """The embedded generator in training, with words for two images."""

    def __init__(self):
        torch.manual_seed(SEED)
        self.processor = processor(("in", *PLACES))
        self.processor.chat_template = TEMPLATE.replace(IMAGE, "{{ ('first', 'second')[loop.index0] }} " + IMAGE)
        self.tokenizer = self.processor.tokenizer
        self.model = LlavaForConditionalGeneration.from_pretrained(FROM, dtype=torch.float32).train()
        self.model.resize_token_embeddings(len(self.tokenizer))
        self.model.model.vision_tower.requires_grad_(False)
        self.kept = {}

    def features_of(self, seed, numbers):
        """Return the features of scenes, which are computed once."""
        new = sorted({number for number in numbers if (seed, number) not in self.kept})
        if new:
            features = self.features([scene_of(seed, number) for number in new])
            self.kept |= {(seed, number): one for number, one in zip(new, features, strict=True)}
        return torch.stack([self.kept[seed, number] for number in numbers])

    def answered(self, features, questions):
        """Return the logits of the answers to lists of questions, one list for two images, and the ids of their tokens.

        All questions about two images are in one row: each reads the images and itself.
        """
        token, count = self.model.config.image_token_index, features.shape[-2]
        prompt = self.prompt("", images=2)
        end = len(prompt) - prompt[::-1].index(token)
        start = [number for each in prompt[:end] for number in [each] * (count if each == token else 1)]
        rows, places = [], []
        for row, several in enumerate(questions):
            ids, parts, positions = [*start], [0] * len(start), [*range(len(start))]
            for part, question in enumerate(several, start=1):
                answer = self.ids(question.answer)
                own = [*self.prompt(question.prompt, images=2)[end:], *answer]
                before = len(ids) + len(own) - len(answer) - 1
                places += [(row, before + number, each) for number, each in enumerate(answer)]
                ids += own
                parts += [part] * len(own)
                positions += range(len(start), len(start) + len(own))
            rows.append(torch.tensor([ids, parts, positions]))
        length = max(row.shape[1] for row in rows)
        ids, parts, positions = torch.stack([F.pad(row, (0, length - row.shape[1])) for row in rows]).unbind(1)
        reads = (parts[:, None] == 0) | (parts[:, None] == parts[:, :, None])
        reads &= torch.ones(length, length, dtype=torch.bool).tril()
        language = self.model.model.language_model
        embeddings = language.get_input_embeddings()(ids)
        embeddings = embeddings.masked_scatter(
            (ids == token)[..., None], self.model.model.multi_modal_projector(features)
        )
        states = language(
            inputs_embeds=embeddings, attention_mask=reads[:, None], position_ids=positions, use_cache=False
        ).last_hidden_state
        at, place, answer = torch.tensor(places).T
        return self.model.lm_head(states[at, place]), answer


@functools.lru_cache(4 * BATCH)
def scene_of(seed, number):
    fewest, most = (2, 3) if number % 2 else (1, 1)
    return Scenes(count=10**7, seed=seed, fewest=fewest, most=most, backgrounds=BACKGROUNDS).scene(number)


@functools.cache
def order_of(seed, number):
    """Return the names of the objects of a scene from left to right."""
    return from_left_to_right(scene_of(seed, number))


def apart(draws, seed, count, pool):
    """Draw the numbers of scenes of a pool, no object of which is in two of them."""
    while True:
        numbers = [draws.below(pool) for _ in range(count)]
        names = [name for number in numbers for name in order_of(seed, number)]
        if len(names) == len({*names}):
            return numbers


def drawn(seed, item, pool, count=2):
    """Draw scenes, and all questions about the first two: each with its image and with the object to look at."""
    numbers = apart(Draws(seed, item, _STREAM), seed, count, pool)
    orders = [order_of(seed, number) for number in numbers[:2]]
    which = [
        (Task(f"in which picture is the {noun} ?", PLACES[image], (noun,)), image, noun)
        for image, order in enumerate(orders)
        for noun in order
    ]
    describe = [
        (Task(f"describe the {PLACES[image]} picture", " and ".join(map(with_article, order))), image, order[0])
        for image, order in enumerate(orders)
    ]
    what = []
    for image, order in enumerate(orders):
        for left, right in pairwise(order):
            what.append((Task(f"what is left of the {right} ?", left, ("left", right)), image, left))
            what.append((Task(f"what is right of the {left} ?", right, ("right", left)), image, right))
    return numbers, {"which": which, "describe": describe, "what": what}


def step_loss(training, step):
    """Return the cross-entropy of the answers to all questions about a batch of pairs."""
    both = [drawn(TRAINING, item, POOL) for item in range(step * BATCH, (step + 1) * BATCH)]
    features = training.features_of(TRAINING, [number for numbers, _ in both for number in numbers])
    questions = [[task for of_kind in kinds.values() for task, _, _ in of_kind] for _, kinds in both]
    return F.cross_entropy(*training.answered(features, questions))


@torch.no_grad()
def measured(training, count=100):
    """Return the share of right nouns and places of each kind of question, on validation scenes."""
    training.model.eval()
    both = [drawn(VALIDATION, item, POOL) for item in range(count)]
    features = training.features_of(VALIDATION, [number for numbers, _ in both for number in numbers])
    values = {}
    for kind in both[0][1]:
        logits, ids = training.answered(features, [[task for task, _, _ in kinds[kind]] for _, kinds in both])
        keep = torch.isin(ids, torch.tensor(training.tokenizer.convert_tokens_to_ids([*PLACES, *NOUNS])))
        values[kind] = (logits.argmax(-1) == ids)[keep].float().mean().item()
    training.model.train()
    return values


def train(options):
    fit(TwoImages(), step_loss, measured, options, RATE)


def measure(options):
    """Write a line for each pair and kind of question: whether the answer is right, and the maps of each method."""
    generator = nibt.load_generator(options.out / "model")
    path = options.out / "rows.jsonl"
    done = {row["pair"] for row in read_rows(path)}
    with path.open("a", buffering=1) as out:
        for item in sorted({*range(options.count)} - done):
            (*numbers, another), kinds = drawn(TEST, item, 10**6, 3)
            draws = Draws(TEST, item, _STREAM + 1)
            chosen = {kind: draws.one_of(questions) for kind, questions in kinds.items() if questions}
            names = [name for name, pairs in METHODS.items() if item < pairs]
            rows = [
                {"kind": kind, **measured_row(generator, numbers, another, names, *each)}
                for kind, each in chosen.items()
            ]
            out.write("".join(json.dumps({"pair": item, **row}) + "\n" for row in rows))


def measured_row(generator, numbers, another, names, task, right, noun):
    """Return the sums of a question's image and of the other one, by method, and what replacing each of them changes.

    The sums are those of the noun in the answer, or of the place. A blank image has the mean color, which the model
    reads as zeros.
    """
    images = [image_of(number) for number in numbers]
    options = {"narrow": ["image"], "other_images": []}
    started = time.perf_counter()
    explanation = nibt.explain_answer(generator, images, task.prompt, **options)
    seconds = time.perf_counter() - started
    row = {"image": PLACES[right], "right": explanation.answer == task.answer}
    if not row["right"]:
        return row
    at = next(number for number, word in enumerate(explanation.words) if word.text in (noun, *PLACES))
    log = explanation.words[at].log_probability
    blank = Image.new("RGB", (SIDE, SIDE), BLANK)
    for name, instead in (("blank", blank), ("another scene", image_of(another)), ("a copy of the other", None)):
        logs = []
        for place in (right, 1 - right):
            changed = [
                instead or images[1 - number] if number == place else image for number, image in enumerate(images)
            ]
            words = nibt.explain_answer(generator, changed, task.prompt, task.answer, "random", **options).words
            logs.append(words[at].log_probability)
        row[f"replaced by {name}"] = {"sums": [log - each for each in logs]}
    scene = scene_of(TEST, numbers[right])
    mask = scene.masks[scene.names.index(noun)]
    for name in names:
        if name != "nib":
            started = time.perf_counter()
            explanation = nibt.explain_answer(generator, images, task.prompt, task.answer, name, **options)
            seconds = time.perf_counter() - started
        sums = explanation.image_sums[at].tolist()
        row[name] = {"sums": [sums[right], sums[1 - right]], "seconds": seconds}
        row[name] |= measure_map(explanation.image_tables[right][at], mask)
    return row


def image_of(number):
    return Image.fromarray(scene_of(TEST, number).pixels)


def auc(sums):
    """Return the AUC of sums (pair, 2) of the right image against those of the other one, and its interval."""

    def of(rows, weights):
        above = np.heaviside(rows[:, :1] - rows[:, 1], 0.5)
        return (weights @ above * weights).sum(1) / weights.sum(1) ** 2

    return jackknife(np.asarray(sums), of, (0.0, 1.0))


def report(options):
    rows = [json.loads(line) for line in (options.out / "rows.jsonl").read_text().splitlines()]
    groups = {}
    for row in rows:
        for group in ("all", row["kind"], f"{row['kind']}, {row['image']}"):
            groups.setdefault(group, []).append(row)
    for kind, own in sorted(groups.items()):
        print(f"\n{kind}: {sum(row['right'] for row in own)} of {len(own)} answers are right")
        for name in (*(f"replaced by {what}" for what in ("blank", "another scene", "a copy of the other")), *METHODS):
            measured = [row for row in own if name in row]
            sums, blank = (np.array([row[key]["sums"] for row in measured]) for key in (name, "replaced by blank"))
            values = {"auc": auc(sums), "larger": interval(sums[:, 0] > sums[:, 1])}
            values["as blank"] = interval((sums[:, 0] > sums[:, 1]) == (blank[:, 0] > blank[:, 1]))
            if name in METHODS:
                values["pointing"] = interval([row[name]["pointing"] for row in measured])
            numbers = " | ".join(f"{key} {v.mean:.3f} [{v.low:.3f}, {v.high:.3f}]" for key, v in values.items())
            first, other = np.median(sums, 0)
            print(f"{name} | n={len(measured)} | {numbers} | median sums {first:.2f} and {other:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "measure", "report"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--stop", type=int, help="end training after that many steps")
    parser.add_argument("--count", type=int, default=300, help="the number of pairs that are measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"train": train, "measure": measure, "report": report}[options.step](options)


if __name__ == "__main__":
    main()
