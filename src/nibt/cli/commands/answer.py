"""``nibt answer``, which lets a generator answer a prompt about an image, and explains each word of the answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import (
    ModelOptions,
    OutputOptions,
    ServedMethodOptions,
    ServerOptions,
    is_image,
    set_options,
)
from nibt.cli.output import Output, input_paths, model_name, slug, stem, suffix
from nibt.cli.terminal import show_progress
from nibt.errors import BadOption
from nibt.options import BatchSize

if TYPE_CHECKING:
    from nibt.generators.answers import Generator
    from nibt.generators.results.answer import AnswerExplanation

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
class AnswerMethodOptions(ServedMethodOptions):
    """The method, and what is found out about its maps."""

    decisive: Annotated[
        str | None,
        Option(
            metavar="keep|change|correct",
            help="Find a small part of the map that alone keeps more than half of what the image adds to the "
            "log-probability of the answer (keep), or whose removal loses it (change); with --against, the part that "
            "keeps, or changes, that the word is ahead of the other one. For an answer that the model does not write: "
            "find a small part without which it does (correct).",
        ),
    ] = None
    word: Annotated[
        str | None,
        Option(help="With --decisive, the word of the answer, by its text or its position from 0. Default: all words."),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decisive not in (None, "keep", "change", "correct"):
            raise BadOption(f"--decisive must be keep, change or correct (got {self.decisive!r:.60})")
        if self.word is not None and self.decisive is None:
            raise BadOption("--word names the word whose decisive region is found: add --decisive, or leave it out")

    def decided(self, model: "Generator", result: "AnswerExplanation", quiet: bool) -> "AnswerExplanation":
        """Return the result with the part that decides, if it is requested."""
        if self.decisive is None:
            return result

        from nibt.evaluation.decisive import decisive_region

        word: str | int | None = self.word
        if word is not None and word.isdecimal() and word not in [each.text for each in result.words]:
            word = int(word)
        region: Any = self.decisive
        with show_progress("the decisive region", quiet):
            return decisive_region(model, result, region, word=word)


@dataclass(frozen=True, kw_only=True)
class AnswerServerOptions(ServerOptions):
    """A server that has the model, how it is asked, and where finished requests are kept."""

    work: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="The folder that keeps finished requests, so that the same command goes on after it was stopped. "
            "Default: none.",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server is None and self.work is not None:
            raise BadOption("--work is for a model behind a server: give its address with --server")


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
            "processor=NAME, the model whose processor is used. With --server: image_size, cells, sources, top, way, "
            "draws, at_once, timeout, tries.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.model is None:
            raise BadOption(
                "the generator is missing: give it with -m, as in -m scenes_generator (embedded) or -m ./my-llava; "
                "with --server, its name on the server"
            )

    def generator(self, quiet: bool, server: AnswerServerOptions) -> "Generator":
        """Load the generator, or that of a server, and show the progress on standard error."""
        with show_progress(f"loading {self.name}", quiet):
            from nibt.generators.loading import load_generator

            if server.server is not None:
                loading = server.asking(server.server, self.name, self, self.load)
                work = None if server.work is None else str(server.work)
                return load_generator(server.server, **loading, folder=work)

            from nibt.models._request import GenerationOptions

            return load_generator(self.name, **self.placed(self.load, GenerationOptions))


@expand_groups
def answer(
    inputs: AnswerInputOptions,
    method: AnswerMethodOptions,
    model: GeneratorOptions,
    server: AnswerServerOptions,
    output: OutputOptions,
) -> None:
    """Let a model answer a prompt about an image, or about several, and explain each word of the answer.

    Shows what the image, the prompt and the earlier words add to each word. Writes an interactive page
    and a JSON file into the current folder, or the files of --out.
    """
    if is_image(inputs.prompt):
        raise BadOption(f"the prompt is missing: nibt answer IMAGE... PROMPT (got the image {inputs.prompt!r} last)")

    drawing = output.drawing
    decided = {"decisive": method.decisive, "word": method.word}
    other_image = inputs.against if inputs.against and is_image(inputs.against) else None
    if other_image and method.decisive:
        raise BadOption("--decisive is for answers about one image: leave it out, or the image of --against")
    spec = method.spec_for(server.server)
    name_suffix = suffix(
        "answer",
        *spec.words,
        model_name(model.model),
        **set_options(
            answer=inputs.answer, against=stem(other_image) if other_image else inputs.against, **decided, **drawing
        ),
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

    result = method.decided(generator, result, files.silent)
    files.write([result], targets, show_answers)


_EXAMPLE = 'nibt answer sample:scene "what is left of the house ?" -m scenes_generator'
COMMANDS = (Command(3, answer, examples=(_EXAMPLE,)),)
