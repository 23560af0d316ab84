"""The contract of file formats, and the one way to write a file of results.

The ending of a path chooses the format, the longest first: ``cat.overlay.png`` is a map over the image and ``cat.png``
the whole picture. ``nibt explain -o``, ``nibt.save`` and the page use the same formats.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nibt.data.objects import Box
from nibt.data.pair import as_list
from nibt.errors import BadInput, BadOption, CannotWrite, check_names, reason
from nibt.options import FigureWidth, Top, complete
from nibt.records import JsonObject
from nibt.registry import Plugin, available, find, format_of
from nibt.report.colors import Appearance, appearance
from nibt.results import base
from nibt.results.base import request_of
from nibt.results.explanation import Explanation
from nibt.results.map_regions import check_threshold
from nibt.results.outputs import signed, write_bytes
from nibt.torch_modes import plain_torch

Result = base.Result | base.Beside


@dataclass(frozen=True)
class Drawing:
    """How results are drawn: the options of ``save``, of which each format uses what it needs.

    Args:
        positive_only: Whether negative scores are hidden.
        style: How maps are drawn, as in ``draw``.
        cmap: The colors, as in ``draw``.
        threshold: The least score of masks and regions, as a share of the largest positive score.
        top: The number of links.
        box: Only links into this box: left, top, width and height in pixels of the upright image.
        words: Only links of these words, by their texts or positions; empty means all.
        title: The title of a page.
        width: The width of a figure in inches, for .pdf, .svg and .eps; None means a picture with all notes.
        font: The font of such a figure: ``sans``, ``serif`` (Times), or the name of one that is installed.
    """

    positive_only: bool = False
    style: str = "overlay"
    cmap: str = "red_blue"
    threshold: float = 0.5
    top: Top = 10
    box: Box | None = None
    words: Sequence[str | int] = ()
    title: str = ""
    width: FigureWidth | None = None
    font: str = "sans"

    def __post_init__(self) -> None:
        complete(self)
        object.__setattr__(self, "words", tuple(as_list(self.words)))
        self.look  # noqa: B018 - an unknown style or color map is an error before anything is computed
        check_threshold(self.threshold)

    @property
    def look(self) -> Appearance:
        """The colors and the style of maps."""
        return appearance(self.positive_only, self.style, self.cmap)


DRAWING = tuple(Drawing.__dataclass_fields__)
LOOK = ("positive_only", "style", "cmap")
"""The options of drawing that choose the colors and the style of maps."""


class Format(Plugin, ABC):
    """Base class of file formats.

    Attributes:
        endings: The endings of the names of files, such as ``.mask.png``.
        holds: The kinds of results that a file can hold, as in their JSON form.
        several: Whether a file can hold several results.
        with_table: Whether word-region tables are computed for the file, and given beside the results by ``Panel``.
        media_type: The media type of a file.
        draws: The options of drawing that have an effect on a file.
    """

    endings: ClassVar[tuple[str, ...]]
    holds: ClassVar[tuple[str, ...]] = ("explanation",)
    several: ClassVar[bool] = False
    with_table: ClassVar[bool] = False
    media_type: ClassVar[str] = "image/png"
    draws: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def endings_with(cls, option: str) -> Sequence[str]:
        """Return the endings to name where an option of drawing has an effect."""
        return cls.endings[:1]

    @abstractmethod
    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        """Return the bytes of a file, with the ``unsigned`` signature of its request."""

    def request(self, results: Sequence[Result], drawing: Drawing) -> JsonObject:
        """Return the request that the signature states: default names never replace a file with another request."""
        return request_of([bare(result) for result in results])

    @plain_torch()
    def save(self, results: Sequence[Result], path: Path, overwrite: bool = False, **options: object) -> None:
        """Write results into a file, as ``nibt.save`` does."""
        if "{stem}" in path.name:
            raise BadOption(f"{{stem}} is for commands (got {path.name!r}): save each result under a name of its own")

        try:
            exists = path.exists() or os.access(path, os.F_OK)  # long names raise here, null characters there
        except (OSError, ValueError) as error:
            raise CannotWrite(f"cannot write {path.name!r:.100}: {reason(error)}; choose another name") from error

        try:
            data = self.encoded(results, path, **options)
        except MemoryError as error:
            raise CannotWrite(f"there is not enough memory to draw {path.name}: scale the image down") from error

        # a file that is replaced must be no input of the results
        records = [bare(result).to_json() for result in results] if exists else []
        write_bytes(path, data, records, overwrite)

    def encoded(self, results: Sequence[Result], path: Path, **options: Any) -> bytes:
        """Return the bytes of a file of results, as ``save`` writes them."""
        if not results:
            raise BadInput("there is nothing to write (got no results): give at least one")

        strange = [type(result).__name__ for result in results if not isinstance(result, base.Result | base.Beside)]
        if strange:
            raise BadInput(f"save takes results of nibt, and then the path (got a {strange[0]} as a result)")

        check_drawing(options, [self], bare(results[0]).kind)
        drawing = Drawing(**options)
        plain = [bare(result) for result in results]
        compares = [isinstance(result, Explanation) and result.is_comparison for result in plain]
        kinds = ["comparison" if compared else result.kind for result, compared in zip(plain, compares, strict=True)]
        self.check(path, kinds, len(results))
        lacking = self.lacks(plain)
        if lacking:
            raise BadOption(lacking)
        return signed(self.encode(results, path, drawing, self.request(results, drawing)))

    def lacks(self, results: Sequence[Any]) -> str:
        """Return what these results lack for a file, which is known only when they are computed; empty if nothing."""
        return ""

    def check(self, path: Path, kinds: Sequence[str], count: int) -> None:
        """Check that a file can hold so many results of these kinds."""
        wrong = next((result_kind for result_kind in kinds if result_kind not in self.holds), None)
        if wrong is not None:
            raise BadOption(
                f"{path.name!r} is for {' or '.join(map(_words, self.holds))} (got {_words(wrong)}): choose another "
                "ending, such as .json"
            )
        if count > 1 and not self.several:
            raise BadOption(
                f"{path.name!r} holds a single result (got {count}): save each under a name of its own (in a command, "
                "{stem} in the name does so)"
            )


def check_drawing(names: Iterable[str], formats: Sequence[Format], result_kind: str) -> None:
    """Check that each of the options of drawing has an effect on a file in one of the formats.

    Errors name the endings of other formats that can hold this kind of result.
    """
    for name in names:
        check_names("options", [name], DRAWING)
        if any(name in file_format.draws for file_format in formats):
            continue

        able: list[str] = []
        for format_name in available("formats"):
            format_class = find("formats", format_name)
            if result_kind in format_class.holds and name in format_class.draws:
                able += format_class.endings_with(name)

        endings = " and ".join(file_format.endings[0] for file_format in formats) or "printed JSON"
        remedy = f", or write {' or '.join(able)}" if able else ""
        raise BadOption(f"{name} has no effect on {endings}: leave it out{remedy}")


def _words(result_kind: str) -> str:
    """Return the name of a kind of result in messages."""
    special = {"regions": "word-region tables", "roar": "ROAR", "parts": "parts", "word_parts": "parts of captions"}
    return special.get(result_kind, f"{result_kind.replace('_', ' ')}s")


def bare(result: Result) -> Any:
    """Return a result without its panel."""
    return result.answer if isinstance(result, base.Beside) else result


def save(results: Result | Sequence[Result], path: str | Path, *, overwrite: bool = False, **options: object) -> None:
    """Write results into a file, completely or not at all; the ending of its name chooses the format.

    ``nibt list formats`` lists the endings: ``.png`` and other formats of images, ``.html``, ``.json``, ``.tif``,
    ``.overlay.png``, ``.map.png``, ``.mask.png``, ``.coco.json``, ``.links.pdf`` and ``.links.png``.

    Args:
        results: A result of nibt, or a ``Panel``; a list of them for formats that can hold several.
        path: The file.
        overwrite: Whether a file that nibt did not write may be replaced. Inputs never are.
        **options: Options of drawing that the format has: ``positive_only``, ``style``, ``cmap`` (as in ``draw``),
            ``threshold`` of masks and regions, ``title`` of a page, ``width`` (inches) and ``font`` of a figure for a
            paper (.pdf, .svg, .eps), and ``top``, ``box`` and ``words`` of links.

    Raises:
        BadOption: No format has that ending, the format cannot hold these results, or an option has an invalid value
            or no effect.
        UnknownName: There is no such option of drawing.
        BadInput: There is no result, or the image of a loaded result is missing.
        WouldOverwrite: The file exists, nibt did not write it, and ``overwrite`` is false.
        CannotWrite: The folder is missing or not writable, or the disk is full.
    """
    listed: list[Any] = list(results) if isinstance(results, list | tuple) else [results]
    format_of(path).save(listed, Path(path), overwrite, **options)
