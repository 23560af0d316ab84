"""The page of an audit: one HTML file that loads nothing."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nibt.data.images import Region
from nibt.report.certificate import QUESTIONS, certificate, span, threshold
from nibt.report.colors import FAINT, INK, PALETTES, ink_on, on_paper, strength
from nibt.report.html.audit_plots import VERDICT_COLORS, css, curves, gauge
from nibt.report.html.document import document, rendered
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import uri
from nibt.results.audit import VERDICTS, Audit, Check, Example, MetricMean, RandomizationCurve

_SHADES = 20  # per sign; each has a class, since the page allows no style attributes
_ARROWS = {"higher": " ↑", "lower": " ↓"}


def page(audit: Audit, sign: bool = False) -> str:
    """Return the page; with ``sign`` it has the signature of a file that nibt writes."""
    name = Path(audit.model["id"]).name
    data = [f"{name} {value}" for name, value in audit.data.items() if name in ("dataset", "folder", "pairs")]
    by_question = {number: [check for check in audit.checks if check.question == number] for number in QUESTIONS}
    body = rendered(
        "audit.html",
        audit=audit,
        model_name=name,
        data=", ".join(data),
        certified=certificate(audit),
        summary=list(_summary(audit)),
        questions=[(number, question, by_question[number]) for number, question in QUESTIONS.items()],
        plots=list(_plots(audit.curves, by_question[1])),
        tables=list(_tables(audit.scores)),
        gauge=gauge,
        span=span,
        threshold=threshold,
        overlays=_overlays,
        shaded=_shaded,
    )
    return document(f"Audit of {name}", body, _style(), request=audit.request() if sign else None)


def _style() -> str:
    """Return the style of the page, with a class for each verdict and each shade of a word."""
    shades = []
    for step in range(-_SHADES, _SHADES + 1):
        red, green, blue = on_paper(step / _SHADES, PALETTES["red_blue"]).tolist()
        background = red, green, blue
        shades.append((shade(step / _SHADES), background, ink_on(background)))
    return str(rendered("audit.css", css=css, ink=INK, faint=FAINT, verdicts=VERDICT_COLORS, shades=shades))


def shade(share: float) -> str:
    """Return the class of a word with that share of the largest score.

    >>> shade(1.0), shade(-0.5), shade(0.0)
    ('for20', 'against10', 'for0')
    """
    step = round(share * _SHADES)
    return f"{'for' if step >= 0 else 'against'}{abs(step)}"


def _summary(audit: Audit) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Yield each method, and the model, with how many of its checks have each verdict."""
    for method in (*audit.methods, ""):
        verdicts = [check.verdict for check in audit.checks if check.method == method]
        if verdicts:
            yield method, [(name, verdicts.count(name)) for name in VERDICTS if name in verdicts]


def _plots(all_curves: Sequence[RandomizationCurve], checks: Sequence[Check]) -> Iterator[tuple[str, str, str]]:
    """Yield one plot per method and side."""
    groups: dict[tuple[str, str], list[RandomizationCurve]] = {}
    for curve in all_curves if checks else ():
        groups.setdefault((curve.method, curve.side), []).append(curve)
    for (method, side), group in groups.items():
        yield method, side, curves(group, checks[0].passes, checks[0].fails)


def _tables(scores: Sequence[MetricMean]) -> Iterator[dict[str, Any]]:
    """Yield a table per side, with a row per method and control and a column per metric."""
    by_cell = {(score.method, score.side, score.metric): score for score in scores}
    better = {score.metric: _ARROWS.get(score.better, "") for score in scores}
    methods = dict.fromkeys(score.method for score in scores)
    for side in dict.fromkeys(score.side for score in scores):
        metrics = dict.fromkeys(score.metric for score in scores if score.side == side)
        yield {
            "side": side,
            "metrics": [metric.replace("_", " ") + better[metric] for metric in metrics],
            "rows": [(method, [by_cell.get((method, side, metric)) for metric in metrics]) for method in methods],
        }


def _overlays(example: Example) -> dict[str, str]:
    """Return each map of an example over its image, as a data URI."""
    image = Image.open(BytesIO(b64decode(example.image.partition(",")[2]))).convert("RGB")
    width, height = image.size
    left, top, across, down = example.region
    region = Region(left * width, top * height, across * width, down * height)
    grids = {name: torch.tensor(grid, dtype=torch.float32) for name, grid in example.maps.items()}
    return {name: uri(overlay(GridMap(grid, region, image.size), image)) for name, grid in grids.items()}


def _shaded(scored_words: Sequence[tuple[str, float]]) -> Iterator[tuple[str, str]]:
    """Yield the words of a caption with the classes of their scores."""
    scores = np.array([score for _, score in scored_words], np.float32)
    shares = strength(scores, float(np.abs(scores).max(initial=0))).tolist()
    for (text, _), share in zip(scored_words, shares, strict=True):
        yield text, shade(share)
