"""Tests of ``nibt.datasets.lmms_eval`` with a log that lmms-eval wrote."""

import base64
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.datasets._opening import open_rows
from nibt.datasets.lmms_eval import LmmsEval
from nibt.errors import BadInput, BadOption, NibtError, OtherRequest, UnknownName
from nibt.generators.answers import Generator
from tests import tiny
from tests.datasets.lmms_eval_task import COLORS, LOG, WRONG, rows, table, write_log
from tests.generators.test_answers import generator
from tests.helpers import Run

OPTIONS: dict[str, Any] = {"steps": 1, "views": 1}


def samples() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def changed(**values: Any) -> dict[str, Any]:
    """Return the sample of a wrong answer with other values."""
    return {**samples()[1], **values}


def saved(tmp_path: Path) -> Path:
    table().save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def on_hub(tmp_path: Path) -> Path:
    (tmp_path / "hub" / "data").mkdir(parents=True)
    halves = table().select(range(2)), table().select(range(2, 4))
    for number, half in enumerate(halves):
        half.to_parquet(tmp_path / "hub" / "data" / f"test-0000{number}-of-00002.parquet")
    return tmp_path / "hub"


def one_file(tmp_path: Path) -> Path:
    table().to_parquet(tmp_path / "test.parquet")
    return tmp_path / "test.parquet"


def by_doc_id(tmp_path: Path) -> Path:
    for number, row in enumerate(rows()):
        row["image"].save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.slow
def test_the_log_is_what_lmms_eval_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_log(tmp_path, monkeypatch).read_bytes() == LOG.read_bytes()


@pytest.mark.parametrize("form", [saved, on_hub, one_file, by_doc_id])
def test_wrong_answers_have_their_images(form: Any, tmp_path: Path) -> None:
    data = open_rows(LOG, options={"data": form(tmp_path)})
    assert isinstance(data, LmmsEval)
    assert data.has_prompts
    records = [record for record in data.records() if record is not None]
    assert [record.error for record in records] == ["", ""]
    assert [record.key for record in records] == ["1", "2"]
    assert [record.answer for record in records] == ["Yes", "Yes"]
    assert [record.reference for record in records] == ["no", "no"]
    assert [record.log_score for record in records] == [0.0, 0.0]
    for record, color in zip(records, WRONG, strict=True):
        assert f"something {color} here?" in (record.caption or "")
        pixels = data.load_image(record).pil_image
        assert pixels.tobytes() == next(row for row in rows() if color in row["question"])["image"].tobytes()


def test_a_job_keeps_what_the_log_has(tmp_path: Path) -> None:
    model: Generator = generator("qwen2_vl")
    data = by_doc_id(tmp_path)
    job = nibt.batch(model, LOG, tmp_path / "job", data_options={"data": data}, **OPTIONS)
    assert (job.manifest.rows, job.manifest.errors, job.check()) == (2, 0, [])
    columns = ["key", "prompt", "forced_answer", "reference", "log_score"]
    assert list(job.rows(columns)) == [
        {
            "key": str(sample["doc_id"]),
            "prompt": sample["input"],
            "forced_answer": "Yes",
            "reference": "no",
            "log_score": 0.0,
        }
        for sample in samples()[1:3]
    ]
    expected = nibt.explain_answer(model, data / "1.png", samples()[1]["input"], "Yes", **OPTIONS)
    actual = job.explanation(0)
    assert actual.to_json()["words"] == expected.to_json()["words"]
    assert [row.explanation.to_json() for row in job.explained_rows() if row.explanation is not None] == [
        job.explanation(row).to_json() for row in range(2)
    ]
    again = nibt.batch(model, LOG, tmp_path / "job", data_options={"data": data}, **OPTIONS)
    assert again.chunks() == job.chunks()

    options = {"data": data, "metric": "pope_precision"}
    with pytest.raises(OtherRequest, match="has the results of another request"):
        nibt.batch(model, LOG, tmp_path / "job", data_options=options, **OPTIONS)
    assert again.chunks() == job.chunks()


