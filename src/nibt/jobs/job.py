"""A job: its folder with the manifest and the files of its chunks, what they hold, and whether all of it is there."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nibt import parquet
from nibt.datasets._opening import open_pairs
from nibt.datasets.base import Dataset
from nibt.errors import BadInput, BadOption
from nibt.jobs.rows import explanation_of, told_of
from nibt.jobs.store import Store, is_whole
from nibt.results import provenance
from nibt.results.explanation import Explanation, method_text

MANIFEST = "job.json"
KIND = "nibt job"
SCHEMA = 3
_REMEDY = "run the job again, and it makes this file anew"


@dataclass(frozen=True, repr=False)
class Job:
    """The folder of a job, whole or not."""

    folder: Path

    def __repr__(self) -> str:
        try:
            manifest = self.manifest
        except BadInput:
            return f"Job in {self.folder}: nothing is there"
        lines = [f"Job in {self.folder}"]
        if manifest["asked"] is not None:
            asked = manifest["asked"]
            question = f"{method_text(asked['method'])} explains {asked['target']['target']}"
            lines.append(f"  {question}; model {asked['model']['id']}")
        finished = manifest["rows"] is not None
        lines.append(f"  {manifest['rows']:,} rows, {manifest['errors']:,} failed" if finished else "  not finished")
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in manifest["warnings"])])

    @classmethod
    def open(cls, folder: str | Path) -> "Job":
        """The job in a folder.

        Raises:
            BadInput: the folder holds no job.

        """
        job = cls(Path(folder))
        if not (job.folder / MANIFEST).is_file():
            raise BadInput(f"{str(folder)!r} holds no job (it has no {MANIFEST}): nibt batch PAIRS --out {folder}")
        job.manifest  # noqa: B018
        return job

    @property
    def is_begun(self) -> bool:
        """Whether anything was explained: a folder that was left before that may take any other job.

        Raises:
            BadInput: the manifest is not nibt's.

        """
        return (self.folder / MANIFEST).is_file() and bool(self.manifest) and bool(self.store.parts())

    @property
    def store(self) -> Store:
        return Store(self.folder / "parts")

    @property
    def manifest(self) -> dict[str, Any]:
        """What is asked, of which pairs, in which chunks, and what happened; ``docs/batch.md`` describes it.

        Raises:
            BadInput: it cannot be read, or a newer nibt wrote it.

        """
        told = provenance.read(self.folder / MANIFEST)
        if told.get("kind") != KIND:
            raise BadInput(f"{self.folder / MANIFEST} is not the manifest of a job: choose another folder")
        if told.get("schema") != SCHEMA:
            raise BadInput(
                f"{self.folder / MANIFEST} has schema {told.get('schema')} (expected {SCHEMA}): read it "
                "with the nibt that wrote it"
            )
        return told

    def write(self, told: dict[str, Any]) -> None:
        """Write the manifest.

        Raises:
            CannotWrite: the disk is full, or the folder is closed.

        """
        provenance.write(self.folder / MANIFEST, told)

    @property
    def chunk_size(self) -> int:
        return self.manifest["layout"]["chunk"]

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows that are there, in their order, as plain data; one file at a time is in memory.

        Raises:
            BadInput: a file cannot be read.

        """
        for path in self._paths():
            with parquet.readable(path, _REMEDY) as file:
                yield from file.read(columns=columns).to_pylist()

    def explanation(self, row: int) -> Explanation:
        """The answer of a row, with its image if that is still where it was.

        Raises:
            BadOption: there is no such row, or it is not explained yet.
        BadInput: it has no answer, or its file cannot be read.

        """
        told, shared = self._row(row)
        answer = explanation_of(told, shared)
        return self._with_image(answer, row)

    def check(self) -> list[str]:
        """What is wrong with the files, in plain words; nothing where each row is there once, as it was written."""
        told, size = self.manifest, self.chunk_size
        parts, problems = self.store.parts(), []
        if told["rows"] is None:
            problems.append("the job did not come to its end: run it again, and it goes on")
        else:
            wanted = range(-(-told["rows"] // size))
            problems += [f"the file of chunk {number} is lacking" for number in wanted if number not in parts]
            problems += [f"chunk {number} is beyond the end of the job" for number in parts if number not in wanted]
        for number, paths in parts.items():
            if len(paths) > 1:
                problems.append(f"chunk {number} has {len(paths)} files: {', '.join(path.name for path in paths)}")
            stop = size * (number + 1) if told["rows"] is None else min(size * (number + 1), told["rows"])
            problems += [problem for path in paths for problem in _problems(path, range(size * number, stop))]
        return problems

    def tally(self) -> dict[str, Any]:
        """How many rows are there, how many of them have no answer, and which chunks went in smaller batches."""
        rows, errors, halved = 0, 0, []
        for number, (path, *_) in self.store.parts().items():
            with parquet.readable(path, _REMEDY) as file:
                failed = file.read(columns=["error"])["error"]
                rows, errors = rows + len(failed), errors + len(failed) - failed.null_count
                told = told_of(file)
                if told["halved"] is not None:
                    halved.append({"chunk": number, "batch_size": told["halved"]})
        return {"rows": rows, "errors": errors, "halved": halved, "warnings": list(self._double_keys())}

    def _double_keys(self) -> Iterator[str]:
        """A warning where several rows have the same key."""
        counts = Counter(row["key"] for row in self.rows(["key"]) if row["key"])
        double = [key for key, count in counts.items() if count > 1]
        if double:
            rows = [row["row"] for row in self.rows(["row", "key"]) if row["key"] == double[0]]
            keys = "key stands" if len(double) == 1 else "keys stand"
            yield (
                f"{len(double):,} {keys} in more than one row, the first, {double[0]!r}, in rows "
                f"{', '.join(map(str, rows[:5]))}: they do not tell these rows apart"
            )

    def source(self) -> Dataset:
        """Where the pairs came from, opened again.

        Raises:
            BadInput: it is no longer there, or cannot be opened by its name.

        """
        told = self.manifest["pairs"]
        if told["names"] is None:
            raise BadInput("the pairs came from a data set in memory, which cannot be opened again by its name")
        return open_pairs(told["names"], told["image"], told["caption"], told["key"], told["split"])

    def _paths(self) -> Iterator[Path]:
        return (path for path, *_ in self.store.parts().values())

    def _row(self, row: int) -> tuple[dict[str, Any], dict[str, Any]]:
        there = self.store.parts().get(row // self.chunk_size) if row >= 0 else None
        if not there:
            raise BadOption(f"there is no row {row} in {str(self.folder)!r}: {self._range()}")
        with parquet.readable(there[0], _REMEDY) as file:
            for told in file.read().to_pylist():
                if told["row"] == row:
                    return told, told_of(file)
        raise BadOption(f"there is no row {row} in {str(self.folder)!r}: {self._range()}")

    def _range(self) -> str:
        """Which rows there are, in words."""
        count = self.manifest["rows"]
        if count:
            return f"rows run from 0 to {count - 1}"
        rows = [row["row"] for row in self.rows(["row"])]
        known = f"so far it has {len(rows)} rows, from {rows[0]} to {rows[-1]}" if rows else "it has no row yet"
        return f"{known}; the job is not finished"

    def _with_image(self, answer: Explanation, row: int) -> Explanation:
        try:
            source = self.source()
            record = next(record for record in source.records(lambda one: one == row) if record is not None)
            image = source.load_image(record)
        except (BadInput, StopIteration):
            return answer
        if image.digest != answer.image.image_hash:
            return answer  # another image is there now
        known = record.image if isinstance(record.image, str) else answer.source
        return replace(answer, image=replace(answer.image, input=image, source=known))


def _problems(path: Path, rows: range) -> Iterator[str]:
    """What is wrong with a file that ought to hold these rows."""
    try:
        if not is_whole(path):
            yield f"{path.name} is not as it was written: {_REMEDY}"
            return
        with parquet.readable(path, _REMEDY) as file:
            found = Counter(file.read(columns=["row"])["row"].to_pylist())
    except BadInput as error:
        yield str(error)
        return
    lacking = [row for row in rows if row not in found]
    if lacking:
        yield f"{path.name} lacks {len(lacking)} rows, first {lacking[0]}"
    more = [row for row, count in found.items() if count > 1 or row not in rows]
    if more:
        yield f"{path.name} has {len(more)} rows twice or too many, first {min(more)}"
