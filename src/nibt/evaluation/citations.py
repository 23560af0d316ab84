"""What to cite: nibt, and the publications of methods, metrics and some data sets, in BibTeX."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from nibt.errors import BadInput, BadOption, reason
from nibt.folder import MANIFEST, RunFolder
from nibt.io import load_json, one_line, read_path, read_text
from nibt.registry import available, documentation
from nibt.results.base import Result

Citable: TypeAlias = str | Path | Result | RunFolder
"""What can be cited: the name of a method or metric, a result, a run or a job, or the path of one of them."""

_ENTRY = re.compile(r"^% (?P<named>.+)\n(?P<bibtex>@\w+\{(?P<key>\w+),\n(?:.*\n)*?\}\n)", re.M)
_SOURCE = re.compile(r"^Source:\n((?:    .*\n?)+)", re.M)
_SOURCES_OF_CHECKS = {
    "weights": "Adebayo et al., NeurIPS 2018",
    "weights_ssim": "Adebayo et al., NeurIPS 2018",
}
_SOURCES_OF_RESULTS = {
    "roar": "Hooker et al., NeurIPS 2019",
    "decomposition": "Gandelsman et al., ICLR 2024",
}


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes:
        named: How the documentation names it, such as ``Zhu et al., ICLR 2025``.
        key: Its key in BibTeX.
        bibtex: Its entry in BibTeX.
    """

    named: str
    key: str
    bibtex: str


@lru_cache
def references() -> tuple[Reference, ...]:
    """Return the publications that the methods, the metrics and some data sets of nibt name."""
    text = read_text(files("nibt.evaluation") / "references.bib")
    return tuple(Reference(**entry.groupdict()) for entry in _ENTRY.finditer(text))


def references_in(source: str) -> list[Reference]:
    """Return the publications that a text names, in its order."""
    text = " ".join(source.split())
    found = [reference for reference in references() if reference.named in text]
    return sorted(found, key=lambda reference: text.index(reference.named))


def program() -> str:
    """Return the entry of nibt in BibTeX."""
    return (
        "@misc{nibt,\n"
        "  title  = {nibt: explanations of {CLIP}-like image-text models},\n"
        "  author = {{The nibt developers}},\n"
        "  year   = {2026},\n"
        f"  note   = {{Version {version('nibt')}}}\n"
        "}\n"
    )


def cite(*what: Citable) -> str:
    """Return what to cite, in BibTeX: nibt, and the publications of methods and metrics.

    A comment before each entry says what it is for. Methods and metrics without a publication, such as those of nibt
    and your own, are listed in comments at the end.

    Args:
        what: Names of methods and metrics, as ``gae`` and ``deletion``; results; runs of ``nibt bench`` and jobs; or
            the paths of a JSON file of a result and of the folder of a run or a job. Without any, the method ``nib``.
            A data set can be named that has an entry: ``counter_animal``, ``mmvp``, ``mmvp_vlm``, ``pope``, ``repope``
            or ``waterbirds``.

    Returns:
        The entries in BibTeX, those of nibt first.

    Examples:
        >>> "author    = {Petsiuk, Vitali and Das, Abir and Saenko, Kate}" in cite("deletion")
        True

    Raises:
        BadOption: A text is neither the name of a method or a metric nor a path.
        BadInput: A file has no result of nibt, or a folder neither a run nor a job.
    """
    uses = [use for each in what or ("nib",) for use in _uses(each)]
    of_reference: dict[Reference, list[str]] = {}
    without: dict[str, str] = {}
    for use, source in dict.fromkeys(uses):
        found = references_in(source)
        for reference in found:
            of_reference.setdefault(reference, []).append(use)
        if not found:
            without[use] = " ".join(source.split())

    entries = [f"% the program\n{program()}"]
    entries += [f"% {', '.join(uses)}\n{reference.bibtex}" for reference, uses in of_reference.items()]
    if without:
        lines = [f"%   {use}: {source or 'not known to nibt'}" for use, source in without.items()]
        entries.append("\n".join(["% without an entry:", *lines]) + "\n")
    return "\n".join(entries)


