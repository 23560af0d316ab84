"""From how many captions on one table for an image pays: nibt.contributions against NIB, caption by caption.

It feeds docs/explanation/cost.md.

    OMP_NUM_THREADS=1 python benchmarks/contributions.py

On the embedded model `scenes`, and on a Hugging Face CLIP of ViT-B/32 size with random weights (speed does not depend
on them). NIB explains the image side only, eight captions in a batch, the image traced once; the captions of the
table are encoded, too. Both must agree.

Beside it the maps of one image for a thousand embeddings against the map for one (`nibt.explain_embeddings`, from the
image on), and the maps for a thousand captions of drawn scenes, encoded, against one caption by `nibt.explain`.
"""

import platform
from importlib.metadata import version

import torch
from regions import least
from regions import model as large

import nibt
from nibt.data.images import read_image
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.engine.batches import trace_sides
from nibt.engine.encode import encode
from nibt.engine.spec import Request, resolve
from nibt.registry import MethodSpec

MANY = 1000
CAPTIONS = [f"a {noun} and a {other}" for noun in ("cat", "dog", "owl", "car") for other in ("key", "bed")]


def compared(model, image):
    """Seconds for the table, for a caption with it, and for a caption without; and how far both are apart."""
    question = resolve(model, Request(MethodSpec("nib")))
    pairs = [Pair(image, caption) for caption in CAPTIONS]
    wanted, alone = least(lambda: question.methods["image"](trace_sides(question, pairs)[0]))
    table, once = least(lambda: nibt.contributions(model, image))
    explained, product = least(lambda: [table.explain(caption) for caption in CAPTIONS])
    apart = max(
        float((one.scores - two).abs().max() / two.abs().max())
        for one, two in zip(explained, wanted.scores, strict=True)
    )
    return once, product / len(CAPTIONS), alone / len(CAPTIONS), apart


def for_embeddings(model, image, count):
    """Seconds for the maps of one image for as many embeddings."""
    aims = torch.randn(count, model.text.encode(model.text.prepare(CAPTIONS[:1])).shape[1])
    return least(lambda: nibt.explain_embeddings(model, image, aims))[1]


def for_captions(model, image, captions):
    """Seconds to explain the first caption, and to encode all and for the maps of one image for them."""
    alone = least(lambda: nibt.explain(model, image, captions[0]))[1]
    return alone, least(lambda: nibt.explain_embeddings(model, image, encode(model.text, captions)))[1]


def main():
    torch.manual_seed(0)
    image = read_image("sample:chelsea")
    captions = [pair.caption for pair in Scenes(count=MANY, seed=2026)]
    for name, model in (("scenes", nibt.load_model("scenes")), ("ViT-B/32 size", large())):
        once, product, alone, apart = compared(model, image)
        pays = once / (alone - product)
        print(
            f"{name}: table {once:.2f} s, then {product:.4f} s a caption; NIB's image side {alone:.3f} s a caption; "
            f"the table pays from {int(pays) + 1} captions on; largest difference {apart:.1e} of the largest score",
            flush=True,
        )
        one, many = (for_embeddings(model, image, count) for count in (1, MANY))
        print(
            f"{name}: the map for one embedding {one:.3f} s, the maps for {MANY} {many:.2f} s, {many / one:.1f} "
            "times as long",
            flush=True,
        )
        alone, many = for_captions(model, image, captions)
        print(
            f"{name}: one caption by explain {alone:.3f} s, the maps for {MANY} captions with encoding {many:.2f} s, "
            f"{many / alone:.1f} times as long",
            flush=True,
        )
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {version('torch')}")


if __name__ == "__main__":
    main()
