"""What each method costs, in plain forward passes of the tower that it explains, measured and as it says of itself.

    OMP_NUM_THREADS=1 python benchmarks/costs.py [--batch 4]

The model, the images and the captions of `limit.py`. Processor time, the least of two runs after one to warm up; the
forward pass of the explained side is in it, that of the other side is not. Methods whose cost is a number that the user
chooses have a small one here, which is told.
"""

import argparse
import time
from functools import partial

from limit import Batch, machine
from regions import model as large

import nibt
from nibt.registry import find

SMALL = {"rise": {"masks": 32}, "shapley": {"budget": 32}, "integrated_gradients": {"steps": 8}, "m2ib": {"steps": 2}}
ALSO = [
    ("nib", "paper", {}),
    ("nib", "default", {"layer": 9, "steps": 4}),
    ("nib", "default", {"layer": 9, "steps": 2}),
    ("grad_cam", "default", {"along_path": True}),
]


def least(work):
    """Processor seconds."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    batch = Batch(large(), parser.parse_args().batch)
    plain = {
        "image": least(lambda: batch.model.image.encode(batch.image)),
        "text": least(lambda: batch.model.text.encode(batch.text)),
    }
    print(machine())
    print(
        f"Plain forward of {len(batch.image)}: image {1000 * plain['image']:.0f} ms, text {1000 * plain['text']:.0f} ms"
    )
    print("\n| method | image | text | as it says |\n|---|---|---|---|")
    for method, variant, options in [
        (name, "default", SMALL.get(name, {}))
        for name in nibt.available("methods")
        if "vectors" not in find("methods", name).needs
    ] + ALSO:
        cells = []
        for side, other in (("image", "text"), ("text", "image")):
            if side not in find("methods", method).sides:
                cells.append("")
                continue
            spent = least(partial(batch.maps, variant, options, method, (side,))) - plain[other]
            cells.append(f"{spent / plain[side]:.1f}")
        name = " ".join(
            [method, *([variant] if variant != "default" else []), *(f"{k}={v}" for k, v in options.items())]
        )
        print(f"| {name} | {' | '.join(cells)} | {find('methods', method).cost} |", flush=True)


if __name__ == "__main__":
    main()