def _uses(what: Citable) -> Iterator[tuple[str, str]]:
    """Yield what is used, such as ``the method nib``, and its source."""
    if isinstance(what, Result):
        yield from _uses_of(what.to_json())
    elif isinstance(what, RunFolder):
        yield from _uses(what.folder)
    elif isinstance(what, str) and (plugin := _plugin(what)) is not None:
        yield plugin
    elif isinstance(what, str | Path):
        path = read_path("what to cite", what)
        if not path.exists():
            raise BadOption(
                f"there is no method, metric, file or folder {one_line(str(what))!r}: see nibt list methods and nibt "
                "list metrics"
            )
        for result in _read(path):
            yield from _uses_of(result)
    else:
        raise BadInput(
            f"cite takes names of methods and metrics, results and paths (got {type(what).__name__}): see nibt.cite"
        )


def _plugin(name: str) -> tuple[str, str] | None:
    """Return the use and the source of a method or a metric, from a name with or without variant and options.

    Of the data sets, only those with an entry: the names of others, such as ``folder``, may be those of runs.
    """
    plain = re.split(r"[:\s]", name.strip(), maxsplit=1)[0]
    for group in ("methods", "metrics"):
        if plain in available(group):
            return f"the {group.removesuffix('s')} {plain}", _source(group, plain)
    if plain in available("datasets") and references_of("datasets", plain):
        return f"the data set {plain}", _source("datasets", plain)
    return None


def references_of(group: str, name: str) -> list[Reference]:
    """Return the publications of a plugin."""
    return references_in(_source(group, name))


def _source(group: str, name: str) -> str:
    """Return the part of the documentation of a plugin that names its publications. No file of nibt is imported."""
    text = documentation(group, name)
    stated = _SOURCE.search(text)
    return stated[1] if stated else text.partition("\n\n")[0]


def _read(path: Path) -> list[Mapping[str, object]]:
    """Read the results of a JSON file, or the manifest of a folder."""
    file = path / MANIFEST if path.is_dir() else path
    if not file.exists():
        raise BadInput(f"{str(path)!r} has neither a run nor a job (no {MANIFEST}): give the folder of one")

    try:
        data = load_json(file)
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(file)!r} cannot be read as JSON ({reason(error)}): give a JSON file of nibt") from error

    results = data if isinstance(data, list) else [data]
    if not results or not all(isinstance(result, dict) and isinstance(result.get("kind"), str) for result in results):
        raise BadInput(f"{str(file)!r} has no result of nibt: give a JSON file that nibt wrote")
    return results


def _uses_of(data: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield what a result, a run or a job used, such as ``the method nib``, and its source."""
    request = data.get("request")
    asked = request if isinstance(request, Mapping) else data
    plan = asked.get("plan")
    asked = plan if isinstance(plan, Mapping) else asked

    kind = str(data["kind"])
    if kind in _SOURCES_OF_RESULTS:
        yield f"the {kind}", _SOURCES_OF_RESULTS[kind]

    for group in ("methods", "metrics"):
        single = asked.get(group.removesuffix("s"))
        several = asked.get(group)
        for entry in [*([single] if single else []), *(several if isinstance(several, list) else [])]:
            name = entry.get("name", "") if isinstance(entry, Mapping) else str(entry)
            known = _plugin(str(name))
            yield known or (f"the {group.removesuffix('s')} {one_line(str(name))}", "")

    yield from _uses_of_checks(data.get("checks"))


def _uses_of_checks(checks: object) -> Iterator[tuple[str, str]]:
    """Yield the metrics and procedures of checks."""
    for check in checks if isinstance(checks, list) else []:
        name = str(check.get("name")) if isinstance(check, Mapping) else ""
        if name in _SOURCES_OF_CHECKS:
            yield f"the check {name}", _SOURCES_OF_CHECKS[name]
        elif name in available("metrics"):
            yield f"the metric {name}", _source("metrics", name)
