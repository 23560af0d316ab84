"""Tests of ``nibt.results.outputs``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.errors import WouldOverwrite
from nibt.formats.image import PIXELS, encoded
from nibt.methods.masks import Occlusion
from nibt.results.free_names import distinct, release
from nibt.results.outputs import check_targets, is_own, read_signature, write_bytes
from tests import tiny


def write(image: Image.Image, path: Path, request: Mapping[str, Any]) -> None:
    """Write an image with its signature."""
    write_bytes(path, encoded(image, PIXELS[path.suffix], request), [])


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_images_are_signed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    write(tiny.image(40, 30).pil_image, path, {"caption": "a cat, 猫"})
    assert read_signature(path) == {"caption": "a cat, 猫"}  # pyright: ignore
    write(tiny.image(40, 30).pil_image, path, {"caption": "a dog"})


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_changed_images_belong_to_the_user(tmp_path: Path, ending: str) -> None:
    path, other = tmp_path / f"x.{ending}", tiny.image(40, 30, 1).pil_image
    write(tiny.image(40, 30).pil_image, path, {})
    with path.open("ab") as stream:
        stream.write(b"a note of the user's")
    assert not is_own(path)
    if ending in ("png", "tiff", "webp"):
        path.unlink()
        write(tiny.image(40, 30).pil_image, path, {})
        with Image.open(path) as image:
            exif = image.getexif()
            image.load()
            image.save(path, save_all=True, append_images=[other], exif=exif)
        assert not is_own(path)


@pytest.mark.parametrize("ending", ["bmp", "gif", "ico", "ppm", "jp2", "tga"])
def test_formats_without_exif_data_are_signed_after_their_end(tmp_path: Path, ending: str) -> None:
    """They take their own second call, and are images for any reader; a changed one belongs to the user."""
    path = tmp_path / f"x.{ending}"
    write(tiny.image(40, 30).pil_image, path, {"a": 1})
    write(tiny.image(40, 30, 1).pil_image, path, {"a": 2})
    assert read_signature(path) == {"a": 2}
    with Image.open(path) as image:
        image.load()
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WouldOverwrite, match="was edited or not written by nibt"):
        write(tiny.image(40, 30).pil_image, path, {})


def test_an_empty_file_is_replaced(tmp_path: Path) -> None:
    """As that of ``NamedTemporaryFile``: nothing can be lost."""
    (tmp_path / "x.png").touch()
    write(tiny.image(40, 30).pil_image, tmp_path / "x.png", {})
    assert is_own(tmp_path / "x.png")


def test_inputs_are_never_replaced_from_python(tmp_path: Path) -> None:
    """Not even with ``overwrite``, and under any name that the file has."""
    source, model = tmp_path / "x.png", tmp_path / "model"
    tiny.image(40, 30).pil_image.save(source)
    built = tiny.clip()
    built.module.save_pretrained(model)
    built.processor.save_pretrained(model)
    answer = nibt.explain(nibt.load_model(model), source, "a cat", steps=1)
    os.link(model / "config.json", tmp_path / "link.json")
    before = source.read_bytes(), (model / "config.json").read_bytes()
    for path in (source, model / "config.json", tmp_path / "link.json"):
        with pytest.raises(WouldOverwrite, match="choose another name"):
            answer.save(path, overwrite=True)
    assert before == (source.read_bytes(), (model / "config.json").read_bytes())


def test_two_calls_at_once_take_different_names(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert distinct([path], {"a": 1}) == [path]
    assert distinct([path], {"a": 1}) == [tmp_path / "x-2.json"], "the first one is not written yet"
    release([path, tmp_path / "x-2.json"])
    assert list(tmp_path.iterdir()) == []


def test_python_functions_keep_foreign_files(tmp_path: Path) -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.image(40, 30), "a cat", steps=1)
    path = tmp_path / "x.json"
    path.write_text("mine")
    for save in (
        answer.save,
        lambda path: nibt.save([answer, answer], path),
        lambda path: nibt.calibrate(tiny.model("clip"), [tiny.image(40, 30)], out=path),
    ):
        with pytest.raises(WouldOverwrite):
            save(path)
    assert path.read_text() == "mine"
    answer.save(path, overwrite=True)
    answer.save(path)
    assert nibt.Explanation.load(path).caption == "a cat"


def test_distinct_skips_taken_names(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_bytes(path, b"mine, unsigned", [])
    assert distinct([path], {}) == [tmp_path / "x-2.json"]
    release([tmp_path / "x-2.json"])
    assert distinct([path], {}, [tmp_path / "x-2.json"]) == [tmp_path / "x-3.json"]


def test_targets_in_an_input_folder_must_be_new_or_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WouldOverwrite, match="is in the folder"):
        check_targets([tmp_path / "config.json"], [tmp_path], overwrite=True)
    check_targets([tmp_path / "new.safetensors"], [tmp_path])


@pytest.mark.slow
def test_no_result_replaces_a_file_that_its_call_named(tmp_path: Path) -> None:
    """Whichever argument named it, also by a pattern, by its bytes or through Pillow; not even with ``overwrite``."""
    names = ("image", "against", "other", "image.seg", "memory", "moved", "second", "calibrated", "contributions")
    files = {name: tmp_path / f"{name}.png" for name in names}
    for seed, path in enumerate(files.values()):
        tiny.image(16, 16, seed).pil_image.save(path)
    Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 64).reshape(16, 16)).save(files["image.seg"])
    model, image, means = tiny.model("clip"), files["image"], tmp_path / "means.json"
    calibrated = nibt.calibrate(model, [files["calibrated"]])
    calibrated.save(means)
    contrast: dict[str, Any] = {"target": "difference", "against": "a dog", "against_images": [files["against"]]}
    segments, answered = f"segments:{tmp_path}/{{stem}}.seg.png", {"answer": "a cat", "other_images": [files["other"]]}
    results: dict[str, Any] = {
        "image": nibt.decompose(model, image, "a cat"),
        "against": nibt.explain(model, image, "a cat", "center", **contrast),
        "other": nibt.explain_answer("scenes_generator", image, "what ?", method="center", **answered),
        "image.seg": nibt.explain(model, image, "a cat", "occlusion", image_units=segments),
        "memory": nibt.regions(model, Image.open(files["memory"]), "a cat", steps=1),
        "moved": nibt.explain(model, files["moved"].read_bytes(), "a cat", "center"),
        "second": nibt.compare(model, image, files["second"], "center"),
        "calibrated": calibrated,
        "means": nibt.explain(model, image, "a cat", baseline=f"mean:{means}", steps=1),
        "contributions": nibt.contributions(model, files["contributions"], method=Occlusion()),
    }
    for name, result in results.items():
        path = (files | {"means": means})[name]
        before = path.read_bytes()
        with pytest.raises(WouldOverwrite, match="an input of"):
            result.save(path, overwrite=True)
        assert path.read_bytes() == before, name
        for _ in range(2):
            result.save(path.with_stem(f"{name} saved"))  # and its own file is replaced
