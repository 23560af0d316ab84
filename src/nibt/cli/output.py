"""The outputs of a command: files of any format, and the text in the terminal."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibt.cli.terminal import print_json, say
from nibt.errors import BadOption
from nibt.io import WINDOW, all_or_none, existing_paths, load_json

if TYPE_CHECKING:
    from nibt.formats.base import Format, Result
    from nibt.results.base import Result as BareResult

_LONGEST = 60  # characters of the suffix of a default name
STEM = "{stem}"
"""What stands for the name of each pair in ``--out``."""


@dataclass(frozen=True)
class OutputFile:
    """A file with the results at some positions of a call."""

    path: Path
    file_format: "Format"
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Output:
    """The files that a command writes, which are checked before the model is loaded."""

    out: list[str] | None
    quiet: bool
    overwrite: bool = False
    suffix: str = ""
    inputs: tuple[Path, ...] = ()
    default: tuple[str, str] = (".png", ".json")
    drawing: Mapping[str, object] = field(default_factory=dict)

    @property
    def printed(self) -> bool:
        """Whether JSON is printed, and nothing else."""
        return "-" in (self.out or [])

    @property
    def silent(self) -> bool:
        """Whether nothing but JSON is printed."""
        return self.quiet or self.printed

    def check(self, stems: Sequence[str], result_kind: str) -> list[OutputFile]:
        """Check the files of results of a kind, and return them; ``stems`` are the names of the results."""
        from nibt.formats.base import LOOK, check_drawing
        from nibt.results.outputs import check_targets

        names = _unique(stems)
        targets = self._requested(names, result_kind) if self.out else self._defaults(names)
        for target in targets:
            target.file_format.check(target.path, [result_kind], len(target.rows))

        # options of the look have an effect in the terminal, even if no file is drawn
        drawn = [name for name in self.drawing if self.silent or name not in LOOK]
        check_drawing(drawn, [target.file_format for target in targets], result_kind)
        check_targets([target.path for target in targets], self.inputs, self.overwrite)
        return targets

    def _requested(self, names: Sequence[str], result_kind: str) -> list[OutputFile]:
        """Return the files of ``--out``: one for all results, or one for each where its name has a place for theirs."""
        from nibt.registry import format_of

        targets: list[OutputFile] = []
        for text in self.out or []:
            if text == "-":
                continue
            if not text or Path(text).is_dir():
                raise BadOption(f"--out must be a file, such as {Path(text) / STEM}.png (got {text!r})")

            file_format = format_of(text, result_kind)
            if STEM not in text:
                targets.append(OutputFile(Path(text), file_format, tuple(range(len(names)))))
                continue

            for row, name in enumerate(names):
                targets.append(OutputFile(Path(text.replace(STEM, name)), file_format, (row,)))

        return targets

    def _defaults(self, names: Sequence[str]) -> list[OutputFile]:
        """Return a file for each result, and one for all of them."""
        from nibt.registry import format_of

        single, combined = self.default
        targets: list[OutputFile] = []
        for row, name in enumerate(names):
            path = f"{name}{self.suffix}{single}"
            targets.append(OutputFile(Path(path), format_of(path), (row,)))

        name = names[0] if len(names) == 1 else "explanations"
        path = f"{name}{self.suffix}{combined}"
        targets.append(OutputFile(Path(path), format_of(path), tuple(range(len(names)))))
        return targets

    def write(
        self, results: "Sequence[Result]", targets: Sequence[OutputFile], show: "Callable[[list[Any]], None]"
    ) -> None:
        """Write all files or none of them, and print the results.

        A file that the results cannot be in, which is known only now, does not keep others from being written.

        Raises:
            BadOption: There was such a file.
        """
        from nibt.formats.base import bare

        answers = [bare(result) for result in results]
        if not self.out:
            targets = self._distinct(answers, targets)

        lacking = {target.path: target.file_format.lacks([answers[row] for row in target.rows]) for target in targets}
        targets = [target for target in targets if not lacking[target.path]]
        self._save(results, targets)
        self._print(answers, targets, show)
        for path, text in lacking.items():
            if text:
                raise BadOption(f"{path} was not written: {text}")

    def _save(self, results: "Sequence[Result]", targets: Sequence[OutputFile]) -> None:
        """Write all files or none of them."""
        from nibt.formats.base import save
        from nibt.results.free_names import release

        try:
            with all_or_none():
                for target in targets:
                    selected = [results[row] for row in target.rows]
                    drawing = {name: value for name, value in self.drawing.items() if name in target.file_format.draws}
                    save(selected, target.path, overwrite=self.overwrite, **drawing)
        except BaseException:
            # default names were reserved by empty files, so that two commands at a time never choose the same
            if not self.out:
                release([target.path for target in targets])
            raise

    def _print(
        self, answers: "list[BareResult]", targets: Sequence[OutputFile], show: "Callable[[list[Any]], None]"
    ) -> None:
        """Print the results as JSON or for people, and which files were written."""
        if self.printed:
            data = [answer.to_json() for answer in answers]
            print_json(data[0] if len(data) == 1 else data)
        elif not self.quiet:
            show(answers)
            if targets:
                say("wrote " + ", ".join(str(target.path) for target in targets))

    def _distinct(self, answers: "Sequence[BareResult]", targets: Sequence[OutputFile]) -> list[OutputFile]:
        """Return the files with default names, with a number where a path has the results of another request."""
        from nibt.results.base import request_of
        from nibt.results.free_names import distinct

        *single, combined = targets
        if len(single) == 1:
            paths = distinct([single[0].path, combined.path], request_of(answers))
        else:
            paths = []
            for target in single:
                paths += distinct([target.path], answers[target.rows[0]].request(), paths)
            paths += distinct([combined.path], request_of(answers))

        return [OutputFile(path, target.file_format, target.rows) for path, target in zip(paths, targets, strict=True)]


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

    >>> stem("photos/cat.jpg"), stem("sample:chelsea"), stem("scan.dcm#window=40.5,400")
    ('cat', 'chelsea', 'scan')
    """
    return Path(image.removeprefix("sample:").partition(WINDOW)[0]).stem


