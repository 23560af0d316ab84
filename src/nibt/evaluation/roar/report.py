"""What was found as Markdown, and as one HTML page that needs nothing beside it."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from nibt.evaluation.roar.bootstrap import RESAMPLES
from nibt.evaluation.roar.folder import PROVENANCE
from nibt.evaluation.roar.settings import FORMS
from nibt.evaluation.tables import Table
from nibt.report.html.document import document
from nibt.report.html.tables import SCRIPT, STYLE
from nibt.results import provenance
from nibt.results.roar import Agreement, LossIncrease, Roar
from nibt.results.saving import as_text

REPORTS = ("report.md", "report.html", "result.json")
TITLE = "ROAR+: how much less is learned without what the maps point at"
_STARTS = {
    "trained": "Training starts from the model as it is, in the form features from identities",
    "fresh": "Training starts from heads that know nothing: in the form features from maps of normal numbers, else "
    "from the model with its heads' parameters shuffled; another draw in each repeat",
}


def markdown(found: Roar) -> str:
    """The choices, a table for each form, and how far the forms agree."""
    parts = [f"# {TITLE}", *about(found), *(table.markdown() for table in tables(found))]
    return "\n\n".join(parts) + "\n"


def write(found: Roar, folder: Path, overwrite: bool = False) -> list[Path]:
    """Write report.md, report.html and result.json into the folder of the run.

    Raises:
        WouldOverwrite: A report was edited since nibt wrote it, and ``overwrite`` is not given.
        CannotWrite: A file cannot be written.

    """
    body = "\n".join([*(f"<p>{escape(line)}</p>" for line in about(found)), *(one.html() for one in tables(found))])
    page = document(TITLE, f"<main><h1>{escape(TITLE)}</h1>\n{body}</main>", STYLE, [SCRIPT])
    reports = dict(zip(REPORTS, (markdown(found), page, as_text(found.to_json())), strict=True))
    encoded = {name: text.encode() for name, text in reports.items()}
    return provenance.write_reports(folder / PROVENANCE, encoded, overwrite)


def about(found: Roar) -> Iterator[str]:
    """Every choice, in sentences."""
    told, machine = found.settings, found.machine
    versions = ", ".join(f"{name} {value}" for name, value in found.versions.items() if value)
    yield (
        f"Model {found.model['id']}, weights {found.model['weights_hash']}, on {found.model['device']}. Data: "
        f"{', '.join(f'{name} {value}' for name, value in found.data.items())}. Begun {found.date}, on "
        f"{machine['processor'] or machine['architecture']} with {machine['threads']} thread(s); Python "
        f"{machine['python']}, {versions}."
    )
    yield (
        f"In each of {told['repeats']} repeats {told['training']} pairs train and {told['validating']} validate, "
        f"drawn anew (seed {told['seed']}). In the training pairs the pixels above the {told['image_percentile']}th "
        "percentile of the map, stretched bilinearly, become the image's channel means, and the word tokens above "
        f"the {told['text_percentile']}th the padding token's embedding: as many as lie above it where no two "
        "scores are equal, at least one token, no special token; equal scores go by a random map."
    )
    yield (
        f"A copy of the model is trained for {told['epochs']} epochs in batches of at most {told['batch_size']} "
        "with Adam and CLIP's symmetric contrastive loss at the model's own scale, held still; no dropout, the "
        f"statistics of batch norms held still. {_STARTS[told['start']]}. The validating pairs are untouched, all "
        "against all. The number is (loss after training without - loss after training on untouched data) / the "
        "latter, a mean over repeats: higher means that the map found what mattered."
    )
    yield (
        f"In brackets: bootstrap 95 % intervals ({RESAMPLES} resamples of the repeats, and of the validating pairs "
        "in each). A star: the lead over random, resampled together with it, has an interval above 0. random, "
        "centre and ones know nothing of the model."
    )
    yield from (f"Note: {note}." for note in found.notes)


def tables(found: Roar) -> Iterator[Table]:
    """What was trained; a table for each form; Kendall's tau."""
    yield Table(
        "What was trained",
        ["form", "trained", "numbers", "rate", "loss before", "loss after, untouched data", "seconds a training"],
        [
            [
                one.form,
                _words(found, one.form),
                f"{one.parameters:,}",
                f"{one.rate:g}",
                f"{one.before:.4f}",
                f"{one.after:.4f}",
                f"{one.seconds:.1f}",
            ]
            for one in found.trainings
        ],
    )
    kinds = found.settings["hidden"]
    for form in FORMS:
        own = {(gain.method, gain.hidden): gain for gain in found.gains if gain.form == form}
        if own:
            rows = [
                [
                    method + (" (control)" if own[method, kinds[0]].control else ""),
                    *(cell for kind in kinds for cell in (told(own[method, kind]), lead(own[method, kind]))),
                ]
                for method in _ranked(found, form)
            ]
            headings = [text for kind in kinds for text in (f"{kind} hidden, %", "lead over random")]
            yield Table(f"Form {form}, best first", ["method", *headings], rows)
    if found.agreements:
        rows = [
            [
                _pair(one),
                one.hidden,
                f"{one.methods}" + ("" if one.controls else ", no controls"),
                f"{one.tau:+.2f} [{one.low:+.2f}, {one.high:+.2f}]",
            ]
            for one in found.agreements
        ]
        yield Table(
            "Kendall's tau of the rankings",
            ["forms", "hidden", "methods", "tau"],
            rows,
            "Of two forms: of their means over repeats, with the same bootstrap. Of a form with itself: the "
            "mean over each two repeats, and the spread of these: how far it depends on luck.",
        )


def _words(found: Roar, form: str) -> str:
    """What a form trains."""
    image, text = (found.settings["blocks"][side] for side in ("image", "text"))
    return {
        "features": "a linear map on each side's cached embeddings",
        "last": f"the last {image} blocks of the image tower, the last {text} of the text tower, and the heads",
        "whole": "all that makes the embeddings of both towers",
    }[form]


def _ranked(found: Roar, form: str) -> list[str]:
    """The methods of a form, by their mean over what is hidden."""
    own: dict[str, list[float]] = {}
    for gain in found.gains:
        if gain.form == form:
            own.setdefault(gain.method, []).append(gain.value)
    return sorted(own, key=lambda method: -sum(own[method]))


def told(gain: LossIncrease) -> str:
    """A number in per cent with its interval, and a star where it leads."""
    star = " *" if gain.beats_random else ""
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]{star}"


def lead(gain: LossIncrease) -> str:
    """The lead over random, in per cent."""
    return (
        ""
        if gain.method == "random"
        else (f"{100 * gain.lead:+.1f} [{100 * gain.lead_low:+.1f}, {100 * gain.lead_high:+.1f}]")
    )


def _pair(one: Agreement) -> str:
    return f"{one.form} with itself" if one.form == one.other else f"{one.form}, {one.other}"
