"""Option groups that several commands share, and conversion of their texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from nibt.cli.groups import OptionGroup
from nibt.cli.terminal import say
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.io import read_text
from nibt.options import BatchSize, Count, ImageSize, Positive, Seed, Steps, Views
from nibt.registry import available
from nibt.report.appearance import Appearance, appearance

if TYPE_CHECKING:
    from nibt.models.base import Model

THE_PAPERS = "openai/clip-vit-base-patch32"


def names_of(kind: str, incomplete: str) -> list[str]:
    """Return the names of plugins that begin with a text."""
    return [name for name in available(kind) if name.startswith(incomplete)]


def check_name(kind: str, name: str) -> None:
    """Check the name of a plugin before a model is loaded."""
    if name not in available(kind):
        raise UnknownName(kind, name, available(kind))


def completing(kind: str) -> Callable[[str], list[str]]:
    """Return a function that completes the names of plugins of a kind in a shell."""

    def complete(incomplete: str) -> list[str]:
        return names_of(kind, incomplete)

    return complete


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(OptionGroup, panel="Model"):
    """The device of a model, and its preprocessing of images."""

    device: Annotated[str, Option(help="The device of the model: cpu, cuda, cuda:1, mps.")] = "cpu"
    resize: Annotated[
        str | None,
        Option(help="'model' crops as the model does; 'whole' uses the whole image, if the model takes any size."),
    ] = None
    image_size: Annotated[ImageSize | None, Option(help="The side of the model's input images, in pixels.")] = None
    pooling: Annotated[
        str | None, Option(help="How a vision-language model embeds a prompt: by its last token, or the mean of all.")
    ] = None
    instruction: Annotated[str | None, Option(help="The system message of a vision-language model's prompts.")] = None
    image_prompt: Annotated[str | None, Option(help="The prompt of an image, with the model's image token.")] = None
    text_prompt: Annotated[str | None, Option(help="The prompt of a text, with {text}.")] = None
    batch_size: Annotated[BatchSize, Option(help="The number of pairs that go through the model together.")] = 8

    @property
    def loading(self) -> dict[str, Any]:
        """The options of ``load_model``."""
        own = ("device", "dtype", "resize", "image_size", "pooling", "instruction", "image_prompt", "text_prompt")
        return {name: getattr(self, name) for name in own if hasattr(self, name)}


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions(DeviceOptions):
    """The options of a device, and the dtype of the weights."""

    dtype: Annotated[str, Option(help="The dtype of the weights: float32, float16 or bfloat16.")] = "float32"


@dataclass(frozen=True, kw_only=True)
class ModelOptions(PrecisionOptions):
    """The model of a command whose arguments are images and captions."""

    model: Annotated[str | None, Option("--model", "-m", help="A model; see nibt list models. Default: lite.")] = None

    def load(self, quiet: bool) -> "Model":
        """Load the model, or lite with a note if no model is given."""
        if self.model is None and not quiet:
            say(
                "The model is lite, which ships with nibt and knows only ImageNet's classes. The model of the paper: "
                f"-m {THE_PAPERS}",
                err=True,
            )
        return load(self.model or "lite", quiet, self.loading)


@dataclass(frozen=True, kw_only=True)
class ModelArgument(PrecisionOptions):
    """The model of a command whose first argument is a model."""

    model: Annotated[str, Argument(help="A model; see nibt list models.")]
    batch_size: Annotated[BatchSize, Option(help="The number of pairs that go through the model together.")] = 16


def load(model: str, quiet: bool, loading: Mapping[str, Any]) -> "Model":
    """Load a model, and show the progress on standard error."""
    from nibt.cli.progress import show_progress

    with show_progress(f"loading {model}", quiet):
        from nibt.models._loading import load_model

        return load_model(model, **loading)


@dataclass(frozen=True, kw_only=True)
class LayerOptions(OptionGroup, panel="Method"):
    """The options of methods that explain a layer."""

    variant: Annotated[
        str, Option(help="'default', 'fast' (relative scores), or 'paper' for the published setting.")
    ] = "default"
    layer: Annotated[str | None, Option(help="The layer of both sides: 9, or 2,3,4 (averaged), or auto.")] = None
    image_layer: Annotated[str | None, Option(help="The layer of the image side.")] = None
    text_layer: Annotated[str | None, Option(help="The layer of the text side.")] = None
    views: Annotated[
        Views | None,
        Option(help="The number of views of each image, shifted by parts of a patch: more are sharper, and cost more."),
    ] = None
    steps: Annotated[Steps | None, Option(help="The number of steps on the path.")] = None
    units: Annotated[
        str | None,
        Option(help="What perturbation methods remove: words, tower (tokens), segments (superpixels), segments:FILE."),
    ] = None
    set: Annotated[
        list[str] | None, Option("--set", metavar="NAME=VALUE", help="Another option of the method; repeatable.")
    ] = None

    @property
    def chosen(self) -> dict[str, Any]:
        """The options of the method that are set."""
        shared = {"method", "variant", "seed", "set"}
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in shared}
        return with_set_options(set_options(**values), self.set)


@dataclass(frozen=True, kw_only=True)
class MethodOptions(LayerOptions):
    """A method with its options."""

    method: Annotated[str, Option(help="The method; see nibt list methods.", autocompletion=completing("methods"))] = (
        "nib"
    )
    seed: Annotated[Seed | None, Option(help="The seed of methods that draw at random.")] = None

    def __post_init__(self) -> None:
        check_name("methods", self.method)


@dataclass(frozen=True, kw_only=True)
class PathOptions(LayerOptions):
    """The options of methods that explain a layer, with those of NIB's path."""

    baseline: Annotated[str | None, Option(help="The baseline state: zero, blank, mean, mean:FILE.")] = None
    tolerance: Annotated[
        Positive | None, Option(help="Double the steps until the completeness gap is below this share of the change.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class TargetOptions(OptionGroup, panel="Target"):
    """The target, and what it compares with."""

    target: Annotated[
        str,
        Option(help="The score that is explained; see nibt list targets.", autocompletion=completing("targets")),
    ] = "cosine"
    against: Annotated[
        list[str] | None,
        Option(help="A caption to compare with, for the image side or two captions; repeatable."),
    ] = None
    against_image: Annotated[
        list[str] | None, Option(help="An image to compare with, for the text side or two images; repeatable.")
    ] = None
    template: Annotated[
        list[str] | None, Option(help="A template of captions with {}, for the target ensemble; repeatable.")
    ] = None

    def __post_init__(self) -> None:
        check_name("targets", self.target)

    @property
    def contrast(self) -> dict[str, Any]:
        """The arguments of ``explain`` for the target and what it compares with."""
        return {
            "target": self.target,
            "against": tuple(self.against or ()),
            "against_images": tuple(self.against_image or ()),
            "templates": tuple(self.template or ()),
        }


@dataclass(frozen=True, kw_only=True)
class QuietOptions(OptionGroup, panel="Output"):
    """What a command prints."""

    quiet: Annotated[bool, Option("--quiet", "-q", help="Print nothing.")] = False


@dataclass(frozen=True, kw_only=True)
class OverwriteOptions(QuietOptions):
    """Whether files may be replaced, and what a command prints."""

    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace files that nibt did not write. Inputs are never replaced.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class OutputOptions(OverwriteOptions):
    """The files of images, pages and JSON."""

    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            help="The image of one pair, the folder for several pairs, or x.html for an interactive page of all pairs. "
            "The JSON file has the same name.",
        ),
    ] = None
    json: Annotated[str | None, Option(help="The JSON file; - writes JSON, and nothing else, to standard output.")] = (
        None
    )
    positive_only: Annotated[bool, Option("--positive-only", help="Show positive scores only.")] = False
    style: Annotated[
        str, Option(help="How maps are drawn: overlay (colors and an outline), colors, outline, or heatmap (no image).")
    ] = "overlay"
    cmap: Annotated[
        str, Option(help="The colors: red_blue, orange_purple, pink_green, or a color map of matplotlib.")
    ] = "red_blue"
    verbose: Annotated[
        bool, Option("--verbose", "-v", help="Also print the path (layers, steps, baseline) and the versions.")
    ] = False

    def __post_init__(self) -> None:
        self.look  # noqa: B018 - an unknown style or color map is rejected before anything is read

    @property
    def look(self) -> Appearance:
        """How results are drawn."""
        return appearance(self.positive_only, self.style, self.cmap)

    @property
    def drawing(self) -> dict[str, Any]:
        """The options of functions that draw, other than their defaults."""
        assert self.look, "which checks the names"
        defaults = {field.name: field.default for field in fields(self)}
        values = {name: getattr(self, name) for name in ("positive_only", "style", "cmap")}
        return {name: value for name, value in values.items() if value != defaults[name]}


