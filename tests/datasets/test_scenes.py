"""Tests of ``nibt.datasets.scenes``."""

import hashlib
import json
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nibt.datasets._draws import Draws
from nibt.datasets.scenes import SIDE, TEMPLATES, WORDS, Scenes, bare
from nibt.datasets.scenes.drawing import ANGLES, BACKGROUNDS, CODES, NOUNS, STYLES, sprite
from nibt.errors import BadOption
from tests.suites import few

MIXED = Scenes(count=60, seed=3, named="some", mismatch=30)


def test_scenes_are_the_same_bits_everywhere() -> None:
    digest = hashlib.sha256()
    for item in range(40):
        pair = MIXED[item]
        digest.update(pair.image.pil_image.tobytes() + pair.caption.encode())
        for obj in pair.objects:
            assert obj.mask is not None
            digest.update(obj.mask.tobytes() + repr((obj.name, obj.box, obj.spans)).encode())
    assert digest.hexdigest()[:16] == "245ae73764312242"


def test_scenes_depend_only_on_number_and_seed() -> None:
    alone = Scenes(count=60, seed=3, named="some", mismatch=30)[17]
    assert alone.image.pil_image.tobytes() == list(MIXED)[17].image.pil_image.tobytes()
    assert alone.caption == MIXED[17].caption
    other = Scenes(count=60, seed=4)[17]
    assert other.image.pil_image.tobytes() != alone.image.pil_image.tobytes()


def test_scene_image_is_independent_of_the_caption() -> None:
    images = {
        Scenes(seed=1, named=named, mismatch=mismatch, template=template)[5].image.pil_image.tobytes()
        for named, mismatch, template in (("all", 0, True), ("one", 100, True), ("some", 50, False))
    }
    assert len(images) == 1


def test_scene_boxes_contain_disjoint_masks() -> None:
    for pair in MIXED:
        masks = np.stack([obj.mask for obj in pair.objects])  # pyright: ignore
        assert masks.sum(0).max() == 1
        for obj in pair.objects:
            left, top, width, height = obj.box
            assert obj.mask is not None
            assert obj.mask.any()
            rows, columns = np.nonzero(obj.mask)
            assert left <= columns.min()
            assert columns.max() < left + width <= SIDE
            assert top <= rows.min()
            assert rows.max() < top + height <= SIDE


def test_scene_masks_cover_the_objects() -> None:
    """If two scenes differ only in their background, the masks are the pixels that stay the same."""
    one = Scenes(seed=8, backgrounds=("plain",), fewest=2)
    for item in range(20):
        scene = one.scene(item)
        inside = np.any(scene.masks, 0)
        background = scene.pixels[0, 0] if not inside[0, 0] else scene.pixels[-1, -1]
        differs = (scene.pixels != background).any(-1)
        assert differs[inside].mean() > 0.9
        assert differs[~inside].mean() < 0.1  # soft edges


@pytest.mark.parametrize("named", few(["all", "one", "some"], ["some"]))
def test_scene_spans_name_the_objects(named: str) -> None:
    counts = set()
    for pair in Scenes(count=80, seed=5, named=named):
        named_objects = [obj for obj in pair.objects if obj.spans]
        counts.add(len(named_objects))
        for obj in named_objects:
            assert [pair.caption[slice(*span)] for span in obj.spans] == [obj.name]
        if named == "all":
            assert named_objects == list(pair.objects)
    assert counts == {"all": {1, 2, 3, 4}, "one": {1}, "some": {1, 2, 3, 4}}[named]


@pytest.mark.slow
def test_scene_mismatch_names_an_absent_object() -> None:
    wrong = Scenes(count=50, seed=6, mismatch=100)
    for pair in wrong:
        (span,) = pair.absent
        noun = pair.caption[slice(*span)]
        assert noun in NOUNS
        assert noun not in {obj.name for obj in pair.objects}
    share = np.mean([bool(pair.absent) for pair in Scenes(count=400, seed=6, mismatch=25)])
    assert 0.18 < share < 0.32
    assert not any(pair.absent for pair in Scenes(count=50, seed=6))


@pytest.mark.slow
def test_scene_sizes_and_numbers_follow_the_options() -> None:
    for pair in Scenes(count=60, fewest=2, most=3, smallest=35, largest=40):
        assert 2 <= len(pair.objects) <= 3
        for obj in pair.objects:
            assert max(obj.box[2:]) <= 1.3 * 0.41 * SIDE
    sides = [max(obj.box[2:]) for pair in Scenes(count=300) for obj in pair.objects]
    assert min(sides) < 0.25 * SIDE
    assert max(sides) > 0.45 * SIDE


