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


def test_the_public_names_open() -> None:
    assert {"load_model", "explain", "explain_labels", "rank", "calibrate", "draw", "available"} <= set(nibt.__all__)
    for name in nibt.__all__:
        assert callable(getattr(nibt, name)), name
        assert callable(getattr(nibt, name)), f"{name} is another thing the second time"
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        nibt.explane  # noqa: B018


def test_importing_nibt_opens_no_torch() -> None:
    code = "import sys, nibt; nibt.__version__; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_opens_no_torch_and_is_quick() -> None:
    code = "import sys; from nibt.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "explain" in done.stdout
    assert time.perf_counter() - started < 3, "half a second on a quiet machine; these are shared"


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_opens_by_its_name(kind: str) -> None:
    for name in available(kind):
        assert isinstance(find(kind, name), type)
    with pytest.raises(UnknownName, match=r"unknown \w+ 'nothing'"):
        find(kind, "nothing")


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'methods'"):
        available("method")


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_knows_its_sibling(kind: str) -> None:
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


def test_every_error_is_a_nibt_error_and_drawn_in_the_tree() -> None:
    from nibt import errors

    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, NibtError)
            assert name in (errors.__doc__ or "")


def test_files_stay_small() -> None:
    long = {file.name: count for file in PACKAGE.rglob("*.py") if (count := len(file.read_text().splitlines())) > 400}
    assert not long
