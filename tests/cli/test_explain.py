"""Tests of ``nibt.cli.commands.explain``."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.errors import CannotWrite
from nibt.formats.json import to_coco
from nibt.results.explanation import Explanation
from tests import tiny
from tests.helpers import Run, list_folder, noise_pairs
from tests.suites import few


def test_explain_writes_an_image_and_a_json_file(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, _ = run("explain", photo, "a red cat", "-m", clip_folder)
    assert code == 0
    assert list_folder() == ["photo-a-red-cat.clip.json", "photo-a-red-cat.clip.png"]
    data = json.loads(Path("photo-a-red-cat.clip.json").read_text())
    assert data["schema"] == 4
    assert [word["text"] for word in data["sides"]["text"]["words"]] == ["a", "red", "cat"]
    assert np.array(data["sides"]["image"]["grid"]).shape == (12, 12)  # three views of 4 x 4 patches
    assert data["sides"]["image"]["region"] == pytest.approx([15, 0, 60, 60])
    assert any("cropped" in warning for warning in data["warnings"])
    path = data["sides"]["image"]["path"]
    assert path["sum"] + path["at_baseline"] + path["gap"] == pytest.approx(path["at_input"], abs=1e-6)
    assert out.splitlines()[-1] == "wrote photo-a-red-cat.clip.png, photo-a-red-cat.clip.json"


def test_page_of_amounts_by_removal_has_the_table_of_the_method(run: Run, photo: Path, clip_folder: Path) -> None:
    code, _, err = run(
        "explain", photo, "a cat", "-m", clip_folder, "--method", "nib amounts=removal", "-o", "page.html"
    )
    assert code == 0, err
    assert "amounts by removal" in Path("page.html").read_text(encoding="utf-8")


def test_explain_writes_json_to_standard_output(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, err = run("explain", photo, "a cat", "two cars", "-m", clip_folder, "-o", "-")
    assert code == 0
    assert [entry["sides"]["text"]["caption"] for entry in json.loads(out)] == ["a cat", "two cars"]
    assert "wrote" not in err
    assert "The model is" not in err
    assert list_folder() == []


def test_explain_writes_a_file_for_each_pair_or_one_for_all(run: Run, photo: Path, clip_folder: Path) -> None:
    Path("out").mkdir()
    outputs = "-o", "out/{stem}.png", "-o", "out/all.json", "-o", "all.png"
    code, _, _ = run("explain", photo, photo, "a cat", "two cars", "-m", clip_folder, *outputs, "-q")
    assert code == 0
    assert len(json.loads(Path("out/all.json").read_text())) == 4
    names = sorted(path.stem for path in Path("out").glob("*.png"))
    assert names == [f"photo-{name}" for name in ("a-cat", "a-cat-2", "two-cars", "two-cars-2")]
    with Image.open("out/photo-a-cat.png") as single, Image.open("all.png") as stacked:
        assert stacked.height > 4 * single.height


def test_explain_writes_where_the_options_say(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, _ = run(
        "explain",
        photo,
        "a cat",
        "-m",
        clip_folder,
        *("-o", "x.jpg", "-o", "y.json", "-o", "x.map.png", "-o", "x.mask.png", "-o", "x.overlay.png", "-o", "x.tif"),
        *("--draw", "threshold=0.3", "--draw", "positive_only=true", "-q"),
    )
    assert code == 0
    assert out == ""
    assert list_folder() == ["x.jpg", "x.map.png", "x.mask.png", "x.overlay.png", "x.tif", "y.json"]
    for name in ("map.png", "mask.png", "overlay.png", "tif"):
        with Image.open(f"x.{name}") as picture:
            assert picture.size == (90, 60)
    share = {}
    for threshold in ("0.1", "0.9"):
        run("explain", photo, "a cat", "-m", clip_folder, "-o", "x.mask.png", "--draw", f"threshold={threshold}")
        share[threshold] = np.asarray(Image.open("x.mask.png")).mean()
    assert share["0.1"] > share["0.9"]


def test_explain_writes_boxes_of_all_pairs(run: Run, photo: Path, clip_folder: Path) -> None:
    arguments = "explain", photo, "a cat", "a dog", "-m", clip_folder, "-o", "b.coco.json"
    code, out, _ = run(*arguments, "--draw", "threshold=0.4", "-o", "all.json")
    assert code == 0
    assert "b.coco.json" in out
    data = json.loads(Path("b.coco.json").read_text())
    explanations = [Explanation.from_json(one) for one in json.loads(Path("all.json").read_text())]
    assert {key: value for key, value in data.items() if key != "signature"} == to_coco(explanations, 0.4)
    assert [one["name"] for one in data["categories"]] == ["a cat", "a dog"]
    assert len(data["images"]) == 1
    assert len(data["annotations"]) > 1


def test_explain_passes_options_to_the_method(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, _ = run(
        "explain",
        photo,
        "a cat",
        "-m",
        clip_folder,
        "-o",
        "-",
        "--method",
        "nib image-layer=1,2 steps=3 text_steps=5 baseline=zero quadrature=geometric floor=0.2",
        "--target",
        "softmax",
        "--against",
        "two cars",
    )
    assert code == 0
    data = json.loads(out)
    assert data["method"]["image"] == {
        "layer": [1, 2],
        "baseline": "zero",
        "quadrature": "geometric",
        "steps": 3,
        "floor": 0.2,
        "tolerance": None,
        "distribute": False,
        "views": 3,
        "amounts": "method",
        "noise": "none",
        "deviation": 1.0,
        "samples": 10,
        "seed": 0,
    }
    assert data["method"]["text"]["steps"] == 5
    assert data["target"]["options"]["against"] == ["two cars"]


def test_explain_ranks_labels(run: Run, photo: Path, clip_folder: Path) -> None:
    Path("labels.txt").write_text("a cat\n\ntwo cars\nblue sky\n")
    code, out, _ = run("explain", photo, "--labels", "labels.txt", "-m", clip_folder, "-o", "x.png", "-o", "x.json")
    assert code == 0
    ranking = json.loads(Path("x.json").read_text())["ranking"]
    assert len(ranking) == 3
    assert out.index(ranking[0]["label"]) < out.index(ranking[2]["label"])


@pytest.mark.parametrize(
    ("words", "captions"),
    [
        ("dog,bird", {"a cat", "a dog", "a bird"}),
        pytest.param("words.txt", {"a cat", "a dog", "a bird"}, marks=pytest.mark.slow),
        ("cat=dog", {"a cat", "a dog"}),
        pytest.param("a=the,two", {"a cat", "the cat", "two cat"}, marks=pytest.mark.slow),
        pytest.param("cat = dog, ,", {"a cat", "a dog"}, marks=pytest.mark.slow),
        ("auto", None),
        pytest.param("cat=auto", None, marks=pytest.mark.slow),
    ],
)
def test_explain_replaces_words(
    run: Run, photo: Path, clip_folder: Path, words: str, captions: set[str] | None
) -> None:
    """The table is in the terminal and in the JSON file, and the target is the difference from one of its rows."""
    Path("words.txt").write_text("dog\n\nbird\ndog\n")
    Path("dog").mkdir()  # which is no list
    outputs = "-o", "x.png", "-o", "x.json", "-o", "x.html"
    code, out, err = run("explain", photo, "a cat", "--replace", words, "-m", clip_folder, *outputs)
    assert code == 0, err
    explanation = Explanation.load("x.json")
    cosines = {each.label: each.similarity for each in explanation.ranking}
    assert captions is None or cosines.keys() == captions
    assert all(f"{caption} " in out for caption in cosines)
    assert "a cat" in cosines
    other = max(cosines, key=lambda caption: abs(cosines[caption] - cosines["a cat"]))
    assert explanation.against.source == other
    assert explanation.target["value"] == pytest.approx(cosines["a cat"] - cosines[other], abs=1e-5)
    assert Path("words.txt").read_text() == "dog\n\nbird\ndog\n"


@pytest.mark.parametrize(
    ("line", "error"), [("dog,fox", "one word per line"), ("cat=dog", "one word per line"), ("", "no")]
)
def test_a_file_of_replacements_has_one_per_line(run: Run, photo: Path, line: str, error: str) -> None:
    Path("words.txt").write_text(f"{line}\n")
    code, _, err = run("explain", photo, "a cat", "--replace", "words.txt", "-m", "scenes")
    assert code == 1
    assert f"words.txt {'must have' if line else 'has'} {error}" in err


@pytest.mark.slow
def test_each_image_and_caption_has_its_replacements(run: Run, photo: Path, clip_folder: Path) -> None:
    code, _, err = run("explain", photo, "a cat", "two cars", "--replace", "dog", "-m", clip_folder)
    assert code == 0, err
    (name,) = (name for name in list_folder() if name.endswith("replace-dog.json"))
    explanations = json.loads(Path(name).read_text())
    assert [each["sides"]["against"]["caption"] for each in explanations] == ["a dog", "two dog"]


def test_check_says_in_the_terminal_the_json_and_the_page_whether_the_map_can_be_trusted(
    run: Run, photo: Path, clip_folder: Path
) -> None:
    inputs = "explain", photo, "a cat", "-m", clip_folder, "--method", "ones", "--check"
    code, out, err = run(*inputs, "-o", "x.json", "-o", "x.html")
    assert code == 0, err
    checks = json.loads(Path("x.json").read_text())["checks"]
    assert [check["name"] for check in checks] == ["weights", "mismatch_image", "top_region"]
    assert checks[0]["verdict"] == "fail"
    page = Path("x.html").read_text(encoding="utf-8")
    for text in ("ith random weights, the map is almost the same (rank correlation 1.00)", checks[2]["about"][1:]):
        assert text in out
        assert text in page
    code, _, err = run(*inputs, "--target", "logit")
    assert code == 2
    assert "--check checks the map of an image for the cosine" in err


@pytest.mark.slow
@pytest.mark.parametrize("caption", few(["a red\ncat", "a cat\n", "a\tcat\r\n"], ["a\tcat\r\n"]))
def test_a_caption_may_have_line_breaks(run: Run, photo: Path, clip_folder: Path, caption: str) -> None:
    for command in ("explain", "regions"):
        code, out, _ = run(command, photo, caption, "-m", clip_folder, "--method", "nib steps=1")
        assert code == 0
        assert "wrote" in out
    assert len(list_folder()) == 4
    written = [path for path in Path().glob("*.json") if "regions" not in path.name]
    assert json.loads(written[0].read_text())["sides"]["text"]["caption"] == caption


def test_a_call_writes_all_its_files_or_none(
    run: Run, photo: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CannotWrite("the disk is full")

    monkeypatch.setattr("nibt.formats.json.Json.encode", fail)
    outputs = "-o", "m.map.png", "-o", "m.png", "-o", "m.json"
    code, _, err = run("explain", photo, "a cat", "-m", clip_folder, "--method", "nib steps=1", *outputs)
    assert (code, err.count("\n")) == (1, 1)
    assert list_folder() == []


def test_names_of_files_do_not_control_the_terminal(run: Run, photo: Path, clip_folder: Path) -> None:
    sequence = "\x1b]0;title\x07\x1b[2J"
    named = photo.rename(photo.with_name(f"a{sequence}.png"))
    Path("labels.txt").write_text(f"a{sequence} cat\n[/red] dog\n")
    code, out, err = run("explain", named, "--labels", "labels.txt", "-m", clip_folder, "-o", f"x{sequence}.png")
    assert code == 0
    assert not {"\x1b", "\x07"} & {*out, *err}
    assert r"\x1b]0;title\x07" in out
    assert "[/red] dog" in out
    assert len(list_folder()) == 2
    for bad in (
        [f"{sequence}.png", "a cat"],
        [named, "a cat", "--method", f"nib layer={sequence}"],
        [named, f"--{sequence}"],
    ):
        code, out, err = run("explain", *bad)
        assert code != 0
        assert not {"\x1b", "\x07"} & {*out, *err}


def test_a_byte_order_mark_is_no_part_of_a_label(run: Run, photo: Path, clip_folder: Path) -> None:
    cosines = []
    for mark in (b"", b"\xef\xbb\xbf"):
        Path("labels.txt").write_bytes(mark + b"a cat\ntwo cars\n")
        out = run("explain", photo, "--labels", "labels.txt", "-m", clip_folder, "-o", "-", "--method", "nib steps=1")[
            1
        ]
        cosines.append(json.loads(out)["ranking"])
    assert cosines[0] == cosines[1]


def test_explain_takes_along_path(run: Run, photo: Path, clip_folder: Path) -> None:
    command = ["explain", photo, "a cat", "-m", clip_folder, "-o", "-", "--method"]
    along = "grad_cam layer=1 along_path=true"
    code, out, _ = run(*command, f"{along} baseline=zero quadrature=riemann steps=3")
    assert code == 0
    data = json.loads(out)
    assert data["method"]["along_path"] is True
    assert data["method"]["text"] == {
        "layer": [1],
        "weights": "token",
        "baseline": "zero",
        "quadrature": "riemann",
        "steps": 3,
        "floor": 0.1,
        "views": 1,
        "amounts": "method",
    }
    assert data["sides"]["image"]["path"]["steps"] == 3
    assert json.loads(run(*command, along)[1])["method"]["along_path"] is True
    assert "along_path" not in json.loads(run(*command, "grad_cam layer=1")[1])["method"]


BAD = {
    "no caption": (["PHOTO"], 2, "the caption is missing"),
    "blank caption": (["PHOTO", "  "], 1, "blank"),
    "missing image": (["none.png", "a cat"], 1, "no such file"),
    "folder for an image": ([".", "a cat"], 1, "is a folder"),
    "unknown method": (["PHOTO", "a cat", "--method", "nip"], 2, "Did you mean 'nib'"),
    "unknown target": (["PHOTO", "a cat", "--target", "cosin"], 2, "Did you mean 'cosine'"),
    "unknown variant": (["PHOTO", "a cat", "--method", "nib:papers"], 2, "Did you mean 'paper'"),
    "unknown option": (["PHOTO", "a cat", "--method", "nib beta=1"], 2, "unknown option 'beta'"),
    "option without a value": (["PHOTO", "a cat", "--method", "nib beta"], 2, "must be name=value"),
    "layer out of range": (["PHOTO", "a cat", "--method", "nib layer=9"], 2, "layer must be between 0 and 3"),
    "no steps": (["PHOTO", "a cat", "--method", "nib steps=0"], 2, "steps must be between 1 and 1,000"),
    "negative steps": (["PHOTO", "a cat", "--method", "nib steps=-1"], 2, "steps must be between 1 and 1,000"),
    "NaN": (
        ["PHOTO", "a cat", "--method", "nib tolerance=nan"],
        2,
        "tolerance must be a finite number above 0 (got nan)",
    ),
    "no number": (["PHOTO", "a cat", "--method", "nib steps=many"], 2, "steps must be a whole number"),
    "unknown device": (["PHOTO", "a cat", "--device", "gpu"], 2, "device 'gpu' is not available"),
    "unknown dtype": (["PHOTO", "a cat", "--dtype", "int8"], 2, "dtype must be one of"),
    "no such folder": (["PHOTO", "a cat", "-o", "none/x.png"], 1, "does not exist"),
    "no image format": (["PHOTO", "a cat", "-o", "x.txt"], 2, "must end in the name of a format"),
    "a folder": (["PHOTO", "a cat", "-o", "."], 2, "--out must be a file, such as {stem}.png"),
    "no name": (["PHOTO", "a cat", "-o", ".png"], 2, "must end in the name of a format"),
    "one mask for several": (["PHOTO", "a cat", "a dog", "-o", "x.mask.png"], 2, "holds a single result (got 2)"),
    "links of an explanation": (
        ["PHOTO", "a cat", "-o", "x.links.pdf"],
        2,
        "is for word-region tables (got explanations)",
    ),
    "unknown drawing": (["PHOTO", "a cat", "--draw", "styl=outline"], 2, "Did you mean 'style'"),
    "unknown style": (["PHOTO", "a cat", "--draw", "style=outlines"], 2, "style must be overlay"),
    "unknown loading": (["PHOTO", "a cat", "--load", "size=3"], 2, "unknown --load option 'size'"),
    "no such JSON folder": (["PHOTO", "a cat", "-o", "none/x.json"], 1, "does not exist"),
    "threshold": (["PHOTO", "a cat", "-o", "m.mask.png", "--draw", "threshold=2"], 2, "threshold must be above 0"),
    "along no path": (["PHOTO", "a cat", "--method", "rise along_path=true"], 2, "rise cannot go along a path"),
    "path without along": (
        ["PHOTO", "a cat", "--method", "grad_cam quadrature=gauss"],
        2,
        "unknown option 'quadrature'",
    ),
    "no masks": (["PHOTO", "a cat", "--method", "rise masks=0"], 2, "masks must be between 1 and 100,000"),
    "labels and a caption": (
        ["PHOTO", "a cat", "--labels", "l.txt"],
        2,
        "--labels cannot be combined with captions (got 'a cat')",
    ),
    "replace and rank": (
        ["PHOTO", "a cat", "--replace", "auto", "--rank"],
        2,
        "--rank and --replace exclude each other",
    ),
    "replace and labels": (["PHOTO", "--labels", "l.txt", "--replace", "auto"], 2, "--labels and --replace exclude"),
    "replace and compare": (["PHOTO", "--compare", "PHOTO", "--replace", "auto"], 2, "--replace exclude each other"),
    "replace and a check": (
        ["PHOTO", "a cat", "--replace", "dog", "--check"],
        2,
        "leave --compare, --labels, --rank, --rep",
    ),
    "replace and a target": (
        ["PHOTO", "a cat", "--replace", "dog", "--target", "softmax"],
        2,
        "--replace explains the",
    ),
    "replace and against": (["PHOTO", "a cat", "--replace", "dog", "--against", "a dog"], 2, "--replace explains the"),
    "replace and a template": (["PHOTO", "a cat", "--replace", "dog", "--template", "{}"], 2, "--replace explains the"),
    "replace nothing": (["PHOTO", "a cat", "--replace", ""], 2, "--replace must not be empty"),
    "replace two words": (
        ["PHOTO", "a cat", "--replace", "cat=dog,a=the"],
        2,
        "words for one word (got 'cat=dog,a=the'",
    ),
    "replace by nothing": (["PHOTO", "a cat", "--replace", ",,"], 1, "there are no candidates"),
    "replace by a folder": (["PHOTO", "a cat", "--replace", "./"], 1, "cannot be read as lines of text"),
    "replace by a path without a file": (
        ["PHOTO", "a cat", "--replace", "cat=w/x.lst"],
        1,
        "cannot be read as lines of text",
    ),
    "replace by too many words": (["PHOTO", "a cat", "--replace", ",".join(map(str, range(60_000)))], 1, "50,000"),
    "another decisive region": (["PHOTO", "a cat", "--decisive", "half"], 2, "--decisive must be keep or change"),
    "parts of no file": (["PHOTO", "a cat", "--parts", "none.json"], 1, "'none.json' is not a file of kind 'parts'"),
    "replace what is not there": (["PHOTO", "a cat", "--replace", "dog=owl"], 1, "'dog' is not in the caption"),
    "replace without a caption": (["PHOTO", "--replace", "auto"], 2, "the caption is missing"),
    "replace by a missing file": (["PHOTO", "a cat", "--replace", "none.txt"], 1, "cannot be read as lines"),
    "replace function words": (["PHOTO", "this and that", "--replace", "auto"], 1, "no content word to replace"),
    "missing labels": (["PHOTO", "--labels", "none.txt"], 1, "cannot be read as lines"),
    "softmax alone": (["PHOTO", "a cat", "--target", "softmax"], 2, "needs something to compare with"),
    "no such mean": (["PHOTO", "a cat", "--method", "nib baseline=mean:none"], 1, "no file 'none' of mean states"),
    "unknown flag": (["PHOTO", "a cat", "--colour"], 2, "there is no option --colour: files are given by -o"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_explain_reports_a_mistake_in_one_line(run: Run, photo: Path, clip_folder: Path, case: str) -> None:
    arguments, expected, text = BAD[case]
    code, out, err = run("explain", *[photo if word == "PHOTO" else word for word in arguments], "-m", clip_folder)
    assert code == expected, err
    assert text in " ".join(err.split()), err
    assert "Traceback" not in out + err
    assert list_folder() == []


@pytest.mark.parametrize("model", ["no-such-model", "./nowhere", "openai/no-such-clip"])
def test_explain_suggests_models_if_one_cannot_be_loaded(
    run: Run, photo: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, err = run("explain", photo, "a cat", "-m", model)
    assert code == 1
    assert "lite" in err
    assert "local folder" in err
    assert list_folder() == []


def test_explain_leaves_no_file_if_the_disk_is_full(
    run: Run, photo: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as opened:
            opened.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run("explain", photo, "a cat", "-m", clip_folder)
    assert code == 1
    assert "No space left on device" in err
    assert list_folder() == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_explain_reports_a_closed_folder(run: Run, photo: Path, clip_folder: Path) -> None:
    Path("closed").mkdir(mode=0o500)
    code, _, err = run("explain", photo, "a cat", "-m", clip_folder, "-o", "closed/x.png")
    assert code == 1
    assert "is not writable" in err


def test_explain_reports_a_folder_without_write_access(
    run: Run, photo: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    code, _, err = run("explain", photo, "a cat", "-m", clip_folder, "-o", "x.png")
    assert code == 1
    assert "is not writable" in err
    assert list_folder() == []


def test_explain_leaves_no_traceback_or_partial_file_after_ctrl_c(
    run: Run, photo: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("nibt.methods.nib.NIB.__call__", interrupted)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # SIGINT is ignored if tests run in the background
    try:
        code, out, err = run("explain", photo, "a cat", "two cars", "-m", clip_folder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert "nibt: interrupted" in err
    assert "Traceback" not in out + err
    assert list_folder() == []


def test_explain_warns_about_a_truncated_caption(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, _ = run("explain", photo, "cat " * 50, "-m", clip_folder, "-o", "-")
    assert code == 0
    assert any("the rest was cut off" in warning for warning in json.loads(out)["warnings"])


@pytest.mark.parametrize("caption", few(["🦄 cat", "猫 cat", "e\u0301 cat", "cat\x07"], ["猫 cat", "cat\x07"]))
def test_explain_takes_captions_in_other_scripts(run: Run, photo: Path, clip_folder: Path, caption: str) -> None:
    code, out, err = run("explain", photo, caption, "-m", clip_folder, "-o", "x.png")
    assert code == 0, err
    assert "cat" in out


MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "no label": (["photo.png", "--labels", "none.txt"], 1, "at least two texts, in a file one per line (got 0)"),
    "one label": (["photo.png", "--labels", "one.txt"], 1, "two texts, in a file one per line (got 1)"),
    "a label twice": (["photo.png", "--labels", "twice.txt"], 1, "the label 'a cat' occurs twice"),
    "a URL": (
        ["https://example.org/cat.jpg", "a cat"],
        1,
        "an image must be a local file (got the URL 'https://example.org/cat.jpg'): download it",
    ),
    "a URL second": (["photo.png", "https://example.org/cat.jpg"], 2, "was read as an image)"),
    "the caption first": (["a cat", "photo.png"], 2, "images must come before captions, and there is no image 'a cat'"),
    "two images to compare": (
        ["photo.png", "--compare", "photo.png", "--compare", "other.png"],
        2,
        "--compare takes one value (got 2): give it once",
    ),
    "two models": (["photo.png", "a cat", "-m", "lite", "--model=scenes"], 2, "--model takes one value (got 2)"),
    "a model twice, short": (["photo.png", "a cat", "-mlite", "-m", "scenes"], 2, "--model takes one value (got 2)"),
    "a model twice, beside a flag": (["photo.png", "a cat", "-qmlite", "-m", "scenes"], 2, "--model takes one value"),
    "an option twice": (
        ["photo.png", "a cat", "--method", "nib steps=3 steps=5"],
        2,
        "sets steps twice ('3' and '5'): set it once",
    ),
    "two methods": (
        ["photo.png", "a cat", "--method", "nib", "--method", "gae"],
        2,
        "--method takes one value (got 2)",
    ),
    "a drawing twice": (
        ["photo.png", "a cat", "--draw", "style=outline", "--draw", "style=colors"],
        2,
        "--draw sets style twice",
    ),
    "an open quote": (["photo.png", "a cat", "--method", "nib baseline='mean:a b"], 2, "must close its quotes"),
    "control characters alone": (["photo.png", "\x07\x1b"], 1, "has only invisible characters"),
}


@pytest.mark.parametrize("case", sorted(MISTAKES))
def test_explain_reports_mistakes_before_loading_a_model(
    run: Run, photo_file: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("none.txt").write_text("\n")
    Path("one.txt").write_text("a cat\n")
    Path("twice.txt").write_text("a cat\na dog\na cat\n")
    monkeypatch.setattr("nibt.cli.options.ModelOptions.loaded", lambda *_, **__: pytest.fail("a model was loaded"))
    before = sorted(os.listdir())
    arguments, expected, message = MISTAKES[case]
    code, _, err = run("explain", *arguments)
    assert code == expected, err
    assert message in " ".join(err.replace("│", " ").split()), err
    assert sorted(os.listdir()) == before


def test_explain_suggests_a_model_in_other_case(run: Run, photo_file: str) -> None:
    code, _, err = run("explain", photo_file, "a cat", "-m", "LITE")
    assert (code, "Did you mean 'lite'?" in err) == (1, True)


@pytest.mark.parametrize("region", few(["keep", "change"], ["change"]))
def test_decisive_regions_are_in_files_and_printed(run: Run, photo: Path, clip_folder: Path, region: str) -> None:
    captions = "a cat", "two cars"
    code, out, err = run("explain", photo, *captions, "-m", clip_folder, "--rank", "--decisive", region)
    assert code == 0, err
    (name,) = [name for name in list_folder() if name.endswith(".json")]
    assert f"decisive-{region}" in name
    explanation = Explanation.load(name)
    lacks = "no region is decisive: the image adds nothing to the difference"
    assert (explanation.decisive is None) == any(lacks in warning for warning in explanation.warnings)
    assert lacks in out or (explanation.decisive and explanation.decisive.about[1:] in out)


def test_decisive_regions_are_of_an_image_with_a_caption(run: Run, photo: Path, clip_folder: Path) -> None:
    code, _, err = run("explain", photo, "--compare", photo, "-m", clip_folder, "--decisive", "keep")
    assert code == 2
    assert "--decisive is for an image with a caption" in err
    assert list_folder() == []


def test_known_parts_are_in_files_and_printed(run: Run, photo: Path, clip_folder: Path) -> None:
    parts = nibt.parts(clip_folder, noise_pairs(8), "gae", count=2, texts=[])
    parts.marked({1: "must not", 2: "may"}).save("parts.json")
    code, out, err = run("explain", photo, "a cat", "-m", clip_folder, "--parts", "parts.json")
    assert code == 0, err
    (name,) = [name for name in list_folder() if name.endswith(".json") and name != "parts.json"]
    assert "parts-parts" in name
    found = Explanation.load(name).parts
    assert found is not None
    assert found.fingerprint == parts.fingerprint
    assert {part.mark for part in found.parts} <= {"must not", "may"}
    for row in found.rows:
        assert " ".join(row).strip().replace("  ", " ") in " ".join(out.split())


def test_known_parts_must_be_of_the_model_and_of_an_image_with_a_caption(
    run: Run, photo: Path, clip_folder: Path
) -> None:
    code, _, err = run("explain", photo, "--compare", photo, "-m", clip_folder, "--parts", "parts.json")
    assert code == 2
    assert "--parts is for an image with a caption" in err
    nibt.parts(tiny.model("siglip"), noise_pairs(8), "gae", count=2, texts=[]).save("parts.json")
    code, _, err = run("explain", photo, "a cat", "-m", clip_folder, "--parts", "parts.json")
    assert code == 1
    assert "the parts are of a model with the weights" in " ".join(err.split())
    assert list_folder() == ["parts.json"]
