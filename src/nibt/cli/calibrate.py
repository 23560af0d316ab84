"""``nibt calibrate``: the mean states of a model over the user's own images and captions."""

from pathlib import Path
from typing import Annotated

import typer

from nibt.cli import options as option
from nibt.cli.options import lines
from nibt.cli.output import input_paths
from nibt.errors import BadOption


def calibrate(
    model: Annotated[str, typer.Argument(help="A model; see nibt list models.")],
    images: Annotated[list[str] | None, typer.Argument(help="Images, the more the better.")] = None,
    captions: Annotated[Path | None, typer.Option(help="A file with a caption a line.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write (safetensors).")] = None,
    layers: Annotated[str | None, typer.Option(help="Only these layers, as 2,3,4; all of them otherwise.")] = None,
    device: option.Device = "cpu",
    dtype: option.Dtype = "float32",
    resize: option.Resize = None,
    image_size: option.ImageSize = None,
    batch_size: option.BatchSize = 8,
    overwrite: option.Overwrite = False,
) -> None:
    """Make the mean states of a model, to narrow toward: nibt explain ... --baseline mean:FILE."""
    if out is None:
        raise BadOption("say where the mean states go: --out FILE")
    from nibt.cli.progress import shown
    from nibt.engine.calibrate import calibrate as run
    from nibt.models._loading import load_model
    from nibt.outputs import check_targets

    check_targets([out], input_paths(model, images, captions), overwrite)
    said = lines(captions) if captions else []
    chosen = None if layers is None else [_whole(part) for part in layers.split(",")]
    ready = load_model(model, device=device, dtype=dtype, resize=resize, image_size=image_size)
    with shown("calibrating", quiet=False) as on_progress:
        run(
            ready,
            images or [],
            said,
            out,
            layers=chosen,
            batch_size=batch_size,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    typer.echo(f"wrote {out}: the mean over {len(images or [])} images and {len(said)} captions")
    if not (images and said):
        side, give = ("text", "captions: --captions FILE") if images else ("image", "images")
        typer.echo(f"the {side} side keeps its default baseline; to serve it, too, give {give}")


def _whole(part: str) -> int:
    try:
        return int(part)
    except ValueError as error:
        raise BadOption(f"layers must be whole numbers, as 2,3,4 (got {part!r})") from error
