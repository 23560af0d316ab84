"""Results of nibt in the run of a tracker: MLflow, Weights & Biases, or TensorBoard."""

import re
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image

from nibt.errors import BadInput, BadOption, Unsupported
from nibt.formats.base import bare
from nibt.io import one_line, read_text
from nibt.options import Range, parsed
from nibt.records import JsonObject
from nibt.registry import available, find
from nibt.report.image.draw import draw
from nibt.results.audit import Audit
from nibt.results.base import Result
from nibt.results.explanation import Explanation
from nibt.results.parts import Part, Parts
from nibt.results.word_parts import WordPart, WordParts

Numbers: TypeAlias = Mapping[str, float]
Rows: TypeAlias = Sequence[Mapping[str, Any]]
_ENDINGS = (".png", ".html", ".json")
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")  # what all trackers take
_LONGEST = 100  # wandb allows artifacts 128 characters, with its own prefix, and MLflow metrics 250
_Step: TypeAlias = Annotated[int, Range(0, 2**63 - 1)] | None
_NEEDED = (
    "give the tracker: the module mlflow with an active run (mlflow.start_run()), a run of wandb (wandb.init()), or a "
    "SummaryWriter of TensorBoard"
)


_MOST_ROWS = 100  # of a job, each with two pictures
_SIDE = 512  # pixels of the longer side of an image in a table


@runtime_checkable
class ExplainedRows(Protocol):
    """A job: rows as plain data with their explanations."""

    def tally(self) -> JsonObject:
        """Return the numbers of rows and of failed rows."""
        ...

    def explained_rows(self) -> Iterator[Any]:
        """Yield the rows, each with its ``values`` and its ``explanation``, which is None if it failed."""
        ...


def log(result: Result | ExplainedRows, tracker: Any = None, *, name: str = "nibt", step: int | None = None) -> None:
    """Log a result into the run of a tracker: its numbers, its table, its picture or page, and its JSON file.

    ===========  =========================================  ==============================================
    result       numbers                                    table
    ===========  =========================================  ==============================================
    explanation  the similarity, the sum and gap of a side  the words with their scores
    answer       the mean image gain of the words           the words with what each took from the image
    audit        checks by verdict, the value of each       the checks with their intervals and verdicts
    parts        the shortcuts and their share              the parts with their verdicts and effects
    job          the numbers of rows and of failed rows     the first 100 rows that did not fail
    others       none                                       none
    ===========  =========================================  ==============================================

    The table of a job has the image, the caption or the prompt and the answer, the map, and of a log of an evaluation
    its id (``key``), its right answer (``reference``) and its score (``log_score``); of TensorBoard without pictures.

    MLflow gets metrics, tables and artifacts; Weights & Biases values, tables, images and pages, and the JSON file as
    an artifact of the type ``nibt``; TensorBoard scalars, images, and tables as text. No file is left on this machine
    beside those of the tracker.

    Args:
        result: A result of nibt, such as an explanation or an audit, or a ``Job``.
        tracker: The module ``mlflow``, whose active run is meant, a run of ``wandb``, or a ``SummaryWriter``. None
            means the active run of MLflow or wandb, if there is exactly one.
        name: The prefix of all names in the run, such as ``nibt`` or ``val/cat``.
        step: The step of the training, from 0; None if there is none. A run of wandb takes no step before its last.

    Raises:
        BadInput: The result is none of nibt, or no run of a tracker is active.
        BadOption: The name has other characters than letters, digits, ``_``, ``-``, ``.`` and ``/``, or is too long; or
            the step is below 0, or before the last one of a run of wandb.
        Unsupported: The tracker is of another kind.
    """
    result = result if isinstance(result, ExplainedRows) else bare(result)
    if not isinstance(result, Result | ExplainedRows):
        raise BadInput(f"log takes a result of nibt, such as an explanation, or a job (got {type(result).__name__})")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadOption(f"name must have letters, digits, _, -, . and / between them only (got {name!r:.60})")
    if len(name) > _LONGEST or {".", ".."} & set(name.split("/")):
        raise BadOption(f"name must have at most {_LONGEST} characters, and no part . or .. (got {name!r:.60})")
    step = parsed("step", step, _Step)

    sink = sink_of(_active() if tracker is None else tracker)
    if step is not None and step < sink.first_step:
        raise BadOption(
            f"step must be at least {sink.first_step}, the last one of the run, which drops earlier ones (got {step}): "
            "log in the order of the steps, or leave step out"
        )

    if numbers := _numbers(result):
        sink.numbers({f"{name}/{key}": value for key, value in numbers.items()}, step)
    if rows := _rows(result):
        sink.table(f"{name}/table", rows, step)

    if isinstance(result, ExplainedRows):
        return

    with TemporaryDirectory() as folder:
        for path in _saved(result, Path(folder) / name.replace("/", "-")):
            sink.file(name, path, step)


