"""The JSON form of answers: explanations, comparisons and word-region tables.

These records are what the files hold; their JSON Schemas are in ``docs/schemas``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 3
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
RegionBox = tuple[float, float, float, float]
Grid = Annotated[list[list[float]], Field(min_length=1)]


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
    method: dict[str, Any] = Field(description="Name, variant, seed, signed, and the resolved options of each side.")
    model: dict[str, Any] = Field(description="Id, family, hashes of weights and configuration, dtype, device.")
    versions: dict[str, str]
    warnings: list[str]


class ExplanationRecord(_Answer):
    """An image with a caption."""

    kind: Literal["explanation"]
    score: dict[str, Any] = Field(description="The target with its options and its value, in all and on each side.")
    image: ImageRecord
    text: TextRecord
    ranking: list[RankedRecord]


class ComparisonRecord(_Answer):
    """Two images, or two captions."""

    kind: Literal["comparison"]
    score: dict[str, Any] = Field(description="The target with its options and its value, in all and on each side.")
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
