"""Tests of ``nibt.datasets.mteb`` with predictions that MTEB wrote."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import nibt
from nibt.datasets.mteb import MTEB
from nibt.errors import BadInput, BadOption, NibtError
from tests import tiny
from tests.datasets.mteb_task import WRONG, write_data, write_predictions

pytestmark = pytest.mark.filterwarnings("ignore")  # those of MTEB
OPTIONS: dict[str, Any] = {"steps": 1, "views": 1}
SCORES = {
    query: {f"i-{color}": float(color == first) for color in ("red", "blue", "green", "black")}
    for query, first in (("t-red", "red"), ("t-blue", "green"), ("t-green", "red"), ("t-black", "black"))
}
"""The scores of the documents of each query, as MTEB writes them."""


def write(folder: Path, data: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Colors_predictions.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return folder / "Colors_predictions.json"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_data(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize("category", ["t2i", "i2t"])
def test_wrong_first_results_of_mteb_are_explained(
    category: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "colors"
    write_data(data, category)
    predictions = write_predictions(data, tmp_path / "predictions", monkeypatch, category)
    job = nibt.batch(
        tiny.model("clip"), f"mteb:{predictions}", tmp_path / "job", data_options={"data": data}, **OPTIONS
    )
    query, document = "ti" if category == "t2i" else "it"
    rows = list(job.rows(["key", "source", "caption", "reference", "log_score", "error"]))
    assert [row["key"] for row in rows] == [f"{query}-{asked}" for asked in WRONG]
    for row, (asked, first) in zip(rows, WRONG.items(), strict=True):
        assert row["source"] == (f"{document}-{first}" if category == "t2i" else f"{query}-{asked}")
        assert row["caption"] == f"a {asked if category == 't2i' else first} square"
        assert row["reference"] == (f"i-{asked}" if category == "t2i" else f"a {asked} square")
        assert row["log_score"] == pytest.approx(1.24)
        assert row["error"] is None
    assert job.check() == []
    assert job.explanation(0).image.input is not None


def test_scores_are_read_from_all_layouts(data: Path, tmp_path: Path) -> None:
    """The layout of MTEB 2, with the model, subsets and splits; that of MTEB 1, with the scores alone; the folder."""
    first = write(tmp_path / "one", {"mteb_model_meta": {"model_name": "m"}, "default": {"test": SCORES}})
    second = write(tmp_path / "two", SCORES)
    for place in (first, second, first.parent):
        records = MTEB(place, data=data).entries
        assert [(record.key, record.name, record.caption) for record in records] == [
            ("t-blue", "i-green", "a blue square"),
            ("t-green", "i-red", "a green square"),
        ]
        assert [record.log_score for record in records] == [1.0, 1.0]


def test_the_first_of_equal_scores_is_the_first_of_the_file(data: Path, tmp_path: Path) -> None:
    scores = {"t-red": {"i-blue": 0.5, "i-red": 0.5}, "t-blue": {"i-blue": 0.5, "i-red": 0.5}}
    assert [record.key for record in MTEB(write(tmp_path, scores), data=data).entries] == ["t-red"]


def test_a_result_is_compared_with_the_relevant_one(data: Path, tmp_path: Path) -> None:
    job = nibt.batch(
        tiny.model("clip"),
        f"mteb:{write(tmp_path, SCORES)}",
        tmp_path / "job",
        data_options={"data": data, "compare": True},
        **OPTIONS,
    )
    assert [row["against"] for row in job.rows(["against"])] == ["i-blue", "i-green"]
    explanation = job.explanation(0)
    assert explanation.target["name"] == "difference"
    pairs = MTEB(tmp_path / "Colors_predictions.json", data=data, compare=True)
    relevant = pairs.entries[0].against
    assert relevant is not None
    image = pairs.load_image(relevant).pil_image
    expected = nibt.explain(
        tiny.model("clip"), pairs[0].image, "a blue square", against_images=image, target="difference", **OPTIONS
    )
    torch.testing.assert_close(explanation.grid, expected.grid)


def test_subsets_and_splits_are_chosen(data: Path, tmp_path: Path) -> None:
    for name in ("corpus", "query", "qrels"):
        shutil.copytree(data / name, data / f"de-{name}")
    scores = {"mteb_model_meta": {}, "default": {"test": SCORES}, "de": {"test": SCORES, "val": SCORES}}
    path = write(tmp_path / "p", scores)
    with pytest.raises(BadOption, match=r"subset must be one of default, de \(got None\): set it with -D subset=NAME"):
        len(MTEB(path, data=data))
    with pytest.raises(BadOption, match=r"split must be one of test, val \(got None\)"):
        len(MTEB(path, data=data, subset="de"))
    assert len(MTEB(path, data=data, subset="default")) == 2
    assert len(MTEB(path, data=data, subset="de", split="test")) == 2
    shutil.rmtree(data / "de-query")
    with pytest.raises(BadInput, match="has no folder de-query or de-queries"):
        len(MTEB(path, data=data, subset="de", split="test"))


@pytest.mark.parametrize("has_splits", [False, True])
def test_tables_of_save_to_disk_are_read(has_splits: bool, data: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("datasets")
    for name in ("corpus", "query", "qrels"):
        table = package.Dataset.from_parquet(str(next((data / name).glob("*.parquet"))), cache_dir=str(tmp_path / "c"))
        saved = package.DatasetDict({"test": table}) if has_splits else table
        saved.save_to_disk(tmp_path / "saved" / name)
    pairs = MTEB(write(tmp_path, SCORES), data=tmp_path / "saved")
    assert [pair.caption for pair in pairs] == ["a blue square", "a green square"]
    assert [pair.image.pil_image.getpixel((0, 0)) for pair in pairs] == [(0, 128, 0), (255, 0, 0)]


def without(folder: str) -> Any:
    return lambda data: shutil.rmtree(data / folder)


@pytest.mark.parametrize(
    ("scores", "damage", "options", "kind", "message"),
    [
        ("{", None, {}, BadInput, "this is not JSON"),
        ("[]", None, {}, BadInput, "has no predictions of a retrieval task"),
        ({"mteb_model_meta": {}}, None, {}, BadInput, "has no predictions of a retrieval task"),
        ({"default": {"test": [1, 2]}}, None, {}, BadInput, "has no predictions of a retrieval task"),
        ({"default": {"test": {"t-red": {"i-red": "x"}}}}, None, {}, BadInput, "no predictions of a retrieval"),
        (
            {"default": {"test": {"t-red": {"i-red": float("nan")}}}},
            None,
            {},
            BadInput,
            "no predictions of a retrieval",
        ),
        (SCORES, None, {"data": None}, BadInput, "predictions of MTEB have ids only: give with -D data=FOLDER"),
        (SCORES, None, {"data": "nowhere"}, BadInput, "'nowhere' has no folder qrels or default or data"),
        (SCORES, without("qrels"), {}, BadInput, "has no folder qrels or default or data: it must be a copy"),
        ({"t-x": {"i-red": 1.0}}, None, {}, BadInput, "none of the 1 queries of .* has results and relevant documents"),
        ({"t-red": {"i-red": 1.0}}, None, {}, BadInput, "no wrong first result: all 1 are relevant"),
        ({"default": {"test": SCORES}}, None, {"split": "dev"}, BadOption, r"split must be one of test \(got 'dev'\)"),
    ],
)
def test_bad_predictions_are_refused(
    scores: object,
    damage: Any,
    options: dict[str, Any],
    kind: type[NibtError],
    message: str,
    data: Path,
    tmp_path: Path,
) -> None:
    if damage is not None:
        damage(data)
    with pytest.raises(kind, match=message):
        len(MTEB(write(tmp_path, scores), **{"data": data, **options}))


def test_a_document_that_is_not_there_is_the_error_of_its_row(data: Path, tmp_path: Path) -> None:
    records = MTEB(write(tmp_path, {"t-red": {"i-gone": 1.0}, "t-blue": {"i-red": 1.0}}), data=data).entries
    assert "query t-red: the document 'i-gone' is not in" in records[0].error
    assert not records[1].error


def test_a_task_of_texts_has_no_images(data: Path, tmp_path: Path) -> None:
    shutil.rmtree(data / "corpus")
    shutil.copytree(data / "query", data / "corpus")
    scores = {"t-red": {"t-blue": 1.0}}
    package = pytest.importorskip("datasets")
    judged = [{"query-id": "t-red", "corpus-id": "t-red", "score": 1}]
    package.Dataset.from_list(judged).to_parquet(data / "qrels" / "test-00000-of-00001.parquet")
    (record,) = MTEB(write(tmp_path, scores), data=data).entries
    assert "must be an image and a text (got text and text)" in record.error


def test_a_folder_has_one_file_of_predictions(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"must have one file \*_predictions\.json \(got none\)"):
        len(MTEB(tmp_path, data=data))
