"""Every class of model that nibt explains, small and with random weights, and what runs on it.

It feeds docs/reference/results/zoo.md and docs/reference/models.md.

    OMP_NUM_THREADS=1 python benchmarks/zoo.py [--only TEXT] [--write]

A model passes if it gives its own embeddings, or log-probabilities, when it is cut at any layer (1 - cosine below
1e-5), and if every method that its towers allow gives finite maps. The columns: the layers of the image and the text
tower; the largest 1 - cosine of a cut; the completeness gap of NIB on the image with 64 steps, relative to the change
of the score; and the methods that run on both sides, or on one. ``--write`` writes the table to
``docs/reference/results/zoo.csv``, its summary to ``zoo.md``, and the list of classes to ``docs/reference/models.md``.
Exit code 1: a model does not pass.

Where a released form of a class is known (``models/facts``), its small copy is measured; other classes have builders
of their own in ``models``, each of which returns a module (or a pair), its processor and its tokenizer.
"""

import argparse
import csv
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from models import (
    released,
    tiny_classifiers,
    tiny_encoder_decoder,
    tiny_families,
    tiny_open_clip,
    tiny_vision_language,
    tiny_writers,
)
from PIL import Image
from torch import nn

import nibt
from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.errors import Unsupported
from nibt.generators.answers import Generator, Prompted
from nibt.generators.forced import ForcedAnswer
from nibt.registry import find

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "reference" / "results" / "zoo.md"
LIST = ROOT / "docs" / "reference" / "models.md"
LIMIT = 1e-5
CAPTIONS = ["a photo of a cat and a dog", "two cars"]
QUICK = {
    "banzhaf": {"budget": 12},
    "fixlip": {"budget": 12},
    "integrated_gradients": {"steps": 2},
    "m2ib": {"steps": 2, "samples": 2},
    "mfaba": {"steps": 2},
    "nib": {"steps": 2},
    "rise": {"masks": 8},
    "shapley": {"budget": 12},
}
HEAD = """# All classes of models

To explain a layer, nibt cuts a model there: it replaces the hidden state, and runs the rest of the model on it. This
page tests cutting for each class of models: if the hidden state is replaced by itself, a cut model must have the same
embeddings (a generator: the same log-probabilities) as the uncut model. The models are small and have random
weights, so this page does not show how good maps of released checkpoints are. [zoo.csv](zoo.csv) has a row for each
model; `python benchmarks/zoo.py --write` writes this page and the file.

- **models**: how many of the tested models run without an error and have a *cut* below 1e-5.
- **cut**: 1 - cosine between the embeddings of the uncut model and of the model cut at a layer (for a generator,
  between the log-probabilities of the vocabulary); the largest value over the layers.
- **gap**: the completeness gap of NIB on the image with 64 steps (16 for more than 230 tokens), for the scores of all
  tokens, relative to the change of the target; the larger gap of two inputs. GroupViT's assignment of patches to groups
  has no gradient, so [a softmax's gradient](../models.md#special-cases) is used instead, and the scores do not add up
  (2e+04 %). Relative gaps are also large if the target changes little: by 0.007 for GroupViT, and by 0.01 for the copy
  of TrOCR (gap 150 %). For ColPali, and BLIP-2 and InstructBLIP with T5 (gaps of 34 to 500 %), 16 steps are too few.
- **methods**: the number of methods that run on a model; several numbers if the models of a group differ. Some methods
  need attention over all tokens, which towers of convolutions, windows or groups do not have. On models with more than
  230 tokens, only four methods were tried.

In the file, names such as `openai/clip-vit-base-patch32` are [small copies of released models](released.md). The other
names are small models of nibt's tests.

"""
LONG, FEW = 230, ("nib", "integrated_gradients", "grad_cam", "random")
COLUMNS = ("group", "model", "class", "image layers", "text layers", "cut", "gap, %", "methods", "failure")


