"""What a paper needs of a run: a paragraph on methods, tables and BibTeX in LaTeX, and figures as PDF files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nibt.errors import BadInput
from nibt.evaluation.bench.figures import COLUMN_WIDTH, TEXT_WIDTH, plot_means
from nibt.evaluation.bench.report import ALPHA, INTERVALS, bases_of, means_table
from nibt.evaluation.bench.run import Benchmark, MeasuredModel
from nibt.evaluation.bench.summary import Summary
from nibt.evaluation.citations import cite, references_of
from nibt.evaluation.tables import latex_text
from nibt.io import load_json
from nibt.records import JsonObject
from nibt.registry import available
from nibt.results.frames import DataFrame

_OPTIONS = ("layer", "steps", "quadrature", "baseline", "views", "masks", "budget")
"""The options of methods that the paragraph states, if a method has them; the label of a method has the others that
differ from the default."""
_NAMES_OF_SIDES = {"image": "images", "text": "captions", "regions": "words and regions"}
_MOST_IN_A_COLUMN = 1
"""The most metrics of a table and a figure that are as wide as a column; with more, they are as wide as the page."""


def write_paper(run: Benchmark | str | Path, overwrite: bool = False, *, base: str | None = None) -> list[Path]:
    """Write paper.tex, paper.bib and a figure for each table, paper-1.pdf and so on, into the folder of a run.

    ``paper.tex`` has a paragraph to copy, which states the models and the hashes of their weights, the data and the
    number of pairs, each method with its layer, steps, views and baseline, the metrics, the rule of the intervals, the
    test and its correction, and how many pairs failed; and a table and a figure for each side. It needs the packages
    booktabs and graphicx. The figures are vector graphics as wide as a column (3.25 inches) or, with more than one
    metric, as a page (6.75 inches), with a serif font of 8 points that is embedded as text.

    Args:
        run: A run, or its folder.
        overwrite: Whether files of these names that nibt did not write may be replaced.
        base: The method that the others are compared with, as in ``write_report``.

    Returns:
        The paths of the files.

    Raises:
        BadInput: The folder or a part of the store cannot be read.
        BadOption: The plan has no method ``base``.
        WouldOverwrite: A file was edited, or nibt did not write it, and ``overwrite`` is false.
        CannotWrite: A file cannot be written.
        Unsupported: pyarrow or pandas is not installed.
    """
    run = run if isinstance(run, Benchmark) else Benchmark.open(run)
    rows = run.frame()
    summary = Summary.of(run.plan, rows, base, run.manifest.plugins)
    files: dict[str, str | bytes] = {}
    number = 0
    floats = []
    for group in summary.groups:
        for side in summary.plan.sides:
            lines = summary.lines_of(group, side)
            if not len(lines):
                continue

            number += 1
            is_wide = lines["metric"].nunique() > _MOST_IN_A_COLUMN
            name = f"paper-{number}.pdf"
            files[name] = plot_means(lines, TEXT_WIDTH if is_wide else COLUMN_WIDTH)
            table = means_table(group, side, lines, summary)
            floats.append(table.latex(label=f"tab:nibt-{number}", is_wide=is_wide))
            floats.append(_figure(name, number, table.title, is_wide))

    if not number:
        raise BadInput(f"nothing is measured yet in {str(run.folder)!r}: resume the run, and then write the paper")

    paragraph = " ".join(_sentences(run, rows, summary))
    head = "% Written by nibt show --paper. It needs \\usepackage{booktabs,graphicx}, and the entries of paper.bib."
    files["paper.tex"] = "\n\n".join([head, rf"\paragraph{{Explanations.}} {paragraph}", *floats]) + "\n"
    files["paper.bib"] = cite(run)
    return run.write_reports(files, overwrite)


def _figure(name: str, number: int, title: str, is_wide: bool) -> str:
    """Return a figure in LaTeX."""
    environment = "figure*" if is_wide else "figure"
    caption = (
        f"{latex_text(title)}: means and 95\\,\\% intervals over pairs, as in Table~\\ref{{tab:nibt-{number}}}. "
        "Controls, which do not use the model, are gray."
    )
    return "\n".join(
        [
            rf"\begin{{{environment}}}",
            r"\centering",
            rf"\includegraphics[width=\linewidth]{{{name}}}",
            rf"\caption{{{caption}}}",
            rf"\label{{fig:nibt-{number}}}",
            rf"\end{{{environment}}}",
        ]
    )


def _sentences(run: Benchmark, rows: DataFrame, summary: Summary) -> Iterator[str]:
    """Yield the sentences of the paragraph on methods, in LaTeX."""
    plan = summary.plan
    version = run.manifest.sessions[-1]["versions"]["nibt"] if run.manifest.sessions else None
    program = rf"nibt~\cite{{nibt}}{f' {version}' if version else ''}"
    targets = _listed([latex_text(target) for target in plan.targets])
    data = _listed([_data(run, label) for label in (choice.label for choice in plan.data)])
    yield f"We explained the {targets} of {data} with {program}."
    if plan.against:
        yield f"Captions were compared with {_listed([repr(latex_text(text)) for text in plan.against])}."
    yield from (_model(label, recorded) for label, recorded in run.manifest.models.items())

    if missing := len(run.missing_chunks()):
        yield f"The run is incomplete: {missing} of {len(list(run.chunks()))} parts were not measured."

    for side in plan.sides:
        yield from _explained(rows, summary, side)
    if summary.controls:
        controls = _listed(sorted(map(latex_text, summary.controls)))
        yield f"Controls, which do not use the model: {controls}."

    yield from _measured(summary)
    yield from _counts(summary)
    draws = any(choice.is_known and "seed" in choice.plugin.__dataclass_fields__ for choice in plan.methods)
    if draws:
        seeds = _listed([str(seed) for seed in plan.seeds])
        yield f"Methods that draw at random had the seed{'s' if len(plan.seeds) > 1 else ''} {seeds}."
    yield "We did not check the explanations of other models or on other data."


def _explained(rows: DataFrame, summary: Summary, side: str) -> Iterator[str]:
    """Yield what was explained for a side, and by which methods."""
    noun = _NAMES_OF_SIDES[side]
    plain = {(target, of) for (_, target, place), of in summary.targets.items() if place == side and of != target}
    for target, explained in sorted(plain):
        yield (
            f"For {noun}, {latex_text(explained)} was explained in place of {latex_text(target)}, which had nothing to "
            "compare with."
        )

    methods = _methods(rows, summary, side)
    if methods:
        yield f"Methods for {noun}: {'; '.join(methods)}."


def _measured(summary: Summary) -> Iterator[str]:
    """Yield the metrics, the intervals and the tests."""
    metrics = summary.plan.metrics
    yield f"Metrics: {_listed([_cited(choice.label, 'metrics', choice.name) for choice in metrics])}."
    if "completeness_gap" not in (choice.name for choice in metrics):
        yield "The gap between the sum of the scores and the change that they explain was not measured."

    yield latex_text(INTERVALS)
    if bases := bases_of(summary.lines):
        yield (
            f"Methods were compared with {latex_text(_listed(bases))} by Wilcoxon's signed-rank test over pairs, "
            "two-sided, with Holm's correction over all methods and metrics of a table; a star marks "
            f"$p < {ALPHA}$."
        )


def _counts(summary: Summary) -> Iterator[str]:
    """Yield how many pairs the methods had, where it is not the same number, and where pairs failed."""
    by_method = summary.lines.groupby("method", sort=False, observed=True)
    counts = by_method[["pairs", "failed"]].max()
    if counts["pairs"].nunique() > 1:
        texts = [f"{latex_text(str(method))} {count}" for method, count in counts["pairs"].items()]
        yield f"The methods have values of different numbers of pairs, at most: {', '.join(texts)}."

    failed = counts[counts["failed"] > 0]["failed"]
    if len(failed):
        texts = [f"{latex_text(str(method))} {count}" for method, count in failed.items()]
        yield f"Pairs that failed, at most: {', '.join(texts)}."
    else:
        yield "No pair failed."


def _data(run: Benchmark, label: str) -> str:
    """Return a data set with the number of its pairs."""
    length = run.request["lengths"][label]
    count = length if run.plan.count is None else min(length, run.plan.count)
    return f"{count} pairs of {latex_text(label)}"


def _model(label: str, recorded: MeasuredModel) -> str:
    """Return the sentence on a model."""
    model = recorded["model"]
    name = Path(model["id"]).name
    called = "" if label == name else f" {latex_text(label)}"
    texts = f" with the texts of {latex_text(Path(model['text_model']).name)}" if "text_model" in model else ""
    return (
        rf"The model{called} was {latex_text(name)}{texts} (weights \texttt{{{model['weights_hash']}}}, "
        f"{model['dtype']} on {latex_text(model['device'])})."
    )


def _methods(rows: DataFrame, summary: Summary, side: str) -> list[str]:
    """Return the methods of a side, each with its publication and the options that it had with each model."""
    used = rows[(rows["side"] == side) & (rows["resolved"] != "")]
    described = []
    for choice in summary.plan.methods:
        of_method = used[used["method_label"] == choice.label]
        of_label = summary.lines[(summary.lines["method"] == choice.label) & (summary.lines["side"] == side)]
        if choice.label in summary.controls or not len(of_method) or not of_label["pairs"].sum():
            continue

        by_model = of_method.groupby("model", observed=True)["resolved"].first()
        texts = list(dict.fromkeys(_options(load_json(text)) for text in by_model))
        if len(texts) > 1:
            texts = [f"{latex_text(model)}: {_options(load_json(text))}" for model, text in by_model.items()]
        described.append(f"{_cited(choice.label, 'methods', choice.name)} ({'; '.join(texts)})")

    return described


def _options(resolved: JsonObject) -> str:
    """Return the options that a method had, as far as the paragraph states them."""
    stated = []
    for name in _OPTIONS:
        value = resolved.get(name)
        if value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            stated.append(f"{name} {latex_text(text)}")

    return ", ".join(stated) or "its defaults"


def _cited(label: str, group: str, name: str) -> str:
    """Return a method or a metric with its publications."""
    keys = [reference.key for reference in references_of(group, name)] if name in available(group) else []
    return latex_text(label) + (rf"~\cite{{{','.join(keys)}}}" if keys else "")


def _listed(texts: Sequence[str]) -> str:
    """Return texts as a list in a sentence.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last
