"""``nibt interact``, which computes which words of a caption go with which parts of an image."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from nibt.cli.groups import expand_groups
from nibt.cli.inputs import InputOptions, split_inputs
from nibt.cli.options import ModelOptions, OutputOptions, PathOptions, check_name, set_options
from nibt.cli.output import Output, input_paths, model_name, stem, suffix


@dataclass(frozen=True, kw_only=True)
class InteractInputOptions(InputOptions):
    """The inputs, and the words that get maps."""

    word: Annotated[
        list[str] | None, Option(metavar="WORDS", help="Words of the caption that get maps; repeatable. Default: all.")
    ] = None
    method: Annotated[
        str, Option(help="The method; other than nib for models with late interaction only, such as ColPali.")
    ] = "nib"

    def __post_init__(self) -> None:
        check_name("methods", self.method)


@expand_groups
def interact(inputs: InteractInputOptions, output: OutputOptions, model: ModelOptions, method: PathOptions) -> None:
    """Show which words of a caption go with which parts of an image: a signed table, with a map per word.

    Writes an image with a small map per word, or with --out x.html an interactive page, and a JSON file with the table.
    Without --steps, the number of steps is determined by a tolerance of 0.01.
    """
    images, captions = split_inputs(inputs.inputs, command="interact")
    chosen = method.chosen
    name_suffix = suffix(
        "interact",
        model_name(model.model),
        inputs.method if inputs.method != "nib" else None,
        method.variant if method.variant != "default" else None,
        **set_options(word=inputs.word, **output.drawing),
        **chosen,
    )
    read_paths = input_paths(images, model.model, chosen)
    files = Output(output.out, output.json, output.quiet, output.overwrite, name_suffix, read_paths)
    names = files.check([stem(image) for image in images], captions)
    from nibt.cli.console import show_regions
    from nibt.cli.progress import show_progress
    from nibt.data.images import read_image
    from nibt.data.pair import read_caption
    from nibt.engine.interactions import explain_interactions
    from nibt.report.image.interactions import draw_interactions

    pairs = [(read_image(image), read_caption(caption)) for image in images for caption in captions]
    loaded = model.load(files.silent)
    with show_progress("explaining", files.silent, len(pairs)) as on_progress:
        tables = explain_interactions(
            loaded,
            [image for image, _ in pairs],
            [caption for _, caption in pairs],
            words=inputs.word or (),
            method=inputs.method,
            variant=method.variant,
            on_progress=on_progress,
            **chosen,
        )
    files.write(
        tables if isinstance(tables, list) else [tables],
        names,
        lambda table: draw_interactions(table, **output.drawing),
        show_regions,
        drawing=output.drawing,
    )
