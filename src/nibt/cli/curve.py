"""The option ``--curve`` of ``nibt explain``: the narrowing curve of all pairs as a picture and in the pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibt.errors import BadOption

if TYPE_CHECKING:
    from nibt.models.base import Model
    from nibt.results.explanation import Explanation
    from nibt.results.narrowing import NarrowingCurve

_PATH = ("baseline", "floor", "noise", "deviation", "samples")
"""The options of NIB that a curve depends on, besides the layers."""


def check_curve(path: Path | None, method: str, along_path: bool, compares: bool) -> None:
    """Check that a narrowing curve can be drawn."""
    if path is None:
        return
    if method != "nib" or along_path:
        raise BadOption(f"--curve needs the method nib, whose path it shows (got {method}): leave --curve out")
    if compares:
        raise BadOption("--curve shows one image with one caption: leave --labels, --against and --compare out")


def curve_of(
    model: "Model", answers: "Sequence[Explanation]", options: Mapping[str, Any], quiet: bool
) -> "NarrowingCurve":
    """Compute the narrowing curves of explanations, at their layers."""
    from nibt.cli.progress import show_progress
    from nibt.engine.narrowing import narrowing_curve

    first = answers[0]
    images = [answer.image.input for answer in answers if answer.image.input is not None]  # new results have theirs
    resolved: dict[str, Any] = {
        f"{side}_layer": list(first.method.get(side, {})["layer"]) for side in ("image", "text")
    }
    own = {f"{side}{name}" for name in _PATH for side in ("", "image_", "text_")}
    resolved |= {name: value for name, value in options.items() if name in own}
    if options.get("seed") is not None:
        resolved["seed"] = options["seed"]
    with show_progress("narrowing", quiet, len(answers)) as on_progress:
        return narrowing_curve(
            model,
            images,
            [answer.caption for answer in answers],
            target=options.get("target", "cosine"),
            variant=options["variant"],
            on_progress=on_progress,
            **resolved,
        )
