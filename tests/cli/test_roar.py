"""Tests of ``nibt.cli.commands.evaluation``."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nibt.results.roar import Roar
from tests.helpers import check_page


@pytest.mark.slow
def test_roar_writes_reports_and_rejects_bad_arguments(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    arguments = (
        "roar",
        "scenes",
        "-m",
        "scenes",
        "--count",
        12,
        "--method",
        "ones",
        "--repeats",
        1,
        "--train",
        "epochs=1",
        "--side",
        "both",
        "--train",
        "learning_rate.features=1e-4",
        "--out",
        "RUN",
    )
    code, out, _ = run(*arguments)
    assert code == 0
    assert "Trainable features" in out
    assert "0.0001" in out
    for name in ("report.md", "report.html", "result.json", "manifest.json"):
        assert (Path("RUN") / name).is_file()
    assert "://" not in check_page(Path("RUN/report.html").read_text())
    assert Roar.load("RUN/result.json").data["pairs"] == 12
    code, _, errors = run(*["epochs=2" if word == "epochs=1" else word for word in arguments])
    assert (code, "settings.epochs: 1 (now 2)" in errors) == (2, True)
    for wrong, message in (
        (("--train", "learning_rate=x"), "must be a number"),
        (("--train", "epoch=1"), "Did you mean 'epochs'"),
        (("--train", "learning_rate=1", "--train", "learning_rate.last=1"), "leave one of them out"),
        (("--dtype", "float16"), "must be float32"),
        (("--trainable", "all"), "features, last, whole"),
    ):
        code, _, errors = run("roar", "scenes", "-m", "scenes", "--out", "NEW", "--count", 12, *wrong)
        assert (code, message in errors) == (2, True), errors
    assert "the model is missing" in run("roar", "scenes", "--out", "NEW")[2]
    code, _, errors = run("roar", "scenes", "-m", "scenes")
    assert (code, "--out RUN" in errors) == (2, True)
