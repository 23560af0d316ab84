"""Whether two versions of nibt give the same bits, and how their speed compares.

    PYTHONPATH=OLD/src python benchmarks/same_bits.py save FOLDER_A [--models scenes clip]
    PYTHONPATH=NEW/src python benchmarks/same_bits.py save FOLDER_B
    python benchmarks/same_bits.py compare FOLDER_A FOLDER_B
    PYTHONPATH=NEW/src python benchmarks/same_bits.py time OLD/src [--rounds 7]

`save` explains 40 pairs (36 drawn scenes and the four sample pictures) on the embedded models and on the random models
of `random_models.py`, with every method, every variant, and every value in `VALUES` of every option, on both sides. It
adds every target, comparisons of two images and of two captions, word-region tables, contributions, embeddings,
rankings and metrics. Costly cases use fewer pairs, which `--verbose` prints for each case. One safetensors file per
model holds the arrays, and `inputs.safetensors` what was explained. `compare` requires equal names, dtypes, shapes and
bits, and exits with 1 otherwise. `time` runs both versions in processes of their own, in turn, and prints the ratio of
their processor seconds.

The script uses names that the versions share. Where a name has changed, `NAMES` lists the spellings, the newest first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import astuple, dataclass, field, fields, is_dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from itertools import chain
from os import environ
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

NAMES = {
    "baseline": ("baseline", "reference"),
    "quadrature": ("quadrature", "rule"),
    "learning_rate": ("learning_rate", "rate"),
    "at_baseline": ("at_baseline", "at_reference"),
    "image": ("image", "picture"),
    "sides": ("sides", "parts"),
}
"""What an option or an attribute is called in each version, the newest first."""

VALUES: dict[str, list[Any]] = {
    "layer": [0, 1, "1,2"],
    "baseline": ["zero", "blank", "mean"],
    "quadrature": ["riemann", "gauss", "midpoint", {"baseline": "zero", "quadrature": "geometric"}],
    "steps": [3],
    "floor": [{"baseline": "zero", "quadrature": "geometric", "floor": 0.05}],
    "tolerance": [1e-3, {"quadrature": "riemann", "steps": 2, "tolerance": 0.05}],
    "weights": ["token", "pooled"],
    "at": ["attention", "input"],
    "rectified": ["mean", "heads"],
    "blocks": [1],
    "beta": [1.0],
    "samples": [3],
    "learning_rate": [0.5],
    "seed": [7],
    "seeds": [2],
    "noise": ["unit", "features"],
    "stride": [0.05],
    "masks": [50],
    "share": [0.5],
    "cells": [4],
    "budget": [16],
    "spread": [0.3],
    "amounts": [{"image_amounts": "removal"}],
    "views": [{"image_views": 2}],
    "units": ["tower"],
    "segments": [{"image_units": "segments", "segments": 9}],
    "estimate": ["means"],
    "ridge": [1.0],
    "pairs": ["drawn"],
    "heads": ["joined"],
    "deviation": [{"noise": "unit", "deviation": 0.5, "samples": 2}],
    "pair_weight": ["euclidean"],
    "sharpness": [{"pair_weight": "softplus", "sharpness": 2.0}],
    "clip": [{"clip": 0.5}],
}
"""The values of each option that are explained with; a dictionary sets several options at once."""

PAIRS, BATCH = 40, 8


@dataclass(frozen=True)
class Effort:
    """How many pairs the cases of a model explain, and cheaper options for the costly methods, which any case that
    sets them itself keeps.
    """

    plain: int  # a variant as it is
    others: int  # all else, by a cheap method; 0 leaves out options and targets
    costly: int
    options: dict[str, dict[str, Any]]
    in_full: bool = False  # whether one pair is explained by the costly methods as they are, and with layer="auto"
    methods: tuple[str, ...] = ()  # the only methods; without them, all


SMALL = Effort(
    PAIRS,
    16,
    8,
    {
        "rise": {"masks": 200},
        "shapley": {"budget": 64},
        "integrated_gradients": {"steps": 12},
        "m2ib": {},
        "mfaba": {"steps": 4},
        "occlusion": {},
    },
    in_full=True,
)
LARGE = Effort(
    PAIRS,
    8,
    2,
    {
        "rise": {"masks": 50},
        "shapley": {"budget": 32},
        "integrated_gradients": {"steps": 6},
        "m2ib": {"steps": 3},
        "mfaba": {"steps": 4},
    },
)
EMBEDDED = {
    "scenes": (LARGE, {}),
    "lite": (Effort(2, 0, 1, {}, methods=("nib",)), {}),
    "lite_96": (LARGE, {"image_size": 96}),  # at its own size, lite takes minutes for an occlusion
}
"""The effort for each embedded model, and the options that it is loaded with."""
TEMPLATES = ("{}", "a photo of {}", "there is {}", "here we see {}", "{} in the snow")
CAPTIONS = ("a photo of a dog", "a red car", "two birds in the sky")


@dataclass(frozen=True)
class Case:
    """One way to explain; option names are the newest ones."""

    method: str
    variant: str = "default"
    options: dict[str, Any] = field(default_factory=dict)
    target: str = "cosine"
    others: tuple[str, ...] = ()
    pairs: int = 16

    @property
    def name(self) -> str:
        option_texts = [f"{key}={value}" for key, value in self.options.items()]
        return " ".join([self.method, self.variant, *option_texts, self.target, *self.others])


def first_name(name, known):
    """The spelling of a name among those that are known."""
    spelling = next((one for one in NAMES.get(name, (name,)) if one in known), None)
    if spelling is None:
        raise SystemExit(f"no spelling of {name} is among {', '.join(sorted(known))}: add the new one to NAMES")
    return spelling


def attribute(item, name):
    return getattr(item, first_name(name, dir(item)))


@cache
def method_class(name):
    from nibt.registry import find

    return find("methods", name)


def option_names(method):
    return {one.name for one in fields(method_class(method))}


def spelled(method, options):
    """The options as this version spells them; those of NIB's path hold for any method along it."""
    known = option_names(method) | option_names("nib") | {"along_path", "image_layer", "text_layer"}
    return {first_name(name, known): value for name, value in options.items()}


