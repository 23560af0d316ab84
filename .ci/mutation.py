"""Mutation testing: change one place of the code, and see whether a test fails.

python .ci/mutation.py --sample 60 --seed 0 --at-least 0.85
python .ci/mutation.py --sample 20 --only metrics core/quadrature.py

mutmut makes the mutants and runs on each the tests that execute the changed function; [tool.mutmut] of pyproject.toml
says which files and which tests. It works in a copy of the tracked files without ``@override`` and without the
``strict=True`` of ``zip``: neither changes what is computed, but mutmut skips decorated functions, and no test kills a
mutant of an assertion. Only bodies of functions change: no constants, no defaults of fields, no function that has
another decorator.

Before any mutant, mutmut runs the tests of all of them on the unchanged code, and stops if one fails. The survivors are
printed as diffs. Those in ``.ci/mutants.toml`` are equivalent and do not count. Exit code 1: fewer mutants are killed
than ``--at-least`` demands, or a mutant has no valid result; see ``mutmut.log`` in the folder of the run.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import chdir
from itertools import chain
from pathlib import Path

from mutmut.configuration import reset_config
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name
from tree import ROOT, copy_tree

PACKAGE = "src/nibt"
STATUS = {0: "survived", 33: "survived", 1: "killed", 3: "killed", 24: "killed", -24: "killed", 152: "killed"}
"""Of mutmut's exit codes: 33 if no test executes the function, 24 and 152 if time is up. Any other is invalid."""


def prepare_tree(folder: Path, root: Path) -> Path:
    """Copy the tracked files into a new folder, without what mutmut would stumble over."""
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    copy_tree(tree, root)
    for path in (tree / PACKAGE).rglob("*.py"):
        code = re.sub(r"^ *@override\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        path.write_text(code.replace(", strict=True)", ")"), encoding="utf-8")
    if (root.parent / "shared").is_dir():
        (tree / "shared").symlink_to(root.parent / "shared")
    return tree


def draw_mutants(only: list[str], count: int, seed: int) -> dict[str, Path]:
    """The names of at most ``count`` mutants of the tree in the working directory, each with its file."""
    reset_config()
    files = sorted(walk_mutatable_files())
    wanted = {name: [path for path in files if path.is_relative_to(Path(PACKAGE, name))] for name in only or [""]}
    for name, matches in wanted.items():
        if not matches:
            sys.exit(f"{name!r} is nothing under {PACKAGE} that [tool.mutmut] mutates; name a folder or a file")
    names = {
        get_mutant_name(path, name): path
        for path in sorted(set(chain(*wanted.values())))
        for name in mutate_file_contents(str(path), path.read_text(encoding="utf-8")).mutant_names
    }
    return {name: names[name] for name in random.Random(seed).sample(sorted(names), min(count, len(names)))}


def run_mutmut(names: list[str], workers: int, log: Path) -> None:
    """Run mutmut in the working directory; exit if it stops, as for a test that fails on the unchanged code."""
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **os.environ}
    environment.pop("NIBT_CI", None)
    command = [Path(sys.executable).with_name("mutmut"), "run", "--max-children", str(workers), *names]
    with log.open("w") as output:
        code = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
    if code:
        sys.exit(f"mutmut exits with {code}; see {log}")


def changed_lines(diff: str) -> tuple[str, str]:
    """The removed and the added lines of a diff without indentation."""
    lines = diff.splitlines()[2:]
    before, after = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return "\n".join(before), "\n".join(after)


def equivalents(path: Path) -> set[tuple[str, str, str]]:
    """File, line before and line after of the mutants that compute the same."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    return {(entry["file"], entry["before"], entry["after"]) for entry in entries}


def killed_share(statuses: list[str]) -> float:
    """Killed mutants among those that are killed or survive; 1 without any."""
    killed, survived = statuses.count("killed"), statuses.count("survived")
    return killed / (killed + survived) if killed + survived else 1.0


def table(results: list[dict]) -> Iterator[str]:
    """A line per folder, and one for all."""
    yield "folder      mutants   killed survived   equiv.  invalid  share"
    for folder in [*sorted({str(Path(row["file"]).parent) for row in results}), "all"]:
        statuses = [row["status"] for row in results if folder in (str(Path(row["file"]).parent), "all")]
        counts = [f"{statuses.count(name):>8}" for name in ("killed", "survived", "equivalent", "invalid")]
        yield " ".join([f"{folder:<10} {len(statuses):>8}", *counts, f"{killed_share(statuses):>6.0%}"])


def run(options: argparse.Namespace, root: Path = ROOT) -> list[dict]:
    """Draw, run and judge the mutants; write ``mutation.json`` into the folder of the run."""
    folder = options.into.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mutation.json").unlink(missing_ok=True)
    known, results = equivalents(root / ".ci" / "mutants.toml"), []
    with chdir(prepare_tree(folder, root)):
        mutants = draw_mutants(options.only, options.sample, options.seed)
        run_mutmut(list(mutants), options.workers, folder / "mutmut.log")
        for name, path in mutants.items():
            code = json.loads(Path("mutants", f"{path}.meta").read_text())["exit_code_by_key"][name]
            file, diff = path.relative_to(PACKAGE).as_posix(), get_diff_for_mutant(name, path=path)
            same = (file, *changed_lines(diff)) in known
            status = "equivalent" if code == 0 and same else STATUS.get(code, "invalid")
            why = "no test executes it" if code == 33 else f"exit code {code}"
            results.append({"file": file, "status": status, "why": why, "name": name, "diff": diff})
    (folder / "mutation.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    argument = parser.add_argument
    argument("--sample", type=int, default=60, help="number of mutants (default: 60)")
    argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    argument("--only", nargs="+", metavar="PATH", default=[], help=f"parts of {PACKAGE} to change (default: all)")
    argument("--workers", type=int, default=2, help="mutants that are tested at a time (default: 2)")
    argument("--at-least", type=float, default=0.0, help="smallest share of killed mutants, 0 to 1 (default: 0)")
    argument("--into", type=Path, default=Path(tempfile.gettempdir()) / "nibt-mutation", help="folder of the run")
    options = parser.parse_args()
    results = run(options)
    for result in results:
        if result["status"] in ("survived", "invalid"):
            print(f"\n{result['status']} ({result['why']}) {result['name']}\n{result['diff']}")
    print("\n".join(["", *table(results)]))
    statuses = [result["status"] for result in results]
    sys.exit("invalid" in statuses or killed_share(statuses) < options.at_least)


if __name__ == "__main__":
    main()
