"""The inputs of commands: images and captions of a command line, and the pairs of an evaluation."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from nibt.cli.groups import OptionGroup
from nibt.cli.options import assignments, completing, is_image
from nibt.cli.output import slug, stem
from nibt.cli.progress import show_progress
from nibt.errors import BadOption
from nibt.options import Count, Keywords, Seed
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.data.pair import Pair
    from nibt.datasets.base import Dataset
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


@dataclass(frozen=True, kw_only=True)
class DataOptions(OptionGroup, panel="Data"):
    """The pairs of an evaluation."""

    data: Annotated[
        str,
        Argument(
            help="Images with their right captions: scenes, a data set with its folder (coco:FOLDER), a table, "
            "shards or a folder; see nibt list datasets.",
            autocompletion=completing("datasets"),
        ),
    ] = "scenes"
    count: Annotated[
        Count | None, Option(help="The number of pairs. Default: 24 for audit, 12 with --quick, 400 for roar.")
    ] = None
    seed: Annotated[Seed, Option(help="The seed of all random draws, and of the choice of pairs.")] = 0
    data_option: Annotated[
        list[str] | None,
        Option("-D", metavar="NAME=VALUE", help="An option of the data, such as split=val; repeatable."),
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


def open_data(options: DataOptions, count: int) -> "Dataset":
    """Open a data set by its name and folder, such as ``coco:FOLDER``, or by its files, shuffled with the seed."""
    from nibt.datasets._opening import open_dataset, option_types
    from nibt.models._loading import embedded
    from nibt.registry import available, find

    values: Keywords = dict(assignments(options.data_option or [], option="-D"))
    name = options.data.partition(":")[0]
    is_path = name not in available("datasets") and (os.path.exists(options.data) or Path(options.data).suffix != "")
    if not is_path and name not in available("datasets") and (name in embedded() or "/" in name):
        raise BadOption(f"there is no data set or file {options.data!r}: the model is given with -m")
    types = {} if is_path else option_types(find("datasets", name))
    for option in ("folder", "count", "options"):
        if option in values:
            raise BadOption(
                f"-D cannot set {option}: give the folder as {name}:FOLDER, and the number of pairs as --count"
            )
    is_generated = not is_path and "folder" not in types
    return open_dataset(options.data, ({"count": count} if is_generated else {"seed": options.seed}) | values)


def read_pairs(data: "Dataset", count: int, quiet: bool) -> "tuple[list[Pair], Keywords]":
    """Read the first ``count`` pairs, and return them with the record of the data set for results."""
    from nibt.data.pair import pairs_hash

    pairs: list[Pair] = []
    count = min(count, len(data))
    with show_progress("reading pairs", quiet, count) as on_progress:
        for item in range(count):
            pairs.append(data[item])
            on_progress(Progress(len(pairs)))
    return pairs, {**data.record(), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}
