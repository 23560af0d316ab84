"""Tests of ``nibt.results.explanation``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nibt.errors import BadInput
from nibt.report.image.draw import draw
from nibt.results.explanation import Explanation, change_image
from tests.answers import PEAK, WHOLE, answer
from tests.helpers import explain_cheaply


def test_explanation_is_saved_and_loaded(tmp_path: Path) -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    explanation.save(tmp_path / "x.json")
    again = Explanation.load(tmp_path / "x.json")
    assert again.to_json() == explanation.to_json()
    assert again.image.input is None  # it was never a file
    with pytest.raises(Exception, match="no longer there"):
        draw(again)
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")  # another image than that of the explanation
    changed = change_image(again, source=str(tmp_path / "x.png"))
    with pytest.raises(Exception, match="was changed since it was explained"):
        draw(changed)
    (tmp_path / "y.json").write_text("[]")
    with pytest.raises(Exception, match="not a file of kind 'explanation'"):
        Explanation.load(tmp_path / "y.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["sides"].pop("text"), "sides must be image and text"),
        (lambda data: data["sides"]["image"]["grid"][0].__setitem__(0, float("nan")), "finite"),
        (lambda data: data["sides"]["image"].update(grid=[[]]), "at least 1"),
        (lambda data: data["target"].pop("text"), "target must have the value of each side"),
        (lambda data: data.update(similarity=float("inf")), "finite"),
        (lambda data: data["sides"]["text"]["scores"].pop(), "scores must have an entry for each token .got 4 for 5"),
        (lambda data: data["sides"]["text"]["special"].pop(), "special must have an entry for each token"),
        (lambda data: data["sides"]["text"]["tokens"].pop(), "must have an entry for each token .got 5 for 4"),
        (
            lambda data: data["sides"]["text"]["words"][0].update(tokens=[9]),
            r"positions from 0 to 4 \(got \[9\] of 'a'\)",
        ),
        (
            lambda data: data["sides"]["image"].update(region=[0, 0, 0, 9]),
            r"a width and a height above 0.*\(got 0 x 9\)",
        ),
        (lambda data: data["sides"]["image"].update(region=[0, 0, 1e9, 1e9]), "at most 357,913,940 pixels"),
        (lambda data: data["sides"]["image"].update(region=[99, 0, 9, 9]), "region must overlap the image"),
        (lambda data: data["sides"]["image"].update(size=[10**6, 10**6]), "size must have at most 89,478,485 pixels"),
        (lambda data: data.update(schema="4"), "expected schema 4 of explanation, got schema '4'"),
        (lambda data: data.update(sides={"first": data["sides"]["image"], "second": 1}), "second"),
    ],
)
def test_damaged_data_are_refused(change: Callable[[Any], object], message: str) -> None:
    data = answer(PEAK, (90, 90), WHOLE).to_json()
    assert Explanation.from_json(data).to_json() == data
    change(data)
    with pytest.raises(BadInput, match=message):
        Explanation.from_json(data)


@pytest.mark.parametrize("value", [2.0, -0.5])
def test_a_share_beyond_its_range_is_refused(value: float) -> None:
    data = explain_cheaply("clip", "gae").to_json()
    data["sides"]["image"]["special_token_share"] = value
    with pytest.raises(BadInput, match=r"special_token_share must be between 0 and 1"):
        Explanation.from_json(data)
