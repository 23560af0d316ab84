"""What the blocks above NIB's layer cost: the last one for one row only, and all of them compiled by torch.compile.

    OMP_NUM_THREADS=1 python benchmarks/tails.py [--rounds 5] [--batch 8] [--parts rows compile]

`rows`: the image side of NIB for an OpenCLIP model with a ViT-B/32 of timm, whose last block is computed whole, or only
for the class token. `compile`: embeddings and gradients at the states of two nodes, for `scenes` and for a Hugging Face
CLIP of ViT-B/32 size, on the image side from NIB's layer on, and on the text side from layer 0 on, where captions of
many lengths follow each other. Weights are random but those of `scenes`, since speed does not depend on them. Rounds
alternate; a ratio is the median over rounds. What a job of 1,000 pairs takes is computed from the time of a batch and
the seconds that compilation takes.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from limit import NIB, machine, noise, seconds
from regions import model as large

import nibt
from nibt.core.side import Side
from nibt.datasets.scenes import Scenes
from nibt.engine.spec import resolve
from nibt.methods.base import MethodSpec
from nibt.models._trace import first

PAIRS = 1000
LENGTHS = 6  # batches of captions with their own lengths


def with_timm():
    """A CLIP of OpenCLIP with timm's ViT-B/32, random weights and a small text tower."""
    vision = {"timm_model_name": "vit_base_patch32_clip_224", "timm_model_pretrained": False, "image_size": 224}
    vision |= {"timm_pool": "token", "timm_proj": "linear"}
    torch.manual_seed(0)
    module = open_clip.CustomTextCLIP(512, vision, {"width": 128, "heads": 2, "layers": 2})
    return nibt.load_model(module.eval(), tokenizer=open_clip.SimpleTokenizer())


def rows(size, rounds):
    """The table of NIB's image side with the whole last block and with one row of it, as lines of Markdown."""
    model = with_timm()
    inputs = noise(model, size)
    aim = torch.randn(512, generator=torch.Generator().manual_seed(0))
    kind = type(model.image)
    one_row = kind.last

    def maps(options, last):
        method = resolve(model, MethodSpec("nib", "default", options)).methods["image"]
        kind.last = last
        try:
            trace = model.image.trace(inputs, min(method.layers))
            return method(Side(model, trace, lambda embedding: F.cosine_similarity(embedding, aim, dim=-1))).scores
        finally:
            kind.last = one_row

    yield "| batch | what | whole, ms | one row, ms | ratio | largest difference |\n|---|---|---|---|---|---|"
    for name, (variant, options) in NIB.items():
        if variant != "default":
            continue
        whole, one = (partial(maps, options, last) for last in (lambda *_: None, one_row))
        apart = (whole() - one()).abs().max() / whole().abs().max()
        times = [(seconds(whole), seconds(one)) for _ in range(rounds)]
        ratio = statistics.median(after / before for before, after in times)
        before, after = (1000 * statistics.median(column) for column in zip(*times, strict=True))
        yield f"| {size} | {name} | {before:.0f} | {after:.0f} | {ratio:.3f} | {float(apart):.1e} |"


def batches(model, side, size):
    """What the tail of one side takes, batch by batch: states of two nodes, the inputs of each block, of the head."""
    tower = model.tower(side)
    if side == "image":
        (layer,) = resolve(model, MethodSpec("nib")).methods["image"].layers
        prepared = [noise(model, size)]
    else:
        layer, captions = 0, sorted((pair.caption for pair in Scenes(count=200, seed=0)), key=len)
        starts = np.linspace(0, len(captions) - size, LENGTHS).astype(int)
        prepared = [tower.prepare(captions[start : start + size]) for start in starts]
    for inputs in prepared:
        trace = tower.trace(inputs, layer)
        state = torch.cat([trace.streams[layer] * share for share in (0.5, 1)])
        index = torch.arange(len(inputs)).repeat(2)
        calls = [trace._at(call, index) for call in trace.calls[layer:]]
        extra = {key: value[index] for key, value in tower.head_inputs(inputs).items()}
        yield tower, layer, state, calls, extra


def tail(tower, layer, state, calls, extra):
    """The embeddings of states, without the optimization of the last block, which a compiler cannot follow."""
    for block, (args, kwargs) in zip(tower.blocks[layer:], calls, strict=True):
        state = first(block(state, *args, **kwargs))
    return F.normalize(tower.head(state, extra), dim=-1)


def gradient(function, tower, layer, state, calls, extra):
    state = state.detach().requires_grad_()
    embedding = function(tower, layer, state, calls, extra)
    return torch.autograd.grad(embedding[:, 0].sum(), state)[0]


def compiled(name, model, size, rounds):
    """The lines of one model: eager against compiled, without and with the compilation."""
    for side in ("image", "text"):
        torch._dynamo.reset()
        prepared = list(batches(model, side, size))
        function = torch.compile(tail)
        starts, apart = [], 0.0
        for one in prepared:
            began = time.perf_counter()
            result = gradient(function, *one)
            starts.append(time.perf_counter() - began)
            expected = gradient(tail, *one)
            apart = max(apart, float((result - expected).abs().max() / expected.abs().max()))
        times = []
        for _ in range(rounds):
            for one in prepared:
                times.append([seconds(partial(gradient, chosen, *one)) for chosen in (tail, function)])
        eager, quick = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(after / before for before, after in times)
        count, start = PAIRS / size, sum(starts) - len(starts) * quick
        whole = (start + count * quick) / (count * eager)
        yield (
            f"| {name} | {side} | {1000 * eager:.0f} | {1000 * quick:.0f} | {ratio:.3f} | {start:.0f} | {whole:.2f} | "
            f"{apart:.1e} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--parts", nargs="+", choices=("rows", "compile"), default=("rows", "compile"))
    options = parser.parse_args()
    print(machine())
    if "rows" in options.parts:
        for line in rows(options.batch, options.rounds):
            print(line, flush=True)
        print()
    if "compile" in options.parts:
        print(f"| model | side | eager, ms | compiled, ms | ratio | compilation, s | job of {PAIRS} | difference |")
        print("|---|---|---|---|---|---|---|---|")
        for name, model in (("scenes", nibt.load_model("scenes")), ("ViT-B/32 size", large())):
            for line in compiled(name, model, options.batch, options.rounds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
