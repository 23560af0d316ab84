"""Tests of ``nibt.evaluation.bench.paper``."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.cli import main
from nibt.errors import BadInput, BadOption, WouldOverwrite
from tests.helpers import file_digests

pytest.importorskip("pyarrow", reason="a benchmark is stored in Parquet files")

PLAN: dict[str, Any] = {
    "models": ["scenes"],
    "methods": ["nib", {"name": "gae", "options": {"views": 3}, "label": "50 % of_x & $y^2~{z}\\"}],
    "data": [{"name": "scenes", "options": {"count": 4, "seed": 1}}],
    "metrics": ["average_precision", "completeness_gap"],
    "sides": ["image"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its paper."""
    folder = tmp_path_factory.mktemp("paper") / "RUN"
    nibt.write_paper(nibt.benchmark(PLAN, folder))
    return folder


def test_the_paragraph_states_what_the_run_recorded(folder: Path) -> None:
    text = (folder / "paper.tex").read_text()
    run = nibt.evaluation.bench.run.Benchmark.open(folder)
    model = run.manifest.models["scenes"]["model"]
    nib = json.loads(run.frame().query("method == 'nib'").resolved.iloc[0])
    assert rf"\texttt{{{model['weights_hash']}}}, float32 on cpu" in text
    assert (
        rf"nib~\cite{{zhu2025narrowing}} (layer {nib['layer'][0]}, steps {nib['steps']}, quadrature "
        f"{nib['quadrature']}, baseline {nib['baseline']}, views {nib['views']})"
    ) in text
    assert "We explained the cosine of 4 pairs of scenes with nibt" in text
    assert "No pair failed." in text
    assert "Wilcoxon's signed-rank test" in text
    assert "Holm's correction" in text


def test_each_citation_has_an_entry_and_each_reference_a_label(folder: Path) -> None:
    text = (folder / "paper.tex").read_text()
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", text) for key in keys.split(",")}
    assert cited == set(re.findall(r"^@\w+\{(\w+),", (folder / "paper.bib").read_text(), re.M))
    assert set(re.findall(r"\\ref\{([^}]*)\}", text)) <= set(re.findall(r"\\label\{([^}]*)\}", text))
    assert all((folder / name).exists() for name in re.findall(r"\\includegraphics\{([^}]*)\}", text))


def test_labels_of_users_are_no_commands_of_latex(folder: Path) -> None:
    text = (folder / "paper.tex").read_text()
    escaped = r"50 \% of\_x \& \$y\textasciicircum{}2\textasciitilde{}\{z\}\textbackslash{}"
    assert escaped in text
    assert "of_x" not in text


def test_a_star_in_the_table_is_explained_below_it(folder: Path) -> None:
    text = (folder / "paper.tex").read_text()
    table = text[text.index(r"\begin{table*}") : text.index(r"\end{table*}")]
    assert "A star marks a difference from the base method, nib, at 0.05" in table
    assert "Means over pairs; in square brackets, their 95 \\% intervals" in table


