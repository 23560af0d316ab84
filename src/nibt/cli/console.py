"""Display of results in a terminal (rich): colored words and tables."""

import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from nibt.cli.terminal import Terminal
from nibt.registry import available, find
from nibt.report.colors import DEFAULT, Appearance, ink_on
from nibt.report.ranked import ranked_labels, ranked_noun, ranked_subjects, side_title
from nibt.report.request import Worded, note_lines, runs, sentence, shared_word_scale, target_line
from nibt.report.view import names_of, probability_text, similarity_name, similarity_noun
from nibt.results.attribution import ImageAttribution, SideAttribution, TextAttribution
from nibt.results.base import ResultWithMaps
from nibt.results.explanation import Explanation
from nibt.results.part_scores import HEADINGS, PartScores
from nibt.results.regions import Regions


def caption(worded: Worded, look: Appearance = DEFAULT, most: float | None = None) -> Text:
    """Return a caption with the words on the colors of their scores.

    ``most`` is the largest absolute score of a scale that several captions share.
    """
    line = Text()
    for run in runs(worded, look, most):
        line.append(
            f" {run.text} ",
            style=Style(color=Color.from_rgb(*ink_on(run.background)), bgcolor=Color.from_rgb(*run.background)),
        )
        line.append(" ")

    return line


_LEFT = ("target", "against", "verdict")  # columns of text; the first column of a table has text, too
_SUMMARY = ("side", "target", "score", "baseline", "attributed", "gap", "special tokens")


def summary(explanation: Explanation) -> Table:
    """Return a table with a row per side; its gap is a share of the change, as in pictures and pages."""
    table = plain_table(_SUMMARY)
    for name, side in explanation.sides.items():
        title = side_title(explanation, name).removesuffix(" side")
        score = explanation.target[name]
        target = similarity_name(explanation) if score["name"] in ("cosine", "score") else score["name"]
        table.add_row(title, target, *balance(score["value"], side), f"{float(side.special_token_share):.0%}")

    return table


def plain_table(headings: Sequence[str]) -> Table:
    """Return an empty table with headings."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if heading in _LEFT or not place else "right")
    return table


def balance(score: float, side: SideAttribution) -> tuple[str, str, str, str]:
    """Return the score, the baseline, the attributed part and the gap as texts; the gap is that of pictures and pages.

    A difference of the rounded numbers would be another one.
    """
    path = side.path
    if path is None:
        return f"{score:.4f}", "-", "-", "-"

    value, baseline, attributed = (float(number) for number in (path.at_input, path.at_baseline, path.sum))
    return f"{value:z.4f}", f"{baseline:z.4f}", f"{attributed:+z.4f}", path.gap_share


def ranking(explanation: Explanation) -> Table:
    """Return the table of ranked labels, the best first."""
    table = plain_table((ranked_noun(explanation), similarity_name(explanation), "probability"))
    subjects = ranked_subjects(explanation)
    for label in ranked_labels(explanation):
        name = Text(label.label, "bold" if label.position in subjects else "")
        table.add_row(name, f"{label.similarity:.4f}", f"{label.probability:.1%}")
    return table


def parts(found: PartScores) -> Table:
    """Return the table of the known parts in an image."""
    table = plain_table(HEADINGS)
    for row in found.rows:
        table.add_row(*row)
    return table


def words(worded: Worded, width: int = 80) -> str:
    """Return the words with their scores, for terminals without colors. No line parts a word from its score."""
    lines = [""]
    for run in runs(worded):
        error = f" \u00b1 {run.error:.4f}" if run.error else ""
        text = f"{run.text} {run.score:+.4f}{error}"
        if lines[-1] and cell_len(lines[-1]) + 2 + cell_len(text) > width:
            lines.append("")
        lines[-1] += f"  {text}" if lines[-1] else text

    return "\n".join(lines)


def methods() -> None:
    """Print a table of the methods."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("method", "sides", "needs", "variants", "cost in forward passes", "paper"):
        table.add_column(heading, no_wrap=heading == "method")
    for name in available("methods"):
        method_class = find("methods", name)
        lists = (", ".join(values) or "-" for values in (method_class.sides, method_class.needs, method_class.variants))
        table.add_row(name, *lists, method_class.cost, method_class.paper)

    Terminal(width=None if sys.stdout.isatty() else 200).print(table)


