"""The package itself: its public names, what an import costs, and the rules that all its files keep."""

import ast
import importlib.util
import re
import subprocess
import sys
import tokenize
import tomllib
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.errors import NibtError, UnknownName
from nibt.registry import KINDS, available, find

PACKAGE = Path(nibt.__file__).parent
TESTS = Path(__file__).parent


COMPARED_BY_CLASS_NAME = {"models/_compiled.py"}
"""To import the class of compiled modules would import the compiler."""


def test_public_names_can_be_imported() -> None:
    assert {"load_model", "explain", "explain_ranking", "rank", "calibrate", "draw", "available"} <= set(nibt.__all__)
    for name in nibt.__all__:
        assert callable(getattr(nibt, name)), name
        assert callable(getattr(nibt, name)), f"{name} is another thing the second time"
    with pytest.raises(AttributeError, match="No nibt attribute explane"):
        nibt.explane  # noqa: B018


def test_import_does_not_load_torch() -> None:
    code = "import sys, nibt; nibt.__version__; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_is_quick_and_does_not_load_torch() -> None:
    """It takes less than half of the processor time that torch alone takes to load; a quarter of it here."""
    code = "import sys; from nibt.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    texts = ("import torch", code)
    end = "import atexit, sys, time; atexit.register(lambda: print(time.process_time(), file=sys.stderr))\n"
    done = [subprocess.run([sys.executable, "-c", end + text], capture_output=True, text=True) for text in texts]
    assert [process.returncode for process in done] == [0, 0]
    assert "explain" in done[1].stdout
    torch_seconds, help_seconds = (float(process.stderr) for process in done)
    assert help_seconds < torch_seconds / 2


@pytest.mark.parametrize("kind", KINDS)
def test_find_returns_every_part(kind: str) -> None:
    for name in available(kind):
        assert isinstance(find(kind, name), type)
    with pytest.raises(UnknownName, match=r"unknown \w+ 'nothing'"):
        find(kind, "nothing")


def test_unknown_kinds_are_suggested() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'methods'"):
        available("method")


@pytest.mark.parametrize("kind", KINDS)
def test_parts_do_not_import_their_siblings(kind: str) -> None:
    for part in available(kind):
        files = [PACKAGE / kind / f"{part}.py", *(PACKAGE / kind / part).glob("*.py")]
        for file in filter(Path.exists, files):
            for module in _imported(file):
                sibling = (
                    module.removeprefix(f"nibt.{kind}.").split(".")[0] if module.startswith(f"nibt.{kind}.") else part
                )
                assert sibling == part or sibling == "base" or sibling.startswith("_"), f"{file.name} imports {module}"


def _imported(file: Path) -> list[str]:
    nodes = _nodes()[file.relative_to(PACKAGE).as_posix()]
    plain = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    return plain + [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]


def _called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def test_own_modules_are_imported_by_name_in_the_registry_alone() -> None:
    """Elsewhere, such an import would hide a circle from the contracts of imports."""
    for path in PACKAGE.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        named = [ast.unparse(node) for node in calls if _called(node) in ("import_module", "__import__")]
        own = [call for call in named if re.search(r"""\(f?['"]nibt""", call)]
        assert not own or path.name == "registry.py", f"{path} has {own[0]}"


def test_errors_are_documented_subclasses_of_nibt_error() -> None:
    from nibt import errors

    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, NibtError)
            assert name in (errors.__doc__ or "")


@cache
def _sources(folder: Path = PACKAGE) -> dict[str, ast.Module]:
    """Return the parsed files of a folder by their path."""
    return {
        file.relative_to(folder).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted(folder.rglob("*.py"))
    }


@cache
def _nodes(folder: Path = PACKAGE) -> dict[str, list[ast.AST]]:
    """Return the nodes of the files of a folder, which several tests search."""
    return {file: list(ast.walk(tree)) for file, tree in _sources(folder).items()}