@pytest.mark.parametrize(("metrics", "width"), [(["average_precision"], 3.25), (PLAN["metrics"], 6.75)])
def test_a_figure_is_as_wide_as_a_column_or_a_page_with_its_text_as_text(
    tmp_path: Path, metrics: list[str], width: float
) -> None:
    nibt.write_paper(nibt.benchmark({**PLAN, "methods": ["ones"], "metrics": metrics}, tmp_path / "RUN"))
    pdf = (tmp_path / "RUN" / "paper-1.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * width)
    assert b"/FontFile2" in pdf, "a TrueType font, whose text can be searched"
    assert b"STIXGeneral" in pdf
    assert b"CreationDate" not in pdf


def test_the_same_run_has_the_same_files_and_edited_ones_are_kept(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "RUN")
    before = file_digests(tmp_path / "RUN")
    nibt.write_paper(tmp_path / "RUN")
    assert {name: digest for name, digest in file_digests(tmp_path / "RUN").items() if "manifest" not in name} == {
        name: digest for name, digest in before.items() if "manifest" not in name
    }

    (tmp_path / "RUN" / "paper.tex").write_text("mine")
    with pytest.raises(WouldOverwrite, match=r"paper\.tex was edited"):
        nibt.write_paper(tmp_path / "RUN")
    assert (tmp_path / "RUN" / "paper.tex").read_text() == "mine"
    assert nibt.write_paper(tmp_path / "RUN", overwrite=True)
    with pytest.raises(BadOption, match="base must be one of"):
        nibt.write_paper(tmp_path / "RUN", base="rise", overwrite=True)


def test_the_command_writes_it_for_a_benchmark_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["show", str(folder), "--paper"])
    assert not exit.value.code
    assert "paper-1.pdf" in capsys.readouterr().err

    (tmp_path / "pairs.csv").write_text("image,caption\nsample:scene,a cat\n")
    nibt.batch("scenes", tmp_path / "pairs.csv", tmp_path / "JOB", method="ones")
    with pytest.raises(SystemExit) as exit:
        main(["show", str(tmp_path / "JOB"), "--paper"])
    assert exit.value.code == 2
    assert "--paper is for a run of nibt bench" in capsys.readouterr().err


@pytest.mark.slow
def test_the_paragraph_says_what_differs_from_what_was_asked(tmp_path: Path) -> None:
    plan = {
        "models": ["scenes"],
        "methods": ["nib", {"name": "occlusion", "count": 1}, {"name": "rise", "options": {"masks": 4}}],
        "data": [{"name": "scenes", "options": {"count": 2}}],
        "metrics": ["sparseness"],
        "targets": ["softmax"],
        "against": ["a dog"],
        "seeds": [3],
    }
    nibt.write_paper(nibt.benchmark(plan, tmp_path / "RUN"))
    text = (tmp_path / "RUN" / "paper.tex").read_text()
    assert "Captions were compared with 'a dog'." in text
    assert "For captions, cosine was explained in place of softmax, which had nothing to compare with." in text
    assert "For images" not in text
    assert "The methods have values of different numbers of pairs, at most: nib 2, occlusion 1" in text
    assert "Methods that draw at random had the seed 3." in text
    report = nibt.write_report(tmp_path / "RUN")
    images, captions = report.split("## scenes with scenes, softmax, text")
    assert "This side is explained with cosine" in captions.split("## ")[0]
    assert "This side is explained with" not in images


def test_failed_pairs_are_those_of_their_method(pairs_folder: Path, tmp_path: Path) -> None:
    data = {"name": "folder", "options": {"folder": str(pairs_folder)}}
    nibt.write_paper(nibt.benchmark({**PLAN, "data": [data], "metrics": ["sparseness"]}, tmp_path / "RUN"))
    text = (tmp_path / "RUN" / "paper.tex").read_text()
    assert "Pairs that failed, at most: nib 1," in text
    assert "No pair failed" not in text


def test_nothing_is_written_of_a_run_without_results(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "RUN")
    shutil.rmtree(tmp_path / "RUN" / "parts")
    (tmp_path / "RUN" / "paper.tex").unlink()
    with pytest.raises(BadInput, match="nothing is measured yet"):
        nibt.write_paper(tmp_path / "RUN")
    assert not (tmp_path / "RUN" / "paper.tex").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not part of the tools of developers")
def test_latex_reads_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "RUN")
    lines = [
        r"\documentclass[twocolumn]{article}",
        r"\usepackage{booktabs,graphicx}",
        r"\begin{document}",
        r"\input{paper}",
        r"\bibliographystyle{plain}\bibliography{paper}",
        r"\end{document}",
    ]
    (tmp_path / "RUN" / "document.tex").write_text("\n".join(lines))
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document"]
    for command in (latex, ["bibtex", "document"], latex, latex):
        result = subprocess.run(command, cwd=tmp_path / "RUN", capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout
    assert "undefined" not in result.stdout
    assert "Warning" not in (tmp_path / "RUN" / "document.blg").read_text()