@dataclass(frozen=True)
class Row:
    """What a model gave."""

    group: str
    name: str
    kind: str
    layers: tuple[int, ...] = ()
    cut: float = float("nan")
    gap: float = float("nan")
    methods: str = ""
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure and self.cut < LIMIT

    def cells(self) -> list[str]:
        layers = [str(count) for count in self.layers] or ["", ""]
        numbers = [f"{self.cut:.0e}", f"{100 * self.gap:.2g}"] if not self.failure else ["", ""]
        return [self.group, self.name, self.kind, *layers, *numbers, self.methods, self.failure]


def wrapped(name: str) -> Any:
    """Return CLIP in a wrapper."""
    built = tiny_families.clip()
    holder = nn.Module()
    holder.model = built.module
    modules: dict[str, Callable[[], Any]] = {
        "torch.compile": lambda: torch.compile(built.module),
        "DataParallel": lambda: nn.DataParallel(built.module),
        "nn.Sequential of sentence-transformers": lambda: nn.Sequential(holder),
    }
    return tiny_families.Family(modules[name]().eval(), built.processor, built.tokenizer)


def copied(name: str) -> Any:
    """Load the small copy of a released model as its users would."""
    known = released.facts(name)
    load = nibt.load_generator if known["use"] == "answer" and known["library"] == "transformers" else nibt.load_model
    with TemporaryDirectory() as folder, tiny_open_clip.small_trunks(None):
        place = Path(folder) / name
        released.save(name, place)
        return load(place)


def copies(library: str, chosen: Callable[[dict[str, Any]], bool]) -> dict[str, Callable[[], Any]]:
    """Return what loads the small copies of released models of a library."""
    known = {name: released.facts(name) for name in released.names()}
    return {
        facts["name"]: partial(copied, name)
        for name, facts in known.items()
        if released.is_built(facts) and facts["library"] == library and chosen(facts)
    }


def others(
    builders: dict[str, Callable[[], Any]], making: Callable[[Callable[[], Any]], Any]
) -> dict[str, Callable[[], Any]]:
    """Return the builders of classes without a released form here."""
    return {name: partial(making, build) for name, build in builders.items() if name not in RELEASED}


def built(build: Callable[[], Any]) -> Any:
    """Load a model in memory."""
    family = build()
    return nibt.load_model(family.module, processor=family.processor, tokenizer=family.tokenizer, **family.options)


def written_by(build: Callable[[], Any]) -> Any:
    """Load a generator in memory."""
    family = vision_language(build)
    return nibt.load_generator(family.module, processor=family.processor)


def vision_language(making: Callable[[], Any]) -> Any:
    """Return a vision-language model with random weights."""
    plain = making()
    return tiny_families.Family(
        tiny_families.randomized(plain.make), plain.processor, plain.processor.tokenizer, plain.options
    )


def classifier(name: str) -> Any:
    """Load a classifier from its folder, or one of torchvision in memory."""
    if name in tiny_classifiers.TORCHVISION:
        module, transform = tiny_classifiers.of_torchvision(name)
        return nibt.load_model(module, processor=transform, labels=tiny_classifiers.NAMES)
    with TemporaryDirectory() as folder:
        tiny_classifiers.save(name, Path(folder))
        return nibt.load_model(folder)


