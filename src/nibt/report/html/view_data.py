"""The data and the text of the view of results: maps, words and tables as rounded numbers, and what is said of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import Region
from nibt.errors import BadInput
from nibt.records import JsonObject
from nibt.report.image.draw import photograph
from nibt.report.image.layout import resized, uri
from nibt.report.request import WordMaps, is_signed, legend, method_line, question, runs, sentence, target_line
from nibt.results.answer import CHANGES, AnswerExplanation, AnswerWord
from nibt.results.attribution import Attribution, ImageAttribution, SideAttribution, TextAttribution
from nibt.results.base import require_result
from nibt.results.explanation import MISMATCH, WEAK, Explanation, mismatch, other_warnings
from nibt.results.regions import Regions

SIDE, QUALITY, DIGITS = 640, 85, 4  # pixels, of JPEG, significant
_NOTHING = torch.tensor(0.0, dtype=torch.float32, device="cpu")
MOST_CELLS = 64  # of a map along one axis, since methods that score pixels have hundreds of thousands of cells


@dataclass(frozen=True)
class Panel:
    """One result of a view.

    Attributes:
        answer: The result.
        table: The word-region table of the same pair, if there is one.
        title: The title.
        problem: Why there is no table.

    Raises:
        BadInput: The table belongs to another pair, or the result is not an explanation.
    """

    answer: Explanation | WordMaps
    table: Regions | None = None
    title: str = ""
    problem: str = ""

    def __post_init__(self) -> None:
        require_result(self.answer, "a page", Explanation, Regions, AnswerExplanation)
        if self.table is None:
            return
        if not isinstance(self.answer, Explanation) or self.answer.is_comparison:
            raise BadInput("a table needs an explanation of an image with a caption: leave table out")
        answer_pair, table_pair = ((result.caption, result.size) for result in (self.answer, self.table))
        if answer_pair != table_pair:
            raise BadInput(f"the table must be of the same pair as the answer, {answer_pair} (got {table_pair})")

    @property
    def words_have_maps(self) -> "WordMaps | None":
        """The table with a map for each word, if there is one."""
        return self.table if isinstance(self.answer, Explanation) else self.answer

    @property
    def sides(self) -> Mapping[str, SideAttribution]:
        """The images and captions of the panel, by name; for a table alone, its sums over words and over patches."""
        return self.answer.sides if isinstance(self.answer, Explanation) else _sums(self.answer)


@dataclass(frozen=True)
class Failure:
    """The title and the reason, as plain text, of a panel that could not be computed."""

    title: str
    message: str


EncodedImages: TypeAlias = dict[str, tuple[int, int]]
"""The images of a view, each encoded once as a data URI, with the sizes of the originals."""


def panel_data(panel: Panel, images: EncodedImages) -> JsonObject:
    """Return the data of a panel."""
    table = panel.words_have_maps
    sides = [_side(attribution, name, table, images) for name, attribution in panel.sides.items()]
    rows = [] if table is None else [rounded(coarse(grid)) for grid in table.table]
    text = "answer" if isinstance(panel.answer, AnswerExplanation) else "caption"
    return {
        "sides": sides,
        "table": None if table is None else {**_mapped(table.table, table.region, table.size), "rows": rows},
        "signed": is_signed(panel.answer),
        "text": text,
    }


def rounded(scores: Tensor) -> list[float]:
    """Flatten scores and round them to a few significant digits.

    >>> rounded(torch.tensor([[0.123456, -2.0]]))
    [0.1235, -2.0]
    """
    return [float(f"{score:.{DIGITS}g}") for score in scores.flatten().tolist()]


def _side(attribution: SideAttribution, name: str, table: WordMaps | None, images: EncodedImages) -> JsonObject:
    if isinstance(attribution, ImageAttribution):
        picture = resized(photograph(attribution.input, attribution.source), SIDE)
        encoded = uri(picture, "JPEG", quality=QUALITY)
        images.setdefault(encoded, attribution.size)
        return {
            "kind": "image",
            "name": name,
            "image": list(images).index(encoded),
            **_mapped(attribution.grid, attribution.region, attribution.size),
            "scores": rounded(coarse(attribution.grid)),
        }
    scores = rounded(torch.tensor([word.score for word in attribution.words], dtype=torch.float32, device="cpu"))
    rows = {} if table is None else {entry.tokens: row for row, entry in reversed([*enumerate(table.words)])}
    words = [
        {"text": word.text, "score": score, "row": rows.get(word.tokens)}
        for word, score in zip(attribution.words, scores, strict=True)
    ]
    return {"kind": "text", "name": name, "caption": attribution.source, "words": words}


def coarse(grid: Float[Tensor, "*word row column"]) -> Float[Tensor, "*word coarse_row coarse_column"]:
    """Return a map of at most ``MOST_CELLS`` cells along each axis, with the sums of the scores they cover."""
    down, across = (_covering(count).to(grid) for count in grid.shape[-2:])
    return down @ grid @ across.T


def _covering(count: int) -> Float[Tensor, "coarse fine"]:
    """Return the share of each of ``count`` cells in each coarser cell; the identity if there are few cells."""
    length = max(1.0, count / MOST_CELLS)
    low = length * torch.arange(min(count, MOST_CELLS), dtype=torch.float64)[:, None]
    cells = torch.arange(count, dtype=torch.float64)
    inside = torch.minimum(low + length, cells + 1) - torch.maximum(low, cells)
    return inside.clamp(0, 1)


def _mapped(grid: Tensor, region: Region, size: tuple[int, int]) -> JsonObject:
    """Return the grid, and the part of the image that it covers, relative to the image's width and height."""
    across = [region.left / size[0], region.top / size[1], region.width / size[0], region.height / size[1]]
    return {"grid": [min(count, MOST_CELLS) for count in grid.shape[-2:]], "region": across}


