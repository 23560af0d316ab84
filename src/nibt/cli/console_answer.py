"""Display of answers in a terminal."""

from collections.abc import Sequence

from rich.text import Text

from nibt.cli.console import plain_table, print_title
from nibt.cli.terminal import Terminal
from nibt.generators.results.answer import AnswerExplanation, is_change
from nibt.report.request import sentence
from nibt.report.view import names_of


def show_answers(results: Sequence[AnswerExplanation]) -> None:
    """Print each word of an answer, with what it took from the image, the prompt and the words before."""
    console = Terminal()
    for result in results:
        sources = [image.source for image in result.images] or [result.source]
        print_title(console, " + ".join(names_of(sources)), result.prompt)
        console.print(Text(result.answer, style="bold"))
        texts = {"word": [word.text for word in result.words]}
        if result.alternatives:
            texts["against"] = [*result.alternatives]
        for heading, values in result.columns.items():
            texts[heading] = [f"{value:{'+' if is_change(heading) else ''}z.2f}" for value in values]
        table = plain_table([*texts])
        table.collapse_padding = True  # so that all columns fit into 80 characters
        for row in zip(*texts.values(), strict=True):
            table.add_row(*row)
        console.print(table)
        if result.equation:
            console.print(result.equation, style="dim", soft_wrap=True)
        if result.decisive_about:
            console.print(sentence(result.decisive_about, capital=False), soft_wrap=True)
        for warning in result.warnings:
            console.print(f"note: {warning}", style="yellow")
