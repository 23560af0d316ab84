"""Tests of ``nibt.datasets.captioned``."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.datasets.captioned import Flickr8k
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, flickr8k, image, names, write


def test_flickr8k_chooses_captions(tmp_path: Path) -> None:
    flickr8k(tmp_path)
    assert captions(Flickr8k(tmp_path)) == ["A cat .", "A dog ."]
    every = Flickr8k(tmp_path, choice="all")
    assert captions(every) == ["A cat .", "Cats .", "A dog .", "A dog , on grass ."]
    assert names(every) == ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
    assert len(Flickr8k(tmp_path, choice="all", count=3)) == 3


def test_flickr8k_scores_captions_with_their_own_image(tmp_path: Path) -> None:
    flickr8k(tmp_path)
    image(tmp_path / "Images/b.jpg", shade=250)
    scored: list[str] = []

    def scorer(image: nibt.data.images.ImageInput, texts: Sequence[str]) -> list[float]:
        """Longer captions are better for a bright image, shorter ones for a dark image."""
        scored.append(Path(image.source).name)
        bright = image.pil_image.getpixel((0, 0))[0] > 100  # pyright: ignore
        return [len(text) * (1 if bright else -1) for text in texts]

    data = Flickr8k(tmp_path, choice="best", scorer=scorer)
    assert not scored
    assert captions(data) == captions(data) == ["Cats .", "A dog , on grass ."]
    assert scored == ["a.jpg", "b.jpg"]
    assert captions(Flickr8k(tmp_path, choice="best", scorer=lambda _, texts: [0.0] * len(texts))) == [
        "A cat .",
        "A dog .",
    ]


def test_flickr8k_takes_the_best_caption_by_a_model(tmp_path: Path) -> None:
    """As in docs/reference/datasets.md."""
    from nibt.engine.encode import encode

    model = nibt.load_model("scenes")
    scene = Scenes(count=1, seed=1, most=1, named="all")[0]
    (tmp_path / "Images").mkdir()
    scene.image.pil_image.save(tmp_path / "Images/a.png")
    others = [noun for noun in ("rocket", "hammer", "banana") if noun != scene.objects[0].name]
    with (tmp_path / "captions.txt").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "caption"), *(("a.png", noun) for noun in (*others, scene.caption))])

    def scorer(image: Any, texts: Any) -> Any:
        return encode(model.image, [image]) @ encode(model.text, texts).T

    assert captions(Flickr8k(tmp_path, choice="best", scorer=scorer)) == [scene.caption]


def test_flickr8k_rejects_a_wrong_choice(tmp_path: Path) -> None:
    flickr8k(tmp_path)
    with pytest.raises(BadOption, match="choice must be one of first, best, all"):
        Flickr8k(tmp_path, choice="worst")
    with pytest.raises(BadOption, match="scorer is a function"):
        Flickr8k(tmp_path, choice="best")
    with pytest.raises(BadOption, match="scorer is a function"):
        Flickr8k(tmp_path, scorer=lambda *_: [1])
    for scores in ([1.0], [1.0, float("nan")]):
        with pytest.raises(BadInput, match="line 4: scorer must return a number for each of 2 captions"):
            Flickr8k(tmp_path, choice="best", scorer=lambda *_, scores=scores: scores)[0]


@pytest.mark.parametrize("place", ["", "Flickr8k_text/"])
def test_flickr8k_reads_its_original_files(tmp_path: Path, place: str) -> None:
    write(
        tmp_path / f"{place}Flickr8k.token.txt",
        "b.jpg#1\tsecond\nb.jpg#0\tfirst\n10_c.jpg#0\tthird\n"
        "9_c.jpg#0\tfourth\n2258277193_586949ec62.jpg.1#0\tpeople\n",
    )
    write(tmp_path / f"{place}Flickr_8k.testImages.txt", "b.jpg\n9_c.jpg\n")
    for name in ("b.jpg", "10_c.jpg", "9_c.jpg"):
        image(tmp_path / "Flicker8k_Dataset" / name)
    assert captions(Flickr8k(tmp_path, choice="all")) == ["fourth", "third", "first", "second"]
    assert captions(Flickr8k(tmp_path, split="test")) == ["fourth", "first"]
    assert Flickr8k.check(tmp_path) == ""
    assert "lacks Flickr_8k.devImages.txt" in Flickr8k.check(tmp_path, split="dev")
    with pytest.raises(BadOption, match="split must be one of train, dev, test"):
        Flickr8k(tmp_path, split="val")
    write(tmp_path / f"{place}Flickr_8k.testImages.txt", "z.jpg\n")
    with pytest.raises(BadInput, match=r"no caption of z\.jpg"):
        Flickr8k(tmp_path, split="test")
    write(tmp_path / f"{place}Flickr8k.token.txt", "b.jpg#0 first\n")
    with pytest.raises(BadInput, match=r"line 1: expected image\.jpg#0, a tab and a caption"):
        Flickr8k(tmp_path)
