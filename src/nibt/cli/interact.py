"""``nibt interact``, which computes which words of a caption go with which parts of an image."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from nibt.cli.data import check_method_texts
from nibt.cli.groups import expand_groups
from nibt.cli.inputs import InputOptions, split_inputs
from nibt.cli.options import ModelOptions, OutputOptions, PathOptions, set_options
from nibt.cli.output import Output, input_paths, model_name, stem, suffix, with_stems
from nibt.errors import BadOption
from nibt.options import Top

if TYPE_CHECKING:
    from nibt.results.interaction import Interaction

TOP = 10


@dataclass(frozen=True, kw_only=True)
class InteractInputOptions(InputOptions):
    """The inputs, and the words that get maps."""

    word: Annotated[
        list[str] | None, Option(metavar="WORDS", help="Words of the caption that get maps; repeatable. Default: all.")
    ] = None
    method: Annotated[
        list[str] | None,
        Option(
            metavar="METHOD",
            help='The method, also with options of its own ("banzhaf budget=200"); repeatable with --out x.html, which '
            "has the tables side by side. Default: nib.",
        ),
    ] = None
    links: Annotated[
        Path | None,
        Option(metavar="FILE", help="Also draw the strongest links from words to parts of the image: x.pdf or x.png."),
    ] = None
    top: Annotated[Top, Option(help="The number of links of --links.")] = TOP
    box: Annotated[
        str | None, Option(metavar="X,Y,W,H", help="Only links into this box, in pixels of the upright image.")
    ] = None

    def __post_init__(self) -> None:
        check_method_texts(self.method or [])
        self.pixels  # noqa: B018 - a bad box is rejected before anything is read
        if self.links is None and (self.box is not None or self.top != TOP):
            raise BadOption("--top and --box are for the figure of links: give --links x.pdf")
        if self.links is not None and self.links.suffix.lower() != ".pdf":
            from nibt.report.image.explanation import check_format

            check_format(self.links)

    @property
    def pixels(self) -> tuple[int, int, int, int] | None:
        """The box."""
        if self.box is None:
            return None
        try:
            left, top, width, height = map(int, self.box.split(","))
        except ValueError as error:
            raise BadOption(f"--box must be four whole numbers x,y,width,height (got {self.box!r})") from error
        if width < 1 or height < 1:
            raise BadOption(f"--box must have a positive width and height (got {self.box!r})")
        return left, top, width, height


@expand_groups
def interact(inputs: InteractInputOptions, output: OutputOptions, model: ModelOptions, method: PathOptions) -> None:
    """Show which words of a caption go with which parts of an image: a signed table, with a map per word.

    Writes an image with a small map per word, or with --out x.html an interactive page, and a JSON file with the table.
    For nib without --steps, the number of steps is determined by a tolerance of 0.01.
    """
    images, captions = split_inputs(inputs.inputs, command="interact")
    methods = list(dict.fromkeys(inputs.method or ["nib"]))
    name_suffix = suffix(
        "interact",
        model_name(model.model),
        *(methods if methods != ["nib"] else []),
        method.variant if method.variant != "default" else None,
        **set_options(word=inputs.word, **output.drawing),
        **method.chosen,
    )
    values = [part.partition("=")[2] for name in methods for part in name.split()[1:]]
    read_paths = input_paths(images, model.model, with_stems([*method.chosen.values(), *values], images))
    files = Output(output.out, output.json, output.quiet, output.overwrite, name_suffix, read_paths)
    if len(methods) > 1 and not files.page and output.json != "-":
        raise BadOption(f"{len(methods)} methods need a page: give --out x.html")
    if inputs.links is not None and len(images) * len(captions) * len(methods) != 1:
        raise BadOption("--links needs one image, one caption and one method")
    names = files.check([stem(image) for image in images], captions, others=[path for path in [inputs.links] if path])
    from nibt.cli.console import show_regions
    from nibt.cli.progress import show_progress
    from nibt.data.images import read_image
    from nibt.data.pair import read_caption
    from nibt.engine.interactions import explain_interactions, resolve_interactions
    from nibt.methods.base import MethodSpec
    from nibt.report.html.view_data import Panel
    from nibt.report.image.interactions import draw_interactions
    from nibt.report.image.links import strongest_links

    pairs = [(read_image(image), read_caption(caption)) for image in images for caption in captions]
    loaded = model.load(files.silent)
    variants = [MethodSpec.parse(name) for name in methods]
    specs = [
        MethodSpec(
            spec.name, spec.variant if spec.variant != "default" else method.variant, {**method.chosen, **spec.options}
        )
        for spec in variants
    ]
    for spec in specs[1:]:
        resolve_interactions(loaded, spec)  # a method that the model lacks is refused before any other is computed
    tables: list[Interaction] = []
    for name, spec in zip(methods, specs, strict=True):
        with show_progress(f"explaining with {name}", files.silent, len(pairs)) as on_progress:
            answers = explain_interactions(
                loaded,
                [image for image, _ in pairs],
                [caption for _, caption in pairs],
                words=inputs.word or (),
                method=spec.name,
                variant=spec.variant,
                on_progress=on_progress,
                **spec.options,
            )
        tables += answers if isinstance(answers, list) else [answers]
    if inputs.links is not None:
        strongest_links(tables[0], inputs.top, box=inputs.pixels)  # a bad box is an error before anything is written
    titles = [name if len(methods) > 1 else "" for name in methods for _ in pairs]
    files.write(
        tables,
        names,
        lambda table: draw_interactions(table, **output.drawing),
        show_regions,
        extra=_links(inputs, output, tables),
        pages=lambda answers: [Panel(answer, title=title) for answer, title in zip(answers, titles, strict=True)],
        drawing=output.drawing,
    )


def _links(
    inputs: InteractInputOptions, output: OutputOptions, tables: "list[Interaction]"
) -> dict[Path, Callable[[Path], None]]:
    """Return the function that writes the figure of links, by its path."""
    if inputs.links is None:
        return {}
    from nibt.report.image.links import write_links

    return {
        inputs.links: lambda path: write_links(
            tables[0], path, inputs.top, box=inputs.pixels, cmap=output.cmap, overwrite=output.overwrite
        )
    }
