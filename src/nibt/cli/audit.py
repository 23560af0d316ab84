"""``nibt audit``, which checks whether the maps of a model can be relied on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from nibt.cli.data import check_methods, open_data, read_pairs
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import DataOptions, ModelArgument, OverwriteOptions, load, set_options
from nibt.cli.output import input_paths, model_name, slug, suffix
from nibt.cli.terminal import print_json, say
from nibt.errors import BadOption

if TYPE_CHECKING:
    from nibt.results.audit import Audit

COUNT, QUICK_COUNT = 24, 12


@dataclass(frozen=True, kw_only=True)
class AuditMethods(OptionGroup, panel="Audit"):
    """The methods, and the extent of the audit."""

    method: Annotated[
        list[str] | None,
        Option("--method", help="A method to audit, or nib:paper for a variant; repeatable. Default: nib."),
    ] = None
    quick: Annotated[bool, Option("--quick", help="Fewer pairs, stages and wordings.")] = False


@dataclass(frozen=True, kw_only=True)
class AuditOutput(OverwriteOptions):
    """The page and the JSON file."""

    out: Annotated[
        Path | None, Option("--out", "-o", help="The page to write (HTML). The JSON file has the same name.")
    ] = None
    json: Annotated[str | None, Option(help="The JSON file; - writes JSON, and nothing else, to standard output.")] = (
        None
    )
    strict: Annotated[bool, Option("--strict", help="Exit with 1 if a check fails.")] = False


@expand_groups
def audit(model: ModelArgument, data: DataOptions, methods: AuditMethods, output: AuditOutput) -> None:
    """Audit a model: check whether its maps depend on the weights and the caption, and are stable and faithful.

    Prints the checks with their verdicts (pass, warn, fail), and writes a page and a JSON file. With the model scenes
    and 24 pairs it takes about a minute on one core. In general, it needs about 25 explanations and 200 forward passes
    per pair.
    """
    from nibt.cli.progress import show_progress
    from nibt.evaluation.audit import audit as run
    from nibt.evaluation.audit.thresholds import LEAST_PAIRS
    from nibt.outputs import check_targets, distinct, release
    from nibt.results.audit import audit_request
    from nibt.results.provenance import require_same_file

    name_suffix = suffix(
        *(methods.method or []), **set_options(count=data.count, quick=methods.quick, seed=data.seed or None)
    )
    if output.out and not output.out.name:
        raise BadOption(f"--out must be the name of a file, such as audit.html (got {str(output.out)!r})")
    out = output.out and (output.out if output.out.suffix else output.out.with_suffix(".html"))
    default = Path(f"audit-{model_name(model.model) or model.model}-{slug(_short(data.data))}{name_suffix}.html")
    page = None if output.json == "-" and out is None else out or default
    json = None if output.json == "-" else Path(output.json) if output.json else page and page.with_suffix(".json")
    targets = [path for path in (page, json) if path is not None]
    check_targets(targets, input_paths(model.model, data.data), output.overwrite)
    names = list(dict.fromkeys(methods.method or ["nib"]))
    check_methods(names)
    quiet, count = output.quiet or output.json == "-", data.count or (QUICK_COUNT if methods.quick else COUNT)
    if count < LEAST_PAIRS:
        raise BadOption(f"--count must be at least {LEAST_PAIRS} (got {count}): with fewer, the intervals are too wide")
    opened = open_data(data, count)
    pairs, record = read_pairs(opened, count, quiet)
    loaded = load(model.model, quiet, model.loading)
    images = [one.image for one in opened.records(lambda row: row < count) if one is not None]
    check_targets(targets, input_paths([image for image in images if isinstance(image, str)]), output.overwrite)
    request = audit_request(loaded.record(), record, names, data.seed, methods.quick)
    named = output.out is None and page is not None
    if not named and not output.overwrite:
        for path in targets:
            require_same_file(path, request)
    with show_progress("auditing", quiet) as on_progress:
        result = run(
            loaded,
            pairs,
            data=record,
            methods=names,
            seed=data.seed,
            quick=methods.quick,
            batch_size=model.batch_size,
            on_progress=on_progress,
        )
    if named:
        page = distinct(targets, request)[0]
        json = json if output.json else page.with_suffix(".json")
    try:
        _write(result, page, json, quiet, output.overwrite)
    except BaseException:
        release([path for path in (page, json) if path and named])
        raise
    if output.json == "-":
        print_json(result.to_json())
    if output.strict and result.verdict == "fail":
        raise typer.Exit(1)


def _short(data: str) -> str:
    """Return the name of a data set for file names: its name and that of its folder."""
    name, _, folder = data.partition(":")
    return f"{name}-{Path(folder).resolve().name}" if folder else name


def _write(result: "Audit", page: Path | None, json: Path | None, quiet: bool, overwrite: bool) -> None:
    from nibt.cli.console import show_audit
    from nibt.io import all_or_none
    from nibt.report.html.audit import write_page

    with all_or_none():
        if page is not None:
            write_page(result, page, overwrite)
        if json is not None:
            result.save(json, overwrite)
    if not quiet:
        show_audit(result)
        say("wrote " + ", ".join(str(path) for path in (page, json) if path))
