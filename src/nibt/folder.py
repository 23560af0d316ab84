"""The folder of a job, a benchmark or a ROAR run: files of finished chunks, a manifest, and one writer at a time.

The name of a file has the name of its chunk and a digest of its bytes: ``parts/00000012-3f9a62d0c1b7e845.parquet``. The
digest is compared wherever a file is read, so that no file that was changed or replaced is used. Only files that have
such a name and the digest of their bytes are ever removed, and drafts of them whose bytes they have. A run that was
killed continues with the missing chunks.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field

from nibt.data import parquet
from nibt.errors import BadInput, CannotWrite, WouldOverwrite, reason
from nibt.io import DIGITS, all_or_none, atomic_write, load_json, read_path, remove, short_digest
from nibt.options import parsed
from nibt.records import JsonObject, read_record
from nibt.results.same_request import require_same
from nibt.results.sessions import SessionRecord, session_info

MANIFEST = "manifest.json"
SCHEMA = 1
REMEDY = "move it away, and repeat the call that wrote it, such as nibt batch, to compute it again"
_LOCK = ".nibt.lock"
_PARTS = "parts"
_Manifest = TypeVar("_Manifest", bound="Manifest")


class RunSession(SessionRecord):
    """A run that wrote into the folder."""

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    chunks: Annotated[int, Field(description="The number of chunks that the session wrote.")]
    ended: Annotated[
        str | None, Field(description="complete, or the error; None if the session is running or was killed.")
    ]


class Manifest(BaseModel):
    """The manifest of a folder. Other keys, such as notes of users, are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    schema_: int = Field(SCHEMA, alias="schema")
    request: JsonObject = Field(description="What must be the same in all sessions.")
    sessions: list[RunSession] = []
    reports: dict[str, list[str]] = Field({}, description="SHA-256 digests of the reports, by file.")


@dataclass(frozen=True)
class ChunkFile:
    """The file of a finished chunk."""

    name: str
    data: bytes
    rows: int = 1
    suffix: str = ".parquet"


