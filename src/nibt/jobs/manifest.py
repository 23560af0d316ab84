"""The manifest of a job: what was requested of which pairs, and what happened."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nibt.errors import BadInput
from nibt.records import read_record
from nibt.results import provenance
from nibt.results.records import ProvenanceRecord, RequestRecord, SessionRecord

KIND = "nibt job"
SCHEMA = 3


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class PairsRecord(_Record):
    """Where the pairs come from: the names that were given, what identifies them, and the columns."""

    names: list[str] | None = Field(description="None for a data set in memory, which cannot be opened by its name.")
    image: str
    caption: str
    key: str | None
    split: str | None


class Layout(_Record):
    """How rows are cut into files."""

    chunk: int = Field(ge=1, description="Rows per file.")
    ids: str = "the positions of rows, from 0"
    files: str = "parts/CHUNK-HASH.parquet"


class SmallerBatch(_Record):
    """A chunk that was computed in smaller batches, since memory ran out."""

    chunk: int
    batch_size: int


class JobRequest(RequestRecord, ProvenanceRecord):
    """The resolved request of a job, with the model and the versions of packages."""

    targets: Annotated[dict[str, str], Field(description="The target of each side.")]
    batch_size: int
    warnings: list[str]


class JobSession(SessionRecord):
    """A run of a job."""

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    number: int
    on: Annotated[str, Field(description="local or ray; for ray, the numbers of workers and of their CPUs and GPUs.")]
    recomputed: Annotated[list[str], Field(description="Files that were removed, since they had been changed.")]
    chunks: Annotated[int, Field(description="Files that were written.")]
    ended: Annotated[str | None, Field(description="complete, or the error; None while it runs or if it was killed.")]


class Manifest(_Record):
    """The manifest; fields are None until they are known."""

    kind: str = KIND
    schema_: int = Field(SCHEMA, alias="schema")
    pairs: PairsRecord
    layout: Layout
    request: JobRequest | None = None
    rows: int | None = None
    errors: int | None = None
    halved: list[SmallerBatch] | None = None
    warnings: list[str] = []
    sessions: list[JobSession] = []
    reports: dict[str, list[str]] = {}

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            BadInput: It cannot be read, it is of something else, or another version of nibt wrote it.

        """
        data = provenance.read_json(path)
        if data.get("kind") != KIND:
            raise BadInput(f"{path} is not the manifest of a job: choose another folder")
        if data.get("schema") != SCHEMA:
            raise BadInput(
                f"{path} has schema {data.get('schema')} (expected {SCHEMA}): read it with the nibt that wrote it"
            )
        return read_record(cls, data, str(path))

    def write(self, path: Path) -> None:
        """Write the manifest, whole or not at all.

        Raises:
            CannotWrite: The disk is full, or the folder is closed.

        """
        provenance.write_json(path, self.model_dump(by_alias=True))

    def updated(self, **fields: Any) -> "Manifest":
        """Return the manifest with other values."""
        return self.model_validate({**self.model_dump(by_alias=True), **fields})