# ------------------------------------------------------------------------------------------------------- the cases


def option_cases(method):
    """A case for each value of each option of a method; an option without values is an error."""
    newest = {spelling: name for name, spellings in NAMES.items() for spelling in spellings}
    for option in sorted(newest.get(name, name) for name in option_names(method)):
        if option not in VALUES:
            raise SystemExit(f"{option}, an option of {method}, has no values: add them to VALUES")
        for value in VALUES[option]:
            if value == "mean" and "layer" not in option_names(method):
                continue  # mean states are those of layers
            yield Case(method, "default", value if isinstance(value, dict) else {option: value})


def target_cases(method, targets):
    """A case for each target, with captions and images to compare with where the target takes them."""
    others = {"difference": (CAPTIONS[0],), "softmax": CAPTIONS, "centered": CAPTIONS}
    for target in targets:
        if target == "cosine":
            continue  # the target of all other cases
        yield Case(method, "default", {}, target, others.get(target, ()), 16 if method == "nib" else 4)


def methods_of(effort):
    from nibt.methods.base import pair_methods

    return effort.methods or tuple(pair_methods())


def all_cases(effort, means):
    """All cases of a model with their names; ``means``: whether it ships mean states."""
    import nibt

    methods = methods_of(effort)
    path = [{}, {"quadrature": "midpoint"}, {"baseline": "zero"}, {"baseline": "zero", "quadrature": "geometric"}]
    sides = [{"image_layer": 2, "text_layer": 1}, {"views": 2}, {"layer": "1,2", "tolerance": 1e-3}]
    rules = ("riemann", "gauss", "geometric", "midpoint")
    plain = [Case(method, variant, pairs=PAIRS) for method in methods for variant in method_class(method).variants]
    cases = chain(
        plain,
        chain.from_iterable(map(option_cases, methods)),
        (Case("nib", "paper", {"quadrature": rule}) for rule in rules),
        (Case("nib", "default", options) for options in sides),
        (Case("grad_cam", "default", {"along_path": True, **options}) for options in path),
        [Case("grad_cam", "textbook", {"views": 2})],
        target_cases("nib", nibt.available("targets")),
        chain.from_iterable(target_cases(method, ["difference"]) for method in methods if method != "nib"),
    )
    for case in cases:
        if case.method not in methods or (not effort.others and case.pairs != PAIRS):
            continue
        if means or (case.options.get("baseline") != "mean" and (case.target != "centered" or case.others)):
            yield case.name, fitted(case, effort)
    if effort.in_full:
        for case in (
            *(Case(method, pairs=1) for method in effort.options),
            Case("nib", options={"layer": "auto"}, pairs=2),
        ):
            yield f"{case.name} in full", case


