"""The page of an audit: one HTML file that loads nothing."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nibt.data.images import Region
from nibt.report.certificate import certificate
from nibt.report.colors import FAINT, INK, PALETTES, ink_on, on_paper, strength
from nibt.report.html.audit_plots import VERDICT_COLORS, css, curves, gauge
from nibt.report.html.document import document
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import uri
from nibt.results.audit import VERDICTS, Audit, Check, Example, MetricMean, RandomizationCurve

QUESTIONS = {
    1: (
        "Weight randomization",
        "The weights of a copy of the model are shuffled step by step, from the head down to the stem. A map that does "
        "not change does not depend on what the model has learned (Adebayo et al., 2018). Similarity, here and below, "
        "is the Spearman rank correlation of two maps: 1 for the same order, 0 for unrelated orders.",
    ),
    2: (
        "Counterfactual captions and images",
        "The map of the image is computed again with the caption of another pair and with made-up words, and the "
        "scores of the caption with another image. An explanation of the pair must change.",
    ),
    3: (
        "Stability under rewording",
        "The caption is put into templates such as “a photo of …”. The maps must stay similar. For captions, only the "
        "scores of their own words are compared.",
    ),
    4: (
        "Seed sensitivity",
        "1 minus the similarity of the maps of two seeds. A method without random numbers is run twice, and must give "
        "the same map.",
    ),
    5: (
        "Faithfulness",
        "Each map is compared with a random map of the same pair. Removing and inserting the units that it ranks "
        "highest must change the score more, and, if the objects are known, it must locate them better. The tables "
        "have all values, with those of the controls.",
    ),
    6: (
        "Special tokens and corners",
        "The score of class, start, end and padding tokens is not part of the map. A high score in the corners, which "
        "rarely show an object, can mean that the model stores global information there (Darcet et al., 2024).",
    ),
    7: (
        "Discrimination",
        "The model must score right captions above wrong ones. If it does not, do not rely on its maps.",
    ),
    8: (
        "Vocabulary",
        "A model knows a noun if its tokenizer reads it, its embedding is not that of a blank caption, and no other "
        "noun in “a photo of a …” is more similar to it. The map of a caption of unknown nouns is noise.",
    ),
}
"""The heading and the description of each check, by its number in ``Check.question``."""


_SHADES = 20  # per sign; each has a class, since the page allows no style attributes
_ARROWS = {"higher": " ↑", "lower": " ↓"}


def shade(share: float) -> str:
    """Return the class of a word with that share of the largest score.

    >>> shade(1.0), shade(-0.5), shade(0.0)
    ('for20', 'against10', 'for0')
    """
    step = round(share * _SHADES)
    return f"{'for' if step >= 0 else 'against'}{abs(step)}"


def _shaded(share: float) -> str:
    red, green, blue = on_paper(share, PALETTES["red_blue"]).tolist()
    background = red, green, blue
    return f".words .{shade(share)}{{background:{css(background)};color:{css(ink_on(background))}}}"


_WORDS = "\n".join(_shaded(step / _SHADES) for step in range(-_SHADES, _SHADES + 1))
_CHIPS = "".join(f".{name}{{background:{css(color)}}}" for name, color in VERDICT_COLORS.items())
STYLE = f"""
:root{{color-scheme:light}}
body{{margin:0 auto;padding:2.2rem 1.4rem 3rem;max-width:66rem;background:white;color:{css(INK)};
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}}
h1{{font-size:1.9rem;line-height:1.2;margin:0}}
.certificate{{border:1px solid {css(INK, 0.25)};border-radius:6px;padding:.9rem 1.2rem .4rem;margin:.6rem 0 1.2rem}}
.certificate h3{{font-size:1rem;margin:.4rem 0 0}} .certificate ul{{margin:.1rem 0 .7rem;padding-left:1.2rem}}
.certificate pre{{margin:.2rem 0 .6rem;white-space:pre-wrap;overflow-wrap:anywhere}}
h2{{font-size:1.2rem;margin:2.6rem 0 .2rem;padding-top:1rem;border-top:1px solid {css(INK, 0.15)}}}
p{{margin:.2rem 0 .8rem;max-width:46rem}}
.faint,.tick,figcaption,.words th{{color:{css(FAINT)}}}
.tick{{font-size:10.5px;fill:{css(FAINT)}}}
table{{border-collapse:collapse}}
th{{text-align:left;font-weight:500}}
td,th{{padding:.3rem .9rem .3rem 0;vertical-align:middle}}
.lines td,.scores td{{border-bottom:1px solid {css(INK, 0.08)}}}
.lines thead th,.scores thead th{{font-size:.8rem;color:{css(FAINT)}}}
.number{{font-variant-numeric:tabular-nums;white-space:nowrap}}
.chip{{display:inline-block;min-width:2.6rem;text-align:center;border-radius:.6rem;padding:.05rem .55rem;color:white;
font-size:.82rem;font-weight:600}}
{_CHIPS}
.tiles,.plots,.summary{{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}}
.summary{{margin:1.2rem 0 0;gap:.7rem 1.6rem}}
figure{{margin:0;width:8.4rem}}
.plots figure{{width:auto}}
figure img{{width:8.4rem;border-radius:.25rem;display:block}}
figcaption{{font-size:.82rem;text-align:center;line-height:1.3;padding-top:.2rem}}
.plots figcaption{{text-align:left;color:{css(INK)}}}
.plots{{margin-top:1.2rem}}
.scores{{margin-bottom:1rem}}
.side{{margin:1.6rem 0 .2rem}}
.example{{margin:1.1rem 0 1.8rem}}
.words{{margin-top:.5rem;font-size:.9rem}}
.words span{{border-radius:.25rem;padding:.05rem .35rem}}
.words td,.words th{{padding:.15rem 1rem .15rem 0;font-weight:400}}
.scroll{{overflow-x:auto}}
{_WORDS}
.gauge{{display:block}}
ul{{padding-left:1.1rem}}
@media print{{tr,figure,.example,.summary{{break-inside:avoid}}h2,h3{{break-after:avoid}}
.chip,.words span{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}}}
"""


def page(audit: Audit, sign: bool = False) -> str:
    """Return the page; with ``sign`` it has the signature of a file that nibt writes."""
    name = escape(Path(audit.model["id"]).name)
    data = [f"{name} {value}" for name, value in audit.data.items() if name in ("dataset", "folder", "pairs")]
    body = [
        f"<h1>Audit of {name}</h1>",
        f'<p class="faint">{escape(", ".join(data))}; methods {escape(", ".join(audit.methods))}; seed {audit.seed}; '
        f"{audit.seconds:.0f} s</p>",
        _certificate(audit),
        _summary(audit),
    ]
    for number, (heading, about) in QUESTIONS.items():
        checks = [check for check in audit.checks if check.question == number]
        if checks:
            body.append(f"<h2>{number}. {escape(heading)}</h2><p>{escape(about)}</p>{_lines(checks)}")
        if number == 1:
            body.append(_plots(audit.curves, checks))
        if number == 5:
            body.append(_scores(audit.scores))
        if number == 8 and audit.unknown_nouns:
            body.append(_nouns(audit.unknown_nouns))
    if audit.examples:
        body.append(
            "<h2>Examples</h2><p>Red raises the score of the pair, blue lowers it. Each map and each caption has its "
            "own color scale.</p>"
        )
    for method in audit.methods if audit.examples else ():
        examples = [example for example in audit.examples if example.method == method]
        body += [f"<h3>{escape(method)}</h3>", *map(_figure, examples)]
    body.append(_footer(audit))
    title, request = f"Audit of {Path(audit.model['id']).name}", audit.request() if sign else None
    return document(title, f"<main>{''.join(body)}</main>", STYLE, request=request)


def span(check: Check | MetricMean) -> str:
    """Return a mean with its interval.

    >>> span(MetricMean("nib", "image", "deletion", 0.2, 0.1, 0.3, 24, "lower"))
    '0.200 [0.100, 0.300]'
    """
    return f"{check.value:.3f} [{check.low:.3f}, {check.high:.3f}]"


def threshold(check: Check) -> str:
    """Return the thresholds of a check as short text."""
    signs = ("≥", "≤") if check.better == "higher" else ("≤", "≥")
    return f"pass {signs[0]} {check.passes:.2g}, fail {signs[1]} {check.fails:.2g}"


def _certificate(audit: Audit) -> str:
    """Return the first screen: what was checked, what to trust and what not, and how to repeat it."""
    certified = certificate(audit)
    parts = [f"<p>{escape(certified.checked)}</p>"]
    for heading, sentences in certified.sections.items():
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
        parts.append(f"<h3>{heading}</h3><ul>{items}</ul>")
    parts.append(f"<h3>Repeat it</h3><pre>{escape(certified.command)}</pre>" if certified.command else "")
    return f'<section class="certificate">{"".join(parts)}</section>'


def _summary(audit: Audit) -> str:
    parts = []
    for method in (*audit.methods, ""):
        verdicts = [check.verdict for check in audit.checks if check.method == method]
        chips = " ".join(
            f'<span class="chip {name}">{verdicts.count(name)} {name}</span>' for name in VERDICTS if name in verdicts
        )
        if verdicts:
            parts.append(f"<div><strong>{escape(method) or 'model'}</strong> {chips}</div>")
    return f'<div class="summary">{"".join(parts)}</div>'


def _lines(checks: Sequence[Check]) -> str:
    rows = "".join(
        f'<tr><td><span class="chip {check.verdict}">{check.verdict}</span></td><td>{escape(check.method)}</td>'
        f"<td>{check.side}</td><td>{escape(check.about)}</td><td>{gauge(check)}</td>"
        f'<td class="number">{span(check)}</td><td class="faint number">{threshold(check)}</td></tr>'
        for check in checks
    )
    return f'<div class="scroll"><table class="lines"><tbody>{rows}</tbody></table></div>'


def _plots(all_curves: Sequence[RandomizationCurve], checks: Sequence[Check]) -> str:
    """Return one plot per method and side."""
    if not all_curves or not checks:
        return ""
    groups: dict[tuple[str, str], list[RandomizationCurve]] = {}
    for curve in all_curves:
        groups.setdefault((curve.method, curve.side), []).append(curve)
    plots = "".join(
        f"<figure>{curves(group, checks[0].passes, checks[0].fails)}<figcaption>{escape(method)}, {side} side: "
        f"similarity to the map of the learned weights</figcaption></figure>"
        for (method, side), group in groups.items()
    )
    return (
        f'<div class="plots">{plots}</div><p class="faint">Red: rank correlation. Black, dashed: SSIM. Bands: 95 % '
        "intervals. From left to right, more of the tower is random.</p>"
    )


def _scores(scores: Sequence[MetricMean]) -> str:
    """Return a table per side, with a row per method and control and a column per metric."""
    keys = list(dict.fromkeys((score.side, score.metric) for score in scores))
    scores_by_cell = {(score.method, score.side, score.metric): score for score in scores}
    tables = []
    for side in dict.fromkeys(side for side, _ in keys):
        metrics = [metric for metric_side, metric in keys if metric_side == side]
        better = {score.metric: score.better for score in scores}
        head = "".join(
            f'<th scope="col">{metric.replace("_", " ")}{_ARROWS.get(better[metric], "")}</th>' for metric in metrics
        )
        rows = "".join(
            f"<tr><td>{escape(method)}</td>{''.join(_cells(scores_by_cell, method, side, metrics))}</tr>"
            for method in dict.fromkeys(score.method for score in scores)
        )
        tables.append(
            f'<p class="side"><strong>{side} side</strong></p><div class="scroll"><table class="scores">'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return "".join(tables)


def _nouns(nouns: Sequence[str]) -> str:
    """Return the nouns that the model does not know, folded."""
    return f"<details><summary>{len(nouns)} unknown nouns</summary><p>{escape(', '.join(nouns))}</p></details>"


def _cells(
    scores_by_cell: dict[tuple[str, str, str], MetricMean], method: str, side: str, metrics: Sequence[str]
) -> Iterator[str]:
    for metric in metrics:
        score = scores_by_cell.get((method, side, metric))
        text = (
            ""
            if score is None
            else f'{score.value:.3g}<br><span class="faint">{score.low:.2g} to {score.high:.2g}</span>'
        )
        yield f'<td class="number">{text}</td>'


def _footer(audit: Audit) -> str:
    model: Any = audit.model
    text = "".join(f"<li>{escape(note)}</li>" for note in audit.notes)
    versions = ", ".join(f"{name} {version}" for name, version in audit.versions.items())
    return (
        f"<h2>Notes</h2><ul>{text}<li>Every value is a mean over pairs with its 95 % interval. A check "
        "fails if its value reaches the failing threshold. It passes if its value reaches the passing threshold and "
        "its interval does not reach the failing one. Otherwise it warns. docs/reference/audit.md of nibt has the "
        "reasons for the thresholds.</li>"
        f'</ul><p class="faint">{escape(str(model["id"]))}, {model["family"]}, weights {model["weights_hash"]}, '
        f"{model['dtype']} on {model['device']}; {escape(versions)}</p>"
    )


def _figure(example: Example) -> str:
    """Return an example: the image, each of its maps, and the caption in the colors of each result."""
    image = Image.open(BytesIO(b64decode(example.image.partition(",")[2]))).convert("RGB")
    tiles = [_tile(example.image, "image")]
    tiles += [_tile(_overlay_uri(example, image, grid), name) for name, grid in example.maps.items()]
    words = "".join(
        f"<tr><th>{escape(name)}</th><td>{_words(scored_words)}</td></tr>"
        for name, scored_words in example.words.items()
    )
    return (
        f'<section class="example"><div class="tiles">{"".join(tiles)}</div>'
        f'<table class="words">{words}</table></section>'
    )


def _overlay_uri(example: Example, image: Image.Image, grid: list[list[float]]) -> str:
    """Return the map over the image, as a data URI."""
    width, height = image.size
    left, top, across, down = example.region
    region = Region(left * width, top * height, across * width, down * height)
    return uri(overlay(GridMap(torch.tensor(grid, dtype=torch.float32), region, image.size), image))


def _tile(uri: str, name: str) -> str:
    return f'<figure><img src="{uri}" alt="{escape(name)}"><figcaption>{escape(name)}</figcaption></figure>'


def _words(scored_words: list[tuple[str, float]]) -> str:
    scores = np.array([score for _, score in scored_words], np.float32)
    shares = strength(scores, float(np.abs(scores).max(initial=0))).tolist()
    return " ".join(
        f'<span class="{shade(share)}">{escape(text)}</span>'
        for (text, _), share in zip(scored_words, shares, strict=True)
    )
