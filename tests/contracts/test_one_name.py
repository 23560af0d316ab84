"""Each concept has one name in the command, in Python, in JSON, in plans and on the page."""

import dataclasses
import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import nibt
from nibt.app.request import ExplainRequest
from nibt.cli.main import app
from nibt.registry import KINDS, available, find

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
OTHER_NAMES = {
    "only": "side",
    "remove": "side",
    "removed": "side",
    "centre": "center",
    "centred": "centered",
    "memory": "memory_mb",
    "special_share": "special_token_share",
    "interaction": "regions",
    "interactions": "regions",
    "comparison": "explanation",
}
"""Names that mean the same as another name, and that name."""


def properties(node: Any) -> Iterator[str]:
    """Yield the keys that a JSON Schema describes."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for value in node.values():
            yield from properties(value)
    elif isinstance(node, list):
        for value in node:
            yield from properties(value)


def field_names(values: Iterable[Any]) -> set[str]:
    return {field.name for value in values if dataclasses.is_dataclass(value) for field in dataclasses.fields(value)}


def command_names() -> set[str]:
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    names = {parameter.name for command in commands.values() for parameter in command.params}
    return names | set(commands)


def python_names() -> set[str]:
    public = {name: getattr(nibt, name) for name in dir(nibt) if not name.startswith("_")}
    functions = [value for value in public.values() if inspect.isfunction(value)]
    return {
        *public,
        *field_names(public.values()),
        *(name for function in functions for name in inspect.signature(function).parameters),
    }


def plugin_names() -> set[str]:
    plugins = [find(kind, name) for kind in KINDS if kind != "models" for name in available(kind)]
    return {*field_names(plugins), *(name for kind in KINDS for name in available(kind))}


def file_names(*kinds: str) -> set[str]:
    return {name for kind in kinds for name in properties(json.loads((SCHEMAS / f"{kind}.json").read_text()))}


def surfaces() -> dict[str, set[str]]:
    return {
        "command": command_names(),
        "Python": python_names(),
        "plugins": plugin_names(),
        "JSON": file_names("explanation", "regions", "decomposition", "audit", "roar", "job"),
        "plans": file_names("plan"),
        "page": {field.name for field in dataclasses.fields(ExplainRequest)},
    }


@pytest.mark.parametrize("surface", list(surfaces()))
def test_each_concept_has_one_name(surface: str) -> None:
    names = surfaces()[surface]
    assert len(names) > 5
    assert not {name: OTHER_NAMES[name] for name in names & set(OTHER_NAMES)}


def test_shared_names_are_in_their_surfaces() -> None:
    names = surfaces()
    for name, where in {
        "side": ("command", "Python", "JSON"),
        "count": ("command", "plugins", "plans"),
        "memory_mb": ("Python",),
        "special_token_share": ("plugins", "JSON"),
        "target": ("command", "Python", "JSON"),
        "variant": ("Python", "JSON", "page"),
    }.items():
        assert [surface for surface in where if name not in names[surface]] == []
