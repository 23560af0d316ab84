"""``nibt parts``, which finds what a model looks at over a data set."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from nibt.cli.command import Command
from nibt.cli.commands.evaluation import (
    DataOptions,
    WorkOptions,
    check_images,
    data_name,
    kept_work,
    open_data,
    read_pairs,
)
from nibt.cli.groups import expand_groups
from nibt.cli.options import (
    METHOD_HELP,
    EvaluatedModelOptions,
    MethodOptions,
    OverwriteOptions,
    completing,
    set_options,
)
from nibt.cli.output import Output, input_paths, model_name, suffix
from nibt.cli.terminal import interruptible, show_progress
from nibt.errors import BadInput, BadOption, reason
from nibt.io import read_text
from nibt.options import Count, Keywords, Layer, PartCount

if TYPE_CHECKING:
    from nibt.data.pair import Pair
    from nibt.results.explanation import Explanation

_COUNT = 200
FAST = "nib:fast"


@dataclass(frozen=True, kw_only=True)
class PartsDataOptions(DataOptions):
    """The pairs whose evidence is clustered."""

    data: Annotated[
        str,
        Argument(
            help="Images with their right captions: scenes, a data set with its folder (coco:FOLDER), a table, "
            "shards or a folder; see nibt list datasets. Or the folder of a job of nibt batch, whose maps are used.",
            autocompletion=completing("datasets"),
        ),
    ] = "scenes"
    count: Annotated[Count | None, Option(help=f"The number of pairs. Default: {_COUNT}.")] = None


@dataclass(frozen=True, kw_only=True)
class FastMethodOptions(MethodOptions):
    """A method of maps, the fast one by default."""

    method: Annotated[
        str, Option("--method", metavar="METHOD", help=METHOD_HELP, autocompletion=completing("methods"))
    ] = FAST


@dataclass(frozen=True, kw_only=True)
class PartsOptions(WorkOptions, panel="Parts"):
    """How cells or words are clustered, and what parts are named by."""

    side: Annotated[
        Literal["image", "text"], Option(help="Whether parts are cells of the images, or words of the captions.")
    ] = "image"
    parts: Annotated[
        PartCount | None,
        Option(
            help="The number of clusters; with masks, at least two. Default: one per 10 pairs, at most 12 (words: 4)."
        ),
    ] = None
    layer: Annotated[
        Layer | None,
        Option(
            help="The layer whose hidden states describe cells or words. Default: two thirds of the depth of the tower."
        ),
    ] = None
    names: Annotated[
        Path | None,
        Option(metavar="FILE", help="Texts that parts are named by, one per line. Default: everyday nouns."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PartsOutputOptions(OverwriteOptions):
    """The files of parts."""

    out: Annotated[
        list[str] | None,
        Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A file: x.html or x.json; - prints JSON. Repeatable. Default: a page and a JSON file.",
        ),
    ] = None


@expand_groups
def parts(
    model: EvaluatedModelOptions,
    data: PartsDataOptions,
    method: FastMethodOptions,
    clusters: PartsOptions,
    output: PartsOutputOptions,
) -> None:
    """Find what a model looks at over a data set, and whether that decides.

    Clusters the places that carry the positive scores, exchanges those of each cluster between images, and prints how
    far each is needed. With masks or boxes of the named objects, it says which are shortcuts; else, look at the page.
    Over the folder of a job, no map is computed again.
    With --side text, it does so for the words of the captions, and the words that name objects.
    With the model scenes and 200 pairs it takes less than a minute on one core.
    """
    from nibt.cli.console_parts import show_parts
    from nibt.evaluation.finished import WorkFolder
    from nibt.evaluation.parts import parts as run
    from nibt.evaluation.parts.words import word_parts
    from nibt.folder import MANIFEST

    of_words = clusters.side == "text"
    if of_words and clusters.names is not None:
        raise BadOption("--names has no effect on --side text, whose parts are named by their words: leave it out")
    names = None if clusters.names is None else _texts(clusters.names)
    name_suffix = suffix(
        None if method.method == FAST else method.method,
        "text" if of_words else None,
        **set_options(count=data.count, seed=data.seed or None, layer=clusters.layer, parts=clusters.parts),
    )
    inputs = input_paths(model.model, data.data, clusters.names)
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, inputs, (".html", ".json"))
    targets = files.check([f"parts-{model_name(model.model) or model.name}-{data_name(data.data)}"], "parts")
    work = clusters.folder(targets)
    count = _COUNT if data.count is None else data.count
    explanations = None
    if (Path(data.data) / MANIFEST).is_file():
        pairs, explanations, record = _of_job(data, method, count)
        loaded = model.loaded(files.silent)
    else:
        opened = open_data(data, count)
        pairs, record = read_pairs(opened, count, files.silent)
        loaded = model.loaded(files.silent)
        check_images(opened, count, [target.path for target in targets], output.overwrite)

    with interruptible(partial(kept_work, work)), show_progress("finding parts", files.silent) as on_progress:
        find = word_parts if of_words else partial(run, texts=names)
        result = find(
            loaded,
            pairs,
            method.method,
            layer=clusters.layer,
            count=clusters.parts,
            explanations=explanations,
            seed=data.seed,
            batch_size=16,
            folder=work,
            data=record,
            on_progress=on_progress,
        )

    files.write([result], targets, lambda results: show_parts(results[0]))
    if work is not None:
        WorkFolder(work).discard()


def _of_job(
    data: PartsDataOptions, method: FastMethodOptions, count: int
) -> "tuple[list[Pair], list[Explanation], Keywords]":
    """Return pairs of a job, their explanations, and the record of the data for results."""
    from nibt.jobs.job import Job

    if method.method != FAST:
        raise BadOption(f"the maps are those of the job in {data.data}: leave --method out")
    if data.data_option:
        raise BadOption(f"the pairs are those of the job in {data.data}: leave -D out")

    rows = Job.open(data.data).explained_pairs(count, data.seed)
    pairs = [pair for pair, _ in rows]
    return pairs, [explanation for _, explanation in rows], {"job": data.data, "pairs": len(pairs)}


def _texts(path: Path) -> list[str]:
    """Return the lines of a file that are not blank."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the names in {str(path)!r} ({reason(error)}): give a text file") from error

    texts = [*dict.fromkeys(line.strip() for line in lines if line.strip())]
    if len(texts) < 2:
        raise BadInput(f"{str(path)!r} must have at least two different texts, one per line (got {len(texts)})")
    return texts


COMMANDS = (Command(8, parts),)
