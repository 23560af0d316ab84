"""Draws the error of maps with noise, for the page on theory: ``python docs/narrowing.py`` (minutes on one core)."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

import nibt
from nibt.datasets.scenes import Scenes
from nibt.engine.batches import trace_sides
from nibt.engine.spec import Request, resolve
from nibt.methods._path import PathStage, products
from nibt.methods.nib import NIB
from nibt.models.base import Model
from nibt.registry import MethodSpec
from nibt.types import Modality

FILE = Path(__file__).parent / "explanation" / "narrowing-noise.png"
FEW, SAMPLES, STEPS = 16, 8, 8
PAIRS = list(Scenes(count=FEW, seed=19))
DEVIATIONS = [10 ** (-half / 2) for half in range(7)]


def main() -> None:
    """Draw the figure, and print its numbers."""
    model = nibt.load_model("scenes")
    figure = Figure((11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for plot, modality in zip(axes, ("image", "text"), strict=True):
        single, mirrored = errors(model, modality)
        plot.loglog(DEVIATIONS, single, "o-", color="#de2d26", label="one draw")
        plot.loglog(DEVIATIONS, mirrored, "o-", color="#3182bd", label="a draw and its mirror")
        plot.set(title=modality, xlabel="deviation d of the noise")
        plot.legend()
        print(modality, "relative error", dict(zip(DEVIATIONS, zip(single, mirrored, strict=True), strict=True)))
    note = f"largest error of the map, relative to its largest score; mean over {FEW} scenes and {SAMPLES} draws"
    figure.supxlabel(note, fontsize="small")
    figure.savefig(FILE, dpi=100)


def errors(model: Model, modality: Modality) -> tuple[list[float], list[float]]:
    """Return the errors of maps with noise by deviation: of single draws, and of the means of a draw and its mirror."""
    options = {"steps": STEPS, "quadrature": "gauss", "image_views": 1, "noise": "features", "samples": SAMPLES}
    spec = resolve(model, Request(MethodSpec("nib", options=options)))
    side = trace_sides(spec, PAIRS)[modality == "text"]
    method = cast(NIB, spec.methods[modality])
    (layer,) = method.layer
    stage = PathStage.of_layer(side, layer, method.baseline)
    draws = method.starts(side, layer, stage.cut.hidden) - stage.start
    plain, _ = method.attribute_stages(stage, products, "zero")

    def maps(factor: float) -> Tensor:
        moved = [replace(stage, start=stage.start + factor * draw) for draw in draws]
        return torch.stack([method.attribute_stages(path, products, "zero")[0] for path in moved])

    single, mirrored = [], []
    for deviation in DEVIATIONS:
        of_draws, of_mirrors = maps(deviation), maps(-deviation)
        for column, values in ((single, of_draws), (mirrored, (of_draws + of_mirrors) / 2)):
            largest = (values - plain).abs().amax(-1) / plain.abs().amax(-1)
            column.append(float(largest.mean()))
    return single, mirrored


if __name__ == "__main__":
    main()
