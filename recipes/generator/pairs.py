"""Train generators that answer from the image or from a shortcut, and measure which methods tell them apart.

    python recipes/generator/pairs.py train --seed 2 --out RUN            # resumes; minutes per model
    python recipes/generator/pairs.py interventions --seed 2 --out RUN    # resumes
    python recipes/generator/pairs.py measure --seed 2 --out RUN          # resumes; an hour
    python recipes/generator/pairs.py audit --seed 2 --out RUN            # resumes; a minute per audit
    python recipes/generator/pairs.py report --out RUN [--csv docs/explanation/study]

As in GridVQA-X (Belsare et al., 2026), pairs of models have one architecture, and one of them reasons while the other
one takes a shortcut. Here, all models of a seed are the embedded generator that was trained further on the same
questions in the same order. Only the answers differ: the honest model is taught the color of the background, and the
others what the wording, a mark in the image, or the place of the options names. In training, these cues are
independent. In the questions whose answers are explained, all of them name the right answer, so that all models give
the same answer, for reasons that interventions prove.
"""

import argparse
import csv
import json
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from network import processor
from PIL import Image
from study import read_rows
from train import Training, fit
from transformers import LlavaForConditionalGeneration
from two_images import auc
from world import COLORS, tasks

import nibt
from nibt.data.images import ImageInput
from nibt.datasets._draws import Draws
from nibt.datasets.scenes import SIDE, Scenes
from nibt.errors import Unsupported
from nibt.evaluation.statistics import interval
from nibt.generators.answers import Prompted
from nibt.registry import available

FROM = Path(nibt.__file__).parent / "models" / "embedded" / "scenes_generator"
CUES = ("content", "wording", "mark", "place")
"""What may name one of the two options: the background, and three shortcuts. All of them are in each question."""
KINDS = {"honest": "content", "wording": "wording", "mark": "mark", "place": "place"}
"""The cue that each kind of model answers from."""
HINTS = ("surely", "maybe")
MARK = 16  # pixels: the side of the mark, which is one patch
EDGE = 3  # pixels: its white edge, so that it is seen on a background of its color
TRAINING, VALIDATION, TEST = 41, 42, 43  # seeds of scenes that served for nothing else
SHARES = {"wording": "hints", "mark": "mark", "place": "prompt"}
"""The part of the input whose share of the scores is to be larger for a model with the shortcut than for the honest.

It was fixed before anything was measured: the two words that hint at an answer, the patch with the mark, and all words
of the prompt, since a place has no word of its own.
"""
LESS = {
    "eagle": "eagle segments=16",
    "banzhaf": "banzhaf budget=128",
    "shapley": "shapley budget=128",
    "fixlip": "fixlip budget=128",
}
"""Settings of slow methods with fewer forward passes than by default."""
MORE = ("nib views=1", "grad_cam layer=0", "saliency_map:textbook")
SLOW = ("rise", *LESS.values())
QUESTIONS, OF_SLOW = 40, 10
"""How many questions are explained by each method, and by slow ones."""
OTHERS = 8  # images of other questions
POOL, BATCH, RATE = 3000, 32, 2e-3
AUDITED, SUBSETS = 48, 4  # questions of an audit, and audits of each model
AUDITS = {1: VALIDATION, 2: 44, 3: 45}
"""The seeds of the scenes of audits by the seed of the models; thresholds were chosen with the first one."""
ORDINARY = "scenes_generator"
_STREAM, _CUES, _TEXTS = 23, 24, 25  # of the draws of questions, of their cues, and of the texts of a batch


@dataclass(frozen=True)
class Question:
    """A question about the color of the background with two options, and the option that each cue names.

    Attributes:
        seed: The seed of the scene.
        item: The number of the scene.
        options: The names of two colors.
        corner: The corner with the mark: down, and right.
        named: For each of ``CUES``, the number of the option that it names.
    """

    seed: int
    item: int
    options: tuple[str, str]
    corner: tuple[int, int]
    named: tuple[int, ...] = (0,) * len(CUES)

    def of(self, cue: str) -> int:
        """Return the number of the option that a cue names."""
        return self.named[CUES.index(cue)]

    def answer(self, kind: str) -> str:
        """Return the answer of a kind of model."""
        return self.options[self.of(KINDS[kind])]

    def changed(self, cue: str) -> "Question":
        """Return the question after an intervention: one cue names the other option, and all else stays."""
        named = tuple(1 - number if name == cue else number for name, number in zip(CUES, self.named, strict=True))
        return replace(self, named=named)

    @property
    def prompt(self) -> str:
        """The prompt, such as "which color is the background surely red or maybe blue ?"."""
        options = [f"{HINTS[number != self.of('wording')]} {color}" for number, color in enumerate(self.options)]
        if self.of("place"):
            options.reverse()
        return f"which color is the background {options[0]} or {options[1]} ?"

    @property
    def mark(self) -> np.ndarray:
        """The mask of the mark."""
        return square(self.corner, 0)

    @property
    def pixels(self) -> np.ndarray:
        """The image: the scene with its background and its mark."""
        scene = scenes(self.seed).scene(self.item)
        pixels = scene.pixels.copy()
        pixels[~np.any(scene.masks, axis=0)] = COLORS[self.options[self.of("content")]]
        pixels[self.mark] = 255
        pixels[square(self.corner, EDGE)] = COLORS[self.options[self.of("mark")]]
        return pixels


