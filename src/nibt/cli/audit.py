"""``nibt audit``: one page about a model that its owner can act on."""

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nibt.cli import options as option
from nibt.cli.options import assignments, given
from nibt.cli.output import input_paths, model_name, plain, suffix
from nibt.errors import BadOption, UnknownName
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.data.pair import Pair
    from nibt.datasets.base import Dataset
    from nibt.models.base import Model
    from nibt.results.audit import Audit

COUNT, QUICK_COUNT = 24, 12


def audit(
    model: Annotated[str, typer.Argument(help="A model; see nibt list models.")],
    data: Annotated[
        str,
        typer.Argument(
            help="EncodedImages with their right captions: scenes, or a data set with its folder, as coco:FOLDER; "
            "see nibt list "
            "datasets."
        ),
    ] = "scenes",
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="A method to audit, or nib:paper for a variant; repeatable. Without it: nib."),
    ] = None,
    count: Annotated[
        int | None, typer.Option(rich_help_panel=option.DATA, help="How many pairs: 24, or 12 with --quick.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For what is drawn: shuffled weights, intervals, the pairs.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pairs, stages and wordings.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Leave with 1 if a line fails.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", rich_help_panel=option.OUTPUT, help="The page to write (HTML). The JSON file lies beside it."
        ),
    ] = None,
    json: option.Json = None,
    other: option.DataOption = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
    device: option.Device = "cpu",
    dtype: option.Dtype = "float32",
    resize: option.Resize = None,
    image_size: option.ImageSize = None,
    batch_size: option.BatchSize = 16,
) -> None:
    """Audit a model: do its maps depend on its weights, on the caption, on wording or luck; are they faithful?

    Prints lines with a verdict each (pass, warn, fail), and writes a page and a JSON file. With the model scenes and 24
    pairs it takes about a minute on one core; otherwise some 25 explanations of each pair, and 200 forward passes.
    """
    from nibt.cli.progress import shown
    from nibt.evaluation.audit import audit as run
    from nibt.evaluation.audit.thresholds import LEAST_PAIRS
    from nibt.outputs import check_targets, distinct
    from nibt.results.audit import audit_request
    from nibt.results.provenance import require_same_file
    from nibt.results.saving import as_text

    names_of = suffix(*(method or []), **given(count=count, quick=quick or None, seed=seed or None))
    default = Path(f"audit-{model_name(model) or model}-{plain(_short(data))}{names_of}.html")
    page = None if json == "-" and out is None else out or default
    beside = None if json == "-" else Path(json) if json else page and page.with_suffix(".json")
    targets = [path for path in (page, beside) if path is not None]
    check_targets(targets, input_paths(model, data), overwrite)
    for name in method or []:
        check_method(name)
    silent, count = quiet or json == "-", count or (QUICK_COUNT if quick else COUNT)
    if count < LEAST_PAIRS:
        raise BadOption(f"--count must be at least {LEAST_PAIRS}, for the intervals to mean anything (got {count})")
    options = assignments(other or [])
    loading = {"device": device, "dtype": dtype, "resize": resize, "image_size": image_size}
    ready, pairs, record = prepared(model, opened(data, count, seed, options), count, silent, loading)
    check_targets(targets, input_paths([pair.image.source for pair in pairs]), overwrite)
    methods = list(dict.fromkeys(method or ["nib"]))
    request = audit_request(ready.record(), record, methods, seed, quick)
    if out is None and page is not None:
        page = distinct(targets, request)[0]
        beside = beside if json else page.with_suffix(".json")
    elif not overwrite:
        for path in targets:
            require_same_file(path, request)
    with shown("auditing", silent, window=3600.0) as on_progress:
        found = run(
            ready,
            pairs,
            data=record,
            methods=methods,
            seed=seed,
            quick=quick,
            batch_size=batch_size,
            on_progress=on_progress,
        )
    _write(found, page, beside, silent, overwrite)
    if json == "-":
        sys.stdout.write(as_text(found.to_json()))
    if strict and found.verdict == "fail":
        raise typer.Exit(1)


def _short(data: str) -> str:
    """A data set's part of a file name: its name and that of its folder."""
    name, _, folder = data.partition(":")
    return f"{name}-{Path(folder).resolve().name}" if folder else name


def opened(data: str, count: int, seed: int, options: dict[str, str]) -> "Dataset":
    """Open a data set by its name and folder, ``coco:FOLDER``, or by its files, shuffled by the seed.

    Raises:
        UnknownName: there is no such data set, or it has no such option.
        BadOption: it needs a folder, or takes none; or an option cannot have that value.

    """
    from nibt.datasets._opening import open_files
    from nibt.registry import available, find

    name, _, folder = data.partition(":")
    if name not in available("datasets") and os.path.exists(data):
        return open_files(data, seed, options)
    kind = find("datasets", name)
    types = {field.name: str(field.type) for field in fields(kind) if field.init}
    for option_name in options:
        if option_name not in types or option_name in ("folder", "count"):
            raise UnknownName("options", option_name, set(types) - {"folder", "count"})
    if ("folder" in types) != bool(folder):
        raise BadOption(
            f"the data set {name} is read from a folder: give {name}:FOLDER"
            if not folder
            else f"the data set {name} takes no folder (got {folder!r})"
        )
    values: dict[str, Any] = {key: _value(key, value, types[key]) for key, value in options.items()}
    return kind(folder, **{"seed": seed, **values}) if folder else kind(count=count, **values)


def _value(name: str, text: str, kind: str) -> Any:
    """The text of a command line as a whole number, a truth, or itself."""
    if "bool" in kind and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "int" in kind and text.lstrip("-").isdecimal():
        return int(text)
    if "bool" in kind or ("int" in kind and "str" not in kind):
        raise BadOption(f"{name} must be {'true or false' if 'bool' in kind else 'a whole number'} (got {text!r})")
    return text


def check_method(name: str) -> None:
    """A mistyped name is told before a model is loaded."""
    from nibt.registry import available

    if name.partition(":")[0] not in available("methods"):
        raise UnknownName("methods", name.partition(":")[0], available("methods"))


def prepared(
    model: str, data: "Dataset", count: int, silent: bool, loading: dict[str, Any]
) -> "tuple[Model, list[Pair], dict[str, Any]]":
    """The model, the pairs, and the record of the pairs, which tells them from others."""
    from nibt.cli.inputs import loaded
    from nibt.cli.progress import shown
    from nibt.data.pair import pairs_hash

    count = min(count, len(data))
    with shown("reading pairs", silent, count) as on_progress:
        pairs = []
        for item in range(count):
            pairs.append(data[item])
            on_progress(Progress(len(pairs)))
    record = {**data.record(), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}
    return loaded(model, silent, **loading), pairs, record


def _write(found: "Audit", page: Path | None, beside: Path | None, silent: bool, overwrite: bool) -> None:
    from nibt.cli.audit_lines import show
    from nibt.report.html.audit import write_page

    if page is not None:
        write_page(found, page, overwrite)
    if beside is not None:
        found.save(beside, overwrite)
    if not silent:
        show(found)
        typer.echo("wrote " + ", ".join(str(path) for path in (page, beside) if path))
