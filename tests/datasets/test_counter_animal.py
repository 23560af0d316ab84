"""Tests of ``nibt.datasets.counter_animal``."""

from pathlib import Path

import pytest

from nibt.datasets.counter_animal import CounterAnimal
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, counter_animal, image, names


def test_counter_animal_has_classes_in_their_order_and_groups(tmp_path: Path) -> None:
    counter_animal(tmp_path)
    data = CounterAnimal(tmp_path)
    assert names(data) == ["2.jpg", "1.jpg", "9.jpg", "10.jpg", "7.jpeg"]
    assert captions(data)[0] == "a photo of an ostrich"
    assert [record.key for record in data.entries][:3] == ["common-grass", "counter-water", "common-grass"]
    assert [data.labels[pair.label or 0] for pair in data] == ["ostrich", "ostrich", *3 * ["echidna"]]
    assert len(data.labels) > 990, "the names of CLIP, some of which two classes share"
    assert names(CounterAnimal(tmp_path / "LAION-final", group="counter")) == ["1.jpg", "7.jpeg"]
    with pytest.raises(BadOption, match="group must be one of common, counter"):
        CounterAnimal(tmp_path, group="easy")


def test_counter_animal_rejects_wrong_folders(tmp_path: Path) -> None:
    counter_animal(tmp_path)
    image(tmp_path / "LAION-final/1000 unicorn/common-grass/1.jpg")
    with pytest.raises(BadInput, match=r"a class must be between 0 and 999 \(got 1000\)"):
        CounterAnimal(tmp_path)

    image(tmp_path / "other/9 ostrich/common-grass/1.jpg")
    assert "lacks the folder counter-BACKGROUND in 9 ostrich/" in CounterAnimal.check(tmp_path / "other")
    (tmp_path / "other/9 ostrich/counter-snow").mkdir()
    assert len(CounterAnimal(tmp_path / "other", group="common")) == 1
    assert "lacks pairs" in CounterAnimal.check(tmp_path / "other", group="counter")
