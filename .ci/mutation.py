"""Mutation testing: change one place of the code, and see whether a test fails.

python .ci/mutation.py --sample 40 --seed 0
python .ci/mutation.py --sample 20 --only metrics core/quadrature.py --tests tests/metrics tests/core

cosmic-ray makes the mutants. A sample draws places in the code first and one mutant of each place then, so that an
operator with many replacements does not outweigh the rest. Annotations are left out, and so are mutants that are not
valid Python.

The tests of a mutant are those that run its statement, as coverage recorded them in one run of the suite, up to a time
budget. A mutant is killed if one of them fails or takes too long. At the end, the failed tests run once more on the
unchanged code: if one fails there, too, the result is not valid. Tests of subprocesses are not recorded.

Everything runs in a copy of the tracked files. The survivors are printed as diffs. Those in ``.ci/mutants.toml`` are
equivalent and do not count. Exit code 1: fewer mutants are killed than ``--at-least`` demands, or a result is invalid.
"""

import argparse
import ast
import difflib
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec
from coverage import CoverageData
from tree import ROOT, copy_tree, tracked_files

PACKAGE = "src/nibt"
TARGETS = ("core", "methods", "metrics", "targets", "data/units.py", "jobs/store.py")
"""Folders and files of the package whose mutants are made."""
START = 60.0
"""Seconds that a process of pytest may take before its first test."""
Span = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    """Relative to the package."""
    operator: str
    span: Span
    """First and last line of the changed statement."""
    code: str
    diff: str


@dataclass(frozen=True)
class Outcome:
    """What the tests say about a mutant: killed, survived, equivalent, or invalid."""

    file: str
    operator: str
    diff: str
    status: str
    tests: int
    by: str
    seconds: float


def target_files(root: Path, targets: tuple[str, ...] | list[str]) -> list[str]:
    """The Python files of the targets, relative to the package.

    Raises:
        SystemExit: A target names no tracked file.
    """
    names = [name.removeprefix(f"{PACKAGE}/") for name in tracked_files(root) if name.startswith(f"{PACKAGE}/")]
    files = []
    for target in targets:
        matches = [name for name in names if name == target or name.startswith(f"{target.rstrip('/')}/")]
        if not matches:
            sys.exit(
                f"no tracked file under {PACKAGE} matches {target!r}; name a folder or a file, such as {TARGETS[0]}"
            )
        files += [name for name in matches if name.endswith(".py")]
    return sorted(set(files))


