"""``nibt slide``, which explains a whole slide tile by tile."""

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import BatchedModelOptions, MethodOptions, OutputOptions, is_image, set_options
from nibt.cli.output import Output, input_paths, model_name, slug, stem, suffix
from nibt.cli.terminal import Terminal, clock, interruptible, say, show_progress
from nibt.errors import BadOption
from nibt.options import ClosedShare, ImageSize, Positive, Samples
from nibt.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from nibt.slides.explain import CutSlide
    from nibt.slides.explanation import SlideExplanation

_LISTED = 5  # tiles
_MEASURED = 8  # tiles of an estimate


@dataclass(frozen=True, kw_only=True)
class SlideInputOptions(OptionGroup, panel="Input"):
    """A slide, a caption, and how the slide is cut."""

    slide: Annotated[
        str,
        Argument(
            metavar="SLIDE",
            show_default=False,
            help="A file that OpenSlide reads, such as SVS, NDPI or tiled TIFF, or any image.",
        ),
    ]
    caption: Annotated[str, Argument(metavar="CAPTION", show_default=False, help="The caption.")]
    against: Annotated[
        list[str] | None,
        Option(metavar="CAPTION", help="A caption that the tiles are compared with; repeatable."),
    ] = None
    template: Annotated[
        list[str] | None, Option(help="A template of captions with {}, for the target ensemble; repeatable.")
    ] = None
    magnification: Annotated[
        Positive | None, Option(help="The magnification at which tiles are cut. Default: that of the slide.")
    ] = None
    downsample: Annotated[
        Positive | None,
        Option(
            help="By how much tiles are smaller than at full resolution, for files without a magnification. Default: 1."
        ),
    ] = None
    tile: Annotated[ImageSize, Option(help="The side of a tile in pixels.")] = 256
    least_content: Annotated[
        ClosedShare,
        Option(help="The least share of a tile's pixels that are not blank (bright or black, without color)."),
    ] = 0.1
    most_tiles: Annotated[Samples, Option(help="The largest number of tiles that are explained.")] = 2000
    work: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="The folder that keeps tiles that are done, so that the same command goes on after it was stopped. "
            "Default: none.",
        ),
    ] = None
    estimate: Annotated[
        bool, Option("--estimate", help="Explain a few tiles, print the time that all would take, and write nothing.")
    ] = False


@expand_groups
def slide(inputs: SlideInputOptions, method: MethodOptions, model: BatchedModelOptions, output: OutputOptions) -> None:
    """Explain where on a whole slide, or on another huge image, a model finds what a caption says.

    The slide is cut into tiles. Blank ones are left out, each of the others is explained on its own, and one map of all
    tiles is written, with a JSON file. x.html is a page, and x.geojson has the tiles for viewers such as QuPath.
    """
    if is_image(inputs.caption):
        raise BadOption(f"the caption is missing: nibt slide SLIDE CAPTION (got the image {inputs.caption!r} last)")

    if inputs.estimate and (output.out or inputs.work is not None):
        raise BadOption("--estimate writes nothing: leave -o and --work out, or leave --estimate out")

    drawing = output.drawing
    cut = set_options(magnification=inputs.magnification, downsample=inputs.downsample)
    name_suffix = suffix(
        "slide",
        *method.spec.words,
        model_name(model.model),
        **cut,
        **set_options(against=inputs.against, template=inputs.template, **drawing),
    )
    read_paths = input_paths(inputs.slide, model.model, method.spec.options)
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, read_paths, drawing=drawing)
    targets = files.check([f"{stem(inputs.slide)}-{slug(inputs.caption)}"], "slide")

    from nibt.data.pair import read_caption
    from nibt.engine.spec import Request, check_options
    from nibt.engine.targets import Contrast
    from nibt.slides.explain import cut_slide, explain_tiles

    caption = read_caption(inputs.caption)
    check_options(method.spec)
    contrast = Contrast.of(inputs.against or (), (), inputs.template or ())
    request = Request(method.spec, None, contrast, batch_size=model.batch_size)
    kept = "no partial file is left"
    if inputs.work is not None:
        kept = f"the tiles that are done are kept in {inputs.work}; the same command goes on"

    with (
        interruptible(kept),
        cut_slide(
            inputs.slide,
            inputs.magnification,
            inputs.downsample,
            inputs.tile,
            inputs.least_content,
            inputs.most_tiles,
        ) as cut,
    ):
        loaded = model.loaded(files.silent)
        if inputs.estimate:
            _estimate(cut, lambda part: explain_tiles(loaded, part, caption, request, None, no_progress))
            return

        with show_progress("explaining tiles", files.silent, len(cut.places)) as on_progress:
            result = explain_tiles(loaded, cut, caption, request, inputs.work, on_progress)

    files.write([result], targets, _show)


def _estimate(cut: "CutSlide", explain: "Callable[[CutSlide], SlideExplanation]") -> None:
    """Print the number of tiles, and the time that they would take here."""
    count = len(cut.places)
    measured = cut.places[:_MEASURED]
    explain(replace(cut, places=measured))  # the first time, a model computes what it keeps
    started = perf_counter()
    explain(replace(cut, places=measured))
    seconds = (perf_counter() - started) / len(measured)
    say(
        f"{count:,} of {cut.content.size:,} tiles are not blank; {seconds:.2g} s per tile, measured here on "
        f"{len(measured)}; all of them: about {clock(seconds * count)}"
    )


def _show(results: "list[SlideExplanation]") -> None:
    """Print what a map of a slide says."""
    from nibt.cli.console import plain_table, print_title
    from nibt.report.request import sentence
    from nibt.slides.views.slide import slide_facts

    console = Terminal()
    for result in results:
        name = result.target["name"]
        print_title(console, result.source, result.caption)
        if result.mismatch:
            console.print(sentence(result.mismatch), style="bold yellow")
        table = plain_table(("tile (row.column)", name, "sum of the map", "left, top"))
        for tile in result.strongest(_LISTED):
            left, top, *_ = result.box(tile.row, tile.column)
            table.add_row(f"{tile.row}.{tile.column}", f"{tile.value:.4f}", f"{tile.sum:+.4f}", f"{left}, {top}")

        console.print(table)
        for fact in slide_facts(result):
            console.print(fact, style="yellow" if fact.startswith("note: ") else "dim", soft_wrap=True)


_EXAMPLE = 'nibt slide slide.svs "tumor cells" -m MODEL --magnification 10 -o slide.html'
COMMANDS = (Command(15, slide, examples=(_EXAMPLE,)),)