WRAPPERS = ("torch.compile", "DataParallel", "nn.Sequential of sentence-transformers")
RELEASED = {
    *("clip", "siglip", "siglip 2 naflex", "long clip", "metaclip 2", "clipseg segmenter", "chinese clip", "altclip"),
    *("align", "blip", "blip 2", "flava pretraining", "groupvit", "owlvit detector", "owlv2 detector"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "smolvlm", "paligemma", "gemma3", "internvl"),
    *("colpali", "colqwen2", "colmodernvbert", "llava", "llava_next", "llava_onevision", "git", "florence_2"),
    *("ViTForImageClassification", "SwinForImageClassification"),
    *("ConvNextForImageClassification", "ResNetForImageClassification"),
    *("blip_2_opt", "blip_2_t5", "instructblip", "vit_gpt_2", "vit_trocr", "blip_caption", "blip_question"),
}
"""The builders of classes of which the small copy of a released model is measured."""
POOLED = ("qwen2_vl", "qwen3_vl")  # of which GME and Qwen3-VL-Embedding are copies
EMBEDDERS, LATE = tiny_vision_language.EMBEDDERS, tiny_vision_language.LATE
WRITERS = {
    **EMBEDDERS,
    **tiny_vision_language.GENERATORS,
    **tiny_writers.MORE_GENERATORS,
    **tiny_writers.IMAGE_READERS,
    **tiny_writers.PAGE_READERS,
    **tiny_encoder_decoder.ENCODER_DECODERS,
}
SOURCES: dict[str, dict[str, Callable[[], Any]]] = {
    "Hugging Face Transformers": {
        **copies("transformers", lambda facts: facts["use"] == "explain" and "pooling" not in facts["call"]),
        **others({**tiny_families.FIRST, **tiny_families.FAMILIES}, built),
    },
    "Classifiers": {
        **copies("transformers", lambda facts: facts["use"] == "classify"),
        **{name: partial(classifier, name) for name in tiny_classifiers.KINDS if name not in RELEASED},
    },
    "Embedders on vision-language models": {
        **copies("transformers", released.is_pooled),
        **{
            f"{name}, as an embedder": partial(built, partial(vision_language, EMBEDDERS[name]))
            for name in EMBEDDERS
            if name not in POOLED
        },
    },
    "Late interaction": {
        **copies("transformers", released.is_late),
        **others(LATE, lambda build: built(partial(vision_language, build))),
    },
    "Generators": {
        **copies("transformers", lambda facts: facts["use"] == "answer"),
        **others(WRITERS, written_by),
    },
    "OpenCLIP": {
        **copies("open_clip", lambda facts: True),
        **{name: partial(built, partial(tiny_open_clip.build, name)) for name in tiny_open_clip.CONFIGURATIONS},
    },
    "Wrappers, around CLIP": {name: partial(built, partial(wrapped, name)) for name in WRAPPERS},
}


LISTED = ("Hugging Face Transformers", "Classifiers", "Embedders on vision-language models", "Late interaction")
"""The groups whose classes the pages list."""


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((64, 48), Image.Resampling.NEAREST)


def items(side: str, model: Any = None) -> list[Any]:
    if side == "image":
        return [ImageInput(picture(seed), "noise") for seed in (0, 1)]
    is_classifier = getattr(getattr(model, "similarity", None), "name", "") == "logit"
    return list(model.text.examples) if is_classifier else CAPTIONS


def cut_error(trace: Any, output: Callable[[torch.Tensor], torch.Tensor] = lambda embedding: embedding) -> float:
    """Return the largest 1 - cosine between the own output and that of the model cut at a layer."""
    errors = []
    for layer in range(trace.tower.depth + 1):
        cut = trace.cut(layer)
        with torch.no_grad():
            replayed = cut.rest(cut.hidden[None])[0]
            pairs = output(replayed).flatten(1), output(trace.embedding).flatten(1)
        errors.append(1 - F.cosine_similarity(*pairs, dim=-1).min().item())
    return max(errors)


def sides_of(model: Any) -> dict[str, Side]:
    """Return both sides of two pairs, whose score is the similarity of the model."""
    traces = {
        side: model.tower(side).trace(model.tower(side).prepare(items(side, model))) for side in ("image", "text")
    }
    image, text = (traces[side].embedding for side in ("image", "text"))
    return {
        "image": Side(model, traces["image"], lambda embedding: model.seen_from("image")(embedding, text)),
        "text": Side(model, traces["text"], lambda embedding: model.seen_from("text")(embedding, image)),
    }


def explained(side: Side, name: str, **options: Any) -> Any:
    """Return the maps of a method, or None if it needs what the tower lacks."""
    method, tower = find("methods", name), side.tower
    try:
        answer = method.configured(tower, "default", {**QUICK.get(name, {}), **options}, {})(side)
    except Unsupported:
        return None
    if not answer.scores.isfinite().all():
        raise ValueError(f"{name} gives a map of the {tower.modality} that is not finite")
    return answer


def names_for(side: Side) -> list[str]:
    """Return the methods that run on a side: all, or few if its sequence is long, as those of released sizes are."""
    rows = side.trace.cut(0).hidden.shape[1]
    return nibt.available("methods") if rows <= LONG else list(FEW)


