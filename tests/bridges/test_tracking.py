"""Tests of ``nibt.bridges.tracking`` with the real trackers and their local stores, read back by their own clients."""

import json
import struct
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.bridges.tracking import log
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.results.word_parts import WordParts
from tests import tiny
from tests.datasets.lmms_eval_task import LOG, rows
from tests.helpers import noise_pairs

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the trackers themselves


@pytest.fixture(scope="module")
def explanation() -> nibt.Explanation:
    return nibt.explain(tiny.model("clip"), tiny.image(64, 48), tiny.CAPTIONS[0], "nib steps=2 views=1")


@pytest.fixture(scope="module")
def parts() -> WordParts:
    return nibt.word_parts(tiny.model("clip"), noise_pairs(8), "gae", count=2)


# MLflow


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    module = pytest.importorskip("mlflow")
    module.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    module.create_experiment("test", artifact_location=(tmp_path / "artifacts").as_uri())
    module.set_experiment("test")
    yield module
    module.end_run()
    module.set_tracking_uri(None)


@pytest.mark.slow
def test_mlflow_has_numbers_tables_and_files(
    mlflow: Any, explanation: nibt.Explanation, parts: WordParts, tmp_path: Path
) -> None:
    with mlflow.start_run() as run:
        log(explanation, name="val/cat", step=3)
        log(explanation, name="val/cat", step=4)
        log(parts, mlflow)

    client = mlflow.MlflowClient()
    history = client.get_metric_history(run.info.run_id, "val/cat/similarity")
    assert [(point.step, point.value) for point in history] == [
        (3, pytest.approx(float(explanation.similarity))),
        (4, pytest.approx(float(explanation.similarity))),
    ]
    metrics = client.get_run(run.info.run_id).data.metrics
    assert metrics["nibt/parts"] == len(parts.parts)
    assert metrics["val/cat/image_sum"] == pytest.approx(float(explanation.grid.sum()), abs=1e-5)

    listed = {path for folder in ("val/cat", "nibt") for path in _artifacts(client, run.info.run_id, folder)}
    assert listed == {
        *(f"val/cat/val-cat-step-{step}.{ending}" for step in (3, 4) for ending in ("png", "html", "json")),
        *(f"val/cat/table-step-{step}.json" for step in (3, 4)),
        *("nibt/nibt.html", "nibt/nibt.json", "nibt/table.json"),
    }
    local = client.download_artifacts(run.info.run_id, "val/cat/val-cat-step-3.json", str(tmp_path))
    assert nibt.Explanation.load(local).similarity == explanation.similarity
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "nibt/table.json", str(tmp_path))).read_text())
    assert len(table["data"]) == len(parts.parts)


def _artifacts(client: Any, run: str, folder: str) -> list[str]:
    return [item.path for item in client.list_artifacts(run, folder) if not item.is_dir]


@pytest.mark.slow
def test_mlflow_without_a_run_is_an_error(mlflow: Any, explanation: nibt.Explanation) -> None:
    with pytest.raises(BadInput, match=r"mlflow has no active run: .*mlflow\.start_run"):
        log(explanation, mlflow)
    with pytest.raises(BadInput, match=r"needs one active run of MLflow or wandb \(there is none\)"):
        log(explanation)


# Weights & Biases


@pytest.mark.slow
def test_wandb_has_values_images_and_a_file(
    explanation: nibt.Explanation, parts: WordParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for folder in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    run = wandb.init(mode="offline", project="test", dir=str(tmp_path))
    try:
        log(explanation, name="val/cat", step=5)
        log(parts, run, step=5)
    finally:
        run.finish()

    records = _finished_records(next(tmp_path.glob("wandb/offline-run-*/*.wandb")))
    values = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        for item in record.history.item
    }
    assert values["_step"] == 5
    assert values["val/cat/similarity"] == pytest.approx(float(explanation.similarity))
    assert values["val/cat/table/_type"] == "table-file"
    assert values["val/cat/picture/_type"] == "image-file"
    assert values["nibt/page/_type"] == "html-file"
    media = [path.relative_to(tmp_path) for path in tmp_path.glob("wandb/offline-run-*/files/media/**/*.*")]
    assert {path.suffix for path in media} == {".png", ".html", ".json"}
    artifacts = {record.request.log_artifact.artifact.name or record.artifact.name for record in records}
    assert artifacts >= {"val-cat", "nibt"}


def wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an offline run whose files are in a folder."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for folder in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    return wandb.init(mode="offline", project="test", dir=str(tmp_path))


