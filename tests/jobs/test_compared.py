"""Tests of jobs whose pairs are compared with a caption or an image of their own row."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.errors import BadInput, BadOption, OtherRequest
from nibt.jobs.job import card
from nibt.models.base import Model
from tests import tiny
from tests.suites import few

OPTIONS: dict[str, Any] = {"method": "nib", "steps": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images, and a table for each column."""
    for seed in range(3):
        tiny.image(64, 64, seed).pil_image.save(tmp_path / f"{seed}.png")
    (tmp_path / "against_image.csv").write_text("image,caption,against_image\n0.png,a cat,1.png\n1.png,a dog,2.png\n")
    (tmp_path / "against.csv").write_text("image,caption,against\n0.png,a cat,a dog\n1.png,a dog,two cars\n")
    return tmp_path


def as_csv(table: Path) -> Path:
    return table


def as_parquet(table: Path) -> Path:
    """Write the table with the bytes of its images."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    heading, *lines = (line.split(",") for line in table.read_text().splitlines())
    columns = {name: [line[number] for line in lines] for number, name in enumerate(heading)}
    for name in ("image", "against_image"):
        columns |= {name: [(table.parent / cell).read_bytes() for cell in columns[name]]} if name in columns else {}
    parquet.write_table(arrow.table(columns), table.with_suffix(".parquet"))
    return table.with_suffix(".parquet")


@pytest.mark.parametrize("form", few([as_csv, as_parquet], [as_csv]))
@pytest.mark.parametrize(
    ("column", "options"),
    [
        ("against_image", {}),
        ("against", {}),
        pytest.param("against_image", {"image_baseline": "against"}, marks=pytest.mark.slow),
        pytest.param("against", {"target": "softmax"}, marks=pytest.mark.slow),
    ],
)
def test_rows_are_those_of_explain(
    model: Model, folder: Path, column: str, options: dict[str, Any], form: Callable[[Path], Path]
) -> None:
    """So are the bits, the record of the target, and the image that is compared with."""
    options = OPTIONS | options
    job = nibt.batch(model, form(folder / f"{column}.csv"), folder / "job", **options)
    for row in range(2):
        answer, image = job.explanation(row), folder / f"{row}.png"
        other: Any = {"against": ["a dog", "two cars"][row]}
        if column == "against_image":
            other = {"against_images": folder / f"{row + 1}.png"}
        wanted = nibt.explain(model, image, ["a cat", "a dog"][row], **other, **options)
        texts = []
        for data in (answer.to_json(), wanted.to_json()):
            for side in data["sides"].values():
                side.pop("source", None)
            data["target"]["options"].pop("against_images", None)  # paths, whose digests are compared
            texts.append(data)
        assert texts[0] == texts[1]
        for side, one in answer.sides.items():
            if one.modality == "image":
                assert one.input is not None, side
                assert one.input.digest == wanted.sides[side].input.digest  # pyright: ignore
    assert job.check() == []


@pytest.mark.parametrize("column", ["against_image", "against"])
def test_other_comparisons_are_another_job(model: Model, folder: Path, column: str) -> None:
    table = folder / f"{column}.csv"
    job = nibt.batch(model, table, folder / "job", chunk_size=1, **OPTIONS)
    before = [path.read_bytes() for path in sorted((folder / "job" / "parts").iterdir())]
    sorted((folder / "job" / "parts").iterdir())[0].unlink()
    nibt.batch(model, table, folder / "job", chunk_size=1, **OPTIONS)
    assert [path.read_bytes() for path in sorted((folder / "job" / "parts").iterdir())] == before
    if column == "against_image":
        shutil.copy(folder / "0.png", folder / "1.png")
        with pytest.raises(OtherRequest, match="row 0: against_hash"):
            nibt.batch(model, table, folder / "job", chunk_size=1, **OPTIONS)
    else:
        table.write_text(table.read_text().replace("a dog\n", "a bird\n"))
        with pytest.raises(OtherRequest, match="fingerprint"):
            nibt.batch(model, table, folder / "job", chunk_size=1, **OPTIONS)
    assert job.check() == []


def test_errors_are_those_of_their_rows_and_are_tried_again(model: Model, folder: Path) -> None:
    table = folder / "t.csv"
    table.write_text(
        "image,caption,against_image\n0.png,a cat,late.png\n1.png,a dog,\n1.png,a dog,1.png\n0.png,a cat,2.png\n"
    )
    job = nibt.batch(model, table, folder / "job", chunk_size=1, **OPTIONS)
    errors = [row["error"] for row in job.rows()]
    assert "there is no image 'late.png'" in errors[0]
    assert "line 3: the against_image must be a path" in errors[1]
    assert "the image 1.png is compared with itself" in errors[2]
    assert errors[3] is None
    with pytest.raises(BadInput, match=r"row 0 failed: .*late\.png"):
        job.explanation(0)
    shutil.copy(folder / "2.png", folder / "late.png")
    job = nibt.batch(model, table, folder / "job", chunk_size=1, **OPTIONS)
    assert [row["error"] is None for row in job.rows()] == [True, False, False, True]


def test_an_empty_caption_to_compare_with_is_named(model: Model, folder: Path) -> None:
    (folder / "t.csv").write_text("image,caption,against\n0.png,a cat,\n0.png,a cat,a dog\n")
    errors = [row["error"] for row in nibt.batch(model, folder / "t.csv", folder / "job", **OPTIONS).rows()]
    assert "line 2: the column against must have a caption (got nothing)" in errors[0]
    assert errors[1] is None


@pytest.mark.parametrize(
    ("heading", "options", "error"),
    [
        ("image,caption,against", {"against": "a bird"}, "against is given by a column, too"),
        ("image,caption,against", {"against_images": "sample:scene"}, "against_images is given by a column, too"),
        ("image,caption,against", {"target": "cosine"}, "cosine compares with nothing"),
        (
            "image,caption,against",
            {"image_baseline": "against"},
            "the baseline against is the state of one other image",
        ),
        ("image,caption,against,against_image", {}, "the columns against and against_image: leave one of them out"),
        ("image,caption,against_images", {}, "a column 'against_images', which is not read"),
        ("image,prompt,against_image", {}, "a column 'against_image', which is not read"),
        ("image,caption", {"caption": "image"}, "one column cannot have both images and texts"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    model: Model, folder: Path, heading: str, options: dict[str, Any], error: str
) -> None:
    (folder / "t.csv").write_text(f"{heading}\n0.png,a cat,1.png,1.png\n")
    with pytest.raises(BadOption, match=error):
        nibt.batch(model, folder / "t.csv", folder / "job", **options)
    assert not (folder / "job").exists()


def test_the_card_names_the_column_and_workers_get_the_bytes_of_both_images(model: Model, folder: Path) -> None:
    job = nibt.batch(model, folder / "against_image.csv", folder / "job", **OPTIONS)
    assert "Target: `difference` against the column `against_image` of the pairs." in card(job)
    record = next(job.data().records())
    assert record is not None
    sent = record.with_bytes()
    assert sent.against is not None
    assert sent.image == (folder / "0.png").read_bytes()
    assert sent.against.image == (folder / "1.png").read_bytes()
    assert sent.against.source == "1.png"
