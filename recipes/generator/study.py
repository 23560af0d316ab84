"""Measure which methods find the object of a noun that the generator of scenes wrote, and which nouns it guessed.

    python recipes/generator/study.py measure --model RUN/model --out STUDY [--count 500]
    python recipes/generator/study.py report --out STUDY
    python recipes/generator/study.py sums --model scenes_generator --out STUDY [--count 60] [--method "nib views=1"]
    python recipes/generator/study.py judgments --model scenes_generator --out STUDY [--count 300] [--csv FILE]

Resumes: STUDY/rows.jsonl has a line for each noun and setting. Maps are those of ``nibt.explain_answer``. A noun is
*seen* if the image shows its object, and *guessed* if it is the companion of the noun before and the image does not
show it (see world.py). Other nouns are mistakes, which are only counted; companions that are there are left out, since
both may be why they were written.

``judgments`` measures how often nouns are judged to be seen or guessed, in own answers and in given ones.

``sums`` measures how well the rows of answers add up, on scenes of a seed of its own: the scores of the image against
the log-probability minus that with a blank image, and all scores with the rest against the value minus the baseline.
"""

import argparse
import csv
import json
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from world import COMPANIONS, DESCRIBE, NOUNS, Scenes, tasks

import nibt
from nibt.core.perturbation import masker
from nibt.data.images import SAMPLE, Region, read_image, samples
from nibt.data.units import SequenceUnits
from nibt.evaluation.statistics import interval
from nibt.generators.answers import Prompted
from nibt.generators.forced import ForcedAnswer
from nibt.generators.loading import load_generator
from nibt.generators.results.answer_word import judgment
from nibt.registry import MethodSpec, find
from nibt.results.pixels import over_image
from nibt.types import SOURCES

TEST, QUESTIONS, SUMS, JUDGMENTS = 13, 14, 15, 16  # seeds of scenes that served for nothing else
BACKGROUNDS = ("plain", "gradient", "noise", "texture")
OTHERS = 8  # other images
THRESHOLDS = (0.25, 0.5, 1.0, 2.0)  # of what the image adds, in nats
IMAGE, PROMPT = ("image",), ("prompt",)
SETTINGS = {
    "nib": ("nib", IMAGE),
    "nib, 1 view": ("nib views=1", IMAGE),
    "nib, 3 views": ("nib views=3", IMAGE),
    "nib, 1 view, layer 1": ("nib views=1 layer=1", IMAGE),
    "nib, 1 view, layer 2": ("nib views=1 layer=2", IMAGE),
    "nib, 1 view, layer 3": ("nib views=1 layer=3", IMAGE),
    "nib, 1 view, all sources at once": ("nib tolerance=0.05", SOURCES),
    "grad_cam": ("grad_cam layer=0", IMAGE),
    "saliency_map at input": ("saliency_map:textbook", IMAGE),
    "gae": ("gae", IMAGE),
    "gae, 3 views": ("gae views=3", IMAGE),
    "rollout": ("rollout", IMAGE),
    "occlusion": ("occlusion", IMAGE),
    "logit_lens": ("logit_lens", IMAGE),
    "tam": ("tam", IMAGE),
    "eagle": ("eagle segments=24", IMAGE),
    "random": ("random", IMAGE),
}
"""The methods of maps, with the sources that are narrowed; one source is narrowed by ``nibt.explain_answer``."""
OF_WORDS = {
    "nib": ("nib tolerance=0.05", PROMPT),
    "nib, all sources at once": ("nib tolerance=0.05", SOURCES),
    "occlusion": ("occlusion", PROMPT),
    "gae": ("gae", PROMPT),
    "saliency_map at input": ("saliency_map:textbook", PROMPT),
    "random": ("random", PROMPT),
}
"""The methods of words of questions."""


def scene_of(seed, item):
    data = Scenes(count=10**7, seed=seed, fewest=1, most=3, backgrounds=BACKGROUNDS)
    scene, both = tasks(data, item)
    return data, scene, both


def image_of(data, scene, item):
    return data._image(scene, item)


def nouns_of(words, scene):
    """Return the numbers of the nouns of an answer, with what is known of each."""
    nouns, before = [], ""
    for number, word in enumerate(words):
        if word.text not in NOUNS:
            continue
        is_companion = COMPANIONS.get(before) == word.text
        if word.text in scene.names and not is_companion:
            nouns.append((number, word.text, "seen"))
        elif word.text not in scene.names and is_companion:
            nouns.append((number, word.text, "guessed"))
        else:
            nouns.append((number, word.text, "left out" if word.text in scene.names else "mistake"))
        before = word.text
    return nouns


