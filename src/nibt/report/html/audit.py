"""The page of an audit: one HTML file that loads nothing, with inline SVG plots."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image

from nibt.data.images import Region
from nibt.report.certificate import certificate, moved_by, span, threshold
from nibt.report.colors import FAINT, INK, PALETTES, RGB, css, shade, shades, strength
from nibt.report.html.document import document, macros, rendered
from nibt.report.html.parts import VERDICT_COLORS as PART_COLORS
from nibt.report.html.parts import effect_text
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import uri
from nibt.results.audit import VERDICTS, Audit, Check, Example, MetricMean, RandomizationCurve
from nibt.results.audit_questions import QUESTION_OF_PARTS

FOR = PALETTES["red_blue"].positive
AGAINST = PALETTES["red_blue"].negative
VERDICT_COLORS: dict[str, RGB] = {
    "pass": AGAINST,
    "no verdict": FAINT,
    "warn": FAINT,
    "cannot tell": FAINT,
    "fail": FOR,
}
_GAUGE = 220  # the width of a gauge, and the places of the axes of curves: as in audit_plots.html
_LEFT = 62
_RIGHT = 460
_TOP = 12
_BOTTOM = 166


def gauge(check: Check) -> Markup:
    """Draw a value as a dot and its interval as a line, over the zones of pass, warn and fail."""
    ends = (check.value, check.low, check.high, check.passes, check.fails, 0.0)
    low = min(ends)
    high = max(ends)
    margin = 0.06 * ((high - low) or 1)
    low = low - margin
    high = high + margin
    edges = sorted((check.passes, check.fails))
    order = ("fail", "warn", "pass") if check.better == "higher" else ("pass", "warn", "fail")
    fills = [css(VERDICT_COLORS[verdict], 0.16) for verdict in order]
    zones = [*zip((low, *edges), (*edges, high), fills, strict=True)]

    def x(value: float) -> float:
        return _GAUGE * (value - low) / (high - low)

    return macros("audit_plots.html").gauge(check, x, zones, css(VERDICT_COLORS[check.verdict]))


def curves(lines: Sequence[RandomizationCurve], passes: float, fails: float) -> Markup:
    """Draw curves over the same stages: rank correlation solid, SSIM dashed, each with its interval as a band."""
    stages = lines[0].stages
    low = min(-0.1, 0.0, *(value for line in lines for value in line.lows))
    high = 1.05

    def places(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(x(number), y(value)) for number, value in enumerate(values)]

    def x(number: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * number / max(1, len(stages) - 1)

    def y(value: float) -> float:
        return _TOP + (_BOTTOM - _TOP) * (high - min(value, high)) / (high - low)

    rules = [(y(value), css(INK, 0.15), f"{value:g}", "") for value in (0.0, 0.5, 1.0)]
    rules += [
        (y(value), css(VERDICT_COLORS[name], 0.7), "", "2 4") for value, name in ((passes, "pass"), (fails, "fail"))
    ]
    drawn = []
    for line in lines:
        color, dash = (FOR, "") if line.measure == "spearman" else (INK, "5 4")
        band = [*places(line.highs), *reversed(places(line.lows))]
        drawn.append((css(color), css(color, 0.12), dash, band, places(line.values)))

    plot = {"rules": rules, "stages": [(x(number), stage) for number, stage in enumerate(stages)], "lines": drawn}
    return macros("audit_plots.html").curves(plot)


_ARROWS = {"higher": " ↑", "lower": " ↓"}


def page(audit: Audit, sign: bool = False) -> str:
    """Return the page; with ``sign`` it has the signature of a file that nibt writes."""
    name = Path(audit.model["id"]).name
    labels = {"dataset": "dataset", "folder": "folder", "pairs": audit.questionnaire.noun}
    data = [f"{labels[name]} {value}" for name, value in audit.data.items() if name in labels]
    questions = audit.questionnaire.questions
    by_question = {number: [check for check in audit.checks if check.question == number] for number in questions}
    summary = []  # of each method, and of the model: how many of its checks have each verdict
    for method in (*audit.methods, ""):
        verdicts = [check.verdict for check in audit.checks if check.method == method]
        if verdicts:
            summary.append((method, [(name, verdicts.count(name)) for name in VERDICTS if name in verdicts]))

    groups: dict[tuple[str, str], list[RandomizationCurve]] = {}  # a plot per method and side
    for curve in audit.curves if by_question[1] else ():
        groups.setdefault((curve.method, curve.side), []).append(curve)
    plots = groups.items()
    seconds = audit.question_seconds or [0.0] * len(questions)
    body = rendered(
        "audit.html",
        audit=audit,
        model_name=name,
        data=", ".join(data),
        certified=certificate(audit),
        summary=summary,
        questions=[
            (number, question, by_question[number], audit.parts if number == QUESTION_OF_PARTS else (), taken)
            for (number, question), taken in zip(questions.items(), seconds, strict=True)
        ],
        gallery=macros("part_gallery.html"),
        effect=effect_text,
        plots=[(*place, curves(group, by_question[1][0].passes, by_question[1][0].fails)) for place, group in plots],
        tables=list(_tables(audit.scores)),
        gauge=gauge,
        texts=audit.questionnaire.checks,
        span=span,
        moved_by=moved_by,
        threshold=threshold,
        overlays=_overlays,
        shaded=_shaded,
    )
    style = rendered(
        "audit.css",
        css=css,
        ink=INK,
        faint=FAINT,
        verdicts={**PART_COLORS, **VERDICT_COLORS},
        shades=shades(PALETTES["red_blue"]),
    )
    return document(f"Audit of {name}", body, str(style), request=audit.request() if sign else None)


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
