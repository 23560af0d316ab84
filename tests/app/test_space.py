"""Tests of ``nibt.app.server``: the folder of a Space serves the page."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

import nibt
from tests.helpers import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("gradio")


def test_space_has_a_header_requirements_and_a_program(run: Run, clip_folder: Path) -> None:
    code, out, err = run("serve", "--space", "SPACE", "-m", clip_folder, "-m", "org/name", "--limit", "timeout=30")
    assert (code, out.startswith("wrote SPACE: ")) == (0, True), err
    readme = Path("SPACE/README.md").read_text()
    header = yaml.safe_load(readme.split("---")[1])
    assert (header["sdk"], header["app_file"]) == ("gradio", "app.py")
    assert header["title"].startswith("nibt: ")
    program = Path("SPACE/app.py").read_text()
    assert "'org/name'" in program
    assert "'timeout': 30" in program
    assert (Path("SPACE/models") / clip_folder.name / "config.json").exists()
    assert f"models/{clip_folder.name}" in program
    assert str(clip_folder) not in program
    assert "nibt[app,models]==" in Path("SPACE/requirements.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CLIP/inner", "-m", "CLIP"), "must not be in the folder of a model"),
        (("SPACE", "-m", "./nowhere"), "'./nowhere' is not the folder of a saved model"),
        (("SPACE", "-m", "nope"), "there is no model 'nope'"),
        (("SPACE", "-m", "empty"), "'empty' is not the folder of a saved model"),
    ],
)
def test_space_rejects_bad_models(run: Run, clip_folder: Path, arguments: tuple[str, ...], message: str) -> None:
    shutil.copytree(clip_folder, "CLIP")
    Path("empty").mkdir()
    before = sorted(Path().rglob("*"))
    code, _, err = run("serve", "--space", *arguments)
    assert (code in (1, 2), message in " ".join(err.split())) == (True, True), err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("option", [("--port", "1"), ("--host", "localhost"), ("--public",)])
def test_space_ignores_no_option(run: Run, option: tuple[str, ...]) -> None:
    code, _, err = run("serve", "--space", "SPACE", *option)
    assert (code, "leave --host, --port and --public out" in err, Path("SPACE").exists()) == (2, True, False), err


def test_space_has_only_what_loading_reads(run: Run, clip_folder: Path) -> None:
    """Of the folder of a model, which may have secrets, or links to them; and it loads as the folder does."""
    shutil.copytree(clip_folder, "CLIP")
    before = {path.name for path in Path("CLIP").iterdir()}
    for name in (".git/config", "notes.txt", "hf_token.json", "train_config.json", "data/x.txt", "optimizer.bin"):
        Path("CLIP", name).parent.mkdir(exist_ok=True)
        Path("CLIP", name).write_text("secret")
    Path("CLIP/linked").symlink_to(Path.home())
    assert run("serve", "--space", "SPACE", "-m", "CLIP")[0] == 0
    copied = {path.relative_to("SPACE/models/CLIP").as_posix() for path in Path("SPACE/models/CLIP").rglob("*")}
    assert copied == before
    assert nibt.load_model("SPACE/models/CLIP").weights_hash == nibt.load_model("CLIP").weights_hash


@pytest.mark.parametrize("name", ['a"b\nsdk: docker', "a\n---\n# b", "{title}: - x"])
def test_names_of_models_add_nothing_to_the_header(run: Run, clip_folder: Path, name: str) -> None:
    shutil.copytree(clip_folder, name)
    assert run("serve", "--space", "SPACE", "-m", name)[0] == 0
    readme = Path("SPACE/README.md").read_text()
    header = readme.removeprefix("---\n").partition("\n---\n\nThis page")[0]
    assert next(yaml.safe_load_all(header)) == {
        **{"title": f"nibt: {name}", "sdk": "gradio", "sdk_version": version("gradio")},
        **{"app_file": "app.py", "pinned": False},
    }


@pytest.mark.parametrize("folder", ["mine", "new/inner"])
def test_space_that_cannot_be_written_leaves_all_as_it_was(
    run: Run, clip_folder: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine").mkdir()

    def copyfile(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    code, _, err = run("serve", "--space", folder, "-m", clip_folder)
    assert (code, "No space left on device" in err) == (1, True), err
    assert [str(path) for path in Path().rglob("*")] == ["mine"]


@pytest.mark.parametrize("kind", ["file", "full folder"])
def test_space_replaces_nothing(run: Run, kind: str) -> None:
    if kind == "file":
        Path("SPACE").write_text("mine")
    else:
        Path("SPACE").mkdir()
        Path("SPACE/mine.txt").write_text("mine")
    code, _, err = run("serve", "--space", "SPACE")
    assert (code, "--space must be a new or an empty folder (got 'SPACE')" in err) == (2, True), err
    assert list(Path("SPACE").iterdir() if kind != "file" else []) == (
        [Path("SPACE/mine.txt")] if kind != "file" else []
    )


@pytest.fixture
def space(run: Run, tmp_path: Path) -> Iterator[str]:
    """The address of the program of a Space, which runs in a process of its own."""
    assert run("serve", "--space", tmp_path / "SPACE")[0] == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path / "SPACE", env=environment)
    try:
        for _ in range(600):
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_program_of_a_space_serves_the_page_in_a_frame(space: str) -> None:
    response = httpx.get(space)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "frame-ancestors" not in policy
    assert "default-src 'self'" in policy


@pytest.mark.slow
def test_page_of_a_space_explains_inside_the_page_of_a_hub(space: str, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "hub.html").write_text(f'<iframe src="{space}" width="1200" height="1500" title="Space"></iframe>')
    page = browser.new_page()
    page.goto((tmp_path / "hub.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(".nibt-view[data-ready]").wait_for(timeout=120_000)  # it opens with a sample
    frame.locator("#captions textarea").fill("a dog")
    frame.locator("#explain").click()
    frame.locator(".nibt-panel h2", has_text="a dog").wait_for(timeout=120_000)
    frame.locator(".nibt-view[data-ready]").wait_for(timeout=120_000)
    frame.locator("#answer button.nibt-word", has_text="dog").wait_for(timeout=120_000)  # when its region is known
    page.close()
