"""Reports of runs in Markdown, CSV, LaTeX and HTML."""

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from nibt.evaluation.bench.choice import MethodChoice
from nibt.evaluation.bench.figures import plot_cost, plot_curves, plot_distributions
from nibt.evaluation.bench.headline import DROP, FPS, INCREASE, headlines, published, published_gains
from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.run import Benchmark
from nibt.evaluation.bench.summary import Group, Summary
from nibt.evaluation.statistics import NOTHING, Interval, Numbers, interval, ratio_of_means
from nibt.evaluation.tables import ReportTable, describe_session, number, report_markdown, report_page, with_interval
from nibt.results.frames import DataFrame

ALPHA = 0.05
INTERVALS = (
    "Means over pairs; in square brackets, their 95 % intervals: those of Clopper and Pearson if all values are at the "
    "bounds of a metric, as those of hits, Gaffke's for other values between two bounds, and that of the bootstrap of "
    "Student's t for values without bounds."
)
_MAX_FAILURES = 20


def write_report(run: Benchmark | str | Path, overwrite: bool = False, *, base: str | None = None) -> str:
    """Write report.md, report.csv, report.tex and report.html into the folder of a run, and return the Markdown.

    Args:
        run: A run, or its folder.
        overwrite: Whether reports that nibt did not write may be replaced.
        base: The method that stars and win rates compare with, by its name in the tables, whatever its views. None
            means NIB with its defaults, or else the first NIB of the plan; methods with another number of views are
            then compared with a NIB that has as many, if the plan has one.

    Raises:
        BadInput: The folder or a part of the store cannot be read.
        BadOption: The plan has no method ``base``.
        WouldOverwrite: A report was edited, or nibt did not write it, and ``overwrite`` is false.
        CannotWrite: A file cannot be written.
        Unsupported: pyarrow or pandas is not installed.
    """
    run = run if isinstance(run, Benchmark) else Benchmark.open(run)
    summary = run.summary(base)
    title = run.plan.about or "A benchmark of explanations"
    about = list(_about(run, summary))
    tables = list(_tables(summary))
    markdown = report_markdown(title, about, tables)
    reports = {
        "report.md": markdown,
        "report.csv": summary.lines.to_csv(index=False),
        "report.tex": "\n\n".join(table.latex() for table in tables) + "\n",
        "report.html": report_page(title, about, tables, _plots(summary)),
    }
    run.write_reports(reports, overwrite)
    return markdown


def _about(run: Benchmark, summary: Summary) -> Iterator[str]:
    """Yield the paragraphs before the tables: the models, the machine, and how to read the numbers."""
    missing = len(run.missing_chunks())
    for label, recorded in run.manifest.models.items():
        model = recorded["model"]
        texts = f" with the texts of {model['text_model']}" if "text_model" in model else ""
        place = f"{model['dtype']} on {model['device']}"
        yield f"Model {label}: {model['id']}{texts}, weights {model['weights_hash']}, {place}."

    if sessions := run.manifest.sessions:
        yield (
            f"Begun at {sessions[0]['began']}; sessions: {len(sessions)}. Machine of the last session: "
            f"{describe_session(sessions[-1])}."
        )

    if missing:
        yield f"The run is incomplete: {missing} of {len(list(run.chunks()))} chunks are still to be measured."
    labels = [label for label, metric in summary.facts.metrics.items() if metric.is_pooled]
    if labels:
        yield (
            f"The number of {', '.join(labels)} is not a mean over pairs, but computed from all pairs together; its "
            "interval is that of the jackknife."
        )

    yield "ones, random and center do not depend on the model: they are included as negative controls."


def _tables(summary: Summary) -> Iterator[ReportTable]:
    """Yield the tables of a report in their order."""
    for group in summary.groups:
        yield from _tables_of(group, summary)
    if summary.plan.published:
        data_sets = {data for data, *_ in published()}
        yield from (_published(group, summary) for group in summary.groups if group.data in data_sets)

    if summary.plan.published_values:
        yield _published_values(summary)
    if summary.plan.protocol:
        yield protocol_table(summary.plan)
    yield from _headline(summary)
    if len(summary.failures):
        errors = summary.failures[["data", "method", "item", "error"]].drop_duplicates()
        counts = f"{len(errors)} errors in total; the first {min(len(errors), _MAX_FAILURES)} are shown."
        yield ReportTable.of("Failed pairs", errors.head(_MAX_FAILURES).set_index("data"), counts)