def methods_of(sides: dict[str, Side]) -> str:
    """Run all methods that the towers allow; return how many run on all of their sides, and on one of two."""
    both = one = 0
    for name in names_for(sides["image"]):
        answers = [explained(sides[side], name) is not None for side in find("methods", name).sides]
        both, one = both + all(answers), one + (any(answers) and not all(answers))
    return f"{both} + {one}" if one else f"{both}"


def relative_gap(side: Side) -> float:
    """Return the gap of the scores of all tokens, since others than patches have read the image at a higher layer."""
    tower = side.tower
    layer = min(tower.relative(0.65), tower.depth - tower.unread_layers)
    long = side.trace.cut(0).hidden.shape[1] > LONG
    path = explained(side, "nib", layer=layer, steps=16 if long else 64, views=1, quadrature="gauss").path
    gap = path.gap - path.special_tokens
    return float((gap.abs() / (path.at_input - path.at_baseline).abs().clamp_min(1e-9)).max())


def generator_row(name: str, generator: Generator) -> Row:
    """Return the row of a generator, whose words are explained by the image."""
    tower = generator.answers
    prompted = Prompted(items("image")[0], "" if tower.prompts == "none" else CAPTIONS[0])
    answer = tower.read(prompted, CAPTIONS[1])
    side = ForcedAnswer(generator, tower, prompted, answer).narrowing(["image"]).side([0, 1], None, None)
    methods = sum(explained(side, name) is not None for name in names_for(side))
    error = cut_error(side.trace, lambda states: tower.logits(states).log_softmax(-1))
    return Row(
        "Generators", name, type(generator.module).__name__, (tower.depth,) * 2, error, relative_gap(side), str(methods)
    )


def examined(group: str, name: str, build: Callable[[], Any]) -> Row:
    try:
        model = build()
        if isinstance(model, Generator):
            return generator_row(name, model)
        sides = sides_of(model)
        return Row(
            group,
            name,
            type(getattr(model.module, "vision", model.module)).__name__,  # of a pair the first
            (model.image.depth, model.text.depth),
            max(cut_error(side.trace) for side in sides.values()),
            relative_gap(sides["image"]),
            methods_of(sides),
        )
    except Exception as error:  # of any library; the table tells it
        return Row(group, name, "", failure=f"{type(error).__name__}: {str(error)[:120]}")


def rows(only: str) -> Iterator[Row]:
    for group, builders in SOURCES.items():
        chosen = {name: build for name, build in builders.items() if only.lower() in f"{group} {name}".lower()}
        for name, build in chosen.items():
            row = examined(group, name, build)
            print(", ".join(filter(None, row.cells())), flush=True)
            yield row


def written(results: list[Row], summary: str) -> None:
    """Write the table, and its summary with the list of classes."""
    with TABLE.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(row.cells() for row in results)])
    lines = ["| group | models | largest cut | median gap | largest gap | methods |", "|---|---|---|---|---|---|"]
    lines += [group_line(group, [row for row in results if row.group == group]) for group in SOURCES]
    TABLE.write_text(HEAD + "\n".join([*lines, ""]), encoding="utf-8")
    page = released_page({row.name for row in results if row.passed})
    TABLE.with_name("released.md").write_text(page, encoding="utf-8")
    text = LIST.read_text(encoding="utf-8")
    LIST.write_text(with_list(text, classes(results), summary), encoding="utf-8")


