"""Option groups that several commands share, and conversion of their texts."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from nibt.cli.groups import OptionGroup
from nibt.cli.terminal import say, show_progress
from nibt.errors import BadOption, check_names
from nibt.options import BatchSize, Keywords, RequestCount, TokenCount, assignments, field_types, parsed
from nibt.registry import SERVED_METHOD, MethodSpec, available

if TYPE_CHECKING:
    from nibt.models.base import Model
    from nibt.report.colors import Appearance

THE_PAPERS = "openai/clip-vit-base-patch32"


def completing(group: str) -> Callable[[str], list[str]]:
    """Return a function that completes the names of a group of plugins in a shell."""

    def complete(incomplete: str) -> list[str]:  # typer reads its annotations
        return [name for name in available(group) if name.startswith(incomplete)]

    return complete


@dataclass(frozen=True, kw_only=True)
class PlacementOptions(OptionGroup, panel="Model"):
    """The device and the dtype of a model."""

    device: Annotated[str, Option(help="The device of the model: cpu, cuda, cuda:1, mps.")] = "cpu"
    dtype: Annotated[str, Option(help="The dtype of the weights: float32, float16 or bfloat16.")] = "float32"

    def placed(self, load: list[str] | None, *options: type) -> Keywords:
        """Return the device, the dtype and the values of ``--load``, which are options of these classes."""
        types = {name: option_type for cls in options for name, option_type in field_types(cls).items()}
        types = {name: option_type for name, option_type in types.items() if name not in ("device", "dtype")}
        return {"device": self.device, "dtype": self.dtype, **typed_assignments(load, "--load", types)}


@dataclass(frozen=True, kw_only=True)
class AskingOptions(OptionGroup, panel="Server"):
    """How a server is asked that has the model."""

    key_env: Annotated[
        str | None,
        Option(metavar="NAME", help="The environment variable that has the key of the server. Default: no key."),
    ] = None
    requests: Annotated[
        RequestCount | None, Option(help="The largest number of requests to the server. Default: no limit.")
    ] = None
    tokens: Annotated[
        TokenCount | None,
        Option(help="The largest number of tokens that the server reads and writes. Default: no limit."),
    ] = None

    def asking(self, address: str, name: str | None, placement: PlacementOptions, load: list[str] | None) -> Keywords:
        """Return the options of ``load_generator`` for the model that has this name on a server."""
        from nibt.generators.loading import loading_options
        from nibt.models._names import is_address

        if not is_address(address):
            raise BadOption(f"--server must be an address such as http://localhost:8000/v1 (got {address!r:.200})")
        if (placement.device, placement.dtype) != ("cpu", "float32"):
            raise BadOption("--device and --dtype are for a model that is loaded: leave them out with a server")

        own = {"name": name, "key_env": self.key_env, "requests": self.requests, "tokens": self.tokens}
        types = {name: option_type for name, option_type in loading_options(address).items() if name not in own}
        return {**own, **typed_assignments(load, "--load", types)}


@dataclass(frozen=True, kw_only=True)
class ServerOptions(AskingOptions):
    """A server that has the model, and how it is asked."""

    server: Annotated[
        str | None,
        Option(
            metavar="URL",
            help="The address of a server that has the model, such as http://localhost:8000/v1. The model is then the "
            "name that it has there. Default: the model is loaded here.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.server is None and (self.key_env, self.requests, self.tokens) != (None,) * 3:
            raise BadOption(
                "--key-env, --requests and --tokens are for a model behind a server: give its address with --server"
            )


@dataclass(frozen=True, kw_only=True)
class ModelOptions(PlacementOptions):
    """The model, and how it is loaded."""

    model: Annotated[str | None, Option("--model", "-m", help="A model; see nibt list models. Default: lite.")] = None
    load: Annotated[
        list[str] | None,
        Option(
            "--load",
            metavar="NAME=VALUE",
            help="An option of loading: resize (model or whole), image_size, processor (the model whose processor is "
            "used), variant (such as fp16), score (such as box:1 of a detector), or for vision-language "
            "models pooling, instruction, image_prompt, text_prompt; repeatable.",
        ),
    ] = None

    @property
    def name(self) -> str:
        return "lite" if self.model is None else self.model

    def loaded(self, quiet: bool) -> "Model":
        """Load the model and show the progress on standard error, with a note if no model is given."""
        from nibt.models._request import LoadOptions

        loading = self.placed(self.load, LoadOptions)
        if self.model is None and not quiet:
            say(
                "The model is lite, which ships with nibt and knows only ImageNet's classes. The model of NIB's paper: "
                f"-m {THE_PAPERS}",
                err=True,
            )

        with show_progress(f"loading {self.name}", quiet):
            from nibt.models._loading import load_model  # here, since the import of torch is a part of the wait

            return load_model(self.name, **loading)


@dataclass(frozen=True, kw_only=True)
class BatchedModelOptions(ModelOptions):
    """The model, and how many pairs go through it together."""

    batch_size: Annotated[BatchSize, Option(help="The number of pairs that go through the model together.")] = 8


@dataclass(frozen=True, kw_only=True)
class EvaluatedModelOptions(ModelOptions):
    """The model of an evaluation, which must be given."""

    model: Annotated[str | None, Option("--model", "-m", help="The model; see nibt list models. Required.")] = None

    def __post_init__(self) -> None:
        if self.model is None:
            raise BadOption("the model is missing: give it with -m, as in -m scenes; see nibt list models")


METHOD_HELP = (
    "A method with a variant and options: nib:paper, nib:fast, or 'nib steps=6 views=5'; see nibt list methods. "
    "Its options: nibt list methods NAME."
)


@dataclass(frozen=True, kw_only=True)
class MethodOptions(OptionGroup, panel="Method"):
    """A method with its options."""

    method: Annotated[
        str, Option("--method", metavar="METHOD", help=METHOD_HELP, autocompletion=completing("methods"))
    ] = "nib"

    def __post_init__(self) -> None:
        MethodSpec.parse(self.method)

    @property
    def spec(self) -> MethodSpec:
        return MethodSpec.parse(self.method)


@dataclass(frozen=True, kw_only=True)
class ServedMethodOptions(MethodOptions):
    """A method with its options, whose default depends on where the model is."""

    method: Annotated[
        str | None,
        Option(
            "--method",
            metavar="METHOD",
            help=f"{METHOD_HELP} Default: nib, and occlusion with --server.",
            autocompletion=completing("methods"),
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.method is not None:
            super().__post_init__()

    def spec_for(self, server: str | None) -> MethodSpec:
        """Return the method; if none is given, the default of a model behind the server, or of one that is loaded."""
        default = MethodSpec.name if server is None else SERVED_METHOD
        return MethodSpec.parse(default if self.method is None else self.method)


@dataclass(frozen=True, kw_only=True)
class MethodsOptions(OptionGroup, panel="Method"):
    """Several methods."""

    method: Annotated[
        list[str] | None,
        Option(
            "--method",
            metavar="METHOD",
            help=f"{METHOD_HELP} Repeatable. Default: nib.",
            autocompletion=completing("methods"),
        ),
    ] = None

    def __post_init__(self) -> None:
        for text in self.texts:
            MethodSpec.parse(text)

    @property
    def texts(self) -> list[str]:
        """The methods, each once."""
        return list(dict.fromkeys(self.method or ["nib"]))


@dataclass(frozen=True, kw_only=True)
class NamedMethodsOptions(MethodsOptions):
    """Several methods without options: results are stored under their names."""

    method: Annotated[
        list[str] | None,
        Option(
            "--method",
            metavar="METHOD",
            help="A method or a variant of it, such as nib or nib:fast, without options; see nibt list methods. "
            "Repeatable. Default: nib.",
            autocompletion=completing("methods"),
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TargetOptions(OptionGroup, panel="Target"):
    """The target, and what it compares with."""

    target: Annotated[
        str | None,
        Option(
            help="The score that is explained; see nibt list targets. Default: cosine, with --against difference, "
            "with --template ensemble.",
            autocompletion=completing("targets"),
        ),
    ] = None
    against: Annotated[
        list[str] | None,
        Option(
            metavar="CAPTION|IMAGE",
            help="What the target compares with: a caption, or an image (an existing file). For prompts in nibt batch, "
            "a word. Repeatable.",
        ),
    ] = None
    template: Annotated[
        list[str] | None, Option(help="A template of captions with {}, for the target ensemble; repeatable.")
    ] = None

    def __post_init__(self) -> None:
        if self.target is not None:
            check_names("targets", [self.target], available("targets"))

    @property
    def against_images(self) -> list[str]:
        """The images to compare with."""
        return [item for item in self.against or [] if is_image(item)]

    @property
    def contrast(self) -> Keywords:
        """The arguments of ``explain`` for the target and what it compares with."""
        return {
            "target": self.target,
            "against": tuple(item for item in self.against or () if not is_image(item)),
            "against_images": tuple(self.against_images),
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
    """The files of results, and how they are drawn."""

    out: Annotated[
        list[str] | None,
        Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A file, whose ending sets the format (x.png, x.html, x.json, ...; see nibt list formats); - "
            "prints JSON. {stem} stands for the name of each pair, as in maps/{stem}.png. Repeatable. Default: a "
            "picture or a page, and a JSON file, in the current folder.",
        ),
    ] = None
    draw: Annotated[
        list[str] | None,
        Option(
            "--draw",
            metavar="NAME=VALUE",
            help="How files are drawn: style (overlay, colors, outline, heatmap), cmap (red_blue, orange_purple, "
            "pink_green, or a name of matplotlib), positive_only=true, threshold (of masks and regions), title; for "
            "x.pdf, x.svg and x.eps: width (of a figure, in inches) and font (sans, serif or a name); for "
            "x.links.pdf: top (the number of links), box=X,Y,W,H and words=A,B. Repeatable.",
        ),
    ] = None

    @property
    def drawing(self) -> Keywords:
        """The options of drawing that are set, as ``nibt.save`` takes them."""
        from nibt.formats.base import Drawing

        values = typed_assignments(self.draw, "--draw", field_types(Drawing))
        if "box" in values:
            values["box"] = _box(values["box"])
        if "words" in values:
            values["words"] = values["words"].split(",")
        drawing = Drawing(**values)  # bad values are errors before anything is read
        return {name: getattr(drawing, name) for name in values}

    @property
    def look(self) -> "Appearance":
        from nibt.formats.base import Drawing

        return Drawing(**self.drawing).look


def _box(text: str) -> tuple[int, ...]:
    try:
        box = tuple(map(int, text.split(",")))
    except ValueError:
        box = ()
    if len(box) != 4 or min(box[2:]) < 1:
        raise BadOption(f"box must be four whole numbers x,y,width,height with a positive size (got {text!r})")
    return box


@dataclass(frozen=True, kw_only=True)
class RunOptions(QuietOptions):
    """The folder of a long run, its exit code, and what it prints."""

    strict: Annotated[bool, Option("--strict", help="Exit with 1 if any item failed.")] = False
    out: Annotated[
        Path | None,
        Option("--out", "-o", metavar="DIR", help="The folder of the run; an existing run is resumed. Required."),
    ] = None


def is_image(item: str) -> bool:
    """Return whether an argument names an image."""
    from nibt.data.images import is_image_name

    return is_image_name(item)


def typed_assignments(texts: list[str] | None, option: str, types: Mapping[str, Hashable]) -> Keywords:
    """Return ``name=value`` texts as typed values; the names must be among those of ``types``."""
    values = assignments(texts or [], option)
    check_names(f"{option} options", values, types)
    return {name: parsed(name, value, types[name]) for name, value in values.items()}


def set_options(**options: object) -> Keywords:
    """Return the options that are set: neither None, nor False, nor an empty list."""
    return {
        name: value
        for name, value in options.items()
        if not (value is None or value is False or (isinstance(value, list | tuple) and not value))
    }
