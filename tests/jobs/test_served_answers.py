"""Tests of jobs of prompts of a generator behind a server."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import nibt
from nibt.errors import BadInput, BadOption, OtherRequest, ServerFailed, UnknownName, Unsupported
from nibt.generators.results.answer import AnswerExplanation
from tests.bridges.test_answer_servers import ADDRESS, KEY, PROMPT, Answers, serving
from tests.helpers import Run
from tests.models.test_functions import picture

LOADING: dict[str, Any] = {"name": "toy", "image_size": 32, "cells": 2, "sources": "image"}
FIRST, LATER = 1 + 4 + 1 + 1 + 7, 1 + 1 + 7
"""The requests of the first answer, before which the server is tried, and of a later one."""
FINGERPRINT = 2


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of four prompts, of which one is refused and one has an answer."""
    picture().save(tmp_path / "0.png")
    picture().rotate(90).save(tmp_path / "1.png")
    rows = [f"0.png,{PROMPT},", "1.png,please refuse this,", f"1.png,{PROMPT},a hat.", f"1.png,{PROMPT},"]
    (tmp_path / "rows.csv").write_text("\n".join(["image,prompt,answer", *rows, ""]))
    return tmp_path / "rows.csv"


def job_of(served: Answers, table: Path, name: str = "job", **options: Any) -> nibt.Job:
    loading = {**LOADING, **options.pop("loading", {})}
    return nibt.batch(f"{served.address}/v1", table, table.parent / name, loading=loading, **options)


def test_rows_equal_explain_answer(table: Path) -> None:
    with serving() as served:
        job = job_of(served, table)
        assert len(served.requests) == FINGERPRINT + FIRST + 1 + (LATER - 1) + LATER, (
            "the second row is refused at once"
        )
        generator = nibt.load_generator(f"{served.address}/v1", **LOADING)
        for row, image, answer in ((0, "0.png", None), (2, "1.png", "a hat."), (3, "1.png", None)):
            expected = nibt.explain_answer(generator, table.parent / image, PROMPT, answer)
            actual = job.explanation(row)
            assert isinstance(actual, AnswerExplanation)
            assert actual.method["name"] == "occlusion"
            data, whole = actual.to_json(), expected.to_json()
            assert data["warnings"][-1].startswith("the model is explained as it is served (") or actual.server
            for name in ("warnings", "server"):  # what the server was asked depends on the rows before
                del data[name], whole[name]
            assert data == whole
            assert actual.server is not None
            assert actual.server["way"] == "grammar"
    assert job.check() == []
    assert job.chunk_size == 8
    assert job.manifest.errors == 1
    (error,) = [row["error"] for row in job.rows(["error"]) if row["error"]]
    assert "the server of 'toy' refuses the request (status 400:" in error


def test_rows_have_the_scores_of_words(table: Path) -> None:
    with serving() as served:
        job = job_of(served, table, loading={"sources": "all"})
        generator = nibt.load_generator(f"{served.address}/v1", **LOADING | {"sources": "all"})
        expected = nibt.explain_answer(generator, table.parent / "0.png", PROMPT)
    actual = job.explanation(0)
    assert isinstance(actual, AnswerExplanation)
    assert actual.target["options"]["narrow"] == ["image", "prompt", "earlier"]
    for word, same in zip(actual.words, expected.words, strict=True):
        assert word.prompt.abs().max() > 0
        assert torch.equal(word.prompt, same.prompt)
        assert torch.equal(word.earlier, same.earlier)


def test_a_job_resumes_after_the_server_went_away(table: Path) -> None:
    with serving(lasts=FINGERPRINT + FIRST + 1 + 3) as served:
        with pytest.raises(ServerFailed, match="refuses access"):
            job_of(served, table, chunk_size=1)
        started = nibt.Job.open(table.parent / "job")
        assert len(started.chunks()) == 2
        assert started.manifest.rows is None
        served.lasts = 1_000_000
        resumed = job_of(served, table, chunk_size=1)
        whole = job_of(served, table, "whole", chunk_size=1)
    assert resumed.check() == []
    for row in (0, 2, 3):
        one, other = resumed.explanation(row), whole.explanation(row)
        assert torch.equal(one.table, other.table)  # pyright: ignore
    assert resumed.manifest.rows == 4


