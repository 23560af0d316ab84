"""The report of a run: Markdown, CSV, LaTeX, and one HTML page that needs nothing beside it."""

import math
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from typing import Any

from nibt.evaluation.bench.figures import against_cost, curves, distributions
from nibt.evaluation.bench.headline import DROP, FPS, INCREASE, headlines, published, published_gains
from nibt.evaluation.bench.run import Run
from nibt.evaluation.bench.summary import Group, Line, Summary
from nibt.evaluation.statistics import NOTHING, RESAMPLES, Interval, interval
from nibt.evaluation.tables import Table, as_csv, number, with_interval
from nibt.report.html.document import document
from nibt.report.html.tables import SCRIPT, STYLE
from nibt.results import provenance

_ALPHA = 0.05
_MOST_FAILURES = 20


def write_report(run: Run, overwrite: bool = False) -> str:
    """Write report.md, report.csv, report.tex and report.html into the run's folder; the Markdown is given back, too.

    Raises:
        BadInput: The folder or a part cannot be read.
        WouldOverwrite: A report was edited since nibt wrote it, and ``overwrite`` is not given.
        CannotWrite: A file cannot be written.
        Unsupported: pyarrow, scipy or matplotlib is not installed.

    """
    summary = Summary.of(run.plan, run.table())
    about, tables = list(_about(run)), list(_tables(summary))
    markdown = "\n\n".join(["# " + _title(run), *about, *(table.markdown() for table in tables)]) + "\n"
    reports = {
        "report.md": markdown,
        "report.csv": as_csv(summary.lines),
        "report.tex": "\n\n".join(table.latex() for table in tables) + "\n",
        "report.html": _page(_title(run), about, tables, list(_plots(summary))),
    }
    encoded = {name: text.encode() for name, text in reports.items()}
    provenance.write_reports(run.manifest, encoded, overwrite)
    return markdown


def _title(run: Run) -> str:
    return run.plan.about or "A benchmark of explanations"


def _about(run: Run) -> Iterator[str]:
    told, left = run.provenance, len(run.left())
    for label, facts in told["models"].items():
        yield f"Model {label}: {facts['id']}, weights {facts['weights_hash']}, {facts['dtype']} on {facts['device']}."
    if told["sessions"]:
        last = told["sessions"][-1]
        versions = ", ".join(f"{name} {value}" for name, value in last["versions"].items() if value)
        machine = last["machine"]
        yield (
            f"Measured from {told['sessions'][0]['began']} on, in {len(told['sessions'])} session(s), the last on "
            f"{machine['processor'] or machine['architecture']} with {machine['threads']} thread(s)"
            f"{', ' + machine['accelerator'] if machine['accelerator'] else ''}; Python {machine['python']}, "
            f"{versions}."
        )
    if left:
        yield f"The run is not whole: {left} of {len(list(run.chunks()))} chunks are still to be measured."
    yield (
        f"Means over pairs with their percentile bootstrap 95 % intervals ({RESAMPLES} resamples). A star: differs "
        f"from the base by a paired Wilcoxon test, Holm's correction over the methods of a column, {_ALPHA}. ones, "
        "random and centre know nothing of the model; what is no better than they are shows nothing."
    )


def _tables(summary: Summary) -> Iterator[Table]:
    for group in summary.groups:
        for side in summary.plan.sides:
            lines = [line for line in summary.lines if (line.of.group, line.of.side) == (group, side)]
            if lines:
                yield _means(group, side, lines, summary.base)
                if summary.base is not None:
                    yield _wins(group, side, lines, summary.base)
        yield _speed(group, summary)
    if summary.plan.published:
        yield from (_beside(group, summary) for group in summary.groups if group.data in _published_sets())
    yield from _headline(summary)
    if summary.failures:
        yield _failures(summary)


def _of(group: Group, *more: str) -> str:
    return ", ".join([f"{group.data} with {group.model}", *([group.target] if group.target != "cosine" else []), *more])


def _means(group: Group, side: str, lines: list[Line], base: str | None) -> Table:
    def cell(line: Line) -> str:
        return with_interval(line.mean) + (" *" if line.p < _ALPHA else "")

    arrows = {"higher": " (higher)", "lower": " (lower)"}
    marks = {line.of.metric: arrows.get(line.better, "") for line in lines}
    headings, rows = _wide(lines, cell)
    counts = {line.of.method: (line.count, line.failed) for line in lines}
    most = {method: max(line.count for line in lines if line.of.method == method) for method in counts}
    rows = [[*row, str(most[row[0]]), str(counts[row[0]][1])] for row in rows]
    headings = ["method", *(metric + marks[metric] for metric in headings), "pairs", "failed"]
    note = f"The base is {base}; in brackets, which way is better." if base else "In brackets, which way is better."
    return Table(_of(group, side), headings, rows, note)


def _wins(group: Group, side: str, lines: list[Line], base: str) -> Table:
    kept = [line for line in lines if line.better != "neither" and line.of.method != base]
    headings, rows = _wide(kept, lambda line: "-" if math.isnan(line.won) else f"{line.won:.0%}")
    return Table(
        _of(group, side, f"pairs on which a method is better than {base}"),
        ["method", *headings],
        rows,
        "Of the pairs that both were measured on; a tie is half.",
    )


