"""Tests of ``nibt.cli.roar``."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from nibt.results.roar import Roar
from tests.helpers import check_page


def test_roar_writes_reports_and_rejects_bad_arguments(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    arguments = (
        "roar",
        "scenes",
        "scenes",
        "--count",
        12,
        "--method",
        "ones",
        "--repeats",
        1,
        "--epochs",
        1,
        "--remove",
        "both",
        "--learning-rate",
        "features=1e-4",
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
    code, _, errors = run(*[2 if before == "--epochs" else word for before, word in pairwise(("", *arguments))])
    assert (code, "settings.epochs: 1 (now 2)" in errors) == (2, True)
    for wrong, message in (
        (("--learning-rate", "x"), "must be a number"),
        (("--trainable", "all"), "features, last, whole"),
    ):
        code, _, errors = run("roar", "scenes", "--out", "NEW", "--count", 12, *wrong)
        assert (code, message in errors) == (2, True), errors
    code, _, errors = run("roar", "scenes")
    assert (code, "--out RUN" in errors) == (2, True)
