"""Reports of ROAR runs in Markdown and HTML."""

from collections.abc import Iterator
from pathlib import Path

from nibt.evaluation.roar.folder import RoarFolder
from nibt.evaluation.roar.settings import TRAINABLES
from nibt.evaluation.statistics import RESAMPLES
from nibt.evaluation.tables import ReportTable, describe_session, report_markdown, report_page
from nibt.results.base import as_text
from nibt.results.records import SessionRecord
from nibt.results.roar import LossIncrease, Roar

REPORTS: tuple[str, ...] = ("report.md", "report.html", "result.json")
TITLE = "ROAR+: increase of the loss after training without the most important units"
_INITS = {
    "trained": "Training starts from the weights of the model; for the trainable features, from identity maps",
    "fresh": "Training starts from untrained heads: for the trainable features, from maps with normally distributed "
    "weights; otherwise, from the weights of the model with the parameters of the heads shuffled. Each repeat draws "
    "new heads",
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
    settings = result.settings
    session: SessionRecord = {"began": result.date, "versions": dict(result.versions), "machine": result.machine}
    yield (
        f"Model {result.model['id']}, weights {result.model['weights_hash']}, on {result.model['device']}. Data: "
        f"{', '.join(f'{name} {value}' for name, value in result.data.items())}. Started {result.date}, on "
        f"{describe_session(session)}."
    )
    yield (
        f"Each of {settings['repeats']} repeats has another random split into {settings['training']} pairs for "
        f"training and {settings['validating']} for validation (seed {settings['seed']}). In the training pairs, the "
        f"pixels above the {settings['image_percentile']}th percentile of the map, resized bilinearly, are replaced by "
        f"the channel means of the image, and the word tokens above the {settings['text_percentile']}th percentile by "
        "the embedding of the padding token. The number of removed units is that of a map without equal scores, and at "
        "least one token. Special tokens are not removed. Equal scores are ordered by a random map."
    )
    yield (
        f"A copy of the model is trained for {settings['epochs']} epoch{'s' * (settings['epochs'] > 1)} in batches of "
        f"at most {settings['batch_size']} with Adam and CLIP's symmetric contrastive loss, with the logit scale of "
        "the model fixed, without dropout and with fixed statistics of batch norms. "
        f"{_INITS[settings['init']]}. The validation pairs are untouched, and form a single batch. The increase is "
        "(loss after training on reduced data - loss after training on untouched data) / loss after training on "
        "untouched data, a mean over repeats. A higher increase means that the removed units were more important."
    )
    yield (
        f"In brackets: bootstrap 95 % intervals ({RESAMPLES} resamples of the repeats, and of the validation pairs "
        "in each). A star marks a difference from random whose interval, by the same resamples, is above 0. random, "
        "center and ones do not depend on the model."
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
                _description(result, training.trainable),
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


def _description(result: Roar, trainable: str) -> str:
    """Return a description of what is trained."""
    image, text = (result.settings["blocks"][side] for side in ("image", "text"))
    return {
        "features": "a linear map on each side's cached embeddings",
        "last": f"the last {image} blocks of the image tower, the last {text} of the text tower, and the heads",
        "whole": "both towers",
    }[trainable]


def _cells(increase: LossIncrease) -> tuple[str, str]:
    """Return the increase and its difference from random in percent, with a star if it is above random."""
    star = " *" if increase.beats_random else ""
    value = f"{_percent(increase.value, increase.low, increase.high)}{star}"
    if increase.method == "random":
        return value, ""
    return value, _percent(increase.vs_random, increase.vs_random_low, increase.vs_random_high)


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
