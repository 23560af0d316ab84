"""How often nibt says wrongly, or fails to say, that the model rates an image and a caption as no match.

It feeds docs/explanation/reading.md.

    python benchmarks/mismatch.py                  # drawn scenes, with the model scenes
    python benchmarks/mismatch.py --photos FOLDER  # photographs, with the model lite; FOLDER holds annotations.json
    python benchmarks/mismatch.py --notes [--photos FOLDER]  # notes on what a model does not know
    python benchmarks/mismatch.py --words          # notes on words that a model does not react to

A false alarm is a pair that belongs together and is called a mismatch; a miss is a pair without a common object that is
not. Beside the rule of ``nibt.engine.mismatch`` stand its two halves, and the rank of the caption among a hundred
everyday captions (``everyday.txt``), which nibt does not use.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from limit import machine

import nibt
from nibt.core.side import Side
from nibt.data.images import read_image
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.engine.batches import batch_indices, trace_sides
from nibt.engine.encode import encode
from nibt.engine.explanations import MARGIN, mismatches
from nibt.engine.reactions import NEAR_BLANK, NO_REACTION_TO, UNMOVED, moves, reactions
from nibt.engine.spec import Request, resolve
from nibt.preprocessing.captions import FUNCTION_WORDS, UNKNOWN
from nibt.preprocessing.captions import NOUNS as EVERYDAY_NOUNS
from nibt.registry import MethodSpec
from nibt.results.explanation import MISMATCH, NEGLIGIBLE, NO_REACTION, WEAK
from nibt.targets.base import CosineSimilarity

cosine = CosineSimilarity()

EVERYDAY = Path(__file__).with_name("everyday.txt").read_text(encoding="utf-8").splitlines()
UNKNOWN_CAPTIONS = (
    "florbish|qzx vbn|florbish grunkle|zlorp strub|asdf jkl|xkcd qwfp|blorf|42|love|justice|a nurse and a teacher|"
    "happiness and sorrow|the king of france|\u043a\u043e\u0448\u043a\u0430|\u732b|\u0643\u0644\u0628|"
    "\u03b3\u03ac\u03c4\u03b1|\ud55c\uad6d\uc5b4"
).split("|")
OTHERS = 25  # captions without a common object, for each image


def verdicts(model, pairs, batch=32):
    """For each rule: whether it calls each pair a mismatch."""
    question = resolve(model, Request(MethodSpec("center")))
    everyday = encode(model.text, EVERYDAY)
    verdict = {}
    for indices in batch_indices(question, pairs, batch):
        image, text = trace_sides(question, [pairs[index] for index in indices])
        seen, caption = image.trace.embedding, text.trace.embedding
        similarities, nothing = cosine(seen, caption), model.image.encode(model.image.empty_inputs())
        blanks = cosine(seen, text.blank()), cosine(caption, nothing)
        below_caption, below_image = (model.scale * (blank - similarities) for blank in blanks)
        warned = torch.tensor([bool(warning) for warning in mismatches(image, text)])
        assert torch.equal(warned, (below_caption > MARGIN) | (below_image > MARGIN))
        better = (cosine(image.trace.embedding[:, None], everyday) > similarities[:, None]).sum(1)
        rules = {
            f"the rule: {MARGIN} below the blank caption or the blank image": warned,
            f"{MARGIN} below the blank caption": below_caption > MARGIN,
            f"{MARGIN} below the blank image": below_image > MARGIN,
            **{
                f"the rule with a margin of {other}": (below_caption > other) | (below_image > other)
                for other in (0, 1)
            },
            **{f"at least {n} of {len(EVERYDAY)} everyday captions fit better": better >= n for n in (10, 25, 50)},
        }
        for quadrature, calls in rules.items():
            verdict.setdefault(quadrature, torch.zeros(len(pairs), dtype=torch.bool))[indices] = calls
    return verdict


def report(title, model, matching, others):
    calls = verdicts(model, matching + others)
    print(f"\n{title}: {len(matching)} matching pairs, {len(others)} without a common object\n")
    print("| rule | false alarms | misses |\n|---|---|---|")
    for quadrature, called in calls.items():
        alarms, hits = called[: len(matching)].float().mean(), called[len(matching) :].float().mean()
        print(f"| {quadrature} | {100 * alarms:.1f} % | {100 * (1 - hits):.1f} % |")


def of_scenes(named, count):
    scenes = list(Scenes(count, seed=21, named=named))
    names = [{one.name for one in pair.objects} for pair in scenes]
    return scenes, crossed([pair.image for pair in scenes], [[pair.caption] for pair in scenes], names, 3)


def crossed(images, captions, names, count):
    """Each image with captions of images that have no object in common with it."""
    draw, pairs = random.Random(0), []
    for place, image in enumerate(images):
        apart = [text for other, texts in enumerate(captions) if not names[place] & names[other] for text in texts]
        pairs += [Pair(image, text) for text in draw.sample(apart, min(count, len(apart)))]
    return pairs


def of_photographs(folder):
    """All captions, and only those that name an object whose kind is known."""
    listed = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))["images"]
    images = [read_image(folder / one["file"]) for one in listed]
    names = [{one["category"] for one in each["objects"]} for each in listed]
    naming = [
        [
            text
            for number, text in enumerate(one["captions"])
            if any(word["caption"] == number and word["category"] != "person" for word in one["grounded_words"])
        ]
        for one in listed
    ]
    for title, captions in (("all captions", [one["captions"] for one in listed]), ("that name an object", naming)):
        matching = [Pair(image, text) for image, texts in zip(images, captions, strict=True) for text in texts]
        yield f"photographs, lite, {title}", matching, crossed(images, captions, names, OTHERS)


def notes(title, model, pairs):
    """Print how many explanations of pairs have each note on what the model does not know."""
    answers = nibt.explain(model, [pair.image for pair in pairs], [pair.caption for pair in pairs], batch_size=4)
    starts = (NO_REACTION, UNKNOWN, NO_REACTION_TO, NEGLIGIBLE, WEAK, MISMATCH)
    noted = [
        {
            start
            for start in starts
            for line in answer.warnings
            if line.startswith(start + (" '" if start == NO_REACTION_TO else ""))
        }
        for answer in answers
    ]
    counts = [*(sum(start in each for each in noted) for start in starts), sum(bool(each) for each in noted)]
    print(f"| {title} | {len(pairs)} | {' | '.join(map(str, counts))} |", flush=True)


def note_tables(folder):
    print("| captions | pairs | no reaction | unknown words | without reaction | negligible | weak | no match | any |")
    print("|---|---|---|---|---|---|---|---|---|")
    if folder is not None:
        listed = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))["images"]
        images = [read_image(folder / one["file"]) for one in listed]
        own = [one["captions"][0] for one in listed]
        lite = nibt.load_model("lite")
        notes("lite, own", lite, list(map(Pair, images, own)))
        notes("lite, of another photograph", lite, list(map(Pair, images, own[7:] + own[:7])))
        notes("lite, unknown", lite, list(map(Pair, images, UNKNOWN_CAPTIONS)))
    scenes = nibt.load_model("scenes")
    torch.manual_seed(0)
    module = type(scenes.module)(scenes.module.config).eval()
    request = scenes.request
    untrained = nibt.load_model(module, processor=request.processor, tokenizer=request.tokenizer)
    pairs = list(Scenes(60, seed=21))
    absent = [
        Pair(pair.image, "a " + random.Random(place).choice([noun for noun in NOUNS if noun not in shown]))
        for place, pair in enumerate(pairs)
        for shown in [{one.name for one in pair.objects}]
    ]
    unknown = [Pair(pair.image, UNKNOWN_CAPTIONS[place % 18]) for place, pair in enumerate(pairs)]
    for name, model in (("scenes", scenes), ("random CLIP", untrained)):
        notes(f"{name}, own", model, pairs)
        notes(f"{name}, an absent object", model, absent)
        notes(f"{name}, unknown", model, unknown)


TEMPLATES = (
    "a {}|a photo of a {}|{} and {}|a {} next to a {}|two {} with a {} and a {}|there is a {}, a {}, a {} and a {}|"
    "a {} in front of a {} beside the {} with a {} near a {} and a {}"
).split("|")


def word_lists(name):
    """Words that a model was taught, and words that it was not."""
    if name == "scenes":
        return list(NOUNS), [noun for noun in EVERYDAY_NOUNS if noun not in NOUNS]
    recipe = Path(__file__).parents[1] / "recipes" / "lite"
    taught = json.loads((recipe / "everyday.json").read_text(encoding="utf-8"))
    neutral = (recipe / "neutral.txt").read_text(encoding="utf-8").split()
    unknown = [word for word in neutral if word not in taught and word not in FUNCTION_WORDS and word.isalpha()]
    return [word for word in taught if word.isalpha() and len(word) > 2], unknown


def word_table(name, count=400):
    """Print which taught words are named as without reaction, and which other words are not."""
    model, draw = nibt.load_model(name), random.Random(0)
    lists = [draw.sample(words, len(words)) for words in word_lists(name)]
    shares = {f"{share}": share for share in (0.03, 0.05, UNMOVED, 0.2)} | {"no limit": 1e9}
    for half, purpose in enumerate(("chosen on", "reported")):
        taught, others = (words[half::2] for words in lists)
        rows = []
        for _ in range(count):
            template = draw.choice(TEMPLATES)
            words = [draw.choice(taught if draw.random() < 0.6 else others) for _ in range(template.count("{}"))]
            trace = model.text.trace(model.text.prepare([template.format(*words)]), model.text.depth)
            caption = Side(model, trace, cosine)
            reaction = float(reactions(caption))
            content = [word for word in trace.inputs.words.words[0] if word.text in words]
            if reaction >= NEAR_BLANK:
                rows += [
                    (word.text in taught, moved, reaction)
                    for word, moved in zip(content, moves(caption, content).tolist(), strict=True)
                ]
        for label, share in shares.items():
            named = [(known, moved < min(NEAR_BLANK, share * reaction)) for known, moved, reaction in rows]
            alarms = [called for known, called in named if known]
            noted = [called for known, called in named if not known]
            print(
                f"| {name}, {purpose} | {label} | {100 * sum(alarms) / len(alarms):.1f} % of {len(alarms)} | "
                f"{100 * sum(noted) / len(noted):.1f} % of {len(noted)} |",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--notes", action="store_true")
    parser.add_argument("--words", action="store_true")
    options = parser.parse_args()
    print(machine())
    if options.words:
        print("| model | limit, as a share of the distance from a blank caption | taught words named | others named |")
        print("|---|---|---|---|")
        for name in ("lite", "scenes"):
            word_table(name)
        return
    if options.notes:
        note_tables(options.photos)
        return
    if options.photos is None:
        model = nibt.load_model("scenes")
        for named in ("all", "some", "one"):
            report(f"scenes, captions that name {named} of the objects", model, *of_scenes(named, options.scenes))
        return
    model = nibt.load_model("lite")
    for title, matching, others in of_photographs(options.photos):
        report(title, model, matching, others)


if __name__ == "__main__":
    main()