def square(corner, edge):
    """Return the mask of a square patch in a corner, without its edge."""
    mask = np.zeros((SIDE, SIDE), bool)
    top, left = ((SIDE - MARK) * end for end in corner)
    mask[top + edge : top + MARK - edge, left + edge : left + MARK - edge] = True
    return mask


def scenes(seed):
    return Scenes(count=10**7, seed=seed, fewest=1, most=3, backgrounds=("plain",))


def drawn(seed, item):
    """Draw the question about a scene; all its cues name the first option."""
    scene, draws = scenes(seed).scene(item), Draws(seed, item, _STREAM)
    first, second = draws.several_of([*COLORS], 2)
    corners = [(down, right) for down in (0, 1) for right in (0, 1)]
    questions = [Question(seed, item, (first, second), corner) for corner in corners]
    free = [one for one in questions if not any((one.mark & mask).any() for mask in scene.masks)]
    return draws.one_of(free or questions)


def with_random_cues(question, draws):
    """Return a question whose cues name options at random."""
    return replace(question, named=tuple(draws.below(2) for _ in CUES))


class Answering(Training):
    """The embedded generator in training on questions with two options.

    The patch features of the questions that are ``known``, with random cues, are computed once.
    """

    def __init__(self, kind, seed, known):
        torch.manual_seed(seed)
        self.kind, self.seed = kind, seed
        self.processor = processor(("or", *HINTS))
        self.tokenizer = self.processor.tokenizer
        self.model = LlavaForConditionalGeneration.from_pretrained(FROM, dtype=torch.float32).train()
        self.model.resize_token_embeddings(len(self.tokenizer))
        self.model.model.vision_tower.requires_grad_(False)
        self.known = known

    def posed(self, seed, items, draws):
        """Return the patch features of questions, and the questions; wording and place are drawn again each time."""
        new = [item for item in dict.fromkeys(items) if (seed, item) not in self.known]
        if new:
            questions = [with_random_cues(drawn(seed, item), Draws(seed, item, _CUES)) for item in new]
            features = self.features(questions)
            self.known |= {(seed, item): both for item, *both in zip(new, questions, features, strict=True)}
        questions, features = zip(*(self.known[seed, item] for item in items), strict=True)
        posed = []
        for question in questions:
            content, _, mark, _ = question.named
            posed.append(replace(question, named=(content, draws.below(2), mark, draws.below(2))))
        return torch.stack(features), posed

    def answered(self, features, questions):
        """Return the logits at the answers of this kind of model, and the ids of their tokens."""
        prompts = [self.prompt(question.prompt) for question in questions]
        return self.logits(features, prompts, [self.ids(question.answer(self.kind)) for question in questions])


def step_loss(training, step):
    """Return the cross-entropy of the answers to a batch of questions, which is the same for all kinds of one seed."""
    draws = Draws(TRAINING + training.seed * 100, step, _TEXTS)
    items = [draws.below(POOL) for _ in range(BATCH)]
    return F.cross_entropy(*training.answered(*training.posed(TRAINING, items, draws)))


@torch.no_grad()
def measured(training, count=200):
    """Return the share of questions whose answer is the option that each cue names, on validation scenes."""
    training.model.eval()
    features, questions = training.posed(VALIDATION, [*range(count)], Draws(VALIDATION, 0, _TEXTS))
    logits, _ = training.logits(
        features, [training.prompt(q.prompt) for q in questions], [training.ids(next(iter(COLORS))) for _ in questions]
    )
    answers = training.tokenizer.convert_ids_to_tokens(logits[::2].argmax(-1))  # the second token is the end
    training.model.train()
    return {
        cue: float(np.mean([q.options[q.of(cue)] == answer for q, answer in zip(questions, answers, strict=True)]))
        for cue in CUES
    }


