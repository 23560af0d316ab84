"""Records of the JSON form of explanations, comparisons and word-region tables.

Their JSON Schemas are in ``docs/schemas``.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from nibt.types import ModelRecord

SCHEMA = 3
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
RegionBox = tuple[float, float, float, float]
Grid = Annotated[list[list[float]], Field(min_length=1)]


_FORBID = ConfigDict(extra="forbid")


class MethodRecord(TypedDict):
    """A method with its resolved options on each side."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    name: str
    variant: str
    seed: int | None
    signed: bool
    image: NotRequired[Annotated[dict[str, Any], Field(description="The options of the image side.")]]
    text: NotRequired[Annotated[dict[str, Any], Field(description="The options of the text side.")]]
    steps: NotRequired[
        Annotated[dict[str, int], Field(description="Word-region tables only: the number of steps on each side.")]
    ]
    along_path: NotRequired[bool]
    auto: NotRequired[Annotated[dict[str, Any], Field(description='How layers were chosen for layer="auto".')]]
    files: NotRequired[
        Annotated[dict[str, str], Field(description="Digests of the files that options name: mean states, segments.")]
    ]


class TargetRecord(TypedDict):
    """A target with its options."""

    target: str
    options: dict[str, Any]


class SideScoreRecord(TypedDict):
    """The target that was explained on a side, and its value."""

    target: str
    value: float


class ScoreRecord(TargetRecord):
    """A target with its options, and its value on each side."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    value: Annotated[float, Field(description="The value on the first side.")]
    image: NotRequired[SideScoreRecord]
    text: NotRequired[SideScoreRecord]
    first: NotRequired[SideScoreRecord]
    second: NotRequired[SideScoreRecord]


class RequestRecord(TypedDict):
    """The method and the target of a request."""

    method: MethodRecord
    target: TargetRecord


class ProvenanceRecord(TypedDict):
    """The model and the versions of packages."""

    model: ModelRecord
    versions: dict[str, str]


class MachineRecord(TypedDict):
    """The machine, without its host name."""

    system: str
    architecture: str
    processor: str
    processors: int | None
    threads: int
    python: str
    accelerator: str | None


class SessionRecord(TypedDict):
    """The date, the package versions and the machine of a computation."""

    began: Annotated[str, Field(description="ISO 8601, UTC.")]
    versions: dict[str, str | None]
    machine: MachineRecord


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PathRecord(_Record):
    """The path from the baseline to the input, and how complete the scores along it are."""

    baseline: str
    quadrature: str
    steps: int
    layers: list[int] = Field(description="Empty for integrated gradients, whose path is at the input tokens.")
    tolerance: float | None
    at_input: float
    at_baseline: float
    sum: float = Field(description="The sum of the scores of all tokens.")
    gap: float = Field(description="Signed: at_input - at_baseline - sum.")


class WordRecord(_Record):
    """A word with its signed score, the sum of the scores of its tokens."""

    text: str
    score: float
    tokens: list[int] = Field(description="The positions of its tokens.")


class ImageRecord(_Record):
    """The attribution of an image."""

    modality: Literal["image"]
    source: str
    image_hash: str = Field(description="16 hexadecimal digits: a hash of the image file, or of the size and pixels.")
    size: Size = Field(description="Width and height of the upright image, in pixels.")
    region: RegionBox = Field(description="Left, top, width and height of the part that the grid covers, in pixels.")
    grid: Grid = Field(description="Signed scores, rows x columns.")
    special_share: float = Field(ge=0, le=1, description="The share of the absolute score on special tokens.")
    path: PathRecord | None


class TextRecord(_Record):
    """The attribution of a caption."""

    modality: Literal["text"]
    caption: str
    words: list[WordRecord]
    tokens: list[str]
    scores: list[float] = Field(description="Signed, one per token; 0 for special tokens.")
    special: list[bool] = Field(description="Whether each token belongs to no word.")
    special_share: float = Field(ge=0, le=1, description="The share of the absolute score on special tokens.")
    path: PathRecord | None


class RankedRecord(_Record):
    """A label with its cosine and its probability among the labels."""

    label: str
    cosine: float
    probability: float = Field(ge=0, le=1)


class _Answer(_Record):
    schema_: Literal[3] = Field(alias="schema")
    signature: str | None = Field(None, description="Files only: the version of nibt, the request and a digest.")
    similarity: float = Field(description="The cosine of the two embeddings.")
    method: MethodRecord
    model: ModelRecord
    versions: dict[str, str]
    warnings: list[str]


class ExplanationRecord(_Answer):
    """An explanation of an image with a caption."""

    kind: Literal["explanation"]
    score: ScoreRecord
    image: ImageRecord
    text: TextRecord
    ranking: list[RankedRecord]


class ComparisonRecord(_Answer):
    """A comparison of two images or two captions."""

    kind: Literal["comparison"]
    score: ScoreRecord
    first: ImageRecord | TextRecord = Field(discriminator="modality")
    second: ImageRecord | TextRecord = Field(discriminator="modality")


class TableWordRecord(_Record):
    """A word that has a map."""

    text: str
    tokens: list[int]


class RestRecord(_Record):
    """The scores outside of the table, of tokens that belong to no word or no patch."""

    image: list[float] = Field(description="The score of each word on image tokens that are no patches.")
    text: Grid = Field(description="The score of each patch for tokens that belong to no word with a map.")
    both: float


class RegionsRecord(_Answer):
    """The word-region table of an image with a caption."""

    kind: Literal["regions"]
    source: str
    image_hash: str
    size: Size
    region: RegionBox
    caption: str
    words: list[TableWordRecord]
    tokens: list[str]
    special: list[bool] = Field(description="Whether each token belongs to no word with a map.")
    table: Annotated[list[Grid], Field(min_length=1)] = Field(description="Signed, words x rows x columns.")
    rest: RestRecord
    sum: float = Field(description="The sum of all scores.")
    product: float = Field(description="The exact sum: (u - u_baseline) . (v - v_baseline).")
    gap: float = Field(description="Signed: product - sum.")
