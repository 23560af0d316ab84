"""``nibt explain``: images with captions, or with their own kind, in; an image and a JSON file out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nibt.cli import options as option
from nibt.cli.inputs import CliInputs, CliItems, load
from nibt.cli.options import given, lines, method_options
from nibt.cli.output import Output, input_paths, model_name, suffix
from nibt.cli.pages import explained
from nibt.errors import BadOption

if TYPE_CHECKING:
    from nibt.report.html.page import Shown
    from nibt.results.explanation import Comparison, Explanation


def explain(
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... CAPTION...",
            show_default=False,
            help="EncodedImages (files, or sample:NAME) and then captions. Several of either: each image with "
            "each caption.",
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A file with a label a line: they are ranked, and the first is explained against the second."
        ),
    ] = None,
    compare_image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Compare images with this one: every thing is an image.")
    ] = None,
    compare_caption: Annotated[
        str | None, typer.Option(metavar="CAPTION", help="Compare captions with this one: every thing is a caption.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            rich_help_panel=option.OUTPUT,
            help="The image to write for one pair, the folder for several; or x.html: one interactive page "
            "for all. The "
            "JSON file lies beside it.",
        ),
    ] = None,
    json: option.Json = None,
    map: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=option.OUTPUT, help="Also write the map alone, grey, of the original's size (128 is zero)."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=option.OUTPUT, help="Also write a mask of the original's size: white from --threshold up."
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(rich_help_panel=option.OUTPUT, help="The mask's threshold, as a share of the largest score."),
    ] = 0.5,
    positive_only: option.Positive = False,
    overwrite: option.Overwrite = False,
    verbose: option.Verbose = False,
    quiet: option.Quiet = False,
    model: option.Model = None,
    device: option.Device = "cpu",
    dtype: option.Dtype = "float32",
    resize: option.Resize = None,
    image_size: option.ImageSize = None,
    batch_size: option.BatchSize = 8,
    memory: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=option.MODEL, help="About how many MB the states that go through together may take."
        ),
    ] = None,
    method: option.Method = "nib",
    variant: option.Variant = "default",
    target: option.Target = "cosine",
    against: option.Against = None,
    against_image: option.AgainstImage = None,
    template: option.Template = None,
    layer: option.Layer = None,
    image_layer: option.ImageLayer = None,
    text_layer: option.TextLayer = None,
    baseline: option.Baseline = None,
    quadrature: Annotated[
        str | None, typer.Option(rich_help_panel=option.METHOD, help="Nodes on the path: riemann, gauss, geometric.")
    ] = None,
    steps: option.Steps = None,
    tolerance: option.Tolerance = None,
    along_path: Annotated[
        bool,
        typer.Option(
            "--along-path",
            rich_help_panel=option.METHOD,
            help="Average a method of one gradient (grad_cam) along NIB's path: --baseline, --quadrature, --steps.",
        ),
    ] = False,
    shifts: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=option.METHOD,
            help="Explain N x N shifts of an image: a map N times as fine, for N x N times the work.",
        ),
    ] = None,
    seed: option.Seed = None,
    other: option.Other = None,
) -> None:
    """Explain which parts of an image, and which words of a caption, make the model think that they belong together.

    With --compare-image or --compare-caption: which parts of two images, or words of two captions, make them alike.
    Writes an image and a JSON file, into the current folder unless --out says otherwise; with --out x.html a page that
    answers to clicks, where nib and the cosine also give each word its region.
    """
    typed = CliItems.read(things, labels is not None, compare_image, compare_caption)
    chosen = given(
        layer=layer,
        image_layer=image_layer,
        text_layer=text_layer,
        baseline=baseline,
        quadrature=quadrature,
        steps=steps,
        tolerance=tolerance,
        along_path=along_path or None,
        shifts=shifts,
    )
    chosen = method_options(other, chosen)
    if labels is not None and (target != "cosine" or against or against_image or template):
        raise BadOption("--labels explains the first label against the second: leave --target and --against out")
    extra = ImageOutputs(map, mask, threshold, positive_only, verbose)
    names_of = suffix(
        method if method != "nib" else None,
        model_name(model),
        variant if variant != "default" else None,
        target if target != "cosine" else None,
        **given(against=against, against_image=against_image, template=template, positive_only=positive_only or None),
        **chosen,
    )
    inputs = input_paths(*typed.images, labels, model, against_image, chosen)
    output = Output(out, json, quiet, overwrite, names_of, inputs)
    extra.check(typed)
    names = output.check(*typed.stems, extra.paths)
    asked = CliInputs(typed, lines(labels) if labels else [], labels is not None)
    contrast = (
        {"target": target, "against": against or (), "against_images": against_image or (), "templates": template or ()}
        if labels is None
        else {}
    )
    ready = load(model, device, dtype, resize, image_size, output.silent)
    options = {
        "method": method,
        "variant": variant,
        "batch_size": batch_size,
        "seed": seed,
        "memory": memory,
        **contrast,
        **chosen,
    }
    answers = asked.answers(ready, output.silent, options)
    extra.write(answers, names, output, lambda found: explained(ready, found, options, output.silent))


@dataclass(frozen=True)
class ImageOutputs:
    """The map and the mask alone, and whether only what speaks for the pair is shown."""

    map: Path | None
    mask: Path | None
    threshold: float
    positive_only: bool
    verbose: bool = False

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.map, self.mask) if path]

    def check(self, things: CliItems) -> None:
        """Refuse what has no meaning for these things."""
        if not 0 < self.threshold <= 1:
            raise BadOption(f"threshold must be a share above 0, at most 1 (got {self.threshold})")
        if self.paths and things.one_kind:
            raise BadOption("--map and --mask are for an image with a caption: leave them out; the JSON has both maps")
        if self.paths and len(things.firsts) * max(1, len(things.seconds)) > 1:
            raise BadOption("--map and --mask are for one pair")

    def write(
        self,
        answers: "list[Explanation] | list[Comparison]",
        names: list[Path],
        output: Output,
        pages: "Callable[[Sequence[Any]], Sequence[Shown]]",
    ) -> None:
        from nibt.cli.console import show
        from nibt.report.image.explanation import draw
        from nibt.report.image.heatmap import map_image, mask_image

        one: Any = answers[0]  # an image with a caption, where either file was asked for
        images = (
            (self.map, lambda: map_image(one, self.positive_only)),
            (self.mask, lambda: mask_image(one, self.threshold)),
        )
        output.write(
            answers,
            names,
            lambda answer: draw(answer, self.positive_only),
            lambda found: show(found, self.positive_only, self.verbose),
            [(path, image) for path, image in images if path],
            pages,
            self.positive_only,
        )
