"""The code blocks of the documents run."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import nibt
from nibt import registry
from tests import documents
from tests.suites import few

PAGES = documents.pages()
TEXTS = ["README.md", *sorted(str(path.relative_to(documents.ROOT)) for path in documents.ROOT.glob("docs/**/*.md"))]


SLOW = [page for page in PAGES if any(block.slow for block in documents.blocks(page))]


@pytest.fixture
def folder(tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with what a reader has; modules and plugins that a page adds are removed afterwards."""
    here = tmp_path / "reader"
    here.mkdir()
    documents.furnish(here, clip_folder)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    before = set(sys.modules)
    yield here
    for name in set(sys.modules) - before:
        if str(here) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    registry._entry_points.cache_clear()
    registry._available.cache_clear()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # of peft
@pytest.mark.parametrize("page", few(PAGES, ["README.md"]))
def test_blocks_of_a_page_run(page: str, folder: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in documents.blocks(page):
        documents.check(block, folder)
        if not block.not_run and not block.slow:
            documents.check_output(block, documents.run(block, folder, names))


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_slow_blocks_of_a_page_run(page: str, folder: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in documents.blocks(page):
        if not block.not_run:
            documents.check_output(block, documents.run(block, folder, names))


@pytest.mark.parametrize(
    ("text", "expected", "same"),
    [
        ("similarity 0.30502, gap -0.00029", "similarity 0.3050, gap -0.0003", True),
        ("similarity 0.3150", "similarity 0.3050", False),
        ("similarity -0.3050", "similarity 0.3050", False),
        ("12 rows", "13 rows", False),
        ("a line\n  that is wrapped", "a line that\nis wrapped", True),
        ("wrote map.png", "wrote map.json", False),
        ("measured on a machine, 0.95 here", "measured ... 0.95 here", True),
        ("measured on a machine, 0.85 here", "measured ... 0.95 here", False),
        ("one\ntwo", "one", False),
    ],
)
def test_output_is_compared_by_words_and_three_digits(text: str, expected: str, same: bool) -> None:
    assert documents.prints(text, expected) is same


PHOTOGRAPH = r"photo\.jpg|other\.jpg|sample:(?!scene\b)"


@pytest.mark.parametrize("page", PAGES)
def test_scenes_explains_drawn_scenes_only(page: str) -> None:
    """The model has never seen a photograph."""
    for block in documents.blocks(page):
        model = ""  # of earlier lines
        for line in block.text.splitlines():
            if name := re.search(r'(?<=load_model\(")\w+', line):
                model = name[0]
            uses = re.search(r'-m scenes\b|\("scenes",', line) or (model == "scenes" and "model," in line)
            assert not (uses and re.search(PHOTOGRAPH, line)), f"{block}: {line}"


@pytest.mark.slow
def test_page_of_contrast_shows_why_a_caption_is_preferred(folder: Path) -> None:
    names: dict[str, Any] = {}
    block = next(block for block in documents.blocks("docs/guides/contrast.md") if block.language == "python")
    documents.run(block, folder, names)
    assert names["explanation"].target["value"] > 0, "the page says so"


def test_blocks_not_run_give_a_reason_and_use_existing_names() -> None:
    for block in documents.not_run():
        assert len(block.not_run.split()) > 2, f"{block}: say why it is not run"
        if block.language == "python":
            assert documents.called(block) <= {*nibt.__all__, "pair", "question"}, block


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_lines_of_a_first_page_are_wrapped(page: str) -> None:
    """Except for tables, links to images, code, and what is generated."""
    text = re.sub(r"<!-- zoo -->.*?<!-- /zoo -->|```.*?```", "", (documents.ROOT / page).read_text(), flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "!["))]
    assert max(map(len, lines)) <= 143


