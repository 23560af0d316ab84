"""The JSON form of answers: explanations, comparisons and word-region tables.

These records are what the files hold; their JSON Schemas are in ``docs/schemas``.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

SCHEMA = 3
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
RegionBox = tuple[float, float, float, float]
Grid = Annotated[list[list[float]], Field(min_length=1)]


_FORBID = ConfigDict(extra="forbid")


class ModelRecord(TypedDict):
    """What identifies a model, and how it prepares images."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    id: Annotated[str, Field(description="The name or the folder that it was loaded by.")]
    family: str
    weights_hash: Annotated[str, Field(description="16 hexadecimal digits.")]
    configuration_hash: Annotated[str, Field(description="16 hexadecimal digits.")]
    dtype: str
    device: str
    resize: str
    image_size: int | None
    quick_gelu: NotRequired[Annotated[bool, Field(description="Of OpenCLIP: which GELU the weights are read with.")]]


class MethodRecord(TypedDict):
    """A method with all options, resolved for each side."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    name: str
    variant: str
    seed: int | None
    signed: bool
    image: NotRequired[Annotated[dict[str, Any], Field(description="The options of the image side.")]]
    text: NotRequired[Annotated[dict[str, Any], Field(description="The options of the text side.")]]
    steps: NotRequired[Annotated[dict[str, int], Field(description="Of a word-region table: the steps on each side.")]]
    along_path: NotRequired[bool]
    auto: NotRequired[Annotated[dict[str, Any], Field(description="How layers that are auto were chosen.")]]
    baseline_hash: NotRequired[Annotated[dict[str, str], Field(description="Of files of mean states.")]]


class TargetRecord(TypedDict):
    """A target with its options."""

    target: str
    options: dict[str, Any]


class SideScoreRecord(TypedDict):
    """The target that was explained on a side, and its value."""

    target: str
    value: float


class ScoreRecord(TargetRecord):
    """A target with its options, and its value in all and on each side."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    value: Annotated[float, Field(description="The value on the first side.")]
    image: NotRequired[SideScoreRecord]
    text: NotRequired[SideScoreRecord]
    first: NotRequired[SideScoreRecord]
    second: NotRequired[SideScoreRecord]


class RequestRecord(TypedDict):
    """What is computed: the method and the target."""

    method: MethodRecord
    target: TargetRecord


class ProvenanceRecord(TypedDict):
    """What computes: the model, and the versions of packages."""

    model: ModelRecord
    versions: dict[str, str]


class MachineRecord(TypedDict):
    """A machine, without its name."""

    system: str
    architecture: str
    processor: str
    processors: int | None
    threads: int
    python: str
    accelerator: str | None


class SessionRecord(TypedDict):
    """When, with what and on what something was computed."""

    began: Annotated[str, Field(description="ISO 8601, UTC.")]
    versions: dict[str, str | None]
    machine: MachineRecord


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PathRecord(_Record):
    """How a layer was narrowed, and whether the scores are complete."""

    baseline: str
    quadrature: str
    steps: int
    layers: list[int] = Field(description="Empty for integrated gradients, whose path starts at the first tokens.")
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
    image_hash: str = Field(description="16 hexadecimal digits of the image file, or of the size and the pixels.")
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
    special: list[bool] = Field(description="Which tokens belong to no word.")
    special_share: float = Field(ge=0, le=1, description="The share of the absolute score on special tokens.")
    path: PathRecord | None


class RankedRecord(_Record):
    """A label with its cosine and its probability among the labels."""

    label: str
    cosine: float
    probability: float = Field(ge=0, le=1)


class _Answer(_Record):
    schema_: Literal[3] = Field(alias="schema")
    signature: str | None = Field(None, description="Of a file: the version of nibt, the request and a digest.")
    similarity: float = Field(description="The cosine of the two embeddings.")
    method: MethodRecord
    model: ModelRecord
    versions: dict[str, str]
    warnings: list[str]


class ExplanationRecord(_Answer):
    """An image with a caption."""

    kind: Literal["explanation"]
    score: ScoreRecord
    image: ImageRecord
    text: TextRecord
    ranking: list[RankedRecord]


class ComparisonRecord(_Answer):
    """Two images, or two captions."""

    kind: Literal["comparison"]
    score: ScoreRecord
    first: ImageRecord | TextRecord = Field(discriminator="modality")
    second: ImageRecord | TextRecord = Field(discriminator="modality")


class TableWordRecord(_Record):
    """A word that has a map."""

    text: str
    tokens: list[int]


class RestRecord(_Record):
    """The scores of rows that stand for no word or no patch."""

    image: list[float] = Field(description="Per word, the part on no patch.")
    text: Grid = Field(description="Per patch, the part of no word.")
    both: float


class InteractionRecord(_Answer):
    """The word-region table of an image with a caption."""

    kind: Literal["interaction"]
    source: str
    image_hash: str
    size: Size
    region: RegionBox
    caption: str
    words: list[TableWordRecord]
    tokens: list[str]
    special: list[bool] = Field(description="Which tokens belong to no word that has a map.")
    table: Annotated[list[Grid], Field(min_length=1)] = Field(description="Signed, words x rows x columns.")
    rest: RestRecord
    sum: float = Field(description="The sum of all scores.")
    product: float = Field(description="What the sum should be: (u - u_baseline) . (v - v_baseline).")
    gap: float = Field(description="Signed: product - sum.")
