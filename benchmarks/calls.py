"""What a warm explanation and its picture cost beside the model: calls of functions of nibt, and the time of saving.

    OMP_NUM_THREADS=1 python benchmarks/calls.py [--model scenes]

Prints the number of calls of functions of nibt in ``explain(...).save(picture)``, those that are called most, the time
of a warm explanation relative to its passes (the model's modules and the gradients), for this model and for a CLIP of
ViT-B/32 size with random weights, the time of reading the weights of that CLIP, which shows whether they were changed,
and the time of saving relative to drawing the picture and encoding it once (medians of several runs).
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from statistics import median

import torch
from limit import machine
from regions import model as random_clip
from torch import nn

import nibt
from nibt.models._loaded import fingerprint

ROOT = str(Path(nibt.__file__).parent)
RUNS, SHOWN = 7, 10


def seconds(run):
    """The median time of several runs."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return median(times)


class Passes:
    """Measures inside ``with`` the time in calls of modules and of ``torch.autograd.grad``, nested ones once."""

    def __init__(self):
        self.seconds = 0.0
        self.is_inside = False
        self.originals = {(nn.Module, "__call__"): nn.Module.__call__, (torch.autograd, "grad"): torch.autograd.grad}

    def timed(self, function):
        def timed(*arguments, **keywords):
            if self.is_inside:
                return function(*arguments, **keywords)

            self.is_inside = True
            started = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - started
                self.is_inside = False

        return timed

    def __enter__(self):
        for (owner, name), function in self.originals.items():
            setattr(owner, name, self.timed(function))
        return self

    def __exit__(self, *_):
        for (owner, name), function in self.originals.items():
            setattr(owner, name, function)


def relative_to_passes(model):
    """The median time of a warm explanation relative to that of its passes in the same run, and of its passes."""
    nibt.explain(model, "sample:scene", "a cat")
    nibt.explain(model, "sample:scene", "a cat")
    ratios, times = [], []
    for _ in range(RUNS):
        with Passes() as passes:
            started = time.perf_counter()
            nibt.explain(model, "sample:scene", "a cat")
            ratios.append((time.perf_counter() - started) / passes.seconds)
            times.append(passes.seconds)
    return median(ratios), median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes")
    options = parser.parse_args()
    print(machine())
    model = nibt.load_model(options.model)

    with tempfile.TemporaryDirectory() as folder:
        numbers = count()

        def save(result):
            result.save(f"{folder}/{next(numbers)}.png")

        def explain_and_save():
            save(nibt.explain(model, "sample:scene", "a cat"))

        explain_and_save()
        explain_and_save()
        calls = Counter()

        def add(frame, event, argument):
            if event == "call" and frame.f_code.co_filename.startswith(ROOT):
                calls[frame.f_code.co_filename[len(ROOT) + 1 :], frame.f_code.co_qualname] += 1

        sys.setprofile(add)
        explain_and_save()
        sys.setprofile(None)

        explained = nibt.explain(model, "sample:scene", "a cat")
        saving = seconds(lambda: save(explained))
        drawing = seconds(lambda: nibt.draw(explained).save(f"{folder}/plain.png"))

    print(f"{sum(calls.values())} calls of {len(calls)} functions")
    for (file, function), number in calls.most_common(SHOWN):
        print(f"{number:6} {file} {function}")
    print(f"an explanation with {options.model} takes {relative_to_passes(model)[0]:.2f} times as long as its passes")
    large = random_clip()
    ratio, passes = relative_to_passes(large)
    reading = seconds(lambda: fingerprint(large.module)) / passes
    print(f"one with a CLIP of ViT-B/32 size {ratio:.2f} times, of which reading the weights {reading:.2f}")
    print(f"saving takes {saving / drawing:.2f} times as long as drawing and encoding once")


if __name__ == "__main__":
    main()
