"""``nibt answer``, which lets a generator answer a prompt about an image, and explains each word of the answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import (
    METHOD_HELP,
    MethodOptions,
    ModelOptions,
    OutputOptions,
    completing,
    is_image,
    set_options,
    typed_assignments,
)
from nibt.cli.output import Output, input_paths, model_name, slug, stem, suffix
from nibt.cli.terminal import show_progress
from nibt.errors import BadOption
from nibt.options import BatchSize, Keywords, RequestCount, TokenCount
from nibt.registry import MethodSpec

if TYPE_CHECKING:
    from nibt.generators.answers import Generator

_NAMED = 3  # images that the name of a file has; of more, such as frames, it has the first


@dataclass(frozen=True, kw_only=True)
class AnswerInputOptions(OptionGroup, panel="Input"):
    """Images with a prompt, and perhaps an answer."""

    images: Annotated[
        list[str],
        Argument(
            metavar="IMAGE...",
            show_default=False,
            help="An image (a file, or sample:NAME), or several for a model that reads them together.",
        ),
    ]
    prompt: Annotated[
        str, Argument(metavar="PROMPT", show_default=False, help="The prompt, such as a question about the image.")
    ]
    answer: Annotated[
        str | None, Option(help="The answer that is explained. Default: the model writes it.", show_default=False)
    ] = None
    against: Annotated[
        str | None,
        Option(
            metavar="WORD|IMAGE",
            help="What each word is compared with: a word, or runner-up (the second best word); or an image (an "
            "existing file), to explain why the word is more likely than with that image.",
        ),
    ] = None
    max_words: Annotated[
        BatchSize | None, Option(help="The largest number of words that the model writes. Default: 30.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class AnswerMethodOptions(MethodOptions):
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

    @property
    def spec(self) -> MethodSpec:
        return self.spec_or("nib")

    def spec_or(self, default: str) -> MethodSpec:
        """Return the method; ``default`` if none is given."""
        return MethodSpec.parse(default if self.method is None else self.method)


@dataclass(frozen=True, kw_only=True)
class ServerOptions(OptionGroup, panel="Server"):
    """A server that has the model."""

    server: Annotated[
        str | None,
        Option(
            metavar="URL",
            help="The address of a server that has the model, such as http://localhost:8000/v1. The model is then the "
            "name that it has there. Default: the model is loaded here.",
        ),
    ] = None
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
    work: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="The folder that keeps finished requests, so that the same command goes on after it was stopped. "
            "Default: none.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.server is None and (self.key_env, self.requests, self.tokens, self.work) != (None,) * 4:
            raise BadOption(
                "--key-env, --requests, --tokens and --work are for a model behind a server: give its address with "
                "--server"
            )

    def loading(self, model: ModelOptions) -> Keywords:
        """Return the options of ``load_generator`` for the model that has this name on the server."""
        from nibt.generators.loading import loading_options
        from nibt.models._request import is_address

        if not is_address(self.server):
            raise BadOption(f"--server must be an address such as http://localhost:8000/v1 (got {self.server!r:.200})")
        if (model.device, model.dtype) != ("cpu", "float32"):
            raise BadOption("--device and --dtype are for a model that is loaded: leave them out with --server")
        own = {"name": model.name, "key_env": self.key_env, "requests": self.requests, "tokens": self.tokens}
        types = {name: option_type for name, option_type in loading_options(self.server).items() if name not in own}
        return {**own, **typed_assignments(model.load, "--load", types)}


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions(ModelOptions):
    """A generator."""

    model: Annotated[
        str | None,
        Option(
            "--model",
            "-m",
            help="The generator: scenes_generator (embedded), a folder, or a name on the hub. Required.",
        ),
    ] = None
    load: Annotated[
        list[str] | None,
        Option(
            "--load",
            metavar="NAME=VALUE",
            help="An option of loading: generation=greedy, or generation=model to write with the model's settings; "
            "processor=NAME, the model whose processor is used. With --server: image_size, cells, top, way, at_once, "
            "timeout, tries.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.model is None:
            raise BadOption("the generator is missing: give it with -m, as in -m ./my-llava")

    def generator(self, quiet: bool, server: ServerOptions) -> "Generator":
        """Load the generator, or that of a server, and show the progress on standard error."""
        with show_progress(f"loading {self.name}", quiet):
            from nibt.generators.loading import load_generator

            if server.server is not None:
                return load_generator(server.server, **server.loading(self))

            from nibt.models._request import GenerationOptions

            return load_generator(self.name, **self.placed(self.load, GenerationOptions))


@expand_groups
def answer(
    inputs: AnswerInputOptions,
    method: AnswerMethodOptions,
    model: GeneratorOptions,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Let a model answer a prompt about an image, or about several, and explain each word of the answer.

    Shows what the image, the prompt and the earlier words add to each word. Writes an interactive page
    and a JSON file into the current folder, or the files of --out.
    """
    if is_image(inputs.prompt):
        raise BadOption(f"the prompt is missing: nibt answer IMAGE... PROMPT (got the image {inputs.prompt!r} last)")
    drawing, other_image = output.drawing, inputs.against if inputs.against and is_image(inputs.against) else None
    spec = method.spec_or("nib" if server.server is None else "occlusion")
    name_suffix = suffix(
        "answer",
        *spec.words,
        model_name(model.model),
        **set_options(answer=inputs.answer, against=stem(other_image) if other_image else inputs.against, **drawing),
    )
    read_paths = input_paths([*inputs.images, *filter(None, [other_image])], model.model, spec.options)
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, read_paths, (".html", ".json"), drawing)
    named = [slug(stem(image)) for image in inputs.images]
    if len(named) > _NAMED:
        named = [named[0], f"and-{len(named) - 1}-more"]
    targets = files.check(["-".join([*named, slug(inputs.prompt)])], "answer")
    from nibt.cli.console_answer import show_answers
    from nibt.data.images import read_image
    from nibt.engine.spec import check_options
    from nibt.generators.explain import explain_answer

    images = [read_image(image) for image in inputs.images]
    check_options(spec)
    generator = model.generator(files.silent, server)
    with show_progress("explaining the answer", files.silent) as on_progress:
        result = explain_answer(
            generator,
            images,
            inputs.prompt,
            inputs.answer,
            spec,
            against=None if other_image else inputs.against,
            against_image=other_image,
            max_words=inputs.max_words,
            on_progress=on_progress,
        )
    files.write([result], targets, show_answers)


_EXAMPLE = 'nibt answer sample:scene "what is left of the house ?" -m scenes_generator'
COMMANDS = (Command(3, answer, examples=(_EXAMPLE,)),)
