"""Tests of ``nibt.cli.terminal``."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nibt.cli import terminal
from nibt.cli.terminal import Status, show_progress
from nibt.models._loading import load_model
from nibt.progress import Progress, listening, report
from tests import tiny
from tests.helpers import Run
from tests.hub import Hub


def test_progress_prints_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_EVERY", 0.01)
    with show_progress("explaining", quiet=False, total=4) as on_progress:
        on_progress(Progress(1))
        report(3, 10)
        while not (err := capsys.readouterr().err):
            pass
    line = err.splitlines()[-1]
    assert line.startswith("nibt: explaining: 1 of 4, step 3 of 10, 0:00 elapsed, about 0:0")
    with show_progress("explaining", quiet=True, total=4) as on_progress:
        on_progress(Progress(1))
    assert capsys.readouterr().err == ""


def test_progress_of_short_work_prints_nothing(run: Run, clip_folder: Path) -> None:
    tiny.image(40, 40).pil_image.save("photo.png")
    code, _, err = run("explain", "photo.png", "a cat", "-m", clip_folder)
    assert (code, err) == (0, "")


def test_status_estimates_the_time_left() -> None:
    status = Status("explaining", 1)
    status.started -= 10
    status.update_inside(Progress(1, 4))
    assert status.line() == "explaining: 0 of 1, step 1 of 4, 0:10 elapsed, about 0:30 left"
    status.update_inside(Progress(1, 2))
    status.update_inside(Progress(1, 9))  # the next loop of the same pair
    assert status.share == 0.5
    status.update_inside(Progress(4, 4))
    assert status.line() == "explaining: 0 of 1, 0:10 elapsed", "the other side takes as long as it takes"


def test_status_of_many_items_has_no_estimate_before_the_first() -> None:
    """A loop may belong to a batch of items."""
    status = Status("measuring", 122, started=0.0)
    status.update_inside(Progress(3, 4))
    assert "left" not in status.line()
    status.update(Progress(6))
    assert "left" in status.line()


def test_status_keeps_the_phase_while_its_loops_run() -> None:
    status = Status("auditing", None)
    assert status.line() == "auditing: 0:00 elapsed", "no number that means nothing"
    status.update(Progress(0, 14, "the wording"))
    status.update_inside(Progress(2, 5))
    assert status.line().startswith("auditing: 0 of 14, the wording, step 2 of 5, 0:00 elapsed")
    status.update_inside(Progress(5, 5))
    assert status.line().startswith("auditing: 0 of 14, the wording, 0:00 elapsed")


def test_loading_reports_its_phases() -> None:
    seen: list[Progress] = []
    with listening(seen.append):
        load_model("scenes")
    assert [one.stage for one in seen if one.stage] == [
        "importing libraries and reading its weights",
        "checking its towers",
    ]


def on_terminal(folder: Path, *arguments: str, **environment: str) -> str:
    """Run the command in a pseudo-terminal, and return what it shows."""
    tiny.image(40, 40).pil_image.save(folder / "photo.png")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from nibt.cli import main; main()", *arguments],
        cwd=folder,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160", **environment},
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # the end of a pseudo-terminal
        pass
    assert process.wait() == 0, shown
    return shown.decode()


on_posix = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")


@pytest.mark.slow
@on_posix
def test_progress_shows_one_bar_on_a_terminal(tmp_path: Path, clip_folder: Path) -> None:
    text = on_terminal(tmp_path, "explain", "photo.png", "a cat", "-m", str(clip_folder))
    assert f"loading {clip_folder}"[:20] in text
    assert "checking its towers, 0:" in text
    assert re.search(r"explaining: 0 of 1, (step \d+ of \d+, )?0:\d\d elapsed", text)
    assert "Loading weights" not in text
    assert "it/s" not in text
    assert "wrote photo-a-cat.clip.png" in text


@pytest.mark.slow
@on_posix
def test_download_is_shown_on_a_terminal(tmp_path: Path, clip_folder: Path, hub: Hub) -> None:
    hub.add("org/clip", clip_folder)
    hub.seconds = 1.0
    cache = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "cache")}
    text = on_terminal(tmp_path, "explain", "photo.png", "a cat", "-m", "org/clip", **cache)
    assert "loading org/clip" in text
    assert re.search(r"downloading model\.safetensors, [\d.]+kB of [\d.]+kB", text), text
    assert "it/s" not in text
    assert "B/s" not in text, "a bar of the hub's library"


def test_download_prints_nothing_without_a_terminal(run: Run, clip_folder: Path, hub: Hub) -> None:
    tiny.image(40, 40).pil_image.save("photo.png")
    hub.add("org/clip", clip_folder)
    code, _, err = run("explain", "photo.png", "a cat", "-m", f"{hub.address}/org/clip/tree/main")
    assert (code, err) == (0, "")
    assert Path("photo-a-cat.clip.png").exists()
    code, out, err = run("explain", "photo.png", "a cat", "-m", "org/other", "-q")
    assert (code, out) == (1, "")
    assert err.startswith("nibt: cannot load the model 'org/other': org/other is not on the hub, or is private (")
    assert err.count("\n") == 1


def test_status_shows_a_download_without_its_share() -> None:
    status = Status("loading", None)
    status.update_inside(Progress(5, 10, "downloading it, 5 B of 10 B"))
    assert "downloading it, 5 B of 10 B" in status.line()
    assert status.share == 0
    status.update_inside(Progress(10, 10, "downloading it, 10 B of 10 B"))
    assert "downloading" not in status.line()
