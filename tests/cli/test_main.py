"""Tests of ``nibt.cli.main``."""

import os
import platform
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from nibt import __version__
from nibt.cli.main import _EXAMPLES, app
from tests.helpers import Run


def test_version_is_printed(run: Run) -> None:
    assert run("--version")[:2] == (0, f"nibt {__version__}\n")


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "nibt", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"nibt {__version__}\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has its mallopt")
def test_the_command_keeps_freed_memory_unless_the_environment_sets_it() -> None:
    tensors = "for _ in range(8): torch.ones(2**24)"  # 64 MB each
    script = (
        "import resource, torch; from nibt.cli.main import _keep_freed_memory; _keep_freed_memory(); "
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt; torch.ones(2**24); before = faults()\n"
        f"{tensors}\nprint(faults() - before)"
    )

    def faults(**environment: str) -> int:
        run = partial(subprocess.run, capture_output=True, text=True, check=True)
        unset = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        return int(run([sys.executable, "-c", script], env={**unset, **environment}).stdout)

    assert 10 * faults() < faults(MALLOC_TRIM_THRESHOLD_="131072")


MISSING = {
    ("explain", "none.png", "a cat"): "there is no image 'none.png': no such file",
    ("explain", "sample:scene", "--labels", "none.txt"): "as lines of text (No such file or directory): give a text",
    ("explain", "sample:scene", "--labels", "folder"): "as lines of text (Is a directory): give a text",
    ("batch", "none.csv", "--out", "JOB"): "there are no pairs in 'none.csv': no such file or folder",
    ("audit", "none.csv", "-m", "scenes"): "there are no pairs in 'none.csv': no such file or folder",
    ("roar", "none.csv", "-m", "scenes", "--out", "RUN"): "there are no pairs in 'none.csv': no such file or folder",
    ("explain", "sample:scene", "a cat", "-m", "none"): "there is no model 'none'",
    ("explain", "sample:scene", "a cat", "-m", "./none"): "there is no model './none'",
    ("check", "none"): "there is no model 'none'",
    ("answer", "sample:scene", "what", "-m", "none"): "there is no model 'none'",
    ("audit", "-m", "none"): "there is no model 'none'",
    ("serve", "-m", "none"): "there is no model 'none'",
    ("serve", "-m", "lite:256"): "write lite. For images of another size",
    ("explain", "sample:scene", "a cat", "-m", "lite:256"): "write lite. For images of another size",
    ("answer", "none.png", "what", "-m", "scenes_generator"): "there is no image 'none.png'",
    ("calibrate", "none.png", "-m", "scenes", "-o", "x.safetensors"): "there is no image 'none.png'",
    ("explain", "sample:scene", "a cat", "--against", "none.png"): "there is no image 'none.png'",
    ("explain", "sample:scene", "a cat", "--replace", "none.txt"): "'none.txt' cannot be read as lines of text",
    ("explain", "sample:scene", " "): "the caption is blank",
    ("explain", "sample:scene", "a cat", "--replace", "dog=owl"): "'dog' is not in the caption",
    ("explain", "sample:scene", "a cat", "-m", "scenes", "--against", "a cat"): "is compared with itself",
    ("explain", "sample:scene", "a cat", "a cat", "--rank"): "the label 'a cat' occurs twice",
    ("explain", "sample:scene", "a cat", "-m", "scenes", *("--against", "a dog") * 2): "against has 'a dog' 2 times",
    ("answer", "sample:scene", "what", "-m", "lite"): "writes no text about images",
    ("bench", "none.toml", "--out", "RUN"): "there is no file 'none.toml'",
    ("show", "none"): "there is no folder 'none': give the folder of a job or of a benchmark",
    ("show", "folder"): "'folder' has no job and no benchmark (no manifest.json): give the folder of one",
    ("show", "folder", "0"): "'folder' has no job (it has no manifest.json)",
}
USAGE = {
    ("show", "folder", "-o", "x.json"): "--out and --draw are for a row of a job: give its position",
    ("show", "folder", "-o", "-"): "--out and --draw are for a row of a job: give its position",
    ("show", "folder", "--draw", "style=heatmap"): "--out and --draw are for a row of a job: give its position",
    ("show", "folder", "0", "--verify", "-o", "x.json"): "--out and --draw are for a row of a job",
    ("show", "folder", "0", "--verify"): "--verify checks all rows (got the row 0): leave the row out",
    ("batch", "coco", "--out", "JOB"): "coco needs its folder: give coco:FOLDER",
    ("audit", "coco", "-m", "scenes"): "coco needs its folder: give coco:FOLDER",
    ("explain", "sample:scene", "a cat", "--target", "nope"): "unknown target 'nope'",
    **{
        (command, "nope", *words): "unknown dataset 'nope'"
        for command, words in {
            "batch": ("-m", "scenes", "--out", "JOB"),
            "audit": ("-m", "scenes"),
            "roar": ("-m", "scenes", "--out", "RUN"),
        }.items()
    },
    ("explain", "sample:nope", "a cat"): "unknown sample 'nope'",
    ("answer", "sample:nope", "what", "-m", "scenes_generator"): "unknown sample 'nope'",
    ("calibrate", "sample:nope", "-m", "scenes", "-o", "x.safetensors"): "unknown sample 'nope'",
    ("bench", "nope", "--out", "RUN"): "unknown plan 'nope'",
    ("list", "methods", "nope"): "unknown method 'nope'",
    ("explain", "sample:scene", "a cat", "--method", "nope"): "unknown method 'nope'",
    ("explain", "sample:scene", "a cat", "--method", "nib:nope"): "unknown variant 'nope'",
    ("explain", "sample:scene", "a cat", "--load", "nope=1"): "unknown --load option 'nope'",
    ("explain", "sample:scene", "a cat", "--draw", "nope=1"): "unknown --draw option 'nope'",
    ("explain", "sample:scene", "a cat", "-o", "x.nope"): "must end in the name of a format",
    ("explain", "sample:scene", "a cat", "--method", "nib steps=x"): "steps must be a whole number",
    ("explain", "sample:scene", "a cat", "--draw", "threshold=9"): "threshold must be above 0",
    ("explain", "sample:scene", "a cat", "--batch-size", "0"): "batch_size must be between",
    ("explain", "sample:scene", "a cat", "--template", "a {"): "a template must be a text that contains {} once",
    ("answer", "sample:scene", "what", "-m", "scenes_generator", "--max-words", "0"): "max_words must be between",
    ("serve", "--port", "0"): "port must be between",
    ("explain", "sample:scene"): "the caption is missing",
    ("audit",): "the model is missing: give it with -m, as in -m scenes",
    ("roar",): "the model is missing: give it with -m, as in -m scenes",
    ("calibrate",): "the model is missing: give it with -m, as in -m scenes",
    ("answer", "sample:scene", "what"): "the generator is missing: give it with -m",
}


