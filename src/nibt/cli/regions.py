"""``nibt regions``, which shows which words of a caption go with which parts of an image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from nibt.cli.groups import expand_groups
from nibt.cli.inputs import InputOptions, split_inputs
from nibt.cli.options import MethodsOptions, ModelOptions, OutputOptions, set_options
from nibt.cli.output import Output, input_paths, model_name, slug, stem, suffix
from nibt.cli.terminal import show_progress

if TYPE_CHECKING:
    from nibt.results.regions import Regions


@dataclass(frozen=True, kw_only=True)
class RegionsInputOptions(InputOptions):
    """The inputs, and the words that get maps."""

    word: Annotated[
        list[str] | None, Option(metavar="WORDS", help="Words of the caption that get maps; repeatable. Default: all.")
    ] = None


@expand_groups
def regions(inputs: RegionsInputOptions, method: MethodsOptions, model: ModelOptions, output: OutputOptions) -> None:
    """Show which words of a caption go with which parts of an image: a signed table, with a map per word.

    Writes an image with a small map per word and a JSON file, or the files of --out: x.html is an interactive page,
    with several methods side by side, and x.links.pdf draws the strongest links. For nib without steps, their number
    is determined by a tolerance of 0.01.
    """
    images, captions = split_inputs(inputs.inputs, command="regions")
    specs, drawing = method.specs, output.drawing
    name_suffix = suffix(
        "regions",
        *(word for spec in specs.values() for word in spec.words),
        model_name(model.model),
        **set_options(word=inputs.word, **drawing),
    )
    read_paths = input_paths(images, model.model, *(spec.options for spec in specs.values()))
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, read_paths, drawing=drawing)
    stems = [f"{slug(stem(image))}-{slug(caption)}" for image in images for caption in captions]
    if len(specs) > 1:
        stems = [f"{name}-{slug(text)}" for text in specs for name in stems]
    targets = files.check(stems, "regions")
    from nibt.cli.console import show_regions
    from nibt.data.images import read_image
    from nibt.data.pair import read_caption
    from nibt.engine.regions import regions as compute_regions
    from nibt.engine.regions import resolve_regions
    from nibt.report.html.view_data import Panel

    pairs = [(read_image(image), read_caption(caption)) for image in images for caption in captions]
    loaded = model.loaded(files.silent)
    for spec in list(specs.values())[1:]:
        resolve_regions(loaded, spec)  # a method that the model lacks is refused before any other is computed
    tables: list[Regions] = []
    for name, spec in specs.items():
        with show_progress(f"explaining with {name}", files.silent, len(pairs)) as on_progress:
            answers: Any = compute_regions(
                loaded,
                [image for image, _ in pairs],
                [caption for _, caption in pairs],
                words=inputs.word or (),
                method=spec,
                on_progress=on_progress,
            )
        tables += answers
    titles = [name if len(specs) > 1 else "" for name in specs for _ in pairs]
    panels = [Panel(table, title=title) for table, title in zip(tables, titles, strict=True)]
    files.write(panels, targets, show_regions)