def test_goals_of_the_readme_are_those_of_the_start_page() -> None:
    readme, start = (documents.ROOT / page for page in ("README.md", "docs/index.md"))
    of_readme, of_start = (
        re.findall(r"^\| .* \|$", page.read_text(encoding="utf-8").partition("## What do you want to do?")[2], re.M)
        for page in (readme, start)
    )
    assert len(of_start) > 12
    assert of_readme[: len(of_start)] == [row.replace("](", "](docs/") for row in of_start]


def test_claims_of_the_readme_have_a_number_its_interval_and_a_link() -> None:
    text = (documents.ROOT / "README.md").read_text(encoding="utf-8").partition("| claim | measured |")[2]
    rows = re.findall(r"^\| (?!claim|---)(.+) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) > 3
    for claim, measured in rows:
        assert re.search(r"\d(?: %)? \[[\d.]+, [\d.]+\]", measured), claim
        assert re.search(r"\[[^\]]*\b\d[\d,]*\b[^\]]*\]\(|\bin \d+\b", measured), f"{claim}: of how many?"
        assert "](docs/" in measured, claim


@pytest.mark.parametrize("page", TEXTS)
def test_methods_in_the_text_of_a_page_take_their_options(page: str) -> None:
    """Such as `nib:paper steps=5`. The blocks of code run anyway."""
    text = re.sub(r"^```.*?^```", "", (documents.ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    names = "|".join(registry.available("methods"))
    for code in re.findall(rf"`((?:{names})(?::\w+)?(?: \w+=\S+)*)`", text):
        spec = registry.MethodSpec.of(code)
        options = {name: value for name, value in spec.options.items() if name != "along_path"}
        spec.method_class.check_options(spec.variant, options)


def test_choices_of_the_chart_are_methods_with_options() -> None:
    generate = documents.load_docs_module("generate")
    names = "|".join(registry.available("methods"))
    texts = [*generate.CHOICES.values(), generate.OTHERWISE]
    specs = [
        found for text in texts for found in re.findall(rf"\b(?:(?:{names})(?::\w+)?(?: \w+=\S+)*)(?![\w-])", text)
    ]
    assert len(specs) >= len(texts) - 1  # "nibt regions" names none
    for text in specs:
        spec = registry.MethodSpec.of(text)
        spec.method_class.check_options(spec.variant, dict(spec.options))


def test_gallery_has_a_small_picture_of_each_example() -> None:
    gallery = documents.load_docs_module("gallery")
    drawn = {path.stem: path.stat().st_size for path in gallery.FOLDER.iterdir()}
    assert set(drawn) == {one.name for one in gallery.every()}
    assert len(drawn) >= 40
    assert max(drawn.values()) <= gallery.LARGEST
    assert len({one.anchor for one in gallery.every()}) == len(drawn)


def test_page_cites_as_the_citation_file() -> None:
    cited = yaml.safe_load((documents.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = cited["references"]
    page = documents.ROOT / "docs" / "guides" / "report.md"
    entries = re.findall(r"^@\w+\{.*?^\}$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    program, method = (dict(re.findall(r"(\w+) += \{(.*)\}", entry)) for entry in entries)
    assert re.sub(r"[{}]", "", program["title"]) == cited["title"]
    assert program["note"] == f"Version {cited['version']}"
    assert program["year"] == cited["date-released"][:4]
    assert [f"{{{author['name']}}}" for author in cited["authors"]] == [program["author"]]
    assert (method["title"], method["year"]) == (paper["title"], str(paper["year"]))
    families = [author.partition(",")[0] for author in method["author"].split(" and ")]
    assert families == [author["family-names"] for author in paper["authors"]]
    assert paper["url"].endswith(method["note"].removeprefix("arXiv:"))
    assert "url" not in program or "OWNER" not in program["url"]


def test_few_blocks_are_not_run() -> None:
    """``python -m tests.documents`` lists them. Calls of other packages, which stand beside ours, do not count."""
    blocks = [block for block in documents.not_run() if not block.not_run.startswith("another package;")]
    reasons = [f"{block}: {block.not_run}" for block in blocks]
    assert len(reasons) <= 27, "\n".join(reasons)
