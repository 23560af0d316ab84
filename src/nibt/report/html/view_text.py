"""The text of the view of results: what is said of maps, words and tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from math import floor, log10
from typing import Any

from nibt.report.colors import DEFAULT, css
from nibt.report.html.view_data import _CONTRASTS, MOST_CELLS, QUALITY, Panel
from nibt.report.image.known_parts import cells_of_parts, colors
from nibt.report.image.layout import uri
from nibt.report.ranked import ranked_labels, ranked_noun, ranked_subjects, side_title
from nibt.report.request import legend, method_line, question, runs, sentence, target_line
from nibt.report.view import similarity_name, view_of
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import MISMATCH, Explanation
from nibt.results.notes import NO_MATCH, NO_REACTION, NOISE, WEAK_MATCH, Note
from nibt.results.part_scores import HEADINGS
from nibt.results.regions import Regions, why_no_table

_LABELS = {NO_MATCH: "No match", WEAK_MATCH: "Weak match", NOISE: "Noise", NO_REACTION: "Noise"}


def heading(panel: Panel) -> str:
    """Return the title of a panel, or its caption or sources."""
    if panel.title:
        return panel.title
    return view_of(panel.answer).heading(panel.answer)


def panel_text(panel: Panel) -> dict[str, Any]:
    """Return the text of a panel: what ``view.html`` shows of it beside the images and captions."""
    result = panel.answer
    results = (result, panel.table) if panel.table else (result,)
    warnings = (warning for item in results for warning in item.other_warnings)
    no_match: tuple[str, str] | None = None  # which is shown above the map
    gravest = result.gravest
    compares_by_cosine = similarity_name(result) == "cosine"  # the zero of logits says nothing
    if compares_by_cosine and gravest is None and isinstance(result, Explanation) and not result.is_comparison:
        gravest = _negative(result)
    if gravest is not None:
        no_match = _LABELS[gravest.code], gravest.text
    contrasts = not isinstance(result, Explanation) or result.is_comparison or result.target["name"] in _CONTRASTS
    return {
        "title": heading(panel),
        "strong": view_of(result).strong(result),
        "method": method_line(result).partition(str(result.method["name"])),
        "lead": question(result) if contrasts else "",
        "legends": [legend(result), legend(result, replace(DEFAULT, positive_only=True))],
        "mismatch": no_match,
        "unselectable": _unselectable(panel),
        "checks": result.checks if isinstance(result, Explanation) else (),
        "warnings": [*map(sentence, dict.fromkeys((*warnings, *_coarser(panel))))],
        "ranking": ranked_labels(result) if isinstance(result, Explanation) else (),
        "subjects": ranked_subjects(result) if isinstance(result, Explanation) else (),
        "compared": similarity_name(result),
        "ranked": ranked_noun(result) if isinstance(result, Explanation) else "",
        "parts": _parts(result) if isinstance(result, Explanation) and result.parts else None,
        "answer": view_of(result).word_table(result),
        "numbers": "; ".join([target_line(result), *_gaps(panel)]),
        "facts": _facts(panel),
    }


def _negative(explanation: Explanation) -> Note | None:
    """Return the note on a negative cosine."""
    if explanation.similarity >= 0:
        return None
    return Note(NO_MATCH, f"{MISMATCH} (similarity {explanation.similarity:z.3f}, which is negative)")


def _parts(explanation: Explanation) -> dict[str, Any]:
    """Return the table of the known parts in an image, with the color of each row and the picture of their cells."""
    found = explanation.parts
    assert found is not None
    rows = [(*row, color) for row, color in zip_longest(found.rows, map(css, colors(found)))]
    return {
        "headings": HEADINGS,
        "rows": rows,
        "picture": uri(cells_of_parts(explanation), "JPEG", quality=QUALITY),
    }


def scored_words(attribution: TextAttribution) -> list[tuple[str, str]]:
    """Return the words of a caption with their scores."""
    listed = list(runs(attribution))
    scores = signed_row([run.score for run in listed])
    errors = [f" \u00b1 {run.error:.2g}" if run.error else "" for run in listed]
    return [(run.text, score + error) for run, score, error in zip(listed, scores, errors, strict=True)]


def signed(score: float) -> str:
    r"""Return a score for display, with a minus sign instead of a hyphen.

    >>> signed(0.12345), signed(-2.0) == "\u22122"
    ('+0.123', True)
    """
    if 0 < abs(score) < 0.001:
        digits, power = f"{score:+.1e}".split("e")
        return f"{digits}e{int(power)}".replace("-", "\u2212")
    return f"{score:+.3g}".replace("-", "\u2212")


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
    else:
        reason = why_no_table(result) or "the word-region table was not computed for this answer"

    return sentence(reason, capital=False)


def _facts(panel: Panel) -> list[tuple[str, str]]:
    """Return the names and values under the details: the inputs, the resolved options, the model and the versions."""
    result = panel.answer
    facts = {"method": result.method, "model": result.model, "versions": result.versions}
    facts |= view_of(result).facts(result)
    return [*((name, side.source) for name, side in panel.sides.items()), *_flat("", facts)]


def _coarser(panel: Panel) -> Iterator[str]:
    for side in panel.sides.values():
        if isinstance(side, ImageAttribution) and max(side.grid.shape) > MOST_CELLS:
            rows, columns = side.grid.shape
            yield (
                f"the map has {rows} x {columns} cells: this page shows sums over larger cells, at most {MOST_CELLS} "
                "along an axis; the JSON file has all cells"
            )


def _flat(name: str, data: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{name}{key} ", value)
        elif value is not None and value != []:
            yield f"{name}{key}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _gaps(panel: Panel) -> Iterator[str]:
    """Yield the completeness gaps of a panel."""
    result = panel.answer
    table = panel.words_have_maps
    if isinstance(table, Regions):
        yield f"word-region table: total {signed(table.sum)}, gap {signed(table.gap)}"
    if not isinstance(result, Explanation):
        return

    for name, side in result.sides.items():
        if side.path is not None:
            yield f"{side_title(result, name)}: completeness gap {side.path.gap_share}"
