"""The slow suite, and what it gave: docs/reference/results/slow.md.

python .ci/slow.py                       # all of it: an hour and more, and 12 GB for two environments
python .ci/slow.py full oldest           # some of it; the other rows of the table stay as they are
python .ci/slow.py newest --python python3.13 --into FOLDER

It runs in the environment of the gate (`.ci/run` makes it). Exit code 1: a part failed.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as Tree
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "reference" / "results" / "slow.md"
PARTS = {
    "full": "the full suite: all tests, while types and shapes are checked",
    "kills": "a benchmark killed twenty times has the table of an undisturbed one",
    "study": "the study behind the defaults, measured again on its first scenes, agrees with docs/explanation/study.md",
    "release": "sdist and wheel are built, checked, and each runs in an empty environment",
    "mutation": "of a sample of mutants, the tests kill at least 85 %",
    "oldest": "the core with the oldest supported versions",
    "newest": "the core with the newest versions",
}
LIBRARIES = ("torch", "torchvision", "transformers", "open_clip_torch", "timm", "pillow", "numpy")
HEAD = """# The slow suite

What does not fit into the gate: `python .ci/slow.py` runs it, and writes this table. Each row is the last run of that
part. The supported ranges of the README are the versions in the rows `oldest` and `newest`.

| part | what | outcome | seconds | date | machine and versions |
|---|---|---|---|---|---|
"""


def command(part: str, options: argparse.Namespace) -> list[str]:
    """What a part runs."""
    python, into = sys.executable, options.into.resolve()
    match part:
        case "full":
            return ["bash", ".ci/full", "-q", f"--junitxml={into / 'full.xml'}"]
        case "kills":
            return [python, "benchmarks/kills.py", "--out", tempfile.mkdtemp(dir=into)]
        case "study":
            return [python, "recipes/scenes/check_study.py"]
        case "release":
            return [python, ".ci/release.py", "--dist", tempfile.mkdtemp(dir=into)]
        case "mutation":
            limits = ["--workers", "2", "--at-least", "0.85"]
            return [python, ".ci/mutation.py", *limits, "--into", str(into / "mutation")]
    return [python, ".ci/matrix.py", part, "--into", str(into), "--python", options.python]


def outcome(part: str, into: Path, code: int) -> str:
    """The number of tests that passed and failed, the fate of the mutants, or whether the part passed."""
    if part == "mutation" and (into / "mutation" / "mutation.json").exists():
        statuses = [row["status"] for row in json.loads((into / "mutation" / "mutation.json").read_text())]
        count = ", ".join(f"{statuses.count(name)} {name}" for name in sorted(set(statuses)))
        return count if code == 0 else f"**{count}**"
    reports = {"full": into / "full.xml", "oldest": into / "oldest/tests.xml", "newest": into / "newest/tests.xml"}
    if part not in reports or not reports[part].exists():
        return "passed" if code == 0 else f"**failed** (exit code {code})"
    count = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in Tree.parse(reports[part]).getroot().iter("testsuite"):
        count = {key: count[key] + int(suite.get(key, 0)) for key in count}
    failed = count["failures"] + count["errors"]
    summary = f"{count['tests'] - failed - count['skipped']} passed, {failed} failed, {count['skipped']} skipped"
    return summary if code == 0 else f"**{summary}**"


def versions(part: str, into: Path) -> dict[str, str]:
    """Of the environment that a part ran in."""
    if part in ("oldest", "newest"):
        installed = json.loads((into / part / "versions.json").read_text())
        return {"Python": installed["python"], **{name: installed[name] for name in LIBRARIES}}
    return {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def row(part: str, summary: str, seconds: float, installed: dict[str, str]) -> str:
    machine = f"{os.cpu_count()} cores of {platform.machine()}"
    libraries = ", ".join(f"{name} {number}" for name, number in installed.items())
    today = datetime.date.today().isoformat()
    return f"| {part} | {PARTS[part]} | {summary} | {seconds:.0f} | {today} | {machine}; {libraries} |"


def written(rows: dict[str, str]) -> None:
    """The table with these rows in place of the older ones of their parts."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    known = {part: line for line in lines for part in PARTS if line.startswith(f"| {part} |")}
    known.update(rows)
    TABLE.write_text(HEAD + "".join(f"{known[part]}\n" for part in PARTS if part in known), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all without one")
    parser.add_argument("--into", type=Path, default=Path(tempfile.gettempdir()) / "nibt-slow")
    parser.add_argument("--python", default=sys.executable, help="of the matrix")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.into.mkdir(parents=True, exist_ok=True)
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment, worst = {"OMP_WAIT_POLICY": "passive", **os.environ, "PATH": programs, "NIBT_CI": "1"}, 0
    for part in options.parts or PARTS:
        began = time.monotonic()
        code = subprocess.run(command(part, options), cwd=ROOT, env=environment, check=False).returncode
        summary = outcome(part, options.into, code)
        written({part: row(part, summary, time.monotonic() - began, versions(part, options.into))})
        print(f"{part}: {summary}", flush=True)
        worst = max(worst, code != 0)
    sys.exit(worst)


if __name__ == "__main__":
    main()