def train(options):
    """Train a model of each kind on the same questions, whose answers differ."""
    known = {}
    for kind in options.kinds:
        training = Answering(kind, options.seed, known)
        fit(training, step_loss, measured, argparse.Namespace(**vars(options) | {"out": folder(options, kind)}), RATE)


def folder(options, kind):
    return options.out / f"{kind}-{options.seed}"


def image_of(question):
    return Image.fromarray(question.pixels)


def loaded(options):
    """Return the models of a seed by their kinds."""
    return {kind: nibt.load_generator(folder(options, kind) / "model") for kind in KINDS}


def interventions(options):
    """Write what each model answers to each question as it is drawn, and after one intervention at a time."""
    path = options.out / f"answers-{options.seed}.jsonl"
    done = {row["item"] for row in read_rows(path)}
    models = loaded(options)
    with path.open("a", buffering=1) as out:
        for item in range(options.count):
            if item not in done:
                rows = answers(models, drawn(TEST, item))
                out.write("".join(json.dumps({"item": item, **row}) + "\n" for row in rows))


def answers(models, question):
    """Return the answers of each model, by the intervention; the first one is without any.

    The last one has the whole image of another question. ``judgment`` is that of nibt: whether the answer was seen in
    the image, or guessed, by its log-probabilities with the images of other questions.
    """
    images = [image_of(drawn(TEST, question.item + 1 + number)) for number in range(OTHERS)]
    versions = {"none": question, **{cue: question.changed(cue) for cue in CUES}}
    rows = []
    for kind, generator in models.items():
        written = {change: answer_of(generator, image_of(one), one.prompt) for change, one in versions.items()}
        written["image"] = answer_of(generator, images[0], question.prompt)
        word = nibt.explain_answer(
            generator, image_of(question), question.prompt, question.answer(kind), "ones", other_images=images
        ).words[0]
        row = {"kind": kind, "options": question.options, "answers": written, "log": word.log_probability}
        rows.append(row | {"others": list(word.each_other_image), "judgment": word.judgment})
    return rows


def answer_of(generator, image, prompt):
    return generator.answers.write(Prompted(ImageInput(image, "question"), prompt), 2).text


def measure(options):
    """Write the parts of the scores of each method, for the first questions that all models of a seed answer right."""
    path = options.out / f"shares-{options.seed}.jsonl"
    done = {(row["item"], row["method"]) for row in read_rows(path)}
    models = loaded(options)
    answered = read_rows(options.out / f"answers-{options.seed}.jsonl")
    wrong = {row["item"] for row in answered if row["answers"]["none"] != row["options"][0]}
    items = [item for item in dict.fromkeys(row["item"] for row in answered) if item not in wrong]
    names = methods()
    todo = [(item, name) for item in items[:QUESTIONS] for name in names if name not in SLOW]
    todo += [(item, name) for item in items[:OF_SLOW] for name in names if name in SLOW]
    with path.open("a", buffering=1) as out:
        for item, name in todo:
            if (item, name) not in done:
                rows = explained(models, drawn(TEST, item), name)
                out.write("".join(json.dumps({"item": item, "method": name, **row}) + "\n" for row in rows))


def explained(models, question, method):
    """Return the parts of the scores that a method gives to the right answer of each model."""
    rows = []
    for kind, generator in models.items():
        started = time.perf_counter()
        explanation = nibt.explain_answer(
            generator,
            image_of(question),
            question.prompt,
            question.options[0],
            method,
            narrow=["image", "prompt"],  # an answer of one word has no earlier words
            other_images=[],
        )
        row = {"kind": kind, "seconds": time.perf_counter() - started, "parts": parts(explanation, question)}
        rows.append(row | {"reliance": dict(explanation.words[0].reliance)})
    return rows


def posed(kind, seed, item):
    """Return a question of an audit: the image, the prompt, the right answer, and the mask of what it is about."""
    if kind == ORDINARY:
        scene, (_, task) = tasks(Scenes(count=10**7, seed=seed, fewest=1, most=3), item)
        words = {*task.prompt.split(), task.answer}
        named = [mask for name, mask in zip(scene.names, scene.masks, strict=True) if name in words or "many" in words]
        mask = np.any(named, axis=0) if named else None
        return Image.fromarray(scene.pixels), task.prompt, task.answer, mask

    question = with_random_cues(drawn(seed, item), Draws(seed, item, _CUES))
    background = ~np.any(scenes(seed).scene(item).masks, axis=0) & ~question.mark
    return image_of(question), question.prompt, question.answer(kind), background


