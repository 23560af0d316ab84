"""``nibt explain``: pictures and captions in, a picture and a JSON file out."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nibt.cli.options import (
    THE_PAPERS,
    BatchSize,
    Device,
    Dtype,
    Fit,
    ImageSize,
    assignments,
    given,
    lines,
)
from nibt.errors import BadOption, CannotWrite

if TYPE_CHECKING:
    from nibt.explanation import Explanation

_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".avif", ".jp2", ".ico"}
_METHOD, _OUTPUT, _MODEL = "The method", "What is written", "The model"
Many = list[str]


def explain(
    things: Annotated[Many, typer.Argument(
        metavar="IMAGE... CAPTION...", show_default=False,
        help="Pictures (files, or sample:NAME) and then captions. Several of either: each picture with each caption.")],
    labels: Annotated[Path | None, typer.Option(
        help="A file with a label a line: they are ranked, and the first is explained against the second.")] = None,
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", rich_help_panel=_OUTPUT,
        help="The picture to write for one pair, the folder for several. The JSON file lies beside it.")] = None,
    json: Annotated[str | None, typer.Option(
        rich_help_panel=_OUTPUT, help="Where the JSON goes; - writes it alone to standard output.")] = None,
    map: Annotated[Path | None, typer.Option(
        rich_help_panel=_OUTPUT, help="Also write the map alone, grey, of the original's size (128 is zero).")] = None,
    mask: Annotated[Path | None, typer.Option(
        rich_help_panel=_OUTPUT, help="Also write a mask of the original's size: white from --threshold up.")] = None,
    threshold: Annotated[float, typer.Option(
        rich_help_panel=_OUTPUT, help="The mask's threshold, as a share of the largest score.")] = 0.5,
    positive: Annotated[bool, typer.Option(
        "--positive", rich_help_panel=_OUTPUT, help="Show only what speaks for the caption.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=_OUTPUT, help="Print nothing.")] = False,
    model: Annotated[str | None, typer.Option(
        "--model", "-m", rich_help_panel=_MODEL, help="A model; see nibt list models. Without it: lite.")] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    fit: Fit = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = 8,
    method: Annotated[str, typer.Option(rich_help_panel=_METHOD, help="See nibt list methods.")] = "nib",
    variant: Annotated[str, typer.Option(
        rich_help_panel=_METHOD, help="'default', or 'paper' for the published setting.")] = "default",
    target: Annotated[str, typer.Option(
        rich_help_panel=_METHOD, help="The number that is explained; see nibt list targets.")] = "cosine",
    against: Annotated[Many | None, typer.Option(
        rich_help_panel=_METHOD, help="A caption to contrast with, on the image side. May be repeated.")] = None,
    against_image: Annotated[Many | None, typer.Option(
        rich_help_panel=_METHOD, help="A picture to contrast with, on the text side. May be repeated.")] = None,
    template: Annotated[Many | None, typer.Option(
        rich_help_panel=_METHOD, help="A wording with {} for the caption, for ensemble; repeatable.")] = None,
    layer: Annotated[str | None, typer.Option(
        rich_help_panel=_METHOD, help="9, or 2,3,4 (averaged), or auto; for both sides.")] = None,
    image_layer: Annotated[str | None, typer.Option(rich_help_panel=_METHOD, help="For the image side.")] = None,
    text_layer: Annotated[str | None, typer.Option(rich_help_panel=_METHOD, help="For the text side.")] = None,
    reference: Annotated[str | None, typer.Option(
        rich_help_panel=_METHOD, help="Where to narrow to: zero, blank, mean, mean:FILE.")] = None,
    rule: Annotated[str | None, typer.Option(
        rich_help_panel=_METHOD, help="Nodes on the path: riemann, gauss, geometric.")] = None,
    steps: Annotated[int | None, typer.Option(rich_help_panel=_METHOD, help="How many nodes.")] = None,
    tolerance: Annotated[float | None, typer.Option(
        rich_help_panel=_METHOD, help="Double the nodes until the gap is below this share of the change.")] = None,
    along_path: Annotated[bool, typer.Option(
        "--along-path", rich_help_panel=_METHOD,
        help="Average a method of one gradient (grad_cam) along NIB's path: --reference, --rule, --steps.")] = False,
    seed: Annotated[int | None, typer.Option(rich_help_panel=_METHOD, help="For methods that draw at random.")] = None,
    other: Annotated[Many | None, typer.Option(
        "-O", metavar="NAME=VALUE", rich_help_panel=_METHOD, help="Another option of the method; repeatable.")] = None,
) -> None:  # fmt: skip
    """Explain which parts of a picture, and which words of a caption, make the model think that they belong together.

    Writes a picture and a JSON file, into the current folder unless --out says otherwise.
    """
    pictures, captions = split(things, labels is not None)
    chosen = given(layer=layer, image_layer=image_layer, text_layer=text_layer, reference=reference, rule=rule,
                   steps=steps, tolerance=tolerance, along_path=along_path or None)  # fmt: skip
    chosen |= assignments(other or [])
    if labels is not None and (target != "cosine" or against or against_image or template):
        raise BadOption("--labels explains the first label against the second: leave --target and --against out")
    output = Output(out, json, map, mask, threshold, positive, quiet)
    names = output.check(pictures, captions or ["labels"])
    asked = Asked(pictures, captions, lines(labels) if labels else [])
    contrast = {"target": target, "against": against or (), "against_images": against_image or (),
                "templates": template or ()} if labels is None else {}  # fmt: skip
    ready = _load(model, device, dtype, fit, image_size, output.silent)
    options = {"method": method, "variant": variant, "batch_size": batch_size, "seed": seed, **contrast, **chosen}
    output.write(asked.answers(ready, output.silent, options), names)


def split(things: list[str], labelled: bool) -> tuple[list[str], list[str]]:
    """Pictures and captions: the first is a picture, and so is what follows and looks like one.

    >>> split(["a.jpg", "b.png", "a cat", "c.png"], False)
    (['a.jpg', 'b.png'], ['a cat', 'c.png'])

    """
    count = next((n for n, thing in enumerate(things) if n and not _is_picture(thing)), len(things))
    pictures, captions = things[:count], things[count:]
    if labelled and captions:
        raise BadOption(f"with --labels there are no captions besides (got {captions[0]!r})")
    if not labelled and not captions:
        raise BadOption("give a caption, too: nibt explain IMAGE CAPTION (or --labels FILE)")
    return pictures, captions


def _is_picture(thing: str) -> bool:
    return thing.startswith("sample:") or Path(thing).suffix.lower() in _PICTURES or Path(thing).is_file()


def _load(model: str | None, device: str, dtype: str, fit: str | None, image_size: int | None, quiet: bool) -> Any:
    if model is None and not quiet:
        typer.echo(f"The model is lite, which ships with nibt and knows ImageNet's world. The paper's: -m {THE_PAPERS}",
                   err=True)  # fmt: skip
    from nibt.loading import load_model

    return load_model(model or "lite", device=device, dtype=dtype, fit=fit, image_size=image_size)


class Asked:
    """Pictures and captions, or labels, all read before the model is loaded: a mistake is told at once."""

    def __init__(self, pictures: list[str], captions: list[str], labels: list[str]) -> None:
        from nibt.pair import read_caption, read_picture

        self.pictures = [read_picture(picture) for picture in pictures]
        self.captions = [read_caption(caption) for caption in captions]
        self.labels = labels

    def answers(self, model: Any, quiet: bool, options: dict[str, Any]) -> "list[Explanation]":
        """Each picture with each caption, or with the labels."""
        from nibt.cli.terminal import progress
        from nibt.explaining import explain as run
        from nibt.explaining import explain_labels

        if not self.captions:
            with progress(len(self.pictures), "explaining", quiet) as done:
                return [explain_labels(model, one, self.labels, on_done=done, **options) for one in self.pictures]
        pairs = [(picture, caption) for picture in self.pictures for caption in self.captions]
        with progress(len(pairs), "explaining", quiet) as done:
            answers = run(model, [p for p, _ in pairs], [c for _, c in pairs], on_done=done, **options)
            return answers if isinstance(answers, list) else [answers]


@dataclass(frozen=True)
class Output:
    """What is written and where; all of it is checked before the model is loaded."""

    out: Path | None
    json: str | None
    map: Path | None
    mask: Path | None
    threshold: float
    positive: bool
    quiet: bool

    @property
    def silent(self) -> bool:
        return self.quiet or self.json == "-"

    def check(self, pictures: list[str], captions: list[str]) -> list[Path]:
        """The name of the picture of each pair; empty where JSON alone was asked for.

        Raises:
            CannotWrite: a folder is missing or closed.
            BadOption: a name does not end in a picture format, or the threshold is no share.

        """
        from nibt.files import check_writable
        from nibt.report.picture import check_format

        if not 0 < self.threshold <= 1:
            raise BadOption(f"threshold must be a share above 0, at most 1 (got {self.threshold})")
        count = len(pictures) * len(captions)
        if count > 1 and (self.map or self.mask):
            raise BadOption("--map and --mask are for one pair")
        names = self._names(pictures, captions)
        for path in (*names, *(path for path in (self.map, self.mask) if path)):
            check_format(path)
            check_writable(path)
        if self.json not in (None, "-"):
            check_writable(Path(str(self.json)))
        return names

    def _names(self, pictures: list[str], captions: list[str]) -> list[Path]:
        if self.json == "-" and self.out is None:
            return []
        if self.out is not None and len(pictures) * len(captions) == 1 and not self.out.is_dir():
            return [self.out]
        folder = self.out or Path()
        if not folder.is_dir():
            raise CannotWrite(
                f"--out must be an existing folder for several pairs (got {str(folder)!r}): create it first"
            )
        stems = [f"{_plain(Path(picture.removeprefix('sample:')).stem)}-{_plain(caption)}"
                 for picture in pictures for caption in captions]  # fmt: skip
        return [folder / f"{stem}{f'-{stems[:n].count(stem) + 1}' if stem in stems[:n] else ''}.png"
                for n, stem in enumerate(stems)]  # fmt: skip

    def write(self, answers: "list[Explanation]", names: list[Path]) -> None:
        """Pictures, JSON, and what a terminal shows."""
        from nibt.explanation import as_text, save
        from nibt.report.heatmap import map_image, mask_image
        from nibt.report.picture import draw, write

        for answer, name in zip(answers, names, strict=False):
            write(draw(answer, self.positive), name)
        for path, image in ((self.map, lambda: map_image(answers[0], self.positive)),
                            (self.mask, lambda: mask_image(answers[0], self.threshold))):  # fmt: skip
            if path:
                write(image(), path)
        if self.json == "-":
            data = [answer.to_json() for answer in answers]
            sys.stdout.write(as_text(data[0] if len(data) == 1 else data))
            return
        target = Path(self.json) if self.json else _beside(names)
        save(answers, target)
        if not self.quiet:
            from nibt.cli.terminal import show

            show(answers, self.positive)
            typer.echo("wrote " + ", ".join(str(path) for path in (*names, self.map, self.mask, target) if path))


def _beside(names: list[Path]) -> Path:
    return names[0].with_suffix(".json") if len(names) == 1 else names[0].parent / "explanations.json"


def _plain(text: str) -> str:
    """A part of a file name: letters and digits of any script, at most 40.

    >>> _plain("A photo of a cat!")
    'a-photo-of-a-cat'

    """
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].rstrip("-") or "caption"
