"""The proof that the core stands without its wings: each is deleted, with its tests, in a copy, and the rest is run.

    python .ci/wings.py                  # each wing alone, and all together: probes and imports
    python .ci/wings.py lab heads        # these
    python .ci/wings.py --tests all      # also the fast suite without the tests of the wings

A wing is a list of files, which also says what belongs to it. Tests of a wing are the files that import it, at their
top or by other files of tests, and tests that end in the error that says which part is missing. The table says how many
files went, which probes fail, which imports of the rest lead to what went, and how many tests ran.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
WINGS = {
    "generators": (
        "generators data/conversation.py cli/commands/answer.py cli/console_answer.py jobs/answers.py app/answers.py "
        "evaluation/audit/answers.py "
        "models/embedded/scenes_generator bridges/served_answers.py bridges/loaders bridges/finished_requests.py "
        "bridges/answer_servers.py bridges/questions.py bridges/sampled_answers.py bridges/scored_answers.py "
        "bridges/served_sources.py bridges/served_words.py "
        "bridges/server_check.py"
    ),
    "lab": (
        "evaluation metrics results/audit.py results/audit_questions.py results/audit_questions.toml results/roar.py "
        "results/parts.py results/word_parts.py report/certificate.py report/html/audit.py report/html/audit.html "
        "report/html/parts.py report/html/word_parts.py report/html/word_parts.html "
        "report/html/parts.html report/html/parts.css report/html/parts.js report/html/part_gallery.html "
        "data/ground_truth.py data/typography.py cli/commands/cite.py cli/commands/evaluation.py "
        "cli/commands/parts.py cli/commands/roar.py "
        "cli/console_audit.py cli/console_parts.py bridges/lightning.py bridges/repair.py "
        "bridges/tracking.py bridges/training.py"
    ),
    "jobs": "jobs cli/commands/jobs.py",
    "page": "app cli/commands/serve.py",
    "heads": "heads",
    "slides": "slides cli/commands/slide.py",
    "bridges": "bridges",
}
PROBES = {
    "import": "nibt.explain",
    "explain": 'explained = nibt.explain("scenes", "sample:scene", "a cat")',
    "png": 'explained.save(FOLDER + "/a.png")',
    "html": 'explained.save(FOLDER + "/a.html")',
    "json": 'explained.save(FOLDER + "/a.json")',
    "regions": 'nibt.regions("scenes", "sample:scene", "a cat")',
    "compare": 'nibt.compare("scenes", "sample:scene", "sample:chelsea")',
    "rank": 'nibt.rank("scenes", "sample:scene", ["a cat", "a dog"])',
    "help": 'command("--help")',
    "command": 'command("explain", "sample:scene", "a cat", "-m", "scenes", "-o", FOLDER + "/b.png")',
    "check": 'command("check", "scenes")',
    "list": '[command("list", kind) for kind in ("methods", "formats", "models", "targets")]',
}
CODE = """
import contextlib, io, sys
import nibt
FOLDER = sys.argv[1]


def command(*words):
    from nibt.cli import main

    try:
        main(list(words))
    except SystemExit as done:
        if done.code:
            raise RuntimeError(f"exit code {done.code}") from None


for name, probe in PROBES.items():
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            exec(probe, globals())
    except BaseException as error:
        print(name, type(error).__name__, str(error).split("\\n")[0][:150], said.getvalue()[-150:].strip(), sep=" | ")

for name in nibt.__all__:
    try:
        getattr(nibt, name)
    except nibt.errors.Unsupported as error:  # which says what is missing
        pass
"""
PLUGIN = '''
"""Tests that end in the error that says which part of nibt is missing are tests of that part."""
import re

import pytest
from typer.core import TyperGroup

GONE = re.compile({gone!r})
WINGS, COMMANDS = {wings!r}, {commands!r}
find_command = TyperGroup.resolve_command


def resolve_command(group, context, words):
    if words and words[0] in COMMANDS:
        raise ModuleNotFoundError(f"No command {{words[0]}}")
    return find_command(group, context, words)


TyperGroup.resolve_command = resolve_command


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and GONE.search(f"{{call.excinfo.value!r}} {{report.longrepr}}"):
        report.outcome, report.wasxfail = "skipped", "needs a wing"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    report = (yield).get_result()
    if report.failed and GONE.search(str(report.longrepr)):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "Skipped: needs a wing")


def pytest_collection_modifyitems(items):
    for item in items:
        needed = [wing for mark in item.iter_markers("needs") for wing in mark.args]
        if any(wing in WINGS for wing in needed):
            item.add_marker(pytest.mark.skip(reason="needs a wing"))
'''


def modules_in(package: Path, name: str) -> dict[str, Path]:
    """Return the files of a package, or of the tests, by the names of their modules."""
    modules = {}
    for path in package.rglob("*.py"):
        parts = (name, *path.relative_to(package).with_suffix("").parts)
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports_of(path: Path, at_top: bool) -> Iterator[str]:
    """Yield the names of the modules that a file imports: at its top or, otherwise, inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types or (node in top) != at_top:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def tests_of(tests: dict[str, Path], gone: set[str]) -> set[str]:
    """Return the files of tests that import what is gone, also by other files of tests."""
    lost: set[str] = set()
    while True:
        missing = gone | lost
        more = {name for name, path in tests.items() if name not in lost and missing & {*imports_of(path, at_top=True)}}
        if not more:
            return lost
        lost |= more


