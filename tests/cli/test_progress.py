"""Tests of ``nibt.cli.progress``."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from nibt.cli import progress
from nibt.cli.progress import Status, show_progress
from nibt.progress import Progress, report
from tests import tiny
from tests.helpers import Run


def test_progress_prints_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.01)
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
    assert status.part == 0.5


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_progress_shows_one_bar_on_a_terminal(tmp_path: Path, clip_folder: Path) -> None:
    tiny.image(40, 40).pil_image.save(tmp_path / "photo.png")
    script = "from nibt.cli import main; main()"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script, "explain", "photo.png", "a cat", "-m", str(clip_folder)],
        cwd=tmp_path,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # the end of a pseudo-terminal
        pass
    assert process.wait() == 0, shown
    text = shown.decode()
    assert f"loading {clip_folder}"[:20] in text
    assert "Loading weights" not in text
    assert "it/s" not in text
    assert "wrote photo-a-cat.clip.png" in text
