"""What files show besides results: word-region tables in pages, and narrowing curves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nibt.errors import BadOption
from nibt.options import Keywords
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.methods.base import MethodSpec
    from nibt.models.base import Model
    from nibt.report.html.view_data import Panel
    from nibt.results.explanation import Explanation
    from nibt.results.narrowing import NarrowingCurve
    from nibt.results.regions import Regions

_PATH = ("baseline", "floor", "noise", "deviation", "samples", "seed")
"""The options of NIB that a curve depends on, besides the layers."""
_FROM_ANSWER = {"layer", "image_layer", "text_layer", "amounts", "image_amounts", "seed"}
"""Options that do not apply to a word-region table, or that are taken from the explanation."""


def check_curve(method: "MethodSpec", compares: bool) -> None:
    """Check that a narrowing curve can be drawn."""
    if method.name != "nib" or method.options.get("along_path"):
        raise BadOption(
            f".curve.png shows the path of the method nib, without along_path (got {method}): leave that file out"
        )
    if compares:
        raise BadOption(
            ".curve.png shows one image with one caption: leave --labels, --against and --compare out, or that file"
        )


def panels(
    model: "Model",
    answers: "Sequence[Explanation]",
    method: "MethodSpec",
    needs: set[str],
    quiet: bool,
) -> "list[Panel]":
    """Return the results with what files need: the word-region tables of nib with the cosine, and curves."""
    from nibt.cli.progress import show_progress
    from nibt.report.html.view_data import Panel

    curves = _curves(model, answers, method, quiet) if "curve" in needs else None
    tabled = ["table" in needs and _has_table(answer) for answer in answers]
    several = len({answer.source for answer in answers if not answer.is_comparison}) > 1
    result, done = [], 0
    with show_progress("words and regions", quiet or not any(tabled), sum(tabled)) as on_progress:
        for index, answer in enumerate(answers):
            table = None
            if tabled[index]:
                table, done = _table(model, answer, method), done + 1
                on_progress(Progress(done))
            title = f"{answer.caption} ({answer.source})" if several else ""
            result.append(Panel(answer, table, title, curve=None if curves is None else curves[index]))
    return result


def _has_table(answer: "Explanation") -> bool:
    """Return whether a page shows the word-region table of a result: that of nib with the cosine, without noise."""
    method = answer.method
    return (
        not answer.is_comparison
        and method["name"] == "nib"
        and answer.target["name"] == "cosine"
        and not method.get("along_path")
        and all(method.get(side, {})["noise"] == "none" for side in ("image", "text"))
    )


def _layers(answer: "Explanation") -> dict[str, list[int]]:
    """Return the layers of both sides of an explanation."""
    return {f"{side}_layer": list(answer.method.get(side, {})["layer"]) for side in ("image", "text")}


def _table(model: "Model", answer: "Explanation", method: "MethodSpec") -> "Regions":
    """Compute the word-region table of an explanation, at its layers."""
    from nibt.engine.regions import regions

    options = {name: value for name, value in method.options.items() if name not in _FROM_ANSWER}
    assert answer.image.input is not None, "a new explanation has its image"
    table: Any = regions(
        model, answer.image.input, answer.caption, variant=method.variant, **_layers(answer), **options
    )
    return table


def _curves(model: "Model", answers: "Sequence[Explanation]", method: "MethodSpec", quiet: bool) -> "NarrowingCurve":
    """Compute the narrowing curves of explanations, at their layers."""
    from nibt.cli.progress import show_progress
    from nibt.engine.narrowing import narrowing_curve

    explanations: Any = answers
    images = [answer.image.input for answer in explanations]  # new results have theirs
    captions = [answer.caption for answer in explanations]
    path_options = {f"{side}{name}" for name in _PATH for side in ("", "image_", "text_")}
    options: Keywords = {name: value for name, value in method.options.items() if name in path_options}
    with show_progress("narrowing", quiet, len(answers)) as on_progress:
        return narrowing_curve(
            model,
            images,
            captions,
            target=answers[0].target["name"],
            variant=method.variant,
            on_progress=on_progress,
            **_layers(answers[0]),
            **options,
        )
