"""Tests of ``nibt.evaluation.parts``, by public calls."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import ImageInput, Region
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption
from nibt.evaluation.parts.effects import donors_of
from nibt.evaluation.parts.found import default_count
from nibt.evaluation.parts.groups import _divided, shown_objects
from nibt.evaluation.parts.notes import shared_notes
from nibt.results.parts import Effect, Part, Parts, rank
from tests import tiny
from tests.helpers import noise_pairs

PAIRS = list(Scenes(count=16, fewest=2, most=3, named="one"))
NOUNS = ("cat", "dog", "car", "tree", "house")


def parts_of(pairs: list[Pair] = PAIRS, **options: Any) -> Parts:
    return nibt.parts("scenes", pairs, **{"count": 3, "texts": NOUNS, **options})


@pytest.fixture(scope="module")
def parts() -> Parts:
    return parts_of()


def test_parts_divide_the_score(parts: Parts) -> None:
    assert sum(part.share for part in parts.parts) == pytest.approx(1)
    assert 0.6 <= parts.kept < 1
    for part in parts.parts:
        assert 0 < part.images <= len(PAIRS)
        assert sum(crop.share for crop in part.gallery if not crop.is_random) <= part.images
        assert part.on_objects in (0, 1), "with masks, a part is on the objects or beside them"
    assert sum(part.share for part in parts.parts if part.on_objects) > 0.8, "scenes looks at the objects"


def test_scenes_has_no_shortcut_and_needs_its_objects(parts: Parts) -> None:
    assert not parts.shortcuts
    largest = max(parts.parts, key=lambda part: part.share)
    assert largest.verdict == "object"
    assert largest.needed is not None
    assert largest.needed.low > 0
    assert largest.needed.beyond_random_low > 0


@pytest.mark.slow
def test_the_same_call_gives_the_same_result(parts: Parts) -> None:
    assert replace(parts_of(), seconds=parts.seconds) == parts


def test_another_model_has_other_bits(parts: Parts) -> None:
    assert parts.fingerprint.startswith(parts.model["weights_hash"])
    assert f"layer {parts.layer}" in parts.fingerprint


def test_parts_are_saved_and_loaded(parts: Parts, tmp_path: Path) -> None:
    parts.save(tmp_path / "parts.json")
    assert Parts.load(tmp_path / "parts.json") == parts
    data = parts.to_json()
    data["parts"][0]["center"] = data["parts"][0]["center"][1:]
    with pytest.raises(BadInput, match=r"parts\[0\]\.center must have"):
        Parts.from_json(data)


def test_the_file_matches_its_schema(parts: Parts) -> None:
    schema = Path(__file__).parents[3] / "docs" / "schemas" / "parts.json"
    jsonschema.validate(parts.to_json(), json.loads(schema.read_text()))


def test_the_page_loads_nothing_and_has_all_pictures(parts: Parts, tmp_path: Path) -> None:
    parts.save(tmp_path / "parts.html")
    text = (tmp_path / "parts.html").read_text()
    assert text.startswith("<!doctype html>")
    pictures = re.findall(r'src="([^"]+)"', text)
    assert len(pictures) == 2 * sum(len(part.gallery) for part in parts.parts)
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in pictures)
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    for part in parts.parts:
        assert f"Part {part.number}" in text


@pytest.mark.slow
def test_pairs_without_masks_have_a_gallery_and_no_verdict() -> None:
    plain = [replace(pair, objects=()) for pair in PAIRS]
    result = parts_of(plain, count=2)
    assert {part.verdict for part in result.parts} == {"no verdict"}
    assert {part.on_objects for part in result.parts} == {None}
    assert all(part.gallery for part in result.parts)
    assert any("no masks or boxes" in note for note in result.notes)


@pytest.mark.slow
def test_images_without_masks_among_others_have_parts_without_a_verdict() -> None:
    """What a model rightly reads in them is not called a shortcut."""
    mixed = [pair if place % 2 else replace(pair, objects=()) for place, pair in enumerate(PAIRS)]
    result = parts_of(mixed, count=3)
    assert {part.on_objects for part in result.parts} >= {1, None}
    assert not result.shortcuts
    for part in result.parts:
        has_masks = {bool(mixed[crop.pair].objects) for crop in part.gallery}
        assert has_masks == {part.on_objects is not None}
    assert any("8 of 16 images have no mask or box" in note for note in result.notes)


@pytest.mark.parametrize(
    ("count", "weights", "expected"),
    [
        (12, [1.0], [12]),
        (12, [0.3, 0.7], [4, 8]),
        (4, [0.9, 0.1], [3, 1]),
        (2, [0.1, 0.9], [1, 1]),
        (1, [0.5, 0.5], [1, 1]),
        (4, [0.01, 0.49, 0.5], [1, 1, 2]),
        (3, [0.98, 0.01, 0.01], [1, 1, 1]),
    ],
)
def test_each_kind_of_cells_has_a_cluster(count: int, weights: list[float], expected: list[int]) -> None:
    assert _divided(count, weights) == expected


@pytest.mark.parametrize(("pairs", "count"), [(1, 2), (24, 2), (48, 4), (120, 12), (5000, 12)])
def test_default_number_of_clusters_grows_with_the_pairs(pairs: int, count: int) -> None:
    assert default_count(pairs) == count


@pytest.mark.slow
def test_labels_of_parts_are_those_of_the_pairs() -> None:
    labels = tuple(dict.fromkeys(pair.objects[0].name for pair in PAIRS))
    labelled = [replace(pair, labels=labels, label=labels.index(pair.objects[0].name)) for pair in PAIRS]
    (part,) = parts_of(labelled, count=1, texts=[]).parts[:1]
    assert {row.label for row in part.labels} <= set(labels)
    assert sum(row.share for row in part.labels) <= 1 + 1e-9
    assert part.name == ""
    assert part.nearest == ()


def test_models_without_a_class_of_their_own_have_parts() -> None:
    result = nibt.parts(tiny.model("siglip"), noise_pairs(8), "nib:fast", count=2, texts=[])
    assert result.grid == tuple(result.parts[0].place.shape)


# Used share


@pytest.mark.slow
def test_used_share_of_a_part_is_between_the_share_of_nothing_and_of_all(parts: Parts) -> None:
    plain = replace(parts, parts=tuple(replace(part, on_objects=None) for part in parts.parts))
    pairs = [replace(pair, objects=()) for pair in PAIRS]
    every = nibt.used_share("scenes", pairs, plain, [part.number for part in plain.parts])
    one = nibt.used_share("scenes", pairs, plain, 1)
    assert 0 < one.value < every.value <= 1.5
    assert one.cells < every.cells
    assert one.count <= one.pairs == len(PAIRS)
    assert one.low <= one.value <= one.high
    assert "used share" in repr(one)


def test_parts_of_another_model_are_refused_without_that_model(parts: Parts) -> None:
    plain = replace(parts, parts=tuple(replace(part, on_objects=None) for part in parts.parts))
    clip, pairs = tiny.model("clip"), [replace(pair, objects=()) for pair in PAIRS]
    with pytest.raises(BadInput, match=f"weights {parts.model['weights_hash']}, layer {parts.layer}.*parts_model"):
        nibt.used_share(clip, pairs, plain, 1)
    moved = replace(plain, layer=parts.layer - 1, grid=(2, 2), parts=())
    with pytest.raises(BadOption, match="must be a number from 1 to 0"):
        nibt.used_share("scenes", pairs, moved, 1)


def test_an_object_is_not_exchanged(parts: Parts) -> None:
    number = next(part.number for part in parts.parts if part.verdict == "object")
    with pytest.raises(BadInput, match=f"part {number} is a named object"):
        nibt.used_share("scenes", PAIRS, parts, number)


@pytest.mark.usefixtures("unchecked")
def test_no_shortcut_means_that_numbers_are_missing(parts: Parts) -> None:
    with pytest.raises(BadOption, match=r"no part is a shortcut or has the mark .must not.: .*give the numbers"):
        nibt.used_share("scenes", PAIRS, parts)
    with pytest.raises(BadOption, match=r"number from 1 to \d+ \(got 99\)"):
        nibt.used_share("scenes", PAIRS, parts, 99)
    with pytest.raises(BadInput, match=r"'none\.json' is not a file of kind 'parts'"):
        nibt.used_share("scenes", PAIRS, "none.json")
    with pytest.raises(BadInput, match="takes results of class Parts"):
        nibt.used_share("scenes", PAIRS, [])  # pyright: ignore[reportArgumentType]


# Bad input


def blank(pair: Pair) -> Pair:
    return replace(pair, image=ImageInput(Image.new("RGB", pair.image.size), pair.image.source))


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        pytest.param(lambda: [], {}, r"two different images \(got 0 pairs\)", id="no pairs"),
        pytest.param(lambda: PAIRS[:1], {}, r"two different images \(got 1 pair\)", id="one image"),
        pytest.param(lambda: [PAIRS[0]] * 3, {}, r"two different images \(got 3 pairs\)", id="one image thrice"),
        pytest.param(
            lambda: [replace(pair, caption="a cat", objects=()) for pair in PAIRS[:4]],
            {},
            "two different labels or captions .got only 'a cat'",
            id="one caption",
        ),
        pytest.param(
            lambda: [replace(pair, labels=("x", "y"), label=1) for pair in PAIRS[:4]],
            {},
            "two different labels or captions .got only 'y'",
            id="one label",
        ),
        pytest.param(
            lambda: [(pair.image, pair.caption, np.ones((3, 5), bool)) for pair in PAIRS[:4]],
            {},
            "must have the shape of the image",
            id="masks of another size",
        ),
        pytest.param(lambda: PAIRS[:4], {"texts": ["cat", " "]}, "the text is blank", id="a blank name"),
    ],
)
def test_bad_input_is_an_error(pairs: Callable[[], list[Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        nibt.parts("scenes", pairs(), **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 13}, "layer must be between 0 and 12"),
        ({"count": 0}, "count must be between 1 and 100"),
        ({"seed": -1}, "seed must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"data": 3}, "data must be a mapping"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.parts("scenes", PAIRS[:4], **options)


def test_no_positive_score_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def negative(*arguments: Any) -> list[Any]:
        return [replace(image_map, scores=-np.abs(image_map.scores)) for image_map in maps(*arguments)]

    from nibt.evaluation.maps import maps

    monkeypatch.setattr("nibt.evaluation.parts.asked.maps", negative)
    with pytest.raises(BadInput, match=r"no image has a positive score \(got 4 maps"):
        nibt.parts("scenes", PAIRS[:4])


# Steps


def test_donors_have_another_image_and_another_label() -> None:
    pairs = noise_pairs(6)
    for pair, place in zip(pairs, donors_of(pairs), strict=True):
        assert pairs[place].caption != pair.caption
        assert pairs[place].image.digest != pair.image.digest


def test_a_donor_of_the_same_label_has_another_image() -> None:
    first, second = (pair.image for pair in noise_pairs(2))
    pairs = [Pair(first, "a cat"), Pair(first, "a dog"), Pair(second, "a cat")]
    assert donors_of(pairs) == [2, 2, 1]


def test_cells_that_an_object_hardly_covers_do_not_show_it() -> None:
    mask = np.zeros((64, 64), bool)
    mask[:16, :17] = True  # one column of pixels in the third column of cells, of eight pixels
    mask[16:24, 0] = True
    pair = Pair(ImageInput(Image.new("RGB", (64, 64)), "gray"), "a cat", (Object("cat", None, mask, ((2, 5),)),))
    shown = shown_objects(pair, Region(0, 0, 64, 64), (8, 8))
    assert shown[:2, :2].all()
    assert shown[0, 2], "an eighth of it is covered"
    assert shown.sum() == 2 * 3 + 1
    nameless = replace(pair, objects=(replace(pair.objects[0], spans=()),))
    assert not shown_objects(nameless, Region(0, 0, 64, 64), (8, 8)).any()


def effect(low: float, high: float) -> Effect:
    return Effect(0.3, low, high, 0.2, 0.1, 0.3, 20)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        pytest.param({}, "shortcut", id="needed, and beside the objects"),
        pytest.param({"on_objects": 0.3}, "object", id="on the objects"),
        pytest.param({"on_objects": None}, "no verdict", id="no masks"),
        pytest.param({"images": 7}, "no verdict", id="few images"),
        pytest.param({"needed": None}, "no verdict", id="unknown effect"),
        pytest.param({"needed": effect(0.1, 0.5)}, "cannot tell", id="perhaps needed"),
        pytest.param({"needed": effect(-0.2, 0.1)}, "cannot tell", id="perhaps not needed"),
        pytest.param({"needed": effect(-0.2, 0.09)}, "not needed", id="hardly needed"),
        pytest.param({"needed": effect(0.2, 1.3)}, "no verdict", id="a wide interval"),
    ],
)
def test_verdict_of_a_part(parts: Parts, changes: dict[str, Any], verdict: str) -> None:
    shortcut: Part = replace(parts.parts[0], on_objects=0.0, images=20, needed=effect(0.2, 0.4))
    assert replace(shortcut, **changes).verdict == verdict


def test_what_may_be_a_shortcut_comes_first() -> None:
    rows = [("object", 0.6), ("cannot tell", 0.1), ("not needed", 0.2), ("shortcut", 0.05), ("cannot tell", 0.3)]
    assert sorted(rows, key=lambda row: rank(*row)) == [rows[3], rows[4], rows[1], rows[0], rows[2]]


def test_parts_that_may_be_shortcuts_have_a_note(parts: Parts) -> None:
    plain: Part = replace(parts.parts[0], on_objects=0.0, images=20, stability=1.0)
    effects = (effect(0.2, 0.4), effect(0.05, 0.3), effect(-0.2, 0.09), None)
    found = [replace(plain, needed=needed) for needed in effects]
    assert list(shared_notes(found, 0, 20, "images")) == [
        "cannot tell: 1 of 4 parts may or may not be shortcuts, since the interval of needed contains 0.1: give more "
        "images"
    ]


@pytest.mark.parametrize(
    ("marks", "numbers"),
    [
        pytest.param({}, [1, 2], id="the shortcuts"),
        pytest.param({1: "may"}, [2], id="without those that the model may use"),
        pytest.param({3: "must not"}, [3], id="those that it must not use"),
        pytest.param({1: "must not", 2: "may", 3: "must not"}, [1, 3], id="both marks"),
        pytest.param({1: "may", 2: "may"}, [], id="none"),
    ],
)
def test_marks_decide_which_parts_are_unwanted(parts: Parts, marks: dict[int, Any], numbers: list[int]) -> None:
    shortcut: Part = replace(parts.parts[0], on_objects=0.0, images=20, needed=effect(0.2, 0.4))
    plain = replace(shortcut, on_objects=None)
    found = [replace(part, number=number) for number, part in enumerate((shortcut, shortcut, plain), 1)]
    marked = replace(parts, parts=tuple(found)).marked(marks)
    assert [part.number for part in marked.unwanted] == numbers
    assert Parts.from_json(marked.to_json()) == marked
    assert repr(marked).count(", must not") == [*marks.values()].count("must not")
    assert [part.number for part in marked.shortcuts] == [1, 2], "marks are no verdicts"


@pytest.mark.usefixtures("unchecked")
def test_marks_are_of_parts_and_of_three_words(parts: Parts) -> None:
    with pytest.raises(BadOption, match="mark must be"):
        parts.marked({1: "never"})  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadOption, match="marks must be a mapping"):
        parts.marked([1])  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadOption, match=r"number from 1 to \d+ \(got 0\)"):
        parts.marked({0: "may"})
    data = parts.to_json()
    data["parts"][0]["mark"] = "never"
    with pytest.raises(BadInput, match=r"parts\[0\]\.mark"):
        Parts.from_json(data)
    del data["parts"][0]["mark"]
    assert Parts.from_json(data) == parts


def test_an_object_that_is_marked_is_not_exchanged(parts: Parts) -> None:
    number = next(part.number for part in parts.parts if part.verdict == "object")
    with pytest.raises(BadInput, match=f"part {number} is a named object"):
        nibt.used_share("scenes", PAIRS, parts.marked({number: "must not"}))


@pytest.mark.parametrize(
    ("place", "where"),
    [
        pytest.param(np.s_[:2, :2], "upper left", id="corner"),
        pytest.param(np.s_[4:5, 4:5], "center", id="center"),
        pytest.param(np.s_[:, :], "many places", id="all"),
        pytest.param(np.s_[:, 0], "border", id="border"),
    ],
)
def test_place_in_words(parts: Parts, place: Any, where: str) -> None:
    grid = parts.parts[0].place.clone().fill_(0)
    grid[place] = 1
    assert replace(parts.parts[0], place=grid).where == where


@pytest.mark.parametrize("texts", ["cat", ["cat"], ["cat", "cat"]])
def test_names_need_two_different_texts(texts: Any) -> None:
    with pytest.raises(BadOption, match=r"texts must have at least two different texts.*got 1.*empty list"):
        nibt.parts(tiny.model("clip"), noise_pairs(4), "gae", count=2, texts=texts)


@pytest.mark.usefixtures("unchecked")
def test_pairs_that_are_no_list_are_refused() -> None:
    with pytest.raises(BadInput, match="parts takes a list of pairs"):
        nibt.parts(tiny.model("clip"), np.array(3), "gae")  # pyright: ignore
    with pytest.raises(BadInput, match="pairs must be"):
        nibt.batch(tiny.model("clip"), np.array(3), "job")  # pyright: ignore


@pytest.mark.parametrize(
    ("name", "value"), [("reach", -1.0), ("stability", 7.0), ("share", -0.5), ("images", -1), ("size", -1.0)]
)
def test_files_with_impossible_numbers_are_refused(parts: Parts, name: str, value: float) -> None:
    data = parts.to_json()
    data["parts"][0][name] = value
    with pytest.raises(BadInput, match=rf"parts\[0\]\.{name} must be"):
        Parts.from_json(data)


@pytest.mark.parametrize(("name", "value"), [("layer", -1), ("seed", -1), ("count", 0), ("seconds", -1.0)])
def test_files_of_impossible_calls_are_refused(parts: Parts, name: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"{name} must be"):
        Parts.from_json({**parts.to_json(), name: value})


def test_deviations_are_above_0(parts: Parts) -> None:
    data = parts.to_json()
    data["deviations"][0] = 0.0
    with pytest.raises(BadInput, match="deviations must be above 0"):
        Parts.from_json(data)


def test_fewer_parts_than_asked_for_are_stated() -> None:
    few = nibt.parts(tiny.model("clip"), noise_pairs(3), "gae", count=60, texts=[])
    assert len(few.parts) < 60
    assert any(f"there are {len(few.parts)} parts in place of 60" in note for note in few.notes)
    assert not any(
        "in place of" in note for note in nibt.parts(tiny.model("clip"), noise_pairs(8), "gae", count=2).notes
    )
