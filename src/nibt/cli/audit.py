"""``nibt audit``, which checks whether the maps of a model can be relied on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from nibt.cli.groups import expand_groups
from nibt.cli.inputs import DataOptions, open_data, read_pairs
from nibt.cli.options import EvaluatedModelOptions, MethodsOptions, OverwriteOptions, set_options
from nibt.cli.output import Output, input_paths, model_name, slug, suffix
from nibt.cli.progress import show_progress
from nibt.errors import BadOption

COUNT, QUICK_COUNT = 24, 12


@dataclass(frozen=True, kw_only=True)
class AuditOptions(OverwriteOptions):
    """The extent of the audit, and its files."""

    quick: Annotated[bool, Option("--quick", help="Fewer pairs, stages and wordings.")] = False
    strict: Annotated[bool, Option("--strict", help="Exit with 1 if a check fails.")] = False
    out: Annotated[
        list[str] | None,
        Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A file: x.html, or x.json; - prints JSON. Repeatable. Default: a page and a JSON file.",
        ),
    ] = None


@expand_groups
def audit(model: EvaluatedModelOptions, data: DataOptions, methods: MethodsOptions, output: AuditOptions) -> None:
    """Audit a model: check whether its maps depend on the weights and the caption, and are stable and faithful.

    Prints the checks with their verdicts (pass, warn, fail), and writes a page and a JSON file. With the model scenes
    and 24 pairs it takes about a minute on one core. In general, it needs about 25 explanations and 200 forward passes
    per pair.
    """
    from nibt.cli.console import show_audit
    from nibt.evaluation.audit import audit as run
    from nibt.evaluation.audit.thresholds import LEAST_PAIRS
    from nibt.results.audit import audit_request
    from nibt.results.outputs import check_targets
    from nibt.results.provenance import require_same_file

    name_suffix = suffix(
        *(methods.method or []), **set_options(count=data.count, quick=output.quick, seed=data.seed or None)
    )
    inputs = input_paths(model.model, data.data)
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, inputs, (".html", ".json"))
    name, _, folder = data.data.partition(":")
    short = slug(f"{name}-{Path(folder).resolve().name}" if folder else name)
    targets = files.check([f"audit-{model_name(model.model) or model.name}-{short}"], "audit")
    quiet, count = files.silent, data.count or (QUICK_COUNT if output.quick else COUNT)
    if count < LEAST_PAIRS:
        raise BadOption(f"--count must be at least {LEAST_PAIRS} (got {count}): with fewer, the intervals are too wide")
    opened = open_data(data, count)
    pairs, record = read_pairs(opened, count, quiet)
    loaded = model.loaded(quiet)
    images = [row.image for row in opened.records(lambda place: place < count) if row is not None]
    paths = [target.path for target in targets]
    check_targets(paths, input_paths([image for image in images if isinstance(image, str)]), output.overwrite)
    if output.out and not output.overwrite:
        request = audit_request(loaded.record(), record, methods.texts, data.seed, output.quick)
        for path in paths:
            require_same_file(path, request)
    with show_progress("auditing", quiet) as on_progress:
        result = run(
            loaded,
            pairs,
            data=record,
            methods=methods.texts,
            seed=data.seed,
            quick=output.quick,
            on_progress=on_progress,
        )
    files.write([result], targets, lambda results: show_audit(results[0]))
    if output.strict and result.verdict == "fail":
        raise typer.Exit(1)
