"""What an explanation costs, in plain forward passes of the same batch: time and peak memory.

It feeds docs/explanation/cost.md.

    OMP_NUM_THREADS=2 python benchmarks/limit.py [--rounds 5] [--batches 1 8 32]
    OMP_NUM_THREADS=1 python benchmarks/limit.py --image [--large]    # image side only [of a ViT-L/14]
    OMP_NUM_THREADS=1 python benchmarks/limit.py --profile    # which operations the time is spent in

A Hugging Face CLIP of ViT-B/32 size with random weights (speed does not depend on them); images of 224 x 224;
captions of 12 tokens, start and end included, so that nothing is padded on any side. Both sides are explained, from
prepared inputs to maps. `plain` is the model's own forward pass of both towers, without a graph. `naive` is the
published setting as it is written in papers' code: the graph reaches the parameters, whose gradients are computed, too;
one step at a time; the text side one caption at a time. Rounds go through all rows in turn; a ratio is the median over
rounds. Peak memory is that of a process of its own for each row, the model and the libraries included.
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from regions import LARGE, model

from nibt.core.side import Side
from nibt.data.images import read_image
from nibt.engine.spec import Request, resolve
from nibt.registry import MethodSpec

CAPTION = "a cat and a dog and a car and {}"
NOUNS = ("cat", "dog", "key", "car", "owl", "hat", "bus", "pig")
NIB = {
    "nib, default": ("default", {}),
    "nib, fast": ("fast", {}),
    "nib, one view": ("default", {"views": 1}),
    "nib, published": ("paper", {}),
}


def noise(model, size):
    """A prepared batch of images of noise."""
    draws = np.random.default_rng(0).integers(0, 255, (size, 224, 224, 3), np.uint8)
    return model.image.prepare([read_image(Image.fromarray(pixels)) for pixels in draws])


class Batch:
    """Prepared inputs of both towers, and what is done with them."""

    def __init__(self, model, size, sides=("image", "text")):
        self.model, self.sides = model, sides
        self.image = noise(model, size)
        self.text = model.text.prepare([CAPTION.format(NOUNS[place % len(NOUNS)]) for place in range(size)])
        assert self.text.values.shape[1] == 12, self.text.values.shape

    def plain(self):
        inputs = {"image": self.image, "text": self.text}
        return [self.model.tower(side).encode(inputs[side]) for side in self.sides]

    def maps(self, variant, options, method="nib"):
        """The maps of the sides; the embedding of the other side, which they need, is computed once."""
        question = resolve(self.model, Request(MethodSpec(method, variant, options)))
        traces = {
            side: self.model.tower(side).trace(inputs, question.methods[side].lowest)
            for side, inputs in (("image", self.image), ("text", self.text))
            if side in self.sides
        }
        traces = {**{side: self.kept[side] for side in ("image", "text") if side not in traces}, **traces}
        return [
            self._of(question, traces, side, other)
            for side, other in (("image", "text"), ("text", "image"))
            if side in self.sides
        ]

    def _of(self, question, traces, side, other):
        score = replace(question.scores[side], other=traces[other].embedding)
        return question.methods[side](Side(self.model, traces[side], score)).scores

    @cached_property
    def kept(self):
        """The traces of sides that are not explained, whose embeddings the explained side needs."""
        others = {"image": self.image, "text": self.text}
        return {side: self.model.tower(side).trace(others[side]) for side in others if side not in self.sides}

    def naive(self):
        """The published setting, 10 steps at three quarters of the depth, with nothing saved."""
        module = self.model.module.requires_grad_(True)
        try:
            images, texts = (
                tower.run(inputs) for tower, inputs in ((self.model.image, self.image), (self.model.text, self.text))
            )
            image = self._narrowed(self.model.image, self.image, texts.detach())
            text = [
                self._narrowed(self.model.text, self.text.take([place]), images[place : place + 1].detach())
                for place in range(len(images))
            ]
            grid, words = self.model.image.units(self.image, image), self.text.words
            return [grid.keep(image), words.keep(torch.cat(text))]
        finally:
            module.requires_grad_(False)
            module.zero_grad(set_to_none=True)

    @staticmethod
    def _narrowed(tower, inputs, other):
        trace, layer, total = tower.trace(inputs), round(0.75 * tower.depth), 0
        hidden = trace.streams[layer]
        for step in range(1, 11):
            state = (hidden * step / 10).requires_grad_()
            running = state
            for block, (args, kwargs) in zip(tower.blocks[layer:], trace.calls[layer:], strict=True):
                running = block(running, *args, **kwargs)
            F.cosine_similarity(tower.head(running, tower.head_inputs(inputs)), other, dim=-1).sum().backward()
            total = total + state.grad / 10
        return (hidden * total).sum(-1)

    def work(self):
        """By name, in the order of the table."""
        naive = {"naive, published": self.naive} if "text" in self.sides else {}
        return {
            "plain": self.plain,
            **{name: partial(self.maps, *arguments) for name, arguments in NIB.items()},
            **naive,
        }


def machine():
    return (
        f"{time.strftime('%-d %B %Y')}, {platform.machine()}, {torch.get_num_threads()} thread(s), "
        f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}\n"
    )


def seconds(work):
    """Processor time, which other processes disturb less."""
    began = time.process_time()
    work()
    return time.process_time() - began


def most_memory():
    """What this process has held at most, in GB. Linux counts the parent into ``ru_maxrss``, so it is asked first."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1e6


