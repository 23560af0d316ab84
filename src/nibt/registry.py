"""The registry of plugins, which finds them by the names of their files.

The file ``methods/nib.py``, or the folder ``methods/nib``, is the method ``"nib"``: the last class in it that is a
plugin. A wing has folders of its own: ``evaluation/formats/card.py`` is a format, and goes with ``evaluation``. To add
a plugin, add its file. Plugins of one idea share a file, and declare their names: ``class Insertion(CurveMetric,
name="insertion")``. Names are listed without importing the files. Other packages add plugins by entry points of the
groups ``nibt.methods``, ``nibt.models`` and so on.
"""

import ast
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from inspect import cleandoc, getdoc, isabstract
from pathlib import Path
from typing import Any, ClassVar

from nibt.errors import BadInput, BadOption, UnknownName, Unsupported, check_names, reason
from nibt.io import file_path, read_text
from nibt.options import assignments

KINDS = ("methods", "models", "targets", "metrics", "datasets", "formats")
_PACKAGE = Path(__file__).parent
_BASE = "base"  # the file with the base class of a group; files that plugins share start with an underscore
_DECLARED = re.compile(r'^class \w+\([^()]*\bname="(\w+)"', re.M)  # also of a header on several lines


class Plugin:
    """The base class of all plugins.

    Attributes:
        name: The name of the plugin: that which it declares, or that of its file, or of its entry point; of a class in
            a script or a notebook, that of the class.
    """

    name: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "", **options: object) -> None:
        super().__init_subclass__(**options)
        module = cls.__module__.rpartition(".")[2]
        cls.name = name or (cls.__name__ if module == "__main__" else module)


def available(group: str) -> list[str]:
    """Return the names of all plugins of a group.

    Args:
        group: "methods", "models" (the model families), "targets", "metrics", "datasets" or "formats".

    Examples:
        >>> "nib" in available("methods")
        True

    Raises:
        UnknownName: No group has that name.
    """
    check_names("kinds", [group], KINDS)
    return list(_available(group))


def modules(group: str) -> list[Any]:
    """Return the files of a group, imported."""
    return [import_module(_module_name(file)) for file in dict.fromkeys(_files(group).values())]


def _module_name(file: Path) -> str:
    place = (file.parent if file.stem == "__init__" else file.with_suffix("")).relative_to(_PACKAGE)
    return ".".join(("nibt", *place.parts))


def kinds(group: str) -> list[str]:
    """Return the names of the plugins of a group that only nibt has, such as the pages of kinds of results."""
    return list(_available(group))


@lru_cache
def _available(group: str) -> tuple[str, ...]:
    """Return the names, cached because plugins are not added while Python runs."""
    return tuple(sorted({*_files(group), *_entry_points(group).names}))


@lru_cache
def _files(group: str) -> dict[str, Path]:
    """Return the file of each plugin of nibt by its name."""
    files: dict[str, Path] = {}
    for folder in (_PACKAGE / group, *sorted(_PACKAGE.glob(f"*/{group}"))):
        for path in folder.iterdir() if folder.is_dir() else ():
            file = path if path.suffix == ".py" else path / "__init__.py"
            if file.exists() and path.stem != _BASE and not path.stem.startswith("_"):
                files |= dict.fromkeys(_DECLARED.findall(read_text(file)) or [path.stem], file)

    return files


@lru_cache(maxsize=1024)
def find(group: str, name: str) -> Any:
    """Return the class of a plugin: that of the entry point, or the last one of its file that has its name.

    It is cached because plugins are not added while Python runs.
    """
    points = list(_entry_points(group).select(name=name))
    if points:
        return _of_entry_point(group, name, points)

    check_names(group, [name], _available(group))
    module = import_module(_module_name(_files(group)[name]))
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Plugin)]

    # the last one, since base classes of the file stand before it and may have its name
    return [plugin for plugin in classes if plugin.name == name and not isabstract(plugin)][-1]


def _of_entry_point(group: str, name: str, points: Sequence[EntryPoint]) -> Any:
    """Return the class of a plugin of another package, whose name no other plugin may have."""
    point = points[0]
    package = point.dist.name if point.dist else point.value

    rival = ""
    if name in _files(group):
        rival = "nibt"
    elif len(points) > 1:
        rival = "another package"

    if rival:
        raise Unsupported(
            f"the packages {package} and {rival} both have the plugin {name!r} of {group}: rename it there, or "
            f"uninstall {package}"
        )

    try:
        plugin = point.load()
    except Exception as error:  # code of another package
        raise Unsupported(
            f"the plugin {name!r} of the package {package} cannot be imported ({reason(error)}): correct or "
            "uninstall that package"
        ) from error

    plugin.name = name
    return plugin


