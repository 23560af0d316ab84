"""``nibt roar``: train again without what the maps point at; a run that was stopped goes on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nibt.cli import options as option
from nibt.cli.audit import check_method, opened, prepared
from nibt.cli.options import assignments, given
from nibt.errors import BadOption

COUNT = 400


def roar(
    model: Annotated[str, typer.Argument(help="A model; see nibt list models.")],
    data: Annotated[
        str,
        typer.Argument(
            help="EncodedImages with their right captions: scenes, or a data set with its folder, as coco:FOLDER."
        ),
    ] = "scenes",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            rich_help_panel=option.OUTPUT,
            help="The folder of the run; a run that is there goes on.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="A method, or nib:paper for a variant; repeatable. Without it: nib. random, centre and ones "
            "always come along.",
        ),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--form",
            help="What is trained: features (a linear map on each side), last (the last blocks) or whole; "
            "repeatable. Without it: features.",
        ),
    ] = None,
    hide: Annotated[
        list[str] | None,
        typer.Option("--hide", help="What is hidden: image, text or both; repeatable. Without it: each of them."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="How often, each with another split and order.")] = 3,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="RATE", help="Adam's rate, of all forms, or of one as features=1e-3; repeatable."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How often each training pair is seen.")] = None,
    train_batch: Annotated[int | None, typer.Option(help="Pairs in a training batch.")] = None,
    blocks: Annotated[
        int | None, typer.Option(help="Blocks of each tower that the form last trains. Without it: a quarter of them.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Where training starts: trained (the model as it is) or fresh (heads that know nothing)."),
    ] = None,
    validation: Annotated[int | None, typer.Option(help="Per cent of the pairs that validate.")] = None,
    image_percentile: Annotated[int | None, typer.Option(help="Pixels above it are hidden.")] = None,
    text_percentile: Annotated[int | None, typer.Option(help="Tokens above it are hidden.")] = None,
    count: Annotated[int, typer.Option(rich_help_panel=option.DATA, help="How many pairs.")] = COUNT,
    seed: Annotated[int, typer.Option(help="For what is drawn: splits, orders, ties, the pairs of a folder.")] = 0,
    other: option.DataOption = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
    device: option.Device = "cpu",
    resize: option.Resize = None,
    image_size: option.ImageSize = None,
    batch_size: option.BatchSize = 16,
) -> None:
    """ROAR+: hide what each method's maps are highest for, fine-tune the model again, and see how much less it learns.

    Killed at any moment it goes on, by the same command, where it was. Prints the choices and the tables, and writes
    report.md, report.html and result.json into the run's folder.
    """
    if out is None:
        raise BadOption("say where the run goes: --out RUN")
    for name in method or []:
        check_method(name)
    rates = _rates(rate or [])
    choices = given(
        epochs=epochs,
        batch_size=train_batch,
        blocks=blocks,
        start=start,
        validation=validation,
        seed=seed,
        image_percentile=image_percentile,
        text_percentile=text_percentile,
        explain_batch=batch_size,
    )
    chosen = given(form=form, hidden=hide, methods=method)
    loading = {"device": device, "resize": resize, "image_size": image_size}
    from nibt.cli.progress import interruptible, shown
    from nibt.evaluation.roar import roar as run
    from nibt.evaluation.roar.folder import PROVENANCE
    from nibt.evaluation.roar.report import REPORTS, markdown, write
    from nibt.results.provenance import check_reports

    check_reports(out / PROVENANCE, REPORTS, overwrite)
    data_set = opened(data, count, seed, assignments(other or []))
    ready, pairs, record = prepared(model, data_set, count, quiet, loading)
    with (
        interruptible(f"finished trainings are kept in {out}"),
        shown("retraining", quiet, window=3600.0) as on_progress,
    ):
        found = run(
            ready,
            pairs,
            data=record,
            out=out,
            rate=rates,
            repeats=repeats,
            on_progress=on_progress,
            **choices,
            **chosen,
        )
    files = write(found, out, overwrite)
    if not quiet:
        typer.echo(markdown(found))
        typer.echo("wrote " + ", ".join(map(str, files)), err=True)


def _rates(texts: list[str]) -> Any:
    """One rate of all forms, or rates by form."""
    if any("=" in text for text in texts):
        return {name: _number(value) for name, value in assignments(texts, option="--rate").items()}
    if len(texts) > 1:
        raise BadOption(f"give one --rate for all forms, or one of each form as features=1e-3 (got {', '.join(texts)})")
    return _number(texts[0]) if texts else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadOption(f"--rate must be a number, as 1e-5 (got {text!r})") from error
