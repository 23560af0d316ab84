"""``nibt explain``, which explains images with captions, or compares two images or two captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from typer import Option

from nibt.cli.curve import check_curve, curve_of
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
from nibt.cli.output import Output, input_paths, model_name, suffix, with_stems
from nibt.errors import BadOption
from nibt.options import Megabytes, Share
from nibt.progress import Progress

if TYPE_CHECKING:
    from PIL import Image

    from nibt.models.base import Model
    from nibt.report.appearance import Appearance
    from nibt.report.html.view import Panel
    from nibt.results.explanation import Comparison, Explanation
    from nibt.results.interaction import Interaction
    from nibt.results.narrowing import NarrowingCurve

_NOT_OF_TABLES = {
    "amounts",
    "image_amounts",
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
}
"""Options of ``explain`` that do not apply to a word-region table, or that are taken from the explanation."""


_MAP_FILES = "--overlay, --scores, --map, --mask"


@dataclass(frozen=True, kw_only=True)
class ExplainModelOptions(ModelOptions):
    """The model, and the memory of its hidden states."""

    memory: Annotated[
        Megabytes | None,
        Option(help="The approximate memory for hidden states that go through the model together, in MB."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExplainMethodOptions(MethodOptions, PathOptions):
    """The method, with the options of NIB's path."""

    quadrature: Annotated[
        str | None, Option(help="The quadrature rule on the path: riemann, midpoint, gauss, geometric, late.")
    ] = None
    along_path: Annotated[
        bool,
        Option(
            "--along-path",
            help="Average a gradient method (grad_cam) along NIB's path: --baseline, --quadrature, --steps.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ImageOutputs(OutputOptions):
    """The outputs of ``explain``, with the overlay, the scores, the map, the mask and the boxes as separate files."""

    overlay: Annotated[
        Path | None, Option(help="Also write the map over the image without text, with the size of the image.")
    ] = None
    scores: Annotated[
        Path | None,
        Option(help="Also write the scores of the pixels to a .tif file of 32-bit floats (NaN: not seen)."),
    ] = None
    map: Annotated[
        Path | None, Option(help="Also write the map in gray, with the size of the image (128 is zero).")
    ] = None
    mask: Annotated[
        Path | None, Option(help="Also write a mask with the size of the image, which is white from --threshold up.")
    ] = None
    boxes: Annotated[
        Path | None,
        Option(help="Also write boxes and outlines of the regions from --threshold up, as a COCO file (JSON)."),
    ] = None
    curve: Annotated[
        Path | None,
        Option(
            help="Also draw the narrowing curve (nib): the score against the share, and the information, that passes."
        ),
    ] = None
    threshold: Annotated[
        Share, Option(help="The threshold of --mask and --boxes, as a share of the largest score of the map.")
    ] = 0.5

    @property
    def images(self) -> list[Path]:
        """The files of the overlay, the scores, the map and the mask."""
        return [path for path in (self.overlay, self.scores, self.map, self.mask) if path]

    def check(self, inputs: CliInputs) -> None:
        """Check that maps and boxes can be written: maps only for a single image with a caption."""
        from nibt.results.regions import check_threshold

        check_threshold(self.threshold)
        if self.scores and self.scores.suffix.lower() not in (".tif", ".tiff"):
            raise BadOption(f"--scores must end in .tif, which holds floats (got {str(self.scores)!r})")
        if (self.images or self.boxes) and inputs.same_modality:
            raise BadOption(
                f"{_MAP_FILES} and --boxes need an image with a caption: leave them out; the JSON has both maps"
            )
        if self.images and len(inputs.firsts) * max(1, len(inputs.seconds)) > 1:
            raise BadOption(f"{_MAP_FILES} need a single pair: leave them out, or give one image and one caption")


@expand_groups
def explain(
    inputs: ExplainInputOptions,
    output: ImageOutputs,
    model: ExplainModelOptions,
    method: ExplainMethodOptions,
    target: TargetOptions,
) -> None:
    """Explain which parts of an image, and which words of a caption, make the model match them.

    With --compare-image or --compare-caption, explain which parts of two images, or words of two captions, make them
    similar. Writes an image and a JSON file into the current folder or to --out. --out x.html writes an interactive
    page, which for nib and the cosine also shows the region of each word.
    """
    typed, chosen = CliInputs.of(inputs), method.chosen
    if inputs.labels is not None and (target.target != "cosine" or target.against or target.against_image):
        raise BadOption("--labels explains the best label against the second: leave --target and --against out")
    if inputs.labels is not None and target.template:
        raise BadOption("--labels explains the best label against the second: leave --template out")
    compares = [inputs.labels, target.against, target.against_image, target.template, typed.same_modality]
    check_curve(output.curve, method.method, method.along_path, any(map(bool, compares)))
    name_suffix = suffix(
        method.method if method.method != "nib" else None,
        model_name(model.model),
        method.variant if method.variant != "default" else None,
        target.target if target.target != "cosine" else None,
        **set_options(
            against=target.against,
            against_image=target.against_image,
            template=target.template,
            **output.drawing,
        ),
        **chosen,
    )
    named = with_stems(chosen.values(), typed.images or [""])
    read_paths = input_paths(*typed.images, inputs.labels, model.model, target.against_image, named)
    files = Output(output.out, output.json, output.quiet, output.overwrite, name_suffix, read_paths)
    output.check(typed)
    pictures = [*output.images, *([output.curve] if output.curve else [])]
    names = files.check(*typed.stems, pictures, [output.boxes] if output.boxes else [])
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
    curve = curve_of(loaded, cast(Any, answers), options, files.silent) if output.curve else None
    _write(answers, names, files, output, lambda shown: panels(loaded, shown, options, files.silent, curve), curve)


def _write(
    answers: "list[Explanation] | list[Comparison]",
    names: list[Path],
    files: Output,
    output: ImageOutputs,
    pages: Any,
    curve: "NarrowingCurve | None",
) -> None:
    from nibt.cli.console import show
    from nibt.report.image.curve import draw_curve
    from nibt.report.image.explanation import draw, write
    from nibt.report.image.heatmap import map_image, mask_image, score_image
    from nibt.results.coco import write_coco

    first: Any = answers[0]  # an image with a caption, if one of these files is written

    def write_image(path: Path, draw_image: Callable[..., Any], *options: Any) -> None:
        write(draw_image(first, *options), path, first.request(), output.overwrite)

    extra = {
        output.overlay: lambda path: write_image(path, _raw_overlay, output.look),
        output.scores: lambda path: write_image(path, score_image),
        output.map: lambda path: write_image(path, map_image, output.positive_only),
        output.mask: lambda path: write_image(path, mask_image, output.threshold),
        output.curve: lambda path: curve and write(draw_curve(curve), path, curve.request(), output.overwrite),
        output.boxes: lambda path: write_coco(cast(Any, answers), path, output.threshold, output.overwrite),
    }
    files.write(
        answers,
        names,
        lambda answer: draw(answer, **output.drawing),
        lambda all_answers: show(all_answers, output.look, output.verbose),
        {path: writer for path, writer in extra.items() if path},
        pages,
        output.drawing,
    )


def _raw_overlay(answer: "Explanation", look: "Appearance") -> "Image.Image":
    """Draw the map over the image in its own size."""
    from nibt.report.image.heatmap import overlay

    assert answer.image.input is not None, "a new explanation has its image"
    return overlay(answer, answer.image.input.pil_image, look)


def panels(
    model: "Model",
    answers: "Sequence[Explanation | Comparison]",
    options: dict[str, Any],
    quiet: bool,
    curve: "NarrowingCurve | None" = None,
) -> "list[Panel]":
    """Return the panels of a page: each answer with its curve and, for nib with the cosine, its word-region table."""
    from nibt.cli.progress import show_progress
    from nibt.report.html.view import Panel
    from nibt.results.explanation import Explanation

    has_table = [
        isinstance(answer, Explanation)
        and answer.method["name"] == "nib"
        and answer.score["target"] == "cosine"
        and not answer.method.get("along_path")
        and all(answer.method.get(side, {})["noise"] == "none" for side in ("image", "text"))
        for answer in answers
    ]
    several = len({getattr(answer, "source", "") for answer in answers}) > 1
    result, done = [], 0
    with show_progress("words and regions", quiet, sum(has_table)) as on_progress:
        for index, (answer, tabled) in enumerate(zip(answers, has_table, strict=True)):
            table = None
            if tabled and isinstance(answer, Explanation):
                table, done = _table(model, answer, options), done + 1
                on_progress(Progress(done))
            title = f"{answer.caption} ({answer.source})" if several and isinstance(answer, Explanation) else ""
            result.append(Panel(answer, table, title, curve=None if curve is None else curve[index]))
    return result


def _table(model: "Model", answer: "Explanation", options: dict[str, Any]) -> "Interaction":
    """Compute the word-region table of an explanation, at its layers."""
    from nibt.engine.interactions import explain_interactions

    layers = {f"{side}_layer": ",".join(map(str, answer.method.get(side, {})["layer"])) for side in ("image", "text")}
    others = {name: value for name, value in options.items() if name not in _NOT_OF_TABLES}
    assert answer.image.input is not None, "a new explanation has its image"
    table = explain_interactions(
        model, answer.image.input, answer.caption, variant=options["variant"], **layers, **others
    )
    assert not isinstance(table, list)
    return table
