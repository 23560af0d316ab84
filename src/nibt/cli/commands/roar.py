"""``nibt roar``, which trains models on what is left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from nibt.cli.command import Command
from nibt.cli.commands.evaluation import DataOptions, open_data, read_pairs
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import (
    EvaluatedModelOptions,
    NamedMethodsOptions,
    OverwriteOptions,
    set_options,
    typed_assignments,
)
from nibt.cli.terminal import interruptible, say, show_progress
from nibt.errors import BadOption
from nibt.options import Blocks, Epochs, Percent, Positive, Repeats, TrainBatch

ROAR_COUNT = 400
_TRAINABLE = ("features", "last", "whole")
_TRAINING = {
    "learning_rate": Positive,
    "epochs": Epochs,
    "batch_size": TrainBatch,
    "blocks": Blocks,
    "init": str,
    "validation": Percent,
    "image_percentile": Percent,
    "text_percentile": Percent,
}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(OptionGroup, panel="Training"):
    """What is removed, and how the model is trained."""

    side: Annotated[
        list[str] | None,
        Option(
            "--side",
            help="The side whose units with the highest scores are removed: image, text or both; repeatable. Default: "
            "all three.",
        ),
    ] = None
    trainable: Annotated[
        list[str] | None,
        Option(
            "--trainable",
            help="What is trained: features (a linear map on each side), last (the last blocks) or whole; "
            "repeatable. Default: features.",
        ),
    ] = None
    repeats: Annotated[
        Repeats, Option(help="The number of repeats, each with another split and order of the pairs.")
    ] = 3
    train: Annotated[
        list[str] | None,
        Option(
            "--train",
            metavar="NAME=VALUE",
            help="An option of the training: learning_rate (of Adam; learning_rate.features for one trainable), "
            "epochs, batch_size, blocks (their number with --trainable last), init (trained or fresh), validation "
            "(percent of the pairs), image_percentile and text_percentile (pixels or tokens with scores above this "
            "percentile are removed); repeatable.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RoarOutput(OverwriteOptions):
    """The folder of the run."""

    out: Annotated[
        Path | None,
        Option("--out", "-o", metavar="RUN", help="The folder of the run; an existing run is resumed. Required."),
    ] = None


@expand_groups
def roar(
    model: EvaluatedModelOptions,
    data: DataOptions,
    methods: NamedMethodsOptions,
    training: TrainingOptions,
    output: RoarOutput,
) -> None:
    """ROAR+: remove the units with the highest scores, fine-tune the model again, and measure the increase of the loss.

    Prints the settings and the tables, and writes report.md, report.html and result.json into the folder of the run. If
    a run was killed, the same command resumes it.
    """
    if output.out is None:
        raise BadOption("a run needs a folder: give --out RUN")
    if model.dtype != "float32":
        raise BadOption(f"--dtype must be float32 for training (got {model.dtype})")

    types = {**_TRAINING, **{f"learning_rate.{name}": Positive for name in _TRAINABLE}}
    values = typed_assignments(training.train, "--train", types)
    rates = {name: values.pop(f"learning_rate.{name}") for name in _TRAINABLE if f"learning_rate.{name}" in values}
    if rates and "learning_rate" in values:
        raise BadOption("--train must set learning_rate for all trainables or for each: leave one of them out")

    values |= {"learning_rate": rates} if rates else {}
    choices = set_options(**values, trainable=training.trainable, side=training.side)
    from nibt.evaluation.roar import roar as run
    from nibt.evaluation.roar.report import REPORTS, markdown, write
    from nibt.evaluation.roar.run import RoarFolder

    RoarFolder(output.out).check_reports(REPORTS, output.overwrite)
    count = ROAR_COUNT if data.count is None else data.count
    pairs, record = read_pairs(open_data(data, count), count, output.quiet)
    loaded = model.loaded(output.quiet)
    kept = f"finished trainings are kept in {output.out}; the same command resumes the run"
    with interruptible(kept), show_progress("retraining", output.quiet) as on_progress:
        result = run(
            loaded,
            pairs,
            data=record,
            out=output.out,
            repeats=training.repeats,
            seed=data.seed,
            methods=methods.texts,
            on_progress=on_progress,
            **choices,
        )

    files = write(result, output.out, output.overwrite)
    if not output.quiet:
        say(markdown(result))
        say("wrote " + ", ".join(map(str, files)), err=True)


COMMANDS = (Command(10, roar),)
