"""What is asked on a command line: which of the things are pictures and which captions, and of which model."""

from pathlib import Path
from typing import Any

import typer

from nibt.cli.options import THE_PAPERS
from nibt.errors import BadOption

_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".avif", ".jp2", ".ico"}


def split(things: list[str], labelled: bool = False, command: str = "explain") -> tuple[list[str], list[str]]:
    """Pictures and captions: the first is a picture, and so is what follows and looks like one.

    >>> split(["a.jpg", "b.png", "a cat", "c.png"])
    (['a.jpg', 'b.png'], ['a cat', 'c.png'])

    """
    count = next((n for n, thing in enumerate(things) if n and not _is_picture(thing)), len(things))
    pictures, captions = things[:count], things[count:]
    if labelled and captions:
        raise BadOption(f"with --labels there are no captions besides (got {captions[0]!r})")
    if not labelled and not captions:
        beside = " (or --labels FILE)" if command == "explain" else ""
        raise BadOption(f"give a caption, too: nibt {command} IMAGE CAPTION{beside}")
    return pictures, captions


def _is_picture(thing: str) -> bool:
    return thing.startswith("sample:") or Path(thing).suffix.lower() in _PICTURES or Path(thing).is_file()


def load(model: str | None, device: str, dtype: str, fit: str | None, image_size: int | None, quiet: bool) -> Any:
    """The model that was asked for, or lite, which is then named."""
    if model is None and not quiet:
        typer.echo(f"The model is lite, which ships with nibt and knows ImageNet's world. The paper's: -m {THE_PAPERS}",
                   err=True)  # fmt: skip
    from nibt.loading import load_model

    return load_model(model or "lite", device=device, dtype=dtype, fit=fit, image_size=image_size)