def _tables_of(group: Group, summary: Summary) -> Iterator[ReportTable]:
    """Yield the tables of means and win rates of each side, and that of the cost."""
    for side in summary.plan.sides:
        lines = summary.lines_of(group, side)
        if not len(lines):
            continue

        yield means_table(group, side, lines, summary)
        compared = lines[(lines["better"] != "neither") & (lines["base"] != "")]
        if len(compared):
            yield _win_rates(group, side, compared)
    yield _speed(group, summary)


def _title_of(group: Group, *details: str) -> str:
    target = [group.target] if group.target != "cosine" else []
    return ", ".join([f"{group.data} with {group.model}", *target, *details])


def means_table(group: Group, side: str, lines: DataFrame, summary: Summary) -> ReportTable:
    """Return the table of means, with the number of pairs that were measured and that failed."""
    table = _pivot(
        lines,
        [
            with_interval(Interval(line.mean, line.low, line.high)) + (" *" if line.p_holm < ALPHA else "")
            for line in lines.itertuples()
        ],
    )
    directions = {"higher": " (higher)", "lower": " (lower)", "neither": ""}
    better = lines.groupby("metric")["better"].first().map(directions)
    table = table.rename(columns=lambda metric: metric + better[metric])
    table = table.assign(**lines.groupby("method")[["pairs", "failed"]].max())
    note = [
        *_other_target(group, side, summary),
        INTERVALS,
        *_unbounded(lines),
        "In parentheses: which values are better.",
        *_stars(lines),
    ]
    if side != "text":
        table.insert(0, "views", [summary.views.get((group.model, side, method), "-") for method in table.index])
        note += _about_views(lines, summary)

    return ReportTable.of(_title_of(group, side), table, " ".join([*note, *_ahead(lines, summary.controls)]))


def _other_target(group: Group, side: str, summary: Summary) -> Iterator[str]:
    """Yield what is explained in a table, if it is not the target in its title."""
    explained = summary.targets.get((group.model, group.target, side), group.target)
    if explained != group.target:
        yield (
            f"This side is explained with {explained}: the plan has nothing that {group.target} could compare it with, "
            "so the values are those of that target."
        )


def _unbounded(lines: DataFrame) -> Iterator[str]:
    """Yield what an infinite end means, if there is one."""
    if np.isinf(lines[["low", "high"]].to_numpy(float)).any():
        yield "An end is inf where almost all values are equal, so that the pairs do not bound the mean."


def bases_of(lines: DataFrame) -> list[str]:
    """Return the base methods of a table, in its order."""
    used = set(lines["base"])
    return [method for method in lines["method"].unique() if method in used]


def _stars(lines: DataFrame) -> Iterator[str]:
    """Yield what a star marks, if methods are compared."""
    bases = bases_of(lines)
    if not bases:
        return

    views = lines.groupby("method")["views"].first()
    subject = f"the base method, {bases[0]}"
    if len(bases) > 1:
        subject = f"the base method with as many views: {', '.join(f'{base} ({views[base]})' for base in bases)}"
    yield (
        f"A star marks a difference from {subject}, at {ALPHA}: paired Wilcoxon test, Holm's correction over all "
        "methods and metrics of this table."
    )


def _about_views(lines: DataFrame, summary: Summary) -> Iterator[str]:
    """Yield whether the methods of a table are compared at equal views."""
    first = lines.drop_duplicates("method").set_index("method")
    first = first[~first.index.isin(summary.controls)]
    if first["views"].nunique() < 2:
        yield "All methods that use the model have as many views."
        return

    bases = bases_of(lines)
    if summary.compares_all:
        base = first["views"].get(summary.base)
        others = first.index[first["views"] != base].tolist()
        yield f"Not at equal views: {summary.base} has {base}, unlike {', '.join(others)}. See the table of cost."
        return

    yield (
        "Methods are compared at equal views, except for controls, which do not use the model. For other comparisons, "
        "see the table of cost."
    )
    alone = [method for method in first.index if not first["base"][method] and method not in bases]
    if alone:
        yield (
            f"Not compared, since no {summary.base} has as many views: {', '.join(alone)}. Add one with that option "
            "views to the plan, or choose a base method."
        )


