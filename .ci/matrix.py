"""The oldest and the newest supported versions: a virtual environment for each, and the tests of the core in it.

python .ci/matrix.py oldest                    # the lower bounds of pyproject.toml, all of them at once
python .ci/matrix.py newest                    # what pip gives
python .ci/matrix.py newest --python python3.13 --into FOLDER

The environments lie in a folder outside of the tree and are used again. Beside each come ``tests.xml`` and
``versions.json``. Exit code 1: a test failed, or the versions cannot be installed together.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXTRAS = ("data", "models")
"""What the tests of the core need beside nibt's own requirements; their lower bounds are held, too."""
TOOLS = ("pytest", "beartype", "captum", "hypothesis")
CORE = (
    "cli/test_explain.py",
    "core/test_path_derivatives.py",
    "contracts/test_methods.py",
    "engine/test_calibrate.py",
    "engine/test_regions.py",
    "methods/test_nib.py",
    "models/test_attention.py",
    "models/test_base.py",
    "models/test_loading.py",
    "models/test_mean_states.py",
    "models/test_open_clip.py",
    "preprocessing",
)
"""Tests that load, cut and replay every family, run every method on every family, and go through the command."""


def required(extras: tuple[str, ...] = EXTRAS) -> dict[str, Requirement]:
    """Every requirement of nibt and of these extras by its name; of several lower bounds, the highest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements: dict[str, Requirement] = {}
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    for requirement in map(Requirement, [text for texts in lists for text in texts]):
        known = requirements.get(requirement.name)
        if requirement.name != project["name"] and (known is None or lower(requirement) > lower(known)):
            requirements[requirement.name] = requirement
    return requirements


def lower(requirement: Requirement) -> tuple[int, ...]:
    """The numbers of ``>=``; every requirement of ours has one."""
    (bound,) = [part.version for part in requirement.specifier if part.operator == ">="]
    return tuple(int(number) for number in bound.split("."))


def pip_arguments(corner: str) -> list[str]:
    """The arguments of pip for the requirements of nibt."""
    if corner == "newest":
        return ["--upgrade", "--upgrade-strategy", "eager"]
    return [f"{name}=={'.'.join(map(str, lower(requirement)))}" for name, requirement in required().items()]


def make_environment(corner: str, folder: Path, python: str) -> Path:
    """Make an environment with these versions, and return its interpreter."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    inside = folder / "bin" / "python"
    tools = [f"{ROOT}[{','.join(EXTRAS)}]", *TOOLS]
    subprocess.run(
        [inside, "-m", "pip", "install", "--quiet", "--no-cache-dir", *pip_arguments(corner), "-e", *tools], check=True
    )
    return inside


def versions(python: Path) -> dict[str, str]:
    """The installed versions of Python and of the requirements of nibt."""
    code = """
import json, platform, sys
from importlib.metadata import version
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in sys.argv[1:]}}))
"""
    result = subprocess.run([python, "-c", code, *required()], check=True, capture_output=True, text=True)
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corner", choices=("oldest", "newest"))
    parser.add_argument("--into", type=Path, default=Path(tempfile.gettempdir()) / "nibt-matrix")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    folder = (options.into / options.corner).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = make_environment(options.corner, folder, options.python)
    installed = versions(python)
    (folder / "versions.json").write_text(json.dumps(installed, indent=1))
    print(", ".join(f"{name} {version}" for name, version in installed.items()), flush=True)
    # Shapes are checked by the full suite. A warning of another version is for the reader of the log, and no failure.
    quiet = ["-o", "addopts=-m 'not gpu' --strict-markers", "-W", "default", "-q"]
    command = [python, "-m", "pytest", *quiet, f"--junitxml={folder / 'tests.xml'}"]
    files = [f"tests/{name}" for name in CORE]
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **os.environ}
    sys.exit(subprocess.run([*command, *files], cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