def _compares_class_name(node: ast.AST) -> bool:
    """Whether ``type(x).__name__ ==`` something."""
    if not (isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq)):
        return False
    for side in (node.left, *node.comparators):
        match side:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="type")), attr="__name__"):
                return True
    return False


def test_classes_are_not_compared_by_name() -> None:
    compared = {file for file, nodes in _nodes().items() if any(map(_compares_class_name, nodes))}
    assert compared == COMPARED_BY_CLASS_NAME


@pytest.mark.parametrize(
    ("home", "forbidden"),
    [
        ("cli/terminal.py", r"(?<!\.)\bprint\(|typer\.echo\(|\bConsole\(|sys\.std(out|err)\.write"),
        ("report/image/layout.py", r"\bpen\.text\("),
    ],
)
def test_text_is_printed_and_drawn_in_one_place(home: str, forbidden: str) -> None:
    """Elsewhere, a line break, a control sequence or markup in a text of a user would have its effect."""
    for path in [*(PACKAGE / "cli").rglob("*.py"), *(PACKAGE / "report").rglob("*.py")]:
        lines = [line for line in path.read_text().splitlines() if re.search(forbidden, line)]
        assert not lines or path == PACKAGE / home, f"{path} has {lines[0]}"


def test_images_of_users_are_opened_in_one_place() -> None:
    """Elsewhere, the exception of a decoder would be a traceback. These open what nibt itself has encoded."""
    own = {"images.py", "audit.py", "image.py", "links.py", "scenes/drawing.py", "tracking.py"}
    for path in PACKAGE.rglob("*.py"):
        assert "Image.open(" not in path.read_text() or path.as_posix().endswith(tuple(own)), path