def annotation_spans(module: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end (line, column) of each annotation: changes there do not change what is computed."""
    nodes = []
    for node in ast.walk(module):
        nodes += [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in nodes
        if isinstance(node, ast.expr)
    ]


def statement_span(module: ast.Module, line: int) -> Span:
    """First and last line of the smallest statement around a line; of a compound statement, its header."""
    spans = []
    for node in ast.walk(module):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
            last = max(first, body[0].lineno - 1) if body else node.end_lineno or first
            if first <= line <= last:
                spans.append((first, last))
    return min(spans, key=lambda span: span[1] - span[0], default=(line, line))


def places(root: Path, files: list[str]) -> dict[tuple, list[MutationSpec]]:
    """Every mutant that cosmic-ray knows, by its place; annotations are left out."""
    grouped: dict[tuple, list[MutationSpec]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, use_db(Path(folder) / "mutants.sqlite", WorkDB.Mode.create) as db:
        init([root / PACKAGE / name for name in files], db, {})
        specs = [mutation for item in db.work_items for mutation in item.mutations]
    excluded = {
        name: annotation_spans(ast.parse((root / PACKAGE / name).read_text(encoding="utf-8"))) for name in files
    }
    for spec in specs:
        name = spec.module_path.relative_to(root / PACKAGE).as_posix()
        if not any(start <= tuple(spec.start_pos) and tuple(spec.end_pos) <= end for start, end in excluded[name]):
            grouped[name, tuple(spec.start_pos), tuple(spec.end_pos)].append(spec)
    return {place: grouped[place] for place in sorted(grouped)}


def draw_mutants(root: Path, files: list[str], count: int, seed: int) -> list[Mutant]:
    """At most ``count`` mutants, one per place, the same for the same code and seed."""
    generator, grouped = random.Random(seed), places(root, files)
    order = list(grouped)
    generator.shuffle(order)
    mutants: list[Mutant] = []
    for place in order:
        if len(mutants) == count:
            break
        specs = sorted(grouped[place], key=lambda spec: (spec.operator_name, spec.occurrence))
        generator.shuffle(specs)
        mutants += list(itertools.islice(filter(None, (_mutant(root, place[0], spec) for spec in specs)), 1))
    return mutants


def _mutant(root: Path, name: str, spec: MutationSpec) -> Mutant | None:
    """The mutant, or None if it is not valid Python or the same program."""
    source = (root / PACKAGE / name).read_text(encoding="utf-8")
    code = mutate_code(source, get_operator(spec.operator_name)(**spec.operator_args), spec.occurrence)
    module = ast.parse(source)
    try:
        if code is None or ast.dump(ast.parse(code)) == ast.dump(module):
            return None
    except SyntaxError:
        return None
    lines = difflib.unified_diff(source.splitlines(), code.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=1)
    return Mutant(name, spec.operator_name, statement_span(module, spec.start_pos[0]), code, "\n".join(lines))


def run_pytest(tree: Path, arguments: list[str], record: Path, seconds: float | None = None) -> int | None:
    """The exit code of pytest in the copy; None if it takes longer than ``seconds``."""
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(tree / "src"), str(Path(__file__).parent)])
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # a mutant of the same second and size would be taken from the cache
    environment["RECORD_TESTS"] = str(record)
    environment.pop("NIBT_CI", None)
    record.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "record", "-p", "no:cacheprovider", *arguments]
    log = record.with_suffix(".log")
    with log.open("w") as output:
        try:
            return subprocess.run(
                command, cwd=tree, env=environment, stdout=output, stderr=output, timeout=seconds, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return None


def read_record(record: Path) -> dict[str, tuple[str, float]]:
    """Outcome and seconds of each test; empty if pytest did not get as far."""
    if not record.exists():
        return {}
    return {name: (outcome, seconds) for name, (outcome, seconds) in json.loads(record.read_text()).items()}


class CoverageMap:
    """Which tests run which line, and how long each takes."""

    def __init__(self, tree: Path, folder: Path, tests: list[str], workers: int) -> None:
        """Run the tests once under coverage, unless the folder has the map of the same files and tests."""
        self._tree = tree.resolve()
        data, record, key = folder / "coverage", folder / "suite.json", folder / "coverage.key"
        digest = self._digest(tests)
        if not (data.exists() and key.exists() and key.read_text() == digest):
            for path in folder.glob("coverage*"):
                path.unlink()
            # a relative path in the data would depend on the working directory
            config = folder / "coveragerc"
            config.write_text(f"[run]\ndata_file = {data}\n")
            options = [f"--cov={PACKAGE}", f"--cov-config={config}", "--cov-context=test", "--cov-report="]
            code = run_pytest(tree, [*options, "-n", str(workers), *tests], record)
            if code != 0:
                sys.exit(f"the tests must pass before they can kill (pytest exits with {code}); see {folder}/suite.log")
            key.write_text(digest)
        self._data = CoverageData(str(data))
        self._data.read()
        self._seconds = {name: seconds for name, (_, seconds) in read_record(record).items()}

    def _digest(self, tests: list[str]) -> str:
        digest = hashlib.sha256(json.dumps(tests).encode())
        for path in sorted([*(self._tree / "src").rglob("*.py"), *(self._tree / "tests").rglob("*.py")]):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that run the statement; if it runs on import, all tests that run a line of the file."""
        contexts = self._data.contexts_by_lineno(str(self._tree / PACKAGE / mutant.file))
        first, last = mutant.span
        lines = [contexts.get(line, []) for line in range(first, last + 1)]
        return self._names(lines) or (self._names(contexts.values()) if any(lines) else [])

    def _names(self, lines: object) -> list[str]:
        names = {name.rpartition("|")[0] for line in lines for name in line}  # type: ignore
        return sorted(names & set(self._seconds))

    def seconds(self, test: str) -> float:
        return self._seconds[test]


def choose_tests(names: list[str], seconds: dict[str, float], stem: str, budget: float) -> list[str]:
    """Tests in turns from each file, the short ones first, until the budget is used; the file of that name begins."""
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=lambda name: (seconds[name], name)):
        by_file[name.partition("::")[0]].append(name)
    files = sorted(by_file, key=lambda file: (Path(file).stem != f"test_{stem.strip('_')}", file))
    chosen, total = [], 0.0
    for name in filter(None, itertools.chain(*itertools.zip_longest(*(by_file[file] for file in files)))):
        if chosen and total + seconds[name] > budget:
            continue
        chosen.append(name)
        total += seconds[name]
    return chosen


def judge(mutant: Mutant, tree: Path, folder: Path, coverage: CoverageMap, budget: float) -> Outcome:
    """Run the tests of a mutant on it."""
    names = coverage.tests(mutant)
    seconds = {name: coverage.seconds(name) for name in names}
    chosen = choose_tests(names, seconds, Path(mutant.file).stem, budget)
    start = time.monotonic()
    if not chosen:
        return Outcome(mutant.file, mutant.operator, mutant.diff, "survived", 0, "no test runs it", 0.0)
    path, record = tree / PACKAGE / mutant.file, folder / "mutant.json"
    source = path.read_text(encoding="utf-8")
    limit = START + 5 * sum(seconds[name] for name in chosen)
    path.write_text(mutant.code, encoding="utf-8")
    try:
        code = run_pytest(tree, ["-x", "-n", "0", *_listed(folder, chosen)], record, limit)
    finally:
        path.write_text(source, encoding="utf-8")
    failed = [name for name, (outcome, _) in read_record(record).items() if outcome == "failed"]
    status = "survived" if code == 0 else "killed"
    by = "" if code == 0 else failed[0] if failed else "time limit" if code is None else f"import, before {chosen[0]}"
    return Outcome(mutant.file, mutant.operator, mutant.diff, status, len(chosen), by, time.monotonic() - start)


