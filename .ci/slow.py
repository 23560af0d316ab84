"""The slow suite, and what it gave: .ci/slow.csv.

python .ci/slow.py                       # all of it: an hour and more, and 12 GB for two environments
python .ci/slow.py full oldest           # some of it; the other rows of the table stay as they are
python .ci/slow.py newest --python python3.13 --into FOLDER

It runs in the environment of the gate (`.ci/run` makes it). Exit code 1: a part failed.
"""

import argparse
import csv
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
TABLE = ROOT / ".ci" / "slow.csv"
PARTS = {
    "full": "the full suite: all tests, while types and shapes are checked",
    "kills": "a benchmark killed twenty times has the table of an undisturbed one",
    "study": "the study behind the defaults, measured again on its first scenes, agrees with docs/reference/results",
    "release": "sdist and wheel are built, checked, and each runs in an empty environment",
    "mutation": "of a sample of mutants, the tests kill at least 85 %",
    "oldest": "the core with the oldest supported versions",
    "newest": "the core with the newest versions",
}
LIBRARIES = ("torch", "torchvision", "transformers", "open_clip_torch", "timm", "pillow", "numpy")
COLUMNS = ("part", "what", "outcome", "seconds", "date", "machine", "versions")


def command(part: str, options: argparse.Namespace) -> list[str]:
    """What a part runs."""
    python, into = sys.executable, options.into.resolve()
    match part:
        case "full":
            return ["bash", ".ci/full", "-q", f"--junitxml={into / 'full.xml'}"]
        case "kills":
            return [python, ".ci/kills.py", "--out", tempfile.mkdtemp(dir=into)]
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
        return count if code == 0 else f"failed: {count}"
    reports = {"full": into / "full.xml", "oldest": into / "oldest/tests.xml", "newest": into / "newest/tests.xml"}
    if part not in reports or not reports[part].exists():
        return "passed" if code == 0 else f"failed: exit code {code}"
    count = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in Tree.parse(reports[part]).getroot().iter("testsuite"):
        count = {key: count[key] + int(suite.get(key, 0)) for key in count}
    failed = count["failures"] + count["errors"]
    summary = f"{count['tests'] - failed - count['skipped']} passed, {failed} failed, {count['skipped']} skipped"
    return summary if code == 0 else f"failed: {summary}"


def versions(part: str, into: Path) -> dict[str, str]:
    """Of the environment that a part ran in."""
    if part in ("oldest", "newest"):
        installed = json.loads((into / part / "versions.json").read_text())
        return {"Python": installed["python"], **{name: installed[name] for name in LIBRARIES}}
    return {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def row(part: str, summary: str, seconds: float, installed: dict[str, str]) -> dict[str, str]:
    values = [part, PARTS[part], summary, f"{seconds:.0f}", datetime.date.today().isoformat()]
    values += [f"{os.cpu_count()} cores of {platform.machine()}"]
    values += [", ".join(f"{name} {number}" for name, number in installed.items())]
    return dict(zip(COLUMNS, values, strict=True))


def write(rows: dict[str, dict[str, str]]) -> None:
    """Write the table with these rows in place of the older ones of their parts."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    rows = {row["part"]: row for row in csv.DictReader(lines)} | rows
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[part] for part in PARTS if part in rows)


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
        write({part: row(part, summary, time.monotonic() - began, versions(part, options.into))})
        print(f"{part}: {summary}", flush=True)
        worst = max(worst, code != 0)
    sys.exit(worst)


if __name__ == "__main__":
    main()
