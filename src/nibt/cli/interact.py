"""``nibt interact``: which words of a caption go with which parts of an image."""

from pathlib import Path
from typing import Annotated

import typer

from nibt.cli import options as option
from nibt.cli.inputs import load, split
from nibt.cli.options import given, method_options
from nibt.cli.output import Output, input_paths, model_name, stem, suffix


def interact(
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... CAPTION...",
            show_default=False,
            help="EncodedImages (files, or sample:NAME) and then captions. Several of either: each image with "
            "each caption.",
        ),
    ],
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
    word: Annotated[
        list[str] | None,
        typer.Option(metavar="WORDS", help="Words of the caption that get maps; repeatable. Without it: all."),
    ] = None,
    positive_only: option.Positive = False,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
    model: option.Model = None,
    device: option.Device = "cpu",
    dtype: option.Dtype = "float32",
    resize: option.Resize = None,
    image_size: option.ImageSize = None,
    variant: option.Variant = "default",
    layer: option.Layer = None,
    image_layer: option.ImageLayer = None,
    text_layer: option.TextLayer = None,
    baseline: option.Baseline = None,
    steps: option.Steps = None,
    tolerance: option.Tolerance = None,
    other: option.Other = None,
) -> None:
    """Show which words of a caption go with which parts of an image: a signed table, a map for each word.

    Writes an image with a small map a word, or with --out x.html an interactive page, and a JSON file with the table.
    Without --steps there are as many nodes as a tolerance of 0.01 asks for.
    """
    images, captions = split(things, command="interact")
    chosen = given(
        layer=layer,
        image_layer=image_layer,
        text_layer=text_layer,
        baseline=baseline,
        steps=steps,
        tolerance=tolerance,
    )
    chosen = method_options(other, chosen)
    names_of = suffix(
        "interact",
        model_name(model),
        variant if variant != "default" else None,
        **given(word=word, positive_only=positive_only or None),
        **chosen,
    )
    output = Output(out, json, quiet, overwrite, names_of, input_paths(images, model, chosen))
    names = output.check([stem(image) for image in images], captions)
    from nibt.data.images import read_image
    from nibt.data.pair import read_caption

    pairs = [(read_image(image), read_caption(caption)) for image in images for caption in captions]
    ready = load(model, device, dtype, resize, image_size, output.silent)
    from nibt.cli.console import show_regions
    from nibt.cli.progress import shown
    from nibt.engine.interactions import explain_interactions
    from nibt.report.image.interactions import draw_interactions

    with shown("explaining", output.silent) as on_progress:
        shown, said = [image for image, _ in pairs], [caption for _, caption in pairs]
        answers = explain_interactions(
            ready, shown, said, words=word or (), variant=variant, on_progress=on_progress, **chosen
        )
    output.write(
        answers if isinstance(answers, list) else [answers],
        names,
        lambda found: draw_interactions(found, positive_only),
        show_regions,
        positive_only=positive_only,
    )
