"""Tests of ``nibt.registry``: plugins of files, of files that several share, and of other packages."""

from importlib.metadata import EntryPoint, EntryPoints
from inspect import isabstract
from pathlib import Path

import pytest

from nibt import registry
from nibt.errors import Unsupported


@pytest.mark.parametrize("group", registry.KINDS)
def test_every_name_finds_the_class_of_that_name(group: str) -> None:
    for name in registry.available(group):
        plugin = registry.find(group, name)
        assert plugin.name == name
        assert not isabstract(plugin)


def test_a_plugin_of_another_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("broken", "no_such_module:Thing", "nibt.methods")])
    monkeypatch.setattr(registry, "_entry_points", lambda group: points)
    with pytest.raises(Unsupported, match=r"'broken' of the package no_such_module:Thing .*No module named"):
        registry.find.__wrapped__("methods", "broken")


@pytest.mark.parametrize(("names", "other"), [(["nib"], "nibt"), (["own", "own"], "another package")])
def test_a_plugin_that_takes_the_name_of_another_is_refused(
    names: list[str], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = EntryPoints(
        [EntryPoint(name, f"package_{number}:Thing", "nibt.methods") for number, name in enumerate(names)]
    )
    monkeypatch.setattr(registry, "_entry_points", lambda group: points)
    with pytest.raises(Unsupported, match=f"package_0:Thing and {other} both have the plugin '{names[0]}' of methods"):
        registry.find.__wrapped__("methods", names[0])


def test_a_header_on_several_lines_declares_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "metrics" / "shared.py"
    file.parent.mkdir()
    file.write_text(
        'class Long(\n    Metric,\n    name="long",\n):\n    pass\n\n\nclass Short(Metric, name="short"):\n    pass\n'
    )
    monkeypatch.setattr(registry, "_PACKAGE", tmp_path)
    files = registry._files.__wrapped__("metrics")
    assert {"long", "short"} <= {*files}
