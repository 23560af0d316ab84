"""Draws the figures of NIB with noise for the page on theory: ``python docs/narrowing.py`` (a few minutes on one core).

``narrowing-noise.png`` has the error of maps with noise, ``narrowing-curve.png`` the mean narrowing curves of scenes.
"""

from pathlib import Path
from typing import cast

import numpy as np
import torch

import nibt
from nibt.datasets.scenes import Scenes
from nibt.engine.batches import trace_sides
from nibt.engine.spec import resolve
from nibt.methods.base import MethodSpec
from nibt.methods.nib import NIB
from nibt.models.base import Model
from nibt.report.colors import PALETTES
from nibt.report.image.curve import draw_curve
from nibt.report.image.layout import MARGIN, centered, stacked, text_rows
from nibt.report.image.plot import WIDTH, Line, plot
from nibt.types import Modality

FOLDER = Path(__file__).parent / "explanation"
PAIRS = list(Scenes(count=100, seed=19))
FEW, SAMPLES, STEPS = 16, 8, 8
DEVIATIONS = [10 ** (-half / 2) for half in range(7)]
RED, BLUE = PALETTES["red_blue"].positive, PALETTES["red_blue"].negative


def main() -> None:
    """Draw both figures, and print the numbers of the page."""
    model = nibt.load_model("scenes")
    width = 2 * WIDTH + 3 * MARGIN
    plots = []
    for modality in ("image", "text"):
        single, mirrored = errors(model, modality)
        lines = [Line("one draw", RED, DEVIATIONS, single), Line("a draw and its mirror", BLUE, DEVIATIONS, mirrored)]
        plots.append(plot(lines, modality, "deviation d of the noise", log=True))
        print(modality, "relative error", dict(zip(DEVIATIONS, zip(single, mirrored, strict=True), strict=True)))
    note = f"largest error of the map, relative to its largest score; mean over {FEW} scenes and {SAMPLES} draws"
    stacked([centered(plots, width), text_rows([note], width)], width).save(
        FOLDER / "narrowing-noise.png", optimize=True
    )
    curve = nibt.narrowing_curve(model, [pair.image for pair in PAIRS], [pair.caption for pair in PAIRS])
    draw_curve(curve).save(FOLDER / "narrowing-curve.png", optimize=True)
    for name, side in curve.sides.items():
        scores, nats = side.mean_scores[:-1], [float(value or 0) for value in side.mean_information[:-1]]
        half = (side.mean_scores[0] + side.mean_scores[-1]) / 2
        needed = np.interp(half, scores, nats)
        print(f"{name}: from {scores[0]:.3f} to {side.mean_scores[-1]:.3f}, half of it with {needed:.0f} nats")


def errors(model: Model, modality: Modality) -> tuple[list[float], list[float]]:
    """Return the errors of maps with noise by deviation: of single draws, and of the means of a draw and its mirror."""
    options = {"steps": STEPS, "quadrature": "gauss", "image_views": 1, "noise": "features", "samples": SAMPLES}
    spec = resolve(model, MethodSpec("nib", options=options))
    side = trace_sides(spec, PAIRS[:FEW])[modality == "text"]
    method = cast(NIB, spec.methods[modality])
    (layer,) = method.layer
    cut = side.cut(layer)
    baseline = side.baseline(method.baseline, layer, cut.hidden)
    noise = method.starts(side, layer, cut.hidden) - baseline
    plain, _ = method.integrate(side, cut, layer, baseline)
    single, mirrored = [], []
    for deviation in DEVIATIONS:
        maps = [
            torch.stack(
                [method.integrate(side, cut, layer, baseline + sign * deviation * one, "zero")[0] for one in noise]
            )
            for sign in (1, -1)
        ]
        for column, values in ((single, maps[0]), (mirrored, (maps[0] + maps[1]) / 2)):
            largest = (values - plain).abs().amax(-1) / plain.abs().amax(-1)
            column.append(float(largest.mean()))
    return single, mirrored


if __name__ == "__main__":
    main()
