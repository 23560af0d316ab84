"""Tests of the questions of ``nibt.datasets``: POPE, RePOPE and MMVP, and the statements of MMVP-VLM."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import nibt
from nibt.datasets._questions import PollingDataset
from nibt.datasets.mmvp import MMVP
from nibt.datasets.mmvp_vlm import MMVPVLM
from nibt.datasets.pope import POPE, RePOPE
from nibt.errors import BadInput, BadOption
from tests import tiny
from tests.datasets.layouts import captions, mmvp, mmvp_vlm, names, polling, pope, repope, write

POLLING = pytest.mark.parametrize(
    ("kind", "file"),
    [(POPE, "coco_pope_random.json"), (RePOPE, "coco_repope_random.json")],
    ids=["pope", "repope"],
)


def test_pope_has_questions_with_their_answers(tmp_path: Path) -> None:
    pope(tmp_path)
    data = POPE(tmp_path)
    assert data.has_prompts
    assert captions(data)[0] == "Is there a snowboard in the image?"
    assert [(record.key, record.reference) for record in data.entries] == [("1", "yes"), ("2", "no"), ("3", "no")]
    assert [record.answer for record in data.entries] == [None, None, None], "the model writes its own"
    assert "lacks coco_pope_popular.json" in POPE.check(tmp_path, split="popular")
    assert "lacks coco_repope_random.json" in RePOPE.check(tmp_path)
    with pytest.raises(BadOption, match="split must be one of random, popular, adversarial"):
        POPE(tmp_path, split="val")


@POLLING
def test_one_list_is_read_as_lines_are(tmp_path: Path, kind: type[PollingDataset], file: str) -> None:
    polling(tmp_path, file)
    as_lines = kind(tmp_path).entries
    questions = [json.loads(line) for line in (tmp_path / file).read_text().splitlines()]
    for indent in (None, 2):
        (tmp_path / file).write_text(json.dumps(questions, indent=indent))
        read = kind(tmp_path).entries
        assert [replace(entry, where="") for entry in read] == [replace(entry, where="") for entry in as_lines]
    (tmp_path / file).write_text(json.dumps([*questions, {"question_id": 9}]))
    with pytest.raises(BadInput, match="question 4 does not have the expected layout: 'text' is missing"):
        kind(tmp_path)


@POLLING
def test_questions_with_one_number_are_rejected(tmp_path: Path, kind: type[PollingDataset], file: str) -> None:
    polling(tmp_path, file)
    first = (tmp_path / file).read_text().splitlines()[0]
    with (tmp_path / file).open("a") as stream:
        stream.write(first + "\n")
    with pytest.raises(BadInput, match=r"line 4: question_id must occur once \(got '1', which .*line 1 has, too\)"):
        kind(tmp_path)


def test_error_names_a_split_that_is_there(tmp_path: Path) -> None:
    polling(tmp_path, "coco_pope_adversarial.json")
    with pytest.raises(BadInput, match=r"lacks coco_pope_random.json \(it has the file of split=adversarial\)"):
        POPE(tmp_path)


def test_repope_may_lie_beside_the_images(tmp_path: Path) -> None:
    polling(tmp_path, "coco_repope_adversarial.json")
    assert len(RePOPE(tmp_path, split="adversarial")) == 3
    repope(tmp_path)
    assert len(RePOPE(tmp_path)) == 3


@POLLING
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question_id": 4, "image": "a.jpg", "text": "?"}', "line 4 does not have .*'label' is missing"),
        ('{"question_id": 4, "image": "a.jpg", "text": "?", "label": "maybe"}', "line 4: label must be yes or no"),
        ('{"question_id": 4, "image": "../a.jpg", "text": "?", "label": "no"}', "line 4: text and image must be"),
        ('{"question_id": 4, "image": 7, "text": "?", "label": "no"}', "line 4: text and image must be"),
        ('{"question_id": 4, "image": "a.jpg", "text": "", "label": "no"}', "line 4"),
        ("[1, 2]", "line 4 does not have the expected layout"),
        ("{", "line 4: this is not JSON"),
    ],
)
def test_wrong_lines_are_rejected(
    tmp_path: Path, kind: type[PollingDataset], file: str, line: str, message: str
) -> None:
    polling(tmp_path, file)
    write(tmp_path / file, (tmp_path / file).read_text() + line + "\n")
    with pytest.raises(BadInput, match=message):
        kind(tmp_path)


def test_a_job_of_pope_has_the_right_answers_beside_those_of_the_model(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pope(tmp_path)
    job = nibt.batch("scenes_generator", f"pope:{tmp_path}", tmp_path / "JOB", method="random")
    rows = list(job.rows(["key", "reference", "error", "answer"]))
    assert [(row["key"], row["reference"]) for row in rows] == [("1", "yes"), ("2", "no"), ("3", "no")]
    written = [row["answer"] for row in rows if row["error"] is None]
    assert written, "a model of drawings may write nothing about two of three blank photographs"
    assert all(isinstance(answer, str) and answer for answer in written)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2,Open?,(a) Open (b) Closed,(a)", r"line 2: Index must be 1, .*\(got '2'\): give all rows in the order"),
        ("1,Open?,(a) Open (b) Closed,(c)", r"line 2: the right answer must be one of the options \(got '\(c\)'\)"),
    ],
)
def test_mmvp_refuses_rows_of_other_images_and_answers_that_are_no_option(
    row: str, message: str, tmp_path: Path
) -> None:
    mmvp(tmp_path)
    write(tmp_path / "Questions.csv", f"Index,Question,Options,Correct Answer\n{row}\n")
    with pytest.raises(BadInput, match=message):
        list(MMVP(tmp_path))


def test_mmvp_puts_the_options_after_the_question(tmp_path: Path) -> None:
    mmvp(tmp_path)
    data = MMVP(tmp_path)
    assert data.has_prompts
    assert captions(data)[2] == "Is the dog facing left, or right? (a) Left (b) Right"
    assert [(record.key, record.reference) for record in data.entries][2:] == [("3", "(b)"), ("4", "(a)")]
    assert names(data) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_mmvp_rejects_wrong_tables(tmp_path: Path) -> None:
    mmvp(tmp_path)
    write(tmp_path / "Questions.csv", "Index,Question,Options\n1,a,b\n")
    with pytest.raises(BadInput, match="has no column Correct Answer"):
        MMVP(tmp_path)
    write(tmp_path / "Questions.csv", "Index,Question,Options,Correct Answer\n1,,(a) b,(a)\n")
    with pytest.raises(BadInput, match="line 2: the question and its right answer must not be empty"):
        MMVP(tmp_path)


def test_mmvp_vlm_compares_with_the_other_image_of_the_pair(tmp_path: Path) -> None:
    mmvp_vlm(tmp_path)
    data = MMVPVLM(tmp_path)
    assert data.compares
    assert captions(data)[:2] == ["a photo of a dog facing left", "a photo of a dog facing right"]
    others = [record.against.name for record in data.entries if record.against is not None]
    assert others == ["Orientation/2.jpg", "Orientation/1.jpg", "Text/32.jpg", "Text/31.jpg"]
    assert captions(MMVPVLM(tmp_path, pattern="Text")) == ["a photo of A B", "a photo of B A"]
    with pytest.raises(BadOption, match="pattern must be one of Orientation, Text"):
        MMVPVLM(tmp_path, pattern="Count")


def test_a_job_of_mmvp_vlm_says_which_captions_are_right(tmp_path: Path) -> None:
    """The score is the similarity of the caption with its image minus that with the other image of the pair."""
    pytest.importorskip("pyarrow")
    mmvp_vlm(tmp_path / "DATA")
    model = tiny.model("clip")
    data = MMVPVLM(tmp_path / "DATA")
    job = nibt.batch(model, data, tmp_path / "JOB", method="random")
    rows = list(job.rows(["key", "text_score", "error"]))
    assert [(row["key"], row["error"]) for row in rows] == [("1", None), ("2", None), ("31", None), ("32", None)]
    scores = [row["text_score"] for row in rows]
    for pair, other, score in zip(data, [data[1], data[0], data[3], data[2]], scores, strict=True):
        ranked = nibt.rank(model, nibt.Caption(pair.caption), [pair.image, other.image])
        cosines = {entry.position: entry.similarity for entry in ranked}
        assert score == pytest.approx(cosines[0] - cosines[1], abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Question ID,Type\n1,Text\n", "must have columns with the number of an image"),
        ("a,b,c\n1,Text,x\n2,Text,y\n3,Text,z\n", r"must have two rows for each pair of images \(got 3 rows\)"),
        ("a,b,c\none,Text,x\n2,Text,y\n", "line 2: expected the number of an image"),
        ("a,b,c\n1,../Text,x\n2,Text,y\n", "line 2: expected the number of an image"),
        ("a,b,c\n1,Text,\n2,Text,y\n", "line 2: expected the number of an image"),
        ("a,b,c\n", "lacks pairs"),
    ],
)
def test_mmvp_vlm_rejects_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    mmvp_vlm(tmp_path)
    write(tmp_path / "Questions.csv", text)
    with pytest.raises(BadInput, match=message):
        MMVPVLM(tmp_path)
