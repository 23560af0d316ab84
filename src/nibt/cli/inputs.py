"""The images and captions of a command line."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from nibt.cli.groups import OptionGroup
from nibt.cli.options import is_image
from nibt.cli.output import slug, stem
from nibt.cli.progress import show_progress
from nibt.errors import BadOption
from nibt.options import Keywords
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.models.base import Model
    from nibt.results.explanation import Explanation
    from nibt.types import Modality


@dataclass(frozen=True, kw_only=True)
class InputOptions(OptionGroup, panel="Input"):
    """The arguments that name images and captions."""

    inputs: Annotated[
        list[str],
        Argument(
            metavar="IMAGE... CAPTION...",
            show_default=False,
            help="Images (files, or sample:NAME), then captions. Each image is explained with each caption.",
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class ExplainInputOptions(InputOptions):
    """The images and captions, and alternatives to captions."""

    labels: Annotated[
        Path | None,
        Option(help="A file with a label per line. Labels are ranked, and the best is explained against the second."),
    ] = None
    compare: Annotated[
        str | None,
        Option(
            metavar="IMAGE|CAPTION",
            help="Compare images with this image, instead of with captions; or captions with this caption.",
        ),
    ] = None


@dataclass(frozen=True)
class CliInputs:
    """The inputs of a command; pairs are all combinations of firsts and seconds."""

    firsts: list[Any]
    seconds: list[Any]
    modalities: "tuple[Modality, Modality]" = ("image", "text")

    @classmethod
    def of(cls, options: ExplainInputOptions) -> "CliInputs":
        """Sort the arguments of a command line into firsts and seconds."""
        labeled, compared = options.labels is not None, options.compare
        if labeled and compared is not None:
            raise BadOption("--compare and --labels exclude each other: give one of them")
        if compared is None:
            return cls(*split_inputs(options.inputs, labeled))
        modality: Modality = "image" if is_image(compared) else "text"
        wrong = next((item for item in options.inputs if is_image(item) != (modality == "image")), None)
        if wrong is not None:
            raise BadOption(
                f"--compare takes two images or two captions (got {wrong!r} and {compared!r}): for an image with a "
                "caption, use nibt explain IMAGE CAPTION"
            )
        return cls(options.inputs, [compared], (modality, modality))

    @property
    def same_modality(self) -> bool:
        """Whether two images or two captions are compared."""
        return self.modalities[0] == self.modalities[1]

    @property
    def images(self) -> list[str]:
        """The images, as they are on the command line."""
        sides = zip(self.modalities, (self.firsts, self.seconds), strict=True)
        return [item for modality, items in sides if modality == "image" for item in items]

    @property
    def stems(self) -> list[str]:
        """The names of the pairs, from which names of output files are formed."""
        firsts, seconds = (
            [stem(item) for item in items] if modality == "image" else items
            for modality, items in zip(self.modalities, (self.firsts, self.seconds), strict=True)
        )
        return [f"{slug(first)}-{slug(second)}" for first in firsts for second in seconds or ["labels"]]

    def read(self) -> "CliInputs":
        """Return the inputs with images and captions that are read, before a model is loaded."""
        from nibt.data.images import read_image
        from nibt.data.pair import Caption, read_caption

        read_first, read_second = (read_image if side == "image" else read_caption for side in self.modalities)
        firsts: list[Any] = [read_first(item) for item in self.firsts]
        if self.modalities[0] == "text":
            firsts = [Caption(caption) for caption in firsts]
        seconds = [read_second(item) for item in self.seconds]
        return replace(self, firsts=firsts, seconds=seconds)

    def explain(self, model: "Model", labels: list[str] | None, quiet: bool, options: Keywords) -> "list[Explanation]":
        """Explain each first with each second, or with the labels."""
        from nibt.engine.explain import compare, explain, explain_labels

        if labels is None:
            pairs = [(first, second) for first in self.firsts for second in self.seconds]
            with show_progress("explaining", quiet, len(pairs)) as on_progress:
                firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
                run: Any = compare if self.same_modality else explain
                return run(model, firsts, seconds, on_progress=on_progress, **options)
        explanations = []
        with show_progress("explaining", quiet, len(self.firsts)) as on_progress:
            for image in self.firsts:
                explanations.append(explain_labels(model, image, labels, **options))
                on_progress(Progress(len(explanations)))
        return explanations


def split_inputs(items: list[str], labeled: bool = False, command: str = "explain") -> tuple[list[str], list[str]]:
    """Split arguments: the first and those after it that look like images are images, the others captions.

    >>> split_inputs(["a.jpg", "b.png", "a cat", "c.png"])
    (['a.jpg', 'b.png'], ['a cat', 'c.png'])
    """
    count = next((number for number, item in enumerate(items) if number and not is_image(item)), len(items))
    images, captions = items[:count], items[count:]
    if not is_image(items[0]) and any(map(is_image, items[1:])):
        raise BadOption(
            f"images must come before captions, and there is no image {items[0]!r}: nibt {command} IMAGE CAPTION"
        )
    if labeled and captions:
        raise BadOption(f"--labels cannot be combined with captions (got {captions[0]!r}): leave one of them out")
    if not labeled and not captions:
        alternative = " (or --labels FILE)" if command == "explain" else ""
        if not is_image(images[0]):
            raise BadOption(f"the image is missing: nibt {command} IMAGE CAPTION (got {images[0]!r})")
        last = f" ({images[-1]!r} was read as an image)" if len(images) > 1 else ""
        raise BadOption(f"the caption is missing{last}: nibt {command} IMAGE CAPTION{alternative}")
    return images, captions
