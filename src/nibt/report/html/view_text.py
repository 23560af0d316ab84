"""The text of the view of results: what is said of maps, words and tables."""

from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10
from typing import Any

from nibt.report.html.view_data import _CONTRASTS, _STRONGEST, MOST_CELLS, Panel
from nibt.report.request import (
    legend,
    method_line,
    names_of,
    question,
    ranked_labels,
    ranked_noun,
    ranked_subjects,
    runs,
    sentence,
    side_title,
    target_line,
)
from nibt.results.answer import AnswerExplanation, is_change
from nibt.results.answer_word import AnswerWord
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import MISMATCH, Explanation
from nibt.results.notes import NO_MATCH, NO_REACTION, NOISE, WEAK_MATCH, Note
from nibt.results.regions import Regions

_LABELS = {NO_MATCH: "No match", WEAK_MATCH: "Weak match", NOISE: "Noise", NO_REACTION: "Noise"}


def heading(panel: Panel) -> str:
    """Return the title of a panel, or its caption or sources."""
    if panel.title:
        return panel.title
    if isinstance(panel.answer, AnswerExplanation):
        return panel.answer.prompt
    if isinstance(panel.answer, Explanation) and panel.answer.is_comparison:
        return " with ".join(_names(panel.answer))
    return panel.answer.caption


def _names(comparison: Explanation) -> list[str]:
    """Return the names of two images, or two captions."""
    sources = [side.source for side in comparison.sides.values()]
    return names_of(sources) if comparison.first.modality == "image" else sources


def panel_text(panel: Panel) -> dict[str, Any]:
    """Return the text of a panel: what ``view.html`` shows of it beside the images and captions."""
    result = panel.answer
    results = (result, panel.table) if panel.table else (result,)
    warnings = (warning for item in results for warning in item.other_warnings)
    no_match: tuple[str, str] | None = None  # which is shown above the map
    gravest = result.gravest
    if gravest is None and isinstance(result, Explanation) and not result.is_comparison and result.similarity < 0:
        gravest = Note(NO_MATCH, f"{MISMATCH} (similarity {result.similarity:z.3f}, which is negative)")
    if gravest is not None:
        no_match = _LABELS[gravest.code], gravest.text
    contrasts = not isinstance(result, Explanation) or result.is_comparison or result.target["name"] in _CONTRASTS
    if isinstance(result, AnswerExplanation):
        strong = f"log-probability {fixed(sum(word.log_probability for word in result.words))}"
        if result.target["name"] == "difference":
            strong += f", difference {fixed(sum(word.value for word in result.words))}"
    else:
        strong = f"similarity {fixed(result.similarity)}"
        if isinstance(result, Explanation) and "against" in result.sides:
            strong += f", difference {fixed(result.target['value'])}"
    return {
        "title": heading(panel),
        "strong": strong,
        "method": method_line(result).partition(str(result.method["name"])),
        "lead": " ".join([*([question(result)] if contrasts else []), legend(result)]),
        "mismatch": no_match,
        "unselectable": _unselectable(panel),
        "checks": result.checks if isinstance(result, Explanation) else (),
        "warnings": [*map(sentence, dict.fromkeys((*warnings, *_coarser(panel))))],
        "ranking": ranked_labels(result) if isinstance(result, Explanation) else (),
        "subjects": ranked_subjects(result) if isinstance(result, Explanation) else (),
        "ranked": ranked_noun(result) if isinstance(result, Explanation) else "",
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
        columns[heading] = signed_row(values) if is_change(heading) else [*map(fixed, values)]
    by_word = zip(result.words, zip(*columns.values(), strict=True), strict=True)
    units = {
        "log_probability": "Log-probabilities in nats: with this image, with a blank image, and the mean with other "
        "images.",
        "logit_difference": "The difference is that of the logits of its first token and of the token in the column "
        "against.",
        "difference": "The difference is the log-probability with the first image minus that with the second, in nats.",
    }[result.target["name"]]
    units += f" {sentence(result.equation, capital=False)}" if result.equation else ""
    rows = [(word.text, cells, _mostly(result, word)) for word, cells in by_word]
    return {"units": units, "headings": ("word", *columns, "mostly"), "rows": rows}


def _mostly(result: AnswerExplanation, word: AnswerWord) -> str:
    """Return the words before a word of an answer that it took most from."""
    before = [*result.prompt_words, *(earlier.text for earlier in result.words)]
    scores = [*word.prompt.tolist(), *word.earlier.tolist()]
    strongest = sorted(range(len(scores)), key=lambda place: -abs(scores[place]))[:_STRONGEST]
    mostly = [f"{before[place]} {signed(scores[place])}" for place in strongest if scores[place]]
    against = "less likely with this image" if word.image_contradicts else ""
    hardly = "the image hardly matters" if word.image_hardly_matters else against
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
            yield f"{side_title(result, name)}: completeness gap {side.path.gap_share}"
