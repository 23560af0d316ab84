"""Tests of ``nibt.evaluation.citations``."""

import json
import re
from pathlib import Path

import pytest

import nibt
from nibt.cli import main
from nibt.errors import BadInput, BadOption
from nibt.evaluation.citations import Reference, cite, references, references_in, references_of
from nibt.io import one_line
from nibt.registry import available, documentation, find

WITHOUT = re.compile(r"A control: |nibt|the reviews of NIB's paper|a common measure|AdaIB \(ICLR 2026 submission\)")
"""Where methods and metrics come from that have no publication with an entry."""
PLUGINS = [(group, name) for group in ("methods", "metrics") for name in available(group)]
KEY = re.compile(r"^@\w+\{(\w+),", re.M)


@pytest.mark.parametrize(("group", "name"), PLUGINS)
def test_each_method_and_metric_has_an_entry_or_says_where_it_comes_from(group: str, name: str) -> None:
    found = references_of(group, name)
    text = documentation(group, name)
    source = text.partition("Source:\n")[2].strip() or text
    assert found or WITHOUT.match(one_line(source))
    if group == "methods":
        assert set(references_in(find(group, name).paper)) <= set(found)


@pytest.mark.parametrize("reference", references(), ids=lambda reference: reference.key)
def test_an_entry_agrees_with_what_names_it(reference: Reference) -> None:
    fields = dict(re.findall(r"^  (\w+) *= \{(.*)\},?$", reference.bibtex, re.M))
    assert {"title", "author", "year"} <= set(fields)
    assert reference.bibtex.count("{") == reference.bibtex.count("}")

    authors = fields["author"].split(" and ")
    surname = authors[0].partition(",")[0].replace(r"{\"o}", "oe")
    assert reference.key.startswith(surname.lower())
    assert fields["year"] in reference.key
    if reference.named != "scikit-learn":
        others = {1: "", 2: f" and {authors[-1].partition(',')[0]}"}.get(len(authors), " et al.")
        assert reference.named.startswith(f"{surname}{others}, ")
    if numbers := re.findall(r"arXiv (\d+\.\d+)", reference.named):
        assert f"arXiv:{numbers[0]}" in fields["note"]


def test_keys_and_names_are_unique() -> None:
    for values in ([reference.key for reference in references()], [reference.named for reference in references()]):
        assert len(set(values)) == len(values)


def test_a_result_its_file_and_its_names_have_the_same_entries(tmp_path: Path) -> None:
    explanation = nibt.explain("scenes", "sample:scene", "a cat", "occlusion")
    explanation.save(tmp_path / "map.json")
    nibt.save([explanation, nibt.explain("scenes", "sample:scene", "a cat", "legrad")], tmp_path / "two.json")
    assert KEY.findall(cite(explanation)) == ["nibt", "zeiler2014visualizing"]
    assert cite(explanation) == cite("occlusion") == cite(tmp_path / "map.json") == cite(str(tmp_path / "map.json"))
    assert cite(tmp_path / "two.json") == cite("occlusion", "legrad")


def test_variants_and_options_have_the_entries_of_their_method() -> None:
    assert cite("nib:paper steps=3") == cite("nib") == cite()
    assert f"note   = {{Version {nibt.__version__}}}" in cite()


def test_what_several_use_has_one_entry() -> None:
    text = cite("rise", "deletion", "insertion")
    assert KEY.findall(text) == ["nibt", "petsiuk2018rise"]
    assert "% the method rise, the metric deletion, the metric insertion\n" in text


def test_data_sets_with_an_entry_can_be_cited() -> None:
    assert KEY.findall(cite("pope", "repope", "waterbirds")) == [
        "nibt",
        "li2023evaluating",
        "neuhaus2025repope",
        "sagawa2020distributionally",
    ]
    assert KEY.findall(cite("mmvp", "mmvp_vlm", "counter_animal")) == ["nibt", "tong2024eyes", "wang2024sober"]
    with pytest.raises(BadOption, match="there is no method"):
        cite("folder")


def test_the_metrics_and_checks_of_an_audit_have_entries(tmp_path: Path) -> None:
    checked = nibt.check("scenes", "sample:scene", "a cat")
    checked.save(tmp_path / "checked.json")
    assert KEY.findall(cite(tmp_path / "checked.json")) == ["nibt", "zhu2025narrowing", "adebayo2018sanity"]


def test_a_run_has_the_entries_of_its_plan(tmp_path: Path) -> None:
    plan = {
        "models": ["scenes"],
        "methods": ["occlusion", {"name": "gae", "options": {"views": 2}}],
        "data": [{"name": "scenes", "options": {"count": 2}}],
        "metrics": ["sparseness", "own_object"],
        "sides": ["image"],
    }
    run = nibt.benchmark(plan, tmp_path / "RUN")
    keys = ["nibt", "zeiler2014visualizing", "chefer2021generic", "chalasani2020concise"]
    assert KEY.findall(cite(run)) == keys
    assert cite(run) == cite(tmp_path / "RUN")
    assert "%   the metric own_object: nibt\n" in cite(run)

    (tmp_path / "pairs.csv").write_text("image,caption\nsample:scene,a cat\n")
    job = nibt.batch("scenes", tmp_path / "pairs.csv", tmp_path / "JOB", method="occlusion")
    assert cite(job) == cite(tmp_path / "JOB") == cite("occlusion")


def test_a_method_of_the_user_is_listed_without_an_entry(tmp_path: Path) -> None:
    explanation = nibt.explain("scenes", "sample:scene", "a cat", "occlusion")
    data = explanation.to_json()
    data["method"]["name"] = "mine\nline"
    (tmp_path / "mine.json").write_text(json.dumps(data))
    text = cite(tmp_path / "mine.json")
    assert KEY.findall(text) == ["nibt"]
    assert "%   the method mine line: not known to nibt" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "cannot be read as JSON"),
        ("{}", "has no result of nibt"),
        ("[]", "has no result of nibt"),
        ('[{"kind": 3}]', "has no result of nibt"),
        ("3", "has no result of nibt"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        cite(tmp_path / "other.json")


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_cited_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither a run nor a job"):
        cite(tmp_path)
    with pytest.raises(BadOption, match="there is no method, metric, file or folder 'gea'"):
        cite("gea")
    with pytest.raises(BadInput, match=r"cite takes names .* \(got int\)"):
        cite(3)  # pyright: ignore[reportArgumentType]


def test_the_command_prints_what_the_function_returns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["cite", "gae", "deletion"])
    assert not exit.value.code
    assert capsys.readouterr().out == cite("gae", "deletion")