def _win_rates(group: Group, side: str, compared: DataFrame) -> ReportTable:
    """Return the table of win rates; with several base methods, a column names that of each method."""
    bases = compared["base"].unique()
    base = bases[0] if len(bases) == 1 else "the base method"
    rates = ["-" if math.isnan(rate) else f"{rate:.0%}" for rate in compared["win_rate"]]
    table = _pivot(compared, rates)
    if len(bases) > 1:
        table.insert(0, "base method", compared.groupby("method", observed=True)["base"].first()[table.index])
    return ReportTable.of(
        _title_of(group, side, f"win rate against {base}"),
        table,
        f"The share of pairs on which a method is better than {base}, among the pairs that both have; a tie is half a "
        "win.",
    )


def _ahead(lines: DataFrame, controls: Collection[str]) -> Iterator[str]:
    """Yield a note on the metrics in which a control is better than other methods."""
    ahead = []
    for metric, of_metric in lines[lines["better"] != "neither"].groupby("metric", observed=True, sort=False):
        sign = 1 if of_metric["better"].iloc[0] == "higher" else -1
        means = dict(zip(of_metric["method"], sign * of_metric["mean"], strict=True))
        best = max((name for name in means if name in controls), key=means.__getitem__, default="")
        beaten = [name for name, mean in means.items() if best and name not in controls and mean < means[best]]
        ahead += [f"{metric} ({best} is better than {', '.join(beaten)})"] if beaten else []

    if ahead:
        yield f"A control is ahead, so do not rank methods by these metrics alone: {'; '.join(ahead)}."


def _pivot(lines: DataFrame, cells: Sequence[str]) -> DataFrame:
    """Return a table of cells, one per line: a row per method, a column per metric, a dash where there is no line."""
    table = lines.assign(cell=cells).pivot(index="method", columns="metric", values="cell").fillna("-")
    return table.loc[lines["method"].unique(), lines["metric"].unique()]


def _speed(group: Group, summary: Summary) -> ReportTable:
    """Return the table of milliseconds per side and pairs per second."""
    sides = summary.plan.sides
    rows = []
    for method in (choice.label for choice in summary.plan.methods):
        by_side = [interval(summary.seconds_of(group, method, [side])).mean for side in sides]
        total = per_second(summary.seconds_of(group, method, sides))
        rows.append([method, *(number(1000 * seconds, 1) for seconds in by_side), with_interval(total)])

    return ReportTable(
        _title_of(group, "cost"),
        ["method", *(f"ms, {side}" for side in sides), "pairs per second (FPS)"],
        rows,
        "The forward passes of both towers are included. For FPS, a pair is explained on all its sides. Its interval "
        "is over batches, whose pairs are timed together.",
    )


def per_second(seconds: Numbers) -> Interval:
    """Return the pairs per second with their interval, from the seconds of each pair.

    The pairs of a batch are timed together, and have equal seconds. So the interval is over batches; the ends are NaN
    if too few batches bound it.
    """
    of_batches, counts = np.unique(np.asarray(seconds, float), return_counts=True)
    total = float((of_batches * counts).sum())
    if total <= 0:
        return NOTHING

    _, low, high = ratio_of_means(counts, of_batches * counts, (0.0, math.inf))
    if not math.isfinite(high):
        low = high = math.nan
    return Interval(counts.sum() / total, low, high)


def _published(group: Group, summary: Summary) -> ReportTable:
    """Return the figures of the paper and of this run."""
    figures = published()
    columns = [(side, metric) for side in ("image", "text") for metric in (DROP, INCREASE)]
    labels = {name: _metric_label(summary.plan, name) for name in (DROP, INCREASE)}
    means = _means_by_series(summary, [group])

    rows = []
    for choice in _published_methods(summary.plan, group.data):
        series = [(group.data, side, labels[metric], choice.label, group.model) for side, metric in columns]
        measured = [means.get(key, NOTHING) for key in series]
        measured.append(per_second(summary.seconds_of(group, choice.label, summary.plan.sides)))
        of_paper = [figures[group.data, choice.name, *column] for column in [*columns, ("both", FPS)]]
        cells = [f"{number(value)} / {with_interval(mean)}" for value, mean in zip(of_paper, measured, strict=True)]
        rows.append([choice.label, *cells])

    return ReportTable(
        _title_of(group, "published / this run"),
        ["method", *(f"{side} {metric.removeprefix('confidence_')}" for side, metric in columns), "FPS"],
        rows,
        "Published: Zhu et al., ICLR 2025. Increase is in percent. FPS depends on the machine.",
    )