def without(wings: list[str], with_tests: bool) -> tuple[str, bool]:
    """Delete wings in a copy, run what is left, and return a row of the table, and whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        left_out = shutil.ignore_patterns("__pycache__", ".venv", ".git", "site", "*.egg-info")
        shutil.copytree(ROOT, copy, ignore=left_out)
        package = copy / "src" / "nibt"
        before = modules_in(package, "nibt")
        commands = [*commands_of(package, wings)]
        for part in " ".join(WINGS[wing] for wing in wings).split():
            place = package / part
            if not place.exists():
                raise SystemExit(f"there is no {part} in src/nibt: correct the files of {', '.join(wings)}")
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        left = modules_in(package, "nibt")
        gone = {*before} - {*left}

        blamed = {
            f"{name.removeprefix('nibt.')} -> {target.removeprefix('nibt.')}"
            for name, path in left.items()
            for target in gone & {*imports_of(path, at_top=True)}
        }
        environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "COLUMNS": "120"}
        code = CODE.replace("PROBES", repr(PROBES))
        probed = subprocess.run(
            [sys.executable, "-c", code, folder], env=environment, cwd=folder, capture_output=True, text=True
        )
        failed = probed.stdout.strip().splitlines()
        if probed.returncode:
            failed.append(probed.stderr.strip().splitlines()[-1])
        tests = run_tests(copy, wings, gone, commands, environment) if with_tests else ""

    row = f"| {', '.join(wings)} | {len(gone)} | {len(left)} | {'; '.join(failed) or 'none'} | "
    row += f"{'; '.join(sorted(blamed)) or 'none'} | {tests} |"
    return row, not failed and not blamed and " failed" not in tests and " error" not in tests


def commands_of(package: Path, wings: list[str]) -> Iterator[str]:
    """Yield the names of the commands in the files of wings."""
    for part in " ".join(WINGS[wing] for wing in wings).split():
        if part.startswith("cli/commands/"):
            yield from re.findall(r"\bCommand\(\s*\d+,\s*(\w+)", (package / part).read_text(encoding="utf-8"))


def run_tests(copy: Path, wings: list[str], gone: set[str], commands: list[str], environment: dict[str, str]) -> str:
    """Run the fast suite without the tests of what is gone, and return pytest's closing line."""
    tests = modules_in(copy / "tests", "tests")
    lost = {*tests_of(tests, gone), "tests.test_wings"}
    for name in lost:
        tests[name].unlink()
    names = "|".join(re.escape(name) for name in sorted(gone))
    plugin = PLUGIN.format(
        gone=rf"(No module named|lacks) '?({names})\b|No command ({'|'.join(commands) or '-'})",
        wings=wings,
        commands=commands,
    )
    (copy / "wings_plugin.py").write_text(plugin)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "wings_plugin", "--ignore", "tests/test_documents.py"]
    path = f"{environment['PYTHONPATH']}{os.pathsep}{copy}"
    done = subprocess.run(command, env={**environment, "PYTHONPATH": path}, cwd=copy, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))), file=sys.stderr)
    return f"{len(lost)} files of tests deleted; {lines[-1] if lines else done.stderr[-200:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wings", nargs="*", choices=[*WINGS, "all", []], help="wings; all is all together")
    parser.add_argument("--tests", action="store_true", help="also run the fast suite")
    options = parser.parse_args()

    print("| without | files deleted | files left | probes that fail | imports that lead to it | tests |")
    print("|---|---|---|---|---|---|", flush=True)
    is_well = True
    for wing in options.wings or [*WINGS, "all"]:
        row, well = without([*WINGS] if wing == "all" else [wing], options.tests)
        print(row, flush=True)
        is_well = is_well and well
    sys.exit(not is_well)


if __name__ == "__main__":
    main()