def logged_job(folder: Path) -> nibt.Job:
    """Return the job of a log of lmms-eval, whose images are in the folder; the second row fails."""
    rows()[1]["image"].save(folder / "1.png")
    options = {"data_options": {"data": folder}, "steps": 1, "views": 1}
    return nibt.batch("scenes_generator", LOG, folder / "job", **options)


@pytest.mark.slow
def test_wandb_has_a_table_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image, question, answer and map are in one table with what the log has."""
    job = logged_job(tmp_path)
    run = wandb_run(tmp_path, monkeypatch)
    try:
        log(job, run, name="pope")
    finally:
        run.finish()

    records = _finished_records(next(tmp_path.glob("wandb/offline-run-*/*.wandb")))
    numbers = {"/".join(item.nested_key): item.value_json for record in records for item in record.history.item}
    assert (numbers["pope/rows"], numbers["pope/failed"]) == ("2", "1")

    # the table and its pictures are an artifact
    artifacts = [(record.request.log_artifact.artifact, record.artifact) for record in records]
    artifact = next(each for pair in artifacts for each in pair if each.type == "run_table")
    files = {content.path: content.local_path for content in artifact.manifest.contents}
    table = json.loads(Path(files["pope/table.table.json"]).read_text())
    assert table["columns"] == ["row", "key", "image", "prompt", "answer", "reference", "log_score", "map"]
    ((row, key, image, prompt, answer, reference, score, drawn),) = table["data"]
    (values, _) = job.rows()
    assert (row, key, reference, score) == (0, "1", "no", 0.0)
    assert (prompt, answer) == (values["prompt"], values["answer"])
    with Image.open(files[image["path"]]) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    with Image.open(files[drawn["path"]]) as picture:
        assert picture.width > image["width"]


@pytest.mark.slow
def test_mlflow_has_a_table_of_a_job(mlflow: Any, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        log(logged_job(tmp_path), mlflow, name="pope")

    client = mlflow.MlflowClient()
    path = client.download_artifacts(run.info.run_id, "pope/table.json", str(tmp_path))
    table = json.loads(Path(path).read_text())
    assert table["columns"] == ["row", "key", "image", "prompt", "answer", "reference", "log_score", "map"]
    assert table["data"][0][2]["type"] == "image"


def test_tensorboard_has_a_table_of_a_job_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,caption\nsample:scene,a | cat\ngone.png,a dog\n")
    job = nibt.batch(tiny.model("clip"), tmp_path / "pairs.csv", tmp_path / "job", steps=1, views=1)
    with writer_to(tmp_path / "board") as writer:
        log(job, writer)

    text = board_of(tmp_path / "board").Tensors("nibt/table/text_summary")[0].tensor_proto.string_val[0].decode()
    header, _, row = text.splitlines()
    assert header == "|row | key | caption | similarity | reference | log_score|"
    assert row.startswith("|0 |  | a \\| cat | ")


def _finished_records(path: Path) -> list[Any]:
    """Return the records of an offline run, which the process of wandb may still write after ``finish`` returned."""
    for _ in range(300):
        records = _records(path)
        if any(record.HasField("exit") for record in records):
            return records
        time.sleep(0.1)

    raise AssertionError(f"wandb wrote no end into {path}")


def _records(path: Path) -> list[Any]:
    """Return the records of an offline run: messages of wandb in a log of LevelDB, after a header of 7 bytes.

    The client has no reader of its own in Python.
    """
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    place = 7
    message = b""
    records = []
    while place + 7 <= len(data):
        left = 32768 - place % 32768  # a record that would not fit begins in the next block
        if left < 7:
            place += left
            continue

        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the end of one
            record = wandb_internal_pb2.Record()  # pyright: ignore[reportAttributeAccessIssue]
            record.ParseFromString(message)
            records.append(record)
            message = b""

    return records


@pytest.mark.slow
def test_wandb_drops_no_step_and_takes_no_finished_run(
    explanation: nibt.Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for folder in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    run = wandb.init(mode="offline", project="test", dir=str(tmp_path))
    try:
        run.log({"loss": 1.0}, step=5)
        with pytest.raises(BadOption, match=r"step must be at least 5, the last one of the run, .* \(got 3\): log in"):
            log(explanation, run, step=3)
        log(explanation, run, name="a" * 100, step=5)
    finally:
        run.finish()

    with pytest.raises(BadInput, match=r"the run of wandb is finished: give the tracker"):
        log(explanation, run)


# TensorBoard


def writer_to(folder: Path) -> Any:
    pytest.importorskip("tensorboard")
    return import_module("torch.utils.tensorboard").SummaryWriter(str(folder))


def board_of(folder: Path) -> Any:
    """Return what TensorBoard reads from a folder."""
    board = import_module("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(str(folder))
    board.Reload()
    return board


def test_tensorboard_has_scalars_images_and_text(
    explanation: nibt.Explanation, parts: WordParts, tmp_path: Path
) -> None:
    with writer_to(tmp_path) as writer:
        log(explanation, writer, name="val/cat", step=2)
        log(parts, writer, step=2)

    board = board_of(tmp_path)
    (scalar,) = board.Scalars("val/cat/similarity")
    assert (scalar.step, scalar.value) == (2, pytest.approx(float(explanation.similarity), abs=1e-6))
    assert board.Images("val/cat/picture")[0].width > 100
    text = board.Tensors("nibt/table/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("|part | verdict")
    assert text.count("\n") == 1 + len(parts.parts)


def test_an_answer_has_the_shares_of_its_words(tmp_path: Path) -> None:
    answer = nibt.explain_answer("scenes_generator", "sample:scene", "what is left of the house ?", steps=2, views=1)
    with writer_to(tmp_path) as writer:
        log(answer, writer, step=0)

    board = board_of(tmp_path)
    assert board.Scalars("nibt/image_gain")[0].value == pytest.approx(
        sum(word.image_gain for word in answer.words) / len(answer.words), abs=1e-5
    )
    text = board.Tensors("nibt/table/text_summary")[0].tensor_proto.string_val[0].decode()
    header, _, *rows = text.splitlines()
    assert header == "|text | log_probability | image_gain | image_share | prompt_share | earlier_share|"
    for row, word in zip(rows, answer.words, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert float(cells[3]) == pytest.approx(word.shares["image"], rel=1e-2)
        assert float(cells[5]) == pytest.approx(word.shares["earlier"], rel=1e-2)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("step", [np.int64(4), torch.tensor(4), "4"])
def test_a_step_of_another_type_is_stored_as_a_number(step: Any, mlflow: Any, explanation: nibt.Explanation) -> None:
    with mlflow.start_run() as run:
        log(explanation, step=step)

    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "nibt/similarity")
    assert [point.step for point in history] == [4]


# Other results and bad input


@pytest.mark.slow
def test_all_kinds_of_results_have_what_the_table_says(tmp_path: Path) -> None:
    from nibt.datasets.scenes import Scenes

    audit = nibt.audit("scenes", list(Scenes(count=8, fewest=2, most=3)), ["gae"], quick=True)
    with writer_to(tmp_path) as writer:
        log(audit, writer, step=0)

    board = board_of(tmp_path)
    names = board.Tags()["scalars"]
    assert any(name.startswith("nibt/checks/") for name in names)
    assert any(name.startswith("nibt/check/") for name in names)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("result", "options", "error", "message"),
    [
        (3, {}, BadInput, r"log takes a result of nibt, such as an explanation, or a job \(got int\)"),
        (None, {"name": "a b"}, BadOption, "name must have letters, digits"),
        (None, {"name": "/a"}, BadOption, "name must have letters, digits"),
        (None, {"name": "\u00fc"}, BadOption, "name must have letters, digits"),
        (None, {"name": "../a"}, BadOption, r"name must have at most 100 characters, and no part \. or \.\."),
        (None, {"name": "a/."}, BadOption, r"name must have at most 100 characters, and no part \. or \.\."),
        (None, {"name": "a" * 101}, BadOption, "name must have at most 100 characters"),
        (None, {"step": -1}, BadOption, r"step must be .*0.* \(got -1\)"),
        (None, {"step": 2**63}, BadOption, "step must be between 0 and"),
        (None, {"step": 1.5}, BadOption, r"step must be a whole number \(got 1.5\)"),
        (None, {"step": True}, BadOption, r"step must be a whole number \(got True\)"),
        (None, {"step": float("nan")}, BadOption, r"step must be a whole number \(got nan\)"),
        (None, {"tracker": object()}, Unsupported, "the tracker object is not known: give the tracker"),
    ],
)
def test_bad_input_is_an_error(
    result: Any, options: dict[str, Any], error: type[Exception], message: str, explanation: nibt.Explanation
) -> None:
    with pytest.raises(error, match=message):
        log(explanation if result is None else result, **options)