def documentation(group: str, name: str) -> str:
    """Return the docstring of a plugin: that of its file, or of its class if that declares its name.

    No file of nibt is imported.
    """
    if name in _entry_points(group).names:
        return cleandoc(find(group, name).__doc__ or "")

    check_names(group, [name], available(group))

    # the file is parsed and not imported, since a list of all methods would otherwise import PyTorch
    tree = ast.parse(read_text(_files(group)[name]))
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    declared = (node for node in classes if any(ast.unparse(word) == f"name={name!r}" for word in node.keywords))
    return ast.get_docstring(next(declared, tree)) or ""


def section(kind: type, name: str) -> dict[str, str]:
    """Return the entries of a section of the docstrings of a class and its base classes, such as ``Args``."""
    entries: dict[str, str] = {}
    for base in kind.__mro__:
        if not base.__doc__:  # for which getdoc returns that of a base class
            continue
        match = re.search(rf"^{name}:\n((?:    .*\n?|\n)+)", getdoc(base) or "", re.M)
        if match is None:
            continue
        for key, text in re.findall(r"^    (\w+): ((?:.|\n {8})+)", match[1], re.M):
            entries.setdefault(key, " ".join(text.split()))

    return entries


def format_of(path: str | Path, result_kind: str | None = None) -> Any:
    """Return the format of a path, an object of ``nibt.formats.base.Format``: that of the longest ending.

    Args:
        path: The path.
        result_kind: The kind of result that the file is for; errors name endings of formats that can hold it.
    """
    if not isinstance(path, str | Path):
        raise BadInput(f"save takes results of nibt, and then the path (got a {type(path).__name__} as the path)")

    path = file_path("the path", path)
    name = path.name.lower()

    # the formats of wings have endings of two parts, such as .card.md: other files do not need them
    names = available("formats")
    files = _files("formats")
    of_wings = {format_name for format_name in files if not files[format_name].is_relative_to(_PACKAGE / "formats")}
    core = [format_name for format_name in names if format_name not in of_wings]
    by_ending = _formats_by_ending(core) if len(path.suffixes) == 1 else {}
    if path.suffix.lower() not in by_ending:
        by_ending = _formats_by_ending(names)

    for ending in sorted(by_ending, key=len, reverse=True):
        if name.endswith(ending) and name != ending:
            _check_kind(path, ending, by_ending)
            return by_ending[ending]

    examples = []
    for ending, file_format in by_ending.items():
        is_named = ending.count(".") > 1 or ending in (".png", ".html", ".json", ".tif")
        if is_named and (result_kind is None or result_kind in file_format.holds):
            examples.append(ending)

    raise BadOption(
        f"{str(path)!r} must end in the name of a format, such as {', '.join(sorted(examples))} (got {path.suffix!r})"
    )


def _formats_by_ending(names: Iterable[str]) -> dict[str, Any]:
    """Return formats by the endings of their files."""
    by_ending: dict[str, Any] = {}
    for name in names:
        file_format = find("formats", name)()
        by_ending |= dict.fromkeys(file_format.endings, file_format)
    return by_ending


def _check_kind(path: Path, ending: str, endings: Iterable[str]) -> None:
    """Check that a path such as ``a.masks.png`` does not join the kind of one format with the ending of another."""
    stem, _, kind = path.name.lower().removesuffix(ending).rpartition(".")
    if ending.count(".") > 1 or not stem:
        return

    others = sorted(other for other in endings if other.startswith(f".{kind}."))
    if others:
        raise BadOption(f"{path.name!r} must end in {' or '.join(others)} (got {ending!r} after {kind})")


def summary(group: str, name: str) -> str:
    """Return the first line of the docstring of a plugin.

    Examples:
        >>> summary("targets", "cosine").startswith("The cosine")
        True
    """
    return documentation(group, name).split("\n")[0]


@lru_cache
def _entry_points(group: str) -> EntryPoints:
    """Return the plugins of other packages, cached because the look-up searches all installed packages."""
    return entry_points(group=f"nibt.{group}")


SERVED_METHOD = "occlusion"
"""The method of models behind a server, if none is named; else it is that of ``MethodSpec``."""