def _project() -> dict[str, Any]:
    return tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_imported_packages_are_declared() -> None:
    """Except for IPython, which is where a notebook is."""
    project = _project()
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    declared = {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") for text in texts}
    known = packages_distributions()
    imported = {name.split(".")[0] for file in PACKAGE.rglob("*.py") for name in _imported(file)}
    for name in sorted(imported - sys.stdlib_module_names - {"nibt", "", "IPython"}):
        owners = {owner.lower().replace("_", "-") for owner in known.get(name, [name])}
        assert owners & declared, f"{name} is imported, and pyproject.toml does not declare it"


_COLLECT = """
import os, sys, pytest
os.environ.pop("NIBT_CI", None)  # there, what is skipped has failed
sys.modules |= dict.fromkeys(sys.argv[1:])
sys.exit(pytest.main(["--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", "tests"]))
"""


@pytest.mark.slow
def test_newcomers_have_no_package_of_the_page_or_of_developers() -> None:
    """The README's command of tests installs the extra ``test`` only, and CI has all of them."""
    extras = _project()["optional-dependencies"]

    def packages(*names: str) -> set[str]:
        texts = [text for name in names for text in extras[name] if not text.startswith("nibt[")]
        return {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") for text in texts}

    absent = packages("app", "docs", "ray", "dev") - packages("test", "data", "models")
    absent = {name for name in absent if not name.startswith("pytest")}  # plugins, which pytest itself loads
    absent -= {"packaging"}  # which other packages need
    modules = [
        module
        for module, owners in packages_distributions().items()
        if {owner.lower().replace("_", "-") for owner in owners} <= absent
    ]
    assert {"gradio", "latex2mathml", "ray", "captum"} <= {*modules}
    done = subprocess.run(
        [sys.executable, "-c", _COLLECT, *modules], cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_extras_that_messages_and_documents_name_exist() -> None:
    """nibt is on no package index, so they are installed from a clone: ``pip install '.[data]'``."""
    extras = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    folders = [path for name in ("src", "docs", "recipes", "tests") for path in (TESTS.parent / name).rglob("*")]
    for path in [*folders, *TESTS.parent.glob("*.md")]:
        if path.suffix not in (".py", ".md", ".ipynb") or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install [^`,&\n]*\bnibt\b", text), f"{path}: nibt is on no package index"
        names = re.findall(r"'\.\[([\w,]+)\]'|\binstall\(['\"](\w+)['\"]\)", text)
        named = {name for pair in names for text in pair for name in text.split(",") if name}
        assert named <= set(extras), f"{path}: {named - set(extras)}"


def test_extra_all_has_all_that_users_may_want() -> None:
    extras = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert extras["all"] == [f"nibt[{','.join(sorted(set(extras) - {'all', 'dev', 'docs', 'test'}))}]"]


_FIRST_PAGE = """
import sys

MISSING = ("datasets", "gradio", "pandas", "peft", "pyarrow", "pycocotools", "ray", "sentencepiece")

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *arguments):
        return None if name.split(".")[0] in MISSING else self.finder.find_spec(name, *arguments)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
import nibt
from nibt.datasets.scenes import Scenes

pairs = list(Scenes(count=8))
answer = nibt.explain("scenes", pairs[0].image, "a cat")
answer.regions()
nibt.draw(answer, cmap="viridis")
nibt.measure("scenes", pairs[:1], ["average_precision"], side="image")
nibt.audit("scenes", pairs, "ones", quick=True)
"""


@pytest.mark.slow
def test_plain_install_does_what_the_first_page_shows() -> None:
    """Without the packages of the extras."""
    done = subprocess.run([sys.executable, "-c", _FIRST_PAGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_hooks_are_set_in_one_place() -> None:
    """Elsewhere, a hook would act in the threads in which users run their models."""
    for path, nodes in _nodes().items():
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        names = {node.func.attr for node in calls if isinstance(node.func, ast.Attribute)}
        assert not any(re.fullmatch(r"register_(\w+_)?hook", name) for name in names), f"{path}: use _hooks.set_hook"


def test_text_is_read_in_one_place() -> None:
    """Elsewhere, the byte order mark of a file would become a part of its first word."""
    for path in PACKAGE.rglob("*.py"):
        read = ".read_text(" in path.read_text() or 'open(encoding="utf-8")' in path.read_text()
        assert not read or path.name == "io.py", f"{path} reads text without nibt.io.read_text"


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "recipes", ".ci", "docs"])
def test_every_line_is_formatted(folder: str) -> None:
    files = list((TESTS.parent / folder).rglob("*.py"))
    assert files
    for file in files:
        with file.open("rb") as stream:
            comments = [token for token in tokenize.tokenize(stream.readline) if token.type == tokenize.COMMENT]
        switched_off = [token.start[0] for token in comments if token.string.replace(" ", "").startswith("#fmt:")]
        assert not switched_off, f"{file} is not formatted at lines {switched_off}"


@pytest.mark.parametrize("folder", ["recipes", "docs"])
def test_scripts_import_modules_that_exist(folder: str) -> None:
    """A script imports packages, scripts beside it, and those of ``docs``."""
    if folder == "docs":
        pytest.importorskip("mkdocs", reason="needs the site: pip install -e '.[docs]'")
    root = TESTS.parent
    for path in (root / folder).rglob("*.py"):
        beside = {file.stem for place in (path.parent, root / "docs") for file in place.glob("*.py")}
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            missing = [name for name in names if name.partition(".")[0] not in beside and not _importable(name)]
            assert not missing, f"{path} imports {missing[0]}"


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def test_scripts_import_names_that_exist() -> None:
    """Recipes and benchmarks take hours, so no suite runs all of them."""
    scripts = [path for folder in ("benchmarks", "recipes", "docs") for path in (TESTS.parent / folder).rglob("*.py")]
    lacking = []
    for path in scripts:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "nibt":
                try:
                    module = import_module(str(node.module))
                except ModuleNotFoundError as error:
                    if (error.name or "").partition(".")[0] == "nibt":
                        raise
                    continue  # a bridge, in an environment without its package
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                lacking += [f"{path.name}: {node.module}.{name}" for name in names if not _is_module(node.module, name)]
    assert len(scripts) > 20
    assert lacking == []


def _is_module(package: str | None, name: str) -> bool:
    return importlib.util.find_spec(f"{package}.{name}") is not None