def _sums(table: WordMaps) -> Mapping[str, SideAttribution]:
    """Return the sum of all words' maps, and the sum of each word's map."""
    scores = torch.zeros(len(table.units.explained), dtype=torch.float32, device="cpu")
    for word, grid in zip(table.words, table.table, strict=True):
        scores[word.tokens[0]] = grid.sum()
    image = Attribution(table.table.sum(0).flatten(), table.grid, _NOTHING)
    text = Attribution(scores, table.units, _NOTHING)
    return {
        "image": ImageAttribution.of(
            image, source=table.source, region=table.region, size=table.size, input=table.input
        ),
        "text": TextAttribution.of(text, table.caption),
    }


_STRONGEST = 3  # words that the row of an answer's word names
_CONTRASTS = ("difference", "softmax", "centered")  # targets whose question names other captions


def heading(panel: Panel) -> str:
    """Return the title of a panel, or its caption or sources."""
    if panel.title:
        return panel.title
    if isinstance(panel.answer, AnswerExplanation):
        return panel.answer.prompt
    if isinstance(panel.answer, Explanation) and panel.answer.is_comparison:
        return " with ".join(side.source for side in panel.answer.sides.values())
    return panel.answer.caption


def panel_text(panel: Panel) -> dict[str, Any]:
    """Return the text of a panel: what ``view.html`` shows of it beside the images and captions."""
    result = panel.answer
    results = (result, panel.table) if panel.table else (result,)
    warnings = (warning for item in results for warning in other_warnings(item.warnings))
    no_match: tuple[str, str] | None = None  # which is shown above the map
    warning = mismatch(result.warnings)
    if not warning and isinstance(result, Explanation) and not result.is_comparison and result.similarity < 0:
        warning = f"{MISMATCH} (similarity {result.similarity:z.3f}, which is negative)"
    if warning:
        label = "No match" if warning.startswith(MISMATCH) else "Weak match" if warning.startswith(WEAK) else "Noise"
        no_match = label, warning
    contrasts = not isinstance(result, Explanation) or result.is_comparison or result.target["name"] in _CONTRASTS
    if isinstance(result, AnswerExplanation):
        strong = f"log-probability {fixed(sum(word.log_probability for word in result.words))}"
    else:
        strong = f"similarity {fixed(result.similarity)}"
    return {
        "title": heading(panel),
        "strong": strong,
        "method": method_line(result).partition(str(result.method["name"])),
        "lead": " ".join([*([question(result)] if contrasts else []), legend(result)]),
        "mismatch": no_match,
        "unselectable": _unselectable(panel),
        "checks": result.checks if isinstance(result, Explanation) else (),
        "warnings": [*map(sentence, dict.fromkeys((*warnings, *_coarser(panel))))],
        "ranking": result.ranking if isinstance(result, Explanation) else (),
        "answer": _answer_table(result) if isinstance(result, AnswerExplanation) else None,
        "numbers": "; ".join([target_line(result), *_gaps(panel)]),
        "facts": _facts(panel),
    }


def scored_words(attribution: TextAttribution) -> list[tuple[str, str]]:
    """Return the words of a caption with their scores."""
    listed = list(runs(attribution))
    return [*zip((run.text for run in listed), signed_row([run.score for run in listed]), strict=True)]


def signed(score: float) -> str:
    r"""Return a score for display, with a minus sign instead of a hyphen.

    >>> signed(0.12345), signed(-2.0) == "\u22122"
    ('+0.123', True)
    """
    if 0 < abs(score) < 0.001:
        digits, power = f"{score:+.1e}".split("e")
        return f"{digits}e{int(power)}".replace("-", "\u2212")
    return f"{score:+.3g}".replace("-", "\u2212")


