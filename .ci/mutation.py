"""Mutation testing: change one place of the code, and see whether a test fails.

python .ci/mutation.py --sample 40 --seed 0
python .ci/mutation.py --sample 20 --only metrics core/quadrature.py --tests tests/metrics tests/core

cosmic-ray makes the mutants. A sample draws places in the code first and one mutant of each place then, so that an
operator with many replacements does not outweigh the rest. Left out are mutants that are not valid Python, and places
that do not change what is computed:

- annotations and ``@override``, which only type checkers read;
- ``@dataclass(frozen=True)``: a class without it, or with ``frozen=False``, is not importable, cannot be built, or only
  loses its protection against assignments, which one test checks for all plugins;
- ``strict=True`` of ``zip``: an assertion about sequences that the lines above build with the same length.

The tests of a mutant are those that run its statement, as coverage recorded them in one run of the suite, up to a time
budget. The folder of the run keeps what coverage recorded; the next run there records only the test files that changed,
or all of them after a change of the package or of the helpers of tests. A mutant is killed if one of its tests fails or
takes too long. At the end, the failed tests run once more on the unchanged code: if one fails there, too, the result is
not valid. Tests of subprocesses are not recorded.

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
from collections.abc import Iterable, Iterator
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
DECORATORS = ("override", "dataclass(frozen=True)")
"""Decorators whose mutants are left out."""
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


def excluded_spans(module: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end (line, column) of each place whose changes do not change what is computed."""
    nodes, spans = [], []
    for node in ast.walk(module):
        nodes += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.keyword) and node.arg == "strict":
            nodes.append(node.value)
        for item in getattr(node, "decorator_list", []):
            if ast.unparse(item).rpartition("dataclasses.")[2] in DECORATORS:
                spans.append(((item.lineno, item.col_offset - 1), ((item.end_lineno or 0) + 1, 0)))
    return spans + [
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
    """Every mutant that cosmic-ray knows, by its place, without the places that are left out."""
    grouped: dict[tuple, list[MutationSpec]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, use_db(Path(folder) / "mutants.sqlite", WorkDB.Mode.create) as db:
        init([root / PACKAGE / name for name in files], db, {})
        specs = [mutation for item in db.work_items for mutation in item.mutations]
    excluded = {name: excluded_spans(ast.parse((root / PACKAGE / name).read_text(encoding="utf-8"))) for name in files}
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
        """Run the tests once under coverage, except for files that the folder has the map of."""
        self._tree, self._folder = tree.resolve(), folder
        current, shared, index = self._digests(tests), self._shared_digest(), folder / "coverage.json"
        state = json.loads(index.read_text()) if index.exists() else {}
        if state.get("shared") != shared:
            state = {"shared": shared, "runs": 0, "files": {}}
        files = state["files"]
        if changed := [file for file in current if files.get(file, [""])[0] != current[file]]:
            failed = self._record(state["runs"], changed, workers)
            files |= {file: [current[file], state["runs"]] for file in changed if file not in failed}
            state["runs"] += 1
            index.write_text(json.dumps(state))
            if failed:
                sys.exit(f"tests must pass before they can kill; see {folder}/suite-*.log. Files: {', '.join(failed)}")
        self._run = {file: files[file][1] for file in current}
        self._data: dict[int, CoverageData] = {}
        self._seconds: dict[str, float] = {}
        for number in set(self._run.values()):
            self._data[number] = CoverageData(str(folder / f"coverage-{number}"))
            self._data[number].read()
            record = read_record(folder / f"suite-{number}.json")
            self._seconds |= {name: seconds for name, (_, seconds) in record.items() if self._run_of(name) == number}

    def _record(self, number: int, files: list[str], workers: int) -> list[str]:
        """Run test files under coverage; return those with a test that fails.

        Raises:
            SystemExit: The tests do not run.

        """
        data, config = self._folder / f"coverage-{number}", self._folder / "coveragerc"
        for path in self._folder.glob(f"{data.name}*"):
            path.unlink()
        # a relative path in the data would depend on the working directory
        config.write_text(f"[run]\ndata_file = {data}\n")
        options = [f"--cov={PACKAGE}", f"--cov-config={config}", "--cov-context=test", "--cov-report="]
        record = self._folder / f"suite-{number}.json"
        code = run_pytest(self._tree, [*options, "-n", str(workers), *_listed(self._folder, files)], record)
        outcomes = read_record(record)
        if code not in (0, 1) or not outcomes:
            sys.exit(f"pytest exits with {code}; see {record.with_suffix('.log')}")
        failed = tuple(name for name, (outcome, _) in outcomes.items() if outcome == "failed")
        return [file for file in files if any(name.startswith((f"{file}::", f"{file}/")) for name in failed)]

    def _digests(self, tests: list[str]) -> dict[str, str]:
        """The digest of each test file; a path without test files, such as that of doctests, stands for itself."""
        files: dict[str, str] = {}
        for name in tests:
            inside = sorted((self._tree / name).rglob("test_*.py"))
            for path in inside or [self._tree / name]:
                content = path.read_bytes() if path.is_file() else b""
                files[path.relative_to(self._tree).as_posix()] = hashlib.sha256(content).hexdigest()
        return files

    def _shared_digest(self) -> str:
        """The digest of the package and of the helpers of tests."""
        digest = hashlib.sha256()
        for path in sorted([*(self._tree / "src").rglob("*.py"), *(self._tree / "tests").rglob("*.py")]):
            if not path.name.startswith("test_"):
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def _run_of(self, test: str) -> int | None:
        """The number of the run that recorded a test last."""
        file = test.partition("::")[0]
        parents = (self._run.get(parent.as_posix()) for parent in (Path(file), *Path(file).parents))
        return next((number for number in parents if number is not None), None)

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that run the statement.

        If it runs on import, these are all tests that run a line of the file, and those in the folder of its tests,
        which may read an attribute without running a line.
        """
        first, last = mutant.span
        names: set[str] = set()
        anywhere: set[str] = set()
        imported = False
        for number, data in self._data.items():
            contexts = data.contexts_by_lineno(str(self._tree / PACKAGE / mutant.file))
            lines = [contexts.get(line, []) for line in range(first, last + 1)]
            names |= self._names(number, lines)
            anywhere |= self._names(number, contexts.values())
            imported = imported or any(lines)
        if imported and not names:
            folder = f"tests/{Path(mutant.file).parent.as_posix()}/"
            return sorted(anywhere | {name for name in self._seconds if name.startswith(folder)})
        return sorted(names)

    def _names(self, number: int, lines: Iterable[list[str]]) -> set[str]:
        """The tests in the contexts of lines, as far as this run recorded them last."""
        names = {name.rpartition("|")[0] for line in lines for name in line}
        return {name for name in names & set(self._seconds) if self._run_of(name) == number}

    def seconds(self, test: str) -> float:
        return self._seconds[test]


def choose_tests(names: list[str], seconds: dict[str, float], stem: str, budget: float) -> list[str]:
    """Tests until the budget is used: those of the file of that name, then all others; the short ones first."""
    own = f"test_{stem.strip('_')}"
    chosen, total = [], 0.0
    for name in sorted(names, key=lambda name: (Path(name.partition("::")[0]).stem != own, seconds[name], name)):
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
        if last.status == "survived":
            print(last.diff, flush=True)
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
    argument(
        "--tests", nargs="+", default=["tests", "src"], metavar="PATH", help="tests that kill (default: tests src)"
    )
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