def test_a_limit_of_requests_ends_a_job_which_resumes(table: Path) -> None:
    with serving() as served:
        with pytest.raises(ServerFailed, match="take about 6 more requests, and the limit of 20 leaves 1"):
            job_of(served, table, chunk_size=1, loading={"requests": FINGERPRINT + FIRST + 1 + 3})
        assert len(nibt.Job.open(table.parent / "job").chunks()) == 2
        assert job_of(served, table, chunk_size=1, loading={"requests": 60}).check() == []


def test_another_model_under_the_same_name_is_refused_and_noise_is_not(table: Path) -> None:
    with serving(noise=0.03, lasts=FINGERPRINT + FIRST + 4) as served:
        with pytest.raises(ServerFailed):
            job_of(served, table, chunk_size=1)
    with serving(same=0) as served:
        with pytest.raises(
            OtherRequest, match=r"has the results of another model under the name 'toy' .* by (1|0\.\d+) nats"
        ):
            job_of(served, table, chunk_size=1)
    with serving(noise=0.05) as served:
        assert job_of(served, table, chunk_size=1).check() == []


def test_files_of_a_job_have_neither_the_key_nor_the_address(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with serving(lasts=FINGERPRINT + FIRST + 1 + 3) as served:
        with pytest.raises(ServerFailed):
            job_of(served, table, chunk_size=1, loading={"key_env": "TOY_KEY"})
        files = [path for path in (table.parent / "job").rglob("*") if path.is_file()]
        assert len(files) > 2
        for path in files:
            assert KEY.encode() not in path.read_bytes()
            assert served.address.partition("//")[2].encode() not in path.read_bytes()
    session = nibt.Job.open(table.parent / "job").manifest.sessions[-1]
    assert str(session["ended"]).startswith("ServerFailed: the server of 'toy' refuses access")


def test_a_server_that_refuses_all_rows_ends_a_job(tmp_path: Path) -> None:
    picture().save(tmp_path / "0.png")
    (tmp_path / "rows.csv").write_text("image,prompt\n" + "0.png,please refuse this\n" * 20)
    with serving() as served:
        with pytest.raises(ServerFailed, match="this is refused"):
            job_of(served, tmp_path / "rows.csv")
        assert len(served.requests) == FINGERPRINT + 8


@pytest.mark.parametrize(
    ("loading", "options", "error", "message"),
    [
        ({"name": None}, {}, BadOption, "the name of the model on the server is missing"),
        ({"Name": "x"}, {}, UnknownName, "unknown loading option 'Name'"),
        ({}, {"method": "nib"}, Unsupported, "nib needs the weights of the model"),
        ({"tries": 1}, {}, ServerFailed, "the server of 'toy' cannot be reached"),
    ],
)
def test_what_no_row_can_have_is_refused_at_first(
    table: Path, loading: dict[str, Any], options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        nibt.batch(ADDRESS, table, table.parent / "job", loading={**LOADING, **loading}, **options)
    assert not (table.parent / "job").exists()


def test_rows_are_compared_with_a_word(table: Path) -> None:
    with serving() as served:
        job = job_of(served, table, against="runner-up")
        generator = nibt.load_generator(f"{served.address}/v1", **LOADING)
        expected = nibt.explain_answer(generator, table.parent / "0.png", PROMPT, against="runner-up")
    actual = job.explanation(0)
    assert isinstance(actual, AnswerExplanation)
    assert actual.target == expected.target
    assert torch.equal(actual.table, expected.table)


def test_rows_of_captions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image,caption\nsample:scene,a cat\n")
    with pytest.raises(BadInput, match="a generator behind a server answers prompts, and the rows have captions"):
        nibt.batch(ADDRESS, tmp_path / "rows.csv", tmp_path / "job", loading=LOADING)


def test_the_command_explains_rows(run: Run, table: Path) -> None:
    with serving() as served:
        server = ["--server", f"{served.address}/v1", "-m", "toy", "--load", "image_size=32", "--load", "cells=2"]
        code, out, err = run("batch", table, *server, "-o", "job", "--requests", "100")
        assert code == 0, err
        assert "4 rows written, 1 failed" in out
        code, _, err = run("batch", table, *server, "-o", "other", "--requests", "20")
        assert code == 1
        assert "more requests, and the limit of 20 leaves" in err
    code, _, err = run("show", "job", "0", "-o", "0.json")
    assert code == 0, err
    assert json.loads(Path("0.json").read_text())["server"]["way"] == "grammar"
    code, _, err = run("batch", table, "-o", "third", "--requests", "20")
    assert code == 2
    assert "--key-env, --requests and --tokens are for a model behind a server" in err