def test_a_job_of_a_table_has_no_log(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,caption\nsample:scene,a cat\n")
    job = nibt.batch(tiny.model("clip"), tmp_path / "pairs.csv", tmp_path / "job", **OPTIONS)
    assert list(job.rows(["reference", "log_score"])) == [{"reference": None, "log_score": None}]


@pytest.mark.slow
def test_the_command_explains_a_log(run: Run, tmp_path: Path) -> None:
    shutil.copy(LOG, tmp_path / "log.jsonl")
    by_doc_id(tmp_path)
    options = ["-m", "scenes_generator", "--method", "nib steps=1 views=1"]
    log = str(tmp_path / "log.jsonl")
    code, out, error = run("batch", log, "-D", f"data={tmp_path}", *options, "-o", str(tmp_path / "job"))
    assert code == 0, error
    assert "2 rows written, 0 failed" in out
    assert nibt.Job.open(tmp_path / "job").explanation(1).input is not None


# The choice of what is wrong


def test_one_of_several_metrics_is_named(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", changed(f1=0.9), {**samples()[0], "f1": 0.1})
    data = by_doc_id(tmp_path)
    with pytest.raises(BadOption, match=r"has scores of several metrics \(f1, pope_accuracy, pope_precision\): choose"):
        list(LmmsEval(log, data=data).records())
    assert [record.key for record in LmmsEval(log, data=data, metric="f1").entries] == ["0"]
    assert [record.key for record in LmmsEval(log, data=data, metric="pope_accuracy").entries] == ["1"]


def test_a_metric_of_some_samples_is_no_default(tmp_path: Path) -> None:
    """As of ChartQA, which has a metric of all questions and one of each half."""
    base = {"doc_id": 0, "target": "1", "filtered_resps": "2", "input": "How many?"}
    log = write(tmp_path / "log.jsonl", {**base, "all": 0.0, "human": 0.0}, {**base, "doc_id": 1, "all": False})
    assert [record.key for record in LmmsEval(log, data=by_doc_id(tmp_path)).entries] == ["0", "1"]


@pytest.mark.parametrize(
    ("values", "options", "kind", "message"),
    [
        ({"submission": {"answer": "x"}, "pope_accuracy": {}, "pope_precision": "no"}, {}, BadInput, "no score per"),
        ({}, {"metric": "acc"}, BadOption, "has no scores of acc: it has pope_accuracy, pope_precision"),
        ({"gpt": 7}, {"metric": "gpt"}, BadOption, r"line 1: scores of gpt must be between 0 and 1 .*\(got 7\)"),
        ({"gpt": float("nan")}, {"metric": "gpt"}, BadOption, "has no scores of gpt"),
        (
            {"pope_accuracy": 1, "pope_precision": 1},
            {},
            BadInput,
            "has no wrong answer: .* in all samples that have one .1 of 1.",
        ),
    ],
)
def test_a_log_that_does_not_say_what_is_wrong(
    values: dict[str, Any], options: dict[str, Any], kind: type[NibtError], message: str, tmp_path: Path
) -> None:
    log = write(tmp_path / "log.jsonl", changed(**values))
    with pytest.raises(kind, match=message):
        list(LmmsEval(log, data=by_doc_id(tmp_path), **options).records())


# Images


def test_images_in_the_log_need_no_data(tmp_path: Path) -> None:
    buffer = BytesIO()
    rows()[1]["image"].save(buffer, "PNG")
    text = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    (tmp_path / "blue.png").write_bytes(buffer.getvalue())
    log = write(tmp_path / "log.jsonl", changed(input_media=["a.png", text]), changed(input_media=["blue.png"]))
    data = LmmsEval(log)
    assert [pair.image.pil_image.getpixel((0, 0)) for pair in data] == [(0, 0, 255)] * 2


def test_images_are_found_by_the_names_of_the_log(tmp_path: Path) -> None:
    """New logs have the paths of images as ``input_media``, older ones in the ``doc``."""
    rows()[1]["image"].save(tmp_path / "blue.png")
    log = write(
        tmp_path / "log.jsonl",
        changed(input_media=["train2014/blue.png"]),
        changed(input_media=["https://example.org/blue.png?x=1"]),
        changed(doc={"file": "blue.png", "n": 3}),
        changed(input_media=["../../blue.png"]),
    )
    data = LmmsEval(log, data=tmp_path)
    assert [data[row].image.source for row in range(4)] == ["blue.png"] * 4

    rows()[0]["image"].save(tmp_path / "other.png")
    several = write(tmp_path / "several.jsonl", changed(input_media=["blue.png", "other.png"]))
    with pytest.raises(BadInput, match="the question has 2 images in the log"):
        LmmsEval(several, data=tmp_path)[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input_media": ["gone.png"]}, "the image 'gone.png' of the log is no file here: give the data set"),
        ({"input_media": ["https://example.org/a.png"]}, "is no file here"),
        ({"input_media": ["a.png", "b.png"]}, "has 2 images in the log"),
        ({"input_media": ["data:image/png;base64,@@@"]}, "is not Base64"),
        ({"input_media": ["x.png"], "input": None}, r"no text of the question as input \(got None\)"),
        ({"input_media": ["x.png"], "input": "  "}, "no text of the question"),
        ({"input_media": ["x.png"], "filtered_resps": [["-1", "True"], ["-2", "False"]]}, "has 2 responses"),
        ({"input_media": ["x.png"], "filtered_resps": ""}, r"the model wrote no answer \(got ''\)"),
        ({"input_media": ["x.png"], "filtered_resps": []}, "has 0 responses"),
    ],
)
def test_a_row_that_cannot_be_read_has_its_error(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", changed(**values))
    (record,) = LmmsEval(log).entries
    assert record.key == "1"
    with pytest.raises(BadInput, match=rf"log\.jsonl, line 1: .*{message}"):
        LmmsEval(log)[0]


@pytest.mark.parametrize(
    ("doc_id", "message"),
    [(9, "doc_id must be a row of .*, from 0 to 3"), (-1, "from 0 to 3"), ("1", "from 0 to 3"), (2, "another quest")],
)
def test_a_row_of_another_question_is_refused(doc_id: Any, message: str, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", changed(doc_id=doc_id))
    with pytest.raises(BadInput, match=message):
        LmmsEval(log, data=one_file(tmp_path))[0]


def test_what_is_missing_is_one_error_before_any_row(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no images, as most logs of lmms-eval: give .* -D data=FOLDER"):
        list(LmmsEval(LOG).records())
    with pytest.raises(BadInput, match="there is no data set 'nowhere'"):
        list(LmmsEval(LOG, data="nowhere").records())
    with pytest.raises(BadOption, match="has no column photo: it has image, question, answer, question_id; choose"):
        list(LmmsEval(LOG, data=one_file(tmp_path), image="photo").records())
    hub = on_hub(tmp_path)
    with pytest.raises(BadOption, match=r"split must be one of test for .*\(got 'val'\)"):
        list(LmmsEval(LOG, data=hub, split="val").records())
    shutil.copy(hub / "data" / "test-00000-of-00002.parquet", hub / "data" / "val-00000-of-00001.parquet")
    with pytest.raises(BadOption, match=r"split must be one of test, val for .*\(got None\)"):
        list(LmmsEval(LOG, data=hub).records())
    assert len(LmmsEval(LOG, data=hub, split="test").entries) == 2
    with pytest.raises(UnknownName, match=r"unknown option 'daat'\. Did you mean 'data'"):
        open_rows(LOG, options={"daat": "x"})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1: this is not JSON"),
        (["[]"], "line 1: a sample of lmms-eval must be an object"),
        ([{"doc_id": 1}], "line 1: a sample of lmms-eval must be an object with doc_id, target, filtered_resps"),
        ([], "has no samples"),
        ([samples()[1], '{"doc_id": 1, "tar'], "line 2: this is not JSON"),
    ],
)
def test_a_broken_log_is_refused(lines: list[Any], message: str, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", *lines)
    with pytest.raises(BadInput, match=message):
        list(LmmsEval(log, data=tmp_path).records())


def test_options_are_for_data_with_options(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,caption\nsample:scene,a cat\n")
    with pytest.raises(UnknownName, match="unknown -D option 'data'"):
        open_rows(tmp_path / "pairs.csv", options={"data": "x"})
    with pytest.raises(BadOption, match=r"options of a data set in memory are its own \(got metric\)"):
        open_rows(LmmsEval(LOG), options={"metric": "x"})
    assert len(COLORS) == len(samples())
