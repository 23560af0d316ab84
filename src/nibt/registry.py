"""The folder is the registry: the file ``methods/nib.py``, or the folder of that name, is the method ``"nib"``.

A part is added by adding its one file. Listing names opens no file, so it costs no import. Packages outside
add parts by entry points of the group ``nibt.methods``, ``nibt.models`` and so on.
"""

import ast
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any, ClassVar

from nibt.errors import UnknownName

KINDS = ("methods", "models", "targets", "metrics", "datasets")
_HERE = Path(__file__).parent
_CONTRACT = "base"  # what every part of a kind is; files that siblings share start with an underscore


class Plugin:
    """What the registry finds by a name. ``name`` is that name: the file's, or the entry point's."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name = cls.__module__.rpartition(".")[2]


def available(kind: str) -> list[str]:
    """The names of every part of one kind: methods, models (families), targets, metrics, datasets.

    Examples:
        >>> "nib" in available("methods")
        True

    Raises:
        UnknownName: There is no such kind of part.

    """
    if kind not in KINDS:
        raise UnknownName("kinds", kind, KINDS)
    files = {
        file.stem for file in (_HERE / kind).glob("*.py") if file.stem != _CONTRACT and not file.stem.startswith("_")
    }
    folders = {file.parent.name for file in (_HERE / kind).glob("*/__init__.py")}
    return sorted(files | folders | set(_outside(kind).names))


def find(kind: str, name: str) -> Any:
    """What the file of that name calls its ``PLUGIN``.

    Raises:
        UnknownName: No part of that kind goes by that name.

    """
    for point in _outside(kind).select(name=name):
        plugin = point.load()
        plugin.name = name
        return plugin
    if name not in available(kind):
        raise UnknownName(kind, name, available(kind))
    return import_module(f"nibt.{kind}.{name}").PLUGIN


def summary(kind: str, name: str) -> str:
    """Return the first line of the docstring of a part's file, without importing it.

    Examples:
        >>> summary("targets", "cosine").startswith("The cosine")
        True

    Raises:
        UnknownName: No part of that kind goes by that name.

    """
    if name in _outside(kind).names:
        return (find(kind, name).__doc__ or "").strip().split("\n")[0]
    if name not in available(kind):
        raise UnknownName(kind, name, available(kind))
    file = _HERE / kind / f"{name}.py"
    source = (file if file.exists() else _HERE / kind / name / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


@lru_cache
def _outside(kind: str) -> EntryPoints:
    """The parts of other packages: looked up once, since every installed package is searched for them."""
    return entry_points(group=f"nibt.{kind}")