def fitted(case, effort):
    """The case with as many pairs, and with such options, as its cost on a model allows."""
    pairs = effort.plain if case.pairs == PAIRS else effort.others
    if case.method in SMALL.options or "tolerance" in case.options:
        pairs = effort.costly
    options = {**effort.options.get(case.method, {}), **case.options}
    return Case(case.method, case.variant, options, case.target, case.others, min(pairs, case.pairs))


# ------------------------------------------------------------------------------------------------------ the arrays


def arrays_of(attribution):
    """The scores of one side, the share of special tokens, and what became of the score on the path."""
    arrays = {"scores": attribution.scores, "special_token_share": attribution.special_token_share}
    nested = (getattr(attribution, one.name) for one in fields(attribution))
    for path in (one for one in nested if is_dataclass(one) and hasattr(one, "steps")):
        for name in ("steps", "at_input", "at_baseline", "sum", "gap"):
            arrays[f"path.{name}"] = attribute(path, name)
    return arrays


def joined(prefix, items):
    """Arrays of several pairs, which may differ in shape, as one array of numbers and one of shapes for each name."""
    joined_arrays = {}
    for name in items[0]:
        arrays = [
            np.asarray(item[name].detach().cpu() if torch.is_tensor(item[name]) else item[name]) for item in items
        ]
        joined_arrays[f"{prefix} | {name}"] = np.concatenate([array.ravel() for array in arrays])
        joined_arrays[f"{prefix} | {name}.shape"] = np.array([array.shape for array in arrays], np.int64)
    return joined_arrays


def of_answers(prefix, answers):
    """The arrays of explanations or comparisons."""
    items = []
    for answer in answers:
        item = {"similarity": answer.similarity, "score": answer.target["value"]}
        for place, part in attribute(answer, "sides").items():
            side = getattr(part, "attribution", part)  # once a part had an attribution, which a side is today
            item |= {f"{place}.{name}": array for name, array in arrays_of(side).items()}
            if hasattr(part, "region"):
                item[f"{place}.region"] = np.array(astuple(part.region), np.float64)
        items.append(item)
    return joined(prefix, items)


def explained(model, case, images, captions):
    import nibt

    others = {}
    if case.others:
        others = {"against": case.others, "against_images": images[-len(case.others) :]}
    options = {**others, **spelled(case.method, case.options)}
    return nibt.explain(
        model,
        images[: case.pairs],
        captions[: case.pairs],
        case.method,
        case.target,
        variant=case.variant,
        batch_size=BATCH,
        **options,
    )


def explained_cases(model, effort, means, images, captions):
    """An explanation of images with captions for each case: the name, the number of pairs, and a function."""
    for key, case in all_cases(effort, means):
        yield (
            key,
            case.pairs,
            partial(lambda key, case: of_answers(key, explained(model, case, images, captions)), key, case),
        )


