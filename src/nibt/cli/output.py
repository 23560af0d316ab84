"""The outputs of a command: images or a page, a JSON file, and the text in the terminal."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nibt.cli.terminal import print_json, say
from nibt.errors import CannotWrite
from nibt.io import load_json

if TYPE_CHECKING:
    from nibt.report.html.page import Shown

_LONGEST = 60  # characters of the suffix of a default name


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

    def check(
        self, firsts: list[str], seconds: list[str], images: Sequence[Path] = (), others: Sequence[Path] = ()
    ) -> list[Path]:
        """Check the outputs, and return the path of the image of each pair.

        Pairs are all combinations of ``firsts`` and ``seconds``. The list is empty if only JSON is written.
        """
        from nibt.outputs import check_targets
        from nibt.report.image.explanation import check_format

        names = self._names(firsts, seconds)
        for path in (*names, *images):
            if path != self.out or not self.page:
                check_format(path, or_page=path == self.out)
        json = [] if self.json == "-" else [self._json(names)]
        check_targets([*names, *images, *others, *json], self.inputs, self.overwrite)
        return names

    def _names(self, firsts: list[str], seconds: list[str]) -> list[Path]:
        if self.json == "-" and self.out is None:
            return []
        if self.out is not None and (self.page or (len(firsts) * len(seconds) == 1 and not self._in_folder)):
            return [self.out]
        folder = self.out or Path()
        if not folder.is_dir():
            raise CannotWrite(
                f"--out must be an existing folder for several pairs, or a file .html for a page of all pairs (got "
                f"{str(folder)!r}): create the folder first"
            )
        stems = [f"{slug(first)}-{slug(second)}" for first in firsts for second in seconds]
        return [folder / f"{stem}{self.suffix}.png" for stem in _unique(stems)]

    @property
    def _in_folder(self) -> bool:
        """Whether files get default names, in the current folder or in ``out``."""
        return self.out is None or self.out.is_dir()

    def _json(self, names: list[Path]) -> Path:
        if self.json:
            return Path(self.json)
        return names[0].with_suffix(".json") if len(names) == 1 else names[0].parent / f"explanations{self.suffix}.json"

    def _distinct(
        self, answers: Sequence[Any], names: list[Path], extra: Sequence[Path]
    ) -> tuple[list[Path], Path | None]:
        """Return the paths of the images and of the JSON file.

        Default names get a number if the path has the results of another request, or is another output of the call.
        """
        from nibt.outputs import distinct
        from nibt.results.saving import request_of

        json = None if self.json == "-" else self._json(names)
        if not (names and self._in_folder):
            return names, json
        if len(names) == 1:
            own = names if self.json else [*names, names[0].with_suffix(".json")]
            names = distinct(own, request_of(answers), [*extra, *([json] if self.json and json else [])])[:1]
            return names, json if self.json else names[0].with_suffix(".json")
        images: list[Path] = []
        for name, answer in zip(names, answers, strict=True):
            images += distinct([name], answer.request(), [*images, *extra])
        return images, json if self.json or json is None else distinct([json], request_of(answers))[0]

    @contextmanager
    def _released(self, paths: Sequence[Path]) -> Iterator[None]:
        """Give default names back if the block fails."""
        from nibt.outputs import release

        try:
            yield
        except BaseException:
            if self._in_folder:
                release(paths)
            raise

    def write(
        self,
        answers: Sequence[Any],
        names: list[Path],
        draw: Callable[[Any], Any],
        show: Callable[[Any], None],
        extra: Mapping[Path, Callable[[Path], None]] = MappingProxyType({}),
        pages: "Callable[[Sequence[Any]], Sequence[Shown]]" = tuple,
        drawing: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Write images or a page and the JSON file, all or none of them, and print the answers."""
        from nibt.io import all_or_none
        from nibt.report.html.page import write_page
        from nibt.report.image.explanation import write
        from nibt.results.saving import save

        names, json = self._distinct(answers, names, list(extra))
        with all_or_none(), self._released([*names, *([json] if json else [])]):
            if self.page:
                write_page(pages(answers), names[0], **drawing, overwrite=self.overwrite)
            else:
                for answer, name in zip(answers, names, strict=False):
                    write(draw(answer), name, answer.request(), self.overwrite)
            for path, write_extra in extra.items():
                write_extra(path)
            if json is not None:
                save(answers, json, self.overwrite)
        if json is None:
            data = [answer.to_json() for answer in answers]
            print_json(data[0] if len(data) == 1 else data)
        elif not self.quiet:
            show(answers)
            say("wrote " + ", ".join(str(path) for path in (*names, *extra, json)))