def peak(name, size, *flags):
    """Of a process that does one thing, in GB."""
    result = subprocess.run(
        [sys.executable, __file__, "--one", name, "--batches", str(size), *flags],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(result.stdout.split()[-1])


def compared(batch, size, rounds, flags):
    """The table of one batch size, as lines of Markdown."""
    work = batch.work()
    for one in work.values():
        one()  # warm-up; the blank states are constants
    times = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            times[name].append(seconds(one))
    for name in work:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["plain"], strict=True))
        naive = times.get("naive, published", times[name])
        against = statistics.median(a / b for a, b in zip(naive, times[name], strict=True))
        yield (
            f"| {size} | {name} | {1000 * statistics.median(times[name]):.0f} | {ratio:.2f} | {against:.1f} | "
            f"{peak(name, size, *flags):.2f} |"
        )
    if "naive, published" not in work:
        return
    ours, theirs = batch.maps("paper", {}), batch.naive()
    apart = max(float((one - two).abs().max() / two.abs().max()) for one, two in zip(ours, theirs, strict=True))
    yield f"| {size} | largest difference of `nib, published` from `naive, published` | | {apart:.1e} | | |"


KINDS = {
    "matrix products": ("mm", "linear", "conv"),
    "attention": ("scaled_dot_product", "attention", "softmax"),
    "norms": ("norm",),
    "activations": ("gelu", "sigmoid", "silu"),
}
"""Parts of the names of operations, by kind; the first that fits counts."""


def profiled(batch, size, names):
    """The share of the time by kind of operation, as lines of Markdown."""
    work = batch.work()
    yield f"| batch | what | {' | '.join(KINDS)} | rest |\n|{'---|' * (len(KINDS) + 3)}"
    for name in names:
        work[name]()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            work[name]()
        times = dict.fromkeys([*KINDS, "rest"], 0.0)
        for event in profile.key_averages():
            kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), "rest")
            times[kind] += event.self_cpu_time_total
        total = sum(times.values())
        yield f"| {size} | {name} | {' | '.join(f'{share / total:.1%}' for share in times.values())} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--profile", action="store_true", help="the share of the time by kind of operation")
    parser.add_argument("--memory", action="store_true", help="only the peak memory of each row")
    parser.add_argument("--image", action="store_true", help="only the image side")
    parser.add_argument("--large", action="store_true", help="a ViT-L/14")
    parser.add_argument("--one", help="do this once more than once, and print the peak memory of this process, in GB")
    options = parser.parse_args()
    flags = [f"--{name}" for name in ("image", "large") if getattr(options, name)]
    large = model(**LARGE) if options.large else model()

    def batch(size):
        return Batch(large, size, ("image",) if options.image else ("image", "text"))

    if options.one:
        work = batch(options.batches[0]).work()[options.one]
        work(), work()
        print(most_memory())
        return
    print(machine())
    if options.profile:
        for size in options.batches:
            for line in profiled(batch(size), size, ("plain", "nib, default", "nib, fast")):
                print(line, flush=True)
        return
    if options.memory:
        for size in options.batches:
            for name in batch(size).work():
                print(f"| {size} | {name} | {peak(name, size, *flags):.2f} |", flush=True)
        return
    print("| batch | what | ms (median) | plain forwards | naive / this | peak, GB |\n|---|---|---|---|---|---|")
    for size in options.batches:
        for line in compared(batch(size), size, options.rounds, flags):
            print(line, flush=True)


if __name__ == "__main__":
    main()
