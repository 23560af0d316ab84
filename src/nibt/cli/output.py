"""What a command writes and where: a picture a pair or one page, a JSON file, what a terminal shows."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nibt.errors import BadOption, CannotWrite

if TYPE_CHECKING:
    from nibt.report.page import Shown


@dataclass(frozen=True)
class Output:
    """A picture (or a folder for several), or a page for all, and a JSON file; all is checked before the model is
    loaded.
    """

    out: Path | None
    json: str | None
    quiet: bool

    @property
    def silent(self) -> bool:
        return self.quiet or self.json == "-"

    @property
    def page(self) -> bool:
        """Whether one HTML page takes all pairs."""
        return self.out is not None and self.out.suffix.lower() == ".html" and not self.out.is_dir()

    def check(self, firsts: list[str], seconds: list[str], beside: Sequence[Path] = ()) -> list[Path]:
        """The name of the picture of each pair; empty where JSON alone was asked for. Other pictures lie ``beside``.
        A pair is each of the firsts with each of the seconds: captions, or what ``stem`` makes of pictures.

        Raises:
            CannotWrite: a folder is missing or closed.
            BadOption: a name ends neither in .html nor in a picture format.

        """
        from nibt.files import check_writable
        from nibt.report.picture import check_format

        names = self._names(firsts, seconds)
        for path in (*names, *beside):
            if path != self.out or not self.page:
                check_format(path, or_page=path == self.out)
            check_writable(path)
        if self.json not in (None, "-"):
            check_writable(Path(str(self.json)))
            if Path(str(self.json)) in names:
                raise BadOption(f"--out and --json cannot both be {self.json}: give each its own name")
        return names

    def _names(self, firsts: list[str], seconds: list[str]) -> list[Path]:
        if self.json == "-" and self.out is None:
            return []
        if self.out is not None and self.page:
            return [self.out]
        if self.out is not None and len(firsts) * len(seconds) == 1 and not self.out.is_dir():
            return [self.out]
        folder = self.out or Path()
        if not folder.is_dir():
            raise CannotWrite(
                f"--out must be an existing folder for several pairs, or end in .html for one page of all (got "
                f"{str(folder)!r}): create it first"
            )
        stems = [f"{_plain(first)}-{_plain(second)}" for first in firsts for second in seconds]
        return [folder / f"{stem}{f'-{stems[:n].count(stem) + 1}' if stem in stems[:n] else ''}.png"
                for n, stem in enumerate(stems)]  # fmt: skip

    def write(
        self, answers: Sequence[Any], names: list[Path], draw: Callable[[Any], Any], save: Callable[[Any, Path], None],
        show: Callable[[Any], None], beside: Sequence[tuple[Path, Callable[[], Any]]] = (),
        pages: "Callable[[Sequence[Any]], Sequence[Shown]]" = tuple, positive: bool = False,
    ) -> None:  # fmt: skip
        """Pictures or the page, JSON, and what a terminal shows."""
        from nibt.explanation import as_text
        from nibt.report.page import write_page
        from nibt.report.picture import write

        if self.page:
            write_page(pages(answers), names[0], positive=positive)
        else:
            for answer, name in zip(answers, names, strict=False):
                write(draw(answer), name)
        for path, image in beside:
            write(image(), path)
        if self.json == "-":
            data = [answer.to_json() for answer in answers]
            sys.stdout.write(as_text(data[0] if len(data) == 1 else data))
            return
        target = Path(self.json) if self.json else _beside(names)
        save(answers, target)
        if not self.quiet:
            show(answers)
            typer.echo("wrote " + ", ".join(str(path) for path in (*names, *(path for path, _ in beside), target)))


def stem(picture: str) -> str:
    """What a picture's part of a file name is made of.

    >>> stem("photos/cat.jpg"), stem("sample:chelsea")
    ('cat', 'chelsea')

    """
    return Path(picture.removeprefix("sample:")).stem


def _beside(names: list[Path]) -> Path:
    return names[0].with_suffix(".json") if len(names) == 1 else names[0].parent / "explanations.json"


def _plain(text: str) -> str:
    """A part of a file name: letters and digits of any script, at most 40.

    >>> _plain("A photo of a cat!")
    'a-photo-of-a-cat'

    """
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].rstrip("-") or "caption"