def _unique(stems: Sequence[str]) -> list[str]:
    """Return the stems with a number after each repeated one.

    >>> _unique(["cat", "cat", "cat-2"])
    ['cat', 'cat-2', 'cat-2-2']

    """
    unique: list[str] = []
    for name in stems:
        numbered = (f"{name}-{number}" if number > 1 else name for number in count(1))
        unique.append(next(candidate for candidate in numbered if candidate not in unique))
    return unique


def stem(image: str) -> str:
    """Return the name of an image without its folder and ending, for names of outputs.

    >>> stem("photos/cat.jpg"), stem("sample:chelsea")
    ('cat', 'chelsea')

    """
    return Path(image.removeprefix("sample:")).stem


def slug(text: str, longest: int = 40) -> str:
    """Convert a text to a part of a file name: letters and digits of any script, and hyphens.

    >>> slug("A photo of a cat!")
    'a-photo-of-a-cat'

    """
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:longest].rstrip("-") or "caption"


def suffix(*parts: str | None, **options: Any) -> str:
    """Return the suffix of default names: the parts and options of a request that differ from the defaults.

    >>> suffix("grad_cam", None, steps=8, against=["a dog"])
    '.grad_cam.steps-8.against-a-dog'

    """
    texts = [re.sub(r"[^\w-]+", "-", part) for part in parts if part]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        texts.append("-".join([name.replace("_", "-"), *(slug(str(one), 20) for one in values if one is not True)]))
    whole = "".join(f".{text}" for text in texts)
    return whole if len(whole) <= _LONGEST else whole[:_LONGEST].rstrip(".-")


def model_name(model: str | None) -> str | None:
    """Return the name of a model for file names; None for the default model.

    >>> model_name("openai/clip-vit-base-patch32"), model_name("lite")
    ('clip-vit-base-patch32', None)

    """
    if model is None or model == "lite":
        return None
    from nibt.models._names import hub_name

    name = str(hub_name(model) or model) if "://" in model else model  # a page's address may end with /tree/main
    return slug(Path(name).name or name)


def input_paths(*sources: str | Path | Iterable[str | Path] | Mapping[str, Any] | None) -> tuple[Path, ...]:
    """Return the existing files and folders that the arguments and options of a command refer to.

    A source is a path, ``sample:NAME``, ``coco:FOLDER``, ``grid:coco:FOLDER``, ``mean:FILE``, an embedded model, or
    several of these.
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


def with_stems(options: Iterable[Any], images: Iterable[str]) -> list[str]:
    """Return the texts among the values of options, those with ``{stem}`` once for each image.

    >>> with_stems(["segments:{stem}.npy", 3], ["a.jpg", "b.jpg"])
    ['segments:a.npy', 'segments:b.npy']

    """
    texts = [value for value in options if isinstance(value, str)]
    return list(dict.fromkeys(text.replace("{stem}", stem(image)) for text in texts for image in images))


def _base_of_adapters(folder: Path) -> Path | None:
    """Return the folder of the base model of adapters, or None if it is not a folder."""
    try:
        name = load_json(folder / "adapter_config.json")["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return next((path for path in (folder / str(name), Path(str(name))) if path.is_dir()), None)


def _paths_of(text: str) -> list[Path]:
    """Return the existing files and folders that a text may refer to."""
    from nibt.data.images import SAMPLE, sample_file, samples

    if not text.strip():
        return []
    embedded = Path(__file__).parents[1] / "models" / "embedded" / text
    base = _base_of_adapters(Path(text))
    candidates = [
        *([base] if base else []),
        Path(text),
        Path(text.partition(":")[2] or text),
        Path(text.rpartition(":")[2] or text),  # grid:coco:FOLDER
        *([embedded] if text.isidentifier() else []),
    ]
    if text.startswith(SAMPLE) and text.removeprefix(SAMPLE) in samples():
        candidates.append(sample_file(text.removeprefix(SAMPLE)))
    paths = []
    for path in candidates:
        try:
            if path.expanduser().exists():
                paths.append(path.expanduser())
        except (OSError, ValueError):  # the text is too long, or has a null character
            continue
    return paths
