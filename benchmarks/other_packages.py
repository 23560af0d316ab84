"""The same maps by other packages: the numbers of docs/guides/coming_from.md.

It feeds docs/guides/coming_from.md.

pip install --no-deps grad-cam==1.5.7 ttach opencv-python-headless exclip legrad_torch einops
pip install --no-deps --target OLD open_clip_torch==2.23.0      # LeGrad computes its map with this version or older
python benchmarks/other_packages.py --old OLD

The line of a package that is missing says so. LeGrad and exCLIP run on a ViT-B/32 of OpenCLIP with random weights.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image

PAIR = ("sample:collage", "a cat and a cup of coffee")
FILE = Path(__file__).parents[1] / "src" / "nibt" / "samples" / "collage.jpg"


def unit(scores: torch.Tensor) -> torch.Tensor:
    """The scores scaled to [0, 1], as most packages return them."""
    return (scores - scores.min()) / (scores.max() - scores.min())


def difference(first: torch.Tensor, second: torch.Tensor) -> str:
    return f"largest difference {float((first - second).abs().max() / second.abs().max()):.1e} of the largest score"


def captum() -> str:
    from captum.attr import LayerIntegratedGradients

    import nibt
    from nibt.data.images import read_image
    from nibt.engine.encode import encode

    model = nibt.load_model("scenes")
    pixels, caption = model.image.prepare([read_image(PAIR[0])]).values, encode(model.text, [PAIR[1]])

    def score(values: torch.Tensor) -> torch.Tensor:
        return F.cosine_similarity(model.module.get_image_features(pixel_values=values).pooler_output, caption)

    gradients = LayerIntegratedGradients(score, model.module.vision_model.encoder.layers[6])
    scores = gradients.attribute(pixels, baselines=0 * pixels, n_steps=4, method="gausslegendre")
    grid = nibt.explain(model, *PAIR).grid
    return "LayerIntegratedGradients and nib: " + difference(scores.sum(-1)[0, 1:].view_as(grid), grid)


def grad_cam() -> str:
    import cv2
    from pytorch_grad_cam import GradCAM

    import nibt
    from nibt.data.images import read_image
    from nibt.engine.encode import encode

    model = nibt.load_model("lite", image_size=384)
    pixels = model.image.prepare([read_image(PAIR[0])]).values.requires_grad_()
    caption = encode(model.text, [PAIR[1]])[0]

    class Tower(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return model.module.encode_image(values)

    tower = Tower()
    tower.inner = model.module
    tower.anchor = torch.nn.Parameter(torch.zeros(()))  # the package asks the parameters for the device
    with GradCAM(tower, [model.image.blocks[-1]]) as cam:
        theirs = torch.from_numpy(cam(pixels, [lambda row: F.cosine_similarity(row, caption, dim=-1)])[0])
    grid = unit(nibt.explain(model, *PAIR, "grad_cam", variant="textbook").grid)
    ours = unit(torch.from_numpy(cv2.resize(grid.numpy().astype(np.float32), theirs.shape[::-1])))
    return "GradCAM and grad_cam, textbook: " + difference(theirs, ours)


def random_clip() -> tuple[torch.nn.Module, Callable]:
    torch.manual_seed(0)
    model, _, prepare = open_clip.create_model_and_transforms("ViT-B-32", pretrained=None)
    return model.eval(), prepare


def exclip() -> str:
    from exclip import OpenClipExplainer

    import nibt

    model, prepare = random_clip()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    options = {"image_layer": 11, "text_layer": 11, "tolerance": None}
    table = nibt.regions(nibt.load_model(model, processor=prepare, tokenizer=tokenizer), FILE, PAIR[1], **options)
    explainer = OpenClipExplainer(model, device=torch.device("cpu"))
    theirs = explainer.explain(tokenizer([PAIR[1]]), prepare(Image.open(FILE).convert("RGB"))[None])
    words = torch.stack([theirs[list(word.tokens)].sum(0) for word in table.words])
    correlation = np.corrcoef(words.flatten(), table.table.flatten())[0, 1]
    return f"explain and regions: correlation {correlation:.2f}"


def legrad(old: Path | None) -> str:
    import nibt

    model, prepare = random_clip()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    grid = nibt.explain(
        nibt.load_model(model, processor=prepare, tokenizer=tokenizer), FILE, PAIR[1], "legrad", blocks=2
    ).grid
    ours = unit(F.interpolate(grid[None, None], scale_factor=32, mode="bilinear"))
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        state, answer = Path(folder) / "state.pt", Path(folder) / "map.pt"
        torch.save(model.state_dict(), state)
        for name, path in (("this OpenCLIP", None), ("the OpenCLIP of --old", old)):
            if path is None and name != "this OpenCLIP":
                continue
            environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
            command = [sys.executable, __file__, "--legrad-map", state, answer]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            lines.append(f"with {name}, {difference(torch.load(answer), ours)}")
    return "compute_legrad and legrad, blocks=2: " + "; ".join(lines)


def legrad_map(state: Path, answer: Path) -> None:
    """Write LeGrad's map; in a process of its own, which may have another OpenCLIP."""
    from legrad import LeWrapper

    model, prepare = random_clip()
    model.load_state_dict(torch.load(state))
    pixels, tokens = prepare(Image.open(FILE).convert("RGB"))[None], open_clip.get_tokenizer("ViT-B-32")([PAIR[1]])
    wrapper = LeWrapper(model)
    torch.save(wrapper.compute_legrad_clip(wrapper.encode_text(tokens, normalize=True), pixels).detach(), answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a folder with open_clip_torch 2.23 or older")
    parser.add_argument("--legrad-map", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.legrad_map:
        legrad_map(*options.legrad_map)
        return
    for name, compare in (
        ("captum", captum),
        ("grad-cam", grad_cam),
        ("exclip", exclip),
        ("legrad_torch", lambda: legrad(options.old)),
    ):
        try:
            print(f"{name}: {compare()}")
        except ImportError as error:
            print(f"{name}: not run ({error})")


if __name__ == "__main__":
    main()