def show(explanations: Sequence[Explanation], look: Appearance) -> None:
    """Print explanations: the words, the scores and the warnings."""
    console = Terminal()
    names = _image_names(explanations)
    for explanation in explanations:
        if explanation.is_comparison:
            sources = [side.source for side in explanation.sides.values()]
        else:
            sources = [explanation.source]

        title = " with ".join([names.get(source, source) for source in sources])
        similarity = f"{similarity_noun(explanation)} {explanation.similarity:z.4f}"
        print_title(console, title, similarity + probability_text(explanation))
        _before(console, explanation)
        if explanation.ranking:
            console.print(ranking(explanation))

        for side in explanation.sides.values():
            if isinstance(side, TextAttribution):
                if console.color_system:
                    console.print(caption(side, look, shared_word_scale(explanation)))
                else:
                    console.print(Text(words(side, console.width)), soft_wrap=True)

        console.print(summary(explanation))
        for check in explanation.checks:
            verdict = Text(f"{check.verdict}: ", style=VERDICT_STYLES[check.verdict])
            console.print(verdict.append(sentence(check.about), "not bold default"), soft_wrap=True)

        if explanation.decisive:
            console.print(sentence(explanation.decisive.about), soft_wrap=True)
        if explanation.parts:
            console.print(parts(explanation.parts))
        for line in note_lines(explanation):
            console.print(line, style="yellow")


def _image_names(results: Sequence[Explanation | Regions]) -> dict[str, str]:
    """Return the names of the images of results without their folders, as far as they still differ."""
    sources: list[str] = []
    for result in results:
        if isinstance(result, Regions):
            sources.append(result.source)
        else:
            sources += [side.source for side in result.sides.values() if isinstance(side, ImageAttribution)]

    distinct = list(dict.fromkeys(sources))
    return dict(zip(distinct, names_of(distinct), strict=True))


_SUMS = "sum: what a word and the image add together; nibt explain shows what a word adds for this image"
"""Which of two numbers of a word the table of regions has."""


def print_title(console: Console, source: str, text: str) -> None:
    """Print the names of images, which may have spaces, on one line."""
    console.print(Text(source, style="bold").append(f"  {text}", "not bold"), soft_wrap=True)


def _before(console: Console, result: ResultWithMaps) -> None:
    """Print what a reader must know before the scores: the mismatch warning, and a target other than the similarity."""
    no_match = result.mismatch
    if no_match:
        console.print(sentence(no_match), style="bold yellow")
    if target_line(result) != f"target {similarity_name(result)}":
        console.print(target_line(result), style="dim")


def show_regions(results: Sequence[Regions], methods: Sequence[str] = ()) -> None:
    """Print the sum of each word's map, with its strongest score and the position of that score.

    ``methods`` has the method of each result, if there are several.
    """
    console = Terminal()
    names = _image_names(results)
    for number, regions in enumerate(results):
        of_method = f", {methods[number]}" if methods else ""
        print_title(console, names[regions.source], f"similarity {regions.similarity:z.4f}{of_method}")
        _before(console, regions)
        table = plain_table(("word", "sum", "strongest", "at (x, y)"))
        grid = regions.grid
        region = regions.region
        for word, scores in zip(regions.words, regions.table, strict=True):
            row, column = divmod(int(scores.abs().argmax()), grid.columns)
            across = region.left + (column + 0.5) * region.width / grid.columns
            down = region.top + (row + 0.5) * region.height / grid.rows
            strongest = f"{float(scores[row, column]):+.4f}"
            table.add_row(word.text, f"{float(scores.sum()):+.4f}", strongest, f"{across:.0f}, {down:.0f}")

        console.print(table)
        sums = f"{regions.sum:+.4f}, gap {regions.gap:+.4f}"
        console.print(f"sum of all entries, with special tokens: {sums}", style="dim")
        console.print(_SUMS, style="dim")
        for line in note_lines(regions):
            console.print(line, style="yellow")


VERDICT_STYLES = {
    "pass": "bold blue",
    "no verdict": "bold",
    "warn": "bold yellow",
    "cannot tell": "bold yellow",
    "fail": "bold red",
}