def measure_map(grid, mask):
    """Return pointing, average precision and the share of the positive score on the mask."""
    heat = over_image(grid, Region(0.0, 0.0, 128.0, 128.0), (128, 128))
    place = np.unravel_index(np.argmax(heat), heat.shape)
    positive = heat.clip(min=0)
    return {
        "pointing": float(mask[place]),
        "ap": float(average_precision_score(mask.flatten(), heat.flatten())),
        "energy": float(positive[mask].sum() / max(positive.sum(), 1e-12)),
    }


def removal_areas(side, grid):
    """Return the mean log-probability while the patches with the highest scores are removed, and are added."""
    units = side.units
    assert isinstance(units, SequenceUnits)
    cells = units.grid.count
    coarse = F.adaptive_avg_pool2d(grid[None], (units.grid.rows, units.grid.columns))  # of several views
    order = torch.argsort(coarse.flatten(), descending=True, stable=True)
    steps = [round(share * cells) for share in np.linspace(0, 1, 9)]
    keep = torch.ones(2 * len(steps), 1, units.count)
    for number, count in enumerate(steps):
        keep[number, 0, order[:count]] = 0
        keep[len(steps) + number, 0, order[count:]] = 0
    with torch.no_grad():
        scores = masker(side, units)(keep)[:, 0]
    return {"deletion": float(scores[: len(steps)].mean()), "insertion": float(scores[len(steps) :].mean())}


def read_rows(path):
    """Return the rows of a file of JSON lines; none if there is no file yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(options):
    generator = load_generator(options.model)
    path = options.out / "rows.jsonl"
    done = {row["scene"] for row in read_rows(path)}
    others = [image_of(*scene_of(TEST, 10**6 + item)[:2], 10**6 + item) for item in range(OTHERS)]
    with path.open("a", buffering=1) as out:
        for item in range(options.first, options.first + options.count):
            if item in done:
                continue
            rows = [*captions(generator, item, others), *questions(generator, item)]
            out.write("".join(json.dumps({"scene": item, **row}) + "\n" for row in rows or [{"what": "nothing"}]))


def captions(generator, item, others):
    """Yield the measurements of the nouns of the caption that the generator writes."""
    data, scene, _ = scene_of(TEST, item)
    tower = generator.answers
    prompted = Prompted(image_of(data, scene, item), DESCRIBE)
    answer = tower.write(prompted, 20)
    nouns = nouns_of(answer.words, scene)
    forced = ForcedAnswer(generator, tower, prompted, answer)
    logs = forced.log_probabilities(prompted.image)
    blank = forced.log_probabilities(None)
    with_others = np.mean([forced.log_probabilities(other) for other in others], 0)
    for number, word in enumerate(answer.words):
        if word.text not in NOUNS:
            yield {"what": "word", "log": logs[number], "blank": blank[number], "others": float(with_others[number])}
    by_words = {}
    for number, noun, known in nouns:
        row = {"what": "noun", "noun": noun, "known": known, "log": logs[number], "blank": blank[number]}
        row |= {"others": float(with_others[number])}
        if known in ("mistake", "left out"):
            yield row | {"setting": ""}
            continue
        for name, (text, sources) in SETTINGS.items():
            narrowed = ForcedAnswer(generator, tower.narrowing(sources), prompted, answer)
            side = narrowed.side([number], None, None)
            if sources == SOURCES:
                grid, values = map_on_one_path(side, text)
            else:
                if name not in by_words:
                    by_words[name] = maps_of_words(forced, text)
                grid, values = by_words[name][number]
            if known == "seen":
                mask = scene.masks[scene.names.index(noun)]
                values = values | measure_map(grid, mask) | removal_areas(side, grid)
            yield row | {"setting": name, "image": float(grid.sum()), **values}


def maps_of_words(forced, text):
    """Return the map of each word of an answer, by the public call, with what its row misses."""
    prompted, started = forced.prompted, time.perf_counter()
    explanation = nibt.explain_answer(
        forced.generator, prompted.image, prompted.prompt, forced.answer.text, text, narrow="image", other_images=[]
    )
    assert [word.tokens for word in explanation.words] == [word.tokens for word in forced.answer.words]
    seconds = (time.perf_counter() - started) / len(explanation.words)
    maps = []
    for word in explanation.words:
        values = {"seconds": seconds}
        if explanation.adds_up:
            change = word.changes["image"]
            values |= {"gap": word.gap, "change": change, "at_patches": float(word.grid.sum()) / change}
        maps.append((word.grid, values))
    return maps


def map_on_one_path(side, text):
    """Return the map of a word on the path that narrows all sources together."""
    spec, started = MethodSpec.parse(text), time.perf_counter()
    attribution = find("methods", spec.name).configured(side.tower, spec.variant, spec.options, {})(side)
    units, path = attribution.units, attribution.path
    grid = units.grid.unfold(attribution.scores[0, : units.grid.count].float())
    values = {"seconds": time.perf_counter() - started, "gap": float(path.gap[0])}
    change = float(path.at_input[0] - path.at_baseline[0])
    return grid, values | {"change": change, "at_patches": float(grid.sum() / path.sum[0])}


def questions(generator, item):
    """Yield how well the scores of a question's words name those that the answer needs."""
    data, scene, (_, task) = scene_of(QUESTIONS, item)
    tower = generator.answers
    prompted = Prompted(image_of(data, scene, item), task.prompt)
    answer = tower.write(prompted, 3)
    right = answer.text == task.answer
    row = {"what": "question", "right": right, "prompt": task.prompt, "answer": answer.text}
    if not right or len(answer.words) != 1 or not {"left", "right"} & {*task.needed}:
        yield row
        return
    for name, (text, sources) in OF_WORDS.items():
        forced = ForcedAnswer(generator, tower.narrowing(sources), prompted, answer)
        side, spec = forced.side([0], None, None), MethodSpec.parse(text)
        method = find("methods", spec.name).configured(side.tower, spec.variant, spec.options, {})
        attribution = method(side)
        tokens = attribution.scores[0, attribution.units.grid.count :]
        words = side.inputs.words.words[0]
        scores = [abs(float(tokens[list(word.tokens)].sum())) for word in words]
        needed = [word.text in task.needed for word in words]
        yield row | {"setting": name, "auc": float(roc_auc_score(needed, scores))}


