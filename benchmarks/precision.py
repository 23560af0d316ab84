"""How far half precision moves a map: NIB on scenes in float16 and bfloat16 against float32, both sides.

python benchmarks/precision.py

For each pair the largest difference of a score, as a share of the largest score; the median and the largest over pairs.
"""

import statistics

from limit import machine

import nibt
from nibt.datasets.scenes import Scenes


def main():
    pairs = list(Scenes(count=16, seed=5, fewest=2, most=3, named="one"))
    images, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    whole = nibt.explain(nibt.load_model("scenes"), images, captions)
    print(machine())
    for dtype in ("float16", "bfloat16"):
        half = nibt.explain(nibt.load_model("scenes", dtype=dtype), images, captions)
        for side in ("image", "text"):
            apart = []
            for one, other in zip(half, whole, strict=True):
                actual, wanted = getattr(one, side).scores, getattr(other, side).scores
                apart.append(float((actual.float() - wanted).abs().max() / wanted.abs().max()))
            print(f"{dtype}, {side}: median {statistics.median(apart):.4f}, largest {max(apart):.4f}")


if __name__ == "__main__":
    main()