def _active() -> Any:
    """Return the tracker that has an active run in this process."""
    mlflow = sys.modules.get("mlflow")
    wandb = sys.modules.get("wandb")
    active = [mlflow] if mlflow is not None and mlflow.active_run() is not None else []
    active += [wandb.run] if wandb is not None and wandb.run is not None else []
    if len(active) != 1:
        state = "is none" if not active else "are two"
        raise BadInput(f"log needs one active run of MLflow or wandb (there {state}): {_NEEDED}")
    return active[0]


def _saved(result: Result, path: Path) -> list[Path]:
    """Write a result into the files that can hold it."""
    formats = [find("formats", each) for each in available("formats")]
    paths = []
    for ending in _ENDINGS:
        holds = [each.holds for each in formats if ending in each.endings]
        if any(result.kind in kinds for kinds in holds):
            paths.append(path.with_name(path.name + ending))
            result.save(paths[-1])

    return paths


def _numbers(result: Any) -> Numbers:
    """Return the numbers of a result that are worth a curve."""
    if isinstance(result, ExplainedRows):
        counts = result.tally()
        return {"rows": float(counts["rows"]), "failed": float(counts["errors"])}

    if isinstance(result, Explanation):
        numbers = {"similarity": float(result.similarity)}
        for name, side in result.sides.items():
            numbers[f"{name}_sum"] = float(side.scores.sum())
            if side.path is not None:
                numbers[f"{name}_gap"] = float(side.path.gap)
        return numbers

    if isinstance(result, Audit):
        verdicts = Counter(check.verdict.replace(" ", "_") for check in result.checks)
        counts = {f"checks/{verdict}": float(count) for verdict, count in verdicts.items()}
        values = {_check_name(check): check.value for check in result.checks if np.isfinite(check.value)}
        return {**counts, **values}

    if isinstance(result, Parts | WordParts):
        shares = [part.share for part in result.shortcuts]
        return {"parts": float(len(result.parts)), "shortcuts": float(len(shares)), "shortcut_share": sum(shares)}

    if result.kind == "answer":
        return {"image_gain": float(np.mean([word.image_gain for word in result.words]))}
    return {}


def _check_name(check: Any) -> str:
    parts = [part for part in ("check", check.method, check.side, check.name) if part]
    return re.sub(r"[^\w./-]+", "_", "/".join(parts))


def _rows(result: Any) -> Rows:
    """Return the table of a result; an empty one if it has none."""
    if isinstance(result, ExplainedRows):
        explained = (row for row in result.explained_rows() if row.explanation is not None)
        return [_of_job(row.values, row.explanation) for row in islice(explained, _MOST_ROWS)]

    if isinstance(result, Explanation):
        return _of_words(result)

    if isinstance(result, Audit):
        columns = ("name", "method", "side", "value", "low", "high", "count", "verdict")
        return [{column: getattr(check, column) for column in columns} for check in result.checks]

    if isinstance(result, Parts | WordParts):
        return [_of_part(part) for part in result.parts]

    if result.kind == "answer":
        return _of_answer(result)
    return []


def _of_words(explanation: Explanation) -> Rows:
    """Return the words of the captions, in their order."""
    rows = []
    for name, side in explanation.sides.items():
        for position, word in enumerate(getattr(side, "words", ())):
            rows.append({"side": name, "position": position, "word": word.text, "score": word.score})
    return rows


def _of_answer(answer: Any) -> Rows:
    """Return the words of an answer, in their order."""
    rows = []
    for word in answer.words:
        shares = {f"{source}_share": word.shares[source] for source in ("image", "prompt", "earlier")}
        rows.append(
            {"text": word.text, "log_probability": word.log_probability, "image_gain": word.image_gain, **shares}
        )
    return rows


def _of_job(values: JsonObject, explanation: Any) -> dict[str, Any]:
    """Return the columns of a row of a job; without pictures if its image is no longer there."""
    is_answer = explanation.kind == "answer"
    picture = (explanation if is_answer else explanation.image).input
    text = ("prompt", "answer") if is_answer else ("caption", "similarity")
    return {
        "row": values["row"],
        "key": values["key"],
        "image": None if picture is None else _small(picture.pil_image),
        **{name: values[name] for name in text},
        "reference": values.get("reference"),
        "log_score": values.get("log_score"),
        "map": None if picture is None else draw(explanation),
    }


