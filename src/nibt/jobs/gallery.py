"""The gallery of a job: one HTML file that loads nothing, with a card for each row."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from PIL import Image

from nibt.errors import BadInput, BadOption, check_names
from nibt.formats.base import LOOK, Drawing
from nibt.io import file_path, one_line, read_text
from nibt.options import Keywords, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.records import JsonObject
from nibt.report.colors import FAINT, PALE, PAPER, Appearance, css, shade, shades
from nibt.report.html.document import document, template
from nibt.report.html.view import Panel
from nibt.report.html.view_text import panel_text, scored_words
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import ELLIPSIS, resized, uri
from nibt.report.image.words import WordsView
from nibt.report.request import legend, runs, sentence, side_look
from nibt.report.view import view_of
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import Explanation, method_text
from nibt.results.outputs import check_targets, read_signature, write_bytes
from nibt.torch_modes import plain_torch

if TYPE_CHECKING:
    from nibt.jobs.job import ExplainedRow, Job

MOST = 2000
"""The largest number of rows of a gallery: with more, a browser takes long to open it."""
_ENDING = ".html"
_DRAWS = (*LOOK, "title")
_HERE = files("nibt.jobs")
_SCRIPT = read_text(_HERE / "gallery.js")
_SIDE = 300  # of a picture, in pixels
_QUALITY = 75  # of WebP
_MOST_WORDS = 60  # of a row
_LONGEST = 300  # characters of a text, and of the name of an image
_SEED = 0


@dataclass(frozen=True)
class Picture:
    """An image with its map, as a data URI."""

    uri: str
    width: int
    height: int
    name: str


@dataclass(frozen=True)
class Card:
    """A row as the page shows it.

    Attributes:
        row: The position of the row.
        heading: The caption or the prompt.
        key: The identifier of the row.
        source: The name of the image.
        strong: The number of the row, with its name.
        score: The same number; None for a row without an explanation.
        pictures: The images with their maps.
        texts: The words of each text, with their scores and the classes of their colors, and how many more there are.
        alert: The gravest note: its label and its text.
        notes: The other notes.
        error: Why there is no explanation.
        page: The address of the page of the row; empty if there is none.
    """

    row: int
    heading: str
    key: str
    source: str
    strong: str = ""
    score: float | None = None
    pictures: Sequence[Picture] = ()
    texts: Sequence[tuple[str, Sequence[tuple[str, str, str]], int]] = ()
    alert: tuple[str, str] | None = None
    notes: Sequence[str] = ()
    error: str = ""
    page: str = ""


def write_gallery(
    job: "Job",
    path: str | Path,
    rows: Sequence[int] | None,
    overwrite: bool,
    on_progress: OnProgress | None,
    drawing: Keywords,
) -> str:
    """Write the page of ``Job.save_gallery``, and return how many rows it has."""
    file = file_path("path", path)
    if file.suffix.lower() != _ENDING or "{stem}" in file.name:
        raise BadOption(f"a gallery is one page: give a path that ends in {_ENDING} (got {file.name!r:.100})")

    check_names("options", drawing, _DRAWS)
    drawn = Drawing(**drawing)
    report = reporter(on_progress)
    names = job.manifest.names or ()
    check_targets([file], [Path(name) for name in names], overwrite)

    stored = {values["row"]: values["error"] is not None for values in job.rows(["row", "error"])}
    chosen = _chosen(job, list(stored), rows)
    is_drawn = rows is None and len(chosen) < len(stored)
    text, sources = _page(job, chosen, stored, is_drawn, drawn, file, report)
    write_bytes(file, text.encode(), [{"source": source} for source in sources], overwrite)
    return _count_text(chosen, stored)


def _chosen(job: "Job", stored: Sequence[int], rows: Sequence[int] | None) -> list[int]:
    """Return the rows of the page, in order."""
    if not stored:
        raise BadInput(f"{str(job.folder)!r} has no rows yet: run the job first")
    if rows is None:
        return sorted(np.random.default_rng(_SEED).permutation(stored)[:MOST].tolist())

    listed = list(rows) if isinstance(rows, Iterable) and not isinstance(rows, str) else [rows]
    wanted = {parsed("the position of a row", row, int) for row in listed}
    if not 1 <= len(wanted) <= MOST:
        raise BadOption(f"rows must be between 1 and {MOST:,} positions of rows (got {len(wanted):,})")
    missing = sorted(wanted.difference(stored))
    if missing:
        raise BadOption(
            f"there is no row {missing[0]} in {str(job.folder)!r}, which has {len(stored):,} rows: choose other rows"
        )
    return sorted(wanted)


def _count_text(chosen: Sequence[int], stored: Mapping[int, bool]) -> str:
    """Return how many rows the page has, of how many, and how many failed."""
    of_all = "" if len(chosen) == len(stored) else f" of {len(stored):,}"
    failed = sum(stored[row] for row in chosen)
    return f"{len(chosen):,}{of_all} {'row' if len(stored) == 1 else 'rows'}, {failed:,} failed"


@plain_torch()
def _page(
    job: "Job",
    chosen: Sequence[int],
    stored: Mapping[int, bool],
    is_drawn: bool,
    drawing: Drawing,
    gallery: Path,
    report: OnProgress,
) -> tuple[str, set[str]]:
    """Return the page and the names of its images."""
    look = drawing.look
    pages = _pages(gallery)
    cards = []
    sources = set()
    about_colors = ""
    score_name = "score"
    for done, row in enumerate(job.explained_rows(chosen), 1):
        cards.append(_card(row, look, pages))
        sources.add(str(row.values["source"]))
        if row.explanation is not None and not about_colors:
            about_colors = legend(row.explanation, look)
            score_name, _ = view_of(row.explanation).score(row.explanation)
        report(Progress(done, len(chosen)))

    title = drawing.title or f"Rows of {one_line(job.folder.resolve().name)}"
    body = template("gallery.html", "nibt.jobs").render(
        title=title,
        about=_about(job),
        count=_count_text(chosen, stored),
        finished=job.manifest.rows is not None,
        shard=job.shard,
        drawn=is_drawn,
        legend=about_colors,
        cards=cards,
        score_name=score_name,
    )
    style = template("gallery.css", "nibt.jobs").render(css=css, faint=FAINT, shades=shades(look.palette))
    request: JsonObject = {"kind": "gallery", "job": job.manifest.request, "rows": list(chosen)}
    return document(title, Markup(body.strip()), style, [_SCRIPT], request), sources


def _about(job: "Job") -> str:
    """Return the method, the target and the model of a job, as far as they are known."""
    request = job.manifest.request
    parts = []
    if "method" in request:
        parts.append(f"Method {method_text(request['method'])}")
    if "target" in request:
        parts.append(f"target {request['target']['name']}")
    if "model" in request:
        parts.append(f"model {Path(request['model']['id']).name}")
    return one_line(", ".join(parts))


def _pages(gallery: Path) -> dict[str, str]:
    """Return the addresses of the pages of nibt beside the gallery, by the requests in their signatures."""
    found: dict[str, str] = {}
    for path in sorted(gallery.parent.glob(f"*{_ENDING}")):
        request = read_signature(path) if path.is_file() and path.name != gallery.name else None
        if request is not None:
            found.setdefault(json.dumps(request, sort_keys=True), f"./{quote(path.name, errors='surrogateescape')}")

    return found


def _card(row: "ExplainedRow", look: Appearance, pages: Mapping[str, str]) -> Card:
    values = row.values
    key = _short(values["key"] or "")
    source = _short(values["source"] or "")
    result = row.explanation
    if result is None:
        heading = _short(values.get("prompt") or values.get("caption") or "")
        return Card(values["row"], heading, key, source, error=_short(row.error))

    panel = Panel(result)
    text = panel_text(panel)
    notes = text["warnings"]
    alert = text["mismatch"] and (text["mismatch"][0], sentence(text["mismatch"][1]))
    pictures = list(_pictures(panel, look))
    if any(isinstance(side, ImageAttribution) and side.input is None for side in panel.sides.values()):
        notes = [*notes, "The image is no longer at its source, or was changed: its map is drawn alone."]

    return Card(
        values["row"],
        _short(text["title"]),
        key,
        source,
        text["strong"],
        view_of(result).score(result)[1],
        pictures,
        list(_texts(panel)),
        alert,
        notes,
        page=pages.get(json.dumps(result.request(), sort_keys=True, default=str), "") if pages else "",
    )


def _pictures(panel: Panel, look: Appearance) -> Iterator[Picture]:
    """Yield the images of a result with their maps, on one scale."""
    images = {name: side for name, side in panel.sides.items() if isinstance(side, ImageAttribution)}
    most = max((float(side.grid.abs().max()) for side in images.values()), default=0.0)
    for name, side in images.items():
        side_style = side_look(panel.answer, name, look)
        if side.input is None:
            plain = resized(Image.new("RGB", _fitting(side.size), PAPER), _SIDE)
            mapped = overlay(side, plain, Appearance(look.positive_only, "heatmap", side_style.palette), most)
        else:
            mapped = overlay(side, resized(side.input.pil_image, _SIDE), side_style, most)
        yield Picture(uri(mapped, "WEBP", quality=_QUALITY), mapped.width, mapped.height, _short(side.source))


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """Return the proportions of an image as a size that needs little memory."""
    longest = max(size)
    width, height = (max(1, round(_SIDE * length / longest)) for length in size)
    return width, height


def _texts(panel: Panel) -> Iterator[tuple[str, Sequence[tuple[str, str, str]], int]]:
    """Yield the texts of a result: what each is, its words with scores and colors, and how many more words it has."""
    result = panel.answer
    view = view_of(result)
    matters = view.words_matter(result) if isinstance(view, WordsView) else []
    for name, side in panel.sides.items():
        if not isinstance(side, TextAttribution):
            continue

        label = f"words of the other {view.text}" if name == "against" else f"words of the {view.text}"
        is_noise = isinstance(result, Explanation) and result.is_noise(name)
        words = []
        for place, (run, (text, score)) in enumerate(zip(runs(side), scored_words(side), strict=True)):
            is_pale = is_noise or (bool(matters) and not matters[place])
            words.append((_short(text), score, shade(run.share * PALE if is_pale else run.share)))
        yield label, words[:_MOST_WORDS], max(0, len(words) - _MOST_WORDS)


def _short(text: object) -> str:
    """Return a text on one line, with an ellipsis in place of what is too long for a card."""
    line = one_line(str(text))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + ELLIPSIS