def report(options):
    rows = [json.loads(line) for line in (options.out / "rows.jsonl").read_text().splitlines()]
    nouns = [row for row in rows if row["what"] == "noun"]
    unique = [row for row in nouns if row.get("setting") in ("", next(iter(SETTINGS)))]
    kinds = ("seen", "guessed", "left out", "mistake")
    counts = {known: sum(row["known"] == known for row in unique) for known in kinds}
    print(f"{len({row['scene'] for row in rows})} scenes; nouns: " + ", ".join(f"{v} {k}" for k, v in counts.items()))
    posed = [row for row in rows if row["what"] == "question" and row.get("setting") in (None, "nib")]
    print(f"questions: {np.mean([row['right'] for row in posed]):.2f} right of {len(posed)}\n")
    table = [line for name in SETTINGS for line in map_line(name, [r for r in nouns if r.get("setting") == name])]
    print(
        "\n".join(" | ".join(map(str, line.values())) for line in [dict(zip(table[0], table[0], strict=True)), *table])
    )
    seen, guessed = ([row for row in unique if row["known"] == known] for known in ("seen", "guessed"))
    for name in ("others", "blank"):
        gains = [[row["log"] - row[name] for row in group] for group in (seen, guessed)]
        auc = roc_auc_score([1] * len(seen) + [0] * len(guessed), [*gains[0], *gains[1]])
        print(f"\ngain against {name}: AUC of seen against guessed {auc:.3f}")
        for known, values in zip(("seen", "guessed"), gains, strict=True):
            shares = {threshold: round(float(np.mean(np.less(values, threshold))), 3) for threshold in THRESHOLDS}
            print(known, "quantiles", np.quantile(values, [0.05, 0.5, 0.95]).round(2).tolist(), "share below", shares)
    print("\nwords of questions that the answer needs, AUC")
    for name in OF_WORDS:
        own = [row for row in rows if row["what"] == "question" and row.get("setting") == name]
        if own:
            print(f"{name} | {bootstrap(own, 'auc')} | n={len(own)}")
    if options.csv:
        with options.csv.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)


def map_line(name, own):
    """Yield the line of a setting."""
    seen, guessed = ([row for row in own if row["known"] == known] for known in ("seen", "guessed"))
    if not seen:
        return
    line = {"method": name, "nouns": len(seen)}
    for key in ("pointing", "ap", "energy", "deletion", "insertion"):
        mean, low, high = interval([row[key] for row in seen])
        line |= {key: f"{mean:.3f}", f"{key} low": f"{low:.3f}", f"{key} high": f"{high:.3f}"}
    labels = [1] * len(seen) + [0] * len(guessed)
    auc = roc_auc_score(labels, [row["image"] for row in [*seen, *guessed]]) if guessed else None
    gaps = [abs(row["gap"] / row["change"]) for row in own if row.get("change")]
    shares = [row["at_patches"] for row in seen if "at_patches" in row]
    line |= {
        "seen against guessed": "" if auc is None else f"{auc:.3f}",
        "median gap": f"{np.median(gaps):.4f}" if gaps else "",
        "at patches": f"{np.median(shares):.2f}" if shares else "",
        "median seconds": f"{np.median([row['seconds'] for row in own]):.2f}",
    }
    yield line