def _small(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    return small


def _of_part(part: Part | WordPart) -> dict[str, Any]:
    """Return the columns of a part of images or of captions."""
    needed = part.needed.value if part.needed else None
    columns: dict[str, Any] = {"part": part.number, "verdict": part.verdict, "share": part.share, "needed": needed}
    if isinstance(part, WordPart):
        columns["captions"] = part.captions
        columns["words"] = ", ".join(word.word for word in part.words)
        return columns

    columns["images"] = part.images
    columns["place"] = part.where
    columns["name"] = part.name
    return columns


@dataclass(frozen=True)
class Sink(ABC):
    """The run of a tracker.

    Attributes:
        run: The run, or what stands for it.
    """

    run: Any

    @property
    def first_step(self) -> int:
        """The first step that is not dropped."""
        return 0

    @abstractmethod
    def numbers(self, numbers: Numbers, step: int | None) -> None:
        """Log numbers by their names."""

    @abstractmethod
    def table(self, name: str, rows: Rows, step: int | None) -> None:
        """Log a table."""

    @abstractmethod
    def picture(self, name: str, picture: Image.Image, step: int | None) -> None:
        """Log a picture."""

    @abstractmethod
    def file(self, name: str, path: Path, step: int | None) -> None:
        """Log a picture, a page or a JSON file, which is removed afterwards."""


class _MLflow(Sink):
    """The active run of MLflow; the run is its module."""

    def numbers(self, numbers: Numbers, step: int | None) -> None:
        self.run.log_metrics(dict(numbers), step=step)

    def table(self, name: str, rows: Rows, step: int | None) -> None:
        columns = {column: [self._cell(row[column]) for row in rows] for column in rows[0]}
        self.run.log_table(columns, f"{name}{_of_step(step)}.json")

    def _cell(self, value: object) -> object:
        return self.run.Image(value.convert("RGB")) if isinstance(value, Image.Image) else value

    def picture(self, name: str, picture: Image.Image, step: int | None) -> None:
        self.run.log_image(picture, f"{name}{_of_step(step)}.png")

    def file(self, name: str, path: Path, step: int | None) -> None:
        path = path.rename(path.with_name(f"{path.stem}{_of_step(step)}{path.suffix}"))
        self.run.log_artifact(str(path), name)


def _of_step(step: int | None) -> str:
    return "" if step is None else f"-step-{step}"


class _WandB(Sink):
    """A run of Weights & Biases."""

    @property
    def first_step(self) -> int:
        return self.run.step

    def numbers(self, numbers: Numbers, step: int | None) -> None:
        self._log(dict(numbers), step)

    def table(self, name: str, rows: Rows, step: int | None) -> None:
        columns = list(rows[0])
        data = [[self._cell(row[column]) for column in columns] for row in rows]
        self._log({name: self._wandb.Table(columns=columns, data=data)}, step)

    def _cell(self, value: object) -> object:
        return self._wandb.Image(value) if isinstance(value, Image.Image) else value

    def picture(self, name: str, picture: Image.Image, step: int | None) -> None:
        self._log({name: self._wandb.Image(picture)}, step)

    def file(self, name: str, path: Path, step: int | None) -> None:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                self.picture(f"{name}/picture", picture.convert("RGB"), step)
        elif path.suffix == ".html":
            page = self._wandb.Html(read_text(path), inject=False)
            self._log({f"{name}/page": page}, step)
        else:
            artifact = self._wandb.Artifact(name.replace("/", "-"), "nibt")
            artifact.add_file(str(path), policy="mutable", skip_cache=True)
            self.run.log_artifact(artifact)

    @property
    def _wandb(self) -> Any:
        return sys.modules["wandb"]

    def _log(self, values: dict[str, Any], step: int | None) -> None:
        self.run.log(values, step=step)


class _TensorBoard(Sink):
    """A ``SummaryWriter``."""

    def numbers(self, numbers: Numbers, step: int | None) -> None:
        for name, value in numbers.items():
            self.run.add_scalar(name, value, step)

    def table(self, name: str, rows: Rows, step: int | None) -> None:
        columns = [name for name in rows[0] if not any(isinstance(row[name], Image.Image) for row in rows)]
        lines = [" | ".join(columns), "|".join("---" for _ in columns)]
        lines += [" | ".join(_cell(row[name]) for name in columns) for row in rows]
        self.run.add_text(name, "\n".join(f"|{line}|" for line in lines), step)

    def picture(self, name: str, picture: Image.Image, step: int | None) -> None:
        self.run.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def file(self, name: str, path: Path, step: int | None) -> None:
        if path.suffix == ".png":  # it has no pages and no files
            with Image.open(path) as picture:
                self.picture(f"{name}/picture", picture, step)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else one_line(str(value))
    return text.replace("|", "\\|")


def sink_of(tracker: Any) -> Sink:
    """Return how a tracker is written to."""
    module = getattr(tracker, "__name__", "") or type(tracker).__module__
    kind = type(tracker).__name__
    if module == "mlflow":
        if tracker.active_run() is None:
            raise BadInput(f"mlflow has no active run: {_NEEDED}")
        return _MLflow(tracker)
    if module == "wandb":
        if tracker.run is None:
            raise BadInput(f"wandb has no active run: {_NEEDED}")
        return _WandB(tracker.run)
    if module.startswith("wandb.") and kind == "Run":
        if tracker._is_finished:
            raise BadInput(f"the run of wandb is finished: {_NEEDED}")
        return _WandB(tracker)
    if kind == "SummaryWriter":
        return _TensorBoard(tracker)
    raise Unsupported(f"the tracker {kind} is not known: {_NEEDED}")
