"""Tests of the action of this repository, which audits a model in GitHub's continuous integration."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "actions" / "audit" / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}


def run_step(name: str, here: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a step as the runner does: in bash, with the inputs in its environment."""
    step = STEPS[name]
    values = {key: str(entry.get("default", "")) for key, entry in ACTION["inputs"].items()} | inputs
    names = {key: re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value) for key, value in step["env"].items()}
    environment = {key: values[match[1]] for key, match in names.items() if match}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=here,
        env={**os.environ, **environment, "PATH": programs, "GITHUB_STEP_SUMMARY": str(here / "summary.md")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_inputs_reach_scripts_through_the_environment_only() -> None:
    for step in STEPS.values():
        assert "${{" not in step.get("run", ""), "a text in a script could end the command and begin another"
        for value in step.get("env", {}).values():
            assert re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value)[1] in ACTION["inputs"]  # pyright: ignore


@pytest.mark.slow
def test_a_failed_check_fails_the_step_and_leaves_all_reports(tmp_path: Path) -> None:
    options = "--quick --count 24 --method ones"
    done = run_step("Audit the model", tmp_path, model="scenes", data="scenes", options=options, folder="my reports")
    assert done.returncode == 1, done.stderr
    names = {"audit.html", "audit.json", "audit.junit.xml", "audit.card.md", "audit.badge.svg"}
    assert {path.name for path in (tmp_path / "my reports").iterdir()} == names
    verdicts = [
        check["verdict"] for check in json.loads((tmp_path / "my reports" / "audit.json").read_text())["checks"]
    ]
    root = ElementTree.parse(tmp_path / "my reports" / "audit.junit.xml").getroot()
    assert len(list(root.iter("failure"))) == verdicts.count("fail") > 0

    assert run_step("Show the certificate", tmp_path, folder="my reports").returncode == 0
    assert (tmp_path / "summary.md").read_text() == (tmp_path / "my reports" / "audit.card.md").read_text()


@pytest.mark.slow
def test_a_text_in_place_of_a_model_runs_no_command(tmp_path: Path) -> None:
    done = run_step("Audit the model", tmp_path, model='x"; touch made; "', data="$(touch made)", options="--quick")
    assert done.returncode != 0
    assert not (tmp_path / "made").exists()
    assert run_step("Show the certificate", tmp_path).returncode == 0, "there is no certificate to show"
