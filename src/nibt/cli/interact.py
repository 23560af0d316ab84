"""``nibt interact``: which words of a caption go with which parts of a picture."""

from pathlib import Path
from typing import Annotated

import typer

from nibt.cli.asking import load, split
from nibt.cli.options import Device, Dtype, Fit, ImageSize, assignments, given
from nibt.cli.output import Output, stem


def interact(
    things: Annotated[list[str], typer.Argument(
        metavar="IMAGE... CAPTION...", show_default=False,
        help="Pictures (files, or sample:NAME) and then captions. Several of either: each picture with each caption.")],
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", help="The picture to write for one pair, the folder for several; or x.html: one "
        "interactive page for all. The JSON lies beside.")] = None,
    json: Annotated[str | None, typer.Option(help="Where the JSON goes; - writes it alone to standard output.")] = None,
    word: Annotated[list[str] | None, typer.Option(
        metavar="WORDS", help="Words of the caption that get maps; repeatable. Without it: all.")] = None,
    positive: Annotated[bool, typer.Option("--positive", help="Show only what speaks for the pair.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    model: Annotated[str | None, typer.Option(
        "--model", "-m", help="A model; see nibt list models. Without it: lite.")] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    fit: Fit = None,
    image_size: ImageSize = None,
    variant: Annotated[str, typer.Option(help="Of the method nib: 'default', or 'paper'.")] = "default",
    layer: Annotated[str | None, typer.Option(help="9, or 2,3,4 (averaged); for both sides.")] = None,
    image_layer: Annotated[str | None, typer.Option(help="For the image side.")] = None,
    text_layer: Annotated[str | None, typer.Option(help="For the text side.")] = None,
    reference: Annotated[str | None, typer.Option(help="Where to narrow to: zero, blank, mean, mean:FILE.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many nodes on the path.")] = None,
    other: Annotated[list[str] | None, typer.Option(
        "-O", metavar="NAME=VALUE", help="Another option of nib; repeatable.")] = None,
) -> None:  # fmt: skip
    """Show which words of a caption go with which parts of a picture: a signed table, a map for each word.

    Writes a picture with a small map a word, or with --out x.html an interactive page, and a JSON file with the table.
    """
    pictures, captions = split(things, command="interact")
    chosen = given(layer=layer, image_layer=image_layer, text_layer=text_layer, reference=reference, steps=steps)
    chosen |= assignments(other or [])
    output = Output(out, json, quiet)
    names = output.check([stem(picture) for picture in pictures], captions)
    from nibt.pair import read_caption, read_picture

    pairs = [(read_picture(picture), read_caption(caption)) for picture in pictures for caption in captions]
    ready = load(model, device, dtype, fit, image_size, output.silent)
    from nibt.cli.terminal import progress, show_regions
    from nibt.explanation import save
    from nibt.interacting import explain_interactions
    from nibt.report.regions import draw_interactions

    with progress(len(pairs), "explaining", output.silent) as done:
        shown, said = [picture for picture, _ in pairs], [caption for _, caption in pairs]
        answers = explain_interactions(ready, shown, said, words=word or (), variant=variant, on_done=done, **chosen)
    output.write(answers if isinstance(answers, list) else [answers], names,
                 lambda found: draw_interactions(found, positive), save, show_regions, positive=positive)  # fmt: skip
