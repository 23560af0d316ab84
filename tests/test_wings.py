"""Tests of the wings: the core works without each of them (``.ci/wings.py``)."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.errors import Unsupported, missing_part

ROOT = Path(__file__).parents[1]
COMMAND = ROOT / ".ci" / "wings.py"


def wings() -> Any:
    spec = spec_from_file_location("wings", COMMAND)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_wings_have_the_files_that_they_list() -> None:
    for wing, parts in wings().WINGS.items():
        for part in parts.split():
            assert (ROOT / "src" / "nibt" / part).exists(), f"{part} of {wing}"


@pytest.mark.slow
@pytest.mark.parametrize("wing", [*wings().WINGS, "all"])
def test_core_stands_without_a_wing(wing: str) -> None:
    done = subprocess.run([sys.executable, str(COMMAND), wing], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_error_names_a_missing_wing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibt.evaluation.measure", None)
    monkeypatch.delitem(vars(nibt), "measure", raising=False)
    with pytest.raises(Unsupported, match=r"lacks nibt\.evaluation\.measure, which this needs: install"):
        nibt.measure  # noqa: B018


def test_a_missing_package_is_no_missing_wing() -> None:
    assert missing_part(ModuleNotFoundError("No module named 'torch'", name="torch")) is None
    assert "pip install '.[server]'" in str(missing_part(ModuleNotFoundError("No module named 'httpx'", name="httpx")))
