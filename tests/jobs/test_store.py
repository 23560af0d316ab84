"""Tests of ``nibt.jobs.store``."""

import hashlib
from pathlib import Path

import pytest
from filelock import FileLock

from nibt.errors import BadInput, CannotWrite, WouldOverwrite
from nibt.jobs.store import Store, existing_paths, folder_lock, undo_start


def part_name(number: int, data: bytes) -> str:
    """Return the name that the file of a chunk must have."""
    return f"{number:08d}-{hashlib.sha256(data).hexdigest()[:16]}.parquet"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_store_make_creates_all_folders_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    store.make()
    store.make()
    assert store.folder.is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"cannot create the folder .*file/x: Not a directory"):
        Store(tmp_path / "file" / "x").make()


def test_store_add_names_a_file_by_its_chunk_and_digest(store: Store) -> None:
    store.add(12, b"first")
    store.add(3, b"other")
    assert names(store.folder) == {part_name(12, b"first"), part_name(3, b"other")}
    assert (store.folder / part_name(12, b"first")).read_bytes() == b"first"
    store.add(12, b"second")  # in place of the first, and of no other chunk
    assert names(store.folder) == {part_name(12, b"second"), part_name(3, b"other")}
    store.add(12, b"second")
    assert names(store.folder) == {part_name(12, b"second"), part_name(3, b"other")}


def test_store_add_rejects_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="nowhere"):
        Store(tmp_path / "nowhere").add(0, b"data")


def test_store_parts_are_in_the_order_of_the_chunks(store: Store) -> None:
    for number in (20, 3, 100_000_000):  # the name of the last one has nine digits
        store.add(number, b"data")
    twin = store.folder / f"00000003-{'0' * 16}.parquet"
    twin.write_bytes(b"broken")
    for name in (
        "notes.parquet",
        f"x-{'0' * 16}.parquet",
        f"00000004-{'0' * 15}.parquet",
        f"00000004-{'0' * 17}.parquet",
    ):
        (store.folder / name).write_bytes(b"not of a job")
    (store.folder / part_name(5, b"data")).with_suffix(".csv").write_bytes(b"no part")
    assert list(store.parts()) == [3, 20, 100_000_000]
    assert store.parts()[3] == sorted([twin, store.folder / part_name(3, b"data")])
    assert store.parts()[20] == [store.folder / part_name(20, b"data")]


def test_store_repair_keeps_one_of_equal_files_and_what_is_not_its_own(store: Store) -> None:
    store.add(0, b"whole")
    duplicates = sorted(store.folder / part_name(2, data) for data in (b"a", b"b"))
    for path, data in zip(duplicates, sorted([b"a", b"b"], key=lambda data: part_name(2, data)), strict=True):
        path.write_bytes(data)
    draft = f".{part_name(3, b'x').removesuffix('.parquet')}.17-140-2.parquet"
    others = {".notes.parquet", f"{draft}.parquet", draft.replace("17-140-2", "17-140"), ".hidden.17-140-2.parquet"}
    others |= {"00000000-notes.parquet", "00000000-2024.csv"}
    for name in (draft, *others):
        (store.folder / name).write_bytes(b"draft")
    store.repair()
    store.add(0, b"another")
    assert names(store.folder) == {part_name(0, b"another"), duplicates[0].name, *others}


def test_store_refuses_a_file_that_was_changed_and_keeps_it(store: Store) -> None:
    store.add(1, b"as it was written")
    path = store.folder / part_name(1, b"as it was written")
    path.write_bytes(b"with another column")
    with pytest.raises(WouldOverwrite, match=f"{path.name} was changed after it was written: move it away"):
        store.repair()
    with pytest.raises(BadInput, match="was changed after it was written"), store.open(path):
        pytest.fail("it was opened")
    store.add(1, b"computed again")
    assert path.read_bytes() == b"with another column"


def test_folder_lock_keeps_a_second_run_out(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        assert names(tmp_path) == {".nibt.lock"}
        with (
            pytest.raises(BadInput, match=r"another run is writing into .*: wait until it ends"),
            folder_lock(tmp_path),
        ):
            pytest.fail("two runs write into one folder")
    with pytest.raises(RuntimeError, match="stop"), folder_lock(tmp_path):
        raise RuntimeError("stop")
    with FileLock(tmp_path / ".nibt.lock", timeout=0):  # it was released after the error
        pass
    with pytest.raises(CannotWrite, match=r"cannot write into .*file"), folder_lock(_file(tmp_path)):
        pytest.fail("a file holds no lock")


@pytest.mark.usefixtures("no_waiting")
def test_folder_lock_does_not_wait(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(BadInput), folder_lock(tmp_path):
        pytest.fail("two runs write into one folder")


def _file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file"


def test_undo_start_removes_what_the_start_created(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "job"
    before = existing_paths(folder)
    assert before == {tmp_path, *tmp_path.parents}
    (folder / "parts").mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    (folder / ".nibt.lock").write_text("")
    assert existing_paths(folder) == before | {
        folder,
        folder.parent,
        folder / "parts",
        folder / "job.json",
        folder / ".nibt.lock",
    }
    undo_start(folder, before)
    assert names(tmp_path) == set()
    undo_start(folder, before)  # a second time, there is nothing left


@pytest.mark.parametrize("kept", ["job.json", ".nibt.lock", "parts"])
def test_undo_start_keeps_what_existed(tmp_path: Path, kept: str) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / kept).mkdir() if kept == "parts" else (folder / kept).write_text("before")
    before = existing_paths(folder)
    for name in {"job.json", ".nibt.lock"} - {kept}:
        (folder / name).write_text("after")
    (folder / "parts").mkdir(exist_ok=True)
    undo_start(folder, before)
    assert names(folder) == {kept}


def test_undo_start_stops_at_a_folder_that_is_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "job"
    before = existing_paths(folder)
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "kept").write_text("")
    (folder / "job.json").write_text("{}")
    undo_start(folder, before)
    assert names(folder) == {"parts"}
    assert names(folder / "parts") == {"kept"}
