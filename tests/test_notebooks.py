"""The notebooks of the documents: stored outputs belong to the code, and running them again gives the same."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.documents import load_docs_module
from tests.helpers import ROOT

pytestmark = pytest.mark.slow

nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install -e '.[dev]'")

FOLDER = ROOT / "docs" / "tutorials"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
_NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    return load_docs_module("notebooks")


def read(name: str) -> Any:
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    return book


def texts(book: Any) -> list[str]:
    """Return the text of each output; that of a picture is its repr."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    return [output.get("text") or output.data["text/plain"] for output in outputs]


def close(first: str, second: str) -> bool:
    """Compare texts, whose decimal numbers may differ by rounding on another machine."""
    if _NUMBER.sub("#", first).split() != _NUMBER.sub("#", second).split():
        return False
    pairs = zip(_NUMBER.findall(first), _NUMBER.findall(second), strict=True)
    return all(float(one) == pytest.approx(float(other), abs=0.02) for one, other in pairs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_stored_outputs_belong_to_the_code(name: str, notebooks: ModuleType) -> None:
    book, remedy = read(name), "run python docs/notebooks.py"
    stored, actual = book.metadata["nibt"], notebooks.stamp(book)
    assert {key: stored[key] for key in ("cells", "version")} == {key: actual[key] for key in ("cells", "version")}, (
        remedy
    )
    assert stored["probe"].keys() == actual["probe"].keys(), remedy
    assert actual["probe"] or name == "ask_a_generator", "its generator is none of the embedded models"
    for model, probe in actual["probe"].items():
        assert stored["probe"][model]["weights_hash"] == probe["weights_hash"], remedy
        for method, scores in probe["scores"].items():
            assert stored["probe"][model]["scores"][method] == pytest.approx(scores, abs=2e-3), f"{method}: {remedy}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_have_outputs_in_order_and_are_small(name: str, notebooks: ModuleType) -> None:
    book = read(name)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    assert not any(str(Path.home()) in text or "site-packages" in text for text in texts(book))
    assert (FOLDER / f"{name}.ipynb").stat().st_size < notebooks.MOST_BYTES


def test_changed_cells_have_another_stamp(notebooks: ModuleType) -> None:
    book = read("first_steps")
    book.cells[1].source += "\n"
    assert notebooks.stamp(book)["cells"] != book.metadata["nibt"]["cells"]


def test_texts_may_differ_by_rounding_only() -> None:
    assert close("cat  +0.328\ncup +0.23", "cat +0.327\ncup +0.24")
    assert not close("cat +0.328", "cat +0.428")
    assert not close("cat +0.328", "cup +0.328")
    assert not close("16 pairs", "17 pairs")


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run_and_give_the_stored_outputs(name: str, notebooks: ModuleType) -> None:
    stored, actual = texts(read(name)), texts(notebooks.run(FOLDER / f"{name}.ipynb"))
    assert len(stored) == len(actual)
    for one, other in zip(stored, actual, strict=True):
        assert close(one, other), f"stored: {one}\nnow: {other}\nrun python docs/notebooks.py"
