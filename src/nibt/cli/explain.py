"""``nibt explain``: images with captions, or two images or captions; writes an image and a JSON file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from nibt.cli.groups import expand_groups
from nibt.cli.inputs import CliInputs, ExplainInputOptions
from nibt.cli.options import (
    MethodOptions,
    ModelOptions,
    OutputOptions,
    PathOptions,
    TargetOptions,
    read_lines,
    set_options,
)
from nibt.cli.output import Output, input_paths, model_name, suffix
from nibt.errors import BadOption
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.models.base import Model
    from nibt.report.html.view import Panel
    from nibt.results.explanation import Comparison, Explanation
    from nibt.results.interaction import Interaction

_NOT_OF_TABLES = {
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
}
"""Options of ``explain`` that a word-region table does not take, or takes from the explanation."""


@dataclass(frozen=True, kw_only=True)
class ExplainModelOptions(ModelOptions):
    """The model, and how much memory its states may take."""

    memory: Annotated[
        float | None, Option(help="About how many MB the states that go through the model together may take.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExplainMethodOptions(MethodOptions, PathOptions):
    """The method, with the options of NIB's path and of shifts."""

    quadrature: Annotated[str | None, Option(help="Quadrature rule on the path: riemann, gauss, geometric.")] = None
    along_path: Annotated[
        bool,
        Option(
            "--along-path",
            help="Average a method of one gradient (grad_cam) along NIB's path: --baseline, --quadrature, --steps.",
        ),
    ] = False
    shifts: Annotated[
        int | None,
        Option(help="Explain N x N shifts of an image: a map N times as fine, for N x N times the work."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ImageOutputs(OutputOptions):
    """The map and the mask as files of their own."""

    map: Annotated[
        Path | None, Option(help="Also write the map alone, gray, of the size of the image (128 is zero).")
    ] = None
    mask: Annotated[
        Path | None, Option(help="Also write a mask of the size of the image: white from --threshold up.")
    ] = None
    threshold: Annotated[float, Option(help="The threshold of the mask, as a share of the largest score.")] = 0.5

    @property
    def extra_paths(self) -> list[Path]:
        """The files of the map and the mask."""
        return [path for path in (self.map, self.mask) if path]

    def check(self, inputs: CliInputs) -> None:
        """Refuse a map or a mask of several pairs, or of two images or captions.

        Raises:
            BadOption: They are not of one image with one caption, or the threshold is not a share.

        """
        if not 0 < self.threshold <= 1:
            raise BadOption(f"threshold must be a share above 0, at most 1 (got {self.threshold})")
        if self.extra_paths and inputs.same_modality:
            raise BadOption("--map and --mask are for an image with a caption: leave them out; the JSON has both maps")
        if self.extra_paths and len(inputs.firsts) * max(1, len(inputs.seconds)) > 1:
            raise BadOption("--map and --mask are for one pair")


@expand_groups
def explain(
    inputs: ExplainInputOptions,
    output: ImageOutputs,
    model: ExplainModelOptions,
    method: ExplainMethodOptions,
    target: TargetOptions,
) -> None:
    """Explain which parts of an image, and which words of a caption, make the model match them.

    With --compare-image or --compare-caption: which parts of two images, or words of two captions, make them alike.
    Writes an image and a JSON file, into the current folder unless --out says otherwise; with --out x.html an
    interactive page, on which nib with the cosine also gives each word its region.
    """
    typed, chosen = CliInputs.of(inputs), method.chosen
    if inputs.labels is not None and (target.target != "cosine" or target.against or target.against_image):
        raise BadOption("--labels explains the first label against the second: leave --target and --against out")
    if inputs.labels is not None and target.template:
        raise BadOption("--labels explains the first label against the second: leave --template out")
    name_suffix = suffix(
        method.method if method.method != "nib" else None,
        model_name(model.model),
        method.variant if method.variant != "default" else None,
        target.target if target.target != "cosine" else None,
        **set_options(
            against=target.against,
            against_image=target.against_image,
            template=target.template,
            positive_only=output.positive_only,
        ),
        **chosen,
    )
    read_paths = input_paths(*typed.images, inputs.labels, model.model, target.against_image, chosen)
    files = Output(output.out, output.json, output.quiet, output.overwrite, name_suffix, read_paths)
    output.check(typed)
    names = files.check(*typed.stems, output.extra_paths)
    items = typed.read(read_lines(inputs.labels) if inputs.labels else None)
    loaded = model.load(files.silent)
    options = {
        "method": method.method,
        "variant": method.variant,
        "batch_size": model.batch_size,
        "seed": method.seed,
        "memory": model.memory,
        **({} if inputs.labels else target.contrast),
        **chosen,
    }
    answers = items.explain(loaded, files.silent, options)
    _write(answers, names, files, output, lambda shown: panels(loaded, shown, options, files.silent))


def _write(
    answers: "list[Explanation] | list[Comparison]", names: list[Path], files: Output, output: ImageOutputs, pages: Any
) -> None:
    from nibt.cli.console import show
    from nibt.report.image.explanation import draw
    from nibt.report.image.heatmap import map_image, mask_image

    first: Any = answers[0]  # an image with a caption, if either file is written
    images = (
        (output.map, lambda: map_image(first, output.positive_only)),
        (output.mask, lambda: mask_image(first, output.threshold)),
    )
    files.write(
        answers,
        names,
        lambda answer: draw(answer, output.positive_only),
        lambda all_answers: show(all_answers, output.positive_only, output.verbose),
        [(path, image) for path, image in images if path],
        pages,
        output.positive_only,
    )


def panels(
    model: "Model", answers: "Sequence[Explanation | Comparison]", options: dict[str, Any], quiet: bool
) -> "list[Panel]":
    """Return the panels of a page: each answer, and for nib with the cosine the word-region table beside it."""
    from nibt.cli.progress import shown
    from nibt.report.html.view import Panel
    from nibt.results.explanation import Explanation

    has_table = [
        isinstance(answer, Explanation)
        and answer.method["name"] == "nib"
        and answer.score["target"] == "cosine"
        and not answer.method.get("along_path")
        for answer in answers
    ]
    several = len({getattr(answer, "source", "") for answer in answers}) > 1
    result, done = [], 0
    with shown("words and regions", quiet, sum(has_table)) as on_progress:
        for answer, tabled in zip(answers, has_table, strict=True):
            table = None
            if tabled and isinstance(answer, Explanation):
                table, done = _table(model, answer, options), done + 1
                on_progress(Progress(done))
            title = f"{answer.caption} ({answer.source})" if several and isinstance(answer, Explanation) else ""
            result.append(Panel(answer, table, title))
    return result


def _table(model: "Model", answer: "Explanation", options: dict[str, Any]) -> "Interaction":
    """The word-region table at the layers of the explanation, without shifts."""
    from nibt.engine.interactions import explain_interactions

    layers = {f"{side}_layer": ",".join(map(str, answer.method.get(side, {})["layer"])) for side in ("image", "text")}
    others = {name: value for name, value in options.items() if name not in _NOT_OF_TABLES}
    assert answer.image.input is not None, "it was explained just now"
    table = explain_interactions(
        model, answer.image.input, answer.caption, variant=options["variant"], **layers, **others
    )
    assert not isinstance(table, list)
    return table