def sums(options):
    """Print how far rows of answers are from adding up, for captions and questions of scenes that chose nothing."""
    generator, rows = load_generator(options.model), []
    for item in range(options.first, options.first + options.count):
        data, scene, (_, task) = scene_of(SUMS, item)
        for prompt in (DESCRIBE, task.prompt):
            image = image_of(data, scene, item)
            explanation = nibt.explain_answer(generator, image, prompt, method=options.method, other_images=[])
            notes = [note for note in explanation.warnings if "add up" in note]
            for word in explanation.words:
                change, total = word.log_probability - word.with_blank_image, word.value - word.at_blank
                misses = {"image": (change - word.shares["image"], change), "all": (word.gap, total)}
                shares = {name: abs(gap) / max(abs(whole), 0.01) for name, (gap, whole) in misses.items()}
                noted = any(repr(word.text) in note for note in notes)
                rows.append({"what": "sum", "scene": item, **shares, "noted": noted})
    (options.out / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(
        f"{options.method}: {len(rows)} words of {2 * options.count} answers, {sum(row['noted'] for row in rows)} noted"
    )
    for name in ("image", "all"):
        gaps = np.array([row[name] for row in rows])
        silent = sum(row[name] > 0.1 and not row["noted"] for row in rows)
        print(
            f"{name}: gap median {np.median(gaps):.4f}, 90th {np.quantile(gaps, 0.9):.4f}, max {gaps.max():.3f}; "
            f"above 0.10: {int((gaps > 0.1).sum())}, {silent} without a note"
        )


def judgments(options):
    """Print how often nouns whose objects are in the image, and others, are judged to be seen or guessed.

    Given answers name the objects in random order. Half of them are followed by a noun without an object, which is in
    half of these cases the companion of the noun before, that the model learned to guess.
    """
    generator, draws, counts = load_generator(options.model), np.random.default_rng(JUDGMENTS), Counter()
    others = [read_image(f"{SAMPLE}{name}") for name in samples()]
    for item in range(options.first, options.first + options.count):
        data, scene, _ = scene_of(JUDGMENTS, item)
        prompted, tower = Prompted(image_of(data, scene, item), DESCRIBE), generator.answers
        answers = {"own": tower.write(prompted, 20), "given": tower.read(prompted, given_answer(scene, draws))}
        for kind, answer in answers.items():
            probabilities = ForcedAnswer(generator, tower, prompted, answer).probabilities(others)
            before = ""
            for word, of_word in zip(answer.words, probabilities, strict=True):
                if word.text in NOUNS:
                    is_companion = COMPANIONS.get(before) == word.text
                    known = "in the image" if word.text in scene.names else "companion" if is_companion else "absent"
                    counts[kind, known, judgment(of_word.image, of_word.others)] += 1
                    before = word.text

    lines = []
    for kind in ("own", "given"):
        for known in ("in the image", "companion", "absent"):
            numbers = {name: counts[kind, known, name] for name in ("seen", "guessed", "cannot tell")}
            total = sum(numbers.values())
            guessed = [float(number < numbers["guessed"]) for number in range(total)]
            share, low, high = interval(guessed, (0.0, 1.0)) if total > 1 else (math.nan,) * 3
            lines.append({"answer": kind, "object": known, "nouns": total, **numbers, "guessed share": round(share, 4)})
            lines[-1] |= {"low": round(low, 4), "high": round(high, 4)}
    print(f"{options.count} scenes")
    for line in [dict(zip(lines[0], lines[0], strict=True)), *lines]:
        print(" | ".join(map(str, line.values())))
    if options.csv:
        with options.csv.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)


def given_answer(scene, draws):
    """Return an answer that names the objects of a scene, and others."""
    named, absent = [], [noun for noun in NOUNS if noun not in scene.names]
    for noun in draws.permutation(list(dict.fromkeys(scene.names))):
        named.append(str(noun))
        companion = COMPANIONS.get(noun)
        if draws.random() < 0.5:
            guess = companion is not None and companion in absent and draws.random() < 0.5
            named.append(companion if guess else absent[draws.integers(len(absent))])
    return " and ".join(f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in named)


def bootstrap(rows, key):
    """Return the mean with its interval."""
    mean, low, high = interval([row[key] for row in rows])
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("measure", "report", "sums", "judgments"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--method", default="nib", help="the method of sums")
    parser.add_argument("--first", type=int, default=0, help="the first scene; those below 500 chose defaults")
    parser.add_argument("--only", nargs="*", metavar="SETTING", help="the settings of maps; all without it")
    parser.add_argument("--csv", type=Path, help="a file for the table of the report")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in set(SETTINGS) - set(options.only or SETTINGS):
        del SETTINGS[name]
    {"measure": measure, "report": report, "sums": sums, "judgments": judgments}[options.step](options)


if __name__ == "__main__":
    main()
