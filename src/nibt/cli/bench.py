"""``nibt bench``, which measures a plan into a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from typer import Argument, Option

from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import RunOptions, assignments
from nibt.cli.progress import interruptible, show_progress
from nibt.cli.terminal import complain, say
from nibt.errors import BadOption
from nibt.options import Count


@dataclass(frozen=True, kw_only=True)
class PlanOptions(OptionGroup, panel="Plan"):
    """The plan, and values that replace those of the plan."""

    plan: Annotated[str, Argument(help="A plan that ships with nibt (nibt list plans), or a TOML file.")]
    data: Annotated[
        list[str] | None, Option(metavar="NAME=FOLDER", help="The folder of a data set of the plan; repeatable.")
    ] = None
    without: Annotated[
        list[str] | None, Option(metavar="NAME", help="Leave a data set of the plan out; repeatable.")
    ] = None
    model: Annotated[list[str] | None, Option("--model", "-m", help="A model in place of the plan's; repeatable.")] = (
        None
    )
    device: Annotated[str | None, Option(help="The device of the models: cpu, cuda, cuda:1, mps.")] = None
    count: Annotated[
        Count | None, Option(help="The number of pairs of each data set, from the first. Default: that of the plan.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class BenchOptions(RunOptions):
    """The folder of the run, and whether it is only planned."""

    dry_run: Annotated[
        bool,
        Option("--dry-run", help="Only check the plan, and list what it measures and which data are missing."),
    ] = False


@expand_groups
def bench(plan: PlanOptions, output: BenchOptions) -> None:
    """Measure explanation methods by a plan of models, methods, data sets and metrics.

    nibt show RUN shows the results. If a run was killed, the same command resumes it.
    """
    if output.out is None and not output.dry_run:
        raise BadOption("a run needs a folder: give --out RUN")
    from nibt.evaluation.bench.plan import Plan
    from nibt.evaluation.bench.run import Benchmark
    from nibt.evaluation.bench.validation import dry_run, override_plan

    out = output.out
    folders = assignments(plan.data or [], option="--data", keep_names=True)
    requested = override_plan(
        Plan.read(plan.plan), folders, plan.without or (), plan.model or (), plan.device, plan.count
    )
    if output.dry_run:
        for line in dry_run(requested):
            say(line)
        return
    assert out is not None
    with show_progress("reading the data", output.quiet):
        run, data = Benchmark.begin(requested, out)
    missing, chunks = run.missing_chunks(), sum(1 for _ in run.chunks())
    if not output.quiet and 0 < len(missing) < chunks:
        say(f"resumed: {chunks - len(missing)} of {chunks} chunks are complete", err=True)
    pairs = sum(chunk.stop - chunk.start for chunk in missing)

    def kept() -> str:
        planned = sum(1 for _ in run.chunks())  # without those that were skipped
        complete = planned - len(run.missing_chunks())
        return f"{complete} of {planned} chunks are kept in {out}; the same command resumes the run"

    def start(model: str, skipped: Sequence[str]) -> None:
        if skipped and not output.quiet:
            say(f"skipped, since {model} cannot run them: {', '.join(skipped)}", err=True)

    with interruptible(kept), show_progress("measuring", output.quiet, pairs) as on_progress:
        run.measure_missing(data, on_progress, start)
    failed, rows = run.failures()
    if not output.quiet:
        say(f"{sum(1 for _ in run.chunks())} chunks are in {out}; for the results: nibt show {out}")
    if failed:
        complain(f"{failed:,} of {rows:,} measurements failed; the report lists the errors")
    if failed == rows or (failed and output.strict):
        raise typer.Exit(1)
