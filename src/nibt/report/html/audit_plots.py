"""Inline SVG plots of an audit: gauges of values with their thresholds, and curves over the stages of randomization."""

from collections.abc import Sequence
from html import escape

from nibt.report.colors import FAINT, INK, PALETTES, RGB
from nibt.results.audit import Check, RandomizationCurve

FOR, AGAINST = PALETTES["red_blue"].positive, PALETTES["red_blue"].negative
VERDICT_COLORS: dict[str, RGB] = {"pass": AGAINST, "warn": FAINT, "fail": FOR}
_WIDE, _HIGH = 220, 26
_PLOT, _TALL, _LEFT, _TOP, _BELOW = 470, 250, 62, 12, 84


def css(color: RGB, opacity: float = 1.0) -> str:
    """Return a color in CSS syntax."""
    return f"rgb({color[0]} {color[1]} {color[2]} / {opacity:g})"


def gauge(check: Check) -> str:
    """Draw a value as a dot and its interval as a line, over the zones of pass, warn and fail."""
    ends = (check.value, check.low, check.high, check.passes, check.fails, 0.0)
    low, high = min(ends), max(ends)
    margin = 0.06 * ((high - low) or 1)
    low, high = low - margin, high + margin

    def to_x(value: float) -> float:
        return _WIDE * (value - low) / (high - low)

    edges = sorted((check.passes, check.fails))
    order = ("fail", "warn", "pass") if check.better == "higher" else ("pass", "warn", "fail")
    zones = zip((low, *edges), (*edges, high), order, strict=True)
    middle = _HIGH / 2
    bands = "".join(
        f'<rect x="{to_x(first):.1f}" y="8" width="{to_x(last) - to_x(first):.1f}" height="{_HIGH - 16}" '
        f'fill="{css(VERDICT_COLORS[zone], 0.16)}"/>'
        for first, last, zone in zones
    )
    color = css(VERDICT_COLORS[check.verdict])
    return (
        f'<svg class="gauge" viewBox="0 0 {_WIDE} {_HIGH}" width="{_WIDE}" height="{_HIGH}" role="img" '
        f'aria-label="{check.value:.3f}, from {check.low:.3f} to {check.high:.3f}">{bands}'
        f'<line x1="{to_x(check.low):.1f}" x2="{to_x(check.high):.1f}" y1="{middle}" y2="{middle}" stroke="{color}" '
        f'stroke-width="3" stroke-linecap="round"/>'
        f'<circle cx="{to_x(check.value):.1f}" cy="{middle}" r="5.5" fill="{color}" stroke="white" stroke-width="1.5"/>'
        "</svg>"
    )


def curves(lines: Sequence[RandomizationCurve], passes: float, fails: float) -> str:
    """Draw curves over the same stages: rank correlation solid, SSIM dashed, each with its interval as a band."""
    stages = lines[0].stages
    values = [value for curve in lines for value in (*curve.lows, 0.0)]
    low, high = min(-0.1, *values), 1.05

    def x(number: int) -> float:
        return _LEFT + (_PLOT - _LEFT - 10) * number / max(1, len(stages) - 1)

    def y(value: float) -> float:
        return _TOP + (_TALL - _TOP - _BELOW) * (high - min(value, high)) / (high - low)

    parts = [_rule(y(value), css(INK, 0.15), f"{value:g}") for value in (0.0, 0.5, 1.0)]
    parts += [
        _rule(y(value), css(VERDICT_COLORS[name], 0.7), "", "2 4")
        for value, name in ((passes, "pass"), (fails, "fail"))
    ]
    for number, stage in enumerate(stages):
        anchor = x(number), _TALL - _BELOW + 14
        parts.append(
            f'<text transform="translate({anchor[0]:.1f} {anchor[1]}) rotate(-45)" text-anchor="end" '
            f'class="tick">{escape(stage)}</text>'
        )
    for curve in lines:
        color, dash = (FOR, "") if curve.measure == "spearman" else (INK, "5 4")
        stage_numbers = range(len(stages))
        band = [(x(p), y(curve.highs[p])) for p in stage_numbers] + [
            (x(p), y(curve.lows[p])) for p in reversed(stage_numbers)
        ]
        line = [(x(p), y(curve.values[p])) for p in stage_numbers]
        parts.append(f'<polygon points="{_points(band)}" fill="{css(color, 0.12)}"/>')
        parts.append(
            f'<polyline points="{_points(line)}" fill="none" stroke="{css(color)}" stroke-width="2" '
            f'stroke-dasharray="{dash}" stroke-linejoin="round"/>'
        )
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2.6" fill="{css(color)}"/>' for across, down in line]
    return (
        f'<svg viewBox="0 0 {_PLOT} {_TALL}" width="{_PLOT}" height="{_TALL}" role="img" '
        f'aria-label="similarity to the original map">{"".join(parts)}</svg>'
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{across:.1f},{down:.1f}" for across, down in points)


def _rule(down: float, color: str, text: str, dash: str = "") -> str:
    label = f'<text x="{_LEFT - 7}" y="{down + 4:.1f}" text-anchor="end" class="tick">{text}</text>' if text else ""
    return (
        f'<line x1="{_LEFT}" x2="{_PLOT - 6}" y1="{down:.1f}" y2="{down:.1f}" stroke="{color}" '
        f'stroke-dasharray="{dash}"/>{label}'
    )