def slug(text: str, longest: int = 40) -> str:
    """Convert a text to a part of a file name: letters and digits of any script, and hyphens.

    >>> slug("A photo of a cat!")
    'a-photo-of-a-cat'
    """
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:longest].rstrip("-") or "caption"


def suffix(*parts: str | None, **options: object) -> str:
    """Return the suffix of default names: the parts and options of a request that differ from the defaults.

    >>> suffix("grad_cam", None, steps=8, against=["a dog"])
    '.grad_cam.steps-8.against-a-dog'
    """
    texts = [re.sub(r"[^\w-]+", "-", text) for text in parts if text]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        words = [slug(str(item), 20) for item in values if item is not True]  # a flag is only its name
        texts.append("-".join([name.replace("_", "-"), *words]))

    joined = "".join(f".{text}" for text in texts)
    return joined if len(joined) <= _LONGEST else joined[:_LONGEST].rstrip(".-")


def model_name(model: str | None) -> str | None:
    """Return the name of a model for file names; None for the default model.

    >>> model_name("openai/clip-vit-base-patch32"), model_name("lite")
    ('clip-vit-base-patch32', None)
    """
    if model is None or model == "lite":
        return None

    from nibt.models._names import hub_name, is_address

    # a page's address may end with /tree/main
    name = str(hub_name(model) or model) if "://" in model and not is_address(model) else model
    return slug(Path(name).name or name)


def input_paths(*sources: str | Path | Iterable[str | Path] | Mapping[str, object] | None) -> tuple[Path, ...]:
    """Return the existing files and folders that arguments and options refer to, such as a path or ``coco:FOLDER``."""
    paths: list[Path] = []
    for source in sources:
        if isinstance(source, Mapping):
            paths += input_paths(*(value for value in source.values() if isinstance(value, str)))
        elif isinstance(source, str | Path):
            paths += _paths_of(str(source))
        elif source is not None:
            paths += input_paths(*source)

    return tuple(paths)


def _paths_of(text: str) -> list[Path]:
    """Return the existing files and folders that a text may refer to."""
    from nibt.data.images import SAMPLE, sample_file, samples

    if not text.strip():
        return []

    # most texts are no folder of adapters; the base model of one that is must not be overwritten either
    paths: list[Path] = []
    with suppress(OSError, ValueError, KeyError, TypeError):
        name = str(load_json(Path(text) / "adapter_config.json")["base_model_name_or_path"])
        paths += [path for path in (Path(text) / name, Path(name)) if path.is_dir()][:1]

    paths += existing_paths(text)

    embedded = Path(__file__).parents[1] / "models" / "embedded" / text
    if text.isidentifier() and embedded.exists():
        paths.append(embedded)

    sample = text.removeprefix(SAMPLE)
    if text.startswith(SAMPLE) and sample in samples():
        paths.append(sample_file(sample))
    return paths
