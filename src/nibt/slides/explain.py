"""Explanations of slides, such as whole slides of pathology: each tile on its own, and one map of all of them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from nibt.data.images import ImageInput, ImageSource
from nibt.data.pair import Pair, Text, Texts, caption_notes, read_caption
from nibt.engine.batches import check_words, explain_batches
from nibt.engine.explanations import to_explanations
from nibt.engine.spec import ExplanationSpec, Request, check_options, resolve
from nibt.engine.targets import Contrast
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.folder import Manifest, RunFolder
from nibt.io import read_path
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import ClosedShare, ImageSize, Positive, Range, Samples, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.records import JsonObject
from nibt.registry import MethodSpec
from nibt.results.explanation import Explanation
from nibt.results.notes import OTHER, Note, note_fields
from nibt.slides.explanation import SlideExplanation, SlideTile
from nibt.slides.reading import Slide, open_slide
from nibt.slides.tiles import Tiling, content_shares, overview
from nibt.torch_modes import plain_torch

MOST_TILES = 2000
"""The largest number of tiles that are explained unless more are allowed."""
TILE = 256
LEAST_CONTENT = 0.1
_TOGETHER = 32
"""The number of tiles in a file of a folder: so many are explained again at most if the process is killed."""
_Downsample = Annotated[float, Range(1, 100_000)]
_NUMBER = re.compile(r"[-+\u2212]?\d[\d.,]*(?:e[-+]?\d+)?")
_ON_SCORES_OF_WORDS = ("minor_words", "lowering_words")


class SlideManifest(Manifest):
    """The manifest of a folder of explained tiles."""

    kind: str = "slide"
    request: JsonObject


class SlideFolder(RunFolder[SlideManifest]):
    """A folder of explained tiles."""

    manifest_class = SlideManifest
    chunk_pattern = r"\d{8}"


@dataclass(frozen=True)
class ExplainedTile:
    """A tile with its map, as the files of a folder have it."""

    tile: SlideTile
    scores: Float[np.ndarray, "row column"]
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class CutSlide:
    """A slide that is open, with its tiles.

    Attributes:
        slide: The slide.
        tiling: The tiles that cover it.
        small: All tiles as one small image.
        content: The share of the pixels of each tile that are not blank.
        least_content: The least share of a tile that is explained.
        places: The row and the column of each tile that is explained, in order.
    """

    slide: Slide
    tiling: Tiling
    small: Image.Image
    content: Float[np.ndarray, "tile_row tile_column"]
    least_content: float
    places: tuple[tuple[int, int], ...]


@plain_torch()
def explain_slide(
    model: ModelSource,
    slide: ImageSource,
    caption: Text,
    method: str | MethodSpec | Method = "nib",
    target: str | None = None,
    *,
    magnification: float | int | None = None,
    downsample: float | int | None = None,
    tile: int = TILE,
    least_content: float | int = LEAST_CONTENT,
    most_tiles: int = MOST_TILES,
    folder: str | Path | None = None,
    variant: str | None = None,
    against: Texts = (),
    templates: Sequence[str] = (),
    batch_size: int = 8,
    seed: int | None = None,
    memory_mb: float | None = None,
    on_progress: OnProgress | None = None,
    **options: object,
) -> SlideExplanation:
    """Explain a slide tile by tile: one map of all tiles that are not blank.

    A slide is a file that OpenSlide reads, such as SVS, NDPI or a tiled TIFF file, or any image. It is cut into squares
    from its top left corner. Each one is explained as by ``explain``, and the model never sees the whole slide. The
    slide is read part by part, and never as a whole; plain images are.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        slide: The path of the slide, or an image.
        caption: The caption.
        method: The method, as in ``explain``.
        target: The name of the target, as in ``explain``.
        magnification: The magnification at which tiles are cut, such as 10, if the file states that of its objective.
        downsample: By how much tiles are smaller than at full resolution, instead of the magnification. With neither,
            tiles are cut at full resolution.
        tile: The side of a tile in pixels. The model's preprocessing resizes it.
        least_content: The least share of a tile's pixels that are not blank; tiles with less are left out. A pixel is
            blank if its channels differ by at most 15 of 255 and it is bright (all at least 200) or black (all at most
            15). It is measured on ``thumbnail``. At 0, no tile is left out.
        most_tiles: The largest number of tiles that are explained; more of them are an error before the model is
            loaded.
        folder: A folder for tiles that are done: the same call with it goes on after it was stopped.
        variant: A variant of the method.
        against: Captions that the target compares with.
        templates: Templates of captions with ``{}``, for the target ``ensemble``.
        batch_size: The largest number of tiles that go through the model together.
        seed: A seed for methods that draw at random.
        memory_mb: The approximate memory in MB for hidden states, as in ``explain``.
        on_progress: Called with the number of tiles that are done.
        **options: Options of the method.

    Returns:
        A ``SlideExplanation``.

    Raises:
        BadInput: The slide cannot be read, or all its tiles are blank.
        BadOption: An option has an invalid value, the file states no magnification, or there are too many tiles.
        UnknownName: No method, target, variant or option has that name.
        Unsupported: OpenSlide is not installed, or the model does not see whole tiles.
        OtherRequest: The folder has the tiles of another request.
        CannotLoad: The model cannot be loaded.

    Examples:
        >>> result = explain_slide("scenes", "sample:scene", "a cat", tile=64)
        >>> len(result.tiles), tuple(result.grid.shape)
        (4, (48, 48))
    """
    text = read_caption(caption)
    request = Request(
        MethodSpec.of(method, variant, options, seed),
        target,
        Contrast.of(against, (), templates),
        seed=seed,
        batch_size=batch_size,
        memory_mb=memory_mb,
    )
    check_options(request.method)
    report = reporter(on_progress)
    with cut_slide(slide, magnification, downsample, tile, least_content, most_tiles) as cut:
        return explain_tiles(load_model(model), cut, text, request, folder, report)


@contextmanager
def cut_slide(
    slide: ImageSource,
    magnification: float | int | None,
    downsample: float | int | None,
    tile: int,
    least_content: float | int,
    most_tiles: int,
) -> Iterator[CutSlide]:
    """Open a slide for the block, and find the tiles that are explained.

    Raises:
        BadInput: The slide cannot be read, or all its tiles are blank.
        BadOption: An option has an invalid value, the file states no magnification, or there are too many tiles.
    """
    tile = parsed("tile", tile, ImageSize)
    least_content = parsed("least_content", least_content, ClosedShare)
    most_tiles = parsed("most_tiles", most_tiles, Samples)
    with open_slide(slide) as opened:
        scale = _downsample(opened, magnification, downsample)
        if tile * scale >= 2 * max(opened.size):
            raise BadOption(
                f"a tile must be smaller than twice the slide, {opened.size[0]:,} x {opened.size[1]:,} pixels (got "
                f"tile={tile}, which covers {tile * scale:,.0f} pixels of a side at full resolution): choose a smaller "
                "tile, a smaller downsample or a higher magnification"
            )

        tiling = Tiling(opened.size, tile, scale)
        small = overview(opened, tiling)
        content = content_shares(small, tiling)
        places = tuple((int(row), int(column)) for row, column in np.argwhere(content >= least_content))
        if not places:
            raise BadInput(
                f"all {content.size:,} tiles of {opened.source!r:.300} are blank: least_content is {least_content:g}, "
                f"and the largest share of pixels with content in a tile is {content.max():.2g}. Lower least_content; "
                "with 0, no tile is left out"
            )
        if len(places) > most_tiles:
            raise BadOption(_too_many(opened, scale, len(places), most_tiles))

        yield CutSlide(opened, tiling, small, content, least_content, places)


@plain_torch()
def explain_tiles(
    model: Model, cut: CutSlide, caption: str, request: Request, folder: str | Path | None, report: OnProgress
) -> SlideExplanation:
    """Explain the tiles of a slide that is open, as ``explain_slide`` does."""
    spec = resolve(model, request)
    check_words(model, [Pair(ImageInput(cut.small, cut.slide.source), caption)])

    explained: list[ExplainedTile] = []
    with _chunks(spec, cut, caption, request.batch_size, folder) as chunks:
        for chunk in chunks:
            explained += chunk
            report(Progress(len(explained), len(cut.places)))

    return _result(spec, cut, explained, caption)


def _downsample(slide: Slide, magnification: float | int | None, downsample: float | int | None) -> float:
    """Return by how much tiles are smaller than at full resolution."""
    if magnification is not None and downsample is not None:
        raise BadOption(f"set magnification or downsample, not both (got {magnification:g} and {downsample:g})")
    if downsample is not None:
        return parsed("downsample", downsample, _Downsample)
    if magnification is None:
        return 1.0

    wanted = parsed("magnification", magnification, Positive)
    if slide.magnification is None:
        raise BadOption(
            f"{slide.source!r:.300} does not state the magnification of its objective: set downsample instead, such as "
            f"downsample=4 for a quarter of the full resolution (got magnification {wanted:g})"
        )
    if wanted > slide.magnification:
        raise BadOption(f"magnification must be at most that of the slide, {slide.magnification:g} (got {wanted:g})")
    return parsed("downsample", slide.magnification / wanted, _Downsample)


def _too_many(slide: Slide, scale: float, count: int, most: int) -> str:
    """Return the message that a slide has too many tiles, with what fewer would need."""
    factor = 2
    while count / factor**2 > most:
        factor *= 2
    if slide.magnification is None:
        now = f"downsample {scale:g}"
        remedy = f"a downsample of {scale * factor:g}"
    else:
        now = f"magnification {slide.magnification / scale:g}"
        remedy = f"magnification {slide.magnification / scale / factor:g}"
    return (
        f"most_tiles is {most:,}, and {count:,} tiles are not blank at {now}: choose {remedy} (about "
        f"{max(1, round(count / factor**2)):,} tiles), a larger tile, or a larger most_tiles"
    )


@contextmanager
def _chunks(
    spec: ExplanationSpec,
    cut: CutSlide,
    caption: str,
    batch_size: int,
    folder: str | Path | None,
) -> Iterator[Iterator[list[ExplainedTile]]]:
    """Provide the explained tiles, some at a time; with a folder, those that are done are read from it."""

    def explained(places: Sequence[tuple[int, int]]) -> list[ExplainedTile]:
        return _explain_tiles(spec, cut, places, caption, batch_size)

    groups = [cut.places[first : first + _TOGETHER] for first in range(0, len(cut.places), _TOGETHER)]
    if folder is None:
        yield map(explained, groups)
        return

    work = SlideFolder(read_path("folder", folder))

    def records(places: Sequence[tuple[int, int]]) -> list[JsonObject]:
        return [_record(tile) for tile in explained(places)]

    def kept() -> Iterator[list[ExplainedTile]]:
        for number, places in enumerate(groups):
            yield [_read_tile(record) for record in work.kept(f"{number:08d}", partial(records, places))]

    own = {
        "image_hash": cut.slide.digest,
        "caption": caption,
        "tile": cut.tiling.tile,
        "downsample": cut.tiling.downsample,
        "least_content": cut.least_content,
    }
    with work.writing({**own, **spec.record, "model": spec.model.record()}):
        yield kept()


def _record(explained: ExplainedTile) -> JsonObject:
    """Return a tile as plain data, from which the same numbers are read."""
    notes = [[note.code, note.text, note.side] for note in explained.notes]
    return {"tile": vars(explained.tile), "scores": explained.scores.tolist(), "notes": notes}


def _read_tile(record: JsonObject) -> ExplainedTile:
    tile = SlideTile(**{**record["tile"], "codes": tuple(record["tile"]["codes"])})
    notes = tuple(Note(*note) for note in record["notes"])
    return ExplainedTile(tile, np.array(record["scores"], np.float32), notes)


def _explain_tiles(
    spec: ExplanationSpec, cut: CutSlide, places: Sequence[tuple[int, int]], caption: str, batch_size: int
) -> list[ExplainedTile]:
    """Explain some tiles of a slide."""
    pairs = []
    for row, column in places:
        image = ImageInput(cut.tiling.read(cut.slide, row, column), f"tile {row}.{column} of {cut.slide.source}")
        pairs.append(Pair(image, caption, notes=caption_notes(caption)))

    explanations: dict[int, Explanation] = {}
    for batch in explain_batches(spec, pairs, batch_size):
        explanations |= dict(zip(batch.indices, to_explanations(spec, batch), strict=True))
    return [_explained_tile(place, explanations[index]) for index, place in enumerate(places)]


def _explained_tile(place: tuple[int, int], explanation: Explanation) -> ExplainedTile:
    """Return what a slide has of the explanation of a tile."""
    _check_region(explanation)
    image = explanation.image
    target = explanation.target.get("image")
    assert target is not None, "the image of a pair is explained"
    notes = tuple(note for note in explanation.notes if _is_on_map(note))
    tile = SlideTile(
        row=place[0],
        column=place[1],
        similarity=explanation.similarity,
        value=target["value"],
        sum=float(image.grid.double().sum()),
        baseline=None if image.path is None else float(image.path.at_baseline),
        gap=None if image.path is None else float(image.path.gap),
        codes=tuple(dict.fromkeys(note.label for note in notes)),
    )
    return ExplainedTile(tile, image.grid.numpy(), notes)


def _is_on_map(note: Note) -> bool:
    """Return whether a note is about the map of a tile, and not about the words of the caption."""
    return note.side in ("", "image") and note.code not in _ON_SCORES_OF_WORDS


def _check_region(explanation: Explanation) -> None:
    """Check that a model sees the whole of a tile: else the maps of tiles would not lie side by side."""
    side = explanation.size[0]
    left, top, width, height = explanation.region
    if max(abs(left), abs(top), abs(left + width - side), abs(top + height - side)) > 1:
        raise Unsupported(
            f"the model sees only {width:.0f} x {height:.0f} of the {side} x {side} pixels of a tile, so the maps of "
            "tiles would not lie side by side: load it with resize=whole"
        )


def _result(spec: ExplanationSpec, cut: CutSlide, explained: Sequence[ExplainedTile], caption: str) -> SlideExplanation:
    """Put the tiles of a slide together, whatever the order in which they were explained."""
    explained = sorted(explained, key=lambda part: (part.tile.row, part.tile.column))
    slide = cut.slide
    scale = cut.tiling.downsample
    return SlideExplanation(
        source=slide.source,
        image_hash=slide.digest,
        size=slide.size,
        caption=caption,
        tile=cut.tiling.tile,
        downsample=scale,
        magnification=None if slide.magnification is None else slide.magnification / scale,
        microns=None if slide.microns is None else slide.microns * scale,
        least_content=cut.least_content,
        content=torch.from_numpy(cut.content).float(),
        tiles=tuple(part.tile for part in explained),
        maps=torch.from_numpy(np.stack([part.scores for part in explained])),
        target=spec.record["target"],
        method=spec.record["method"],
        **spec.provenance,
        **note_fields([*slide.notes, *_joined_notes(explained)]),
        input=ImageInput(cut.small, slide.source),
    )


def _joined_notes(explained: Sequence[ExplainedTile]) -> Iterator[Note]:
    """Yield the notes on tiles: those of one code, or that differ only in numbers, once, with the number of tiles."""
    groups: dict[tuple[str, str, str], list[tuple[SlideTile, Note]]] = {}
    for part in explained:
        for note in part.notes:
            text = _NUMBER.sub("#", note.text) if note.code == OTHER else ""
            key = note.code, note.side, text
            groups.setdefault(key, []).append((part.tile, note))

    for tiles in groups.values():
        first, note = tiles[0]
        on_all = len(tiles) == len(explained)
        if on_all and len({of_tile.text for _, of_tile in tiles}) == 1:
            yield note
            continue

        where = "on all tiles" if on_all else f"on {len(tiles):,} of {len(explained):,} tiles"
        code = note.code if on_all else f"{note.code}_of_tiles"  # what holds for some tiles is no note on all of them
        yield Note(code, f"{where}, as in row {first.row}, column {first.column}: {note.text}", note.side)
