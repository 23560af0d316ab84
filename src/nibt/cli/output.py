"""What a command writes and where: an image per pair or one page, a JSON file, what a terminal shows."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nibt.errors import CannotWrite

if TYPE_CHECKING:
    from nibt.report.html.page import Shown

_LONGEST = 60  # characters of a default name that say how the request differs from the default one


@dataclass(frozen=True)
class Output:
    """The files that a command writes, which are checked before the model is loaded.

    Attributes:
        out: The image of one pair, the folder for several, or one page for all; None means default names.
        json: The JSON file; "-" for standard output, None for a default name.
        quiet: Print nothing.
        overwrite: Replace files that nibt did not write.
        suffix: What distinguishes files with default names from those of other requests.
        inputs: The files and folders that the command reads, which no output may replace.

    """

    out: Path | None
    json: str | None
    quiet: bool
    overwrite: bool = False
    suffix: str = ""
    inputs: tuple[Path, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether nothing but JSON is printed."""
        return self.quiet or self.json == "-"

    @property
    def page(self) -> bool:
        """Whether one HTML page takes all pairs."""
        return self.out is not None and self.out.suffix.lower() == ".html" and not self.out.is_dir()

    def check(self, firsts: list[str], seconds: list[str], beside: Sequence[Path] = ()) -> list[Path]:
        """The name of the image of each pair; empty where JSON alone was asked for.

        Other images lie ``beside``. A pair is each of the firsts with each of the seconds: captions, or what ``stem``
        makes of images.

        Raises:
            WouldOverwrite: A file is an input, is not nibt's, or two outputs share it.
            CannotWrite: A folder is missing or closed.
            BadOption: A name ends neither in .html nor in an image format.
        """
        from nibt.outputs import check_targets
        from nibt.report.image.explanation import check_format

        names = self._names(firsts, seconds)
        for path in (*names, *beside):
            if path != self.out or not self.page:
                check_format(path, or_page=path == self.out)
        json = [] if self.json == "-" else [self._json(names)]
        check_targets([*names, *beside, *json], self.inputs, self.overwrite)
        return names

    def _names(self, firsts: list[str], seconds: list[str]) -> list[Path]:
        if self.json == "-" and self.out is None:
            return []
        if self.out is not None and (self.page or (len(firsts) * len(seconds) == 1 and not self._in_folder)):
            return [self.out]
        folder = self.out or Path()
        if not folder.is_dir():
            raise CannotWrite(
                f"--out must be an existing folder for several pairs, or end in .html for one page of all (got "
                f"{str(folder)!r}): create it first"
            )
        stems = [f"{plain(first)}-{plain(second)}" for first in firsts for second in seconds]
        return [folder / f"{stem}{self.suffix}.png" for stem in _apart(stems)]

    @property
    def _in_folder(self) -> bool:
        """Whether files get default names, in the current folder or in the one that was named."""
        return self.out is None or self.out.is_dir()

    def _json(self, names: list[Path]) -> Path:
        if self.json:
            return Path(self.json)
        return names[0].with_suffix(".json") if len(names) == 1 else names[0].parent / f"explanations{self.suffix}.json"

    def _distinct(
        self, answers: Sequence[Any], names: list[Path], beside: Sequence[Path]
    ) -> tuple[list[Path], Path | None]:
        """Return the names of the images and of the JSON file.

        Default names get a number if the file of another request, or another output of the call, has the name.
        """
        from nibt.outputs import distinct
        from nibt.results.saving import request_of

        json = None if self.json == "-" else self._json(names)
        if not (names and self._in_folder):
            return names, json
        if len(names) == 1:
            own = names if self.json else [*names, names[0].with_suffix(".json")]
            names = distinct(own, request_of(answers), [*beside, *([json] if self.json and json else [])])[:1]
            return names, json if self.json else names[0].with_suffix(".json")
        images: list[Path] = []
        for name, answer in zip(names, answers, strict=True):
            images += distinct([name], answer.request(), [*images, *beside])
        return images, json if self.json or json is None else distinct([json], request_of(answers))[0]

    def write(
        self,
        answers: Sequence[Any],
        names: list[Path],
        draw: Callable[[Any], Any],
        show: Callable[[Any], None],
        beside: Sequence[tuple[Path, Callable[[], Any]]] = (),
        pages: "Callable[[Sequence[Any]], Sequence[Shown]]" = tuple,
        positive_only: bool = False,
    ) -> None:
        """Images or the page, JSON, and what a terminal shows."""
        from nibt.report.html.page import write_page
        from nibt.report.image.explanation import write
        from nibt.results.saving import as_text, save

        names, json = self._distinct(answers, names, [path for path, _ in beside])
        if self.page:
            write_page(pages(answers), names[0], positive_only=positive_only, overwrite=self.overwrite)
        else:
            for answer, name in zip(answers, names, strict=False):
                write(draw(answer), name, answer.request(), self.overwrite)
        for path, image in beside:
            write(image(), path, answers[0].request(), self.overwrite)
        if json is None:
            data = [answer.to_json() for answer in answers]
            sys.stdout.write(as_text(data[0] if len(data) == 1 else data))
            return
        save(answers, json, self.overwrite)
        if not self.quiet:
            show(answers)
            typer.echo("wrote " + ", ".join(str(path) for path in (*names, *(path for path, _ in beside), json)))


