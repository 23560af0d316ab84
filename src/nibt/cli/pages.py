"""What a page shows of the answers of a command: each with its word-region table, where there is one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.report.html.view import Panel
    from nibt.results.explanation import Comparison, Explanation
    from nibt.results.interaction import Interaction

_NOT_NIBS = (
    "method",
    "variant",
    "batch_size",
    "seed",
    "memory",
    "target",
    "against",
    "against_images",
    "templates",
    "layer",
    "image_layer",
    "text_layer",
    "shifts",
)


def explained(
    model: Any, answers: "Sequence[Explanation | Comparison]", options: dict[str, Any], quiet: bool
) -> "list[Panel]":
    """The answers; those of nib to the cosine with the table of the same settings, so that words can be chosen."""
    from nibt.cli.progress import shown
    from nibt.report.html.view import Panel
    from nibt.results.explanation import Explanation

    tabled = [
        isinstance(one, Explanation)
        and one.method["name"] == "nib"
        and one.score["target"] == "cosine"
        and not one.method.get("along_path")
        for one in answers
    ]
    several = len({getattr(answer, "source", "") for answer in answers}) > 1
    panels = []
    with shown("words and regions", quiet, sum(tabled)) as on_progress:
        done = 0
        for answer, wanted in zip(answers, tabled, strict=True):
            table = None
            if wanted and isinstance(answer, Explanation):
                table, done = _table(model, answer, options), done + 1
                on_progress(Progress(done))
            named = f"{answer.caption} ({answer.source})" if several and isinstance(answer, Explanation) else ""
            panels.append(Panel(answer, table, named))
    return panels


def _table(model: Any, answer: "Explanation", options: dict[str, Any]) -> "Interaction":
    """The table at the answer's own layers. It is of the image as it stands, whatever shifts were asked for."""
    from nibt.engine.interactions import explain_interactions

    layers = {f"{side}_layer": ",".join(map(str, answer.method[side]["layer"])) for side in ("image", "text")}
    others = {name: value for name, value in options.items() if name not in _NOT_NIBS}
    assert answer.image.input is not None, "it was explained just now"
    found = explain_interactions(
        model, answer.image.input, answer.caption, variant=options["variant"], **layers, **others
    )
    assert not isinstance(found, list)
    return found
