"""Build the distributions of a release and prove that they install and run.

python .ci/release.py                    # every step, in this order
python .ci/release.py build check        # some steps
python .ci/release.py wheel --dist dist  # install distributions that exist already

Steps:

- build: build the sdist and the wheel from a copy of the tracked files.
- check: run ``twine check --strict`` and compare the files of both with the tracked files.
- wheel, sdist: install it with its requirements in an empty environment, then explain a sample in an empty folder.

Each environment takes up to 6 GB in a temporary folder, which is deleted. Exit code 1: a step failed.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

from tree import ROOT, copy_tree, tracked_files, venv_program

STEPS = ("build", "check", "wheel", "sdist")
CAPTION = "a cat and a cup of coffee"


def build(dist: Path) -> None:
    """Write the sdist and the wheel, which ``build`` makes from that sdist."""
    with tempfile.TemporaryDirectory(prefix="nibt-build-") as folder:
        source = copy_tree(Path(folder) / "nibt")
        subprocess.run([sys.executable, "-m", "build", "--outdir", dist, source], check=True, stdout=subprocess.DEVNULL)


def find(dist: Path, pattern: str) -> Path:
    """The one distribution that matches.

    Raises:
        SystemExit: None or several match.
    """
    paths = sorted(dist.glob(pattern))
    if len(paths) != 1:
        sys.exit(f"{dist} must hold one {pattern} (holds {len(paths)}); start with an empty folder and the step build")
    return paths[0]


def check(dist: Path) -> None:
    """Check the metadata, and that each distribution holds what it must and nothing else."""
    sdist, wheel = find(dist, "*.tar.gz"), find(dist, "*.whl")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], check=True)
    differences = [*sdist_differences(sdist, tracked_files()), *wheel_differences(wheel, tracked_files())]
    if differences:
        sys.exit("\n".join(["the distributions differ from the tracked files:", *differences]))


def sdist_differences(sdist: Path, tracked: list[str]) -> list[str]:
    """Lines that name missing and superfluous files; setuptools generates the metadata."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    generated = {name for name in names if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    return _differences(sdist.name, names - generated, set(tracked))


def wheel_differences(wheel: Path, tracked: list[str]) -> list[str]:
    """As for the sdist, with the files of the package, and the licenses that pyproject.toml names."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
    licenses = {name.partition("/licenses/")[2] for name in metadata if "/licenses/" in name}
    patterns = _project()["license-files"]
    expected = {name for name in tracked if any(Path(name).match(pattern) for pattern in patterns)}
    package = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    return [
        *_differences(wheel.name, names - metadata, package),
        *_differences(f"{wheel.name}, licenses", licenses, expected),
    ]


def _differences(where: str, names: set[str], expected: set[str]) -> list[str]:
    missing = [f"{where}: {name} is missing" for name in sorted(expected - names)]
    return [*missing, *(f"{where}: {name} is not a tracked file" for name in sorted(names - expected))]


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def install_and_run(distribution: Path) -> None:
    """Install a distribution in an empty environment and explain a sample in an empty folder."""
    folder = Path(tempfile.mkdtemp(prefix="nibt-release-"))
    # neither the checkout nor the packages of the caller are importable
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True, env=environment)
        python, nibt = venv_program(folder / "env", "python"), venv_program(folder / "env", "nibt")
        subprocess.run([python, "-m", "pip", "install", "--quiet", distribution], check=True, env=environment)
        subprocess.run([python, "-m", "pip", "check"], check=True, env=environment)
        empty = folder / "empty"
        empty.mkdir()
        smoke_run(nibt, empty, environment)
    finally:
        shutil.rmtree(folder)


def smoke_run(nibt: Path, folder: Path, environment: dict[str, str]) -> None:
    """Explain a sample with each embedded model, offline, and read what is written."""
    options = {"cwd": folder, "env": {**environment, "HF_HUB_OFFLINE": "1"}, "check": True}
    version = subprocess.run([nibt, "--version"], capture_output=True, text=True, **options).stdout
    if version.split() != ["nibt", _project()["version"]]:
        sys.exit(f"nibt --version must print nibt {_project()['version']} (printed {version!r})")
    for model in ("lite", "scenes"):
        image, explanation = folder / f"{model}.png", folder / f"{model}.json"
        subprocess.run(
            [nibt, "explain", "sample:collage", CAPTION, "-m", model, "-o", image, "-o", explanation], **options
        )
        similarity = json.loads(explanation.read_text(encoding="utf-8"))["similarity"]
        if not image.read_bytes().startswith(b"\x89PNG") or not math.isfinite(similarity):
            sys.exit(f"{model}: {image.name} must be a PNG, and the similarity finite (is {similarity})")
        print(f"{model}: {image.name}, similarity {similarity:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="step", help=f"{', '.join(STEPS)}; all without one")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder of the distributions")
    options = parser.parse_args()
    if unknown := set(options.steps) - set(STEPS):
        parser.error(f"unknown step {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}")
    dist = options.dist.resolve()
    for step in options.steps or STEPS:
        start = time.monotonic()
        match step:
            case "build":
                build(dist)
            case "check":
                check(dist)
            case "wheel":
                install_and_run(find(dist, "*.whl"))
            case "sdist":
                install_and_run(find(dist, "*.tar.gz"))
        print(f"{step}: passed in {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
