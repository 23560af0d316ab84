"""The release script compares distributions with the tracked files, and issue forms are valid."""

import importlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


TRACKED = ["README.md", "LICENSE", "src/nibt/__init__.py", "src/nibt/data/samples/LICENSES.md", "tests/test_a.py"]


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / ".ci")
    yield importlib.import_module("release")
    for name in ("release", "tree"):
        sys.modules.pop(name, None)


def sdist(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"nibt-0.1.0/{name}"), io.BytesIO())
    return path


def wheel(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def test_sdist_with_all_tracked_files_has_no_differences(release: ModuleType, tmp_path: Path) -> None:
    path = sdist(tmp_path / "a.tar.gz", [*TRACKED, "PKG-INFO", "setup.cfg", "src/nibt.egg-info/SOURCES.txt"])
    assert release.sdist_differences(path, TRACKED) == []


def test_sdist_differences_name_missing_and_superfluous_files(release: ModuleType, tmp_path: Path) -> None:
    path = sdist(tmp_path / "a.tar.gz", [*TRACKED[1:], "notes.txt"])
    assert release.sdist_differences(path, TRACKED) == [
        "a.tar.gz: README.md is missing",
        "a.tar.gz: notes.txt is not a tracked file",
    ]


def test_wheel_differences_name_files_and_licenses(release: ModuleType, tmp_path: Path) -> None:
    metadata = [f"nibt-0.1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "licenses/LICENSE")]
    samples = "nibt-0.1.0.dist-info/licenses/src/nibt/data/samples/LICENSES.md"
    package = ["nibt/__init__.py", "nibt/data/samples/LICENSES.md"]
    complete = wheel(tmp_path / "a.whl", [*metadata, samples, *package])
    assert release.wheel_differences(complete, TRACKED) == []
    assert release.wheel_differences(wheel(tmp_path / "b.whl", [*metadata, *package, "tests/test_a.py"]), TRACKED) == [
        "b.whl: tests/test_a.py is not a tracked file",
        "b.whl, licenses: src/nibt/data/samples/LICENSES.md is missing",
    ]


def test_find_rejects_no_and_several_distributions(release: ModuleType, tmp_path: Path) -> None:
    for count in (0, 2):
        for number in range(count):
            (tmp_path / f"{number}.whl").touch()
        with pytest.raises(SystemExit, match=rf"one \*\.whl \(holds {count}\)"):
            release.find(tmp_path, "*.whl")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_the_required_fields(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(form)
    kinds = {"textarea", "input", "checkboxes"}
    for field in form["body"]:
        assert field["type"] in kinds
        assert field["attributes"]["label"]
    names = [field["id"] for field in form["body"]]
    assert len(names) == len(set(names))