@pytest.mark.parametrize(("arguments", "message"), [*MISSING.items(), *USAGE.items()])
def test_missing_inputs_exit_with_1_and_wrong_usage_with_2(arguments: tuple[str, ...], message: str, run: Run) -> None:
    Path("folder").mkdir()
    code, _, err = run(*arguments)
    assert code == (1 if arguments in MISSING else 2)
    assert message in err.splitlines()[-1]
    assert "Errno" not in err


@pytest.mark.needs("generators")
def test_a_generator_has_no_caption_to_explain(run: Run) -> None:
    code, _, err = run("explain", "sample:scene", "a cat", "-m", "scenes_generator")
    assert code == 1
    assert "writes text about images" in err.splitlines()[-1]


@pytest.mark.parametrize("command", _EXAMPLES)
def test_examples_in_the_help_can_be_parsed(command: Any) -> None:
    group: Any = typer.main.get_command(app)
    for example in _EXAMPLES[command]:
        if not example.startswith("nibt"):
            continue
        program, name, *arguments = shlex.split(example)
        assert (program, name) == ("nibt", command.__name__)
        assert group.commands[name].make_context(name, arguments).params


# that of slide is for a slide and a model of the user
_COMPLETE = [command for command, examples in _EXAMPLES.items() if "MODEL" not in " ".join(examples)]


@pytest.mark.slow
@pytest.mark.parametrize("command", _COMPLETE)
def test_examples_in_the_help_run_in_an_empty_folder(command: Any, tmp_path: Path) -> None:
    for example in _EXAMPLES[command]:
        line = f'nibt() {{ {shlex.quote(sys.executable)} -m nibt "$@"; }}; {example}'
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("explain", "a cat"), ("regions", "a cat"), ("answer", "what is it?")])
@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("nib steps=x", "nibt: steps must be a whole number (got 'x')"),
        ("nib image_views=99", "nibt: image_views must be between 1 and 16 (got 99)"),
        ("nib step=3", "nibt: unknown option 'step'. Did you mean 'steps'?"),
        ("nib:papers", "nibt: unknown variant 'papers'. Did you mean 'paper'?"),
    ],
)
def test_options_of_a_method_are_checked_before_a_model_is_loaded(
    run: Run, command: tuple[str, str], method: str, message: str
) -> None:
    name, text = command
    code, _, err = run(name, "sample:scene", text, "-m", "no-such-model", "--method", method)
    assert (code, err.startswith(message)) == (2, True), err
