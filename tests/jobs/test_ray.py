"""Tests of ``nibt.jobs.ray``."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.errors import BadInput, BadOption, CannotLoad, Unsupported
from nibt.jobs.ray import Cluster
from nibt.progress import Progress
from tests import tiny
from tests.processes import parts

ray = pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")


COUNT = 24


OPTIONS: dict[str, Any] = {"chunk_size": 4, "batch_size": 2, "steps": 2}


slow = pytest.mark.slow


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 24 pairs, of which one image is broken."""
    folder = tmp_path_factory.mktemp("pairs")
    for item in range(COUNT):
        tiny.image(seed=item).pil_image.save(folder / f"{item}.png")
    (folder / "5.png").write_bytes(b"no image")
    lines = ["image,caption", *(f"{item}.png,{tiny.CAPTIONS[item % 4]}" for item in range(COUNT))]
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def whole(clip_folder: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job in one process with one thread, as a Ray worker has."""
    out = tmp_path_factory.mktemp("whole")
    code = f"import nibt; nibt.batch({str(clip_folder)!r}, {str(table)!r}, {str(out)!r}, **{OPTIONS!r})"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return out


def workers() -> list[int]:
    """Return the processes of actors below this one, from /proc."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, title = (folder / "stat").read_text(), (folder / "cmdline").read_text()
        except OSError:
            continue  # the process has ended
        parents[int(folder.name)], titles[int(folder.name)] = int(status.rpartition(")")[2].split()[1]), title
    own = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return sorted(pid for pid in own if titles.get(pid, "").startswith("ray::Actor"))


def killing(seed: int, most: int) -> Any:
    """Return a callback that kills a worker at random moments, while others are at work."""
    draws, left = random.Random(seed), [most]

    def on_progress(progress: Progress) -> None:
        time.sleep(draws.uniform(0, 0.1))
        alive = workers()  # none while a new worker starts
        if left[0] and alive:
            left[0] -= 1
            os.kill(draws.choice(alive), signal.SIGKILL)

    return on_progress


@pytest.mark.slow
def test_ray_job_with_a_killed_worker_has_the_same_bits(
    clip_folder: Path, table: Path, whole: Path, tmp_path: Path
) -> None:
    """The images are sent, so the workers need no file of the driver."""
    killed = killing(0, 1)
    job = nibt.batch(clip_folder, table, tmp_path, on="ray", workers=1, send_images=True, on_progress=killed, **OPTIONS)
    assert parts(tmp_path) == parts(whole)
    assert not job.check()
    assert job.manifest.errors == 1
    assert job.manifest.sessions[0]["threads_per_worker"] == 1


@slow
def test_ray_job_of_prompts_has_the_same_bits(table: Path, tmp_path: Path) -> None:
    """Workers load the generator, and explain the answers as one process with one thread does."""
    prompts = tmp_path / "prompts.csv"
    lines = [f"{table.parent / name},describe the picture,a house" for name in ("0.png", "5.png", "1.png")]
    prompts.write_text("\n".join(["image,prompt,answer", *lines]))
    options: dict[str, Any] = {"method": "saliency_map", "chunk_size": 1}
    code = f"import nibt; nibt.batch('scenes_generator', {str(prompts)!r}, {str(tmp_path / 'here')!r}, **{options!r})"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    job = nibt.batch("scenes_generator", prompts, tmp_path / "ray", on="ray", workers=2, **options)
    assert parts(tmp_path / "ray") == parts(tmp_path / "here")
    assert (job.manifest.rows, job.manifest.errors) == (3, 1)
    with pytest.raises(BadOption, match="must be a name or a folder"):
        nibt.batch(nibt.load_generator("scenes_generator"), prompts, tmp_path / "no", on="ray")


@slow
def test_ray_job_with_workers_killed_repeatedly_has_the_same_bits(
    clip_folder: Path, table: Path, whole: Path, tmp_path: Path
) -> None:
    job = nibt.batch(clip_folder, table, tmp_path, on="ray", workers=2, on_progress=killing(1, 4), **OPTIONS)
    assert parts(tmp_path) == parts(whole)
    assert not job.check()


@slow
def test_ray_job_with_a_killed_driver_is_resumed(clip_folder: Path, table: Path, whole: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from nibt.cli import main; main()",
        "batch",
        str(table),
        "--out",
        str(tmp_path),
        "-m",
        str(clip_folder),
        "--chunk-size",
        "4",
        "--batch-size",
        "2",
        "--method",
        "nib steps=2",
        "--quiet",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for wanted in (1, 3):
        driver = subprocess.Popen([*command, "--ray", "workers=2"], env=environment)
        while len(parts(tmp_path)) < wanted and driver.poll() is None:
            time.sleep(0.01)
        driver.kill()
        driver.wait()
    assert 1 <= len(parts(tmp_path)) < len(parts(whole))
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert parts(tmp_path) == parts(whole)


@slow
def test_ray_job_reports_the_error_of_a_worker(clip_folder: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"layer must be between 0 and \d"):
        nibt.batch(clip_folder, table, tmp_path / "one", on="ray", layer=99, **OPTIONS)
    with pytest.raises(CannotLoad, match="there is no model"):
        nibt.batch("./nothing", table, tmp_path / "two", on="ray", **OPTIONS)


@slow
def test_ray_job_stops_at_a_chunk_that_kills_its_workers(
    clip_folder: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third chunk ends the process that reads it."""
    monkeypatch.setattr(Cluster, "explain", explaining_with(Deadly))
    with pytest.raises(Unsupported, match="workers die repeatedly, the last one on rows 8 to 11"):
        nibt.batch(clip_folder, table, tmp_path, on="ray", workers=2, **OPTIONS)
    assert len(parts(tmp_path)) >= 2
    assert not nibt.batch(clip_folder, table, tmp_path, **OPTIONS).check()


class Deadly(str):
    """A caption that is unpickled as an exit."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def explaining_with(deadly: type[str]) -> Any:
    own = Cluster.explain

    def explain(cluster: Any, spec: Any, data: Any, chunks: Any, on_description: Any) -> Any:
        sent = (
            replace(
                chunk,
                records=[
                    replace(record, captions=(deadly("x"),)) if record.row == 9 else record for record in chunk.records
                ],
            )
            for chunk in chunks
        )
        return own(cluster, spec, data, sent, on_description)

    return explain


def test_ray_job_needs_a_model_by_name(table: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="must be a name or a folder"):
        nibt.batch(tiny.model("clip"), table, tmp_path, on="ray", **OPTIONS)
    with pytest.raises(BadOption, match="cpus must be above 0"):
        nibt.batch("scenes", table, tmp_path, on="ray", cpus=0, **OPTIONS)
    assert not ray.is_initialized()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_ray_job_reports_a_missing_cluster_at_once(scheme: str, clip_folder: Path, table: Path, tmp_path: Path) -> None:
    """Ray itself would try for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"  # where nobody listens after this
    with pytest.raises(Unsupported, match=rf"no Ray cluster can be reached at {address} .*ray start --head"):
        nibt.batch(clip_folder, table, tmp_path, on="ray", address=address, **OPTIONS)


def test_ray_job_reports_a_cluster_that_refuses(
    clip_folder: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(**options: Any) -> None:
        raise ConnectionError(f"failed to connect to {options['address']}")

    monkeypatch.setattr(ray, "init", refusing)
    with pytest.raises(Unsupported, match=r"no Ray cluster can be reached at auto .*ray start --head"):
        nibt.batch(clip_folder, table, tmp_path, on="ray", address="auto", **OPTIONS)


def test_ray_job_needs_ray(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Unsupported, match=r"Ray is needed: in a clone of nibt, pip install '\.\[ray\]'"):
        nibt.batch("scenes", table, tmp_path, on="ray", **OPTIONS)
    with pytest.raises(BadInput, match="no such file"):
        nibt.batch("scenes", tmp_path / "gone.csv", tmp_path)
