"""Which family reads which classes. The tables ``classes.toml`` say it, so that no family is imported to find one.

A folder of nibt has a table if it has families, or if it has generators of families.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from nibt.io import load_toml
from nibt.registry import available, find

_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Classes:
    """What a family reads.

    Attributes:
        types: The values of ``model_type`` in Hugging Face configs.
        classes: The class names of models in memory, and of checkpoints.
        writes: The class names of models that write text about an image.
        known: How checkpoints embed, by a part of the name of their repository.
        own_code: The classes whose checkpoints name code of their authors, which Transformers has as its own.
        saved_as: The classes that read checkpoints whose configuration names another one, such as one of the authors.
    """

    types: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    known: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    own_code: tuple[str, ...] = ()
    saved_as: Mapping[str, str] = field(default_factory=dict)


@lru_cache
def shipped() -> dict[str, Classes]:
    """Return what the tables of nibt say, by the names of families."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(_PACKAGE.glob("*/classes.toml")):
        for name, row in load_toml(path).items():
            rows.setdefault(name, {}).update(row)

    return {
        name: Classes(
            types=tuple(row.get("types", ())),
            classes=tuple(row.get("classes", ())),
            writes=tuple(row.get("writes", ())),
            known=row.get("known", {}),
            own_code=tuple(row.get("own_code", ())),
            saved_as=row.get("saved_as", {}),
        )
        for name, row in sorted(rows.items())
    }


def declared() -> dict[str, Classes]:
    """Return what all families read, by their names; families of other packages declare it in their class."""
    tables = shipped()
    every = {}
    for name in available("models"):
        family = None if name in tables else find("models", name)
        every[name] = tables[name] if family is None else Classes(family.model_types, family.class_names)
    return every


def family_of_generator(classes: Iterable[str]) -> str | None:
    """Return the name of the family of a generator by the names of its classes; None if there is none."""
    names = {*classes}
    return next((name for name, row in declared().items() if not names.isdisjoint(row.writes)), None)


def read_by(class_name: str) -> str:
    """Return the class that reads checkpoints whose configuration names this one: itself, if no table says another."""
    return next((row.saved_as[class_name] for row in shipped().values() if class_name in row.saved_as), class_name)


def has_code(classes: Iterable[str]) -> bool:
    """Return whether Transformers has the code that checkpoints of one of these classes name as their own."""
    names = {*classes}
    return any(not names.isdisjoint(row.own_code) for row in shipped().values())


def known_checkpoint(source: str) -> Mapping[str, Any]:
    """Return how a checkpoint embeds by the name of its repository: the last part of its path, or that in a cache."""
    parts = Path(source).parts
    repository = next((folder for folder in parts if folder.startswith("models--")), parts[-1] if parts else "").lower()
    known = (entry for row in shipped().values() for entry in row.known.items())
    return next((values for name, values in known if name in repository), {})