def _wide(lines: list[Line], cell: Any) -> tuple[list[str], list[list[str]]]:
    """Methods down, metrics across."""
    metrics = list(dict.fromkeys(line.of.metric for line in lines))
    methods = list(dict.fromkeys(line.of.method for line in lines))
    found = {(line.of.method, line.of.metric): cell(line) for line in lines}
    return metrics, [[method, *(found.get((method, metric), "-") for metric in metrics)] for method in methods]


def _speed(group: Group, summary: Summary) -> Table:
    sides = summary.plan.sides
    rows = []
    for method in (one.label for one in summary.plan.methods):
        each = [number(1000 * interval(list(summary.spent(group, method, [side]).values()))[0], 1) for side in sides]
        rows.append([method, *each, with_interval(per_second(list(summary.spent(group, method, sides).values())))])
    return Table(
        _of(group, "cost"),
        ["method", *(f"ms, {side}" for side in sides), "pairs a second (FPS)"],
        rows,
        "With the forward passes of both towers; a pair is explained on all its sides.",
    )


def per_second(seconds: Any) -> Interval:
    """Pairs a second, from the seconds of each."""
    mean, low, high = interval(seconds)
    return Interval(1 / mean, 1 / high, 1 / low) if mean > 0 else NOTHING


def _published_sets() -> set[str]:
    return {data for data, *_ in published()}


def _beside(group: Group, summary: Summary) -> Table:
    """The paper's figures and ours, for methods in the paper's variant where the plan has it."""
    told = published()
    columns = [(side, metric) for side in ("image", "text") for metric in (DROP, INCREASE)]
    labels = {
        one.name: next(
            (
                label.label
                for label in summary.plan.metrics
                if label.name == one.name and label.options.get("protocol") == "paper"
            ),
            one.label,
        )
        for one in summary.plan.metrics
    }
    lines = {
        (line.of.side, line.of.metric, line.of.method): line.mean for line in summary.lines if line.of.group == group
    }
    rows = []
    for choice in summary.plan.methods:
        if (group.data, choice.name, "both", FPS) not in told or not _as_published(choice, summary):
            continue
        ours = [lines.get((side, labels.get(metric, ""), choice.label), NOTHING) for side, metric in columns]
        ours.append(per_second(list(summary.spent(group, choice.label, summary.plan.sides).values())))
        theirs = [told[group.data, choice.name, *column] for column in [*columns, ("both", FPS)]]
        rows.append(
            [choice.label, *(f"{number(one)} / {with_interval(own)}" for one, own in zip(theirs, ours, strict=True))]
        )
    return Table(
        _of(group, "published / measured here"),
        ["method", *(f"{side} {metric.removeprefix('confidence_')}" for side, metric in columns), "FPS"],
        rows,
        "Published: Zhu et al., ICLR 2025. Increase in per cent. FPS is of the machine.",
    )


def _as_published(choice: Any, summary: Summary) -> bool:
    return choice.variant == "paper" or not any(
        one.name == choice.name and one.variant == "paper" for one in summary.plan.methods
    )


def _headline(summary: Summary) -> Iterator[Table]:
    found = headlines(summary)
    if not found:
        return
    theirs, theirs_of = published_gains(), published_gains(of_other=True)
    rows = [
        [
            f"{one.nib}, {one.what}",
            _percent(one.gain),
            _percent(one.of_other),
            *(f"{100 * told[one.what.split()[0]]:.2f} %" for told in (theirs, theirs_of)),
            f"{one.model}, {one.target}: {', '.join(one.sets)}",
        ]
        for one in found
    ]
    yield Table(
        "What NIB gains over M2IB, by the paper's recipe",
        ["gain", "recipe", "of M2IB throughout", "published", "published, of M2IB", "measured on"],
        rows,
        "(M2IB - NIB) / M2IB for drops, (NIB - M2IB) / NIB for increases and FPS, the mean over drop and increase and "
        "over data sets; the interval resamples pairs within each data set.",
    )


def _percent(found: Interval) -> str:
    mean, low, high = (100 * one for one in found)
    return f"{mean:+.2f} %" + ("" if math.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")


def _failures(summary: Summary) -> Table:
    told = dict.fromkeys((series.group.data, series.method, item, error) for series, item, error in summary.failures)
    rows = [[data, method, str(item), error] for data, method, item, error in list(told)[:_MOST_FAILURES]]
    return Table(
        "Pairs that could not be measured",
        ["data", "method", "item", "why"],
        rows,
        f"{len(told)} in all; the first {len(rows)} are shown.",
    )


def _plots(summary: Summary) -> Iterator[tuple[str, bytes]]:
    for group in summary.groups:
        for side in summary.plan.sides:
            lines = [line for line in summary.lines if (line.of.group, line.of.side) == (group, side)]
            if lines:
                yield _of(group, side, "against cost"), against_cost(lines)
                yield _of(group, side, "distributions"), distributions(lines, summary)
            if any(line.of in summary.curves for line in lines):
                yield _of(group, side, "curves"), curves(lines, summary)


def _page(title: str, about: list[str], tables: list[Table], plots: list[tuple[str, bytes]]) -> str:
    images = "\n".join(
        f'<h2>{escape(name)}</h2><img alt="{escape(name)}" src="data:image/png;base64,{b64encode(png).decode()}">'
        for name, png in plots
    )
    told = "".join(f"<p>{escape(line)}</p>" for line in about)
    body = "\n".join(table.html() for table in tables)
    return document(title, f"<main><h1>{escape(title)}</h1>{told}\n{body}\n{images}</main>", STYLE, [SCRIPT])