def _listed(folder: Path, names: list[str]) -> list[str]:
    """The names in a file: a command line is too short for all of them."""
    listed = folder / "tests.txt"
    listed.write_text("\n".join(names), encoding="utf-8")
    return [f"@{listed}"]


def invalid_tests(outcomes: list[Outcome], tree: Path, folder: Path) -> set[str]:
    """The tests that killed a mutant and fail, or do not run, on the unchanged code."""
    names = {outcome.by.removeprefix("import, before ") for outcome in outcomes if "::" in outcome.by}
    if not names:
        return set()
    record = folder / "again.json"
    run_pytest(tree, ["-n", "0", *_listed(folder, sorted(names))], record)
    record_again = read_record(record)
    return {name for name in names if record_again.get(name, ("", 0))[0] != "passed"}


def changed_lines(diff: str) -> tuple[str, str]:
    """The removed and the added lines of a diff without indentation."""
    lines = diff.splitlines()[2:]
    before, after = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return "\n".join(before), "\n".join(after)


def equivalents(path: Path) -> set[tuple[str, str, str]]:
    """File, line before and line after of the mutants that compute the same."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    return {(entry["file"], entry["before"], entry["after"]) for entry in entries}


def final_status(outcome: Outcome, invalid: set[str], known: set[tuple[str, str, str]]) -> str:
    if outcome.by.removeprefix("import, before ") in invalid:
        return "invalid"
    if outcome.status == "survived" and (outcome.file, *changed_lines(outcome.diff)) in known:
        return "equivalent"
    return outcome.status


def table(results: list[dict]) -> Iterator[str]:
    """A line per folder, and one for all."""
    folders = sorted({str(Path(result["file"]).parent) for result in results})
    yield f"{'folder':<12} {'mutants':>8} {'killed':>8} {'survived':>8} {'equivalent':>10} {'share':>6}"
    for folder in [*folders, "all"]:
        rows = [row["status"] for row in results if folder in (str(Path(row["file"]).parent), "all")]
        count = {status: rows.count(status) for status in ("killed", "survived", "equivalent")}
        yield (
            f"{folder:<12} {len(rows):>8} {count['killed']:>8} {count['survived']:>8} {count['equivalent']:>10} "
            f"{killed_share(rows):>6.0%}"
        )


def killed_share(statuses: list[str]) -> float:
    """Killed mutants among those that are killed or survive; 1 without any."""
    killed, survived = statuses.count("killed"), statuses.count("survived")
    return killed / (killed + survived) if killed + survived else 1.0


def run(options: argparse.Namespace, root: Path = ROOT) -> list[dict]:
    """Draw, run and judge the mutants; write ``mutation.json`` into the folder of the run."""
    folder = options.into.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / "tree"
    (folder / "mutation.json").unlink(missing_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    copy_tree(tree, root)
    if (root.parent / "shared").is_dir() and not (folder / "shared").exists():
        (folder / "shared").symlink_to(root.parent / "shared")
    coverage = CoverageMap(tree, folder, options.tests, options.workers)
    outcomes = []
    for mutant in draw_mutants(tree, target_files(root, options.only or TARGETS), options.sample, options.seed):
        outcomes.append(judge(mutant, tree, folder, coverage, options.seconds))
        last, number = outcomes[-1], f"{len(outcomes)}/{options.sample}"
        facts = f"{last.tests} tests, {last.seconds:.0f} s, {last.by}"
        print(f"{number} {last.status} {last.file} {last.operator}: {facts}", flush=True)
    invalid, known = invalid_tests(outcomes, tree, folder), equivalents(root / ".ci" / "mutants.toml")
    results = [{**asdict(outcome), "status": final_status(outcome, invalid, known)} for outcome in outcomes]
    (folder / "mutation.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    argument = parser.add_argument
    argument("--sample", type=int, default=40, help="number of mutants (default: 40)")
    argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    argument("--only", nargs="+", metavar="PATH", help=f"parts of {PACKAGE} to change (default: {' '.join(TARGETS)})")
    argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="tests that may kill (default: tests)")
    argument("--seconds", type=float, default=60.0, help="time budget of the tests of one mutant (default: 60)")
    argument("--workers", type=int, default=0, help="processes of pytest-xdist for the coverage run (default: 0)")
    argument("--at-least", type=float, default=0.0, help="smallest share of killed mutants, 0 to 1 (default: 0)")
    argument("--into", type=Path, default=Path(tempfile.gettempdir()) / "nibt-mutation", help="folder of the run")
    options = parser.parse_args()
    results = run(options)
    for result in results:
        if result["status"] in ("survived", "invalid"):
            print(
                f"\n{result['status']} {result['tests']} tests; {result['operator']} {result['by']}\n{result['diff']}"
            )
    print("\n".join(["", *table(results)]))
    statuses = [result["status"] for result in results]
    sys.exit("invalid" in statuses or killed_share(statuses) < options.at_least)


if __name__ == "__main__":
    main()
