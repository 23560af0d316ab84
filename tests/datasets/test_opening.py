"""Tests of ``nibt.datasets._opening``: jobs of pairs in every form."""

import csv
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nibt
from nibt.data import parquet
from nibt.datasets._opening import open_pairs, open_rows
from nibt.datasets._records import shuffled
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, OtherRequest, UnknownName
from nibt.models.base import Model
from tests import tiny
from tests.job_pairs import CAPTIONS, COUNT, OPTIONS, as_csv
from tests.suites import few


def as_tsv(job_images: Path, out: Path) -> Path:
    path = job_images / "pairs.tsv"
    path.write_text("caption\timage\n" + "".join(f"{text}\t{item}.png\n" for item, text in enumerate(CAPTIONS)))
    return path


def as_jsonl(job_images: Path, out: Path) -> Path:
    path = job_images / "lines.jsonl"
    path.write_text(
        "".join(
            json.dumps({"image": f"{item}.png", "caption": text, "more": 1}) + "\n"
            for item, text in enumerate(CAPTIONS)
        )
    )
    return path


def as_data_set(job_images: Path, out: Path) -> Path:
    shutil.copytree(job_images, out / "images")
    as_csv(job_images, out)
    return out


def as_plain_folder(job_images: Path, out: Path) -> Path:
    for item, caption in enumerate(CAPTIONS):
        shutil.copy(job_images / f"{item}.png", out)
        (out / f"{item}.txt").write_text(caption + "\n")
    return out


def as_parquet(job_images: Path, out: Path) -> Path:
    arrow, files = parquet.pyarrow()
    rows = [{"image": f"{item}.png", "caption": text} for item, text in enumerate(CAPTIONS)]
    files.write_table(arrow.Table.from_pylist(rows), job_images / "pairs.parquet", row_group_size=3)
    return job_images / "pairs.parquet"


def as_parquet_of_bytes(job_images: Path, out: Path) -> list[Path]:
    arrow, files = parquet.pyarrow()
    rows = [
        {"image": {"bytes": (job_images / f"{item}.png").read_bytes(), "path": None}, "caption": text}
        for item, text in enumerate(CAPTIONS)
    ]
    for name, part in (("one", rows[:7]), ("two", rows[7:])):
        files.write_table(arrow.Table.from_pylist(part), out / f"{name}.parquet")
    return [out / "one.parquet", out / "two.parquet"]


def put(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, BytesIO(data))


def as_shards(job_images: Path, out: Path, ending: str = ".tar", caption: str = "txt") -> Path:
    for shard, items in enumerate((range(6), range(6, COUNT))):
        with tarfile.open(out / f"pairs-{shard:02d}{ending}", "w:gz" if ending.endswith("gz") else "w") as tar:
            for item in items:
                text = CAPTIONS[item] if caption == "txt" else json.dumps({"caption": CAPTIONS[item]})
                put(tar, f"deep/{item}.{caption}", text.encode())
                put(tar, f"deep/{item}.png", (job_images / f"{item}.png").read_bytes())
    return out


def as_packed_shards(job_images: Path, out: Path) -> list[Path]:
    as_shards(job_images, out, ".tar.gz", "json")
    return sorted(out.glob("*.tar.gz"))


def as_pattern(job_images: Path, out: Path) -> str:
    return str(as_shards(job_images, out) / "pairs-{00..01}.tar")


def as_saved(job_images: Path, out: Path) -> Path:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    text = {"image": [str(job_images / f"{item}.png") for item in range(COUNT)], "caption": CAPTIONS}
    package.Dataset.from_dict(text).cast_column("image", package.Image()).save_to_disk(out / "saved")
    return out / "saved"


FORMS = (
    as_tsv,
    as_jsonl,
    as_data_set,
    as_plain_folder,
    as_parquet,
    as_parquet_of_bytes,
    as_shards,
    as_packed_shards,
    as_pattern,
    as_saved,
)


