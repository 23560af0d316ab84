"""Tests of ``nibt.cli.output``: commands replace neither inputs nor foreign files."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import nibt
from nibt.cli.output import input_paths
from nibt.errors import WouldOverwrite
from nibt.results.outputs import is_own, read_signature
from tests import tiny
from tests.helpers import Run, file_digests


@pytest.fixture
def here(run: Run) -> Path:
    """The current folder, with files of the user."""
    fill(Path())
    return Path()


def fill(folder: Path) -> None:
    tiny.image(40, 30).pil_image.save(folder / "photo.jpg", quality=95)
    tiny.image(30, 40, 1).pil_image.save(folder / "other.png")
    (folder / "labels.txt").write_text("a cat\na dog\n")
    (folder / "notes.json").write_text('{"mine": true}\n')
    (folder / "page.html").write_text("<p>mine</p>\n")
    (folder / "pairs.csv").write_text("image,caption\nphoto.jpg,a cat\n")
    os.link(folder / "photo.jpg", folder / "hard.jpg")
    os.symlink("photo.jpg", folder / "soft.jpg")
    (folder / "data").mkdir()
    shutil.copy(folder / "other.png", folder / "data" / "other.png")
    (folder / "data" / "page.html").write_text("<p>mine</p>\n")
    (folder / "data" / "pairs.csv").write_text("image,caption\nother.png,a dog\n")


PHOTO, LABELS = ("explain", "photo.jpg", "a cat"), ("explain", "photo.jpg", "--labels", "labels.txt")


REFUSED = {
    "the image onto the photograph": (*PHOTO, "--out", "photo.jpg"),
    "the image onto a hard link": (*PHOTO, "--out", "hard.jpg"),
    "the image onto a symbolic link": (*PHOTO, "--out", "soft.jpg"),
    "the photograph by another path": (*PHOTO, "--out", "data/../photo.jpg"),
    "the second file onto the photograph": (*PHOTO, "--out", "x.map.png", "--out", "photo.jpg"),
    "the labels": (*LABELS, "--out", "labels.txt"),
    "labels with the ending of a format": ("explain", "photo.jpg", "--labels", "notes.json", "--out", "notes.json"),
    "two outputs with one name": (*PHOTO, "--out", "m.png", "--out", "m.png"),
    "two names that differ by case": (*PHOTO, "--out", "m.png", "--out", "M.PNG"),
    "the second of two photographs": ("explain", "photo.jpg", "other.png", "a cat", "--out", "other.png"),
    "a file for each of two photographs": (
        "explain",
        "photo.jpg",
        "other.png",
        "a cat",
        "--out",
        "{stem}.png",
        "--out",
        "other.png",
    ),
    "the photograph that is compared": ("explain", "photo.jpg", "--compare", "other.png", "--out", "other.png"),
    "the photograph to contrast with": (
        *PHOTO,
        "--against",
        "other.png",
        "--target",
        "difference",
        "--out",
        "other.png",
    ),
    "a page onto a foreign page": (*PHOTO, "--out", "page.html"),
    "JSON onto foreign JSON": (*PHOTO, "--out", "notes.json"),
    "regions onto the photograph": ("regions", "photo.jpg", "a cat", "--out", "photo.jpg"),
    "calibrate onto a photograph": ("calibrate", "photo.jpg", "--out", "photo.jpg"),
    "calibrate onto the captions": (
        "calibrate",
        "photo.jpg",
        "--captions",
        "labels.txt",
        "--out",
        "labels.txt",
    ),
    "calibrate onto the weights": ("calibrate", "photo.jpg", "--out", "MODEL/model.safetensors"),
    "calibrate onto another file": ("calibrate", "photo.jpg", "--out", "notes.json"),
    "audit onto a foreign page": ("audit", "scenes", "--out", "page.html"),
    "audit onto the data": ("audit", "folder:data", "--out", "data/page.html"),
    "batch into a folder of images": ("batch", "pairs.csv", "--out", "data"),
    "batch onto a file": ("batch", "pairs.csv", "--out", "notes.json"),
    "bench into a folder of images": ("bench", "quick", "--count", "1", "--out", "data"),
    "roar into a folder of images": ("roar", "scenes", "--count", "10", "--out", "data"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_commands_reject_foreign_and_input_files(run: Run, here: Path, clip_folder: Path, case: str) -> None:
    before = file_digests(here)
    model = Path("model")
    shutil.copytree(clip_folder, model)
    arguments = [word.replace("MODEL", str(model)) for word in REFUSED[case]]
    code, _, err = run(*arguments, "-m", model)
    assert code == 2, err
    assert "Traceback" not in err
    shutil.rmtree(model)
    assert file_digests(here) == before


# audits take minutes, and their pages are written by the same function
FOREIGN = [case for case in sorted(REFUSED) if ("foreign" in case or "another file" in case) and "audit" not in case]


@pytest.mark.parametrize("case", FOREIGN)
def test_overwrite_replaces_foreign_files(run: Run, here: Path, clip_folder: Path, case: str) -> None:
    arguments = [word.replace("MODEL", str(clip_folder)) for word in REFUSED[case]]
    code, _, err = run(*arguments, "-m", clip_folder, "--overwrite")
    assert code == 0, err
    assert is_own(Path(arguments[-1]))


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in sorted(REFUSED)
        if "foreign" not in case and "another file" not in case and not REFUSED[case][0].startswith(("b", "r", "a"))
    ],
)
def test_overwrite_never_replaces_inputs(run: Run, here: Path, clip_folder: Path, case: str) -> None:
    before, weights = file_digests(here), file_digests(clip_folder)
    arguments = [word.replace("MODEL", str(clip_folder)) for word in REFUSED[case]]
    assert run(*arguments, "-m", clip_folder, "--overwrite")[0] == 2
    assert file_digests(here) == before
    assert file_digests(clip_folder) == weights


def test_read_only_files_are_kept(run: Run, here: Path, clip_folder: Path) -> None:
    assert run(*PHOTO, "-m", clip_folder, "-o", "x.png")[0] == 0
    Path("x.png").chmod(0o444)
    before = file_digests(here)
    for more in ((), ("--overwrite",)):
        code, _, err = run("explain", "photo.jpg", "a dog", "-m", clip_folder, "-o", "x.png", *more)
        assert (code, "read-only" in err) == (2, True)
    assert file_digests(here) == before


def test_broken_links_and_pipes_are_rejected(run: Run, here: Path, clip_folder: Path) -> None:
    os.symlink("nowhere.png", "broken.png")
    os.mkfifo("pipe.json")
    assert run(*PHOTO, "-m", clip_folder, "-o", "broken.png")[0] == 2
    assert run(*PHOTO, "-m", clip_folder, "-o", "pipe.json")[0] == 2
    assert Path("broken.png").is_symlink()
    assert Path("pipe.json").is_fifo()


def test_link_to_an_own_file_stays_a_link(run: Run, here: Path, clip_folder: Path) -> None:
    assert run(*PHOTO, "-m", clip_folder, "-o", "x.png")[0] == 0
    os.symlink("x.png", "y.png")
    assert run("explain", "photo.jpg", "a dog", "-m", clip_folder, "-o", "y.png")[0] == 0
    assert Path("y.png").is_symlink()
    assert read_signature(Path("x.png"))["text"]["caption"] == "a dog"  # pyright: ignore


def test_own_files_are_replaced_until_they_are_edited(run: Run, here: Path, clip_folder: Path) -> None:
    for caption in ("a cat", "a dog"):
        assert run("explain", "photo.jpg", caption, "-m", clip_folder, "-o", "x.png", "-o", "x.json")[0] == 0
    assert json.loads(Path("x.json").read_text())["sides"]["text"]["caption"] == "a dog"
    data = json.loads(Path("x.json").read_text())
    Path("x.json").write_text(json.dumps({**data, "note": "mine"}))
    code, _, err = run(*PHOTO, "-m", clip_folder, "-o", "x.json")
    assert (code, "was edited" in err) == (2, True)
    assert json.loads(Path("x.json").read_text())["note"] == "mine"
    with Image.open("x.png") as image:
        image.rotate(180).save("x.png", exif=image.getexif())
    assert not is_own(Path("x.png"))


def test_show_keeps_the_images_and_the_pairs(run: Run, here: Path, clip_folder: Path) -> None:
    assert run("batch", "pairs.csv", "-m", clip_folder, "--out", "JOB", "--method", "nib steps=1")[0] == 0
    before = file_digests(here)
    for target in ("photo.jpg", "pairs.csv", "JOB/manifest.json"):
        assert run("show", "JOB", 0, "-o", target, "--overwrite")[0] == 2
    assert file_digests(here) == before


def test_audit_keeps_images_outside_of_its_data(run: Run, here: Path, clip_folder: Path) -> None:
    Path("photo.jpg").rename("photo.html")
    rows = [f"../photo.html,a cat and {number} dogs" for number in range(8)]
    Path("data/pairs.csv").write_text("image,caption\n" + "\n".join(rows) + "\n")
    before = file_digests(here)
    code, _, err = run("audit", "folder:data", "-m", clip_folder, "--count", 8, "-o", "photo.html", "--overwrite")
    assert (code, "is an input of this call" in err) == (2, True)
    assert file_digests(here) == before


def test_input_paths_include_the_base_of_adapters(here: Path) -> None:
    for name in ("adapters", "base"):
        Path(name).mkdir()
    Path("adapters/adapter_config.json").write_text('{"base_model_name_or_path": "base"}')
    assert set(input_paths("adapters", "photo.jpg", None, "a caption")) == {
        Path("adapters"),
        Path("base"),
        Path("photo.jpg"),
    }


def test_calibrate_keeps_its_inputs(here: Path, clip_folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(clip_folder, tmp_path / "model")
    for target in (Path("photo.jpg"), model / "model.safetensors"):
        before = target.read_bytes()
        with pytest.raises(WouldOverwrite):
            nibt.calibrate(model, ["photo.jpg"], out=target, overwrite=True)
        assert target.read_bytes() == before


@pytest.mark.slow
def test_numbered_names_avoid_other_outputs(run: Run, here: Path, clip_folder: Path) -> None:
    assert run(*PHOTO, "-m", clip_folder)[0] == 0
    shutil.copy("other.png", "data/photo.png")
    code, out, _ = run("explain", "data/photo.png", "a cat", "-m", clip_folder)
    assert code == 0
    names = out.splitlines()[-1].removeprefix("wrote ").split(", ")
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_similar_captions_get_distinct_names(run: Run, here: Path, clip_folder: Path) -> None:
    Path("out").mkdir()
    assert run("explain", "photo.jpg", "a cat", "a cat!", "a cat 2", "-m", clip_folder, "-o", "out/{stem}.png")[0] == 0
    assert len(list(Path("out").glob("*.png"))) == 3


@pytest.mark.slow
def test_roar_keeps_edited_reports(run: Run, here: Path, clip_folder: Path) -> None:
    command = (
        "roar",
        "scenes",
        "-m",
        clip_folder,
        "--count",
        10,
        "--method",
        "ones",
        "--repeats",
        1,
        "--train",
        "epochs=1",
        "--side",
        "text",
        "--out",
        "RUN",
    )
    assert run(*command)[0] == 0
    assert run(*command)[0] == 0
    with Path("RUN/report.md").open("a") as stream:
        stream.write("my conclusion\n")
    before = file_digests(Path("RUN"))
    code, _, err = run(*command, "--method", "gae")
    assert (code, "was edited" in err) == (2, True)
    assert file_digests(Path("RUN")) == before, "it is reported before anything is trained"
    assert run(*command, "--overwrite")[0] == 0


@pytest.mark.slow
def test_default_names_distinguish_requests(run: Run, here: Path, clip_folder: Path) -> None:
    before = file_digests(here)
    calls = [
        (),
        ("--method", "gae"),
        ("--method", "nib:paper"),
        ("--target", "difference", "--against", "a dog"),
        ("--method", "nib steps=2"),
        ("--method", "nib image_layer=1"),
        ("--method", "nib noise=unit deviation=0.1 samples=2 seed=3"),
        ("--load", "image_size=16", "--load", "resize=model"),
    ]
    written: set[str] = set()
    for call in calls:
        code, out, err = run(*PHOTO, "-m", clip_folder, *call)
        assert code == 0, err
        names = set(out.splitlines()[-1].removeprefix("wrote ").split(", "))
        assert not names & written, call
        written |= names
    for name in written:
        assert Path(name).is_file()
        assert len(name) <= 120
    assert {name: digest for name, digest in file_digests(here).items() if name in before} == before
    count = len(list(here.iterdir()))
    assert run(*PHOTO, "-m", clip_folder)[0] == 0, "the same request goes to the same files"
    assert len(list(here.iterdir())) == count


@pytest.mark.slow
def test_default_names_distinguish_images_of_the_same_name(run: Run, clip_folder: Path) -> None:
    for folder, seed in (("one", 0), ("two", 1)):
        Path(folder).mkdir()
        tiny.image(40, 30, seed).pil_image.save(f"{folder}/photo.png")
        assert run("explain", f"{folder}/photo.png", "a cat", "-m", clip_folder)[0] == 0
    names = sorted(path.name for path in Path().glob("*.json"))
    assert names == ["photo-a-cat.clip-2.json", "photo-a-cat.clip.json"]
    assert [json.loads(Path(name).read_text())["sides"]["image"]["source"] for name in names] == [
        "two/photo.png",
        "one/photo.png",
    ]


def test_default_name_of_a_foreign_file_is_rejected(run: Run, here: Path, clip_folder: Path) -> None:
    Path("photo-a-cat.clip.png").write_text("mine")
    assert run(*PHOTO, "-m", clip_folder)[0] == 2
    assert Path("photo-a-cat.clip.png").read_text() == "mine"


NAMES = [
    "photo.jpg",
    "PHOTO.JPG",
    "hard.jpg",
    "soft.jpg",
    "data/../photo.jpg",
    "other.png",
    "labels.txt",
    "pairs.csv",
    "notes.json",
    "page.html",
    "data/other.png",
    "data/pairs.csv",
    "data",
    "x.map.png",
    "{stem}.png",
    "x.png",
    "X.PNG",
    "x.json",
    "x.html",
    "x.safetensors",
    "new",
]


ONE_STEP = ("--method", "nib steps=1")
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "explain": (["photo.jpg", "other.png", "a cat", "-m", "MODEL", *ONE_STEP], ["--out", "-o"]),
    "explain one": (
        ["soft.jpg", "a cat", "-m", "MODEL", *ONE_STEP],
        ["--out", "-o"],
    ),
    "explain labels": (["photo.jpg", "--labels", "labels.txt", "-m", "MODEL", *ONE_STEP], ["--out", "-o"]),
    "explain two": (["photo.jpg", "--compare", "other.png", "-m", "MODEL", *ONE_STEP], ["--out", "-o"]),
    "regions": (["photo.jpg", "a cat", "-m", "MODEL", *ONE_STEP], ["--out", "-o"]),
    "calibrate": (["photo.jpg", "--captions", "labels.txt", "-m", "MODEL"], ["--out"]),
    "audit": (["folder:data", "-m", "NOSUCH"], ["--out", "-o"]),
    "batch": (["pairs.csv", "-m", "MODEL", *ONE_STEP], ["--out"]),
    "bench": (["quick", "-m", "NOSUCH", "--count", "1"], ["--out"]),
    "roar": (["folder:data", "-m", "NOSUCH"], ["--out"]),
}


def inputs(folder: Path, arguments: list[str]) -> list[str]:
    """Return the files that a call reads, under all their names."""
    named = [
        folder / word.removeprefix("folder:") for word in arguments if (folder / word.removeprefix("folder:")).exists()
    ]
    files = [file for path in named for file in (path.iterdir() if path.is_dir() else [path])]
    return [name for name in file_digests(folder) if any((folder / name).samefile(file) for file in files)]


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_commands_never_change_an_input(
    run: Run, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    command = data.draw(st.sampled_from(sorted(COMMANDS)))
    typed_arguments, options = COMMANDS[command]
    chosen: dict[str, Any] = {
        option: data.draw(st.sampled_from(NAMES), label=option)
        for option in options
        if data.draw(st.booleans(), label=f"with {option}")
    }
    overwrite = ["--overwrite"] if data.draw(st.booleans(), label="overwrite") else []
    folder = tmp_path_factory.mktemp("drawn")
    fill(folder)
    before = file_digests(folder)
    home = Path.cwd()
    os.chdir(folder)
    try:
        arguments = [word.replace("MODEL", str(clip_folder)) for word in typed_arguments]
        typed = [word for pair in chosen.items() for word in pair]
        more = [] if command in ("batch", "bench") else overwrite
        code, _, err = run(command.split()[0], *arguments, *typed, *more)
    finally:
        os.chdir(home)
    assert "Traceback" not in err
    after = file_digests(folder)
    kept = before if not more else {name: before[name] for name in inputs(folder, typed_arguments)}
    assert {name: after.get(name) for name in kept} == kept, (code, err)
    if code == 2:
        assert set(after) == set(before), "a rejected call writes nothing"