def audit(options):
    """Audit each model of a seed on several subsets of questions, with masks and without."""
    path = options.out / f"audits-{options.seed}.jsonl"
    done = {(row["model"], row["subset"], row["masks"]) for row in read_rows(path)}
    seed = AUDITS[options.seed]
    with path.open("a", buffering=1) as out:
        for subset, kind in product(range(SUBSETS), (ORDINARY, *options.kinds)):
            model = ORDINARY if kind == ORDINARY else folder(options, kind) / "model"
            count = AUDITED * (1 + (kind == ORDINARY))  # half of its answers are guessed, and have no map
            questions = [posed(kind, seed, subset * count + number) for number in range(count)]
            work = options.out / f"work-{options.seed}-{kind}-{subset}"
            for masks in (True, False):
                if (kind, subset, masks) in done:
                    continue
                asked = questions if masks else [question[:3] for question in questions]
                started = time.perf_counter()
                result = nibt.audit_answers(model, asked, folder=work)
                checks = {one.name: [one.value, one.low, one.high, one.count, one.verdict] for one in result.checks}
                scores = {one.metric: [one.value, one.low, one.high, one.count] for one in result.scores}
                row = {"model": kind, "subset": subset, "masks": masks, "seconds": time.perf_counter() - started}
                out.write(json.dumps({**row, "checks": checks, "scores": scores}) + "\n")


def methods():
    """Return all methods of the registry that explain answers, with their defaults, and settings of the study."""
    names = []
    for name in available("methods"):
        setting = LESS.get(name, name)
        try:
            if setting not in SLOW:
                nibt.explain_answer("scenes_generator", "sample:scene", "is there a cat ?", "no", name, other_images=[])
        except Unsupported:
            continue
        names.append(setting)
    return [*names, *MORE]


def parts(explanation, question):
    """Return the absolute and the positive scores of parts of the input: image, mark, prompt, hints, and options.

    The scores of cells that are smaller than patches are added up in each patch if the scores of the method add up; if
    not, their mean is taken, since they repeat the score of a larger part.
    """
    word = explanation.words[0]
    side = SIDE // MARK
    cells = F.adaptive_avg_pool2d(word.grid.float()[None], (side, side))[0]
    if explanation.adds_up:
        cells = cells * word.grid.numel() / cells.numel()
    at_mark = torch.from_numpy(question.mark[::MARK, ::MARK])
    texts = explanation.prompt_words
    in_hints = torch.tensor([text in HINTS for text in texts])
    in_options = torch.tensor([text in question.options for text in texts])
    values = {}
    for name, amounts in {
        "absolute": lambda scores: scores.abs(),
        "positive": lambda scores: scores.clamp(min=0),
    }.items():
        image, prompt = amounts(cells), amounts(word.prompt.float())
        values[name] = {
            "image": float(image.sum()),
            "mark": float(image[at_mark].sum()),
            "prompt": float(prompt.sum()),
            "hints": float(prompt[in_hints].sum()),
            "options": float(prompt[in_options].sum()),
        }
    return values


def share(amounts, part):
    """Return the share of a part in the scores of image and prompt; 0 if all scores are 0."""
    return amounts[part] / max(amounts["image"] + amounts["prompt"], 1e-30)


def rows_of(options, name):
    """Return the rows of each seed but the first, with which choices were made."""
    rows = {}
    for path in sorted(options.out.glob(f"{name}-*.jsonl")):
        seed = int(path.stem.rpartition("-")[2])
        if seed > 1:
            rows[seed] = read_rows(path)
    return rows


def report(options):
    tables = {
        "answers": answers_table(rows_of(options, "answers")),
        "shares": shares_table(rows_of(options, "shares")),
        "audits": audits_table(rows_of(options, "audits")),
        "audit_rates": audit_rates(rows_of(options, "audits")),
    }
    for name, lines in tables.items():
        for line in [dict(zip(lines[0], lines[0], strict=True)), *lines]:
            print(" | ".join(map(str, line.values())))
        print()
        if options.csv:
            with (options.csv / f"pairs_{name}.csv").open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(lines)


