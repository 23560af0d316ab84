"""Tests of ``nibt.cli.commands.list``."""

import tomllib

import pytest

from nibt.registry import available, find, summary
from tests.helpers import Run

METRICS = pytest.param("metrics", marks=pytest.mark.needs("lab"))


@pytest.mark.parametrize("kind", ["methods", "models", "targets", METRICS, "datasets", "samples"])
def test_list_names_the_parts(run: Run, kind: str) -> None:
    code, out, _ = run("list", kind)
    assert code == 0
    expected = {
        "methods": "nib",
        "models": "openai/clip-vit-base-patch32",
        "targets": "cosine",
        "metrics": "deletion",
        "datasets": "scenes",
        "samples": "sample:chelsea",
    }
    assert expected[kind] in out


def test_list_describes_methods(run: Run) -> None:
    code, out, _ = run("list", "methods")
    assert code == 0
    heading, *lines = out.splitlines()
    assert heading.split()[:4] == ["method", "sides", "needs", "variants"]
    assert [line.split()[0] for line in lines] == available("methods")
    for line, name in zip(lines, available("methods"), strict=True):
        kind = find("methods", name)
        for text in (*kind.sides, *(kind.needs or "-"), *kind.variants, kind.cost, kind.paper):
            assert text in line, name


def test_list_describes_data_sets(capsys: pytest.CaptureFixture[str]) -> None:
    from nibt.cli.main import main

    with pytest.raises(SystemExit):
        main(["list", "datasets"])
    text = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in text] == available("datasets")
    assert all(line.endswith(f"   {summary('datasets', line.split()[0])}") for line in text)


def test_list_describes_a_variant(run: Run) -> None:
    code, out, _ = run("list", "methods", "nib:paper")
    _, plain, _ = run("list", "methods", "nib")
    assert code == 0
    assert out != plain
    assert "quadrature, default riemann" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("methods", "nib:papper"), "unknown variant 'papper'. Did you mean 'paper'"),
        pytest.param(
            ("metrics", "deletion:x"),
            "metrics have no variants (got deletion:x): write nibt list metrics deletion",
            marks=pytest.mark.needs("lab"),
        ),
        (("targets", "softmax:x"), "targets have no variants"),
        (("models", "lite"), "lite is a model that ships with nibt, and no family of models: see nibt check lite"),
    ],
)
def test_list_says_what_to_write(words: tuple[str, str], message: str, run: Run) -> None:
    code, _, err = run("list", *words)
    assert code == 2
    assert message in err


@pytest.mark.needs("lab")
def test_list_shows_the_file_of_a_plan(run: Run) -> None:
    code, out, _ = run("list", "plans", "quick")
    assert code == 0
    assert tomllib.loads(out)["about"] in run("list", "plans")[1]
    code, _, err = run("list", "plans", "quik")
    assert code == 2
    assert "unknown plan 'quik'. Did you mean 'quick'?" in err