def _metric_label(plan: Plan, name: str) -> str:
    """Return the label of a metric with the paper's protocol if the plan has it, or of the last one; else empty."""
    choices = [choice for choice in plan.metrics if choice.name == name]
    by_paper = [choice for choice in choices if choice.options.get("protocol") == "paper"]
    return next((choice.label for choice in (*by_paper, *choices[-1:])), "")


def _published_methods(plan: Plan, data: str) -> list[MethodChoice]:
    """Return the methods with figures of the paper for a data set, in the paper's variant if the plan has it."""
    figures = published()
    with_figures = [choice for choice in plan.methods if (data, choice.name, "both", FPS) in figures]
    as_in_paper = {choice.name for choice in plan.methods if choice.variant == "paper"}
    return [choice for choice in with_figures if choice.variant == "paper" or choice.name not in as_in_paper]


def _means_by_series(summary: Summary, groups: Sequence[Group]) -> dict[tuple[str, ...], Interval]:
    """Return the means by data set, side, metric, method and model."""
    return {
        (group.data, side, line.metric, line.method, group.model): Interval(line.mean, line.low, line.high)
        for group in groups
        for side in summary.plan.sides
        for line in summary.lines_of(group, side).itertuples()
    }


def _published_values(summary: Summary) -> ReportTable:
    """Return the published numbers beside those of each model of this run."""
    means = _means_by_series(summary, summary.groups)
    models = [choice.label for choice in summary.plan.models]
    rows = [
        [value.data, value.method, value.metric, number(value.value)]
        + [
            with_interval(means.get((value.data, value.side, value.metric, value.method, model), NOTHING))
            for model in models
        ]
        + [value.source]
        for value in summary.plan.published_values
    ]
    headings = ["data", "method", "metric", "published", *(f"this run, {model}" for model in models), "source"]
    return ReportTable("Published numbers", headings, rows)


def protocol_table(plan: Plan) -> ReportTable:
    """Return the steps of a published evaluation, and how the plan does them."""
    rows = [[step.step, step.authors, step.source, step.here] for step in plan.protocol]
    return ReportTable("Protocol", ["step", "the authors", "source", "here"], rows)


def _headline(summary: Summary) -> Iterator[ReportTable]:
    """Yield the table of gains, if the plan has both methods and their metrics."""
    gains = headlines(summary)
    if not gains:
        return

    of_paper = (published_gains(), published_gains(relative_to_m2ib=True))
    rows = [
        [
            f"{each.nib}, {each.quantity}",
            _percent(each.gain),
            _percent(each.gain_relative_to_m2ib),
            *(f"{100 * shares[each.quantity.split()[0]]:.2f} %" for shares in of_paper),
            f"{each.model}, {each.target}: {', '.join(each.data_sets)}",
            each.views,
        ]
        for each in gains
    ]
    yield ReportTable(
        "Gain of NIB over M2IB",
        [
            "quantity",
            "gain",
            "gain relative to M2IB",
            "published gain",
            "published, relative to M2IB",
            "measured on",
            "views, NIB / M2IB",
        ],
        rows,
        "Gain, by the paper's formulas: (M2IB - NIB) / M2IB for drop, (NIB - M2IB) / NIB for increase and FPS; "
        "averaged over drop, increase and data sets. Relative to M2IB: M2IB is the denominator of all formulas. The "
        "intervals resample pairs within each data set.",
    )


def _percent(share: Interval) -> str:
    mean, low, high = (100 * value for value in share)
    if not math.isfinite(mean):
        return "not defined"  # what it is a share of is 0
    return f"{mean:+.2f} %" + (f" [{low:+.2f}, {high:+.2f}]" if math.isfinite(high - low) else "")


def _plots(summary: Summary) -> Iterator[tuple[str, bytes]]:
    """Yield the plots of a report, each with its title."""
    for group in summary.groups:
        for side in summary.plan.sides:
            lines = summary.lines_of(group, side)
            if len(lines):
                yield _title_of(group, side, "metrics against cost"), plot_cost(lines)
                yield _title_of(group, side, "distributions"), plot_distributions(lines, summary)
            if any((*group, side) == series[:4] for series in summary.curves):
                yield _title_of(group, side, "curves"), plot_curves(lines, summary)
