"""Reports of ROAR runs in Markdown and HTML."""

from collections.abc import Iterator
from pathlib import Path

from nibt.evaluation.roar.run import RoarFolder
from nibt.evaluation.roar.settings import TRAINABLES
from nibt.evaluation.statistics import RESAMPLES
from nibt.evaluation.tables import ReportTable, describe_session, report_markdown, report_page
from nibt.report.html.document import plain_text
from nibt.results.base import as_text
from nibt.results.roar import LossIncrease, Roar
from nibt.results.sessions import SessionRecord

REPORTS: tuple[str, ...] = ("report.md", "report.html", "result.json")
TITLE = "ROAR+: increase of the loss after training without the most important units"
_INITS = {
    "trained": "Training starts from the weights of the model; for the trainable features, from identity maps",
    "fresh": "Training starts from untrained heads: for the trainable features, from maps with normally distributed "
    "weights; otherwise, from the weights of the model with the parameters of the heads shuffled. Each repeat draws "
    "new heads",
}
_TRAINED = {
    "features": "a linear map on each side's cached embeddings",
    "last": "the last {image} blocks of the image tower, the last {text} of the text tower, and the heads",
    "whole": "both towers",
}


def markdown(result: Roar) -> str:
    """Return the report in Markdown: the settings, a table per trainable, and the agreement between trainables."""
    return report_markdown(TITLE, about(result), tables(result))


def write(result: Roar, folder: Path, overwrite: bool = False) -> list[Path]:
    """Write report.md, report.html and result.json into the folder of the run."""
    texts = (markdown(result), report_page(TITLE, about(result), tables(result)), as_text(result.to_json()))
    return RoarFolder(folder).write_reports(dict(zip(REPORTS, texts, strict=True)), overwrite)


def about(result: Roar) -> Iterator[str]:
    """Yield paragraphs that describe the model, the data and the settings."""
    session: SessionRecord = {"began": result.date, "versions": dict(result.versions), "machine": result.machine}
    values = {"settings": result.settings, "init": _INITS[result.settings["init"]], "resamples": RESAMPLES}
    yield from plain_text(
        "report.txt", "nibt.evaluation.roar", result=result, session=describe_session(session), **values
    )
    yield from (f"Note: {note}." for note in result.notes)


def tables(result: Roar) -> Iterator[ReportTable]:
    """Yield the table of trainables, a table of loss increases per trainable, and the table of Kendall's tau."""
    yield ReportTable(
        "Trainables",
        ["trainable", "trained", "parameters", "learning rate", "loss before", "loss after, untouched data", "s/run"],
        [
            [
                training.trainable,
                _TRAINED[training.trainable].format(**result.settings["blocks"]),
                f"{training.parameters:,}",
                f"{training.learning_rate:g}",
                f"{training.before:.4f}",
                f"{training.after:.4f}",
                f"{training.seconds:.1f}",
            ]
            for training in result.trainings
        ],
    )
    removals = result.settings["side"]
    for trainable in TRAINABLES:
        increases = {
            (increase.method, increase.side): increase
            for increase in result.loss_increases
            if increase.trainable == trainable
        }
        if increases:
            values: dict[str, list[float]] = {}  # over the removals
            for (method, _), increase in increases.items():
                values.setdefault(method, []).append(increase.value)
            ranked = sorted(values, key=lambda method: -sum(values[method]))
            rows = [
                [
                    method + (" (control)" if increases[method, removals[0]].control else ""),
                    *(cell for removed in removals for cell in _cells(increases[method, removed])),
                ]
                for method in ranked
            ]
            headings = [text for removed in removals for text in (f"{removed} removed, %", "vs random")]
            yield ReportTable(f"Trainable {trainable}, best first", ["method", *headings], rows)

    if result.agreements:
        rows = [
            [
                f"{agreement.trainable}, "
                + ("between repeats" if agreement.trainable == agreement.other else agreement.other),
                agreement.side,
                f"{agreement.methods}" + ("" if agreement.controls else ", no controls"),
                f"{agreement.tau:+.2f} [{agreement.low:+.2f}, {agreement.high:+.2f}]",
            ]
            for agreement in result.agreements
        ]
        yield ReportTable(
            "Kendall's tau of the rankings",
            ["trainables", "removed", "methods", "tau"],
            rows,
            "Two trainables: tau of their means over repeats, with the interval of the same bootstrap. One trainable, "
            "between repeats: the mean over pairs of repeats, with the 2.5th and 97.5th percentiles over these pairs.",
        )


def _cells(increase: LossIncrease) -> tuple[str, str]:
    """Return the increase and its difference from random in percent, with a star if it is above random."""
    star = " *" if increase.beats_random else ""
    value = f"{_percent(increase.value, increase.low, increase.high)}{star}"
    if increase.method == "random":
        return value, ""
    return value, _percent(increase.vs_random, increase.vs_random_low, increase.vs_random_high)


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