def more_cases(model, effort, images, captions, pairs):
    """What is no explanation of an image with a caption: the name, the number of pairs, and a function each."""
    import nibt

    texts = [nibt.Caption(caption) for caption in captions]
    for method in methods_of(effort):
        options = spelled(method, effort.options.get(method, {}))
        count = min(effort.costly if method in SMALL.options else effort.others, 8) or 1
        of_images = partial(
            getattr(nibt, "compare", nibt.explain), model, images[:count], images[4 : count + 4], method, **options
        )
        of_texts = partial(compare, model, texts[:8], texts[1:9], method, **options)
        yield f"two images {method}", count, lambda run=of_images, key=method: of_answers(f"two images {key}", run())
        yield f"two captions {method}", 8, lambda run=of_texts, key=method: of_answers(f"two captions {key}", run())
    count = min(effort.others, 8) or 1
    for variant in method_class("nib").variants:
        yield (
            f"regions {variant}",
            count,
            lambda v=variant: joined(
                f"regions {v}",
                [
                    {"scores": one.scores, "product": one.product, "similarity": one.similarity}
                    for one in nibt.regions(model, images[:count], captions[:count], variant=v)
                ],
            ),
        )
        yield (
            f"contributions {variant}",
            count,
            lambda v=variant: joined(
                f"contributions {v}",
                [
                    {
                        "vectors": one.vectors,
                        "after": one.after,
                        "before": one.before,
                        **arrays_of(one.explain(caption)),
                    }
                    for image, caption in zip(images[:count], captions, strict=False)
                    for one in [nibt.contributions(model, image, variant=v)]
                ],
            ),
        )
        aims = torch.randn(
            5, model.text.encode(model.text.prepare(captions[:1])).shape[1], generator=torch.Generator().manual_seed(0)
        )
        yield (
            f"embeddings {variant}",
            1,
            lambda v=variant, aims=aims: joined(
                f"embeddings {v}",
                [arrays_of(nibt.explain_embeddings(model, item, aims, variant=v)) for item in (images[0], texts[0])],
            ),
        )
    yield (
        "rank",
        count,
        lambda: joined(
            "rank",
            [
                {"cosine": [label.cosine for label in ranked], "probability": [label.probability for label in ranked]}
                for ranked in (nibt.rank(model, image, CAPTIONS) for image in images[:count])
            ],
        ),
    )
    if effort.costly > 1:
        yield (
            "metrics",
            2,
            lambda: joined(
                "metrics",
                [
                    {"value": [row.value for row in rows], "curve": [number for row in rows for number in row.curve]}
                    for rows in [nibt.measure(model, pairs[:2])]
                ],
            ),
        )


# ------------------------------------------------------------------------------------------------- models and pairs


def read_pairs():
    """The scenes as pairs, and the images and captions of all pairs. The captions name what the scenes show, in words
    of this script: the captions of the data set may change from version to version, and `inputs` compares them.
    """
    from nibt.datasets.scenes import Scenes

    scenes = list(Scenes(count=PAIRS - 4, seed=26))
    samples = json.loads((files("nibt") / "samples" / "captions.json").read_text(encoding="utf-8"))
    images = [*(f"sample:{name}" for name in samples), *(attribute(pair, "image") for pair in scenes)]
    named = [" and ".join(f"a {one.name}" for one in pair.objects) for pair in scenes]
    drawn = [TEMPLATES[place % len(TEMPLATES)].format(names) for place, names in enumerate(named)]
    return scenes, images, [*samples.values(), *drawn]


def inputs(pairs, captions):
    """What goes in: captions as bytes, and a digest of the pixels of each scene."""
    pixels = [
        next(np.asarray(one) for one in vars(attribute(pair, "image")).values() if isinstance(one, Image.Image))
        for pair in pairs
    ]
    own = "\n".join(pair.caption for pair in pairs)
    return {
        "captions": np.frombuffer("\n".join(captions).encode(), np.uint8),
        "captions of the data set": np.frombuffer(own.encode(), np.uint8),
        "pixels": np.stack([np.frombuffer(sha256(one.tobytes()).digest(), np.uint8) for one in pixels]),
    }


