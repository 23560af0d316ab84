"""A family of another package, that of docs/guides/own_family.md: its mistakes are found when a model is loaded."""

import importlib
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt import registry
from nibt.errors import CannotLoad
from tests.evaluation.bench.test_extension import blocks
from tests.helpers import ROOT

FAULTS = {
    "valid_tokens": (
        "return inputs.values != 0",
        "return (inputs.values != 0)[:1, :2]",
        r"valid_tokens of Captions must return a mask of the shape \(batch, token\), here \(2, \d+\)",
    ),
    "nan": (
        "return 100.0, 0.0",
        "return float('nan'), 0.0",
        "must be finite numbers .got nan and 0.0.: .*TwoRowsFamily",
    ),
    "text": ("return 100.0, 0.0", "return 'a', 'b'", "must be finite numbers .got 'a' and 'b'.: .*TwoRowsFamily"),
    "three": ("return 100.0, 0.0", "return 1.0, 2.0, 3.0", "scale and its bias .*: correct TwoRowsFamily$"),
    "tokens": ("texts = tuple(", "1 / 0; texts = tuple(", "division by zero.*: correct Captions.tokens$"),
    "head": ("return stream.mean(1)\n\n    def units", "return 1 / 0\n\n    def units", "correct Images.head$"),
    "units": ("return Grid(SIDE // PATCH, SIDE // PATCH)", "return None", "correct Images and Captions$"),
    "towers": (
        "return Images(module), Captions(module)",
        "return Images(module.x), 1",
        "correct TwoRowsFamily.towers$",
    ),
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a function that loads a model of the page, whose file has another text."""
    source = blocks((ROOT / "docs" / "guides" / "own_family.md").read_text(encoding="utf-8"))["two_rows.py"]
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints([EntryPoint("two_rows", "two_rows:TwoRowsFamily", "nibt.models")])
    every = registry._entry_points
    monkeypatch.setattr(registry, "_entry_points", lambda group: points if group == "models" else every(group))

    def load_changed(old: str, new: str) -> nibt.Model:
        assert old in source
        (tmp_path / "two_rows.py").write_text(source.replace(old, new, 1), encoding="utf-8")
        importlib.invalidate_caches()
        module = importlib.import_module("two_rows")
        return nibt.load_model(module.TwoRows().eval())

    caches = (registry._available, registry.find)
    for cache in caches:
        cache.cache_clear()
    yield load_changed
    sys.modules.pop("two_rows", None)
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("fault", FAULTS)
def test_mistakes_of_a_family_of_another_package_are_named(fault: str, load: Any) -> None:
    old, new, message = FAULTS[fault]
    with pytest.raises(CannotLoad, match=message):
        load(old, new)


def test_a_family_without_blocks_is_refused(load: Any) -> None:
    with pytest.raises(CannotLoad, match=r"correct Images and Captions$"):
        load("return list(self.root.image_blocks)", "return []")
