"""The folder of a job: reading of its rows, checks of its files, and its card, with which it can be shared."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Required

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from nibt.data.images import ImageInput
from nibt.data.pair import Pair, as_list
from nibt.datasets._opening import open_rows
from nibt.datasets.base import Dataset, ImageLocation, Record, Wanted
from nibt.errors import BadInput, BadOption, UnknownName, check_names, reason
from nibt.folder import MANIFEST, REMEDY, Manifest, RunFolder, open_table
from nibt.io import one_line, read_path
from nibt.jobs._chunks import Shard
from nibt.jobs.rows import explanation_of, plain_rows, shared_metadata
from nibt.options import Count, Seed, parsed
from nibt.progress import OnProgress
from nibt.records import JsonObject
from nibt.report.html.document import plain_text
from nibt.results.explanation import Explanation, change_image, method_text
from nibt.results.records import MethodRecord, TargetRecord
from nibt.types import ModelRecord

if TYPE_CHECKING:
    from nibt.generators.results.answer import AnswerExplanation

SHARDS = "shards"
"""The name of the folder with the shards of a job."""
_MOST = 3  # the number of errors that the command prints


class JobRequest(TypedDict, total=False):
    """What a job computes. The keys after ``chunk_size`` are recorded when the model is loaded."""

    pairs: Required[Annotated[JsonObject, Field(description="What identifies the data set, and its columns.")]]
    chunk_size: Required[Annotated[int, Field(ge=1, description="The number of rows per file.")]]
    method: MethodRecord
    target: TargetRecord
    targets: Annotated[dict[str, str], Field(description="The target of each side.")]
    model: ModelRecord
    batch_size: int


class SmallerBatch(BaseModel):
    """A chunk that was computed in smaller batches because memory ran out."""

    model_config = ConfigDict(frozen=True, extra="allow")

    chunk: int
    batch_size: int


class JobManifest(Manifest):
    """The manifest of a job. Fields are None until they are known."""

    kind: str = "job"
    request: JobRequest
    names: list[str] | None = Field(description="The absolute paths of the pairs; None for a data set in memory.")
    data_options: JsonObject | None = Field(
        None, description="The options of the data set, such as those of a log; null without any."
    )
    rows: Annotated[int, Field(ge=0)] | None = None
    errors: Annotated[int, Field(ge=0)] | None = None
    smaller_batches: list[SmallerBatch] | None = None
    fingerprint: JsonObject | None = Field(
        None, description="What a model behind a server shows for a fixed request; null for a model that is loaded."
    )
    warnings: list[str] = Field([], description="Keys that occur in more than one row.")
    shard: list[int] | None = Field(
        None, description="The number of the shard, from 1, and the number of shards; null for a whole job."
    )


@dataclass(frozen=True)
class ExplainedRow:
    """A row of a job.

    Attributes:
        values: Its columns.
        explanation: Its explanation; None for a row without one.
        error: Why it has none; empty if it has one.
    """

    values: JsonObject
    explanation: "Explanation | AnswerExplanation | None"
    error: str = ""


@dataclass(frozen=True, repr=False)
class Job(RunFolder[JobManifest]):
    """The folder of a job, finished or not."""

    manifest_class = JobManifest
    chunk_pattern = r"\d{8,}"
    other_folders = (SHARDS,)

    def __repr__(self) -> str:
        try:
            manifest = self.manifest
        except BadInput as error:
            return f"Job in {self.folder}: {error}"

        lines = [f"Job in {self.folder}"]
        request = manifest.request
        if "method" in request and "target" in request and "model" in request:
            method = method_text(request["method"])
            target = request["target"]["name"]
            lines.append(f"  {method} explains {target}; model {request['model']['id']}")

        finished = manifest.rows is not None
        lines.append(f"  {self.size_text()}, {manifest.errors or 0:,} failed" if finished else "  not finished")
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in manifest.warnings)])

    @classmethod
    def open(cls, folder: str | Path) -> "Job":
        """Open the job in a folder.

        Raises:
            BadInput: The folder has no job.
        """
        job = cls(read_path("folder", folder))
        if not (job.folder / MANIFEST).is_file():
            if (job.folder / SHARDS).is_dir():
                raise BadInput(
                    f"{str(folder)!r} has shards only: join them by nibt batch PAIRS --out {folder}, without --shard"
                )
            raise BadInput(
                f"{str(folder)!r} has no job (it has no {MANIFEST}): create one with nibt batch PAIRS --out {folder}"
            )

        job.manifest  # noqa: B018
        return job

    def agree_model(self, fingerprint: JsonObject) -> None:
        """Record what a model behind a server shows for a fixed request, or check that it is still the same model.

        Raises:
            OtherRequest: It is another model.
        """
        from nibt.generators.fingerprints import agree  # answers of servers need the wing of generators

        name = self.manifest.request["model"]["id"] if "model" in self.manifest.request else ""
        agree(self, fingerprint, "results of", name)

    @property
    def shard(self) -> Shard | None:
        """The shard that this job is; None for a whole job."""
        numbers = self.manifest.shard
        return None if numbers is None else Shard(*numbers)

    @property
    def own_rows(self) -> int:
        """The number of rows of a finished job, or of a shard those that it has itself."""
        rows = self.manifest.rows or 0
        if self.shard is None:
            return rows

        size = self.chunk_size
        return sum(min(size, rows - size * chunk) for chunk in self.shard.chunks(-(-rows // size)))

    @property
    def chunk_size(self) -> int:
        """The number of rows per file."""
        return self.manifest.request["chunk_size"]

    def chunks(self) -> dict[int, list[Path]]:
        """Return the files of each chunk by its number. An intact chunk has one file."""
        return dict(sorted((int(name), paths) for name, paths in self.files().items()))

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[JsonObject]:
        """Yield the rows in order, as plain data; only one file is in memory at a time.

        Args:
            columns: The columns to read; None means all columns.

        Raises:
            BadInput: A file cannot be read.
            UnknownName: There is no such column.
        """
        columns = None if columns is None else as_list(columns)
        self.manifest  # noqa: B018  a folder without a job has no rows
        for path, *_ in self.chunks().values():
            with open_table(path) as table:
                check_names("columns", columns or (), table.schema_arrow.names)
                yield from plain_rows(table.read(columns=columns))

    @property
    def has_prompts(self) -> bool:
        """Whether the rows are prompts of a generator, whose answers are explained."""
        return "prompt" in self.manifest.request["pairs"]

    def explanation(self, row: int) -> "Explanation | AnswerExplanation":
        """Return the explanation of a row. It has the image if that is still at its source.

        Raises:
            BadOption: The row does not exist, or is not explained yet.
            BadInput: The row failed, or its file cannot be read.
        """
        row = parsed("row", row, int)
        values, shared = self._row(row)
        explanation = self._explained(values, shared)
        located = next(self._located(lambda number: number == row), None)
        return explanation if located is None else self._with_images(explanation, values, *located)

    def explained_rows(self, rows: Collection[int] | None = None) -> "Iterator[ExplainedRow]":
        """Yield rows in order, as far as they are stored, with the images that are still at their source.

        Only one file is in memory at a time, and the pairs are read once.

        Args:
            rows: The positions of rows; None means all.

        Raises:
            BadInput: A file cannot be read.
        """
        self.manifest  # noqa: B018  a folder without a job has no rows
        wanted = None if rows is None else set(rows)

        def is_wanted(row: int) -> bool:
            return wanted is None or row in wanted

        records = self._located(is_wanted)
        located = next(records, None)
        for number, (path, *_) in self.chunks().items():
            if not any(map(is_wanted, range(self.chunk_size * number, self.chunk_size * (number + 1)))):
                continue

            with open_table(path) as table:
                shared = shared_metadata(table)
                stored = table.read()

            chosen = [place for place, row in enumerate(stored["row"].to_pylist()) if is_wanted(row)]
            for values in plain_rows(stored.take(chosen)):
                while located is not None and located[1].row < values["row"]:
                    located = next(records, None)

                try:
                    explanation = self._explained(values, shared)
                except BadInput as error:
                    yield ExplainedRow(values, None, values["error"] or str(error))
                    continue

                if located is not None and located[1].row == values["row"]:
                    explanation = self._with_images(explanation, values, *located)
                yield ExplainedRow(values, explanation)

    def save_gallery(
        self,
        path: str | Path,
        rows: Sequence[int] | None = None,
        *,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        **drawing: object,
    ) -> str:
        """Write a page that shows rows side by side: the image with its map, the scores of words, and the notes.

        The page is one HTML file that needs no network. Rows can be searched, sorted and filtered by their scores. A
        row has a link to its own page, if that is in the same folder. The job need not be finished.

        Args:
            path: The file, which ends in ``.html``.
            rows: The positions of the rows, at most 2,000. None means all; of more than 2,000, as many are drawn at
                random.
            overwrite: Whether a file that nibt did not write may be replaced.
            on_progress: A function that is called with a ``Progress`` after each row.
            **drawing: ``style``, ``cmap`` and ``positive_only`` of the maps, and the ``title`` of the page.

        Returns:
            How many rows the page has, in words.

        Raises:
            BadOption: The path does not end in ``.html``, a row is not stored, there are too many, or an option of
                drawing has an invalid value.
            BadInput: No row is stored, or a file cannot be read.
            WouldOverwrite: The file exists, nibt did not write it, and ``overwrite`` is false.
            CannotWrite: The folder is missing or not writable, or the disk is full.
        """
        from nibt.jobs.gallery import write_gallery  # which draws, and is needed for pages only

        return write_gallery(self, path, rows, overwrite, on_progress, drawing)

    def explained_pairs(self, count: int | None = None, seed: int = 0) -> list[tuple[Pair, Explanation]]:
        """Return pairs with their explanations, such as for ``nibt.parts``. Rows that failed are left out.

        Args:
            count: The largest number of pairs, which are then drawn at random; None means all.
            seed: The seed of this draw.

        Raises:
            BadInput: The job is not finished, lacks rows, is a shard, or is of prompts; a file cannot be read; or the
                data set is missing, or was an object in memory.
        """
        count = parsed("count", count, Count | None)
        seed = parsed("seed", seed, Seed)
        if self.has_prompts:
            raise BadInput(f"{str(self.folder)!r} has answers to prompts: give the folder of a job of captions")
        if self.manifest.rows is None:
            raise BadInput(f"the job in {str(self.folder)!r} is not finished: run it again to resume it")

        if self.shard is not None:
            raise BadInput(
                f"{str(self.folder)!r} is a shard: join the shards (nibt batch without --shard), and open the whole job"
            )

        data = self.data()
        rows = list(self.rows(["row", "error"]))
        if len(rows) != self.manifest.rows:
            raise BadInput(
                f"the job in {str(self.folder)!r} has {len(rows)} of its {self.manifest.rows} rows: check it with "
                "nibt show --verify, and run it again to compute the others"
            )

        explained = [row["row"] for row in rows if row["error"] is None]
        drawn = set(np.random.default_rng(seed).permutation(explained)[:count].tolist())
        images: dict[ImageLocation, ImageInput] = {}
        pairs = {
            record.row: data.read(record, images)
            for record in data.records(lambda row: row in drawn)
            if record is not None
        }

        explanations: dict[int, Explanation] = {}
        for path, *_ in self.chunks().values():
            with open_table(path) as table:
                shared = shared_metadata(table)
                rows = plain_rows(table.read())
            explanations |= {row["row"]: explanation_of(row, shared) for row in rows if row["row"] in drawn}

        return [(pairs[row], explanations[row]) for row in sorted(drawn)]

    def _explained(self, values: JsonObject, shared: JsonObject) -> "Explanation | AnswerExplanation":
        """Build the explanation of a row, without its images."""
        try:
            if not self.has_prompts:
                return explanation_of(values, shared)

            from nibt.jobs.answers import answer_of

            return answer_of(values, shared)
        except (KeyError, TypeError) as error:  # of a file that another program wrote
            raise BadInput(
                f"row {values['row']} lacks what an explanation has ({type(error).__name__}: {reason(error)}): {REMEDY}"
            ) from error

    def check(self) -> list[str]:
        """Check the files of the job, and return a description of each problem.

        The list is empty if each row is stored exactly once, no part was changed, and all explanations can be read.
        """
        rows = self.manifest.rows
        size = self.chunk_size
        chunks = self.chunks()
        problems = []
        last = max(chunks, default=-1)
        if rows is None:
            problems.append("the job is not finished: run it again to resume it")
        else:
            ends = -(-rows // size) - 1
            expected = range(ends + 1) if self.shard is None else self.shard.chunks(ends + 1)
            until_last = expected[: bisect_right(expected, last)]
            beyond = expected[len(until_last) :]
            problems += [f"the file of chunk {number} is missing" for number in until_last if number not in chunks]
            if beyond:
                problems.append(f"the files of chunks {beyond[0]} to {beyond[-1]} are missing")
            problems += [f"chunk {number} is beyond the end of the job" for number in chunks if number > ends]

        for number, paths in chunks.items():
            if len(paths) > 1:
                problems.append(f"chunk {number} has {len(paths)} files: {', '.join(path.name for path in paths)}")
            stop = size * (number + 1) if rows is None else min(size * (number + 1), rows)
            problems += [problem for path in paths for problem in self._problems(path, range(size * number, stop))]

        return problems

    def tally(self) -> JsonObject:
        """Return the manifest's counts of rows and failed rows, the chunks with smaller batches, and warnings."""
        rows = 0
        errors = 0
        smaller_batches = []
        for number, (path, *_) in self.chunks().items():
            with open_table(path) as table:
                failed = table.read(columns=["error"])["error"]
                rows = rows + len(failed)
                errors = errors + len(failed) - failed.null_count
                batch_size = shared_metadata(table)["halved"]
                if batch_size is not None:
                    smaller_batches.append({"chunk": number, "batch_size": batch_size})

        counts = Counter(row["key"] for row in self.rows(["key"]) if row["key"])
        repeated = [key for key, count in counts.items() if count > 1]
        warnings = []
        if repeated:
            same = [row["row"] for row in self.rows(["row", "key"]) if row["key"] == repeated[0]]
            keys = "key occurs" if len(repeated) == 1 else "keys occur"
            warnings.append(
                f"{len(repeated):,} {keys} in more than one row, such as {repeated[0]!r} in rows "
                f"{', '.join(map(str, same[:5]))}: use the row numbers to identify rows"
            )

        return {"rows": rows, "errors": errors, "smaller_batches": smaller_batches, "warnings": warnings}

    def first_errors(self) -> Iterator[str]:
        """Yield the first different errors of failed rows, with their rows."""
        rows: dict[str, list[int]] = {}
        for row in self.rows(["row", "error"]):
            if row["error"] is not None:
                rows.setdefault(row["error"], []).append(row["row"])

        for error, numbers in list(rows.items())[:_MOST]:
            count = "" if len(numbers) == 1 else f" and {len(numbers) - 1:,} more"
            yield f"row {numbers[0]}{count}: {error}"

        if len(rows) > _MOST:
            yield f"{len(rows) - _MOST:,} other errors are in the column error of {self.folder}"

    def data(self) -> Dataset:
        """Open the data set of the job.

        Raises:
            BadInput: The data set is missing, or was an object in memory.
        """
        names = self.manifest.names
        pairs = self.manifest.request["pairs"]
        if names is None:
            raise BadInput("the pairs came from a data set in memory, which cannot be opened again: open it yourself")

        columns = ("image", "caption", "key", "split", "prompt", "answer")
        options = self.manifest.data_options
        return open_rows(names, options=options, **{name: pairs[name] for name in columns if name in pairs})

    def size_text(self) -> str:
        """Return how many rows a finished job has, or a shard those of which the whole job has ``rows``."""
        if self.shard is None:
            return f"{self.own_rows:,} rows"
        rows = self.manifest.rows or 0
        return f"{self.own_rows:,} of {rows:,} rows in shard {self.shard.number} of {self.shard.count}"

    def _row(self, row: int) -> tuple[JsonObject, JsonObject]:
        for path in self.chunks().get(row // self.chunk_size, [])[:1]:
            with open_table(path) as table:
                for values in plain_rows(table.read()):
                    if values["row"] == row:
                        return values, shared_metadata(table)

        stored = [values["row"] for values in self.rows(["row"])]  # which may be edited
        count = self.manifest.rows
        if stored and count == len(stored):
            span = f"rows are numbered from 0 to {len(stored) - 1}"
        elif count is not None and 0 <= row < count and self._shard_of(row) is not None:
            span = f"it is in shard {self._shard_of(row)}"
        elif count is not None:
            span = f"{len(stored)} of its {count} rows are stored; check it with nibt show {self.folder} --verify"
        elif stored:
            span = f"so far it has {len(stored)} rows, from {stored[0]} to {stored[-1]}; the job is not finished"
        else:
            span = "it has no rows yet; the job is not finished"

        raise BadOption(f"there is no row {row} in {str(self.folder)!r}: {span}")

    def _shard_of(self, row: int) -> str | None:
        """Return the shard that has a row, if this job is another shard."""
        chunk = row // self.chunk_size
        if self.shard is None or self.shard.has(chunk):
            return None
        return f"{chunk % self.shard.count + 1} of {self.shard.count}"

    def _located(self, wanted: Wanted) -> Iterator[tuple[Dataset, Record]]:
        """Yield the records of rows with their data set, up to the first one that is no longer there."""
        try:
            data = self.data()
            for record in data.records(wanted):
                if record is not None:
                    yield data, record
        except BadInput:
            return

    def _with_images(
        self, explanation: "Explanation | AnswerExplanation", values: JsonObject, data: Dataset, record: Record
    ) -> "Explanation | AnswerExplanation":
        """Return the explanation of a row with its images, as far as they are still at their source."""
        images = [("image", record, values["image_hash"])]
        if values.get("against_image") and record.against is not None:
            images.append(("against", record.against, values["against_hash"]))

        for side, location, digest in images:
            try:
                image = data.load_image(location)
            except BadInput:
                break
            if image.digest == digest:
                path = location.image if isinstance(location.image, str) else image.source
                explanation = change_image(explanation, side, input=image, source=path)

        return explanation

    def _problems(self, path: Path, rows: range) -> Iterator[str]:
        """Yield a description of each problem of a file that must have exactly these rows."""
        try:
            with open_table(path) as table:
                check_names("columns", ("row", "error"), table.schema_arrow.names)
                stored = plain_rows(table.read())
                shared = shared_metadata(table)
        except (BadInput, UnknownName) as error:
            yield str(error)
            return

        counts = Counter(values["row"] for values in stored)
        missing = [row for row in rows if row not in counts]
        if missing:
            yield f"{path.name} lacks {len(missing)} rows, the first is {missing[0]}"
        more = [row for row, count in counts.items() if count > 1 or row not in rows]
        if more:
            yield f"{path.name} has {len(more)} repeated or unexpected rows, the first is {min(more)}"
        for values in stored:
            if values["error"] is not None:
                continue
            try:
                self._explained({**values, "source": ""}, shared)  # without its image
            except BadInput as error:
                yield f"row {values['row']} in {path.name} has no explanation that can be read ({reason(error)})"


FILE = "README.md"


def card(job: Job) -> str:
    """Return the card of a job in Markdown."""
    manifest = job.manifest
    request = job.manifest.request
    if manifest.rows is None or "method" not in request or "target" not in request or "model" not in request:
        raise BadInput("a card needs a finished job: run it again to resume it")

    paths = next(iter(job.chunks().values()), None)
    if paths is None:
        raise BadInput(
            f"{job.folder} has no rows that a card could describe: check it with nibt show {job.folder} --verify"
        )

    with open_table(paths[0]) as table:
        columns = [(field.name, str(field.type)) for field in table.schema_arrow]
    model = request["model"]
    sessions = manifest.sessions
    what = "the words that a model wrote" if job.has_prompts else "pairs of an image and a caption"
    versions = Counter(
        f"nibt {session['versions'].get('nibt')}, torch {session['versions'].get('torch')}" for session in sessions
    )
    options = request["target"]["options"]
    compared = [*as_list(options.get("against") or []), *options.get("against_images", ())]
    against = [escape(repr(one_line(str(text))), quote=False) for text in compared]
    if column := request["pairs"].get("against"):
        against = [f"the column `{column}` of the pairs"]
    target = f"`{request['target']['name']}`" + (f" against {', '.join(against)}" if against else "")
    values = {"what": what, "method": method_text(request["method"]), "target": target, "model": model}
    paragraphs = plain_text(
        "card.md", "nibt.jobs", manifest=manifest, versions="; ".join(versions), columns=columns, **values
    )
    return "\n\n".join(paragraphs)


def write_card(job: Job, overwrite: bool = False) -> str:
    """Write the card into the folder of a job, and return it."""
    text = card(job)
    job.write_reports({FILE: text}, overwrite)
    return text
