"""The result of ROAR as Markdown, and as one self-contained HTML page."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from nibt.evaluation.roar.folder import PROVENANCE
from nibt.evaluation.roar.settings import TRAINABLES
from nibt.evaluation.statistics import RESAMPLES
from nibt.evaluation.tables import Table
from nibt.report.html.document import document
from nibt.report.html.tables import SCRIPT, STYLE
from nibt.results import provenance
from nibt.results.roar import Agreement, LossIncrease, Roar
from nibt.results.saving import as_text

REPORTS = ("report.md", "report.html", "result.json")
TITLE = "ROAR+: how much less is learned without what the maps point at"
_INITS = {
    "trained": "Training starts from the model as it is, for the trainable features from identities",
    "fresh": "Training starts from untrained heads: for the trainable features from maps of normal numbers, else from "
    "the model with the parameters of its heads shuffled; drawn anew in each repeat",
}


def markdown(result: Roar) -> str:
    """Return the choices, a table per trainable, and how far the trainables agree, as Markdown."""
    parts = [f"# {TITLE}", *about(result), *(table.markdown() for table in tables(result))]
    return "\n\n".join(parts) + "\n"


def write(result: Roar, folder: Path, overwrite: bool = False) -> list[Path]:
    """Write report.md, report.html and result.json into the folder of the run.

    Raises:
        WouldOverwrite: A report was edited since nibt wrote it, and ``overwrite`` is not given.
        CannotWrite: A file cannot be written.

    """
    body = "\n".join(
        [*(f"<p>{escape(line)}</p>" for line in about(result)), *(table.html() for table in tables(result))]
    )
    page = document(TITLE, f"<main><h1>{escape(TITLE)}</h1>\n{body}</main>", STYLE, [SCRIPT])
    reports = dict(zip(REPORTS, (markdown(result), page, as_text(result.to_json())), strict=True))
    encoded = {name: text.encode() for name, text in reports.items()}
    return provenance.write_reports(folder / PROVENANCE, encoded, overwrite)


def about(result: Roar) -> Iterator[str]:
    """Yield every choice, in sentences."""
    settings, machine = result.settings, result.machine
    versions = ", ".join(f"{name} {value}" for name, value in result.versions.items() if value)
    yield (
        f"Model {result.model['id']}, weights {result.model['weights_hash']}, on {result.model['device']}. Data: "
        f"{', '.join(f'{name} {value}' for name, value in result.data.items())}. Begun {result.date}, on "
        f"{machine['processor'] or machine['architecture']} with {machine['threads']} thread(s); Python "
        f"{machine['python']}, {versions}."
    )
    yield (
        f"In each of {settings['repeats']} repeats {settings['training']} pairs train and {settings['validating']} "
        f"validate, drawn anew (seed {settings['seed']}). In the training pairs the pixels above the "
        f"{settings['image_percentile']}th percentile of the map, stretched bilinearly, become the channel means "
        f"of the image, and the word tokens above the {settings['text_percentile']}th the embedding of the padding "
        "token: as many as lie above it if no two scores are equal, at least one token, no special token; equal scores "
        "are ordered by a random map."
    )
    yield (
        f"A copy of the model is trained for {settings['epochs']} epochs in batches of at most "
        f"{settings['batch_size']} with Adam and CLIP's symmetric contrastive loss at the model's own scale, which is "
        f"fixed; without dropout, with fixed statistics of batch norms. {_INITS[settings['init']]}. The validating "
        "pairs are untouched, all against all. The number is (loss after training without - loss after training on "
        "untouched data) / the latter, a mean over repeats: higher means that the map points at what matters."
    )
    yield (
        f"In brackets: bootstrap 95 % intervals ({RESAMPLES} resamples of the repeats, and of the validating pairs "
        "in each). A star: the difference to random, resampled together with it, has an interval above 0. random, "
        "centre and ones know nothing of the model."
    )
    yield from (f"Note: {note}." for note in result.notes)


def tables(result: Roar) -> Iterator[Table]:
    """Yield what was trained, a table per trainable, and Kendall's tau."""
    yield Table(
        "What was trained",
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
    removals = result.settings["remove"]
    for trainable in TRAINABLES:
        own = {(one.method, one.removed): one for one in result.loss_increases if one.trainable == trainable}
        if own:
            rows = [
                [
                    method + (" (control)" if own[method, removals[0]].control else ""),
                    *(cell for removed in removals for cell in _cells(own[method, removed])),
                ]
                for method in _ranked(result, trainable)
            ]
            headings = [text for removed in removals for text in (f"{removed} removed, %", "vs random")]
            yield Table(f"Trainable {trainable}, best first", ["method", *headings], rows)
    if result.agreements:
        rows = [
            [
                _pair(one),
                one.removed,
                f"{one.methods}" + ("" if one.controls else ", no controls"),
                f"{one.tau:+.2f} [{one.low:+.2f}, {one.high:+.2f}]",
            ]
            for one in result.agreements
        ]
        yield Table(
            "Kendall's tau of the rankings",
            ["trainables", "removed", "methods", "tau"],
            rows,
            "Of two trainables: of their means over repeats, with the same bootstrap. Of a trainable with itself: the "
            "mean over each two repeats, and the spread of these: how far it depends on chance.",
        )


def _description(result: Roar, trainable: str) -> str:
    """What is trained, in words."""
    image, text = (result.settings["blocks"][side] for side in ("image", "text"))
    return {
        "features": "a linear map on each side's cached embeddings",
        "last": f"the last {image} blocks of the image tower, the last {text} of the text tower, and the heads",
        "whole": "everything that computes the embeddings of both towers",
    }[trainable]


def _ranked(result: Roar, trainable: str) -> list[str]:
    """The methods of a trainable, by their mean over the removals."""
    own: dict[str, list[float]] = {}
    for increase in result.loss_increases:
        if increase.trainable == trainable:
            own.setdefault(increase.method, []).append(increase.value)
    return sorted(own, key=lambda method: -sum(own[method]))


def _cells(increase: LossIncrease) -> tuple[str, str]:
    """The increase and its difference to random in per cent, with intervals, and a star if it beats random."""
    star = " *" if increase.beats_random else ""
    value = f"{_percent(increase.value, increase.low, increase.high)}{star}"
    if increase.method == "random":
        return value, ""
    return value, _percent(increase.vs_random, increase.vs_random_low, increase.vs_random_high)


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _pair(one: Agreement) -> str:
    return f"{one.trainable} with itself" if one.trainable == one.other else f"{one.trainable}, {one.other}"
