"""What ``docs/generate.py`` writes is current and complete."""

import json
import re
from types import ModuleType

import pytest

import nibt
from nibt.registry import find
from tests.documents import load_docs_module
from tests.helpers import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load_docs_module("generate")


def test_generated_files_are_current(generate: ModuleType) -> None:
    for path, text in generate.files().items():
        assert path.exists(), f"{path.name}: run python docs/generate.py"
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python docs/generate.py"


@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_each_method_and_metric_has_a_page_and_no_other(kind: str, generate: ModuleType) -> None:
    pages = {path.stem for path in (DOCS / "reference" / kind).glob("*.md")} - {"index"}
    assert pages == set(generate.own(kind))


def test_each_method_has_a_picture_and_a_time(generate: ModuleType) -> None:
    methods = {name for name in generate.own("methods") if "vectors" not in find("methods", name).needs}
    costs = json.loads(generate.COSTS.read_text())
    assert {path.stem for path in generate.COSTS.parent.glob("*.webp")} == costs["methods"].keys() == methods
    assert all(costs["methods"][name]["scenes"]["seconds"] > 0 for name in methods)
    assert sum(path.stat().st_size for path in generate.COSTS.parent.glob("*.webp")) < 500_000


def test_pages_of_methods_state_defaults_and_results(generate: ModuleType) -> None:
    page = generate.method_page("nib")
    assert "`layer`: One layer or several, whose maps are averaged. Default: 0.65 (image), 0 (text)." in page
    assert "pointing 0.95" in page
    assert "z(l) = r + l (h - r)" in page


def test_index_names_every_command_plugin_and_page(generate: ModuleType) -> None:
    index = json.loads((DOCS / "index.json").read_text(encoding="utf-8"))
    assert "--against" in {name for option in index["commands"]["explain"]["options"] for name in option["names"]}
    assert set(nibt.__all__) == set(index["python"])
    assert index["plugins"]["methods"]["nib"]["options"]["steps"] == "3 (image), 6 (text)"
    assert all(index["python"].values())
    assert all(one["about"] for kind in index["plugins"].values() for one in kind.values())
    for entry in index["pages"]:
        assert generate.source_page(entry["path"]).exists()
    for kind in ("methods", "metrics"):
        assert all((DOCS / one["page"]).exists() for one in index["plugins"][kind].values())


def test_llms_txt_has_a_sentence_for_every_page() -> None:
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^- \[([^\]]+)\]\(([^)]+)\): (.*)$", text, re.MULTILINE)
    assert len(entries) == len(json.loads((DOCS / "index.json").read_text(encoding="utf-8"))["pages"])
    assert all((DOCS / path).resolve().exists() for _, path, _ in entries)
    assert all(len(about.split()) > 2 for _, _, about in entries), [
        entry for entry in entries if len(entry[2].split()) < 3
    ]


def words(text: str) -> int:
    return len(text.split())


def test_documents_have_at_most_32_000_words() -> None:
    """As ``wc -w`` counts, code included.

    README, all pages and the text cells of the notebooks count. What commands measured and printed does not: studies,
    the tables in ``reference/results``, and what stands between the comments with which a command finds its place.
    """
    pages = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *DOCS.rglob("*.md"))}
    studies = [DOCS / "explanation" / name for name in ("study.md", "study_regions.md")]
    for path in [*studies, *(DOCS / "reference" / "results").glob("*.md")]:
        del pages[path]
    counts = {path: words(re.sub(r"(?s)<!-- (\w+) -->.*?<!-- /\1 -->", "", text)) for path, text in pages.items()}
    for path in DOCS.rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        counts[path] = sum(words("".join(cell["source"])) for cell in cells if cell["cell_type"] == "markdown")
    assert sum(counts.values()) <= 32_000, {str(path.relative_to(ROOT)): count for path, count in counts.items()}
