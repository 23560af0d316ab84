"""The folder of a job: its manifest, its rows, and whether it is complete."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nibt import parquet
from nibt.datasets._opening import open_pairs
from nibt.datasets.base import Dataset
from nibt.errors import BadInput, BadOption
from nibt.jobs.manifest import Manifest
from nibt.jobs.rows import explanation_of, shared_metadata
from nibt.jobs.store import Store, is_whole
from nibt.results.explanation import Explanation, method_text

MANIFEST = "job.json"
_REMEDY = "run the job again to write this file anew"


@dataclass(frozen=True, repr=False)
class Job:
    """The folder of a job, complete or not."""

    folder: Path

    def __repr__(self) -> str:
        try:
            manifest = self.manifest
        except BadInput:
            return f"Job in {self.folder}: empty"
        lines = [f"Job in {self.folder}"]
        if manifest.request is not None:
            request = manifest.request
            method, target = method_text(request["method"]), request["target"]["target"]
            lines.append(f"  {method} explains {target}; model {request['model']['id']}")
        finished = manifest.rows is not None
        lines.append(f"  {manifest.rows:,} rows, {manifest.errors:,} failed" if finished else "  not finished")
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in manifest.warnings)])

    @classmethod
    def open(cls, folder: str | Path) -> "Job":
        """Open the job in a folder.

        Raises:
            BadInput: The folder holds no job.

        """
        job = cls(Path(folder))
        if not (job.folder / MANIFEST).is_file():
            raise BadInput(f"{str(folder)!r} holds no job (it has no {MANIFEST}): nibt batch PAIRS --out {folder}")
        job.manifest  # noqa: B018
        return job

    @property
    def is_begun(self) -> bool:
        """Whether anything was explained. Before that, the folder may take any other job.

        Raises:
            BadInput: The manifest is not of a job.

        """
        return (self.folder / MANIFEST).is_file() and self.manifest is not None and bool(self.store.parts())

    @property
    def store(self) -> Store:
        """The files of the chunks."""
        return Store(self.folder / "parts")

    @property
    def manifest(self) -> Manifest:
        """What was requested of which pairs, and what happened; ``docs/batch.md`` describes it.

        Raises:
            BadInput: It cannot be read, or another version of nibt wrote it.

        """
        return Manifest.read(self.folder / MANIFEST)

    def write(self, manifest: Manifest) -> None:
        """Write the manifest.

        Raises:
            CannotWrite: The disk is full, or the folder is closed.

        """
        manifest.write(self.folder / MANIFEST)

    @property
    def chunk_size(self) -> int:
        """Rows per file."""
        return self.manifest.layout.chunk

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows in order, as plain data; one file at a time is in memory.

        Raises:
            BadInput: A file cannot be read.

        """
        for path in self._paths():
            with parquet.readable(path, _REMEDY) as file:
                yield from file.read(columns=columns).to_pylist()

    def explanation(self, row: int) -> Explanation:
        """Return the explanation of a row, with its image if it is still at its source.

        Raises:
            BadOption: There is no such row, or it is not explained yet.
            BadInput: The row failed, or its file cannot be read.

        """
        values, shared = self._row(row)
        return self._with_image(explanation_of(values, shared), row)

    def check(self) -> list[str]:
        """Return what is wrong with the files, in plain words; empty if each row is there once, as it was written."""
        rows, size = self.manifest.rows, self.chunk_size
        parts, problems = self.store.parts(), []
        if rows is None:
            problems.append("the job is not finished: run it again to resume it")
        else:
            wanted = range(-(-rows // size))
            problems += [f"the file of chunk {number} is missing" for number in wanted if number not in parts]
            problems += [f"chunk {number} is beyond the end of the job" for number in parts if number not in wanted]
        for number, paths in parts.items():
            if len(paths) > 1:
                problems.append(f"chunk {number} has {len(paths)} files: {', '.join(path.name for path in paths)}")
            stop = size * (number + 1) if rows is None else min(size * (number + 1), rows)
            problems += [problem for path in paths for problem in _problems(path, range(size * number, stop))]
        return problems

    def tally(self) -> dict[str, Any]:
        """Count the rows and the failed rows, and list the chunks that were computed in smaller batches."""
        rows, errors, halved = 0, 0, []
        for number, (path, *_) in self.store.parts().items():
            with parquet.readable(path, _REMEDY) as file:
                failed = file.read(columns=["error"])["error"]
                rows, errors = rows + len(failed), errors + len(failed) - failed.null_count
                smaller = shared_metadata(file)["halved"]
                if smaller is not None:
                    halved.append({"chunk": number, "batch_size": smaller})
        return {"rows": rows, "errors": errors, "halved": halved, "warnings": list(self._repeated_keys())}

    def _repeated_keys(self) -> Iterator[str]:
        """A warning if several rows have the same key."""
        counts = Counter(row["key"] for row in self.rows(["key"]) if row["key"])
        repeated = [key for key, count in counts.items() if count > 1]
        if repeated:
            rows = [row["row"] for row in self.rows(["row", "key"]) if row["key"] == repeated[0]]
            keys = "key occurs" if len(repeated) == 1 else "keys occur"
            yield (
                f"{len(repeated):,} {keys} in more than one row, the first, {repeated[0]!r}, in rows "
                f"{', '.join(map(str, rows[:5]))}: they do not tell these rows apart"
            )

    def data(self) -> Dataset:
        """Open the pairs again.

        Raises:
            BadInput: They are gone, or cannot be opened by their name.

        """
        pairs = self.manifest.pairs
        if pairs.names is None:
            raise BadInput("the pairs came from a data set in memory, which cannot be opened again by its name")
        return open_pairs(pairs.names, pairs.image, pairs.caption, pairs.key, pairs.split)

    def _paths(self) -> Iterator[Path]:
        return (path for path, *_ in self.store.parts().values())

    def _row(self, row: int) -> tuple[dict[str, Any], dict[str, Any]]:
        paths = self.store.parts().get(row // self.chunk_size) if row >= 0 else None
        if not paths:
            raise BadOption(f"there is no row {row} in {str(self.folder)!r}: {self._range()}")
        with parquet.readable(paths[0], _REMEDY) as file:
            for values in file.read().to_pylist():
                if values["row"] == row:
                    return values, shared_metadata(file)
        raise BadOption(f"there is no row {row} in {str(self.folder)!r}: {self._range()}")

    def _range(self) -> str:
        """The range of rows, in words."""
        count = self.manifest.rows
        if count:
            return f"rows run from 0 to {count - 1}"
        rows = [row["row"] for row in self.rows(["row"])]
        known = f"so far it has {len(rows)} rows, from {rows[0]} to {rows[-1]}" if rows else "it has no row yet"
        return f"{known}; the job is not finished"

    def _with_image(self, explanation: Explanation, row: int) -> Explanation:
        try:
            data = self.data()
            record = next(record for record in data.records(lambda other: other == row) if record is not None)
            image = data.load_image(record)
        except (BadInput, StopIteration):
            return explanation
        if image.digest != explanation.image.image_hash:
            return explanation  # another image is there now
        source = record.image if isinstance(record.image, str) else explanation.source
        return replace(explanation, image=replace(explanation.image, input=image, source=source))


def _problems(path: Path, rows: range) -> Iterator[str]:
    """What is wrong with a file that should hold these rows."""
    try:
        if not is_whole(path):
            yield f"{path.name} was changed since it was written: {_REMEDY}"
            return
        with parquet.readable(path, _REMEDY) as file:
            counts = Counter(file.read(columns=["row"])["row"].to_pylist())
    except BadInput as error:
        yield str(error)
        return
    missing = [row for row in rows if row not in counts]
    if missing:
        yield f"{path.name} lacks {len(missing)} rows, first {missing[0]}"
    more = [row for row, count in counts.items() if count > 1 or row not in rows]
    if more:
        yield f"{path.name} has {len(more)} rows twice or too many, first {min(more)}"
