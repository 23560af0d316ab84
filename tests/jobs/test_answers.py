"""Tests of ``nibt.jobs.worker``: jobs of prompts of a generator."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.data import parquet
from nibt.datasets.shards import Parquet
from nibt.errors import BadInput, BadOption, CannotLoad, OtherRequest
from nibt.generators.answers import Generator
from nibt.generators.results.answer import AnswerExplanation
from nibt.jobs import answers as work
from nibt.jobs.answers import answer_schema
from tests import tiny
from tests.generators.test_answers import generator
from tests.helpers import ROOT, Run
from tests.processes import parts

OPTIONS: dict[str, Any] = {"chunk_size": 2, "steps": 1, "views": 1}
TABLE = """image,prompt,answer
0.png,the red cat,a small cat
1.png,the red cat,
gone.png,the red cat,a dog
0.png,,a dog
sample:scene,a mat,the  cat
"""


@pytest.fixture(scope="module")
def model() -> Generator:
    return generator("qwen2_vl")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of five prompts: an image is missing, a prompt is empty, and the model writes an answer."""
    folder = tmp_path_factory.mktemp("prompts")
    for item in range(2):
        tiny.image(48, 48, seed=item).pil_image.save(folder / f"{item}.png")
    (folder / "rows.csv").write_text(TABLE)
    return folder / "rows.csv"


@pytest.fixture(scope="module")
def whole(model: Generator, table: Path, tmp_path_factory: pytest.TempPathFactory) -> nibt.Job:
    return nibt.batch(model, table, tmp_path_factory.mktemp("jobs") / "whole", **OPTIONS)


def test_rows_equal_explain_answer(model: Generator, table: Path, whole: nibt.Job) -> None:
    cases = (
        (0, str(table.parent / "0.png"), "the red cat", "a small cat"),
        (1, str(table.parent / "1.png"), "the red cat", None),
    )
    for row, image, prompt, answer in cases:
        expected = nibt.explain_answer(model, image, prompt, answer, steps=1, views=1)
        actual = whole.explanation(row)
        assert isinstance(actual, AnswerExplanation)
        assert actual.to_json() == expected.to_json()
        assert actual.input is not None
    assert whole.check() == []
    assert "log_probability" in repr(whole)


def test_failed_rows_have_their_errors(whole: nibt.Job) -> None:
    errors = [row["error"] for row in whole.rows(["error"])]
    assert [error is None for error in errors] == [True, True, False, False, True]
    assert "gone.png" in errors[2]
    assert "the prompt must not be empty" in errors[3]
    assert whole.manifest.errors == 2
    failed = [row for row in whole.rows() if row["error"]]
    assert [(row["prompt"], row["forced_answer"], row["words"]) for row in failed] == [
        ("the red cat", "a dog", None),
        ("", "a dog", None),
    ]
    with pytest.raises(BadInput, match="row 2 failed"):
        whole.explanation(2)


def test_rows_have_the_documented_columns(whole: nibt.Job) -> None:
    text = (ROOT / "docs" / "guides" / "jobs.md").read_text()
    first = next(whole.rows())
    assert [*first] == answer_schema(parquet.pyarrow()[0]).names
    for name in first:
        assert f"`{name}`" in text, name
    shares = whole.explanation(0).words[0].shares  # pyright: ignore
    assert first["words"][0]["shares"] == shares


def test_frame_of_a_job_has_a_row_per_word(whole: nibt.Job) -> None:
    frame = nibt.to_frame([whole.explanation(0), whole.explanation(4)])
    assert frame["word"].tolist() == ["a", "small", "cat", "the", "cat"]
    assert frame["pair"].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.slow
def test_job_resumes_with_the_same_bytes(
    model: Generator, table: Path, whole: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.folder, tmp_path / "out")
    (tmp_path / "out" / "parts" / parts(whole.folder)[0]).unlink()
    explained, own = [], work.explain_answer

    def counted(*arguments: Any, **options: Any) -> AnswerExplanation:
        explained.append(arguments[2])
        return own(*arguments, **options)

    monkeypatch.setattr(work, "explain_answer", counted)
    nibt.batch(model, table, tmp_path / "out", **OPTIONS)
    assert explained == ["the red cat", "the red cat"]
    assert parts(tmp_path / "out") == parts(whole.folder)
    nibt.batch(model, table, tmp_path / "out", **OPTIONS)
    assert len(explained) == 2, "a finished job is not repeated"
    for change, message in (({"steps": 2}, r"steps: 1 \(now 2\)"), ({"answer": "prompt"}, "pairs.answer")):
        with pytest.raises(OtherRequest, match=message):
            nibt.batch(model, table, tmp_path / "out", **{**OPTIONS, **change})