@dataclass(frozen=True, kw_only=True)
class RunOptions(QuietOptions):
    """The exit code of a long run, and what it prints."""

    strict: Annotated[bool, Option("--strict", help="Exit with 1 if any item failed.")] = False


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
    count: Annotated[Count | None, Option(help="The number of pairs.")] = None
    seed: Annotated[Seed, Option(help="The seed of all random draws, and of the choice of pairs.")] = 0
    data_option: Annotated[
        list[str] | None,
        Option("-D", metavar="NAME=VALUE", help="An option of the data set, such as split=val; repeatable."),
    ] = None


RESERVED = frozenset(
    """address against against_images batch_size caption captions chunk_size cpus first gpus image images key labels
    loading memory method model on on_progress out pairs sample second seed send_images split target templates variant
    words workers""".split()
)
"""Parameters of the Python functions that are not options of a method."""


def assignments(pairs: list[str], option: str = "--set", keep_names: bool = False) -> dict[str, str]:
    """Return ``name=value`` texts as a mapping.

    >>> assignments(["beta=0.1"])
    {'beta': '0.1'}
    """
    for pair in pairs:
        if "=" not in pair:
            raise BadOption(f"{option} must be name=value (got {pair!r})")
    values: dict[str, str] = {}
    for name, _, value in (pair.partition("=") for pair in pairs):
        key = name.strip() if keep_names else name.strip().replace("-", "_")
        if key in values:
            raise BadOption(f"{option} sets {key} twice ({values[key]!r} and {value!r}): set it once")
        values[key] = value
    return values


def with_set_options(chosen: dict[str, Any], pairs: list[str] | None) -> dict[str, Any]:
    """Add the options of ``--set name=value`` to those that were set by flags."""
    others = assignments(pairs or [])
    for name in others:
        if name in RESERVED:
            raise BadOption(f"--set is for options of the method (got {name}): --help lists the flags of other options")
        if name in chosen:
            raise BadOption(f"{name} is set twice, by its flag and by --set: set it once")
    return chosen | others


def is_set(value: Any) -> bool:
    """Return whether an option is set: neither None, nor False, nor an empty list."""
    return not (value is None or value is False or (isinstance(value, list | tuple) and not value))


def set_options(**options: Any) -> dict[str, Any]:
    """Return the options that are set."""
    return {name: value for name, value in options.items() if is_set(value)}


def read_lines(path: Path) -> list[str]:
    """Return the non-blank lines of a text file."""
    try:
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{str(path)!r} cannot be read as lines of text ({error}): give a text file in UTF-8") from error