@dataclass(frozen=True)
class MethodSpec:
    """A method with a variant and unresolved options, or a ``Method`` whose options are resolved.

    Its text, such as ``nib:paper`` or ``banzhaf budget=200 share=0.3``, is the same in the command, in Python, in plans
    and on the page.
    """

    name: str = "nib"
    variant: str = "default"
    options: Mapping[str, object] = field(default_factory=dict)
    instance: Any = None  # a Method, whose class is above this module

    @classmethod
    def of(
        cls,
        method: "str | MethodSpec | Plugin",
        variant: str | None = None,
        options: Mapping[str, object] | None = None,
        seed: int | None = None,
    ) -> "MethodSpec":
        """Return a method that is given as text, as a spec or as an object, with a variant and further options."""
        if isinstance(method, type):
            raise BadOption(f"a method must be a text or an object (got the class {method.__name__}): call it first")
        if isinstance(method, Plugin) and hasattr(method, "attribute"):  # a Method, whose file imports PyTorch
            return cls._of_object(method, variant, options, seed)

        spec = method if isinstance(method, MethodSpec) else cls.parse(method)
        if not isinstance(variant, str | None):
            raise UnknownName("variants", variant, spec.method_class.variants)

        spec._check_once(method, variant, options, seed)

        result = replace(
            spec,
            variant=spec.variant if variant is None else variant,
            options={**spec.options, **(options or {})},
        )
        if seed is not None and not result.is_random:
            raise BadOption(f"seed has no effect, since {result} draws nothing at random: leave it out")
        return result

    @classmethod
    def _of_object(
        cls, method: Plugin, variant: str | None, options: Mapping[str, object] | None, seed: int | None
    ) -> "MethodSpec":
        beside = list(options or ())
        if variant is not None:
            beside.append(f"variant={variant}")
        if seed is not None:
            beside.append("seed")
        if beside:
            raise BadOption(f"a Method has its options already (got {', '.join(beside)}): leave them out")
        return cls(method.name, instance=method)

    def _check_once(
        self,
        method: "str | MethodSpec | Plugin",
        variant: str | None,
        options: Mapping[str, object] | None,
        seed: int | None,
    ) -> None:
        """Check that nothing is set both in the text of a method, or in its spec, and beside it."""
        beside = list(options or ())
        if seed is not None:
            beside += ["seed", "image_seed", "text_seed"]
        twice = [name for name in beside if name in self.options]

        # a text may name the default variant, which a spec has without being asked
        has_variant = ":" in method.split()[0] if isinstance(method, str) else self.variant != "default"
        if has_variant and variant not in (None, self.variant):
            twice.append("variant")
        if twice:
            raise BadOption(f"{twice[0]} is set twice, in the text of the method and beside it: set it once")

    @classmethod
    def parse(cls, text: object) -> "MethodSpec":
        """Read a name with an optional variant and options; values with spaces are quoted.

        Examples:
            >>> MethodSpec.parse("nib:paper steps=10")
            MethodSpec(name='nib', variant='paper', options={'steps': '10'}, instance=None)
        """
        if not isinstance(text, str):
            raise BadOption(
                "a method must be its name, a text such as 'nib:paper steps=10', or a Method; nibt.method makes one of "
                f"a function (got {text!r:.100})"
            )

        try:
            words = shlex.split(text)
        except ValueError as error:
            raise BadOption(f"the text of a method must close its quotes (got {text!r})") from error

        first, *pairs = words or [""]
        name, colon, variant = first.partition(":")
        find("methods", name)  # an unknown name is the first error
        if colon and not variant:
            raise BadOption(f"the variant is missing after the colon (got {text!r:.100}): name one, or leave it out")

        options: dict[str, Any] = {}
        for key, value in assignments(pairs, f"an option of the method {text!r:.100}").items():
            options[key] = None if value.lower() == "none" else value
        return cls(name, variant or "default", options)

    def __str__(self) -> str:
        name = self.name if self.variant == "default" else f"{self.name}:{self.variant}"
        return " ".join([name, *(f"{key}={_as_text(value)}" for key, value in self.options.items())])

    @property
    def words(self) -> list[str]:
        """What distinguishes the method from the default, for names of files."""
        words = []
        if self.name != MethodSpec.name:
            words.append(self.name)
        if self.variant != MethodSpec.variant:
            words.append(self.variant)
        return words + [f"{name}-{_as_text(value)}" for name, value in self.options.items()]

    @property
    def method_class(self) -> Any:
        """The class of the method."""
        return find("methods", self.name) if self.instance is None else type(self.instance)

    @property
    def is_random(self) -> bool:
        """Whether the method draws at random with its options."""
        return self.method_class.draws(self.options)


def _as_text(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return shlex.quote(text)
