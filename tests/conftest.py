"""Fixtures of all tests: photographs beside the repository, output of the authors, a saved model, the command.

What takes seconds to import is imported by the fixtures: the process that hands out the tests needs none of it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    import nibt
    from nibt.models.base import Model
    from tests.helpers import Golden, Run
    from tests.hub import Hub

pytest_plugins = ["pytester", "tests.skips"]
hypothesis.settings.register_profile("nibt", deadline=None, derandomize=True)
hypothesis.settings.load_profile("nibt")
_SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn off the type checks of the tests."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def pytest_configure(config: pytest.Config) -> None:
    """Let each process that runs tests use one thread: with more, the bits of a result may depend on the load."""
    if hasattr(config, "workerinput") or not getattr(config.option, "tx", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        import torch

        torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked ``gpu`` where there is no accelerator."""
    import torch

    if torch.accelerator.is_available():
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="module", autouse=True)
def no_shared_model_is_changed() -> Iterator[None]:
    """Fail the test file after which a model that all tests share is not as it was loaded."""
    from tests import shared_models

    yield
    assert not shared_models.changed()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test if its thread sleeps. Whether code waits does not depend on how busy the machine is."""
    thread, sleep, waits = threading.get_ident(), time.sleep, list[float]()

    def recorded(seconds: float) -> None:
        if threading.get_ident() == thread:
            waits.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", recorded)
    yield
    assert waits == []


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the repository. In the gate it must exist (``skips.py``)."""
    if not _SHARED.is_dir():
        pytest.skip("the folder with the photographs is not beside the repository")
    return _SHARED


@pytest.fixture(scope="session")
def golden() -> Golden:
    """A random model, and what the code of the authors returns for it."""
    from tests.helpers import Golden

    return Golden.read(Path(__file__).parent / "golden")


@pytest.fixture(scope="session")
def scenes() -> Model:
    """The embedded model of drawn scenes."""
    import nibt

    return nibt.load_model("scenes")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Hugging Face CLIP on disk, for the command line."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("models") / "clip"
    built = tiny.clip()
    built.module.save_pretrained(folder)
    built.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on this machine, and an empty cache."""
    from tests.hub import point_to, serving

    with serving() as served:
        point_to(served.address, tmp_path / "cache", monkeypatch)
        yield served


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command in an empty folder; returns exit code, output and errors."""
    from nibt.cli import main

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return command


_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium of the system; nothing is downloaded.

    Its event loop runs as long as it is open, and would be in the way of tests of other files that start one.
    """
    automation = pytest.importorskip("playwright.sync_api", reason="needs a browser: pip install playwright")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium on this machine (Debian: apt-get install chromium)")
    with automation.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def model() -> Model:
    from tests import tiny

    return tiny.model("clip")


@pytest.fixture(scope="session")
def job_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ten images, 0.png to 9.png."""
    from tests import tiny
    from tests.job_pairs import COUNT

    folder = tmp_path_factory.mktemp("images")
    for item in range(COUNT):
        tiny.image(64 + item, 48, item).pil_image.save(folder / f"{item}.png")
    return folder


@pytest.fixture(scope="session")
def job_table(job_images: Path) -> Path:
    """A table of the ten pairs."""
    from tests.job_pairs import as_csv

    return as_csv(job_images, job_images)


@pytest.fixture(scope="session")
def whole_job(model: Model, job_table: Path, tmp_path_factory: pytest.TempPathFactory) -> nibt.Job:
    """The uninterrupted job of the ten pairs."""
    import nibt
    from tests.job_pairs import OPTIONS

    return nibt.batch(model, job_table, tmp_path_factory.mktemp("whole"), **OPTIONS)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    from tests import tiny

    tiny.image(90, 60).pil_image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def photo_file(run: Run) -> str:
    from tests import tiny

    tiny.image(48, 40).pil_image.save("photo.png")
    tiny.image(40, 48, 1).pil_image.save("other.png")
    return "photo.png"