@pytest.mark.slow
def test_scenes_use_all_nouns_and_templates() -> None:
    names, captions, corners = set(), "", set()
    for pair in Scenes(count=600, seed=9, named="all"):
        names |= {obj.name for obj in pair.objects}
        captions += f"\n{pair.caption}"
        corners.add(pair.image.pil_image.getpixel((0, 0)))
    assert names == set(NOUNS)
    for template in TEMPLATES:
        assert template.replace("{}", "").strip() in captions
    assert set(captions.replace(",", " ").split()) <= {*NOUNS, *WORDS}
    assert len(corners) > 500


def test_sprites_have_64_nouns_in_three_styles() -> None:
    expected = """cat dog horse cow pig rabbit lion elephant fish owl duck banana lemon pineapple carrot pizza bread
        bicycle bus airplane rocket guitar trumpet umbrella hat chair door hammer key cactus rose"""
    assert set(expected.split()) <= set(NOUNS)
    assert len(NOUNS) == 64
    seen = set()
    for codes in CODES.values():
        for code in codes:
            for style in STYLES:
                drawing = sprite(code, style, 64, 0)
                assert drawing.opacity.max() == 255
                assert max(drawing.opacity.shape) > 40
                seen.add(drawing.colors.tobytes())
    assert len(seen) == 3 * sum(map(len, CODES.values()))


@pytest.mark.parametrize("angle", ANGLES)
def test_rotated_sprite_equals_the_rotation_of_pillow(angle: int) -> None:
    """Compared with the resampling of Pillow, whose bits may change."""
    folder = files("nibt") / "datasets" / "scenes"
    with (folder / "noto.png").open("rb") as stream, Image.open(stream) as sheet:
        source = sheet.convert("RGBA").crop((0, 0, 64, 64))
    code = next(iter(CODES.values()))[0]
    expected = np.asarray(source.rotate(-angle if angle else 0, Image.Resampling.BICUBIC, expand=True))[..., 3]
    drawing = sprite(code, "noto", 64, angle)
    assert drawing.opacity.sum() == pytest.approx(expected.sum(), rel=0.02)
    rows, columns = np.nonzero(expected > 127)
    assert np.abs(np.array(drawing.opacity.shape) - (np.ptp(rows) + 1, np.ptp(columns) + 1)).max() <= 2


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_differ(name: str) -> None:
    images = [BACKGROUNDS[name](Draws(0, item, 0), SIDE) for item in range(10)]
    assert {image.shape for image in images} == {(SIDE, SIDE, 3)}
    assert {image.dtype for image in images} == {np.dtype(np.uint8)}
    assert len({image.tobytes() for image in images}) == 10
    spread = [image.reshape(-1, 3).std(0).max() for image in images]
    assert (max(spread) == 0) == (name == "plain")


def seconds(work: Callable[[int], Any]) -> float:
    """Return the processor time that a thread needs for thirty calls, of three rounds the least."""
    rounds = []
    for _ in range(3):
        began = time.thread_time()
        for item in range(30):
            work(item)
        rounds.append(time.thread_time() - began)
    return min(rounds)


def test_scenes_are_fast() -> None:
    """A scene takes less time than the resizing of a photograph, which every model needs; a quarter of it here."""
    data, photo = Scenes(count=2000, seed=2), Image.new("RGB", (512, 512))
    for item in range(30):
        data.scene(item)  # fills the cache of sprites
    assert seconds(lambda item: data[item]) < seconds(lambda item: photo.resize((224, 224), Image.Resampling.LANCZOS))


def test_bare_captions_have_articles_and_commas() -> None:
    caption = bare(["cat", "owl", "umbrella"])
    assert caption.text == "a cat, an owl and an umbrella"
    assert [caption.text[slice(*span)] for span in caption.spans] == ["cat", "owl", "umbrella"]


@pytest.mark.parametrize(
    "options",
    [
        {"fewest": 0},
        {"fewest": 3, "most": 2},
        {"most": 5},
        {"smallest": 60},
        {"named": "none"},
        {"mismatch": 101},
        {"seed": -1},
        {"styles": ()},
        {"styles": ("crayon",)},
        {"backgrounds": ("sky",)},
    ],
)
def test_scenes_reject_bad_options(options: dict) -> None:
    with pytest.raises(BadOption):
        Scenes(**options)


def test_scenes_reject_an_item_beyond_the_count() -> None:
    with pytest.raises(IndexError, match="must be between 0"):
        Scenes(count=3)[3]


def test_sprites_have_licenses() -> None:
    folder = files("nibt") / "datasets" / "scenes"
    named_objects = (folder / "LICENSES.md").read_text()
    for style, license in (("noto", "Apache"), ("twemoji", "CC BY 4.0"), ("fluent", "MIT")):
        assert f"`{style}.png`" in named_objects
        assert license in named_objects
    assert json.loads((folder / "nouns.json").read_text()) == CODES
    assert "Apache License" in (folder / "LICENSE.apache").read_text()
    assert "Permission is hereby granted" in (folder / "LICENSE.fluent").read_text()
    assert "Attribution 4.0 International" in (folder / "LICENSE.twemoji").read_text()
