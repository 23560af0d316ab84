"""``nibt audit``, ``nibt bench`` and ``nibt roar``, which evaluate models and methods on pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import (
    EvaluatedModelOptions,
    NamedMethodsOptions,
    OverwriteOptions,
    RunOptions,
    assignments,
    completing,
    set_options,
)
from nibt.cli.output import Output, OutputFile, input_paths, model_name, slug, suffix
from nibt.cli.terminal import complain, interruptible, say, show_progress
from nibt.errors import BadInput, BadOption
from nibt.options import Count, Keywords, Seed
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.data.pair import Pair
    from nibt.datasets.base import Dataset
    from nibt.evaluation.bench.plan import Plan
    from nibt.evaluation.bench.run import Benchmark
    from nibt.models._loaded import LoadedModel
    from nibt.results.audit import Audit

COUNT = 48
QUICK_COUNT = 32


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
    count: Annotated[
        Count | None, Option(help="The number of pairs. Default: 48 for audit, 32 with --quick, 400 for roar.")
    ] = None
    seed: Annotated[Seed, Option(help="The seed of all random draws, and of the choice of pairs.")] = 0
    data_option: Annotated[
        list[str] | None,
        Option("-D", metavar="NAME=VALUE", help="An option of the data, such as split=val; repeatable."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class WorkOptions(OptionGroup):
    """The folder of finished work."""

    work: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="The folder that keeps finished work until the command ends, so that the same command goes on after "
            "it was stopped. Default: a folder next to the page, .work at its end.",
        ),
    ] = None

    def folder(self, targets: Sequence[OutputFile]) -> Path | None:
        """Return the folder of finished work for the files of a command; None if it only prints."""
        work = self.work or (Path(f"{targets[0].path}.work") if targets else None)
        if work is not None and (work.is_file() or work in [target.path for target in targets]):
            raise BadOption(f"--work must be a folder of its own (got {work}): choose another one")
        return work


def kept_work(work: Path | None) -> str:
    """Return what an interruption leaves."""
    if work is None or not work.exists():
        return "nothing was finished"
    return f"finished work is kept in {work}; the same command goes on"


@dataclass(frozen=True, kw_only=True)
class AuditOptions(WorkOptions, panel="Audit"):
    """The extent of the audit, and when it fails."""

    against: Annotated[
        str | None,
        Option(metavar="MODEL", help="A model to compare with, such as the one before fine-tuning."),
    ] = None
    quick: Annotated[
        bool,
        Option("--quick", help="Use 32 pairs instead of 48, fewer stages of randomization and wordings, and no parts."),
    ] = False
    strict: Annotated[bool, Option("--strict", help="Exit with 1 if a check fails.")] = False


@dataclass(frozen=True, kw_only=True)
class AuditOutputOptions(OverwriteOptions):
    """The files of an audit."""

    out: Annotated[
        list[str] | None,
        Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A file: x.html, x.json, x.card.md (a section of a model card), x.junit.xml (test cases for "
            "continuous integration) or x.badge.svg; - prints JSON. Repeatable. Default: a page and a JSON file.",
        ),
    ] = None


@expand_groups
def audit(
    model: EvaluatedModelOptions,
    data: DataOptions,
    methods: NamedMethodsOptions,
    extent: AuditOptions,
    output: AuditOutputOptions,
) -> None:
    """Audit a model: check whether its maps depend on the weights and the caption, and are stable and faithful.

    With a table of images and prompts, and a model that writes (-m scenes_generator), check whether its answers depend
    on the image, and on the right part of it.

    Also find which parts of the images carry the scores, and whether the model needs those beside the named objects.
    Prints the checks with their verdicts (pass, warn, fail), and writes a page and a JSON file. With the model scenes
    and 48 pairs it takes a few minutes on one core. A quick audit with lite costs as much as about 41 forward passes of
    both towers per pair, and a whole one more. --against takes twice the time.
    """
    from nibt.cli.console_audit import show_audit
    from nibt.evaluation.finished import WorkFolder
    from nibt.results.audit import audit_request
    from nibt.results.same_request import require_same_file

    name_suffix = suffix(
        *(methods.method or []),
        **set_options(
            count=data.count,
            quick=extent.quick,
            seed=data.seed or None,
            against=model_name(extent.against) or extent.against,
        ),
    )
    inputs = input_paths(model.model, extent.against, data.data)
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, inputs, (".html", ".json"))
    targets = files.check([f"audit-{model_name(model.model) or model.name}-{data_name(data.data)}"], "audit")
    work = extent.folder(targets)
    count = _count(data.count, extent.quick)
    opened = open_pairs_or_questions(data, count)
    if opened.has_prompts:
        prepared = _audit_of_answers(model, opened, count, extent.against, files.silent)
    else:
        prepared = _audit_of_pairs(model, opened, count, extent.against, files.silent, data.data)
    paths = [target.path for target in targets]
    check_images(opened, count, paths, output.overwrite)
    if output.out and not output.overwrite:
        request = audit_request(
            prepared.models[0].record(),
            prepared.data,
            methods.texts,
            data.seed,
            extent.quick,
            *(model.record() for model in prepared.models[1:]),
            subject=prepared.subject,
        )
        for path in paths:
            require_same_file(path, request)

    with interruptible(partial(kept_work, work)), show_progress("auditing", files.silent) as on_progress:
        result = prepared.run(
            methods=methods.texts,
            seed=data.seed,
            quick=extent.quick,
            data=prepared.data,
            folder=work,
            on_progress=on_progress,
        )

    files.write([result], targets, lambda results: show_audit(results[0]))
    if work is not None:
        WorkFolder(work).discard()
    if extent.strict and result.verdict == "fail":
        raise typer.Exit(1)


@dataclass(frozen=True)
class _PreparedAudit:
    """An audit whose data are read, and whose models are loaded.

    Attributes:
        run: Computes it with the settings, a folder of finished work and a listener of its progress.
        models: The audited model, and perhaps the one that it is compared with.
        data: The record of the data set and of what was read.
        subject: What is audited: the maps of pairs, or the answers of a generator.
    """

    run: "Callable[..., Audit]"
    models: "Sequence[LoadedModel]"
    data: Keywords
    subject: str = "pairs"


def _audit_of_pairs(
    model: EvaluatedModelOptions, opened: "Dataset", count: int, against: str | None, quiet: bool, source: str
) -> _PreparedAudit:
    """Prepare the audit of a model that compares images with captions."""
    from nibt.evaluation.audit import audit as run
    from nibt.models._failures import WritesText

    pairs, record = read_pairs(opened, count, quiet)
    try:
        loaded = model.loaded(quiet)
    except WritesText as error:
        raise BadInput(
            f"{model.name} writes answers: to audit it, give questions, such as a table with the columns image and "
            f"prompt (got {source}, which has captions)"
        ) from error

    other = None if against is None else replace(model, model=against).loaded(quiet)
    models = [loaded] if other is None else [loaded, other]
    return _PreparedAudit(partial(run, loaded, pairs, against=other), models, record)


def _audit_of_answers(
    model: EvaluatedModelOptions, opened: "Dataset", count: int, against: str | None, quiet: bool
) -> _PreparedAudit:
    """Prepare the audit of the answers of a generator to the prompts of a data set."""
    from nibt.evaluation.audit.answers import audit_answers, check_not_served, questions_of
    from nibt.generators.loading import load_generator
    from nibt.models._request import GenerationOptions

    check_not_served(model.name)
    if against is not None:
        raise BadOption("--against is for models that compare images with captions: audit each generator alone")

    with show_progress("reading questions", quiet):
        questions = questions_of(opened, count)
    record = _record_of(opened, [question.pair for question in questions])
    with show_progress(f"loading {model.name}", quiet):
        loaded = load_generator(model.name, **model.placed(model.load, GenerationOptions))
    return _PreparedAudit(partial(audit_answers, loaded, questions), [loaded], record, subject="answers")


def _count(count: int | None, quick: bool) -> int:
    """Return the number of pairs of an audit."""
    from nibt.evaluation.audit.checks import LEAST_PAIRS

    if count is None:
        return QUICK_COUNT if quick else COUNT
    if count < LEAST_PAIRS:
        raise BadOption(f"--count must be at least {LEAST_PAIRS} (got {count}): with fewer, the intervals are too wide")
    return count


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
        Option(
            "--dry-run",
            help="Only check the plan, without its models, and list what it measures and which data are missing.",
        ),
    ] = False


@expand_groups
def bench(plan: PlanOptions, output: BenchOptions) -> None:
    """Measure explanation methods by a plan of models, methods, data sets and metrics.

    nibt show RUN shows the results. If a run was killed, the same command resumes it.
    """
    if output.out is None and not output.dry_run:
        raise BadOption("a run needs a folder: give --out RUN")

    from nibt.evaluation.bench.plan import Plan
    from nibt.evaluation.bench.validation import dry_run, override_plan

    out = output.out
    folders = assignments(plan.data or [], option="--data", keep_names=True)
    requested = override_plan(
        Plan.read(plan.plan), folders, plan.without or (), plan.model or (), plan.device, plan.count
    )
    if output.dry_run:
        lines = list(dry_run(requested))
        if not output.quiet:
            say("\n".join(lines))

        lacks_data = any(line.startswith("data ") and ": missing (" in line for line in lines)
        if out is not None and not lacks_data:
            _begin(requested, out, output.quiet)  # which checks the folder and the data
        return

    assert out is not None, "it was checked above"
    run, data = _begin(requested, out, output.quiet)
    _measure_missing(run, data, out, output.quiet)
    if not output.quiet:
        say(f"{sum(1 for _ in run.chunks())} chunks are in {out}; for the results: nibt show {out}")
    _exit_with(run, output.strict)


def _begin(plan: "Plan", out: Path, quiet: bool) -> "tuple[Benchmark, Mapping[str, Dataset]]":
    """Open the run of a plan in a folder, with its data."""
    from nibt.evaluation.bench.run import Benchmark

    with show_progress("reading the data", quiet):
        return Benchmark.begin(plan, out)


def _exit_with(run: "Benchmark", strict: bool) -> None:
    """Say how many measurements failed, and exit with 1 if all did, or any with ``strict``."""
    failed, rows = run.failures()
    if failed:
        complain(f"{failed:,} of {rows:,} measurements failed; the report lists the errors")
    if failed == rows or (failed and strict):
        raise typer.Exit(1)


def _measure_missing(run: "Benchmark", data: "Mapping[str, Dataset]", out: Path, quiet: bool) -> None:
    """Measure what a run lacks, and say what it has."""
    missing = run.missing_chunks()
    chunks = sum(1 for _ in run.chunks())
    if not quiet and 0 < len(missing) < chunks:
        say(f"resumed: {chunks - len(missing)} of {chunks} chunks are complete", err=True)

    def kept() -> str:
        planned = sum(1 for _ in run.chunks())  # without those that were skipped
        complete = planned - len(run.missing_chunks())
        return f"{complete} of {planned} chunks are kept in {out}; the same command resumes the run"

    def start(model: str, skipped: Sequence[str]) -> None:
        if skipped and not quiet:
            say(f"skipped, since {model} cannot run them: {', '.join(skipped)}", err=True)

    pairs = sum(chunk.stop - chunk.start for chunk in missing)
    with interruptible(kept), show_progress("measuring", quiet, pairs) as on_progress:
        run.measure_missing(data, on_progress, start)


def open_data(options: DataOptions, count: int) -> "Dataset":
    """Open a data set by its name and folder, such as ``coco:FOLDER``, or by its files, shuffled with the seed."""
    return _opened(options, count, _data_values(options))


def open_pairs_or_questions(options: DataOptions, count: int) -> "Dataset":
    """Open a data set, where a table with prompts in place of captions has the questions of a generator."""
    from nibt.datasets._opening import ANSWER, CAPTION, PROMPT, open_rows
    from nibt.datasets._table import TableDataset

    values = _data_values(options)
    columns = {name: values.pop(name) for name in (PROMPT, ANSWER) if name in values}
    data = _opened(options, count, values)
    if not isinstance(data, TableDataset):
        if columns:
            raise BadOption(f"-D {next(iter(columns))} is for tables of prompts (got {options.data})")
        return data

    names = data.column_names()
    has_prompts = PROMPT in names and CAPTION not in names and data.caption == CAPTION
    return open_rows(data, **columns) if columns or has_prompts else data


def _data_values(options: DataOptions) -> Keywords:
    """Return the options of the data by name, except those that the command has itself."""
    values: Keywords = dict(assignments(options.data_option or [], option="-D"))
    if "count" in values:
        raise BadOption("-D cannot set count here: give the number of pairs as --count")
    for option in ("folder", "options"):
        if option in values:
            name = options.data.partition(":")[0]
            raise BadOption(f"-D cannot set {option}: give the folder as {name}:FOLDER")
    if "seed" in values and options.seed:
        raise BadOption("the seed is set twice, by --seed and by -D: set it once")
    return values


def _opened(options: DataOptions, count: int, values: Keywords) -> "Dataset":
    """Open a data set with options by name."""
    from nibt.datasets._opening import find_dataset, is_path, open_dataset, option_types
    from nibt.models._embedded import embedded
    from nibt.registry import available

    source = options.data
    if is_path(source):
        return open_dataset(source, {"seed": options.seed, **values})

    name = source.partition(":")[0]
    if name not in available("datasets") and (name in embedded() or "/" in name):
        raise BadOption(f"there is no data set or file {source!r}: the model is given with -m")

    types = option_types(find_dataset(source))
    defaults: Keywords = {"seed": options.seed} if {"seed", "folder"} & types.keys() else {}
    if "folder" not in types:
        defaults["count"] = count  # of drawn pairs
    if {"caption", "strict"} <= types.keys():
        defaults["strict"] = False  # as a table that is given by its path alone
    return open_dataset(source, {**defaults, **values})


def read_pairs(data: "Dataset", count: int, quiet: bool) -> "tuple[list[Pair], Keywords]":
    """Read the first ``count`` pairs, and return them with the record of the data set for results."""
    pairs: list[Pair] = []
    count = min(count, len(data))
    with show_progress("reading pairs", quiet, count) as on_progress:
        for item in range(count):
            pairs.append(data[item])
            on_progress(Progress(len(pairs)))

    return pairs, _record_of(data, pairs)


def _record_of(data: "Dataset", pairs: "Sequence[Pair]") -> Keywords:
    """Return the record of a data set of which these pairs were read."""
    from nibt.data.pair import pairs_hash

    return {**data.record(), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}


def data_name(data: str) -> str:
    """Return how names of files name the data."""
    name, _, folder = data.partition(":")
    return slug(f"{name}-{Path(folder).resolve().name}" if folder else name)


def check_images(data: "Dataset", count: int, paths: Sequence[Path], overwrite: bool) -> None:
    """Check that no output would replace an image among the first ``count`` pairs."""
    from nibt.results.outputs import check_targets

    images = [row.image for row in data.records(lambda place: place < count) if row is not None]
    check_targets(paths, input_paths([image for image in images if isinstance(image, str)]), overwrite)


COMMANDS = (Command(7, audit), Command(9, bench))
