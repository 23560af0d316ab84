"""The manifest of a job: its pairs, its request and its sessions."""

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
    """The source of the pairs: their names, their columns, and what identifies the data set."""

    names: list[str] | None = Field(description="The absolute paths; None for a data set in memory.")
    image: str
    caption: str
    key: str | None
    split: str | None


class Layout(_Record):
    """The layout of the files of rows."""

    chunk: int = Field(ge=1, description="The number of rows per file.")
    ids: str = "the positions of rows, from 0"
    files: str = "parts/CHUNK-HASH.parquet"


class SmallerBatch(_Record):
    """A chunk that was computed in smaller batches because memory ran out."""

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
    on: Annotated[
        str, Field(description="local or ray; ray adds the numbers of workers, and of CPUs and GPUs of each.")
    ]
    chunks: Annotated[int, Field(description="The number of files that the session wrote.")]
    ended: Annotated[
        str | None, Field(description="complete, or the error; None if the session is running or was killed.")
    ]


class Manifest(_Record):
    """The manifest of a job. Fields are None until they are known."""

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
        """Read a manifest."""
        data = provenance.read_json(path)
        if data.get("kind") != KIND:
            raise BadInput(f"{path} is not the manifest of a job: choose another folder")
        if data.get("schema") != SCHEMA:
            raise BadInput(
                f"{path} must have schema {SCHEMA} (got {data.get('schema')}): read it with the version of nibt that "
                "wrote it"
            )
        return read_record(cls, data, str(path))

    def write(self, path: Path) -> None:
        """Write the manifest, completely or not at all."""
        provenance.write_json(path, self.model_dump(by_alias=True))

    def updated(self, **fields: Any) -> "Manifest":
        """Return a copy of the manifest with other values of some fields."""
        return self.model_validate({**self.model_dump(by_alias=True), **fields})
