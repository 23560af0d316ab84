"""The text of the view, which needs no script: question, method, notes and warnings."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import floor, log10
from typing import Any

from nibt.report.html.view_data import MOST_CELLS, Panel
from nibt.report.request import legend, method_line, question, sentence, target_line
from nibt.report.words import runs
from nibt.results.answer import CHANGES, AnswerExplanation, AnswerWord
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import MISMATCH, WEAK, Explanation, mismatch, other_warnings
from nibt.results.regions import Regions

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


def about(panel: Panel, help_url: str = "") -> str:
    """Return the similarity, the method and the model, and what the colors mean."""
    result = panel.answer
    method, reading = escape(method_line(result)), ""
    if help_url:
        name = escape(str(result.method["name"]))
        method = method.replace(name, f'<a href="{help_url}#{name}">{name}</a>', 1)
        reading = f' <a href="{help_url}#reading">How to read this</a>'
    contrasts = not isinstance(result, Explanation) or result.is_comparison or result.target["name"] in _CONTRASTS
    lead = " ".join([*([question(result)] if contrasts else []), legend(result)])
    if isinstance(result, AnswerExplanation):
        strong = f"log-probability {_fixed(sum(word.log_probability for word in result.words))}"
    else:
        strong = f"similarity {_fixed(result.similarity)}"
    return (
        f'<p class="nibt-about"><strong>{strong}</strong>, {method}</p>'
        f'<p class="nibt-question" dir="auto">{escape(lead)}{reading}</p>'
    )


def no_match(panel: Panel) -> str:
    """Return the warning that the pair hardly or not matches or the map is noise, which is shown above the map."""
    result = panel.answer
    warning = mismatch(result.warnings)
    if not warning and isinstance(result, Explanation) and not result.is_comparison and result.similarity < 0:
        warning = f"{MISMATCH} (similarity {result.similarity:z.3f}, which is negative)"
    if not warning:
        return ""
    label = "No match" if warning.startswith(MISMATCH) else "Weak match" if warning.startswith(WEAK) else "Noise"
    return f'<p class="nibt-mismatch" role="note"><strong>{label}.</strong> {escape(sentence(warning))}</p>'


def words(attribution: TextAttribution, name: str) -> str:
    """Return the words of a caption with their scores."""
    listed = list(runs(attribution))
    spans = "".join(
        f'<span class="nibt-word"><span>{escape(run.text)}</span><small dir="ltr">{score}</small></span> '
        for run, score in zip(listed, signed_row([run.score for run in listed]), strict=True)
    )
    label = f' aria-label="{name} caption"' if name else ' aria-label="words of the caption"'
    return f'<div class="nibt-words" role="group" dir="auto"{label}>{spans}</div>'


def signed(score: float) -> str:
    r"""Return a score for display, with a minus sign instead of a hyphen.

    >>> signed(0.12345), signed(-2.0) == "\u22122"
    ('+0.123', True)
    """
    if 0 < abs(score) < 0.001:
        digits, power = f"{score:+.1e}".split("e")
        return f"{digits}e{int(power)}".replace("-", "\u2212")
    return f"{score:+.3g}".replace("-", "\u2212")


def _fixed(value: float) -> str:
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


def selection_note(panel: Panel) -> str:
    """Return a note that says why no word can be selected, if none can."""
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
    return f'<p class="nibt-note">Words cannot be selected here: {escape(sentence(reason, capital=False))}</p>'


def warnings(panel: Panel) -> str:
    """Return the warnings of a panel."""
    results = (panel.answer, panel.table) if panel.table else (panel.answer,)
    texts = dict.fromkeys(
        (*(warning for item in results for warning in other_warnings(item.warnings)), *_coarser(panel))
    )
    return _items("warnings", "notes", [escape(sentence(warning)) for warning in texts])


def _items(name: str, label: str, items: Sequence[str]) -> str:
    lines = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="nibt-{name}" aria-label="{label}">{lines}</ul>' if items else ""


def checks(panel: Panel) -> str:
    """Return the checks of the map of the image."""
    listed = panel.answer.checks if isinstance(panel.answer, Explanation) else ()
    texts = [f"<strong>{check.verdict}</strong>: {escape(sentence(check.about))}" for check in listed]
    return _items("checks", "checks", texts)


def ranking(panel: Panel) -> str:
    """Return the labels from best to worst, with bars."""
    if not isinstance(panel.answer, Explanation) or not panel.answer.ranking:
        return ""
    rows = "".join(
        f'<tr><th scope="row" dir="auto">{escape(item.label)}</th><td>{_fixed(item.cosine)}</td>'
        f"<td>{item.probability:.1%}</td>"
        f'<td><svg class="nibt-bar" viewBox="0 0 100 10" width="100" height="10" aria-hidden="true">'
        f'<rect width="{100 * item.probability:.1f}" height="10" rx="2"></rect></svg></td></tr>'
        for item in panel.answer.ranking
    )
    return (
        '<table class="nibt-ranking"><caption>Labels</caption><thead><tr><th scope="col">label</th><th scope="col">'
        'cosine</th><th scope="col" colspan="2">probability</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def answer_table(panel: Panel) -> str:
    """Return the words of an answer, with what each took from the image, the prompt and the words before."""
    result = panel.answer
    if not isinstance(result, AnswerExplanation):
        return ""
    columns = {"against": [*result.alternatives]} if result.alternatives else {}
    for heading, values in result.columns.items():
        columns[heading] = signed_row(values) if heading in CHANGES else [*map(_fixed, values)]
    heads = ("word", *columns, "mostly")
    by_word = zip(result.words, zip(*columns.values(), strict=True), strict=True)
    rows = "".join(_answer_row(result, word, row) for word, row in by_word)
    units = (
        "The difference is that of the logits of its first token and of the token in the column against."
        if result.alternatives
        else "Log-probabilities in nats: with this image, with a blank image, and the mean with other images."
    )
    headings = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return (
        '<table class="nibt-answer"><caption>What each word took from the image, the prompt and the words before it. '
        f"{units}</caption><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _answer_row(result: AnswerExplanation, word: AnswerWord, cells: Sequence[str]) -> str:
    before = [*result.prompt_words, *(earlier.text for earlier in result.words)]
    scores = [*word.prompt.tolist(), *word.earlier.tolist()]
    strongest = sorted(range(len(scores)), key=lambda place: -abs(scores[place]))[:_STRONGEST]
    mostly = ", ".join(f"{before[place]} {signed(scores[place])}" for place in strongest if scores[place])
    if word.image_hardly_matters:
        mostly = f"the image hardly matters; {mostly}" if mostly else "the image hardly matters"
    data = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row" dir="auto">{escape(word.text)}</th>{data}<td dir="auto">{escape(mostly)}</td></tr>'


def details(panel: Panel) -> str:
    """Return the sums, the targets, the completeness gaps, the resolved options, the model and the versions."""
    result = panel.answer
    facts = {"method": result.method, "model": result.model, "versions": result.versions}
    if not isinstance(result, Regions):
        facts |= {"target": dict(result.target)}
    else:
        facts |= {"sum": f"{float(result.scores.sum()):.6g}", "expected sum": f"{result.product:.6g}"}
    rows = [*((name, side.source) for name, side in panel.sides.items()), *_flat("", facts)]
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    numbers = "; ".join(map(escape, (target_line(result), *_gaps(panel))))
    return (
        f'<details class="nibt-details"><summary>Details</summary><p class="nibt-sums"></p><p>{numbers}</p>'
        f"<dl>{lines}</dl></details>"
    )


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
        path = side.path
        if path is not None:
            change = float(path.at_input - path.at_baseline)
            yield f"{name} completeness gap {_share(abs(float(path.gap)), change)}"


def _share(gap: float, change: float) -> str:
    r"""Return a gap relative to the change of the score.

    >>> _share(0.001, -0.1), _share(0.1, 0.0)
    ('1\xa0%', '0.1 (there is no change)')
    """
    return f"{100 * gap / abs(change):.2g}\u00a0%" if change else f"{gap:.2g} (there is no change)"