def fixed(value: float) -> str:
    """Return a similarity with three decimals, and a minus sign instead of a hyphen."""
    return f"{value:z.3f}".replace("-", "\u2212")


def signed_row(scores: Sequence[float]) -> list[str]:
    r"""Return scores for display side by side, with the same decimals: three digits of the largest.

    >>> signed_row([0.1371, 0.00019])
    ['+0.137', '+0.000']
    >>> signed_row([0.0]), signed_row([0.02, -0.00001])
    (['+0.00'], ['+0.0200', '+0.0000'])
    """
    largest = max(map(abs, scores), default=0.0)
    if 0 < largest < 1e-6:
        return [signed(score) for score in scores]
    decimals = max(0, 2 - floor(log10(largest))) if largest else 2
    return [f"{score:+z.{decimals}f}".replace("-", "\u2212") for score in scores]


def _unselectable(panel: Panel) -> str:
    """Return why no word can be selected; empty if words can."""
    result = panel.answer
    if panel.words_have_maps is not None or not isinstance(result, Explanation):
        return ""
    if result.is_comparison:
        if any(isinstance(side, ImageAttribution) for side in panel.sides.values()):
            return ""
        reason = "a comparison of two captions has no image whose regions a word could show"
    elif panel.problem:
        reason = panel.problem
    elif result.method["name"] != "nib":
        reason = (
            f"{result.method['name']} gives each word a score, but no map; the method nib computes a word-region table"
        )
    elif result.target["name"] != "cosine":
        reason = f"the word-region table explains the cosine, not the target {result.target['name']}"
    elif any(result.method.get(side, {}).get("noise", "none") != "none" for side in ("image", "text")):
        reason = "the word-region table is computed without noise"
    else:
        reason = "the word-region table was not computed for this answer"
    return sentence(reason, capital=False)


def _answer_table(result: AnswerExplanation) -> dict[str, Any]:
    """Return the words of an answer, with what each took from the image, the prompt and the words before."""
    columns = {"against": [*result.alternatives]} if result.alternatives else {}
    for heading, values in result.columns.items():
        columns[heading] = signed_row(values) if heading in CHANGES else [*map(fixed, values)]
    by_word = zip(result.words, zip(*columns.values(), strict=True), strict=True)
    units = (
        "The difference is that of the logits of its first token and of the token in the column against."
        if result.alternatives
        else "Log-probabilities in nats: with this image, with a blank image, and the mean with other images."
    )
    units += f" {sentence(result.equation, capital=False)}" if result.equation else ""
    rows = [(word.text, cells, _mostly(result, word)) for word, cells in by_word]
    return {"units": units, "headings": ("word", *columns, "mostly"), "rows": rows}


def _mostly(result: AnswerExplanation, word: AnswerWord) -> str:
    """Return the words before a word of an answer that it took most from."""
    before = [*result.prompt_words, *(earlier.text for earlier in result.words)]
    scores = [*word.prompt.tolist(), *word.earlier.tolist()]
    strongest = sorted(range(len(scores)), key=lambda place: -abs(scores[place]))[:_STRONGEST]
    mostly = [f"{before[place]} {signed(scores[place])}" for place in strongest if scores[place]]
    hardly = "the image hardly matters" if word.image_hardly_matters else ""
    return "; ".join(filter(None, [hardly, ", ".join(mostly)]))


def _facts(panel: Panel) -> list[tuple[str, str]]:
    """Return the names and values under the details: the inputs, the resolved options, the model and the versions."""
    result = panel.answer
    facts = {"method": result.method, "model": result.model, "versions": result.versions}
    if not isinstance(result, Regions):
        facts |= {"target": dict(result.target)}
    else:
        facts |= {"sum": f"{float(result.scores.sum()):.6g}", "expected sum": f"{result.product:.6g}"}
    return [*((name, side.source) for name, side in panel.sides.items()), *_flat("", facts)]


def _coarser(panel: Panel) -> Iterator[str]:
    for side in panel.sides.values():
        if isinstance(side, ImageAttribution) and max(side.grid.shape) > MOST_CELLS:
            rows, columns = side.grid.shape
            yield (
                f"the map has {rows} x {columns} cells: this page shows sums over larger cells, at most {MOST_CELLS} "
                "along an axis; the JSON file has all cells"
            )


def _flat(name: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{name}{key} ", value)
        elif value is not None and value != []:
            yield f"{name}{key}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _gaps(panel: Panel) -> Iterator[str]:
    """Yield the completeness gaps of a panel."""
    result, table = panel.answer, panel.words_have_maps
    if isinstance(table, Regions):
        yield f"word-region table: total {signed(table.sum)}, gap {signed(table.gap)}"
    if not isinstance(result, Explanation):
        return
    for name, side in result.sides.items():
        if side.path is not None:
            yield f"{name} completeness gap {side.path.gap_share}"