def _apart(stems: Sequence[str]) -> list[str]:
    """Stems of one call, with a number where one stands before.

    >>> _apart(["cat", "cat", "cat-2"])
    ['cat', 'cat-2', 'cat-2-2']

    """
    apart: list[str] = []
    for name in stems:
        numbered = (f"{name}-{number}" if number > 1 else name for number in count(1))
        apart.append(next(one for one in numbered if one not in apart))
    return apart


def stem(image: str) -> str:
    """What an image's part of a file name is made of.

    >>> stem("photos/cat.jpg"), stem("sample:chelsea")
    ('cat', 'chelsea')

    """
    return Path(image.removeprefix("sample:")).stem


def plain(text: str, longest: int = 40) -> str:
    """A part of a file name: letters and digits of any script.

    >>> plain("A photo of a cat!")
    'a-photo-of-a-cat'

    """
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:longest].rstrip("-") or "caption"


def suffix(*parts: str | None, **options: Any) -> str:
    """What default names get behind them: the parts and the options of a request that are not the default ones.

    >>> suffix("grad_cam", None, steps=8, against=["a dog"])
    '.grad_cam.steps-8.against-a-dog'

    """
    texts = [re.sub(r"[^\w-]+", "-", part) for part in parts if part]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        texts.append("-".join([name.replace("_", "-"), *(plain(str(one), 20) for one in values if one is not True)]))
    whole = "".join(f".{text}" for text in texts)
    return whole if len(whole) <= _LONGEST else whole[:_LONGEST].rstrip(".-")


def model_name(model: str | None) -> str | None:
    """A model's part of a file name; None for the default model.

    >>> model_name("openai/clip-vit-base-patch32"), model_name("lite")
    ('clip-vit-base-patch32', None)

    """
    return None if model in (None, "lite") else plain(Path(model).name or model)


def input_paths(*sources: str | Path | Iterable[str | Path] | Mapping[str, Any] | None) -> tuple[Path, ...]:
    """Return the files and folders that arguments and options of a command name.

    A source is a path, ``sample:NAME``, ``coco:FOLDER``, ``mean:FILE``, an embedded model, or several of these.
    """
    paths: list[Path] = []
    for source in sources:
        if isinstance(source, Mapping):
            paths += input_paths(*(value for value in source.values() if isinstance(value, str)))
        elif isinstance(source, str | Path):
            paths += _paths_of(str(source))
        elif source is not None:
            paths += input_paths(*source)
    return tuple(paths)


def _base_of_adapters(folder: Path) -> Path | None:
    """The base model that the adapters in a folder name, where it is a folder."""
    import json

    try:
        name = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return next((path for path in (folder / str(name), Path(str(name))) if path.is_dir()), None)


def _paths_of(text: str) -> list[Path]:
    """The files and folders that a text may mean."""
    from nibt.data.images import SAMPLE, sample_file, samples

    if not text.strip():
        return []
    embedded = Path(__file__).parents[1] / "models" / "embedded" / text
    base = _base_of_adapters(Path(text))
    candidates = [
        *([base] if base else []),
        Path(text),
        Path(text.partition(":")[2] or text),
        *([embedded] if text.isidentifier() else []),
    ]
    if text.startswith(SAMPLE) and text.removeprefix(SAMPLE) in samples():
        candidates.append(sample_file(text.removeprefix(SAMPLE)))
    paths = []
    for path in candidates:
        try:
            if path.expanduser().exists():
                paths.append(path.expanduser())
        except (OSError, ValueError):  # too long for a name, or with a null character
            continue
    return paths