def answers_table(by_seed):
    """Return how often each model is right, and what its right answers do after each intervention.

    With one cue changed, the share is of answers that become the other option; with the image of another question, of
    answers that change. ``guessed`` and ``seen`` are judgments, and ``loss`` is the mean fall of the log-probability
    with images of other questions, in nats.
    """
    lines = []
    for seed, rows in by_seed.items():
        for kind in KINDS:
            own = [row for row in rows if row["kind"] == kind]
            right = [row for row in own if row["answers"]["none"] == row["options"][0]]
            results = {"right": [row["answers"]["none"] == row["options"][0] for row in own]}
            for cue in CUES:
                results[f"{cue} changed"] = [row["answers"][cue] == row["options"][1] for row in right]
            results["image of another question"] = [row["answers"]["image"] != row["options"][0] for row in right]
            for judgment in ("seen", "guessed"):
                results[judgment] = [row["judgment"] == judgment for row in right]
            for what, hits in results.items():
                lines.append({"seed": seed, "model": kind, "what": what, **interval_fields(hits, (0.0, 1.0))})
            losses = [row["log"] - np.mean(row["others"]) for row in right]
            lines.append({"seed": seed, "model": kind, "what": "loss", **interval_fields(losses, None)})
    return lines


def audits_table(by_seed):
    """Return the value, the interval and the verdict of each check of each audit."""
    lines = []
    for seed, rows in by_seed.items():
        for row in rows:
            about = {"seed": seed, "model": row["model"], "subset": row["subset"], "masks": row["masks"]}
            for name, (value, low, high, count, verdict) in row["checks"].items():
                numbers = {"value": f"{value:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}", "n": count}
                lines.append({**about, "check": name, **numbers, "verdict": verdict})
            for name in ("answers that were seen, not guessed", "share of the absolute scores: prompt"):
                value, low, high, count = row["scores"][name]
                numbers = {"value": f"{value:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}", "n": count}
                lines.append({**about, "check": name, **numbers, "verdict": ""})
    return lines


def audit_rates(by_seed):
    """Return the share of the audits of each model, and of models with and without a shortcut, with a verdict."""
    rows = [row for of_seed in by_seed.values() for row in of_seed]
    honest = (ORDINARY, "honest")
    shortcuts = tuple(kind for kind in KINDS if kind != "honest")
    lines = []
    for masks, models in product((True, False), (*((kind,) for kind in (*honest, *shortcuts)), honest, shortcuts)):
        own = [row["checks"].values() for row in rows if row["model"] in models and row["masks"] == masks]
        for verdict in ("fail", "cannot tell", "warn"):
            hits = [any(check[-1] == verdict for check in checks) for checks in own]
            fields = interval_fields(hits, (0.0, 1.0))
            audits = fields.pop("questions")
            about = {"models": ", ".join(models), "masks": masks, "a check says": verdict}
            lines.append({**about, "audits": audits, **fields})
    return lines


def interval_fields(values, bounds):
    mean, low, high = interval(np.asarray(values, float), bounds)
    return {"questions": len(values), "value": f"{mean:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}


def shares_table(by_seed):
    """Return how well the shares of each method tell each model with a shortcut from the honest one."""
    lines = []
    for seed, rows in by_seed.items():
        for method in sorted({row["method"] for row in rows}):
            own = [row for row in rows if row["method"] == method]
            seconds = np.median([row["seconds"] for row in own])
            for kind, fixed in SHARES.items():
                for part, amounts in product(dict.fromkeys((fixed, "prompt")), ("absolute", "positive")):
                    line = {"seed": seed, "method": method, **shares_line(own, kind, part, amounts)}
                    lines.append(line | {"median seconds": f"{seconds:.2f}"})
    return lines


def shares_line(rows, kind, part, amounts):
    """Return how well the share of a part tells a kind of model from the honest one, by the rows of a method."""
    values = [[share(row["parts"][amounts], part) for row in rows if row["kind"] == name] for name in (kind, "honest")]
    both = np.array(values)
    mean, low, high = auc(both.T)
    middle = np.median(both, 1)
    return {
        "shortcut": kind,
        "share of": part,
        "fixed in advance": "yes" if part == SHARES[kind] else "no",
        "scores": amounts,
        "questions": both.shape[1],
        "auc": f"{mean:.3f}",
        "low": f"{low:.3f}",
        "high": f"{high:.3f}",
        "median of shortcut": f"{middle[0]:.3f}",
        "median of honest": f"{middle[1]:.3f}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "interventions", "measure", "audit", "report"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="the kinds that are trained")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--stop", type=int, help="end training after that many steps")
    parser.add_argument("--count", type=int, default=100, help="the number of questions")
    parser.add_argument("--csv", type=Path, help="a folder for the tables of the report")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = {"train": train, "interventions": interventions, "measure": measure, "audit": audit, "report": report}
    steps[options.step](options)


if __name__ == "__main__":
    main()
