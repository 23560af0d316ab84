"""What the word-region table costs: nibt's against the second-order method of exCLIP, written plainly, on one model.

It feeds docs/explanation/regions.md.

    OMP_NUM_THREADS=2 python benchmarks/regions.py

A Hugging Face CLIP of ViT-B/32 size with random weights (speed does not depend on them), one image, a caption of
seven words, the same layers, nodes and baselines for both. exCLIP (Möller et al., 2024) integrates the full Jacobians
of both embeddings: one backward pass for each node and each of the 512 numbers of an embedding. Both tables must agree.

Beside it the table of the nouns alone, and each noun and each word explained as a caption of its own, with the same
settings.
Seconds are processor time.
"""

import argparse
import platform
import resource
import time
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

import nibt
from nibt.core.quadrature import nodes
from nibt.data.images import read_image

CAPTION = "a cat and a cup of coffee"
NOUNS = ["cat", "cup", "coffee"]


LARGE = {
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "projection_dim": 768,
}


def module_and_processor(**changes):
    """The shape of openai/clip-vit-base-patch32, with changes, and the words of the embedded model `scenes`."""
    words = AutoTokenizer.from_pretrained(nibt.load_model("scenes").folder)
    torch.manual_seed(0)
    text = {
        "vocab_size": 49408,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    module = CLIPModel(CLIPConfig(text_config=text, **changes)).eval()
    return module, CLIPProcessor(CLIPImageProcessor(), words)


def model(**changes):
    module, processor = module_and_processor(**changes)
    return nibt.load_model(module, processor=processor)


def integrated_jacobian(cut, start, path):
    """The mean over the nodes of d embedding / d state: one backward pass for each number of the embedding."""
    total = 0
    for position, weight in zip(path.positions, path.weights, strict=True):
        state = (start + position * (cut.hidden - start)).detach().requires_grad_()
        embedded = F.normalize(cut.rest(state[None]), dim=-1)[0, 0]
        jacobian = torch.stack([torch.autograd.grad(number, state, retain_graph=True)[0][0] for number in embedded])
        total = total + weight * jacobian
    return total


def exclip(ready, image, layers, steps):
    """The table from the full Jacobians: tokens x patches."""
    path, sides = nodes("gauss", steps), []
    for tower, item, layer in ((ready.text, CAPTION, layers[1]), (ready.image, image, layers[0])):
        trace = tower.trace(tower.prepare([item]))
        cut, start = trace.cut(layer), tower.blank(trace.inputs, layer)
        contributed = torch.einsum("dtw,tw->td", integrated_jacobian(cut, start, path), (cut.hidden - start)[0])
        sides.append((contributed, cut.units, trace.inputs))
    (tokens, _, inputs), (patches, grid, _) = sides
    words = torch.stack([tokens[list(word.tokens)].sum(0) for word in inputs.words.words[0]])
    return words @ grid.keep(patches.T).T.T


def plain(ready, image):
    began = time.process_time()
    ready.image.encode(ready.image.prepare([image]))
    ready.text.encode(ready.text.prepare([CAPTION]))
    return time.process_time() - began


def least(work):
    """The answer, and the least processor seconds of three runs."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        answer = work()
        seconds.append(time.process_time() - began)
    return answer, min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-layer", type=int, default=6)
    parser.add_argument("--text-layer", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    ready = model()
    noise = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    image = read_image(Image.fromarray(noise))
    layers = options.image_layer, options.text_layer
    chosen = {"image_layer": layers[0], "text_layer": layers[1], "steps": options.steps, "baseline": "blank"}
    nibt.regions(ready, image, CAPTION, **chosen)  # warm-up; the blank states are constants
    forward = min(plain(ready, image) for _ in range(5))
    table, ours = least(lambda: nibt.regions(ready, image, CAPTION, **chosen))
    _, few = least(lambda: nibt.regions(ready, image, CAPTION, words=NOUNS, **chosen))
    _, each = least(lambda: nibt.explain(ready, image, CAPTION.split(), **chosen))
    _, alone = least(lambda: nibt.explain(ready, image, [f"a {noun}" for noun in NOUNS], **chosen))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    began = time.process_time()
    full = exclip(ready, image, layers, options.steps)
    theirs = time.process_time() - began
    difference = float((table.table.flatten(1) - full).abs().max() / full.abs().max())
    print(
        f"{time.strftime('%-d %B %Y')}, {platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}"
    )
    print(f"layers {layers}, {options.steps} nodes, {len(table.words)} words; largest difference {difference:.1e}")
    print(f"plain forward of both towers {forward:.3f} s")
    print(f"nibt                         {ours:.3f} s = {ours / forward:.1f} forwards, peak {peak:.1f} GB")
    print(f"nibt, the table of {len(NOUNS)} nouns  {few:.3f} s = {few / forward:.1f} forwards")
    print(f"nibt, {len(NOUNS)} nouns alone         {alone:.3f} s = {alone / forward:.1f} forwards")
    print(f"nibt, all words alone        {each:.3f} s = {each / forward:.1f} forwards")
    print(
        f"full Jacobians               {theirs:.1f} s = {theirs / forward:.0f} forwards, "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
    )
    print(f"ratio                        {theirs / ours:.0f}")


if __name__ == "__main__":
    main()