def loaders(captions):
    """A function for each model, by its name."""
    from random_models import FAMILIES

    import nibt

    def make(family):
        module, prepares = family([*captions, *CAPTIONS])
        return nibt.load_model(module, **prepares)

    embedded = {
        name: partial(nibt.load_model, name.partition("_")[0], **options) for name, (_, options) in EMBEDDED.items()
    }
    return embedded | {family.__name__: partial(make, family) for family in FAMILIES}


def save(options):
    import nibt

    options.folder.mkdir(parents=True, exist_ok=True)
    pairs, images, captions = read_pairs()
    print(f"nibt {nibt.__version__} in {Path(nibt.__file__).parent}, torch {torch.__version__}", flush=True)
    save_file(inputs(pairs, captions), options.folder / "inputs.safetensors")
    for name, load in loaders(captions).items():
        if options.models and name not in options.models:
            continue
        began, arrays, refused = time.perf_counter(), {}, []
        model = load()
        effort = EMBEDDED.get(name, (SMALL, {}))[0]
        cases = explained_cases(model, effort, name in EMBEDDED, images, captions)
        for key, count, run in chain(cases, more_cases(model, effort, images, captions, pairs)):
            start = time.perf_counter()
            if any(name.startswith(f"{key} |") for name in arrays):
                raise SystemExit(f"two cases have the name {key}")
            try:
                arrays |= run()
            except nibt.NibtError as error:
                if type(error).__name__ != "Unsupported":
                    raise
                arrays[f"{key} | unsupported"] = np.zeros(0)
                refused.append(key)
                continue
            if options.verbose:
                print(f"  {key}: {count} of {PAIRS} pairs, {time.perf_counter() - start:.1f} s", flush=True)
        save_file(arrays, options.folder / f"{name}.safetensors")
        print(
            f"{name}: {len(arrays)} arrays, {len(refused)} cases unsupported, {time.perf_counter() - began:.0f} s",
            flush=True,
        )


# ---------------------------------------------------------------------------------------------------------- compare