NAMES = ("key", "source")  # the names of rows and images differ between forms


@pytest.mark.parametrize("form", few(FORMS, FORMS[1:3]))
def test_batch_gives_the_same_answers_for_every_form_of_pairs(
    form: Callable[[Path, Path], Any], model: Model, job_images: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    (tmp_path / "pairs").mkdir()
    job = nibt.batch(model, form(job_images, tmp_path / "pairs"), tmp_path / "out", **OPTIONS)
    assert job.manifest.rows == COUNT
    assert not job.check()
    for row, wanted in zip(job.rows(), whole_job.rows(), strict=True):
        assert {**row, **dict.fromkeys(NAMES)} == {**wanted, **dict.fromkeys(NAMES)}
    answer = job.explanation(7)
    assert answer.image.input is not None, "the image is read again from its source"
    assert nibt.draw(answer).width > 100


def test_batch_takes_data_sets(tmp_path: Path) -> None:
    data = Scenes(count=3, seed=4)
    job = nibt.batch(tiny.model("clip"), data, tmp_path, steps=1)
    assert [row["caption"] for row in job.rows()] == [pair.caption for pair in data]
    with pytest.raises(OtherRequest, match=r"pairs\.fingerprint"):
        nibt.batch(tiny.model("clip"), Scenes(count=3, seed=5), tmp_path, steps=1)


def test_the_number_and_the_order_of_pairs_in_a_file_are_options(
    model: Model, job_images: Path, tmp_path: Path
) -> None:
    table = as_csv(job_images, tmp_path)
    captions = [row["caption"] for row in nibt.batch(model, table, tmp_path / "all", "ones").rows()]
    options = {"count": "2", "seed": "1"}
    job = nibt.batch(model, table, tmp_path / "some", "ones", data_options=options)
    chosen = [row["caption"] for row in job.rows()]
    assert chosen == [captions[place] for place in shuffled(list(range(len(captions))), 1)[:2]] != captions[:2]
    assert [record.captions[0] for record in job.data().records(lambda row: True) if record] == chosen
    for name, value in (("count", "3"), ("seed", "2")):
        with pytest.raises(OtherRequest, match=rf"pairs\.{name}"):
            nibt.batch(model, table, tmp_path / "some", "ones", data_options={**options, name: value})
    for bad in ({"count": "99"}, {"seed": "x"}, {"seeds": "1"}):
        with pytest.raises((BadOption, UnknownName), match=next(iter(bad))):
            nibt.batch(model, table, tmp_path / "bad", "ones", data_options=bad)


def test_a_row_with_a_caption_and_a_prompt_is_an_error(job_images: Path, tmp_path: Path) -> None:
    line = {"image": str(next(job_images.glob("*.png"))), "caption": "a cat", "prompt": "what is this ?"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(BadInput, match="line 1: a row has a caption or a prompt, not both"):
        open_pairs(tmp_path)[0]


@pytest.mark.parametrize(
    ("pairs", "options", "kind", "message"),
    [
        ("nothing.csv", {}, BadInput, "no such file or folder"),
        ("notes.docx", {}, BadInput, "is of an unknown kind"),
        ("pairs.csv", {"image": "photo"}, BadOption, "has no column photo.*it has image, caption.*-D image="),
        ("pairs.parquet", {"caption": "text"}, BadOption, "has no column text.*it has image, caption.*caption="),
        ("pairs.csv", {"split": "train"}, BadOption, "split can only be used"),
        ("pairs.csv", {"chunk_size": 0}, BadOption, "chunk_size must be between 1 and"),
        ("pairs.csv", {"on": "mars"}, BadOption, "on must be one of local, ray"),
        ("empty", {}, BadInput, "has no pairs"),
        (["pairs.csv", "pairs.parquet"], {}, BadInput, "several files must be"),
        ([], {}, BadInput, "pairs must be"),
    ],
)
def test_batch_rejects_pairs_that_are_no_job(
    pairs: Any,
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
    model: Model,
    job_images: Path,
    tmp_path: Path,
) -> None:
    as_csv(job_images, tmp_path)
    shutil.copy(as_parquet(job_images, tmp_path), tmp_path)
    (tmp_path / "notes.docx").touch()
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / one for one in pairs] if isinstance(pairs, list) else tmp_path / pairs
    with pytest.raises(kind, match=message):
        nibt.batch(model, paths, tmp_path / "out", **options)
    assert not list(tmp_path.glob("out/parts/*"))


def test_batch_records_bad_rows(model: Model, job_images: Path, tmp_path: Path) -> None:
    """Truncated images, files that are no images, missing files; captions that are blank, without words or no text;
    lines that are no JSON.
    """
    (tmp_path / "short.png").write_bytes((job_images / "0.png").read_bytes()[:300])
    (tmp_path / "text.png").write_text("no image")
    shutil.copy(job_images / "0.png", tmp_path)
    good = {"image": "0.png", "caption": CAPTIONS[0]}
    bad: dict[str, tuple[Any, str]] = {
        "short": ({**good, "image": "short.png"}, "'short.png' is a broken or truncated image"),
        "text": ({**good, "image": "text.png"}, "'text.png' is not an image"),
        "gone": ({**good, "image": "gone.png"}, "no image 'gone.png': no such file"),
        "blank": ({**good, "caption": "  "}, "the caption is blank"),
        "number": ({**good, "caption": 3}, "the caption must be a text"),
        "lacking": ({"image": "0.png"}, "'caption' is missing"),
        "broken": ("{", "this is not JSON"),
        "half": ('{"image": "0.png", "caption": "\\ud83d"}', "an unpaired surrogate"),
        "nothing": ({**good, "image": None}, r"must be a path or the bytes of a file \(got nothing"),
    }
    lines = [line for text, _ in bad.values() for line in (good, text)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    job = nibt.batch(model, path, tmp_path / "out", **OPTIONS)
    assert (job.manifest.rows, job.manifest.errors) == (2 * len(bad), len(bad))
    assert not job.check()
    rows = list(job.rows())
    for row, (_, message) in zip(rows[1::2], bad.values(), strict=True):
        assert row["similarity"] is None
        with pytest.raises(BadInput, match=message):
            job.explanation(row["row"])
    for row in rows[::2]:
        assert row["error"] is None
        np.testing.assert_allclose(row["grid"], rows[0]["grid"], rtol=0, atol=1e-5)


def test_batch_records_unreadable_images(model: Model, tmp_path: Path) -> None:
    with (tmp_path / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "caption"], *([f"{item}.png", "a cat"] for item in range(40))])
    for item in range(40):
        tiny.image(seed=item).pil_image.save(tmp_path / f"{item}.png")
        if item % 10 == 7:
            os.truncate(tmp_path / f"{item}.png", 100 * (item // 10))
    job = nibt.batch(model, tmp_path / "pairs.csv", tmp_path / "out", steps=1, chunk_size=16)
    assert [row["row"] for row in job.rows() if row["error"] is not None] == [7, 17, 27, 37]
    assert not job.check()


def test_batch_records_rows_with_other_fields_than_the_heading(model: Model, job_images: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(f"image,caption\n{job_images}/0.png,a cat, a dog\n{job_images}/1.png,cat\n")
    first, second = nibt.batch(model, tmp_path / "pairs.csv", tmp_path / "out", steps=1).rows()
    assert "pairs.csv, line 2: expected 2 fields (got 3); put texts" in first["error"]
    assert second["error"] is None


def test_batch_records_a_truncated_shard(model: Model, job_images: Path, tmp_path: Path) -> None:
    as_shards(job_images, tmp_path)
    with tarfile.open(tmp_path / "pairs-00.tar") as tar:
        os.truncate(tmp_path / "pairs-00.tar", tar.getmember("deep/4.png").offset_data + 10)
    job = nibt.batch(model, tmp_path, tmp_path / "out", **OPTIONS)
    rows = list(job.rows())
    assert [row["key"] for row in rows] == [
        *(f"deep/{item}" for item in range(5)),
        "pairs-00.tar, the rest",
        *(f"deep/{item}" for item in range(6, COUNT)),
    ]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True] * 2 + [False] * 4
    assert "the sample has no image" in rows[4]["error"]
    assert "damaged or truncated" in rows[5]["error"]


def test_batch_records_samples_of_a_shard_that_could_be_read_in_two_ways(
    model: Model, job_images: Path, tmp_path: Path
) -> None:
    image = (job_images / "0.png").read_bytes()
    with tarfile.open(tmp_path / "pairs.tar", "w") as tar:
        for name, caption in (("1", b"a bear"), ("1", b"a cat"), ("2", b"a cat")):
            put(tar, f"{name}.png", image)
            put(tar, f"{name}.txt", caption)
        for name in ("3.txt", "3.jpg", "3.mask.png"):
            put(tar, name, b"a cat" if name == "3.txt" else image)

    rows = list(nibt.batch(model, tmp_path / "pairs.tar", tmp_path / "out", **OPTIONS).rows())
    assert [row["key"] for row in rows] == ["1", "2", "3"]
    assert "1.png occurs twice: give each sample a name of its own" in rows[0]["error"]
    assert rows[1]["error"] is None
    assert "several images (jpg, mask.png): name the ending" in rows[2]["error"]
    named = open_rows(tmp_path / "pairs.tar", image="jpg")
    assert [record.error for record in named.records() if record][2] == ""


def test_prompts_are_read_from_tables_without_captions(tmp_path: Path) -> None:
    """The default columns are found in every form of a table; a table with captions stays one of pairs."""
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    arrow, files = parquet.pyarrow()
    rows = [{"image": "sample:scene", "prompt": text, "answer": answer} for text, answer in (("a", "b"), ("c", ""))]
    (tmp_path / "rows.csv").write_text("image,prompt,answer\nsample:scene,a,b\nsample:scene,c,\n")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    package.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    for name in ("rows.csv", "rows.jsonl", "rows.parquet", "saved"):
        data = open_rows(tmp_path / name)
        assert data.has_prompts
        records = [record for record in data.records() if record is not None]
        assert [(record.caption, record.answer) for record in records] == [("a", "b"), ("c", None)], name
        pairs = open_rows(tmp_path / name, caption="answer")
        assert not pairs.has_prompts
        assert not open_pairs(tmp_path / name).has_prompts, "only jobs take prompts"
    again = open_rows(data)
    assert (again.has_prompts, [record.answer for record in again.records() if record]) == (True, ["b", None])
    len(data)
    assert [record.answer for record in data.entries] == ["b", None]  # type: ignore[attr-defined]
    (tmp_path / "both.csv").write_text("image,caption,prompt\nsample:scene,a,b\n")
    assert not open_rows(tmp_path / "both.csv").has_prompts
    assert open_rows(tmp_path / "both.csv", "prompt").has_prompts
    with pytest.raises(BadInput, match="lacks a saved data set"):
        open_rows(f"hugging_face:{tmp_path}")


def test_columns_of_json_lines_are_those_of_the_first_row_that_can_be_read(tmp_path: Path) -> None:
    """A broken line is the error of its row, and does not decide that captions are meant."""
    path = tmp_path / "pairs.jsonl"
    for broken in ("{", "3", '["image"]', "{'image': 1}"):
        path.write_text(f"{broken}\n{json.dumps({'image': 'a.png', 'prompt': 'what is it', 'answer': 'a cat'})}\n")
        rows = open_rows(path)
        assert rows.has_prompts, broken
        first, second = rows.records()
        assert first is not None
        assert "line 1" in first.error
        assert second is not None
        assert second.answer == "a cat"