@dataclass(frozen=True, repr=False)
class RunFolder(Generic[_Manifest]):
    """A folder of finished work."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", read_path("folder", self.folder))

    manifest_class: ClassVar[type[Any]]  # of _Manifest, which a class variable cannot name
    chunk_pattern: ClassVar[str]
    other_request: ClassVar[str] = "Choose a new folder."
    """What to do if the folder has the results of another request."""
    other_folders: ClassVar[tuple[str, ...]] = ()
    """The names of folders that may be there before the run."""

    @property
    def manifest(self) -> _Manifest:
        """The manifest."""
        return read_manifest(self.folder, self.manifest_class)

    def update(self, **fields: object) -> None:
        """Change fields of the manifest."""
        self._write(self.manifest_class.model_validate({**self.manifest.model_dump(by_alias=True), **fields}))

    def _write(self, manifest: Manifest) -> None:
        with atomic_write(self.folder / MANIFEST) as draft:
            text = json.dumps(manifest.model_dump(by_alias=True), indent=1, default=str)
            draft.write_text(text + "\n", encoding="utf-8")

    # Requests

    @property
    def is_begun(self) -> bool:
        """Whether at least one chunk is written. Until then, the folder may be used for another request."""
        if not (self.folder / MANIFEST).is_file():
            return False

        # a damaged manifest, or one of another kind, is an error here
        return self.manifest is not None and bool(self.files())

    def require_request(self, request: Mapping[str, object]) -> None:
        """Check that the folder is new, or has results of the same request."""
        if self.folder.exists() and not self.folder.is_dir():
            raise WouldOverwrite(f"{self.folder} is a file: give a folder")

        is_run = not self.folder.exists() or (self.folder / MANIFEST).is_file()
        others = [] if is_run else [path for path in self.folder.iterdir() if path.name not in self.other_folders]
        if not all(map(_is_leftover, others)):
            raise WouldOverwrite(
                f"{str(self.folder)!r} is not empty, and has no {MANIFEST} of nibt: choose a new folder"
            )

        if self.is_begun:
            self.agree(request)

    def agree(self, values: Mapping[str, object], section: str = "request") -> None:
        """Record values in a section of the manifest, or check that they equal the recorded ones."""
        recorded = getattr(self.manifest, section)
        compared = {key: recorded[key] for key in values if key in recorded}
        require_same(self.folder, compared, {key: values[key] for key in compared}, self.other_request)
        if len(compared) < len(values):
            self.update(**{section: {**recorded, **values}})

    # Writing

    @contextmanager
    def writing(self, request: Mapping[str, object], **fields: object) -> Iterator[None]:
        """Lock the folder for a run, and write the manifest with ``fields`` if it is new.

        A run that fails before its first chunk leaves no files.
        """
        self.require_request(request)
        parts = self.folder / _PARTS

        # what the run itself creates, from the inside outwards, is removed if it fails before its first chunk
        paths = (self.folder / MANIFEST, self.folder / _LOCK, parts, self.folder, *self.folder.parents)
        was_begun = self.is_begun
        existing = {path for path in paths if path.exists()}
        try:
            parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"cannot create the folder {self.folder}: {error.strerror or error}") from error

        with self._locked():
            try:
                # once more, since another run may have begun in the folder before it was locked
                if self.is_begun:
                    self.agree(request)
                else:
                    # a manifest without chunks may have notes of its user
                    notes = (self.manifest.model_extra or {}) if (self.folder / MANIFEST).exists() else {}
                    self._write(self.manifest_class.model_validate({**notes, "request": request, **fields}))

                self._repair()
                yield
            except BaseException:
                if not was_begun and not self.is_begun:
                    remove([path for path in paths if path not in existing])
                raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the folder. The system releases it if the process dies."""
        lock = FileLock(self.folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise BadInput(
                f"another run is writing into {str(self.folder)!r}: wait until it ends, or choose a new folder"
            ) from error
        except OSError as error:
            raise CannotWrite(f"cannot write into {self.folder}: {error.strerror or error}") from error

        try:
            yield
        finally:
            lock.release()

    def fill(self, files: Iterable[ChunkFile], **execution: object) -> None:
        """Write files as they are computed, in a session that the manifest records."""
        sessions = self.manifest.sessions
        session = {**session_info(), **execution, "chunks": 0, "ended": None}
        self.update(sessions=[*sessions, session])
        try:
            for file in files:
                self.add(file)
                session["chunks"] += 1
        except BaseException as error:
            with suppress(OSError):  # a full disk must not hide the error
                self.update(sessions=[*sessions, {**session, "ended": f"{type(error).__name__}: {error}"}])
            raise

        self.update(sessions=[*sessions, {**session, "ended": "complete"}])

    def add(self, file: ChunkFile) -> None:
        """Write the file of a chunk, and remove other files of it that nibt wrote."""
        digest = sha256(file.data).hexdigest()[:DIGITS]
        path = self.folder / _PARTS / f"{file.name}-{digest}{file.suffix}"
        with atomic_write(path) as draft:
            draft.write_bytes(file.data)

        for earlier in self.files().get(file.name, []):
            if earlier != path and is_unchanged(earlier):
                earlier.unlink()

        for draft in path.parent.glob(f".{path.stem}.*{path.suffix}"):  # of a run that was killed
            if draft.is_file() and draft.stat().st_size <= len(file.data) and file.data.startswith(draft.read_bytes()):
                draft.unlink()

    def kept(self, name: str, compute: Callable[[], object]) -> Any:
        """Return the data of a chunk from its JSON file; compute and write it if there is none."""
        files = self.files().get(name)
        if files:
            return load_json(require_unchanged(files[0]))

        data = compute()
        self.add(ChunkFile(name, json.dumps(data).encode(), suffix=".json"))
        return data

    def discard(self) -> None:
        """Remove the files that nibt wrote and that nobody changed, and the folder if it is then empty."""
        files = [path for paths in self.files().values() for path in paths]
        remove(path for path in files if is_unchanged(path))

        if not self.files():
            remove([self.folder / _PARTS, self.folder / MANIFEST, self.folder / _LOCK, self.folder])

    def _repair(self) -> None:
        """Remove all but one of several files of a chunk."""
        files = self.files()
        changed = [path for paths in files.values() for path in paths if not is_unchanged(path)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise WouldOverwrite(f"{changed[0]}{more} was changed after it was written: {REMEDY}")

        # a run that was killed after it wrote a chunk anew has not removed the earlier file of it
        for _, *duplicates in files.values():
            for path in duplicates:
                path.unlink()

    # Reading

    def files(self) -> dict[str, list[Path]]:
        """Return the files of each chunk by its name, in order. An intact chunk has one file."""
        files: dict[str, list[Path]] = {}
        for path in sorted((self.folder / _PARTS).glob("[!.]*")):
            match = re.fullmatch(rf"({self.chunk_pattern})-[0-9a-f]{{{DIGITS}}}\.(parquet|json|npz)", path.name)
            if match is not None:
                files.setdefault(match[1], []).append(path)
        return files

    # Reports

    def check_reports(self, names: Sequence[str], overwrite: bool = False) -> None:
        """Check that no report was edited, and that nibt wrote those that exist."""
        overwrite = parsed("overwrite", overwrite, bool)
        digests = self.manifest.reports if (self.folder / MANIFEST).exists() else {}
        for path in (self.folder / name for name in names):
            if (path.exists() or path.is_symlink()) and not overwrite:
                digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                if digest not in digests.get(path.name, []):
                    raise WouldOverwrite(
                        f"{path} was edited, or nibt did not write it: move it, or "
                        "replace it with --overwrite (in Python overwrite=True, where the call has it)"
                    )

    def write_reports(self, reports: Mapping[str, str | bytes], overwrite: bool = False) -> list[Path]:
        """Write the reports of the run, and their digests into the manifest: edited reports are not replaced."""
        self.check_reports(list(reports), overwrite)
        digests = self.manifest.reports
        files = {
            self.folder / name: content.encode() if isinstance(content, str) else content
            for name, content in reports.items()
        }

        # the digest of the earlier report stays, since a process that is killed here may leave either of the two
        latest = {path.name: [*digests.get(path.name, [])[-1:], sha256(files[path]).hexdigest()] for path in files}
        with all_or_none():
            self.update(reports={**digests, **latest})
            for path, data in files.items():
                with atomic_write(path) as draft:
                    draft.write_bytes(data)

        return list(files)


def read_manifest(folder: Path, manifest_class: type[_Manifest]) -> _Manifest:
    """Read the manifest of a folder."""
    path = folder / MANIFEST
    expected_kind = manifest_class.model_fields["kind"].default
    try:
        data = load_json(path)
    except FileNotFoundError as error:
        lacks = f"it has no {MANIFEST}" if folder.is_dir() else "there is no such folder"
        raise BadInput(f"{str(folder)!r} has no {expected_kind} ({lacks}): give the folder of one") from error
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read as a manifest of the kind {expected_kind!r} ({reason(error)}): choose "
            "another folder, or remove this one and begin anew"
        ) from error

    if not isinstance(data, dict) or data.get("kind") != expected_kind:
        raise BadInput(f"{path} is not a manifest of the kind {expected_kind!r}: choose another folder")
    if data.get("schema") != SCHEMA:
        raise BadInput(
            f"{path} must have schema {SCHEMA} (got {data.get('schema')}): read it with the version of nibt that "
            "wrote it"
        )
    return read_record(manifest_class, data, str(path))


def is_unchanged(path: Path) -> bool:
    """Return whether the bytes of a file match the digest in its name."""
    try:
        return path.stem.rpartition("-")[2] == short_digest(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error


def require_unchanged(path: Path) -> Path:
    """Return the path of a file whose bytes match the digest in its name."""
    if not is_unchanged(path):
        raise BadInput(f"{path} was changed after it was written: {REMEDY}")
    return path


def open_table(path: Path) -> AbstractContextManager[Any]:
    """Open the file of a chunk as a ``pyarrow.parquet.ParquetFile``."""
    return parquet.open_file(require_unchanged(path), REMEDY)


def _is_leftover(path: Path) -> bool:
    """Return whether a path may be left from a run that was killed at its start: hidden, or a folder of such paths."""
    return path.name.startswith(".") or (path.is_dir() and all(map(_is_leftover, path.iterdir())))