def read_arrays(path):
    with safe_open(path, "numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


def difference(one, other):
    """None where all bits are equal; else the largest difference, infinite where the arrays cannot be subtracted."""
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return np.inf
    if one.tobytes() == other.tobytes():
        return None
    if (np.isnan(one) != np.isnan(other)).any():
        return np.inf
    return float(np.nanmax(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0.0))


def compare(options):
    """Print a line per model, and the arrays that differ; exit with 1 where any does."""
    names = sorted({file.name for folder in (options.first, options.second) for file in folder.glob("*.safetensors")})
    if not names:
        raise SystemExit(f"no saved arrays in {options.first} or {options.second}: run save first")
    total, differing = 0, 0
    print("| model | arrays | equal | largest difference |\n|---|---|---|---|")
    details = []
    for name in names:
        sides = [
            read_arrays(folder / name) if (folder / name).exists() else {} for folder in (options.first, options.second)
        ]
        keys = sorted(key for key in {*sides[0], *sides[1]} if not key.endswith(tuple(options.leave_out)))
        differences = {key: difference(sides[0].get(key), sides[1].get(key)) for key in keys}
        apart = {key: value for key, value in differences.items() if value is not None}
        print(
            f"| {name.partition('.')[0]} | {len(keys)} | {len(keys) - len(apart)} | "
            f"{max(apart.values(), default=0.0):.3g} |"
        )
        details += [f"{name.partition('.')[0]}: {key}: {value:.3g}" for key, value in apart.items()]
        total, differing = total + len(keys), differing + len(apart)
    print(f"\n{total - differing} of {total} arrays have the same bits")
    for line in details[: options.most]:
        print(line)
    if len(details) > options.most:
        print(f"... and {len(details) - options.most} more (--most)")
    sys.exit(1 if differing else 0)


# ------------------------------------------------------------------------------------------------------------- time


def tasks():
    """What both versions are timed on, by name."""
    import nibt

    _, images, captions = read_pairs()
    load = loaders(captions)
    scenes, clip = load["scenes"](), load["clip"]()
    return {
        "nib, 8 pairs, scenes": partial(explained, scenes, Case("nib", pairs=8), images, captions),
        "nib paper, 8 pairs, scenes": partial(explained, scenes, Case("nib", "paper", pairs=8), images, captions),
        "nib, 40 pairs, clip": partial(explained, clip, Case("nib"), images, captions),
        "gae, 8 pairs, scenes": partial(explained, scenes, Case("gae", pairs=8), images, captions),
        "m2ib, 4 pairs, scenes": partial(explained, scenes, Case("m2ib", pairs=4), images, captions),
        "rise, 50 masks, scenes": partial(
            explained, scenes, Case("rise", options={"masks": 50}, pairs=1), images, captions
        ),
        "regions, scenes": partial(nibt.regions, scenes, images[0], captions[0]),
        "contributions, scenes": partial(nibt.contributions, scenes, images[0]),
    }


def work(options):
    """Answer each line, the name of a task, with the processor seconds that it takes."""
    import nibt

    known = tasks()
    print(json.dumps([str(Path(nibt.__file__).parent), *known]), flush=True)
    for line in sys.stdin:
        began = time.process_time()
        known[line.strip()]()
        print(time.process_time() - began, flush=True)


def timings(options):
    """Run the tasks with this version and with another, in turn, and print the ratio of each."""
    if not (options.other / "nibt" / "__init__.py").exists():
        raise SystemExit(f"{options.other} holds no nibt: give the folder src of the other version")
    own = environ.get("PYTHONPATH", "")
    command = [sys.executable, __file__, "work"]
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**environ, "PYTHONPATH": path}
        )
        for path in (own, str(options.other.resolve()))
    ]
    try:
        (this, *names), (other, *_) = (json.loads(worker.stdout.readline()) for worker in workers)
        print(f"this: {this}\nother: {other}\n")
        seconds = {name: ([], []) for name in names}
        for place in range(options.rounds + 1):  # the first round warms up
            for name in names:
                for which in ((0, 1), (1, 0))[place % 2]:
                    workers[which].stdin.write(f"{name}\n")
                    workers[which].stdin.flush()
                    taken = float(workers[which].stdout.readline())
                    if place:
                        seconds[name][which].append(taken)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    print("| task | this, s | other, s | this / other | range |\n|---|---|---|---|---|")
    for name, (ours, theirs) in seconds.items():
        ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
        print(
            f"| {name} | {statistics.median(ours):.3f} | {statistics.median(theirs):.3f} | "
            f"{statistics.median(ratios):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    saving = commands.add_parser("save", help="explain all cases with the version of nibt that Python finds")
    saving.add_argument("folder", type=Path)
    saving.add_argument("--models", nargs="*", help="only these models")
    saving.add_argument("--verbose", action="store_true", help="print each case with its pairs and seconds")
    saving.set_defaults(run=save)
    comparing = commands.add_parser("compare", help="compare two folders bit by bit")
    comparing.add_argument("first", type=Path)
    comparing.add_argument("second", type=Path)
    comparing.add_argument("--most", type=int, default=20, help="how many differing arrays are listed")
    comparing.set_defaults(run=compare)
    comparing.add_argument(
        "--leave-out",
        nargs="*",
        default=[],
        metavar="NAME",
        help="ends of the names of arrays that are meant to differ (path.gap)",
    )
    timing = commands.add_parser("time", help="time this version of nibt against another")
    timing.add_argument("other", type=Path, help="the folder src of the other version")
    timing.add_argument("--rounds", type=int, default=7)
    timing.set_defaults(run=timings)
    commands.add_parser("work").set_defaults(run=work)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