PAGE = """# Released models

nibt was tested with the configurations of the released models on this page, but without their weights, which were
not available where nibt is developed. Instead, the repository has a file of facts for each of {count} models:
configuration, processor, special tokens, chat template and generation settings, with their sources. For {copies} of
them, tests build a small copy, which differs from the release only in sizes and weights, and compare nibt with the
documented call of the model: the ids of prompts and captions, the pixels, the similarity (or the greedy answer and its
log-probabilities), and the model cut at each layer. `nibt check MODEL` prints how nibt reads your model, and
compares the whole model with the model cut at three layers.

- **class**: the class of the library that loads the model; for OpenCLIP, the name of the architecture.
- **reads**: the text that the model takes with an image. *Query, page*: a text or an image for retrieval, each with a
  prompt. *Embedding prompt*: a prompt around the caption. *Chat template*: a prompt in the template of the model.
  *Images only*: no text. *Class*: the name of a class of a classifier.
- **verified**: the tests pass on a small copy. Releases that differ only in weights have equal copies.
- **refused**: nibt rejects the model, with a message that states the reason. *Own code*: the model needs code of its
  authors, which nibt never runs.
- **not built**: too few facts were found for a copy.
- **not found**: the number of facts about the model, such as the dtype of its weights, for which no source was found.
  Its file of facts lists them, and the facts that were taken from a similar model or from the script that converted it.

|model|class|reads|status|not found|
|---|---|---|---|---|
{rows}

The files are in `benchmarks/models/facts`; `tests/models/test_released.py` has the tests, and `python
benchmarks/zoo.py --write` writes this page.
"""


def released_page(passed: set[str]) -> str:
    """Return the page of released models, by the names of those whose copies passed."""
    lines, known = [], [released.facts(name) for name in released.names()]
    for facts in sorted(known, key=lambda facts: facts["name"].lower()):
        class_name, missing = facts["architecture"].split(" (")[0], len(facts.get("unknown", ()))
        cells = f"`{facts['name']}`", class_name, reads(facts), status(facts, passed), str(missing)
        lines.append(f"|{'|'.join(cells)}|")
    copies = sum(released.is_built(facts) for facts in known)
    return PAGE.format(count=len(known), copies=copies, rows="\n".join(lines))


def reads(facts: dict[str, Any]) -> str:
    """Return in words how a model reads texts."""
    call = facts.get("call", {})
    if call.get("template"):
        return "chat template"
    if facts["use"] == "classify":
        return "class"
    if call.get("images_only"):
        return "images only"
    if facts["use"] == "answer":
        return "prompt"
    if "pooling" in call:
        return "embedding prompt" if "query" not in call else "query, page"
    return "caption"


def status(facts: dict[str, Any], passed: set[str]) -> str:
    """Return whether nibt reads a model as its own call does."""
    if facts["use"] == "score":  # no network that is cut: tests/models/test_released.py has all that is tested
        return "verified"
    if not released.is_built(facts):
        reason = facts.get("refused")
        if reason is None and facts["library"] == "colpali-engine":
            reason = "a class of colpali-engine; use the version for Transformers (-hf)"
        return f"refused: {reason.split(';')[0].split(':')[0]}" if reason else "not built"
    return "verified" if facts["name"] in passed else "failed"


def group_line(group: str, results: list[Row]) -> str:
    """Return a row of the summary."""
    passed = [row for row in results if row.passed]
    if not passed:
        return f"| {group} | 0 of {len(results)} | | | | |"
    gaps = [100 * row.gap for row in passed]
    cells = [group, f"{len(passed)} of {len(results)}", f"{max(row.cut for row in passed):.0e}"]
    cells += [f"{np.median(gaps):.1g} %", f"{max(gaps):.2g} %"]
    return f"| {' | '.join([*cells, ', '.join(sorted({row.methods for row in passed}))])} |"


def classes(results: list[Row]) -> list[str]:
    return sorted({row.kind for row in results if row.passed and row.group in LISTED}, key=str.lower)


def with_list(text: str, names: list[str], summary: str) -> str:
    """Return a page with the list of classes between its marks."""
    listed = ", ".join(f"`{name}`" for name in names)
    return re.sub(
        r"(<!-- zoo -->\n).*?(\n<!-- /zoo -->)", lambda mark: f"{mark[1]}{listed}. {summary}{mark[2]}", text, flags=re.S
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of the name of a group or a model")
    parser.add_argument("--write", action="store_true", help="write the table and the lists of the documents")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write needs all models: leave out --only")
    warnings.simplefilter("ignore")
    results = list(rows(options.only))
    passed = sum(row.passed for row in results)
    summary = f"{passed} of {len(results)} small models with random weights keep their outputs when nibt cuts them."
    print(f"\n{summary}")
    if options.write:
        written(results, summary)
    sys.exit(passed < len(results))


if __name__ == "__main__":
    main()
