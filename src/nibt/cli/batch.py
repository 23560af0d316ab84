"""``nibt batch``: many pairs are explained into a folder; a job that was stopped goes on."""

from pathlib import Path
from typing import Annotated

import typer

from nibt.cli import options as option
from nibt.cli.options import given, method_options
from nibt.errors import BadOption

_PAIRS, _WHERE = "The pairs", "Where it runs"


def batch(
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            help="A .csv, .tsv, .jsonl or .parquet file, .tar shards (also as shards/{000..099}.tar), a "
            "folder of these, "
            "of images with a .txt beside each, or what the package datasets saved to disk."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel=option.OUTPUT,
            help="The folder of the answers; a job that is there goes on.",
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Only look whether a job is whole: each row once, each file as it was written."
        ),
    ] = None,
    image: Annotated[
        str,
        typer.Option(
            rich_help_panel=_PAIRS,
            help="The column of images: paths from the file's folder, or bytes. Of shards: the ending of the files.",
        ),
    ] = "image",
    caption: Annotated[str, typer.Option(rich_help_panel=_PAIRS, help="The column of captions.")] = "caption",
    key: Annotated[
        str | None, typer.Option(rich_help_panel=_PAIRS, help="A column that names the rows, to be kept with them.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(rich_help_panel=_PAIRS, help="Of a saved data set that has several.")
    ] = None,
    chunk_size: Annotated[
        int, typer.Option(rich_help_panel=_PAIRS, help="Rows in a file: what is lost at most when a run is killed.")
    ] = 256,
    model: option.Model = None,
    device: option.Device = "cpu",
    dtype: option.Dtype = "float32",
    resize: option.Resize = None,
    image_size: option.ImageSize = None,
    batch_size: option.BatchSize = 8,
    method: option.Method = "nib",
    variant: option.Variant = "default",
    target: option.Target = "cosine",
    against: option.Against = None,
    against_image: option.AgainstImage = None,
    template: option.Template = None,
    layer: option.Layer = None,
    image_layer: option.ImageLayer = None,
    text_layer: option.TextLayer = None,
    steps: option.Steps = None,
    seed: option.Seed = None,
    other: option.Other = None,
    on: Annotated[
        str, typer.Option(rich_help_panel=_WHERE, help="local: this process; ray: workers, here or on a cluster.")
    ] = "local",
    workers: Annotated[int, typer.Option(rich_help_panel=_WHERE, help="With ray: how many.")] = 1,
    cpus: Annotated[float, typer.Option(rich_help_panel=_WHERE, help="With ray: of each worker, its threads.")] = 1,
    gpus: Annotated[
        float, typer.Option(rich_help_panel=_WHERE, help="With ray: of each worker; 0.5 puts two on one.")
    ] = 0,
    address: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_WHERE, help="With ray: of a cluster that is there; without it one is started here."
        ),
    ] = None,
    send_images: Annotated[
        bool,
        typer.Option(
            "--send-images", rich_help_panel=_WHERE, help="With ray: send images to workers that cannot reach them."
        ),
    ] = False,
    strict: option.Strict = False,
    quiet: option.Quiet = False,
) -> None:
    """Explain many pairs into a folder of Parquet files. Then: nibt show DIR ROW.

    Killed at any moment it goes on, by the same command, where it was. What cannot be read is recorded in its row.
    """
    if check is not None:
        _check(check, quiet)
        return
    if not pairs:
        raise BadOption("give the pairs: nibt batch PAIRS --out DIR (or --check DIR)")
    if out is None:
        raise BadOption("say where the answers go: --out DIR")
    for name, value in (("--address", address), ("--send-images", send_images), ("--gpus", gpus)):
        if value and on != "ray":
            raise BadOption(f"{name} is for workers: give --on ray, too")
    if model is None and not quiet:
        typer.echo("The model is lite, which ships with nibt: another by -m", err=True)
    from nibt.cli.progress import interruptible, shown
    from nibt.jobs.run import batch as run

    loading = {"device": device, "dtype": dtype, "resize": resize, "image_size": image_size}
    options = method_options(other, given(layer=layer, image_layer=image_layer, text_layer=text_layer, steps=steps))
    named = pairs[0] if len(pairs) == 1 else pairs
    with interruptible(lambda: _kept(out)), shown("explaining", quiet) as on_progress:
        job = run(
            model or "lite",
            named,
            out,
            method,
            target,
            image=image,
            caption=caption,
            key=key,
            split=split,
            chunk_size=chunk_size,
            variant=variant,
            against=tuple(against or ()),
            against_images=tuple(against_image or ()),
            templates=tuple(template or ()),
            batch_size=batch_size,
            seed=seed,
            loading=loading,
            on=on,
            workers=workers,
            cpus=cpus,
            gpus=gpus,
            address=address,
            send_images=send_images,
            on_progress=on_progress,
            **options,
        )
    rows, failed = job.manifest.rows, job.manifest.errors
    if not quiet:
        typer.echo(f"{rows:,} rows written, {failed:,} failed; now: nibt show {out} ROW")
    for warning in job.manifest.warnings:
        typer.echo(f"nibt: {warning}", err=True)
    if failed:
        typer.echo(f"nibt: {failed:,} of {rows:,} rows failed; the column error of {out} says why", err=True)
    if failed == rows or (failed and strict):
        raise typer.Exit(1)


def _kept(out: Path) -> str:
    """What is left of a job that was interrupted, and how to go on."""
    from nibt.jobs.job import Job

    job = Job(out)
    if not job.store.parts():
        return "nothing was explained yet, and nothing is kept"
    return f"{job.tally()['rows']:,} rows are kept in {out}; the same command goes on"


def _check(folder: Path, quiet: bool) -> None:
    from nibt.jobs.job import Job

    job = Job.open(folder)
    problems = job.check()
    if not quiet:
        for problem in problems:
            typer.echo(problem)
        if not problems:
            typer.echo(f"{folder} is whole: {job.manifest.rows:,} rows, each once")
    if problems:
        raise typer.Exit(1)