def test_job_refuses_other_answers(model: Generator, table: Path, tmp_path: Path) -> None:
    """The hash of a large Parquet file is that of its end; the texts of the rows are compared, too."""
    arrow, files = parquet.pyarrow()
    rows = [
        {"image": str(table.parent / "0.png"), "prompt": "the cat", "answer": answer} for answer in ("a mat", "a dog")
    ]
    files.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    job = nibt.batch(model, tmp_path / "rows.parquet", tmp_path / "out", **OPTIONS)
    assert [row["answer"] for row in job.rows()] == ["a mat", "a dog"]
    rows[0]["answer"] = "a cat"
    files.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    manifest = job.folder / "manifest.json"
    data = json.loads(manifest.read_text())
    data["request"]["pairs"]["fingerprint"] = Parquet(tmp_path / "rows.parquet").identity()["fingerprint"]
    manifest.write_text(json.dumps(data))
    with pytest.raises(OtherRequest, match=r"row 0: forced_answer 'a mat' \(now 'a cat'\)"):
        nibt.batch(model, tmp_path / "rows.parquet", tmp_path / "out", **OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("column", ["prompt", "answer"])
def test_job_refuses_another_column(model: Generator, table: Path, tmp_path: Path, column: str) -> None:
    rows = [dict(zip(("image", "prompt", "answer"), line.split(","), strict=True)) for line in TABLE.splitlines()[1:3]]
    lines = [json.dumps({**row, "other": row["prompt"], "image": str(table.parent / row["image"])}) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    nibt.batch(model, tmp_path / "rows.jsonl", tmp_path / "JOB", **OPTIONS)
    with pytest.raises(OtherRequest, match=column):
        nibt.batch(model, tmp_path / "rows.jsonl", tmp_path / "JOB", **OPTIONS, **{column: "other"})


@pytest.mark.slow
def test_job_explains_why_a_word_and_not_another(model: Generator, table: Path, tmp_path: Path) -> None:
    job = nibt.batch(model, table, tmp_path, against="runner-up", **OPTIONS)
    expected = nibt.explain_answer(
        model, str(table.parent / "0.png"), "the red cat", "a small cat", against="runner-up", steps=1, views=1
    )
    assert job.explanation(0).to_json() == expected.to_json()


@pytest.mark.slow
def test_columns_of_json_lines_may_have_other_names(model: Generator, table: Path, tmp_path: Path) -> None:
    image = str(table.parent / "0.png")
    rows = [{"image": image, "question": "the cat", "reply": "a mat"}, {"image": image, "question": "the cat"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = nibt.batch(model, tmp_path / "rows.jsonl", tmp_path / "out", prompt="question", answer="reply", **OPTIONS)
    assert [row["forced_answer"] for row in job.rows()] == ["a mat", None]
    assert nibt.Job.open(tmp_path / "out").explanation(1).written  # pyright: ignore


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_conversations_are_not_read_as_texts(model: Generator, table: Path, tmp_path: Path, ending: str) -> None:
    messages = [{"role": "user", "content": "the cat"}]
    image = str(table.parent / "0.png")
    rows = {
        "csv": 'image,prompt\n{},"{}"\n'.format(image, json.dumps(messages).replace('"', '""')),
        "jsonl": json.dumps({"image": image, "prompt": messages}),
    }
    (tmp_path / f"rows.{ending}").write_text(rows[ending])
    (row,) = nibt.batch(model, tmp_path / f"rows.{ending}", tmp_path / "out", **OPTIONS).rows()
    assert "the prompt must be a text (got the messages of a conversation)" in row["error"]


@pytest.mark.parametrize(
    ("heading", "options", "error", "message"),
    [
        ("image,prompt", {"target": "softmax"}, BadOption, "explain log-probabilities"),
        ("image,prompt", {"against": ["a", "b"]}, BadOption, "against must be one word"),
        ("image,prompt", {"loading": {"resize": "whole"}}, BadOption, "resize cannot be set for a loaded model"),
        ("image,prompt", {"answer": "reply"}, BadOption, "has no column reply: it has image, prompt"),
        ("image,question", {}, BadOption, "has no column caption: it has image, question; .* for a generator prompt="),
        ("image,question", {"answer": "question"}, BadOption, "answers needs one of prompts"),
        ("image,question", {"prompt": "question", "caption": "image"}, BadOption, "captions or of prompts, not both"),
    ],
)
def test_job_rejects_what_is_not_for_prompts(
    heading: str, options: dict[str, Any], error: type[Exception], message: str, model: Generator, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(
        f"{heading}\n{','.join(['sample:scene', 'a cat', 'a mat'][: heading.count(',') + 1])}\n"
    )
    with pytest.raises(error, match=message):
        nibt.batch(model, tmp_path / "rows.csv", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("heading", ["image,caption", "image,caption,prompt"])
def test_job_of_captions_rejects_a_generator(heading: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"{heading}\n{','.join(['sample:scene'] * (heading.count(',') + 1))}\n")
    with pytest.raises(CannotLoad, match=r"writes text about images, .*nibt batch with a column of prompts"):
        nibt.batch("scenes_generator", tmp_path / "rows.csv", tmp_path / "out")


def test_job_of_prompts_rejects_other_models_and_data(table: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotLoad, match="rows with a column of prompts need a generator: 'scenes' writes no text"):
        nibt.batch("scenes", table, tmp_path / "out")
    with pytest.raises(BadOption, match=r"prompts are read from tables, .* \(got 'question' for the data set scenes\)"):
        nibt.batch("scenes_generator", "scenes", tmp_path / "out", prompt="question")


@pytest.mark.slow
def test_command_explains_and_draws_rows(run: Run) -> None:
    Path("rows.csv").write_text("image,prompt,answer\nsample:scene,describe the picture,a house\n")
    options = ("-m", "scenes_generator", "-o", "JOB", "--method", "nib steps=1 views=1")
    code, out, err = run("batch", "rows.csv", *options)
    assert (code, "1 rows written, 0 failed" in out) == (0, True), err
    code, out, err = run("show", "JOB", 0)
    assert (code, "describe the picture" in out) == (0, True), err
    assert 'class="nibt-answer"' in Path("0-describe-the-picture.html").read_text()
    assert [word.text for word in AnswerExplanation.load("0-describe-the-picture.json").words] == ["a", "house"]
    assert run("show", "JOB", 0, "-o", "x.png")[0] == 0
    assert run("show", "JOB", 0, "-o", "x.tif")[0] == 2
