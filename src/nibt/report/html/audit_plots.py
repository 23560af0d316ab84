"""Inline SVG plots of an audit: gauges of values with their thresholds, and curves over the stages of randomization."""

from collections.abc import Sequence

from markupsafe import Markup

from nibt.report.colors import FAINT, INK, PALETTES, RGB
from nibt.report.html.document import macros
from nibt.results.audit import Check, RandomizationCurve

FOR, AGAINST = PALETTES["red_blue"].positive, PALETTES["red_blue"].negative
VERDICT_COLORS: dict[str, RGB] = {"pass": AGAINST, "warn": FAINT, "fail": FOR}
_GAUGE = 220  # the width of a gauge, and the places of the axes of curves: as in audit_plots.html
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 460, 12, 166


def css(color: RGB, opacity: float = 1.0) -> str:
    """Return a color in CSS syntax."""
    return f"rgb({color[0]} {color[1]} {color[2]} / {opacity:g})"


def gauge(check: Check) -> Markup:
    """Draw a value as a dot and its interval as a line, over the zones of pass, warn and fail."""
    ends = (check.value, check.low, check.high, check.passes, check.fails, 0.0)
    low, high = min(ends), max(ends)
    margin = 0.06 * ((high - low) or 1)
    low, high = low - margin, high + margin
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
    low, high = min(-0.1, 0.0, *(value for line in lines for value in line.lows)), 1.05

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
