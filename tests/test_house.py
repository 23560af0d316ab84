"""The package itself: its public names, what an import costs, and that parts do not import their siblings."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nibt
from nibt.errors import NibtError, UnknownName
from nibt.registry import KINDS, available, find

PACKAGE = Path(nibt.__file__).parent


def test_public_names_can_be_imported() -> None:
    assert {"load_model", "explain", "explain_labels", "rank", "calibrate", "draw", "available"} <= set(nibt.__all__)
    for name in nibt.__all__:
        assert callable(getattr(nibt, name)), name
        assert callable(getattr(nibt, name)), f"{name} is another thing the second time"
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        nibt.explane  # noqa: B018


def test_import_does_not_load_torch() -> None:
    code = "import sys, nibt; nibt.__version__; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_is_quick_and_does_not_load_torch() -> None:
    code = "import sys; from nibt.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "explain" in done.stdout
    assert time.perf_counter() - started < 3, "half a second on a quiet machine; test machines are shared"


@pytest.mark.parametrize("kind", KINDS)
def test_find_returns_every_part(kind: str) -> None:
    for name in available(kind):
        assert isinstance(find(kind, name), type)
    with pytest.raises(UnknownName, match=r"unknown \w+ 'nothing'"):
        find(kind, "nothing")


def test_unknown_kinds_are_suggested() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'methods'"):
        available("method")


@pytest.mark.parametrize("kind", KINDS)
def test_parts_do_not_import_their_siblings(kind: str) -> None:
    for part in available(kind):
        files = [PACKAGE / kind / f"{part}.py", *(PACKAGE / kind / part).glob("*.py")]
        for file in filter(Path.exists, files):
            for module in _imported(file):
                sibling = (
                    module.removeprefix(f"nibt.{kind}.").split(".")[0] if module.startswith(f"nibt.{kind}.") else part
                )
                assert sibling == part or sibling == "base" or sibling.startswith("_"), f"{file.name} imports {module}"


def _imported(file: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    return plain + [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]


def test_errors_are_documented_subclasses_of_nibt_error() -> None:
    from nibt import errors

    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, NibtError)
            assert name in (errors.__doc__ or "")


def test_source_files_are_short() -> None:
    long = {file.name: count for file in PACKAGE.rglob("*.py") if (count := len(file.read_text().splitlines())) > 400}
    assert not long
