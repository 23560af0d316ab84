"""The manifest of a job."""

from typing import Annotated, Required

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from nibt.folder import Manifest
from nibt.records import JsonObject
from nibt.results.records import MethodRecord, TargetRecord
from nibt.types import ModelRecord


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
    rows: int | None = None
    errors: int | None = None
    smaller_batches: list[SmallerBatch] | None = None
    warnings: list[str] = Field([], description="Keys that occur in more than one row.")
