"""``nibt roar``, which retrains a model without the units that methods score highest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from nibt.cli.data import check_methods, open_data, read_pairs
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import DataOptions, DeviceOptions, OverwriteOptions, assignments, load, set_options
from nibt.cli.terminal import say
from nibt.errors import BadOption
from nibt.options import BatchSize, Blocks, Epochs, Percent, Repeats, TrainBatch

COUNT = 400


@dataclass(frozen=True, kw_only=True)
class RoarModel(DeviceOptions):
    """The model. It is always loaded in float32."""

    model: Annotated[str, typer.Argument(help="A model; see nibt list models.")]
    batch_size: Annotated[BatchSize, Option(help="The largest number of pairs that are explained together.")] = 16


@dataclass(frozen=True, kw_only=True)
class RoarMethods(OptionGroup, panel="Method"):
    """The methods, and what is removed."""

    method: Annotated[
        list[str] | None,
        Option(
            "--method",
            help="A method, or nib:paper for a variant; repeatable. Default: nib. random, centre and ones are always "
            "included as negative controls.",
        ),
    ] = None
    remove: Annotated[
        list[str] | None,
        Option("--remove", help="The side whose most important part is removed: image, text or both; repeatable."),
    ] = None
    image_percentile: Annotated[Percent | None, Option(help="Pixels above this percentile are removed.")] = None
    text_percentile: Annotated[Percent | None, Option(help="Tokens above this percentile are removed.")] = None


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(OptionGroup, panel="Training"):
    """How the model is trained."""

    trainable: Annotated[
        list[str] | None,
        Option(
            "--trainable",
            help="What is trained: features (a linear map on each side), last (the last blocks) or whole; "
            "repeatable. Default: features.",
        ),
    ] = None
    repeats: Annotated[Repeats, Option(help="The number of repeats, each with another split and order.")] = 3
    learning_rate: Annotated[
        list[str] | None,
        Option(metavar="RATE", help="Adam's learning rate, for all trainables or one (features=1e-3); repeatable."),
    ] = None
    epochs: Annotated[Epochs | None, Option(help="The number of epochs.")] = None
    train_batch: Annotated[TrainBatch | None, Option(help="The largest number of pairs in a training batch.")] = None
    blocks: Annotated[
        Blocks | None, Option(help="The number of blocks of each tower that last trains. Default: a quarter of them.")
    ] = None
    init: Annotated[
        str | None, Option(help="The weights at the start: trained (those of the model) or fresh (untrained heads).")
    ] = None
    validation: Annotated[Percent | None, Option(help="The share of the pairs for validation, in percent.")] = None


@dataclass(frozen=True, kw_only=True)
class RoarOutput(OverwriteOptions):
    """The folder of the run."""

    out: Annotated[
        Path | None, Option("--out", "-o", metavar="RUN", help="The folder of the run; an existing run is resumed.")
    ] = None


@expand_groups
def roar(
    model: RoarModel, data: DataOptions, methods: RoarMethods, training: TrainingOptions, output: RoarOutput
) -> None:
    """ROAR+: remove what maps mark as important, fine-tune the model again, and measure the increase of the loss.

    Prints the settings and the tables, and writes report.md, report.html and result.json into the folder of the run. If
    a run was killed, the same command resumes it.
    """
    if output.out is None:
        raise BadOption("a run needs a folder: give --out RUN")
    check_methods(methods.method or [])
    learning_rates = _rates(training.learning_rate or [])
    choices = set_options(
        epochs=training.epochs,
        batch_size=training.train_batch,
        blocks=training.blocks,
        init=training.init,
        validation=training.validation,
        image_percentile=methods.image_percentile,
        text_percentile=methods.text_percentile,
        trainable=training.trainable,
        remove=methods.remove,
        methods=methods.method,
    )
    from nibt.cli.progress import interruptible, show_progress
    from nibt.evaluation.roar import roar as run
    from nibt.evaluation.roar.folder import RoarFolder
    from nibt.evaluation.roar.report import REPORTS, markdown, write

    RoarFolder(output.out).check_reports(REPORTS, output.overwrite)
    count = data.count or COUNT
    pairs, record = read_pairs(open_data(data, count), count, output.quiet)
    loaded = load(model.model, output.quiet, model.loading)
    kept = f"finished trainings are kept in {output.out}; the same command resumes the run"
    with interruptible(kept), show_progress("retraining", output.quiet) as on_progress:
        result = run(
            loaded,
            pairs,
            data=record,
            out=output.out,
            learning_rate=learning_rates,
            repeats=training.repeats,
            seed=data.seed,
            explain_batch=model.batch_size,
            on_progress=on_progress,
            **choices,
        )
    files = write(result, output.out, output.overwrite)
    if not output.quiet:
        say(markdown(result))
        say("wrote " + ", ".join(map(str, files)), err=True)


def _rates(texts: list[str]) -> Any:
    """Return the learning rate of all trainables, or learning rates by name."""
    if any("=" in text for text in texts):
        return {name: _number(value) for name, value in assignments(texts, option="--learning-rate").items()}
    if len(texts) > 1:
        raise BadOption(
            f"--learning-rate must be a single number, or NAME=RATE for each trainable, such as features=1e-3 (got "
            f"{', '.join(texts)})"
        )
    return _number(texts[0]) if texts else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadOption(f"--learning-rate must be a number, such as 1e-5 (got {text!r})") from error
