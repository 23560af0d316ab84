"""Tests of ``nibt.folder``."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from nibt.errors import BadInput, CannotWrite, OtherRequest, WouldOverwrite
from nibt.folder import MANIFEST, ChunkFile, Manifest, RunFolder, open_table, require_unchanged

REQUEST = {"steps": 2}


class SquaresManifest(Manifest):
    """The manifest of a run that computes squares."""

    kind: str = "squares"
    title: str = ""


class Squares(RunFolder[SquaresManifest]):
    """A run that computes squares."""

    manifest_class = SquaresManifest
    chunk_pattern = r"\d{8,}"


def file_name(number: int, data: bytes, suffix: str = ".parquet") -> str:
    """Return the name that the file of a chunk must have."""
    return f"{number:08d}-{hashlib.sha256(data).hexdigest()[:16]}{suffix}"


def chunk(number: int, data: bytes) -> ChunkFile:
    return ChunkFile(f"{number:08d}", data)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def run(tmp_path: Path) -> Squares:
    """A new folder."""
    run = Squares(tmp_path / "run")
    with run.writing(REQUEST):
        run.add(chunk(0, b"nothing"))
    next((run.folder / "parts").iterdir()).unlink()
    return run


@pytest.fixture
def parts(run: Squares) -> Path:
    return run.folder / "parts"


def test_files_are_named_by_chunk_and_digest(run: Squares, parts: Path) -> None:
    run.add(chunk(12, b"first"))
    run.add(chunk(3, b"other"))
    assert names(parts) == {file_name(12, b"first"), file_name(3, b"other")}
    assert (parts / file_name(12, b"first")).read_bytes() == b"first"
    run.add(chunk(12, b"second"))  # in place of the first, and of no other chunk
    run.add(chunk(12, b"second"))
    assert names(parts) == {file_name(12, b"second"), file_name(3, b"other")}
    run.add(ChunkFile("00000004", b"{}", suffix=".json"))
    assert require_unchanged(run.files()["00000004"][0]).read_bytes() == b"{}"


def test_add_rejects_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="nowhere"):
        Squares(tmp_path / "nowhere").add(chunk(0, b"data"))


def test_files_have_those_of_chunks_only(run: Squares, parts: Path) -> None:
    run.add(chunk(20, b"data"))
    run.add(chunk(3, b"data"))
    twin = parts / f"00000003-{'0' * 16}.parquet"
    twin.write_bytes(b"broken")
    for name in (
        "notes.parquet",
        f"x-{'0' * 16}.parquet",
        f"00000004-{'0' * 15}.parquet",
        f"00000004-{'0' * 17}.parquet",
        file_name(5, b"data", ".csv"),
    ):
        (parts / name).write_bytes(b"not of a run")
    assert run.files() == {
        "00000003": sorted([twin, parts / file_name(3, b"data")]),
        "00000020": [parts / file_name(20, b"data")],
    }


def test_a_new_run_keeps_one_of_equal_files_and_files_of_users(run: Squares, parts: Path) -> None:
    run.add(chunk(0, b"whole"))
    duplicates = sorted((parts / file_name(2, data), data) for data in (b"a", b"b"))
    for path, data in duplicates:
        path.write_bytes(data)
    stem = file_name(0, b"another").removesuffix(".parquet")
    drafts = {f".{stem}.17-140-2.parquet": b"anot", f".{stem}.17-140-3.parquet": b""}
    mine = {".notes.parquet", f".{stem}.17-140-4.parquet", f".{stem}.17-140.parquet.parquet", "00000000-2024.csv"}
    for name, data in (drafts | dict.fromkeys(mine, b"notes of the user")).items():
        (parts / name).write_bytes(data)
    with run.writing(REQUEST):
        run.add(chunk(0, b"another"))
    assert names(parts) == {file_name(0, b"another"), duplicates[0][0].name, *mine}


def test_a_linked_manifest_stays_a_link(run: Squares, tmp_path: Path) -> None:
    with run.writing(REQUEST):
        pass
    manifest, elsewhere = run.folder / "manifest.json", tmp_path / "elsewhere.json"
    manifest.rename(elsewhere)
    manifest.symlink_to(elsewhere)
    with run.writing(REQUEST):
        run.add(chunk(0, b"data"))
        run.write_reports({"report.md": "text"})
    assert manifest.is_symlink()
    assert "report.md" in run.manifest.reports
    assert elsewhere.read_bytes() == manifest.read_bytes()


def test_a_file_that_was_changed_is_refused_and_kept(run: Squares, parts: Path) -> None:
    run.add(chunk(1, b"as it was written"))
    path = parts / file_name(1, b"as it was written")
    path.write_bytes(b"with another column")
    with pytest.raises(WouldOverwrite, match=f"{path.name} was changed after it was written: move it away"):
        run.writing(REQUEST).__enter__()
    with pytest.raises(BadInput, match="was changed after it was written"):
        open_table(path)
    run.add(chunk(1, b"computed again"))
    assert path.read_bytes() == b"with another column"


def test_a_second_run_is_kept_out(run: Squares) -> None:
    with run.writing(REQUEST):
        with pytest.raises(BadInput, match=r"another run is writing into .*: wait until it ends"), run.writing(REQUEST):
            pytest.fail("two runs write into one folder")
        run.add(chunk(0, b"data"))
    with pytest.raises(RuntimeError, match="stop"), run.writing(REQUEST):
        raise RuntimeError("stop")
    with FileLock(run.folder / ".nibt.lock", timeout=0):  # it was released after the error
        pass


@pytest.mark.usefixtures("no_waiting")
def test_a_second_run_does_not_wait(run: Squares) -> None:
    with run.writing(REQUEST), pytest.raises(BadInput), run.writing(REQUEST):
        pytest.fail("two runs write into one folder")


def fail(run: Squares, *files: str) -> None:
    """Start a run that writes files, but no chunk."""
    with run.writing(REQUEST):
        assert names(run.folder) == {"parts", MANIFEST, ".nibt.lock"}
        for name in files:
            (run.folder / "parts" / name).write_text("")
        raise RuntimeError("no model")


def test_a_failed_start_leaves_what_existed(tmp_path: Path) -> None:
    run = Squares(tmp_path / "new" / "run")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no model"):
            fail(run)
        assert names(tmp_path) == set()
    (run.folder / "parts").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="no model"):
        fail(run)
    assert names(run.folder) == {"parts"}
    with pytest.raises(RuntimeError, match="no model"):
        fail(run, "mine")
    assert names(run.folder) == {"parts"}
    assert names(run.folder / "parts") == {"mine"}


def test_folders_must_be_new_or_of_the_same_kind(tmp_path: Path) -> None:
    Squares(tmp_path / "new").require_request(REQUEST)
    (tmp_path / "parts").mkdir()
    (tmp_path / ".lock").write_text("")
    Squares(tmp_path).require_request(REQUEST)  # left by a run that was killed at its start
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(WouldOverwrite, match=f"is not empty, and has no {MANIFEST}"):
        Squares(tmp_path).require_request(REQUEST)
    with pytest.raises(WouldOverwrite, match=r"mine.txt is a file: give a folder"):
        Squares(tmp_path / "mine.txt").require_request(REQUEST)
    with pytest.raises(CannotWrite, match=r"cannot create the folder .*mine.txt/run: Not a directory"):
        Squares(tmp_path / "mine.txt" / "run").writing(REQUEST).__enter__()
    for text, message in (
        ('{"kind": "triangles"}', "is not a manifest of the kind 'squares': choose another folder"),
        ("[]", "is not a manifest of the kind 'squares': choose another folder"),
        ("no JSON", "cannot be read as a manifest of the kind 'squares' .*: choose another folder, or remove this one"),
        ('{"kind": "squares", "schema": 0}', r"must have schema 1 \(got 0\)"),
        ('{"kind": "squares", "schema": 1}', "request is missing"),
        ('{"kind": "squares", "schema": 1, "request": [2]}', r"request must be a valid dictionary \(got \[2\]\)"),
    ):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(BadInput, match=message):
            Squares(tmp_path).writing(REQUEST).__enter__()
        assert (tmp_path / MANIFEST).read_text() == text


def test_a_folder_without_chunks_takes_another_request(run: Squares) -> None:
    run.update(note="mine")
    with run.writing({"steps": 3}, title="cubes"):
        assert run.manifest.request == {"steps": 3}
        run.add(chunk(0, b"data"))
    assert run.manifest.title == "cubes"
    assert json.loads((run.folder / MANIFEST).read_text())["note"] == "mine"
    with pytest.raises(OtherRequest, match=r"steps: 3 \(now 2\)\nChoose a new folder"):
        run.writing(REQUEST).__enter__()


def test_agree_adds_to_a_request_and_then_compares(run: Squares) -> None:
    run.agree({"seed": 1})
    assert run.manifest.request == {"steps": 2, "seed": 1}
    with pytest.raises(OtherRequest, match=r"seed: 1 \(now 2\)"):
        run.agree({"seed": 2})


def test_fill_records_its_session(run: Squares) -> None:
    def broken() -> Any:
        yield chunk(1, b"one")
        raise RuntimeError("no memory")

    run.fill([chunk(0, b"zero")], on="local")
    with pytest.raises(RuntimeError, match="no memory"):
        run.fill(broken())
    sessions = [{key: value for key, value in session.items() if key != "began"} for session in run.manifest.sessions]
    assert [(session["chunks"], session["ended"]) for session in sessions] == [
        (1, "complete"),
        (1, "RuntimeError: no memory"),
    ]
    assert sessions[0]["on"] == "local"
    assert sorted(run.files()) == ["00000000", "00000001"]


def test_reports_that_were_edited_are_kept(run: Squares) -> None:
    report = run.folder / "report.md"
    for text in ("first", "second", "second"):
        assert run.write_reports({"report.md": text}) == [report]
        assert report.read_text() == text
    report.write_text("mine")
    for check in (lambda: run.check_reports(["report.md"]), lambda: run.write_reports({"report.md": "third"})):
        with pytest.raises(WouldOverwrite, match="was edited, or nibt did not write it"):
            check()
    assert report.read_text() == "mine"
    run.write_reports({"report.md": "third"}, overwrite=True)
    assert report.read_text() == "third"
