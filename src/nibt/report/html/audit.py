"""The page of an audit: one HTML file from the result alone, which needs no network."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nibt.outputs import write_bytes
from nibt.report.html.audit_examples import figure
from nibt.report.html.audit_plots import curves, gauge
from nibt.report.html.audit_style import STYLE
from nibt.report.html.document import document
from nibt.results.audit import VERDICTS, Audit, Check, Curve, Score

QUESTIONS = {
    1: (
        "Does the map depend on the weights?",
        "A copy of the model forgets what it has learned, from the head down to the stem, by shuffling the weights. "
        "A map that stays as it was does not show what the model knows (Adebayo et al., 2018). Likeness, here and "
        "below, is the rank correlation of two maps (Spearman): 1 is the same order, 0 none in common.",
    ),
    2: (
        "Does it depend on the other side of the pair?",
        "The image's map with another pair's caption and with made-up words; the caption's with another image.",
    ),
    3: (
        "Does it hold when the wording changes?",
        "The same caption in other words around it, as “a photo of …”. Of captions only their own words are compared.",
    ),
    4: (
        "Does it hold when the seed changes?",
        "1 less the likeness of the maps of two seeds. A method that does not draw at random is asked twice, and must "
        "give the same.",
    ),
    5: (
        "Is it faithful to what the model does?",
        "Against a random map, pair by pair: what is found must be what the score falls or rises with and, where "
        "objects are known, where they are. The table has all numbers, with the controls.",
    ),
    6: (
        "Do special tokens or corners take it?",
        "Score on class, start, end and padding tokens is lost to the map; much score in the corners, where "
        "little is to be seen, may be a model's scratch space (Darcet et al., 2024).",
    ),
    7: (
        "Does the model tell right captions from wrong ones?",
        "Of a model that does not, no map can be trusted, whatever made it.",
    ),
}


def page(audit: Audit, sign: bool = False) -> str:
    """Return the whole page; with ``sign`` it has the signature of a file that is written."""
    name = escape(Path(audit.model["id"]).name)
    body = [f"<h1>Audit of {name}</h1>", f'<p class="faint">{escape(_data(audit))}</p>', _summary(audit)]
    for number, (question, about) in QUESTIONS.items():
        checks = [check for check in audit.checks if check.question == number]
        if checks:
            body.append(f"<h2>{number}. {escape(question)}</h2><p>{escape(about)}</p>{_lines(checks)}")
        if number == 1:
            body.append(_plots(audit.curves, checks))
        if number == 5:
            body.append(_scores(audit.scores))
    if audit.examples:
        body.append(
            "<h2>Examples</h2><p>Red speaks for the pair, blue against; each map and each caption has its own "
            "scale.</p>"
        )
    for method in audit.methods if audit.examples else ():
        shown = [example for example in audit.examples if example.method == method]
        body += [f"<h3>{escape(method)}</h3>", *map(figure, shown)]
    body.append(_footer(audit))
    title, request = f"Audit of {Path(audit.model['id']).name}", audit.request() if sign else None
    return document(title, f"<main>{''.join(body)}</main>", STYLE, request=request)


def write_page(audit: Audit, path: Path, overwrite: bool = False) -> None:
    """Write the page atomically.

    Raises:
        WouldOverwrite: The file exists, nibt did not write it, and ``overwrite`` is false.
        CannotWrite: The folder is missing or not writable, or the disk is full.

    """
    write_bytes(path, page(audit, sign=True).encode(), overwrite)


def span(check: Check | Score) -> str:
    """Return a mean with its interval.

    Examples:
        >>> span(Score("nib", "image", "deletion", 0.2, 0.1, 0.3, 24, "lower"))
        '0.200 [0.100, 0.300]'

    """
    return f"{check.value:.3f} [{check.low:.3f}, {check.high:.3f}]"


def threshold(check: Check) -> str:
    """Return the thresholds of a check as short text."""
    signs = ("≥", "≤") if check.better == "higher" else ("≤", "≥")
    return f"pass {signs[0]} {check.passes:.2g}, fail {signs[1]} {check.fails:.2g}"


def _data(audit: Audit) -> str:
    text = ", ".join(f"{name} {value}" for name, value in audit.data.items() if name in ("dataset", "folder", "pairs"))
    return f"{text}; methods {', '.join(audit.methods)}; seed {audit.seed}; {audit.seconds:.0f} s"


def _summary(audit: Audit) -> str:
    parts = []
    for method in (*audit.methods, ""):
        verdicts = [check.verdict for check in audit.checks if check.method == method]
        chips = " ".join(
            f'<span class="chip {name}">{verdicts.count(name)} {name}</span>' for name in VERDICTS if name in verdicts
        )
        if verdicts:
            parts.append(f"<div><strong>{escape(method) or 'the model itself'}</strong> {chips}</div>")
    return f'<div class="summary">{"".join(parts)}</div>'


def _lines(checks: Sequence[Check]) -> str:
    rows = "".join(
        f'<tr><td><span class="chip {check.verdict}">{check.verdict}</span></td><td>{escape(check.method)}</td>'
        f"<td>{check.side}</td><td>{escape(check.about)}</td><td>{gauge(check)}</td>"
        f'<td class="number">{span(check)}</td><td class="faint number">{threshold(check)}</td></tr>'
        for check in checks
    )
    return f'<div class="scroll"><table class="lines"><tbody>{rows}</tbody></table></div>'


def _plots(all_curves: Sequence[Curve], checks: Sequence[Check]) -> str:
    """Return one plot per method and side."""
    if not all_curves or not checks:
        return ""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in all_curves:
        groups.setdefault((curve.method, curve.side), []).append(curve)
    plots = "".join(
        f"<figure>{curves(group, checks[0].passes, checks[0].fails)}<figcaption>{escape(method)}, {side} side: "
        f"likeness to the map of the learned weights</figcaption></figure>"
        for (method, side), group in groups.items()
    )
    return (
        f'<div class="plots">{plots}</div><p class="faint">Red: rank correlation; black, dashed: SSIM; bands: '
        "95 % intervals. To the right more and more of the tower is random.</p>"
    )


def _scores(scores: Sequence[Score]) -> str:
    """Return tables with a row per method and control, and a column per metric and side."""
    keys = list(dict.fromkeys((score.side, score.metric) for score in scores))
    scores_by_cell = {(score.method, score.side, score.metric): score for score in scores}
    tables = []
    for side in dict.fromkeys(side for side, _ in keys):
        metrics = [metric for one, metric in keys if one == side]
        better = {score.metric: score.better for score in scores}
        head = "".join(f'<th scope="col">{metric.replace("_", " ")}{_arrow(better[metric])}</th>' for metric in metrics)
        rows = "".join(
            f"<tr><td>{escape(method)}</td>{''.join(_cells(scores_by_cell, method, side, metrics))}</tr>"
            for method in dict.fromkeys(score.method for score in scores)
        )
        tables.append(
            f'<p class="side"><strong>{side} side</strong></p><div class="scroll"><table class="scores">'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return "".join(tables)


def _cells(
    scores_by_cell: dict[tuple[str, str, str], Score], method: str, side: str, metrics: Sequence[str]
) -> Iterator[str]:
    for metric in metrics:
        score = scores_by_cell.get((method, side, metric))
        text = (
            ""
            if score is None
            else f'{score.value:.3g}<br><span class="faint">{score.low:.2g} to {score.high:.2g}</span>'
        )
        yield f'<td class="number">{text}</td>'


def _arrow(better: str) -> str:
    return {"higher": " ↑", "lower": " ↓"}.get(better, "")


def _footer(audit: Audit) -> str:
    model: Any = audit.model
    text = "".join(f"<li>{escape(note)}</li>" for note in audit.notes)
    versions = ", ".join(f"{name} {version}" for name, version in audit.versions.items())
    return (
        f"<h2>Notes</h2><ul>{text}<li>Every number is a mean over pairs with its bootstrap 95 % interval. A line "
        "fails at its failing threshold or beyond, and passes at its passing one with an interval that stays clear "
        "of failing; the reasons for each threshold are in nibt's docs/audit.md.</li>"
        f'</ul><p class="faint">{escape(str(model["id"]))}, {model["family"]}, weights {model["weights_hash"]}, '
        f"{model['dtype']} on {model['device']}; {escape(versions)}</p>"
    )
