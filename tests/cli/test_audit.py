"""Tests of ``nibt.cli.commands.evaluation``."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from nibt.results.audit import Audit
from tests.helpers import Run, noise_pairs

MANY = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small data set."""
    data = tmp_path / "data"
    data.mkdir()
    lines = ["image,caption"]
    for place, pair in enumerate(noise_pairs(MANY)):
        pair.image.pil_image.save(data / f"{place}.png")
        lines.append(f"{place}.png,{pair.caption}")
    (data / "pairs.csv").write_text("\n".join(lines) + "\n")
    return data


def test_audit_writes_a_page_and_a_json_file(
    run: Run, folder: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("audit", f"folder:{folder}", "-m", clip_folder, "--quick", "--method", "ones")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "7. Discrimination" in out
    assert "8. Vocabulary" in out
    assert "999 unknown: person, man, woman, child, boy, girl, baby, toddler, and 991 more" in " ".join(out.split())
    assert "wrote audit-clip-folder-data.ones.quick.html, audit-clip-folder-data.ones.quick.json" in out
    actual = Audit.load("audit-clip-folder-data.ones.quick.json")
    assert actual.data["dataset"] == "folder"
    assert actual.data["pairs"] == MANY
    assert actual.verdict == "fail"
    assert Path("audit-clip-folder-data.ones.quick.html").read_text().startswith("<!doctype html>")
    monkeypatch.setattr("nibt.evaluation.audit.audit", lambda *_, **__: actual)  # one real audit is enough
    code, out, _ = run(*arguments, "-o", "-", "--strict")
    assert code == 1, "a flat map fails, and --strict turns that into the exit code"
    assert json.loads(out)["kind"] == "audit"
    assert run(*arguments, "-o", "mine.html", "-o", "mine.json")[0] == 0
    assert sorted(path.name for path in Path().glob("mine*")) == ["mine.html", "mine.json"]


@pytest.mark.slow
def test_audit_against_a_copy_of_the_model_finds_no_difference(run: Run, folder: Path, clip_folder: Path) -> None:
    shutil.copytree(clip_folder, "before")
    arguments = ("audit", f"folder:{folder}", "-m", clip_folder, "--quick", "--method", "ones")
    code, out, err = run(*arguments, "--against", "before")
    assert code == 0, err
    assert "Difference from before" in out
    assert "No evidence of a difference." in out
    (page, file) = sorted(path for path in Path().glob("*.html")) + sorted(path for path in Path().glob("*.json"))
    assert page.stem == file.stem == "audit-clip-folder-data.ones.quick.against-before"
    audit = Audit.load(file)
    assert {row.difference for row in audit.differences} == {0.0}
    assert audit.checks == audit.against_checks
    assert f"{shlex.quote(str(clip_folder))} --count 24 --method ones --quick --against before" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scenes", "--count", "3"], 2, "--count must be at least 8"),
        (["coco"], 2, "give coco:FOLDER"),
        (["scenes:here"], 2, "takes no folder"),
        (["scene"], 2, "Did you mean 'scenes'"),
        (["scenes", "--method", "nibb"], 2, "Did you mean 'nib'"),
        (["scenes", "-D", "mst=2"], 2, "unknown option 'mst'"),
        (["scenes", "-D", "most=two"], 2, "whole number"),
        (["scenes", "-o", "x.json", "-o", "x.json"], 2, "two outputs of this call go to the same file"),
        (["scenes", "-o", "x"], 2, "must end in the name of a format"),
        (["scenes", "-o", "x.png"], 2, "(got audits)"),
        (["scenes", "-o", "nowhere/x.html"], 1, "does not exist"),
        (["scenes", "--against", "nowhere"], 1, "there is no model 'nowhere'"),
        (["scenes", "--against", ""], 2, "must not be empty"),
        (["scenes", "-o", "w.html", "--work", "w.html"], 2, "--work must be a folder of its own"),
    ],
)
def test_audit_rejects_bad_arguments(
    run: Run, clip_folder: Path, arguments: list[str], code: int, message: str
) -> None:
    actual, out, err = run("audit", *arguments, "-m", clip_folder)
    assert actual == code, err
    assert message in " ".join(err.split())
    assert "Traceback" not in out + err
